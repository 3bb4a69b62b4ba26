"""Choosing a policy: rank sets by a naive loop, their coverage and that of the intervals, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

import causalrl as crl
from causalrl.errors import EstimandError, IntervalError
from causalrl.inference.base import Evidence
from causalrl.inference.functionals import Sum
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from causalrl.selection.policies import rank_sets
from simulators import ModelWin, SepsisSimulator

WIN = ModelWin()
PLAYERS = {f"p = {p}": WIN.policy(p) for p in (0.45, 0.6, 0.7, 0.73, 0.85)}
DATA = WIN.sample(400, WIN.behavior(), horizon=4, seed=1)


def means(columns: np.ndarray) -> list[Evidence]:
    clusters = np.arange(len(columns))
    return [Evidence(float(column.mean()), clusters, Sum(), column[:, None]) for column in columns.T]


def naive_sets(columns: np.ndarray, critical: float) -> tuple[list[int], list[int]]:
    """Ranks from the t statistics of all pairs of columns."""
    n, count = columns.shape
    low, high = [1] * count, [count] * count
    for i in range(count):
        for j in range(count):
            gap = columns[:, i] - columns[:, j]
            if i != j and gap.mean() > critical * gap.std(ddof=1) / np.sqrt(n):
                low[j] += 1
                high[i] -= 1
    return low, high


@pytest.mark.parametrize("seed", range(5))
def test_rank_sets_by_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = rng.normal(size=(150, 6)) + rng.normal(size=(150, 1)) + np.array([0, 0.1, 0.3, 0.5, 0.5, 2.0])
    method = crl.MultiplierBootstrap(500, seed)
    pairs = [columns[:, i] - columns[:, j] for i in range(6) for j in range(i)]
    critical = method.critical(means(np.column_stack(pairs)), 0.9)
    low, high = rank_sets(means(columns), 0.9, method)
    assert (low.tolist(), high.tolist()) == naive_sets(columns, critical)


def test_equal_policies_are_never_told_apart() -> None:
    column = np.random.default_rng(0).normal(size=(100, 1))
    low, high = rank_sets(means(np.hstack([column, column * (1 + 1e-15), column + 5])), 0.95, crl.MultiplierBootstrap())
    assert (low.tolist(), high.tolist()) == ([2, 2, 1], [3, 3, 1])


def held(low: Any, high: Any, truth: np.ndarray) -> bool:
    """Whether the sets hold every true rank, and of equal values all ranks that they may be given."""
    first = np.array([1 + (truth > value).sum() for value in truth])
    last = np.array([(truth >= value).sum() for value in truth])
    return bool(np.all((low <= first) & (last <= high)))


def test_coverage_of_rank_sets() -> None:
    """400 draws of five correlated means: at least 95% (the sets are conservative), and 95% to the binomial error where all are
    equal and any order that is claimed is wrong."""
    rng = np.random.default_rng(1)
    for truth, exact in ((np.array([0.0, 0.0, 0.1, 0.3, 0.3]), False), (np.zeros(5), True)):
        hits = 0
        for r in range(400):
            columns = truth + rng.normal(size=(200, 1)) + rng.normal(size=(200, 5)) * [1, 1, 0.5, 2, 1]
            hits += held(*rank_sets(means(columns), 0.95, crl.MultiplierBootstrap(300, r)), truth)
        low, high = stats.binom.ppf([0.0005, 0.9995], 400, 0.95)
        assert hits >= low
        assert not exact or hits <= high


@pytest.mark.slow
def test_coverage_of_values_and_ranks() -> None:
    """200 samples of ModelWin (H = 4), exact values: both hold for all five policies at once in 95%."""
    truth = np.array([WIN.value(policy, 4) for policy in PLAYERS.values()])
    values = ranks = 0
    for r in range(200):
        data = WIN.sample(400, WIN.behavior(), horizon=4, seed=derive_seed(2, "data", r))
        method = crl.MultiplierBootstrap(300, r)
        frame = (
            crl.rank_policies(data, PLAYERS, crl.PDWIS(), horizon=4, method=method).frame.set_index("policy").loc[list(PLAYERS)]
        )
        values += bool(((frame["low"] <= truth) & (truth <= frame["high"])).all())
        ranks += held(frame["rank_low"], frame["rank_high"], truth)
    low, high = stats.binom.ppf([0.0005, 0.9995], 200, 0.95)
    assert low <= values <= high
    assert low <= ranks


def test_the_frame() -> None:
    ranking = crl.rank_policies(DATA, PLAYERS, crl.PDWIS(), horizon=4)
    frame = ranking.frame.set_index("policy")
    goals = {name: crl.PolicyValue(policy, horizon=4) for name, policy in PLAYERS.items()}
    estimates = {name: crl.PDWIS().estimate(DATA, goal) for name, goal in goals.items()}
    bands = crl.simultaneous(estimates)
    behavior = crl.OnPolicyMean().estimate(DATA, next(iter(goals.values())))
    assert ranking.behavior.value == behavior.value == pytest.approx(DATA.rewards.sum() / DATA.n)
    assert frame["value"].is_monotonic_decreasing
    assert frame["rank"].tolist() == [1, 2, 3, 4, 5]
    assert ((frame["rank_low"] <= frame["rank"]) & (frame["rank"] <= frame["rank_high"])).all()
    for j, (name, estimate) in enumerate(estimates.items()):
        assert frame.loc[name, ["value", "low", "high"]].tolist() == pytest.approx([estimate.value, bands.low[j], bands.high[j]])
        if name != "p = 0.73":
            gap = estimate - behavior
            assert frame.loc[name, "beats_behavior"] == pytest.approx(stats.norm.cdf(gap.value / gap.stderr))
    assert frame.loc["p = 0.73", "beats_behavior"] == 0.5  # the behaviour policy itself: all weights are 1
    verdicts = [ranking.estimates[name].diagnostics.get("verdict") for name in frame.index]
    assert verdicts == (frame["verdict"].tolist() if "verdict" in frame else [None] * 5)
    assert ranking.best == frame.index[0]
    assert ranking.possibly_best == frame.index[frame["rank_low"] == 1].tolist()
    again = crl.rank_policies(DATA, dict(reversed(PLAYERS.items())), crl.PDWIS(), horizon=4).frame.set_index("policy")
    assert again.loc[frame.index, "rank"].tolist() == frame["rank"].tolist()


def test_refits_of_one_resample_are_compared() -> None:
    method = crl.RefitBootstrap(40, 3)
    ranking = crl.rank_policies(DATA, PLAYERS, crl.FQE(crl.TabularQ()), horizon=4, method=method)
    goals = [crl.PolicyValue(policy, horizon=4) for policy in PLAYERS.values()]
    nuisances = Nuisances(DATA, 0)
    estimates = [crl.FQE(crl.TabularQ()).policy_value(nuisances, goal) for goal in goals]
    refits = np.column_stack([estimate.evidence.refitted(40, 3) for estimate in estimates])
    pairs = [(i, j) for i in range(5) for j in range(i)]
    gaps = np.column_stack([refits[:, i] - refits[:, j] for i, j in pairs])
    spread = gaps.std(axis=0, ddof=1)
    critical = np.quantile((np.abs(gaps - gaps.mean(axis=0)) / spread).max(axis=1), 0.95)
    low, high = [1] * 5, [5] * 5
    for (i, j), error in zip(pairs, spread, strict=True):
        gap = float(estimates[i].value) - float(estimates[j].value)
        if abs(gap) > critical * error:
            better, worse = (i, j) if gap > 0 else (j, i)
            low[worse] += 1
            high[better] -= 1
    frame = ranking.frame.set_index("policy").loc[list(PLAYERS)]
    assert (frame["rank_low"].tolist(), frame["rank_high"].tolist()) == (low, high)


def test_on_sepsis_as_written() -> None:
    sim = SepsisSimulator()
    data = sim.sample(1000, sim.physician(epsilon=0.3), horizon=20, seed=0)
    policies = {"careful": sim.physician(epsilon=0.15), "logged": sim.physician(epsilon=0.3), "random": crl.Uniform(8)}
    ranking = crl.rank_policies(data, policies, crl.DR(q=crl.TabularQ()), horizon=20)
    assert ranking.best == "careful"
    assert ranking.frame["policy"].tolist() == list(policies)
    assert ranking.frame["rank_high"].tolist()[:2] <= [2, 2]
    assert "is best" in str(ranking) or "do not tell" in str(ranking)
    assert "<table" in ranking._repr_html_()


def test_figure() -> None:
    import matplotlib.pyplot as plt

    ranking = crl.rank_policies(DATA, PLAYERS, crl.PDWIS(), horizon=4)
    axes = ranking.plot()
    assert [text.get_text() for text in axes.get_yticklabels()] == ranking.frame["policy"].tolist()
    assert sum(text.get_text().startswith("rank") for text in axes.texts) == 5
    plt.close("all")


@pytest.mark.parametrize(
    ("policies", "estimator", "options", "error", "says"),
    [
        ({"a": crl.Always(0)}, crl.PDWIS(), {}, EstimandError, "only 'a'; a ranking needs two or more"),
        (PLAYERS, "DR", {}, EstimandError, "'DR' is no estimator"),
        (PLAYERS, crl.OnPolicyMean(), {}, EstimandError, "gives every policy the same value"),
        (PLAYERS, crl.PDWIS(), {"level": 1.5}, IntervalError, "level"),
        ({"a": crl.Always(0), "b": crl.ATE()}, crl.PDWIS(), {}, EstimandError, "'b' is .* no value of a policy"),
        (
            {"a": crl.PolicyValue(crl.Always(0), horizon=2), "b": crl.PolicyValue(crl.Always(1), horizon=3)},
            crl.PDWIS(),
            {},
            EstimandError,
            "only values of the same return have an order",
        ),
        ({"a": crl.Always(0), "b": crl.TabularPolicy(np.eye(2))}, crl.PDWIS(), {}, EstimandError, "'b' has no estimate"),
        (PLAYERS, crl.FQE(crl.TabularQ()), {"method": crl.Wald()}, IntervalError, "knows no joint spread"),
    ],
)
def test_refused(policies: Any, estimator: Any, options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        crl.rank_policies(DATA, policies, estimator, **{"horizon": 4, **options})
