"""Maximum-likelihood logit by Newton's method, binary or multinomial, with a weight on every row."""

from __future__ import annotations

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.kernels.jit import compiled

_SATURATED = 500.0
"""Beyond this linear predictor (odds of e^500) a fit has diverged, and p (1 - p) soon leaves the range of floats."""


@compiled
def softmax_rows(design: Floats, coefficients: Floats) -> Floats:
    """(M, K) class probabilities; class 0 is the reference.

    Args:
        design: (M, d). coefficients: (K - 1, d).
    """
    m, d = design.shape
    k = len(coefficients) + 1
    out = np.empty((m, k))
    for j in range(m):
        top = 0.0
        out[j, 0] = 0.0
        for c in range(1, k):
            eta = 0.0
            for f in range(d):
                eta += coefficients[c - 1, f] * design[j, f]
            out[j, c] = eta
            top = max(top, eta)
        total = 0.0
        for c in range(k):
            out[j, c] = np.exp(out[j, c] - top)
            total += out[j, c]
        for c in range(k):
            out[j, c] /= total
    return out


@compiled
def log_likelihood(design: Floats, classes: Ints, weights: Floats, coefficients: Floats) -> float:
    """Weighted log-likelihood."""
    probabilities = softmax_rows(design, coefficients)
    total = 0.0
    for j in range(len(classes)):
        if weights[j] > 0.0:
            total += weights[j] * np.log(probabilities[j, classes[j]])
    return total


@compiled
def information(design: Floats, weights: Floats, probabilities: Floats) -> Floats:
    """((K - 1) d, (K - 1) d) Fisher information sum_j w_j (diag(p_j) - p_j p_j') kron x_j x_j'."""
    m, d = design.shape
    k = probabilities.shape[1] - 1
    out = np.zeros((k * d, k * d))
    for a in range(k):
        for b in range(a, k):
            curvature = np.empty(m)
            for j in range(m):
                p, q = probabilities[j, a + 1], probabilities[j, b + 1]
                curvature[j] = weights[j] * (p * (1.0 - p) if a == b else -p * q)
            block = design.T @ (design * curvature.reshape(-1, 1))
            out[a * d : (a + 1) * d, b * d : (b + 1) * d] = block
            out[b * d : (b + 1) * d, a * d : (a + 1) * d] = block.T
    return out


@compiled
def score_rows(design: Floats, classes: Ints, probabilities: Floats) -> Floats:
    """(M, (K - 1) d) derivative of each row's log-likelihood in the coefficients."""
    m, d = design.shape
    k = probabilities.shape[1] - 1
    out = np.empty((m, k * d))
    for j in range(m):
        for a in range(k):
            residual = (1.0 if classes[j] == a + 1 else 0.0) - probabilities[j, a + 1]
            for f in range(d):
                out[j, a * d + f] = residual * design[j, f]
    return out


@compiled
def newton_logit(
    design: Floats, classes: Ints, weights: Floats, n_classes: int, max_iterations: int, tolerance: float
) -> tuple[Floats, float, int]:
    """Coefficients (K - 1, d), the last change of the linear predictor, and the iterations made.

    Newton steps, halved while they lower the likelihood, until no linear predictor moves by more than `tolerance`; under
    separation the predictor keeps moving and the caller sees it; beyond all bounds the last change is infinite. The design must
    have full column rank.
    """
    m, d = design.shape
    coefficients = np.zeros((n_classes - 1, d))
    likelihood = log_likelihood(design, classes, weights, coefficients)
    change = np.inf
    for iteration in range(max_iterations):
        probabilities = softmax_rows(design, coefficients)
        gradient = np.zeros((n_classes - 1) * d)
        scores = score_rows(design, classes, probabilities)
        for j in range(m):
            for f in range(len(gradient)):
                gradient[f] += weights[j] * scores[j, f]
        hessian = information(design, weights, probabilities)
        for f in range(len(gradient)):
            hessian[f, f] += 1e-12 * (1e-300 + hessian[f, f])
        step = np.linalg.solve(hessian, gradient).reshape(n_classes - 1, d)
        moved = design @ step.T
        change = np.abs(moved).max()
        scale = 1.0
        while scale > 1e-10:
            proposal = coefficients + scale * step
            candidate = log_likelihood(design, classes, weights, proposal)
            if candidate >= likelihood - 1e-12 * abs(likelihood):
                break
            scale *= 0.5
        if not np.abs(design @ proposal.T).max() <= _SATURATED:
            return coefficients, np.inf, iteration + 1
        coefficients = proposal
        likelihood = candidate
        if change < tolerance:
            return coefficients, change, iteration + 1
    return coefficients, change, max_iterations
