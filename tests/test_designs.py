"""Single-stage designs: every truth against a second computation, every sample against its truth.

Facts of the papers: reference/papers.md, sections 1, 6, 7, 9 and 14; reference/traps.md, "Point" and F8.
"""

from __future__ import annotations

import importlib.util
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import dblquad, quad

import causalrl as crl
from causalrl.errors import DataError, EstimandError, MissingExtraError, PolicyError
from simulators.designs.base import Design, PropensityDesign
from simulators.designs.ihdp import COVARIATES, IHDP
from simulators.designs.kunzel import Kunzel
from simulators.designs.nie_wager import NieWager
from simulators.designs.quadrature import normal_nodes
from simulators.designs.simple import BinaryInstrument, KangSchafer, Kennedy, Point

N = 40_000
DRAWN: list[PropensityDesign] = [
    *(Point(), Point(p=2), KangSchafer(), Kennedy()),
    *(NieWager(setup) for setup in "ABCD"),
    NieWager("D", d=12, sigma=0.5),
    *(Kunzel(simulation) for simulation in (1, 2, 3, 6)),
    *(Kunzel(3, draw=draw) for draw in (1, 2)),
]
drawn = pytest.mark.parametrize("design", DRAWN, ids=str)
needs_units = pytest.mark.skipif(importlib.util.find_spec("econml") is None, reason="econml ships the units")


def near(values: np.ndarray, truth: float) -> None:
    """The mean is the truth within 4 standard errors."""
    assert values.mean() == pytest.approx(truth, abs=4 * values.std(ddof=1) / math.sqrt(len(values)) + 1e-12)


def density(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def normal_mean(f: Any, points: tuple[float, ...] = (0.0,)) -> float:
    value = quad(lambda z: f(z) * density(z), -12, 12, points=points, epsabs=1e-13, epsrel=1e-13, limit=200)[0]
    return float(value)


# ---------------------------------------------------------------------------------------------------- what all designs share


@drawn
def test_record(design: PropensityDesign) -> None:
    study = design.sample(2000, seed=5)
    X = study.observations
    assert (study.n, study.n_actions, study.feature_names) == (2000, design.n_actions, design.feature_names)
    np.testing.assert_array_equal(study.behavior_probabilities[:, 1], design.propensity(X))
    assert ((design.propensity(X) > 0) & (design.propensity(X) < 1)).all()
    assert design.outcome_means(X).shape == design.outcome_sd(X).shape == (2000, 2)
    np.testing.assert_array_equal(design.effect(X), np.diff(design.outcome_means(X))[:, 0])


@drawn
def test_a_seed_is_a_sample(design: PropensityDesign) -> None:
    assert design.sample(1000, seed=3).fingerprint == design.sample(1000, seed=3).fingerprint
    one, other = design.sample(1000, seed=3), design.sample(1000, seed=4)
    assert not np.isin(one.observations[:, 0], other.observations[:, 0]).any()


@drawn
def test_treatment_is_drawn_with_its_propensity(design: PropensityDesign) -> None:
    """Chi-square over ten equally filled bins of the propensity."""
    study = design.sample(N, seed=11)
    p = design.propensity(study.observations)
    bins = np.digitize(p, np.unique(np.quantile(p, np.linspace(0, 1, 11)))[1:-1])
    counts, expected, treated = (np.bincount(bins, weights) for weights in (None, p, study.actions))
    used = counts > 0
    gap = (treated - expected)[used] ** 2 / np.bincount(bins, p * (1 - p))[used]
    assert stats.chi2.sf(gap.sum(), used.sum()) > 1e-4


@drawn
def test_outcomes_have_their_means_and_noise(design: PropensityDesign) -> None:
    study = design.sample(N, seed=12)
    for arm in (0, 1):
        rows = np.flatnonzero(study.actions == arm)
        X = study.observations[rows]
        gap, sd = study.rewards[rows] - design.outcome_means(X)[:, arm], design.outcome_sd(X)[:, arm]
        if (sd == 0).all():  # the missing arm of Kang and Schafer
            np.testing.assert_array_equal(gap, 0)
            continue
        near(gap / sd, 0.0)
        near((gap / sd) ** 2, 1.0)
        assert stats.kstest(gap / sd, "norm").pvalue > 1e-4
        near(gap * design.effect(X), 0.0)


@drawn
def test_arm_means_and_effect_are_those_of_the_samples(design: PropensityDesign) -> None:
    study = design.sample(N, seed=13)
    p = design.propensity(study.observations)
    for arm, logged in enumerate((1 - p, p)):
        near((study.actions == arm) / logged * study.rewards, design.arm_means[arm])
        near(design.outcome_means(study.observations)[:, arm], design.arm_means[arm])
    near(design.effect(design.sample(4 * N, seed=14).observations), design.ate)


@drawn
def test_vocabulary_of_policies(design: PropensityDesign) -> None:
    assert [design.value(crl.Always(arm), horizon=1) for arm in (0, 1)] == design.arm_means.tolist()
    assert design.value(crl.Uniform(2)) == pytest.approx(design.arm_means.mean(), abs=1e-12)
    assert design.ate == pytest.approx(design.value(crl.Always(1)) - design.value(crl.Always(0)), abs=1e-12)


def test_a_design_is_a_truth_for_evaluate() -> None:
    design = NieWager("C")
    table = crl.evaluate(design.sample(500, seed=1), {"effect": crl.ATE(), "all": crl.Always(1)}, [crl.IPW()], truth=design).frame
    assert table["truth"].tolist() == pytest.approx([1.0, design.arm_means[1]], abs=1e-12)


# ------------------------------------------------------------------------------------------------------------------ by design


def test_quadrature_is_exact_for_moments() -> None:
    nodes, weights = normal_nodes()
    moments = [1, 0, 1, 0, 3, 0, 15, 0, 105]
    assert [weights @ nodes**k for k in range(9)] == pytest.approx(moments, abs=1e-12)
    assert weights @ np.cos(3 * nodes) == pytest.approx(math.exp(-4.5), abs=1e-15)


def test_point_is_the_design_of_the_traps() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 10))
    t = rng.binomial(1, 1 / (1 + np.exp(-x[:, 0])))
    y = t * (1 + x[:, 1]) + x[:, 0] + rng.normal(size=2000)
    study = Point().sample(2000, seed=0)
    for mine, theirs in ((study.observations, x), (study.actions, t), (study.rewards, y)):
        np.testing.assert_array_equal(mine, theirs)
    assert study.feature_names[0] == "x1"
    forms = [crl.IPW(crl.Logit(), normalized=flag).estimate(study, crl.ATE()).value for flag in (False, True)]
    assert forms == pytest.approx([0.958788, 0.942071], abs=1e-6)


