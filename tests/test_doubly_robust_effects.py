"""AIPW in tilted populations, incremental effects, TMLE and the partially linear model, against naive code and known truths."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import binom
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeRegressor

import causalrl as crl
from causalrl.errors import (
    CausalRLError,
    CausalRLWarning,
    DataError,
    EstimandError,
    OutcomeRangeWarning,
    SeparationError,
    SupportWarning,
)
from simulators import Point

Floats = NDArray[np.float64]
LINEAR = crl.PerAction(LinearRegression())
EFFECTS = (crl.ATT(), crl.ATC(), crl.ATO(), crl.ATM())
TILTS = {
    crl.ATT: (lambda e: e, lambda e: np.ones_like(e)),
    crl.ATC: (lambda e: 1 - e, lambda e: -np.ones_like(e)),
    crl.ATO: (lambda e: e * (1 - e), lambda e: 1 - 2 * e),
    crl.ATM: (lambda e: np.minimum(e, 1 - e), lambda e: np.where(e < 0.5, 1.0, -1.0)),
}
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@dataclass(frozen=True)
class Naive:
    """A study and its nuisances, learned here without the package."""

    data: crl.Trajectories

    @property
    def x(self) -> Floats:
        return self.data.observations

    @property
    def a(self) -> NDArray[np.int64]:
        return self.data.actions

    @property
    def y(self) -> Floats:
        return self.data.rewards

    @property
    def e(self) -> Floats:
        model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(self.x, self.a)
        return model.predict_proba(self.x)[:, 1]

    @property
    def mu(self) -> tuple[Floats, Floats]:
        """mu_0 and mu_1."""
        return tuple(LinearRegression().fit(self.x[self.a == k], self.y[self.a == k]).predict(self.x) for k in (0, 1))  # type: ignore[return-value]

    @property
    def frozen(self) -> crl.Trajectories:
        """The data with the fitted propensities as if they were known."""
        return crl.Trajectories.from_cross_section(self.x, self.a, self.y, propensity=self.e)

    @property
    def augmented(self) -> tuple[Floats, Floats]:
        """phi_0 and phi_1."""
        e, (m0, m1) = self.e, self.mu
        return m0 + (self.a == 0) * (self.y - m0) / (1 - e), m1 + self.a * (self.y - m1) / e


@pytest.fixture(scope="module")
def naive() -> Naive:
    return Naive(Point(p=3).sample(400, seed=3))


def binary(n: int, seed: int) -> tuple[crl.Trajectories, Floats]:
    """Point with Y ~ Bernoulli(expit(T (1 + x2) / 2 + x1 / 2 - 1/2)), and (n, 2) its arm means."""
    study = Point(p=2).sample(n, seed=seed)
    x, rng = study.observations, np.random.default_rng(seed + 10_000)
    means = expit(np.column_stack([x[:, 0] / 2 - 0.5, (1 + x[:, 1]) / 2 + x[:, 0] / 2 - 0.5]))
    outcome = (rng.random(n) < means[np.arange(n), study.actions]).astype(float)
    return crl.Trajectories.from_cross_section(x, study.actions, outcome), means


# ------------------------------------------------------------------------------------------------- tilted populations


@pytest.mark.parametrize("goal", EFFECTS, ids=str)
def test_effects_in_tilted_populations_are_their_influence_functions(goal: crl.ATT, naive: Naive) -> None:
    h_of, slope_of = TILTS[type(goal)]
    e, (m0, m1), (phi0, phi1) = naive.e, naive.mu, naive.augmented
    h = h_of(e)

    def expected(slope: Floats | float) -> tuple[float, Floats]:
        value = np.mean(h * (phi1 - phi0) + slope * (naive.a - e) * (m1 - m0)) / np.mean(h + slope * (naive.a - e))
        numerators = h * (phi1 - phi0 - value) + slope * (naive.a - e) * (m1 - m0 - value)
        return float(value), numerators / np.mean(h + slope * (naive.a - e))

    known, (value, influence) = crl.AIPW(LINEAR).estimate(naive.frozen, goal), expected(0.0)
    assert known.value == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(known.influence, influence, rtol=1e-7, atol=1e-9)
    assert known.stderr == pytest.approx(influence.std(ddof=1) / math.sqrt(len(e)), rel=1e-9)
    learned, (value, influence) = crl.AIPW(LINEAR, crl.Logit()).estimate(naive.data, goal), expected(slope_of(e))
    assert learned.value == pytest.approx(value, rel=1e-6)
    assert learned.stderr == pytest.approx(influence.std(ddof=1) / math.sqrt(len(e)), rel=0.05)


def test_where_half_are_treated_the_matched_population_is_everybody(naive: Naive) -> None:
    half = crl.KnownPropensity(crl.Uniform(2))
    matched, everybody = (crl.AIPW(LINEAR, half).estimate(naive.data, goal) for goal in (crl.ATM(), crl.ATE()))
    assert (matched.value, matched.stderr) == pytest.approx((everybody.value, everybody.stderr), rel=1e-9)


@pytest.mark.parametrize("goal", EFFECTS, ids=str)
def test_weighted_doubly_robust_effects_normalise_each_arm(goal: crl.ATT, naive: Naive) -> None:
    h_of, _ = TILTS[type(goal)]
    e, (m0, m1), a = naive.e, naive.mu, naive.a
    population = h_of(e)
    w = h_of(e) / np.where(a == 1, e, 1 - e)
    value = population @ (m1 - m0) / population.sum()
    value += (a * w) @ (naive.y - m1) / (a @ w) - ((1 - a) * w) @ (naive.y - m0) / ((1 - a) @ w)
    assert crl.WDR(q=LINEAR).estimate(naive.frozen, goal).value == pytest.approx(value, rel=1e-9)


def stacked_stderr(naive: Naive, goal: Any, normalized: bool) -> float:
    """Numerical M-estimation: the influence of each unit's Logit score on the value, added to that of the moments."""
    x = np.column_stack([np.ones(naive.data.n), naive.x])
    beta = logit(naive.e) @ np.linalg.pinv(x).T
    mu0, mu1 = np.zeros(naive.data.n), np.full(naive.data.n, 2.0)

    def value(b: Floats, weights: Floats) -> float:
        h_of, slope_of = TILTS[type(goal)]
        e, a = expit(x @ b), naive.a
        population = h_of(e) + slope_of(e) * (a - e)
        w = h_of(e) / np.where(a == 1, e, 1 - e)
        residual = naive.y - np.where(a == 1, mu1, mu0)
        arms = [weights @ (population * (mu1 - mu0)) / (weights @ population)]
        for arm, sign in ((1, 1), (0, -1)):
            scale = weights @ (w * (a == arm)) if normalized else weights @ population
            arms.append(sign * (weights @ (w * (a == arm) * residual)) / scale)
        return float(sum(arms))

    n, step = naive.data.n, 1e-5
    ones = np.ones(n)
    direct = np.array([(value(beta, ones + step * np.eye(n)[i]) - value(beta, ones - step * np.eye(n)[i])) for i in range(n)])
    gradient = np.array([value(beta + step * d, ones) - value(beta - step * d, ones) for d in np.eye(len(beta))]) / (2 * step)
    e = expit(x @ beta)
    scores = np.linalg.solve((x * (e * (1 - e))[:, None]).T @ x, (x * (naive.a - e)[:, None]).T).T
    influence = n * (direct / (2 * step) + scores @ gradient)
    return float(influence.std(ddof=1) / math.sqrt(n))


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("goal", [crl.ATT(), crl.ATC(), crl.ATM()], ids=str)
def test_the_error_carries_the_fitted_propensities_where_the_outcome_model_is_wrong(
    goal: crl.ATT, normalized: bool, naive: Naive
) -> None:
    wrong = crl.KnownQ(lambda x, time: np.tile([0.0, 2.0], (len(x), 1)))
    estimator = (crl.WDR if normalized else crl.DR)(q=wrong, behavior=crl.Logit())
    assert estimator.estimate(naive.data, goal).stderr == pytest.approx(stacked_stderr(naive, goal, normalized), rel=1e-5)


