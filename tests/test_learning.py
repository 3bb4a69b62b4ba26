"""Learned policies against exact planning, enumeration of all policies, and the figures of Oberst & Sontag (2019)."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.tree import DecisionTreeRegressor

import causalrl as crl
from causalrl.errors import (
    CausalRLError,
    CensoringError,
    ConvergenceWarning,
    DataError,
    EstimandError,
    PolicyError,
    TruncationError,
)
from causalrl.learning import EmpiricalMDP, FittedQIteration, PlannedMDP, TerminalPseudoCounts
from simulators import SepsisSimulator, TabularMDP
from tests.conftest import BEHAVIOR, TARGET, ragged_data
from tests.test_model_based import GAMMA, A, H, S, records

RULES: list[Any] = [crl.StateMean(), crl.Absorb(-3.0)]


def simulator_of(planned: PlannedMDP) -> TabularMDP:
    return TabularMDP.from_sparse(**planned.arrays())


# ------------------------------------------------------------------------------------------------------------ EmpiricalMDP


@pytest.mark.parametrize("horizon", [None, 4])
def test_plentiful_data_give_the_optimal_policy(process: TabularMDP, horizon: int | None) -> None:
    data = process.sample(20_000, BEHAVIOR, horizon=horizon, seed=1)
    planned = EmpiricalMDP(0.9, horizon).fit(data)
    best = process.optimal_policy(0.9, horizon)
    live = ~process.terminal
    np.testing.assert_array_equal(planned.policy().table[..., live, :], best.table[..., live, :])
    assert planned.value(planned.policy()) == pytest.approx(process.value(best, horizon, 0.9), abs=0.05)
    assert planned.value(TARGET) == pytest.approx(process.value(TARGET, horizon, 0.9), abs=0.05)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_it_beats_every_other_policy_of_the_model(rule: Any) -> None:
    data = records(7)
    planned = EmpiricalMDP(GAMMA, unseen=rule, min_count=0).fit(data)
    values = [planned.value(crl.TabularPolicy(np.eye(A)[list(actions)])) for actions in itertools.product(range(A), repeat=S)]
    assert planned.value(planned.policy()) == pytest.approx(max(values), abs=1e-10)
    assert planned.value(crl.Uniform(A)) < max(values)
    assert planned.trace[-1] == 0


@pytest.mark.filterwarnings("ignore::causalrl.errors.SupportWarning")
@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_no_deterministic_policy_beats_a_plan_from_records_without_final_observations(rule: Any) -> None:
    """Two steps, three states, two actions: all 64 policies that depend on time, by `TabularQ`."""
    same = crl.TabularQ(unseen=crl.ConstantValue(rule.value) if isinstance(rule, crl.Absorb) else rule)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        a, r = rng.integers(0, 2, 10), rng.normal(size=10)
        states = np.column_stack([rng.integers(0, 2, 5), rng.integers(0, 3, 5)]).ravel()  # state 2 is met at the last step only
        data = crl.Trajectories.from_arrays(states, a, r, range(0, 11, 2), end=[1] * 5, n_states=3, n_actions=2)
        planned = EmpiricalMDP(GAMMA, 2, rule, min_count=0).fit(data)
        values = []
        for actions in itertools.product(range(2), repeat=6):
            policy = crl.TabularPolicy(np.eye(2)[np.reshape(actions, (2, 3))])
            values.append(crl.FQE(same).estimate(data, crl.PolicyValue(policy, GAMMA, 2)).value)
        assert planned.value(planned.policy()) == pytest.approx(max(values), abs=1e-10)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("horizon", [None, H])
def test_a_simulator_of_the_model_agrees(rule: Any, horizon: int | None) -> None:
    """Trap C8: planner, exact value and sampler share one definition of the end."""
    planned = EmpiricalMDP(GAMMA, horizon, unseen=rule, min_count=0).fit(records(8))
    sim = simulator_of(planned)
    exact = sim.optimal_policy(GAMMA, horizon)
    value = planned.value(planned.policy())
    assert value == pytest.approx(sim.value(exact, horizon, GAMMA), abs=1e-10)
    never = planned.model.pooled[:S]
    np.testing.assert_array_equal(planned.policy().table[..., ~never, :], exact.table[..., :S, :][..., ~never, :])
    np.testing.assert_allclose(planned.q[..., ~never, :], sim.q(exact, horizon, GAMMA)[..., :S, :][..., ~never, :], atol=1e-10)
    stationary = crl.Uniform(A)
    assert planned.value(stationary) == pytest.approx(sim.value(planned.on_model(stationary), horizon, GAMMA), abs=1e-12)
    sampled = sim.sample(20_000, planned.on_model(stationary), horizon=H, seed=0)
    returns = np.add.reduceat(sampled.rewards, sampled.offsets[:-1])
    undiscounted = planned.value(crl.PolicyValue(stationary, 1.0, H))
    assert abs(returns.mean() - undiscounted) < 4 * returns.std() / np.sqrt(len(returns))


def test_value_is_that_of_fqe_on_the_same_model() -> None:
    data = ragged_data(300)
    for horizon in (None, 5):
        goal = crl.PolicyValue(TARGET, 0.8, horizon)
        planned = EmpiricalMDP(0.8, horizon).fit(data)  # with a horizon, both learn from the steps before it only
        value = crl.FQE(crl.ModelBased(crl.StateMean())).estimate(data, goal).value
        assert planned.value(goal) == pytest.approx(value, abs=1e-10)
        assert planned.value(TARGET) == planned.value(goal)


def test_only_actions_logged_often_enough_are_chosen() -> None:
    """State 0: action 0 five times, action 1 twice and better, action 2 never; state 1 never acted in."""
    data = crl.Trajectories.from_arrays([0] * 7, [0] * 5 + [1] * 2, [1.0] * 5 + [2.0] * 2, range(8), n_actions=3, n_states=2)

    def chosen(count: int, rule: Any) -> int:
        return int(EmpiricalMDP(0.9, min_count=count, unseen=rule).fit(data).policy().table[0].argmax())

    assert [chosen(count, crl.Absorb(9.0)) for count in (0, 1, 2, 3, 5, 6)] == [2, 1, 1, 0, 0, 0]
    assert [chosen(count, crl.StateMean()) for count in (0, 1, 3)] == [1, 1, 0]
    planned = EmpiricalMDP(0.9).fit(data)
    assert planned.unseen_states.tolist() == [False, True]
    assert "1 of them never seen" in repr(planned)
    np.testing.assert_array_equal(planned.policy().table[1], [1, 0, 0])  # all actions are equal there: the lowest
    np.testing.assert_allclose(planned.q[1], 9 / 7)


def test_ties_go_to_the_lowest_action() -> None:
    data = crl.Trajectories.from_arrays([0] * 4, [3, 2, 1, 0], [1.0, 1.0 + 1e-13, 1.0, 0.5], range(5))
    assert EmpiricalMDP(0.9).fit(data).policy().table[0].argmax() == 1


@pytest.mark.parametrize("horizon", [None, 3])
def test_names_of_states_and_actions_do_not_matter(horizon: int | None) -> None:
    data, rng = records(9), np.random.default_rng(0)
    states, actions = rng.permutation(S), rng.permutation(A)
    renamed = crl.Trajectories.from_arrays(
        states[data.observations],
        actions[data.actions],
        data.rewards,
        data.offsets,
        end=data.end,
        final_observations=states[data.final_observations],
        n_states=S,
        n_actions=A,
    )
    for rule in RULES:
        learner = EmpiricalMDP(GAMMA, horizon, unseen=rule)
        plain, other = learner.fit(data), learner.fit(renamed)
        np.testing.assert_allclose(other.q[..., states, :][..., actions], plain.q, atol=1e-12)
        seen = ~plain.unseen_states
        table = other.policy().table[..., states, :][..., actions]
        np.testing.assert_array_equal(table[..., seen, :], plain.policy().table[..., seen, :])


def test_duplicated_data_change_nothing() -> None:
    data = records(10)
    twice = data.take(np.tile(np.arange(data.n), 2))
    for rule in RULES:
        one, two = (EmpiricalMDP(GAMMA, unseen=rule).fit(d) for d in (data, twice))
        np.testing.assert_allclose(two.q, one.q, atol=1e-12)
        np.testing.assert_array_equal(two.policy().table, one.policy().table)


def test_the_line_of_the_issue_runs(process: TabularMDP) -> None:
    data = process.sample(2000, BEHAVIOR, horizon=20, seed=1)
    policy = crl.learning.EmpiricalMDP(discount=0.99).fit(data).policy()
    assert isinstance(policy, crl.TabularPolicy)
    assert (
        crl.FQE().estimate(data, crl.PolicyValue(policy, horizon=20)).value
        > crl.FQE().estimate(data, crl.PolicyValue(BEHAVIOR, horizon=20)).value
    )


def test_the_default_is_not_optimistic() -> None:
    """Every reward is a loss: an action never logged would look best to a rule that says nothing happens."""
    data = crl.Trajectories.from_arrays([0, 0, 0], [1, 1, 2], [-1.0, -1.0, -2.0], range(4), n_actions=4)
    planned = EmpiricalMDP().fit(data)
    assert planned.policy().table[0].argmax() == 1
    assert planned.q[0].max() <= -1.0


# ------------------------------------------------------------------------------------------------------------ pseudo-counts


def test_pseudo_counts_by_hand() -> None:
    """Fine states 0, 1 live, 2 dead, 3 cured; 3 looks like 1. Two ends: the order is that of the outcomes."""
    data = crl.Trajectories.from_arrays(
        [0, 0, 1, 0],
        [0, 1, 0, 1],
        [0.0, -1.0, 1.0, 1.0],
        [0, 1, 2, 3, 4],
        end=[1, 0, 0, 0],
        final_observations=[1, 2, 3, 3],
        n_states=4,
        n_actions=2,
    )
    planned = EmpiricalMDP(
        0.9, unseen=crl.Absorb(-1.0), min_count=0, pseudo_counts=TerminalPseudoCounts([0, 1, 2, 1], count=0.5)
    ).fit(data)
    law = planned.model.matrix.toarray().reshape(5, 2, 5)  # states 0, 1, 2, ends -1 and +1
    expected = np.zeros((5, 2, 5))
    expected[0, 0, 1] = 1.0
    expected[0, 1, [1, 2]] = 0.5
    expected[1, 0, [1, 4]] = 1 / 1.5, 0.5 / 1.5  # one logged step on, from 1 to the terminal state that looks like it
    expected[1, 1, 4] = 1.0
    expected[2, :, 3] = 1.0
    expected[3, :, 3] = expected[4, :, 4] = 1.0
    np.testing.assert_allclose(law, expected, atol=1e-15)
    rewards = np.zeros((5, 2))
    rewards[1], rewards[2] = [0.5 / 1.5, 1.0], -1.0
    np.testing.assert_allclose(planned.model.mean_rewards, rewards, atol=1e-15)
    np.testing.assert_array_equal(planned.counts, [[1, 2], [1, 0], [0, 0]])


def test_the_ends_are_those_of_the_rule_too() -> None:
    data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, -1.0], range(3), final_observations=[1, 2], n_actions=3)
    for value, ends in ((-1.0, 2), (-5.0, 3)):
        planned = EmpiricalMDP(0.9, unseen=crl.Absorb(value), pseudo_counts=TerminalPseudoCounts()).fit(data)
        assert planned.model.terminal.sum() == ends
        assert planned.q[0, 2] == value


def test_a_behavior_policy_never_sees_pseudo_counts() -> None:
    """Trap B7: the frequencies of the logged decisions, whatever the model adds, and whether final states are recorded."""
    sim = SepsisSimulator("v1")
    data = sim.sample(300, sim.physician(0.3), horizon=20, seed=0, record="projected", sees="full")
    EmpiricalMDP(0.99, pseudo_counts=TerminalPseudoCounts()).fit(data)
    table = np.zeros((data.n_states, data.n_actions))
    for s, a in zip(data.observations.tolist(), data.actions.tolist(), strict=True):
        table[s, a] += 1
    bare = crl.Trajectories.from_arrays(
        data.observations, data.actions, data.rewards, data.offsets, n_states=data.n_states, n_actions=data.n_actions
    )
    for logged in (data, bare):
        steps = logged.steps(None)
        found = crl.Counts().fit(steps, np.ones(len(steps)), 0).probabilities(steps.observations, steps.time)
        expected = table[steps.observations] / table[steps.observations].sum(axis=1, keepdims=True)
        np.testing.assert_array_equal(found, expected)


def test_oberst_and_sontag() -> None:
    """Hidden variant, appendix: observed .312, true value of the learned policy -.264, its value in its model .789.

    Means of 200 repeats by exact dynamic programming (reference/papers.md, section 2); standard deviations .15 and .12.
    """
    sim, rows, repeats = SepsisSimulator("v1"), [], 40
    observed, projected = sim.view("observed").codes, sim.view("projected").codes
    projection = np.zeros(720, np.int64)
    projection[observed] = projected
    learner = EmpiricalMDP(discount=0.99, unseen=crl.Absorb(-1.0), min_count=0, pseudo_counts=TerminalPseudoCounts(projection))
    for seed in range(repeats):
        data = sim.sample(1000, sim.physician(0.05), horizon=20, seed=seed, record="observed", sees="full")
        planned = learner.fit(data)
        policy = planned.policy()
        assert len(planned.model.terminal) == 146
        rows.append((planned.value(crl.PolicyValue(policy, horizon=20)), sim.value(policy, 20, sees="projected")))
    in_model, truth = np.mean(rows, axis=0)
    assert abs(in_model - 0.789) < 4 * 0.12 / np.sqrt(repeats)
    assert abs(truth + 0.264) < 4 * 0.15 / np.sqrt(repeats)


# ------------------------------------------------------------------------------------------------------- fitted Q-iteration


def onehot() -> LinearRegression:
    return LinearRegression(fit_intercept=False)


@pytest.mark.parametrize("horizon", [None, 1, H])
def test_one_hot_regressions_plan_in_the_count_model(horizon: int | None) -> None:
    """Least squares on indicator columns are means of cells; a cell without data gets the smallest coefficient, 0."""
    data = records(11)
    planned = EmpiricalMDP(GAMMA, horizon, unseen=crl.Absorb(0.0), min_count=0).fit(data)
    fitted = FittedQIteration(crl.PerAction(onehot()), GAMMA, horizon, iterations=400, tolerance=1e-12).fit(data)
    times = np.arange(horizon or 1)
    q = np.stack([fitted.q(np.arange(S), np.full(S, t)) for t in times])
    np.testing.assert_allclose(q, planned.q if horizon else planned.q[None], atol=1e-9)
    policy = np.stack([fitted.policy().probabilities(np.arange(S), np.full(S, t)) for t in times])
    np.testing.assert_array_equal(policy, planned.policy().table if horizon else planned.policy().table[None])
    assert fitted.policy().stationary == (horizon is None)
    if horizon is None:
        assert fitted.trace[-1] <= 1e-12 * np.abs(planned.q).max()
        assert fitted.trace[-1] < fitted.trace[0]


def test_trees_pooled_over_actions_do_too_where_every_pair_was_seen() -> None:
    data = ragged_data(300)
    planned = EmpiricalMDP(0.8, 5).fit(data)
    fitted = FittedQIteration(crl.Pooled(DecisionTreeRegressor()), 0.8, 5).fit(data)
    for t in range(5):
        np.testing.assert_allclose(fitted.q(np.arange(2), np.full(2, t)), planned.q[t, :2], atol=1e-10)


def naive_fitted_q(data: crl.Trajectories, horizon: int) -> list[LinearRegression]:
    """One regression an action, restated with loops; the last of the list is the last step."""
    x = data.observations
    ahead: list[Any] = []
    for i in range(data.n):
        stop = int(data.offsets[i + 1])
        ahead += [*x[int(data.offsets[i]) + 1 : stop], data.final_observations[i] if data.end[i] else None]
    layers: list[Any] = []
    for _ in range(horizon):
        y = [
            r + (0.0 if to is None or not layers else GAMMA * max(m.predict(to[None])[0] for m in layers[0]))
            for r, to in zip(data.rewards, ahead, strict=True)
        ]
        layers.insert(0, [LinearRegression().fit(x[data.actions == a], np.array(y)[data.actions == a]) for a in range(A)])
    return layers


def vectors(n: int = 50, longest: int = 4) -> crl.Trajectories:
    rng = np.random.default_rng(4)
    lengths = rng.integers(1, longest + 1, n)
    x, a = rng.normal(size=(lengths.sum(), 2)), rng.integers(0, A, lengths.sum())
    return crl.Trajectories.from_arrays(
        x,
        a,
        x[:, 0] * (a - 1) + rng.normal(size=len(x)),
        np.concatenate([[0], np.cumsum(lengths)]),
        end=rng.integers(0, 2, n),
        final_observations=rng.normal(size=(n, 2)),
        n_actions=A,
    )


def test_vectors_against_plain_loops() -> None:
    data = vectors()
    layers = naive_fitted_q(data, 4)
    fitted = FittedQIteration(crl.PerAction(LinearRegression()), GAMMA, 4).fit(data)
    at = np.random.default_rng(0).normal(size=(9, 2))
    for t in range(4):
        expected = np.column_stack([model.predict(at) for model in layers[t]])
        np.testing.assert_allclose(fitted.q(at, np.full(9, t)), expected, atol=1e-10)
    mixed = np.arange(9) % 4
    rows = fitted.policy().probabilities(at, mixed)
    np.testing.assert_array_equal(rows.argmax(axis=1), fitted.q(at, mixed).argmax(axis=1))
    value = crl.FQE(crl.LinearQ()).estimate(data, crl.PolicyValue(fitted.policy(), GAMMA, 4)).value
    assert value >= crl.FQE(crl.LinearQ()).estimate(data, crl.PolicyValue(crl.Uniform(A), GAMMA, 4)).value


@pytest.mark.parametrize("model", [crl.PerAction, crl.Pooled])
def test_an_action_that_no_record_shows_is_never_chosen(model: Any) -> None:
    data = crl.Trajectories.from_arrays([0, 1, 0], [0, 0, 1], [-1.0, -2.0, -3.0], [0, 2, 3], n_actions=3)
    fitted = FittedQIteration(model(DecisionTreeRegressor()), 0.9).fit(data)
    assert np.isnan(fitted.q(np.arange(2), np.zeros(2, int))[:, 2]).all()
    assert not fitted.policy().probabilities(np.arange(2), np.zeros(2, int))[:, 2].any()


def test_random_learners_depend_on_the_seed_alone() -> None:
    data = vectors()
    learner = FittedQIteration(crl.Pooled(ExtraTreesRegressor(5, min_samples_leaf=5)), 0.5, iterations=60)
    at, now = data.observations[:20], np.zeros(20, int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        a, b, c = (learner.fit(data, seed=seed).q(at, now) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


def test_stopping_early_is_said() -> None:
    data = records(12)
    with pytest.warns(ConvergenceWarning, match="after 3 regressions with the targets still moving"):
        fitted = FittedQIteration(crl.PerAction(onehot()), 0.99, iterations=3).fit(data)
    assert len(fitted.trace) == 2
    with pytest.warns(ConvergenceWarning, match="after 1 regressions"):
        FittedQIteration(crl.PerAction(onehot()), 0.99, iterations=1).fit(data)


def test_divergence_is_said() -> None:
    """Tsitsiklis & Van Roy (1996): values w and 2 w of two states, least squares, 1.2 times as large in every iteration."""
    data = crl.Trajectories.from_arrays(
        [[1.0], [2.0]], [0, 0], [0.0, 1e-3], [0, 1, 2], end=[1, 1], final_observations=[[2.0], [2.0]]
    )
    with pytest.warns(ConvergenceWarning, match="diverges"):
        FittedQIteration(crl.PerAction(onehot()), 0.99, iterations=2000).fit(data)


def test_the_policy_is_good_in_the_process(process: TabularMDP) -> None:
    data = process.sample(5000, BEHAVIOR, seed=3)
    policy = FittedQIteration(crl.PerAction(onehot()), 0.9).fit(data).policy()
    assert process.value(policy, discount=0.9) == pytest.approx(process.value(process.optimal_policy(0.9), discount=0.9))


# ---------------------------------------------------------------------------------------------------------------- bad input


def continuous() -> crl.Trajectories:
    return crl.Trajectories.from_arrays([0, 1], [[0.3], [0.1]], [0.0, 1.0], range(3))


def censored() -> crl.Trajectories:
    return crl.Trajectories.from_arrays([0, 1], [0, 1], [0.0, 1.0], range(3), end=["censored", "terminated"])


def cut() -> crl.Trajectories:
    return crl.Trajectories.from_arrays([0, 1], [0, 1], [0.0, 1.0], range(3), end=["truncated", "truncated"])


FQI = FittedQIteration(crl.PerAction(LinearRegression()))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: EmpiricalMDP().fit(vectors()), DataError, "integer states"),
        (lambda: EmpiricalMDP().fit(continuous()), DataError, "actions"),
        (lambda: EmpiricalMDP().fit(censored()), CensoringError, "censored"),
        (lambda: EmpiricalMDP().fit(cut()), DataError, "final_observations"),
        (lambda: EmpiricalMDP().fit([1, 2]), DataError, "Trajectories"),
        (lambda: EmpiricalMDP(1.0), EstimandError, "horizon"),
        (lambda: EmpiricalMDP(1.1), EstimandError, "discount"),
        (lambda: EmpiricalMDP(0.9, 0), EstimandError, "horizon"),
        (lambda: EmpiricalMDP(0.9, min_count=-1), DataError, "min_count"),
        (lambda: EmpiricalMDP(0.9, unseen="death"), EstimandError, "Absorb"),
        (lambda: EmpiricalMDP(0.9, pseudo_counts=1.0), EstimandError, "TerminalPseudoCounts"),
        (lambda: TerminalPseudoCounts([0.5]), DataError, "projection"),
        (lambda: TerminalPseudoCounts([-1, 0]), DataError, "projection"),
        (lambda: TerminalPseudoCounts(count=0.0), DataError, "count"),
        (lambda: EmpiricalMDP(pseudo_counts=TerminalPseudoCounts([0, 0])).fit(records()), DataError, "the data have 5"),
        (lambda: EmpiricalMDP(pseudo_counts=TerminalPseudoCounts()).fit(ragged_bare()), DataError, "final_observations"),
        (lambda: EmpiricalMDP().fit(records()).value(crl.TabularPolicy([[1.0, 0.0, 0.0]])), PolicyError, "state 1"),
        (lambda: EmpiricalMDP().fit(records()).value(crl.Uniform(2)), PolicyError, "shape"),
        (lambda: EmpiricalMDP().fit(records()).on_model(lambda x, t: np.ones((len(x), A)) / A), PolicyError, "time"),
        (lambda: EmpiricalMDP().fit(records()).policy().probabilities(np.array([S]), np.array([0])), PolicyError, "state 5"),
        (lambda: FittedQIteration(LinearRegression()), EstimandError, "PerAction"),
        (lambda: FittedQIteration(FQI.q, 1.0), EstimandError, "horizon"),
        (lambda: FittedQIteration(FQI.q, 0.9, iterations=0), EstimandError, "iterations"),
        (lambda: FittedQIteration(FQI.q, 0.9, tolerance=-1.0), EstimandError, "tolerance"),
        (lambda: FittedQIteration(crl.PerAction(LogisticRegression())).fit(vectors()), EstimandError, "classifier"),
        (lambda: FQI.fit(continuous()), DataError, "actions"),
        (lambda: FQI.fit(censored()), CensoringError, "censored"),
        (lambda: FQI.fit(cut()), TruncationError, "final_observations"),
        (lambda: FQI.fit(None), DataError, "Trajectories"),
        (lambda: planned_policy().probabilities(np.zeros((1, 3)), np.array([0])), PolicyError, "shape"),
        (lambda: planned_policy().probabilities(np.zeros((1, 2)), np.array([4])), PolicyError, "horizon 4"),
    ],
)
def test_bad_input(make: Any, error: type[CausalRLError], text: str) -> None:
    with pytest.raises(error, match=text):
        make()


def ragged_bare() -> crl.Trajectories:
    data = ragged_data()
    return crl.Trajectories.from_arrays(data.observations, data.actions, data.rewards, data.offsets)


def planned_policy() -> crl.Policy:
    return FittedQIteration(FQI.q, 0.9, 4).fit(vectors()).policy()


def test_states_of_a_tabular_policy_are_checked() -> None:
    policy = FittedQIteration(crl.PerAction(onehot()), 0.9, 2).fit(records()).policy()
    assert policy.n_states == S
    with pytest.raises(PolicyError, match="outside"):
        policy.probabilities(np.array([S]), np.array([0]))


def test_all_rewards_zero() -> None:
    data = records(13)
    flat = crl.Trajectories.from_arrays(
        data.observations, data.actions, 0 * data.rewards, data.offsets, end=data.end, final_observations=data.final_observations
    )
    assert not EmpiricalMDP().fit(flat).q.any()
    assert not FittedQIteration(crl.PerAction(onehot())).fit(flat).q(np.arange(S), np.zeros(S, int)).any()
