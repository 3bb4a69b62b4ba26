"""`Simulator`: what benchmarks and tests ask of a process that samples trajectories and knows the exact value of every policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from causalrl.checks import Floats
from causalrl.data import Trajectories
from causalrl.policies import PolicyLike, TabularPolicy

if TYPE_CHECKING:
    from gymnasium import Env


@runtime_checkable
class Simulator(Protocol):
    """What benchmarks and tests ask of a simulator with S states and A actions.

    Time starts at t = 0; the reward of step t is paid on arrival in state t + 1, and counts discount^t. `horizon` is a
    number of steps, or None for the whole process. Every number but a sample is exact.

    Example:
        >>> from simulators import ModelWin, TumourSimulator
        >>> isinstance(ModelWin(), Simulator), isinstance(TumourSimulator(), Simulator)  # a tumour has no finite state
        (True, False)
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

    def efficiency_bound(
        self, target: PolicyLike, behavior: PolicyLike, horizon: int, discount: float = 1.0, model: str = "history"
    ) -> float:
        """Smallest asymptotic variance per trajectory of a regular estimator of the target's value."""

    def env(self, horizon: int | None = None, render_mode: str | None = None) -> Env[Any, Any]:
        """A gymnasium environment."""
