"""Fitted Q-evaluation against dynamic programming on the empirical process, written with dictionaries and plain loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

import causalrl as crl
from causalrl.errors import DataError, EstimandError, IntervalError, TruncationError

pytestmark = [pytest.mark.filterwarnings(f"ignore::causalrl.errors.{name}Warning") for name in ("Overlap", "Support")]

S, A, H, GAMMA = 5, 3, 6, 0.9
FEATURES = np.random.default_rng(77).normal(size=(S, 2))
STATIONARY = np.random.default_rng(78).dirichlet(np.ones(A), S)
BY_TIME = np.random.default_rng(79).dirichlet(np.ones(A), (H, S))

# One step of a record: time, state, action, reward, next state (None where the process ended), successor known.
Row = tuple[int, int, int, float, int | None, bool]


def records(
    n: int = 40, seed: int = 0, *, never: tuple[int, int] | None = (2, 1), finals: bool = True, longest: int = 8, states: int = S
) -> crl.Trajectories:
    """Random walks: some terminate, some are cut; the pair `never` is not logged."""
    rng = np.random.default_rng(seed)
    s, a, r, offsets, end, final = [], [], [], [0], [], []
    for _ in range(n):
        for _ in range(int(rng.integers(1, longest + 1))):
            s.append(int(rng.integers(0, states)))
            a.append(int(rng.integers(0, A)))
            if (s[-1], a[-1]) == never:
                a[-1] = 0
            r.append(float(rng.normal() + s[-1] - a[-1]))
        offsets.append(len(s))
        end.append(int(rng.random() < 0.4))  # TERMINATED or TRUNCATED
        final.append(int(rng.integers(0, S)))
    extra = {"final_observations": final} if finals else {}
    return crl.Trajectories.from_arrays(s, a, r, offsets, end=end, n_states=S, n_actions=A, state_features=FEATURES, **extra)


def rows_of(data: crl.Trajectories, horizon: int | None) -> list[Row]:
    out: list[Row] = []
    for i in range(data.n):
        first, stop = data.offsets[i], data.offsets[i + 1]
        for t in range(stop - first):
            if horizon is not None and t >= horizon:
                break
            j = first + t
            following: Any = None
            known = True
            if j + 1 < stop:
                following = int(data.observations[j + 1])
            elif data.end[i] == crl.End.TRUNCATED:
                known = data.final_observations is not None
                following = int(data.final_observations[i]) if known else None
            out.append((t, int(data.observations[j]), int(data.actions[j]), float(data.rewards[j]), following, known))
    return out


def cell_rule(targets: list[tuple[int, int, float]], unseen: float | None) -> Callable[[int, int], float]:
    """Mean target of a cell; a never-seen action gets the state's mean, a never-seen state the mean of all."""

    def q(s: int, a: int) -> float:
        for wanted in (
            [y for state, action, y in targets if (state, action) == (s, a)],
            None if unseen is not None else [y for state, _, y in targets if state == s],
            None if unseen is not None else [y for _, _, y in targets],
        ):
            if wanted is None:
                assert unseen is not None
                return unseen
            if wanted:
                return sum(wanted) / len(wanted)
        raise AssertionError("no data")

    return q


def naive_tabular(
    data: crl.Trajectories, pi: np.ndarray, horizon: int, discount: float, *, by_time: bool = False, unseen: float | None = None
) -> tuple[list[dict[tuple[int, int], float]], float]:
    """Q_t for t = 0, ..., H - 1 and the mean start value; pi (H, S, A)."""
    rows = rows_of(data, horizon)
    q: list[dict[tuple[int, int], float]] = [{} for _ in range(horizon)]
    v: dict[int, float] = {}
    for t in range(horizon - 1, -1, -1):
        targets = []
        for time, s, a, r, following, known in rows:
            if (by_time and time != t) or (t < horizon - 1 and not known):
                continue
            ahead = v[following] if t < horizon - 1 and following is not None else 0.0
            targets.append((s, a, r + discount * ahead))
        rule = cell_rule(targets, unseen)
        if targets:
            q[t] = {(s, a): rule(s, a) for s in range(S) for a in range(A)}
            v = {s: sum(float(pi[t, s, a]) * q[t][s, a] for a in range(A)) for s in range(S)}
        else:
            v = dict.fromkeys(range(S), 0.0)  # nobody is there at t; nothing earlier asks for it
    starts = [int(data.observations[first]) for first in data.offsets[:-1]]
    return q, sum(v[s] for s in starts) / len(starts)


