"""Where a target policy goes, relative to the log: ratios of state probabilities on a chain of cells learned from transitions.

A cell is a state, or a state at one time. A ratio of -1 marks a cell that the weighted rows never, or hardly ever, reach.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled

Cells: TypeAlias = NDArray[np.int32]

LEAST_VISITS = 0.1
"""Trajectories that a chain of pooled times must expect in a cell at a time, for their ratio there to be known: below, cells and
times combine transitions that were never seen one after the other, and quotients of tiny numbers reach 1e6."""


@compiled
def transition_shares(
    cells: Cells,
    edges: Cells,
    stays: Bools,
    used: Bools,
    edge_from: Ints,
    numerators: Floats,
    propensities: Floats,
    weights: Floats,
    n_cells: int,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Share (E,) of a cell's weight that takes each edge, under target and under behaviour, its mean ratio and weight (C,).

    The target's is the mean of ratio times indicator, whose expectation is exact however few rows a cell has.

    Args:
        edges: (M,) distinct (cell, next cell) of each row, -1 where nothing follows. stays: (M,) it counts under the behaviour.
        used: (M,) what follows is known. numerators, propensities: (M,) of the importance ratios.
    """
    visits, mean = np.zeros(n_cells), np.zeros(n_cells)
    wanted, logged = np.zeros(len(edge_from)), np.zeros(len(edge_from))
    for j in range(len(cells)):
        if used[j] and weights[j] > 0.0:
            flow = weights[j] * (numerators[j] / propensities[j])
            visits[cells[j]] += weights[j]
            mean[cells[j]] += flow
            if edges[j] >= 0:
                wanted[edges[j]] += flow
                if stays[j]:
                    logged[edges[j]] += weights[j]
    for c in range(n_cells):
        if visits[c] > 0.0:
            mean[c] /= visits[c]
    for e in range(len(edge_from)):
        if visits[edge_from[e]] > 0.0:
            wanted[e] /= visits[edge_from[e]]
            logged[e] /= visits[edge_from[e]]
    return wanted, logged, mean, visits


@compiled
def conserving_scale(mass: Floats, mean: Floats, visits: Floats, first: int, last: int) -> float:
    """What the flow out of cells first, ..., last - 1 is multiplied by, so that as much leaves as is there.

    The mean ratio is 1 in expectation; what it misses would multiply from step to step. Cells that no row leaves do not count.
    """
    there, flow = 0.0, 0.0
    for c in range(first, last):
        if visits[c] > 0.0:
            there += mass[c]
            flow += mass[c] * mean[c]
    return there / flow if flow > 0.0 else 1.0


@compiled
def cell_weights(cells: Cells, weights: Floats, n_cells: int) -> Floats:
    """(C,) total weight of the rows in each cell."""
    out = np.zeros(n_cells)
    for j in range(len(cells)):
        out[cells[j]] += weights[j]
    return out


@compiled
def lost_share(mass: Floats, present: Floats, first: int, last: int) -> float:
    """Share of the mass in cells first, ..., last - 1 that is in cells without a row."""
    total, lost = 0.0, 0.0
    for c in range(first, last):
        total += mass[c]
        if present[c] == 0.0:
            lost += mass[c]
    return lost / total if lost > 0.0 else 0.0


@compiled
def kept_shares(last: Ints, cut: Bools, time: Ints, weights: Floats, n_times: int) -> Floats:
    """(T,) share of the weight that goes on after each t whose record goes on too; 1 where nothing does."""
    stops, cuts = np.zeros(n_times), np.zeros(n_times)
    for i in range(len(last)):
        t = time[last[i]]
        stops[t] += weights[last[i]]
        if cut[i]:
            cuts[t] += weights[last[i]]
    out, under_way = np.ones(n_times), 0.0
    for t in range(n_times - 1, -1, -1):
        if cuts[t] > 0.0:
            out[t] = under_way / (under_way + cuts[t])
        under_way += stops[t]
    return out


