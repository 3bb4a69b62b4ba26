"""Data that ship with an installed package, whose code is not imported."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from causalrl.errors import missing_extra


def package_folder(package: str, extra: str) -> Path:
    """Folder of an installed package, found without importing it.

    Args:
        package: name by which it is imported.
        extra: of `causalrl-ope`, the one that brings it.

    Raises:
        MissingExtraError: where it is not installed.
    """
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        missing_extra(package.replace("_", "-"), extra)
    return Path(found.submodule_search_locations[0])
