"""Doubly robust estimators: a value model corrected by weighted temporal differences."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from causalrl.checks import Floats
from causalrl.derived_policies import TiltedPropensity
from causalrl.errors import EstimatedBehaviorWarning
from causalrl.estimands import ATE, PolicyValue, PopulationEffect
from causalrl.estimate import Estimate
from causalrl.estimators.augmented import IncrementalTerm, arm_values, augmented_score, incremental_score
from causalrl.estimators.base import Score, in_sample
from causalrl.estimators.importance import Records, importance_score
from causalrl.estimators.populations import comparison_weights, effect_from_score
from causalrl.estimators.refits import compiled_refit
from causalrl.estimators.repeats import check_repeats, repeated
from causalrl.estimators.weighting import ImportanceEstimator
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.records import Ratios
from causalrl.nuisances.tabular import TabularQ
from causalrl.nuisances.value import ValueModel


@dataclass(frozen=True)
class DoublyRobustEstimator(ImportanceEstimator):
    """Base of the doubly robust estimators.

    Args:
        behavior, folds, truncate: see `ImportanceEstimator`; folds are those of behaviour and value model alike.
        q: value model.
    """

    q: ValueModel = field(default_factory=TabularQ, kw_only=True)

    def _score(self, nuisances: Nuisances, goal: PolicyValue, normalized: bool) -> Score:
        steps = nuisances.steps(goal.horizon)
        steps.require_successors(str(self))
        ratios = nuisances.ratios(goal.policy, self.behavior, self.folds, goal.horizon)
        values = nuisances.values(self.q, ratios.target, goal.discount, self.folds)
        start, differences = values.v[steps.first], values.differences(steps.rewards, goal.discount)
        fitted, folds, notes = values.diagnostics, values.folds, values.notes
        del values  # before the moments are made
        if goal.discount != 1:
            differences *= goal.discount**steps.time
        records = Records.by_decision(ratios, differences, self.truncate)
        score = importance_score(ratios, records, normalized=normalized, start=start, orthogonal=True)
        refit = compiled_refit(nuisances, ratios, records, normalized, self.folds, start, self.q, goal.discount)
        diagnostics: dict[str, Any] = {
            **score.diagnostics,
            **fitted,
            "folds": (len(ratios.behavior.folds), folds),
        }
        notes = score.notes + notes + in_sample(self.q, folds, "corrects")
        score = Score(score.functional, score.moments, diagnostics, notes, score.fixed and self.q.known, refit)
        return self._with_tilt(nuisances, goal, ratios, records, score, normalized)

    def _with_tilt(
        self, nuisances: Nuisances, goal: PolicyValue, ratios: Ratios, records: Records, score: Score, normalized: bool
    ) -> Score:
        """The score with the term through the learned propensities, where the policy is a tilt of them at one decision."""
        fitted, steps = ratios.behavior, ratios.target.steps
        one_decision = len(steps) == steps.data.n and not ratios.target.there.any()
        if not isinstance(goal.policy, TiltedPropensity) or fitted.model.known or not one_decision:
            return score
        control, treated = arm_values(nuisances, self.q, steps, fitted.probabilities > 0, self.folds)
        weights = np.exp(records.log_weights), np.exp(records.log_slopes)
        term = IncrementalTerm(goal.policy, fitted, treated.v - control.v, *weights, records.terms)
        notes = [note for note in score.notes if note.category is not EstimatedBehaviorWarning]
        return incremental_score(term, replace(score, notes=notes), normalized)


@dataclass(frozen=True)
class RepeatedEstimator(DoublyRobustEstimator):
    """Base of those that can repeat their cross-fitting over random splits.

    Args:
        behavior, folds, q: see `DoublyRobustEstimator`.
        repeats: odd number of splits, whose median is taken.
    """

    repeats: int = field(default=1, kw_only=True)

    normalized: ClassVar[bool]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_repeats(self.repeats)

    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        return repeated(nuisances, partial(self.single, goal=goal), self.repeats)

    def single(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        """The score of one split."""
        return self._score(nuisances, goal, self.normalized)

    def average_effect(self, nuisances: Nuisances, goal: PopulationEffect | ATE) -> Estimate:
        if isinstance(goal, ATE):  # a contrast of two values
            return super().average_effect(nuisances, goal)
        return effect_from_score(self, nuisances, goal, partial(self._effect_score, goal=goal))

    def _effect_score(self, nuisances: Nuisances, goal: PopulationEffect) -> Score:
        return repeated(nuisances, partial(self._single_effect, goal=goal), self.repeats)

    def _single_effect(self, nuisances: Nuisances, goal: PopulationEffect) -> Score:
        """The score of one split."""
        return augmented_score(nuisances, goal, self.q, self.behavior, self.folds, self.truncate, self.normalized)

    def balancing_weights(self, nuisances: Nuisances, goal: PopulationEffect | ATE) -> Floats:
        return comparison_weights(nuisances, goal, self.behavior, self.folds, self.truncate)


@dataclass(frozen=True)
class DR(RepeatedEstimator):
    """Sequential doubly robust estimator (Jiang & Li 2016, eq. 10); AIPW at horizon 1.

    mean of V(s_0) + sum_t discount^t w_t (r_t - Q(s_t, a_t) + discount V(s_{t+1})): consistent where the propensities or the
    value model are right. The interval needs right propensities: it takes the value model as given, which costs nothing to
    first order where they are, and is too short where they are wrong and the model is learned. A record cut before the horizon
    is continued by the model alone, whatever the propensities.

    Of one decision it also gives the effects in tilted populations (`ATT`, `ATC`, `ATO`, `ATM`) by their efficient influence
    functions; those of `ATT` and `ATC` stay consistent where one nuisance is right, those of `ATO` and `ATM`, whose population
    is defined by e, where e is. The value of a `TiltedPropensity` at one decision carries the term through the learned e.

    Args:
        q: value model, cross-fitted by default unless linear.
        behavior: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster of both; None is each learner's default.
        truncate: bound c of the cumulative weights, min(w, c) (Ionides 2008), at least 1; None is none.
        repeats: odd number of random splits, whose median is taken (Chernozhukov et al. 2018, section 3.4); the interval then
            carries the noise of the splits.

    Raises:
        SupportError: from `estimate`, where all weights are zero at some t. TruncationError: where a record stops before the
            horizon and has no final observation.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, 3.0], [0, 1, 2], behavior_probabilities=[0.5, 0.5])
        >>> crl.DR(q=crl.KnownQ([[1.0, 3.0]])).estimate(data, crl.Always(1)).value
        3.0
    """

    normalized: ClassVar[bool] = False


@dataclass(frozen=True)
class WDR(RepeatedEstimator):
    """Weighted doubly robust estimator (Thomas & Brunskill 2016): DR with w_t / sum_j w_jt in place of w_t / n.

    The normalisers run over all trajectories; an ended one keeps its last weight. In a tilted population (`ATT`, `ATO`) the
    residuals of each arm are weighted by w / sum w, w = min(h(e) / P(own arm), truncate).

    Args:
        q: value model, cross-fitted by default unless linear.
        behavior: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster of both; None is each learner's default.
        truncate: bound c of the cumulative weights, min(w, c) (Ionides 2008), at least 1; None is none.
        repeats: odd number of random splits, whose median is taken (Chernozhukov et al. 2018, section 3.4); the interval then
            carries the noise of the splits.

    Raises:
        SupportError: from `estimate`, where all weights are zero at some t. TruncationError: where a record stops before the
            horizon and has no final observation.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, 3.0], [0, 1, 2], behavior_probabilities=[0.5, 0.5])
        >>> crl.WDR(q=crl.KnownQ([[1.0, 3.0]])).estimate(data, crl.Uniform(2)).value
        2.0
    """

    normalized: ClassVar[bool] = True
