"""Fitted Q-evaluation with any scikit-learn regressor, one an action (T-learner) or one for all (S-learner)."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints
from causalrl.data import Trajectories
from causalrl.diagnostics.record import Note
from causalrl.errors import ConvergenceWarning, EstimandError
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.value import QFunction, ValueProblem, expected_value

_TOLERANCE = 1e-4
"""A stationary Q has converged when it is about this share of the largest target from its fixed point."""


def seeded_clone(learner: Any, seed: int) -> Any:
    """An unfitted copy of a scikit-learn learner, every random_state left open set from the seed."""
    from sklearn.base import clone

    copy = clone(learner)
    open_states = [name for name, value in copy.get_params().items() if name.split("__")[-1] == "random_state" and value is None]
    return copy.set_params(**{name: derive_seed(seed, name) % 2**32 for name in open_states}) if open_states else copy


def _require_regressor(learner: Any) -> None:
    from sklearn.base import is_classifier

    if is_classifier(learner):
        raise EstimandError(
            f"q: {learner} is a classifier, whose predictions are labels, not means. Pass a regressor; for a binary outcome "
            "it predicts probabilities."
        )


def fit_noting(learner: Any, features: Floats, targets: NDArray[Any]) -> tuple[Any, tuple[Note, ...]]:
    """Fit a scikit-learn learner; its convergence warnings become notes."""
    from sklearn.exceptions import ConvergenceWarning as Unconverged

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Unconverged)
        learner.fit(features, targets)
    for item in caught:
        if not issubclass(item.category, Unconverged):
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
    unconverged = any(issubclass(item.category, Unconverged) for item in caught)
    note = Note(ConvergenceWarning, f"{type(learner).__name__} stopped before it converged.")
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

    @property
    def default_folds(self) -> int:
        return 1 if is_linear(self.regressor) else 5

    def fit(self, problem: ValueProblem) -> QFunction:
        _require_regressor(self.regressor)
        return _fit_by_iteration(problem, self.max_iterations, self._fit_once)

    @abstractmethod
    def _fit_once(self, data: Trajectories, observations: NDArray[Any], actions: Ints, targets: Floats, seed: int) -> Layer:
        """Regress the targets (K,) once."""


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

    def _fit_once(
        self, data: Trajectories, observations: NDArray[Any], actions: Ints, targets: Floats, seed: int
    ) -> _PerActionFit:
        features = data.features(observations)
        fits = {
            a: fit_noting(seeded_clone(self.regressor, derive_seed(seed, a)), features[actions == a], targets[actions == a])
            for a in map(int, np.unique(actions))
        }
        notes = tuple(note for _, noted in fits.values() for note in noted)
        return _PerActionFit(data, {a: model for a, (model, _) in fits.items()}, notes)


@dataclass(frozen=True, eq=False)
class _PerActionFit:
    data: Trajectories
    models: dict[int, Any]
    notes: tuple[Note, ...]

    def __call__(self, observations: NDArray[Any]) -> Floats:
        features = self.data.features(observations)
        out = np.full((len(observations), self.data.n_actions), np.nan)
        for action, model in self.models.items():
            out[:, action] = model.predict(features)
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

    def _fit_once(self, data: Trajectories, observations: NDArray[Any], actions: Ints, targets: Floats, seed: int) -> _PooledFit:
        model, notes = fit_noting(seeded_clone(self.regressor, seed), _with_action(data, observations, actions), targets)
        return _PooledFit(data, model, notes)


@dataclass(frozen=True, eq=False)
class _PooledFit:
    data: Trajectories
    model: Any
    notes: tuple[Note, ...]

    def __call__(self, observations: NDArray[Any]) -> Floats:
        columns = [
            self.model.predict(_with_action(self.data, observations, np.full(len(observations), a)))
            for a in range(self.data.n_actions)
        ]
        return np.column_stack(columns)


def _with_action(data: Trajectories, observations: NDArray[Any], actions: Ints) -> Floats:
    return np.column_stack([data.features(observations), np.eye(data.n_actions)[actions][:, 1:]])


class Layer(Protocol):
    """A fitted regression of Q."""

    @property
    def notes(self) -> tuple[Note, ...]:
        """Warnings of the fit."""
        ...

    def __call__(self, observations: NDArray[Any]) -> Floats:
        """(K, A)."""
        ...


FitOnce = Callable[[Trajectories, NDArray[Any], Ints, Floats, int], Layer]


def _fit_by_iteration(problem: ValueProblem, max_iterations: int, fit_once: FitOnce) -> QFunction:
    """Regress r + discount V(s') backwards over the steps to go, or repeatedly until the targets settle."""
    steps = problem.steps
    rows = np.repeat(np.arange(len(steps)), problem.weights.astype(np.int64))
    last = fit_once(steps.data, steps.observations[rows], steps.actions[rows], steps.rewards[rows], derive_seed(problem.seed, 0))
    if not problem.sequential:
        return _LayeredQ([last])
    rows = rows[steps.known[rows]]
    there = problem.target.there

    def layer(following: Layer, t: int, stage: int) -> tuple[Layer, Floats]:
        targets = steps.rewards.copy()
        policy = problem.target.at(steps.next_observations[there], np.full(int(there.sum()), t + 1))
        targets[there] += problem.discount * expected_value(following(steps.next_observations[there]), policy)
        fitted = fit_once(
            steps.data, steps.observations[rows], steps.actions[rows], targets[rows], derive_seed(problem.seed, stage)
        )
        return fitted, targets[rows]

    if problem.horizon is not None:
        layers = [last]
        for t in range(problem.horizon - 2, -1, -1):
            layers.insert(0, layer(layers[0], t, problem.horizon - 1 - t)[0])
        return _LayeredQ(layers)
    if not problem.target.policy.stationary:
        raise EstimandError(
            f"policy {problem.target.policy}: depends on time, so that its value needs a horizon; pass horizon=H."
        )
    current, previous = last, steps.rewards[rows]
    change = np.inf
    for _ in range(max_iterations):
        current, targets = layer(current, 0, 0)
        change = float(np.abs(targets - previous).max() / (np.abs(targets).max() or 1.0))
        previous = targets
        if change <= _TOLERANCE * max(1 - problem.discount, 0.01):
            return _LayeredQ([current])
    text = f"FQE stopped after {max_iterations} regressions with targets still moving by {change:.1e} of the largest."
    return _LayeredQ([current], (Note(ConvergenceWarning, text),))


@dataclass(frozen=True, eq=False)
class _LayeredQ(QFunction):
    """One fitted regression for each time; the last serves all later times."""

    layers: Sequence[Layer]
    trouble: tuple[Note, ...] = ()

    @property
    def notes(self) -> tuple[Note, ...]:  # type: ignore[override]
        return self.trouble + tuple(note for layer in self.layers for note in layer.notes)

    def q(self, observations: NDArray[Any], time: Ints) -> Floats:
        index = np.minimum(time, len(self.layers) - 1)
        out: Floats | None = None
        for t in np.unique(index):
            rows = index == t
            values = self.layers[t](observations[rows])
            if out is None:
                out = np.empty((len(observations), values.shape[1]))
            out[rows] = values
        assert out is not None
        return out
