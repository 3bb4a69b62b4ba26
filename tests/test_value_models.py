"""One contract for all value models: ends of records, exact expectations, convergence, residuals, and what they cost.

With one-hot states every model here is saturated, so that its Q is the dynamic programme of the empirical process, which the
tests write with dictionaries and plain loops.
"""

from __future__ import annotations

import gc
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.tree import DecisionTreeRegressor

import causalrl as crl
from causalrl.errors import ConvergenceWarning, EstimandError
from causalrl.estimators.base import FittedEstimator
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.value import ValueProblem
from tests.conftest import BEHAVIOR, TARGET, ragged_data, tiny_process
from tests.test_fqe import (
    GAMMA,
    Stationary,
    clustered,
    records,
    resamples,
    softmax_target,
    vector_records,
    vector_rows,
)

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")

S, A, H = 3, 2, 4
TREE = DecisionTreeRegressor(random_state=0)
BY_TIME = crl.TabularPolicy(np.random.default_rng(5).dirichlet(np.ones(A), (H, S)))
EXACT = {
    "tabular": crl.TabularQ(),
    "linear": crl.LinearQ(),
    "ridge": crl.LinearQ(ridge=1e-12),
    "arms": crl.PerAction(TREE),
    "arms, linear": crl.PerAction(LinearRegression()),
    "pooled": crl.Pooled(TREE),
}

# ------------------------------------------------------------------------------------------- records that end in three ways


def cut_early() -> crl.Trajectories:
    """Records of up to 6 steps that terminate or are cut; every other is cut after 2 steps, where it would have gone on."""
    whole = tiny_process().sample(400, BEHAVIOR, horizon=6, seed=3)
    rows, offsets, end, final = [], [0], [], []
    for i in range(whole.n):
        first, stop = whole.offsets[i], whole.offsets[i + 1]
        short = i % 2 == 0 and stop - first > 2
        rows += list(range(first, first + 2 if short else stop))
        offsets.append(len(rows))
        end.append(crl.End.TRUNCATED if short else whole.end[i])
        after = whole.observations[first + 2] if short else whole.final_observations[i]
        final.append(after if end[-1] == crl.End.TRUNCATED else 0)
    return made_of(whole, rows, offsets, end, final)


def cut_at_the_horizon() -> crl.Trajectories:
    """Records of H steps at most; nobody knows what follows the last."""
    whole = tiny_process().sample(300, BEHAVIOR, horizon=H, seed=4)
    return made_of(whole, list(range(len(whole.rewards))), whole.offsets, whole.end, None)


def made_of(whole: crl.Trajectories, rows: list[int], offsets: Any, end: Any, final: Any) -> crl.Trajectories:
    return crl.Trajectories.from_arrays(
        whole.observations[rows],
        whole.actions[rows],
        whole.rewards[rows],
        offsets,
        end=end,
        behavior_probabilities=BEHAVIOR.table[whole.observations[rows]],
        final_observations=final,
        n_states=S,
        n_actions=A,
    )


DATA = {"terminated": lambda: ragged_data(200, 1), "cut early": cut_early, "cut at the horizon": cut_at_the_horizon}


def steps_of(data: crl.Trajectories, horizon: int | None) -> list[tuple[int, int, int, float, int | None, bool]]:
    """Time, state, action, reward, next state (None after the end) and whether all records know theirs at that time."""
    out, unknown = [], set()
    for i in range(data.n):
        first, stop = int(data.offsets[i]), int(data.offsets[i + 1])
        for j in range(first, stop if horizon is None else min(stop, first + horizon)):
            following = int(data.observations[j + 1]) if j + 1 < stop else None
            if j + 1 == stop and data.end[i] == crl.End.TRUNCATED:
                if data.final_observations is None:
                    unknown.add(j - first)
                else:
                    following = int(data.final_observations[i])
            out.append((j - first, int(data.observations[j]), int(data.actions[j]), float(data.rewards[j]), following))
    return [(*row, row[0] not in unknown) for row in out]


