"""Sampling of what a record shows of a process, compiled, in threads over trajectories.

Trajectory i has a stream of random numbers of its own: number 0 draws the start, 1 the hospital, and 8t + 2 to 8t + 6 the
record, the confounder U, the action, the successor and the loss to follow-up of step t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import prange

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import parallel
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
    law = (dynamics.indptr, dynamics.successors, dynamics.cumulative, terminal, hazard)
    bounds = frozen(channel.indptr.astype(np.int64))
    look = (bounds, channel.indices.astype(np.int64), row_cumulative(bounds, frozen(channel.data)))
    fixed = (cumulative_rows(initial[None])[0], *look, tables, cumulative_rows(tables), by_record, confounded, *law)
    key, limit = np.uint64(derive_seed(seed, "record")), ENDLESS if horizon is None else horizon
    nothing = np.zeros(0, np.int64)
    lengths, *_ = walk_records(key, limit, np.zeros(n + 1, np.int64), False, nothing, nothing, nothing, np.zeros(0), *fixed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    seen, actions, entries = (np.empty(offsets[-1], np.int64) for _ in range(3))
    probabilities = np.empty(offsets[-1])
    out = walk_records(key, limit, offsets, True, seen, actions, entries, probabilities, *fixed)
    return Records(offsets, seen, actions, dynamics.rewards[entries], probabilities, *out[1:])


@parallel
def walk_records(
    seed: np.uint64,
    limit: int,
    offsets: Ints,
    writing: bool,
    seen: Ints,
    actions: Ints,
    entries: Ints,
    probabilities: Floats,
    start: Floats,
    look_indptr: Ints,
    look_records: Ints,
    look_cumulative: Floats,
    tables: Floats,
    choices: Floats,
    by_record: bool,
    confounded: Bools,
    indptr: Ints,
    successors: Ints,
    cumulative: Floats,
    terminal: Bools,
    hazard: Floats,
) -> tuple[Ints, Ints, Ints, Ints]:
    """Lengths, final records, ends and hospitals (n,); the steps go to the arrays (N,) where `writing`."""
    n, n_actions, n_hospitals, n_times = len(offsets) - 1, tables.shape[4], tables.shape[0], tables.shape[2]
    lengths, finals, ends, hospitals = (
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )
    for i in prange(n):
        key = stream_key(seed, np.uint64(i))
        state = first_above(start, 0, len(start), uniform(key, np.uint64(0)))
        hospital = int(uniform(key, np.uint64(1)) * n_hospitals)
        t, end = 0, 0
        while not terminal[state]:
            if t == limit:
                end = 1
                break
            base = 8 * t + 2
            at = look_indptr[state]
            record = look_records[first_above(look_cumulative, at, look_indptr[state + 1], uniform(key, np.uint64(base)))]
            variant, noise = 0, uniform(key, np.uint64(base + 3))
            if confounded[min(t, len(confounded) - 1)]:
                u = int(uniform(key, np.uint64(base + 1)) * 2)
                variant, noise = 1 + u, (u + noise) / 2
            row = record if by_record else state
            chosen = choices[hospital, variant, t if n_times > 1 else 0, row]
            action = first_above(chosen, 0, n_actions, uniform(key, np.uint64(base + 2)))
            cell = state * n_actions + action
            entry = first_above(cumulative, indptr[cell], indptr[cell + 1], noise)
            if writing:
                step = offsets[i] + t
                seen[step], actions[step], entries[step] = record, action, entry
                probabilities[step] = tables[hospital, variant, t if n_times > 1 else 0, row, action]
            lost = uniform(key, np.uint64(base + 4)) < hazard[state, action]
            state = successors[entry]
            t += 1
            if lost and t < limit and not terminal[state]:
                end = 2
                break
        at = look_indptr[state]
        last = first_above(look_cumulative, at, look_indptr[state + 1], uniform(key, np.uint64(8 * t + 2)))
        lengths[i], finals[i], ends[i], hospitals[i] = t, look_records[last], end, hospital
    return lengths, finals, ends, hospitals
