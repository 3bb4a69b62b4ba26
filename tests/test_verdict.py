"""Verdicts: their figures against plain re-computation, their rules one by one, and that every estimate has one."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LinearRegression, LogisticRegression

import causalrl as crl
from causalrl.diagnostics.calibration import calibration_curve, recalibration_slope
from causalrl.diagnostics.figures import Figures, largest_influence, missed_mean, unlogged_risk
from causalrl.diagnostics.record import KEYS, VERDICTS, diagnostics_record, worse_verdict
from causalrl.diagnostics.verdict import RULES, judged
from causalrl.diagnostics.weights import tail_index
from causalrl.kernels.ragged import agreement_by_time
from simulators import KangSchafer, Point, SepsisSimulator

RELIABLE, CAUTION, STOP = VERDICTS
RULE = {rule.name: rule for rule in RULES}


def figures(n: int = 2000, steps: float = 1.0, agreeing: int | None = None, **values: Any) -> Figures:
    own = {key: values.pop(key) for key in ("flat", "chance_before", "chance_after") if key in values}
    return Figures(diagnostics_record(**values), n, n, steps, agreeing, **own)


@pytest.fixture(scope="module")
def sepsis() -> crl.Trajectories:
    simulator = SepsisSimulator()
    return simulator.sample(800, simulator.physician(epsilon=0.3), horizon=20, seed=0)


@pytest.fixture(scope="module")
def target() -> crl.PolicyValue:
    return crl.PolicyValue(SepsisSimulator().physician(epsilon=0.2), horizon=20)


def quiet(recipe: crl.Estimator, data: crl.Trajectories, goal: object) -> crl.Estimate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crl.errors.CausalRLWarning)
        return recipe.estimate(data, goal)


@pytest.mark.parametrize(
    ("values", "name", "verdict"),
    [
        ({"ess": 61.0}, "ess", RELIABLE),
        ({"ess": 59.0}, "ess", CAUTION),
        ({"ess": 11.0}, "ess", CAUTION),
        ({"ess": 9.0}, "ess", STOP),
        ({"n": 40, "ess": 20.0}, "ess", CAUTION),
        ({"n": 1, "ess": 1.0}, "ess", STOP),
        ({"agreeing": 61}, "agreement", RELIABLE),
        ({"agreeing": 0}, "agreement", CAUTION),
        ({"largest_share": 0.19}, "largest_share", RELIABLE),
        ({"largest_share": 0.21}, "largest_share", CAUTION),
        ({"largest_share": 0.6}, "largest_share", STOP),
        ({"n": 5, "largest_share": 0.6}, "largest_share", STOP),
        ({"largest_influence": 0.51}, "largest_influence", CAUTION),
        ({"tail_index": 0.9}, "tail_index", RELIABLE),
        ({"tail_index": 1.1}, "tail_index", CAUTION),
        ({"mean_weight": 1.0, "ess": 500.0}, "mean_weight", RELIABLE),
        ({"mean_weight": 0.8, "ess": 500.0}, "mean_weight", CAUTION),
        ({"mean_weight": 0.5, "ess": 500.0}, "mean_weight", STOP),
        ({"unsupported_mass": 0.0}, "unsupported_mass", RELIABLE),
        ({"unsupported_mass": 0.05}, "unsupported_mass", CAUTION),
        ({"unsupported_mass": 0.24}, "unsupported_mass", STOP),
        ({"unsupported_mass": 0.02, "steps": 10.0}, "unlogged_decisions", RELIABLE),
        ({"unsupported_mass": 0.03, "steps": 10.0}, "unlogged_decisions", STOP),
        ({"lost_mass": np.array([0.0, 0.03])}, "lost_mass", RELIABLE),
        ({"lost_mass": np.array([0.0, 0.05])}, "lost_mass", CAUTION),
        ({"lost_mass": np.array([0.4, 0.0])}, "lost_mass", STOP),
        ({"smd_after": np.array([0.02, -0.12])}, "smd_after", CAUTION),
        ({"smd_after": np.array([0.02, -0.3])}, "smd_after", STOP),
        ({"smd_after": np.array([-0.3]), "chance_after": np.array([0.05])}, "smd_after", STOP),
        ({"smd_after": np.array([-0.3]), "chance_after": np.array([0.15])}, "smd_after", CAUTION),
        ({"smd_after": np.array([-0.3]), "chance_after": np.array([0.25])}, "smd_after", RELIABLE),
        ({"smd_after": np.array([0.9]), "bellman_residual": 1.0}, "smd_after", RELIABLE),
        ({"smd_after": np.array([0.9]), "bellman_residual": 1.0}, "smd_corrected", CAUTION),
        ({"smd_before": np.array([0.02, -0.3])}, "smd_before", CAUTION),
        ({"smd_before": np.array([0.3]), "chance_before": np.array([0.1])}, "smd_before", RELIABLE),
        ({"smd_before": np.array([0.9]), "smd_after": np.array([0.0])}, "smd_before", RELIABLE),
        ({"calibration": 0.7}, "calibration", RELIABLE),
        ({"calibration": 0.6}, "calibration", CAUTION),
        ({"calibration": -0.1}, "calibration", CAUTION),
        ({"flat": True, "ess": 80.0}, "flat", CAUTION),
        ({"n": 4}, "clusters", STOP),
        ({"n": 5}, "clusters", CAUTION),
        ({"n": 29}, "clusters", CAUTION),
        ({"n": 30}, "clusters", RELIABLE),
    ],
)
def test_a_rule_alone(values: dict[str, object], name: str, verdict: str) -> None:
    """Each rule at both sides of its bounds; what it says names a number and what to do."""
    own = figures(**values)
    found = judged(own, [RULE[name]])
    assert found["verdict"] == verdict
    assert len(found["reasons"]) == (verdict != RELIABLE)
    for reason in found["reasons"]:
        assert any(letter.isdigit() for letter in reason)
        assert ": " in reason or ";" in reason
        assert "{" not in reason


def test_the_risk_of_unlogged_decisions() -> None:
    """Expected number along a trajectory times the root of the sample size, by what the estimator has to make up for them."""
    mass = {"unsupported_mass": 0.01, "steps": 10.0}
    assert unlogged_risk(figures(n=1600, **mass)) == pytest.approx(2 * 0.1 * 40)
    assert unlogged_risk(figures(ess=400.0, **mass)) == pytest.approx(2 * 0.1 * 20)
    both = {**mass, "ess": 400.0, "bellman_residual": 0.1}
    assert unlogged_risk(figures(**both)) == pytest.approx(0.1 * 20)
    assert unlogged_risk(figures(**both, lost_mass=np.zeros(3))) == pytest.approx(0.1 * 20 / 2)


def test_the_mean_weight_in_standard_errors() -> None:
    """Kish's figure gives the standard error of the mean weight."""
    weights = np.random.default_rng(0).gamma(1.0, 1.3, 500)
    ess = float(weights.sum() ** 2 / np.sum(weights**2))
    expected = abs(weights.mean() - 1) / (weights.std() / np.sqrt(500))
    assert missed_mean(figures(n=500, mean_weight=float(weights.mean()), ess=ess)) == pytest.approx(expected, rel=1e-6)
    assert missed_mean(figures(n=500, mean_weight=0.9, ess=ess, truncated=(5.0, 0.1, 0.1))) is None


