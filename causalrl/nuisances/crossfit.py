"""`Nuisances`: everything learned from one data set, learned once, with the one cross-fitting loop."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from causalrl.checks import Floats, Ints, seed_number
from causalrl.data import Steps, Trajectories
from causalrl.derived_policies import NaturalCourse
from causalrl.diagnostics.record import Note, share
from causalrl.errors import DataError, EstimandError, EstimatedBehaviorWarning, SupportError, SupportWarning, TerminationWarning
from causalrl.kernels.ragged import cumulative_log_weights
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.behavior import BehaviorFit, BehaviorLike, BehaviorModel, Logged, as_behavior
from causalrl.nuisances.fitted_q import FittedQ
from causalrl.nuisances.ratio import RatioModel, RatioProblem
from causalrl.nuisances.records import FittedBehavior, Fold, MarginalWeights, OutcomeMean, Ratios, Values, log_ratios
from causalrl.nuisances.value import Target, ValueModel, ValueProblem
from causalrl.policies import Policy

Fit = TypeVar("Fit")


class Nuisances:
    """What estimators share on one data set: steps, folds, behaviour policies, ratios and values, each made on first use.

    Args:
        data: the trajectories.
        seed: root of every random number.
        weights: (n,) whole-number multiplicity of each trajectory in a resample, at least 1; None is the data as they are.
    """

    @classmethod
    def resampled(cls, data: Trajectories, seed: int, counts: Floats) -> Nuisances:
        """Of a resample that draws trajectory i counts[i] times; what is not drawn takes no part."""
        drawn = np.flatnonzero(counts)
        return cls(data.take(drawn), seed, counts[drawn])

    def __init__(self, data: Trajectories, seed: int = 0, weights: Floats | None = None) -> None:
        require_trajectories(data)
        self.data, self.seed, self.weights, self._recoded = data, seed_number(seed), weights, False
        self._memo: dict[tuple[Hashable, ...], Any] = {}
        self._kept: list[Any] = []

    def _once(self, key: tuple[Hashable, ...], make: Callable[[], Fit]) -> Fit:
        if key not in self._memo:
            self._memo[key] = make()
        value: Fit = self._memo[key]
        return value

    def _same(self, item: Any) -> Hashable:
        """A key for a policy or a learner: itself, or its identity where a user's class cannot be hashed."""
        try:
            hash(item)
        except TypeError:
            self._kept.append(item)
            return id(item)
        key: Hashable = item
        return key

    @cached_property
    def _n_clusters(self) -> int:
        return int(self.data.clusters.max()) + 1

    def split(self, index: int) -> Nuisances:
        """The same with folds split anew; the first split is this one."""
        if index == 0:
            return self
        seed = derive_seed(self.seed, "split", index)
        return self._once(("split", index), lambda: Nuisances(self.data, seed, self.weights))

    def pair(self, treated: int, control: int) -> Nuisances:
        """Those of the single decisions for one of two arms, coded 1 and 0; logged propensities are those among the two."""
        if (treated, control, self.data.n_actions) == (1, 0, 2):
            return self
        return self._once(("pair", treated, control), lambda: self._make_pair(treated, control))

    def _make_pair(self, treated: int, control: int) -> Nuisances:
        arms = np.flatnonzero(np.isin(self.data.actions, (treated, control)))
        data, logged = self.data.take(arms), self.data.behavior_probabilities
        if logged is not None and logged.ndim == 1:
            logged = None if self.data.n_actions > 2 else logged[arms]
        elif logged is not None:
            both = logged[arms][:, [control, treated]]
            logged = both / both.sum(axis=1, keepdims=True)
        data = replace(data, actions=(data.actions == treated).astype(np.int64), n_actions=2, behavior_probabilities=logged)
        made = Nuisances(data, self.seed, None if self.weights is None else self.weights[arms])
        made._recoded = True
        return made

    def _refuse_recoded(self, field: str, model: Any) -> None:
        """What is known is known of the arms as the data number them."""
        if self._recoded and model.known and not isinstance(model, Logged):
            raise EstimandError(
                f"{field}: {model} is given for the actions of the data, and the two arms of this effect are numbered anew. Code "
                "the treated 1 and the controls 0 in data of these two arms alone, or learn it."
            )

    def outcome_mean(self, regressor: Any, folds: int | None) -> OutcomeMean:
        """E[r | observation] of single decisions, whatever the action; `folds` None is 1 for a linear regressor, else 5."""
        from causalrl.nuisances.regression import is_linear, require_regressor

        require_regressor(regressor)
        default = 1 if is_linear(regressor) else min(5, self._n_clusters)
        count = default if folds is None else folds
        return self._once(("outcome", self._same(regressor), count), lambda: self._fit_outcome_mean(regressor, count))

    def _fit_outcome_mean(self, regressor: Any, count: int) -> OutcomeMean:
        from causalrl.nuisances.regression import fit_noting, seeded_clone

        steps = self.steps(None)
        features, values, notes = steps.data.features(steps.observations), np.empty(len(steps)), list[Note]()
        for fold in self.folds(count, None):
            rows = np.repeat(np.arange(len(steps)), fold.train.astype(np.int64))
            learner = seeded_clone(regressor, derive_seed(self.seed, "outcome", fold.index))
            fit, noted = fit_noting(learner, features[rows], steps.rewards[rows])
            values[fold.test] = fit.predict(features[fold.test])
            notes += noted
        return OutcomeMean(values, notes, count)

    def steps(self, horizon: int | None) -> Steps:
        return self._once(("steps", horizon), lambda: self.data.steps(horizon))

    def folds(self, count: int, horizon: int | None) -> list[Fold]:
        """Folds that split clusters at random, the same for every nuisance."""
        return self._once(("folds", count, horizon), lambda: self._make_folds(count, horizon))

    def _count(self, model: BehaviorModel | RatioModel | ValueModel, folds: int | None) -> int:
        if model.known:
            return 1
        return min(model.default_folds, self._n_clusters) if folds is None else folds

    def _make_folds(self, count: int, horizon: int | None) -> list[Fold]:
        steps, clusters = self.steps(horizon), self._n_clusters
        if not 1 <= count <= clusters:
            raise DataError(f"folds: {count} folds of {clusters} clusters; use 1 to {clusters}.")
        of_cluster = cluster_folds(self.seed, clusters, count).astype(np.min_scalar_type(count))
        of_step = of_cluster[self.data.clusters][steps.trajectory]
        weights = self._once(("weights", horizon), lambda: self._step_weights(steps))
        return [Fold(k, count, of_step, weights) for k in range(count)]

    def behavior(self, behavior: BehaviorLike | None, folds: int | None, horizon: int | None) -> FittedBehavior:
        """The behaviour policy; `folds` None is the model's default."""
        model = as_behavior(behavior, self.data)
        self._refuse_recoded("behavior", model)
        count = self._count(model, folds)
        return self._once(("behavior", self._same(model), count, horizon), lambda: self._fit_behavior(model, count, horizon))

    def _fit_behavior(self, model: BehaviorModel, count: int, horizon: int | None) -> FittedBehavior:
        steps, folds = self.steps(horizon), self.folds(count, horizon)
        fits = [model.fit(steps, fold.train, derive_seed(self.seed, "behavior", fold.index)) for fold in folds]
        logged = fits[0].logged(steps, folds[0].test) if len(fits) == 1 else np.empty(len(steps))
        for fold, fit in zip(folds, fits, strict=True) if len(fits) > 1 else ():
            logged[fold.test] = fit.logged(steps, fold.test)
        impossible = ~(logged > 0)
        if impossible.any():
            j = int(np.flatnonzero(impossible)[0])
            mend = "Correct the policy." if model.known else "Use folds=1, pool rare actions, or a smoother model."
            raise SupportError(
                f"behavior: {model} gives the logged action {steps.actions[j]} of step {steps.rows[j]} (trajectory "
                f"{self.data.ids[steps.trajectory[j]]}, t = {steps.time[j]}) probability 0, yet it was taken. {mend}"
            )
        return FittedBehavior(model, steps, folds, fits, logged)

    def target(self, policy: Policy, behavior: BehaviorLike | None, folds: int | None, horizon: int | None) -> Target:
        """The bound target; one that is defined through the behaviour policy is bound to its fit, folds and all."""
        if self.data.n_actions == 0:
            raise DataError("actions: they are continuous, and estimators need discrete ones; bin them into integers first.")
        fitted = self.behavior(behavior, folds, horizon) if policy.needs_behavior else None
        own: tuple[Hashable, ...] = () if fitted is None else (self._same(fitted.model), len(fitted.folds))
        known = None if fitted is None else fitted.policy
        return self._once(
            ("target", self._same(policy), horizon, *own),
            lambda: Target(policy.bind(self.data.n_actions, known), self.steps(horizon), by_row=policy.needs_behavior),
        )

    def ratios(self, policy: Policy, behavior: BehaviorLike | None, folds: int | None, horizon: int | None) -> Ratios:
        """Importance ratios of the policy along the steps."""
        fitted = self.behavior(behavior, folds, horizon)
        key = ("ratios", self._same(policy), self._same(fitted.model), len(fitted.folds), horizon)
        notes = fitted.notes + self.target_notes(policy, behavior) + _ends_note(fitted.steps, pooled=False)
        target = self.target(policy, behavior, folds, horizon)
        return self._once(key, lambda: self._make_ratios(target, fitted, notes, policy.needs_behavior))

    def target_notes(self, policy: Policy, behavior: BehaviorLike | None) -> list[Note]:
        """A warning where the target is made of a learned behaviour policy (and is not that policy itself)."""
        if not policy.needs_behavior or isinstance(policy, NaturalCourse) or as_behavior(behavior, self.data).known:
            return []
        text = (
            f"target {policy} is made of the estimated behaviour policy, whose uncertainty is left out: use RefitBootstrap(200)."
        )
        return [Note(EstimatedBehaviorWarning, text)]

    def _make_ratios(self, target: Target, fitted: FittedBehavior, notes: list[Note], made_of_behavior: bool) -> Ratios:
        steps = fitted.steps
        if isinstance(target.policy, BehaviorFit):
            return Ratios(fitted, target, np.zeros(len(steps)), 0.0, notes, made_of_behavior)
        mass = fitted.unsupported_mass(target)
        if mass:
            text = f"{share(mass)} of the probability of {target.policy} lies on actions that the behaviour policy never takes."
            notes = [*notes, Note(SupportWarning, text)]
        log_weights = cumulative_log_weights(log_ratios(target, fitted), steps.offsets)
        return Ratios(fitted, target, log_weights, mass, notes, made_of_behavior)

    def values(self, model: ValueModel, target: Target, discount: float, folds: int | None) -> Values:
        """Q and V of the target along the steps; `folds` None is the model's default."""
        check_value_model(model)
        self._refuse_recoded("q", model)
        steps, count = target.steps, self._count(model, folds)

        def problem_of(fold: Fold) -> ValueProblem:
            return ValueProblem(target, fold.train, discount, steps.horizon, derive_seed(self.seed, "value", fold.index))

        splits = self.folds(count, steps.horizon)
        shared = model.known or not problem_of(splits[0]).sequential
        key = ("q", self._same(model), count, steps.horizon, *(() if shared else (target, discount)))
        fitted = self._once(key, lambda: FittedQ.learn(model, splits, problem_of))
        values = fitted.values(target, discount)
        if model.known:
            return values
        return replace(values, notes=_ends_note(steps, pooled=not getattr(model, "by_time", False)) + values.notes)

    def marginal(
        self, model: RatioModel, target: Target, ratios: Ratios | None, discount: float, folds: int | None
    ) -> MarginalWeights:
        """Marginal importance weights of the target along the steps; `folds` None is the model's default.

        Args:
            ratios: importance ratios, where the model needs them.
        """
        steps, count = target.steps, self._count(model, folds)
        logs, logged = (None, None) if ratios is None else (ratios.log_ratios, ratios.behavior.logged)
        weights, lost = np.empty(len(steps)), list[Floats]()
        notes = _ends_note(steps, pooled=not getattr(model, "by_time", True))
        for fold in self.folds(count, steps.horizon):
            seed = derive_seed(self.seed, "ratio", fold.index)
            problem = RatioProblem(target, logs, fold.train, discount, steps.horizon, seed, logged)
            fit = model.fit(problem)
            weights[fold.test] = fit.at(fold.test)
            lost += [] if fit.lost_mass is None else [fit.lost_mass]
            notes += fit.notes
        return MarginalWeights(weights, notes, count, np.mean(lost, axis=0) if lost else None)

    def _step_weights(self, steps: Steps) -> Floats:
        return np.ones(len(steps)) if self.weights is None else self.weights[steps.trajectory]

    def forget(self, policy: Policy) -> None:
        """Drop what was made for a policy; it is made again where it is asked for."""
        own = self._same(policy)
        targets = {made for key, made in self._memo.items() if key[0] == "target" and key[1] == own}
        self._memo = {key: made for key, made in self._memo.items() if not ({own} | targets).intersection(key)}
        self._kept = [item for item in self._kept if item is not policy]
        for made in self._memo.values():
            if isinstance(made, Nuisances):
                made.forget(policy)