def test_an_effect_between_two_of_three_arms_is_that_of_the_study_of_these(naive: Naive) -> None:
    rng = np.random.default_rng(0)
    third = rng.random(naive.data.n) < 0.3
    three = crl.Trajectories.from_cross_section(naive.x, np.where(third, 2, naive.a), naive.y)
    two = crl.Trajectories.from_cross_section(naive.x[~third], 1 - naive.a[~third], naive.y[~third])
    for goal, same in ((crl.ATT(0, 1), crl.ATT()), (crl.ATO(0, 1), crl.ATO())):
        a, b = crl.AIPW(LINEAR).estimate(three, goal), crl.AIPW(LINEAR).estimate(two, same)
        both = math.sqrt(three.n / (three.n - 1) * (two.n - 1) / two.n)
        assert (a.value, a.stderr) == pytest.approx((b.value, b.stderr * both), rel=1e-9)
        assert (a - crl.AIPW(LINEAR).estimate(three, crl.ATE(0, 1))).stderr < a.stderr  # they come from the same data
        assert (a - a).stderr == pytest.approx(0, abs=1e-12)
        assert crl.most_influential(a, three).ids.shape == (10,)
        low, high = crl.IPW().estimate(three, goal).interval(method=crl.RefitBootstrap(50))
        assert low < high


