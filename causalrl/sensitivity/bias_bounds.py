"""How far a confounder of stated strength can move an effect, |bias| <= S C_Y C_D.

C_Y^2 is the share of the outcome's residual variance that the confounder explains, and C_D^2 = R / (1 - R) for R the share that
it explains of the treatment's residual variance (of the weights' variance, without a linear model). For a regression coefficient
S = stderr sqrt(df) (Cinelli & Hazlett 2020, "Making sense of sensitivity: extending omitted variable bias", JRSS B 82:39); in
general S^2 = E(Y - g)^2 E alpha^2 with g the outcome regression and alpha the weights (Riesz representer) of the effect
(Chernozhukov, Cinelli, Newey, Sharma & Syrgkanis 2022, "Long story short: omitted variable bias in causal machine learning").
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from causalrl.checks import Floats, Ints, number
from causalrl.errors import SensitivityError
from causalrl.inference.functionals import cluster_standard_error


@dataclass(frozen=True)
class Strength:
    """A confounder's strength: partial R2 with the treatment, in [0, 1), and with the outcome, in [0, 1]."""

    r2_treatment: float
    r2_outcome: float

    @property
    def size(self) -> float:
        """C_Y C_D."""
        return float(np.sqrt(self.r2_outcome * self.r2_treatment / (1 - self.r2_treatment)))


@dataclass(frozen=True)
class Movement:
    """What is left of an estimate: bounds, and a confidence interval for what lies between them."""

    low: float
    high: float
    interval_low: float
    interval_high: float


def equal_strength(size: float) -> float:
    """The r with r / sqrt(1 - r) = size: the robustness value sqrt(f^4 + 4 f^2) / 2 - f^2 / 2 (Cinelli & Hazlett 2020).

    >>> round(equal_strength(4.184 / 783**0.5), 3)  # the Darfur study: t 4.184 on 783 degrees of freedom
    0.139
    """
    squared = size**2
    return float((np.sqrt(squared**2 + 4 * squared) - squared) / 2)


class BiasBounds(ABC):
    """An effect, and how a confounder moves it."""

    estimate: float

    @property
    @abstractmethod
    def scale(self) -> float:
        """S: what one unit of C_Y C_D moves the estimate by."""

    @abstractmethod
    def moved(self, strength: Strength, level: float) -> Movement:
        """Bounds and interval under a confounder of this strength."""

    @abstractmethod
    def interval_strength(self, null: float, level: float) -> Strength:
        """The weakest confounder, by the larger of its two R2, that brings the interval to a value; 0 where it is in it."""

    def distance(self, null: float) -> float:
        """|estimate - null| / S: the C_Y C_D that brings the estimate to a value."""
        return abs(self.estimate - null) / self.scale

    def robustness_value(self, null: float) -> float:
        """The R2, the same with treatment and outcome, that brings the estimate to a value."""
        return equal_strength(self.distance(null))

    def extreme_strength(self, null: float) -> Strength:
        """Of a confounder that explains all of the outcome's residual variance and brings the estimate to a value."""
        squared = self.distance(null) ** 2
        return Strength(squared / (1 + squared), 1.0)


@dataclass(frozen=True)
class RegressionCoefficient(BiasBounds):
    """A coefficient of least squares with its classical standard error (Cinelli & Hazlett 2020).

    Args:
        estimate, stderr: of the treatment's coefficient. df: residual degrees of freedom, at least 2.

    Raises:
        SensitivityError: for a standard error that is not positive, or too few degrees of freedom.

    Example:
        >>> darfur = RegressionCoefficient(0.0973, 0.0233, 783)
        >>> round(darfur.robustness_value(0.0), 3), round(darfur.interval_strength(0.0, 0.95).r2_treatment, 3)
        (0.139, 0.076)
    """

    estimate: float
    stderr: float
    df: int

    def __post_init__(self) -> None:
        number("estimate", self.estimate, error=SensitivityError)
        number("stderr", self.stderr, np.finfo(float).tiny, error=SensitivityError)
        number("df", self.df, 2, error=SensitivityError)

    @property
    def scale(self) -> float:
        return float(self.stderr * np.sqrt(self.df))

    @property
    def partial_r2(self) -> float:
        """Of the treatment with the outcome, t^2 / (t^2 + df)."""
        return self.extreme_strength(0.0).r2_treatment

    def moved(self, strength: Strength, level: float) -> Movement:
        bias = self.scale * strength.size
        left = np.sqrt((1 - strength.r2_outcome) / (1 - strength.r2_treatment))
        half = self.scale * left * self._critical(level, self.df - (strength != Strength(0.0, 0.0)))
        low, high = self.estimate - bias, self.estimate + bias
        return Movement(low, high, float(low - half), float(high + half))

    def interval_strength(self, null: float, level: float) -> Strength:
        """RV_(q, alpha); a confounder that leaves more of the outcome's noise can be stronger (Cinelli & Hazlett 2022)."""
        size, critical = self.distance(null), self._critical(level, self.df - 1)
        if size <= critical:
            return Strength(0.0, 0.0)
        equal = equal_strength(size - critical)
        if equal + critical**2 <= 1:
            return Strength(equal, equal)
        weakest = (size**2 - critical**2) / (1 + size**2)
        return Strength(weakest, weakest / (weakest + critical**2))

    @staticmethod
    def _critical(level: float, df: int) -> float:
        """t quantile / sqrt(df); a confounder in the regression takes one degree of freedom."""
        from scipy.special import stdtrit

        return float(stdtrit(df, 0.5 + level / 2) / np.sqrt(df))


@dataclass(frozen=True, eq=False)
class DebiasedEffect(BiasBounds):
    """A doubly robust effect with machine-learned nuisances (Chernozhukov et al. 2022).

    Attributes:
        estimate: the effect. influence: (n,) its influence values. clusters: (n,) independent units.
        squared_errors: (n,) whose mean is E(Y - g)^2.
        squared_weights: (n,) debiased, whose mean is E alpha^2. weight_influence: (n,) influence values of that mean.
    """

    estimate: float
    influence: Floats
    clusters: Ints
    squared_errors: Floats
    squared_weights: float
    weight_influence: Floats

    @cached_property
    def scale(self) -> float:
        return float(np.sqrt(self.squared_errors.mean() * self.squared_weights))

    def moved(self, strength: Strength, level: float) -> Movement:
        from scipy.special import stdtrit

        quantile = float(stdtrit(int(self.clusters.max()), 0.5 + level / 2))
        bias = self.scale * strength.size
        tilt = strength.size * self._scale_influence
        below, above = (cluster_standard_error(self.influence + sign * tilt, self.clusters) for sign in (-1, 1))
        low, high = self.estimate - bias, self.estimate + bias
        return Movement(low, high, low - quantile * below, high + quantile * above)

    def interval_strength(self, null: float, level: float) -> Strength:
        from scipy.optimize import brentq

        def gap(r2: float) -> float:
            moved = self.moved(Strength(r2, r2), level)
            return moved.interval_low - null if self.estimate > null else null - moved.interval_high

        r2 = 0.0 if gap(0.0) <= 0 else float(brentq(gap, 0.0, 1 - 1e-9, xtol=1e-12))
        return Strength(r2, r2)

    @cached_property
    def _scale_influence(self) -> Floats:
        """(n,) influence values of S."""
        errors = self.squared_errors.mean()
        influence = self.squared_weights * (self.squared_errors - errors) + errors * self.weight_influence
        return np.asarray(influence / (2 * self.scale))