def dynamic_programme(
    data: crl.Trajectories, policy: np.ndarray, horizon: int, discount: float, by_time: bool
) -> list[dict[tuple[int, int], float]]:
    """Q_t of the empirical process at the cells that occur, t = 0, ..., H - 1."""
    rows, q = steps_of(data, horizon), [dict[tuple[int, int], float]() for _ in range(horizon)]
    for t in reversed(range(horizon)):
        targets = defaultdict(list)
        for time, s, a, r, following, known in rows:
            if (time == t or not by_time) and (known or t == horizon - 1):
                targets[s, a].append(r + discount * value(q, policy, t + 1, following))
        q[t] = {cell: sum(own) / len(own) for cell, own in targets.items()}
    return q


def value(q: list[dict[tuple[int, int], float]], policy: np.ndarray, t: int, state: int | None) -> float:
    """V_t(s), 0 past the horizon and after the end."""
    if state is None or t >= len(q):
        return 0.0
    return sum(float(policy[min(t, len(policy) - 1), state, a]) * q[t][state, a] for a in range(A))


def fixed_point(data: crl.Trajectories, policy: np.ndarray, discount: float) -> dict[tuple[int, int], float]:
    """Q of the stationary empirical process, by one linear system."""
    rows = steps_of(data, None)
    cells = sorted({(s, a) for _, s, a, _, _, _ in rows})
    place = {cell: k for k, cell in enumerate(cells)}
    system, rewards = np.zeros((len(cells), len(cells))), np.zeros(len(cells))
    for _, s, a, r, following, _ in rows:
        k = place[s, a]
        system[k, k] += 1
        rewards[k] += r
        for b in range(A) if following is not None else ():
            system[k, place[following, b]] -= discount * policy[following, b]
    return dict(zip(cells, np.linalg.solve(system, rewards).tolist(), strict=True))


def along_the_steps(data: crl.Trajectories, q: list[Any], policy: np.ndarray, horizon: int | None) -> list[list[float]]:
    """Q of the logged action, V, and V after each step, by a loop; `q` has one layer where there is no horizon."""
    out = []
    for time, s, a, _, following, _ in steps_of(data, horizon):
        t = 0 if horizon is None else time
        after = (
            0.0 if horizon is not None and time + 1 == horizon else value(q, policy, t if horizon is None else t + 1, following)
        )
        out.append([q[t][s, a], value(q, policy, t, s), after])
    return out


def check(model: Any, data: crl.Trajectories, goal: crl.PolicyValue, q: list[Any], tolerance: float = 1e-8) -> None:
    """Q and V along the steps, the start value and the residual are those of the table."""
    table = np.atleast_3d(goal.policy.table)
    policy = table if goal.policy.table.ndim == 3 else goal.policy.table[None]
    naive = np.array(along_the_steps(data, q, policy, goal.horizon))
    nuisances = Nuisances(data)
    values = nuisances.values(model, nuisances.target(goal.policy, None, None, goal.horizon), goal.discount, 1)
    found = np.column_stack([values.q, values.v, values.v_next])
    np.testing.assert_allclose(found, naive, rtol=0, atol=tolerance)
    estimate = crl.FQE(model).estimate(data, goal)
    starts = [value(q, policy, 0, int(s)) for s in data.observations[data.offsets[:-1]]]
    assert estimate.value == pytest.approx(sum(starts) / len(starts), abs=tolerance)
    squares = [
        (r + goal.discount * after - own) ** 2
        for (time, _, _, r, _, known), (own, _, after) in zip(steps_of(data, goal.horizon), naive, strict=True)
        if known or time + 1 == goal.horizon
    ]
    residual = estimate.diagnostics["bellman_residual"]
    assert residual == pytest.approx((sum(squares) / len(squares)) ** 0.5, abs=max(tolerance, 1e-10))


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("name", [*EXACT, "by time"])
@pytest.mark.parametrize("policy", [TARGET, BY_TIME], ids=["stationary", "by time"])
def test_a_finite_horizon_is_the_dynamic_programme(kind: str, name: str, policy: crl.TabularPolicy) -> None:
    data, by_time = DATA[kind](), name == "by time"
    q = dynamic_programme(data, np.atleast_3d(policy.table).reshape(-1, S, A), H, GAMMA, by_time)
    model = crl.TabularQ(by_time=True) if by_time else EXACT[name]
    check(model, data, crl.PolicyValue(policy, discount=GAMMA, horizon=H), q)


