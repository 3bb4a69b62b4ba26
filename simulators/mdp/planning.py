"""Exact dynamic programming on a finite Markov decision process: pure functions of `Dynamics` and arrays.

S states, A actions; `terminal` (S,) flags states that earn nothing and go nowhere; a policy is a table (S, A).
Source: Puterman (1994), Markov Decision Processes, chapters 4 (finite horizon), 6 (discounted) and 7 (total reward).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import eye_array
from scipy.sparse.linalg import MatrixRankWarning, spsolve

from causalrl.checks import Bools, Floats, Ints
from causalrl.errors import EstimandError
from causalrl.kernels import planning
from causalrl.kernels.planning import TIE, never_reaching, tied_best
from simulators.checks import LONGEST_WAIT
from simulators.mdp.dynamics import Dynamics

DENSE_STATES = 4000
"""Up to this many live states a dense solve is faster than a sparse one."""

MOST_STEPS = 1e10
"""Sums over all time are refused beyond: rounded to 16 digits, the probabilities no longer tell how long a process goes on."""

FEW_STEPS = 8
"""Steps after which the length of a process is bounded before it is computed."""


def transition_matrix(dynamics: Dynamics, table: Floats) -> Any:
    """(S, S) transitions under a policy."""
    return planning.transition_matrix(dynamics.matrix, table)


def backup(dynamics: Dynamics, terminal: Bools, values: Floats, discount: float) -> Floats:
    """(S, A) q of one step and then `values` (S,)."""
    return planning.backup(dynamics.matrix, dynamics.mean_rewards, terminal, values, discount)


def at_time(tables: Floats, t: int) -> Floats:
    """(S, A) the table of time t of a policy (1, S, A) or (H, S, A)."""
    table: Floats = tables[t if len(tables) > 1 else 0]
    return table


def backward_q(dynamics: Dynamics, terminal: Bools, tables: Floats, horizon: int, discount: float) -> Iterator[Floats]:
    """q_t (S, A) for t = horizon - 1 down to 0, under tables (1, S, A) or (horizon, S, A)."""
    values = np.zeros(dynamics.n_states)
    for t in reversed(range(horizon)):
        q = backup(dynamics, terminal, values, discount)
        yield q
        values = (at_time(tables, t) * q).sum(axis=1)


def q_values(dynamics: Dynamics, terminal: Bools, tables: Floats, horizon: int, discount: float) -> Floats:
    """(H, S, A) q_t, first axis the time."""
    return np.stack([*backward_q(dynamics, terminal, tables, horizon, discount)][::-1])


def stationary_values(dynamics: Dynamics, table: Floats, states: Bools, discount: float) -> Floats:
    """(S,) v = r + discount P v on `states`, a set of live states closed under the policy; 0 elsewhere."""
    values = np.zeros(len(states))
    rewards = (table * dynamics.mean_rewards).sum(axis=1)
    values[states] = _solve(transition_matrix(dynamics, table)[states][:, states], rewards[states], discount)
    return values


def stationary_visits(dynamics: Dynamics, table: Floats, initial: Floats, states: Bools, discount: float) -> Floats:
    """(S,) expected discounted number of visits, d = initial + discount P' d, on `states` as above; 0 elsewhere."""
    visits = np.zeros(len(states))
    visits[states] = _solve(transition_matrix(dynamics, table)[states][:, states].T, initial[states], discount)
    return visits


def forward_visits(dynamics: Dynamics, terminal: Bools, initial: Floats, tables: Floats, horizon: int, discount: float) -> Floats:
    """(H, S, A) discount^t P(s_t = s, a_t = a, not ended)."""
    visits = np.empty((horizon, dynamics.n_states, dynamics.n_actions))
    states = np.where(terminal, 0.0, initial)
    for t in range(horizon):
        visits[t] = states[:, None] * at_time(tables, t)
        states = np.where(terminal, 0.0, discount * (dynamics.matrix.T @ visits[t].reshape(-1)))
    return visits


def visited(dynamics: Dynamics, terminal: Bools, initial: Floats, table: Floats, discount: float, policy: object) -> Bools:
    """(S,) live states that the policy visits; undiscounted, it must end from each of them.

    Raises:
        EstimandError: naming a state from which it does not.
    """
    step = transition_matrix(dynamics, table)
    states = _reachable(step, terminal, initial)
    if discount == 1:
        _require_end(step, terminal, states, policy)
    return states


def require_end(dynamics: Dynamics, terminal: Bools, table: Floats, policy: object) -> None:
    """A total over all time, undiscounted, from any live state needs a policy that ends.

    Raises:
        EstimandError: naming a state from which it does not.
    """
    _require_end(transition_matrix(dynamics, table), terminal, ~terminal, policy)


def require_short(dynamics: Dynamics, terminal: Bools, initial: Floats, table: Floats, policy: object) -> None:
    """Sampling without a horizon needs trajectories whose end can be waited for.

    A process that goes on for m more steps with probability p at most, whatever the state, has an expected length of
    m / (1 - p) at most; only where that says too little is the length computed.

    Raises:
        EstimandError: for a policy that never ends, or only after more than 10^7 steps on average.
    """
    step = transition_matrix(dynamics, table)
    states = _reachable(step, terminal, initial)
    _require_end(step, terminal, states, policy)
    goes_on = states.astype(float)
    for _ in range(FEW_STEPS):
        goes_on = states * (step @ goes_on)
    if LONGEST_WAIT * (1 - goes_on.max()) >= FEW_STEPS:
        return
    length = stationary_visits(dynamics, table, initial, states, 1.0).sum()
    if length > LONGEST_WAIT:
        raise EstimandError(
            f"horizon: under {policy} a trajectory has {length:.3g} steps on average, more than {LONGEST_WAIT}; pass horizon=H."
        )


