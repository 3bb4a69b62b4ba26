"""Sampling of a finite Markov decision process, compiled, in threads over trajectories.

Trajectory i has a stream of random numbers of its own: number 0 draws the start, 2t + 1 the action and 2t + 2 the
successor of step t. One pass counts the steps and a second one writes them, so nothing is padded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import prange

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel
from causalrl.kernels.rng import derive_seed, stream_key, uniform
from simulators.dynamics import Dynamics

ENDLESS = 2**62
_ROLE = int.from_bytes(b"simulate", "little")


@dataclass(frozen=True, eq=False)
class Walks:
    """Flat sampled steps.

    Attributes:
        offsets: (n + 1,) trajectory boundaries.
        states, actions: (N,).
        rewards: (N,).
        probabilities: (N,) of the sampled action.
        final_states: (n,) the state after the last step.
    """

    offsets: Ints
    states: Ints
    actions: Ints
    rewards: Floats
    probabilities: Floats
    final_states: Ints


def sample_walks(
    dynamics: Dynamics, terminal: Bools, initial: Floats, tables: Floats, n: int, horizon: int | None, seed: int
) -> Walks:
    """n trajectories until a terminal state or the horizon, under tables (1, S, A) or (horizon, S, A)."""
    key = np.uint64(derive_seed(seed, _ROLE))
    limit = ENDLESS if horizon is None else horizon
    start, policy = cumulative_rows(initial[None])[0], cumulative_rows(tables)
    law = (dynamics.indptr, dynamics.successors, dynamics.cumulative, terminal)
    lengths = count_steps(key, n, limit, start, policy, *law)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Walks(offsets, *write_steps(key, offsets, start, policy, *law, dynamics.rewards, tables))


@compiled
def first_above(cumulative: Floats, low: int, high: int, u: float) -> int:
    """Lowest index in [low, high) whose entry exceeds u; the last entry does."""
    high -= 1
    while low < high:
        middle = (low + high) >> 1
        if u < cumulative[middle]:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def draw_start(key: np.uint64, start: Floats) -> int:
    """State at t = 0."""
    return first_above(start, 0, len(start), uniform(key, np.uint64(0)))


@compiled
def draw_action(key: np.uint64, t: int, choices: Floats) -> int:
    """Action at time t from cumulative probabilities (A,)."""
    return first_above(choices, 0, len(choices), uniform(key, np.uint64(2 * t + 1)))


@compiled
def draw_entry(key: np.uint64, t: int, row: int, indptr: Ints, cumulative: Floats) -> int:
    """Stored transition taken from a row at time t."""
    return first_above(cumulative, indptr[row], indptr[row + 1], uniform(key, np.uint64(2 * t + 2)))


@parallel
def count_steps(
    seed: np.uint64,
    n: int,
    limit: int,
    start: Floats,
    policy: Floats,
    indptr: Ints,
    successors: Ints,
    cumulative: Floats,
    terminal: Bools,
) -> Ints:
    """(n,) steps of each trajectory."""
    n_actions = policy.shape[2]
    lengths = np.empty(n, np.int64)
    for i in prange(n):
        key = stream_key(seed, np.uint64(i))
        state = draw_start(key, start)
        t = 0
        while t < limit and not terminal[state]:
            action = draw_action(key, t, policy[t if len(policy) > 1 else 0, state])
            state = successors[draw_entry(key, t, state * n_actions + action, indptr, cumulative)]
            t += 1
        lengths[i] = t
    return lengths


@parallel
def write_steps(
    seed: np.uint64,
    offsets: Ints,
    start: Floats,
    policy: Floats,
    indptr: Ints,
    successors: Ints,
    cumulative: Floats,
    terminal: Bools,
    rewards: Floats,
    tables: Floats,
) -> tuple[Ints, Ints, Floats, Floats, Ints]:
    """States, actions, rewards, probabilities (N,) and final states (n,) of the same trajectories."""
    n_actions, n, steps = policy.shape[2], len(offsets) - 1, offsets[-1]
    states, actions, final_states = np.empty(steps, np.int64), np.empty(steps, np.int64), np.empty(n, np.int64)
    paid, probabilities = np.empty(steps), np.empty(steps)
    for i in prange(n):
        key = stream_key(seed, np.uint64(i))
        state = draw_start(key, start)
        for t in range(offsets[i + 1] - offsets[i]):
            row = offsets[i] + t
            at = t if len(policy) > 1 else 0
            action = draw_action(key, t, policy[at, state])
            entry = draw_entry(key, t, state * n_actions + action, indptr, cumulative)
            states[row], actions[row] = state, action
            paid[row], probabilities[row] = rewards[entry], tables[at, state, action]
            state = successors[entry]
        final_states[i] = state
    return states, actions, paid, probabilities, final_states


def cumulative_rows(rows: Floats) -> Floats:
    """Cumulative sums along the last axis, exactly 1 from the last possible entry on."""
    left = np.cumsum(rows[..., ::-1], axis=-1)[..., ::-1]
    after = np.concatenate([left[..., 1:], np.zeros((*rows.shape[:-1], 1))], axis=-1)
    return np.where(after > 0, np.cumsum(rows, axis=-1), 1.0)
