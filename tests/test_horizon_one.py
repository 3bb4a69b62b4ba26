"""Horizon 1: every estimator against its textbook formula, and the stacked correction against naive M-estimation.

Every formula is written here with plain loops; nothing of the package but its public calls is used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

import causalrl as crl

# A table of Q is cross-fitted unless one asks for the textbook's single fold, which says so.
pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.InSampleWarning")

Rows = list[list[float]]


# ---------------------------------------------------------------------------------------------------------------- the data


def strata_study(n: int = 240, seed: int = 1) -> tuple[crl.Trajectories, Rows]:
    """Integer strata, two arms, known propensities (n, 2)."""
    rng = np.random.default_rng(seed)
    s = rng.integers(0, 4, n)
    p1 = np.array([0.3, 0.5, 0.7, 0.4])[s]
    a = (rng.random(n) < p1).astype(int)
    y = 1.0 + s + a * (0.5 - 0.3 * s) + rng.normal(size=n)
    return crl.Trajectories.from_cross_section(s, a, y, propensity=p1), [[1 - p, p] for p in p1]


def vector_study(n: int = 240, seed: int = 2, arms: int = 2) -> tuple[crl.Trajectories, Rows]:
    """Two covariates, known propensities (n, arms)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    eta = np.column_stack([0.2 * k + 0.5 * k * x[:, 0] - 0.3 * k * x[:, 1] for k in range(arms)])
    p = np.exp(eta) / np.exp(eta).sum(axis=1, keepdims=True)
    a = np.array([rng.choice(arms, p=row) for row in p])
    y = x[:, 0] + 0.5 * x[:, 1] ** 2 + a * (1 + x[:, 1]) + rng.normal(size=n)
    return crl.Trajectories.from_cross_section(x, a, y, propensity=p), p.tolist()


def logistic_target(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-0.4 + 0.8 * x[:, 0]))
    return np.column_stack([1 - p, p])


TABLE = [[0.2, 0.8], [0.6, 0.4], [0.5, 0.5], [0.9, 0.1]]


def target_rows(data: crl.Trajectories, which: str) -> Rows:
    """pi(a | x_i) written out."""
    if which == "always 0":
        return [[1.0, 0.0] for _ in range(data.n)]
    if which == "always 1":
        return [[0.0, 1.0] for _ in range(data.n)]
    if data.tabular:
        return [TABLE[s] for s in data.observations]
    out = []
    for x in data.observations:
        p = 1 / (1 + math.exp(-0.4 + 0.8 * x[0]))
        out.append([1 - p, p])
    return out


def policy_of(data: crl.Trajectories, which: str) -> Any:
    named = {"always 0": crl.Always(0), "always 1": crl.Always(1)}
    return named.get(which) or (crl.TabularPolicy(TABLE) if data.tabular else crl.PolicyValue(logistic_target, horizon=1))


STUDIES = {"strata": strata_study, "vectors": vector_study}
TARGETS = ["always 0", "always 1", "stochastic"]


# ------------------------------------------------------------------------------------------------------ textbook formulas


def standard_error(influence: list[float]) -> float:
    """Sample standard deviation of the influence values over sqrt(n)."""
    n = len(influence)
    middle = sum(influence) / n
    return math.sqrt(sum((u - middle) ** 2 for u in influence) / (n - 1) / n)


def ratios(data: crl.Trajectories, pi: Rows, p: Rows) -> list[float]:
    return [pi[i][a] / p[i][a] for i, a in enumerate(data.actions)]


def horvitz_thompson(w: list[float], y: list[float]) -> tuple[float, list[float]]:
    terms = [wi * yi for wi, yi in zip(w, y, strict=True)]
    value = sum(terms) / len(terms)
    return value, [term - value for term in terms]


def hajek(w: list[float], y: list[float]) -> tuple[float, list[float]]:
    value = sum(wi * yi for wi, yi in zip(w, y, strict=True)) / sum(w)
    mean_weight = sum(w) / len(w)
    return value, [wi * (yi - value) / mean_weight for wi, yi in zip(w, y, strict=True)]


