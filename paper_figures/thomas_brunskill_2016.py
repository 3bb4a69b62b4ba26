"""Thomas & Brunskill (2016), Data-efficient off-policy policy evaluation, Figures 1 and 2: mean squared error over episodes.

The names are those of the package: PDWIS is their CWPDIS, AM the value of a tabular model. MAGIC has its default level, 0.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import causalrl as crl
from benchmarks.rates import slope
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.value import ValueProblem
from paper_figures.checks import PUBLISHED
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, mean_cell
from paper_figures.style import BLUE, GREEN, GREY, ORANGE, PAGE, PINK, RED, SKY
from simulators import Gridworld, Hybrid, ModelFail, ModelWin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZES = {
    "ModelFail": (16, 64, 100, 256, 512, 1024, 4096),
    "ModelWin": (16, 128, 256, 1024, 4096),
    "Hybrid": (16, 64, 256, 1024, 4096),
    "Gridworld": (16, 64, 256, 1024),
}
TABLE = {"ModelFail": (16, 64, 256, 1024, 4096), "ModelWin": (16, 128, 1024, 4096)}
HALVED = ("ModelFail", "ModelWin", "Hybrid")
HEAVY = ("IS", "PDIS", "DR")
LOWEST = 1e-4
"""End of the axis: in the deterministic gridworld a model soon makes no error."""
LINES = {
    **{"IS": (RED, "o"), "PDIS": (ORANGE, "s"), "WIS": (BLUE, "o"), "PDWIS": (SKY, "s")},
    **{"AM": (GREY, "D"), "DR": (PINK, "v"), "WDR": (GREEN, "^"), "MAGIC": ("black", "*")},
}


def problem(name: str) -> tuple[Any, crl.PolicyValue, float]:
    """A domain, what is sought in it, and the truth."""
    domain = {"ModelFail": ModelFail, "ModelWin": ModelWin, "Hybrid": Hybrid, "Gridworld": Gridworld}[name]()
    return domain, crl.PolicyValue(domain.target(), horizon=domain.horizon), domain.value(domain.target(), domain.horizon)


def doubly_robust(q: Any) -> dict[str, crl.Estimator]:
    """Of one value model, learned and judged on the same episodes."""
    return {"DR": crl.DR(q=q, folds=1), "WDR": crl.WDR(q=q, folds=1), "MAGIC": crl.MAGIC(q=q, folds=1)}


def errors(replication: int, name: str, n: int) -> Row:
    """Of every estimator, the model learned from all episodes."""
    domain, goal, truth = problem(name)
    data = domain.sample(n, domain.behavior(), domain.horizon, seed=derive_seed(0, name, n, replication))
    nuisances = Nuisances(data, replication)
    weighting = {"IS": crl.IS(), "PDIS": crl.PDIS(), "WIS": crl.WIS(), "PDWIS": crl.PDWIS()}
    named = {**weighting, "AM": crl.DirectMethod(crl.TabularQ()), **doubly_robust(crl.TabularQ())}
    return {label: estimator.point(nuisances, goal) - truth for label, estimator in named.items()}


def half_errors(replication: int, name: str, n: int) -> Row:
    """The model learned from one half of the same episodes, corrected on the other half."""
    domain, goal, truth = problem(name)
    data = domain.sample(n, domain.behavior(), domain.horizon, seed=derive_seed(0, name, n, replication))
    learned, judged = (Nuisances(data.take(half), replication) for half in np.array_split(np.arange(n), 2))
    target = learned.target(goal.policy, None, None, goal.horizon)
    fitted = crl.TabularQ().fit(ValueProblem(target, np.ones(len(target.steps)), 1.0, goal.horizon, replication))
    values = {name: estimator.point(judged, goal) for name, estimator in doubly_robust(crl.KnownQ(fitted.q)).items()}
    return {name: value - truth for name, value in {"AM": crl.FQE().point(learned, goal), **values}.items()}


def jobs(fast: bool) -> Mapping[str, Job]:
    few, many, some, pair = (30, 16, 4, 3) if fast else (1000, 1000, 128, 128)
    found = {}
    for name, sizes in SIZES.items():
        for n in sizes:
            count = some if name not in TABLE else few if n >= 1024 else many
            found[f"{name}/{n}"] = Job(errors, count, {"name": name, "n": n})
            if name in HALVED:
                found[f"half {name}/{n}"] = Job(half_errors, pair, {"name": name, "n": n})
    return found


def mse(results: Results, job: str, estimator: str) -> Cell:
    """Mean squared error."""
    return mean_cell(f"{job} {estimator}", results[job][estimator] ** 2)


def cells(results: Results) -> Iterator[Cell]:
    yield from truths()
    for name, sizes in TABLE.items():
        for n, estimator in ((n, estimator) for n in sizes for estimator in LINES if estimator != "MAGIC"):
            key, own = f"{name} {n} {estimator}", mse(results, f"{name}/{n}", estimator)
            if name == "ModelWin" and estimator in HEAVY:
                yield Cell(f"{key}, log10", np.log10(own.value), own.mcse / own.value / np.log(10))
            else:
                yield own._replace(key=key)
    for name, estimator in (*(("ModelFail", estimator) for estimator in (*HEAVY, "AM")), ("ModelWin", "AM")):
        sizes = [n for n in SIZES[name] if n >= 256]
        found = pd.DataFrame([mse(results, f"{name}/{n}", estimator) for n in sizes])
        yield Cell(f"{name} slope of {estimator}", *slope(pd.Series(sizes), found["value"], found["mcse"]))
    for n in (100, 256, 512, 1024):
        magic, best = mse(results, f"ModelFail/{n}", "MAGIC"), mse(results, f"ModelFail/{n}", "WDR")
        yield Cell(f"ModelFail {n} MAGIC over WDR", magic.value / best.value)


def truths() -> Iterator[Cell]:
    """By dynamic programming."""
    for name in ("ModelFail", "ModelWin", "Hybrid", "Gridworld"):
        domain, _, truth = problem(name)
        yield Cell(f"{name} V(target)", truth)
        if name != "Hybrid":
            yield Cell(f"{name} V(behaviour)", domain.value(domain.behavior(), domain.horizon))
    yield Cell("Gridworld V(uniform)", Gridworld().value(crl.Uniform(4), 100))


def times(text: str, less: Cell, factor: float, more: Cell) -> Claim:
    """That one number is more than `factor` times another; the margin is the logarithm of what is left."""
    margin = np.log(more.value / less.value / factor)
    return Claim(text, float(margin), float(np.hypot(less.mcse / less.value, more.mcse / more.value)))


def claims(results: Results) -> Iterator[Claim]:
    def at(name: str, n: int, *estimators: str) -> list[Cell]:
        return [mse(results, f"{name}/{n}", estimator) for estimator in estimators]

    for n in (256, 1024, 4096):
        ips, doubly, wis, wdr, model = at("ModelFail", n, "IS", "DR", "WIS", "WDR", "AM")
        yield times(f"ModelFail, n = {n}: with a wrong model DR has over 1.5 times the error of IS", ips, 1.5, doubly)
        yield Claim(f"ModelFail, n = {n}: WDR is WIS within 15%", 0.15 - abs(float(np.log(wdr.value / wis.value))))
        yield times(f"ModelFail, n = {n}: the model has over 5 times the error of IS", ips, 5, model)
    for n in (100, 256, 512, 1024):
        wdr, magic, model = at("ModelFail", n, "WDR", "MAGIC", "AM")
        yield times(f"ModelFail, n = {n}: MAGIC is better than the model", magic, 1, model)
        yield times(f"ModelFail, n = {n}: MAGIC is worse than WDR", wdr, 1, magic)
    magic, wdr = at("ModelFail", 4096, "MAGIC", "WDR")
    yield times("ModelFail, n = 4096: MAGIC has under 3 times the error of WDR", magic, 1 / 3, wdr)
    for n, factor in ((16, 2.5), (1024, 30), (4096, 30)):
        for weighted in ("IS", "PDIS", "WIS", "PDWIS"):
            model, other = at("ModelWin", n, "AM", weighted)
            yield times(f"ModelWin, n = {n}: {weighted} has over {factor} times the error of the model", model, factor, other)
    for n in (128, 256, 1024, 4096):
        magic, model = at("ModelWin", n, "MAGIC", "AM")
        yield times(f"ModelWin, n = {n}: MAGIC has under 3 times the error of the model", magic, 1 / 3, model)
    magic, model = at("Hybrid", 4096, "MAGIC", "AM")
    yield times("Hybrid, n = 4096: MAGIC is better than the model", magic, 1, model)
    worst = max(results[f"Gridworld/{n}"]["AM"].abs().max() for n in (64, 256, 1024))
    yield Claim("Gridworld: its moves are deterministic, so that the model makes no error from 64 episodes on", 1e-6 - worst)


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    whole, axes = plt.subplots(2, 2, figsize=(PAGE, 4.8))
    for ax, name in zip(axes.flat, SIZES, strict=True):
        rings(ax, name)
        panel(ax, results, name, ("",), LINES)
    halves, beside = plt.subplots(1, 3, figsize=(PAGE, 2.9))
    for ax, name in zip(beside, HALVED, strict=True):
        panel(ax, results, name, ("", "half "), ("AM", "DR", "WDR", "MAGIC"))
    for figure, ax in ((whole, axes[0, 0]), (halves, beside[0])):
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=8 if figure is whole else 4)
    return {"": whole, "halves": halves}


def panel(ax: Axes, results: Results, name: str, kinds: tuple[str, ...], estimators: Iterable[str]) -> None:
    """A domain; dashes are models learned from one half, corrected on the other."""
    exact = []
    for kind, estimator in ((kind, estimator) for kind in kinds for estimator in estimators):
        color, marker = LINES[estimator]
        ours = [mse(results, f"{kind}{name}/{n}", estimator).value for n in SIZES[name]]
        label = f"{estimator}, model from half" if kind else estimator
        ax.plot(SIZES[name], ours, color=color, linestyle="--" if kind else "-", marker=marker, label=label)
        exact += [estimator] if ours[-1] < LOWEST else []
    ax.set(xscale="log", yscale="log", title=name, xlabel="number of episodes", ylabel="mean squared error")
    ax.set_xticks([n for n in SIZES[name] if n not in (100, 128, 512)])
    ax.minorticks_off()
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_ylim(bottom=max(ax.get_ylim()[0], LOWEST))
    if exact:
        ax.text(0.98, 0.04, f"no error: {', '.join(exact)}", ha="right", transform=ax.transAxes)


def rings(ax: Axes, name: str) -> None:
    """The published errors of a domain."""
    published = PUBLISHED["thomas_brunskill_2016"]["cells"]
    for n in TABLE.get(name, ()):
        for estimator, (color, _) in LINES.items():
            entry, logarithm = published.get(f"{name} {n} {estimator}"), published.get(f"{name} {n} {estimator}, log10")
            if entry or logarithm:
                value = entry["value"] if entry else 10 ** logarithm["value"]
                ax.plot(n, value, "o", color=color, markerfacecolor="none", markersize=7)


PAPER = Paper("Wrong models, exploding weights", "Thomas & Brunskill (2016), ICML, Figures 1 and 2", 1, jobs, cells, claims, draw)
