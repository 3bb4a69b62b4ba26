"""Weighting and doubly robust estimates under resampling weights, their tabular Q learned anew in every replicate.

Replicates are those of `causalrl.kernels.refit_propensities`. A value that does not exist is NaN.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel
from causalrl.kernels.ragged import add_moments, largest_log_weights, running_sum, weighted_remainders
from causalrl.kernels.refit_propensities import training_weights
from causalrl.kernels.tabular import finite_horizon_q, stationary_q


@compiled
def temporal_differences(
    q: Floats,
    value: Floats,
    observations: Ints,
    actions: Ints,
    rewards: Floats,
    final: int,
    first: int,
    last: int,
    discount: float,
    out: Floats,
) -> float:
    """discount^t (r_t - Q_t + discount V_{t+1}) of the steps first, ..., last - 1 of one trajectory; returns V_0.

    Args:
        q, value: (H, S, A) and (H, S), the last layer of which serves all later times.
        final: state after the last step of a record that is continued, -1 where nothing counts after it.
    """
    following = 0.0 if final < 0 else value[min(last - first, len(value) - 1), final]
    for j in range(last - 1, first - 1, -1):
        t = j - first
        taken = q[min(t, len(q) - 1), observations[j], actions[j]]
        out[j] = discount**t * (rewards[j] - taken + discount * following)
        following = value[min(t, len(value) - 1), observations[j]]
    return following


@parallel
def refit_differences(
    cells: Ints,
    sorted_rewards: Floats,
    edges: Ints,
    known: Bools,
    slices: Ints,
    edge_cell: Ints,
    edge_next: Ints,
    policy: Floats,
    rows: Ints,
    observations: Ints,
    actions: Ints,
    rewards: Floats,
    finals: Ints,
    offsets: Ints,
    horizon: int,
    discount: float,
    constant: float,
    tolerance: float,
    max_iterations: int,
    weights: Floats,
    folds: Ints,
) -> tuple[Floats, Floats]:
    """(B, M) `temporal_differences` and (B, n) start values under the tabular Q of the training folds; horizon 0 is stationary.

    Args:
        cells, ..., edge_next: see `causalrl.kernels.tabular`. rows: (M,) trajectory of each sorted transition.
        observations, actions, rewards: (M,) in the order of the steps. finals: (n,) see `temporal_differences`.
        weights, folds: (B, n).
    """
    n_states, n_actions = policy.shape[1:]
    differences, starts = np.zeros((len(weights), len(rewards))), np.zeros(weights.shape)
    for b in numba.prange(len(weights)):
        n_folds = folds[b].max() + 1
        q, value = np.empty((max(horizon, 1), n_states, n_actions)), np.zeros((max(horizon, 1), n_states))
        for fold in range(n_folds):
            train = training_weights(weights[b], folds[b], fold, n_folds)[rows]
            if horizon > 0:
                finite_horizon_q(
                    cells,
                    sorted_rewards,
                    edges,
                    known,
                    slices,
                    edge_cell,
                    edge_next,
                    policy,
                    train,
                    horizon,
                    discount,
                    constant,
                    q,
                    value,
                )
            else:
                value[0], _ = stationary_q(
                    cells,
                    sorted_rewards,
                    edges,
                    known,
                    edge_cell,
                    edge_next,
                    policy[0],
                    train,
                    discount,
                    constant,
                    tolerance,
                    max_iterations,
                    q[0],
                )
            for i in range(len(offsets) - 1):
                if weights[b, i] > 0.0 and folds[b, i] == fold:
                    starts[b, i] = temporal_differences(
                        q,
                        value,
                        observations,
                        actions,
                        rewards,
                        finals[i],
                        offsets[i],
                        offsets[i + 1],
                        discount,
                        differences[b],
                    )
    return differences, starts


@compiled
def resampled_log_weights(
    log_target: Floats, propensities: Floats, offsets: Ints, carried: Ints, log_bound: float, weights: Floats, entries: Ints
) -> Floats:
    """(K,) log cumulative weights of the record entries, -inf where not drawn; empty where a drawn action was impossible."""
    ratios, sums = np.zeros(len(log_target)), np.zeros(len(log_target))
    out = np.full(len(carried), -np.inf)
    for i in range(len(weights)):
        if weights[i] > 0.0:
            for j in range(offsets[i], offsets[i + 1]):
                if not propensities[j] > 0.0:
                    return np.empty(0)
                ratios[j] = log_target[j] - math.log(propensities[j])
            running_sum(ratios, offsets[i], offsets[i + 1], sums)
            for k in range(entries[i], entries[i + 1]):
                out[k] = min(sums[carried[k]], log_bound)
    return out


@compiled
def resampled_score(
    log_weights: Floats, terms: Floats, start: Floats, entries: Ints, normalized: bool, weights: Floats, length: int
) -> float:
    """The value of `causalrl.estimators.importance.importance_score` under trajectory weights; NaN where it has none."""
    log_scale = largest_log_weights(log_weights, entries, length)
    if log_scale.min() == -np.inf:
        return np.nan
    total, scratch, moments = 0.0, np.empty(len(terms)), np.zeros(2 * length)
    for i in range(len(weights)):
        if weights[i] > 0.0:
            total += weights[i] * start[i]
            if normalized:
                add_moments(log_weights, terms, entries[i], entries[i + 1], log_scale, weights[i], moments)
            else:
                total += weights[i] * weighted_remainders(log_weights, terms, entries[i], entries[i + 1], scratch)
    value = total / weights.sum()
    if normalized:
        for t in range(length):
            value += moments[t] / moments[length + t]
    return value if np.isfinite(value) else np.nan


@compiled
def row_of(values: Floats, b: int) -> Floats:
    """Row b, or the only row."""
    row: Floats = values[b] if len(values) > 1 else values[0]
    return row


@parallel
def refit_scores(
    log_target: Floats,
    propensities: Floats,
    offsets: Ints,
    carried: Ints,
    entries: Ints,
    log_bound: float,
    terms: Floats,
    starts: Floats,
    normalized: bool,
    weights: Floats,
) -> Floats:
    """(B,) values under every row of trajectory weights (B, n).

    Args:
        log_target: (M,) log probability of each logged action under the target. propensities: (B or 1, M).
        carried, entries: (K,), (n + 1,) records, see `causalrl.estimators.importance.Records`.
        terms, starts: (B or 1, K), (B or 1, n). log_bound: of the truncated weights; inf is none.
    """
    length = 1
    for i in range(len(entries) - 1):
        length = max(length, entries[i + 1] - entries[i])
    out = np.full(len(weights), np.nan)
    for b in numba.prange(len(weights)):
        log_weights = resampled_log_weights(log_target, row_of(propensities, b), offsets, carried, log_bound, weights[b], entries)
        if len(log_weights):
            out[b] = resampled_score(log_weights, row_of(terms, b), row_of(starts, b), entries, normalized, weights[b], length)
    return out
