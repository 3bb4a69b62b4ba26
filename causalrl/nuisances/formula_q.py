"""Outcome regressions by least squares on a formula, plain or weighted by the inverse propensity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints, flag
from causalrl.data import Steps
from causalrl.diagnostics.record import Note
from causalrl.errors import EstimandError, SupportError
from causalrl.nuisances.behavior import BehaviorFit, BehaviorLike, as_behavior
from causalrl.nuisances.formulas import Formula, covariate_columns, with_columns
from causalrl.nuisances.least_squares import LeastSquares
from causalrl.nuisances.value import QFunction, ValueProblem


@dataclass(frozen=True)
class FormulaQ:
    """Least squares of the outcome on a formula in the covariates and the treatment, for one decision.

    With a propensity model the fitted P(action = 1 | X) is a column too (chapter 15 of Hernan & Robins, *What If*). Weighted,
    each decision counts 1 / P(its action | X): the WLS regression of Kang & Schafer (2007, section 2.5), whose standardisation is
    doubly robust where the model has an intercept for each action.

    Args:
        formula: right-hand side in the covariates' names (`state` of tabular data), `action` (a number; `C(action)` for more than
            two), and `propensity` where one is given and there are two actions; for example
            "action * smokeintensity + age + I(age**2)". None is every feature, linearly, with coefficients for each action.
        propensity: behaviour model for the column and the weights; None is no column, and with `weighted` the logged
            probabilities where the data have them, else Counts() on states, Logit() on vectors.
        weighted: weight each decision by its inverse propensity.

    Raises:
        DataError: from `estimate`, for a formula that cannot be read; the text names the columns. EstimandError: for sequential
            data.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> x = np.array([[0.0], [1.0], [2.0], [0.0], [1.0], [2.0]])
        >>> arm = np.array([0, 0, 0, 1, 1, 1])
        >>> study = crl.Trajectories.from_cross_section(x, arm, x[:, 0] ** 2 + 3.0 * arm, feature_names=["age"])
        >>> round(crl.GFormula(crl.FormulaQ("action + age + I(age**2)")).estimate(study, crl.ATE()).value, 6)
        3.0
    """

    formula: str | None = None
    propensity: BehaviorLike | None = field(default=None, kw_only=True)
    weighted: bool = field(default=False, kw_only=True)
    known: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        flag("weighted", self.weighted, EstimandError)
        if self.formula is not None and not isinstance(self.formula, str):
            raise EstimandError(f"formula: {self.formula!r} is no text; write the right-hand side, such as 'action + age'.")
        if self.formula is None and self.propensity is not None and not self.weighted:
            raise EstimandError("propensity: nothing uses it; name the column `propensity` in a formula, or pass weighted=True.")

    @property
    def default_folds(self) -> int:
        return 5 if hasattr(self.propensity, "predict_proba") else int(getattr(self.propensity, "default_folds", 1))

    def fit(self, problem: ValueProblem) -> QFunction:
        if problem.sequential:
            raise EstimandError(
                f"q: {type(self).__name__} is for one decision, and these data are sequential. Use LinearQ(features), or "
                "PerAction(regressor)."
            )
        steps, weights = problem.steps, problem.weights
        behavior: BehaviorFit | None = None
        if self.weighted or self.propensity is not None:
            behavior = as_behavior(self.propensity, steps.data).fit(steps, weights, problem.seed)
        if self.weighted:
            assert behavior is not None
            weights = weights / _logged(behavior, steps, weights > 0)
        basis = _Basis(self.formula, behavior if self.propensity is not None else None, steps)
        design = basis.matrix(steps.observations, steps.actions, steps.time)
        return _FormulaQFunction(basis, LeastSquares(design, steps.rewards, weights), () if behavior is None else behavior.notes)


def _logged(behavior: BehaviorFit, steps: Steps, used: NDArray[np.bool_]) -> Floats:
    """(M,) probabilities of the logged actions; 1 where a step is not used."""
    logged = np.ones(len(steps))
    logged[used] = behavior.logged(steps, used)
    if (logged <= 0).any():
        row = int(np.flatnonzero(logged <= 0)[0])
        raise SupportError(f"propensity: the logged action {steps.actions[row]} of decision {row} has probability 0.")
    return logged


class _Basis:
    """Columns of the regression at any covariates and actions."""

    def __init__(self, formula: str | None, propensity: BehaviorFit | None, steps: Steps) -> None:
        self.data, self._propensity = steps.data, propensity
        self.occurring = np.unique(steps.actions)
        self._formula = None
        if formula is not None:
            self._formula = Formula(formula, self._columns(steps.observations, steps.actions, steps.time))

    def _columns(self, observations: NDArray[Any], actions: Ints, time: Ints) -> dict[str, NDArray[Any]]:
        added: dict[str, NDArray[Any]] = {"action": actions}
        if self._propensity is not None and self.data.n_actions == 2:
            added["propensity"] = self._propensity.probabilities(observations, time)[:, 1]
        return with_columns(covariate_columns(self.data, observations), **added)

    def matrix(self, observations: NDArray[Any], actions: Ints, time: Ints) -> Floats:
        """(M, d)."""
        if self._formula is not None:
            return self._formula.matrix(self._columns(observations, actions, time))
        features = self.data.features(observations)
        own = np.column_stack([np.ones(len(features)), features])[:, None, :] * np.eye(self.data.n_actions)[actions][:, :, None]
        return own.reshape(len(features), -1)


@dataclass(frozen=True, eq=False)
class _FormulaQFunction(QFunction):
    basis: _Basis
    line: LeastSquares
    notes: tuple[Note, ...] = ()

    def q(self, observations: NDArray[Any], time: Ints) -> Floats:
        out = np.full((len(observations), self.basis.data.n_actions), np.nan)
        for action in self.basis.occurring:
            chosen = np.full(len(observations), action)
            out[:, action] = self.line.at(self.basis.matrix(observations, chosen, time))
        return out
