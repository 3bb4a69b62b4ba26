"""`TabularMDP`: a finite Markov decision process with exact values and fast sampling."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Bools, Floats, matrix
from causalrl.data import End, Trajectories
from causalrl.errors import DataError, EstimandError
from causalrl.policies import PolicyLike, TabularPolicy
from simulators import planning
from simulators.checks import check_count, check_start, check_time, checked_tables
from simulators.dynamics import Dynamics
from simulators.sampling import sample_walks


@dataclass(frozen=True, eq=False, repr=False, init=False)
class TabularMDP:
    """A process with S states and A actions; rewards are paid on arrival, and nothing follows a terminal state.

    Attributes:
        dynamics: sparse transitions and rewards, those of terminal states included.
        initial: (S,) start distribution, 0 at terminal states.
        terminal: (S,) flags.
        state_features: (S, d) what a regressor sees of a state, or None.
        feature_names: d names of those columns.
        state_names: S names, or none.

    Example:
        >>> from causalrl.policies import Always
        >>> cure = TabularMDP([[[0.5, 0.5], [0.2, 0.8]], [[0, 1], [0, 1]]], [0.0, 1.0], [1, 0], terminal=[False, True])
        >>> round(cure.value(Always(1), horizon=2), 12)
        0.96
        >>> cure.optimal_policy(discount=0.9).table[0]
        array([0., 1.])
    """

    dynamics: Dynamics
    initial: Floats
    terminal: Bools
    state_features: Floats | None
    feature_names: tuple[str, ...]
    state_names: tuple[str, ...]

    def __init__(
        self,
        transitions: ArrayLike,
        rewards: ArrayLike,
        initial: ArrayLike,
        terminal: ArrayLike | None = None,
        **labels: Any,
    ) -> None:
        """From dense arrays.

        Args:
            transitions: (S, A, S) probabilities of the next state; a terminal state needs rows too (let it stay).
            rewards: (S,) on arrival, (S, A) of a decision, or (S, A, S) of a transition.
            initial: (S,) start distribution.
            terminal: (S,) flags; none by default.
            labels: state_features (S, d), feature_names, state_names.

        Raises:
            DataError: naming the field, the first offending row and the mend.
        """
        self._set(Dynamics.from_dense(transitions, rewards), initial, terminal, **labels)

    @classmethod
    def from_sparse(
        cls,
        indptr: ArrayLike,
        successors: ArrayLike,
        probabilities: ArrayLike,
        rewards: ArrayLike,
        initial: ArrayLike,
        terminal: ArrayLike | None = None,
        **labels: Any,
    ) -> TabularMDP:
        """From compressed rows s * A + a (see `Dynamics`); rewards (nnz,) are those of the stored transitions.

        Raises:
            DataError: as the constructor.

        Example:
            >>> TabularMDP.from_sparse([0, 1, 2], [1, 1], [1.0, 1.0], [3.0, 0.0], [1, 0], [False, True])
            TabularMDP(n_states=2, n_actions=1, 1 terminal, 2 transitions)
        """
        process = cls.__new__(cls)
        arrays: tuple[Any, ...] = (indptr, successors, probabilities, rewards)
        process._set(Dynamics(len(np.atleast_1d(initial)), *arrays), initial, terminal, **labels)
        return process

    def _set(
        self,
        dynamics: Dynamics,
        initial: ArrayLike,
        terminal: ArrayLike | None,
        state_features: ArrayLike | None = None,
        feature_names: Sequence[str] = (),
        state_names: Sequence[str] = (),
    ) -> None:
        n_states = dynamics.n_states
        flags = np.zeros(n_states, bool) if terminal is None else np.array(terminal)
        if flags.shape != (n_states,) or flags.dtype != bool:
            raise DataError(f"terminal: {flags.dtype} of shape {flags.shape}; pass {n_states} flags, True at the end.")
        features = None if state_features is None else matrix("state_features", state_features)
        if features is not None and len(features) != n_states:
            raise DataError(f"state_features: {len(features)} rows for {n_states} states; pass one row a state.")
        for field, names, count in (
            ("feature_names", feature_names, 0 if features is None else features.shape[1]),
            ("state_names", state_names, n_states),
        ):
            if len(names) not in (0, count):
                raise DataError(f"{field}: {len(names)} names for {count}; pass one each, or none.")
        object.__setattr__(self, "dynamics", dynamics)
        object.__setattr__(self, "initial", check_start(initial, flags))
        object.__setattr__(self, "terminal", flags)
        object.__setattr__(self, "state_features", features)
        object.__setattr__(self, "feature_names", tuple(map(str, feature_names)))
        object.__setattr__(self, "state_names", tuple(map(str, state_names)))

    def __repr__(self) -> str:
        size = f"n_states={self.n_states}, n_actions={self.n_actions}"
        return f"TabularMDP({size}, {self.terminal.sum()} terminal, {len(self.dynamics.successors)} transitions)"

    @property
    def n_states(self) -> int:
        """S."""
        return self.dynamics.n_states

    @property
    def n_actions(self) -> int:
        """A."""
        return self.dynamics.n_actions

    def starting(self, initial: ArrayLike) -> TabularMDP:
        """The same process from another start distribution (S,).

        Raises:
            DataError: for no distribution, or one with mass on a terminal state.
        """
        other = copy.copy(self)
        object.__setattr__(other, "initial", check_start(initial, self.terminal))
        return other

    def continuing(self) -> TabularMDP:
        """The same transitions and rewards without an end: a planning problem, not the process that is evaluated."""
        other = copy.copy(self)
        object.__setattr__(other, "terminal", np.zeros(self.n_states, bool))
        return other

    def value(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> float:
        """Exact E[sum over t < horizon of discount^t r_t] under the policy.

        Args:
            policy: on integer states, or a function of them.
            horizon: number of steps, or None for the whole process (a linear solve).
            discount: in [0, 1].

        Raises:
            EstimandError: for a horizon or discount out of range, or at discount 1 without a horizon for a policy that
                never ends.
            PolicyError: for a policy that does not fit.
        """
        tables = self._tables(policy, horizon, discount)
        if horizon is not None:
            *_, q = planning.backward_q(self.dynamics, self.terminal, tables, horizon, discount)
            return float(self.initial @ (tables[0] * q).sum(axis=1))
        states = planning.reachable(self.dynamics, self.terminal, self.initial, tables[0])
        self._require_end(policy, tables[0], states, discount)
        return float(self.initial @ planning.stationary_values(self.dynamics, tables[0], states, discount))

    def q(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> Floats:
        """Exact value of taking action a in state s at time t and following the policy after it; 0 in terminal states.

        Returns:
            (H, S, A), first axis the time t (H - t steps to go), or (S, A) without a horizon.

        Raises:
            EstimandError, PolicyError: as `value`.
        """
        tables = self._tables(policy, horizon, discount)
        if horizon is not None:
            return np.stack([*planning.backward_q(self.dynamics, self.terminal, tables, horizon, discount)][::-1])
        self._require_end(policy, tables[0], ~self.terminal, discount)
        values = planning.stationary_values(self.dynamics, tables[0], ~self.terminal, discount)
        return planning.backup(self.dynamics, self.terminal, values, discount)

    def occupancy(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> Floats:
        """Exact state-action occupancy, so that value = sum of occupancy times mean reward; 0 in terminal states.

        Returns:
            (H, S, A) discount^t P(s_t = s, a_t = a, not ended), or its sum over all t, (S, A), without a horizon.

        Raises:
            EstimandError, PolicyError: as `value`.
        """
        tables = self._tables(policy, horizon, discount)
        if horizon is not None:
            return planning.forward_visits(self.dynamics, self.terminal, self.initial, tables, horizon, discount)
        states = planning.reachable(self.dynamics, self.terminal, self.initial, tables[0])
        self._require_end(policy, tables[0], states, discount)
        visits = planning.stationary_visits(self.dynamics, tables[0], self.initial, states, discount)
        return np.asarray(visits[:, None] * tables[0])

    def optimal_policy(self, discount: float, horizon: int | None = None) -> TabularPolicy:
        """A deterministic best policy; ties go to the lowest action.

        At discount 1 without a horizon, where the lowest of the tied actions would never end, the lowest one that
        brings the end nearer is taken.

        Returns:
            a table (S, A), or (H, S, A) for a horizon.

        Raises:
            EstimandError: as `value`, or at discount 1 for a state that cannot end, or a value without bound.
        """
        check_time(horizon, discount)
        if horizon is not None:
            return TabularPolicy(planning.optimal_tables(self.dynamics, self.terminal, horizon, discount))
        return TabularPolicy(planning.optimal_table(self.dynamics, self.terminal, discount))

    def sample(self, n: int, policy: PolicyLike, horizon: int | None = None, seed: int = 0) -> Trajectories:
        """n trajectories, until a terminal state or the horizon.

        The result is a function of the seed alone, whatever the number of threads; trajectory i does not depend on n.

        Args:
            n: at least 1.
            policy: the behaviour policy.
            horizon: number of steps, or None for the whole process, which must end.
            seed: any non-negative integer.

        Returns:
            integer states, the probability of each logged action, `end` TERMINATED or TRUNCATED (at the horizon), and
            final states.

        Raises:
            DataError: for n below 1 or a negative seed.
            EstimandError, PolicyError: as `value`.
        """
        check_count("n", n, least=1)
        check_count("seed", seed, least=0)
        tables = self._tables(policy, horizon, 1.0)
        if horizon is None:
            states = planning.reachable(self.dynamics, self.terminal, self.initial, tables[0])
            self._require_end(policy, tables[0], states, 1.0)
        walks = sample_walks(self.dynamics, self.terminal, self.initial, tables, int(n), horizon, int(seed))
        return Trajectories.from_arrays(
            walks.states,
            walks.actions,
            walks.rewards,
            walks.offsets,
            end=np.where(self.terminal[walks.final_states], End.TERMINATED, End.TRUNCATED),
            behavior_probabilities=walks.probabilities,
            final_observations=walks.final_states,
            n_actions=self.n_actions,
            n_states=self.n_states,
            state_features=self.state_features,
        )

    def _tables(self, policy: PolicyLike, horizon: int | None, discount: float) -> Floats:
        check_time(horizon, discount)
        return checked_tables(policy, self.n_states, self.n_actions, horizon)

    def _require_end(self, policy: PolicyLike, table: Floats, states: Bools, discount: float) -> None:
        if discount < 1:
            return
        stuck = states & planning.never_ending(self.dynamics, self.terminal, table)
        if stuck.any():
            raise EstimandError(
                f"horizon: from state {np.flatnonzero(stuck)[0]} the process never ends under {policy}, so "
                "discount 1 needs one; pass horizon=H, or a discount below 1, or flag a sink as terminal."
            )
