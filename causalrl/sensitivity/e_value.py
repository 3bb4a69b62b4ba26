"""E-values (VanderWeele & Ding 2017, "Sensitivity analysis in observational research: introducing the E-value", Annals of
Internal Medicine 167:268), on the bounding factor of Ding & VanderWeele (2016, Epidemiology 27:368)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalrl.checks import Floats, number
from causalrl.errors import EstimandError, SensitivityError
from causalrl.estimands import ATE, Contrast, Estimand, PopulationEffect
from causalrl.estimate import Estimate
from causalrl.estimators.base import Estimator, FittedEstimator
from causalrl.inference.base import IntervalMethod, check_method, make_stderr
from causalrl.nuisances.crossfit import Nuisances
from causalrl.sensitivity.base import SensitivityAnalysis, SensitivityModel
from causalrl.sensitivity.effects import compared_arms

_RATIO_OF_DIFFERENCE, _RATIO_OF_ERROR = 0.91, 1.78
"""The log risk ratio of a difference of one standard deviation, and the width of its 95% interval for a standard error of one
(VanderWeele & Ding 2017, table 2)."""
_ROUNDING = 1e-12
"""Of a standard deviation, relative to the largest outcome."""


@dataclass(frozen=True)
class RiskRatio:
    """A risk ratio, estimated here or published, and its E-values, R + sqrt(R (R - 1)) with R = value / null, or its inverse
    where that is below 1.

    The E-value is the least risk ratio that an unrecorded confounder must have with both the treatment and the outcome, beyond
    the recorded covariates, to turn a true ratio of `null` into this one.

    Args:
        value: the ratio. low, high: its 95% interval. null: the true ratio to explain it by; 1 is no effect.

    Raises:
        SensitivityError: for ratios that are not positive, or a value outside its interval.

    Example:
        >>> formula_feeding = RiskRatio(3.9, 1.8, 8.7)  # and deaths by respiratory infection: VanderWeele & Ding 2017
        >>> round(formula_feeding.e_value, 2), round(formula_feeding.limit_e_value, 2)
        (7.26, 3.0)
    """

    value: float
    low: float
    high: float
    null: float = 1.0

    def __post_init__(self) -> None:
        for name in ("value", "low", "high", "null"):
            number(name, getattr(self, name), np.finfo(float).tiny, error=SensitivityError)
        if not self.low <= self.value <= self.high:
            raise SensitivityError(
                f"low, high: the ratio {self.value:g} lies outside its interval [{self.low:g}, {self.high:g}]."
            )

    @property
    def e_value(self) -> float:
        """That of the ratio."""
        return _e_value(self.value / self.null)

    @property
    def limit(self) -> float:
        """The limit of the interval nearest the null, and the null where the interval holds it."""
        return float(np.clip(self.null, self.low, self.high))

    @property
    def limit_e_value(self) -> float:
        """That of the limit, 1 where the interval holds the null."""
        return _e_value(self.limit / self.null)


def _e_value(ratio: float) -> float:
    away = max(ratio, 1 / ratio)
    return float(away + np.sqrt(away * (away - 1)))


@dataclass(frozen=True)
class EValue(SensitivityModel):
    """How strong an unrecorded confounder must be, on the risk-ratio scale, to explain an effect away.

    For an outcome of 0 and 1 the risk ratio is that of the estimator's two arm values, with the interval of its logarithm. For
    any other outcome it is exp(0.91 d), with limits exp(0.91 d -/+ 1.78 s), for d and s the effect and its standard error in
    standard deviations of the outcome (VanderWeele & Ding 2017, table 2), pooled within the two arms as for Cohen's d, so that
    the effect itself is not part of the scale: an approximation for an outcome that is near normal.

    Args:
        null: what the confounder has to bring the effect to: a risk ratio for an outcome of 0 and 1, else an effect in the
            outcome's unit. None is no effect.
        method: of the interval or the standard error; None is the estimate's default.

    Raises:
        EstimandError: from the analysis, for sequential data and for what compares no two arms; for an outcome of 0 and 1 also
            for effects in tilted populations and estimators without arm values. IntervalError: where the estimate has no
            default interval. Also for an outcome of two other values than 0 and 1.

    Example:
        >>> import causalrl as crl
        >>> study = crl.Trajectories.from_cross_section([[0.0]] * 200, [0, 1] * 100, [0, 1, 0, 1, 1, 1, 0, 0] * 25)
        >>> crl.sensitivity_analysis(crl.IPW(), study, crl.ATE(), EValue()).frame.round(2)
           risk_ratio   low  high  null  e_value  limit_e_value
        0         3.0  2.09   4.3   1.0     5.45            3.6
    """

    null: float | None = None
    method: IntervalMethod | None = None

    def __post_init__(self) -> None:
        if self.null is not None:
            number("null", self.null, error=SensitivityError)
        if self.method is not None:
            check_method(self.method)

    def analyse(self, estimator: Estimator, nuisances: Nuisances, goal: Estimand) -> SensitivityAnalysis:
        import pandas as pd

        from causalrl.report.sensitivity_plots import e_value_plot

        arms = compared_arms(self, nuisances, goal)
        fitted = FittedEstimator(estimator, nuisances)
        estimate = fitted.estimate(goal)
        outcomes = [nuisances.data.rewards[nuisances.data.actions == arm] for arm in arms]
        if _is_binary(np.concatenate(outcomes)):
            ratio = self._of_risks(fitted, goal)
            remarks: tuple[str, ...] = ()
        else:
            ratio, remarks = self._of_difference(estimate, _pooled_spread(*outcomes))
        frame = pd.DataFrame(
            {
                "risk_ratio": [ratio.value],
                "low": [ratio.low],
                "high": [ratio.high],
                "null": [ratio.null],
                "e_value": [ratio.e_value],
                "limit_e_value": [ratio.limit_e_value],
            }
        )
        return SensitivityAnalysis(str(self), estimate, frame, (*self._findings(ratio), *remarks), e_value_plot)

    def _of_risks(self, fitted: FittedEstimator, goal: Estimand) -> RiskRatio:
        """The ratio of two arm values."""
        if isinstance(goal, PopulationEffect):
            raise EstimandError(f"{goal}: the outcome is 0 or 1, and a risk ratio needs the risk of both arms. Ask ATE().")
        assert isinstance(goal, ATE | Contrast)
        contrast = goal.contrast() if isinstance(goal, ATE) else goal
        own, other = (fitted.estimate(value) for value in (contrast.policy, contrast.reference))
        for risk in (own, other):
            if not float(risk.value) > 0:
                raise EstimandError(
                    f"{risk.estimand}: the risk is {float(risk.value):.4g}, and only positive risks have a ratio. Code "
                    "the event as 1, or use an estimator that keeps to [0, 1]."
                )
        logarithm = (own / other).log()
        low, high = logarithm.interval(method=self.method)
        null = 1.0 if self.null is None else number("null", self.null, np.finfo(float).tiny, error=SensitivityError)
        return RiskRatio(float(np.exp(logarithm.value)), float(np.exp(low)), float(np.exp(high)), null)

    def _of_difference(self, estimate: Estimate, spread: float) -> tuple[RiskRatio, tuple[str, ...]]:
        """The ratio that stands for a difference of means, and what to say of it."""
        method = estimate.default_method if self.method is None else self.method
        error = float(make_stderr(estimate.evidence, method)) / spread
        difference = float(estimate.value) / spread
        middle, half = _RATIO_OF_DIFFERENCE * difference, _RATIO_OF_ERROR * error
        null = np.exp(_RATIO_OF_DIFFERENCE * (0.0 if self.null is None else self.null) / spread)
        remark = (
            f"The risk ratio stands for an effect of {difference:.3g} standard deviations of the outcome, pooled within the "
            "arms, exp(0.91 d): an approximation, good where the outcome is near normal."
        )
        ratio, low, high = map(float, np.exp([middle, middle - half, middle + half]))
        return RiskRatio(ratio, low, high, float(null)), (remark,)

    def _findings(self, ratio: RiskRatio) -> tuple[str, str]:
        nothing = (
            "no effect" if self.null is None else f"a true {'ratio' if ratio.null == self.null else 'effect'} of {self.null:g}"
        )
        first = (
            f"An unrecorded confounder would have to be tied to the treatment and to the outcome by risk ratios of "
            f"{ratio.e_value:.2f} each, beyond the recorded covariates, for {nothing} to look like the estimate; a "
            "weaker one could not do it."
        )
        if ratio.limit == ratio.null:
            return first, f"The 95% interval holds {nothing} as it is: no confounder is needed for that."
        second = f"To bring the 95% interval to {nothing}, {ratio.limit_e_value:.2f} each would be needed."
        return first, second


def _is_binary(outcomes: Floats) -> bool:
    """Whether an outcome is 0 or 1.

    Raises:
        EstimandError: for another outcome of two values, whose coding would decide over the risk ratio.
    """
    values = np.unique(outcomes)
    if np.isin(values, (0, 1)).all():
        return True
    if len(values) == 2:
        raise EstimandError(
            f"rewards: the outcome takes the two values {values[0]:g} and {values[1]:g}; code them 0 and 1, the event as 1, so "
            "that its risk in either arm is known."
        )
    return False


def _pooled_spread(treated: Floats, control: Floats) -> float:
    """Standard deviation within the arms, sqrt(sum of squares about the arm means / (n - 2))."""
    squares = sum(float(np.sum((own - own.mean()) ** 2)) for own in (treated, control))
    spread = float(np.sqrt(squares / max(len(treated) + len(control) - 2, 1)))
    if not spread > _ROUNDING * max(np.abs(treated).max(), np.abs(control).max()):
        raise EstimandError("rewards: the outcome is the same for everybody in an arm, so that an effect has no scale.")
    return spread
