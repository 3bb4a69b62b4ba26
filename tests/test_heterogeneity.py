"""Doubly robust scores and what is made of them, against loops, least squares, definitions and exact values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

import causalrl as crl
from causalrl.checks import Floats
from causalrl.errors import DataError, EstimandError
from causalrl.nuisances.crossfit import cluster_folds
from simulators import Point
from tests.conftest import cross_section

OUTCOME = crl.PerAction(LinearRegression())
AUTOC = quad(lambda z: -z * norm.pdf(z) * norm.logsf(z), -12, 12)[0]
"""Of `Point` by x2, whose effect is 1 + x2: E[x2 (-log P(X2 >= x2) - 1)]."""
QINI = 1 / (2 * np.sqrt(np.pi))
"""E[x2 (1/2 - P(X2 >= x2))] = E[x2 Phi(x2)]."""


def scored(n: int = 400, seed: int = 0, **options: Any) -> crl.DoublyRobustScores:
    return crl.doubly_robust_scores(Point(p=4).sample(n, seed), OUTCOME, **options)


@pytest.fixture(scope="module")
def scores() -> crl.DoublyRobustScores:
    return scored()


def columns_of(scores: crl.DoublyRobustScores) -> Floats:
    return scores.data.observations


# ------------------------------------------------------------------------------------------------------------ scores


def test_scores_by_hand() -> None:
    study = Point(p=3).sample(90, seed=2)
    scores = crl.doubly_robust_scores(study, OUTCOME, folds=3, seed=7)
    fold, X, e = cluster_folds(7, 90, 3), study.observations, Point(p=3).propensity(study.observations)
    for i in range(90):
        for arm in (0, 1):
            learned = (fold != fold[i]) & (study.actions == arm)
            mean = LinearRegression().fit(X[learned], study.rewards[learned]).predict(X[[i]])[0]
            weight = (study.actions[i] == arm) / (e[i] if arm else 1 - e[i])
            assert scores.gamma[i, arm] == pytest.approx(mean + weight * (study.rewards[i] - mean), abs=1e-9)


@pytest.mark.parametrize("propensity", [None, crl.Logit()])
def test_their_mean_is_the_doubly_robust_estimate(propensity: Any) -> None:
    study = Point().sample(500, seed=1)
    scores = crl.doubly_robust_scores(study, OUTCOME, propensity)
    reference = crl.DR(q=OUTCOME, behavior=propensity, folds=5)
    assert scores.effect().mean() == pytest.approx(reference.estimate(study, crl.ATE()).value, rel=1e-10)
    gain = scores.value(crl.Always(1)) - scores.value(crl.Uniform(2))
    assert gain.value == pytest.approx(scores.effect().mean() / 2)
    if propensity is None:
        assert gain.stderr == pytest.approx(reference.estimate(study, crl.ATE()).stderr / 2, rel=1e-10)


def test_three_arms(scores: crl.DoublyRobustScores) -> None:
    study = cross_section(600, arms=3)
    three = crl.doubly_robust_scores(study, OUTCOME)
    assert three.n_actions == 3
    np.testing.assert_allclose(three.effect(2, 0), three.effect(2, 1) + three.effect(1, 0))
    assert 2.0 in crl.best_linear_projection(three, ["age"], treated=2)["intercept"].interval()
    for pair, text in (((3, 0), "arm: 3"), ((1, 1), "compared with itself")):
        with pytest.raises(EstimandError, match=text):
            three.effect(*pair)


def test_a_seed_gives_the_same_bits_and_another_seed_others() -> None:
    study, forest = Point(p=3).sample(120, seed=0), crl.PerAction(RandomForestRegressor(5))
    same = [crl.doubly_robust_scores(study, forest, folds=2, seed=seed).gamma for seed in (0, 0, 1)]
    np.testing.assert_array_equal(same[0], same[1])
    assert not np.allclose(same[0], same[2])


# --------------------------------------------------------------------------------------------------------- summaries


def test_subgroups_by_hand(scores: crl.DoublyRobustScores) -> None:
    effect, x = scores.effect(), columns_of(scores)
    labels = np.where(x[:, 0] > 0.5, "high", "low")
    estimate = crl.subgroup_effects(scores, labels)
    assert estimate.labels == ("high", "low")
    for name in estimate.labels:
        own = effect[labels == name]
        assert estimate[name].value == pytest.approx(own.mean(), rel=1e-12)
        expected = np.sqrt(np.sum((own - own.mean()) ** 2) * 400 / 399) / len(own)
        assert estimate[name].stderr == pytest.approx(expected, rel=1e-9)
    masks = {"all": np.ones(400, bool), "high": labels == "high"}
    overlapping = crl.subgroup_effects(scores, masks)
    assert overlapping["all"].value == pytest.approx(effect.mean())
    assert overlapping["all"].stderr == pytest.approx(effect.std(ddof=1) / 20, rel=1e-9)
    bands = crl.simultaneous([overlapping[name] for name in masks])
    assert bands.critical > 1.96


def test_the_projection_is_least_squares_with_the_sandwich(scores: crl.DoublyRobustScores) -> None:
    estimate = crl.best_linear_projection(scores, ["x3", "x1"])
    basis = sm.add_constant(columns_of(scores)[:, [2, 0]])
    fit = sm.OLS(scores.effect(), basis).fit(cov_type="HC0")
    np.testing.assert_allclose(estimate.value, fit.params, rtol=1e-9)
    np.testing.assert_allclose(estimate.stderr, fit.bse * np.sqrt(400 / 399), rtol=1e-9)
    assert estimate.labels == ("intercept", "x3", "x1")
    everything = crl.best_linear_projection(scores)
    np.testing.assert_allclose(crl.best_linear_projection(scores, columns_of(scores)).value, everything.value)
    scaled = crl.best_linear_projection(scores, 1e8 + 1e3 * columns_of(scores))
    np.testing.assert_allclose(scaled.value[1:], everything.value[1:] / 1e3, rtol=1e-5)


def test_sorted_groups_are_subgroups_of_ranks(scores: crl.DoublyRobustScores) -> None:
    priority = columns_of(scores)[:, 1]
    rank = np.argsort(np.argsort(priority))
    sorted_groups = crl.sorted_group_effects(scores, priority, groups=4)
    by_hand = crl.subgroup_effects(scores, rank // 100)
    np.testing.assert_allclose(sorted_groups.value, by_hand.value)
    np.testing.assert_allclose(sorted_groups.stderr, by_hand.stderr)
    assert sorted_groups.labels == ("group 1", "group 2", "group 3", "group 4")
    tied = crl.sorted_group_effects(scores, np.repeat([0.0, 1.0], 200), groups=2)
    np.testing.assert_allclose(tied.value, crl.subgroup_effects(scores, np.repeat([0, 1], 200)).value)


def jackknife(statistic: Callable[[crl.DoublyRobustScores, Floats], float], scores: crl.DoublyRobustScores, x: Floats) -> float:
    keep = ~np.eye(scores.n, dtype=bool)
    left = np.array([statistic(scores.take(kept), x[kept]) for kept in keep])
    return float(np.sqrt((scores.n - 1) / scores.n * np.sum((left - left.mean()) ** 2)))


def test_calibration_is_the_regression_on_mean_and_deviation(scores: crl.DoublyRobustScores) -> None:
    prediction = 0.5 + 2 * columns_of(scores)[:, 1] + columns_of(scores)[:, 0]
    estimate = crl.effect_calibration(scores, prediction)
    basis = np.column_stack([np.full(400, prediction.mean()), prediction - prediction.mean()])
    np.testing.assert_allclose(estimate.value, np.linalg.lstsq(basis, scores.effect())[0], rtol=1e-9)
    for name in ("mean", "differential"):
        spread = jackknife(lambda s, x, name=name: float(crl.effect_calibration(s, x)[name].value), scores, prediction)
        assert estimate[name].stderr == pytest.approx(spread, rel=0.03)


# --------------------------------------------------------------------------------------------------------- targeting


def curve_by_definition(effect: Floats, priority: Floats, shares: Floats) -> Floats:
    """TOC: units in decreasing order of priority, tied ones with the mean of their scores, each spread over 1/n of the share."""
    levels = np.unique(priority)[::-1]
    ordered = np.concatenate([np.full((priority == s).sum(), effect[priority == s].mean()) for s in levels])
    area = np.interp(shares, np.arange(len(effect) + 1) / len(effect), np.append(0, np.cumsum(ordered)) / len(effect))
    return area / shares - effect.mean()


@pytest.mark.parametrize("digits", [8, 0])
def test_the_curve_and_its_areas_by_their_definitions(scores: crl.DoublyRobustScores, digits: int) -> None:
    priority = np.round(columns_of(scores)[:, 1], digits)
    curve = crl.targeting_curve(scores, priority)
    shares = np.array([0.013, 0.2, 0.5, 0.9, 1.0])
    np.testing.assert_allclose(curve.at(shares).value, curve_by_definition(scores.effect(), priority, shares), atol=1e-12)
    cells = 400_000
    middle = (np.arange(cells) + 0.5) / cells
    toc = curve_by_definition(scores.effect(), priority, middle)
    assert curve.autoc.value == pytest.approx(toc.mean(), abs=1e-6)
    assert curve.qini.value == pytest.approx((middle * toc).mean(), abs=1e-6)


def test_the_sum_over_ranks_of_the_paper_differs_by_one_over_n(scores: crl.DoublyRobustScores) -> None:
    """Yadlowsky et al.: the mean over j of the TOC at j / n."""
    priority = columns_of(scores)[:, 1]
    ordered = scores.effect()[np.argsort(-priority)]
    sum_over_ranks = np.mean(np.cumsum(ordered) / np.arange(1, 401)) - ordered.mean()
    assert crl.targeting_curve(scores, priority).autoc.value == pytest.approx(sum_over_ranks, abs=20 / 400)


@pytest.mark.parametrize("digits", [8, 0])
@pytest.mark.parametrize("area", ["autoc", "qini"])
def test_errors_of_the_areas_are_the_jackknife_s(area: str, digits: int) -> None:
    scores = scored(250, seed=3)
    priority = np.round(columns_of(scores)[:, 1], digits)
    estimate = getattr(crl.targeting_curve(scores, priority), area)
    spread = jackknife(lambda s, x: float(getattr(crl.targeting_curve(s, x), area).value), scores, priority)
    assert estimate.stderr == pytest.approx(spread, rel=0.05)


def test_true_scores_give_the_true_areas() -> None:
    x = norm.isf((np.arange(20_000) + 0.5) / 20_000)
    study = crl.Trajectories.from_cross_section(x[:, None], np.arange(20_000) % 2, np.zeros(20_000))
    given = crl.DoublyRobustScores(np.column_stack([0 * x, 1 + x]), study, "given", scored(50).diagnostics, True)
    curve = crl.targeting_curve(given, x)
    assert (curve.autoc.value, curve.qini.value) == pytest.approx((AUTOC, QINI), abs=1e-3)
    np.testing.assert_allclose(curve.at([0.1, 0.5]).value, [norm.pdf(norm.isf(u)) / u for u in (0.1, 0.5)], atol=1e-3)
    assert crl.targeting_curve(given, -x).qini.value == pytest.approx(-QINI, abs=1e-3)


def test_a_curve_prints_and_draws_itself(scores: crl.DoublyRobustScores) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    curve = crl.targeting_curve(scores, columns_of(scores)[:, 1])
    assert "AUTOC" in repr(curve)
    assert curve.at([0.05, 0.2]).labels == ("5%", "20%")
    ax = curve.plot()
    assert "TOC of the effect of 1 against 0" in ax.get_ylabel()
    plt.close(ax.figure)


# -------------------------------------------------------------------------------------------------------- invariances

SUMMARIES: dict[str, Callable[[crl.DoublyRobustScores], crl.Estimate]] = {
    "subgroups": lambda s: crl.subgroup_effects(s, columns_of(s)[:, 0] > 0),
    "projection": lambda s: crl.best_linear_projection(s, ["x2"]),
    "sorted": lambda s: crl.sorted_group_effects(s, columns_of(s)[:, 1]),
    "calibration": lambda s: crl.effect_calibration(s, 1 + columns_of(s)[:, 1]),
    "toc": lambda s: crl.targeting_curve(s, columns_of(s)[:, 1]).at([0.2, 0.5]),
    "autoc": lambda s: crl.targeting_curve(s, columns_of(s)[:, 1]).autoc,
    "qini": lambda s: crl.targeting_curve(s, columns_of(s)[:, 1]).qini,
}
summaries = pytest.mark.parametrize("name", SUMMARIES)


@summaries
def test_the_order_of_rows_does_not_matter(scores: crl.DoublyRobustScores, name: str) -> None:
    moved = scores.take(np.random.default_rng(0).permutation(scores.n))
    one, other = SUMMARIES[name](scores), SUMMARIES[name](moved)
    np.testing.assert_allclose(other.value, one.value, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other.stderr, one.stderr, rtol=1e-9)


@summaries
def test_exchanged_arms_change_the_sign(scores: crl.DoublyRobustScores, name: str) -> None:
    data, gamma = scores.data, scores.gamma[:, ::-1].copy()
    exchanged = crl.DoublyRobustScores(gamma, data, scores.recipe, scores.diagnostics, False)
    one, other = SUMMARIES[name](scores), SUMMARIES[name](exchanged)
    np.testing.assert_allclose(other.value, -np.asarray(one.value), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(other.stderr, one.stderr, rtol=1e-9)


@pytest.mark.parametrize("name", [name for name in SUMMARIES if name != "toc"])  # the effect at its cut is a local mean
def test_data_doubled_within_clusters_say_the_same(name: str) -> None:
    study = Point(p=4).sample(200, seed=5)
    rows, clusters = np.tile(np.arange(200), 2), np.tile(np.arange(200), 2)
    probabilities = study.behavior_probabilities
    assert probabilities is not None
    twice = crl.Trajectories.from_cross_section(
        study.observations[rows],
        study.actions[rows],
        study.rewards[rows],
        propensity=probabilities[rows],
        clusters=clusters,
        feature_names=study.feature_names,
    )
    one, two = (SUMMARIES[name](crl.doubly_robust_scores(data, OUTCOME)) for data in (study, twice))
    np.testing.assert_allclose(two.value, one.value, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(two.stderr, one.stderr, rtol=1e-9)


# ------------------------------------------------------------------------------------------------------------ coverage


@pytest.mark.slow
def test_intervals_cover() -> None:
    """95% intervals of 200 samples of `Point`, n = 1,000, within 4 binomial standard deviations."""
    shares = np.array([0.1, 0.5])
    group_truth = np.array([1 - 2 * norm.pdf(0), 1 + 2 * norm.pdf(0)])
    toc_truth = norm.pdf(norm.isf(shares)) / shares
    covered = []
    for r in range(200):
        scores = scored(1000, seed=r, propensity=crl.Logit())
        curve = crl.targeting_curve(scores, columns_of(scores)[:, 1])
        pairs = [
            (crl.best_linear_projection(scores), [1, 0, 1, 0, 0]),
            (crl.subgroup_effects(scores, columns_of(scores)[:, 1] > 0), group_truth),
            (crl.effect_calibration(scores, 1 + columns_of(scores)[:, 1]), [1, 1]),
            (curve.at(shares), toc_truth),
            (curve.autoc, [AUTOC]),
            (curve.qini, [QINI]),
        ]
        limits = [(*map(np.atleast_1d, estimate.interval()), truth) for estimate, truth in pairs]
        covered.append(np.concatenate([(low <= truth) & (truth <= high) for low, high, truth in limits]))
    rates = np.mean(covered, axis=0)
    assert (np.abs(rates - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)).all(), rates


# ----------------------------------------------------------------------------------------------------------- bad input


def test_data_without_scores() -> None:
    sequential = crl.Trajectories.from_arrays(np.zeros((4, 1)), [0, 1, 0, 1], [0.0] * 4, [0, 2, 4])
    with pytest.raises(EstimandError, match="sequential"):
        crl.doubly_robust_scores(sequential, OUTCOME)
    absent = crl.Trajectories.from_arrays(np.zeros((4, 1)), [0, 1, 0, 1], [0.0] * 4, range(5), n_actions=3)
    with pytest.raises(DataError, match="action 2 of 3 never occurs"):
        crl.doubly_robust_scores(absent, OUTCOME)
    study = cross_section(40)
    with pytest.raises(DataError, match="41 folds of 40 clusters"):
        crl.doubly_robust_scores(study, OUTCOME, folds=41)
    with pytest.raises(EstimandError, match="no value model"):
        crl.doubly_robust_scores(study, LinearRegression())  # type: ignore[arg-type]
    with pytest.raises(DataError, match="Trajectories"):
        crl.doubly_robust_scores(np.zeros(3), OUTCOME)  # type: ignore[arg-type]
    with pytest.raises(EstimandError, match="made of the behaviour policy"):
        scored(50).value(crl.NaturalCourse())


def test_an_arm_that_a_fold_lacks() -> None:
    study = crl.Trajectories.from_cross_section(np.arange(20.0)[:, None], [1] + [0] * 19, np.arange(20.0), propensity=[0.5] * 20)
    with pytest.raises((DataError, EstimandError)) as caught:
        crl.doubly_robust_scores(study, OUTCOME)
    assert "1" in str(caught.value)


GROUPS = [
    (np.zeros(3), "shape"),
    ([None] + ["a"] * 399, "row 0 has no label"),
    ([np.nan] + [1.0] * 399, "row 0 has no label"),
    (["a"] + ["b"] * 399, "'a' holds 1 units"),
    ({"empty": np.zeros(400, bool)}, "'empty' holds 0 units"),
    ({"numbers": np.zeros(400)}, "pass a mask"),
    ({"short": np.zeros(3, bool)}, "shape"),
    ({}, "there are none"),
]


@pytest.mark.parametrize(("groups", "text"), GROUPS)
def test_groups_that_are_none(scores: crl.DoublyRobustScores, groups: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        crl.subgroup_effects(scores, groups)


def test_priorities_that_are_none(scores: crl.DoublyRobustScores) -> None:
    missing, x = np.append(np.nan, np.arange(399.0)), columns_of(scores)[:, 1]
    for summary in (crl.targeting_curve, crl.sorted_group_effects):
        with pytest.raises(DataError, match="priority: row 0 is nan"):
            summary(scores, missing)
        with pytest.raises(DataError, match="priority: shape"):
            summary(scores, x[:-1])
    with pytest.raises(DataError, match="orders nobody"):
        crl.targeting_curve(scores, np.ones(400))
    with pytest.raises(DataError, match="with 2 distinct values"):
        crl.sorted_group_effects(scores, (x > 0).astype(float), groups=5)
    with pytest.raises(DataError, match="groups: 1"):
        crl.sorted_group_effects(scores, x, groups=1)
    for shares in ([0.0, 0.5], [0.5, 0.2], [1.5], [], 0.5):
        with pytest.raises(DataError, match="fractions"):
            crl.targeting_curve(scores, x).at(shares)  # type: ignore[arg-type]


def test_predictions_and_covariates_that_are_none(scores: crl.DoublyRobustScores) -> None:
    x = columns_of(scores)
    with pytest.raises(DataError, match="for every unit"):
        crl.effect_calibration(scores, np.ones(400))
    with pytest.raises(DataError, match="its mean is 0"):
        crl.effect_calibration(scores, np.tile([1.0, -1.0], 200))
    with pytest.raises(DataError, match="prediction: row 3 is inf"):
        crl.effect_calibration(scores, np.where(np.arange(400) == 3, np.inf, x[:, 1]))
    with pytest.raises(DataError, match="there is no 'age'"):
        crl.best_linear_projection(scores, ["x1", "age"])
    with pytest.raises(DataError, match="z1 is constant"):
        crl.best_linear_projection(scores, np.column_stack([x[:, 0], np.ones(400)]))
    with pytest.raises(DataError, match="z2 is a linear function of z0, z1"):
        crl.best_linear_projection(scores, np.column_stack([x[:, 0], x[:, 1], x[:, 0] - 3 * x[:, 1] + 1]))
    with pytest.raises(DataError, match="one row a unit"):
        crl.best_linear_projection(scores, x[:5])
