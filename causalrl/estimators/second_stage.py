"""The second stage of the learners of heterogeneous effects: a regression of scores on the covariates, and its sandwich."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from causalrl.checks import Floats, first_bad
from causalrl.diagnostics.record import Note
from causalrl.errors import EstimandError, IntervalError
from causalrl.inference.base import Evidence, Linearised
from causalrl.nuisances.regression import fit_noting, require_regressor, seeded_clone

Correction = Callable[[Floats], Floats | None]
"""Maps n times the derivative of an estimate in each target (n,) to the influence (n,) of the propensities' fit on it."""


@dataclass(frozen=True)
class OnRequest:
    """The default of an estimate that has no interval until one is asked for: says which to ask for.

    Args:
        advice: what the error says.
    """

    advice: str

    def stderr(self, evidence: Evidence) -> NoReturn:
        raise IntervalError(self.advice)

    def limits(self, evidence: Evidence, level: float) -> NoReturn:
        raise IntervalError(self.advice)


def advice_on_intervals(estimator: str) -> str:
    """What an estimator of effects without influence values says of intervals."""
    return (
        f"interval: {estimator} has no default interval, since no influence values tell the spread of its effects. Pass "
        "method=RefitBootstrap(200), which fits its learners 200 times, or use DRLearner(..., effect=LinearRegression()), whose "
        "interval is Wald's."
    )


def check_regressor(field: str, learner: Any) -> None:
    """Refuse what is no scikit-learn regressor."""
    try:
        require_regressor(learner)
    except EstimandError as error:
        raise EstimandError(f"{field}: {str(error).removeprefix('q: ')}") from None


def weights_parameter(learner: Any) -> str:
    """The argument of `learner.fit` that takes the weights of the rows.

    Raises:
        EstimandError: where there is none.
    """
    from sklearn.utils.validation import has_fit_parameter

    name, last = learner.steps[-1] if hasattr(learner, "steps") else ("", learner)
    if not has_fit_parameter(last, "sample_weight"):
        raise EstimandError(
            f"effect: {type(last).__name__} takes no sample_weight, and the R-learner is a weighted regression. Pass a regressor "
            "that does (LinearRegression, Ridge, forests, gradient boosting), or use DRLearner."
        )
    return f"{name}__sample_weight" if name else "sample_weight"


class WeightedRegression:
    """A regressor whose `fit` brings the weights of the rows."""

    def __init__(self, learner: Any, weights: Floats) -> None:
        self._learner, self._weights = learner, weights

    def fit(self, features: Floats, targets: Floats) -> None:
        self._learner.fit(features, targets, **{weights_parameter(self._learner): self._weights})


def regress(
    learner: Any, features: Floats, targets: Floats, seed: int, copies: Floats | None, weights: Floats | None = None
) -> tuple[Any, tuple[Note, ...]]:
    """A fitted clone, and its warnings.

    Args:
        features, targets: (n, d) and (n,).
        copies: (n,) how often a resample drew each row; None is once.
        weights: (n,) of the squared errors; a row of weight 0 takes no part. None is one each.
    """
    counts = np.ones(len(targets), np.int64) if copies is None else copies.astype(np.int64)
    rows = np.repeat(np.arange(len(targets)), counts if weights is None else counts * (weights > 0))
    fit = seeded_clone(learner, seed)
    fitter = fit if weights is None else WeightedRegression(fit, weights[rows])
    return fit, fit_noting(fitter, features[rows], targets[rows])[1]


def is_least_squares(learner: Any) -> bool:
    """Whether a learner is unpenalised least squares, alone or behind preprocessing that never sees the targets."""
    from sklearn.linear_model import LinearRegression

    *before, last = [step for _, step in learner.steps] if hasattr(learner, "steps") else [learner]
    return type(last) is LinearRegression and not last.positive and all(map(_blind, before))


def _blind(step: Any) -> bool:
    """Whether a preprocessing step is one of scikit-learn's that look at the covariates alone."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import TargetEncoder

    if isinstance(step, str):  # passthrough, drop
        return True
    if isinstance(step, ColumnTransformer):
        return _blind(step.remainder) and all(_blind(own) for _, own, _ in step.transformers)
    return type(step).__module__.startswith("sklearn.preprocessing") and not isinstance(step, TargetEncoder)


def _design(fit: Any, features: Floats) -> Floats:
    """(n, p) what a fitted least-squares learner multiplies its coefficients with."""
    last, columns = fit, features
    if hasattr(fit, "steps"):
        last, columns = fit[-1], fit[:-1].transform(features) if len(fit) > 1 else features
    dense = np.asarray(columns.toarray() if hasattr(columns, "toarray") else columns, np.float64)
    return np.column_stack([np.ones(len(dense)), dense]) if last.fit_intercept else dense


def sandwich(
    fit: Any, features: Floats, at: Floats, targets: Floats, weights: Floats | None, correction: Correction | None
) -> Linearised:
    """Influence of every row on the coefficients of (weighted) least squares, and the design at the points.

    With basis z and weights w the influence of row i is (mean of w z z')^-1 w_i z_i (target_i - z_i'beta), heteroskedasticity
    robust; that of the propensities' fit, where they have one, is added.

    Raises:
        EstimandError: where the basis is collinear and a point lies outside what it spans, so that it has no effect.
    """
    basis, points = _design(fit, features), _design(fit, at)
    root = np.ones(len(basis)) if weights is None else np.sqrt(weights)
    inverse = np.asarray(np.linalg.pinv(basis * root[:, None], rcond=len(basis) * np.finfo(np.float64).eps), np.float64)
    _require_spanned(points, basis * root[:, None], inverse)
    rows = inverse * root
    influence = len(basis) * (rows * (targets - fit.predict(features))).T
    if correction is not None:
        extra = [correction(len(basis) * row) for row in rows]
        influence += np.column_stack([0.0 if own is None else own + np.zeros(len(basis)) for own in extra])
    return Linearised(points, influence)


def _require_spanned(points: Floats, basis: Floats, inverse: Floats) -> None:
    if np.linalg.matrix_rank(basis) == basis.shape[1]:
        return
    outside = np.abs(points - points @ inverse @ basis) > 1e-6 * (1 + np.abs(points).max())
    if outside.any():
        raise EstimandError(
            f"CATE: at row {first_bad(outside)} lies outside what the covariates span, which are constant or collinear among the "
            "units that tell; drop the redundant columns."
        )
