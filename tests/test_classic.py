"""The classic domains against published values, closed forms and naive dynamic programming written here."""

from __future__ import annotations

import pickle
from collections import defaultdict
from fractions import Fraction
from functools import cache
from math import ceil
from typing import Any

import numpy as np
import pytest

from causalrl.data import End
from causalrl.errors import DataError, EstimandError, PolicyError
from causalrl.policies import TabularPolicy, Uniform
from simulators import Simulator, TabularMDP
from simulators.classic import Chain, Cliff, Gridworld, Hybrid, ModelFail, ModelWin, SinglePath
from simulators.cobs import CobsGraph, CobsGridworld, ToyMountainCar
from simulators.domain import Domain

POMDP = CobsGraph(horizon=16, sparse=True, groups=6)
DOMAINS: tuple[Domain, ...] = (
    *(ModelFail(), ModelWin(), Hybrid(), Gridworld(), Gridworld(goal_reward=100), SinglePath(), Cliff(), Chain()),
    *(CobsGraph(), CobsGraph(horizon=16, slip=0.0, p_target=0.6), CobsGraph(sparse=True, reward_noise=1.0), POMDP),
    *(CobsGridworld(), CobsGridworld(discount=0.96), ToyMountainCar()),
)
every_domain = pytest.mark.parametrize("domain", DOMAINS, ids=repr)


def values(domain: Domain) -> tuple[float, float]:
    """Of the behaviour and of the target policy."""
    both = domain.behavior(), domain.target()
    return tuple(domain.value(policy, domain.horizon, domain.discount) for policy in both)  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------------------- every domain


@every_domain
def test_contract(domain: Domain) -> None:
    assert isinstance(domain, Simulator)
    assert domain.view() is domain.view("observed")
    for policy in (domain.behavior(), domain.target()):
        assert policy.table.shape == (domain.view().n_records, domain.n_actions)
    assert 0 < domain.discount <= 1
    twin = pickle.loads(pickle.dumps(domain))
    assert twin == domain
    assert hash(twin) == hash(domain)
    assert values(twin) == values(domain)


def exact_variance(domain: Domain, policy: TabularPolicy) -> float:
    """E G^2 - (E G)^2 by backward recursion: a sample that misses a rare event (the target of the mountain car) has none."""
    law, table, terminal = domain.mdp.dynamics, domain.tables(policy, domain.horizon)[0], domain.mdp.terminal
    rows = np.repeat(np.arange(table.size), np.diff(law.indptr))
    mean, square = np.zeros(len(table)), np.zeros(len(table))
    for _ in range(domain.horizon):
        after, after_square = domain.discount * mean[law.successors], domain.discount**2 * square[law.successors]
        paid = law.rewards**2 + domain.mdp.reward_noise**2
        moments = law.rewards + after, paid + 2 * law.rewards * after + after_square
        mean, square = (
            np.where(terminal, 0, (table * np.bincount(rows, law.probabilities * m).reshape(table.shape)).sum(axis=1))
            for m in moments
        )
    start = domain.mdp.initial
    return float(start @ square - (start @ mean) ** 2)


@every_domain
@pytest.mark.parametrize("which", [0, 1], ids=["behavior", "target"])
def test_sampled_returns(domain: Domain, which: int) -> None:
    policy = (domain.behavior(), domain.target())[which]
    data = domain.sample(4000, policy, domain.horizon, seed=11)
    lengths = np.diff(data.offsets)
    time = np.arange(data.offsets[-1]) - np.repeat(data.offsets[:-1], lengths)
    returns = np.add.reduceat(domain.discount**time * data.rewards, data.offsets[:-1])
    stderr = np.sqrt(exact_variance(domain, policy) / len(returns))
    assert abs(returns.mean() - values(domain)[which]) <= 4 * stderr + 1e-9
    assert data.behavior_probabilities is not None
    assert data.n_states == domain.view().n_records
    assert lengths.max() <= domain.horizon


# ------------------------------------------------------------------------------------------------ Thomas and Brunskill


