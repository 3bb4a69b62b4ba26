"""What a log holds, whatever the target: lengths, ends, rewards, actions, and states where some action was never tried."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.data import End, Trajectories

_SHOWN = 10


@dataclass(frozen=True, eq=False)
class StateGaps:
    """Visited states in which some action of the log was never taken.

    Attributes:
        visited, n_states: states that occur among the decisions, and states in all.
        gaps: visited states with a gap. share: of the decisions that are made in them.
        examples: (state, visits, actions never taken there) of the ten most visited ones.
    """

    visited: int
    n_states: int
    gaps: int
    share: float
    examples: tuple[tuple[int, int, tuple[int, ...]], ...]


@dataclass(frozen=True, eq=False)
class LogFacts:
    """The log in numbers.

    Attributes:
        n, decisions, clusters: trajectories, decisions and independent units.
        shortest, median, longest: lengths of the trajectories.
        ends: (3,) trajectories terminated, truncated and censored.
        final_observations: whether what follows the last decision is known.
        arms: (K,) actions that occur. counts: (K,) decisions of each. mean_reward, sd_reward: (K,) reward after each.
        n_actions: how many actions there are, 0 for continuous ones.
        rewards: (least, mean, largest) of a decision. returns: the same of undiscounted sums over a trajectory.
        states: None where observations are vectors, or actions continuous.
    """

    n: int
    decisions: int
    clusters: int
    shortest: int
    median: float
    longest: int
    ends: Ints
    final_observations: bool
    arms: Ints
    counts: Ints
    mean_reward: Floats
    sd_reward: Floats
    n_actions: int
    rewards: tuple[float, float, float]
    returns: tuple[float, float, float]
    states: StateGaps | None

    @property
    def one_decision(self) -> bool:
        """Every trajectory is a single decision after which nothing follows."""
        return self.longest == 1 and self.ends[End.TERMINATED] == self.n


def log_facts(data: Trajectories) -> LogFacts:
    """Describe a log.

    Example:
        >>> from causalrl.data import Trajectories
        >>> facts = log_facts(Trajectories.from_arrays([0, 1, 0], [1, 0, 1], [0.0, 1.0, 0.5], [0, 2, 3]))
        >>> facts.counts, facts.returns, facts.states.examples
        (array([1, 2]), (0.5, 0.75, 1.0), ((0, 2, (0,)), (1, 1, (1,))))
    """
    arms, codes = np.unique(data.actions, return_inverse=True) if data.n_actions else (np.empty(0, np.int64), None)
    groups = [] if codes is None else [data.rewards[codes == k] for k in range(len(arms))]
    return LogFacts(
        data.n,
        len(data.rewards),
        int(data.clusters.max()) + 1,
        int(data.lengths.min()),
        float(np.median(data.lengths)),
        int(data.lengths.max()),
        np.bincount(data.end, minlength=len(End)),
        data.final_observations is not None,
        arms,
        np.array([len(group) for group in groups], np.int64),
        np.array([group.mean() for group in groups]),
        np.array([group.std(ddof=1) if len(group) > 1 else 0.0 for group in groups]),
        data.n_actions,
        _range(data.rewards),
        _range(np.add.reduceat(data.rewards, data.offsets[:-1])),
        _state_gaps(data, arms) if data.tabular and data.n_actions else None,
    )


def _range(values: Floats) -> tuple[float, float, float]:
    return float(values.min()), float(values.mean()), float(values.max())


def _state_gaps(data: Trajectories, arms: Ints) -> StateGaps:
    states, state = np.unique(data.observations, return_inverse=True)
    taken = np.zeros((len(states), len(arms)), np.int64)
    np.add.at(taken, (state, np.searchsorted(arms, data.actions)), 1)
    visits = taken.sum(axis=1)
    gaps = np.flatnonzero((taken == 0).any(axis=1))
    worst = gaps[np.argsort(-visits[gaps], kind="stable")][:_SHOWN]
    examples = tuple((int(states[s]), int(visits[s]), tuple(int(arm) for arm in arms[taken[s] == 0])) for s in worst)
    return StateGaps(len(states), data.n_states, len(gaps), float(visits[gaps].sum() / visits.sum()), examples)