def test_balance_and_overlap_are_in_the_diagnostics(naive: Naive) -> None:
    estimate = crl.AIPW(LINEAR, crl.Logit()).estimate(naive.data, crl.ATO())
    assert np.abs(estimate.diagnostics["smd_after"]).max() < 1e-8  # a logit balances the overlap population exactly
    assert np.abs(estimate.diagnostics["smd_before"]).max() > 0.5
    w = np.where(naive.a == 1, 1 - naive.e, naive.e)
    kish = [w[naive.a == k].sum() ** 2 / (w[naive.a == k] ** 2).sum() for k in (0, 1)]
    assert estimate.diagnostics["ess"] == pytest.approx(min(kish), rel=1e-6)
    assert estimate.diagnostics["folds"] == (1, 1)


def test_truncated_residual_weights(naive: Naive) -> None:
    (m0, m1), e, a = naive.mu, naive.e, naive.a
    w = np.minimum(np.where(a == 1, 1.0, e / (1 - e)), 1.5)
    value = np.sum(a * (m1 - m0) + w * (2 * a - 1) * (naive.y - np.where(a == 1, m1, m0))) / a.sum()
    estimate = crl.DR(q=LINEAR, truncate=1.5).estimate(naive.frozen, crl.ATT())
    assert estimate.value == pytest.approx(value, rel=1e-9)
    assert estimate.diagnostics["truncated"][0] == 1.5


def test_repeats_take_the_median(naive: Naive) -> None:
    tree = crl.PerAction(DecisionTreeRegressor(max_depth=2))
    for goal in (crl.ATO(), crl.Always(1)):
        fitted = crl.AIPW(tree, crl.Logit(), folds=3, repeats=3).fit(naive.data, seed=4)
        median = fitted.estimate(goal)
        single = crl.AIPW(tree, crl.Logit(), folds=3)
        splits = [crl.estimators.base.FittedEstimator(single, fitted.nuisances.split(r)).estimate(goal) for r in range(3)]
        values = np.array([split.value for split in splits])
        assert median.value == pytest.approx(np.median(values), rel=1e-12)
        variance = np.median(np.array([split.stderr for split in splits]) ** 2 + (values - median.value) ** 2)
        assert median.stderr == pytest.approx(math.sqrt(variance), rel=1e-9)
        assert median.interval(method=crl.RefitBootstrap(3)).low < median.value + 1


# --------------------------------------------------------------------------------------------------- double robustness

WRONG_Q = crl.PerAction(DummyRegressor())
WRONG_E = DummyClassifier()


@pytest.mark.parametrize("nuisances", [(LINEAR, WRONG_E), (WRONG_Q, crl.Logit())], ids=["right outcome", "right propensity"])
@pytest.mark.parametrize("goal", [crl.ATE(), crl.ATT()], ids=str)
@pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")
def test_one_right_nuisance_is_enough(goal: Any, nuisances: tuple[Any, Any]) -> None:
    """Both wrong: the crude difference 1 + 2 E[x1 | T = 1] = 1.83. ATT = ATE = 1, since x2 does not confound."""
    study = Point(p=2).sample(20_000, seed=1)
    crude = crl.AIPW(WRONG_Q, WRONG_E).estimate(study, goal).value
    assert crude == pytest.approx(1.83, abs=0.08)
    estimators: list[Any] = [crl.AIPW(*nuisances), crl.WDR(q=nuisances[0], behavior=nuisances[1])]
    if isinstance(goal, crl.ATE):
        estimators.append(crl.TMLE(q=nuisances[0], behavior=nuisances[1]))
    for estimator in estimators:
        assert estimator.estimate(study, goal).value == pytest.approx(1.0, abs=0.1)


def test_the_partially_linear_model_needs_the_propensity_or_both() -> None:
    study = Point(p=2).sample(20_000, seed=1)
    assert crl.PLR(DummyRegressor(), crl.Logit()).estimate(study, crl.ATO()).value == pytest.approx(1.0, abs=0.1)


