"""Loggers that know more than the record, or have habits; each is a wrapper (see `simulators.wrappers.base`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from causalrl.checks import number, one_of, whole_number
from causalrl.errors import DataError
from causalrl.kernels.rng import derive_seed
from simulators.checks import LONGEST_HORIZON
from simulators.wrappers.base import Wrapper
from simulators.wrappers.confounding import MODELS
from simulators.wrappers.recorded import Recorded

MOST_GAMMA, MOST_SPREAD, MOST_HOSPITALS = 1e6, 10.0, 10_000


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
        DataError: for a gamma out of range, another model, or steps that are no times; for a second one around a simulator.

    Example:
        >>> from simulators import ModelWin
        >>> domain = ModelWin()
        >>> record, target, logger = domain | Confounded(gamma=2.0), domain.target(), domain.behavior()
        >>> round(record.value(target, 20), 4), round(record.apparent_value(target, logger, 20), 4)
        (0.92, 2.1748)
    """

    gamma: float
    model: str = "rosenbaum"
    steps: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", number("gamma", self.gamma, 1, MOST_GAMMA))
        object.__setattr__(self, "model", one_of("model", self.model, MODELS))
        if self.steps is not None:
            if not isinstance(self.steps, Iterable):
                raise DataError(f"steps: {self.steps!r}; pass the times of all confounded steps, such as (0, 3).")
            times = tuple(whole_number("steps", step, 0, most=LONGEST_HORIZON) for step in self.steps)
            object.__setattr__(self, "steps", times)

    @property
    def neutral(self) -> bool:
        """An odds ratio of 1, or no step."""
        return self.gamma == 1 or self.steps == ()

    def alter(self, process: Recorded) -> Recorded:
        """The logger gets a confounder; `DataError` where it has one."""
        if process.confounding is not None:
            raise DataError("Confounded: the logger is confounded already; wrap once, with the larger gamma.")
        return replace(process, confounding=self)


@dataclass(frozen=True)
class Hospitals(Wrapper):
    """Patients are treated in hospitals with habits of their own, which the data carry as clusters.

    Hospital k takes action a exp(spread z_ka) times as often as the policy, relative to the other actions, z standard normal.

    Source: the random intercepts of Hedeker, A mixed-effects multinomial logistic regression model, Statistics in Medicine
    22:1433, 2003.

    Args:
        count: number of hospitals, at most 10,000, each with the same share of patients.
        spread: standard deviation of the habits on the log-odds scale, at most 10.
        seed: of the habits.

    Raises:
        DataError: for a number of hospitals, a spread or a seed out of range; for a second one around a simulator.

    Example:
        >>> from causalrl.policies import Uniform
        >>> from simulators import ModelWin
        >>> data = (ModelWin() | Hospitals(count=3, spread=1.0)).sample(3000, Uniform(2), horizon=20, seed=0)
        >>> hospital = np.repeat(data.clusters, data.lengths)
        >>> [round(float(data.actions[hospital == k].mean()), 2) for k in range(3)]  # how often each takes action 1
        [0.63, 0.22, 0.64]
    """

    count: int
    spread: float
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("count", self.count, 1, most=MOST_HOSPITALS)
        whole_number("seed", self.seed, 0)
        object.__setattr__(self, "spread", number("spread", self.spread, 0, MOST_SPREAD))

    @property
    def neutral(self) -> bool:
        """No habits."""
        return self.spread == 0

    def alter(self, process: Recorded) -> Recorded:
        """The logger becomes many; `DataError` where it is already."""
        if process.hospitals is not None:
            raise DataError("Hospitals: the patients are in hospitals already; wrap once.")
        habits = np.random.default_rng(derive_seed(self.seed, "hospitals")).normal(size=(self.count, process.n_actions))
        return replace(process, hospitals=np.exp(self.spread * habits))
