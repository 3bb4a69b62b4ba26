"""Calibrated propensities against a naive implementation, and on designs whose propensities are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.ensemble import RandomForestClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeClassifier

import causalrl as crl
from causalrl.errors import DataError, EstimandError, EstimatedBehaviorWarning
from causalrl.kernels.rng import derive_seed

CLIPPED = IsotonicRegression(out_of_bounds="clip")


def design(n: int, arms: int, seed: int) -> tuple[crl.Trajectories, np.ndarray]:
    """Covariates, one of them in four copies, which naive Bayes counts four times; and the true propensities (n, arms)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    scores = np.exp(0.8 * x[:, :1] * np.arange(arms) + 0.3 * x[:, 1:] * (np.arange(arms) == 1))
    p = scores / scores.sum(axis=1, keepdims=True)
    actions = (rng.random((n, 1)) > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)
    columns = np.column_stack([x, x[:, 0], x[:, 0], x[:, 0]])
    return crl.Trajectories.from_cross_section(columns, actions, actions + x[:, 0] + rng.normal(size=n)), p


def calibration_error(predicted: np.ndarray, actions: np.ndarray) -> float:
    """Expected calibration error over actions: |mean prediction - frequency| in ten bins of equal size, averaged."""
    errors = []
    for a in range(predicted.shape[1]):
        for rows in np.array_split(np.argsort(predicted[:, a], kind="stable"), 10):
            errors.append(abs(predicted[rows, a].mean() - np.mean(actions[rows] == a)))
    return float(np.mean(errors))


def fitted(model: Any, data: crl.Trajectories, weights: np.ndarray | None = None, seed: int = 0) -> Any:
    steps = data.steps()
    from causalrl.nuisances.behavior import as_behavior

    return as_behavior(model, data).fit(steps, np.ones(len(steps)) if weights is None else weights, seed)


LEARNERS = {
    "naive Bayes": (GaussianNB(), 3.0, 1.5),
    "deep tree": (DecisionTreeClassifier(random_state=0), 5.0, 1.5),
    "forest": (RandomForestClassifier(50, random_state=0), 3.0, 1.3),
}


@pytest.mark.slow
@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("calibrator", [None, CLIPPED], ids=["Platt", "isotonic"])
@pytest.mark.parametrize("arms", [2, 3])
def test_an_overconfident_learner_is_calibrated(learner: str, calibrator: Any, arms: int) -> None:
    """On fresh data the calibration error falls by the stated factor, and so does the distance to the true propensities."""
    model, factor, closer = LEARNERS[learner]
    train, _ = design(3_000, arms, 0)
    fresh, truth = design(4_000, arms, 1)
    raw, calibrated = (
        fitted(m, train).probabilities(fresh.observations, np.zeros(fresh.n, int))
        for m in (model, crl.Calibrated(model, calibrator))
    )
    assert calibration_error(raw, fresh.actions) > factor * calibration_error(calibrated, fresh.actions)
    assert np.abs(raw - truth).mean() > closer * np.abs(calibrated - truth).mean()
    np.testing.assert_allclose(calibrated.sum(axis=1), 1.0, rtol=1e-12)
    if calibrator is None:
        assert calibrated.min() > 0


