"""The best split of a node when what follows is an optimal tree of depth 0, 1 or 2: exact, over all features and thresholds.

A depth-1 subtree that sends a prefix of a sorted feature to action a and the rest to b earns T_b + sum over the prefix of
Gamma_a - Gamma_b, with T the totals. So its best value is T_b + the largest prefix sum, which a segment tree over the distinct
values keeps while rows are inserted: O(log n) an insertion, and O(A^2 d^2 n log n) for the best tree of depth 2, where a search
that scans every feature again after each split (Sverdrup, Kanodia, Zhou, Athey & Wager 2020, J. Open Source Software 5:2232)
takes O(A d^2 n^2).

Shapes: order (d, m) the m rows of the node sorted by each feature; code (d, n) place of each row among the distinct values of a
feature; gamma (n, A) scores. A split is (feature, j, value): the first j rows of order[feature] go to the low side.
"""

from __future__ import annotations

import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.jit import compiled


@compiled
def best_split(order: Ints, code: Ints, gamma: Floats, depth: int, tie: float) -> tuple[int, int, float]:
    """The split under which subtrees of `depth` - 1 earn the largest sum of scores; j = 0 where no value divides the rows.

    Of splits whose sums differ by at most `tie` the first wins.
    """
    width, count = order.shape
    feature, place, best = 0, 0, -np.inf
    for f in range(width):
        low, high = _subtree_values(order, code, gamma, f, depth - 1)
        for j in range(1, count):
            if code[f, order[f, j]] != code[f, order[f, j - 1]] and low[j] + high[j] > best + tie:
                feature, place, best = f, j, low[j] + high[j]
    return feature, place, best


@compiled
def _subtree_values(order: Ints, code: Ints, gamma: Floats, f: int, depth: int) -> tuple[Floats, Floats]:
    """(m + 1,) best sums of the first j rows by feature f, and of the others, under trees of `depth`; only where j divides."""
    if depth == 0:
        return _leaf_values(order[f], gamma), _leaf_values(order[f][::-1], gamma)[::-1]
    if depth == 1:
        return _stump_values(order, code, gamma, f)
    count = order.shape[1]
    low, high = np.zeros(count + 1), np.zeros(count + 1)
    inside = np.zeros(len(gamma), np.bool_)
    for j in range(1, count):
        inside[order[f, j - 1]] = True
        if code[f, order[f, j]] != code[f, order[f, j - 1]]:
            low[j] = _depth_two_value(rows_where(order, inside, True, j), code, gamma)
            high[j] = _depth_two_value(rows_where(order, inside, False, count - j), code, gamma)
    return low, high


@compiled
def _leaf_values(rows: Ints, gamma: Floats) -> Floats:
    """(m + 1,) best sum of one action over the first j rows."""
    values, totals = np.zeros(len(rows) + 1), np.zeros(gamma.shape[1])
    for j in range(len(rows)):
        totals += gamma[rows[j]]
        values[j + 1] = totals.max()
    return values


@compiled
def _stump_values(order: Ints, code: Ints, gamma: Floats, f: int) -> tuple[Floats, Floats]:
    """(m + 1,) best sums of the first j rows by feature f, and of the others, under trees of depth 1."""
    return _swept_values(order, code, gamma, order[f]), _swept_values(order, code, gamma, order[f][::-1])[::-1]


@compiled
def _swept_values(order: Ints, code: Ints, gamma: Floats, rows: Ints) -> Floats:
    """(m + 1,) best sum of a depth-1 tree on the first j of the given rows, as they are inserted one by one."""
    width, actions = len(order), gamma.shape[1]
    leaves = np.empty(width, np.int64)
    for g in range(width):
        leaves[g] = 1
        while leaves[g] <= code[g, order[g, -1]]:
            leaves[g] *= 2
    shape = width, actions * (actions - 1) // 2, 2 * leaves.max()
    sums, highs, lows = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    values, totals = np.zeros(len(rows) + 1), np.zeros(actions)
    for j in range(len(rows)):
        row = rows[j]
        totals += gamma[row]
        best = float(totals.max())
        for g in range(width):
            pair, leaf = 0, leaves[g] + code[g, row]
            for a in range(actions):
                for b in range(a + 1, actions):
                    _insert(sums[g, pair], highs[g, pair], lows[g, pair], leaf, gamma[row, a] - gamma[row, b])
                    best = max(best, float(totals[b] + highs[g, pair, 1]), float(totals[a] - lows[g, pair, 1]))
                    pair += 1
        values[j + 1] = best
    return values


@compiled
def _insert(sums: Floats, highs: Floats, lows: Floats, node: int, amount: float) -> None:
    """Add to a leaf of a segment tree of sums and of the largest and smallest prefix sums, the empty prefix among them."""
    sums[node] += amount
    highs[node], lows[node] = max(0.0, sums[node]), min(0.0, sums[node])
    while node > 1:
        node //= 2
        left, right = 2 * node, 2 * node + 1
        sums[node] = sums[left] + sums[right]
        highs[node] = max(highs[left], sums[left] + highs[right])
        lows[node] = min(lows[left], sums[left] + lows[right])


@compiled
def _depth_two_value(order: Ints, code: Ints, gamma: Floats) -> float:
    """Best sum of a tree of depth at most 2 on the rows."""
    width, count = order.shape
    best = -np.inf
    for f in range(width):
        low, high = _stump_values(order, code, gamma, f)
        best = max(best, float(low[count]))
        for j in range(1, count):
            if code[f, order[f, j]] != code[f, order[f, j - 1]]:
                best = max(best, float(low[j] + high[j]))
    return best


@compiled
def rows_where(order: Ints, inside: Bools, side: bool, count: int) -> Ints:
    """(d, count) the sorted rows on one side."""
    out = np.empty((len(order), count), np.int64)
    for g in range(len(order)):
        k = 0
        for row in order[g]:
            if inside[row] == side:
                out[g, k] = row
                k += 1
    return out