def augmented(w: list[float], y: list[float], q: Rows, pi: Rows, a: Any, *, normalized: bool) -> tuple[float, list[float]]:
    """AIPW: the g-formula plus the weighted residuals, Horvitz-Thompson or Hajek."""
    n = len(w)
    v = [sum(pi[i][k] * q[i][k] for k in range(len(pi[i])) if pi[i][k] > 0) for i in range(n)]
    residual = [y[i] - q[i][a[i]] for i in range(n)]
    mean_v = sum(v) / n
    correction, influence = (hajek if normalized else horvitz_thompson)(w, residual)
    return mean_v + correction, [v[i] - mean_v + influence[i] for i in range(n)]


def least_squares(rows: Rows, y: list[float]) -> np.ndarray:
    return np.linalg.lstsq(np.array(rows), np.array(y), rcond=None)[0]


def cell_means(data: crl.Trajectories) -> Rows:
    total: dict[tuple[int, int], float] = {}
    count: dict[tuple[int, int], int] = {}
    for s, a, y in zip(data.observations, data.actions, data.rewards, strict=True):
        total[s, a] = total.get((s, a), 0.0) + y
        count[s, a] = count.get((s, a), 0) + 1
    return [[total[s, a] / count[s, a] for a in range(data.n_actions)] for s in data.observations]


def features_of(data: crl.Trajectories) -> Rows:
    if not data.tabular:
        return [[float(v) for v in x] for x in data.observations]
    return [[1.0 if s == k else 0.0 for k in range(data.n_states)] for s in data.observations]


def regression_each_arm(data: crl.Trajectories) -> Rows:
    features = features_of(data)
    theta = []
    for arm in range(data.n_actions):
        rows = [[1.0, *features[i]] for i in range(data.n) if data.actions[i] == arm]
        theta.append(least_squares(rows, [data.rewards[i] for i in range(data.n) if data.actions[i] == arm]))
    return [[float(np.dot(theta[arm], [1.0, *x])) for arm in range(data.n_actions)] for x in features]


def regression_pooled(data: crl.Trajectories) -> Rows:
    features = features_of(data)

    def row(x: list[float], arm: int) -> list[float]:
        return [1.0, *x, *(1.0 if arm == k else 0.0 for k in range(1, data.n_actions))]

    theta = least_squares([row(features[i], data.actions[i]) for i in range(data.n)], list(data.rewards))
    return [[float(np.dot(theta, row(x, arm))) for arm in range(data.n_actions)] for x in features]


MODELS: dict[str, tuple[Any, Callable[[crl.Trajectories], Rows], list[str]]] = {
    "TabularQ": (crl.TabularQ(), cell_means, ["strata"]),
    "LinearQ": (crl.LinearQ(), regression_each_arm, ["strata", "vectors"]),
    "PerAction": (crl.PerAction(LinearRegression()), regression_each_arm, ["strata", "vectors"]),
    "Pooled": (crl.Pooled(LinearRegression()), regression_pooled, ["strata", "vectors"]),
}
PAIRS = [(study, model) for model, (_, _, studies) in MODELS.items() for study in studies]


def close(value: float, expected: float, tolerance: float = 1e-12) -> None:
    assert value == pytest.approx(expected, rel=tolerance, abs=tolerance)


def agree(estimate: crl.Estimate, value: float, influence: list[float]) -> None:
    close(estimate.value, value)
    close(estimate.stderr, standard_error(influence))
    np.testing.assert_allclose(estimate.influence, influence, rtol=1e-11, atol=1e-11)


