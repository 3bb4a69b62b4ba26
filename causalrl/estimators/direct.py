"""The direct method: fitted Q-evaluation, which at horizon 1 is outcome regression."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats
from causalrl.data import Trajectories
from causalrl.diagnostics.record import Note, diagnostics_record, share
from causalrl.diagnostics.weights import NOTABLE_MASS
from causalrl.errors import EstimandError, SupportWarning
from causalrl.estimands import CATE, PolicyValue
from causalrl.estimate import Estimate
from causalrl.estimators.base import Estimator, Refitted, Score, estimate_from_score, goal_label, require_arms
from causalrl.estimators.second_stage import OnRequest, advice_on_intervals
from causalrl.inference.base import Evidence, Refit
from causalrl.inference.bootstrap import RefitBootstrap
from causalrl.inference.functionals import Sum
from causalrl.nuisances.crossfit import Nuisances, check_value_model
from causalrl.nuisances.records import Values
from causalrl.nuisances.tabular import TabularQ
from causalrl.nuisances.value import CompiledRefit, StartRefit, Target, ValueModel, ValueProblem
from causalrl.policies import Uniform


@dataclass(frozen=True)
class DirectMethod(Estimator):
    """Mean of V(s_0) = sum_a pi(a|s_0) Q(s_0, a) under a fitted Q: FQE, and at horizon 1 the g-formula.

    Its error is that of the model; no influence value tells it. The interval refits the model on resampled clusters, by default
    where that runs in a kernel (TabularQ, LinearQ), elsewhere on request. It knows the model's variance and not its bias (of a
    wrong regression, of the rule for decisions never logged).

    Args:
        q: value model.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, 3.0], [0, 1, 2])
        >>> crl.DirectMethod(crl.TabularQ()).estimate(data, crl.Uniform(2)).value
        2.0
    """

    q: ValueModel = field(default_factory=TabularQ)

    def policy_value(self, nuisances: Nuisances, goal: PolicyValue) -> Estimate:
        target, values, notes = self._start_values(nuisances, goal)
        start = values.v[target.steps.first]
        if self.q.known:
            score = Score(Sum(), start[:, None], notes=notes, fixed=not goal.policy.needs_behavior)
            return estimate_from_score(self, nuisances, goal, score)
        refit: Refit
        default = None
        if isinstance(self.q, CompiledRefit) and not goal.policy.needs_behavior:
            default = RefitBootstrap(seed=nuisances.seed)
            ones = np.ones(len(target.steps))
            refit = CompiledStart(self.q, ValueProblem(target, ones, goal.discount, goal.horizon, nuisances.seed))
        else:
            refit = Refitted(nuisances, partial(self.point, goal=goal))
        value = float(start.mean())
        evidence = Evidence(value, nuisances.data.clusters, refit=refit, default=default)
        mass = never_logged_mass(target)
        if mass > NOTABLE_MASS:
            text = f"{share(mass)} of the probability of target {goal.policy} lies on decisions never logged; Q extrapolates."
            notes = [*notes, Note(SupportWarning, text)]
        diagnostics = diagnostics_record(notes, folds=(None, 1), unsupported_mass=mass, **values.diagnostics)
        return Estimate(value, str(self), goal_label(goal), diagnostics, evidence, nuisances.data.fingerprint)

    def point(self, nuisances: Nuisances, goal: PolicyValue) -> float:
        target, values, _ = self._start_values(nuisances, goal)
        return float(np.average(values.v[target.steps.first], weights=nuisances.weights))

    def _start_values(self, nuisances: Nuisances, goal: PolicyValue) -> tuple[Target, Values, list[Note]]:
        steps = nuisances.steps(goal.horizon)
        steps.require_successors(str(self))
        target = nuisances.target(goal.policy, None, None, goal.horizon)
        values = nuisances.values(self.q, target, goal.discount, folds=1)
        return target, values, values.notes + nuisances.target_notes(goal.policy, None)

    def conditional_effect(self, nuisances: Nuisances, goal: CATE) -> Estimate:
        value = self.effect_at(nuisances, goal)
        refit = Refitted(nuisances, partial(self.effect_at, goal=goal), value.shape)
        default = OnRequest(advice_on_intervals(str(self)))
        evidence = Evidence(value, nuisances.data.clusters, refit=refit, default=default)
        diagnostics = diagnostics_record(folds=(None, 1))
        return Estimate(value, str(self), goal_label(goal), diagnostics, evidence, nuisances.data.fingerprint)

    def effect_at(self, nuisances: Nuisances, goal: CATE) -> Floats:
        """(k,) Q(x, treated) - Q(x, control)."""
        check_value_model(self.q)
        data = nuisances.data
        if (data.lengths > 1).any() or nuisances.steps(None).cut_early.any():
            raise EstimandError(
                "CATE: the data are sequential; a CATE is one decision at horizon 1. Ask a Contrast of two policies instead."
            )
        at = points_of(goal, data)
        require_arms(data, goal.treated, goal.control)
        target = nuisances.target(Uniform(data.n_actions), None, None, None)
        fold = nuisances.folds(1, None)[0]
        fitted = self.q.fit(ValueProblem(target, fold.train, 1.0, None, nuisances.seed))
        q = fitted.q(at, np.zeros(len(at), np.int64))
        for arm in (goal.treated, goal.control):
            if np.isnan(q[:, arm]).any():
                raise EstimandError(
                    f"CATE: no logged decision shows arm {arm}, so that its outcome is unknown. Compare logged arms."
                )
        return q[:, goal.treated] - q[:, goal.control]


def points_of(goal: CATE, data: Trajectories) -> NDArray[Any]:
    """The points of a CATE, their columns in the order of the data's."""
    if goal.at.ndim != data.observations.ndim or goal.at.shape[1:] != data.observations.shape[1:]:
        raise EstimandError(f"CATE: at has shape {goal.at.shape}, but the covariates have {data.observations.shape}.")
    if data.tabular and ((goal.at < 0) | (goal.at >= data.n_states)).any():
        row = int(np.flatnonzero((goal.at < 0) | (goal.at >= data.n_states))[0])
        raise EstimandError(f"CATE: at row {row} is state {goal.at[row]}; the data have states 0 to {data.n_states - 1}.")
    if goal.names is not None and goal.names != data.feature_names:
        if sorted(goal.names) != sorted(data.feature_names):
            raise EstimandError(f"CATE: at has columns {goal.names}, the covariates are {data.feature_names}.")
        return goal.at[:, [goal.names.index(name) for name in data.feature_names]]
    return goal.at


def never_logged_mass(target: Target) -> float:
    """Share of the target's probability at the logged steps on (state, action) pairs, or on actions, that were never logged."""
    steps = target.steps
    cell = steps.observations if steps.data.tabular else np.zeros(len(steps), np.int64)
    logged = np.zeros((steps.data.n_states or 1, steps.data.n_actions), np.bool_)
    logged[cell, steps.actions] = True
    return float(np.sum(target.at_steps * ~logged[cell]) / len(steps))


@dataclass(frozen=True, eq=False)
class CompiledStart:
    """Start values refitted in a kernel, under resampling counts (b, G)."""

    q: CompiledRefit
    problem: ValueProblem

    @cached_property
    def _refit(self) -> StartRefit:
        return self.q.start_refit(self.problem)

    def __call__(self, counts: Floats) -> Floats:
        return self._refit(np.ascontiguousarray(counts[:, self.problem.steps.data.clusters]))