# ------------------------------------------------------------------------------------------------- incremental effects


def incremental_truth(delta: float) -> float:
    """Point: E[x1 + pi(e) (1 + x2)] = E[pi(expit(x1))]."""
    e = expit(NODES)
    return float(WEIGHTS @ (delta * e / (delta * e + 1 - e)))


@pytest.mark.parametrize("delta", [0.5, 3.0])
def test_incremental_effects_are_kennedys(delta: float, naive: Naive) -> None:
    e, (m0, m1), a = naive.e, naive.mu, naive.a
    phi0, phi1 = naive.augmented
    term = delta * (m1 - m0) * (a - e) / (delta * e + 1 - e) ** 2
    scores = (delta * e * phi1 + (1 - e) * phi0) / (delta * e + 1 - e) + term
    estimate = crl.AIPW(LINEAR, crl.Logit()).estimate(naive.data, crl.TiltedPropensity(delta))
    assert estimate.value == pytest.approx(scores.mean(), rel=1e-6)
    assert estimate.stderr == pytest.approx(scores.std(ddof=1) / math.sqrt(len(e)), rel=0.03)
    assert not any("Estimated" in text for text in estimate.diagnostics["warnings"])
    forest = crl.AIPW(LINEAR, LogisticRegression(), folds=2).estimate(naive.data, crl.TiltedPropensity(delta))
    assert forest.value == pytest.approx(incremental_truth(delta), abs=4 * forest.stderr)


def test_a_tilt_of_known_propensities_is_a_known_policy(naive: Naive) -> None:
    e, (phi0, phi1) = naive.e, naive.augmented
    estimate = crl.AIPW(LINEAR).estimate(naive.frozen, crl.TiltedPropensity(2.0))
    assert estimate.value == pytest.approx(np.mean((2 * e * phi1 + (1 - e) * phi0) / (1 + e)), rel=1e-9)


def test_a_tilt_of_one_is_the_mean_outcome(naive: Naive) -> None:
    estimate = crl.AIPW(LINEAR, crl.Logit()).estimate(naive.data, crl.TiltedPropensity(1.0))
    assert estimate.value == pytest.approx(naive.y.mean(), rel=1e-9)
    assert estimate.stderr == pytest.approx(naive.y.std(ddof=1) / math.sqrt(naive.data.n), rel=1e-7)


@pytest.mark.parametrize("truncate", [None, 1.2])
@pytest.mark.parametrize("kind", [crl.DR, crl.WDR])
def test_the_error_of_a_tilt_agrees_with_refits_where_the_outcome_model_is_wrong(kind: Any, truncate: float | None) -> None:
    study = Point(p=2).sample(400, seed=5)
    wrong = crl.KnownQ(lambda x, time: np.tile([0.0, 2.0], (len(x), 1)))
    estimate = kind(q=wrong, behavior=crl.Logit(), truncate=truncate).estimate(study, crl.TiltedPropensity(3.0))
    assert estimate.evidence.refit_stderr(100, 0) == pytest.approx(estimate.stderr, rel=0.25)


# ---------------------------------------------------------------------------------------------------------------- TMLE


def naive_tmle(naive: Naive, chosen: Floats, low: float, high: float) -> tuple[float, Floats]:
    """The value of a policy (n, 2) and its influence values; the root of the score by Brent's method."""
    e, a = naive.e, naive.a
    q = np.clip((np.column_stack(naive.mu) - low) / (high - low), 5e-4, 1 - 5e-4)
    own = q[np.arange(len(a)), a]
    w = chosen[np.arange(len(a)), a] / np.where(a == 1, e, 1 - e)
    y = (naive.y - low) / (high - low)
    eps = brentq(lambda t: w @ (y - expit(logit(own) + t)), -30, 30, xtol=1e-14)
    value = (chosen * expit(logit(q) + eps)).sum(axis=1)
    residual = w * (y - expit(logit(own) + eps))
    return low + (high - low) * value.mean(), (high - low) * (residual + value - value.mean())


