"""Tabular fitted Q-evaluation: the exact solution of the empirical Bellman equations."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints, flag, number
from causalrl.data import Steps
from causalrl.diagnostics.record import Note
from causalrl.errors import ConvergenceWarning, DataError, EstimandError
from causalrl.kernels.refit import refit_differences
from causalrl.kernels.tabular import finite_horizon_q, refit_start_values, stationary_q
from causalrl.nuisances.value import DifferencesRefit, QFunction, StartRefit, ValueProblem

_TOLERANCE = 1e-10
"""A stationary V has converged when no backup moves it by more than this share of the largest reward."""
_MAX_ITERATIONS = 20_000


@dataclass(frozen=True)
class StateMean:
    """A never-seen (state, action) gets the count-weighted mean target of the actions logged in that state; a never-seen
    state the mean over all transitions at that step.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0, 0], [0, 1, 1], [0.0, 3.0, 3.0], range(4), n_actions=3)
        >>> crl.FQE(crl.TabularQ(unseen=StateMean())).estimate(data, crl.Always(2)).value
        2.0
    """

    @property
    def constant(self) -> float:
        return float("nan")


@dataclass(frozen=True)
class ConstantValue:
    """A never-seen (state, action) gets this Q.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [0.0, 3.0], range(3), n_actions=3)
        >>> crl.FQE(crl.TabularQ(unseen=ConstantValue(-1.0))).estimate(data, crl.Always(2)).value
        -1.0
    """

    constant: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "constant", number("ConstantValue", self.constant))


@dataclass(frozen=True)
class TabularQ:
    """Q by counting: for a finite horizon by backward induction, else the fixed point of the empirical Bellman equation.

    Args:
        by_time: learn each step on its own; otherwise transitions of all times are pooled (rewards and transitions that do
            not depend on time) and Q is indexed by the steps to go.
        unseen: the rule for a (state, action) that was never logged.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, 3.0], [0, 1, 2])
        >>> crl.FQE(crl.TabularQ()).estimate(data, crl.Always(1)).value
        3.0
    """

    by_time: bool = False
    unseen: StateMean | ConstantValue = StateMean()
    default_folds: int = field(default=5, init=False, repr=False)
    known: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        flag("by_time", self.by_time, EstimandError)
        if not isinstance(self.unseen, StateMean | ConstantValue):
            raise EstimandError(f"unseen: {self.unseen!r}; pass StateMean(), or ConstantValue(value).")

    def fit(self, problem: ValueProblem) -> QFunction:
        table = _Transitions(problem, self.by_time)
        row_weights = problem.weights[table.order]
        notes: tuple[Note, ...] = ()
        trace: tuple[float, ...] = ()
        if problem.horizon is None:
            q = np.empty((1, *table.policy.shape[1:]))
            _, changes = stationary_q(
                *table.rows,
                *table.edges,
                table.policy[0],
                row_weights,
                problem.discount,
                self.unseen.constant,
                table.tolerance,
                _MAX_ITERATIONS,
                q[0],
            )
            trace = tuple(changes.tolist())
            if changes[-1] > table.tolerance:
                text = f"the value iteration of TabularQ stopped after {len(trace)} backups, still moving by {trace[-1]:.1e}."
                notes = (Note(ConvergenceWarning, text),)
        else:
            q = np.empty((problem.horizon, *table.policy.shape[1:]))
            finite_horizon_q(
                *table.rows,
                table.slices,
                *table.edges,
                table.policy,
                row_weights,
                problem.horizon,
                problem.discount,
                self.unseen.constant,
                q,
                np.zeros((1, problem.steps.data.n_states)),
            )
        return TabularQFunction(q, notes, trace)

    def start_refit(self, problem: ValueProblem) -> StartRefit:
        table = _Transitions(problem, self.by_time)
        return partial(
            refit_start_values,
            *table.rows,
            table.slices,
            *table.edges,
            table.policy,
            problem.steps.trajectory[table.order],
            problem.steps.observations[problem.steps.first],
            problem.horizon or 0,
            problem.discount,
            self.unseen.constant,
            table.tolerance,
            _MAX_ITERATIONS,
        )

    def differences_refit(self, problem: ValueProblem) -> DifferencesRefit:
        """Refits of the temporal differences and start values, in a kernel."""
        table, steps = _Transitions(problem, self.by_time), problem.steps
        return partial(
            refit_differences,
            *table.rows,
            table.slices,
            *table.edges,
            table.policy,
            steps.trajectory[table.order],
            steps.observations.copy(),
            steps.actions.copy(),
            steps.rewards.copy(),
            np.where(steps.cut_early, steps.next_observations[steps.last], -1),
            steps.offsets,
            problem.horizon or 0,
            problem.discount,
            self.unseen.constant,
            table.tolerance,
            _MAX_ITERATIONS,
        )


class _Logged(NamedTuple):
    """The logged transitions as cells and distinct edges, sorted into time slices.

    Attributes:
        order: permutation of the steps. slices: row boundaries of the time slices.
        rows: cells (M,), rewards (M,), edge of each row (M,), known (M,). edges: cell and next state of each distinct edge.
        tolerance: of the fixed point.
    """

    order: Ints | slice
    slices: Ints
    rows: tuple[NDArray[Any], Floats, NDArray[Any], Bools]
    edges: tuple[Ints, Ints]
    tolerance: float

    @classmethod
    def of(cls, steps: Steps, horizon: int | None, by_time: bool) -> _Logged:
        states, actions = steps.data.n_states, steps.data.n_actions
        order = np.argsort(steps.time, kind="stable") if by_time else slice(None)
        slices = np.array([0, len(steps)], np.int64)
        if by_time:
            slices = np.searchsorted(steps.time[order], np.arange((horizon or 0) + 1))
        cells = (steps.observations * actions + steps.actions)[order]
        goes_on = (steps.continues & steps.known)[order]
        code = cells[goes_on] * states + steps.next_observations[order][goes_on]
        distinct, index = np.unique(code, return_inverse=True)
        edge_of_row = np.full(len(cells), -1, np.int32)
        edge_of_row[goes_on] = index
        tolerance = _TOLERANCE * float(np.abs(steps.rewards).max())
        rows = cells.astype(np.int32), steps.rewards[order], edge_of_row, steps.known[order]
        return cls(order, slices, rows, (distinct // states, distinct % states), tolerance)


class _Transitions:
    """The logged transitions, made once for all targets and folds (see `_Logged`), and the table of the problem's target."""

    def __init__(self, problem: ValueProblem, by_time: bool) -> None:
        steps, horizon = problem.steps, problem.horizon
        if not steps.data.tabular:
            raise DataError(
                "q: TabularQ() needs integer states, and the observations are vectors; use PerAction, Pooled or LinearQ."
            )
        if by_time and horizon is None:
            raise EstimandError("q: TabularQ(by_time=True) needs a finite horizon; pass horizon=H, or by_time=False.")
        logged = steps.once((_Logged, horizon, by_time), lambda: _Logged.of(steps, horizon, by_time))
        self.order, self.slices, self.rows, self.edges, self.tolerance = logged
        self.policy = problem.target.table(horizon)


@dataclass(frozen=True, eq=False)
class TabularQFunction(QFunction):
    """Q from a table (1 or H, S, A)."""

    table: Floats
    notes: tuple[Note, ...] = ()
    trace: tuple[float, ...] = ()

    def q(self, observations: NDArray[Any], time: Ints) -> Floats:
        values: Floats = self.table[np.minimum(time, len(self.table) - 1), observations]
        return values