def test_kang_schafer_means_of_respondents() -> None:
    """E[Y | R = 1] along the direction of the logit, without Stein's lemma."""
    logit, slopes = np.array([-1, 0.5, -0.25, -0.1]), np.array([27.4, 13.7, 13.7, 13.7])
    size = np.linalg.norm(logit)
    mean = 2 * normal_mean(lambda w: (210 + slopes @ logit / size * w) / (1 + math.exp(-size * w)))
    assert KangSchafer().observed_mean == pytest.approx(mean, abs=1e-10)
    assert [KangSchafer().observed_mean, KangSchafer().missing_mean] == pytest.approx([200, 220], abs=0.003)
    assert KangSchafer().observed_mean + KangSchafer().missing_mean == pytest.approx(420, abs=1e-10)


def test_kang_schafer_sample() -> None:
    study = KangSchafer().sample(200_000, seed=3)
    observed = study.actions == 1
    assert KangSchafer().value(crl.Always(1)) == 210
    near(study.actions, 0.5)
    near(study.rewards[observed], KangSchafer().observed_mean)
    near(KangSchafer().outcome_means(study.observations)[~observed, 1], KangSchafer().missing_mean)
    assert (study.rewards[~observed] == 0).all()
    seen = study.observations[:, 4:]
    near(seen[:, 0], math.exp(1 / 8))
    near(seen[:, 1], 10.0)
    near(seen[:, 3], 402.0)
    assert seen.std(axis=0) == pytest.approx([0.604, 0.542, 0.045, 56.6], rel=1e-2)
    assert seen[:, 2].mean() == pytest.approx(0.6**3 + 3 * 0.6 / 625, abs=1e-3)


def test_kang_schafer_covariates_hold_the_same_information() -> None:
    """Z is recovered from X: what the analyst sees confounds no more than Z."""
    z, x = np.split(KangSchafer().sample(500, seed=2).observations, 2, axis=1)
    z1 = 2 * np.log(x[:, 0])
    z2 = (x[:, 1] - 10) * (1 + np.exp(z1))
    z3 = 25 * (np.cbrt(x[:, 2]) - 0.6) / z1
    np.testing.assert_allclose(np.column_stack([z1, z2, z3, np.sqrt(x[:, 3]) - 20 - z2]), z, atol=1e-8)


