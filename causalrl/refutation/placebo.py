"""Placebo treatment: the actions are permuted, so that what was done no longer has an effect on what followed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalrl.checks import Floats, Ints, array_of, flag
from causalrl.data import Trajectories
from causalrl.errors import DataError
from causalrl.estimands import Estimand, PolicyValue
from causalrl.estimators.base import Estimator
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.behavior import KnownPropensity, Logged
from causalrl.policies import Policy, TabularPolicy
from causalrl.refutation.base import (
    Question,
    Refutation,
    Refuter,
    check_replicates,
    first_finding,
    mean_p_value,
    replicated,
    with_changed_columns,
    without_rounding,
)


@dataclass(frozen=True, eq=False)
class PlaceboTreatment(Refuter):
    """The actions permuted: among the decisions in the same state where states are integers, among all of them elsewhere.

    A permuted action has the probability n_a / n of its stratum whatever else is in the record, so that it changes nothing:
    every effect is 0, and every policy has the value of the behaviour policy. The value of a policy is therefore compared with
    that of the logged shares of the actions (by state where these are integers), estimated on the same permuted data.

    Two p-values, with T_r the estimated effect (or difference of the two values) on permuted data r and T that on the data:

    - `p_value`, of E[T_r | data] = 0, by Student's t of the R replicates: whether the estimator, its nuisances learned anew,
      finds an effect where there is none. It says nothing of confounding, which the permutation removes.
    - `permutation_p_value` = (1 + #{|T_r| >= |T|}) / (R + 1), of no effect of the action on anybody, if within a stratum the
      actions are as good as permuted: exact in a randomised trial, and where the strata are all that is adjusted for; elsewhere
      (covariates that are adjusted for by a model) only a rough guide, since permuted data have better overlap. None where
      clusters hold several trajectories and no strata are given: their decisions are not exchangeable with those of others.

    The permutation's own probabilities take the place of logged ones and of `KnownPropensity`, which are those of the actions
    that were taken; learned ones are learned anew.

    Args:
        replicates: number of permutations R, at least 2.
        strata: (N,) labels of the decisions within which actions are permuted; None is as above. They have to be known to the
            estimator: where it does not adjust for them, their confounding is found.
        by_time: permute among the decisions at the same step of the record only.

    Raises:
        DataError: for fewer than 2 replicates; from `refute`, for strata of another length, or in which no action can move.

    Example:
        >>> import causalrl as crl
        >>> from simulators import SepsisSimulator
        >>> simulator = SepsisSimulator()
        >>> data = simulator.sample(200, simulator.physician(0.3), horizon=3, seed=0)
        >>> goal = crl.PolicyValue(simulator.physician(0.15), horizon=3)
        >>> crl.refute(crl.DR(q=crl.TabularQ()), data, goal, crl.PlaceboTreatment(20)).values.shape
        (20,)
    """

    replicates: int = 100
    strata: NDArray[Any] | None = None
    by_time: bool = False

    def __init__(self, replicates: int = 100, *, strata: ArrayLike | None = None, by_time: bool = False) -> None:
        check_replicates(replicates)
        object.__setattr__(self, "replicates", replicates)
        object.__setattr__(self, "strata", None if strata is None else array_of("strata", strata))
        object.__setattr__(self, "by_time", flag("by_time", by_time))

    def examine(self, question: Question) -> Refutation:
        data, goal = question.data, question.goal
        estimator, known = _with_permuted_propensities(question.estimator)
        permutation = Permutation(data, self._codes(data), known or data.behavior_probabilities is not None)
        goals = _compared(goal, data)
        asked = replace(question, estimator=estimator)
        values = with_changed_columns(
            asked, goals, lambda r: permutation.draw(derive_seed(question.seed, "placebo", r)), self.replicates
        )
        references = values[:, 1] if len(goals) > 1 else np.zeros(len(values))
        effects = without_rounding(values[:, 0], references)
        own = replicated(question, goals, lambda r: data, 1)[0]
        observed = abs(own[0] - own[1]) if len(goals) > 1 else abs(own[0])
        p_value = mean_p_value(effects)
        permuted = None
        if self.strata is not None or int(data.clusters.max()) + 1 == data.n:
            permuted = (1 + int(np.sum(np.abs(effects) >= observed * (1 - 1e-12)))) / (1 + len(effects))
        found = _findings(effects, p_value, permuted, permutation)
        return Refutation(str(self), question.estimate, values[:, 0], references, p_value, found, permuted)

    def _codes(self, data: Trajectories) -> Ints:
        """(N,) stratum of each decision."""
        count = len(data.rewards)
        labels = self.strata if self.strata is not None else data.observations if data.tabular else np.zeros(count, np.int64)
        if labels.shape != (count,):
            raise DataError(f"strata: shape {labels.shape}, but the data have {count} decisions; pass one label a decision.")
        codes = np.unique(labels, return_inverse=True)[1]
        if self.by_time:
            time = np.arange(count) - np.repeat(data.offsets[:-1], data.lengths)
            codes = np.unique(codes * (int(time.max()) + 1) + time, return_inverse=True)[1]
        return codes.astype(np.int64)


@dataclass(frozen=True, eq=False)
class Permutation:
    """Actions permuted within strata.

    Attributes:
        data: as they are. codes: (N,) stratum of each decision. logged: give the permuted data their propensities.
    """

    data: Trajectories
    codes: Ints
    logged: bool

    def __post_init__(self) -> None:
        if not self._varies:
            raise DataError(
                "strata: within each all actions are the same, so that none can be permuted. Use coarser strata, or "
                "leave them out."
            )

    @cached_property
    def _slots(self) -> Ints:
        """(N,) the decisions, stratum by stratum."""
        return np.argsort(self.codes, kind="stable")

    @cached_property
    def _varies(self) -> bool:
        actions = self.data.actions.reshape(len(self.codes), -1)
        first = np.unique(self.codes, return_index=True)[1]
        return bool((actions != actions[first][self.codes]).any())

    @cached_property
    def propensities(self) -> Floats | None:
        """(N, A) probabilities of a permuted action: the shares of its stratum."""
        return stratum_shares(self.codes, self.data.actions, self.data.n_actions)[self.codes] if self.logged else None

    @cached_property
    def fixed(self) -> float:
        """Share of the decisions that are alone in their stratum, whose action never moves."""
        return float(np.mean(np.bincount(self.codes)[self.codes] == 1))

    def draw(self, seed: int) -> Trajectories:
        """The data with permuted actions."""
        rng = np.random.default_rng(seed)
        if not self.codes.any():
            return self.reordered(rng.permutation(len(self.codes)))
        order = np.empty(len(self.codes), np.int64)
        order[self._slots] = np.lexsort((rng.random(len(self.codes)), self.codes))
        return self.reordered(order)

    def reordered(self, order: Ints) -> Trajectories:
        """The data in which decision j has the action of decision order[j]."""
        return replace(self.data, actions=self.data.actions[order], behavior_probabilities=self.propensities)


def stratum_shares(codes: Ints, actions: Ints, n_actions: int) -> Floats:
    """(S, A) shares of the actions in each stratum; equal ones where there is none of it."""
    counts = np.bincount(codes * n_actions + actions, minlength=(int(codes.max()) + 1) * n_actions).reshape(-1, n_actions)
    totals = counts.sum(axis=1, keepdims=True)
    return np.where(totals > 0, counts / np.maximum(totals, 1), 1 / n_actions)


@dataclass(frozen=True, eq=False)
class LoggedShares(Policy):
    """Every action with its share among the logged ones, whatever the observation."""

    shares: Floats

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        return np.tile(self.shares, (len(observations), 1))


def _compared(goal: Estimand, data: Trajectories) -> tuple[Estimand, ...]:
    """The goal, and for the value of a policy that of the logged shares beside it."""
    if not isinstance(goal, PolicyValue):
        return (goal,)
    policy: Policy
    if data.tabular:
        shares = stratum_shares(data.observations, data.actions, data.n_actions)
        unseen = np.full((data.n_states - len(shares), data.n_actions), 1 / data.n_actions)
        policy = TabularPolicy(np.concatenate([shares, unseen]))
    else:
        policy = LoggedShares(stratum_shares(np.zeros_like(data.actions), data.actions, data.n_actions)[0])
    return goal, PolicyValue(policy, goal.discount, goal.horizon)


def _with_permuted_propensities(estimator: Estimator) -> tuple[Estimator, bool]:
    """The estimator with logged propensities where it has known ones, and whether it had."""
    named = [item.name for item in fields(estimator) if isinstance(getattr(estimator, item.name), KnownPropensity)]  # type: ignore[arg-type]
    return replace(estimator, **dict.fromkeys(named, Logged())), bool(named)  # type: ignore[type-var]


def _findings(effects: Floats, p_value: float, permuted: float | None, permutation: Permutation) -> tuple[str, ...]:
    spread = float(effects.std(ddof=1))
    error = spread / np.sqrt(len(effects))
    size = f"its mean effect of a placebo is {effects.mean():.3g} (Monte-Carlo error {error:.2g}"
    size += f", {abs(effects.mean()) / spread:.2g} of its spread over permutations)" if spread > 0 else ")"
    first = first_finding(
        p_value,
        f"where actions do nothing the estimator finds no effect; {size}.",
        f"the estimator finds an effect where actions do nothing; {size}.",
    )
    if permuted is None:
        effect = (
            "no permutation p-value: decisions of different clusters are not exchangeable; pass strata=, such as the clusters."
        )
    else:
        effect = f"the estimated effect is larger than those of placebos with permutation p-value {permuted:.2g}."
    if permutation.fixed < 0.05:
        return first, effect
    return first, effect, f"{permutation.fixed:.0%} of the decisions are alone in their stratum, and keep their action."
