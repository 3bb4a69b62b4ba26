"""Fitted Q-evaluation with any scikit-learn regressor, one an action (T-learner) or one for all (S-learner)."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints, whole_number
from causalrl.diagnostics.record import Note
from causalrl.errors import ConvergenceWarning, DataError, EstimandError
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.features import blocks
from causalrl.nuisances.iteration import Iteration, Layer, Regression
from causalrl.nuisances.value import QFunction, ValueProblem


def seeded_clone(learner: Any, seed: int) -> Any:
    """An unfitted copy of a scikit-learn learner, every random_state left open set from the seed.

    Least squares gets standardised columns: its predictions do not depend on their units, but scikit-learn's solver drops a
    direction 1e6 times smaller than the largest column.
    """
    from sklearn.base import clone
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    copy = clone(learner)
    if type(copy) is LinearRegression:
        return make_pipeline(StandardScaler(with_mean=copy.fit_intercept), copy)
    open_states = [name for name, value in copy.get_params().items() if name.split("__")[-1] == "random_state" and value is None]
    return copy.set_params(**{name: derive_seed(seed, name) % 2**32 for name in open_states}) if open_states else copy


def require_regressor(learner: Any) -> None:
    from sklearn.base import is_classifier

    if isinstance(learner, type) or not hasattr(learner, "fit") or not hasattr(learner, "predict"):
        raise EstimandError(f"q: {learner!r} is no regressor; pass an unfitted scikit-learn object, such as Ridge().")
    if is_classifier(learner):
        raise EstimandError(
            f"q: {learner} is a classifier, whose predictions are labels, not means. Pass a regressor; for a binary outcome "
            "it predicts probabilities."
        )


def fit_noting(learner: Any, features: Floats, targets: NDArray[Any]) -> tuple[Any, tuple[Note, ...]]:
    """Fit a scikit-learn learner; its convergence warnings become notes."""
    from sklearn.exceptions import ConvergenceWarning as Unconverged

    name = type(learner.steps[-1][1] if hasattr(learner, "steps") else learner).__name__
    if not features.shape[1]:
        raise DataError(f"observations: there are no columns for {name} to learn from; add a constant one.")
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always", Unconverged)
        try:
            learner.fit(features, targets)
        except ValueError as error:
            raise EstimandError(f"{name}: cannot be fitted to these data: {error}") from error
    for item in caught:
        if not issubclass(item.category, Unconverged):
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
    unconverged = any(issubclass(item.category, Unconverged) for item in caught)
    note = Note(ConvergenceWarning, f"{name} stopped before it converged.")
    return learner, (note,) if unconverged else ()


def is_linear(learner: Any) -> bool:
    """Whether a learner is one of scikit-learn's linear models, alone or behind plain preprocessing."""
    steps = [step for _, step in learner.steps] if hasattr(learner, "steps") else [learner]
    plain = ("sklearn.preprocessing", "sklearn.compose", "sklearn.impute")
    return type(steps[-1]).__module__.startswith("sklearn.linear_model") and all(
        type(step).__module__.startswith(plain) for step in steps[:-1]
    )


@dataclass(frozen=True)
class RegressionQ(ABC):
    """Base of the value models that regress on features.

    Args:
        regressor: an unfitted scikit-learn regressor.
        max_iterations: of the fixed-point iteration when the horizon is None.
    """

    regressor: Any
    max_iterations: int = 200
    known: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        require_regressor(self.regressor)
        whole_number("max_iterations", self.max_iterations, 1, EstimandError)

    @property
    def default_folds(self) -> int:
        return 1 if is_linear(self.regressor) else 5

    def fit(self, problem: ValueProblem) -> QFunction:
        return Iteration(problem, self._regression).fit(self.max_iterations)

    @abstractmethod
    def _regression(self, features: Floats, actions: Ints, n_actions: int) -> Regression:
        """The regression on these decisions: features (K, d), actions (K,)."""


@dataclass(frozen=True)
class PerAction(RegressionQ):
    """One regression of the outcome (or Bellman target) on the features for each action.

    Args:
        regressor: an unfitted scikit-learn regressor.
        max_iterations: of the fixed-point iteration when the horizon is None.

    Example:
        >>> import causalrl as crl
        >>> from sklearn.linear_model import LinearRegression
        >>> study = crl.Trajectories.from_cross_section([[0.0], [1.0], [0.0], [1.0]], [0, 0, 1, 1], [0.0, 1.0, 2.0, 3.0])
        >>> round(crl.GFormula(PerAction(LinearRegression())).estimate(study, crl.ATE()).value, 6)
        2.0
    """

    def _regression(self, features: Floats, actions: Ints, n_actions: int) -> Regression:
        decisions = {a: (actions == a, features[actions == a]) for a in map(int, np.unique(actions))}

        def regress(targets: Floats, seed: int) -> Layer:
            fits = {
                a: fit_noting(seeded_clone(self.regressor, derive_seed(seed, a)), own, targets[mine])
                for a, (mine, own) in decisions.items()
            }
            notes = tuple(note for _, noted in fits.values() for note in noted)
            return _PerActionFit({a: model for a, (model, _) in fits.items()}, notes)

        return regress


@dataclass(frozen=True, eq=False)
class _PerActionFit:
    models: dict[int, Any]
    notes: tuple[Note, ...]

    def __call__(self, features: Floats, wanted: Bools) -> Floats:
        out = np.full(wanted.shape, np.nan)
        for action, model in self.models.items():
            rows = wanted[:, action]
            if rows.any():
                out[rows, action] = model.predict(features[rows])
        return out


@dataclass(frozen=True)
class Pooled(RegressionQ):
    """One regression on the features followed by one indicator column for each action but action 0.

    Args:
        regressor: an unfitted scikit-learn regressor.
        max_iterations: of the fixed-point iteration when the horizon is None.

    Example:
        >>> import causalrl as crl
        >>> from sklearn.linear_model import LinearRegression
        >>> study = crl.Trajectories.from_cross_section([[0.0], [1.0], [0.0], [1.0]], [0, 0, 1, 1], [0.0, 1.0, 2.0, 3.0])
        >>> round(crl.GFormula(Pooled(LinearRegression())).estimate(study, crl.ATE()).value, 6)
        2.0
    """

    def _regression(self, features: Floats, actions: Ints, n_actions: int) -> Regression:
        design = _with_action(features, actions, n_actions)

        def regress(targets: Floats, seed: int) -> Layer:
            return _PooledFit(*fit_noting(seeded_clone(self.regressor, seed), design, targets))

        return regress


@dataclass(frozen=True, eq=False)
class _PooledFit:
    model: Any
    notes: tuple[Note, ...]

    def __call__(self, features: Floats, wanted: Bools) -> Floats:
        out = np.full(wanted.shape, np.nan)
        points, actions = np.nonzero(wanted)
        for some in blocks(np.arange(len(points))):
            design = _with_action(features[points[some]], actions[some], wanted.shape[1])
            out[points[some], actions[some]] = self.model.predict(design)
        return out


def _with_action(features: Floats, actions: Ints, n_actions: int) -> Floats:
    return np.column_stack([features, np.eye(n_actions)[actions][:, 1:]])
