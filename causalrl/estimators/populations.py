"""Weighted comparisons of single decisions, and the weights h(e) / P(own arm) of a tilted population.

Li, Morgan & Zaslavsky (2018), "Balancing covariates via propensity score weighting", JASA 113:390.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from causalrl.checks import Bools, Floats
from causalrl.diagnostics.record import Note, diagnostics_record
from causalrl.diagnostics.weights import effective_sample_size, largest_share, overlap_notes, tail_index
from causalrl.errors import EstimatedBehaviorWarning, SupportError, WeightOverflowError
from causalrl.estimands import ATE, PopulationEffect
from causalrl.estimate import Estimate
from causalrl.estimators.base import Estimator, Refitted, Score, goal_label, in_sample, weighted_point
from causalrl.inference.base import Evidence
from causalrl.inference.functionals import Combined, Functional, RatioSum, Sum
from causalrl.inference.operations import ADD, SUBTRACT
from causalrl.nuisances.behavior import BehaviorLike
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.records import FittedBehavior

_RATIO = RatioSum(np.zeros(1))


@dataclass(frozen=True, eq=False)
class Comparison:
    """The weighted mean outcome of one arm, or the difference of those of two: sum w Y / sum w in each.

    Attributes:
        outcomes, weights: (n,). arms: one or two (n,); the second is subtracted.

    Raises:
        SupportError: for an arm without any weight.
    """

    outcomes: Floats
    weights: Floats
    arms: tuple[Bools, ...]

    def __post_init__(self) -> None:
        for arm in self.arms:
            if not self.weights[arm].sum() > 0:
                raise SupportError("weights: an arm has no weight in this population. Ask another effect, such as ATO().")

    @property
    def functional(self) -> Functional:
        return _RATIO if len(self.arms) == 1 else Combined(SUBTRACT, _RATIO, _RATIO)

    @cached_property
    def moments(self) -> Floats:
        """(n, 2) numerator and denominator of each arm, side by side."""
        columns = [column for arm in self.arms for column in (arm * self.weights * self.outcomes, arm * self.weights)]
        return np.column_stack(columns)

    @property
    def slopes(self) -> Floats:
        """(n,) derivative of n times the value in each weight."""
        slopes = np.zeros(len(self.weights))
        for arm, sign, (numerator, denominator) in zip(
            self.arms, (1.0, -1.0), self.moments.mean(axis=0).reshape(-1, 2), strict=False
        ):
            slopes += sign * arm * (self.outcomes - numerator / denominator) / denominator
        return slopes

    def figures(self) -> tuple[dict[str, Any], list[Note]]:
        """Diagnostics of the arm whose weights are worse, and what they warn of."""
        arms = [self.weights[arm] for arm in self.arms]
        sizes, shares, tails = map(
            list, zip(*((effective_sample_size(w), largest_share(w), tail_index(w)) for w in arms), strict=True)
        )
        notes = [note for w, *own in zip(arms, sizes, shares, tails, strict=True) for note in overlap_notes(len(w), *own)]
        values = {
            "ess": min(sizes),
            "max_weight": float(max(w.max() for w in arms)),
            "largest_share": max(shares),
            "tail_index": max((tail for tail in tails if tail is not None), default=None),
        }
        return values, notes


@dataclass(frozen=True, eq=False)
class TiltedWeights:
    """Weights min(h(e) / P(own arm), c) between arms coded 1 and 0, and their derivatives in the log of 1 / P(own arm).

    Attributes:
        fitted: propensities. goal: the population. truncate: the bound c, or None.
    """

    fitted: FittedBehavior
    goal: PopulationEffect
    truncate: float | None

    @property
    def arms(self) -> tuple[Bools, Bools]:
        """(n,) the treated and the controls."""
        treated = self.fitted.steps.actions == 1
        return treated, ~treated

    @property
    def tilt(self) -> Floats:
        """(n,) h(e)."""
        return self.goal.tilt(self.fitted.treated)

    @property
    def tilt_slope(self) -> Floats:
        """(n,) derivative of h(e)."""
        slope: Floats = self.fitted.treated_slope * self.goal.slope(self.fitted.treated)
        return slope

    @cached_property
    def untruncated(self) -> Floats:
        """(n,) h(e) / P(own arm)."""
        return np.asarray(self.tilt / self.fitted.logged)

    @property
    def weights(self) -> Floats:
        """(n,) those used."""
        return self.untruncated if self.truncate is None else np.minimum(self.untruncated, self.truncate)

    @property
    def slope(self) -> Floats:
        """(n,) derivative of the weights, 0 where they are truncated."""
        slopes: Floats = self.untruncated + self.tilt_slope / self.fitted.logged
        return slopes if self.truncate is None else np.where(self.untruncated > self.truncate, 0.0, slopes)

    @property
    def truncation(self) -> tuple[float, float, float] | None:
        """The bound, the share of weights above it, and the share of their sum that it removes."""
        if self.truncate is None:
            return None
        kept = float(self.weights.sum() / self.untruncated.sum())
        return self.truncate, float(np.mean(self.untruncated > self.truncate)), 1.0 - kept


def tilted_weights(
    nuisances: Nuisances, goal: PopulationEffect, behavior: BehaviorLike | None, folds: int | None, truncate: float | None
) -> TiltedWeights:
    """The weights of a population, from nuisances of its two arms."""
    return TiltedWeights(nuisances.behavior(behavior, folds, None), goal, truncate)


def comparison_weights(
    nuisances: Nuisances,
    goal: PopulationEffect | ATE,
    behavior: BehaviorLike | None,
    folds: int | None,
    truncate: float | None = None,
) -> Floats:
    """(n,) 1 / P(own arm | X) for an ATE, times h(e) in a tilted population; at most `truncate`."""
    if isinstance(goal, PopulationEffect):
        return tilted_weights(nuisances, goal, behavior, folds, truncate).weights
    weights: Floats = 1 / nuisances.behavior(behavior, folds, None).logged
    return weights if truncate is None else np.minimum(weights, truncate)


def tilted_score(tilted: TiltedWeights, *, normalized: bool) -> Score:
    """The score of sum h w Y / sum h w between arms, or of mean(h A Y / e - h (1 - A) Y / (1 - e)) / mean(h).

    The influence of a propensity that maximises a likelihood is stacked in.
    """
    fitted = tilted.fitted
    comparison = Comparison(fitted.steps.rewards, tilted.weights, tilted.arms)
    if normalized:
        functional, moments = comparison.functional, comparison.moments
        sensitivity = comparison.slopes * tilted.slope
    else:
        functional, moments, sensitivity = _plain(tilted, fitted.steps.rewards)
    figures, overlap = comparison.figures()
    notes = fitted.notes + in_sample(fitted.model, len(fitted.folds), "gives propensities for") + overlap
    if not fitted.model.known:
        correction = fitted.correction(sensitivity)
        if correction is None:
            text = f"the interval treats the propensities of {fitted.model} as known. Use AIPW, Counts() or Logit()."
            notes.append(Note(EstimatedBehaviorWarning, text))
        else:
            functional, moments = Combined(ADD, functional, Sum()), np.column_stack([moments, correction])
    values = {"truncated": tilted.truncation, "behavior": str(fitted.model), "folds": (len(fitted.folds), None)}
    return Score(functional, moments, figures | values, notes, fitted.model.known)


def _plain(tilted: TiltedWeights, outcomes: Floats) -> tuple[Functional, Floats, Floats]:
    """Functional, moments and sensitivity of the Horvitz-Thompson form."""
    signed = np.where(tilted.arms[0], outcomes, -outcomes)
    moments = np.column_stack([signed * tilted.weights, tilted.tilt])
    numerator, denominator = moments.mean(axis=0)
    sensitivity = (signed * tilted.slope - numerator / denominator * tilted.tilt_slope) / denominator
    return _RATIO, moments, sensitivity


def effect_from_score(
    estimator: Estimator, nuisances: Nuisances, goal: PopulationEffect | ATE, make: Callable[[Nuisances], Score]
) -> Estimate:
    """The estimate of an effect that follows from what makes its score."""
    score = make(nuisances)
    value = float(score.functional.value(score.moments.mean(axis=0)))
    if not np.isfinite(value):
        raise WeightOverflowError(f"weights: {estimator} is {value}, beyond the largest float. Use truncate=, or ATO().")
    refit = Refitted(nuisances, partial(_point, make))
    evidence = Evidence(value, nuisances.data.clusters, score.functional, score.moments, refit)
    diagnostics = diagnostics_record(score.notes, **score.diagnostics)
    return Estimate(value, str(estimator), goal_label(goal), diagnostics, evidence, nuisances.data.fingerprint, score.fixed)


def _point(make: Callable[[Nuisances], Score], nuisances: Nuisances) -> float:
    return weighted_point(make(nuisances), nuisances.weights)