@compiled
def chain_ratios(
    cells: Cells,
    edges: Cells,
    stays: Bools,
    used: Bools,
    edge_from: Ints,
    edge_to: Ints,
    first: Ints,
    last: Ints,
    cut: Bools,
    time: Ints,
    n_times: int,
    cell_slices: Ints,
    edge_slices: Ints,
    numerators: Floats,
    pairs: Ints,
    propensities: Floats,
    weights: Floats,
) -> tuple[Floats, Floats]:
    """(T, C) d_t / b_t of each cell, or (1, C) of cells at one time, and the share (T,) of d_t in cells without a row.

    One layer for each time has ratios where b_t is above `LEAST_VISITS`.

    Both laws start alike and follow `transition_shares`; that of the behaviour loses what is cut, a share by time.

    Args:
        first, last: (n,) first and last row of each trajectory. cut: (n,) its record stops there and the process goes on.
        time: (M,). n_times: T. cell_slices, edge_slices: boundaries of the cells and edges of each time, which are sorted by
            it, or (2,) where every time uses all of them.
        numerators: (1, M), or (T, K) where the target changes in time and cells do not; `pairs` (M,) then are the columns of
            the rows, else empty. propensities: (M,) divides them.
    """
    n_cells, layers = cell_slices[-1], n_times if len(cell_slices) == 2 else 1
    out = np.full((layers, n_cells), -1.0)
    out[0, : cell_slices[1]] = 1.0
    wanted_mass, logged_mass = np.zeros(n_cells), np.zeros(n_cells)
    wanted_next, logged_next = np.zeros(n_cells), np.zeros(n_cells)
    for j in first:
        wanted_mass[cells[j]] += weights[j]
        logged_mass[cells[j]] += weights[j]
    wanted, logged, mean, visits = np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0)
    kept, present, lost = kept_shares(last, cut, time, weights, n_times), cell_weights(cells, weights, n_cells), np.zeros(n_times)
    for t in range(n_times - 1):
        if t == 0 or len(pairs) > 0:
            own = numerators[t][pairs] if len(pairs) > 0 else numerators[0]
            wanted, logged, mean, visits = transition_shares(
                cells, edges, stays, used, edge_from, own, propensities, weights, n_cells
            )
        here = min(t, len(cell_slices) - 2)
        then = min(t + 1, len(cell_slices) - 2)
        scale = conserving_scale(wanted_mass, mean, visits, cell_slices[here], cell_slices[here + 1])
        for c in range(cell_slices[then], cell_slices[then + 1]):
            wanted_next[c] = 0.0
            logged_next[c] = 0.0
        for e in range(edge_slices[here], edge_slices[here + 1]):
            wanted_next[edge_to[e]] += scale * wanted_mass[edge_from[e]] * wanted[e]
            logged_next[edge_to[e]] += kept[t] * logged_mass[edge_from[e]] * logged[e]
        wanted_mass, wanted_next = wanted_next, wanted_mass
        logged_mass, logged_next = logged_next, logged_mass
        for c in range(cell_slices[then], cell_slices[then + 1]):
            if logged_mass[c] > (LEAST_VISITS if layers > 1 else 0.0):
                out[min(t + 1, layers - 1), c] = wanted_mass[c] / logged_mass[c]
        lost[t + 1] = lost_share(wanted_mass, present, cell_slices[then], cell_slices[then + 1])
    return out, lost


@compiled
def stationary_ratios(
    cells: Cells,
    edges: Cells,
    stays: Bools,
    used: Bools,
    edge_from: Ints,
    edge_to: Ints,
    first: Ints,
    n_cells: int,
    numerators: Floats,
    propensities: Floats,
    weights: Floats,
    discount: float,
    tolerance: float,
    max_iterations: int,
) -> tuple[Floats, float, float]:
    """(1, C) sum_t discount^t d_t / sum_t b_t of each cell, the lost share of the mass, and the last change.

    The fixed point of mass = start + discount scale P' mass; `first` (n,) are the rows of time 0.
    """
    wanted, _, mean, visits = transition_shares(cells, edges, stays, used, edge_from, numerators, propensities, weights, n_cells)
    start, present = np.zeros(n_cells), cell_weights(cells, weights, n_cells)
    for j in first:
        start[cells[j]] += weights[j]
    mass, change = start.copy(), np.inf
    for _ in range(max_iterations):
        scale = conserving_scale(mass, mean, visits, 0, n_cells)
        following = start.copy()
        for e in range(len(edge_from)):
            following[edge_to[e]] += discount * scale * mass[edge_from[e]] * wanted[e]
        change = np.abs(following - mass).max() / following.sum()
        mass = following
        if change <= tolerance:
            break
    out = np.full((1, n_cells), -1.0)
    for c in range(n_cells):
        if present[c] > 0.0:
            out[0, c] = mass[c] / present[c]
    return out, lost_share(mass, present, 0, n_cells), change


@compiled
def row_weights(
    state: Floats, powers: Floats, cells: Cells, time: Ints, numerators: Floats, propensities: Floats, weights: Floats
) -> tuple[Floats, Floats]:
    """(M,) marginal weights of the rows, 0 where the state ratio is unknown, and the share of the flow that meets such a one.

    Args:
        state: (T, C) or (1, C) ratios of the cells, -1 where unknown. powers: (T,) or (1,) of the discount, by time.
        weights: (M,) of the rows in the fit; the lost share (T,) or (1,) is that of the flow into rows with weight 0, or into
            all where none has.
    """
    in_sample = weights.min() > 0.0
    out, total, lost = np.empty(len(cells)), np.zeros(len(powers)), np.zeros(len(powers))
    arriving = 1.0
    for j in range(len(cells)):
        bin = min(time[j], len(powers) - 1)
        ratio = state[min(time[j], len(state) - 1), cells[j]]
        if time[j] == 0:
            arriving = 1.0
        if in_sample or weights[j] == 0.0:
            total[bin] += arriving
            if ratio < 0.0:
                lost[bin] += arriving
        arriving = max(ratio, 0.0) * (numerators[j] / propensities[j] * powers[bin])
        out[j] = arriving
    for bin in range(len(powers)):
        lost[bin] = lost[bin] / total[bin] if total[bin] > 0.0 else 0.0
    return out, lost