def test_agreement_by_counting() -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 6, 40)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    taken = np.where(rng.random(offsets[-1]) < 0.7, rng.random(offsets[-1]), 0.0)
    parts = [taken[a:b] for a, b in pairwise(offsets)]
    under_way, agreeing = agreement_by_time(taken, offsets)
    assert under_way.tolist() == [sum(len(part) > t for part in parts) for t in range(lengths.max())]
    assert agreeing.tolist() == [sum(len(part) > t and bool((part[: t + 1] > 0).all()) for part in parts) for t in range(5)]


def test_agreement_of_a_fixed_policy_and_of_who_acted() -> None:
    actions, offsets = [0, 0, 1, 0, 0, 1, 0], [0, 3, 5, 7]
    data = crl.Trajectories.from_arrays([0] * 7, actions, [1.0] * 7, offsets, behavior_probabilities=[0.5] * 7)
    never = quiet(crl.PDWIS(), data, crl.PolicyValue(crl.Always(0), horizon=2))
    assert never.diagnostics["agreement"].tolist() == [2 / 3, 2 / 3]
    assert quiet(crl.PDWIS(), data, crl.NaturalCourse()).diagnostics["agreement"].tolist() == [1.0, 1.0, 1.0]


def test_the_recalibration_slope() -> None:
    """Near the maximum of the likelihood of p^b / sum p^b; Cox's slope for two arms; below 1 for overfitted propensities."""
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(4000, 3))

    def powers(b: float) -> np.ndarray:
        rows = np.exp(b * scores)
        return rows / rows.sum(axis=1, keepdims=True)

    taken = np.array([rng.choice(3, p=row) for row in powers(0.95)])

    def loss(b: float) -> float:
        return float(-np.log(powers(b)[np.arange(4000), taken]).mean())

    best = minimize_scalar(loss, bounds=(0.5, 1.5), method="bounded", options={"xatol": 1e-9}).x
    slope = recalibration_slope(powers(1.0), powers(1.0)[np.arange(4000), taken])
    assert slope == pytest.approx(best, abs=0.003)  # one step from 1, quadratic convergence
    e = powers(1.0)[:, 1]
    arm = rng.random(4000) < e
    two = recalibration_slope(np.column_stack([1 - e, e]), np.where(arm, e, 1 - e))
    assert two == pytest.approx(calibration_curve(e, arm).slope, abs=0.1)
    assert recalibration_slope(np.full((9, 2), 0.5), np.full(9, 0.5)) is None


