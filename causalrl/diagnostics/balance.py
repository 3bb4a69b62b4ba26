"""Balance of covariates between arms: standardised mean differences and variance ratios, before and after weighting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalrl.checks import Bools, Floats, Ints


def standardized_differences(features: Floats, treated: Bools, control: Bools, weights: Floats | None = None) -> Floats:
    """(d,) mean among the treated less mean among the controls, over the pooled standard deviation (Austin 2009).

    The standard deviation, root of the mean of the arms' variances, is that before weighting, so that weights change only the
    difference. A column constant in both arms has difference 0, or infinity where the constants differ.

    Args:
        features: (n, d). treated, control: (n,) the arms. weights: (n,); None is one each.

    Example:
        >>> treated = np.array([True, True, False, False])
        >>> standardized_differences(np.array([[1.0], [3.0], [0.0], [2.0]]), treated, ~treated)
        array([0.70710678])
    """
    spread = np.sqrt((features[treated].var(axis=0, ddof=1) + features[control].var(axis=0, ddof=1)) / 2)
    means = [np.average(features[arm], axis=0, weights=None if weights is None else weights[arm]) for arm in (treated, control)]
    difference: Floats = means[0] - means[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = difference / spread
    return np.where(difference == 0, 0.0, scaled)


def variance_ratios(features: Floats, treated: Bools, control: Bools, weights: Floats | None = None) -> Floats:
    """(d,) variance among the treated over variance among the controls, 1 in balance (Austin 2009).

    Weighted, the variance of an arm is sum w (x - mean)^2 / (sum w - sum w^2 / sum w). A column constant in both arms has ratio
    1, and one constant among the controls alone infinity.

    Example:
        >>> treated = np.array([True, True, False, False])
        >>> variance_ratios(np.array([[1.0], [5.0], [0.0], [2.0]]), treated, ~treated)
        array([4.])
    """
    own = np.ones(len(features)) if weights is None else weights / weights.max()
    above, below = (_variance(features[arm], own[arm]) for arm in (treated, control))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = above / below
    return np.where(above == below, 1.0, ratio)


def _variance(features: Floats, weights: Floats) -> Floats:
    total = weights.sum()
    mean = np.average(features, axis=0, weights=weights)
    values: Floats = weights @ (features - mean) ** 2 / (total - np.sum(weights**2) / total)
    return values


@dataclass(frozen=True, eq=False)
class Balance:
    """How the covariates of each arm differ from those of a reference arm.

    Attributes:
        names: d columns. arms: the P arms compared. reference: the arm that they are compared with.
        before, after: (P, d) standardised mean differences before and after weighting; `after` is None without weights.
        ratio_before, ratio_after: (P, d) variance ratios.
    """

    names: tuple[str, ...]
    arms: tuple[int, ...]
    reference: int
    before: Floats
    after: Floats | None
    ratio_before: Floats
    ratio_after: Floats | None


def balance_of(features: Floats, names: tuple[str, ...], actions: Ints, weights: Floats | None) -> Balance | None:
    """The balance of all arms with at least two units against the first of them; None where there are not two.

    Args:
        features: (n, d). names: d. actions: (n,). weights: (n,) that make the arms comparable, or None.
    """
    counts = np.bincount(actions)
    reference, *arms = [int(arm) for arm in np.flatnonzero(counts >= 2)] or [0]
    if not arms:
        return None
    pairs = [(actions == arm, actions == reference) for arm in arms]
    means = [np.stack([standardized_differences(features, *pair, own) for pair in pairs]) for own in (None, weights)]
    ratios = [np.stack([variance_ratios(features, *pair, own) for pair in pairs]) for own in (None, weights)]
    weighted = weights is not None
    return Balance(
        names,
        tuple(arms),
        reference,
        means[0],
        means[1] if weighted else None,
        ratios[0],
        ratios[1] if weighted else None,
    )