def nie_wager_by_hand(setup: str, x: np.ndarray) -> tuple[float, float, float]:
    """e, b, tau of one unit."""
    x1, x2, x3, x4, x5 = x[:5]
    if setup == "A":
        wave = math.sin(math.pi * x1 * x2)
        return min(max(wave, 0.1), 0.9), wave + 2 * (x3 - 0.5) ** 2 + x4 + 0.5 * x5, (x1 + x2) / 2
    if setup == "B":
        return 0.5, max(0, x1 + x2, x3) + max(0, x4 + x5), x1 + math.log(1 + math.exp(x2))
    if setup == "C":
        return 1 / (1 + math.exp(x2 + x3)), 2 * math.log(1 + math.exp(x1 + x2 + x3)), 1.0
    first, second = max(x1 + x2 + x3, 0), max(x4 + x5, 0)
    return 1 / (1 + math.exp(-x1) + math.exp(-x2)), (first + second) / 2, first - second


@pytest.mark.parametrize("setup", "ABCD")
def test_nie_wager_surfaces(setup: str) -> None:
    design = NieWager(setup)
    X = design.sample(200, seed=0).observations
    e, b, tau = np.array([nie_wager_by_hand(setup, x) for x in X]).T
    np.testing.assert_allclose(design.propensity(X), e, atol=1e-14)
    np.testing.assert_allclose(design.outcome_means(X), np.column_stack([b - tau / 2, b + tau / 2]), atol=1e-13)


def test_nie_wager_arms_and_effects() -> None:
    """E[b] and the ATE by adaptive quadrature; E[max(0, U, V)] is the integral of 1 - P(U <= t) P(V <= t) over t > 0."""
    wave = dblquad(lambda u, v: math.sin(math.pi * u * v), 0, 1, 0, 1, epsabs=1e-12)[0]
    largest = quad(lambda t: 1 - stats.norm.cdf(t / math.sqrt(2)) * stats.norm.cdf(t), 0, 20, epsabs=1e-13)[0]
    positive = quad(lambda z: max(z, 0) * density(z), 0, 12, epsabs=1e-13)[0]
    expected = {
        "A": (wave + 2 / 12 + 0.75, 0.5),
        "B": (largest + math.sqrt(2) * positive, normal_mean(lambda z: math.log1p(math.exp(z)))),
        "C": (2 * normal_mean(lambda z: math.log1p(math.exp(math.sqrt(3) * z))), 1.0),
        "D": ((math.sqrt(3) + math.sqrt(2)) / 2 * positive, (math.sqrt(3) - math.sqrt(2)) / math.sqrt(2 * math.pi)),
    }
    for setup, (baseline, effect) in expected.items():
        design = NieWager(setup)
        assert design.ate == pytest.approx(effect, abs=1e-10)
        assert design.arm_means == pytest.approx([baseline - effect / 2, baseline + effect / 2], abs=1e-10)


def test_kunzel_correlation_is_a_vine() -> None:
    """The partial correlations of the permuted variables, by inverting submatrices, are 2 Beta(10, 10) - 1."""
    design = Kunzel(1, draw=4)
    R = design.correlation
    np.testing.assert_allclose(np.diag(R), 1, atol=1e-14)
    order = [np.count_nonzero(np.abs(row) > 1e-14) for row in design._factor]  # variable k of the vine loads on k columns
    assert sorted(order) == list(range(1, 21))
    R = R[np.ix_(np.argsort(order), np.argsort(order))]
    partial = []
    for i in range(20):
        for j in range(i):
            kept = [*range(j), j, i]
            precision = np.linalg.inv(R[np.ix_(kept, kept)])
            partial.append(-precision[-1, -2] / math.sqrt(precision[-1, -1] * precision[-2, -2]))
    assert np.linalg.det(R) == pytest.approx(np.prod(1 - np.square(partial)), rel=1e-9)
    assert stats.kstest((np.array(partial) + 1) / 2, stats.beta(10, 10).cdf).pvalue > 1e-4
    X = design.sample(N, seed=1).observations
    np.testing.assert_allclose(np.corrcoef(X.T), design.correlation, atol=4 / math.sqrt(N))