def table_of(q: list[dict[tuple[int, int], float]]) -> np.ndarray:
    return np.array([[[layer[s, a] for a in range(A)] for s in range(S)] for layer in q])


def fitted_table(q: Any, data: crl.Trajectories, goal: crl.PolicyValue) -> np.ndarray:
    """The package's Q (H, S, A), asked at every state and time."""
    from causalrl.nuisances.crossfit import Nuisances
    from causalrl.nuisances.value import ValueProblem

    nuisances = Nuisances(data)
    target = nuisances.target(goal.policy, None, None, goal.horizon)
    problem = ValueProblem(target, np.ones(len(target.steps)), goal.discount, goal.horizon, 0)
    function = q.fit(problem)
    return np.stack([function.q(np.arange(S), np.full(S, t)) for t in range(goal.horizon or 1)])


# ---------------------------------------------------------------------------------------------------------------- TabularQ


@pytest.mark.parametrize("by_time", [False, True])
@pytest.mark.parametrize("unseen", [None, 0.0, -3.5])
@pytest.mark.parametrize("policy", ["stationary", "by time"])
@pytest.mark.parametrize("seed", [0, 1])
def test_finite_horizon(by_time: bool, unseen: float | None, policy: str, seed: int) -> None:
    data = records(seed=seed)
    pi = np.tile(STATIONARY, (H, 1, 1)) if policy == "stationary" else BY_TIME
    goal = crl.PolicyValue(crl.TabularPolicy(STATIONARY if policy == "stationary" else BY_TIME), discount=GAMMA, horizon=H)
    learner = crl.TabularQ(by_time=by_time, unseen=crl.StateMean() if unseen is None else crl.ConstantValue(unseen))
    q, value = naive_tabular(data, pi, H, GAMMA, by_time=by_time, unseen=unseen)
    assert crl.FQE(learner).estimate(data, goal).value == pytest.approx(value, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(fitted_table(learner, data, goal), table_of(q), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("by_time", "horizon"), [(False, 9), (True, 7)])
def test_the_never_seen(by_time: bool, horizon: int) -> None:
    """State 4 is met only after the last step of a record, state 2 never with action 1."""
    data = records(states=4, seed=3)
    assert not np.any(data.observations == 4)
    assert np.any(data.final_observations[data.end == crl.End.TRUNCATED] == 4)
    goal = crl.PolicyValue(crl.TabularPolicy(STATIONARY), discount=GAMMA, horizon=horizon)
    learner = crl.TabularQ(by_time=by_time)
    q, value = naive_tabular(data, np.tile(STATIONARY, (horizon, 1, 1)), horizon, GAMMA, by_time=by_time)
    assert crl.FQE(learner).estimate(data, goal).value == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(fitted_table(learner, data, goal), table_of(q), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("by_time", [False, True])
def test_a_horizon_that_no_record_reaches(by_time: bool) -> None:
    """Everyone has died by then: late steps hold no data and must not disturb the early ones."""
    data = records(seed=4, longest=4, never=None)
    dead = crl.Trajectories.from_arrays(data.observations, data.actions, data.rewards, data.offsets, n_states=S, n_actions=A)
    pi = np.tile(STATIONARY, (7, 1, 1))
    _, value = naive_tabular(dead, pi, 7, GAMMA, by_time=by_time)
    goal = crl.PolicyValue(crl.TabularPolicy(STATIONARY), discount=GAMMA, horizon=7)
    assert crl.FQE(crl.TabularQ(by_time=by_time)).estimate(dead, goal).value == pytest.approx(value, rel=1e-12)
    doubly = crl.DR(q=crl.TabularQ(by_time=by_time), behavior=crl.Counts()).estimate(dead, goal)
    assert np.isfinite(doubly.value)
    assert np.isfinite(doubly.stderr)


def test_an_unknown_successor_teaches_the_last_step_only() -> None:
    """A record cut at the horizon without a final observation: its last step has no target before t = H - 1."""
    rng = np.random.default_rng(5)
    n = 30
    data = crl.Trajectories.from_arrays(
        rng.integers(0, S, n * H),
        rng.integers(0, A, n * H),
        rng.normal(size=n * H),
        np.arange(0, n * H + 1, H),
        end=[crl.End.TRUNCATED] * n,
        n_states=S,
        n_actions=A,
    )
    goal = crl.PolicyValue(crl.TabularPolicy(BY_TIME), discount=GAMMA, horizon=H)
    for by_time in (False, True):
        q, value = naive_tabular(data, BY_TIME, H, GAMMA, by_time=by_time)
        learner = crl.TabularQ(by_time=by_time)
        assert crl.FQE(learner).estimate(data, goal).value == pytest.approx(value, rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(fitted_table(learner, data, goal), table_of(q), rtol=1e-12, atol=1e-12)
    with pytest.raises(TruncationError, match="final_observations"):
        crl.FQE().estimate(data, crl.PolicyValue(crl.TabularPolicy(STATIONARY), horizon=H + 1))


@pytest.mark.parametrize("unseen", [None, 2.0])
@pytest.mark.parametrize("discount", [0.9, 1.0])
def test_stationary_is_the_fixed_point(unseen: float | None, discount: float) -> None:
    data = records(seed=6)
    rows = rows_of(data, None)
    v = dict.fromkeys(range(S), 0.0)
    for _ in range(3000):
        targets = [(s, a, r + discount * (0.0 if following is None else v[following])) for _, s, a, r, following, _ in rows]
        rule = cell_rule(targets, unseen)
        cells = {(s, a): rule(s, a) for s in range(S) for a in range(A)}
        before, v = v, {s: sum(float(STATIONARY[s, a]) * cells[s, a] for a in range(A)) for s in range(S)}
        if max(abs(before[s] - v[s]) for s in range(S)) < 1e-14:
            break
    value = sum(v[int(data.observations[first])] for first in data.offsets[:-1]) / data.n
    learner = crl.TabularQ(unseen=crl.StateMean() if unseen is None else crl.ConstantValue(unseen))
    goal = crl.PolicyValue(crl.TabularPolicy(STATIONARY), discount=discount)
    assert crl.FQE(learner).estimate(data, goal).value == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(fitted_table(learner, data, goal), table_of([cells]), atol=1e-8)


def test_complete_deterministic_data_give_exact_dynamic_programming() -> None:
    """Trap C7: every (state, action) of a deterministic process is logged, so that FQE is planning with the true model."""
    rng = np.random.default_rng(8)
    to, reward = rng.integers(0, S + 1, (S, A)), rng.normal(size=(S, A))  # state S is the end
    s, a, r, offsets, end, final = [], [], [], [0], [], []
    for state in range(S):
        for action in range(A):
            s.append(state)
            a.append(action)
            r.append(reward[state, action])
            offsets.append(len(s))
            end.append(crl.End.TERMINATED if to[state, action] == S else crl.End.TRUNCATED)
            final.append(0 if to[state, action] == S else to[state, action])
    data = crl.Trajectories.from_arrays(s, a, r, offsets, end=end, final_observations=final, n_states=S, n_actions=A)
    v = np.zeros(S + 1)
    for t in range(H - 1, -1, -1):
        q = np.array([[reward[i, b] + GAMMA * v[to[i, b]] for b in range(A)] for i in range(S)])
        v = np.append([sum(BY_TIME[t, i, b] * q[i, b] for b in range(A)) for i in range(S)], 0.0)
    goal = crl.PolicyValue(crl.TabularPolicy(BY_TIME), discount=GAMMA, horizon=H)
    estimate = crl.FQE().estimate(data, goal)
    assert estimate.value == pytest.approx(np.mean(v[data.observations]), abs=1e-12)
    np.testing.assert_allclose(fitted_table(crl.TabularQ(), data, goal)[0], q, atol=1e-12)
    # Stationary: one linear system.
    step = np.zeros((S, S))
    for i in range(S):
        for b in range(A):
            if to[i, b] < S:
                step[i, to[i, b]] += STATIONARY[i, b]
    exact = np.linalg.solve(np.eye(S) - GAMMA * step, (STATIONARY * reward).sum(axis=1))
    found = crl.FQE().estimate(data, crl.PolicyValue(crl.TabularPolicy(STATIONARY), discount=GAMMA)).value
    assert found == pytest.approx(exact[data.observations].mean(), abs=1e-8)


def test_a_stochastic_target_is_an_expectation() -> None:
    """Trap B6: the mode of this target goes on for ever and is worth 10; the target is worth 4.463."""
    data = crl.Trajectories.from_arrays(
        [0, 0], [0, 1], [1.0, 1.0], [0, 1, 2], end=[crl.End.TERMINATED, crl.End.TRUNCATED], final_observations=[0, 0], n_actions=2
    )
    for q in (crl.TabularQ(), crl.PerAction(LinearRegression()), crl.Pooled(LinearRegression()), crl.LinearQ()):
        value = crl.FQE(q).estimate(data, crl.PolicyValue(crl.TabularPolicy([[0.2, 0.8]]), horizon=10)).value
        assert value == pytest.approx((1 - 0.8**10) / 0.2, abs=1e-9)


# ------------------------------------------------------------------------------------------------------------------ LinearQ


def vector_records(n: int = 60, seed: int = 0, longest: int = 7) -> crl.Trajectories:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, n)
    size = int(lengths.sum())
    x = rng.normal(size=(size, 2))
    a = rng.integers(0, A, size)
    return crl.Trajectories.from_arrays(
        x,
        a,
        x[:, 0] - a * x[:, 1] + rng.normal(size=size),
        np.concatenate([[0], np.cumsum(lengths)]),
        end=(rng.random(n) < 0.5).astype(int),
        final_observations=rng.normal(size=(n, 2)),
        n_actions=A,
    )


def softmax_target(x: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Depends on the state and on the time."""
    eta = np.column_stack([np.zeros(len(x)), x[:, 0], 0.3 * time + 0.5 * x[:, 1]])
    e = np.exp(eta)
    return e / e.sum(axis=1, keepdims=True)


class Stationary(crl.Policy):
    def probabilities(self, observations: np.ndarray, time: np.ndarray) -> np.ndarray:
        return softmax_target(observations, np.zeros(len(observations)))


VectorRow = tuple[np.ndarray, int, float, np.ndarray | None]


def vector_rows(data: crl.Trajectories, horizon: int | None) -> list[VectorRow]:
    out: list[VectorRow] = []
    for i in range(data.n):
        first, stop = data.offsets[i], data.offsets[i + 1]
        for j in range(first, stop if horizon is None else min(stop, first + horizon)):
            following = data.observations[j + 1] if j + 1 < stop else None
            if j + 1 == stop and data.end[i] == crl.End.TRUNCATED:
                following = data.final_observations[i]
            out.append((data.observations[j], int(data.actions[j]), float(data.rewards[j]), following))
    return out


Predict = Callable[[np.ndarray, int], float]


def naive_backward(
    data: crl.Trajectories, horizon: int, discount: float, fit: Callable[[np.ndarray, np.ndarray, np.ndarray], Predict]
) -> float:
    """Regress r + discount V_{t+1}(s') on (s, a), pooled over times, from the last step."""
    rows = vector_rows(data, horizon)
    x, a = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    predict: Predict | None = None
    for t in range(horizon - 1, -1, -1):
        y = []
        for _, _, r, following in rows:
            if predict is not None and following is not None:
                pi = softmax_target(following[None], np.array([t + 1]))[0]
                r += discount * sum(pi[b] * predict(following, b) for b in range(A))
            y.append(r)
        predict = fit(x, a, np.array(y))
    assert predict is not None
    total = 0.0
    for first in data.offsets[:-1]:
        pi = softmax_target(data.observations[first][None], np.array([0]))[0]
        total += sum(pi[b] * predict(data.observations[first], b) for b in range(A))
    return total / data.n


def basis(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(x)), x])


def fit_linear(x: np.ndarray, a: np.ndarray, y: np.ndarray) -> Predict:
    theta = [np.linalg.lstsq(basis(x[a == b]), y[a == b], rcond=None)[0] for b in range(A)]
    return lambda point, b: float(basis(point[None])[0] @ theta[b])


def test_linear_q_is_backward_regression() -> None:
    data = vector_records()
    goal = crl.PolicyValue(softmax_target, discount=GAMMA, horizon=4)
    value = naive_backward(data, 4, GAMMA, fit_linear)
    assert crl.FQE(crl.LinearQ()).estimate(data, goal).value == pytest.approx(value, rel=1e-10)
    assert crl.FQE(crl.PerAction(LinearRegression())).estimate(data, goal).value == pytest.approx(value, rel=1e-10)


def test_linear_q_with_features_of_ones_own() -> None:
    data = vector_records(seed=2)
    goal = crl.PolicyValue(softmax_target, discount=GAMMA, horizon=3)

    def squares(x: np.ndarray) -> np.ndarray:
        return np.column_stack([x, x**2])

    def fit(x: np.ndarray, a: np.ndarray, y: np.ndarray) -> Predict:
        theta = [np.linalg.lstsq(basis(squares(x[a == b])), y[a == b], rcond=None)[0] for b in range(A)]
        return lambda point, b: float(basis(squares(point[None]))[0] @ theta[b])

    assert crl.FQE(crl.LinearQ(squares)).estimate(data, goal).value == pytest.approx(
        naive_backward(data, 3, GAMMA, fit), rel=1e-10
    )


def test_stationary_linear_q_is_lstd() -> None:
    """sum x (x - discount sum_a pi(a|s') x')' theta = sum x r, by loops over the transitions."""
    data = vector_records(n=200, seed=3)
    d = 3
    system, moments = np.zeros((A * d, A * d)), np.zeros(A * d)
    policy = Stationary()
    for x, a, r, following in vector_rows(data, None):
        now = np.zeros(A * d)
        now[a * d : (a + 1) * d] = [1.0, *x]
        after = np.zeros(A * d)
        if following is not None:
            pi = policy.probabilities(following[None], np.zeros(1))[0]
            for b in range(A):
                after[b * d : (b + 1) * d] = pi[b] * np.array([1.0, *following])
        system += np.outer(now, now - GAMMA * after)
        moments += now * r
    theta = np.linalg.solve(system, moments).reshape(A, d)
    total = 0.0
    for first in data.offsets[:-1]:
        pi = policy.probabilities(data.observations[first][None], np.zeros(1))[0]
        total += sum(pi[b] * float(theta[b] @ [1.0, *data.observations[first]]) for b in range(A))
    estimate = crl.FQE(crl.LinearQ()).estimate(data, crl.PolicyValue(policy, discount=GAMMA))
    assert estimate.value == pytest.approx(total / data.n, rel=1e-9)


def test_linear_q_on_one_hot_states_is_tabular() -> None:
    data = records(seed=9, never=None, n=80)
    plain = crl.Trajectories.from_arrays(
        data.observations,
        data.actions,
        data.rewards,
        data.offsets,
        end=data.end,
        final_observations=data.final_observations,
        n_states=S,
        n_actions=A,
    )
    for goal in (
        crl.PolicyValue(crl.TabularPolicy(BY_TIME), discount=GAMMA, horizon=H),
        crl.PolicyValue(crl.TabularPolicy(STATIONARY), discount=GAMMA),
    ):
        tabular = crl.FQE(crl.TabularQ()).estimate(plain, goal).value
        assert crl.FQE(crl.LinearQ()).estimate(plain, goal).value == pytest.approx(tabular, abs=1e-8)


# -------------------------------------------------------------------------------------------------------- any regressor

TREE = DecisionTreeRegressor(max_depth=3, random_state=0)


def fit_per_action(x: np.ndarray, a: np.ndarray, y: np.ndarray) -> Predict:
    models = [clone(TREE).fit(x[a == b], y[a == b]) for b in range(A)]
    return lambda point, b: float(models[b].predict(point[None])[0])


def fit_pooled(x: np.ndarray, a: np.ndarray, y: np.ndarray) -> Predict:
    def columns(points: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return np.column_stack([points, actions == 1, actions == 2]).astype(float)

    model = clone(TREE).fit(columns(x, a), y)
    return lambda point, b: float(model.predict(columns(point[None], np.array([b])))[0])


@pytest.mark.parametrize(("learner", "fit"), [(crl.PerAction(TREE), fit_per_action), (crl.Pooled(TREE), fit_pooled)])
def test_any_regressor_is_the_same_loop(learner: Any, fit: Any) -> None:
    data = vector_records(n=30, seed=4, longest=5)
    goal = crl.PolicyValue(softmax_target, discount=GAMMA, horizon=3)
    assert crl.FQE(learner).estimate(data, goal).value == pytest.approx(naive_backward(data, 3, GAMMA, fit), rel=1e-10)


def test_stationary_regression_settles_on_the_fixed_point() -> None:
    """With one leaf a state (one-hot features) the iterated tree is TabularQ's fixed point, to its tolerance of 1e-4."""
    data = records(seed=10, never=None, n=80)
    goal = crl.PolicyValue(crl.TabularPolicy(STATIONARY), discount=GAMMA)
    exact = crl.FQE(crl.TabularQ()).estimate(data, goal).value
    deep = DecisionTreeRegressor(random_state=0)
    for learner in (crl.PerAction(deep), crl.Pooled(deep)):
        assert crl.FQE(learner).estimate(data, goal).value == pytest.approx(exact, rel=2e-3)


def test_a_regressor_sees_a_state_through_its_features() -> None:
    """Never the index as a number."""
    data = records(seed=11, never=None)
    vectors = crl.Trajectories.from_arrays(
        FEATURES[data.observations],
        data.actions,
        data.rewards,
        data.offsets,
        end=data.end,
        final_observations=FEATURES[data.final_observations],
        n_actions=A,
    )
    code = {tuple(row): s for s, row in enumerate(FEATURES)}

    def same(x: np.ndarray, time: np.ndarray) -> np.ndarray:
        return np.array([BY_TIME[t, code[tuple(row)]] for row, t in zip(x, time, strict=True)])

    for learner in (crl.LinearQ(), crl.PerAction(TREE), crl.Pooled(LinearRegression())):
        value = crl.FQE(learner).estimate(data, crl.PolicyValue(crl.TabularPolicy(BY_TIME), horizon=H)).value
        assert crl.FQE(learner).estimate(vectors, crl.PolicyValue(same, horizon=H)).value == pytest.approx(value, rel=1e-10)


# ------------------------------------------------------------------------------------- refits under resampling counts


def resamples(data: crl.Trajectories, seeds: range) -> list[tuple[np.ndarray, crl.Trajectories]]:
    """Counts of the clusters, and the data with every trajectory of a drawn cluster as often as it was drawn."""
    out = []
    clusters = int(data.clusters.max()) + 1
    for seed in seeds:
        counts = np.bincount(np.random.default_rng(seed).integers(0, clusters, clusters), minlength=clusters)
        rows = np.repeat(np.arange(data.n), counts[data.clusters])
        out.append((counts.astype(float), data.take(rows)))
    return out


def clustered(data: crl.Trajectories) -> crl.Trajectories:
    """Two trajectories a patient."""
    return crl.Trajectories.from_arrays(
        data.observations,
        data.actions,
        data.rewards,
        data.offsets,
        end=data.end,
        final_observations=data.final_observations,
        n_actions=A,
        clusters=np.arange(data.n) // 2,
        **({"n_states": S, "state_features": FEATURES} if data.tabular else {}),
    )


TABULAR_GOALS = {
    "by time": crl.PolicyValue(crl.TabularPolicy(BY_TIME), discount=GAMMA, horizon=H),
    "stationary": crl.PolicyValue(crl.TabularPolicy(STATIONARY), discount=GAMMA),
}
REFITS: list[tuple[str, crl.Estimator]] = [
    ("by time", crl.FQE(crl.TabularQ())),
    ("by time", crl.FQE(crl.TabularQ(by_time=True))),
    ("by time", crl.FQE(crl.TabularQ(unseen=crl.ConstantValue(1.0)))),
    ("stationary", crl.FQE(crl.TabularQ())),
    ("by time", crl.FQE(crl.LinearQ())),
    ("stationary", crl.FQE(crl.LinearQ())),
    ("by time", crl.FQE(crl.PerAction(TREE))),
    ("by time", crl.FQE(crl.Pooled(LinearRegression()))),
    ("by time", crl.DR(q=crl.TabularQ(), behavior=crl.Counts())),
    ("by time", crl.WDR(q=crl.LinearQ(), behavior=crl.Counts())),
    ("by time", crl.DR(q=crl.TabularQ(), behavior=crl.Logit())),
]


@pytest.mark.parametrize(("goal", "estimator"), REFITS, ids=[f"{goal}-{estimator}" for goal, estimator in REFITS])
def test_a_refit_is_an_estimate_on_the_resample(goal: str, estimator: crl.Estimator) -> None:
    data = clustered(records(n=60, seed=12, longest=6, never=None))
    estimate = estimator.estimate(data, TABULAR_GOALS[goal])
    drawn = resamples(data, range(4))
    refitted = estimate.evidence.refit(np.stack([counts for counts, _ in drawn]))
    again = [estimator.estimate(sample, TABULAR_GOALS[goal]).value for _, sample in drawn]
    np.testing.assert_allclose(refitted, again, rtol=1e-7, atol=1e-8)
    assert np.ptp(again) > 1e-3
    everyone = np.ones((1, int(data.clusters.max()) + 1))
    assert estimate.evidence.refit(everyone)[0] == pytest.approx(estimate.value, rel=1e-9)


def with_a_rare_patient(state: int, action: int) -> crl.Trajectories:
    """One patient more, the only one with this decision."""
    data = records(n=60, seed=12, longest=1, never=(2, 1))
    return crl.Trajectories.from_arrays(
        np.append(data.observations, state),
        np.append(data.actions, action),
        np.append(data.rewards, 1.0),
        np.append(data.offsets, len(data.rewards) + 1),
        n_states=S + 1,
        n_actions=A,
    )


@pytest.mark.parametrize(("state", "action"), [(S, 0), (2, 1)])
@pytest.mark.parametrize("kind", ["IS", "WIS", "PDWIS", "DR"])
def test_a_refit_of_counts_needs_only_what_was_drawn(kind: str, state: int, action: int) -> None:
    """Some state, or some action in a state, occurs in one patient alone, whom a resample may miss."""
    rare = with_a_rare_patient(state, action)
    estimator = getattr(crl, kind)(behavior=crl.Counts())
    goal = crl.PolicyValue(crl.Uniform(A), horizon=1)
    drawn = [(counts, sample) for counts, sample in resamples(rare, range(12)) if counts[-1] == 0]
    assert drawn
    refitted = estimator.estimate(rare, goal).evidence.refit(np.stack([counts for counts, _ in drawn]))
    np.testing.assert_allclose(refitted, [estimator.estimate(sample, goal).value for _, sample in drawn], rtol=1e-9)


@pytest.mark.parametrize("propensity", [crl.Counts(), crl.Logit()])
def test_a_refit_of_weighting_learns_its_propensities_anew(propensity: Any) -> None:
    rng = np.random.default_rng(13)
    s = rng.integers(0, 3, 200)
    t = (rng.random(200) < np.array([0.3, 0.5, 0.6])[s]).astype(int)
    study = crl.Trajectories.from_cross_section(s, t, s + t + rng.normal(size=200))
    for estimator in (crl.IPW(propensity), crl.IPW(propensity, normalized=False)):
        estimate = estimator.estimate(study, crl.ATE())
        drawn = resamples(study, range(3))
        refitted = estimate.evidence.refit(np.stack([counts for counts, _ in drawn]))
        np.testing.assert_allclose(refitted, [estimator.estimate(sample, crl.ATE()).value for _, sample in drawn], rtol=1e-9)


def test_compiled_refits_of_vectors() -> None:
    data = clustered(vector_records(n=120, seed=5))
    goal = crl.PolicyValue(softmax_target, discount=GAMMA, horizon=4)
    estimate = crl.FQE(crl.LinearQ()).estimate(data, goal)
    drawn = resamples(data, range(4))
    refitted = estimate.evidence.refit(np.stack([counts for counts, _ in drawn]))
    again = [crl.FQE(crl.LinearQ()).estimate(sample, goal).value for _, sample in drawn]
    np.testing.assert_allclose(refitted, again, rtol=1e-9)


def test_conditional_effects_refit() -> None:
    rng = np.random.default_rng(14)
    x = rng.normal(size=(120, 2))
    t = (rng.random(120) < 0.5).astype(int)
    study = crl.Trajectories.from_cross_section(x, t, x[:, 0] * t + rng.normal(size=120))
    goal = crl.CATE(at=x[:3])
    estimate = crl.TLearner(LinearRegression()).estimate(study, goal)
    drawn = resamples(study, range(3))
    refitted = estimate.evidence.refit(np.stack([counts for counts, _ in drawn]))
    again = [crl.TLearner(LinearRegression()).estimate(sample, goal).value for _, sample in drawn]
    np.testing.assert_allclose(refitted, np.stack(again), rtol=1e-9)


def test_the_default_interval_is_the_quantiles_of_the_refits() -> None:
    data = clustered(records(n=60, seed=15, never=None))
    estimate = crl.FQE().estimate(data, TABULAR_GOALS["by time"], seed=3)
    values = estimate.evidence.refitted(200, 3)
    assert estimate.stderr == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    interval = estimate.interval(0.9)
    assert isinstance(interval.method, crl.RefitBootstrap)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(values, [0.05, 0.95])), rel=1e-12)
    slow = crl.FQE(crl.PerAction(LinearRegression())).estimate(data, TABULAR_GOALS["by time"])
    with pytest.raises(IntervalError, match="RefitBootstrap"):
        slow.interval()


def test_an_action_that_no_one_took_is_refused() -> None:
    data = crl.Trajectories.from_arrays(
        np.zeros((4, 1)), [0, 0, 1, 1], [1.0] * 4, [0, 1, 2, 3, 4], behavior_probabilities=[0.5] * 4, n_actions=3
    )
    for learner in (crl.LinearQ(), crl.PerAction(LinearRegression())):
        with pytest.raises(EstimandError, match="action 2"):
            crl.FQE(learner).estimate(data, crl.Uniform(3))
    with pytest.raises(DataError, match="integer states"):
        crl.FQE(crl.TabularQ()).estimate(data, crl.Uniform(3))
