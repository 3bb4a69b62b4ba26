"""Voloshin et al. (2021), Empirical study of off-policy policy evaluation, the COBS graph and graph-POMDP: who wins when.

Action 0 has probability 0.8 in the data. FQE is tabular with a table a step (so that it is the model-based estimate); DR and WDR
take their Q from the same data. What is compared is the mean square error over the squared value, which is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING

import pandas as pd

import causalrl as crl
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, below, mean_cell, median_cell
from paper_figures.style import BLUE, GREEN, GREY, ORANGE, PAGE, PINK, RED, SKY
from simulators import CobsGraph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P_BEHAVIOR, GROUPS = 0.8, 6
TABLE = (
    *product((4,), ("dense",), (0.2, 0.6), (64, 1024)),
    *product((4,), ("sparse",), (0.2, 0.6), (1024,)),
    *product((16,), ("dense",), (0.2,), (64, 1024)),
    *((16, "dense", 0.6, 1024), (16, "sparse", 0.2, 1024), (16, "sparse", 0.6, 1024)),
)
SLIPS = (0.25, 0.0)
COLORS = {"IS": RED, "PDIS": ORANGE, "WIS": PINK, "PDWIS": SKY, "FQE": BLUE, "DR": GREY, "WDR": GREEN}


def errors(replication: int, horizon: int, reward: str, p: float, n: int, slip: float = 0.25, groups: int | None = None) -> Row:
    """Squared relative error of every estimator on one data set."""
    graph = CobsGraph(P_BEHAVIOR, p, horizon, slip, reward == "sparse", groups=groups)
    truth = graph.value(graph.target(), horizon, graph.discount)
    own = derive_seed(2021, f"{label(horizon, reward, p, n)}, slip {slip}, groups {groups}", replication)
    nuisances = Nuisances(graph.sample(n, graph.behavior(), horizon, own))
    goal = crl.PolicyValue(graph.target(), graph.discount, horizon)
    q = crl.TabularQ(by_time=True)
    weighting = {"IS": crl.IS(), "PDIS": crl.PDIS(), "WIS": crl.WIS(), "PDWIS": crl.PDWIS()}
    estimators = weighting | {"FQE": crl.FQE(q), "DR": crl.DR(q=q, folds=1), "WDR": crl.WDR(q=q, folds=1)}
    return {name: (estimator.point(nuisances, goal) / truth - 1) ** 2 for name, estimator in estimators.items()}


def label(horizon: int, reward: str, p: float, n: int) -> str:
    """A line of the table."""
    return f"T = {horizon}, {reward}, target {p}, n = {n}"


def hidden(slip: float) -> str:
    """A graph-POMDP."""
    return f"graph-POMDP, slip {slip}"


def jobs(fast: bool) -> Mapping[str, Job]:
    names = ("horizon", "reward", "p", "n")
    full = {line: 2000 if line == TABLE[0] else 400 for line in TABLE}
    found = {label(*line): Job(errors, 15 if fast else full[line], dict(zip(names, line, strict=True))) for line in TABLE}
    partly = {"horizon": 16, "reward": "sparse", "p": 0.6, "n": 1024, "groups": GROUPS}
    return found | {hidden(slip): Job(errors, 20 if fast else 200, {**partly, "slip": slip}) for slip in SLIPS}


def cells(results: Results) -> Iterator[Cell]:
    for line in TABLE:
        name = label(*line)
        yield from (mean_cell(f"{name}: {estimator}", results[name][estimator]) for estimator in COLORS)


def claims(results: Results) -> Iterator[Claim]:
    for line in TABLE:
        name = label(*line)
        rows = results[name]
        yield smaller(f"{name}: FQE < DR", rows, "FQE", "DR")
        if line[3] == 1024:
            yield smaller(f"{name}: DR < IS", rows, "DR", "IS")
    for name in map(hidden, SLIPS):
        yield from (smaller(f"{name}: {own} < FQE", results[name], own, "FQE") for own in ("WIS", "WDR"))


def smaller(text: str, rows: pd.DataFrame, less: str, more: str) -> Claim:
    """That one estimator has the smaller median error: over a long horizon one data set in hundreds makes the mean."""
    return below(text, median_cell(less, rows[less]), median_cell(more, rows[more]))


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 3.2), sharey=True, width_ratios=(3, 1))
    lines = [line for line in TABLE if line[3] == 1024]
    panel(left, results, {f"{t} steps\n{reward}\ntarget {p}": label(t, reward, p, n) for t, reward, p, n in lines})
    panel(right, results, {f"slip {slip}": hidden(slip) for slip in SLIPS})
    left.set(ylabel="mean square error / value²", title="graph, n = 1024; target: its probability of action 0 (data: 0.8)")
    right.set(title="node hidden, 16 steps\nsparse, target 0.6")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(COLORS))
    return {"": figure}


def panel(ax: Axes, results: Results, places: Mapping[str, str]) -> None:
    """The error of every estimator in every setting."""
    for k, (estimator, color) in enumerate(COLORS.items()):
        errors_of = [mean_cell("", results[name][estimator]) for name in places.values()]
        x = [place + (k - 3) * 0.1 for place in range(len(places))]
        ax.errorbar(x, [c.value for c in errors_of], [c.mcse for c in errors_of], fmt="o", color=color, label=estimator)
    ax.set_yscale("log")
    ax.set_xticks(range(len(places)), list(places))


PAPER = Paper(
    "Which estimator wins when: the COBS graph",
    "Voloshin, Le, Jiang & Yue (2021), NeurIPS datasets and benchmarks; arXiv 1911.06854",
    2,
    jobs,
    cells,
    claims,
    draw,
)
