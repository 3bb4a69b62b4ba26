"""Repeated cross-fitting: the median over random splits (Chernozhukov et al. 2018, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from causalrl.checks import Floats, Ints, whole_number
from causalrl.diagnostics.record import Note
from causalrl.errors import EstimandError, WeightOverflowError
from causalrl.estimators.base import Score, weighted_point
from causalrl.inference.functionals import Sum, cluster_standard_error, influence_values
from causalrl.nuisances.crossfit import Nuisances


def check_repeats(repeats: int) -> None:
    """Refuse what is no odd number of splits."""
    if whole_number("repeats", repeats, 1, EstimandError) % 2 == 0:
        raise EstimandError(f"repeats: {repeats} is even; use an odd number, so that one split attains the median.")


def repeated(nuisances: Nuisances, single: Callable[[Nuisances], Score], repeats: int) -> Score:
    """The median of the scores of `repeats` random splits; in a resample, the score whose weighted value is the median."""
    scores = [single(nuisances.split(r)) for r in range(repeats)]
    if nuisances.weights is None:
        return median_score(scores, nuisances.data.clusters)
    values = [weighted_point(score, nuisances.weights) for score in scores]
    return scores[int(np.argsort(values, kind="stable")[repeats // 2])]


def median_score(scores: list[Score], clusters: Ints) -> Score:
    """The median of an odd number of scores that differ in their splits alone.

    Its variance is the median of s_r^2 + (value_r - value)^2. As moments it is the value plus the influence values of the split
    that attains it, stretched to that variance: every interval and contrast then works, and carries the noise of the splits.
    """
    if len(scores) == 1 or scores[0].fixed:
        return scores[0]
    values = np.array([float(score.functional.value(score.moments.mean(axis=0))) for score in scores])
    chosen = int(np.argsort(values, kind="stable")[len(values) // 2])
    if not clusters.any():
        return scores[chosen]
    influences = [influence_values(score.functional, score.moments) for score in scores]
    with np.errstate(over="ignore"):
        errors = np.array([cluster_standard_error(influence, clusters) for influence in influences])
        error = np.sqrt(np.median(errors**2 + (values - values[chosen]) ** 2))
    if not np.isfinite(error):
        raise WeightOverflowError(
            "weights: they are so large that the spread of the splits is beyond the largest float. Use WDR, or truncate=."
        )
    stretch = error / errors[chosen] if errors[chosen] > 0 else 1.0
    moments: Floats = (values[chosen] + stretch * influences[chosen])[:, None]
    notes: list[Note] = list(dict.fromkeys(note for score in scores for note in score.notes))
    return Score(Sum(), moments, scores[chosen].diagnostics, notes, fixed=False)
