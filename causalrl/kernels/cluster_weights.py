"""Random weights of clusters, for a block of replicates at a time: resampling counts and multipliers.

Replicate b's weights are hashes of (seed, b, cluster), so that every estimate made with the same seed sees the same draw,
whatever the thread count and however the replicates are cut into blocks.

- `MULTINOMIAL`: G draws of a cluster with replacement (Efron 1979).
- `POISSON`: independent Poisson(1) counts (Hanley & MacGibbon 2006), exact to 2^-48 in the distribution function.
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
from causalrl.kernels.rng import bits, mix, stream_key, uniform

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


_COMMON = 6
"""Counts that 16 random bits decide; the share of their values that is left, 7 in 10,000, is decided by a further hash."""
_TOGETHER = 4 * WIDTH
"""Draws that are searched at once for such a value."""


def _poisson_steps() -> tuple[tuple[np.int16, ...], Floats]:
    """Thresholds of Poisson(1), N <= k, on 16 bits read as a signed integer, and the distribution function of what they leave.

    Count k < `_COMMON` gets floor(2^16 P(N = k)) of the values; the rest of its mass and the larger counts share the values left.
    """
    masses = [math.exp(-1) / math.factorial(k) for k in range(20)]
    values = [int(2**16 * mass) for mass in masses[:_COMMON]]
    left = [2**16 * mass - value for mass, value in zip(masses, values + [0] * 14, strict=True)]
    steps = tuple(np.int16(sum(values[: k + 1]) - 2**15) for k in range(_COMMON))
    return steps, np.array([math.fsum(left[: k + 1]) / math.fsum(left) for k in range(len(left) - 1)])


_STEPS, _RARE = _poisson_steps()


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
    """Keys of the streams of a block: one for every replicate, or for every four (`POISSON`, where they share each hash)."""
    shared = 4 if kind == Weights.POISSON else 1
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
        words: (CHUNK, WIDTH / 4) scratch.
    """
    if kind == Weights.MULTINOMIAL:
        _spread_counts(counts.view(np.int32), start, length, words.reshape(-1)[: WIDTH // 2].view(np.int32), out.reshape(-1))
    elif kind == Weights.POISSON:
        for g in range(length):
            for i in range(len(keys)):
                words[g, i] = bits(keys[i], np.uint64(start + g))
        draws, flat = words.view(np.int16).reshape(-1), out.reshape(-1)
        _count_steps(draws)
        _to_floats(draws, flat)
        _count_rare(draws, keys, start, flat)
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
def _spread_counts(quads: NDArray[np.int32], start: int, length: int, word: NDArray[np.int32], flat: Floats) -> None:
    """Transpose counts, stored by replicate, four clusters (one word of memory) at a time."""
    for q in range((length + 3) // 4):
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
def _count_steps(draws: NDArray[np.int16]) -> None:
    """How many thresholds each draw reaches, in its place; integers of 16 bits keep sixteen of them in a vector."""
    for i in range(CHUNK * WIDTH):
        u = draws[i]
        few = np.int16(u >= _STEPS[0]) + np.int16(u >= _STEPS[1]) + np.int16(u >= _STEPS[2])
        draws[i] = few + np.int16(u >= _STEPS[3]) + np.int16(u >= _STEPS[4]) + np.int16(u >= _STEPS[5])


@compiled
def _to_floats(counts: NDArray[np.int16], flat: Floats) -> None:
    for i in range(CHUNK * WIDTH):
        flat[i] = counts[i]


@compiled
def _count_rare(counts: NDArray[np.int16], keys: Words, start: int, flat: Floats) -> None:
    """Counts of the draws that reached all thresholds, by inversion of what 16 bits leave."""
    for first in range(0, CHUNK * WIDTH, _TOGETHER):
        if _largest(counts[first : first + _TOGETHER]) == _COMMON:
            for i in range(first, first + _TOGETHER):
                if counts[i] == _COMMON:
                    cluster, b = start + i // WIDTH, i % WIDTH
                    u = uniform(mix(keys[b // 4]), np.uint64(4 * cluster + b % 4))
                    flat[i] = np.searchsorted(_RARE, u, "right")


@compiled
def _largest(counts: NDArray[np.int16]) -> np.int16:
    top = np.int16(0)
    for i in range(_TOGETHER):
        top = max(top, counts[i])
    return top