def test_kunzel_draws() -> None:
    assert (Kunzel(1).coefficients.shape, Kunzel(2).coefficients.shape, Kunzel(3).coefficients.shape) == (
        (1, 20),
        (2, 20),
        (0, 20),
    )
    many = np.concatenate([Kunzel(2, draw=draw).coefficients.ravel() for draw in range(50)])
    assert stats.kstest(many, stats.uniform(1, 29).cdf).pvalue > 1e-4
    many = np.concatenate([Kunzel(1, draw=draw).coefficients.ravel() for draw in range(50)])
    assert stats.kstest(many, stats.uniform(-5, 10).cdf).pvalue > 1e-4
    np.testing.assert_array_equal(Kunzel(1, draw=7).coefficients, Kunzel(1, draw=7).coefficients)
    assert not np.allclose(Kunzel(1).correlation, Kunzel(1, draw=1).correlation)
    with pytest.raises(ValueError, match="read-only"):
        Kunzel(1).coefficients[0, 0] = 0.0


def test_kunzel_coefficients_outlive_a_sample() -> None:
    """Trap: a public package redraws them between training and test; least squares on either sample finds the same."""
    design = Kunzel(2, draw=1)
    for seed in (0, 1):
        study = design.sample(4000, seed=seed)
        for arm in (0, 1):
            rows = study.actions == arm
            found = np.linalg.lstsq(study.observations[rows], study.rewards[rows], rcond=None)[0]
            assert found == pytest.approx(design.coefficients[arm], abs=0.3)


def test_kunzel_published_facts() -> None:
    one, six = Kunzel(1), Kunzel(6)
    X = one.sample(N, seed=2).observations
    near(one.effect(X) ** 2, 64 * stats.norm.sf(0.1))
    assert 64 * stats.norm.sf(0.1) == pytest.approx(29.45, abs=5e-3)
    assert one.ate == pytest.approx(8 * stats.norm.sf(0.1), abs=1e-14)
    np.testing.assert_allclose(one.outcome_means(X)[:, 0], X @ one.coefficients[0] + 5 * (X[:, 0] > 0.5), atol=1e-12)
    X = six.sample(200, seed=2).observations
    np.testing.assert_allclose(six.propensity(X), (1 + stats.beta(2, 4).pdf(X[:, 0])) / 4, atol=1e-14)
    assert (six.effect(X) == 0).all()
    assert six.ate == 0
    study = six.sample(N, seed=3)  # E[x1 | T = 1] = 5/12, so the crude difference is -1/3
    arms = [study.rewards[study.actions == arm] for arm in (0, 1)]
    near(arms[1], -1 / 6)
    near(arms[0], 1 / 6)


@pytest.mark.parametrize("draw", [0, 1, 5])
def test_kunzel_nonlinear_mean(draw: int) -> None:
    """Against adaptive quadrature over the density of the two correlated covariates."""
    design = Kunzel(3, draw=draw)
    rho = float(design.correlation[0, 1])

    def of_x(x: float) -> float:
        return 1 / (1 + math.exp(-12 * (x - 0.5)))

    def inner(x1: float) -> float:
        spread = math.sqrt(1 - rho**2)
        return quad(lambda z: of_x(rho * x1 + spread * z) * density(z), -10, 10, points=[0.5], epsabs=1e-12, limit=200)[0]

    mean = 2 * quad(lambda x1: of_x(x1) * inner(x1) * density(x1), -10, 10, points=[0.5], epsabs=1e-11, limit=200)[0]
    assert design.arm_means == pytest.approx([-mean, mean], abs=1e-10)
    assert design.ate == pytest.approx(2 * mean, abs=1e-10)


def test_kennedy_facts() -> None:
    design = Kennedy()
    pieces = [(-1.0, -0.5), (-0.5, 0.0), (0.0, 0.5), (0.5, 1.0)]
    mean = sum(quad(lambda x: float(design.outcome_means([[x]])[0, 0]), *ends)[0] for ends in pieces) / 2
    assert design.arm_means == pytest.approx([mean, mean], abs=1e-12)
    x = np.array([-1.0, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0])[:, None]
    expected = [0.5, 1.125, 0.75, 1.0625, 0.625, 0.875, 1.125]
    assert design.outcome_means(x)[:, 1] == pytest.approx(expected, abs=1e-14)
    assert (design.effect(x) == 0).all()
    assert design.propensity(x).tolist() == [0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9]
    assert design.outcome_sd([[0.0], [0.5]])[:, 0] == pytest.approx([0.1, 0.3], abs=1e-15)
    assert design.outcome_means([[0.0], [1e-12]])[:, 0] == pytest.approx([0.875, 0.875], abs=1e-11)


