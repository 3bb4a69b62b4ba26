"""`TabularMDP`: exact values against hand computation, identities and errors."""

from __future__ import annotations

import numpy as np
import pytest

from causalrl.data import End
from causalrl.derived_policies import NaturalCourse, Softened
from causalrl.errors import DataError, EstimandError, PolicyError
from causalrl.policies import Always, TabularPolicy, Uniform
from simulators import ICUSepsis, SepsisSimulator, Simulator, TabularMDP

# States: 0 ill, 1 better, 2 over. Action 0 waits, action 1 treats.
TRANSITIONS = np.array(
    [
        [[0.5, 0.0, 0.5], [0.0, 0.75, 0.25]],
        [[0.25, 0.5, 0.25], [0.0, 0.0, 1.0]],
        [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]],
    ]
)
ARRIVAL = np.array([-1.0, 2.0, 4.0])
OVER = [False, False, True]
POLICY = TabularPolicy([[0.5, 0.5], [1.0, 0.0], [1.0, 0.0]])


def clinic() -> TabularMDP:
    return TabularMDP(TRANSITIONS, ARRIVAL, [0.8, 0.2, 0.0], OVER)


def random_process(seed: int, n_states: int = 6, n_actions: int = 3) -> TabularMDP:
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.full(n_states, 0.5), (n_states, n_actions))
    initial = np.append(rng.dirichlet(np.ones(n_states - 1)), 0.0)
    return TabularMDP(transitions, rng.normal(size=(n_states, n_actions, n_states)), initial, np.arange(n_states) == n_states - 1)


def test_hand_computed_finite_horizon() -> None:
    # r(0, .) = (.5 * -1 + .5 * 4, .75 * 2 + .25 * 4) = (1.5, 2.5); r(1, .) = (-.25 + 1 + 1, 4) = (1.75, 4).
    # v_1 = (2, 1.75); q_0(0, .) = (1.5 + .9 * .5 * 2, 2.5 + .9 * .75 * 1.75); q_0(1, .) = (1.75 + .9 (.5 + .875), 4).
    q = clinic().q(POLICY, horizon=2, discount=0.9)
    assert q.shape == (2, 3, 2)
    np.testing.assert_allclose(q[1], [[1.5, 2.5], [1.75, 4.0], [0.0, 0.0]], atol=1e-15)
    np.testing.assert_allclose(q[0], [[2.4, 3.68125], [2.9875, 4.0], [0.0, 0.0]], atol=1e-15)
    assert clinic().value(POLICY, 2, 0.9) == pytest.approx(0.8 * (2.4 + 3.68125) / 2 + 0.2 * 2.9875, abs=1e-15)


def test_hand_computed_occupancy() -> None:
    # d_0 = (.8, .2); d_1(0) = .4 * .5 + .2 * .25 = .25, d_1(1) = .4 * .75 + .2 * .5 = .4.
    occupancy = clinic().occupancy(POLICY, horizon=2, discount=0.9)
    np.testing.assert_allclose(occupancy[0], [[0.4, 0.4], [0.2, 0.0], [0.0, 0.0]], atol=1e-15)
    np.testing.assert_allclose(occupancy[1], 0.9 * np.array([[0.125, 0.125], [0.4, 0.0], [0.0, 0.0]]), atol=1e-15)


def test_hand_computed_infinite_horizon() -> None:
    # v(0) = 2 + v(0)/4 + 3 v(1)/8 and v(1) = 1.75 + v(0)/4 + v(1)/2, so v(0) = 53/9 and v(1) = 58/9.
    assert clinic().value(POLICY) == pytest.approx(0.8 * 53 / 9 + 0.2 * 58 / 9, abs=1e-13)
    expected = [[1.5 + 53 / 18, 2.5 + 58 / 12], [58 / 9, 4.0], [0.0, 0.0]]
    np.testing.assert_allclose(clinic().q(POLICY), expected, atol=1e-13)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("horizon", "discount"), [(1, 1.0), (7, 0.9), (None, 1.0), (None, 0.8), (3, 0.0)])
