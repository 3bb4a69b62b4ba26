"""`Estimator`: a frozen record of hyper-parameters that turns logged trajectories into an `Estimate`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import partial
from inspect import isfunction
from typing import Any, Protocol

import numpy as np

from causalrl.checks import Floats
from causalrl.data import End, Trajectories
from causalrl.diagnostics.record import Note, diagnostics_record
from causalrl.errors import CausalRLError, DataError, EstimandError, InSampleWarning, WeightOverflowError
from causalrl.estimands import ATE, CATE, Contrast, Estimand, EstimandLike, PolicyValue, PopulationEffect, as_estimand
from causalrl.estimate import Estimate
from causalrl.estimators.judging import judged_effect, judged_value
from causalrl.inference.algebra import embed
from causalrl.inference.base import Evidence, Refit
from causalrl.inference.functionals import Functional
from causalrl.nuisances.crossfit import Nuisances


@dataclass(frozen=True, eq=False)
class Score:
    """What an estimator of a policy value hands over; the standard error and every interval follow from it.

    Attributes:
        functional, moments: the value as a smooth function of the means of moments (n, p).
        diagnostics: values for the keys of `causalrl.diagnostics.record`.
        notes: warnings.
        fixed: no nuisance was learned from the data.
        refit: re-learns the value in a kernel; None is `Refitted`.
        weighted_returns: every moment is a return, or one times weights, so that a range of the returns bounds it.
    """

    functional: Functional
    moments: Floats
    diagnostics: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    fixed: bool = True
    refit: Refit | None = None
    weighted_returns: bool = False


def label(recipe: Any) -> str:
    """A frozen record as short text: its class, and the fields that differ from their defaults."""
    if isinstance(recipe, np.ndarray):
        return f"array{recipe.shape}"
    if isfunction(recipe):
        return recipe.__name__
    if not is_dataclass(recipe):
        return " ".join(str(recipe).split())
    given = [(item, getattr(recipe, item.name)) for item in fields(recipe) if item.init]
    defaults = {item.name: item.default if item.default_factory is MISSING else item.default_factory() for item, _ in given}
    shown = [f"{item.name}={label(value)}" for item, value in given if not _same(value, defaults[item.name])]
    return f"{type(recipe).__name__}({', '.join(shown)})" if shown else type(recipe).__name__


def _same(a: Any, b: Any) -> bool:
    return a is b or (not isinstance(a, np.ndarray) and bool(a == b))


class Estimator(ABC):
    """Base of all estimators: immutable; `fit` never changes it."""

    def fit(self, data: Trajectories, seed: int = 0) -> FittedEstimator:
        """Bind to data: folds and nuisances are made once, on first use, and serve every estimand asked.

        Args:
            data: the trajectories.
            seed: root of every random number (folds, learners).
        """
        return FittedEstimator(self, Nuisances(data, seed))

    def estimate(self, data: Trajectories, goal: EstimandLike, seed: int = 0) -> Estimate:
        """Estimate one estimand; a bare policy means its value over the whole record, undiscounted."""
        return self.fit(data, seed).estimate(goal)

    @abstractmethod
    def policy_value(self, nuisances: Nuisances, goal: PolicyValue) -> Estimate:
        """Estimate a policy value with shared nuisances."""

    @abstractmethod
    def point(self, nuisances: Nuisances, goal: PolicyValue) -> float:
        """The value alone, under the resampling weights of the nuisances."""

    def average_effect(self, nuisances: Nuisances, goal: PopulationEffect | ATE) -> Estimate:
        """Estimate the average effect in a population, where the estimator can.

        Args:
            nuisances: of single decisions; for a `PopulationEffect` between two arms, coded 1 (treated) and 0.
        """
        raise EstimandError(f"{self}: gives no {goal}. Use AIPW(...) or IPW().")

    def balancing_weights(self, nuisances: Nuisances, goal: PopulationEffect | ATE) -> Floats | None:
        """(n,) weights with which the arms of an effect are compared (see `average_effect`); None where there are none."""
        return None

    def conditional_effect(self, nuisances: Nuisances, goal: CATE) -> Estimate:
        """Estimate a conditional effect, where the estimator has one."""
        raise EstimandError(f"{self}: gives no CATE. Use SLearner(regressor) or TLearner(regressor).")

    def __str__(self) -> str:
        return label(self)


class EffectEstimator(Estimator):
    """Base of the estimators of effects that come from no policy values."""

    def policy_value(self, nuisances: Nuisances, goal: PolicyValue) -> Estimate:
        raise EstimandError(f"{self}: estimates effects, and no value of a policy. Use AIPW(...) or GFormula(...).")

    def point(self, nuisances: Nuisances, goal: PolicyValue) -> float:
        raise EstimandError(f"{self}: estimates effects, and no value of a policy. Use AIPW(...) or GFormula(...).")


class IgnoresPolicy:
    """Marks an estimator whose value does not depend on the target, so that it has no contrasts."""


@dataclass(frozen=True, eq=False)
class FittedEstimator:
    """An estimator bound to data.

    Attributes:
        estimator: the recipe. nuisances: what it shares between estimands (and, in `evaluate`, with other estimators).
    """

    estimator: Estimator
    nuisances: Nuisances

    def estimate(self, goal: EstimandLike) -> Estimate:
        """Estimate one estimand."""
        estimand = as_estimand(goal)
        if isinstance(estimand, CATE):
            return self._of_all(self._conditional(estimand), estimand)
        if isinstance(estimand, PolicyValue):
            return self._value(estimand)
        if isinstance(self.estimator, IgnoresPolicy):
            raise EstimandError(f"{self.estimator}: gives every policy the same value; its contrasts are 0.")
        if isinstance(estimand, Contrast):
            return self._value(estimand.policy) - self._value(estimand.reference)
        require_arms(self.nuisances.data, estimand.treated, estimand.control)
        return self._effect(estimand)

    def _effect(self, goal: ATE | PopulationEffect) -> Estimate:
        """An average effect, with the balance of the covariates that its weights leave."""
        if isinstance(goal, ATE) and not isinstance(self.estimator, EffectEstimator):
            contrast, own = goal.contrast(), self.nuisances
            estimate = self._value(contrast.policy) - self._value(contrast.reference)
            return judged_effect(estimate, own, goal.treated, goal.control, self.estimator.balancing_weights(own, goal))
        require_single_stage(self.nuisances.data, goal)
        if isinstance(goal, ATE):
            own, treated, control = self.nuisances, goal.treated, goal.control
        else:
            own, treated, control = self.nuisances.pair(goal.treated, goal.control), 1, 0
        estimate, weights = self.estimator.average_effect(own, goal), self.estimator.balancing_weights(own, goal)
        return self._of_all(judged_effect(estimate, own, treated, control, weights), goal)

    def _conditional(self, goal: CATE) -> Estimate:
        """A conditional effect, with the balance of the covariates before any weighting."""
        estimate = self.estimator.conditional_effect(self.nuisances, goal)
        return judged_effect(estimate, self.nuisances, goal.treated, goal.control, None)

    def _of_all(self, estimate: Estimate, goal: CATE | ATE | PopulationEffect) -> Estimate:
        """An estimate from the two arms of an effect as one from all data, so that it combines with others from these."""
        data = self.nuisances.data
        if estimate.fingerprint == data.fingerprint:
            return estimate
        rows = np.flatnonzero(np.isin(data.actions, (goal.treated, goal.control)))
        if len(rows) == data.n:
            return replace(estimate, fingerprint=data.fingerprint)
        evidence = embed(estimate.evidence, rows, data.clusters)
        return replace(estimate, evidence=evidence, fingerprint=data.fingerprint, fixed_nuisances=False)

    def _value(self, goal: PolicyValue) -> Estimate:
        estimate = self.estimator.policy_value(self.nuisances, goal)
        if not np.isfinite(estimate.value):
            raise EstimandError(
                f"q: the value of {self.estimator} is {estimate.value}: what it learned grows from step to step beyond the "
                "largest float. Shorten the horizon, or use a model that averages outcomes (TabularQ, trees)."
            )
        return judged_value(estimate, self.estimator, self.nuisances, goal, isinstance(self.estimator, IgnoresPolicy))


def check_folds(folds: Any) -> None:
    """Refuse what is no number of folds; whether there are as many clusters is seen later."""
    if folds is not None and (isinstance(folds, bool) or not isinstance(folds, int | np.integer) or folds < 1):
        raise DataError(f"folds: {folds!r}; pass a whole number from 1 to the number of clusters, or None.")


def require_arms(data: Trajectories, *arms: int) -> None:
    """Refuse an effect of an arm that nobody took."""
    taken = np.unique(data.actions)
    for arm in arms:
        if arm not in taken:
            raise EstimandError(
                f"actions: arm {arm} never occurs, so that its outcome is unknown; the data have arms {taken.tolist()}. Ask an "
                "effect of two of these, such as ATE(treated=2, control=1), or number the arms from 0."
            )


def require_single_stage(data: Trajectories, goal: Any) -> None:
    """Refuse an effect of one decision on sequences of them."""
    if (data.lengths > 1).any() or (data.end != End.TERMINATED).any():
        raise EstimandError(
            f"{goal}: the data are sequential, and this asks about one decision. Ask a Contrast of two policies, with DR or "
            "FQE, instead."
        )
    if data.n_actions == 0:
        raise EstimandError(f"{goal}: the actions are continuous, and this effect compares two arms. Use MSM(...).")


@dataclass(frozen=True, eq=False)
class Refitted:
    """Re-learns every nuisance and a value (of the given shape) under resampling counts (b, G) of the clusters.

    A resample without a value gives NaN, which the interval counts and refuses.
    """

    nuisances: Nuisances
    compute: Callable[[Nuisances], float | Floats]
    shape: tuple[int, ...] = ()

    def __call__(self, counts: Floats) -> Floats:
        return np.stack([self._value(row) for row in counts])

    def _value(self, counts: Floats) -> Floats:
        data = self.nuisances.data
        try:
            return np.asarray(self.compute(Nuisances.resampled(data, self.nuisances.seed, counts[data.clusters])))
        except CausalRLError:
            return np.full(self.shape, np.nan)


def estimate_from_score(estimator: Estimator, nuisances: Nuisances, goal: PolicyValue, score: Score) -> Estimate:
    """The estimate that follows from a score."""
    value = float(score.functional.value(score.moments.mean(axis=0)))
    if not np.isfinite(value):
        raise WeightOverflowError(
            f"weights: {estimator} is {value}, beyond the largest float. Use a self-normalised one (WIS, WDR)."
        )
    refit = score.refit or Refitted(nuisances, partial(estimator.point, goal=goal))
    smooth = score.functional, score.moments
    evidence = Evidence(value, nuisances.data.clusters, *smooth, refit, weighted_returns=score.weighted_returns)
    diagnostics = diagnostics_record(score.notes, **score.diagnostics)
    return Estimate(value, str(estimator), goal_label(goal), diagnostics, evidence, nuisances.data.fingerprint, score.fixed)


class CrossFits(Protocol):
    """A learner that says in how many folds it is fitted when none are asked for."""

    @property
    def default_folds(self) -> int: ...


def in_sample(learner: CrossFits, folds: int, does: str) -> list[Note]:
    """A warning where a learner that is cross-fitted by default was not; `does` is what it does with the trajectories."""
    if folds > 1 or learner.default_folds == 1:
        return []
    return [Note(InSampleWarning, f"{label(learner)} {does} the trajectories it learned from; use folds=5.")]


def weighted_point(score: Score, weights: Floats | None) -> float:
    """The value of a score under trajectory weights (n,)."""
    return float(score.functional.value(np.average(score.moments, axis=0, weights=weights)))


def goal_label(goal: Estimand) -> str:
    """Short text of an estimand."""
    if not isinstance(goal, PolicyValue):
        return repr(goal)
    extra = "" if goal.discount == 1.0 else f", discount {goal.discount}"
    return f"value of {goal.policy}{extra}" + ("" if goal.horizon is None else f", {goal.horizon} steps")
