"""NHEFS: every published number of Hernan & Robins, *What If*, chapters 12 to 16, through public calls.

Values and tolerances: reference/papers.md, section 5 (output of the book's R and Stata code).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from sklearn.linear_model import LinearRegression

import causalrl as crl
from causalrl.datasets import NHEFS_COVARIATES, nhefs_table

pytest.importorskip("causaldata")

N = 1566
FACTORS = ("sex", "race", "education", "exercise", "active")
AMOUNTS = ("age", "smokeintensity", "smokeyrs", "wt71")
FORMULA = " + ".join([f"C({name})" for name in FACTORS] + [f"{name} + I({name}**2)" for name in AMOUNTS])
PROPENSITY = crl.Logit(FORMULA)
ADDITIVE = crl.FormulaQ(f"action + {FORMULA}")
PRODUCT = crl.FormulaQ(f"action * smokeintensity + {FORMULA}")
HC0 = math.sqrt((N - 1) / N)
"""Our cluster error divides by n - 1; HC0 and the GEE sandwich divide by n."""
NORMAL = 1.959964


@pytest.fixture(scope="module")
def nhefs() -> crl.Trajectories:
    return crl.datasets.nhefs()


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """The 1,566 rows of `nhefs`, all columns."""
    everyone = nhefs_table()
    return everyone[everyone["wt82_71"].notna()].reset_index(drop=True)


@pytest.fixture(scope="module")
def propensity(nhefs: crl.Trajectories) -> np.ndarray:
    """(n,) fitted P(quit | L)."""
    weights = crl.MSM("action", PROPENSITY).weights(nhefs)
    return np.where(nhefs.actions == 1, 1 / weights, 1 - 1 / weights)


@pytest.fixture(scope="module")
def frozen(nhefs: crl.Trajectories, propensity: np.ndarray) -> crl.Trajectories:
    """The study with its fitted propensities as if they were known."""
    return crl.Trajectories.from_cross_section(
        nhefs.observations, nhefs.actions, nhefs.rewards, propensity=propensity, feature_names=nhefs.feature_names
    )


def with_outcome(table: pd.DataFrame, outcome: str, action: Any = None) -> crl.Trajectories:
    treatment = table["qsmk"].astype(int) if action is None else action
    return crl.Trajectories.from_cross_section(table[list(NHEFS_COVARIATES)], treatment, table[outcome])


# ------------------------------------------------------------------------------------------------------------ chapter 12


@pytest.mark.filterwarnings("ignore:the weights average:causalrl.errors.OverlapWarning")
def test_crude_difference(nhefs: crl.Trajectories, table: pd.DataFrame) -> None:
    assert (nhefs.n, int(nhefs.actions.sum())) == (N, 403)
    ignorant = crl.IPW(crl.KnownPropensity(crl.Uniform(2)))
    assert ignorant.estimate(nhefs, crl.Always(1)).value == pytest.approx(4.525079, abs=1e-5)
    assert ignorant.estimate(nhefs, crl.Always(0)).value == pytest.approx(1.984498, abs=1e-5)
    assert ignorant.estimate(nhefs, crl.ATE()).value == pytest.approx(2.540581, abs=1e-5)
    classical = smf.ols("wt82_71 ~ qsmk", table).fit()
    assert list(classical.conf_int().loc["qsmk"]) == pytest.approx([1.656, 3.425], abs=1e-3)


def test_propensities_and_weights(nhefs: crl.Trajectories, propensity: np.ndarray) -> None:
    assert [propensity.min(), propensity.max(), propensity.mean()] == pytest.approx([0.0510008, 0.7768887, 0.2573436], abs=1e-5)
    treated = nhefs.actions == 1
    assert [propensity[~treated].mean(), propensity[treated].mean()] == pytest.approx([0.2392928, 0.3094353], abs=1e-5)
    weights = crl.MSM("action", PROPENSITY).weights(nhefs)
    assert [weights.min(), weights.max()] == pytest.approx([1.053742, 16.700094], abs=1e-4)
    assert [weights.mean(), weights.std(ddof=1)] == pytest.approx([1.996, 1.4748], abs=1e-3)
    model = crl.MSM("action", PROPENSITY, numerator=crl.Logit("1"))
    stabilised = model.weights(nhefs)
    assert [stabilised.min(), stabilised.max(), stabilised.mean()] == pytest.approx([0.331249, 4.297662, 0.998844], abs=1e-5)
    diagnostics = model.estimate(nhefs).diagnostics
    assert diagnostics["ess"] == pytest.approx(1445.70, abs=0.05)
    assert (diagnostics["max_weight"], diagnostics["mean_weight"]) == pytest.approx((4.297662, 0.998844), abs=1e-5)


PUBLISHED_LOGIT = {
    **{"Intercept": -2.2425191, "C(sex)[T.1.0]": -0.5274782, "C(race)[T.1.0]": -0.8392636, "age": 0.1212052},
    **{"I(age ** 2)": -0.0008246, "C(education)[T.2.0]": -0.0287755, "C(education)[T.3.0]": 0.0864318},
    **{"C(education)[T.4.0]": 0.0636010, "C(education)[T.5.0]": 0.4759606, "smokeintensity": -0.0772704},
    **{"I(smokeintensity ** 2)": 0.0010451, "smokeyrs": -0.0735966, "I(smokeyrs ** 2)": 0.0008441},
    **{"C(exercise)[T.1.0]": 0.3548405, "C(exercise)[T.2.0]": 0.3957040, "C(active)[T.1.0]": 0.0319445},
    **{"C(active)[T.2.0]": 0.1767840, "wt71": -0.0152357, "I(wt71 ** 2)": 0.0001352},
}


def test_coefficients_of_the_propensity(nhefs: crl.Trajectories, propensity: np.ndarray) -> None:
    """A logistic model of quitting itself, weights 1, is the propensity model of the book; deviance 1676.9."""
    quitting = crl.Trajectories.from_cross_section(
        nhefs.observations, nhefs.actions, nhefs.actions.astype(float), feature_names=nhefs.feature_names
    )
    ignorant = crl.KnownPropensity(crl.Uniform(2))
    fitted = crl.MSM(FORMULA, ignorant, link=crl.LogitLink()).estimate(quitting)
    found = dict(zip(fitted.labels or (), np.asarray(fitted.value), strict=True))
    assert found == pytest.approx(PUBLISHED_LOGIT, abs=1e-6)
    logged = np.where(nhefs.actions == 1, propensity, 1 - propensity)
    assert -2 * np.log(logged).sum() == pytest.approx(1676.9, abs=0.05)


def test_weighting(nhefs: crl.Trajectories) -> None:
    hajek = crl.IPW(propensity=PROPENSITY)
    assert hajek.estimate(nhefs, crl.ATE()).value == pytest.approx(3.440535, abs=1e-5)
    assert hajek.estimate(nhefs, crl.Always(0)).value == pytest.approx(1.7800, abs=1e-4)
    thompson = crl.IPW(propensity=PROPENSITY, normalized=False).estimate(nhefs, crl.ATE())
    assert thompson.value == pytest.approx(3.4240123, abs=1e-5)
    for numerator in (None, crl.Logit("1")):
        estimate = crl.MSM("action", PROPENSITY, numerator=numerator).estimate(nhefs)
        np.testing.assert_allclose(estimate.value, [1.7800, 3.440535], atol=1e-4)
        assert estimate["action"].value == pytest.approx(3.440535, abs=1e-5)


def test_standard_errors_of_weighting(nhefs: crl.Trajectories, frozen: crl.Trajectories) -> None:
    """Propensities taken as known: GEE .525494 divides by n, ours by n - 1, geepack's .525829 by n - 2. Stacked: .4872."""
    robust = crl.MSM("action", PROPENSITY, numerator=crl.Logit("1"), stacked=False).estimate(nhefs)["action"]
    for estimate in (robust, crl.IPW().estimate(frozen, crl.ATE())):
        error = estimate.stderr * HC0
        assert error == pytest.approx(0.525494, abs=1e-4)
        assert error * math.sqrt(N / (N - 2)) == pytest.approx(0.525829, abs=1e-4)
        assert estimate.value - NORMAL * error == pytest.approx(2.4106, abs=1e-4)
        assert estimate.value + NORMAL * error == pytest.approx(4.4705, abs=1e-4)
    stacked = crl.MSM("action", PROPENSITY, numerator=crl.Logit("1")).estimate(nhefs)["action"]
    assert stacked.stderr == pytest.approx(crl.IPW(propensity=PROPENSITY).estimate(nhefs, crl.ATE()).stderr, rel=1e-6)
    assert stacked.stderr == pytest.approx(0.4872, abs=1e-4)  # knowing less of the propensities costs nothing: it gains


