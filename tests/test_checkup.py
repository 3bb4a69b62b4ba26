"""Every figure of a checkup against a computation written out here, on NHEFS, "Point", sepsis and small studies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression

import causalrl as crl
from causalrl.data import End
from causalrl.diagnostics.calibration import calibration_curve
from causalrl.diagnostics.columns import describe_columns
from causalrl.diagnostics.findings import Severity
from causalrl.diagnostics.overlap import overlap_by_arm
from causalrl.diagnostics.positivity import Region, positivity_regions
from causalrl.errors import DataError, EstimandError, IntervalError, MismatchError
from simulators import Point, SepsisSimulator
from tests.conftest import cross_section, ragged_data

matplotlib.use("Agg")
N_POINT = 1500


@pytest.fixture(autouse=True)
def _closed_figures() -> Iterator[None]:
    from matplotlib import pyplot as plt

    yield
    plt.close("all")


@pytest.fixture(scope="module")
def nhefs() -> crl.Trajectories:
    return crl.datasets.nhefs()


@pytest.fixture(scope="module")
def checked(nhefs: crl.Trajectories) -> crl.Checkup:
    return crl.check(nhefs)


@pytest.fixture(scope="module")
def sepsis() -> crl.Trajectories:
    simulator = SepsisSimulator()
    return simulator.sample(60, crl.Uniform(simulator.n_actions), horizon=8, seed=0)


@pytest.fixture(scope="module")
def propensity(nhefs: crl.Trajectories) -> np.ndarray:
    """P(quit | X) by statsmodels' logit."""
    fit = sm.Logit(nhefs.actions, sm.add_constant(nhefs.observations)).fit(disp=0)
    return np.asarray(fit.predict())


def test_arms_and_columns(checked: crl.Checkup, nhefs: crl.Trajectories) -> None:
    treated = nhefs.actions == 1
    log, columns = checked.log, checked.columns
    assert log.counts.tolist() == [1163, 403]
    np.testing.assert_allclose(log.mean_reward, [nhefs.rewards[~treated].mean(), nhefs.rewards[treated].mean()])
    np.testing.assert_allclose(log.sd_reward[1], nhefs.rewards[treated].std(ddof=1))
    assert log.rewards == (nhefs.rewards.min(), nhefs.rewards.mean(), nhefs.rewards.max())
    assert columns is not None
    assert (columns.constant, columns.dependent, columns.codes) == ((), (), ())
    np.testing.assert_allclose(columns.mean, nhefs.observations.mean(axis=0))
    np.testing.assert_allclose(columns.sd, nhefs.observations.std(axis=0))


