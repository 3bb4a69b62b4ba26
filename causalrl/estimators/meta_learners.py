"""What the learners of heterogeneous effects share: from nuisances of two arms to an estimate of the effect at points.

The orthogonal ones (R, DR) are one least-squares problem in scores each, so that the interval of a linear effect is a sandwich.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats
from causalrl.diagnostics.record import Note, diagnostics_record
from causalrl.errors import EstimandError
from causalrl.estimands import CATE
from causalrl.estimate import Estimate
from causalrl.estimators.base import EffectEstimator, Refitted, check_folds, goal_label
from causalrl.estimators.second_stage import (
    OnRequest,
    advice_on_intervals,
    check_regressor,
    is_least_squares,
    regress,
    sandwich,
)
from causalrl.estimators.two_arms import pair_of
from causalrl.inference.base import Evidence, Linearised
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.behavior import BehaviorLike
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.records import FittedBehavior


@dataclass(frozen=True, eq=False)
class Learned:
    """What a learner knows at the k points.

    Attributes:
        value: (k,) effects. notes: warnings.
        folds: cross-fitting folds (propensity, outcome).
        linear: makes the influence values, where the effect is a linear regression of orthogonal scores.
    """

    value: Floats
    notes: list[Note]
    folds: tuple[int | None, int]
    linear: Callable[[], Linearised] | None = None


@dataclass(frozen=True, eq=False)
class Scores:
    """A least-squares problem whose solution is the effect.

    Attributes:
        targets: (n,) scores. weights: (n,) of their squared errors, or None for one each.
        behavior, slope: the propensities, and (n,) the derivative in the log importance ratio of each unit of weight (target -
            effect), over the weight, at effect 0; None where no behaviour model was learned. effect_slope: (n,) what it
            gains for each unit of effect.
        notes, folds: see `Learned`.
    """

    targets: Floats
    weights: Floats | None
    behavior: FittedBehavior | None
    slope: Floats | None
    notes: list[Note]
    folds: tuple[int | None, int]
    effect_slope: Floats | float = 0.0

    def correction(self, derivative: Floats, effect: Floats) -> Floats | None:
        """(n,) influence of the propensities' fit on an estimate with n times this derivative in the targets, at the effect."""
        if self.behavior is None or self.slope is None or self.behavior.model.known:
            return None
        return self.behavior.correction(derivative * (self.slope + self.effect_slope * effect))


@dataclass(frozen=True)
class MetaLearner(EffectEstimator):
    """Base of the learners of heterogeneous effects.

    Args:
        outcome: model of the outcome. propensity: model of the treatment.
        effect: an unfitted regressor of the effect.
    """

    outcome: Any
    propensity: BehaviorLike | None = None
    effect: Any = field(kw_only=True)

    def __post_init__(self) -> None:
        check_regressor("effect", self.effect)
        if isinstance(self.propensity, type):
            name = self.propensity.__name__
            raise EstimandError(f"propensity: {name} is a class; pass an object, {name}(...).")

    def conditional_effect(self, nuisances: Nuisances, goal: CATE) -> Estimate:
        own, at = pair_of(nuisances, goal)
        learned = self._learn(own, at)
        refit = Refitted(own, partial(self._effect_at, at=at), learned.value.shape)
        linear = None if learned.linear is None else learned.linear()
        default = None if linear is not None else OnRequest(advice_on_intervals(str(self)))
        evidence = Evidence(learned.value, own.data.clusters, refit=refit, default=default, linear=linear)
        diagnostics = diagnostics_record(learned.notes, folds=learned.folds)
        return Estimate(learned.value, str(self), goal_label(goal), diagnostics, evidence, own.data.fingerprint)

    def _effect_at(self, nuisances: Nuisances, at: NDArray[Any]) -> Floats:
        return self._learn(nuisances, at).value

    @abstractmethod
    def _learn(self, nuisances: Nuisances, at: NDArray[Any]) -> Learned:
        """Learn the effect at points from the nuisances of two arms, coded 1 and 0."""


@dataclass(frozen=True)
class OrthogonalLearner(MetaLearner):
    """Base of those that are one least-squares problem in Neyman-orthogonal scores.

    Args:
        outcome, propensity, effect: see `MetaLearner`.
        folds: cross-fitting folds by cluster of outcome and propensity; None is each learner's default.
    """

    folds: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_folds(self.folds)

    def _learn(self, nuisances: Nuisances, at: NDArray[Any]) -> Learned:
        data, scores = nuisances.data, self.scores(nuisances)
        features, points = data.features(data.observations), data.features(at)
        seed = derive_seed(nuisances.seed, "effect")
        fit, notes = regress(self.effect, features, scores.targets, seed, nuisances.weights, scores.weights)
        value = np.asarray(fit.predict(points), np.float64).reshape(-1)
        linear = None
        if is_least_squares(self.effect):
            effect = np.asarray(fit.predict(features), np.float64).reshape(-1)
            correction = partial(scores.correction, effect=effect)
            linear = partial(sandwich, fit, features, points, scores.targets, scores.weights, correction)
        return Learned(value, [*scores.notes, *notes], scores.folds, linear)

    @abstractmethod
    def scores(self, nuisances: Nuisances) -> Scores:
        """The least-squares problem, from the nuisances of two arms, coded 1 and 0."""