def test_a_continuous_treatment(table: pd.DataFrame) -> None:
    light = table[table["smokeintensity"] <= 25]
    study = with_outcome(light, "wt82_71", light[["smkintensity82_71"]].to_numpy(float))
    assert study.n == 1162
    formula, dose = "action + I(action**2)", crl.NormalDensity(FORMULA)
    model = crl.MSM(formula, dose, numerator=crl.NormalDensity("1"), stacked=False)
    weights = model.weights(study)
    assert [weights.min(), weights.max(), weights.mean()] == pytest.approx([0.194, 5.102, 0.997], abs=1e-3)
    estimate = model.estimate(study)
    np.testing.assert_allclose(estimate.value, [2.00452, -0.10899, 0.00269], atol=1e-4)
    np.testing.assert_allclose(np.asarray(estimate.stderr) * math.sqrt(1161 / 1162), [0.29512, 0.03154, 0.00242], atol=1e-4)


def test_a_logistic_model_of_death(table: pd.DataFrame) -> None:
    study = with_outcome(table, "death")
    model = crl.MSM("action", PROPENSITY, numerator=crl.Logit("1"), link=crl.LogitLink(), stacked=False)
    log_odds = model.estimate(study)["action"]
    error = log_odds.stderr * HC0
    assert (log_odds.value, error) == pytest.approx((0.0301, 0.1573), abs=1e-3)
    assert log_odds.exp().value == pytest.approx(1.0306, abs=1e-3)
    limits = [math.exp(log_odds.value + sign * NORMAL * error) for sign in (-1, 1)]
    assert limits == pytest.approx([0.757, 1.403], abs=1e-3)


