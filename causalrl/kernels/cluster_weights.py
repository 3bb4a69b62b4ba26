"""Random weights of clusters, for a block of replicates at a time: resampling counts and multipliers.

Replicate b's weights are hashes of (seed, b, cluster), so that every estimate made with the same seed sees the same draw,
whatever the thread count and however the replicates are cut into blocks.

- `MULTINOMIAL`: G draws of a cluster with replacement (Efron 1979).
- `POISSON`: independent Poisson(1) counts (Hanley & MacGibbon 2006), exact to 2^-32 in the distribution function.
- `EXPONENTIAL`: independent Exp(1) weights, which after normalisation are Dirichlet(1, ..., 1) (Rubin 1981).
- `SIGN`: independent signs, the multipliers of Liu (1988).
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats
from causalrl.kernels.jit import compiled
from causalrl.kernels.rng import bits, stream_key, uniform

Words: TypeAlias = NDArray[np.uint64]

WIDTH = 32
"""Replicates in a block."""
CHUNK = 32
"""Clusters whose weights are held at a time; a multiple of 4 that divides 64, the signs in a word."""

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)


class Weights(IntEnum):
    """The law of the weights."""

    MULTINOMIAL = 0
    POISSON = 1
    EXPONENTIAL = 2
    SIGN = 3


def _poisson_steps() -> tuple[np.int32, ...]:
    """P(N <= k), k = 0, ..., 11, as thresholds on 32 random bits read as a signed integer; above the last, rounded, is 1."""
    masses = [math.exp(-1) / math.factorial(k) for k in range(12)]
    return tuple(np.int32(round(2**32 * math.fsum(masses[: k + 1])) - 2**31) for k in range(12))


_STEPS = _poisson_steps()
_COMMON = 5  # thresholds that every draw is compared with; N exceeds 5 once in 1,700 draws
_LEAST = np.int32(-(2**31))


@compiled
def draw_counts(seed: int, replicate: int, n_clusters: int, counts: NDArray[np.uint8]) -> None:
    """How often a replicate draws each cluster, into counts (at least G,); one hash gives two draws of 32 bits each.

    Eight bits hold a count: it exceeds 255 with probability below 1 / 256!.
    """
    key = stream_key(np.uint64(seed), np.uint64(replicate))
    size = np.uint64(n_clusters)
    counts[:] = 0
    for pair in range(n_clusters // 2):
        word = bits(key, np.uint64(pair))
        counts[((word >> _HALF) * size) >> _HALF] += np.uint8(1)
        counts[((word & _LOW) * size) >> _HALF] += np.uint8(1)
    if n_clusters % 2:
        word = bits(key, np.uint64(n_clusters))
        counts[((word >> _HALF) * size) >> _HALF] += np.uint8(1)


@compiled
def block_keys(kind: int, seed: int, first: int) -> Words:
    """Keys of the streams of a block: one for every replicate, or for every two (`POISSON`, where they share each hash)."""
    shared = 2 if kind == Weights.POISSON else 1
    keys = np.empty(WIDTH // shared, np.uint64)
    for i in range(len(keys)):
        keys[i] = stream_key(np.uint64(seed), np.uint64(first // shared + i))
    return keys


@compiled
def block_counts(kind: int, seed: int, first: int, n_clusters: int) -> NDArray[np.uint8]:
    """(WIDTH, G rounded up to a multiple of 4) multinomial counts of a block, which have to be drawn at once; else empty."""
    if kind != Weights.MULTINOMIAL:
        return np.empty((0, 4), np.uint8)
    counts = np.empty((WIDTH, (n_clusters + 3) // 4 * 4), np.uint8)
    for b in range(WIDTH):
        draw_counts(seed, first + b, n_clusters, counts[b])
    return counts


@compiled
def fill_weights(
    kind: int,
    keys: Words,
    counts: NDArray[np.uint8],
    start: int,
    length: int,
    words: Words,
    out: Floats,
) -> None:
    """Weights of the clusters start, ..., start + length - 1 into out[:length], an array of shape (CHUNK, WIDTH).

    Args:
        words: (2, CHUNK, WIDTH / 2) scratch.
    """
    if kind == Weights.MULTINOMIAL:
        _spread_counts(counts.view(np.int32), start, length, words[0].view(np.int32), out.reshape(-1))
    elif kind == Weights.POISSON:
        for g in range(length):
            for i in range(len(keys)):
                words[0, g, i] = bits(keys[i], np.uint64(start + g))
        _count_steps(words[0].view(np.int32), words[1].view(np.int32), length, out)
    elif kind == Weights.EXPONENTIAL:
        for g in range(length):
            for b in range(WIDTH):
                out[g, b] = -np.log(1.0 - uniform(keys[b], np.uint64(start + g)))
    else:
        for b in range(WIDTH):
            word = bits(keys[b], np.uint64(start // 64)) >> np.uint64(start % 64)
            for g in range(length):
                out[g, b] = 1.0 - 2.0 * float((word >> np.uint64(g)) & _ONE)


@compiled
def _spread_counts(quads: NDArray[np.int32], start: int, length: int, words: NDArray[np.int32], flat: Floats) -> None:
    """Transpose counts, stored by replicate, four clusters (one word of memory) at a time."""
    for q in range((length + 3) // 4):
        word = words[q]
        for b in range(WIDTH):
            word[b] = quads[b, start // 4 + q]
        _spread_quad(word.view(np.uint8), WIDTH, flat[4 * q * WIDTH : (4 * q + 4) * WIDTH])


@compiled
def _spread_quad(four: NDArray[np.uint8], width: int, flat: Floats) -> None:
    for b in range(width):
        flat[b] = np.int32(four[4 * b])
        flat[width + b] = np.int32(four[4 * b + 1])
        flat[2 * width + b] = np.int32(four[4 * b + 2])
        flat[3 * width + b] = np.int32(four[4 * b + 3])


@compiled
def _count_steps(draws: NDArray[np.int32], counts: NDArray[np.int32], length: int, out: Floats) -> None:
    """Poisson counts by inversion: how many thresholds a draw reaches; the rare ones are tried where a row has a large draw."""
    _count_common_steps(draws[:length].reshape(-1), counts[:length].reshape(-1), out[:length].reshape(-1))
    for g in range(length):
        if _largest(draws[g]) >= _STEPS[_COMMON]:
            for b in range(WIDTH):
                if draws[g, b] >= _STEPS[_COMMON]:
                    for k in range(_COMMON, len(_STEPS)):
                        out[g, b] += draws[g, b] >= _STEPS[k]


@compiled
def _count_common_steps(draws: NDArray[np.int32], counts: NDArray[np.int32], out: Floats) -> None:
    """Of the first `_COMMON` thresholds; integers of 32 bits in between keep eight of them in a vector."""
    for i in range(len(draws)):
        u = draws[i]
        few = np.int32(u >= _STEPS[0]) + np.int32(u >= _STEPS[1]) + np.int32(u >= _STEPS[2])
        counts[i] = few + np.int32(u >= _STEPS[3]) + np.int32(u >= _STEPS[4])
    for i in range(len(draws)):
        out[i] = counts[i]


@compiled
def _largest(draws: NDArray[np.int32]) -> np.int32:
    top = _LEAST
    for i in range(len(draws)):
        top = max(top, draws[i])
    return top
