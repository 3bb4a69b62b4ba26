"""`sensitivity_analysis`: what an estimate becomes if a confounder was not recorded, under a stated model of how strong it is.

A model says how far the propensities or the outcomes may depend on what is not in the data; the analysis says what follows for
the answer. Bounds at strength gamma hold all values that the data allow under the model; their interval holds the true value, if
the model does, at the stated level.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from causalrl.checks import Floats, number
from causalrl.data import Trajectories
from causalrl.errors import EstimandError, SensitivityError
from causalrl.estimands import Estimand, EstimandLike, as_estimand
from causalrl.estimate import Estimate, Summary
from causalrl.estimators.base import Estimator, label
from causalrl.nuisances.crossfit import Nuisances

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BOUND_COLUMNS = ("gamma", "low", "high", "interval_low", "interval_high")
"""Of a curve of bounds: the strength of confounding, the least and the largest value it allows, and a confidence interval for
what lies between them."""

Drawing: TypeAlias = "Callable[[SensitivityAnalysis, Axes | None], Axes]"


class SensitivityModel(ABC):
    """How an unobserved confounder may act; a frozen record of its parameters."""

    @abstractmethod
    def analyse(self, estimator: Estimator, nuisances: Nuisances, goal: Estimand) -> SensitivityAnalysis:
        """What becomes of the estimate; `EstimandError` where the model does not apply to the estimator or the estimand."""

    def __str__(self) -> str:
        return label(self)


@dataclass(frozen=True, eq=False, repr=False)
class SensitivityAnalysis:
    """What an estimate becomes under unobserved confounding.

    Attributes:
        model: the sensitivity model, as text. estimate: without unobserved confounding.
        frame: the figures; of models with bounds, one row a strength, with the columns `BOUND_COLUMNS`.
        findings: sentences to read first.
        drawing: what draws it.
    """

    model: str
    estimate: Estimate
    frame: pd.DataFrame
    findings: tuple[str, ...]
    drawing: Drawing

    def tipping_point(self, value: float = 0.0, *, interval: bool = True) -> float:
        """The strength gamma at which the bounds first hold a value, by linear interpolation between those of the frame.

        Args:
            value: that would change the conclusion, such as no effect.
            interval: of the confidence interval of the bounds; False takes the bounds themselves.

        Returns:
            The least gamma where that holds the value, and infinity where none of the frame does. Next to an infinite limit
            it is the first gamma of the frame known to hold it. The first gamma of the frame, if above 1, is only a limit: the
            tipping point is at most that.

        Raises:
            SensitivityError: for a model without bounds, or bounds that are not numbers.
        """
        value = number("value", value)
        low, high = ("interval_low", "interval_high") if interval else ("low", "high")
        gammas, lows, highs = (bound_column(self, name) for name in ("gamma", low, high))
        return first_crossing(gammas, np.maximum(lows - value, value - highs))

    def plot(self, ax: Axes | None = None) -> Axes:
        """The figure of the model."""
        return self.drawing(self, ax)

    def summary(self) -> Summary:
        """The estimate, the figures and the findings as text."""
        table = self.frame.to_string(index=False, float_format=lambda value: f"{value:.4g}")
        head = f"{self.model}\n{self.estimate.estimator}: {self.estimate.estimand} = {np.asarray(self.estimate.value):.4g}"
        return Summary("\n".join([head, table, *(f"  {text}" for text in self.findings)]))

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        from causalrl.report.html import sensitivity_html

        return sensitivity_html(self)


def sensitivity_analysis(
    estimator: Estimator, data: Trajectories, estimand: EstimandLike, model: SensitivityModel, *, seed: int = 0
) -> SensitivityAnalysis:
    """What an estimate becomes if a confounder was not recorded.

    Args:
        estimator: of the estimate without it.
        data: single decisions or longer records.
        estimand: an effect, a policy or a contrast, as the model takes it.
        model: for example `EValue()`, `MarginalModel(gammas=[1, 1.5, 2])`, `NamkoongModel(gammas=[1, 2], step=0)`.
        seed: of folds, learners and resamples.

    Returns:
        The analysis: `.frame`, `.plot()`, `.summary()`.

    Raises:
        EstimandError: where the model does not apply to the estimator or the estimand; the text says what it takes.
    """
    if not isinstance(model, SensitivityModel):
        raise SensitivityError(f"model: {model!r} is no sensitivity model; pass an object such as EValue().")
    if not isinstance(estimator, Estimator):
        raise EstimandError(f"estimator: {estimator!r} is no estimator; pass an object such as AIPW(...).")
    return model.analyse(estimator, Nuisances(data, seed), as_estimand(estimand))


def design_sensitivity(worse: SensitivityAnalysis, better: SensitivityAnalysis, *, interval: bool = False) -> float:
    """The strength gamma at which two policies can no longer be told apart: the lower bound of the better meets the upper bound
    of the worse.

    Source: Namkoong, Keramati, Yadlowsky & Brunskill, Off-policy policy evaluation for sequential decisions under unobserved
    confounding, 2020.

    Args:
        worse, better: analyses of the two with the same model, over the same gammas.
        interval: of the confidence intervals of the bounds, not of the bounds themselves.

    Returns:
        By linear interpolation; infinity where they are told apart at every gamma of the frames.

    Raises:
        SensitivityError: for models without bounds, other models or gammas, or other data.
    """
    low, high = ("interval_low", "interval_high") if interval else ("low", "high")
    gammas = bound_column(better, "gamma")
    if not np.array_equal(gammas, bound_column(worse, "gamma")):
        raise SensitivityError("gammas: the analyses have other ones; analyse both policies with one model.")
    if worse.model != better.model:
        raise SensitivityError(f"model: {worse.model} and {better.model}; analyse both policies with one model.")
    if worse.estimate.fingerprint != better.estimate.fingerprint:
        raise SensitivityError("data: the analyses are of different data; analyse both policies on the same.")
    return first_crossing(gammas, bound_column(better, low) - bound_column(worse, high))


def first_crossing(gammas: Floats, gaps: Floats) -> float:
    """The least gamma at which a gap, linear between the points, is no longer positive; infinity where it stays so.

    Where a gap on either side is infinite nothing can be interpolated: the first gamma known to close it.

    Raises:
        SensitivityError: for a gap that is not a number.

    >>> first_crossing(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.25, -0.25]))
    2.5
    >>> first_crossing(np.array([1.0, 2.0, 3.0]), np.array([0.5, 0.25, -np.inf]))
    3.0
    """
    if np.isnan(gaps).any():
        raise SensitivityError(
            f"gamma: the bounds at {gammas[np.argmax(np.isnan(gaps))]:g} are not numbers; leave it out of gammas."
        )
    closed = np.flatnonzero(gaps <= 0)
    if not len(closed):
        return np.inf
    j = int(closed[0])
    if j == 0 or not np.isfinite(gaps[j - 1 : j + 1]).all():
        return float(gammas[j])
    share = gaps[j - 1] / (gaps[j - 1] - gaps[j])
    return float(gammas[j - 1] + share * (gammas[j] - gammas[j - 1]))


def about_zero(gammas: Floats, low: Floats, high: Floats) -> str:
    """From which strength on the interval of a difference holds 0."""
    tip = first_crossing(gammas, np.maximum(low, -high))
    if np.isinf(tip):
        return f"The interval of the bounds excludes a difference of 0 at every gamma asked, up to {gammas[-1]:g}."
    if tip > gammas[0]:
        return f"The interval of the bounds holds a difference of 0 from gamma = {tip:.3g} on."
    if tip == 1:
        return "The interval of the bounds holds a difference of 0 at gamma = 1: no unobserved confounding is needed for that."
    return (
        f"The interval of the bounds holds a difference of 0 at gamma = {tip:.3g}, the first asked, already: the tipping point "
        "is at most that."
    )


def bound_column(analysis: SensitivityAnalysis, name: str) -> Floats:
    """A column of a curve of bounds, as floats."""
    if name not in analysis.frame:
        known = ", ".join(map(str, analysis.frame.columns))
        raise SensitivityError(
            f"{analysis.model}: it has no bounds over gamma, only {known}. Use a model with gammas, such as "
            "MarginalModel(gammas=[1, 1.5, 2])."
        )
    return analysis.frame[name].to_numpy(np.float64)


def checked_gammas(gammas: Sequence[float]) -> tuple[float, ...]:
    """Increasing strengths from 1 on.

    Raises:
        SensitivityError: for others, naming the first that is wrong.
    """
    mend = "pass increasing numbers from 1 (no unobserved confounding), such as [1, 1.5, 2]"
    if isinstance(gammas, str) or not np.iterable(gammas):
        raise SensitivityError(f"gammas: {gammas!r} is no list; {mend}.")
    values = tuple(_gamma(gamma, mend) for gamma in gammas)
    if not values:
        raise SensitivityError(f"gammas: there are none; {mend}.")
    for before, after in pairwise(values):
        if after <= before:
            raise SensitivityError(f"gammas: {after:g} comes after {before:g}; {mend}.")
    return values


def _gamma(gamma: Any, mend: str) -> float:
    try:
        value = float(gamma)
    except (TypeError, ValueError):
        raise SensitivityError(f"gammas: {gamma!r} is no number; {mend}.") from None
    if not 1 <= value < np.inf:
        raise SensitivityError(f"gammas: {value:g} is no odds ratio from 1 on; {mend}.")
    return value
