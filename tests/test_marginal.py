"""Marginalised estimators against plain loops, exact bounds, published figures and the identities that tie them to IS and DR."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

import causalrl as crl
from causalrl.errors import DataError, EstimandError, SupportError, TruncationError, WeightOverflowError
from causalrl.estimators.base import Refitted
from causalrl.estimators.marginal_weights import CompiledValue
from causalrl.nuisances.ratio import RatioProblem
from simulators import Chain, ModelFail, ModelWin, SepsisSimulator
from tests.conftest import BEHAVIOR, TARGET, cross_section, output_whatever_runs_it, ragged_data, tiny_process

_EXPECTED = ("InSample", "Overlap", "Support", "Termination")
pytestmark = [pytest.mark.filterwarnings(f"ignore::causalrl.errors.{name}Warning") for name in _EXPECTED]

H, GAMMA = 5, 0.9
GOAL = crl.PolicyValue(TARGET, discount=GAMMA, horizon=H)
CHANGING = np.random.default_rng(3).dirichlet(np.ones(2), (H, 3))
BY_TIME, POOLED = crl.TabularRatio(by_time=True), crl.TabularRatio()


def close(a: Any, b: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------------------- the recursion, in plain loops


Step = tuple[int, int, int, float, int | None]  # trajectory, state, action, reward, next state or None after the end


def rows_by_time(data: crl.Trajectories, horizon: int) -> list[list[Step]]:
    rows: list[list[Step]] = [[] for _ in range(horizon)]
    for i in range(data.n):
        first, stop = data.offsets[i], data.offsets[i + 1]
        for t, j in enumerate(range(first, min(stop, first + horizon))):
            following = int(data.observations[j + 1]) if j + 1 < stop else None
            rows[t].append((i, int(data.observations[j]), int(data.actions[j]), float(data.rewards[j]), following))
    return rows


def ratio_of(policy: np.ndarray, t: int, s: int, a: int) -> float:
    table = policy[t] if policy.ndim == 3 else policy
    return float(table[s, a] / BEHAVIOR.table[s, a])


def naive_value(data: crl.Trajectories, policy: np.ndarray, horizon: int, pooled: bool, train: set[int] | None = None) -> float:
    """MIS over all trajectories, with state ratios from the training ones."""
    weights = naive_weights(data, policy, horizon, pooled, set(range(data.n)) if train is None else train)
    total = 0.0
    for t, rows in enumerate(rows_by_time(data, horizon)):
        for _, s, a, r, _ in rows:
            total += GAMMA**t * (weights[t].get(s, 0.0) if t else 1.0) * ratio_of(policy, t, s, a) * r
    return total / data.n


def naive_weights(
    data: crl.Trajectories, policy: np.ndarray, horizon: int, pooled: bool, train: set[int]
) -> list[dict[int, float]]:
    rows = [[row for row in at if row[0] in train] for at in rows_by_time(data, horizon)]
    everything = [row for at in rows for row in at]
    wanted: dict[int, float] = defaultdict(float)
    for _, s, *_ in rows[0]:
        wanted[s] += 1 / len(rows[0])
    logged, out = dict(wanted), []
    for t in range(horizon):
        if not pooled:
            logged = {s: sum(row[1] == s for row in rows[t]) / len(rows[0]) for s in {row[1] for row in rows[t]}}
        least = 0.1 / len(rows[0]) if pooled else 0.0
        out.append({s: wanted.get(s, 0.0) / p for s, p in logged.items() if p > least})
        source = everything if pooled else rows[t]
        following, behaved, leaving = defaultdict(float), defaultdict(float), 0.0
        for s in {row[1] for row in source}:
            mine = [row for row in source if row[1] == s]
            for _, _, a, _, after in mine:
                share = wanted.get(s, 0.0) * ratio_of(policy, t, s, a) / len(mine)
                leaving += share
                if after is not None:
                    following[after] += share
                    behaved[after] += logged.get(s, 0.0) / len(mine)
        wanted = {s: p * sum(wanted.values()) / leaving for s, p in following.items()}
        logged = dict(behaved)
    return out


@pytest.mark.parametrize("policy", [TARGET.table, CHANGING], ids=["stationary", "changing"])
@pytest.mark.parametrize("pooled", [False, True], ids=["by time", "pooled"])
def test_tabular_ratios_are_the_forward_recursion(pooled: bool, policy: np.ndarray) -> None:
    data = ragged_data(40, seed=2)
    goal = crl.PolicyValue(crl.TabularPolicy(policy), GAMMA, H)
    estimate = crl.MIS(ratio=crl.TabularRatio(by_time=not pooled)).estimate(data, goal)
    close(estimate.value, naive_value(data, policy, H, pooled))


def test_states_that_a_chain_hardly_expects_have_no_ratio() -> None:
    """Never logged one after the other, their transitions make quotients of tiny numbers: 4.5e5 here, and a value of 13."""
    sim = SepsisSimulator()
    target = sim.physician(epsilon=0.15)
    goal = crl.PolicyValue(target, horizon=20)
    for seed in (15, 26):
        estimate = crl.DRL().estimate(sim.sample(1_000, sim.physician(epsilon=0.05), horizon=20, seed=seed), goal)
        assert estimate.diagnostics["max_weight"] < 100
        assert abs(estimate.value - sim.value(target, horizon=20)) < 0.15
        assert any("SupportWarning" in text for text in estimate.diagnostics["warnings"])


def test_an_unknown_ratio_in_sample_is_lost_mass() -> None:
    """Of 1,000 patients one waits in state 0 for 3 steps; the chain of pooled times expects 2 at t = 1 and .004 at t = 2."""
    steps = [3] + [1] * 999
    offsets = np.append(0, np.cumsum(steps))
    data = crl.Trajectories.from_arrays(
        np.zeros(offsets[-1], int),
        np.zeros(offsets[-1], int),
        np.ones(offsets[-1]),
        offsets,
        behavior_probabilities=np.ones(offsets[-1]),
    )
    estimate = crl.MIS(ratio=POOLED).estimate(data, crl.PolicyValue(crl.Always(0), horizon=3))
    assert estimate.value == pytest.approx(1.001)
    close(estimate.diagnostics["lost_mass"], [0, 0, 1])


@pytest.mark.parametrize("pooled", [False, True], ids=["by time", "pooled"])
def test_each_fold_looks_up_what_the_others_learned(pooled: bool) -> None:
    data, goal = ragged_data(30, seed=4), GOAL
    fitted = crl.MIS(ratio=crl.TabularRatio(by_time=not pooled), folds=3).fit(data, seed=5)
    estimate, total, lost = fitted.estimate(goal), 0.0, np.zeros((3, H))
    for fold in fitted.nuisances.folds(3, H):
        steps = fitted.nuisances.steps(H)
        test = set(steps.trajectory[fold.test].tolist())
        weights = naive_weights(data, TARGET.table, H, pooled, set(range(data.n)) - test)
        flow = np.zeros((2, H))
        for i in test:
            arriving = 1.0
            for t, j in enumerate(range(data.offsets[i], min(data.offsets[i + 1], data.offsets[i] + H))):
                s, a = int(data.observations[j]), int(data.actions[j])
                known = t == 0 or s in weights[t]
                flow[:, t] += arriving * np.array([1.0, not known])
                m = GAMMA**t * (weights[t].get(s, 0.0) if t else 1.0) * ratio_of(TARGET.table, t, s, a)
                total += m * data.rewards[j]
                arriving = m
        lost[fold.index] = np.divide(flow[1], flow[0], out=np.zeros(H), where=flow[0] > 0)
    close(estimate.value, total / data.n)
    close(estimate.diagnostics["lost_mass"], lost.mean(axis=0))
    assert pooled or estimate.diagnostics["lost_mass"].max() > 0


def test_stationary_ratios_solve_the_linear_system() -> None:
    """[N - discount scale R'] w = starts, the scale that which keeps the flow; values and the truth."""
    data = ragged_data(60, seed=1)
    steps = data.steps(None)
    rho = np.array([ratio_of(TARGET.table, 0, s, a) for s, a in zip(steps.observations, steps.actions, strict=True)])
    starts, visits, moves = np.zeros(2), np.zeros(2), np.zeros((2, 2))
    for j, s in enumerate(steps.observations):
        visits[s] += 1
        starts[s] += steps.time[j] == 0
        if steps.continues[j]:
            moves[steps.next_observations[j], s] += rho[j]
    w = np.ones(2)
    for _ in range(200):
        scale = w[steps.observations].sum() / (w[steps.observations] * rho).sum()
        w = np.linalg.solve(np.diag(visits) - GAMMA * scale * moves, starts)
    expected = np.sum(w[steps.observations] * rho * steps.rewards) / data.n
    goal = crl.PolicyValue(TARGET, GAMMA)
    close(crl.MIS(ratio=POOLED).estimate(data, goal).value, expected, 1e-10)
    close(crl.MIS(ratio=crl.LinearRatio()).estimate(data, goal).value, expected, 1e-9)
    large = ragged_data(8_000, seed=3)
    for estimator in (crl.MIS(), crl.MIS(ratio=POOLED), crl.DRL()):
        estimate = estimator.estimate(large, goal)
        assert abs(estimate.value - tiny_process().value(TARGET, discount=GAMMA)) < 4 * estimate.stderr


@pytest.mark.slow
def test_a_continuing_process_is_continued_from_its_final_observations() -> None:
    """Records cut after 15 steps: the discounted value of the whole process, which no cumulative weight reaches."""
    chain = crl.TabularPolicy([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]]), crl.TabularPolicy([[0.2, 0.8], [0.3, 0.7], [1.0, 0.0]])
    process = ModelWin().mdp
    data = process.sample(4_000, chain[0], horizon=15, seed=0)
    goal = crl.PolicyValue(chain[1], 0.9)
    for estimator in (crl.MIS(ratio=POOLED), crl.MIS(ratio=crl.LinearRatio()), crl.DRL()):
        estimate = estimator.estimate(data, goal)
        assert abs(estimate.value - process.value(chain[1], discount=0.9)) < 4 * estimate.stderr
    with pytest.raises(TruncationError, match="truncated"):
        crl.MIS().estimate(data, goal)


