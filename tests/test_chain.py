"""The ragged chain of reference/traps.md, the exact identities, and naive recursions on random ragged data.

Chain(p_b, p_e): every step pays 1, action 0 stops the process, action 1 goes on, at most T = 10 steps; the behaviour stops
with probability p_b, the target with p_e. The value is V(p) = (1 - (1 - p)^T) / p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import causalrl as crl
from causalrl.diagnostics.weights import effective_sample_size
from causalrl.errors import EstimandError, SupportError, TruncationError, WeightOverflowError

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning")  # small random data overlap badly

T = 10
ON, OFF = (0.3, 0.3), (0.3, 0.2)
CASES = {ON: 3.239, OFF: 4.463}


def exact_value(p: float, steps: int = T) -> float:
    return (1 - (1 - p) ** steps) / p if p > 0 else float(steps)


def exact_q(p: float, horizon: int = T) -> np.ndarray:
    """(T, 1, 2): Q_t(stop) = 1, Q_t(go) = 1 + V_{t+1}."""
    q = np.empty((horizon, 1, 2))
    for t in range(horizon):
        q[t, 0] = 1.0, 1.0 + exact_value(p, horizon - t - 1)
    return q


def chain(n: int, p: float, seed: int, horizon: int = T) -> crl.Trajectories:
    rng = np.random.default_rng(seed)
    goes_on = rng.random((n, horizon)) >= p
    stopped = ~goes_on
    lengths = np.where(stopped.any(axis=1), stopped.argmax(axis=1) + 1, horizon)
    actions = np.concatenate([row[:length] for row, length in zip(goes_on, lengths, strict=True)]).astype(int)
    size = len(actions)
    return crl.Trajectories.from_arrays(
        np.zeros(size, int),
        actions,
        np.ones(size),
        np.concatenate([[0], np.cumsum(lengths)]),
        end=np.where(stopped.any(axis=1), crl.End.TERMINATED, crl.End.TRUNCATED),
        behavior_probabilities=np.tile([p, 1 - p], (size, 1)),
        n_actions=2,
    )


@pytest.fixture(scope="module")
def chain_data() -> crl.Trajectories:
    return chain(20_000, 0.3, seed=1)


def goal_of(p: float, horizon: int = T, discount: float = 1.0) -> crl.PolicyValue:
    return crl.PolicyValue(crl.TabularPolicy([[p, 1 - p]]), discount=discount, horizon=horizon)


# ------------------------------------------------------------------------------------------------------------ the chain


@pytest.mark.parametrize("estimator", crl.ALL)
@pytest.mark.parametrize("case", CASES)
def test_every_estimator_hits_the_truth(estimator: type[crl.Estimator], case: tuple[float, float], chain_data: Any) -> None:
    truth = exact_value(case[1])
    assert truth == pytest.approx(CASES[case], abs=5e-4)
    estimate = estimator().estimate(chain_data, goal_of(case[1]))
    expected = exact_value(case[0]) if estimator is crl.OnPolicyMean else truth
    stderr = 0.05 if estimator is crl.MAGIC else estimate.stderr
    assert stderr < 0.1
    if issubclass(estimator, crl.DR | crl.WDR | crl.DRL):  # here even the estimated Q is exact: a cell's target never varies
        assert estimate.value == pytest.approx(expected, abs=1e-10)
    else:
        assert abs(estimate.value - expected) < 4 * stderr


@pytest.mark.parametrize(("kind", "spread"), [("IS", 0.047), ("PDIS", 0.035), ("WIS", 0.029), ("PDWIS", 0.025)])
def test_standard_errors_are_the_spreads_of_a_hundred_seeds(kind: str, spread: float, chain_data: Any) -> None:
    """Trap A1's table; a standard deviation of 100 has a relative error of .07, and these heavy-tailed ones more."""
    off, on = (getattr(crl, kind)().estimate(chain_data, goal_of(p)).stderr for p in (0.2, 0.3))
    assert off == pytest.approx(spread, rel=0.3)
    assert on == pytest.approx(0.017, rel=0.3)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["DR", "WDR"])
@pytest.mark.parametrize("scale", [1.0, 0.7, 0.0])
def test_doubly_robust_with_a_scaled_q(kind: str, scale: float, case: tuple[float, float], chain_data: Any) -> None:
    """Trap A3: with the wrong padding WDR tends to (1 - c) T + c truth; an exact Q does not show it."""
    truth = exact_value(case[1])
    estimate = getattr(crl, kind)(q=crl.KnownQ(scale * exact_q(case[1]))).estimate(chain_data, goal_of(case[1]))
    if scale == 1.0:
        assert estimate.value == pytest.approx(truth, abs=1e-10)
        assert estimate.stderr < 1e-10  # nothing is random but the actions, and Q knows what they do
        np.testing.assert_allclose(estimate.influence, 0, atol=1e-10)
    else:
        assert 0 < estimate.stderr < 0.1
        assert abs(estimate.value - truth) < 4 * estimate.stderr


