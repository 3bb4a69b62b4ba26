"""Linear fitted Q-evaluation in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints
from causalrl.errors import DataError, EstimandError
from causalrl.kernels.linear import finite_horizon_linear_q, refit_linear_start_values, stationary_linear_q
from causalrl.nuisances.value import QFunction, StartRefit, ValueProblem

Features = Callable[[NDArray[Any]], Floats]


@dataclass(frozen=True)
class LinearQ:
    """Q(s, a) = theta_a' x(s), least squares: regression for a finite horizon, else LSTD-Q (Lagoudakis & Parr 2003).

    Args:
        features: maps observations (M, ...) to x (M, d); None is the data's own features. An intercept is added.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> x = np.array([[0.0], [1.0], [0.0], [1.0]])
        >>> study = crl.Trajectories.from_cross_section(x, [0, 0, 1, 1], [0.0, 1.0, 2.0, 4.0])
        >>> round(crl.GFormula(crl.LinearQ()).estimate(study, crl.ATE()).value, 6)
        2.5
    """

    features: Features | None = None
    default_folds: int = field(default=1, init=False, repr=False)
    known: bool = field(default=False, init=False, repr=False)

    def fit(self, problem: ValueProblem) -> QFunction:
        steps = problem.steps
        basis = _Basis(self.features, problem)
        common = (
            basis.at(steps.observations),
            steps.actions,
            steps.rewards,
            steps.continues,
            steps.known,
            basis.at(steps.next_observations),
        )
        actions, horizon = steps.data.n_actions, _horizon(problem)
        policy = problem.target.all_next(horizon)
        _require_logged(problem, policy)
        if horizon is None:
            theta = stationary_linear_q(*common, policy[0], problem.weights, actions, problem.discount)[None]
            if np.isnan(theta).all():
                raise EstimandError(
                    "q: least-squares temporal differences have no fixed point here: at discount 1 the process must end, and the "
                    "target may take logged actions only. Pass a horizon, a discount below 1, or another target."
                )
        else:
            theta = finite_horizon_linear_q(*common, policy, problem.weights, actions, horizon, problem.discount)
        return _LinearQFunction(basis, theta)

    def start_refit(self, problem: ValueProblem) -> StartRefit:
        steps = problem.steps
        basis = _Basis(self.features, problem)
        return partial(
            refit_linear_start_values,
            basis.at(steps.observations),
            steps.actions,
            steps.rewards,
            steps.continues,
            steps.known,
            basis.at(steps.next_observations),
            problem.target.all_next(_horizon(problem)),
            basis.at(steps.observations[steps.first]),
            problem.target.at_steps[steps.first],
            steps.trajectory,
            _horizon(problem) or 0,
            problem.discount,
        )


def _require_logged(problem: ValueProblem, next_policy: Floats) -> None:
    """Refuse a target whose next actions (1 or H, M, A) include one without a usable row: its Q would enter every target."""
    steps = problem.steps
    logged = np.bincount(steps.actions, problem.weights * steps.known, steps.data.n_actions) > 0
    taken = next_policy[:, problem.target.there].any(axis=(0, 1))
    unknown = np.flatnonzero(taken & ~logged)
    if problem.sequential and len(unknown):
        raise EstimandError(
            f"q: no logged decision shows action {unknown[0]}, which the target takes. Use a target within the logged actions, "
            "or a model that pools actions (Pooled, TabularQ)."
        )


def _horizon(problem: ValueProblem) -> int | None:
    """That of the estimand; 1 where no step has a future, so that the fit is a plain regression."""
    return problem.horizon if problem.sequential else 1


class _Basis:
    """Intercept and standardised features: the fit is the same, its normal equations are well conditioned."""

    def __init__(self, features: Features | None, problem: ValueProblem) -> None:
        self._features = problem.steps.data.features if features is None else features
        raw = self._raw(problem.steps.observations)
        self._center = raw.mean(axis=0)
        spread = raw.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)

    def _raw(self, observations: NDArray[Any]) -> Floats:
        raw = np.asarray(self._features(observations), dtype=np.float64)
        if raw.ndim != 2 or len(raw) != len(observations):
            raise DataError(
                f"features: gave shape {raw.shape} for {len(observations)} observations, expected ({len(observations)}, d)."
            )
        return raw

    def at(self, observations: NDArray[Any]) -> Floats:
        """(M, 1 + d)."""
        return np.column_stack([np.ones(len(observations)), (self._raw(observations) - self._center) / self._scale])


@dataclass(frozen=True, eq=False)
class _LinearQFunction(QFunction):
    basis: _Basis
    coefficients: Floats

    def q(self, observations: NDArray[Any], time: Ints) -> Floats:
        theta = self.coefficients[np.minimum(time, len(self.coefficients) - 1)]
        return np.asarray(np.einsum("md,mad->ma", self.basis.at(observations), theta))