@pytest.mark.parametrize("horizon", [H, None])
def test_a_linear_ratio_of_one_hot_states_is_the_table(horizon: int | None) -> None:
    data = ragged_data(60, seed=6)
    goal = crl.PolicyValue(TARGET, GAMMA, horizon)
    table = crl.MIS(ratio=crl.TabularRatio(by_time=horizon is not None)).estimate(data, goal)
    linear = crl.MIS(ratio=crl.LinearRatio()).estimate(data, goal)
    close(linear.value, table.value, 1e-10)
    close(linear.stderr, table.stderr, 1e-8)
    shrunk = crl.MIS(ratio=crl.LinearRatio(ridge=1e9)).estimate(data, goal).value
    assert abs(shrunk - table.value) > 1e-3


# ------------------------------------------------------------------------------------------------------------------ identities


def same(a: crl.Estimate, b: crl.Estimate) -> None:
    close(a.value, b.value)
    close(a.stderr, b.stderr)
    close(a.influence, b.influence, 1e-11)


@pytest.mark.parametrize("ratio", [None, POOLED, BY_TIME], ids=str)
def test_at_horizon_one_they_are_is_and_aipw(ratio: Any) -> None:
    strata = ragged_data(50, seed=1)
    goal = crl.PolicyValue(TARGET, horizon=1)
    same(crl.MIS(ratio=ratio).estimate(strata, goal), crl.IS().estimate(strata, goal))
    for folds in (1, 4):
        same(crl.DRL(ratio=ratio, folds=folds).estimate(strata, goal), crl.DR(folds=folds).estimate(strata, goal))
        own = crl.MIS(ratio=ratio, behavior=crl.Counts(), folds=folds).estimate(strata, goal)
        same(own, crl.IS(behavior=crl.Counts(), folds=folds).estimate(strata, goal))


