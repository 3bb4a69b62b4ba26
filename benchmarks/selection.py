"""Is the chosen estimator nearly as good as the best one? `python -m benchmarks.selection`

On each of `REPLICATIONS` samples of ModelFail (the model is wrong, weights are mild) and ModelWin (the model is right, weights
explode) the candidates are estimated and each rule chooses one of them. The rows hold every estimate and every choice; `scores`
sums them up. About ten minutes a problem on one quiet core; `--names ModelWin` measures that one anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

import causalrl as crl
from benchmarks.problems import Problem, model_fail, model_win
from benchmarks.provenance import provenance
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from causalrl.selection.candidates import Trial
from causalrl.selection.estimators import SelectionRule

N, REPLICATIONS, SEED = 1000, 400, 0
RESULTS = Path(__file__).parent / "results" / "selection.csv"

CANDIDATES: Mapping[str, crl.Estimator] = {
    "WDR": crl.WDR(q=crl.TabularQ()),
    "DR": crl.DR(q=crl.TabularQ()),
    "PDWIS": crl.PDWIS(),
    "WIS": crl.WIS(),
    "PDIS": crl.PDIS(),
    "IS": crl.IS(),
    "FQE": crl.FQE(crl.TabularQ()),
}
RULES: Mapping[str, SelectionRule] = {"Slope": crl.Slope(100), "BootstrapMSE": crl.BootstrapMSE(100)}


def problems() -> dict[str, Problem]:
    """By name, with the horizons of the paper: 2 and 20."""
    return {problem.name: problem for problem in (model_fail(), model_win(20))}


def one(problem: Problem, r: int) -> dict[str, object]:
    """Estimates and choices on sample r."""
    data = problem.simulator.sample(N, problem.behavior, horizon=problem.horizon, seed=derive_seed(SEED, "data", r))
    goal = crl.PolicyValue(problem.target, horizon=problem.horizon)
    trial = Trial.run(CANDIDATES, Nuisances(data, derive_seed(SEED, "estimate", r)), goal)
    chosen = {name: rule.judge(trial)[1] for name, rule in RULES.items()}
    values = {name: estimate.value for name, estimate in trial.estimates.items()}
    return {"problem": problem.name, "n": N, "replication": r, "truth": problem.truth, **values, **chosen}


def scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Root mean squared error of every candidate and of what each rule chose, and its ratio to that of the best candidate."""
    found = []
    for problem, part in rows.groupby("problem", sort=False):
        errors = part[list(CANDIDATES)].sub(part["truth"], axis=0).to_numpy()
        best = float(np.sqrt((errors**2).mean(axis=0)).min())
        for j, name in enumerate(CANDIDATES):
            found.append({"problem": problem, "name": name, **_score(errors[:, j], best)})
        for name in RULES:
            place = part[name].map(list(CANDIDATES).index).to_numpy()
            chosen = ", ".join(f"{choice} {count}" for choice, count in part[name].value_counts().items())
            found.append(
                {"problem": problem, "name": name, **_score(errors[np.arange(len(part)), place], best), "chosen": chosen}
            )
    return pd.DataFrame(found)


def _score(errors: np.ndarray, best: float) -> dict[str, object]:
    rmse = float(np.sqrt(np.mean(errors**2)))
    mcse = float((errors**2).std(ddof=1) / np.sqrt(len(errors)) / (2 * rmse))
    return {"rmse": rmse, "rmse_mcse": mcse, "ratio": rmse / best, "replications": len(errors)}


def main(names: list[str] | None = None) -> None:
    """Measure every problem, or the named ones, and write their rows in the place of the old ones."""
    made_by = {key: provenance(SEED)[key] for key in ("seed", "commit")}
    for name, problem in problems().items():
        if names and name not in names:
            continue
        new = pd.DataFrame([one(problem, r) for r in range(REPLICATIONS)]).assign(**made_by)
        old = pd.read_csv(RESULTS) if RESULTS.exists() else new.iloc[:0]
        rows = pd.concat([part for part in (old[old["problem"] != name], new) if len(part)])
        rows.sort_values(["problem", "replication"]).to_csv(RESULTS, index=False, float_format="%.8g")
        print(scores(new).to_string(index=False), flush=True)


if __name__ == "__main__":
    import typer

    typer.run(main)
