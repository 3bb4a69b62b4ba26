"""Records of sepsis patients with counterfactual annotations, and what is estimated from them: the study of Tang & Wiens (2023).

At every decision of a record an expert also says what the other vasopressor choice would have been worth. Both choices count one
half, so that all weights of C*-IS are 1 for a deterministic target: a record is followed while it agrees with the target, and the
annotation of the target's action stands for the rest. That is `DR` with the annotations as its Q and propensities of 1. The naive
use appends each annotated choice as a record of its own, weighted (the records of a patient sum to one) or not.

Source: Tang & Wiens, Counterfactual-augmented importance sampling for semi-offline policy evaluation, NeurIPS 2023, and the rules
of their repository MLD3/CounterfactualAnnot-SemiOPE: the naive use takes the annotations of the optimum, softens the target, and
counts propensities over all times; the others count them by time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

import causalrl as crl
from causalrl.checks import Floats
from causalrl.kernels.rng import derive_seed
from causalrl.learning import EmpiricalMDP
from causalrl.nuisances.crossfit import Nuisances
from simulators import SepsisSimulator
from simulators.sepsis.policies import TANG_WIENS_TARGETS

PATIENTS, HORIZON, DISCOUNT, DEATH, SOFTENED = 1000, 20, 0.99, -1.0, 0.01
NAIVE = ("naive, unweighted", "naive, weighted")
ANNOTATED = ("C*-IS, target's Q", "C*-IS, converted Q", "C*-IS, behaviour's Q", "C*-IS, zero")
SIMULATOR = SepsisSimulator("v2", start="uniform", reward_on="leaving")


@cache
def policies() -> tuple[crl.TabularPolicy, ...]:
    """The behaviour, the optimum and the 26 targets, which all take one action where the outcome is already there."""
    best, over = SIMULATOR.optimal_policy(DISCOUNT), SIMULATOR.mdp.dynamics.mean_rewards[:, :1] != 0
    chosen = [SIMULATOR.tang_wiens_behavior(), best, *(SIMULATOR.tang_wiens_target(k, seed) for k, seed in TANG_WIENS_TARGETS)]
    return tuple(crl.TabularPolicy(np.where(over, best.table, policy.table)) for policy in chosen)


@cache
def exact_q() -> tuple[Floats, ...]:
    """(H, S, A) Q of each policy."""
    return tuple(SIMULATOR.q(policy, HORIZON, DISCOUNT) for policy in policies())


def truths(replication: int) -> dict[str, float]:
    """Exact values."""
    behavior, best, *targets = policies()
    values = {str(k): SIMULATOR.value(target, HORIZON, DISCOUNT) for k, target in enumerate(targets)}
    ends = {"behaviour": SIMULATOR.value(behavior, HORIZON, DISCOUNT), "optimal": SIMULATOR.value(best, HORIZON, DISCOUNT)}
    return values | ends | {"V*": SIMULATOR.value(best, None, DISCOUNT)}


def records(replication: int) -> crl.Trajectories:
    """Of patients treated by the behaviour."""
    return SIMULATOR.sample(PATIENTS, policies()[0], HORIZON, derive_seed(2023, "records", replication))


def goals(epsilon: float) -> list[crl.PolicyValue]:
    """The targets, which take any other action than their own with probability epsilon where there is still something to do."""
    live, others = SIMULATOR.mdp.dynamics.mean_rewards[:, :1] == 0, SIMULATOR.n_actions - 1
    soft = [np.where(live & (own.table == 1), 1 - epsilon, np.where(live, epsilon / others, own.table)) for own in policies()[2:]]
    return [crl.PolicyValue(crl.TabularPolicy(table), DISCOUNT, HORIZON) for table in soft]


def estimates(replication: int) -> dict[str, float]:
    """Of every target by every method but the naive ones, named method/estimator/target."""
    data, wanted = records(replication), goals(0.0)
    row = weighted("original", data, np.ones(data.n), True, wanted)
    sure = Nuisances(replace(data, behavior_probabilities=np.ones(len(data.actions))))
    for k, (goal, tables) in enumerate(zip(wanted, annotated(data), strict=True)):
        for name, q in zip(ANNOTATED, tables, strict=True):
            row[f"{name}//{k}"] = crl.DR(q=crl.KnownQ(q)).point(sure, goal)
    return row


def naive(replication: int) -> dict[str, float]:
    """As `estimates`, from the records and one more for every annotation."""
    wanted, (more, weights) = goals(SOFTENED), appended(records(replication))
    row = weighted(NAIVE[0], more, np.ones(more.n), False, wanted)
    return row | weighted(NAIVE[1], more, weights, False, wanted)


def weighted(
    name: str, data: crl.Trajectories, weights: Floats, by_time: bool, wanted: Sequence[crl.PolicyValue]
) -> dict[str, float]:
    """Importance sampling with propensities counted once, plain and self-normalised; the mean effective size where unweighted."""
    steps = data.steps()
    counted = crl.Counts(by_time=by_time).fit(steps, weights[steps.trajectory], 0).logged(steps, np.ones(len(steps), np.bool_))
    nuisances = Nuisances(replace(data, behavior_probabilities=counted), weights=weights)
    row = {f"{name}/IS/{k}": crl.IS().point(nuisances, goal) for k, goal in enumerate(wanted)}
    row |= {f"{name}/WIS/{k}": crl.WIS().point(nuisances, goal) for k, goal in enumerate(wanted)}
    sizes = [crl.WIS().score(nuisances, goal).diagnostics["ess"] for goal in wanted] if name == "original" else []
    return row | ({"ESS": float(np.mean(sizes))} if sizes else {})


def appended(data: crl.Trajectories) -> tuple[crl.Trajectories, Floats]:
    """The records and one more for every decision but the last of a record, which ends there with the other choice and the
    annotation by the optimum's Q; and the weights of all of them, which sum to one for every patient."""
    steps = data.steps()
    chosen = np.flatnonzero(np.arange(len(steps)) != steps.last[steps.trajectory])
    lengths = np.concatenate([data.lengths, steps.time[chosen] + 1])
    starts = np.concatenate([data.offsets[:-1], data.offsets[steps.trajectory[chosen]]])
    offsets = np.append(0, np.cumsum(lengths))
    rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, lengths)
    actions, rewards, cut = data.actions[rows], data.rewards[rows], offsets[data.n + 1 :] - 1
    actions[cut] ^= 1
    rewards[cut] = exact_q()[1][steps.time[chosen], data.observations[chosen], actions[cut]]
    states = data.observations[rows]
    more = crl.Trajectories.from_arrays(states, actions, rewards, offsets, n_actions=data.n_actions, n_states=data.n_states)
    patient = np.concatenate([np.arange(data.n), steps.trajectory[chosen]])
    return more, 1 / np.bincount(patient)[patient]


def annotated(data: crl.Trajectories) -> Iterator[tuple[Floats, ...]]:
    """Of each target the annotations in the order of `ANNOTATED`; those of the behaviour are converted with a learned model."""
    behavior, _, *own = exact_q()
    learner = EmpiricalMDP(DISCOUNT, HORIZON, crl.Absorb(DEATH), min_count=0)
    planned = learner.fit(data)
    seen = planned.counts.sum(axis=1, keepdims=True)
    frequencies = np.where(seen > 0, planned.counts / np.maximum(seen, 1), 1 / data.n_actions)
    shift = behavior - planned.model.q(frequencies[None], HORIZON, DISCOUNT)
    for target, q in zip(policies()[2:], own, strict=True):
        yield q, shift + planned.model.q(target.table[None], HORIZON, DISCOUNT), behavior, np.zeros_like(q)
