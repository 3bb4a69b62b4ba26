"""Tabular counts and Bellman backups on the cells that occur, with a weight on every transition."""

from __future__ import annotations

import numba
import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel


@compiled
def weighted_counts(cells: Ints, weights: Floats, n_cells: int) -> Floats:
    """(n_cells,) total weight of the rows in each cell."""
    out = np.zeros(n_cells)
    for j in range(len(cells)):
        out[cells[j]] += weights[j]
    return out


@compiled
def backup(
    q: Floats,
    counts: Floats,
    sums: Floats,
    edge_cell: Ints,
    edge_next: Ints,
    edge_weight: Floats,
    next_value: Floats,
    discount: float,
    constant: float,
) -> None:
    """One Bellman backup, in place: q[c] = (sums[c] + discount sum over edges of weight V(s')) / counts[c].

    A never-seen (state, action) gets the count-weighted mean of the actions logged in that state, a never-seen state the
    mean over all transitions; a finite `constant` replaces both.

    Args:
        q: (S, A) overwritten. counts, sums: (S * A,) weight and weighted rewards of each cell.
        edge_cell, edge_next, edge_weight: (E,) distinct transitions that go on, as cell, next state and weight.
        next_value: (S,).
    """
    n_states, n_actions = q.shape
    flat, empty, n_empty = sums.copy(), np.empty(n_states, np.int64), 0
    for e in range(len(edge_cell)):
        flat[edge_cell[e]] += discount * edge_weight[e] * next_value[edge_next[e]]
    total, weight = 0.0, 0.0
    for s in range(n_states):
        state_total, state_weight = 0.0, 0.0
        for cell in range(s * n_actions, (s + 1) * n_actions):
            state_total += flat[cell]
            state_weight += counts[cell]
        if state_weight == 0.0:
            empty[n_empty] = s
            n_empty += 1
            continue
        total += state_total
        weight += state_weight
        unseen = constant if np.isfinite(constant) else state_total / state_weight
        for a in range(n_actions):
            cell = s * n_actions + a
            q[s, a] = flat[cell] / counts[cell] if counts[cell] > 0.0 else unseen
    overall = constant if np.isfinite(constant) else total / weight
    for s in empty[:n_empty]:
        q[s] = overall


@compiled
def expected_value(q: Floats, policy: Floats, out: Floats) -> float:
    """V(s) = sum_a pi(a|s) Q(s, a) into `out` (S,); returns the largest change."""
    change = 0.0
    for s in range(len(q)):
        value = 0.0
        for a in range(q.shape[1]):
            value += policy[s, a] * q[s, a]
        change = max(change, abs(value - out[s]))
        out[s] = value
    return change


@compiled
def slice_statistics(
    cells: Ints,
    rewards: Floats,
    edges: Ints,
    used: Bools,
    edge_cell: Ints,
    edge_next: Ints,
    weights: Floats,
    first: int,
    last: int,
    n_cells: int,
) -> tuple[Floats, Floats, Ints, Ints, Floats]:
    """Weight and weighted rewards (n_cells,) of the used rows first, ..., last - 1; cell, next state and weight of their edges.

    Args:
        edges: (M,) index of each row's distinct (cell, next state), -1 where the process ends.
    """
    counts, sums, edge_weight = np.zeros(n_cells), np.zeros(n_cells), np.zeros(len(edge_cell))
    for j in range(first, last):
        if used[j] and weights[j] > 0.0:
            counts[cells[j]] += weights[j]
            sums[cells[j]] += weights[j] * rewards[j]
            if edges[j] >= 0:
                edge_weight[edges[j]] += weights[j]
    met = np.flatnonzero(edge_weight)
    return counts, sums, edge_cell[met], edge_next[met], edge_weight[met]


