"""The resampling engine: weighted sums of per-cluster totals under random weights, without ever holding a B x G array.

A block of replicates takes its weights (`cluster_weights`) a few clusters at a time and adds weights' x totals, a matrix product
in which one draw serves all columns. Every sum runs over the clusters in the same order, so that a column's result depends
neither on the other columns, nor on the thread count, nor on the number of replicates. Memory: 32 bytes a cluster and thread.
"""

from __future__ import annotations

import numba
import numpy as np

from causalrl.checks import Floats
from causalrl.kernels.cluster_weights import CHUNK, WIDTH, Weights, block_counts, block_keys, draw_counts, fill_weights
from causalrl.kernels.jit import compiled, parallel, reduction

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


@reduction
def add_products(weights: Floats, rows: Floats, length: int, sums: Floats) -> None:
    """sums (p, WIDTH) += rows[:length]' (p, length) x weights[:length] (length, WIDTH), four rows at a time."""
    fours = length // 4 * 4
    for g in range(0, fours, 4):
        for j in range(rows.shape[1]):
            x0, x1, x2, x3 = rows[g, j], rows[g + 1, j], rows[g + 2, j], rows[g + 3, j]
            for b in range(WIDTH):
                sums[j, b] += x0 * weights[g, b] + x1 * weights[g + 1, b] + x2 * weights[g + 2, b] + x3 * weights[g + 3, b]
    for g in range(fours, length):
        for j in range(rows.shape[1]):
            for b in range(WIDTH):
                sums[j, b] += rows[g, j] * weights[g, b]


@compiled
def weights_of(kind: int, n_clusters: int, replicates: int, seed: int) -> Floats:
    """(B, G) the weights themselves, for small problems and tests."""
    out = np.empty((replicates, n_clusters))
    weights, words = np.empty((CHUNK, WIDTH)), np.empty((2, CHUNK, WIDTH // 2), np.uint64)
    for first in range(0, replicates, WIDTH):
        keys, counts = block_keys(kind, seed, first), block_counts(kind, seed, first, n_clusters)
        for start in range(0, n_clusters, CHUNK):
            length = min(CHUNK, n_clusters - start)
            fill_weights(kind, keys, counts, start, length, words, weights)
            for b in range(min(WIDTH, replicates - first)):
                out[first + b, start : start + length] = weights[:length, b]
    return out


@parallel
def weighted_sums(kind: int, totals: Floats, replicates: int, seed: int) -> Floats:
    """(B, p) sum over g of weight_g totals_g under the weights of every replicate.

    Args:
        kind: a member of `Weights`.
        totals: (G, p), contiguous.
    """
    n_clusters, p = totals.shape
    out = np.empty((replicates, p))
    for block in numba.prange((replicates + WIDTH - 1) // WIDTH):
        first = block * WIDTH
        keys, counts = block_keys(kind, seed, first), block_counts(kind, seed, first, n_clusters)
        weights, words = np.empty((CHUNK, WIDTH)), np.empty((2, CHUNK, WIDTH // 2), np.uint64)
        sums = np.zeros((p, WIDTH))
        for start in range(0, n_clusters, CHUNK):
            length = min(CHUNK, n_clusters - start)
            fill_weights(kind, keys, counts, start, length, words, weights)
            add_products(weights, totals[start : start + length], length, sums)
        for b in range(min(WIDTH, replicates - first)):
            out[first + b] = sums[:, b]
    return out


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
        weights, words = np.empty((CHUNK, WIDTH)), np.empty((2, CHUNK, WIDTH // 2), np.uint64)
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
    sums = weighted_sums(_MULTINOMIAL, np.column_stack([totals.T, sizes]), replicates, seed)
    return sums[:, :-1] / sums[:, -1:]
