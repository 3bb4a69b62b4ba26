"""Linear marginal importance weights: the state ratio as a linear function of features, by least squares.

The moment equations of Uehara, Huang & Jiang (2020, Section 4) with equal linear classes for ratio and test function.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from causalrl.checks import Floats, Ints, number, optional_function
from causalrl.errors import EstimandError
from causalrl.kernels.linear import standardization
from causalrl.kernels.refit_marginal import unsupported_time
from causalrl.nuisances.features import Features, Standardized
from causalrl.nuisances.ratio import DensityRatio, MarginalRefit, RatioProblem, RowRatio

_TOLERANCE = 1e-12
_MAX_ITERATIONS = 20_000
_RANK = 1e-11


@dataclass(frozen=True)
class LinearRatio:
    """m_t(s, a) = discount^t theta_t' x(s) pi(a|s) / b(a|s), with one theta_t for each time and theta_0' x = 1.

    sum_i x x' theta_{t+1}, over the steps at t + 1, is the sum over the steps at t of theta_t' x rho x(s_{t+1}), scaled so that
    the target's total probability is kept. Without a horizon one theta solves
    [sum x x' - discount sum rho x(s') x'] theta = sum x(s_0), the flow scaled likewise, by iteration from the start. For
    one-hot x both are `TabularRatio`. A ratio may turn negative.

    Args:
        features: maps observations (M, ...) to x (M, d); None is the data's own features. An intercept is added.
        ridge: penalty on the coefficients of standardised features, as a share of the rows' total weight.

    Raises:
        EstimandError: from `estimate`, without a horizon, where the iteration does not settle.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays(
        ...     [[0.0], [1.0], [0.0], [2.0]], [1, 0, 0, 0], [0.0, 6.0, 0.0, 2.0], [0, 2, 4], behavior_probabilities=[0.5, 1] * 2
        ... )
        >>> goal = crl.PolicyValue(lambda x, t: [[0.25, 0.75] if row == 0 else [1.0, 0.0] for row in x[:, 0]], horizon=2)
        >>> round(crl.MIS(ratio=LinearRatio()).estimate(data, goal).value, 6)
        5.0
    """

    features: Features | None = None
    ridge: float = 0.0
    default_folds: int = field(default=1, init=False, repr=False)
    known: bool = field(default=False, init=False, repr=False)
    needs_behavior: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        optional_function("features", self.features)
        number("ridge", self.ridge, 0.0, float("inf"))

    def fit(self, problem: RatioProblem) -> DensityRatio:
        system = _System(self, problem)
        return RowRatio(system.weights(problem.weights, problem.ratios))

    def value_refit(self, problem: RatioProblem) -> MarginalRefit:
        return _Refit(_System(self, problem))


class _System:
    """The designs of one problem, from which weights under any row weights follow."""

    def __init__(self, model: LinearRatio, problem: RatioProblem) -> None:
        self.problem, self._ridge = problem, model.ridge
        steps = problem.steps
        basis = Standardized(model.features, steps)
        self._x = basis.with_intercept(steps.observations)
        self._x_next = np.where(problem.target.there[:, None], basis.with_intercept(steps.next_observations), 0.0)

    @cached_property
    def _times(self) -> list[Ints]:
        time = self.problem.steps.time
        order = np.argsort(time, kind="stable")
        return np.split(order, np.searchsorted(time[order], np.arange(1, int(time.max()) + 1)))

    def weights(self, weights: Floats, ratios: Floats) -> Floats:
        """(M,) m under row weights (M,), by which features are standardised."""
        basis = standardization(self._x, weights).T
        x, x_next = self._x @ basis, self._x_next @ basis
        if self.problem.horizon is None:
            self.problem.target.times(None)
            return self._stationary(x, x_next, weights, ratios) * ratios
        return self._by_time(x, x_next, weights, ratios) * ratios * self.problem.discount**self.problem.steps.time

    def _gram(self, x: Floats, weights: Floats) -> Floats:
        penalty = np.full(x.shape[1], self._ridge * weights.sum())
        penalty[0] = 0.0
        return np.asarray((x * weights[:, None]).T @ x + np.diag(penalty))

    def _by_time(self, x: Floats, x_next: Floats, weights: Floats, ratios: Floats) -> Floats:
        state = np.empty(len(weights))
        state[self._times[0]] = 1.0
        for rows, following in zip(self._times, self._times[1:], strict=False):
            there = weights[rows] * state[rows]
            flow = there * ratios[rows]
            flow *= _scale(there.sum(), flow.sum())
            gram = self._gram(x[following], weights[following])
            state[following] = x[following] @ np.linalg.lstsq(gram, flow @ x_next[rows], rcond=_RANK)[0]
        return state

    def _stationary(self, x: Floats, x_next: Floats, weights: Floats, ratios: Floats) -> Floats:
        """The fixed point reached from the start, as for the table; in features that are orthonormal under the penalised rows."""
        problem, flow = self.problem, weights * ratios
        sizes, axes = np.linalg.eigh(self._gram(x, weights))
        kept = sizes > _RANK * sizes[-1]
        basis = axes[:, kept] / np.sqrt(sizes[kept])
        x, x_next = x @ basis, x_next @ basis
        first = problem.steps.first
        start, moves = weights[first] @ x[first], problem.discount * (x_next * flow[:, None]).T @ x
        there, leaving = weights @ x, flow @ x
        theta: Floats = start
        change = np.inf
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(_MAX_ITERATIONS):
                following = start + _scale(float(there @ theta), float(leaving @ theta)) * (moves @ theta)
                change, theta = np.abs(following - theta).max() / np.abs(following).max(), following
                if not change > _TOLERANCE:
                    break
        if not change <= _TOLERANCE:
            raise EstimandError(
                f"ratio: the occupancy of {problem.target.policy} by LinearRatio() still moves after {_MAX_ITERATIONS} steps: at "
                f"discount {problem.discount} its process does not end in the data, or the features cannot follow it. Pass a "
                "horizon, a smaller discount, a larger ridge or fewer features."
            )
        return np.asarray(x @ theta)


def _scale(mass: float, flow: float) -> float:
    """What keeps the total mass: see `conserving_scale`."""
    return mass / flow if flow != 0 else 1.0


@dataclass(frozen=True, eq=False)
class _Refit:
    """Mean of sum m r under each row of trajectory weights; NaN where the resample has none."""

    system: _System

    def __call__(self, weights: Floats, propensities: Floats) -> Floats:
        return np.array([self._value(own, propensities[min(b, len(propensities) - 1)]) for b, own in enumerate(weights)])

    def _value(self, of_trajectory: Floats, logged: Floats) -> float:
        problem, steps = self.system.problem, self.system.problem.steps
        own = of_trajectory[steps.trajectory]
        ratios = np.divide(problem.numerators, logged, out=np.zeros(len(own)), where=own > 0)
        try:
            m = self.system.weights(own, ratios)
        except EstimandError:
            return np.nan
        _, speaks = unsupported_time(m, own, steps.time, problem.horizon is not None, problem.discount)
        return float(np.sum(own * m * steps.rewards) / of_trajectory.sum()) if speaks else np.nan
