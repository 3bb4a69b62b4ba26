"""How omitted-variable bias is computed for each kind of estimator: from least squares, or from cross-fitted nuisances."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NoReturn

import numpy as np

from causalrl.checks import Floats
from causalrl.errors import EstimandError, SensitivityError
from causalrl.estimands import ATE, ATO, Estimand
from causalrl.estimators.base import Estimator, FittedEstimator
from causalrl.estimators.direct import DirectMethod
from causalrl.estimators.doubly_robust import RepeatedEstimator
from causalrl.estimators.partially_linear import PLR
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.regression import Pooled
from causalrl.policies import Always
from causalrl.sensitivity.base import SensitivityModel
from causalrl.sensitivity.bias_bounds import BiasBounds, DebiasedEffect, RegressionCoefficient

_ROUNDING = 1e-12
"""Of residuals, relative to the largest outcome."""


class Gain(ABC):
    """What a recorded covariate explains beyond the others."""

    @abstractmethod
    def times(self, count: int) -> tuple[float, float]:
        """R2 with treatment and outcome of a confounder so many times as strong; outside [0, 1] where there is none."""


@dataclass(frozen=True)
class LinearGain(Gain):
    """Partial R2 of a covariate in least squares (Cinelli & Hazlett 2020, section 4.4).

    Attributes:
        r2_treatment: with the treatment, given the other covariates. r2_outcome: with the outcome, given these and the treatment.

    Example:
        >>> female = LinearGain(0.00908, 0.10903)  # Darfur
        >>> [round(value, 4) for value in female.times(1)]
        [0.0092, 0.1246]
    """

    r2_treatment: float
    r2_outcome: float

    def times(self, count: int) -> tuple[float, float]:
        d, y = self.r2_treatment, self.r2_outcome
        if count * d >= 1 - d:
            return count * d / (1 - d), 1.0
        with_covariate = count * d**2 / ((1 - count * d) * (1 - d))
        eta = (np.sqrt(count) + np.sqrt(with_covariate)) / np.sqrt(1 - with_covariate)
        return count * d / (1 - d), float(eta**2 * y / (1 - y))


@dataclass(frozen=True)
class LearnedGain(Gain):
    """Gains by a covariate in the outcome regression and in the weights (Chernozhukov et al. 2022)."""

    r2_treatment: float
    r2_outcome: float

    def times(self, count: int) -> tuple[float, float]:
        return count * self.r2_treatment, count * self.r2_outcome


class Route(ABC):
    """The bounds of an estimator's effect, and the gains of its covariates.

    Attributes:
        nuisances: of the two arms. share: what the treatment's R2 is a share of, as text. remarks: further sentences.
    """

    nuisances: Nuisances
    share: str
    remarks: tuple[str, ...] = ()

    @abstractmethod
    def bounds(self) -> BiasBounds:
        """The effect and how a confounder moves it."""

    @abstractmethod
    def gain(self, column: int) -> Gain:
        """What a column of the covariates explains beyond the others."""


@dataclass(frozen=True, eq=False)
class LeastSquares(Route):
    """Ordinary least squares of the outcome on the covariates and the treatment."""

    nuisances: Nuisances

    share = "of the treatment's residual variance"

    @property
    def remarks(self) -> tuple[str, ...]:  # type: ignore[override]
        clusters = self.nuisances.data.clusters
        if len(np.unique(clusters)) == len(clusters):
            return ()
        return ("The standard error is the classical one of independent units, as in the paper; it leaves out the clusters.",)

    @cached_property
    def _covariates(self) -> Floats:
        """(n, p + 1) with the intercept last."""
        data = self.nuisances.data
        design = np.column_stack([data.features(data.observations), np.ones(data.n), self._treatment])
        if np.linalg.matrix_rank(design) < design.shape[1]:
            raise SensitivityError("observations: the covariates are collinear with each other or the treatment; drop some.")
        return design[:, :-1]

    @property
    def _treatment(self) -> Floats:
        return self.nuisances.data.actions.astype(np.float64)

    def bounds(self) -> RegressionCoefficient:
        data, covariates = self.nuisances.data, self._covariates
        treatment, outcome = (_residuals(covariates, column) for column in (self._treatment, data.rewards))
        df = data.n - covariates.shape[1] - 1
        if df < 2:
            raise SensitivityError(
                f"observations: {data.n} units leave {df} degrees of freedom, at least 2 are needed; use fewer columns."
            )
        effect = float(treatment @ outcome / (treatment @ treatment))
        errors = outcome - effect * treatment
        stderr = float(np.sqrt(errors @ errors / df / (treatment @ treatment)))
        _require_unexplained(errors, data.rewards)
        return RegressionCoefficient(effect, stderr, df)

    def gain(self, column: int) -> LinearGain:
        covariates = self._covariates
        others, own = np.delete(covariates, column, axis=1), covariates[:, column]
        with_treatment = np.column_stack([others, self._treatment])
        return LinearGain(
            _partial_r2(others, own, self._treatment), _partial_r2(with_treatment, own, self.nuisances.data.rewards)
        )


def _require_unexplained(errors: Floats, outcomes: Floats) -> None:
    """Refuse errors that are zero to rounding."""
    if not np.sqrt(np.mean(errors**2)) > _ROUNDING * np.abs(outcomes).max():
        raise SensitivityError(
            "rewards: the covariates and the treatment explain the outcome exactly; nothing is left unexplained."
        )


def _residuals(design: Floats, values: Floats) -> Floats:
    scale = np.abs(design).max(axis=0)
    solution = np.linalg.lstsq(design / scale, values, rcond=None)[0]
    residuals: Floats = values - design / scale @ solution
    return residuals


def _partial_r2(given: Floats, column: Floats, values: Floats) -> float:
    """Squared correlation of a column and values, given others."""
    own, other = _residuals(given, column), _residuals(given, values)
    return float((own @ other) ** 2 / ((own @ own) * (other @ other)))


@dataclass(frozen=True, eq=False)
class Learned(Route):
    """An effect with cross-fitted nuisances."""

    estimator: Estimator
    nuisances: Nuisances
    goal: Estimand

    def gain(self, column: int) -> LearnedGain:
        data, long = self.nuisances.data, self.bounds()
        if data.observations.shape[1] == 1:
            raise SensitivityError(
                f"benchmarks: {data.feature_names[0]!r} is the only covariate; there is nothing to learn from without it."
            )
        names = tuple(np.delete(data.feature_names, column).tolist())
        without = replace(data, observations=np.delete(data.observations, column, axis=1), feature_names=names)
        short = replace(self, nuisances=Nuisances(without, self.nuisances.seed)).bounds()
        of_outcome = short.squared_errors.mean() / long.squared_errors.mean() - 1
        of_weights = 1 - short.squared_weights / long.squared_weights
        return LearnedGain(float(of_weights), float(of_outcome))

    @abstractmethod
    def bounds(self) -> DebiasedEffect: ...

    def _debiased(self, errors: Floats, squared_weights: float, weight_influence: Floats) -> DebiasedEffect:
        estimate = FittedEstimator(self.estimator, self.nuisances).estimate(self.goal)
        clusters = self.nuisances.data.clusters
        _require_unexplained(errors, self.nuisances.data.rewards)
        return DebiasedEffect(float(estimate.value), estimate.influence, clusters, errors**2, squared_weights, weight_influence)


@dataclass(frozen=True, eq=False)
class PartiallyLinear(Learned):
    """alpha = (A - e) / E (A - e)^2."""

    estimator: PLR
    share = "of the treatment's residual variance"

    def bounds(self) -> DebiasedEffect:
        model, own = self.estimator, self.nuisances
        e = own.behavior(model.propensity, model.folds, None).treated
        treatment = (own.data.actions == 1) - e
        outcome = own.data.rewards - own.outcome_mean(model.outcome, model.folds).values
        effect = float(treatment @ outcome / (treatment @ treatment))
        squared = float(1 / np.mean(treatment**2))
        return self._debiased(outcome - effect * treatment, squared, squared - treatment**2 * squared**2)


@dataclass(frozen=True, eq=False)
class Interactive(Learned):
    """alpha = A / e - (1 - A) / (1 - e), and E alpha^2 = E {2 (1 / e + 1 / (1 - e)) - alpha^2} whatever e to first order."""

    estimator: RepeatedEstimator
    share = "of the variance of the weights 1 / P(own arm)"

    def bounds(self) -> DebiasedEffect:
        model, own = self.estimator, self.nuisances
        fitted = own.behavior(model.behavior, model.folds, None)
        target = own.target(Always(1), model.behavior, model.folds, None)
        errors = own.data.rewards - own.values(model.q, target, 1.0, model.folds).q
        terms = 2 / (fitted.treated * (1 - fitted.treated)) - 1 / fitted.logged**2
        squared = float(terms.mean())
        if not squared > 0:
            raise SensitivityError(
                f"propensity: E alpha^2 comes out as {squared:.3g}: the propensities do not fit the treatment. "
                "Use Logit(), or PLR(...)."
            )
        return self._debiased(errors, squared, terms - squared)


def route_of(model: SensitivityModel, estimator: Estimator, nuisances: Nuisances, goal: Estimand, arms: tuple[int, int]) -> Route:
    """The route for an estimator and an effect.

    Raises:
        EstimandError: where there is none; the text says what there is.
    """
    if nuisances.data.n_actions != 2 or arms != (1, 0):
        raise EstimandError(
            f"{model}: compares arm 1 with arm 0 in data of these two; keep their rows and code the treated as 1."
        )
    if isinstance(estimator, PLR) and isinstance(goal, ATE | ATO):
        _require_plain(model, estimator)
        return PartiallyLinear(estimator, nuisances, goal)
    if not isinstance(goal, ATE):
        raise EstimandError(f"{model}: takes ATE(), and with PLR(...) also ATO(); {goal} weights people in another way.")
    if isinstance(estimator, RepeatedEstimator):
        _require_plain(model, estimator)
        return Interactive(estimator, nuisances, goal)
    if isinstance(estimator, DirectMethod) and _is_ordinary(estimator.q):
        return LeastSquares(nuisances)
    _refuse(model, estimator)


def _require_plain(model: SensitivityModel, estimator: PLR | RepeatedEstimator) -> None:
    """Refuse what makes the estimate another one than that of one split's nuisances."""
    if estimator.repeats > 1:
        raise EstimandError(f"{model}: takes the nuisances of one split, and {estimator} has {estimator.repeats}; use repeats=1.")
    if isinstance(estimator, RepeatedEstimator) and estimator.truncate is not None:
        raise EstimandError(f"{model}: {estimator} truncates its weights, and the bias of that has no bound; leave truncate out.")


def _is_ordinary(q: object) -> bool:
    """Whether a value model is least squares on the covariates and the treatment, without interactions."""
    from sklearn.linear_model import LinearRegression

    return (
        isinstance(q, Pooled) and type(q.regressor) is LinearRegression and q.regressor.fit_intercept and not q.regressor.positive
    )


def _refuse(model: SensitivityModel, estimator: Estimator) -> NoReturn:
    raise EstimandError(
        f"{model}: is for SLearner(LinearRegression()), PLR(...) and AIPW(...), and not for {estimator}, "
        "whose bias has another form."
    )
