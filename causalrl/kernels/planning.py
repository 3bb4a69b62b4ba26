"""Dynamic programming on a sparse Markov decision process: pure functions of arrays.

N states, A actions; `matrix` (N * A, N) holds the transition law of row s * A + a, `rewards` (N, A) the mean reward of a
decision; `terminal` (N,) flags states that earn nothing and go nowhere.
Source: Puterman (1994), Markov Decision Processes, chapters 6 (discounted) and 7 (total reward).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import csr_array, eye_array
from scipy.sparse.linalg import spsolve

from causalrl.checks import Bools, Floats, Ints, first_bad
from causalrl.errors import EstimandError

TIE = 1e-10
"""Actions whose values differ by less (relative to 1 + |value|) are tied; the lowest index wins."""

DENSE_STATES = 1500
"""Up to this many live states a dense solve is faster than a sparse one."""


def transition_matrix(matrix: Any, table: Floats) -> Any:
    """(N, N) transitions under a policy: P(s, s') = sum over a of pi(a | s) p(s' | s, a)."""
    n_states, n_actions = table.shape
    indptr = np.arange(0, table.size + 1, n_actions)
    return csr_array((table.reshape(-1), np.arange(table.size), indptr), shape=(n_states, table.size)) @ matrix


def backup(matrix: Any, rewards: Floats, terminal: Bools, values: Floats, discount: float) -> Floats:
    """(N, A) q(s, a) = r(s, a) + discount sum over s' of p(s' | s, a) v(s'); 0 in terminal states, where v is 0 too."""
    q: Floats = rewards + discount * (matrix @ values).reshape(rewards.shape)
    q[terminal] = 0.0
    return q


def stationary_values(matrix: Any, rewards: Floats, terminal: Bools, table: Floats, discount: float) -> Floats:
    """(N,) v = r + discount P v, by a linear solve; 0 in terminal states.

    Undiscounted, the process must end, or come to states that earn nothing any more.

    Raises:
        EstimandError: naming a state from which an undiscounted process neither ends nor comes to rest.
    """
    values = np.zeros(len(terminal))
    step = transition_matrix(matrix, table)
    earned = (table * rewards).sum(axis=1)
    ends = terminal
    if discount == 1:
        ends = terminal | never_reaching(step, (earned != 0) & ~terminal)
        endless = never_reaching(step, ends)
        if endless.any():
            raise EstimandError(
                f"discount: from state {first_bad(endless)} the learned process never ends and keeps paying, so that its "
                "undiscounted value does not exist; pass horizon=H, or a discount below 1."
            )
    live = ~ends
    if live.any():
        values[live] = _solve(step[live][:, live], earned[live], discount)
    return values


def policy_iteration(
    matrix: Any, rewards: Floats, terminal: Bools, allowed: Bools, discount: float
) -> Iterator[tuple[Floats, int]]:
    """(N, A) q of each policy on the way to the best one, and in how many states the policy then changes; discount below 1.

    Starts from the uniform policy on the `allowed` (N, A) actions; an action changes only where that is strictly better.
    """
    table = allowed / allowed.sum(axis=1, keepdims=True)
    while True:
        values = stationary_values(matrix, rewards, terminal, table, discount)
        q = backup(matrix, rewards, terminal, values, discount)
        better = np.where(allowed, q, -np.inf).max(axis=1) > values + TIE * (1 + np.abs(values))
        yield q, int(better.sum())
        if not better.any():
            return
        table[better] = np.eye(rewards.shape[1])[lowest_best(q[better], allowed[better])]


def lowest_best(q: Floats, allowed: Bools) -> Ints:
    """(K,) lowest index among the tied best of the allowed actions (K, A)."""
    return np.asarray(np.argmax(tied_best(np.where(allowed, q, -np.inf)), axis=1))


def tied_best(q: Floats) -> Bools:
    """(K, A) actions whose value is the best, or tied with it."""
    top = q.max(axis=1, keepdims=True)
    return np.asarray(q >= top - TIE * (1 + np.abs(top)))


def never_reaching(step: Any, goal: Bools) -> Bools:
    """(N,) states from which no state of the goal can be reached."""
    reached, count = goal, -1
    while count != reached.sum():
        count = reached.sum()
        reached = reached | (step @ reached.astype(float) > 0)
    return ~reached


def _solve(step: Any, right: Floats, discount: float) -> Floats:
    """x = right + discount step x."""
    if len(right) > DENSE_STATES:
        return np.asarray(spsolve((eye_array(len(right)) - discount * step).tocsc(), right))
    return np.linalg.solve(np.eye(len(right)) - discount * step.toarray(), right)
