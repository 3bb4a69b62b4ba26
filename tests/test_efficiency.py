"""`efficiency_bound` against enumeration of every trajectory, the Cramer-Rao bound, and estimators that attain it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import causalrl as crl
from causalrl.errors import DataError, EstimandError, WeightOverflowError
from simulators import CobsGraph, SepsisSimulator
from simulators.mdp.dynamics import Dynamics
from simulators.mdp.efficiency import efficiency_bound
from simulators.mdp.planning import backup, forward_visits
from simulators.mdp.returns import return_variance, state_values

MODELS = ("history", "markov", "homogeneous")


@dataclass(frozen=True, eq=False)
class Problem:
    """Dense arrays: transitions (S, A, S), rewards (S, A, S), start (S,), policies (H, S, A); the last state is the end."""

    transitions: np.ndarray
    rewards: np.ndarray
    initial: np.ndarray
    target: np.ndarray
    behavior: np.ndarray
    discount: float

    @classmethod
    def random(cls, seed: int, n_states: int = 3, n_actions: int = 2, horizon: int = 3, discount: float = 0.9) -> Problem:
        rng = np.random.default_rng(seed)
        transitions = rng.dirichlet(np.ones(n_states), (n_states, n_actions))
        initial = np.append(rng.dirichlet(np.ones(n_states - 1)), 0.0)
        target, behavior = (0.8 * rng.dirichlet(np.ones(n_actions), (horizon, n_states)) + 0.2 / n_actions for _ in range(2))
        return cls(transitions, rng.normal(size=transitions.shape), initial, target, behavior, discount)

    @property
    def horizon(self) -> int:
        return len(self.target)

    @cached_property
    def terminal(self) -> np.ndarray:
        return np.arange(len(self.initial)) == len(self.initial) - 1

    @cached_property
    def dynamics(self) -> Dynamics:
        return Dynamics.from_dense(self.transitions, self.rewards)

    def bound(self, model: str, reward_variance: float = 0.0) -> float:
        return efficiency_bound(
            *(self.dynamics, self.terminal, self.initial, self.target, self.behavior, self.horizon, self.discount, model),
            reward_variance,
        )

    def values(self, transitions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Naive V (H + 1, S) and Q (H, S, A) of the target under other transitions, which may be complex."""
        v = np.zeros((self.horizon + 1, len(self.initial)), transitions.dtype)
        q = np.zeros((self.horizon, *transitions.shape[:2]), transitions.dtype)
        for t in reversed(range(self.horizon)):
            for s, a, after in product(*map(range, transitions.shape)):
                if not self.terminal[s]:
                    q[t, s, a] += transitions[s, a, after] * (self.rewards[s, a, after] + self.discount * v[t + 1, after])
            v[t] = (self.target[t] * q[t]).sum(axis=1)
        return v, q

    @cached_property
    def trajectories(self) -> list[tuple[list[tuple[int, int, int]], float, np.ndarray]]:
        """Every trajectory: its steps (s, a, s'), its probability under the behaviour and its cumulative ratios."""
        done = []
        growing: list[tuple[list[tuple[int, int, int]], float, list[float], int]] = [
            ([], p, [], s) for s, p in enumerate(self.initial) if p > 0
        ]
        for steps, p, ratios, s in growing:  # the list grows while it is read
            t = len(steps)
            if t == self.horizon or self.terminal[s]:
                done.append((steps, p, np.array(ratios)))
                continue
            for a, after in product(*map(range, self.transitions.shape[1:])):
                ratio = (ratios[-1] if ratios else 1.0) * self.target[t, s, a] / self.behavior[t, s, a]
                chance = p * self.behavior[t, s, a] * self.transitions[s, a, after]
                growing.append(([*steps, (s, a, after)], chance, [*ratios, ratio], after))
        return done

    @cached_property
    def visits(self) -> tuple[np.ndarray, np.ndarray]:
        """(H, S, A) probabilities of each decision under behaviour and target, by summing over trajectories."""
        logged, wanted = np.zeros((2, *self.target.shape))
        for steps, p, ratios in self.trajectories:
            for t, (s, a, _) in enumerate(steps):
                logged[t, s, a] += p
                wanted[t, s, a] += p * ratios[-1]
        return logged, wanted

    def influence_variance(self, markov: bool) -> float:
        """Variance of V(s_0) + sum_t discount^t w_t (r_t + discount V_{t+1} - Q_t), by summing over trajectories."""
        v, q = self.values(self.transitions)
        logged, wanted = self.visits
        scores, chances = [], []
        for steps, p, ratios in self.trajectories:
            score = v[0, steps[0][0]]
            for t, (s, a, after) in enumerate(steps):
                weight = wanted[t, s, a] / logged[t, s, a] if markov else ratios[t]
                score += self.discount**t * weight * (self.rewards[s, a, after] + self.discount * v[t + 1, after] - q[t, s, a])
            scores.append(score)
            chances.append(p)
        mean = np.dot(chances, scores)
        assert mean == pytest.approx(self.initial @ v[0], abs=1e-12)
        return float(np.dot(chances, (np.array(scores) - mean) ** 2))

    def cramer_rao(self) -> float:
        """g' I^-1 g over all free probabilities of start and transitions; the last one of each row is 1 minus the others.

        The gradient g is a complex step, and the information I of one trajectory the mean of score times score over all
        trajectories.
        """
        live, shape = len(self.initial) - 1, self.transitions[:-1].shape
        full = np.concatenate([self.initial[:live], self.transitions[:-1].reshape(-1)])
        rows = [list(range(live)), *(np.arange(full.size - live).reshape(-1, shape[2]) + live).tolist()]
        free = np.zeros((full.size, full.size - len(rows)))  # derivative of all probabilities by the free ones
        for column, (k, last) in enumerate((k, row[-1]) for row in rows for k in row[:-1]):
            free[k, column], free[last, column] = 1.0, -1.0
        gradient = np.array([self._value_at(full + 1e-30j * direction).imag / 1e-30 for direction in free.T])
        chances = np.array([p for _, p, _ in self.trajectories])
        counts = np.zeros((len(chances), full.size))
        for row, (steps, _, _) in zip(counts, self.trajectories, strict=True):
            row[steps[0][0]] += 1
            for s, a, after in steps:
                row[live + np.ravel_multi_index((s, a, after), shape)] += 1
        scores = counts / full @ free
        return float(gradient @ np.linalg.solve(scores.T * chances @ scores, gradient))

    def _value_at(self, full: np.ndarray) -> complex:
        live = len(self.initial) - 1
        transitions = self.transitions.astype(complex)
        transitions[:-1] = full[live:].reshape(transitions[:-1].shape)
        return full[:live] @ self.values(transitions)[0][0, :live]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("discount", [1.0, 0.7])
