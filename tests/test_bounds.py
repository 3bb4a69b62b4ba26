"""Bounds for a plain mean whose range the user states, and one-sided limits: formulas, published failures, coverage."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

import causalrl as crl
from causalrl.errors import IntervalError

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning")

GOAL = crl.PolicyValue(crl.Always(0))


def mean_of(rewards: Any, clusters: Any = None) -> crl.Estimate:
    """The mean of one-step returns."""
    rewards = np.asarray(rewards, float)
    n = len(rewards)
    data = crl.Trajectories.from_arrays(
        np.zeros(n, int), np.zeros(n, int), rewards, np.arange(n + 1), n_actions=2, clusters=clusters
    )
    return crl.OnPolicyMean().estimate(data, GOAL)


def weighted(n: int = 200, seed: int = 0, clusters: Any = None) -> crl.Trajectories:
    """One decision with logged propensities in [0.25, 0.75] and rewards in [0, 1]: weights of always 1 are at most 4."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.25, 0.75, n)
    a = (rng.random(n) < p).astype(int)
    return crl.Trajectories.from_arrays(
        np.zeros(n, int),
        a,
        rng.random(n),
        np.arange(n + 1),
        n_actions=2,
        behavior_probabilities=np.column_stack([1 - p, p]),
        clusters=clusters,
    )


def half(interval: crl.Interval) -> float:
    return float((interval.high - interval.low) / 2)


BOUNDS = (crl.Hoeffding(-3, 3), crl.EmpiricalBernstein(-3, 3), crl.StudentT())


@pytest.mark.parametrize(("n", "right", "package"), [(100, 0.136, 13.5), (1_000, 0.0429, 42.9), (10_000, 0.0136, 135.8)])
def test_hoeffding_shrinks_with_n(n: int, right: float, package: float) -> None:
    """Trap D1: n belongs under the fraction; on the wrong side the half-width grows with n."""
    found = half(mean_of(np.random.default_rng(n).random(n)).interval(method=crl.Hoeffding(0, 1)))
    assert found == pytest.approx(math.sqrt(math.log(40) / (2 * n)), rel=1e-9)
    assert found == pytest.approx(right, rel=3e-3)
    assert found < package / 50


@pytest.mark.parametrize("clusters", [None, np.arange(60) // 4, np.minimum(np.arange(60), 20)])
def test_half_widths_by_hand(clusters: Any) -> None:
    """Hoeffding and Maurer & Pontil by loops over clusters of any size."""
    x = np.random.default_rng(1).uniform(-1, 2, 60)
    estimate = mean_of(x, clusters)
    units = np.arange(60) if clusters is None else clusters
    groups = sorted(set(units.tolist()))
    sizes = np.array([(units == g).sum() for g in groups])
    log = math.log(2 / 0.1)
    assert half(estimate.interval(0.9, method=crl.Hoeffding(-1, 2))) == pytest.approx(
        3 * math.sqrt(sum(s * s for s in sizes) * log / 2) / 60, rel=1e-9
    )
    of_groups = [len(groups) * sum(v - 0.5 for v in x[units == g]) / 60 for g in groups]
    assert np.mean(of_groups) == pytest.approx(x.mean() - 0.5)
    wide, log = len(groups) * sizes.max() * 3 / 60, math.log(4 / 0.1)
    variance = sum((v - np.mean(of_groups)) ** 2 for v in of_groups) / (len(groups) - 1)
    expected = math.sqrt(2 * variance * log / len(groups)) + 7 * wide * log / (3 * (len(groups) - 1))
    assert half(estimate.interval(0.9, method=crl.EmpiricalBernstein(-1, 2))) == pytest.approx(expected, rel=1e-9)
    assert tuple(estimate.interval(method=crl.StudentT())) == tuple(estimate.interval(method=crl.Wald()))


def test_the_t_quantile_is_two_sided() -> None:
    """Trap D2: with the one-sided quantile coverage is .90."""
    x = np.random.default_rng(8).normal(size=(1000, 50))
    covered = np.mean([0.0 in mean_of(row).interval(method=crl.StudentT()) for row in x])
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 1000))
    one_sided = stats.t(49).ppf(0.95) * x.std(axis=1, ddof=1) / math.sqrt(50)
    assert np.mean(np.abs(x.mean(axis=1)) < one_sided) == pytest.approx(0.9035, abs=4 * math.sqrt(0.09 / 1000))


