"""Verdicts where chance, few units, long horizons or shards could be mistaken for bad data, and where nothing varies."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

import causalrl as crl
from causalrl.diagnostics.balance import standardized_differences
from causalrl.diagnostics.record import VERDICTS
from causalrl.diagnostics.weights import effective_sample_size, largest_share
from causalrl.estimators.judging import chance_differences

RELIABLE, CAUTION, STOP = VERDICTS
study = crl.Trajectories.from_cross_section


def quiet(recipe: crl.Estimator, data: crl.Trajectories, goal: object) -> crl.Estimate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crl.errors.CausalRLWarning)
        return recipe.estimate(data, goal)


def verdict(recipe: crl.Estimator, data: crl.Trajectories, goal: object) -> str:
    return str(quiet(recipe, data, goal).diagnostics["verdict"])


def trial(n: int, p: int, rng: np.random.Generator) -> crl.Trajectories:
    arms = rng.integers(0, 2, n)
    return study(rng.normal(size=(n, p)), arms, rng.normal(size=n) + arms, propensity=np.full(n, 0.5))


def one_arm(n: int, treated: int, outcomes: np.ndarray) -> crl.Trajectories:
    arms = (np.arange(n) < treated).astype(int)
    return study(np.zeros(n, int), arms, outcomes, propensity=np.full(n, treated / n))


@pytest.mark.parametrize(("n", "best"), [(60, CAUTION), (200, RELIABLE), (1000, RELIABLE)])
def test_a_trial_is_not_blamed_for_chance(n: int, best: str) -> None:
    """Ten covariates that differ by chance alone, known propensities: 98% of these were stopped at n = 60, 51% at 200."""
    rng = np.random.default_rng(0)
    found = [verdict(crl.IPW(), trial(n, 10, rng), crl.ATE()) for _ in range(40)]
    assert found.count(best) >= 38
    robust = crl.AIPW(crl.PerAction(LinearRegression()))
    assert verdict(robust, trial(n, 10, rng), crl.ATE()) == best


def test_a_trial_of_clusters_is_not_blamed_for_chance() -> None:
    """Twenty clusters an arm, covariates of the cluster: 40 units decide on chance and not 1,000."""
    rng, n, kept = np.random.default_rng(1), 1000, []
    for _ in range(30):
        clusters = np.repeat(np.arange(40), 25)
        arms = rng.permutation(np.arange(40) % 2)[clusters]
        x = rng.normal(size=(40, 3))[clusters]
        data = study(x, arms, rng.normal(size=n), propensity=np.full(n, 0.5), clusters=clusters)
        kept.append(verdict(crl.IPW(), data, crl.ATE()))
    assert kept.count(RELIABLE) >= 28


def test_chance_by_its_formula() -> None:
    """z sqrt(1 / ess1 + 1 / ess0) where weights do not depend on the column; sd of the differences of many trials."""
    rng, n = np.random.default_rng(2), 4000
    x, arm = rng.normal(size=(n, 2)), rng.random(n) < 0.3
    weights = rng.gamma(2.0, size=n)
    sizes = [effective_sample_size(weights[own]) for own in (arm, ~arm)]
    expected = 2.2414 * np.sqrt(sum(1 / size for size in sizes))
    assert chance_differences(x, arm, ~arm, weights, np.arange(n)) == pytest.approx([expected] * 2, rel=0.1)
    small = [(rng.normal(size=(100, 1)), rng.gamma(1.0, size=100), rng.permutation(100) < 40) for _ in range(400)]
    differences = [standardized_differences(x, arm, ~arm, weights)[0] for x, weights, arm in small]
    chances = [chance_differences(x, arm, ~arm, weights, np.arange(100))[0] for x, weights, arm in small]
    assert np.mean(np.abs(differences) <= chances) == pytest.approx(0.95, abs=0.03)
    one_cluster = chance_differences(x, arm, ~arm, weights, np.where(arm, 0, np.arange(n)))
    assert (one_cluster > 1e300).all()
    constant = np.r_[np.ones(5), np.zeros(5)][:, None]
    assert chance_differences(constant, constant[:, 0] == 1, constant[:, 0] == 0, np.ones(10), np.arange(10)) == [0.0]


def test_more_data_never_make_it_worse() -> None:
    """20 treated with 20, 80 and 1,980 controls; the advice is none of long horizons."""
    rng = np.random.default_rng(3)
    found = [quiet(crl.IPW(), one_arm(n, 20, rng.normal(size=n)), crl.ATE()).diagnostics for n in (40, 100, 2000)]
    assert [own["verdict"] for own in found] == [CAUTION] * 3
    for own in found:
        assert "collect more data" in own["reasons"][0]
        assert "horizon" not in own["reasons"][0]


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_one_effective_unit_is_not_to_be_used(n: int) -> None:
    data = crl.Trajectories.from_arrays(
        [0] * n, [1] + [0] * (n - 1), np.arange(n) * 1.0, range(n + 1), n_actions=2, behavior_probabilities=[0.5] * n
    )
    assert verdict(crl.WIS(), data, crl.Always(1)) == STOP


def test_an_interval_without_width_is_not_reliable() -> None:
    """No event among 80 treated: the standard error is 0."""
    rng = np.random.default_rng(4)
    outcomes = np.r_[np.zeros(80), rng.integers(0, 2, 320)].astype(float)
    data = one_arm(400, 80, outcomes)
    for goal in (crl.Always(1), crl.PolicyValue(crl.Always(1))):
        estimate = quiet(crl.WIS(), data, goal)
        assert estimate.stderr == 0
        assert estimate.diagnostics["verdict"] == CAUTION
        assert "3 / 80" in estimate.diagnostics["reasons"][0]
    assert verdict(crl.WIS(), data, crl.ATE()) == CAUTION
    assert verdict(crl.WIS(), one_arm(400, 80, np.ones(400)), crl.Always(1)) == RELIABLE  # no return varies


def test_markov_estimators_need_no_whole_trajectories() -> None:
    """Three states, coin tosses at 15 steps: nobody follows "always 1" throughout, and every pair was seen 5,000 times."""
    rng, n, horizon = np.random.default_rng(5), 2000, 15
    transitions, means = rng.dirichlet(np.ones(3), size=(3, 2)), rng.random((3, 2))
    values = np.zeros(3)
    for _ in range(horizon):
        values = means[:, 1] + transitions[:, 1] @ values
    states, steps = rng.integers(0, 3, n), []
    for _ in range(horizon):
        actions = rng.integers(0, 2, n)
        steps.append((states, actions, means[states, actions] + 0.3 * rng.normal(size=n)))
        states = (rng.random(n)[:, None] > transitions[states, actions].cumsum(axis=1)).sum(axis=1).clip(0, 2)
    o, a, r = (np.array(part).T.ravel() for part in zip(*steps, strict=True))
    ends = {"end": np.full(n, crl.End.TRUNCATED), "final_observations": states}
    data = crl.Trajectories.from_arrays(o, a, r, np.arange(n + 1) * horizon, n_states=3, n_actions=2, **ends)
    goal = crl.PolicyValue(crl.Always(1), horizon=horizon)
    for recipe in (crl.FQE(crl.TabularQ()), crl.MIS(), crl.DRL(q=crl.TabularQ())):
        estimate = quiet(recipe, data, goal)
        assert estimate.value == pytest.approx(values.mean(), abs=0.2)
        assert estimate.diagnostics["verdict"] == RELIABLE, estimate.diagnostics["reasons"]


def test_a_fixed_end_that_is_called_termination() -> None:
    """Backward induction over 8 steps with a chance of 1/8 to end at each: 2.6 for a value of 4."""
    rng, n, horizon = np.random.default_rng(12), 500, 8
    o, a = rng.integers(0, 3, n * horizon), rng.integers(0, 2, n * horizon)
    data = crl.Trajectories.from_arrays(o, a, a * 0.5, np.arange(n + 1) * horizon, n_states=3, n_actions=2)
    goal = crl.PolicyValue(crl.Always(1), horizon=horizon)
    pooled, by_time = (quiet(crl.FQE(crl.TabularQ(by_time=flag)), data, goal) for flag in (False, True))
    assert (pooled.value, pooled.diagnostics["verdict"]) == (pytest.approx(0.5 * 8 * (1 - (7 / 8) ** 8), abs=0.2), STOP)
    assert "End.TRUNCATED" in pooled.diagnostics["reasons"][0]
    assert (by_time.value, by_time.diagnostics["verdict"]) == (pytest.approx(4.0), RELIABLE)
    clock = crl.Trajectories.from_arrays(
        np.tile(np.arange(horizon), n), a, a * 0.5, np.arange(n + 1) * horizon, n_states=horizon, n_actions=2
    )
    timed = quiet(crl.FQE(crl.TabularQ()), clock, goal)
    assert (timed.value, timed.diagnostics["verdict"]) == (pytest.approx(4.0), RELIABLE)


def test_a_late_step_that_few_reach_is_no_reason() -> None:
    """Geometric lengths: 14 of 31 agree at step 6, while the weights are worth 1,600 of 2,000."""
    rng, n = np.random.default_rng(6), 2000
    lengths = np.minimum(rng.geometric(0.5, n), 25)
    m = int(lengths.sum())
    actions = (rng.random(m) < 0.9).astype(int)
    logged = np.where(actions == 1, 0.9, 0.1)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tabular = crl.Trajectories.from_arrays(
        np.zeros(m, int), actions, rng.normal(size=m) + actions, offsets, behavior_probabilities=logged, n_actions=2
    )
    vectors = crl.Trajectories.from_arrays(rng.normal(size=(m, 1)), actions, rng.normal(size=m) + actions, offsets)
    assert verdict(crl.WIS(), tabular, crl.Always(1)) == RELIABLE
    assert verdict(crl.FQE(crl.LinearQ()), vectors, crl.Always(1)) == RELIABLE


def test_extrapolation_on_vectors_asks_for_caution() -> None:
    """Ten coin tosses: one of 1,000 does what the target does throughout, and a line is drawn through the rest."""
    rng, n = np.random.default_rng(7), 1000
    data = crl.Trajectories.from_arrays(
        rng.normal(size=(10 * n, 1)), rng.integers(0, 2, 10 * n), rng.normal(size=10 * n), np.arange(n + 1) * 10
    )
    estimate = quiet(crl.FQE(crl.LinearQ()), data, crl.PolicyValue(crl.Always(1), horizon=10))
    assert estimate.diagnostics["verdict"] == CAUTION
    assert "extrapolates" in estimate.diagnostics["reasons"][0]


def shards(n: int, parts: int, seed: int) -> tuple[crl.Trajectories, list[crl.Trajectories]]:
    rng = np.random.default_rng(seed)
    x, arms = rng.normal(size=(n, 2)), (rng.random(n) < 0.3).astype(int)
    outcomes, e = rng.normal(size=n) + arms, np.full(n, 0.3)
    rows = np.array_split(np.arange(n), parts)
    return study(x, arms, outcomes, propensity=e), [study(x[s], arms[s], outcomes[s], propensity=e[s]) for s in rows]


@pytest.mark.parametrize("recipe", [crl.IS(), crl.WIS(), crl.PDIS(), crl.PDWIS()], ids=str)
def test_merged_shards_are_judged_anew(recipe: crl.Estimator) -> None:
    """50 shards of 40: each is too small, all together are not, and the figures of the weights are those of the whole."""
    whole, parts = shards(2000, 50, 8)
    goal = crl.Always(1)
    single = [quiet(recipe, part, goal) for part in parts]
    assert {own.diagnostics["verdict"] for own in single} <= {CAUTION, STOP}
    merged, expected = single[0].merge(*single[1:]), quiet(recipe, whole, goal)
    assert merged.value == pytest.approx(expected.value)
    assert merged.diagnostics["verdict"] == RELIABLE
    assert merged.diagnostics["reasons"] == ()
    for key in ("ess", "mean_weight", "largest_share", "max_weight", "largest_influence"):
        assert merged.diagnostics[key] == pytest.approx(expected.diagnostics[key], rel=1e-9), key


def test_merged_effects_and_bad_weights() -> None:
    whole, parts = shards(2000, 50, 9)
    effects = [quiet(crl.IPW(), part, crl.ATE()) for part in parts]
    assert effects[0].merge(*effects[1:]).diagnostics["verdict"] == RELIABLE
    assert verdict(crl.IPW(), whole, crl.ATE()) == RELIABLE
    weights = np.random.default_rng(10).pareto(0.4, 60) + 1
    bad = [one_of(weights[:30]), one_of(weights[30:])]
    first, second = (quiet(crl.WIS(), part, crl.Always(1)) for part in bad)
    merged = first.merge(second)
    assert merged.diagnostics["verdict"] == STOP
    assert merged.diagnostics["ess"] == pytest.approx(effective_sample_size(weights))
    assert merged.diagnostics["largest_share"] == pytest.approx(largest_share(weights))


def one_of(weights: np.ndarray) -> crl.Trajectories:
    """Single decisions whose importance weights under "always 1" are these."""
    n = len(weights)
    return crl.Trajectories.from_arrays(
        [0] * n, [1] * n, np.arange(n) * 1.0, range(n + 1), n_actions=2, behavior_probabilities=1 / weights
    )


def test_what_nobody_logged_stays_with_the_merged() -> None:
    """A known behaviour that never does what the target does: more shards do not help."""
    policy = crl.KnownPropensity(crl.TabularPolicy(np.array([[1.0, 0.0], [0.5, 0.5]])))
    rng = np.random.default_rng(11)
    data = []
    for _ in range(2):
        states = rng.integers(0, 2, 400)
        actions = np.where(states == 0, 0, rng.integers(0, 2, 400))
        data.append(crl.Trajectories.from_arrays(states, actions, rng.normal(size=400), range(401), n_states=2, n_actions=2))
    first, second = (quiet(crl.WIS(policy), part, crl.Always(1)) for part in data)
    assert first.diagnostics["verdict"] == STOP
    assert first.merge(second).diagnostics["verdict"] == STOP
