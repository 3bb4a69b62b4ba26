"""Weighted least squares in an orthonormal basis of the columns, whatever their rank."""

from __future__ import annotations

import numpy as np

from causalrl.checks import Floats

_RANK = 1e-9
_ESTIMABLE = 1e-6
"""A row whose columns of root mean square 1 lie further outside the span of the learned ones has no fitted value."""


class LeastSquares:
    """The weighted regression of outcomes (M,) on a design (M, d); of several solutions the shortest, on columns of size 1.

    Attributes:
        coefficients: (r,) on the basis. rank: r.
    """

    def __init__(self, design: Floats, outcomes: Floats, weights: Floats) -> None:
        root = np.sqrt(weights / weights.sum())
        size = np.sqrt(np.sum((root[:, None] * design) ** 2, axis=0))
        self._size = np.where(size > 0, size, 1.0)
        orthogonal, triangle = np.linalg.qr(root[:, None] * (design / self._size))
        left, values, right = np.linalg.svd(triangle, full_matrices=True)
        self.rank = int(np.sum(values > _RANK * values.max(initial=0.0)))
        self._inside, self._outside = right[: self.rank].T / values[: self.rank], right[self.rank :].T
        self.coefficients: Floats = left[:, : self.rank].T @ (orthogonal.T @ (root * outcomes))

    def basis(self, design: Floats) -> Floats:
        """(M, r) columns whose weighted mean products, over the rows learned from, are the identity matrix."""
        columns: Floats = (design / self._size) @ self._inside
        return columns

    def at(self, design: Floats) -> Floats:
        """(M,) fitted values; NaN where the columns lie outside the span of those learned from."""
        standard = design / self._size
        lost = np.sum((standard @ self._outside) ** 2, axis=1) > _ESTIMABLE * np.maximum(np.sum(standard**2, axis=1), 1.0)
        return np.where(lost, np.nan, standard @ self._inside @ self.coefficients)
