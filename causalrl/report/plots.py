"""Figures of estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causalrl.errors import missing_extra

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"


def plot_intervals(frame: pd.DataFrame, ax: Axes | None = None, interval: str = "95% interval") -> Axes:
    """Each row's value with its interval, one group a policy; the truth, where there is a column for it, as a line.

    Args:
        frame: columns value, low, high, estimator, and policy or estimand.
        ax: where to draw; a new figure by default.
        interval: what low and high are, for the axis.
    """
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError:
        missing_extra("matplotlib", "plot")
    group = "policy" if "policy" in frame else "estimand"
    if ax is None:
        _, ax = plt.subplots(figsize=(6.5, 1.2 + 0.24 * len(frame) + 0.3 * frame[group].nunique()), layout="constrained")
    labels, ticks, y = [], [], 0.0
    for name, part in frame.groupby(group, sort=False):
        top = y
        for _, row in part.iterrows():
            if np.isfinite(row["low"]):
                ax.plot([row["low"], row["high"]], [y, y], color=BLUE, linewidth=1.6, solid_capstyle="butt")
            ax.plot(row["value"], y, "o", color=BLUE, markersize=4)
            if not np.isfinite(row["value"]):
                ax.annotate(
                    "no estimate", (0.99, y), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=7, color=GREY
                )
            labels.append(str(row["estimator"]))
            ticks.append(y)
            y += 1.0
        if "truth" in part:
            ax.plot([part["truth"].iloc[0]] * 2, [top - 0.5, y - 0.5], color=ORANGE, linewidth=1.2)
        ax.annotate(
            str(name),
            (1.0, top - 0.55),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=8,
            color=GREY,
            annotation_clip=False,
        )
        y += 0.8
    ax.set_yticks(ticks, labels, fontsize=8)
    ax.set_ylim(y - 1.2, -1.1)
    ax.set_xlabel(f"value, with {interval}" + (" (line: truth)" if "truth" in frame else ""), fontsize=9)
    ax.tick_params(axis="x", labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    return ax
