"""Value models: the problem that a model of Q is fitted to, the protocol it follows, and a Q known beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalrl.checks import Bools, Floats, Ints, check_size, numeric
from causalrl.data import Steps
from causalrl.diagnostics.record import Note
from causalrl.errors import DataError, EstimandError, PolicyError
from causalrl.policies import Policy, action_probabilities


class Target:
    """A bound target policy on one set of steps; its probabilities are computed once.

    Args:
        policy, steps: what is bound to what.
        by_row: its probabilities belong to the logged steps, as where it is made of a cross-fitted behaviour policy; else they
            depend on state and time alone.
    """

    def __init__(self, policy: Policy, steps: Steps, by_row: bool = False) -> None:
        self.policy, self.steps = policy, steps
        self.by_cell = steps.data.tabular and not by_row

    @cached_property
    def there(self) -> Bools:
        """(M,) steps whose successor counts: the process goes on and the observation is known."""
        mask: Bools = self.steps.continues & self.steps.known
        return mask

    def times(self, horizon: int | None) -> int:
        """How many times the target's probabilities differ between: 1 where it is stationary or nothing goes on.

        Raises:
            EstimandError: for a time-dependent target without a horizon.
        """
        if self.policy.stationary or not self.there.any():
            return 1
        if horizon is None:
            raise EstimandError(f"policy {self.policy}: depends on time, so that its value needs a horizon; pass horizon=H.")
        return horizon

    @cached_property
    def _probabilities(self) -> Floats:
        """(C, A) of every cell, or (M, A) of every step."""
        steps = self.steps
        if not self.by_cell:
            return self.at(steps.observations, steps.time)
        first = steps.cells.first
        try:
            return self.at(steps.observations[first], steps.time[first])
        except PolicyError:
            self.at(steps.observations, steps.time)  # the error then names the step, not the cell
            raise

    def at_rows(self, rows: Ints) -> Floats:
        """(K, A) at the observations of some of the steps."""
        return self._probabilities[self.steps.cells.index[rows] if self.by_cell else rows]

    @property
    def at_steps(self) -> Floats:
        """(M, A) at the logged observations."""
        return self._probabilities[self.steps.cells.index] if self.by_cell else self._probabilities

    @cached_property
    def taken(self) -> Floats:
        """(M,) of the logged actions."""
        index = self.steps.cells.index if self.by_cell else np.arange(len(self.steps))
        values: Floats = self._probabilities[index, self.steps.actions]
        return values

    def at(self, observations: NDArray[Any], time: Ints) -> Floats:
        """(K, A) at any observations."""
        return action_probabilities(self.policy, observations, time, self.steps.data.n_actions)

    def all_at(self, observations: NDArray[Any], horizon: int | None) -> Floats:
        """(1, K, A) of a stationary policy, else (H - 1, K, A), entry t at the observations when they are met at time t + 1."""
        if not len(observations):
            return np.zeros((1, 0, self.steps.data.n_actions))
        times = range(1, max(2, self.times(horizon)))
        return np.stack([self.at(observations, np.full(len(observations), t)) for t in times])

    def all_next(self, horizon: int | None) -> Floats:
        """(1 or H - 1, M, A) `all_at` the next observations; zero where there is none."""
        given = self.all_at(self.steps.next_observations[self.there], horizon)
        out = np.zeros((len(given), len(self.steps), given.shape[2]))
        out[:, self.there] = given
        return out

    def table(self, horizon: int | None) -> Floats:
        """(1 or H, S, A) at the states that occur, zero at the others, which no backup asks for."""
        steps = self.steps
        occurs = np.zeros(steps.data.n_states, np.bool_)
        occurs[steps.observations] = True
        occurs[steps.next_observations[self.there]] = True
        states = np.flatnonzero(occurs)
        out = np.zeros((self.times(horizon), steps.data.n_states, steps.data.n_actions))
        for t in range(len(out)):
            out[t, states] = self.at(states, np.full(len(states), t))
        return out


def distinct(observations: NDArray[Any]) -> tuple[NDArray[Any], Ints]:
    """The points (C, ...) that occur and the place (K,) of each observation among them: states once, vectors as they are."""
    if observations.ndim == 1:
        return np.unique(observations, return_inverse=True)
    return observations, np.arange(len(observations))


@dataclass(frozen=True, eq=False)
class ValueProblem:
    """What a value model is fitted to.

    Attributes:
        target: the target policy on the steps. weights: (M,) of each step.
        discount, horizon: of the estimand. seed: for learners that draw random numbers.
    """

    target: Target
    weights: Floats
    discount: float
    horizon: int | None
    seed: int

    @property
    def steps(self) -> Steps:
        return self.target.steps

    @cached_property
    def sequential(self) -> bool:
        """Whether any logged step has a future that counts."""
        return bool(self.target.there.any()) and self.horizon != 1


class QFunction(ABC):
    """Q(s, a) of the target, by time where the horizon is finite.

    Attributes:
        notes: warnings that the fit gave rise to.
        trace: how far each iteration of a stationary fit moved the largest mover (V of a state, or the target of a
            regression), or the loss of each epoch of a network.
    """

    notes: tuple[Note, ...] = ()
    trace: tuple[float, ...] = ()

    @abstractmethod
    def q(self, observations: NDArray[Any], time: Ints) -> Floats:
        """(K, A); NaN for an action that the model cannot speak about."""


class ValueModel(Protocol):
    """What `q=` takes."""

    @property
    def default_folds(self) -> int:
        """Cross-fitting folds when none are asked for."""
        ...

    @property
    def known(self) -> bool:
        """Nothing is learned from the data."""
        ...

    @abstractmethod
    def fit(self, problem: ValueProblem) -> QFunction:
        """Learn Q of the problem's target."""
        ...


