"""Sampling of what a record shows of a process, compiled, in threads over trajectories.

Trajectory i has a stream of random numbers of its own: number 0 draws the start, 1 the hospital, and 8t + 2 to 8t + 6 the
record, the confounder U, the action, the successor and the loss to follow-up of step t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import prange

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel
from causalrl.kernels.rng import derive_seed, stream_key, uniform
from simulators.checks import frozen
from simulators.mdp.dynamics import Dynamics, row_cumulative
from simulators.mdp.sampling import ENDLESS, cumulative_rows, first_above
from simulators.views import View


@dataclass(frozen=True, eq=False)
class Records:
    """Flat sampled steps.

    Attributes:
        offsets: (n + 1,) trajectory boundaries.
        seen, actions: (N,) what the record shows, and what was done.
        rewards: (N,).
        probabilities: (N,) of the sampled action, given all that the logger saw.
        final_seen: (n,) record after the last step.
        ends: (n,) 0 for the end of the process, 1 for that of the window, 2 for a loss to follow-up.
        hospitals: (n,).
    """

    offsets: Ints
    seen: Ints
    actions: Ints
    rewards: Floats
    probabilities: Floats
    final_seen: Ints
    ends: Ints
    hospitals: Ints


def sample_records(
    dynamics: Dynamics,
    terminal: Bools,
    initial: Floats,
    shown: View,
    tables: Floats,
    by_record: bool,
    confounded: Bools,
    hazard: Floats,
    n: int,
    horizon: int | None,
    seed: int,
) -> Records:
    """n recorded trajectories.

    Args:
        tables: (K, V, T, S or R, A) policy of hospital k; V is 1, or 3 with a confounder: without it, at U = 0, at U = 1.
        by_record: whether the policy sees the record (R) or the state (S).
        confounded: (L,) whether step min(t, L - 1) is.
        hazard: (S, A) probability of a loss to follow-up after a step that does not end the process.
    """
    channel = shown.channel
    bounds = frozen(channel.indptr.astype(np.int64))
    look = Look(bounds, channel.indices.astype(np.int64), row_cumulative(bounds, frozen(channel.data)))
    logger = Logger(tables, cumulative_rows(tables), by_record, confounded)
    law = Law(dynamics.indptr, dynamics.successors, dynamics.cumulative, terminal, hazard)
    key, limit = np.uint64(derive_seed(seed, "record")), ENDLESS if horizon is None else horizon
    fixed = (key, limit, cumulative_rows(initial[None])[0], look, logger, law)
    none = np.zeros(0, np.int64)
    lengths, *_ = walk_records(np.zeros(n + 1, np.int64), Steps(none, none, none, np.zeros(0)), *fixed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    seen, actions, entries = (np.empty(offsets[-1], np.int64) for _ in range(3))
    steps = Steps(seen, actions, entries, np.empty(offsets[-1]))
    out = walk_records(offsets, steps, *fixed)
    return Records(offsets, seen, actions, dynamics.rewards[entries], steps.probabilities, *out[1:])


class Look(NamedTuple):
    """Compressed rows of the records of each state."""

    indptr: Ints
    records: Ints
    cumulative: Floats


class Logger(NamedTuple):
    """Who decides: policies (K, V, T, S or R, A), the same cumulated, what they see, and when they know more."""

    tables: Floats
    choices: Floats
    by_record: bool
    confounded: Bools


class Law(NamedTuple):
    """Compressed rows of the successors, the end of the process, and the loss to follow-up (S, A)."""

    indptr: Ints
    successors: Ints
    cumulative: Floats
    terminal: Bools
    hazard: Floats


class Steps(NamedTuple):
    """What is written of each step (N,), or nothing (0,) while lengths are counted."""

    seen: Ints
    actions: Ints
    entries: Ints
    probabilities: Floats


@parallel
def walk_records(
    offsets: Ints, steps: Steps, seed: np.uint64, limit: int, start: Floats, look: Look, logger: Logger, law: Law
) -> tuple[Ints, Ints, Ints, Ints]:
    """Lengths, final records, ends and hospitals (n,) of the trajectories."""
    n = len(offsets) - 1
    lengths, finals, ends, hospitals = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    for i in prange(n):
        key = stream_key(seed, np.uint64(i))
        state = first_above(start, 0, len(start), uniform(key, np.uint64(0)))
        hospitals[i] = int(uniform(key, np.uint64(1)) * len(logger.tables))
        lengths[i], state, ends[i] = follow(key, limit, offsets[i], steps, state, hospitals[i], look, logger, law)
        finals[i] = see(look, state, key, lengths[i])
    return lengths, finals, ends, hospitals


@compiled
def follow(
    key: np.uint64, limit: int, first: int, steps: Steps, state: int, hospital: int, look: Look, logger: Logger, law: Law
) -> tuple[int, int, int]:
    """Length, last state and end of one trajectory, whose steps go to the rows from `first` on."""
    t, n_actions = 0, logger.tables.shape[4]
    while not law.terminal[state]:
        if t == limit:
            return t, state, 1
        record, (variant, luck) = see(look, state, key, t), know(logger, key, t)
        at, row = t if logger.tables.shape[2] > 1 else 0, record if logger.by_record else state
        action = first_above(logger.choices[hospital, variant, at, row], 0, n_actions, uniform(key, np.uint64(8 * t + 4)))
        cell = state * n_actions + action
        entry = first_above(law.cumulative, law.indptr[cell], law.indptr[cell + 1], luck)
        if len(steps.seen):
            steps.seen[first + t], steps.actions[first + t], steps.entries[first + t] = record, action, entry
            steps.probabilities[first + t] = logger.tables[hospital, variant, at, row, action]
        lost = uniform(key, np.uint64(8 * t + 6)) < law.hazard[state, action]
        state = law.successors[entry]
        t += 1
        if lost and t < limit and not law.terminal[state]:
            return t, state, 2
    return t, state, 0


@compiled
def see(look: Look, state: int, key: np.uint64, t: int) -> int:
    """The record of the state at time t."""
    low, high = look.indptr[state], look.indptr[state + 1]
    return int(look.records[first_above(look.cumulative, low, high, uniform(key, np.uint64(8 * t + 2)))])


@compiled
def know(logger: Logger, key: np.uint64, t: int) -> tuple[int, float]:
    """Variant of the policy at time t, and the uniform number of its transition, whose first bit is U where there is one."""
    luck = uniform(key, np.uint64(8 * t + 5))
    if not logger.confounded[min(t, len(logger.confounded) - 1)]:
        return 0, luck
    u = int(uniform(key, np.uint64(8 * t + 3)) * 2)
    return 1 + u, (u + luck) / 2
