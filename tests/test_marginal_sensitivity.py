"""The marginal sensitivity model: its definition as a linear programme, closed forms, and what a confounder can do at most."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.optimize import linprog
from scipy.stats import binom, norm
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.linear_model import LinearRegression, QuantileRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import causalrl as crl
from benchmarks.sensitivity_marginal import GAMMAS, PLAN, RECIPES, RESULTS, SEED, measure, replication, sharp
from causalrl.errors import CausalRLError, DataError, EstimandError, SensitivityError
from causalrl.kernels.interior_point import quantile_regression
from simulators import Confounded, TabularMDP, WorstConfounder
from simulators.wrappers.confounding import MODELS, half, ranked, tilted
from tests.conftest import cross_section

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")  # the samples are small

LOGIT = crl.Logit()
AIPW = crl.AIPW(crl.PerAction(LinearRegression()), LOGIT)
HAJEK, PLAIN = crl.IPW(LOGIT), crl.IPW(LOGIT, normalized=False)
TREAT_OLD = crl.Contrast(lambda x, t: np.column_stack([x[:, 0] <= 0, x[:, 0] > 0]).astype(float), crl.Uniform(2))
GOALS = (crl.ATE(), crl.Always(1), crl.Uniform(2), TREAT_OLD, crl.ATT(), crl.ATC())


def analysed(estimator: crl.Estimator, data: crl.Trajectories, goal: Any, *gammas: float, **options: Any) -> pd.DataFrame:
    return crl.sensitivity_analysis(estimator, data, goal, crl.MarginalModel(gammas, **options)).frame


def propensities(data: crl.Trajectories) -> np.ndarray:
    """(n,) of the arm taken, by an unpenalised logit of statsmodels."""
    import statsmodels.api as sm

    e = sm.Logit(data.actions, sm.add_constant(data.observations)).fit(disp=0).predict()
    return np.where(data.actions == 1, e, 1 - e)


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: type(goal).__name__)
@pytest.mark.parametrize("estimator", [AIPW, crl.AIPW(crl.LinearQ(), LOGIT, folds=3, repeats=3), HAJEK, PLAIN], ids=str)
def test_without_confounding_both_bounds_are_the_estimate(estimator: crl.Estimator, goal: Any, study: crl.Trajectories) -> None:
    found = crl.sensitivity_analysis(estimator, study, goal, crl.MarginalModel([1, 2], level=0.9))
    row, interval = found.frame.iloc[0], found.estimate.interval(0.9)
    assert row["low"] == pytest.approx(found.estimate.value, abs=1e-9)
    assert row["high"] == pytest.approx(found.estimate.value, abs=1e-9)
    assert (row["interval_low"], row["interval_high"]) == pytest.approx(tuple(interval), abs=1e-9)
    wide = found.frame.iloc[1]
    assert wide["interval_low"] < wide["low"] < row["low"] < wide["high"] < wide["interval_high"]


def balanced_by_programme(data: crl.Trajectories, e: np.ndarray, arm: int, gamma: float, sign: float) -> float:
    """Dorn & Guo's definition: the extreme of sum Y W over weights in the box that balance 1 and X as 1 / e does."""
    mine = data.actions == arm
    columns, y, own = np.column_stack([np.ones(mine.sum()), data.observations[mine]]), data.rewards[mine], e[mine]
    box = np.column_stack([1 + (1 / own - 1) / gamma, 1 + (1 / own - 1) * gamma])
    solved = linprog(-sign * y, A_eq=columns.T, b_eq=columns.T @ (1 / own), bounds=box)
    assert solved.success
    return -sign * solved.fun


