"""Policy trees against an exhaustive search by loops and exact values; the honest value of what was learned."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.linear_model import LinearRegression

import causalrl as crl
from causalrl.checks import Floats
from causalrl.diagnostics.record import diagnostics_record
from causalrl.errors import DataError, EstimandError, PolicyError
from causalrl.learning import Leaf, PolicyTree, Split, TreePolicy, honest_value
from causalrl.nuisances.crossfit import cluster_folds
from simulators import Kunzel, Point
from tests.conftest import output_whatever_runs_it

OUTCOME = crl.PerAction(LinearRegression())


def given_scores(features: Floats, gamma: Floats, clusters: Sequence[int] | None = None) -> crl.DoublyRobustScores:
    """Scores that are given, on units with these covariates."""
    arms = np.arange(len(gamma)) % gamma.shape[1]
    data = crl.Trajectories.from_cross_section(features, arms, np.zeros(len(gamma)), clusters=clusters)
    return crl.DoublyRobustScores(np.array(gamma), data, "given", diagnostics_record(), True)


def random_scores(n: int, d: int, actions: int, seed: int, levels: int | None = None) -> crl.DoublyRobustScores:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, d)) if levels is None else rng.integers(0, levels, (n, d)).astype(float)
    return given_scores(features, rng.normal(size=(n, actions)))


def best_sum(features: Floats, gamma: Floats, depth: int) -> float:
    """Largest sum of scores of any tree of at most this depth, by trying every split of every node."""
    best = float(gamma.sum(axis=0).max())
    if depth == 0:
        return best
    for column in features.T:
        for threshold in np.unique(column)[:-1]:
            low = column <= threshold
            parts = (best_sum(features[side], gamma[side], depth - 1) for side in (low, ~low))
            best = max(best, sum(parts))
    return best


def earned(policy: TreePolicy, scores: crl.DoublyRobustScores) -> float:
    return float(scores.gamma[np.arange(scores.n), policy.actions(scores.data.observations)].sum())


@pytest.mark.parametrize(("n", "d", "depth"), [(40, 3, 1), (18, 3, 2), (9, 2, 3), (14, 1, 3)])
@pytest.mark.parametrize(("actions", "levels"), [(2, None), (2, 3), (3, None), (4, 4)])
@pytest.mark.parametrize("seed", range(2))
def test_no_tree_earns_more(n: int, d: int, depth: int, actions: int, levels: int | None, seed: int) -> None:
    scores = random_scores(n, d, actions, seed, levels)
    policy = PolicyTree(depth).fit(scores)
    assert earned(policy, scores) == pytest.approx(best_sum(scores.features, scores.gamma, depth), abs=1e-9)
    assert height(policy.root) <= depth


def height(node: Leaf | Split) -> int:
    return 0 if isinstance(node, Leaf) else 1 + max(height(node.low), height(node.high))


def test_leaves_count_the_units_and_thresholds_lie_between_values() -> None:
    scores = random_scores(200, 3, 2, 5, levels=4)
    policy = PolicyTree(2).fit(scores)

    def check(node: Leaf | Split, rows: Floats) -> None:
        if isinstance(node, Leaf):
            assert node.n == len(rows)
            return
        low = rows[:, node.feature] <= node.threshold
        assert 0 < low.sum() < len(rows)
        assert node.threshold not in rows[:, node.feature]
        check(node.low, rows[low])
        check(node.high, rows[~low])

    check(policy.root, scores.features)


def test_the_shallowest_of_equal_trees() -> None:
    features = np.array(list(itertools.product([0.0, 1.0], repeat=2)) * 5)
    one_for_all = given_scores(features, np.column_stack([np.zeros(20), np.ones(20)]))
    assert PolicyTree(3).fit(one_for_all).root == Leaf(1, 20)
    effect = np.where(features[:, 1] > 0, 1.0, -1.0)
    by_second = PolicyTree(3).fit(given_scores(features, np.column_stack([np.zeros(20), effect])))
    assert by_second.root == Split(1, 0.5, Leaf(0, 10), Leaf(1, 10))
    exclusive = np.where(features[:, 0] == features[:, 1], 1.0, -1.0)
    checker = PolicyTree(2).fit(given_scores(features, np.column_stack([np.zeros(20), exclusive])))
    assert checker.root == Split(0, 0.5, Split(1, 0.5, Leaf(1, 5), Leaf(0, 5)), Split(1, 0.5, Leaf(0, 5), Leaf(1, 5)))
    assert height(PolicyTree(1).fit(given_scores(features, np.column_stack([np.zeros(20), exclusive]))).root) == 0


@pytest.mark.parametrize("depth", [1, 2])
def test_neither_the_order_of_rows_nor_the_names_of_arms_matter(depth: int) -> None:
    scores = random_scores(120, 4, 3, 3, levels=6)
    policy, rng = PolicyTree(depth).fit(scores), np.random.default_rng(0)
    moved = PolicyTree(depth).fit(scores.take(rng.permutation(scores.n)))
    assert repr(moved) == repr(policy)
    renamed = PolicyTree(depth).fit(given_scores(scores.features, scores.gamma[:, [2, 0, 1]]))
    names = np.array([2, 0, 1])
    np.testing.assert_array_equal(names[renamed.actions(scores.features)], policy.actions(scores.features))


def test_a_larger_unit_of_the_scores_or_a_common_shift_changes_nothing() -> None:
    scores = random_scores(120, 4, 2, 4)
    shifted = given_scores(scores.features, 1e6 * (scores.gamma + np.arange(120)[:, None] / 7))
    assert repr(PolicyTree(2).fit(shifted)) == repr(PolicyTree(2).fit(scores))


def test_the_same_with_and_without_the_compiler() -> None:
    output_whatever_runs_it(
        "from tests.test_policy_tree import random_scores, PolicyTree\n"
        "for depth, n in ((1, 20), (2, 12), (3, 6)):\n"
        "    print(repr(PolicyTree(depth).fit(random_scores(n, 3, 3, 1))))"
    )


def test_a_tree_is_a_policy_like_any_other() -> None:
    study = Point(p=3).sample(1500, seed=0)
    scores = crl.doubly_robust_scores(study, OUTCOME)
    policy = PolicyTree(1).fit(scores)
    assert repr(policy).startswith("if x2 <= -")
    assert "action 0 (n = " in repr(policy)
    assert str(policy).startswith("TreePolicy(2 leaves #")
    table = crl.evaluate(study, {"tree": policy, "all": crl.Always(1)}, [crl.IPW(), crl.DR(q=OUTCOME, folds=5)])
    values = table.frame.set_index(["policy", "estimator"])["value"]
    assert values["tree"].iloc[1] == pytest.approx(scores.value(policy).value, rel=1e-9)
    assert (values["tree"] > values["all"]).all()
    with pytest.raises(PolicyError, match="learned from vectors of x1, x2, x3"):
        policy.actions(np.zeros((4, 2)))


def test_strata_and_dataframes_name_their_features() -> None:
    rng = np.random.default_rng(0)
    states, arms = rng.integers(0, 4, 400), rng.integers(0, 2, 400)
    study = crl.Trajectories.from_cross_section(
        states, arms, arms * np.where(states == 2, -1.0, 1.0), propensity=np.full(400, 0.5)
    )
    policy = PolicyTree(1).fit(crl.doubly_robust_scores(study, crl.TabularQ()))
    assert "if state 2 <= 0.5:" in repr(policy)
    np.testing.assert_array_equal(policy.actions(np.arange(4)), [1, 1, 0, 1])
    assert crl.IPW().estimate(study, policy).value == pytest.approx(0.75, abs=0.1)
    with pytest.raises(PolicyError, match="states below 4"):
        policy.actions(np.array([4]))


# ------------------------------------------------------------------------------------------------------------ values


def exact_value(policy: TreePolicy) -> float:
    """E[pi(X) (1 + X2)] of a tree on `Point`: a sum over the boxes of its leaves."""

    def value(node: Leaf | Split, box: dict[int, tuple[float, float]]) -> float:
        if isinstance(node, Split):
            low, high = box.get(node.feature, (-np.inf, np.inf))
            below = {**box, node.feature: (low, min(high, node.threshold))}
            above = {**box, node.feature: (max(low, node.threshold), high)}
            return value(node.low, below) + value(node.high, above)
        mass = {j: norm.cdf(b) - norm.cdf(a) for j, (a, b) in box.items()}
        a, b = box.get(1, (-np.inf, np.inf))
        others = np.prod([m for j, m in mass.items() if j != 1])
        return node.action * float(others * (mass.get(1, 1.0) + norm.pdf(a) - norm.pdf(b)))

    return value(policy.root, {})


BEST_ON_POINT = norm.cdf(1) + norm.pdf(1)  # E[max(0, 1 + X2)]


def test_the_exact_value_of_a_tree() -> None:
    features, space = np.random.default_rng(0).normal(size=(200_000, 3)), ("x1", "x2", "x3")
    root = Split(
        0, 0.3, Split(1, -0.8, Leaf(0, 1), Leaf(1, 1)), Split(1, -1.0, Leaf(0, 1), Split(2, 0.0, Leaf(1, 1), Leaf(0, 1)))
    )
    policy = TreePolicy(root, 2, space, lambda x: x)
    assert exact_value(policy) == pytest.approx(np.mean(policy.actions(features) * (1 + features[:, 1])), abs=0.01)
    assert exact_value(TreePolicy(Split(1, -1.0, Leaf(0, 1), Leaf(1, 1)), 2, space, lambda x: x)) == pytest.approx(BEST_ON_POINT)


def test_regret_on_point_shrinks() -> None:
    design = Point(p=4)
    regret = [
        np.mean(
            [
                BEST_ON_POINT - exact_value(PolicyTree(2).fit(crl.doubly_robust_scores(design.sample(n, r), OUTCOME)))
                for r in range(12)
            ]
        )
        for n in (250, 1000, 4000)
    ]
    assert 0 <= regret[2] < 0.6 * regret[1] < 0.36 * regret[0]
    assert regret[2] < 0.02


def test_regret_on_kunzel_shrinks() -> None:
    """Simulation 2, effects x'(b1 - b0): against the best tree on the true effects of 4,000 other units."""
    design, units = Kunzel(2), Kunzel(2).sample(4000, seed=99).observations
    truth = given_scores(units, np.column_stack([np.zeros(4000), design.effect(units)]))
    best = earned(PolicyTree(2).fit(truth), truth)
    found = [
        np.mean([earned(PolicyTree(2).fit(crl.doubly_robust_scores(design.sample(n, r), OUTCOME)), truth) for r in range(4)])
        / best
        for n in (100, 400, 1600)
    ]
    assert found[0] < found[1] < found[2]
    assert found[2] > 0.9


