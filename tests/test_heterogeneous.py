"""Learners of heterogeneous effects against naive code, an independent sandwich, econml, and the designs' truth."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeRegressor

import causalrl as crl
from causalrl.errors import DataError, EstimandError, IntervalError, MissingExtraError, SupportError
from causalrl.nuisances.crossfit import Nuisances
from simulators import Point
from tests.conftest import cross_section, ragged_data

NUISANCES: dict[str, Any] = {"outcome": crl.PerAction(LinearRegression()), "propensity": crl.Logit()}
TREE = DecisionTreeRegressor(max_depth=3, random_state=1)
LEARNERS: dict[str, Callable[..., crl.Estimator]] = {
    "X": lambda effect: crl.XLearner(LinearRegression(), crl.Logit(), effect=effect),
    "R": lambda effect: crl.RLearner(LinearRegression(), crl.Logit(), effect=effect),
    "DR": lambda effect: crl.DRLearner(**NUISANCES, effect=effect),
}
every = pytest.mark.parametrize("name", LEARNERS)


@pytest.fixture(scope="module")
def point() -> crl.Trajectories:
    return Point(p=3).sample(400, seed=1)


def folds_of(study: crl.Trajectories, count: int, seed: int = 0) -> np.ndarray:
    """(n,) the fold of each unit, as the package splits them."""
    of = np.empty(study.n, int)
    for fold in Nuisances(study, seed).folds(count, None):
        of[fold.test] = fold.index
    return of


def cross_fitted(learner: Any, x: np.ndarray, y: np.ndarray, rows: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """(n,) predictions, each from the rows of the other folds."""
    out = np.empty(len(x))
    for k in np.unique(fold):
        train = rows & ((fold != k) | (fold.max() == 0))
        fit = learner.fit(x[train], y[train])
        predicted = fit.predict_proba(x)[:, 1] if hasattr(fit, "predict_proba") else fit.predict(x)
        out[fold == k] = predicted[fold == k]
    return out


# ------------------------------------------------------------------------------------------------------- naive versions


@pytest.mark.parametrize("folds", [2, 5])
def test_dr_learner_is_the_naive_one(point: crl.Trajectories, folds: int) -> None:
    x, a, y, fold = point.observations, point.actions, point.rewards, folds_of(point, folds)
    classifier = LogisticRegression()
    e = cross_fitted(classifier, x, a, a >= 0, fold)
    mu0, mu1 = (cross_fitted(TREE, x, y, a == arm, fold) for arm in (0, 1))
    phi = mu1 - mu0 + a / e * (y - mu1) - (1 - a) / (1 - e) * (y - mu0)
    at = x[:20] + 0.1
    expected = Ridge().fit(x, phi).predict(at)
    learner = crl.DRLearner(crl.PerAction(TREE), classifier, effect=Ridge(), folds=folds)
    np.testing.assert_allclose(learner.estimate(point, crl.CATE(at=at)).value, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("propensity", [LogisticRegression(), LinearRegression()], ids=["probability", "regression"])
def test_r_learner_is_the_naive_one(point: crl.Trajectories, propensity: Any) -> None:
    x, a, y, fold = point.observations, point.actions, point.rewards, folds_of(point, 4)
    e, m = (cross_fitted(model, x, target, a >= 0, fold) for model, target in ((propensity, a), (TREE, y)))
    at = x[:20] + 0.1
    expected = Ridge().fit(x, (y - m) / (a - e), sample_weight=(a - e) ** 2).predict(at)
    learner = crl.RLearner(TREE, propensity, effect=Ridge(), folds=4)
    np.testing.assert_allclose(learner.estimate(point, crl.CATE(at=at)).value, expected, rtol=1e-10, atol=1e-10)
    if isinstance(propensity, LinearRegression):
        assert ((e < 0) | (e > 1)).any(), "nothing was left to clip"


@pytest.mark.parametrize("propensity", [LogisticRegression(), LinearRegression()], ids=["probability", "regression"])
def test_x_learner_is_the_naive_one(point: crl.Trajectories, propensity: Any) -> None:
    x, a, y, at = point.observations, point.actions, point.rewards, point.observations[:20] + 0.1
    mu0, mu1 = (TREE.fit(x[a == arm], y[a == arm]).predict(x) for arm in (0, 1))
    tau1, tau0 = (Ridge().fit(x[rows], d[rows]).predict(at) for rows, d in ((a == 1, y - mu0), (a == 0, mu1 - y)))
    if isinstance(propensity, LinearRegression):
        e = propensity.fit(x, a).predict(at)
    else:
        fold = folds_of(point, 5)
        e = np.mean([propensity.fit(x[fold != k], a[fold != k]).predict_proba(at)[:, 1] for k in range(5)], axis=0)
    learner = crl.XLearner(TREE, propensity, effect=Ridge())
    found = learner.estimate(point, crl.CATE(at=at)).value
    np.testing.assert_allclose(found, e * tau0 + (1 - e) * tau1, rtol=1e-10, atol=1e-10)
    same = crl.XLearner(crl.PerAction(TREE), propensity, effect=Ridge()).estimate(point, crl.CATE(at=at)).value
    np.testing.assert_array_equal(found, same)


@every
def test_more_arms_are_asked_two_at_a_time(name: str) -> None:
    study = cross_section(n=300, arms=3)
    mine = np.isin(study.actions, (0, 2))
    two = crl.Trajectories.from_cross_section(study.observations[mine], study.actions[mine] // 2, study.rewards[mine])
    at, learner = study.observations[:5], LEARNERS[name](LinearRegression())
    among = learner.estimate(study, crl.CATE(at=at, treated=2, control=0))
    alone = learner.estimate(two, crl.CATE(at=at))
    np.testing.assert_allclose(among.value, alone.value, rtol=1e-10)
    reverse = learner.estimate(study, crl.CATE(at=at, treated=0, control=2))
    np.testing.assert_allclose(reverse.value, -among.value, rtol=1e-7)


def test_a_unit_whose_treatment_was_certain_takes_no_part_in_the_r_learner(point: crl.Trajectories) -> None:
    x, a, y = point.observations, point.actions, point.rewards
    e = np.where(np.arange(point.n) < 30, a, 1 / (1 + np.exp(-x[:, 0])))
    study = crl.Trajectories.from_cross_section(x, a, y, propensity=e)
    found = crl.RLearner(LinearRegression(), effect=LinearRegression()).estimate(study, crl.CATE(at=x[:3]))
    rows, m = slice(30, None), LinearRegression().fit(x, y).predict(x)
    fit = LinearRegression().fit(x[rows], ((y - m) / np.where(a == e, 1, a - e))[rows], sample_weight=((a - e) ** 2)[rows])
    np.testing.assert_allclose(found.value, fit.predict(x[:3]), rtol=1e-10)
    assert np.isfinite(found.stderr).all()
    certain = crl.Trajectories.from_cross_section(x, a, y, propensity=a.astype(float))
    with pytest.raises(SupportError, match="no unit shows an effect"):
        crl.RLearner(LinearRegression(), effect=LinearRegression()).estimate(certain, crl.CATE(at=x[:3]))


# ------------------------------------------------------------------------------------------------------------ intervals


def hc0(z: np.ndarray, y: np.ndarray, w: np.ndarray, at: np.ndarray, clusters: np.ndarray | None) -> np.ndarray:
    """Standard errors of statsmodels' weighted least squares, times the G / (G - 1) that the package has."""
    if clusters is None:
        fit = sm.WLS(y, z, weights=w).fit(cov_type="HC0")
        count = len(y)
    else:
        settings = {"groups": clusters, "use_correction": False}
        fit = sm.WLS(y, z, weights=w).fit(cov_type="cluster", cov_kwds=settings)
        count = len(np.unique(clusters))
    return np.asarray(np.sqrt(np.diag(at @ fit.cov_params() @ at.T) * count / (count - 1)))


