"""A cross-fitted Q along the logged steps: each step's own fold learned without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.data import Steps
from causalrl.diagnostics.record import Note
from causalrl.nuisances.behavior import BehaviorFit
from causalrl.nuisances.records import Fold, Values
from causalrl.nuisances.value import Target, ValueModel, ValueProblem, expected_value


@dataclass(frozen=True, eq=False)
class FittedQ:
    """What the fits say at the logged steps. One fit may serve many targets, where nothing is learned or nothing follows.

    Attributes:
        folds: the folds. q: of each fold (C_k, A), at the first step of every cell (see `Cells`) that its steps meet.
        q_final: (early, A) at the final observations of records cut early. notes, trace: see `Values`.
    """

    folds: list[Fold]
    q: list[Floats]
    q_final: Floats
    notes: list[Note]
    trace: tuple[float, ...]

    @classmethod
    def learn(cls, model: ValueModel, folds: list[Fold], problem_of: Callable[[Fold], ValueProblem]) -> FittedQ:
        """Fit the model to the problem of every fold."""
        by_fold: list[Floats] = []
        notes: list[Note] = []
        trace: tuple[float, ...] = ()
        q_final: Floats | None = None
        for fold in folds:
            problem = problem_of(fold)
            steps, test, fitted = problem.steps, fold.test, model.fit(problem)
            first, _ = steps.cells.among(np.flatnonzero(test))
            by_fold.append(fitted.q(steps.observations[first], steps.time[first]))
            early = np.flatnonzero(steps.cut_early)
            mine = test[steps.last[early]]
            q_final = np.empty((len(early), steps.data.n_actions)) if q_final is None else q_final
            if mine.any():
                q_final[mine] = fitted.q(*_finals(steps, early[mine]))
            notes += fitted.notes
            trace = trace or fitted.trace
        assert q_final is not None
        return cls(folds, by_fold, q_final, notes, trace)

    def values(self, target: Target, discount: float) -> Values:
        """Q and V of the target along the steps.

        Where the target is the learned behaviour policy itself, V is Q of the logged action, a draw from that policy: doubly
        robust sums then telescope to the return. A Q of NaN belongs to an action that the target never takes (weight 0).
        """
        steps = target.steps
        learned_behavior = isinstance(target.policy, BehaviorFit) and not target.policy.exact
        q, v = self._taken(target) if learned_behavior else self._expected(target)
        v_next = np.append(v[1:], 0.0)
        v_next[steps.last] = 0.0
        early = np.flatnonzero(steps.cut_early)
        if len(early):
            v_next[steps.last[early]] = expected_value(self.q_final, target.at(*_finals(steps, early)))
        values = Values(q, v, v_next, self.notes, len(self.folds), self.trace, None)
        return replace(values, residual=_residual(steps, values.differences(steps.rewards, discount), self.folds[0].weights))

    def _taken(self, target: Target) -> tuple[Floats, Floats]:
        steps, q = target.steps, np.empty(len(target.steps))
        for fold, table in zip(self.folds, self.q, strict=True):
            rows = np.flatnonzero(fold.test)
            q[rows] = table[steps.cells.among(rows)[1], steps.actions[rows]]
        return q, q

    def _expected(self, target: Target) -> tuple[Floats, Floats]:
        steps, v = target.steps, np.empty(len(target.steps))
        for fold, table in zip(self.folds, self.q, strict=True):
            rows = np.flatnonzero(fold.test)
            first, place = steps.cells.among(rows)
            if target.by_cell:
                v[rows] = expected_value(table, target.at_rows(first), first)[place]
            else:
                v[rows] = expected_value(table[place], target.at_rows(rows), rows)
        q, _ = self._taken(target)
        q[np.isnan(q) & (target.taken == 0)] = 0.0
        return q, v


def _finals(steps: Steps, trajectories: Ints) -> tuple[Any, Ints]:
    """The observations after the last step of these trajectories, and when they are met."""
    last = steps.last[trajectories]
    return steps.next_observations[last], steps.time[last] + 1


def _residual(steps: Steps, differences: Floats, weights: Floats) -> float | None:
    """Root mean square temporal difference over the steps whose successor is known, or lies beyond the horizon."""
    last = False if steps.horizon is None else steps.time == steps.horizon - 1
    used = steps.known | last
    if not used.any():
        return None
    squares = np.square(differences, out=differences)
    if not used.all():
        squares, weights = squares[used], weights[used]
    return float(np.sqrt(squares @ weights / weights.sum()))