def test_effect_modification_by_sex(nhefs: crl.Trajectories) -> None:
    model = crl.MSM("action * sex", PROPENSITY, numerator=crl.Logit("sex"))
    weights = model.weights(nhefs)
    assert [weights.min(), weights.max()] == pytest.approx([0.293, 3.801], abs=1e-3)
    estimate = model.estimate(nhefs)
    found = [estimate[name].value for name in ("action", "sex", "action:sex")]
    assert found == pytest.approx([3.52198, -0.00872, -0.15948], abs=1e-3)


def test_selection_bias(table: pd.DataFrame) -> None:
    """Recipe of 12.6: censoring and treatment models on all 1,629 rows; against statsmodels."""
    everyone = nhefs_table()
    seen = everyone["wt82_71"].notna().to_numpy()
    covariates = list(NHEFS_COVARIATES)
    treated = crl.Trajectories.from_cross_section(everyone[covariates], everyone["qsmk"].astype(int), np.zeros(len(seen)))
    censored = crl.Trajectories.from_cross_section(everyone[[*covariates, "qsmk"]], (~seen).astype(int), np.zeros(len(seen)))
    of_treatment = crl.MSM("action", PROPENSITY, numerator=crl.Logit("1")).weights(treated)
    of_censoring = crl.MSM("action", crl.Logit(f"qsmk + {FORMULA}"), numerator=crl.Logit("qsmk")).weights(censored)
    weights = (of_treatment * of_censoring)[seen]
    design, rows = crl.KnownPropensity(crl.Uniform(2)), with_outcome(table, "wt82_71")
    estimate = crl.MSM("action", design).estimate(rows, observation_weights=weights)

    def predicted(formula: str) -> np.ndarray:
        return np.asarray(smf.logit(formula, everyone.assign(lost=(~seen).astype(int))).fit(disp=0, tol=1e-12).predict())

    quit_, p, p1 = everyone["qsmk"].to_numpy(), predicted(f"qsmk ~ {FORMULA}"), predicted("qsmk ~ 1")
    kept, kept_by_arm = 1 - predicted(f"lost ~ qsmk + {FORMULA}"), 1 - predicted("lost ~ qsmk")
    theirs = np.where(quit_ == 1, p1 / p, (1 - p1) / (1 - p)) * kept_by_arm / kept
    np.testing.assert_allclose(weights, theirs[seen], rtol=1e-6)
    weighted = sm.WLS(table["wt82_71"], sm.add_constant(table["qsmk"]), weights=theirs[seen]).fit()
    np.testing.assert_allclose(estimate.value, weighted.params, rtol=1e-6)
    assert 3.3 < estimate["action"].value < 3.7