@pytest.mark.parametrize("clustered", [False, True])
@pytest.mark.parametrize("quadratic", [False, True])
def test_the_interval_is_the_sandwich_of_the_second_stage(point: crl.Trajectories, clustered: bool, quadratic: bool) -> None:
    x, a, y = point.observations, point.actions, point.rewards
    e, clusters = 1 / (1 + np.exp(-x[:, 0])), np.arange(point.n) // 4 if clustered else None
    study = crl.Trajectories.from_cross_section(x, a, y, propensity=e, clusters=clusters)
    mean, mu = (
        LinearRegression().fit(x, y).predict(x),
        [LinearRegression().fit(x[a == arm], y[a == arm]).predict(x) for arm in (0, 1)],
    )
    phi = mu[1] - mu[0] + a / e * (y - mu[1]) - (1 - a) / (1 - e) * (y - mu[0])
    basis = PolynomialFeatures(2).fit(x) if quadratic else PolynomialFeatures(1).fit(x)
    steps = [StandardScaler(), PolynomialFeatures(2, include_bias=False)] if quadratic else []
    effect = make_pipeline(*steps, LinearRegression()) if steps else LinearRegression()
    z, at = basis.transform(x), x[:6]
    dr = crl.DRLearner(crl.PerAction(LinearRegression()), effect=effect).estimate(study, crl.CATE(at=at))
    np.testing.assert_allclose(dr.stderr, hc0(z, phi, np.ones(study.n), basis.transform(at), clusters), rtol=1e-8)
    r = crl.RLearner(LinearRegression(), effect=effect).estimate(study, crl.CATE(at=at))
    expected = hc0(z, (y - mean) / (a - e), (a - e) ** 2, basis.transform(at), clusters)
    np.testing.assert_allclose(r.stderr, expected, rtol=1e-8)
    assert isinstance(dr.default_method, crl.Wald)
    assert dr[2].interval().low == pytest.approx(dr.interval().low[2], rel=1e-8)