def test_model_fail() -> None:
    assert values(ModelFail()) == pytest.approx((0.76, -0.76), abs=1e-12)
    for p in (0.0, 0.3, 1.0):
        assert ModelFail().value(ModelFail().policy(p), 2) == pytest.approx(2 * p - 1, abs=1e-12)
    data = ModelFail().sample(50, ModelFail().behavior(), 2, seed=0)
    assert not data.observations.any()
    assert (data.end == End.TERMINATED).all()
    assert np.diff(data.offsets).tolist() == [2] * 50
    assert data.rewards.reshape(50, 2)[:, 0].tolist() == [0.0] * 50


def test_model_fail_defeats_the_model_of_what_is_observed() -> None:
    """The maximum-likelihood model of infinitely much data, from the exact occupancies under the behaviour policy."""
    domain = ModelFail()
    codes = domain.view().codes
    assert codes is not None
    occupancy = domain.occupancy(domain.behavior(), horizon=2).sum(axis=0)
    moves = domain.mdp.dynamics.matrix.toarray().reshape(4, 2, 4)
    counts, paid = np.zeros((2, 2, 2)), np.zeros((2, 2))
    for s in range(4):
        for a in range(2):
            paid[codes[s], a] += occupancy[s, a] * domain.mdp.dynamics.mean_rewards[s, a]
            for after in range(4):
                counts[codes[s], a, codes[after]] += occupancy[s, a] * moves[s, a, after]
    visits = counts[0].sum(axis=1)
    model = TabularMDP(
        [counts[0] / visits[:, None], [[0, 1], [0, 1]]], [paid[0] / visits, [0, 0]], [1, 0], terminal=[False, True]
    )
    assert model.value(domain.target(), horizon=2) == pytest.approx(0.57, abs=1e-12)


@pytest.mark.parametrize(("horizon", "p", "expected"), [(20, 0.27, 0.92), (20, 0.73, -0.92), (10, 0.01, 0.98)])
def test_model_win_published(horizon: int, p: float, expected: float) -> None:
    assert ModelWin().value(ModelWin().policy(p), horizon) == pytest.approx(expected, abs=1e-12)


def test_model_win_formulas() -> None:
    for horizon in range(1, 12):
        for p in (0.0, 0.4, 1.0):
            expected = ceil(horizon / 2) * (-0.2 * p + 0.2 * (1 - p))
            assert ModelWin().value(ModelWin().policy(p), horizon) == pytest.approx(expected, abs=1e-12)
    for horizon in (4, 8, 16, 32, 64, 128):
        assert values(ModelWin(horizon=horizon))[1] == pytest.approx(0.092 * horizon / 2, abs=1e-12)


def test_model_win_second_moment_of_the_weight() -> None:
    """m_t(s) = sum over a of b(a|s) (e(a|s) / b(a|s))^2 sum over s' of P(s'|s,a) m_{t+1}(s')."""
    domain = ModelWin()
    b, e = domain.behavior().table, domain.target().table
    moment = np.ones(3)
    for _ in range(domain.horizon):
        moment = (e**2 / b * (domain.mdp.dynamics.matrix @ moment).reshape(3, 2)).sum(axis=1)
    assert moment[0] == pytest.approx((0.27**2 / 0.73 + 0.73**2 / 0.27) ** 10, rel=1e-12)
    assert round(moment[0]) == 1470


@pytest.mark.parametrize("domain", [Hybrid(), Hybrid(ModelFail(0.5, 0.9), ModelWin(0.6, 0.1, horizon=7))], ids=repr)
def test_hybrid_is_the_sum(domain: Hybrid) -> None:
    total = np.add(values(domain.fail), values(domain.win))
    assert values(domain) == pytest.approx(tuple(total), abs=1e-12)
    data = domain.sample(30, domain.behavior(), domain.horizon, seed=0)
    records = data.observations.reshape(30, domain.horizon)
    assert (records[:, :2] == 0).all()
    assert (records[:, 2] == 1).all()
    assert np.isin(records[:, 3], [2, 3]).all()


@pytest.mark.parametrize(
    ("goal", "uniform", "p1", "p2"),
    [(10, -72.412723, 73.727454, 85.907654), (100, 2.974285, 96.881459, 86.090300)],
)
def test_gridworld_published(goal: float, uniform: float, p1: float, p2: float) -> None:
    domain = Gridworld(goal_reward=goal)
    assert values(domain) == pytest.approx((p1, p2), abs=1e-6)
    assert domain.value(Uniform(4), 100) == pytest.approx(uniform, abs=1e-6)
    assert domain.value(domain.policy(0), 100) == pytest.approx(uniform, abs=1e-6)