# ------------------------------------------------------------------------------------------------------------ chapter 13


def test_standardisation(nhefs: crl.Trajectories) -> None:
    with_product = crl.GFormula(PRODUCT)
    assert with_product.estimate(nhefs, crl.Always(1)).value == pytest.approx(5.2735873, abs=1e-6)
    assert with_product.estimate(nhefs, crl.Always(0)).value == pytest.approx(1.7562131, abs=1e-6)
    assert with_product.estimate(nhefs, crl.ATE()).value == pytest.approx(3.5173742, abs=1e-6)
    assert crl.GFormula(ADDITIVE).estimate(nhefs, crl.ATE()).value == pytest.approx(3.4626218, abs=1e-6)


def test_residual_variance_of_the_outcome_model(nhefs: crl.Trajectories) -> None:
    steps_residual = crl.GFormula(PRODUCT).estimate(nhefs, crl.Always(1)).diagnostics["bellman_residual"]
    assert steps_residual**2 * N / (N - 21) == pytest.approx(53.5683, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "published", "value"), [(PRODUCT, 0.483, 3.5173742), (ADDITIVE, 0.471, 3.4626218)])
def test_bootstrap_of_standardisation(nhefs: crl.Trajectories, model: crl.FormulaQ, published: float, value: float) -> None:
    """Published standard errors of 2,000 draws, to .04; ours of 300, itself known to published / sqrt(600)."""
    estimate = crl.GFormula(model).estimate(nhefs, crl.ATE())
    assert estimate.evidence.refit_stderr(300, 1) == pytest.approx(published, abs=0.04)
    assert value in estimate.interval(method=crl.RefitBootstrap(300, seed=1))


def test_augmented_weighting(nhefs: crl.Trajectories, frozen: crl.Trajectories) -> None:
    for data, model in ((frozen, None), (nhefs, PROPENSITY)):
        aipw = crl.AIPW(PRODUCT, propensity=model).estimate(data, crl.ATE())
        assert aipw.value == pytest.approx(3.4572843, abs=1e-5)
        assert aipw.stderr == pytest.approx(0.488807, abs=1e-5 if data is frozen else 0.02)


# ------------------------------------------------------------------------------------------------------------ chapter 14


def censoring_weights() -> np.ndarray:
    """(1566,) 1 / P(observed | A, L), learned from all 1,629 rows."""
    everyone = nhefs_table()
    seen = everyone["wt82_71"].notna().to_numpy()
    columns = everyone[[*NHEFS_COVARIATES, "qsmk"]]
    observed = crl.Trajectories.from_cross_section(columns, seen.astype(int), np.zeros(len(seen)))
    return crl.MSM("action", crl.Logit(f"qsmk + {FORMULA}")).weights(observed)[seen]


def test_g_estimation_with_censoring_weights(nhefs: crl.Trajectories, table: pd.DataFrame) -> None:
    """The book inverts a robust test in steps of .1, "about 2.5 to 4.5": it ends at 2.53 and 4.41, and Wald at 2.52 and 4.37."""
    weights = censoring_weights()
    estimate = crl.GEstimation(PROPENSITY).estimate(nhefs, observation_weights=weights)
    assert estimate.value == pytest.approx(3.4458988, abs=1e-5)

    def p_value(psi: float) -> float:
        shifted = table.assign(blank=table["wt82_71"] - psi * table["qsmk"])
        gee = smf.gee(f"qsmk ~ blank + {FORMULA}", "seqn", shifted, family=sm.families.Binomial(), weights=weights)
        return float(gee.fit().pvalues["blank"])

    low, high = estimate.interval()
    assert 2.5 < low < 2.6
    assert p_value(2.5) < 0.05 < p_value(2.6)
    assert 4.3 < high < 4.5
    assert p_value(4.5) < 0.05 < p_value(4.4)


def test_g_estimation(nhefs: crl.Trajectories) -> None:
    assert crl.GEstimation(PROPENSITY).estimate(nhefs).value == pytest.approx(3.4611486, abs=1e-6)
    assert crl.GEstimation(crl.NormalDensity(FORMULA)).estimate(nhefs).value == pytest.approx(3.4626218, abs=1e-6)


