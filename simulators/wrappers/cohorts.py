"""Who is followed, and whom a policy is meant for; each is a wrapper (see `simulators.wrappers.base`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import numeric
from causalrl.errors import DataError
from simulators.views import View
from simulators.wrappers.base import Wrapper, check_knob
from simulators.wrappers.recorded import Recorded


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