@compiled
def finite_horizon_q(
    cells: Ints,
    rewards: Floats,
    edges: Ints,
    known: Bools,
    slices: Ints,
    edge_cell: Ints,
    edge_next: Ints,
    policy: Floats,
    weights: Floats,
    horizon: int,
    discount: float,
    constant: float,
    q: Floats,
    value: Floats,
) -> Floats:
    """Backward induction over t = H - 1, ..., 0; returns V_0 (S,) and leaves Q_t and V_t in layer min(t, last) of q and value.

    Rows are sorted into time slices: slice t holds the rows slices[t] to slices[t + 1] - 1, and a single slice pools all times.
    A row whose successor is not known tells about the last step only.

    Args:
        policy: (1, S, A) or (H, S, A). q: (H, S, A) to keep every step, or (1, S, A) scratch. value: (H, S) or (1, S) likewise.
    """
    n_states, n_actions = q.shape[1:]
    everything, pooled = np.ones(len(cells), np.bool_), len(slices) == 2
    once = pooled and known.all()
    following = np.zeros(n_states)
    counts, sums, weight = np.zeros(0), np.zeros(0), np.zeros(0)
    start, end = edge_cell[:0], edge_next[:0]
    for t in range(horizon - 1, -1, -1):
        if t == horizon - 1 or not pooled or (t == horizon - 2 and not once):
            used = everything if t == horizon - 1 else known
            first, last = (slices[0], slices[1]) if pooled else (slices[t], slices[t + 1])
            counts, sums, start, end, weight = slice_statistics(
                cells, rewards, edges, used, edge_cell, edge_next, weights, first, last, n_states * n_actions
            )
        layer, own = q[min(t, len(q) - 1)], value[min(t, len(value) - 1)]
        backup(layer, counts, sums, start, end, weight, following, discount, constant)
        expected_value(layer, policy[min(t, len(policy) - 1)], own)
        following = own
    return following


@compiled
def stationary_q(
    cells: Ints,
    rewards: Floats,
    edges: Ints,
    known: Bools,
    edge_cell: Ints,
    edge_next: Ints,
    policy: Floats,
    weights: Floats,
    discount: float,
    constant: float,
    tolerance: float,
    max_iterations: int,
    q: Floats,
) -> tuple[Floats, Floats]:
    """Iterate the backup to its fixed point; V (S,), Q in `q` (S, A), and the largest change of V in each backup (k,)."""
    n_states, n_actions = q.shape
    counts, sums, start, end, weight = slice_statistics(
        cells, rewards, edges, known, edge_cell, edge_next, weights, 0, len(cells), n_states * n_actions
    )
    value, changes = np.zeros(n_states), np.empty(max_iterations)
    for k in range(max_iterations):
        backup(q, counts, sums, start, end, weight, value, discount, constant)
        changes[k] = expected_value(q, policy, value)
        if changes[k] <= tolerance:
            return value, changes[: k + 1]
    return value, changes


@compiled
def start_value(value: Floats, starts: Ints, weights: Floats) -> float:
    """Weighted mean of V over the first states (n,)."""
    total, weight = 0.0, 0.0
    for i in range(len(starts)):
        total += weights[i] * value[starts[i]]
        weight += weights[i]
    return total / weight


@parallel
def refit_start_values(
    cells: Ints,
    rewards: Floats,
    edges: Ints,
    known: Bools,
    slices: Ints,
    edge_cell: Ints,
    edge_next: Ints,
    policy: Floats,
    rows: Ints,
    starts: Ints,
    horizon: int,
    discount: float,
    constant: float,
    tolerance: float,
    max_iterations: int,
    weights: Floats,
) -> Floats:
    """(B,) mean start value of the Q refitted under each row of resampling weights (B, n); horizon 0 means stationary.

    Args:
        rows: (M,) trajectory of each transition. starts: (n,) first states.
    """
    n_states, n_actions = policy.shape[1:]
    out = np.empty(len(weights))
    for b in numba.prange(len(weights)):
        row_weights = weights[b][rows]
        scratch, values = np.empty((1, n_states, n_actions)), np.zeros((1, n_states))
        if horizon > 0:
            value = finite_horizon_q(
                cells,
                rewards,
                edges,
                known,
                slices,
                edge_cell,
                edge_next,
                policy,
                row_weights,
                horizon,
                discount,
                constant,
                scratch,
                values,
            )
        else:
            value, _ = stationary_q(
                cells,
                rewards,
                edges,
                known,
                edge_cell,
                edge_next,
                policy[0],
                row_weights,
                discount,
                constant,
                tolerance,
                max_iterations,
                scratch[0],
            )
        out[b] = start_value(value, starts, weights[b])
    return out
