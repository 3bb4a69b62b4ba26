"""The count model and evaluation in it, against counting with dictionaries and dynamic programming in plain loops."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

import causalrl as crl
from causalrl.errors import DataError, EstimandError, TruncationError
from causalrl.learning import EmpiricalMDP
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.model import CountModel, Decisions, ModelMDP
from causalrl.nuisances.value import ValueProblem
from simulators import TabularMDP
from tests.conftest import BEHAVIOR, TARGET, ragged_data

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::causalrl.errors.{name}Warning") for name in ("Overlap", "Support", "Termination")
]

S, A, H, GAMMA = 5, 3, 6, 0.9
STATIONARY = np.random.default_rng(1).dirichlet(np.ones(A), S)
BY_TIME = np.random.default_rng(2).dirichlet(np.ones(A), (H, S))
RULES: list[Any] = [crl.StateMean(), crl.Absorb(0.0), crl.Absorb(-3.5)]


def records(seed: int = 0, n: int = 40, finals: bool = True) -> crl.Trajectories:
    """Random walks: some terminate, some are cut; state 4 is met after the last step only, action 1 never logged in state 2."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 9, n)
    s = rng.integers(0, S - 1, lengths.sum())
    a = rng.integers(0, A, lengths.sum())
    a[(s == 2) & (a == 1)] = 0
    return crl.Trajectories.from_arrays(
        s,
        a,
        rng.normal(size=len(s)) + s - a,
        np.concatenate([[0], np.cumsum(lengths)]),
        end=(rng.random(n) < 0.4).astype(int),
        final_observations=rng.integers(0, S, n) if finals else None,
        n_states=S,
        n_actions=A,
    )


def rows_of(data: crl.Trajectories, horizon: int | None = None) -> list[tuple[int, int, float, int | None]]:
    """State, action, reward, next state (None: the process ended) of each step; every successor is known."""
    out = []
    for i in range(data.n):
        first, stop = int(data.offsets[i]), int(data.offsets[i + 1])
        for j in range(first, stop if horizon is None else min(stop, first + horizon)):
            following = int(data.observations[j + 1]) if j + 1 < stop else None
            if j + 1 == stop and data.end[i] == crl.End.TRUNCATED:
                following = int(data.final_observations[i])
            out.append((int(data.observations[j]), int(data.actions[j]), float(data.rewards[j]), following))
    return out


def naive_backup(rows: list[Any], v: dict[int, float], discount: float, rule: Any) -> np.ndarray:
    """(S, A): r-hat + discount * P-hat v, what was never seen by the rule."""
    q = np.empty((S, A))
    for s in range(S):
        for a in range(A):
            match = [row for row in rows if row[:2] == (s, a)]
            if not match and isinstance(rule, crl.Absorb):
                q[s, a] = rule.value
                continue
            match = match or [row for row in rows if row[0] == s] or rows
            counts: dict[int | None, int] = defaultdict(int)
            for row in match:
                counts[row[3]] += 1
            ahead = sum(n / len(match) * v[to] for to, n in counts.items() if to is not None)
            q[s, a] = sum(row[2] for row in match) / len(match) + discount * ahead
    return q


def naive(rows: list[Any], pi: np.ndarray, discount: float, rule: Any, steps: int) -> list[np.ndarray]:
    """Q_t, t = 0 first; pi (steps, S, A)."""
    v, layers = dict.fromkeys(range(S), 0.0), []
    for t in range(steps - 1, -1, -1):
        q = naive_backup(rows, v, discount, rule)
        v = {s: float(pi[t, s] @ q[s]) for s in range(S)}
        layers.insert(0, q)
    return layers


def fitted(q: Any, data: crl.Trajectories, goal: crl.PolicyValue, weights: np.ndarray | None = None) -> np.ndarray:
    target = Nuisances(data).target(goal.policy, None, None, goal.horizon)
    rows = np.ones(len(target.steps)) if weights is None else weights[target.steps.trajectory]
    function = q.fit(ValueProblem(target, rows, goal.discount, goal.horizon, 0))
    return np.stack([function.q(np.arange(S), np.full(S, t)) for t in range(goal.horizon or 1)])


def start_value(q: np.ndarray, pi: np.ndarray, data: crl.Trajectories) -> float:
    return float(np.mean([pi[s] @ q[s] for s in data.observations[data.offsets[:-1]]]))