def test_the_interval_carries_the_fit_of_the_propensities(point: crl.Trajectories) -> None:
    """With a constant effect the DR-learner is AIPW, stacked correction and all."""
    effect = make_pipeline(PolynomialFeatures(0), LinearRegression(fit_intercept=False))
    learner = crl.DRLearner(**NUISANCES, effect=effect)
    constant, aipw = (
        learner.estimate(point, crl.CATE(at=point.observations[:1])),
        crl.AIPW(**NUISANCES).estimate(point, crl.ATE()),
    )
    assert constant.value[0] == pytest.approx(aipw.value, rel=1e-10)
    assert constant.stderr[0] == pytest.approx(aipw.stderr, rel=1e-8)


@every
@pytest.mark.parametrize("effect", [Ridge(), make_pipeline(StandardScaler(), Ridge()), LinearRegression(positive=True)], ids=str)
def test_elsewhere_an_interval_has_to_be_asked_for(point: crl.Trajectories, name: str, effect: Any) -> None:
    estimate = LEARNERS[name](effect).estimate(point, crl.CATE(at=point.observations[:4]))
    with pytest.raises(IntervalError, match=r"RefitBootstrap\(200\).*DRLearner"):
        estimate.interval()
    assert "RefitBootstrap(200)" in estimate.summary()
    low, high = estimate.interval(method=crl.RefitBootstrap(8))
    assert low.shape == high.shape == (4,)
    assert (low < high).all()


@every
def test_refits_weigh_the_units_as_often_as_they_were_drawn(point: crl.Trajectories, name: str) -> None:
    """The learners here are in-sample, so that a resample is a data set with repeated rows."""
    at, learner = point.observations[:3], LEARNERS[name](LinearRegression())
    study = crl.Trajectories.from_cross_section(point.observations, point.actions, point.rewards)
    counts = np.random.default_rng(0).poisson(1, study.n).astype(float)
    refit = learner.estimate(study, crl.CATE(at=at)).evidence.refit
    assert refit is not None
    again = learner.estimate(study.take(np.repeat(np.arange(study.n), counts.astype(int))), crl.CATE(at=at)).value
    np.testing.assert_allclose(refit(counts[None])[0], again, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["R", "DR"])
def test_the_default_interval_covers_a_linear_effect(name: str) -> None:
    design, at = Point(p=3), np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, -1.5, 1.0]])
    replications, inside = 200, np.zeros(3)
    for r in range(replications):
        low, high = LEARNERS[name](LinearRegression()).estimate(design.sample(1000, seed=r), crl.CATE(at=at)).interval()
        inside += (low <= design.effect(at)) & (design.effect(at) <= high)
    noise = 3 * math.sqrt(0.95 * 0.05 / replications)
    assert (np.abs(inside / replications - 0.95) < noise + 0.01).all(), inside / replications


# --------------------------------------------------------------------------------------------------------------- econml

# econml passes arguments that scikit-learn retires
quiet = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning:sklearn")


