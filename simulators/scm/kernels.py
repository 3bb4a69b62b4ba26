"""Trajectories through structural noise, compiled, in threads over trajectories.

A trajectory is the sequence of stored transitions ("entries") that it takes. Sample k of trajectory i has a stream of
random numbers of its own: number t + 1 draws the action of step t, and a stream within it holds the noise of step t.
That noise is numbered by what it belongs to (a state, a factor), so that it is the same whatever the policy.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel
from causalrl.kernels.rng import stream_key, uniform
from simulators.mdp.sampling import first_above


class Law(NamedTuple):
    """A process as its noise moves it, R = S * A rows of transitions; Gumbel-max noise has no factors, F = 0.

    Attributes:
        indptr: (R + 1,) bounds of the entries of row s * A + a.
        row: (nnz,) of an entry.
        successors, probabilities, rewards: (nnz,) next state (increasing within a row), its probability and reward.
        terminal: (S,).
        levels: (S, F) level of each factor of a state.
        place: (F,) what a level counts in the number of a state among all combinations of levels.
        states: (S,) state of that number.
        cumulative: (R, F, L) cumulative probabilities of the next levels.
    """

    indptr: Ints
    row: Ints
    successors: Ints
    probabilities: Floats
    rewards: Floats
    terminal: Bools
    levels: Ints
    place: Ints
    states: Ints
    cumulative: Floats


@parallel
def follow(
    seed: np.uint64,
    samples: int,
    starts: Ints,
    limits: Ints,
    policy: Floats,
    logged: Ints,
    logged_offsets: Ints,
    offsets: Ints,
    taken: Ints,
    law: Law,
) -> Ints:
    """(n * samples,) steps of every sample of every trajectory; its entries go to `taken` where `offsets` leave room.

    Args:
        seed: key of all streams.
        samples: of each trajectory.
        starts: (n,) states at t = 0.
        limits: (n * samples,) largest number of steps.
        policy: (1, S, A) or (H, S, A) cumulative probabilities of the actions.
        logged: entries of the records, trajectory i those from logged_offsets[i] to logged_offsets[i + 1] - 1.
        offsets: (n * samples + 1,) room in `taken`.
        taken: written.
        law: of the process and its noise.
    """
    lengths = np.empty(len(limits), np.int64)
    for lane in prange(len(limits)):
        i = lane // samples
        key = stream_key(stream_key(seed, np.uint64(i)), np.uint64(lane - i * samples))
        record = logged[logged_offsets[i] : logged_offsets[i + 1]]
        room = taken[offsets[lane] : offsets[lane + 1]]
        lengths[lane] = _walk(key, starts[i], limits[lane], policy, record, room, law)
    return lengths


@compiled
def _walk(key: np.uint64, state: int, limit: int, policy: Floats, record: Ints, room: Ints, law: Law) -> int:
    """Steps until the end or the limit, written to `room` as far as it goes."""
    n_actions = policy.shape[2]
    t = 0
    while t < limit and not law.terminal[state]:
        choices = policy[t if len(policy) > 1 else 0, state]
        action = first_above(choices, 0, n_actions, uniform(key, np.uint64(t + 1)))
        logged = record[t] if t < len(record) else -1
        entry = next_entry(stream_key(key, np.uint64(t)), logged, state * n_actions + action, law)
        if t < len(room):
            room[t] = entry
        state = law.successors[entry]
        t += 1
    return t


@compiled
def next_entry(key: np.uint64, logged: int, row: int, law: Law) -> int:
    """Entry of `row` that the noise takes, given that it took the entry `logged` (-1: no condition) in its own row."""
    if logged >= 0 and law.row[logged] == row:
        return logged
    if law.levels.shape[1]:
        return _factor_entry(key, logged, row, law)
    return _gumbel_entry(key, logged, row, law)


@compiled
def _gumbel_entry(key: np.uint64, logged: int, row: int, law: Law) -> int:
    """First of the clocks (p_j T + e_j) / q_j, q the probabilities of the row and p those of the logged one.

    With e_j ~ Exp(1) this is the argmax of log q_j + g_j for Gumbel noise g_j = -log(p_j T + e_j). The logged successor
    came first, at time T ~ Exp(1), so its own e is 0; the clocks of the others, without memory, ran on from there.
    """
    at, last, first_time = 0, 0, 0.0
    if logged >= 0:
        at, last, first_time = law.indptr[law.row[logged]], law.indptr[law.row[logged] + 1], _exponential(key, 0)
    best: int = law.indptr[row]
    least = np.inf
    for entry in range(law.indptr[row], law.indptr[row + 1]):
        state, q = law.successors[entry], law.probabilities[entry]
        while at < last and law.successors[at] < state:
            at += 1
        time = 0.0
        seen = at < last and law.successors[at] == state
        if seen:
            time = law.probabilities[at] / q * first_time
        if not (seen and at == logged):
            time += _exponential(key, state + 1) / q
        if time < least:
            best, least = entry, time
    return best


@compiled
def _exponential(key: np.uint64, number: int) -> float:
    return float(-np.log1p(-uniform(key, np.uint64(number))))


@compiled
def _factor_entry(key: np.uint64, logged: int, row: int, law: Law) -> int:
    """Every factor takes the lowest level whose cumulative probability exceeds its uniform number.

    The logged level tells that the number lay between the cumulative probabilities below it and at it.
    """
    n_levels, number = law.cumulative.shape[2], 0
    for f in range(len(law.place)):
        u = uniform(key, np.uint64(f))
        if logged >= 0:
            level, bounds = law.levels[law.successors[logged], f], law.cumulative[law.row[logged], f]
            low = bounds[level - 1] if level else 0.0
            u = min(low + u * (bounds[level] - low), np.nextafter(bounds[level], 0.0))
        number += law.place[f] * first_above(law.cumulative[row, f], 0, n_levels, u)
    return _entry_of(row, law.states[number], law)


@compiled
def _entry_of(row: int, state: int, law: Law) -> int:
    """Entry of a successor that the row has."""
    low: int = law.indptr[row]
    high = law.indptr[row + 1] - 1
    while low < high:
        middle = (low + high) >> 1
        if law.successors[middle] < state:
            low = middle + 1
        else:
            high = middle
    return low
