"""How often each verdict is given, and whether it is right, over a grid of overlaps: `python -m benchmarks.trust`.

Sepsis, n = 2,000, horizon 20: the physician softened by a behaviour epsilon, and targets that are the same physician softened
otherwise, or never treat. Single decisions, n = 2,000: `Point`, whose arms overlap, and `Steep`, whose propensities run from near
0 to near 1. 200 data sets in the four cells that the claims are about, 60 in the others; about eight minutes on one quiet core.
The thresholds of `causalrl.diagnostics.verdict` were chosen on samples of seed 7 (12 to 150 a cell) and are validated here on
others. `--page-only` writes docs/trust.md from the rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import causalrl as crl
from benchmarks.provenance import provenance
from benchmarks.trust_page import page
from causalrl.diagnostics.record import VERDICTS
from causalrl.estimands import Estimand
from causalrl.estimators.base import FittedEstimator
from causalrl.inference.base import IntervalMethod
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from simulators import Point, SepsisSimulator

N, HORIZON, MANY, FEW, SEED = 2000, 20, 200, 60, 1
RESULTS = Path(__file__).parent / "results" / "trust.csv"
PAGE = Path(__file__).parent.parent / "docs" / "trust.md"
BEHAVIORS, TARGETS = (0.05, 0.1, 0.2, 0.3), ("never", "0.30", "0.15")
BAD, GOOD = ("sepsis", "0.05", "never"), ("sepsis", "0.30", "0.15")
STEEP, POINT = ("steep", "", ""), ("point", "", "")
Q, LOGIT, LINEAR = crl.TabularQ(), crl.Logit(), crl.LinearQ()


def sequential() -> dict[str, tuple[crl.Estimator, IntervalMethod | None]]:
    """Estimators of a policy's value with their intervals; None is the default."""
    recipes: dict[str, tuple[crl.Estimator, IntervalMethod | None]] = {}
    for name, behavior in (("logged", None), ("counted", crl.Counts())):
        weighted = {kind.__name__: kind(behavior) for kind in (crl.IS, crl.WIS, crl.PDIS, crl.PDWIS)}
        robust = {kind.__name__: kind(behavior, q=Q) for kind in (crl.DR, crl.WDR)}
        marginal = {"MIS": crl.MIS(behavior=behavior), "DRL": crl.DRL(q=Q, behavior=behavior)}
        own: Mapping[str, crl.Estimator] = {**weighted, **robust, **marginal}
        recipes |= {f"{kind}, {name}": (recipe, crl.RefitWald(50) if kind == "MIS" else None) for kind, recipe in own.items()}
    return {**recipes, "FQE": (crl.FQE(Q), crl.RefitBootstrap(100))}


SEQUENTIAL = sequential()
SINGLE: Mapping[str, tuple[crl.Estimator, IntervalMethod | None]] = {
    "AIPW": (crl.AIPW(LINEAR, LOGIT), None),
    "IPW": (crl.IPW(LOGIT), None),
    "TMLE": (crl.TMLE(q=LINEAR, behavior=LOGIT), None),
}


@dataclass(frozen=True)
class Cell:
    """A problem, who acted and who is valued."""

    problem: str
    behavior: str
    target: str

    @property
    def key(self) -> tuple[str, str, str]:
        return self.problem, self.behavior, self.target

    @property
    def replications(self) -> int:
        return MANY if self.key in (BAD, GOOD, STEEP, POINT) else FEW

    @property
    def recipes(self) -> Mapping[str, tuple[crl.Estimator, IntervalMethod | None]]:
        return SEQUENTIAL if self.problem == "sepsis" else SINGLE

    def sample(self, r: int, seed: int = SEED) -> crl.Trajectories:
        """Data set r."""
        root = derive_seed(seed, "data", r)
        if self.problem == "sepsis":
            simulator = SepsisSimulator()
            return simulator.sample(N, simulator.physician(epsilon=float(self.behavior)), horizon=HORIZON, seed=root)
        if self.problem == "steep":
            return steep(N, root)
        study = Point().sample(N, seed=root % 2**32)
        return crl.Trajectories.from_cross_section(study.observations, study.actions, study.rewards)

    def goal(self) -> Estimand:
        """What is asked."""
        return crl.ATE() if self.problem != "sepsis" else crl.PolicyValue(self._target(), horizon=HORIZON)

    def truth(self) -> float:
        """Its exact value."""
        return 1.0 if self.problem != "sepsis" else float(SepsisSimulator().value(self._target(), horizon=HORIZON))

    def _target(self) -> crl.Policy:
        return crl.Always(0) if self.target == "never" else SepsisSimulator().physician(epsilon=float(self.target))