def test_gridworld_policies() -> None:
    """p1 and p2 from the scores of the authors: those of p2 are twice those of p1."""
    for factor, other, right, up in ((1, -10, 5, 5), (2, -20, 10, 10)):
        scores = np.full((15, 4), float(other))
        scores[13, 0], scores[:12, 2], scores[13, 2] = right, up, 2 * up
        expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(Gridworld().policy(factor).table[:15], expected, rtol=1e-12)


# ------------------------------------------------------------------------------- single path, cliff, the ragged chain


def test_single_path() -> None:
    domain = SinglePath()
    assert values(domain) == pytest.approx((3.0, 2.0), abs=1e-12)
    moves = domain.mdp.dynamics.matrix.toarray().reshape(5, 2, 5)
    for state in range(4):
        assert moves[state, 0, state + 1] == 1
        assert moves[state, 1, state] == moves[state, 1, state + 1] == 0.5
    data = domain.sample(200, domain.behavior(), domain.horizon, seed=0)
    assert (np.diff(data.offsets) == 5).all()
    assert (data.rewards == (data.actions == 0)).all()


def test_cliff_published() -> None:
    assert values(Cliff()) == pytest.approx((-56.651276, -28.437474), abs=1e-6)


def test_cliff_rules() -> None:
    """Naive value of the safe policy up, along the second row, down, by the rules as the reference words them."""
    domain, slip = Cliff(), 0.1
    moves = {0: (-1, 0), 1: (0, 1), 2: (1, 0), 3: (0, -1)}

    def chosen(row: int, column: int) -> int:
        return 2 if column == 11 else 0 if row > 1 else 1

    def outcome(row: int, column: int, move: int) -> tuple[int, int, float]:
        to = min(max(row + moves[move][0], 0), 3), min(max(column + moves[move][1], 0), 11)
        return (3, 0, -100.0) if to[0] == 3 and 0 < to[1] < 11 else (*to, -1.0)

    future: dict[tuple[int, int], float] = defaultdict(float)
    for _ in range(domain.horizon):
        now: dict[tuple[int, int], float] = defaultdict(float)
        for row, column in ((i, j) for i in range(4) for j in range(12) if (i, j) != (3, 11)):
            for move in moves:
                chance = slip / 4 + (1 - slip) * (move == chosen(row, column))
                to_row, to_column, reward = outcome(row, column, move)
                now[row, column] += chance * (reward + future[to_row, to_column])
        future = now
    table = np.eye(4)[[chosen(*divmod(cell, 12)) for cell in range(48)]]
    assert domain.value(TabularPolicy(table), domain.horizon) == pytest.approx(future[3, 0], abs=1e-9)


def test_chain_closed_form() -> None:
    assert [round(value, 3) for value in values(Chain())] == [3.239, 4.463]
    for p in (0.1, 0.5, 1.0):
        for horizon in (1, 4, 10):
            expected = (1 - (1 - p) ** horizon) / p
            assert Chain().value(Chain().policy(p), horizon) == pytest.approx(expected, abs=1e-12)
    assert Chain().value(Chain().policy(0.0), 10) == 10
    q = Chain().q(Chain().target(), 10)
    assert (q[:, 0, 0] == 1).all()
    np.testing.assert_allclose(q[:, 0, 1], [1 + (1 - 0.8 ** (9 - t)) / 0.2 for t in range(10)], atol=1e-12)


@pytest.mark.parametrize(("p_target", "truth", "divided"), [(0.3, 3.239, 10.0), (0.2, 4.463, 19.61)])
def test_chain_limits_of_the_wrong_estimators(p_target: float, truth: float, divided: float) -> None:
    """Limits of trap A1, A2 and A3 in infinitely many data, from exact occupancies."""
    domain = Chain(p_target=p_target)
    b, e = (domain.occupancy(policy, 10)[:, 0] for policy in (domain.behavior(), domain.target()))
    alive_b, alive_e = b.sum(axis=1), e.sum(axis=1)
    given_alive = e @ domain.mdp.dynamics.mean_rewards[0] / alive_e
    assert given_alive.sum() == pytest.approx(10, abs=1e-12)
    assert round(float(alive_b @ given_alive), 3) == 3.239
    assert round(float((alive_e / alive_b).sum()), 2) == divided
    single_step = b * domain.target().table[0] / domain.behavior().table[0]
    assert round(float(single_step.sum()), 3) == 3.239
    assert round(float(alive_e.sum()), 3) == truth