@pytest.mark.parametrize("policy", [crl.Always(1), crl.Uniform(2), crl.Mixture([crl.Always(0), crl.Uniform(2)], [0.4, 0.6])])
@pytest.mark.parametrize("bounds", [None, (-20.0, 30.0)])
def test_tmle_is_a_logistic_fluctuation(policy: crl.Policy, bounds: tuple[float, float] | None, naive: Naive) -> None:
    low, high = (naive.y.min(), naive.y.max()) if bounds is None else bounds
    chosen = policy.bind(2).probabilities(naive.x, np.zeros(naive.data.n, int))
    value, influence = naive_tmle(naive, chosen, low, high)
    estimate = crl.TMLE(q=LINEAR, bounds=bounds).estimate(naive.frozen, policy)
    assert estimate.value == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(estimate.influence, influence, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "estimator",
    [
        crl.TMLE(q=LINEAR, behavior=crl.Logit()),
        crl.TMLE(q=LINEAR, behavior=crl.Logit(), folds=4),
        crl.TMLE(behavior=crl.Logit(), q=WRONG_Q),
    ],
)
def test_tmle_solves_its_score(estimator: crl.TMLE, naive: Naive) -> None:
    estimate = estimator.estimate(naive.data, crl.Always(1))
    assert abs(estimate.moments[:, 1].mean()) < 1e-8  # w (Y - Q*)
    assert abs(estimate.moments[:, 2].mean()) < 1e-8  # the logit's own score
    assert estimate.value == pytest.approx(estimate.moments[:, 0].mean(), rel=1e-9)


def test_tmle_does_not_depend_on_the_unit_of_the_outcome(naive: Naive) -> None:
    scaled = crl.Trajectories.from_cross_section(naive.x, naive.a, 1000 - 40 * naive.y)
    for goal, shift in ((crl.Always(1), 1000.0), (crl.ATE(), 0.0)):
        before, after = (crl.TMLE(q=LINEAR, behavior=crl.Logit(), folds=2).estimate(data, goal) for data in (naive.data, scaled))
        assert after.value == pytest.approx(shift - 40 * before.value, rel=1e-9)
        assert after.stderr == pytest.approx(40 * before.stderr, rel=1e-7)


def test_tmle_stays_within_the_bounds_and_gives_ratios() -> None:
    study, _ = binary(300, seed=2)
    model = crl.PerAction(DecisionTreeRegressor(min_samples_leaf=20))
    fitted = crl.TMLE(q=model, behavior=crl.Logit()).fit(study)
    v1, v0 = fitted.estimate(crl.Always(1)), fitted.estimate(crl.Always(0))
    assert 0 < v0.value < 1
    assert 0 < v1.value < 1
    ratio = v1 / v0
    influence = v1.influence / v0.value - v1.value / v0.value**2 * v0.influence
    assert ratio.stderr == pytest.approx(influence.std(ddof=1) / math.sqrt(300), rel=1e-9)
    odds = (v1 / (1 - v1)) / (v0 / (1 - v0))
    assert odds.value > ratio.value > 1
    assert pickle.loads(pickle.dumps(ratio)).value == ratio.value


def test_tmle_says_which_predictions_it_moved() -> None:
    study, _ = binary(300, seed=2)
    beyond = crl.KnownQ(lambda x, time: np.column_stack([x[:, 0], x[:, 1]]))
    with pytest.warns(OutcomeRangeWarning, match=r"outside 0 to 1.* for \d+ of 300 decisions; they were moved inside"):
        estimate = crl.TMLE(q=beyond, behavior=crl.Logit()).estimate(study, crl.Always(1))
    assert any("moved inside" in text for text in estimate.diagnostics["warnings"])


def test_tmle_of_the_natural_course_is_the_mean_outcome(naive: Naive) -> None:
    estimate = crl.TMLE(q=LINEAR, behavior=crl.Logit()).estimate(naive.data, crl.NaturalCourse())
    assert estimate.value == pytest.approx(naive.y.mean(), rel=1e-9)
    assert estimate.stderr == pytest.approx(naive.y.std(ddof=1) / math.sqrt(naive.data.n), rel=1e-9)


def test_tmle_is_refitted_under_resampling_weights(naive: Naive) -> None:
    estimate = crl.TMLE(q=LINEAR, behavior=crl.Logit()).estimate(naive.data, crl.ATE())
    assert estimate.evidence.refit_stderr(60, 0) == pytest.approx(estimate.stderr, rel=0.3)
    counts = np.random.default_rng(0).integers(0, 4, naive.data.n).astype(float)
    assert estimate.evidence.refit is not None
    again = crl.TMLE(q=LINEAR, behavior=crl.Logit()).estimate(
        naive.data.take(np.repeat(np.arange(naive.data.n), counts.astype(int))), crl.ATE()
    )
    assert estimate.evidence.refit(counts[None])[0] == pytest.approx(again.value, rel=1e-7)


