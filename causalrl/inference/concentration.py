"""Bounds for a mean of independent, bounded moments, whose range the user states; valid at every sample size.

A range taken from the data is always too narrow, and is 0 for constant returns: none is ever computed here. With a range
[low, high] of the returns and a largest weight W, a weighted return lies in [min(0, W low), max(0, W high)]. With truncated
weights it is the mean of the truncated moments that is bounded, and not their bias.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from causalrl.checks import Floats, number
from causalrl.errors import IntervalError
from causalrl.inference.base import Evidence
from causalrl.inference.functionals import Sum
from causalrl.inference.wald import Wald


@dataclass(frozen=True)
class MeanBound(ABC):
    """Base of the intervals that hold for a plain mean of independent moments only, and not where nuisances were learned."""

    needs_fixed_nuisances = True

    def stderr(self, evidence: Evidence) -> float:
        return evidence.stderr

    @abstractmethod
    def half_width(self, evidence: Evidence, level: float) -> float:
        """Half the length of the two-sided interval."""

    def limits(self, evidence: Evidence, level: float) -> tuple[float | Floats, float | Floats]:
        plain_moment(evidence, type(self).__name__)
        half = self.half_width(evidence, level)
        return evidence.value - half, evidence.value + half


@dataclass(frozen=True)
class Ranged(MeanBound):
    """Base of the bounds from a stated range.

    Args:
        low, high: bounds of every return (of the undiscounted or discounted sum of rewards, as the estimand has it).
        max_weight: largest product of importance ratios; None where returns are not weighted.
    """

    low: float
    high: float
    max_weight: float | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            number(name, getattr(self, name), error=IntervalError)
        if not self.low < self.high:
            raise IntervalError(f"low, high: [{self.low}, {self.high}] is no range; low must lie below high.")
        if self.max_weight is not None and not number("max_weight", self.max_weight, 0.0, error=IntervalError) > 0:
            raise IntervalError("max_weight: 0 leaves no weight; pass the largest product of importance ratios.")

    @property
    def range(self) -> tuple[float, float]:
        """Bounds of the moment."""
        if self.max_weight is None:
            return float(self.low), float(self.high)
        return min(0.0, self.max_weight * self.low), max(0.0, self.max_weight * self.high)

    def limits(self, evidence: Evidence, level: float) -> tuple[float | Floats, float | Floats]:
        moments = plain_moment(evidence, type(self).__name__)
        if not evidence.weighted_returns:
            raise IntervalError(
                f"method: {type(self).__name__} holds for OnPolicyMean, IS and PDIS, and unnormalised IPW, whose moments "
                "are returns or weighted returns: a range of the returns does not bound those of this estimate (a known Q or "
                "ratio, a shifted or scaled value). Use StudentT(), Wald() or BCaBootstrap(2000)."
            )
        self._check_moments(moments)
        return super().limits(evidence, level)

    def _check_moments(self, moments: Floats) -> None:
        low, high = self.range
        slack = 1e-9 * max(abs(low), abs(high))
        outside = np.flatnonzero((moments < low - slack) | (moments > high + slack))
        if len(outside):
            row = int(outside[0])
            bound, side = (f"low = {low:.6g}", "below") if moments[row] < low else (f"high = {high:.6g}", "above")
            raise IntervalError(
                f"method: row {row} has the moment {moments[row]:.6g}, {side} the bound {bound} of {self}. State the range of "
                "all returns, and max_weight where they are weighted; truncated weights have a known largest one."
            )


@dataclass(frozen=True)
class Hoeffding(Ranged):
    """value -/+ (b - a) sqrt(log(2 / alpha) / (2 n)) for moments in [a, b] (Hoeffding 1963).

    With clusters of N_g trajectories, n in all, sqrt(1 / n) becomes sqrt(sum_g N_g^2) / n.

    Args:
        low, high: bounds of every return. They are never taken from the data.
        max_weight: largest product of importance ratios; None where returns are not weighted. The moment of PDIS has these bounds
            only where all rewards have one sign.

    Raises:
        IntervalError: from `interval`, for a moment outside the range, and for an estimate that is no plain mean.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0] * 100, [0, 1] * 50, [0.0, 1.0] * 50, range(101))
        >>> print(crl.OnPolicyMean().estimate(data, crl.Uniform(2)).interval(0.95, method=Hoeffding(0, 1)))
        [0.3642, 0.6358] (95%, Hoeffding(low=0, high=1, max_weight=None))
    """

    def half_width(self, evidence: Evidence, level: float) -> float:
        low, high = self.range
        squares = float(np.sum(evidence.sizes**2))
        return (high - low) * float(np.sqrt(squares * np.log(2 / (1 - level)) / 2)) / len(evidence.clusters)


@dataclass(frozen=True)
class EmpiricalBernstein(Ranged):
    """value -/+ sqrt(2 V log(4 / alpha) / n) + 7 (b - a) log(4 / alpha) / (3 (n - 1)) (Maurer & Pontil 2009, theorems 4 and 11).

    V is the sample variance. Shorter than Hoeffding's where V is far below (b - a)^2 / 4 and n is large. G clusters of N_g
    trajectories are the units: X_g = G (total_g - N_g (a + b) / 2) / n, with the range of the largest cluster.

    Args:
        low, high: bounds of every return. They are never taken from the data.
        max_weight: largest product of importance ratios; None where returns are not weighted. The moment of PDIS has these bounds
            only where all rewards have one sign.

    Raises:
        IntervalError: from `interval`, for a moment outside the range, and for an estimate that is no plain mean.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0] * 400, [0, 1] * 200, [0.0, 1.0] * 200, range(401))
        >>> low, high = crl.OnPolicyMean().estimate(data, crl.Uniform(2)).interval(0.95, method=EmpiricalBernstein(0, 1))
        >>> print(f"{low:.4f} {high:.4f}")
        0.4003 0.5997
    """

    def half_width(self, evidence: Evidence, level: float) -> float:
        low, high = self.range
        count = evidence.n_clusters
        scale = count / len(evidence.clusters)
        units = scale * (evidence.totals[:, 0] - evidence.sizes * (low + high) / 2)
        width = scale * float(evidence.sizes.max()) * (high - low)
        log = float(np.log(4 / (1 - level)))
        return float(np.sqrt(2 * units.var(ddof=1) * log / count)) + 7 * width * log / (3 * (count - 1))


@dataclass(frozen=True)
class StudentT(MeanBound):
    """value -/+ t quantile (G - 1 degrees of freedom) times the standard error of a plain mean (Thomas 2015, section 3.2).

    Wald's interval, for the estimates that the other two bounds hold for: exact for normal moments, close for large G, and too
    short for the skewed moments of long-horizon importance sampling. It needs no range.

    Raises:
        IntervalError: from `interval`, for an estimate that is no plain mean.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0, 0], [0, 1, 0], [1.0, 3.0, 5.0], range(4))
        >>> print(crl.OnPolicyMean().estimate(data, crl.Uniform(2)).interval(0.95, method=StudentT()))
        [-1.9683, 7.9683] (95%, StudentT())
    """

    def half_width(self, evidence: Evidence, level: float) -> float:
        return float(Wald().half_width(evidence, level))


def plain_moment(evidence: Evidence, method: str) -> Floats:
    """(n,) the single moment whose mean the estimate is.

    Raises:
        IntervalError: for any other estimate.
    """
    functional = evidence.functional
    if not isinstance(functional, Sum) or functional.p != 1:
        raise IntervalError(
            f"method: {method} holds for a plain mean of independent moments: OnPolicyMean, and IS or PDIS with logged or known "
            "propensities. A ratio (WIS, PDWIS, WDR), a contrast or a fitted value is none; use BCaBootstrap(2000) or Wald()."
        )
    return evidence.smooth()[1][:, 0]
