"""Linear marginal importance weights: the state ratio as a linear function of features, by least squares.

The moment equations of Uehara, Huang & Jiang (2020, Section 4) with equal linear classes for ratio and test function.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from causalrl.checks import Floats, Ints, number, optional_function
from causalrl.errors import EstimandError
from causalrl.nuisances.features import Features, Standardized
from causalrl.nuisances.ratio import DensityRatio, MarginalRefit, RatioProblem, RowRatio

_TOLERANCE = 1e-12
_MAX_ITERATIONS = 200
_RANK = 1e-11


@dataclass(frozen=True)
class LinearRatio:
    """m_t(s, a) = discount^t theta_t' x(s) pi(a|s) / b(a|s), with one theta_t for each time and theta_0' x = 1.

    sum_i x x' theta_{t+1}, over the steps at t + 1, is the sum over the steps at t of theta_t' x rho x(s_{t+1}), scaled so that
    the target's total probability is kept. Without a horizon one theta solves
    [sum x x' - discount sum rho x(s') x'] theta = sum x(s_0). For one-hot x both are `TabularRatio`. A ratio may turn negative.

    Args:
        features: maps observations (M, ...) to x (M, d); None is the data's own features. An intercept is added.
        ridge: penalty on the coefficients of standardised features, as a share of the rows' total weight.

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
        """(M,) m under row weights (M,)."""
        if self.problem.horizon is None:
            self.problem.target.times(None)
            return self._stationary(weights, ratios) * ratios
        return self._by_time(weights, ratios) * ratios * self.problem.discount**self.problem.steps.time

    def _gram(self, rows: Ints | slice, weights: Floats) -> Floats:
        x, own = self._x[rows], weights[rows]
        penalty = np.full(x.shape[1], self._ridge * own.sum())
        penalty[0] = 0.0
        return np.asarray((x * own[:, None]).T @ x + np.diag(penalty))

    def _by_time(self, weights: Floats, ratios: Floats) -> Floats:
        state = np.empty(len(weights))
        state[self._times[0]] = 1.0
        for rows, following in zip(self._times, self._times[1:], strict=False):
            there = weights[rows] * state[rows]
            flow = _scale(there, ratios[rows]) * there * ratios[rows]
            state[following] = self._x[following] @ _solution(self._gram(following, weights), flow @ self._x_next[rows])
        return state

    def _stationary(self, weights: Floats, ratios: Floats) -> Floats:
        steps = self.problem.steps
        gram = self._gram(slice(None), weights)
        moves = self.problem.discount * (self._x_next * (weights * ratios)[:, None]).T @ self._x
        start = weights[steps.first] @ self._x[steps.first]
        scale, change = 1.0, np.inf
        for _ in range(_MAX_ITERATIONS):
            system = gram - scale * moves
            theta = _solution(system, start)
            state = self._x @ theta
            updated = _scale(weights * state, ratios)
            scale, change = updated, abs(updated - scale)
            if change <= _TOLERANCE:
                break
        if change > _TOLERANCE or np.abs(system @ theta - start).max() > 1e-8 * np.abs(start).max():
            raise EstimandError(
                "ratio: LinearRatio() has no stationary solution here: at discount 1 the process must end in the data. Pass a "
                "horizon, or a discount below 1."
            )
        return np.asarray(state)


def _scale(mass: Floats, ratios: Floats) -> float:
    """What keeps the total mass: see `conserving_scale`."""
    flow = float(mass @ ratios)
    return float(mass.sum()) / flow if flow != 0 else 1.0


def _solution(system: Floats, right: Floats) -> Floats:
    """The smallest solution."""
    return np.asarray(np.linalg.lstsq(system, right, rcond=_RANK)[0])


@dataclass(frozen=True, eq=False)
class _Refit:
    """Mean of sum m r under each row of trajectory weights."""

    system: _System

    def __call__(self, weights: Floats, propensities: Floats) -> Floats:
        problem, out = self.system.problem, np.empty(len(weights))
        for b, of_trajectory in enumerate(weights):
            own = of_trajectory[problem.steps.trajectory]
            logged = propensities[min(b, len(propensities) - 1)]
            ratios = np.divide(problem.numerators, logged, out=np.zeros(len(own)), where=own > 0)
            out[b] = np.sum(own * self.system.weights(own, ratios) * problem.steps.rewards) / of_trajectory.sum()
        return out
