"""`Paper`: what a module of this folder declares: replications to run, figures to draw, numbers and claims to check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
_NOT_PAPERS = {"__init__", "__main__", "paper", "cache", "checks", "page", "style", "runner"}

Row: TypeAlias = Mapping[str, float]
Results: TypeAlias = Mapping[str, pd.DataFrame]
"""By name of the job: one row a replication."""


@dataclass(frozen=True)
class Job:
    """Replications of one setting.

    Attributes:
        run: `run(replication, **settings)` gives one row of numbers; a function of a module, so that it can be sent to a process.
            All its randomness comes from `replication` and the settings.
        replications: how many.
        settings: keyword arguments, plain numbers and texts.
    """

    run: Callable[..., Row]
    replications: int
    settings: Mapping[str, Any] = field(default_factory=dict)


class Cell(NamedTuple):
    """One number of a paper as we find it; `key` is its place in published.json, `mcse` its Monte-Carlo standard error."""

    key: str
    value: float
    mcse: float = 0.0


class Claim(NamedTuple):
    """What a figure shows: true where `margin` is positive. `mcse` is the Monte-Carlo standard error of the margin."""

    text: str
    margin: float
    mcse: float = 0.0


@dataclass(frozen=True)
class Paper:
    """A paper and what of it is reproduced.

    Attributes:
        title, source: for the page. tier: 1 or 2.
        jobs: `jobs(fast)` by name. cells, claims, draw: of the results.
    """

    title: str
    source: str
    tier: int
    jobs: Callable[[bool], Mapping[str, Job]]
    cells: Callable[[Results], Iterable[Cell]]
    claims: Callable[[Results], Iterable[Claim]]
    draw: Callable[[Results], Mapping[str, Figure]]
    """Figures by suffix of the file name; "" is the main one."""


def names() -> list[str]:
    """Of all papers, the first tier first."""
    found = [path.stem for path in FOLDER.glob("*.py") if path.stem not in _NOT_PAPERS]
    return sorted(found, key=lambda name: (load(name).tier, name))


def load(name: str) -> Paper:
    """The paper of a module."""
    paper: Paper = import_module(f"paper_figures.{name}").PAPER
    return paper


def mean_cell(key: str, draws: pd.Series) -> Cell:
    """The mean of replications."""
    return Cell(key, float(draws.mean()), float(draws.std(ddof=1) / np.sqrt(len(draws))))


def rmse_cell(key: str, errors: pd.Series) -> Cell:
    """The root mean square of errors, its Monte-Carlo error by the delta method."""
    squares = errors**2
    rmse = float(np.sqrt(squares.mean()))
    return Cell(key, rmse, float(squares.std(ddof=1) / np.sqrt(len(squares)) / (2 * max(rmse, 1e-300))))


def median_cell(key: str, draws: pd.Series, resamples: int = 400) -> Cell:
    """The median of replications, its Monte-Carlo error by the bootstrap."""
    values = draws.to_numpy()
    picks = np.random.default_rng(0).integers(0, len(values), (resamples, len(values)))
    return Cell(key, float(np.median(values)), float(np.median(values[picks], axis=1).std(ddof=1)))


def below(text: str, less: Cell, more: Cell) -> Claim:
    """That one number is below another, from independent replications (conservative for shared ones)."""
    return Claim(text, more.value - less.value, float(np.hypot(less.mcse, more.mcse)))


def ordered(cells: Iterable[Cell]) -> Iterator[Claim]:
    """That numbers increase in the order given."""
    rising = list(cells)
    for less, more in pairwise(rising):
        yield below(f"{less.key} < {more.key}", less, more)
