"""Weighting with truncated weights and with propensities counted given a memory, against naive loops and Hanna et al. (2019)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import causalrl as crl
from causalrl.errors import EstimandError
from simulators import Gridworld, SinglePath

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning")  # 60 trajectories

STEP_TARGET = [[0.3, 0.7], [0.8, 0.2], [0.5, 0.5]]
STEP_Q = np.random.default_rng(9).normal(size=(4, 3, 2))
DISCOUNT, HORIZON = 0.9, 4
GOAL = crl.PolicyValue(crl.TabularPolicy(STEP_TARGET), discount=DISCOUNT, horizon=HORIZON)
KINDS = ["IS", "WIS", "PDIS", "PDWIS", "DR", "WDR"]


def ragged_records(n: int = 60, seed: int = 5) -> crl.Trajectories:
    """One to four steps in three states; the behaviour remembers the action before."""
    rng = np.random.default_rng(seed)
    observations, actions, rewards, offsets, end = [], [], [], [0], []
    for _ in range(n):
        s, before, over = int(rng.integers(0, 3)), 0, False
        for _ in range(HORIZON):
            a = int(rng.random() < [0.4, 0.5, 0.6][s] + 0.2 * before)
            observations.append(s)
            actions.append(a)
            rewards.append(float(s + a + rng.normal()))
            over = bool(rng.random() < 0.15)
            if over:
                break
            s, before = int(rng.integers(0, 3)), a
        offsets.append(len(actions))
        end.append(0 if over else 1)
    return crl.Trajectories.from_arrays(observations, actions, rewards, offsets, end=end)


def counted(data: crl.Trajectories, omega: np.ndarray, memory: int, by_time: bool) -> list[Any]:
    """Frequencies of the logged actions by dictionaries of contexts, trajectory i counting omega_i times."""
    count: dict[Any, Any] = {}
    cells = []
    for i in range(data.n):
        path = [(int(data.observations[j]), int(data.actions[j])) for j in range(data.offsets[i], data.offsets[i + 1])]
        for t, (state, action) in enumerate(path):
            context = (t if by_time else None, tuple(path[max(0, t - memory + 1) : t]), state)
            cells.append((context, action))
            for key in (context, (context, action)):
                count[key] = count.get(key, 0) + omega[i]
    return [count[cell] / count[cell[0]] for cell in cells]


def lesser(w: Any, bound: float | None) -> Any:
    return w if bound is None or w.real <= bound else bound


def naive(data: crl.Trajectories, omega: np.ndarray, p: list[Any], kind: str, bound: float | None) -> Any:
    """The definitions as loops; complex numbers pass through, so that a derivative is a complex step."""
    total, start = omega.sum(), 0.0
    weight: dict[Any, Any] = {}
    term: dict[Any, Any] = {}
    value_of = lambda t, s: sum(STEP_TARGET[s][a] * STEP_Q[t, s, a] for a in range(2))  # noqa: E731
    for i in range(data.n):
        first, length, w = data.offsets[i], data.lengths[i], 1.0
        if kind in ("DR", "WDR"):
            start = start + omega[i] / total * value_of(0, data.observations[first])
        for t in range(HORIZON):
            term[i, t] = 0.0
            if t < length:
                s, a = data.observations[first + t], data.actions[first + t]
                w = w * STEP_TARGET[s][a] / p[first + t]
                y = data.rewards[first + t]
                if kind in ("DR", "WDR"):
                    y = y - STEP_Q[t, s, a]
                    y = y + (DISCOUNT * value_of(t + 1, data.observations[first + t + 1]) if t + 1 < length else 0.0)
                term[i, t] = DISCOUNT**t * y
            weight[i, t] = lesser(w, bound)
    everyone = range(data.n)
    if kind in ("IS", "WIS"):
        top = sum(omega[i] * weight[i, HORIZON - 1] * sum(term[i, t] for t in range(HORIZON)) for i in everyone)
        return top / (total if kind == "IS" else sum(omega[i] * weight[i, HORIZON - 1] for i in everyone))
    value: Any = start
    for t in range(HORIZON):
        mass = total if kind in ("PDIS", "DR") else sum(omega[i] * weight[i, t] for i in everyone)
        value = value + sum(omega[i] * weight[i, t] * term[i, t] for i in everyone) / mass
    return value


def jackknife(n: int, value: Callable[[np.ndarray], Any]) -> list[float]:
    """n times the derivative of the whole estimate in a trajectory's weight, by the complex step."""
    out = []
    for i in range(n):
        omega = np.ones(n, dtype=complex)
        omega[i] += 1e-30j
        out.append(n * value(omega).imag / 1e-30)
    return out