def model_of(data: crl.Trajectories, rule: Any, weights: np.ndarray | None = None) -> ModelMDP:
    steps = data.steps(None)
    decisions = Decisions.logged(steps, np.ones(len(steps)) if weights is None else weights)
    initial = np.bincount(steps.observations[steps.first], minlength=data.n_states) / data.n
    return CountModel.of(decisions, initial, data.n_actions, np.array([np.nan])).complete(rule)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("pi", [STATIONARY, BY_TIME], ids=["stationary", "by time"])
def test_finite_horizon(rule: Any, pi: np.ndarray) -> None:
    data, goal = records(), crl.PolicyValue(crl.TabularPolicy(pi), GAMMA, H)
    over_time = np.broadcast_to(pi, (H, S, A))
    expected = naive(rows_of(data, H), over_time, GAMMA, rule, H)
    np.testing.assert_allclose(fitted(crl.ModelBased(rule), data, goal), expected, rtol=1e-12, atol=1e-12)
    value = crl.FQE(crl.ModelBased(rule)).estimate(data, goal).value
    assert value == pytest.approx(start_value(expected[0], over_time[0], data), abs=1e-12)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("discount", [0.0, GAMMA, 1.0])
def test_stationary(rule: Any, discount: float) -> None:
    data, goal = records(3), crl.PolicyValue(crl.TabularPolicy(STATIONARY), discount)
    steps = 600
    expected = naive_backup(
        rows_of(data),
        dict(enumerate((STATIONARY * naive_fixed_point(rows_of(data), discount, rule, steps)).sum(axis=1))),
        discount,
        rule,
    )
    np.testing.assert_allclose(fitted(crl.ModelBased(rule), data, goal)[0], expected, atol=1e-10)


def naive_fixed_point(rows: list[Any], discount: float, rule: Any, steps: int) -> np.ndarray:
    """Iterated with the affine map of the naive backup, read off by probing it."""
    base = naive_backup(rows, dict.fromkeys(range(S), 0.0), discount, rule)
    slopes = [naive_backup(rows, {s: float(s == k) for s in range(S)}, discount, rule) - base for k in range(S)]
    v = np.zeros(S)
    for _ in range(steps):
        q = base + sum(slope * x for slope, x in zip(slopes, v, strict=True))
        v = (STATIONARY * q).sum(axis=1)
    return q


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("horizon", [None, 1, H])
def test_it_is_tabular_q_under_the_same_rule(rule: Any, horizon: int | None) -> None:
    """Certainty equivalence; the rule of a value and that of a model are the same here, and so are folds and resamples."""
    data, goal = records(1), crl.PolicyValue(crl.TabularPolicy(STATIONARY), GAMMA, horizon)
    same = crl.TabularQ(unseen=crl.ConstantValue(rule.value) if isinstance(rule, crl.Absorb) else rule)
    tolerance = 1e-10 if horizon else 1e-8  # TabularQ iterates to a share 1e-10 of the largest reward
    np.testing.assert_allclose(fitted(crl.ModelBased(rule), data, goal), fitted(same, data, goal), atol=tolerance)
    uniform = crl.KnownPropensity(crl.Uniform(A))
    for make in (lambda q: crl.FQE(q), lambda q: crl.DR(q=q, behavior=uniform, folds=3)):
        a, b = (make(q).estimate(data, goal) for q in (crl.ModelBased(rule), same))
        assert a.value == pytest.approx(b.value, abs=tolerance)
        ends = [e.interval(method=crl.RefitBootstrap(50, seed=0)) for e in (a, b)]
        np.testing.assert_allclose([ends[0].low, ends[0].high], [ends[1].low, ends[1].high], atol=tolerance)


def bare(seed: int) -> tuple[crl.Trajectories, int]:
    """Short records of random length, those of the full length cut there, with no final observations; two actions."""
    rng = np.random.default_rng(seed)
    states, length, n = int(rng.integers(2, 8)), int(rng.integers(2, 5)), int(rng.integers(3, 20))
    lengths = np.append(np.where(rng.random(n) < 0.5, length, rng.integers(1, length + 1, n)), length)
    s, a = (rng.integers(0, k, lengths.sum()) for k in (states, 2))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    end = (lengths == length).astype(int)
    return crl.Trajectories.from_arrays(s, a, rng.normal(size=len(s)), offsets, end=end, n_states=states, n_actions=2), length


