"""Tasks of `benchmarks.speed` about effects: refit bootstraps of logistic IPW, and AIPW on a million rows, with its memory."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import causalrl as crl
from benchmarks.timing import Target, Task, agree
from causalrl.inference.base import Evidence
from simulators import Point

Floats = NDArray[np.float64]
B, N, P = 1_000, 2_000, 10
ROWS, COLUMNS, FOLDS = 1_000_000, 20, 5
Fit = Callable[[Floats, NDArray[np.int64]], Floats]
"""Maps covariates and treatment to fitted propensities."""


def hajek_loop(study: crl.Trajectories, fit: Fit, replicates: int, seed: int) -> Floats:
    """Refits of Hajek's ATE, resample by resample."""
    rng, (x, arm, y) = np.random.default_rng(seed), (study.observations, study.actions, study.rewards)
    values = np.empty(replicates)
    for b in range(replicates):
        drawn = rng.integers(0, len(y), len(y))
        values[b] = hajek(fit(x[drawn], arm[drawn]), arm[drawn], y[drawn])
    return values


def hajek(e: Floats, arm: NDArray[np.int64], y: Floats) -> float:
    """The difference of the two weighted means."""
    treated, control = arm / e, (1 - arm) / (1 - e)
    return float(treated @ y / treated.sum() - control @ y / control.sum())


def by_sklearn(x: Floats, arm: NDArray[np.int64]) -> Floats:
    """scikit-learn's unpenalised logistic regression, lbfgs."""
    from sklearn.linear_model import LogisticRegression

    return np.asarray(LogisticRegression(C=np.inf).fit(x, arm).predict_proba(x)[:, 1])


def by_statsmodels(x: Floats, arm: NDArray[np.int64]) -> Floats:
    """statsmodels' binomial GLM."""
    import statsmodels.api as sm

    return np.asarray(sm.GLM(arm, sm.add_constant(x), family=sm.families.Binomial()).fit().fittedvalues)


def times_and_seconds(times: float) -> Target:
    """Half a second, and so many times the loop."""
    return Target(f"< 0.5 s, ≥ {times:g} ×", lambda seconds, rate, ratio: seconds < 0.5 and ratio >= times)


def bootstrap_tasks() -> list[Task]:
    """The refits of the package beside the loops."""
    study = Point(P).sample(N, seed=0)
    evidence = crl.IPW(crl.Logit()).estimate(study, crl.ATE()).evidence
    tasks = []
    for name, fit, times in (("scikit-learn", by_sklearn, 6.0), ("statsmodels", by_statsmodels, 15.0)):
        agree(evidence.value, hajek(fit(study.observations, study.actions), study.actions, study.rewards), 2e-3)
        package = refits(evidence)
        agree(package().std(), hajek_loop(study, fit, 200, 0).std(), 0.2)

        def loop(fit: Fit = fit) -> Floats:
            return hajek_loop(study, fit, B, 0)

        title = f"refits of logistic IPW, {name}"
        tasks.append(Task(title, package, loop, float(B), "refits", times_and_seconds(times), quiet=4))
    return tasks


def refits(evidence: Evidence) -> Callable[[], Floats]:
    """Refits on resamples that are made anew every time."""
    return lambda: Evidence(evidence.value, evidence.clusters, refit=evidence.refit).refitted(B, 0)


def million_rows() -> str:
    """Seconds and peak memory of AIPW, data included, in a process of its own."""
    arguments = [sys.executable, "-m", "benchmarks.speed_effects"]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()


def measured_million() -> str:
    """The same, in this process; everything is compiled on a few rows first."""
    import time

    recipe, design = crl.AIPW(crl.LinearQ(), crl.Logit(), folds=FOLDS), Point(COLUMNS)
    recipe.estimate(design.sample(1_000, seed=1), crl.ATE())
    study = design.sample(ROWS, seed=0)
    wall, processor = time.perf_counter(), time.process_time()
    estimate = recipe.estimate(study, crl.ATE())
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    assert abs(estimate.value - design.ate) < 4 * float(estimate.stderr)
    size, peak = f"{ROWS:,} rows x {COLUMNS} columns, {FOLDS} folds", peak_memory()
    memory = "not known here" if peak is None else f"{peak:.2f} GiB"
    return (
        f"AIPW, linear nuisances, {size}: {wall:.1f} s (asked: 15), {processor:.1f} s of processor time; peak memory of the "
        f"process, data included: {memory} (asked: 2)."
    )


def peak_memory() -> float | None:
    """Largest resident memory of this process in GiB; None without /proc."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(measured_million())
