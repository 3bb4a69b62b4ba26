"""Policies: what to do in a state. Each maps observations and times to action probabilities."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints, check_probability_rows, numeric, whole_number
from causalrl.errors import PolicyError

PolicyFunction: TypeAlias = Callable[[NDArray[Any], Ints], Floats]


class Policy(ABC):
    """A map from observations (M, d) or states (M,) and times (M,) to probabilities (M, n_actions).

    `stationary` says that the time does not matter, `needs_behavior` that the policy is defined through the behaviour policy,
    `n_states` how many states it has a row for, None where it takes any observation.
    """

    stationary: bool = True
    needs_behavior: bool = False
    n_states: int | None = None

    @abstractmethod
    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        """Action probabilities, (M, n_actions)."""

    def bind(self, n_actions: int, behavior: Policy | None = None) -> Policy:
        """The policy once the number of actions and the behaviour policy are known."""
        return self


PolicyLike: TypeAlias = Policy | PolicyFunction


def as_policy(policy: PolicyLike) -> Policy:
    """A policy object; a plain function `f(observations, time)` becomes one."""
    if isinstance(policy, Policy):
        return policy
    if callable(policy) and not isinstance(policy, type):
        return FunctionPolicy(policy)
    raise PolicyError(
        f"policy: {policy!r} is no policy; pass one of causalrl's, or a function (observations, time) -> probabilities "
        "(M, n_actions)."
    )


def action_probabilities(policy: Policy, observations: NDArray[Any], time: Ints, n_actions: int) -> Floats:
    """Checked probabilities (M, n_actions) of a bound policy.

    Raises:
        PolicyError: for a wrong shape, or a row that is not a distribution.
    """
    returned = policy.probabilities(observations, time)
    try:
        rows = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PolicyError(f"policy {policy}: is not numeric ({error}); return probabilities (M, n_actions).") from error
    if rows.shape != (len(observations), n_actions):
        raise PolicyError(
            f"policy {policy}: probabilities have shape {rows.shape}, expected ({len(observations)}, {n_actions}): "
            "one row an observation, one column an action of the data."
        )
    check_probability_rows(f"policy {policy}", rows, PolicyError)
    return rows


def policy_table(policy: PolicyLike, n_states: int, n_actions: int, horizon: int | None) -> Floats:
    """(1, S, A) probabilities of a stationary policy at every state, or (horizon, S, A) of one that depends on time.

    Raises:
        PolicyError: for a time-dependent policy without a horizon.
    """
    bound = as_policy(policy).bind(n_actions)
    states = np.arange(n_states)
    states.flags.writeable = False
    if not bound.stationary and horizon is None:
        raise PolicyError(f"policy {bound}: depends on time, so its value needs a horizon; pass horizon=H.")
    times = 1 if bound.stationary or horizon is None else horizon
    return np.stack([action_probabilities(bound, states, np.full(n_states, t), n_actions) for t in range(times)])


@dataclass(frozen=True, eq=False)
class FunctionPolicy(Policy):
    """A plain function `f(observations, time) -> (M, n_actions)` as a policy."""

    function: PolicyFunction
    stationary = False

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        return self.function(observations, time)

    def __str__(self) -> str:
        return getattr(self.function, "__name__", "function")


@dataclass(frozen=True)
class Always(Policy):
    """The same action for everybody: an arm.

    Example:
        >>> import numpy as np
        >>> Always(1).bind(n_actions=2).probabilities(np.zeros((2, 1)), np.zeros(2, int))
        array([[0., 1.],
               [0., 1.]])
    """

    action: int
    n_actions: int | None = None

    def __post_init__(self) -> None:
        whole_number("Always", self.action, 0, PolicyError)

    def bind(self, n_actions: int, behavior: Policy | None = None) -> Policy:
        if not 0 <= self.action < n_actions:
            raise PolicyError(f"Always({self.action}): the data have actions 0 to {n_actions - 1}.")
        return replace(self, n_actions=n_actions)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        if self.n_actions is None:
            raise PolicyError(f"Always({self.action}): call bind(n_actions) first, or pass n_actions.")
        rows = np.zeros((len(observations), self.n_actions))
        rows[:, self.action] = 1.0
        return rows

    def __str__(self) -> str:
        return f"Always({self.action})"


@dataclass(frozen=True)
class Uniform(Policy):
    """Every action with the same probability.

    Example:
        >>> import numpy as np
        >>> Uniform(4).probabilities(np.zeros((1, 1)), np.zeros(1, int))
        array([[0.25, 0.25, 0.25, 0.25]])
    """

    n_actions: int

    def __post_init__(self) -> None:
        whole_number("Uniform", self.n_actions, 1, PolicyError)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        return np.full((len(observations), self.n_actions), 1.0 / self.n_actions)


@dataclass(frozen=True, eq=False, repr=False)
class TabularPolicy(Policy):
    """Probabilities from a table (S, A), or (H, S, A) where they depend on time; `PolicyError` for a row that is none.

    Example:
        >>> import numpy as np
        >>> TabularPolicy([[0.2, 0.8], [1.0, 0.0]]).probabilities(np.array([1, 0]), np.array([0, 0]))
        array([[1. , 0. ],
               [0.2, 0.8]])
    """

    table: Floats

    def __post_init__(self) -> None:
        table = numeric("TabularPolicy", self.table)
        if table.ndim not in (2, 3) or not table.size:
            raise PolicyError(f"TabularPolicy: table has shape {table.shape}, expected (S, A) or (H, S, A), none of them 0.")
        check_probability_rows("TabularPolicy", table.reshape(-1, table.shape[-1]), PolicyError)
        table.flags.writeable = False
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "stationary", table.ndim == 2)
        object.__setattr__(self, "n_states", table.shape[-2])

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        if observations.ndim != 1:
            raise PolicyError(f"{self}: takes integer states (M,), got observations of shape {observations.shape}.")
        _check_index(self, "state", observations, self.table.shape[-2])
        if not self.stationary:
            _check_index(self, "time", time, len(self.table), "; pass probabilities for every time, or a shorter horizon")
        rows: Floats = self.table[observations] if self.stationary else self.table[time, observations]
        return rows

    def __repr__(self) -> str:
        return f"TabularPolicy({' x '.join(map(str, self.table.shape))} #{self._digest})"

    @cached_property
    def _digest(self) -> str:
        return hashlib.blake2b(self.table.tobytes(), digest_size=3).hexdigest()


@dataclass(frozen=True, eq=False)
class ClassifierPolicy(Policy):
    """The class probabilities of a fitted scikit-learn classifier whose classes are actions.

    Args:
        model: a fitted classifier with `predict_proba` and `classes_`.
        features: maps observations to the model's inputs; needed for integer states.
        n_actions: number of actions; classes that the model has not seen get probability 0.

    Example:
        >>> import numpy as np
        >>> from sklearn.dummy import DummyClassifier
        >>> model = DummyClassifier(strategy="prior").fit(np.zeros((4, 1)), [0, 1, 1, 1])
        >>> ClassifierPolicy(model).probabilities(np.zeros((1, 1)), np.zeros(1, int))
        array([[0.25, 0.75]])
    """

    model: Any
    features: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    n_actions: int | None = None

    def bind(self, n_actions: int, behavior: Policy | None = None) -> Policy:
        return replace(self, n_actions=n_actions)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        if observations.ndim == 1 and self.features is None:
            raise PolicyError("ClassifierPolicy: integer states need features=, a function from states (M,) to inputs (M, d).")
        inputs = observations if self.features is None else self.features(observations)
        predicted = np.asarray(self.model.predict_proba(inputs), dtype=np.float64)
        classes = np.asarray(self.model.classes_).astype(np.int64)
        count = int(classes.max()) + 1 if self.n_actions is None else self.n_actions
        _check_index(self, "class", classes, count)
        rows = np.zeros((len(observations), count))
        rows[:, classes] = predicted
        return rows

    def __str__(self) -> str:
        return f"ClassifierPolicy({type(self.model).__name__})"


def _check_index(policy: Policy, what: str, index: NDArray[Any], size: int, mend: str = "") -> None:
    bad = (index < 0) | (index >= size)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise PolicyError(f"{policy}: {what} {index[row]} (row {row}) is outside the table, which has {size}{mend}.")
