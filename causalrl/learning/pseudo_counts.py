"""Pseudo-counts of the terminal states of a record, before it is made coarser (Oberst & Sontag 2019)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Floats, Ints, integers, number
from causalrl.data import Steps
from causalrl.errors import DataError
from causalrl.nuisances.model import Decisions


@dataclass(frozen=True, eq=False, repr=False)
class TerminalPseudoCounts:
    """Every terminal state that occurs in the data leads, under each action, to its end with `count` pseudo-transitions.

    A terminated record then arrives in its terminal state (its final observation), earns nothing there, and earns its last
    reward on the way from there to an end, one step later; the mean last reward of the records that stop in a terminal state is
    its outcome, and each distinct outcome (death -1, discharge +1) is an end of its own. Where a projection merges terminal with
    live states, the pseudo-counts mix with the logged transitions of the latter. That is what the published model does, and it
    makes the model optimistic: a rarely logged action ends well there more often than one logged often.

    Only the model sees them: a behaviour policy counts the logged decisions.

    Source: Oberst & Sontag (2019), Counterfactual off-policy evaluation with Gumbel-max structural causal models, and their
    repository clinicalml/gumbel-max-scm.

    Args:
        projection: (n_states,) coarser state, from 0, of each state of the data; None leaves the states as they are.
        count: weight of each pseudo-transition, above 0.

    Raises:
        DataError: for a projection that is no vector of whole numbers from 0, or a count that is not positive.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 1, 0], [0, 0, 1], [0.0, 1.0, -1.0], [0, 2, 3], final_observations=[2, 3])
        >>> mdp = crl.learning.EmpiricalMDP(0.9, pseudo_counts=TerminalPseudoCounts([0, 1, 1, 0])).fit(data)
        >>> mdp.policy().table.shape, int(mdp.model.terminal.sum())  # two states, two ends
        ((2, 2), 2)
    """

    projection: Ints | None
    count: float

    def __init__(self, projection: ArrayLike | None = None, count: float = 1.0) -> None:
        codes = None if projection is None else integers("projection", projection)
        if codes is not None and (codes.ndim != 1 or not codes.size or (codes < 0).any()):
            raise DataError("projection: pass (n_states,) whole numbers from 0, the coarser state of each state of the data.")
        object.__setattr__(self, "projection", codes)
        object.__setattr__(self, "count", number("count", count, np.nextafter(0.0, 1.0)))

    def __repr__(self) -> str:
        size = "" if self.projection is None else f"{len(self.projection)} states to {self.projection.max() + 1}, "
        return f"TerminalPseudoCounts({size}count={self.count:g})"

    def codes(self, n_states: int) -> Ints:
        """(n_states,) the state of the model of each state of the data.

        Raises:
            DataError: for a projection of another number of states.
        """
        codes = np.arange(n_states) if self.projection is None else self.projection
        if len(codes) != n_states:
            raise DataError(f"projection: {len(codes)} states, but the data have {n_states}; pass one coarser state for each.")
        return codes

    def decisions(self, steps: Steps) -> tuple[Decisions, Floats]:
        """The logged decisions, projected, followed by the pseudo-transitions; and the outcome (K,) of each end.

        Raises:
            DataError: where records terminate and their final states are not known.
        """
        logged, n_actions = Decisions.logged(steps, np.ones(len(steps))), steps.data.n_actions
        ends = ~steps.continues
        if ends.any() and steps.data.final_observations is None:
            raise DataError(
                "final_observations: TerminalPseudoCounts needs the state in which each record terminated, and the data have "
                "none; pass final_observations."
            )
        codes = self.codes(steps.data.n_states)
        terminal, outcome = _mean_by_state(steps.next_observations[ends], steps.rewards[ends])
        outcomes, end = np.unique(outcome, return_inverse=True)
        pseudo = (codes[terminal][:, None] * n_actions + np.arange(n_actions)).reshape(-1)
        projected = codes[steps.observations] * n_actions + steps.actions
        joined = Decisions(
            np.concatenate([projected, pseudo]),
            np.concatenate([np.where(ends, 0.0, steps.rewards), np.repeat(outcome, n_actions)]),
            np.concatenate([logged.weights, np.full(len(pseudo), self.count)]),
            np.concatenate([logged.known, np.ones(len(pseudo), np.bool_)]),
            np.concatenate([codes[steps.next_observations], np.repeat(int(codes.max()) + 1 + end, n_actions)]),
        )
        return joined, outcomes


def _mean_by_state(states: Ints, rewards: Floats) -> tuple[Ints, Floats]:
    """Distinct states and the mean reward in each."""
    distinct, index = np.unique(states, return_inverse=True)
    return distinct, np.bincount(index, rewards, len(distinct)) / np.bincount(index, minlength=len(distinct))
