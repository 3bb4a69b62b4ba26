"""Figures of sensitivity analyses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causalrl.errors import missing_extra
from causalrl.report.plots import BLUE, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalrl.sensitivity.base import SensitivityAnalysis


def bounds_plot(analysis: SensitivityAnalysis, ax: Axes | None = None) -> Axes:
    """The bounds over gamma as a band with its confidence interval, and no effect as a line where it is in sight.

    Args:
        analysis: with the columns of `causalrl.sensitivity.base.BOUND_COLUMNS`. ax: where to draw; a new figure by default.
    """
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError:
        missing_extra("matplotlib", "plot")
    if ax is None:
        _, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
    frame = analysis.frame
    ax.fill_between(frame["gamma"], frame["interval_low"], frame["interval_high"], color=BLUE, alpha=0.15, linewidth=0)
    ax.fill_between(frame["gamma"], frame["low"], frame["high"], color=BLUE, alpha=0.35, linewidth=0)
    for name in ("low", "high"):
        ax.plot(frame["gamma"], frame[name], color=BLUE, linewidth=1.4, marker="o", markersize=3)
    ax.axhline(float(analysis.estimate.value), color=GREY, linewidth=1, linestyle=":")
    low, high = ax.get_ylim()
    if low <= 0 <= high:
        ax.axhline(0.0, color=GREY, linewidth=0.8)
    ax.set_xlabel("strength of unobserved confounding, gamma")
    ax.set_ylabel(analysis.estimate.estimand)
    ax.set_title(f"{analysis.estimate.estimator}\nbounds (dark) and their interval (light)", fontsize=9, loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
