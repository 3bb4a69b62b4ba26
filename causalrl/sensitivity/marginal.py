"""Tan's marginal sensitivity model with sharp bounds, for weighting and augmented weighting of one decision.

Sources: Tan, A distributional approach for causal inference using propensity scores, JASA 101:1619, 2006; Dorn & Guo, Sharp
sensitivity analysis for inverse propensity weighting via quantile balancing, JASA 118:2645, 2023; Dorn, Guo & Kallus,
Doubly-valid/doubly-sharp sensitivity analysis for causal inference with unmeasured confounding, JASA, 2024 (arXiv:2112.11449).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from causalrl.checks import Floats
from causalrl.data import End, Trajectories
from causalrl.diagnostics.record import Note
from causalrl.errors import EstimandError
from causalrl.estimands import ATC, ATE, ATT, CATE, Contrast, Estimand, PolicyValue, PopulationEffect
from causalrl.estimators.base import Estimator, FittedEstimator
from causalrl.estimators.doubly_robust import DR
from causalrl.estimators.weighting import WeightingEstimator
from causalrl.inference.base import Evidence, check_level, make_interval
from causalrl.inference.wald import Wald
from causalrl.nuisances.crossfit import Nuisances
from causalrl.sensitivity.base import BOUND_COLUMNS, SensitivityAnalysis, SensitivityModel, about_zero, checked_gammas
from causalrl.sensitivity.marginal_quantiles import level_parameter
from causalrl.sensitivity.marginal_scores import (
    AugmentedBounds,
    Bounded,
    OneArmBounds,
    PolicyBounds,
    RepeatedBounds,
    WeightedBounds,
)

_OUTWARDS = np.array([-1.0, 1.0, -1.0, 1.0])
"""The direction in which each limit of `BOUND_COLUMNS` widens."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class MarginalModel(SensitivityModel):
    """The odds of treatment given covariates and confounder are within [1 / gamma, gamma] times those given covariates alone.

    The bounds are sharp: the largest and the smallest value that the law of the data allows. In the part of the population that
    did not take arm a they tilt the law of the outcome under a by factors in [1 / gamma, gamma], up or down beyond its
    conditional quantile q at level gamma / (1 + gamma):

        upper bound of E[Y(a)] = E[e Y + (1 - e) (q + gamma (Y - q)_+ - (q - Y)_+ / gamma) | a],  e = P(a | X).

    Weighting estimators (`IPW`, `WIS`, `IS`) get them by quantile balancing (Dorn & Guo 2023), `AIPW` (`DR`) by the doubly robust
    score of Dorn, Guo & Kallus (2024), whose outcome model learns the tail mean: valid where e or the outcome model is right,
    even if q is wrong (the bounds are then too wide), and sharp where q is right too. At gamma = 1 both are the estimate. A
    binary outcome has quantiles 0 and 1, by a logit in each arm. The interval runs from the lower limit of the lower bound to
    the upper limit of the upper one, both Wald, with the influence of learned propensities; that of q vanishes to first order.
    q is learned in sample, unless the regressor is cross-fitted, so that bounds are a little narrow where covariates are many.

    What holds at a gamma holds at every larger one. Quantiles and tail means are learned anew at each, and with few data and
    flexible learners those of a larger gamma can come out narrower: a row is then that of the widest limits up to its gamma,
    counted from gamma = 1 whether that is asked or not, and a finding says so. The bounds therefore hold the estimate.

    Values of policies and their contrasts are those of one decision, whatever the number of arms; with more than two, gamma
    limits the odds of each arm against all others, and the bounds are valid, but sharp one arm at a time. Of effects on part of
    the population, `ATT` and `ATC` have bounds.

    Args:
        gammas: increasing odds ratios, from 1.
        quantile: an unfitted scikit-learn quantile regressor, such as GradientBoostingRegressor(loss="quantile"), whose
            prediction is balanced beside 1; None is a linear quantile regression on the covariates (a logit for a binary
            outcome). It is cross-fitted in the folds of the estimator unless it is linear.
        level: coverage of the interval for all values between the bounds.

    Raises:
        SensitivityError: for gammas below 1 or not increasing, or a regressor that learns no quantile.
        EstimandError: from `sensitivity_analysis`, for estimators without propensities, records longer than one decision,
            continuous treatments and other estimands.

    Example:
        >>> import causalrl as crl
        >>> from simulators import WorstConfounder
        >>> design = WorstConfounder(gamma=1.5)
        >>> study = design.sample(2000)
        >>> model = MarginalModel(gammas=[1, 1.5, 2])
        >>> found = crl.sensitivity_analysis(crl.IPW(crl.Logit()), study, crl.ATE(), model)
        >>> wide = found.frame.iloc[1]
        >>> bool(wide["interval_low"] < design.ate < wide["interval_high"])
        True
    """

    gammas: Sequence[float]
    quantile: Any = None
    level: float = 0.95

    def __post_init__(self) -> None:
        object.__setattr__(self, "gammas", checked_gammas(self.gammas))
        if self.quantile is not None:
            level_parameter(self.quantile)
        check_level(self.level)

    def analyse(self, estimator: Estimator, nuisances: Nuisances, goal: Estimand) -> SensitivityAnalysis:
        import pandas as pd

        from causalrl.report.sensitivity_plots import bounds_plot

        recipe = _bounded(estimator)
        _require_one_decision(nuisances.data)
        _require_goal(goal)
        estimate = FittedEstimator(recipe, nuisances).estimate(goal)
        bounds = _bounds(recipe, nuisances, goal, self.quantile)
        gammas = np.array(self.gammas if self.gammas[0] == 1 else (1.0, *self.gammas))
        raw = np.array([self._limits(*bounds.at(gamma)) for gamma in gammas])
        nested = np.maximum.accumulate(raw * _OUTWARDS) * _OUTWARDS
        table = np.column_stack([gammas, nested])[-len(self.gammas) :]
        frame = pd.DataFrame(table, columns=list(BOUND_COLUMNS))
        findings = [
            *_about_difference(frame, goal),
            *_about_nesting(gammas, raw, nested),
            *_about_arms(nuisances.data, goal),
            *map(str, dict.fromkeys(bounds.notes)),
        ]
        return SensitivityAnalysis(str(self), estimate, frame, tuple(findings), bounds_plot)

    def _limits(self, low: Evidence, high: Evidence) -> tuple[float, ...]:
        """Bounds and interval, in the order of `BOUND_COLUMNS`."""
        lower, upper = (make_interval(bound, self.level, Wald()) for bound in (low, high))
        return float(low.value), float(high.value), float(lower.low), float(upper.high)


