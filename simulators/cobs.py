"""Domains of the Caltech OPE benchmarking suite (COBS): graph and graph-POMDP, 8 x 8 gridworld, toy mountain car.

Source: Voloshin, Le, Jiang & Yue, Empirical study of off-policy policy evaluation for reinforcement learning, NeurIPS
datasets and benchmarks 2021 (arXiv 1911.06854), and the rules of its repository clvoloshin/COBS.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from causalrl.checks import Floats, number, whole_number
from causalrl.errors import DataError
from causalrl.policies import TabularPolicy
from simulators.checks import LARGEST_REWARD
from simulators.domain import ParametricDomain, coin, epsilon_greedy, grid_moves, grid_process
from simulators.tabular import TabularMDP

GRID = ("........", "..f.h...", "...h..f.", ".f...h.f", "...h..f.", ".hh.f.h.", ".h..h.h.", "...h.f.G")
"""Cells of the gridworld, row by row: `.` ground, `f` field, `h` hole, `G` goal."""

GRID_REWARDS = {".": -0.01, "f": -0.005, "h": -0.5, "G": 1.0}
"""Paid on entering a cell."""

PLANNING_DISCOUNT = 0.99
"""Of the policy around which those of the gridworld are drawn."""


@dataclass(frozen=True)
class CobsGraph(ParametricDomain):
    """A binary choice at every depth of a graph; with `groups`, the graph-POMDP, which hides most of the node.

    From node 0, action 0 aims at the upper and action 1 at the lower node of the next depth, 2d - 1 and 2d at depth d =
    1, ..., horizon - 1. Entering an upper node pays +1, a lower one -1; the last step ends with +1 from the upper and -1 from
    the lower node of the last depth.

    Args:
        p_behavior, p_target: probability of action 0, in the paper 0.2 k for k = 1, ..., 4, or 0.001 for k = 0.
        horizon: T, number of steps; the paper has 4 and 16.
        slip: probability of the other node; in the paper 0.25 or, deterministic, 0.
        sparse: only the last step pays.
        reward_noise: standard deviation of normal noise on every reward; the paper's stochastic rewards have 1.
        groups: k, number of observed states: nodes 1 to 2T - 2 are cut in order into k - 1 groups 0 to k - 2; node 0 looks as
            group 0, and the end as k - 1. The paper has (T, k) = (2, 2) and (16, 6). None: the node is observed.

    Raises:
        DataError: for a horizon below 2, a slip, reward_noise or sparse that is none, or fewer than 2 or more than 2T - 1 groups.
        PolicyError: for a probability of action 0 outside [0, 1].

    Example:
        >>> graph = CobsGraph(horizon=16, sparse=True, groups=6)
        >>> round(graph.value(graph.target(), graph.horizon, graph.discount), 6)
        -0.221571
        >>> graph.sample(1, graph.behavior(), graph.horizon).n_states
        6
    """

    p_behavior: float = 0.8
    p_target: float = 0.2
    horizon: int = 4
    slip: float = 0.25
    sparse: bool = False
    reward_noise: float = 0.0
    groups: int | None = None
    discount = 0.98

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_number("horizon", self.horizon, 2)
        number("slip", self.slip, 0, 1)
        number("reward_noise", self.reward_noise, 0, LARGEST_REWARD)
        if not isinstance(self.sparse, bool | np.bool_):
            raise DataError(f"sparse: {self.sparse!r}; pass True or False.")
        if self.groups is not None:
            whole_number("groups", self.groups, 2, most=2 * self.horizon - 1)

    @property
    def hidden(self) -> tuple[str, ...]:
        """What the POMDP hides."""
        return () if self.groups is None else ("depth", "upper")

    @cached_property
    def mdp(self) -> TabularMDP:
        """Nodes 0 to 2T - 2, and the end, 2T - 1."""
        nodes, over = np.arange(2 * self.horizon), 2 * self.horizon - 1
        depth, live = (nodes + 1) // 2, (nodes > 0) & (nodes < over)
        sign = np.where(live, np.where(nodes % 2, 1.0, -1.0), 0.0)
        after = np.minimum(np.stack([2 * depth + 1, 2 * depth + 2], axis=1), over)
        paid = np.zeros(after.shape) if self.sparse else sign[after]
        paid[over - 2 : over] = sign[over - 2 : over, None]
        features = {"depth": depth, "upper": sign > 0}
        if self.groups is not None:
            cut = np.array_split(nodes[live], self.groups - 1)
            features["group"] = np.repeat([0, *range(self.groups)], [1, *map(len, cut), 1])
        return TabularMDP.from_sparse(
            np.arange(2 * len(nodes) + 1) * 2,
            np.repeat(after, 2, axis=0).reshape(-1),
            np.tile([1 - self.slip, self.slip, self.slip, 1 - self.slip], len(nodes)),
            np.repeat(paid, 2, axis=0).reshape(-1),
            nodes == 0,
            nodes == over,
            state_features=np.stack([*features.values()], axis=1),
            feature_names=[*features],
            reward_noise=self.reward_noise,
        )


@dataclass(frozen=True)
class CobsGridworld(ParametricDomain):
    """The 8 x 8 gridworld: holes that hurt but do not end, a goal that ends.

    Cell 8 row + column; actions 0 left, 1 right, 2 up, 3 down. The reward is that of the cell that is entered, also where a
    wall keeps one in place. Starts are the 15 cells of the first row and the first column, each as likely.

    Args:
        p_behavior, p_target: epsilon, the probability of a uniform action, around the policy of `best`; the paper's
            behaviour policies have 0.2 to 1.
        slip: probability that a uniform action replaces the chosen one.
        discount: 0.98 in the base configuration of the repository, 0.96 in the grid of the paper.

    Raises:
        DataError: for a slip outside [0, 1].
        PolicyError: for an epsilon outside [0, 1].
        EstimandError: for a discount outside [0, 1].

    Example:
        >>> domain = CobsGridworld()
        >>> round(domain.value(domain.target(), domain.horizon, domain.discount), 6)
        0.312958
    """

    p_behavior: float = 0.6
    p_target: float = 0.1
    slip: float = 0.2
    discount: float = 0.98
    horizon = 25

    def __post_init__(self) -> None:
        super().__post_init__()
        number("slip", self.slip, 0, 1)

    @cached_property
    def mdp(self) -> TabularMDP:
        """64 cells, of which 63 is the goal."""
        paid = np.array([GRID_REWARDS[cell] for cell in "".join(GRID)])
        after = grid_moves(8, 8, [(0, -1), (0, 1), (-1, 0), (1, 0)])
        return grid_process(8, after, paid[after], [*range(8), *range(8, 64, 8)], goal=63, slip=self.slip)

    @cached_property
    def best(self) -> TabularPolicy:
        """The optimal policy of the grid without slip at discount 0.99, as in the repository."""
        return replace(self, slip=0.0).mdp.optimal_policy(PLANNING_DISCOUNT)

    def _table(self, p: float) -> Floats:
        return epsilon_greedy(self.best, p)


@dataclass(frozen=True)
class ToyMountainCar(ParametricDomain):
    """A walk on the line from -10 to 11 that starts at 0, costs 1 a step, is blocked at -10 and ends at 11.

    State = position + 10; actions 0 left, 1 right.

    Args:
        p_behavior, p_target: probability of going right.

    Raises:
        PolicyError: for a probability outside [0, 1].

    Example:
        >>> domain = ToyMountainCar()
        >>> round(domain.value(domain.target(), domain.horizon, domain.discount), 6)
        -91.89413
    """

    p_behavior: float = 0.8
    p_target: float = 0.2
    horizon = 250
    discount = 0.99

    @cached_property
    def mdp(self) -> TabularMDP:
        """22 positions, of which the last is the end."""
        after = grid_moves(1, 22, [(0, -1), (0, 1)])
        return grid_process(22, after, np.full(after.shape, -1.0), starts=[10], goal=21)

    def _table(self, p: float) -> Floats:
        return coin(22, 1 - p)
