"""The tables that are sampled hold exactly the law of the process: enumerated slot by slot, never by chance."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalrl.policies import Uniform
from simulators import ICUSepsis, SepsisSimulator, TabularMDP
from simulators.mdp.alias import Alias, alias_table, pick
from simulators.mdp.draws import MOST_ENTRIES, Draws, build_draws
from simulators.mdp.dynamics import Dynamics

SHAPE = (2, 3, 2)
S, A = 12, 2


def outcomes(draws: Draws, row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Next state, reward and probability of everything that the tables of a row can yield."""
    arrivals, chances, slots = np.array([draws.base[row]], np.int64), np.ones(1), np.zeros(0, np.int64)
    for segment in draws.segments[:, row]:
        first, size = int(draws.first[segment]), int(draws.size[segment])
        kept = draws.cut[first : first + size] - np.arange(size)
        shares = np.stack([kept, 1 - kept], axis=1).ravel() / size
        assert (shares >= 0).all()
        slots = np.arange(2 * first, 2 * (first + size))
        arrivals = (arrivals[:, None] + draws.moves[slots]).ravel()
        chances = (chances[:, None] * shares).ravel()
    can = chances > 0
    return arrivals[can], draws.rewards[slots[can] if draws.by_outcome else arrivals[can]], chances[can]