@pytest.mark.parametrize("kind", ["terminated", "cut early"])
@pytest.mark.parametrize("name", EXACT)
def test_without_a_horizon_it_is_the_fixed_point(kind: str, name: str) -> None:
    """Iterated regressions stop within 1e-4 of the largest target."""
    data = DATA[kind]()
    q = fixed_point(data, TARGET.table, GAMMA)
    iterated = isinstance(EXACT[name], crl.PerAction | crl.Pooled)
    tolerance = 1e-4 * max(map(abs, q.values())) if iterated else 1e-8
    check(EXACT[name], data, crl.PolicyValue(TARGET, discount=GAMMA), [q], tolerance)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("kind", [crl.DR, crl.WDR])
def test_ends_reach_the_doubly_robust_sums(kind: Any, name: str) -> None:
    """With a saturated model and counted propensities the sum of weighted temporal differences has mean 0 at horizon 1."""
    data = ragged_data(200, 2)
    goal = crl.PolicyValue(TARGET, horizon=1)
    counted = kind(q=EXACT[name], behavior=crl.Counts(), folds=1).estimate(data, goal).value
    assert counted == pytest.approx(crl.FQE(EXACT[name]).estimate(data, goal).value, abs=1e-8)


# ------------------------------------------------------------------------------------------------------------- the traps


@pytest.mark.parametrize("name", EXACT)
def test_a_cut_record_is_no_death(name: str) -> None:
    """Trap C4: stop probability .3, records cut after 3 steps are worth 1 / .3 = 3.333, not 1 + .7 + .49 = 2.19."""
    data = crl.Trajectories.from_arrays(
        [0] * 9,
        [0, 1, 0, 1, 1, 0, 1, 1, 1],
        [1.0] * 9,
        [0, 1, 3, 6, 9],
        end=[crl.End.TERMINATED] * 3 + [crl.End.TRUNCATED],
        final_observations=[0] * 4,
        n_actions=2,
    )
    target = crl.TabularPolicy([[0.3, 0.7]])
    assert crl.FQE(EXACT[name]).estimate(data, target).value == pytest.approx(1 / 0.3, rel=1e-4)
    assert crl.FQE(EXACT[name]).estimate(data, crl.PolicyValue(target, horizon=3)).value == pytest.approx(2.19, abs=1e-8)


@pytest.mark.parametrize("name", EXACT)
def test_halves_survive_and_the_last_state_stays_out(name: str) -> None:
    """Trap C5: rewards are no integers, and a state that nobody visits, the last one, moves nothing."""
    given = {"behavior_probabilities": [0.5] * 4, "n_actions": 2}
    arrays = [0, 1, 0, 1], [0, 1, 1, 0], [0.5] * 4, [0, 2, 4]
    goal = crl.PolicyValue(crl.Uniform(2), horizon=2)
    few, many = (crl.Trajectories.from_arrays(*arrays, n_states=size, **given) for size in (2, 5))
    for estimator in (crl.FQE(EXACT[name]), crl.DR(q=EXACT[name], folds=1)):
        assert estimator.estimate(many, goal).value == pytest.approx(estimator.estimate(few, goal).value, abs=1e-12)
    assert crl.DR(q=EXACT[name], folds=1).estimate(few, crl.PolicyValue(crl.Uniform(2), horizon=1)).value == pytest.approx(0.5)
    wild = crl.FQE(crl.TabularQ(unseen=crl.ConstantValue(1e6)))
    complete = crl.Trajectories.from_arrays([0, 0], [0, 1], [0.5, 0.5], [0, 1, 2], n_states=3)
    assert wild.estimate(complete, crl.Uniform(2)).value == 0.5


@pytest.mark.parametrize("name", EXACT)
def test_first_rows_are_the_initial_states(name: str) -> None:
    """Trap C6: an episode of 3,000 steps and one of 1."""
    rewards = np.concatenate([[4.0], np.full(2999, 100.0), [8.0]])
    states = np.concatenate([[2], np.zeros(2999, int), [1]])
    data = crl.Trajectories.from_arrays(states, np.zeros(3001, int), rewards, [0, 3000, 3001], n_actions=1)
    assert crl.FQE(EXACT[name]).estimate(data, crl.PolicyValue(crl.Always(0), horizon=1)).value == pytest.approx(6.0)


