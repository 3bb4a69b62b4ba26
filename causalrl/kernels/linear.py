"""Weighted ridge regression for each action, and its fitted Q-evaluation, in closed form.

Minimised is sum_j w_j (y_j - theta_a' x_j)^2 + ridge W sum_{a, f} v_f theta_{a, f}^2, W the total weight and v_f the weighted
variance of feature f over all rows: the coefficients of standardised features are penalised, those of the intercept are not, and
neither a change of units nor a duplication of the data moves the fit. A penalty of 0 is least squares, and of several solutions
the shortest in standardised features. They are standardised by the weighted rows, so that a refit under resampling counts is the
fit of the resample.
"""

from __future__ import annotations

import numba
import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel

_RANK = 1e-11
_CONSTANT = 1e-12
"""A column with a smaller standard deviation is constant, up to rounding; over all the data its deviation is 1."""


@compiled
def column_moments(design: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Weighted means and standard deviations (d,) of the columns; 0 and 1 for the intercept, and 1 for a constant column."""
    total, d = weights.sum(), design.shape[1]
    means, squares, deviations = np.zeros(d), np.zeros(d), np.ones(d)
    if total > 0.0:
        for j in range(len(weights)):
            for f in range(1, d):
                means[f] += weights[j] * design[j, f]
        means /= total
        for j in range(len(weights)):
            for f in range(1, d):
                squares[f] += weights[j] * (design[j, f] - means[f]) ** 2
        for f in range(1, d):
            deviation = np.sqrt(squares[f] / total)
            deviations[f] = deviation if deviation > _CONSTANT else 1.0
    return means, deviations


@compiled
def standardization(design: Floats, weights: Floats) -> Floats:
    """(d, d) matrix that takes a row of the design to the standardised features; its transpose takes coefficients back."""
    means, deviations = column_moments(design, weights)
    out = np.diag(1.0 / deviations)
    out[1:, 0] = -means[1:] / deviations[1:]
    return out


@compiled
def action_inverse_grams(design: Floats, actions: Ints, weights: Floats, n_actions: int, ridge: float) -> tuple[Floats, Floats]:
    """(A, d, d) pseudo-inverses of each action's penalised sum_j w_j (x_j - m_a)(x_j - m_a)', and the means m (A, d).

    Column 0 is the intercept; centred it vanishes, so that the smallest coefficients are sought among the others only and a
    shifted target shifts the intercept alone.
    """
    _, deviations = column_moments(design, weights)
    d = design.shape[1]
    means, grams, total = np.zeros((n_actions, d)), np.zeros((n_actions, d, d)), np.zeros(n_actions)
    for j in range(len(actions)):
        total[actions[j]] += weights[j]
        for f in range(d):
            means[actions[j], f] += weights[j] * design[j, f]
    for a in range(n_actions):
        if total[a] > 0.0:
            means[a] /= total[a]
    centered = np.empty(d)
    for j in range(len(actions)):
        a = actions[j]
        if weights[j] > 0.0:
            for f in range(d):
                centered[f] = design[j, f] - means[a, f]
            for f in range(d):
                scaled = weights[j] * centered[f]
                for g in range(f + 1):
                    grams[a, f, g] += scaled * centered[g]
    for a in range(n_actions):
        for f in range(d):
            grams[a, :f, f] = grams[a, f, :f]
    units, penalty = np.outer(deviations, deviations), ridge * weights.sum()
    for a in range(n_actions):
        grams[a] /= units
        for f in range(1, d):
            if grams[a, f, f] <= total[a] * _CONSTANT**2:
                grams[a, f, :] = 0.0
                grams[a, :, f] = 0.0
            grams[a, f, f] += penalty
        grams[a] = np.linalg.pinv(grams[a], _RANK) / units
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
    rewards: Floats, following: Ints, next_design: Floats, next_policy: Floats, coefficients: Floats, discount: float
) -> Floats:
    """(M,) r + discount sum_a pi(a|s') x(s')' theta_a where something follows."""
    values = np.zeros(len(next_design))
    for point in range(len(next_design)):
        for a in range(len(coefficients)):
            if next_policy[point, a] > 0.0:
                q = 0.0
                for f in range(next_design.shape[1]):
                    q += coefficients[a, f] * next_design[point, f]
                values[point] += next_policy[point, a] * q
    out = rewards.copy()
    for j in range(len(rewards)):
        if following[j] >= 0:
            out[j] += discount * values[following[j]]
    return out


@compiled
def finite_horizon_linear_q(
    design: Floats,
    actions: Ints,
    rewards: Floats,
    known: Bools,
    following: Ints,
    next_design: Floats,
    next_policy: Floats,
    weights: Floats,
    n_actions: int,
    horizon: int,
    discount: float,
    ridge: float,
) -> Floats:
    """(H, A, d) coefficients of Q_t by regression of r + discount V_{t+1}(s') on x(s), pooled over times.

    Args:
        following: (M,) point that follows each step, -1 where none counts. next_design: (C, d) of the points.
        next_policy: (1 or H - 1, C, A) target probabilities at the points; entry t is that of time t + 1.
    """
    out = np.empty((horizon, n_actions, design.shape[1]))
    grams, means = action_inverse_grams(design, actions, weights, n_actions, ridge)
    out[horizon - 1] = action_least_squares(grams, means, design, actions, weights, rewards)
    if horizon == 1:
        return out
    inner_weights = weights * known
    grams, means = action_inverse_grams(design, actions, inner_weights, n_actions, ridge)
    for t in range(horizon - 2, -1, -1):
        targets = linear_targets(rewards, following, next_design, next_policy[min(t, len(next_policy) - 1)], out[t + 1], discount)
        out[t] = action_least_squares(grams, means, design, actions, inner_weights, targets)
    return out


@compiled
def stationary_linear_q(
    design: Floats,
    actions: Ints,
    rewards: Floats,
    known: Bools,
    following: Ints,
    next_design: Floats,
    next_policy: Floats,
    weights: Floats,
    n_actions: int,
    discount: float,
    ridge: float,
) -> Floats:
    """(A, d) the projected fixed point (least-squares temporal differences; Lagoudakis & Parr 2003), by one linear solve.

    With a ridge the regression that it is a fixed point of is penalised (Kolter & Ng 2009, section 3).
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
                point = following[j]
                if point >= 0:
                    for a in range(n_actions):
                        if next_policy[point, a] > 0.0 and logged[a] == 0.0:
                            return np.full((n_actions, d), np.nan)
                        for g in range(d):
                            system[start + f, a * d + g] -= x * discount * next_policy[point, a] * next_design[point, g]
    change, penalty = np.kron(np.eye(n_actions), standardization(design, weights * known)), ridge * np.sum(weights * known)
    system, moments = change @ system @ change.T, change @ moments
    for k in range(size):
        if k % d > 0:
            system[k, k] += penalty
    solution = np.linalg.pinv(system, _RANK) @ moments
    if np.abs(system @ solution - moments).max() > 1e-7 * np.abs(moments).max():
        return np.full((n_actions, d), np.nan)
    out = np.empty((n_actions, d))
    out[:] = (change.T @ solution).reshape(n_actions, d)
    for a in range(n_actions):
        if logged[a] == 0.0:
            out[a] = np.nan
    return out


@parallel
def refit_linear_start_values(
    design: Floats,
    actions: Ints,
    rewards: Floats,
    known: Bools,
    following: Ints,
    next_design: Floats,
    next_policy: Floats,
    start_design: Floats,
    start_policy: Floats,
    rows: Ints,
    horizon: int,
    discount: float,
    ridge: float,
    weights: Floats,
) -> Floats:
    """(B,) mean start value of the Q refitted under each row of resampling weights (B, n); horizon 0 means stationary.

    A replicate without an action that the target takes has no fit and is NaN; the caller refuses it.

    Args:
        following, next_design, next_policy: see `finite_horizon_linear_q`. rows: (M,) trajectory of each transition.
        start_design, start_policy: (n, d) and (n, A) at the first observations.
    """
    n, n_actions = start_policy.shape
    out = np.empty(len(weights))
    for b in numba.prange(len(weights)):
        row_weights = weights[b][rows]
        if horizon > 0:
            coefficients = finite_horizon_linear_q(
                design,
                actions,
                rewards,
                known,
                following,
                next_design,
                next_policy,
                row_weights,
                n_actions,
                horizon,
                discount,
                ridge,
            )[0]
        else:
            coefficients = stationary_linear_q(
                design, actions, rewards, known, following, next_design, next_policy[0], row_weights, n_actions, discount, ridge
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
