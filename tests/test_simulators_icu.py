"""`ICUSepsis` against the values computed from the matrices that the package icu-sepsis ships."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

import simulators.assets
import simulators.icu_sepsis
from causalrl.errors import DataError, EstimandError, MissingExtraError, PolicyError
from causalrl.policies import TabularPolicy, Uniform
from simulators import ICUSepsis

LIVE = np.arange(716) < 713


@cache
def icu(inadmissible: str = "mean") -> ICUSepsis:
    return ICUSepsis(inadmissible)  # type: ignore[arg-type]


def shipped(name: str) -> np.ndarray:
    with np.load(simulators.icu_sepsis.assets_path() / "dynamics.npz", allow_pickle=False) as file:
        return file[name]


@pytest.fixture(scope="module")
def transitions() -> np.ndarray:
    return shipped("tx_mat")


# Published return and length; exact value.
PUBLISHED = {"uniform": (0.78, 9.45, 0.780071), "expert": (0.78, 9.22, None), "optimal": (0.88, 10.99, 0.875142)}


def test_published_baselines() -> None:
    simulator, baselines = icu(), icu().baselines()
    assert list(baselines) == list(PUBLISHED)
    for name, (published, length, exact) in PUBLISHED.items():
        value = simulator.value(baselines[name])
        assert value == pytest.approx(published, rel=0, abs=0.005)
        assert exact is None or value == pytest.approx(exact, rel=0, abs=1e-6)
        assert simulator.occupancy(baselines[name]).sum() == pytest.approx(length, rel=0, abs=0.05)
        assert simulator.value(baselines[name], 500) == pytest.approx(value, abs=1e-9)  # the authors' limit is never felt


def test_shape() -> None:
    mdp = ICUSepsis().mdp
    assert (mdp.n_states, mdp.n_actions) == (716, 25)
    assert (mdp.initial > 0).sum() == 712
    assert np.flatnonzero(mdp.terminal).tolist() == [713, 714, 715]
    assert np.diff(mdp.dynamics.indptr).mean() == pytest.approx(85.4, abs=0.05)
    assert mdp.state_features is not None
    assert mdp.state_features.shape == (716, 47)
    assert list(ICUSepsis().views) == ["full"]


def test_admissible_actions() -> None:
    admissible = icu().admissible
    counts = admissible.sum(axis=1)
    assert admissible.shape == (716, 25)
    assert (counts >= 1).all()
    assert (counts[LIVE] == 1).sum() == 237
    assert counts.mean() == pytest.approx(3.23, abs=5e-3)  # of all 716 states; 3.14 of the live ones
    assert counts[~LIVE].tolist() == [25] * 3


@pytest.mark.slow
def test_mean_mode_takes_the_mean_of_the_admissible_rows(transitions: np.ndarray) -> None:
    for state, admissible in enumerate(icu().admissible[LIVE]):
        mean = transitions[state, admissible].mean(axis=0)
        assert np.abs(transitions[state, ~admissible] - mean).max() < 1e-14
    distinct = [len(np.unique(transitions[state].round(12), axis=0)) for state in range(713)]
    assert np.mean(distinct) == pytest.approx(3.8, abs=0.05)


def test_rewards_are_paid_on_survival(transitions: np.ndarray) -> None:
    state, action, successor = np.nonzero(transitions[:713])
    np.testing.assert_array_equal(shipped("r_mat")[state, action, successor], successor == 714)


def test_the_expert_takes_inadmissible_actions_everywhere() -> None:
    expert = icu().expert()
    mass = (expert.table * ~icu().admissible).sum(axis=1)[LIVE]
    assert (mass > 0).sum() == 713
    assert mass.mean() == pytest.approx(0.156, abs=5e-4)
    assert mass.max() == pytest.approx(0.877, abs=5e-4)
    visits = icu().occupancy(expert)
    assert (visits * ~icu().admissible).sum() / visits.sum() == pytest.approx(0.121, abs=5e-4)


def test_ties_in_mode_mean_may_be_inadmissible() -> None:
    """Where an action is aliased to the only admissible one, the lowest index wins."""
    best = icu().baselines()["optimal"].table.argmax(axis=1)[LIVE]
    forbidden = ~icu().admissible[np.flatnonzero(LIVE), best]
    assert 0 < forbidden.sum() < 25
    assert (icu().admissible[LIVE][forbidden].sum(axis=1) == 1).all()


@pytest.mark.parametrize("name", ["uniform", "expert", "optimal"])
def test_terminate_against_a_naive_programme(name: str, transitions: np.ndarray) -> None:
    """An inadmissible action is death, so only admissible mass counts."""
    policy = icu("terminate").baselines()[name]
    step = np.einsum("sa,sat->st", np.where(icu().admissible, policy.table, 0.0), transitions)
    values = np.zeros(716)
    for horizon in range(1, 13):
        values = np.where(LIVE, step @ (values + (np.arange(716) == 714)), 0.0)
        assert icu("terminate").value(policy, horizon) == pytest.approx(shipped("d_0") @ values, abs=1e-12)
    assert icu("terminate").value(policy) <= icu("mean").value(policy) + 1e-12


def test_modes_order_the_values() -> None:
    """What is inadmissible helps nobody in any mode, so the best value is the same in all three."""
    optima = [icu(mode).value(icu(mode).optimal_policy(1.0)) for mode in ("mean", "terminate", "raise_exception")]
    np.testing.assert_allclose(optima, 0.875142, rtol=0, atol=1e-6)
    np.testing.assert_allclose(optima, optima[0], rtol=0, atol=1e-12)
    uniform, expert = (icu("terminate").value(icu().baselines()[name]) for name in ("uniform", "expert"))
    assert uniform < expert < icu("mean").value(icu().expert())


@pytest.mark.parametrize(("discount", "horizon"), [(1.0, None), (0.9, None), (0.0, None), (1.0, 1), (1.0, 5)])
def test_the_optimum_of_mode_raise_exception_is_admissible(discount: float, horizon: int | None) -> None:
    simulator = icu("raise_exception")
    best = simulator.optimal_policy(discount, horizon)
    assert not (best.table * ~simulator.admissible).any()
    value = icu("terminate").value(icu("terminate").optimal_policy(discount, horizon), horizon, discount)
    assert simulator.value(best, horizon, discount) == pytest.approx(value, abs=1e-12)
    q = simulator.q(best, horizon, discount)
    assert (q[..., ~simulator.admissible] == 0).all()
    assert (q >= 0).all()


def test_admissible_policies_have_one_value_in_all_modes() -> None:
    table = np.where(icu().admissible, icu().expert().table, 0.0)
    policy = TabularPolicy(table / table.sum(axis=1, keepdims=True))
    values = [icu(mode).value(policy) for mode in ("mean", "terminate", "raise_exception")]
    np.testing.assert_allclose(values, values[0], rtol=0, atol=1e-12)
    assert (
        icu("raise_exception").sample(200, policy, 500, seed=1).fingerprint == icu().sample(200, policy, 500, seed=1).fingerprint
    )


CALLS: dict[str, Callable[[Any, Any], object]] = {
    "value": lambda simulator, policy: simulator.value(policy),
    "finite value": lambda simulator, policy: simulator.value(policy, 5, 0.9),
    "q": lambda simulator, policy: simulator.q(policy),
    "occupancy": lambda simulator, policy: simulator.occupancy(policy, 5),
    "sample": lambda simulator, policy: simulator.sample(5, policy, 5),
    "another seeing": lambda simulator, policy: simulator.value(policy, 5, sees="full"),
}


@pytest.mark.parametrize("call", CALLS)
def test_mode_raise_exception_refuses_inadmissible_mass(call: str) -> None:
    simulator = icu("raise_exception")
    with pytest.raises(
        PolicyError, match=r"action 0 in state 0 \(probability 0.04\).* only \[5, 10, 15, 20\] are allowed; set the others to 0"
    ):
        CALLS[call](simulator, Uniform(25))
    with pytest.raises(PolicyError, match=r"in state 0 .*choose a mode of the simulator in which every action has an effect"):
        CALLS[call](simulator, simulator.expert())
    late = np.repeat(simulator.optimal_policy(1.0).table[None], 5, axis=0)
    late[3, 7] = 1 / 25
    if call not in ("value", "q"):
        with pytest.raises(PolicyError, match="in state 7 "):
            CALLS[call](simulator, TabularPolicy(late))


@pytest.mark.parametrize("mode", ["mean", "terminate"])
def test_sampled_returns(mode: str) -> None:
    data = icu(mode).sample(20_000, icu().expert(), horizon=500, seed=3)
    survived = np.add.reduceat(data.rewards, data.offsets[:-1])
    value = icu(mode).value(icu().expert(), 500)
    assert abs(survived.mean() - value) < 4 * survived.std() / np.sqrt(data.n)


def test_errors_name_the_mend() -> None:
    with pytest.raises(DataError, match="inadmissible: 'raise'; pass 'mean', 'terminate' or 'raise_exception'"):
        icu("raise")
    with pytest.raises(PolicyError, match="713 states and 25 actions, the process has 716"):
        icu().value(TabularPolicy(np.full((713, 25), 1 / 25)))
    with pytest.raises(EstimandError, match="record: 'observed'; pass 'full'"):
        icu().sample(5, Uniform(25), 5, record="observed")


def test_its_code_is_never_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "icu_sepsis", raising=False)
    simulators.icu_sepsis._process.cache_clear()
    ICUSepsis().value(Uniform(25), 1)
    assert "icu_sepsis" not in sys.modules


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulators.assets, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"causalrl-ope\[data\]"):
        ICUSepsis()
