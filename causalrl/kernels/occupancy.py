"""Where a target policy goes, relative to the log: ratios of state probabilities on a chain of cells learned from transitions.

A cell is a state, or a state at one time. Rows are sorted by time. A ratio of -1 marks a cell that the weighted rows never reach.
"""

from __future__ import annotations

import numba
import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel


@compiled
def transition_shares(
    cells: Ints, edges: Ints, stays: Bools, used: Bools, edge_from: Ints, ratios: Floats, weights: Floats, n_cells: int
) -> tuple[Floats, Floats, Floats]:
    """Share (E,) of a cell's weight that takes each edge, under target and under behaviour, and its mean ratio (C,).

    The target's is the mean of ratio times indicator, whose expectation is exact however few rows a cell has.

    Args:
        edges: (M,) distinct (cell, next cell) of each row, -1 where nothing follows. stays: (M,) the next step is logged.
        used: (M,) what follows is known.
    """
    visits, mean = np.zeros(n_cells), np.zeros(n_cells)
    wanted, logged = np.zeros(len(edge_from)), np.zeros(len(edge_from))
    for j in range(len(cells)):
        if used[j] and weights[j] > 0.0:
            visits[cells[j]] += weights[j]
            mean[cells[j]] += weights[j] * ratios[j]
            if edges[j] >= 0:
                wanted[edges[j]] += weights[j] * ratios[j]
                if stays[j]:
                    logged[edges[j]] += weights[j]
    for c in range(n_cells):
        if visits[c] > 0.0:
            mean[c] /= visits[c]
    for e in range(len(edge_from)):
        if visits[edge_from[e]] > 0.0:
            wanted[e] /= visits[edge_from[e]]
            logged[e] /= visits[edge_from[e]]
    return wanted, logged, mean


@compiled
def conserving_scale(mass: Floats, mean: Floats, first: int, last: int) -> float:
    """What the flow out of cells first, ..., last - 1 is multiplied by, so that as much leaves as is there.

    The mean ratio is 1 in expectation; what it misses would multiply from step to step.
    """
    there, flow = 0.0, 0.0
    for c in range(first, last):
        there += mass[c]
        flow += mass[c] * mean[c]
    return there / flow if flow > 0.0 else 1.0


@compiled
def chain_ratios(
    cells: Ints,
    edges: Ints,
    stays: Bools,
    used: Bools,
    edge_from: Ints,
    edge_to: Ints,
    row_slices: Ints,
    cell_slices: Ints,
    edge_slices: Ints,
    ratios: Floats,
    propensities: Floats,
    weights: Floats,
) -> Floats:
    """(M,) d_t / b_t at the cell of each row: both laws start alike and follow the shares of `transition_shares`.

    Args:
        row_slices: (T + 1,) rows of time t are row_slices[t] to row_slices[t + 1] - 1. cell_slices, edge_slices: the same for
            cells and edges, which are sorted by time, or (2,) where every time uses all of them.
        ratios: (1, M), or (T, M) where the target changes in time and cells do not. propensities: (M,) divides them.
    """
    n_cells = cell_slices[-1]
    out = np.full(len(cells), -1.0)
    wanted_mass, logged_mass = np.zeros(n_cells), np.zeros(n_cells)
    wanted_next, logged_next = np.zeros(n_cells), np.zeros(n_cells)
    for j in range(row_slices[0], row_slices[1]):
        wanted_mass[cells[j]] += weights[j]
        logged_mass[cells[j]] += weights[j]
        out[j] = 1.0
    wanted, logged, mean = transition_shares(cells, edges, stays, used, edge_from, ratios[0] / propensities, weights, n_cells)
    for t in range(len(row_slices) - 2):
        if t > 0 and len(ratios) > 1:
            now = ratios[t] / propensities
            wanted, logged, mean = transition_shares(cells, edges, stays, used, edge_from, now, weights, n_cells)
        here = min(t, len(cell_slices) - 2)
        then = min(t + 1, len(cell_slices) - 2)
        scale = conserving_scale(wanted_mass, mean, cell_slices[here], cell_slices[here + 1])
        for c in range(cell_slices[then], cell_slices[then + 1]):
            wanted_next[c] = 0.0
            logged_next[c] = 0.0
        for e in range(edge_slices[here], edge_slices[here + 1]):
            wanted_next[edge_to[e]] += scale * wanted_mass[edge_from[e]] * wanted[e]
            logged_next[edge_to[e]] += logged_mass[edge_from[e]] * logged[e]
        wanted_mass, wanted_next = wanted_next, wanted_mass
        logged_mass, logged_next = logged_next, logged_mass
        for j in range(row_slices[t + 1], row_slices[t + 2]):
            if logged_mass[cells[j]] > 0.0:
                out[j] = wanted_mass[cells[j]] / logged_mass[cells[j]]
    return out