@pytest.mark.parametrize("name", EXACT)
def test_a_stochastic_target_is_an_expectation(name: str) -> None:
    """Trap B6: the mode goes on for ever and is worth 10; the targets of stop probability .3 and .2 are worth 3.239 and 4.463."""
    data = crl.Trajectories.from_arrays(
        [0, 0], [0, 1], [1.0, 1.0], [0, 1, 2], end=[crl.End.TERMINATED, crl.End.TRUNCATED], final_observations=[0, 0], n_actions=2
    )
    for p, rounded in ((0.3, 3.239), (0.2, 4.463)):
        goal = crl.PolicyValue(crl.TabularPolicy([[p, 1 - p]]), horizon=10)
        found = crl.FQE(EXACT[name]).estimate(data, goal).value
        assert found == pytest.approx((1 - (1 - p) ** 10) / p, abs=1e-9)
        assert round(found, 3) == rounded


# ---------------------------------------------------------------------------------------------------------------- ridge


def ridge_by_action(x: np.ndarray, a: np.ndarray, y: np.ndarray, n_actions: int, ridge: float) -> list[tuple[float, np.ndarray]]:
    """Intercept and slopes of every action: normal equations with the intercept unpenalised, on the raw features."""
    penalty = np.diag(np.concatenate([[0.0], ridge * len(x) * x.var(axis=0)]))
    out = []
    for b in range(n_actions):
        design = np.column_stack([np.ones((a == b).sum()), x[a == b]])
        theta = np.linalg.solve(design.T @ design + penalty, design.T @ y[a == b])
        out.append((float(theta[0]), theta[1:]))
    return out


@pytest.mark.parametrize("ridge", [0.01, 0.5])
def test_ridge_at_horizon_one_is_scikit_learn(ridge: float) -> None:
    data = vector_records(n=80, seed=6, longest=1)
    x, a, y = data.observations, data.actions, data.rewards
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    fits = [Ridge(alpha=ridge * len(x)).fit(z[a == b], y[a == b]) for b in range(3)]
    expected = np.column_stack([fit.predict(z) for fit in fits])
    pi = Stationary().probabilities(x, np.zeros(len(x)))
    value = crl.FQE(crl.LinearQ(ridge=ridge)).estimate(data, crl.PolicyValue(Stationary(), horizon=1)).value
    assert value == pytest.approx((pi * expected).sum(axis=1).mean(), rel=1e-11)
    assert value != pytest.approx(crl.FQE(crl.LinearQ()).estimate(data, crl.PolicyValue(Stationary(), horizon=1)).value, rel=1e-3)


def iterated_ridge(
    data: crl.Trajectories, target: Callable[..., np.ndarray], horizon: int, discount: float, ridge: float, stationary: bool
) -> float:
    """Backward regressions over a horizon; of a stationary problem, repeated ones."""
    rows = vector_rows(data, None if stationary else horizon)
    x, a = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    rewards = np.array([row[2] for row in rows])
    there = np.array([row[3] is not None for row in rows])
    after = np.array([row[3] for row in rows if row[3] is not None])
    theta = [(0.0, np.zeros(2))] * 3
    for t in range(horizon - 1, -1, -1):
        y = rewards.copy()
        if t < horizon - 1:
            pi = target(after, np.full(len(after), t + 1))
            y[there] += discount * sum(pi[:, b] * (theta[b][0] + after @ theta[b][1]) for b in range(3))
        theta = ridge_by_action(x, a, y, 3, ridge)
    first = data.observations[data.offsets[:-1]]
    pi = target(first, np.zeros(len(first)))
    return float(np.mean(sum(pi[:, b] * (theta[b][0] + first @ theta[b][1]) for b in range(3))))


@pytest.mark.parametrize("ridge", [0.0, 0.02, 1.0])
def test_ridge_is_backward_regression_and_its_fixed_point(ridge: float) -> None:
    data = vector_records(n=100, seed=7)
    goal = crl.PolicyValue(softmax_target, discount=GAMMA, horizon=4)
    value = crl.FQE(crl.LinearQ(ridge=ridge)).estimate(data, goal).value
    assert value == pytest.approx(iterated_ridge(data, softmax_target, 4, GAMMA, ridge, stationary=False), rel=1e-9)
    fixed = crl.FQE(crl.LinearQ(ridge=ridge)).estimate(data, crl.PolicyValue(Stationary(), discount=0.7)).value
    assert fixed == pytest.approx(iterated_ridge(data, Stationary().probabilities, 150, 0.7, ridge, stationary=True), rel=1e-9)


