"""`Trajectories`, the one data container: ragged logged decisions as flat arrays with offsets, validated here and once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalrl.checks import Floats, Ints, array_of, one_hot, whole_number
from causalrl.errors import DataError
from causalrl.fields import clean_fields, cluster_codes
from causalrl.steps import End, Steps

__all__ = ["End", "Steps", "Trajectories"]


@dataclass(frozen=True, eq=False, repr=False)
class Trajectories:
    """Logged decisions of n trajectories with N steps in all; build one with a `from_*` constructor.

    Attributes:
        observations: (N, d) float, or (N,) integer states (tabular).
        actions: (N,) integers in [0, n_actions), or (N, m) float for continuous actions.
        rewards: (N,) float.
        offsets: (n + 1,); trajectory i is the steps offsets[i] to offsets[i + 1] - 1.
        end: (n,) kind of ending, see `End`.
        n_actions: number of actions (0 for continuous ones).
        n_states: number of states (0 for vector observations).
        behavior_probabilities: (N, n_actions), or (N,) of the logged action, or None.
        final_observations: (n, ...) the observation after the last step, or None; ignored where the process terminated.
        state_features: (n_states, d) what a regressor sees of a state, or None for one-hot columns.
        ids: (n,) labels.
        clusters: (n,) codes 0..G-1 of the independent unit (a patient); by default each trajectory its own.
        feature_names: d names of the observation columns.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 1, 0], [1, 0, 1], [0.0, 1.0, 0.5], [0, 2, 3])
        >>> data
        Trajectories(n=2, steps=3, n_states=2, n_actions=2, length 1 to 2)
    """

    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: Floats
    offsets: Ints
    end: Ints
    n_actions: int
    n_states: int
    behavior_probabilities: Floats | None
    final_observations: NDArray[Any] | None
    state_features: Floats | None
    ids: NDArray[Any]
    clusters: Ints
    feature_names: tuple[str, ...]

    @classmethod
    def from_arrays(
        cls,
        observations: ArrayLike,
        actions: ArrayLike,
        rewards: ArrayLike,
        offsets: ArrayLike,
        *,
        end: ArrayLike | None = None,
        behavior_probabilities: ArrayLike | None = None,
        final_observations: ArrayLike | None = None,
        n_actions: int | None = None,
        n_states: int | None = None,
        state_features: ArrayLike | None = None,
        ids: ArrayLike | None = None,
        clusters: ArrayLike | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> Trajectories:
        """Validate flat arrays (shapes as in the class) and build the container.

        Raises:
            DataError: naming the field, the first offending row and what to do.
        """
        return cls(
            **clean_fields(
                observations,
                actions,
                rewards,
                offsets,
                end,
                behavior_probabilities,
                final_observations,
                n_actions,
                n_states,
                state_features,
                ids,
                clusters,
                feature_names,
            )
        )

    @classmethod
    def from_cross_section(
        cls,
        X: ArrayLike,
        treatment: ArrayLike,
        outcome: ArrayLike,
        *,
        propensity: ArrayLike | None = None,
        clusters: ArrayLike | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> Trajectories:
        """One decision a unit: trajectories of length one, observation X, action = treatment, reward = outcome.

        Args:
            X: (n, d) covariates, an array or a dataframe (whose column names are kept), or (n,) integer strata.
            treatment: (n,) integers from 0.
            outcome: (n,) float.
            propensity: (n,) P(treatment = 1 | X) of a binary treatment, or (n, n_actions).
            clusters: (n,) labels of the independent unit.
            feature_names: d names; those of a dataframe by default.

        Raises:
            DataError: also where only one treatment arm occurs.

        Example:
            >>> import causalrl as crl
            >>> study = crl.Trajectories.from_cross_section([[0.1], [0.4], [0.3]], [0, 1, 1], [1.0, 2.0, 3.0])
            >>> crl.OnPolicyMean().estimate(study, crl.Uniform(2)).value
            2.0
        """
        from causalrl.adapters.cross_sections import read_cross_section

        return cls.from_arrays(**read_cross_section(X, treatment, outcome, propensity, clusters, feature_names))

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        id: str,
        time: str,
        action: str,
        reward: str,
        observations: str | Sequence[str],
        *,
        end: str | None = None,
        propensities: str | Sequence[str] | None = None,
        cluster: str | None = None,
    ) -> Trajectories:
        """Build from a long table, one row a decision, in any row order (pandas, polars, pyarrow through narwhals).

        Args:
            frame: the table.
            id, time: columns that name the trajectory and order its steps; trajectories are sorted by id.
            action, reward: integer actions from 0, and rewards.
            observations: column names, or the name of one integer column of states.
            end: column whose value in the last row of an id is "terminated", "truncated" or "censored" (or an `End`).
            propensities: column of the logged action's probability, or one column an action.
            cluster: column of the independent unit, constant within an id.

        Raises:
            DataError: naming the column and the row of the table, for example for a missing value or a repeated (id, time).

        Example:
            >>> import causalrl as crl, pandas as pd
            >>> table = pd.DataFrame({"stay": [7, 7, 3], "hour": [1, 0, 0], "a": [0, 1, 1], "r": [1.0, 0, 0], "hr": [80, 90, 70]})
            >>> crl.Trajectories.from_frame(table, "stay", "hour", "a", "r", ["hr"]).rewards
            array([0., 0., 1.])
        """
        from causalrl.adapters.frames import read_frame

        return cls.from_arrays(**read_frame(frame, id, time, action, reward, observations, end, propensities, cluster))

    @classmethod
    def from_episodes(
        cls,
        episodes: Iterable[Any],
        *,
        n_actions: int | None = None,
        n_states: int | None = None,
        state_features: ArrayLike | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> Trajectories:
        """Build from episodes, each a mapping, or an object with attributes, that holds its own arrays.

        Fields of an episode: `observations` (T rows, or T + 1 with the one after the last step), `actions` and `rewards` (T);
        `terminated` and `truncated`, as one flag or T of which the last counts, or instead an `end`; and, in all episodes or in
        none, `behavior_probabilities`, `id`, `cluster`. A record that is not terminated counts as truncated.

        Args:
            episodes: the episodes, in the order of the trajectories.
            n_actions, n_states, state_features, feature_names: as in the class.

        Raises:
            DataError: naming the episode and the field, for example for a flag before the last step.

        Example:
            >>> import causalrl as crl
            >>> stay = {"observations": [3, 4, 1], "actions": [0, 1], "rewards": [0.0, 1.0], "terminated": False}
            >>> data = crl.Trajectories.from_episodes([stay, {**stay, "terminated": [False, True]}])
            >>> data.end, data.final_observations
            (array([1, 0]), array([1, 1]))
        """
        from causalrl.adapters.episodes import read_episodes

        return cls.from_arrays(
            **read_episodes(episodes),
            n_actions=n_actions,
            n_states=n_states,
            state_features=state_features,
            feature_names=feature_names,
        )

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    def __repr__(self) -> str:
        space = f"n_states={self.n_states}" if self.tabular else f"features={self.observations.shape[1]}"
        arms = f"n_actions={self.n_actions}" if self.n_actions else f"action_dim={self.actions.shape[1]}"
        lengths = f"length {self.lengths.min()} to {self.lengths.max()}"
        return f"Trajectories(n={self.n}, steps={len(self.rewards)}, {space}, {arms}, {lengths})"

    @property
    def n(self) -> int:
        """Number of trajectories."""
        return len(self.offsets) - 1

    @property
    def tabular(self) -> bool:
        """Whether observations are integer states."""
        return self.observations.ndim == 1

    @cached_property
    def lengths(self) -> Ints:
        """(n,) steps of each trajectory."""
        return np.diff(self.offsets)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content; estimates combine only where it agrees."""
        digest = hashlib.blake2b(digest_size=16)
        for item in fields(self):
            value = getattr(self, item.name)
            digest.update(item.name.encode())
            digest.update(np.ascontiguousarray(value).tobytes() if np.asarray(value).dtype != object else repr(value).encode())
        return digest.hexdigest()

    def features(self, observations: NDArray[Any]) -> Floats:
        """(M, d) what a regressor sees of `observations`: vectors as they are, states by `state_features` or one-hot."""
        if observations.ndim == 2:
            return observations
        if self.state_features is not None:
            features: Floats = self.state_features[observations]
            return features
        return one_hot(observations, self.n_states)

    def take(self, trajectories: ArrayLike) -> Trajectories:
        """The trajectories with these indices, in this order (a shard, a permutation, a resample), or where a mask is true."""
        index = array_of("trajectories", trajectories)
        if not index.size or index.dtype.kind not in "iub":
            raise DataError(f"trajectories: {index!r}; pass at least one index, or a mask, since a data set is never empty.")
        chosen = np.arange(self.n)[index]
        lengths = self.lengths[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        rows = np.repeat(self.offsets[chosen] - offsets[:-1], lengths) + np.arange(offsets[-1])
        logged, final = self.behavior_probabilities, self.final_observations
        return replace(
            self,
            observations=self.observations[rows],
            actions=self.actions[rows],
            rewards=self.rewards[rows],
            offsets=offsets,
            end=self.end[chosen],
            behavior_probabilities=None if logged is None else logged[rows],
            final_observations=None if final is None else final[chosen],
            ids=self.ids[chosen],
            clusters=cluster_codes(self.clusters[chosen], len(chosen)),
        )

    def steps(self, horizon: int | None = None) -> Steps:
        """The first `horizon` steps of every trajectory (all of them for None), flat, each with its successor."""
        if horizon is not None:
            whole_number("horizon", horizon, 1)
        return Steps(self, horizon)
