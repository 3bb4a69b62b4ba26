"""Bounds on a policy value whose logger may have known more at one step, by expectiles, under trajectory weights.

A trajectory's weighted return falls into a sure part and weight x outcome, the part that an unobserved confounder can move. In
each group of trajectories the least mean of the outcomes, reweighted by a function whose largest value is at most gamma times its
smallest, is their expectile: the root k of sum_i w_i h_i(k) (y_i - k) = 0, with h = gamma below k and 1 above it (Newey & Powell
1987; Namkoong, Keramati, Yadlowsky & Brunskill 2020, arXiv 2003.05623). The largest is the same with 1 / gamma.
The reweighted mean as a fixed point is Newton's method on a function that is linear between the outcomes and concave (gamma > 1)
or convex: from beyond all outcomes it moves one way and ends on the root itself after finitely many rounds.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled, parallel
from causalrl.kernels.refit import row_of

MOST_ROUNDS = 200
"""Rounds of reweighted least squares, which has no proof that it ends; it takes about five."""
_RANK = 1e-11
_ROUNDING = 1e-10
"""Relative to the largest outcome: one that is nearer than this to its expectile stays on the side it was counted on."""


class Path(NamedTuple):
    """Trajectories around the step at which the logger may have known more.

    Attributes:
        target: (M,) probability of each logged action under the target. offsets: (n + 1,) trajectory boundaries.
        step: t. past, future: (n,) discounted rewards before t, and from t on.
    """

    target: Floats
    offsets: Ints
    step: int
    past: Floats
    future: Floats


class Groups(NamedTuple):
    """Trajectories that reach the step, sorted by group: `members` (K,), of group g from `starts[g]` to `starts[g + 1]`."""

    members: Ints
    starts: Ints


@compiled
def split(path: Path, propensities: Floats, i: int, keep: bool) -> tuple[float, float, float]:
    """Sure part, weight and outcome of trajectory i; nan where the logger could not have acted as it did.

    Args:
        keep: those who act as the logger are observed, so that the share of the weight that is their probability is sure.
    """
    before, after, at = 1.0, 1.0, path.offsets[i] + path.step
    for j in range(path.offsets[i], path.offsets[i + 1]):
        if propensities[j] <= 0.0:
            return np.nan, np.nan, np.nan
        if j < at:
            before *= path.target[j] / propensities[j]
        elif j > at:
            after *= path.target[j] / propensities[j]
    if at >= path.offsets[i + 1]:
        return before * path.past[i], 0.0, 0.0
    share = propensities[at] if keep else 0.0
    ratio = before * path.target[at] / propensities[at]
    outcome = after * path.future[i]
    return ratio * after * path.past[i] + ratio * share * outcome, ratio * (1.0 - share), outcome


@compiled
def split_all(path: Path, propensities: Floats, keep: bool, drawn: Floats) -> tuple[float, Floats, Floats]:
    """Mean of the sure parts, and (n,) weights and outcomes, under the weights `drawn` (n,) of the trajectories."""
    n, total, mass = len(drawn), 0.0, 0.0
    weights, outcomes = np.zeros(n), np.zeros(n)
    for i in range(n):
        mass += drawn[i]
    for i in range(n):
        if drawn[i] > 0.0:
            sure, weight, outcomes[i] = split(path, propensities, i, keep)
            share = drawn[i] / mass
            total += share * sure
            weights[i] = share * weight
    return total, weights, outcomes


@compiled
def cell_expectile(
    outcomes: Floats, weights: Floats, members: Ints, ratio: float, start: float, falls: bool
) -> tuple[float, float]:
    """The expectile of the members' outcomes, and their total weight.

    Args:
        ratio: weight of the outcomes below the expectile, relative to those above it.
        start, falls: not below the expectile for a ratio of at least 1, from where it falls; not above it for one of at most 1.
    """
    value = start
    while True:
        total, mass, plain = 0.0, 0.0, 0.0
        for i in members:
            weight = weights[i] * (ratio if outcomes[i] < value else 1.0)
            plain += weights[i]
            mass += weight
            total += weight * outcomes[i]
        if mass <= 0.0:
            return 0.0, 0.0
        moved = total / mass
        if np.isnan(moved) or (moved >= value if falls else moved <= value):
            return value, plain
        value = moved


@compiled
def cell_bounds(outcomes: Floats, weights: Floats, groups: Groups, gammas: Floats, bounds: Floats) -> None:
    """bounds (2, K) += sum over groups of the total weight times the expectile, at each gamma of an increasing list."""
    for g in range(len(groups.starts) - 1):
        members = groups.members[groups.starts[g] : groups.starts[g + 1]]
        low, high = np.inf, -np.inf
        for k in range(len(gammas)):
            low, mass = cell_expectile(outcomes, weights, members, gammas[k], low, True)
            if mass <= 0.0:
                break
            bounds[0, k] += mass * low
            high, mass = cell_expectile(outcomes, weights, members, 1.0 / gammas[k], high, False)
            bounds[1, k] += mass * high


@parallel
def tabular_curves(path: Path, propensities: Floats, groups: Groups, gammas: Floats, drawn: Floats) -> Floats:
    """(B, 2, K) lower and upper bounds under every row of trajectory weights (B, n), by one expectile a group.

    Args:
        propensities: (B or 1, M) of the logged actions.
    """
    out = np.empty((len(drawn), 2, len(gammas)))
    for b in numba.prange(len(drawn)):
        sure, weights, outcomes = split_all(path, row_of(propensities, b), True, drawn[b])
        out[b] = sure
        cell_bounds(outcomes, weights, groups, gammas, out[b])
    return out


@compiled
def weighted_fit(design: Floats, outcomes: Floats, weights: Floats, members: Ints, ratio: float, below: Bools) -> Floats:
    """(p,) coefficients of the members' outcomes on their rows, with `ratio` times the weight where `below`; the shortest."""
    p = design.shape[1]
    gram, moment = np.zeros((p, p)), np.zeros(p)
    for j in range(len(members)):
        i = members[j]
        weight = weights[i] * (ratio if below[j] else 1.0)
        for f in range(p):
            moment[f] += weight * design[i, f] * outcomes[i]
            for g in range(f + 1):
                gram[f, g] += weight * design[i, f] * design[i, g]
    for f in range(p):
        gram[:f, f] = gram[f, :f]
    if not (np.isfinite(gram).all() and np.isfinite(moment).all()):
        return np.full(p, np.nan)
    return np.linalg.pinv(gram, _RANK) @ moment


