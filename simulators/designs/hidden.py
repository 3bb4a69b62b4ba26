"""A hidden confounder of a stated strength that does the worst it can: `WorstConfounder`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtri
from scipy.stats import norm

from causalrl.checks import Floats, number, whole_number
from causalrl.data import Trajectories
from simulators.checks import LARGEST_REWARD, MOST_TRAJECTORIES
from simulators.designs.base import Design

_MOST_GAMMA = 1e6


@dataclass(frozen=True)
class WorstConfounder(Design):
    """A study confounded as strongly as the marginal sensitivity model of strength gamma allows, in the least favourable way.

    X ~ N(0, I_2), and the record looks unconfounded: e(x) = P(A = 1 | x) = expit(x1 / 2) and Y | A = a, x ~
    N(x1 + x2 / 2 + a, sd^2), so that every adjustment for x finds an effect of 1. A hidden U in {0, 1} moves the odds of
    treatment from those of e(x) by the factor gamma (U = 1) or 1 / gamma (U = 0), and decides on which side of a quantile both
    potential outcomes lie: the treated are those who fare well anyway. With t = gamma / (1 + gamma),

        P(U = 1 | x) = (gamma e + 1 - e) / (1 + gamma),

    Y(1) is drawn from above (U = 1) or below (U = 0) the quantile 1 - t of N(mean, sd^2), Y(0) above or below the quantile t. The
    effect is then the sharp lower bound of the marginal sensitivity model at gamma:

        ate = 1 - sd (gamma - 1 / gamma) phi(z_t).

    Source: Tan, A distributional approach for causal inference using propensity scores, JASA 101:1619, 2006 (the model); Dorn &
    Guo, Sharp sensitivity analysis for inverse propensity weighting via quantile balancing, JASA 118:2645, 2023 (the bounds).

    Args:
        gamma: odds ratio from 1 (no confounding) to 10^6. sd: of the outcome given treatment and covariates.

    Raises:
        DataError: for a gamma or sd out of range.

    Example:
        >>> design = WorstConfounder(gamma=2.0)
        >>> low, high = design.bounds(2.0)
        >>> round(low, 4), round(high, 4), round(design.ate, 4)
        (0.4546, 1.5454, 0.4546)
        >>> study = design.sample(20_000)
        >>> import causalrl as crl
        >>> estimate = crl.AIPW(crl.LinearQ(), crl.Logit()).estimate(study, crl.ATE())
        >>> bool(abs(estimate.value - 1) < 0.05)  # what adjustment for x finds
        True
    """

    gamma: float = 2.0
    sd: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", number("gamma", self.gamma, 1, _MOST_GAMMA))
        object.__setattr__(self, "sd", number("sd", self.sd, 0, LARGEST_REWARD))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """x1, x2."""
        return ("x1", "x2")

    @property
    def arm_means(self) -> Floats:
        """(half the shift, 1 less half the shift): the mean of 1 - e and of e is 1/2."""
        half = self._shift(self.gamma) / 2
        return np.array([half, 1 - half])

    def bounds(self, gamma: float) -> tuple[float, float]:
        """Sharp bounds of the effect under the marginal sensitivity model of strength gamma, given the law of the record.

        Raises:
            DataError: for a gamma out of range.
        """
        shift = self._shift(number("gamma", gamma, 1, _MOST_GAMMA))
        return 1 - shift, 1 + shift

    def propensity(self, X: Floats) -> Floats:
        """(n,) e(x) = P(A = 1 | x), of the record, at the rows of X (n, 2).

        Raises:
            DataError: as `outcome_means`.
        """
        return self._at(X, _propensity)

    def sample(self, n: int, seed: int = 0) -> Trajectories:
        """See `Design.sample`; without propensities, since those given U are what is hidden."""
        X, arm, potential = self.potential_outcomes(n, seed)
        outcome = potential[np.arange(n), arm]
        return Trajectories.from_cross_section(X, arm, outcome, feature_names=self.feature_names)

    def potential_outcomes(self, n: int, seed: int = 0) -> tuple[Floats, np.ndarray[tuple[int], np.dtype[np.int64]], Floats]:
        """What `sample` draws: covariates (n, 2), treatment (n,), both potential outcomes (n, 2)."""
        rng = np.random.default_rng(whole_number("seed", seed, 0))
        X = rng.normal(size=(whole_number("n", n, 2, most=MOST_TRAJECTORIES), 2))
        e, gamma = _propensity(X), self.gamma
        hidden = rng.random(n) < (gamma * e + 1 - e) / (1 + gamma)
        odds = e / (1 - e) * np.where(hidden, gamma, 1 / gamma)
        arm = (rng.random(n) < odds / (1 + odds)).astype(np.int64)
        cuts = np.array([gamma, 1.0]) / (1 + gamma)  # of Y(0), of Y(1)
        share = rng.random((n, 2))
        rank = np.where(hidden[:, None], cuts + share * (1 - cuts), share * cuts)
        return X, arm, _mean(X) + self.sd * ndtri(rank)

    def _means(self, X: Floats) -> Floats:
        e = _propensity(X)
        return _mean(X) + self._shift(self.gamma) * np.column_stack([e, e - 1])

    def _shift(self, gamma: float) -> float:
        """How far the mean of a potential outcome among those of the other arm may be from that of the record."""
        level = gamma / (1 + gamma)
        return float(self.sd * (gamma - 1 / gamma) * norm.pdf(ndtri(level)))


def _propensity(X: Floats) -> Floats:
    return np.asarray(expit(X[:, 0] / 2))


def _mean(X: Floats) -> Floats:
    """(n, 2) of the record, by arm."""
    base = X[:, 0] + X[:, 1] / 2
    return np.column_stack([base, base + 1])