@pytest.mark.parametrize("horizon", [3, None])
def test_ridge_knows_no_units_and_no_duplicates(horizon: int | None) -> None:
    data = vector_records(n=60, seed=8)
    goal = crl.PolicyValue(Stationary(), discount=GAMMA, horizon=horizon)
    value = crl.FQE(crl.LinearQ(ridge=0.1)).estimate(data, goal).value
    twice = data.take(np.tile(np.arange(data.n), 2))
    assert crl.FQE(crl.LinearQ(ridge=0.1)).estimate(twice, goal).value == pytest.approx(value, rel=1e-10)
    stretched = crl.LinearQ(lambda x: x * [1000.0, 0.001] + [5.0, -3.0], ridge=0.1)
    assert crl.FQE(stretched).estimate(data, goal).value == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("horizon", [4, None])
def test_ridge_of_a_singular_design(horizon: int | None) -> None:
    """A column twice, and one that never moves: half the coefficient on each copy, so that the penalty counts half."""
    data = vector_records(n=60, seed=9)
    goal = crl.PolicyValue(Stationary(), discount=0.7, horizon=horizon)
    doubled = crl.LinearQ(lambda x: np.column_stack([x, x, np.ones(len(x))]), ridge=0.2)
    value = crl.FQE(crl.LinearQ(ridge=0.1)).estimate(data, goal).value
    assert crl.FQE(doubled).estimate(data, goal).value == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("horizon", [4, None])
@pytest.mark.parametrize("made", [lambda: vector_records(n=120, seed=5), lambda: records(n=80, seed=12, never=None)])
def test_a_ridge_refit_is_an_estimate_on_the_resample(horizon: int | None, made: Callable[[], crl.Trajectories]) -> None:
    data = clustered(made())
    policy = Stationary() if not data.tabular else crl.Uniform(3)
    goal, estimator = crl.PolicyValue(policy, discount=GAMMA, horizon=horizon), crl.FQE(crl.LinearQ(ridge=0.1))
    drawn = resamples(data, range(3))
    refitted = estimator.estimate(data, goal).evidence.refit(np.stack([counts for counts, _ in drawn]))
    np.testing.assert_allclose(refitted, [estimator.estimate(sample, goal).value for _, sample in drawn], rtol=1e-9)


@pytest.mark.parametrize("ridge", [-1.0, float("nan"), float("inf"), "much"])
def test_a_ridge_is_a_number(ridge: Any) -> None:
    with pytest.raises(EstimandError, match="ridge"):
        crl.LinearQ(ridge=ridge)


# ------------------------------------------------------------------------------------------------------------ convergence


def loop() -> crl.Trajectories:
    """Two states that follow each other, rewards 1 and 3: no noise, so that an exact Q has no residual."""
    return crl.Trajectories.from_arrays(
        [0, 1, 0, 1], [0, 0, 0, 0], [1.0, 3.0, 1.0, 3.0], [0, 2, 4], end=[1, 1], final_observations=[0, 0], n_actions=1
    )


@pytest.mark.parametrize("name", EXACT)
def test_an_exact_q_of_a_deterministic_process_has_no_residual(name: str) -> None:
    for goal in (crl.PolicyValue(crl.Always(0), discount=0.5), crl.PolicyValue(crl.Always(0), discount=0.5, horizon=3)):
        diagnostics = crl.FQE(EXACT[name]).estimate(loop(), goal).diagnostics
        iterated = isinstance(EXACT[name], crl.PerAction | crl.Pooled) and goal.horizon is None
        assert diagnostics["bellman_residual"] == pytest.approx(0.0, abs=1e-3 if iterated else 1e-9)


@pytest.mark.parametrize("name", ["tabular", "arms", "pooled"])
def test_the_trace_is_the_change_of_every_iteration(name: str) -> None:
    """V_0 = 0 for the table, Q_0 = r for regressions; then V_{k+1}(s) = r(s) + V_k(other) / 2."""
    v = np.zeros(2) if name == "tabular" else np.array([1.0, 3.0])
    expected = []
    for _ in range(8):
        v, before = np.array([1.0, 3.0]) + 0.5 * v[::-1], v
        expected.append(float(np.abs(v - before).max()))
    trace = crl.FQE(EXACT[name]).estimate(loop(), crl.PolicyValue(crl.Always(0), discount=0.5)).diagnostics["convergence"]
    assert trace[:8] == pytest.approx(tuple(expected), rel=1e-12)
    assert trace[-1] <= 1e-4 * (1 - 0.5) * 14 / 3  # the larger of V = (10 / 3, 14 / 3)


