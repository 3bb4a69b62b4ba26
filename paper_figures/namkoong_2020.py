"""Namkoong et al. (2020), Off-policy policy evaluation under unobserved confounding: sepsis, where the first doctor knows more.

Importance sampling overstates what antibiotics do, and bounds under an odds ratio gamma of confounding say how far it may be off.
The study is reproduced with the quirks of the authors' code (`NamkoongSepsis.as_published`). Their second study, on a trial of
autism, needs covariates that are not public.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import causalrl as crl
from benchmarks import sensitivity_policies as study
from causalrl.kernels.rng import derive_seed
from paper_figures.checks import PUBLISHED
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, below, mean_cell, ordered
from paper_figures.style import BLUE, GREY, ORANGE, PAGE
from simulators import NamkoongSepsis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAMMAS = tuple(float(gamma) for gamma in np.round(np.linspace(1.0, 2.5, 31), 2))
BETTER, WORSE = ("with", "low"), ("without", "high")
"""The policies and the bounds of them that decide which is better."""
ENDS = dict((BETTER, WORSE))
ESTIMATES = ("naive", "Namkoong", "IS")
LABELS = {"IS": "importance sampling", "Namkoong": "lower bound", "naive": "naive lower bound"}
HOLLOW: Mapping[str, Any] = {"fillstyle": "none", "markersize": 5.5}
COLORS = {"IS": GREY, "Namkoong": BLUE, "naive": ORANGE}


def table(replication: int) -> Row:
    """Estimates and lower bounds at gamma = 2, of data confounded as strongly."""
    return study.sepsis_replication(replication)


def truth(replication: int) -> Row:
    """Exact values of the three policies: with a luck that lasts, as in the code, and with one of the first step alone."""
    worlds = {"lasting luck": NamkoongSepsis.as_published(), "luck at t = 0": NamkoongSepsis(own_dynamics=False)}
    return {
        f"value, {luck}, {target}": world.value(getattr(world, name))
        for luck, world in worlds.items()
        for target, name in study.TARGETS.items()
    }


def curves(replication: int) -> Row:
    """Bounds at every gamma of data without confounding, and the gamma at which the two policies can no longer be told apart."""
    world = NamkoongSepsis.as_published(gamma=1.0)
    data = world.counted(world.sample(study.SEPSIS_N, derive_seed(study.SEED, "design", replication)))
    row: dict[str, float] = {}
    for model, kind in study.MODELS.items():
        found = {
            target: crl.sensitivity_analysis(
                crl.IS(), data, crl.PolicyValue(getattr(world, study.TARGETS[target]), 0.99, 5), kind(GAMMAS, replicates=2)
            )
            for target in ENDS
        }
        for target, end in ENDS.items():
            row |= {f"{model}, {target}/{gamma}": v for gamma, v in zip(GAMMAS, found[target].frame[end], strict=True)}
        row[f"design sensitivity, {model}"] = crl.design_sensitivity(found["without"], found["with"])
    return row


def identity(replication: int) -> Row:
    """The bound less importance sampling at gamma = 1, with the first doctor's policy counted at t = 0 alone."""
    world = NamkoongSepsis(own_dynamics=False, lasting_luck=True)
    data = world.counted(world.sample(study.SEPSIS_N, derive_seed(study.SEED, "identity", replication)))
    goal = crl.PolicyValue(world.with_antibiotics, 0.99, 5)
    found = crl.sensitivity_analysis(crl.IS(), data, goal, crl.NamkoongModel([1.0], replicates=2))
    return {"difference": found.frame["low"][0] - crl.IS().estimate(data, goal).value}


def jobs(fast: bool) -> Mapping[str, Job]:
    sets = 5 if fast else 20
    return {"truth": Job(truth, 1), "identity": Job(identity, 1), "table": Job(table, sets), "curves": Job(curves, sets)}


def cells(results: Results) -> Iterator[Cell]:
    for name, values in (*results["table"].items(), *results["truth"].items()):
        yield Cell(name, float(values.iloc[0])) if len(values) == 1 else mean_cell(str(name), values)
    rows = results["curves"]
    for target in ENDS:
        yield mean_cell(f"IS without confounding, {target}", rows[f"naive, {target}/{GAMMAS[0]}"])
    for model in study.MODELS:
        yield mean_cell(f"design sensitivity, {model}", rows[f"design sensitivity, {model}"])