def test_value_q_and_occupancy_agree(seed: int, horizon: int | None, discount: float) -> None:
    process = random_process(seed)
    table = np.random.default_rng(seed).dirichlet(np.ones(3), 6)
    value = process.value(TabularPolicy(table), horizon, discount)
    q = process.q(TabularPolicy(table), horizon, discount)
    first = q if horizon is None else q[0]
    assert value == pytest.approx(process.initial @ (table * first).sum(axis=1), abs=1e-12)
    visits = process.occupancy(TabularPolicy(table), horizon, discount)
    assert value == pytest.approx((visits * process.dynamics.mean_rewards).sum(), abs=1e-12)


def test_time_dependent_policy_follows_the_clock() -> None:
    tables = np.stack([Always(a).bind(2).probabilities(np.arange(3), np.zeros(3, int)) for a in (1, 0)])
    treat_then_wait = 0.8 * (2.5 + 0.75 * 1.75) + 0.2 * 4.0
    assert clinic().value(TabularPolicy(tables), horizon=2) == pytest.approx(treat_then_wait, abs=1e-14)

    def same(states: np.ndarray, time: np.ndarray) -> np.ndarray:
        return np.stack([time > 0, time == 0], axis=1).astype(float)

    assert clinic().value(same, horizon=2) == pytest.approx(treat_then_wait, abs=1e-14)


def test_long_horizon_approaches_the_linear_solve() -> None:
    process = random_process(5)
    assert process.value(Uniform(3), 4000, 0.99) == pytest.approx(process.value(Uniform(3), None, 0.99), abs=1e-12)


def test_sparse_solve_agrees_with_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    process = random_process(2)
    value, visits = process.value(Uniform(3), None, 0.95), process.occupancy(Uniform(3), None, 0.95)
    monkeypatch.setattr("simulators.mdp.planning.DENSE_STATES", 0)
    assert process.value(Uniform(3), None, 0.95) == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(process.occupancy(Uniform(3), None, 0.95), visits, atol=1e-12)


@pytest.mark.parametrize("horizon", [1, 3, None])
def test_optimal_policy_beats_every_deterministic_one(horizon: int | None) -> None:
    process = random_process(1, n_states=4, n_actions=2)
    best = process.value(process.optimal_policy(0.9, horizon), horizon, 0.9)
    codes = np.array(np.meshgrid(*[[0, 1]] * 3)).reshape(3, -1).T
    values = [process.value(TabularPolicy(np.eye(2)[np.append(code, 0)]), horizon, 0.9) for code in codes]
    assert best >= max(values) - 1e-12
    if horizon is None:
        assert best == pytest.approx(max(values), abs=1e-12)


def test_ties_take_the_lowest_action_and_still_end() -> None:
    # Action 0 stays, actions 1 and 2 move on; all are worth 1 at discount 1.
    stay, leave = [1.0, 0.0], [0.0, 1.0]
    process = TabularMDP([[stay, leave, leave], [leave] * 3], [0.0, 1.0], [1.0, 0.0], [False, True])
    assert process.optimal_policy(1.0).table[0].argmax() == 1
    assert process.optimal_policy(1.0, horizon=2).table[0, 0].argmax() == 0
    assert process.optimal_policy(0.9).table[0].argmax() == 1


def test_the_continuing_chain_is_another_problem() -> None:
    process = clinic()
    assert process.continuing().value(POLICY, None, 0.9) > process.value(POLICY, None, 0.9)
    assert process.terminal.any()
    assert not process.continuing().terminal.any()
    elsewhere = process.starting([0.0, 1.0, 0.0])
    assert elsewhere.value(POLICY) == pytest.approx(58 / 9, abs=1e-13)


def test_dense_and_sparse_constructors_agree() -> None:
    dense = clinic()
    d = dense.dynamics
    sparse = TabularMDP.from_sparse(d.indptr, d.successors, d.probabilities, ARRIVAL[d.successors], [0.8, 0.2, 0], OVER)
    assert sparse.value(POLICY) == dense.value(POLICY)
    decision = TabularMDP(TRANSITIONS, TRANSITIONS @ ARRIVAL, [0.8, 0.2, 0.0], OVER)
    assert decision.value(POLICY) == pytest.approx(dense.value(POLICY), abs=1e-14)