def test_tmle_refuses_what_it_cannot_answer(naive: Naive, ragged: crl.Trajectories) -> None:
    with pytest.raises(EstimandError, match="sequential"):
        crl.TMLE().estimate(ragged, crl.Uniform(2))
    with pytest.raises(EstimandError, match="AIPW"):
        crl.TMLE(q=LINEAR).estimate(naive.data, crl.ATT())
    with pytest.raises(DataError, match=r"row \d+ is .* outside bounds"):
        crl.TMLE(q=LINEAR, bounds=(0.0, 1.0)).estimate(naive.data, crl.ATE())
    constant = crl.Trajectories.from_cross_section(naive.x, naive.a, np.full(naive.data.n, 2.0))
    with pytest.raises(DataError, match="every outcome is 2"):
        crl.TMLE(q=LINEAR).estimate(constant, crl.ATE())
    assert crl.TMLE(q=LINEAR, bounds=(0.0, 5.0)).estimate(constant, crl.ATE()).value == pytest.approx(0, abs=1e-9)
    never = crl.Trajectories.from_cross_section(naive.x, naive.a, naive.a * (naive.y > 1))
    with pytest.raises(EstimandError, match=r"Always\(0\) weights is one of the bounds"), pytest.warns(CausalRLWarning):
        crl.TMLE(q=LINEAR).estimate(never, crl.ATE())
    for bounds in ((1.0, 0.0), (0.0, np.nan), (0.0, 1.0, 2.0), 3):
        with pytest.raises(EstimandError, match="bounds"):
            crl.TMLE(bounds=bounds)  # type: ignore[arg-type]


# ----------------------------------------------------------------------------------------------- partially linear model


def test_the_partially_linear_model_regresses_residuals_on_residuals(naive: Naive) -> None:
    y = naive.y - LinearRegression().fit(naive.x, naive.y).predict(naive.x)
    a = naive.a - naive.e
    value = a @ y / (a @ a)
    influence = a * (y - value * a) / np.mean(a**2)
    estimate = crl.PLR(LinearRegression()).estimate(naive.frozen, crl.ATE())
    assert estimate.value == pytest.approx(value, rel=1e-9)
    np.testing.assert_allclose(estimate.influence, influence - influence.mean(), rtol=1e-7, atol=1e-9)
    assert crl.PLR(LinearRegression()).estimate(naive.frozen, crl.ATO()).value == estimate.value
    learned = crl.PLR(LinearRegression(), crl.Logit()).estimate(naive.data, crl.ATE())
    assert learned.value == pytest.approx(value, rel=1e-6)
    assert learned.stderr == pytest.approx(estimate.stderr, rel=0.05)
    assert crl.PLR(LinearRegression()).estimate(naive.frozen, crl.ATE(0, 1)).value == pytest.approx(-value, rel=1e-9)


@pytest.mark.filterwarnings("ignore:DummyRegressor:causalrl.errors.InSampleWarning")
def test_the_partially_linear_error_agrees_with_refits_where_the_outcome_model_is_wrong(naive: Naive) -> None:
    estimate = crl.PLR(DummyRegressor(), crl.Logit(), folds=1).estimate(naive.data, crl.ATE())
    assert estimate.evidence.refit_stderr(100, 0) == pytest.approx(estimate.stderr, rel=0.25)


def test_the_partially_linear_model_repeats_and_refuses(naive: Naive) -> None:
    tree = DecisionTreeRegressor(max_depth=2)
    repeats = crl.PLR(tree, crl.Logit(), repeats=3).estimate(naive.data, crl.ATE())
    assert repeats.diagnostics["folds"] == (1, 5)
    assert repeats.value == pytest.approx(1.0, abs=4 * repeats.stderr)
    with pytest.raises(EstimandError, match=r"gives no ATT.*AIPW"):
        crl.PLR(tree).estimate(naive.data, crl.ATT())
    with pytest.raises(EstimandError, match="no value of a policy"):
        crl.PLR(tree).estimate(naive.data, crl.Always(1))
    three = crl.Trajectories.from_cross_section(naive.x, np.arange(naive.data.n) % 3, naive.y)
    with pytest.raises(EstimandError, match=r"3 actions.*ATO\(1, 0\)"):
        crl.PLR(LinearRegression()).estimate(three, crl.ATE())
    assert np.isfinite(crl.PLR(LinearRegression()).estimate(three, crl.ATO(2, 0)).value)
    for wrong in ({"outcome": LogisticRegression()}, {"outcome": tree, "repeats": 2}, {"outcome": tree, "folds": 0}):
        with pytest.raises(CausalRLError):
            crl.PLR(**wrong)
    with pytest.warns(CausalRLWarning, match="predicts the trajectories it learned from"):
        crl.PLR(tree, crl.Logit(), folds=1).estimate(naive.data, crl.ATE())