def law(arrivals: np.ndarray, rewards: np.ndarray, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The possible pairs of next state and reward, in order, and their probabilities."""
    pairs, number = np.unique(np.stack([arrivals, rewards], axis=1), axis=0, return_inverse=True)
    return pairs, np.bincount(number.ravel(), chances)


def assert_same_law(dynamics: Dynamics, draws: Draws, every: int = 1) -> None:
    """Each (or every 10th, ...) row: nothing possible that is not, or the reverse, and every probability to 1e-12."""
    for row in range(0, len(dynamics.indptr) - 1, every):
        entries = slice(dynamics.indptr[row], dynamics.indptr[row + 1])
        pairs, chances = law(dynamics.successors[entries], dynamics.rewards[entries], dynamics.probabilities[entries])
        drawn, drawn_chances = law(*outcomes(draws, row))
        np.testing.assert_array_equal(drawn, pairs)
        np.testing.assert_allclose(drawn_chances, chances, rtol=0, atol=2e-12)


def distributions(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random ones along the last axis, a third of whose entries are 0."""
    raw = rng.random(shape) * (rng.random(shape) < 2 / 3)
    raw[..., 0] += raw.sum(axis=-1) == 0
    return raw / raw.sum(axis=-1, keepdims=True)


def independent(rng: np.random.Generator, certain: bool = False) -> np.ndarray:
    """(S, A, S) in which the three features of the next state, in the digits of SHAPE, move independently."""
    one, two, three = (distributions(rng, S, A, levels) for levels in SHAPE)
    if certain:
        one, two, three = (np.eye(levels)[law.argmax(axis=-1)] for levels, law in zip(SHAPE, (one, two, three), strict=True))
    return np.einsum("sai,saj,sak->saijk", one, two, three).reshape(S, A, S)


def features() -> np.ndarray:
    """(S, 3) the digits of SHAPE, with levels that are neither 0, 1, ... nor in order."""
    digits = np.stack(np.unravel_index(np.arange(S), SHAPE), axis=1)
    return np.stack([np.array([7.0, -1.5])[digits[:, 0]], np.array([3, 1, 2])[digits[:, 1]], digits[:, 2]], axis=1)


@given(st.lists(st.sampled_from([0.0, 1e-300, 1e-12, 0.1, 0.3, 0.5, 1.0, 3.0]), min_size=1, max_size=9))
def test_alias_tables_hold_the_probabilities(weights: list[float]) -> None:
    p = np.array(weights) if sum(weights) > 1e-3 else np.append(weights, 1.0)
    p /= p.sum()
    table = alias_table(np.array([0, 2, 2 + len(p)]), np.concatenate([[0.5, 0.5], p]))
    kept = table.cut[2:] - np.arange(len(p))
    shares = np.stack([kept, 1 - kept], axis=1).ravel() / len(p)
    drawn = table.drawn[4:].astype(int) - 2
    assert (shares >= 0).all()
    assert (p[drawn[shares > 0]] > 0).all()
    np.testing.assert_allclose(np.bincount(drawn, shares, len(p)), p, rtol=0, atol=1e-15)


def test_a_pick_stays_in_its_distribution_and_takes_the_frequencies() -> None:
    largest = 1 - 2.0**-53
    for size in [*range(1, 200), 2**20 - 1, 2**20, 2**20 + 1]:
        table = Alias(np.arange(1.0, size + 1), np.repeat(np.arange(size), 2).astype(np.uint32))
        assert table.drawn[pick(table.cut, np.uint64(0), float(size), largest)] == size - 1
        assert table.drawn[pick(table.cut, np.uint64(0), float(size), 0.0)] == 0
    table = alias_table(np.array([0, 4]), np.array([0.1, 0.0, 0.6, 0.3]))
    grid = (np.arange(1000) + 0.5) / 1000
    counts = np.bincount([table.drawn[pick(table.cut, np.uint64(0), 4.0, u)] for u in grid], minlength=4)
    np.testing.assert_allclose(counts, [100, 0, 600, 300], atol=2)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_sepsis_is_drawn_factor_wise_and_exactly(version: str) -> None:
    mdp = SepsisSimulator(version).mdp
    assert len(mdp.draws.segments) == 2
    assert len(mdp.draws.cut) <= 2 * MOST_ENTRIES
    assert_same_law(mdp.dynamics, mdp.draws, every=7)
    assert_same_law(mdp.dynamics, build_draws(mdp.dynamics, None), every=29)


def test_four_vital_signs_are_the_factors_of_sepsis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.mdp.draws.MOST_ENTRIES", 0)
    mdp = SepsisSimulator().mdp
    draws = build_draws(mdp.dynamics, mdp.state_features)
    assert len(draws.segments) == 4
    assert_same_law(mdp.dynamics, draws, every=11)


def test_a_reward_on_leaving_is_drawn_exactly() -> None:
    mdp = SepsisSimulator(reward_on="leaving").mdp
    assert_same_law(mdp.dynamics, mdp.draws, every=7)


@pytest.mark.parametrize("mode", ["mean", "terminate", "raise_exception"])
def test_icu_sepsis_shares_its_rows(mode: str) -> None:
    pytest.importorskip("icu_sepsis")
    mdp = ICUSepsis(mode).mdp
    start = time.perf_counter()
    draws = build_draws(mdp.dynamics, mdp.state_features)
    assert time.perf_counter() - start < 2
    assert len(draws.first) < 0.2 * len(draws.base)
    assert_same_law(mdp.dynamics, draws, every=41)


@pytest.mark.parametrize("form", ["arrival", "decision", "transition"])
@pytest.mark.parametrize("seed", range(4))
def test_random_processes(seed: int, form: str) -> None:
    rng = np.random.default_rng(seed)
    transitions = distributions(rng, S, A, S)
    transitions[3] = np.eye(S)[[5, 0]]
    rewards = rng.normal(size={"arrival": (S,), "decision": (S, A), "transition": (S, A, S)}[form])
    dynamics = Dynamics.from_dense(transitions, rewards)
    for seen in (None, features()):
        draws = build_draws(dynamics, seen)
        assert len(draws.segments) == 1
        assert draws.by_outcome == (form != "arrival")
        assert_same_law(dynamics, draws)


@pytest.mark.parametrize("most", [0, 30, MOST_ENTRIES])
@pytest.mark.parametrize("seed", range(4))
def test_independent_features_are_factors(monkeypatch: pytest.MonkeyPatch, seed: int, most: int) -> None:
    monkeypatch.setattr("simulators.mdp.draws.MOST_ENTRIES", most)
    rng = np.random.default_rng(seed)
    dynamics = Dynamics.from_dense(independent(rng), rng.normal(size=S))
    draws = build_draws(dynamics, features())
    assert len(draws.segments) == 3 if most == 0 else len(draws.segments) <= 3
    assert not draws.by_outcome
    assert_same_law(dynamics, draws)


def test_any_order_of_the_digits_is_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.mdp.draws.MOST_ENTRIES", 0)
    rng = np.random.default_rng(0)
    transitions, seen = independent(rng), features()
    for order, grid in ((np.arange(S).reshape(SHAPE).T.ravel(), True), (np.arange(S)[::-1], True), (rng.permutation(S), False)):
        moved = Dynamics.from_dense(transitions[np.ix_(order, range(A), order)], rng.normal(size=S))
        draws = build_draws(moved, seen[order])
        assert len(draws.segments) == (3 if grid else 1)
        assert_same_law(moved, draws)


def test_what_is_certain_needs_no_factor() -> None:
    rng = np.random.default_rng(1)
    dynamics = Dynamics.from_dense(independent(rng, certain=True), rng.normal(size=S))
    draws = build_draws(dynamics, features())
    assert len(draws.cut) == 1
    assert_same_law(dynamics, draws)


def test_what_only_looks_independent_is_one_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.mdp.draws.MOST_ENTRIES", 0)
    transitions, rewards, seen = independent(np.random.default_rng(2)), np.arange(S), features()
    bent = transitions.copy()
    row = bent[0, 0]
    one, two = np.flatnonzero(row)[:2]
    row[one], row[two] = row[one] + 1e-10, row[two] - 1e-10
    rare = np.full((S, A, S), 0.0)
    rare[..., [0, 1, 2]] = [1 - 2e-7, 1e-7, 1e-7]  # both at once, 1e-14 if they were independent, cannot happen
    cases = (
        (Dynamics.from_dense(rare, rewards), seen),
        (Dynamics.from_dense(bent, rewards), seen),  # nearly a product
        (Dynamics.from_dense(transitions, np.random.default_rng(0).normal(size=(S, A, S))), seen),  # rewards of transitions
        (Dynamics.from_dense(transitions, rewards), seen[:, :2]),  # states that share their features
        (Dynamics.from_dense(transitions, rewards), seen + 0.001 * np.arange(S)[:, None]),  # no grid
    )
    for dynamics, shown in cases:
        draws = build_draws(dynamics, shown)
        assert len(draws.segments) == 1
        assert_same_law(dynamics, draws)


def test_a_transition_stored_twice_is_no_independence() -> None:
    """Two entries for (0, 0) and two for (1, 1): as many as the product of the marginals has, with its probabilities."""
    grid = np.array([*product((0.0, 1.0), repeat=2)])
    dynamics = Dynamics(4, np.arange(0, 20, 4), np.tile([0, 0, 3, 3], 4), np.full(16, 0.25), np.zeros(16))
    assert_same_law(dynamics, build_draws(dynamics, grid))


def test_copies_of_a_process_draw_their_own_law() -> None:
    """A copy made after the tables were built has its own start and end."""
    mdp = TabularMDP([[[0, 1, 0]], [[0, 0, 1]], [[0, 0, 1]]], [0.0, 1.0, 5.0], [1, 0, 0], [False, False, True])
    assert mdp.draws is mdp.draws
    moved, endless = mdp.starting([0, 1, 0]), mdp.continuing()
    assert [mdp.sample(1, Uniform(1), 9).rewards.sum() for mdp in (mdp, moved, endless)] == [6.0, 5.0, 41.0]
