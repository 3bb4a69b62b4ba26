"""Importance sampling: trajectory-wise and per decision, plain and self-normalised."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from typing import ClassVar

from causalrl.checks import Floats, number
from causalrl.errors import EstimandError
from causalrl.estimands import ATE, PolicyValue, PopulationEffect
from causalrl.estimate import Estimate
from causalrl.estimators.base import Estimator, IgnoresPolicy, Score, check_folds, estimate_from_score, weighted_point
from causalrl.estimators.importance import Records, importance_score
from causalrl.estimators.populations import comparison_weights, effect_from_score, tilted_score, tilted_weights
from causalrl.estimators.refits import compiled_refit
from causalrl.inference.functionals import Sum
from causalrl.kernels.ragged import discounted_returns
from causalrl.nuisances.behavior import BehaviorLike
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.records import Ratios


@dataclass(frozen=True)
class ImportanceEstimator(Estimator):
    """Base of the estimators that weight trajectories.

    Args:
        behavior: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster; None is the learner's default.
        truncate: bound c of the cumulative weights, min(w, c) (Ionides 2008): less variance for a bias, another estimand.
    """

    behavior: BehaviorLike | None = None
    folds: int | None = None
    truncate: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_folds(self.folds)
        if self.truncate is not None:
            number("truncate", self.truncate, 1.0, error=EstimandError)

    @abstractmethod
    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        """Moments and functional of a policy value."""

    def policy_value(self, nuisances: Nuisances, goal: PolicyValue) -> Estimate:
        return estimate_from_score(self, nuisances, goal, self.score(nuisances, goal))

    def point(self, nuisances: Nuisances, goal: PolicyValue) -> float:
        return weighted_point(self.score(nuisances, goal), nuisances.weights)

    def _by_trajectory(self, nuisances: Nuisances, goal: PolicyValue, normalized: bool) -> Score:
        ratios = self._ratios(nuisances, goal)
        steps = ratios.target.steps
        returns = discounted_returns(steps.rewards, steps.offsets, goal.discount)
        return self._from_records(nuisances, ratios, Records.by_trajectory(ratios, returns, self.truncate), normalized)

    def _by_decision(self, nuisances: Nuisances, goal: PolicyValue, normalized: bool) -> Score:
        ratios = self._ratios(nuisances, goal)
        steps = ratios.target.steps
        rewards = steps.discounted_rewards(goal.discount)
        return self._from_records(nuisances, ratios, Records.by_decision(ratios, rewards, self.truncate), normalized)

    def _ratios(self, nuisances: Nuisances, goal: PolicyValue) -> Ratios:
        nuisances.steps(goal.horizon).require_complete(str(self))
        return nuisances.ratios(goal.policy, self.behavior, self.folds, goal.horizon)

    def _from_records(self, nuisances: Nuisances, ratios: Ratios, records: Records, normalized: bool) -> Score:
        score = importance_score(ratios, records, normalized=normalized)
        refit = compiled_refit(nuisances, ratios, records, normalized, self.folds)
        return replace(score, refit=refit, weighted_returns=not normalized)


@dataclass(frozen=True)
class WeightingEstimator(ImportanceEstimator):
    """Base of those that weight outcomes and nothing else; between two arms they also answer ATT, ATC, ATO and ATM.

    The arms are then compared under the weights h(e) / P(own arm) (Li, Morgan & Zaslavsky 2018, eq. 3), normalised in each arm,
    or divided by sum h(e) where the estimator does not normalise; `truncate` bounds these weights.

    Args:
        behavior, folds, truncate: see `ImportanceEstimator`.
    """

    normalized: ClassVar[bool]

    def average_effect(self, nuisances: Nuisances, goal: PopulationEffect | ATE) -> Estimate:
        if isinstance(goal, ATE):
            return super().average_effect(nuisances, goal)
        return effect_from_score(self, nuisances, goal, lambda own: self._tilted(own, goal))

    def _tilted(self, nuisances: Nuisances, goal: PopulationEffect) -> Score:
        weights = tilted_weights(nuisances, goal, self.behavior, self.folds, self.truncate)
        return tilted_score(weights, normalized=self.normalized)

    def balancing_weights(self, nuisances: Nuisances, goal: PopulationEffect | ATE) -> Floats | None:
        return comparison_weights(nuisances, goal, self.behavior, self.folds, self.truncate)


@dataclass(frozen=True)
class IS(WeightingEstimator):
    """Trajectory importance sampling, mean of w_i G_i (Precup, Sutton & Singh 2000); Horvitz-Thompson IPW at horizon 1.

    w is the product of the trajectory's importance ratios and G its discounted return. Unbiased where the propensities are
    right; its variance grows exponentially with the horizon.

    Args:
        behavior: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster; None is the learner's default.
        truncate: bound c of the cumulative weights, min(w, c) (Ionides 2008), at least 1; None is none.

    Raises:
        SupportError: from `estimate`, where all weights are zero. TruncationError: where a record stops before the horizon.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, 3.0], [0, 1, 2], behavior_probabilities=[0.5, 0.5])
        >>> crl.IS().estimate(data, crl.Always(1)).value
        3.0
    """

    normalized: ClassVar[bool] = False

    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        return self._by_trajectory(nuisances, goal, self.normalized)


@dataclass(frozen=True)
class WIS(WeightingEstimator):
    """Weighted importance sampling, sum w_i G_i / sum w_i; Hajek IPW at horizon 1.

    The normaliser runs over all trajectories, each with the weight of its last step.

    Args:
        behavior: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster; None is the learner's default.
        truncate: bound c of the cumulative weights, min(w, c) (Ionides 2008), at least 1; None is none.

    Raises:
        SupportError: from `estimate`, where all weights are zero. TruncationError: where a record stops before the horizon.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays(
        ...     [0, 0, 0, 0], [1, 0, 1, 1], [0.0, 1.0, 2.0, 4.0], [0, 1, 2, 4], behavior_probabilities=[0.5] * 4
        ... )
        >>> crl.WIS().estimate(data, crl.Always(1)).value
        4.0
    """

    normalized: ClassVar[bool] = True

    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        return self._by_trajectory(nuisances, goal, self.normalized)


@dataclass(frozen=True)
class PDIS(WeightingEstimator):
    """Per-decision importance sampling, mean of sum_t discount^t w_t r_t (Precup, Sutton & Singh 2000).

    Args:
        behavior: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster; None is the learner's default.
        truncate: bound c of the cumulative weights, min(w, c) (Ionides 2008), at least 1; None is none.

    Raises:
        SupportError: from `estimate`, where all weights are zero. TruncationError: where a record stops before the horizon.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays(
        ...     [0, 0, 0, 0], [1, 0, 1, 1], [0.0, 1.0, 2.0, 4.0], [0, 1, 2, 4], behavior_probabilities=[0.5] * 4
        ... )
        >>> round(crl.PDIS().estimate(data, crl.Always(1)).value, 12)
        6.666666666667
    """

    normalized: ClassVar[bool] = False

    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        return self._by_decision(nuisances, goal, self.normalized)


@dataclass(frozen=True)
class PDWIS(WeightingEstimator):
    """Consistent weighted per-decision importance sampling, sum_t discount^t sum_i w_it r_it / sum_i w_it (CWPDIS; Thomas 2015).

    Every normaliser runs over all trajectories; an ended one keeps its last weight and earns 0.

    Args:
        behavior: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster; None is the learner's default.
        truncate: bound c of the cumulative weights, min(w, c) (Ionides 2008), at least 1; None is none.

    Raises:
        SupportError: from `estimate`, where all weights are zero. TruncationError: where a record stops before the horizon.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays(
        ...     [0, 0, 0, 0], [1, 0, 1, 1], [0.0, 1.0, 2.0, 4.0], [0, 1, 2, 4], behavior_probabilities=[0.5] * 4
        ... )
        >>> round(crl.PDWIS().estimate(data, crl.Always(1)).value, 12)
        3.666666666667
    """

    normalized: ClassVar[bool] = True

    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        return self._by_decision(nuisances, goal, self.normalized)


@dataclass(frozen=True)
class OnPolicyMean(IgnoresPolicy, Estimator):
    """Mean return of the logged trajectories, whatever the target: the baseline that every other estimator must explain.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays(
        ...     [0, 0, 0, 0], [1, 0, 1, 1], [0.0, 1.0, 2.0, 4.0], [0, 1, 2, 4], behavior_probabilities=[0.5] * 4
        ... )
        >>> round(crl.OnPolicyMean().estimate(data, crl.Always(1)).value, 12)
        2.333333333333
    """

    def policy_value(self, nuisances: Nuisances, goal: PolicyValue) -> Estimate:
        return estimate_from_score(self, nuisances, goal, self._score(nuisances, goal))

    def point(self, nuisances: Nuisances, goal: PolicyValue) -> float:
        return weighted_point(self._score(nuisances, goal), nuisances.weights)

    def _score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        steps = nuisances.steps(goal.horizon)
        steps.require_complete(str(self))
        returns = discounted_returns(steps.rewards, steps.offsets, goal.discount)[:, None]
        return Score(Sum(), returns, {"ess": float(steps.data.n)}, weighted_returns=True)