@pytest.mark.parametrize(("p_target", "limit"), [(0.3, 5.267), (0.2, 6.124)])
def test_chain_limit_of_padding_with_zero(p_target: float, limit: float) -> None:
    """Trap A3: active-only WDR with Q' = 0.7 Q tends to V'_0 + sum_t (1 - E_e[Q'_t | alive_t] + E_e[V'_{t+1} | alive_t])."""
    domain, c = Chain(p_target=p_target), 0.7
    q = c * domain.q(domain.target(), 10)[:, 0]
    v = q @ domain.target().table[0]
    alive = domain.occupancy(domain.target(), 10)[:, 0]
    conditional = alive / alive.sum(axis=1, keepdims=True)
    later = (1 - p_target) * np.append(v[1:], 0.0)
    wdr = v[0] + (1 - (conditional * q).sum(axis=1) + later).sum()
    assert round(float(wdr), 3) == limit


# --------------------------------------------------------------------------------------------------------------- COBS


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("slip", [0.25, 0.0])
@pytest.mark.parametrize("depths", [2, 4, 16])
def test_graph_by_recursion_over_the_tree(depths: int, slip: float, sparse: bool) -> None:
    def value(depth: int, sign: int, p: float) -> float:
        """Of a node whose sign is +1 upper, -1 lower, 0 start."""
        if depth == depths - 1:
            return float(sign)
        up = p * (1 - slip) + (1 - p) * slip
        return sum(chance * ((0 if sparse else to) + 0.98 * value(depth + 1, to, p)) for chance, to in ((up, 1), (1 - up, -1)))

    domain = CobsGraph(horizon=depths, slip=slip, sparse=sparse, p_target=0.6)
    assert values(domain) == pytest.approx((value(0, 0, 0.8), value(0, 0, 0.6)), abs=1e-12)


