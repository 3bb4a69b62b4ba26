"""The one score of all weighting and doubly robust estimators: sums of terms times cumulative weights.

A trajectory-wise estimator is the per-decision one on records of length one that carry the last cumulative weight and
the return.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.diagnostics.record import Note
from causalrl.diagnostics.weights import largest_share, mean_note, overlap_notes, tail_index
from causalrl.errors import EstimatedBehaviorWarning, OverlapWarning, SupportError, WeightOverflowError
from causalrl.estimators.base import Score, in_sample
from causalrl.inference.functionals import Combined, Functional, RatioSum, Sum
from causalrl.inference.operations import ADD
from causalrl.kernels.ragged import (
    doubly_robust_backward,
    kish_by_time,
    largest_log_weights,
    last_agreement,
    per_decision_moments,
    per_decision_sensitivity,
)
from causalrl.nuisances.records import Ratios

_LARGEST_LOG = float(np.log(np.finfo(np.float64).max))


@dataclass(frozen=True, eq=False)
class Records:
    """Weighted terms along ragged records.

    Attributes:
        untruncated: (K,) log of the cumulative weight of each entry. terms: (K,) what it multiplies, discount included.
        offsets: (n + 1,) record boundaries.
        carried: (K,) step whose cumulative weight an entry carries. to_steps: (M,) entry that a step's ratio enters first.
        truncate: the bound c of the weights min(w, c), or None.
    """

    untruncated: Floats
    terms: Floats
    offsets: Ints
    carried: Ints | slice
    to_steps: Ints | slice
    truncate: float | None

    @classmethod
    def by_decision(cls, ratios: Ratios, terms: Floats, truncate: float | None = None) -> Records:
        """Every step carries its own cumulative weight."""
        return cls(ratios.log_weights, terms, ratios.target.steps.offsets, slice(None), slice(None), truncate)

    @classmethod
    def by_trajectory(cls, ratios: Ratios, returns: Floats, truncate: float | None = None) -> Records:
        """Every trajectory carries the weight of its last step."""
        steps = ratios.target.steps
        return cls(ratios.log_weights[steps.last], returns, np.arange(steps.data.n + 1), steps.last, steps.trajectory, truncate)

    @property
    def log_bound(self) -> float:
        return np.inf if self.truncate is None else math.log(self.truncate)

    @cached_property
    def log_weights(self) -> Floats:
        """(K,) log min(w, c)."""
        return self.untruncated if self.truncate is None else np.minimum(self.untruncated, self.log_bound)

    @cached_property
    def log_slopes(self) -> Floats:
        """(K,) log of the derivative of min(w, c) in log w: that of w, and 0 above c."""
        return (
            self.untruncated if self.truncate is None else np.where(self.untruncated > self.log_bound, -np.inf, self.untruncated)
        )

    @property
    def truncation(self) -> tuple[float, float, float] | None:
        """The bound, the share of the entries' weights above it, and the share of their sum that it removes."""
        if self.truncate is None:
            return None
        top = self.untruncated.max()
        kept = float(np.exp(self.log_weights - top).sum() / np.exp(self.untruncated - top).sum())
        return self.truncate, float(np.mean(self.untruncated > self.log_bound)), 1.0 - kept


def importance_score(
    ratios: Ratios, records: Records, *, normalized: bool, start: Floats | None = None, orthogonal: bool = False
) -> Score:
    """Score of sum_t w_t y_t, each w_t divided by its mean where `normalized`, plus a start value (n,).

    Args:
        orthogonal: to first order the score does not depend on the behaviour policy, so that one without a stacked
            correction needs no warning.

    Raises:
        SupportError: where all weights are zero at some t.
        WeightOverflowError: where an unnormalised weight is too large for a float.
    """
    length = int(np.diff(records.offsets).max())
    log_scale = largest_log_weights(records.log_weights, records.offsets, length)
    _check_scale(log_scale, normalized, ratios)
    leading = np.empty((len(records.offsets) - 1, 0)) if start is None else start[:, None]
    functional, moments, sensitivity = (_normalized if normalized else _plain)(records, log_scale, leading)
    if start is not None:
        functional = Combined(ADD, Sum(), functional)
    notes = list(ratios.notes)
    if not ratios.behavior.model.known and not ratios.made_of_behavior:
        correction = ratios.behavior.correction(sensitivity()[records.to_steps])
        if correction is not None:
            functional, moments = Combined(ADD, functional, Sum()), np.column_stack([moments, correction])
        elif not orthogonal:
            text = f"the interval treats the propensities of {ratios.behavior.model} as known. Use DR, Counts() or Logit()."
            notes.append(Note(EstimatedBehaviorWarning, text))
    diagnostics, overlap = _weight_diagnostics(ratios, records, log_scale)
    notes += in_sample(ratios.behavior.model, len(ratios.behavior.folds), "gives propensities for")
    return Score(functional, moments, diagnostics, notes + overlap, ratios.behavior.model.known)