# -------------------------------------------------------------------------------------------------- weighting and baseline


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("study", STUDIES)
def test_weighting_is_horvitz_thompson_and_hajek(study: str, target: str) -> None:
    data, p = STUDIES[study]()
    w, y = ratios(data, target_rows(data, target), p), list(data.rewards)
    goal = policy_of(data, target)
    for estimator in (crl.IS(), crl.PDIS(), crl.IPW(normalized=False)):
        agree(estimator.estimate(data, goal), *horvitz_thompson(w, y))
    for estimator in (crl.WIS(), crl.PDWIS(), crl.IPW()):
        agree(estimator.estimate(data, goal), *hajek(w, y))
    kish = sum(w) ** 2 / sum(wi**2 for wi in w)
    for estimator in (crl.IS(), crl.WIS(), crl.PDWIS()):
        diagnostics = estimator.estimate(data, goal).diagnostics
        close(diagnostics["ess"], kish)
        close(diagnostics["max_weight"], max(w))
        close(diagnostics["largest_share"], max(w) / sum(w))


@pytest.mark.parametrize("study", STUDIES)
def test_average_treatment_effect_is_the_difference_of_the_arms(study: str) -> None:
    data, p = STUDIES[study]()
    y = list(data.rewards)
    for estimator, formula in ((crl.IS(), horvitz_thompson), (crl.WIS(), hajek)):
        arms = [formula(ratios(data, target_rows(data, f"always {arm}"), p), y) for arm in (0, 1)]
        agree(
            estimator.estimate(data, crl.ATE()),
            arms[1][0] - arms[0][0],
            [one - zero for one, zero in zip(arms[1][1], arms[0][1], strict=True)],
        )
    # The textbook's own words: sum (T Y / e) / sum (T / e) - sum ((1 - T) Y / (1 - e)) / sum ((1 - T) / (1 - e)).
    top1 = sum(t * yi / pi[1] for t, yi, pi in zip(data.actions, y, p, strict=True))
    top0 = sum((1 - t) * yi / pi[0] for t, yi, pi in zip(data.actions, y, p, strict=True))
    close(crl.IPW(normalized=False).estimate(data, crl.ATE()).value, (top1 - top0) / data.n)
    bottom1 = sum(t / pi[1] for t, pi in zip(data.actions, p, strict=True))
    bottom0 = sum((1 - t) / pi[0] for t, pi in zip(data.actions, p, strict=True))
    close(crl.IPW().estimate(data, crl.ATE()).value, top1 / bottom1 - top0 / bottom0)


def test_on_policy_mean_is_the_mean() -> None:
    data, _ = vector_study()
    middle = sum(data.rewards) / data.n
    agree(crl.OnPolicyMean().estimate(data, crl.Always(0)), middle, [y - middle for y in data.rewards])


# ---------------------------------------------------------------------------------------------- g-formula and AIPW


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("study", "model"), PAIRS)
def test_direct_method_is_the_g_formula(study: str, model: str, target: str) -> None:
    data, _ = STUDIES[study]()
    learner, naive, _ = MODELS[model]
    q, pi = naive(data), target_rows(data, target)
    expected = sum(pi[i][0] * q[i][0] + pi[i][1] * q[i][1] for i in range(data.n)) / data.n
    close(crl.DirectMethod(learner).estimate(data, policy_of(data, target)).value, expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("study", "model"), PAIRS)
def test_doubly_robust_is_augmented_weighting(study: str, model: str, target: str) -> None:
    data, p = STUDIES[study]()
    learner, naive, _ = MODELS[model]
    q, pi = naive(data), target_rows(data, target)
    w, y = ratios(data, pi, p), list(data.rewards)
    goal = policy_of(data, target)
    agree(crl.DR(q=learner, folds=1).estimate(data, goal), *augmented(w, y, q, pi, data.actions, normalized=False))
    agree(crl.WDR(q=learner, folds=1).estimate(data, goal), *augmented(w, y, q, pi, data.actions, normalized=True))


@pytest.mark.parametrize(("study", "model"), PAIRS)
def test_contrasts_of_the_doubly_robust(study: str, model: str) -> None:
    data, p = STUDIES[study]()
    learner, naive, _ = MODELS[model]
    q, y = naive(data), list(data.rewards)
    for estimator, normalized in ((crl.AIPW(learner, folds=1), False), (crl.WDR(q=learner, folds=1), True)):
        arms = []
        for arm in (0, 1):
            pi = target_rows(data, f"always {arm}")
            arms.append(augmented(ratios(data, pi, p), y, q, pi, data.actions, normalized=normalized))
        influence = [one - zero for one, zero in zip(arms[1][1], arms[0][1], strict=True)]
        agree(estimator.estimate(data, crl.ATE()), arms[1][0] - arms[0][0], influence)
    g_formula = sum(row[1] - row[0] for row in q) / data.n
    close(crl.GFormula(learner).estimate(data, crl.ATE()).value, g_formula)


