"""Policies of the sepsis simulator made of other policies, by moving probability between actions that differ in one treatment.

Sources: Namkoong, Keramati, Yadlowsky & Brunskill (2020), arXiv 2003.05623; Tang & Wiens, Counterfactual-augmented
importance sampling for semi-offline policy evaluation, NeurIPS 2023.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Floats, first_bad, number, numeric, one_of
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
    return BITS[one_of("bit", treatment, BITS, EstimandError)]


def probabilities_of(policy: PolicyLike, n_states: int, records: Mapping[str, int]) -> Floats:
    """(R, 8) or (H, R, 8): the table of a tabular policy, of any view; else the stationary policy at every state.

    Args:
        records: number R of records of each view.

    Raises:
        PolicyError: for a table of no view, or a policy without a table that may depend on time.
    """
    if not isinstance(policy, TabularPolicy):
        bound = as_policy(policy).bind(N_ACTIONS)
        if not bound.stationary:
            raise PolicyError(f"policy {bound}: may depend on time; pass a TabularPolicy of shape (H, {n_states}, {N_ACTIONS}).")
        return np.asarray(policy_table(bound, n_states, N_ACTIONS, None)[0])
    if policy.n_states not in records.values() or policy.table.shape[-1] != N_ACTIONS:
        sizes = ", ".join(f"{size} ({name})" for name, size in records.items())
        raise PolicyError(
            f"policy {policy}: its table has {policy.n_states} states and {policy.table.shape[-1]} actions; pass one of "
            f"{N_ACTIONS} actions with a row for each record of a view: {sizes}."
        )
    return policy.table


def biased(probabilities: Floats, bit: int, share: float) -> Floats:
    """Probabilities (..., 8) after a share moved to the treatment, or away from it for a negative one.

    Raises:
        PolicyError: for a share outside [-1, 1].
    """
    share = number("share", share, -1, 1, PolicyError)
    given = (np.arange(N_ACTIONS) & bit) > 0
    return exchanged(probabilities, bit, np.where(given == (share < 0), abs(share), 0.0))


def flipped(probabilities: Floats, bit: int, share: ArrayLike) -> Floats:
    """Probabilities (..., R, 8) after a share, one for all records or (R,), moved to the action that differs in a treatment.

    Raises:
        PolicyError: for a share of another shape, or outside [0, 1].
    """
    records = probabilities.shape[-2]
    shares = np.array([number("share", share, 0, 1, PolicyError)]) if np.isscalar(share) else numeric("share", share)
    if shares.shape not in ((1,), (records,)):
        raise PolicyError(f"share: shape {shares.shape}; pass one number, or one for each of the {records} states.")
    outside = ~((shares >= 0) & (shares <= 1))
    if outside.any():
        row = first_bad(outside)
        raise PolicyError(f"share: row {row} is {shares[row]}; the probability that the treatment is flipped lies in [0, 1].")
    return exchanged(probabilities, bit, shares[:, None])


def exchanged(probabilities: Floats, bit: int, shares: Floats) -> Floats:
    """p'(a) = (1 - share(a)) p(a) + share(a ^ bit) p(a ^ bit), where a ^ bit is the action that differs in one treatment."""
    moved: Floats = probabilities * shares
    return np.asarray(probabilities - moved + moved[..., np.arange(N_ACTIONS) ^ bit])
