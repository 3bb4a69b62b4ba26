"""Policies made of other policies, or of the behaviour policy itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints, check_probability_rows
from causalrl.errors import PolicyError
from causalrl.policies import Policy, PolicyLike, as_policy


@dataclass(frozen=True, eq=False)
class Mixture(Policy):
    """At every decision, follow policy k with probability weights[k].

    Raises:
        PolicyError: where the weights are no distribution, or two policies have tables of different sizes.

    Example:
        >>> import numpy as np
        >>> from causalrl import Always, Uniform
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
        sizes = sorted({part.n_states for part in parts if part.n_states is not None})
        if len(sizes) > 1:
            raise PolicyError(f"Mixture: its policies have tables of {sizes} states; mix policies of the same states.")
        object.__setattr__(self, "policies", parts)
        object.__setattr__(self, "n_states", sizes[0] if sizes else None)
        object.__setattr__(self, "weights", tuple(float(weight) for weight in weights))
        object.__setattr__(self, "stationary", all(part.stationary for part in parts))
        object.__setattr__(self, "needs_behavior", any(part.needs_behavior for part in parts))

    def bind(self, n_actions: int, behavior: Policy | None = None) -> Policy:
        return Mixture([part.bind(n_actions, behavior) for part in self.policies], self.weights)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        parts = [policy.probabilities(observations, time) for policy in self.policies]
        widths = sorted({part.shape[1] for part in parts})
        if len(widths) > 1:
            raise PolicyError(f"Mixture: its policies give {widths} actions; mix policies over the same actions.")
        return np.tensordot(self.weights, parts, axes=1)


@dataclass(frozen=True, eq=False)
class Softened(Policy):
    """(1 - epsilon) policy + epsilon uniform: a new policy with its own value, never a repair of the old one.

    Raises:
        PolicyError: for epsilon outside [0, 1].

    Example:
        >>> import numpy as np
        >>> from causalrl import Always
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
        object.__setattr__(self, "n_states", inner.n_states)
        object.__setattr__(self, "epsilon", float(epsilon))
        object.__setattr__(self, "stationary", inner.stationary)
        object.__setattr__(self, "needs_behavior", inner.needs_behavior)

    def bind(self, n_actions: int, behavior: Policy | None = None) -> Policy:
        return Softened(self.policy.bind(n_actions, behavior), self.epsilon)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        rows = self.policy.probabilities(observations, time)
        values: Floats = (1 - self.epsilon) * rows + self.epsilon / rows.shape[1]
        return values


@dataclass(frozen=True)
class NaturalCourse(Policy):
    """The behaviour policy itself: what the clinicians did.

    Example:
        >>> from causalrl import Uniform
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
        >>> from causalrl import Uniform
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
