"""Augmented scores of one decision between two arms: effects in tilted populations, and the term of a tilted propensity.

With e = P(treated | X), tau(x) = mu_1(x) - mu_0(x) and phi_a = mu_a(X) + 1(A = a) (Y - mu_a(X)) / P(a | X), the effect
E[h(e) tau(X)] / E[h(e)] has the efficient influence function

    {h(e) (phi_1 - phi_0 - tau) + h'(e) (A - e) (tau(X) - tau)} / E[h(e)]

(Hirano, Imbens & Ridder 2003, Econometrica 71:1161; Crump et al. 2006, NBER technical working paper 330). Its zero is mean N /
mean D with N = h (phi_1 - phi_0) + h' (A - e) tau(X) and D = h + h' (A - e). A policy pi(e) has the same second term,
pi'(e) (A - e) tau(X), without the centring (Kennedy 2019, JASA 114:645, theorem 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints
from causalrl.data import Steps
from causalrl.derived_policies import TiltedPropensity
from causalrl.diagnostics.record import Note, share
from causalrl.errors import SupportWarning
from causalrl.estimands import PopulationEffect
from causalrl.estimators.base import Score, in_sample
from causalrl.estimators.populations import Comparison, TiltedWeights, tilted_weights
from causalrl.inference.functionals import Combined, Functional, RatioSum, Sum
from causalrl.inference.operations import ADD
from causalrl.nuisances.behavior import BehaviorLike
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.records import FittedBehavior, Values
from causalrl.nuisances.value import Target, ValueModel
from causalrl.policies import Policy


@dataclass(frozen=True, eq=False)
class _LoggedChoice(Policy):
    """A fixed action at each logged step; elsewhere, where no value is asked for, any."""

    steps: Steps
    actions: Ints

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        arms = self.steps.data.n_actions
        if observations is not self.steps.observations:
            return np.full((len(observations), arms), 1 / arms)
        return np.asarray(np.eye(arms)[self.actions])


def arm_values(nuisances: Nuisances, q: ValueModel, steps: Steps, needed: Bools, folds: int | None) -> list[Values]:
    """Of each arm the cross-fitted values of always choosing it; where it is not needed (M, A), those of the logged action."""

    def of(arm: int) -> Values:
        policy = _LoggedChoice(steps, np.where(needed[:, arm], arm, steps.actions))
        return nuisances.values(q, Target(policy, steps, by_row=True), 1.0, folds)

    return [of(arm) for arm in range(steps.data.n_actions)]


def propensity_correction(fitted: FittedBehavior, slope: Floats) -> Floats | None:
    """(n,) stacked influence of the learned e on an estimate whose derivative in e is `slope` (n,) / n; None where none is known.

    It vanishes to first order where the outcome model is right.
    """
    return fitted.correction(slope * fitted.treated_slope)


def with_correction(functional: Functional, moments: Floats, correction: Floats | None) -> tuple[Functional, Floats]:
    """A functional and its moments with the influence of the learned propensities added."""
    if correction is None:
        return functional, moments
    return Combined(ADD, functional, Sum()), np.column_stack([moments, correction])


@dataclass(frozen=True, eq=False)
class AugmentedEffect:
    """The moments of an effect in a tilted population: those of the outcome model, and the weighted residuals of each arm.

    Attributes:
        tilted: weights. effect: (n,) tau(X). residual: (n,) outcome less its prediction.
        normalized: the residuals of an arm are divided by the sum of its weights, not by that of h.
    """

    tilted: TiltedWeights
    effect: Floats
    residual: Floats
    normalized: bool

    @cached_property
    def _own(self) -> Floats:
        """(n,) 1 for the treated, -1 for the controls."""
        return np.where(self.tilted.arms[0], 1.0, -1.0)

    @cached_property
    def parts(self) -> tuple[Floats, Floats]:
        """(n, T) numerators and denominators: one ratio, or that of the model and one an arm."""
        tilted = self.tilted
        population = tilted.tilt
        if not tilted.fitted.model.known:  # the influence of learning e
            e = tilted.fitted.treated
            population = population + tilted.goal.slope(e) * (tilted.arms[0] - e)
        corrections = self._own * tilted.weights * self.residual
        if not self.normalized:
            return (population * self.effect + corrections)[:, None], population[:, None]
        arms = np.column_stack(tilted.arms)
        numerators = np.column_stack([population * self.effect, arms * corrections[:, None]])
        return numerators, np.column_stack([population, arms * tilted.weights[:, None]])

    def sensitivity(self) -> Floats:
        """(n,) derivative of n times the value in the log of 1 / P(own arm), less terms of mean zero at the right e."""
        numerators, denominators = (part.mean(axis=0) for part in self.parts)
        corrections = self._own * self.tilted.slope
        if not self.normalized:
            return np.asarray(corrections * self.residual / denominators[0])
        arm = np.where(self.tilted.arms[0], 1, 2)
        centres = self._own * (numerators / denominators)[arm]
        values: Floats = corrections * (self.residual - centres) / denominators[arm]
        return values

    @property
    def one_sided(self) -> float:
        """Share of the population that takes one arm only, by the propensities."""
        h, logged = self.tilted.tilt, self.tilted.fitted.logged
        return float(h[logged >= 1].sum() / h.sum())


def augmented_score(
    nuisances: Nuisances,
    goal: PopulationEffect,
    q: ValueModel,
    behavior: BehaviorLike | None,
    folds: int | None,
    truncate: float | None,
    normalized: bool,
) -> Score:
    """The score of an effect of one decision between arms 1 and 0 in a tilted population; see `AugmentedEffect`."""
    tilted = tilted_weights(nuisances, goal, behavior, folds, truncate)
    fitted, steps = tilted.fitted, tilted.fitted.steps
    figures, notes = Comparison(steps.rewards, tilted.weights, tilted.arms).figures()
    control, treated = arm_values(nuisances, q, steps, np.repeat(tilted.tilt[:, None] > 0, 2, axis=1), folds)
    effect = AugmentedEffect(tilted, treated.v - control.v, steps.rewards - treated.q, normalized)
    moments = np.column_stack(effect.parts)
    functional: Functional = RatioSum(np.zeros(moments.shape[1] // 2))
    functional, moments = with_correction(functional, moments, fitted.correction(effect.sensitivity()))
    lost = effect.one_sided
    if lost:
        text = f"{share(lost)} of the population takes one arm only, by the propensities; there the outcome model extrapolates."
        notes.append(Note(SupportWarning, text))
    figures |= treated.diagnostics | {
        "unsupported_mass": lost,
        "truncated": tilted.truncation,
        "behavior": str(fitted.model),
        "folds": (len(fitted.folds), treated.folds),
    }
    learned = in_sample(fitted.model, len(fitted.folds), "gives propensities for") + in_sample(q, treated.folds, "corrects")
    return Score(functional, moments, figures, fitted.notes + treated.notes + learned + notes, fitted.model.known and q.known)


@dataclass(frozen=True, eq=False)
class IncrementalTerm:
    """What a learned e adds to the score of `TiltedPropensity` at one decision (Kennedy 2019, theorem 2).

    Attributes:
        policy: the policy. fitted: propensities. effect: (n,) tau(X).
        weights, slopes: (n,) pi / P of the logged actions, and its derivative in the log of that, 0 where it is truncated.
        differences: (n,) outcome less prediction.
    """

    policy: TiltedPropensity
    fitted: FittedBehavior
    effect: Floats
    weights: Floats
    slopes: Floats
    differences: Floats

    def moment(self) -> Floats:
        """(n,) delta tau(X) (A - e) / (delta e + 1 - e)^2."""
        e = self.fitted.treated
        treated = self.fitted.steps.actions == 1
        values: Floats = self.policy.delta * self.effect * (treated - e) / self._denominator(e) ** 2
        return values

    def slope(self, normalized: bool) -> Floats:
        """(n,) derivative of n times the estimate in e, less terms of mean zero at the right e."""
        change = -self.slopes * (self.policy.delta - 1) / self._denominator(self.fitted.treated)
        if not normalized:
            return change * self.differences
        mean = self.weights.mean()
        slopes: Floats = change * (self.differences - (self.weights * self.differences).mean() / mean) / mean
        return slopes

    def _denominator(self, e: Floats) -> Floats:
        denominators: Floats = self.policy.delta * e + 1 - e
        return denominators


def incremental_score(term: IncrementalTerm, score: Score, normalized: bool) -> Score:
    """The score of `TiltedPropensity` with the term through the learned propensities."""
    moments = np.column_stack([score.moments, term.moment()])
    functional: Functional = Combined(ADD, score.functional, Sum())
    correction = propensity_correction(term.fitted, term.slope(normalized))
    functional, moments = with_correction(functional, moments, correction)
    return Score(functional, moments, score.diagnostics, score.notes, score.fixed, score.refit)
