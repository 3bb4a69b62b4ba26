"""Learners of heterogeneous effects against published errors: `python -m benchmarks.heterogeneity`.

Nie & Wager (2021), tables of setups A to D at d = 6 and n = 500, learners S, T, X and R with kernel ridge (60 replications, three
levels of noise) and with boosted trees (20 replications, sigma 1); Kennedy (2023), mean squared error against the error rate of
the propensity (500 replications). About an hour on two cores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import causalrl as crl
from benchmarks.provenance import provenance
from benchmarks.smoothers import BoostedTrees, GaussianRidge, PSpline
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.regression import seeded_clone
from simulators import Kennedy, NieWager

Floats = NDArray[np.float64]
SEED, N, D = 0, 500, 6
RESULTS = Path(__file__).parent / "results" / "heterogeneity.csv"
LEARNERS = ("S", "T", "X", "R")
KERNEL_REPLICATIONS, BOOSTING_REPLICATIONS, KENNEDY_REPLICATIONS = 60, 20, 500
KERNEL = {  # Nie & Wager, d = 6, n = 500: S, T, X, R
    ("A", 0.5): (0.06, 0.08, 0.05, 0.03),
    ("A", 1.0): (0.09, 0.15, 0.10, 0.08),
    ("A", 2.0): (0.14, 0.32, 0.19, 0.22),
    ("B", 0.5): (0.09, 0.10, 0.05, 0.05),
    ("B", 1.0): (0.21, 0.23, 0.13, 0.11),
    ("B", 2.0): (0.46, 0.57, 0.36, 0.34),
    ("C", 0.5): (0.11, 0.11, 0.04, 0.02),
    ("C", 1.0): (0.32, 0.34, 0.13, 0.04),
    ("C", 2.0): (0.83, 0.95, 0.44, 0.14),
    ("D", 0.5): (0.15, 0.15, 0.15, 0.18),
    ("D", 1.0): (0.32, 0.34, 0.33, 0.38),
    ("D", 2.0): (0.65, 0.71, 0.71, 0.77),
}
BOOSTING = {
    ("A", 1.0): (0.12, 0.20, 0.08, 0.06),
    ("B", 1.0): (0.33, 0.48, 0.27, 0.33),
    ("C", 1.0): (0.46, 0.97, 0.23, 0.15),
    ("D", 1.0): (0.55, 0.53, 0.57, 0.66),
}
RATES = (0.1, 0.2, 0.3, 0.4, 0.5)
KENNEDY = {  # DR at the five rates, T, X (middle of its range), oracle; n per fold
    500: {"DR": (0.01598, 0.00542, 0.00438, 0.00432, 0.00420), "T": 0.01385, "X": 0.0245, "oracle": 0.00290},
    2000: {"DR": (0.00427, 0.00182, 0.00146, 0.00133, 0.00132), "T": 0.00545, "X": 0.0032, "oracle": 0.00124},
}
TOLERANCE = {"kernel": 0.3, "boosting": 0.4, "spline": 0.3}


def band(published: float, base: str) -> tuple[float, float]:
    """What a measured error should lie in: a share of the published one, and .02 around a Nie-Wager cell below .05."""
    room = 0.02 if base != "spline" and published < 0.05 else TOLERANCE[base] * published
    return published - room, published + room


# --------------------------------------------------------------------------------------------------------- Nie & Wager


def with_interactions(columns: Floats) -> Floats:
    """(x, w) to the columns x, (w - 1/2) x, w - 1/2 of the S-learner."""
    x, w = columns[:, :-1], columns[:, -1:] - 0.5
    return np.column_stack([x, w * x, w])


def learners_with(
    base: GaussianRidge | BoostedTrees, second: GaussianRidge | BoostedTrees, study: crl.Trajectories, seed: int
) -> Mapping[str, crl.Estimator]:
    """Every regression tunes itself; m and e are tuned once, and cross-fitted with what was chosen, e unclipped.

    Args:
        base, second: the regression of outcomes, and that of the imputed effects of the X-learner.
    """
    outcome, treatment = (
        seeded_clone(base, derive_seed(seed, name)).fit(study.observations, target).frozen()
        for name, target in (("m", study.rewards), ("e", study.actions))
    )
    return {
        "S": crl.SLearner(make_pipeline(FunctionTransformer(with_interactions), base)),
        "T": crl.TLearner(base),
        "X": crl.XLearner(base, treatment, effect=second),
        "R": crl.RLearner(outcome, treatment, effect=base, folds=5),
    }


BASES = {"kernel": (GaussianRidge(), GaussianRidge(folds=10)), "boosting": (BoostedTrees(), BoostedTrees())}


def nie_wager_errors(setup: str, sigma: float, base: str, replication: int, seed: int = SEED) -> list[float]:
    """Mean squared errors of the four learners on a test set of the same size."""
    design, root = NieWager(setup, D, sigma), derive_seed(seed, f"{setup} {sigma} {base}", replication)
    study, test = (design.sample(N, derive_seed(root, name)) for name in ("train", "test"))
    goal, truth = crl.CATE(at=test.observations), design.effect(test.observations)
    learners = learners_with(*BASES[base], study, root)
    return [float(np.mean((learners[name].estimate(study, goal, root).value - truth) ** 2)) for name in LEARNERS]


def nie_wager(base: str, cells: Mapping[tuple[str, float], Sequence[float]], replications: int, n_jobs: int = 2) -> pd.DataFrame:
    """One row a cell and learner."""
    rows = []
    for (setup, sigma), published in cells.items():
        errors = np.array(_parallel(n_jobs, [delayed(nie_wager_errors)(setup, sigma, base, r) for r in range(replications)]))
        for name, target, own in zip(LEARNERS, published, errors.T, strict=True):
            rows.append(_row("Nie-Wager", setup, N, base, sigma, name, own, target))
    return pd.DataFrame(rows)


# -------------------------------------------------------------------------------------------------------------- Kennedy


def kennedy_errors(n: int, replication: int, seed: int = SEED) -> dict[tuple[str, float], float]:
    """Mean squared errors by learner and rate (0 where no propensity is guessed): each stage on n units of its own."""
    design, root = Kennedy(), derive_seed(seed, f"Kennedy {n}", replication)
    first, second, test = (design.sample(n, derive_seed(root, name)) for name in ("outcome", "effect", "test"))
    arms = [PSpline().fit(first.observations[first.actions == a], first.rewards[first.actions == a]) for a in (0, 1)]
    learned = crl.KnownQ(lambda x, t: np.column_stack([arm.predict(x) for arm in arms]))
    goal, spline = crl.CATE(at=test.observations), PSpline()

    def error(learner: crl.Estimator, study: crl.Trajectories) -> float:
        return float(np.mean((np.asarray(learner.estimate(study, goal).value) - design.effect(test.observations)) ** 2))

    errors = {("T", 0.0): error(crl.DirectMethod(learned), second)}
    truth = crl.KnownQ(lambda x, t: design.outcome_means(x))
    errors["oracle", 0.0] = error(crl.DRLearner(truth, crl.Logged(), effect=spline), second)
    for rate in RATES:
        guess = _perturbed(design, n, rate, np.random.default_rng(derive_seed(root, f"propensity {rate}")))
        study = crl.Trajectories.from_cross_section(
            second.observations, second.actions, second.rewards, propensity=guess(second.observations)
        )
        known = crl.KnownPropensity(lambda x, t, guess=guess: np.column_stack([1 - (e := guess(x)), e]))
        errors["DR", rate] = error(crl.DRLearner(learned, crl.Logged(), effect=spline), study)
        errors["X", rate] = error(crl.XLearner(learned, known, effect=spline), second)
    return errors


def _perturbed(design: Kennedy, n: int, rate: float, rng: np.random.Generator) -> Callable[[Floats], Floats]:
    """Propensities whose log-odds are off by N(n^-rate, n^-2 rate), drawn anew for every unit."""
    off = n**-rate
    return lambda x: np.asarray(expit(logit(design.propensity(x)) + rng.normal(off, off, len(x))))


def kennedy(sizes: Sequence[int], replications: int, n_jobs: int = 2) -> pd.DataFrame:
    """One row a size, learner and rate."""
    rows = []
    for n in sizes:
        table = pd.DataFrame(_parallel(n_jobs, [delayed(kennedy_errors)(n, r) for r in range(replications)]))
        for name, rate in table.columns:
            known = KENNEDY[n][name]
            target = known[RATES.index(rate)] if isinstance(known, tuple) else known
            rows.append(_row("Kennedy", "", n, "spline", rate, name, table[name, rate].to_numpy(), target))
    return pd.DataFrame(rows)


# ----------------------------------------------------------------------------------------------------------------- rows


def _parallel(n_jobs: int, tasks: list[Any]) -> list[Any]:
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        return list(Parallel()(tasks))


def _row(
    study: str, setup: str, n: int, base: str, level: float, learner: str, errors: Floats, published: float
) -> dict[str, object]:
    low, high = band(published, base)
    mse, mcse = float(errors.mean()), float(errors.std(ddof=1) / np.sqrt(len(errors)))
    return {
        **{"study": study, "setup": setup, "n": n, "base": base, "level": level, "learner": learner},
        **{"mse": mse, "mcse": mcse, "replications": len(errors)},
        **{"published": published, "low": low, "high": high, "inside": low <= mse <= high},
    }


def main(
    kernel: Annotated[int, typer.Option(help="Replications of a kernel cell.")] = KERNEL_REPLICATIONS,
    boosting: Annotated[int, typer.Option(help="Replications of a boosting cell.")] = BOOSTING_REPLICATIONS,
    splines: Annotated[int, typer.Option(help="Replications of Kennedy's design.")] = KENNEDY_REPLICATIONS,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 2,
    out: Annotated[Path, typer.Option(help="Where the rows go.")] = RESULTS,
) -> None:
    """Write the rows, with the seed and the commit that made them. `level` is sigma, or Kennedy's rate."""
    made_by = {key: provenance(SEED)[key] for key in ("seed", "commit")}
    tables = [
        kennedy(tuple(KENNEDY), splines, jobs),
        nie_wager("boosting", BOOSTING, boosting, jobs),
        nie_wager("kernel", KERNEL, kernel, jobs),
    ]
    table = pd.concat(tables, ignore_index=True).assign(**made_by)
    table.to_csv(out, index=False, float_format="%.5g")
    print(table.drop(columns=["seed", "commit"]).to_string(index=False))


if __name__ == "__main__":
    typer.run(main)
