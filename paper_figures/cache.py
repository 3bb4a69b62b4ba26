"""Replications on disk, keyed by the code that makes them and its settings: a change of style redraws without recomputing.

The key hashes the sources of `causalrl` (without `report/`) and `simulators`, and of every function of `paper_figures` and
`benchmarks` that the replicating function can reach.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pandas as pd

from paper_figures.paper import Job

ROOT = Path(__file__).parents[1]
_OURS = ("paper_figures", "benchmarks")


@cache
def package_hash() -> str:
    """Of the sources of the package and the simulators."""
    digest = hashlib.sha256()
    for folder in ("causalrl", "simulators"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if "report" not in relative.parts:
                digest.update(str(relative).encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def job_key(job: Job) -> str:
    """Of what one row depends on; the number of replications is no part, so that more can be added."""
    sources = sorted(inspect.getsource(item) for item in reached(job.run))
    text = json.dumps([package_hash(), sources, _plain(job.run), dict(job.settings)], sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def reached(function: Callable[..., Any]) -> set[Any]:
    """The function and all functions and classes of ours that its code names, directly or through each other."""
    found: set[Any] = set()
    waiting: list[Any] = [function]
    while waiting:
        item = waiting.pop()
        if item in found or getattr(item, "__module__", "").split(".")[0] not in _OURS:
            continue
        found.add(item)
        for code, names in _codes(item):
            waiting += [
                names[name] for name in _named(code) if inspect.isroutine(names.get(name)) or inspect.isclass(names.get(name))
            ]
    return found


def _plain(function: Callable[..., Any]) -> list[str]:
    """The constants of its module, which a replication may read."""
    names = inspect.getmodule(function).__dict__
    return sorted(
        f"{name} = {value!r}" for name, value in names.items() if name.isupper() and isinstance(value, int | float | str | tuple)
    )


def _codes(item: Any) -> Iterator[tuple[CodeType, dict[str, Any]]]:
    functions = (
        [item] if isinstance(item, FunctionType) else [part for part in vars(item).values() if isinstance(part, FunctionType)]
    )
    for function in functions:
        yield function.__code__, function.__globals__


def _named(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _named(constant)


def stored(folder: Path, name: str, job: Job) -> tuple[Path, pd.DataFrame | None]:
    """Where the rows of a job are, and those that there are."""
    path = folder / f"{name}-{job_key(job)}.parquet"
    return path, pd.read_parquet(path) if path.exists() else None


def store(path: Path, rows: pd.DataFrame) -> None:
    """Write whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    rows.to_parquet(part)
    part.replace(path)
