"""Gymnasium environments of the sequential simulators, registered on import under ids such as `causalrl/Sepsis-v0`.

Gymnasium 1.0 has no plug-ins: `import simulators` registers the ids, and so does the prefix in
`gymnasium.make("simulators:causalrl/Sepsis-v0")`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray

from causalrl.checks import Floats
from causalrl.errors import DataError
from simulators.base import TabularSimulator
from simulators.checks import check_time
from simulators.classic import Chain, Cliff, Gridworld, Hybrid, ModelFail, ModelWin, SinglePath
from simulators.cobs import CobsGraph, CobsGridworld, ToyMountainCar
from simulators.figures import ICU_SEPSIS_LABELS, SEPSIS_LABELS, TUMOUR_LABELS, Episode, Labels, draw, image_of, variables_of
from simulators.icu_sepsis import ICUSepsis
from simulators.mdp.sampling import cumulative_rows
from simulators.sepsis.simulator import SepsisSimulator
from simulators.tumour.growth import DEATH_DIAMETER, LONGEST, Course
from simulators.tumour.simulator import TumourSimulator, check_days


class PatientEnv(gymnasium.Env[Any, Any], ABC):
    """One patient under treatment: what every environment of a simulator does.

    An episode is terminated where the process ends (death, discharge) and truncated at the horizon. `reset` and `step` return no
    info. A figure of the episode so far is what `render` gives.

    Args:
        horizon: number of steps, or None for no limit.
        labels: how the figure reads the variables and actions.
        render_mode: "rgb_array", or None.

    Raises:
        DataError: for another render mode.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 2}  # type: ignore[misc]

    def __init__(self, horizon: int | None, labels: Labels, render_mode: str | None) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise DataError(f"render_mode: {render_mode!r}; pass 'rgb_array', or None.")
        self.horizon, self.labels, self.render_mode = horizon, labels, render_mode
        self._end = "not started"
        self._observed: list[Any] = []
        self._actions: list[int] = []
        self._rewards: list[float] = []

    @abstractmethod
    def begin(self) -> Any:
        """Admit a patient, drawn from `np_random`; returns the first observation."""

    @abstractmethod
    def treat(self, action: int) -> tuple[Any, float, bool]:
        """Observation, reward, and whether the process has ended, after one step."""

    @abstractmethod
    def variables(self, observed: list[Any]) -> tuple[Floats, tuple[str, ...]]:
        """(M, d) what the figure shows of observations, and the d names."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new patient.

        Args:
            seed: restarts the random numbers.
            options: none are known.

        Raises:
            DataError: for any option.
        """
        if options:
            raise DataError(f"options: {', '.join(map(str, options))}; a patient has none, set the simulator instead.")
        super().reset(seed=seed)
        self._end, self._actions, self._rewards = "", [], []
        self._observed = [self.begin()]
        return self._observed[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Treat the patient for one step.

        Returns:
            observation, reward, terminated, truncated, and an empty info.

        Raises:
            ResetNeeded: after the end of an episode, or before the first.
            InvalidAction: for an action outside the space.
        """
        if self._end:
            raise ResetNeeded(f"The episode has {self._end}; call reset() before step().")
        if not self.action_space.contains(action):
            raise InvalidAction(f"action: {action!r} is not in {self.action_space}.")
        observation, reward, terminated = self.treat(int(action))
        self._observed.append(observation)
        self._actions.append(int(action))
        self._rewards.append(reward)
        truncated = not terminated and len(self._actions) == self.horizon
        self._end = "terminated" if terminated else "truncated" if truncated else ""
        return observation, reward, terminated, truncated, {}

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        """(height, width, 3) figure of the episode so far: variables, treatments, rewards.

        Raises:
            DataError: for an environment without a render mode.
            ResetNeeded: before the first episode.
            MissingExtraError: where matplotlib is not installed.
        """
        if self.render_mode is None:
            raise DataError("render_mode: None; make the environment with render_mode='rgb_array'.")
        if not self._observed:
            raise ResetNeeded("There is no patient yet; call reset() before render().")
        shown, names = self.variables(self._observed)
        actions, rewards = np.array(self._actions, np.int64), np.array(self._rewards)
        span = len(actions) if self.horizon is None else self.horizon
        return image_of(draw(Episode(shown, names, actions, rewards, self._end, span), self.labels))


class TabularEnv(PatientEnv):
    """The process `simulator.mdp` of any simulator with finitely many states.

    Observation: the state, or what a view shows of it, an integer. The figure draws the variables of that view.

    Args:
        simulator: a process, or one behind wrappers. Confounded or censored loggers are of no matter here: the actions
            are the agent's, and nobody is lost.
        horizon: number of steps, or None for no limit.
        render_mode: "rgb_array", or None.
        view: name of what is observed; the simulator's own choice by default.
        labels: how the figure reads the variables and actions.

    Raises:
        DataError, EstimandError: for an unknown render mode or view, or a horizon below 1.

    Example:
        >>> from simulators import SepsisSimulator
        >>> env = TabularEnv(SepsisSimulator(), horizon=20, view="observed")
        >>> env.observation_space, env.action_space
        (Discrete(720), Discrete(8))
        >>> observation, info = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, info = env.step(4)
    """

    def __init__(
        self,
        simulator: TabularSimulator,
        horizon: int | None = None,
        render_mode: str | None = None,
        view: str | None = None,
        labels: Labels | None = None,
    ) -> None:
        check_time(horizon, 1.0)
        super().__init__(horizon, labels or Labels(), render_mode)
        self.simulator, self._mdp, self._view = simulator, simulator.mdp, simulator.view(view)
        self.observation_space = Discrete(self._view.n_records)
        self.action_space = Discrete(simulator.n_actions)
        self._state = 0

    def begin(self) -> np.int64:
        """A start state, as it is recorded."""
        self._state = self._draw(self._mdp.initial)
        return self._see()

    def treat(self, action: int) -> tuple[np.int64, float, bool]:
        """One transition, with the noise of the rewards where there is some; `InvalidAction` for a forbidden action."""
        forbidden = self._mdp.forbidden
        if forbidden is not None and forbidden[self._state, action]:
            allowed = np.flatnonzero(~forbidden[self._state]).tolist()
            raise InvalidAction(f"action: {action} is forbidden in state {self._state}; only {allowed} are allowed.")
        law, row = self._mdp.dynamics, self._state * self.simulator.n_actions + action
        entry = law.indptr[row] + self._draw(law.probabilities[law.indptr[row] : law.indptr[row + 1]])
        self._state = int(law.successors[entry])
        reward = float(law.rewards[entry])
        if self._mdp.reward_noise:
            reward += self._mdp.reward_noise * float(self.np_random.standard_normal())
        return self._see(), reward, bool(self._mdp.terminal[self._state])

    def variables(self, observed: list[Any]) -> tuple[Floats, tuple[str, ...]]:
        """The features of the records."""
        return variables_of(np.array(observed, np.int64), self._view.features, self._view.feature_names)

    def _see(self) -> np.int64:
        channel = self._view.channel
        row = slice(channel.indptr[self._state], channel.indptr[self._state + 1])
        return np.int64(channel.indices[row][self._draw(channel.data[row])])

    def _draw(self, probabilities: Floats) -> int:
        return int(np.searchsorted(cumulative_rows(probabilities), self.np_random.random(), side="right"))


class TumourEnv(PatientEnv):
    """A tumour under chemo- and radiotherapy: observations and actions of `TumourSimulator`, whose gamma is of no matter here.

    Args:
        simulator: says whether the patient type is observed.
        horizon: days, 1 to 60; 60 by default.
        render_mode: "rgb_array", or None.

    Raises:
        DataError, EstimandError: for an unknown render mode, or a horizon out of range.

    Example:
        >>> env = TumourEnv(horizon=20)
        >>> before, after = env.reset(seed=0)[0], env.step(3)[0]  # a day of chemo- and radiotherapy
        >>> [round(float(observation[0]), 2) for observation in (before, after)]  # diameter in cm
        [0.65, 0.5]
    """

    def __init__(
        self, simulator: TumourSimulator | None = None, horizon: int | None = None, render_mode: str | None = None
    ) -> None:
        super().__init__(check_days(horizon), TUMOUR_LABELS, render_mode)
        self.simulator = TumourSimulator() if simulator is None else simulator
        highest = [DEATH_DIAMETER, DEATH_DIAMETER, 10.0, LONGEST, 1.0, 1.0][: len(self.simulator.feature_names)]
        self.observation_space = Box(0.0, np.array(highest), dtype=np.float64)
        self.action_space = Discrete(self.simulator.n_actions)

    def begin(self) -> Floats:
        """A patient; the noise is keyed by a number drawn from `np_random`."""
        seed = int(self.np_random.integers(2**62))
        self._course = Course(self.simulator.patients(1, seed), seed)
        return self._see()

    def treat(self, action: int) -> tuple[Floats, float, bool]:
        """One day."""
        fall = self._course.advance(np.array([action]))
        return self._see(), float(fall[0]), not len(self._course.active)

    def variables(self, observed: list[Any]) -> tuple[Floats, tuple[str, ...]]:
        """The observations themselves."""
        return variables_of(np.stack(observed), None, self.simulator.feature_names)

    def _see(self) -> Floats:
        (observation,) = self.simulator.observations(self._course, np.zeros(1, np.int64))
        return np.asarray(observation)


@dataclass(frozen=True)
class Entry:
    """A tabular simulator that has an id.

    Attributes:
        simulator: builds it with its defaults.
        horizon: default number of steps, or None.
        labels: of its figure.
    """

    simulator: Callable[[], TabularSimulator]
    horizon: int | None
    labels: Labels = field(default_factory=Labels)


_CLASSIC = (Chain, Cliff, CobsGraph, CobsGridworld, Gridworld, Hybrid, ModelFail, ModelWin, SinglePath, ToyMountainCar)
TABULAR = {
    "Sepsis": Entry(SepsisSimulator, 20, SEPSIS_LABELS),
    "ICUSepsis": Entry(ICUSepsis, 500, ICU_SEPSIS_LABELS),
    **{domain.__name__: Entry(domain, domain().horizon) for domain in _CLASSIC},
}
"""The simulator `Name` is the environment `causalrl/Name-v0`."""


def tabular_env(
    name: str,
    horizon: int | None,
    simulator: TabularSimulator | None = None,
    render_mode: str | None = None,
    view: str | None = None,
) -> TabularEnv:
    """The environment of an id; another simulator of its kind, such as one behind wrappers, has the same labels.

    Example:
        >>> env = gymnasium.make("causalrl/Sepsis-v0", simulator=SepsisSimulator("v1"), view="projected")
        >>> env.observation_space
        Discrete(144)
    """
    entry = TABULAR[name]
    return TabularEnv(entry.simulator() if simulator is None else simulator, horizon, render_mode, view, entry.labels)


ENVIRONMENTS: dict[str, tuple[Callable[..., PatientEnv], dict[str, Any]]] = {
    **{f"causalrl/{name}-v0": (tabular_env, {"name": name, "horizon": entry.horizon}) for name, entry in TABULAR.items()},
    "causalrl/Tumour-v0": (TumourEnv, {"horizon": LONGEST}),
}
"""Id -> constructor, and the keyword arguments that it gets unless `gymnasium.make` is told otherwise."""

for environment, (constructor, settings) in ENVIRONMENTS.items():
    if environment not in gymnasium.registry:
        gymnasium.register(environment, entry_point=f"{__name__}:{constructor.__name__}", kwargs=settings)
