"""Künzel et al. (2019), Metalearners: S-, T- and X-learner with random forests; few treated, linear arms, no effect.

Simulation 1 at 5,000 units has published errors. Those of simulations 3 and 6 need forests of 1,000 trees: of a few hundred, the
noise of the trees themselves exceeds the error. Their rankings, and that of simulation 2, need no more than these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor

import causalrl as crl
from causalrl.kernels.rng import derive_seed
from paper_figures.checks import PUBLISHED
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, mean_cell
from paper_figures.style import BLUE, GREY, ORANGE, PAGE
from simulators import Kunzel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME, TESTED = "kunzel_2019", 4000
COLORS = {"S": GREY, "T": ORANGE, "X": BLUE}
WHAT = {1: "1: 1% treated", 2: "2: unlike linear arms", 6: "6: confounded, no effect"}


def forest(trees: int, share: float, features: int, leaf: int) -> RandomForestRegressor:
    """Trees on a share of the sample, drawn with replacement."""
    return RandomForestRegressor(trees, max_samples=share, max_features=features, min_samples_leaf=leaf)


def errors(replication: int, simulation: int, n: int, trees: int) -> Row:
    """Mean squared errors of the learners, with the authors' parameters but for the number of trees."""
    design, root = Kunzel(simulation, draw=replication), derive_seed(0, f"Kunzel {simulation} {n}", replication)
    study, test = design.sample(n, derive_seed(root, "train")), design.sample(TESTED, derive_seed(root, "test"))
    whole, first, second = forest(trees, 0.9, 20, 1), forest(trees, 0.8, 13, 2), forest(trees, 0.7, 17, 5)
    learners = {
        "S": crl.SLearner(whole),
        "T": crl.TLearner(whole),
        "X": crl.XLearner(first, forest(trees, 0.5, 20, 11), effect=second),
    }
    goal, truth = crl.CATE(at=test.observations), design.effect(test.observations)
    return {name: float(np.mean((learner.estimate(study, goal, root).value - truth) ** 2)) for name, learner in learners.items()}


def jobs(fast: bool) -> Mapping[str, Job]:
    """Each replication has coefficients and correlations of its own; of simulation 1 six, as its errors depend on them."""
    if fast:
        planned = [(1, 2500, 2), (1, 5000, 2), *((s, n, 2) for s in (2, 6) for n in (500, 1000))]
    else:
        planned = [(1, 2500, 6), (1, 5000, 6), (1, 10000, 2), *((s, n, 2) for s in (2, 6) for n in (1000, 2500, 5000))]
    trees = 6 if fast else 50
    return {f"{s} {n}": Job(errors, draws, {"simulation": s, "n": n, "trees": trees}) for s, n, draws in planned}


def cells(results: Results) -> Iterator[Cell]:
    for name in COLORS:
        yield mean_cell(f"1 5000 {name}", results["1 5000"][name])


def larger(text: str, differences: pd.Series) -> Claim:
    """That paired differences are positive."""
    return Claim(text, *mean_cell("", differences)[1:])


def claims(results: Results) -> Iterator[Claim]:
    for label, rows in results.items():
        simulation, n = map(int, label.split())
        s, t, x = (rows[name] for name in COLORS)
        where = f"simulation {simulation}, n = {n}"
        if simulation == 1:
            yield larger(f"{where}: T worst", t - np.maximum(s, x))
            if n >= 5000:
                yield larger(f"{where}: X at most half of S", s / 2 - x)
        elif simulation == 2:
            yield larger(f"{where}: S worst", s - np.maximum(t, x))
        else:
            yield larger(f"{where}: S better than X", x - s)
            yield larger(f"{where}: X better than T", t - x)


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(PAGE, 2.5))
    for ax, (simulation, what) in zip(axes, WHAT.items(), strict=True):
        labels = sorted((k for k in results if k.startswith(f"{simulation} ")), key=lambda label: int(label.split()[1]))
        sizes = [int(label.split()[1]) for label in labels]
        for name, color in COLORS.items():
            ax.plot(sizes, [results[label][name].mean() for label in labels], "o-", color=color, label=name)
            if simulation == 1:
                ax.plot(5000, PUBLISHED[NAME]["cells"][f"1 5000 {name}"]["value"], "D", mfc="none", markersize=6, color=color)
        ax.set_title(what)
        ax.set_xscale("log")
        ax.set_yscale("log" if simulation == 6 else "linear")
        ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
        ax.set_xticks([], minor=True)
        ax.set_xlabel("sample size")
    for ax in axes[:2]:
        ax.set_ylim(bottom=0)
    axes[0].set_ylabel("mean squared error of the effect")
    axes[0].plot([], [], "D", mfc="none", markersize=6, color=GREY, label="published")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    return {"": figure}


PAPER = Paper(
    "Metalearners with few treated",
    "Künzel, Sekhon, Bickel & Yu (2019), PNAS 116, 4156-4165",
    2,
    jobs,
    cells,
    claims,
    draw,
)
