"""Arithmetic on evidence: what is known of f(a), of a and b combined, and of shards put together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.inference.base import Evidence, Linearised, Refit
from causalrl.inference.functionals import Combined, Sum, Transformed
from causalrl.inference.operations import Operation, Transformation


@dataclass(frozen=True)
class _TransformedRefit:
    transformation: Transformation
    refit: Refit

    def __call__(self, counts: Floats) -> Floats:
        return self.transformation.apply(self.refit(counts))


@dataclass(frozen=True)
class _CombinedRefit:
    operation: Operation
    left: Refit
    right: Refit

    def __call__(self, counts: Floats) -> Floats:
        return self.operation.apply(self.left(counts), self.right(counts))


def transform(evidence: Evidence, transformation: Transformation) -> Evidence:
    """Evidence on a function of the value."""
    return Evidence(
        _plain(transformation.apply(np.asarray(evidence.value))),
        evidence.clusters,
        None if evidence.functional is None else Transformed(transformation, evidence.functional),
        evidence.moments,
        None if evidence.refit is None else _TransformedRefit(transformation, evidence.refit),
        evidence.default,
        linear=_transformed(evidence, transformation),
    )


def _transformed(evidence: Evidence, transformation: Transformation) -> Linearised | None:
    if evidence.linear is None:
        return None
    slope = transformation.derivative(np.asarray(evidence.value))
    return Linearised(slope[:, None] * evidence.linear.design, evidence.linear.influence)


def _joined(operation: Operation, a: Evidence, b: Evidence) -> Linearised | None:
    if a.linear is None or b.linear is None:
        return None
    of_a, of_b = operation.partials(np.asarray(a.value), np.asarray(b.value))
    design = np.hstack([of_a[:, None] * a.linear.design, of_b[:, None] * b.linear.design])
    return Linearised(design, np.hstack([a.linear.influence, b.linear.influence]))


def combine(operation: Operation, a: Evidence, b: Evidence) -> Evidence:
    """Evidence on a (+, -, *, /) b from the same data: moments are stacked, and refits share their resamples."""
    smooth = a.functional is not None and b.functional is not None
    return Evidence(
        _plain(operation.apply(np.asarray(a.value), np.asarray(b.value))),
        a.clusters,
        Combined(operation, a.smooth()[0], b.smooth()[0]) if smooth else None,
        np.hstack([a.smooth()[1], b.smooth()[1]]) if smooth else None,
        None if a.refit is None or b.refit is None else _CombinedRefit(operation, a.refit, b.refit),
        None if b.default is None else a.default,
        linear=_joined(operation, a, b),
    )


@dataclass(frozen=True, eq=False)
class _EmbeddedRefit:
    """A refit of some clusters under the counts of all."""

    refit: Refit
    kept: Ints

    def __call__(self, counts: Floats) -> Floats:
        return self.refit(np.ascontiguousarray(counts[:, self.kept]))


def embed(evidence: Evidence, rows: Ints, clusters: Ints) -> Evidence:
    """Evidence that rests on some of the trajectories as evidence of all: the others have influence 0.

    Args:
        rows: (m,) their places among all, in order. clusters: (n,) of all.
    """

    def spread(influence: Floats) -> Floats:
        out = np.zeros((len(clusters), *influence.shape[1:]))
        out[rows] = influence * (len(clusters) / len(rows))
        return out

    refit = None if evidence.refit is None else _EmbeddedRefit(evidence.refit, np.unique(clusters[rows]))
    whole = Evidence(evidence.value, clusters, refit=refit, default=evidence.default)
    if evidence.linear is not None:
        return replace(whole, linear=Linearised(evidence.linear.design, spread(evidence.linear.influence)))
    if evidence.functional is None:
        return whole
    return replace(whole, functional=Sum(), moments=(evidence.value + spread(evidence.influence))[:, None])


def merge(a: Evidence, b: Evidence) -> Evidence:
    """Evidence from two shards with disjoint clusters, as from both together."""
    (left, m_left), (right, m_right) = a.smooth(), b.smooth()
    functional, of_left, of_right = left.aligned(right)
    moments = np.vstack([of_left.of(m_left), of_right.of(m_right)])
    clusters = np.concatenate([a.clusters, b.clusters + a.n_clusters])
    value, bounded = _plain(functional.value(moments.mean(axis=0))), a.weighted_returns and b.weighted_returns
    return Evidence(value, clusters, functional, moments, weighted_returns=bounded)


def _plain(value: Any) -> float | Floats:
    return float(value) if np.ndim(value) == 0 else np.asarray(value)
