"""`TabularMDP`: a finite Markov decision process with exact values and fast sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Bools, Floats, array_of, matrix, number
from causalrl.errors import DataError
from simulators.base import TabularSimulator
from simulators.checks import LARGEST_REWARD, ReadOnly, check_flags, check_forbidden, check_names, check_start
from simulators.mdp.draws import Draws, build_draws
from simulators.mdp.dynamics import Dynamics
from simulators.views import View


@dataclass(frozen=True, eq=False, repr=False, init=False)
class TabularMDP(ReadOnly, TabularSimulator):
    """A process with S states and A actions; rewards are paid on arrival, and nothing follows a terminal state.

    Attributes:
        dynamics: sparse transitions and rewards, those of terminal states included.
        initial: (S,) start distribution, 0 at terminal states.
        terminal: (S,) flags.
        state_features: (S, d) what a regressor sees of a state, or None.
        feature_names: d names of those columns.
        state_names: S names, or none.
        reward_noise: standard deviation of independent normal noise on every sampled reward; no value depends on it.
        forbidden: (S, A) actions that a policy must not take in a state, or None; such a policy is refused.

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
    reward_noise: float
    forbidden: Bools | None

    def __init__(
        self,
        transitions: ArrayLike,
        rewards: ArrayLike,
        initial: ArrayLike,
        terminal: ArrayLike | None = None,
        *,
        state_features: ArrayLike | None = None,
        feature_names: Sequence[str] = (),
        state_names: Sequence[str] = (),
        reward_noise: float = 0.0,
        forbidden: ArrayLike | None = None,
    ) -> None:
        """From dense arrays.

        Args:
            transitions: (S, A, S) probabilities of the next state; a terminal state needs rows too (let it stay).
            rewards: (S,) on arrival, (S, A) of a decision, or (S, A, S) of a transition.
            initial: (S,) start distribution.
            terminal: (S,) flags; none by default.
            state_features, feature_names, state_names, reward_noise, forbidden: as the attributes.

        Raises:
            DataError: naming the field, the first offending row and the mend.
        """
        labels = (state_features, feature_names, state_names, reward_noise, forbidden)
        self._set(Dynamics.from_dense(transitions, rewards), initial, terminal, *labels)

    @classmethod
    def from_sparse(
        cls,
        indptr: ArrayLike,
        successors: ArrayLike,
        probabilities: ArrayLike,
        rewards: ArrayLike,
        initial: ArrayLike,
        terminal: ArrayLike | None = None,
        *,
        state_features: ArrayLike | None = None,
        feature_names: Sequence[str] = (),
        state_names: Sequence[str] = (),
        reward_noise: float = 0.0,
        forbidden: ArrayLike | None = None,
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
        labels = (state_features, feature_names, state_names, reward_noise, forbidden)
        process._set(Dynamics(len(array_of("initial", initial)), *arrays), initial, terminal, *labels)
        return process

    def _set(
        self,
        dynamics: Dynamics,
        initial: ArrayLike,
        terminal: ArrayLike | None,
        state_features: ArrayLike | None,
        feature_names: Sequence[str],
        state_names: Sequence[str],
        reward_noise: float,
        forbidden: ArrayLike | None,
    ) -> None:
        n_states = dynamics.n_states
        flags = check_flags("terminal", np.zeros(n_states, bool) if terminal is None else terminal, (n_states,))
        features = None if state_features is None else matrix("state_features", state_features)
        if features is not None and len(features) != n_states:
            raise DataError(f"state_features: {len(features)} rows for {n_states} states; pass one row a state.")
        width, shape = 0 if features is None else features.shape[1], (n_states, dynamics.n_actions)
        object.__setattr__(self, "dynamics", dynamics)
        object.__setattr__(self, "initial", check_start(initial, flags))
        object.__setattr__(self, "terminal", flags)
        object.__setattr__(self, "state_features", features)
        object.__setattr__(self, "feature_names", check_names("feature_names", feature_names, width))
        object.__setattr__(self, "state_names", check_names("state_names", state_names, n_states))
        object.__setattr__(self, "reward_noise", number("reward_noise", reward_noise, 0, LARGEST_REWARD))
        object.__setattr__(self, "forbidden", None if forbidden is None else check_forbidden(forbidden, shape))
        self._freeze()

    def __repr__(self) -> str:
        size = f"n_states={self.n_states}, n_actions={self.n_actions}"
        return f"TabularMDP({size}, {self.terminal.sum()} terminal, {len(self.dynamics.successors)} transitions)"

    @property
    def mdp(self) -> TabularMDP:
        """The process itself."""
        return self

    @cached_property
    def full_view(self) -> View:
        """The view of the whole state."""
        return View.full(self)

    @cached_property
    def draws(self) -> Draws:
        """The transitions as they are sampled, built on first use."""
        return build_draws(self.dynamics, self.state_features)

    def starting(self, initial: ArrayLike) -> TabularMDP:
        """The same process from another start distribution (S,).

        Raises:
            DataError: for no distribution, or one with mass on a terminal state.

        Example:
            >>> from simulators import ToyMountainCar
            >>> car = ToyMountainCar().mdp
            >>> always_right = car.optimal_policy(1.0)
            >>> car.value(always_right), car.starting(np.eye(22)[20]).value(always_right)  # steps to the end
            (-11.0, -1.0)
        """
        return self._with(initial=check_start(initial, self.terminal))

    def continuing(self) -> TabularMDP:
        """The same transitions and rewards without an end: a planning problem, not the process that is evaluated.

        Example:
            >>> from causalrl.policies import Always
            >>> cure = TabularMDP([[[0.2, 0.8]], [[0, 1]]], [0.0, 1.0], [1, 0], terminal=[False, True])
            >>> [round(mdp.value(Always(0), discount=0.5), 4) for mdp in (cure, cure.continuing())]  # paid once, or ever after
            [0.8889, 1.7778]
        """
        return self._with(terminal=np.zeros(self.n_states, bool))

    def _with(self, **changed: Any) -> TabularMDP:
        other = TabularMDP.__new__(TabularMDP)
        for item in fields(self):
            object.__setattr__(other, item.name, changed.get(item.name, getattr(self, item.name)))
        other._freeze()
        return other
