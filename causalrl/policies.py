"""Policies: what to do in a state. Each maps observations and times to action probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints, check_probability_rows
from causalrl.errors import PolicyError

PolicyFunction: TypeAlias = Callable[[NDArray[Any], Ints], Floats]


class Policy(ABC):
    """A map from observations (M, d) or states (M,) and times (M,) to probabilities (M, n_actions).

    `stationary` says that the time does not matter, `needs_behavior` that the policy is defined through the behaviour policy.
    """

    stationary: bool = True
    needs_behavior: bool = False

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
    if callable(policy):
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
    rows = np.asarray(policy.probabilities(observations, time), dtype=np.float64)
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

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        return np.full((len(observations), self.n_actions), 1.0 / self.n_actions)


@dataclass(frozen=True, eq=False, repr=False)
class TabularPolicy(Policy):
    """Probabilities from a table (S, A), or (H, S, A) where they depend on time.

    Raises:
        PolicyError: for a row that is not a distribution.

    Example:
        >>> import numpy as np
        >>> TabularPolicy([[0.2, 0.8], [1.0, 0.0]]).probabilities(np.array([1, 0]), np.array([0, 0]))
        array([[1. , 0. ],
               [0.2, 0.8]])
    """

    table: Floats

    def __post_init__(self) -> None:
        table = np.array(self.table, dtype=np.float64)
        if table.ndim not in (2, 3):
            raise PolicyError(f"TabularPolicy: table has shape {table.shape}, expected (S, A) or (H, S, A).")
        check_probability_rows("TabularPolicy", table.reshape(-1, table.shape[-1]), PolicyError)
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "stationary", table.ndim == 2)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        if observations.ndim != 1:
            raise PolicyError(f"{self}: takes integer states (M,), got observations of shape {observations.shape}.")
        _check_index(self, "state", observations, self.table.shape[-2])
        if self.stationary:
            return self.table[observations]
        _check_index(self, "time", time, len(self.table))
        return self.table[time, observations]

    def __repr__(self) -> str:
        return f"TabularPolicy{self.table.shape}"


@dataclass(frozen=True, eq=False)
class Mixture(Policy):
    """At every decision, follow policy k with probability weights[k].

    Raises:
        PolicyError: where the weights are no distribution.

    Example:
        >>> import numpy as np
        >>> half = Mixture([Always(0), Uniform(2)], [0.5, 0.5]).bind(n_actions=2)
        >>> half.probabilities(np.zeros((1, 1)), np.zeros(1, int))
        array([[0.75, 0.25]])
    """

    policies: tuple[Policy, ...]
    weights: tuple[float, ...]

    def __init__(self, policies: Sequence[PolicyLike], weights: Sequence[float]) -> None:
        if len(policies) != len(weights) or not policies:
            raise PolicyError(f"Mixture: {len(policies)} policies and {len(weights)} weights; pass one weight a policy.")
        check_probability_rows("Mixture weights", np.array([weights], dtype=np.float64), PolicyError)
        parts = tuple(as_policy(policy) for policy in policies)
        object.__setattr__(self, "policies", parts)
        object.__setattr__(self, "weights", tuple(float(weight) for weight in weights))
        object.__setattr__(self, "stationary", all(part.stationary for part in parts))
        object.__setattr__(self, "needs_behavior", any(part.needs_behavior for part in parts))

    def bind(self, n_actions: int, behavior: Policy | None = None) -> Policy:
        return Mixture([part.bind(n_actions, behavior) for part in self.policies], self.weights)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        parts = [w * policy.probabilities(observations, time) for policy, w in zip(self.policies, self.weights, strict=True)]
        return np.sum(parts, axis=0)


@dataclass(frozen=True, eq=False)
class Softened(Policy):
    """(1 - epsilon) policy + epsilon uniform: a new policy with its own value, never a repair of the old one.

    Raises:
        PolicyError: for epsilon outside [0, 1].

    Example:
        >>> import numpy as np
        >>> Softened(Always(1), 0.2).bind(n_actions=2).probabilities(np.zeros((1, 1)), np.zeros(1, int))
        array([[0.1, 0.9]])
    """

    policy: Policy
    epsilon: float

    def __init__(self, policy: PolicyLike, epsilon: float) -> None:
        if not 0 <= epsilon <= 1:
            raise PolicyError(f"Softened: epsilon is {epsilon}, outside [0, 1].")
        inner = as_policy(policy)
        object.__setattr__(self, "policy", inner)
        object.__setattr__(self, "epsilon", float(epsilon))
        object.__setattr__(self, "stationary", inner.stationary)
        object.__setattr__(self, "needs_behavior", inner.needs_behavior)

    def bind(self, n_actions: int, behavior: Policy | None = None) -> Policy:
        return Softened(self.policy.bind(n_actions, behavior), self.epsilon)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        rows = self.policy.probabilities(observations, time)
        return (1 - self.epsilon) * rows + self.epsilon / rows.shape[1]


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


@dataclass(frozen=True)
class NaturalCourse(Policy):
    """The behaviour policy itself: what the clinicians did.

    Example:
        >>> NaturalCourse().bind(2, behavior=Uniform(2))
        Uniform(n_actions=2)
    """

    needs_behavior = True

    def bind(self, n_actions: int, behavior: Policy | None = None) -> Policy:
        return _require_behavior(self, behavior)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        raise PolicyError("NaturalCourse: bind it to a behaviour policy first; estimators do so by themselves.")


@dataclass(frozen=True)
class TiltedPropensity(Policy):
    """Incremental propensity-score intervention: the odds of treatment multiplied by delta (Kennedy 2019, eq. 1).

    pi(1 | x) = delta e(x) / (delta e(x) + 1 - e(x)), two actions.

    Raises:
        PolicyError: for delta <= 0 or more than two actions.

    Example:
        >>> import numpy as np
        >>> TiltedPropensity(3.0).bind(2, behavior=Uniform(2)).probabilities(np.zeros((1, 1)), np.zeros(1, int))
        array([[0.25, 0.75]])
    """

    delta: float
    behavior: Policy | None = None
    needs_behavior = True

    def __post_init__(self) -> None:
        if not (np.isfinite(self.delta) and self.delta > 0):
            raise PolicyError(f"TiltedPropensity: delta is {self.delta}; an odds multiplier is finite and above 0.")

    def bind(self, n_actions: int, behavior: Policy | None = None) -> Policy:
        if n_actions != 2:
            raise PolicyError(f"TiltedPropensity: defined for two actions, the data have {n_actions}.")
        return replace(self, behavior=_require_behavior(self, behavior))

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        if self.behavior is None:
            raise PolicyError("TiltedPropensity: bind it to a behaviour policy first; estimators do so by themselves.")
        treated = self.behavior.probabilities(observations, time)[:, 1]
        tilted = self.delta * treated / (self.delta * treated + 1 - treated)
        return np.column_stack([1 - tilted, tilted])


def _require_behavior(policy: Policy, behavior: Policy | None) -> Policy:
    if behavior is None:
        raise PolicyError(f"{policy}: is defined by the behaviour policy, and none is known here.")
    return behavior


def _check_index(policy: Policy, what: str, index: NDArray[Any], size: int) -> None:
    bad = (index < 0) | (index >= size)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise PolicyError(f"{policy}: {what} {index[row]} (row {row}) is outside the table, which has {size}.")
