"""Figures of sensitivity analyses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causalrl.errors import missing_extra
from causalrl.report.plots import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalrl.sensitivity.base import SensitivityAnalysis
    from causalrl.sensitivity.bias_bounds import BiasBounds


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


def e_value_plot(analysis: SensitivityAnalysis, ax: Axes | None = None) -> Axes:
    """The pairs of risk ratios, of a confounder with the treatment and with the outcome, that explain the estimate away, and
    those that explain its interval away; the E-values lie on the diagonal.

    Args:
        analysis: of `EValue`. ax: where to draw; a new figure by default.
    """
    ax = _axes(ax)
    row = analysis.frame.iloc[0]
    most = max(2.5 * row["e_value"], 3.0)
    limit = np.clip(row["null"], row["low"], row["high"])
    curves = (
        (row["risk_ratio"], row["e_value"], BLUE, "estimate"),
        (limit, row["limit_e_value"], ORANGE, "95% interval"),
    )
    for observed, value, color, name in curves:
        if value == 1:
            continue
        ratio = max(observed / row["null"], row["null"] / observed)
        treatment = np.geomspace(ratio * (most - 1) / (most - ratio), most, 200)
        outcome = ratio * (treatment - 1) / (treatment - ratio)
        ax.plot(treatment, outcome, color=color, linewidth=1.4, label=f"E-value of the {name}: {value:.2f}")
        ax.plot(value, value, "o", color=color, markersize=4)
    if ax.lines:
        ax.legend(frameon=False, fontsize=8)
    ax.set_xlim(1, most)
    ax.set_ylim(1, most)
    ax.set_xlabel("risk ratio of the confounder with the treatment")
    ax.set_ylabel("risk ratio of the confounder with the outcome")
    ax.set_title(f"{analysis.estimate.estimator}\nconfounders below a curve cannot explain it away", fontsize=9, loc="left")
    return ax


def pair_plot(analysis: SensitivityAnalysis, ax: Axes | None = None, *, statistic: str, level: float) -> Axes:
    """The largest p-value over gamma, on a log scale.

    Args:
        analysis: of `RosenbaumBounds`. ax: where to draw; a new figure by default.
        statistic: of the test, as text. level: of the intervals; 1 - level is drawn as a line.
    """
    ax = _axes(ax)
    frame = analysis.frame
    ax.plot(frame["gamma"], frame["p_high"], color=BLUE, linewidth=1.4, marker="o", markersize=3)
    ax.axhline(1 - level, color=ORANGE, linewidth=1)
    ax.annotate(f"p = {1 - level:.2g}", (1.0, 1 - level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    ax.set_yscale("log")
    ax.set_xlabel("odds ratio of treatment within a pair, gamma")
    ax.set_ylabel("largest two-sided p-value of no effect")
    ax.set_title(f"{statistic} on matched pairs", fontsize=9, loc="left")
    return ax


def contour_plot(analysis: SensitivityAnalysis, ax: Axes | None = None, *, bounds: BiasBounds, null: float, level: float) -> Axes:
    """What is left of an estimate over the strength of a confounder, as contours: where it reaches the null (line), where its
    interval does (dashes), and the scenarios as points; of each benchmark the strongest is named.

    Args:
        analysis: of `OmittedVariable`. ax: where to draw; a new figure by default.
        bounds: how a confounder moves the estimate. null, level: see `OmittedVariable`.
    """
    from causalrl.sensitivity.bias_bounds import Strength

    ax = _axes(ax)
    points = analysis.frame[~analysis.frame["scenario"].isin(["none", "extreme confounder"])]
    x, y = (np.linspace(0, min(1.3 * max(points[name].max(), 0.05), 0.98), 41) for name in ("r2_treatment", "r2_outcome"))
    moved = [[bounds.moved(Strength(a, b), level) for a in x] for b in y]
    low = bounds.estimate > null
    left = np.array([[own.low if low else own.high for own in row] for row in moved])
    limit = np.array([[own.interval_low if low else own.interval_high for own in row] for row in moved])
    lines = ax.contour(x, y, left, levels=8, colors=GREY, linewidths=0.6, linestyles="-")
    ax.clabel(lines, [value for value in lines.levels if value != null], fontsize=7, fmt="%.3g")
    ax.contour(x, y, left, levels=[null], colors=ORANGE, linewidths=1.6)
    ax.contour(x, y, limit, levels=[null], colors=ORANGE, linewidths=1.4, linestyles="--")
    ax.plot(points["r2_treatment"], points["r2_outcome"], "o", color=BLUE, markersize=4)
    for _, row in points.groupby(points["scenario"].str.replace(r"^\d+x ", "", regex=True)).tail(1).iterrows():
        place, box = (
            (row["r2_treatment"], row["r2_outcome"]),
            {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )
        ax.annotate(row["scenario"], place, (5, 4), textcoords="offset points", fontsize=8, color=BLUE, bbox=box)
    ax.set_xlabel("confounder's partial R2 with the treatment")
    ax.set_ylabel("confounder's partial R2 with the outcome")
    title = (
        f"{analysis.estimate.estimator}\nwhat is left of the estimate: {null:g} on the line, the interval's limit on the dashes"
    )
    ax.set_title(title, fontsize=9, loc="left")
    return ax


def _axes(ax: Axes | None) -> Axes:
    """The axes to draw on, open above and to the right."""
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError:
        missing_extra("matplotlib", "plot")
    if ax is None:
        _, ax = plt.subplots(figsize=(5.5, 3.9), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
