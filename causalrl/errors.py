"""Typed errors and warnings.

Every error is a `ValueError` whose text names the field, the first offending row and the mend.
"""

from __future__ import annotations

from typing import NoReturn


class CausalRLError(ValueError):
    """Base of every error that causalrl raises on purpose."""


class DataError(CausalRLError):
    """The logged data are not what they say: the text names the field and the first offending row."""


class PolicyError(CausalRLError):
    """A policy does not fit the data: wrong shape, or rows that are no probabilities."""


class EstimandError(CausalRLError):
    """The estimator cannot answer this question."""


class SupportError(CausalRLError):
    """No logged trajectory speaks about the target policy: every weight is zero."""


class WeightOverflowError(CausalRLError):
    """An importance weight is larger than the largest float."""


class TruncationError(CausalRLError):
    """A record stops before the horizon and the estimator cannot continue it."""


class CensoringError(CausalRLError):
    """A record is censored and no censoring model exists yet."""


class SeparationError(CausalRLError):
    """The maximum-likelihood logit does not exist: a combination of covariates predicts the action perfectly."""


class IntervalError(CausalRLError):
    """The estimate has no interval of this kind; the text names one that it has."""


class MismatchError(CausalRLError):
    """Two estimates that do not come from the same data, or cannot be combined."""


class SensitivityError(CausalRLError):
    """A sensitivity model cannot be built as asked, or does not say what is asked of it."""


class IdentificationError(CausalRLError):
    """A causal graph is none, or does not identify the effect."""


class MissingExtraError(CausalRLError, ImportError):
    """An optional dependency is not installed; the text names the extra."""


class CausalRLWarning(UserWarning):
    """Base of every warning that causalrl emits; `warnings.simplefilter("error", ...)` makes any of them an error."""


class SupportWarning(CausalRLWarning):
    """The target policy takes actions that the behaviour policy never takes."""


class OverlapWarning(CausalRLWarning):
    """A handful of trajectories carries the estimate."""


class SeparationWarning(CausalRLWarning):
    """Fitted propensities are numerically 0 or 1."""


class ConvergenceWarning(CausalRLWarning):
    """An iteration stopped at its limit before it converged."""


class TerminationWarning(CausalRLWarning):
    """Records that all end at the same step are marked as terminated, and a model pools times."""


class InSampleWarning(CausalRLWarning):
    """A flexible nuisance is used on the trajectories that it learned from, and the interval may be too short."""


class EstimatedBehaviorWarning(CausalRLWarning):
    """The interval does not carry the uncertainty of an estimated behaviour policy."""


class OutcomeRangeWarning(CausalRLWarning):
    """Predicted outcomes lie outside the range of the outcome, and were moved inside."""


class WeakInstrumentWarning(CausalRLWarning):
    """The instrument hardly moves the treatment, so that the estimate is biased and its interval too short."""


def missing_extra(package: str, extra: str) -> NoReturn:
    """Raise the error that names the extra which brings `package`."""
    raise MissingExtraError(f"{package} is not installed: run `pip install 'causalrl-ope[{extra}]'`")
