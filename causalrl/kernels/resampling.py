"""The resampling engine: cluster bootstrap of per-cluster totals, without ever holding a B x n array.

Replicate b draws G clusters with replacement; its draws are hashes of (seed, b, i), so that every estimate made with
the same seed sees the same draw, whatever the thread count.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats
from causalrl.kernels.jit import compiled, parallel, reduction
from causalrl.kernels.rng import bits, stream_key

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@compiled
def replicate_counts(n_clusters: int, seed: int, replicate: int) -> NDArray[np.int32]:
    """(G,) how often a replicate draws each cluster; one hash gives two draws of 32 bits each."""
    key = stream_key(np.uint64(seed), np.uint64(replicate))
    size = np.uint64(n_clusters)
    counts = np.zeros(n_clusters, np.int32)
    for pair in range(n_clusters // 2):
        word = bits(key, np.uint64(pair))
        counts[((word >> _HALF) * size) >> _HALF] += 1
        counts[((word & _LOW) * size) >> _HALF] += 1
    if n_clusters % 2:
        word = bits(key, np.uint64(n_clusters))
        counts[((word >> _HALF) * size) >> _HALF] += 1
    return counts


@reduction
def weighted_sum(counts: NDArray[np.int32], values: Floats) -> float:
    """Sum over g of counts[g] values[g]."""
    total = 0.0
    for g in range(len(counts)):
        total += counts[g] * values[g]
    return total


@reduction
def weighted_square_sum(counts: NDArray[np.int32], values: Floats) -> float:
    """Sum over g of counts[g] values[g]^2."""
    total = 0.0
    for g in range(len(counts)):
        total += counts[g] * values[g] * values[g]
    return total


@parallel
def count_block(n_clusters: int, seed: int, first: int, last: int) -> Floats:
    """(last - first, G) resampling counts of the replicates first, ..., last - 1."""
    block = np.empty((last - first, n_clusters))
    for b in numba.prange(last - first):
        block[b] = replicate_counts(n_clusters, seed, first + b)
    return block


@parallel
def bootstrap_means(totals: Floats, sizes: Floats, replicates: int, seed: int) -> Floats:
    """(B, p) means of the moments over the trajectories of every replicate.

    Args:
        totals: (p, G) moments summed within clusters.
        sizes: (G,) trajectories in each cluster.
    """
    p, n_clusters = totals.shape
    means = np.empty((replicates, p))
    for b in numba.prange(replicates):
        counts = replicate_counts(n_clusters, seed, b)
        n = weighted_sum(counts, sizes)
        for j in range(p):
            means[b, j] = weighted_sum(counts, totals[j]) / n
    return means


@parallel
def bootstrap_variances(totals: Floats, sizes: Floats, means: Floats, gradients: Floats, seed: int) -> Floats:
    """(B,) cluster-robust variance of the estimate inside every replicate of `bootstrap_means`.

    With S_g the totals of cluster g, N_g its size, m the replicate's means and d its gradient, the influence of a cluster is
    u_g = d'(S_g - N_g m) and the variance is G / (G - 1) sum_g counts_g u_g^2 / n^2.

    Args:
        means, gradients: (B, p).
    """
    p, n_clusters = totals.shape
    variances = np.empty(len(means))
    for b in numba.prange(len(means)):
        counts = replicate_counts(n_clusters, seed, b)
        influence = np.zeros(n_clusters)
        for j in range(p):
            for g in range(n_clusters):
                influence[g] += gradients[b, j] * (totals[j, g] - sizes[g] * means[b, j])
        n = weighted_sum(counts, sizes)
        variances[b] = n_clusters / (n_clusters - 1.0) * weighted_square_sum(counts, influence) / n**2
    return variances
