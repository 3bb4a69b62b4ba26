"""Calibrated propensities: a map from predicted to observed frequencies, learned on out-of-fold predictions.

The default is Platt's (1999) logistic recalibration of the log-odds with his smoothed targets, for more than two actions with
one slope and one intercept an action (Alexandari, Kundaje & Shrikumar 2020). Any one-column regressor, such as scikit-learn's
IsotonicRegression, calibrates one action against the rest, after which rows are made to sum to 1 (Zadrozny & Elkan 2002).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints, first_bad, whole_number
from causalrl.data import Steps
from causalrl.diagnostics.record import Note
from causalrl.errors import DataError, EstimandError
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.behavior import BehaviorFit, as_behavior
from causalrl.nuisances.crossfit import cluster_folds

_FLOOR = 1e-6
_MAX_ITERATIONS = 100
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Calibrated:
    """A behaviour learner whose predictions are calibrated on clusters that it has not seen.

    The learner is cross-fitted inside the training data, the calibrator fitted to the out-of-fold predictions, and the learner
    fitted once more to all of them. Cross-fitted by default, as a classifier is.

    Args:
        model: a scikit-learn classifier, `Logit()` or `Counts()`.
        calibrator: a regressor of an action's indicator on its predicted probability, one action at a time, for example
            `IsotonicRegression(out_of_bounds="clip")`; None is Platt's recalibration, which never gives 0.
        folds: inner folds of clusters.

    Raises:
        EstimandError: for fewer than 2 folds, or a calibrator that is no regressor.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> from sklearn.naive_bayes import GaussianNB
        >>> x = np.random.default_rng(0).normal(size=(400, 1))
        >>> treatment = (x[:, 0] + np.random.default_rng(1).logistic(size=400) > 0).astype(int)
        >>> study = crl.Trajectories.from_cross_section(x, treatment, x[:, 0])
        >>> fitted = crl.Calibrated(GaussianNB()).fit(study.steps(), np.ones(400), seed=0)
        >>> fitted.probabilities(np.zeros((1, 1)), np.zeros(1, int)).round(1)
        array([[0.5, 0.5]])
    """

    model: Any
    calibrator: Any = None
    folds: int = 5
    default_folds: int = field(default=5, init=False, repr=False)
    known: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        whole_number("folds", self.folds, 2, EstimandError)
        given = self.calibrator
        if given is not None and (isinstance(given, type) or hasattr(given, "predict_proba") or not hasattr(given, "predict")):
            raise EstimandError(
                f"calibrator: {given!r} is no regressor; pass an object like IsotonicRegression(out_of_bounds='clip'), or None."
            )

    def fit(self, steps: Steps, weights: Floats, seed: int) -> BehaviorFit:
        model = as_behavior(self.model, steps.data)
        if model.known:
            raise EstimandError(
                f"behavior: {model} is known, not learned, so that there is nothing to calibrate; pass it as it is."
            )
        used = weights > 0
        predicted = np.zeros((len(steps), steps.data.n_actions))
        for k, test in enumerate(self._parts(steps, used, seed)):
            inner = model.fit(steps, np.where(test, 0.0, weights), derive_seed(seed, "calibration", k))
            predicted[test] = inner.at(steps, test)
        calibration: Calibration = _Platt() if self.calibrator is None else _OneVersusRest(self.calibrator, seed)
        calibration.fit(predicted[used], steps.actions[used], weights[used])
        return CalibratedFit(model.fit(steps, weights, seed), calibration)

    def _parts(self, steps: Steps, used: Bools, seed: int) -> list[Bools]:
        """(M,) the training steps of each inner fold."""
        clusters, code = np.unique(steps.data.clusters[steps.trajectory[used]], return_inverse=True)
        count = min(self.folds, len(clusters))
        if count < 2:
            raise DataError("clusters: Calibrated learns from a single cluster here, and calibrates on others; add clusters.")
        fold = np.full(len(used), -1)
        fold[used] = cluster_folds(derive_seed(seed, "calibration"), len(clusters), count)[code]
        return [fold == k for k in range(count)]


class Calibration(Protocol):
    """A map from predicted probabilities to calibrated ones."""

    def fit(self, predicted: Floats, actions: Ints, weights: Floats) -> None:
        """Learn from predictions (m, A), the actions (m,) that followed, and whole-number weights (m,)."""

    def map(self, predicted: Floats) -> Floats:
        """(k, A) calibrated rows that sum to 1."""


class CalibratedFit(BehaviorFit):
    """A fitted behaviour behind a calibration."""

    def __init__(self, fit: BehaviorFit, calibration: Calibration) -> None:
        self._fit, self._calibration = fit, calibration
        self.notes: tuple[Note, ...] = fit.notes
        self.stationary = fit.stationary

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        return self._calibration.map(self._fit.probabilities(observations, time))

    def at(self, steps: Steps, rows: Bools) -> Floats:
        return self._calibration.map(self._fit.at(steps, rows))


class _Platt:
    """softmax(a_k + b log p_k), a_0 = 0, by maximum likelihood; with two actions Platt's line in the log-odds.

    In place of 0 and 1 the targets of a decision for action k, taken n_k times, are 1 / (n_k + A) and (n_k + 1) / (n_k + A), so
    that the maximum exists whatever the predictions. A prediction below half the smallest positive one counts as that half.
    """

    def fit(self, predicted: Floats, actions: Ints, weights: Floats) -> None:
        rows, arms = predicted.shape
        self._floor = max(_FLOOR, float(predicted[predicted > 0].min()) / 2)
        taken = np.bincount(actions, weights, minlength=arms)[actions]
        targets = np.tile((1 / (taken + arms))[:, None], (1, arms))
        targets[np.arange(rows), actions] = (taken + 1) / (taken + arms)
        self._coefficients = np.append(np.zeros(arms - 1), 1.0)
        scores = self._scores(predicted)
        for _ in range(_MAX_ITERATIONS):
            step = self._step(scores, targets, weights)
            self._coefficients = self._coefficients + step
            if np.abs(step).max() < _TOLERANCE:
                break

    def _scores(self, predicted: Floats) -> Floats:
        values: Floats = np.log(np.maximum(predicted, self._floor))
        return values

    def _step(self, scores: Floats, targets: Floats, weights: Floats) -> Floats:
        """A Newton step of the weighted log-likelihood sum w sum_k target_k log p_k, halved while it does not rise."""
        arms = scores.shape[1]
        p = self._softmax(scores, self._coefficients)
        residual = weights[:, None] * (targets - p)
        gradient = np.append(residual.sum(axis=0)[1:], np.sum(residual * scores))
        centred = scores - np.sum(p * scores, axis=1, keepdims=True)
        information = np.empty((arms, arms))
        information[:-1, :-1] = np.diag(weights @ p[:, 1:]) - (weights[:, None] * p[:, 1:]).T @ p[:, 1:]
        information[-1, :-1] = information[:-1, -1] = weights @ (p * centred)[:, 1:]
        information[-1, -1] = weights @ np.sum(p * scores * centred, axis=1)
        step: Floats = np.linalg.lstsq(information, gradient, rcond=None)[0]
        now = self._likelihood(scores, targets, weights, self._coefficients)
        while self._likelihood(scores, targets, weights, self._coefficients + step) < now - 1e-9 * abs(now):
            step = step / 2
        return step

    def _likelihood(self, scores: Floats, targets: Floats, weights: Floats, coefficients: Floats) -> float:
        with np.errstate(divide="ignore"):
            return float(weights @ np.sum(targets * np.log(self._softmax(scores, coefficients)), axis=1))

    def _softmax(self, scores: Floats, coefficients: Floats) -> Floats:
        eta = np.append(0.0, coefficients[:-1]) + coefficients[-1] * scores
        odds = np.exp(eta - eta.max(axis=1, keepdims=True))
        values: Floats = odds / odds.sum(axis=1, keepdims=True)
        return values

    def map(self, predicted: Floats) -> Floats:
        return self._softmax(self._scores(predicted), self._coefficients)


class _OneVersusRest:
    """A regression of each action's indicator on its predicted probability, and rows divided by their sum."""

    def __init__(self, regressor: Any, seed: int) -> None:
        self._regressor, self._seed = regressor, seed

    def fit(self, predicted: Floats, actions: Ints, weights: Floats) -> None:
        from causalrl.nuisances.regression import seeded_clone

        rows = np.repeat(np.arange(len(actions)), weights.astype(np.int64))
        self._fits = [
            seeded_clone(self._regressor, self._seed).fit(predicted[rows, a : a + 1], (actions[rows] == a).astype(np.float64))
            for a in range(predicted.shape[1])
        ]

    def map(self, predicted: Floats) -> Floats:
        columns = [np.asarray(fit.predict(predicted[:, a : a + 1])).reshape(-1) for a, fit in enumerate(self._fits)]
        values = np.column_stack(columns)
        if not np.isfinite(values).all():
            row = first_bad(~np.isfinite(values))
            raise EstimandError(
                f"calibrator: gives {values[row]} for the prediction {predicted[row]}, outside what it was fitted to. Pass "
                "IsotonicRegression(out_of_bounds='clip'), or None."
            )
        positive = np.maximum(values, 0.0)
        total = positive.sum(axis=1, keepdims=True)
        if (total == 0).any():
            raise EstimandError(
                f"calibrator: gives no action any probability for the prediction {predicted[first_bad(total == 0)]}. Pass None, "
                "which never gives 0."
            )
        rows: Floats = positive / total
        return rows