@pytest.mark.parametrize("gamma", [1.3, 4.0])
def test_weighting_bounds_solve_the_programme_of_quantile_balancing(gamma: float, study: crl.Trajectories) -> None:
    e = propensities(study)
    sums = np.array([[balanced_by_programme(study, e, arm, gamma, sign) for sign in (-1, 1)] for arm in (0, 1)])
    totals = np.array([np.sum((study.actions == arm) / e) for arm in (0, 1)])
    for estimator, sizes in ((HAJEK, totals), (PLAIN, np.full(2, study.n))):
        (low0, high0), (low1, high1) = sums / sizes[:, None]
        bounds = analysed(estimator, study, crl.ATE(), gamma).iloc[0]
        assert (bounds["low"], bounds["high"]) == pytest.approx((low1 - high0, high1 - low0), abs=1e-7)


@pytest.mark.parametrize("gamma", [1.5, 3.0])
def test_bounds_without_balance_are_wider(gamma: float, study: crl.Trajectories) -> None:
    """Zhao, Small & Bhattacharya (2019): the extremes of sum W Y / sum W over the box alone, a linear-fractional programme."""
    e, arms = propensities(study), []
    for arm in (0, 1):
        mine = study.actions == arm
        order = np.argsort(study.rewards[mine])
        y, odds = study.rewards[mine][order], (1 / e[mine] - 1)[order]
        places = np.arange(len(y))
        least = [(w := 1 + odds * np.where(places < k, gamma, 1 / gamma)) @ y / w.sum() for k in range(len(y) + 1)]
        most = [(w := 1 + odds * np.where(places >= k, gamma, 1 / gamma)) @ y / w.sum() for k in range(len(y) + 1)]
        arms.append((min(least), max(most)))
    bounds = analysed(HAJEK, study, crl.ATE(), gamma).iloc[0]
    assert arms[1][0] - arms[0][1] < bounds["low"] - 0.05
    assert arms[1][1] - arms[0][0] > bounds["high"] + 0.05


@pytest.mark.parametrize("gamma", [1.3, 4.0])
def test_aipw_bounds_by_hand(gamma: float, study: crl.Trajectories) -> None:
    """Equation by equation, with the quantile regression and the least squares of scikit-learn."""
    e, x, y, level = propensities(study), study.observations, study.rewards, gamma / (1 + gamma)
    ends = {}
    for arm in (0, 1):
        mine = study.actions == arm
        for sign, t in ((-1, 1 - level), (1, level)):
            line = QuantileRegressor(quantile=t, alpha=0).fit(x[mine], y[mine], sample_weight=(1 / e - 1)[mine])
            q = line.predict(x)
            h = q + np.where(sign * (y - q) > 0, gamma, 1 / gamma) * (y - q)
            rho = LinearRegression().fit(x[mine], h[mine]).predict(x)
            ends[arm, sign] = np.mean(np.where(mine, y + (1 / e - 1) * (h - rho), rho))
    bounds = analysed(AIPW, study, crl.ATE(), gamma).iloc[0]
    expected = ends[1, -1] - ends[0, 1], ends[1, 1] - ends[0, -1]
    assert (bounds["low"], bounds["high"]) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("level", [0.03, 0.5, 0.8])
def test_the_quantile_regression_is_that_of_scikit_learn_and_statsmodels(level: float) -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(1)
    design = np.column_stack([np.ones(400), rng.normal(size=(400, 4))])
    outcomes = 1000 * (design @ rng.normal(size=5) + rng.standard_t(3, size=400) * np.exp(design[:, 1] / 3))
    weights = np.exp(rng.normal(size=400))
    found, gap = quantile_regression(design, outcomes, weights, level)
    peer = QuantileRegressor(quantile=level, alpha=0, fit_intercept=False).fit(design, outcomes, sample_weight=weights)
    assert gap < 1e-10
    assert found == pytest.approx(peer.coef_, abs=1e-6)
    plain, _ = quantile_regression(design, outcomes, np.ones(400), level)
    loose = sm.QuantReg(outcomes, design).fit(q=level, max_iter=5000).params
    ours, theirs = (pinball(design, outcomes, coefficients, level) for coefficients in (plain, loose))
    assert ours <= theirs * (1 + 1e-12)
    assert ours == pytest.approx(theirs, rel=1e-4)  # it stops where its reweighted least squares stand still