def test_direct_method_with_the_exact_q_is_the_start_value(chain_data: Any) -> None:
    """Trap A6: V at s_0, not at every step."""
    for case in CASES:
        estimate = crl.DirectMethod(crl.KnownQ(exact_q(case[1]))).estimate(chain_data, goal_of(case[1]))
        assert estimate.value == pytest.approx(exact_value(case[1]), abs=1e-12)


@pytest.mark.filterwarnings("ignore::causalrl.errors.TerminationWarning")
def test_zero_returns_count() -> None:
    """Trap A6: on-policy, one Bernoulli reward at the end, Q = 0: the value is its mean, zero returns included."""
    rng = np.random.default_rng(0)
    outcome = (rng.random(500) < 0.2).astype(float)
    rewards = np.column_stack([np.zeros(500), outcome]).ravel()
    data = crl.Trajectories.from_arrays(
        np.zeros(1000, int),
        np.zeros(1000, int),
        rewards,
        np.arange(0, 1001, 2),
        behavior_probabilities=np.ones(1000),
        n_actions=1,
    )
    for estimator in (
        crl.IS(),
        crl.WIS(),
        crl.PDIS(),
        crl.PDWIS(),
        crl.DR(q=crl.KnownQ([[0.0]])),
        crl.WDR(q=crl.KnownQ([[0.0]])),
    ):
        assert estimator.estimate(data, crl.Always(0)).value == pytest.approx(outcome.mean(), abs=1e-12)


def test_softening_is_a_new_policy(chain_data: Any) -> None:
    """Trap B4: never stop is worth 10, and no probability is moved off 0 or 1 on the way; softened it is another question."""
    never = crl.DirectMethod(crl.KnownQ(exact_q(0.0))).estimate(chain_data, crl.PolicyValue(crl.Always(1), horizon=T))
    assert never.value == pytest.approx(10.0, abs=1e-9)
    estimate = crl.PDWIS().estimate(chain_data, crl.PolicyValue(crl.Always(1), horizon=T))
    assert estimate.value == pytest.approx(10.0, abs=1e-9)  # all that agree with it earn 10
    softened = crl.Softened(crl.Always(1), 0.02)  # stops with probability .01
    exact = crl.DirectMethod(crl.KnownQ(exact_q(0.01))).estimate(chain_data, crl.PolicyValue(softened, horizon=T))
    assert exact.value == pytest.approx(9.562, abs=5e-4)


# -------------------------------------------------------------------------------------------- random ragged data, naively


@dataclass
class Record:
    """One trajectory as lists, and its target probabilities, which the naive formulas loop over."""

    states: list[int]
    actions: list[int]
    rewards: list[float]
    rho: list[float]
    final: int
    cut: bool  # the record stops before the horizon while the process goes on


H, S, A, GAMMA = 5, 4, 3, 0.9
RANDOM = np.random.default_rng(123)
TARGET = RANDOM.dirichlet(np.ones(A), (H, S))
TARGET[1, 2] = [0.0, 0.4, 0.6]
TARGET[2, 0] = [0.5, 0.5, 0.0]
TARGET[0, 1] = [0.2, 0.0, 0.8]
Q_TABLE = RANDOM.normal(size=(H + 1, S, A))


def ragged(n: int = 80, seed: int = 0, *, early: bool = False, shared: bool = False) -> tuple[crl.Trajectories, list[Record]]:
    """Random lengths up to H + 2 (steps beyond H are ignored); `early` cuts some records before the horizon."""
    rng = np.random.default_rng(seed)
    records, flat, offsets, end, finals = [], [], [0], [], []
    for _ in range(n):
        length = int(rng.integers(1, H + 3))
        cut = bool(rng.random() < (0.3 if early else 0.0)) and length < H
        states = [int(s) for s in rng.integers(0, S, length)]
        rho, actions, rewards = [], [], []
        for t in range(length):
            b = rng.dirichlet(np.full(A, 3.0))
            pi = TARGET[min(t, H - 1), states[t]]
            if shared:
                b = pi
            a = int(rng.choice(A, p=b))
            actions.append(a)
            rewards.append(float(rng.normal()))
            rho.append(float(pi[a] / b[a]))
            flat.append((states[t], a, rewards[-1], b))
        offsets.append(len(flat))
        end.append(int(crl.End.TRUNCATED) if cut or length > H else int(crl.End.TERMINATED))
        finals.append(int(rng.integers(0, S)))
        records.append(Record(states[:H], actions[:H], rewards[:H], rho[:H], finals[-1], cut))
    s, a, r, b = zip(*flat, strict=True)
    return (
        crl.Trajectories.from_arrays(
            s, a, r, offsets, end=end, behavior_probabilities=np.array(b), final_observations=finals, n_states=S, n_actions=A
        ),
        records,
    )


GOAL = crl.PolicyValue(crl.TabularPolicy(TARGET), discount=GAMMA, horizon=H)


def cumulative(record: Record, t: int) -> float:
    """w_t, carried forward past the end."""
    w = 1.0
    for k in range(min(t, len(record.rho) - 1) + 1):
        w *= record.rho[k]
    return w


def state_value(t: int, s: int) -> float:
    return sum(float(TARGET[t, s, a]) * float(Q_TABLE[t, s, a]) for a in range(A)) if t < H else 0.0


