"""Propensities by unpenalised maximum-likelihood logit, binary or multinomial."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints
from causalrl.data import Steps
from causalrl.diagnostics.record import Note
from causalrl.errors import ConvergenceWarning, DataError, SeparationError, SeparationWarning, SupportError
from causalrl.kernels.logit import information, largest_predictor, newton_logit, score_along, score_sum, softmax_rows
from causalrl.kernels.refit_propensities import refit_logit, sample_coefficients
from causalrl.nuisances.behavior import BehaviorFit, PropensityRefit
from causalrl.nuisances.formulas import Formula, covariate_columns, feature_labels

TOLERANCE = 1e-9
MAX_ITERATIONS = 100
DIVERGED = 20.0
"""A linear predictor beyond this (odds of 5e8) that still moves is on its way to infinity."""
_EXTREME = 1e-8


@dataclass(frozen=True)
class Logit:
    """Unpenalised maximum likelihood, multinomial for more than two actions, by Newton's method on standardised features.

    Args:
        formula: right-hand side in the observation columns' names, for example "age + I(age**2) + C(sex)"; None is every
            feature, linearly, with an intercept.

    Raises:
        SeparationError: where the maximum-likelihood estimate does not exist.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> x = np.tile([[0.0], [1.0], [2.0], [3.0]], (50, 1))
        >>> study = crl.Trajectories.from_cross_section(x, [0, 1, 0, 1] * 50, [0.0, 1.0, 0.0, 1.0] * 50)
        >>> round(crl.IPW(propensity=crl.Logit()).estimate(study, crl.ATE()).value, 6)
        1.0
    """

    formula: str | None = None
    default_folds: int = field(default=1, init=False, repr=False)
    known: bool = field(default=False, init=False, repr=False)

    def fit(self, steps: Steps, weights: Floats, seed: int) -> BehaviorFit:
        design, basis = _on(self.formula, steps)
        used = weights > 0
        classes = np.unique(steps.actions[used])
        if len(classes) < 2:
            raise DataError(f"actions: every decision that Logit() learns from is action {classes[0]}; a logit needs two.")
        coded, rows = np.searchsorted(classes, steps.actions[used]), np.ascontiguousarray(basis[used])
        coefficients, change, iterations = newton_logit(rows, coded, weights[used], len(classes), MAX_ITERATIONS, TOLERANCE)
        predictor = largest_predictor(rows, coefficients)
        if (predictor > DIVERGED and change > 1e-3) or np.isinf(change):
            raise SeparationError(
                f"behavior: the logit's likelihood has no maximum, since {design.culprit(coefficients)} separates the actions "
                f"perfectly (linear predictor {predictor:.0f} and growing). Drop or coarsen it, or pass a penalised classifier."
            )
        _require_rank(design, rows, len(basis))
        return LogitFit(design, coefficients, classes, steps, basis, _notes(change, iterations, design, coefficients, rows))

    @property
    def compiled(self) -> bool:
        """Plain features only: columns of a formula may depend on which rows are there (knots, levels)."""
        return self.formula is None

    def propensity_refit(self, steps: Steps) -> PropensityRefit:
        """Refits of the logged actions' probabilities, in a kernel; NaN where a resample separates the actions."""
        basis = np.ascontiguousarray(_on(self.formula, steps)[1])
        actions = steps.actions.copy()  # writable, so that a view of the data does not compile the kernel once more
        n_actions = steps.data.n_actions
        start = sample_coefficients(basis, actions, n_actions, MAX_ITERATIONS, TOLERANCE)
        return partial(refit_logit, basis, actions, n_actions, steps.offsets, MAX_ITERATIONS, TOLERANCE, DIVERGED, start)


def _on(formula: str | None, steps: Steps) -> tuple[Design, Floats]:
    """The design of all steps and its basis there, made once for all folds."""

    def make() -> tuple[Design, Floats]:
        design = Design(formula, steps)
        return design, design.basis(steps.observations)

    return steps.once(("logit", formula), make)


def _require_rank(design: Design, rows: Floats, n_steps: int) -> None:
    """Refuse rows in which a direction that the other rows show does not occur: what a logit says of those is arbitrary."""
    if len(rows) == n_steps:
        return
    values, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    if values[0] <= 1e-10 * values[-1]:
        raise SupportError(
            f"behavior: the {len(rows)} of {n_steps} decisions that a fold's logit learns from do not show the effect of "
            f"{design.culprit(vectors[:, :1].T)}, of which a level is too rare. Use folds=1 or fewer folds, or pool the level."
        )