@pytest.mark.parametrize("name", EXACT)
def test_closed_forms_have_no_trace(name: str) -> None:
    data, goal = ragged_data(60), crl.PolicyValue(TARGET, discount=GAMMA)
    assert crl.FQE(EXACT[name]).estimate(data, crl.PolicyValue(TARGET, horizon=3)).diagnostics["convergence"] is None
    stationary = crl.FQE(EXACT[name]).estimate(data, goal).diagnostics["convergence"]
    assert (stationary is None) == isinstance(EXACT[name], crl.LinearQ)


def test_value_iteration_that_is_cut_short_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("causalrl.nuisances.tabular._MAX_ITERATIONS", 7)
    with pytest.warns(ConvergenceWarning, match="stopped after 7 backups"):
        estimate = crl.FQE().estimate(loop(), crl.PolicyValue(crl.Always(0), discount=0.9))
    assert len(estimate.diagnostics["convergence"]) == 7


@pytest.mark.parametrize(("most", "said"), [(50, "stopped after 50 regressions"), (5_000, "diverges: after")])
def test_divergence_is_said_and_never_a_nan(most: int, said: str) -> None:
    """Tsitsiklis & Van Roy (1996): features 1 and 2, both states go to the second; theta grows by 6/5 of the discount."""
    data = crl.Trajectories.from_arrays(
        [[1.0], [2.0]], [0, 0], [1.0, 0.0], [0, 1, 2], end=[1, 1], final_observations=[[2.0], [2.0]], n_actions=1
    )
    model = crl.PerAction(LinearRegression(fit_intercept=False), max_iterations=most)
    with pytest.warns(ConvergenceWarning, match=said):
        estimate = crl.FQE(model).estimate(data, crl.PolicyValue(crl.Always(0), discount=0.95))
    assert np.isfinite(estimate.value)
    assert np.isfinite(estimate.diagnostics["bellman_residual"])
    trace = np.array(estimate.diagnostics["convergence"])
    np.testing.assert_allclose(trace[1:] / trace[:-1], 1.2 * 0.95, rtol=1e-9)


# ------------------------------------------------------------------------------------------------- what is asked how often


class Counting(crl.Policy):
    """Uniform, and counts the rows that it was asked for at each time."""

    stationary = False

    def __init__(self) -> None:
        self.asked: Counter[tuple[int, int]] = Counter()

    def probabilities(self, observations: np.ndarray, time: np.ndarray) -> np.ndarray:
        self.asked.update(zip(observations.tolist(), time.tolist(), strict=True))
        return np.full((len(observations), A), 1 / A)


def test_a_policy_is_asked_once_for_a_state_and_time() -> None:
    data, policy = ragged_data(300, 3), Counting()
    nuisances = Nuisances(data)
    ratios = nuisances.ratios(policy, None, None, H)
    assert max(policy.asked.values()) == 1
    steps = ratios.target.steps
    np.testing.assert_array_equal(ratios.target.taken, np.full(len(steps), 1 / A))
    nuisances.values(crl.TabularQ(), ratios.target, 1.0, 5)
    assert max(policy.asked.values()) <= 1 + 5  # and once in each fold's own table


def test_probabilities_at_the_steps_are_those_of_the_policy() -> None:
    for data, policy in (
        (ragged_data(50, 4), BY_TIME),
        (vector_records(n=20, longest=H), crl.policies.as_policy(softmax_target)),
    ):
        target = Nuisances(data).target(policy, None, None, H)
        steps = target.steps
        expected = np.stack(
            [policy.probabilities(steps.observations[j : j + 1], steps.time[j : j + 1])[0] for j in range(len(steps))]
        )
        np.testing.assert_array_equal(target.at_steps, expected)
        rows = np.array([3, 0, 3])
        np.testing.assert_array_equal(target.at_rows(rows), expected[rows])
        np.testing.assert_array_equal(target.taken, expected[np.arange(len(steps)), steps.actions])


class CountingRegressor(DummyRegressor):
    """The mean, and counts the rows that it was asked to predict."""

    predicted = 0

    def predict(self, X: np.ndarray, return_std: bool = False) -> np.ndarray:
        type(self).predicted += len(X)
        return super().predict(X)


