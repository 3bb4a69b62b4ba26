"""Kang & Schafer (2007), Demystifying double robustness, Tables 1, 3 and 5 to 7: two wrong models are not better than one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import kang_schafer as study
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, mean_cell, median_cell, ordered, rmse_cell
from paper_figures.style import BLUE, GREY, ORANGE, PAGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = (200, 1000)


def errors(replication: int, n: int) -> Row:
    """Of every estimator, named estimator/pi/y with the covariates of its models."""
    return {"/".join(cell): error for cell, error in study.replication(n, replication).items()}


def jobs(fast: bool) -> Mapping[str, Job]:
    return {f"n{n}": Job(errors, 60 if fast else 1000, {"n": n}) for n in SIZES}


def heavy(cell: str) -> bool:
    """Whether single samples drive the mean: only the median is compared."""
    name, pi, _ = cell.split("/")
    return pi == "wrong" and name != "WLS"


def cells(results: Results) -> Iterator[Cell]:
    for n in SIZES:
        for name, own in results[f"n{n}"].items():
            yield median_cell(f"{n} {name} MAE", own.abs())
            if not heavy(str(name)):
                yield mean_cell(f"{n} {name} bias", own)
                yield rmse_cell(f"{n} {name} RMSE", own)


def claims(results: Results) -> Iterator[Claim]:
    rising = ("OLS//wrong", "WLS/wrong/wrong", "IPW-POP/wrong/", "AIPW/wrong/wrong")
    for n in SIZES:
        yield from ordered(rmse_cell(f"{n} {name} RMSE", results[f"n{n}"][name]) for name in rising)
    small, large = (median_cell(f"{n} AIPW", results[f"n{n}"]["AIPW/wrong/wrong"].abs()) for n in SIZES)
    text = "the median error of AIPW with two wrong models is larger at n = 1000 than at 200"
    yield Claim(text, large.value - small.value, float(np.hypot(small.mcse, large.mcse)))


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 3.3), sharey=True)
    for ax, n in zip(axes, SIZES, strict=True):
        rows = results[f"n{n}"]
        for y, name in enumerate(reversed(rows.columns)):
            low, mid, high = np.quantile(rows[name], [0.1, 0.5, 0.9])
            color = ORANGE if heavy(name) else BLUE
            ax.plot([low, high], [y, y], color=color)
            ax.plot(mid, y, "o", color=color)
        ax.axvline(0, color=GREY, linewidth=0.6)
        ax.set_title(f"n = {n}: median and 80% of the errors")
        ax.set_xlabel("error of the estimated mean")
    axes[0].set_yticks(range(len(rows.columns)), [label(str(name)) for name in reversed(rows.columns)])
    return {"": figure}


def label(cell: str) -> str:
    """An estimator with its models."""
    name, pi, y = cell.split("/")
    models = [f"{model} {own}" for model, own in (("π", pi), ("y", y)) if own]
    return f"{name}, {', '.join(models)}"


PAPER = Paper(
    "Two wrong models are not better than one",
    "Kang & Schafer (2007), Statistical Science 22, 523-539",
    1,
    jobs,
    cells,
    claims,
    draw,
)
