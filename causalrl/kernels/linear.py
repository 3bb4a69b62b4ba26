"""Weighted least squares a action, and its fitted Q-evaluation, in closed form."""

from __future__ import annotations

import numba
import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel

_RANK = 1e-11


@compiled
def action_inverse_grams(design: Floats, actions: Ints, weights: Floats, n_actions: int) -> tuple[Floats, Floats]:
    """(A, d, d) pseudo-inverses of the centred sum_j w_j (x_j - m_a)(x_j - m_a)' of each action, and the means m (A, d).

    Column 0 is the intercept; centred it vanishes, so that the smallest coefficients are sought among the others only and a
    shifted target shifts the intercept alone.
    """
    d = design.shape[1]
    means, grams, total = np.zeros((n_actions, d)), np.zeros((n_actions, d, d)), np.zeros(n_actions)
    for j in range(len(actions)):
        total[actions[j]] += weights[j]
        for f in range(d):
            means[actions[j], f] += weights[j] * design[j, f]
    for a in range(n_actions):
        if total[a] > 0.0:
            means[a] /= total[a]
    for j in range(len(actions)):
        a = actions[j]
        if weights[j] > 0.0:
            for f in range(d):
                for g in range(d):
                    grams[a, f, g] += weights[j] * (design[j, f] - means[a, f]) * (design[j, g] - means[a, g])
    for a in range(n_actions):
        grams[a] = np.linalg.pinv(grams[a], _RANK)
    return grams, means


@compiled
def action_least_squares(
    inverse_grams: Floats, means: Floats, design: Floats, actions: Ints, weights: Floats, targets: Floats
) -> Floats:
    """(A, d) coefficients of the weighted regression of targets (M,) on the design (M, d); NaN for an action without rows."""
    n_actions, d = means.shape
    moments, total, center = np.zeros((n_actions, d)), np.zeros(n_actions), np.zeros(n_actions)
    for j in range(len(actions)):
        total[actions[j]] += weights[j]
        center[actions[j]] += weights[j] * targets[j]
    for a in range(n_actions):
        if total[a] > 0.0:
            center[a] /= total[a]
    for j in range(len(actions)):
        a = actions[j]
        if weights[j] > 0.0:
            for f in range(d):
                moments[a, f] += weights[j] * (targets[j] - center[a]) * (design[j, f] - means[a, f])
    out = np.empty((n_actions, d))
    for a in range(n_actions):
        out[a] = inverse_grams[a] @ moments[a]
        out[a, 0] = center[a] - np.sum(out[a, 1:] * means[a, 1:]) if total[a] > 0.0 else np.nan
    return out


@compiled
def linear_targets(
    rewards: Floats, continues: Bools, next_design: Floats, next_policy: Floats, coefficients: Floats, discount: float
) -> Floats:
    """(M,) r + discount sum_a pi(a|s') x(s')' theta_a where the process goes on."""
    out = rewards.copy()
    for j in range(len(rewards)):
        if continues[j]:
            value = 0.0
            for a in range(len(coefficients)):
                if next_policy[j, a] > 0.0:
                    q = 0.0
                    for f in range(next_design.shape[1]):
                        q += coefficients[a, f] * next_design[j, f]
                    value += next_policy[j, a] * q
            out[j] += discount * value
    return out


@compiled
def finite_horizon_linear_q(
    design: Floats,
    actions: Ints,
    rewards: Floats,
    continues: Bools,
    known: Bools,
    next_design: Floats,
    next_policy: Floats,
    weights: Floats,
    n_actions: int,
    horizon: int,
    discount: float,
) -> Floats:
    """(H, A, d) coefficients of Q_t by regression of r + discount V_{t+1}(s') on x(s), pooled over times.

    Args:
        next_policy: (1 or H, M, A) target probabilities at the next observation; entry t is that of time t + 1.
    """
    out = np.empty((horizon, n_actions, design.shape[1]))
    grams, means = action_inverse_grams(design, actions, weights, n_actions)
    out[horizon - 1] = action_least_squares(grams, means, design, actions, weights, rewards)
    inner_weights = weights * known
    grams, means = action_inverse_grams(design, actions, inner_weights, n_actions)
    for t in range(horizon - 2, -1, -1):
        targets = linear_targets(
            rewards, continues & known, next_design, next_policy[min(t, len(next_policy) - 1)], out[t + 1], discount
        )
        out[t] = action_least_squares(grams, means, design, actions, inner_weights, targets)
    return out


