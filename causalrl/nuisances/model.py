"""The count model: the maximum-likelihood Markov decision process of logged transitions, kept sparse.

P(s' | s, a) = n(s, a, s') / n(s, a), and the reward of a transition is the mean of those logged; transitions of all times are
pooled. Sources: Mannor, Simester, Sun & Tsitsiklis (2007), Bias and variance approximation in value function estimates (the
plug-in model); Oberst & Sontag (2019) for the sink of decisions never seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from causalrl.checks import Bools, Floats, Ints, number
from causalrl.data import Steps, Trajectories
from causalrl.errors import DataError
from causalrl.kernels import tabular
from causalrl.kernels.planning import backup, stationary_values
from causalrl.kernels.tabular import weighted_counts
from causalrl.nuisances.tabular import StateMean


@dataclass(frozen=True)
class Absorb:
    """The process ends after a never-seen (state, action), which pays `value`; so does every action in a never-seen state.

    Oberst & Sontag (2019) send decisions never seen to death: `Absorb(-1)`.

    Raises:
        DataError: for a value that is not finite.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [0.0, 3.0], range(3), n_actions=3)
        >>> crl.FQE(crl.ModelBased(unseen=Absorb(-1.0))).estimate(data, crl.Always(2)).value
        -1.0
    """

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", number("Absorb", self.value))

    @property
    def constant(self) -> float:
        return self.value


UnseenRule = StateMean | Absorb
"""What a model says of a (state, action) that was never logged. Under `StateMean` it leads where the actions logged in that state
led, with their frequencies; a never-seen state leads where all logged transitions led."""


@dataclass(frozen=True, eq=False)
class ModelMDP:
    """A complete Markov decision process, learned: N states, A actions, compressed rows s * A + a.

    The first `n_states` states are those of the data, then come the ends; under `StateMean` the last state stands for every
    state with no known successor (those are themselves flagged as terminal, and nothing leads to them). There is no horizon here:
    what is known of a last step only is in `counted`.

    Attributes:
        n_states, n_actions: of the data.
        indptr: (N * A + 1,). successors, probabilities, rewards: (nnz,) of each transition.
        initial: (N,) start distribution. terminal: (N,) flags; a terminal state stays and pays 0.
        pooled: (N,) states that the last state stands for, itself left out.
        counted, unseen: what it was completed from, and the rule.
    """

    n_states: int
    n_actions: int
    indptr: Ints
    successors: Ints
    probabilities: Floats
    rewards: Floats
    initial: Floats
    terminal: Bools
    pooled: Bools
    counted: CountModel
    unseen: UnseenRule

    @cached_property
    def matrix(self) -> Any:
        """(N * A, N) transition law, a scipy CSR array."""
        return self._rows_of(self.probabilities)

    @cached_property
    def mean_rewards(self) -> Floats:
        """(N, A) expected reward of a decision."""
        return np.asarray(self._rows_of(self.probabilities * self.rewards).sum(axis=1)).reshape(-1, self.n_actions)

    def _rows_of(self, entries: Floats) -> Any:
        n = len(self.terminal)
        return csr_array((entries, self.successors, self.indptr), shape=(n * self.n_actions, n))

    def q(self, tables: Floats, horizon: int | None, discount: float) -> Floats:
        """(H or 1, S, A) Q of a policy (1 or H, S, A) at the states of the data."""
        if horizon is not None:
            return self.counted.backward_q(
                self.unseen, horizon, discount, lambda t, q: (tables[min(t, len(tables) - 1)] * q).sum(axis=1)
            )
        law = self.matrix, self.mean_rewards
        values = stationary_values(*law, self.terminal, self.extend(tables)[0], discount)
        return self.of_data(backup(*law, self.terminal, values, discount)[None])

    def extend(self, tables: Floats) -> Floats:
        """Policy tables (T, n_states, A) with rows (action 0) for the other states, where every action does the same."""
        rest = np.zeros((len(tables), len(self.terminal) - self.n_states, self.n_actions))
        rest[..., 0] = 1.0
        return np.concatenate([tables, rest], axis=1)

    def of_data(self, q: Floats) -> Floats:
        """Q (..., N, A) at the states of the data (..., n_states, A), those never seen included."""
        return np.where(self.pooled[: self.n_states, None], q[..., -1:, :], q[..., : self.n_states, :])


@dataclass(frozen=True, eq=False)
class Decisions:
    """Weighted logged decisions.

    Attributes:
        cells: (M,) s * A + a. rewards, weights: (M,). known: (M,) whose successor counts.
        successors: (M,) next state, or n_states + k for the k-th end.
    """

    cells: Ints
    rewards: Floats
    weights: Floats
    known: Bools
    successors: Ints

    @classmethod
    def logged(cls, steps: Steps, weights: Floats) -> Decisions:
        """Those of the steps with a positive weight; every end is the same."""
        require_countable(steps.data)
        cells = steps.observations * steps.data.n_actions + steps.actions
        successors = np.where(steps.continues, steps.next_observations, steps.data.n_states)
        used = weights > 0
        return cls(cells[used], steps.rewards[used], weights[used], steps.known[used], successors[used])


@dataclass(frozen=True, eq=False)
class CountModel:
    """Counts of transitions: n_states live states and the ends after them, distinct edges only.

    Attributes:
        cells, successors: (E,) of each distinct transition. counts: (E,) their weight. sums: (E,) their weighted rewards.
        outcomes: (K,) what each end stands for: the reward on entering it, or NaN where that is the transition's.
        initial: (n_states,) start distribution.
        last_counts, last_sums: (n_states * A,) weight and weighted rewards of all decisions, successor known or not.
    """

    n_states: int
    n_actions: int
    cells: Ints
    successors: Ints
    counts: Floats
    sums: Floats
    outcomes: Floats
    initial: Floats
    last_counts: Floats
    last_sums: Floats

    @classmethod
    def of(cls, decisions: Decisions, initial: Floats, n_actions: int, outcomes: Floats) -> CountModel:
        """Count the decisions."""
        n_states, known = len(initial), decisions.known
        edges = _merged(
            decisions.cells[known],
            decisions.successors[known],
            decisions.weights[known],
            (decisions.weights * decisions.rewards)[known],
        )
        size = n_states * n_actions
        last = [weighted_counts(decisions.cells, w, size) for w in (decisions.weights, decisions.weights * decisions.rewards)]
        return cls(n_states, n_actions, *edges, outcomes, initial, last[0], last[1])

    def complete(self, unseen: UnseenRule) -> ModelMDP:
        """The process, what was never seen filled in by the rule.

        Raises:
            DataError: where no successor is known at all.
        """
        if not len(self.cells):
            raise DataError(
                "final_observations: no decision has a known successor, so that nothing is learned of the transitions. Pass "
                "final_observations, or mark records whose process stopped as TERMINATED."
            )
        states, actions = self.n_states, self.n_actions
        seen = np.bincount(self.cells, self.counts, states * actions).reshape(states, actions) > 0
        edges = self.cells, self.successors, self.counts, self.sums
        outcomes, pooled = self.outcomes, ~seen.any(axis=1)
        if isinstance(unseen, Absorb):
            edges, outcomes = _absorbing(edges, seen, unseen.value, outcomes, states)
            pooled = np.zeros_like(pooled)
        else:
            edges = _state_means(edges, seen, states + len(outcomes), actions)
        total = states + len(outcomes) + int(pooled.any())
        terminal = np.zeros(total, np.bool_)
        terminal[:states] = pooled
        terminal[states : states + len(outcomes)] = True
        return _process(edges, _padded(self.initial, total), terminal, _padded(pooled, total), self, unseen)

    def backward_q(self, unseen: UnseenRule, horizon: int, discount: float, value: Callable[[int, Floats], Floats]) -> Floats:
        """(H, S, A) Q_t by backward induction with the backup of `TabularQ`, what was never seen filled in by the rule.

        All decisions tell of the last step, those whose successor is known of the others: a state in which none of these was
        made has its own mean at the last step, and that of all transitions before it.

        Args:
            value: maps t and Q_t (S, A) to V_t (S,).
        """
        goes_on = self.successors < self.n_states
        edges = self.cells[goes_on], self.successors[goes_on], self.counts[goes_on]
        known = tuple(weighted_counts(self.cells, column, len(self.last_counts)) for column in (self.counts, self.sums))
        q, ahead = np.empty((horizon, self.n_states, self.n_actions)), np.zeros(self.n_states)
        for t in reversed(range(horizon)):
            counts, sums = known if t < horizon - 1 else (self.last_counts, self.last_sums)
            tabular.backup(q[t], counts, sums, *edges, ahead, float(discount), unseen.constant)
            ahead = value(t, q[t])
        return q


def require_countable(data: Trajectories) -> None:
    """Refuse vectors and continuous actions."""
    if not data.tabular:
        raise DataError("observations: they are vectors, and a count model needs integer states; bin or cluster them first.")
    if data.n_actions == 0:
        raise DataError("actions: they are continuous, and a count model needs discrete ones; bin them into integers first.")


Edges = tuple[Ints, Ints, Floats, Floats]
"""Cells, successors, counts and weighted rewards of distinct transitions."""


def _merged(cells: Ints, successors: Ints, counts: Floats, sums: Floats) -> Edges:
    """One entry for each distinct (cell, successor), sorted."""
    width = int(successors.max(initial=0)) + 1
    code, index = np.unique(cells * width + successors, return_inverse=True)
    merged = [weighted_counts(index, np.ascontiguousarray(values), len(code)) for values in (counts, sums)]
    return code // width, code % width, merged[0], merged[1]


def _absorbing(edges: Edges, seen: Bools, value: float, outcomes: Floats, n_states: int) -> tuple[Edges, Floats]:
    """Never-seen cells lead to an end that pays the value: one of that outcome, the plain end, or one of their own."""
    same = np.flatnonzero((outcomes == value) | np.isnan(outcomes))
    end = int(same[0]) if len(same) else len(outcomes)
    cells = np.flatnonzero(~seen.reshape(-1))
    added = cells, np.full(len(cells), n_states + end), np.ones(len(cells)), np.full(len(cells), value)
    joined = tuple(np.concatenate(pair) for pair in zip(edges, added, strict=True))
    return _merged(*joined), outcomes if len(same) else np.append(outcomes, value)


def _state_means(edges: Edges, seen: Bools, anywhere: int, n_actions: int) -> Edges:
    """Never-seen actions share the transitions of their state; the state `anywhere`, put for never-seen ones, those of all."""
    cells, successors, counts, sums = edges
    lost = np.append(~seen.any(axis=1), np.zeros(anywhere + 1 - len(seen), np.bool_))
    successors = np.where(lost[successors], anywhere, successors)
    parts: list[Edges] = [(cells, successors, counts, sums)]
    for a in range(n_actions):
        missing = ~seen[cells // n_actions, a]
        states = cells[missing] // n_actions
        parts.append((states * n_actions + a, successors[missing], counts[missing], sums[missing]))
        if lost.any():
            parts.append((np.full(len(cells), anywhere * n_actions + a), successors, counts, sums))
    joined = tuple(np.concatenate(columns) for columns in zip(*parts, strict=True))
    return _merged(*joined)


def _padded(values: Any, total: int) -> Any:
    return np.concatenate([values, np.zeros(total - len(values), values.dtype)])


def _process(edges: Edges, initial: Floats, terminal: Bools, pooled: Bools, counted: CountModel, unseen: UnseenRule) -> ModelMDP:
    """Normalised compressed rows; terminal states stay where they are."""
    total, n_states, n_actions = len(terminal), counted.n_states, counted.n_actions
    idle = np.repeat(np.flatnonzero(terminal), n_actions)
    stay = idle * n_actions + np.tile(np.arange(n_actions), len(idle) // n_actions), idle, np.ones(len(idle)), np.zeros(len(idle))
    cells, successors, counts, sums = _merged(*(np.concatenate(pair) for pair in zip(edges, stay, strict=True)))
    row_total = np.bincount(cells, counts, total * n_actions)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(cells, minlength=total * n_actions))]).astype(np.int64)
    if pooled.any():  # nobody is there: whoever starts there starts in the state that replaces it
        initial = np.append(np.where(pooled, 0.0, initial)[:-1], initial[pooled].sum())
    law = indptr, successors, counts / row_total[cells], sums / counts
    return ModelMDP(n_states, n_actions, *law, initial, terminal, pooled, counted, unseen)