def naive_calibration(
    data: crl.Trajectories, model: Any, calibrator: Any, fold: np.ndarray, at: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Out-of-fold predictions, a map fitted to them, and the model of all rows behind it; rows repeated by their weights."""
    rows = np.repeat(np.arange(data.n), weights.astype(int))
    x, a, fold = data.observations[rows], data.actions[rows], fold[rows]
    arms = data.n_actions
    out = np.empty((len(rows), arms))
    for k in range(fold.max() + 1):
        out[fold == k] = model.fit(x[fold != k], a[fold != k]).predict_proba(x[fold == k])
    new = model.fit(x, a).predict_proba(at)
    if calibrator is not None:
        columns = [calibrator.fit(out[:, c], (a == c) * 1.0).predict(new[:, c]) for c in range(arms)]
        return np.column_stack(columns) / np.sum(columns, axis=0)[:, None]
    floor = max(1e-6, out[out > 0].min() / 2)
    taken = np.bincount(a)
    targets = np.array([[(taken[i] + 1 if c == i else 1) / (taken[i] + arms) for c in range(arms)] for i in a])

    def log_odds(theta: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.append(0.0, theta[:-1]) + theta[-1] * np.log(np.maximum(p, floor))

    def loss(theta: np.ndarray) -> float:
        eta = log_odds(theta, out)
        return -float(np.sum(targets * (eta - np.log(np.exp(eta).sum(axis=1, keepdims=True))))) / len(a)

    theta = minimize(loss, np.append(np.zeros(arms - 1), 1.0), method="BFGS", options={"gtol": 1e-9}).x
    odds = np.exp(log_odds(theta, new))
    return odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("calibrator", [None, CLIPPED], ids=["Platt", "isotonic"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("arms", [2, 3])
def test_by_a_naive_implementation(calibrator: Any, weighted: bool, arms: int) -> None:
    data, _ = design(300, arms, 2)
    weights = np.random.default_rng(3).integers(0, 3, data.n).astype(float) if weighted else np.ones(data.n)
    drawn = np.flatnonzero(weights)
    fold = np.full(data.n, -1)
    ranks = np.random.default_rng(derive_seed(derive_seed(7, "calibration"), "folds")).permutation(len(drawn))
    fold[drawn] = ranks % 4
    fit = fitted(crl.Calibrated(GaussianNB(), calibrator, folds=4), data, weights, seed=7)
    at = design(50, arms, 4)[0].observations
    expected = naive_calibration(data, GaussianNB(), calibrator, fold, at, weights)
    np.testing.assert_allclose(fit.probabilities(at, np.zeros(50, int)), expected, rtol=1e-5, atol=1e-6)


class Spy(GaussianNB):  # type: ignore[misc]
    """Remembers the first covariate of what it learned from and of what it predicted."""

    seen: list[tuple[np.ndarray, np.ndarray]] = []  # noqa: RUF012

    def fit(self, x: np.ndarray, y: np.ndarray) -> Spy:
        self.learned = x[:, 0]
        return super().fit(x, y)  # type: ignore[no-any-return]

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        Spy.seen.append((self.learned, x[:, 0]))
        return super().predict_proba(x)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")
def test_no_cluster_is_split_and_every_row_is_calibrated_once() -> None:
    """Four rows a patient; the inner folds split patients, and lie inside the outer training folds."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(60), 4)
    x = np.column_stack([patient + 0.1 * np.tile(np.arange(4), 60), rng.normal(size=240)])
    study = crl.Trajectories.from_cross_section(x, rng.integers(0, 2, 240), rng.normal(size=240), clusters=patient)
    Spy.seen.clear()
    crl.WIS(behavior=crl.Calibrated(Spy(), folds=3), folds=2).estimate(study, crl.Uniform(2))
    calibrating = [(learned, predicted) for learned, predicted in Spy.seen if len(learned) == 80]
    assert len(calibrating) == 6  # inner folds of 2 outer ones
    for learned, predicted in calibrating:
        assert not set(learned.astype(int)) & set(predicted.astype(int))
    for outer in (calibrating[:3], calibrating[3:]):
        assert len(np.unique(np.concatenate([predicted for _, predicted in outer]))) == 120
    for learned, predicted in Spy.seen:
        assert len(learned) < 240
        assert not set(learned.astype(int)) & set(predicted.astype(int))


def test_it_is_cross_fitted_and_says_what_the_interval_leaves_out() -> None:
    study, _ = design(600, 2, 5)
    with pytest.warns(EstimatedBehaviorWarning, match="Calibrated"):
        estimate = crl.WIS(behavior=crl.Calibrated(GaussianNB())).estimate(study, crl.ATE())
    assert estimate.diagnostics["folds"][0] == 5
    again = crl.AIPW(crl.LinearQ(), crl.Calibrated(GaussianNB())).estimate(study, crl.ATE())  # orthogonal: no warning
    assert abs(again.value - 1) < 4 * again.stderr


@pytest.mark.parametrize("model", [crl.Logit(), LogisticRegression(), crl.Counts()], ids=["Logit", "classifier", "Counts"])
def test_any_learner_can_be_calibrated(model: Any) -> None:
    """Right models stay where they are, up to noise."""
    rng = np.random.default_rng(6)
    s = rng.integers(0, 4, 4_000)
    p = np.array([0.2, 0.4, 0.6, 0.8])[s]
    study = crl.Trajectories.from_cross_section(s, (rng.random(4_000) < p).astype(int), rng.normal(size=4_000))
    at = fitted(crl.Calibrated(model), study).probabilities(np.arange(4), np.zeros(4, int))[:, 1]
    np.testing.assert_allclose(at, [0.2, 0.4, 0.6, 0.8], atol=0.06)


def test_perfect_separation_is_no_certainty() -> None:
    x = np.linspace(-1, 1, 200)[:, None]
    study = crl.Trajectories.from_cross_section(x, (x[:, 0] > 0).astype(int), x[:, 0])
    p = fitted(crl.Calibrated(DecisionTreeClassifier()), study).probabilities(x, np.zeros(200, int))
    assert 0 < p.min() < 0.05
    assert np.isfinite(p).all()


def test_bad_input() -> None:
    study, _ = design(100, 2, 8)
    for folds in (1, 0, 2.5):
        with pytest.raises(EstimandError, match=r"folds.*at least 2"):
            crl.Calibrated(GaussianNB(), folds=folds)  # type: ignore[arg-type]
    for calibrator in (GaussianNB(), IsotonicRegression, 3):
        with pytest.raises(EstimandError, match=r"calibrator.*no regressor.*IsotonicRegression"):
            crl.Calibrated(GaussianNB(), calibrator)
    with pytest.raises(EstimandError, match="known, not learned"):
        crl.WIS(behavior=crl.Calibrated(crl.KnownPropensity(crl.Uniform(2)))).estimate(study, crl.ATE())
    with pytest.raises(EstimandError, match=r"calibrator: gives .*out_of_bounds='clip'"):
        fitted(crl.Calibrated(GaussianNB(), IsotonicRegression()), study).probabilities(
            9 * study.observations, np.zeros(100, int)
        )
    one = crl.Trajectories.from_cross_section(study.observations, study.actions, study.rewards, clusters=np.zeros(100))
    with pytest.raises(DataError, match="clusters: Calibrated learns from a single cluster"):
        fitted(crl.Calibrated(GaussianNB()), one)