@pytest.mark.parametrize(
    ("study", "model"), [("strata", "TabularQ"), ("vectors", "LinearQ"), ("vectors", "PerAction"), ("vectors", "Pooled")]
)
def test_a_function_needs_no_horizon_where_nothing_follows(study: str, model: str) -> None:
    """A plain function may depend on time; in a cross-section there is one time only."""
    data, _ = STUDIES[study]()
    policy = logistic_target if study == "vectors" else lambda s, t: np.array(TABLE)[s]
    learner, _, _ = MODELS[model]
    for estimator in (crl.DirectMethod(learner), crl.DR(q=learner)):
        expected = estimator.estimate(data, crl.PolicyValue(policy, horizon=1)).value
        close(estimator.estimate(data, policy).value, expected)


def test_three_arms() -> None:
    data, p = vector_study(arms=3)
    w, y = ratios(data, [[0.0, 0.0, 1.0]] * data.n, p), list(data.rewards)
    v = ratios(data, [[1.0, 0.0, 0.0]] * data.n, p)
    close(crl.IPW().estimate(data, crl.ATE(treated=2, control=0)).value, hajek(w, y)[0] - hajek(v, y)[0])
    q = regression_pooled(data)
    expected, influence = augmented(w, y, q, [[0.0, 0.0, 1.0]] * data.n, data.actions, normalized=False)
    agree(crl.AIPW(crl.Pooled(LinearRegression())).estimate(data, crl.Always(2)), expected, influence)


def test_cross_fitted_aipw() -> None:
    """Each fold is predicted by the regressions of the other folds; the folds themselves are the package's."""
    data, p = vector_study()
    fitted = crl.AIPW(crl.PerAction(LinearRegression()), folds=4).fit(data, seed=3)
    folds = fitted.nuisances.folds(4, None)
    assert sorted(np.flatnonzero(fold.test).size for fold in folds) == [60] * 4
    q: Rows = [[] for _ in range(data.n)]
    for fold in folds:
        assert not np.any(fold.train[fold.test])
        theta = []
        for arm in (0, 1):
            rows = [i for i in range(data.n) if fold.train[i] > 0 and data.actions[i] == arm]
            theta.append(least_squares([[1.0, *data.observations[i]] for i in rows], [data.rewards[i] for i in rows]))
        for i in np.flatnonzero(fold.test):
            q[i] = [float(np.dot(theta[arm], [1.0, *data.observations[i]])) for arm in (0, 1)]
    pi = target_rows(data, "always 1")
    agree(
        fitted.estimate(crl.Always(1)), *augmented(ratios(data, pi, p), list(data.rewards), q, pi, data.actions, normalized=False)
    )


# ------------------------------------------------------------------------------------------------------------------ names


def test_a_name_gives_the_identical_object() -> None:
    regressor, q, behavior = LinearRegression(), crl.LinearQ(), crl.Logit()
    assert crl.IPW() == crl.WIS()
    assert crl.IPW(normalized=False) == crl.IS()
    assert crl.IPW(behavior, folds=2) == crl.WIS(behavior=behavior, folds=2)
    assert crl.IPW(propensity=behavior, normalized=False) == crl.IS(behavior=behavior)
    assert crl.AIPW(outcome=q, propensity=behavior, folds=5) == crl.DR(q=q, behavior=behavior, folds=5)
    assert crl.GFormula(q) == crl.DirectMethod(q)
    assert crl.SLearner(regressor) == crl.DirectMethod(crl.Pooled(regressor))
    assert crl.TLearner(regressor) == crl.DirectMethod(crl.PerAction(regressor))
    assert crl.FQE() == crl.DirectMethod() == crl.FQE(crl.TabularQ())
    assert crl.FQE(q) == crl.DirectMethod(q)
    assert crl.IPW() != crl.IS()
    assert type(crl.IPW()) is crl.WIS
    assert type(crl.AIPW(q)) is crl.DR