def test_at_horizon_one_on_covariates() -> None:
    study = cross_section()
    same(crl.MIS().estimate(study, crl.ATE()), crl.IPW(normalized=False).estimate(study, crl.ATE()))
    same(crl.DRL(crl.LinearQ()).estimate(study, crl.ATE()), crl.AIPW(crl.LinearQ()).estimate(study, crl.ATE()))


def test_the_history_version_is_pdis_and_dr(ragged: crl.Trajectories) -> None:
    history = crl.CumulativeWeights()
    for goal in (GOAL, crl.PolicyValue(TARGET, GAMMA)):
        same(crl.MIS(ratio=history).estimate(ragged, goal), crl.PDIS().estimate(ragged, goal))
        for q in (crl.TabularQ(), crl.LinearQ()):
            same(crl.DRL(q=q, ratio=history).estimate(ragged, goal), crl.DR(q=q).estimate(ragged, goal))
        learned = crl.DRL(ratio=history, behavior=crl.Counts()).estimate(ragged, goal).value
        close(learned, crl.DR(behavior=crl.Counts()).estimate(ragged, goal).value)


@pytest.mark.parametrize("ratio", [POOLED, BY_TIME, crl.LinearRatio()], ids=str)
def test_on_policy_the_weights_are_one(ratio: Any, ragged: crl.Trajectories) -> None:
    goal = crl.PolicyValue(crl.NaturalCourse(), GAMMA, H)
    expected = crl.OnPolicyMean().estimate(ragged, goal)
    estimate = crl.MIS(ratio=ratio).estimate(ragged, goal)
    close(estimate.value, expected.value, 1e-10)
    close(estimate.diagnostics["max_weight"], 1.0, 1e-10)
    close(crl.MIS(ratio=ratio, behavior=crl.Counts()).estimate(ragged, goal).value, expected.value, 1e-10)


def test_without_a_value_model_drl_is_mis(ragged: crl.Trajectories) -> None:
    zero = crl.KnownQ(np.zeros((3, 2)))
    close(crl.DRL(q=zero, ratio=POOLED, folds=1).estimate(ragged, GOAL).value, crl.MIS(ratio=POOLED).estimate(ragged, GOAL).value)


# ------------------------------------------------------------------------------------------------------- traps and oracles


def test_the_marginal_ratio_is_there() -> None:
    """traps A11: without the state ratio the ragged chain gives 3.233, the value of the behaviour; truth 4.463."""
    chain = Chain()
    data, goal = chain.sample(20_000, chain.behavior(), 10, seed=1), crl.PolicyValue(chain.target(), horizon=10)
    truth = chain.value(chain.target(), 10)
    assert round(truth, 3) == 4.463
    for ratio in (BY_TIME, POOLED):
        estimate = crl.MIS(ratio=ratio).estimate(data, goal)
        assert abs(estimate.value - truth) < 4 * estimate.stderr < 0.12
    exact = crl.DRL(q=crl.KnownQ(chain.q(chain.target(), 10))).estimate(data, goal)
    close(exact.value, truth, 1e-10)
    assert exact.stderr < 1e-10


def test_the_discount_and_the_next_value_are_those_of_the_estimand() -> None:
    """traps C2 and C3: exact Q, unit weights, reward 1, T = 20, discount .95: 12.8303, not 20 nor 12.8114."""
    data = crl.Trajectories.from_arrays(
        np.zeros(60, int), [0, 1] * 30, np.ones(60), [0, 20, 40, 60], behavior_probabilities=[0.5] * 60, end=["truncated"] * 3
    )
    goal = crl.PolicyValue(crl.Uniform(2), 0.95, 20)
    exact = (1 - 0.95 ** (20 - np.arange(20))) / 0.05
    q = crl.KnownQ(np.tile(exact[:, None, None], (1, 1, 2)))
    unit = crl.KnownRatio(np.tile(0.95 ** np.arange(20)[:, None, None], (1, 1, 2)))
    for estimator in (crl.DRL(q), crl.DRL(q, ratio=unit), crl.MIS(), crl.MIS(ratio=unit), crl.DRL(q, ratio=BY_TIME, folds=1)):
        value = estimator.estimate(data, goal).value
        assert round(value, 4) == 12.8303
        close(value, exact[0], 1e-10)


