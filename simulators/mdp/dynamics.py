"""`Dynamics`: the sparse transition law of a finite Markov decision process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from causalrl.checks import PROBABILITY_TOLERANCE, Floats, Ints, check_finite, first_bad, integers, numeric, whole_number
from causalrl.errors import DataError
from causalrl.kernels.jit import compiled
from simulators.checks import LARGEST_REWARD, ROUNDING, ReadOnly, frozen, frozen_matrix


@dataclass(frozen=True, eq=False)
class Dynamics(ReadOnly):
    """Where each (state, action) leads: compressed rows of successors, probabilities and rewards.

    Row s * n_actions + a holds the entries indptr[row] to indptr[row + 1] - 1. Stored zeros are dropped.

    Attributes:
        n_states: S.
        indptr: (S * n_actions + 1,).
        successors: (nnz,) states.
        probabilities: (nnz,), every row sums to 1: one that does so up to 1e-6 only is divided by its sum.
        rewards: (nnz,) paid on arrival.

    Raises:
        DataError: naming the state and action whose row is no distribution.
    """

    n_states: int
    indptr: Ints
    successors: Ints
    probabilities: Floats
    rewards: Floats

    def __post_init__(self) -> None:
        whole_number("n_states", self.n_states, 1)
        indptr, successors = integers("indptr", self.indptr), integers("successors", self.successors)
        probabilities, rewards = numeric("probabilities", self.probabilities), numeric("rewards", self.rewards)
        if len(indptr) < 2 or (len(indptr) - 1) % self.n_states or indptr[0] != 0 or (np.diff(indptr) < 0).any():
            raise DataError(f"indptr: {len(indptr)} entries for {self.n_states} states; pass S * A + 1, increasing from 0.")
        for field, entries in {"successors": successors, "probabilities": probabilities, "rewards": rewards}.items():
            if entries.shape != (indptr[-1],):
                raise DataError(f"{field}: shape {entries.shape}, but indptr ends at {indptr[-1]}; pass one a transition.")
        row = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
        n_actions = (len(indptr) - 1) // self.n_states
        total = _check_entries(row, successors, probabilities, rewards, self.n_states, n_actions)
        kept = probabilities > 0
        counts = np.bincount(row[kept], minlength=len(indptr) - 1)
        chances = np.where(np.abs(total - 1) > ROUNDING, probabilities / total, probabilities)
        object.__setattr__(self, "indptr", np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
        for field, entries in {"successors": successors, "probabilities": chances, "rewards": rewards}.items():
            object.__setattr__(self, field, entries[kept])
        self._freeze()

    @classmethod
    def from_dense(cls, transitions: ArrayLike, rewards: ArrayLike) -> Dynamics:
        """From probabilities (S, A, S) and rewards on arrival (S,), of a decision (S, A) or a transition (S, A, S).

        Raises:
            DataError: for another shape, and as the constructor.

        Example:
            >>> Dynamics.from_dense([[[0.5, 0.5], [0.2, 0.8]], [[0, 1], [0, 1]]], [0.0, 1.0]).mean_rewards
            array([[0.5, 0.8],
                   [1. , 1. ]])
        """
        dense, reward = numeric("transitions", transitions), numeric("rewards", rewards)
        if dense.ndim != 3 or dense.shape[0] != dense.shape[2] or not dense.size:
            raise DataError(f"transitions: shape {dense.shape}, expected (S, A, S): state, action, next state.")
        n_states, n_actions, _ = dense.shape
        rows, successors = np.nonzero(dense.reshape(-1, n_states))
        counts = np.bincount(rows, minlength=n_states * n_actions)
        return cls(
            n_states,
            np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            successors,
            dense.reshape(-1, n_states)[rows, successors],
            _stored_rewards(reward, dense.shape, rows, successors),
        )

    @property
    def n_actions(self) -> int:
        """A."""
        return (len(self.indptr) - 1) // self.n_states

    @cached_property
    def rows(self) -> Ints:
        """(nnz,) row s * A + a of each stored transition."""
        return frozen(np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr)))

    @cached_property
    def matrix(self) -> Any:
        """(S * A, S) transition matrix, a scipy CSR array."""
        return self._rows_of(self.probabilities)

    @cached_property
    def reward_matrix(self) -> Any:
        """(S * A, S) probability times reward of each transition, a scipy CSR array."""
        return self._rows_of(self.probabilities * self.rewards)

    def _rows_of(self, entries: Floats) -> Any:
        shape = (self.n_states * self.n_actions, self.n_states)
        return frozen_matrix(csr_array((entries, self.successors, self.indptr), shape=shape))

    @cached_property
    def mean_rewards(self) -> Floats:
        """(S, A) expected reward of a decision."""
        means: Floats = np.asarray(self.reward_matrix.sum(axis=1), np.float64)
        return frozen(means.reshape(self.n_states, self.n_actions))

    @cached_property
    def cumulative(self) -> Floats:
        """(nnz,) cumulative probabilities within each row; the last one is exactly 1."""
        return frozen(row_cumulative(self.indptr, self.probabilities))

    def reordered(self, order: Ints) -> Dynamics:
        """The same law with its entries in another order (nnz,), which keeps every row together."""
        return replace(
            self, successors=self.successors[order], probabilities=self.probabilities[order], rewards=self.rewards[order]
        )


@compiled
def row_cumulative(indptr: Ints, probabilities: Floats) -> Floats:
    """(nnz,) cumulative probabilities within each compressed row; the last one is exactly 1."""
    cumulative = np.empty(len(probabilities))
    for row in range(len(indptr) - 1):
        total = 0.0
        for entry in range(indptr[row], indptr[row + 1]):
            total += probabilities[entry]
            cumulative[entry] = total
        if indptr[row] < indptr[row + 1]:
            cumulative[indptr[row + 1] - 1] = 1.0
    return cumulative


def _check_entries(row: Ints, successors: Ints, probabilities: Floats, rewards: Floats, n_states: int, n_actions: int) -> Floats:
    """(nnz,) sum of the row of each entry."""

    def place(index: int) -> str:
        return f"state {index // n_actions}, action {index % n_actions}"

    check_finite("rewards", rewards)
    huge = np.abs(rewards) > LARGEST_REWARD
    if huge.any():
        entry = first_bad(huge)
        raise DataError(f"rewards: {place(row[entry])} pays {rewards[entry]}; choose a unit with at most {LARGEST_REWARD:g}.")
    outside = (successors < 0) | (successors >= n_states)
    if outside.any():
        entry = first_bad(outside)
        raise DataError(f"successors: {place(row[entry])} leads to {successors[entry]}, outside [0, {n_states}).")
    bad = ~((probabilities >= 0) & (probabilities <= 1 + PROBABILITY_TOLERANCE))
    if bad.any():
        entry = first_bad(bad)
        raise DataError(f"transitions: {place(row[entry])} has probability {probabilities[entry]}, outside [0, 1].")
    total = np.bincount(row, probabilities, minlength=n_states * n_actions)
    off = np.abs(total - 1) > PROBABILITY_TOLERANCE
    if off.any():
        index = first_bad(off)
        raise DataError(
            f"transitions: the row of {place(index)} sums to {total[index]:.9g}, not 1. "
            "A terminal state needs a row too: let it stay."
        )
    return np.asarray(total[row])


def _stored_rewards(reward: Floats, shape: tuple[int, ...], rows: NDArray[Any], successors: NDArray[Any]) -> Floats:
    n_states = shape[0]
    match reward.shape:
        case (count,) if count == n_states:
            stored = reward[successors]
        case (_, _) if reward.shape == shape[:2]:
            stored = reward.reshape(-1)[rows]
        case (_, _, _) if reward.shape == shape:
            stored = reward.reshape(-1, n_states)[rows, successors]
        case _:
            raise DataError(
                f"rewards: shape {reward.shape}; pass {shape[:1]} on arrival, "
                f"{shape[:2]} of a decision or {shape} of a transition."
            )
    return np.asarray(stored)
