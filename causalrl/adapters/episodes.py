"""Episodes, one object or mapping each, to the arrays of `Trajectories`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.data import End
from causalrl.errors import DataError

FIELDS = {
    "observations": "T rows, or T + 1 with the observation after the last step",
    "actions": "T integers, or T rows for continuous actions",
    "rewards": "T numbers",
    "terminated": "whether the process ended: one flag, or T of which the last counts",
    "truncated": "whether only the record ended, likewise",
    "end": "instead of the flags: an `End`, or its name",
    "behavior_probabilities": "T rows (T, n_actions), or T of the logged actions",
    "id": "a label",
    "cluster": "label of the independent unit",
}
_NEEDED = ("observations", "actions", "rewards")


@dataclass(frozen=True, eq=False)
class _Episode:
    """One checked episode; `final` is the observation after its last step, or None."""

    observations: NDArray[Any]
    final: NDArray[Any] | None
    actions: NDArray[Any]
    rewards: NDArray[Any]
    end: int
    optional: dict[str, Any]


def read_episodes(episodes: Iterable[Any]) -> dict[str, Any]:
    """Arguments of `Trajectories.from_arrays` read from a sequence of episodes.

    Raises:
        DataError: naming the episode, the field and what to do.
    """
    if isinstance(episodes, Mapping) or not isinstance(episodes, Iterable):
        what = "a single mapping" if isinstance(episodes, Mapping) else type(episodes).__name__
        raise DataError(f"episodes: {what}; pass a sequence of mappings, one an episode.")
    read = [_read(i, episode) for i, episode in enumerate(episodes)]
    if not read:
        raise DataError("episodes: there are none.")
    _check_alike(read)
    logged, ids, clusters = (_optional(read, name) for name in ("behavior_probabilities", "id", "cluster"))
    return {
        "observations": np.concatenate([episode.observations for episode in read]),
        "actions": np.concatenate([episode.actions for episode in read]),
        "rewards": np.concatenate([episode.rewards for episode in read]),
        "offsets": np.cumsum([0, *(len(episode.rewards) for episode in read)]),
        "end": np.array([episode.end for episode in read]),
        "behavior_probabilities": None if logged is None else np.concatenate(logged),
        "final_observations": _finals(read),
        "ids": ids,
        "clusters": clusters,
    }


def _optional(read: list[_Episode], name: str) -> list[Any] | None:
    """What every episode has, or none."""
    values = [episode.optional[name] for episode in read if name in episode.optional]
    if values and len(values) < len(read):
        i = next(i for i, episode in enumerate(read) if name not in episode.optional)
        raise DataError(f"{name}: episode {i} has none, others do; give it to every episode, or to none.")
    return values or None


def _read(i: int, episode: Any) -> _Episode:
    fields = _fields(i, episode)
    actions, rewards, seen = (_array(i, name, fields[name]) for name in ("actions", "rewards", "observations"))
    count = len(actions)
    if count == 0:
        raise DataError(f"actions: episode {i} has no steps; drop it.")
    if rewards.shape != (count,):
        raise DataError(f"rewards: episode {i} has shape {rewards.shape} for {count} actions; pass one reward an action.")
    if len(seen) not in (count, count + 1) or seen.ndim not in (1, 2):
        raise DataError(
            f"observations: episode {i} has shape {seen.shape} for {count} actions; pass {count} rows (integer states or "
            f"vectors), or {count + 1} with the observation after the last step."
        )
    optional: dict[str, Any] = {name: fields[name] for name in ("id", "cluster") if name in fields}
    if "behavior_probabilities" in fields:
        optional["behavior_probabilities"] = logged = _array(i, "behavior_probabilities", fields["behavior_probabilities"])
        if len(logged) != count:
            raise DataError(f"behavior_probabilities: episode {i} has {len(logged)} rows for {count} actions.")
    final = seen[count] if len(seen) > count else None
    return _Episode(seen[:count], final, actions, rewards, _end(i, fields, count), optional)


def _fields(i: int, episode: Any) -> dict[str, Any]:
    """What an episode holds, None left out."""
    if isinstance(episode, Mapping):
        for name in episode:
            if name not in FIELDS:
                close = difflib.get_close_matches(str(name), FIELDS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(FIELDS)}; leave out the rest."
                raise DataError(f"episodes: episode {i} has a field {name!r}; {hint}")
        found = dict(episode)
    else:
        found = {name: getattr(episode, name) for name in FIELDS if hasattr(episode, name)}
    found = {name: value for name, value in found.items() if value is not None}
    for name in _NEEDED:
        if name not in found:
            raise DataError(f"{name}: episode {i} ({type(episode).__name__}) has none; it holds {FIELDS[name]}.")
    return found


def _array(i: int, name: str, values: Any) -> NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{name}: the rows of episode {i} differ in length ({error}); pass a rectangular array.") from error
    if array.ndim == 0 or array.dtype == object:
        raise DataError(
            f"{name}: episode {i} holds {type(values).__name__}, not an array of numbers; flatten it to vectors first."
        )
    return array


def _end(i: int, fields: dict[str, Any], count: int) -> int:
    if "end" in fields:
        if "terminated" in fields or "truncated" in fields:
            raise DataError(f"end: episode {i} has flags as well; pass the one or the other.")
        if np.ndim(fields["end"]):
            raise DataError(f'end: episode {i} has {fields["end"]!r}; pass one end, such as "terminated".')
        return int(End.codes(f"end of episode {i}", [fields["end"]])[0])
    if "terminated" not in fields and "truncated" not in fields:
        raise DataError(f"terminated: episode {i} does not say how it ended; pass terminated=True or False, or an end.")
    terminated = "terminated" in fields and _flag(i, "terminated", fields["terminated"], count)
    truncated = "truncated" in fields and _flag(i, "truncated", fields["truncated"], count)
    if not (terminated or truncated) and "terminated" not in fields:
        return int(End.TERMINATED)
    return int(End.TERMINATED if terminated else End.TRUNCATED)


def _flag(i: int, name: str, value: Any, count: int) -> bool:
    """The flag of the last step; one that is set before it belongs to two episodes run together."""
    flags = np.atleast_1d(np.asarray(value))
    if flags.shape not in ((1,), (count,)) or not np.isin(flags, (0, 1)).all():
        raise DataError(f"{name}: episode {i} has {value!r}; pass one flag, or {count}, true or false.")
    if flags[:-1].any():
        raise DataError(f"{name}: episode {i} says so at step {int(np.argmax(flags))} of {count}; split it there.")
    return bool(flags[-1])


def _check_alike(read: list[_Episode]) -> None:
    """Every episode has observations and actions of the kind of the first."""
    for name in ("observations", "actions"):
        first = getattr(read[0], name)
        for i, episode in enumerate(read):
            own = getattr(episode, name)
            if own.shape[1:] != first.shape[1:]:
                raise DataError(f"{name}: a row of episode {i} has shape {own.shape[1:]}, of episode 0 {first.shape[1:]}.")


def _finals(read: list[_Episode]) -> NDArray[Any] | None:
    """(n, ...) observations after the last steps; what follows a terminated episode is ignored, and may be missing."""
    if all(episode.final is None for episode in read):
        return None
    for i, episode in enumerate(read):
        if episode.final is None and episode.end != End.TERMINATED:
            raise DataError(
                f"observations: episode {i} goes on after its record but has no observation after the last step, as others do. "
                "Add it, or leave it out everywhere."
            )
    blank = np.zeros_like(read[0].observations[0])
    return np.stack([blank if episode.final is None else episode.final for episode in read])
