"""Sampling of a finite Markov decision process, compiled, in threads over blocks of trajectories.

Trajectory i has a stream of random numbers of its own: number 0 draws the start, (F + 1) t + 1 the action and the F numbers
after it the factors of the successor of step t. One pass counts the steps and a second one writes them, so nothing is padded.
The trajectories of a block move together, one kind of draw at a time: draws that do not wait for one another overlap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import prange
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel
from causalrl.kernels.rng import derive_seed, stream_key, uniform
from simulators.alias import Alias, Codes, alias_table, pick
from simulators.draws import Draws

Keys = NDArray[np.uint64]
ENDLESS = 2**62
BLOCK = 256
"""Trajectories that move together: many enough to overlap, few enough for their state to stay in the cache."""
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


def sample_walks(draws: Draws, terminal: Bools, initial: Floats, tables: Floats, n: int, horizon: int | None, seed: int) -> Walks:
    """n trajectories until a terminal state or the horizon, under tables (1, S, A) or (horizon, S, A)."""
    key, limit = np.uint64(derive_seed(seed, _ROLE)), ENDLESS if horizon is None else horizon
    tables = np.ascontiguousarray(tables)
    start = alias_table(np.array([0, len(initial)]), initial)
    policy = alias_table(np.arange(0, tables.size + 1, tables.shape[2]), tables.reshape(-1))
    lengths, final_states = count_steps(key, n, limit, terminal, start, policy, tables, draws)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # NumPy asks the system for large pages, which compiled code does not
    states, actions = np.empty(offsets[-1], np.int64), np.empty(offsets[-1], np.int64)
    rewards, probabilities = np.empty(offsets[-1]), np.empty(offsets[-1])
    write_steps(key, offsets, limit, terminal, start, policy, tables, draws, states, actions, rewards, probabilities)
    return Walks(offsets, states, actions, rewards, probabilities, final_states)


@parallel
def count_steps(
    seed: np.uint64, n: int, limit: int, terminal: Bools, start: Alias, policy: Alias, tables: Floats, draws: Draws
) -> tuple[Ints, Ints]:
    """Steps and final state (n,) of each trajectory."""
    lengths, final_states = np.empty(n, np.int64), np.empty(n, np.int64)
    for block in prange((n + BLOCK - 1) // BLOCK):
        first = block * BLOCK
        live, t = min(BLOCK, n - first), 0
        keys, ids = np.empty(BLOCK, np.uint64), new_lanes()
        states, cells, arrivals, outcomes = new_lanes(), new_lanes(), new_lanes(), new_lanes()
        draw_starts(seed, first, live, start, keys, states)
        for j in range(live):
            ids[j] = j
        while live > 0:
            draw_cells(live, t, len(draws.segments), policy, tables, keys, states, cells)
            draw_arrivals(live, t, draws, keys, cells, arrivals, outcomes)
            t += 1
            kept = 0
            for j in range(live):
                if terminal[arrivals[j]] or t == limit:
                    lengths[first + ids[j]], final_states[first + ids[j]] = t, arrivals[j]
                else:
                    keys[kept], states[kept], ids[kept] = keys[j], arrivals[j], ids[j]
                    kept += 1
            live = kept
    return lengths, final_states


@parallel
def write_steps(
    seed: np.uint64,
    offsets: Ints,
    limit: int,
    terminal: Bools,
    start: Alias,
    policy: Alias,
    tables: Floats,
    draws: Draws,
    states: Ints,
    actions: Ints,
    rewards: Floats,
    probabilities: Floats,
) -> None:
    """The same trajectories again: their steps (N,), into the last four arrays."""
    n, chances, width = len(offsets) - 1, tables.reshape(-1), np.uint32(tables.shape[2])
    for block in prange((n + BLOCK - 1) // BLOCK):
        first = block * BLOCK
        live, t = min(BLOCK, n - first), 0
        keys, steps = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)
        now, cells, arrivals, outcomes = new_lanes(), new_lanes(), new_lanes(), new_lanes()
        draw_starts(seed, first, live, start, keys, now)
        for j in range(live):
            steps[j] = offsets[first + j]
        while live > 0:
            draw_cells(live, t, len(draws.segments), policy, tables, keys, now, cells)
            draw_arrivals(live, t, draws, keys, cells, arrivals, outcomes)
            before = table_start(t, tables)
            t += 1
            kept = 0
            for j in range(live):
                step, arrival = steps[j], arrivals[j]
                states[step], actions[step] = now[j], cells[j] - now[j] * width
                rewards[step] = draws.rewards[outcomes[j] if draws.by_outcome else arrival]
                probabilities[step] = chances[before + cells[j]]
                keys[kept], now[kept], steps[kept] = keys[j], arrival, step + np.uint64(1)
                kept += t < limit and not terminal[arrival]
            live = kept


@compiled
def new_lanes() -> Codes:
    """Room for one index of each trajectory of a block."""
    return np.empty(BLOCK, np.uint32)


@compiled
def table_start(t: int, tables: Floats) -> np.uint64:
    """Place in the flat policy (1 or H, S, A) of its table for time t."""
    return np.uint64(t * tables.shape[1] * tables.shape[2] if len(tables) > 1 else 0)


@compiled
def draw_starts(seed: np.uint64, first: int, live: int, start: Alias, keys: Keys, states: Codes) -> None:
    """Streams and states at t = 0 of trajectories `first` to `first` + `live` - 1."""
    for j in range(live):
        keys[j] = stream_key(seed, np.uint64(first + j))
        states[j] = start.drawn[pick(start.cut, np.uint64(0), len(start.cut), uniform(keys[j], np.uint64(0)))]


@compiled
def draw_cells(live: int, t: int, n_factors: int, policy: Alias, tables: Floats, keys: Keys, states: Codes, cells: Codes) -> None:
    """Rows s * A + a of the actions drawn at time t."""
    number, before = np.uint64((n_factors + 1) * t + 1), table_start(t, tables)
    n_actions, width = tables.shape[2], np.uint64(tables.shape[2])
    for j in range(live):
        first = before + states[j] * width
        cells[j] = policy.drawn[pick(policy.cut, first, n_actions, uniform(keys[j], number))] - before


@compiled
def draw_arrivals(live: int, t: int, draws: Draws, keys: Keys, cells: Codes, arrivals: Codes, outcomes: Codes) -> None:
    """Next states, and the outcome of the alias table that the last factor drew."""
    n_factors = len(draws.segments)
    for j in range(live):
        arrivals[j] = draws.base[cells[j]]
    for f in range(n_factors):
        number = np.uint64((n_factors + 1) * t + 2 + f)
        for j in range(live):
            segment = draws.segments[f, cells[j]]
            u = uniform(keys[j], number)
            outcome = pick(draws.cut, np.uint64(draws.first[segment]), draws.size[segment], u)
            arrivals[j] += draws.moves[outcome]
            outcomes[j] = outcome


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
