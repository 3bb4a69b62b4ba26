"""Coverage of the default 95% interval over 1,000 samples of the sepsis simulator, and what bad overlap looks like.

`benchmarks/coverage.py` writes the same numbers to a table.
"""

from __future__ import annotations

import math
import warnings

import pytest

import causalrl as crl
from causalrl.errors import InSampleWarning, OverlapWarning, SupportError
from simulators import SepsisSimulator

REPLICATIONS = 1000
ESTIMATORS = {
    "WIS": crl.WIS(),
    "PDWIS": crl.PDWIS(),
    "DR": crl.DR(q=crl.TabularQ(), folds=5),
    "WDR": crl.WDR(q=crl.TabularQ(), folds=5),
    "WDR, no folds": crl.WDR(q=crl.TabularQ(), folds=1),
}


@pytest.fixture(scope="module")
def good_overlap() -> crl.Replication:
    simulator = SepsisSimulator()
    return crl.replicate(
        simulator,
        simulator.physician(epsilon=0.3),
        2000,
        {"target": simulator.physician(epsilon=0.15)},
        ESTIMATORS,
        replications=REPLICATIONS,
        horizon=20,
        seed=0,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["WIS", "PDWIS", "DR", "WDR"])
def test_the_default_interval_covers(name: str, good_overlap: crl.Replication) -> None:
    row = good_overlap.frame.set_index("estimator").loc[name]
    assert row["failures"] == 0
    assert row["intervals"] == REPLICATIONS
    assert row["truth"] == pytest.approx(SepsisSimulator().value(SepsisSimulator().physician(0.15), horizon=20), abs=1e-12)
    assert 0.93 <= row["coverage"] <= 0.97
    assert abs(row["bias"]) < 4 * row["bias_mcse"]
    assert row["coverage_mcse"] == pytest.approx(math.sqrt(row["coverage"] * (1 - row["coverage"]) / REPLICATIONS), rel=0.02)
    assert row["width"] / (2 * 1.96) == pytest.approx(row["rmse"], rel=0.1)  # the standard error is the spread


@pytest.mark.slow
def test_a_table_of_q_needs_folds(good_overlap: crl.Replication) -> None:
    """A Q counted from the very steps that it corrects leaves a bias of half a standard error, which folds remove."""
    frame = good_overlap.frame.set_index("estimator")
    assert frame.loc["WDR, no folds", "bias"] > 10 * frame.loc["WDR, no folds", "bias_mcse"]
    assert abs(frame.loc["WDR", "bias"]) < 4 * frame.loc["WDR", "bias_mcse"]
    assert 0.85 < frame.loc["WDR, no folds", "coverage"] < 0.93


@pytest.mark.parametrize("kind", [crl.DR, crl.WDR])
def test_folds_are_the_default(kind: type[crl.Estimator]) -> None:
    """And one fold, asked for, says what it does."""
    simulator = SepsisSimulator()
    data = simulator.sample(500, simulator.physician(0.3), horizon=20, seed=0)
    goal = crl.PolicyValue(simulator.physician(0.25), horizon=20)
    assert kind().estimate(data, goal).value == kind(folds=5).estimate(data, goal).value
    with pytest.warns(InSampleWarning, match="folds=5"):
        kind(folds=1).estimate(data, goal)


def warned_or_refused(estimator: crl.Estimator, data: crl.Trajectories, goal: crl.PolicyValue) -> str:
    """The kind of trouble that an estimate reports, in its warnings and in its record alike."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            estimate = estimator.estimate(data, goal)
        except SupportError:
            return "SupportError"
    recorded = any("OverlapWarning" in text for text in estimate.diagnostics["warnings"])
    raised = any(issubclass(warning.category, OverlapWarning) for warning in caught)
    return "OverlapWarning" if recorded and raised and estimate.diagnostics["ess"] < 30 else "silent"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_bad_overlap_is_never_silent(name: str) -> None:
    """Behaviour physician(0.05), never treat: a handful of trajectories carry weight, or none; the estimate says so."""
    simulator = SepsisSimulator()
    goal = crl.PolicyValue(crl.Always(0), horizon=20)
    found = []
    for seed in range(12):
        data = simulator.sample(1000, simulator.physician(epsilon=0.05), horizon=20, seed=seed)
        found.append(warned_or_refused(ESTIMATORS[name], data, goal))
    assert set(found) == {"OverlapWarning", "SupportError"}


def test_bad_overlap_is_in_the_table() -> None:
    """`replicate` records a failed row and goes on; what it scores carries its warnings."""
    simulator = SepsisSimulator()
    replication = crl.replicate(
        simulator, simulator.physician(0.05), 1000, {"never": crl.Always(0)}, ESTIMATORS, replications=8, horizon=20, seed=0
    )
    rows = replication.rows
    failed = rows["failure"].notna()
    assert len(rows) == 8 * len(ESTIMATORS)
    assert rows.loc[failed, "failure"].str.startswith("SupportError").all()
    assert rows.loc[failed, "value"].isna().all()
    assert rows.loc[~failed, "warnings"].str.contains("OverlapWarning").all()
    by_estimator = failed.groupby(rows["estimator"]).sum()
    for _, row in replication.frame.iterrows():
        assert row["failures"] == by_estimator[row["estimator"]]
        assert row["replications"] == 8
