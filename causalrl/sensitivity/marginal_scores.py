"""Scores of the bounds of the marginal sensitivity model: an estimator's own, with tail outcomes for what the data do not show.

Let d(a, x) be the target probability of arm a, or the difference of two of them, and h the tail outcome on the side that d asks
for (`marginal_quantiles`). A unit of arm A with P(A | X) = e stands for itself and for (1 - e) / e units of the other arms, whose
outcome under A nobody saw:

    weighting:      w (e Y + (1 - e) h), w = d / e, normalised as the estimator normalises
    doubly robust:  sum_a d_a (1(A = a) Y + 1(A != a) rho_a) + d_A (1 - e) / e (h - rho_A), rho_a = E[h | X, A = a]

(Dorn & Guo 2023, JASA 118:2645, section 4; Dorn, Guo & Kallus 2024, JASA, equation 9, for d = 1(a = 1)). At gamma = 1, h = Y and
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
from causalrl.estimators.base import Score
from causalrl.estimators.doubly_robust import DR
from causalrl.estimators.repeats import median_score
from causalrl.estimators.weighting import WeightingEstimator
from causalrl.inference.base import Evidence
from causalrl.inference.functionals import Combined, Functional, RatioSum, Sum
from causalrl.inference.operations import SUBTRACT
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.records import Ratios
from causalrl.sensitivity.marginal_quantiles import TailOutcomes

Bounded: TypeAlias = WeightingEstimator | DR


def with_outcomes(nuisances: Nuisances, outcomes: Floats) -> Nuisances:
    """The same data with other outcomes (n,), folds and seeds unchanged."""
    return Nuisances(replace(nuisances.data, rewards=outcomes), nuisances.seed)


@dataclass(frozen=True, eq=False)
class PolicyBounds(ABC):
    """Bounds of the value of one policy, or of that of one less that of another.

    Attributes:
        estimator: the recipe. nuisances: of single decisions. ratios: of one policy, or of it and a reference.
        regressor: a quantile regressor, or None.
    """

    estimator: Bounded
    nuisances: Nuisances
    ratios: tuple[Ratios, ...]
    regressor: Any
    notes: list[Note] = field(default_factory=list)

    @abstractmethod
    def _scores(self, tails: tuple[Floats, Floats]) -> tuple[Score, Score]:
        """Of the lower and of the upper bound, from the tail outcomes."""

    def at(self, gamma: float) -> tuple[Score, Score]:
        """Scores of the lower and of the upper bound."""
        return self._scores(self._tails.at(gamma))

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

    def _scores(self, tails: tuple[Floats, Floats]) -> tuple[Score, Score]:
        low, high = tails
        return self._score(self._facing(low, high)), self._score(self._facing(high, low))

    def _facing(self, gained: Floats, lost: Floats) -> Floats:
        """(n,) tail outcomes, of arms that the policy takes more often and less often; the outcome itself of others."""
        return np.where(self.own > 0, gained, np.where(self.own < 0, lost, self.nuisances.data.rewards))

    def _score(self, tail: Floats) -> Score:
        outcomes = self.logged * self.nuisances.data.rewards + (1 - self.logged) * tail
        parts = [self._part(np.exp(ratios.log_ratios), outcomes, tail) for ratios in self.ratios]
        functional, moments, slope = parts[0]
        if len(parts) == 2:
            other, columns, less = parts[1]
            functional, moments, slope = Combined(SUBTRACT, functional, other), np.hstack([moments, columns]), slope - less
        return self._corrected(functional, moments, slope, orthogonal=False)

    def _part(self, weights: Floats, outcomes: Floats, tail: Floats) -> tuple[Functional, Floats, Floats]:
        """Functional and moments of one policy, and the derivative (n,) of n times its value in -log e."""
        if not self.estimator.normalized:
            return Sum(), (weights * outcomes)[:, None], weights * tail
        moments = np.column_stack([weights * outcomes, weights])
        numerator, denominator = moments.mean(axis=0)
        return RatioSum(np.zeros(1)), moments, weights * (tail - numerator / denominator) / denominator


@dataclass(frozen=True, eq=False)
class AugmentedBounds(PolicyBounds):
    """Those of the doubly robust estimator, whose value model learns the tail outcomes."""

    def _scores(self, tails: tuple[Floats, Floats]) -> tuple[Score, Score]:
        low, high = ((tail, *self._regressed(tail)) for tail in tails)
        return self._score(low, high), self._score(high, low)

    def _regressed(self, tail: Floats) -> tuple[Floats, Floats]:
        """(n, A) rho of every arm that the target needs, and (n,) that of the arm taken."""
        assert isinstance(self.estimator, DR)
        learned = with_outcomes(self.nuisances, tail)
        steps = learned.steps(None)
        arms = arm_values(learned, self.estimator.q, steps, self.signed != 0, self.estimator.folds)
        self.notes.extend(arms[0].notes)
        return np.column_stack([values.v for values in arms]), arms[0].q

    def _score(self, gained: tuple[Floats, Floats, Floats], lost: tuple[Floats, Floats, Floats]) -> Score:
        outcomes, more = self.nuisances.data.rewards, self.own >= 0
        means = np.where(self.signed >= 0, gained[1], lost[1])
        tail, mean = (np.where(more, gained[j], lost[j]) for j in (0, 2))
        weights = self.own / self.logged
        moments = np.sum(self.signed * means, axis=1) + weights * (tail - mean) + self.own * (outcomes - tail)
        return self._corrected(Sum(), moments[:, None], weights * (tail - mean), orthogonal=True)


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

    def _evidence(self, scores: Sequence[Score]) -> Evidence:
        clusters = self.splits[0].nuisances.data.clusters
        score = median_score(list(scores), clusters)
        value = float(score.functional.value(score.moments.mean(axis=0)))
        return Evidence(value, clusters, score.functional, score.moments)


@dataclass(frozen=True, eq=False)
class OneArmBounds:
    """Bounds of the effect on the treated or on the controls: the estimator itself, with tail outcomes in the other arm.

    Attributes:
        nuisances: of the two arms, coded 1 and 0.
    """

    estimator: Bounded
    nuisances: Nuisances
    goal: ATT | ATC
    regressor: Any
    notes: list[Note] = field(default_factory=list)

    @cached_property
    def _unseen(self) -> Bools:
        """(n,) the arm whose outcomes stand for those that the population would have had."""
        return np.asarray(self.nuisances.data.actions == int(isinstance(self.goal, ATC)))

    @cached_property
    def _tails(self) -> TailOutcomes:
        logged = self.nuisances.behavior(self.estimator.behavior, self.estimator.folds, None).logged
        costs = np.where(self._unseen, (1 - logged) / logged, 0.0)
        return TailOutcomes(self.nuisances, costs, self.regressor, self.estimator.folds, self.notes)

    def at(self, gamma: float) -> tuple[Evidence, Evidence]:
        """Of the lower and of the upper bound."""
        low, high = self._tails.at(gamma)
        if isinstance(self.goal, ATT):  # the unseen outcomes are subtracted
            low, high = high, low
        return self._evidence(low), self._evidence(high)

    def _evidence(self, tail: Floats) -> Evidence:
        outcomes = np.where(self._unseen, tail, self.nuisances.data.rewards)
        with warnings.catch_warnings():  # those of the estimate, once more
            warnings.simplefilter("ignore", CausalRLWarning)
            return self.estimator.average_effect(with_outcomes(self.nuisances, outcomes), self.goal).evidence