def _check_scale(log_scale: Floats, normalized: bool, ratios: Ratios) -> None:
    if np.isneginf(log_scale).any():
        t = int(np.flatnonzero(np.isneginf(log_scale))[0])
        when = f"at t = {t} " if len(log_scale) > 1 else ""
        raise SupportError(
            f"weights: all weights are zero {when}under target {ratios.target.policy}: no trajectory agrees with it that far. "
            "Shorten the horizon, soften the target (a new estimand), or use FQE and say that it extrapolates."
        )
    if not normalized and log_scale.max() > _LARGEST_LOG:
        raise WeightOverflowError(
            f"weights: the largest is exp({log_scale.max():.0f}), beyond the largest float. Use a self-normalised estimator "
            "(WIS, PDWIS, WDR)."
        )


def _plain(records: Records, log_scale: Floats, leading: Floats) -> tuple[Functional, Floats, Callable[[], Floats]]:
    """Functional, moments after the leading columns, and what gives the derivatives in the log weights."""

    def remainders(log_weights: Floats) -> Floats:
        return doubly_robust_backward(log_weights, records.terms, records.offsets)

    values = remainders(records.log_weights)[records.offsets[:-1]]
    return Sum(), np.column_stack([leading, values]), lambda: remainders(records.log_slopes)


def _normalized(records: Records, log_scale: Floats, leading: Floats) -> tuple[Functional, Floats, Callable[[], Floats]]:
    """The same of the self-normalised score."""
    moments = per_decision_moments(records.log_weights, records.terms, records.offsets, log_scale, leading)

    def sensitivity() -> Floats:
        numerators, denominators = np.split(moments.mean(axis=0)[leading.shape[1] :], 2)
        ratios = numerators / denominators
        return per_decision_sensitivity(records.log_slopes, records.terms, records.offsets, log_scale, ratios, denominators)

    return RatioSum(log_scale), moments, sensitivity


def _weight_diagnostics(ratios: Ratios, records: Records, log_scale: Floats) -> tuple[dict[str, object], list[Note]]:
    ess_by_time = kish_by_time(records.log_weights, records.offsets, log_scale)
    last = records.offsets[1:] - 1
    final = np.exp(records.log_weights[last] - log_scale[-1])
    ess, share, tail = float(ess_by_time.min()), largest_share(final), tail_index(final)
    with np.errstate(over="ignore"):
        largest, mean = float(np.exp(log_scale.max())), float(final.mean() * np.exp(log_scale[-1]))
    values = {
        "ess": ess,
        "ess_by_time": ess_by_time,
        "max_weight": largest,
        "mean_weight": mean,
        "largest_share": share,
        "tail_index": tail,
        "unsupported_mass": ratios.unsupported_mass,
        "truncated": records.truncation,
        "behavior": str(ratios.behavior.model),
        "folds": (len(ratios.behavior.folds), None),
    }
    notes = overlap_notes(len(final), ess, share, tail) + _mean_note(records.untruncated[last])
    left = last_agreement(ratios.log_weights, ratios.target.steps.offsets)
    if left >= 0:
        text = (
            f"no trajectory still under way at t = {left} agrees with the target; the estimate says nothing of what comes after."
        )
        notes.append(Note(OverlapWarning, text))
    return values, notes


def _mean_note(log_weights: Floats) -> list[Note]:
    """The warning about a mean weight that is not 1; truncated weights do not average 1 whatever the propensities."""
    top = log_weights.max()
    weights = np.exp(log_weights - top)
    with np.errstate(over="ignore"):
        return mean_note(weights, float(weights.mean() * np.exp(top)))