@pytest.mark.filterwarnings("error")
def test_the_quantile_regression_solves_degenerate_problems() -> None:
    """Outcomes with ties and weights over four orders of magnitude: the weighted quantile of each group, with no number lost."""
    rng = np.random.default_rng(2)
    for k in range(200):
        m, level = int(rng.integers(20, 300)), float(rng.choice([0.01, 0.5, 0.6, 0.9]))
        group = np.arange(m) % 2
        outcomes = rng.poisson(0.3, m).astype(float) if k % 2 else (rng.random(m) < 0.3 + 0.4 * group).astype(float)
        weights = np.exp(2 * rng.normal(size=m))
        found, gap = quantile_regression(np.column_stack([1 - group, group]).astype(float), outcomes, weights, level)
        assert gap < 1e-10
        for g in (0, 1):
            y, w = outcomes[group == g], weights[group == g]
            order = np.argsort(y, kind="stable")
            reached = y[order][np.searchsorted(np.cumsum(w[order]), level * w.sum())]
            assert found[g] == pytest.approx(reached, abs=1e-6)


def pinball(design: np.ndarray, outcomes: np.ndarray, coefficients: np.ndarray, level: float) -> float:
    residual = outcomes - design @ coefficients
    return float(np.sum(residual * (level - (residual < 0))))


def test_the_design_is_the_model_at_its_worst() -> None:
    """Its effect by simulation of both outcomes; its bounds by integration; the odds of treatment given U."""
    design, gamma = WorstConfounder(gamma=3.0, sd=2.0), 3.0
    X, arm, potential = design.potential_outcomes(400_000, seed=4)
    assert potential.mean(axis=0) == pytest.approx(design.arm_means, abs=0.02)
    e = design.propensity(X)
    shift = (1 - e) * 2.0 * tail_mean(gamma)
    assert np.mean(X[:, 0] + X[:, 1] / 2 + 1 - shift) == pytest.approx(design.arm_means[1], abs=0.02)
    assert design.ate == pytest.approx(1 - 2.0 * tail_mean(gamma), abs=1e-8)
    assert design.ate == pytest.approx(design.bounds(gamma)[0], abs=1e-12)
    assert np.mean(design.effect(X)) == pytest.approx(design.ate, abs=0.01)
    residual = (potential - (X[:, 0] + X[:, 1] / 2)[:, None] - [0.0, 1.0]) / 2.0
    hidden = residual[:, 1] > norm.ppf(1 / (1 + gamma))
    assert np.array_equal(hidden, residual[:, 0] > norm.ppf(gamma / (1 + gamma)))
    for u, factor in ((True, gamma), (False, 1 / gamma)):
        odds = e / (1 - e) * factor
        assert np.mean(arm[hidden == u] - (odds / (1 + odds))[hidden == u]) == pytest.approx(0, abs=0.005)
    taken = residual[np.arange(len(arm)), arm]
    assert [taken[arm == a].mean() for a in (0, 1)] == pytest.approx([0, 0], abs=0.01)


def tail_mean(gamma: float) -> float:
    """The largest mean of a standard normal law tilted by factors in [1 / gamma, gamma], by integration."""
    cut = norm.ppf(gamma / (1 + gamma))
    below, above = quad(lambda z: z * norm.pdf(z), -12, cut)[0], quad(lambda z: z * norm.pdf(z), cut, 12)[0]
    return float(below / gamma + gamma * above)


@pytest.mark.parametrize("estimator", [AIPW, HAJEK], ids=str)
def test_a_large_sample_finds_the_sharp_bounds(estimator: crl.Estimator) -> None:
    design = WorstConfounder(gamma=2.0)
    study = design.sample(20_000, seed=1)
    frame = analysed(estimator, study, crl.ATE(), 1, 1.5, 2, 2.5)
    start = frame["low"][0]
    for _, row in frame.iloc[1:].iterrows():
        low, high = design.bounds(row["gamma"])
        assert start - row["low"] == pytest.approx(1 - low, rel=0.03)
        assert row["high"] - start == pytest.approx(high - 1, rel=0.03)
    holds = (frame["interval_low"] <= design.ate) & (frame["interval_high"] >= design.ate)
    assert holds.tolist() == [False, False, True, True]
    for goal in (crl.ATT(), crl.ATC()):  # the shift is the same for everybody
        part = analysed(estimator, study, goal, 2).iloc[0]
        assert (part["low"], part["high"]) == pytest.approx(design.bounds(2), abs=0.06)


