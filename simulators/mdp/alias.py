"""Alias tables: draws from many small discrete distributions, each by one uniform number and one comparison.

A distribution on k outcomes becomes k slots of equal probability; a slot keeps its own outcome below its cut and gives the
rest to another one. Source: Walker 1977; Vose 1991. A draw has no branch to mispredict and the same cost for any k.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints
from causalrl.kernels.jit import compiled, parallel

Codes = NDArray[np.unsignedinteger]
"""Indices stored without sign: an index that cannot be negative costs compiled code no test."""


class Alias(NamedTuple):
    """Distributions one after the other, E entries in all.

    Attributes:
        cut: (E,) place of the slot in its distribution, plus the share of the slot that its own entry keeps.
        drawn: (2E,) entry that slot e yields below its cut (2e), and from there on (2e + 1).
    """

    cut: Floats
    drawn: Codes


def alias_table(indptr: Ints, probabilities: Floats) -> Alias:
    """Tables of distributions g on the entries indptr[g] to indptr[g + 1] - 1; an entry of probability 0 is never drawn.

    Source: Vose, A linear algorithm for generating random numbers with a given distribution, IEEE TSE 17(9), 1991.

    Args:
        indptr: (G + 1,) boundaries; no distribution is empty.
        probabilities: (E,), each distribution with a positive sum, by which it is divided.

    Example:
        >>> table = alias_table(np.array([0, 3]), np.array([0.5, 0.0, 0.5]))
        >>> picks = [table.drawn[pick(table.cut, np.uint64(0), 3.0, (i + 0.5) / 6)] for i in range(6)]
        >>> np.bincount(picks)
        array([3, 0, 3])
    """
    cut, drawn = probabilities.copy(), np.empty(2 * len(probabilities), np.uint32)
    fill_alias(indptr, cut, drawn)
    return Alias(cut, drawn)


@compiled
def pick(cut: Floats, first: np.uint64, size: float, u: float) -> np.uint64:
    """Place in `drawn` that u in [0, 1) selects from the distribution of `size` entries that begins at `first`."""
    x = u * size
    slot = first + np.uint32(x)
    place: np.uint64 = slot + slot + np.uint64(x >= cut[slot])
    return place


@parallel
def fill_alias(indptr: Ints, cut: Floats, drawn: Codes) -> None:
    """Write every table, as `alias_table`; `cut` holds the probabilities before."""
    for g in prange(len(indptr) - 1):
        low, high = indptr[g], indptr[g + 1]
        scale = (high - low) / cut[low:high].sum()
        for slot in range(low, high):
            cut[slot] *= scale
            drawn[2 * slot], drawn[2 * slot + 1] = slot, slot
        share_out(low, high, cut, drawn)


@compiled
def share_out(low: int, high: int, cut: Floats, drawn: Codes) -> None:
    """Fill the slots below 1 from those above; `cut` holds probability times size, and is what `Alias` says afterwards.

    The slots that are left always hold 1 each on average, so that one of 0 finds a giver; a slot that finds none lacks
    rounding error only, and keeps the whole.
    """
    giver = next_slot(low, high, cut, False)
    reached = next_slot(low, high, cut, True)
    taker = reached
    while taker < high and giver < high:
        drawn[2 * taker + 1] = giver
        cut[giver] -= 1 - cut[taker]
        if cut[giver] < 1 and giver < reached:
            taker = giver
        else:
            reached = next_slot(reached + 1, high, cut, True)
            taker = reached
        if cut[giver] < 1:
            giver = next_slot(giver + 1, high, cut, False)
    for slot in range(low, high):
        cut[slot] = slot - low + (1.0 if drawn[2 * slot + 1] == slot else cut[slot])


@compiled
def next_slot(slot: int, high: int, cut: Floats, below: bool) -> int:
    """The first slot from here whose mass is below 1, or is not; `high` if there is none."""
    while slot < high and (cut[slot] < 1) != below:
        slot += 1
    return slot
