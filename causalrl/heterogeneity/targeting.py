"""Does a priority target those who benefit? The targeting operator characteristic, and its weighted areas.

With r = P(S >= s) the share of units with at least priority s, and tau(u) the effect of those whose share is u,
    TOC(u) = 1/u int_0^u tau - ATE,    RATE = int_0^1 alpha(u) TOC(u) du = int_0^1 w(u) tau(u) du,
where alpha = 1 gives AUTOC, w(u) = -log u - 1, and alpha(u) = u gives the Qini coefficient, w(u) = 1/2 - u. Units of equal
priority share the mean of their scores.

Source: Yadlowsky, Fleming, Shah, Brunskill & Wager (2025), Evaluating treatment prioritization rules via rank-weighted average
treatment effects, J. American Statistical Association 120:38 (arXiv 2111.07966), sections 2 and 3. They resample half-samples;
here the errors come from influence values, those of the ranks included: the derivative of the statistic in the weight of each
unit. So an area has every interval of a mean, and the difference between two priorities keeps their joint spread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Floats, Ints, numeric
from causalrl.errors import DataError, missing_extra
from causalrl.estimate import Estimate
from causalrl.heterogeneity.scores import DoublyRobustScores
from causalrl.heterogeneity.summaries import effect_and_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Weighting = Callable[[Floats], Floats]
GRID = np.arange(1, 21) / 20


@dataclass(frozen=True, eq=False, repr=False)
class TargetingCurve:
    """The targeting operator characteristic of one priority; make it with `targeting_curve`.

    Attributes:
        scores: the doubly robust scores.
        effect: (n,) effect scores.
        priority: (n,) who comes first: high numbers.
        contrast: the two arms, as text.
    """

    scores: DoublyRobustScores
    effect: Floats
    priority: Floats
    contrast: str

    @cached_property
    def autoc(self) -> Estimate:
        """Area under the TOC: finds a small group with a large benefit best. 0 where the priority tells nothing."""
        return self._area(_autoc_weight, _autoc_integral, "AUTOC")

    @cached_property
    def qini(self) -> Estimate:
        """Area under u TOC(u): finds effects that many units share best. 0 where the priority tells nothing."""
        return self._area(lambda u: 0.5 - u, lambda u: u * (1 - u) / 2, "Qini coefficient")

    def at(self, fractions: Sequence[float] | Floats) -> Estimate:
        """TOC at some treated fractions: how much larger the effect of the first u is than that of all.

        Its error includes that of the cut point, through the effect there, averaged over the 2 n^(2/3) nearest ranks.

        Args:
            fractions: (k,) in (0, 1], increasing.

        Returns:
            A vector labelled by fraction, "20%".

        Raises:
            DataError: for fractions outside (0, 1], or that do not increase.
        """
        shares = numeric("fractions", fractions)
        if shares.ndim != 1 or not len(shares) or not (np.diff(shares) > 0).all() or shares[0] <= 0 or shares[-1] > 1:
            raise DataError(f"fractions: {fractions!r}; pass increasing numbers in (0, 1].")
        pairs = [self._point(share) for share in shares]
        value, influence = np.array([value for value, _ in pairs]), np.column_stack([psi for _, psi in pairs])
        labels = tuple(f"{100 * share:.10g}%" for share in shares)
        return self.scores.linearised(value, influence, f"TOC of {self.contrast}", labels)

    def plot(self, ax: Axes | None = None) -> Axes:
        """TOC with its pointwise 95% interval, over the treated fraction."""
        try:
            import matplotlib.pyplot as plt
        except ModuleNotFoundError:
            missing_extra("matplotlib", "plot")
        from causalrl.report.plots import BLUE, GREY

        curve = self.at(GRID)
        low, high = curve.interval()
        if ax is None:
            _, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
        ax.fill_between(GRID, low, high, color=BLUE, alpha=0.15, linewidth=0)
        ax.plot(GRID, curve.value, color=BLUE)
        ax.axhline(0, color=GREY, linewidth=0.8)
        ax.set_xlabel("fraction treated, highest priority first (band: pointwise 95% interval)", fontsize=9)
        ax.set_ylabel(f"TOC of {self.contrast}", fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
        return ax

    def __repr__(self) -> str:
        parts = (("AUTOC", self.autoc), ("Qini coefficient", self.qini))
        return "\n".join(
            [
                f"TargetingCurve of {self.contrast}, n = {self.scores.n}",
                *(f"  {k} {e.value:.4f} {e.interval()}" for k, e in parts),
            ]
        )

    @cached_property
    def _levels(self) -> _Levels:
        return _Levels.of(self.priority, self.effect)

    def _area(self, weight: Weighting, integral: Weighting, name: str) -> Estimate:
        """int w tau from w and its antiderivative; the influence is the derivative in each unit's weight.

        A level (a, b] of ranks with mass p = b - a and score total m adds m (W(b) - W(a)) / p. A unit's own weight moves b of its
        own level and of all below it, a of all below it, and p and m of its own.
        """
        levels = self._levels
        a, b, p, m = levels.above, levels.upto, levels.mass, levels.total
        average = (integral(b) - integral(a)) / p
        below = m * (weight(b) - weight(np.where(a > 0, a, b))) / p
        own = m * (weight(b) - average) / p
        later = np.append(np.cumsum(below[::-1])[::-1], 0.0)[1:]
        derivative = self.effect * average[levels.code] + (own + later)[levels.code]
        value = float(m @ average)
        return self.scores.mean(value + derivative - derivative.mean(), f"{name} of {self.contrast}")

    def _point(self, share: float) -> tuple[float, Floats]:
        levels = self._levels
        edge = min(int(np.searchsorted(levels.upto, share - 1e-12)), len(levels.mass) - 1)
        inside = np.where(levels.code < edge, 1.0, 0.0)
        inside[levels.code == edge] = (share - levels.above[edge]) / levels.mass[edge]
        value = float(np.mean(inside * self.effect)) / share - float(self.effect.mean())
        influence = inside * (self.effect - levels.near(edge, self.effect)) / share - self.effect
        return value, influence - influence.mean()


@dataclass(frozen=True, eq=False)
class _Levels:
    """Distinct priorities from the highest down: their masses, the ranks they span, the scores on them."""

    code: Ints
    mass: Floats
    above: Floats
    upto: Floats
    total: Floats

    @classmethod
    def of(cls, priority: Floats, effect: Floats) -> _Levels:
        _, code, counts = np.unique(-priority, return_inverse=True, return_counts=True)
        n, upto = len(priority), np.cumsum(counts)
        total = np.bincount(code, weights=effect) / n
        return cls(code, counts / n, (upto - counts) / n, upto / n, total)

    def near(self, level: int, effect: Floats) -> float:
        """Mean score on a level and the n^(2/3) ranks to either side of it."""
        reach = len(effect) ** (-1 / 3)
        low, high = self.above[level] - reach, self.upto[level] + reach
        chosen = (self.above >= low) & (self.upto <= high)
        chosen[level] = True
        return float(self.total[chosen].sum() / self.mass[chosen].sum())


def targeting_curve(scores: DoublyRobustScores, priority: ArrayLike, *, treated: int = 1, control: int = 0) -> TargetingCurve:
    """How well a priority finds those with the largest effects: its TOC, `autoc` and `qini`.

    Args:
        scores: see `doubly_robust_scores`.
        priority: (n,) who is treated first, high numbers: a predicted effect, a risk, minus an age. Not learned from the
            outcomes of these units: learn it on other data, or cross-fit it.
        treated, control: the two arms.

    Raises:
        DataError: for a priority of another length, one that is not finite, or the same for every unit.

    Example:
        >>> import causalrl as crl
        >>> from simulators import Point
        >>> from sklearn.linear_model import LinearRegression
        >>> study = Point().sample(2000, seed=0)  # the effect is 1 + x2
        >>> scores = crl.doubly_robust_scores(study, crl.PerAction(LinearRegression()))
        >>> by_x2 = targeting_curve(scores, study.observations[:, 1])
        >>> by_x3 = targeting_curve(scores, study.observations[:, 2])
        >>> by_x2.autoc.lower_bound().low > 0, (by_x2.autoc - by_x3.autoc).lower_bound().low > 0
        (True, True)
    """
    effect, order, contrast = effect_and_order(scores, "priority", priority, treated, control)
    if (order == order[0]).all():
        raise DataError(f"priority: is {order[0]:.4g} for every unit, which orders nobody; pass a priority that differs.")
    return TargetingCurve(scores, effect, order, f"the effect of {contrast}")


def _autoc_weight(u: Floats) -> Floats:
    return np.asarray(-np.log(u) - 1)


def _autoc_integral(u: Floats) -> Floats:
    """-u log u, the integral of the weight from 0."""
    return np.asarray(-u * np.log(np.where(u > 0, u, 1.0)))
