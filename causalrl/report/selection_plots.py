"""Figures of choosing: estimators by their intervals or errors, policies by their ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from causalrl.errors import missing_extra
from causalrl.report.plots import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from causalrl.selection.estimators import Selection
    from causalrl.selection.policies import Ranking


def slope_plot(selection: Selection, ax: Axes | None = None) -> Axes:
    """Intervals of the candidates in the order of trust: kept ones filled, the chosen one in colour, the others grey.

    Args:
        selection: of `Slope`. ax: where to draw; a new figure by default.
    """
    frame = selection.frame
    ax = _axes(ax, frame, 6.0)
    for y, (_, row) in enumerate(frame.iterrows()):
        if not np.isfinite(row["low"]):
            _note(ax, y, "no interval")
            continue
        kept = bool(row["kept"])
        color = ORANGE if row["chosen"] else BLUE if kept else GREY
        ax.plot([row["low"], row["high"]], [y, y], color=color, linewidth=1.6, linestyle="-" if kept else ":")
        ax.plot(row["value"], y, "o", color=color, markersize=5, markerfacecolor=color if kept else "white")
    kept_rows = frame[frame["kept"].eq(True)]
    ax.axvspan(kept_rows["low"].max(), kept_rows["high"].min(), color=BLUE, alpha=0.10, linewidth=0)
    _finish(ax, [str(name) for name in frame["estimator"]], "value, with doubled interval (band: common to those kept)")
    ax.set_title(_title(selection), fontsize=9, loc="left")
    return ax


def error_plot(selection: Selection, ax: Axes | None = None) -> Axes:
    """Root mean squared error of each candidate (bar) and the part of it that is bias (mark).

    Args:
        selection: of `BootstrapMSE` or `SimulatorCheck`. ax: where to draw; a new figure by default.
    """
    frame = selection.frame
    ax = _axes(ax, frame, 6.0)
    for y, (_, row) in enumerate(frame.iterrows()):
        if not np.isfinite(row["rmse"]):
            _note(ax, y, "not judged")
            continue
        ax.barh(y, row["rmse"], height=0.55, color=ORANGE if row["chosen"] else BLUE, alpha=0.75)
        ax.plot(abs(row["bias"]), y, "|", color="black", markersize=11, markeredgewidth=1.8)
    ax.set_xlim(left=0.0)
    _finish(ax, [str(name) for name in frame["estimator"]], "root mean squared error (mark: bias)")
    ax.set_title(_title(selection), fontsize=9, loc="left")
    return ax


def ranking_plot(ranking: Ranking, ax: Axes | None = None) -> Axes:
    """Values of policies, the best first, with simultaneous intervals and sets of ranks; the behaviour policy as a line.

    Args:
        ranking: of `rank_policies`. ax: where to draw; a new figure by default.
    """
    frame = ranking.frame
    ax = _axes(ax, frame, 6.5)
    for y, (_, row) in enumerate(frame.iterrows()):
        color = ORANGE if row["rank_low"] == 1 else BLUE
        ax.plot([row["low"], row["high"]], [y, y], color=color, linewidth=1.6, solid_capstyle="butt")
        ax.plot(row["value"], y, "o", color=color, markersize=4)
        ranks = f"{row['rank_low']}" if row["rank_low"] == row["rank_high"] else f"{row['rank_low']}\u2013{row['rank_high']}"
        style: dict[str, Any] = {"va": "center", "fontsize": 8, "color": color, "annotation_clip": False}
        ax.annotate(f"rank {ranks}", (1.02, y), xycoords=("axes fraction", "data"), **style)
    ax.axvline(float(ranking.behavior.value), color=GREY, linewidth=1, linestyle="--")
    interval = f"value, with simultaneous {ranking.bands.level:.0%} interval (dashed: behaviour policy; orange: may be best)"
    _finish(ax, [str(name) for name in frame["policy"]], interval)
    return ax


def _title(selection: Selection) -> str:
    return f"{selection.rule.split('(')[0]} chooses {selection.chosen}"


def _axes(ax: Axes | None, frame: pd.DataFrame, width: float) -> Axes:
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError:
        missing_extra("matplotlib", "plot")
    if ax is None:
        _, ax = plt.subplots(figsize=(width, 1.2 + 0.3 * len(frame)), layout="constrained")
    return ax


def _note(ax: Axes, y: float, text: str) -> None:
    ax.annotate(text, (0.99, y), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=7, color=GREY)


def _finish(ax: Axes, labels: list[str], xlabel: str) -> None:
    ax.set_yticks(range(len(labels)), labels, fontsize=8)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_xlabel(xlabel, fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
