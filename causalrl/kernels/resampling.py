"""The resampling engine: weighted sums of per-cluster totals under random weights, without ever holding a B x G array.

A block of replicates takes its weights (`cluster_weights`) a few clusters at a time and adds weights' x totals, a matrix product
in which one draw serves all columns. Every sum runs over the clusters in the same order, so that a column's result depends
neither on the other columns, nor on the thread count, nor on the number of replicates. Memory: 32 bytes a cluster and thread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from causalrl.checks import Floats
from causalrl.kernels.cluster_weights import CHUNK, WIDTH, Weights, block_counts, block_keys, draw_counts, fill_weights
from causalrl.kernels.jit import compiled, contracted, parallel, reduction

MOST_TOTALS = 16
"""Arrays of totals that one draw can serve."""
_MULTINOMIAL = int(Weights.MULTINOMIAL)


@parallel
def count_block(n_clusters: int, seed: int, first: int, last: int) -> Floats:
    """(last - first, G) multinomial counts of the replicates first, ..., last - 1."""
    block = np.empty((last - first, n_clusters))
    for b in numba.prange(last - first):
        counts = np.empty(n_clusters, np.uint8)
        draw_counts(seed, first + b, n_clusters, counts)
        block[b] = counts
    return block


@contracted
def add_products(weights: Floats, rows: Floats, length: int, sums: Floats) -> None:
    """sums (p, WIDTH) += rows[:length]' (p, length) x weights[:length] (length, WIDTH).

    Two columns share the weights that are read, four rows at a time; each sum is a chain of fused multiply-adds in the order of
    the rows, the same for an odd last column.
    """
    p, fours = rows.shape[1], length // 4 * 4
    for j in range(0, p - 1, 2):
        for g in range(0, fours, 4):
            x0, x1, x2, x3 = rows[g, j], rows[g + 1, j], rows[g + 2, j], rows[g + 3, j]
            y0, y1, y2, y3 = rows[g, j + 1], rows[g + 1, j + 1], rows[g + 2, j + 1], rows[g + 3, j + 1]
            for b in range(WIDTH):
                w0, w1, w2, w3 = weights[g, b], weights[g + 1, b], weights[g + 2, b], weights[g + 3, b]
                sums[j, b] = sums[j, b] + x0 * w0 + x1 * w1 + x2 * w2 + x3 * w3
                sums[j + 1, b] = sums[j + 1, b] + y0 * w0 + y1 * w1 + y2 * w2 + y3 * w3
    if p % 2:
        last = p - 1
        for g in range(0, fours, 4):
            x0, x1, x2, x3 = rows[g, last], rows[g + 1, last], rows[g + 2, last], rows[g + 3, last]
            for b in range(WIDTH):
                w0, w1, w2, w3 = weights[g, b], weights[g + 1, b], weights[g + 2, b], weights[g + 3, b]
                sums[last, b] = sums[last, b] + x0 * w0 + x1 * w1 + x2 * w2 + x3 * w3
    for g in range(fours, length):
        for j in range(p):
            for b in range(WIDTH):
                sums[j, b] += rows[g, j] * weights[g, b]


@compiled
def weights_of(kind: int, n_clusters: int, replicates: int, seed: int) -> Floats:
    """(B, G) the weights themselves, for small problems and tests."""
    out = np.empty((replicates, n_clusters))
    weights, words = np.empty((CHUNK, WIDTH)), np.zeros((CHUNK, WIDTH // 4), np.uint64)
    for first in range(0, replicates, WIDTH):
        keys, counts = block_keys(kind, seed, first), block_counts(kind, seed, first, n_clusters)
        for start in range(0, n_clusters, CHUNK):
            length = min(CHUNK, n_clusters - start)
            fill_weights(kind, keys, counts, start, length, words, weights)
            for b in range(min(WIDTH, replicates - first)):
                out[first + b, start : start + length] = weights[:length, b]
    return out


def weighted_sums(kind: int, totals: Sequence[Floats], replicates: int, seed: int) -> tuple[Floats, Floats]:
    """(B, p) sum over g of weight_g totals_g, and (B,) sum of the weights, under the weights of every replicate.

    Args:
        kind: a member of `Weights`.
        totals: at most `MOST_TOTALS` arrays (G, p_k) of p columns in all, which share one draw and are not copied.
    """
    given = tuple(np.ascontiguousarray(block) for block in totals)
    padding = np.empty((len(given[0]), 0))
    return _weighted_sums(kind, given + (padding,) * (MOST_TOTALS - len(given)), len(given), replicates, seed)


@parallel
def _weighted_sums(kind: int, totals: tuple[Floats, ...], n_totals: int, replicates: int, seed: int) -> tuple[Floats, Floats]:
    ends = np.zeros(n_totals + 1, np.int64)
    for k in range(n_totals):
        ends[k + 1] = ends[k] + totals[k].shape[1]
    n_clusters, p = len(totals[0]), ends[n_totals]
    out, weight = np.empty((replicates, p)), np.empty(replicates)
    for block in numba.prange((replicates + WIDTH - 1) // WIDTH):
        first = block * WIDTH
        keys, counts = block_keys(kind, seed, first), block_counts(kind, seed, first, n_clusters)
        weights, words = np.empty((CHUNK, WIDTH)), np.zeros((CHUNK, WIDTH // 4), np.uint64)
        sums, drawn = np.zeros((p, WIDTH)), np.zeros(WIDTH)
        for start in range(0, n_clusters, CHUNK):
            length = min(CHUNK, n_clusters - start)
            fill_weights(kind, keys, counts, start, length, words, weights)
            add_rows(weights, length, drawn)
            for k in range(n_totals):
                add_products(weights, totals[k][start : start + length], length, sums[ends[k] : ends[k + 1]])
        for b in range(min(WIDTH, replicates - first)):
            out[first + b] = sums[:, b]
            weight[first + b] = drawn[b]
    return out, weight


@compiled
def add_rows(weights: Floats, length: int, drawn: Floats) -> None:
    """drawn (WIDTH,) += weights[0] + ... + weights[length - 1]."""
    eights = length // 8 * 8
    for g in range(0, eights, 8):
        for b in range(WIDTH):
            first = (weights[g, b] + weights[g + 1, b]) + (weights[g + 2, b] + weights[g + 3, b])
            drawn[b] += first + ((weights[g + 4, b] + weights[g + 5, b]) + (weights[g + 6, b] + weights[g + 7, b]))
    for g in range(eights, length):
        for b in range(WIDTH):
            drawn[b] += weights[g, b]


@reduction
def add_squares(
    weights: Floats, rows: Floats, sizes: Floats, length: int, means: Floats, gradients: Floats, influence: Floats, sums: Floats
) -> None:
    """sums (WIDTH,) += weight u^2 with u the influence of a cluster at each replicate's own means and gradients (p, WIDTH)."""
    for g in range(length):
        influence[:] = 0.0
        for j in range(rows.shape[1]):
            x, size = rows[g, j], sizes[g]
            for b in range(WIDTH):
                influence[b] += gradients[j, b] * (x - size * means[j, b])
        for b in range(WIDTH):
            sums[b] += weights[g, b] * influence[b] * influence[b]


