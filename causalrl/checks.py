"""The checks made once, at the door: each returns a clean array or raises an error that names field, row and mend."""

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
_MOST_CODES = 10_000_000
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


def offsets_of(offsets: ArrayLike) -> Ints:
    values = array_of("offsets", offsets)
    if values.ndim != 1 or len(values) < 2:
        raise DataError("offsets: the data are empty; offsets are (n + 1,) with n >= 1 trajectories, starting at 0.")
    if values.dtype.kind not in "iu" or values[0] != 0:
        raise DataError(f"offsets: must be integers starting at 0, got {values.dtype} starting at {values[0]}.")
    lengths = np.diff(values.astype(np.int64))
    if (lengths < 1).any():
        i = int(np.flatnonzero(lengths < 1)[0])
        raise DataError(f"offsets: trajectory {i} has {lengths[i]} steps; drop empty trajectories, and let offsets increase.")
    return values.astype(np.int64)


def vector(field: str, values: ArrayLike, length: int) -> Floats:
    array = numeric(field, values)
    if array.shape != (length,):
        raise DataError(f"{field}: shape {array.shape}, but offsets end at {length}; pass one {field.rstrip('s')} a step.")
    check_size(field, array)
    return array


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


def observation_arrays(
    observations: ArrayLike, final: ArrayLike | None, steps: int, n: int
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    array = array_of("observations", observations)
    if len(array) != steps or array.ndim not in (1, 2):
        raise DataError(
            f"observations: shape {array.shape}, but offsets end at {steps}; pass ({steps}, d), or ({steps},) states."
        )
    if array.ndim == 1:
        if array.dtype.kind not in "iu":
            raise DataError("observations: one dimension means integer states; pass a (N, 1) array for one float column.")
        states = array.astype(np.int64)
        if final is None:
            return states, None
        ends = integers("final_observations", final)
        if ends.shape != (n,):
            raise DataError(f"final_observations: shape {ends.shape}, expected ({n},), one state a trajectory.")
        return states, ends
    vectors = matrix("observations", array)
    if final is None:
        return vectors, None
    after = numeric("final_observations", final)
    if after.shape != (n, vectors.shape[1]):
        raise DataError(f"final_observations: shape {after.shape}, expected ({n}, {vectors.shape[1]}), one row a trajectory.")
    return vectors, after


def usable_rows(observations: NDArray[Any]) -> Bools:
    """Rows that are vectors within `LARGEST`, or states from 0."""
    usable: Bools = observations >= 0 if observations.ndim == 1 else (np.abs(observations) <= LARGEST).all(axis=1)
    return usable


def count_states(observed: NDArray[Any], final: NDArray[Any] | None, n_states: int | None, features: Floats | None) -> int:
    if observed.ndim == 2:
        return 0
    seen = observed if final is None else np.concatenate([observed, final])
    given = None if n_states is None else whole_number("n_states", n_states, 1)
    count = given if given is not None else len(features) if features is not None else int(seen.max()) + 1
    if count > _MOST_CODES:
        raise DataError(f"observations: states up to {count - 1} would need tables of that size; recode the states from 0.")
    codes_below("observations", observed, len(observed), count)
    if final is not None:
        codes_below("final_observations", final, len(final), count)
    if features is not None and len(features) != count:
        raise DataError(f"state_features: {len(features)} rows for {count} states; pass one row a state.")
    return count


def action_array(actions: ArrayLike, n_actions: int | None, steps: int) -> tuple[NDArray[Any], int]:
    array = array_of("actions", actions)
    if len(array) != steps:
        raise DataError(f"actions: {len(array)} rows, but offsets end at {steps}; pass one action a step.")
    if array.ndim == 2:
        return matrix("actions", array), 0
    codes = integers("actions", array)
    count = int(codes.max()) + 1 if n_actions is None else whole_number("n_actions", n_actions, 1)
    if count > _MOST_CODES:
        raise DataError(f"actions: actions up to {count - 1} would need tables of that size; recode the actions from 0.")
    return codes_below("actions", codes, steps, count), count


def behavior_rows(probabilities: ArrayLike | None, actions: NDArray[Any], n_actions: int) -> Floats | None:
    if probabilities is None:
        return None
    field = "behavior_probabilities"
    array = numeric(field, probabilities)
    if array.shape not in ((len(actions),), (len(actions), n_actions)):
        raise DataError(f"{field}: shape {array.shape}, expected ({len(actions)},) or ({len(actions)}, {n_actions}).")
    if array.ndim == 2:
        check_probability_rows(field, array)
    else:
        check_probabilities(field, array)
    logged = array if array.ndim == 1 else array[np.arange(len(actions)), actions]
    if (logged <= 0).any():
        row = first_bad(logged <= 0)
        raise DataError(
            f"{field}: row {row} gives the logged action {actions[row]} probability 0, yet it was taken. "
            "Correct the probabilities, or leave them out and let behavior=Counts() or Logit() estimate them."
        )
    return array


def cluster_codes(clusters: ArrayLike | None, n: int) -> Ints:
    if clusters is None:
        return np.arange(n)
    labels = array_of("clusters", clusters)
    if labels.shape != (n,):
        raise DataError(f"clusters: shape {labels.shape}, expected ({n},), one label a trajectory.")
    missing = np.array([label is None or label != label for label in labels.tolist()])
    if missing.any():
        raise DataError(f"clusters: row {first_bad(missing)} has no label; give it a cluster of its own, or leave it out.")
    try:
        return np.unique(label_array(labels), return_inverse=True)[1].astype(np.int64)
    except TypeError as error:
        raise DataError(f"clusters: the labels cannot be sorted ({error}); pass numbers, or text.") from error


def label_array(labels: ArrayLike) -> NDArray[Any]:
    """A copy of labels; text is fixed-width text whatever container it came in."""
    array = np.array(labels)
    text = array.dtype.kind == "T" or (array.dtype == object and all(isinstance(label, str) for label in array.flat))
    return array.astype(str) if text else array


def one_hot(states: Ints, n_states: int) -> Floats:
    """(M, S) indicator columns of states (M,)."""
    if n_states > _MOST_COLUMNS:
        raise DataError(f"state_features: one-hot columns of {n_states} states are too many; give the states features.")
    out = np.zeros((len(states), n_states))
    out[np.arange(len(states)), states] = 1.0
    return out
