"""A confounded table in which the treatment seems to harm and helps: from the joint table to ATE, CATE, IPW and DR.

Read this script from top to bottom; the cells between `# %%` are steps of one argument. Its checks are exact: every number
follows from the table by fractions, and the estimators of the package have to give it to rounding.
"""

# %% [markdown]
# ## The table
# 400 patients, mild or severe. Clinicians treat the severe more often, as they should. Each cell counts how many there are and
# how many recover: that is the whole joint distribution of severity X, treatment A and recovery Y.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

import causalrl as crl
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row
from paper_figures.style import BLUE, GREY, ORANGE, PAGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEVERITY, ARMS = ("mild", "severe"), ("untreated", "treated")
COUNTS = ((160, 40), (40, 160))
"""Patients by severity (row) and treatment (column)."""
RECOVERED = ((120, 32), (8, 72))
"""How many of them recover."""


def patients() -> crl.Trajectories:
    """One decision a patient: X is the state, A the action, Y the reward. The rows are the table, nothing is drawn."""
    counts, recovered = np.array(COUNTS).ravel(), np.array(RECOVERED).ravel()
    x, a = np.repeat(np.indices((2, 2)).reshape(2, -1), counts, axis=1)
    y = np.concatenate([np.arange(n) < k for n, k in zip(counts, recovered, strict=True)])
    return crl.Trajectories.from_cross_section(x, a, y.astype(float))


# %% [markdown]
# ## What follows from the table alone
# Per severity x: the risk P(Y = 1 | A = a, X = x) and the propensity P(A = 1 | X = x). The naive difference compares who was
# treated with who was not, and so also compares severe with mild. If nothing but severity drives both treatment and recovery
# (the table cannot tell), the arms are exchangeable within a severity: CATE(x) = P(Y = 1 | A = 1, x) - P(Y = 1 | A = 0, x), and
# ATE = sum over x of P(x) CATE(x).


def risk(x: int, a: int) -> Fraction:
    return Fraction(RECOVERED[x][a], COUNTS[x][a])


def crude_risk(a: int) -> Fraction:
    """P(Y = 1 | A = a), severities mixed as they are in the arm."""
    return Fraction(sum(row[a] for row in RECOVERED), sum(row[a] for row in COUNTS))


def effect(x: int) -> Fraction:
    return risk(x, 1) - risk(x, 0)


def average(weights: tuple[int, int]) -> Fraction:
    """Of the conditional effects, over a population with so many mild and severe."""
    return sum((w * effect(x) for x, w in enumerate(weights)), Fraction(0)) / sum(weights)


def from_the_table() -> Mapping[str, Fraction]:
    """Every estimand in closed form."""
    everyone = (sum(COUNTS[0]), sum(COUNTS[1]))
    untreated, treated = zip(*COUNTS, strict=True)
    effects = {f"CATE, {name}": effect(x) for x, name in enumerate(SEVERITY)}
    naive = crude_risk(1) - crude_risk(0)
    return {"naive difference": naive, "ATE": average(everyone), "ATT": average(treated), "ATC": average(untreated), **effects}


# %% [markdown]
# ## The same from the data, four ways
# Standardisation (the g-formula) averages the model of the outcome over everyone. IPW weights each patient by 1 / P(own arm | x),
# which makes severity and treatment independent; with one propensity for all it is the naive difference. AIPW adds to the model
# the weighted mean of what the model misses. `Counts()` learns the propensities and `TabularQ()` the risks, both by counting, and
# then the three are the same number, the ATE. (folds=1: the table is everybody, and there is nothing to overfit.)


def estimates(data: crl.Trajectories) -> Mapping[str, crl.Estimate]:
    same, counted, table = crl.KnownPropensity(crl.Uniform(2)), crl.Counts(), crl.TabularQ()
    recipes = {
        "naive difference": crl.IPW(same),
        "standardisation": crl.GFormula(table),
        "IPW": crl.IPW(counted),
        "AIPW": crl.AIPW(table, counted, folds=1),
    }
    return {name: recipe.estimate(data, crl.ATE()) for name, recipe in recipes.items()}


# %% [markdown]
# ## Doubly robust
# One of the two models may be wrong. With an outcome model that says nothing (q = 0) AIPW is IPW; with propensities of one half
# for all, the residuals still have mean 0 in each cell. Only with both wrong is it biased.


