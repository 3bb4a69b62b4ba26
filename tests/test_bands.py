"""Simultaneous bands: the quantile by hand, joint coverage, and what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

import causalrl as crl
from causalrl.errors import IntervalError, MismatchError
from causalrl.inference.base import Evidence
from causalrl.inference.functionals import RatioSum, Sum
from causalrl.kernels.cluster_weights import Weights
from causalrl.kernels.resampling import weights_of
from tests.conftest import BEHAVIOR, TARGET, ragged_data

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning", "ignore::causalrl.errors.SupportWarning")

GOALS = {
    "target": crl.PolicyValue(TARGET, horizon=4),
    "behavior": crl.PolicyValue(BEHAVIOR, horizon=4),
    "uniform": crl.PolicyValue(crl.Uniform(2), horizon=4),
}


def estimate_of(moments: np.ndarray, label: str, clusters: Any = None) -> Any:
    """What a band reads of an estimate of a ratio (two columns) or a mean (one)."""
    means = moments.mean(axis=0)
    functional = Sum() if moments.shape[1] == 1 else RatioSum(np.zeros(1))
    evidence = Evidence(
        float(functional.value(means)), np.arange(len(moments)) if clusters is None else clusters, functional, moments
    )
    return SimpleNamespace(evidence=evidence, fingerprint="data", estimator="WIS", estimand=label)


def policies(rng: np.random.Generator, n: int = 200, count: int = 10, skew: float = 0.6) -> dict[str, Any]:
    """Correlated ratios of value 1: each policy's log-normal weights share a factor with all others."""
    shared, own = rng.normal(size=(n, 1)), rng.normal(size=(n, count))
    w = np.exp(skew * (np.sqrt(0.7) * shared + np.sqrt(0.3) * own) - skew**2 / 2)
    r = 1 + rng.normal(size=(n, 1))
    return {f"policy {j}": estimate_of(np.column_stack([w[:, j] * r[:, 0], w[:, j]]), f"policy {j}") for j in range(count)}


@pytest.mark.parametrize("clusters", [None, np.arange(200) // 4])
def test_critical_value_by_hand(clusters: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 3)) + rng.normal(size=(200, 1))
    estimates = [estimate_of(x[:, [j]], f"mean {j}", clusters) for j in range(3)]
    bands = crl.simultaneous(estimates, level=0.9, method=crl.MultiplierBootstrap(300, seed=5))
    units = np.arange(200) if clusters is None else clusters
    psi = np.array([(x - x.mean(axis=0))[units == g].sum(axis=0) for g in range(units.max() + 1)])
    count = len(psi)
    drawn = weights_of(int(Weights.SIGN), count, 300, 5)[:, :, None] * psi
    t = np.abs(drawn.mean(axis=1)) / (drawn.std(axis=1, ddof=1) / math.sqrt(count))
    assert bands.critical == pytest.approx(np.quantile(t.max(axis=1), 0.9, method="higher"), rel=1e-9)
    stderr = np.sqrt(count / (count - 1) * (psi**2).sum(axis=0)) / 200
    np.testing.assert_allclose(bands.stderr, stderr, rtol=1e-10)
    np.testing.assert_allclose(bands.low, x.mean(axis=0) - bands.critical * stderr, rtol=1e-10)
    np.testing.assert_allclose(bands.high, x.mean(axis=0) + bands.critical * stderr, rtol=1e-10)


def test_one_estimate_has_its_own_interval_and_copies_cost_nothing() -> None:
    one = next(iter(policies(np.random.default_rng(2)).values()))
    method = crl.MultiplierBootstrap(500)
    bands = crl.simultaneous([one], method=method)
    assert (bands.low[0], bands.high[0]) == pytest.approx(method.limits(one.evidence, 0.95), rel=1e-12)
    copies = crl.simultaneous({"a": one, "b": one, "c": one}, method=method)
    assert copies.critical == pytest.approx(bands.critical, rel=1e-12)
    twice = {"a": one, "b": estimate_of(3 * one.evidence.moments * [1, 0.5], "scaled")}
    assert crl.simultaneous(twice, method=method).critical == pytest.approx(bands.critical, rel=1e-12)


def test_independent_estimates_need_the_quantile_of_sidak() -> None:
    x = np.random.default_rng(3).normal(size=(2_000, 20))
    bands = crl.simultaneous([estimate_of(x[:, [j]], f"mean {j}") for j in range(20)], method=crl.MultiplierBootstrap(4_000))
    assert bands.critical == pytest.approx(stats.norm.ppf(0.5 + 0.95 ** (1 / 20) / 2), rel=0.02)


@pytest.mark.slow
def test_bands_cover_jointly_where_intervals_do_not() -> None:
    """Ten correlated policies: all ten values at once within binomial error of .95."""
    rng = np.random.default_rng(4)
    joint = alone = 0
    for _ in range(400):
        estimates = policies(rng)
        bands = crl.simultaneous(estimates, method=crl.MultiplierBootstrap(400))
        joint += bool(np.all((bands.low <= 1) & (bands.high >= 1)))
        half = stats.t(199).ppf(0.975) * bands.stderr
        alone += bool(np.all(np.abs(bands.value - 1) <= half))
    assert joint / 400 == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 400))
    assert alone / 400 < 0.9


