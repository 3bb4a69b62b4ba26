"""Matched pairs: how they are made and how they are read from the clusters of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from causalrl.checks import Bools, Floats
from causalrl.data import Trajectories
from causalrl.errors import EstimandError, SensitivityError
from causalrl.nuisances.behavior import BehaviorLike
from causalrl.nuisances.crossfit import Nuisances


def pair_differences(data: Trajectories, treated: int, control: int) -> Floats:
    """(m,) outcome of the treated less that of the control in each pair of the data, by cluster.

    Raises:
        SensitivityError: for a cluster that is not one treated and one control, naming a row of it.
    """
    counts = [np.bincount(data.clusters, data.actions == arm, minlength=data.clusters.max() + 1) for arm in (treated, control)]
    sizes = np.bincount(data.clusters)
    wrong: Bools = (counts[0] != 1) | (counts[1] != 1) | (sizes != 2)
    if wrong.any():
        cluster = int(np.flatnonzero(wrong)[0])
        row = int(np.flatnonzero(data.clusters == cluster)[0])
        both = f"{counts[0][cluster]:.0f} treated and {counts[1][cluster]:.0f} controls among {sizes[cluster]}"
        raise SensitivityError(
            f"clusters: that of row {row} (id {data.ids[row]}) has {both}, and {int(wrong.sum())} of {len(wrong)} clusters are "
            "no pairs. Pass one label a pair as clusters=, or make pairs with matched_pairs(data)."
        )
    sign = np.where(data.actions == treated, data.rewards, -data.rewards)
    return np.asarray(np.bincount(data.clusters, sign), np.float64)


def matched_pairs(data: Trajectories, propensity: BehaviorLike | None = None, *, seed: int = 0) -> Trajectories:
    """Pairs of one treated and one control that are close in the logit of the propensity: the same decisions, paired by cluster.

    Optimal matching without replacement (Rosenbaum 1989, JASA 84:1024): of all pairings of the smaller arm the one with the
    least sum of differences. Who finds no partner is left out. Look at the balance (`love_plot`) before you use them.

    Args:
        data: single decisions between arms 1 (treated) and 0.
        propensity: see `IPW`. seed: of folds and learners.

    Returns:
        The pairs, each a treated followed by its control; clusters number them.

    Raises:
        EstimandError: for other data.

    Example:
        >>> import causalrl as crl
        >>> study = crl.Trajectories.from_cross_section([0, 0, 1, 1, 1], [1, 0, 1, 0, 0], [3.0, 1.0, 5.0, 2.0, 4.0])
        >>> pairs = matched_pairs(study, crl.Counts())
        >>> pairs.n, pairs.clusters, pairs.observations
        (4, array([0, 0, 1, 1]), array([0, 0, 1, 1]))
    """
    from scipy.optimize import linear_sum_assignment

    nuisances = Nuisances(data, seed)
    if (data.lengths > 1).any() or data.n_actions != 2:
        raise EstimandError("data: pairs are of single decisions between two arms; keep the first decision and two arms.")
    e = nuisances.behavior(propensity, None, None).treated
    logits = np.log(e) - np.log1p(-e)
    treated, control = (np.flatnonzero(data.actions == arm) for arm in (1, 0))
    rows, columns = linear_sum_assignment(np.abs(logits[treated][:, None] - logits[control]))
    pairs = data.take(np.column_stack([treated[rows], control[columns]]).ravel())
    return replace(pairs, clusters=np.repeat(np.arange(len(rows)), 2))