def test_the_honest_value_is_the_mean_of_held_out_scores() -> None:
    scores = crl.doubly_robust_scores(Point(p=3).sample(600, seed=1), OUTCOME)
    estimate = honest_value(PolicyTree(1), scores, folds=3, seed=4)
    fold, values = cluster_folds(4, 600, 3), np.empty(600)
    for k in range(3):
        policy = PolicyTree(1).fit(scores.take(np.flatnonzero(fold != k)))
        for i in np.flatnonzero(fold == k):
            values[i] = scores.gamma[i, policy.actions(scores.features[[i]])[0]]
    assert estimate.value == pytest.approx(values.mean(), rel=1e-12)
    assert estimate.stderr == pytest.approx(values.std(ddof=1) / np.sqrt(600), rel=1e-9)
    assert honest_value(PolicyTree(1), scores, folds=3, seed=4).value == estimate.value
    assert honest_value(PolicyTree(1), scores, folds=3, seed=5).value != estimate.value


def test_clusters_stay_together_and_widen_the_interval() -> None:
    scores = random_scores(90, 2, 2, 0)
    twice = given_scores(np.tile(scores.features, (2, 1)), np.tile(scores.gamma, (2, 1)), clusters=[*range(90)] * 2)
    one, two = (honest_value(PolicyTree(1), given, folds=3) for given in (scores, twice))
    assert (two.value, two.stderr) == pytest.approx((one.value, one.stderr), rel=1e-9)