@pytest.mark.parametrize("outcome", ["normal", "binary"])
def test_truths_of_the_benchmark(outcome: str) -> None:
    """By averaging over a large sample of covariates, with the tail means at each of them by enumeration or integration."""
    X = np.random.default_rng(0).normal(size=(100_000, 2))
    e, index = WorstConfounder().propensity(X), X[:, 0] + X[:, 1] / 2
    for gamma in (1.5, 3.0):
        ends = np.empty((2, 2))
        for arm in (0, 1):
            rest = 1 - e if arm else e
            if outcome == "normal":
                mean, tail = index + arm, tail_mean(gamma)
                ends[arm] = [np.mean(mean + sign * rest * tail) for sign in (-1, 1)]
            else:
                p = norm.cdf(index + arm)
                most = np.where(p > 1 / (1 + gamma), 1 - (1 - p) / gamma, gamma * p)
                least = np.where(p > gamma / (1 + gamma), 1 - (1 - p) * gamma, p / gamma)
                ends[arm] = np.mean((1 - rest) * p + rest * least), np.mean((1 - rest) * p + rest * most)
        expected = ends[1, 0] - ends[0, 1], ends[1, 1] - ends[0, 0]
        assert sharp(outcome, gamma) == pytest.approx(expected, abs=0.005)


