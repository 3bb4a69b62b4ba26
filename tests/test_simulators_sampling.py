"""The exact process against sampled trajectories and naively simulated rules; independence of threads and compiler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.stats import chi2

from causalrl.policies import PolicyLike, TabularPolicy, Uniform
from simulators import ICUSepsis, SepsisSimulator, TabularMDP
from tests.conftest import output_whatever_runs_it

LEVELS = (2, 3, 3, 2, 5, 2, 2, 2)


def clip(levels: np.ndarray, top: int) -> np.ndarray:
    return np.minimum(np.maximum(levels, 0), top)


def fluctuate(levels: np.ndarray, p: float, top: int, rng: np.random.Generator) -> np.ndarray:
    u = rng.random(len(levels))
    return clip(np.where(u < p, levels - 1, np.where(u < 2 * p, levels + 1, levels)), top)


def naive_step(state: int, action: int, n: int, version: str, rng: np.random.Generator) -> np.ndarray:
    """n independent successors of one decision, by the rules in their order (gumbel-max-scm, `State` and `MDP`)."""
    diabetic, hr, sbp, o2, glucose, had_abx, had_vaso, had_vent = (int(x) for x in np.unravel_index(state, LEVELS))
    abx, vent, vaso = action // 4, action // 2 % 2, action % 2
    hr, sbp, o2, glucose = (np.full(n, level) for level in (hr, sbp, o2, glucose))
    if abx:
        hr[(hr == 2) & (rng.random(n) < 0.5)] = 1
        sbp[(sbp == 2) & (rng.random(n) < 0.5)] = 1
    elif had_abx:
        hr[(hr == 1) & (rng.random(n) < 0.1)] = 2
        sbp[(sbp == 1) & (rng.random(n) < 0.1)] = 2
    if vent:
        o2[(o2 == 0) & (rng.random(n) < 0.7)] = 1
    elif had_vent:
        o2[(o2 == 1) & (rng.random(n) < 0.1)] = 0
    if vaso and diabetic:
        u, before = rng.random(n), sbp.copy()
        sbp[(before == 1) & (u < 0.9)] = 2
        sbp[(before == 0) & (u < 0.5)] = 1
        sbp[(before == 0) & (u >= 0.5) & (u < 0.9)] = 2
        glucose = clip(glucose + (rng.random(n) < 0.5), 4)
    elif vaso:
        sbp = clip(sbp + (rng.random(n) < 0.7), 2)
    elif had_vaso:
        sbp = clip(sbp - (rng.random(n) < (0.05 if diabetic else 0.1)), 2)
    if not abx and not had_abx:
        hr = fluctuate(hr, 0.1, 2, rng)
        if not vaso and not had_vaso:
            sbp = fluctuate(sbp, 0.1, 2, rng)
    if not vent and not had_vent:
        o2 = fluctuate(o2, 0.1, 1, rng)
    if not vaso and (diabetic or version == "v2"):
        glucose = fluctuate(glucose, 0.3 if diabetic else 0.1, 4, rng)
    elif not vaso:
        u, before = rng.random(n), glucose.copy()
        glucose = np.where(u < 0.1, clip(before - 1, 4), np.where(u < 0.2, clip(before + 1, 1), before))
    flags = [np.full(n, flag) for flag in (abx, vaso, vent)]
    return np.ravel_multi_index((np.full(n, diabetic), hr, sbp, o2, glucose, *flags), LEVELS)


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> tuple[float, int]:
    """Statistic and degrees of freedom; cells expecting fewer than 5 are pooled."""
    expected = counts.sum() * probabilities
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    used = expected > 0
    return float(((observed[used] - expected[used]) ** 2 / expected[used]).sum()), int(used.sum()) - 1


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_matrix_agrees_with_the_rules_simulated_naively(version: str) -> None:
    simulator, rng = SepsisSimulator(version), np.random.default_rng(7)
    statistic, freedom = 0.0, 0
    for state, action in zip(rng.choice(1440, 600, replace=False), rng.integers(0, 8, 600), strict=True):
        counts = np.bincount(naive_step(int(state), int(action), 1000, version, rng), minlength=1440)
        probabilities = simulator.mdp.dynamics.matrix[[8 * state + action]].toarray()[0]
        assert not counts[probabilities == 0].any(), (state, action)
        one, df = chi_square(counts, probabilities)
        statistic, freedom = statistic + one, freedom + df
    assert 1e-4 < chi2.sf(statistic, freedom) < 1 - 1e-4


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("name", ["uniform", "physician", "optimal"])
@pytest.mark.parametrize(("horizon", "discount"), [(20, 1.0), (7, 0.9)])
def test_mean_return_is_the_exact_value(version: str, name: str, horizon: int, discount: float) -> None:
    simulator = SepsisSimulator(version)
    policies: dict[str, PolicyLike] = {
        "uniform": Uniform(8),
        "physician": simulator.physician(0.05),
        "optimal": simulator.optimal_policy(discount, horizon),
    }
    data = simulator.sample(40_000, policies[name], horizon, seed=11)
    steps = data.steps()
    returns = np.bincount(steps.trajectory, discount**steps.time * data.rewards, minlength=data.n)
    exact = simulator.value(policies[name], horizon, discount)
    assert abs(returns.mean() - exact) < 4 * returns.std() / np.sqrt(data.n)


def test_occupancy_of_samples() -> None:
    simulator = SepsisSimulator("v1")
    data = simulator.sample(100_000, simulator.physician(0.5), 10, seed=5)
    exact = simulator.occupancy(simulator.physician(0.5), 10)
    steps = data.steps()
    for t in (0, 3, 9):
        now = steps.time == t
        counts = np.bincount(8 * data.observations[now] + data.actions[now], minlength=11_520)
        ended = data.n - counts.sum()
        statistic, freedom = chi_square(np.append(counts, ended), np.append(exact[t].ravel(), 1 - exact[t].sum()))
        assert 1e-4 < chi2.sf(statistic, freedom) < 1 - 1e-4


def test_successors_follow_the_exact_rows() -> None:
    simulator = SepsisSimulator("v2")
    data = simulator.sample(200_000, Uniform(8), 20, seed=2)
    rows = 8 * data.observations + data.actions
    successors = data.steps().next_observations
    common = np.argsort(np.bincount(rows, minlength=11_520))[-300:]
    statistic, freedom = 0.0, 0
    for row in common:
        counts = np.bincount(successors[rows == row], minlength=1440)
        probabilities = simulator.mdp.dynamics.matrix[[row]].toarray()[0]
        assert not counts[probabilities == 0].any()
        one, df = chi_square(counts, probabilities)
        statistic, freedom = statistic + one, freedom + df
    assert 1e-4 < chi2.sf(statistic, freedom) < 1 - 1e-4


def small_process(form: str) -> TabularMDP:
    """Six states on a grid (2, 3), the last two terminal; rows with zeros and with one successor.

    Form "grid": the features move independently; "whole": they do not; "paid": the reward depends on the transition too.
    """
    rng = np.random.default_rng(4)
    one, two = rng.dirichlet(np.ones(2), (6, 2)), rng.dirichlet(np.ones(3), (6, 2))
    two[1], two[2, 0] = [[0.0, 0.4, 0.6], [0.7, 0.0, 0.3]], [0.0, 1.0, 0.0]
    one[2, 0] = [1.0, 0.0]
    transitions = np.einsum("sai,saj->saij", one, two).reshape(6, 2, 6)
    if form == "whole":
        transitions[0, 0] = np.roll(transitions[0, 0], 1)
    rewards = rng.integers(-2, 3, (6, 2, 6) if form == "paid" else 6)
    grid = np.stack(np.unravel_index(np.arange(6), (2, 3)), axis=1)
    return TabularMDP(transitions, rewards, [0.5, 0, 0.2, 0.3, 0, 0], np.arange(6) > 3, state_features=grid)


def paths(mdp: TabularMDP, tables: np.ndarray, state: int, t: int) -> Iterator[tuple[tuple[float, ...], float]]:
    """Every possible (state, action, reward, state, ..., final state) from here, and its probability."""
    if mdp.terminal[state] or t == len(tables):
        yield (state,), 1.0
        return
    for action in np.flatnonzero(tables[t, state]):
        row = 2 * state + action
        for entry in range(mdp.dynamics.indptr[row], mdp.dynamics.indptr[row + 1]):
            chance = tables[t, state, action] * mdp.dynamics.probabilities[entry]
            for rest, after in paths(mdp, tables, int(mdp.dynamics.successors[entry]), t + 1):
                yield (state, int(action), float(mdp.dynamics.rewards[entry]), *rest), chance * after


@pytest.mark.parametrize(("form", "factors"), [("grid", 2), ("whole", 1), ("paid", 1)])
def test_whole_trajectories_have_their_enumerated_probabilities(form: str, factors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.mdp.draws.MOST_ENTRIES", 0)
    mdp, n = small_process(form), 60_000
    assert len(mdp.draws.segments) == factors
    tables = np.random.default_rng(5).dirichlet(np.ones(2), (3, 6))
    tables[1, 0], tables[2, :, 0], tables[2, :, 1] = [0.0, 1.0], 0.25, 0.75
    data = mdp.sample(n, TabularPolicy(tables), 3, seed=3)
    steps = np.stack([data.observations, data.actions, data.rewards], axis=1)
    seen = Counter(
        (*steps[low:high].ravel().tolist(), int(last))
        for low, high, last in zip(data.offsets[:-1], data.offsets[1:], data.final_observations, strict=True)
    )
    exact = Counter()
    for state in np.flatnonzero(mdp.initial):
        for path, chance in paths(mdp, tables, int(state), 0):
            exact[path] += mdp.initial[state] * chance
    assert abs(sum(exact.values()) - 1) < 1e-12
    assert not seen.keys() - exact.keys()
    statistic, freedom = chi_square(np.array([seen[path] for path in exact]), np.array([*exact.values()]))
    assert 1e-4 < chi2.sf(statistic, freedom) < 1 - 1e-4
    np.testing.assert_array_equal(data.behavior_probabilities, tables[data.steps().time, data.observations, data.actions])


def test_trajectories_do_not_depend_on_how_many_there_are() -> None:
    mdp = small_process("paid")
    few, many = mdp.sample(300, Uniform(2), seed=1), mdp.sample(1000, Uniform(2), seed=1)
    steps = few.offsets[-1]
    np.testing.assert_array_equal(few.offsets, many.offsets[:301])
    for field in ("observations", "actions", "rewards", "behavior_probabilities"):
        np.testing.assert_array_equal(getattr(few, field), getattr(many, field)[:steps])
    np.testing.assert_array_equal(few.final_observations, many.final_observations[:300])


def test_streams_are_independent() -> None:
    """Neighbouring trajectories, steps and seeds share nothing: correlations of first and second rewards are noise."""
    mdp = TabularMDP([[[0.5, 0.5]] * 2] * 2, [0.0, 1.0], [0.5, 0.5])
    one, two = (mdp.sample(100_000, Uniform(2), 2, seed=seed) for seed in (0, 1))
    columns = [
        np.stack([data.observations[::2], data.actions[::2], data.rewards[::2], data.rewards[1::2]]) for data in (one, two)
    ]
    shifted = np.concatenate([columns[0][:, 1:], columns[0][:, :-1], columns[1][:, :-1]])
    correlations = np.corrcoef(shifted)[np.triu_indices(12, 1)]
    assert np.abs(correlations).max() < 4.5 / np.sqrt(100_000)


@pytest.mark.parametrize("horizon", [None, 8])
def test_mean_return_of_icu_sepsis(horizon: int | None) -> None:
    pytest.importorskip("icu_sepsis")
    simulator = ICUSepsis()
    data = simulator.sample(40_000, simulator.expert(), horizon, seed=1)
    returns = np.add.reduceat(data.rewards, data.offsets[:-1])
    assert abs(returns.mean() - simulator.value(simulator.expert(), horizon)) < 4 * returns.std() / 200


def test_seeds_differ() -> None:
    simulator = SepsisSimulator()
    prints = {simulator.sample(50, Uniform(8), 20, seed=seed).fingerprint for seed in (0, 1, 2**64, 2**100)}
    assert len(prints) == 4


PROGRAM = """
from causalrl.policies import Uniform
from simulators import MCAR, CobsGraph, Confounded, Hospitals, SepsisSimulator
simulator = SepsisSimulator()
print(simulator.sample(300, simulator.physician(0.2), 20, seed=9).fingerprint)
print(simulator.sample(7, Uniform(8)).fingerprint)
leaving = SepsisSimulator(reward_on="leaving")
print(leaving.sample(20, leaving.optimal_policy(0.9, 18), 18).fingerprint)
record = simulator | Confounded(2.0) | MCAR(0.2) | Hospitals(3, 0.5)
print(record.sample(100, simulator.physician(0.2), 20, seed=4, propensities="oracle").fingerprint)
print(CobsGraph(reward_noise=1.0).sample(50, Uniform(2), 4).fingerprint)
"""


@pytest.mark.slow
def test_same_bits_for_any_thread_count_and_without_the_compiler() -> None:
    assert len(set(output_whatever_runs_it(PROGRAM).split())) == 5
