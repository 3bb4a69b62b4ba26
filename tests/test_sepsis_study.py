"""The protocol of Oberst & Sontag (2019) against a naive one, patient by patient, as their section and code describe it."""

from __future__ import annotations

import numpy as np
import pytest

import causalrl as crl
from benchmarks.sepsis_study import DISCOUNT, HORIZON, ImaginedPatients, SepsisStudy, outcomes

HIDDEN, FULL = SepsisStudy("observed", "projected"), SepsisStudy("full", "full")
Steps = list[tuple[int, int, int]]


def patients(data: crl.Trajectories) -> list[tuple[Steps, float]]:
    """(state, action, next state) of every step, and the return."""
    found = []
    for i in range(data.n):
        rows = slice(data.offsets[i], data.offsets[i + 1])
        states = [*data.observations[rows].tolist(), int(data.final_observations[i])]  # type: ignore[index]
        found.append((list(zip(states, data.actions[rows].tolist(), states[1:], strict=False)), float(data.rewards[rows].sum())))
    return found


def naive_model(data: crl.Trajectories, projection: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(A, N, N) transitions, (N,) reward of entering a state, (S, A) counts of the propensities; death and discharge are last."""
    n_states = projection.max() + 1
    counts, last = np.zeros((8, n_states + 2, n_states + 2)), {}
    for steps, total in patients(data):
        for s, a, after in steps:
            counts[a, projection[s], projection[after]] += 1
        if total:
            last[steps[-1][2]] = total
    for state, total in last.items():
        counts[:, projection[state], n_states + int(total > 0)] += 1
    propensity_counts = counts[:, :n_states].sum(axis=2).T
    counts[:, n_states, n_states] = counts[:, n_states + 1, n_states + 1] = 1
    counts[:, :, n_states][counts.sum(axis=2) == 0] = 1
    return counts / counts.sum(axis=2, keepdims=True), np.append(np.zeros(n_states), [-1.0, 1.0]), propensity_counts


def backed_up(law: np.ndarray, entering: np.ndarray, value: np.ndarray, discount: float) -> np.ndarray:
    """(A, N)."""
    q = law @ (entering + discount * value)
    q[:, -2:] = 0.0
    return q


def value_iteration(law: np.ndarray, entering: np.ndarray) -> np.ndarray:
    """(A, N) of the best policy."""
    value = np.zeros(len(entering))
    for _ in range(4000):
        value = backed_up(law, entering, value, DISCOUNT).max(axis=0)
    return backed_up(law, entering, value, DISCOUNT)


def naive_wis(data: crl.Trajectories, projection: np.ndarray, counts: np.ndarray, policy: np.ndarray) -> float:
    weights, returns = [], []
    for steps, total in patients(data):
        ratios = [policy[projection[s], a] / (counts[projection[s], a] / counts[projection[s]].sum()) for s, a, _ in steps]
        weights.append(np.prod(ratios))
        returns.append(total)
    return float(np.average(returns, weights=weights))


@pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning")
@pytest.mark.parametrize("seed", range(3))
def test_the_learner_is_the_naive_one(seed: int) -> None:
    data = HIDDEN.sample(seed)
    planned = HIDDEN.learn(data)
    policy = planned.policy()
    law, entering, counts = naive_model(data, HIDDEN.projection)
    q = value_iteration(law, entering)[:, :144]
    chosen = policy.table.argmax(axis=1)
    np.testing.assert_allclose(q[chosen, np.arange(144)], q.max(axis=0), atol=1e-9)

    value, states = np.zeros(146), np.arange(144)
    for _ in range(HORIZON):
        value = np.append(backed_up(law, entering, value, 1.0)[chosen, states], [0.0, 0.0])
    start = np.bincount(HIDDEN.projection[data.observations[data.offsets[:-1]]], minlength=146) / data.n
    assert planned.value(HIDDEN.goal(policy)) == pytest.approx(start @ value, abs=1e-9)
    assert HIDDEN.weighted(data, policy) == pytest.approx(naive_wis(data, HIDDEN.projection, counts, policy.table), rel=1e-9)


def test_pseudo_counts_change_no_propensity_where_all_is_seen() -> None:
    data = FULL.sample(0)
    seen = FULL.seen_by_learner(data)
    counts = np.zeros((1440, 8))
    np.add.at(counts, (data.observations, data.actions), 1)
    expected = counts[data.observations, data.actions] / counts[data.observations].sum(axis=1)
    np.testing.assert_allclose(seen.behavior_probabilities, expected, rtol=1e-12)  # type: ignore[arg-type]
    assert seen.n_states == 1440


def test_the_imagined_patients() -> None:
    """New ones have the value of the model, those of the records too; a path is that of the records."""
    imagined = ImaginedPatients(HIDDEN, HIDDEN.sample(4), again=5, seed=0)
    value, same, records = imagined.planned.value(imagined.goal), imagined.same, imagined.records
    for sample in (imagined.new, same):
        returns = outcomes(sample) - 1.0
        assert abs(returns.mean() - value) < 4 * returns.std() / np.sqrt(1000)
    np.testing.assert_array_equal(same.observations[same.offsets[:-1]], records.observations[records.offsets[:-1]].repeat(5))
    np.testing.assert_array_equal(outcomes(imagined.data) - 1, [total for _, total in patients(imagined.data)])
    observed, often = imagined.fates()
    np.testing.assert_array_equal(observed, outcomes(imagined.data))
    (_, variables, fate), *others = imagined.paths(7)
    assert len(variables["glucose"]) == imagined.data.lengths[7] + 1
    assert fate == observed[7]
    assert [path[2] for path in others] == outcomes(same)[35:40].tolist()
    assert np.bincount(outcomes(same)[35:40], minlength=3)[often[7]] == max(np.bincount(outcomes(same)[35:40]))


def test_there_is_no_value_where_nobody_was_treated_like_that() -> None:
    data = HIDDEN.sample(0)
    others = crl.TabularPolicy(np.eye(8)[np.full(144, (data.actions[0] + 1) % 8)])
    assert np.isnan(HIDDEN.weighted(data.take([0]), others))
