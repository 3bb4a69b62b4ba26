"""Values of policies at one decision in many data sets that differ in actions, outcomes or weights alone."""

from __future__ import annotations

import math

import numba
import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.kernels.jit import compiled, parallel
from causalrl.kernels.linear import action_inverse_grams, action_least_squares
from causalrl.kernels.refit_propensities import logit_propensities


@parallel
def logit_of_actions(
    basis: Floats, actions: Ints, weights: Floats, n_actions: int, max_iterations: int, tolerance: float, diverged: float
) -> Floats:
    """(R, n) probability of the own action under the logit of each data set; 0 where there is no fit, or no weight.

    Args:
        actions, weights: (R or 1, n).
    """
    n, count = len(basis), max(len(actions), len(weights))
    out = np.zeros((count, n))
    for r in numba.prange(count):
        own = actions[r] if len(actions) > 1 else actions[0]
        mass = weights[r] if len(weights) > 1 else weights[0]
        start, folds = np.zeros((n_actions - 1, basis.shape[1])), np.zeros(n, np.int64)
        logit_propensities(
            basis, own, n_actions, np.arange(n + 1), mass, folds, max_iterations, tolerance, diverged, start, out[r]
        )
    return out


@compiled
def outcome_coefficients(design: Floats, actions: Ints, rewards: Floats, weights: Floats, n_actions: int, ridge: float) -> Floats:
    """(A, d) coefficients of the outcome's regression in each arm."""
    inverse_grams, means = action_inverse_grams(design, actions, weights, n_actions, ridge)
    return action_least_squares(inverse_grams, means, design, actions, weights, rewards)


@compiled
def linear_value(design: Floats, j: int, coefficients: Floats) -> float:
    """The prediction at row j."""
    value = 0.0
    for f in range(len(coefficients)):
        value += design[j, f] * coefficients[f]
    return value


@compiled
def decision_value(
    design: Floats,
    coefficients: Floats,
    actions: Ints,
    rewards: Floats,
    weights: Floats,
    propensities: Floats,
    target: Floats,
    normalized: bool,
    bound: float,
) -> float:
    """mean V + sum w (y - q) / n, or / sum w where normalised; without coefficients (0, d) V and q are 0.

    Args:
        target: (n, A). bound: of the ratios w = target / propensity.
    """
    start, total, mass = 0.0, 0.0, 0.0
    for j in range(len(actions)):
        if weights[j] > 0.0:
            ratio, residual = target[j, actions[j]], rewards[j]
            if len(coefficients):
                for a in range(len(coefficients)):
                    if target[j, a] > 0.0:
                        start += weights[j] * target[j, a] * linear_value(design, j, coefficients[a])
                residual -= linear_value(design, j, coefficients[actions[j]])
            if ratio > 0.0:
                ratio = min(ratio / propensities[j], bound)
                total += weights[j] * ratio * residual
                mass += weights[j] * ratio
    n = weights.sum()
    return float(start / n + total / (mass if normalized else n))


@parallel
def decision_values(
    design: Floats,
    ridge: float,
    augmented: bool,
    actions: Ints,
    rewards: Floats,
    weights: Floats,
    propensities: Floats,
    targets: Floats,
    normalized: bool,
    bound: float,
) -> Floats:
    """(R, J) values of the targets (J, n, A) in each data set; NaN where one does not exist.

    Args:
        design: (n, d) of the outcome regression, with its ridge. augmented: whether there is one.
        actions, rewards, weights, propensities: (R or 1, n).
    """
    count = max(len(actions), len(rewards), len(weights))
    out = np.full((count, len(targets)), np.nan)
    for r in numba.prange(count):
        own = actions[r] if len(actions) > 1 else actions[0]
        outcome = rewards[r] if len(rewards) > 1 else rewards[0]
        drawn = weights[r] if len(weights) > 1 else weights[0]
        fitted = propensities[r] if len(propensities) > 1 else propensities[0]
        if np.all((fitted > 0.0) | (drawn == 0.0)):
            coefficients = np.zeros((0, design.shape[1]))
            if augmented:
                coefficients = outcome_coefficients(design, own, outcome, drawn, targets.shape[2], ridge)
            for k in range(len(targets)):
                value = decision_value(design, coefficients, own, outcome, drawn, fitted, targets[k], normalized, bound)
                out[r, k] = value if math.isfinite(value) else np.nan
    return out