@pytest.mark.parametrize("regressor", [LinearRegression(), DecisionTreeRegressor(max_depth=3, random_state=0)])
def test_conditional_effects_are_hand_fitted_predictions(regressor: Any) -> None:
    from sklearn.base import clone

    data, _ = vector_study()
    x, a, y = data.observations, data.actions, data.rewards
    at = x[:7] + 0.1
    arms = [clone(regressor).fit(x[a == arm], y[a == arm]).predict(at) for arm in (0, 1)]
    np.testing.assert_allclose(crl.TLearner(regressor).estimate(data, crl.CATE(at=at)).value, arms[1] - arms[0], atol=1e-12)
    pooled = clone(regressor).fit(np.column_stack([x, a]), y)
    expected = pooled.predict(np.column_stack([at, np.ones(7)])) - pooled.predict(np.column_stack([at, np.zeros(7)]))
    np.testing.assert_allclose(crl.SLearner(regressor).estimate(data, crl.CATE(at=at)).value, expected, atol=1e-12)


# ------------------------------------------------------------- stacked corrections at horizon 1: a full M-estimation sandwich


def sandwich_influence(psi: Callable[[np.ndarray], np.ndarray], theta: np.ndarray, n: int) -> np.ndarray:
    """(n, p) influence values -A^-1 psi_i of the root of sum psi = 0, with the Jacobian by the complex step."""
    jacobian = np.empty((len(theta), len(theta)))
    for j in range(len(theta)):
        moved = theta.astype(complex)
        moved[j] += 1e-30j
        jacobian[:, j] = psi(moved).sum(axis=0).imag / 1e-30 / n
    rows = psi(theta.astype(complex)).real
    np.testing.assert_allclose(rows.sum(axis=0) / n, 0, atol=1e-9)  # theta is a root
    return -rows @ np.linalg.inv(jacobian).T


def softmax(x: np.ndarray, alpha: np.ndarray, arms: int) -> np.ndarray:
    """(n, arms) multinomial logit with an intercept; class 0 is the reference."""
    design = np.column_stack([np.ones(len(x)), x])
    eta = [np.zeros(len(x), dtype=alpha.dtype), *(design @ row for row in alpha.reshape(arms - 1, -1))]
    e = np.exp(np.column_stack(eta))
    return e / e.sum(axis=1, keepdims=True)


def logit_scores(x: np.ndarray, a: np.ndarray, p: np.ndarray) -> np.ndarray:
    design = np.column_stack([np.ones(len(x)), x])
    return np.hstack([((a == k).astype(float) - p[:, k])[:, None] * design for k in range(1, p.shape[1])])


def fit_logit(x: np.ndarray, a: np.ndarray, arms: int, weights: np.ndarray) -> np.ndarray:
    """Newton's method written out; complex weights give the derivative of the fit in them."""
    design = np.column_stack([np.ones(len(x)), x])
    d = design.shape[1]
    alpha = np.zeros((arms - 1) * d, dtype=weights.dtype)
    for _ in range(60):
        p = softmax(x, alpha, arms)
        gradient = (weights[:, None] * logit_scores(x, a, p)).sum(axis=0)
        hessian = np.zeros((len(alpha), len(alpha)), dtype=weights.dtype)
        for j in range(1, arms):
            for k in range(1, arms):
                c = weights * p[:, j] * ((j == k) - p[:, k])
                hessian[(j - 1) * d : j * d, (k - 1) * d : k * d] = design.T @ (c[:, None] * design)
        alpha = alpha + np.linalg.solve(hessian, gradient)
    return alpha


