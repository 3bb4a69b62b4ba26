"""`python -m benchmarks.speed`: the package beside NumPy, in one run, on one machine.

Everything is compiled before it is timed, and checked against NumPy where there is a reference. Package and reference take
turns; a task goes on for three seconds at least, and until neither best has improved by more than 2% for ten turns. The best
of each is reported, beside the ratio of the medians, and how many cores the package had in its best turn.
"""

from __future__ import annotations

import os
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

import causalrl as crl
from benchmarks.timing import Target, Task, at_least, measure, peak_extra_memory, speed_table
from causalrl.inference.base import Evidence
from causalrl.kernels.ragged import cumulative_log_weights
from causalrl.kernels.rng import derive_seed
from simulators import SepsisSimulator
from simulators.sampling import cumulative_rows, count_steps, write_steps

N, B, MEAN_LENGTH = 100_000, 1_000, 13
Floats = NDArray[np.float64]


def bootstrap_task(evidence: Evidence) -> Task:
    """Bootstrap of a ratio of two means, the WIS value."""
    method, rng = crl.PercentileBootstrap(B), np.random.default_rng(0)
    numerator, denominator = evidence.totals

    def loop() -> Floats:
        values = np.empty(B)
        for b in range(B):
            drawn = rng.integers(0, N, N)
            values[b] = numerator[drawn].mean() / denominator[drawn].mean()
        return values

    agree(method.values(evidence).std(), loop().std(), 0.15)
    return Task("bootstrap of WIS", lambda: method.values(evidence), loop, B, "replicates", at_least(5))


def weights_task(seed: int = 0) -> tuple[Task, Task]:
    """Cumulative weights on ragged trajectories, kept in logs and from ratios to weights."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 2 * MEAN_LENGTH, N))])
    ratios = rng.uniform(0.5, 2.0, offsets[-1])
    logs, steps = np.log(ratios), float(offsets[-1])
    bounds = list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))

    def loop_over(values: Floats, accumulate: Any) -> Floats:
        out = np.empty_like(values)
        for first, last in bounds:
            out[first:last] = accumulate(values[first:last])
        return out

    agree(cumulative_log_weights(logs, offsets), loop_over(logs, np.cumsum), 1e-9)
    kernel = Task(
        "cumulative weights, in logs",
        lambda: cumulative_log_weights(logs, offsets),
        lambda: loop_over(logs, np.cumsum),
        steps,
        "steps",
        at_least(10),
    )
    whole = Task(
        "the same, with log and exp",
        lambda: np.exp(cumulative_log_weights(np.log(ratios), offsets)),
        lambda: loop_over(ratios, np.cumprod),
        steps,
        "steps",
        None,
    )
    return kernel, whole


def sampling_tasks(simulator: SepsisSimulator, behavior: crl.TabularPolicy, horizon: int) -> tuple[Task, Task]:
    """Steps of the sepsis simulator: the two kernels alone, and `sample`."""
    mdp = simulator.mdp
    tables, key = behavior.table[None], np.uint64(derive_seed(0, "speed"))
    start, policy = cumulative_rows(mdp.initial[None])[0], cumulative_rows(tables)
    law = (mdp.dynamics.indptr, mdp.dynamics.successors, mdp.dynamics.cumulative, mdp.terminal)

    def kernels() -> NDArray[np.int64]:
        lengths = count_steps(key, N, horizon, start, policy, *law)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        write_steps(key, offsets, start, policy, *law, mdp.dynamics.rewards, tables)
        return offsets

    steps = float(kernels()[-1])
    target = Target("≥ 10 M steps/s", lambda seconds, rate, ratio: rate >= 1e7)
    sampled = float(len(simulator.sample(N, behavior, horizon, seed=0).rewards))
    return (
        Task("sepsis sampling, kernels", kernels, None, steps, "steps", target),
        Task(
            "the same, as sample()",
            lambda: simulator.sample(N, behavior, horizon, seed=0),
            None,
            sampled,
            "steps",
            None,
        ),
    )


def fqe_tasks(data: crl.Trajectories, goal: crl.PolicyValue) -> tuple[Task, Task]:
    """Tabular FQE: the estimate, and the estimate with its default interval (200 refits)."""
    recipe = crl.FQE(crl.TabularQ())
    table = goal.policy.probabilities(np.arange(data.n_states), np.zeros(data.n_states, np.int64))
    agree(recipe.estimate(data, goal).value, numpy_fqe(data, table, goal.horizon or 0), 1e-9)
    recipe.estimate(data, goal).interval()
    target = Target("< 1 s", lambda seconds, rate, ratio: seconds < 1)
    name = "tabular FQE, the estimate"
    return (
        Task(
            name,
            lambda: recipe.estimate(data, goal),
            lambda: numpy_fqe(data, table, goal.horizon or 0),
            data.n,
            "trajectories",
            target,
        ),
        Task(
            "the same, with its interval",
            lambda: recipe.estimate(data, goal).interval(),
            None,
            data.n,
            "trajectories",
            None,
        ),
    )


def numpy_fqe(data: crl.Trajectories, policy: Floats, horizon: int) -> float:
    """Backward induction on counts, vectorised; a never-seen action gets its state's mean, a never-seen state the overall one."""
    states, _ = policy.shape
    cells = data.observations * policy.shape[1] + data.actions
    following, ends = np.roll(data.observations, -1), data.offsets[1:] - 1
    following[ends] = data.final_observations
    goes_on = np.ones(len(cells))
    goes_on[ends[data.end == crl.End.TERMINATED]] = 0.0
    counts = np.bincount(cells, minlength=policy.size).reshape(policy.shape)
    value = np.zeros(states)
    for _ in range(horizon):
        sums = np.bincount(cells, data.rewards + goes_on * value[following], policy.size).reshape(policy.shape)
        with np.errstate(invalid="ignore"):
            mean = np.nan_to_num(sums.sum(1) / counts.sum(1), nan=sums.sum() / counts.sum())
            q = np.where(counts > 0, sums / counts, mean[:, None])
        value = (policy * q).sum(1)
    return float(value[data.observations[data.offsets[:-1]]].mean())


