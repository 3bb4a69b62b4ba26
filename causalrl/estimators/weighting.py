"""Importance sampling: trajectory-wise and per decision, plain and self-normalised.

All four are one score. A trajectory-wise estimator is the per-decision one on records of length one that carry the last
cumulative weight and the return.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.diagnostics.record import Note
from causalrl.diagnostics.weights import largest_share, overlap_notes, tail_index
from causalrl.errors import EstimatedBehaviorWarning, InSampleWarning, OverlapWarning, SupportError, WeightOverflowError
from causalrl.estimands import PolicyValue
from causalrl.estimate import Estimate
from causalrl.estimators.base import Estimator, IgnoresPolicy, Score, estimate_from_score, weighted_point
from causalrl.inference.functionals import ADD, Combined, Functional, RatioSum, Sum
from causalrl.kernels.ragged import (
    discounted_returns,
    doubly_robust_backward,
    kish_by_time,
    largest_log_weights,
    last_agreement,
    per_decision_moments,
    per_decision_sensitivity,
)
from causalrl.nuisances.behavior import BehaviorLike
from causalrl.nuisances.crossfit import Nuisances, Ratios

_LARGEST_LOG = float(np.log(np.finfo(np.float64).max))


@dataclass(frozen=True, eq=False)
class Records:
    """Weighted terms along ragged records.

    Attributes:
        log_weights, terms: (K,) log of w and what it multiplies, discount included.
        offsets: (n + 1,) record boundaries.
        to_steps: (M,) record entry whose weight a step's ratio enters first.
    """

    log_weights: Floats
    terms: Floats
    offsets: Ints
    to_steps: Ints | slice

    @classmethod
    def by_decision(cls, ratios: Ratios, terms: Floats) -> Records:
        """Every step carries its own cumulative weight."""
        return cls(ratios.log_weights, terms, ratios.target.steps.offsets, slice(None))

    @classmethod
    def by_trajectory(cls, ratios: Ratios, returns: Floats) -> Records:
        """Every trajectory carries the weight of its last step."""
        steps = ratios.target.steps
        return cls(ratios.log_weights[steps.last], returns, np.arange(steps.data.n + 1), steps.trajectory)


def importance_score(
    ratios: Ratios, records: Records, *, normalized: bool, start: Floats | None = None, orthogonal: bool = False
) -> Score:
    """Score of sum_t w_t y_t, each w_t divided by its mean where `normalized`, plus a start value (n,).

    Args:
        orthogonal: to first order the score does not depend on the behaviour policy, so that one without a stacked
            correction needs no warning.

    Raises:
        SupportError: where all weights are zero at some t.
        WeightOverflowError: where an unnormalised weight is too large for a float.
    """
    length = int(np.diff(records.offsets).max())
    log_scale = largest_log_weights(records.log_weights, records.offsets, length)
    _check_scale(log_scale, normalized, ratios)
    functional, moments, sensitivity = (_normalized if normalized else _plain)(records, log_scale)
    if start is not None:
        functional, moments = Combined(ADD, Sum(), functional), np.column_stack([start, moments])
    notes = list(ratios.notes)
    if not ratios.behavior.model.known and not ratios.made_of_behavior:
        correction = ratios.behavior.correction(sensitivity[records.to_steps])
        if correction is not None:
            functional, moments = Combined(ADD, functional, Sum()), np.column_stack([moments, correction])
        elif not orthogonal:
            text = f"the interval treats the propensities of {ratios.behavior.model} as known. Use DR, Counts() or Logit()."
            notes.append(Note(EstimatedBehaviorWarning, text))
    diagnostics, overlap = _weight_diagnostics(ratios, records, log_scale)
    return Score(functional, moments, diagnostics, notes + _in_sample(ratios) + overlap, ratios.behavior.model.known)


def _check_scale(log_scale: Floats, normalized: bool, ratios: Ratios) -> None:
    if np.isneginf(log_scale).any():
        t = int(np.flatnonzero(np.isneginf(log_scale))[0])
        when = f"at t = {t} " if len(log_scale) > 1 else ""
        raise SupportError(
            f"weights: all weights are zero {when}under target {ratios.target.policy}: no trajectory agrees with it that far. "
            "Shorten the horizon, soften the target (a new estimand), or use FQE and say that it extrapolates."
        )
    if not normalized and log_scale.max() > _LARGEST_LOG:
        raise WeightOverflowError(
            f"weights: the largest is exp({log_scale.max():.0f}), beyond the largest float. Use a self-normalised estimator "
            "(WIS, PDWIS, WDR)."
        )


def _in_sample(ratios: Ratios) -> list[Note]:
    model = ratios.behavior.model
    if len(ratios.behavior.folds) > 1 or model.default_folds == 1:
        return []
    return [Note(InSampleWarning, f"{model} gives propensities for the trajectories it learned from; use folds=5.")]


def _plain(records: Records, log_scale: Floats) -> tuple[Functional, Floats, Floats]:
    remaining = doubly_robust_backward(records.log_weights, records.terms, records.offsets)
    return Sum(), remaining[records.offsets[:-1]][:, None], remaining


def _normalized(records: Records, log_scale: Floats) -> tuple[Functional, Floats, Floats]:
    moments = per_decision_moments(records.log_weights, records.terms, records.offsets, log_scale)
    numerators, denominators = np.split(moments.mean(axis=0), 2)
    sensitivity = per_decision_sensitivity(
        records.log_weights, records.terms, records.offsets, log_scale, numerators / denominators, denominators
    )
    return RatioSum(log_scale), moments, sensitivity


def _weight_diagnostics(ratios: Ratios, records: Records, log_scale: Floats) -> tuple[dict[str, object], list[Note]]:
    ess_by_time = kish_by_time(records.log_weights, records.offsets, log_scale)
    final = np.exp(records.log_weights[records.offsets[1:] - 1] - log_scale[-1])
    ess, share, tail = float(ess_by_time.min()), largest_share(final), tail_index(final)
    with np.errstate(over="ignore"):
        largest = float(np.exp(log_scale.max()))
    values = {
        "ess": ess,
        "ess_by_time": ess_by_time,
        "max_weight": largest,
        "largest_share": share,
        "tail_index": tail,
        "unsupported_mass": ratios.unsupported_mass,
        "behavior": str(ratios.behavior.model),
        "folds": (len(ratios.behavior.folds), None),
    }
    notes = overlap_notes(len(final), ess, share, tail)
    left = last_agreement(ratios.log_weights, ratios.target.steps.offsets)
    if left >= 0:
        text = (
            f"no trajectory still under way at t = {left} agrees with the target; the estimate says nothing of what comes after."
        )
        notes.append(Note(OverlapWarning, text))
    return values, notes


@dataclass(frozen=True)
class ImportanceEstimator(Estimator):
    """Base of the estimators that weight trajectories.

    Args:
        behavior: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster; None is the learner's default.
    """

    behavior: BehaviorLike | None = None
    folds: int | None = None

    @abstractmethod
    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        """Moments and functional of a policy value."""

    def policy_value(self, nuisances: Nuisances, goal: PolicyValue) -> Estimate:
        return estimate_from_score(self, nuisances, goal, self.score(nuisances, goal))

    def point(self, nuisances: Nuisances, goal: PolicyValue) -> float:
        return weighted_point(self.score(nuisances, goal), nuisances.weights)

    def _by_trajectory(self, nuisances: Nuisances, goal: PolicyValue, normalized: bool) -> Score:
        steps = nuisances.steps(goal.horizon)
        steps.require_complete(str(self))
        ratios = nuisances.ratios(goal.policy, self.behavior, self.folds, goal.horizon)
        returns = discounted_returns(steps.rewards, steps.offsets, goal.discount)
        return importance_score(ratios, Records.by_trajectory(ratios, returns), normalized=normalized)

    def _by_decision(self, nuisances: Nuisances, goal: PolicyValue, normalized: bool) -> Score:
        steps = nuisances.steps(goal.horizon)
        steps.require_complete(str(self))
        ratios = nuisances.ratios(goal.policy, self.behavior, self.folds, goal.horizon)
        rewards = goal.discount**steps.time * steps.rewards
        return importance_score(ratios, Records.by_decision(ratios, rewards), normalized=normalized)


@dataclass(frozen=True)
class IS(ImportanceEstimator):
    """Trajectory importance sampling, mean of w_i G_i (Precup, Sutton & Singh 2000); Horvitz-Thompson IPW at horizon 1.

    w is the product of the trajectory's importance ratios and G its discounted return. Unbiased where the propensities are
    right; its variance grows exponentially with the horizon.

    Args:
        behavior, folds: see `ImportanceEstimator`.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, 3.0], [0, 1, 2], behavior_probabilities=[0.5, 0.5])
        >>> crl.IS().estimate(data, crl.Always(1)).value
        3.0
    """

    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        return self._by_trajectory(nuisances, goal, normalized=False)


@dataclass(frozen=True)
class WIS(ImportanceEstimator):
    """Weighted importance sampling, sum w_i G_i / sum w_i; Hajek IPW at horizon 1.

    The normaliser runs over all trajectories, each with the weight of its last step.

    Args:
        behavior, folds: see `ImportanceEstimator`.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays(
        ...     [0, 0, 0, 0], [1, 0, 1, 1], [0.0, 1.0, 2.0, 4.0], [0, 1, 2, 4], behavior_probabilities=[0.5] * 4
        ... )
        >>> crl.WIS().estimate(data, crl.Always(1)).value
        4.0
    """

    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        return self._by_trajectory(nuisances, goal, normalized=True)


@dataclass(frozen=True)
class PDIS(ImportanceEstimator):
    """Per-decision importance sampling, mean of sum_t discount^t w_t r_t (Precup, Sutton & Singh 2000).

    Args:
        behavior, folds: see `ImportanceEstimator`.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays(
        ...     [0, 0, 0, 0], [1, 0, 1, 1], [0.0, 1.0, 2.0, 4.0], [0, 1, 2, 4], behavior_probabilities=[0.5] * 4
        ... )
        >>> round(crl.PDIS().estimate(data, crl.Always(1)).value, 12)
        6.666666666667
    """

    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        return self._by_decision(nuisances, goal, normalized=False)


@dataclass(frozen=True)
class PDWIS(ImportanceEstimator):
    """Consistent weighted per-decision importance sampling, sum_t discount^t sum_i w_it r_it / sum_i w_it (CWPDIS; Thomas 2015).

    Every normaliser runs over all trajectories; an ended one keeps its last weight and earns 0.

    Args:
        behavior, folds: see `ImportanceEstimator`.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays(
        ...     [0, 0, 0, 0], [1, 0, 1, 1], [0.0, 1.0, 2.0, 4.0], [0, 1, 2, 4], behavior_probabilities=[0.5] * 4
        ... )
        >>> round(crl.PDWIS().estimate(data, crl.Always(1)).value, 12)
        3.666666666667
    """

    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        return self._by_decision(nuisances, goal, normalized=True)


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
        return Score(
            Sum(), discounted_returns(steps.rewards, steps.offsets, goal.discount)[:, None], {"ess": float(steps.data.n)}
        )
