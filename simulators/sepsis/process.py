"""The sepsis process as a `TabularMDP`: what a start, a version of the rules and a moment of reward make of them."""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from scipy.sparse import csr_array

from causalrl.checks import Floats, Ints
from simulators.sepsis.rules import (
    LEVELS,
    N_ACTIONS,
    N_STATES,
    admission_start,
    arrival_reward,
    state_factors,
    transition_rows,
    uniform_start,
)
from simulators.tabular import TabularMDP

Version = Literal["v1", "v2"]
Start = Literal["admission", "uniform"]
RewardOn = Literal["arrival", "leaving"]

OUTCOMES = ("discharged", "dead")
"""Features of the two sinks where the reward is paid on leaving; they come first, so that the sinks are the last records."""


@cache
def sepsis_mdp(version: Version, start: Start, reward_on: RewardOn) -> TabularMDP:
    """1440 states, or 1442 with the two sinks; built once for each variant."""
    factors = state_factors()
    reward = arrival_reward(factors)
    initial = {"admission": admission_start, "uniform": uniform_start}[start](factors, reward == 0)
    indptr, successors, probabilities = transition_rows(factors, version)
    if reward_on == "leaving":
        return _with_sinks(factors, reward, initial, (indptr, successors, probabilities))
    return TabularMDP.from_sparse(
        indptr,
        successors,
        probabilities,
        reward[successors],
        initial,
        reward != 0,
        state_features=factors,
        feature_names=tuple(LEVELS),
    )


def _with_sinks(factors: Ints, reward: Floats, initial: Floats, rows: tuple[Ints, Ints, Floats]) -> TabularMDP:
    """The process in which every action leads from an outcome state to its sink, and pays the reward."""
    dead, discharged = N_STATES, N_STATES + 1
    sink = np.append(np.select([reward < 0, reward > 0], [dead, discharged], -1), [dead, discharged])
    indptr, successors, probabilities = rows
    row = np.repeat(np.arange(N_STATES * N_ACTIONS), np.diff(indptr))
    kept = sink[row // N_ACTIONS] < 0
    last = np.flatnonzero(np.repeat(sink >= 0, N_ACTIONS))
    places = np.append(row[kept], last), np.append(successors[kept], sink[last // N_ACTIONS])
    shape = (len(sink) * N_ACTIONS, len(sink))
    matrix = csr_array((np.append(probabilities[kept], np.ones(len(last))), places), shape=shape)
    paid = np.repeat(np.append(reward, [0.0, 0.0]), N_ACTIONS)
    features = np.zeros((len(sink), len(OUTCOMES) + factors.shape[1]))
    features[:N_STATES, len(OUTCOMES) :] = factors
    features[[discharged, dead], [0, 1]] = 1.0
    return TabularMDP.from_sparse(
        matrix.indptr,
        matrix.indices,
        matrix.data,
        np.repeat(paid, np.diff(matrix.indptr)),
        np.append(initial, [0.0, 0.0]),
        np.arange(len(sink)) >= N_STATES,
        state_features=features,
        feature_names=(*OUTCOMES, *LEVELS),
    )