def _notes(change: float, iterations: int, design: Design, coefficients: Floats, basis: Floats) -> tuple[Note, ...]:
    notes = []
    if change > TOLERANCE:
        text = f"the logit stopped after {iterations} Newton steps with its predictor still moving by {change:.1e}."
        notes.append(Note(ConvergenceWarning, text))
    extreme = (softmax_rows(basis, coefficients) < _EXTREME).any(axis=1)
    if extreme.any():
        count = int(extreme.sum())
        text = f"{count} decisions have a fitted propensity below {_EXTREME}: near-separation by {design.culprit(coefficients)}."
        notes.append(Note(SeparationWarning, text))
    return tuple(notes)


class Design:
    """The design matrix of a formula, in a standardised basis of full rank, on which the fitted probabilities do not depend.

    Without an intercept (a formula ending in `- 1`) columns are scaled but not centred.
    """

    def __init__(self, formula: str | None, steps: Steps) -> None:
        self._data = steps.data
        self._formula = None if formula is None else Formula(formula, covariate_columns(steps.data, steps.observations))
        raw, self.names = self.columns(steps.observations)
        self._intercept = self._formula is None or "Intercept" in self._formula.names
        self._center = raw.mean(axis=0) * self._intercept
        spread = np.sqrt(np.mean((raw - self._center) ** 2, axis=0))
        self._scale = np.where(spread > 0, spread, 1.0)
        standard = (raw - self._center) / self._scale
        values, vectors = np.linalg.eigh(standard.T @ standard / len(standard))
        self._rotation = vectors[:, values > 1e-10 * max(1.0, float(values.max(initial=0.0)))]

    def columns(self, observations: NDArray[Any]) -> tuple[Floats, list[str]]:
        """Raw columns without the intercept, and their names."""
        if self._formula is None:
            return self._data.features(observations), list(feature_labels(self._data))
        matrix = self._formula.matrix(covariate_columns(self._data, observations))
        keep = [j for j, name in enumerate(self._formula.names) if name != "Intercept"]
        return matrix[:, keep], [self._formula.names[j] for j in keep]

    def basis(self, observations: NDArray[Any]) -> Floats:
        """(M, r) intercept and independent standardised directions."""
        standard = (self.columns(observations)[0] - self._center) / self._scale
        ones = [np.ones(len(standard))] if self._intercept else []
        return np.column_stack([*ones, standard @ self._rotation])

    def culprit(self, coefficients: Floats) -> str:
        """Name of the column with the largest standardised coefficient."""
        loading = np.abs(self._rotation @ coefficients[:, int(self._intercept) :].T).max(axis=1)
        return self.names[int(loading.argmax())] if len(loading) else "the intercept"


class LogitFit(BehaviorFit):
    """Fitted class probabilities."""

    corrects = True

    def __init__(
        self, design: Design, coefficients: Floats, classes: Ints, steps: Steps, basis: Floats, notes: tuple[Note, ...]
    ) -> None:
        self._design, self.coefficients, self._classes = design, coefficients, classes
        self._steps, self._basis, self.notes = steps, basis, notes

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        rows = np.zeros((len(observations), self._steps.data.n_actions))
        rows[:, self._classes] = softmax_rows(self._design.basis(observations), self.coefficients)
        return rows

    def at(self, steps: Steps, rows: Bools) -> Floats:
        if steps is not self._steps:
            return super().at(steps, rows)
        out = np.zeros((int(rows.sum()), steps.data.n_actions))
        out[:, self._classes] = softmax_rows(self._basis[rows], self.coefficients)
        return out

    def correction(self, sensitivity: Floats, test: Bools, train: Floats) -> Floats:
        probabilities = softmax_rows(self._basis, self.coefficients)
        classes = np.minimum(np.searchsorted(self._classes, self._steps.actions), len(self._classes) - 1)
        gradient = score_sum(self._basis, classes, probabilities, np.where(test, sensitivity, 0.0))
        direction = np.linalg.solve(information(self._basis, train, probabilities), gradient)
        along = score_along(self._basis, classes, probabilities, np.reshape(direction, self.coefficients.shape))
        return np.where(train > 0, -along, 0.0)
