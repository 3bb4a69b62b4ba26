"""Tasks of `benchmarks.speed` about intervals: bootstraps of moments, of one ratio and of refits, and their memory."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

import causalrl as crl
from benchmarks.timing import Target, Task, agree, peak_extra_memory, within
from causalrl.inference.base import Evidence
from simulators import SepsisSimulator

Floats = NDArray[np.float64]
B_RATIO, B_MOMENTS, B_REFIT = 1_000, 2_000, 500
MOMENT_BASED = (crl.IS, crl.WIS, crl.PDIS, crl.PDWIS, crl.DR, crl.WDR, crl.DRL, crl.OnPolicyMean)
LOOPS = ("obp", "scope_rl")
"""Libraries whose `utils` have a bootstrap of a mean, replicate by replicate."""


def fresh(evidence: Evidence) -> Evidence:
    """The same without the replicates that it keeps."""
    return Evidence(evidence.value, evidence.clusters, evidence.functional, evidence.moments)


def per_draw(nanoseconds: float, times: float) -> Target:
    """At most so many nanoseconds for a unit and replicate, and so many times the loop."""
    text = f"< {nanoseconds:g} ns, ≥ {times:g} ×"
    return Target(text, lambda seconds, rate, ratio: rate > 1e9 / nanoseconds and ratio >= times)


def loop_over_indices(evidence: Evidence, replicates: int, seed: int) -> Floats:
    """Bootstrap of a ratio of two means, n indices a replicate."""
    rng, (numerator, denominator) = np.random.default_rng(seed), np.ascontiguousarray(evidence.totals.T)
    values = np.empty(replicates)
    for b in range(replicates):
        drawn = rng.integers(0, len(numerator), len(numerator))
        values[b] = numerator[drawn].mean() / denominator[drawn].mean()
    return values


def ratio_tasks(evidence: Evidence) -> list[Task]:
    """Multinomial and Poisson bootstrap of the WIS value."""

    def loop() -> Floats:
        return loop_over_indices(evidence, B_RATIO, 0)

    def task(method: crl.PercentileBootstrap | crl.PoissonBootstrap, target: Target) -> Task:
        agree(method.values(fresh(evidence)).std(), spread, 0.15)
        name = f"one ratio, {type(method).__name__}"
        draws = float(evidence.n_clusters * B_RATIO)
        return Task(name, lambda: method.values(fresh(evidence)), loop, draws, "draws", target)

    spread = loop().std()
    return [task(crl.PercentileBootstrap(B_RATIO), per_draw(1.0, 5)), task(crl.PoissonBootstrap(B_RATIO), per_draw(0.5, 10))]


def library_tasks(evidence: Evidence) -> list[Task]:
    """The bootstrap of a mean beside the loops of other libraries, where they are installed."""
    method, samples = crl.PercentileBootstrap(B_RATIO), evidence.totals[:, 0].copy()
    tasks = []
    for library in LOOPS:
        if find_spec(library) is None:
            print(f"Skipped: the bootstrap loop of {library}, which is not installed.")
            continue
        loop = import_module(f"{library}.utils").estimate_confidence_interval_by_bootstrap

        def reference(loop: Callable[..., object] = loop) -> object:
            return loop(samples, n_bootstrap_samples=B_RATIO, random_state=0)

        draws = float(len(samples) * B_RATIO)
        tasks.append(Task(f"one mean, {library}", lambda: method.values(fresh(evidence)), reference, draws, "draws", None))
    return tasks


def table_of(data: crl.Trajectories, simulator: SepsisSimulator, horizon: int) -> Callable[[], crl.Evaluation]:
    """Every moment-based estimator times ten policies."""
    policies = {f"{epsilon:.2f}": simulator.physician(epsilon) for epsilon in np.linspace(0.1, 0.28, 10)}
    estimators, method = [kind() for kind in MOMENT_BASED], crl.PercentileBootstrap(B_MOMENTS)
    return lambda: crl.evaluate(data, policies, estimators, horizon=horizon, method=method)


def moments_task(data: crl.Trajectories, simulator: SepsisSimulator, horizon: int) -> Task:
    """The table of ten policies, timed once or twice."""
    name, rows = f"{len(MOMENT_BASED)} estimators × 10 policies", float(10 * len(MOMENT_BASED))
    return Task(name, table_of(data, simulator, horizon), None, rows, "intervals", within(20.0), quiet=1)


def memory_of_the_table(n: int, horizon: int) -> str:
    """What the table of ten policies needs beside the data.

    In a process of its own, whose freed blocks above 1 MB go back to the system at once, so that what is resident is in use.
    """
    arguments = [sys.executable, "-m", "benchmarks.speed_inference", str(n), str(horizon)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def measured_memory(n: int, horizon: int) -> str:
    """The same, in this process."""
    simulator = SepsisSimulator("v2")
    data = simulator.sample(n, simulator.physician(0.3), horizon, seed=0)
    estimates = table_of(data.take(np.arange(200)), simulator, horizon)().estimates
    size = sum(value.nbytes for value in vars(data).values() if isinstance(value, np.ndarray)) / 1e6
    width = sum(estimates[pair].moments.shape[1] for pair in estimates if pair[0] == "0.10")
    moments, peak = width * data.n * 8 / 1e6, peak_extra_memory(table_of(data, simulator, horizon))
    seen = "not known here" if peak is None else f"{peak:.0f} MB"
    limit = f"data {size:.0f} MB, moments of one policy {moments:.0f} MB; asked: 3 × data + moments = {3 * size + moments:.0f} MB"
    return f"Peak extra memory of the table of ten policies: {seen} ({limit})."


def refit_tasks(data: crl.Trajectories, goal: crl.PolicyValue) -> list[Task]:
    """Refit bootstraps: counted propensities and tabular Q learned anew in every replicate."""
    method, counts, q = crl.RefitBootstrap(B_REFIT), crl.Counts(), crl.TabularQ()
    recipes: dict[str, tuple[crl.Estimator, Target | None]] = {
        "FQE": (crl.FQE(q), within(5.0)),
        "WIS, counts": (crl.WIS(counts), within(5.0)),
        "DR, counts, one fold": (crl.DR(counts, 1, q=q), within(5.0)),
        "DR, counts": (crl.DR(counts, q=q), within(5.0)),
    }

    def task(name: str, recipe: crl.Estimator, target: Target | None) -> Task:
        evidence = recipe.estimate(data, goal).evidence
        evidence.refitted(2, 0)
        refit = evidence.refit

        def work() -> Floats:
            return Evidence(evidence.value, evidence.clusters, refit=refit).refitted(method.replicates, method.seed)

        return Task(f"refits of {name}", work, None, float(B_REFIT), "refits", target, quiet=2)

    return [task(name, *recipe) for name, recipe in recipes.items()]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(measured_memory(*map(int, sys.argv[1:])))
