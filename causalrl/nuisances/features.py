"""Features of observations, and rows taken in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints, check_size, numeric
from causalrl.data import Steps
from causalrl.errors import DataError

Features = Callable[[NDArray[Any]], Floats]
"""Maps observations (K, ...) to features (K, d)."""


class Standardized:
    """Features less their mean over the logged steps, divided by their standard deviation."""

    def __init__(self, features: Features | None, steps: Steps) -> None:
        self._features = steps.data.features if features is None else features
        raw = self._raw(steps.observations)
        self._center = raw.mean(axis=0)
        spread = raw.std(axis=0)
        self._scale = np.where(spread > 0, spread, 1.0)

    def _raw(self, observations: NDArray[Any]) -> Floats:
        raw = numeric("features", self._features(observations))
        if raw.ndim != 2 or len(raw) != len(observations):
            raise DataError(
                f"features: gave shape {raw.shape} for {len(observations)} observations, expected ({len(observations)}, d)."
            )
        check_size("features", raw)
        return raw

    @property
    def width(self) -> int:
        return len(self._center)

    def at(self, observations: NDArray[Any]) -> Floats:
        """(K, d)."""
        if not len(observations):
            return np.empty((0, self.width))
        return np.asarray((self._raw(observations) - self._center) / self._scale)

    def with_intercept(self, observations: NDArray[Any]) -> Floats:
        """(K, 1 + d): normal equations of these are well conditioned."""
        return np.column_stack([np.ones(len(observations)), self.at(observations)])


def blocks(rows: Ints, size: int = 1 << 17) -> Iterator[Ints]:
    """The rows in pieces, so that what is made of each stays small beside the data."""
    return (rows[first : first + size] for first in range(0, len(rows), size))