@pytest.mark.parametrize("model", ["history", "markov"])
def test_is_the_variance_of_the_efficient_influence_function(seed: int, discount: float, model: str) -> None:
    problem = Problem.random(seed, discount=discount)
    assert problem.bound(model) == pytest.approx(problem.influence_variance(model == "markov"), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("discount", [1.0, 0.7])
def test_homogeneous_is_the_cramer_rao_bound_of_multinomials(seed: int, discount: float) -> None:
    problem = Problem.random(seed, discount=discount)
    assert problem.bound("homogeneous") == pytest.approx(problem.cramer_rao(), abs=1e-8)


def split_rewards(dynamics: Dynamics, spread: float) -> Dynamics:
    """Every reward r becomes r - spread or r + spread with probability 1/2 each."""
    twice = [np.repeat(entries, 2) for entries in (dynamics.successors, dynamics.probabilities / 2, dynamics.rewards)]
    twice[2] += np.tile([-spread, spread], len(dynamics.rewards))
    return Dynamics(dynamics.n_states, 2 * dynamics.indptr, *twice)


@pytest.mark.parametrize("model", MODELS)
def test_reward_variance_is_that_of_independent_noise(model: str) -> None:
    problem = Problem.random(7)
    rest = (problem.terminal, problem.initial, problem.target, problem.behavior, 3, 0.9, model)
    noisy = efficiency_bound(split_rewards(problem.dynamics, 1.5), *rest)
    assert problem.bound(model, 1.5**2) == pytest.approx(noisy, rel=1e-13)
    assert noisy > problem.bound(model) + 1


@pytest.mark.parametrize("seed", range(3))
def test_horizon_one_is_hahns_bound(seed: int) -> None:
    problem = Problem.random(seed, n_states=5, n_actions=3, horizon=1)
    p, r = problem.transitions, problem.rewards
    mean = (p * r).sum(axis=2)
    values = (problem.target[0] * mean).sum(axis=1)
    start = problem.initial @ (values - problem.initial @ values) ** 2
    within = (p * (r - mean[:, :, None]) ** 2).sum(axis=2)
    rho = problem.target[0] / problem.behavior[0]
    hahn = start + problem.initial @ (problem.behavior[0] * rho**2 * (within + 0.5)).sum(axis=1)
    np.testing.assert_allclose([problem.bound(model, 0.5) for model in MODELS], hahn, rtol=1e-13)


@given(st.integers(0, 10**6), st.integers(2, 5), st.integers(1, 3), st.integers(1, 12), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_more_is_known_the_lower_the_bound(seed: int, states: int, actions: int, horizon: int, discount: float) -> None:
    problem = Problem.random(seed, states, actions, horizon, discount)
    history, markov, homogeneous = (problem.bound(model, 0.1) for model in MODELS)
    assert homogeneous <= markov * (1 + 1e-12)
    assert markov <= history * (1 + 1e-12)


@pytest.mark.parametrize("model", ["history", "markov"])
def test_without_a_choice_it_is_the_variance_of_the_return(model: str) -> None:
    problem = Problem.random(3, n_states=4, n_actions=1, horizon=6)
    rest = (problem.terminal, problem.initial, problem.target, 6, 0.9, 0.2)
    assert problem.bound(model, 0.2) == pytest.approx(return_variance(problem.dynamics, *rest), rel=1e-13)


SEPSIS = {"history": "1.32255", "markov": ".64508", "homogeneous": ".63191"}


@pytest.mark.parametrize("model", MODELS)
def test_sepsis(model: str) -> None:
    """Behaviour physician(0.3), target physician(0.15), H = 20, discount 1: the figures that the issue asks for."""
    mdp, (target, behavior) = SepsisSimulator().mdp, sepsis_policies()
    bound = efficiency_bound(
        *(mdp.dynamics, mdp.terminal, mdp.initial, target.table[None], behavior.table[None], 20, 1.0, model),
    )
    assert bound == pytest.approx(float(SEPSIS[model]), abs=5.01e-6)
    assert SepsisSimulator().efficiency_bound(target, behavior, 20, 1.0, model) == bound


@pytest.mark.parametrize("model", SEPSIS)
def test_a_simulator_counts_the_noise_of_its_rewards(model: str) -> None:
    noisy, plain = CobsGraph(reward_noise=1.0), CobsGraph()
    target, behavior = plain.target(), plain.behavior()
    extra = noisy.efficiency_bound(target, behavior, 4, 0.98, model) - plain.efficiency_bound(target, behavior, 4, 0.98, model)
    assert extra > noisy.variance(target, 4, 0.98) - plain.variance(target, 4, 0.98) > 3.5


def sepsis_policies() -> tuple[crl.TabularPolicy, crl.TabularPolicy]:
    return SepsisSimulator().physician(0.15, 0.99), SepsisSimulator().physician(0.3, 0.99)


def test_oracle_scores_attain_the_bounds_on_sepsis() -> None:
    """Per-trajectory scores of DR with the exact Q, and of the same with marginal weights d_t pi / (b_t b)."""
    mdp, (target, behavior), n, horizon = SepsisSimulator().mdp, sepsis_policies(), 100_000, 20
    data = mdp.sample(n, behavior, horizon, seed=5)
    estimate = crl.DR(q=crl.KnownQ(mdp.q(target, horizon))).estimate(data, crl.PolicyValue(target, 1.0, horizon))
    assert_variance(estimate.influence, float(SEPSIS["history"]))
    assert n * float(estimate.stderr) ** 2 == pytest.approx(estimate.influence.var(ddof=1), rel=1e-4)
    assert_variance(marginal_scores(data, target, behavior, horizon), float(SEPSIS["markov"]))


def marginal_scores(data: crl.Trajectories, target: crl.TabularPolicy, behavior: crl.TabularPolicy, horizon: int) -> np.ndarray:
    """(n,) V_0(s_0) + sum_t d_t pi / (b_t b) (r_t + V_{t+1}(s_{t+1}) - Q_t)."""
    mdp = SepsisSimulator().mdp
    parts = (mdp.dynamics, mdp.terminal)
    values = state_values(*parts, target.table[None], horizon, 1.0)
    q = np.stack([backup(*parts, after, 1.0) for after in values[1:]])
    wanted, logged = (forward_visits(*parts, mdp.initial, p.table[None], horizon, 1.0) for p in (target, behavior))
    first, lengths = data.offsets[:-1], np.diff(data.offsets)
    time = np.arange(len(data.actions)) - np.repeat(first, lengths)
    after = np.append(data.observations[1:], 0)
    after[data.offsets[1:] - 1] = data.final_observations
    cell = (time, data.observations, data.actions)
    residual = data.rewards + values[time + 1, after] - q[cell]
    return values[0, data.observations[first]] + np.add.reduceat(wanted[cell] / logged[cell] * residual, first)


def assert_variance(scores: np.ndarray, expected: float) -> None:
    """Within 4 standard errors; that of a variance is sqrt((fourth central moment - variance^2) / n)."""
    squares = (scores - scores.mean()) ** 2
    error = squares.std() / np.sqrt(len(scores))
    assert error < 0.05 * expected
    assert abs(squares.mean() - expected) < 4 * error


CHAIN = Problem(  # against the current; nothing ends
    np.array([[[0.9, 0.1, 0.0], [0.5, 0.5, 0.0]], [[0.5, 0.5, 0.0], [0.1, 0.5, 0.4]], [[0.0, 0.5, 0.5], [0.0, 0.1, 0.9]]]),
    np.tile([[0.0, 1.0, 3.0], [-0.5, 0.5, 2.5]], (3, 1, 1)),
    np.array([0.8, 0.1, 0.1]),
    np.tile([0.2, 0.8], (8, 3, 1)),
    np.tile([0.5, 0.5], (8, 3, 1)),
    discount=0.95,
)


def pooled_counts(problem: Problem, n: int, replications: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Start counts (R, S) and counts of transitions pooled over t (R, S, A, S) of n trajectories, none of which ends."""
    start = rng.multinomial(n, problem.initial, size=replications)
    here, pooled = start, np.zeros((replications, *problem.transitions.shape), np.int64)
    for behavior in problem.behavior:
        decisions = rng.multinomial(here, behavior)
        moves = rng.multinomial(decisions, problem.transitions)
        pooled += moves
        here = moves.sum(axis=(1, 2))
    return start, pooled


def plug_in_values(problem: Problem, start: np.ndarray, pooled: np.ndarray) -> np.ndarray:
    """(R,) the target's value in the fitted models."""
    fitted = pooled / pooled.sum(axis=3, keepdims=True)
    values = np.zeros(start.shape)
    for target in problem.target[::-1]:
        outcomes = problem.rewards + problem.discount * values[:, None, None, :]
        values = (target * (fitted * outcomes).sum(axis=3)).sum(axis=2)
    return (start * values).sum(axis=1) / start.sum(axis=1)


def test_the_pooled_plug_in_attains_the_homogeneous_bound() -> None:
    """3 states, H = 8: n x variance of the maximum-likelihood plug-in, its counts drawn by their exact law."""
    n, replications = 5000, 60_000
    rest = (CHAIN.initial, CHAIN.target, CHAIN.behavior, 8, CHAIN.discount)
    markov, bound = (efficiency_bound(CHAIN.dynamics, np.zeros(3, bool), *rest, model) for model in ("markov", "homogeneous"))
    estimates = plug_in_values(CHAIN, *pooled_counts(CHAIN, n, replications, np.random.default_rng(1)))
    squares = (estimates - estimates.mean()) ** 2
    assert squares.std() / np.sqrt(replications) < 0.0075 * squares.mean()  # 4 standard errors are 3%
    assert n * squares.mean() == pytest.approx(bound, rel=0.03)
    assert markov > 1.15 * bound


@pytest.mark.parametrize("model", MODELS)
def test_no_regular_estimator_where_the_behavior_never_acts(model: str) -> None:
    problem = Problem.random(2)
    never = problem.behavior.copy()
    never[:, 0] = [1.0, 0.0]
    assert replace(problem, behavior=never).bound(model) == np.inf
    target = problem.target.copy()
    target[:, 0] = [1.0, 0.0]
    assert np.isfinite(replace(problem, behavior=never, target=target).bound(model))


def test_another_time_helps_only_where_transitions_do_not_depend_on_it() -> None:
    problem = Problem.random(4)
    target, behavior = problem.target.copy(), problem.behavior.copy()
    target[0], behavior[0] = [0.0, 1.0], [1.0, 0.0]
    switched = replace(problem, target=target, behavior=behavior)
    assert [np.isinf(switched.bound(model)) for model in MODELS] == [True, True, False]


@pytest.mark.parametrize("model", MODELS)
def test_what_cannot_matter_needs_no_support(model: str) -> None:
    """Actions in the terminal state, in states that the target never visits, and after a discount of 0."""
    transitions = np.array([[[0, 0, 1.0]] * 2, [[0.5, 0.0, 0.5]] * 2, [[0, 0, 1.0]] * 2])
    split, never = np.full((3, 3, 2), 0.5), np.full((3, 3, 2), 0.5)
    never[:, 1:] = [1.0, 0.0]
    fields = {"rewards": np.ones((3, 2, 3)), "initial": np.array([1.0, 0.0, 0.0]), "discount": 1.0}
    assert np.isfinite(Problem(transitions, target=split, behavior=never, **fields).bound(model, 1.0))
    late = Problem.random(6, discount=0.0)
    behavior = late.behavior.copy()
    behavior[1:] = [1.0, 0.0]
    undiscounted = replace(late, behavior=behavior)
    assert np.isfinite(undiscounted.bound(model))


@pytest.mark.parametrize("model", MODELS)
def test_a_policy_that_does_not_depend_on_time_is_one_table(model: str) -> None:
    process = (CHAIN.dynamics, np.zeros(3, bool), CHAIN.initial)
    tables = (CHAIN.target[:1], CHAIN.behavior[:1])
    assert efficiency_bound(*process, *tables, 8, 0.95, model) == pytest.approx(
        efficiency_bound(*process, CHAIN.target, CHAIN.behavior, 8, 0.95, model), rel=1e-14
    )


def test_bad_input() -> None:
    process = (CHAIN.dynamics, np.zeros(3, bool), CHAIN.initial, CHAIN.target, CHAIN.behavior)
    with pytest.raises(EstimandError, match=r"model: 'nmdp'; pass 'history', 'markov' or 'homogeneous'\."):
        efficiency_bound(*process, 8, 1.0, "nmdp")
    with pytest.raises(EstimandError, match="horizon: 0"):
        efficiency_bound(*process, 0, 1.0, "markov")
    with pytest.raises(EstimandError, match=r"horizon: None; pass a whole number, at least 1"):
        efficiency_bound(*process, None, 1.0, "markov")
    with pytest.raises(EstimandError, match=r"discount: 1\.5"):
        efficiency_bound(*process, 8, 1.5, "markov")
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(DataError, match="reward_variance"):
            efficiency_bound(*process, 8, 1.0, "markov", bad)


def test_weights_beyond_the_largest_float_are_refused() -> None:
    process = (CHAIN.dynamics, np.zeros(3, bool), CHAIN.initial, CHAIN.target[:1])
    rare = np.tile([0.999, 0.001], (1, 3, 1))
    with pytest.raises(WeightOverflowError, match="Shorten the horizon"):
        efficiency_bound(*process, rare, 400, 1.0, "history")
    assert np.isfinite(efficiency_bound(*process, rare, 400, 1.0, "homogeneous"))
