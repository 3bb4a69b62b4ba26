"""Choosing an estimator: each rule by a naive loop, its promise on ModelFail and ModelWin, metrics by hand, what is refused."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import causalrl as crl
from benchmarks.selection import CANDIDATES, REPLICATIONS, RESULTS, RULES, N, one, problems, scores
from causalrl.errors import DataError, EstimandError, IntervalError, MismatchError
from causalrl.kernels.resampling import count_block
from causalrl.kernels.rng import derive_seed
from simulators import ModelFail, ModelWin, TabularMDP
from tests.conftest import cross_section, ragged_data

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning")

FAIL = ModelFail()
GOAL = crl.PolicyValue(FAIL.target(), horizon=2)
DATA = FAIL.sample(400, FAIL.behavior(), horizon=2, seed=3)
CHECK = crl.SimulatorCheck(FAIL, FAIL.behavior(), replicates=2)
FEW: dict[str, crl.Estimator] = {"WIS": crl.WIS(), "IS": crl.IS(), "FQE": crl.FQE(crl.TabularQ())}


def planted(values: list[float], refits: np.ndarray) -> Any:
    """What a rule reads of a trial with given values and refits (B, K)."""
    estimates = {
        f"e{j}": SimpleNamespace(value=value, evidence=SimpleNamespace(refitted=lambda *_, own=refits[:, j]: own))
        for j, value in enumerate(values)
    }
    return SimpleNamespace(candidates=estimates, estimates=estimates, failures={})


@pytest.mark.parametrize("seed", range(20))
def test_slope_by_pairs(seed: int) -> None:
    """The kept ones are the longest run from the first in which every two intervals meet (in one dimension: all meet)."""
    rng = np.random.default_rng(seed)
    count = 6
    refits = rng.normal(size=(50, count)) * rng.uniform(0.05, 1.0, count)
    values = rng.normal(size=count).tolist()
    rows, chosen, _ = crl.Slope(50).judge(planted(values, refits))
    half = 2 * stats.norm.ppf(1 - 0.05 / count / 2) * refits.std(axis=0, ddof=1)
    meets = [all(abs(values[a] - values[b]) <= half[a] + half[b] for a, b in combinations(range(i + 1), 2)) for i in range(count)]
    run = meets.index(False) if False in meets else count
    assert [row["kept"] for row in rows.values()] == [i < run for i in range(count)]
    assert chosen == f"e{int(np.argmin(half[:run]))}"
    assert [row["high"] - row["low"] for row in rows.values()] == pytest.approx(2 * half)


@pytest.mark.parametrize("seed", range(5))
def test_slope_with_falling_widths_chooses_the_last_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    refits = np.linspace(-1, 1, 40)[:, None] * np.geomspace(1.0, 0.02, 8)
    rows, chosen, _ = crl.Slope(40).judge(planted(np.cumsum(rng.exponential(0.2, 8)).tolist(), refits))
    assert chosen == [name for name, row in rows.items() if row["kept"]][-1]


def test_bootstrap_mse_by_hand() -> None:
    """Refits of IS and WIS are (ratios of) means over the trajectories drawn; the rest is arithmetic."""
    method = crl.BootstrapMSE(60, seed=5)
    frame = crl.select_estimator(DATA, GOAL, {"WIS": crl.WIS(), "IS": crl.IS()}, method).frame.set_index("estimator")
    actions, rewards = DATA.actions.reshape(-1, 2), DATA.rewards.reshape(-1, 2)
    p, b = FAIL.target().table[0], FAIL.behavior().table[0]
    weights, returns = np.prod(p[actions] / b[actions], axis=1), rewards.sum(axis=1)
    drawn = []
    for counts in count_block(DATA.n, 5, 0, 60).astype(int):
        rows = np.repeat(np.arange(DATA.n), counts)
        total = (weights[rows] * returns[rows]).sum()
        drawn.append([total / weights[rows].sum(), total / len(rows)])
    refits = np.array(drawn)
    gap = abs(np.mean(weights * returns) - np.sum(weights * returns) / weights.sum())
    bias = max(0.0, gap - stats.norm.ppf(0.975) * np.std(refits[:, 1] - refits[:, 0], ddof=1))
    assert frame["stderr"].tolist() == pytest.approx(refits.std(axis=0, ddof=1).tolist())
    assert frame["bias"].tolist() == pytest.approx([0.0, bias])
    assert frame.loc["IS", "rmse"] == pytest.approx(np.hypot(refits[:, 1].std(ddof=1), bias))


def test_bootstrap_mse_charges_a_bias() -> None:
    refits = np.random.default_rng(0).normal(size=(100, 3)) * [0.1, 0.1, 0.01]
    rows, chosen, findings = crl.BootstrapMSE(100).judge(planted([0.0, 0.1, 5.0], refits))
    z = stats.norm.ppf(1 - 0.05 / 4)
    assert rows["e2"]["bias"] == pytest.approx(5.0 - z * np.std(refits[:, 2] - refits[:, 0], ddof=1))
    assert rows["e0"]["bias"] == rows["e1"]["bias"] == 0.0
    assert chosen in ("e0", "e1")
    assert "e2" in findings[0]


def test_simulator_check_is_replication() -> None:
    check = crl.SimulatorCheck(FAIL, FAIL.behavior(), n=150, replicates=20, seed=4)
    selection = crl.select_estimator(DATA, GOAL, FEW, check)
    goals = {"goal": GOAL}
    table = crl.replicate(FAIL, FAIL.behavior(), 150, goals, FEW, replications=20, horizon=2, seed=4).frame
    assert selection.frame["rmse"].tolist() == pytest.approx(table["rmse"].tolist())
    assert selection.chosen == "WIS"
    assert selection.estimate.value == crl.WIS().estimate(DATA, GOAL).value


def test_simulator_check_on_a_fitted_simulator() -> None:
    sim = ModelWin()
    data = sim.sample(400, sim.behavior(), horizon=8, seed=0)
    planned = crl.learning.EmpiricalMDP(horizon=8).fit(data)
    logged = crl.TabularPolicy(planned.counts / planned.counts.sum(axis=1, keepdims=True))
    world = TabularMDP.from_sparse(**planned.arrays())
    check = crl.SimulatorCheck(world, planned.on_model(logged), planned.on_model(sim.target()), replicates=20)
    assert crl.select_estimator(data, crl.PolicyValue(sim.target(), horizon=8), FEW, check).chosen == "FQE"


def test_the_committed_rows_hold_the_promise() -> None:
    rows = pd.read_csv(RESULTS)
    assert rows["commit"].str.fullmatch("[0-9a-f]{40}").all()
    assert (rows["n"] == N).all()
    found = scores(rows).set_index(["problem", "name"])
    assert (found["replications"] == REPLICATIONS).all()
    for problem in problems():
        for rule in RULES:
            assert found.loc[(problem, rule), "ratio"] <= 1.5, found


@pytest.mark.parametrize("name", ["ModelFail", pytest.param("ModelWin", marks=pytest.mark.slow)])
def test_the_committed_rows_repeat(name: str) -> None:
    rows = pd.read_csv(RESULTS).set_index(["problem", "replication"])
    for r in (0, 1):
        again = one(problems()[name], r)
        kept = rows.loc[(name, r)]
        assert [again[rule] for rule in RULES] == [kept[rule] for rule in RULES]
        assert [again[key] for key in CANDIDATES] == pytest.approx([kept[key] for key in CANDIDATES], rel=1e-6)


def test_selection_on_fresh_samples() -> None:
    """ModelFail, 60 samples of 1,000: the chosen estimate is within 1.5 of the best candidate's root mean squared error."""
    errors, chosen = [], []
    for r in range(60):
        data = FAIL.sample(1000, FAIL.behavior(), horizon=2, seed=derive_seed(99, "data", r))
        found = crl.select_estimator(data, GOAL, FEW, crl.Slope(30))
        errors.append(found.frame["value"].to_numpy() + 0.76)
        chosen.append(found.estimate.value + 0.76)
    rmse = np.sqrt(np.mean(np.square(errors), axis=0))
    assert np.sqrt(np.mean(np.square(chosen))) <= 1.5 * rmse.min()