def cluster_folds(seed: int, clusters: int, count: int) -> Ints:
    """(G,) random fold of each cluster, as many clusters in each as in any other, or one more."""
    fold: Ints = np.random.default_rng(derive_seed(seed, "folds")).permutation(clusters) % count
    return fold


def _ends_note(steps: Steps, pooled: bool) -> list[Note]:
    """A warning where a time limit may have been logged as the end of the process, and that would change the answer."""
    longest = int(steps.data.lengths.max())
    beyond = steps.horizon is None or steps.horizon > longest
    if not steps.end_together or not (pooled or beyond):
        return []
    text = (
        f"all records are marked TERMINATED, and many stop at step {longest}, as if only the record stopped there. "
        "If so, build the data with end=TRUNCATED for them; else use TabularQ(by_time=True) and a horizon of that many steps."
    )
    return [Note(TerminationWarning, text)]


def require_trajectories(data: object) -> None:
    """Refuse other data."""
    if not isinstance(data, Trajectories):
        raise DataError(
            f"data: {type(data).__name__} is no Trajectories; build one with from_frame, from_cross_section or from_arrays."
        )


def check_value_model(model: Any) -> None:
    """Refuse what `q=` does not take."""
    if isinstance(model, type):
        raise EstimandError(f"q: {model.__name__} is a class; pass an object, {model.__name__}(...).")
    shaped = all(hasattr(model, name) for name in ("default_folds", "known", "fit")) and not hasattr(model, "needs_behavior")
    if not shaped or "problem" not in inspect.signature(model.fit).parameters:
        raise EstimandError(f"q: {model!r} is no value model; wrap a regressor as PerAction(regressor) or Pooled(regressor).")
