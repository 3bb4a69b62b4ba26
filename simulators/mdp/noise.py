"""Normal noise on sampled rewards, compiled; a stream of random numbers for each trajectory."""

from __future__ import annotations

import numpy as np
from numba import prange

from causalrl.checks import Floats, Ints
from causalrl.kernels.jit import parallel
from causalrl.kernels.rng import derive_seed, normal, stream_key


def add_noise(rewards: Floats, offsets: Ints, scale: float, seed: int) -> Floats:
    """Rewards (N,) plus independent normal noise of standard deviation `scale`."""
    if scale == 0:
        return rewards
    return noisy(np.uint64(derive_seed(seed, "reward noise")), rewards, offsets, scale)


@parallel
def noisy(seed: np.uint64, rewards: Floats, offsets: Ints, scale: float) -> Floats:
    """(N,) rewards; step t of trajectory i gets number t of stream i."""
    out = np.empty_like(rewards)
    for i in prange(len(offsets) - 1):
        key = stream_key(seed, np.uint64(i))
        for row in range(offsets[i], offsets[i + 1]):
            out[row] = rewards[row] + scale * normal(key, np.uint64(row - offsets[i]))
    return out