_GRID = [("sepsis", f"{behavior:.2f}", target) for behavior in BEHAVIORS for target in TARGETS if target != f"{behavior:.2f}"]
CELLS = tuple(Cell(*key) for key in dict.fromkeys([BAD, GOOD, POINT, STEEP, *_GRID]))


def steep(n: int, seed: int) -> crl.Trajectories:
    """Two normal covariates, e = expit(4 x1), outcome 2 x1 + x1^2 + arm + noise, so that the effect is 1."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    arm = rng.binomial(1, 1 / (1 + np.exp(-4 * x[:, 0])))
    return crl.Trajectories.from_cross_section(x, arm, 2 * x[:, 0] + x[:, 0] ** 2 + arm + rng.normal(size=n))


def verdicts(cell: Cell, r: int, seed: int = SEED) -> pd.DataFrame:
    """Value, limits and verdict of every estimator on data set r."""
    nuisances, rows, goal = Nuisances(cell.sample(r, seed), derive_seed(seed, "estimate", r)), [], cell.goal()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crl.errors.CausalRLWarning)
        for name, (recipe, method) in cell.recipes.items():
            row = {"estimator": name, "value": np.nan, "low": np.nan, "high": np.nan, "verdict": None}
            try:
                estimate = FittedEstimator(recipe, nuisances).estimate(goal)
                row |= {"value": float(estimate.value), "verdict": estimate.diagnostics["verdict"]}
                row |= dict(zip(("low", "high"), estimate.interval(method=method), strict=True))
            except (crl.errors.SupportError, crl.errors.IntervalError):
                pass  # missing in the row, and counted
            rows.append(row)
    return pd.DataFrame(rows)


def measure(cell: Cell, replications: int, seed: int = SEED) -> pd.DataFrame:
    """One row an estimator."""
    rows, truth = pd.concat([verdicts(cell, r, seed) for r in range(replications)]), cell.truth()
    found = [{"estimator": name, **score(part, truth)} for name, part in rows.groupby("estimator", sort=False)]
    return pd.DataFrame(found).assign(problem=cell.problem, behavior=cell.behavior, target=cell.target)


def score(part: pd.DataFrame, truth: float) -> dict[str, float]:
    """Shares of the verdicts among the estimates; coverage, of the reliable too; verdicts on intervals that miss."""
    done, limited = part[part["value"].notna()], part[part["low"].notna()]
    covered = (limited["low"] <= truth) & (truth <= limited["high"])
    missed, trusted = limited.loc[~covered, "verdict"], covered[limited["verdict"] == VERDICTS[0]]
    return {
        **{verdict: float((done["verdict"] == verdict).mean()) for verdict in VERDICTS},
        "coverage": float(covered.mean()),
        "coverage_if_reliable": float(trusted.mean()) if len(trusted) else np.nan,
        "missed": len(missed),
        "stopped_of_missed": float((missed == VERDICTS[2]).mean()) if len(missed) else np.nan,
        "rmse": float(np.sqrt(((done["value"] - truth) ** 2).mean())),
        "no_estimate": len(part) - len(done),
        "no_interval": len(done) - len(limited),
        "replications": len(part),
    }


def committed() -> pd.DataFrame:
    """The rows as written."""
    return pd.read_csv(RESULTS, dtype={"behavior": str, "target": str}).fillna({"behavior": "", "target": ""})


def main(page_only: bool = False) -> None:
    """Measure every cell and write the rows, and the page from them."""
    if not page_only:
        made_by = {key: provenance(SEED)[key] for key in ("seed", "commit")}
        tables = []
        for cell in CELLS:
            tables.append(measure(cell, cell.replications).assign(**made_by))
            print(tables[-1].to_string(index=False), flush=True)
        order = ["problem", "behavior", "target"]
        rows = pd.concat(tables, ignore_index=True)
        rows[order + [name for name in rows if name not in order]].to_csv(RESULTS, index=False, float_format="%.5g")
    PAGE.write_text(page(committed()), encoding="utf-8")


if __name__ == "__main__":
    import typer

    typer.run(main)