def test_failures_are_rows() -> None:
    data = ragged_data(40)
    candidates = {"WIS": crl.WIS(), "known": crl.FQE(crl.KnownQ(np.zeros((9, 9)))), "IS": crl.IS()}
    frame = crl.select_estimator(data, crl.Always(1), candidates, crl.Slope(30)).frame.set_index("estimator")
    assert frame["failure"].isna().tolist() == [True, False, True]
    assert np.isnan(frame.loc["known", "value"])
    assert frame["chosen"].sum() == 1


def test_effects_too() -> None:
    recipes = {"AIPW": crl.AIPW(outcome=crl.LinearQ(), propensity=crl.Logit()), "IPW": crl.IPW(propensity=crl.Logit())}
    data = cross_section(300)
    found = crl.select_estimator(data, crl.ATE(), recipes, crl.BootstrapMSE(30))
    method = crl.RefitWald(30)
    errors = [method.stderr(recipe.estimate(data, crl.ATE()).evidence) for recipe in recipes.values()]
    assert found.frame["stderr"].tolist() == pytest.approx(errors)


@pytest.mark.parametrize(
    ("candidates", "goal", "rule", "error", "says"),
    [
        ({"WIS": crl.WIS()}, GOAL, crl.Slope(), EstimandError, "only 'WIS'; there is a choice between two or more"),
        (FEW, GOAL, "slope", EstimandError, "pass an object such as Slope()"),
        (FEW, GOAL, crl.Slope, EstimandError, "pass an object such as Slope()"),
        ({"a": crl.WIS(), "b": "IS"}, GOAL, crl.Slope(), EstimandError, "'b' is 'IS', no estimator"),
        (crl.WIS(), GOAL, crl.Slope(), DataError, "single one"),
        (FEW, crl.CATE([[0.0]]), crl.Slope(), EstimandError, "CATE"),
        (FEW, crl.Contrast(crl.Always(1), crl.Always(0)), CHECK, EstimandError, "no value of one policy"),
        ({"bad": crl.FQE(crl.KnownQ(np.zeros((9, 9)))), **FEW}, GOAL, crl.BootstrapMSE(), EstimandError, "'bad', the first"),
    ],
)
def test_refused(candidates: Any, goal: Any, rule: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says.replace("(", r"\(").replace(")", r"\)")):
        crl.select_estimator(DATA, goal, candidates, rule)