def test_two_parameter_nested_model(nhefs: crl.Trajectories, table: pd.DataFrame) -> None:
    """Recipe: the 2 x 2 linear system with instruments (1, smokeintensity) (A - p)."""
    weights = censoring_weights()
    estimate = crl.GEstimation(PROPENSITY, modifiers="smokeintensity").estimate(nhefs, observation_weights=weights)
    glm = smf.glm(f"qsmk ~ {FORMULA}", table, family=sm.families.Binomial(), freq_weights=weights)
    p = np.asarray(glm.fit(tol=1e-12).fittedvalues)
    a, v = table["qsmk"].to_numpy(), np.column_stack([np.ones(N), table["smokeintensity"]])
    instruments = v * (weights * (a - p))[:, None]
    expected = np.linalg.solve(instruments.T @ (v * a[:, None]), instruments.T @ table["wt82_71"].to_numpy())
    np.testing.assert_allclose(estimate.value, expected, rtol=1e-6)
    assert estimate.labels == ("action", "action:smokeintensity")


# ------------------------------------------------------------------------------------------------------------ chapter 15


def test_outcome_regression(nhefs: crl.Trajectories, table: pd.DataFrame) -> None:
    """Coefficients from an MSM with weights 1; the classical errors of the book from statsmodels, on the same coefficients."""
    known = crl.KnownPropensity(crl.Uniform(2))
    ours = crl.MSM(f"action * smokeintensity + {FORMULA}", known).estimate(nhefs)
    main, product = ours["action"], ours["action:smokeintensity"]
    assert (main.value, product.value) == pytest.approx((2.559594, 0.046663), abs=1e-5)
    theirs = smf.ols(f"wt82_71 ~ qsmk * smokeintensity + {FORMULA}", table).fit()
    assert theirs.bse[["qsmk", "qsmk:smokeintensity"]].tolist() == pytest.approx([0.809149, 0.035145], abs=1e-5)
    for amount, value, error in ((5, 2.792908, 0.668260), (40, 4.426108, 0.847782)):
        assert (main + amount * product).value == pytest.approx(value, abs=1e-5)
        contrast = theirs.t_test(f"qsmk + {amount} * qsmk:smokeintensity = 0")
        assert float(np.squeeze(contrast.sd)) == pytest.approx(error, abs=1e-5)
    points = pd.DataFrame(nhefs.observations[:2], columns=list(NHEFS_COVARIATES)).assign(smokeintensity=[5.0, 40.0])
    effects = crl.GFormula(PRODUCT).estimate(nhefs, crl.CATE(at=points))
    np.testing.assert_allclose(effects.value, [2.792908, 4.426108], atol=1e-5)
    assert crl.MSM(f"action + {FORMULA}", known).estimate(nhefs)["action"].value == pytest.approx(3.462622, abs=1e-5)
    assert smf.ols(f"wt82_71 ~ qsmk + {FORMULA}", table).fit().bse["qsmk"] == pytest.approx(0.438454, abs=1e-5)


def test_regression_on_the_propensity_score(nhefs: crl.Trajectories, table: pd.DataFrame, propensity: np.ndarray) -> None:
    score = crl.FormulaQ("action + propensity", propensity=PROPENSITY)
    assert crl.GFormula(score).estimate(nhefs, crl.ATE()).value == pytest.approx(3.4542625, abs=1e-5)
    classical = smf.ols("wt82_71 ~ qsmk + ps", table.assign(ps=propensity)).fit()
    assert classical.bse["qsmk"] == pytest.approx(0.459542, abs=1e-5)
    interacted = crl.FormulaQ("action * propensity", propensity=PROPENSITY)
    assert crl.GFormula(interacted).estimate(nhefs, crl.ATE()).value == pytest.approx(3.5117778, abs=1e-6)


def test_deciles_of_the_propensity_score(nhefs: crl.Trajectories, table: pd.DataFrame, propensity: np.ndarray) -> None:
    """Cuts as R and pandas make them; Stata's, which treat ties otherwise, give 3.356927."""
    deciles = pd.qcut(propensity, 10, labels=False)
    study = crl.Trajectories.from_cross_section(pd.DataFrame({"decile": deciles}), nhefs.actions, nhefs.rewards)
    estimate = crl.GFormula(crl.FormulaQ("action + C(decile)")).estimate(study, crl.ATE())
    assert estimate.value == pytest.approx(3.358006, abs=1e-5)
    classical = smf.ols("wt82_71 ~ qsmk + C(decile)", table.assign(decile=deciles)).fit()
    assert classical.bse["qsmk"] == pytest.approx(0.458276, abs=1e-5)
    assert estimate.value == pytest.approx(3.356927, abs=0.01)