def test_graph_ends_after_all_its_steps_with_a_reward_of_the_last_node() -> None:
    domain = CobsGraph(sparse=True)
    data = domain.sample(500, domain.behavior(), seed=3)
    nodes, rewards = data.observations.reshape(500, 4), data.rewards.reshape(500, 4)
    assert (data.end == End.TERMINATED).all()
    assert (data.final_observations == 7).all()
    np.testing.assert_array_equal((nodes + 1) // 2, np.tile(range(4), (500, 1)))
    np.testing.assert_array_equal(rewards, np.where(nodes == 5, 1, 0) - np.where(nodes == 6, 1, 0))
    dense = CobsGraph().sample(500, domain.behavior(), seed=3)
    entered = np.where(nodes[:, 1:] % 2, 1, -1)
    np.testing.assert_array_equal(dense.rewards.reshape(500, 4), np.column_stack([entered, entered[:, -1]]))


def test_graph_noise_leaves_the_value() -> None:
    noisy = CobsGraph(reward_noise=1.0)
    assert values(noisy) == values(CobsGraph())
    data, plain = (domain.sample(2000, domain.behavior(), seed=5) for domain in (noisy, CobsGraph()))
    noise = data.rewards - plain.rewards
    assert abs(noise.mean()) < 4 / np.sqrt(len(noise))
    assert noise.std() == pytest.approx(1, abs=4 / np.sqrt(2 * len(noise)))


@pytest.mark.parametrize(
    ("depths", "groups", "codes"),
    [
        (2, 2, [0, 0, 0, 1]),
        (16, 6, [0, *(n // 6 for n in range(30)), 5]),
        (4, 5, [0, 0, 0, 1, 1, 2, 3, 4]),
        (3, 5, [0, 0, 1, 2, 3, 4]),
    ],
)
def test_graph_pomdp_groups(depths: int, groups: int, codes: list[int]) -> None:
    domain = CobsGraph(horizon=depths, groups=groups)
    found = domain.view().codes
    assert found is not None
    assert found.tolist() == codes
    assert domain.view().n_records == groups
    assert values(domain) == values(CobsGraph(horizon=depths))


HOLES = {(1, 4), (2, 3), (3, 5), (4, 3), (5, 1), (5, 2), (5, 6), (6, 1), (6, 4), (6, 6), (7, 3)}
FIELDS = {(1, 2), (2, 6), (3, 1), (3, 7), (4, 6), (5, 4), (7, 5)}
MOVES = ((0, -1), (0, 1), (-1, 0), (1, 0))
CELLS = [(row, column) for row in range(8) for column in range(8)]


def entering(cell: tuple[int, int]) -> float:
    return 1.0 if cell == (7, 7) else -0.5 if cell in HOLES else -0.005 if cell in FIELDS else -0.01


def moved(cell: tuple[int, int], move: int) -> tuple[int, int]:
    to = cell[0] + MOVES[move][0], cell[1] + MOVES[move][1]
    return to if to in CELLS else cell


@cache
def naive_best() -> dict[tuple[int, int], int]:
    """Lowest best move without slip at discount .99, by value iteration."""
    future = dict.fromkeys(CELLS, 0.0)

    def scores(cell: tuple[int, int]) -> list[float]:
        return [entering(moved(cell, move)) + 0.99 * future[moved(cell, move)] for move in range(4)]

    for _ in range(200):
        future = {cell: 0.0 if cell == (7, 7) else max(scores(cell)) for cell in CELLS}
    return {cell: int(np.argmax(np.round(scores(cell), 9))) for cell in CELLS}


def naive_grid_value(epsilon: float, discount: float, slip: float = 0.2) -> float:
    best, future = naive_best(), dict.fromkeys(CELLS, 0.0)
    for _ in range(25):
        now = dict.fromkeys(CELLS, 0.0)
        for cell in CELLS[:-1]:
            for move in range(4):
                taken = (1 - slip) * (epsilon / 4 + (1 - epsilon) * (move == best[cell])) + slip / 4
                now[cell] += taken * (entering(moved(cell, move)) + discount * future[moved(cell, move)])
        future = now
    return float(np.mean([future[cell] for cell in CELLS if 0 in cell]))


def test_cobs_gridworld_layout() -> None:
    mdp = CobsGridworld().mdp
    assert [divmod(s, 8) for s in np.flatnonzero(mdp.initial)] == [cell for cell in CELLS if 0 in cell]
    np.testing.assert_allclose(mdp.initial[mdp.initial > 0], 1 / 15)
    assert np.flatnonzero(mdp.terminal).tolist() == [63]
    live = mdp.dynamics.indptr[63 * 4]
    expected = [entering(divmod(s, 8)) for s in mdp.dynamics.successors[:live]]
    np.testing.assert_array_equal(mdp.dynamics.rewards[:live], expected)
    to_the_right = mdp.dynamics.matrix.toarray().reshape(64, 4, 64)[9, 1]
    np.testing.assert_allclose(to_the_right[[8, 10, 1, 17]], [0.05, 0.85, 0.05, 0.05], atol=1e-12)


@pytest.mark.parametrize("discount", [0.98, 0.96])
@pytest.mark.parametrize("epsilon", [0.1, 0.2, 0.6, 1.0])
def test_cobs_gridworld_by_naive_dynamic_programming(epsilon: float, discount: float) -> None:
    domain = CobsGridworld(p_target=epsilon, discount=discount)
    assert values(domain)[1] == pytest.approx(naive_grid_value(epsilon, discount), abs=1e-12)


def test_toy_mountain_car_by_the_law_of_the_position() -> None:
    def value(right: float) -> float:
        law, total = {0: 1.0}, 0.0
        for t in range(250):
            total -= 0.99**t * sum(law.values())
            after: dict[int, float] = defaultdict(float)
            for position, chance in law.items():
                after[max(position - 1, -10)] += (1 - right) * chance
                if position < 10:
                    after[position + 1] += right * chance
            law = after
        return total

    assert values(ToyMountainCar()) == pytest.approx((value(0.8), value(0.2)), abs=1e-10)


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("kind", [ModelFail, ModelWin, SinglePath, Cliff, Chain, CobsGraph, CobsGridworld, ToyMountainCar])
def test_policy_parameters_are_probabilities(kind: Any) -> None:
    for p in (-0.1, 1.1, float("nan"), "0.5", True):
        for field, make in (
            ("p_behavior", lambda p: kind(p_behavior=p)),
            ("p_target", lambda p: kind(p_target=p)),
            ("p", kind().policy),
        ):
            with pytest.raises(PolicyError, match=f"^{field}: {p!r}; pass a number from 0 to 1"):
                make(p)


BAD: list[tuple[str, Any, type[Exception], str]] = [
    ("factor", lambda: Gridworld(p_target=-1), PolicyError, "p_target: -1; pass a number from 0 to 1e+06"),
    ("endless factor", lambda: Gridworld().policy(np.inf), PolicyError, "p: inf"),
    ("factor that overflows", lambda: Gridworld().policy(1e308), PolicyError, "p: 1e+308"),
    ("goal", lambda: Gridworld(goal_reward=np.nan), DataError, "goal_reward: nan; pass a number"),
    ("goal in words", lambda: Gridworld(goal_reward="1"), DataError, "goal_reward: '1'"),  # type: ignore[arg-type]
    ("slip of the cliff", lambda: Cliff(slip=1.5), DataError, "slip: 1.5; pass a number from 0 to 1"),
    ("slip of the grid", lambda: CobsGridworld(slip=-0.1), DataError, "slip: -0.1"),
    ("slip of the graph", lambda: CobsGraph(slip=2), DataError, "slip: 2"),
    ("discount", lambda: CobsGridworld(discount=1.2), EstimandError, "discount: 1.2"),
    ("no step", lambda: ModelWin(horizon=0), EstimandError, "horizon: 0; pass a whole number"),
    ("half a step", lambda: Chain(horizon=2.5), EstimandError, "horizon: 2.5; pass a whole number"),  # type: ignore[arg-type]
    ("endless gamble", lambda: ModelWin(horizon=None), EstimandError, "horizon: None"),  # type: ignore[arg-type]
    ("endless chain", lambda: Chain(horizon=None), EstimandError, "horizon: None"),  # type: ignore[arg-type]
    ("one depth", lambda: CobsGraph(horizon=1), DataError, "horizon: 1; pass a whole number, at least 2"),
    ("too many depths", lambda: CobsGraph(horizon=10**9), EstimandError, "horizon: 1000000000"),
    ("sparse in words", lambda: CobsGraph(sparse="False"), DataError, "sparse: 'False'; pass True"),  # type: ignore[arg-type]
    ("noise", lambda: CobsGraph(reward_noise=-1), DataError, "reward_noise: -1; pass a number from 0"),
    ("one group", lambda: CobsGraph(groups=1), DataError, "groups: 1; pass a whole number, at least 2 and at most 7"),
    ("too many groups", lambda: CobsGraph(groups=8), DataError, "groups: 8"),
    ("no half", lambda: Hybrid(None), DataError, "fail, win: None, ModelWin("),  # type: ignore[arg-type]
    ("wrong half", lambda: Hybrid(ModelWin()), DataError, "pass a ModelFail and a ModelWin"),  # type: ignore[arg-type]
    ("wrong other half", lambda: Hybrid(win=Chain()), DataError, "pass a ModelFail and a ModelWin"),  # type: ignore[arg-type]
    ("states", lambda: ModelFail().value(TabularPolicy(np.full((4, 2), 0.5)), 2), PolicyError, "pass sees='full'"),
    ("view", lambda: ModelFail().sample(5, ModelFail().behavior(), 2, sees="hidden"), EstimandError, "'full' or 'observed'"),
]


@pytest.mark.parametrize(("make", "error", "text"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_parameters(make: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert text in str(caught.value)


def test_numbers_may_be_of_any_kind() -> None:
    for slip in (Fraction(1, 4), np.float32(0.25)):
        for kind in (Cliff, CobsGraph, CobsGridworld):
            assert values(kind(slip=slip)) == values(kind(slip=0.25))  # type: ignore[arg-type]
    assert values(Gridworld(Fraction(1), Fraction(2), Fraction(10))) == values(Gridworld())  # type: ignore[arg-type]


def test_nobody_can_change_what_a_domain_keeps() -> None:
    for domain in (Cliff(), pickle.loads(pickle.dumps(Cliff())), CobsGridworld()):
        with pytest.raises(ValueError, match="read-only"):
            domain.best.table[0] = 0.25
        with pytest.raises(TypeError):
            domain.views["full"] = domain.view()


def test_a_deep_graph_is_sparse() -> None:
    graph = CobsGraph(horizon=20_000)
    assert (graph.n_states, len(graph.mdp.dynamics.successors)) == (40_000, 160_000)
