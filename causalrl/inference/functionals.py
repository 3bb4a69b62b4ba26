"""Smooth functions of mean moments: what an estimator hands over in place of a standard-error formula.

A functional maps means (..., p) to a value (...,) and to its gradient (..., p). Everything else (standard errors, every
bootstrap, contrasts, merging of shards) follows from these two.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.errors import IntervalError, MismatchError, SupportError
from causalrl.inference.operations import Operation, Transformation


@dataclass(frozen=True, eq=False)
class Columns:
    """A choice of moment columns, each times a factor.

    Attributes:
        index, factor: (p,).
    """

    index: Ints
    factor: Floats

    @classmethod
    def unchanged(cls, p: int) -> Columns:
        return cls(np.arange(p), np.ones(p))

    def of(self, moments: Floats) -> Floats:
        """(n, p) the chosen columns of moments (n, ...)."""
        return moments[:, self.index] * self.factor

    def then(self, other: Columns, offset: int) -> Columns:
        """These columns followed by others, which start at `offset`."""
        return Columns(np.append(self.index, other.index + offset), np.append(self.factor, other.factor))


class Functional(ABC):
    """A smooth function of p means."""

    @property
    @abstractmethod
    def p(self) -> int:
        """Number of moments."""

    @abstractmethod
    def value(self, means: Floats) -> Floats:
        """(...,) from means (..., p)."""

    @abstractmethod
    def gradient(self, means: Floats) -> Floats:
        """(..., p) derivative at means (..., p)."""

    @abstractmethod
    def aligned(self, other: Functional) -> tuple[Functional, Columns, Columns]:
        """The functional that shards of `self` and `other` share, and how the moments of each are brought to it."""

    def _mismatch(self, other: Functional) -> MismatchError:
        return MismatchError(f"merge: {type(self).__name__} and {type(other).__name__} are moments of different estimators.")


@dataclass(frozen=True)
class Sum(Functional):
    """The sum of p means (p = 1: a plain mean)."""

    p: int = 1

    def value(self, means: Floats) -> Floats:
        values: Floats = means.sum(axis=-1)
        return values

    def gradient(self, means: Floats) -> Floats:
        return np.ones_like(means)

    def aligned(self, other: Functional) -> tuple[Functional, Columns, Columns]:
        if not isinstance(other, Sum) or other.p != self.p:
            raise self._mismatch(other)
        return self, Columns.unchanged(self.p), Columns.unchanged(self.p)


@dataclass(frozen=True, eq=False)
class RatioSum(Functional):
    """sum_t N_t / D_t: T numerators, then T denominators (Hajek at T = 1).

    Attributes:
        log_scale: (T,) both are stored times exp(-log_scale), which cancels.
    """

    log_scale: Floats

    @property
    def p(self) -> int:
        return 2 * len(self.log_scale)

    def _split(self, means: Floats) -> tuple[Floats, Floats]:
        length = len(self.log_scale)
        numerators, denominators = means[..., :length], means[..., length:]
        if (denominators <= 0).any():
            raise SupportError(
                "weights: all weights are zero in a resample, so that its self-normalised value does not exist: too few "
                "trajectories agree with the target. Use the Wald interval and read diagnostics['ess'] first."
            )
        return numerators, denominators

    def value(self, means: Floats) -> Floats:
        numerators, denominators = self._split(means)
        values: Floats = (numerators / denominators).sum(axis=-1)
        return values

    def gradient(self, means: Floats) -> Floats:
        numerators, denominators = self._split(means)
        return np.concatenate([1 / denominators, -(numerators / denominators) / denominators], axis=-1)

    def aligned(self, other: Functional) -> tuple[Functional, Columns, Columns]:
        if not isinstance(other, RatioSum):
            raise self._mismatch(other)
        length = max(len(self.log_scale), len(other.log_scale))
        shared = np.maximum(self._scale_until(length), other._scale_until(length))
        return RatioSum(shared), self._columns_until(length, shared), other._columns_until(length, shared)

    def _scale_until(self, length: int) -> Floats:
        return self.log_scale[np.minimum(np.arange(length), len(self.log_scale) - 1)]

    def _columns_until(self, length: int, shared: Floats) -> Columns:
        """Past the longest record of a shard its numerators are 0 and its denominators keep their last value."""
        t = np.arange(length)
        own = np.minimum(t, len(self.log_scale) - 1)
        factor = np.exp(self.log_scale[own] - shared)
        return Columns(np.append(own, len(self.log_scale) + own), np.append(np.where(t == own, factor, 0.0), factor))


@dataclass(frozen=True, eq=False)
class Combined(Functional):
    """operation(left, right) on stacked moments: the left operand's columns first."""

    operation: Operation
    left: Functional
    right: Functional

    @property
    def p(self) -> int:
        return self.left.p + self.right.p

    def _values(self, means: Floats) -> tuple[Floats, Floats]:
        return self.left.value(means[..., : self.left.p]), self.right.value(means[..., self.left.p :])

    def value(self, means: Floats) -> Floats:
        return self.operation.apply(*self._values(means))

    def gradient(self, means: Floats) -> Floats:
        d_left, d_right = self.operation.partials(*self._values(means))
        left = d_left[..., None] * self.left.gradient(means[..., : self.left.p])
        return np.concatenate([left, d_right[..., None] * self.right.gradient(means[..., self.left.p :])], axis=-1)

    def aligned(self, other: Functional) -> tuple[Functional, Columns, Columns]:
        if not isinstance(other, Combined) or other.operation != self.operation:
            raise self._mismatch(other)
        left, left_a, left_b = self.left.aligned(other.left)
        right, right_a, right_b = self.right.aligned(other.right)
        return Combined(self.operation, left, right), left_a.then(right_a, self.left.p), left_b.then(right_b, other.left.p)


