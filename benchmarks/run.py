"""The main job: replicate the simulated problems, estimate the study, rank, and write everything down."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

import causalrl as crl
from benchmarks.figures import plot_problems, plot_study
from benchmarks.provenance import provenance, write_provenance
from benchmarks.suites import Method, Problem, SimulatedSuite, StudySuite

GROUP = ["problem", "policy"]


@dataclass(frozen=True, eq=False)
class Results:
    """Tidy tables.

    Attributes:
        rows: one row a (problem, replication, policy, estimator), with the columns of `crl.evaluate`.
        summary: one row a (problem, policy, estimator), with the columns of `crl.replicate`, the median `ess` and the `rank`.
        study: one row a method: value, published, difference, intervals.
    """

    rows: pd.DataFrame
    summary: pd.DataFrame
    study: pd.DataFrame


def run(simulated: SimulatedSuite, study: StudySuite, out: Path, seed: int = 0, n_jobs: int = 2) -> Results:
    """Run both suites and write rows, summary and study (CSV and Parquet), two figures, and `run.json` under `out`.

    The same seed gives the same numbers, but for the seconds.
    """
    start = time.perf_counter()
    done = [run_problem(problem, simulated, seed, n_jobs) for problem in simulated.problems]
    rows, summary = (pd.concat(frames, ignore_index=True) for frames in zip(*done, strict=True))
    results = Results(rows, summary, run_study(study, seed))
    seconds = time.perf_counter() - start
    _write(results, simulated, study, out, seed, seconds)
    return results


def run_problem(problem: Problem, suite: SimulatedSuite, seed: int, n_jobs: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Replication rows and summary of one problem."""
    replication = crl.replicate(
        problem.simulator,
        problem.behavior,
        suite.n,
        {target.name: target.policy for target in problem.targets},
        suite.estimators,
        replications=suite.replications,
        horizon=suite.horizon,
        seed=seed,
        n_jobs=n_jobs,
    )
    rows, summary = replication.rows, replication.frame
    typical = rows.groupby(["policy", "estimator"], sort=False)["ess"].median()
    summary = summary.join(typical, on=["policy", "estimator"])
    for frame in (rows, summary):
        frame.insert(0, "problem", problem.name)
        frame["seed"] = seed
    summary["rank"] = summary.groupby(GROUP, sort=False, group_keys=False)[["failures", "rmse"]].apply(ranks)
    return rows, summary


def ranks(part: pd.DataFrame) -> pd.Series:
    """1, 2, ... by RMSE, ties equal; an estimator that failed anywhere comes after those that never did, ranked on the rest."""
    score = part["rmse"].round(9).fillna(1e9) + 1e6 * (part["failures"] > 0)
    return score.rank(method="min").astype(int)


def run_study(suite: StudySuite, seed: int) -> pd.DataFrame:
    """One row a method, beside its published value; one thread, since many small regressions lose by more."""
    with threadpool_limits(1):
        return _study(suite, seed)


def _study(suite: StudySuite, seed: int) -> pd.DataFrame:
    data = suite.load()
    recipes = {method.name: method.estimator for method in suite.methods}
    evaluation = crl.evaluate(data, {"effect": crl.ATE()}, recipes, seed=seed)
    frame = evaluation.frame.drop(columns=["policy", "warnings", "max_weight"]).rename(columns={"estimator": "method"})
    frame.insert(0, "study", suite.name)
    for row, method in enumerate(suite.methods):
        if method.interval is not None:
            start = time.perf_counter()
            interval = evaluation.estimates["effect", method.name].interval(method=method.interval)
            taken = frame["seconds"].iloc[row] + time.perf_counter() - start
            frame.loc[row, ["low", "high", "seconds"]] = [interval.low, interval.high, taken]
    known = pd.DataFrame([_published(method) for method in suite.methods])
    frame = pd.concat([frame, known], axis=1)
    frame["difference"] = frame["value"] - frame["published"]
    return frame.assign(seed=seed)


def _published(method: Method) -> dict[str, object]:
    given = method.published
    keys = ("published", "published_low", "published_high", "source")
    numbers = (np.nan, np.nan, np.nan, "") if given is None else (given.value, given.low, given.high, given.source)
    return dict(zip(keys, numbers, strict=True))


def _write(results: Results, simulated: SimulatedSuite, study: StudySuite, out: Path, seed: int, seconds: float) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in ("rows", "summary", "study"):
        frame = getattr(results, name)
        frame.to_csv(out / f"{name}.csv", index=False)
        frame.to_parquet(out / f"{name}.parquet", index=False)
    plot_problems(results.rows, simulated, out / "problems.png")
    plot_study(results.study, study, out / "study.png")
    problems = [
        {"name": problem.name, "behavior": problem.text, "targets": {target.name: target.text for target in problem.targets}}
        for problem in simulated.problems
    ]
    settings = {"n": simulated.n, "horizon": simulated.horizon, "discount": 1.0, "replications": simulated.replications}
    record = provenance(seed, **settings, problems=problems, study=study.name, seconds=round(seconds, 1))
    write_provenance(out / "run.json", record)
