"""MAGIC: model and importance sampling blended by the estimated error of the blend (Thomas & Brunskill 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from causalrl.checks import Floats, Ints, number, whole_number
from causalrl.diagnostics.record import Note, diagnostics_record
from causalrl.errors import EstimandError, OverlapWarning, SupportError
from causalrl.estimands import PolicyValue
from causalrl.estimate import Estimate
from causalrl.estimators.base import Refitted, Score, goal_label
from causalrl.estimators.doubly_robust import DoublyRobustEstimator
from causalrl.inference.base import Evidence
from causalrl.inference.functionals import cluster_totals, require_clusters
from causalrl.kernels.resampling import bootstrap_means
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances


@dataclass(frozen=True)
class MAGIC(DoublyRobustEstimator):
    """Model and guided importance sampling combining (Thomas & Brunskill 2016, section 7).

    The j-step return g_j follows WDR up to time j and the value model from there on; g_{-1} is the model alone, g_infinity is
    WDR. The estimate is x'g, x on the simplex minimising x'(Omega + b b')x: Omega the covariance of the returns (from influence
    values, so that the noise of the normalisers counts), b_j the signed distance of g_j to a percentile interval of WDR from
    resampled clusters (0 inside). diagnostics["blend"] holds x, the model first.

    A choice made by an optimiser is no smooth function of means, so that there is no default interval: ask for
    RefitBootstrap(200), which chooses anew in every resample.

    Args:
        q: value model, cross-fitted by default unless linear.
        behavior: propensities; None is the logged ones where the data have them, else Counts() on states, Logit() on vectors.
        folds: cross-fitting folds by cluster of both; None is each learner's default.
        truncate: bound c of the cumulative weights, min(w, c) (Ionides 2008), at least 1; None is none.
        level: of the interval that a return must leave to count as biased (0.9 in the authors' experiments; not a standard).
        replicates: resamples of that interval.

    Raises:
        SupportError, TruncationError: as WDR.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, 3.0], [0, 1, 2], behavior_probabilities=[0.5, 0.5])
        >>> round(crl.MAGIC(q=crl.KnownQ([[1.0, 3.0]])).estimate(data, crl.Uniform(2)).value, 9)
        2.0
    """

    level: float = 0.9
    replicates: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < number("level", self.level, 0.0, 1.0, EstimandError) < 1:
            raise EstimandError(f"level: {self.level} is outside (0, 1); write 0.9 for 90%.")
        whole_number("replicates", self.replicates, 2, EstimandError)

    def score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        return self._score(nuisances, goal, normalized=True)

    def policy_value(self, nuisances: Nuisances, goal: PolicyValue) -> Estimate:
        score = self.score(nuisances, goal)
        value, blend = self._blended(score, nuisances, goal)
        refit = Refitted(nuisances, partial(self.point, goal=goal))
        evidence = Evidence(value, nuisances.data.clusters, refit=refit)
        diagnostics = diagnostics_record(score.notes, **score.diagnostics, blend=blend)
        return Estimate(value, str(self), goal_label(goal), diagnostics, evidence, nuisances.data.fingerprint)

    def point(self, nuisances: Nuisances, goal: PolicyValue) -> float:
        return self._blended(self.score(nuisances, goal), nuisances, goal)[0]

    def _blended(self, score: Score, nuisances: Nuisances, goal: PolicyValue) -> tuple[float, Floats]:
        weights = np.ones(nuisances.data.n) if nuisances.weights is None else nuisances.weights
        length = int(np.diff(nuisances.steps(goal.horizon).offsets).max())
        moments = score.moments[:, : 1 + 2 * length]
        means = np.average(moments, axis=0, weights=weights)
        returns = step_returns(means)
        clusters = nuisances.data.clusters
        totals = cluster_totals(weights[:, None] * moments, clusters).T
        resampled = bootstrap_means(
            np.ascontiguousarray(totals),
            np.bincount(clusters, weights).astype(np.float64),
            self.replicates,
            derive_seed(nuisances.seed, "magic"),
        )
        exists = (_parts(resampled)[2] > 0).all(axis=1)
        empty = self.replicates - int(exists.sum())
        if empty == self.replicates:
            raise SupportError(
                f"weights: all weights are zero at some time in each of {empty} resamples, so that WDR cannot judge the model: "
                "too few trajectories agree with the target. Use WDR, or more replicates."
            )
        if empty:
            text = (
                f"all weights are zero at some time in {empty} of {self.replicates} resamples, which have no WDR; the interval "
                "that judges the model rests on the others."
            )
            score.notes.append(Note(OverlapWarning, text))
        wdr = step_returns(resampled[exists])[:, -1]
        low, high = np.quantile(wdr, [(1 - self.level) / 2, (1 + self.level) / 2])
        bias = np.minimum(returns - low, 0) + np.maximum(returns - high, 0)
        blend = best_blend(_spread(moments, means, weights, clusters), bias)
        return float(blend @ returns), blend


def step_returns(means: Floats) -> Floats:
    """(..., T + 1) j-step returns for j = -1, ..., T - 1 from mean start values, numerators and denominators (..., 1 + 2T)."""
    start, numerators, denominators = _parts(means)
    terms = numerators / denominators
    return np.concatenate([start, start + np.cumsum(terms, axis=-1)], axis=-1)


def _parts(moments: Floats) -> tuple[Floats, Floats, Floats]:
    length = (moments.shape[-1] - 1) // 2
    return moments[..., :1], moments[..., 1 : 1 + length], moments[..., 1 + length :]


def _spread(moments: Floats, means: Floats, weights: Floats, clusters: Ints) -> Floats:
    """(G, T + 1) C, whose C'C is the cluster-robust covariance of the j-step returns, normalisers included."""
    start, numerators, denominators = (part - mean for part, mean in zip(_parts(moments), _parts(means), strict=True))
    _, mean_numerators, mean_denominators = _parts(means)
    terms = (numerators - mean_numerators / mean_denominators * denominators) / mean_denominators
    influence = np.concatenate([start, start + np.cumsum(terms, axis=1)], axis=1)
    totals = cluster_totals(weights[:, None] * influence, clusters)
    require_clusters(len(totals))
    scaled: Floats = totals * np.sqrt(len(totals) / (len(totals) - 1)) / weights.sum()
    return scaled


_RESCALINGS = 4
"""The first solution gives the scale of the minimum, on which the next are accurate."""


def best_blend(contributions: Floats, bias: Floats) -> Floats:
    """(J,) x on the simplex that minimises x'(C'C + b b')x.

    With F = [C; b'] the minimiser of |F y|^2 + (1'y - 1)^2 over y >= 0 is a multiple of x, since for a direction x the best
    length leaves x'F'Fx / (1 + x'F'Fx), which grows with x'F'Fx: a non-negative least squares problem, solved by active sets.

    Args:
        contributions: (K, J) C, whose C'C is the covariance of the J returns. bias: (J,) b.
    """
    from scipy.optimize import nnls

    root: Floats = np.linalg.qr(np.vstack([contributions, bias]))[1]
    blend: Floats = np.eye(len(bias))[-1]
    for _ in range(_RESCALINGS):
        scale = float(np.linalg.norm(root @ blend))
        if scale == 0:
            break
        y, _ = nnls(np.vstack([root / scale, np.ones(len(bias))]), np.append(np.zeros(len(root)), 1.0))
        if not y.any() or np.linalg.norm(root @ y) >= scale * y.sum():  # no better than rounding allows
            break
        blend = y / y.sum()
    return blend