@parallel
def influence_squares(totals: Floats, sizes: Floats, means: Floats, gradients: Floats, seed: int) -> Floats:
    """(B,) sum over g of counts_g u_g^2 in every multinomial replicate.

    With S_g the totals of cluster g, N_g its size, m the replicate's means and d its gradient, the influence of a cluster is
    u_g = d'(S_g - N_g m).

    Args:
        totals: (G, p), contiguous. sizes: (G,) trajectories in each cluster.
        means, gradients: (B, p).
    """
    n_clusters, p = totals.shape
    replicates = len(means)
    kind = _MULTINOMIAL
    out = np.empty(replicates)
    for block in numba.prange((replicates + WIDTH - 1) // WIDTH):
        first = block * WIDTH
        keys, counts = block_keys(kind, seed, first), block_counts(kind, seed, first, n_clusters)
        weights, words = np.empty((CHUNK, WIDTH)), np.zeros((CHUNK, WIDTH // 4), np.uint64)
        width = min(WIDTH, replicates - first)
        at_means, at_gradients = np.zeros((p, WIDTH)), np.zeros((p, WIDTH))
        at_means[:, :width] = means[first : first + width].T
        at_gradients[:, :width] = gradients[first : first + width].T
        influence, sums = np.empty(WIDTH), np.zeros(WIDTH)
        for start in range(0, n_clusters, CHUNK):
            stop = min(start + CHUNK, n_clusters)
            fill_weights(kind, keys, counts, start, stop - start, words, weights)
            rows, own = totals[start:stop], sizes[start:stop]
            add_squares(weights, rows, own, stop - start, at_means, at_gradients, influence, sums)
        out[first : first + width] = sums[:width]
    return out


def bootstrap_means(totals: Floats, sizes: Floats, replicates: int, seed: int) -> Floats:
    """(B, p) means of the moments over the trajectories of every multinomial replicate.

    Args:
        totals: (p, G) moments summed within clusters.
        sizes: (G,) trajectories in each cluster, or their weights.
    """
    sums, _ = weighted_sums(_MULTINOMIAL, [totals.T, sizes[:, None]], replicates, seed)
    return sums[:, :-1] / sums[:, -1:]
