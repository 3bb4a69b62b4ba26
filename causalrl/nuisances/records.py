"""What cross-fitting hands over: folds, behaviour policies, ratios and values along the logged steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints
from causalrl.data import Steps
from causalrl.diagnostics.calibration import recalibration_slope
from causalrl.diagnostics.record import Note
from causalrl.nuisances.behavior import BehaviorFit, BehaviorModel, CompiledPropensities, LoggedFit, PropensityRefit
from causalrl.nuisances.features import blocks
from causalrl.nuisances.value import Target


@dataclass(frozen=True, eq=False)
class Fold:
    """Which steps a fit serves, and with what weights it was learned.

    Attributes:
        index: number of the fold. count: how many there are. of_step: (M,) fold of each step. weights: (M,).
    """

    index: int
    count: int
    of_step: NDArray[np.unsignedinteger[Any]]
    weights: Floats

    @property
    def test(self) -> Bools:
        """(M,) steps that the fit serves."""
        mask: Bools = self.of_step == self.index
        return mask

    @property
    def train(self) -> Floats:
        """(M,) weights with which it is learned: 0 in the fold itself, unless that is all there is."""
        return self.weights if self.count == 1 else self.weights * ~self.test


class ResampledPropensities:
    """Propensities of the logged actions, learned anew under trajectory weights (b, n); the last weights' are kept.

    The arms of an effect, and every estimate from the same data, refit under the same weights one after the other.
    """

    def __init__(self, refit: PropensityRefit) -> None:
        nothing = np.empty((0, 0))
        self._refit, self._asked, self._answer = refit, (nothing, np.empty((0, 0), np.int64)), nothing

    def __call__(self, weights: Floats, folds: Ints) -> Floats:
        asked = (weights, folds)
        if not all(map(np.array_equal, asked, self._asked)):
            self._answer, self._asked = self._refit(weights, folds), asked
        return self._answer


@dataclass(frozen=True, eq=False)
class FittedBehavior:
    """A behaviour policy on the steps, cross-fitted or not.

    Attributes:
        model: what was fitted. fits: one a fold. folds: the folds.
        logged: (M,) probability of each logged action.
    """

    model: BehaviorModel
    steps: Steps
    folds: list[Fold]
    fits: list[BehaviorFit]
    logged: Floats

    @property
    def notes(self) -> list[Note]:
        return [note for fit in self.fits for note in fit.notes]

    @cached_property
    def policy(self) -> BehaviorFit:
        """The fitted behaviour as one policy."""
        return self.fits[0] if len(self.fits) == 1 else FoldedFit(self)

    @cached_property
    def probabilities(self) -> Floats:
        """(M, n_actions) at the steps, each from the fit of its own fold; refuses a log of the chosen actions alone."""
        return self.policy.probabilities(self.steps.observations, self.steps.time)

    @cached_property
    def refit(self) -> ResampledPropensities | None:
        """`logged` learned anew under resampling weights, in a kernel; None where the model has none."""
        model = self.model
        return ResampledPropensities(model.propensity_refit(self.steps)) if isinstance(model, CompiledPropensities) else None

    @property
    def treated(self) -> Floats:
        """(n,) e = P(1) of single decisions between arms 1 and 0, from the probability of the logged one."""
        return np.where(self.steps.actions == 1, self.logged, 1 - self.logged)

    @property
    def treated_slope(self) -> Floats:
        """(n,) derivative of e in the log importance ratio of the logged arm."""
        return np.where(self.steps.actions == 1, -self.logged, self.logged)

    @cached_property
    def complete(self) -> bool:
        """Whether the probability of every action, not only of the logged one, is there."""
        return all(not isinstance(fit, LoggedFit) or fit.exact for fit in self.fits)

    @cached_property
    def calibration(self) -> float | None:
        """Slope of the recalibration of cross-fitted propensities; None for known ones, and for those of their own data."""
        if self.model.known or len(self.fits) == 1:
            return None
        return recalibration_slope(self.probabilities, self.logged)

    def unsupported_mass(self, target: Target) -> float | None:
        """Share of the target's probability on actions that the behaviour never takes; None where that is not known."""
        if not self.complete:
            return None
        mass = 0.0
        for fold, fit in zip(self.folds, self.fits, strict=True):
            test = fold.test
            for rows in blocks(np.flatnonzero(test)):
                part = np.zeros_like(test)
                part[rows] = True
                mass += float(np.sum(target.at_rows(rows) * (fit.at(self.steps, part) == 0)))
        return mass / len(self.steps)

    def correction(self, sensitivity: Floats) -> Floats | None:
        """(n,) stacked influence of the fit on an estimate whose derivative in the log ratios is `sensitivity` (M,) / n."""
        if not all(fit.corrects for fit in self.fits):
            return None
        by_step = sum(fit.correction(sensitivity, fold.test, fold.train) for fold, fit in zip(self.folds, self.fits, strict=True))
        return np.asarray(np.add.reduceat(by_step, self.steps.first))