def oracle(simulator: Any, behavior: Any, target: Any, horizon: int, discount: float) -> tuple[crl.KnownQ, crl.KnownRatio]:
    """Exact Q and marginal weights."""
    wanted, logged = simulator.occupancy(target, horizon, discount), simulator.occupancy(behavior, horizon)
    ratio = np.divide(wanted, logged, out=np.zeros_like(wanted), where=logged > 0)
    return crl.KnownQ(simulator.q(target, horizon, discount)), crl.KnownRatio(ratio)


@pytest.mark.parametrize("case", ["tiny", "win", "sepsis"])
def test_oracles_have_the_bounds_as_variance(case: str) -> None:
    if case == "tiny":
        simulator: Any = tiny_process()
        behavior, target, horizon, discount = BEHAVIOR, TARGET, 6, 0.9
    elif case == "win":
        simulator = ModelWin(horizon=4)
        behavior, target, horizon, discount = simulator.behavior(), simulator.target(), 4, 1.0
    else:
        simulator = SepsisSimulator()
        behavior, target, horizon, discount = simulator.physician(0.3), simulator.physician(0.15), 20, 1.0
    q, ratio = oracle(simulator, behavior, target, horizon, discount)
    data = simulator.sample(30_000, behavior, horizon, seed=8)
    goal = crl.PolicyValue(target, discount, horizon)
    for estimator, model in ((crl.DRL(q, ratio=ratio), "markov"), (crl.DR(q=q), "history")):
        estimate = estimator.estimate(data, goal)
        squares = estimate.influence**2
        bound = simulator.efficiency_bound(target, behavior, horizon, discount, model)
        assert abs(squares.mean() - bound) < 4 * squares.std() / np.sqrt(data.n), model
        assert abs(estimate.value - simulator.value(target, horizon, discount)) < 4 * estimate.stderr
        assert estimate.fixed_nuisances == (model == "markov" or estimator.q.known)


def test_double_robustness() -> None:
    """Breaking one nuisance leaves the truth in reach, breaking both does not."""
    process, horizon = tiny_process(), 6
    data, goal = process.sample(20_000, BEHAVIOR, horizon, seed=2), crl.PolicyValue(TARGET, horizon=6)
    q, ratio = oracle(process, BEHAVIOR, TARGET, horizon, 1.0)
    wrong_q, wrong_ratio = crl.KnownQ(np.full((3, 2), 5.0)), crl.KnownRatio(np.full((3, 2), 0.5))
    wrong_behavior = crl.KnownPropensity(crl.Uniform(2))
    truth = process.value(TARGET, horizon)

    def errors(estimator: crl.Estimator) -> float:
        estimate = estimator.estimate(data, goal)
        return abs(estimate.value - truth) / float(estimate.stderr)

    for right in (
        crl.DRL(),
        crl.DRL(q, ratio=wrong_ratio),
        crl.DRL(crl.TabularQ(), ratio=wrong_ratio),
        crl.DRL(crl.TabularQ(), behavior=wrong_behavior),
        crl.DRL(wrong_q, ratio=ratio),
        crl.DRL(wrong_q, ratio=POOLED),
        crl.DRL(wrong_q, ratio=BY_TIME),
        crl.DRL(wrong_q, ratio=crl.LinearRatio()),
        crl.DRL(wrong_q, behavior=crl.Counts()),
    ):
        assert errors(right) < 4, right
    for wrong in (crl.DRL(wrong_q, ratio=wrong_ratio), crl.DRL(wrong_q, behavior=wrong_behavior)):
        assert errors(wrong) > 10, wrong


def test_an_aliased_state_is_not_markov() -> None:
    """On ModelFail the Markov methods stay off by 1.33 however many trajectories there are; the history version does not."""
    domain = ModelFail()
    goal = crl.PolicyValue(domain.target(), horizon=2)
    truth = domain.value(domain.target(), 2)
    for estimator in (crl.MIS(), crl.MIS(ratio=POOLED), crl.DRL(), crl.DRL(ratio=BY_TIME)):
        rmse = []
        for n in (512, 8_192):
            errors = [estimator.estimate(domain.sample(n, domain.behavior(), 2, seed=s), goal).value - truth for s in range(6)]
            rmse.append(np.sqrt(np.mean(np.square(errors))))
        assert rmse[1] > 0.5
        assert abs(np.log(rmse[1] / rmse[0]) / np.log(16)) < 0.1, estimator
    large = domain.sample(40_000, domain.behavior(), 2, seed=9)
    history = crl.DRL(crl.TabularQ(by_time=True), ratio=crl.CumulativeWeights()).estimate(large, goal)
    assert abs(history.value - truth) < 4 * history.stderr


# ------------------------------------------------------------------------------------------------------------- refit, intervals


