"""What the verdict on an estimate needs beside its own figures: agreement with the target, calibration, balance of the arms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from causalrl.checks import Bools, Floats
from causalrl.diagnostics.balance import standardized_differences
from causalrl.diagnostics.verdict import BALANCE_RULES, Figures, judged
from causalrl.diagnostics.weights import FEW
from causalrl.estimands import PolicyValue
from causalrl.estimate import Estimate
from causalrl.kernels.ragged import agreement_by_time
from causalrl.nuisances.behavior import BehaviorFit, as_behavior
from causalrl.nuisances.crossfit import Nuisances


def judged_value(estimate: Estimate, estimator: Any, nuisances: Nuisances, goal: PolicyValue, baseline: bool) -> Estimate:
    """The estimate of a policy value with its agreement, the calibration of what it learned, and its verdict.

    An estimator without weights is judged by the share of decisions that nobody logged and by agreement; neither needs
    a behaviour policy that it would not learn itself.

    Args:
        baseline: the estimator does not look at the target.
    """
    behavior, folds = (getattr(estimator, name, None) for name in ("behavior", "folds"))
    target = nuisances.target(goal.policy, behavior, folds, goal.horizon)
    steps, data = target.steps, nuisances.data
    own = isinstance(target.policy, BehaviorFit)  # every logged decision agrees with who took it
    under_way, agreeing = agreement_by_time(np.ones(len(steps)) if own else target.taken, steps.offsets)
    many = under_way >= FEW
    values = {
        "agreement": agreeing / under_way,
        "calibration": calibration_of(nuisances, behavior, folds, goal.horizon, estimate.diagnostics["behavior"]),
    }
    diagnostics = estimate.diagnostics.updated(**values, verdict=None, reasons=None)
    few = int(agreeing[many].min()) if many.any() else None
    clusters = estimate.evidence.n_clusters
    figures = Figures(diagnostics, data.n, clusters, len(steps) / data.n, few, baseline and not own)
    return replace(estimate, diagnostics=judged(figures))


def calibration_of(nuisances: Nuisances, behavior: Any, folds: int | None, horizon: int | None, used: str | None) -> float | None:
    """The recalibration slope of the behaviour model that an estimate names, where it was learned and cross-fitted."""
    if used is None or used != str(as_behavior(behavior, nuisances.data)):
        return None
    return nuisances.behavior(behavior, folds, horizon).calibration


def judged_effect(estimate: Estimate, nuisances: Nuisances, treated: int, control: int, weights: Floats | None) -> Estimate:
    """An estimate of an effect with the balance of its arms before and after weighting, and the verdict that takes account of it.

    Args:
        weights: (n,) with which the arms are compared; None where there are none.
    """
    data = nuisances.data
    arms: tuple[Bools, Bools] = data.actions == treated, data.actions == control
    if data.observations.ndim == 1 or (data.lengths > 1).any() or min(arm.sum() for arm in arms) < 2:
        return estimate
    before = standardized_differences(data.observations, *arms)
    after = None if weights is None else standardized_differences(data.observations, *arms, weights)
    diagnostics = estimate.diagnostics.updated(smd_before=before, smd_after=after)
    own = Figures(diagnostics, estimate.n, estimate.evidence.n_clusters)
    return replace(estimate, diagnostics=judged(own, BALANCE_RULES))