def next_value(record: Record, t: int) -> float:
    if t + 1 < len(record.states):
        return state_value(t + 1, record.states[t + 1])
    return state_value(t + 1, record.final) if record.cut else 0.0


def naive(records: list[Record], kind: str) -> float:
    """The definitions as double loops over trajectories and times, every normaliser over all trajectories."""
    n = len(records)
    if kind in ("IS", "WIS"):
        returns = [sum(GAMMA**t * r for t, r in enumerate(record.rewards)) for record in records]
        weights = [cumulative(record, H) for record in records]
        return sum(w * g for w, g in zip(weights, returns, strict=True)) / (n if kind == "IS" else sum(weights))
    value = 0.0
    if kind in ("DR", "WDR"):
        value = sum(state_value(0, record.states[0]) for record in records) / n
    for t in range(H):
        top = 0.0
        for record in records:
            if t < len(record.rewards):
                y = record.rewards[t]
                if kind in ("DR", "WDR"):
                    y += GAMMA * next_value(record, t) - float(Q_TABLE[t, record.states[t], record.actions[t]])
                top += GAMMA**t * cumulative(record, t) * y
        value += top / (n if kind in ("PDIS", "DR") else sum(cumulative(record, t) for record in records))
    return value


def jiang_li(records: list[Record]) -> float:
    """V^DR_t = V(s_t) + rho_t (r_t + discount V^DR_{t+1} - Q(s_t, a_t)), from the end."""
    total = 0.0
    for record in records:
        length = len(record.rewards)
        ahead = next_value(record, length - 1)
        for t in range(length - 1, -1, -1):
            q = float(Q_TABLE[t, record.states[t], record.actions[t]])
            ahead = state_value(t, record.states[t]) + record.rho[t] * (record.rewards[t] + GAMMA * ahead - q)
        total += ahead
    return total / len(records)


def with_q(kind: str) -> crl.Estimator:
    return getattr(crl, kind)(**({"q": crl.KnownQ(Q_TABLE)} if kind in ("DR", "WDR") else {}))


