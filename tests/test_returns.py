"""Variance and distribution of the return against enumeration of every trajectory and published shares of outcomes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalrl.errors import DataError, EstimandError
from causalrl.policies import TabularPolicy
from simulators import SepsisSimulator, TabularMDP
from simulators.mdp import returns
from simulators.mdp.dynamics import Dynamics
from simulators.mdp.returns import ReturnDistribution, return_distribution, return_variance


@dataclass(frozen=True, eq=False)
class Problem:
    """Dense transitions (S, A, S) and rewards (S, A, S), start (S,), policy (H, S, A); the last state is the end."""

    transitions: np.ndarray
    rewards: np.ndarray
    initial: np.ndarray
    tables: np.ndarray
    discount: float

    @classmethod
    def random(cls, seed: int, horizon: int = 4, discount: float = 0.9, levels: int = 0) -> Problem:
        """3 states and 2 actions; rewards are normal, or integers below `levels`."""
        rng = np.random.default_rng(seed)
        transitions = rng.dirichlet(np.ones(3), (3, 2))
        rewards = rng.integers(0, levels, (3, 2, 3)).astype(float) if levels else rng.normal(size=(3, 2, 3))
        return cls(transitions, rewards, np.append(rng.dirichlet(np.ones(2)), 0.0), rng.dirichlet([1, 1], (horizon, 3)), discount)

    @property
    def arguments(self) -> tuple:
        terminal = np.arange(len(self.initial)) == len(self.initial) - 1
        horizon = len(self.tables)
        return Dynamics.from_dense(self.transitions, self.rewards), terminal, self.initial, self.tables, horizon, self.discount

    @property
    def value(self) -> float:
        _, terminal, initial, tables, horizon, discount = self.arguments
        process = TabularMDP(self.transitions, self.rewards, initial, terminal)
        return process.value(TabularPolicy(tables), horizon, discount)

    def enumerated(self) -> Iterator[tuple[float, float, int]]:
        """Return, probability and length of every trajectory."""
        growing = [(s, 0, 0.0, p) for s, p in enumerate(self.initial) if p > 0]
        for s, t, total, p in growing:  # the list grows while it is read
            if t == len(self.tables) or s == len(self.initial) - 1:
                yield total, p, t
                continue
            for a, after in product(*map(range, self.transitions.shape[1:])):
                gained = total + self.discount**t * self.rewards[s, a, after]
                growing.append((after, t + 1, gained, p * self.tables[t, s, a] * self.transitions[s, a, after]))


def moments(problem: Problem) -> tuple[float, float]:
    totals, chances, _ = np.array([*problem.enumerated()]).T
    return totals @ chances, (totals - totals @ chances) ** 2 @ chances


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("horizon", "discount"), [(1, 1.0), (4, 1.0), (4, 0.8), (3, 0.0)])
def test_mean_and_variance_are_those_of_all_trajectories(seed: int, horizon: int, discount: float) -> None:
    problem = Problem.random(seed, horizon, discount)
    mean, variance = moments(problem)
    distribution = return_distribution(*problem.arguments)
    np.testing.assert_allclose([distribution.mean, problem.value], mean, atol=1e-13)
    np.testing.assert_allclose([distribution.variance, return_variance(*problem.arguments)], variance, atol=1e-13)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("discount", [1.0, 0.5, 0.7])
def test_distribution_is_that_of_all_trajectories(seed: int, discount: float) -> None:
    problem = Problem.random(seed, 4, discount, levels=3)
    expected: dict[float, float] = defaultdict(float)
    for total, p, _ in problem.enumerated():
        expected[round(total, 9)] += p
    distribution = return_distribution(*problem.arguments)
    assert (np.diff(distribution.values) > 0).all()
    np.testing.assert_allclose(distribution.values, sorted(expected), atol=1e-9)
    np.testing.assert_allclose(distribution.probabilities, [expected[total] for total in sorted(expected)], atol=1e-14)


@given(st.integers(0, 10**6), st.integers(1, 9), st.floats(0, 1))
def test_both_ways_give_one_variance(seed: int, horizon: int, discount: float) -> None:
    problem = Problem.random(seed, horizon, discount, levels=2)
    distribution = return_distribution(*problem.arguments)
    assert distribution.probabilities.sum() == pytest.approx(1, abs=1e-13)
    assert distribution.mean == pytest.approx(problem.value, abs=1e-11)
    assert distribution.variance == pytest.approx(return_variance(*problem.arguments), abs=1e-11)


def test_hand_computed_variance() -> None:
    """Two fair coins worth 1 and 1/2: 1/4 + 1/16, where the return has four values."""
    problem = Problem(
        np.array([[[0.5, 0.5, 0.0]], [[0.5, 0.5, 0.0]], [[0.0, 0.0, 1.0]]]),
        np.tile([0.0, 1.0, 0.0], (3, 1, 1)),
        *(np.array([1.0, 0.0, 0.0]), np.ones((2, 3, 1))),
        discount=0.5,
    )
    assert return_variance(*problem.arguments) == 0.3125
    distribution = return_distribution(*problem.arguments)
    np.testing.assert_array_equal(distribution.values, [0.0, 0.5, 1.0, 1.5])
    np.testing.assert_array_equal(distribution.probabilities, [0.25] * 4)


def test_reward_variance_is_that_of_independent_noise() -> None:
    """Each reward r becomes r - 2 or r + 2 with probability 1/2."""
    dynamics, *rest = Problem.random(1).arguments
    doubled = [np.repeat(entries, 2) for entries in (dynamics.successors, dynamics.probabilities / 2, dynamics.rewards)]
    doubled[2] += np.tile([-2.0, 2.0], len(dynamics.rewards))
    noisy = Dynamics(3, 2 * dynamics.indptr, *doubled)
    assert return_variance(dynamics, *rest, 4.0) == pytest.approx(return_variance(noisy, *rest), rel=1e-13)
    assert return_variance(noisy, *rest) == pytest.approx(return_distribution(noisy, *rest).variance, rel=1e-12)


def test_rewards_of_decisions() -> None:
    """Reward 1 a decision: the return at discount 1 is the length, whatever the transitions pay."""
    problem = Problem.random(5, 6)
    counted = replace(problem, rewards=np.ones((3, 2, 3)), discount=1.0)
    lengths = np.zeros(7)
    for _, p, length in counted.enumerated():
        lengths[length] += p
    distribution = return_distribution(*counted.arguments)
    np.testing.assert_array_equal(distribution.values, np.arange(1.0, 7.0))
    np.testing.assert_allclose(distribution.probabilities, lengths[1:], atol=1e-14)


def test_returns_that_differ_by_rounding_are_one_atom() -> None:
    """0.1 + 0.2 and 0.2 + 0.1 + 0 and 0.3 differ in the last bit; in units of 1e-15 they are still three values."""
    stay, pay = np.tile(np.eye(1), (1, 3, 1)), np.array([[[0.1], [0.2], [0.3]]])
    arguments = (np.zeros(1, bool), np.ones(1), np.full((1, 1, 3), 1 / 3), 6, 1.0)
    for unit in (1.0, 1e-15, 1e15):
        distribution = return_distribution(Dynamics.from_dense(stay, unit * pay), *arguments)
        np.testing.assert_allclose(distribution.values, unit * np.arange(6, 19) / 10, rtol=1e-12)
        assert distribution.mean == pytest.approx(1.2 * unit, rel=1e-12)


def test_atoms_without_mass_are_dropped() -> None:
    problem = Problem.random(3, 3, 1.0)
    one_action = replace(problem, tables=np.tile([1.0, 0.0], (3, 3, 1)))
    distribution = return_distribution(*one_action.arguments)
    assert (distribution.probabilities > 0).all()
    assert len(distribution.values) < len(return_distribution(*problem.arguments).values)


def sepsis_arguments(table: np.ndarray, horizon: int, discount: float, version: str = "v1") -> tuple:
    mdp = SepsisSimulator(version).mdp
    return mdp.dynamics, mdp.terminal, mdp.initial, table[None], horizon, discount


# v1 over 20 steps: death, no outcome, discharge, mean length (reference values computed from the published rules).
OUTCOMES = {
    "physician": (".120", ".449", ".432", "13.37"),
    "episodic": (".020", ".530", ".450", "14.35"),
    "uniform": (".812", ".134", ".054", "8.74"),
}


@pytest.mark.parametrize("name", OUTCOMES)
def test_sepsis_outcomes(name: str) -> None:
    simulator = SepsisSimulator("v1")
    table = {
        "physician": lambda: simulator.physician(0.05, 0.99).table,
        "episodic": lambda: simulator.optimal_policy(0.99).table,
        "uniform": lambda: np.full((1440, 8), 1 / 8),
    }[name]()
    dynamics, *rest = sepsis_arguments(table, 20, 1.0)
    outcome = return_distribution(dynamics, *rest)
    length = return_distribution(replace(dynamics, rewards=np.ones(len(dynamics.rewards))), *rest)
    np.testing.assert_array_equal(outcome.values, [-1.0, 0.0, 1.0])
    np.testing.assert_array_equal(length.values, np.arange(1.0, 21.0))
    for number, printed in zip((*outcome.probabilities, length.mean), OUTCOMES[name], strict=True):
        assert number == pytest.approx(float(printed), abs=0.501 * 10.0 ** -len(printed.split(".")[1]))


def test_discounted_sepsis_has_an_atom_for_each_outcome_and_time() -> None:
    simulator = SepsisSimulator()
    policy = simulator.physician(0.15, 0.99)
    arguments = sepsis_arguments(policy.table, 20, 0.99, "v2")
    started = time.perf_counter()
    distribution = return_distribution(*arguments)
    assert time.perf_counter() - started < 1
    powers = 0.99 ** np.arange(20)
    np.testing.assert_allclose(distribution.values, np.sort([*-powers, 0.0, *powers]), rtol=1e-14)
    assert distribution.mean == pytest.approx(simulator.value(policy, 20, 0.99), abs=1e-14)
    assert distribution.variance == pytest.approx(return_variance(*arguments), rel=1e-13)


def test_sampled_returns_have_this_distribution() -> None:
    simulator, n = SepsisSimulator(), 50_000
    policy = simulator.physician(0.15, 0.99)
    data = simulator.sample(n, policy, horizon=20, seed=3)
    sampled = np.add.reduceat(data.rewards, data.offsets[:-1])
    distribution = return_distribution(*sepsis_arguments(policy.table, 20, 1.0, "v2"))
    shares = np.array([(sampled == value).mean() for value in distribution.values])
    assert shares.sum() == 1
    errors = np.sqrt(distribution.probabilities * (1 - distribution.probabilities) / n)
    assert (np.abs(shares - distribution.probabilities) < 4 * errors).all()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 10**6))
def test_quantile_and_cvar_against_sorted_copies(copies: list[int], seed: int) -> None:
    """Each atom as so many equally likely returns; numpy's inverted_cdf quantile, and the mean of the lowest k."""
    rng = np.random.default_rng(seed)
    values = np.sort(rng.normal(size=len(copies)))
    expanded, count = np.repeat(values, copies), sum(copies)
    distribution = ReturnDistribution(values, np.array(copies) / count)
    levels = (np.arange(count) + 0.5) / count
    np.testing.assert_array_equal(distribution.quantile(levels), np.quantile(expanded, levels, method="inverted_cdf"))
    np.testing.assert_array_equal(distribution.quantile(np.arange(1, count + 1) / count), expanded)
    averages = np.cumsum(expanded) / np.arange(1, count + 1)
    np.testing.assert_allclose([distribution.cvar(k / count) for k in range(1, count + 1)], averages, atol=1e-13)
    half = 0.5 / count
    assert distribution.cvar(half) == pytest.approx(values[0], abs=1e-13)
    between = (averages[0] + 0.5 * expanded[min(1, count - 1)]) / 1.5
    assert distribution.cvar(min(3 * half, 1.0)) == pytest.approx(between, abs=1e-12)


