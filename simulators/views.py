"""`View`: what is seen of a state, and of a record of it. The one mechanism of hidden, missing and mismeasured variables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array, eye_array

from causalrl.checks import Floats, Ints
from causalrl.errors import DataError
from simulators.checks import MOST_RECORDS, ReadOnly, frozen, frozen_matrix

if TYPE_CHECKING:
    from simulators.tabular import TabularMDP


@dataclass(frozen=True, eq=False)
class View(ReadOnly):
    """The law of a record r, one of R, given the state s, one of S: fresh at every step, given the state of that step.

    A policy pi(a | r) that sees the record is the policy sum over r of channel(s, r) pi(a | r) of the state, so its value
    is a dynamic programme on the states. That holds because the channel has no memory.

    Attributes:
        channel: (S, R) sparse, rows sum to 1.
        features: (R, d) what a regressor sees of a record, or None.
        feature_names: d names.
    """

    channel: Any
    features: Floats | None
    feature_names: tuple[str, ...]

    def __post_init__(self) -> None:
        frozen_matrix(self.channel)
        self._freeze()

    @classmethod
    def full(cls, mdp: TabularMDP) -> View:
        """Everything: the record is the state."""
        return cls(csr_array(eye_array(mdp.n_states)), mdp.state_features, mdp.feature_names)

    @property
    def n_records(self) -> int:
        """R."""
        return int(self.channel.shape[1])

    @cached_property
    def codes(self) -> Ints | None:
        """(S,) the record of each state, or None where a state has several."""
        if (np.diff(self.channel.indptr) != 1).any():
            return None
        return frozen(np.asarray(self.channel.indices, np.int64))

    @cached_property
    def is_full(self) -> bool:
        """Whether the record is the state."""
        codes = self.codes
        return codes is not None and self.n_records == len(codes) and bool((codes == np.arange(len(codes))).all())

    def lift(self, tables: Floats) -> Floats:
        """Tables (T, R, A) of a policy that sees the record, as tables (T, S, A) of one that sees the state."""
        if self.is_full:
            return tables
        if self.codes is not None:
            return tables[:, self.codes]
        return np.stack([self.channel @ table for table in tables])

    def determines(self, other: View) -> bool:
        """Whether a record of this view tells that of `other`, a view of the same states that has one record a state."""
        if other.codes is None:
            return False
        states = np.repeat(np.arange(self.channel.shape[0]), np.diff(self.channel.indptr))
        pairs = np.unique(np.stack([self.channel.indices, other.codes[states]]), axis=1)
        return bool((np.diff(pairs[0]) > 0).all())

    def column(self, name: str) -> int:
        """Position of a variable.

        Raises:
            DataError: naming the variables that there are.
        """
        if name not in self.feature_names:
            there = ", ".join(self.feature_names) or "none: give the process state_features and feature_names"
            raise DataError(f"variables: {name!r} is not in the record; it has {there}.")
        return self.feature_names.index(name)

    def hide(self, names: Iterable[str]) -> View:
        """The record without these variables; records that then agree are one.

        Raises:
            DataError: for an unknown variable.
        """
        hidden = [self.column(name) for name in names]
        if not hidden or self.features is None:
            return self
        kept = [j for j in range(len(self.feature_names)) if j not in hidden]
        names = tuple(self.feature_names[j] for j in kept)
        return self.altered([(np.ones(self.n_records), self.features[:, kept])], names)

    def altered(self, branches: Sequence[tuple[Floats, Floats]], names: tuple[str, ...] | None = None) -> View:
        """The record after a random change.

        Args:
            branches: pairs of probabilities (R,) and changed features (R, d'), whose probabilities sum to 1 in each record.
            names: d' names; as before by default.

        Raises:
            DataError: where a state would have too many records.
        """
        count = self.n_records * len(branches)
        if count > MOST_RECORDS:
            raise DataError(
                f"variables: {count} records that differ in {', '.join(self.feature_names)}, more than {MOST_RECORDS}; "
                "corrupt fewer variables, or hide some of them first."
            )
        rows = np.concatenate([features for _, features in branches])
        weights = np.concatenate([probabilities for probabilities, _ in branches])
        possible = weights > 0
        features, codes = np.unique(rows[possible], axis=0, return_inverse=True)
        before = np.tile(np.arange(self.n_records), len(branches))[possible]
        shape = (self.n_records, len(features))
        change = csr_array((weights[possible], (before, codes.reshape(-1))), shape=shape)
        change.sum_duplicates()
        channel = csr_array(self.channel @ change)
        channel.sort_indices()
        return View(channel, features, self.feature_names if names is None else names)

    def replaced(self, names: Sequence[str], values: Sequence[float]) -> Floats:
        """(R, d) features with some variables set.

        Raises:
            DataError: for an unknown variable.
        """
        columns = [self.column(name) for name in names]
        assert self.features is not None
        features = self.features.copy()
        features[:, columns] = values
        return features

    def where(self, name: str) -> Floats:
        """(R,) a variable of each record.

        Raises:
            DataError: for an unknown variable.
        """
        column = self.column(name)
        assert self.features is not None
        return self.features[:, column]
