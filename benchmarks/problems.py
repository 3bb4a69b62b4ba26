"""The problems on which rates and coverage are measured: a simulator, who acts in it, who is valued, for how long."""

from __future__ import annotations

from dataclasses import dataclass

import causalrl as crl
from simulators import ICUSepsis, ModelFail, ModelWin, SepsisSimulator
from simulators.base import TabularSimulator


@dataclass(frozen=True)
class Problem:
    """A simulator, who acts in it, who is valued, and for how long."""

    name: str
    simulator: TabularSimulator
    behavior: crl.Policy
    target: crl.Policy
    horizon: int

    @property
    def truth(self) -> float:
        return self.simulator.value(self.target, horizon=self.horizon)

    def bound(self, model: str) -> float:
        """The least variance of root n times an estimate that uses no more than the model."""
        return self.simulator.efficiency_bound(self.target, self.behavior, horizon=self.horizon, discount=1.0, model=model)


def sepsis() -> Problem:
    simulator = SepsisSimulator()
    return Problem("sepsis", simulator, simulator.physician(epsilon=0.3), simulator.physician(epsilon=0.15), 20)


def model_win(horizon: int = 4) -> Problem:
    return Problem("ModelWin", simulator := ModelWin(), simulator.behavior(), simulator.target(), horizon)


def model_fail() -> Problem:
    return Problem("ModelFail", simulator := ModelFail(), simulator.behavior(), simulator.target(), 2)


def sepsis_poor() -> Problem:
    """Never treat, from a clinician who nearly always does: the data hardly show it."""
    simulator = SepsisSimulator()
    return Problem("sepsis, poor overlap", simulator, simulator.physician(epsilon=0.05), crl.Always(0), 20)


def icu_sepsis() -> Problem:
    simulator = ICUSepsis(inadmissible="mean")
    return Problem("ICU-Sepsis", simulator, crl.Softened(simulator.expert(), 0.1), simulator.expert(), 20)
