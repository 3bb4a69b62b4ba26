"""Checks at the door of a simulator: what does not fit raises an error that names the mend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Bools, Floats, check_probability_rows, numeric
from causalrl.errors import DataError, EstimandError, PolicyError
from causalrl.policies import PolicyLike, TabularPolicy, as_policy, policy_table

Propensities = Literal["oracle"]


def check_count(field: str, number: int, least: int) -> None:
    """An integer of at least `least`."""
    if not isinstance(number, int | np.integer) or number < least:
        raise DataError(f"{field}: {number!r}; pass an integer of at least {least}.")


def check_time(horizon: int | None, discount: float) -> None:
    """A horizon is a whole number of steps, at least 1, or None; a discount lies in [0, 1]."""
    if horizon is not None and (not isinstance(horizon, int | np.integer) or horizon < 1):
        raise EstimandError(f"horizon: {horizon!r}; pass a whole number of steps, at least 1, or None for all of them.")
    if not 0 <= discount <= 1:
        raise EstimandError(f"discount: {discount} is outside [0, 1].")


def check_flags(field: str, flags: ArrayLike, shape: tuple[int, ...]) -> Bools:
    """Booleans of a shape."""
    given = np.array(flags)
    if given.shape != shape or given.dtype != bool:
        raise DataError(f"{field}: {given.dtype} of shape {given.shape}; pass flags, True or False, of shape {shape}.")
    return given


def check_allowed(policy: PolicyLike, tables: Floats, forbidden: Bools) -> None:
    """A policy (T, S, A) takes no forbidden action."""
    taken = (tables > 0) & forbidden
    if taken.any():
        time, state, action = np.argwhere(taken)[0]
        raise PolicyError(
            f"policy {policy}: takes action {action} in state {state} (probability {tables[time, state, action]:.3g}), where "
            f"only {np.flatnonzero(~forbidden[state]).tolist()} are allowed; set the others to 0 and divide by the sum of the "
            "rest, or choose a mode of the simulator in which every action has an effect."
        )


def check_start(initial: ArrayLike, terminal: Bools) -> Floats:
    """(S,) start distribution, 0 at terminal states."""
    start = numeric("initial", initial)
    if start.shape != terminal.shape:
        raise DataError(f"initial: shape {start.shape}, expected ({len(terminal)},), the probability of each start state.")
    check_probability_rows("initial", start[None])
    over = terminal & (start > 0)
    if over.any():
        state = np.flatnonzero(over)[0]
        raise DataError(f"initial: terminal state {state} has probability {start[state]}; redraw starts that are over.")
    return start


def checked_tables(
    policy: PolicyLike, n_records: int, n_actions: int, horizon: int | None, others: Mapping[str, int] | None = None
) -> Floats:
    """(1, R, A) or (horizon, R, A) probabilities of a policy; a table must have exactly R rows.

    Args:
        others: sizes of the views that the policy could be meant for, by name.
    """
    rows, columns = as_policy(policy).n_states, policy.table.shape[-1] if isinstance(policy, TabularPolicy) else n_actions
    if rows not in (None, n_records) or columns != n_actions:
        meant = [name for name, size in (others or {}).items() if size == rows != n_records]
        mend = f"pass sees={meant[0]!r}, the view of that size" if meant else "pass a table of that size"
        raise PolicyError(
            f"policy {policy}: its table has {rows} states and {columns} actions, the process has {n_records} and "
            f"{n_actions}; {mend}."
        )
    return policy_table(policy, n_records, n_actions, horizon)


def keeps_propensities(propensities: Propensities | None, shown: bool) -> bool:
    """Whether a record keeps the probabilities of the logged actions.

    Raises:
        DataError: for anything but None and "oracle".
    """
    if propensities not in (None, "oracle"):
        raise DataError(f"propensities: {propensities!r}; pass 'oracle', or None for what the record shows.")
    return shown or propensities == "oracle"