def test_stored_zeros_are_never_sampled() -> None:
    indptr, successors, probabilities = [0, 3, 4], [0, 1, 0, 1], [0.0, 1.0, 0.0, 1.0]
    process = TabularMDP.from_sparse(indptr, successors, probabilities, [9.0, 1.0, 9.0, 0.0], [1, 0], [False, True])
    assert (process.sample(50, Always(0)).rewards == 1.0).all()


def test_sampled_record() -> None:
    process = TabularMDP(TRANSITIONS, ARRIVAL, [0.8, 0.2, 0], OVER, state_features=[[0.0], [1.0], [2.0]])
    data = process.sample(500, POLICY, horizon=3, seed=1)
    last = data.final_observations
    assert last is not None
    assert ((data.end == End.TERMINATED) == (last == 2)).all()
    assert (data.lengths[data.end == End.TRUNCATED] == 3).all()
    assert data.lengths.max() == 3
    assert not (data.observations == 2).any()
    np.testing.assert_array_equal(data.behavior_probabilities, POLICY.table[data.observations, data.actions])
    inside = np.delete(np.arange(len(data.rewards)), data.offsets[1:] - 1)
    np.testing.assert_array_equal(data.rewards[inside], ARRIVAL[data.observations[inside + 1]])
    np.testing.assert_array_equal(data.rewards[data.offsets[1:] - 1], ARRIVAL[last])
    assert (data.n_states, data.n_actions) == (3, 2)
    np.testing.assert_array_equal(data.state_features, [[0.0], [1.0], [2.0]])
    assert (process.sample(20, POLICY, seed=2**90).end == End.TERMINATED).all()


def test_sample_prefix_does_not_depend_on_n() -> None:
    few, many = clinic().sample(10, POLICY, 5, seed=3), clinic().sample(100, POLICY, 5, seed=3)
    assert few.fingerprint == many.take(np.arange(10)).fingerprint


@pytest.mark.parametrize("simulator", [clinic(), SepsisSimulator(), ICUSepsis()], ids=lambda s: type(s).__name__)
def test_each_is_a_simulator(simulator: Simulator) -> None:
    assert isinstance(simulator, Simulator)


def row_off() -> np.ndarray:
    broken = TRANSITIONS.copy()
    broken[1, 1] = [0.0, 0.0, 0.9]
    return broken


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: TabularMDP(row_off(), ARRIVAL, [1, 0, 0], OVER), "state 1, action 1 sums to 0.9"),
        (lambda: TabularMDP(-TRANSITIONS, ARRIVAL, [1, 0, 0], OVER), "state 0, action 0 has probability -0.5"),
        (lambda: TabularMDP(TRANSITIONS * np.nan, ARRIVAL, [1, 0, 0], OVER), "probability nan"),
        (lambda: TabularMDP(TRANSITIONS[0], ARRIVAL, [1, 0, 0], OVER), "expected .S, A, S."),
        (lambda: TabularMDP(TRANSITIONS, ARRIVAL[:2], [1, 0, 0], OVER), "rewards: shape"),
        (lambda: TabularMDP(TRANSITIONS, [0, np.inf, 0], [1, 0, 0], OVER), "rewards: row"),
        (lambda: TabularMDP(TRANSITIONS, ARRIVAL, [0.5, 0.4, 0], OVER), "initial: row 0 sums to 0.9"),
        (lambda: TabularMDP(TRANSITIONS, ARRIVAL, [0.5, 0.5], OVER), "initial: shape"),
        (lambda: TabularMDP(TRANSITIONS, ARRIVAL, [0.5, 0.4, 0.1], OVER), "terminal state 2"),
        (lambda: TabularMDP(TRANSITIONS, ARRIVAL, [1, 0, 0], [0, 0, 1]), "pass flags, True or False, of shape .3,."),
        (lambda: TabularMDP(TRANSITIONS, ARRIVAL, [1, 0, 0], OVER, state_features=[[1.0]]), "state_features"),
        (lambda: TabularMDP(TRANSITIONS, ARRIVAL, [1, 0, 0], OVER, state_names=["a"]), "state_names"),
        (lambda: TabularMDP.from_sparse([0, 1, 2, 3], [0], [1.0], [0.0], [1, 0]), "indptr"),
        (lambda: TabularMDP.from_sparse([0, 1, 2], [0, 2], [1.0, 1.0], [0.0, 0.0], [1, 0]), "leads to 2"),
        (lambda: TabularMDP.from_sparse([0, 1, 2], [0, 1], [1.0], [0.0, 0.0], [1, 0]), "probabilities: shape"),
        (lambda: clinic().sample(0, POLICY, 2), "n: 0"),
        (lambda: clinic().sample(2, POLICY, 2, seed=-1), "seed: -1"),
        (lambda: clinic().sample(2, POLICY, 2, seed=0.5), "seed: 0.5"),
        (lambda: SepsisSimulator("v3"), "version: 'v3'"),
        (lambda: ICUSepsis("skip"), "inadmissible: 'skip'"),
    ],
)
def test_bad_data_names_the_mend(build: object, text: str) -> None:
    with pytest.raises(DataError, match=text):
        build()  # type: ignore[operator]


