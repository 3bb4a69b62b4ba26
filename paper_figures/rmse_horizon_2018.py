"""Error against the horizon, the claim of Liu et al. (2018) and Xie et al. (2019): products of ratios are cursed by it.

On ModelWin the relative error of marginalised importance sampling (MIS) and of an approximate model (AM) falls with the root of
the horizon, and reaches the efficiency bound of a Markov process; that of estimators that multiply ratios along the trajectory
grows until they are useless, as does the bound without the Markov property. The papers' own domains have no exact truth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import causalrl as crl
from benchmarks.rates import slope
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from paper_figures.checks import PUBLISHED
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, below, rmse_cell
from paper_figures.style import BLUE, COLUMN, GREEN, GREY, ORANGE, RED
from simulators import ModelWin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N, SEED = 1024, 0
HORIZONS = (4, 8, 16, 32, 64, 128)
LONG, MANY = 32, 100
"""A horizon from which products of ratios fail, and replications from which the mean of their squared errors shows it."""
COLORS = {"MIS": BLUE, "AM": GREEN, "CWPDIS": ORANGE, "WIS": RED, "PDIS": GREY}
MARKOV = ("MIS", "AM")
WIDTHS = {"MIS": 4.0}
"""Points: under the line of AM, which is nearly the same."""


def errors(replication: int, horizon: int) -> Row:
    """Relative errors of the estimates from one sample."""
    domain = ModelWin(horizon=horizon)
    target = domain.target()
    truth, goal = domain.value(target, horizon), crl.PolicyValue(target, horizon=horizon)
    data = domain.sample(N, domain.behavior(), horizon, seed=derive_seed(SEED, "data", horizon, replication))
    shared = Nuisances(data, derive_seed(SEED, "estimate", horizon, replication))
    estimators = {
        "MIS": crl.MIS(),
        "AM": crl.FQE(crl.TabularQ()),
        "CWPDIS": crl.PDWIS(),
        "WIS": crl.WIS(),
        "PDIS": crl.PDIS(),
        "IS": crl.IS(),
    }
    return {name: estimator.point(shared, goal) / truth - 1 for name, estimator in estimators.items()}


def bounds(replication: int) -> Row:
    """Root of the efficiency bound over n, relative to the truth, at every horizon."""
    row = {}
    for horizon in HORIZONS:
        domain = ModelWin(horizon=horizon)
        target, behavior = domain.target(), domain.behavior()
        for model in ("markov", "history"):
            bound = domain.efficiency_bound(target, behavior, horizon, model=model)
            row[f"{model}/{horizon}"] = float(np.sqrt(bound / N)) / domain.value(target, horizon)
    return row


def jobs(fast: bool) -> Mapping[str, Job]:
    counts = {h: (20 if fast else 400) if h <= LONG else (10 if fast else 200) for h in HORIZONS}
    sampled = {f"H{h}": Job(errors, count, {"horizon": h}) for h, count in counts.items()}
    return {"bounds": Job(bounds, 1), **sampled}


def rmse(results: Results, name: str) -> list[Cell]:
    """Relative RMSE at every horizon."""
    return [rmse_cell(f"{name}, H = {h}", results[f"H{h}"][name]) for h in HORIZONS]


def cells(results: Results) -> Iterator[Cell]:
    for name in COLORS:
        yield from rmse(results, name)
    for name in MARKOV:
        found = pd.DataFrame(rmse(results, name))
        yield Cell(f"{name}, log-log slope", *slope(pd.Series(HORIZONS), found["value"], found["mcse"]))


def claims(results: Results) -> Iterator[Claim]:
    exact = results["bounds"].iloc[0]
    for name in MARKOV:
        found = rmse(results, name)
        yield below(f"the relative error of {name} falls with the horizon", found[-1], found[0])
        for h, cell in zip(HORIZONS, found, strict=True):
            room = 0.15 * exact[f"markov/{h}"] - abs(cell.value - exact[f"markov/{h}"])
            yield Claim(f"the error of {name} is that of the efficiency bound within 15 percent, H = {h}", room, cell.mcse)
    for name in ("CWPDIS", "WIS"):
        found = rmse(results, name)
        yield below(f"the relative error of {name} grows with the horizon", found[0], found[-1])
        for h, cell, other in zip(HORIZONS, found, rmse(results, "MIS"), strict=True):
            yield below(f"MIS has the smaller error than {name}, H = {h}", other, cell)
    for h in (h for h in HORIZONS if h >= LONG):
        yield Claim(
            f"without the Markov property no regular estimator is closer than the truth itself, H = {h}",
            exact[f"history/{h}"] - 1,
        )
        if len(results[f"H{h}"]) >= MANY:
            cell = rmse_cell("", results[f"H{h}"]["PDIS"])
            yield Claim(f"the error of PDIS exceeds the truth, H = {h}", cell.value - 1, cell.mcse)
    collapsed = (results[f"H{HORIZONS[-1]}"]["IS"] + 1).abs().median()
    yield Claim("importance sampling collapses to 0 at the longest horizon: its median is below a hundredth", 0.01 - collapsed)


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    published, exact = PUBLISHED["rmse_horizon_2018"]["cells"], results["bounds"].iloc[0]
    figure, ax = plt.subplots(figsize=(COLUMN, 3.2))
    for name, color in COLORS.items():
        found = rmse(results, name)
        ax.plot(HORIZONS, [cell.value for cell in found], "o-", color=color, label=name, linewidth=WIDTHS.get(name, 1.2))
        theirs = [published[cell.key]["value"] for cell in found]
        ax.plot(HORIZONS, theirs, "D", color=color, fillstyle="none", markersize=5)
    for model, line, text in (("markov", ":", "Markov"), ("history", "--", "not Markov")):
        ax.plot(HORIZONS, [exact[f"{model}/{h}"] for h in HORIZONS], line, color="black", label=f"bound, {text}")
    ax.plot([], [], "D", color="black", fillstyle="none", markersize=5, label="reference run")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_ylim(0.03, 300)
    ax.set_xticks(HORIZONS, map(str, HORIZONS))
    ax.set_xlabel("horizon H, steps")
    ax.set_ylabel("RMSE / |true value|")
    figure.legend(loc="outside upper center", ncols=3)
    return {"": figure}


PAPER = Paper(
    "The curse of the horizon",
    "Liu, Li, Tang & Zhou (2018), NeurIPS (arXiv 1810.12429); Xie, Ma & Wang (2019), NeurIPS (arXiv 1906.03393)",
    2,
    jobs,
    cells,
    claims,
    draw,
)
