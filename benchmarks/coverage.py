"""Coverage and width of every (estimator, interval) pair on five problems: `python -m benchmarks.coverage`.

Default intervals are repeated `DEFAULT` times, the others `OTHERS` times (and MAGIC, which chooses anew in each refit, `FEW`
times), all on the same samples. About 25 minutes on two quiet cores; names of estimators measure those anew, and `--page-only`
writes docs/coverage.md from the rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config

import causalrl as crl
from benchmarks.problems import Problem, icu_sepsis, model_fail, model_win, sepsis, sepsis_poor
from benchmarks.provenance import provenance
from causalrl.estimators.base import FittedEstimator
from causalrl.inference.base import IntervalMethod
from causalrl.inference.bootstrap import prepare
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances

DEFAULT, OTHERS, FEW, SEED, LEVEL = 2000, 300, 40, 0, 0.95
RESULTS = Path(__file__).parent / "results" / "coverage.csv"
PAGE = Path(__file__).parent.parent / "docs" / "coverage.md"

PROBLEMS = ((sepsis, 2000), (icu_sepsis, 2000), (model_win, 2000), (model_fail, 2000), (sepsis_poor, 1000))
SMOOTH: Mapping[str, crl.Estimator] = {
    "IS": crl.IS(),
    "WIS": crl.WIS(),
    "PDIS": crl.PDIS(),
    "PDWIS": crl.PDWIS(),
    "WIS, Counts": crl.WIS(behavior=crl.Counts()),
    "DR": crl.DR(q=crl.TabularQ()),
    "WDR": crl.WDR(q=crl.TabularQ()),
    "WDR, 1 fold": crl.WDR(q=crl.TabularQ(), folds=1),
    "DRL": crl.DRL(q=crl.TabularQ()),
}
RESAMPLING = (
    crl.PercentileBootstrap(1000),
    crl.BCaBootstrap(1000),
    crl.StudentizedBootstrap(1000),
    crl.BayesianBootstrap(1000),
    crl.PoissonBootstrap(1000),
    crl.MultiplierBootstrap(1000),
)


@dataclass(frozen=True)
class Pair:
    """An estimator, an interval method (None is its default), and how often the two are tried."""

    name: str
    estimator: crl.Estimator
    method: IntervalMethod | None
    replications: int

    @property
    def label(self) -> str:
        """What the table calls the method."""
        return type(self.method).__name__


def pairs(problem: Problem) -> list[Pair]:
    """Every pair that exists on a problem."""
    found = [Pair(name, estimator, crl.Wald(), DEFAULT) for name, estimator in SMOOTH.items()]
    found += [Pair(name, estimator, method, OTHERS) for name, estimator in SMOOTH.items() for method in RESAMPLING]
    mis, fqe = crl.MIS(), crl.FQE(crl.TabularQ())
    found += [Pair("MIS", mis, crl.RefitWald(200), DEFAULT), Pair("MIS", mis, crl.RefitBootstrap(200), OTHERS)]
    found += [Pair("FQE", fqe, method, OTHERS) for method in (crl.RefitBootstrap(200), crl.RefitWald(200))]
    found += [Pair("WIS, Counts", SMOOTH["WIS, Counts"], crl.RefitBootstrap(200), OTHERS)]
    found += [Pair("MAGIC", crl.MAGIC(q=crl.TabularQ()), crl.RefitBootstrap(100), FEW)]
    found += [Pair("IS", SMOOTH["IS"], method, OTHERS) for method in bounds(problem)]
    return found


def bounds(problem: Problem) -> list[IntervalMethod]:
    """Bounds of the mean; those that need a range only where it is small.

    In ModelWin (H = 4) and ModelFail two decisions of a trajectory have a ratio other than 1, so that no weight exceeds the
    square of the largest; returns lie within 2 and within 1.
    """
    largest_return = {"ModelWin": 2.0, "ModelFail": 1.0}.get(problem.name)
    if largest_return is None:
        return [crl.StudentT()]
    assert isinstance(problem.target, crl.TabularPolicy)
    assert isinstance(problem.behavior, crl.TabularPolicy)
    weight = float((problem.target.table / problem.behavior.table).max() ** 2)
    ranged = [kind(-largest_return, largest_return, max_weight=weight) for kind in (crl.Hoeffding, crl.EmpiricalBernstein)]
    return [crl.StudentT(), *ranged]


def limits(problem: Problem, n: int, chosen: list[Pair], r: int) -> pd.DataFrame:
    """Value and limits of every pair on sample r; what does not exist is missing."""
    data = problem.simulator.sample(n, problem.behavior, horizon=problem.horizon, seed=derive_seed(SEED, "data", r))
    nuisances = Nuisances(data, derive_seed(SEED, "estimate", r))
    goal = crl.PolicyValue(problem.target, horizon=problem.horizon)
    estimates: dict[str, crl.Estimate] = {}
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for pair in chosen:
            if pair.name not in estimates:
                try:
                    estimates[pair.name] = FittedEstimator(pair.estimator, nuisances).estimate(goal)
                except crl.errors.SupportError:
                    continue
        for method in dict.fromkeys(pair.method for pair in chosen if pair.method is not None):
            prepare([estimates[p.name].evidence for p in chosen if p.method == method and p.name in estimates], method)
        for pair in chosen:
            rows.append({"estimator": pair.name, "interval": pair.label, **_limits(estimates.get(pair.name), pair.method)})
    return pd.DataFrame(rows)


def _limits(estimate: crl.Estimate | None, method: IntervalMethod | None) -> dict[str, float]:
    if estimate is None:
        return {"value": np.nan, "low": np.nan, "high": np.nan}
    try:
        low, high = estimate.interval(LEVEL, method=method)
    except (crl.errors.IntervalError, crl.errors.SupportError):
        return {"value": float(estimate.value), "low": np.nan, "high": np.nan}
    return {"value": float(estimate.value), "low": float(low), "high": float(high)}


def measure(problem: Problem, n: int, chosen: list[Pair], n_jobs: int = 2) -> pd.DataFrame:
    """One row a pair: coverage and width with their Monte-Carlo errors, and how many intervals did not exist."""

    def one(r: int) -> pd.DataFrame:
        return limits(problem, n, [pair for pair in chosen if r < pair.replications], r)

    most = max(pair.replications for pair in chosen)
    first = one(0)
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        rest = Parallel()(delayed(one)(r) for r in range(1, most))
    rows = pd.concat([first, *rest])
    found = [score(problem, part) for _, part in rows.groupby(["estimator", "interval"], sort=False)]
    return pd.DataFrame(found).assign(problem=problem.name, n=n)[["problem", "n", *found[0]]]


def score(problem: Problem, part: pd.DataFrame) -> dict[str, object]:
    """Coverage and width of one pair."""
    done = part.dropna()
    covered = (done["low"] <= problem.truth) & (problem.truth <= done["high"])
    width, count = done["high"] - done["low"], len(done)
    share = (covered.sum() + 0.5) / (count + 1)
    return {
        "estimator": part["estimator"].iloc[0],
        "interval": part["interval"].iloc[0],
        "truth": problem.truth,
        "bias": (part["value"] - problem.truth).mean(),
        "rmse": float(np.sqrt(((part["value"] - problem.truth) ** 2).mean())),
        "coverage": covered.mean() if count else np.nan,
        "coverage_mcse": float(np.sqrt(share * (1 - share) / count)) if count else np.nan,
        "width": width.mean(),
        "width_mcse": width.std() / np.sqrt(count) if count else np.nan,
        "replications": len(part),
        "missing": len(part) - count,
    }


HEAD = """# Measured coverage