@pytest.mark.parametrize("horizon", [0, -3, 1.5, "20"])
def test_bad_horizon(horizon: int) -> None:
    for call in (clinic().value, clinic().q, clinic().occupancy):
        with pytest.raises(EstimandError, match="horizon"):
            call(POLICY, horizon)
    with pytest.raises(EstimandError, match="horizon"):
        clinic().sample(3, POLICY, horizon)
    with pytest.raises(EstimandError, match="horizon"):
        clinic().optimal_policy(0.9, horizon)


@pytest.mark.parametrize("discount", [-0.1, 1.1, np.nan])
def test_bad_discount(discount: float) -> None:
    with pytest.raises(EstimandError, match="discount"):
        clinic().value(POLICY, 3, discount)
    with pytest.raises(EstimandError, match="discount"):
        clinic().optimal_policy(discount)


def test_a_policy_that_never_ends_needs_a_horizon() -> None:
    circle = TabularMDP([[[1, 0], [0, 1]], [[0, 1], [0, 1]]], [0.5, 1.0], [1, 0], [False, True])
    for call in (circle.value, circle.q, circle.occupancy):
        with pytest.raises(EstimandError, match=r"state 0 the process never ends .* pass horizon=H"):
            call(Always(0))
    with pytest.raises(EstimandError, match="never ends"):
        circle.sample(3, Always(0))
    with pytest.raises(EstimandError, match="needs a horizon"):
        circle.optimal_policy(1.0)
    with pytest.raises(EstimandError, match="needs a horizon"):
        clinic().continuing().optimal_policy(1.0)
    assert circle.value(Always(0), 3) == pytest.approx(1.5)
    assert circle.value(Always(0), None, 0.5) == pytest.approx(1.0)
    assert circle.value(Always(1)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        (TabularPolicy(np.full((4, 2), 0.5)), "table has 4 states"),
        (TabularPolicy(np.full((3, 5), 0.2)), "5 actions"),
        (TabularPolicy(np.full((2, 3, 2), 0.5)), "time 2"),
        (Softened(TabularPolicy(np.full((2, 2), 0.5)), 0.1), "its table has 2 states"),
        (Always(2), "actions 0 to 1"),
        (Uniform(3), "probabilities have shape"),
        (NaturalCourse(), "behaviour policy"),
        (3, "no policy"),
    ],
)
def test_a_policy_that_does_not_fit(policy: object, text: str) -> None:
    with pytest.raises(PolicyError, match=text):
        clinic().value(policy, horizon=3)  # type: ignore[arg-type]


def test_a_time_dependent_policy_needs_a_horizon() -> None:
    with pytest.raises(PolicyError, match="needs a horizon"):
        clinic().value(TabularPolicy(np.full((2, 3, 2), 0.5)))