def test_quantile_at_the_ends_and_at_sums_that_round() -> None:
    tenths = ReturnDistribution(np.arange(10.0), np.full(10, 0.1))
    assert 0.1 + 0.1 + 0.1 > 0.3
    assert np.cumsum(tenths.probabilities)[7] < 0.8
    np.testing.assert_array_equal(tenths.quantile(np.arange(11) / 10), [0, *range(10)])
    assert isinstance(tenths.quantile(0.3), float)
    assert tenths.quantile(np.zeros((2, 3))).shape == (2, 3)
    faint = ReturnDistribution(np.array([-9.0, 0.0, 9.0]), np.array([1e-20, 1.0, 1e-20]))
    assert [faint.quantile(p) for p in (0.0, 1e-20, 1e-19, 0.5, 1.0)] == [-9.0, -9.0, 0.0, 0.0, 9.0]
    assert (tenths.cvar(1.0), tenths.mean) == pytest.approx((4.5, 4.5), abs=1e-14)


def test_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    dynamics, terminal, initial, tables, horizon, discount = Problem.random(0).arguments
    process = (dynamics, terminal, initial, tables)
    for compute in (return_variance, return_distribution):
        with pytest.raises(EstimandError, match="horizon: -1"):
            compute(*process, -1, discount)
        with pytest.raises(EstimandError, match="horizon: None; "):
            compute(*process, None, discount)
        with pytest.raises(EstimandError, match=r"discount: -0\.1"):
            compute(*process, horizon, -0.1)
    with pytest.raises(DataError, match="reward_variance: -1"):
        return_variance(*process, horizon, discount, -1)
    distribution = return_distribution(*process, horizon, discount)
    for p in (-0.1, 1.1, np.nan, [0.5, 2.0]):
        with pytest.raises(DataError, match=r"p: .* is not in \[0, 1\]"):
            distribution.quantile(p)
    for alpha in (0.0, 1.1, np.nan):
        with pytest.raises(DataError, match="alpha"):
            distribution.cvar(alpha)
    monkeypatch.setattr(returns, "MOST_ATOMS", 100)
    with pytest.raises(EstimandError, match=r"more than 100\. Shorten the horizon, round the rewards"):
        return_distribution(*process, horizon, discount)