# ----------------------------------------------------------------------------------------------------------------- instrument

INSTRUMENTS = [BinaryInstrument(), BinaryInstrument(0.0, 0.5, confounding=-2.0), BinaryInstrument(0.3, 0.3, confounding=0.0)]


@pytest.mark.parametrize("design", INSTRUMENTS, ids=str)
def test_wald_is_the_effect_on_compliers(design: BinaryInstrument) -> None:
    study = design.sample(200_000, seed=1)
    x, z = study.observations.T
    near(z, 0.5)
    near((z - 0.5) * x, 0.0)
    centred = 2 * (2 * z - 1)  # 1/P(Z = z), signed
    near(centred * study.actions, design.compliers)
    near(centred * (study.rewards - design.late * study.actions), 0.0)  # the estimating equation of the Wald ratio
    assert study.behavior_probabilities is None
    first = [study.actions[z == value] for value in (0, 1)]
    near(first[0], design.always_takers)
    near(first[1], 1 - design.never_takers)


@pytest.mark.parametrize("design", INSTRUMENTS, ids=str)
def test_late_by_integration_over_compliers(design: BinaryInstrument) -> None:
    low, high = design.always_takers, 1 - design.never_takers
    assert design.late == pytest.approx(quad(lambda u: 1 + 1 - 2 * u, low, high)[0] / (high - low), abs=1e-12)
    assert design.ate == pytest.approx(quad(lambda u: 1 + 1 - 2 * u, 0, 1)[0], abs=1e-12)
    assert design.effect([[0.0, 0.0], [2.0, 1.0]]).tolist() == [1.0, 2.0]


def test_the_instrumented_treatment_is_confounded() -> None:
    """E[V D] = (a (1 - a) + n (1 - n)) / 2 moves the crude difference of arms away from the effect."""
    design = BinaryInstrument()
    study = design.sample(200_000, seed=2)
    moved = (0.1 * 0.9 + 0.4 * 0.6) / 2
    share = 0.1 + 0.5 / 2
    near(study.actions, share)
    near(study.rewards[study.actions == 1], 1 + 2 * moved / share)
    near(study.rewards[study.actions == 0], -moved / (1 - share))
    adjusted = crl.AIPW(crl.LinearQ()).estimate(study, crl.ATE())
    assert adjusted.value - 1 > 10 * adjusted.stderr


# ----------------------------------------------------------------------------------------------------------------------- IHDP


@needs_units
def test_ihdp_units_are_those_of_econml() -> None:
    from econml.data.dgps import _process_ihdp_sim_data

    treatment, X = _process_ihdp_sim_data()
    design = IHDP("A")
    assert design.units.shape == (747, 25)
    assert design.treatment.sum() == 139
    np.testing.assert_array_equal(design.treatment, treatment)
    np.testing.assert_allclose(design.units, X[:, 1:], atol=1e-12)
    assert set(design.units[:, COVARIATES.index("first")]) == {1.0, 2.0}


@needs_units
@pytest.mark.parametrize("surface", ["A", "B"])
def test_ihdp_surfaces_are_those_of_econml(surface: str) -> None:
    """Its own code, with our coefficients in place of its draw."""
    from econml.data import dgps

    design = IHDP(surface, draw=2)

    class Fixed(np.random.RandomState):
        def choice(self, *args: Any, **kwargs: Any) -> Any:
            return design.coefficients

        def normal(self, *args: Any, **kwargs: Any) -> Any:
            return np.zeros(747)

    Y, T, _, effect = getattr(dgps, f"ihdp_surface_{surface}")(Fixed())
    means = design.outcome_means(design.units)
    np.testing.assert_allclose(means[np.arange(747), T], Y, rtol=1e-10)
    np.testing.assert_allclose(design.effect(design.units), effect, rtol=1e-9, atol=1e-9)