def build(kind: str, **fields: Any) -> crl.Estimator:
    return getattr(crl, kind)(**fields, **({"q": crl.KnownQ(STEP_Q)} if kind in ("DR", "WDR") else {}))


@pytest.mark.filterwarnings("ignore::causalrl.errors.SupportWarning")  # rare contexts
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("memory", "by_time", "bound"),
    [(1, False, 1.3), (1, True, 2.1), (2, False, None), (3, False, 1.3), (9, False, None), (2, True, 1.7)],
)
def test_value_and_influence_by_naive_loops(kind: str, memory: int, by_time: bool, bound: float | None) -> None:
    """The influence through counts given any memory, and through min(w, c), is the derivative of the whole estimate."""
    data = ragged_records()
    estimate = build(kind, behavior=crl.Counts(by_time, memory), truncate=bound).estimate(data, GOAL)
    value = lambda omega: naive(data, omega, counted(data, omega, memory, by_time), kind, bound)  # noqa: E731
    assert estimate.value == pytest.approx(value(np.ones(data.n)), rel=1e-10)
    np.testing.assert_allclose(estimate.influence, jackknife(data.n, value), rtol=1e-8, atol=1e-8)


# ------------------------------------------------------------------------------------------------------- truncated weights


def test_truncation_is_reported() -> None:
    """Trap A9: from above only, on request only, with the number and the mass of what was truncated, in the label too."""
    data = crl.Trajectories.from_arrays(
        [0] * 6, [1, 1, 1, 0, 1, 1], np.arange(6.0), [0, 2, 3, 4, 6], behavior_probabilities=[0.5, 0.5, 0.5, 0.5, 0.5, 0.25]
    )
    decisions = crl.PDWIS(truncate=3).estimate(data, crl.Always(1))  # weights 2, 4; 2; 0; 2, 8
    assert decisions.diagnostics["truncated"] == pytest.approx((3.0, 2 / 6, 6 / 18))
    assert decisions.diagnostics["max_weight"] == pytest.approx(3.0)
    np.testing.assert_allclose(decisions.diagnostics["ess_by_time"], [3.0, 8**2 / 22])
    assert decisions.value == pytest.approx((0 + 2 * 2 + 2 * 4) / 6 + (3 * 1 + 3 * 5) / 8)
    trajectories = crl.WIS(truncate=3).estimate(data, crl.Always(1))
    assert trajectories.diagnostics["truncated"] == pytest.approx((3.0, 2 / 4, 6 / 14))
    assert trajectories.diagnostics["ess"] == pytest.approx(8**2 / 22)
    assert trajectories.estimator == "WIS(truncate=3)"
    assert crl.IS(truncate=3).estimate(data, crl.Always(1)).moments[2] == 0.0  # a zero weight stays zero
    assert crl.WIS().estimate(data, crl.Always(1)).diagnostics["truncated"] is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_bound_that_nothing_reaches_changes_no_bit(kind: str) -> None:
    data = ragged_records()
    plain, bounded = (build(kind, truncate=bound).estimate(data, GOAL) for bound in (None, 1e9))
    assert plain.value == bounded.value
    assert np.array_equal(plain.influence, bounded.influence)
    assert bounded.diagnostics["truncated"] == (1e9, 0.0, 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_shards_merge_exactly(kind: str) -> None:
    data, behavior = ragged_records(), crl.KnownPropensity(crl.Uniform(2))
    estimator = build(kind, behavior=behavior, truncate=1.5)
    parts = [estimator.estimate(data.take(part), GOAL) for part in np.array_split(np.arange(data.n), 3)]
    whole, merged = estimator.estimate(data, GOAL), parts[0].merge(*parts[1:])
    assert merged.value == pytest.approx(whole.value, rel=1e-12)
    assert merged.stderr == pytest.approx(whole.stderr, rel=1e-12)


def test_truncation_tames_a_weight_beyond_the_floats() -> None:
    """Ratio 2 for 1100 steps: 2^1100 is no float, min(2^1100, 10) is 10."""
    steps = 1100 + 1099
    data = crl.Trajectories.from_arrays(
        [0] * steps, [0] * steps, [0.0] * (steps - 1) + [1.0], [0, 1100, steps], behavior_probabilities=[0.5] * steps, n_actions=2
    )
    estimate = crl.IS(truncate=10).estimate(data, crl.Always(0))
    assert estimate.value == pytest.approx(5.0)
    assert estimate.diagnostics["truncated"] == (10.0, 1.0, 1.0)


def test_truncated_weights_do_not_blame_the_propensities() -> None:
    rng = np.random.default_rng(0)
    actions = (rng.random(4_000) < 0.1).astype(int)
    data = crl.Trajectories.from_cross_section(np.zeros(4_000, int), actions, rng.normal(size=4_000), propensity=[0.1] * 4_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimate = crl.WIS(truncate=2).estimate(data, crl.Always(1))
    assert estimate.diagnostics["mean_weight"] == pytest.approx(2 * actions.mean())


@pytest.mark.parametrize("bound", [0.5, 0, -1, math.inf, math.nan, "3", True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bound_is_a_number_of_at_least_one(kind: str, bound: Any) -> None:
    with pytest.raises(EstimandError, match=r"truncate.*at least 1"):
        build(kind, truncate=bound)


# --------------------------------------------------------------------------------------------- counts given a memory, RIS


def test_a_memory_of_one_is_the_state() -> None:
    data = ragged_records()
    assert crl.RIS(1) == crl.IS(behavior=crl.Counts())
    assert crl.RIS(4, normalized=True) == crl.WIS(behavior=crl.Counts(memory=4))
    assert crl.RIS().estimate(data, GOAL).value == crl.IS(behavior=crl.Counts()).estimate(data, GOAL).value
    assert str(crl.RIS(3)) == "IS(behavior=Counts(memory=3))"


@pytest.mark.parametrize("memory", [0, -1, 1.5, "2", True])
def test_a_memory_is_a_whole_number(memory: Any) -> None:
    with pytest.raises(EstimandError, match=r"memory.*at least 1"):
        crl.Counts(memory=memory)


@pytest.mark.filterwarnings("ignore::causalrl.errors.EstimatedBehaviorWarning")
def test_a_target_made_of_a_behaviour_with_memory() -> None:
    """It is known at the logged steps, which weighting needs, and nowhere else."""
    data, memory = ragged_records(), crl.Counts(memory=2)
    course = crl.WIS(behavior=memory).estimate(data, crl.PolicyValue(crl.NaturalCourse(), horizon=HORIZON))
    assert course.value == pytest.approx(
        crl.OnPolicyMean().estimate(data, crl.PolicyValue(crl.Uniform(2), horizon=HORIZON)).value
    )
    tilted = crl.PDIS(behavior=memory).estimate(data, crl.PolicyValue(crl.TiltedPropensity(2.0), horizon=HORIZON))
    p = counted(data, np.ones(data.n), 2, False)
    value = 0.0
    for i in range(data.n):
        w = 1.0
        for j in range(data.offsets[i], data.offsets[i + 1]):
            e = p[j] if data.actions[j] == 1 else 1 - p[j]
            treated = 2 * e / (2 * e + 1 - e)
            w *= (treated if data.actions[j] == 1 else 1 - treated) / p[j]
            value += w * data.rewards[j] / data.n
    assert tilted.value == pytest.approx(value, rel=1e-10)
    goal = crl.PolicyValue(crl.TiltedPropensity(2.0), horizon=HORIZON)
    with pytest.raises(EstimandError, match=r"Counts\(memory=2\) is known at the logged steps only"):
        crl.DR(behavior=memory).estimate(data, goal)


def test_frequencies_are_those_of_the_logged_pairs_alone() -> None:
    """Trap B7: no pseudo-count, and a final observation carries no action."""
    plain = crl.Trajectories.from_arrays([0, 0, 1, 0], [0, 1, 1, 1], [0.0] * 4, [0, 2, 4], n_states=3)
    ended = crl.Trajectories.from_arrays([0, 0, 1, 0], [0, 1, 1, 1], [0.0] * 4, [0, 2, 4], n_states=3, final_observations=[1, 0])
    for data in (plain, ended):
        fit = crl.Counts().fit(data.steps(), np.ones(4), seed=0)
        np.testing.assert_array_equal(fit.probabilities(np.array([0, 1]), np.zeros(2, int)), [[1 / 3, 2 / 3], [0.0, 1.0]])


def path_errors(n: int, replicates: int, estimators: dict[str, crl.Estimator]) -> dict[str, float]:
    """Mean squared errors on SinglePath, whose truth is 2."""
    domain = SinglePath()
    goal = crl.PolicyValue(domain.target(), horizon=5)
    sums = dict.fromkeys(estimators, 0.0)
    for seed in range(replicates):
        data = domain.sample(n, domain.behavior(), horizon=5, seed=seed)
        for name, estimator in estimators.items():
            sums[name] += (estimator.estimate(data, goal).value - 2.0) ** 2 / replicates
    return sums


PATH = {"OIS": crl.IS(), "WIS": crl.WIS(), "RIS(1)": crl.RIS(1), "RIS(5)": crl.RIS(5), "WRIS(1)": crl.RIS(1, normalized=True)}
PATH_ERRORS = {100: (7.7e-3, 3.8e-2, 2.4e-3, 0.48, 2.6e-2), 1000: (7.4e-4, 3.3e-3, 1.9e-4, 2.3e-3, 2.2e-3)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")
@pytest.mark.parametrize("n", [100, 1000])
def test_single_path_of_hanna(n: int) -> None:
    """Figure 3 of Hanna, Niekum & Stone (2019) in numbers, within 30%: their estimate beats the true propensities."""
    errors = path_errors(n, 200, PATH)
    for name, published in zip(PATH, PATH_ERRORS[n], strict=True):
        assert errors[name] == pytest.approx(published, rel=0.3), name
    assert errors["RIS(1)"] < 0.6 * errors["OIS"]


def test_a_full_history_is_exact_once_every_one_was_seen() -> None:
    domain = SinglePath()
    data = domain.sample(40_000, domain.behavior(), horizon=5, seed=0)
    paths = np.stack([data.observations.reshape(-1, 5), data.actions.reshape(-1, 5)], axis=2).reshape(data.n, -1)
    possible: list[tuple[int, ...]] = [()]
    for _ in range(5):
        longer = []
        for path in possible:
            states = {0} if not path else {path[-2] + 1} if path[-1] == 0 else {path[-2], path[-2] + 1}
            longer += [(*path, s, a) for s in {min(s, 4) for s in states} for a in (0, 1)]
        possible = longer
    assert len(np.unique(paths, axis=0)) == len(possible)
    assert crl.RIS(5).estimate(data, crl.PolicyValue(domain.target(), horizon=5)).value == pytest.approx(2.0, abs=1e-12)


GRID = {
    "IS": crl.IS(),
    "WIS": crl.WIS(),
    "PDIS": crl.PDIS(),
    "RIS": crl.RIS(),
    "WRIS": crl.RIS(normalized=True),
    "PD-RIS": crl.PDIS(behavior=crl.Counts()),
}
GRID_ERRORS = {"off": (6.1, 0.142, 1.94, 0.97, 0.069, 0.43), "on": (0.69, 0.69, 0.69, 0.245, 0.250, 0.238)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")
@pytest.mark.parametrize("case", ["off", "on"])
def test_gridworld_of_hanna(case: str) -> None:
    """Figure 2 at n = 1000 in numbers, within 35%: estimated propensities help even on-policy."""
    domain = Gridworld(goal_reward=100)
    target = domain.target() if case == "off" else domain.behavior()
    goal = crl.PolicyValue(target, horizon=domain.horizon)
    truth = domain.value(target, domain.horizon)
    errors = dict.fromkeys(GRID, 0.0)
    for seed in range(100):
        data = domain.sample(1_000, domain.behavior(), horizon=domain.horizon, seed=seed)
        for name, estimator in GRID.items():
            errors[name] += (estimator.estimate(data, goal).value - truth) ** 2 / 100
    for name, published in zip(GRID, GRID_ERRORS[case], strict=True):
        assert errors[name] == pytest.approx(published, rel=0.35), (name, errors)
    assert errors["RIS"] < 0.6 * errors["IS"]
