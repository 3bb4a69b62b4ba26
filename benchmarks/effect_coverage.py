"""Coverage of the default 95% interval of average effects on `Point`, n = 2,000: `python -m benchmarks.effect_coverage`.

2,000 samples, about ten minutes on two quiet cores. The effect 1 + x2 does not depend on x1, on which treatment depends, so that
ATE, ATT and ATO are all 1, and a partially linear model has that coefficient. The risk ratio is of the outcome Y > 0: Y(1) is
N(1, 3) and Y(0) is N(0, 2), so that it is Phi(1 / sqrt(3)) / (1/2). The T-learner's regressions are least squares (`LinearQ`),
whose refits are compiled.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed, parallel_config
from scipy.special import ndtr
from sklearn.linear_model import LinearRegression

import causalrl as crl
from benchmarks.provenance import provenance
from causalrl.kernels.rng import derive_seed
from simulators import Point

N, REPLICATIONS, SEED, LEVEL = 2000, 2000, 0, 0.95
BAND = (0.925, 0.975)
RESULTS = Path(__file__).parent / "results" / "effect_coverage.csv"
RISK_RATIO = float(ndtr(1 / np.sqrt(3)) / 0.5)
LOGIT, LINEAR = crl.Logit(), crl.LinearQ()
AIPW, HAJEK = crl.AIPW(LINEAR, LOGIT), crl.IPW(LOGIT)
EFFECTS: Mapping[str, tuple[crl.Estimator, crl.ATE | crl.ATT | crl.ATO]] = {
    "AIPW": (AIPW, crl.ATE()),
    "AIPW, 5 folds": (crl.AIPW(LINEAR, LOGIT, folds=5), crl.ATE()),
    "TMLE": (crl.TMLE(q=LINEAR, behavior=LOGIT), crl.ATE()),
    "IPW, Hajek": (HAJEK, crl.ATE()),
    "IPW, Horvitz-Thompson": (crl.IPW(LOGIT, normalized=False), crl.ATE()),
    "Entropy balancing": (crl.IPW(weights=crl.EntropyBalancing()), crl.ATE()),
    "CBPS": (crl.IPW(weights=crl.CBPS()), crl.ATE()),
    "ATT, IPW": (HAJEK, crl.ATT()),
    "ATT, entropy balancing": (crl.IPW(weights=crl.EntropyBalancing()), crl.ATT()),
    "ATT, AIPW": (AIPW, crl.ATT()),
    "ATO, IPW": (HAJEK, crl.ATO()),
    "ATO, AIPW": (AIPW, crl.ATO()),
    "PLR": (crl.PLR(LinearRegression(), LOGIT), crl.ATE()),
}
RATIOS: Mapping[str, crl.Estimator] = {"Risk ratio, AIPW": AIPW, "Risk ratio, IPW": HAJEK}
REFITS: Mapping[str, crl.Estimator] = {"T-learner, refit bootstrap": crl.GFormula(LINEAR)}
NAMES = (*EFFECTS, *RATIOS, *REFITS)


def replication(r: int, names: Sequence[str] = NAMES, seed: int = SEED) -> dict[str, tuple[float, float, float]]:
    """Value and limits less the truth, of every named estimate on sample r."""
    study = Point().sample(N, seed=derive_seed(seed, "point", r))
    above = crl.Trajectories.from_cross_section(study.observations, study.actions, (study.rewards > 0).astype(np.float64))
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crl.errors.CausalRLWarning)
        for name in names:
            truth, method = 1.0, None
            if name in EFFECTS:
                recipe, goal = EFFECTS[name]
                estimate = recipe.estimate(study, goal)
            elif name in RATIOS:
                fitted, truth = RATIOS[name].fit(above), RISK_RATIO
                estimate = fitted.estimate(crl.Always(1)) / fitted.estimate(crl.Always(0))
            else:
                estimate, method = REFITS[name].estimate(study, crl.ATE()), crl.RefitBootstrap(200)
            low, high = estimate.interval(LEVEL, method=method)
            found[name] = (float(estimate.value) - truth, float(low) - truth, float(high) - truth)
    return found


def coverage(replications: int, names: Sequence[str] = NAMES, seed: int = SEED, n_jobs: int = 1) -> pd.DataFrame:
    """One row an estimate: coverage, width, bias and root mean squared error."""
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        found = Parallel(batch_size=10)(delayed(replication)(r, names, seed) for r in range(replications))
    return pd.DataFrame(score(name, np.array([own[name] for own in found])) for name in names)


def score(name: str, rows: np.ndarray) -> dict[str, float | str | int]:
    """Of (B, 3) errors of value and limits."""
    error, low, high = rows.T
    covered = float(np.mean((low <= 0) & (high >= 0)))
    return {
        "estimate": name,
        "coverage": covered,
        "coverage_mcse": float(np.sqrt(covered * (1 - covered) / len(rows))),
        "width": float((high - low).mean()),
        "bias": float(error.mean()),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "replications": len(rows),
    }


def main() -> None:
    """Measure and write the rows."""
    made_by = {key: provenance(SEED)[key] for key in ("seed", "commit")}
    found = coverage(REPLICATIONS, n_jobs=2).assign(**made_by)
    found.to_csv(RESULTS, index=False, float_format="%.5g")
    print(found.to_string(index=False))


if __name__ == "__main__":
    main()
