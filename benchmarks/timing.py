"""Timing two ways of doing the same in turns, until their best times settle."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

QUIET, MOST, TOLERANCE, LEAST_SECONDS = 10, 200, 0.02, 3.0


@dataclass(frozen=True, eq=False)
class Task:
    """Something to time.

    Attributes:
        amount: of work in a run, counted in units; the rate is amount / seconds.
        reference: the same in NumPy, if there is one.
        target: least ratio, rate or most seconds asked for; None where nothing was asked.
        quiet: turns without a better one after which it stops.
    """

    name: str
    package: Callable[[], Any]
    reference: Callable[[], Any] | None
    amount: float
    unit: str
    target: Target | None
    quiet: int = QUIET


@dataclass(frozen=True)
class Target:
    """What was asked: `text`, and whether seconds, rate and ratio meet it."""

    text: str
    met: Callable[[float, float, float], bool]


@dataclass(frozen=True)
class Turn:
    """Seconds of one run, on the wall and of processor time."""

    wall: float
    processor: float


@dataclass(frozen=True)
class Timing:
    """All turns of package and reference (none without one)."""

    package: list[Turn]
    reference: list[Turn]

    @property
    def best(self) -> Turn:
        """The package's fastest turn."""
        return min(self.package, key=lambda turn: turn.wall)

    def ratio(self, statistic: Callable[[list[float]], float]) -> float:
        """Statistic of the reference's seconds over that of the package's; NaN without a reference."""
        if not self.reference:
            return np.nan
        return float(statistic([turn.wall for turn in self.reference]) / statistic([turn.wall for turn in self.package]))


def at_least(ratio: float) -> Target:
    """So many times the reference."""
    return Target(f"≥ {ratio:g} ×", lambda seconds, rate, measured: measured >= ratio)


def within(limit: float) -> Target:
    """At most so many seconds."""
    return Target(f"< {limit:g} s", lambda seconds, rate, ratio: seconds < limit)


def agree(package: Any, reference: Any, tolerance: float) -> None:
    """A fast wrong answer is none."""
    np.testing.assert_allclose(package, reference, rtol=tolerance, atol=tolerance)


def measure(task: Task) -> Timing:
    """Take turns until the best times settle."""
    timing, quiet, start = Timing([], []), 0, time.perf_counter()
    pairs = [(timing.package, task.package)] + ([(timing.reference, task.reference)] if task.reference else [])
    while len(timing.package) < MOST and (quiet < task.quiet or time.perf_counter() - start < LEAST_SECONDS):
        improved = False
        for turns, work in pairs:
            before = min((turn.wall for turn in turns), default=np.inf)
            turns.append(_turn(work))
            improved |= turns[-1].wall < (1 - TOLERANCE) * before
        quiet = 0 if improved else quiet + 1
    return timing


def _turn(work: Callable[[], Any]) -> Turn:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Turn(time.perf_counter() - wall, time.process_time() - processor)


def peak_extra_memory(work: Callable[[], Any]) -> float | None:
    """MB by which the resident memory rises at most while it runs, sampled every millisecond; None without /proc."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return None
    page = os.sysconf("SC_PAGE_SIZE") / 1e6
    done, seen = threading.Event(), [int(status.read_text().split()[1])]

    def watch() -> None:
        while not done.wait(0.001):
            seen.append(int(status.read_text().split()[1]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return (max(seen) - seen[0]) * page


def speed_table(measured: list[tuple[Task, Timing]]) -> Table:
    """One row a task."""
    table = Table(header_style="bold")
    table.add_column("task", no_wrap=True)
    for name in ("seconds", "rate", "NumPy", "ratio", "of medians", "cores", "turns", "target", "met"):
        table.add_column(name, justify="right", no_wrap=True)
    for task, timing in measured:
        best, ratio = timing.best, timing.ratio(min)
        rate = task.amount / best.wall
        beside = ["", "", ""]
        if timing.reference:
            beside = [f"{ratio * best.wall:.4f}", f"{ratio:.1f}", f"{timing.ratio(np.median):.1f}"]
        verdict = ["", ""]
        if task.target is not None:
            verdict = [task.target.text, "yes" if task.target.met(best.wall, rate, ratio) else "no"]
        spent = [f"{best.processor / best.wall:.1f}", str(len(timing.package))]
        table.add_row(task.name, f"{best.wall:.4f}", f"{_short(rate)} {task.unit}/s", *beside, *spent, *verdict)
    return table


def _short(number: float) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number:,.0f}"
