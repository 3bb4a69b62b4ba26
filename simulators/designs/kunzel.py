"""`Kunzel`: designs on which Künzel et al. judge metalearners: unbalanced arms, complex surfaces, confounding without effect."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit, ndtr

from causalrl.checks import Floats, whole_number
from causalrl.errors import DataError
from causalrl.kernels.rng import derive_seed
from simulators.designs.base import PropensityDesign, numbered
from simulators.designs.quadrature import normal_nodes


@dataclass(frozen=True)
class Kunzel(PropensityDesign):
    """Four designs with 20 covariates, standard normal noise in each arm.

    - 1 (unbalanced): e = 0.01; mu0 = x'b + 5 (x1 > 1/2), effect 8 (x2 > 0.1), b ~ U(-5, 5)^20.
    - 2 (complex linear): e = 1/2; mu0 = x'b0, mu1 = x'b1, with b0, b1 ~ U(1, 30)^20.
    - 3 (complex non-linear): e = 1/2; mu1 = 2 s(x1) s(x2), mu0 = -mu1, with s(x) = 1/(1 + exp(-12 (x - 1/2))).
    - 6 (confounded, no effect): e = (1 + beta density of x1 at (2, 4)) / 4; mu0 = mu1 = 2 x1 - 1.

    X ~ N(0, R), in simulation 6 U(0, 1)^20. R is a random C-vine: partial correlations 2 Beta(10, 10) - 1, variables
    permuted. R and the coefficients belong to the design, not to a sample: training and test sets share them.

    Source: Künzel, Sekhon, Bickel & Yu, Metalearners, PNAS 116:4156, 2019, supplement. Lewandowski, Kurowicka & Joe,
    J. Multivariate Analysis 100:1989, 2009 (C-vines).

    Args:
        simulation: 1, 2, 3 or 6, as the paper numbers them.
        draw: seed of R and of the coefficients.

    Raises:
        DataError: for another simulation, a negative draw.

    Example:
        >>> design = Kunzel(1)
        >>> round(design.ate, 6)
        3.681377
        >>> train, test = design.sample(5000, seed=0), design.sample(1000, seed=1)  # the same coefficients
        >>> sorted(set(design.effect(test.observations).round(12).tolist()))
        [0.0, 8.0]
    """

    simulation: int = 1
    draw: int = 0

    def __post_init__(self) -> None:
        if whole_number("simulation", self.simulation, 1) not in _SIMULATIONS:
            raise DataError(f"simulation: {self.simulation!r}; pass one of the paper's, {', '.join(map(str, _SIMULATIONS))}.")
        whole_number("draw", self.draw, 0)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """x1 to x20."""
        return numbered("x", _WIDTH)

    @property
    def correlation(self) -> Floats:
        """(20, 20) correlation of the covariates."""
        return self._factor @ self._factor.T

    @cached_property
    def coefficients(self) -> Floats:
        """(k, 20), read-only: b in simulation 1, b0 and b1 in simulation 2, no row in the others."""
        rows, low, high = _SIMULATIONS[self.simulation].coefficients
        drawn = np.random.default_rng(derive_seed(self.draw, "kunzel", "coefficients")).uniform(low, high, (rows, _WIDTH))
        drawn.flags.writeable = False
        return drawn

    @property
    def arm_means(self) -> Floats:
        """(2,) E[Y(a)]; in simulation 3 by quadrature over the correlated x1, x2."""
        return _SIMULATIONS[self.simulation].arm_means(float(self.correlation[0, 1]))

    @cached_property
    def _factor(self) -> Floats:
        """(20, 20) F with X = F N(0, I)."""
        if self.simulation == 6:
            return np.eye(_WIDTH)
        return _vine_factor(_WIDTH, np.random.default_rng(derive_seed(self.draw, "kunzel", "correlation")))

    def _covariates(self, n: int, rng: np.random.Generator) -> Floats:
        if self.simulation == 6:
            return rng.random((n, _WIDTH))
        return np.asarray(rng.normal(size=(n, _WIDTH)) @ self._factor.T)

    def _propensity(self, X: Floats) -> Floats:
        return _SIMULATIONS[self.simulation].propensity(X.T)

    def _means(self, X: Floats) -> Floats:
        return np.column_stack(_SIMULATIONS[self.simulation].arms(X.T, self.coefficients))


_WIDTH = 20
_SHAPE = 10.0  # 1/alpha of the paper, alpha = 0.1


def _vine_factor(size: int, rng: np.random.Generator) -> Floats:
    """Rows of a Cholesky factor built from the partial correlations of a C-vine, permuted.

    Entry (i, j < i) is the partial correlation of i and j given the variables before j, times the share of i that those
    leave unexplained; the diagonal is the share left by all.
    """
    partial = np.tril(2 * rng.beta(_SHAPE, _SHAPE, (size, size)) - 1, -1)
    left = np.sqrt(np.cumprod(1 - partial**2, axis=1))
    factor = partial * np.column_stack([np.ones(size), left[:, :-1]]) + np.diag(left[:, -1])
    return np.asarray(factor[rng.permutation(size)])


@dataclass(frozen=True)
class _Simulation:
    """Functions of the columns (d, n); coefficients are (rows, low, high); arm means from the correlation of x1 and x2."""

    coefficients: tuple[int, float, float]
    propensity: Callable[[Floats], Floats]
    arms: Callable[[Floats, Floats], tuple[Floats, Floats]]
    arm_means: Callable[[float], Floats]


def _unbalanced(x: Floats, b: Floats) -> tuple[Floats, Floats]:
    control = b[0] @ x + 5 * (x[0] > 0.5)
    return control, control + 8 * (x[1] > 0.1)


def _steps(x1: Floats, x2: Floats) -> Floats:
    return np.asarray(2 * expit(12 * (x1 - 0.5)) * expit(12 * (x2 - 0.5)))


def _mean_of_steps(correlation: float) -> float:
    nodes, weights = normal_nodes()
    second = correlation * nodes[:, None] + math.sqrt(1 - correlation**2) * nodes
    return float(weights @ _steps(nodes[:, None], second) @ weights)


_SIMULATIONS = {
    1: _Simulation(
        (1, -5, 5),
        lambda x: np.full(x.shape[1], 0.01),
        _unbalanced,
        lambda _: np.array([5 * ndtr(-0.5), 5 * ndtr(-0.5) + 8 * ndtr(-0.1)]),
    ),
    2: _Simulation((2, 1, 30), lambda x: np.full(x.shape[1], 0.5), lambda x, b: (b[0] @ x, b[1] @ x), lambda _: np.zeros(2)),
    3: _Simulation(
        (0, 0, 0),
        lambda x: np.full(x.shape[1], 0.5),
        lambda x, _: (-_steps(x[0], x[1]), _steps(x[0], x[1])),
        lambda correlation: np.array([-1, 1]) * _mean_of_steps(correlation),
    ),
    6: _Simulation(
        (0, 0, 0),
        lambda x: np.where(np.abs(x[0] - 0.5) <= 0.5, (1 + 20 * x[0] * (1 - x[0]) ** 3) / 4, np.nan),
        lambda x, _: (2 * x[0] - 1, 2 * x[0] - 1),
        lambda _: np.zeros(2),
    ),
}
