"""The partially linear model Y = theta A + g(X) + noise, by residuals on residuals (Robinson 1988, Econometrica 56:931)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalrl.diagnostics.record import Note
from causalrl.errors import EstimandError, InSampleWarning, SupportError
from causalrl.estimands import ATE, ATO, PopulationEffect
from causalrl.estimate import Estimate
from causalrl.estimators.augmented import propensity_correction, with_correction
from causalrl.estimators.base import EffectEstimator, Score, check_folds, in_sample, label
from causalrl.estimators.populations import effect_from_score
from causalrl.estimators.repeats import check_repeats, repeated
from causalrl.inference.functionals import RatioSum
from causalrl.nuisances.behavior import BehaviorLike
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.regression import is_linear, require_regressor


@dataclass(frozen=True)
class PLR(EffectEstimator):
    """Partially linear double machine learning (Chernozhukov et al. 2018, Econometrics Journal 21:C1, section 4.1).

    mean (Y - l(X)) (A - e(X)) / mean (A - e(X))^2, l(x) = E[Y | x] and e(x) = P(treated | x): the partialling-out score. Where
    the effect is the same for everybody it is the `ATE`. Where it varies this is the mean of tau(X) weighted by e (1 - e), which
    is the `ATO`, whatever the question was; ask `AIPW` for an ATE then. Its error is of second order in the errors of l and e.

    Args:
        outcome: a regressor of Y on X.
        propensity: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster of both; None is 5 for a learner that is neither linear nor parametric, and 1 else.
        repeats: odd number of random splits, whose median is taken (Chernozhukov et al. 2018, section 3.4).

    Raises:
        EstimandError: for another effect, more than two arms in an ATE, and what is no regressor.
        SupportError: where the propensities are 0 or 1 for everybody.

    Example:
        >>> import causalrl as crl
        >>> from sklearn.linear_model import LinearRegression
        >>> study = crl.Trajectories.from_cross_section([[0.0], [0.0], [1.0], [1.0]], [0, 1, 0, 1], [0.0, 2.0, 3.0, 5.0])
        >>> round(crl.PLR(LinearRegression(), crl.KnownPropensity(crl.Uniform(2))).estimate(study, crl.ATE()).value, 6)
        2.0
    """

    outcome: Any
    propensity: BehaviorLike | None = None
    folds: int | None = None
    repeats: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        require_regressor(self.outcome)
        check_folds(self.folds)
        check_repeats(self.repeats)

    def average_effect(self, nuisances: Nuisances, goal: PopulationEffect | ATE) -> Estimate:
        if not isinstance(goal, ATE | ATO):
            raise EstimandError(f"{self}: gives no {goal}; a partially linear model has the ATE, or ATO. Use AIPW(...).")
        if isinstance(goal, ATE) and nuisances.data.n_actions > 2:
            raise EstimandError(
                f"{self}: the data have {nuisances.data.n_actions} actions, and a partially linear model compares two. Ask "
                f"ATO({goal.treated}, {goal.control}), of those who took one of them, or use AIPW(...)."
            )
        arms = nuisances.pair(goal.treated, goal.control) if isinstance(goal, ATE) else nuisances
        return effect_from_score(self, arms, goal, self._score)

    def _score(self, nuisances: Nuisances) -> Score:
        return repeated(nuisances, self._single, self.repeats)

    def _single(self, nuisances: Nuisances) -> Score:
        """The score of one split."""
        mean = nuisances.outcome_mean(self.outcome, self.folds)
        fitted = nuisances.behavior(self.propensity, self.folds, None)
        outcome = nuisances.data.rewards - mean.values
        treatment = (nuisances.data.actions == 1) - fitted.treated
        squares = treatment**2
        if not squares.sum() > 0:
            raise SupportError(
                "propensity: every propensity is 0 or 1, so that nobody could have been treated otherwise. Use fewer covariates."
            )
        effect = float(treatment @ outcome / squares.sum())
        slope = (2 * effect * treatment - outcome) / squares.mean()
        functional, moments = with_correction(
            RatioSum(np.zeros(1)), np.column_stack([treatment * outcome, squares]), propensity_correction(fitted, slope)
        )
        notes = fitted.notes + mean.notes + in_sample(fitted.model, len(fitted.folds), "gives propensities for")
        if mean.folds == 1 and not is_linear(self.outcome):
            notes.append(Note(InSampleWarning, f"{label(self.outcome)} predicts the trajectories it learned from; use folds=5."))
        diagnostics = {"behavior": str(fitted.model), "folds": (len(fitted.folds), mean.folds)}
        return Score(functional, moments, diagnostics, notes, fixed=False)
