"""Weighted effects in tilted populations, entropy balancing and CBPS: naive solutions, stacked sandwiches, published numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize, root
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

import causalrl as crl
from causalrl.checks import Floats
from causalrl.errors import DataError, EstimandError, EstimatedBehaviorWarning, SeparationError, SupportError
from simulators import Point
from tests.conftest import cross_section, ragged_data

STUDY = cross_section(300, seed=4)
X, A, Y = STUDY.observations, STUDY.actions, STUDY.rewards
Z = np.column_stack([np.ones(len(X)), X])
TREATED, CONTROL, ALL = A == 1, A == 0, np.ones(len(A), bool)
EFFECTS: dict[str, Any] = {"ATT": crl.ATT(), "ATC": crl.ATC(), "ATO": crl.ATO(), "ATM": crl.ATM()}
TILTS: dict[str, Callable[[Floats], Floats]] = {
    "ATE": lambda e: np.ones_like(e),
    "ATT": lambda e: e,
    "ATC": lambda e: 1 - e,
    "ATO": lambda e: e * (1 - e),
    "ATM": lambda e: np.minimum(e, 1 - e),
}
GOALS: dict[str, Any] = {"ATE": crl.ATE(), **EFFECTS}


def logit_coefficients() -> Floats:
    """Maximum likelihood by a general root finder."""
    return root(lambda b: Z.T @ (A - expit(Z @ b)), np.zeros(3), tol=1e-13).x


def arm_equations(weights: Floats, means: Floats) -> Floats:
    return np.column_stack([A * weights * (Y - means[0]), (1 - A) * weights * (Y - means[1])])


def sandwich(psi: Callable[[Floats], Floats], theta: Floats, direction: Floats) -> tuple[float, Floats]:
    """Standard error (n - 1) and influence of direction'theta, from estimating functions (n, k) and a numerical Jacobian."""
    n, step = len(psi(theta)), 1e-5
    assert np.abs(psi(theta).mean(axis=0)).max() < 1e-9
    jacobian = np.empty((len(theta), len(theta)))
    for j in range(len(theta)):
        move = np.zeros(len(theta))
        move[j] = step
        jacobian[:, j] = (psi(theta + move) - psi(theta - move)).mean(axis=0) / (2 * step)
    influence = -psi(theta) @ np.linalg.inv(jacobian).T @ direction
    return float(np.sqrt(np.sum(influence**2) / (n - 1) / n)), influence


# ----------------------------------------------------------------------------------------------- tilted populations, logit


