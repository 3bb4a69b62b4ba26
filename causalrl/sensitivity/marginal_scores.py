"""Scores of the bounds of the marginal sensitivity model: an estimator's own, with tail outcomes for what the data do not show.

Let d(a, x) be the target probability of arm a, or the difference of two of them, and h the tail outcome on the side that d asks
for (`marginal_quantiles`). A unit of arm A with P(A | X) = e stands for itself and for (1 - e) / e units of the other arms, whose
outcome under A nobody saw:

    weighting:      w (e Y + (1 - e) h), w = d / e, normalised as the estimator normalises
    doubly robust:  sum_a d_a (1(A = a) Y + 1(A != a) rho_a) + d_A (1 - e) / e (h - rho_A), rho_a = E[h | X, A = a]
                    = sum_a d_a rho_a + w (h - rho_A) + d_A (Y - h)

(Dorn & Guo 2023, JASA 118:2645; Dorn, Guo & Kallus 2024, JASA; both for d = 1(a = 1)). At gamma = 1, h = Y and
both are the estimator's own score.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from causalrl.checks import Bools, Floats
from causalrl.diagnostics.record import Note
from causalrl.errors import CausalRLWarning, EstimatedBehaviorWarning
from causalrl.estimands import ATC, ATT
from causalrl.estimators.augmented import arm_values, with_correction
from causalrl.estimators.base import FittedEstimator, Score
from causalrl.estimators.doubly_robust import DR
from causalrl.estimators.repeats import median_score
from causalrl.estimators.weighting import WeightingEstimator
from causalrl.inference.algebra import combine
from causalrl.inference.base import Evidence
from causalrl.inference.functionals import Functional, RatioSum, Sum
from causalrl.inference.operations import SUBTRACT
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.records import Ratios
from causalrl.sensitivity.marginal_quantiles import TailOutcomes

Bounded: TypeAlias = WeightingEstimator | DR


def with_outcomes(nuisances: Nuisances, outcomes: Floats) -> Nuisances:
    """The same data with other outcomes (n,), folds and seeds unchanged."""
    return Nuisances(replace(nuisances.data, rewards=outcomes), nuisances.seed)


@dataclass(frozen=True, eq=False)
class Tails:
    """What is learned of the tail outcomes.

    Attributes:
        outcomes: (n,) h. means: (n, A) rho of each arm. own_mean: (n,) rho of the arm taken. Both are 0 for weighting estimators.
    """

    outcomes: Floats
    means: Floats
    own_mean: Floats


@dataclass(frozen=True, eq=False)
class PolicyBounds(ABC):
    """Bounds of the value of one policy, or of that of one less that of another.

    Attributes:
        estimator: the recipe. nuisances: of single decisions. ratios: of one policy, or of it and a reference.
        regressor: a quantile regressor, or None. notes: warnings, added to as scores are made.
    """

    estimator: Bounded
    nuisances: Nuisances
    ratios: tuple[Ratios, ...]
    regressor: Any
    notes: list[Note] = field(default_factory=list)

    def at(self, gamma: float) -> tuple[list[Score], list[Score]]:
        """Scores of the policies, whose value or difference is the lower bound, and the same of the upper one."""
        low, high = map(self._learned, self._tails.at(gamma))
        return self._facing(low, high), self._facing(high, low)

    @abstractmethod
    def _learned(self, tail: Floats) -> Tails:
        """What is learned of the tail outcomes of one side."""

    @abstractmethod
    def _score(self, ratios: Ratios, tails: Tails) -> Score:
        """Of one policy."""

    def _facing(self, gained: Tails, lost: Tails) -> list[Score]:
        """From the tails of arms that the policy takes more often than the reference, and of those that it takes less often."""
        tails = Tails(
            np.where(self.own >= 0, gained.outcomes, lost.outcomes),
            np.where(self.signed >= 0, gained.means, lost.means),
            np.where(self.own >= 0, gained.own_mean, lost.own_mean),
        )
        return [self._score(ratios, tails) for ratios in self.ratios]

    @cached_property
    def signed(self) -> Floats:
        """(n, A) d."""
        first, *rest = (ratios.target.at_steps for ratios in self.ratios)
        return np.asarray(first - rest[0] if rest else first)

    @cached_property
    def own(self) -> Floats:
        """(n,) d of the arm taken."""
        return np.asarray(self.signed[np.arange(len(self.signed)), self.nuisances.data.actions])

    @cached_property
    def logged(self) -> Floats:
        """(n,) probability of the arm taken."""
        return self.ratios[0].behavior.logged

    @cached_property
    def _tails(self) -> TailOutcomes:
        costs = np.abs(self.own) * (1 - self.logged) / self.logged
        return TailOutcomes(self.nuisances, costs, self.regressor, self.estimator.folds, self.notes)

    def _corrected(self, functional: Functional, moments: Floats, slope: Floats, orthogonal: bool) -> Score:
        """The score with the influence of learned propensities, from the derivative (n,) of n times the value in -log e."""
        fitted = self.ratios[0].behavior
        if not fitted.model.known:
            correction = fitted.correction(slope)
            functional, moments = with_correction(functional, moments, correction)
            if correction is None and not orthogonal:
                text = f"the intervals treat the propensities of {fitted.model} as known. Use AIPW, Counts() or Logit()."
                self.notes.append(Note(EstimatedBehaviorWarning, text))
        return Score(functional, moments, fixed=fitted.model.known)


@dataclass(frozen=True, eq=False)
class WeightedBounds(PolicyBounds):
    """Those of a weighting estimator."""

    def _learned(self, tail: Floats) -> Tails:
        return Tails(np.where(self.own == 0, self.nuisances.data.rewards, tail), np.zeros((1, 1)), np.zeros(1))

    def _score(self, ratios: Ratios, tails: Tails) -> Score:
        weights, tail = np.exp(ratios.log_ratios), tails.outcomes
        weighted = weights * (self.logged * self.nuisances.data.rewards + (1 - self.logged) * tail)
        if not self.estimator.normalized:
            return self._corrected(Sum(), weighted[:, None], weights * tail, orthogonal=False)
        moments = np.column_stack([weighted, weights])
        numerator, denominator = moments.mean(axis=0)
        slope = weights * (tail - numerator / denominator) / denominator
        return self._corrected(RatioSum(np.zeros(1)), moments, slope, orthogonal=False)


@dataclass(frozen=True, eq=False)
class AugmentedBounds(PolicyBounds):
    """Those of the doubly robust estimator, whose value model learns the tail outcomes."""

    def _learned(self, tail: Floats) -> Tails:
        assert isinstance(self.estimator, DR)
        learned = with_outcomes(self.nuisances, tail)
        needed = np.any([ratios.target.at_steps > 0 for ratios in self.ratios], axis=0)
        arms = arm_values(learned, self.estimator.q, learned.steps(None), needed, self.estimator.folds)
        self.notes.extend(arms[0].notes)
        return Tails(tail, np.column_stack([values.v for values in arms]), arms[0].q)

    def _score(self, ratios: Ratios, tails: Tails) -> Score:
        target = ratios.target
        corrections = np.exp(ratios.log_ratios) * (tails.outcomes - tails.own_mean)
        seen = target.taken * (self.nuisances.data.rewards - tails.outcomes)
        moments = np.sum(target.at_steps * tails.means, axis=1) + corrections + seen
        return self._corrected(Sum(), moments[:, None], corrections, orthogonal=True)


@dataclass(frozen=True, eq=False)
class RepeatedBounds:
    """The medians over the random splits of the estimator, which are one where it does not repeat them."""

    splits: list[PolicyBounds]

    @property
    def notes(self) -> list[Note]:
        return [note for bounds in self.splits for note in bounds.notes]

    def at(self, gamma: float) -> tuple[Evidence, Evidence]:
        """Of the lower and of the upper bound."""
        lows, highs = zip(*(bounds.at(gamma) for bounds in self.splits), strict=True)
        return self._evidence(lows), self._evidence(highs)

    def _evidence(self, by_split: Sequence[list[Score]]) -> Evidence:
        values = [self._median(list(scores)) for scores in zip(*by_split, strict=True)]
        return combine(SUBTRACT, *values) if len(values) == 2 else values[0]

    def _median(self, scores: list[Score]) -> Evidence:
        clusters = self.splits[0].nuisances.data.clusters
        score = median_score(scores, clusters)
        value = float(score.functional.value(score.moments.mean(axis=0)))
        return Evidence(value, clusters, score.functional, score.moments)


@dataclass(frozen=True, eq=False)
class OneArmBounds:
    """Bounds of the effect on the treated or on the controls: the estimator itself, with tail outcomes in the other arm.

    Attributes:
        estimator: the recipe. nuisances: of single decisions. goal: the effect. regressor, notes: see `PolicyBounds`.
    """

    estimator: Bounded
    nuisances: Nuisances
    goal: ATT | ATC
    regressor: Any
    notes: list[Note] = field(default_factory=list)

    def at(self, gamma: float) -> tuple[Evidence, Evidence]:
        """Of the lower and of the upper bound."""
        low, high = self._tails.at(gamma)
        if isinstance(self.goal, ATT):  # the unseen outcomes are subtracted
            low, high = high, low
        return self._evidence(low), self._evidence(high)

    @cached_property
    def _unseen(self) -> Bools:
        """(m,) of the two arms, the one whose outcomes stand for those that the population would have had."""
        return np.asarray(self._pair.data.actions == int(isinstance(self.goal, ATC)))

    @cached_property
    def _pair(self) -> Nuisances:
        return self.nuisances.pair(self.goal.treated, self.goal.control)

    @cached_property
    def _tails(self) -> TailOutcomes:
        logged = self._pair.behavior(self.estimator.behavior, self.estimator.folds, None).logged
        costs = np.where(self._unseen, (1 - logged) / logged, 0.0)
        return TailOutcomes(self._pair, costs, self.regressor, self.estimator.folds, self.notes)

    def _evidence(self, tail: Floats) -> Evidence:
        outcomes = self.nuisances.data.rewards.copy()
        both = np.isin(self.nuisances.data.actions, (self.goal.treated, self.goal.control))
        outcomes[both] = np.where(self._unseen, tail, outcomes[both])
        with warnings.catch_warnings():  # those of the estimate, once more
            warnings.simplefilter("ignore", CausalRLWarning)
            return FittedEstimator(self.estimator, with_outcomes(self.nuisances, outcomes)).estimate(self.goal).evidence