def _reachable(step: Any, terminal: Bools, initial: Floats) -> Bools:
    """(S,) live states that are visited."""
    forward = step.T
    seen = np.zeros(len(terminal), bool)
    frontier = (initial > 0) & ~terminal
    while frontier.any():
        seen |= frontier
        frontier = (forward @ frontier.astype(float) > 0) & ~seen & ~terminal
    return seen


def _require_end(step: Any, terminal: Bools, states: Bools, policy: object) -> None:
    stuck = states & never_reaching(step, terminal)
    if stuck.any():
        raise EstimandError(
            f"horizon: from state {np.flatnonzero(stuck)[0]} the process never ends under {policy}, so "
            "discount 1 needs one; pass horizon=H, or a discount below 1, or flag a sink as terminal."
        )


def lowest_best(q: Floats) -> Ints:
    """(S,) lowest index among the tied best actions."""
    return np.asarray(np.argmax(tied_best(q), axis=1))


def one_hot(actions: Ints, n_actions: int) -> Floats:
    """(S, A) table of a deterministic policy."""
    return np.eye(n_actions)[actions]


def optimal_tables(dynamics: Dynamics, terminal: Bools, horizon: int, discount: float, forbidden: Bools | None = None) -> Floats:
    """(H, S, A) best policy of a finite horizon, by backward induction; `forbidden` (S, A) actions are never taken."""
    tables = np.empty((horizon, dynamics.n_states, dynamics.n_actions))
    values = np.zeros(dynamics.n_states)
    for t in reversed(range(horizon)):
        q = _of_allowed(backup(dynamics, terminal, values, discount), forbidden)
        tables[t], values = one_hot(lowest_best(q), dynamics.n_actions), q.max(axis=1)
    return tables


def optimal_table(dynamics: Dynamics, terminal: Bools, discount: float, forbidden: Bools | None = None) -> Floats:
    """(S, A) best stationary policy, by policy iteration from the uniform one; `forbidden` (S, A) actions are never taken.

    An action changes only where that is strictly better: so at discount 1, where values exist only for policies that
    end, every iterate ends if the first does.

    Raises:
        EstimandError: at discount 1, for a state that cannot reach the end or a total reward without bound.
    """
    allowed = np.ones((dynamics.n_states, dynamics.n_actions)) if forbidden is None else (~forbidden).astype(float)
    table = allowed / allowed.sum(axis=1, keepdims=True)
    while True:
        if discount == 1:
            _require_plan(transition_matrix(dynamics, table), terminal)
        values = stationary_values(dynamics, table, ~terminal, discount)
        q = _of_allowed(backup(dynamics, terminal, values, discount), forbidden)
        better = q.max(axis=1) > values + TIE * (1 + np.abs(values))
        if not better.any():
            break
        table[better] = one_hot(lowest_best(q[better]), dynamics.n_actions)
    greedy = one_hot(lowest_best(q), dynamics.n_actions)
    if discount < 1 or not never_reaching(transition_matrix(dynamics, greedy), terminal).any():
        return greedy
    return one_hot(_ending_best(dynamics, terminal, q), dynamics.n_actions)


def _of_allowed(q: Floats, forbidden: Bools | None) -> Floats:
    return q if forbidden is None else np.where(forbidden, -np.inf, q)


def _ending_best(dynamics: Dynamics, terminal: Bools, q: Floats) -> Ints:
    """(S,) lowest tied best action that brings the end nearer, where the lowest of all would circle for ever."""
    best, ends, actions = tied_best(q), terminal, np.zeros(len(q), np.int64)
    while not ends.all():
        nearer = best & ((dynamics.matrix @ ends.astype(float)) > 0).reshape(q.shape) & ~ends[:, None]
        chosen = nearer.any(axis=1)
        actions[chosen] = np.argmax(nearer[chosen], axis=1)
        ends = ends | chosen
    return actions


def _require_plan(step: Any, terminal: Bools) -> None:
    stuck = never_reaching(step, terminal)
    if stuck.any():
        raise EstimandError(
            f"optimal_policy: from state {np.flatnonzero(stuck)[0]} the process never ends, or not under the best "
            "policy, so discount 1 needs a horizon; pass horizon=H or a discount below 1, or flag a sink as terminal."
        )


def _solve(step: Any, right: Floats, discount: float) -> Floats:
    """x = right + discount step x.

    Raises:
        EstimandError: where the process goes on for too long, as far as the numbers tell.
    """
    try:
        if len(right) > DENSE_STATES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", MatrixRankWarning)
                solution = np.asarray(spsolve((eye_array(len(right)) - discount * step).tocsc(), right))
        else:
            solution = np.linalg.solve(np.eye(len(right)) - discount * step.toarray(), right)
    except np.linalg.LinAlgError:
        solution = np.full(len(right), np.nan)
    if not (np.abs(solution) <= MOST_STEPS * np.abs(right).sum()).all():
        raise EstimandError("horizon: the process practically never ends; pass horizon=H, or a smaller discount.")
    return solution
