"""MAGIC (Thomas & Brunskill 2016) and repeated cross-fitting, against naive loops and the traps of other packages."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import causalrl as crl
from causalrl.estimators.magic import best_blend
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from simulators import ModelFail, ModelWin
from tests.conftest import BEHAVIOR, TARGET, ragged_data, tiny_process
from tests.test_chain import CASES, chain, exact_q, exact_value, goal_of

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")

HORIZON, DISCOUNT = 5, 0.9
GOAL = crl.PolicyValue(TARGET, discount=DISCOUNT, horizon=HORIZON)
Q = np.random.default_rng(4).normal(size=(HORIZON, 3, 2))


# -------------------------------------------------------------------------------------------------- against naive loops


def naive_contributions(data: crl.Trajectories) -> np.ndarray:
    """(n, H + 1) g_i^(j), straight from the formula, with carried-forward weights and w_{-1} = 1 / n."""
    n, target, behavior = data.n, TARGET.table, BEHAVIOR.table
    weight, reward, q, v = (np.zeros((n, HORIZON + 1)) for _ in range(4))
    for i in range(n):
        w = 1.0
        first, last = data.offsets[i], data.offsets[i + 1]
        for t in range(HORIZON):
            if first + t < last:
                s, a = data.observations[first + t], data.actions[first + t]
                w *= target[s, a] / behavior[s, a]
                reward[i, t], q[i, t], v[i, t] = data.rewards[first + t], Q[t, s, a], target[s] @ Q[t, s]
            weight[i, t] = w
    normal = weight[:, :HORIZON] / weight[:, :HORIZON].sum(axis=0)
    before = np.column_stack([np.full(n, 1 / n), normal])
    out = np.zeros((n, HORIZON + 1))
    out[:, 0] = v[:, 0] / n
    for j in range(HORIZON):
        for t in range(j + 1):
            out[:, j + 1] += DISCOUNT**t * (normal[:, t] * (reward[:, t] - q[:, t]) + before[:, t] * v[:, t])
        following = v[:, j + 1] if j + 1 < HORIZON else 0.0
        out[:, j + 1] += DISCOUNT ** (j + 1) * normal[:, j] * following
    return out


@pytest.fixture(scope="module")
def data() -> crl.Trajectories:
    return ragged_data(400, seed=2)


def test_the_estimate_is_the_naive_blend(data: crl.Trajectories) -> None:
    recipe = crl.MAGIC(q=crl.KnownQ(Q), replicates=500)
    estimate = recipe.estimate(data, GOAL)
    returns = naive_contributions(data).sum(axis=0)
    blend = estimate.diagnostics["blend"]
    assert len(blend) == HORIZON + 1
    assert blend.sum() == pytest.approx(1, abs=1e-12)
    assert estimate.value == pytest.approx(blend @ returns, abs=1e-12)
    assert returns[-1] == pytest.approx(crl.WDR(q=crl.KnownQ(Q)).estimate(data, GOAL).value, abs=1e-12)
    assert returns[0] == pytest.approx(crl.DirectMethod(crl.KnownQ(Q)).estimate(data, GOAL).value, abs=1e-12)


def resampled_returns(data: crl.Trajectories, replicates: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    draws = (data.take(rng.integers(0, data.n, data.n)) for _ in range(replicates))
    return np.array([naive_contributions(draw).sum(axis=0) for draw in draws])


@pytest.mark.slow
def test_the_blend_is_optimal_for_the_bootstrap_covariance_and_bias(data: crl.Trajectories) -> None:
    """Covariance and 90% interval by a naive bootstrap of trajectories: the blend's error is within 5% of the best one's."""
    recipe = crl.MAGIC(q=crl.KnownQ(Q), replicates=1000)
    blend = recipe.estimate(data, GOAL).diagnostics["blend"]
    returns, resamples = naive_contributions(data).sum(axis=0), resampled_returns(data, 400)
    low, high = np.quantile(resamples[:, -1], [0.05, 0.95])
    bias = np.where(returns > high, returns - high, np.where(returns < low, returns - low, 0.0))
    assert (bias != 0).any()
    error = np.cov(resamples.T) + np.outer(bias, bias)
    best = best_blend(np.linalg.cholesky(error + 1e-14 * np.eye(len(error))).T, np.zeros(len(error)))
    assert blend @ error @ blend <= 1.05 * (best @ error @ best)


def test_the_covariance_is_on_the_scale_of_the_mean() -> None:
    """Trap E1: Omega_jj equals the bootstrap variance of the j-step return; contributions with the normaliser frozen do not."""
    from causalrl.estimators.magic import _spread

    sim = ModelFail()
    data = sim.sample(8000, sim.behavior(), horizon=2, seed=0)
    goal = crl.PolicyValue(sim.target(), horizon=2)
    moments = crl.MAGIC().score(Nuisances(data, 0), goal).moments
    root = _spread(moments, moments.mean(axis=0), np.ones(data.n), data.clusters)
    rng = np.random.default_rng(1)
    returns = []
    for _ in range(2000):
        means = moments[rng.integers(0, data.n, data.n)].mean(axis=0)
        returns.append(means[0] + np.append(0, np.cumsum(means[1:3] / means[3:5])))
    np.testing.assert_allclose((root**2).sum(axis=0)[1:], np.var(returns, axis=0)[1:], rtol=0.12)
    frozen = moments[:, 0] + (moments[:, 1:3] / moments[:, 3:5].mean(axis=0)).sum(axis=1)
    assert frozen.var() / data.n > 2 * np.var(returns, axis=0)[-1]


# -------------------------------------------------------------------------------------------- the quadratic programme


def test_the_bias_enters_as_an_outer_product() -> None:
    """Trap E1: with no spread, b = (1, 2, 3) is answered by (1, 0, 0), and (-1, 1) by the halves that cancel it."""
    np.testing.assert_allclose(best_blend(np.zeros((1, 3)), np.array([1.0, 2.0, 3.0])), [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(best_blend(np.eye(2) * 1e-3, np.array([-1.0, 1.0])), [0.5, 0.5], atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_the_blend_satisfies_the_kkt_conditions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 25))
    root = rng.normal(size=(size + 5, size)) * 10.0 ** rng.uniform(-2, 2, size)
    bias = rng.normal(size=size) * (rng.random(size) < 0.5)
    matrix = root.T @ root + np.outer(bias, bias)
    x = best_blend(root, bias)
    gradient = matrix @ x / (x @ matrix @ x)
    assert (x >= 0).all()
    assert x.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(gradient[x > 1e-9], 1, atol=1e-8)
    assert (gradient >= 1 - 1e-8).all()


def test_the_blend_beats_every_point_of_a_grid() -> None:
    rng = np.random.default_rng(7)
    root, bias = rng.normal(size=(4, 3)), np.array([0.3, -0.8, 0.0])
    matrix = root.T @ root + np.outer(bias, bias)
    x = best_blend(root, bias)
    ticks = np.linspace(0, 1, 101)
    grid = [np.array([a, b, 1 - a - b]) for a, b in itertools.product(ticks, ticks) if a + b <= 1]
    assert x @ matrix @ x <= min(point @ matrix @ point for point in grid) + 1e-12


def test_of_two_returns_the_unbiased_one_is_chosen() -> None:
    """Trap E2: an optimiser that never moves returns the uniform average."""
    assert best_blend(np.eye(2) * 0.01, np.array([5.0, 0.0]))[1] > 0.999


# --------------------------------------------------------------------------------------------------------- the traps


@pytest.mark.parametrize("case", CASES)
def test_on_the_chain(case: tuple[float, float]) -> None:
    """Trap E3: inverse-variance mixing gives 3.045 and 3.885 for truths of 3.239 and 4.463."""
    data, truth = chain(20_000, 0.3, seed=1), exact_value(case[1])
    exact = crl.MAGIC(q=crl.KnownQ(exact_q(case[1]))).estimate(data, goal_of(case[1]))
    assert exact.value == pytest.approx(truth, abs=1e-10)
    wrong = crl.MAGIC(q=crl.KnownQ(0.7 * exact_q(case[1]))).estimate(data, goal_of(case[1]))
    assert wrong.value == pytest.approx(truth, abs=0.06)
    assert wrong.diagnostics["blend"][0] < 0.05


def test_equal_returns_are_no_trouble() -> None:
    data = chain(50, 0.3, seed=0)
    estimate = crl.MAGIC(q=crl.KnownQ(exact_q(0.2))).estimate(data, goal_of(0.2))
    assert estimate.value == pytest.approx(exact_value(0.2), abs=1e-10)


def test_there_is_no_silent_interval(data: crl.Trajectories) -> None:
    estimate = crl.MAGIC().estimate(data, GOAL)
    with pytest.raises(crl.errors.IntervalError, match=r"RefitBootstrap\(200\).*DR"):
        estimate.interval()
    low, high = estimate.interval(method=crl.RefitBootstrap(20, seed=1))
    assert low < estimate.value < high


def test_a_level_or_a_number_of_replicates_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(crl.errors.EstimandError, match="level"):
        crl.MAGIC(level=1.5)
    with pytest.raises(crl.errors.EstimandError, match="replicates"):
        crl.MAGIC(replicates=1)


# ----------------------------------------------------------------------------------------------------- mean squared error


def mean_squared_errors(sim: Any, horizon: int, n: int, replications: int) -> dict[str, float]:
    goal, truth = crl.PolicyValue(sim.target(), horizon=horizon), sim.value(sim.target(), horizon=horizon)
    recipes = {"model": crl.FQE(), "WDR": crl.WDR(), "MAGIC": crl.MAGIC()}
    errors: dict[str, list[float]] = {name: [] for name in recipes}
    for r in range(replications):
        nuisances = Nuisances(sim.sample(n, sim.behavior(), horizon=horizon, seed=r), 0)
        for name, recipe in recipes.items():
            errors[name].append((recipe.point(nuisances, goal) - truth) ** 2)
    return {name: float(np.mean(values)) for name, values in errors.items()}


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 512, 2000])
def test_on_model_fail_it_lies_between_model_and_wdr(n: int) -> None:
    mse = mean_squared_errors(ModelFail(), 2, n, 150)
    assert mse["WDR"] < mse["MAGIC"] < mse["model"]


@pytest.mark.slow
def test_on_model_fail_it_ends_near_wdr() -> None:
    mse = mean_squared_errors(ModelFail(), 2, 4096, 150)
    assert mse["MAGIC"] < 3 * mse["WDR"]


@pytest.mark.slow
@pytest.mark.parametrize("n", [100, 512])
def test_on_model_win_it_is_near_the_model(n: int) -> None:
    mse = mean_squared_errors(ModelWin(), 20, n, 150)
    assert mse["MAGIC"] < 3 * mse["model"] < mse["WDR"]


# -------------------------------------------------------------------------------------------------------------- repeats


@pytest.fixture(scope="module")
def splits() -> list[crl.Estimate]:
    """One estimate a split, with the seeds of five repeats."""
    data = tiny_process().sample(60, BEHAVIOR, horizon=HORIZON, seed=5)
    seeds = [0, *(derive_seed(0, "split", r) for r in range(1, 5))]
    return [crl.DR(folds=2).estimate(data, GOAL, seed=seed) for seed in seeds]


def test_repeats_take_the_median(splits: list[crl.Estimate]) -> None:
    data = tiny_process().sample(60, BEHAVIOR, horizon=HORIZON, seed=5)
    estimate = crl.DR(folds=2, repeats=5).estimate(data, GOAL)
    values, errors = np.array([s.value for s in splits]), np.array([s.stderr for s in splits])
    assert len(set(values)) == 5
    assert estimate.value == pytest.approx(np.median(values), abs=1e-14)
    assert estimate.stderr == pytest.approx(np.sqrt(np.median(errors**2 + (values - np.median(values)) ** 2)), rel=1e-12)
    assert crl.DR(folds=2, repeats=5).point(Nuisances(data, 0), GOAL) == pytest.approx(estimate.value, abs=1e-14)


@pytest.mark.parametrize("kind", [crl.DR, crl.WDR])
def test_one_repeat_is_the_plain_estimate(kind: type[crl.DR] | type[crl.WDR]) -> None:
    data = ragged_data(60)
    one, plain = kind(repeats=1).estimate(data, GOAL), kind().estimate(data, GOAL)
    assert (one.value, one.stderr) == (plain.value, plain.stderr)


def test_repeats_of_known_nuisances_change_nothing() -> None:
    data = ragged_data(60)
    recipe = crl.DR(q=crl.KnownQ(Q), repeats=3).estimate(data, GOAL)
    assert recipe.value == pytest.approx(crl.DR(q=crl.KnownQ(Q)).estimate(data, GOAL).value, abs=1e-14)
    assert recipe.interval(method=crl.PercentileBootstrap(50)).low < recipe.value


def test_contrasts_of_repeats_are_paired() -> None:
    data = ragged_data(200)
    fitted = crl.DR(repeats=3).fit(data)
    same = fitted.estimate(GOAL) - fitted.estimate(GOAL)
    assert (same.value, same.stderr) == (0, 0)


def test_an_even_number_of_repeats_is_refused() -> None:
    with pytest.raises(crl.errors.EstimandError, match="even"):
        crl.DR(repeats=2)


def test_repeats_of_known_nuisances_stay_what_they_are() -> None:
    """Splits change nothing: a ratio stays a ratio, which no bound of a mean takes, and whose shards merge exactly."""
    data = ragged_data(60)
    one, three = (crl.WDR(q=crl.KnownQ(Q), repeats=repeats).estimate(data, GOAL) for repeats in (1, 3))
    np.testing.assert_array_equal(one.moments, three.moments)
    with pytest.raises(crl.errors.IntervalError):
        three.interval(method=crl.Hoeffding(-9, 9, max_weight=100))


@pytest.mark.parametrize("seed", [622, 788, 2101])
def test_a_blend_that_cancels_every_error_is_kept(seed: int) -> None:
    """Two clusters and many returns: some blend has no error at all, and rounding must not lead away from it."""
    rng = np.random.default_rng(seed + 10_000)
    returns, clusters = int(rng.integers(2, 12)), int(rng.integers(2, 60))
    root = np.cumsum(rng.normal(size=(clusters, returns)), axis=1) * 10 ** rng.uniform(-3, 3)
    bias = rng.normal(size=returns) * 10 ** rng.uniform(-3, 3) * (rng.random(returns) < 0.7)
    bias[-1] = 0
    x = best_blend(root, bias)
    assert clusters == 2
    assert np.sum((root @ x) ** 2) + (bias @ x) ** 2 < 1e-16 * max((root**2).sum(axis=0) + bias**2)


def test_resamples_without_weights_do_not_judge_the_model() -> None:
    """Two of 40 agree with the target; a resample misses both with probability .95^40 = .129."""
    actions = np.zeros(40, int)
    actions[:2] = 1
    rewards = np.linspace(0, 1, 40)
    data = crl.Trajectories.from_arrays(
        np.zeros(40, int), actions, rewards, np.arange(41), behavior_probabilities=np.full(40, 0.5), n_actions=2
    )
    recipe = crl.MAGIC(q=crl.KnownQ([[0.5, 0.5]]))
    estimate = recipe.estimate(data, crl.Always(1))
    (text,) = [text for text in estimate.diagnostics["warnings"] if "resamples" in text]
    assert text.startswith("OverlapWarning")
    empty = int(text.split(" of 200 resamples")[0].split()[-1])
    assert abs(empty - 200 * 0.95**40) < 4 * np.sqrt(200 * 0.129 * 0.871)
    assert rewards[:2].min() <= estimate.value <= 0.5