@pytest.mark.parametrize("rule", [crl.StateMean(), crl.Absorb(-1.0)], ids=repr)
def test_a_state_decided_at_the_last_step_only_keeps_its_own_mean(rule: Any) -> None:
    data = crl.Trajectories.from_arrays([0, 1, 2] * 4, [0, 1] * 6, [0, 0, 10.0] * 4, [0, 3, 6, 9, 12], end=[1] * 4)
    goal = crl.PolicyValue(crl.Uniform(2), horizon=3)
    estimate = crl.FQE(crl.ModelBased(crl.StateMean())).estimate(data, goal)
    assert estimate.value == 10.0
    assert 10.0 in estimate.interval(method=crl.RefitBootstrap(50))
    same = crl.TabularQ(unseen=crl.ConstantValue(rule.value) if isinstance(rule, crl.Absorb) else rule)
    for seed in range(200):
        data, horizon = bare(seed)
        table = np.random.default_rng(seed).dirichlet([1.0, 1.0], data.n_states)
        goal = crl.PolicyValue(crl.TabularPolicy(table), GAMMA, horizon)
        expected = crl.FQE(same).estimate(data, goal).value
        estimate = crl.FQE(crl.ModelBased(rule)).estimate(data, goal)
        assert estimate.value == pytest.approx(expected, abs=1e-10)
        assert estimate.evidence.refit(np.ones((1, data.n)))[0] == pytest.approx(expected, abs=1e-10)
        if horizon > 1 and data.steps(horizon).known.any():
            assert EmpiricalMDP(GAMMA, horizon, rule).fit(data).value(goal) == pytest.approx(expected, abs=1e-10)


def test_where_every_pair_was_seen_no_rule_matters() -> None:
    data, goal = ragged_data(400), crl.PolicyValue(TARGET, GAMMA, 5)
    values = [crl.FQE(q).estimate(data, goal).value for q in (crl.TabularQ(), *map(crl.ModelBased, RULES))]
    assert np.ptp(values) < 1e-10


def test_the_refit_is_a_fit_of_the_resample() -> None:
    data = records(2)
    for horizon in (4, None):
        goal = crl.PolicyValue(crl.TabularPolicy(STATIONARY), GAMMA, horizon)
        for rule in RULES:
            model = crl.ModelBased(rule)
            counts = np.random.default_rng(0).multinomial(data.n, np.ones(data.n) / data.n, 3).astype(float)
            target = Nuisances(data).target(goal.policy, None, None, horizon)
            refit = model.start_refit(ValueProblem(target, np.ones(len(target.steps)), GAMMA, horizon, 0))(counts)
            for row, found in zip(counts, refit, strict=True):
                drawn = data.take(np.repeat(np.arange(data.n), row.astype(int)))
                assert found == pytest.approx(crl.FQE(model).estimate(drawn, goal).value, abs=1e-8)
                weighted = fitted(model, data, goal, row)
                np.testing.assert_allclose(weighted, fitted(model, drawn, goal), atol=1e-10)


def test_probabilities_are_frequencies() -> None:
    data = records(5)
    model = model_of(data, crl.Absorb(-1.0))
    law, reward = model.matrix.toarray().reshape(-1, A, S + 1), model.mean_rewards
    rows = rows_of(data)
    for s in range(S):
        for a in range(A):
            match = [row for row in rows if row[:2] == (s, a)]
            for to in range(S + 1):  # S is the end
                share = np.mean([row[3] == (None if to == S else to) for row in match]) if match else float(to == S)
                assert law[s, a, to] == pytest.approx(share, abs=1e-15)
            assert reward[s, a] == pytest.approx(np.mean([row[2] for row in match]) if match else -1.0)
    np.testing.assert_allclose(model.matrix.sum(axis=1), 1.0, rtol=1e-12)
    assert list(np.flatnonzero(model.terminal)) == [S]
    np.testing.assert_allclose(model.initial[:S], np.bincount(data.observations[data.offsets[:-1]], minlength=S) / data.n)


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_the_model_is_a_process_that_a_simulator_takes(rule: Any) -> None:
    data = records(6)
    model = model_of(data, rule)
    names = ("indptr", "successors", "probabilities", "rewards", "initial", "terminal")
    sim = TabularMDP.from_sparse(**{name: getattr(model, name) for name in names})
    policy = crl.TabularPolicy(model.extend(STATIONARY[None])[0])
    value = crl.FQE(crl.ModelBased(rule)).estimate(data, crl.PolicyValue(crl.TabularPolicy(STATIONARY), GAMMA)).value
    assert value == pytest.approx(sim.value(policy, discount=GAMMA), abs=1e-10)


