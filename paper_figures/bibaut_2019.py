"""Bibaut et al. (2019), More efficient off-policy evaluation through regularized targeted learning: WDR and MAGIC on ModelFail.

In their variant the state is seen, the policies differ at the first step only, and Q is 0.38 at the first two of three steps,
so that WDR is WIS. Their regularised targeted estimators are not part of the package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

import causalrl as crl
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from paper_figures.checks import PUBLISHED
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, mean_cell
from paper_figures.style import BLUE, COLUMN, ORANGE
from simulators import ModelFail

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = (100, 500, 1000, 5000, 10000)
ESTIMATORS = ("WIS", "WDR", "MAGIC")
MEDIAN = 1e-9
"""Level of MAGIC's interval that leaves its median, as in their code."""


def errors(replication: int, n: int) -> Row:
    """Of the estimators."""
    domain, q = ModelFail(), np.full((3, 4, 2), 0.38)
    q[2] = 0
    behavior, target = (
        crl.TabularPolicy(np.vstack([policy.table[:1], np.full((3, 2), 0.5)])) for policy in (domain.behavior(), domain.target())
    )
    data = domain.sample(n, behavior, 3, derive_seed(0, "bibaut", n, replication), record="full", sees="full")
    nuisances, goal, truth = (
        Nuisances(data, replication),
        crl.PolicyValue(target, horizon=3),
        domain.value(target, 3, sees="full"),
    )
    known = crl.KnownQ(q)
    named = zip(ESTIMATORS, (crl.WIS(), crl.WDR(q=known), crl.MAGIC(q=known, level=MEDIAN)), strict=True)
    return {name: estimator.point(nuisances, goal) - truth for name, estimator in named}


def jobs(fast: bool) -> Mapping[str, Job]:
    return {f"n{n}": Job(errors, 10 if fast else 400, {"n": n}) for n in SIZES}


def cells(results: Results) -> Iterator[Cell]:
    for n in SIZES:
        for name in ESTIMATORS:
            yield mean_cell(f"{n} {name}", results[f"n{n}"][name] ** 2)


def claims(results: Results) -> Iterator[Claim]:
    for n in SIZES:
        apart = (results[f"n{n}"]["WDR"] - results[f"n{n}"]["WIS"]).abs().max()
        yield Claim(f"n = {n}: with a constant Q, WDR is WIS", 1e-9 - float(apart))


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(COLUMN, 2.6))
    ours = {cell.key: cell.value for cell in cells(results)}
    published = PUBLISHED["bibaut_2019"]["cells"]
    for name, color in (("WDR", BLUE), ("MAGIC", ORANGE)):
        keys = [f"{n} {name}" for n in SIZES]
        ax.plot(SIZES, [n * ours[key] for n, key in zip(SIZES, keys, strict=True)], "o-", color=color, label=name)
        theirs = [n * published[key]["value"] for n, key in zip(SIZES, keys, strict=True)]
        ax.plot(SIZES, theirs, "o--", color=color, markerfacecolor="none", label=f"{name}, published (142 draws)")
    ax.set(xscale="log", ylim=(0, None), xlabel="number of episodes n", ylabel="n × mean squared error")
    ax.legend()
    return {"": figure}


PAPER = Paper(
    "A wrong constant model, blended in or weighted away",
    "Bibaut, Malenica, Vlassis & van der Laan (2019), ICML, 654-663",
    1,
    jobs,
    cells,
    claims,
    draw,
)
