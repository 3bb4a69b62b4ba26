"""`Draws`: the transition law of a finite process in the form in which it is sampled, built once for each process.

The next state is a base of the (state, action) plus one contribution from each of F independent factors, drawn from small
distributions that many (state, action) share. Any process has F = 1: its distinct rows. Where the states are a complete grid
of features and every row is the product of its marginals (in the sepsis simulator the vital signs move independently given
state and action), a feature is a factor, and what is certain belongs to the base. Factors are multiplied out again as long
as all tables together stay small.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from causalrl.checks import Floats, Ints
from simulators.mdp.alias import Codes, alias_table
from simulators.mdp.dynamics import Dynamics
from simulators.mdp.factors import Factor, distinct_factor, grid_levels, multiplied

MOST_ENTRIES = 1024
"""Factors are multiplied as long as the product has so few entries: 16 kB, half of a first-level cache."""

TOLERANCE = 1e-12
"""Largest difference between a row and the product of its marginals."""


class Draws(NamedTuple):
    """Tables for compiled code; rows are s * A + a, segments the distributions of all factors, E entries in all.

    Attributes:
        base: (S * A,) next state before any contribution.
        segments: (F, S * A) distribution from which factor f draws in a row.
        first: (G,) first entry of a segment.
        size: (G,) number of its entries.
        cut: (E,) see `Alias`.
        moves: (2E,) contribution of each outcome of an alias table.
        rewards: (S,) on arrival, or (2E,) of each outcome where `by_outcome`.
        by_outcome: whether the reward is no function of the next state.
    """

    base: Codes
    segments: Codes
    first: Codes
    size: Floats
    cut: Floats
    moves: Codes
    rewards: Floats
    by_outcome: bool


def build_draws(dynamics: Dynamics, state_features: Floats | None) -> Draws:
    """Tables that sample exactly these transitions and rewards (probabilities to 1e-12, impossible ones never).

    Args:
        dynamics: of the process.
        state_features: (S, d), searched for a grid, or None.

    Example:
        >>> coin = Dynamics.from_dense([[[0.5, 0.5]], [[0.5, 0.5]]], [0.0, 1.0])
        >>> build_draws(coin, None).segments  # the two rows are one distribution
        array([[0, 0]], dtype=uint32)
    """
    arrival = np.zeros(dynamics.n_states)
    arrival[dynamics.successors] = dynamics.rewards
    by_outcome = bool((arrival[dynamics.successors] != dynamics.rewards).any())
    parts = None if by_outcome else _grid_factors(dynamics, state_features)
    if parts is None:
        whole = distinct_factor(dynamics.indptr, dynamics.successors, dynamics.probabilities, dynamics.rewards)
        parts = np.zeros(len(whole.segment), np.int64), [whole]
    base, factors = parts
    sizes = np.concatenate([factor.sizes for factor in factors])
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    before = np.cumsum([0, *(len(factor.sizes) for factor in factors)])
    cut, drawn = alias_table(indptr, np.concatenate([factor.probabilities for factor in factors]))
    return Draws(
        base.astype(np.uint32),
        np.array([factor.segment + number for factor, number in zip(factors, before, strict=False)], np.uint32),
        indptr[:-1].astype(np.uint32),
        sizes.astype(np.float64),
        cut,
        np.concatenate([factor.moves for factor in factors]).astype(np.uint32)[drawn],
        np.concatenate([factor.rewards for factor in factors])[drawn] if by_outcome else arrival,
        by_outcome,
    )


def _grid_factors(dynamics: Dynamics, state_features: Floats | None) -> tuple[Ints, list[Factor]] | None:
    """Base and factors of a process on a grid whose rows are products, or None."""
    grid = _grid(state_features)
    base, factors = np.zeros(len(dynamics.indptr) - 1, np.int64), []
    rows = dynamics.rows
    if grid is None or len(np.unique(rows * dynamics.n_states + dynamics.successors)) < len(rows):
        return None
    product, support = np.ones(len(rows)), np.ones(len(base), np.int64)
    for levels, steps in grid:
        reached = levels[dynamics.successors]
        indptr, found, probabilities = _marginal(dynamics, reached, len(steps))
        counts = np.diff(indptr)
        keys = np.repeat(np.arange(len(base)), counts) * len(steps) + found
        product *= probabilities[np.searchsorted(keys, rows * len(steps) + reached)]
        support *= counts
        if (counts == 1).all():
            base += steps[found]
        else:
            factors.append(distinct_factor(indptr, steps[found], probabilities, np.zeros(len(found))))
    if not np.array_equal(support, np.diff(dynamics.indptr)) or np.abs(product - dynamics.probabilities).max() > TOLERANCE:
        return None
    return base, multiplied(factors, MOST_ENTRIES) if factors else [Factor.certain(len(base))]


def _grid(features: Floats | None) -> list[tuple[Ints, Ints]] | None:
    """For each feature the level of every state and what each level adds to the index of a state; None without such a grid."""
    found = None if features is None or not features.size else grid_levels(features)
    if features is None or found is None:
        return None
    levels, shape = found[0].T, found[1]
    key = np.ravel_multi_index(tuple(levels), shape)
    state = np.argsort(key)
    strides = [math.prod(shape[place + 1 :]) for place in range(len(shape))]
    steps = [
        state[key[0] + (np.arange(count) - level[0]) * stride]
        for level, count, stride in zip(levels, shape, strides, strict=True)
    ]
    total = np.sum([step[level] for level, step in zip(levels, steps, strict=True)], axis=0)
    return [*zip(levels, steps, strict=True)] if np.array_equal(total, np.arange(len(features))) else None


def _marginal(dynamics: Dynamics, levels: Ints, n_levels: int) -> tuple[Ints, Ints, Floats]:
    """Law of one feature of the next state: compressed rows (indptr, levels, probabilities), levels increasing."""
    shape = (len(dynamics.indptr) - 1, n_levels)
    law = csr_array((dynamics.probabilities, levels, dynamics.indptr), shape=shape, copy=True)
    law.sum_duplicates()
    return law.indptr.astype(np.int64), law.indices.astype(np.int64), np.asarray(law.data)
