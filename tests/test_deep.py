"""Policies learned by d3rlpy's discrete algorithms, and policies made of algorithms that d3rlpy trained."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import causalrl as crl
from causalrl.adapters.d3rlpy import D3RLPolicy, to_d3rlpy
from causalrl.data import Trajectories
from causalrl.errors import DataError, EstimandError, MissingExtraError, PolicyError
from causalrl.learning.deep import DeepLearner, TrainedNetwork
from causalrl.nuisances.networks import load_d3rlpy, quiet
from simulators import TabularMDP

pytestmark = pytest.mark.slow  # PyTorch takes seconds to import

torch = pytest.importorskip("torch")
pytest.importorskip("d3rlpy")
d3rlpy = load_d3rlpy()

DISCOUNT = 0.9
LIVE = np.arange(3)
NOW = np.zeros(3, np.int64)


def corridor() -> TabularMDP:
    """Three cells in a row and an end: action 1 goes on, and pays 1 at the end; action 0 leaves at once for 0.2."""
    stay, on = [0.0, 0.0, 0.0, 1.0], np.eye(4)
    return TabularMDP(
        [[stay, on[1]], [stay, on[2]], [stay, on[3]], [on[3], on[3]]],
        [[0.2, 0.0], [0.2, 0.0], [0.2, 1.0], [0.0, 0.0]],
        [0.4, 0.3, 0.3, 0.0],
        [False, False, False, True],
    )


BEHAVIOR = crl.TabularPolicy([[0.7, 0.3], [0.7, 0.3], [0.3, 0.7], [0.5, 0.5]])


@pytest.fixture(scope="module")
def data() -> Trajectories:
    return corridor().sample(400, BEHAVIOR, seed=0)


def small(config: Any, **settings: Any) -> Any:
    encoder = d3rlpy.models.VectorEncoderFactory([16])
    return config(encoder_factory=encoder, batch_size=64, learning_rate=1e-2, **settings)


GREEDY = {
    "DQN": small(d3rlpy.algos.DQNConfig, gamma=DISCOUNT, target_update_interval=20),
    "CQL": small(d3rlpy.algos.DiscreteCQLConfig, gamma=DISCOUNT, target_update_interval=20, alpha=0.05),
    "BCQ": small(d3rlpy.algos.DiscreteBCQConfig, gamma=DISCOUNT, target_update_interval=20, action_flexibility=0.1),
}
CLONING = small(d3rlpy.algos.DiscreteBCConfig, beta=0.0)


@pytest.mark.parametrize("name", GREEDY)
def test_value_based_algorithms_find_the_optimal_policy(name: str, data: Trajectories) -> None:
    """Going on is worth 0.81, 0.9 and 1, leaving 0.2; most logged decisions leave."""
    policy = DeepLearner(GREEDY[name], steps=200).fit(data).policy()
    assert policy.probabilities(LIVE, NOW).tolist() == [[0.0, 1.0]] * 3
    best = corridor().value(crl.Always(1), discount=DISCOUNT)
    assert crl.FQE(crl.TabularQ()).estimate(data, crl.PolicyValue(policy, discount=DISCOUNT)).value == pytest.approx(
        best, abs=0.05
    )


def test_cloning_finds_the_most_frequent_action_and_its_probability(data: Trajectories) -> None:
    trained = DeepLearner(CLONING, steps=200).fit(data)
    assert trained.policy().probabilities(LIVE, NOW).tolist() == [[1, 0], [1, 0], [0, 1]]
    learned = trained.policy(imitated=True).probabilities(LIVE, NOW)
    assert np.allclose(learned.sum(axis=1), 1)
    counts = np.array([[np.sum((data.observations == s) & (data.actions == a)) for a in range(2)] for s in LIVE])
    assert np.abs(learned - counts / counts.sum(axis=1, keepdims=True)).max() < 0.07


def test_cloning_scales_what_it_imitates_as_the_algorithm_does() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(50, 20, (300, 1))
    data = Trajectories.from_cross_section(x, (x[:, 0] > 50).astype(int), x[:, 0])
    config = small(d3rlpy.algos.DiscreteBCConfig, beta=0.0, observation_scaler=d3rlpy.preprocessing.StandardObservationScaler())
    trained = DeepLearner(config, steps=150).fit(data)
    assert config.observation_scaler.mean is None
    at, now = np.array([[10.0], [90.0]]), np.zeros(2, int)
    assert trained.policy().probabilities(at, now).tolist() == [[1, 0], [0, 1]]
    assert np.diag(trained.policy(imitated=True).probabilities(at, now)).min() > 0.9


def test_the_same_seed_gives_the_same_network_and_leaves_no_trace(
    data: Trajectories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), torch.get_num_threads()  # noqa: NPY002

    def weights(trained: TrainedNetwork) -> list[Any]:
        return [parameter.tolist() for parameter in trained.algo.impl.modules.imitator.parameters()]

    learner = DeepLearner(CLONING, steps=5)
    first = weights(learner.fit(data, seed=1))
    torch.set_num_threads(2)
    assert weights(learner.fit(data, seed=1)) == first
    torch.set_num_threads(before[3])
    assert weights(learner.fit(data, seed=2)) != first
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), torch.get_num_threads()  # noqa: NPY002
    assert after == before
    assert capfd.readouterr() == ("", "")
    assert os.listdir(tmp_path) == []


def test_an_algorithm_that_d3rlpy_trained_is_a_policy(data: Trajectories) -> None:
    algo = CLONING.create()
    with pytest.raises(PolicyError, match="not trained"):
        D3RLPolicy(algo)
    with quiet():
        algo.build_with_dataset(to_d3rlpy(data))
    policy = D3RLPolicy(algo, features=data.features)
    greedy = algo.predict(data.features(LIVE).astype(np.float32))
    assert policy.probabilities(LIVE, NOW).argmax(axis=1).tolist() == greedy.tolist()
    assert str(policy) == "D3RLPolicy(DiscreteBC)"
    with pytest.raises(PolicyError, match="integer states need features"):
        D3RLPolicy(algo).probabilities(LIVE, NOW)
    with pytest.raises(PolicyError, match=r"takes inputs of shape \(\d,\)"):
        D3RLPolicy(algo).probabilities(np.zeros((2, 9)), NOW[:2])
    with pytest.raises(PolicyError, match="has 2 actions, the data have 5"):
        policy.bind(5)


def test_what_is_no_policy(data: Trajectories) -> None:
    with pytest.raises(PolicyError, match="no algorithm of d3rlpy"):
        D3RLPolicy("DQN")
    with pytest.raises(PolicyError, match="continuous actions"):
        D3RLPolicy(d3rlpy.algos.BCConfig().create())
    with pytest.raises(PolicyError, match="imitated=True is for DiscreteBC"):
        DeepLearner(GREEDY["DQN"], steps=1).fit(data).policy(imitated=True)


def test_what_is_no_learner(data: Trajectories, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("DQN", d3rlpy.algos.DQNConfig().create()):
        with pytest.raises(EstimandError, match="no configuration of d3rlpy"):
            DeepLearner(wrong)
    for config in (d3rlpy.algos.CQLConfig(), d3rlpy.algos.DiscreteDecisionTransformerConfig()):
        with pytest.raises(EstimandError, match="does not choose among discrete actions"):
            DeepLearner(config)
    with pytest.raises(EstimandError, match="steps"):
        DeepLearner(CLONING, steps=0)
    learner = DeepLearner(CLONING, steps=1)
    with pytest.raises(DataError, match="no Trajectories"):
        learner.fit([1])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="continuous"):
        learner.fit(Trajectories.from_arrays([[0.1]], [[0.5]], [1.0], [0, 1]))
    with pytest.raises(DataError, match="seed"):
        learner.fit(data, seed=-1)
    monkeypatch.setitem(sys.modules, "d3rlpy", None)
    with pytest.raises(MissingExtraError, match=r"causalrl-ope\[d3rlpy\]"):
        DeepLearner(CLONING)
