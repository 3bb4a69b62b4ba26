"""Records of a policy at work in a Gymnasium environment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, seed_number, whole_number
from causalrl.data import Trajectories
from causalrl.errors import DataError, PolicyError
from causalrl.kernels.rng import derive_seed
from causalrl.policies import Policy, PolicyLike, action_probabilities, as_policy

if TYPE_CHECKING:
    from gymnasium import Env


def collect(
    env: Env[Any, Any], policy: PolicyLike, episodes: int, seed: int = 0, *, max_steps: int | None = None
) -> Trajectories:
    """Run a policy in an environment and record it, with its probabilities of every action as the behaviour policy.

    An episode ends TERMINATED where the environment says so, and TRUNCATED where only its time limit or `max_steps` cuts it; the
    observation after the last step is kept. A space that starts at k is recorded from 0. The same seed gives the same records.

    Args:
        env: with discrete actions, and observations that are integers (`Discrete`, recorded as states) or vectors (`Box`).
        policy: the behaviour policy, of observations as they are recorded.
        episodes: number of trajectories.
        seed: of the environment, reset with a number of its own for every episode, and of the actions.
        max_steps: longest episode; None leaves it to the environment, which then has to end each one.

    Raises:
        DataError: for other spaces, or numbers out of range.
        PolicyError: for a policy that is defined through the behaviour policy, or returns no probabilities.

    Example:
        >>> import gymnasium, causalrl as crl
        >>> lake = gymnasium.make("FrozenLake-v1", is_slippery=False)
        >>> collect(lake, crl.Uniform(4), 100, seed=0)
        Trajectories(n=100, steps=642, n_states=16, n_actions=4, length 2 to 28)
    """
    from causalrl.adapters.episodes import read_episodes

    whole_number("episodes", episodes, 1)
    if max_steps is not None:
        whole_number("max_steps", max_steps, 1)
    seed_number(seed)
    recorder = _Recorder(env, as_policy(policy))
    records = [recorder.episode(derive_seed(seed, "episode", i), max_steps) for i in range(episodes)]
    return Trajectories.from_arrays(**read_episodes(records), n_actions=recorder.n_actions, n_states=recorder.n_states)


class _Recorder:
    """An environment and the policy that acts in it."""

    def __init__(self, env: Env[Any, Any], policy: Policy) -> None:
        if policy.needs_behavior:
            raise PolicyError(f"policy {policy}: is defined through the behaviour policy, which it would have to be here.")
        if isinstance(env, type) or not hasattr(env, "action_space"):
            raise DataError(f"env: {env!r} is no environment; pass an object of Gymnasium, such as gymnasium.make(...).")
        self.env = env
        self.n_actions, self._first_action = discrete_size("action_space", env.action_space)
        self.n_states, self._first_state = observed_size(env.observation_space)
        self._policy = policy.bind(self.n_actions)

    def episode(self, seed: int, max_steps: int | None) -> dict[str, Any]:
        rng = np.random.default_rng(derive_seed(seed, "actions"))
        seen = [self._see(self.env.reset(seed=derive_seed(seed, "environment") % 2**31)[0])]
        actions, rewards, rows = list[int](), list[float](), list[Floats]()
        terminated = truncated = False
        while not (terminated or truncated or len(actions) == max_steps):
            here, now = np.stack([seen[-1]]), np.array([len(actions)])
            rows.append(action_probabilities(self._policy, here, now, self.n_actions)[0])
            cumulative = np.cumsum(rows[-1])
            actions.append(int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right")))
            after, reward, terminated, truncated, _ = self.env.step(self._first_action + actions[-1])
            seen.append(self._see(after))
            rewards.append(float(reward))
        return {
            "observations": np.stack(seen),
            "actions": actions,
            "rewards": rewards,
            "terminated": terminated,
            "behavior_probabilities": np.stack(rows),
        }

    def _see(self, observation: Any) -> NDArray[Any]:
        return np.asarray(observation) - self._first_state if self.n_states else np.array(observation, np.float64)


def discrete_size(field: str, space: Any) -> tuple[int, int]:
    """Size and smallest element of a `Discrete` space."""
    from gymnasium.spaces import Discrete

    if not isinstance(space, Discrete):
        raise DataError(f"{field}: {space} is not Discrete; wrap the environment so that it is.")
    return int(space.n), int(space.start)


def observed_size(space: Any) -> tuple[int | None, int]:
    """Number of states and the smallest of a `Discrete` space; None and 0 for vectors."""
    from gymnasium.spaces import Box

    if isinstance(space, Box) and space.shape is not None and len(space.shape) == 1:
        return None, 0
    if isinstance(space, Box):
        raise DataError(f"observation_space: {space} holds arrays; wrap the environment in FlattenObservation.")
    return discrete_size("observation_space", space)