def test_rules_refuse_bad_fields() -> None:
    with pytest.raises(IntervalError, match="level: 95"):
        crl.Slope(level=95)
    with pytest.raises(IntervalError, match="replicates: 3"):
        crl.BootstrapMSE(3)
    with pytest.raises(EstimandError, match="no sample and value"):
        crl.SimulatorCheck("sepsis", crl.Uniform(2))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="replicates"):
        crl.SimulatorCheck(FAIL, FAIL.behavior(), replicates=1)


@pytest.mark.parametrize("rule", [crl.Slope(30), crl.BootstrapMSE(30), CHECK])
def test_shown(rule: Any) -> None:
    import matplotlib.pyplot as plt

    found = crl.select_estimator(DATA, GOAL, FEW, rule)
    assert found.chosen in str(found)
    assert "<table" in found._repr_html_()
    axes = found.plot()
    assert [text.get_text() for text in axes.get_yticklabels()] == list(FEW)
    plt.close("all")


def naive_top(estimated: list[float], k: int) -> list[int]:
    left, top = list(range(len(estimated))), []
    for _ in range(k):
        best = left[0]
        for j in left:
            if estimated[j] > estimated[best]:
                best = j
        left.remove(best)
        top.append(best)
    return top


@pytest.mark.parametrize("seed", range(10))
def test_metrics_by_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    estimated, truth = rng.integers(0, 6, 7).astype(float).tolist(), rng.normal(size=7).tolist()
    for k in range(1, 8):
        values = [truth[j] for j in naive_top(estimated, k)]
        assert crl.best_at_k(estimated, truth, k) == max(values)
        assert crl.worst_at_k(estimated, truth, k) == min(values)
        assert crl.regret_at_k(estimated, truth, k) == max(truth) - max(values)
        if k > 1:
            mean = sum(values) / k
            spread = (sum((value - mean) ** 2 for value in values) / k) ** 0.5
            assert crl.sharpe_ratio_at_k(estimated, truth, 0.3, k) == pytest.approx((max(values) - 0.3) / spread)
    assert crl.rank_correlation(estimated, truth) == pytest.approx(stats.spearmanr(estimated, truth).statistic)


