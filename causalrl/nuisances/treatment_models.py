"""The law of a treatment given covariates, as structural models use it: densities of what was taken, and means.

Discrete treatments have behaviour models. A continuous one (`Trajectories` with actions (n, 1)) has `NormalDensity`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from causalrl.checks import Floats
from causalrl.data import Trajectories
from causalrl.diagnostics.record import Note
from causalrl.errors import DataError, EstimandError
from causalrl.nuisances.behavior import BehaviorLike
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.formulas import covariate_design
from causalrl.nuisances.least_squares import LeastSquares
from causalrl.nuisances.records import FittedBehavior


class TreatmentFit(ABC):
    """A fitted law of the treatment at the logged decisions.

    Attributes:
        log_density: (n,) of what was taken. mean: (n,) of the treatment given the covariates.
        known: nothing was learned. folds: how many fits. notes: warnings.
    """

    log_density: Floats
    known: bool = False
    folds: int = 1
    notes: tuple[Note, ...] = ()

    @property
    @abstractmethod
    def mean(self) -> Floats: ...

    @abstractmethod
    def through_density(self, slopes: Floats) -> Floats | None:
        """(n, k) influence of the fit on k estimates, n times which have the derivatives slopes (n, k) in the log densities."""

    @abstractmethod
    def through_mean(self, slopes: Floats) -> Floats | None:
        """The same with derivatives in the means; None where the fit has no influence values."""


@dataclass(frozen=True)
class NormalDensity:
    """A continuous treatment, normal around a linear mean with constant variance: A | L ~ N(x'b, s^2).

    b is by least squares and s^2 = RSS / (n - d), the residual variance of the regression.

    Args:
        formula: right-hand side of the mean in the covariates' names; "1" is an intercept alone, None every feature, linearly.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(500, 1))
        >>> dose = x + rng.normal(size=(500, 1))
        >>> study = crl.Trajectories.from_cross_section(x, dose, 2 * dose[:, 0] + x[:, 0])
        >>> model = crl.MSM("action", NormalDensity(), numerator=NormalDensity("1"))
        >>> bool(abs(model.estimate(study)["action"].value - 2) < 0.3)
        True
    """

    formula: str | None = None

    def fit(self, data: Trajectories, weights: Floats, size: float) -> TreatmentFit:
        """Learn from decisions with weights (n,), `size` units in all."""
        return _NormalFit(covariate_design(self.formula, data, data.observations)[0], treatment_values(data), weights, size)


TreatmentModel: TypeAlias = BehaviorLike | NormalDensity


class _NormalFit(TreatmentFit):
    def __init__(self, design: Floats, treatment: Floats, weights: Floats, size: float) -> None:
        line = LeastSquares(design, treatment, weights)
        if line.rank >= size:
            raise DataError(f"NormalDensity: {line.rank} coefficients for {size:.0f} decisions; use a shorter formula.")
        self._basis, self._share = line.basis(design), weights / weights.sum()
        self._mean: Floats = self._basis @ line.coefficients
        self._residual, self._factor = treatment - self._mean, size / (size - line.rank)
        self._variance = self._factor * float(self._share @ self._residual**2)
        if not self._variance > 1e-12 * float(self._share @ treatment**2):
            raise DataError("NormalDensity: the covariates determine the treatment, so that it has no density. Drop the cause.")
        self.log_density = -0.5 * (np.log(2 * np.pi * self._variance) + self._residual**2 / self._variance)

    @property
    def mean(self) -> Floats:
        return self._mean

    def through_mean(self, slopes: Floats) -> Floats:
        influence: Floats = (self._share * self._residual)[:, None] * (self._basis @ (self._basis.T @ slopes))
        return influence

    def through_density(self, slopes: Floats) -> Floats:
        variance = self._variance
        by_mean = self.through_mean(slopes * (self._residual / variance)[:, None])
        by_variance = (self._residual**2 / variance - 1) / (2 * variance) @ slopes
        influence: Floats = by_mean + (self._share * (self._factor * self._residual**2 - variance))[:, None] * by_variance
        return influence


class _DiscreteFit(TreatmentFit):
    """A behaviour policy, each decision with its observation weight (n,)."""

    def __init__(self, fitted: FittedBehavior, observation_weights: Floats) -> None:
        self._fitted, self._weights = fitted, observation_weights
        self.log_density = np.log(fitted.logged)
        self.known, self.folds, self.notes = fitted.model.known, len(fitted.folds), tuple(fitted.notes)

    @property
    def mean(self) -> Floats:
        data = self._fitted.steps.data
        if data.n_actions != 2:
            raise EstimandError(
                f"propensity: the data have {data.n_actions} arms, and this model has one mean. Take two arms, or treat the arms "
                "as doses with NormalDensity(formula)."
            )
        return np.where(data.actions == 1, self._fitted.logged, 1 - self._fitted.logged)

    def through_density(self, slopes: Floats) -> Floats | None:
        if self.known:
            return np.zeros_like(slopes)
        columns = [self._fitted.correction(-column) for column in np.ascontiguousarray(slopes.T)]
        known = [column for column in columns if column is not None]
        return np.column_stack(known) * self._weights[:, None] if len(known) == len(columns) else None

    def through_mean(self, slopes: Floats) -> Floats | None:
        sign = 2.0 * self._fitted.steps.data.actions - 1
        return self.through_density(slopes * (sign * self._fitted.logged)[:, None])


def fit_treatment(model: TreatmentModel | None, nuisances: Nuisances, observation_weights: Floats, size: float) -> TreatmentFit:
    """The model learned from single decisions, `size` in all; nuisances.weights holds resampling and observation weights."""
    data = nuisances.data
    if isinstance(model, NormalDensity):
        return model.fit(data, np.ones(data.n) if nuisances.weights is None else nuisances.weights, size)
    if data.n_actions == 0:
        raise EstimandError(
            f"propensity: {model} is for discrete actions, and these are continuous; pass NormalDensity(formula)."
        )
    fitted = nuisances.behavior(model, None, None)
    if (observation_weights != observation_weights[0]).any() and not (fitted.model.known or fitted.fits[0].corrects):
        raise EstimandError(f"observation_weights: {fitted.model} cannot use them; pass Logit(formula).")
    return _DiscreteFit(fitted, observation_weights)


def treatment_values(data: Trajectories) -> Floats:
    """(n,) the treatment as a number."""
    actions = np.asarray(data.actions, np.float64)
    if actions.ndim == 2 and actions.shape[1] != 1:
        raise DataError(f"actions: {actions.shape[1]} columns; a structural model has one treatment. Pass actions (n, 1).")
    return actions.reshape(len(actions))
