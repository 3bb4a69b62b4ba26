"""Exact dynamic programming on a finite Markov decision process: pure functions of `Dynamics` and arrays.

S states, A actions; `terminal` (S,) flags states that earn nothing and go nowhere; a policy is a table (S, A).
Source: Puterman (1994), Markov Decision Processes, chapters 4 (finite horizon), 6 (discounted) and 7 (total reward).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import spsolve

from causalrl.checks import Bools, Floats, Ints
from causalrl.errors import EstimandError
from simulators.mdp.dynamics import Dynamics

TIE = 1e-10
"""Actions whose values differ by less (relative to 1 + |value|) are tied; the lowest index wins."""

DENSE_STATES = 4000
"""Up to this many live states a dense solve is faster than a sparse one."""


def transition_matrix(dynamics: Dynamics, table: Floats) -> Any:
    """(S, S) transitions under a policy: P(s, s') = sum over a of pi(a | s) p(s' | s, a)."""
    rows, width = table.size, table.shape[1]
    weights = csr_array((table.reshape(-1), np.arange(rows), np.arange(0, rows + 1, width)), shape=(len(table), rows))
    return weights @ dynamics.matrix


def backup(dynamics: Dynamics, terminal: Bools, values: Floats, discount: float) -> Floats:
    """(S, A) q(s, a) = r(s, a) + discount sum over s' of p(s' | s, a) v(s'); 0 in terminal states, where v is 0 too."""
    q: Floats = dynamics.mean_rewards + discount * (dynamics.matrix @ values).reshape(dynamics.mean_rewards.shape)
    q[terminal] = 0.0
    return q


def backward_q(dynamics: Dynamics, terminal: Bools, tables: Floats, horizon: int, discount: float) -> Iterator[Floats]:
    """q_t (S, A) for t = horizon - 1 down to 0, under tables (1, S, A) or (horizon, S, A)."""
    values = np.zeros(dynamics.n_states)
    for t in reversed(range(horizon)):
        q = backup(dynamics, terminal, values, discount)
        yield q
        values = (tables[t if len(tables) > 1 else 0] * q).sum(axis=1)


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
        visits[t] = states[:, None] * tables[t if len(tables) > 1 else 0]
        states = np.where(terminal, 0.0, discount * (dynamics.matrix.T @ visits[t].reshape(-1)))
    return visits


def reachable(dynamics: Dynamics, terminal: Bools, initial: Floats, table: Floats) -> Bools:
    """(S,) live states that the policy visits."""
    forward = transition_matrix(dynamics, table).T
    seen = np.zeros(len(terminal), bool)
    frontier = (initial > 0) & ~terminal
    while frontier.any():
        seen |= frontier
        frontier = (forward @ frontier.astype(float) > 0) & ~seen & ~terminal
    return seen


def never_ending(dynamics: Dynamics, terminal: Bools, table: Floats) -> Bools:
    """(S,) states from which the policy cannot reach a terminal state."""
    step = transition_matrix(dynamics, table)
    ends, count = terminal, -1
    while count != ends.sum():
        count = ends.sum()
        ends = ends | (step @ ends.astype(float) > 0)
    return ~ends


def require_end(dynamics: Dynamics, terminal: Bools, table: Floats, states: Bools, policy: object) -> None:
    """A total over all time, undiscounted, needs a policy that ends from each of these states.

    Raises:
        EstimandError: naming a state from which it does not.
    """
    stuck = states & never_ending(dynamics, terminal, table)
    if stuck.any():
        raise EstimandError(
            f"horizon: from state {np.flatnonzero(stuck)[0]} the process never ends under {policy}, so "
            "discount 1 needs one; pass horizon=H, or a discount below 1, or flag a sink as terminal."
        )


def lowest_best(q: Floats) -> Ints:
    """(S,) lowest index among the tied best actions."""
    return np.asarray(np.argmax(_best(q), axis=1))


def one_hot(actions: Ints, n_actions: int) -> Floats:
    """(S, A) table of a deterministic policy."""
    return np.eye(n_actions)[actions]


def optimal_tables(dynamics: Dynamics, terminal: Bools, horizon: int, discount: float) -> Floats:
    """(H, S, A) best policy of a finite horizon, by backward induction."""
    tables = np.empty((horizon, dynamics.n_states, dynamics.n_actions))
    values = np.zeros(dynamics.n_states)
    for t in reversed(range(horizon)):
        q = backup(dynamics, terminal, values, discount)
        tables[t], values = one_hot(lowest_best(q), dynamics.n_actions), q.max(axis=1)
    return tables


def optimal_table(dynamics: Dynamics, terminal: Bools, discount: float) -> Floats:
    """(S, A) best stationary policy, by policy iteration from the uniform one.

    An action changes only where that is strictly better: so at discount 1, where values exist only for policies that
    end, every iterate ends if the first does.

    Raises:
        EstimandError: at discount 1, for a state that cannot reach the end or a total reward without bound.
    """
    table = np.full((dynamics.n_states, dynamics.n_actions), 1.0 / dynamics.n_actions)
    while True:
        if discount == 1:
            _require_end(dynamics, terminal, table)
        values = stationary_values(dynamics, table, ~terminal, discount)
        q = backup(dynamics, terminal, values, discount)
        better = q.max(axis=1) > values + TIE * (1 + np.abs(values))
        if not better.any():
            break
        table[better] = one_hot(lowest_best(q[better]), dynamics.n_actions)
    greedy = one_hot(lowest_best(q), dynamics.n_actions)
    if discount < 1 or not never_ending(dynamics, terminal, greedy).any():
        return greedy
    return one_hot(_ending_best(dynamics, terminal, q), dynamics.n_actions)


def _ending_best(dynamics: Dynamics, terminal: Bools, q: Floats) -> Ints:
    """(S,) lowest tied best action that brings the end nearer, where the lowest of all would circle for ever."""
    best, ends, actions = _best(q), terminal, np.zeros(len(q), np.int64)
    while not ends.all():
        nearer = best & ((dynamics.matrix @ ends.astype(float)) > 0).reshape(q.shape) & ~ends[:, None]
        chosen = nearer.any(axis=1)
        actions[chosen] = np.argmax(nearer[chosen], axis=1)
        ends = ends | chosen
    return actions


def _best(q: Floats) -> Bools:
    top = q.max(axis=1, keepdims=True)
    return np.asarray(q >= top - TIE * (1 + np.abs(top)))


def _require_end(dynamics: Dynamics, terminal: Bools, table: Floats) -> None:
    stuck = never_ending(dynamics, terminal, table)
    if stuck.any():
        raise EstimandError(
            f"optimal_policy: from state {np.flatnonzero(stuck)[0]} the process never ends, or not under the best "
            "policy, so discount 1 needs a horizon; pass horizon=H or a discount below 1, or flag a sink as terminal."
        )


def _solve(step: Any, right: Floats, discount: float) -> Floats:
    """x = right + discount step x."""
    if len(right) > DENSE_STATES:
        return np.asarray(spsolve((eye_array(len(right)) - discount * step).tocsc(), right))
    return np.linalg.solve(np.eye(len(right)) - discount * step.toarray(), right)
