"""Small distributions that many rows of a transition matrix share, and products of independent ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from causalrl.checks import Floats, Ints


def grid_levels(features: Floats) -> tuple[Ints, tuple[int, ...]] | None:
    """(S, F) level of each feature of a state, and the number of levels of each; None where a combination has not one state."""
    levels = np.stack([np.unique(column, return_inverse=True)[1].reshape(-1) for column in features.T], axis=1)
    shape = tuple(int(count) + 1 for count in levels.max(axis=0))
    if math.prod(shape) != len(features) or len(np.unique(levels, axis=0)) != len(features):
        return None
    return levels.astype(np.int64), shape


@dataclass(frozen=True, eq=False)
class Factor:
    """One independent part of the next state.

    Attributes:
        segment: (S * A,) distribution of each row.
        indptr: (G + 1,) boundaries of the distributions.
        moves, probabilities, rewards: (E,); the rewards of several factors are 0.
    """

    segment: Ints
    indptr: Ints
    moves: Ints
    probabilities: Floats
    rewards: Floats

    @property
    def sizes(self) -> Ints:
        """(G,) entries of each distribution."""
        return np.diff(self.indptr)

    @classmethod
    def certain(cls, n_rows: int) -> Factor:
        """A contribution of 0 in every row."""
        zero = np.zeros(1, np.int64)
        return cls(np.zeros(n_rows, np.int64), np.array([0, 1]), zero, np.ones(1), np.zeros(1))


def distinct_factor(indptr: Ints, moves: Ints, probabilities: Floats, rewards: Floats) -> Factor:
    """The distinct ones (probabilities to 1e-12) of the distributions of all rows."""
    segment, rows = _distinct(indptr, moves, np.round(probabilities, 12), rewards)
    chosen, entries = _entries(indptr, rows)
    return Factor(segment, chosen, moves[entries], probabilities[entries], rewards[entries])


def multiplied(factors: list[Factor], most: int) -> list[Factor]:
    """Fewer factors with the same law: the pair with the smallest product becomes one, as long as that has `most` entries."""
    while len(factors) > 1:
        products = [(_product_size(first, second), first, second) for first, second in combinations(factors, 2)]
        size, first, second = min(products, key=lambda product: product[0])
        if size > most:
            break
        factors = [*(factor for factor in factors if factor is not first and factor is not second), _product(first, second)]
    return factors


def _product_size(first: Factor, second: Factor) -> int:
    """Entries of the product."""
    pairs = np.unique(first.segment * len(second.sizes) + second.segment)
    return int(first.sizes[pairs // len(second.sizes)] @ second.sizes[pairs % len(second.sizes)])


def _product(first: Factor, second: Factor) -> Factor:
    """The sum of two independent contributions."""
    pairs, segment = np.unique(first.segment * len(second.sizes) + second.segment, return_inverse=True)
    left, right = pairs // len(second.sizes), pairs % len(second.sizes)
    indptr = np.concatenate([[0], np.cumsum(first.sizes[left] * second.sizes[right])])
    at = np.repeat(np.arange(len(pairs)), np.diff(indptr))
    quotient, rest = np.divmod(np.arange(indptr[-1]) - indptr[at], second.sizes[right][at])
    one, other = first.indptr[left][at] + quotient, second.indptr[right][at] + rest
    moves = first.moves[one] + second.moves[other]
    return Factor(segment, indptr, moves, first.probabilities[one] * second.probabilities[other], np.zeros(len(moves)))


def _distinct(indptr: Ints, *columns: Floats | Ints) -> tuple[Ints, Ints]:
    """Number (R,) of each compressed row among the distinct ones, and the first row (G,) with each number."""
    packed = np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
    text, width, bounds = packed.tobytes(), packed.itemsize * packed.shape[1], indptr.tolist()
    seen: dict[bytes, int] = {}
    number = [seen.setdefault(text[width * low : width * high], len(seen)) for low, high in pairwise(bounds)]
    segment = np.array(number)
    return segment, np.unique(segment, return_index=True)[1]


def _entries(indptr: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Boundaries of chosen compressed rows put one after the other, and where their entries are."""
    counts = np.diff(indptr)[rows]
    chosen = np.concatenate([[0], np.cumsum(counts)])
    return chosen, np.arange(chosen[-1]) + np.repeat(indptr[rows] - chosen[:-1], counts)