StartRefit: TypeAlias = Callable[[Floats], Floats]
"""Maps trajectory weights (b, n) to the mean start value (b,) of the Q refitted under each row."""


@runtime_checkable
class CompiledRefit(Protocol):
    """A value model whose refits under resampling weights run in a kernel."""

    @abstractmethod
    def start_refit(self, problem: ValueProblem) -> StartRefit:
        """The refit of this problem, its tables made once."""
        ...


DifferencesRefit: TypeAlias = Callable[[Floats, Ints], tuple[Floats, Floats]]
"""Maps trajectory weights and folds (b, n) to the discounted temporal differences (b, M) and start values (b, n) of the Q that
is learned from the other folds, under each row."""


@runtime_checkable
class CompiledDifferences(Protocol):
    """A value model whose cross-fitted refits run in a kernel."""

    @property
    def default_folds(self) -> int:
        """Cross-fitting folds when none are asked for."""
        ...

    @abstractmethod
    def differences_refit(self, problem: ValueProblem) -> DifferencesRefit:
        """The refit of this problem, its tables made once."""
        ...


def expected_value(q: Floats, probabilities: Floats, rows: Ints | None = None) -> Floats:
    """(K,) V = sum_a pi(a|s) Q(s, a), the exact expectation over a stochastic target.

    Args:
        q, probabilities: (K, A). rows: (K,) what an error calls them; None counts them.

    Raises:
        EstimandError: where the target takes an action that the model has never seen.
    """
    value = np.sum(np.where(probabilities > 0, q, 0.0) * probabilities, axis=1)
    bad = ~np.isfinite(value)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        action = int(np.flatnonzero((probabilities[row] > 0) & ~np.isfinite(q[row]))[0])
        named = row if rows is None else rows[row]
        raise EstimandError(
            f"q: row {named} has no Q for action {action}, which the target takes there, since no logged decision shows it. Use "
            "a target within the logged actions, or a model that pools actions (Pooled, TabularQ)."
        )
    values: Floats = value
    return values


@dataclass(frozen=True, eq=False)
class KnownQ:
    """A Q-function known beforehand: a table (S, A) or (H, S, A), or a function (observations, time) -> (K, A).

    Raises:
        DataError: for a table of another shape, or with entries that are not finite.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, 3.0], [0, 1, 2], behavior_probabilities=[0.5, 0.5])
        >>> crl.DR(q=crl.KnownQ([[1.0, 3.0]])).estimate(data, crl.Always(1)).value
        3.0
    """

    source: Floats | Callable[[NDArray[Any], Ints], Floats]
    default_folds: int = field(default=1, init=False, repr=False)
    known: bool = field(default=True, init=False, repr=False)

    def __init__(self, source: ArrayLike | Callable[[NDArray[Any], Ints], Floats]) -> None:
        if isinstance(source, type):
            raise DataError(f"KnownQ: {source.__name__} is a class; pass a table, or a function.")
        if not callable(source):
            table = numeric("KnownQ", source)
            if table.ndim not in (2, 3):
                raise DataError(f"KnownQ: table has shape {table.shape}, expected (S, A) or (H, S, A).")
            check_size("KnownQ", table)
            source = table
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "default_folds", 1)
        object.__setattr__(self, "known", True)

    def fit(self, problem: ValueProblem) -> QFunction:
        return _KnownQFunction(self.source, problem.steps)


@dataclass(frozen=True, eq=False)
class _KnownQFunction(QFunction):
    source: Floats | Callable[[NDArray[Any], Ints], Floats]
    steps: Steps

    def q(self, observations: NDArray[Any], time: Ints) -> Floats:
        if callable(self.source):
            rows: Floats = numeric("KnownQ", self.source(observations, time))
        elif observations.ndim != 1:
            raise DataError("KnownQ: a table needs integer states, and the observations are vectors; pass a function.")
        elif int(observations.max(initial=0)) >= self.source.shape[-2]:
            raise DataError(f"KnownQ: the table has {self.source.shape[-2]} states, not state {observations.max()}.")
        elif self.source.ndim == 3 and int(time.max(initial=0)) >= len(self.source):
            raise DataError(f"KnownQ: the table ends at t = {len(self.source) - 1}, not time {time.max()}.")
        else:
            rows = self.source[observations] if self.source.ndim == 2 else self.source[time, observations]
        if rows.shape != (len(observations), self.steps.data.n_actions):
            raise DataError(f"KnownQ: gives shape {rows.shape}, expected ({len(observations)}, {self.steps.data.n_actions}).")
        check_size("KnownQ", rows)
        return rows