@pytest.mark.parametrize("arms", [2, 3])
def test_logit_influence_is_the_full_sandwich(arms: int) -> None:
    data, _ = vector_study(arms=arms)
    x, a, y, n = data.observations, data.actions, data.rewards, data.n
    alpha = fit_logit(x, a, arms, np.ones(n))
    k = len(alpha)
    p = softmax(x, alpha, arms)
    one, zero = (a == 1) / p[:, 1], (a == 0) / p[:, 0]

    def weighted(theta: np.ndarray, arm: int) -> np.ndarray:
        return (a == arm) / softmax(x, theta[:k], arms)[:, arm]

    def psi_hajek(theta: np.ndarray) -> np.ndarray:
        scores = logit_scores(x, a, softmax(x, theta[:k], arms))
        w1, w0 = weighted(theta, 1), weighted(theta, 0)
        return np.column_stack(
            [scores, w1 * (y - theta[k]), w0 * (y - theta[k + 1]), np.full(n, theta[k] - theta[k + 1] - theta[k + 2])]
        )

    def psi_ht(theta: np.ndarray) -> np.ndarray:
        scores = logit_scores(x, a, softmax(x, theta[:k], arms))
        w1, w0 = weighted(theta, 1), weighted(theta, 0)
        return np.column_stack(
            [scores, w1 * y - theta[k], w0 * y - theta[k + 1], np.full(n, theta[k] - theta[k + 1] - theta[k + 2])]
        )

    for normalized, psi in ((True, psi_hajek), (False, psi_ht)):
        values = [(w * y).sum() / (w.sum() if normalized else n) for w in (one, zero)]
        theta = np.array([*alpha, *values, values[0] - values[1]])
        influence = sandwich_influence(psi, theta, n)
        ipw = crl.IPW(propensity=crl.Logit(), normalized=normalized)
        for goal, column in ((crl.Always(1), k), (crl.Always(0), k + 1), (crl.ATE(), k + 2)):
            estimate = ipw.estimate(data, goal)
            close(estimate.value, theta[column], 1e-10)
            np.testing.assert_allclose(estimate.influence, influence[:, column], atol=1e-8)
            sandwich = math.sqrt((influence[:, column] ** 2).sum()) / n * math.sqrt(n / (n - 1))
            close(estimate.stderr, sandwich, 1e-8)


def test_counts_influence_is_the_full_sandwich() -> None:
    data, _ = strata_study()
    s, a, y, n = data.observations, data.actions, data.rewards, data.n
    share = np.array([np.mean(a[s == k]) for k in range(4)])

    def psi(theta: np.ndarray, normalized: bool) -> np.ndarray:
        p1 = theta[s]
        scores = np.column_stack([(s == k) * (a - p1) for k in range(4)])
        w1, w0 = (a == 1) / p1, (a == 0) / (1 - p1)
        first = w1 * (y - theta[4]) if normalized else w1 * y - theta[4]
        second = w0 * (y - theta[5]) if normalized else w0 * y - theta[5]
        return np.column_stack([scores, first, second, np.full(n, theta[4] - theta[5] - theta[6])])

    for normalized in (True, False):
        w1, w0 = (a == 1) / share[s], (a == 0) / (1 - share[s])
        values = [(w * y).sum() / (w.sum() if normalized else n) for w in (w1, w0)]
        theta = np.array([*share, *values, values[0] - values[1]])
        influence = sandwich_influence(lambda t, flag=normalized: psi(t, flag), theta, n)
        ipw = crl.IPW(propensity=crl.Counts(), normalized=normalized)
        for goal, column in ((crl.Always(1), 4), (crl.Always(0), 5), (crl.ATE(), 6)):
            estimate = ipw.estimate(data, goal)
            close(estimate.value, theta[column])
            np.testing.assert_allclose(estimate.influence, influence[:, column], atol=1e-10)


