"""Refits of marginal weights under resampling, and the rule by which weights speak about a target at all."""

from __future__ import annotations

import numba
import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel
from causalrl.kernels.occupancy import Cells, chain_ratios, stationary_ratios


@compiled
def unsupported_time(m: Floats, weights: Floats, time: Ints, by_time: bool, discount: float) -> tuple[int, bool]:
    """The first t with discount^t > 0 at which drawn records arrive and no step has weight, -1 where there is none.

    Then whether some record that ended before has weight, so that the weights still say something. Where m is the same at all
    times the question is only whether any step has weight.

    Args:
        m: (M,) marginal weights. weights: (M,) 0 for steps that take no part. time: (M,) t of each.
    """
    n_times = time.max() + 1 if by_time else 1
    arrives, agrees = np.zeros(n_times, np.bool_), np.zeros(n_times, np.bool_)
    for j in range(len(m)):
        if weights[j] > 0.0:
            bin = time[j] if by_time else 0
            if time[j] == 0 or m[j - 1] != 0.0:
                arrives[bin] = True
            if m[j] != 0.0:
                agrees[bin] = True
    for t in range(n_times):
        if arrives[t] and not agrees[t]:
            if discount**t == 0.0:
                return -1, True
            for j in range(len(m)):
                ends = j + 1 == len(m) or time[j + 1] == 0
                if ends and time[j] < t and weights[j] > 0.0 and m[j] != 0.0:
                    return t, True
            return t, False
    return -1, True


@parallel
def refit_marginal_values(
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

    NaN where there is no solution, or the weights say nothing (`unsupported_time`).

    Args:
        numerators, pairs: of the ratios in `chain_ratios`. taken: (M,) target probability of each row at its own time.
        terms: (M,) rewards, discounted unless `stationary`. rows: (M,) trajectory of each row.
        propensities: (1, M) or (B, M).
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
                first,
                cell_slices[-1],
                numerators[0],
                logged,
                own,
                discount,
                tolerance,
                max_iterations,
            )
            solved = change <= tolerance
        else:
            solved = True
            state, _ = chain_ratios(
                cells,
                edges,
                stays,
                used,
                edge_from,
                edge_to,
                first,
                last,
                cut,
                time,
                n_times,
                cell_slices,
                edge_slices,
                numerators,
                pairs,
                logged,
                own,
            )
        total, m = 0.0, np.zeros(len(cells))
        for j in range(len(cells)):
            if own[j] > 0.0:
                m[j] = max(state[min(time[j], len(state) - 1), cells[j]], 0.0) * taken[j] / logged[j]
                total += own[j] * m[j] * terms[j]
        _, speaks = unsupported_time(m, own, time, not stationary, discount)
        out[b] = total / weights[b].sum() if solved and speaks else np.nan
    return out
