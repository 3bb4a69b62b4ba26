"""Hernan & Robins (2020), *Causal Inference: What If*, chapters 12 to 16: does quitting smoking change weight (NHEFS)?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import nhefs as study
from paper_figures.checks import PUBLISHED
from paper_figures.paper import Cell, Claim, Job, Paper, Results
from paper_figures.style import BLUE, GREY, ORANGE, PAGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "hernan_robins_2020"
METHODS = {
    "12.1 difference": "unadjusted difference",
    "12.2 difference": "IP weighting",
    "13.3 standardisation": "standardisation, effect varies with intensity",
    "13.3 standardisation, additive": "standardisation, one effect",
    "14.5 psi": "g-estimation, weighted for censoring",
    "15.1 additive": "outcome regression",
    "15.3 score": "regression on the propensity score",
    "15.3 deciles": "regression on deciles of the score",
    "15.4 standardisation on the score": "standardisation on the propensity score",
    "AIPW difference": "augmented IP weighting",
}
CRUDE = "12.1 difference"


def jobs(fast: bool) -> Mapping[str, Job]:
    few = 1 if fast else 20
    draws = {"15.4 standardisation on the score": few}
    refits = {name: Job(study.refits, draws.get(name, few if fast else 60), {"name": name}) for name in study.BOOTSTRAPPED}
    return {"chapters": Job(study.chapters, 1), **refits}


def cells(results: Results) -> Iterator[Cell]:
    row, found = results["chapters"].iloc[0], {}
    for name in study.BOOTSTRAPPED:
        draws = results[name].to_numpy().ravel()
        error = float(draws.std(ddof=1))
        found[f"{name} stderr"] = Cell(f"{name} stderr", error, error / np.sqrt(2 * (len(draws) - 1)))
        for end, share in (("low", 0.025), ("high", 0.975)):
            found[f"{name} {end}"] = Cell(f"{name} {end}", float(np.quantile(draws, share)))
    for key in PUBLISHED[NAME]["cells"]:
        yield found.get(key) or Cell(key, float(row[key]))


def limits(results: Results, name: str) -> tuple[float, float]:
    """The 95% interval of a method: of its own, or bootstrap percentiles."""
    if name in study.BOOTSTRAPPED:
        low, high = np.quantile(results[name].to_numpy(), [0.025, 0.975])
        return float(low), float(high)
    row = results["chapters"].iloc[0]
    return float(row[f"{name} low"]), float(row[f"{name} high"])


def claims(results: Results) -> Iterator[Claim]:
    row = results["chapters"].iloc[0]
    adjusted = row[[name for name in METHODS if name != CRUDE]]
    error = row[[f"{name} stderr" for name in adjusted.index if f"{name} stderr" in row.index]].min()
    yield Claim("the adjusted estimates differ by less than half a standard error", error / 2 - (adjusted.max() - adjusted.min()))
    yield Claim("each exceeds the unadjusted difference by more than 0.8 kg", adjusted.min() - row[CRUDE] - 0.8)
    for name in adjusted.index:
        yield Claim(f"{METHODS[name]}: the interval excludes no effect", limits(results, str(name))[0])


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(PAGE, 3.2))
    row, published = results["chapters"].iloc[0], PUBLISHED[NAME]["cells"]
    for y, name in enumerate(reversed(METHODS)):
        color = GREY if name == CRUDE else BLUE
        ax.plot(limits(results, name), [y, y], color=color, linewidth=1.6)
        ours = ax.plot(row[name], y, "o", color=color, label="ours, 95% interval")
        book = ax.plot(published[name]["value"], y, "|", color=ORANGE, markersize=12, markeredgewidth=1.6, label="published")
    ax.axvline(0, color=GREY, linewidth=0.6)
    ax.set_yticks(range(len(METHODS)), list(reversed(METHODS.values())))
    ax.set_xlabel("effect of quitting smoking on weight in 1982 (kg)")
    ax.legend(handles=[*ours, *book], loc="lower left", bbox_to_anchor=(0.08, 0.02))
    return {"": figure}


PAPER = Paper(
    "Quitting smoking and weight: six methods, one answer",
    "Hernan & Robins (2020), Causal Inference: What If, chapters 12 to 16",
    1,
    jobs,
    cells,
    claims,
    draw,
)
