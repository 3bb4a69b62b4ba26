"""Structural models and formula regressions: stacked sandwiches against numerical ones, weights, resamples, coverage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.optimize import approx_fprime
from sklearn.linear_model import LinearRegression, LogisticRegression

import causalrl as crl
from causalrl.errors import (
    DataError,
    EstimandError,
    EstimatedBehaviorWarning,
    IntervalError,
    SeparationError,
)
from simulators import Point

N = 400


def columns(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Covariates (n, 2), a binary and a continuous treatment, and an outcome."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    arm = (rng.random(n) < 1 / (1 + np.exp(-x[:, 0] + 0.5 * x[:, 1]))).astype(int)
    dose = 0.5 * x[:, 0] + rng.normal(size=n)
    return x, arm, dose, arm * (1 + x[:, 1]) + 0.7 * dose + x[:, 0] + rng.normal(size=n)


def binary(outcome: np.ndarray | None = None) -> crl.Trajectories:
    x, arm, _, y = columns()
    return crl.Trajectories.from_cross_section(x, arm, y if outcome is None else outcome, feature_names=["age", "sex"])


def continuous() -> crl.Trajectories:
    x, _, dose, y = columns()
    return crl.Trajectories.from_cross_section(x, dose[:, None], y, feature_names=["age", "sex"])


Equations = Callable[[np.ndarray], np.ndarray]
"""Maps all parameters (p,) to the estimating functions (n, p)."""


def sandwich(equations: Equations, root: np.ndarray) -> np.ndarray:
    """(p,) standard errors of stacked estimating equations, derivatives by differences; divisor n - 1 as in the package."""
    scores = equations(root)
    n = len(scores)
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-7)
    bread = np.linalg.inv(approx_fprime(root, lambda theta: equations(theta).mean(axis=0), 1e-7))
    influence = scores @ bread.T
    return np.sqrt(np.sum(influence**2, axis=0) / n / (n - 1))


def logit_equations(design: np.ndarray, arm: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    p = 1 / (1 + np.exp(-design @ theta))
    return design * (arm - p)[:, None], p


def logit_root(design: np.ndarray, arm: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    model = sm.GLM(arm, design, family=sm.families.Binomial(), freq_weights=weights)
    return np.asarray(model.fit(tol=1e-14).params)


@pytest.mark.parametrize("link", [crl.Identity(), crl.LogitLink()], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_stacked_errors_of_a_binary_treatment(link: crl.Identity | crl.LogitLink, weighted: bool) -> None:
    x, arm, _, y = columns()
    outcome = y if isinstance(link, crl.Identity) else (y > 0.5).astype(float)
    weights = np.random.default_rng(1).uniform(0.5, 2, N) if weighted else np.ones(N)
    model = crl.MSM("action * sex", crl.Logit(), numerator=crl.Logit("sex"), link=link)
    estimate = model.estimate(binary(outcome), observation_weights=weights)
    full, part = sm.add_constant(x), sm.add_constant(x[:, 1])
    design = np.column_stack([np.ones(N), arm, x[:, 1], arm * x[:, 1]])

    def equations(theta: np.ndarray) -> np.ndarray:
        first, p = logit_equations(full, arm, theta[:3])
        second, q = logit_equations(part, arm, theta[3:5])
        w = np.where(arm == 1, q / p, (1 - q) / (1 - p))
        last = design * (w * (outcome - link.mean(design @ theta[5:])))[:, None]
        return np.column_stack([first, second, last]) * weights[:, None]

    root = np.concatenate([logit_root(full, arm, weights), logit_root(part, arm, weights), estimate.value])
    np.testing.assert_allclose(estimate.stderr, sandwich(equations, root)[5:], rtol=1e-4)
    known = crl.MSM("action * sex", crl.Logit(), numerator=crl.Logit("sex"), link=link, stacked=False)
    np.testing.assert_allclose(known.estimate(binary(outcome), observation_weights=weights).value, estimate.value)


def test_stacked_errors_of_a_continuous_treatment() -> None:
    x, _, dose, y = columns()
    estimate = crl.MSM("action + I(action**2)", crl.NormalDensity(), numerator=crl.NormalDensity("sex")).estimate(continuous())
    full, part = sm.add_constant(x), sm.add_constant(x[:, 1])
    design = np.column_stack([np.ones(N), dose, dose**2])

    def normal(basis: np.ndarray, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        residual, variance, d = dose - basis @ theta[:-1], theta[-1], basis.shape[1]
        scores = np.column_stack([basis * residual[:, None], residual**2 * N / (N - d) - variance])
        return scores, -0.5 * (np.log(variance) + residual**2 / variance)

    def equations(theta: np.ndarray) -> np.ndarray:
        first, p = normal(full, theta[:4])
        second, q = normal(part, theta[4:7])
        return np.column_stack([first, second, design * (np.exp(q - p) * (y - design @ theta[7:]))[:, None]])

    fits = [sm.OLS(dose, basis).fit() for basis in (full, part)]
    root = np.concatenate([*([*fit.params, fit.scale] for fit in fits), estimate.value])
    np.testing.assert_allclose(estimate.stderr, sandwich(equations, root)[7:], rtol=1e-4)


@pytest.mark.parametrize("modifiers", [None, "sex"])
@pytest.mark.parametrize("linear", [False, True])
def test_stacked_errors_of_g_estimation(modifiers: str | None, linear: bool) -> None:
    x, arm, _, y = columns()
    weights = np.random.default_rng(1).uniform(0.5, 2, N)
    treatment = crl.NormalDensity() if linear else crl.Logit()
    estimate = crl.GEstimation(treatment, modifiers).estimate(binary(), observation_weights=weights)
    full, v = sm.add_constant(x), np.column_stack([np.ones(N), x[:, 1]])[:, : 1 if modifiers is None else 2]

    def equations(theta: np.ndarray) -> np.ndarray:
        mean = full @ theta[:3] if linear else logit_equations(full, arm, theta[:3])[1]
        blank = v * ((arm - mean) * (y - arm * (v @ theta[3:])))[:, None]
        return np.column_stack([full * (arm - mean)[:, None], blank]) * weights[:, None]

    first = sm.WLS(arm, full, weights).fit().params if linear else logit_root(full, arm, weights)
    root = np.concatenate([first, np.atleast_1d(estimate.value)])
    np.testing.assert_allclose(np.atleast_1d(estimate.stderr), sandwich(equations, root)[3:], rtol=1e-4)


MODELS = [
    crl.MSM("action + sex", crl.Logit(), numerator=crl.Logit("1")),
    crl.GEstimation(crl.Logit()),
    crl.GEstimation(crl.Logit(), "sex"),
]


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_whole_weights_are_repetitions(model: crl.MSM | crl.GEstimation) -> None:
    data = binary()
    counts = np.random.default_rng(2).integers(1, 4, N)
    repeated = data.take(np.repeat(np.arange(N), counts))
    found = model.estimate(data, observation_weights=counts).value
    np.testing.assert_allclose(found, model.estimate(repeated).value, rtol=1e-9)


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_refits_agree_with_the_sandwich(model: crl.MSM | crl.GEstimation) -> None:
    estimate = model.estimate(binary())
    np.testing.assert_allclose(estimate.evidence.refit_stderr(150, 1), estimate.stderr, rtol=0.3)


def test_a_refit_is_the_fit_of_the_resample() -> None:
    data, model = continuous(), crl.MSM("action", crl.NormalDensity(), numerator=crl.NormalDensity("1"))
    counts = np.random.default_rng(3).multinomial(N, np.full(N, 1 / N)).astype(float)
    refit = model.estimate(data).evidence.refit
    assert refit is not None
    resample = data.take(np.repeat(np.arange(N), counts.astype(int)))
    np.testing.assert_allclose(refit(counts[None])[0], model.estimate(resample).value, rtol=1e-9)


@pytest.mark.slow
def test_coverage() -> None:
    """400 replications on "Point" (n = 1,000); binomial tolerance of 4 standard errors about .95."""
    design, hits = Point(), list[tuple[bool, bool]]()
    for seed in range(400):
        study = design.sample(1000, seed)
        msm = crl.MSM("action", crl.Logit(), numerator=crl.Logit("1")).estimate(study)["action"]
        psi = crl.GEstimation(crl.Logit()).estimate(study)
        hits.append((design.ate in msm.interval(), design.ate in psi.interval()))
    assert (np.abs(np.mean(hits, axis=0) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 400)).all()


def test_a_learner_without_influence_values_is_said() -> None:
    with pytest.warns(EstimatedBehaviorWarning, match="denominator as known"):
        crl.MSM("action", LogisticRegression()).estimate(binary())
    with pytest.warns(EstimatedBehaviorWarning, match="propensity as known"):
        crl.GEstimation(LogisticRegression()).estimate(binary())


def test_bad_input_of_structural_models() -> None:
    x, arm, _, _ = columns()
    data = binary()
    with pytest.raises(DataError, match=r"cannot be read.*columns are age, sex, action"):
        crl.MSM("action * bmi", crl.Logit()).estimate(data)
    with pytest.raises(DataError, match=r"I\(2 \* age\) is a linear combination"):
        crl.MSM("action + age + I(2 * age)", crl.Logit()).estimate(data)
    with pytest.raises(DataError, match="LogitLink"):
        crl.MSM("action", crl.Logit(), link=crl.LogitLink()).estimate(data)
    with pytest.raises(SeparationError, match="outcome"):
        crl.MSM("action", crl.Logit(), link=crl.LogitLink()).estimate(binary(arm.astype(float)))
    with pytest.raises(EstimandError, match="NormalDensity"):
        crl.MSM("action", crl.Logit()).estimate(continuous())
    with pytest.raises(DataError, match="row 0 is 0"):
        crl.GEstimation().estimate(data, observation_weights=np.arange(N))
    with pytest.raises(DataError, match=r"shape \(3,\)"):
        crl.GEstimation().estimate(data, observation_weights=[1, 2, 3])
    with pytest.raises(EstimandError, match="cannot use them"):
        crl.GEstimation(LogisticRegression()).estimate(data, observation_weights=np.linspace(1, 2, N))
    with pytest.raises(DataError, match="cannot be told apart"):
        crl.GEstimation(crl.Logit(), "sex + I(2 * sex)").estimate(data)
    with pytest.raises(EstimandError, match="link"):
        crl.MSM("action", crl.Logit(), link=crl.LogitLink)  # type: ignore[arg-type]
    with pytest.raises(EstimandError, match="sequential"):
        crl.GEstimation().estimate(crl.Trajectories.from_arrays([[0.0], [1.0]], [0, 1], [0.0, 1.0], [0, 2]))
    named = crl.Trajectories.from_cross_section(x, arm, x[:, 0], feature_names=["action", "sex"])
    with pytest.raises(DataError, match="rename the covariate"):
        crl.MSM("action", crl.Logit()).estimate(named)
    rare = crl.Trajectories.from_cross_section(np.column_stack([x[:, 0], np.arange(N) == 0]), arm, x[:, 0])
    with pytest.raises(IntervalError, match="refits have no value"):
        crl.MSM("action + x1", crl.Logit("x0")).estimate(rare).interval(method=crl.RefitBootstrap(50))


# -------------------------------------------------------------------------------------------------------------- FormulaQ


def test_a_formula_is_the_regression_that_it_says() -> None:
    x, arm, _, y = columns()
    points = np.array([[0.0, 1.0], [1.0, -1.0]])
    frame = pd.DataFrame({"age": x[:, 0], "sex": x[:, 1], "action": arm, "y": y})
    ols = sm.formula.ols("y ~ action * sex + age + I(age**2)", frame).fit()
    effects = crl.GFormula(crl.FormulaQ("action * sex + age + I(age**2)")).estimate(binary(), crl.CATE(at=points))
    expected = ols.params["action"] + ols.params["action:sex"] * points[:, 1]
    np.testing.assert_allclose(effects.value, expected, rtol=1e-9)


def test_without_a_formula_it_is_a_regression_for_each_action() -> None:
    linear, per_action = crl.GFormula(crl.FormulaQ()), crl.GFormula(crl.PerAction(LinearRegression()))
    assert linear.estimate(binary(), crl.ATE()).value == pytest.approx(per_action.estimate(binary(), crl.ATE()).value, rel=1e-9)
    aipw = crl.AIPW(crl.FormulaQ(), crl.Logit(), folds=3).estimate(binary(), crl.ATE())
    theirs = crl.AIPW(crl.PerAction(LinearRegression()), crl.Logit(), folds=3).estimate(binary(), crl.ATE())
    assert aipw.value == pytest.approx(theirs.value, rel=1e-9)


def test_weights_are_inverse_propensities() -> None:
    x, arm, _, y = columns()
    full = sm.add_constant(x)
    p = 1 / (1 + np.exp(-full @ logit_root(full, arm)))
    fits = [sm.WLS(y[arm == a], full[arm == a], 1 / np.where(arm == 1, p, 1 - p)[arm == a]).fit() for a in (0, 1)]
    expected = np.mean(full @ (fits[1].params - fits[0].params))
    model = crl.FormulaQ(propensity=crl.Logit(), weighted=True)
    assert crl.GFormula(model).estimate(binary(), crl.ATE()).value == pytest.approx(expected, rel=1e-8)
    corrected = crl.AIPW(model, crl.Logit()).estimate(binary(), crl.ATE())  # its corrections vanish
    assert corrected.value == pytest.approx(expected, rel=1e-8)


def test_weighted_regression_repairs_a_wrong_outcome_model() -> None:
    """Right propensities, an outcome model without x^2 (Kang & Schafer 2007, section 2.5): weighted it is consistent."""
    rng, n = np.random.default_rng(5), 40_000
    x = rng.normal(size=n)
    arm = (rng.random(n) < 1 / (1 + np.exp(-x))).astype(int)
    data = crl.Trajectories.from_cross_section(x[:, None], arm, arm * x**2 + rng.normal(size=n))
    plain, weighted = (crl.GFormula(crl.FormulaQ(weighted=w)).estimate(data, crl.ATE()).value for w in (False, True))
    assert weighted == pytest.approx(1, abs=0.06)
    assert plain < 0.7


def test_three_arms_and_an_arm_not_seen() -> None:
    rng = np.random.default_rng(0)
    x, arm = rng.normal(size=300), rng.integers(0, 3, 300)
    data = crl.Trajectories.from_cross_section(x[:, None], arm, 2.0 * (arm == 2) + x, feature_names=["age"])
    goal = crl.ATE(treated=2, control=0)
    assert crl.GFormula(crl.FormulaQ("C(action) + age")).estimate(data, goal).value == pytest.approx(2, abs=1e-9)
    with pytest.raises(DataError, match=r"cannot be read.*columns are age, action"):
        crl.GFormula(crl.FormulaQ("action * propensity", propensity=crl.Logit())).estimate(data, goal)


def test_what_the_columns_do_not_tell_has_no_value() -> None:
    x = np.array([[0.0], [0.0], [1.0], [1.0]])
    data = crl.Trajectories.from_cross_section(x, [0, 0, 1, 1], [0.0, 1.0, 2.0, 3.0], feature_names=["age"])
    with pytest.raises(EstimandError, match="no Q for action"):
        crl.GFormula(crl.FormulaQ("action + age")).estimate(data, crl.ATE())


def test_bad_input_of_formulas() -> None:
    with pytest.raises(DataError, match=r"cannot be read.*columns are age, sex, action"):
        crl.GFormula(crl.FormulaQ("action + bmi")).estimate(binary(), crl.ATE())
    with pytest.raises(DataError, match=r"np.log\(age\) is nan"):
        crl.GFormula(crl.FormulaQ("action + np.log(age)")).estimate(binary(), crl.ATE())
    with pytest.raises(EstimandError, match="nothing uses it"):
        crl.FormulaQ(propensity=crl.Logit())
    with pytest.raises(EstimandError, match="no text"):
        crl.FormulaQ(3)  # type: ignore[arg-type]
    data = crl.Trajectories.from_arrays([[0.0], [1.0], [0.0], [1.0]], [0, 1, 1, 0], [0.0, 1.0, 1.0, 2.0], [0, 2, 4])
    with pytest.raises(EstimandError, match="one decision"):
        crl.GFormula(crl.FormulaQ("action")).estimate(data, crl.Always(1))
