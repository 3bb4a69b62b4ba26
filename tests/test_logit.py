"""The Newton logit against statsmodels, on hard designs, and where no maximum exists."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

import causalrl as crl
from causalrl.errors import CausalRLWarning, DataError, SeparationError, SeparationWarning
from causalrl.nuisances.crossfit import Nuisances


def study(x: np.ndarray, t: np.ndarray, names: list[str] | None = None) -> crl.Trajectories:
    return crl.Trajectories.from_cross_section(x, t, np.zeros(len(t)), feature_names=names)


def probabilities(data: crl.Trajectories, formula: str | None = None, weights: np.ndarray | None = None) -> np.ndarray:
    """(n, A) fitted propensities."""
    fitted = Nuisances(data, weights=weights).behavior(crl.Logit(formula), None, None)
    return fitted.fits[0].probabilities(data.observations, np.zeros(data.n, int))


def logged(data: crl.Trajectories, formula: str | None = None) -> np.ndarray:
    """(n,) fitted probability of the action taken."""
    return Nuisances(data).behavior(crl.Logit(formula), None, None).logged


def binary(n: int = 400, d: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    eta = 0.3 + x @ np.linspace(-1, 1, d)
    return x, (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)


def multinomial(n: int = 500, arms: int = 4, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    eta = x @ rng.normal(size=(2, arms)) * 0.7
    p = np.exp(eta) / np.exp(eta).sum(axis=1, keepdims=True)
    return x, np.array([rng.choice(arms, p=row) for row in p])


def statsmodels_binary(design: np.ndarray, t: np.ndarray) -> np.ndarray:
    return np.asarray(sm.Logit(t, design).fit(disp=0, tol=1e-14, maxiter=200).predict())


def test_binary() -> None:
    x, t = binary()
    expected = statsmodels_binary(sm.add_constant(x), t)
    np.testing.assert_allclose(probabilities(study(x, t))[:, 1], expected, atol=1e-9)
    np.testing.assert_allclose(logged(study(x, t)), np.where(t == 1, expected, 1 - expected), atol=1e-9)


@pytest.mark.parametrize("arms", [3, 4])
def test_multinomial(arms: int) -> None:
    x, t = multinomial(arms=arms)
    expected = sm.MNLogit(t, sm.add_constant(x)).fit(disp=0, method="newton", tol=1e-14, maxiter=200).predict()
    np.testing.assert_allclose(probabilities(study(x, t)), expected, atol=1e-8)


def test_an_arm_that_nobody_has_gets_probability_zero() -> None:
    x, t = multinomial(arms=3)
    codes = np.array([0, 1, 3])[t]
    data = crl.Trajectories.from_arrays(x, codes, np.zeros(len(t)), np.arange(len(t) + 1), n_actions=5)
    found = probabilities(data)
    np.testing.assert_allclose(found[:, [0, 1, 3]], probabilities(study(x, t)), atol=1e-10)
    assert np.all(found[:, [2, 4]] == 0)


def test_formula() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"age": rng.uniform(20, 80, 600), "sex": rng.integers(0, 2, 600), "stage": rng.integers(1, 5, 600)})
    eta = -3 + 0.05 * frame["age"] + 0.5 * frame["sex"] - 0.3 * (frame["stage"] == 3)
    frame["t"] = (rng.random(600) < 1 / (1 + np.exp(-eta))).astype(int)
    data = study(frame[["age", "sex", "stage"]].to_numpy(float), frame["t"].to_numpy(), ["age", "sex", "stage"])
    for formula in ("age + I(age**2) + C(sex) + C(stage)", "age * C(sex)", "np.log(age) + C(stage)", "1 + age"):
        expected = smf.logit(f"t ~ {formula}", frame).fit(disp=0, tol=1e-14, maxiter=200).predict()
        np.testing.assert_allclose(probabilities(data, formula)[:, 1], expected, atol=1e-8)


def test_formula_of_the_intercept_alone() -> None:
    x, t = binary()
    np.testing.assert_allclose(probabilities(study(x, t), "1")[:, 1], t.mean(), atol=1e-10)


def test_formula_without_intercept() -> None:
    """Fitted as it is written, or refused: never silently as another model."""
    x, t = binary(d=1)
    data = study(x, t, ["age"])
    expected = statsmodels_binary(x, t)
    try:
        found = probabilities(data, "age - 1")[:, 1]
    except DataError:
        return
    np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_formula_that_is_not_finite_everywhere() -> None:
    x, t = binary(d=1)
    with pytest.raises(DataError, match="formula"):
        crl.IPW(crl.Logit("np.log(age)")).estimate(study(x, t, ["age"]), crl.ATE())


def test_formula_that_cannot_be_read_names_the_columns() -> None:
    x, t = binary(d=2)
    with pytest.raises(DataError, match="age, weight"):
        crl.IPW(crl.Logit("agee")).estimate(study(x, t, ["age", "weight"]), crl.ATE())


def test_collinear_and_constant_columns_change_nothing() -> None:
    x, t = binary(d=2)
    expected = statsmodels_binary(sm.add_constant(x), t)
    wide = np.column_stack([x, x[:, 0] - 2 * x[:, 1], np.full(len(x), 7.0), x[:, 0], np.zeros(len(x))])
    np.testing.assert_allclose(probabilities(study(wide, t))[:, 1], expected, atol=1e-8)
    estimate = crl.IPW(crl.Logit()).estimate(study(wide, t), crl.ATE())
    assert np.isfinite(estimate.stderr)


def test_one_hot_states_are_saturated() -> None:
    """A logit on one-hot states is counting, in probabilities, influence and standard error."""
    rng = np.random.default_rng(3)
    s = rng.integers(0, 4, 300)
    t = (rng.random(300) < np.array([0.3, 0.5, 0.6, 0.4])[s]).astype(int)
    data = crl.Trajectories.from_cross_section(s, t, s + t * rng.normal(size=300))
    for goal in (crl.Always(1), crl.ATE()):
        counted, fitted = (crl.IPW(model).estimate(data, goal) for model in (crl.Counts(), crl.Logit()))
        assert fitted.value == pytest.approx(counted.value, abs=1e-9)
        np.testing.assert_allclose(fitted.influence, counted.influence, atol=1e-7)


@pytest.mark.parametrize("seed", range(5))
def test_kang_schafer_on_the_raw_scale(seed: int) -> None:
    """Trap F7: X4 is about 400 (sd 57), X3 about .22 (sd .045); raw and standardised columns give the same maximum."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(1000, 4))
    t = (rng.random(1000) < 1 / (1 + np.exp(z @ np.array([1.0, -0.5, 0.25, 0.1])))).astype(int)
    x = np.column_stack(
        [
            np.exp(z[:, 0] / 2),
            z[:, 1] / (1 + np.exp(z[:, 0])) + 10,
            (z[:, 0] * z[:, 2] / 25 + 0.6) ** 3,
            (z[:, 1] + z[:, 3] + 20) ** 2,
        ]
    )
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    expected = statsmodels_binary(sm.add_constant(standard), t)
    for columns in (x, standard, x * np.array([1e-6, 1e6, 1.0, 1e3])):
        np.testing.assert_allclose(probabilities(study(columns, t))[:, 1], expected, atol=1e-9)


