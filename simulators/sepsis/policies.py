"""Policies of the sepsis simulator made of other policies, by moving probability between actions that differ in one treatment.

Sources: Namkoong, Keramati, Yadlowsky & Brunskill (2020), arXiv 2003.05623; Tang & Wiens, Counterfactual-augmented
importance sampling for semi-offline policy evaluation, NeurIPS 2023.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Floats, numeric
from causalrl.errors import EstimandError, PolicyError
from causalrl.policies import PolicyLike, TabularPolicy, as_policy, policy_table
from simulators.sepsis.rules import BITS, N_ACTIONS

TANG_WIENS_FLIP = 0.1
"""Probability with which the behaviour of Tang & Wiens (2023) gets the vasopressor wrong."""

TANG_WIENS_TARGETS = ((0, 0), *((k, seed) for k in (50, 100, 200, 300, 400) for seed in (0, 42, 123, 424242, 10000)))
"""Number of flipped states and seed of the 26 targets of Tang & Wiens (2023)."""


def bit_of(treatment: str) -> int:
    """What a treatment adds to the number of an action.

    Raises:
        EstimandError: naming the treatments that there are.
    """
    if treatment not in BITS:
        raise EstimandError(f"bit: {treatment!r} is no treatment; pass one of {', '.join(map(repr, BITS))}.")
    return BITS[treatment]


def probabilities_of(policy: PolicyLike, n_states: int) -> Floats:
    """(R, 8) or (H, R, 8): the table of a tabular policy, of any view; else the stationary policy at every state.

    Raises:
        PolicyError: for a table with another number of actions, or a policy without a table that may depend on time.
    """
    if not isinstance(policy, TabularPolicy):
        bound = as_policy(policy).bind(N_ACTIONS)
        if not bound.stationary:
            raise PolicyError(f"policy {bound}: may depend on time; pass a TabularPolicy of shape (H, {n_states}, {N_ACTIONS}).")
        return np.asarray(policy_table(bound, n_states, N_ACTIONS, None)[0])
    table: Floats = policy.table
    if table.shape[-1] != N_ACTIONS:
        raise PolicyError(f"policy {policy}: its table has {table.shape[-1]} actions; the simulator has {N_ACTIONS}.")
    return table


def biased(probabilities: Floats, bit: int, share: float) -> Floats:
    """Probabilities (..., 8) after a share moved to the treatment, or away from it for a negative one.

    Raises:
        PolicyError: for a share outside [-1, 1].
    """
    if not -1 <= share <= 1:
        raise PolicyError(
            f"share: {share} is outside [-1, 1]; 1 always gives the treatment, 0 changes nothing, -1 always withholds it."
        )
    given = (np.arange(N_ACTIONS) & bit) > 0
    return exchanged(probabilities, bit, np.where(given == (share < 0), abs(share), 0.0))


def flipped(probabilities: Floats, bit: int, share: ArrayLike) -> Floats:
    """Probabilities (..., R, 8) after a share, one for all records or (R,), moved to the action that differs in a treatment.

    Raises:
        PolicyError: for a share of another shape, or outside [0, 1].
    """
    shares, records = numeric("share", np.atleast_1d(share)), probabilities.shape[-2]
    if shares.shape not in ((1,), (records,)):
        raise PolicyError(f"share: shape {shares.shape}; pass one number, or one for each of the {records} states.")
    outside = ~((shares >= 0) & (shares <= 1))
    if outside.any():
        raise PolicyError(f"share: {shares[outside][0]} is outside [0, 1]; it is the probability that the treatment is flipped.")
    return exchanged(probabilities, bit, shares[:, None])


def exchanged(probabilities: Floats, bit: int, shares: Floats) -> Floats:
    """p'(a) = (1 - share(a)) p(a) + share(a ^ bit) p(a ^ bit), where a ^ bit is the action that differs in one treatment."""
    moved: Floats = probabilities * shares
    return np.asarray(probabilities - moved + moved[..., np.arange(N_ACTIONS) ^ bit])
