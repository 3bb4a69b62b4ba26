"""Bounds of the marginal sensitivity model against the sharp ones: `python -m benchmarks.sensitivity_marginal`.

The effect of `WorstConfounder`, whose sharp bounds are known in closed form, and of its binary outcome Y > 0, whose bounds at
propensity e and risk p are e p + (1 - e) min(gamma p, 1 - (1 - p) / gamma) and e p + (1 - e) max(p / gamma, 1 - gamma (1 - p)),
averaged over the covariates by quadrature. An interval covers if it holds both sharp bounds. 1,000 samples of 2,000, and 200 of
10,000 for the distance of the bounds from the estimate at gamma = 1; fewer of the binary outcome. About five minutes on two quiet
cores.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from scipy.special import ndtr

import causalrl as crl
from benchmarks.provenance import provenance
from causalrl.kernels.rng import derive_seed
from simulators import WorstConfounder
from simulators.designs.quadrature import normal_nodes

PLAN = {("normal", 2000): 1000, ("normal", 10_000): 200, ("binary", 2000): 400, ("binary", 10_000): 50}
"""Replications by outcome and sample size."""
SEED, LEVEL = 0, 0.95
GAMMAS = (1.0, 1.5, 3.0)
DESIGN = WorstConfounder(gamma=2.0)
RESULTS = Path(__file__).parent / "results" / "sensitivity_marginal.csv"
LOGIT = crl.Logit()
RECIPES: Mapping[str, crl.Estimator] = {
    "IPW": crl.IPW(LOGIT),
    "AIPW": crl.AIPW(crl.LinearQ(), LOGIT),
    "AIPW, 5 folds": crl.AIPW(crl.LinearQ(), LOGIT, folds=5),
}


@cache
def sharp(outcome: str, gamma: float) -> tuple[float, float]:
    """Sharp bounds of the effect."""
    if outcome == "normal":
        return DESIGN.bounds(gamma)
    nodes, weights = normal_nodes()
    nodes, weights = nodes[::4], weights[::4] / weights[::4].sum()
    X = np.column_stack([grid.ravel() for grid in np.meshgrid(nodes, nodes, indexing="ij")])
    law, e = np.outer(weights, weights).ravel(), DESIGN.propensity(X)
    index = X[:, 0] + X[:, 1] / 2
    least, most = np.empty(2), np.empty(2)
    for arm in (0, 1):
        p, own = ndtr((index + arm) / DESIGN.sd), e if arm else 1 - e
        least[arm] = law @ (own * p + (1 - own) * np.maximum(p / gamma, 1 - gamma * (1 - p)))
        most[arm] = law @ (own * p + (1 - own) * np.minimum(gamma * p, 1 - (1 - p) / gamma))
    return float(least[1] - most[0]), float(most[1] - least[0])


def replication(outcome: str, n: int, r: int, seed: int = SEED) -> pd.DataFrame:
    """Bounds and interval of every recipe and gamma on sample r."""
    study = DESIGN.sample(n, seed=derive_seed(seed, "study", n, r))
    if outcome == "binary":
        above = (study.rewards > 0).astype(np.float64)
        study = crl.Trajectories.from_cross_section(study.observations, study.actions, above)
    model = crl.MarginalModel(GAMMAS, level=LEVEL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crl.errors.CausalRLWarning)
        frames = [
            crl.sensitivity_analysis(recipe, study, crl.ATE(), model, seed=r).frame.assign(estimator=name)
            for name, recipe in RECIPES.items()
        ]
    return pd.concat(frames, ignore_index=True).assign(outcome=outcome, n=n)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row an outcome, size, estimator and gamma.

    Columns: means of the bounds and the sharp ones; `coverage` of both by the interval, of each by its own limit; `share_low`,
    `share_high`: the mean distance of a bound from the estimate at gamma = 1, over the sharp distance.
    """
    found = []
    for key, part in rows.groupby(["outcome", "n", "estimator", "gamma"], sort=False):
        low, high = sharp(str(key[0]), float(key[3]))
        start = rows[(rows[["outcome", "n", "estimator"]] == list(key[:3])).all(axis=1) & (rows["gamma"] == 1)]["low"].to_numpy()
        apparent = sum(sharp(str(key[0]), 1.0)) / 2
        below, above = (part["interval_low"] <= low).to_numpy(), (part["interval_high"] >= high).to_numpy()
        covered = float(np.mean(below & above))
        found.append(
            {
                **dict(zip(("outcome", "n", "estimator", "gamma"), key, strict=True)),
                "low": part["low"].mean(),
                "sharp_low": low,
                "high": part["high"].mean(),
                "sharp_high": high,
                "coverage": covered,
                "coverage_mcse": float(np.sqrt(covered * (1 - covered) / len(part))),
                "coverage_low": below.mean(),
                "coverage_high": above.mean(),
                "share_low": np.mean(start - part["low"].to_numpy()) / (apparent - low) if key[3] > 1 else np.nan,
                "share_high": np.mean(part["high"].to_numpy() - start) / (high - apparent) if key[3] > 1 else np.nan,
                "replications": len(part),
            }
        )
    return pd.DataFrame(found)


def measure(plan: Mapping[tuple[str, int], int] = PLAN, seed: int = SEED, n_jobs: int = 1) -> pd.DataFrame:
    """The summary over fresh samples."""
    jobs = [(outcome, n, r) for (outcome, n), count in plan.items() for r in range(count)]
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        rows = Parallel(batch_size=5)(delayed(replication)(*job, seed) for job in jobs)
    return summary(pd.concat(rows, ignore_index=True))


def main() -> None:
    """Measure and write the rows."""
    made_by = {key: provenance(SEED)[key] for key in ("seed", "commit")}
    found = measure(n_jobs=2).assign(**made_by)
    found.to_csv(RESULTS, index=False, float_format="%.5g")
    print(found.to_string(index=False))


if __name__ == "__main__":
    main()
