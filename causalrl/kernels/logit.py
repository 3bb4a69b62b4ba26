"""Maximum-likelihood logit by Newton's method, binary or multinomial, with a weight on every row."""

from __future__ import annotations

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.kernels.jit import compiled, reduction

_SATURATED = 500.0
"""Beyond this linear predictor (odds of e^500) a fit has diverged, and p (1 - p) soon leaves the range of floats."""
_BLOCK = 256
"""Rows whose columns and probabilities are held at a time."""
_SHORT = 0.8
"""A Newton step s that moves no linear predictor further raises the likelihood: along it the curvature grows by exp(r t) at most,
r = 1.6 the largest change of a log odds, and the gain is s'Hs (1 - (exp(r) - 1 - r) / r^2) at least, a positive number."""


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


@reduction
def row_product(a: Floats, i: int, b: Floats, j: int, count: int) -> float:
    """sum_l a[i, l] b[j, l] over the first entries."""
    total = 0.0
    for entry in range(count):
        total += a[i, entry] * b[j, entry]
    return total


@compiled
def copy_columns(matrix: Floats, first: int, out: Floats) -> int:
    """Write rows first, first + 1, ... of a matrix (M, d) into the columns of out (d, B); returns how many there are."""
    count = int(min(len(matrix) - first, out.shape[1]))
    for j in range(count):
        for f in range(len(out)):
            out[f, j] = matrix[first + j, f]
    return count


@compiled
def add_information(columns: Floats, probabilities: Floats, weights: Floats, count: int, scaled: Floats, out: Floats) -> None:
    """Add the Fisher information of a block of rows to out ((K - 1) d, (K - 1) d).

    Args:
        columns, probabilities: (d, B) and (K, B). weights: (count,). scaled: (d, B), written over.
    """
    d, k = len(columns), len(probabilities) - 1
    curvature = np.empty(count)
    for a in range(k):
        for b in range(a, k):
            for j in range(count):
                p, q = probabilities[a + 1, j], probabilities[b + 1, j]
                curvature[j] = weights[j] * (p * (1.0 - p) if a == b else -p * q)
            for f in range(d):
                for j in range(count):
                    scaled[f, j] = curvature[j] * columns[f, j]
            for f in range(d):
                for g in range(f + 1):
                    entry = row_product(scaled, f, columns, g, count)
                    out[a * d + f, b * d + g] += entry
                    if f != g:
                        out[a * d + g, b * d + f] += entry
                    if a != b:
                        out[b * d + g, a * d + f] += entry
                        if f != g:
                            out[b * d + f, a * d + g] += entry


@compiled
def information(design: Floats, weights: Floats, probabilities: Floats) -> Floats:
    """((K - 1) d, (K - 1) d) Fisher information sum_j w_j (diag(p_j) - p_j p_j') kron x_j x_j'."""
    d, k = design.shape[1], probabilities.shape[1]
    columns, scaled, block = np.empty((d, _BLOCK)), np.empty((d, _BLOCK)), np.empty((k, _BLOCK))
    out = np.zeros(((k - 1) * d, (k - 1) * d))
    for first in range(0, len(design), _BLOCK):
        count = copy_columns(design, first, columns)
        copy_columns(probabilities, first, block)
        add_information(columns, block, weights[first : first + count], count, scaled, out)
    return out


@compiled
def linear_predictor(design: Floats, j: int, coefficients: Floats, c: int) -> float:
    """Log odds of class c against class 0 at row j."""
    eta = 0.0
    if c > 0:
        for f in range(design.shape[1]):
            eta += design[j, f] * coefficients[c - 1, f]
    return eta


@compiled
def score_along(design: Floats, classes: Ints, probabilities: Floats, direction: Floats) -> Floats:
    """(M,) derivative of each row's log-likelihood along a direction (K - 1, d) of the coefficients."""
    out = np.zeros(len(design))
    for j in range(len(design)):
        for c in range(1, len(direction) + 1):
            residual = (1.0 if classes[j] == c else 0.0) - probabilities[j, c]
            out[j] += residual * linear_predictor(design, j, direction, c)
    return out


@compiled
def score_sum(design: Floats, classes: Ints, probabilities: Floats, weights: Floats) -> Floats:
    """((K - 1) d,) weighted sum of the derivatives of the rows' log-likelihoods."""
    d, k = design.shape[1], probabilities.shape[1] - 1
    out = np.zeros(k * d)
    for j in range(len(design)):
        for c in range(1, k + 1):
            residual = weights[j] * ((1.0 if classes[j] == c else 0.0) - probabilities[j, c])
            for f in range(d):
                out[(c - 1) * d + f] += residual * design[j, f]
    return out


