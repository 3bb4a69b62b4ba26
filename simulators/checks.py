"""Checks at the door of a simulator: what does not fit raises an error that names the mend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalrl.checks import Bools, Floats, array_of, check_probability_rows, number, numeric, one_of, whole_number
from causalrl.errors import DataError, EstimandError, PolicyError
from causalrl.policies import PolicyLike, TabularPolicy, as_policy, policy_table

Propensities = Literal["oracle"]
Array = TypeVar("Array", bound=NDArray[Any])

LONGEST_HORIZON = 1_000_000
LONGEST_WAIT = 10_000_000
"""Largest expected length of a trajectory that is sampled without a horizon."""
MOST_TRAJECTORIES = 1_000_000_000
MOST_RECORDS = 1_000_000
"""Largest number of different records behind wrappers."""
LARGEST_REWARD = 1e100
"""Rewards and their noise up to here have finite sums and squares over any horizon."""
ROUNDING = 1e-12
"""Probabilities whose sum differs by less from 1 are taken as they are."""


def check_time(horizon: int | None, discount: float, endless: bool = True) -> float:
    """The discount, in [0, 1], as a float; the horizon is a number of steps, or None where the question may be endless."""
    if horizon is not None or not endless:
        whole_number("horizon", horizon, 1, EstimandError, most=LONGEST_HORIZON)
    return number("discount", discount, 0, 1, EstimandError)


def check_sample(n: int, seed: int) -> None:
    """A number of trajectories, and a seed of any size."""
    whole_number("n", n, 1, most=MOST_TRAJECTORIES)
    whole_number("seed", seed, 0)


def check_names(field: str, names: Any, count: int | None = None) -> tuple[str, ...]:
    """Different names, as many as `count` or none."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise DataError(f"{field}: {names!r}; pass a tuple of names, such as ('age',).")
    given: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str) or name in given:
            wrong = "occurs twice" if isinstance(name, str) else "is no name"
            raise DataError(f"{field}: {name!r} {wrong}; pass a tuple of different names, such as ('age',).")
        given[str(name)] = None
    if count is not None and len(given) not in (0, count):
        raise DataError(f"{field}: {len(given)} names for {count}; pass one each, or none.")
    return tuple(given)


def check_flags(field: str, flags: ArrayLike, shape: tuple[int, ...]) -> Bools:
    """Booleans of a shape."""
    given = np.array(array_of(field, flags))
    if given.shape != shape or given.dtype != bool:
        raise DataError(f"{field}: {given.dtype} of shape {given.shape}; pass flags, True or False, of shape {shape}.")
    return given


def check_forbidden(forbidden: ArrayLike, shape: tuple[int, int]) -> Bools:
    """(S, A) flags that leave an action in every state."""
    flags = check_flags("forbidden", forbidden, shape)
    if flags.all(axis=1).any():
        state = np.flatnonzero(flags.all(axis=1))[0]
        raise DataError(f"forbidden: state {state} has no action left; allow one, in terminal states too.")
    return flags


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
    return normalized(start)


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
    return normalized(policy_table(policy, n_records, n_actions, horizon))


def normalized(rows: Floats) -> Floats:
    """Rows (..., A) that sum to 1 up to a tolerance, divided by their sum unless that is 1 up to rounding."""
    total = rows.sum(axis=-1, keepdims=True)
    off = np.abs(total - 1) > ROUNDING
    return np.where(off, rows / total, rows) if off.any() else rows


def keeps_propensities(propensities: Propensities | None, shown: bool) -> bool:
    """Whether a record keeps the probabilities of the logged actions.

    Raises:
        DataError: for anything but None and "oracle".
    """
    if propensities is not None:
        one_of("propensities", propensities, get_args(Propensities))
    return shown or propensities is not None


class ReadOnly:
    """An object whose arrays nobody can write to, nor those of its copies; `_freeze` makes them so."""

    def _freeze(self) -> None:
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                frozen(value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._freeze()


def frozen(array: Array) -> Array:
    """The array, which nobody can write to from now on."""
    array.flags.writeable = False
    return array


def frozen_matrix(matrix: Any) -> Any:
    """A sparse matrix in compressed rows, whose arrays nobody can write to from now on."""
    for array in (matrix.data, matrix.indices, matrix.indptr):
        frozen(array)
    return matrix