@pytest.mark.parametrize("kind", ["IS", "WIS", "PDIS", "PDWIS", "DR", "WDR"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_random_ragged_data_by_double_loops(kind: str, seed: int) -> None:
    data, records = ragged(seed=seed)
    assert any(0.0 in record.rho for record in records)
    assert any(length > H for length in data.lengths)
    assert with_q(kind).estimate(data, GOAL).value == pytest.approx(naive(records, kind), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("early", [False, True])
def test_backward_recursion_is_the_forward_sum(seed: int, early: bool) -> None:
    """Identity 7, with zero ratios, and with records that are cut early and continued from their final observation."""
    data, records = ragged(seed=seed, early=early)
    estimate = crl.DR(q=crl.KnownQ(Q_TABLE)).estimate(data, GOAL)
    assert estimate.value == pytest.approx(jiang_li(records), rel=1e-10, abs=1e-10)
    assert estimate.value == pytest.approx(naive(records, "DR"), rel=1e-10, abs=1e-10)
    wdr = crl.WDR(q=crl.KnownQ(Q_TABLE)).estimate(data, GOAL)
    assert wdr.value == pytest.approx(naive(records, "WDR"), rel=1e-10, abs=1e-10)


def test_pure_importance_sampling_refuses_records_cut_early() -> None:
    data, _ = ragged(early=True)
    for estimator in (crl.IS(), crl.WIS(), crl.PDIS(), crl.PDWIS(), crl.OnPolicyMean()):
        with pytest.raises(TruncationError, match="before the horizon 5"):
            estimator.estimate(data, GOAL)


@pytest.mark.parametrize("kind", ["WIS", "PDWIS", "WDR"])
def test_standard_errors_of_self_normalised_estimates(kind: str) -> None:
    """The influence of trajectory i is n times the derivative of the naive value in its multiplicity (complex step)."""
    data, records = ragged(n=60, seed=4)
    estimate = with_q(kind).estimate(data, GOAL)

    def weighted(omega: np.ndarray) -> complex:
        w = np.array([[cumulative(record, t) for t in range(H)] for record in records])
        y = np.zeros((len(records), H))
        for i, record in enumerate(records):
            for t in range(len(record.rewards)):
                q = float(Q_TABLE[t, record.states[t], record.actions[t]])
                temporal = GAMMA * next_value(record, t) - q if kind == "WDR" else 0.0
                y[i, t] = GAMMA**t * (record.rewards[t] + temporal)
        if kind == "WIS":
            return (omega * w[:, -1] * y.sum(axis=1)).sum() / (omega * w[:, -1]).sum()
        start = np.array([state_value(0, record.states[0]) for record in records]) if kind == "WDR" else np.zeros(len(records))
        normalised = (omega[:, None] * w * y).sum(axis=0) / (omega[:, None] * w).sum(axis=0)
        return (omega * start).sum() / omega.sum() + normalised.sum()

    influence = []
    for i in range(data.n):
        omega = np.ones(data.n, complex)
        omega[i] += 1e-30j
        influence.append(data.n * weighted(omega).imag / 1e-30)
    np.testing.assert_allclose(estimate.influence, influence, rtol=1e-9, atol=1e-9)
    assert estimate.stderr == pytest.approx(math.sqrt(np.sum(np.square(influence)) / (data.n - 1) / data.n), rel=1e-9)


# ------------------------------------------------------------------------------------------------------------- identities

RANDOM_ESTIMATORS = ["IS", "WIS", "PDIS", "PDWIS", "DR", "WDR"]


def test_on_policy_everything_is_the_mean_return() -> None:
    """Identity 2; trap B1: the ratios are exactly 1, not only on average."""
    data, records = ragged(seed=3, shared=True)
    returns = [sum(GAMMA**t * r for t, r in enumerate(record.rewards)) for record in records]
    for kind in ("IS", "WIS", "PDIS", "PDWIS", "OnPolicyMean"):
        estimate = getattr(crl, kind)().estimate(data, GOAL)
        assert estimate.value == pytest.approx(np.mean(returns), abs=1e-12)
        assert estimate.stderr == pytest.approx(np.std(returns, ddof=1) / math.sqrt(data.n), rel=1e-10) or kind == "PDWIS"
        assert estimate.diagnostics["ess"] == pytest.approx(data.n, abs=1e-9)
    dr, wdr = (getattr(crl, kind)(q=crl.KnownQ(Q_TABLE)).estimate(data, GOAL) for kind in ("DR", "WDR"))
    assert dr.value == pytest.approx(wdr.value, abs=1e-12)
    for q in (crl.TabularQ(), crl.TabularQ(by_time=True)):
        assert crl.DR(q=q).estimate(data, GOAL).value == pytest.approx(crl.WDR(q=q).estimate(data, GOAL).value, abs=1e-12)


@pytest.mark.parametrize("early", [False])
def test_zero_q_is_per_decision_weighting(early: bool) -> None:
    """Identity 4, in value, influence and standard error."""
    data, _ = ragged(seed=5, early=early)
    zero = crl.KnownQ(np.zeros((S, A)))
    for robust, plain in ((crl.DR(q=zero), crl.PDIS()), (crl.WDR(q=zero), crl.PDWIS())):
        a, b = robust.estimate(data, GOAL), plain.estimate(data, GOAL)
        assert a.value == pytest.approx(b.value, abs=1e-12)
        np.testing.assert_allclose(a.influence, b.influence, atol=1e-12)


def fixed_horizon(seed: int, shift: float = 0.0, scale: float = 1.0, n: int = 60) -> crl.Trajectories:
    """Every trajectory has exactly H steps."""
    rng = np.random.default_rng(seed)
    b = rng.dirichlet(np.full(A, 3.0), n * H)
    return crl.Trajectories.from_arrays(
        rng.integers(0, S, n * H),
        [int(rng.choice(A, p=row)) for row in b],
        scale * rng.normal(size=n * H) + shift,
        np.arange(0, n * H + 1, H),
        behavior_probabilities=b,
        n_states=S,
        n_actions=A,
    )


def test_reward_shift_and_scale_on_a_fixed_horizon() -> None:
    """Identity 5."""
    goal = crl.PolicyValue(crl.TabularPolicy(TARGET), horizon=H)
    for kind in RANDOM_ESTIMATORS:
        q = {"q": crl.TabularQ(by_time=True)} if kind in ("DR", "WDR") else {}
        estimator = getattr(crl, kind)(**q)
        plain = estimator.estimate(fixed_horizon(0), goal)
        moved = estimator.estimate(fixed_horizon(0, shift=2.5), goal)
        scaled = estimator.estimate(fixed_horizon(0, scale=3.0), goal)
        if kind in ("WIS", "PDWIS", "WDR", "DR"):
            assert moved.value == pytest.approx(plain.value + 2.5 * H, abs=1e-10), kind
        else:
            assert abs(moved.value - plain.value - 2.5 * H) > 1e-3, kind
        if kind in ("WIS", "PDWIS"):
            assert moved.stderr == pytest.approx(plain.stderr, rel=1e-9)
        assert scaled.value == pytest.approx(3 * plain.value, rel=1e-12, abs=1e-12)
        assert scaled.stderr == pytest.approx(3 * plain.stderr, rel=1e-11)


def relabelled(data: crl.Trajectories, states: np.ndarray, actions: np.ndarray) -> crl.Trajectories:
    """State s becomes states[s], action a becomes actions[a]."""
    b = np.empty_like(data.behavior_probabilities)
    b[:, actions] = data.behavior_probabilities
    return crl.Trajectories.from_arrays(
        states[data.observations],
        actions[data.actions],
        data.rewards,
        data.offsets,
        end=data.end,
        behavior_probabilities=b,
        final_observations=states[data.final_observations],
        n_states=S,
        n_actions=A,
    )


def test_relabelled_states_and_actions() -> None:
    """Identity 6."""
    data, _ = ragged(seed=6)
    states, actions = np.array([2, 0, 3, 1]), np.array([1, 2, 0])
    table = np.empty_like(TARGET)
    table[np.ix_(range(H), states, actions)] = TARGET
    q = np.empty_like(Q_TABLE)
    q[np.ix_(range(H + 1), states, actions)] = Q_TABLE
    other = relabelled(data, states, actions)
    goal = crl.PolicyValue(crl.TabularPolicy(table), discount=GAMMA, horizon=H)
    pairs = [(with_q(kind), getattr(crl, kind)(**({"q": crl.KnownQ(q)} if "DR" in kind else {}))) for kind in RANDOM_ESTIMATORS]
    pairs += [(e, e) for e in (crl.FQE(), crl.FQE(crl.TabularQ(by_time=True)), crl.DR(), crl.IS(behavior=crl.Counts()))]
    for before, after in pairs:
        assert after.estimate(other, goal).value == pytest.approx(before.estimate(data, GOAL).value, rel=1e-11, abs=1e-11)


def appended(data: crl.Trajectories) -> crl.Trajectories:
    """Every terminated trajectory goes on in a new absorbing state with ratio 1 and reward 0 up to 9 steps."""
    s, a, r, b, offsets, end = [], [], [], [], [0], []
    for i in range(data.n):
        rows = range(data.offsets[i], data.offsets[i + 1])
        extra = 9 - len(rows) if data.end[i] == crl.End.TERMINATED else 0
        s += [*data.observations[rows.start : rows.stop], *[S] * extra]
        a += [*data.actions[rows.start : rows.stop], *[0] * extra]
        r += [*data.rewards[rows.start : rows.stop], *[0.0] * extra]
        b += [*data.behavior_probabilities[rows.start : rows.stop], *[np.array([1.0, 0.0, 0.0])] * extra]
        offsets.append(len(s))
        end.append(data.end[i])
    return crl.Trajectories.from_arrays(
        s, a, r, offsets, end=end, behavior_probabilities=np.array(b), n_states=S + 1, n_actions=A
    )


def test_absorbing_steps_with_ratio_one_change_nothing() -> None:
    """Identity 6, trap A7."""
    data, _ = ragged(seed=7)
    table = np.concatenate([TARGET, np.tile([1.0, 0.0, 0.0], (H, 1, 1))], axis=1)
    goal = crl.PolicyValue(crl.TabularPolicy(table), discount=GAMMA, horizon=H)
    q = np.concatenate([Q_TABLE, np.zeros((H + 1, 1, A))], axis=1)
    longer = appended(data)
    assert len(longer.rewards) > len(data.rewards)
    for kind in RANDOM_ESTIMATORS:
        before = with_q(kind).estimate(data, GOAL)
        after = getattr(crl, kind)(**({"q": crl.KnownQ(q)} if "DR" in kind else {})).estimate(longer, goal)
        assert after.value == pytest.approx(before.value, rel=1e-12, abs=1e-12)
        np.testing.assert_allclose(after.influence, before.influence, rtol=1e-10, atol=1e-11)
    for estimator in (crl.FQE(), crl.DR(), crl.OnPolicyMean(), crl.WIS(behavior=crl.Counts())):
        assert estimator.estimate(longer, goal).value == pytest.approx(estimator.estimate(data, GOAL).value, rel=1e-11, abs=1e-11)


def test_permuted_trajectories() -> None:
    """Identity 6."""
    data, _ = ragged(seed=8)
    order = np.random.default_rng(0).permutation(data.n)
    for estimator in (*map(with_q, RANDOM_ESTIMATORS), crl.FQE(), crl.DR(), crl.PDWIS(behavior=crl.Counts())):
        a, b = estimator.estimate(data, GOAL), estimator.estimate(data.take(order), GOAL)
        assert b.value == pytest.approx(a.value, rel=1e-12, abs=1e-12)
        if not isinstance(estimator, crl.DirectMethod):
            np.testing.assert_allclose(b.influence, a.influence[order], rtol=1e-10, atol=1e-11)


def test_zero_discount_is_the_first_reward() -> None:
    """Identity 8."""
    data, records = ragged(seed=9)
    goal = crl.PolicyValue(crl.TabularPolicy(TARGET), discount=0.0, horizon=H)
    rho = [record.rho[0] for record in records]
    first = [record.rewards[0] for record in records]
    weighted = sum(w * r for w, r in zip(rho, first, strict=True))
    assert crl.PDIS().estimate(data, goal).value == pytest.approx(weighted / data.n, abs=1e-12)
    assert crl.PDWIS().estimate(data, goal).value == pytest.approx(weighted / sum(rho), abs=1e-12)
    assert crl.OnPolicyMean().estimate(data, goal).value == pytest.approx(np.mean(first), abs=1e-12)


def test_one_trajectory_is_its_own_return() -> None:
    """Identity 8."""
    data, records = ragged(seed=10)
    i = next(i for i, record in enumerate(records) if len(record.rewards) > 2 and 0.0 not in record.rho)
    expected = sum(GAMMA**t * r for t, r in enumerate(records[i].rewards))
    for estimator in (crl.WIS(), crl.PDWIS(), crl.OnPolicyMean()):
        assert estimator.estimate(data.take([i]), GOAL).value == pytest.approx(expected, abs=1e-12)


def test_the_spread_of_a_difference_is_paired() -> None:
    """Identity 9."""
    data, _ = ragged(seed=11)
    dr, wis = with_q("DR").estimate(data, GOAL), crl.WIS().estimate(data, GOAL)
    difference = dr - wis
    paired = [a - b for a, b in zip(dr.influence, wis.influence, strict=True)]
    assert difference.value == pytest.approx(dr.value - wis.value, abs=1e-12)
    assert difference.stderr == pytest.approx(math.sqrt(sum(u * u for u in paired) / (data.n - 1) / data.n), rel=1e-10)
    assert abs(difference.stderr - math.hypot(dr.stderr, wis.stderr)) > 1e-3 * difference.stderr
    assert (dr - dr).stderr == pytest.approx(0, abs=1e-12)


def duplicated(data: crl.Trajectories, clusters: Any) -> crl.Trajectories:
    twice = data.take(np.tile(np.arange(data.n), 2))
    return crl.Trajectories.from_arrays(
        twice.observations,
        twice.actions,
        twice.rewards,
        twice.offsets,
        end=twice.end,
        behavior_probabilities=twice.behavior_probabilities,
        final_observations=twice.final_observations,
        n_states=S,
        n_actions=A,
        clusters=clusters,
    )


@pytest.mark.parametrize("kind", [*RANDOM_ESTIMATORS, "FQE"])
def test_duplicated_data(kind: str) -> None:
    """Identity 10 and trap D7: under the same patient nothing changes; as new patients the error shrinks by sqrt 2."""
    data, _ = ragged(seed=12)
    estimator = crl.FQE() if kind == "FQE" else with_q(kind)
    one = estimator.estimate(data, GOAL)
    same = estimator.estimate(duplicated(data, np.tile(np.arange(data.n), 2)), GOAL)
    new = estimator.estimate(duplicated(data, None), GOAL)
    assert same.value == pytest.approx(one.value, rel=1e-11, abs=1e-12)
    assert new.value == pytest.approx(one.value, rel=1e-11, abs=1e-12)
    assert same.stderr == pytest.approx(one.stderr, rel=1e-9)
    if kind != "FQE":
        ratio = math.sqrt((data.n - 1) / (2 * data.n - 1))
        assert new.stderr == pytest.approx(one.stderr * ratio, rel=1e-9)
        for method in (crl.PercentileBootstrap(300, seed=2), crl.StudentizedBootstrap(300, seed=2)):
            a, b = one.interval(method=method), same.interval(method=method)
            assert (a.low, a.high) == pytest.approx((b.low, b.high), rel=1e-9)


# --------------------------------------------------------------------------------------------------- logarithms and ESS


def two_long_episodes(ratio: float) -> crl.Trajectories:
    """1100 and 1099 steps, each with the same ratio; the rewards sum to 6 and to 3."""
    lengths = [1100, 1099]
    rewards = np.zeros(sum(lengths))
    rewards[0], rewards[1100] = 6.0, 3.0
    return crl.Trajectories.from_arrays(
        np.zeros(sum(lengths), int),
        np.zeros(sum(lengths), int),
        rewards,
        [0, 1100, 2199],
        behavior_probabilities=np.full(sum(lengths), 0.5 / ratio),
        n_actions=2,
    )


def test_weights_beyond_the_floats() -> None:
    """Trap A8: log weights -1100 ln 2 and -1099 ln 2 are worth 1/3 and 2/3."""
    goal = crl.TabularPolicy([[0.5, 0.5]])
    small = two_long_episodes(0.5)
    assert crl.WIS().estimate(small, goal).value == pytest.approx(6 / 3 + 3 * 2 / 3, rel=1e-12)
    assert crl.PDWIS().estimate(small, goal).value == pytest.approx((6 + 3) / 2, rel=1e-12)  # both rewards come at t = 0
    assert crl.WIS().estimate(small, goal).diagnostics["ess"] == pytest.approx(1 / (1 / 9 + 4 / 9), rel=1e-12)
    assert crl.IS().estimate(small, goal).value == 0.0  # 2^-1100 is no float, and 0 is its nearest
    large = two_long_episodes(2.0)
    assert crl.WIS().estimate(large, goal).value == pytest.approx(6 * 2 / 3 + 3 / 3, rel=1e-12)
    for estimator in (crl.IS(), crl.PDIS(), crl.DR(q=crl.KnownQ([[0.0, 0.0]]))):
        with pytest.raises(WeightOverflowError, match="self-normalised"):
            estimator.estimate(large, goal)


def test_a_zero_ratio_is_a_zero_weight() -> None:
    """Traps A8 and A9: nothing is floored, whatever the other weights are."""
    data, records = ragged(seed=13)
    impossible = [i for i, record in enumerate(records) if 0.0 in record.rho]
    assert impossible
    estimate = crl.IS().estimate(data, GOAL)
    assert np.all(estimate.moments[impossible] == 0.0)


def test_all_weights_zero_is_refused() -> None:
    data = crl.Trajectories.from_arrays(
        [0] * 4, [0, 1, 0, 0], [1.0] * 4, [0, 2, 4], behavior_probabilities=[0.5] * 4, n_actions=2
    )
    with pytest.raises(SupportError, match="all weights are zero"):
        crl.WIS().estimate(data, crl.Always(1))
    stays = crl.PolicyValue(crl.TabularPolicy([[[1.0, 0.0]], [[0.0, 1.0]]]), horizon=2)
    one_agrees = data.take([1])
    for estimator in (crl.PDIS(), crl.PDWIS(), crl.WDR(q=crl.KnownQ([[0.0, 0.0]]))):
        with pytest.raises(SupportError, match="at t = 1"):
            estimator.estimate(one_agrees, stays)


def test_effective_sample_size_is_kish() -> None:
    """Trap A10."""
    w = np.random.default_rng(0).lognormal(-0.5, 1, 1000)
    assert effective_sample_size(w) == pytest.approx(sum(w) ** 2 / sum(x * x for x in w), rel=1e-12)
    assert 300 < effective_sample_size(w) < 450  # 377.9 in the trap's draw; never the 1.41 of summed steps
    assert effective_sample_size(7.3 * w) == pytest.approx(effective_sample_size(w), rel=1e-12)
    assert effective_sample_size(np.ones(1000)) == 1000
    assert effective_sample_size(np.eye(1000)[3]) == 1
    data, records = ragged(seed=14)
    by_time = []
    for t in range(H):
        at = [cumulative(record, t) for record in records]
        by_time.append(sum(at) ** 2 / sum(x * x for x in at))
    diagnostics = crl.PDWIS().estimate(data, GOAL).diagnostics
    np.testing.assert_allclose(diagnostics["ess_by_time"], by_time, rtol=1e-12)
    assert diagnostics["ess"] == pytest.approx(min(by_time))
    assert crl.WIS().estimate(data, GOAL).diagnostics["ess"] == pytest.approx(by_time[-1])


# -------------------------------------------------------------------------------------- discount, indexing, termination


def survivors(horizon: int = 20) -> crl.Trajectories:
    """Two identical trajectories of reward 1, on-policy, one action, alive at the horizon."""
    size = 2 * horizon
    return crl.Trajectories.from_arrays(
        np.zeros(size, int),
        np.zeros(size, int),
        np.ones(size),
        [0, horizon, size],
        end=[crl.End.TRUNCATED] * 2,
        behavior_probabilities=np.ones(size),
        n_actions=1,
    )


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
def test_the_first_reward_is_not_discounted(scale: float) -> None:
    """Traps C1 to C3: 12.8303 = (1 - .95^20) / .05, for every estimator and for any Q of the doubly robust ones."""
    truth = (1 - 0.95**20) / 0.05
    assert truth == pytest.approx(12.8303, abs=5e-5)
    q = np.array([(1 - 0.95 ** (20 - t)) / 0.05 for t in range(20)]).reshape(20, 1, 1)
    goal = crl.PolicyValue(crl.Always(0), discount=0.95, horizon=20)
    for estimator in (crl.DR(q=crl.KnownQ(scale * q)), crl.WDR(q=crl.KnownQ(scale * q)), *(kind() for kind in crl.ALL)):
        assert estimator.estimate(survivors(), goal).value == pytest.approx(truth, abs=1e-10)
    for discount, expected in ((0.0, 1.0), (1.0, 20.0)):
        for kind in crl.ALL:
            value = kind().estimate(survivors(), crl.PolicyValue(crl.Always(0), discount=discount, horizon=20)).value
            assert value == pytest.approx(expected, abs=1e-12)


def test_a_cut_record_is_no_death() -> None:
    """Trap C4: stop probability .3, records cut after 3 steps: 1 / p-hat, not 1 + q + q^2."""
    whole = chain(4000, 0.3, seed=3, horizon=3)
    stops = int((whole.actions == 0).sum())
    p = stops / len(whole.actions)
    data = crl.Trajectories.from_arrays(
        whole.observations,
        whole.actions,
        whole.rewards,
        whole.offsets,
        end=whole.end,
        behavior_probabilities=whole.behavior_probabilities,
        final_observations=np.zeros(whole.n, int),
        n_actions=2,
    )
    goal = crl.TabularPolicy([[0.3, 0.7]])
    fitted = crl.FQE().estimate(data, goal)
    assert fitted.value == pytest.approx(1 / 0.3, abs=1e-8)  # Q(stop) = 1 and Q(go) = 1 + V exactly, whatever p-hat is
    doubly = crl.DR().estimate(data, goal)
    assert doubly.value == pytest.approx(1 / 0.3, abs=1e-8)
    assert abs(1 / p - 1 / 0.3) < 0.2
    with pytest.raises(TruncationError):
        crl.FQE().estimate(whole, goal)
    with pytest.raises(TruncationError):
        crl.PDIS().estimate(data, goal)
    cut = crl.PDIS().estimate(data, crl.PolicyValue(goal, horizon=3))
    assert abs(cut.value - 2.19) < 4 * cut.stderr


def test_a_value_that_nobody_visited_moves_nothing() -> None:
    """Trap C5: 1e6 in the last state, which no record reaches; rewards of 0.5 survive."""
    data = crl.Trajectories.from_arrays(
        [0, 1, 0], [0, 1, 1], [0.5, 0.5, 0.5], [0, 2, 3], behavior_probabilities=[0.5] * 3, n_states=4, n_actions=2
    )
    calm, wild = np.ones((4, 2)), np.ones((4, 2))
    wild[3] = 1e6
    for kind in (crl.DR, crl.WDR):
        values = [kind(q=crl.KnownQ(q)).estimate(data, crl.PolicyValue(crl.Uniform(2), horizon=2)).value for q in (calm, wild)]
        assert values[0] == values[1]
    assert crl.OnPolicyMean().estimate(data, crl.Uniform(2)).value == 0.75


def test_initial_states_are_first_rows() -> None:
    """Trap C6: an episode of 3,000 steps and one of 1 have two initial states."""
    states = np.concatenate([[2], np.zeros(2999, int), [1]])
    data = crl.Trajectories.from_arrays(
        states, np.zeros(3001, int), np.zeros(3001), [0, 3000, 3001], behavior_probabilities=np.ones(3001), n_actions=1
    )
    estimate = crl.DirectMethod(crl.KnownQ([[100.0], [3.0], [5.0]])).estimate(data, crl.Always(0))
    assert estimate.value == 4.0
    assert estimate.moments.shape == (2, 1)


def test_a_time_dependent_policy_needs_a_horizon() -> None:
    data, _ = ragged(seed=15)
    with pytest.raises(EstimandError, match="horizon"):
        crl.FQE().estimate(data.take(np.flatnonzero(data.end == crl.End.TERMINATED)), crl.TabularPolicy(TARGET))


# -------------------------------------------------------------------------------------------------------------- intervals


def weighted_study(w: np.ndarray, y: np.ndarray) -> tuple[crl.Trajectories, crl.TabularPolicy]:
    """A data set whose importance weights are w times a constant: everyone takes action 1, one state a unit."""
    n = len(y)
    scaled = w / w.max()
    data = crl.Trajectories.from_arrays(
        np.arange(n), np.ones(n, int), y, np.arange(n + 1), behavior_probabilities=np.full(n, 0.5), n_actions=2
    )
    return data, crl.TabularPolicy(np.column_stack([1 - scaled, scaled]))


def test_bootstrap_of_a_ratio_shifts_with_the_rewards() -> None:
    """Trap D4: each replicate divides by its own weights, so a constant moves the interval and leaves its width alone."""
    rng = np.random.default_rng(1)
    w, noise = rng.lognormal(-0.5, 1, 200), rng.normal(size=200)
    method = crl.PercentileBootstrap(400, seed=3)
    intervals = []
    for mu in (0.0, 1.0, 10.0):
        data, policy = weighted_study(w, mu + noise)
        low, high = crl.WIS().estimate(data, policy).interval(method=method)
        intervals.append((low - mu, high - mu))
    assert intervals[1] == pytest.approx(intervals[0], abs=1e-11)
    assert intervals[2] == pytest.approx(intervals[0], abs=1e-11)
    assert 0.25 < intervals[0][1] - intervals[0][0] < 0.7  # .42 on average; frozen weights would say 3.4 at mu = 10


def test_standard_error_of_a_weighted_mean_is_its_influence() -> None:
    """Trap D5: sqrt(sum of squared normalised weights times squared residuals), about .231; the ESS form says .134."""
    stderrs, ess_form = [], []
    rng = np.random.default_rng(0)
    for _ in range(100):
        x = rng.normal(size=1000)
        y = x**2 + rng.normal(size=1000)
        w = np.exp(x - 0.5)
        estimate = crl.WIS().estimate(*weighted_study(w, y))
        share = w / w.sum()
        value = (share * y).sum()
        assert estimate.value == pytest.approx(value, rel=1e-12)
        expected = math.sqrt((share**2 * (y - value) ** 2).sum() * 1000 / 999)
        assert estimate.stderr == pytest.approx(expected, rel=1e-10)
        stderrs.append(estimate.stderr)
        ess_form.append(math.sqrt((share * (y - value) ** 2).sum() * (share**2).sum()))
    assert np.mean(stderrs) == pytest.approx(0.231, rel=0.1)
    assert np.mean(ess_form) == pytest.approx(0.134, rel=0.1)


@pytest.mark.parametrize("n", [20, 100, 1000])
def test_bootstrap_draws_as_many_as_there_are(n: int) -> None:
    """Trap D6: the bootstrap spread of a mean is sd / sqrt(n) for every n."""
    y = np.random.default_rng(n).normal(size=n)
    data = crl.Trajectories.from_arrays(np.zeros(n, int), np.zeros(n, int), y, np.arange(n + 1), n_actions=2)
    estimate = crl.OnPolicyMean().estimate(data, crl.Always(0))
    replicates = crl.PercentileBootstrap(2000, seed=1).values(estimate.evidence)
    assert replicates.std(ddof=1) == pytest.approx(y.std(ddof=0) / math.sqrt(n), rel=4 / math.sqrt(2 * 2000))
