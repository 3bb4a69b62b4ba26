"""Weights that balance covariates by construction: entropy balancing and covariate balancing propensity scores.

Every one of them minimises a convex function of the coefficients of eta = z'b, z the covariates with an intercept,

    sum_i up_i exp(eta_i) + down_i exp(-eta_i) - linear_i eta_i,

whose first-order condition is the balance of z (Zhao 2019, "Covariate balancing propensity score by tailored loss functions",
Annals of Statistics 47:965); an arm is weighted by exp(eta), or 1 + exp(eta).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.data import Steps
from causalrl.errors import CausalRLError, DataError, EstimandError, SeparationError, SupportError
from causalrl.nuisances.logit import Design

_TOLERANCE = 1e-9
_MAX_ITERATIONS = 100


@dataclass(frozen=True, eq=False)
class Dual:
    """The convex function whose minimum balances.

    Attributes:
        up, down, linear: (n,) factors of exp(eta), exp(-eta) and -eta.
        base: the weight of a unit of the arm is base + exp(eta).
    """

    up: Floats
    down: Floats
    linear: Floats
    base: float

    def value(self, eta: Floats, weights: Floats) -> float:
        """At linear predictors (n,), under sample weights (n,)."""
        with np.errstate(over="ignore"):
            terms = _times_exp(self.up, eta) + _times_exp(self.down, -eta) - self.linear * eta
            return float(weights @ terms)

    def slope(self, eta: Floats) -> Floats:
        """(n,) derivative of each unit's term in eta."""
        return _times_exp(self.up, eta) - _times_exp(self.down, -eta) - self.linear

    def curvature(self, eta: Floats) -> Floats:
        """(n,) second derivative."""
        return _times_exp(self.up, eta) + _times_exp(self.down, -eta)


def _times_exp(factor: Floats, eta: Floats) -> Floats:
    """factor exp(eta), 0 where the factor is, whatever eta."""
    return factor * np.exp(np.where(factor > 0, eta, 0.0))


@dataclass(frozen=True, eq=False)
class FittedBalance:
    """Weights of one arm that make it look like a population.

    Attributes:
        weights: (n,) zero outside the arm.
    """

    weights: Floats
    _basis: Floats
    _dual: Dual
    _eta: Floats
    _hessian: Floats

    def correction(self, slopes: Floats) -> Floats:
        """(n,) stacked influence of the coefficients on an estimate whose derivative in the weights is `slopes` (n,) / n."""
        change = np.where(self.weights > 0, self.weights - self._dual.base, 0.0)
        direction = np.linalg.solve(self._hessian, self._basis.T @ (slopes * change))
        influence: Floats = -self._dual.slope(self._eta) * (self._basis @ direction)
        return influence


@dataclass(frozen=True)
class BalancingWeights(ABC):
    """Base of the weights that balance covariates; pass one as `IPW(weights=...)`.

    Args:
        formula: right-hand side in the observation columns' names, whose columns are balanced; None is every feature.
    """

    formula: str | None = None

    def fit(self, steps: Steps, weights: Floats, arm: int, towards: Bools) -> FittedBalance:
        """Weights of the decisions for `arm` with which their covariates have the means of those in `towards`.

        Args:
            weights: (n,) multiplicities in a resample, else 1.

        Raises:
            SupportError, SeparationError: where no weights balance, naming the covariate.
        """
        design = Design(self.formula, steps)
        basis = design.basis(steps.observations)
        if not basis.shape[1] or not (basis[:, 0] == 1).all():
            raise DataError(f"formula: {self.formula!r} has no intercept, so that no weights can sum to a total; drop '- 1'.")
        own = steps.actions == arm
        dual = self._dual(steps.actions, own, towards)
        coefficients, converged = _minimise(basis, weights, dual)
        if not converged:
            raise self._refusal(_culprit(design, steps, weights, coefficients, own, towards), arm)
        eta = basis @ coefficients
        fitted = np.where(own, dual.base, 0.0) + _times_exp(own.astype(np.float64), eta) * own
        return FittedBalance(fitted, basis, dual, eta, _hessian(basis, weights, dual, eta))

    @abstractmethod
    def _dual(self, actions: Ints, own: Bools, towards: Bools) -> Dual:
        """What to minimise."""

    @abstractmethod
    def _refusal(self, culprit: str, arm: int) -> CausalRLError:
        """The error where no weights balance."""


_MEND = "Drop or coarsen it (formula=...), restrict the study to units that every arm has, or ask ATO() of IPW()."


