"""Replications on disk, keyed by the code that makes them and its settings: a change of style redraws without recomputing.

The key hashes the sources of `causalrl` (without `report/`) and `simulators`, of the functions of the paper's module that the
replicating function reaches, and of every module of `benchmarks` or of this folder that it names.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
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
    parts = [package_hash(), sorted(sources(job.run)), dict(job.settings)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=repr).encode()).hexdigest()[:20]


def sources(function: Callable[..., Any]) -> set[str]:
    """Of the function, of the functions, classes and constants of its own module that it reaches, and whole modules of ours."""
    home, found, waiting = inspect.getmodule(function), set[str](), [function]
    while waiting:
        item = waiting.pop()
        text = inspect.getsource(item)
        if text in found:
            continue
        found.add(text)
        if inspect.ismodule(item) or inspect.getmodule(item) is not home:
            continue
        for code, names in _codes(item):
            used = {name: names[name] for name in _named(code) if name in names}
            waiting += [_whole(value, home) for value in used.values() if _ours(value)]
            found |= {f"{name} = {value!r}" for name, value in used.items() if name.isupper() and " at 0x" not in repr(value)}
    return found


def _ours(item: Any) -> bool:
    name = getattr(item, "__name__" if inspect.ismodule(item) else "__module__", None) or ""
    return name.split(".")[0] in _OURS and (inspect.ismodule(item) or inspect.isroutine(item) or inspect.isclass(item))


def _whole(item: Any, home: ModuleType | None) -> Any:
    """A function of the paper's own module, or else the module that something comes from."""
    return item if inspect.ismodule(item) or inspect.getmodule(item) is home else inspect.getmodule(item)


def _codes(item: Any) -> Iterator[tuple[CodeType, dict[str, Any]]]:
    parts = [item] if isinstance(item, FunctionType) else vars(item).values()
    for function in (part for part in parts if isinstance(part, FunctionType)):
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
