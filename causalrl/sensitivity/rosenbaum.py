"""Rosenbaum's sensitivity analysis of matched pairs (Rosenbaum 2002, *Observational Studies*, 2nd edition, chapter 4)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.errors import EstimandError, SensitivityError
from causalrl.estimands import Contrast, Estimand
from causalrl.estimators.base import Estimator, FittedEstimator
from causalrl.inference.base import check_level
from causalrl.nuisances.crossfit import Nuisances
from causalrl.sensitivity.base import SensitivityAnalysis, SensitivityModel, checked_gammas
from causalrl.sensitivity.effects import compared_arms
from causalrl.sensitivity.pairs import pair_differences

_MOST_EXACT = 200
"""The most pairs whose distribution is computed exactly; beyond, a normal one stands for it."""
_MOST_GAMMA = 1e6
"""Beyond, treatment within a pair is all but determined, and nothing is left to bound."""


class PairStatistic(ABC):
    """A sum of scores over the pairs whose difference is positive; it estimates and tests a constant effect."""

    @abstractmethod
    def scores(self, differences: Floats) -> Floats:
        """(m,) scores of pair differences (m,)."""

    @abstractmethod
    def points(self, differences: Floats) -> Floats:
        """Sorted values whose number above an effect is the statistic of the differences less that effect."""

    def __str__(self) -> str:
        return type(self).__name__


@dataclass(frozen=True)
class SignedRank(PairStatistic):
    """Wilcoxon's signed-rank statistic: the scores are the ranks of |difference|, ties at their mean; differences of 0 are ranked
    and then left out (Pratt), as in Rosenbaum (2002).

    Example:
        >>> SignedRank().scores(np.array([0.0, -2.0, 1.0, 2.0]))
        array([1. , 3.5, 2. , 3.5])
    """

    def scores(self, differences: Floats) -> Floats:
        from scipy.stats import rankdata

        return np.asarray(rankdata(np.abs(differences)), np.float64)

    def points(self, differences: Floats) -> Floats:
        """Walsh averages (D_i + D_j) / 2, i <= j."""
        rows = [differences[i:] + differences[i] for i in range(len(differences))]
        return np.sort(np.concatenate(rows) / 2)


@dataclass(frozen=True)
class SignTest(PairStatistic):
    """The sign test: how many differences are positive; the scores are 1.

    Example:
        >>> SignTest().points(np.array([3.0, -2.0]))
        array([-2.,  3.])
    """

    def scores(self, differences: Floats) -> Floats:
        return np.ones(len(differences))

    def points(self, differences: Floats) -> Floats:
        return np.sort(differences)


@dataclass(frozen=True)
class RosenbaumBounds(SensitivityModel):
    """What a test of matched pairs becomes if within a pair the odds of treatment differ by a factor of at most gamma.

    Pairs are the clusters of the data: one treated and one control in each (see `matched_pairs`). Of two people who look alike
    the treated is then the one with the larger outcome with probability p in [1 / (1 + gamma), gamma / (1 + gamma)], whatever was
    not recorded. `p_low` and `p_high` bound the two-sided p-value of no effect; `low` and `high` the Hodges-Lehmann estimate of
    a constant effect, where the statistic meets its expectation; the interval holds the effects that some such p does not
    reject. The distribution is exact up to 200 pairs and normal beyond. The analysis is about the statistic and not about the
    estimator, whose estimate stands beside it.

    Args:
        gammas: increasing, from 1 to 1e6.
        statistic: `SignedRank()` (Wilcoxon) or `SignTest()`.
        level: of the intervals.

    Raises:
        SensitivityError: for gammas that do not increase from 1 to 1e6, and from the analysis where clusters are no pairs.
        EstimandError: from the analysis, for sequential data, or a question that compares no two arms.

    Example:
        >>> import causalrl as crl
        >>> gain = [5.0, 3.0, 8.0, 2.0, 6.0, 1.0, -1.0, 7.0, 4.0, 9.0]
        >>> study = crl.Trajectories.from_cross_section(
        ...     [[0.0]] * 20, [1, 0] * 10, [value for one in gain for value in (one, 0.0)], clusters=[i // 2 for i in range(20)]
        ... )
        >>> crl.sensitivity_analysis(crl.IPW(), study, crl.ATE(), RosenbaumBounds([1.0, 2.0])).frame.round(3)
           gamma  low  high  interval_low  interval_high  p_low  p_high
        0    1.0  4.5   4.5           2.0            7.0  0.006   0.006
        1    2.0  3.5   5.5          -1.0            9.0  0.000   0.069
    """

    gammas: Sequence[float]
    statistic: PairStatistic = field(default_factory=SignedRank)
    level: float = 0.95

    def __post_init__(self) -> None:
        object.__setattr__(self, "gammas", checked_gammas(self.gammas))
        if self.gammas[-1] > _MOST_GAMMA:
            raise SensitivityError(
                f"gammas: {self.gammas[-1]:g} is beyond {_MOST_GAMMA:g}, where treatment within a pair is all but determined; "
                "leave it out."
            )
        if not isinstance(self.statistic, PairStatistic):
            raise SensitivityError(f"statistic: {self.statistic!r} is none; pass SignedRank() or SignTest().")
        check_level(self.level)

    def analyse(self, estimator: Estimator, nuisances: Nuisances, goal: Estimand) -> SensitivityAnalysis:
        import pandas as pd

        from causalrl.report.sensitivity_plots import pair_plot

        arms = compared_arms(self, nuisances, goal)
        if isinstance(goal, Contrast):
            raise EstimandError(f"{self}: is about the effect of treatment in pairs. Ask ATT(), or ATE().")
        test = PairTest.of(self.statistic, pair_differences(nuisances.data, *arms))
        estimate = FittedEstimator(estimator, nuisances).estimate(goal)
        rows = [
            (gamma, *test.estimates(gamma), *test.interval(gamma, self.level), *test.p_values(gamma)) for gamma in self.gammas
        ]
        columns = ["gamma", "low", "high", "interval_low", "interval_high", "p_low", "p_high"]
        drawing = partial(pair_plot, statistic=str(self.statistic), level=self.level)
        return SensitivityAnalysis(
            str(self), estimate, pd.DataFrame(rows, columns=columns), self._findings(test, estimator), drawing
        )

    def _findings(self, test: PairTest, estimator: Estimator) -> tuple[str, ...]:
        largest, error = test.largest_gamma(1 - self.level), 1 - self.level
        pairs = f"{test.n_pairs} matched pairs, whatever {estimator} says of all the data."
        about = f"The bounds are those of {self.statistic} on the {pairs}"
        if largest <= 1:
            return about, f"Even without unobserved confounding the pairs do not reject no effect at {error:.2g}."
        if largest == np.inf:
            return about, f"No unobserved confounding of any strength makes the pairs compatible with no effect at {error:.2g}."
        both = largest + np.sqrt(largest**2 - 1)
        second = (
            f"An unrecorded confounder would have to change the odds of treatment within a pair by a factor of {largest:.2f}, "
            f"and all but determine which of the two does better, for the pairs to be compatible with no effect at {error:.2g}."
        )
        third = (
            f"One that multiplies the odds of treatment and those of the larger outcome by the same factor would need {both:.2f} "
            "(Rosenbaum & Silber 2009)."
        )
        return about, second, third


@dataclass(frozen=True, eq=False)
class PairTest:
    """A statistic of pair differences.

    Attributes:
        n_pairs: how many there are. scores: (m,) of the pairs whose difference is not 0. value: of the statistic.
        untied: (n_pairs,) scores at an effect where nothing ties. points: see `PairStatistic`.
    """

    n_pairs: int
    scores: Floats
    value: float
    untied: Floats
    points: Floats

    @classmethod
    def of(cls, statistic: PairStatistic, differences: Floats) -> PairTest:
        scores, apart = statistic.scores(differences), differences != 0
        if not apart.any():
            raise SensitivityError("rewards: the two of every pair have the same outcome, so that the pairs say nothing.")
        untied = statistic.scores(np.arange(1.0, len(differences) + 1))
        points = statistic.points(differences)
        return cls(len(differences), scores[apart], float(scores[differences > 0].sum()), untied, points)

    def p_values(self, gamma: float) -> tuple[float, float]:
        """The least and the largest two-sided p-value, twice the smaller tail."""
        return self._p_value(1 / (1 + gamma)), self._p_value(gamma / (1 + gamma))

    def _p_value(self, p: float) -> float:
        """Twice the smaller of the tails, each where the larger outcome is the one in its direction with probability p."""
        below = self.scores.sum() - self.value
        return min(2 * min(upper_tail(self.scores, p, value) for value in (self.value, below)), 1.0)

    def estimates(self, gamma: float) -> tuple[float, float]:
        """The least and the largest Hodges-Lehmann estimate: quantiles 1 / (1 + gamma) and gamma / (1 + gamma) of the points."""
        return self._quantile(1 / (1 + gamma)), self._quantile(gamma / (1 + gamma))

    def _quantile(self, share: float) -> float:
        """Of the points; the mean of two where the statistic meets its expectation between them."""
        place = share * len(self.points)
        if abs(place - round(place)) < 1e-9 * len(self.points):
            return float(self.points[round(place) - 1 : round(place) + 1].mean())
        return float(self.points[int(place)])

    def interval(self, gamma: float, level: float) -> tuple[float, float]:
        """Effects that are not rejected; infinite where the pairs are too few to reject any."""
        critical, count = critical_value(self.untied, gamma / (1 + gamma), (1 - level) / 2), len(self.points)
        if critical > count:
            return -np.inf, np.inf
        return float(self.points[count - critical]), float(self.points[critical - 1])

    def largest_gamma(self, error: float) -> float:
        """The gamma at which the largest p-value reaches `error`; 1 where it is above that at once, inf where it never is."""
        from scipy.optimize import brentq

        def gap(log_gamma: float) -> float:
            return self._p_value(1 / (1 + float(np.exp(-log_gamma)))) - error

        if gap(0.0) >= 0:
            return 1.0
        most = np.log(_MOST_GAMMA)
        return np.inf if gap(most) < 0 else float(np.exp(brentq(gap, 0.0, most, xtol=1e-9)))


def upper_tail(scores: Floats, p: float, value: float) -> float:
    """P(T >= value) for a sum T of independent scores, each there with probability p.

    Exact for at most 200 scores that are multiples of 1/2, by convolution; else `normal_tail`.
    """
    if len(scores) > _MOST_EXACT:
        return normal_tail(scores, p, value)
    return float(distribution(scores, p)[round(2 * value) :].sum())


def normal_tail(scores: Floats, p: float, value: float) -> float:
    """The normal approximation of `upper_tail` (Rosenbaum 2002, section 4.3.3)."""
    from scipy.special import ndtr

    mean, variance = p * scores.sum(), p * (1 - p) * np.sum(scores**2)
    return float(ndtr((mean - value) / np.sqrt(variance)))


def critical_value(scores: Floats, p: float, error: float) -> int:
    """The least whole number c with P(T >= c) <= error, for whole scores; their sum plus 1 where there is none."""
    from scipy.special import ndtri

    total = round(scores.sum())
    if len(scores) > _MOST_EXACT:
        mean, variance = p * scores.sum(), p * (1 - p) * np.sum(scores**2)
        return int(min(np.ceil(mean - ndtri(error) * np.sqrt(variance)), total + 1))
    tails = np.cumsum(distribution(scores, p)[::-2])[::-1]
    return int(np.argmax(np.append(tails, 0.0) <= error))


def distribution(scores: Floats, p: float) -> Floats:
    """P(2 T = k), k = 0 to twice the sum of scores."""
    steps: Ints = np.rint(2 * scores).astype(np.int64)
    chances = np.zeros(int(steps.sum()) + 1)
    chances[0] = 1.0
    for step in steps:
        with_step = p * chances[: len(chances) - step]
        chances *= 1 - p
        chances[step:] += with_step
    return chances