def one_decision() -> TabularMDP:
    """Two states, two arms, three outcomes."""
    ends = [[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], [[0.6, 0.3, 0.1], [0.4, 0.2, 0.4]]
    live = [[[0.0, 0.0, *law] for law in laws] for laws in ends]
    stay = [[list(np.eye(5)[s])] * 2 for s in (2, 3, 4)]
    return TabularMDP([*live, *stay], [0.0, 0.0, -1.0, 0.5, 3.0], [0.6, 0.4, 0, 0, 0], [False, False, True, True, True])


def law_of_the_record(process: TabularMDP, logger: np.ndarray, gamma: float) -> np.ndarray:
    """(2, 2, 3) P(action, outcome | state), from both values of the confounder."""
    law, total = ranked(process), np.zeros((2, 2, 3))
    for u, table in enumerate(tilted(logger, MODELS["marginal"], gamma)):
        successors = half(law, u).matrix.toarray().reshape(5, 2, 5)[:2, :, 2:]
        total += 0.5 * table[:2, :, None] * successors
    return total


def population_bounds(joint: np.ndarray, arm: int, gamma: float, start: np.ndarray) -> list[float]:
    """Of E[Y(arm)], state by state by linear programming."""
    outcomes, ends = np.array([-1.0, 0.5, 3.0]), []
    for sign in (-1, 1):
        value = 0.0
        for state in (0, 1):
            e = joint[state, arm].sum()
            given = joint[state, arm] / e
            solved = linprog(-sign * given * outcomes, A_eq=[given], b_eq=[1.0], bounds=(1 / gamma, gamma))
            value += start[state] * (e * given @ outcomes - (1 - e) * sign * solved.fun)
        ends.append(value)
    return ends


@pytest.mark.parametrize("strength", [1.2, 2.0])
def test_population_bounds_hold_what_a_confounded_logger_hides(strength: float) -> None:
    process, logger = one_decision(), np.array([[0.7, 0.3], [0.4, 0.6], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    record, start = process | Confounded(strength, model="marginal"), np.array([0.6, 0.4])
    joint = law_of_the_record(process, logger, strength)
    for arm in (0, 1):
        truth, apparent = record.value(crl.Always(arm), 1), joint[:, arm] / joint[:, arm].sum(axis=1, keepdims=True)
        naive = start @ apparent @ [-1.0, 0.5, 3.0]
        assert record.apparent_value(crl.Always(arm), crl.TabularPolicy(logger), 1) == pytest.approx(naive, abs=1e-12)
        assert population_bounds(joint, arm, 1.0, start) == pytest.approx([naive, naive], abs=1e-9)
        for gamma in (strength, 1.5 * strength):
            low, high = population_bounds(joint, arm, gamma, start)
            assert low - 1e-12 <= truth <= high + 1e-12
    data = record.sample(20_000, crl.TabularPolicy(logger), horizon=1, seed=2)
    for estimator in (crl.IPW(crl.Counts()), crl.AIPW(crl.TabularQ(), crl.Counts())):
        for arm in (0, 1):
            row = analysed(estimator, data, crl.Always(arm), strength).iloc[0]
            low, high = population_bounds(joint, arm, strength, start)
            assert abs(row["low"] - low) < 4 * (row["low"] - row["interval_low"]) / 1.96
            assert abs(row["high"] - high) < 4 * (row["interval_high"] - row["high"]) / 1.96
            assert row["interval_high"] - row["interval_low"] < high - low + 0.2


@pytest.mark.parametrize("estimator", [crl.IPW(crl.Counts()), crl.AIPW(crl.TabularQ(), crl.Counts(), folds=1)], ids=str)
def test_binary_outcomes_have_a_closed_form(estimator: crl.Estimator) -> None:
    rng = np.random.default_rng(0)
    state = rng.integers(0, 3, 900)
    arm = (rng.random(900) < np.array([0.2, 0.5, 0.7])[state]).astype(int)
    outcome = np.where(rng.random(900) < np.array([0.1, 0.5, 0.8])[state], 5.0, 2.0)  # two values, whatever they are
    data = crl.Trajectories.from_arrays(state, arm, outcome, np.arange(901), n_states=3)
    for gamma in (1.0, 1.4, 3.0):
        ends = np.zeros((2, 2))
        for a in (0, 1):
            for s in (0, 1, 2):
                cell = state == s
                e, p = np.mean(arm[cell] == a), np.mean(outcome[cell & (arm == a)] == 5)
                tails = max(p / gamma, 1 - gamma * (1 - p)), min(gamma * p, 1 - (1 - p) / gamma)
                ends[a] += [cell.mean() * (2 + 3 * (e * p + (1 - e) * tail)) for tail in tails]
        row = analysed(estimator, data, crl.ATE(), gamma).iloc[0]
        assert (row["low"], row["high"]) == pytest.approx((ends[1, 0] - ends[0, 1], ends[1, 1] - ends[0, 0]), abs=1e-9)


@pytest.mark.parametrize("estimator", [AIPW, HAJEK], ids=str)
def test_a_wrong_quantile_gives_valid_bounds_that_are_too_wide(estimator: crl.Estimator) -> None:
    design = WorstConfounder(gamma=2.0)
    row = analysed(estimator, design.sample(20_000, seed=3), crl.ATE(), 2, quantile=DummyRegressor(strategy="quantile")).iloc[0]
    low, high = design.bounds(2.0)
    assert row["low"] < low - 0.05
    assert row["high"] > high + 0.05


def test_the_augmented_bounds_are_doubly_robust() -> None:
    """Wrong propensities with the right tail means, and the reverse: still near the sharp bounds, which weighting misses."""
    design = WorstConfounder(gamma=2.0)
    study, sharp_bounds = design.sample(20_000, seed=5), design.bounds(2.0)
    wrong = crl.KnownPropensity(crl.Uniform(2))
    for estimator in (crl.AIPW(crl.LinearQ(), wrong), crl.AIPW(crl.PerAction(DummyRegressor()), LOGIT, folds=1)):
        row = analysed(estimator, study, crl.ATE(), 2).iloc[0]
        assert (row["low"], row["high"]) == pytest.approx(sharp_bounds, abs=0.05)
    assert abs(analysed(crl.IPW(wrong), study, crl.ATE(), 2)["low"][0] - sharp_bounds[0]) > 0.2


def test_bounds_widen_with_gamma(study: crl.Trajectories) -> None:
    gammas = np.linspace(1, 5, 9)
    for estimator in (HAJEK, PLAIN, AIPW):
        frame = analysed(estimator, study, crl.ATE(), *gammas)
        assert (np.diff(frame["low"]) < 0).all()
        assert (np.diff(frame["high"]) > 0).all()


def test_bounds_are_nested_whatever_the_learners_say() -> None:
    """Boosted trees on 300 units, whose bounds at gamma = 1.02 do not hold the estimate if learned at that gamma alone."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(300, 3))
    arm = (rng.random(300) < 1 / (1 + np.exp(-1.5 * x[:, 0]))).astype(int)
    study = crl.Trajectories.from_cross_section(x, arm, 2 * x[:, 0] ** 2 + arm + rng.standard_t(3, size=300))
    estimator = crl.AIPW(crl.PerAction(GradientBoostingRegressor(n_estimators=10, random_state=0)), LOGIT, folds=2)
    found = crl.sensitivity_analysis(estimator, study, crl.ATE(), crl.MarginalModel([1, 1.02, 1.05]))
    for name, sign in (("low", -1), ("interval_low", -1), ("high", 1), ("interval_high", 1)):
        assert (sign * np.diff(found.frame[name]) >= 0).all()
    assert found.frame["low"][0] == pytest.approx(found.estimate.value, abs=1e-9)
    assert any("came out inside those of a smaller gamma" in text for text in found.findings)
    alone = analysed(estimator, study, crl.ATE(), 1.02).iloc[0]
    assert alone["low"] <= found.estimate.value <= alone["high"]
    assert alone.tolist() == found.frame.iloc[1].tolist()
    linear = crl.sensitivity_analysis(AIPW, study, crl.ATE(), crl.MarginalModel([1, 1.5, 2]))
    assert not any("came out inside" in text for text in linear.findings)


@pytest.mark.parametrize("estimator", [AIPW, HAJEK], ids=str)
def test_an_outcome_that_never_varies_has_no_tails(estimator: crl.Estimator, study: crl.Trajectories) -> None:
    data = crl.Trajectories.from_cross_section(study.observations, study.actions, np.ones(study.n))
    frame = analysed(estimator, data, crl.ATE(), 1, 2)
    assert frame.iloc[1].drop("gamma").tolist() == frame.iloc[0].drop("gamma").tolist()


@pytest.mark.parametrize("estimator", [AIPW, HAJEK, PLAIN], ids=str)
def test_contrasts_of_policies(estimator: crl.Estimator, study: crl.Trajectories) -> None:
    same = analysed(estimator, study, crl.Contrast(crl.Uniform(2), crl.Uniform(2)), 3).iloc[0]
    assert same.drop("gamma").to_numpy() == pytest.approx(np.zeros(4), abs=1e-12)
    effect, arms = (
        analysed(estimator, study, goal, 3).iloc[0] for goal in (crl.ATE(), crl.Contrast(crl.Always(1), crl.Always(0)))
    )
    assert arms.to_numpy() == pytest.approx(effect.to_numpy(), abs=1e-12)
    back = analysed(estimator, study, crl.ATE(treated=0, control=1), 3).iloc[0]
    assert (back["interval_low"], back["low"]) == pytest.approx((-effect["interval_high"], -effect["high"]), abs=1e-9)
    half = analysed(estimator, study, crl.Contrast(crl.Uniform(2), crl.Always(0)), 3).iloc[0]
    width = half["high"] - half["low"]
    assert width == pytest.approx((effect["high"] - effect["low"]) / 2, rel=0.05)  # it moves half as many


def test_several_arms() -> None:
    data = cross_section(n=600, arms=3)
    for estimator in (AIPW, HAJEK):
        found = crl.sensitivity_analysis(estimator, data, crl.ATE(2, 1), crl.MarginalModel([1, 1.5]))
        assert found.frame["low"][0] == pytest.approx(found.estimate.value, abs=1e-9)
        assert found.frame["low"][1] < found.frame["low"][0] < found.frame["high"][1]
        assert any("3 arms" in text for text in found.findings)
        part = crl.sensitivity_analysis(estimator, data, crl.ATT(2, 1), crl.MarginalModel([1, 1.5]))
        interval = part.frame[["interval_low", "interval_high"]].iloc[0]
        assert tuple(interval) == pytest.approx(tuple(part.estimate.interval()), abs=1e-9)
        assert part.frame["low"][1] < part.estimate.value < part.frame["high"][1]


def test_clusters_are_the_units_of_the_interval(study: crl.Trajectories) -> None:
    """Everybody twice, in one cluster: the same bounds and the same intervals."""
    twice = study.take(np.repeat(np.arange(study.n), 2))
    paired = crl.Trajectories.from_cross_section(
        twice.observations, twice.actions, twice.rewards, clusters=np.repeat(np.arange(study.n), 2)
    )
    for estimator in (AIPW, HAJEK):
        one, two = (analysed(estimator, data, crl.ATE(), 1.5, 3) for data in (study, paired))
        assert two.to_numpy() == pytest.approx(one.to_numpy(), abs=1e-6)


@pytest.mark.parametrize(
    ("quantile", "near"),
    [
        (QuantileRegressor(alpha=0), 0.02),
        (make_pipeline(StandardScaler(), QuantileRegressor(alpha=0)), 0.02),
        (GradientBoostingRegressor(loss="quantile", n_estimators=12, max_depth=2, learning_rate=0.5), 0.15),
    ],
    ids=["linear", "pipeline", "boosting"],
)
def test_quantiles_by_other_learners(quantile: Any, near: float) -> None:
    design = WorstConfounder(gamma=2.0)
    study = design.sample(1000, seed=6)
    before = quantile.get_params()
    for estimator in (HAJEK, crl.AIPW(crl.LinearQ(), LOGIT, folds=2)):
        frame = analysed(estimator, study, crl.ATE(), 1, 2, quantile=quantile)
        linear = analysed(estimator, study, crl.ATE(), 2).iloc[0]
        assert (frame["low"][1], frame["high"][1]) == pytest.approx((linear["low"], linear["high"]), abs=near)
    assert str(quantile.get_params()) == str(before)


def test_the_nhefs_curve_runs_as_written() -> None:
    found = crl.sensitivity_analysis(AIPW, crl.datasets.nhefs(), crl.ATE(), crl.MarginalModel(gammas=[1, 1.2, 1.5, 2]))
    frame = found.frame
    assert frame["low"][0] == pytest.approx(found.estimate.value, abs=1e-9)
    assert (np.diff(frame["low"]) < 0).all()
    assert (np.diff(frame["high"]) > 0).all()
    tip = found.tipping_point()
    assert 1.5 < tip < 1.6
    assert f"{tip:.3g}" in str(found.summary())
    assert found.plot().get_ylabel()


def one_arm_rare() -> crl.Trajectories:
    x = np.random.default_rng(0).normal(size=(40, 4))
    return crl.Trajectories.from_cross_section(
        x, np.arange(40) < 4, np.arange(40.0), propensity=np.full(40, 0.1) * (np.arange(40) < 4) + 0.9 * (np.arange(40) >= 4)
    )


BAD: list[tuple[type[CausalRLError], str, Callable[[crl.Trajectories], Any]]] = [
    (SensitivityError, "gammas: 0.9 is no odds ratio from 1", lambda d: crl.MarginalModel([0.9])),
    (SensitivityError, "gammas: there are none", lambda d: crl.MarginalModel([])),
    (SensitivityError, "quantile: LinearRegression() learns no", lambda d: crl.MarginalModel([1, 2], LinearRegression())),
    (SensitivityError, "quantile: 0.5 is no", lambda d: crl.MarginalModel([1, 2], 0.5)),
    (SensitivityError, "is no scikit-learn regressor", lambda d: crl.MarginalModel([1, 2], QuantileRegressor)),
    (CausalRLError, "level: 95", lambda d: crl.MarginalModel([1, 2], level=95)),
    (EstimandError, "has no bounds under it", lambda d: analysed(crl.FQE(crl.LinearQ()), d, crl.ATE(), 2)),
    (EstimandError, "has no bounds under it", lambda d: analysed(crl.IPW(weights=crl.CBPS()), d, crl.ATE(), 2)),
    (EstimandError, "Leave truncate out", lambda d: analysed(crl.WIS(truncate=5.0), d, crl.ATE(), 2)),
    (
        EstimandError,
        "learns its tail mean",
        lambda d: analysed(crl.AIPW(crl.KnownQ(lambda x, t: np.zeros((len(x), 2)))), d, crl.ATE(), 2),
    ),
    (EstimandError, "ATO(treated=1, control=0) has no bounds", lambda d: analysed(HAJEK, d, crl.ATO(), 2)),
    (EstimandError, "has no bounds", lambda d: analysed(AIPW, d, crl.CATE(at=[[0.0, 0.0]]), 2)),
    (EstimandError, "made of the behaviour policy", lambda d: analysed(AIPW, d, crl.TiltedPropensity(2.0), 2)),
    (EstimandError, "arm 2 never occurs", lambda d: analysed(AIPW, d, crl.ATE(treated=2), 2)),
    (DataError, "4 coefficients for the 4 units of arm 1", lambda d: analysed(crl.IPW(), one_arm_rare(), crl.ATE(), 2)),
]


@pytest.mark.parametrize(("error", "text", "ask"), BAD, ids=[text for _, text, _ in BAD])
def test_bad_input(
    error: type[CausalRLError], text: str, ask: Callable[[crl.Trajectories], Any], study: crl.Trajectories
) -> None:
    with pytest.raises(error) as caught:
        ask(study)
    assert text in str(caught.value)


def test_longer_records_and_doses_are_refused(ragged: crl.Trajectories) -> None:
    with pytest.raises(EstimandError, match="these records are sequential"):
        analysed(crl.IS(), ragged, crl.Always(1), 2)
    doses = crl.Trajectories.from_cross_section(np.eye(4), np.arange(4.0)[:, None], np.arange(4.0))
    with pytest.raises(EstimandError, match="the treatment is continuous"):
        analysed(crl.IS(), doses, crl.Always(1), 2)


def test_the_committed_rows() -> None:
    rows = pd.read_csv(RESULTS)
    assert len(rows) == len(PLAN) * len(RECIPES) * len(GAMMAS)
    assert (rows["replications"] == [PLAN[key] for key in zip(rows["outcome"], rows["n"], strict=True)]).all()
    assert rows["commit"].str.fullmatch("[0-9a-f]{40}").all()
    assert (rows.loc[rows["replications"] >= 1000, "coverage"] >= 0.93).all()
    far = rows[(rows["gamma"] > 1) & (rows["n"] == 10_000)]
    assert far[["share_low", "share_high"]].stack().between(0.95, 1.05).all()


def test_a_row_is_made_again() -> None:
    """The first sample of the benchmark, on its own."""
    once, again = (replication("binary", 2000, 0, SEED) for _ in range(2))
    pd.testing.assert_frame_equal(once, again)


@pytest.mark.slow
def test_fresh_samples_cover_the_sharp_bounds() -> None:
    """At least .93 of 200 samples, less what 200 binomial draws may lack; distances within 5% of the sharp ones."""
    found = measure({("normal", 2000): 200}, seed=1)
    assert (found["coverage"] * 200 >= binom.ppf(0.0005, 200, 0.93)).all()
    far = found[found["gamma"] > 1]
    assert far[["share_low", "share_high"]].stack().between(0.95, 1.05).all()
