"""`python -m benchmarks.speed`: the package beside NumPy, in one run, on one machine.

Everything is compiled before it is timed, and checked against NumPy where there is a reference. Package and reference take
turns; a task goes on for three seconds at least, and until neither best has improved by more than 2% for ten turns. The best
of each is reported, beside the ratio of the medians, and how many cores the package had in its best turn.
"""

from __future__ import annotations

import os
import warnings
from importlib.util import find_spec
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

import causalrl as crl
from benchmarks.speed_effects import bootstrap_tasks, million_rows
from benchmarks.speed_inference import (
    B_MOMENTS,
    B_RATIO,
    B_REFIT,
    library_tasks,
    memory_of_the_table,
    moments_task,
    ratio_tasks,
    refit_tasks,
)
from benchmarks.speed_trust import namkoong_task, refutation_task, verdict_task
from benchmarks.timing import Target, Task, agree, at_least, measure, speed_table, within
from causalrl.kernels.ragged import cumulative_log_weights
from simulators import FactorWise, GumbelMax, ICUSepsis, SepsisSimulator, TabularMDP
from simulators.base import TabularSimulator
from simulators.mdp.draws import build_draws
from simulators.mdp.sampling import Walks, sample_walks
from simulators.sepsis.process import sepsis_mdp

N, MEAN_LENGTH = 100_000, 13
Floats = NDArray[np.float64]
ten_million = Target("≥ 10 M steps/s", lambda seconds, rate, ratio: rate >= 1e7)


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


def sampling_tasks(name: str, simulator: TabularSimulator, behavior: crl.TabularPolicy, horizon: int | None) -> list[Task]:
    """Steps of a simulator: the compiled sampler alone, beside NumPy where there is a horizon, and `sample`."""
    mdp, tables = simulator.mdp, behavior.table[None]

    def kernels() -> Walks:
        return sample_walks(mdp.draws, mdp.terminal, mdp.initial, tables, N, horizon, 0)

    def public() -> crl.Trajectories:
        return simulator.sample(N, behavior, horizon, seed=0)

    walks, exact = kernels(), simulator.value(behavior, horizon)
    returns = np.add.reduceat(walks.rewards, walks.offsets[:-1])
    noise = 4 * returns.std() / np.sqrt(N)
    assert abs(returns.mean() - exact) < noise
    reference, target = None, ten_million
    if horizon is not None:
        sampler = NumPySampler(mdp, behavior, horizon)
        assert abs(sum(rewards.sum(dtype=float) for _, _, _, rewards, _ in sampler.sample(N, seed=0)) / N - exact) < noise
        reference, target = (lambda: sampler.sample(N, seed=0)), Target("≥ 30 M/s, ≥ 3 ×", fast_and_three_times)
    steps = float(len(walks.rewards))
    alone = Task(f"{name} sampling, kernels", kernels, reference, steps, "steps", target)
    return [alone, Task("the same, as sample()", public, None, steps, "steps", ten_million)]


def fast_and_three_times(seconds: float, rate: float, ratio: float) -> bool:
    """30 million a second, and 3 times NumPy."""
    return rate >= 3e7 and ratio >= 3


class NumPySampler:
    """Batches of 20,000 trajectories that step together, over cumulative rows of at most 54 successors.

    The tables are int16 and float32, padded to a power of two and searched by halving.
    """

    LANES = 20_000

    def __init__(self, mdp: TabularMDP, policy: crl.TabularPolicy, horizon: int) -> None:
        dynamics, self.n_actions, self.horizon = mdp.dynamics, mdp.n_actions, horizon
        counts = np.diff(dynamics.indptr)
        row = np.repeat(np.arange(len(counts)), counts)
        column = np.arange(len(row)) - dynamics.indptr[row]
        self.cumulative = padded(len(counts), row, column, dynamics.cumulative)
        self.successors = np.zeros(self.cumulative.shape, np.int16)
        self.successors[row, column] = dynamics.successors
        state, action = np.divmod(np.arange(policy.table.size), self.n_actions)
        self.choices = padded(mdp.n_states, state, action, np.cumsum(policy.table, axis=1).ravel())
        self.start, self.probabilities = np.cumsum(mdp.initial), policy.table.ravel()
        self.reward, self.terminal = np.zeros(mdp.n_states, np.float32), mdp.terminal
        self.reward[dynamics.successors] = dynamics.rewards

    def sample(self, n: int, seed: int) -> list[tuple[NDArray[Any], ...]]:
        """Trajectory, state, action, reward and probability of n trajectories (a multiple of the batch), a list item a time."""
        rng, steps = np.random.default_rng(seed), []
        for first in range(0, n, self.LANES):
            live = np.arange(first, first + self.LANES)
            state = np.searchsorted(self.start, rng.random(self.LANES) * self.start[-1], side="right")
            for _ in range(self.horizon):
                action = halving(self.choices, state, rng.random(len(state), np.float32)) - state * self.choices.shape[1]
                row = state * self.n_actions + action
                arrival = self.successors.ravel().take(halving(self.cumulative, row, rng.random(len(row), np.float32)))
                steps.append((live, state, action, self.reward.take(arrival), self.probabilities.take(row)))
                going = ~self.terminal.take(arrival)
                live, state = live[going], arrival[going].astype(np.int64)
        return steps


