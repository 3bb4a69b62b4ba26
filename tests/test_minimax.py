"""Minimax weight and value learning: closed forms, dualities, exact processes, and errors that shrink."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import causalrl as crl
from causalrl.data import End, Trajectories
from causalrl.errors import ConvergenceWarning, DataError, EstimandError, SupportError, SupportWarning, TruncationError
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.ratio import DensityRatio, RatioProblem
from causalrl.nuisances.value import QFunction, ValueProblem
from simulators import TabularMDP
from tests.conftest import BEHAVIOR, TARGET, ragged_data, tiny_process

GAMMA = 0.9
LINEAR, KERNEL = crl.LinearClass(), crl.KernelClass(landmarks=24)
A = 2


def fit_ratio(
    model: crl.MinimaxRatio, data: Trajectories, goal: crl.PolicyValue, weights: np.ndarray | None = None
) -> tuple[np.ndarray, DensityRatio]:
    """m at every step, from weights (n,) of the trajectories."""
    target = Nuisances(data).target(goal.policy, None, None, goal.horizon)
    steps = target.steps
    rows = np.ones(len(steps)) if weights is None else weights[steps.trajectory]
    ratio = model.fit(RatioProblem(target, None, rows, goal.discount, goal.horizon, 0))
    return ratio.at(np.ones(len(steps), np.bool_)), ratio


def fit_q(model: Any, data: Trajectories, goal: crl.PolicyValue, weights: np.ndarray | None = None) -> QFunction:
    target = Nuisances(data).target(goal.policy, None, None, goal.horizon)
    steps = target.steps
    rows = np.ones(len(steps)) if weights is None else weights[steps.trajectory]
    fitted: QFunction = model.fit(ValueProblem(target, rows, goal.discount, goal.horizon, 0))
    return fitted


def value_of_ratio(model: crl.MinimaxRatio, data: Trajectories, goal: crl.PolicyValue) -> float:
    m, _ = fit_ratio(model, data, goal)
    return float(m @ data.steps(goal.horizon).rewards / data.n)


def value_of_q(model: Any, data: Trajectories, goal: crl.PolicyValue) -> float:
    first = data.steps(goal.horizon).first
    q = fit_q(model, data, goal).q(data.observations[data.offsets[:-1]], np.zeros(len(first), np.int64))
    policy = goal.policy.bind(data.n_actions, None).probabilities(data.observations[data.offsets[:-1]], np.zeros(len(first), int))
    return float((q * policy).sum(axis=1).mean())


# ------------------------------------------------------------------------------------------------- records with vectors


def vectors(n: int = 60, seed: int = 0, longest: int = 6) -> Trajectories:
    """Ragged records, half of them truncated with a final observation."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, n)
    size = int(lengths.sum())
    x, a = rng.normal(size=(size, 2)), rng.integers(0, A, size)
    return Trajectories.from_arrays(
        x,
        a,
        x[:, 0] - a * x[:, 1] + rng.normal(size=size),
        np.concatenate([[0], np.cumsum(lengths)]),
        end=(rng.random(n) < 0.5).astype(int),
        final_observations=rng.normal(size=(n, 2)),
        n_actions=A,
    )


class Sigmoid(crl.Policy):
    def probabilities(self, observations: np.ndarray, time: np.ndarray) -> np.ndarray:
        p = 1 / (1 + np.exp(-observations[:, 0]))
        return np.column_stack([1 - p, p])


def drifting(observations: np.ndarray, time: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-observations[:, 1] - 0.3 * time))
    return np.column_stack([1 - p, p])


STATIONARY = crl.PolicyValue(Sigmoid(), discount=GAMMA)


def squares(x: np.ndarray) -> np.ndarray:
    return np.column_stack([x, x**2])


@pytest.mark.parametrize("features", [None, squares])
@pytest.mark.parametrize(
    "goal",
    [
        STATIONARY,
        crl.PolicyValue(Sigmoid(), discount=GAMMA, horizon=4),
        crl.PolicyValue(drifting, discount=GAMMA, horizon=4),
        crl.PolicyValue(Sigmoid(), horizon=1),
    ],
    ids=["stationary", "finite", "by time", "one step"],
)
def test_equal_linear_classes_are_least_squares_temporal_differences(goal: crl.PolicyValue, features: Any) -> None:
    data = vectors()
    ours, theirs = fit_q(crl.MinimaxQ(crl.LinearClass(features)), data, goal), fit_q(crl.LinearQ(features), data, goal)
    steps = data.steps(goal.horizon)
    at = steps.observations, steps.time
    assert ours.q(*at) == pytest.approx(theirs.q(*at), rel=1e-8, abs=1e-8)


