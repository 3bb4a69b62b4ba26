"""Off-policy evaluation as a user writes it, on the sepsis simulator: every recipe runs, and lands near the exact value."""

from __future__ import annotations

import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

import causalrl as crl
from simulators import SepsisSimulator

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")

SIM = SepsisSimulator()
GOALS = {f"physician({epsilon})": crl.PolicyValue(SIM.physician(epsilon=epsilon), horizon=20) for epsilon in (0.15, 0.2, 0.4)}
GOAL = GOALS["physician(0.15)"]
TRUTH = SIM.value(GOAL.policy, horizon=20)


@pytest.fixture(scope="module")
def data() -> crl.Trajectories:
    return SIM.sample(2_000, SIM.physician(epsilon=0.3), horizon=20, seed=1)


@pytest.mark.parametrize(
    "q",
    [
        crl.TabularQ(),
        pytest.param(crl.Pooled(HistGradientBoostingRegressor()), marks=pytest.mark.slow),
        crl.LinearQ(),
    ],
    ids=["tabular", "boosting", "linear"],
)
def test_doubly_robust_with_any_value_model(q: crl.TabularQ | crl.Pooled | crl.LinearQ, data: crl.Trajectories) -> None:
    estimate = crl.DR(q=q, folds=5).estimate(data, GOAL)
    assert TRUTH in estimate.interval(0.95, method=crl.BCaBootstrap(2000))


@pytest.mark.parametrize("recipe", [crl.MAGIC(q=crl.TabularQ()), crl.DRL(q=crl.TabularQ()), crl.MIS()], ids=str)
def test_blends_and_marginal_weights(recipe: crl.Estimator, data: crl.Trajectories) -> None:
    assert recipe.estimate(data, GOAL).value == pytest.approx(TRUTH, abs=4 * 0.02)


def test_fitted_q_evaluation_with_refits(data: crl.Trajectories) -> None:
    interval = crl.FQE(crl.TabularQ()).estimate(data, GOAL).interval(0.95, method=crl.RefitBootstrap(200, seed=0))
    assert TRUTH in interval


def test_counted_propensities(data: crl.Trajectories) -> None:
    estimate = crl.WIS(behavior=crl.Counts()).estimate(data, GOAL)
    assert estimate.value == pytest.approx(TRUTH, abs=4 * estimate.stderr)


def test_simultaneous_bands(data: crl.Trajectories) -> None:
    bands = crl.simultaneous([crl.WIS().estimate(data, goal) for goal in GOALS.values()], level=0.95)
    truths = [SIM.value(goal.policy, horizon=20) for goal in GOALS.values()]
    assert all(low < truth < high for low, truth, high in zip(bands.low, truths, bands.high, strict=True))


def test_a_planned_policy_beats_the_clinician_only_among_decisions_seen_often(data: crl.Trajectories) -> None:
    """Planned on what was seen once, the plan believes the lucky rows."""
    policy = crl.learning.EmpiricalMDP(discount=0.99).fit(data).policy()
    careful = crl.learning.EmpiricalMDP(discount=0.99, min_count=10).fit(data).policy()
    clinician = SIM.value(SIM.physician(epsilon=0.3), discount=0.99)
    assert SIM.value(policy, discount=0.99) < clinician < SIM.value(careful, discount=0.99)