class FoldedFit(BehaviorFit):
    """A cross-fitted behaviour as one policy: at a logged step its own fold's fit, elsewhere the mean of the fits."""

    def __init__(self, fitted: FittedBehavior) -> None:
        self._fitted = fitted
        self.stationary = all(fit.stationary for fit in fitted.fits)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        fitted = self._fitted
        if observations is not fitted.steps.observations:
            values: Floats = np.mean([fit.probabilities(observations, time) for fit in fitted.fits], axis=0)
            return values
        rows = np.empty((len(observations), fitted.steps.data.n_actions))
        for fold, fit in zip(fitted.folds, fitted.fits, strict=True):
            rows[fold.test] = fit.at(fitted.steps, fold.test)
        return rows


@dataclass(frozen=True, eq=False)
class Ratios:
    """Importance ratios of a target policy.

    Attributes:
        behavior: the fitted behaviour. target: the bound target. unsupported_mass: see `diagnostics`.
        log_weights: (M,) log importance ratios summed along the trajectory.
        made_of_behavior: the target is defined through the behaviour policy, so that its numerator moves with the fit.
    """

    behavior: FittedBehavior
    target: Target
    log_weights: Floats
    unsupported_mass: float | None
    notes: list[Note]
    made_of_behavior: bool

    @property
    def log_ratios(self) -> Floats:
        """(M,) of each step."""
        return log_ratios(self.target, self.behavior)


def log_ratios(target: Target, behavior: FittedBehavior) -> Floats:
    """(M,) log importance ratio of each logged action; 0 where the target is the behaviour itself."""
    if isinstance(target.policy, BehaviorFit):
        return np.zeros(len(target.steps))
    with np.errstate(divide="ignore"):
        logs: Floats = np.log(target.taken)
        logs -= np.log(behavior.logged)
    return logs


@dataclass(frozen=True, eq=False)
class Values:
    """A fitted Q along the logged steps.

    Attributes:
        q, v: (M,) Q of the logged action and V. v_next: (M,) V after the step, 0 past the end or the horizon.
        folds: how many fits. trace: see `QFunction`; of the first fit. residual: root mean square temporal difference.
    """

    q: Floats
    v: Floats
    v_next: Floats
    notes: list[Note]
    folds: int
    trace: tuple[float, ...]
    residual: float | None

    def differences(self, rewards: Floats, discount: float) -> Floats:
        """(M,) temporal differences r - Q + discount V'."""
        out = rewards - self.q
        out += self.v_next if discount == 1 else discount * self.v_next
        return out

    @property
    def diagnostics(self) -> dict[str, Any]:
        """What is known about the fit of Q, by diagnostic key."""
        return {"bellman_residual": self.residual, "convergence": self.trace or None}


@dataclass(frozen=True, eq=False)
class OutcomeMean:
    """The mean outcome given the covariates, whatever the action, along single decisions.

    Attributes:
        values: (n,). folds: how many fits.
    """

    values: Floats
    notes: list[Note]
    folds: int


@dataclass(frozen=True, eq=False)
class MarginalWeights:
    """Marginal importance weights along the logged steps, cross-fitted or not.

    Attributes:
        m: (M,) see `DensityRatio`. folds: how many fits. lost_mass: see `diagnostics`; the mean over the fits.
    """

    m: Floats
    notes: list[Note]
    folds: int
    lost_mass: Floats | None