@compiled
def stationary_ratios(
    cells: Ints,
    edges: Ints,
    stays: Bools,
    used: Bools,
    edge_from: Ints,
    edge_to: Ints,
    n_starts: int,
    n_cells: int,
    ratios: Floats,
    weights: Floats,
    discount: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[Floats, float, float]:
    """(M,) sum_t discount^t d_t / sum_t b_t at the cell of each row, the lost share of the mass, and the last change.

    The fixed point of mass = start + discount scale P' mass; the first n_starts rows are the first steps.
    """
    wanted, _, mean = transition_shares(cells, edges, stays, used, edge_from, ratios, weights, n_cells)
    start, visits = np.zeros(n_cells), np.zeros(n_cells)
    for j in range(len(cells)):
        visits[cells[j]] += weights[j]
        if j < n_starts:
            start[cells[j]] += weights[j]
    mass, change = start.copy(), np.inf
    for _ in range(max_iterations):
        scale = conserving_scale(mass * (visits > 0.0), mean, 0, n_cells)
        following = start.copy()
        for e in range(len(edge_from)):
            following[edge_to[e]] += discount * scale * mass[edge_from[e]] * wanted[e]
        change = np.abs(following - mass).max() / following.sum()
        mass = following
        if change <= tolerance:
            break
    out = np.full(len(cells), -1.0)
    for j in range(len(cells)):
        if visits[cells[j]] > 0.0:
            out[j] = mass[cells[j]] / visits[cells[j]]
    return out, np.sum(mass * (visits == 0.0)) / mass.sum(), change


@parallel
def refit_marginal_values(
    cells: Ints,
    edges: Ints,
    stays: Bools,
    used: Bools,
    edge_from: Ints,
    edge_to: Ints,
    row_slices: Ints,
    cell_slices: Ints,
    edge_slices: Ints,
    numerators: Floats,
    taken: Floats,
    terms: Floats,
    rows: Ints,
    stationary: bool,
    discount: float,
    tolerance: float,
    max_iterations: int,
    weights: Floats,
    propensities: Floats,
) -> Floats:
    """(B,) mean over trajectories of sum m r, its ratios learned anew under each row of resampling weights (B, n).

    Args:
        numerators: (1, M) or (T, M), of the ratios in `chain_ratios`. taken: (M,) those at each row's own time.
        terms: (M,) rewards, discounted unless `stationary`. rows: (M,) trajectory of each row. propensities: (1, M) or (B, M).
    """
    out = np.empty(len(weights))
    for b in numba.prange(len(weights)):
        own = weights[b][rows]
        logged = propensities[b] if len(propensities) > 1 else propensities[0]
        if stationary:
            state, _, change = stationary_ratios(
                cells,
                edges,
                stays,
                used,
                edge_from,
                edge_to,
                row_slices[1],
                cell_slices[-1],
                numerators[0] / logged,
                own,
                discount,
                tolerance,
                max_iterations,
            )
            if not change <= tolerance:
                state[:] = np.nan
        else:
            state = chain_ratios(
                cells,
                edges,
                stays,
                used,
                edge_from,
                edge_to,
                row_slices,
                cell_slices,
                edge_slices,
                numerators,
                logged,
                own,
            )
        total = 0.0
        for j in range(len(cells)):
            if own[j] > 0.0:
                total += own[j] * state[j] * taken[j] / logged[j] * terms[j]
        out[b] = total / weights[b].sum()
    return out