def misspecified(data: crl.Trajectories) -> Mapping[str, crl.Estimate]:
    nothing, half = crl.KnownQ(np.zeros((2, 2))), crl.KnownPropensity(crl.Uniform(2))
    models = {
        "AIPW, outcome model wrong": (nothing, crl.Counts()),
        "AIPW, propensities wrong": (crl.TabularQ(), half),
        "AIPW, both wrong": (nothing, half),
    }
    return {name: crl.AIPW(q, e, folds=1).estimate(data, crl.ATE()) for name, (q, e) in models.items()}


# %% [markdown]
# ## Whose effect?
# CATE: each severity has its own effect. Averaged over the treated, most of them severe (ATT), it is larger than over the
# untreated (ATC): the same table, and three right answers to three questions.


def conditional(data: crl.Trajectories) -> Mapping[str, float]:
    effects = crl.GFormula(crl.TabularQ()).estimate(data, crl.CATE(at=[0, 1])).value
    tilted = {"ATT": crl.ATT(), "ATC": crl.ATC()}
    found = {name: float(crl.IPW(crl.Counts()).estimate(data, goal).value) for name, goal in tilted.items()}
    return found | {f"CATE, {name}": float(own) for name, own in zip(SEVERITY, effects, strict=True)}


# %% [markdown]
# ## Checks and picture


def all_of_it(replication: int) -> Row:
    """Every estimate on the table, with its interval as if the patients were a sample."""
    data, row = patients(), dict[str, float]()
    for name, found in (estimates(data) | misspecified(data)).items():
        interval = found.interval()
        row |= {name: float(found.value), f"{name}/low": float(interval.low), f"{name}/high": float(interval.high)}
    return row | conditional(data)


def jobs(fast: bool) -> Mapping[str, Job]:
    return {"table": Job(all_of_it, 1)}


def cells(results: Results) -> Iterator[Cell]:
    for name, value in results["table"].iloc[0].items():
        if "/" not in str(name):
            yield Cell(str(name), float(value))


def claims(results: Results) -> Iterator[Claim]:
    exact = from_the_table()
    yield Claim("the naive difference says that the treatment harms", -float(exact["naive difference"]))
    yield Claim("the treatment helps on average", float(exact["ATE"]))
    for name in SEVERITY:
        yield Claim(f"it helps the {name}", float(exact[f"CATE, {name}"]))
    yield Claim("it helps those who get it more than those who do not", float(exact["ATT"] - exact["ATC"]))


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.7), width_ratios=(1, 1.3))
    _risks(left)
    row, exact = results["table"].iloc[0], from_the_table()
    names = [str(name) for name in row.index if f"{name}/low" in row.index]
    for place, name in enumerate(reversed(names)):
        color = ORANGE if abs(row[name] - exact["ATE"]) > 1e-9 else BLUE
        right.plot([row[f"{name}/low"], row[f"{name}/high"]], [place, place], color=color)
        right.plot(row[name], place, "o", color=color)
    right.axvline(0, color=GREY, linewidth=0.6)
    right.axvline(float(exact["ATE"]), color="black", linestyle=":")
    right.set_yticks(range(len(names)), reversed(names))
    right.set_xlabel("effect on the chance to recover (dotted: ATE)")
    return {"": figure}


def _risks(ax: Axes) -> None:
    lines = {name: (BLUE, "-", [risk(x, a) for a in (0, 1)], COUNTS[x]) for x, name in enumerate(SEVERITY)}
    lines["all"] = (ORANGE, "--", [crude_risk(a) for a in (0, 1)], [sum(row[a] for row in COUNTS) for a in (0, 1)])
    for name, (color, line, risks, patients_of) in lines.items():
        ax.plot((0, 1), risks, line, color=color)
        ax.scatter((0, 1), risks, [n / 2 for n in patients_of], color=color)
        ax.annotate(name, (1, float(risks[1])), (10, -3), textcoords="offset points", color=color)
    ax.set(xticks=(0, 1), xlim=(-0.25, 1.5), ylim=(0, 1), ylabel="share that recovers (area: patients)")
    ax.set_xticklabels(ARMS)


PAPER = Paper("A confounded table", "our own example, with our own numbers", 1, jobs, cells, claims, draw)
