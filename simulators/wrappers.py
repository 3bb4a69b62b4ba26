"""What goes wrong in a hospital record, to be put around a simulator: `simulator | HideVariables("diabetes") | Censored(0.02)`.

A wrapper changes the logger, the record or the population, never the process. So the value of a policy stays what it was,
except where the policy sees something else (`HideVariables`, `MCAR`, `MAR`, `MNAR`, `MeasurementError`, `ThinnedVisits`) or
treats others (`CovariateShift`): then `value` is the new one, exact as well. At its neutral value a wrapper is the identity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import numeric, whole_number
from causalrl.errors import DataError
from causalrl.kernels.rng import derive_seed
from simulators.base import TabularSimulator
from simulators.confounding import MODELS
from simulators.recorded import Recorded
from simulators.views import View

MOST_GAMMA, MOST_SPREAD = 1e6, 10.0


class Wrapper(ABC):
    """One thing that goes wrong."""

    @property
    @abstractmethod
    def neutral(self) -> bool:
        """Whether it changes nothing."""

    @abstractmethod
    def alter(self, process: Recorded) -> Recorded:
        """The process with this around it."""

    def __ror__(self, simulator: object) -> TabularSimulator:
        if not isinstance(simulator, TabularSimulator):
            return NotImplemented
        if self.neutral:
            return simulator
        process = simulator
        if not isinstance(process, Recorded):
            process = Recorded(simulator, (), simulator.view())
        return replace(self.alter(process), wrappers=(*process.wrappers, self))


@dataclass(frozen=True, init=False)
class HideVariables(Wrapper):
    """Variables that the logger saw and the record does not have.

    Args:
        names: of the state's features.

    Example:
        >>> from simulators import SepsisSimulator
        >>> (SepsisSimulator() | HideVariables("diabetes")).view().n_records
        720
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)

    @property
    def neutral(self) -> bool:
        """No name."""
        return not self.names

    def alter(self, process: Recorded) -> Recorded:
        """Records that agree in all other variables become one."""
        return replace(process, shown=process.shown.hide(self.names))


@dataclass(frozen=True)
class Confounded(Wrapper):
    """A logger that knows something of the patient's luck that the record does not have.

    At every confounded step a fresh U, 0 or 1 with probability 1/2, makes the upper half of the actions (those from A / 2 on)
    likelier (U = 1) or less likely, as much as gamma allows, and decides whether the successor comes from the better or the
    worse half of its row, by probability. Where a process leaves nothing to luck there is no confounding.

    Args:
        gamma: odds ratio from 1 to 10^6. Given the state, that of two actions between the values of U is at most gamma under
            "rosenbaum" (Rosenbaum 2002; Namkoong et al. 2020), and attained by the two halves of the actions where both
            have mass; under "marginal" (Tan 2006) it is that between a value of U and the policy itself. Behind
            `HideVariables` the record shows mixtures of states, in which the odds ratio of two of several actions can be
            larger, up to gamma squared.
        model: "rosenbaum" or "marginal".
        steps: times of the confounded steps, all by default.

    Raises:
        DataError: for a gamma out of range, another model or a negative step.
    """

    gamma: float
    model: str = "rosenbaum"
    steps: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        check_knob("gamma", self.gamma, MOST_GAMMA, least=1)
        if self.model not in MODELS:
            raise DataError(f"model: {self.model!r}; pass 'rosenbaum' or 'marginal'.")
        if isinstance(self.steps, int | np.integer):
            raise DataError(f"steps: {self.steps} is one number; pass the times of all confounded steps, ({self.steps},).")
        if self.steps is not None:
            object.__setattr__(self, "steps", tuple(whole_number("steps", step, 0) for step in self.steps))

    @property
    def neutral(self) -> bool:
        """An odds ratio of 1, or no step."""
        return self.gamma == 1 or self.steps == ()

    def alter(self, process: Recorded) -> Recorded:
        """The logger gets a confounder."""
        if process.confounding is not None:
            raise DataError("Confounded: the logger is confounded already; wrap once, with the larger gamma.")
        return replace(process, confounding=self)


