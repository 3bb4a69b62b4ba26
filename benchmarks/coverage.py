"""Coverage of the default 95% interval on sepsis v2: `python -m benchmarks.coverage`, about a minute on two cores.

Two cases: good overlap (behaviour physician(0.3), target physician(0.15), n = 2,000), where the interval must hold, and bad
overlap (behaviour physician(0.05), never treat, n = 1,000), where it cannot and says so.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

import causalrl as crl
from benchmarks.provenance import provenance
from simulators import SepsisSimulator

HORIZON, REPLICATIONS, SEED = 20, 1000, 0
PATH = Path(__file__).parent / "results" / "coverage.csv"
ESTIMATORS = {
    "WIS": crl.WIS(),
    "PDWIS": crl.PDWIS(),
    "DR, 5 folds": crl.DR(q=crl.TabularQ(), folds=5),
    "WDR, 5 folds": crl.WDR(q=crl.TabularQ(), folds=5),
    "WDR, 1 fold": crl.WDR(q=crl.TabularQ(), folds=1),
}


def coverage(behavior: crl.Policy, target: crl.Policy, n: int, seed: int = SEED, n_jobs: int = 2) -> crl.Replication:
    """REPLICATIONS samples of n patients."""
    return crl.replicate(
        SepsisSimulator(),
        behavior,
        n,
        {"target": target},
        ESTIMATORS,
        replications=REPLICATIONS,
        horizon=HORIZON,
        seed=seed,
        n_jobs=n_jobs,
    )


def share_warned(replication: crl.Replication) -> pd.Series:
    """Share of the replications, by estimator, that carry an OverlapWarning or failed with a SupportError."""
    rows = replication.rows
    flagged = rows["warnings"].str.contains("OverlapWarning") | rows["failure"].fillna("").str.startswith("SupportError")
    return flagged.groupby(rows["estimator"]).mean()


def main() -> None:
    """Run both cases and write one row an estimator, with the seed and the commit that made it."""
    simulator = SepsisSimulator()
    commit = provenance(SEED)["commit"]
    cases = {
        "physician(0.3) -> physician(0.15)": (simulator.physician(0.3), simulator.physician(0.15), 2000),
        "physician(0.05) -> never treat": (simulator.physician(0.05), crl.Always(0), 1000),
    }
    frames = []
    for name, (behavior, target, n) in cases.items():
        replication = coverage(behavior, target, n)
        frame = replication.frame.drop(columns=["policy", "seconds"])
        frame.insert(0, "n", n)
        frame.insert(0, "case", name)
        frame["warned"] = frame["estimator"].map(share_warned(replication))
        frames.append(frame.assign(seed=SEED, commit=commit))
    table = pd.concat(frames, ignore_index=True)
    PATH.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(PATH, index=False, float_format="%.5g")
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