def test_the_score_vanishes_at_the_maximum() -> None:
    for x, t in (binary(), multinomial()):
        p = probabilities(study(x, t))
        indicator = np.eye(p.shape[1])[t]
        score = sm.add_constant(x).T @ (indicator - p)
        assert np.abs(score).max() < 1e-8 * len(t)


def test_weights_are_repeated_rows() -> None:
    for x, t in (binary(n=150), multinomial(n=200)):
        weights = np.random.default_rng(4).integers(0, 4, len(t)).astype(float)
        rows = np.repeat(np.arange(len(t)), weights.astype(int))
        data = study(x, t)
        repeated = Nuisances(study(x[rows], t[rows])).behavior(crl.Logit(), None, None).fits[0]
        expected = repeated.probabilities(x, np.zeros(len(t), int))
        np.testing.assert_allclose(probabilities(data, weights=weights), expected, atol=1e-9)


def separated(kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(200, 2))
    if kind == "complete":
        return x, (x[:, 1] > 0).astype(int)
    t = (rng.random(200) < 0.5).astype(int)
    if kind == "quasi":  # a level of a factor in which everyone is treated
        x[:, 1] = rng.random(200) < 0.2
        t[x[:, 1] == 1] = 1
        return x, t
    arms = np.where(x[:, 1] > 0.5, 2, t)  # one arm of three
    return x, arms