@dataclass(frozen=True, eq=False)
class Censored(Wrapper):
    """Patients are lost to follow-up after a step, with a known probability; their record ends as CENSORED.

    A step that ends the process, or is the last one before the horizon, loses nobody. The final record is that of the state
    in which the patient was lost.

    Args:
        hazard: in [0, 1), one number, or (S, A) where it depends on the state of the simulator, hidden or not, and the action.

    Raises:
        DataError: for a hazard outside [0, 1) or of another shape.
    """

    hazard: ArrayLike

    def __post_init__(self) -> None:
        hazard = numeric("hazard", np.atleast_1d(self.hazard))
        if not ((hazard >= 0) & (hazard < 1)).all():
            raise DataError(f"hazard: {self.hazard!r}; pass a probability in [0, 1) of a loss after each step.")

    @property
    def neutral(self) -> bool:
        """Nobody is lost."""
        return not np.any(self.hazard)

    def alter(self, process: Recorded) -> Recorded:
        """One more way to be lost."""
        shape, hazard = (process.n_states, process.n_actions), numeric("hazard", np.atleast_1d(self.hazard))
        if hazard.shape not in ((1,), shape):
            raise DataError(f"hazard: shape {hazard.shape}; pass one number, or {shape} for every state and action.")
        stays = 1.0 - np.broadcast_to(hazard, shape)
        return replace(process, hazard=1.0 - stays * (1.0 if process.hazard is None else 1.0 - process.hazard))


@dataclass(frozen=True)
class Hospitals(Wrapper):
    """Patients are treated in hospitals with habits of their own, which the data carry as clusters.

    Hospital k takes action a exp(spread z_ka) times as often as the policy, relative to the other actions, z standard normal.

    Args:
        count: number of hospitals, each with the same share of patients.
        spread: standard deviation of the habits on the log-odds scale, at most 10.
        seed: of the habits.

    Raises:
        DataError: for fewer than 1 hospital or a spread out of range.
    """

    count: int
    spread: float
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("count", self.count, 1)
        whole_number("seed", self.seed, 0)
        check_knob("spread", self.spread, MOST_SPREAD)

    @property
    def neutral(self) -> bool:
        """No habits."""
        return self.spread == 0

    def alter(self, process: Recorded) -> Recorded:
        """The logger becomes many."""
        if process.hospitals is not None:
            raise DataError("Hospitals: the patients are in hospitals already; wrap once.")
        habits = np.random.default_rng(derive_seed(self.seed, "hospitals")).normal(size=(self.count, process.n_actions))
        return replace(process, hospitals=np.exp(self.spread * habits))


@dataclass(frozen=True)
class CovariateShift(Wrapper):
    """The policy is meant for another population than the cohort in the record.

    `sample`, `marginal_policy` and `apparent_value` are of the cohort, everything else (`value`, `q`, `variance`, ...) is of the
    target population. Its start distribution is that of the cohort times exp(strength x), x the variable, normalised.

    Args:
        strength: log density ratio of the two populations a unit of the variable.
        variable: a feature of the state, hidden or not.

    Raises:
        DataError: for a strength that is not finite; for an unknown variable once it is put around a simulator.
    """

    strength: float
    variable: str

    def __post_init__(self) -> None:
        check_knob("strength", self.strength, np.finfo(float).max, least=-np.finfo(float).max)

    @property
    def neutral(self) -> bool:
        """The same population."""
        return self.strength == 0

    def alter(self, process: Recorded) -> Recorded:
        """The target population moves away from the cohort."""
        score = self.strength * View.full(process.base.mdp).where(self.variable)
        there = process.mdp.initial > 0
        start = np.where(there, process.mdp.initial * np.exp(np.minimum(score - score[there].max(), 0.0)), 0.0)
        return replace(process, population=start / start.sum())


def check_knob(field: str, number: float, most: float, least: float = 0.0) -> None:
    """A number between two others."""
    if isinstance(number, bool) or not isinstance(number, Real) or not least <= number <= most:
        raise DataError(f"{field}: {number!r}; pass a number from {least:g} to {most:g}.")
