"""Counter-based random numbers: number `i` of a stream is a hash of (seed, stream, i).

No state is carried, so the numbers do not depend on the thread count or on the order of calls.
The hash is the finaliser of SplitMix64 (Steele, Lea & Flood 2014), applied to a key plus a Weyl sequence.
"""

from __future__ import annotations

import numpy as np

from causalrl.kernels.jit import compiled

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_ULP = 1.0 / 9007199254740992.0


@compiled
def mix(x: np.uint64) -> np.uint64:
    """Bijective hash of 64 bits."""
    x = (x ^ (x >> _S30)) * _MIX1
    x = (x ^ (x >> _S27)) * _MIX2
    return x ^ (x >> _S31)


@compiled
def stream_key(seed: np.uint64, stream: np.uint64) -> np.uint64:
    """Key of one stream (a replicate, a trajectory) under a seed."""
    return mix(mix(seed + _GOLDEN) ^ (stream * _GOLDEN + _MIX1))


@compiled
def bits(key: np.uint64, counter: np.uint64) -> np.uint64:
    """64 random bits: number `counter` of the stream."""
    return mix(key + (counter + np.uint64(1)) * _GOLDEN)


@compiled
def uniform(key: np.uint64, counter: np.uint64) -> float:
    """A uniform number in [0, 1) with 53 random bits."""
    return float(bits(key, counter) >> _S11) * _ULP


@compiled
def normal(key: np.uint64, counter: np.uint64) -> float:
    """A standard normal number, by the transform of Box & Muller (1958); it uses the numbers 2 counter and 2 counter + 1."""
    radius = np.sqrt(-2.0 * np.log(1.0 - uniform(key, np.uint64(2) * counter)))
    return float(radius * np.cos(2.0 * np.pi * uniform(key, np.uint64(2) * counter + np.uint64(1))))


def derive_seed(root: int, *role: int | str) -> int:
    """A 63-bit seed for one role (a fold, a learner, a replication) under the root seed.

    Adding a role never shifts the others.

    >>> derive_seed(0, "folds") != derive_seed(0, "folds", 1)
    True
    """
    words = [int.from_bytes(part.encode(), "little") if isinstance(part, str) else part for part in role]
    sequence = np.random.SeedSequence([root, *words])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))