# ------------------------------------------------------------------------------------------------------------ chapter 16


@pytest.mark.filterwarnings("ignore::causalrl.errors.WeakInstrumentWarning")
def test_price_as_an_instrument(table: pd.DataFrame) -> None:
    """2.396270; the book's interval (-36.46, 41.26) is classical, with residual variance RSS / n."""
    priced = table[table["price82"].notna()]
    study = crl.Trajectories.from_cross_section(priced[["price82"]], priced["qsmk"].astype(int), priced["wt82_71"])
    assert study.n == 1476
    estimate = crl.TwoStage("I(price82 >= 1.5)").estimate(study)
    assert estimate.value == pytest.approx(2.396270, abs=1e-4)
    high = (priced["price82"] >= 1.5).to_numpy(float)
    z, y, a = high - high.mean(), study.rewards, study.actions
    residual = (y - y.mean()) - estimate.value * (a - a.mean())
    classical = math.sqrt(residual @ residual / 1476 * (z @ z)) / abs(z @ a)
    limits = [estimate.value + sign * NORMAL * classical for sign in (-1, 1)]
    assert limits == pytest.approx([-36.46, 41.26], abs=5e-3)
    hc0 = math.sqrt((z**2) @ residual**2) / abs(z @ a)
    assert estimate.stderr * math.sqrt(1475 / 1476) == pytest.approx(hc0, rel=1e-9)


# ------------------------------------------------------------------------------------------------------------ all of them


def test_methods_agree_and_exceed_the_crude_difference(nhefs: crl.Trajectories) -> None:
    goal = crl.ATE()
    values = [
        crl.IPW(propensity=PROPENSITY).estimate(nhefs, goal).value,
        crl.GFormula(PRODUCT).estimate(nhefs, goal).value,
        crl.GFormula(ADDITIVE).estimate(nhefs, goal).value,
        crl.AIPW(PRODUCT, propensity=PROPENSITY).estimate(nhefs, goal).value,
        crl.GEstimation(PROPENSITY).estimate(nhefs).value,
        crl.MSM("action", PROPENSITY).estimate(nhefs)["action"].value,
        crl.GFormula(crl.FormulaQ("action + propensity", propensity=PROPENSITY)).estimate(nhefs, goal).value,
        crl.GFormula(crl.FormulaQ(propensity=PROPENSITY, weighted=True)).estimate(nhefs, goal).value,
        crl.AIPW(crl.PerAction(LinearRegression()), propensity=PROPENSITY).estimate(nhefs, goal).value,
    ]
    assert 3.36 - 5e-3 < min(values) < max(values) < 3.52
    assert min(values) > 2.540581 + 0.8


@pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning", "ignore::causalrl.errors.InSampleWarning")  # 20 rows
def test_table_2_2() -> None:
    """Twenty rows, deaths / total: L=0: 1/4, 1/4; L=1: 2/3, 6/9. Standardised and weighted risks are .5 and .5."""
    rows = [(0, 0, 1, 4), (0, 1, 1, 4), (1, 0, 2, 3), (1, 1, 6, 9)]
    level = [x for x, _, _, total in rows for _ in range(total)]
    arm = [a for _, a, _, total in rows for _ in range(total)]
    died = [float(k < deaths) for _, _, deaths, total in rows for k in range(total)]
    study = crl.Trajectories.from_cross_section(level, arm, died)
    for estimator in (
        crl.IPW(),
        crl.IPW(normalized=False),
        crl.GFormula(crl.TabularQ()),
        crl.AIPW(crl.TabularQ(), folds=1),
        crl.WDR(folds=1),
    ):
        for a in (0, 1):
            assert estimator.estimate(study, crl.Always(a)).value == pytest.approx(0.5, abs=1e-12)
    crude = [crl.IPW(crl.KnownPropensity(crl.Uniform(2))).estimate(study, crl.Always(a)).value for a in (0, 1)]
    assert crude == pytest.approx([3 / 7, 7 / 13], abs=1e-12)