# ------------------------------------------------------------------------------------------------------------ all of them

ALL_OF_THEM = (
    (crl.AIPW, {"outcome": LINEAR}, (crl.ATE(), crl.ATT(), crl.ATO(), crl.TiltedPropensity(2.0))),
    (crl.TMLE, {"q": LINEAR}, (crl.ATE(),)),
    (crl.PLR, {"outcome": LinearRegression()}, (crl.ATE(),)),
)


@pytest.mark.parametrize(("make", "arguments", "goals"), ALL_OF_THEM, ids=["AIPW", "TMLE", "PLR"])
def test_calibrated_propensities_work_everywhere(make: Any, arguments: dict[str, Any], goals: Any) -> None:
    study = Point(p=2).sample(1000, seed=0)
    name = "behavior" if make is crl.TMLE else "propensity"
    for goal in goals:
        estimate = make(**arguments, **{name: crl.Calibrated(GaussianNB())}).estimate(study, goal)
        truth = incremental_truth(2.0) if isinstance(goal, crl.TiltedPropensity) else 1.0
        assert estimate.value == pytest.approx(truth, abs=4 * estimate.stderr)
        assert estimate.diagnostics["folds"][0] == 5


@pytest.mark.parametrize(("make", "arguments", "goals"), ALL_OF_THEM, ids=["AIPW", "TMLE", "PLR"])
@pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")
def test_bad_studies_give_advice_and_never_nan(make: Any, arguments: dict[str, Any], goals: Any) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    single = np.r_[1, np.zeros(59, int)]
    name = "behavior" if make is crl.TMLE else "propensity"
    for goal in goals:
        with pytest.raises(CausalRLError):  # no treated unit in one training fold
            make(**arguments, folds=2).estimate(crl.Trajectories.from_cross_section(x, single, x[:, 0]), goal)
        with pytest.raises(SeparationError, match="separates"):
            make(**arguments).estimate(crl.Trajectories.from_cross_section(x, (x[:, 0] > 0).astype(int), x[:, 1]), goal)
        treatment = rng.integers(0, 2, 60)
        collinear = crl.Trajectories.from_cross_section(np.column_stack([x, x.sum(axis=1)]), treatment, rng.normal(size=60))
        assert np.isfinite([*make(**arguments).estimate(collinear, goal).interval()]).all()
        constant = crl.Trajectories.from_cross_section(x, treatment, np.full(60, 3.0))
        bounds = {"bounds": (0.0, 4.0)} if make is crl.TMLE else {}
        value = make(**arguments, **bounds, **{name: crl.Logit()}).estimate(constant, goal).value
        assert value == pytest.approx(3.0 if isinstance(goal, crl.TiltedPropensity) else 0.0, abs=1e-9)


def test_a_population_that_takes_one_arm_only_is_named() -> None:
    strata = np.repeat([0, 0, 1], 20)
    treatment = np.r_[np.tile([0, 1], 20), np.ones(20, int)]
    study = crl.Trajectories.from_cross_section(strata, treatment, np.arange(60.0))
    for model in (crl.TabularQ(), LINEAR):
        with pytest.warns(SupportWarning, match=r"50\.00% of the population takes one arm only"):
            estimate = crl.AIPW(model).estimate(study, crl.ATT())
        assert estimate.diagnostics["unsupported_mass"] == pytest.approx(0.5)
    controls = crl.AIPW(crl.TabularQ()).estimate(study, crl.ATC())
    assert controls.diagnostics["unsupported_mass"] == 0
    assert controls.value == pytest.approx(1.0, abs=4 * controls.stderr)


# -------------------------------------------------------------------------------------------------------- other packages


