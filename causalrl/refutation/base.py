"""`refute`: what an estimator makes of data in which the answer is known, and whether that is the answer.

A refuter changes the data so that the right answer is known: the actions are permuted (no effect), the outcome is replaced (no
effect), some of the units are left out (the same effect). The p-value tests the estimator with its nuisances, not the effect: a
small one says that it gets the changed data wrong. Source of the tests: Sharma & Kiciman, DoWhy: an end-to-end library for
causal inference, 2020; the p-values here are those of the mean over the replicates, which dowhy's are not (see `mean_p_value`).
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from causalrl.checks import Floats, seed_number, whole_number
from causalrl.data import Trajectories
from causalrl.errors import CausalRLError, CausalRLWarning, DataError, EstimandError, IntervalError
from causalrl.estimands import Estimand, EstimandLike, as_estimand
from causalrl.estimate import Estimate, Summary
from causalrl.estimators.base import Estimator, label
from causalrl.inference.bootstrap import RefitBootstrap
from causalrl.nuisances.crossfit import require_trajectories
from causalrl.refutation.single_decision import SingleDecision

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LEVEL = 0.05
"""Below this p-value the first finding says that the estimator failed."""
_ROUNDING = 1e-10

Draw: TypeAlias = Callable[[int], Trajectories]
"""Makes the changed data of a replicate, the same ones whenever it is asked."""


class Refuter(ABC):
    """How data are changed so that the answer is known; a frozen record."""

    @abstractmethod
    def examine(self, question: Question) -> Refutation:
        """What the estimator makes of it."""

    def __str__(self) -> str:
        return label(self)


@dataclass(frozen=True, eq=False)
class Question:
    """An estimator, what it is asked, and its answer.

    Attributes:
        estimator, data, goal, seed: see `refute`. estimate: on the data as they are.
    """

    estimator: Estimator
    data: Trajectories
    goal: Estimand
    seed: int
    estimate: Estimate


@dataclass(frozen=True, eq=False, repr=False)
class Refutation:
    """What an estimator made of changed data.

    Attributes:
        refuter: how they were changed, as text.
        estimate: on the data as they are.
        values: (R,) on the changed data.
        references: (R,) the right answers there.
        p_value: of the hypothesis that the values are right on average (see the refuter for what is tested).
        findings: sentences; the first says whether the estimator passed at 5%.
        permutation_p_value: of placebo treatments, of the hypothesis that the estimate is one of them; see `PlaceboTreatment`.
        control: of a negative control outcome, its estimate.
    """

    refuter: str
    estimate: Estimate
    values: Floats
    references: Floats
    p_value: float
    findings: tuple[str, ...]
    permutation_p_value: float | None = None
    control: Estimate | None = None

    @property
    def expected(self) -> float:
        """Mean of the right answers."""
        return float(self.references.mean())

    @property
    def frame(self) -> pd.DataFrame:
        """One row a replicate: value, expected, difference."""
        import pandas as pd

        columns = {"value": self.values, "expected": self.references, "difference": self.values - self.references}
        return pd.DataFrame({"replicate": np.arange(len(self.values)), **columns})

    def plot(self, ax: Axes | None = None) -> Axes:
        """The values on the changed data, beside the right answer and the estimate."""
        from causalrl.report.refutation_plots import refutation_plot

        return refutation_plot(self, ax)

    def summary(self) -> Summary:
        """The estimate, the values on the changed data and the findings as text."""
        spread = f", standard deviation {self.values.std(ddof=1):.4g}" if len(self.values) > 1 else ""
        lines = [
            f"{self.refuter} of {self.estimate.estimator}: {self.estimate.estimand}",
            f"  estimate {as_number(self.estimate):.4g}",
            f"  changed  mean {self.values.mean():.4g}{spread}, {len(self.values)} replicates; expected {self.expected:.4g}",
            f"  p-value  {self.p_value:.3g}",
        ]
        return Summary("\n".join([*lines, *(f"  {text}" for text in self.findings)]))

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        from causalrl.report.html import text_html

        return text_html(self.summary())


def refute(estimator: Estimator, data: Trajectories, goal: EstimandLike, refuter: Refuter, *, seed: int = 0) -> Refutation:
    """Try an estimator on data that are changed so that the answer is known.

    Args:
        estimator: with its nuisances, which are learned anew on all changed data.
        data: single decisions or longer records.
        goal: an effect, a policy (its value over the whole record) or a contrast; a `CATE` at one point.
        refuter: `PlaceboTreatment()`, `DummyOutcome()`, `RandomCommonCause()`, `DataSubset()`, `BootstrapData()` or
            `NegativeControlOutcome(outcome)`.
        seed: of the changes, of folds and of learners.

    Returns:
        The values on the changed data and their p-value: `.frame`, `.summary()`, `.plot()`.

    Raises:
        EstimandError: for a question with more than one number as its answer. CausalRLError: where the estimator has no value
            on changed data; the text names the replicate.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 1] * 60, [0, 0, 1, 1] * 30, [1.0, 2.0, 3.0, 4.0] * 30, range(121))
        >>> refute(crl.DR(q=crl.TabularQ()), data, crl.ATE(), crl.PlaceboTreatment(20), seed=0).expected
        0.0
    """
    require_trajectories(data)
    if not isinstance(estimator, Estimator):
        raise EstimandError(f"estimator: {estimator!r} is no estimator with a goal; pass an object such as AIPW(...).")
    if not isinstance(refuter, Refuter):
        raise DataError(f"refuter: {refuter!r} is no refuter; pass an object such as PlaceboTreatment(100).")
    estimand = as_estimand(goal)
    estimate = estimator.estimate(data, estimand, seed_number(seed))
    as_number(estimate)
    return refuter.examine(Question(estimator, data, estimand, seed, estimate))


def check_replicates(replicates: int) -> None:
    """Refuse fewer than two, which have no spread."""
    whole_number("replicates", replicates, 2)


def as_number(estimate: Estimate) -> float:
    """The value of an estimate of one number."""
    value = np.asarray(estimate.value)
    if value.size != 1:
        raise EstimandError(
            f"goal: {estimate.estimand} has {value.size} numbers; refute one at a time, such as CATE(at=[[...]])."
        )
    return float(value.reshape(-1)[0])


def replicated(question: Question, goals: tuple[Estimand, ...], draw: Draw, replicates: int) -> Floats:
    """(R, K) estimates of the goals on the data sets draw(0), ..., draw(R - 1), without their warnings."""
    estimator, seed = question.estimator, question.seed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CausalRLWarning)
        return np.stack([_answers(estimator, goals, draw(r), r, seed) for r in range(replicates)])


def with_changed_columns(question: Question, goals: tuple[Estimand, ...], draw: Draw, replicates: int) -> Floats:
    """`replicated` for data sets that differ in actions, logged propensities and outcomes alone: in a kernel where there is one.

    What has no value there is estimated on its own, so that its error is the estimator's.
    """
    estimator, seed = question.estimator, question.seed
    fast = SingleDecision.of(estimator, draw(0), goals)
    if fast is None:
        return replicated(question, goals, draw, replicates)
    values = fast.values(draw(r) for r in range(replicates))
    for r in np.flatnonzero(~np.isfinite(values).all(axis=1)).tolist():
        values[r] = _answers(estimator, goals, draw(r), r, seed)
    return values


def _answers(estimator: Estimator, goals: tuple[Estimand, ...], data: Trajectories, r: int, seed: int) -> Floats:
    fitted = estimator.fit(data, seed)
    try:
        return np.array([as_number(fitted.estimate(goal)) for goal in goals])
    except CausalRLError as error:
        raise type(error)(f"replicate {r} of the changed data: {error}") from error


def mean_p_value(differences: Floats) -> float:
    """Two-sided p-value of Student's t that independent differences (R,) have mean 0; 1 where all are 0 up to rounding.

    Given the data, the replicates are independent draws, so that the level is the nominal one up to the skewness of R draws. It
    does not ask whether 0 is a plausible single replicate (dowhy's p-value): a bias of half a standard deviation then passes,
    however many replicates there are.

    >>> round(mean_p_value(np.array([1.0, 2.0, 3.0])), 4)
    0.0742
    """
    from scipy.special import stdtr

    mean, count = float(differences.mean()), len(differences)
    error = float(differences.std(ddof=1)) / np.sqrt(count)
    if error <= _ROUNDING * abs(mean):
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(count - 1, -abs(mean) / error))


def without_rounding(values: Floats, references: Floats) -> Floats:
    """(R,) differences, 0 where they are rounding errors of the two."""
    differences = values - references
    scale = float(max(np.abs(values).max(), np.abs(references).max()))
    return np.where(np.abs(differences) <= _ROUNDING * scale, 0.0, differences)


def standard_error(estimate: Estimate) -> float:
    """That of the default method, or of 200 refits where an estimate has none."""
    try:
        error = estimate.stderr
    except IntervalError:
        error = RefitBootstrap(200).stderr(estimate.evidence)
    return float(np.asarray(error).reshape(-1)[0])


def first_finding(p_value: float, passed: str, failed: str) -> str:
    """The first finding."""
    return f"passed at {LEVEL:.0%}: {passed}" if p_value >= LEVEL else f"failed at {LEVEL:.0%}: {failed}"
