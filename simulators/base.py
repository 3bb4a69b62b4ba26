"""`Simulator`: a process that samples trajectories and knows the exact value of every policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from causalrl.checks import Floats
from causalrl.data import Trajectories
from causalrl.policies import PolicyLike, TabularPolicy

if TYPE_CHECKING:
    from simulators.tabular import TabularMDP


@runtime_checkable
class Simulator(Protocol):
    """What benchmarks and tests ask of a simulator with S states and A actions.

    Time starts at t = 0; the reward of step t is paid on arrival in state t + 1, and counts discount^t. `horizon` is a
    number of steps, or None for the whole process. Every number but a sample is exact.
    """

    @property
    def n_states(self) -> int:
        """S."""

    @property
    def n_actions(self) -> int:
        """A."""

    def sample(self, n: int, policy: PolicyLike, horizon: int | None = None, seed: int = 0) -> Trajectories:
        """n trajectories under a policy, with the probabilities of the logged actions."""

    def value(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> float:
        """E[sum over t < horizon of discount^t r_t] under the policy."""

    def q(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> Floats:
        """(H, S, A) value of one action at time t and the policy after it; (S, A) without a horizon."""

    def occupancy(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> Floats:
        """(H, S, A) discount^t P(state and action at time t); their sum over all t, (S, A), without a horizon."""

    def optimal_policy(self, discount: float, horizon: int | None = None) -> TabularPolicy:
        """A best policy: a table (S, A), or (H, S, A) for a horizon."""


class TabularSimulator(ABC):
    """A simulator whose law is a `TabularMDP`; a subclass says which, and adds the policies of its field.

    Every method is that of `mdp`, with its arguments and errors.
    """

    @property
    @abstractmethod
    def mdp(self) -> TabularMDP:
        """The process itself."""

    @property
    def n_states(self) -> int:
        """S."""
        return self.mdp.n_states

    @property
    def n_actions(self) -> int:
        """A."""
        return self.mdp.n_actions

    def sample(self, n: int, policy: PolicyLike, horizon: int | None = None, seed: int = 0) -> Trajectories:
        """See `TabularMDP.sample`."""
        return self.mdp.sample(n, policy, horizon, seed)

    def value(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> float:
        """See `TabularMDP.value`."""
        return self.mdp.value(policy, horizon, discount)

    def q(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> Floats:
        """See `TabularMDP.q`."""
        return self.mdp.q(policy, horizon, discount)

    def occupancy(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> Floats:
        """See `TabularMDP.occupancy`."""
        return self.mdp.occupancy(policy, horizon, discount)

    def optimal_policy(self, discount: float, horizon: int | None = None) -> TabularPolicy:
        """See `TabularMDP.optimal_policy`."""
        return self.mdp.optimal_policy(discount, horizon)