def test_saturated_weighting_is_standardisation() -> None:
    """With counts in every stratum IPW, AIPW and the g-formula are one number, and IPW's stacked spread is AIPW's."""
    data, _ = strata_study()
    q, pi = cell_means(data), target_rows(data, "always 1")
    g = sum(row[1] for row in q) / data.n
    close(crl.IPW(propensity=crl.Counts()).estimate(data, crl.Always(1)).value, g)
    close(crl.IPW(propensity=crl.Counts(), normalized=False).estimate(data, crl.Always(1)).value, g)
    aipw = crl.AIPW(crl.TabularQ(), propensity=crl.Counts(), folds=1).estimate(data, crl.Always(1))
    close(aipw.value, g)
    counted = [sum(data.actions[data.observations == s]) / sum(data.observations == s) for s in range(4)]
    p = [[1 - counted[s], counted[s]] for s in data.observations]
    _, influence = augmented(ratios(data, pi, p), list(data.rewards), q, pi, data.actions, normalized=False)
    np.testing.assert_allclose(crl.IPW(propensity=crl.Counts()).estimate(data, crl.Always(1)).influence, influence, atol=1e-11)


# ---------------------------------------------------- stacked corrections over several steps: the infinitesimal jackknife


def three_steps(n: int = 70, seed: int = 5) -> crl.Trajectories:
    """Ragged up to 3 steps, 3 states with features, 2 actions; every (time, state, action) that is needed occurs."""
    rng = np.random.default_rng(seed)
    observations, actions, rewards, offsets, end = [], [], [], [0], []
    for _ in range(n):
        s, over = int(rng.integers(0, 3)), False
        for _ in range(3):
            a = int(rng.random() < [0.4, 0.5, 0.6][s])
            observations.append(s)
            actions.append(a)
            rewards.append(float(s + a + rng.normal()))
            over = bool(rng.random() < 0.2)
            if over:
                break
            s = int(rng.integers(0, 3))
        offsets.append(len(actions))
        end.append(0 if over else 1)
    return crl.Trajectories.from_arrays(
        observations, actions, rewards, offsets, end=end, state_features=[[0.0, 1.0], [1.0, 0.5], [2.0, -1.0]]
    )


STEP_TARGET = [[0.3, 0.7], [0.8, 0.2], [0.5, 0.5]]
STEP_Q = np.random.default_rng(9).normal(size=(3, 3, 2))
DISCOUNT = 0.9


def counted_propensities(data: crl.Trajectories, omega: np.ndarray, by_time: bool) -> list[Any]:
    count: dict[Any, Any] = {}
    cells = []
    for i in range(data.n):
        for t, j in enumerate(range(data.offsets[i], data.offsets[i + 1])):
            state = (t if by_time else 0, data.observations[j])
            cells.append((state, data.actions[j]))
            for key in (state, (state, data.actions[j])):
                count[key] = count.get(key, 0) + omega[i]
    return [count[cell] / count[cell[0]] for cell in cells]


def logit_propensities(data: crl.Trajectories, omega: np.ndarray) -> list[Any]:
    x = data.state_features[data.observations]
    weights = np.repeat(omega, np.diff(data.offsets))
    p = softmax(x, fit_logit(x, data.actions, 2, weights), 2)
    return [p[j, a] for j, a in enumerate(data.actions)]


def sequential_value(data: crl.Trajectories, omega: np.ndarray, p: list[Any], kind: str) -> Any:
    """A naive sequential estimator in which trajectory i counts omega_i times."""
    horizon, total = 3, omega.sum()
    weight, term, start = {}, {}, 0
    for i in range(data.n):
        w: Any = 1.0
        first = data.offsets[i]
        length = data.offsets[i + 1] - first
        if kind in ("DR", "WDR"):
            s = data.observations[first]
            start = start + omega[i] / total * sum(STEP_TARGET[s][a] * STEP_Q[0, s, a] for a in range(2))
        for t in range(horizon):
            if t < length:
                j = first + t
                s, a = data.observations[j], data.actions[j]
                w = w * STEP_TARGET[s][a] / p[j]
                y = data.rewards[j]
                if kind in ("DR", "WDR"):
                    y = y - STEP_Q[t, s, a]
                    if t + 1 < length:
                        after = data.observations[j + 1]
                        y = y + DISCOUNT * sum(STEP_TARGET[after][b] * STEP_Q[t + 1, after, b] for b in range(2))
                term[i, t] = DISCOUNT**t * y
            else:
                term[i, t] = 0.0
            weight[i, t] = w
    if kind in ("IS", "WIS"):
        top = sum(omega[i] * weight[i, horizon - 1] * sum(term[i, t] for t in range(horizon)) for i in range(data.n))
        return top / (total if kind == "IS" else sum(omega[i] * weight[i, horizon - 1] for i in range(data.n)))
    value = start
    for t in range(horizon):
        top = sum(omega[i] * weight[i, t] * term[i, t] for i in range(data.n))
        normaliser = sum(omega[i] * weight[i, t] for i in range(data.n)) if kind in ("PDWIS", "WDR") else total
        value = value + top / normaliser
    return value


