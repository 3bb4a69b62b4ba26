"""Figures of diagnostics: love plot, propensity overlap, weights, calibration, influence, and all of a checkup in one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.diagnostics.findings import IMBALANCE
from causalrl.errors import DataError, missing_extra
from causalrl.report.plots import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from causalrl.checkup import Checkup
    from causalrl.diagnostics.calibration import CalibrationCurve
    from causalrl.diagnostics.influence import Influential

COLOURS = (ORANGE, BLUE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", GREY)
_MOST = 25
_BINS = 30
_ROW = 0.24


def _new_axes(width: float, height: float) -> Axes:
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError:
        missing_extra("matplotlib", "plot")
    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def _finish(ax: Axes, title: str, x: str, y: str | None, grid: Literal["both", "x", "y"] = "both") -> Axes:
    ax.set_title(title, fontsize=10, loc="left")
    ax.set_xlabel(x, fontsize=9)
    if y is not None:
        ax.set_ylabel(y, fontsize=9)
    ax.tick_params(labelsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    return ax


def _legend(ax: Axes, place: Literal["best", "upper left", "lower right"] = "best") -> None:
    ax.legend(fontsize=8, frameon=False, loc=place)


def love_plot(names: tuple[str, ...], before: Floats, after: Floats | None = None, ax: Axes | None = None) -> Axes:
    """Absolute standardised mean differences before and after weighting, the largest on top, with a line at 0.1 (Love 2004).

    Of more than 25 columns the 25 largest are shown. An infinite difference stands at the right edge.

    Args:
        names: d columns. before, after: (d,) or (P, d), of which the largest absolute value counts. ax: None is a new figure.

    Example:
        >>> import causalrl as crl
        >>> balance = crl.check(crl.datasets.nhefs()).balance
        >>> axes = crl.love_plot(balance.names, balance.before, balance.after)
        >>> axes.get_yticklabels()[0].get_text()
        'age'
    """
    first, second = (None if rows is None else np.abs(np.atleast_2d(rows)).max(axis=0) for rows in (before, after))
    assert first is not None
    if len(first) != len(names) or (second is not None and len(second) != len(names)):
        raise DataError(f"names: {len(names)} names for {len(first)} differences; pass one name a column.")
    largest = np.argsort(-(first if second is None else np.maximum(first, second)), kind="stable")
    order, rest = largest[:_MOST], len(largest[_MOST:])
    order = order[np.argsort(-first[order], kind="stable")]
    if ax is None:
        ax = _new_axes(6.0, 1.4 + _ROW * len(order))
    finite = [values[order][np.isfinite(values[order])] for values in (first, second) if values is not None]
    edge = 1.1 * max(0.15, *(float(values.max(initial=0.0)) for values in finite))
    y = np.arange(len(order))
    ax.axvline(IMBALANCE, color=GREY, linewidth=1.0, linestyle="--")
    ax.plot(
        np.minimum(first[order], edge), y, "o", color=ORANGE, markersize=5, markerfacecolor="white", label="before", clip_on=False
    )
    if second is not None:
        ax.plot(np.minimum(second[order], edge), y, "o", color=BLUE, markersize=5, label="after", clip_on=False)
        _legend(ax, "lower right")
    for j in np.flatnonzero(np.isinf(first[order])):
        ax.annotate(
            "infinite ", (edge, j), ha="right", va="center", fontsize=8, color=GREY, xytext=(-6, 0), textcoords="offset points"
        )
    ax.set_yticks(y, [names[j] for j in order])
    ax.set_ylim(len(order) - 0.4, -0.6)
    ax.set_xlim(0, edge)
    title = "Balance" + (f" ({rest} more columns differ less)" if rest else "")
    return _finish(ax, title, "|standardised mean difference|", None)


def overlap_plot(propensities: Floats, actions: Ints, arm: int = 1, ax: Axes | None = None) -> Axes:
    """Histograms of P(arm | X) among those who took each arm, each of unit area.

    Args:
        propensities: (n, A), or (n,) of the arm. actions: (n,) arms taken. arm: whose propensity. ax: None is a new figure.

    Example:
        >>> import causalrl as crl
        >>> axes = crl.overlap_plot(np.linspace(0.1, 0.9, 9), np.array([0, 0, 0, 1, 0, 1, 1, 1, 1]))
        >>> [text.get_text() for text in axes.get_legend().get_texts()]
        ['arm 0 (n = 4)', 'arm 1 (n = 5)']
    """
    values = propensities if propensities.ndim == 1 else propensities[:, arm]
    if ax is None:
        ax = _new_axes(6.0, 3.2)
    for k, taken in enumerate(np.unique(actions)):
        own, colour = values[actions == taken], COLOURS[k % len(COLOURS)]
        ax.hist(own, _BINS, range=(0.0, 1.0), density=True, color=colour, alpha=0.35, label=f"arm {taken} (n = {len(own):,})")
        ax.hist(own, _BINS, range=(0.0, 1.0), density=True, color=colour, histtype="step", linewidth=1.2)
    ax.set_xlim(0, 1)
    _legend(ax)
    return _finish(ax, "Propensity overlap", f"P(arm {arm} | X)", "density", "y")


def weight_plot(weights: Floats, actions: Ints, ax: Axes | None = None) -> Axes:
    """For each arm, the share of its total weight carried by its largest weights; equal weights follow the diagonal.

    Args:
        weights: (n,). actions: (n,) arms taken. ax: None is a new figure.

    Example:
        >>> import causalrl as crl
        >>> axes = crl.weight_plot(np.array([1.0, 1.0, 2.0, 4.0]), np.array([0, 0, 1, 1]))
        >>> axes.get_lines()[2].get_ydata().round(2)
        array([0.  , 0.67, 1.  ])
    """
    if ax is None:
        ax = _new_axes(4.6, 3.6)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, linestyle="--")
    for k, arm in enumerate(np.unique(actions)):
        own = np.sort(weights[actions == arm])[::-1]
        shares = np.append(0.0, np.cumsum(own) / own.sum())
        text = f"arm {arm} (largest {own[0]:.3g})"
        ax.plot(np.linspace(0, 1, len(shares)), shares, color=COLOURS[k % len(COLOURS)], linewidth=1.6, label=text)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.01)
    _legend(ax, "lower right")
    return _finish(ax, "Weights", "share of the decisions, the heaviest first", "share of the arm's weight")


def calibration_plot(curve: CalibrationCurve, ax: Axes | None = None) -> Axes:
    """Frequency beside mean prediction in bins, with 95% limits (Wilson), and the recalibration line.

    Args:
        curve: of one arm. ax: None is a new figure.

    Example:
        >>> import causalrl as crl
        >>> axes = crl.calibration_plot(crl.check(crl.datasets.nhefs()).calibration[0])
        >>> axes.get_xlabel()
        'predicted P(arm 1 | X)'
    """
    if ax is None:
        ax = _new_axes(4.6, 3.6)
    z = 1.96
    centre = (curve.observed + z**2 / (2 * curve.count)) / (1 + z**2 / curve.count)
    spread = curve.observed * (1 - curve.observed) / curve.count + z**2 / (4 * curve.count**2)
    half = z * np.sqrt(spread) / (1 + z**2 / curve.count)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, linestyle="--")
    ax.vlines(curve.predicted, centre - half, centre + half, color=BLUE, linewidth=1.4)
    ax.plot(curve.predicted, curve.observed, "o", color=BLUE, markersize=5)
    if curve.slope is not None and curve.intercept is not None:
        x = np.linspace(max(curve.predicted.min(), 1e-6), min(curve.predicted.max(), 1 - 1e-6), 100)
        line = 1 / (1 + np.exp(-(curve.intercept + curve.slope * np.log(x / (1 - x)))))
        ax.plot(x, line, color=ORANGE, linewidth=1.4, label=f"slope {curve.slope:.2f}, intercept {curve.intercept:.2f}")
        _legend(ax, "upper left")
    top = min(1.0, 1.15 * float(max(curve.predicted.max(), (centre + half).max())))
    ax.set_xlim(0, top)
    ax.set_ylim(0, top)
    title = "Calibration" if curve.cross_fitted else "Calibration (in the sample)"
    return _finish(ax, title, f"predicted P(arm {curve.arm} | X)", "frequency")


def influence_plot(influential: Influential, ax: Axes | None = None) -> Axes:
    """How an estimate changes without each of its most influential trajectories, with their ids.

    Args:
        influential: from `most_influential`. ax: None is a new figure.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0] * 3, [0, 1, 0], [1.0, 3.0, 5.0], range(4), ids=list("abc"))
        >>> carried = crl.most_influential(crl.OnPolicyMean().estimate(data, crl.Uniform(2)), data)
        >>> [text.get_text() for text in crl.influence_plot(carried).get_yticklabels()]
        ['a', 'c', 'b']
    """
    y = np.arange(len(influential.ids))
    if ax is None:
        ax = _new_axes(6.0, 1.4 + _ROW * len(y))
    ax.barh(y, influential.change, height=0.7, color=[BLUE if change < 0 else ORANGE for change in influential.change])
    ax.axvline(0, color=GREY, linewidth=1.0)
    ax.set_yticks(y, [str(label) for label in influential.ids])
    ax.set_ylim(len(y) - 0.4, -0.6)
    title = f"Most influential of {influential.n:,} ({influential.share.sum():.0%} of the variance)"
    return _finish(ax, title, f"change of the estimate, {influential.value:.4g}, without it", "trajectory", "x")


def checkup_figure(checkup: Checkup) -> Figure:
    """The panels that a checkup has figures for, in rows of two."""
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError:
        missing_extra("matplotlib", "plot")
    panels = list(_panels(checkup))
    columns = min(2, len(panels))
    rows = (len(panels) + 1) // 2
    shown = 0 if checkup.balance is None else min(_MOST, len(checkup.balance.names))
    heights = [max(3.2, 1.4 + 0.2 * shown), *[3.2] * (rows - 1)]
    figure, axes = plt.subplots(
        rows, columns, figsize=(5.5 * columns, sum(heights)), height_ratios=heights, layout="constrained", squeeze=False
    )
    for ax, panel in zip(axes.flat, panels, strict=False):
        panel(ax=ax)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    return figure


def _panels(checkup: Checkup) -> list[Callable[..., Axes]]:
    panels: list[Callable[..., Axes]] = []
    balance, propensities, weights = checkup.balance, checkup.propensities, checkup.weights
    if balance is not None and balance.names:
        panels.append(partial(love_plot, balance.names, balance.before, balance.after))
    if propensities is not None:
        arms = checkup.log.arms[1:] if len(checkup.log.arms) == 2 else checkup.log.arms[:6]
        panels += [partial(overlap_plot, propensities, checkup.actions, int(arm)) for arm in arms]
    if weights is not None:
        panels.append(partial(weight_plot, weights, checkup.actions))
    panels += [partial(calibration_plot, curve) for curve in checkup.calibration[:6]]
    return panels or [partial(_action_plot, checkup)]


def _action_plot(checkup: Checkup, ax: Axes) -> Axes:
    """Decisions of each arm, where nothing else is known."""
    log = checkup.log
    ax.bar([str(arm) for arm in log.arms], log.counts, color=BLUE)
    return _finish(ax, "Decisions", "arm", "count", "y")