@pytest.mark.parametrize("bound", [crl.Hoeffding, crl.EmpiricalBernstein])
def test_negative_returns_are_returns(bound: Any) -> None:
    """Trap D3: a range from the sample maximum is negative for returns in [-1, 0]; a stated one shifts with the returns."""
    x = -np.random.default_rng(3).random(500)
    low, high = mean_of(x).interval(method=bound(-1, 0))
    assert (low + 1, high + 1) == pytest.approx(tuple(mean_of(x + 1).interval(method=bound(0, 1))), abs=1e-12)
    assert (high - low) / 2 > 1.5 * (0.502 - 0.431) / 2
    scaled = mean_of(-2 * x).interval(method=bound(0, 2))
    assert (scaled.low, scaled.high) == pytest.approx((-2 * high, -2 * low), rel=1e-12)


def test_a_weighted_return_has_a_range_with_zero() -> None:
    data, goal = weighted(), crl.PolicyValue(crl.Always(1))
    for estimator in (crl.IS(), crl.PDIS()):
        estimate = estimator.estimate(data, goal)
        assert half(estimate.interval(method=crl.Hoeffding(0, 1, max_weight=4))) == pytest.approx(
            4 * math.sqrt(math.log(40) / 400), rel=1e-9
        )
        assert half(estimate.interval(method=crl.Hoeffding(0.5, 1, max_weight=4))) == pytest.approx(
            4 * math.sqrt(math.log(40) / 400), rel=1e-9
        )
        assert half(estimate.interval(method=crl.Hoeffding(-1, 1, max_weight=4))) == pytest.approx(
            8 * math.sqrt(math.log(40) / 400), rel=1e-9
        )


def test_a_moment_outside_the_stated_range_is_named() -> None:
    x = np.full(20, 0.5)
    x[[7, 11]] = 1.5, -0.2
    for bound in (crl.Hoeffding, crl.EmpiricalBernstein):
        with pytest.raises(IntervalError, match=r"row 7 has the moment 1\.5, above the bound high = 1"):
            mean_of(x).interval(method=bound(0, 1))
        with pytest.raises(IntervalError, match=r"row 11 has the moment -0\.2, below the bound low = 0"):
            mean_of(x).interval(method=bound(0, 2))
    with pytest.raises(IntervalError, match=r"row \d+ has the moment"):
        crl.IS().estimate(weighted(), crl.PolicyValue(crl.Always(1))).interval(method=crl.Hoeffding(0, 1, max_weight=1.2))


def test_ranges_are_checked() -> None:
    for bad in ((1, 0), (0, 0), (0, math.inf), (math.nan, 1)):
        with pytest.raises(IntervalError, match=r"low|high"):
            crl.Hoeffding(*bad)
    for weight in (0, -1, math.nan):
        with pytest.raises(IntervalError, match="max_weight"):
            crl.EmpiricalBernstein(0, 1, max_weight=weight)
    with pytest.raises(TypeError):
        crl.Hoeffding()  # type: ignore[call-arg]


@pytest.mark.parametrize("bound", BOUNDS)
def test_only_a_plain_mean_of_independent_moments_has_such_a_bound(bound: Any) -> None:
    data, goal = weighted(), crl.PolicyValue(crl.Always(1))
    ratio = crl.WIS().estimate(data, goal)
    contrast = crl.IS().estimate(data, crl.Contrast(crl.Always(1), crl.Always(0)))
    for estimate in (ratio, contrast, ratio / 2):
        with pytest.raises(IntervalError, match="OnPolicyMean, and IS or PDIS"):
            estimate.interval(method=bound)
    for estimate in (crl.IS(behavior=crl.Counts()).estimate(data, goal), crl.DR(q=crl.TabularQ()).estimate(data, goal)):
        with pytest.raises(IntervalError, match="learned a nuisance"):
            estimate.interval(method=bound)


def test_a_range_of_returns_bounds_weighted_returns_only() -> None:
    """A Q of 10 lies outside [0, 1] though every return lies inside: no range of the returns bounds what is made of it."""
    data, goal = weighted(), crl.PolicyValue(crl.Always(1), horizon=1)
    q, ratio = crl.KnownQ([[10.0, 10.0]]), crl.KnownRatio([[0.0, 2.0]])
    for estimator in (crl.DirectMethod(q), crl.DR(q=q), crl.MIS(ratio=ratio), crl.DRL(q=q, ratio=ratio)):
        estimate = estimator.estimate(data, goal)
        for bound in (crl.Hoeffding(-99, 99), crl.EmpiricalBernstein(-99, 99)):
            with pytest.raises(IntervalError, match=r"holds for .*OnPolicyMean"):
                estimate.interval(method=bound)
        if not isinstance(estimator, crl.DR):  # the start value and the rest are two moments
            assert tuple(estimate.interval(method=crl.StudentT())) == tuple(estimate.interval(method=crl.Wald()))
    for estimator in (crl.OnPolicyMean(), crl.IS(), crl.PDIS(), crl.IS(truncate=3.0)):
        first, second = (estimator.estimate(weighted(seed=seed), goal) for seed in (0, 1))
        bound = crl.Hoeffding(0, 1, max_weight=4)
        assert half(crl.Estimate.merge(first, second).interval(method=bound)) < half(first.interval(method=bound))