Share of samples whose {level:.0%} interval holds the exact value, and the mean width, of every pair of estimator and interval.
Written by `python -m benchmarks.coverage` (seed {seed}; each row of `benchmarks/results/coverage.csv` carries its commit). ± is
one Monte-Carlo standard error. Truths are dynamic programming. "Missing" counts samples without an estimate (all weights zero)
or without the interval; they are not in the share. Rows of {others} replications use the first {others} of the samples of the
others, so that pairs of one problem are compared on the same data.

Read it in this order: does a pair cover where the data overlap (the first four problems), and how short does it fall where
they do not (the last, where every estimate carries an OverlapWarning)? `Wald` is the default of every estimator that is a
function of means, `RefitWald` that of `MIS`, `RefitBootstrap` that of `FQE`, whose bias no interval knows. `Hoeffding` and
`EmpiricalBernstein` use the exact range of the weighted return, and are given where that is small.
"""
COLUMNS = ("estimator", "interval", "coverage", "width", "bias", "RMSE", "replications", "missing")


def page(table: pd.DataFrame) -> str:
    """The rows as Markdown, one table a problem."""
    parts = [HEAD.format(level=LEVEL, others=OTHERS, seed=table["seed"].iloc[0])]
    for problem, part in table.groupby("problem", sort=False):
        parts.append(f"\n## {problem}, n = {part['n'].iloc[0]:,}, truth {part['truth'].iloc[0]:.4f}\n")
        parts.append(f"| {' | '.join(COLUMNS)} |\n|---|---|{'--:|' * (len(COLUMNS) - 2)}")
        parts += [f"| {' | '.join(cells(row))} |" for _, row in part.iterrows()]
    return "\n".join(parts) + "\n"


def cells(row: pd.Series) -> list[str]:
    """One row of the page."""
    coverage = f"{row['coverage']:.3f} ± {row['coverage_mcse']:.3f}"
    numbers = [f"{row['width']:.4g}", f"{row['bias']:.2g}", f"{row['rmse']:.3g}", f"{row['replications']:,}", str(row["missing"])]
    return [row["estimator"], row["interval"], coverage, *numbers]


def run(names: list[str], old: pd.DataFrame | None) -> pd.DataFrame:
    """Measure the pairs of the named estimators (all, where none is named) and put their rows in the place of the old ones."""
    made_by = {key: provenance(SEED)[key] for key in ("seed", "commit")}
    tables = []
    for make, n in PROBLEMS:
        problem = make()
        order = [(pair.name, pair.label) for pair in pairs(problem)]
        new = measure(problem, n, [pair for pair in pairs(problem) if not names or pair.name in names]).assign(**made_by)
        kept = None if old is None else old[(old["problem"] == problem.name) & ~old["estimator"].isin(names)]
        rows = (new if kept is None else pd.concat([kept, new])).set_index(["estimator", "interval"], drop=False)
        tables.append(rows.loc[order].reset_index(drop=True))
        print(new.to_string(index=False), flush=True)
    return pd.concat(tables, ignore_index=True)


def main(estimators: list[str] | None = None, page_only: bool = False) -> None:
    """Measure every pair, or those of the named estimators alone, write the rows, and the page from them."""
    if not page_only:
        old = pd.read_csv(RESULTS) if estimators else None
        run(estimators or [], old).to_csv(RESULTS, index=False, float_format="%.5g")
    PAGE.write_text(page(pd.read_csv(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    import typer

    typer.run(main)
