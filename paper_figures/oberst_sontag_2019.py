"""Oberst & Sontag (2019), Figures 1 to 3 and the appendix: a policy learned without glucose looks near-perfect, and is worse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import causalrl as crl
from benchmarks.sepsis_study import HORIZON, PATIENTS, SIMULATOR, ImaginedPatients, SepsisStudy
from causalrl.checks import Floats
from causalrl.kernels.rng import derive_seed
from paper_figures.checks import PUBLISHED
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, below, mean_cell, ordered
from paper_figures.style import BLUE, COLUMN, GREEN, GREY, ORANGE, RED
from simulators import SEPSIS_LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VARIANTS = {"hidden": {"record": "observed", "seen": "projected"}, "full": {"record": "full", "seen": "full"}}
SAID, REPEATED = ("Observed", "True RL", "WIS", "MB", "CF"), ("Observed", "True RL", "WIS train", "WIS held-out", "MB")
ENDS, SHARES = ("died", "no change", "discharged"), (2.5, 97.5)
BOOTSTRAPS, AGAIN = 100, 5
WIDE, LEAST, MOST, NEAR = 1.5, 0.55, 0.97, 0.02
"""Claimed: range of the held-out WIS; value of one model, from, to; and how far below it the counterfactual one is at most."""


def repeat(replication: int, record: str, seen: str) -> Row:
    """A fresh data set."""
    return SepsisStudy(record, seen).replication(replication)


def one_data_set(replication: int, record: str, seen: str) -> Row:
    """Bootstraps of every estimate, observed by imagined outcomes, and the paths of one patient."""
    study, seed = SepsisStudy(record, seen), derive_seed(replication, "imagined")
    imagined = ImaginedPatients(study, study.sample(derive_seed(replication, "patients", 0)), AGAIN, seed)
    row = {
        "exact/True RL": SIMULATOR.value(imagined.goal.policy, HORIZON, sees=seen),
        "exact/MB": imagined.planned.value(imagined.goal),
    }
    for name, estimate in imagined.estimates().items():
        values = crl.PercentileBootstrap(BOOTSTRAPS, seed).values(estimate.evidence)
        row |= {f"{name}/{b}": value for b, value in enumerate(values.tolist())}
    observed, often = imagined.fates()
    table = np.bincount(3 * observed + often, minlength=9) * (100 / PATIENTS)
    row |= {f"cell/{cell}": percent for cell, percent in enumerate(table.tolist())}
    for path, variables, fate in imagined.paths(imagined.example()):
        row[f"{path}/end"] = fate
        row |= {f"{path}/{name}/{t}": x for name, values in variables.items() for t, x in enumerate(values.tolist())}
    return row


def jobs(fast: bool) -> Mapping[str, Job]:
    sizes = {"hidden": 16, "full": 10} if fast else {"hidden": 400, "full": 100}
    repeats = {name: Job(repeat, sizes[name], seen) for name, seen in VARIANTS.items()}
    return {"main": Job(one_data_set, 1, VARIANTS["hidden"]), **repeats}


def bootstraps(results: Results) -> Mapping[str, pd.Series]:
    row = results["main"].iloc[0]
    return {name: row[[f"{name}/{b}" for b in range(BOOTSTRAPS)]] for name in SAID}


def decomposition(results: Results) -> Floats:
    """(3, 3) percent of patients, observed by imagined outcome."""
    return results["main"].iloc[0].filter(like="cell/").to_numpy(float).reshape(3, 3)


def repeated(results: Results, variant: str) -> Mapping[str, pd.Series]:
    """Where WIS has a value: in one of 600 data sets nobody was treated as the policy would."""
    return {name: results[variant][name].dropna() for name in REPEATED}


def ranges(key: str, draws: pd.Series) -> Iterator[Cell]:
    for share in SHARES:
        yield Cell(f"{key} {share}%", float(np.percentile(draws, share)))


def cells(results: Results) -> Iterator[Cell]:
    for name, draws in bootstraps(results).items():
        yield Cell(f"main {name}", float(draws.mean()))
        yield from ranges(f"main {name}", draws)
    for name in ("True RL", "MB"):
        yield Cell(f"main {name}, exact", float(results["main"].iloc[0][f"exact/{name}"]))
    for seen, row in zip(ENDS, decomposition(results), strict=True):
        yield from (Cell(f"{seen}, imagined {end} (%)", float(share)) for end, share in zip(ENDS, row, strict=True))
    for variant in VARIANTS:
        for name, draws in repeated(results, variant).items():
            yield mean_cell(f"{variant} {name}", draws)
            yield from ranges(f"{variant} {name}", draws)
    yield mean_cell("hidden MB, with a re-run", results["hidden"]["MB"])


def claims(results: Results) -> Iterator[Claim]:
    observed, true, _, model, imagined = (float(draws.mean()) for draws in bootstraps(results).values())
    yield Claim("in one data set the policy is worse than the physician", observed - true)
    yield Claim("and better in the learned model", model - observed)
    yield Claim(f"with a value from {LEAST} to {MOST}", min(model - LEAST, MOST - model))
    yield Claim("which its counterfactuals repeat", imagined - model + NEAR)
    table = decomposition(results)
    yield Claim("most who died would have been discharged, says the model", table[0, 2] - table[0, :2].sum())
    hidden, full = ({n: mean_cell(f"{v} {n}", x) for n, x in repeated(results, v).items()} for v in VARIANTS)
    yield from ordered(hidden[name] for name in ("True RL", "Observed", "WIS train", "MB"))
    yield below("held-out records take some of the optimism of WIS away", hidden["WIS held-out"], hidden["WIS train"])
    yield width(repeated(results, "hidden")["WIS held-out"])
    yield below("a model of the full state is less optimistic", full["MB"], hidden["MB"])
    yield below("and its policy still worse than the physician", full["True RL"], full["Observed"])


def width(draws: pd.Series, resamples: int = 400) -> Claim:
    """That the 95% range is wide, with its error by the bootstrap."""
    values = draws.to_numpy()
    picks = np.random.default_rng(0).integers(0, len(values), (resamples, len(values)))
    low, high = np.percentile(values, SHARES)
    error = np.diff(np.percentile(values[picks], SHARES, axis=1), axis=0).std(ddof=1)
    return Claim(f"95% of the held-out WIS cover more than {WIDE}", float(high - low - WIDE), float(error))


def draw(results: Results) -> Mapping[str, Figure]:
    made = {"": boxes(bootstraps(results), "main", f"One data set, {BOOTSTRAPS} bootstraps")}
    for variant, what in {"hidden": "glucose and diabetes hidden", "full": "full state"}.items():
        draws = repeated(results, variant)
        made[f"appendix_{variant}"] = boxes(draws, variant, f"{len(results[variant])} data sets, {what}")
    return {**made, "decomposition": heat_map(decomposition(results)), "trajectory": paths(results["main"].iloc[0])}


def published(key: str) -> float:
    return float(PUBLISHED["oberst_sontag_2019"]["cells"][key]["value"])


def boxes(draws: Mapping[str, pd.Series], prefix: str, title: str) -> Figure:
    """Ours, with whiskers over 95%, above the published mean and range."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(COLUMN, 2.6))
    places = np.arange(len(draws))[::-1]
    look = {part: {"color": BLUE} for part in ("boxprops", "whiskerprops", "capprops", "medianprops")}
    values = [x.to_numpy(float) for x in draws.values()]
    ax.boxplot(values, positions=places + 0.12, orientation="horizontal", widths=0.3, whis=SHARES, showfliers=False, **look)
    for y, name in zip(places, draws, strict=True):
        ax.plot([published(f"{prefix} {name} {share}%") for share in SHARES], [y - 0.25, y - 0.25], color=ORANGE)
        ax.plot(published(f"{prefix} {name}"), y - 0.25, "D", color=ORANGE)
    ax.plot([], [], color=BLUE, label="ours")
    ax.plot([], [], "D-", color=ORANGE, label="published: mean, 95%")
    ax.set_yticks(places, list(draws))
    ax.set(xlim=(-1.05, 1.05), ylim=(-0.6, len(draws) - 0.5), xticks=(-1, -0.5, 0, 0.5, 1), title=title)
    ax.set_xlabel("value of the policy: P(discharged) − P(died)")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def heat_map(table: Floats) -> Figure:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(COLUMN, 2.6))
    ax.imshow(table, cmap="Blues", aspect="auto")
    for (seen, end), percent in np.ndenumerate(table):
        text = f"{percent:.1f}%\n(published {published(f'{ENDS[seen]}, imagined {ENDS[end]} (%)'):.0f}%)"
        ax.text(end, seen, text, ha="center", va="center", color="white" if percent > table.max() / 2 else "black", fontsize=7)
    ax.set_xticks(range(len(ENDS)), ENDS)
    ax.set_yticks(range(len(ENDS)), ENDS, rotation=90, va="center")
    ax.set(xlabel=f"most frequent of {AGAIN} counterfactual outcomes", ylabel="observed outcome")
    return figure


