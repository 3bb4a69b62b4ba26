"""Published numbers: Kang & Schafer (2007), and the Point design of the traps; those of NHEFS are in test_nhefs.

Values and tolerances: reference/papers.md, section 1; reference/traps.md, F1, F2 and F8.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from statsmodels.api import Logit, add_constant

import causalrl as crl
from causalrl.errors import CausalRLWarning
from causalrl.estimators.base import FittedEstimator
from causalrl.nuisances.crossfit import Nuisances

# ------------------------------------------------------------------------------------------------------ Point (F1 and F2)


def point_design() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 10))
    t = rng.binomial(1, 1 / (1 + np.exp(-x[:, 0])))
    return x, t, t * (1 + x[:, 1]) + x[:, 0] + rng.normal(size=2000)


def both_forms(study: crl.Trajectories, propensity: Any = None) -> list[float]:
    """Horvitz-Thompson, Hajek."""
    return [crl.IPW(propensity, normalized=flag).estimate(study, crl.ATE()).value for flag in (False, True)]


def test_point_design() -> None:
    """Trap F1: two estimators; adding 100 to Y moves Horvitz-Thompson only.

    The trap's .9585 and .9418 rest on scikit-learn's lbfgs at its default tolerance; the maximum itself gives .9588 and .9421.
    """
    x, t, y = point_design()
    lbfgs = LogisticRegression(C=np.inf).fit(x, t).predict_proba(x)[:, 1]
    for shift, expected in ((0.0, [0.9585, 0.9418]), (100.0, [2.2197, 0.9418])):
        study = crl.Trajectories.from_cross_section(x, t, y + shift, propensity=lbfgs)
        assert both_forms(study) == pytest.approx(expected, abs=5e-5)
    maximum = Logit(t, add_constant(x)).fit(disp=0, tol=1e-12).predict()
    known = both_forms(crl.Trajectories.from_cross_section(x, t, y, propensity=maximum))
    learned = both_forms(crl.Trajectories.from_cross_section(x, t, y))
    assert learned == pytest.approx(known, abs=1e-9)
    assert learned == pytest.approx([0.958788, 0.942071], abs=1e-6)


def test_point_design_with_penalty_and_clipping() -> None:
    """Trap F2: asked for, not by default: the L2 penalty and clipping at .05 move the estimate."""
    x, t, y = point_design()
    penalised = LogisticRegression().fit(x, t).predict_proba(x)[:, 1]
    cells = {
        "penalty": (penalised, [0.9620, 0.9463]),
        "penalty and clip": (np.clip(penalised, 0.05, 0.95), [0.9762, 0.960362468]),
    }
    for p, expected in cells.values():
        found = both_forms(crl.Trajectories.from_cross_section(x, t, y, propensity=p))
        assert found == pytest.approx(expected, abs=6e-5)
    assert not np.allclose(both_forms(crl.Trajectories.from_cross_section(x, t, y)), cells["penalty"][1], atol=1e-3)


# --------------------------------------------------------------------------------------------------------- Kang & Schafer

NAMES = ("z1", "z2", "z3", "z4", "x1", "x2", "x3", "x4")
PROPENSITY = {"right": crl.Logit("z1 + z2 + z3 + z4"), "wrong": crl.Logit("x1 + x2 + x3 + x4")}


def right(observations: np.ndarray) -> np.ndarray:
    return observations[:, :4]


def wrong(observations: np.ndarray) -> np.ndarray:
    return observations[:, 4:]


OUTCOME = {"right": crl.LinearQ(right), "wrong": crl.LinearQ(wrong)}


def kang_schafer(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Observations [Z, X], response R, Y, and the true propensity."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 4))
    y = 210 + 27.4 * z[:, 0] + 13.7 * z[:, 1:].sum(axis=1) + rng.normal(size=n)
    p = 1 / (1 + np.exp(z[:, 0] - 0.5 * z[:, 1] + 0.25 * z[:, 2] + 0.1 * z[:, 3]))
    r = (rng.random(n) < p).astype(int)
    x = np.column_stack(
        [
            np.exp(z[:, 0] / 2),
            z[:, 1] / (1 + np.exp(z[:, 0])) + 10,
            (z[:, 0] * z[:, 2] / 25 + 0.6) ** 3,
            (z[:, 1] + z[:, 3] + 20) ** 2,
        ]
    )
    return np.hstack([z, x]), r, y, p


def as_study(n: int, seed: int) -> crl.Trajectories:
    """The mean of Y if everyone were observed is the value of Always(1): treatment R, outcome 0 where Y is missing."""
    observed, r, y, _ = kang_schafer(n, seed)
    return crl.Trajectories.from_cross_section(observed, r, np.where(r == 1, y, 0.0), feature_names=NAMES)


CELLS: dict[str, crl.Estimator] = {
    "OLS, y right": crl.GFormula(OUTCOME["right"]),
    "OLS, y wrong": crl.GFormula(OUTCOME["wrong"]),
    "IPW-POP, pi right": crl.IPW(PROPENSITY["right"]),
    "IPW-POP, pi wrong": crl.IPW(PROPENSITY["wrong"]),
    "HT, pi right": crl.IPW(PROPENSITY["right"], normalized=False),
    "HT, pi wrong": crl.IPW(PROPENSITY["wrong"], normalized=False),
    "AIPW, both right": crl.AIPW(OUTCOME["right"], PROPENSITY["right"]),
    "AIPW, pi right, y wrong": crl.AIPW(OUTCOME["wrong"], PROPENSITY["right"]),
    "AIPW, pi wrong, y right": crl.AIPW(OUTCOME["right"], PROPENSITY["wrong"]),
    "AIPW, both wrong": crl.AIPW(OUTCOME["wrong"], PROPENSITY["wrong"]),
}
LABELS = ("bias", "rmse", "mae")
# Bias, RMSE and median |error| at n = 1,000 of the run of 5,000; the band of the bias, None for a heavy tail.
PUBLISHED: dict[str, tuple[float, float, float, float | None]] = {
    "OLS, y right": (0.02, 1.17, 0.78, 0.15),
    "OLS, y wrong": (-0.78, 1.70, 1.21, 0.15),
    "IPW-POP, pi right": (-0.04, 1.77, 1.13, 0.15),
    "IPW-POP, pi wrong": (4.59, 11.07, 2.51, None),
    "HT, pi right": (-0.10, 4.88, 3.01, 0.4),
    "HT, pi wrong": (85.6, 3619, 13.67, None),
    "AIPW, both right": (0.02, 1.17, 0.78, 0.15),
    "AIPW, pi right, y wrong": (0.11, 1.70, 1.05, 0.15),
    "AIPW, pi wrong, y right": (0.04, 1.95, 0.80, None),
    "AIPW, both wrong": (-35.9, 1671, 5.07, None),
}


def test_kang_schafer_generator() -> None:
    """Trap F8: closed-form moments of the design, 4 Monte-Carlo errors each."""
    observed, r, y, p = kang_schafer(200_000, seed=3)
    root = math.sqrt(200_000)
    assert r.mean() == pytest.approx(0.5, abs=4 * 0.5 / root)
    assert y[r == 1].mean() == pytest.approx(200, abs=4 * 37 / root * math.sqrt(2))
    assert y[r == 0].mean() == pytest.approx(220, abs=4 * 37 / root * math.sqrt(2))
    assert observed[:, 4].mean() == pytest.approx(math.exp(1 / 8), abs=4 * 0.6039 / root)
    deviation = np.abs(observed[:, 4:].mean(axis=0) - [1.1331, 10.000, 0.219, 402.0])
    assert np.all(deviation < 4 * np.array([0.604, 0.542, 0.045, 56.6]) / root + 5e-4)
    assert observed[:, 4:].std(axis=0) == pytest.approx([0.604, 0.542, 0.045, 56.6], rel=1e-2)
    assert 0 < p.min() < 0.02


def test_missing_outcomes_as_a_treatment() -> None:
    """Value of Always(1) with treatment R is the estimator of the mean that papers write, by plain NumPy."""
    study = as_study(300, seed=5)
    observed, r, y, _ = kang_schafer(300, seed=5)
    design = np.column_stack([np.ones(300), right(observed)])
    theta = np.linalg.lstsq(design[r == 1], y[r == 1], rcond=None)[0]
    alpha = np.zeros(5)
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ alpha))
        alpha += np.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]), design.T @ (r - p))
    m, w = design @ theta, r / (1 / (1 + np.exp(-design @ alpha)))
    expected = {
        "OLS, y right": m.mean(),
        "HT, pi right": (w * y).mean(),
        "IPW-POP, pi right": (w * y).sum() / w.sum(),
        "AIPW, both right": m.mean() + (w * (y - m)).mean(),
    }
    for name, value in expected.items():
        assert CELLS[name].estimate(study, crl.Always(1)).value == pytest.approx(value, rel=1e-9)


@pytest.mark.slow
def test_kang_schafer_table() -> None:
    """1,000 replications at n = 1,000 within the stated bands, or 4 Monte-Carlo standard errors where those are wider."""
    errors: dict[str, list[float]] = {name: [] for name in CELLS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CausalRLWarning)
        for seed in range(1000):
            shared = Nuisances(as_study(1000, seed))
            for name, estimator in CELLS.items():
                errors[name].append(FittedEstimator(estimator, shared).estimate(crl.Always(1)).value - 210)
    found = {name: _cell(np.array(values)) for name, values in errors.items()}
    for name, cell in found.items():
        print(f"{name:26s}", *(f"{label} {x:.3f} ({se:.3f})" for label, (x, se) in zip(LABELS, cell, strict=True)))
    for name, (bias, rmse, median) in found.items():
        b, r, m, band = PUBLISHED[name]
        if band is not None:
            assert abs(bias[0] - b) <= max(band, 4 * bias[1]), name
            assert abs(rmse[0] - r) <= max(0.1 * r, 4 * rmse[1]), name
        assert abs(median[0] - m) <= max(0.15 * m, 4 * median[1]), name
    rmse_of = {name: rmse[0] for name, (_, rmse, _) in found.items()}
    assert rmse_of["AIPW, both wrong"] > 25
    assert rmse_of["OLS, y wrong"] < rmse_of["IPW-POP, pi wrong"] < rmse_of["AIPW, both wrong"]
    assert abs(found["AIPW, pi right, y wrong"][0][0]) < 0.3
    assert found["AIPW, both wrong"][2][0] > 2 * found["OLS, y wrong"][2][0]


def _cell(error: np.ndarray) -> Any:
    """(value, Monte-Carlo standard error) of bias, RMSE and median absolute error."""
    n = len(error)
    rmse = math.sqrt(np.mean(error**2))
    draws = np.random.default_rng(0).integers(0, n, (400, n))
    return (
        (float(error.mean()), float(error.std(ddof=1) / math.sqrt(n))),
        (rmse, float((error**2).std(ddof=1) / math.sqrt(n) / (2 * rmse))),
        (float(np.median(np.abs(error))), float(np.median(np.abs(error)[draws], axis=1).std(ddof=1))),
    )