def jackknife_influence(data: crl.Trajectories, value: Callable[[np.ndarray], Any]) -> list[float]:
    """n times the derivative of the whole estimate in a trajectory's weight, by the complex step."""
    out = []
    for i in range(data.n):
        omega = np.ones(data.n, dtype=complex)
        omega[i] += 1e-30j
        out.append(data.n * value(omega).imag / 1e-30)
    return out


@pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning")  # 70 trajectories
@pytest.mark.parametrize("kind", ["IS", "WIS", "PDIS", "PDWIS", "DR", "WDR"])
@pytest.mark.parametrize("learned", ["Counts()", "Counts(by_time=True)", "Logit()"])
def test_sequential_influence_is_the_infinitesimal_jackknife(kind: str, learned: str) -> None:
    data = three_steps()
    behavior = {"Counts()": crl.Counts(), "Counts(by_time=True)": crl.Counts(by_time=True), "Logit()": crl.Logit()}[learned]
    if learned == "Logit()":
        propensities = lambda omega: logit_propensities(data, omega)  # noqa: E731
    else:
        propensities = lambda omega: counted_propensities(data, omega, "by_time" in learned)  # noqa: E731
    extra = {"q": crl.KnownQ(STEP_Q)} if kind in ("DR", "WDR") else {}
    estimator = getattr(crl, kind)(behavior=behavior, **extra)
    estimate = estimator.estimate(data, crl.PolicyValue(crl.TabularPolicy(STEP_TARGET), discount=DISCOUNT, horizon=3))
    value = lambda omega: sequential_value(data, omega, propensities(omega), kind)  # noqa: E731
    close(estimate.value, value(np.ones(data.n)), 1e-10)
    np.testing.assert_allclose(estimate.influence, jackknife_influence(data, value), rtol=1e-8, atol=1e-8)


# ------------------------------------------------------------------------------------------------- trap B5's design


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning")
def test_stacked_standard_error_is_near_the_true_spread() -> None:
    """Trap B5: true sd .1475; propensities held fixed would say .2675."""
    rng = np.random.default_rng(0)
    values, stacked, frozen = [], [], []
    for r in range(200):
        x = rng.normal(size=500)
        e = 1 / (1 + np.exp(-x))
        t = (rng.random(500) < e).astype(int)
        y = 2 * x + t + rng.normal(size=500)
        study = crl.Trajectories.from_cross_section(x[:, None], t, y)
        estimate = crl.IPW(propensity=crl.Logit()).estimate(study, crl.ATE())
        values.append(estimate.value)
        stacked.append(estimate.stderr)
        if r < 40:
            fitted = softmax(x[:, None], fit_logit(x[:, None], t, 2, np.ones(500)), 2)
            known = crl.Trajectories.from_cross_section(x[:, None], t, y, propensity=fitted)
            frozen.append(crl.IPW().estimate(known, crl.ATE()).stderr)
    assert np.std(values, ddof=1) == pytest.approx(0.1475, rel=0.2)  # 4 Monte-Carlo errors of a standard deviation of 200
    assert np.mean(stacked) == pytest.approx(0.1475, rel=0.08)
    assert np.mean(frozen) == pytest.approx(0.2675, rel=0.08)
    covered = np.abs(np.array(values) - 1) <= 1.965 * np.array(stacked)
    assert covered.mean() > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 200)