@pytest.mark.parametrize(
    ("functions", "discriminator", "ridge"),
    [
        (LINEAR, LINEAR, 0.0),
        (LINEAR, LINEAR, 0.01),
        (KERNEL, KERNEL, 0.01),
        (LINEAR, crl.LinearClass(squares), 0.01),
        (LINEAR, KERNEL, 0.01),
        (KERNEL, LINEAR, 0.01),
    ],
)
def test_weights_and_values_are_dual(functions: Any, discriminator: Any, ridge: float) -> None:
    """MWL with classes (G, F) gives the value of MQL with classes (F, G); with equal linear ones that of LSTD-Q."""
    data = vectors(seed=1)
    by_value = value_of_q(crl.MinimaxQ(functions, discriminator, ridge=ridge), data, STATIONARY)
    by_weight = value_of_ratio(crl.MinimaxRatio(discriminator, functions, ridge=ridge), data, STATIONARY)
    assert by_weight == pytest.approx(by_value, rel=1e-8)
    if ridge == 0:
        assert by_weight == pytest.approx(crl.FQE(crl.LinearQ()).estimate(data, STATIONARY).value, rel=1e-8)


def standardized(x: np.ndarray, over: np.ndarray) -> np.ndarray:
    return (x - over.mean(axis=0)) / over.std(axis=0)


def block(features: np.ndarray, action: int) -> np.ndarray:
    out = np.zeros(A * (1 + len(features)))
    out[action * (1 + len(features)) : (action + 1) * (1 + len(features))] = [1.0, *features]
    return out


