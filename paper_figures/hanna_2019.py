"""Hanna, Niekum & Stone (2019), Importance sampling with an estimated behavior policy, Figures 2 and 3: estimated beats true.

RIS(k) counts the actions given the state and the k - 1 pairs before it, as the package does; the paper starts at 0. Its doubly
robust panels are left out: a table of this deterministic gridworld makes no error, and DR with it none either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

import causalrl as crl
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from paper_figures.checks import PUBLISHED
from paper_figures.paper import Cell, Claim, Job, Paper, Results, Row, mean_cell, median_cell
from paper_figures.style import BLUE, GREEN, GREY, ORANGE, PAGE, PINK, RED, SKY
from paper_figures.thomas_brunskill_2016 import times
from simulators import Gridworld, SinglePath

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PATH_SIZES, GRID_SIZES, TABLE = (30, 100, 300, 1000, 3000, 10000), (100, 1000, 10000), (100, 1000, 10000)
PATH = {"IS": RED, "WIS": BLUE, "RIS(1)": ORANGE, "RIS(3)": PINK, "RIS(5)": GREEN, "weighted RIS(1)": SKY}
GRID = {
    **{"IS": RED, "WIS": BLUE, "PDIS": PINK, "RIS": ORANGE, "weighted RIS": SKY, "PD-RIS": GREEN},
    "RIS, independent data": GREY,
}
EXACT = "10000 RIS(5)"
"""Every history has been seen in nearly every sample, which leaves rounding."""


def path_errors(replication: int, n: int) -> Row:
    """On SinglePath."""
    domain = SinglePath()
    data = domain.sample(n, domain.behavior(), domain.horizon, derive_seed(0, "path", n, replication))
    counted = {f"RIS({memory})": crl.RIS(memory) for memory in (1, 3, 5)}
    named = {"IS": crl.IS(), "WIS": crl.WIS(), **counted, "weighted RIS(1)": crl.RIS(normalized=True)}
    goal, nuisances = crl.PolicyValue(domain.target(), horizon=domain.horizon), Nuisances(data, replication)
    truth = domain.value(goal.policy, domain.horizon)
    return {name: estimator.point(nuisances, goal) - truth for name, estimator in named.items()}


def grid_errors(replication: int, n: int) -> Row:
    """On Gridworld, off-policy and on-policy, from the same episodes."""
    domain, row = grid(), dict[str, float]()
    data, other = (
        domain.sample(n, domain.behavior(), domain.horizon, derive_seed(0, use, n, replication))
        for use in ("grid", "independent")
    )
    named = {
        **{"IS": crl.IS(), "WIS": crl.WIS(), "PDIS": crl.PDIS()},
        **{"RIS": crl.RIS(), "weighted RIS": crl.RIS(normalized=True), "PD-RIS": crl.PDIS(behavior=crl.Counts())},
        "RIS, independent data": crl.IS(behavior=crl.KnownPropensity(counted_once_more(other))),
    }
    nuisances = Nuisances(data, replication)
    for case, target in (("off", domain.target()), ("on", domain.behavior())):
        goal, truth = crl.PolicyValue(target, horizon=domain.horizon), domain.value(target, domain.horizon)
        row |= {f"{case} {name}": estimator.point(nuisances, goal) - truth for name, estimator in named.items()}
    return row


def grid() -> Gridworld:
    return Gridworld(goal_reward=100)


def counted_once_more(data: crl.Trajectories) -> crl.TabularPolicy:
    """Frequencies of the actions with an initial count of 1, as the authors estimate a policy from other data."""
    counts = np.ones((data.n_states, data.n_actions))
    np.add.at(counts, (data.observations, data.actions), 1)
    return crl.TabularPolicy(counts / counts.sum(axis=1, keepdims=True))


def jobs(fast: bool) -> Mapping[str, Job]:
    path, trials = ((24, 6), (8, 8, 3)) if fast else ((200, 200), (1000, 200, 400))
    found = {f"path/{n}": Job(path_errors, path[n > 1000], {"n": n}) for n in PATH_SIZES}
    return found | {f"grid/{n}": Job(grid_errors, count, {"n": n}) for n, count in zip(GRID_SIZES, trials, strict=True)}


def mse(results: Results, job: str, estimator: str) -> Cell:
    """Mean squared error."""
    return mean_cell(f"{job} {estimator}", results[job][estimator] ** 2)


def cells(results: Results) -> Iterator[Cell]:
    path, world = SinglePath(), grid()
    for name, domain, policy in (
        ("SinglePath V(target)", path, path.target()),
        ("SinglePath V(behaviour)", path, path.behavior()),
        ("Gridworld V(p1)", world, world.behavior()),
        ("Gridworld V(p2)", world, world.target()),
        ("Gridworld V(uniform)", world, crl.Uniform(4)),
    ):
        yield Cell(name, domain.value(policy, domain.horizon))
    for n, name in ((n, name) for n in TABLE for name in PATH if name != "RIS(3)"):
        own = mse(results, f"path/{n}", name)
        if f"{n} {name}" == EXACT:
            own = median_cell("", results[f"path/{n}"][name] ** 2)
        yield own._replace(key=f"SinglePath {n} {name}")
    for case, n, name in ((case, n, name) for case in ("off", "on") for n in TABLE for name in GRID):
        yield mse(results, f"grid/{n}", f"{case} {name}")._replace(key=f"Gridworld {case} {n} {name}")


def claims(results: Results) -> Iterator[Claim]:
    for n in TABLE:
        true, counted = (mse(results, f"path/{n}", name) for name in ("IS", "RIS(1)"))
        yield times(f"SinglePath, n = {n}: RIS(1) has under 0.6 times the error of IS", counted, 1 / 0.6, true)
    few, more = (mse(results, f"path/{n}", "RIS(5)") for n in (100, 1000))
    yield times("SinglePath, n = 100: a full history is worse than the true propensities", mse(results, "path/100", "IS"), 1, few)
    yield times("SinglePath, n = 1000: a full history is worse than the state", mse(results, "path/1000", "RIS(1)"), 1, more)
    for case, n in ((case, n) for case in ("off", "on") for n in GRID_SIZES):
        true, same, other = (mse(results, f"grid/{n}", f"{case} {name}") for name in ("IS", "RIS", "RIS, independent data"))
        where = f"Gridworld, {case}-policy, n = {n}"
        yield times(f"{where}: RIS has under 0.6 times the error of IS", same, 1 / 0.6, true)
        yield times(f"{where}: a policy estimated on other data is worse than the true one", true, 1, other)


def draw(results: Results) -> Mapping[str, Figure]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(PAGE, 3.2))
    lines(axes[0], results, "path", PATH_SIZES, PATH, "")
    lines(axes[1], results, "grid", GRID_SIZES, GRID, "off ")
    lines(axes[2], results, "grid", GRID_SIZES, GRID, "on ")
    for ax, title in zip(axes, ("SinglePath", "Gridworld, off-policy", "Gridworld, on-policy"), strict=True):
        ax.set(xscale="log", yscale="log", title=title, xlabel="number of episodes")
        ax.minorticks_off()
    axes[0].set_ylabel("mean squared error")
    axes[0].set_ylim(bottom=min(mse(results, f"path/{n}", "RIS(3)").value for n in PATH_SIZES) / 3)
    axes[1].sharey(axes[2])
    for ax, side, columns in ((axes[0], "left", 2), (axes[1], "right", 3)):
        figure.legend(*ax.get_legend_handles_labels(), loc=f"outside lower {side}", ncols=columns)
    return {"": figure}


def lines(ax: Axes, results: Results, job: str, sizes: tuple[int, ...], colors: Mapping[str, str], case: str) -> None:
    """Ours as lines, the published as rings."""
    published = PUBLISHED["hanna_2019"]["cells"]
    where = f"Gridworld {case}" if case else "SinglePath "
    for name, color in colors.items():
        estimated = "RIS" in name
        ours = [mse(results, f"{job}/{n}", case + name).value for n in sizes]
        ax.plot(sizes, ours, color=color, marker="o", linestyle="-" if estimated else "--", label=name)
        rings = {n: published[key]["value"] for n in TABLE if (key := f"{where}{n} {name}") in published}
        ax.plot(list(rings), list(rings.values()), "o", color=color, markerfacecolor="none", markersize=7)


PAPER = Paper(
    "An estimated behaviour policy beats the true one",
    "Hanna, Niekum & Stone (2019), ICML, Figures 2 and 3",
    1,
    jobs,
    cells,
    claims,
    draw,
)
