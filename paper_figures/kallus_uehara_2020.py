"""Kallus & Uehara (2020), Double reinforcement learning, section 5.1: what efficient evaluation gains, against exact bounds.

Their process has a normal state. On a fine grid (`process(FINE)`, 30 steps) its values and bounds are exact to all digits shown;
estimators run on a coarse grid, 10 steps long, where tables can be learned: DM is fitted Q-evaluation, DRL(M1) corrects it with
cumulative weights, DRL(M2) with marginal ones. Their curves, with a linear q for each step, have no published table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

import causalrl as crl
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, below, ordered, rmse_cell
from paper_figures.style import BLUE, GREEN, GREY, ORANGE, PAGE, PINK, RED, SKY
from simulators import TabularMDP

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEED, NOISE = 0, 0.2
SIZES = (750, 1500, 3000, 6000)
FINE, COARSE = (0.05, -4.0, 8.0, 30), (0.25, -1.0, 2.0, 10)
"""Distance of the points of the grid, its ends, and the horizon."""
MODELS = {"history": "history", "markov": "Markov", "homogeneous": "Markov and homogeneous"}
RIGHT = {"WIS": RED, "PDIS": GREY, "MIS": SKY, "DRL(M1)": ORANGE, "DRL(M2)": BLUE, "DM": GREEN}
WRONG = {"DM, q wrong": GREEN, "DRL(M2), both wrong": RED, "DRL(M2), q wrong": PINK, "DRL(M2), weights wrong": BLUE}


@cache
def process(step: float, low: float, high: float) -> TabularMDP:
    """s' ~ N(s - 0.3 (a - 1/2) + 0.02 odd', 0.2^2), r ~ N(0.9 s + 0.3 a - 0.02 odd, 0.2^2), start N(1/2, 0.2^2), on a grid.

    A state is a point of the grid and whether t is odd: the even half first.
    """
    grid, odd, action = np.arange(low, high + step / 2, step), np.array([0.0, 1.0]), np.array([0.0, 1.0])
    mean = grid[:, None] - 0.3 * (action - 0.5) + 0.02 * (1 - odd[:, None, None])
    near = np.exp(-0.5 * ((grid - mean[..., None]) / NOISE) ** 2)
    near /= near.sum(axis=-1, keepdims=True)
    nothing = np.zeros_like(near[0])
    transitions = np.concatenate([np.concatenate(pair, axis=-1) for pair in ((nothing, near[0]), (near[1], nothing))])
    rewards = 0.9 * grid[:, None] + 0.3 * action - 0.02 * odd[:, None, None]
    start = np.exp(-0.5 * ((grid - 0.5) / NOISE) ** 2)
    features = np.column_stack([np.tile(grid, 2), np.repeat(odd, len(grid))])
    initial = np.append(start / start.sum(), np.zeros(len(grid)))
    return TabularMDP(transitions, rewards.reshape(-1, 2), initial, state_features=features, reward_noise=NOISE)


def logistic(mdp: TabularMDP, slope: float, least: float) -> crl.TabularPolicy:
    """P(a = 1 | s) = slope / (1 + exp(-s / 10)) + least."""
    chance = slope / (1 + np.exp(-0.1 * mdp.state_features[:, 0])) + least
    return crl.TabularPolicy(np.column_stack([1 - chance, chance]))


def policies(mdp: TabularMDP) -> tuple[crl.TabularPolicy, crl.TabularPolicy]:
    """The behaviour policy and the target."""
    return logistic(mdp, 0.2, 0.1), logistic(mdp, 0.9, 0.05)


def exact(replication: int, step: float, low: float, high: float, horizon: int) -> Row:
    """Values, standard deviation of the return, and efficiency bounds."""
    mdp = process(step, low, high)
    behavior, target = policies(mdp)
    bounds = {model: mdp.efficiency_bound(target, behavior, horizon, model=model) for model in MODELS}
    values = {"value, target": mdp.value(target, horizon), "value, behaviour": mdp.value(behavior, horizon)}
    return {**values, "return sd, target": float(np.sqrt(mdp.variance(target, horizon))), **bounds}


def errors(replication: int, n: int) -> Row:
    """Of every estimator; a wrong q is half the right one, wrong weights are 1."""
    *grid, horizon = COARSE
    mdp = process(*grid)
    behavior, target = policies(mdp)
    q, ratio = crl.KnownQ(mdp.q(target, horizon) / 2), crl.KnownRatio(np.ones((mdp.n_states, 2)))
    estimators = {
        "PDIS": crl.PDIS(),
        "WIS": crl.WIS(),
        "MIS": crl.MIS(),
        "DM": crl.FQE(),
        "DRL(M1)": crl.DR(q=crl.TabularQ()),
        "DRL(M2)": crl.DRL(q=crl.TabularQ()),
        "DM, q wrong": crl.FQE(q),
        "DRL(M2), q wrong": crl.DRL(q=q),
        "DRL(M2), weights wrong": crl.DRL(q=crl.TabularQ(), ratio=ratio),
        "DRL(M2), both wrong": crl.DRL(q=q, ratio=ratio),
    }
    data = mdp.sample(n, behavior, horizon, seed=derive_seed(SEED, "data", n, replication))
    shared, goal = Nuisances(data, derive_seed(SEED, "estimate", n, replication)), crl.PolicyValue(target, horizon=horizon)
    return {name: estimator.point(shared, goal) - mdp.value(target, horizon) for name, estimator in estimators.items()}


def jobs(fast: bool) -> Mapping[str, Job]:
    grids = {
        name: Job(exact, 1, dict(zip(("step", "low", "high", "horizon"), grid, strict=True)))
        for name, grid in (("fine", FINE), ("coarse", COARSE))
    }
    return grids | {f"n{n}": Job(errors, 10 if fast else 300, {"n": n}) for n in SIZES}


def rmse(results: Results, name: str, n: int) -> Cell:
    return rmse_cell(f"{name}, n = {n}", results[f"n{n}"][name])


def cells(results: Results) -> Iterator[Cell]:
    for name in ("value, target", "value, behaviour", "return sd, target"):
        yield Cell(name, float(results["fine"][name].iloc[0]))


def claims(results: Results) -> Iterator[Claim]:
    for n in SIZES:
        for name in ("DRL(M1)", "PDIS", "WIS", "MIS"):
            yield below(f"DRL(M2) is closer than {name}, n = {n}", rmse(results, "DRL(M2)", n), rmse(results, name, n))
    first, last = SIZES[0], SIZES[-1]
    yield below(f"DM is closer than DRL(M2), n = {first}", rmse(results, "DM", first), rmse(results, "DRL(M2)", first))
    bounds = results["coarse"].iloc[0]
    yield from ordered(Cell(f"bound, {MODELS[model]}", bounds[model]) for model in reversed(MODELS))
    for name, model in (("DM", "homogeneous"), ("DRL(M2)", "markov")):
        least, own = float(np.sqrt(bounds[model] / last)), rmse(results, name, last)
        text = f"{name} comes within 15 percent of the bound of its model ({MODELS[model]}), n = {last}"
        yield Claim(text, 0.15 * least - abs(own.value - least), own.mcse)
    for name in ("DRL(M2), q wrong", "DRL(M2), weights wrong"):
        few, many = rmse(results, name, first), rmse(results, name, last)
        yield below(
            f"{name}: eight times the data halve the error at least", many, few._replace(value=few.value / 2, mcse=few.mcse / 2)
        )
        yield below(f"{name} is closer than with both wrong, n = {last}", many, rmse(results, "DRL(M2), both wrong", last))
    for name in ("DM, q wrong", "DRL(M2), both wrong"):
        few, many = rmse(results, name, first), rmse(results, name, last)
        yield below(f"{name}: eight times the data do not take a tenth off the error", few._replace(value=0.9 * few.value), many)


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 3.0))
    _curves(left, results, RIGHT, 0.5)
    for model, line in zip(MODELS, ("--", "-.", ":"), strict=True):
        bound = float(np.sqrt(results["coarse"][model].iloc[0]))
        left.axhline(bound, color="black", linestyle=line, linewidth=0.8, label=f"bound: {MODELS[model]}")
    left.set_yscale("log")
    left.set_yticks(ticks := (5, 10, 20, 40), map(str, ticks))
    left.minorticks_off()
    left.set_ylabel("root n times RMSE of the value")
    left.set_title("everything right: errors and exact bounds")
    _curves(right, results, WRONG, 0.0)
    right.set_yscale("log")
    right.set_ylim(0.04)
    right.set_ylabel("RMSE of the value")
    right.set_title("half of the right q, or weights of 1")
    for ax in (left, right):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
    return {"": figure}


def _curves(ax: Axes, results: Results, colors: Mapping[str, str], power: float) -> None:
    for name, color in colors.items():
        ax.plot(SIZES, [rmse(results, name, n).value * n**power for n in SIZES], "o-", color=color, label=name)
    ax.set_xscale("log")
    ax.set_xticks(SIZES, map(str, SIZES))
    ax.minorticks_off()
    ax.set_xlabel("n, trajectories")


PAPER = Paper(
    "Double reinforcement learning for efficient off-policy evaluation in Markov decision processes",
    "Kallus & Uehara (2020), Journal of Machine Learning Research 21(167) (arXiv 1908.08526)",
    2,
    jobs,
    cells,
    claims,
    draw,
)