def test_duplicated_trajectories_leave_the_band_alone() -> None:
    """Trap D7."""
    x = np.random.default_rng(5).normal(size=(60, 2)) + 1
    rows = np.repeat(np.arange(60), 2)
    once = crl.simultaneous([estimate_of(x[:, [j]], str(j)) for j in range(2)])
    twice = crl.simultaneous([estimate_of(x[rows][:, [j]], str(j), rows) for j in range(2)])
    np.testing.assert_allclose(twice.low, once.low, rtol=1e-10)
    np.testing.assert_allclose(twice.high, once.high, rtol=1e-10)


def test_a_band_of_real_estimates_prints_and_tabulates() -> None:
    data = ragged_data(200, horizon=4)
    bands = crl.simultaneous({name: crl.WIS().estimate(data, goal) for name, goal in GOALS.items()})
    assert bands.labels == tuple(GOALS)
    assert list(bands.frame.columns) == ["label", "value", "stderr", "low", "high"]
    assert bands.frame["label"].tolist() == list(GOALS)
    np.testing.assert_array_equal(bands.frame["low"], bands.low)
    lines = repr(bands).splitlines()
    assert lines[0].startswith("simultaneous 95%: -/+ ")
    assert [line.split()[0] for line in lines[1:]] == list(GOALS)
    assert "<table" in bands._repr_html_()
    listed = crl.simultaneous([crl.WIS().estimate(data, goal) for goal in GOALS.values()])
    np.testing.assert_array_equal(listed.low, bands.low)
    assert len(listed) == len(set(listed.labels)) == 3
    with pytest.raises(AttributeError):
        bands.level = 0.5  # type: ignore[misc]


def test_estimates_without_influence_are_refitted_on_shared_resamples() -> None:
    data = ragged_data(200, horizon=4)
    fitted = {name: crl.FQE(crl.TabularQ()).estimate(data, goal) for name, goal in GOALS.items()}
    mixed = {**fitted, "weighted": crl.WIS().estimate(data, GOALS["target"])}
    bands = crl.simultaneous(mixed, 0.9)
    assert isinstance(bands.method, crl.RefitBootstrap)
    refits = np.column_stack([estimate.evidence.refitted(200, 0) for estimate in mixed.values()])
    spread = refits.std(axis=0, ddof=1)
    largest = (np.abs(refits - refits.mean(axis=0)) / spread).max(axis=1)
    assert bands.critical == pytest.approx(np.quantile(largest, 0.9), rel=1e-12)
    np.testing.assert_allclose(bands.stderr, spread, rtol=1e-12)
    assert bands.critical < stats.norm.ppf(1 - 0.1 / 8) * 1.1
    assert crl.simultaneous(mixed, 0.9, method=crl.RefitWald(50, seed=1)).critical > 1


def test_what_is_refused() -> None:
    data = ragged_data(60, horizon=4)
    wis = {name: crl.WIS().estimate(data, goal) for name, goal in GOALS.items()}
    other = crl.WIS().estimate(ragged_data(60, seed=1, horizon=4), GOALS["target"])
    with pytest.raises(MismatchError, match="different data"):
        crl.simultaneous({"one": wis["target"], "other": other})
    with pytest.raises(IntervalError, match="occurs twice; pass a mapping"):
        crl.simultaneous([wis["target"], wis["target"]])
    with pytest.raises(IntervalError, match="none"):
        crl.simultaneous([])
    with pytest.raises(IntervalError, match="a single one"):
        crl.simultaneous(wis["target"])  # type: ignore[arg-type]
    for level in (0.0, 1.0, 95):
        with pytest.raises(IntervalError, match="level"):
            crl.simultaneous(wis, level)
    for method in (crl.Wald(), crl.MultiplierBootstrap, "sup-t"):
        with pytest.raises(IntervalError, match="knows no joint spread; pass MultiplierBootstrap"):
            crl.simultaneous(wis, method=method)  # type: ignore[arg-type]
    with pytest.raises(IntervalError, match="single cluster"):
        crl.simultaneous([crl.WIS().estimate(data.take([0]), GOALS["uniform"])])


def test_a_fit_without_a_compiled_refit_says_what_to_do() -> None:
    from sklearn.linear_model import LinearRegression

    study = crl.Trajectories.from_cross_section([[0.0], [1.0], [2.0]] * 10, [0, 1] * 15, np.arange(30.0) % 4)
    learner = crl.FQE(crl.Pooled(LinearRegression()))
    arms = {"no": crl.Always(0), "yes": crl.Always(1)}
    estimates = {name: learner.estimate(study, policy) for name, policy in arms.items()}
    with pytest.raises(IntervalError, match=r"'no' .*RefitBootstrap\(200\)"):
        crl.simultaneous(estimates)
    bands = crl.simultaneous(estimates, method=crl.RefitBootstrap(20))
    assert np.all(bands.low < bands.high)
    vector = learner.estimate(study, crl.CATE(at=[[0.0], [1.0]]))
    with pytest.raises(IntervalError, match="has 2 values"):
        crl.simultaneous({"effect": vector})


def test_a_value_without_spread_does_not_widen_the_band() -> None:
    x = np.random.default_rng(6).normal(size=(50, 1))
    estimates = {"x": estimate_of(x, "x"), "zero": estimate_of(np.zeros((50, 1)), "zero")}
    bands = crl.simultaneous(estimates)
    assert bands.critical == pytest.approx(crl.simultaneous({"x": estimates["x"]}).critical, rel=1e-12)
    assert (bands.low[1], bands.high[1]) == (0.0, 0.0)


def test_bands_are_drawn() -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    ax = crl.simultaneous(policies(np.random.default_rng(7), n=50, count=3)).plot()
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["policy 0", "policy 1", "policy 2"]
    assert "simultaneous 95% band" in ax.get_xlabel()
    plt.close(ax.figure)
