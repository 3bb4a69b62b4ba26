"""Figures of the main benchmark."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.suites import RECOMPUTED, SimulatedSuite, StudySuite
from causalrl.report.plots import BLUE, GREY, ORANGE, plot_intervals

COLUMN, TEXT = 7.2, 7.5
"""Width of a figure in inches, and size of its small text in points."""


def plot_problems(rows: pd.DataFrame, suite: SimulatedSuite, path: Path) -> Path:
    """The first data set of every problem: estimates and 95% intervals against the truth, a panel a target.

    An axis covers the possible returns; what lies beyond is an arrow.
    """
    first = rows[rows["replication"] == 0]
    columns = max(len(problem.targets) for problem in suite.problems)
    figure = _figure(0.6 + len(suite.problems) * (0.6 + 0.155 * len(suite.estimators)))
    axes = figure.subplots(len(suite.problems), columns, squeeze=False)
    cut = False
    for line, problem in zip(axes, suite.problems, strict=True):
        for ax, target in zip(line, problem.targets, strict=True):
            part = first[(first["problem"] == problem.name) & (first["policy"] == target.name)]
            cut |= _panel(ax, part, problem.returns)
        _row_title(line[0], f"{problem.name}: data from {problem.text}")
        for ax in line[1:]:
            ax.set_yticklabels([])
    marks = [_mark(BLUE, "o", "estimate, 95% interval"), _mark(ORANGE, "", "truth")]
    _legend(figure, [*marks, *([_mark(BLUE, ">", "beyond any return")] if cut else [])])
    return _save(figure, path)


def plot_study(study: pd.DataFrame, suite: StudySuite, path: Path) -> Path:
    """Estimates with intervals, and beneath each the published value with its own."""
    figure = _figure(0.9 + 0.3 * len(study))
    ax = figure.subplots()
    for y, row in enumerate(study.to_dict("records")):
        _bar(ax, row["low"], row["high"], row["value"], y - 0.14, BLUE, "o")
        _bar(
            ax, row["published_low"], row["published_high"], row["published"], y + 0.18, ORANGE, "D", row["source"] == RECOMPUTED
        )
    ax.set_yticks(range(len(study)), study["method"], fontsize=TEXT + 0.5)
    ax.set_ylim(len(study) - 0.5, -0.5)
    ax.set_xlabel(f"average effect of quitting, {suite.unit}", fontsize=TEXT + 1)
    _style(ax)
    marks = [_mark(BLUE, "o", "causalrl, 95% interval"), _mark(ORANGE, "D", "published, with interval where printed")]
    marks.append(_mark(ORANGE, "D", "recomputed from the book's models"))
    marks[-1].set(markerfacecolor="white", linestyle="")
    _legend(figure, marks)
    return _save(figure, path)


def _panel(ax: Axes, part: pd.DataFrame, returns: tuple[float, float]) -> bool:
    """Draw one target; returns whether anything lies beyond the axis."""
    plot_intervals(part, ax=ax)
    for points in ax.lines:
        points.set_markersize(3)
    margin = 0.08 * (returns[1] - returns[0])
    low, high = returns[0] - margin, returns[1] + margin
    arrows = 0
    for y, row in enumerate(part.to_dict("records")):
        if np.isnan(row["value"]):
            words = ax.text(0.5 * (low + high), y, "no estimate", ha="center", va="center", fontsize=TEXT - 1)
            words.set(color=GREY, style="italic", bbox={"color": "white", "pad": 0.5})
        ends = [(low, "<")] * (min(row["low"], row["value"]) < low) + [(high, ">")] * (max(row["high"], row["value"]) > high)
        for edge, arrow in ends:
            ax.plot(edge, y, arrow, color=BLUE, markersize=4.5, clip_on=False)
        arrows += len(ends)
    ax.set(xlabel="", xlim=(low, high), xticks=np.linspace(*returns, 3))
    _style(ax)
    return arrows > 0


def _bar(ax: Axes, low: float, high: float, value: float, y: float, color: str, marker: str, hollow: bool = False) -> None:
    ax.plot([low, high], [y, y], color=color, linewidth=1.5, solid_capstyle="butt")
    ax.plot(value, y, marker, color=color, markersize=4, markerfacecolor="white" if hollow else color)


def _row_title(ax: Axes, text: str) -> None:
    """A title over the whole row of panels, which the layout must not fit into the first."""
    ax.set_title(" ", fontsize=TEXT + 1.5, pad=14)
    title = ax.annotate(
        text, (0, 1), (0, 14), xycoords="axes fraction", textcoords="offset points", fontsize=TEXT + 1, weight="bold"
    )
    title.set_in_layout(False)


def _mark(color: str, marker: str, label: str) -> Line2D:
    width = 0.0 if marker == ">" else 1.5
    return Line2D([], [], color=color, marker=marker, markersize=4, linewidth=width, label=label)


def _legend(figure: Figure, marks: list[Line2D]) -> None:
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks), fontsize=TEXT + 0.5, frameon=False)


def _style(ax: Axes) -> None:
    ax.tick_params(labelsize=TEXT, length=2)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)


def _figure(height: float) -> Figure:
    """A figure outside pyplot, so that no display is needed and nothing stays open."""
    return Figure(figsize=(COLUMN, height), layout="constrained", dpi=matplotlib.rcParams["figure.dpi"])


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=200)
    return path
