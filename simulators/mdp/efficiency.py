"""Exact efficiency bounds of off-policy evaluation over a finite horizon: pure functions of `Dynamics` and arrays.

`terminal` (S,) flags states that earn nothing and go nowhere; policies are tables (1, S, A) or (H, S, A).
Source: Kallus & Uehara (2020), Double reinforcement learning for efficient off-policy evaluation in Markov decision
processes, Journal of Machine Learning Research 21(167): the bound without the Markov property and the one with it. At H = 1 both
are that of Hahn (1998), Econometrica 66.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causalrl.checks import Bools, Floats, one_of
from causalrl.errors import EstimandError, WeightOverflowError
from simulators.mdp.dynamics import Dynamics
from simulators.mdp.planning import forward_visits
from simulators.mdp.returns import check_process, residual_variances, start_variance, state_values, transition_variance


def efficiency_bound(
    dynamics: Dynamics,
    terminal: Bools,
    initial: Floats,
    target: Floats,
    behavior: Floats,
    horizon: int,
    discount: float,
    model: str,
    reward_variance: float = 0.0,
) -> float:
    """Smallest asymptotic variance, per trajectory, of any regular estimator of the target's value in a model.

    An efficient estimator from n trajectories has variance bound / n to first order as n grows; this is no lower limit for a
    finite sample. With V, Q the target's values, d_t and b_t the laws of live states under target and behaviour, pi and b
    their action probabilities, rho = pi / b, and res_t(s, a) = Var(r + discount V_{t+1}(s') | s, a), the bound is
    Var(V_0(s_0)) plus

    - "history", transitions and rewards may depend on the whole past: sum_t discount^2t E_b[rho_{0:t}^2 res_t];
    - "markov", they depend on the present state and action, and on t: sum_t discount^2t E_b[(d_t / b_t rho)^2 res_t];
    - "homogeneous", nor on t: sum over (s, a) of
      Var(sum_t discount^t d_t(s) pi_t(a|s) (r + discount V_{t+1}(s')) | s, a) / sum_t b_t(s) b_t(a|s).

    Each model contains the next, so the bounds fall in this order. Knowing the behaviour policy changes none of them.
    The first two are the bounds of Kallus & Uehara (2020); the third is the Cramer-Rao bound of a multinomial model with
    transitions known not to depend on t, which a tabular model pooled over t attains.

    Args:
        dynamics: of S states and A actions.
        terminal: (S,) flags.
        initial: (S,) start distribution, 0 at terminal states.
        target: (1, S, A) or (H, S, A) policy that is evaluated.
        behavior: (1, S, A) or (H, S, A) policy that made the data.
        horizon: H, at least 1.
        discount: in [0, 1].
        model: "history", "markov" or "homogeneous".
        reward_variance: of independent Gaussian noise added to every reward, in squared units of reward.

    Returns:
        the variance in squared units of reward; `inf`, where no regular estimator exists, if the target has mass on a live
        (state, action) at a time t with discount^t > 0 at which (for "homogeneous": at any time) the behaviour never takes it.

    Raises:
        EstimandError: for another model, or a horizon or discount out of range.
        DataError: for a negative reward variance.
        WeightOverflowError: where a second moment of the weights exceeds the largest float.

    Example:
        >>> import numpy as np
        >>> cure = Dynamics.from_dense([[[0.5, 0.5], [0.2, 0.8]], [[0, 1], [0, 1]]], [0.0, 1.0])
        >>> treat, coin = np.array([[[0.0, 1.0]] * 2]), np.full((1, 2, 2), 0.5)
        >>> round(efficiency_bound(cure, np.array([False, True]), np.array([1.0, 0.0]), treat, coin, 1, 1.0, "markov"), 12)
        0.32
    """
    discount = check_process(horizon, discount, reward_variance)
    one_of("model", model, _UNCERTAINTY, EstimandError)
    values = state_values(dynamics, terminal, target, horizon, discount)
    problem = _Problem(dynamics, terminal, initial, target, behavior, values, discount, reward_variance)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # _total refuses what is not finite
        return start_variance(initial, values[0]) + _UNCERTAINTY[model](problem)


@dataclass(frozen=True, eq=False)
class _Problem:
    """The arguments of `efficiency_bound`, and the values (H + 1, S) of the target."""

    dynamics: Dynamics
    terminal: Bools
    initial: Floats
    target: Floats
    behavior: Floats
    values: Floats
    discount: float
    reward_variance: float

    def visits(self, tables: Floats, discount: float) -> Floats:
        """(H, S, A) discount^t P(s_t = s, a_t = a, live), or the same recursion with tables that are no probabilities."""
        return forward_visits(self.dynamics, self.terminal, self.initial, tables, len(self.values) - 1, discount)

    def residual_variances(self) -> Floats:
        """(H, S, A) res_t."""
        return residual_variances(self.dynamics, self.terminal, self.values, self.discount, self.reward_variance)


def _history(problem: _Problem) -> float:
    """sum_t discount^2t E_b[rho_{0:t}^2 res_t]; pi rho in place of pi turns the law of states into second moments."""
    if _uncovered(problem.visits(problem.target, problem.discount), problem.behavior):
        return np.inf
    covered = np.where(problem.behavior > 0, problem.target, 0.0)
    moments = problem.visits(covered * _ratio(covered, problem.behavior), problem.discount**2)
    return _total(moments * problem.residual_variances())


def _markov(problem: _Problem) -> float:
    """sum_t discount^2t E_b[(d_t / b_t rho)^2 res_t]."""
    visits = problem.visits(problem.target, problem.discount)
    if _uncovered(visits, problem.behavior):
        return np.inf
    return _total(visits * _ratio(visits, problem.visits(problem.behavior, 1.0)) * problem.residual_variances())


def _homogeneous(problem: _Problem) -> float:
    """For each (s, a), the variance of the value's derivative by its transition law over the expected number of visits."""
    visits, logged = problem.visits(problem.target, problem.discount), problem.visits(problem.behavior, 1.0).sum(axis=0)
    total = visits.sum(axis=0)
    if _uncovered(total, logged):
        return np.inf
    successors, row_lengths = problem.dynamics.successors, np.diff(problem.dynamics.indptr)
    derivative = np.repeat(total.reshape(-1), row_lengths) * problem.dynamics.rewards
    for visit, after in zip(visits, problem.values[1:], strict=True):
        derivative += np.repeat(visit.reshape(-1), row_lengths) * problem.discount * after[successors]
    return _total(_ratio(transition_variance(problem.dynamics, derivative) + problem.reward_variance * total**2, logged))


_UNCERTAINTY: dict[str, Callable[[_Problem], float]] = {
    "history": _history,
    "markov": _markov,
    "homogeneous": _homogeneous,
}
"""What each model adds to the variance of the start."""


def _uncovered(needed: Floats, logged: Floats) -> bool:
    """Whether the target needs a cell that the behaviour never takes."""
    return bool(((needed > 0) & (logged == 0)).any())


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """numerator / denominator, 0 where the numerator is."""
    out = np.zeros(np.broadcast_shapes(numerator.shape, denominator.shape))
    return np.divide(numerator, denominator, out=out, where=numerator > 0)


def _total(terms: Floats) -> float:
    if not np.isfinite(terms).all():
        raise WeightOverflowError(
            "efficiency_bound: a second moment of the weights exceeds the largest float. Shorten the horizon, take a target "
            "closer to the behaviour, or a model that pools more: 'markov' or 'homogeneous'."
        )
    return float(terms.sum())