@dataclass(frozen=True)
class EntropyBalancing(BalancingWeights):
    """Entropy balancing: of all weights under which an arm has exactly the population's covariate means, the most even ones.

    w_i = exp(z_i'b) in the arm, with sum_arm w z = sum_population z; b minimises the dual sum_arm exp(z'b) - sum_population z'b.
    The population is everybody (ATE, policy values), the treated (ATT) or the controls (ATC). Source: Hainmueller (2012),
    "Entropy balancing for causal effects", Political Analysis 20:25.

    Args:
        formula: right-hand side in the observation columns' names, whose columns are balanced, for example
            "age + I(age**2) + C(sex)"; None is every feature.

    Raises:
        SupportError: from `estimate`, where the population's mean lies outside the range of the arm, naming the covariate.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> x = np.array([[0.0], [1.0], [2.0], [0.0], [1.0], [3.0]])
        >>> study = crl.Trajectories.from_cross_section(x, [1, 1, 1, 0, 0, 0], [1.0, 2.0, 3.0, 0.0, 1.0, 3.0])
        >>> effect = crl.IPW(weights=EntropyBalancing()).estimate(study, crl.ATT())
        >>> round(effect.value, 9), bool(abs(effect.diagnostics["smd_after"][0]) < 1e-8)
        (1.0, True)
    """

    def _dual(self, actions: Ints, own: Bools, towards: Bools) -> Dual:
        return _tilting(own, towards)

    def _refusal(self, culprit: str, arm: int) -> CausalRLError:
        return SupportError(f"weights: no weights of arm {arm} balance {culprit}. {_MEND}")


@dataclass(frozen=True)
class CBPS(BalancingWeights):
    """Covariate balancing propensity score, just identified: the logit that its own weights balance.

    The coefficients solve sum (A / e - (1 - A) / (1 - e)) z = 0 for the ATE, and sum (A - (1 - A) e / (1 - e)) z = 0 for the ATT,
    in place of the likelihood equations; the ATT's weights are those of entropy balancing. Weights are divided by their sum in
    each arm. Source: Imai & Ratkovic (2014), "Covariate balancing propensity score", JRSS B 76:243, eq. 9 and 11.

    Args:
        formula: right-hand side in the observation columns' names, whose columns are balanced; None is every feature.

    Raises:
        EstimandError: from `estimate`, for an ATE of more than two arms.
        SeparationError: from `estimate`, where the covariates separate the arms, naming one.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> x = np.array([[0.0], [1.0], [2.0], [0.0], [1.0], [3.0]])
        >>> study = crl.Trajectories.from_cross_section(x, [1, 1, 1, 0, 0, 0], [1.0, 2.0, 3.0, 0.0, 1.0, 3.0])
        >>> round(crl.IPW(weights=CBPS()).estimate(study, crl.ATE()).value, 9)
        1.0
    """

    def _dual(self, actions: Ints, own: Bools, towards: Bools) -> Dual:
        if not towards.all():
            return _tilting(own, towards)
        if len(np.unique(actions)) > 2:
            raise EstimandError(
                "weights: CBPS() models the probability of one of two arms, and the data have more. Use EntropyBalancing(), or "
                "ask ATT(treated, control), which concerns two."
            )
        return Dual(own.astype(np.float64), (~own).astype(np.float64), np.where(own, -1.0, 1.0), 1.0)

    def _refusal(self, culprit: str, arm: int) -> CausalRLError:
        return SeparationError(f"weights: no logit balances {culprit} between the arms. {_MEND}")


def _tilting(own: Bools, towards: Bools) -> Dual:
    """Exponential tilting of an arm towards a population."""
    return Dual(own.astype(np.float64), np.zeros(len(own)), towards.astype(np.float64), 0.0)


def _hessian(basis: Floats, weights: Floats, dual: Dual, eta: Floats) -> Floats:
    """(r, r), with a share of 1e-12 added to the diagonal: directions in which an arm is constant have no curvature."""
    hessian: Floats = basis.T @ (basis * (weights * dual.curvature(eta))[:, None])
    diagonal = np.diagonal(hessian)
    return hessian + np.diag(1e-12 * diagonal + 1e-300)


def _minimise(basis: Floats, weights: Floats, dual: Dual) -> tuple[Floats, bool]:
    """(r,) coefficients at the minimum, and whether there is one: Newton steps, halved while they raise the function."""
    active = dual.up + dual.down > 0
    coefficients, eta = np.zeros(basis.shape[1]), np.zeros(len(basis))
    value = dual.value(eta, weights)
    for _ in range(_MAX_ITERATIONS):
        gradient = basis.T @ (weights * dual.slope(eta))
        step = np.linalg.solve(_hessian(basis, weights, dual, eta), gradient)
        moved = basis @ step
        scale = 1.0
        while scale > 1e-10 and not (proposed := dual.value(eta - scale * moved, weights)) <= value + 1e-12 * abs(value):
            scale *= 0.5
        if scale <= 1e-10 or not np.isfinite(proposed):
            return coefficients, False
        coefficients, eta, value = coefficients - scale * step, eta - scale * moved, proposed
        if np.abs(moved[active]).max() < _TOLERANCE:
            return coefficients, True
    return coefficients, False


def _culprit(design: Design, steps: Steps, weights: Floats, coefficients: Floats, own: Bools, towards: Bools) -> str:
    """The covariate that cannot be balanced: one whose mean the arm does not reach, else the largest in the tilt."""
    columns, names = design.columns(steps.observations)
    for column, name in zip(columns.T, names, strict=True):
        low, high, mean = column[own].min(), column[own].max(), np.average(column[towards], weights=weights[towards])
        if not low < mean < high and not low == mean == high:
            return f"{name}, which lies between {low:.6g} and {high:.6g} there, the mean to be reached being {mean:.6g}"
    return f"the combination of covariates led by {design.culprit(coefficients[None])}"