@pytest.mark.slow
def test_the_honest_interval_covers_and_the_naive_one_does_not() -> None:
    """95% intervals of 200 samples: the honest one within 4 binomial standard deviations, the optimistic mean too large."""
    design, covered, optimism = Point(p=5), [], []
    for r in range(200):
        scores = crl.doubly_robust_scores(design.sample(500, seed=r), OUTCOME, crl.Logit(), seed=r)
        fold = cluster_folds(r, 500, 5)
        policies = [PolicyTree(2).fit(scores.take(fold != k)) for k in range(5)]
        truth = float(np.mean([exact_value(policy) for policy in policies]))
        estimate = honest_value(PolicyTree(2), scores, seed=r)
        covered.append(truth in estimate.interval())
        whole = PolicyTree(2).fit(scores)
        optimism.append(scores.value(whole).value - exact_value(whole))
    assert abs(np.mean(covered) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)
    assert np.mean(optimism) > 4 * np.std(optimism) / np.sqrt(200)


# --------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("depth", [0, 4, 1.5, True, "2"])
def test_a_depth_that_is_none(depth: object) -> None:
    with pytest.raises(EstimandError, match=r"depth: .* at least 1 and at most 3"):
        PolicyTree(depth)  # type: ignore[arg-type]


def test_what_cannot_be_learned_from() -> None:
    scores = random_scores(20, 2, 2, 0)
    lone = crl.Trajectories.from_arrays(np.zeros((3, 1)), [0] * 3, [0.0] * 3, range(4))
    with pytest.raises(DataError, match="one action"):
        PolicyTree().fit(crl.DoublyRobustScores(np.zeros((3, 1)), lone, "given", diagnostics_record(), True))
    with pytest.raises(DataError, match="no covariates"):
        PolicyTree().fit(given_scores(np.zeros((4, 0)), np.zeros((4, 2))))
    with pytest.raises(EstimandError, match="pass an object"):
        honest_value(PolicyTree, scores)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="folds: 21; pass a whole number, at least 2 and at most 20"):
        honest_value(PolicyTree(), scores, folds=21)
    with pytest.raises(DataError, match="seed"):
        honest_value(PolicyTree(), scores, seed=-1)


def test_constant_covariates_give_one_leaf() -> None:
    scores = given_scores(np.ones((10, 2)), np.column_stack([np.zeros(10), np.arange(10) - 3.0]))
    assert PolicyTree(3).fit(scores).root == Leaf(1, 10)
