"""Fitted Q-evaluation around any regression: backwards over the steps to go, or repeated to the fixed point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints
from causalrl.data import Trajectories
from causalrl.diagnostics.record import Note
from causalrl.errors import ConvergenceWarning
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.value import QFunction, ValueProblem, distinct, expected_value

_TOLERANCE = 1e-4
"""A stationary Q has converged when it is about this share of the largest target from its fixed point."""
DIVERGED = 1e50
"""Targets of so many times the largest reward have no limit; their squares are still numbers."""


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
