"""Marginalised estimators: weights that compare where target and behaviour are at each step, not how they came there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from causalrl.checks import Floats
from causalrl.data import Steps, Trajectories
from causalrl.diagnostics.record import Note, diagnostics_record, share
from causalrl.diagnostics.weights import largest_share, overlap_notes
from causalrl.errors import EstimandError, InSampleWarning, OverlapWarning, SupportError, SupportWarning, WeightOverflowError
from causalrl.estimands import PolicyValue
from causalrl.estimate import Estimate
from causalrl.estimators.base import Estimator, Refitted, Score, estimate_from_score, goal_label, label, weighted_point
from causalrl.estimators.direct import NOTABLE_MASS
from causalrl.estimators.doubly_robust import DR
from causalrl.estimators.weighting import PDIS
from causalrl.inference.base import Evidence, Refit
from causalrl.inference.functionals import Sum
from causalrl.inference.wald import RefitWald
from causalrl.nuisances.behavior import BehaviorLike, CompiledPropensities, PropensityRefit
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.marginal_linear import LinearRatio
from causalrl.nuisances.marginal_tabular import TabularRatio
from causalrl.nuisances.ratio import MarginalRefit, RatioModel, RatioProblem, RefitsValue
from causalrl.nuisances.records import MarginalWeights, Ratios
from causalrl.nuisances.tabular import TabularQ
from causalrl.nuisances.value import Target, ValueModel


@dataclass(frozen=True, eq=False)
class _Weighting:
    """The weights of one estimate and what they rest on; `ratios` is None where the model needs no behaviour policy."""

    target: Target
    ratios: Ratios | None
    weights: MarginalWeights

    @property
    def m(self) -> Floats:
        return self.weights.m

    def fixed(self, model: RatioModel) -> bool:
        return model.known and (self.ratios is None or self.ratios.behavior.model.known)

    @property
    def behavior_folds(self) -> int | None:
        return None if self.ratios is None else len(self.ratios.behavior.folds)

    @property
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

    def notes(self, discount: float) -> list[Note]:
        values, lost = self.diagnostics, self.weights.lost_mass
        notes = [] if self.ratios is None else list(self.ratios.notes)
        notes += self.weights.notes + overlap_notes(self.target.steps.data.n, values["ess"], values["largest_share"], None)
        if lost is not None and lost.max() > NOTABLE_MASS and not self.weights.notes:
            text = (
                f"up to {share(float(lost.max()))} of the target's probability at a time lies in states whose ratio the training "
                "folds do not tell; their weight counts as 0. Pool the times, or use coarser states or fewer folds."
            )
            notes.append(Note(SupportWarning, text))
        left = _left_behind(self.target.steps, self.m, discount)
        if left is not None:
            text = f"no trajectory under way at t = {left} agrees with the target; the estimate says nothing of what comes after."
            notes.append(Note(OverlapWarning, text))
        return notes


def _left_behind(steps: Steps, m: Floats, discount: float) -> int | None:
    """The first time with discount^t > 0 at which weighted trajectories arrive and no step has weight."""
    arrives = np.flatnonzero(m[:-1] * (np.diff(steps.trajectory) == 0)) + 1
    left = np.setdiff1d(steps.time[arrives], steps.time[m != 0])
    return int(left[0]) if len(left) and discount ** int(left[0]) > 0 else None


def _check_model(model: Any) -> None:
    if isinstance(model, type):
        raise EstimandError(f"ratio: {model.__name__} is a class; pass an object, {model.__name__}(...).")
    if not hasattr(model, "needs_behavior"):
        raise EstimandError(f"ratio: {model!r} is no ratio model; pass TabularRatio(), LinearRatio() or KnownRatio(...).")


def _weighting(
    nuisances: Nuisances, goal: PolicyValue, model: RatioModel, behavior: BehaviorLike | None, folds: int | None, fits: int | None
) -> _Weighting:
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
    if not weights.m.any():
        raise SupportError(
            f"weights: all weights are zero under target {goal.policy}: no logged first decision agrees with it. Soften the "
            "target (a new estimand), or use FQE and say that it extrapolates."
        )
    return _Weighting(target, ratios, weights)


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

    def policy_value(self, nuisances: Nuisances, goal: PolicyValue) -> Estimate:
        model = self._model(nuisances.data)
        self._check(nuisances, goal, model)
        if model.needs_behavior and not _sequential(nuisances, goal):
            return estimate_from_score(self, nuisances, goal, self._without_states(nuisances, goal))
        weighting = self._weights(nuisances, goal, model)
        steps, notes = weighting.target.steps, weighting.notes(goal.discount)
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
        _check_model(self.ratio)
        return self.ratio

    def _check(self, nuisances: Nuisances, goal: PolicyValue, model: RatioModel) -> None:
        steps = nuisances.steps(goal.horizon)
        if goal.horizon is None and not getattr(model, "by_time", False):
            steps.require_successors(str(self))
        else:
            steps.require_complete(str(self))

    def _weights(self, nuisances: Nuisances, goal: PolicyValue, model: RatioModel) -> _Weighting:
        return _weighting(nuisances, goal, model, self.behavior, self.folds, 1 if self.folds is None else self.folds)

    def _without_states(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        """Where no decision has a successor, the state ratio is 1."""
        return PDIS(self.behavior, self.folds).score(nuisances, goal)


@dataclass(frozen=True)
class DRL(Estimator):
    """Double reinforcement learning (Kallus & Uehara 2020); AIPW at horizon 1.

    mean of V(s_0) + sum_t m_t (r_t - Q(s_t, a_t) + discount V(s_{t+1})) with the marginal weights m of `MIS`: consistent where
    the weights or the value model are right, and efficient where the observed state is Markov and both converge faster than
    n^(-1/4). With ratio=CumulativeWeights() it is `DR`, which needs no Markov state. A record cut before the horizon is continued
    by the model.

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
        weighting = _weighting(nuisances, goal, model, self.behavior, self.folds, self.folds)
        values = nuisances.values(self.q, weighting.target, goal.discount, self.folds)
        differences = steps.rewards - values.q + goal.discount * values.v_next
        moments = values.v[steps.first] + np.add.reduceat(weighting.m * differences, steps.first)
        folds = {"folds": (weighting.behavior_folds, values.folds)}
        notes = weighting.notes(goal.discount) + values.notes
        for learner, used in ((self.q, values.folds), (model, weighting.weights.folds)):
            if used == 1 and learner.default_folds > 1:
                notes.append(Note(InSampleWarning, f"{label(learner)} serves the trajectories it learned from; use folds=5."))
        fixed = weighting.fixed(model) and self.q.known and not goal.policy.needs_behavior
        return Score(Sum(), moments[:, None], {**weighting.diagnostics, **values.diagnostics, **folds}, notes, fixed)

    def _model(self, data: Trajectories) -> RatioModel:
        if self.ratio is None:
            return TabularRatio() if data.tabular else LinearRatio()
        _check_model(self.ratio)
        return self.ratio


def compiled_value(weighting: _Weighting, model: RatioModel, goal: PolicyValue, seed: int) -> CompiledValue | None:
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
        weights = np.ascontiguousarray(counts[:, self.problem.steps.data.clusters])
        if self._propensities is None:
            return self._refit(weights, self.problem.known_propensities[None])
        return self._refit(weights, self._propensities(weights, np.zeros(weights.shape, np.int64)))
