"""Overlap of the propensities, arm by arm: their range, who lies outside it, and what the weights are worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.diagnostics.weights import effective_sample_size, largest_share, tail_index

EXTREME = 0.01
"""A propensity below this, or above 1 less this, counts as extreme."""


@dataclass(frozen=True)
class ArmOverlap:
    """The propensity e of one arm, P(arm | X), and the weights of the decisions that took it.

    Attributes:
        arm, n: the arm, and how many decisions took it.
        least, most: range of e over all decisions.
        outside: share of all decisions with e outside [0.01, 0.99].
        unmatched: share of the decisions for other arms with e outside the range seen among those for this arm.
        ess: Kish effective sample size of this arm's n decisions under the weights 1 / e of an average effect.
        ess_overlap: the same under overlap weights h / e, h = 1 / sum of 1 / e_a (Li & Li 2019; e (1 - e) for two arms).
        mean_weight: mean over all decisions of 1(arm taken) / e, 1 in expectation.
        max_weight, largest_share, tail_index: largest 1 / e, its share of the arm's total, and Pareto index.
        The weights are None for the steps of longer records, where an estimator multiplies them.
    """

    arm: int
    n: int
    least: float
    most: float
    outside: float
    unmatched: float
    ess: float | None = None
    ess_overlap: float | None = None
    mean_weight: float | None = None
    max_weight: float | None = None
    largest_share: float | None = None
    tail_index: float | None = None


def overlap_by_arm(propensities: Floats, actions: Ints, *, weighted: bool = True) -> tuple[ArmOverlap, ...]:
    """The overlap of every arm that was taken.

    Args:
        propensities: (n, A) P(arm | X). actions: (n,) the arms taken. weighted: describe the weights too.

    Example:
        >>> fair = np.full((4, 2), 0.5)
        >>> overlap_by_arm(fair, np.array([0, 1, 1, 1]))[1].ess
        3.0
    """
    return tuple(_arm_overlap(propensities, actions, int(arm), weighted) for arm in np.unique(actions))


def _arm_overlap(propensities: Floats, actions: Ints, arm: int, weighted: bool) -> ArmOverlap:
    e, took = propensities[:, arm], actions == arm
    low, high = e[took].min(), e[took].max()
    others = e[~took]
    facts = ArmOverlap(
        arm,
        int(took.sum()),
        float(e.min()),
        float(e.max()),
        float(np.mean((e < EXTREME) | (e > 1 - EXTREME))),
        float(np.mean((others < low) | (others > high))) if len(others) else 0.0,
    )
    if not weighted:
        return facts
    weights = 1 / e[took]
    return ArmOverlap(
        **{key: getattr(facts, key) for key in ("arm", "n", "least", "most", "outside", "unmatched")},
        ess=effective_sample_size(weights),
        ess_overlap=_positive_size(overlap_tilt(propensities[took]) / e[took]),
        mean_weight=float(weights.sum() / len(e)),
        max_weight=float(weights.max()),
        largest_share=largest_share(weights),
        tail_index=tail_index(weights),
    )


def overlap_tilt(propensities: Floats) -> Floats:
    """(n,) h = 1 / sum_a 1 / e_a, 0 where an arm is impossible; for two arms e (1 - e).

    >>> overlap_tilt(np.array([[0.75, 0.25], [1.0, 0.0]]))
    array([0.1875, 0.    ])
    """
    with np.errstate(divide="ignore"):
        values: Floats = 1 / np.sum(1 / propensities, axis=1)
    return values


def _positive_size(weights: Floats) -> float:
    return effective_sample_size(weights) if weights.max() > 0 else 0.0
