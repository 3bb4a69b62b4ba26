"""Policy trees: the depth-limited decision tree of largest estimated value, and the honest value of a learned policy.

Source: Athey & Wager (2021), Policy learning with observational data, Econometrica 89:133; Zhou, Athey & Wager (2023), Offline
multi-action policy learning, Operations Research 71:148 (exact search for several actions).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints, seed_number, whole_number
from causalrl.errors import DataError, EstimandError, PolicyError
from causalrl.estimate import Estimate
from causalrl.estimators.base import label
from causalrl.heterogeneity.scores import DoublyRobustScores
from causalrl.kernels.policy_tree import best_split, rows_where
from causalrl.nuisances.crossfit import cluster_folds
from causalrl.policies import Policy

_TIE = 1e-10
"""A deeper tree, or a later split, must earn more than this share of the scores' absolute sum to be preferred."""


@dataclass(frozen=True)
class Leaf:
    """The action of a region, and how many units of the learning sample lie in it."""

    action: int
    n: int


@dataclass(frozen=True)
class Split:
    """Units with feature <= threshold go to `low`, the others to `high`."""

    feature: int
    threshold: float
    low: Node
    high: Node


Node: TypeAlias = Leaf | Split


@dataclass(frozen=True)
class PolicyTree:
    """The tree of at most `depth` splits in a row whose policy has the largest mean of doubly robust scores.

    The search is exact: every tree with splits between observed values is covered, and of those with equal means the shallowest
    is taken, then the first in the order of features and thresholds. With d features of n distinct values and A actions it takes
    O(A^2 d^2 n log n) for depth 2, and d n times that for depth 3: there round the covariates to few distinct values first.

    Args:
        depth: 1, 2 or 3.

    Raises:
        EstimandError: for another depth.

    Example:
        >>> import causalrl as crl
        >>> from simulators import Point
        >>> from sklearn.linear_model import LinearRegression
        >>> study = Point(p=3).sample(4000, seed=0)  # the effect is 1 + x2: treat above -1
        >>> scores = crl.doubly_robust_scores(study, crl.PerAction(LinearRegression()))
        >>> PolicyTree(depth=1).fit(scores)
        if x2 <= -1.18:
            action 0 (n = 450)
        else:
            action 1 (n = 3550)
    """

    depth: int = 2

    def __post_init__(self) -> None:
        whole_number("depth", self.depth, 1, EstimandError, most=3)

    def fit(self, scores: DoublyRobustScores) -> TreePolicy:
        """The best tree on these scores.

        Raises:
            DataError: for scores of one action, or data without covariates.
        """
        if scores.n_actions < 2:
            raise DataError("actions: the data have one action, so that there is nothing to choose.")
        features, data = scores.features, scores.data
        if not features.shape[1]:
            raise DataError("observations: there are no covariates to split on; add columns.")
        sample = _Sample(features, np.ascontiguousarray(scores.gamma))
        root = sample.grow(np.argsort(features, axis=0, kind="stable").T, self.depth)
        return TreePolicy(root, scores.n_actions, scores.feature_names, data.features, data.n_states or None)


class _Sample:
    """Features and scores of the learning sample, and the recursion over nodes."""

    def __init__(self, features: Floats, gamma: Floats) -> None:
        self._features, self._gamma = features, gamma
        self._code = np.stack([np.unique(column, return_inverse=True)[1] for column in features.T]).astype(np.int64)
        self._tie = _TIE * float(np.abs(gamma).sum())

    def grow(self, order: Ints, depth: int) -> Node:
        """The best tree of at most `depth` on the rows, which are sorted by each feature in order (d, m)."""
        order = np.ascontiguousarray(order)
        totals = self._gamma[order[0]].sum(axis=0)
        best, chosen = float(totals.max()), (0, 0, 0)
        for levels in range(1, depth + 1):
            feature, place, value = best_split(order, self._code, self._gamma, levels, self._tie)
            if place and value > best + self._tie:
                best, chosen = value, (levels, feature, place)
        levels, feature, place = chosen
        if not levels:
            return Leaf(int(np.argmax(totals >= best - self._tie)), order.shape[1])
        inside = np.zeros(len(self._gamma), np.bool_)
        inside[order[feature, :place]] = True
        low = self.grow(rows_where(order, inside, True, place), levels - 1)
        high = self.grow(rows_where(order, inside, False, order.shape[1] - place), levels - 1)
        below, above = self._features[order[feature, place - 1 : place + 1], feature]
        middle = below + (above - below) / 2
        return Split(feature, float(middle if middle < above else below), low, high)