@pytest.mark.parametrize("name", TILTS)
def test_hajek_by_a_stacked_numerical_sandwich(name: str) -> None:
    def weights(b: Floats) -> Floats:
        e = expit(Z @ b)
        return TILTS[name](e) / np.where(A == 1, e, 1 - e)

    def psi(theta: Floats) -> Floats:
        score = Z * (A - expit(Z @ theta[2:]))[:, None]
        return np.column_stack([arm_equations(weights(theta[2:]), theta[:2]), score])

    b = logit_coefficients()
    means = [np.average(Y[own], weights=weights(b)[own]) for own in (TREATED, CONTROL)]
    error, influence = sandwich(psi, np.array([*means, *b]), np.array([1.0, -1, 0, 0, 0]))
    estimate = crl.IPW(crl.Logit()).estimate(STUDY, GOALS[name])
    assert estimate.value == pytest.approx(means[0] - means[1], abs=1e-9)
    assert estimate.stderr == pytest.approx(error, rel=1e-6)
    np.testing.assert_allclose(estimate.influence, influence, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", EFFECTS)
def test_horvitz_thompson_by_a_stacked_numerical_sandwich(name: str) -> None:
    def parts(b: Floats) -> tuple[Floats, Floats]:
        e = expit(Z @ b)
        return TILTS[name](e), A * Y / e - (1 - A) * Y / (1 - e)

    def psi(theta: Floats) -> Floats:
        h, contrast = parts(theta[1:])
        return np.column_stack([h * contrast - theta[0] * h, Z * (A - expit(Z @ theta[1:]))[:, None]])

    b = logit_coefficients()
    h, contrast = parts(b)
    value = (h * contrast).mean() / h.mean()
    error, influence = sandwich(psi, np.array([value, *b]), np.eye(4)[0])
    estimate = crl.IPW(crl.Logit(), normalized=False).estimate(STUDY, EFFECTS[name])
    assert estimate.value == pytest.approx(value, abs=1e-9)
    assert estimate.stderr == pytest.approx(error, rel=1e-6)
    np.testing.assert_allclose(estimate.influence, influence, rtol=1e-6, atol=1e-6)
    assert estimate.value != crl.IPW(crl.Logit()).estimate(STUDY, EFFECTS[name]).value


@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.parametrize("truncate", [None, 1.1])
@pytest.mark.parametrize("normalized", [True, False])
def test_the_influence_is_the_derivative_of_the_whole_estimate(name: str, truncate: float | None, normalized: bool) -> None:
    """Counts on strata, weights bounded or not: a pseudo-jackknife in the weight of each unit."""
    rng = np.random.default_rng(0)
    strata = rng.integers(0, 3, 80)
    treatment = (rng.random(80) < np.array([0.3, 0.45, 0.8])[strata]).astype(int)
    outcome = rng.normal(size=80) + strata
    study = crl.Trajectories.from_cross_section(strata, treatment, outcome)
    estimate = (crl.WIS if normalized else crl.IS)(truncate=truncate).estimate(study, EFFECTS[name])

    def value(omega: Floats) -> float:
        total = np.bincount(strata, omega, 3)
        e = (np.bincount(strata, omega * treatment, 3) / total)[strata]
        h, own = TILTS[name](e), np.where(treatment == 1, e, 1 - e)
        w = omega * np.minimum(h / own, math.inf if truncate is None else truncate)
        if not normalized:
            return float(np.sum(w * np.where(treatment == 1, outcome, -outcome)) / np.sum(omega * h))
        return float(np.subtract(*(np.average(outcome[treatment == a], weights=w[treatment == a]) for a in (1, 0))))

    ones, step = np.ones(80), 1e-6
    slopes = [(value(ones + step * unit) - value(ones - step * unit)) / (2 * step) * 80 for unit in np.eye(80)]
    assert estimate.value == pytest.approx(value(ones), abs=1e-12)
    np.testing.assert_allclose(estimate.influence, slopes, rtol=1e-6, atol=1e-6)


def test_truncation_of_a_tilt_is_reported() -> None:
    bounded = crl.WIS(crl.Logit(), truncate=1.5).estimate(STUDY, crl.ATT())
    e = expit(Z @ logit_coefficients())
    weights = np.where(A == 1, 1.0, e / (1 - e))
    removed = 1 - np.minimum(weights, 1.5).sum() / weights.sum()
    assert bounded.diagnostics["truncated"] == pytest.approx((1.5, np.mean(weights > 1.5), removed), abs=1e-9)
    assert bounded.diagnostics["max_weight"] == 1.5
    assert crl.WIS(crl.Logit()).estimate(STUDY, crl.ATT()).diagnostics["truncated"] is None


def test_overlap_weights_balance_every_covariate_of_a_logit_exactly() -> None:
    """Li, Morgan & Zaslavsky (2018), theorem 3."""
    estimate = crl.IPW(crl.Logit()).estimate(STUDY, crl.ATO())
    assert np.abs(estimate.diagnostics["smd_before"]).max() > 0.3
    assert np.abs(estimate.diagnostics["smd_after"]).max() < 1e-12


def test_per_decision_estimators_are_the_same_at_one_decision() -> None:
    for plain, by_decision in ((crl.IS(), crl.PDIS()), (crl.WIS(), crl.PDWIS())):
        one, other = plain.estimate(STUDY, crl.ATT()), by_decision.estimate(STUDY, crl.ATT())
        assert (one.value, one.stderr) == (other.value, other.stderr)


def test_arms_may_be_named_the_other_way_round() -> None:
    for goal, other in ((crl.ATT(), crl.ATC(0, 1)), (crl.ATO(), crl.ATO(0, 1))):
        assert crl.IPW().estimate(STUDY, goal).value == pytest.approx(-crl.IPW().estimate(STUDY, other).value, abs=1e-8)
    with pytest.raises(EstimandError, match=r"behavior: .* numbered anew"):
        crl.IPW(crl.KnownPropensity(crl.Uniform(2))).estimate(STUDY, crl.ATT(0, 1))
    with pytest.raises(EstimandError, match=r"q: .* numbered anew"):
        crl.AIPW(crl.KnownQ(lambda x, t: np.zeros((len(x), 2)))).estimate(STUDY, crl.ATT(0, 1))


def test_known_propensities_need_no_correction() -> None:
    study = crl.Trajectories.from_cross_section(X, A, Y, propensity=np.where(A == 1, 0.4, 0.6))
    estimate = crl.IPW().estimate(study, crl.ATT())
    assert estimate.value == pytest.approx(Y[A == 1].mean() - Y[A == 0].mean(), abs=1e-12)
    assert estimate.fixed_nuisances
    influence = A * (Y - Y[A == 1].mean()) / A.mean() - (1 - A) * (Y - Y[A == 0].mean()) / (1 - A).mean()
    np.testing.assert_allclose(estimate.influence, influence, atol=1e-12)


def test_a_classifier_leaves_its_uncertainty_out_and_says_so() -> None:
    with pytest.warns(EstimatedBehaviorWarning, match="as known"):
        estimate = crl.IPW(LogisticRegression()).estimate(STUDY, crl.ATO())
    assert estimate.diagnostics["folds"] == (5, None)


# ------------------------------------------------------------------------------------- entropy balancing and CBPS, naively


def naive_tilt(arm: Floats, towards: Floats) -> Floats:
    """Hainmueller's dual by a general optimiser: log sum_arm exp(x'b) - mean_towards x'b; weights that sum to 1 in the arm."""
    target = X[towards].mean(axis=0)

    def dual(b: Floats) -> tuple[float, Floats]:
        eta = (X[arm] - target) @ b
        w = np.exp(eta - eta.max())
        return float(np.log(w.sum()) + eta.max()), (w / w.sum()) @ (X[arm] - target)

    b = minimize(dual, np.zeros(2), jac=True, method="BFGS", options={"gtol": 1e-11}).x
    w = np.exp((X[arm] - target) @ b)
    return np.asarray(w / w.sum())


@pytest.mark.parametrize(("name", "towards"), [("ATE", ALL), ("ATT", TREATED), ("ATC", CONTROL)])
@pytest.mark.parametrize("weights", [crl.EntropyBalancing(), crl.CBPS()])
def test_entropy_balancing_by_a_general_optimiser(name: str, towards: Floats, weights: Any) -> None:
    """CBPS of one arm towards the other solves the same equations as entropy balancing (Zhao & Percival 2017)."""
    if name == "ATE" and weights == crl.CBPS():
        pytest.skip("an equation of its own, below")
    naive = [naive_tilt(arm, towards) @ Y[arm] for arm in (TREATED, CONTROL)]
    estimate = crl.IPW(weights=weights).estimate(STUDY, GOALS[name])
    assert estimate.value == pytest.approx(naive[0] - naive[1], abs=1e-8)
    assert np.abs(estimate.diagnostics["smd_after"]).max() < 1e-12


def cbps_coefficients() -> Floats:
    return root(lambda b: Z.T @ (A / expit(Z @ b) - (1 - A) / expit(-Z @ b)), logit_coefficients(), tol=1e-13).x


def test_cbps_by_a_general_root_finder() -> None:
    e = expit(Z @ cbps_coefficients())
    estimate = crl.IPW(weights=crl.CBPS()).estimate(STUDY, crl.ATE())
    naive = np.average(Y, weights=A / e) - np.average(Y, weights=(1 - A) / (1 - e))
    assert estimate.value == pytest.approx(naive, abs=1e-9)
    assert estimate.diagnostics["max_weight"] == pytest.approx(float((1 / np.where(A == 1, e, 1 - e)).max()), rel=1e-8)
    assert np.abs(estimate.diagnostics["smd_after"]).max() < 1e-12


@pytest.mark.parametrize("name", ["ATE", "ATT", "ATC"])
def test_entropy_balancing_by_a_stacked_numerical_sandwich(name: str) -> None:
    """Means, two tilts and the population's covariate means, all stacked."""
    towards = {"ATE": ALL, "ATT": TREATED, "ATC": CONTROL}[name].astype(float)

    def psi(theta: Floats) -> Floats:
        means, one, zero, target = theta[:2], theta[2:4], theta[4:6], theta[6:]
        away = X - target
        w = np.where(A == 1, np.exp(away @ one), np.exp(away @ zero))
        tilts = [(arm * w)[:, None] * away for arm in (A, 1 - A)]
        return np.column_stack([arm_equations(w, means), *tilts, towards[:, None] * away])

    start = np.concatenate([np.zeros(6), X[towards > 0].mean(axis=0)])
    theta = root(lambda t: psi(t).mean(axis=0), start, tol=1e-13).x
    error, influence = sandwich(psi, theta, np.array([1.0, -1, *np.zeros(6)]))
    estimate = crl.IPW(weights=crl.EntropyBalancing()).estimate(STUDY, GOALS[name])
    assert estimate.value == pytest.approx(theta[0] - theta[1], abs=1e-9)
    assert estimate.stderr == pytest.approx(error, rel=1e-6)
    np.testing.assert_allclose(estimate.influence, influence, rtol=1e-6, atol=1e-6)


def test_cbps_by_a_stacked_numerical_sandwich() -> None:
    def psi(theta: Floats) -> Floats:
        e = expit(Z @ theta[2:])
        w = 1 / np.where(A == 1, e, 1 - e)
        return np.column_stack([arm_equations(w, theta[:2]), Z * (np.where(A == 1, w, -w))[:, None]])

    b = cbps_coefficients()
    e = expit(Z @ b)
    means = np.average(Y, weights=A / e), np.average(Y, weights=(1 - A) / (1 - e))
    error, influence = sandwich(psi, np.array([*means, *b]), np.array([1.0, -1, 0, 0, 0]))
    estimate = crl.IPW(weights=crl.CBPS()).estimate(STUDY, crl.ATE())
    assert estimate.stderr == pytest.approx(error, rel=1e-6)
    np.testing.assert_allclose(estimate.influence, influence, rtol=1e-6, atol=1e-6)


@pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning")
def test_several_arms() -> None:
    study = cross_section(400, seed=2, arms=3)
    balanced = crl.IPW(weights=crl.EntropyBalancing())
    effects = [balanced.estimate(study, crl.ATE(arm, 0)) for arm in (1, 2)]
    assert all(np.abs(effect.diagnostics["smd_after"]).max() < 1e-10 for effect in effects)
    values = [balanced.estimate(study, crl.Always(arm)).value for arm in (0, 1, 2)]
    assert effects[1].value == pytest.approx(values[2] - values[0], abs=1e-12)
    pair = np.isin(study.actions, (0, 2))
    two = crl.Trajectories.from_cross_section(study.observations[pair], study.actions[pair] // 2, study.rewards[pair])
    assert balanced.estimate(study, crl.ATT(2, 0)).value == pytest.approx(balanced.estimate(two, crl.ATT()).value, abs=1e-9)
    with pytest.raises(EstimandError, match=r"CBPS\(\).*EntropyBalancing"):
        crl.IPW(weights=crl.CBPS()).estimate(study, crl.ATE())


def test_a_formula_is_what_is_balanced() -> None:
    formula = "age + I(age**2) + age:severity"
    weights = np.zeros(len(A))
    for arm in (TREATED, CONTROL):
        columns = np.column_stack([X[:, 0], X[:, 0] ** 2, X[:, 0] * X[:, 1]])
        own = crl.EntropyBalancing(formula).fit(STUDY.steps(), np.ones(len(A)), int(A[arm][0]), ALL).weights
        np.testing.assert_allclose(own @ columns / own.sum(), columns.mean(axis=0), atol=1e-10)
        assert own.sum() == pytest.approx(len(A))
        weights += own
    estimate = crl.IPW(weights=crl.EntropyBalancing(formula)).estimate(STUDY, crl.ATE())
    contrast = np.average(Y[TREATED], weights=weights[TREATED]) - np.average(Y[CONTROL], weights=weights[CONTROL])
    assert estimate.value == pytest.approx(contrast, abs=1e-12)


def test_constant_and_collinear_covariates_change_nothing() -> None:
    more = np.column_stack([X, np.full(len(A), 7.0), X[:, 0] + 2 * X[:, 1]])
    study = crl.Trajectories.from_cross_section(more, A, Y)
    for weights in (crl.EntropyBalancing(), crl.CBPS()):
        for goal in (crl.ATE(), crl.ATT()):
            lean, full = (crl.IPW(weights=weights).estimate(data, goal) for data in (STUDY, study))
            assert full.value == pytest.approx(lean.value, abs=1e-9)
            assert full.stderr == pytest.approx(lean.stderr, rel=1e-8)


def test_a_column_that_varies_among_the_treated_only_in_a_direction_met_anyway() -> None:
    """Equal columns among the controls have no curvature there, and the treated means are equal too: the tilt exists."""
    twin = X[:, 0].copy()
    first = np.flatnonzero(TREATED)[:2]
    twin[first] += [1.0, -1.0]
    study = crl.Trajectories.from_cross_section(np.column_stack([X, twin]), A, Y)
    estimate, lean = (crl.IPW(weights=crl.EntropyBalancing()).estimate(data, crl.ATT()) for data in (study, STUDY))
    assert estimate.value == pytest.approx(lean.value, abs=1e-8)


def test_strata_are_post_stratified() -> None:
    rng = np.random.default_rng(1)
    strata, outcome = rng.integers(0, 3, 200), rng.normal(size=200)
    treatment = (rng.random(200) < np.array([0.3, 0.5, 0.7])[strata]).astype(int)
    study = crl.Trajectories.from_cross_section(strata, treatment, outcome + strata)
    counted = crl.IPW(crl.Counts()).estimate(study, crl.ATE())
    for weights in (crl.EntropyBalancing(), crl.CBPS()):
        estimate = crl.IPW(weights=weights).estimate(study, crl.ATE())
        assert estimate.value == pytest.approx(counted.value, abs=1e-10)
        assert estimate.stderr == pytest.approx(counted.stderr, rel=1e-8)


# --------------------------------------------------------------------------------------------------- refits and clusters


@pytest.mark.parametrize(
    ("estimator", "goal"),
    [
        (crl.IPW(weights=crl.EntropyBalancing()), crl.ATE()),
        (crl.IPW(weights=crl.EntropyBalancing()), crl.ATT()),
        (crl.IPW(weights=crl.CBPS()), crl.ATE()),
        (crl.IPW(), crl.ATO()),
        (crl.IPW(normalized=False), crl.ATT()),
    ],
)
def test_a_refit_is_the_estimate_on_the_repeated_rows(estimator: Any, goal: Any) -> None:
    counts = np.random.default_rng(3).integers(0, 4, len(A))
    rows = np.repeat(np.arange(len(A)), counts)
    repeated = crl.Trajectories.from_cross_section(X[rows], A[rows], Y[rows])
    estimate = estimator.estimate(STUDY, goal)
    refit = estimate.evidence.refit(np.stack([counts.astype(float), np.ones(len(A))]))
    assert refit == pytest.approx([estimator.estimate(repeated, goal).value, estimate.value], abs=1e-8)
    spread = estimate.evidence.refit_stderr(100, 0)
    assert spread == pytest.approx(estimate.stderr, rel=0.35)  # 5 standard deviations of a standard error from 100 draws


def test_clusters_widen_the_error_as_copies_do() -> None:
    """Every unit twice in one cluster: the value and the error of the study itself."""
    rows = np.repeat(np.arange(len(A)), 2)
    doubled = crl.Trajectories.from_arrays(X[rows], A[rows], Y[rows], np.arange(len(rows) + 1), clusters=rows)
    for estimator in (crl.IPW(weights=crl.EntropyBalancing()), crl.IPW(weights=crl.CBPS()), crl.IPW()):
        for goal in (crl.ATE(), crl.ATT()):
            single, twice = estimator.estimate(STUDY, goal), estimator.estimate(doubled, goal)
            assert twice.value == pytest.approx(single.value, abs=1e-9)
            assert twice.stderr == pytest.approx(single.stderr, rel=1e-8)


# ---------------------------------------------------------------------------------------------------------------- questions


BALANCED = (crl.IPW(weights=crl.EntropyBalancing()), crl.IPW(weights=crl.CBPS()))


@pytest.mark.parametrize("estimator", BALANCED)
def test_questions_it_cannot_answer(estimator: Any) -> None:
    for goal in (crl.ATO(), crl.ATM()):
        with pytest.raises(EstimandError, match=r"gives no AT[OM].*IPW\(\)"):
            estimator.estimate(STUDY, goal)
    with pytest.raises(EstimandError, match=r"values of arms.*WIS\(\)"):
        estimator.estimate(STUDY, crl.Uniform(2))
    for goal in (crl.ATE(), crl.Always(1), crl.ATT()):
        with pytest.raises(EstimandError, match="sequential"):
            estimator.estimate(ragged_data(), goal)
    with pytest.raises(EstimandError, match="sequential"):
        crl.IPW().estimate(ragged_data(), crl.ATT())


def test_weights_take_the_place_of_propensities() -> None:
    weights = crl.EntropyBalancing()
    with pytest.raises(EstimandError, match="leave out propensity"):
        crl.IPW(crl.Logit(), weights=weights)
    with pytest.raises(EstimandError, match="leave out normalized=False"):
        crl.IPW(normalized=False, weights=weights)
    with pytest.raises(EstimandError, match="leave out folds"):
        crl.IPW(folds=2, weights=weights)
    with pytest.raises(EstimandError, match=r"pass EntropyBalancing\(\)"):
        crl.IPW(weights="entropy")  # type: ignore[arg-type]
    with pytest.raises(EstimandError, match=r"pass EntropyBalancing\(\)"):
        crl.BalancedMean(crl.EntropyBalancing)  # type: ignore[arg-type]
    assert str(crl.IPW(weights=crl.CBPS("age"))) == "BalancedMean(weights=CBPS(formula=age))"


# ---------------------------------------------------------------------------------------------------------------- bad input


def test_perfect_separation_names_the_covariate() -> None:
    apart = np.column_stack([X[:, 1], np.where(A == 1, 10.0, 0.0) + np.abs(X[:, 0])])
    study = crl.Trajectories.from_cross_section(apart, A, Y, feature_names=["severity", "dose"])
    for goal in (crl.ATE(), crl.ATT(), crl.ATC()):
        with pytest.raises(SupportError, match=r"balance dose, which lies between .*Drop or coarsen"):
            crl.IPW(weights=crl.EntropyBalancing()).estimate(study, goal)
        with pytest.raises(SeparationError, match="balances dose"):
            crl.IPW(weights=crl.CBPS()).estimate(study, goal)
    with pytest.raises(SeparationError, match="dose"):
        crl.IPW().estimate(study, crl.ATO())


def test_a_mean_on_the_edge_is_refused() -> None:
    """A level that only the treated have: no positive weights of the treated give it the controls' mean, 0."""
    level = np.zeros(len(A))
    level[np.flatnonzero(TREATED)[:5]] = 1.0
    study = crl.Trajectories.from_cross_section(np.column_stack([X, level]), A, Y, feature_names=["age", "severity", "rare"])
    for goal in (crl.ATE(), crl.ATT(), crl.ATC()):
        with pytest.raises(SupportError, match="rare"):
            crl.IPW(weights=crl.EntropyBalancing()).estimate(study, goal)


def test_a_hull_missed_in_no_single_column() -> None:
    """The controls lie on x1 + x2 = 0, the treated off it."""
    rng = np.random.default_rng(0)
    x1 = rng.normal(size=100)
    arm = np.arange(100) % 2
    study = crl.Trajectories.from_cross_section(np.column_stack([x1, arm - x1]), arm, x1)
    with pytest.raises(SupportError, match="combination of covariates led by x"):
        crl.IPW(weights=crl.EntropyBalancing()).estimate(study, crl.ATT())


@pytest.mark.parametrize("estimator", [*BALANCED, crl.IPW()])
def test_an_empty_arm(estimator: Any) -> None:
    one = crl.Trajectories.from_arrays(X, np.ones(len(A), int), Y, np.arange(len(A) + 1), n_actions=2)
    for goal in (crl.ATE(), crl.ATT()):
        with pytest.raises(EstimandError, match="arm 0 never occurs"):
            estimator.estimate(one, goal)


def test_a_formula_without_intercept_or_with_strange_columns() -> None:
    with pytest.raises(DataError, match="no intercept"):
        crl.IPW(weights=crl.EntropyBalancing("age - 1")).estimate(STUDY, crl.ATE())
    with pytest.raises(DataError, match=r"formula.*the columns are age, severity"):
        crl.IPW(weights=crl.CBPS("height")).estimate(STUDY, crl.ATE())
    with pytest.raises(SupportError, match="an arm has no weight"):
        crl.IPW(crl.KnownPropensity(crl.TabularPolicy([[0.0, 1.0], [1.0, 0.0]]))).estimate(
            crl.Trajectories.from_cross_section([0, 0, 1, 1], [1, 1, 0, 0], [0.0, 1.0, 2.0, 1.0]), crl.ATT()
        )


# ----------------------------------------------------------------------------------------------- real data, other packages


def test_nhefs_is_balanced_exactly() -> None:
    nhefs = crl.datasets.nhefs()
    for goal in (crl.ATE(), crl.ATT(), crl.ATC()):
        for weights in (crl.EntropyBalancing(), crl.CBPS()):
            estimate = crl.IPW(weights=weights).estimate(nhefs, goal)
            assert np.abs(estimate.diagnostics["smd_after"]).max() < 1e-8
            assert 3.2 < estimate.value < 3.6


def test_overlap_weighting_of_nhefs_is_g_estimation() -> None:
    """By the logit score, sum w Y / sum w with w = |A - e| is sum Y (A - e) / sum A (A - e): 3.4611486 (What If, 14.5)."""
    formula = "sex + race + C(education) + C(exercise) + C(active)"
    formula += "".join(f" + {x} + I({x}**2)" for x in ("age", "smokeintensity", "smokeyrs", "wt71"))
    estimate = crl.IPW(crl.Logit(formula)).estimate(crl.datasets.nhefs(), crl.ATO())
    assert estimate.value == pytest.approx(3.4611486, abs=1e-6)


@pytest.mark.parametrize(("name", "group"), [("ATE", "all"), ("ATT", 1), ("ATC", 0)])
def test_statsmodels_gives_the_same_values_and_errors(name: str, group: Any) -> None:
    """`TreatmentEffect.ipw` divides by the sum of the weights (Hajek), and its stacked variance by n where ours is by n - 1."""
    import statsmodels.api as sm
    from statsmodels.treatment.treatment_effects import TreatmentEffect

    logit = sm.Logit(A, Z).fit(disp=0, tol=1e-12)
    theirs = TreatmentEffect(sm.OLS(Y, Z), A, results_select=logit).ipw(effect_group=group)
    estimate, n = crl.IPW(crl.Logit()).estimate(STUDY, GOALS[name]), len(A)
    assert estimate.value == pytest.approx(float(theirs.effect[0]), abs=1e-6)
    assert estimate.stderr == pytest.approx(float(theirs.results_gmm.bse[0]) * math.sqrt(n / (n - 1)), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "goal"),
    [
        (crl.IPW(weights=crl.EntropyBalancing()), crl.ATE()),
        (crl.IPW(weights=crl.EntropyBalancing()), crl.ATT()),
        (crl.IPW(weights=crl.CBPS()), crl.ATE()),
        (crl.IPW(), crl.ATT()),
        (crl.IPW(), crl.ATO()),
        (crl.IPW(), crl.ATM()),
        (crl.IPW(normalized=False), crl.ATC()),
    ],
)
def test_coverage_on_point(estimator: Any, goal: Any) -> None:
    """The effect, 1 + x2, is independent of x1 and so of e: it averages 1 in every tilted population."""
    replications = 200
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crl.errors.OverlapWarning)
        estimates = [estimator.estimate(Point().sample(2_000, seed=s), goal) for s in range(replications)]
    covered = np.mean([1.0 in estimate.interval() for estimate in estimates])
    assert abs(covered - 0.95) <= 4 * math.sqrt(0.95 * 0.05 / replications)
    errors, values = [e.stderr for e in estimates], [e.value for e in estimates]
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)  # 4 standard deviations of a standard deviation
