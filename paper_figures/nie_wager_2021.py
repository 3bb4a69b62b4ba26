"""Nie & Wager (2021), Quasi-oracle estimation of heterogeneous effects: S-, T-, X- and R-learner where one of them should win.

The whole study takes about an hour of one core: `python -m benchmarks.heterogeneity`. Its errors are in benchmarks/results, with
the commit that made them; the numbers and the picture are of these, and every run computes some replications again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks import heterogeneity as study
from paper_figures.checks import PUBLISHED
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, mean_cell
from paper_figures.style import BLUE, GREY, ORANGE, PAGE, PINK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "nie_wager_2021"
ROWS = pd.read_csv(study.RESULTS.with_name("nie_wager.csv"))
SETUPS = {"A": "confounded, simple effect", "B": "randomised trial", "C": "confounded, constant effect", "D": "unrelated arms"}
SIGMAS = (0.5, 1.0, 2.0)
COLORS = dict(zip(study.LEARNERS, (GREY, ORANGE, PINK, BLUE), strict=True))
QUICK = (("kernel", "A", 1.0), ("kernel", "C", 1.0))
ALIKE = 1e-4
"""Relative difference of an error that is computed again."""


def again(replication: int, base: str, setup: str, sigma: float) -> Row:
    """Mean squared errors of a replication of the study, by learner."""
    errors = study.nie_wager_errors(setup, sigma, base, replication)
    return dict(zip(study.LEARNERS, errors, strict=True))


def jobs(fast: bool) -> Mapping[str, Job]:
    boosting = [("boosting", setup, 1.0) for setup in "AC"]
    kernel = [("kernel", setup, sigma) for setup in SETUPS for sigma in SIGMAS]
    return {
        f"{base} {setup} {sigma}": Job(again, 1, {"base": base, "setup": setup, "sigma": sigma})
        for base, setup, sigma in (QUICK if fast else [*kernel, *boosting])
    }


def stored(base: str, setup: str, sigma: float) -> pd.DataFrame:
    """The errors of a cell of the study, a row a replication."""
    rows = ROWS[(ROWS["base"] == base) & (ROWS["setup"] == setup) & (ROWS["sigma"] == sigma)]
    return rows.set_index("replication")[list(study.LEARNERS)]


def cells(results: Results) -> Iterator[Cell]:
    for key in PUBLISHED[NAME]["cells"]:
        base, setup, sigma, learner = key.split()
        yield mean_cell(key, stored(base, setup, float(sigma))[learner])


def worse(where: str, more: pd.Series, less: pd.Series) -> Claim:
    """That a learner's error is above another's on the same samples."""
    return Claim(f"{where}: {more.name} worse than {less.name}", *mean_cell("", more - less)[1:])


def claims(results: Results) -> Iterator[Claim]:
    for label, fresh in results.items():
        base, setup, sigma = label.split()
        known = stored(base, setup, float(sigma)).loc[fresh.index]
        same = (fresh[known.columns] / known - 1).abs() < ALIKE
        yield Claim(
            f"{label}: at least three of four errors computed again are those of the study", same.to_numpy().mean() - 0.74
        )
    for base, setup, sigma in [*(("kernel", s, v) for s in SETUPS for v in SIGMAS), *(("boosting", s, 1.0) for s in SETUPS)]:
        yield from ranking(base, setup, sigma)


def ranking(base: str, setup: str, sigma: float) -> Iterator[Claim]:
    """What the paper says of a cell; nothing of A at sigma 2, nor of X and R with boosted trees, which depends on their tuner."""
    where, rows = f"{base} {setup} {sigma}", stored(base, setup, sigma)
    s, t, x, r = (rows[name] for name in study.LEARNERS)
    if setup == "C" or (setup == "A" and sigma < SIGMAS[-1]):
        pairs = [(t, x), (t, r), *([(s, x), (s, r)] if setup == "C" else []), *([(x, r)] if base == "kernel" else [])]
        yield from (worse(where, *pair) for pair in pairs)
    elif setup == "B":
        best = r if base == "kernel" else x
        yield from (worse(where, other, best) for other in (s, t, x, r) if other.name != best.name)
        yield from (worse(where, t, other) for other in (s, x, r) if other.name != best.name)
    elif setup == "D":
        yield worse(where, r, min((s, t), key=lambda own: own.mean()))


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(PAGE, 2.7), sharey=True)
    for ax, (setup, what) in zip(axes, SETUPS.items(), strict=True):
        for learner, color in COLORS.items():
            found = [mean_cell("", stored("kernel", setup, sigma)[learner]) for sigma in SIGMAS]
            ax.errorbar(SIGMAS, [c.value for c in found], [2 * c.mcse for c in found], color=color, label=learner)
            ax.plot(SIGMAS, published("kernel", setup, SIGMAS, learner), "o", mfc="none", color=color)
        ax.set_title(f"{setup}: {what}".replace(", ", ",\n"))
        ax.set_xscale("log", base=2)
        ax.set_xticks(SIGMAS, [f"{sigma:g}" for sigma in SIGMAS])
        ax.minorticks_off()
        ax.set_xlabel("noise (σ)")
    axes[0].set_yscale("log")
    axes[0].set_ylabel("mean squared error\nof the effect, kernel ridge")
    axes[0].plot([], [], "o", mfc="none", color=GREY, label="published")
    axes[0].legend(ncols=2, loc="upper left")
    return {"": figure, "boosting": boosted()}


def published(base: str, setup: str, sigmas: tuple[float, ...], learner: str) -> list[float]:
    """Of the paper's table."""
    return [PUBLISHED[NAME]["cells"][f"{base} {setup} {sigma} {learner}"]["value"] for sigma in sigmas]


def boosted() -> Figure:
    """Boosted trees at sigma 1: a group of bars a setup, the published as circles."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(PAGE, 2.2))
    for k, (learner, color) in enumerate(COLORS.items()):
        at = np.arange(len(SETUPS)) + (k - 1.5) * 0.2
        found = [mean_cell("", stored("boosting", setup, 1.0)[learner]) for setup in SETUPS]
        ax.bar(at, [c.value for c in found], 0.17, yerr=[2 * c.mcse for c in found], color=color, alpha=0.6, label=learner)
        ax.plot(at, [published("boosting", setup, (1.0,), learner)[0] for setup in SETUPS], "ko", mfc="white")
    ax.plot([], [], "ko", mfc="white", label="published")
    ax.set_xticks(range(len(SETUPS)), [f"{setup}: {what}" for setup, what in SETUPS.items()])
    ax.set_ylabel("mean squared error\nof the effect, boosted trees")
    ax.legend(loc="upper left", ncols=3)
    return figure


PAPER = Paper(
    "Four learners of heterogeneous effects",
    "Nie & Wager (2021), Biometrika 108, 299-319",
    1,
    jobs,
    cells,
    claims,
    draw,
)