def test_metrics_by_hand() -> None:
    """Four policies worth 10, 8, 4, 2; the estimates put 8 first, then 2, 10, 4; the behaviour policy is worth 5."""
    estimated, truth = {"a": 3.0, "b": 9.0, "c": 1.0, "d": 5.0}, {"d": 2.0, "c": 4.0, "b": 8.0, "a": 10.0}
    assert [crl.regret_at_k(estimated, truth, k) for k in (1, 2, 3, 4)] == [2.0, 2.0, 0.0, 0.0]
    assert crl.sharpe_ratio_at_k(estimated, truth, 5.0, 2) == 1.0  # (8 - 5) / 3
    assert crl.sharpe_ratio_at_k(estimated, truth, 5.0, 4) == pytest.approx(5 / np.sqrt(10))
    assert crl.rank_correlation(estimated, truth) == pytest.approx(1 - 6 * (4 + 1 + 1 + 4) / 60)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: crl.regret_at_k([1, 2], [1, 2], 3), DataError, "k: 3; pass a whole number, at least 1 and at most 2"),
        (lambda: crl.regret_at_k([1, 2], [1, 2], 0), DataError, "k: 0"),
        (lambda: crl.sharpe_ratio_at_k([1, 2], [1, 2], 0.0, 1), DataError, "k: 1; pass a whole number, at least 2"),
        (lambda: crl.sharpe_ratio_at_k([1, 2], [2, 2], 0.0, 2), DataError, "no risk to divide by"),
        (lambda: crl.sharpe_ratio_at_k([1, 2], [1, 2], np.nan, 2), DataError, "baseline"),
        (lambda: crl.rank_correlation([1, 2, 3], [1, 2]), DataError, "3 and 2 values"),
        (lambda: crl.rank_correlation([1], [1]), DataError, "pass at least 2"),
        (lambda: crl.rank_correlation([1, 1], [1, 2]), DataError, "all 2 values are 1"),
        (lambda: crl.rank_correlation([1, np.nan], [1, 2]), DataError, "estimated"),
        (lambda: crl.rank_correlation({"a": 1.0, "b": 2.0}, {"a": 1.0, "c": 2.0}), MismatchError, "truth: no value for 'b'"),
        (lambda: crl.rank_correlation({"a": 1.0}, {"a": 1.0, "c": 2.0}), MismatchError, "estimated: no value for 'c'"),
        (lambda: crl.rank_correlation({"a": 1.0, "b": 2.0}, [1.0, 2.0]), MismatchError, "pass two mappings, or two lists"),
        (lambda: crl.regret_at_k([[1, 2]], [1, 2], 1), DataError, "one value for every policy"),
    ],
)
def test_metrics_refuse(call: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()