def padded(rows: int, row: NDArray[np.int64], column: NDArray[np.int64], cumulative: Floats) -> NDArray[np.float32]:
    """Cumulative probabilities in rows of one length, a power of two; the last of a row, and what follows, exceeds any number."""
    table = np.full((rows, 1 << int(column.max()).bit_length()), 2, np.float32)
    table[row, column] = np.where(np.append(column[1:], 0) == 0, 2, cumulative)
    return table


def halving(table: NDArray[np.float32], row: NDArray[np.int64], u: NDArray[np.float32]) -> NDArray[np.int64]:
    """Place in the flat table of the first entry of each row that exceeds u."""
    width, flat = table.shape[1], table.ravel()
    place, half = row * width, width // 2
    while half:
        place += half * (flat.take(place + (half - 1)) <= u)
        half //= 2
    return place


def exact_tasks(simulator: SepsisSimulator, behavior: crl.TabularPolicy, horizon: int) -> list[Task]:
    """The sepsis process built anew, the tables that sample it, and the value of a policy once it stands."""
    mdp, rows = simulator.mdp, float(simulator.n_states * simulator.n_actions)
    build = sepsis_mdp.__wrapped__
    return [
        Task("exact sepsis matrices", lambda: build("v2", "admission", "arrival"), None, rows, "rows", within(1.0)),
        Task("their sampling tables", lambda: build_draws(mdp.dynamics, mdp.state_features), None, rows, "rows", within(0.3)),
        Task("value at H = 20", lambda: simulator.value(behavior, horizon), None, 1.0, "values", within(0.05)),
    ]


def counterfactual_tasks(data: crl.Trajectories, simulator: SepsisSimulator, target: crl.TabularPolicy) -> list[Task]:
    """Counterfactual trajectories, 5 for each record (the public implementation of Oberst & Sontag makes 27 a second)."""
    goal = Target("≥ 20,000 a minute", lambda seconds, rate, ratio: rate >= 20_000 / 60)

    def task(noise: GumbelMax | FactorWise) -> Task:
        model = simulator.scm(noise)
        n = model.counterfactual(data, target, samples=5).n
        name = f"counterfactuals, {type(noise).__name__}"
        return Task(name, lambda: model.counterfactual(data, target, samples=5), None, float(n), "trajectories", goal)

    return [task(GumbelMax()), task(FactorWise())]


def fqe_tasks(data: crl.Trajectories, goal: crl.PolicyValue) -> tuple[Task, Task]:
    """Tabular FQE: the estimate, and the estimate with its default interval (200 refits)."""
    recipe = crl.FQE(crl.TabularQ())
    table = goal.policy.probabilities(np.arange(data.n_states), np.zeros(data.n_states, np.int64))
    agree(recipe.estimate(data, goal).value, numpy_fqe(data, table, goal.horizon or 0), 1e-9)
    recipe.estimate(data, goal).interval()
    name = "tabular FQE, the estimate"
    return (
        Task(
            name,
            lambda: recipe.estimate(data, goal),
            lambda: numpy_fqe(data, table, goal.horizon or 0),
            data.n,
            "trajectories",
            within(1.0),
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


def main() -> None:
    """Time every task and print the table."""
    warnings.simplefilter("ignore")
    simulator, horizon = SepsisSimulator("v2"), 20
    behavior, target = simulator.physician(0.3), simulator.physician(0.15)
    goal, logger = (crl.PolicyValue(policy, horizon=horizon) for policy in (target, behavior))
    crl.WIS().estimate(simulator.sample(10, behavior, horizon, seed=0), logger).interval(method=crl.PercentileBootstrap(2))
    data = simulator.sample(N, behavior, horizon, seed=0)
    table, memory = moments_task(data, simulator, horizon), [memory_of_the_table(N, horizon), million_rows()]
    evidence = crl.WIS().estimate(data, goal).evidence
    intervals = [*ratio_tasks(evidence), *library_tasks(evidence), table]
    intervals += refit_tasks(simulator.sample(5_000, behavior, horizon, seed=0), goal)
    fqe = fqe_tasks(simulator.sample(10_000, behavior, horizon, seed=0), goal)
    sampling = sampling_tasks("sepsis", simulator, behavior, horizon) + exact_tasks(simulator, behavior, horizon)
    if find_spec("icu_sepsis"):
        sampling += sampling_tasks("ICU-Sepsis", ICUSepsis(), ICUSepsis().expert(), None)
    sampling += counterfactual_tasks(simulator.sample(1_000, behavior, horizon, seed=0), simulator, target)
    tasks = [*intervals, *bootstrap_tasks(), namkoong_task(), refutation_task(), verdict_task(), *weights_task(), *sampling, *fqe]
    console = Console(width=max(Console().width, 140))
    console.print(speed_table([(task, measure(task)) for task in tasks]))
    print("\n".join(memory))
    print(f"{os.cpu_count()} cores, {numba.get_num_threads()} numba threads. Seconds and ratio: best of the turns.")
    print("A threaded task that had fewer cores than there are shared them with other processes; repeat it on a quiet machine.")
    print(f"n = {N:,} trajectories (10,000 for FQE, 5,000 for refits), horizon {horizon}; weights: mean length {MEAN_LENGTH}.")
    print(f"B = {B_RATIO:,} for one ratio, {B_MOMENTS:,} for the table, {B_REFIT} refits. Load: {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
