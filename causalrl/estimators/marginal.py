"""Marginalised estimators: weights that compare where target and behaviour are at each step, not how they came there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from causalrl.data import Trajectories
from causalrl.diagnostics.record import diagnostics_record
from causalrl.estimands import PolicyValue
from causalrl.estimate import Estimate
from causalrl.estimators.base import (
    Estimator,
    Refitted,
    Score,
    check_folds,
    estimate_from_score,
    goal_label,
    in_sample,
    weighted_point,
)
from causalrl.estimators.doubly_robust import DR
from causalrl.estimators.marginal_weights import (
    MarginalWeighting,
    check_ratio_model,
    compiled_value,
    marginal_weighting,
    same_at_all_times,
)
from causalrl.estimators.weighting import PDIS
from causalrl.inference.base import Evidence, Refit
from causalrl.inference.functionals import Sum
from causalrl.inference.wald import RefitWald
from causalrl.nuisances.behavior import BehaviorLike
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.marginal_linear import LinearRatio
from causalrl.nuisances.marginal_tabular import TabularRatio
from causalrl.nuisances.ratio import RatioModel
from causalrl.nuisances.tabular import TabularQ
from causalrl.nuisances.value import ValueModel


def _sequential(nuisances: Nuisances, goal: PolicyValue) -> bool:
    steps = nuisances.steps(goal.horizon)
    return goal.horizon != 1 and bool((steps.continues & steps.known).any())


@dataclass(frozen=True)
class MIS(Estimator):
    """Marginalised importance sampling, mean of sum_t m_t r_t with m_t = discount^t d_t(s_t) / b_t(s_t) rho_t; IS at horizon 1.

    d_t and b_t are the laws of the state at time t under target and behaviour (Xie, Ma & Wang 2019). Its error grows like a power
    of the horizon, that of cumulative weights exponentially; in exchange the observed state must be Markov. Consistent where
    ratio model and propensities are right. The estimate is no smooth function of means: its interval is estimate -/+ z times the
    standard deviation over refits, by default for tabular and linear ratios whose propensities are known or Counts().

    Args:
        ratio: model of the weights; None is TabularRatio(by_time=True) on states, LinearRatio() on vectors. With counted
            propensities, behavior=Counts(by_time=True), the former is the tabular estimator of Yin & Wang (2020).
        behavior: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster; None is one for the ratio (a plug-in), and the learner's default for behaviour.

    Raises:
        SupportError: from `estimate`, where all weights are zero. TruncationError: where a record stops before the horizon;
            without a horizon a ratio that is the same at all times, TabularRatio(), continues it from its final observation.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, 3.0], [0, 1, 2], behavior_probabilities=[0.5, 0.5])
        >>> crl.MIS().estimate(data, crl.Always(1)).value
        3.0
    """

    ratio: RatioModel | None = None
    behavior: BehaviorLike | None = None
    folds: int | None = None

    def __post_init__(self) -> None:
        check_folds(self.folds)

    def policy_value(self, nuisances: Nuisances, goal: PolicyValue) -> Estimate:
        model = self._model(nuisances.data)
        self._check(nuisances, goal, model)
        if model.needs_behavior and not _sequential(nuisances, goal):
            return estimate_from_score(self, nuisances, goal, self._without_states(nuisances, goal))
        weighting = self._weights(nuisances, goal, model)
        steps, notes = weighting.target.steps, weighting.notes()
        totals = np.add.reduceat(weighting.m * steps.rewards, steps.first)
        if weighting.fixed(model):
            score = Score(Sum(), totals[:, None], weighting.diagnostics, notes, not goal.policy.needs_behavior)
            return estimate_from_score(self, nuisances, goal, score)
        value = float(totals.mean())
        refit = compiled_value(weighting, model, goal, nuisances.seed)
        default = None if refit is None else RefitWald(seed=nuisances.seed)
        whole: Refit = refit or Refitted(nuisances, partial(self.point, goal=goal))
        evidence = Evidence(value, nuisances.data.clusters, refit=whole, default=default)
        diagnostics = diagnostics_record(notes, **weighting.diagnostics)
        return Estimate(value, str(self), goal_label(goal), diagnostics, evidence, nuisances.data.fingerprint)

    def point(self, nuisances: Nuisances, goal: PolicyValue) -> float:
        model = self._model(nuisances.data)
        self._check(nuisances, goal, model)
        if model.needs_behavior and not _sequential(nuisances, goal):
            return weighted_point(self._without_states(nuisances, goal), nuisances.weights)
        weighting = self._weights(nuisances, goal, model)
        steps = weighting.target.steps
        totals = np.add.reduceat(weighting.m * steps.rewards, steps.first)
        return float(np.average(totals, weights=nuisances.weights))

    def _model(self, data: Trajectories) -> RatioModel:
        if self.ratio is None:
            return TabularRatio(by_time=True) if data.tabular else LinearRatio()
        check_ratio_model(self.ratio)
        return self.ratio

    def _check(self, nuisances: Nuisances, goal: PolicyValue, model: RatioModel) -> None:
        steps = nuisances.steps(goal.horizon)
        if same_at_all_times(model, goal.horizon):
            steps.require_successors(str(self))
        else:
            steps.require_complete(str(self))

    def _weights(self, nuisances: Nuisances, goal: PolicyValue, model: RatioModel) -> MarginalWeighting:
        return marginal_weighting(nuisances, goal, model, self.behavior, self.folds, 1 if self.folds is None else self.folds)

    def _without_states(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        """Where no decision has a successor, the state ratio is 1."""
        return PDIS(self.behavior, self.folds).score(nuisances, goal)


@dataclass(frozen=True)
class DRL(Estimator):
    """Double reinforcement learning (Kallus & Uehara 2020); AIPW at horizon 1.

    mean of V(s_0) + sum_t m_t (r_t - Q(s_t, a_t) + discount V(s_{t+1})) with the marginal weights m of `MIS`: consistent where
    the weights or the value model are right, and efficient where the observed state is Markov and both converge faster than
    n^(-1/4). With ratio=CumulativeWeights() it is `DR`, which needs no Markov state. A record cut before the horizon is continued
    by the model. The interval takes propensities, ratios and values as given, which costs nothing to first order where all are
    right; where one is wrong and another is learned it may be too short, or too long: use RefitBootstrap(200).

    Args:
        q: value model, cross-fitted by default unless linear.
        ratio: model of the weights; None is TabularRatio(), which pools the times, on states, and LinearRatio() on vectors.
        behavior: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster of all three; None is each learner's default.

    Raises:
        SupportError: from `estimate`, where all weights are zero. TruncationError: where a record stops before the horizon and
            has no final observation.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, 3.0], [0, 1, 2], behavior_probabilities=[0.5, 0.5])
        >>> crl.DRL(q=crl.KnownQ([[1.0, 3.0]])).estimate(data, crl.Always(1)).value
        3.0
    """

    q: ValueModel = field(default_factory=TabularQ)
    ratio: RatioModel | None = None
    behavior: BehaviorLike | None = None
    folds: int | None = None

    def __post_init__(self) -> None:
        check_folds(self.folds)

    def policy_value(self, nuisances: Nuisances, goal: PolicyValue) -> Estimate:
        return estimate_from_score(self, nuisances, goal, self.score(nuisances, goal))

    def point(self, nuisances: Nuisances, goal: PolicyValue) -> float:
        return weighted_point(self.score(nuisances, goal), nuisances.weights)

    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        """Moments and functional of a policy value."""
        model = self._model(nuisances.data)
        steps = nuisances.steps(goal.horizon)
        steps.require_successors(str(self))
        if model.needs_behavior and not _sequential(nuisances, goal):
            return DR(self.behavior, self.folds, q=self.q).score(nuisances, goal)
        weighting = marginal_weighting(nuisances, goal, model, self.behavior, self.folds, self.folds)
        notes = weighting.notes()
        values = nuisances.values(self.q, weighting.target, goal.discount, self.folds)
        terms = values.differences(steps.rewards, goal.discount)
        terms *= weighting.m
        moments = values.v[steps.first] + np.add.reduceat(terms, steps.first)
        folds = {"folds": (weighting.behavior_folds, values.folds)}
        notes += values.notes + in_sample(self.q, values.folds, "serves") + in_sample(model, weighting.weights.folds, "serves")
        fixed = weighting.fixed(model) and self.q.known and not goal.policy.needs_behavior
        return Score(Sum(), moments[:, None], {**weighting.diagnostics, **values.diagnostics, **folds}, notes, fixed)

    def _model(self, data: Trajectories) -> RatioModel:
        if self.ratio is None:
            return TabularRatio() if data.tabular else LinearRatio()
        check_ratio_model(self.ratio)
        return self.ratio
