"""Targeted maximum likelihood of the value of a policy at one decision.

The initial Q is moved along a logistic fluctuation until the efficient score of the value is solved (van der Laan & Rubin 2006,
International Journal of Biostatistics 2(1):11). A bounded continuous outcome is scaled to [0, 1] first, and the likelihood is
quasi-binomial (Gruber & van der Laan 2010, International Journal of Biostatistics 6(1):26). The importance ratio is the weight
of the fluctuation and its intercept the only parameter, which is steadier under large ratios than the ratio as a covariate
(Robins, Sued, Lei-Gomez & Rotnitzky 2007, Statistical Science 22:544).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import expit, logit

from causalrl.checks import Floats, first_bad, number
from causalrl.diagnostics.record import Note
from causalrl.errors import DataError, EstimandError, OutcomeRangeWarning
from causalrl.estimands import ATE, PolicyValue, PopulationEffect
from causalrl.estimate import Estimate
from causalrl.estimators.augmented import arm_values
from causalrl.estimators.base import (
    Estimator,
    Score,
    check_folds,
    estimate_from_score,
    in_sample,
    require_single_stage,
    weighted_point,
)
from causalrl.estimators.importance import Records, importance_score
from causalrl.estimators.populations import comparison_weights
from causalrl.nuisances.behavior import BehaviorFit, BehaviorLike
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.records import Ratios
from causalrl.nuisances.tabular import TabularQ
from causalrl.nuisances.value import ValueModel

_MARGIN = 5e-4
"""How near to 0 and 1 an initial prediction may come, so that it has a logit."""
_MAX_ITERATIONS = 200
_ROUNDING = 1e-13


@dataclass(frozen=True)
class TMLE(Estimator):
    """Targeted maximum likelihood (van der Laan & Rubin 2006) of the value of any policy at one decision.

    logit Q*(x, a) = logit Q(x, a) + eps, with eps such that the mean of w (Y - Q*(X, A)) is 0, w = pi(A|X) / P(A|X); the value
    is the mean of sum_a pi(a|X) Q*(X, a). It is consistent where the propensities or the value model are right, and stays
    within the bounds of the outcome. The interval is from the influence function w (Y - Q*) + V* - value; as that of `DR` it
    needs right propensities. An `ATE` or a risk ratio is arithmetic on two values, each targeted on its own.

    Args:
        q: value model of the outcome, cross-fitted by default unless linear; for a binary outcome it predicts probabilities.
        behavior: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster of both; None is each learner's default. Q is targeted on all folds together.
        bounds: (low, high), between which every outcome lies; None is the range of the logged outcomes.

    Raises:
        EstimandError: from `estimate`, for sequential data, and where every outcome that the target weights is at a bound.
        DataError: for outcomes outside the bounds, and for a constant outcome without bounds.

    Example:
        >>> import causalrl as crl
        >>> study = crl.Trajectories.from_cross_section([[0.0]] * 4, [0, 1, 0, 1], [0.0, 0.0, 1.0, 1.0], propensity=[0.5] * 4)
        >>> model = crl.KnownQ(lambda observations, time: np.full((len(observations), 2), 0.4))
        >>> round(crl.TMLE(q=model).estimate(study, crl.Always(1)).value, 9)
        0.5
    """

    q: ValueModel = field(default_factory=TabularQ, kw_only=True)
    behavior: BehaviorLike | None = None
    folds: int | None = None
    bounds: tuple[float, float] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_folds(self.folds)
        if self.bounds is not None:
            if not isinstance(self.bounds, tuple) or len(self.bounds) != 2:
                raise EstimandError(f"bounds: {self.bounds!r}; pass a pair (low, high), or None.")
            low, high = (number("bounds", bound, error=EstimandError) for bound in self.bounds)
            if low >= high:
                raise EstimandError(f"bounds: {self.bounds!r}; the first has to be below the second.")

    def policy_value(self, nuisances: Nuisances, goal: PolicyValue) -> Estimate:
        return estimate_from_score(self, nuisances, goal, self._score(nuisances, goal))

    def point(self, nuisances: Nuisances, goal: PolicyValue) -> float:
        return weighted_point(self._score(nuisances, goal), nuisances.weights)

    def balancing_weights(self, nuisances: Nuisances, goal: PopulationEffect | ATE) -> Floats:
        return comparison_weights(nuisances, goal, self.behavior, self.folds)

    def _score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        require_single_stage(nuisances.data, f"TMLE of the value of {goal.policy}")
        ratios = nuisances.ratios(goal.policy, self.behavior, self.folds, goal.horizon)
        steps = ratios.target.steps
        low, high = self._range(steps.rewards)
        chosen = _chosen(ratios)
        values = arm_values(nuisances, self.q, steps, chosen > 0, self.folds)
        model = values[0]
        initial = Initial.inside(np.column_stack([model.q, *(arm.v for arm in values)]), low, high)
        weights = np.exp(ratios.log_weights) * (1.0 if nuisances.weights is None else nuisances.weights)
        shift = fluctuation((steps.rewards - low) / (high - low), initial.logits[:, 0], weights, self._stuck(goal, low, high))
        targeted = low + (high - low) * expit(initial.logits + shift)
        start = np.sum(chosen * targeted[:, 1:], axis=1)
        records = Records.by_decision(ratios, steps.rewards - targeted[:, 0])
        score = importance_score(ratios, records, normalized=False, start=start, orthogonal=True)
        diagnostics: dict[str, Any] = score.diagnostics | model.diagnostics
        diagnostics["folds"] = (len(ratios.behavior.folds), model.folds)
        notes = score.notes + model.notes + in_sample(self.q, model.folds, "corrects") + initial.notes
        return Score(score.functional, score.moments, diagnostics, notes, fixed=False)

    def _range(self, outcomes: Floats) -> tuple[float, float]:
        if self.bounds is None:
            low, high = float(outcomes.min()), float(outcomes.max())
            if low == high:
                raise DataError(
                    f"rewards: every outcome is {low:g}, a range in which nothing can be targeted; pass bounds=, or use DR."
                )
            return low, high
        low, high = self.bounds
        outside = (outcomes < low) | (outcomes > high)
        if outside.any():
            row = first_bad(outside)
            raise DataError(
                f"rewards: row {row} is {outcomes[row]:g}, outside bounds={self.bounds}; widen them, or leave them out."
            )
        return low, high

    def _stuck(self, goal: PolicyValue, low: float, high: float) -> str:
        return (
            f"q: every outcome that {goal.policy} weights is one of the bounds ({low:g}, {high:g}), the same for all, so that no "
            "fluctuation solves the score. Pass wider bounds=, or use DR."
        )


def _chosen(ratios: Ratios) -> Floats:
    """(n, A) probabilities of the target; where it is the learned behaviour itself, the logged action, a draw from it."""
    steps, policy = ratios.target.steps, ratios.target.policy
    if isinstance(policy, BehaviorFit) and not policy.exact:
        return np.asarray(np.eye(steps.data.n_actions)[steps.actions])
    return ratios.target.at_steps


@dataclass(frozen=True, eq=False)
class Initial:
    """Initial predictions on the scale of the fluctuation.

    Attributes:
        logits: (n, 1 + A) of the logged action and of every arm. notes: what had to be moved.
    """

    logits: Floats
    notes: list[Note]

    @classmethod
    def inside(cls, predictions: Floats, low: float, high: float) -> Initial:
        """Predictions (n, 1 + A) scaled to [0, 1], those beyond the margin moved to it."""
        scaled = (predictions - low) / (high - low)
        moved = np.clip(scaled, _MARGIN, 1 - _MARGIN)
        count = int((moved != scaled).any(axis=1).sum())
        text = (
            f"Q predicts outcomes outside {low:g} to {high:g}, or within {_MARGIN:.2%} of the range from its ends, for "
            f"{count} of {len(scaled)} decisions; they were moved inside before they were targeted. Pass wider bounds=, or "
            "another q."
        )
        return cls(logit(moved), [Note(OutcomeRangeWarning, text)] if count else [])


def fluctuation(outcomes: Floats, logits: Floats, weights: Floats, stuck: str) -> float:
    """The intercept eps at which sum w (y - expit(logit Q + eps)) is 0, by Newton steps kept inside a bracket of the root.

    Args:
        outcomes: (n,) in [0, 1]. logits: (n,) of the initial predictions. weights: (n,).
        stuck: the error where the weighted mean outcome is 0 or 1, so that there is no root.
    """
    used = weights > 0
    y, x, w = outcomes[used], logits[used], weights[used] / weights.max()
    mean = float(w @ y / w.sum())
    if not 0 < mean < 1:
        raise EstimandError(stuck)
    least, most = float(logit(mean) - x.max()), float(logit(mean) - x.min())
    shift = float(np.clip(0.0, least, most))
    for _ in range(_MAX_ITERATIONS):
        fitted = expit(x + shift)
        gap = float(w @ (y - fitted))
        if abs(gap) <= _ROUNDING * w.sum():
            break
        least, most = (shift, most) if gap > 0 else (least, shift)
        information = float(w @ (fitted * (1 - fitted)))
        step = shift + gap / information if information > 0 else np.inf
        shift = step if least < step < most else (least + most) / 2
    return shift
