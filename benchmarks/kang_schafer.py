"""Kang & Schafer (2007), Tables 1, 3 and 5 to 7, through the package: `python -m benchmarks.kang_schafer`.

5,000 samples of 200 and of 1,000 units; logit and outcome regression on the right covariates z or the wrong ones x. The mean of
outcomes missing at random is the value of `Always(1)`, R the treatment. Inverse probability weighting of the nonrespondents
(IPW-NR) is r mean(Y | R = 1) + (1 - r) E[Y(1) | R = 0]; as the outcome of arm 0 is recorded as 0, the last is the ATC.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray

import causalrl as crl
from benchmarks.provenance import provenance
from causalrl.estimators.base import FittedEstimator
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from simulators import KangSchafer

SIZES, REPLICATIONS, SEED, TRUTH = (200, 1000), 5000, 0, 210.0
RESULTS = Path(__file__).parent / "results" / "kang_schafer.csv"
COLUMNS = {"right": slice(0, 4), "wrong": slice(4, 8)}
LOGIT, LINEAR = crl.Logit(), crl.LinearQ()
OF_PROPENSITY: Mapping[str, crl.Estimator] = {"HT": crl.IPW(LOGIT, normalized=False), "IPW-POP": crl.IPW(LOGIT)}
Floats = NDArray[np.float64]
Cell: TypeAlias = tuple[str, str, str]
"""Estimator, and the covariates of its models of pi and of y; "" is no such model."""


def of_both(propensity: crl.Logit | crl.Logged) -> Mapping[str, crl.Estimator]:
    """The estimators with both models, the outcome regression on the covariates of the study."""
    weighted = crl.FormulaQ(propensity=propensity, weighted=True)
    return {"AIPW": crl.AIPW(LINEAR, propensity), "WLS": crl.GFormula(weighted)}


def replication(n: int, r: int, seed: int = SEED) -> dict[Cell, float]:
    """Error of every estimator on sample r.

    Where the two models have different covariates, the study has those of the outcome regression, and the fitted propensities of
    the others as its logged ones.
    """
    whole = KangSchafer().sample(n, seed=derive_seed(seed, n, r))
    x, arm, y = whole.observations, whole.actions, whole.rewards
    studies = {own: crl.Trajectories.from_cross_section(x[:, columns], arm, y) for own, columns in COLUMNS.items()}
    shared = {own: Nuisances(study) for own, study in studies.items()}
    fitted = {own: nuisances.behavior(LOGIT, None, None).probabilities for own, nuisances in shared.items()}
    found: dict[Cell, float] = {}
    for own, nuisances in shared.items():
        (other,) = set(COLUMNS) - {own}
        mixed = Nuisances(crl.Trajectories.from_cross_section(x[:, COLUMNS[own]], arm, y, propensity=fitted[other][:, 1]))
        found |= {(name, own, ""): value_of(recipe, nuisances) for name, recipe in OF_PROPENSITY.items()}
        found["IPW-NR", own, ""] = of_nonrespondents(nuisances)
        found["OLS", "", own] = value_of(crl.GFormula(LINEAR), nuisances)
        found |= {(name, own, own): value_of(recipe, nuisances) for name, recipe in of_both(LOGIT).items()}
        found |= {(name, other, own): value_of(recipe, mixed) for name, recipe in of_both(crl.Logged()).items()}
    return {cell: value - TRUTH for cell, value in found.items()}


def value_of(recipe: crl.Estimator, nuisances: Nuisances) -> float:
    """The estimated mean of Y."""
    return float(FittedEstimator(recipe, nuisances).estimate(crl.Always(1)).value)


def of_nonrespondents(nuisances: Nuisances) -> float:
    """IPW-NR."""
    observed = nuisances.data.actions == 1
    missing = float(FittedEstimator(crl.IPW(LOGIT), nuisances).estimate(crl.ATC()).value)
    return float(observed.mean() * nuisances.data.rewards[observed].mean() + (1 - observed.mean()) * missing)


def summary(errors: Floats) -> dict[str, float]:
    """Bias, RMSE and median |error| with their Monte-Carlo standard errors, that of the median by 400 bootstraps."""
    n, rmse, sizes = len(errors), float(np.sqrt(np.mean(errors**2))), np.abs(errors)
    draws = np.random.default_rng(0).integers(0, n, (400, n))
    return {
        "bias": float(errors.mean()),
        "bias_mcse": float(errors.std(ddof=1) / np.sqrt(n)),
        "rmse": rmse,
        "rmse_mcse": float((errors**2).std(ddof=1) / np.sqrt(n) / (2 * rmse)),
        "mae": float(np.median(sizes)),
        "mae_mcse": float(np.median(sizes[draws], axis=1).std(ddof=1)),
    }


def quiet(n: int, r: int, seed: int) -> dict[Cell, float]:
    """`replication` without the warnings about overlap, which the wrong propensities earn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crl.errors.CausalRLWarning)
        return replication(n, r, seed)


def table(n: int, replications: int, seed: int = SEED, n_jobs: int = 1) -> pd.DataFrame:
    """One row an estimator."""
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        rows = pd.DataFrame(Parallel(batch_size=20)(delayed(quiet)(n, r, seed) for r in range(replications)))
    return pd.DataFrame(
        {"n": n, "estimator": name, "pi": pi, "y": y, **summary(rows[name, pi, y].to_numpy()), "replications": replications}
        for name, pi, y in rows.columns
    )


def main() -> None:
    """Measure every cell and write the rows."""
    made_by = {key: provenance(SEED)[key] for key in ("seed", "commit")}
    found = pd.concat([table(n, REPLICATIONS, n_jobs=2) for n in SIZES], ignore_index=True).assign(**made_by)
    found.to_csv(RESULTS, index=False, float_format="%.6g")
    print(found.to_string(index=False))


if __name__ == "__main__":
    main()
