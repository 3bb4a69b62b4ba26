"""Base learners of the studies of heterogeneous effects: kernel ridge and boosted trees tuned by cross-validation, a P-spline by
generalised cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.linalg import eigh, solve
from scipy.spatial.distance import cdist
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import GradientBoostingRegressor

Floats = NDArray[np.float64]

BANDWIDTHS = tuple(10.0 ** np.arange(0, 3.1, 0.5))
"""From 1: of two standardised columns or more the kernel below is the identity but for ties, and the fit the mean, which a large
bandwidth and penalty give as well."""
PENALTIES = tuple(10.0 ** np.arange(-3, 3.1, 0.5))
_MOST_TREES = 100


class GaussianRidge(RegressorMixin, BaseEstimator):
    """Kernel ridge exp(-|x - x'|^2 / bandwidth) on standardised columns and a centred outcome, both parameters by K-fold CV.

    A bandwidth costs one eigendecomposition of the kernel: the residuals of a fold F that is left out are (G_FF)^-1 (G y)_F, with
    G = (K + penalty I)^-1 of all rows. With weights w, rows of K and y are multiplied by sqrt(w).
    """

    def __init__(
        self,
        bandwidths: Sequence[float] = BANDWIDTHS,
        penalties: Sequence[float] = PENALTIES,
        folds: int = 5,
        random_state: int | None = None,
    ) -> None:
        self.bandwidths, self.penalties, self.folds, self.random_state = bandwidths, penalties, folds, random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> GaussianRidge:
        X, y = np.asarray(X, float), np.asarray(y, float)
        weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight) / np.mean(sample_weight)
        root = np.sqrt(weights)
        self._mean, self._sd = X.mean(axis=0), np.where(X.std(axis=0) > 0, X.std(axis=0), 1.0)
        self._rows, self._level = (X - self._mean) / self._sd, float(np.average(y, weights=weights))
        squares, scaled = cdist(self._rows, self._rows, "sqeuclidean"), root * (y - self._level)
        self.bandwidth_, self.penalty_ = self._choose(squares, root, scaled)
        kernel = np.exp(-squares / self.bandwidth_) * np.outer(root, root)
        kernel[np.diag_indices_from(kernel)] += self.penalty_
        self._coefficients = root * solve(kernel, scaled, assume_a="pos")
        return self

    def _choose(self, squares: Floats, root: Floats, scaled: Floats) -> tuple[float, float]:
        if len(self.bandwidths) * len(self.penalties) == 1:
            return float(self.bandwidths[0]), float(self.penalties[0])
        fold = np.random.default_rng(self.random_state).permutation(len(scaled)) % self.folds
        parts = [np.flatnonzero(fold == k) for k in range(self.folds)]
        losses = {}
        for bandwidth in self.bandwidths:
            values, vectors = eigh(np.exp(-squares / bandwidth) * np.outer(root, root), driver="evd")
            rotated, own = vectors.T @ scaled, [vectors[part] for part in parts]
            for penalty in self.penalties:
                shrunk = 1 / (np.maximum(values, 0) + penalty)
                residuals = [solve((u * shrunk) @ u.T, u @ (shrunk * rotated), assume_a="pos") for u in own]
                losses[bandwidth, penalty] = sum(float(r @ r) for r in residuals)
        return min(losses, key=lambda pair: losses[pair])

    def frozen(self) -> GaussianRidge:
        """Unfitted, with the parameters that were chosen."""
        return GaussianRidge((self.bandwidth_,), (self.penalty_,))

    def predict(self, X: Any) -> Floats:
        rows = (np.asarray(X, float) - self._mean) / self._sd
        return self._level + np.exp(-cdist(rows, self._rows, "sqeuclidean") / self.bandwidth_) @ self._coefficients


class Boost(NamedTuple):
    """One setting of boosted trees: depth, fewest rows of a leaf, and learning rate."""

    depth: int
    leaf: int
    rate: float


BOOSTS = (Boost(2, 5, 0.05), Boost(4, 20, 0.05), Boost(4, 60, 0.1), Boost(4, 120, 0.2))


class BoostedTrees(RegressorMixin, BaseEstimator):
    """Stochastic gradient boosting from 1/2 on, setting and number of trees by 5-fold cross-validation.

    Nie & Wager's boosting (xgboost of 2018) starts at 1/2 whatever the outcome, so that an effect which the data hardly show is
    shrunk to 1/2: near the truth in their setup A, far from it in C. A leaf with most of the rows moves the level alone.
    """

    def __init__(self, settings: Sequence[Boost] = BOOSTS, trees: int | None = None, random_state: int | None = None) -> None:
        self.settings, self.trees, self.random_state = settings, trees, random_state

    def _model(self, setting: Boost, trees: int) -> GradientBoostingRegressor:
        return GradientBoostingRegressor(
            init=DummyRegressor(strategy="constant", constant=0.5),
            **{"learning_rate": setting.rate, "max_depth": setting.depth, "min_samples_leaf": setting.leaf},
            **{"n_estimators": trees, "subsample": 0.75, "max_features": 0.8, "random_state": self.random_state},
        )

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> BoostedTrees:
        X, y = np.asarray(X, float), np.asarray(y, float)
        weights = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight, float)
        self.chosen_ = (self.settings[0], self.trees) if self.trees is not None else self._choose(X, y, weights)
        self._fit = self._model(*self.chosen_).fit(X, y, weights)
        return self

    def _choose(self, X: Floats, y: Floats, weights: Floats) -> tuple[Boost, int]:
        fold = np.random.default_rng(self.random_state).permutation(len(y)) % 5
        losses = {}
        for setting in self.settings:
            curve = np.zeros(_MOST_TREES)
            for k in range(5):
                test, train = fold == k, fold != k
                model = self._model(setting, _MOST_TREES).fit(X[train], y[train], weights[train])
                curve += [weights[test] @ (y[test] - values) ** 2 for values in model.staged_predict(X[test])]
            losses |= {(setting, trees + 1): loss for trees, loss in enumerate(curve)}
        return min(losses, key=lambda pair: losses[pair])

    def frozen(self) -> BoostedTrees:
        """Unfitted, with the parameters that were chosen."""
        setting, trees = self.chosen_
        return BoostedTrees((setting,), trees)

    def predict(self, X: Any) -> Floats:
        return np.asarray(self._fit.predict(np.asarray(X, float)))


class PSpline(RegressorMixin, BaseEstimator):
    """Cubic P-spline of one column on [low, high], its second-difference penalty by generalised cross-validation up to 10^5.

    A straight line has no penalty, so that the largest penalty bounds how near to it a fit comes.
    """

    def __init__(self, knots: int = 50, low: float = -1.0, high: float = 1.0) -> None:
        self.knots, self.low, self.high = knots, low, high

    def _basis(self, X: Any) -> Floats:
        inner = np.linspace(self.low, self.high, self.knots)
        step = inner[1] - inner[0]
        knots = np.concatenate([inner[0] - step * np.arange(3, 0, -1), inner, inner[-1] + step * np.arange(1, 4)])
        x = np.clip(np.asarray(X, float)[:, 0], self.low, self.high)
        return np.asarray(BSpline.design_matrix(x, knots, 3).toarray())

    def fit(self, X: Any, y: Any) -> PSpline:
        basis, y = self._basis(X), np.asarray(y, float)
        gram, bend = basis.T @ basis, np.diff(np.eye(basis.shape[1]), 2, axis=0)
        size = np.trace(gram) / len(gram)
        roughness, vectors = eigh(bend.T @ bend, gram + 1e-7 * size * np.eye(len(gram)))
        rotated = vectors.T @ (basis.T @ y)
        columns = basis @ vectors
        scores = {}
        for penalty in 10.0 ** np.arange(-4, 5.1, 0.25):
            shrink = 1 / (1 + penalty * np.maximum(roughness, 0))
            residual = y - columns @ (shrink * rotated)
            scores[penalty] = float(residual @ residual) / (1 - shrink.sum() / len(y)) ** 2
        best = min(scores, key=lambda penalty: scores[penalty])
        self._coefficients = vectors @ (rotated / (1 + best * np.maximum(roughness, 0)))
        return self

    def predict(self, X: Any) -> Floats:
        return self._basis(X) @ self._coefficients