@pytest.mark.parametrize("model", [crl.Pooled, crl.PerAction])
def test_a_regression_predicts_once_a_state_and_for_the_actions_taken(model: Any) -> None:
    data, goal = ragged_data(500, 5), crl.PolicyValue(crl.Always(1), horizon=H)
    CountingRegressor.predicted = 0
    crl.FQE(model(CountingRegressor())).estimate(data, goal)
    live = 2
    backups, at_the_steps = (H - 1) * live * 1, H * live * A
    assert CountingRegressor.predicted == backups + at_the_steps


# ------------------------------------------------------------------------------------------------------ many policies


def test_what_was_made_for_a_policy_can_be_dropped() -> None:
    data = ragged_data(80, 6)
    nuisances = Nuisances(data)
    goals = [crl.PolicyValue(policy, horizon=H) for policy in (TARGET, crl.Uniform(2), lambda s, t: np.full((len(s), 2), 0.5))]
    estimators = [FittedEstimator(kind, nuisances) for kind in (crl.WIS(), crl.DR(), crl.WDR(q=crl.KnownQ(np.zeros((3, 2)))))]
    before = [[each.estimate(goal).value for each in estimators] for goal in goals]
    targets = [weakref.ref(nuisances.target(goal.policy, None, None, H)) for goal in goals]
    nuisances.forget(goals[0].policy)
    nuisances.forget(goals[2].policy)
    gc.collect()
    assert [target() is None for target in targets] == [True, False, True]
    assert [[each.estimate(goal).value for each in estimators] for goal in goals] == before


def test_transitions_are_sorted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from causalrl.nuisances import tabular

    made, of = [], tabular._Logged.of
    monkeypatch.setattr(tabular._Logged, "of", lambda *given: made.append(given) or of(*given))
    nuisances = Nuisances(ragged_data(80, 7))
    for policy in (TARGET, crl.Uniform(2)):
        target = nuisances.target(policy, None, None, H)
        nuisances.values(crl.TabularQ(), target, 1.0, 5)
    assert len(made) == 1


def test_a_fit_does_not_see_its_own_fold() -> None:
    """Values of a fold are those of a fit on the others alone."""
    nuisances = Nuisances(ragged_data(60, 8), seed=2)
    target = nuisances.target(TARGET, None, None, H)
    values = nuisances.values(crl.TabularQ(), target, GAMMA, 3)
    steps = target.steps
    for fold in nuisances.folds(3, H):
        table = crl.TabularQ().fit(ValueProblem(target, fold.train, GAMMA, H, 0)).q(steps.observations, steps.time)
        np.testing.assert_array_equal(values.q[fold.test], table[np.arange(len(steps)), steps.actions][fold.test])
        np.testing.assert_allclose(values.v[fold.test], (table * target.at_steps).sum(axis=1)[fold.test], rtol=1e-14)


@pytest.mark.parametrize("horizon", [None, 3])
def test_a_refit_of_least_squares_that_lacks_a_decision_is_the_fit_of_the_resample(horizon: int | None) -> None:
    """Thin data: many resamples lose a (state, action), and the shortest solution must not depend on who was not drawn."""
    rng = np.random.default_rng(0)
    lost = 0
    for seed in range(12):
        n, length = 12, 1 + seed % 3
        states, actions = (rng.integers(0, k, n * length) for k in (3, 2))
        actions[:2] = 0, 1
        data = crl.Trajectories.from_arrays(
            states, actions, rng.normal(size=n * length), range(0, n * length + 1, length), n_states=3, n_actions=2
        )
        estimator, goal = crl.FQE(crl.LinearQ()), crl.PolicyValue(crl.TabularPolicy(np.full((3, 2), 0.5)), 0.5, horizon)
        counts = rng.multinomial(n, np.ones(n) / n, 8).astype(float)
        refitted = estimator.estimate(data, goal).evidence.refit(counts)
        for row, found in zip(counts, refitted, strict=True):
            drawn = data.take(np.repeat(np.arange(n), row.astype(int)))
            lost += len(set(zip(drawn.observations.tolist(), drawn.actions.tolist(), strict=True))) < 6
            if np.bincount(drawn.actions, minlength=2).all():
                assert found == pytest.approx(estimator.estimate(drawn, goal).value, rel=1e-8, abs=1e-8)
    assert lost > 30
