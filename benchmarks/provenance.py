"""Where a result comes from: seed, versions, commit, machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("causalrl-ope", "numpy", "scipy", "numba", "pandas", "scikit-learn", "statsmodels", "icu-sepsis", "causaldata")
ROOT = Path(__file__).parent.parent


def provenance(seed: int, **settings: Any) -> dict[str, Any]:
    """Seed, settings, commit (None outside git), uncommitted changes, versions (None where absent), cores."""
    return {
        "seed": seed,
        **settings,
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "cores": os.cpu_count(),
    }


def write_provenance(path: Path, record: dict[str, Any]) -> Path:
    """Write it as JSON; returns its path."""
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return path


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