@compiled
def linear_expectile(design: Floats, outcomes: Floats, weights: Floats, members: Ints, ratio: float, below: Bools) -> float:
    """Sum of the members' weights times their linear expectiles, by reweighted least squares; nan where that does not settle.

    Args:
        below: (members,) whose outcome lies below at the start, and at the end.
    """
    most = 0.0
    for i in members:
        if weights[i] > 0.0:
            most = max(most, abs(outcomes[i]))
    for _ in range(MOST_ROUNDS):
        coefficients = weighted_fit(design, outcomes, weights, members, ratio, below)
        total, changed = 0.0, False
        for j in range(len(members)):
            i = members[j]
            value = 0.0
            for f in range(design.shape[1]):
                value += design[i, f] * coefficients[f]
            total += weights[i] * value
            apart = abs(outcomes[i] - value) > _ROUNDING * most
            if apart and weights[i] > 0.0 and below[j] != (outcomes[i] < value):
                below[j], changed = not below[j], True
        if not changed or np.isnan(total):
            return total
    return np.nan


@compiled
def linear_bounds(outcomes: Floats, weights: Floats, groups: Groups, design: Floats, gammas: Floats, bounds: Floats) -> None:
    """The same as `cell_bounds` with an expectile that is linear in the rows of a design (n, p)."""
    for g in range(len(groups.starts) - 1):
        members = groups.members[groups.starts[g] : groups.starts[g + 1]]
        lower, upper = np.ones(len(members), np.bool_), np.zeros(len(members), np.bool_)
        for k in range(len(gammas)):
            bounds[0, k] += linear_expectile(design, outcomes, weights, members, gammas[k], lower)
            bounds[1, k] += linear_expectile(design, outcomes, weights, members, 1.0 / gammas[k], upper)


@parallel
def linear_curves(path: Path, propensities: Floats, groups: Groups, design: Floats, gammas: Floats, drawn: Floats) -> Floats:
    """(B, 2, K) the same as `tabular_curves` with linear expectiles."""
    out = np.empty((len(drawn), 2, len(gammas)))
    for b in numba.prange(len(drawn)):
        sure, weights, outcomes = split_all(path, row_of(propensities, b), True, drawn[b])
        out[b] = sure
        linear_bounds(outcomes, weights, groups, design, gammas, out[b])
    return out


@compiled
def sign_bounds(outcomes: Floats, weights: Floats, gammas: Floats, bounds: Floats) -> None:
    """bounds (2, K) += sum of weights times outcomes, each weight as small or as large as a factor of gamma allows."""
    gain, loss = 0.0, 0.0
    for i in range(len(weights)):
        if outcomes[i] >= 0.0:
            gain += weights[i] * outcomes[i]
        else:
            loss += weights[i] * outcomes[i]
    for k in range(len(gammas)):
        bounds[0, k] += gain / gammas[k] + loss * gammas[k]
        bounds[1, k] += gain * gammas[k] + loss / gammas[k]


@parallel
def naive_curves(path: Path, propensities: Floats, gammas: Floats, drawn: Floats) -> Floats:
    """(B, 2, K) the same when every weight may be gamma times larger or smaller, by the sign of what it multiplies."""
    out = np.empty((len(drawn), 2, len(gammas)))
    for b in numba.prange(len(drawn)):
        sure, weights, outcomes = split_all(path, row_of(propensities, b), False, drawn[b])
        out[b] = sure
        sign_bounds(outcomes, weights, gammas, out[b])
    return out
