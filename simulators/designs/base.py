"""`Design`: a single-stage study, one treatment decision a unit, whose effects and arm means are known exactly."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Floats, first_bad, matrix, whole_number
from causalrl.data import Trajectories
from causalrl.errors import DataError, EstimandError
from causalrl.policies import Always, PolicyLike, Uniform, as_policy
from simulators.checks import MOST_TRAJECTORIES, check_time


class Design(ABC):
    """A study of a binary treatment: covariates X (n, d), treatment in {0, 1}, an outcome, and the truth about its effect.

    Every truth is exact: a closed form or deterministic quadrature, never a simulation. The design is a truth for
    `evaluate`: `crl.evaluate(study, {"effect": crl.ATE()}, [crl.IPW()], truth=design)`.

    Example:
        >>> from simulators import Point
        >>> design = Point(p=2)  # the effect is 1 + x2
        >>> study = design.sample(100, seed=0)
        >>> design.effect([[0.0, -1.0], [0.0, 1.0]]), design.outcome_means([[0.0, 1.0]])
        (array([0., 2.]), array([[0., 2.]]))
        >>> design.value(Always(1)), design.value(Uniform(2))
        (1.0, 0.5)
    """

    @property
    def n_actions(self) -> int:
        """2: control and treated."""
        return 2

    @property
    @abstractmethod
    def feature_names(self) -> tuple[str, ...]:
        """Names of the d recorded covariates."""

    @abstractmethod
    def sample(self, n: int, seed: int = 0) -> Trajectories:
        """n units, one decision each: observation X, action = treatment, reward = outcome.

        Raises:
            DataError: for n below 2, or a sample in which only one arm occurs: draw more units, or another seed.
        """

    def outcome_means(self, X: ArrayLike) -> Floats:
        """(n, 2) mu_a(x) = E[Y(a) | X = x] at the rows of X (n, d).

        Raises:
            DataError: where X does not have the columns of the record, or lies where the design has no units and its
                formulas no finite value.
        """
        return self._at(X, self._means)

    def effect(self, X: ArrayLike) -> Floats:
        """(n,) conditional average treatment effect mu_1(x) - mu_0(x) at the rows of X (n, d).

        Raises:
            DataError: as `outcome_means`.
        """
        means = self.outcome_means(X)
        return np.asarray(means[:, 1] - means[:, 0])

    @property
    @abstractmethod
    def arm_means(self) -> Floats:
        """(2,) E[Y(a)], the value of the policy `Always(a)`."""

    @property
    def ate(self) -> float:
        """E[Y(1) - Y(0)], the average treatment effect."""
        control, treated = self.arm_means
        return float(treated - control)

    def value(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> float:
        """Exact value of a policy that treats everybody alike; a single decision has no use for horizon and discount.

        Args:
            policy: `Always(a)` or `Uniform(2)`.

        Raises:
            EstimandError: for another policy, whose value is an integral over the covariates, or a horizon or discount
                that is none.
        """
        check_time(horizon, discount)
        bound = as_policy(policy).bind(self.n_actions)
        if not isinstance(bound, Always | Uniform):
            raise EstimandError(
                f"policy {bound}: exact values exist for Always(a) and Uniform(2); for a policy that depends on the "
                "covariates, average its probabilities times outcome_means(X) over the X of a large sample."
            )
        (row,) = bound.probabilities(np.zeros((1, len(self.feature_names))), np.zeros(1, np.int64))
        if row.shape != (self.n_actions,):
            raise EstimandError(f"policy {bound}: has {len(row)} actions, the design has {self.n_actions}.")
        return float(row @ self.arm_means)

    @abstractmethod
    def _means(self, X: Floats) -> Floats:
        """`outcome_means` at checked rows."""

    def _at(self, X: ArrayLike, formula: Callable[[Floats], Floats]) -> Floats:
        """A formula of the design at rows of X that are checked before, and whose results are checked after."""
        rows, names = matrix("X", X), self.feature_names
        if rows.shape[1] != len(names):
            raise DataError(f"X: {rows.shape[1]} columns, the record has {len(names)}; pass {', '.join(names)}.")
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.asarray(formula(rows), np.float64)
        if not np.isfinite(values).all():
            row = first_bad(~np.isfinite(values))
            raise DataError(f"X: row {row} lies where the design has no units and its formulas no finite value; drop it.")
        return values


class PropensityDesign(Design):
    """A design that draws its units afresh and treats them with a known probability given the recorded covariates.

    Drawn from `numpy.random.default_rng(seed)` in the order covariates, treatment, noise. The record keeps the true propensities.

    Example:
        >>> from simulators import Kennedy
        >>> design = Kennedy()  # nobody but those with x > 0 is treated often
        >>> design.propensity([[-0.5], [0.5]]), design.outcome_sd([[0.0]])
        (array([0.1, 0.9]), array([[0.1, 0.1]]))
    """

    def propensity(self, X: ArrayLike) -> Floats:
        """(n,) e(x) = P(treatment = 1 | X = x) at the rows of X (n, d).

        Raises:
            DataError: as `outcome_means`.
        """
        return self._at(X, self._propensity)

    def outcome_sd(self, X: ArrayLike) -> Floats:
        """(n, 2) standard deviation of the normal noise of Y(a) given X = x, at the rows of X (n, d).

        Raises:
            DataError: as `outcome_means`.
        """
        return self._at(X, self._sd)

    def sample(self, n: int, seed: int = 0) -> Trajectories:
        """See `Design.sample`."""
        units = np.arange(whole_number("n", n, 2, most=MOST_TRAJECTORIES))
        rng = np.random.default_rng(whole_number("seed", seed, 0))
        X = self._covariates(n, rng)
        propensity = self._propensity(X)
        arm = rng.binomial(1, propensity)
        outcome = self._means(X)[units, arm] + self._sd(X)[units, arm] * rng.normal(size=n)
        return Trajectories.from_cross_section(X, arm, outcome, propensity=propensity, feature_names=self.feature_names)

    @abstractmethod
    def _covariates(self, n: int, rng: np.random.Generator) -> Floats:
        """(n, d) rows of the record."""

    @abstractmethod
    def _propensity(self, X: Floats) -> Floats:
        """`propensity` at checked rows."""

    def _sd(self, X: Floats) -> Floats:
        return np.ones((len(X), 2))


MOST_COVARIATES = 10_000
"""Largest number of covariates."""


def numbered(letter: str, count: int) -> tuple[str, ...]:
    """Names such as x1, x2, x3."""
    return tuple(f"{letter}{j}" for j in range(1, count + 1))
