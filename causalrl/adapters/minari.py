"""Data sets of Minari (Farama Foundation), the store of offline records of Gymnasium environments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from causalrl.adapters.episodes import read_episodes
from causalrl.adapters.gymnasium import discrete_size, observed_size
from causalrl.data import Trajectories
from causalrl.errors import DataError


def from_minari(dataset: Any) -> Trajectories:
    """Trajectories of a Minari data set, its ids kept.

    An episode is TERMINATED where its last step says so, else TRUNCATED; Minari keeps the observation after the last step.
    It has no behaviour probabilities: estimate them (`behavior=crl.Counts()` or `crl.Logit()`).

    Args:
        dataset: a `minari.MinariDataset`, whose observations are `Discrete` (states) or a `Box` of vectors, and whose actions are
            `Discrete` or a `Box` of vectors (continuous).

    Raises:
        DataError: for another object, other spaces (Dict, images), or an episode that does not hold together.
    """
    for name in ("iterate_episodes", "observation_space", "action_space"):
        if not hasattr(dataset, name):
            raise DataError(f"dataset: {type(dataset).__name__} has no {name}; pass a MinariDataset (minari.load_dataset(...)).")
    n_states, first_state = observed_size(dataset.observation_space)
    n_actions, first_action = _action_size(dataset.action_space)
    episodes = _episodes(dataset, first_state, first_action)
    return Trajectories.from_arrays(**read_episodes(episodes), n_actions=n_actions, n_states=n_states)


def _episodes(dataset: Any, first_state: int, first_action: int) -> Iterator[dict[str, Any]]:
    for episode in dataset.iterate_episodes():
        observations, actions = np.asarray(episode.observations), np.asarray(episode.actions)
        yield {
            "observations": observations - first_state if first_state else observations,
            "actions": actions - first_action if first_action else actions,
            "rewards": episode.rewards,
            "terminated": episode.terminations,
            "truncated": episode.truncations,
            "id": int(episode.id),
        }


def _action_size(space: Any) -> tuple[int | None, int]:
    from gymnasium.spaces import Discrete

    return discrete_size("action_space", space) if isinstance(space, Discrete) else (observed_size(space)[0], 0)
