"""What the verdict on an estimate needs beside its own figures: agreement with the target, calibration, balance of the arms."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist
from typing import Any

import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.data import End, Trajectories
from causalrl.diagnostics.balance import standardized_differences
from causalrl.diagnostics.figures import Figures
from causalrl.diagnostics.verdict import EFFECT_RULES, judged
from causalrl.diagnostics.weights import FEW
from causalrl.estimands import PolicyValue
from causalrl.estimate import Estimate
from causalrl.inference.functionals import cluster_totals
from causalrl.kernels.ragged import agreement_by_time
from causalrl.nuisances.behavior import BehaviorFit, as_behavior
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.tabular import TabularQ

REACHED = 0.1
"""Share of the trajectories that must reach a step for agreement there to count: later ones hardly move the value."""


def judged_value(estimate: Estimate, estimator: Any, nuisances: Nuisances, goal: PolicyValue, baseline: bool) -> Estimate:
    """The estimate of a policy value with its agreement, the calibration of what it learned, and its verdict.

    An estimator without weights is judged by the share of decisions that nobody logged, which needs no behaviour policy that it
    would not learn itself; on vectors, where nearly no decision was logged before, by agreement too.

    Args:
        baseline: the estimator does not look at the target.
    """
    behavior, folds = (getattr(estimator, name, None) for name in ("behavior", "folds"))
    target = nuisances.target(goal.policy, behavior, folds, goal.horizon)
    steps, data = target.steps, nuisances.data
    own = isinstance(target.policy, BehaviorFit)  # every logged decision agrees with who took it
    under_way, agreeing = agreement_by_time(np.ones(len(steps)) if own else target.taken, steps.offsets)
    values = {
        "agreement": agreeing / under_way,
        "calibration": calibration_of(nuisances, behavior, folds, goal.horizon, estimate.diagnostics["behavior"]),
    }
    diagnostics = estimate.diagnostics.updated(**values, verdict=None, reasons=None)
    alone = diagnostics["ess"] is None
    many = (under_way >= max(FEW, REACHED * data.n)) & (alone and not data.tabular)
    q = getattr(estimator, "q", None)
    pooled = alone and goal.horizon is not None and isinstance(q, TabularQ) and not q.by_time
    figures = Figures(
        diagnostics,
        data.n,
        estimate.evidence.n_clusters,
        steps=len(steps) / data.n,
        agreeing=int(agreeing[many].min()) if many.any() else None,
        baseline=baseline and not own,
        flat=is_flat(estimate, steps.rewards),
        fixed_end=fixed_end(data) if pooled else None,
        known=estimate.fixed_nuisances,
    )
    return replace(estimate, diagnostics=judged(figures))


def is_flat(estimate: Estimate, rewards: Floats) -> bool:
    """Whether every influence value is 0 up to rounding, although the rewards vary."""
    evidence = estimate.evidence
    if evidence.functional is None or evidence.linear is not None:
        return False
    return bool(np.abs(evidence.influence).max() < 1e-9 * np.ptp(rewards))


def fixed_end(data: Trajectories) -> int | None:
    """The length of all trajectories of states, where all are terminated there and a last state is met earlier too."""
    length, last = int(data.lengths[0]), data.offsets[1:] - 1
    if length == 1 or (data.lengths != length).any() or (data.end != End.TERMINATED).any():
        return None
    return length if np.isin(data.observations[last], np.delete(data.observations, last)).any() else None


def calibration_of(nuisances: Nuisances, behavior: Any, folds: int | None, horizon: int | None, used: str | None) -> float | None:
    """The recalibration slope of the behaviour model that an estimate names, where it was learned and cross-fitted."""
    if used is None or used != str(as_behavior(behavior, nuisances.data)):
        return None
    return nuisances.behavior(behavior, folds, horizon).calibration


def judged_effect(estimate: Estimate, nuisances: Nuisances, treated: int, control: int, weights: Floats | None) -> Estimate:
    """An estimate of an effect with the balance of its arms before and after weighting, and the verdict that takes account of it.

    Known propensities balance the arms on average and leave the chance of their weights; learned ones balance the sample itself,
    and may leave what a trial of the same size leaves.

    Args:
        weights: (n,) with which the arms are compared; None where there are none.
    """
    data = nuisances.data
    arms: tuple[Bools, Bools] = data.actions == treated, data.actions == control
    if data.observations.ndim == 1 or (data.lengths > 1).any() or min(arm.sum() for arm in arms) < 2:
        return estimate
    before = standardized_differences(data.observations, *arms)
    after = None if weights is None else standardized_differences(data.observations, *arms, weights)
    known = estimate.fixed_nuisances
    even, given = np.ones(data.n), np.ones(data.n) if weights is None or not known else weights
    own = Figures(
        estimate.diagnostics.updated(smd_before=before, smd_after=after),
        estimate.n,
        estimate.evidence.n_clusters,
        flat=is_flat(estimate, data.rewards),
        known=known,
        chance_before=chance_differences(data.observations, *arms, even, data.clusters),
        chance_after=chance_differences(data.observations, *arms, given, data.clusters),
    )
    return replace(estimate, diagnostics=judged(own, EFFECT_RULES))


def chance_differences(features: Floats, treated: Bools, control: Bools, weights: Floats, clusters: Ints) -> Floats:
    """(d,) standardised mean differences that all d columns together stay below with probability 95% in balance.

    z s / sd with z the normal quantile of Bonferroni's 1 - 0.05 / (2 d), s the standard error of the difference of weighted means
    by the jackknife over clusters, near sd sqrt(1 / ess1 + 1 / ess0) where clusters are single units and weights do not depend on
    the column, and sd the pooled standard deviation before weighting. Without bound where an arm is one cluster.
    """
    changes, variance = np.zeros((int(clusters.max()) + 1, features.shape[1])), np.zeros(features.shape[1])
    for arm, sign in ((treated, 1.0), (control, -1.0)):
        own = np.where(arm, weights, 0.0) / weights[arm].sum()
        left = 1 - cluster_totals(own, clusters)[:, None]  # weight without each cluster
        if left.min() < 1e-9:
            return np.full(features.shape[1], np.finfo(np.float64).max)
        changes += sign * cluster_totals(own[:, None] * (features - own @ features), clusters) / left
        variance += features[arm].var(axis=0, ddof=1) / 2
    errors = np.sqrt(np.square(changes).sum(axis=0) / np.where(variance > 0, variance, 1.0))
    return NormalDist().inv_cdf(1 - 0.05 / (2 * features.shape[1])) * np.where(variance > 0, errors, 0.0)
