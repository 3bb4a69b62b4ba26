"""The fields of `Trajectories`, checked once at the door: clean arrays that fit together, or errors that name field and row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalrl.checks import (
    LARGEST,
    Bools,
    Floats,
    Ints,
    array_of,
    check_probabilities,
    check_probability_rows,
    check_size,
    codes_below,
    first_bad,
    integers,
    matrix,
    numeric,
    whole_number,
)
from causalrl.errors import DataError
from causalrl.steps import End

_MOST_CODES = 10_000_000


def clean_fields(
    observations: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    offsets: ArrayLike,
    end: ArrayLike | None,
    behavior_probabilities: ArrayLike | None,
    final_observations: ArrayLike | None,
    n_actions: int | None,
    n_states: int | None,
    state_features: ArrayLike | None,
    ids: ArrayLike | None,
    clusters: ArrayLike | None,
    feature_names: Sequence[str] | None,
) -> dict[str, Any]:
    """The fields of `Trajectories` from the arguments of `Trajectories.from_arrays`."""
    offset = offsets_of(offsets)
    n, steps = len(offset) - 1, int(offset[-1])
    observed, final = observation_arrays(observations, final_observations, steps, n)
    features = None if state_features is None else matrix("state_features", state_features)
    if features is not None and observed.ndim == 2:
        raise DataError("state_features: the observations are vectors, which regressors see as they are; leave them out.")
    kind = np.zeros(n, np.int64) if end is None else codes_below("end", End.codes("end", end), n, len(End))
    if final is not None:
        final[(kind == End.TERMINATED) & ~usable_rows(final)] = 0  # ignored, whatever stands there
        check_size("final_observations", final)
    states = count_states(observed, final, n_states, features)
    logged = None if behavior_probabilities is None else array_of("behavior_probabilities", behavior_probabilities)
    if n_actions is None and logged is not None and logged.ndim == 2:
        n_actions = logged.shape[1]
    action, action_count = action_array(actions, n_actions, steps)
    return {
        "observations": observed,
        "actions": action,
        "rewards": reward_array(rewards, steps),
        "offsets": offset,
        "end": kind,
        "n_actions": action_count,
        "n_states": states,
        "behavior_probabilities": behavior_rows(logged, action, action_count),
        "final_observations": final,
        "state_features": features,
        "ids": id_array(ids, n),
        "clusters": cluster_codes(clusters, n),
        "feature_names": names_of(feature_names, 0 if observed.ndim == 1 else observed.shape[1]),
    }


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


def reward_array(rewards: ArrayLike, steps: int) -> Floats:
    array = numeric("rewards", rewards)
    if array.shape != (steps,):
        raise DataError(f"rewards: shape {array.shape}, but offsets end at {steps}; pass one reward a step.")
    check_size("rewards", array)
    return array


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


def names_of(names: Sequence[str] | None, width: int) -> tuple[str, ...]:
    given = tuple(f"x{j}" for j in range(width)) if names is None else tuple(map(str, names))
    if len(given) != width:
        raise DataError(f"feature_names: {len(given)} names for {width} observation columns; pass one name a column.")
    return given


def id_array(ids: ArrayLike | None, n: int) -> NDArray[Any]:
    labels = np.arange(n) if ids is None else label_array(ids)
    if labels.shape != (n,):
        raise DataError(f"ids: shape {labels.shape}, expected ({n},), one label a trajectory.")
    return labels


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
