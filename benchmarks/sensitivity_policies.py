"""Bounds of policy values under one confounded step: `python -m benchmarks.sensitivity_policies`, about a quarter of an hour.

Four studies, one row a figure: the sepsis table of Namkoong et al. (2020) and its design sensitivity, as published
(`NamkoongSepsis.as_published`); coverage of the exact bounds of a small ward by their intervals; and the distance from the
estimate to the bound, beside the sharp one, on a study of one decision.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray

import causalrl as crl
from benchmarks.provenance import provenance
from causalrl.kernels.rng import derive_seed
from simulators import Confounded, NamkoongSepsis, TabularMDP
from simulators.base import TabularSimulator
from simulators.mdp.dynamics import Dynamics
from simulators.wrappers.confounding import half, ranked, rosenbaum_shift, tilted

Floats = NDArray[np.float64]
SEED = 0
RESULTS = Path(__file__).parent / "results" / "sensitivity_policies.csv"

SEPSIS_N, SEPSIS_SETS = 10_000, 10
TARGETS = {"with": "with_antibiotics", "without": "without_antibiotics", "soft-optimal": "soft_optimal"}
PUBLISHED = {"IS": (0.1487, 0.0215, 0.1408), "Namkoong": (0.1048, -0.0205, 0.1002), "naive": (0.0432, -0.1380, 0.0352)}
"""Table of Namkoong et al. (2020): importance sampling and lower bounds at gamma = 2, targets as in `TARGETS`."""
PUBLISHED_DESIGN = {"Namkoong": 1.73, "naive": 1.23}
MODELS: dict[str, type[crl.NamkoongModel] | type[crl.NaiveModel]] = {"Namkoong": crl.NamkoongModel, "naive": crl.NaiveModel}

WARD_N, WARD_REPLICATIONS, WARD_HORIZON, WARD_GAMMA = 2_000, 1_000, 3, 2.0
WARD_GAMMAS = (1.0, 1.5, 2.0, 3.0)
SHARP_N, SHARP_SETS, SHARP_GAMMAS = 10_000, 200, (1.5, 2.0, 4.0)


def sepsis_replication(r: int, seed: int = SEED) -> dict[str, float]:
    """Importance sampling and lower bounds at gamma = 2 on data set r of the published study."""
    study = NamkoongSepsis.as_published()
    data = study.counted(study.sample(SEPSIS_N, derive_seed(seed, "sepsis", r)))
    found = {}
    for target, name in TARGETS.items():
        goal = crl.PolicyValue(getattr(study, name), 0.99, 5)
        for model, kind in MODELS.items():
            lower = crl.sensitivity_analysis(crl.IS(), data, goal, kind([1, 2], replicates=2)).frame["low"]
            found[f"IS, {target}"], found[f"{model}, {target}"] = lower[0], lower[1]
    return found


def design_replication(r: int, seed: int = SEED) -> dict[str, float]:
    """Gamma at which the lower bound with antibiotics meets the upper bound without, on unconfounded data set r."""
    study = NamkoongSepsis.as_published(gamma=1.0)
    data = study.counted(study.sample(SEPSIS_N, derive_seed(seed, "design", r)))
    found = {}
    for name, kind in MODELS.items():
        model = kind(np.linspace(1.0, 2.5, 31), replicates=2)
        better, worse = (
            crl.sensitivity_analysis(crl.IS(), data, crl.PolicyValue(policy, 0.99, 5), model)
            for policy in (study.with_antibiotics, study.without_antibiotics)
        )
        found[f"design sensitivity, {name}"] = crl.design_sensitivity(worse, better)
    return found


def ward() -> TabularMDP:
    """Mild and severe patients, who may leave or die; two doses, of which the second helps the severe."""
    leave, die = [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]
    transitions = [
        [[0.4, 0.2, 0.4, 0.0], [0.3, 0.3, 0.3, 0.1]],
        [[0.1, 0.5, 0.1, 0.3], [0.4, 0.2, 0.2, 0.2]],
        [leave, leave],
        [die, die],
    ]
    return TabularMDP(transitions, [0.2, -0.3, 1.0, -1.0], [0.6, 0.4, 0.0, 0.0], [False, False, True, True])


WARD_LOGGER = crl.TabularPolicy([[0.6, 0.4], [0.3, 0.7], [0.5, 0.5], [0.5, 0.5]])
WARD_TARGET = crl.TabularPolicy([[0.8, 0.2], [0.2, 0.8], [0.5, 0.5], [0.5, 0.5]])


def confounded_ward(gamma: float = WARD_GAMMA) -> TabularSimulator:
    """The ward whose logger knows more at t = 0."""
    return ward() | Confounded(gamma, model="rosenbaum", steps=(0,))


def population_bounds(
    mdp: TabularMDP, logger: Floats, target: Floats, horizon: int, confounding: float, gammas: Sequence[float]
) -> Floats:
    """(2, K) exact bounds of Namkoong et al. under a logger confounded at t = 0, by the law of y given (s0, a0).

    Args:
        logger, target: (S, A).
    """
    law = ranked(mdp)
    policies, halves = tilted(logger, rosenbaum_shift, confounding), (half(law, 0), half(law, 1))
    out = np.zeros((2, len(gammas)))
    for s, a in np.argwhere((mdp.initial > 0)[:, None] & (logger > 0)):
        parts = [(0.5 * own[s, a] / logger[s, a], dynamics) for own, dynamics in zip(policies, halves, strict=True)]
        returns = [
            (share * p, y) for share, dynamics in parts for p, y in first_step(mdp, dynamics, s, a, logger, target, horizon)
        ]
        chances, outcomes = np.array(returns).T
        weight = mdp.initial[s] * target[s, a]
        seen = logger[s, a] * chances @ outcomes
        for k, gamma in enumerate(gammas):
            low, high = (root(chances, outcomes, ratio) for ratio in (gamma, 1 / gamma))
            out[:, k] += weight * (seen + (1 - logger[s, a]) * np.array([low, high]))
    return out


def first_step(
    mdp: TabularMDP, law: Dynamics, s: int, a: int, logger: Floats, target: Floats, horizon: int
) -> Iterator[tuple[float, float]]:
    """Probability and value of y = return times later ratios, after one step by some law."""
    row = s * mdp.n_actions + a
    for entry in range(law.indptr[row], law.indptr[row + 1]):
        for p, ratio, rest in later(mdp, law.successors[entry], logger, target, horizon - 1):
            yield law.probabilities[entry] * p, ratio * (law.rewards[entry] + rest)


def later(mdp: TabularMDP, s: int, logger: Floats, target: Floats, horizon: int) -> Iterator[tuple[float, float, float]]:
    """Probability, product of ratios and undiscounted return of every path from s."""
    if horizon == 0 or mdp.terminal[s]:
        yield 1.0, 1.0, 0.0
        return
    law = mdp.dynamics
    for a in range(mdp.n_actions):
        row = s * mdp.n_actions + a
        for entry in range(law.indptr[row], law.indptr[row + 1]):
            for p, ratio, rest in later(mdp, law.successors[entry], logger, target, horizon - 1):
                chance = logger[s, a] * law.probabilities[entry] * p
                yield chance, target[s, a] / logger[s, a] * ratio, law.rewards[entry] + rest


def root(chances: Floats, outcomes: Floats, ratio: float) -> float:
    """The expectile: between neighbouring outcomes its equation is linear."""
    order = np.argsort(outcomes)
    p, y = chances[order], outcomes[order]
    edges = np.concatenate([[-np.inf], y, [np.inf]])
    for j, (low, high) in enumerate(pairwise(edges)):
        below, above = ratio * p[:j], p[j:]
        k = (below @ y[:j] + above @ y[j:]) / (below.sum() + above.sum())
        if low <= k <= high:
            return float(k)
    raise AssertionError("an expectile lies among the outcomes")


def ward_replication(r: int, seed: int = SEED) -> dict[str, float]:
    """Whether the interval holds both exact bounds, at each gamma, on data set r of the confounded ward."""
    exact = population_bounds(ward(), WARD_LOGGER.table, WARD_TARGET.table, WARD_HORIZON, WARD_GAMMA, WARD_GAMMAS)
    data = confounded_ward().sample(WARD_N, WARD_LOGGER, WARD_HORIZON, seed=derive_seed(seed, "ward", r))
    goal, model = crl.PolicyValue(WARD_TARGET, horizon=WARD_HORIZON), crl.NamkoongModel(WARD_GAMMAS)
    frame = crl.sensitivity_analysis(crl.IS(crl.Counts(by_time=True)), data, goal, model, seed=r).frame
    held = (frame["interval_low"] <= exact[0]) & (exact[1] <= frame["interval_high"])
    return {f"coverage, gamma = {gamma:g}": float(held[k]) for k, gamma in enumerate(WARD_GAMMAS)}


CHOICE = np.array([[0.7, 0.3], [0.4, 0.6]])
"""One decision: P(action | state) in two equally frequent states."""
CURED = np.array([[0.3, 0.5], [0.2, 0.7]])
"""P(outcome 1 | state, action), of 0 or 1."""
DECISION = crl.TabularPolicy([[0.2, 0.8], [0.5, 0.5]])


def sharp_bounds(gamma: float) -> tuple[float, float]:
    """Least and largest value of `DECISION` under odds ratio gamma: among those treated otherwise the odds of a cure would be
    gamma times smaller, or larger, than among those whose outcome is seen; some U, the outcome itself, makes them so."""
    ends = []
    for factor in (1 / gamma, gamma):
        odds = factor * CURED / (1 - CURED)
        mean = CHOICE * CURED + (1 - CHOICE) * odds / (1 + odds)
        ends.append(float((DECISION.table * mean).sum(axis=1).mean()))
    return ends[0], ends[1]


def sharp_replication(r: int, seed: int = SEED) -> dict[str, float]:
    """Distance from the estimate to the bounds over the sharp distance, on data set r."""
    rng = np.random.default_rng(derive_seed(seed, "sharp", r))
    state = rng.integers(0, 2, SHARP_N)
    action = (rng.random(SHARP_N) < CHOICE[state, 1]).astype(np.int64)
    outcome = (rng.random(SHARP_N) < CURED[state, action]).astype(np.float64)
    data = crl.Trajectories.from_arrays(state, action, outcome, np.arange(SHARP_N + 1))
    frame = crl.sensitivity_analysis(crl.IS(), data, DECISION, crl.NamkoongModel((1.0, *SHARP_GAMMAS), replicates=2)).frame
    found, value = {}, sharp_bounds(1.0)[0]
    for k, gamma in enumerate(SHARP_GAMMAS, start=1):
        for name, end in zip(("low", "high"), sharp_bounds(gamma), strict=True):
            found[f"distance, {name}, gamma = {gamma:g}"] = (frame[name][k] - frame[name][0]) / (end - value)
    return found


def study(replication: Callable[[int, int], dict[str, float]], count: int, seed: int = SEED, n_jobs: int = 1) -> pd.DataFrame:
    """One row a figure: its mean over data sets, with a Monte-Carlo standard error."""
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        found = pd.DataFrame(Parallel(batch_size="auto")(delayed(_quietly)(replication, r, seed) for r in range(count)))
    errors = found.std(ddof=1) / np.sqrt(count)
    columns = {"figure": found.columns, "value": found.mean().to_numpy(), "mcse": errors.to_numpy(), "replications": count}
    return pd.DataFrame(columns)


def _quietly(replication: Callable[[int, int], dict[str, float]], r: int, seed: int) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crl.errors.CausalRLWarning)
        return replication(r, seed)


def references() -> dict[str, float]:
    """What each figure is held against: the published one, the nominal level, or 1."""
    found = {f"{row}, {target}": value for row, own in PUBLISHED.items() for target, value in zip(TARGETS, own, strict=True)}
    found |= {f"design sensitivity, {name}": value for name, value in PUBLISHED_DESIGN.items()}
    found |= {f"coverage, gamma = {gamma:g}": 0.95 for gamma in WARD_GAMMAS}
    return found | {f"distance, {name}, gamma = {gamma:g}": 1.0 for gamma in SHARP_GAMMAS for name in ("low", "high")}


def main() -> None:
    """Measure and write the rows."""
    counts = {
        sepsis_replication: SEPSIS_SETS,
        design_replication: SEPSIS_SETS,
        ward_replication: WARD_REPLICATIONS,
        sharp_replication: SHARP_SETS,
    }
    found = pd.concat([study(replication, count, n_jobs=2) for replication, count in counts.items()], ignore_index=True)
    made_by = {key: provenance(SEED)[key] for key in ("seed", "commit")}
    found = found.assign(reference=found["figure"].map(references()), **made_by)
    found.to_csv(RESULTS, index=False, float_format="%.5g")
    print(found.to_string(index=False))


if __name__ == "__main__":
    main()
