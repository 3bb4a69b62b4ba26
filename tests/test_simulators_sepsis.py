"""`SepsisSimulator` against worked rows and reference values (exact, from the published rules)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from causalrl.data import Trajectories
from causalrl.errors import DataError, EstimandError, PolicyError
from causalrl.policies import Always, PolicyLike, TabularPolicy, Uniform
from simulators import SepsisSimulator, TabularMDP
from simulators.sepsis.policies import TANG_WIENS_TARGETS
from simulators.sepsis.rules import drawn_patients

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
    np.testing.assert_allclose(computed, VALUES_V1[name], rtol=0, atol=5.01e-5)


@pytest.mark.parametrize(("discount", "value"), [(1.0, 0.4483), (0.99, 0.4164)])
def test_v1_nonstationary_optimum(discount: float, value: float) -> None:
    simulator = SepsisSimulator("v1")
    best = simulator.optimal_policy(discount, horizon=20)
    assert best.table.shape == (20, 1440, 8)
    assert simulator.value(best, 20, discount) == pytest.approx(value, rel=0, abs=5.01e-5)


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
    with pytest.raises(EstimandError, match=r"discount: \[0.9\]"):
        SepsisSimulator().physician(0.05, [0.9])  # type: ignore[arg-type]


def test_versions_differ_in_non_diabetic_glucose_only() -> None:
    first, second = SepsisSimulator("v1").mdp, SepsisSimulator("v2").mdp
    difference = np.abs(first.dynamics.matrix - second.dynamics.matrix).sum(axis=1).reshape(1440, 8)
    assert first.state_features is not None
    diabetic, glucose = first.state_features[:, 0] == 1, first.state_features[:, 4]
    changed = ~diabetic & (glucose >= 1)
    np.testing.assert_array_equal(difference > 1e-12, changed[:, None] & (np.arange(8) % 2 == 0))
    np.testing.assert_array_equal(first.initial, second.initial)


def test_draws_that_are_redrawn() -> None:
    """simulators.md 1.4: P(terminal draw), death and discharge, of non-diabetics and diabetics."""
    mdp = SepsisSimulator().mdp
    assert mdp.state_features is not None
    drawn, arrival = drawn_patients(mdp.state_features.astype(int)).reshape(2, 720), np.zeros(1440)
    arrival[mdp.dynamics.successors] = mdp.dynamics.rewards
    np.testing.assert_allclose(drawn.sum(axis=1), [0.8, 0.2], atol=1e-14)
    over = [(drawn * (arrival.reshape(2, 720) == sign)).sum(axis=1) / [0.8, 0.2] for sign in (-1, 1)]
    np.testing.assert_allclose(over, [[0.17, 0.305], [0.12, 0.03]], atol=1e-14)


def test_views_are_numbered_by_the_remaining_digits() -> None:
    simulator, digits = SepsisSimulator(), np.unravel_index(np.arange(1440), LEVELS)
    views = simulator.views
    assert {name: view.n_records for name, view in views.items()} == {"full": 1440, "observed": 720, "projected": 144}
    for name, kept in (("observed", [1, 2, 3, 4, 5, 6, 7]), ("projected", [1, 2, 3, 5, 6, 7])):
        expected = np.ravel_multi_index([digits[j] for j in kept], [LEVELS[j] for j in kept])
        np.testing.assert_array_equal(views[name].codes, expected)
        assert views[name].feature_names == tuple(simulator.mdp.feature_names[j] for j in kept)
    assert [int(views[name].codes[376]) for name in views] == [376, 376, 72]  # type: ignore[index]


def test_observed_states_by_outcome() -> None:
    mdp = SepsisSimulator().mdp
    arrival = np.zeros(1440)
    arrival[mdp.dynamics.successors] = mdp.dynamics.rewards
    np.testing.assert_array_equal(arrival[:720], arrival[720:])
    assert [(arrival[:720] == sign).sum() for sign in (-1, 1, 0)] == [416, 1, 303]


def test_a_policy_of_a_view_is_the_policy_that_ignores_what_it_hides() -> None:
    simulator = SepsisSimulator("v1")
    for name, size in (("observed", 720), ("projected", 144)):
        table = np.random.default_rng(size).dirichlet(np.ones(8), size)
        lifted = TabularPolicy(table[simulator.views[name].codes])
        policy = TabularPolicy(table)
        assert simulator.value(policy, 20, sees=name) == pytest.approx(simulator.value(lifted, 20), abs=1e-14)
        seen = simulator.sample(300, policy, 20, seed=3, record=name, sees=name)
        full = simulator.sample(300, lifted, 20, seed=3)
        np.testing.assert_array_equal(seen.observations, simulator.views[name].codes[full.observations])  # type: ignore[index]
        np.testing.assert_array_equal(seen.rewards, full.rewards)
        np.testing.assert_array_equal(seen.behavior_probabilities, full.behavior_probabilities)
        assert seen.n_states == size


def test_a_record_that_hides_what_the_policy_saw_keeps_no_probabilities() -> None:
    simulator = SepsisSimulator()
    behavior = simulator.physician(0.3)
    hidden = simulator.sample(50, behavior, 20, record="projected", sees="full")
    assert hidden.behavior_probabilities is None
    assert hidden.observations.max() < 144
    assert hidden.state_features is not None
    assert hidden.state_features.shape == (144, 6)
    assert simulator.sample(50, behavior, 20, record="observed", propensities="oracle").behavior_probabilities is not None


@cache
def tang_wiens() -> SepsisSimulator:
    return SepsisSimulator("v2", start="uniform", reward_on="leaving")


def test_tang_wiens_optimal_value() -> None:
    """MLD3/OfflineRL_ModelSelection prints V* = 0.6775418119368786."""
    best = tang_wiens().optimal_policy(0.99)
    assert tang_wiens().value(best, None, 0.99) == pytest.approx(0.677541811937, rel=0, abs=1e-9)


def test_uniform_start() -> None:
    mdp = SepsisSimulator(start="uniform").mdp
    strata = mdp.initial.reshape(2, 720)
    np.testing.assert_allclose(strata.sum(axis=1), [0.8, 0.2], atol=1e-14)
    assert (strata > 0).sum(axis=1).tolist() == [303, 303]
    assert all(np.unique(stratum[stratum > 0]).size == 1 for stratum in strata)


def test_leaving_states_and_sinks() -> None:
    mdp, arrival = tang_wiens().mdp, SepsisSimulator("v2", start="uniform").mdp
    assert mdp.n_states == 1442
    assert np.flatnonzero(mdp.terminal).tolist() == [1440, 1441]
    step = mdp.dynamics.matrix.toarray().reshape(1442, 8, 1442)
    live = ~arrival.terminal
    np.testing.assert_array_equal(step[:1440][live][..., :1440], arrival.dynamics.matrix.toarray().reshape(1440, 8, 1440)[live])
    outcome = np.zeros(1440)
    outcome[arrival.dynamics.successors] = arrival.dynamics.rewards
    assert (step[:1440][outcome < 0][..., 1440] == 1).all()
    assert (step[:1440][outcome > 0][..., 1441] == 1).all()
    np.testing.assert_array_equal(mdp.dynamics.mean_rewards, np.repeat(np.append(outcome, [0, 0])[:, None], 8, axis=1))
    np.testing.assert_array_equal(mdp.initial, np.append(arrival.initial, [0, 0]))


def test_views_keep_the_sinks_apart() -> None:
    simulator = tang_wiens()
    assert {name: view.n_records for name, view in simulator.views.items()} == {"full": 1442, "observed": 722, "projected": 146}
    for name, view in simulator.views.items():
        codes, plain = view.codes, SepsisSimulator().views[name]
        assert codes is not None
        np.testing.assert_array_equal(codes[:1440], plain.codes)
        assert codes[1440:].tolist() == [view.n_records - 2, view.n_records - 1]
        np.testing.assert_array_equal(view.where("dead"), np.arange(view.n_records) == view.n_records - 2)
        np.testing.assert_array_equal(view.where("discharged"), np.arange(view.n_records) == view.n_records - 1)


@pytest.mark.parametrize("horizon", [2, 20])
def test_leaving_pays_one_step_later(horizon: int) -> None:
    policy = SepsisSimulator().physician(0.2)
    padded = SepsisSimulator(reward_on="leaving").physician(0.2)
    np.testing.assert_array_equal(padded.table[:1440], policy.table)
    late = SepsisSimulator(reward_on="leaving").value(padded, horizon, 0.9)
    assert late == pytest.approx(0.9 * SepsisSimulator().value(policy, horizon - 1, 0.9), abs=1e-14)


def test_tang_wiens_2023_policies() -> None:
    """15 of the 26 targets are better than the behaviour (NeurIPS 2023, MLD3/CounterfactualAnnot-SemiOPE)."""
    simulator = tang_wiens()
    best = simulator.optimal_policy(0.99).table
    behavior = simulator.tang_wiens_behavior()
    optimal = best.argmax(axis=1)
    np.testing.assert_allclose(behavior.table[np.arange(1442), optimal], 0.9, atol=1e-15)
    np.testing.assert_allclose(behavior.table[np.arange(1442), optimal ^ 1], 0.1, atol=1e-15)
    assert len(set(TANG_WIENS_TARGETS)) == 26
    values = [simulator.value(simulator.tang_wiens_target(k, seed), 20, 0.99) for k, seed in TANG_WIENS_TARGETS]
    assert sum(value > simulator.value(behavior, 20, 0.99) for value in values) == 15
    assert max(values) == values[0] == simulator.value(simulator.optimal_policy(0.99), 20, 0.99)
    target = simulator.tang_wiens_target(50, 42).table.argmax(axis=1)
    wrong = np.random.default_rng(42).choice(range(1440), 50, replace=False)
    assert sorted(np.flatnonzero(target != optimal)) == sorted(wrong)
    np.testing.assert_array_equal(target[wrong], optimal[wrong] ^ 1)


def naively_biased(table: np.ndarray, bit: int, share: float) -> np.ndarray:
    moved = table.copy()
    for action in range(8):
        if (action & bit == 0) == (share > 0):
            moved[:, action] -= abs(share) * table[:, action]
            moved[:, action ^ bit] += abs(share) * table[:, action]
    return moved


@pytest.mark.parametrize(("bit", "number"), [("antibiotic", 4), ("ventilation", 2), ("vasopressor", 1)])
def test_biased_towards_and_away_from_a_treatment(bit: str, number: int) -> None:
    simulator = SepsisSimulator()
    policy = TabularPolicy(np.random.default_rng(1).dirichlet(np.ones(8), 144))
    given = np.arange(8) & number > 0
    for share in (-1, -0.4, 0.25, 1):
        table = simulator.biased(bit, share, policy).table
        np.testing.assert_allclose(table, naively_biased(policy.table, number, share), atol=1e-15)
        before = policy.table[:, given].sum(axis=1)
        after = before + share * (1 - before) if share > 0 else before * (1 + share)
        np.testing.assert_allclose(table[:, given].sum(axis=1), after, atol=1e-15)
    np.testing.assert_array_equal(simulator.biased(bit, 0, policy).table, policy.table)
    np.testing.assert_array_equal(simulator.biased(bit, 0).table, simulator.physician().table)
    timed = TabularPolicy(np.stack([policy.table, Uniform(8).probabilities(np.zeros(144), np.zeros(144, int))]))
    assert (simulator.biased(bit, 1, timed).table[..., ~given] == 0).all()
    # The flags of the state are those of the last action, in another order.
    data = simulator.sample(200, simulator.biased(bit, 1, Uniform(8)), 5, seed=1)
    flag = simulator.views["full"].where(bit)
    assert data.final_observations is not None
    assert (flag[data.final_observations] == 1).all()


def test_flipped_softens_and_mixes_as_the_papers_say() -> None:
    """papers.md 8: .85 soft-optimal + .15 (optimal with the vasopressor bit flipped, softened the same way)."""
    simulator = SepsisSimulator("v1")
    best = simulator.optimal_policy(0.99)
    wrong = TabularPolicy(best.table[:, np.arange(8) ^ 1])
    mixed = 0.85 * softened(best, 0.05).table + 0.15 * softened(wrong, 0.05).table
    np.testing.assert_allclose(simulator.flipped("vasopressor", 0.15, softened(best, 0.05)).table, mixed, atol=1e-15)
    np.testing.assert_array_equal(simulator.flipped("antibiotic", 0, best).table, best.table)


def confounded_targets() -> list[TabularPolicy]:
    """Namkoong et al. (2020): with and without antibiotics at t = 0, or as the soft optimum, and that afterwards."""
    simulator = SepsisSimulator("v1")
    soft = softened(simulator.optimal_policy(0.99), 0.05)
    first = [simulator.biased("antibiotic", share, soft).table for share in (1, -1, 0)]
    return [TabularPolicy(np.stack([table, *[soft.table] * 4])) for table in first]


def non_diabetic_start() -> np.ndarray:
    initial = SepsisSimulator("v1").mdp.initial
    return np.append(initial[:720] + initial[720:], np.zeros(720))


def test_confounding_study_with_independent_noise() -> None:
    mdp = SepsisSimulator("v1").mdp.starting(non_diabetic_start())
    values = [mdp.value(policy, 5, 0.99) for policy in confounded_targets()]
    np.testing.assert_allclose(values, [0.1262, 0.0320, 0.1301], rtol=0, atol=5.01e-5)


def test_confounding_study_with_one_noise_an_episode() -> None:
    """As coded: one U drives every transition by inverse CDF, successors in the order of V* + r, ties in that of the index.

    Without rounding, ties are broken by the rounding of the solver, which moves the truth by .001.
    """
    simulator = SepsisSimulator("v1")
    d, terminal, best = simulator.mdp.dynamics, simulator.mdp.terminal, simulator.optimal_policy(0.99)
    arrival = np.zeros(1440)
    arrival[d.successors] = d.rewards
    score = np.round((best.table * simulator.q(best, None, 0.99)).sum(axis=1) + arrival, 9)
    row = np.repeat(np.arange(11_520), np.diff(d.indptr))
    order = np.lexsort((d.successors, score[d.successors], row))[: d.indptr[5760]]
    cumulative = row[order] + np.cumsum(d.probabilities[order]) - row[order]  # rows sum to 1: row + CDF
    policies = confounded_targets()
    total = np.zeros(3)
    for u in (np.arange(1000) + 0.5) / 1000:
        successors = d.successors[order][np.searchsorted(cumulative, np.arange(5760) + u)].reshape(720, 8)
        values = np.zeros(720)
        for t in (4, 3, 2, 1):
            q = (arrival[successors] + 0.99 * values[successors]) * ~terminal[:720, None]
            values = (policies[0].table[t, :720] * q).sum(axis=1)
        q = arrival[successors] + 0.99 * values[successors]
        total += [non_diabetic_start()[:720] @ (policy.table[0, :720] * q).sum(axis=1) for policy in policies]
    np.testing.assert_allclose(total / 1000, [0.1231, 0.0535, 0.1218], rtol=0, atol=1e-4)


def test_confounding_study_where_diabetics_keep_their_dynamics() -> None:
    """With independent noise. The reference: .140, .071, .137, with one U an episode; there .1420, .0714, .1408 comes out."""
    values = [SepsisSimulator("v1").value(policy, 5, 0.99) for policy in confounded_targets()]
    np.testing.assert_allclose(values, [0.13349, 0.03275, 0.13700], rtol=0, atol=5.01e-6)


def test_v1_non_diabetics_of_low_glucose_are_never_discharged() -> None:
    mdp = SepsisSimulator("v1").mdp
    factors, law = mdp.state_features, mdp.dynamics
    stuck = (factors[:, 0] == 0) & (factors[:, 4] <= 1) & ~mdp.terminal
    of_stuck = stuck[np.repeat(np.arange(len(law.indptr) - 1), np.diff(law.indptr)) // 8]
    assert law.rewards[of_stuck].max() == 0
    assert factors[law.successors[of_stuck], 4].max() == 1


@pytest.mark.parametrize("bit", ["antibiotic", "ventilation", "vasopressor"])
@pytest.mark.parametrize(("time", "horizon", "discount"), [(0, 20, 1.0), (3, 6, 0.9), (5, 6, 1.0)])
def test_treatment_effect_is_a_difference_of_two_values(bit: str, time: int, horizon: int, discount: float) -> None:
    simulator = SepsisSimulator()
    number = {"antibiotic": 4, "ventilation": 2, "vasopressor": 1}[bit]
    usual = simulator.physician(0.3)
    arms = []
    for share in (1.0, -1.0):
        tables = np.repeat(usual.table[None], horizon, axis=0)
        tables[time] = naively_biased(usual.table, number, share)
        arms.append(TabularPolicy(tables))
    effect = simulator.treatment_effect(bit, time, usual, horizon, discount)
    assert list(effect) == ["all", "nondiabetic", "diabetic"]
    diabetic = np.arange(1440) >= 720
    for name, stratum in (("all", diabetic | True), ("nondiabetic", ~diabetic), ("diabetic", diabetic)):
        start = simulator.mdp.initial * stratum
        process = simulator.mdp.starting(start / start.sum())
        on, off = (process.value(arm, horizon, discount) for arm in arms)
        assert effect[name] == pytest.approx(on - off, abs=1e-13)
    share = simulator.mdp.initial[720:].sum()
    assert effect["all"] == pytest.approx((1 - share) * effect["nondiabetic"] + share * effect["diabetic"], abs=1e-14)


def test_treatment_effects_have_the_signs_of_the_rules() -> None:
    simulator = SepsisSimulator()
    effects = {bit: simulator.treatment_effect(bit, 0, simulator.physician(0.3), 20) for bit in ("antibiotic", "vasopressor")}
    assert min(effects["antibiotic"].values()) > 0  # it can only lower what is too high
    assert effects["vasopressor"]["diabetic"] < 0  # it raises the glucose of diabetics, who start high
    assert effects["vasopressor"]["nondiabetic"] > 0


def test_treatment_effect_by_simulation() -> None:
    simulator, usual = SepsisSimulator(start="uniform"), SepsisSimulator().physician(0.3)
    effect = simulator.treatment_effect("vasopressor", 2, usual, 4)
    returns = []
    for share in (1, -1):
        tables = np.repeat(usual.table[None], 4, axis=0)
        tables[2] = simulator.biased("vasopressor", share, usual).table
        returns.append(total_rewards(simulator.sample(100_000, TabularPolicy(tables), 4, seed=8 + share)))
    difference = returns[0].mean() - returns[1].mean()
    error = np.sqrt(sum(arm.var() / len(arm) for arm in returns))
    assert abs(difference - effect["all"]) < 4 * error


def test_treatment_effect_of_a_policy_that_sees_less() -> None:
    simulator = SepsisSimulator(reward_on="leaving")
    policy = TabularPolicy(np.random.default_rng(0).dirichlet(np.ones(8), 146))
    lifted = TabularPolicy(policy.table[simulator.views["projected"].codes])
    effect = simulator.treatment_effect("ventilation", 1, policy, 5, sees="projected")
    assert effect == pytest.approx(simulator.treatment_effect("ventilation", 1, lifted, 5), abs=1e-14)
    assert simulator.treatment_effect("ventilation", 4, lifted, 5) == {"all": 0, "nondiabetic": 0, "diabetic": 0}


def total_rewards(data: Trajectories) -> np.ndarray:
    return np.add.reduceat(data.rewards, data.offsets[:-1])


SAMPLED: dict[str, Callable[[], tuple[SepsisSimulator, PolicyLike, str]]] = {
    "uniform start": lambda: (SepsisSimulator("v1", start="uniform"), Uniform(8), "full"),
    "leaving": lambda: (tang_wiens(), tang_wiens().tang_wiens_behavior(), "full"),
    "projected": lambda: (SepsisSimulator(), TabularPolicy(np.random.default_rng(2).dirichlet(np.ones(8), 144)), "projected"),
    "biased": lambda: (SepsisSimulator(), SepsisSimulator().biased("vasopressor", 0.5), "full"),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_sampled_mean_is_the_exact_value(name: str) -> None:
    simulator, policy, sees = SAMPLED[name]()
    data = simulator.sample(40_000, policy, 20, seed=4, sees=sees, record="observed")
    returns = total_rewards(data)
    assert abs(returns.mean() - simulator.value(policy, 20, sees=sees)) < 4 * returns.std() / np.sqrt(data.n)


@pytest.mark.parametrize(
    ("error", "text", "act"),
    [
        (DataError, "version: 'v3'; pass 'v1' or 'v2'", lambda s: SepsisSimulator("v3")),  # type: ignore[arg-type]
        (DataError, "start: 'icu'; pass 'admission' or 'uniform'", lambda s: SepsisSimulator(start="icu")),  # type: ignore[arg-type]
        (DataError, "reward_on: 1; pass 'arrival' or 'leaving'", lambda s: SepsisSimulator(reward_on=1)),  # type: ignore[arg-type]
        (
            EstimandError,
            "sees: 'hidden'; pass 'full', 'observed' or 'projected'",
            lambda s: s.value(Uniform(8), 5, sees="hidden"),
        ),
        (EstimandError, "record: 'hidden'", lambda s: s.sample(5, Uniform(8), 5, record="hidden")),
        (PolicyError, "144 states .* sees='projected'", lambda s: s.value(TabularPolicy(np.full((144, 8), 1 / 8)), 5)),
        (PolicyError, "1440 states .* sees='full'", lambda s: s.value(s.physician(), 5, sees="observed")),
        (EstimandError, "bit: 'abx'; pass 'antibiotic', 'ventilation' or 'vasopressor'", lambda s: s.biased("abx", 1)),
        (EstimandError, "bit: 'glucose'", lambda s: s.treatment_effect("glucose", 0, Uniform(8), 5)),
        (EstimandError, "bit: .'antibiotic'", lambda s: s.biased(["antibiotic"], 0.5)),  # type: ignore[arg-type]
        (EstimandError, "time: True", lambda s: s.treatment_effect("vasopressor", True, Uniform(8), 5)),
        (
            EstimandError,
            "time: 5; pass a whole number, at least 0 and at most 4",
            lambda s: s.treatment_effect("vasopressor", 5, Uniform(8), 5),
        ),
        (EstimandError, "time: -1", lambda s: s.treatment_effect("vasopressor", -1, Uniform(8), 5)),
        (EstimandError, "horizon: None", lambda s: s.treatment_effect("vasopressor", 0, Uniform(8), None)),
        (EstimandError, "horizon: -2", lambda s: s.treatment_effect("vasopressor", 0, Uniform(8), -2)),
        (EstimandError, "discount", lambda s: s.treatment_effect("vasopressor", 0, Uniform(8), 5, 1.5)),
        (PolicyError, "share: 1.5; pass a number from -1 to 1", lambda s: s.biased("antibiotic", 1.5)),
        (PolicyError, "share: nan", lambda s: s.biased("antibiotic", np.nan)),
        (PolicyError, "share: -0.1; pass a number from 0 to 1", lambda s: s.flipped("antibiotic", -0.1)),
        (PolicyError, "share: shape .3,.; .* 1440 states", lambda s: s.flipped("antibiotic", [0, 1, 0])),
        (
            PolicyError,
            "9 states and 3 actions; pass one of 8 actions .* 1440 .full., 720 .observed., 144 .projected.",
            lambda s: s.biased("antibiotic", 1, TabularPolicy(np.full((9, 3), 1 / 3))),
        ),
        (PolicyError, "actions 0 to 7", lambda s: s.biased("antibiotic", 1, Always(8))),
        (PolicyError, "5 states and 8 actions", lambda s: s.biased("antibiotic", 1, TabularPolicy(np.full((5, 8), 1 / 8)))),
        (PolicyError, "share: None", lambda s: s.biased("antibiotic", None)),  # type: ignore[arg-type]
        (PolicyError, "share: row 2 is 1.5", lambda s: s.flipped("antibiotic", np.where(np.arange(1440) == 2, 1.5, 0))),
        (PolicyError, "epsilon: '0.1'", lambda s: s.physician("0.1")),  # type: ignore[arg-type]
        (DataError, "k: True", lambda s: s.tang_wiens_target(True)),
        (DataError, "k: 1441; pass a whole number, at least 0 and at most 1440", lambda s: s.tang_wiens_target(1441)),
        (DataError, "k: -1", lambda s: s.tang_wiens_target(-1)),
        (DataError, "seed: -1", lambda s: s.tang_wiens_target(5, -1)),
    ],
)
def test_errors_name_the_mend(error: type[Exception], text: str, act: Callable[[SepsisSimulator], object]) -> None:
    with pytest.raises(error, match=text):
        act(SepsisSimulator())


def test_a_policy_that_may_depend_on_time_needs_a_table() -> None:
    def function(states: np.ndarray, time: np.ndarray) -> np.ndarray:
        return np.eye(8)[np.full(len(states), 1)]

    simulator = SepsisSimulator()
    assert simulator.treatment_effect("antibiotic", 1, function, 4) == simulator.treatment_effect("antibiotic", 1, Always(1), 4)
    with pytest.raises(PolicyError, match=r"may depend on time; pass a TabularPolicy"):
        simulator.biased("antibiotic", 1, function)
