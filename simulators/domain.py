"""What the domains of the literature share: a horizon, a discount, a pair of policies; processes on grids."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from causalrl.checks import Floats, Ints, number
from causalrl.errors import PolicyError
from causalrl.policies import TabularPolicy
from simulators.base import TabularSimulator
from simulators.checks import check_time
from simulators.tabular import TabularMDP
from simulators.views import View


class Domain(TabularSimulator):
    """A process of the literature with the evaluation problem of its paper.

    What is sought is `value(target(), horizon, discount)`, from data under `behavior()`. The view "observed", the default,
    is what the paper's estimators see.
    """

    default_view: ClassVar[str] = "observed"

    @property
    @abstractmethod
    def horizon(self) -> int:
        """Number of steps."""

    @property
    def discount(self) -> float:
        """Discount of the return."""
        return 1.0

    @property
    def hidden(self) -> tuple[str, ...]:
        """Features of the state that are not observed."""
        return ()

    @property
    def views(self) -> Mapping[str, View]:
        """ "full": the state; "observed": the state without what is hidden."""
        return MappingProxyType({"full": self.mdp.full_view, "observed": self._observed})

    @cached_property
    def _observed(self) -> View:
        return self.mdp.full_view.hide(self.hidden)

    @abstractmethod
    def behavior(self) -> TabularPolicy:
        """The policy that logs the data, on the records of "observed"."""

    @abstractmethod
    def target(self) -> TabularPolicy:
        """The policy that is evaluated, on the records of "observed"."""


@dataclass(frozen=True)
class ParametricDomain(Domain):
    """A domain whose policies have one parameter p, in most the probability of action 0 of two.

    Attributes:
        p_behavior: p of the behaviour policy.
        p_target: p of the target policy.
        p_largest: the largest p.

    Raises:
        PolicyError: for p_behavior or p_target out of range.
        EstimandError: for a horizon or discount out of range.

    Example:
        >>> from simulators import ModelWin
        >>> domain = ModelWin()
        >>> [round(domain.value(domain.policy(p), domain.horizon), 12) for p in (0, domain.p_target, 1)]
        [2.0, 0.92, -2.0]
    """

    p_behavior: float
    p_target: float

    p_largest: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        check_time(self.horizon, self.discount, endless=False)
        for name in ("p_behavior", "p_target"):
            number(name, getattr(self, name), 0, self.p_largest, PolicyError)

    def policy(self, p: float) -> TabularPolicy:
        """The policy with parameter p, on the records of "observed".

        Raises:
            PolicyError: for p out of range.
        """
        return TabularPolicy(self._table(number("p", p, 0, self.p_largest, PolicyError)))

    def behavior(self) -> TabularPolicy:
        """`policy(p_behavior)`, which logs the data."""
        return self.policy(self.p_behavior)

    def target(self) -> TabularPolicy:
        """`policy(p_target)`, which is evaluated."""
        return self.policy(self.p_target)

    def _table(self, p: float) -> Floats:
        """(R, A) probabilities; action 0 of two with probability p in every record, unless a subclass says otherwise."""
        return coin(self.view().n_records, p)


def coin(n_records: int, p: float) -> Floats:
    """(R, 2) action 0 with probability p in every record."""
    return np.tile([p, 1 - p], (n_records, 1))


def epsilon_greedy(best: TabularPolicy, epsilon: float) -> Floats:
    """(S, A) the best action with probability 1 - epsilon, else a uniform one."""
    return np.asarray((1 - epsilon) * best.table + epsilon / best.table.shape[-1])


def grid_moves(height: int, width: int, moves: Sequence[tuple[int, int]]) -> Ints:
    """(S, A) cell that each move (rows, columns) leads to, in a grid numbered row by row; a wall keeps one in place."""
    row, column = np.divmod(np.arange(height * width)[:, None], width)
    down, right = np.array(moves).T
    return np.asarray(np.clip(row + down, 0, height - 1) * width + np.clip(column + right, 0, width - 1))


def grid_process(width: int, after: Ints, paid: Floats, starts: Sequence[int], goal: int, slip: float = 0.0) -> TabularMDP:
    """Moves in a grid that ends at a goal; with probability `slip` a uniform action replaces the chosen one.

    Args:
        width: number of columns.
        after: (S, A) cell that each move leads to.
        paid: (S, A) reward of each move.
        starts: cells in which the process starts, each as likely.
        goal: terminal cell.
        slip: in [0, 1].
    """
    cells, n_actions = np.arange(len(after)), after.shape[1]
    end = cells == goal
    after, paid = np.where(end[:, None], goal, after), np.where(end[:, None], 0.0, paid)
    taken = (1 - slip) * np.eye(n_actions) + slip / n_actions
    places = {name: place for name, place in zip(("row", "column"), np.divmod(cells, width), strict=True) if place.any()}
    return TabularMDP.from_sparse(
        np.arange(after.size + 1) * n_actions,
        np.repeat(after, n_actions, axis=0).reshape(-1),
        np.tile(taken, (len(cells), 1)).reshape(-1),
        np.repeat(paid, n_actions, axis=0).reshape(-1),
        np.isin(cells, starts) / len(starts),
        end,
        state_features=np.stack([*places.values()], axis=1),
        feature_names=[*places],
    )