class Bounds(Protocol):
    """What gives the bounds of one question at any gamma."""

    @property
    def notes(self) -> list[Note]: ...

    def at(self, gamma: float) -> tuple[Evidence, Evidence]: ...


def _bounds(estimator: Bounded, nuisances: Nuisances, goal: Estimand, quantile: Any) -> Bounds:
    if isinstance(goal, ATT | ATC):
        return OneArmBounds(estimator, nuisances, goal, quantile)
    values = _policy_values(goal)
    repeats = estimator.repeats if isinstance(estimator, DR) else 1
    make = partial(_policy_bounds, estimator, values, quantile)
    return RepeatedBounds([make(nuisances.split(r)) for r in range(repeats)])


def _policy_bounds(estimator: Bounded, values: list[PolicyValue], quantile: Any, nuisances: Nuisances) -> PolicyBounds:
    kind = AugmentedBounds if isinstance(estimator, DR) else WeightedBounds
    ratios = (nuisances.ratios(value.policy, estimator.behavior, estimator.folds, None) for value in values)
    return kind(estimator, nuisances, tuple(ratios), quantile)


def _policy_values(goal: Estimand) -> list[PolicyValue]:
    """The policy, and the reference where there is one."""
    if isinstance(goal, ATE):
        goal = goal.contrast()
    if isinstance(goal, Contrast):
        return [goal.policy, goal.reference]
    assert isinstance(goal, PolicyValue)
    return [goal]


def _bounded(estimator: Estimator) -> Bounded:
    """The estimator, if the model has bounds for it."""
    if not isinstance(estimator, WeightingEstimator | DR):
        raise EstimandError(
            f"MarginalModel: {estimator} has no bounds under it, which come from propensities as IPW(...) and AIPW(...) use "
            "them. Use one of these."
        )
    if estimator.truncate is not None:
        raise EstimandError(f"truncate: {estimator} bounds its weights, and the bounds need them whole. Leave truncate out.")
    if isinstance(estimator, DR) and estimator.q.known:
        raise EstimandError(
            f"q: {estimator.q} is known of the outcome, and the bounds need a model that learns its tail mean. Use "
            "PerAction(regressor) or LinearQ()."
        )
    return estimator


def _require_one_decision(data: Trajectories) -> None:
    if data.n_actions == 0:
        raise EstimandError("MarginalModel: the treatment is continuous, and its odds are those of an arm. Bin it into integers.")
    if (data.lengths > 1).any() or (data.end != End.TERMINATED).any():
        raise EstimandError(
            "MarginalModel: it is of one decision, and these records are sequential. Use NamkoongModel(gammas, step=0) with IS, "
            "or data of the first decision alone."
        )


def _require_goal(goal: Estimand) -> None:
    if isinstance(goal, CATE) or (isinstance(goal, PopulationEffect) and not isinstance(goal, ATT | ATC)):
        raise EstimandError(f"MarginalModel: {goal} has no bounds. Ask ATE(), ATT(), ATC(), a policy or a Contrast of two.")
    for value in () if isinstance(goal, PopulationEffect) else _policy_values(goal):
        if value.policy.needs_behavior:
            raise EstimandError(
                f"policy {value.policy}: it is made of the behaviour policy, which the confounder moves. Ask a policy that "
                "depends on the covariates alone."
            )


def _about_difference(frame: Any, goal: Estimand) -> list[str]:
    """Up to which strength an effect is told from 0."""
    if isinstance(goal, PolicyValue):
        return []
    return [about_zero(*(frame[name].to_numpy() for name in ("gamma", "interval_low", "interval_high")))]


def _about_nesting(gammas: Floats, raw: Floats, nested: Floats) -> list[str]:
    """At which strengths a bound or its interval is that of a smaller one."""
    moved = np.abs(nested - raw) > _ROUNDING * np.abs(raw).max()
    if not moved.any():
        return []
    where, most = ", ".join(f"{gamma:g}" for gamma in gammas[moved.any(axis=1)]), np.abs(nested - raw).max()
    return [
        f"At gamma = {where} bounds or intervals came out inside those of a smaller gamma, by {most:.2g} at most: the learners "
        "are unstable at this sample size. The wider limits stand in the row."
    ]


def _about_arms(data: Trajectories, goal: Estimand) -> list[str]:
    if data.n_actions == 2 or isinstance(goal, PopulationEffect):
        return []
    text = "gamma limits the odds of each arm against all others; the bounds are valid, and sharp one arm at a time."
    return [f"There are {data.n_actions} arms: {text}"]
