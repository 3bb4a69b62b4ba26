"""Refuters that estimate again on part of the data, or on resamples: the estimate should stay where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from causalrl.checks import Floats, number
from causalrl.errors import DataError, IntervalError
from causalrl.estimate import Estimate
from causalrl.inference.base import Refit
from causalrl.kernels.resampling import count_block
from causalrl.kernels.rng import derive_seed
from causalrl.refutation.base import (
    Question,
    Refutation,
    Refuter,
    as_number,
    check_replicates,
    first_finding,
    mean_p_value,
    without_rounding,
)
from causalrl.refutation.single_decision import SingleDecision

_BLOCK = 64


@dataclass(frozen=True)
class DataSubset(Refuter):
    """Random subsets of the clusters, drawn without replacement: the estimate should not depend on the amount of data.

    `p_value` is of E[T_r - T | data] = 0, T_r on a subset and T on all, by Student's t: an estimator whose bias changes with n
    fails. A regular one with standard error s has T_r - T of standard deviation s sqrt(1 / share - 1), beside which the findings
    put that of the replicates.

    Args:
        share: of the clusters, in (0, 1).
        replicates: number of subsets, at least 2.

    Raises:
        DataError: for a share outside (0, 1) or fewer than 2 replicates; from `refute`, where the estimator has no value on some
            subset, such as one with a single arm.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_cross_section([0] * 60, [0, 1] * 30, [1.0, 2.0, 3.0] * 20)
        >>> crl.refute(crl.IPW(), data, crl.ATE(), crl.DataSubset(0.8, replicates=10)).values.shape
        (10,)
    """

    share: float = 0.8
    replicates: int = 100

    def __post_init__(self) -> None:
        check_replicates(self.replicates)
        share = number("share", self.share, 0, 1)
        if share in (0, 1):
            raise DataError(f"share: {self.share!r}; pass a number between 0 and 1, such as 0.8.")

    def examine(self, question: Question) -> Refutation:
        clusters = int(question.data.clusters.max()) + 1
        size = round(self.share * clusters)
        if not 0 < size < clusters:
            raise DataError(f"share: {self.share} of {clusters} clusters is {size} of them; pass another share.")

        def counts(first: int, last: int) -> Floats:
            out = np.zeros((last - first, clusters))
            for r in range(first, last):
                rng = np.random.default_rng(derive_seed(question.seed, "subset", r))
                out[r - first, rng.permutation(clusters)[:size]] = 1
            return out

        values = _refits(question, counts, self.replicates, "Use a larger share, or nuisances that need fewer data.")
        return _around(self, question, values, float(np.sqrt(clusters / size - 1)), "on part of the data")


@dataclass(frozen=True)
class BootstrapData(Refuter):
    """Resamples of the clusters, drawn with replacement, the nuisances learned anew: the estimate should stay where it is.

    `p_value` is of E[T_r - T | data] = 0 by Student's t, T_r on a resample: the mean of the differences is the bootstrap's
    estimate of bias (Efron 1979). The findings put their standard deviation beside the standard error.

    Args:
        replicates: number of resamples, at least 2.

    Raises:
        DataError: for fewer than 2 replicates; from `refute`, where the estimator has no value on some resample.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_cross_section([0] * 60, [0, 1] * 30, [1.0, 2.0, 3.0] * 20)
        >>> crl.refute(crl.IPW(), data, crl.ATE(), crl.BootstrapData(10)).values.shape
        (10,)
    """

    replicates: int = 100

    def __post_init__(self) -> None:
        check_replicates(self.replicates)

    def examine(self, question: Question) -> Refutation:
        clusters, seed = int(question.data.clusters.max()) + 1, derive_seed(question.seed, "bootstrap")

        def counts(first: int, last: int) -> Floats:
            return count_block(clusters, seed, first, last)

        values = _refits(question, counts, self.replicates, "Pool rare actions, or use nuisances that need fewer data.")
        return _around(self, question, values, 1.0, "on resamples")


def _refits(question: Question, counts: Callable[[int, int], Floats], replicates: int, mend: str) -> Floats:
    """(R,) estimates under the counts (b, G) of the clusters of replicates first to last - 1."""
    refit = _refit(question)
    bounds = [(first, min(first + _BLOCK, replicates)) for first in range(0, replicates, _BLOCK)]
    values = np.concatenate([np.reshape(refit(counts(*bound)), (bound[1] - bound[0], -1))[:, 0] for bound in bounds])
    failed = int((~np.isfinite(values)).sum())
    if failed:
        raise DataError(
            f"replicates: {failed} of {replicates} changed data sets give {question.estimate.estimator} no value (an arm without "
            f"units in it, for example). {mend}"
        )
    return values


def _refit(question: Question) -> Refit:
    """The estimate under counts: in a kernel for one decision, else the refit that its bootstrap uses."""
    data, fast = question.data, SingleDecision.of(question.estimator, question.data, (question.goal,))
    if fast is not None:
        return lambda counts: fast.refitted(np.ascontiguousarray(counts[:, data.clusters]))
    if question.estimate.evidence.refit is None:
        raise IntervalError(f"estimator: {question.estimator} cannot be refitted under weights. Use PlaceboTreatment(100).")
    return question.estimate.evidence.refit


def _around(refuter: Refuter, question: Question, values: Floats, factor: float, where: str) -> Refutation:
    """The test that values lie around the estimate, with a spread of `factor` standard errors."""
    value = as_number(question.estimate)
    references = np.full(len(values), value)
    differences = without_rounding(values, references)
    p_value, spread = mean_p_value(differences), float(differences.std(ddof=1))
    move = f"the mean {where} differs by {differences.mean():.3g} (Monte-Carlo error {spread / np.sqrt(len(values)):.2g})."
    findings = [first_finding(p_value, f"the estimate stays; {move}", f"the estimate moves; {move}")]
    error = _default_error(question.estimate)
    if error is not None and error > 0:
        ratio = spread / (factor * error)
        findings.append(f"the values vary {ratio:.2f} times as much as the standard error {error:.3g} says.")
    return Refutation(str(refuter), question.estimate, values, references, p_value, tuple(findings))


def _default_error(estimate: Estimate) -> float | None:
    """The standard error, where an estimate has one that needs no asking."""
    try:
        return float(np.asarray(estimate.stderr).reshape(-1)[0])
    except IntervalError:
        return None