@pytest.mark.parametrize("bound", BOUNDS)
def test_trajectories_duplicated_within_their_cluster_tell_nothing(bound: Any) -> None:
    """Trap D7."""
    x = np.random.default_rng(4).uniform(-1, 1, 40)
    once = mean_of(x, np.arange(40)).interval(method=bound)
    twice = mean_of(np.repeat(x, 2), np.repeat(np.arange(40), 2)).interval(method=bound)
    assert tuple(twice) == pytest.approx(tuple(once), rel=1e-12)
    assert half(mean_of(np.repeat(x, 2)).interval(method=bound)) < 0.8 * half(once)


@pytest.mark.parametrize("bound", [crl.Hoeffding(0, 1), crl.EmpiricalBernstein(0, 1)])
def test_bounds_cover_at_least_nominally(bound: Any) -> None:
    """A skewed Bernoulli mean, where the t interval falls short; one- and two-sided."""
    draws = (np.random.default_rng(5).random((400, 60)) < 0.03).astype(float)
    estimates = [mean_of(row) for row in draws]
    floor = 0.9 - 4 * math.sqrt(0.9 * 0.1 / 400)
    assert np.mean([0.03 in estimate.interval(0.9, method=bound) for estimate in estimates]) > floor
    assert np.mean([0.03 in estimate.lower_bound(0.9, method=bound) for estimate in estimates]) > floor
    assert np.mean([0.03 in estimate.upper_bound(0.9, method=bound) for estimate in estimates]) > floor
    student = np.mean([0.03 in estimate.interval(0.9, method=crl.StudentT()) for estimate in estimates])
    assert student < 0.9 - 2 * math.sqrt(0.9 * 0.1 / 400)


def test_one_sided_hoeffding_is_the_one_sided_formula() -> None:
    x = np.random.default_rng(6).random(80)
    bound = mean_of(x).lower_bound(0.95, method=crl.Hoeffding(0, 1))
    assert x.mean() - bound.low == pytest.approx(math.sqrt(math.log(20) / 160), rel=1e-9)
    assert bound.high == math.inf
    assert bound.level == 0.95
    assert 100.0 in bound


def test_one_sided_limits_are_those_of_the_two_sided_interval() -> None:
    estimate = crl.WIS().estimate(weighted(), crl.PolicyValue(crl.Always(1)))
    for method in (
        None,
        crl.BCaBootstrap(500),
        crl.StudentizedBootstrap(500),
        crl.MultiplierBootstrap(500),
        crl.RefitBootstrap(50),
    ):
        low, high = estimate.interval(0.9, method=method)
        assert estimate.lower_bound(0.95, method).low == pytest.approx(low, rel=1e-12)
        assert estimate.upper_bound(0.95, method).high == pytest.approx(high, rel=1e-12)
        assert estimate.upper_bound(0.95, method).low == -math.inf


@pytest.mark.parametrize("level", [0.5, 0.0, 1.0, 95])
def test_one_sided_levels_are_checked(level: float) -> None:
    estimate = mean_of([0.0, 1.0, 2.0])
    for bound in (estimate.lower_bound, estimate.upper_bound):
        with pytest.raises(IntervalError, match="one-sided"):
            bound(level)


def test_one_sided_bounds_cover() -> None:
    """Normal returns: each one-sided limit covers its level, exactly for t."""
    estimates = [mean_of(row) for row in np.random.default_rng(7).normal(size=(600, 25))]
    tolerance = 4 * math.sqrt(0.9 * 0.1 / 600)
    for method in (crl.StudentT(), crl.StudentizedBootstrap(400), crl.MultiplierBootstrap(400)):
        assert np.mean([0.0 in e.lower_bound(0.9, method) for e in estimates]) == pytest.approx(0.9, abs=tolerance)
        assert np.mean([0.0 in e.upper_bound(0.9, method) for e in estimates]) == pytest.approx(0.9, abs=tolerance)


def test_one_sided_limits_of_a_vector() -> None:
    study = crl.Trajectories.from_cross_section([[0.0], [1.0]] * 20, [0, 0, 1, 1] * 10, np.arange(40.0))
    effect = crl.DirectMethod(crl.LinearQ())
    estimate = effect.estimate(study, crl.CATE(at=[[0.0], [0.5], [1.0]]))
    bound = estimate.lower_bound(0.9, method=crl.RefitBootstrap(20))
    assert bound.low.shape == (3,)
    assert np.all(bound.high == math.inf)
