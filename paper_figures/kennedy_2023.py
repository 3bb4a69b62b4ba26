"""Kennedy (2023), the DR-learner: its error falls with that of the propensity, while those of the T- and X-learner do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks import heterogeneity as study
from paper_figures.checks import PUBLISHED
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, mean_cell
from paper_figures.style import BLUE, GREEN, GREY, ORANGE, PAGE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME, SIZES = "kennedy_2023", (500, 2000)
COLORS = {"T": GREY, "X": ORANGE, "DR": BLUE, "oracle": GREEN}


def errors(replication: int, n: int) -> Row:
    """Mean squared errors of the effect, named learner/rate."""
    return {f"{name}/{rate}": error for (name, rate), error in study.kennedy_errors(n, replication).items()}


def jobs(fast: bool) -> Mapping[str, Job]:
    replications = 25 if fast else study.KENNEDY_REPLICATIONS
    return {f"n{n}": Job(errors, replications, {"n": n}) for n in SIZES}


def curves(rows: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Errors of a learner, a column for each rate; T and the oracle, which guess no propensity, have the same at each."""
    return {name: pd.DataFrame({r: rows.get(f"{name}/{r}", rows.get(f"{name}/0.0")) for r in study.RATES}) for name in COLORS}


def cells(results: Results) -> Iterator[Cell]:
    for n in SIZES:
        for name, rows in curves(results[f"n{n}"]).items():
            if name == "DR":
                yield from (mean_cell(f"{n} DR {rate}", rows[rate]) for rate in study.RATES)
            else:
                yield mean_cell(f"{n} {name}", rows.mean(axis=1))
        best = results[f"n{n}"][f"DR/{study.RATES[-1]}"].mean()
        yield Cell(f"{n} DR 0.5 over oracle", float(best / results[f"n{n}"]["oracle/0.0"].mean()))


def positive(text: str, differences: pd.Series) -> Claim:
    """That the mean of paired differences is above zero."""
    return Claim(text, *mean_cell("", differences)[1:])


def claims(results: Results) -> Iterator[Claim]:
    for n in SIZES:
        found = curves(results[f"n{n}"])
        dr, x, t, oracle = (found[name] for name in ("DR", "X", "T", "oracle"))
        spread = x.mean().max() / x.mean().min()
        yield Claim(f"n = {n}: the X-learner's error varies by less than 5% over the rates", 1.05 - spread)
        yield positive(f"n = {n}: DR gains from rate 0.1 to 0.3", dr[0.1] - dr[0.3])
        yield positive(f"n = {n}: DR gains from rate 0.3 to 0.5", dr[0.3] - dr[0.5])
        other, rival = ("T", t) if n == SIZES[0] else ("X", x)
        yield positive(f"n = {n}: at rate 0.1 DR is no better than {other}", dr[0.1] - rival[0.1])
        for name, rows in (("T", t), ("X", x)):
            yield positive(f"n = {n}: at rate 0.5 DR is better than {name}", rows[0.5] - dr[0.5])
        nearest = t if t[0.5].mean() < x[0.5].mean() else x
        halfway = (nearest[0.5] + oracle[0.5]) / 2
        yield positive(f"n = {n}: at rate 0.5 DR is nearer to the oracle than to the better of T and X", halfway - dr[0.5])
        yield positive(f"n = {n}: the oracle is better than DR at rate 0.5", dr[0.5] - oracle[0.5])


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(PAGE, 2.6), sharey=True)
    for ax, n in zip(axes, SIZES, strict=True):
        for name, rows in curves(results[f"n{n}"]).items():
            found = [mean_cell("", rows[rate]) for rate in study.RATES]
            at = np.array(study.RATES) + 0.006 * (list(COLORS).index(name) - 1.5)
            ax.errorbar(at, [c.value for c in found], [2 * c.mcse for c in found], color=COLORS[name], label=name)
            ax.plot(at, [published(n, name, rate) for rate in study.RATES], "o", mfc="none", color=COLORS[name])
        ax.set_xticks(study.RATES)
        ax.set_yscale("log")
        ax.set_title(f"n = {n} in each of the folds")
        ax.set_xlabel("rate r: log-odds of the propensity off by N(n⁻ʳ, n⁻²ʳ)")
    axes[0].set_ylabel("mean squared error of the effect")
    axes[1].plot([], [], "o", mfc="none", color=GREY, label="re-run of the recipe")
    axes[1].legend(ncols=2)
    return {"": figure}


def published(n: int, name: str, rate: float) -> float:
    """Of the reference."""
    value: float = PUBLISHED[NAME]["cells"][f"{n} {name} {rate}" if name == "DR" else f"{n} {name}"]["value"]
    return value


PAPER = Paper(
    "The DR-learner and the error of the propensity",
    "Kennedy (2023), Electronic Journal of Statistics 17, 3008-3049",
    1,
    jobs,
    cells,
    claims,
    draw,
)
