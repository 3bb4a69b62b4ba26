"""Balanced quantiles of the outcome in each arm, and the tail outcomes that the sharp bounds average.

With t = gamma / (1 + gamma) and q the conditional quantile of the outcome at level t (upper bound) or 1 - t (lower bound), the
largest and the smallest mean of an outcome whose law the confounder may tilt by factors in [1 / gamma, gamma] are those of

    h = q + gamma (Y - q)_+ - (q - Y)_+ / gamma     and     h = q + (Y - q)_+ / gamma - gamma (q - Y)_+

(Dorn & Guo 2023, JASA 118:2645; Dorn, Guo & Kallus 2024, JASA). With another q the mean of h lies
further out, so that the bound stays valid. q is a quantile regression, within each arm, on 1 and the covariates, or on 1 and what
another learner says, with the weights (1 - e) / e that the bound itself puts on a unit: the worst weights then balance these
columns (quantile balancing), and to first order the bound does not depend on its coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from causalrl.checks import Bools, Floats
from causalrl.diagnostics.record import Note
from causalrl.errors import ConvergenceWarning, DataError, SensitivityError
from causalrl.kernels.interior_point import quantile_regression
from causalrl.kernels.logit import newton_logit
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.least_squares import LeastSquares
from causalrl.nuisances.regression import fit_noting, is_linear, seeded_clone

_LOGIT_STEPS, _LOGIT_TOLERANCE = 50, 1e-8
_UNSOLVED = 1e-6


@dataclass(frozen=True, eq=False)
class TailOutcomes:
    """Makes the tail outcomes of one data set at any gamma.

    Attributes:
        nuisances: of single decisions. costs: (n,) weight of each unit's tail in the bound, (1 - e) / e times its share in the
            target. regressor: a quantile regressor, or None. folds: of the regressor; None is its default.
        notes: warnings, added to as quantiles are learned.
    """

    nuisances: Nuisances
    costs: Floats
    regressor: Any
    folds: int | None
    notes: list[Note]

    def at(self, gamma: float) -> tuple[Floats, Floats]:
        """(n,) of the lower and of the upper bound; the outcomes themselves at gamma = 1, or where they are all the same."""
        outcomes, level = self.nuisances.data.rewards, gamma / (1 + gamma)
        if gamma == 1 or len(self._values) == 1:
            return outcomes, outcomes
        low, high = self._quantiles(1 - level), self._quantiles(level)
        above, below = outcomes - low, outcomes - high
        lower = low + np.maximum(above, 0.0) / gamma + np.minimum(above, 0.0) * gamma
        upper = high + np.maximum(below, 0.0) * gamma + np.minimum(below, 0.0) / gamma
        return lower, upper

    def _quantiles(self, level: float) -> Floats:
        """(n,) of each unit's outcome in its own arm."""
        data = self.nuisances.data
        out = data.rewards.copy()
        for arm in np.unique(data.actions):
            mine = data.actions == arm
            used = self.costs[mine] > 0
            if used.any():
                out[mine] = self._balanced(self._columns(mine, int(arm), level), mine, used, level)
        return out

    def _columns(self, mine: Bools, arm: int, level: float) -> Floats:
        """(m, p) what the worst weights balance, beside 1, at the units of an arm."""
        if self.regressor is not None:
            return self._predicted(arm, level)[mine, None]
        if len(self._values) == 2:
            low, high = self._values
            return np.asarray(np.where(self._log_odds(arm)[mine] > np.log((1 - level) / level), high, low))[:, None]
        return self._features[mine]

    def _balanced(self, columns: Floats, mine: Bools, used: Bools, level: float) -> Floats:
        data = self.nuisances.data
        design, outcomes, costs = np.column_stack([np.ones(len(columns)), columns]), data.rewards[mine], self.costs[mine]
        line = LeastSquares(design[used], outcomes[used], costs[used])
        if line.rank >= used.sum():
            raise DataError(
                f"quantile: {line.rank} coefficients for the {int(used.sum())} units of arm {data.actions[mine][0]}. Use fewer "
                "covariates, or quantile=QuantileRegressor(alpha=0.1), which shrinks them."
            )
        coefficients, gap = quantile_regression(line.basis(design[used]), outcomes[used], costs[used], level)
        if not gap <= _UNSOLVED:
            text = f"the quantile regression at level {level:.3g} stopped before it converged: the bounds are valid, not sharp."
            self.notes.append(Note(ConvergenceWarning, text))
        return np.asarray(line.basis(design) @ coefficients)

    @cached_property
    def _features(self) -> Floats:
        return self.nuisances.data.features(self.nuisances.data.observations)

    @cached_property
    def _values(self) -> Floats:
        """The outcomes that occur."""
        return np.unique(self.nuisances.data.rewards)

    @cached_property
    def _logits(self) -> dict[int, Floats]:
        return {}

    def _log_odds(self, arm: int) -> Floats:
        """(n,) of the higher of two outcomes in an arm; infinite where the arm shows one of them only."""
        if arm not in self._logits:
            data = self.nuisances.data
            mine = data.actions == arm
            classes = (data.rewards == self._values[1]).astype(np.int64)
            self._logits[arm] = self._fit_log_odds(classes, mine)
        return self._logits[arm]

    def _fit_log_odds(self, classes: np.ndarray[Any, np.dtype[np.int64]], mine: Bools) -> Floats:
        own, ones = classes[mine], np.ones(int(mine.sum()))
        if own.min() == own.max():
            return np.full(len(classes), np.inf if own[0] else -np.inf)
        design = np.column_stack([np.ones(len(classes)), self._features])
        line = LeastSquares(design[mine], own.astype(np.float64), ones)
        basis = np.ascontiguousarray(line.basis(design))
        rows = np.ascontiguousarray(basis[mine])
        coefficients, _, _ = newton_logit(rows, np.ascontiguousarray(own), ones, 2, _LOGIT_STEPS, _LOGIT_TOLERANCE)
        return np.asarray(basis @ coefficients[0])

    def _predicted(self, arm: int, level: float) -> Floats:
        """(n,) quantiles that the regressor says, each from a fit that did not see the unit (where it is cross-fitted)."""
        data, out = self.nuisances.data, np.full(self.nuisances.data.n, np.nan)
        default = 1 if is_linear(self.regressor) else min(5, int(data.clusters.max()) + 1)
        for fold in self.nuisances.folds(default if self.folds is None else self.folds, None):
            learner = seeded_clone(self.regressor, derive_seed(self.nuisances.seed, "quantile", fold.index, arm))
            learner.set_params(**{level_parameter(self.regressor): level})
            train = (data.actions == arm) & (fold.train > 0)
            if not train.any():
                raise DataError(f"quantile: arm {arm} has no unit outside fold {fold.index}; use folds=1 or fewer folds.")
            fit, notes = fit_noting(learner, self._features[train], data.rewards[train])
            out[fold.test] = np.asarray(fit.predict(self._features[fold.test]), np.float64).reshape(-1)
            self.notes.extend(notes)
        return out


def level_parameter(regressor: Any) -> str:
    """The parameter that sets the level of a quantile regressor: `quantile`, or `alpha` of one with loss="quantile".

    Raises:
        SensitivityError: for what is no scikit-learn quantile regressor.

    Example:
        >>> from sklearn.linear_model import QuantileRegressor
        >>> level_parameter(QuantileRegressor())
        'quantile'
    """
    mend = "pass an unfitted one, such as QuantileRegressor(alpha=0) or GradientBoostingRegressor(loss='quantile')"
    if isinstance(regressor, type) or not all(hasattr(regressor, name) for name in ("fit", "predict", "get_params")):
        raise SensitivityError(f"quantile: {regressor!r} is no scikit-learn regressor; {mend}.")
    given = regressor.get_params()
    named = [name for name in given if name.split("__")[-1] == "quantile"]
    losses = [name.removesuffix("loss") for name in given if name.split("__")[-1] == "loss" and given[name] == "quantile"]
    named = named or [prefix + "alpha" for prefix in losses if prefix + "alpha" in given]
    if len(named) != 1:
        raise SensitivityError(f"quantile: {regressor!r} learns no conditional quantile; {mend}.")
    return str(named[0])