@quiet
def test_s_t_and_x_learners_are_those_of_econml(point: crl.Trajectories) -> None:
    from econml import metalearners

    at = point.observations[:30]
    logistic = LogisticRegression(C=1e6, tol=1e-10, max_iter=1000)
    pairs = [
        (crl.SLearner(TREE), metalearners.SLearner(overall_model=TREE)),
        (crl.TLearner(TREE), metalearners.TLearner(models=TREE)),
        (
            crl.XLearner(TREE, crl.Logit(), effect=Ridge()),
            metalearners.XLearner(models=TREE, cate_models=Ridge(), propensity_model=logistic),
        ),
    ]
    for ours, theirs in pairs:
        expected = crl.FromEconML(theirs).estimate(point, crl.CATE(at=at)).value
        tolerance = 1e-6 if isinstance(theirs, metalearners.XLearner) else 1e-12
        np.testing.assert_allclose(ours.estimate(point, crl.CATE(at=at)).value, expected, rtol=tolerance, atol=tolerance)


@quiet
def test_dr_learner_is_that_of_econml_with_the_same_folds(point: crl.Trajectories) -> None:
    from econml.dr import LinearDRLearner

    fold, at = folds_of(point, 3), point.observations[:10]
    splits = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(3)]
    logistic = LogisticRegression()
    theirs = LinearDRLearner(
        model_propensity=logistic, model_regression=LinearRegression(), cv=splits, min_propensity=1e-9, random_state=0
    )
    expected = crl.FromEconML(theirs).estimate(point, crl.CATE(at=at))
    ours = crl.DRLearner(crl.Pooled(LinearRegression()), logistic, effect=LinearRegression(), folds=3)
    found = ours.estimate(point, crl.CATE(at=at))
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-6, atol=1e-6)
    n, columns = point.n, point.observations.shape[1] + 1
    hc1 = np.sqrt((n - 1) / (n - columns))  # theirs divides by n - p, ours by n - 1
    np.testing.assert_allclose(np.asarray(found.stderr) * hc1, expected.stderr, rtol=1e-6)


@quiet
def test_econml_brings_its_own_inference(point: crl.Trajectories) -> None:
    from econml.dml import LinearDML

    model = LinearDML(model_y=LinearRegression(), model_t=LogisticRegression(), discrete_treatment=True)
    at = point.observations[:5]
    estimate = crl.FromEconML(model).estimate(point, crl.CATE(at=at), seed=4)
    alone = LinearDML(
        model_y=LinearRegression(), model_t=LogisticRegression(), discrete_treatment=True, random_state=estimate_seed(4)
    )
    alone.fit(point.rewards, point.actions, X=point.observations)
    np.testing.assert_allclose(estimate.value, alone.effect(at), rtol=1e-10)
    for level in (0.8, 0.95):
        low, high = alone.effect_interval(at, alpha=1 - level)
        interval = estimate.interval(level)
        np.testing.assert_allclose([interval.low, interval.high], [low, high], rtol=1e-8)
    np.testing.assert_array_equal(estimate.value, crl.FromEconML(model).estimate(point, crl.CATE(at=at), seed=4).value)
    assert (estimate.value != crl.FromEconML(model).estimate(point, crl.CATE(at=at), seed=5).value).all()
    with pytest.raises(IntervalError, match="own vector"):
        estimate[0].interval()
    with pytest.raises(IntervalError, match="own vector"):
        (2 * estimate).interval()
    assert "inference of LinearDML" in estimate.summary()


def estimate_seed(seed: int) -> int:
    from causalrl.kernels.rng import derive_seed

    return derive_seed(seed, "random_state") % 2**32


@quiet
def test_econml_without_inference_names_the_bootstrap(point: crl.Trajectories) -> None:
    from econml.metalearners import TLearner

    estimate = crl.FromEconML(TLearner(models=LinearRegression())).estimate(point, crl.CATE(at=point.observations[:2]))
    with pytest.raises(IntervalError, match=r"TLearner has no inference of its own.*RefitBootstrap\(200\)"):
        estimate.interval()
    low, high = estimate.interval(method=crl.RefitBootstrap(5))
    assert (low < high).all()


