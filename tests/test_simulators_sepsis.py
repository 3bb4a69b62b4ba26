"""`SepsisSimulator` against worked rows and reference values (exact, from the published rules)."""

from __future__ import annotations

import numpy as np
import pytest

from causalrl.errors import EstimandError, PolicyError
from causalrl.policies import TabularPolicy, Uniform
from simulators import SepsisSimulator, TabularMDP

LEVELS = (2, 3, 3, 2, 5, 2, 2, 2)


def softened(policy: TabularPolicy, epsilon: float) -> TabularPolicy:
    return TabularPolicy(np.where(policy.table > 0, 1 - epsilon, epsilon / 7))


def policy_called(name: str) -> TabularPolicy:
    simulator = SepsisSimulator("v1")
    return {
        "physician .05": lambda: simulator.physician(0.05, 0.99),
        "physician 0": lambda: simulator.physician(0.0),
        "episodic 0": lambda: simulator.optimal_policy(0.99),
        "episodic .05": lambda: softened(simulator.optimal_policy(0.99), 0.05),
        "uniform": lambda: TabularPolicy(np.full((1440, 8), 1 / 8)),
    }[name]()


def row(simulator: SepsisSimulator, state: int, action: int) -> np.ndarray:
    return simulator.mdp.dynamics.matrix[[8 * state + action]].toarray()[0]


def marginal(probabilities: np.ndarray, factor: int) -> dict[int, float]:
    levels = np.unravel_index(np.arange(1440), LEVELS)[factor]
    total = np.bincount(levels, probabilities)
    return {level: round(p, 12) for level, p in enumerate(total) if p > 0}


# diabetes, observed state, action, hr', sbp', o2', glucose' in v1 and v2, flags', checks in the observed index.
WORKED = [
    (
        0,
        536,
        5,
        {1: 0.5, 2: 0.5},
        {0: 0.3, 1: 0.7},
        {0: 0.1, 1: 0.9},
        {2: 1},
        {2: 1},
        (1, 1, 0),
        {622: 0.315, 262: 0.015},
    ),
    (
        *(1, 536, 5, {1: 0.5, 2: 0.5}, {0: 0.1, 1: 0.5, 2: 0.4}, {0: 0.1, 1: 0.9}),
        *({2: 0.5, 3: 0.5}, {2: 0.5, 3: 0.5}, (1, 1, 0), {622: 0.1125, 670: 0.010}),
    ),
    (
        *(0, 380, 0, {1: 0.9, 2: 0.1}, {1: 0.9, 2: 0.1}, {0: 0.1, 1: 0.9}),
        *({1: 0.2, 2: 0.8}, {1: 0.1, 2: 0.8, 3: 0.1}, (0, 0, 0), {376: 0.5832}),
    ),
    (0, 387, 3, {0: 0.1, 1: 0.8, 2: 0.1}, {1: 0.3, 2: 0.7}, {1: 1}, {3: 1}, {3: 1}, (0, 1, 1), {467: 0.56}),
]


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("case", WORKED, ids=["536", "536 diabetic", "380", "387"])
def test_worked_rows(case: tuple, version: str) -> None:
    diabetes, state, action, hr, sbp, o2, glucose_v1, glucose_v2, flags, checks = case
    probabilities = row(SepsisSimulator(version), 720 * diabetes + state, action)
    expected = [
        {diabetes: 1},
        hr,
        sbp,
        o2,
        glucose_v1 if version == "v1" else glucose_v2,
        *({flag: 1} for flag in flags),
    ]
    assert [marginal(probabilities, factor) for factor in range(8)] == expected
    for successor, probability in checks.items():
        assert probabilities[720 * diabetes + successor] == pytest.approx(probability, abs=1e-14)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_counts_and_start(version: str) -> None:
    mdp = SepsisSimulator(version).mdp
    arrival = np.zeros(1440)
    arrival[mdp.dynamics.successors] = mdp.dynamics.rewards
    assert ((arrival == -1).sum(), (arrival == 1).sum(), (~mdp.terminal).sum()) == (832, 2, 606)
    assert np.flatnonzero(arrival == 1).tolist() == [376, 376 + 720]
    np.testing.assert_array_equal(mdp.terminal, arrival != 0)
    assert mdp.initial[720:].sum() == pytest.approx(0.189729, abs=5e-7)
    assert mdp.initial[720:].sum() == pytest.approx(0.2 * 0.665 / (0.2 * 0.665 + 0.8 * 0.71), abs=1e-14)
    assert mdp.state_features is not None
    np.testing.assert_array_equal(mdp.state_features, np.stack(np.unravel_index(np.arange(1440), LEVELS), axis=1))
    assert mdp.feature_names[0] == "diabetes"


def test_sparsity_of_v1() -> None:
    widths = np.diff(SepsisSimulator("v1").mdp.dynamics.indptr)
    assert (widths.sum(), widths.max()) == (108238, 54)
    assert widths.mean() == pytest.approx(9.40, abs=5e-3)