def test_balance_before_and_after(checked: crl.Checkup, nhefs: crl.Trajectories, propensity: np.ndarray) -> None:
    treated = nhefs.actions == 1
    weights = np.where(treated, 1 / propensity, 1 / (1 - propensity))
    before, after, ratios = [], [], []
    for column in nhefs.observations.T:
        spread = np.sqrt((column[treated].var(ddof=1) + column[~treated].var(ddof=1)) / 2)
        before.append((column[treated].mean() - column[~treated].mean()) / spread)
        means = [np.sum(weights[arm] * column[arm]) / weights[arm].sum() for arm in (treated, ~treated)]
        after.append((means[0] - means[1]) / spread)
        spreads = [np.cov(column[arm], aweights=weights[arm]) for arm in (treated, ~treated)]
        ratios.append(spreads[0] / spreads[1])
    balance = checked.balance
    assert balance is not None
    assert (balance.arms, balance.reference, balance.names) == ((1,), 0, nhefs.feature_names)
    np.testing.assert_allclose(balance.before[0], before, rtol=1e-10)
    np.testing.assert_allclose(balance.after[0], after, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(balance.ratio_after[0], ratios, rtol=1e-6)
    estimate = crl.IPW().estimate(nhefs, crl.ATE())
    np.testing.assert_allclose(estimate.diagnostics["smd_after"], balance.after[0])


def test_overlap_and_weights(checked: crl.Checkup, nhefs: crl.Trajectories, propensity: np.ndarray) -> None:
    for arm, e in ((0, 1 - propensity), (1, propensity)):
        facts, taken = checked.overlap[arm], nhefs.actions == arm
        weights, overlap_weights = 1 / e[taken], 1 - e[taken]
        others = e[~taken]
        assert facts.n == taken.sum()
        np.testing.assert_allclose([facts.least, facts.most], [e.min(), e.max()], rtol=1e-6)
        np.testing.assert_allclose(facts.outside, np.mean([not 0.01 <= p <= 0.99 for p in e]))
        np.testing.assert_allclose(facts.unmatched, np.mean((others < e[taken].min()) | (others > e[taken].max())))
        np.testing.assert_allclose(facts.ess, weights.sum() ** 2 / (weights**2).sum(), rtol=1e-6)
        np.testing.assert_allclose(facts.ess_overlap, overlap_weights.sum() ** 2 / (overlap_weights**2).sum(), rtol=1e-6)
        np.testing.assert_allclose(facts.mean_weight, np.sum(weights) / nhefs.n, rtol=1e-6)
        np.testing.assert_allclose(facts.max_weight, weights.max(), rtol=1e-6)
        np.testing.assert_allclose(facts.largest_share, weights.max() / weights.sum(), rtol=1e-6)
    assert checked.weights is not None
    np.testing.assert_allclose(checked.weights, np.where(nhefs.actions == 1, 1 / propensity, 1 / (1 - propensity)), rtol=1e-6)


def test_shares_outside_and_unmatched() -> None:
    e = np.array([0.005, 0.2, 0.4, 0.995, 0.3, 0.9])
    arm = overlap_by_arm(np.column_stack([1 - e, e]), np.array([0, 1, 1, 0, 0, 0]))[1]
    assert (arm.outside, arm.unmatched) == (2 / 6, 3 / 4)


def test_calibration_is_that_of_statsmodels_on_unseen_decisions(checked: crl.Checkup, nhefs: crl.Trajectories) -> None:
    (curve,) = checked.calibration
    predicted = crl.IPW(folds=5).fit(nhefs).nuisances.behavior(None, 5, None).probabilities[:, 1]
    assert curve.cross_fitted
    line = sm.Logit(nhefs.actions, sm.add_constant(np.log(predicted / (1 - predicted)))).fit(disp=0)
    np.testing.assert_allclose([curve.intercept, curve.slope], line.params, rtol=1e-6)
    np.testing.assert_allclose([curve.intercept_stderr, curve.slope_stderr], line.bse, rtol=1e-5)
    np.testing.assert_allclose(curve.brier, np.mean((predicted - nhefs.actions) ** 2))
    order = np.argsort(predicted, kind="stable")
    parts = [order[(np.arange(nhefs.n) * 10 // nhefs.n) == k] for k in range(10)]
    np.testing.assert_allclose(curve.predicted, [predicted[part].mean() for part in parts])
    np.testing.assert_allclose(curve.observed, [nhefs.actions[part].mean() for part in parts])
    error = sum(len(part) * abs(predicted[part].mean() - nhefs.actions[part].mean()) for part in parts) / nhefs.n
    np.testing.assert_allclose(curve.ece, error)


def test_calibration_in_the_sample_of_a_logit_is_perfect_and_says_where_it_was_measured() -> None:
    data = cross_section(400)
    fitted = crl.IPW().fit(data).nuisances.behavior(None, 1, None)
    curve = calibration_curve(fitted.probabilities[:, 1], data.actions == 1, cross_fitted=False)
    np.testing.assert_allclose([curve.intercept, curve.slope], [0, 1], atol=1e-6)
    assert not curve.cross_fitted


def test_calibration_where_there_is_no_line() -> None:
    half = calibration_curve(np.full(10, 0.5), np.arange(10) < 5)
    assert (half.slope, half.intercept, half.ece, len(half.count)) == (None, None, 0.0, 1)
    sure = calibration_curve(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0, 0, 1, 1]) == 1)
    assert (sure.slope, sure.certain, sure.brier) == (None, 4, 0.0)


def test_true_propensities_of_point_are_calibrated() -> None:
    study = Point().sample(N_POINT, seed=3)
    e = Point().propensity(study.observations)
    curve = calibration_curve(e, study.actions == 1)
    assert curve.slope == pytest.approx(1, abs=4 * (curve.slope_stderr or 0.0))
    assert curve.intercept == pytest.approx(0, abs=4 * (curve.intercept_stderr or 0.0))
    overfitted = crl.check(study, behavior=RandomForestClassifier(30, min_samples_leaf=3, random_state=0), folds=2)
    slope = overfitted.calibration[0].slope
    assert slope is not None
    assert slope < 0.8
    assert any("too extreme" in finding.text for finding in overfitted.findings)


def inside(region: Region, data: crl.Trajectories) -> np.ndarray:
    mask = np.ones(data.n, bool)
    for name, low, high in region.bounds:
        column = data.observations[:, data.feature_names.index(name)]
        mask &= (low < column) & (column <= high)
    return mask


def test_regions_hold_what_their_rules_say(checked: crl.Checkup, nhefs: crl.Trajectories) -> None:
    assert 2 <= len(checked.regions) <= 8
    assert checked.propensities is not None
    members = np.array([inside(region, nhefs) for region in checked.regions])
    assert (members.sum(axis=0) == 1).all()
    for region, mask in zip(checked.regions, members, strict=True):
        own = checked.propensities[mask]
        assert region.n == mask.sum() >= 16
        assert region.counts.tolist() == np.bincount(nhefs.actions[mask], minlength=2).tolist()
        assert region.arm == own.mean(axis=0).argmin()
        np.testing.assert_allclose([region.mean, region.least], [own[:, region.arm].mean(), own[:, region.arm].min()])
    means = [region.mean for region in checked.regions]
    assert means == sorted(means)


def test_a_region_without_treatment_is_found_and_the_unit_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(600, 3))
    rare = (x[:, 0] > 0.7) & (x[:, 2] <= 0.5)
    e = np.where(rare, 0.01, 0.4)
    taken = (rng.random(600) < e).astype(int)
    sizes = set()
    for scale in (1.0, 1e100, 1e-100):
        worst = positivity_regions(x * scale, ("a", "b", "c"), np.column_stack([1 - e, e]), taken)[0]
        bounds = {name: (low / scale, high / scale) for name, low, high in worst.bounds}
        assert bounds["a"] == (pytest.approx(0.7, abs=0.02), np.inf)  # cuts are greedy, so that a record may fall beside
        assert bounds["c"] == (-np.inf, pytest.approx(0.5, abs=0.02))
        assert worst.mean == pytest.approx(0.01)
        sizes.add(worst.n)
    assert sizes in ({int(rare.sum())}, {int(rare.sum()) - 1})


def test_columns_that_are_odd() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(50, 10, size=(2, 200))
    c = np.where(np.arange(200) % 40 == 0, -999.0, a + b + rng.normal(size=200))
    columns = describe_columns(np.column_stack([a, b, c, 2 * a - b + 3, np.ones(200), a]), ("a", "b", "c", "d", "e", "f"))
    assert columns.constant == ("e",)
    assert columns.dependent == (("d", ("a", "b")), ("f", ("a",)))
    assert columns.codes == (("c", -999.0, 5),)


def test_findings_say_what_where_and_what_to_do() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 2))
    treated = (x[:, 0] > 0).astype(int)
    separated = crl.check(crl.Trajectories.from_cross_section(x, treated, x[:, 1]))
    assert separated.findings[0].severity == Severity.STOP
    assert "x0 separates the actions" in separated.findings[0].text
    assert (separated.propensities, separated.overlap, separated.calibration) == (None, (), ())
    assert separated.balance is not None
    assert separated.balance.after is None
    severities = [finding.severity for finding in separated.findings]
    assert severities == sorted(severities, reverse=True)
    steep = (rng.random(400) < 1 / (1 + np.exp(-4 * x[:, 0]))).astype(int)
    poor = [repr(finding) for finding in crl.check(crl.Trajectories.from_cross_section(x, steep, x[:, 1])).findings]
    (outside,) = [text for text in poor if "outside [0.01, 0.99]" in text]
    assert outside.startswith("warning: overlap, arm 1")
    assert "ask for ATO()" in outside
    (regions,) = [text for text in poor if text.startswith("warning: positivity")]
    assert "x0 <= " in regions or "x0 > " in regions
    one = crl.Trajectories.from_arrays(x, np.zeros(400, int), x[:, 1], np.arange(401), n_actions=2)
    assert "nothing can be compared" in crl.check(one).findings[0].text