@quiet
def test_econml_takes_units_as_independent(point: crl.Trajectories) -> None:
    from econml.dml import LinearDML

    columns = point.observations, point.actions, point.rewards
    study = crl.Trajectories.from_cross_section(*columns, clusters=np.arange(point.n) // 2)
    model = LinearDML(model_y=LinearRegression(), model_t=LogisticRegression(), discrete_treatment=True)
    with pytest.raises(IntervalError, match="have clusters"):
        crl.FromEconML(model).estimate(study, crl.CATE(at=point.observations[:2])).interval()


@quiet
@pytest.mark.slow
def test_the_calls_of_the_issue_run() -> None:
    pytest.importorskip("causaldata")
    from econml.dml import CausalForestDML

    nhefs = crl.datasets.nhefs()
    X = nhefs.observations[:50]
    forest = CausalForestDML(model_y=LinearRegression(), model_t=LogisticRegression(max_iter=5000), discrete_treatment=True)
    for learner in (crl.FromEconML(forest), crl.DRLearner(**NUISANCES, effect=LinearRegression())):
        low, high = learner.estimate(nhefs, crl.CATE(at=X)).interval()
        assert low.shape == (50,)
        assert (low < high).all()


def test_econml_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "econml", None)
    monkeypatch.setitem(sys.modules, "econml._cate_estimator", None)
    with pytest.raises(MissingExtraError, match=r"causalrl-ope\[econml\]"):
        crl.FromEconML(object())


# ------------------------------------------------------------------------------------------------------------ bad input


@every
def test_bad_questions(point: crl.Trajectories, name: str) -> None:
    learner, x = LEARNERS[name](LinearRegression()), point.observations
    with pytest.raises(EstimandError, match="at has shape"):
        learner.estimate(point, crl.CATE(at=x[:, :2]))
    with pytest.raises(EstimandError, match="at has columns"):
        learner.estimate(point, crl.CATE(at=pd.DataFrame(x, columns=["x1", "x2", "age"])))
    with pytest.raises(EstimandError, match="the data are sequential"):
        learner.estimate(ragged_data(), crl.CATE(at=np.array([0, 1])))
    with pytest.raises(EstimandError, match="arm 2 never occurs"):
        learner.estimate(point, crl.CATE(at=x, treated=2))
    with pytest.raises(EstimandError, match="the same arm"):
        learner.estimate(point, crl.CATE(at=x, treated=1, control=1))
    with pytest.raises(EstimandError, match="no value of a policy"):
        learner.estimate(point, crl.Always(1))
    with pytest.raises(EstimandError, match="Use AIPW"):
        learner.estimate(point, crl.ATE())


@every
@pytest.mark.parametrize(
    ("effect", "text"),
    [
        (LogisticRegression(), "effect: .*is a classifier"),
        (LinearRegression, "effect: .*is no regressor"),
        ("linear", "effect: 'linear' is no regressor"),
    ],
)
def test_bad_second_stages(name: str, effect: Any, text: str) -> None:
    with pytest.raises(EstimandError, match=text):
        LEARNERS[name](effect)


def test_bad_learners(point: crl.Trajectories) -> None:
    linear, goal = LinearRegression(), crl.CATE(at=point.observations[:2])
    with pytest.raises(EstimandError, match="KNeighborsRegressor takes no sample_weight"):
        crl.RLearner(linear, effect=KNeighborsRegressor())
    with pytest.raises(EstimandError, match="KNeighborsRegressor takes no sample_weight"):
        crl.RLearner(linear, effect=make_pipeline(StandardScaler(), KNeighborsRegressor()))
    with pytest.raises(EstimandError, match="gives no probabilities"):
        crl.DRLearner(linear, linear, effect=linear)
    with pytest.raises(EstimandError, match="Logit is a class"):
        crl.DRLearner(linear, crl.Logit, effect=linear)
    with pytest.raises(EstimandError, match=r"outcome: .*is a classifier"):
        crl.RLearner(LogisticRegression(), effect=linear)
    with pytest.raises(EstimandError, match=r"outcome: .*is no regressor"):
        crl.XLearner(LinearRegression, effect=linear)
    with pytest.raises(DataError, match="folds: 0"):
        crl.DRLearner(linear, effect=linear, folds=0)
    with pytest.raises(DataError, match="known for the logged decisions only"):
        crl.XLearner(linear, effect=linear).estimate(point, goal)
    with pytest.raises(EstimandError, match="LinearRegression is a class"):
        crl.FromEconML(LinearRegression)
    with pytest.raises(EstimandError, match="no conditional-effect estimator of econml"):
        crl.FromEconML(linear)


