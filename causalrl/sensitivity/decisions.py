"""The decision at which a logger may have known more, laid out for the kernels of `causalrl.kernels.expectile`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from causalrl.checks import Floats
from causalrl.errors import SensitivityError
from causalrl.estimands import PolicyValue
from causalrl.estimators.refits import in_blocks
from causalrl.estimators.weighting import IS
from causalrl.kernels.expectile import Groups, Path, linear_curves, naive_curves, split_all, tabular_curves
from causalrl.nuisances.behavior import BehaviorFit, CompiledPropensities
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.features import Standardized
from causalrl.nuisances.records import Ratios

Curves: TypeAlias = "Callable[[Decision, Floats, Floats, Floats], Floats]"
"""Maps a decision, propensities (B or 1, M), gammas (K,) and trajectory weights (B, n) to lower and upper bounds (B, 2, K)."""


@dataclass(frozen=True, eq=False)
class Decision:
    """One step of every trajectory, under one target.

    Attributes:
        ratios: of the target. step: t. discount: of the returns.
    """

    ratios: Ratios
    step: int
    discount: float

    @classmethod
    def of(cls, estimator: IS, nuisances: Nuisances, goal: PolicyValue, step: int) -> Decision:
        """With the ratios of an importance estimator.

        Raises:
            SensitivityError: where no record reaches the step.
        """
        longest = int(np.diff(nuisances.steps(goal.horizon).offsets).max())
        if step >= longest:
            what = f"the horizon is {goal.horizon}" if longest == goal.horizon else f"the longest record has {longest} steps"
            raise SensitivityError(f"step: {step}, but {what}, and the first step is 0; pass a step from 0 to {longest - 1}.")
        return cls(nuisances.ratios(goal.policy, estimator.behavior, estimator.folds, goal.horizon), step, goal.discount)

    @cached_property
    def natural(self) -> bool:
        """The target is what the logger did, whatever it knew."""
        return isinstance(self.ratios.target.policy, BehaviorFit)

    @cached_property
    def path(self) -> Path:
        """What the kernels walk along."""
        steps = self.ratios.target.steps
        paid, early = steps.discounted_rewards(self.discount), steps.time < self.step
        past, future = (np.add.reduceat(np.where(part, paid, 0.0), steps.first) for part in (early, ~early))
        taken = np.ones(len(steps)) if self.natural else np.ascontiguousarray(self.ratios.target.taken)
        return Path(taken, steps.offsets, self.step, past, future)

    @property
    def logged(self) -> Floats:
        """(1, M) propensities of the logged actions."""
        return np.ones((1, len(self.path.target))) if self.natural else self.ratios.behavior.logged[None]

    @cached_property
    def groups(self) -> Groups:
        """Trajectories with the same state and action at the step; with the same action where observations are vectors."""
        steps = self.ratios.target.steps
        members = np.flatnonzero(np.diff(steps.offsets) > self.step)
        at = steps.first[members] + self.step
        codes = steps.actions[at].astype(np.int64)
        if steps.data.tabular:
            codes = steps.observations[at] * steps.data.n_actions + codes
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        return Groups(members[order], np.append(starts, len(members)).astype(np.int64))

    @cached_property
    def design(self) -> Floats:
        """(n, p) intercept and standardised features at the step; zero where a record ends before it."""
        steps = self.ratios.target.steps
        members, features = self.groups.members, Standardized(None, steps)
        out = np.zeros((steps.data.n, 1 + features.width))
        out[members] = features.with_intercept(steps.observations[steps.first[members] + self.step])
        return out

    def effective_sizes(self) -> tuple[Floats, Floats]:
        """Total weight of each group that a confounder can move, as a share of the trajectories, and the effective number of
        trajectories that carry it, (sum w)^2 / sum w^2; 0 where all have weight 0, as has all that a natural course moves."""
        if self.natural:
            return np.zeros(1), np.zeros(1)
        _, weights, _ = split_all(self.path, self.logged[0], True, np.ones(self.ratios.target.steps.data.n))
        own, first = weights[self.groups.members], self.groups.starts[:-1]
        mass, squares = np.add.reduceat(own, first), np.add.reduceat(own**2, first)
        return mass, np.divide(mass**2, squares, out=np.zeros_like(mass), where=squares > 0)

    @property
    def compiled(self) -> bool:
        """Whether propensities can be learned anew in a kernel, or need not be."""
        model = self.ratios.behavior.model
        alone = len(self.ratios.behavior.folds) == 1 and isinstance(model, CompiledPropensities) and model.compiled
        return self.natural or (not self.ratios.made_of_behavior and (model.known or alone))

    def refitted(self, curves: Curves, gammas: Floats, drawn: Floats) -> Floats:
        """(B, 2, K) bounds under trajectory weights (B, n), with the propensities of each."""
        refit = None if self.natural else self.ratios.behavior.refit
        if refit is None:
            return curves(self, self.logged, gammas, drawn)

        def block(weights: Floats) -> Floats:
            return curves(self, refit(weights, np.zeros(weights.shape, np.int64)), gammas, weights)

        return in_blocks(block, drawn, len(self.path.target))


def expectile_bounds(decision: Decision, propensities: Floats, gammas: Floats, drawn: Floats) -> Floats:
    """The bounds of Namkoong et al.: an expectile a state and action, or one that is linear in the features an action."""
    if decision.natural:
        return unmoved(decision, propensities, gammas, drawn)
    if decision.ratios.target.steps.data.tabular:
        return tabular_curves(decision.path, propensities, decision.groups, gammas, drawn)
    return linear_curves(decision.path, propensities, decision.groups, decision.design, gammas, drawn)


def naive_bounds(decision: Decision, propensities: Floats, gammas: Floats, drawn: Floats) -> Floats:
    """The bounds by which every weight at the step may be gamma times larger or smaller."""
    if decision.natural:
        return unmoved(decision, propensities, gammas, drawn)
    return naive_curves(decision.path, propensities, gammas, drawn)


def unmoved(decision: Decision, propensities: Floats, gammas: Floats, drawn: Floats) -> Floats:
    """What was done is known, whatever the logger knew: the value at gamma = 1, at every gamma."""
    return naive_curves(decision.path, propensities, np.ones_like(gammas), drawn)
