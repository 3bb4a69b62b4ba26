"""Sampling of a finite Markov decision process, compiled, in threads over blocks of trajectories.

Trajectory i has a stream of random numbers of its own: number 0 draws the start, (F + 1) t + 1 the action and the F numbers
after it the factors of the successor of step t. The trajectories of a block move together, one kind of draw at a time: draws
that do not wait for one another overlap. What is drawn goes to a log in the order of time, and from there to its trajectory
once all lengths are known, so nothing is drawn twice and nothing padded to the horizon: the log has room for a stretch of
steps of the trajectories that go on, and a stretch is as long as all before it together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel
from causalrl.kernels.rng import derive_seed, stream_key, uniform
from simulators.mdp.alias import Alias, Codes, alias_table, pick
from simulators.mdp.draws import Draws

Counters = NDArray[np.uint64]
SmallInts = NDArray[np.int32]
ENDLESS = 2**62
BLOCK = 256
"""Trajectories that move together: many enough to overlap, few enough for their state to stay in the cache."""
FIRST_STRETCH = 16
_ROLE = int.from_bytes(b"simulate", "little")


@dataclass(frozen=True, eq=False)
class Walks:
    """Flat sampled steps.

    Attributes:
        offsets: (n + 1,) trajectory boundaries.
        states, actions: (N,), 32-bit integers, since memory is what limits the copy.
        rewards: (N,).
        probabilities: (N,) of the sampled action.
        final_states: (n,) the state after the last step.
    """

    offsets: Ints
    states: SmallInts
    actions: SmallInts
    rewards: Floats
    probabilities: Floats
    final_states: Ints


class Movers(NamedTuple):
    """Trajectories that go on, at the front of their block: stream, state and number of each (n,); how many (B,)."""

    keys: Counters
    states: Codes
    ids: Codes
    live: Ints


class Stretch(NamedTuple):
    """Log of steps t = start to stop - 1, block by block and step by step.

    Attributes:
        live: (B,) trajectories of each block that are there at the start.
        places: (B + 1,) columns of each block, with room for every step of all of them.
        log: (3, room) state, row s * A + a, and outcome, the place of the reward in those of `Draws`.
    """

    start: int
    stop: int
    live: Ints
    places: Ints
    log: Codes


def sample_walks(draws: Draws, terminal: Bools, initial: Floats, tables: Floats, n: int, horizon: int | None, seed: int) -> Walks:
    """n trajectories until a terminal state or the horizon, under tables (1, S, A) or (horizon, S, A)."""
    start, tables = alias_table(np.array([0, len(initial)]), initial), np.ascontiguousarray(tables)
    keys, states = draw_starts(np.uint64(derive_seed(seed, _ROLE)), n, start)
    movers = Movers(keys, states, np.arange(n, dtype=np.uint32), np.minimum(BLOCK, n - np.arange(0, n, BLOCK)))
    stretches, lengths, final_states = _walk(movers, draws, tables, terminal, ENDLESS if horizon is None else horizon)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    steps = offsets[-1]
    flat = np.empty(steps, np.int32), np.empty(steps, np.int32), np.empty(steps), np.empty(steps)
    following, ends = offsets[:-1].astype(np.uint64), offsets[1:].astype(np.uint64)
    for stretch in stretches:
        copy_steps(stretch, draws.rewards, tables, following, ends, *flat)
    return Walks(offsets, *flat, final_states)


def _walk(movers: Movers, draws: Draws, tables: Floats, terminal: Bools, limit: int) -> tuple[list[Stretch], Ints, Ints]:
    """The log of all steps, and the length and final state (n,) of each trajectory."""
    policy = alias_table(np.arange(0, tables.size + 1, tables.shape[2]), tables.reshape(-1))
    lengths, final_states = np.empty(len(movers.keys), np.int64), np.empty(len(movers.keys), np.int64)
    stretches: list[Stretch] = []
    t = 0
    while movers.live.any():
        stop = min(max(2 * t, FIRST_STRETCH), limit)
        places = np.concatenate([[0], np.cumsum(movers.live) * (stop - t)])
        # arrays come from NumPy, which asks the system for large pages, as compiled code does not
        stretches.append(Stretch(t, stop, movers.live.copy(), places, np.empty((3, places[-1]), np.uint32)))
        draw_steps(stretches[-1], movers, draws, policy, tables, terminal, limit, lengths, final_states)
        t = stop
    return stretches, lengths, final_states


@parallel
def draw_starts(seed: np.uint64, n: int, start: Alias) -> tuple[Counters, Codes]:
    """Stream and state at t = 0 of each trajectory."""
    keys, states = np.empty(n, np.uint64), np.empty(n, np.uint32)
    for i in prange(n):
        keys[i] = stream_key(seed, np.uint64(i))
        states[i] = start.drawn[pick(start.cut, np.uint64(0), len(start.cut), uniform(keys[i], np.uint64(0)))]
    return keys, states


@parallel
def draw_steps(
    stretch: Stretch,
    movers: Movers,
    draws: Draws,
    policy: Alias,
    tables: Floats,
    terminal: Bools,
    limit: int,
    lengths: Ints,
    final_states: Ints,
) -> None:
    """Fill the log of a stretch and move the movers to its end; who ends gets a length and a final state."""
    log, live = stretch.log, movers.live  # arrays by name: numba loses what a parallel loop writes to `movers.live[block]`
    for block in prange(len(live)):
        first, place, going = block * BLOCK, stretch.places[block], live[block]
        keys, ids = movers.keys[first : first + BLOCK], movers.ids[first : first + BLOCK]
        after = movers.states[first : first + BLOCK]
        arrivals = np.empty(BLOCK, np.uint32)
        t = stretch.start
        while going > 0 and t < stretch.stop:
            now, cells, outcomes = log[0, place : place + going], log[1, place : place + going], log[2, place : place + going]
            now[:] = after[:going]
            draw_cells(t, len(draws.segments), policy, tables, keys, now, cells)
            draw_arrivals(t, draws, keys, cells, arrivals, outcomes)
            place += going
            t += 1
            going = keep_going(t, terminal, limit, keys, ids, arrivals[:going], after, lengths, final_states)
        live[block] = going


@compiled
def keep_going(
    t: int,
    terminal: Bools,
    limit: int,
    keys: Counters,
    ids: Codes,
    arrivals: Codes,
    after: Codes,
    lengths: Ints,
    final_states: Ints,
) -> int:
    """Move those that have not arrived at the end to the front, and count them."""
    kept = 0
    for j in range(len(arrivals)):
        arrival = arrivals[j]
        if terminal[arrival] or t == limit:
            lengths[ids[j]], final_states[ids[j]] = t, arrival
        else:
            keys[kept], after[kept], ids[kept] = keys[j], arrival, ids[j]
            kept += 1
    return kept


@compiled
def table_start(t: int, tables: Floats) -> np.uint64:
    """Place in the flat policy (1 or H, S, A) of its table for time t."""
    return np.uint64(t * tables.shape[1] * tables.shape[2] if len(tables) > 1 else 0)


@compiled
def draw_cells(t: int, n_factors: int, policy: Alias, tables: Floats, keys: Counters, states: Codes, cells: Codes) -> None:
    """Rows s * A + a of the actions drawn at time t."""
    number, before = np.uint64((n_factors + 1) * t + 1), table_start(t, tables)
    n_actions, width = tables.shape[2], np.uint64(tables.shape[2])
    for j in range(len(cells)):
        first = before + states[j] * width
        cells[j] = policy.drawn[pick(policy.cut, first, n_actions, uniform(keys[j], number))] - before


@compiled
def draw_arrivals(t: int, draws: Draws, keys: Counters, cells: Codes, arrivals: Codes, outcomes: Codes) -> None:
    """Next states, and the outcome on which the reward depends."""
    n_factors = len(draws.segments)
    for j in range(len(cells)):
        arrivals[j] = draws.base[cells[j]]
    for f in range(n_factors):
        number = np.uint64((n_factors + 1) * t + 2 + f)
        for j in range(len(cells)):
            segment = draws.segments[f, cells[j]]
            u = uniform(keys[j], number)
            outcome = pick(draws.cut, np.uint64(draws.first[segment]), draws.size[segment], u)
            arrivals[j] += draws.moves[outcome]
            outcomes[j] = outcome if draws.by_outcome else arrivals[j]


@parallel
def copy_steps(
    stretch: Stretch,
    paid: Floats,
    tables: Floats,
    following: Counters,
    ends: Counters,
    states: SmallInts,
    actions: SmallInts,
    rewards: Floats,
    probabilities: Floats,
) -> None:
    """From the log to flat steps (N,); the next step and the end of the movers are at the front of their block."""
    log, chances, n_actions = stretch.log, tables.reshape(-1), np.uint32(tables.shape[2])
    for block in prange(len(stretch.live)):
        first, place, going = block * BLOCK, stretch.places[block], stretch.live[block]
        step, end = following[first : first + BLOCK], ends[first : first + BLOCK]
        t = stretch.start
        while going > 0 and t < stretch.stop:
            now, cells, outcomes = log[0, place : place + going], log[1, place : place + going], log[2, place : place + going]
            before = table_start(t, tables)
            kept = 0
            for j in range(going):
                at = step[j]
                states[at], actions[at] = now[j], cells[j] - now[j] * n_actions
                rewards[at], probabilities[at] = paid[outcomes[j]], chances[before + cells[j]]
                step[kept], end[kept] = at + np.uint64(1), end[j]
                kept += at + np.uint64(1) < end[j]
            place += going
            going = kept
            t += 1


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


def cumulative_rows(rows: Floats) -> Floats:
    """Cumulative sums along the last axis, exactly 1 from the last possible entry on."""
    left = np.cumsum(rows[..., ::-1], axis=-1)[..., ::-1]
    after = np.concatenate([left[..., 1:], np.zeros((*rows.shape[:-1], 1))], axis=-1)
    return np.where(after > 0, np.cumsum(rows, axis=-1), 1.0)
