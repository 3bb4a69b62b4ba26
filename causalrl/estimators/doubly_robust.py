"""Doubly robust estimators: a value model corrected by weighted temporal differences."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalrl.checks import whole_number
from causalrl.errors import EstimandError
from causalrl.estimands import PolicyValue
from causalrl.estimators.base import Score, in_sample, weighted_point
from causalrl.estimators.importance import Records, importance_score
from causalrl.estimators.refits import compiled_refit
from causalrl.estimators.repeats import median_score
from causalrl.estimators.weighting import ImportanceEstimator
from causalrl.nuisances.crossfit import Nuisances
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
        return Score(score.functional, score.moments, diagnostics, notes, score.fixed and self.q.known, refit)


@dataclass(frozen=True)
class RepeatedEstimator(DoublyRobustEstimator):
    """Base of those that can repeat their cross-fitting over random splits.

    Args:
        behavior, folds, q: see `DoublyRobustEstimator`.
        repeats: odd number of splits, whose median is taken.
    """

    repeats: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if whole_number("repeats", self.repeats, 1, EstimandError) % 2 == 0:
            raise EstimandError(f"repeats: {self.repeats} is even; use an odd number, so that one split attains the median.")

    @abstractmethod
    def single(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        """The score of one split."""

    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        scores = [self.single(nuisances.split(r), goal) for r in range(self.repeats)]
        return median_score(scores, nuisances.data.clusters)

    def point(self, nuisances: Nuisances, goal: PolicyValue) -> float:
        values = [weighted_point(self.single(nuisances.split(r), goal), nuisances.weights) for r in range(self.repeats)]
        return float(np.median(values))


@dataclass(frozen=True)
class DR(RepeatedEstimator):
    """Sequential doubly robust estimator (Jiang & Li 2016, eq. 10); AIPW at horizon 1.

    mean of V(s_0) + sum_t discount^t w_t (r_t - Q(s_t, a_t) + discount V(s_{t+1})): consistent where the propensities or the
    value model are right. The interval needs right propensities: it takes the value model as given, which costs nothing to
    first order where they are, and is too short where they are wrong and the model is learned. A record cut before the horizon
    is continued by the model alone, whatever the propensities.

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

    def single(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        return self._score(nuisances, goal, normalized=False)


@dataclass(frozen=True)
class WDR(RepeatedEstimator):
    """Weighted doubly robust estimator (Thomas & Brunskill 2016): DR with w_t / sum_j w_jt in place of w_t / n.

    The normalisers run over all trajectories; an ended one keeps its last weight.

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

    def single(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        return self._score(nuisances, goal, normalized=True)
