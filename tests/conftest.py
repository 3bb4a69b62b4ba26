"""Small data sets that many tests share, and the deterministic profile of hypothesis."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import causalrl as crl
from causalrl.data import End
from simulators import TabularMDP

settings.register_profile(
    "deterministic", derandomize=True, deadline=None, max_examples=12, suppress_health_check=[HealthCheck.differing_executors]
)
settings.load_profile("deterministic")

BEHAVIOR = crl.TabularPolicy([[0.5, 0.5], [0.7, 0.3], [0.4, 0.6]])
TARGET = crl.TabularPolicy([[0.3, 0.7], [0.6, 0.4], [0.5, 0.5]])


def tiny_process() -> TabularMDP:
    """Two live states and an end; every decision may end the process, so that records are ragged."""
    transitions = [[[0.5, 0.2, 0.3], [0.1, 0.6, 0.3]], [[0.3, 0.4, 0.3], [0.2, 0.4, 0.4]], [[0.0, 0.0, 1.0]] * 2]
    return TabularMDP(transitions, [1.0, -1.0, 2.0], [0.6, 0.4, 0.0], [False, False, True])


def ragged_data(n: int = 60, seed: int = 0, horizon: int | None = None) -> crl.Trajectories:
    """Ragged tabular records of the tiny process with the full behaviour policy; all terminated where horizon is None."""
    logged = tiny_process().sample(n, BEHAVIOR, horizon=horizon, seed=seed)
    return crl.Trajectories.from_arrays(
        logged.observations,
        logged.actions,
        logged.rewards,
        logged.offsets,
        end=logged.end,
        behavior_probabilities=BEHAVIOR.table[logged.observations],
        final_observations=np.where(logged.end == End.TERMINATED, 0, logged.final_observations),
        n_actions=2,
        n_states=3,
    )


def cross_section(n: int = 120, seed: int = 0, arms: int = 2) -> crl.Trajectories:
    """A confounded study with covariates age and severity; arm a adds a to the outcome."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    scores = np.exp(0.8 * x[:, :1] * np.arange(arms))
    treatment = (rng.random((n, 1)) > np.cumsum(scores / scores.sum(axis=1, keepdims=True), axis=1)[:, :-1]).sum(axis=1)
    outcome = treatment + x[:, 0] - 0.5 * x[:, 1] + rng.normal(size=n)
    return crl.Trajectories.from_cross_section(x, treatment, outcome, feature_names=["age", "severity"])


def output_with(program: str, **environment: str) -> str:
    """What a program prints in a process of its own, under settings of numba."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def output_whatever_runs_it(program: str) -> str:
    """What a program prints, which is the same with one thread, with two, and without the compiler."""
    one = output_with(program, NUMBA_NUM_THREADS="1")
    assert one == output_with(program, NUMBA_NUM_THREADS="2")
    assert one == output_with(program, NUMBA_NUM_THREADS="1", NUMBA_DISABLE_JIT="1")
    return one


@pytest.fixture(scope="session")
def process() -> TabularMDP:
    return tiny_process()


@pytest.fixture(scope="session")
def ragged() -> crl.Trajectories:
    return ragged_data()


@pytest.fixture(scope="session")
def study() -> crl.Trajectories:
    return cross_section()
