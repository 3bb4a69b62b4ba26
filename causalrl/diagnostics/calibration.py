"""Calibration of predicted probabilities: Cox's (1958) logit recalibration, Brier score, and frequencies by bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalrl.checks import Bools, Floats
from causalrl.kernels.logit import information, newton_logit, softmax_rows

_BINS = 10
_MAX_ITERATIONS = 50
_TOLERANCE = 1e-10
_DIVERGED = 50.0


@dataclass(frozen=True, eq=False)
class CalibrationCurve:
    """Predicted probabilities of one arm beside how often it was taken.

    Attributes:
        arm: the arm whose probability is predicted.
        intercept, slope: a and b of logit P(taken) = a + b logit(predicted) by maximum likelihood, 0 and 1 where the
            predictions are calibrated; None where the likelihood has no single maximum.
        intercept_stderr, slope_stderr: their standard errors, for independent decisions.
        brier: mean squared difference of prediction and outcome. ece: expected calibration error, the mean over decisions of
            |mean prediction - frequency| in their bin.
        predicted, observed, count: (B,) mean prediction, frequency and number of decisions in bins of equal counts.
        certain: predictions of exactly 0 or 1; for the recalibration they count as half the smallest distance from there.
        cross_fitted: every prediction is from a fit that has not seen the decision, or nothing was fitted.
    """

    arm: int
    intercept: float | None
    slope: float | None
    intercept_stderr: float | None
    slope_stderr: float | None
    brier: float
    ece: float
    predicted: Floats
    observed: Floats
    count: Floats
    certain: int
    cross_fitted: bool = True


def calibration_curve(predicted: Floats, taken: Bools, arm: int = 1, *, cross_fitted: bool = True) -> CalibrationCurve:
    """Calibration of the predictions of one arm.

    Ties of the predictions share a bin, so that there may be fewer than ten.

    Args:
        predicted: (n,) probabilities. taken: (n,) whether the arm was taken. arm, cross_fitted: for the record.

    Example:
        >>> curve = calibration_curve(np.array([0.5, 0.5, 0.25, 0.25, 0.25, 0.25]), np.array([1, 0, 1, 0, 0, 0]) == 1)
        >>> round(curve.slope, 6), round(curve.ece, 6), curve.observed
        (1.0, 0.0, array([0.25, 0.5 ]))
    """
    bins = _equal_bins(predicted)
    count = np.bincount(bins).astype(np.float64)
    mean, frequency = (np.bincount(bins, values) / count for values in (predicted, taken.astype(np.float64)))
    certain = (predicted <= 0) | (predicted >= 1)
    line = _recalibration(_logit(predicted), taken)
    return CalibrationCurve(
        arm,
        *line,
        brier=float(np.mean((predicted - taken) ** 2)),
        ece=float(count @ np.abs(mean - frequency) / len(predicted)),
        predicted=mean,
        observed=frequency,
        count=count,
        certain=int(certain.sum()),
        cross_fitted=cross_fitted,
    )


def recalibration_slope(probabilities: Floats, logged: Floats) -> float | None:
    """The slope b with which P(a) = p_a^b / sum p^b fits the logged decisions, by one Newton step from 1; None without variation.

    1 where the predictions are calibrated, less where they are too extreme; for two arms the slope of Cox's line through 0.

    Args:
        probabilities: (M, A) predicted. logged: (M,) those of the logged actions, positive.

    Example:
        >>> round(recalibration_slope(np.array([[0.75, 0.25]] * 4), np.array([0.75, 0.75, 0.75, 0.25])), 9)
        1.0
    """
    logs = np.log(np.where(probabilities > 0, probabilities, 1.0))
    mean = np.sum(probabilities * logs, axis=1)
    information = float(np.sum(probabilities * (logs - mean[:, None]) ** 2))
    if not information > 1e-9 * len(logged):
        return None
    return 1.0 + float(np.sum(np.log(logged) - mean)) / information


def _equal_bins(predicted: Floats) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """(n,) bin of each prediction: the tenth of the order in which its value first appears, without empty bins."""
    first = np.searchsorted(np.sort(predicted), predicted)
    codes: np.ndarray[tuple[int], np.dtype[np.int64]] = np.unique(first * _BINS // len(predicted), return_inverse=True)[1]
    return codes


def _logit(predicted: Floats) -> Floats:
    distance = np.minimum(predicted, 1 - predicted)
    inner = distance[distance > 0]
    floor = float(inner.min()) / 2 if len(inner) else 0.25
    kept = np.clip(predicted, floor, 1 - floor)
    values: Floats = np.log(kept) - np.log1p(-kept)
    return values


def _recalibration(scores: Floats, taken: Bools) -> tuple[float | None, float | None, float | None, float | None]:
    """Intercept, slope, and their standard errors; None four times where there is no single maximum."""
    spread = float(scores.std())
    if taken.all() or not taken.any() or spread <= 1e-9 * (1 + np.abs(scores).max()):
        return None, None, None, None
    center = float(scores.mean())
    design = np.column_stack([np.ones(len(scores)), (scores - center) / spread])
    weights = np.ones(len(scores))
    coefficients, change, _ = newton_logit(design, taken.astype(np.int64), weights, 2, _MAX_ITERATIONS, _TOLERANCE)
    if not change < 1e-6 or np.abs(design @ coefficients[0]).max() > _DIVERGED:
        return None, None, None, None
    covariance = np.linalg.inv(information(design, weights, softmax_rows(design, coefficients)))
    back = np.array([[1.0, -center / spread], [0.0, 1 / spread]])
    intercept, slope = back @ coefficients[0]
    errors = np.sqrt(np.diag(back @ covariance @ back.T))
    return float(intercept), float(slope), float(errors[0]), float(errors[1])
