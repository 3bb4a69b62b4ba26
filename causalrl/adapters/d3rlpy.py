"""d3rlpy's data sets and trained algorithms (Seno & Imai 2022), as `Trajectories` and `Policy`, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.adapters.episodes import read_episodes
from causalrl.checks import Floats, Ints
from causalrl.data import End, Trajectories
from causalrl.errors import DataError, PolicyError
from causalrl.nuisances.crossfit import require_trajectories
from causalrl.nuisances.networks import load_d3rlpy, one_thread, quiet
from causalrl.policies import Policy


def to_d3rlpy(data: Trajectories) -> Any:
    """A `d3rlpy.dataset.MDPDataset`: terminals where the process ended, time-outs where only the record did.

    Vector observations, actions, rewards and ends come back from `from_d3rlpy` as they were. d3rlpy has no place for the rest:
    states become their features (`data.features`: state features, or indicators), and behaviour probabilities, ids and clusters
    are left out, and so are the final observations of truncated records, so that d3rlpy learns nothing from the last step of such
    a record.

    Raises:
        DataError: for censored records, and for truncated records of one step, which d3rlpy would drop.
        MissingExtraError: without the extra `d3rlpy`.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([[0.1], [0.2], [0.3]], [1, 0, 1], [0.0, 1.0, 2.0], [0, 1, 3], end=[0, 1])
        >>> [(len(episode), episode.terminated) for episode in to_d3rlpy(data).episodes]
        [(1, True), (2, False)]
    """
    require_trajectories(data)
    d3rlpy = load_d3rlpy()
    _check_kept(data)
    last = data.offsets[1:] - 1
    terminal, timeout = np.zeros((2, len(data.rewards)))
    terminal[last] = data.end == End.TERMINATED
    timeout[last] = data.end == End.TRUNCATED
    space = d3rlpy.ActionSpace.DISCRETE if data.n_actions else d3rlpy.ActionSpace.CONTINUOUS
    size = data.n_actions or data.actions.shape[1]
    with quiet():
        return d3rlpy.dataset.MDPDataset(
            data.features(data.observations).copy(),
            data.actions.copy(),
            data.rewards.copy(),
            terminal,
            timeout,
            action_space=space,
            action_size=size,
        )


def _check_kept(data: Trajectories) -> None:
    censored = np.flatnonzero(data.end == End.CENSORED)
    if len(censored):
        i = int(censored[0])
        raise DataError(f"end: trajectory {data.ids[i]} (row {i}) is censored, which d3rlpy cannot say; take the others.")
    short = np.flatnonzero((data.end == End.TRUNCATED) & (data.lengths == 1))
    if len(short):
        i = int(short[0])
        raise DataError(
            f"end: trajectory {data.ids[i]} (row {i}) is truncated after one step, and d3rlpy would drop it, since it keeps no "
            "observation after the last step; take the others."
        )


def from_d3rlpy(dataset: Any) -> Trajectories:
    """Trajectories of a d3rlpy data set: TERMINATED or, where the episode timed out, TRUNCATED.

    d3rlpy keeps no observation after the last step, and no behaviour probabilities; estimate these with `behavior=crl.Logit()`.

    Args:
        dataset: a `ReplayBuffer` such as `MDPDataset`, of vector observations.

    Raises:
        DataError: for another object, or observations that are no vectors.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([[0.1], [0.2], [0.3]], [1, 0, 1], [0.0, 1.0, 2.0], [0, 1, 3], end=[0, 1])
        >>> from_d3rlpy(to_d3rlpy(data)).fingerprint == data.fingerprint
        True
    """
    if not hasattr(dataset, "episodes") or not hasattr(dataset, "dataset_info"):
        raise DataError(f"dataset: {type(dataset).__name__} is no data set of d3rlpy; pass a ReplayBuffer or an MDPDataset.")
    info = dataset.dataset_info
    discrete = info.action_space.name == "DISCRETE"
    fields = read_episodes(_episodes(dataset.episodes, discrete))
    return Trajectories.from_arrays(**fields, n_actions=int(info.action_size) if discrete else None)


def _episodes(episodes: Any, discrete: bool) -> Iterator[dict[str, Any]]:
    for episode in episodes:
        actions, rewards = np.asarray(episode.actions), np.asarray(episode.rewards)
        yield {
            "observations": episode.observations,
            "actions": actions[:, 0] if discrete and actions.ndim == 2 else actions,
            "rewards": rewards[:, 0] if rewards.ndim == 2 else rewards,
            "terminated": bool(episode.terminated),
        }


@dataclass(frozen=True, eq=False)
class D3RLPolicy(Policy):
    """What a trained algorithm of d3rlpy does: its greedy action, with probability one.

    Args:
        algo: a trained algorithm with discrete actions.
        features: maps observations to the algorithm's inputs, such as `data.features`; needed for integer states.
        imitated: the probabilities that `DiscreteBC` has learned, instead of its most probable action.

    Raises:
        PolicyError: for an algorithm that is untrained or continuous, or has no such probabilities.
    """

    algo: Any
    features: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    imitated: bool = False

    def __post_init__(self) -> None:
        d3rlpy = load_d3rlpy()
        name = type(self.algo).__name__
        if not isinstance(self.algo, d3rlpy.algos.QLearningAlgoBase):
            raise PolicyError(f"D3RLPolicy: {name} is no algorithm of d3rlpy; pass a trained one, such as DiscreteCQL.")
        if self.algo.get_action_type() != d3rlpy.ActionSpace.DISCRETE:
            raise PolicyError(f"D3RLPolicy: {name} has continuous actions; pass a trained discrete one, such as DiscreteCQL.")
        if self.algo.impl is None:
            raise PolicyError(
                f"D3RLPolicy: this {name} is not trained; call its fit first, or use causalrl.learning.DeepLearner."
            )
        if self.imitated and not isinstance(self.algo, d3rlpy.algos.DiscreteBC):
            raise PolicyError(
                f"D3RLPolicy: {name} learns no probabilities of the logged actions; imitated=True is for DiscreteBC."
            )

    def bind(self, n_actions: int, behavior: Policy | None = None) -> Policy:
        if n_actions != self.algo.action_size:
            raise PolicyError(f"{self}: has {self.algo.action_size} actions, the data have {n_actions}.")
        return replace(self)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        if observations.ndim == 1 and self.features is None:
            raise PolicyError("D3RLPolicy: integer states need features=, such as data.features of what it was trained on.")
        inputs = observations if self.features is None else self.features(observations)
        if inputs.shape[1:] != tuple(self.algo.observation_shape):
            raise PolicyError(f"{self}: takes inputs of shape {tuple(self.algo.observation_shape)}, got {inputs.shape[1:]}.")
        with one_thread():
            if self.imitated:
                return self._imitated(inputs)
            greedy = self.algo.predict(np.asarray(inputs, np.float32))
        chosen: Floats = np.eye(self.algo.action_size)[greedy]
        return chosen

    def _imitated(self, inputs: NDArray[Any]) -> Floats:
        import torch

        rows = torch.as_tensor(inputs, dtype=torch.float32)
        scaler = self.algo.observation_scaler
        with torch.no_grad():
            logits = self.algo.impl.modules.imitator(rows if scaler is None else scaler.transform(rows)).logits
            probabilities: Floats = torch.softmax(logits.double(), dim=1).numpy()
        return probabilities

    def __str__(self) -> str:
        return f"D3RLPolicy({type(self.algo).__name__})"
