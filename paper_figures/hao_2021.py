"""Hao et al. (2021), Bootstrapping fitted Q-evaluation: intervals on a slippery cliff walk, against importance sampling.

FQE is tabular, with Q = 0 for decisions never logged; episodes are resampled 100 times. A pivotal interval mirrors the
quantiles of the refitted values about the estimate, a normal one takes their standard deviation; PDIS has percentile intervals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import causalrl as crl
from causalrl.kernels.rng import derive_seed
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, below, mean_cell, rmse_cell
from paper_figures.style import BLUE, GREY, ORANGE, PAGE, SKY
from simulators import Cliff

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES, RESAMPLES, LEVEL = (50, 100, 200, 500, 1000), 100, 0.9
LARGE, CLOSE, LOWEST, HIGHEST = 500, 0.05, 0.70, 0.92
"""From `LARGE` episodes on, coverage is within `CLOSE` of the level; before, between the two others."""
METHODS = {"pivotal": BLUE, "normal": SKY, "PDIS": ORANGE}


def intervals(replication: int, n: int) -> Row:
    """Error of FQE and PDIS, and of each interval its width and whether it covers."""
    cliff, own = Cliff(), derive_seed(2021, "cliff", n, replication)
    truth = cliff.value(cliff.target(), cliff.horizon)
    data, goal = cliff.sample(n, cliff.behavior(), cliff.horizon, own), crl.PolicyValue(cliff.target(), horizon=cliff.horizon)
    fqe = crl.FQE(crl.TabularQ(unseen=crl.ConstantValue(0.0))).estimate(data, goal, own)
    pdis = crl.PDIS().estimate(data, goal)
    low, high = fqe.interval(LEVEL, crl.RefitBootstrap(RESAMPLES, own))
    found = {
        "pivotal": (2 * fqe.value - high, 2 * fqe.value - low),
        "normal": tuple(fqe.interval(LEVEL, crl.RefitWald(RESAMPLES, own))),
        "PDIS": tuple(pdis.interval(LEVEL, crl.PercentileBootstrap(RESAMPLES, own))),
    }
    row = {"FQE error": float(fqe.value) - truth, "PDIS error": float(pdis.value) - truth}
    for name, (low, high) in found.items():
        row |= {f"{name} width": high - low, f"{name} covers": float(low <= truth <= high)}
    return row


def exact(replication: int) -> Row:
    """The values of target and behaviour."""
    cliff = Cliff()
    ends = {"target": cliff.target(), "behaviour": cliff.behavior()}
    return {name: cliff.value(policy, cliff.horizon) for name, policy in ends.items()}


def jobs(fast: bool) -> Mapping[str, Job]:
    return {"exact": Job(exact, 1)} | {f"n{n}": Job(intervals, 25 if fast else 300, {"n": n}) for n in SIZES}


def cells(results: Results) -> Iterator[Cell]:
    yield from (Cell(f"value of the {name}", float(value)) for name, value in results["exact"].iloc[0].items())
    for n in SIZES:
        rows = results[f"n{n}"]
        yield mean_cell(f"{n} FQE bias", rows["FQE error"])
        yield from (rmse_cell(f"{n} {name} RMSE", rows[f"{name} error"]) for name in ("FQE", "PDIS"))
        yield from (mean_cell(f"{n} {name} coverage", rows[f"{name} covers"]) for name in METHODS)
        yield from (mean_cell(f"{n} {name} width", rows[f"{name} width"]) for name in ("pivotal", "PDIS"))


def claims(results: Results) -> Iterator[Claim]:
    own = {cell.key: cell for cell in cells(results)}
    for n in SIZES:
        for name in ("pivotal", "normal"):
            found = own[f"{n} {name} coverage"]
            low, high = (LEVEL - CLOSE, LEVEL + CLOSE) if n >= LARGE else (LOWEST, HIGHEST)
            margin = min(found.value - low, high - found.value)
            yield Claim(f"{n} episodes: the {name} interval covers between {low:.0%} and {high:.0%}", margin, found.mcse)
        less, more = own[f"{n} pivotal width"], own[f"{n} PDIS width"]
        yield below(
            f"{n} episodes: the FQE interval is less than two thirds as wide", less, Cell("", more.value * 2 / 3, more.mcse)
        )
    few, many = own[f"{SIZES[0]} pivotal coverage"], own[f"{SIZES[-1]} pivotal coverage"]
    yield below("coverage rises from the smallest to the largest sample", few, many)


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    own = {cell.key: cell for cell in cells(results)}
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(PAGE, 2.5))
    labels = {"pivotal": "bootstrapped FQE, pivotal", "normal": "bootstrapped FQE, normal", "PDIS": "PDIS, percentiles"}
    for k, (name, color) in enumerate(METHODS.items()):
        found = [own[f"{n} {name} coverage"] for n in SIZES]
        sizes = [n * 1.06 ** (k - 1) for n in SIZES]
        percent, error = ([100 * cell[j] for cell in found] for j in (1, 2))
        left.errorbar(sizes, percent, error, fmt="o-", color=color, label=labels[name])
    left.axhline(100 * LEVEL, color=GREY, linewidth=0.6)
    left.set(title=f"{LEVEL:.0%} intervals that cover (%)", ylim=(60, 100))
    for name in ("pivotal", "PDIS"):
        middle.plot(SIZES, [own[f"{n} {name} width"].value for n in SIZES], "o-", color=METHODS[name])
        error_of = "PDIS" if name == "PDIS" else "FQE"
        right.plot(SIZES, [own[f"{n} {error_of} RMSE"].value for n in SIZES], "o-", color=METHODS[name])
    middle.set(title="mean width of the interval")
    right.set(title="root mean square error")
    for ax in (middle, right):
        ax.set(yscale="log", ylim=(0.4, 20))
        ax.set_yticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    for ax in (left, middle, right):
        ax.set(xscale="log", xlabel="episodes")
        ax.set_xticks(SIZES, [str(n) for n in SIZES])
        ax.minorticks_off()
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return {"": figure}


PAPER = Paper(
    "Intervals from bootstrapped fitted Q-evaluation",
    "Hao, Ji, Duan, Lu, Szepesvári & Wang (2021), ICML; arXiv 2102.03607; design of the reference",
    2,
    jobs,
    cells,
    claims,
    draw,
)
