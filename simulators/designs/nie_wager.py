"""`NieWager`: the four designs on which Nie & Wager judge learners of heterogeneous effects."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, sici

from causalrl.checks import Floats, number, one_of, whole_number
from simulators.checks import LARGEST_REWARD
from simulators.designs.base import MOST_COVARIATES, PropensityDesign, numbered
from simulators.designs.quadrature import normal_nodes


@dataclass(frozen=True)
class NieWager(PropensityDesign):
    """Y = b(X) + (T - 1/2) tau(X) + sigma N(0, 1), T ~ Bernoulli(e(X)): tau is the effect, b - tau/2 the control surface.

    - A: X ~ U[0, 1]^d; e = sin(pi x1 x2) clipped to [0.1, 0.9]; b = sin(pi x1 x2) + 2 (x3 - 1/2)^2 + x4 + x5/2;
      tau = (x1 + x2)/2. Confounded, with a simple effect.
    - B: X ~ N(0, I); e = 1/2; b = max(0, x1 + x2, x3) + max(0, x4 + x5); tau = x1 + log(1 + exp(x2)). Randomised.
    - C: X ~ N(0, I); e = 1/(1 + exp(x2 + x3)); b = 2 log(1 + exp(x1 + x2 + x3)); tau = 1. A constant effect.
    - D: X ~ N(0, I); e = 1/(1 + exp(-x1) + exp(-x2)); b and tau = half the sum, and the difference, of
      max(x1 + x2 + x3, 0) and max(x4 + x5, 0). Unrelated arms.

    Source: Nie & Wager, Quasi-oracle estimation of heterogeneous treatment effects, Biometrika 108:299, 2021.

    Args:
        setup: "A", "B", "C" or "D", as the paper names them.
        d: number of covariates, at least 5; the paper has 6 and 12.
        sigma: standard deviation of the noise; the paper has 0.5, 1, 2 and 4.

    Raises:
        DataError: for another setup, d below 5, a negative sigma.

    Example:
        >>> design = NieWager("D")
        >>> round(design.ate, 6)
        0.126799
        >>> design.effect(design.sample(500, seed=0).observations).shape
        (500,)
    """

    setup: str = "A"
    d: int = 6
    sigma: float = 1.0

    def __post_init__(self) -> None:
        one_of("setup", self.setup, _SETUPS)
        whole_number("d", self.d, 5, most=MOST_COVARIATES)
        number("sigma", self.sigma, 0, LARGEST_REWARD)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """x1 to xd."""
        return numbered("x", self.d)

    @property
    def arm_means(self) -> Floats:
        """(2,) E[b] -/+ ATE/2."""
        baseline, effect = _SETUPS[self.setup].means()
        return np.array([baseline - effect / 2, baseline + effect / 2])

    def _covariates(self, n: int, rng: np.random.Generator) -> Floats:
        return rng.random((n, self.d)) if self.setup == "A" else rng.normal(size=(n, self.d))

    def _propensity(self, X: Floats) -> Floats:
        return _SETUPS[self.setup].propensity(X.T)

    def _means(self, X: Floats) -> Floats:
        setup = _SETUPS[self.setup]
        baseline, effect = setup.baseline(X.T), setup.effect(X.T)
        return np.column_stack([baseline - effect / 2, baseline + effect / 2])

    def _sd(self, X: Floats) -> Floats:
        return np.full((len(X), 2), float(self.sigma))


@dataclass(frozen=True)
class _Setup:
    """Functions of the columns (d, n), and E[b], E[tau]."""

    propensity: Callable[[Floats], Floats]
    baseline: Callable[[Floats], Floats]
    effect: Callable[[Floats], Floats]
    means: Callable[[], tuple[float, float]]


def _softplus(x: Floats) -> Floats:
    return np.logaddexp(0, x)


def _arms_d(x: Floats) -> tuple[Floats, Floats]:
    return np.maximum(x[0] + x[1] + x[2], 0), np.maximum(x[3] + x[4], 0)


def _means_a() -> tuple[float, float]:
    """E[sin(pi U V)] = (gamma + log pi - Ci(pi)) / pi for uniform U, V; the rest is 2/12 + 1/2 + 1/4."""
    return float((np.euler_gamma + math.log(math.pi) - sici(math.pi)[1]) / math.pi + 11 / 12), 0.5


def _means_b() -> tuple[float, float]:
    """E[max] of three centred normals is the sum of the standard deviations of their differences over sqrt(8 pi)."""
    nodes, weights = normal_nodes()
    first = (math.sqrt(2) + 1 + math.sqrt(3)) / math.sqrt(8 * math.pi)
    return first + 1 / math.sqrt(math.pi), float(weights @ _softplus(nodes))


def _means_c() -> tuple[float, float]:
    nodes, weights = normal_nodes()
    return float(2 * weights @ _softplus(math.sqrt(3) * nodes)), 1.0


def _means_d() -> tuple[float, float]:
    """E[max(N(0, s^2), 0)] = s / sqrt(2 pi)."""
    first, second = math.sqrt(3 / (2 * math.pi)), math.sqrt(2 / (2 * math.pi))
    return (first + second) / 2, first - second


_SETUPS = {
    "A": _Setup(
        lambda x: np.clip(np.sin(np.pi * x[0] * x[1]), 0.1, 0.9),
        lambda x: np.sin(np.pi * x[0] * x[1]) + 2 * (x[2] - 0.5) ** 2 + x[3] + 0.5 * x[4],
        lambda x: (x[0] + x[1]) / 2,
        _means_a,
    ),
    "B": _Setup(
        lambda x: np.full(x.shape[1], 0.5),
        lambda x: np.maximum(np.maximum(x[0] + x[1], x[2]), 0) + np.maximum(x[3] + x[4], 0),
        lambda x: x[0] + _softplus(x[1]),
        _means_b,
    ),
    "C": _Setup(
        lambda x: np.asarray(expit(-(x[1] + x[2]))),
        lambda x: 2 * _softplus(x[0] + x[1] + x[2]),
        lambda x: np.ones(x.shape[1]),
        _means_c,
    ),
    "D": _Setup(
        lambda x: 1 / (1 + np.exp(-x[0]) + np.exp(-x[1])),
        lambda x: np.add(*_arms_d(x)) / 2,
        lambda x: np.subtract(*_arms_d(x)),
        _means_d,
    ),
}