@compiled
def stationary_linear_q(
    design: Floats,
    actions: Ints,
    rewards: Floats,
    continues: Bools,
    known: Bools,
    next_design: Floats,
    next_policy: Floats,
    weights: Floats,
    n_actions: int,
    discount: float,
) -> Floats:
    """(A, d) the projected fixed point (least-squares temporal differences; Lagoudakis & Parr 2003), by one linear solve.

    NaN for an action without rows, and everywhere where there is no fixed point or the target takes such an action.
    """
    d = design.shape[1]
    size = n_actions * d
    logged = np.zeros(n_actions)
    for j in range(len(actions)):
        logged[actions[j]] += weights[j] * known[j]
    system, moments = np.zeros((size, size)), np.zeros(size)
    for j in range(len(actions)):
        weight = weights[j] if known[j] else 0.0
        if weight > 0.0:
            start = actions[j] * d
            for f in range(d):
                x = weight * design[j, f]
                moments[start + f] += x * rewards[j]
                for g in range(d):
                    system[start + f, start + g] += x * design[j, g]
                if continues[j]:
                    for a in range(n_actions):
                        if next_policy[j, a] > 0.0 and logged[a] == 0.0:
                            return np.full((n_actions, d), np.nan)
                        for g in range(d):
                            system[start + f, a * d + g] -= x * discount * next_policy[j, a] * next_design[j, g]
    solution = np.linalg.pinv(system, _RANK) @ moments
    if np.abs(system @ solution - moments).max() > 1e-7 * np.abs(moments).max():
        return np.full((n_actions, d), np.nan)
    out = solution.reshape(n_actions, d)
    for a in range(n_actions):
        if logged[a] == 0.0:
            out[a] = np.nan
    return out


@parallel
def refit_linear_start_values(
    design: Floats,
    actions: Ints,
    rewards: Floats,
    continues: Bools,
    known: Bools,
    next_design: Floats,
    next_policy: Floats,
    start_design: Floats,
    start_policy: Floats,
    rows: Ints,
    horizon: int,
    discount: float,
    weights: Floats,
) -> Floats:
    """(B,) mean start value of the Q refitted under each row of resampling weights (B, n); horizon 0 means stationary.

    A replicate without an action that the target takes has no fit and is NaN; the caller refuses it.

    Args:
        rows: (M,) trajectory of each transition. start_design, start_policy: (n, d) and (n, A) at the first observations.
    """
    n, n_actions = start_policy.shape
    out = np.empty(len(weights))
    for b in numba.prange(len(weights)):
        row_weights = weights[b][rows]
        if horizon > 0:
            coefficients = finite_horizon_linear_q(
                design, actions, rewards, continues, known, next_design, next_policy, row_weights, n_actions, horizon, discount
            )[0]
        else:
            coefficients = stationary_linear_q(
                design, actions, rewards, continues, known, next_design, next_policy[0], row_weights, n_actions, discount
            )
        total, weight = 0.0, 0.0
        for i in range(n):
            for a in range(n_actions):
                if start_policy[i, a] > 0.0 and weights[b, i] > 0.0:
                    q = 0.0
                    for f in range(design.shape[1]):
                        q += coefficients[a, f] * start_design[i, f]
                    total += weights[b, i] * start_policy[i, a] * q
            weight += weights[b, i]
        out[b] = total / weight
    return out