@needs_units
@pytest.mark.parametrize("surface", ["A", "B"])
def test_ihdp_truths_and_noise(surface: str) -> None:
    for draw in range(5):
        design = IHDP(surface, draw)
        assert design.att == pytest.approx(4, abs=1e-10)
        assert design.arm_means == pytest.approx(design.outcome_means(design.units).mean(axis=0), rel=1e-12)
    if surface == "A":
        assert design.ate == pytest.approx(4, abs=1e-10)
    samples = [design.sample(seed=seed) for seed in range(30)]
    for study in samples:
        np.testing.assert_array_equal(study.observations, design.units)
        np.testing.assert_array_equal(study.actions, design.treatment)
        assert study.behavior_probabilities is None
    logged = design.outcome_means(design.units)[np.arange(747), design.treatment]
    noise = np.array([study.rewards - logged for study in samples])
    near(noise.ravel(), 0.0)
    near(noise.ravel() ** 2, 1.0)
    assert abs(np.corrcoef(noise)[0, 1]) < 4 / math.sqrt(747)
    np.testing.assert_array_equal(samples[3].rewards, design.sample(747, seed=3).rewards)


@needs_units
def test_ihdp_coefficients() -> None:
    for surface, levels, shares in (
        ("A", [0, 1, 2, 3, 4], [0.5, 0.2, 0.15, 0.1, 0.05]),
        ("B", [0, 0.1, 0.2, 0.3, 0.4], [0.6, 0.1, 0.1, 0.1, 0.1]),
    ):
        many = np.concatenate([IHDP(surface, draw).coefficients for draw in range(200)])
        counts = np.array([np.isclose(many, level).sum() for level in levels])
        assert counts.sum() == len(many) == 200 * 26
        assert stats.chisquare(counts, np.array(shares) * len(many)).pvalue > 1e-4
    assert not np.array_equal(IHDP("A", 0).coefficients, IHDP("A", 1).coefficients)
    np.testing.assert_array_equal(IHDP("A", 1).coefficients, IHDP("A", 1).coefficients)


def root_pehe(design: IHDP) -> tuple[float, float]:
    """Out of sample error of the effect by least squares, 90/10: one regression with the treatment, one in each arm."""
    study = design.sample(seed=design.draw)
    train, test = np.split(np.random.default_rng(design.draw).permutation(747), [672])
    X, t, y = np.column_stack([np.ones(747), study.observations]), study.actions, study.rewards
    single = np.linalg.lstsq(np.column_stack([X, t])[train], y[train], rcond=None)[0][-1]
    each = [np.linalg.lstsq(X[rows], y[rows], rcond=None)[0] for rows in (train[t[train] == arm] for arm in (0, 1))]
    truth = design.effect(study.observations[test])
    return tuple(float(np.sqrt(np.mean((found - truth) ** 2))) for found in (single, X[test] @ (each[1] - each[0])))


@needs_units
@pytest.mark.parametrize(("surface", "published"), [("A", (0.07, 0.63)), ("B", (3.4, 1.24))])
def test_ihdp_errors_of_least_squares(surface: str, published: tuple[float, float]) -> None:
    """Medians over 100 draws, to 25% (reference/papers.md, section 14)."""
    medians = np.median([root_pehe(IHDP(surface, draw)) for draw in range(100)], axis=0)
    print(medians)
    assert medians == pytest.approx(published, rel=0.25)


def test_ihdp_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.assets.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"causalrl-ope\[econml\]"):
        IHDP("A")


