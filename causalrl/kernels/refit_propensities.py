"""Propensities under resampling weights: every replicate learns those of its logged actions anew, fold by fold.

A replicate is a row of trajectory weights (n,), 0 for what was not drawn, and of folds (n,). Rows that were not drawn stay 0.
"""

from __future__ import annotations

import numba
import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.kernels.jit import compiled, parallel
from causalrl.kernels.logit import class_probability, largest_predictor, newton_logit, newton_logit_from


@compiled
def training_weights(weights: Floats, folds: Ints, fold: int, n_folds: int) -> Floats:
    """(n,) weights of the trajectories that a fold's nuisances learn from: all of them where there is one fold."""
    out = weights.copy()
    if n_folds > 1:
        for i in range(len(weights)):
            if folds[i] == fold:
                out[i] = 0.0
    return out


@compiled
def frequencies(
    contexts: Ints, actions: Ints, n_contexts: int, n_actions: int, offsets: Ints, weights: Floats, folds: Ints, out: Floats
) -> None:
    """(M,) share of each drawn step's action among the actions of its context in the training folds; 0 where it is unseen."""
    n_folds = folds.max() + 1
    for fold in range(n_folds):
        train = training_weights(weights, folds, fold, n_folds)
        counts, totals = np.zeros(n_contexts * n_actions), np.zeros(n_contexts)
        for i in range(len(weights)):
            if train[i] > 0.0:
                for j in range(offsets[i], offsets[i + 1]):
                    counts[contexts[j] * n_actions + actions[j]] += train[i]
                    totals[contexts[j]] += train[i]
        for i in range(len(weights)):
            if weights[i] > 0.0 and folds[i] == fold:
                for j in range(offsets[i], offsets[i + 1]):
                    count = counts[contexts[j] * n_actions + actions[j]]
                    out[j] = count / totals[contexts[j]] if count > 0.0 else 0.0


@parallel
def refit_counts(
    contexts: Ints, actions: Ints, n_contexts: int, n_actions: int, offsets: Ints, weights: Floats, folds: Ints
) -> Floats:
    """(B, M) `frequencies` of every replicate.

    Args:
        contexts, actions: (M,). weights, folds: (B, n).
    """
    out = np.zeros((len(weights), len(contexts)))
    for b in numba.prange(len(weights)):
        frequencies(contexts, actions, n_contexts, n_actions, offsets, weights[b], folds[b], out[b])
    return out


@compiled
def logit_propensities(
    basis: Floats,
    actions: Ints,
    n_actions: int,
    offsets: Ints,
    weights: Floats,
    folds: Ints,
    max_iterations: int,
    tolerance: float,
    diverged: float,
    start: Floats,
    out: Floats,
) -> None:
    """(M,) probability of each drawn step's action under the logit of the training folds; 0 where there is none.

    Args:
        basis: (M, d) design of full column rank. diverged: a linear predictor beyond this that still moves is separation.
        start: (A - 1, d) coefficients that a fit to all actions begins with.
    """
    n_folds = folds.max() + 1
    for fold in range(n_folds):
        train = training_weights(weights, folds, fold, n_folds)
        design, row_weights, classes = np.empty(basis.shape), np.empty(len(actions)), np.empty(len(actions), np.int64)
        code, used = np.full(n_actions, -1), 0
        for i in range(len(train)):
            if train[i] > 0.0:
                for j in range(offsets[i], offsets[i + 1]):
                    for f in range(basis.shape[1]):
                        design[used, f] = basis[j, f]
                    row_weights[used], classes[used] = train[i], actions[j]
                    code[actions[j]] = 0
                    used += 1
        n_classes = 0
        for a in range(n_actions):
            if code[a] == 0:
                code[a] = n_classes
                n_classes += 1
        if n_classes < 2:
            continue
        design, classes = design[:used], code[classes[:used]]
        begin = start if n_classes == n_actions else np.zeros((n_classes - 1, basis.shape[1]))
        coefficients, change, _ = newton_logit_from(begin, design, classes, row_weights[:used], max_iterations, tolerance)
        if np.isinf(change) or (change > 1e-3 and largest_predictor(design, coefficients) > diverged):
            continue
        for i in range(len(weights)):
            if weights[i] > 0.0 and folds[i] == fold:
                for j in range(offsets[i], offsets[i + 1]):
                    if code[actions[j]] >= 0:
                        out[j] = class_probability(basis, j, coefficients, code[actions[j]])


@compiled
def sample_coefficients(basis: Floats, actions: Ints, n_actions: int, max_iterations: int, tolerance: float) -> Floats:
    """(A - 1, d) of the logit of all rows; 0 where an action is absent or the fit does not converge."""
    if (np.bincount(actions, minlength=n_actions) > 0).all():
        fitted, change, _ = newton_logit(basis, actions, np.ones(len(actions)), n_actions, max_iterations, tolerance)
        if change < tolerance:
            return fitted
    return np.zeros((n_actions - 1, basis.shape[1]))


@parallel
def refit_logit(
    basis: Floats,
    actions: Ints,
    n_actions: int,
    offsets: Ints,
    max_iterations: int,
    tolerance: float,
    diverged: float,
    start: Floats,
    weights: Floats,
    folds: Ints,
) -> Floats:
    """(B, M) `logit_propensities` of every replicate, weights and folds (B, n).

    Args:
        start: `sample_coefficients`, a few steps from the maximum of each replicate.
    """
    out = np.zeros((len(weights), len(actions)))
    for b in numba.prange(len(weights)):
        logit_propensities(
            basis, actions, n_actions, offsets, weights[b], folds[b], max_iterations, tolerance, diverged, start, out[b]
        )
    return out
