"""Where positivity is weak: a small tree that cuts the covariates into regions by the propensity of their rarest arm.

After Karavani, Bak & Shimoni 2019 (A discriminative approach for finding and characterizing positivity violations using
decision trees), who grow the tree on the treatment; this one is grown on the propensities, which are less noisy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.kernels.rng import derive_seed

_DEPTH = 3
_SMALLEST = 10
_SMALLEST_SHARE = 0.01
_FLOOR = 1e-6


@dataclass(frozen=True, eq=False)
class Region:
    """A box of the covariates.

    Attributes:
        bounds: (column, low, high) for each column that limits it, low < x <= high.
        n: decisions in it. counts: (A,) of each arm.
        arm: the arm whose mean propensity is smallest there. mean, least: mean and least propensity of that arm.
    """

    bounds: tuple[tuple[str, float, float], ...]
    n: int
    counts: Ints
    arm: int
    mean: float
    least: float

    @property
    def rule(self) -> str:
        """The bounds as text."""
        return " and ".join(_condition(*bound) for bound in self.bounds) or "everyone"

    def __repr__(self) -> str:
        took = int(self.counts[self.arm])
        return (
            f"{self.rule}: n = {self.n}, of whom {took} took arm {self.arm}; its propensity is {self.mean:.2g} on average "
            f"and at least {self.least:.2g}"
        )


def _condition(name: str, low: float, high: float) -> str:
    if np.isinf(low):
        return f"{name} <= {high:.6g}"
    return f"{name} > {low:.6g}" if np.isinf(high) else f"{low:.6g} < {name} <= {high:.6g}"


def positivity_regions(
    features: Floats, names: tuple[str, ...], propensities: Floats, actions: Ints, seed: int = 0
) -> tuple[Region, ...]:
    """The leaves of a regression tree of depth 3, those with the rarest arm first.

    The tree predicts the log of each decision's smallest propensity among the arms that occur (below 1e-6 it counts as 1e-6
    there). It is grown on the columns' ranks, so that no unit of measurement matters, and no leaf is smaller than 10 decisions
    or 1 in 100.

    Args:
        features: (n, d). names: d. propensities: (n, A). actions: (n,). seed: breaks ties between columns.

    Example:
        >>> age = np.arange(40.0)[:, None]
        >>> e = np.where(age[:, 0] > 29, 0.02, 0.5)
        >>> taken = np.tile([0, 1], 20)
        >>> regions = positivity_regions(age, ("age",), np.column_stack([1 - e, e]), taken)
        >>> [region.rule for region in regions]
        ['age > 29.5', 'age <= 29.5']
    """
    from sklearn.tree import DecisionTreeRegressor

    arms = np.unique(actions)
    rarest = np.log(np.maximum(propensities[:, arms].min(axis=1), _FLOOR))
    values, codes = zip(*(np.unique(column, return_inverse=True) for column in features.T), strict=True)
    leaf = max(_SMALLEST, int(np.ceil(_SMALLEST_SHARE * len(features))))
    state = derive_seed(seed, "positivity") % 2**32
    tree = DecisionTreeRegressor(max_depth=_DEPTH, min_samples_leaf=leaf, min_impurity_decrease=1e-6, random_state=state)
    tree.fit(np.column_stack(codes), rarest)
    boxes = _leaves(tree.tree_, values, np.tile([-np.inf, np.inf], (features.shape[1], 1)))
    regions = [_region(box, features, names, propensities, actions) for box in boxes]
    return tuple(sorted(regions, key=lambda region: region.mean))


def _leaves(tree: Any, values: tuple[Floats, ...], box: Floats, node: int = 0) -> list[Floats]:
    """(d, 2) limits of every leaf below a node; a cut between two ranks is half way between their values."""
    if tree.children_left[node] < 0:
        return [box]
    column = int(tree.feature[node])
    rank = int(np.floor(tree.threshold[node]))
    below, above = values[column][rank], values[column][rank + 1]
    middle = below + (above - below) / 2
    cut = middle if middle < above else below
    left, right = box.copy(), box.copy()
    left[column, 1] = right[column, 0] = cut
    return [
        *_leaves(tree, values, left, int(tree.children_left[node])),
        *_leaves(tree, values, right, int(tree.children_right[node])),
    ]


def _region(box: Floats, features: Floats, names: tuple[str, ...], propensities: Floats, actions: Ints) -> Region:
    limited = np.flatnonzero(np.isfinite(box).any(axis=1))
    inside: Bools = np.all((features > box[:, 0]) & (features <= box[:, 1]), axis=1)
    counts = np.bincount(actions[inside], minlength=propensities.shape[1])
    arms = np.unique(actions)
    arm = int(arms[propensities[inside][:, arms].mean(axis=0).argmin()])
    own = propensities[inside, arm]
    bounds = tuple((names[j], float(box[j, 0]), float(box[j, 1])) for j in limited)
    return Region(bounds, int(inside.sum()), counts, arm, float(own.mean()), float(own.min()))