# --------------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: NieWager("E"), "setup: 'E'; pass 'A', 'B', 'C' or 'D'"),
        (lambda: NieWager("A", d=4), "d: 4; pass a whole number, at least 5"),
        (lambda: NieWager("A", sigma=-1.0), "sigma: -1.0; pass a number from 0"),
        (lambda: NieWager("A", sigma=math.nan), "sigma: nan"),
        (lambda: Kunzel(4), "simulation: 4; pass one of the paper's, 1, 2, 3, 6"),
        (lambda: Kunzel(1, draw=-1), "draw: -1; pass a whole number"),
        (lambda: Kunzel(True), "simulation: True"),
        (lambda: Kunzel([1]), "simulation: [1]"),
        (lambda: NieWager(["A"]), "setup: ['A']"),
        (lambda: NieWager("A", d=10**9), "d: 1000000000; pass a whole number, at least 5 and at most 10000"),
        (lambda: NieWager("A", 6, "1"), "sigma: '1'"),
        (lambda: NieWager("A", 6, True), "sigma: True"),
        (lambda: IHDP("C"), "surface: 'C'; pass 'A' or 'B'"),
        (lambda: IHDP(["A"]), "surface: ['A']"),
        (lambda: Point(p=10**9), "p: 1000000000; pass a whole number, at least 2 and at most 10000"),
        (lambda: BinaryInstrument("a"), "always_takers: 'a'"),
        (lambda: BinaryInstrument(confounding="a"), "confounding: 'a'"),
        (lambda: Point().sample(2**40), "n: 1099511627776"),
        (lambda: Point(p=1), "p: 1; pass a whole number, at least 2"),
        (lambda: BinaryInstrument(always_takers=-0.1), "always_takers: -0.1; pass a number from 0 to 1"),
        (lambda: BinaryInstrument(1), "always_takers: 1.0 leaves no complier"),
        (lambda: BinaryInstrument(0.5, 0.5), "never_takers: 0.5 leaves no complier"),
        (lambda: BinaryInstrument(confounding=math.inf), "confounding: inf; pass a number"),
        (lambda: Point().sample(1), "n: 1; pass a whole number, at least 2"),
        (lambda: BinaryInstrument().sample(1), "n: 1; pass a whole number, at least 2"),
        (lambda: Point().sample(10, seed=-1), "seed: -1"),
        (lambda: Point().effect(np.zeros((3, 2))), "X: 2 columns, the record has 10; pass x1, x2"),
        (lambda: Kennedy().propensity([[np.nan]]), "X: row 0"),
        (lambda: Kunzel(1).sample(2, seed=0), "every unit has arm 0"),
    ],
)
def test_errors_name_the_mend(build: Any, text: str) -> None:
    with pytest.raises(DataError) as caught:
        build()
    assert text in str(caught.value)


@needs_units
def test_ihdp_units_are_fixed() -> None:
    with pytest.raises(DataError, match="747 fixed units"):
        IHDP("A").sample(100)


FAR: list[tuple[str, PropensityDesign, float]] = [
    ("no probability", Kunzel(6), 2.0),
    ("no unit", Kunzel(6), 1.1),
]


@pytest.mark.parametrize(("design", "x"), [case[1:] for case in FAR], ids=[case[0] for case in FAR])
def test_rows_without_a_propensity_are_refused(design: PropensityDesign, x: float) -> None:
    rows = np.vstack([design.sample(200, seed=0).observations[:1], np.full((1, len(design.feature_names)), x)])
    with pytest.raises(DataError, match="X: row 1 lies where the design has no units and its formulas no finite value; drop it"):
        design.propensity(rows)


def test_a_propensity_may_vanish() -> None:
    assert NieWager("D").propensity(np.full((1, 6), -1000.0)).tolist() == [0.0]


@needs_units
def test_units_whose_mean_overflows_are_refused() -> None:
    with pytest.raises(DataError, match="X: row 0 lies where the design has no units"):
        IHDP("B").outcome_means(np.full((1, 25), 1e4))


@pytest.mark.parametrize("design", [Point(), BinaryInstrument()], ids=str)
def test_any_seed_and_any_kind_of_number(design: Design) -> None:
    prints = [design.sample(50, seed).fingerprint for seed in (0, 2**63, 2**90, np.int64(0))]
    assert len(set(prints)) == 3
    assert prints[0] == prints[3]


def test_noise_may_be_a_fraction() -> None:
    assert NieWager(sigma=Fraction(1, 2)).sample(9).fingerprint == NieWager(sigma=0.5).sample(9).fingerprint
    mixed, plain = BinaryInstrument(Fraction(1, 4), Fraction(1, 4), Fraction(1, 2)), BinaryInstrument(0.25, 0.25, 0.5)
    assert mixed.sample(9).fingerprint == plain.sample(9).fingerprint


@pytest.mark.parametrize(("horizon", "discount"), [(-1, 1.0), (1.5, 1.0), (True, 1.0), (None, math.nan), (None, "1")], ids=str)
def test_a_value_has_a_horizon_and_a_discount(horizon: Any, discount: Any) -> None:
    with pytest.raises(EstimandError, match=r"horizon|discount"):
        Point().value(crl.Always(1), horizon, discount)


def test_values_of_policies_that_look_at_covariates_are_refused() -> None:
    design: Design = Point()
    with pytest.raises(EstimandError, match="average its probabilities"):
        design.value(lambda observations, time: np.full((len(observations), 2), 0.5))
    with pytest.raises(EstimandError, match="3 actions"):
        design.value(crl.Uniform(3))
    with pytest.raises(PolicyError, match="actions 0 to 1"):
        design.value(crl.Always(2))