# H = 20 discount 1: total, non-diabetic, diabetic; H = 20 discount .99; no horizon, discount .99.
VALUES_V1 = {
    "physician .05": (0.3118, 0.3038, 0.3460, 0.2908, 0.2341),
    "physician 0": (0.4130, 0.4044, 0.4501, 0.3840, 0.4615),
    "episodic 0": (0.4297, 0.4105, 0.5121, 0.4007, 0.4756),
    "episodic .05": (0.3170, 0.3080, 0.3556, 0.2969, 0.2229),
    "uniform": (-0.7588, -0.7336, -0.8663, -0.7154, -0.8096),
}


@pytest.mark.parametrize("name", VALUES_V1)
def test_v1_values(name: str) -> None:
    simulator, policy = SepsisSimulator("v1"), policy_called(name)
    strata = [np.arange(1440) < 720, np.arange(1440) >= 720]
    starts = [np.where(stratum, simulator.mdp.initial, 0) for stratum in strata]
    computed = [
        simulator.value(policy, 20, 1.0),
        *(simulator.mdp.starting(start / start.sum()).value(policy, 20) for start in starts),
        simulator.value(policy, horizon=20, discount=0.99),
        simulator.value(policy, None, 0.99),
    ]
    np.testing.assert_allclose(computed, VALUES_V1[name], atol=1e-4)


@pytest.mark.parametrize(("discount", "value"), [(1.0, 0.4483), (0.99, 0.4164)])
def test_v1_nonstationary_optimum(discount: float, value: float) -> None:
    simulator = SepsisSimulator("v1")
    best = simulator.optimal_policy(discount, horizon=20)
    assert best.table.shape == (20, 1440, 8)
    assert simulator.value(best, 20, discount) == pytest.approx(value, abs=1e-4)


def test_example_lines() -> None:
    simulator = SepsisSimulator("v1")
    assert round(simulator.value(simulator.physician(0.05, 0.99), 20, 1.0), 4) == 0.3118
    assert round(simulator.value(Uniform(8), 20, 1.0), 4) == -0.7588
    assert round(simulator.value(simulator.optimal_policy(0.99), None, 0.99), 4) == 0.4756


# Over 20 steps: death, discharge, neither, mean length.
OUTCOMES_V1 = {
    "physician .05": (".120", ".432", ".449", "13.37"),
    "episodic 0": (".020", ".450", ".530", "14.35"),
    "uniform": (".812", ".054", ".134", "8.74"),
}


@pytest.mark.parametrize("name", OUTCOMES_V1)
def test_v1_outcomes(name: str) -> None:
    mdp, policy = SepsisSimulator("v1").mdp, policy_called(name)
    d = mdp.dynamics
    death, discharge = (
        TabularMDP.from_sparse(
            *(d.indptr, d.successors, d.probabilities, (d.rewards == sign).astype(float), mdp.initial, mdp.terminal)
        ).value(policy, 20)
        for sign in (-1, 1)
    )
    length = mdp.occupancy(policy, 20).sum()
    for number, printed in zip((death, discharge, 1 - death - discharge, length), OUTCOMES_V1[name], strict=True):
        assert number == pytest.approx(float(printed), abs=0.501 * 10.0 ** -len(printed.split(".")[1]))


def test_physician_plans_without_an_end() -> None:
    simulator = SepsisSimulator("v1")
    live = ~simulator.mdp.terminal
    same = (simulator.physician(0.0).table == simulator.optimal_policy(0.99).table).all(axis=1)
    assert same[:720][live[:720]].mean() == pytest.approx(0.95, abs=5e-3)
    assert same[720:][live[720:]].mean() == pytest.approx(0.875, abs=5e-3)
    np.testing.assert_allclose(np.sort(simulator.physician(0.05).table, axis=1), [[0.05 / 7] * 7 + [0.95]] * 1440)


def test_physician_errors() -> None:
    with pytest.raises(PolicyError, match="epsilon"):
        SepsisSimulator().physician(1.5)
    with pytest.raises(EstimandError, match="discount"):
        SepsisSimulator().physician(0.05, 1.0)


def test_tang_wiens_v2() -> None:
    """MLD3/OfflineRL_ModelSelection prints V* = 0.6775418119368786; its reward is paid on leaving, one step later."""
    simulator = SepsisSimulator("v2")
    best = simulator.optimal_policy(0.99)
    values = (best.table * simulator.q(best, None, 0.99)).sum(axis=1)
    live = ~simulator.mdp.terminal
    start = np.where(live, np.where(np.arange(1440) < 720, 0.8, 0.2) / 303, 0.0)
    assert 0.99 * (start @ values) == pytest.approx(0.677541811937, abs=1e-9)


def test_versions_differ_in_non_diabetic_glucose_only() -> None:
    first, second = SepsisSimulator("v1").mdp, SepsisSimulator("v2").mdp
    difference = np.abs(first.dynamics.matrix - second.dynamics.matrix).sum(axis=1).reshape(1440, 8)
    assert first.state_features is not None
    diabetic, glucose = first.state_features[:, 0] == 1, first.state_features[:, 4]
    changed = ~diabetic & (glucose >= 1)
    np.testing.assert_array_equal(difference > 1e-12, changed[:, None] & (np.arange(8) % 2 == 0))
    np.testing.assert_array_equal(first.initial, second.initial)