def test_multi_valued_arms_are_compared_with_the_first() -> None:
    data = cross_section(600, arms=3)
    checkup = crl.check(data)
    balance = checkup.balance
    assert balance is not None
    assert balance.before.shape == (2, 2)
    arms = [data.observations[data.actions == arm, 0] for arm in range(3)]
    spread = np.sqrt((arms[2].var(ddof=1) + arms[0].var(ddof=1)) / 2)
    np.testing.assert_allclose(balance.before[1, 0], (arms[2].mean() - arms[0].mean()) / spread)
    assert [curve.arm for curve in checkup.calibration] == [0, 1, 2]
    e = checkup.propensities
    assert e is not None
    own = (1 / np.sum(1 / e, axis=1) / e[:, 2])[data.actions == 2]
    np.testing.assert_allclose(checkup.overlap[2].ess_overlap, own.sum() ** 2 / (own**2).sum())


def test_sequential_logs(sepsis: crl.Trajectories) -> None:
    checkup = crl.check(sepsis)
    log = checkup.log
    assert not log.one_decision
    assert (log.n, log.decisions) == (60, len(sepsis.rewards))
    assert (log.shortest, log.longest) == (sepsis.lengths.min(), sepsis.lengths.max())
    assert log.ends.tolist() == [int((sepsis.end == kind).sum()) for kind in End]
    sums = [sepsis.rewards[i:j].sum() for i, j in zip(sepsis.offsets[:-1], sepsis.offsets[1:], strict=True)]
    np.testing.assert_allclose(log.returns, [min(sums), np.mean(sums), max(sums)])
    assert log.counts.tolist() == np.bincount(sepsis.actions).tolist()
    gaps, visits = 0, 0
    for state in np.unique(sepsis.observations):
        here = sepsis.actions[sepsis.observations == state]
        if len(np.unique(here)) < len(log.arms):
            gaps, visits = gaps + 1, visits + len(here)
    assert log.states is not None
    assert (log.states.gaps, log.states.share) == (gaps, visits / log.decisions)
    state, count, missing = log.states.examples[0]
    assert count == (sepsis.observations == state).sum()
    assert not set(missing) & set(sepsis.actions[sepsis.observations == state].tolist())
    assert (checkup.weights, checkup.balance, checkup.regions) == (None, None, ())
    assert all(arm.ess is None for arm in checkup.overlap)
    assert checkup.plot().axes