def paths(row: pd.Series) -> Figure:
    """The patient's record, and what the model says of the same patient under its own policy."""
    import matplotlib.pyplot as plt

    shown = {name: SEPSIS_LABELS.levels[name] for name in ("heart_rate", "systolic_pressure", "oxygen", "glucose")}
    shown |= dict.fromkeys(SEPSIS_LABELS.treatments, ("off", "on"))
    figure, axes = plt.subplots(len(shown), 1, figsize=(COLUMN, 5.4), sharex=True, height_ratios=[len(x) for x in shown.values()])
    for ax, (name, levels) in zip(axes, shown.items(), strict=True):
        for path in range(AGAIN, -1, -1):
            if f"{path}/{name}/0" in row:
                one_path(ax, row.filter(regex=f"^{path}/{name}/").to_numpy(float), path, int(row[f"{path}/end"]))
        ax.set_yticks(range(len(levels)), levels)
        ax.set_ylim(-0.5, len(levels) - 0.5)
        ax.set_title(name.replace("_", " ") + (", not seen by the model" if name == "glucose" else ""), pad=1)
    axes[-1].set(xlabel="step", xticks=range(0, HORIZON + 1, 5))
    for mark, color, label in (("-", GREY, "record"), ("-", BLUE, "model"), ("X", RED, ENDS[0]), ("o", GREEN, ENDS[2])):
        axes[0].plot([], [], mark, color=color, label=label)
    figure.legend(loc="outside lower center", ncols=4)
    return figure


def one_path(ax: Axes, values: Floats, path: int, fate: int) -> None:
    """The record is path 0; the others are drawn a little apart, and a mark says how each of them ends."""
    color, width, alpha = (GREY, 2.0, 1.0) if path == 0 else (BLUE, 0.8, 0.6)
    values = values + 0.07 * (path - 3) * (path > 0)
    ax.plot(values, color=color, linewidth=width, alpha=alpha, drawstyle="steps-post")
    mark, fill = {0: ("X", RED), 2: ("o", GREEN)}.get(fate, ("", GREY))
    ax.plot(len(values) - 1, values[-1], mark, color=fill, markersize=5 if path == 0 else 3.5, zorder=3)


PAPER = Paper("Gumbel-max counterfactuals of a sepsis policy", "Oberst & Sontag (2019), ICML", 1, jobs, cells, claims, draw)