@dataclass(frozen=True, eq=False)
class Transformed(Functional):
    """A function of one functional's value."""

    transformation: Transformation
    inner: Functional

    @property
    def p(self) -> int:
        return self.inner.p

    def value(self, means: Floats) -> Floats:
        return self.transformation.apply(self.inner.value(means))

    def gradient(self, means: Floats) -> Floats:
        return self.transformation.derivative(self.inner.value(means))[..., None] * self.inner.gradient(means)

    def aligned(self, other: Functional) -> tuple[Functional, Columns, Columns]:
        if not isinstance(other, Transformed) or other.transformation != self.transformation:
            raise self._mismatch(other)
        inner, a, b = self.inner.aligned(other.inner)
        return Transformed(self.transformation, inner), a, b


def influence_values(functional: Functional, moments: Floats) -> Floats:
    """(n,) influence of each trajectory: gradient' (M_i - mean)."""
    means = moments.mean(axis=0)
    values: Floats = (moments - means) @ functional.gradient(means)
    return values


def cluster_totals(values: Floats, clusters: Ints) -> Floats:
    """(G, ...) values (n, ...) summed within clusters 0..G-1; the values themselves where every trajectory is a cluster."""
    n, count = len(clusters), int(clusters.max()) + 1
    if n == count and np.array_equal(clusters, np.arange(n)):
        return values
    out = np.zeros((count, *values.shape[1:]))
    np.add.at(out, clusters, values)
    return out


def cluster_standard_error(influence: Floats, clusters: Ints) -> float:
    """sqrt(G / (G - 1) sum_g (sum of psi in g)^2) / n; with one trajectory a cluster, sd(psi) / sqrt(n).

    Raises:
        IntervalError: with a single cluster, from which no spread can be learned.
    """
    totals = cluster_totals(influence, clusters)
    count = len(totals)
    require_clusters(count)
    return float(np.sqrt(count / (count - 1) * np.sum(totals**2)) / len(influence))


def require_clusters(count: int) -> None:
    """Refuse a spread learned from a single independent unit."""
    if count < 2:
        raise IntervalError(
            "clusters: the data hold a single cluster, which shows no spread: no error, no interval; add clusters."
        )