def test_logs_of_the_chosen_arm_alone() -> None:
    full = ragged_data(80)
    assert full.behavior_probabilities is not None
    chosen = replace(full, behavior_probabilities=full.behavior_probabilities[np.arange(len(full.actions)), full.actions])
    np.testing.assert_allclose(crl.check(chosen).propensities, full.behavior_probabilities)
    three = crl.Trajectories.from_arrays([0] * 60, [0, 1, 2] * 20, [1.0] * 60, range(61), behavior_probabilities=[1 / 3] * 60)
    checkup = crl.check(three)
    assert checkup.propensities is None
    assert any("chosen arm alone" in finding.text for finding in checkup.findings)
    continuous = crl.Trajectories.from_arrays(np.ones((40, 1)), np.ones((40, 1)), np.arange(40.0), range(41))
    assert crl.check(continuous).findings[0].severity == Severity.STOP
    assert crl.check(continuous).plot().axes


def test_bad_arguments(nhefs: crl.Trajectories) -> None:
    with pytest.raises(DataError, match="folds"):
        crl.check(nhefs, folds=0)
    with pytest.raises(DataError, match="folds: 9999"):
        crl.check(nhefs, folds=9999)
    with pytest.raises(DataError, match="no Trajectories"):
        crl.check(np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(EstimandError, match="behavior"):
        crl.check(nhefs, behavior=crl.Logit)


def test_same_seed_same_checkup(nhefs: crl.Trajectories) -> None:
    forest = RandomForestClassifier(10, min_samples_leaf=20)
    pair = [crl.check(nhefs, behavior=forest, folds=2, seed=7).to_frame() for _ in range(2)]
    assert pair[0].equals(pair[1])


def test_presentation(checked: crl.Checkup) -> None:
    text = str(checked.summary())
    assert "smokeintensity" in text
    assert repr(checked) == text
    assert "<table" in checked._repr_html_()
    frame = checked.to_frame()
    assert list(frame.columns) == ["part", "item", "figure", "value"]
    assert set(frame["part"]) == {"log", "arm", "column", "balance", "overlap", "calibration", "positivity"}
    ess = frame[(frame["part"] == "overlap") & (frame["item"] == "1") & (frame["figure"] == "ess")]["value"].item()
    assert ess == checked.overlap[1].ess
    assert [ax.get_title(loc="left") for ax in checked.plot().axes] == ["Balance", "Propensity overlap", "Weights", "Calibration"]


def test_love_plot_shows_what_was_given() -> None:
    names = tuple(f"x{j}" for j in range(30))
    before = np.linspace(-0.5, 0.4, 30)
    axes = crl.love_plot(names, before, before / 10)
    shown = [text.get_text() for text in axes.get_yticklabels()]
    assert shown == [names[j] for j in np.argsort(-np.abs(before), kind="stable")[:25]]
    np.testing.assert_allclose(axes.get_lines()[1].get_xdata(), np.sort(np.abs(before))[::-1][:25])
    assert "5 more" in axes.get_title(loc="left")
    infinite = crl.love_plot(("a", "b"), np.array([np.inf, 0.1]))
    assert np.isfinite(infinite.get_lines()[1].get_xdata()).all()
    with pytest.raises(DataError, match="names"):
        crl.love_plot(("a",), before)


def test_the_largest_influence_is_that_of_leaving_one_out(nhefs: crl.Trajectories) -> None:
    """Refitting without a record, nuisances and all.

    The infinitesimal jackknife is off by second-order terms; those of AIPW include what the record does to its nuisances.
    """
    for estimator, off in ((crl.IPW(), 0.1), (crl.AIPW(crl.PerAction(LinearRegression())), 0.2)):
        estimate = estimator.estimate(nhefs, crl.ATE())
        top = crl.most_influential(estimate, nhefs, k=3)
        everyone = np.sort(np.abs(estimate.influence))[::-1]
        np.testing.assert_allclose(np.abs(top.influence), everyone[:3])
        assert top.ids.tolist() == nhefs.ids[top.rows].tolist()
        np.testing.assert_allclose(top.share, everyone[:3] ** 2 / np.sum(everyone**2))
        for row, without in zip(top.rows, top.without, strict=True):
            left = estimator.estimate(nhefs.take(np.delete(np.arange(nhefs.n), row)), crl.ATE())
            assert abs(left.value - without) < off * abs(without - top.value)
        assert top.plot().get_xlabel()
        assert len(top.to_frame()) == 3


def test_influence_of_a_mean_is_exact() -> None:
    data = ragged_data(40)
    estimate = crl.OnPolicyMean().estimate(data, crl.Uniform(2))
    every = crl.most_influential(estimate, data, k=100)
    assert len(every.ids) == 40
    returns = np.add.reduceat(data.rewards, data.offsets[:-1])
    np.testing.assert_allclose(every.without, [np.delete(returns, row).mean() for row in every.rows])


def test_influence_refuses_what_has_none(nhefs: crl.Trajectories) -> None:
    estimate = crl.IPW().estimate(nhefs, crl.ATE())
    with pytest.raises(MismatchError, match="other data"):
        crl.most_influential(estimate, ragged_data())
    with pytest.raises(EstimandError, match="k: 0"):
        crl.most_influential(estimate, nhefs, k=0)
    with pytest.raises(IntervalError):
        crl.most_influential(crl.TLearner(LinearRegression()).estimate(nhefs, crl.ATE()), nhefs)
    vector = crl.TLearner(LinearRegression()).estimate(nhefs, crl.CATE(at=nhefs.observations[:2]))
    with pytest.raises(EstimandError, match="vector"):
        crl.most_influential(vector, nhefs)
