"""Linear fitted Q-evaluation in closed form."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints, number, optional_function
from causalrl.errors import EstimandError
from causalrl.kernels.linear import finite_horizon_linear_q, refit_linear_start_values, stationary_linear_q
from causalrl.nuisances.features import Features, Standardized
from causalrl.nuisances.value import QFunction, StartRefit, ValueProblem, distinct


@dataclass(frozen=True)
class LinearQ:
    """Q(s, a) = theta_a' x(s) by least squares: regression for a finite horizon, else LSTD-Q (Lagoudakis & Parr 2003).

    With a ridge every regression minimises mean squared error + ridge * sum of theta^2 over all actions, the means over all
    decisions it learns from, and the coefficients, but for the intercepts, those of features with standard deviation 1: at
    horizon 1 scikit-learn's `Ridge(alpha=ridge * n)` on the n_a decisions of each action. Duplicated data have the same fit.
    Without a horizon it is the fixed point of that regression (Kolter & Ng 2009).

    Args:
        features: maps observations (M, ...) to x (M, d); None is the data's own features. An intercept is added.
        ridge: penalty, at least 0.

    Raises:
        EstimandError: for a negative ridge; from `fit`, where there is no fixed point, or where the target takes an action that
            was never logged.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> x = np.array([[0.0], [1.0], [0.0], [1.0]])
        >>> study = crl.Trajectories.from_cross_section(x, [0, 0, 1, 1], [0.0, 1.0, 2.0, 4.0])
        >>> round(crl.GFormula(crl.LinearQ()).estimate(study, crl.ATE()).value, 6)
        2.5
        >>> crl.DirectMethod(crl.LinearQ(ridge=0.5)).estimate(study, lambda x, t: np.column_stack([1 - x, x])).value  # was 2.0
        1.875
    """

    features: Features | None = None
    ridge: float = 0.0
    default_folds: int = field(default=1, init=False, repr=False)
    known: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        optional_function("features", self.features, EstimandError)
        number("ridge", self.ridge, 0, error=EstimandError)

    def fit(self, problem: ValueProblem) -> QFunction:
        design = _Design(self.features, problem)
        require_logged(problem, design.next_policy)
        actions, horizon, rest = problem.steps.data.n_actions, effective_horizon(problem), (problem.discount, float(self.ridge))
        if horizon is not None:
            theta = finite_horizon_linear_q(*design.rows, *design.ahead, problem.weights, actions, horizon, *rest)
            return _LinearQFunction(design.basis, theta)
        rows, (following, points, policy) = design.rows, design.ahead
        theta = stationary_linear_q(*rows, following, points, policy[0], problem.weights, actions, *rest)[None]
        if np.isnan(theta).all():
            raise EstimandError(
                "q: least-squares temporal differences have no fixed point here: at discount 1 the process must end, and the "
                "target may take logged actions only. Pass a horizon, a discount below 1, or another target."
            )
        return _LinearQFunction(design.basis, theta)

    def start_refit(self, problem: ValueProblem) -> StartRefit:
        steps, design = problem.steps, _Design(self.features, problem)
        return partial(
            refit_linear_start_values,
            *design.rows,
            *design.ahead,
            design.basis.with_intercept(steps.observations[steps.first]),
            problem.target.at_rows(steps.first),
            steps.trajectory,
            effective_horizon(problem) or 0,
            problem.discount,
            float(self.ridge),
        )


class _Design:
    """What the regressions of a value problem run on.

    Attributes:
        basis: features of observations.
        rows: features (M, 1 + d), actions, rewards, and whether the successor is known (M,).
        ahead: the point (M,) that follows each step, -1 where none counts, features (C, 1 + d) of the points and the target's
            probabilities there; a state is one point, however often it follows.
    """

    def __init__(self, features: Features | None, problem: ValueProblem) -> None:
        steps, target = problem.steps, problem.target
        self.basis = steps.once(("linear", features), lambda: Standardized(features, steps))
        self.rows = self.basis.with_intercept(steps.observations), steps.actions, steps.rewards, steps.known
        there = target.there if problem.sequential else np.zeros(len(steps), np.bool_)
        points, place = distinct(steps.next_observations[there])
        following = np.full(len(steps), -1)
        following[there] = place
        self.next_policy = target.all_at(points, effective_horizon(problem))
        self.ahead = following, self.basis.with_intercept(points), self.next_policy


def require_logged(problem: ValueProblem, next_policy: Floats) -> None:
    """Refuse a target whose next actions (., K, A) include one without a usable row: its Q would enter every target."""
    steps = problem.steps
    logged = np.bincount(steps.actions, problem.weights * steps.known, steps.data.n_actions) > 0
    unknown = np.flatnonzero(next_policy.any(axis=(0, 1)) & ~logged)
    if problem.sequential and len(unknown):
        raise EstimandError(
            f"q: no logged decision shows action {unknown[0]}, which the target takes. Use a target within the logged actions, "
            "or a model that pools actions (Pooled, TabularQ)."
        )


def effective_horizon(problem: ValueProblem) -> int | None:
    """That of the estimand; 1 where no step has a future, so that the fit is a plain regression."""
    return problem.horizon if problem.sequential else 1


@dataclass(frozen=True, eq=False)
class _LinearQFunction(QFunction):
    basis: Standardized
    coefficients: Floats

    def q(self, observations: NDArray[Any], time: Ints) -> Floats:
        theta = self.coefficients[np.minimum(time, len(self.coefficients) - 1)]
        return np.asarray(np.einsum("md,mad->ma", self.basis.with_intercept(observations), theta))
