"""Fitted Q-evaluation with any scikit-learn regressor, one an action (T-learner) or one for all (S-learner)."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints, whole_number
from causalrl.data import Trajectories
from causalrl.diagnostics.record import Note
from causalrl.errors import ConvergenceWarning, DataError, EstimandError
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.features import blocks
from causalrl.nuisances.value import QFunction, ValueProblem, distinct, expected_value

_TOLERANCE = 1e-4
"""A stationary Q has converged when it is about this share of the largest target from its fixed point."""
DIVERGED = 1e50
"""Targets of so many times the largest reward have no limit; their squares are still numbers."""


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


class Layer(Protocol):
    """A fitted regression of Q."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """Warnings of the fit."""
        ...

    def __call__(self, features: Floats, wanted: Bools) -> Floats:
        """(K, A) at features (K, d); NaN where not wanted (K, A), or where there is nothing to tell it from."""
        ...


Regression = Callable[[Floats, int], Layer]
"""Regresses targets (K,) on the decisions that it was made for, with a seed."""


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


class Iteration:
    """Regressions of r + discount V(s'), backwards over the steps to go, or repeated until the targets settle.

    The decisions, and the points that follow them, are laid out once; V is predicted once for each state that follows, and only
    from the actions that the target takes there.
    """

    def __init__(self, problem: ValueProblem, regression: Callable[[Floats, Ints, int], Regression]) -> None:
        self._problem, self._regression = problem, regression

    def fit(self, max_iterations: int) -> QFunction:
        problem, steps = self._problem, self._problem.steps
        rows = np.repeat(np.arange(len(steps)), problem.weights.astype(np.int64))
        last = self._on(rows)(steps.rewards[rows], derive_seed(problem.seed, 0))
        if not problem.sequential:
            return _LayeredQ(steps.data, [last])
        if problem.horizon is None:
            problem.target.times(None)
        rows = rows[steps.known[rows]]
        regress, targets_of = self._on(rows), _Targets(problem, rows)
        if problem.horizon is None:
            return self._to_fixed_point(last, regress, targets_of, max_iterations)
        layers = [last]
        for t in range(problem.horizon - 2, -1, -1):
            layers.insert(0, regress(targets_of(layers[0], t + 1), derive_seed(problem.seed, problem.horizon - 1 - t)))
        return _LayeredQ(steps.data, layers)

    def _on(self, rows: Ints) -> Regression:
        steps = self._problem.steps
        return self._regression(steps.data.features(steps.observations[rows]), steps.actions[rows], steps.data.n_actions)

    def _to_fixed_point(self, current: Layer, regress: Regression, targets_of: _Targets, max_iterations: int) -> QFunction:
        data, previous, changes = self._problem.steps.data, targets_of.rewards, list[float]()
        for k in range(max_iterations):
            targets = targets_of(current, 1)
            largest = float(np.abs(targets).max())
            if not largest <= DIVERGED * float(np.abs(targets_of.rewards).max()):
                text = (
                    f"FQE diverges: after {k} regressions the targets are {largest:.0e}. Use a finite horizon, or a learner that "
                    "averages outcomes (TabularQ, trees, forests)."
                )
                return _LayeredQ(data, [current], (Note(ConvergenceWarning, text),), tuple(changes))
            current = regress(targets, derive_seed(self._problem.seed, 0))
            changes.append(float(np.abs(targets - previous).max()))
            previous = targets
            if changes[-1] <= _TOLERANCE * max(1 - self._problem.discount, 0.01) * (largest or 1.0):
                return _LayeredQ(data, [current], (), tuple(changes))
        share = changes[-1] / (float(np.abs(previous).max()) or 1.0)
        text = f"FQE stopped after {max_iterations} regressions with targets still moving by {share:.1e} of the largest."
        return _LayeredQ(data, [current], (Note(ConvergenceWarning, text),), tuple(changes))


class _Targets:
    """Maps the Q of the next step, and when it is met, to r + discount V(s') of the rows (K,)."""

    def __init__(self, problem: ValueProblem, rows: Ints) -> None:
        steps = problem.steps
        self.rewards, self._problem = steps.rewards[rows], problem
        self._there = problem.target.there[rows]
        self._points, self._place = distinct(steps.next_observations[rows[self._there]])
        self._features = steps.data.features(self._points)

    def __call__(self, following: Layer, t: int) -> Floats:
        targets = self.rewards.copy()
        if len(self._points):
            policy = self._problem.target.at(self._points, np.full(len(self._points), t))
            value = expected_value(following(self._features, policy > 0), policy)
            targets[self._there] += self._problem.discount * value[self._place]
        return targets


@dataclass(frozen=True, eq=False)
class _LayeredQ(QFunction):
    """One fitted regression for each time; the last serves all later times."""

    data: Trajectories
    layers: Sequence[Layer]
    trouble: tuple[Note, ...] = ()
    trace: tuple[float, ...] = ()

    @property
    def notes(self) -> tuple[Note, ...]:  # type: ignore[override]
        return self.trouble + tuple(note for layer in self.layers for note in layer.notes)

    def q(self, observations: NDArray[Any], time: Ints) -> Floats:
        index = np.minimum(time, len(self.layers) - 1)
        out = np.empty((len(observations), self.data.n_actions))
        for t in np.unique(index):
            rows = index == t
            points, place = distinct(observations[rows])
            everything = np.ones((len(points), self.data.n_actions), np.bool_)
            out[rows] = self.layers[t](self.data.features(points), everything)[place]
        return out
