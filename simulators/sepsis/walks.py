"""Walks through a ranked process whose first doctor knows the luck of the patient, compiled, in threads over patients.

Patient i has a stream of random numbers of its own: number 0 draws the luck U, 1 the start, 2 which policy is taken at t = 0, and
2t + 3 and 2t + 4 action and next state of step t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel
from causalrl.kernels.rng import derive_seed, stream_key, uniform
from simulators.mdp.sampling import cumulative_rows, first_above


class Luck(NamedTuple):
    """Compressed rows of the successors from bad to good, what they pay, and the end of the process (S,)."""

    indptr: Ints
    successors: Ints
    cumulative: Floats
    rewards: Floats
    terminal: Bools


class Doctor(NamedTuple):
    """Cumulated policies: two at t = 0 (2, S, A), the first for the lucky, whose U exceeds `cut`, and one later (S, A).

    The one that luck suggests is taken with probability `believed`; `lasting`: U draws every next state, and not the first alone.
    """

    first: Floats
    later: Floats
    cut: float
    believed: float
    lasting: bool

    @classmethod
    def of(cls, first: Floats, later: Floats, cut: float, believed: float, lasting: bool) -> Doctor:
        """From policies."""
        return cls(cumulative_rows(first), cumulative_rows(later), cut, believed, lasting)


def walk(n: int, seed: int, horizon: int, initial: Floats, doctor: Doctor, luck: Luck) -> tuple[Ints, Ints, Floats, Ints]:
    """States (n, H + 1), actions and rewards (n, H) and lengths (n,); 0 after the end."""
    key = np.uint64(derive_seed(seed, "confounded sepsis"))
    return _walk(n, key, horizon, cumulative_rows(initial[None])[0], doctor, luck)


@parallel
def _walk(n: int, seed: np.uint64, horizon: int, start: Floats, doctor: Doctor, luck: Luck) -> tuple[Ints, Ints, Floats, Ints]:
    states, actions = np.zeros((n, horizon + 1), np.int64), np.zeros((n, horizon), np.int64)
    rewards, lengths = np.zeros((n, horizon)), np.zeros(n, np.int64)
    for i in prange(n):
        key = stream_key(seed, np.uint64(i))
        states[i, 0] = first_above(start, 0, len(start), uniform(key, np.uint64(1)))
        lengths[i] = follow(key, horizon, doctor, luck, states[i], actions[i], rewards[i])
    return states, actions, rewards, lengths


@compiled
def follow(key: np.uint64, horizon: int, doctor: Doctor, luck: Luck, states: Ints, actions: Ints, rewards: Floats) -> int:
    """Length of a patient's record, which is written from the state at the start on."""
    u, t, n_actions = uniform(key, np.uint64(0)), 0, doctor.later.shape[1]
    policy = chosen(doctor, u, uniform(key, np.uint64(2)))
    while t < horizon and not luck.terminal[states[t]]:
        choices = doctor.first[policy, states[t]] if t == 0 else doctor.later[states[t]]
        actions[t] = first_above(choices, 0, n_actions, uniform(key, np.uint64(2 * t + 3)))
        noise = u if doctor.lasting or t == 0 else uniform(key, np.uint64(2 * t + 4))
        entry = entry_at(luck, states[t] * n_actions + actions[t], noise)
        states[t + 1], rewards[t] = luck.successors[entry], luck.rewards[entry]
        t += 1
    return t


@compiled
def chosen(doctor: Doctor, u: float, coin: float) -> int:
    """Which policy is taken at t = 0."""
    suggested = 0 if u > doctor.cut else 1
    return suggested if coin < doctor.believed else 1 - suggested


@compiled
def entry_at(luck: Luck, row: int, u: float) -> int:
    """The transition that luck u brings."""
    return first_above(luck.cumulative, luck.indptr[row], luck.indptr[row + 1], u)


@parallel
def mean_values(lucks: Floats, tables: Floats, discount: float, initial: Floats, luck: Luck) -> Floats:
    """(K,) value of a policy (H, S, A) when luck u (K,) draws every next state."""
    out = np.zeros(len(lucks))
    for k in prange(len(lucks)):
        out[k] = mean_value(lucks[k], tables, discount, initial, luck)
    return out


@compiled
def mean_value(u: float, tables: Floats, discount: float, initial: Floats, luck: Luck) -> float:
    """The value for one luck, by backward induction on a process without noise."""
    horizon, n_states, n_actions = tables.shape
    after, paid = np.zeros(n_states * n_actions, np.int64), np.zeros(n_states * n_actions)
    for row in range(n_states * n_actions):
        entry = entry_at(luck, row, u)
        after[row], paid[row] = luck.successors[entry], luck.rewards[entry]
    values, now, total = np.zeros(n_states), np.zeros(n_states), 0.0
    for t in range(horizon - 1, -1, -1):
        now[:] = 0.0
        for s in range(n_states):
            if not luck.terminal[s]:
                for a in range(n_actions):
                    row = s * n_actions + a
                    now[s] += tables[t, s, a] * (paid[row] + discount * values[after[row]])
        values[:] = now
    for s in range(n_states):
        total += initial[s] * values[s]
    return total