def test_an_arm_missing_from_a_fold() -> None:
    x = np.random.default_rng(0).normal(size=(40, 1))
    arm = np.zeros(40, int)
    arm[3] = 1
    study = crl.Trajectories.from_cross_section(x, arm, x[:, 0], propensity=np.full(40, 0.1))
    with pytest.raises(EstimandError, match="no Q for action 1"):
        crl.DRLearner(crl.PerAction(TREE), effect=LinearRegression(), folds=5).estimate(study, crl.CATE(at=x))


def test_a_point_outside_what_collinear_covariates_span(point: crl.Trajectories) -> None:
    x = np.column_stack([point.observations, point.observations[:, 0]])
    study = crl.Trajectories.from_cross_section(x, point.actions, point.rewards, propensity=np.full(point.n, 0.5))
    learner = crl.DRLearner(crl.PerAction(LinearRegression()), effect=LinearRegression())
    reduced = crl.Trajectories.from_cross_section(
        point.observations, point.actions, point.rewards, propensity=np.full(point.n, 0.5)
    )
    whole, less = (learner.estimate(data, crl.CATE(at=data.observations[:3])) for data in (study, reduced))
    np.testing.assert_allclose(whole.value, less.value, rtol=1e-8)
    np.testing.assert_allclose(whole.stderr, less.stderr, rtol=1e-8)
    with pytest.raises(EstimandError, match="at row 1 lies outside"):
        learner.estimate(study, crl.CATE(at=x[:2] + np.array([[0, 0, 0, 0], [0, 0, 0, 1.0]])))


def test_records_say_what_they_are_made_of() -> None:
    text = str(crl.DRLearner(**NUISANCES, effect=LinearRegression(), folds=3))
    assert text.startswith("DRLearner(outcome=PerAction(regressor=LinearRegression()), propensity=Logit")
    assert "folds=3" in text


def test_r_learner_stacks_the_fit_of_the_propensity() -> None:
    """Against a numerical stack, where m is wrong so that the fit matters: error too long by a sixth without it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=4_000)
    a = (rng.random(4_000) < 1 / (1 + np.exp(-x))).astype(int)
    y = 2 * x**2 + a + rng.normal(size=4_000)
    basis, study = np.column_stack([np.ones(4_000), x]), crl.Trajectories.from_cross_section(x[:, None], a, y)
    left = y - basis @ np.linalg.lstsq(basis, y, rcond=None)[0]

    def effect(beta: np.ndarray) -> np.ndarray:
        own = a - 1 / (1 + np.exp(-basis @ beta))
        return np.asarray(np.linalg.lstsq(basis * own[:, None], left, rcond=None)[0])

    beta = np.zeros(2)
    for _ in range(30):
        e = 1 / (1 + np.exp(-basis @ beta))
        fisher = basis.T @ (basis * (e * (1 - e))[:, None])
        beta = beta + np.linalg.solve(fisher, basis.T @ (a - e))
    e, tau = 1 / (1 + np.exp(-basis @ beta)), effect(beta)
    own = basis * ((a - e) * (left - (a - e) * (basis @ tau)))[:, None]
    influence = own @ np.linalg.inv(basis.T @ (basis * ((a - e) ** 2)[:, None]))
    slope = np.column_stack([(effect(beta + step) - effect(beta - step)) / 2e-5 for step in 1e-5 * np.eye(2)])
    stacked = influence + (basis * (a - e)[:, None]) @ np.linalg.inv(fisher) @ slope.T
    at = np.array([[1.0, 0.0], [1.0, 2.0]])
    learner = crl.RLearner(LinearRegression(), crl.Logit(), effect=LinearRegression())
    estimate = learner.estimate(study, crl.CATE(at=at[:, 1:]))
    np.testing.assert_allclose(estimate.value, at @ tau, rtol=1e-6)
    np.testing.assert_allclose(estimate.stderr, np.sqrt(np.sum((stacked @ at.T) ** 2, axis=0)), rtol=1e-3)
    assert estimate.stderr[1] < 0.95 * np.sqrt(np.sum((influence @ at[1]) ** 2))
