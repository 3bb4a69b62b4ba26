"""Tang & Wiens (2023), Counterfactual-augmented importance sampling for semi-offline policy evaluation: the main table.

The methods and the records are those of `benchmarks.annotated_records`; root mean square error, rank correlation and accuracy are
over the 26 targets within a data set, those of importance sampling pooled over its plain and its self-normalised form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.annotated_records import ANNOTATED, NAIVE, estimates, naive, truths
from paper_figures.checks import PUBLISHED
from paper_figures.paper import Cell, Claim, Job, Paper, Results, mean_cell, median_cell, ordered
from paper_figures.style import BLUE, GREY, ORANGE, PAGE, RED, SKY
from simulators.sepsis.policies import TANG_WIENS_TARGETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def table(results: Results, name: str, estimators: tuple[str, ...]) -> pd.DataFrame:
    """RMSE, Spearman correlation and accuracy (better than the behaviour?) over targets and estimators, one row a data set."""
    from scipy.stats import spearmanr

    rows, exact = results["naive" if name in NAIVE else "records"], results["exact"].iloc[0]
    count = len(TANG_WIENS_TARGETS)
    truth = np.tile(exact[[str(k) for k in range(count)]].to_numpy(float), len(estimators))
    values = rows[[f"{name}/{label}/{k}" for label in estimators for k in range(count)]].to_numpy(float)
    better = (values > exact["behaviour"]) == (truth > exact["behaviour"])
    return pd.DataFrame(
        {
            "RMSE": np.sqrt(((values - truth) ** 2).mean(axis=1)),
            "rank": [spearmanr(own, truth).statistic for own in values],
            "accuracy": 100 * better.mean(axis=1),
        }
    )


def jobs(fast: bool) -> Mapping[str, Job]:
    return {"exact": Job(truths, 1), "records": Job(estimates, 3 if fast else 50), "naive": Job(naive, 2 if fast else 50)}


def cells(results: Results) -> Iterator[Cell]:
    exact = results["exact"].iloc[0]
    better = sum(exact[str(k)] > exact["behaviour"] for k in range(len(TANG_WIENS_TARGETS)))
    yield from (Cell(name, float(exact[name])) for name in ("V*", "behaviour", "optimal"))
    yield Cell("targets better than the behaviour", float(better))
    yield mean_cell("original: effective sample size", results["records"]["ESS"])
    for name in ("original", *NAIVE, *ANNOTATED):
        for estimators in (("",),) if name in ANNOTATED else (("IS", "WIS"), ("IS",), ("WIS",)):
            found = table(results, name, estimators)
            label = f"{name}, {estimators[0]} only" if len(estimators) == 1 and estimators[0] else name
            heavy = name == "original" and "IS" in estimators
            yield (median_cell if heavy else mean_cell)(f"{label}: RMSE", found["RMSE"])
            yield mean_cell(f"{label}: rank correlation", found["rank"])
            if label == name:
                yield mean_cell(f"{label}: accuracy", found["accuracy"])


def claims(results: Results) -> Iterator[Claim]:
    own = {cell.key: cell for cell in cells(results)}
    order = ("C*-IS, target's Q", "C*-IS, converted Q", "C*-IS, behaviour's Q", "naive, weighted", "original")
    yield from ordered(own[f"{name}: RMSE"] for name in order)
    yield from ordered([own["naive, unweighted: rank correlation"], own["original: rank correlation"]])


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    shown = {"original/WIS": RED, "naive, weighted/WIS": ORANGE, "C*-IS, behaviour's Q/": SKY, "C*-IS, target's Q/": BLUE}
    figure, axes = plt.subplots(1, 5, figsize=(PAGE, 2.3), width_ratios=(1, 1, 1, 1, 1.5))
    for ax, (name, color) in zip(axes, shown.items(), strict=False):
        scatter(ax, results, name, color)
        ax.set_title(name.replace("/", "\n", 1) if name[-1] != "/" else name[:-1].replace(", ", "\n"))
    axes[0].set_ylabel("estimates, mean and 80%")
    bars(axes[-1], results)
    figure.supxlabel("exact value of each of 26 targets", fontsize=8, x=0.35)
    return {"": figure}


def scatter(ax: Axes, results: Results, name: str, color: str) -> None:
    """Estimates against the truth."""
    rows = results["naive" if name.split("/")[0] in NAIVE else "records"]
    for k in range(len(TANG_WIENS_TARGETS)):
        truth, own = results["exact"][str(k)].iloc[0], rows[f"{name}/{k}"]
        ax.plot([truth, truth], np.quantile(own, [0.1, 0.9]), color=color, linewidth=0.6, alpha=0.6)
        ax.plot(truth, own.mean(), "o", color=color, markersize=2)
    ax.plot([-0.05, 0.45], [-0.05, 0.45], color=GREY, linewidth=0.6)
    ax.set(ylim=(-0.1, 0.6), xlim=(-0.05, 0.45))
    if not ax.get_subplotspec().is_first_col():
        ax.set_yticklabels([])


def bars(ax: Axes, results: Results) -> None:
    """Our root mean square errors beside the published ones."""
    own, published = {cell.key: cell for cell in cells(results)}, PUBLISHED["tang_wiens_2023"]["cells"]
    names = ("original", *NAIVE, *ANNOTATED)
    for y, name in enumerate(reversed(names)):
        key = f"{name}: RMSE"
        ax.plot(own[key].value, y, "o", color=BLUE, label=None if y else "ours")
        ax.plot(published[key]["value"], y, "|", color=GREY, markersize=8, label=None if y else "published")
    ax.set_yticks(range(len(names)), list(reversed(names)))
    ax.set(xlim=(0, None), title="root mean square error")
    ax.legend(loc="center right", frameon=True)


PAPER = Paper(
    "Counterfactual annotations for importance sampling",
    "Tang & Wiens (2023), NeurIPS; sepsis simulator v2",
    2,
    jobs,
    cells,
    claims,
    draw,
)
