"""`Steps`: the decisions before a horizon, flat, each with what is known about its successor."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalrl.checks import Bools, Floats, Ints, array_of, first_bad
from causalrl.errors import CensoringError, DataError, TruncationError

if TYPE_CHECKING:
    from causalrl.data import Trajectories

Made = TypeVar("Made")


class End(IntEnum):
    """Why a record stops."""

    TERMINATED = 0
    """The process stopped (death, discharge)."""
    TRUNCATED = 1
    """The record stopped (horizon, end of study)."""
    CENSORED = 2
    """Lost to follow-up."""

    @classmethod
    def codes(cls, field: str, values: ArrayLike) -> Ints:
        """Codes from a mixture of codes and names such as "terminated"."""
        given = array_of(field, values)
        if given.dtype.kind in "iu" and np.isin(given, [*cls]).all():
            return given.astype(np.int64)
        known = {kind.name.lower(): int(kind) for kind in cls} | {int(kind): int(kind) for kind in cls}
        keys = [value.lower() if isinstance(value, str) else value for value in given.tolist()]
        for row, key in enumerate(keys):
            if key not in known:
                raise DataError(f"{field}: row {row} is {key!r}; allowed are {', '.join(kind.name.lower() for kind in cls)}.")
        return np.array([known[key] for key in keys], np.int64)


@dataclass(frozen=True, eq=False)
class Cells:
    """Steps that share state and time, so that what depends on these alone is computed once and gathered.

    Attributes:
        first: (C,) the first step of each cell. index: (M,) cell of each step.
    """

    first: Ints
    index: NDArray[Any]

    def among(self, rows: Ints) -> tuple[Ints, Ints]:
        """The first of these steps (K,) in each cell that they meet, and the place (K,) of each step's cell in that list."""
        cells = self.index[rows]
        first = np.full(len(self.first), -1)
        first[cells[::-1]] = rows[::-1]
        met = first >= 0
        return first[met], (np.cumsum(met) - 1)[cells]


class Steps:
    """The steps t < horizon of a data set, flat, with what is known about the step after each.

    Attributes:
        data, horizon: what they were cut from, and where.
        taken: their place in the arrays of `data`, a slice where that is everything.
        offsets: (n + 1,) trajectory boundaries within the M steps.
        observations, actions, rewards: (M, ...).
        trajectory, time: (M,) trajectory index and t.
        continues: (M,) the process goes on after the step (it did not terminate there).
        known: (M,) what follows is known of every record at this time, so that using the step does not select on how it ended.
        next_observations: (M, ...) that observation; meaningless where `continues & known` is false.
    """

    def __init__(self, data: Trajectories, horizon: int | None) -> None:
        lengths = data.lengths if horizon is None else np.minimum(data.lengths, horizon)
        self.data, self.horizon = data, horizon
        self.offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.trajectory = np.repeat(np.arange(data.n), lengths)
        self.time = np.arange(self.offsets[-1]) - self.offsets[:-1][self.trajectory]
        rows = self.rows
        self.taken: Ints | slice = rows if len(rows) < len(data.rewards) else slice(None)
        self.observations: NDArray[Any] = data.observations[self.taken]
        self.actions: NDArray[Any] = data.actions[self.taken]
        self.rewards = data.rewards[self.taken]
        last = rows + 1 == data.offsets[1:][self.trajectory]
        self.continues = ~(last & (data.end[self.trajectory] == End.TERMINATED))
        unknown = last & self.continues & (data.final_observations is None)
        self.known = ~np.isin(self.time, self.time[unknown])
        self.next_observations = data.observations[np.minimum(rows + 1, len(data.rewards) - 1)]
        if data.final_observations is not None:
            self.next_observations[last] = data.final_observations[self.trajectory[last]]

        self._memo: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self.time)

    @property
    def rows(self) -> Ints:
        """(M,) indices of the steps in `data`."""
        rows: Ints = self.data.offsets[:-1][self.trajectory] + self.time
        return rows

    def discounted_rewards(self, discount: float) -> Floats:
        """(M,) discount^t r_t."""
        if discount == 1.0:
            return self.rewards
        return self.once(("rewards", discount), lambda: np.asarray(discount**self.time * self.rewards))

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What is made of the steps alone, made on first use."""
        if key not in self._memo:
            self._memo[key] = make()
        made: Made = self._memo[key]
        return made

    @cached_property
    def cells(self) -> Cells:
        """Steps with the same state and time; where observations are vectors each is a cell of its own."""
        if not self.data.tabular:
            return Cells(np.arange(len(self)), np.arange(len(self)))
        code = self.time * self.data.n_states + self.observations
        _, first, index = np.unique(code, return_index=True, return_inverse=True)
        return Cells(first, index.astype(np.int32))

    @property
    def first(self) -> Ints:
        """(n,) index of each trajectory's step 0."""
        return self.offsets[:-1]

    @property
    def last(self) -> Ints:
        """(n,) index of each trajectory's last step."""
        return self.offsets[1:] - 1

    @cached_property
    def cut_early(self) -> Bools:
        """(n,) trajectories whose record stops before the horizon while the process goes on."""
        short = np.full(self.data.n, True) if self.horizon is None else np.diff(self.offsets) < self.horizon
        mask: Bools = short & (self.data.end != End.TERMINATED)
        return mask

    @cached_property
    def end_together(self) -> bool:
        """Whether records that are all marked as terminated pile up at the longest length, as cut records would."""
        counts = np.bincount(self.data.lengths)
        if len(counts) < 3 or self.data.n < 2 or (self.data.end != End.TERMINATED).any():
            return False
        return bool(counts[-1] == self.data.n or counts[-1] > max(3 * counts[-2], 0.02 * self.data.n, 10))

    @property
    def _goal(self) -> str:
        return "its process ends" if self.horizon is None else f"the horizon {self.horizon}"

    def require_complete(self, estimator: str) -> None:
        """Refuse records that stop early: pure importance sampling cannot continue them."""
        self._refuse_censored()
        if self.cut_early.any():
            i = first_bad(self.cut_early)
            raise TruncationError(
                f"end: trajectory {self.data.ids[i]} (row {i}) is truncated after {self.data.lengths[i]} steps, before "
                f"{self._goal}, and {estimator} cannot continue it. Set a horizon of at most that many steps, or use "
                "FQE or DR with final_observations."
            )

    def require_successors(self, estimator: str) -> None:
        """Refuse early ends without a final observation to continue from."""
        self._refuse_censored()
        stuck = self.cut_early & ~self.known[self.last]
        if stuck.any():
            i = first_bad(stuck)
            raise TruncationError(
                f"final_observations: trajectory {self.data.ids[i]} (row {i}) is truncated after {self.data.lengths[i]} steps, "
                f"before {self._goal}; {estimator} continues it from the observation after its last step. Pass "
                "final_observations, or a horizon of at most that many steps."
            )

    def _refuse_censored(self) -> None:
        censored = self.cut_early & (self.data.end == End.CENSORED)
        if censored.any():
            i = first_bad(censored)
            raise CensoringError(
                f"end: trajectory {self.data.ids[i]} (row {i}) is censored after {self.data.lengths[i]} steps, before "
                f"{self._goal}. No censoring model exists yet: set a horizon within follow-up."
            )
