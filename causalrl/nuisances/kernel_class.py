"""The class of functions of a Gaussian kernel, on the basis of Nystrom (Williams & Seeger 2001).

With landmarks Z, phi(x) = K(Z, Z)^(-1/2) k(Z, x), so that |beta| is the norm of the kernel's space on their span, and no matrix
between all pairs of rows is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, number, whole_number
from causalrl.data import Steps
from causalrl.errors import DataError
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.features import Standardized
from causalrl.nuisances.function_classes import Basis, Support

RIDGE_PER_ROW = 1e-2
"""Default penalty of a fit, times the rows; see `MinimaxQ`."""
_FLAT = 1e-10
"""Directions of a kernel matrix below this share of its largest are left out."""
_FOR_BANDWIDTH = 500


@dataclass(frozen=True)
class KernelClass:
    """The space of the kernel 1[a = a'] exp(-|x - x'|^2 / (2 h^2)), x the standardised features, and a constant for each action.

    Landmarks are drawn from the distinct logged (x, a), the same number for every logged action; an action with fewer gives
    all of them.

    Args:
        bandwidth: h, in standard deviations of the features; None is the median distance of 500 distinct logged observations.
        landmarks: how many in all; the fit costs their square times the steps.

    Raises:
        DataError: for a bandwidth of 0 or fewer landmarks than logged actions.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> x = np.linspace(-1, 1, 200)[:, None]
        >>> study = crl.Trajectories.from_cross_section(x, np.arange(200) % 2, np.sin(3 * x[:, 0]) + np.arange(200) % 2)
        >>> round(crl.GFormula(crl.MinimaxQ(KernelClass())).estimate(study, crl.ATE()).value, 1)
        1.0
    """

    bandwidth: float | None = None
    landmarks: int = 200
    default_folds: int = field(default=5, init=False, repr=False)

    def __post_init__(self) -> None:
        whole_number("landmarks", self.landmarks, 1)
        if self.bandwidth is not None and number("bandwidth", self.bandwidth, 0.0) == 0:
            raise DataError("bandwidth: 0; pass a positive number of standard deviations, or None for the median distance.")

    def default_ridge(self, rows: float) -> float:
        return RIDGE_PER_ROW / rows

    def basis(self, steps: Steps, weights: Floats, seed: int) -> Basis:
        standardized = Standardized(None, steps)
        used = weights > 0
        rng = np.random.default_rng(derive_seed(seed, "landmarks"))
        observations, actions = steps.observations[used], steps.actions[used]
        quota = self.landmarks // len(np.unique(actions))
        if quota == 0:
            raise DataError(f"landmarks: {self.landmarks} for {len(np.unique(actions))} logged actions; pass at least one each.")
        landmarks = [
            _some(np.unique(observations[actions == a], axis=0), quota, rng) if (actions == a).any() else observations[:0]
            for a in range(steps.data.n_actions)
        ]
        bandwidth = self.bandwidth
        if bandwidth is None:
            bandwidth = _median_distance(standardized.at(_some(np.unique(observations, axis=0), _FOR_BANDWIDTH, rng)))
        return _KernelBasis(standardized, [standardized.at(points) for points in landmarks], bandwidth)


def _some(points: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[Any]:
    """At most so many of some points."""
    return points[np.sort(rng.permutation(len(points))[:count])]


def _median_distance(points: Floats) -> float:
    """Of the pairs of distinct points; 1 where there is no pair."""
    distances = np.sqrt(_square_distances(points, points)[np.triu_indices(len(points), 1)])
    positive = distances[distances > 0]
    return float(np.median(positive)) if len(positive) else 1.0


def _square_distances(x: Floats, z: Floats) -> Floats:
    squares = (x**2).sum(axis=1)[:, None] + (z**2).sum(axis=1) - 2 * x @ z.T
    return np.asarray(np.maximum(squares, 0.0))


class _KernelBasis(Basis):
    def __init__(self, standardized: Standardized, landmarks: list[Floats], bandwidth: float) -> None:
        self._standardized, self._landmarks, self._bandwidth = standardized, landmarks, bandwidth
        self._whiten = [_inverse_root(self._kernel(points, points)) for points in landmarks]
        super().__init__([1 + root.shape[1] for root in self._whiten])

    def _kernel(self, x: Floats, z: Floats) -> Floats:
        return np.asarray(np.exp(_square_distances(x, z) / (-2 * self._bandwidth**2)))

    def prepare(self, observations: NDArray[Any]) -> Floats:
        return self._standardized.at(observations)

    def of_action(self, prepared: Floats, action: int) -> Floats:
        smooth = self._kernel(prepared, self._landmarks[action]) @ self._whiten[action]
        return np.column_stack([np.ones(len(prepared)), smooth])

    def support(self, gram: Floats) -> Support:
        """Of actions alone: a kernel speaks about every x near the logged ones."""
        logged = [gram[columns, columns][0, 0] > 0 for columns in self.columns]
        widths = [columns.stop - columns.start for columns in self.columns]
        return Support(self, [np.empty((w, 0)) if seen else np.eye(w) for w, seen in zip(widths, logged, strict=True)])


def _inverse_root(gram: Floats) -> Floats:
    """(m, k) R with R'KR = 1, its flat directions left out."""
    if not len(gram):
        return np.empty((0, 0))
    values, vectors = np.linalg.eigh(gram)
    kept = values > _FLAT * values[-1]
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))