CASES: dict[str, tuple[Any, Any, crl.PolicyValue]] = {
    "by time": (BY_TIME, None, GOAL),
    "pooled": (POOLED, None, GOAL),
    "pooled, changing target": (POOLED, None, crl.PolicyValue(crl.TabularPolicy(CHANGING), GAMMA, H)),
    "stationary": (POOLED, None, crl.PolicyValue(TARGET, GAMMA)),
    "by time, counts": (BY_TIME, crl.Counts(), GOAL),
    "pooled, counts, changing target": (POOLED, crl.Counts(by_time=True), crl.PolicyValue(crl.TabularPolicy(CHANGING), GAMMA, H)),
    "linear": (crl.LinearRatio(), None, GOAL),
    "linear, stationary, counts": (crl.LinearRatio(), crl.Counts(), crl.PolicyValue(TARGET, GAMMA)),
}


@pytest.mark.parametrize("case", CASES)
def test_compiled_refits_are_refits(case: str) -> None:
    ratio, behavior, goal = CASES[case]
    data = ragged_data(40, seed=3)
    estimator = crl.MIS(ratio=ratio, behavior=behavior)
    fitted = estimator.fit(data, seed=2)
    estimate = fitted.estimate(goal)
    compiled = estimate.evidence.refit
    assert isinstance(compiled, CompiledValue)
    close(compiled(np.ones((1, 40)))[0], estimate.value, 1e-10)
    counts = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), 5).astype(float)
    naive = Refitted(fitted.nuisances, lambda nuisances: estimator.point(nuisances, goal))
    close(compiled(counts), naive(counts), 1e-9)
    low, high = estimate.interval()
    close((high - low) / 2, 1.959964 * estimate.stderr, 1e-6)


def test_known_weights_are_means() -> None:
    data = ragged_data(60)
    _, ratio = oracle(tiny_process(), BEHAVIOR, TARGET, H, GAMMA)
    estimate = crl.MIS(ratio=ratio).estimate(data, GOAL)
    assert estimate.fixed_nuisances
    assert isinstance(estimate.default_method, crl.Wald)
    steps = data.steps(H)
    m = ratio.source[steps.time, steps.observations, steps.actions]
    totals = np.add.reduceat(m * steps.rewards, steps.first)
    close(estimate.value, totals.mean())
    close(estimate.stderr, totals.std(ddof=1) / np.sqrt(60))
    by_function = crl.KnownRatio(lambda s, a, t: ratio.source[t, s, a])
    close(crl.MIS(ratio=by_function).estimate(data, GOAL).value, estimate.value)
    halves = [crl.MIS(ratio=ratio).estimate(data.take(part), GOAL) for part in (np.arange(20), np.arange(20, 60))]
    close(halves[0].merge(halves[1]).stderr, estimate.stderr)


@pytest.mark.slow
def test_the_same_bits_whatever_runs_it() -> None:
    program = (
        "import warnings; warnings.simplefilter('ignore'); import causalrl as crl; from tests.test_marginal import *\n"
        "data = ragged_data(25, seed=1)\n"
        "for ratio in (BY_TIME, POOLED):\n"
        "    for goal in (GOAL, crl.PolicyValue(TARGET, GAMMA)):\n"
        "        e = crl.MIS(ratio=ratio).estimate(data, goal); i = e.interval(method=crl.RefitBootstrap(5))\n"
        "        print(repr(e.value), *map(repr, i), repr(crl.DRL(ratio=ratio).estimate(data, goal).value))\n"
    )
    assert output_whatever_runs_it(program).count("\n") == 4


# ----------------------------------------------------------------------------------- cut records, lost mass and rules of support