def claims(results: Results) -> Iterator[Claim]:
    rows, values, flat = results["table"], results["truth"].iloc[0], results["curves"]
    for target in study.TARGETS:
        yield from ordered(mean_cell(f"{name}, {target}", rows[f"{name}, {target}"]) for name in ESTIMATES)
        exact = Cell("", values[f"value, lasting luck, {target}"])
        for model in study.MODELS:
            bound = mean_cell("", rows[f"{model}, {target}"])
            yield below(f"the {LABELS[model]} at gamma = 2 lies below the value, {target}", bound, exact)
    contrast = mean_cell("", rows["IS, with"] - rows["IS, without"])
    exact = Cell("", values["value, lasting luck, with"] - values["value, lasting luck, without"])
    yield below("importance sampling overstates what antibiotics do", exact, contrast)
    ends = [flat[f"design sensitivity, {model}"] for model in ("Namkoong", "naive")]
    gap = mean_cell("", ends[0] - ends[1])
    yield Claim("the bound tells the policies apart up to a larger gamma than the naive one", gap.value, gap.mcse)
    for model in study.MODELS:
        for target, end in ENDS.items():
            steps = np.diff(flat[[f"{model}, {target}/{gamma}" for gamma in GAMMAS]].to_numpy(), axis=1)
            least = float((steps if end == "high" else -steps).min())
            yield Claim(f"the {end} {model} bound {'rises' if end == 'high' else 'falls'} with gamma, {target}", least)
    rounding = 1e-10 - abs(float(results["identity"]["difference"].iloc[0]))
    yield Claim("at gamma = 1 the bound is importance sampling", rounding)


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.9))
    _table(left, results)
    _curves(right, results)
    return {"": figure}


def _table(ax: Axes, results: Results) -> None:
    published = PUBLISHED["namkoong_2020"]["cells"]
    places = np.arange(len(study.TARGETS))[::-1]
    for name, shift in zip(reversed(ESTIMATES), (0.2, 0.0, -0.2), strict=True):
        keys = [f"{name}, {target}" for target in study.TARGETS]
        low, mid, high = results["table"][keys].quantile([0.0, 0.5, 1.0]).to_numpy()
        ax.hlines(places + shift, low, high, color=COLORS[name])
        ax.plot(mid, places + shift, "o", color=COLORS[name], label=LABELS[name])
        ax.plot(
            [published[key]["value"] for key in keys], places + shift, "D", color=COLORS[name], fillstyle="none", markersize=5.5
        )
    ax.plot([], [], "D", color="black", fillstyle="none", markersize=5.5, label="as published")
    values = [results["truth"][f"value, lasting luck, {target}"].iloc[0] for target in study.TARGETS]
    ax.vlines(values, places - 0.35, places + 0.35, color="black", linestyle=":", label="true value")
    ax.set_yticks(places, [f"{target}\nantibiotics" if target in ENDS else "soft-\noptimal" for target in study.TARGETS])
    ax.set_ylim(-0.5, 3.75)
    ax.set_xlabel("value of the policy: median and range over data sets")
    ax.set_title("confounding of odds ratio 2, and Γ = 2 allowed for")
    ax.legend(ncols=2, loc="upper left")


def _curves(ax: Axes, results: Results) -> None:
    rows, floor = results["curves"].mean(), -0.08
    for model in study.MODELS:
        for target, line in zip(ENDS, ("-", "--"), strict=True):
            ax.plot(GAMMAS, rows[[f"{model}, {target}/{gamma}" for gamma in GAMMAS]], line, color=COLORS[model])
        meeting = rows[f"design sensitivity, {model}"]
        height = np.interp(meeting, GAMMAS, rows[[f"{model}, with/{gamma}" for gamma in GAMMAS]])
        ax.plot(meeting, height, "o", color=COLORS[model])
        ax.vlines(meeting, floor, height, color=COLORS[model], linestyle=":")
        text = f"{model}:\nΓ = {meeting:.2f}"
        ax.annotate(text, (meeting, floor), (4, 3), textcoords="offset points", color=COLORS[model])
    for target, line in zip(ENDS, ("-", "--"), strict=True):
        ax.plot([], [], line, color=GREY, label=f"{target} antibiotics, {'lower' if ENDS[target] == 'low' else 'upper'} bound")
    ax.set_xlabel("odds ratio Γ of confounding that is allowed for")
    ax.set_ylabel("bound of the value")
    ax.set_title("no confounding: where the policies meet")
    ax.set_ylim(floor)
    ax.legend(loc="upper left")


PAPER = Paper(
    "Off-policy policy evaluation for sequential decisions under unobserved confounding",
    "Namkoong, Keramati, Yadlowsky & Brunskill (2020), NeurIPS (arXiv 2003.05623)",
    1,
    jobs,
    cells,
    claims,
    draw,
)
