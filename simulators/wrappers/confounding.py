"""A logger that knows the luck of the next step: the arithmetic of the wrapper `Confounded`.

At a confounded step a fresh U, 0 or 1 with probability 1/2 each, tilts the logger's choice between two sets of actions,
and is the first bit of the uniform number that draws the successor: a patient with U = 1 gets one from the better half of
the row. Over U both the policy and the transition law are what they were, so no value changes; but the record shows a law
of the successor given state and action that is not the law of the process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from causalrl.checks import Floats
from simulators.mdp import planning
from simulators.mdp.dynamics import Dynamics, row_cumulative
from simulators.tabular import TabularMDP

RANKING_DISCOUNT = 0.99

Shift = Callable[[Floats, float], Floats]


def rosenbaum_shift(share: Floats, gamma: float) -> Floats:
    """Largest d such that the odds of share + d are at most gamma times those of share - d.

    The root of (gamma - 1) d^2 - (gamma + 1) d + (gamma - 1) share (1 - share) = 0 in its stable form.
    """
    product = share * (1 - share)
    root = np.sqrt((gamma + 1) ** 2 - 4 * (gamma - 1) ** 2 * product)
    return np.asarray(2 * (gamma - 1) * product / (gamma + 1 + root))


def marginal_shift(share: Floats, gamma: float) -> Floats:
    """Largest d such that the odds of share + d and of share - d differ from those of share by a factor of gamma at most."""
    product = (gamma - 1) * share * (1 - share)
    return np.asarray(product / np.maximum(gamma * share + 1 - share, share + gamma * (1 - share)))


MODELS: dict[str, Shift] = {"rosenbaum": rosenbaum_shift, "marginal": marginal_shift}


def tilted(tables: Floats, shift: Shift, gamma: float) -> tuple[Floats, Floats]:
    """The policy (..., A) given U = 0 and given U = 1; their mean is the policy.

    U = 1 makes the upper half of the actions (those from A / 2 on) likelier as a set, within which nothing changes: so no
    odds ratio of two actions between the values of U exceeds that of the two sets.
    """
    upper = np.arange(tables.shape[-1]) >= tables.shape[-1] / 2
    share = tables[..., upper].sum(axis=-1, keepdims=True)
    change = shift(np.clip(share, 0.0, 1.0), gamma)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = np.where(upper, change / share, -change / (1 - share))
    step = np.where(change > 0, tables * factor, 0.0)
    return tables - step, tables + step


def ranked(mdp: TabularMDP) -> Dynamics:
    """The law with the successors of every row from bad to good.

    Good is reward + 0.99 v of the successor, v the value of choosing at random without end of time; equal ones go by index.
    """
    dynamics = mdp.dynamics
    uniform = np.full((mdp.n_states, mdp.n_actions), 1 / mdp.n_actions)
    values = planning.stationary_values(dynamics, uniform, ~mdp.terminal, RANKING_DISCOUNT)
    prospects = np.round(dynamics.rewards + RANKING_DISCOUNT * values[dynamics.successors], 9)
    return dynamics.reordered(np.lexsort((dynamics.successors, prospects, dynamics.rows)))


def half(law: Dynamics, u: int) -> Dynamics:
    """The law of the successor given U = u: the lower or the upper half of each ranked row, doubled."""
    above = row_cumulative(law.indptr, law.probabilities)
    below = np.concatenate([[0.0], above[:-1]])
    below[law.indptr[:-1]] = 0.0
    low, high = u / 2, (u + 1) / 2
    inside = np.clip(above, low, high) - np.clip(below, low, high)
    return replace(law, probabilities=2 * np.maximum(inside, 0.0))