def test_calibration_is_of_cross_fitted_propensities_alone() -> None:
    study = Point(p=2).sample(300, seed=0)
    data = crl.Trajectories.from_cross_section(study.observations, study.actions, study.rewards)
    five, one = (quiet(crl.IPW(crl.Logit(), folds=k), data, crl.Always(1)).diagnostics["calibration"] for k in (5, 1))
    assert 0.7 < five < 1.2
    assert one is None
    assert quiet(crl.IPW(), study, crl.Always(1)).diagnostics["calibration"] is None  # logged


def test_the_largest_influence_is_the_change_without_one() -> None:
    """Its root is that change in standard errors, for a mean to the order 1/n."""
    rewards = np.random.default_rng(3).normal(size=200)
    rewards[7] = 9.0
    data = crl.Trajectories.from_arrays([0] * 200, [0] * 200, rewards, range(201), n_actions=1)
    estimate = quiet(crl.OnPolicyMean(), data, crl.NaturalCourse())
    without = np.delete(rewards, 7).mean() - rewards.mean()
    assert np.sqrt(estimate.diagnostics["largest_influence"]) == pytest.approx(abs(without) / estimate.stderr, rel=0.01)
    assert largest_influence(np.zeros(3)) is None


@pytest.mark.parametrize(
    "recipe",
    [
        crl.IS(),
        crl.WIS(crl.Counts()),
        crl.DR(q=crl.TabularQ()),
        crl.FQE(crl.TabularQ()),
        crl.MIS(),
        crl.DRL(),
        crl.OnPolicyMean(),
    ],
    ids=str,
)
def test_every_value_has_a_verdict(recipe: crl.Estimator, sepsis: crl.Trajectories, target: crl.PolicyValue) -> None:
    estimate = quiet(recipe, sepsis, target)
    assert estimate.diagnostics["verdict"] in VERDICTS
    assert (estimate.diagnostics["reasons"] == ()) == (estimate.diagnostics["verdict"] == RELIABLE)
    assert tuple(estimate.diagnostics) == KEYS
    assert estimate.diagnostics["agreement"].tolist() == [1.0] * 20
    assert f"verdict  {estimate.diagnostics['verdict']}" in estimate.summary()


def test_every_effect_has_a_verdict() -> None:
    study = Point(p=2).sample(400, seed=0)
    at, linear = crl.CATE(at=[[0.0, 0.0]]), LinearRegression()
    cases = [
        (crl.AIPW(crl.LinearQ(), crl.Logit()), crl.ATE()),
        (crl.IPW(crl.Logit()), crl.ATT()),
        (crl.PLR(linear, crl.Logit()), crl.ATE()),
        (crl.TLearner(linear), at),
        (crl.DRLearner(linear, crl.Logit(), effect=linear), at),
    ]
    for recipe, goal in cases:
        assert quiet(recipe, study, goal).diagnostics["verdict"] in VERDICTS
    t_learner = quiet(crl.TLearner(linear), study, at)
    assert t_learner.diagnostics["verdict"] == CAUTION  # the arms differ in x1, and nothing but a regression makes up for it
    assert "compare with AIPW" in t_learner.diagnostics["reasons"][0]
    msm = crl.MSM("action").estimate(study)
    assert msm.diagnostics["verdict"] in VERDICTS


