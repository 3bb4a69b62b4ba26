"""What every simulator of the registry promises: samples whose means are the exact values, and the methods of its kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import causalrl as crl
from causalrl.data import End
from causalrl.errors import EstimandError, PolicyError
from simulators import (
    ALL,
    IHDP,
    BinaryInstrument,
    Censored,
    CobsGraph,
    Confounded,
    Design,
    HideVariables,
    Hospitals,
    ICUSepsis,
    Kunzel,
    NieWager,
    SepsisSimulator,
    Simulator,
    TabularSimulator,
    TumourSimulator,
)
from simulators.designs.base import PropensityDesign
from simulators.domain import Domain

VARIANTS = (
    SepsisSimulator("v1"),
    SepsisSimulator(start="uniform", reward_on="leaving"),
    ICUSepsis("terminate"),
    *(NieWager(setup) for setup in "BCD"),
    *(Kunzel(simulation) for simulation in (2, 3, 6)),
    SepsisSimulator() | HideVariables("diabetes", "glucose"),
    SepsisSimulator() | Hospitals(5, 0.5),
    CobsGraph(horizon=16, sparse=True, groups=6),
    CobsGraph(reward_noise=1.0),
    IHDP("B"),
)
EVERY = [simulator() for simulator in ALL] + [*VARIANTS]
N = 20_000


def of_kind(kind: type) -> Any:
    return pytest.mark.parametrize("simulator", [one for one in EVERY if isinstance(one, kind)], ids=repr)


def window(simulator: TabularSimulator) -> tuple[int, float]:
    return (simulator.horizon, simulator.discount) if isinstance(simulator, Domain) else (20, 0.99)


def returns(data: crl.Trajectories, discount: float) -> np.ndarray:
    time = np.arange(len(data.rewards)) - np.repeat(data.offsets[:-1], data.lengths)
    return np.add.reduceat(discount**time * data.rewards, data.offsets[:-1])


@of_kind(TabularSimulator)
def test_sampled_means_are_exact_values(simulator: TabularSimulator) -> None:
    horizon, discount = window(simulator)
    policy = crl.Uniform(simulator.n_actions)
    data = simulator.sample(N, policy, horizon, seed=11, sees="full")
    stderr = np.sqrt(simulator.variance(policy, horizon, discount, sees="full") / N)
    mean = returns(data, discount).mean()
    assert abs(mean - simulator.value(policy, horizon, discount, sees="full")) <= 4 * stderr + 1e-9


@of_kind(TabularSimulator)
def test_tabular_simulators_agree_with_themselves(simulator: TabularSimulator) -> None:
    assert isinstance(simulator, Simulator)
    horizon, discount = window(simulator)
    horizon, policy = min(horizon, 25), crl.Uniform(simulator.n_actions)
    value = simulator.value(policy, horizon, discount)
    visits = simulator.occupancy(policy, horizon, discount)
    assert value == pytest.approx((visits.sum(axis=0) * simulator.mdp.dynamics.mean_rewards).sum(), abs=1e-10)
    assert value == pytest.approx(simulator.mdp.initial @ simulator.q(policy, horizon, discount)[0].mean(axis=1), abs=1e-10)
    if not simulator.mdp.reward_noise and len(np.unique(simulator.mdp.dynamics.rewards)) <= 4:
        law = simulator.return_distribution(policy, horizon, discount)
        expected = (value, simulator.variance(policy, horizon, discount))
        assert (law.mean, law.variance) == pytest.approx(expected, abs=1e-10)
    best = simulator.optimal_policy(discount, horizon)
    assert simulator.value(best, horizon, discount, sees="full") >= value - 1e-12


@of_kind(TabularSimulator)
def test_records_have_the_default_view(simulator: TabularSimulator) -> None:
    horizon, _ = window(simulator)
    policy, view = crl.Uniform(simulator.n_actions), simulator.view()
    data = simulator.sample(50, policy, horizon, seed=3)
    assert (data.n_states, data.n_actions) == (view.n_records, simulator.n_actions)
    assert data.final_observations is not None
    assert (data.lengths[data.end == End.TRUNCATED] == horizon).all()
    assert data.fingerprint == simulator.sample(50, policy, horizon, seed=3).fingerprint
    assert data.fingerprint != simulator.sample(50, policy, horizon, seed=4).fingerprint
    few = simulator.sample(7, policy, horizon, seed=3)
    np.testing.assert_array_equal(few.rewards, data.rewards[: len(few.rewards)])
    for call in (simulator.sample, simulator.value):
        first = (5,) if call == simulator.sample else ()
        with pytest.raises(EstimandError, match="horizon: -1"):
            call(*first, policy, -1)
        with pytest.raises(EstimandError, match="sees: 'nothing'; pass 'full'"):
            call(*first, policy, horizon, sees="nothing")
        with pytest.raises(PolicyError, match="table"):
            call(*first, crl.TabularPolicy(np.full((1441 + 7, simulator.n_actions), 1 / simulator.n_actions)), horizon)


@of_kind(Domain)
def test_the_papers_problem_can_be_evaluated(simulator: Domain) -> None:
    behavior, target = simulator.behavior(), simulator.target()
    data = simulator.sample(2_000, behavior, simulator.horizon, seed=5)
    assert np.isfinite(simulator.value(target, simulator.horizon, simulator.discount))
    assert np.isfinite(returns(data, simulator.discount)).all()


@of_kind(Design)
def test_designs_know_their_arm_means(simulator: Design) -> None:
    study = simulator.sample(747, seed=2)
    means = simulator.outcome_means(study.observations)
    assert means.shape == (747, 2)
    np.testing.assert_allclose(simulator.effect(study.observations), means[:, 1] - means[:, 0])
    assert simulator.value(crl.Always(1)) - simulator.value(crl.Always(0)) == pytest.approx(simulator.ate, abs=1e-12)
    assert study.fingerprint == simulator.sample(747, seed=2).fingerprint
    assert study.fingerprint != simulator.sample(747, seed=3).fingerprint


@of_kind(Design)
def test_sampled_outcomes_have_their_means(simulator: Design) -> None:
    """Given covariates and treatment; where a hidden cause moves both, given the instrument."""
    errors = []
    for seed in range(20):
        study = simulator.sample(747, seed=seed)
        if isinstance(simulator, BinaryInstrument):
            z = study.observations[:, study.feature_names.index("instrument")]
            errors.append((z - 0.5) * (study.rewards - simulator.late * study.actions))
        else:
            errors.append(study.rewards - simulator.outcome_means(study.observations)[np.arange(747), study.actions])
    error = np.concatenate(errors)
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(error))


@of_kind(PropensityDesign)
def test_sampled_arm_means_are_exact(simulator: PropensityDesign) -> None:
    study = simulator.sample(50_000, seed=4)
    e = simulator.propensity(study.observations)
    for arm in (0, 1):
        weighted = np.where(study.actions == arm, study.rewards / (e if arm else 1 - e), 0.0)
        assert abs(weighted.mean() - simulator.arm_means[arm]) <= 4 * weighted.std() / np.sqrt(study.n)


@of_kind(TumourSimulator)
def test_the_simulated_value_is_that_of_the_samples(simulator: TumourSimulator) -> None:
    truth = simulator.value(simulator.assignment(), 10, n=20_000, seed=1)
    sampled = returns(simulator.sample(5_000, None, 10, seed=2), 1.0)
    assert abs(sampled.mean() - truth.value) < 4 * np.hypot(truth.stderr, sampled.std() / np.sqrt(len(sampled)))


def test_wrapped_simulators_fit_the_benchmark_calls() -> None:
    simulator = SepsisSimulator()
    logger = simulator.physician(0.3)
    record = simulator | HideVariables("diabetes") | Confounded(1.5)
    target = crl.Softened(record.marginal_policy(logger, 5), 0.05)
    assert isinstance(record, Simulator)
    rows = crl.replicate(record, logger, 400, {"target": target}, {"FQE": crl.FQE(crl.TabularQ())}, replications=2, horizon=5)
    assert rows.frame["truth"][0] == pytest.approx(record.value(target, 5))
    with pytest.raises(EstimandError, match="ask the simulator itself"):
        record.efficiency_bound(target, target, 5)
    assert (simulator | Censored(0.1)).value(logger, 5) == simulator.value(logger, 5)
