"""The checks of numbers and arrays: each returns a clean one or raises an error that names field, row and mend."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalrl.errors import CausalRLError, DataError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

PROBABILITY_TOLERANCE = 1e-6
"""How far a row of probabilities may be from summing to 1 (single-precision classifiers reach about 1e-7)."""
LARGEST = 1e120
"""The largest entry of rewards and observations: sums of many, and their squares, are then still numbers."""
_MOST_COLUMNS = 10_000


def first_bad(mask: NDArray[np.bool_]) -> int:
    """Index of the first row in which any entry of `mask` is true."""
    return int(np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1))[0])


def check_finite(field: str, values: NDArray[Any], error: type[CausalRLError] = DataError) -> None:
    bad = ~np.isfinite(values)
    if bad.any():
        row = first_bad(bad)
        mend = " Impute or drop it before building the data." if error is DataError else ""
        raise error(f"{field}: row {row} is {values[row]!s}; every entry must be finite.{mend}")


def check_size(field: str, values: NDArray[Any]) -> None:
    """Every entry must be finite, and at most `LARGEST` in size."""
    check_finite(field, values)
    large = np.abs(values) > LARGEST
    if large.any():
        row = first_bad(large)
        raise DataError(f"{field}: row {row} is {values[row]!s}; sums of squares beyond {LARGEST:g} overflow. Change the unit.")


def whole_number(field: str, value: Any, least: int, error: type[CausalRLError] = DataError, *, most: int | None = None) -> int:
    """An integer of at least `least`, and at most `most`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        limit = "" if most is None else f" and at most {most}"
        raise error(f"{field}: {value!r}; pass a whole number, at least {least}{limit}.")
    return int(value)


def number(field: str, value: Any, least: float = -np.inf, most: float = np.inf, error: type[CausalRLError] = DataError) -> float:
    """A finite number from `least` to `most`, as a float."""
    real = _real(value)
    if not (np.isfinite(real) and least <= real <= most):
        raise error(f"{field}: {value!r}; pass {_range(least, most)}.")
    return real


def _real(value: Any) -> float:
    """The value as a float; nan for what is no real number, or one too large for a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.nan


def _range(least: float, most: float) -> str:
    if np.isfinite([least, most]).all():
        return f"a number from {least:g} to {most:g}"
    if np.isfinite(least):
        return f"a finite number, at least {least:g}"
    return f"a finite number, at most {most:g}" if np.isfinite(most) else "a finite number"


def flag(field: str, value: Any, error: type[CausalRLError] = DataError) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise error(f"{field}: {value!r}; pass True or False.")
    return bool(value)


def optional_function(field: str, value: Any, error: type[CausalRLError] = DataError) -> None:
    """A function, or None."""
    if value is not None and (isinstance(value, type) or not callable(value)):
        raise error(f"{field}: {value!r}; pass a function of the observations, or None.")


def one_of(field: str, value: Any, names: Iterable[str], error: type[CausalRLError] = DataError) -> str:
    """One of some names."""
    known = tuple(names)
    if not isinstance(value, str) or value not in known:
        *others, last = map(repr, known)
        listed = f"{', '.join(others)} or {last}" if others else last
        raise error(f"{field}: {value!r}; pass {listed}.")
    return str(value)


def seed_number(seed: Any, error: type[CausalRLError] = DataError) -> int:
    """A seed: a whole number of at most 63 bits."""
    if whole_number("seed", seed, 0, error) >= 2**63:
        raise error(f"seed: {seed}; pass a whole number below 2**63.")
    return int(seed)


def array_of(field: str, values: Any) -> NDArray[Any]:
    """Any array of at least one dimension."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{field}: its rows differ in length ({error}); pass a rectangular array.") from error
    if np.ma.is_masked(values):
        raise DataError(f"{field}: some entries are masked; fill or drop them first.")
    if array.dtype.kind in "mM":
        raise DataError(f"{field}: holds times; convert them to numbers in a unit of your choice.")
    if array.ndim == 0:
        raise DataError(f"{field}: {values!r} is a single value; pass an array with one entry a row.")
    return array


def check_probabilities(field: str, values: Floats, error: type[CausalRLError] = DataError) -> None:
    """Every entry must be finite and in [0, 1]."""
    check_finite(field, values, error)
    bad = (values < 0) | (values > 1 + PROBABILITY_TOLERANCE)
    if bad.any():
        row = first_bad(bad)
        raise error(f"{field}: row {row} is {values[row]!s}; probabilities lie in [0, 1]. Pass probabilities, not logits.")


def check_probability_rows(field: str, rows: NDArray[np.float64], error: type[CausalRLError] = DataError) -> None:
    """Rows (N, n_actions) must be finite, in [0, 1] and sum to 1."""
    check_probabilities(field, rows, error)
    total = rows.sum(axis=1)
    off = np.abs(total - 1) > PROBABILITY_TOLERANCE
    if off.any():
        row = first_bad(off)
        raise error(f"{field}: row {row} sums to {total[row]:.9g}, not 1. Divide each row by its sum if that is meant.")


def numeric(field: str, values: Any) -> Floats:
    given = array_of(field, values)
    if given.dtype.kind in "UST":
        raise DataError(f"{field}: not numeric ({given.dtype}); encode categories as numbers first.")
    if given.dtype.kind == "c":
        raise DataError(f"{field}: complex numbers; pass real ones.")
    try:
        return np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{field}: not numeric ({error}); encode categories as numbers first.") from error


def matrix(field: str, values: ArrayLike) -> Floats:
    array = numeric(field, values)
    if array.ndim != 2:
        raise DataError(f"{field}: shape {array.shape}, expected two dimensions (rows, features).")
    check_size(field, array)
    return array


def integers(field: str, values: ArrayLike) -> Ints:
    array = array_of(field, values)
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    floats = numeric(field, array)
    check_finite(field, floats)
    whole = floats == np.round(floats)
    if not whole.all():
        row = first_bad(~whole)
        raise DataError(f"{field}: row {row} is {floats[row]}; expected integers. Continuous values take a second dimension.")
    return floats.astype(np.int64)


def codes_below(field: str, values: ArrayLike, length: int, count: int) -> Ints:
    codes = integers(field, values)
    if codes.shape != (length,):
        raise DataError(f"{field}: shape {codes.shape}, expected ({length},).")
    outside = (codes < 0) | (codes >= count)
    if outside.any():
        row = first_bad(outside)
        raise DataError(f"{field}: row {row} is {codes[row]}, outside [0, {count}). Recode it from 0, or raise the count.")
    return codes


def one_hot(states: Ints, n_states: int) -> Floats:
    """(M, S) indicator columns of states (M,)."""
    if n_states > _MOST_COLUMNS:
        raise DataError(f"state_features: one-hot columns of {n_states} states are too many; give the states features.")
    out = np.zeros((len(states), n_states))
    out[np.arange(len(states)), states] = 1.0
    return out
