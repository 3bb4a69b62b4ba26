"""What the learners of heterogeneous effects learn first: outcome means of two arms, and the mean of the treatment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats
from causalrl.diagnostics.record import Note
from causalrl.errors import EstimandError, InSampleWarning
from causalrl.estimands import CATE
from causalrl.estimators.base import in_sample, label, require_arms, require_single_stage
from causalrl.estimators.direct import points_of
from causalrl.estimators.second_stage import check_regressor, regress
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances, check_value_model
from causalrl.nuisances.regression import PerAction, is_linear
from causalrl.nuisances.value import ValueModel
from causalrl.policies import Always, action_probabilities


def pair_of(nuisances: Nuisances, goal: CATE) -> tuple[Nuisances, NDArray[Any]]:
    """The nuisances of the two arms of a CATE, coded 1 and 0, and its points, after the question is checked."""
    data = nuisances.data
    require_single_stage(data, goal)
    if goal.treated == goal.control:
        raise EstimandError(f"{goal}: treated and control are the same arm; name two.")
    at = points_of(goal, data)
    require_arms(data, goal.treated, goal.control)
    return nuisances.pair(goal.treated, goal.control), at


def as_outcome_model(outcome: Any) -> ValueModel:
    """A value model as it is, a regressor as one an arm."""
    if isinstance(outcome, type) or not hasattr(outcome, "default_folds"):
        check_regressor("outcome", outcome)
        return PerAction(outcome)
    check_value_model(outcome)
    model: ValueModel = outcome
    return model


def arm_means(nuisances: Nuisances, outcome: ValueModel, folds: int | None) -> tuple[Floats, Floats, list[Note], int]:
    """(n,) mu_0 and mu_1 at the units, each from its own fold's fit; warnings; how many folds."""
    control, treated = (nuisances.values(outcome, nuisances.target(Always(a), None, None, None), 1.0, folds) for a in (0, 1))
    return control.v, treated.v, treated.notes, treated.folds


def is_treatment_regression(propensity: Any) -> bool:
    """Whether it is a regressor of the treatment, and no behaviour model."""
    return hasattr(propensity, "predict") and not hasattr(propensity, "predict_proba") and not hasattr(propensity, "known")


def treatment_mean(nuisances: Nuisances, propensity: Any, folds: int | None) -> tuple[Floats, list[Note], int]:
    """(n,) e at the units, each from its own fold's fit; warnings; how many folds."""
    data = nuisances.data
    if not is_treatment_regression(propensity):
        fitted = nuisances.behavior(propensity, folds, None)
        notes = fitted.notes + in_sample(fitted.model, len(fitted.folds), "gives propensities for")
        return fitted.treated, notes, len(fitted.folds)
    treatment = replace(data, rewards=data.actions.astype(np.float64))
    mean = Nuisances(treatment, nuisances.seed, nuisances.weights).outcome_mean(propensity, folds)
    return mean.values, mean.notes + regression_note(propensity, mean.folds), mean.folds


def treatment_mean_at(nuisances: Nuisances, propensity: Any, at: NDArray[Any]) -> tuple[Floats, list[Note], int]:
    """(k,) e at any points (a mean over the fits where it is cross-fitted); warnings; how many folds."""
    data = nuisances.data
    if not is_treatment_regression(propensity):
        fitted = nuisances.behavior(propensity, None, None)
        rows = action_probabilities(fitted.policy, at, np.zeros(len(at), np.int64), 2)
        return rows[:, 1], fitted.notes, len(fitted.folds)
    features, seed = data.features(data.observations), derive_seed(nuisances.seed, "treatment")
    fit, notes = regress(propensity, features, data.actions.astype(np.float64), seed, nuisances.weights)
    return np.asarray(fit.predict(data.features(at)), np.float64).reshape(-1), list(notes), 1


def regression_note(learner: Any, folds: int) -> list[Note]:
    """A warning where a flexible regressor was not cross-fitted."""
    if folds > 1 or is_linear(learner):
        return []
    return [Note(InSampleWarning, f"{label(learner)} predicts the units that it learned from; use folds=5.")]