def test_it_stays_sparse() -> None:
    """Ten thousand states, a few hundred of them visited: no table of S x A x S, and none of pairs of never-seen states."""
    rng = np.random.default_rng(0)
    states = rng.choice(10_000, 500)
    data = crl.Trajectories.from_arrays(
        states, rng.integers(0, 4, 500), rng.normal(size=500), np.arange(0, 501, 10), n_states=10_000, n_actions=4
    )
    for rule in RULES:
        assert len(model_of(data, rule).successors) < 60_000
        assert np.isfinite(crl.FQE(crl.ModelBased(rule)).estimate(data, crl.PolicyValue(crl.Uniform(4), 0.9, 20)).value)
        assert np.isfinite(crl.FQE(crl.ModelBased(rule)).estimate(data, crl.PolicyValue(crl.Uniform(4), 0.9)).value)


def test_a_record_cut_is_no_death() -> None:
    """Trap C4: stop probability .3, records cut after 3 steps; undiscounted value 1 / .3, not 2.19."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(rng.geometric(0.3, 4000), 4)
    cut = lengths == 4
    lengths = np.minimum(lengths, 3)
    data = crl.Trajectories.from_arrays(
        np.zeros(lengths.sum(), int),
        np.zeros(lengths.sum(), int),
        np.ones(lengths.sum()),
        np.concatenate([[0], np.cumsum(lengths)]),
        end=cut.astype(int),
        final_observations=np.zeros(4000, int),
    )
    died = (~cut).sum() / lengths.sum()
    value = crl.FQE(crl.ModelBased(crl.Absorb(0.0))).estimate(data, crl.Always(0)).value
    assert value == pytest.approx(1 / died, rel=1e-12)
    assert value == pytest.approx(1 / 0.3, rel=0.05)


def test_an_unknown_successor_teaches_the_last_step_only() -> None:
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
    goal = crl.PolicyValue(crl.TabularPolicy(BY_TIME), GAMMA, H)
    np.testing.assert_allclose(
        fitted(crl.ModelBased(crl.StateMean()), data, goal), fitted(crl.TabularQ(), data, goal), atol=1e-12
    )
    with pytest.raises(TruncationError, match="final_observations"):
        crl.FQE(crl.ModelBased(crl.StateMean())).estimate(data, crl.PolicyValue(crl.TabularPolicy(STATIONARY), horizon=H + 1))


def test_an_endless_process_without_discount() -> None:
    """A padded record that idles for nothing is worth what came before; one that keeps paying has no value."""
    idle = crl.Trajectories.from_arrays([0, 1, 1], [0, 0, 0], [5.0, 0.0, 0.0], [0, 3], end=[1], final_observations=[1])
    assert crl.FQE(crl.ModelBased(crl.Absorb(0.0))).estimate(idle, crl.Always(0)).value == 5.0
    paid = crl.Trajectories.from_arrays([0, 1, 1], [0, 0, 0], [5.0, 1.0, 1.0], [0, 3], end=[1], final_observations=[1])
    with pytest.raises(EstimandError, match="from state 0 the learned process never ends"):
        crl.FQE(crl.ModelBased(crl.Absorb(0.0))).estimate(paid, crl.Always(0))


def test_plentiful_data_give_the_truth(process: TabularMDP) -> None:
    data = process.sample(20_000, BEHAVIOR, seed=1)
    for goal in (crl.PolicyValue(TARGET), crl.PolicyValue(TARGET, 0.9, 5)):
        estimate = crl.FQE(crl.ModelBased(crl.Absorb(0.0))).estimate(data, goal)
        interval = estimate.interval(method=crl.RefitBootstrap(100, seed=0))
        assert abs(estimate.value - process.value(TARGET, goal.horizon, goal.discount)) < interval.high - interval.low


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="unseen"):
        crl.ModelBased()  # type: ignore[call-arg]
    for rule in ("death", None, crl.ConstantValue(0.0), crl.Absorb):
        with pytest.raises(EstimandError, match="Absorb"):
            crl.ModelBased(rule)  # type: ignore[arg-type]
    for value in (np.nan, np.inf, "x", None):
        with pytest.raises(DataError, match="Absorb"):
            crl.Absorb(value)  # type: ignore[arg-type]
    vectors = crl.Trajectories.from_arrays([[0.0], [1.0]], [0, 1], [0.0, 1.0], range(3))
    with pytest.raises(DataError, match="integer states"):
        crl.FQE(crl.ModelBased(crl.Absorb(0.0))).estimate(vectors, crl.Uniform(2))