def test_pooled_chains_lose_what_is_cut_by_time() -> None:
    """Records cut from three steps on, before the horizon: d_t / b_t is exact, and a wrong Q before the cut does no harm."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(2), (2, 2))
    behavior, target, start = np.array([[0.5, 0.5], [0.4, 0.6]]), np.array([[0.2, 0.8], [0.7, 0.3]]), np.array([0.8, 0.2])
    rewards, horizon, kept = np.array([[0.0, 1.0], [2.0, 0.0]]), 8, np.array([1.0, 1.0, 0.6, 0.5, 0.0])
    n = 40_000
    length = np.ones(n, int)
    for share in kept:
        length += (rng.random(n) < share) & (length == length.max())
    states, actions = np.empty((n, 6), int), np.empty((n, 5), int)
    states[:, 0] = rng.random(n) < start[1]
    for t in range(5):
        actions[:, t] = rng.random(n) < behavior[states[:, t], 1]
        states[:, t + 1] = rng.random(n) < p[states[:, t], actions[:, t], 1]
    logged = np.arange(5) < length[:, None]
    s, a = states[:, :5][logged], actions[logged]
    data = crl.Trajectories.from_arrays(
        s,
        a,
        rewards[s, a],
        np.concatenate([[0], np.cumsum(length)]),
        end=["truncated"] * n,
        final_observations=states[np.arange(n), length],
        behavior_probabilities=behavior[s],
    )
    goal = crl.PolicyValue(crl.TabularPolicy(target), horizon=horizon)
    made = crl.DRL().fit(data).nuisances.ratios(goal.policy, None, None, horizon)
    steps = made.target.steps
    problem = RatioProblem(made.target, made.log_ratios, np.ones(len(steps)), 1.0, horizon, 0, made.behavior.logged)
    state_ratio = POOLED.fit(problem).at(np.ones(len(steps), bool)) / np.exp(made.log_ratios)
    wanted, uncut, under_way = start, start, 1.0
    for t in range(5):
        for x in range(2):
            assert abs(state_ratio[(steps.time == t) & (s == x)][0] / (wanted[x] / (under_way * uncut[x])) - 1) < 0.03, (t, x)
        wanted = np.einsum("s,sa,sax->x", wanted, target, p)
        uncut = np.einsum("s,sa,sax->x", uncut, behavior, p)
        under_way *= kept[t] if t > 1 else 1.0
    q, v = np.zeros((horizon, 2, 2)), np.zeros(2)
    for t in reversed(range(horizon)):
        q[t] = rewards + p @ v
        v = (target * q[t]).sum(axis=1)
    wrong = q * np.where(np.arange(horizon) < 3, 0.5, 1.0)[:, None, None]
    for ratio in (POOLED, BY_TIME):
        estimate = crl.DRL(q=crl.KnownQ(wrong), ratio=ratio).estimate(data, goal)
        assert abs(estimate.value - start @ v) < 4 * estimate.stderr < 0.1


def test_mass_in_states_without_a_row_is_lost() -> None:
    data = crl.Trajectories.from_arrays(
        [0] * 12,
        [0] * 12,
        np.ones(12),
        [0, 3, 6, 9, 12],
        end=["truncated"] * 4,
        final_observations=[2, 2, 0, 0],
        behavior_probabilities=[1.0] * 12,
        n_actions=1,
        n_states=3,
    )
    estimate = crl.MIS(ratio=POOLED).estimate(data, crl.PolicyValue(crl.Always(0), horizon=3))
    assert estimate.value == 3.0
    close(estimate.diagnostics["lost_mass"], [0, 1 / 6, 1 / 6])
    assert any("SupportWarning" in text for text in estimate.diagnostics["warnings"])
    without_end = crl.MIS(ratio=POOLED).estimate(data, crl.PolicyValue(crl.Always(0), discount=0.9))
    mass, lost = 4.0, 0.0  # in state 0, which 2 of 12 decisions leave for good
    for _ in range(2_000):
        mass, lost = 4 + 0.9 * mass * 10 / 12, 0.9 * mass * 2 / 12
    close(without_end.value, mass / 4, 1e-9)
    close(without_end.diagnostics["lost_mass"], [lost / (mass + lost)], 1e-9)


def test_stationary_weights_need_no_support_at_each_time() -> None:
    """At t = 1 nobody agrees with the target; its occupancy is known all the same."""
    data = crl.Trajectories.from_arrays(
        [0, 0, 0, 0, 0, 0],
        [1, 0, 1, 0, 0, 1],
        [2.0, 0.0, 2.0, 0.0, 0.0, 2.0],
        [0, 3, 6],
        end=["truncated"] * 2,
        final_observations=[0, 0],
        behavior_probabilities=[0.5] * 6,
    )
    goal = crl.PolicyValue(crl.Always(1), discount=0.5)
    for estimator in (crl.MIS(ratio=POOLED), crl.DRL(folds=1), crl.MIS(ratio=crl.LinearRatio())):
        estimate = estimator.estimate(data, goal)
        close(estimate.value, 4.0, 1e-9)
        assert not any("under way" in text for text in estimate.diagnostics["warnings"])
    with pytest.raises(SupportError, match="all weights are zero under target"):
        crl.MIS(ratio=POOLED).estimate(two_steps(0.5, [0] * 8), goal)


def random_records(seed: int, n: int, states: int, actions: int) -> tuple[crl.Trajectories, np.ndarray]:
    """Records that end at random, and a target policy far from the behaviour."""
    rng = np.random.default_rng(seed)
    p, behavior = rng.dirichlet(np.ones(states + 1), (states, actions)), rng.dirichlet(np.full(actions, 2.0), states)
    s, a, offsets = [], [], [0]
    for _ in range(n):
        state = int(rng.integers(states))
        for _ in range(5):
            s.append(state)
            a.append(int(rng.choice(actions, p=behavior[state])))
            state = int(rng.choice(states + 1, p=p[state, a[-1]]))
            if state == states:
                break
        offsets.append(len(s))
    r = rng.normal(size=len(s))
    data = crl.Trajectories.from_arrays(s, a, r, offsets, behavior_probabilities=behavior[s], n_actions=actions, n_states=states)
    return data, rng.dirichlet(np.full(actions, 0.4), states)


def test_linear_ratios_settle_where_the_table_does() -> None:
    """Few records and large weights, where the linear system also has solutions of negative mass."""
    for seed in range(60):
        data, target = random_records(seed, 8, 4, 3)
        goal = crl.PolicyValue(crl.TabularPolicy(target), discount=0.95)
        try:
            table = crl.MIS(ratio=POOLED).estimate(data, goal).value
        except SupportError:
            continue
        close(crl.MIS(ratio=crl.LinearRatio()).estimate(data, goal).value, table, 1e-8)


@pytest.mark.parametrize("horizon", [H, None])
def test_refits_of_a_ridge_standardise_the_resample(horizon: int | None) -> None:
    data = ragged_data(40, seed=3)
    goal = crl.PolicyValue(TARGET, GAMMA, horizon)
    estimator = crl.MIS(ratio=crl.LinearRatio(ridge=0.2))
    fitted = estimator.fit(data, seed=2)
    counts = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), 5).astype(float)
    naive = Refitted(fitted.nuisances, lambda nuisances: estimator.point(nuisances, goal))
    close(fitted.estimate(goal).evidence.refit(counts), naive(counts), 1e-9)


@pytest.mark.parametrize("ratio", [BY_TIME, POOLED, crl.LinearRatio()], ids=str)
@pytest.mark.parametrize("horizon", [2, None])
def test_refits_without_support_are_nan(ratio: Any, horizon: int | None) -> None:
    """Of four records two agree with the target at t = 1; a resample of the others has no value."""
    goal = crl.PolicyValue(crl.Always(1), 0.9, horizon)
    data = two_steps(0.5, [1, 1, 1, 1, 1, 0, 1, 0])
    estimator = crl.MIS(ratio=ratio)
    fitted = estimator.fit(data)
    counts = np.array([[1.0, 1, 1, 1], [0, 0, 2, 2], [0, 0, 4, 0], [2, 0, 2, 0]])
    got = fitted.estimate(goal).evidence.refit(counts)
    naive = Refitted(fitted.nuisances, lambda nuisances: estimator.point(nuisances, goal))(counts)
    close(got, naive, 1e-9)
    by_time = horizon is not None or ratio is BY_TIME
    np.testing.assert_array_equal(np.isnan(got), [False, by_time, by_time, False])


def test_refits_that_do_not_settle_are_nan() -> None:
    """Undiscounted, a resample of one record whose process does not end."""
    data = crl.Trajectories.from_arrays(
        [0, 0, 0, 1],
        [0, 1, 1, 1],
        np.ones(4),
        [0, 2, 4],
        end=["truncated", "terminated"],
        final_observations=[0, 0],
        behavior_probabilities=[0.5] * 4,
    )
    goal = crl.PolicyValue(crl.TabularPolicy([[0.5, 0.5], [0.5, 0.5]]))
    for ratio in (POOLED, crl.LinearRatio(lambda s: np.eye(2)[s])):
        values = crl.MIS(ratio=ratio).estimate(data, goal).evidence.refit(np.array([[1.0, 1.0], [2.0, 0.0]]))
        assert np.isfinite(values[0]), ratio
        assert np.isnan(values[1]), ratio


def test_refits_are_made_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = ragged_data(40, seed=3)
    refit = crl.MIS(behavior=crl.Counts()).estimate(data, GOAL).evidence.refit
    counts = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), 11).astype(float)
    whole = refit(counts)
    sizes, block = [], CompiledValue._block
    monkeypatch.setattr("causalrl.estimators.refits._ENTRIES", 1)
    monkeypatch.setattr(CompiledValue, "_block", lambda self, part: sizes.append(len(part)) or block(self, part))
    np.testing.assert_array_equal(refit(counts), whole)
    assert sizes == [4, 4, 3]


# -------------------------------------------------------------------------------------------------------------------- bad input


def test_what_cannot_be_estimated_is_refused() -> None:
    cut = ragged_data(60, horizon=3)
    vectors = crl.Trajectories.from_arrays(
        np.random.default_rng(0).normal(size=(8, 2)), [0, 1] * 4, np.ones(8), [0, 4, 8], behavior_probabilities=[0.5] * 8
    )
    with pytest.raises(TruncationError, match="truncated after 3 steps"):
        crl.MIS().estimate(cut, GOAL)
    assert np.isfinite(crl.DRL().estimate(cut, GOAL).value)
    with pytest.raises(DataError, match="LinearRatio"):
        crl.MIS(ratio=POOLED).estimate(vectors, crl.Uniform(2))
    with pytest.raises(EstimandError, match="is a class"):
        crl.MIS(ratio=crl.TabularRatio).estimate(cut, crl.PolicyValue(TARGET, horizon=3))
    with pytest.raises(EstimandError, match="no ratio model"):
        crl.DRL(ratio=crl.TabularQ()).estimate(cut, crl.PolicyValue(TARGET, horizon=3))  # type: ignore[arg-type]
    with pytest.raises(EstimandError, match="needs a horizon"):
        crl.MIS(ratio=POOLED).estimate(ragged_data(), lambda s, t: np.full((len(s), 2), 0.5))
    with pytest.raises(DataError, match=r"expected \(S, A\)"):
        crl.KnownRatio([1.0])
    with pytest.raises(DataError, match="KnownRatio"):
        crl.KnownRatio([[np.nan]])
    with pytest.raises(DataError, match="the data reach"):
        crl.MIS(ratio=crl.KnownRatio(np.ones((2, 3, 2)))).estimate(cut, crl.PolicyValue(TARGET, horizon=3))
    with pytest.raises(DataError, match="gives shape"):
        crl.MIS(ratio=crl.KnownRatio(lambda s, a, t: np.ones(2))).estimate(cut, crl.PolicyValue(TARGET, horizon=3))
    with pytest.raises(DataError, match="ridge"):
        crl.LinearRatio(ridge=-1.0)


def test_a_process_that_does_not_end_has_no_undiscounted_value() -> None:
    data = ModelWin().sample(50, ModelWin().behavior(), horizon=6, seed=0)
    for ratio in (POOLED, crl.LinearRatio()):
        with pytest.raises(EstimandError, match="Pass a horizon"):
            crl.MIS(ratio=ratio).estimate(data, crl.PolicyValue(ModelWin().target()))


def two_steps(p: float, actions: list[int]) -> crl.Trajectories:
    """Four records of two steps."""
    states = [0, 1, 0, 2, 0, 1, 0, 2]
    return crl.Trajectories.from_arrays(states, actions, np.ones(8), [0, 2, 4, 6, 8], behavior_probabilities=[p] * 8, n_actions=2)


def test_weights_of_zero_and_beyond_floats() -> None:
    goal = crl.PolicyValue(crl.Always(1), horizon=2)
    for estimator in (crl.MIS(), crl.MIS(ratio=POOLED), crl.DRL()):
        for actions, t in (([0] * 8, 0), ([1, 0] * 4, 1)):
            with pytest.raises(SupportError, match=f"all weights are zero at t = {t}"):
                estimator.estimate(two_steps(0.5, actions), goal)
    ragged = crl.Trajectories.from_arrays(
        [0, 1, 0, 0, 1, 0], [1, 0, 1, 1, 0, 1], np.ones(6), [0, 2, 3, 5, 6], behavior_probabilities=[0.5] * 6
    )
    for estimator in (crl.MIS(), crl.MIS(ratio=POOLED), crl.MIS(ratio=crl.LinearRatio())):
        with pytest.warns(crl.errors.OverlapWarning, match="no trajectory under way at t = 1"):
            estimator.estimate(ragged, goal)
        assert np.isfinite(estimator.estimate(two_steps(1e-300, [1] * 8), goal).value)
    with pytest.raises(WeightOverflowError, match="beyond the largest float"):
        crl.MIS(ratio=crl.CumulativeWeights()).estimate(two_steps(1e-300, [1] * 8), goal)


def test_all_rewards_zero_and_one_trajectory() -> None:
    one = two_steps(0.5, [1] * 8).take([0])
    nothing = crl.Trajectories.from_arrays([0, 1, 0, 1], [0, 1, 1, 0], np.zeros(4), [0, 2, 4], behavior_probabilities=[0.5] * 4)
    for estimator in (crl.MIS(), crl.DRL()):
        assert estimator.estimate(one, crl.PolicyValue(crl.Uniform(2), horizon=2)).value == 2.0
        assert estimator.estimate(nothing, crl.PolicyValue(crl.Uniform(2), horizon=2)).value == 0.0


def test_a_fit_sees_only_its_training_rows() -> None:
    data = ragged_data(30, seed=1)
    nuisances = crl.DRL().fit(data).nuisances
    ratios = nuisances.ratios(TARGET, None, None, H)
    train = (ratios.target.steps.trajectory < 20).astype(float)

    def weights(given: crl.Trajectories, rows: np.ndarray) -> np.ndarray:
        made = crl.DRL().fit(given).nuisances.ratios(TARGET, None, None, H)
        problem = RatioProblem(made.target, made.log_ratios, rows, GAMMA, H, 0, made.behavior.logged)
        return BY_TIME.fit(problem).at(rows > 0)

    part = data.take(np.arange(20))
    close(weights(data, train), weights(part, np.ones(len(part.steps(H)))))


# -------------------------------------------------------------------------------------------------------------- published figures


@pytest.mark.slow
def test_error_falls_relative_to_the_value_as_the_horizon_grows() -> None:
    """reference/papers.md section 10: ModelWin, n = 1,024: RMSE / |truth| .35 ... .056, +-20%, and a slope of -.5 +- .1."""
    published = {4: 0.35, 8: 0.25, 16: 0.19, 32: 0.13, 64: 0.09, 128: 0.056}
    measured = {}
    for horizon in published:
        domain = ModelWin(horizon=horizon)
        goal, truth = crl.PolicyValue(domain.target(), horizon=horizon), domain.value(domain.target(), horizon)
        samples = (domain.sample(1_024, domain.behavior(), horizon, seed=seed) for seed in range(200))
        errors = [crl.MIS().estimate(data, goal).value / truth - 1 for data in samples]
        measured[horizon] = float(np.sqrt(np.mean(np.square(errors))))
    for horizon, value in published.items():
        assert abs(measured[horizon] / value - 1) < 0.2, measured
    slope = np.polyfit(np.log(list(measured)), np.log(list(measured.values())), 1)[0]
    assert abs(slope + 0.5) < 0.1


@pytest.mark.slow
def test_drl_attains_the_markov_bound_on_sepsis() -> None:
    """RMSE / sqrt(bound / n) of the default, cross-fitted, n = 5,000, 500 replications; at most 1.15."""
    simulator, n = SepsisSimulator(), 5_000
    behavior, target = simulator.physician(0.3), simulator.physician(0.15)
    goal, truth = crl.PolicyValue(target, horizon=20), simulator.value(target, 20)
    bound = simulator.efficiency_bound(target, behavior, 20, model="markov")
    samples = (simulator.sample(n, behavior, 20, seed=700_000 + seed) for seed in range(500))
    errors = [crl.DRL().estimate(data, goal).value - truth for data in samples]
    assert np.sqrt(np.mean(np.square(errors)) * n / bound) <= 1.15
