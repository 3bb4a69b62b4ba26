"""Classic domains of off-policy evaluation, each with the policies, horizon and discount of its paper.

Sources: Thomas & Brunskill, Data-efficient off-policy policy evaluation for reinforcement learning, ICML 2016 (ModelFail,
ModelWin, Hybrid, Gridworld); Hanna, Niekum & Stone, Importance sampling policy evaluation with an estimated behavior
policy, ICML 2019 (SinglePath, the policies of Gridworld); Sutton & Barto (2018), example 6.6 (Cliff).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np

from causalrl.checks import Bools, Floats, number
from causalrl.errors import DataError
from causalrl.policies import TabularPolicy
from simulators.checks import LARGEST_REWARD
from simulators.domain import Domain, ParametricDomain, coin, epsilon_greedy, grid_moves, grid_process
from simulators.tabular import TabularMDP


@dataclass(frozen=True)
class ModelFail(ParametricDomain):
    """Three states that look identical, so that a model of what is observed is wrong (Thomas & Brunskill 2016).

    Action 0 leads to the upper state, 1 to the lower one; the second step pays +1 in the upper, -1 in the lower state.
    V(p) = 2p - 1; a Markov model of the record converges to 0.57 by default. The view "observed" shows only the end.

    Args:
        p_behavior, p_target: probability of action 0 at both steps.

    Raises:
        PolicyError: for a probability outside [0, 1].

    Example:
        >>> domain = ModelFail()
        >>> round(domain.value(domain.target(), domain.horizon), 12)
        -0.76
        >>> domain.sample(1, domain.behavior(), domain.horizon).observations
        array([0, 0])
    """

    p_behavior: float = 0.88
    p_target: float = 0.12
    hidden = ("position",)
    horizon = 2

    @cached_property
    def mdp(self) -> TabularMDP:
        """States 0 start, 1 upper, 2 lower, 3 over."""
        after = np.array([[1, 2], [3, 3], [3, 3], [3, 3]])
        return TabularMDP(
            np.eye(4)[after],
            np.array([[0, 0], [1, 1], [-1, -1], [0, 0]]),
            [1, 0, 0, 0],
            np.arange(4) == 3,
            state_features=[[0, 0], [1, 0], [2, 0], [0, 1]],
            feature_names=("position", "over"),
        )


@dataclass(frozen=True)
class ModelWin(ParametricDomain):
    """A gamble at every other step, where a model wins and importance weights explode (Thomas & Brunskill 2016).

    From state 0, action 0 leads to state 1 with probability 0.4, action 1 with 0.6, else to state 2; entering state 1 pays
    +1, entering state 2 pays -1, and both lead back for nothing. V(p) = ceil(horizon / 2) (0.2 - 0.4 p). With the default
    policies the squared weight of a trajectory has mean 1470.

    Args:
        p_behavior, p_target: probability of action 0 in state 0; elsewhere the policies are uniform.
        horizon: number of steps.

    Raises:
        PolicyError, EstimandError: for a probability outside [0, 1], a horizon below 1.

    Example:
        >>> round(ModelWin().value(ModelWin().target(), horizon=20), 12)
        0.92
    """

    p_behavior: float = 0.73
    p_target: float = 0.27
    horizon: int = 20

    @cached_property
    def mdp(self) -> TabularMDP:
        """States 0 choice, 1 won, 2 lost; no end but the horizon."""
        back = [[1.0, 0.0, 0.0]] * 2
        transitions = np.array([[[0.0, 0.4, 0.6], [0.0, 0.6, 0.4]], back, back])
        return TabularMDP(transitions, [0.0, 1.0, -1.0], [1, 0, 0])

    def _table(self, p: float) -> Floats:
        return np.concatenate([coin(1, p), coin(2, 0.5)])


@dataclass(frozen=True)
class Hybrid(Domain):
    """ModelFail, then ModelWin from its state 0: the value is the sum of both (Thomas & Brunskill 2016).

    Args:
        fail, win: the two halves, with their policies; the view "observed" tells the states of the second half only.

    Raises:
        DataError: for halves that are none.

    Example:
        >>> domain = Hybrid()
        >>> domain.horizon, round(domain.value(domain.target(), domain.horizon), 12)
        (22, 0.16)
    """

    fail: ModelFail = field(default_factory=ModelFail)
    win: ModelWin = field(default_factory=ModelWin)
    hidden = ("position",)

    def __post_init__(self) -> None:
        if not (isinstance(self.fail, ModelFail) and isinstance(self.win, ModelWin)):
            raise DataError(f"fail, win: {self.fail!r}, {self.win!r}; pass a ModelFail and a ModelWin.")

    @property
    def horizon(self) -> int:
        """Number of steps of both halves."""
        return self.fail.horizon + self.win.horizon

    @cached_property
    def mdp(self) -> TabularMDP:
        """States 0-2 of ModelFail, whose end is state 3, the first of the three of ModelWin."""
        first, second, live = self.fail.mdp.dynamics, self.win.mdp.dynamics, 3
        cut = first.indptr[2 * live]
        return TabularMDP.from_sparse(
            np.concatenate([first.indptr[: 2 * live], cut + second.indptr]),
            np.concatenate([first.successors[:cut], live + second.successors]),
            np.concatenate([first.probabilities[:cut], second.probabilities]),
            np.concatenate([first.rewards[:cut], second.rewards]),
            [1, 0, 0, 0, 0, 0],
            state_features=[[0, 0], [1, 0], [2, 0], [0, 1], [0, 2], [0, 3]],
            feature_names=("position", "place"),
        )

    def behavior(self) -> TabularPolicy:
        """That of ModelFail before state 3, that of ModelWin from it on."""
        return _in_turn(self.fail.behavior(), self.win.behavior())

    def target(self) -> TabularPolicy:
        """Put together as `behavior`."""
        return _in_turn(self.fail.target(), self.win.target())


def _in_turn(fail: TabularPolicy, win: TabularPolicy) -> TabularPolicy:
    return TabularPolicy(np.concatenate([fail.table[:1], win.table]))


@dataclass(frozen=True)
class Gridworld(ParametricDomain):
    """The 4 x 4 gridworld of Thomas & Brunskill (2016) with the policies of Hanna, Niekum & Stone (2019).

    Cell x + 4 y; actions 0 right (x + 1), 1 left, 2 up (y + 1), 3 down; from (0, 0) to the goal (3, 3), which ends. Entering
    (1, 1) pays -10, (1, 3) +1, any other cell -1, also where a wall keeps one in place.

    Args:
        p_behavior, p_target: factor of the softmax scores: 1 and 2 are the authors' policies p1 and p2, 0 is uniform.
        goal_reward: paid on entering the goal: 10 in the first paper, 100 in the second.

    Raises:
        DataError, PolicyError: for a goal_reward that is no number, a factor that is negative or above 10^6.

    Example:
        >>> domain = Gridworld(goal_reward=100)
        >>> round(domain.value(domain.target(), domain.horizon), 6)
        86.0903
    """

    p_behavior: float = 1.0
    p_target: float = 2.0
    goal_reward: float = 10.0
    p_largest: ClassVar[float] = 1e6
    horizon = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        number("goal_reward", self.goal_reward, -LARGEST_REWARD, LARGEST_REWARD)

    @cached_property
    def mdp(self) -> TabularMDP:
        """16 cells, of which 15 is the goal."""
        paid = np.full(16, -1.0)
        paid[[5, 13, 15]] = -10.0, 1.0, self.goal_reward
        after = grid_moves(4, 4, [(0, 1), (0, -1), (1, 0), (-1, 0)])
        return grid_process(4, after, paid[after], starts=[0], goal=15)

    def _table(self, p: float) -> Floats:
        scores = np.full((16, 4), -10.0)
        scores[13, 0], scores[13, 2], scores[:12, 2] = 5.0, 10.0, 5.0
        weights = np.exp(p * (scores - scores.max(axis=1, keepdims=True)))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class SinglePath(ParametricDomain):
    """Five steps along a path, where an estimated behaviour policy beats the true one (Hanna, Niekum & Stone 2019).

    Action 0 pays 1 and advances one state, action 1 pays nothing and advances with probability 0.5. V(p) = 5 p.

    Args:
        p_behavior, p_target: probability of action 0.

    Raises:
        PolicyError: for a probability outside [0, 1].

    Example:
        >>> round(SinglePath().value(SinglePath().target(), horizon=5), 12)
        2.0
    """

    p_behavior: float = 0.6
    p_target: float = 0.4
    horizon = 5

    @cached_property
    def mdp(self) -> TabularMDP:
        """States 0-4; no end but the horizon."""
        forth, stay = np.eye(5)[[1, 2, 3, 4, 4]], np.eye(5)
        return TabularMDP(np.stack([forth, (forth + stay) / 2], axis=1), np.tile([1, 0], (5, 1)), [1, 0, 0, 0, 0])


@dataclass(frozen=True)
class Cliff(ParametricDomain):
    """Cliff walking on slippery ground (Sutton & Barto, example 6.6, with a slip), for fitted Q evaluation.

    4 rows of 12 cells; actions 0 up, 1 right, 2 down, 3 left; from (3, 0) to (3, 11), which ends. The cells between are the
    cliff: moving there pays -100 and leads back to the start. Any other move pays -1.

    Args:
        p_behavior, p_target: epsilon, the probability of a uniform action, around the optimal policy of `best`.
        slip: probability that a uniform action replaces the chosen one.

    Raises:
        DataError, PolicyError: for a slip or an epsilon outside [0, 1].

    Example:
        >>> round(Cliff().value(Cliff().target(), horizon=100), 6)
        -28.437474
    """

    p_behavior: float = 0.3
    p_target: float = 0.1
    slip: float = 0.1
    horizon = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        number("slip", self.slip, 0, 1)

    @cached_property
    def mdp(self) -> TabularMDP:
        """48 cells, row by row."""
        start, goal = 36, 47
        after = grid_moves(4, 12, [(-1, 0), (0, 1), (1, 0), (0, -1)])
        fall: Bools = (after > start) & (after < goal)
        return grid_process(12, np.where(fall, start, after), np.where(fall, -100.0, -1.0), [start], goal, self.slip)

    @cached_property
    def best(self) -> TabularPolicy:
        """The optimal policy without a horizon, at discount 1."""
        return self.mdp.optimal_policy(1.0)

    def _table(self, p: float) -> Floats:
        return epsilon_greedy(self.best, p)


@dataclass(frozen=True)
class Chain(ParametricDomain):
    """The ragged chain: every step pays 1, also the last; action 0 stops, action 1 goes on, for at most `horizon` steps.

    V(p) = (1 - (1 - p)^horizon) / p. Estimators that mistreat trajectories of unequal length fail here.

    Args:
        p_behavior, p_target: probability of stopping.
        horizon: largest number of steps.

    Raises:
        PolicyError, EstimandError: for a probability outside [0, 1], a horizon below 1.

    Example:
        >>> round(Chain().value(Chain().target(), horizon=10), 3)
        4.463
    """

    p_behavior: float = 0.3
    p_target: float = 0.2
    horizon: int = 10

    @cached_property
    def mdp(self) -> TabularMDP:
        """States 0 going on, 1 stopped."""
        return TabularMDP([[[0, 1], [1, 0]], [[0, 1], [0, 1]]], [[1, 1], [0, 0]], [1, 0], [False, True])
