"""`Interval`, and the protocol of the methods that make one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Protocol, TypeAlias

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.errors import IntervalError
from causalrl.inference.functionals import (
    Functional,
    Sum,
    cluster_standard_error,
    cluster_totals,
    influence_values,
    require_clusters,
)
from causalrl.kernels.cluster_weights import Weights
from causalrl.kernels.resampling import count_block, weighted_sums

_BLOCK = 64

Refit: TypeAlias = Callable[[Floats], Floats]
"""Maps resampling counts (b, G) of the clusters to the values (b,) or (b, k) of the estimate refitted from scratch."""


@dataclass(frozen=True, repr=False)
class Interval:
    """A confidence interval.

    Attributes:
        low, high: float, or (k,) for a vector estimate.
        level: nominal coverage.
        method: what made it.

    Example:
        >>> from causalrl.inference.wald import Wald
        >>> low, high = Interval(1.0, 2.0, 0.95, Wald())
        >>> 1.5 in Interval(low, high, 0.95, Wald())
        True
    """

    low: float | Floats
    high: float | Floats
    level: float
    method: IntervalMethod

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter((self.low, self.high))

    def __contains__(self, value: float) -> bool:
        return bool(np.all((self.low <= np.asarray(value)) & (np.asarray(value) <= self.high)))

    def __repr__(self) -> str:
        with np.printoptions(precision=4):
            low, high = (show_number(float(x)) if np.ndim(x) == 0 else str(x) for x in (self.low, self.high))
        return f"[{low}, {high}] ({self.level:.0%}, {self.method})"


@dataclass(frozen=True, eq=False)
class Linearised:
    """A vector of k values that is, to first order, design (k, p) times the mean of influence values (n, p)."""

    design: Floats
    influence: Floats

    def stderr(self, clusters: Ints) -> Floats:
        """(k,) cluster-robust standard errors."""
        totals = cluster_totals(self.influence - self.influence.mean(axis=0), clusters)
        require_clusters(len(totals))
        root = np.linalg.qr(totals, mode="r") if len(totals) > totals.shape[1] else totals
        spread = np.sqrt(np.sum((root @ self.design.T) ** 2, axis=0) * len(totals) / (len(totals) - 1))
        return np.asarray(spread / len(clusters))

    def row(self, j: int) -> Floats:
        """(n,) influence values of value j."""
        values: Floats = self.influence @ self.design[j]
        return values


@dataclass(frozen=True, eq=False)
class Evidence:
    """What an interval is computed from.

    Attributes:
        value: the point estimate, float or (k,).
        clusters: (n,) codes of the independent units.
        functional, moments: the estimate as a smooth function of the means of moments (n, p), where it is one.
        refit: re-learns the whole estimate under resampling counts, where that is possible.
        default: the interval method where none is asked for; None is Wald for moments, and elsewhere one has to be asked for.
        weighted_returns: every moment is a return, or one times weights; lost in arithmetic.
        linear: of a vector, what its standard errors come from.
    """

    value: float | Floats
    clusters: Ints
    functional: Functional | None = None
    moments: Floats | None = None
    refit: Refit | None = None
    default: IntervalMethod | None = None
    weighted_returns: bool = False
    linear: Linearised | None = None
    _refits: dict[tuple[int, int], Floats] = field(default_factory=dict)
    _means: dict[tuple[Weights, int, int], tuple[Floats, Floats]] = field(default_factory=dict)

    def refitted(self, replicates: int, seed: int) -> Floats:
        """(B,) or (B, k) values refitted on resampled clusters, computed once for a pair (replicates, seed).

        Raises:
            IntervalError: where nothing can be refitted, or some refits have no value.
        """
        if self.refit is None:
            raise IntervalError("method: this estimate cannot be refitted; use its default interval.")
        if (replicates, seed) not in self._refits:
            starts = range(0, replicates, _BLOCK)
            counts = (count_block(self.n_clusters, seed, first, min(first + _BLOCK, replicates)) for first in starts)
            values = np.concatenate([self.refit(block) for block in counts])
            failed = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if failed.any():
                raise IntervalError(
                    f"method: {int(failed.sum())} of {replicates} refits have no value (an action missing from the resample, for "
                    "example). Use fewer nuisance cells, or a doubly robust estimator with its Wald interval."
                )
            self._refits[replicates, seed] = values
        return self._refits[replicates, seed]

    def resampled(self, weights: Weights, replicates: int, seed: int) -> tuple[Floats, Floats]:
        """(B, p) means of the moments and (B,) weighted numbers of trajectories, computed once for a draw of cluster weights.

        Raises:
            IntervalError: where a replicate draws nobody.
        """
        if not self.has_resampled(weights, replicates, seed):
            prepare_draw([self], weights, replicates, seed)
        return self._means[weights, replicates, seed]

    def has_resampled(self, weights: Weights, replicates: int, seed: int) -> bool:
        """Whether `resampled` is known already."""
        return (weights, replicates, seed) in self._means

    def refit_stderr(self, replicates: int, seed: int) -> float | Floats:
        """Standard deviation of the refitted values, float or (k,)."""
        spread = self.refitted(replicates, seed).std(axis=0, ddof=1)
        return spread if spread.ndim else float(spread)

    @cached_property
    def n_clusters(self) -> int:
        return int(self.clusters.max()) + 1

    @cached_property
    def sizes(self) -> Floats:
        """(G,) trajectories in each cluster."""
        return np.bincount(self.clusters).astype(np.float64)

    def item(self, j: int) -> Evidence:
        """Value j of a vector, by its influence values where there are any."""
        value = float(np.asarray(self.value)[j])
        refit = None if self.refit is None else _ItemRefit(self.refit, j)
        if self.linear is None:
            return Evidence(value, self.clusters, refit=refit, default=self.default)
        influence = self.linear.row(j)
        return Evidence(value, self.clusters, Sum(), (value + influence - influence.mean())[:, None], refit)

    def smooth(self) -> tuple[Functional, Floats]:
        """Functional and moments.

        Raises:
            IntervalError: for an estimate that is no smooth function of means.
        """
        if self.linear is not None:
            raise IntervalError(
                f"method: a vector of {len(self.linear.design)} values has Wald() and RefitBootstrap(200) intervals; take one of "
                "its values, estimate[0], for the others."
            )
        if self.functional is None or self.moments is None:
            raise IntervalError(
                "method: this estimate is no smooth function of means, so that only a refit tells its spread. Use "
                "interval(method=RefitBootstrap(200)), or a doubly robust estimator (DR, AIPW), whose interval is Wald's."
            )
        return self.functional, self.moments

    @cached_property
    def influence(self) -> Floats:
        """(n,) influence values."""
        return influence_values(*self.smooth())

    @cached_property
    def stderr(self) -> float:
        """Cluster-robust standard error."""
        return cluster_standard_error(self.influence, self.clusters)

    @cached_property
    def influence_totals(self) -> Floats:
        """(G,) influence values summed within clusters."""
        return cluster_totals(self.influence, self.clusters)

    @cached_property
    def totals(self) -> Floats:
        """(G, p) moments summed within clusters."""
        return np.ascontiguousarray(cluster_totals(self.smooth()[1], self.clusters))


@dataclass(frozen=True, eq=False)
class _ItemRefit:
    refit: Refit
    j: int

    def __call__(self, counts: Floats) -> Floats:
        return self.refit(counts)[:, self.j]


def prepare_draw(evidences: Sequence[Evidence], weights: Weights, replicates: int, seed: int) -> None:
    """Fill `Evidence.resampled` of estimates from the same clusters with one draw of weights for all their moments."""
    sizes, totals = evidences[0].sizes, [evidence.totals for evidence in evidences]
    if (sizes == sizes[0]).all():
        sums, drawn = weighted_sums(int(weights), totals, replicates, seed)
        counted = sizes[0] * drawn
    else:
        sums, _ = weighted_sums(int(weights), [*totals, sizes[:, None]], replicates, seed)
        sums, counted = sums[:, :-1], sums[:, -1]
    if not (counted > 0).all():
        raise IntervalError(
            f"method: {int((counted <= 0).sum())} of {replicates} replicates draw nobody: there are only {len(sizes)} clusters. "
            "Use PercentileBootstrap or BayesianBootstrap."
        )
    means = sums / counted[:, None]
    ends = np.cumsum([own.shape[1] for own in totals])
    for evidence, own in zip(evidences, np.split(means, ends[:-1], axis=1), strict=True):
        evidence._means[weights, replicates, seed] = (np.ascontiguousarray(own), counted)


def show_number(x: float) -> str:
    """Four decimals, or four digits where decimals would hide them."""
    return f"{x:.4f}" if x == 0 or 1e-3 <= abs(x) < 1e6 else f"{x:.4g}"


class IntervalMethod(Protocol):
    """A way to turn evidence into an interval."""

    def stderr(self, evidence: Evidence) -> float | Floats:
        """The standard error that goes with it."""
        ...

    def limits(self, evidence: Evidence, level: float) -> tuple[float | Floats, float | Floats]:
        """Lower and upper limit."""
        ...


def make_interval(evidence: Evidence, level: float, method: IntervalMethod) -> Interval:
    """The interval, after its level is checked."""
    check_level(level)
    check_method(method)
    require_clusters(evidence.n_clusters)
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = method.limits(evidence, level)
    require_finite("the interval", low, high)
    return Interval(low, high, level, method)


def make_stderr(evidence: Evidence, method: IntervalMethod) -> float | Floats:
    """The standard error that goes with a method."""
    require_clusters(evidence.n_clusters)
    with np.errstate(over="ignore", invalid="ignore"):
        error = method.stderr(evidence)
    require_finite("the standard error", error)
    return error


def check_level(level: float) -> None:
    """Refuse what is no level."""
    if isinstance(level, bool) or not isinstance(level, Real) or not 0 < level < 1:
        raise IntervalError(f"level: {level!r} is outside (0, 1); write 0.95 for 95%.")


def check_method(method: object) -> None:
    """Refuse what makes no interval."""
    if isinstance(method, type) or not hasattr(method, "limits"):
        raise IntervalError(f"method: {method!r} makes no interval; pass an object such as Wald() or PercentileBootstrap(1000).")


def require_finite(what: str, *numbers: float | Floats) -> None:
    """Refuse limits and errors beyond the largest float, as weights of 1e300 make them."""
    if not all(np.isfinite(number).all() for number in numbers):
        raise IntervalError(
            f"weights: they are so large that {what} is beyond the largest float. Use a self-normalised estimator (WIS, WDR), or "
            "truncate=."
        )
