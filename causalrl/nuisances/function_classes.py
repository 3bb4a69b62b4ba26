"""Classes of functions f(s, a) for minimax learning, as finite bases: f(s, a) = beta' phi(s, a), with norm |beta|.

The norm leaves out the constant of each action. Here is the class that is linear in features; `kernel_class` has a kernel's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints, optional_function
from causalrl.data import Steps
from causalrl.errors import DataError
from causalrl.nuisances.features import Features, Standardized

_OUTSIDE = 1e-6
"""A point with more than this share of its length outside the span of logged points is off their support."""
_MOST_FUNCTIONS = 5_000
ROWS_A_BLOCK = 8_192


class FunctionClass(Protocol):
    """What the minimax learners take as class of w, of Q and of the discriminator."""

    @property
    def default_folds(self) -> int:
        """Cross-fitting folds when none are asked for."""
        ...

    @abstractmethod
    def default_ridge(self, rows: float) -> float:
        """Penalty of a fit on so many rows where none is asked for."""
        ...

    @abstractmethod
    def basis(self, steps: Steps, weights: Floats, seed: int) -> Basis:
        """The basis on these steps; `weights` (M,) is positive on the rows to learn from."""
        ...


class Basis(ABC):
    """Basis functions phi(s, a), those of action a in the columns `columns[a]`; the first of them is 1.

    Attributes:
        columns: of each action. normed: (D,) whether the function counts in the norm; constants do not.
    """

    def __init__(self, widths: list[int]) -> None:
        ends = np.cumsum([0, *widths])
        self.columns = [slice(int(start), int(stop)) for start, stop in pairwise(ends)]
        self.normed = np.ones(int(ends[-1]), np.bool_)
        self.normed[ends[:-1]] = False
        if self.size > _MOST_FUNCTIONS:
            raise DataError(
                f"features: {self.size} basis functions (features times actions) are too many to solve for; pass fewer features, "
                "or use TabularQ and TabularRatio."
            )

    @property
    def size(self) -> int:
        return len(self.normed)

    @abstractmethod
    def prepare(self, observations: NDArray[Any]) -> Floats:
        """(K, d) what `of_action` needs of the observations, made once for all actions."""

    @abstractmethod
    def of_action(self, prepared: Floats, action: int) -> Floats:
        """(K, width of the action) its basis functions."""

    @abstractmethod
    def support(self, gram: Floats) -> Support:
        """Where (s, a) lies within what rows with this (D, D) sum of phi phi' tell about."""

    def logged(self, observations: NDArray[Any], actions: Ints) -> Floats:
        """(K, D) phi(s, a)."""
        out = np.zeros((len(actions), self.size))
        prepared = self.prepare(observations)
        for action in map(int, np.unique(actions)):
            rows = np.flatnonzero(actions == action)
            out[rows, self.columns[action]] = self.of_action(prepared[rows], action)
        return out

    def mean(self, observations: NDArray[Any], probabilities: Floats) -> Floats:
        """(K, D) sum_a p(a|s) phi(s, a), the p (K, A) any numbers."""
        out = np.zeros((len(observations), self.size))
        prepared = self.prepare(observations)
        for action, columns in enumerate(self.columns):
            rows = np.flatnonzero(probabilities[:, action])
            out[rows, columns] = probabilities[rows, action, None] * self.of_action(prepared[rows], action)
        return out

    def values(self, observations: NDArray[Any], coefficients: Floats) -> Floats:
        """(K, A) f(s, a) of every action, its coefficients (K, D) or (D,)."""
        prepared = self.prepare(observations)
        out = np.empty((len(observations), len(self.columns)))
        for action, columns in enumerate(self.columns):
            out[:, action] = np.sum(self.of_action(prepared, action) * coefficients[..., columns], axis=1)
        return out


class Support:
    """Whether (s, a) lies in the span of the rows that a fit has seen.

    Args:
        basis: of the functions.
        unseen: for each action, (width, k) orthonormal directions that no row has.
    """

    def __init__(self, basis: Basis, unseen: list[Floats]) -> None:
        self._basis, self._unseen = basis, unseen

    def at(self, observations: NDArray[Any]) -> Bools:
        """(K, A)."""
        out = np.ones((len(observations), len(self._unseen)), np.bool_)
        prepared = self._basis.prepare(observations)
        for action, directions in enumerate(self._unseen):
            if directions.shape[1]:
                points = self._basis.of_action(prepared, action)
                out[:, action] = np.linalg.norm(points @ directions, axis=1) <= _OUTSIDE * np.linalg.norm(points, axis=1)
        return out


@dataclass(frozen=True)
class LinearClass:
    """f(s, a) = beta_a' (1, x(s)), x standardised: the features, each times an indicator of the action, and an intercept.

    One-hot states (the default of tabular data without state features) make it the class of all functions of (s, a). Its norm
    is that of the coefficients of the standardised features.

    Args:
        features: maps observations (K, ...) to x (K, d); None is the data's own features.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 1, 0, 1], [1, 0, 0, 1], [0.0, 2.0, 1.0, 4.0], [0, 2, 3, 4])
        >>> goal = crl.PolicyValue(crl.TabularPolicy([[0.0, 1.0], [1.0, 0.0]]), discount=0.5)
        >>> round(crl.DirectMethod(crl.MinimaxQ(LinearClass())).estimate(data, goal).value, 6)
        1.333333
    """

    features: Features | None = None
    default_folds: int = field(default=1, init=False, repr=False)

    def __post_init__(self) -> None:
        optional_function("features", self.features)

    def default_ridge(self, rows: float) -> float:
        return 0.0

    def basis(self, steps: Steps, weights: Floats, seed: int) -> Basis:
        standardized = Standardized(self.features, steps)
        return _LinearBasis(standardized, steps.data.n_actions)


class _LinearBasis(Basis):
    def __init__(self, standardized: Standardized, n_actions: int) -> None:
        super().__init__([1 + standardized.width] * n_actions)
        self._standardized = standardized

    def prepare(self, observations: NDArray[Any]) -> Floats:
        return np.column_stack([np.ones(len(observations)), self._standardized.at(observations)])

    def of_action(self, prepared: Floats, action: int) -> Floats:
        return prepared

    def support(self, gram: Floats) -> Support:
        unseen = []
        for columns in self.columns:
            values, vectors = np.linalg.eigh(gram[columns, columns])
            unseen.append(vectors[:, values <= _OUTSIDE**2 * values[-1]])
        return Support(self, unseen)