def agree(package: Any, reference: Any, tolerance: float) -> None:
    """A fast wrong answer is none."""
    np.testing.assert_allclose(package, reference, rtol=tolerance, atol=tolerance)


def main() -> None:
    """Time every task and print the table."""
    simulator, horizon = SepsisSimulator("v2"), 20
    behavior, target = simulator.physician(0.3), simulator.physician(0.15)
    goal, logger = (crl.PolicyValue(policy, horizon=horizon) for policy in (target, behavior))
    crl.WIS().estimate(simulator.sample(10, behavior, horizon, seed=0), logger).interval(method=crl.PercentileBootstrap(2))
    evidence = crl.WIS().estimate(simulator.sample(N, behavior, horizon, seed=0), goal).evidence
    size = evidence.totals.nbytes / 1e6
    memory = peak_extra_memory(lambda: crl.PercentileBootstrap(B).values(evidence))
    fqe = fqe_tasks(simulator.sample(10_000, behavior, horizon, seed=0), goal)
    tasks = [bootstrap_task(evidence), *weights_task(), *sampling_tasks(simulator, behavior, horizon), *fqe]
    console = Console(width=max(Console().width, 140))
    console.print(speed_table([(task, measure(task)) for task in tasks]))
    if memory is not None:
        whole = f"its moments have {size:.1f} MB, a B × n array of 8-byte indices would have {B * N * 8 / 1e6:.0f} MB"
        console.print(f"Peak extra memory of the bootstrap, first call: {memory:.1f} MB ({whole}).")
    print(f"{os.cpu_count()} cores, {numba.get_num_threads()} numba threads. Seconds and ratio: best of the turns.")
    print("A threaded task that had fewer cores than there are shared them with other processes; repeat it on a quiet machine.")
    print(f"n = {N:,} trajectories (10,000 for FQE), B = {B:,}, horizon {horizon}; weights: mean length {MEAN_LENGTH}.")


if __name__ == "__main__":
    main()
