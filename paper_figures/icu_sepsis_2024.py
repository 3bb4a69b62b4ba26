"""Choudhary, Gupta & Thomas (2024), ICU-Sepsis: exact returns, and what off-policy evaluation makes of its clinicians' records.

The open stand-in for Komorowski et al. (2018) and Gottesman et al. (2018), whose records have no truth: 1,000 patients treated by
the expert, targets that move by a share from the expert to the optimal action where the expert ever takes it. Propensities are
true, Q is counted, and an action never logged is worth the mean of those logged in its state. The mode is "mean": an inadmissible
action does what the admissible ones do on average, so that many actions are alike; of these the optimum takes the one that
rounding puts first, as in the reference (the expert takes it in 94% of the states; the lowest in 99%). The importance weights of
any target but the expert have an infinite variance: root mean square errors vary from run to run, and orderings are of medians.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

import causalrl as crl
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, mean_cell, median_cell, ordered, rmse_cell
from paper_figures.style import BLUE, GREEN, GREY, ORANGE, PAGE, RED
from simulators import ICUSepsis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PATIENTS, SHARES, MODERATE = 1000, (0.0, 0.1, 0.25, 0.5, 1.0), (0.1, 0.25, 0.5)
COLORS = {"IS": RED, "WIS": ORANGE, "DR": GREY, "WDR": GREEN, "FQE": BLUE}
SIMULATOR = ICUSepsis("mean")


@cache
def target(share: float) -> tuple[crl.TabularPolicy, float]:
    """A target and its survival probability."""
    expert = SIMULATOR.expert().table
    best = np.eye(SIMULATOR.n_actions)[SIMULATOR.q(SIMULATOR.optimal_policy(1.0)).argmax(axis=1)]
    supported = (best * expert).sum(axis=1, keepdims=True) > 0
    policy = crl.TabularPolicy((1 - share) * expert + share * np.where(supported, best, expert))
    return policy, SIMULATOR.value(policy)


def exact(replication: int) -> Row:
    """Return and mean length of the published policies."""
    row = {}
    for name, policy in SIMULATOR.baselines().items():
        row |= {f"{name} return": SIMULATOR.value(policy), f"{name} length": float(SIMULATOR.occupancy(policy).sum())}
    return row


def errors(replication: int) -> Row:
    """Of every estimator and target on one set of records; effective sample size, width and coverage of WIS."""
    data = SIMULATOR.sample(PATIENTS, SIMULATOR.expert(), seed=derive_seed(2024, "records", replication))
    nuisances, q, row = Nuisances(data), crl.TabularQ(), {}
    estimators = {"IS": crl.IS(), "FQE": crl.FQE(q), "DR": crl.DR(q=q, folds=1), "WDR": crl.WDR(q=q, folds=1)}
    for share in SHARES:
        policy, truth = target(share)
        goal = crl.PolicyValue(policy)
        row |= {f"{share} {name}": own.point(nuisances, goal) - truth for name, own in estimators.items()}
        wis = crl.WIS().policy_value(nuisances, goal)
        low, high = wis.interval()
        row |= {f"{share} WIS": float(wis.value) - truth, f"{share} ESS": wis.diagnostics["ess"]}
        row |= {f"{share} width": high - low, f"{share} covers": float(low <= truth <= high)}
    return row


def jobs(fast: bool) -> Mapping[str, Job]:
    return {"exact": Job(exact, 1), "records": Job(errors, 5 if fast else 200)}


def cells(results: Results) -> Iterator[Cell]:
    values, rows = results["exact"].iloc[0], results["records"]
    yield from (Cell(str(name), float(value)) for name, value in values.items())
    yield from (Cell(f"{name} return, exact", float(values[f"{name} return"])) for name in ("uniform", "optimal"))
    for share in SHARES:
        yield median_cell(f"{share} median ESS", rows[f"{share} ESS"])
        for name in COLORS:
            yield mean_cell(f"{share} {name} bias", rows[f"{share} {name}"])
            yield rmse_cell(f"{share} {name} RMSE", rows[f"{share} {name}"])


def claims(results: Results) -> Iterator[Claim]:
    own, rows = {cell.key: cell for cell in cells(results)}, results["records"]
    yield from ordered(own[f"{share} median ESS"] for share in reversed(SHARES))
    for share in MODERATE:
        median = {name: median_cell(f"{share} {name} median error", rows[f"{share} {name}"].abs()) for name in COLORS}
        yield from ordered(median[name] for name in ("FQE", "WDR", "WIS", "IS"))
        yield from ordered(median[name] for name in ("FQE", "DR", "WIS"))
        yield from ordered(own[f"{share} {name} RMSE"] for name in ("WDR", "DR"))
    for name in COLORS:
        bad, good = own[f"{SHARES[-1]} {name} RMSE"], own[f"{SHARES[0]} {name} RMSE"]
        text = f"{name} fails for the optimum: its error is over five times that for the expert"
        yield Claim(text, bad.value - 5 * good.value, float(np.hypot(bad.mcse, 5 * good.mcse)))


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    rows = results["records"]
    figure, axes = plt.subplots(1, 4, figsize=(PAGE, 2.7))
    sizes = [rows[f"{share} ESS"] for share in SHARES]
    axes[0].plot(SHARES, [own.median() for own in sizes], "o-", color=ORANGE)
    axes[0].fill_between(
        SHARES, *([own.quantile(level) for own in sizes] for level in (0.1, 0.9)), color=ORANGE, alpha=0.25, linewidth=0
    )
    axes[0].set(yscale="log", title="effective patients\nof 1,000 (80% band)", ylim=(1, 1200))
    axes[0].set_yticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    for name, color in COLORS.items():
        errors_of = [rows[f"{share} {name}"].abs().median() for share in SHARES]
        size = 6 if name == "DR" else 3.5  # WDR lies upon it
        axes[1].plot(SHARES, errors_of, "o-", color=color, label=name, markersize=size)
    axes[1].set(yscale="log", title="median error of the\nsurvival probability")
    axes[1].set_yticks([0.01, 0.1, 0.5], ["0.01", "0.1", "0.5"])
    axes[1].minorticks_off()
    axes[2].plot(SHARES, [rows[f"{share} width"].median() for share in SHARES], "o-", color=ORANGE)
    axes[2].set(title="median width of\nthe 95% WIS interval", ylim=(0, None))
    covers = [mean_cell("", rows[f"{share} covers"]) for share in SHARES]
    axes[3].errorbar(SHARES, [100 * c.value for c in covers], [100 * c.mcse for c in covers], fmt="o-", color=ORANGE)
    axes[3].axhline(95, color=GREY, linewidth=0.6)
    axes[3].set(title="95% WIS intervals\nthat cover (%)", ylim=(0, 100))
    figure.supxlabel("share of decisions moved from the expert to the optimum", fontsize=8)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside upper center", ncols=len(COLORS))
    return {"": figure}


PAPER = Paper(
    "ICU-Sepsis: effective sample size and error against an exact truth",
    "Choudhary, Gupta & Thomas (2024), RLC; arXiv 2406.05646; stand-in for Komorowski et al. and Gottesman et al. (2018)",
    2,
    jobs,
    cells,
    claims,
    draw,
)
