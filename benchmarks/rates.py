"""RMSE against n: slopes, and the distance to the efficiency bound: `python -m benchmarks.rates`, about ten minutes on two cores.

Every estimator is asked for its value alone, on `REPLICATIONS` samples of every size; all see the same samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config

import causalrl as crl
from benchmarks.problems import Problem, model_fail, model_win, sepsis
from benchmarks.provenance import provenance
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances

REPLICATIONS, SEED = 500, 0
RESULTS = Path(__file__).parent / "results"
IMPORTANCE = {"IS": crl.IS(), "WIS": crl.WIS(), "PDIS": crl.PDIS(), "PDWIS": crl.PDWIS(), "DR": crl.DR(q=crl.TabularQ())}
MARKOV = {"FQE": crl.FQE(crl.TabularQ()), "MIS": crl.MIS(), "DRL": crl.DRL(q=crl.TabularQ())}


def errors(
    problem: Problem, n: int, estimators: Mapping[str, crl.Estimator], replications: int, seed: int = SEED, n_jobs: int = 2
) -> pd.DataFrame:
    """(replications, estimators) value minus truth; an estimate that does not exist is missing."""
    goal, truth = crl.PolicyValue(problem.target, horizon=problem.horizon), problem.truth

    def one(r: int) -> list[float]:
        data = problem.simulator.sample(n, problem.behavior, horizon=problem.horizon, seed=derive_seed(seed, "data", n, r))
        nuisances = Nuisances(data, derive_seed(seed, "estimate", n, r))
        return [_point(estimator, nuisances, goal) - truth for estimator in estimators.values()]

    first = one(0)
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        rest = Parallel()(delayed(one)(r) for r in range(1, replications))
    return pd.DataFrame([first, *rest], columns=list(estimators))


def _point(estimator: crl.Estimator, nuisances: Nuisances, goal: crl.PolicyValue) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return estimator.point(nuisances, goal)
        except crl.errors.SupportError:
            return float("nan")


def scores(errors: pd.Series) -> dict[str, float]:
    """RMSE and bias with their Monte-Carlo errors, failures counted."""
    done = errors.dropna()
    rmse = float(np.sqrt(np.mean(done**2)))
    root = np.sqrt(len(done))
    return {
        "rmse": rmse,
        "rmse_mcse": float(np.std(done**2, ddof=1) / root / (2 * rmse)),
        "bias": float(done.mean()),
        "bias_mcse": float(done.std() / root),
        "replications": len(errors),
        "failures": len(errors) - len(done),
    }


def curve(
    problem: Problem, sizes: Sequence[int], estimators: Mapping[str, crl.Estimator], replications: int, n_jobs: int = 2
) -> pd.DataFrame:
    """One row a size and estimator."""
    rows = []
    for n in sizes:
        table = errors(problem, n, estimators, replications, n_jobs=n_jobs)
        rows += [{"problem": problem.name, "estimator": name, "n": n, **scores(table[name])} for name in estimators]
    return pd.DataFrame(rows)


def slope(n: pd.Series, rmse: pd.Series, mcse: pd.Series) -> tuple[float, float]:
    """Slope of log RMSE on log n, and its Monte-Carlo standard error."""
    x = np.log(n.to_numpy(float))
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    relative = (mcse / rmse).to_numpy(float)
    return float(weights @ np.log(rmse.to_numpy(float))), float(np.sqrt(np.sum((weights * relative) ** 2)))


def slopes(table: pd.DataFrame) -> pd.DataFrame:
    """One row a problem and estimator of `curve`."""

    def rows() -> Iterator[dict[str, object]]:
        for (problem, estimator), part in table.groupby(["problem", "estimator"], sort=False):
            value, error = slope(part["n"], part["rmse"], part["rmse_mcse"])
            yield {"problem": problem, "estimator": estimator, "slope": value, "slope_mcse": error}

    return pd.DataFrame(rows())


CURVES = (
    (model_win, (256, 512, 1024, 2048, 4096, 8192), {**IMPORTANCE, "WDR": crl.WDR(q=crl.TabularQ()), "DRL": MARKOV["DRL"]}),
    (model_fail, (256, 1024, 4096), {"IS": crl.IS(), "PDIS": crl.PDIS(), **MARKOV}),
    (sepsis, (1000, 2000, 4000, 8000, 16000), IMPORTANCE),
)
EFFICIENT = (
    ("DRL", MARKOV["DRL"], "markov", 5_000),
    ("FQE", MARKOV["FQE"], "homogeneous", 5_000),
    ("FQE", MARKOV["FQE"], "homogeneous", 20_000),
)


def efficiency(replications: int, n_jobs: int = 2) -> pd.DataFrame:
    """RMSE over the root of the efficiency bound over n, on sepsis."""
    problem, rows = sepsis(), []
    for name, estimator, model, n in EFFICIENT:
        score = scores(errors(problem, n, {name: estimator}, replications, n_jobs=n_jobs)[name])
        least = float(np.sqrt(problem.bound(model) / n))
        row = {
            "estimator": name,
            "model": model,
            "n": n,
            "ratio": score["rmse"] / least,
            "ratio_mcse": score["rmse_mcse"] / least,
        }
        rows.append({**row, **score})
    return pd.DataFrame(rows)


def main() -> None:
    """Write rates.csv and efficiency.csv, with the seed and the commit that made them."""
    made_by = {key: provenance(SEED)[key] for key in ("seed", "commit")}
    curves = pd.concat([curve(problem(), sizes, named, REPLICATIONS) for problem, sizes, named in CURVES], ignore_index=True)
    for name, table in (("rates", curves), ("efficiency", efficiency(REPLICATIONS))):
        table.assign(**made_by).to_csv(RESULTS / f"{name}.csv", index=False, float_format="%.5g")
        print(table.to_string(index=False))
    print(slopes(curves).to_string(index=False))


if __name__ == "__main__":
    main()