@dataclass(frozen=True, eq=False, repr=False)
class TreePolicy(Policy):
    """A decision tree as a policy; printing it shows its rules.

    Attributes:
        root: a `Split` or a `Leaf`.
        n_actions: number of actions.
        feature_names: names of the d features.
        features: maps observations to features (M, d).
        n_states: number of states of tabular data, else None.
    """

    root: Node
    n_actions: int
    feature_names: tuple[str, ...]
    features: Callable[[NDArray[Any]], Floats]
    n_states: int | None = None

    def actions(self, observations: NDArray[Any]) -> Ints:
        """(M,) the recommended action.

        Raises:
            PolicyError: for observations of another kind than those that the tree learned from.
        """
        points = self._features_of(np.asarray(observations))
        chosen = np.zeros(len(points), np.int64)
        nodes = [(self.root, np.arange(len(points)))]
        while nodes:
            node, rows = nodes.pop()
            if isinstance(node, Leaf):
                chosen[rows] = node.action
                continue
            below = points[rows, node.feature] <= node.threshold
            nodes += [(node.low, rows[below]), (node.high, rows[~below])]
        return chosen

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        return np.eye(self.n_actions)[self.actions(observations)]

    def _features_of(self, observations: NDArray[Any]) -> Floats:
        states = self.n_states
        if states is None and observations.ndim == 2 and observations.shape[1] == len(self.feature_names):
            return self.features(observations)
        if states is not None and observations.ndim == 1 and (not len(observations) or observations.max() < states):
            return self.features(observations)
        learned = f"vectors of {', '.join(self.feature_names)}" if states is None else f"states below {states}"
        raise PolicyError(f"{self}: learned from {learned}; the observations have shape {observations.shape}.")

    def __str__(self) -> str:
        rules = "\n".join(self._rules(self.root, ""))
        count = rules.count("action ")
        digest = hashlib.blake2b(rules.encode(), digest_size=3).hexdigest()
        return f"TreePolicy({count} {'leaf' if count == 1 else 'leaves'} #{digest})"

    def __repr__(self) -> str:
        return "\n".join(self._rules(self.root, ""))

    def _rules(self, node: Node, indent: str) -> Iterator[str]:
        if isinstance(node, Leaf):
            yield f"{indent}action {node.action} (n = {node.n})"
            return
        yield f"{indent}if {self.feature_names[node.feature]} <= {node.threshold:.4g}:"
        yield from self._rules(node.low, indent + "    ")
        yield f"{indent}else:"
        yield from self._rules(node.high, indent + "    ")


class PolicyLearner(Protocol):
    """What learns a policy from doubly robust scores."""

    def fit(self, scores: DoublyRobustScores) -> Policy:
        """The learned policy."""
        ...


def honest_value(learner: PolicyLearner, scores: DoublyRobustScores, *, folds: int = 5, seed: int = 0) -> Estimate:
    """Value of the policies that a learner finds, each on units that it did not learn from.

    The policy of fold k is learned from the scores of the other folds: value = 1/n sum_i sum_a pi_k(i)(a | X_i) Gamma_ia. Given
    the policies its terms are means of held-out scores, so that the usual cluster-robust error holds for the average value of
    the policies of the folds. The policy learned from all units is on average a little better than they are. The mean of the
    very scores that a policy was learned from would be too large.

    Args:
        learner: such as `PolicyTree(depth=2)`.
        scores: see `doubly_robust_scores`; a held-out outcome reaches the policy through the nuisances alone.
        folds: at least 2, split by cluster.
        seed: of the split.

    Returns:
        An estimate; less `scores.value(Always(0))` it is the gain over treating nobody, with their joint spread.

    Raises:
        DataError: for more folds than clusters.

    Example:
        >>> import causalrl as crl
        >>> from simulators import Point
        >>> from sklearn.linear_model import LinearRegression
        >>> study = Point(p=3).sample(4000, seed=0)
        >>> scores = crl.doubly_robust_scores(study, crl.PerAction(LinearRegression()))
        >>> gain = honest_value(PolicyTree(depth=1), scores) - scores.value(crl.Always(1))
        >>> 0.0 < gain.value < 0.2  # the best policy gains 0.083
        True
    """
    if isinstance(learner, type) or not hasattr(learner, "fit"):
        raise EstimandError(f"learner: {learner!r} learns no policy; pass an object such as PolicyTree(depth=2).")
    clusters = scores.data.clusters
    count = int(clusters.max()) + 1
    whole_number("folds", folds, 2, most=count)
    fold = cluster_folds(seed_number(seed), count, folds)[clusters]
    values = np.empty(scores.n)
    for k in range(folds):
        held_out = scores.take(fold == k)
        values[fold == k] = held_out.value(learner.fit(scores.take(fold != k))).moments[:, 0]
    return scores.mean(values, f"value of {label(learner)} learned in {folds} folds")
