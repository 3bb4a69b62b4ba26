"""What goes wrong in a hospital record, to be put around a simulator: `simulator | HideVariables("diabetes") | Censored(0.02)`.

A wrapper changes the logger, the record or the population, never the process. So the value of a policy stays what it was,
except where the policy sees something else (`HideVariables`, `MCAR`, `MAR`, `MNAR`, `MeasurementError`, `ThinnedVisits`) or
treats others (`CovariateShift`): then `value` is the new one, exact as well. At its neutral value a wrapper is the identity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from simulators.base import TabularSimulator
from simulators.wrappers.recorded import Recorded


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