@pytest.mark.parametrize("kind", ["complete", "quasi", "one arm of three"])
def test_separation_is_an_error_that_names_the_column(kind: str) -> None:
    x, t = separated(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CausalRLWarning)
        with pytest.raises(SeparationError, match="severity"):
            crl.IPW(crl.Logit()).estimate(study(x, t, ["age", "severity"]), crl.ATE())


@pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning")
def test_near_separation_is_a_warning() -> None:
    """The maximum exists, far out: two patients overlap."""
    x = np.concatenate([np.linspace(-3, -0.02, 100), np.linspace(0.02, 3, 100), [0.05, -0.05]])
    t = np.concatenate([np.zeros(100), np.ones(100), [0, 1]]).astype(int)
    expected = statsmodels_binary(sm.add_constant(x), t)
    assert expected.min() < 1e-8
    with pytest.warns(SeparationWarning, match="age"):
        estimate = crl.IPW(crl.Logit()).estimate(study(x[:, None], t, ["age"]), crl.ATE())
    assert any("SeparationWarning" in text for text in estimate.diagnostics["warnings"])


def test_one_arm_has_no_logit() -> None:
    x, _ = binary(n=20)
    data = crl.Trajectories.from_arrays(x, np.zeros(20, int), np.zeros(20), np.arange(21), n_actions=2)
    with pytest.raises(DataError, match="needs two"):
        crl.IPW(crl.Logit()).estimate(data, crl.Always(0))


def test_new_points_go_through_the_training_transform() -> None:
    """A policy defined by the fitted behaviour is asked at observations that were not logged."""
    x, t = binary(n=300, d=2)
    data = study(x, t, ["age", "weight"])
    fit: Any = Nuisances(data).behavior(crl.Logit("age + I(age**2) + weight"), None, None).fits[0]
    frame = pd.DataFrame(x, columns=["age", "weight"]).assign(t=t)
    model = smf.logit("t ~ age + I(age**2) + weight", frame).fit(disp=0, tol=1e-14, maxiter=200)
    new = np.array([[0.3, -2.0], [5.0, 1.0]])
    expected = model.predict(pd.DataFrame(new, columns=["age", "weight"]))
    np.testing.assert_allclose(fit.probabilities(new, np.zeros(2, int))[:, 1], expected, atol=1e-9)


def test_a_fold_that_diverges_is_separated() -> None:
    """In one fold no trajectory has state 1, whose column is 0 but for rounding: the solve met infinite entries."""
    states = [3, 2, 0, 3, 2, 1, 2, 0, 1, 2, 0, 0, 3, 2, 0, 1, 1, 1, 3, 0, 1, 3, 0]
    actions = [1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 0]
    data = crl.Trajectories.from_arrays(states, actions, np.zeros(23), range(24))
    with pytest.raises(SeparationError, match="has no maximum"):
        crl.WIS(behavior=crl.Logit(), folds=2).estimate(data, crl.Uniform(2))


def test_a_level_rarer_than_a_fold_is_refused() -> None:
    """A dummy of one cluster lies whole in one fold: the others cannot tell its coefficient."""
    rng = np.random.default_rng(0)
    x, rare = rng.normal(size=300), np.arange(300) < 6
    a = (rng.random(300) < 0.5).astype(int)
    study = crl.Trajectories.from_cross_section(
        np.column_stack([x, rare]), a, x + a, clusters=np.where(rare, 0, np.arange(300)), feature_names=["x", "rare"]
    )
    for estimator in (crl.IPW(crl.Logit(), folds=5), crl.AIPW(crl.LinearQ(), crl.Logit(), folds=5)):
        with pytest.raises(crl.errors.SupportError, match=r"240 of 300|do not show the effect of rare.*folds=1"):
            estimator.estimate(study, crl.ATE())
    assert np.isfinite(crl.IPW(crl.Logit()).estimate(study, crl.ATE()).stderr)