@compiled
def block_probabilities(columns: Floats, count: int, coefficients: Floats, out: Floats) -> float:
    """Write the class probabilities (K, B) of a block of rows (d, B); returns the largest |linear predictor|."""
    largest = 0.0
    out[:, :count] = 0.0
    for c in range(len(coefficients)):
        for f in range(len(columns)):
            slope = coefficients[c, f]
            for j in range(count):
                out[c + 1, j] += slope * columns[f, j]
    for j in range(count):
        top, total = 0.0, 0.0
        for c in range(1, len(out)):
            top, largest = max(top, out[c, j]), max(largest, abs(out[c, j]))
        for c in range(len(out)):
            out[c, j] = 1.0 if out[c, j] == top else np.exp(out[c, j] - top)
            total += out[c, j]
        for c in range(len(out)):
            out[c, j] /= total
    return largest


@compiled
def derivatives(design: Floats, classes: Ints, weights: Floats, coefficients: Floats, gradient: Floats, hessian: Floats) -> float:
    """Write the derivatives of the weighted log-likelihood; returns the largest |linear predictor|.

    In blocks of rows, so that what is made of each stays in the cache.

    Args:
        gradient: ((K - 1) d,). hessian: ((K - 1) d, (K - 1) d), of minus the log-likelihood.
    """
    d, k = design.shape[1], len(coefficients)
    columns, scaled, probabilities = np.empty((d, _BLOCK)), np.empty((d, _BLOCK)), np.empty((k + 1, _BLOCK))
    residuals, largest = np.empty((k, _BLOCK)), 0.0
    gradient[:], hessian[:] = 0.0, 0.0
    for first in range(0, len(design), _BLOCK):
        count = copy_columns(design, first, columns)
        own, own_classes = weights[first : first + count], classes[first : first + count]
        largest = max(largest, block_probabilities(columns, count, coefficients, probabilities))
        for a in range(k):
            for j in range(count):
                residuals[a, j] = own[j] * ((1.0 if own_classes[j] == a + 1 else 0.0) - probabilities[a + 1, j])
            for f in range(d):
                gradient[a * d + f] += row_product(residuals, a, columns, f, count)
        add_information(columns, probabilities, own, count, scaled, hessian)
    return largest


@compiled
def class_probability(design: Floats, j: int, coefficients: Floats, c: int) -> float:
    """Probability of class c at row j."""
    own, total = linear_predictor(design, j, coefficients, c), 1.0
    for other in range(len(coefficients) + 1):
        if other != c:
            total += np.exp(linear_predictor(design, j, coefficients, other) - own)
    return float(1.0 / total)


@compiled
def largest_predictor(design: Floats, coefficients: Floats) -> float:
    """The largest |x'beta| over rows and classes."""
    largest = 0.0
    for j in range(len(design)):
        for c in range(1, len(coefficients) + 1):
            largest = max(largest, abs(linear_predictor(design, j, coefficients, c)))
    return largest


@compiled
def newton_logit(
    design: Floats, classes: Ints, weights: Floats, n_classes: int, max_iterations: int, tolerance: float
) -> tuple[Floats, float, int]:
    """`newton_logit_from` coefficients of 0."""
    start = np.zeros((n_classes - 1, design.shape[1]))
    return newton_logit_from(start, design, classes, weights, max_iterations, tolerance)


@compiled
def halved(step: Floats, coefficients: Floats, design: Floats, classes: Ints, weights: Floats) -> Floats:
    """The step, halved until it does not lower the likelihood."""
    likelihood = log_likelihood(design, classes, weights, coefficients)
    while True:
        candidate = log_likelihood(design, classes, weights, coefficients + step)
        if candidate >= likelihood - 1e-12 * abs(likelihood) or np.abs(step).max() < 1e-10:
            return step
        step = 0.5 * step


@compiled
def newton_logit_from(
    start: Floats, design: Floats, classes: Ints, weights: Floats, max_iterations: int, tolerance: float
) -> tuple[Floats, float, int]:
    """Coefficients (K - 1, d), the last change of the linear predictor, and the iterations made.

    Newton steps, halved while they lower the likelihood, until no linear predictor moves by more than `tolerance`; under
    separation the predictor keeps moving and the caller sees it; beyond all bounds the last change is infinite. The design must
    have full column rank.

    Args:
        start: (K - 1, d) where the steps begin.
    """
    size = start.size
    gradient, hessian = np.empty(size), np.empty((size, size))
    coefficients, change = start, np.inf
    derivatives(design, classes, weights, coefficients, gradient, hessian)
    for iteration in range(max_iterations):
        for f in range(size):
            hessian[f, f] += 1e-12 * (1e-300 + hessian[f, f])
        step = np.reshape(np.linalg.solve(hessian, gradient), start.shape)
        change = largest_predictor(design, step)
        if change > _SHORT:
            step = halved(step, coefficients, design, classes, weights)
        proposal = coefficients + step
        if change < tolerance:
            return proposal, change, iteration + 1
        if not derivatives(design, classes, weights, proposal, gradient, hessian) <= _SATURATED:
            return coefficients, np.inf, iteration + 1
        coefficients = proposal
    return coefficients, change, max_iterations
