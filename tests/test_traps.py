"""Traps of whole packages: leaks of the truth, shared replicates, memory that grows with the replicates."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import causalrl as crl
from benchmarks.timing import peak_extra_memory
from tests.conftest import TARGET, ragged_data

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")
GOAL = crl.PolicyValue(TARGET, discount=0.9, horizon=5)


@pytest.mark.parametrize("kind", crl.ALL, ids=lambda kind: kind.__name__)
def test_no_estimator_takes_a_truth_or_a_simulator(kind: type[crl.Estimator]) -> None:
    """Trap E4: a combined estimator that is told the true value, to pick the best."""
    for call in (kind, kind.estimate, kind.fit, kind.policy_value, kind.point):
        assert not {"truth", "simulator", "env", "environment", "value"} & set(inspect.signature(call).parameters)


def test_neighbouring_roots_share_no_replicates() -> None:
    """Trap G2: seeds root + b would give roots 0 and 1 all replicates but one."""
    evidence = crl.WIS().estimate(ragged_data(200), GOAL).evidence
    zero, one = (crl.PercentileBootstrap(400, seed).values(evidence) for seed in (0, 1))
    assert not np.isin(zero, one).any()
    assert abs(np.corrcoef(zero[1:], one[:-1])[0, 1]) < 4 / np.sqrt(400)


def test_memory_does_not_grow_with_the_replicates() -> None:
    """Trap G4: a B x n matrix of indices for n = 20,000 would take 480 MB at B = 3,000."""
    study = crl.Trajectories.from_cross_section(
        np.zeros(20_000, int), [0, 1] * 10_000, np.arange(20_000.0), propensity=[0.5] * 20_000
    )
    estimate = crl.IPW().estimate(study, crl.Always(1))

    def peak(replicates: int) -> float | None:
        """MB."""
        return peak_extra_memory(lambda: estimate.interval(method=crl.PercentileBootstrap(replicates, seed=replicates)))

    few, many = peak(300), peak(3000)
    if few is None or many is None:
        pytest.skip("this system does not tell the resident memory")
    assert many < few + 50