def test_arithmetic_has_the_worse_verdict_and_all_reasons(sepsis: crl.Trajectories, target: crl.PolicyValue) -> None:
    never = quiet(crl.WIS(), sepsis, crl.PolicyValue(crl.Always(7), horizon=4))
    good = quiet(crl.WIS(), sepsis, target)
    assert (good.diagnostics["verdict"], never.diagnostics["verdict"]) == (RELIABLE, STOP)
    for mixed in (never - good, good - never, (2 * good) / never.exp()):
        assert mixed.diagnostics["verdict"] == STOP
        assert set(mixed.diagnostics["reasons"]) == set(never.diagnostics["reasons"])
    assert (3 * good).diagnostics["verdict"] == RELIABLE
    contrast = quiet(crl.WIS(), sepsis, crl.Contrast(never_goal(), target))
    assert contrast.diagnostics["verdict"] == STOP
    assert worse_verdict(None, None) is None


def never_goal() -> crl.PolicyValue:
    return crl.PolicyValue(crl.Always(7), horizon=4)


def test_a_logit_that_fits_nothing_leaves_imbalance() -> None:
    """Weights that ignore the covariates, where the arms differ in them."""
    study = Point(p=2).sample(2000, seed=0)
    data = crl.Trajectories.from_cross_section(study.observations, study.actions, study.rewards, propensity=[0.5] * 2000)
    estimate = quiet(crl.IPW(), data, crl.ATE())
    assert estimate.diagnostics["verdict"] == STOP
    assert "known propensities would leave less" in estimate.diagnostics["reasons"][0]


def test_an_overfitted_classifier_is_named() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(150, 30))
    data = crl.Trajectories.from_cross_section(x, rng.integers(0, 2, 150), rng.normal(size=150))
    recipe = crl.IPW(LogisticRegression(C=1e6, max_iter=5000))
    assert any("recalibration slope" in reason for reason in quiet(recipe, data, crl.Always(1)).diagnostics["reasons"])


def test_the_table_has_a_column(sepsis: crl.Trajectories, target: crl.PolicyValue) -> None:
    goals = {"near": target, "far": never_goal(), "impossible": crl.PolicyValue(crl.Always(7), horizon=20)}
    table = crl.evaluate(sepsis, goals, [crl.WIS(), crl.FQE(crl.TabularQ())])
    found = table.frame.set_index(["policy", "estimator"])["verdict"]
    assert found["near", "WIS"] == RELIABLE
    assert found["far", "WIS"] == STOP
    assert found.isna().equals(table.frame.set_index(["policy", "estimator"])["failure"].notna())
    assert list(table.frame.columns).index("verdict") == list(table.frame.columns).index("warnings") - 1
    for pair in table.estimates:
        assert table.estimates[pair].diagnostics["verdict"] == found[pair]


def test_the_figure(sepsis: crl.Trajectories, target: crl.PolicyValue) -> None:
    table = crl.evaluate(sepsis, {"near": target, "far": crl.PolicyValue(crl.Always(7), horizon=20)}, [crl.WIS(), crl.PDIS()])
    ax = table.verdict_plot()
    assert len(ax.patches) == 4
    assert [label.get_text() for label in ax.get_yticklabels()] == ["near", "far"]
    assert len({patch.get_facecolor() for patch in ax.patches}) >= 2


def test_a_wrong_model_is_not_seen_but_extreme_weights_are() -> None:
    """Kang & Schafer's wrong covariates: some samples are flagged, by their weights, and most are not (see docs/trust.md)."""
    verdicts = []
    for seed in range(12):
        whole = KangSchafer().sample(1000, seed=seed)
        data = crl.Trajectories.from_cross_section(whole.observations[:, 4:], whole.actions, whole.rewards)
        estimate = quiet(crl.IPW(crl.Logit(), normalized=False), data, crl.Always(1))
        flagged = estimate.diagnostics["ess"] < 60 or estimate.diagnostics["largest_share"] > 0.2
        assert not flagged or estimate.diagnostics["verdict"] != RELIABLE
        verdicts.append(estimate.diagnostics["verdict"])
    assert set(verdicts) >= {RELIABLE, CAUTION}


def test_equal_largest_weights_have_a_tail_index(recwarn: pytest.WarningsRecorder) -> None:
    weights = np.r_[np.full(117, 5.0), np.random.default_rng(0).random(1383)]
    found = tail_index(weights)
    assert found is not None
    assert found < 0
    assert not recwarn.list
