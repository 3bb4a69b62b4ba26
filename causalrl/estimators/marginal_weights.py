"""Marginal weights as estimators use them: checked, described, and refitted in kernels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from causalrl.checks import Floats
from causalrl.diagnostics.record import Note, share
from causalrl.diagnostics.weights import NOTABLE_MASS, largest_share, overlap_notes
from causalrl.errors import EstimandError, OverlapWarning, SupportError, SupportWarning, WeightOverflowError
from causalrl.estimands import PolicyValue
from causalrl.estimators.base import in_sample
from causalrl.estimators.refits import in_blocks
from causalrl.kernels.refit_marginal import unsupported_time
from causalrl.nuisances.behavior import BehaviorLike, CompiledPropensities, PropensityRefit
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.ratio import MarginalRefit, RatioModel, RatioProblem, RefitsValue
from causalrl.nuisances.records import MarginalWeights, Ratios
from causalrl.nuisances.value import Target


@dataclass(frozen=True, eq=False)
class MarginalWeighting:
    """The weights of one estimate and what they rest on; `ratios` is None where the model needs no behaviour policy.

    Attributes:
        unsupported: time from which the weights say nothing, -1 where there is none; see `unsupported_time`.
    """

    target: Target
    ratios: Ratios | None
    weights: MarginalWeights
    unsupported: int

    @property
    def m(self) -> Floats:
        return self.weights.m

    def fixed(self, model: RatioModel) -> bool:
        return model.known and (self.ratios is None or self.ratios.behavior.model.known)

    @property
    def behavior_folds(self) -> int | None:
        return None if self.ratios is None else len(self.ratios.behavior.folds)

    @cached_property
    def diagnostics(self) -> dict[str, Any]:
        """Kish's figure is taken over steps, and put in units of trajectories."""
        steps, m = self.target.steps, self.m / np.abs(self.m).max()
        of_trajectory = np.abs(np.add.reduceat(m, steps.first))
        return {
            "ess": steps.data.n * float(m.sum() ** 2 / np.sum(m**2)) / len(m),
            "max_weight": float(self.m.max()),
            "largest_share": largest_share(of_trajectory),
            "lost_mass": self.weights.lost_mass,
            "unsupported_mass": None if self.ratios is None else self.ratios.unsupported_mass,
            "behavior": None if self.ratios is None else str(self.ratios.behavior.model),
            "folds": (self.behavior_folds, None),
        }

    def notes(self) -> list[Note]:
        values, lost = self.diagnostics, self.weights.lost_mass
        notes = []
        if self.ratios is not None:
            behavior = self.ratios.behavior
            notes = [*self.ratios.notes, *in_sample(behavior.model, len(behavior.folds), "serves")]
        notes += self.weights.notes + overlap_notes(self.target.steps.data.n, values["ess"], values["largest_share"], None)
        if lost is not None and lost.max() > NOTABLE_MASS and not self.weights.notes:
            text = (
                f"up to {share(float(lost.max()))} of the target's probability at a time lies in states whose ratio the data it "
                "is learned from do not tell; their weight counts as 0. Pool the times, or use coarser states or fewer folds."
            )
            notes.append(Note(SupportWarning, text))
        if self.unsupported >= 0:
            when = f"no trajectory under way at t = {self.unsupported} agrees with the target"
            text = f"{when}; the estimate says nothing of what comes after."
            notes.append(Note(OverlapWarning, text))
        return notes


def same_at_all_times(model: RatioModel, horizon: int | None) -> bool:
    """Whether m is a function of state and action alone, so that a record which stops early is not lost to it."""
    return horizon is None and not getattr(model, "by_time", False)


def check_ratio_model(model: Any) -> None:
    if isinstance(model, type):
        raise EstimandError(f"ratio: {model.__name__} is a class; pass an object, {model.__name__}(...).")
    if not hasattr(model, "needs_behavior"):
        raise EstimandError(f"ratio: {model!r} is no ratio model; pass TabularRatio(), LinearRatio() or KnownRatio(...).")


def marginal_weighting(
    nuisances: Nuisances, goal: PolicyValue, model: RatioModel, behavior: BehaviorLike | None, folds: int | None, fits: int | None
) -> MarginalWeighting:
    """Weights of the goal's target; `fits` are the folds of the ratio model."""
    if model.needs_behavior:
        ratios: Ratios | None = nuisances.ratios(goal.policy, behavior, folds, goal.horizon)
        assert ratios is not None
        target = ratios.target
    else:
        ratios, target = None, nuisances.target(goal.policy, behavior, folds, goal.horizon)
    weights = nuisances.marginal(model, target, ratios, goal.discount, fits)
    if not np.isfinite(weights.m).all():
        raise WeightOverflowError("weights: a marginal weight is beyond the largest float. Use WIS or WDR.")
    steps, by_time = target.steps, not same_at_all_times(model, goal.horizon)
    left, speaks = unsupported_time(weights.m, np.ones(len(steps)), steps.time, by_time, goal.discount)
    if not speaks:
        when, mend = (f" at t = {left}", "Shorten the horizon, soften") if by_time else ("", "Soften")
        raise SupportError(
            f"weights: all weights are zero{when} under target {goal.policy}: no logged decision agrees with it there. "
            f"{mend} the target (a new estimand), or use FQE and say that it extrapolates."
        )
    return MarginalWeighting(target, ratios, weights, left)


def compiled_value(weighting: MarginalWeighting, model: RatioModel, goal: PolicyValue, seed: int) -> CompiledValue | None:
    """The refit of a plug-in value where propensities and weights have one, else None."""
    ratios = weighting.ratios
    if not isinstance(model, RefitsValue) or weighting.weights.folds > 1 or ratios is None:
        return None
    behavior, counted = ratios.behavior.model, None
    if not behavior.known:
        if not isinstance(behavior, CompiledPropensities) or len(ratios.behavior.folds) > 1 or ratios.made_of_behavior:
            return None
        counted = behavior
    steps = weighting.target.steps
    whole = np.ones(len(steps))
    problem = RatioProblem(weighting.target, ratios.log_ratios, whole, goal.discount, goal.horizon, seed, ratios.behavior.logged)
    return CompiledValue(model, problem, counted)


@dataclass(frozen=True, eq=False)
class CompiledValue:
    """Re-learns counted propensities and marginal weights under resampling counts (b, G) of the clusters.

    Attributes:
        behavior: what counts the propensities; None where they are known.
    """

    model: RefitsValue
    problem: RatioProblem
    behavior: CompiledPropensities | None

    @cached_property
    def _refit(self) -> MarginalRefit:
        return self.model.value_refit(self.problem)

    @cached_property
    def _propensities(self) -> PropensityRefit | None:
        return None if self.behavior is None else self.behavior.propensity_refit(self.problem.steps)

    def __call__(self, counts: Floats) -> Floats:
        return in_blocks(self._block, counts, len(self.problem.steps))

    def _block(self, counts: Floats) -> Floats:
        weights = np.ascontiguousarray(counts[:, self.problem.steps.data.clusters])
        if self._propensities is None:
            return self._refit(weights, self.problem.known_propensities[None])
        return self._refit(weights, self._propensities(weights, np.zeros(weights.shape, np.int64)))
