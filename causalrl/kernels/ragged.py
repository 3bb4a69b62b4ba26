"""Weights and sums along ragged trajectories: flat arrays of N steps with offsets (n + 1,), one pass, no padding.

An ended trajectory keeps its last cumulative weight; weights stay in log space until they are used.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.kernels.jit import compiled, parallel


@compiled
def running_sum(values: Floats, first: int, last: int, out: Floats) -> None:
    """out[j] = values[first] + ... + values[j] for first <= j < last."""
    total = 0.0
    for j in range(first, last):
        total += values[j]
        out[j] = total


@parallel
def cumulative_log_weights(log_ratios: Floats, offsets: Ints) -> Floats:
    """(N,) l_t = sum over k <= t of log rho_k; a ratio of 0 gives -inf from there on."""
    out = np.empty_like(log_ratios)
    for i in numba.prange(len(offsets) - 1):
        running_sum(log_ratios, offsets[i], offsets[i + 1], out)
    return out


@parallel
def discounted_returns(rewards: Floats, offsets: Ints, discount: float) -> Floats:
    """(n,) sum over t of discount^t r_t, by Horner's rule from the end."""
    out = np.empty(len(offsets) - 1)
    for i in numba.prange(len(offsets) - 1):
        total = 0.0
        for j in range(offsets[i + 1] - 1, offsets[i] - 1, -1):
            total = rewards[j] + discount * total
        out[i] = total
    return out


@compiled
def weighted_remainders(log_weights: Floats, terms: Floats, first: int, last: int, out: Floats) -> float:
    """out[j] = sum over first <= j <= k < last of w_k y_k; returns the first of them."""
    total = 0.0
    for j in range(last - 1, first - 1, -1):
        total += math.exp(log_weights[j]) * terms[j]
        out[j] = total
    return total


@parallel
def doubly_robust_backward(log_weights: Floats, terms: Floats, offsets: Ints) -> Floats:
    """(N,) S_t = w_t y_t + S_{t+1}: what remains, from t on, of the weighted sum of temporal differences.

    With y_t = discount^t (r_t - Q_t + discount V_{t+1}) this is the doubly robust recursion of Jiang & Li (2016, eq. 10)
    multiplied through by the weights, S_t = discount^t w_{t-1} (V^DR_t - V_t), so that V_0 + S_0 is the doubly robust value and
    no product of ratios leaves log space. With Q = V = 0 it is per-decision importance sampling.
    """
    out = np.empty_like(terms)
    for i in numba.prange(len(offsets) - 1):
        weighted_remainders(log_weights, terms, offsets[i], offsets[i + 1], out)
    return out


@compiled
def largest_log_weights(log_weights: Floats, offsets: Ints, length: int) -> Floats:
    """(length,) the largest cumulative log weight at each t, ended trajectories carried forward."""
    out = np.full(length, -np.inf)
    for i in range(len(offsets) - 1):
        steps = offsets[i + 1] - offsets[i]
        for t in range(length):
            out[t] = max(out[t], log_weights[offsets[i] + min(t, steps - 1)])
    return out


@compiled
def last_agreement(log_weights: Floats, offsets: Ints) -> int:
    """The first t at which trajectories with positive weight are under way and none keeps it; -1 where there is none."""
    length = 0
    for i in range(len(offsets) - 1):
        length = max(length, offsets[i + 1] - offsets[i])
    arrives, stays = np.zeros(length, np.bool_), np.zeros(length, np.bool_)
    for i in range(len(offsets) - 1):
        for t in range(offsets[i + 1] - offsets[i]):
            arrives[t] = True
            if log_weights[offsets[i] + t] == -np.inf:
                break
            stays[t] = True
    for t in range(length):
        if arrives[t] and not stays[t]:
            return t
    return -1


@compiled
def agreement_by_time(taken: Floats, offsets: Ints) -> tuple[Ints, Ints]:
    """(T,) trajectories under way at each step, and those of them whose decisions so far all have positive probability.

    Args:
        taken: (N,) the target's probability of each logged action.
    """
    length = 0
    for i in range(len(offsets) - 1):
        length = max(length, offsets[i + 1] - offsets[i])
    under_way, agreeing = np.zeros(length, np.int64), np.zeros(length, np.int64)
    for i in range(len(offsets) - 1):
        agrees = True
        for t in range(offsets[i + 1] - offsets[i]):
            agrees = agrees and taken[offsets[i] + t] > 0
            under_way[t] += 1
            agreeing[t] += agrees
    return under_way, agreeing


@compiled
def add_moments(
    log_weights: Floats, terms: Floats, first: int, last: int, log_scale: Floats, multiplicity: float, out: Floats
) -> None:
    """Add one record's numerators w_t y_t to out[:T] and its denominators w_t to out[T:], each times exp(-log_scale[t])."""
    length = len(log_scale)
    for t in range(length):
        j = min(first + t, last - 1)
        weight = multiplicity * math.exp(log_weights[j] - log_scale[t])
        out[length + t] += weight
        if first + t < last:
            out[t] += weight * terms[j]


@parallel
def per_decision_moments(log_weights: Floats, terms: Floats, offsets: Ints, log_scale: Floats, leading: Floats) -> Floats:
    """(n, k + 2T) leading columns (n, k), then per-trajectory numerators w_t y_t (T columns) and denominators w_t.

    Numerators and denominators are each times exp(-log_scale[t]).
    """
    k = leading.shape[1]
    out = np.zeros((len(offsets) - 1, k + 2 * len(log_scale)))
    for i in numba.prange(len(offsets) - 1):
        out[i, :k] = leading[i]
        add_moments(log_weights, terms, offsets[i], offsets[i + 1], log_scale, 1.0, out[i, k:])
    return out


@parallel
def per_decision_sensitivity(
    log_weights: Floats, terms: Floats, offsets: Ints, log_scale: Floats, ratios: Floats, scale: Floats
) -> Floats:
    """(N,) derivative of trajectory i's linearised contribution to sum_t ratios[t] in its log ratio at step k.

    sum over t >= k of w_t (y_t - ratios[t]) / scale[t], carried forward past the end, where y_t = 0.

    Args:
        ratios, scale: (T,) the self-normalised terms and the mean denominators.
    """
    length = len(log_scale)
    out = np.empty_like(terms)
    for i in numba.prange(len(offsets) - 1):
        steps = offsets[i + 1] - offsets[i]
        total = 0.0
        for t in range(length - 1, -1, -1):
            j = offsets[i] + min(t, steps - 1)
            y = terms[j] if t < steps else 0.0
            total += math.exp(log_weights[j] - log_scale[t]) * (y - ratios[t]) / scale[t]
            if t < steps:
                out[j] = total
    return out


@parallel
def kish_by_time(log_weights: Floats, offsets: Ints, log_scale: Floats) -> Floats:
    """(T,) effective sample size (sum w)^2 / sum w^2 of the cumulative weights at each t, carried forward."""
    out = np.empty(len(log_scale))
    for t in numba.prange(len(log_scale)):
        total, squares = 0.0, 0.0
        for i in range(len(offsets) - 1):
            weight = math.exp(log_weights[min(offsets[i] + t, offsets[i + 1] - 1)] - log_scale[t])
            total += weight
            squares += weight * weight
        out[t] = total * total / squares
    return out