def test_statsmodels_agrees(naive: Naive) -> None:
    treatment = pytest.importorskip("statsmodels.treatment.treatment_effects")
    sm = pytest.importorskip("statsmodels.api")
    design = sm.add_constant(naive.x)
    logit_fit = sm.Logit(naive.a, design).fit(disp=0, tol=1e-12)
    effect = treatment.TreatmentEffect(sm.OLS(naive.y, design), naive.a, results_select=logit_fit)
    theirs = effect.aipw(return_results=False)
    ours = crl.AIPW(LINEAR, crl.Logit()).estimate(naive.data, crl.ATE())
    assert ours.value == pytest.approx(float(theirs[0]), abs=1e-6)
    assert crl.AIPW(LINEAR, crl.Logit()).estimate(naive.data, crl.Always(0)).value == pytest.approx(float(theirs[1]), abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_econml_agrees(naive: Naive) -> None:
    dr = pytest.importorskip("econml.dr")
    dml = pytest.importorskip("econml.dml")
    propensity = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000)
    fitted = crl.AIPW(crl.Pooled(LinearRegression()), crl.Logit(), folds=2).fit(naive.data)
    splits = [(np.flatnonzero(~fold.test), np.flatnonzero(fold.test)) for fold in fitted.nuisances.folds(2, None)]
    robust = dr.LinearDRLearner(model_propensity=propensity, model_regression=LinearRegression(), cv=splits, min_propensity=1e-9)
    robust.fit(naive.y, naive.a, W=naive.x)
    assert fitted.estimate(crl.ATE()).value == pytest.approx(float(robust.ate()), abs=1e-6)
    partial = dml.LinearDML(model_y=LinearRegression(), model_t=propensity, discrete_treatment=True, cv=splits)
    partial.fit(naive.y, naive.a, W=naive.x)
    ours = crl.PLR(LinearRegression(), crl.Logit(), folds=2).estimate(naive.data, crl.ATE())
    assert ours.value == pytest.approx(float(partial.ate()), abs=1e-6)


# --------------------------------------------------------------------------------------------------------------- coverage

REPLICATIONS = 200
NUISANCES = {"outcome": LINEAR, "propensity": crl.Logit()}
FOLDED = {**NUISANCES, "folds": 2}
TILT = crl.TiltedPropensity(3.0)
COVERED: dict[str, tuple[crl.Estimator, Any, float]] = {
    "AIPW, ATE": (crl.AIPW(**FOLDED), crl.ATE(), 1.0),
    "AIPW, ATT": (crl.AIPW(**NUISANCES), crl.ATT(), 1.0),
    "AIPW, ATO": (crl.AIPW(**FOLDED), crl.ATO(), 1.0),
    "AIPW, ATO, wrong outcome": (crl.AIPW(crl.KnownQ(lambda x, time: np.zeros((len(x), 2))), crl.Logit()), crl.ATO(), 1.0),
    "AIPW, tilt": (crl.AIPW(**NUISANCES), TILT, incremental_truth(3.0)),
    "TMLE": (crl.TMLE(q=LINEAR, behavior=crl.Logit(), folds=2), crl.ATE(), 1.0),
    "PLR": (crl.PLR(LinearRegression(), crl.Logit(), folds=2), crl.ATE(), 1.0),
}


def must_cover(name: str, covered: int) -> None:
    low, high = binom.ppf([0.0005, 0.9995], REPLICATIONS, 0.95)
    assert low <= covered <= high, f"{name}: {covered} of {REPLICATIONS}"


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::causalrl.errors.OverlapWarning", "ignore:Q predicts outcomes:causalrl.errors.CausalRLWarning"
)
@pytest.mark.parametrize("name", COVERED)
def test_coverage_on_point(name: str) -> None:
    """Confounding is by x1 and the effect varies with x2, so that every population has the effect 1."""
    estimator, goal, truth = COVERED[name]
    studies = (Point().sample(2000, seed=seed) for seed in range(REPLICATIONS))
    must_cover(name, sum(truth in estimator.estimate(study, goal).interval() for study in studies))


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::causalrl.errors.OverlapWarning", "ignore:Q predicts outcomes:causalrl.errors.CausalRLWarning"
)
def test_coverage_of_tmle_with_a_binary_outcome() -> None:
    """E[Y(0)] = E[expit(x1 / 2 - 1/2)], E[Y(1)] = E[expit((x1 + x2) / 2)] = 1/2; the linear Q is wrong."""
    v0, covered = float(WEIGHTS @ expit(NODES / 2 - 0.5)), {"difference": 0, "ratio": 0}
    for seed in range(REPLICATIONS):
        fitted = crl.TMLE(q=LINEAR, behavior=crl.Logit()).fit(binary(2000, seed)[0])
        treated, control = fitted.estimate(crl.Always(1)), fitted.estimate(crl.Always(0))
        covered["difference"] += 0.5 - v0 in (treated - control).interval()
        covered["ratio"] += 0.5 / v0 in (treated / control).interval()
    for name, count in covered.items():
        must_cover(name, count)