def test_more_discriminators_than_functions_are_penalised_least_squares_with_exact_constants() -> None:
    """The moments by loops over the transitions; the minimum by Lagrange's equations."""
    data, ridge = vectors(seed=2), 0.03
    wide = squares(data.observations)
    moments, system = np.zeros(A * 5), np.zeros((A * 5, A * 3))
    for i in range(data.n):
        for j in range(data.offsets[i], data.offsets[i + 1]):
            x, a, last = data.observations[j], int(data.actions[j]), j + 1 == data.offsets[i + 1]
            psi = block(standardized(squares(x[None]), wide)[0], a)
            change = block(standardized(x[None], data.observations)[0], a)
            if not last or data.end[i] == End.TRUNCATED:
                after = data.final_observations[i] if last else data.observations[j + 1]
                pi = Sigmoid().probabilities(after[None], np.zeros(1))[0]
                for b in range(A):
                    change = change - GAMMA * pi[b] * block(standardized(after[None], data.observations)[0], b)
            system += np.outer(psi, change) / len(data.rewards)
            moments += psi * data.rewards[j] / len(data.rewards)
    exact = np.arange(A * 5) % 5 == 0
    norm = np.diag((np.arange(A * 3) % 3 != 0).astype(float))
    hessian = system[~exact].T @ system[~exact] + ridge * norm
    lagrange = np.block([[hessian, system[exact].T], [system[exact], np.zeros((A, A))]])
    right = np.concatenate([system[~exact].T @ moments[~exact], moments[exact]])
    theta = np.linalg.solve(lagrange, right)[: A * 3]
    fitted = fit_q(crl.MinimaxQ(LINEAR, crl.LinearClass(squares), ridge=ridge), data, STATIONARY)
    points = standardized(data.observations, data.observations)
    expected = np.array([[block(x, a) @ theta for a in range(A)] for x in points])
    assert fitted.q(data.observations, np.zeros(len(points), np.int64)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


# ----------------------------------------------------------------------------------------- the empirical model, by loops

Row = tuple[int, int, int, int | None, bool]


def rows_of(data: Trajectories, horizon: int | None) -> list[Row]:
    """(t, s, a, next state or None, last row of its record)."""
    out: list[Row] = []
    for i in range(data.n):
        stop = int(data.offsets[i + 1]) if horizon is None else min(int(data.offsets[i + 1]), int(data.offsets[i]) + horizon)
        for t, j in enumerate(range(data.offsets[i], stop)):
            following: int | None = int(data.observations[j + 1]) if j + 1 < data.offsets[i + 1] else None
            if following is None and data.end[i] == End.TRUNCATED and data.final_observations is not None:
                following = int(data.final_observations[i])
            out.append((t, int(data.observations[j]), int(data.actions[j]), following, j + 1 == data.offsets[i + 1]))
    return out


def empirical_ratio(data: Trajectories, policy: np.ndarray, discount: float, rows: Sequence[Row]) -> np.ndarray:
    """(S, A) occupancy of the pooled empirical process, over its frequencies a trajectory."""
    size = data.n_states * data.n_actions
    counts, moves = np.zeros(size), np.zeros((size, data.n_states))
    for _, s, a, following, _ in rows:
        counts[s * data.n_actions + a] += 1
        if following is not None:
            moves[s * data.n_actions + a, following] += 1
    moves /= np.maximum(counts, 1)[:, None]
    start = np.bincount(data.observations[data.offsets[:-1]], minlength=data.n_states) / data.n
    seen = (counts > 0).reshape(data.n_states, -1)
    spread = np.zeros((data.n_states, size))
    for s in range(data.n_states):
        spread[s, s * data.n_actions : (s + 1) * data.n_actions] = policy[s] * seen[s]
    occupancy = np.linalg.solve(np.eye(size) - discount * (moves @ spread).T, start @ spread)
    return np.where(counts > 0, occupancy / np.maximum(counts, 1) * data.n, 0.0).reshape(data.n_states, -1)


def empirical_ratio_by_time(
    data: Trajectories, policy: np.ndarray, discount: float, horizon: int
) -> tuple[np.ndarray, np.ndarray]:
    """(H, S, A), policy (H, S, A); and (H,) the share of the probability lost until t."""
    rows = rows_of(data, horizon)
    state = np.bincount(data.observations[data.offsets[:-1]], minlength=data.n_states) / data.n
    out, kept, lost = np.zeros((horizon, data.n_states, data.n_actions)), 1.0, np.zeros(horizon)
    for t in range(horizon):
        counts, moves = np.zeros((data.n_states, data.n_actions)), np.zeros((data.n_states, data.n_actions, data.n_states))
        for _, s, a, following, _ in (row for row in rows if row[0] == t):
            counts[s, a] += 1
            if following is not None:
                moves[s, a, following] += 1
        arriving = state[:, None] * policy[t]
        occupancy = np.where(counts > 0, arriving, 0.0)
        kept *= occupancy.sum() / arriving.sum() if arriving.sum() else 1.0
        lost[t] = 1 - kept
        out[t] = np.where(counts > 0, occupancy / np.maximum(counts, 1) * data.n, 0.0)
        state = discount * np.einsum("sa,sat->t", occupancy, moves / np.maximum(counts, 1)[..., None])
    return out, lost


@pytest.mark.parametrize("discount", [GAMMA, 1.0])
def test_one_hot_weights_are_the_occupancy_of_the_empirical_process(discount: float) -> None:
    data = ragged_data(80)
    m, ratio = fit_ratio(crl.MinimaxRatio(), data, crl.PolicyValue(TARGET, discount=discount))
    expected = empirical_ratio(data, TARGET.table, discount, rows_of(data, None))
    assert m == pytest.approx(expected[data.observations, data.actions], rel=1e-9)
    assert ratio.notes == ()
    assert ratio.lost_mass == pytest.approx([0.0])


def test_a_truncated_record_goes_on_from_its_final_observation() -> None:
    data = ragged_data(80, horizon=3)
    assert (data.end == End.TRUNCATED).any()
    m, _ = fit_ratio(crl.MinimaxRatio(), data, crl.PolicyValue(TARGET, discount=GAMMA))
    expected = empirical_ratio(data, TARGET.table, GAMMA, rows_of(data, None))
    assert m == pytest.approx(expected[data.observations, data.actions], rel=1e-9)


def without_finals(data: Trajectories) -> Trajectories:
    return Trajectories.from_arrays(
        data.observations, data.actions, data.rewards, data.offsets, end=data.end, n_actions=A, n_states=data.n_states
    )


def test_times_with_an_unknown_successor_take_no_part() -> None:
    """Those of the time, not of the record alone, as `Steps.known` says; their weight is 0."""
    data = without_finals(ragged_data(80, horizon=3))
    steps = data.steps()
    assert 0 < steps.known.sum() < len(steps)
    goal = crl.PolicyValue(TARGET, discount=GAMMA)
    m, _ = fit_ratio(crl.MinimaxRatio(), data, goal)
    rows = [row for row, known in zip(rows_of(data, None), steps.known, strict=True) if known]
    expected = empirical_ratio(data, TARGET.table, GAMMA, rows)
    assert m == pytest.approx(np.where(steps.known, expected[data.observations, data.actions], 0.0), rel=1e-9, abs=1e-12)
    with pytest.raises(TruncationError, match="MinimaxRatio"):
        fit_ratio(crl.MinimaxRatio(), data, crl.PolicyValue(TARGET, horizon=4))
    fit_ratio(crl.MinimaxRatio(), data, crl.PolicyValue(TARGET, horizon=3))


BY_TIME = np.stack([TARGET.table, BEHAVIOR.table[::-1], TARGET.table[::-1], BEHAVIOR.table])


@pytest.mark.parametrize("n", [12, 80])
def test_one_hot_weights_by_time_are_the_forward_recursion(n: int) -> None:
    """With few records some (s, a) are not seen at every time: their weight is 0 and the lost probability is told."""
    data = ragged_data(n, seed=3, horizon=4)
    m, ratio = fit_ratio(crl.MinimaxRatio(), data, crl.PolicyValue(crl.TabularPolicy(BY_TIME), discount=GAMMA, horizon=4))
    expected, lost = empirical_ratio_by_time(data, BY_TIME, GAMMA, 4)
    steps = data.steps(4)
    assert m == pytest.approx(expected[steps.time, steps.observations, steps.actions], rel=1e-8, abs=1e-10)
    assert ratio.lost_mass == pytest.approx(lost, abs=1e-10)
    assert (lost[-1] > 0.01) == (n == 12)
    assert [note.category for note in ratio.notes] == [SupportWarning] * (n == 12)


def test_rows_of_another_fold_get_weights_and_teach_none() -> None:
    """One fold's (s, a, t) that the training fold has never seen gets 0, and what it holds does not matter."""
    data = ragged_data(40, seed=3, horizon=4)
    goal = crl.PolicyValue(TARGET, discount=GAMMA, horizon=4)
    train = (np.arange(data.n) % 2).astype(float)
    m, _ = fit_ratio(crl.MinimaxRatio(), data, goal, train)
    alone = data.take(train > 0)
    expected, _ = empirical_ratio_by_time(alone, np.stack([TARGET.table] * 4), GAMMA, 4)
    steps = data.steps(4)
    wanted = expected[steps.time, steps.observations, steps.actions]
    assert (wanted == 0).any()
    assert m == pytest.approx(wanted, rel=1e-8, abs=1e-10)


def test_past_the_longest_record_everything_is_lost() -> None:
    data = ragged_data(60, horizon=3)
    _, ratio = fit_ratio(crl.MinimaxRatio(), data, crl.PolicyValue(TARGET, horizon=5))
    assert ratio.lost_mass is not None
    assert ratio.lost_mass[2] == pytest.approx(0, abs=1e-9)
    assert ratio.lost_mass[3:] == pytest.approx([1, 1])
    ended = ragged_data(60)
    horizon = int(ended.lengths.max()) + 2
    m, ratio = fit_ratio(crl.MinimaxRatio(), ended, crl.PolicyValue(BEHAVIOR, horizon=horizon))
    assert ratio.lost_mass is not None
    assert ratio.lost_mass[-1] == ratio.lost_mass[-3]
    assert np.isfinite(m).all()


# ---------------------------------------------------------------------------------------------------- exact processes


def clockwork() -> TabularMDP:
    """Four states in a line: action 1 moves on, action 0 stays, and the last move ends it."""
    transitions = np.zeros((5, A, 5))
    for s in range(4):
        transitions[s, 0, s] = transitions[s, 1, s + 1] = 1
    transitions[4, :, 4] = 1
    return TabularMDP(transitions, [0.0, 1.0, -2.0, 3.0, 5.0], [0.5, 0.25, 0.25, 0, 0], [False] * 4 + [True])


def clockwork_records(sim: TabularMDP) -> tuple[Trajectories, np.ndarray]:
    """Records of a process without chance, whose starts occur as often as they should; and (S, A) steps a record."""
    states, actions, rewards, offsets, end, final = [], [], [], [0], [], []
    for start, pattern in [(0, (0, 1, 1, 0)), (0, (1, 1, 0, 1, 1)), (1, (0, 1, 0)), (2, (0, 1, 0, 1))]:
        s = start
        for a in pattern:
            following = s + a
            states.append(s), actions.append(a), rewards.append([0.0, 1.0, -2.0, 3.0, 5.0][following])
            s = following
        offsets.append(len(states)), end.append("terminated" if s == 4 else "truncated"), final.append(s)
    data = Trajectories.from_arrays(
        states, actions, rewards, offsets, end=end, final_observations=final, n_actions=A, n_states=sim.n_states
    )
    counts = np.zeros((sim.n_states, A))
    np.add.at(counts, (data.observations, data.actions), 1 / data.n)
    return data, counts


@pytest.mark.parametrize("discount", [0.8, 1.0])
def test_without_chance_weights_and_values_are_exact(discount: float) -> None:
    sim = clockwork()
    data, counts = clockwork_records(sim)
    policy = crl.TabularPolicy([[0.3, 0.7], [0.5, 0.5], [0.6, 0.4], [0.2, 0.8], [0.5, 0.5]])
    goal = crl.PolicyValue(policy, discount=discount)
    q = fit_q(crl.MinimaxQ(), data, goal).q(np.arange(4), np.zeros(4, np.int64))
    assert q == pytest.approx(sim.q(policy, discount=discount)[:4], abs=1e-8)
    m, _ = fit_ratio(crl.MinimaxRatio(), data, goal)
    occupancy = np.zeros_like(counts)
    np.add.at(occupancy, (data.observations, data.actions), m / data.n)
    assert occupancy == pytest.approx(sim.occupancy(policy, discount=discount), abs=1e-8)
    assert value_of_ratio(crl.MinimaxRatio(), data, goal) == pytest.approx(sim.value(policy, discount=discount), abs=1e-8)


def root_mean_square(errors: Any) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


@pytest.mark.parametrize("horizon", [None, 4])
def test_errors_on_a_known_process_shrink_like_the_root_of_n(horizon: int | None) -> None:
    """16 times the records: a quarter of the error, of Q, of the occupancy and of the value."""
    sim, goal = tiny_process(), crl.PolicyValue(TARGET, discount=GAMMA, horizon=horizon)
    truth_q = sim.q(TARGET, horizon, GAMMA)
    occupancy, value = sim.occupancy(TARGET, horizon, GAMMA), sim.value(TARGET, horizon, GAMMA)
    errors: dict[int, list[list[float]]] = {250: [], 4_000: []}
    for n, found in errors.items():
        for seed in range(12):
            data = ragged_data(n, seed, horizon)
            steps = data.steps(horizon)
            q = fit_q(crl.MinimaxQ(), data, goal).q(np.arange(2), np.zeros(2, np.int64))
            m, _ = fit_ratio(crl.MinimaxRatio(), data, goal)
            estimated = np.zeros_like(occupancy)
            at = (steps.observations, steps.actions) if horizon is None else (steps.time, steps.observations, steps.actions)
            np.add.at(estimated, at, m / n)
            wanted = truth_q[:2] if horizon is None else truth_q[0, :2]
            found.append(
                [
                    root_mean_square(q - wanted),
                    root_mean_square(estimated - occupancy),
                    float(m @ steps.rewards / n) - value,
                ]
            )
    small, large = (np.sqrt(np.mean(np.square(found), axis=0)) for found in errors.values())
    assert (large < [0.06, 0.01, 0.05]).all()
    assert small / large == pytest.approx(np.full(3, 4), rel=0.45)


# ----------------------------------------------------------------------------------------------------- a smooth process


def smooth_reward(s: np.ndarray, a: int | np.ndarray) -> np.ndarray:
    return np.sin(2 * s) + 0.5 * a * np.cos(s) + 1.0


def smooth_move(s: np.ndarray, a: int | np.ndarray) -> np.ndarray:
    return 0.7 * s + 0.6 * (a - 0.5)


GRID = np.linspace(-6, 6, 401)
P = Sigmoid().probabilities(GRID[:, None], np.zeros(1))


def smooth_kernel(a: int) -> np.ndarray:
    """(G, G) of the move, whose noise is N(0, 1/4)."""
    density = np.exp(-2 * (GRID - smooth_move(GRID, a)[:, None]) ** 2)
    return density / density.sum(axis=1, keepdims=True)


def smooth_value(discount: float, horizon: int | None) -> float:
    """By quadrature on a grid, from s_0 ~ N(0, 1)."""
    kernel = sum(P[:, a, None] * smooth_kernel(a) for a in range(A))
    reward = sum(P[:, a] * smooth_reward(GRID, a) for a in range(A))
    start = np.exp(-(GRID**2) / 2)
    if horizon is None:
        v = np.linalg.solve(np.eye(len(GRID)) - discount * kernel, reward)
    else:
        v = np.zeros(len(GRID))
        for _ in range(horizon):
            v = reward + discount * kernel @ v
    return float(start @ v / start.sum())


def smooth_records(n: int, seed: int, length: int = 8) -> Trajectories:
    rng = np.random.default_rng(seed)
    s, states, actions, rewards = rng.normal(size=n), [], [], []
    for _ in range(length):
        a = rng.integers(0, A, n)
        states.append(s), actions.append(a), rewards.append(smooth_reward(s, a) + 0.3 * rng.normal(size=n))
        s = smooth_move(s, a) + 0.5 * rng.normal(size=n)
    flat = [np.ravel(np.transpose(column)) for column in (states, actions, rewards)]
    offsets = np.arange(0, n * length + 1, length)
    return Trajectories.from_arrays(
        flat[0][:, None], flat[1], flat[2], offsets, end=["truncated"] * n, final_observations=s[:, None]
    )


@pytest.mark.parametrize(("discount", "horizon"), [(0.8, None), (1.0, 4)])
def test_kernels_find_a_smooth_value(discount: float, horizon: int | None) -> None:
    """With the default bandwidth and ridge."""
    truth = smooth_value(discount, horizon)
    goal = crl.PolicyValue(Sigmoid(), discount=discount, horizon=horizon)
    kernel = crl.KernelClass(landmarks=40)
    errors = {}
    for n in (40, 640):
        draws = [smooth_records(n, seed) for seed in range(8)]
        errors[n] = [
            root_mean_square([value_of_q(crl.MinimaxQ(kernel), data, goal) - truth for data in draws]),
            root_mean_square([value_of_ratio(crl.MinimaxRatio(kernel), data, goal) - truth for data in draws]),
        ]
    assert max(errors[640]) < 0.03 * truth
    assert min(np.divide(errors[40], errors[640])) > 2


def smooth_ratio(discount: float, length: int) -> np.ndarray:
    """(G, A) on the grid: discounted visits of the target, over those of the coin toss in records of this length."""
    move = [smooth_kernel(a) for a in range(A)]
    target = sum(P[:, a, None] * move[a] for a in range(A))
    coin = (move[0] + move[1]) / 2
    start = np.exp(-(GRID**2) / 2) / np.exp(-(GRID**2) / 2).sum()
    visits = np.linalg.solve(np.eye(len(GRID)) - discount * target.T, start)
    logged, state = np.zeros(len(GRID)), start
    for _ in range(length):
        logged, state = logged + state, coin.T @ state
    return visits[:, None] * P / (logged[:, None] * 0.5)


def test_kernels_find_a_smooth_density_ratio() -> None:
    errors = {}
    for n in (80, 1_280):
        found = []
        for seed in range(6):
            data = smooth_records(n, seed)
            m, _ = fit_ratio(crl.MinimaxRatio(crl.KernelClass(landmarks=40)), data, crl.PolicyValue(Sigmoid(), discount=0.8))
            exact = smooth_ratio(0.8, 8)
            truth = np.choose(data.actions, [np.interp(data.observations[:, 0], GRID, exact[:, a]) for a in range(A)])
            found.append(root_mean_square(m - truth) / root_mean_square(truth))
        errors[n] = float(np.mean(found))
    assert errors[1_280] < 0.1
    assert errors[80] > 1.7 * errors[1_280]


def test_no_matrix_of_all_pairs_of_rows() -> None:
    """20,000 steps: the pairs alone would take 3.2 GB."""
    data = smooth_records(2_500, 0)
    goal = crl.PolicyValue(Sigmoid(), discount=0.8)
    tracemalloc.start()
    value_of_q(crl.MinimaxQ(crl.KernelClass(landmarks=60)), data, goal)
    value_of_ratio(crl.MinimaxRatio(crl.KernelClass(landmarks=60)), data, goal)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


# ---------------------------------------------------------------------------------------------------------- invariances

MODELS = [(LINEAR, None), (KERNEL, 0.01)]


@pytest.mark.parametrize(("functions", "ridge"), MODELS, ids=["linear", "kernel"])
def test_copies_and_the_order_of_records_do_not_matter(functions: Any, ridge: float | None) -> None:
    data = vectors(seed=4)
    q, ratio = crl.MinimaxQ(functions, ridge=ridge), crl.MinimaxRatio(functions, ridge=ridge)
    for goal in (STATIONARY, crl.PolicyValue(drifting, discount=GAMMA, horizon=3)):
        usable = data.take(data.lengths > 0)
        values = value_of_q(q, usable, goal), value_of_ratio(ratio, usable, goal)
        for index in (np.repeat(np.arange(data.n), 2), np.random.default_rng(0).permutation(data.n)):
            again = usable.take(index)
            assert (value_of_q(q, again, goal), value_of_ratio(ratio, again, goal)) == pytest.approx(values, rel=1e-7)


@pytest.mark.parametrize(("functions", "ridge"), MODELS, ids=["linear", "kernel"])
def test_weights_of_trajectories_are_copies(functions: Any, ridge: float | None) -> None:
    """As in a resample; the kernel's landmarks are distinct points, drawn as those of the copies."""
    data = vectors(seed=5)
    counts = np.random.default_rng(1).integers(1, 4, data.n).astype(float)
    copies = data.take(np.repeat(np.arange(data.n), counts.astype(int)))
    if functions is KERNEL:  # standardisation sees each logged step once
        copies = data
        counts = np.full(data.n, 2.0)
    m, _ = fit_ratio(crl.MinimaxRatio(functions, ridge=ridge), data, STATIONARY, counts)
    weighted = float((m * counts[data.steps().trajectory]) @ data.rewards / counts.sum())
    assert weighted == pytest.approx(value_of_ratio(crl.MinimaxRatio(functions, ridge=ridge), copies, STATIONARY), rel=1e-8)
    at = data.observations, np.zeros(len(data.observations), np.int64)
    q = crl.MinimaxQ(functions, ridge=ridge)
    assert fit_q(q, data, STATIONARY, counts).q(*at) == pytest.approx(fit_q(q, copies, STATIONARY).q(*at), rel=1e-7, abs=1e-7)


def test_names_of_actions_do_not_matter() -> None:
    data = vectors(seed=6)

    class Swapped(crl.Policy):
        def probabilities(self, observations: np.ndarray, time: np.ndarray) -> np.ndarray:
            return Sigmoid().probabilities(observations, time)[:, ::-1]

    swapped = Trajectories.from_arrays(
        data.observations,
        1 - data.actions,
        data.rewards,
        data.offsets,
        end=data.end,
        final_observations=data.final_observations,
    )
    goal = crl.PolicyValue(Swapped(), discount=GAMMA)
    every = crl.KernelClass(landmarks=10_000, bandwidth=2.0)  # all points are landmarks, so that none is drawn
    for functions, ridge in ((LINEAR, None), (every, 0.01)):
        q, ratio = crl.MinimaxQ(functions, ridge=ridge), crl.MinimaxRatio(functions, ridge=ridge)
        assert value_of_q(q, swapped, goal) == pytest.approx(value_of_q(q, data, STATIONARY), rel=1e-7)
        assert value_of_ratio(ratio, swapped, goal) == pytest.approx(value_of_ratio(ratio, data, STATIONARY), rel=1e-7)


def test_units_of_features_and_rewards_do_not_matter() -> None:
    data = vectors(seed=7)
    other = Trajectories.from_arrays(
        data.observations * [100.0, 0.01] + [5.0, -3.0],
        data.actions,
        10 * data.rewards,
        data.offsets,
        end=data.end,
        final_observations=data.final_observations * [100.0, 0.01] + [5.0, -3.0],
    )

    class Rescaled(crl.Policy):
        def probabilities(self, observations: np.ndarray, time: np.ndarray) -> np.ndarray:
            return Sigmoid().probabilities((observations - [5.0, -3.0]) / [100.0, 0.01], time)

    goal = crl.PolicyValue(Rescaled(), discount=GAMMA)
    for functions in (LINEAR, KERNEL):
        q, ratio = crl.MinimaxQ(functions), crl.MinimaxRatio(functions)
        assert value_of_q(q, other, goal) == pytest.approx(10 * value_of_q(q, data, STATIONARY), rel=1e-6)
        assert value_of_ratio(ratio, other, goal) == pytest.approx(10 * value_of_ratio(ratio, data, STATIONARY), rel=1e-6)


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: crl.MinimaxQ(ridge=-1.0), "ridge"),
        (lambda: crl.MinimaxRatio(ridge=float("nan")), "ridge"),
        (lambda: crl.KernelClass(bandwidth=0.0), "bandwidth"),
        (lambda: crl.KernelClass(landmarks=0), "landmarks"),
        (lambda: fit_q(crl.MinimaxQ(crl.KernelClass(landmarks=1)), vectors(), STATIONARY), "landmarks"),
        (lambda: fit_q(crl.MinimaxQ(crl.LinearClass(lambda x: x[:, 0])), vectors(), STATIONARY), "features"),
        (lambda: fit_q(crl.MinimaxQ(crl.LinearClass(lambda x: np.tile(x, 2_000))), vectors(), STATIONARY), "features"),
        (lambda: fit_ratio(crl.MinimaxRatio(crl.LinearClass(lambda x: x * np.nan)), vectors(), STATIONARY), "features"),
    ],
)
def test_what_is_no_class_is_refused(make: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        make()


def test_a_process_that_does_not_end_needs_a_discount() -> None:
    data = smooth_records(20, 0)
    for fit in (fit_q, fit_ratio):
        model = crl.MinimaxQ() if fit is fit_q else crl.MinimaxRatio()
        with pytest.raises(EstimandError, match="At discount 1 the process must end"):
            fit(model, data, crl.PolicyValue(Sigmoid()))  # type: ignore[operator]


@pytest.mark.parametrize("model", [crl.MinimaxQ, crl.MinimaxRatio])
def test_a_class_that_its_discriminator_cannot_judge_is_refused(model: Any) -> None:
    fit: Any = fit_q if model is crl.MinimaxQ else fit_ratio
    with pytest.raises(EstimandError, match="6 of 10 directions"):
        fit(model(crl.LinearClass(squares), LINEAR), vectors(), STATIONARY)
    with pytest.raises(EstimandError, match="depends on time"):
        fit(model(), vectors(), crl.PolicyValue(drifting, discount=GAMMA))


def test_nearly_collinear_features_carry_a_warning() -> None:
    def nearly(x: np.ndarray) -> np.ndarray:
        return np.column_stack([x[:, 0], x[:, 0] + 1e-5 * x[:, 1]])

    data = vectors()
    assert [note.category for note in fit_q(crl.MinimaxQ(crl.LinearClass(nearly)), data, STATIONARY).notes] == [
        ConvergenceWarning
    ]
    m, ratio = fit_ratio(crl.MinimaxRatio(crl.LinearClass(nearly)), data, STATIONARY)
    assert [note.category for note in ratio.notes] == [ConvergenceWarning]
    assert np.isfinite(m).all()
    assert fit_q(crl.MinimaxQ(crl.LinearClass(nearly), ridge=1e-3), data, STATIONARY).notes == ()


def test_redundant_features_are_no_trouble() -> None:
    def twice(x: np.ndarray) -> np.ndarray:
        return np.column_stack([x, x[:, 0] - x[:, 1], np.ones(len(x))])

    data = vectors()
    value = value_of_q(crl.MinimaxQ(), data, STATIONARY)
    assert value_of_q(crl.MinimaxQ(crl.LinearClass(twice)), data, STATIONARY) == pytest.approx(value, rel=1e-8)
    assert value_of_ratio(crl.MinimaxRatio(crl.LinearClass(twice)), data, STATIONARY) == pytest.approx(value, rel=1e-8)


@pytest.mark.parametrize("functions", [LINEAR, KERNEL], ids=["linear", "kernel"])
def test_a_target_off_the_logged_actions(functions: Any) -> None:
    data = vectors()
    zeros = Trajectories.from_arrays(
        data.observations,
        0 * data.actions,
        data.rewards,
        data.offsets,
        end=data.end,
        final_observations=data.final_observations,
        n_actions=A,
    )
    with pytest.raises(EstimandError, match="no logged decision shows action 1"):
        fit_q(crl.MinimaxQ(functions), zeros, STATIONARY)
    assert np.isnan(
        fit_q(crl.MinimaxQ(functions), zeros, crl.PolicyValue(crl.Always(0), GAMMA)).q(data.observations, 0 * data.actions)[:, 1]
    ).all()
    for goal in (STATIONARY, crl.PolicyValue(Sigmoid(), horizon=2)):
        m, ratio = fit_ratio(crl.MinimaxRatio(functions), zeros, goal)
        assert np.isfinite(m).all()
        assert [note.category for note in ratio.notes] == [SupportWarning]
        with pytest.raises(SupportError, match="no first decision"):
            fit_ratio(crl.MinimaxRatio(functions), zeros, crl.PolicyValue(crl.Always(1), GAMMA, goal.horizon))


@pytest.mark.parametrize("functions", [LINEAR, KERNEL], ids=["linear", "kernel"])
def test_degenerate_data_stay_finite(functions: Any) -> None:
    """One trajectory, no rewards, one state, one action."""
    one = Trajectories.from_arrays([[0.0], [1.0]], [0, 1], [0.0, 0.0], [0, 2], n_actions=2)
    flat = Trajectories.from_arrays([0, 0, 0], [0, 0, 0], [0.0, 0.0, 0.0], [0, 1, 3])
    for data in (one, flat):
        for horizon in (None, 2):
            goal = crl.PolicyValue(crl.Always(0), discount=0.5, horizon=horizon)
            m, _ = fit_ratio(crl.MinimaxRatio(functions), data, goal)
            assert np.isfinite(m).all()
            if data is flat:
                assert value_of_q(crl.MinimaxQ(functions), data, goal) == pytest.approx(0, abs=1e-12)


# -------------------------------------------------------------------------------------------------------- with the rest


def test_every_estimand_and_estimator_takes_them() -> None:
    data = ragged_data(60)
    goal = crl.PolicyValue(TARGET, discount=GAMMA)
    exact = crl.FQE(crl.TabularQ()).estimate(data, goal).value
    assert crl.MQL().estimate(data, goal).value == pytest.approx(exact, rel=1e-8)
    assert crl.MQL() == crl.DirectMethod(crl.MinimaxQ())
    assert crl.MWL() == crl.MIS(ratio=crl.MinimaxRatio())
    weighted = crl.MWL().estimate(data, goal)
    assert weighted.value == pytest.approx(exact, rel=1e-8)
    assert weighted.diagnostics["lost_mass"] == pytest.approx([0.0])
    assert weighted.diagnostics["behavior"] is None
    assert np.isfinite(crl.DR(q=crl.MinimaxQ(KERNEL)).estimate(data, goal).interval(0.95).low)
    study = crl.Trajectories.from_cross_section(np.linspace(-1, 1, 60)[:, None], np.arange(60) % 2, np.arange(60.0))
    effect = crl.GFormula(crl.MinimaxQ()).estimate(study, crl.ATE())
    assert effect.value == pytest.approx(crl.GFormula(crl.LinearQ()).estimate(study, crl.ATE()).value, rel=1e-8)
    resampled = crl.MQL().estimate(data, goal).interval(0.95, method=crl.RefitBootstrap(20, seed=0))
    assert resampled.low < exact < resampled.high


def test_orthogonal_weights_leave_nothing_to_correct() -> None:
    """Weights that balance the class of Q exactly: DRL on the same data is MQL, and MWL, for any Q of the class."""
    data, goal = ragged_data(60), crl.PolicyValue(TARGET, discount=GAMMA)
    value = crl.MWL().estimate(data, goal).value
    for q in (crl.MinimaxQ(), crl.KnownQ([[3.0, -1.0], [0.0, 2.0], [0.0, 0.0]])):
        assert crl.DRL(q=q, ratio=crl.MinimaxRatio(), folds=1).estimate(data, goal).value == pytest.approx(value, rel=1e-8)


def nothing(states: np.ndarray) -> np.ndarray:
    """A feature that tells no state from another."""
    return np.zeros((len(states), 1))


@pytest.mark.slow
@pytest.mark.parametrize("horizon", [None, 4])
def test_either_nuisance_may_be_wrong(horizon: int | None) -> None:
    """Cross-fitted DRL is right with weights or with a Q that see no state; with both it is off, as MWL and MQL are."""
    transitions = [[[0.6, 0.1, 0.3], [0.1, 0.6, 0.3]], [[0.1, 0.6, 0.3], [0.6, 0.1, 0.3]], [[0.0, 0.0, 1.0]] * 2]
    sim = TabularMDP(transitions, [2.0, -2.0, 0.0], [0.5, 0.5, 0.0], [False, False, True])
    policy = crl.TabularPolicy([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]])
    goal, truth = crl.PolicyValue(policy, GAMMA, horizon), sim.value(policy, horizon, GAMMA)
    blind = crl.LinearClass(nothing)
    recipes = {
        "both right": crl.DRL(crl.MinimaxQ(), crl.MinimaxRatio(), folds=2),
        "Q wrong": crl.DRL(crl.MinimaxQ(blind), crl.MinimaxRatio(), folds=2),
        "weights wrong": crl.DRL(crl.MinimaxQ(), crl.MinimaxRatio(blind), folds=2),
        "both wrong": crl.DRL(crl.MinimaxQ(blind), crl.MinimaxRatio(blind), folds=2),
        "MWL": crl.MWL(blind),
        "MQL": crl.MQL(blind),
    }
    draws = [sim.sample(2_000, crl.Uniform(2), horizon=horizon, seed=seed) for seed in range(8)]
    errors = {name: [each.estimate(data, goal).value - truth for data in draws] for name, each in recipes.items()}
    for name in ("both right", "Q wrong", "weights wrong"):
        assert abs(np.mean(errors[name])) < 3 * np.std(errors[name], ddof=1) / np.sqrt(len(draws))
    for name in ("both wrong", "MWL", "MQL"):
        assert np.mean(errors[name]) < -1.5
