"""Who is followed, and whom a policy is meant for; each is a wrapper (see `simulators.wrappers.base`)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import first_bad, number, numeric
from causalrl.errors import DataError
from simulators.checks import ReadOnly, check_names
from simulators.wrappers.base import Wrapper
from simulators.wrappers.recorded import Recorded

MOST_STRENGTH = 1e6


@dataclass(frozen=True, eq=False, repr=False)
class Censored(ReadOnly, Wrapper):
    """Patients are lost to follow-up after a step, with a known probability; their record ends as CENSORED.

    A step that ends the process, or is the last one before the horizon, loses nobody. The final record is that of the state
    in which the patient was lost. A hazard that depends on recorded variables alone is one of losses at random.

    Source: Robins, Rotnitzky & Zhao, Analysis of semiparametric regression models for repeated outcomes in the presence of
    missing data, JASA 90:106, 1995 (losses at random).

    Args:
        hazard: in [0, 1), one number, or (S, A) where it depends on the state of the simulator, hidden or not, and the action.

    Raises:
        DataError: for a hazard outside [0, 1) or of another shape.

    Example:
        >>> from causalrl.policies import Uniform
        >>> from simulators import ModelWin
        >>> data = (ModelWin() | Censored(0.1)).sample(1000, Uniform(2), horizon=20, seed=0)
        >>> np.bincount(data.end, minlength=3)  # terminated, truncated after 20 steps, censored
        array([  0, 123, 877])
    """

    hazard: ArrayLike

    def __post_init__(self) -> None:
        hazard = numeric("hazard", [self.hazard])[0]
        if hazard.ndim not in (0, 2):
            raise DataError(f"hazard: shape {hazard.shape}; pass one number, or (S, A) for every state and action.")
        bad = ~((hazard >= 0) & (hazard < 1))
        if bad.any():
            where = f"row {first_bad(bad)} is {hazard[first_bad(bad)]}" if hazard.ndim else f"{self.hazard!r}"
            raise DataError(f"hazard: {where}; pass a probability in [0, 1) of a loss after each step.")
        object.__setattr__(self, "hazard", hazard if hazard.ndim else number("hazard", self.hazard, 0, 1))
        self._freeze()

    @property
    def neutral(self) -> bool:
        """Nobody is lost."""
        return not np.any(self.hazard)

    def alter(self, process: Recorded) -> Recorded:
        """One more way to be lost; `DataError` for a hazard that is not of this process."""
        shape = process.n_states, process.n_actions
        if np.shape(self.hazard) not in ((), shape):
            raise DataError(f"hazard: shape {np.shape(self.hazard)}; pass one number, or {shape} for every state and action.")
        stays = 1.0 - np.broadcast_to(np.asarray(self.hazard, float), shape)
        return replace(process, hazard=1.0 - stays * (1.0 if process.hazard is None else 1.0 - process.hazard))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Censored) and np.array_equal(self.hazard, other.hazard)

    def __hash__(self) -> int:
        return hash(np.asarray(self.hazard).tobytes())

    def __repr__(self) -> str:
        hazard = f"<{' x '.join(map(str, np.shape(self.hazard)))} probabilities>" if np.ndim(self.hazard) else self.hazard
        return f"Censored(hazard={hazard})"


@dataclass(frozen=True)
class CovariateShift(Wrapper):
    """The policy is meant for another population than the cohort in the record.

    `sample`, `marginal_policy` and `apparent_value` are of the cohort, everything else (`value`, `q`, `variance`, ...) is of the
    target population. Its start distribution is that of the cohort times exp(strength x), x the variable, normalised.

    Source: Shimodaira, Improving predictive inference under covariate shift by weighting the log-likelihood function, J.
    Statistical Planning and Inference 90:227, 2000.

    Args:
        strength: log density ratio of the two populations a unit of the variable, from -10^6 to 10^6.
        variable: a feature of the state, hidden or not.

    Raises:
        DataError: for a strength out of range or no name; for an unknown variable once it is put around a simulator.

    Example:
        >>> from causalrl.policies import Always
        >>> from simulators import SepsisSimulator
        >>> cohort = SepsisSimulator()  # 19% of its patients are diabetic, 39% of the target population
        >>> target = cohort | CovariateShift(1.0, "diabetes")
        >>> [round(population.value(Always(1), horizon=20), 4) for population in (cohort, target)]
        [-0.9106, -0.9324]
    """

    strength: float
    variable: str

    def __post_init__(self) -> None:
        check_names("variables", (self.variable,))
        object.__setattr__(self, "strength", number("strength", self.strength, -MOST_STRENGTH, MOST_STRENGTH))

    @property
    def neutral(self) -> bool:
        """The same population."""
        return self.strength == 0

    def alter(self, process: Recorded) -> Recorded:
        """The target population moves away from the cohort."""
        score = self.strength * process.base.mdp.full_view.where(self.variable)
        there = process.mdp.initial > 0
        start = np.where(there, process.mdp.initial * np.exp(np.minimum(score - score[there].max(), 0.0)), 0.0)
        return replace(process, population=start / start.sum())
