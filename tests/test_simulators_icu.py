"""`ICUSepsis` against the values computed from the matrices that the package icu-sepsis ships."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import simulators.icu_sepsis
from causalrl.errors import MissingExtraError
from causalrl.policies import Uniform
from simulators import ICUSepsis


def test_values_and_lengths() -> None:
    simulator = ICUSepsis()
    best = simulator.optimal_policy(1.0)
    assert simulator.value(Uniform(25)) == pytest.approx(0.780071, abs=1e-6)
    assert simulator.value(best) == pytest.approx(0.875142, abs=1e-6)
    assert round(simulator.value(simulator.expert()), 2) == 0.78
    lengths = [simulator.occupancy(policy).sum() for policy in (Uniform(25), simulator.expert(), best)]
    np.testing.assert_allclose(lengths, [9.45, 9.22, 10.99], atol=0.02)  # published, of finitely many episodes


def test_shape() -> None:
    mdp = ICUSepsis().mdp
    assert (mdp.n_states, mdp.n_actions) == (716, 25)
    assert (mdp.initial > 0).sum() == 712
    assert np.flatnonzero(mdp.terminal).tolist() == [713, 714, 715]
    assert np.diff(mdp.dynamics.indptr).mean() == pytest.approx(85.4, abs=0.05)
    assert mdp.state_features is not None
    assert mdp.state_features.shape == (716, 47)
    assert ICUSepsis().expert().table.shape == (716, 25)


def test_sampled_returns() -> None:
    simulator = ICUSepsis()
    data = simulator.sample(20_000, Uniform(25), horizon=500, seed=3)
    survived = np.add.reduceat(data.rewards, data.offsets[:-1])
    value = simulator.value(Uniform(25), 500)
    assert abs(survived.mean() - value) < 4 * survived.std() / np.sqrt(data.n)


def test_its_code_is_never_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "icu_sepsis", raising=False)
    simulators.icu_sepsis._process.cache_clear()
    ICUSepsis().value(Uniform(25), 1)
    assert "icu_sepsis" not in sys.modules


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulators.icu_sepsis, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"causalrl-ope\[data\]"):
        ICUSepsis()
