"""E-values, Rosenbaum bounds and omitted-variable bias against published numbers, enumeration and the regression with the
confounder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression

import causalrl as crl
from causalrl.errors import EstimandError, IntervalError, SensitivityError
from causalrl.nuisances.crossfit import Nuisances
from causalrl.sensitivity.base import about_zero, first_crossing
from causalrl.sensitivity.bias_bounds import Strength, equal_strength
from causalrl.sensitivity.bias_routes import LinearGain
from causalrl.sensitivity.pairs import pair_differences
from causalrl.sensitivity.rosenbaum import PairTest, critical_value, distribution, normal_tail, upper_tail
from tests.conftest import cross_section, ragged_data

mpl.use("Agg")

OLS = crl.SLearner(LinearRegression())
AIPW = crl.AIPW(outcome=crl.PerAction(LinearRegression()), propensity=crl.Logit())
EXPOSED = [38, 23, 41, 18, 37, 36, 23, 62, 31, 34, 24, 14, 21, 17, 16, 20, 15, 10, 45, 39, 22, 35, 49, 48, 44, 35, 43, 39, 34]
EXPOSED += [13, 73, 25, 27]
CONTROL = [16, 18, 18, 24, 19, 11, 10, 15, 16, 18, 18, 13, 19, 10, 16, 16, 24, 13, 9, 14, 21, 19, 7, 18, 19, 12, 11, 22, 25]
CONTROL += [16, 13, 11, 13]
"""Lead in the blood (micrograms a decilitre) of 33 children of lead workers and their matched controls: Morton et al. 1982, as in
Rosenbaum 2002, table 3.2 and section 4.3."""


@pytest.fixture(scope="module")
def nhefs() -> crl.Trajectories:
    return crl.datasets.nhefs()


def analysed(model: Any, data: crl.Trajectories, estimator: Any = AIPW, goal: Any = None) -> Any:
    return crl.sensitivity_analysis(estimator, data, crl.ATE() if goal is None else goal, model)


def paired(treated: Sequence[float], control: Sequence[float]) -> crl.Trajectories:
    """Pairs in an order of their own."""
    outcomes, m = np.array([treated, control], float).T.ravel(), len(treated)
    order = np.random.default_rng(3).permutation(2 * m)
    arms, pairs = np.tile([1, 0], m), np.repeat(np.arange(m), 2)
    return crl.Trajectories.from_cross_section(np.zeros((2 * m, 1)), arms[order], outcomes[order], clusters=pairs[order])


# E-values


def test_published_e_values() -> None:
    feeding = crl.RiskRatio(3.9, 1.8, 8.7)  # Victora et al. 1987, in VanderWeele & Ding 2017
    assert round(feeding.e_value, 2) == 7.26
    assert round(feeding.limit_e_value, 2) == 3.00
    protective = crl.RiskRatio(1 / 3.9, 1 / 8.7, 1 / 1.8)
    assert protective.e_value == pytest.approx(feeding.e_value)
    assert protective.limit_e_value == pytest.approx(feeding.limit_e_value)
    assert crl.RiskRatio(1.2, 0.9, 1.6).limit_e_value == 1.0
    assert crl.RiskRatio(3.9, 1.8, 8.7, null=2.0).e_value == pytest.approx(1.95 + np.sqrt(1.95 * 0.95))
    assert crl.RiskRatio(3.9, 1.8, 8.7, null=2.0).limit_e_value == 1.0


def test_a_confounder_as_strong_as_the_e_value_explains_the_ratio_away() -> None:
    """Enumerated: no effect, P(U = 1 | treated) = 1, P(U = 1 | control) = 1 / E, and U multiplies the risk by E."""
    strength = crl.RiskRatio(2.4, 2.0, 3.0).e_value
    risk_treated, risk_control = strength, 1 / strength * strength + (1 - 1 / strength)
    assert risk_treated / risk_control == pytest.approx(2.4)


def test_the_risk_ratio_of_a_two_by_two_table() -> None:
    arm = np.repeat([1, 0], [80, 120])
    outcome = np.concatenate([np.repeat([1, 0], [40, 40]), np.repeat([1, 0], [30, 90])]).astype(float)
    study = crl.Trajectories.from_cross_section(np.zeros(200, int), arm, outcome)
    row = analysed(crl.EValue(), study, crl.IPW()).frame.iloc[0]
    assert row["risk_ratio"] == pytest.approx(2.0)
    assert row["e_value"] == pytest.approx(2 + np.sqrt(2))
    spread = np.sqrt((1 - 0.5) / 40 + (1 - 0.25) / 30)  # of the log ratio, textbook
    assert np.log(row["high"] / row["low"]) / 2 / spread == pytest.approx(1.9719, abs=0.01)  # t quantile, df 199
    contrast = analysed(crl.EValue(), study, crl.IPW(), crl.Contrast(crl.Always(1), crl.Always(0)))
    assert contrast.frame.equals(analysed(crl.EValue(), study, crl.IPW()).frame)
    switched = analysed(crl.EValue(), study, crl.IPW(), crl.ATE(0, 1)).frame.iloc[0]
    assert switched["e_value"] == pytest.approx(row["e_value"])
    assert switched["limit_e_value"] == pytest.approx(row["limit_e_value"])
    assert analysed(crl.EValue(null=2.0), study, crl.IPW()).frame.iloc[0]["e_value"] == pytest.approx(1.0)


def test_a_difference_by_the_published_approximation(nhefs: crl.Trajectories) -> None:
    analysis = analysed(crl.EValue(), nhefs)
    import statsmodels.api as sm

    effect = AIPW.estimate(nhefs, crl.ATE())
    spread = np.sqrt(sm.OLS(nhefs.rewards, sm.add_constant(nhefs.actions)).fit().scale)  # pooled within the arms
    d, s = effect.value / spread, effect.stderr / spread
    ratios = np.exp([0.91 * d, 0.91 * d - 1.78 * s, 0.91 * d + 1.78 * s])
    row = analysis.frame.iloc[0]
    np.testing.assert_allclose(row[["risk_ratio", "low", "high"]].to_numpy(float), ratios)
    np.testing.assert_allclose(row[["e_value", "limit_e_value"]].to_numpy(float), (ratios + np.sqrt(ratios**2 - ratios))[:2])
    assert "2.31 each" in analysis.summary()
    one_kilogram = analysed(crl.EValue(null=1.0), nhefs).frame.iloc[0]
    assert one_kilogram["risk_ratio"] / one_kilogram["null"] == pytest.approx(np.exp(0.91 * (effect.value - 1) / spread))
    assert analysed(crl.EValue(null=effect.value), nhefs).frame["e_value"][0] == pytest.approx(1.0, abs=1e-6)
    assert analysed(crl.EValue(), nhefs, crl.IPW(), crl.ATT()).frame["e_value"][0] > 1.5


@pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")  # 20 treated
def test_the_effect_is_not_part_of_its_own_scale() -> None:
    """A shift of ten standard deviations within arms of different sizes, by hand: d = 10, a ratio of exp(9.1)."""
    noise = np.tile([-1.0, 1.0], 30)
    arm = np.repeat([1, 0], [20, 40])
    spread = np.sqrt(60 / 58)
    study = crl.Trajectories.from_cross_section(np.zeros(60, int), arm, noise + 10 * spread * arm)
    analysis = analysed(crl.EValue(), study, crl.IPW())
    assert analysis.frame["risk_ratio"][0] == pytest.approx(np.exp(9.1))
    assert "10 standard deviations of the outcome, pooled within the arms" in analysis.summary()


@pytest.mark.parametrize("codes", [(0.0, 100.0), (1.0, 2.0), (-1.0, 1.0)])
def test_two_outcomes_are_coded_zero_and_one(codes: tuple[float, float]) -> None:
    data = cross_section()
    study = crl.Trajectories.from_cross_section(data.observations, data.actions, np.where(data.rewards > 0, *codes[::-1]))
    with pytest.raises(EstimandError, match=f"two values {codes[0]:g} and {codes[1]:g}; code them 0 and 1"):
        analysed(crl.EValue(), study, crl.IPW())


# Rosenbaum bounds


def test_published_bounds_of_lead() -> None:
    """Rosenbaum 2002, section 4.3.3 (one-sided, normal approximation) and 4.3.5."""
    lead = PairTest.of(crl.SignedRank(), np.subtract(EXPOSED, CONTROL, dtype=float))
    assert lead.value == 527
    published = {2: 0.0018, 3: 0.0136, 4: 0.0388, 4.25: 0.0468, 5: 0.0740}
    for gamma, p_value in published.items():
        assert round(normal_tail(lead.scores, gamma / (1 + gamma), lead.value), 4) == p_value
    assert lead.estimates(1.0) == (15.0, 15.0)
    assert lead.estimates(2.0) == (10.25, 19.5)


def test_no_hidden_bias_is_wilcoxons_test() -> None:
    from scipy.stats import wilcoxon

    rng = np.random.default_rng(1)
    treated, control = rng.normal(0.6, 1, 14), rng.normal(size=14)
    analysis = analysed(crl.RosenbaumBounds([1.0]), paired(treated, control), crl.IPW())
    row = analysis.frame.iloc[0]
    assert row["p_low"] == row["p_high"] == pytest.approx(wilcoxon(treated, control, method="exact").pvalue)
    differences = treated - control
    walsh = [(a + b) / 2 for i, a in enumerate(differences) for b in differences[i:]]
    assert row["low"] == row["high"] == pytest.approx(np.median(walsh))


@pytest.mark.parametrize("statistic", [crl.SignedRank(), crl.SignTest()])
@pytest.mark.parametrize("gamma", [1.0, 2.0, 3.5])
def test_p_values_by_enumeration_of_the_signs(statistic: Any, gamma: float) -> None:
    differences = np.array([2.0, -1.0, 0.0, 3.0, 1.0, 5.0, -2.0, 4.0, 6.0])  # ties and a zero
    test = PairTest.of(statistic, differences)
    tails = []
    for p in (1 / (1 + gamma), gamma / (1 + gamma)):
        upper = lower = 0.0
        for signs in product((0, 1), repeat=len(test.scores)):
            total = float(np.dot(signs, test.scores))
            up = p ** sum(signs) * (1 - p) ** (len(signs) - sum(signs))
            down = (1 - p) ** sum(signs) * p ** (len(signs) - sum(signs))
            upper += up * (total >= test.value)
            lower += down * (total <= test.value)
        tails.append(min(1.0, 2 * min(upper, lower)))
    assert test.p_values(gamma) == pytest.approx(tails)


@pytest.mark.parametrize("statistic", [crl.SignedRank(), crl.SignTest()])
@pytest.mark.parametrize("gamma", [1.0, 1.7])
def test_estimates_and_interval_by_a_search_over_effects(statistic: Any, gamma: float) -> None:
    differences = np.random.default_rng(5).normal(1.0, 1.5, 12)
    test, most, grid = PairTest.of(statistic, differences), gamma / (1 + gamma), np.linspace(-2, 4, 601)
    moved = [PairTest.of(statistic, differences - effect) for effect in grid]
    value, total = np.array([own.value for own in moved]), test.untied.sum()
    for p, bound in zip((most, 1 - most), test.estimates(gamma), strict=True):
        above, below = grid[value > p * total], grid[value < p * total]
        assert bound == pytest.approx((above.max() + below.min()) / 2, abs=0.01)
    kept = grid[[own.p_values(gamma)[1] > 0.05 for own in moved]]
    assert test.interval(gamma, 0.95) == pytest.approx((kept.min(), kept.max()), abs=0.01)


def test_bounds_widen_with_gamma_and_the_findings_name_the_largest() -> None:
    lead = paired(EXPOSED, CONTROL)
    analysis = analysed(crl.RosenbaumBounds([1, 1.5, 2, 3, 4, 6]), lead, crl.IPW(), crl.ATT())
    frame = analysis.frame
    for lower, upper in (("low", "high"), ("interval_low", "interval_high"), ("p_low", "p_high")):
        assert (np.diff(frame[lower]) <= 0).all()
        assert (np.diff(frame[upper]) >= 0).all()
    test = PairTest.of(crl.SignedRank(), np.subtract(EXPOSED, CONTROL, dtype=float))
    largest = test.largest_gamma(0.05)
    assert test.p_values(largest)[1] == pytest.approx(0.05)
    assert f"factor of {largest:.2f}" in analysis.summary()
    assert 3 < analysis.tipping_point() < 4
    assert test.largest_gamma(1e-9) == 1.0
    assert PairTest.of(crl.SignTest(), np.ones(500)).largest_gamma(0.05) > 80  # (g / (1 + g))^500 = 0.025


@pytest.mark.parametrize("pairs", [1, 12, 250])
def test_the_largest_gamma_has_bounds(pairs: int) -> None:
    gains = np.random.default_rng(2).normal(1, 1, pairs)
    row = analysed(crl.RosenbaumBounds([1, 1e6]), paired(gains, np.zeros(pairs)), crl.IPW()).frame.iloc[1]
    assert row["low"] == pytest.approx(gains.min(), abs=0.5)
    assert row["high"] == pytest.approx(gains.max(), abs=0.5)
    assert row["p_high"] == 1
    with pytest.raises(SensitivityError, match=r"gammas: 1e\+10 is beyond 1e\+06"):
        crl.RosenbaumBounds([1, 1e10])


def test_the_tipping_point_of_an_interval_that_becomes_infinite() -> None:
    """At gamma 2 the interval excludes -5, at 5 it is the whole line: nothing in between is known to hold -5."""
    gains = np.array([5.0, 3, 8, 2, 6, 1, -1, 7, 4, 9, 2.5, 3.5])
    analysis = analysed(crl.RosenbaumBounds([1, 1.5, 2, 5, 20]), paired(gains, np.zeros(12)), crl.IPW())
    frame = analysis.frame.set_index("gamma")
    assert frame["interval_low"][2] > -5
    assert frame["interval_low"][5] == -np.inf
    assert analysis.tipping_point(-5.0) == 5


def test_many_pairs_have_the_normal_distribution() -> None:
    scores = np.arange(1.0, 201.0)
    p, value = 0.6, 0.64 * scores.sum()
    assert upper_tail(scores, p, value) == pytest.approx(normal_tail(scores, p, value), abs=0.005)
    assert distribution(scores, p).sum() == pytest.approx(1.0)
    more = np.arange(1.0, 202.0)
    assert critical_value(more, p, 0.025) == pytest.approx(critical_value(scores, p, 0.025) + p * 201, rel=0.003)


def test_matched_pairs_are_the_closest() -> None:
    data = cross_section(n=14, seed=4)
    pairs = crl.matched_pairs(data, crl.Logit())
    e = Nuisances(data).behavior(crl.Logit(), None, None).treated
    logits = np.log(e / (1 - e))
    treated, control = (list(np.flatnonzero(data.actions == arm)) for arm in (1, 0))
    few, many = sorted((treated, control), key=len)

    def least(i: int, left: list[int]) -> float:
        if i == len(few):
            return 0.0
        return min(abs(logits[few[i]] - logits[j]) + least(i + 1, [k for k in left if k != j]) for j in left)

    of_pairs = dict(zip(data.ids.tolist(), logits, strict=True))
    made = sum(abs(of_pairs[a] - of_pairs[b]) for a, b in pairs.ids.reshape(-1, 2).tolist())
    assert made == pytest.approx(least(0, many))
    assert len(pair_differences(pairs, 1, 0)) == len(few)


# Omitted-variable bias


def test_published_numbers_of_darfur() -> None:
    """Cinelli & Hazlett 2020, tables 1 and 2, and the vignette of sensemakr: an effect of 0.0973 (0.0233) on 783 df."""
    darfur = crl.RegressionCoefficient(0.09731582, 0.02325654, 783)
    assert round(darfur.estimate / darfur.stderr, 2) == 4.18
    assert round(darfur.partial_r2, 4) == 0.0219
    assert round(darfur.robustness_value(0.0), 3) == 0.139
    assert round(darfur.interval_strength(0.0, 0.95).r2_treatment, 3) == 0.076
    female = LinearGain(0.009081065, 0.109033915)  # t -2.6804 on 784 and -9.7888 on 783 degrees of freedom
    published = [
        ((0.00916, 0.1246), (0.0752, 0.0323, 0.1182)),
        ((0.0183, 0.2493), (0.0529, 0.0130, 0.0929)),
        ((0.0275, 0.3741), (0.0304, -0.0063, 0.0670)),
    ]
    for count, (strength, left) in enumerate(published, start=1):
        r2_treatment, r2_outcome = female.times(count)
        assert (r2_treatment, r2_outcome) == pytest.approx(strength, abs=6e-5)
        moved = darfur.moved(Strength(r2_treatment, r2_outcome), 0.95)
        upper = 2 * moved.low - moved.interval_low
        assert (moved.low, moved.interval_low, upper) == pytest.approx(left, abs=6e-5)


def test_nhefs_agrees_with_an_independent_regression(nhefs: crl.Trajectories) -> None:
    import statsmodels.api as sm

    x, arm = nhefs.observations, nhefs.actions.astype(float)
    outcome = sm.OLS(nhefs.rewards, sm.add_constant(np.column_stack([arm, x]))).fit()
    treatment = sm.OLS(arm, sm.add_constant(x)).fit()
    frame = analysed(crl.OmittedVariable(benchmarks=["sex"]), nhefs, OLS).frame.set_index("scenario")
    none = frame.loc["none", ["low", "interval_low", "interval_high"]]
    assert none.tolist() == pytest.approx([outcome.params[1], *outcome.conf_int()[1]])
    t, df = outcome.tvalues[1], outcome.df_resid
    assert frame.loc["extreme confounder", "r2_treatment"] == pytest.approx(t**2 / (t**2 + df))
    f = abs(t) / np.sqrt(df)
    assert frame.loc["robustness value", "r2_outcome"] == pytest.approx((np.sqrt(f**4 + 4 * f**2) - f**2) / 2)
    d, y = (fit.tvalues[j] ** 2 / (fit.tvalues[j] ** 2 + fit.df_resid) for fit, j in ((treatment, 1), (outcome, 2)))
    assert frame.loc["2x sex", "r2_treatment"] == pytest.approx(2 * d / (1 - d))
    z = 2 * d**2 / ((1 - 2 * d) * (1 - d))
    assert frame.loc["2x sex", "r2_outcome"] == pytest.approx(((np.sqrt(2) + np.sqrt(z)) / np.sqrt(1 - z)) ** 2 * y / (1 - y))


def test_the_regression_with_the_confounder_is_one_end_of_the_bounds() -> None:
    """The identity of omitted-variable bias is exact in the sample, for the coefficient and for its t interval."""
    import statsmodels.api as sm

    rng = np.random.default_rng(7)
    x, u = rng.normal(size=(90, 2)), rng.normal(size=90)
    arm = (x[:, 0] + u + rng.normal(size=90) > 0).astype(float)
    outcome = arm + x @ [1.0, -0.5] + 1.5 * u + rng.normal(size=90)

    def partial(given: np.ndarray, values: np.ndarray) -> float:
        short, long = (sm.OLS(values, sm.add_constant(design)).fit() for design in (given, np.column_stack([given, u])))
        return float(1 - long.ssr / short.ssr)

    strength = partial(x, arm), partial(np.column_stack([x, arm]), outcome)
    study = crl.Trajectories.from_cross_section(x, arm.astype(int), outcome)
    row = analysed(crl.OmittedVariable(strengths=[strength]), study, OLS).frame.iloc[-1]
    long = sm.OLS(outcome, sm.add_constant(np.column_stack([arm, x, u]))).fit()
    assert row["low"] == pytest.approx(long.params[1])
    assert row["interval_low"] == pytest.approx(long.conf_int()[1][0])


@pytest.mark.parametrize(("t", "df"), [(4.2, 783), (-3.0, 40), (9.0, 10), (1.0, 50)])
@pytest.mark.parametrize("null", [0.0, 0.5])
def test_robustness_values_reach_the_null_and_no_weaker_confounder_does(t: float, df: int, null: float) -> None:
    effect = crl.RegressionCoefficient(t, 1.0, df)

    def nearest(strength: Strength, which: str) -> float:
        moved = effect.moved(strength, 0.95)
        return float(getattr(moved, f"{which}low") - null if t > null else null - getattr(moved, f"{which}high"))

    value = effect.robustness_value(null)
    assert nearest(Strength(value, value), "") == pytest.approx(0, abs=1e-9)
    assert nearest(effect.extreme_strength(null), "") == pytest.approx(0, abs=1e-9)
    needed = effect.interval_strength(null, 0.95)
    if needed.r2_treatment == 0:
        assert nearest(Strength(0.0, 1e-9), "interval_") <= 0
        return
    assert nearest(needed, "interval_") == pytest.approx(0, abs=1e-9)
    weaker = 0.999 * needed.r2_treatment
    grid = np.linspace(0, weaker, 60)
    assert min(nearest(Strength(a, b), "interval_") for a in grid for b in grid[1:]) > 0


def population() -> tuple[crl.Trajectories, dict[str, float]]:
    """A population of binary X, U, A by exact frequencies, U not recorded; and what is true of it."""
    rows, truth = [], dict[str, float]()
    for x, u in product((0, 1), repeat=2):
        treated = 1 + 2 * x + 3 * u  # of 8
        for arm, count in ((1, treated), (0, 8 - treated)):
            outcome = 1.0 + 2 * arm + x + 3 * u - arm * u
            rows += [(x, u, arm, outcome + noise) for noise in (-0.5, 0.5) for _ in range(5 * count)]
    x, u, arm, outcome = np.array(rows).T

    def fit(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Outcome regression, weights, and effect with these cells."""
        e, g, effect = np.empty(len(arm)), np.empty(len(arm)), 0.0
        for cell in np.unique(cells):
            own = cells == cell
            e[own] = arm[own].mean()
            means = [outcome[own & (arm == a)].mean() for a in (0, 1)]
            g[own], effect = np.where(arm[own] == 1, means[1], means[0]), effect + own.mean() * (means[1] - means[0])
        return g, arm / e - (1 - arm) / (1 - e), effect

    (short, weights, recorded), (long, all_weights, true) = fit(x), fit(2 * x + u)
    truth["short"], truth["true"] = recorded, true
    truth["scale"] = float(np.sqrt(np.mean((outcome - short) ** 2) * np.mean(weights**2)))
    truth["r2_outcome"] = float(np.mean((long - short) ** 2) / np.mean((outcome - short) ** 2))
    truth["r2_treatment"] = float(1 - np.mean(weights**2) / np.mean(all_weights**2))
    truth["correlation"] = float(np.corrcoef(long - short, all_weights - weights)[0, 1])
    return crl.Trajectories.from_cross_section(x[:, None], arm.astype(int), outcome), truth


def test_the_bounds_of_a_population_hold_its_truth() -> None:
    """Chernozhukov et al. 2022: bias = correlation S C_Y C_D, enumerated with the confounder and computed without."""
    data, truth = population()
    strength = truth["r2_treatment"], truth["r2_outcome"]
    analysis = analysed(crl.OmittedVariable(strengths=[strength]), data)
    row = analysis.frame.iloc[-1]
    bias = truth["scale"] * Strength(*strength).size
    assert analysis.estimate.value == pytest.approx(truth["short"])
    assert (row["low"], row["high"]) == pytest.approx((truth["short"] - bias, truth["short"] + bias))
    assert truth["short"] - truth["true"] == pytest.approx(abs(truth["correlation"]) * bias)
    assert row["low"] <= truth["true"] <= row["high"]


@pytest.mark.parametrize("kind", ["partially linear", "interactive"])
def test_learned_nuisances_against_a_naive_computation(kind: str) -> None:
    data = cross_section(n=300, seed=2)
    forest, arm = RandomForestRegressor(20, min_samples_leaf=10, random_state=0), data.actions
    own = Nuisances(data)
    e = own.behavior(crl.Logit(), 3, None).treated
    if kind == "interactive":
        estimator: Any = crl.AIPW(outcome=crl.PerAction(forest), propensity=crl.Logit(), folds=3)
        q = [own.values(crl.PerAction(forest), own.target(crl.Always(a), None, 3, None), 1.0, 3).v for a in (0, 1)]
        errors = data.rewards - np.where(arm == 1, q[1], q[0])
        alpha = arm / e - (1 - arm) / (1 - e)
        theta = np.mean(q[1] - q[0] + alpha * errors)
        psi = q[1] - q[0] + alpha * errors - theta
        terms = 2 * (1 / e + 1 / (1 - e)) - alpha**2
        nu, psi_nu = terms.mean(), terms - terms.mean()
    else:
        estimator = crl.PLR(forest, crl.KnownPropensity(lambda x, t: np.column_stack([1 - e, e])), folds=3)
        residual, outcome = arm - e, data.rewards - own.outcome_mean(forest, 3).values
        theta = residual @ outcome / (residual @ residual)
        errors, nu = outcome - theta * residual, 1 / np.mean(residual**2)
        psi, psi_nu = residual * errors * nu, nu - residual**2 * nu**2
    sigma = np.mean(errors**2)
    size = np.sqrt(0.04 * 0.06 / 0.94)
    psi_s = (sigma * psi_nu + nu * (errors**2 - sigma)) / (2 * np.sqrt(sigma * nu))
    if kind == "interactive":  # its influence values carry those of the learned propensities
        psi = estimator.estimate(data, crl.ATE()).influence
    row = analysed(crl.OmittedVariable(strengths=[(0.06, 0.04)]), data, estimator).frame.iloc[-1]
    low, high = theta - size * np.sqrt(sigma * nu), theta + size * np.sqrt(sigma * nu)
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    from scipy.stats import t

    half = [t.ppf(0.975, 299) * np.std(psi + sign * size * psi_s, ddof=1) / np.sqrt(300) for sign in (-1, 1)]
    assert (row["interval_low"], row["interval_high"]) == pytest.approx((low - half[0], high + half[1]), rel=1e-3)


def test_each_bound_has_its_own_standard_error() -> None:
    """Against the derivative of either bound in the weight of each unit, by differences, with the nuisances held."""
    data = cross_section(n=200, seed=6)
    e = Nuisances(data).behavior(crl.Logit(), None, None).treated
    plr = crl.PLR(LinearRegression(), crl.KnownPropensity(lambda x, t: np.column_stack([1 - e, e])))
    treatment = data.actions - e
    outcome = data.rewards - Nuisances(data).outcome_mean(LinearRegression(), None).values
    size = Strength(0.3, 0.3).size

    def bounds(weights: np.ndarray) -> np.ndarray:
        squares = np.average(treatment**2, weights=weights)
        effect = np.average(treatment * outcome, weights=weights) / squares
        bias = size * np.sqrt(np.average((outcome - effect * treatment) ** 2, weights=weights) / squares)
        return np.array([effect - bias, effect + bias])

    step, n = 1e-4, data.n
    influence = np.array([n * (bounds(1 + step * unit) - bounds(1 - step * unit)) / (2 * step) for unit in np.eye(n)])
    low, high = bounds(np.ones(n))
    from scipy.stats import t

    half = t.ppf(0.975, n - 1) * influence.std(axis=0, ddof=1) / np.sqrt(n)
    assert abs(half[1] / half[0] - 1) > 0.02  # so that they cannot be mistaken for each other
    row = analysed(crl.OmittedVariable(strengths=[(0.3, 0.3)]), data, plr).frame.iloc[-1]
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert (row["interval_low"], row["interval_high"]) == pytest.approx((low - half[0], high + half[1]), rel=1e-5)


@pytest.mark.parametrize("estimator", [AIPW, crl.PLR(LinearRegression(), crl.Logit())])
def test_learned_robustness_values_reach_the_null(nhefs: crl.Trajectories, estimator: Any) -> None:
    frame = analysed(crl.OmittedVariable(null=1.0, level=0.9), nhefs, estimator).frame.set_index("scenario")
    assert frame.loc["robustness value", "low"] == 1.0
    assert frame.loc["extreme confounder", "low"] == 1.0
    assert frame.loc["robustness value, 90% interval", "interval_low"] == 1.0
    none = frame.loc["none", ["interval_low", "interval_high"]]
    assert none.tolist() == pytest.approx(list(estimator.estimate(nhefs, crl.ATE()).interval(0.9)))


def test_a_benchmark_of_learned_nuisances_fits_without_it(nhefs: crl.Trajectories) -> None:
    plr = crl.PLR(LinearRegression(), crl.Logit())
    linear, learned = (analysed(crl.OmittedVariable(["sex", "smokeyrs"]), nhefs, own).frame for own in (OLS, plr))
    linear, learned = linear.set_index("scenario"), learned.set_index("scenario")
    for name in ("1x sex", "3x smokeyrs"):  # the same question, with a logit for the treatment
        np.testing.assert_allclose(linear.loc[name].to_numpy(float), learned.loc[name].to_numpy(float), rtol=0.05)


def test_equal_strength_solves_its_equation() -> None:
    for size in (0.0, 0.01, 0.5, 3.0, 40.0):
        r = equal_strength(size)
        assert r / np.sqrt(1 - r) == pytest.approx(size, rel=1e-6)


# What all share


@pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")  # 80 units hardly overlap
@pytest.mark.parametrize(
    "model",
    [crl.EValue(), crl.OmittedVariable(benchmarks=["age"], strengths=[(0.1, 0.2)]), crl.RosenbaumBounds([1, 2, 3])],
)
def test_figures_and_pages(model: Any) -> None:
    import matplotlib.pyplot as plt

    data = cross_section(n=80, seed=1)
    analysis = analysed(model, crl.matched_pairs(data, crl.Logit()) if isinstance(model, crl.RosenbaumBounds) else data)
    axes = analysis.plot()
    axes.figure.canvas.draw()
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    assert axes is analysis.plot(axes)
    assert "<table" in analysis._repr_html_()
    plt.close("all")


@pytest.mark.parametrize("model", [crl.EValue(), crl.OmittedVariable(), crl.RosenbaumBounds([1, 2])])
def test_questions_that_do_not_apply(model: Any) -> None:
    data = cross_section()
    with pytest.raises(EstimandError, match="sequential"):
        analysed(model, ragged_data(), crl.WIS())
    with pytest.raises(EstimandError, match="Ask ATE"):
        analysed(model, data, goal=crl.Always(1))
    with pytest.raises(EstimandError, match="same arm"):
        analysed(model, data, goal=crl.ATE(1, 1))
    with pytest.raises(EstimandError, match="never occurs"):
        analysed(model, data, goal=crl.ATE(4, 0))


@pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")  # 120 units hardly overlap
def test_what_each_model_refuses() -> None:
    data = cross_section()
    binary = crl.Trajectories.from_cross_section(data.observations, data.actions, data.rewards > 0)
    refused = [
        (crl.EValue(), binary, crl.IPW(), crl.ATT(), "Ask ATE"),
        (crl.EValue(), binary, crl.PLR(LinearRegression()), crl.ATE(), "no value of a policy"),
        (crl.OmittedVariable(), data, crl.IPW(), crl.ATE(), r"SLearner\(LinearRegression\(\)\)"),
        (crl.OmittedVariable(), data, crl.SLearner(LinearRegression(positive=True)), crl.ATE(), "SLearner"),
        (crl.OmittedVariable(), data, AIPW, crl.ATT(), r"ATE\(\)"),
        (crl.OmittedVariable(), data, crl.PLR(LinearRegression(), repeats=3), crl.ATE(), "repeats=1"),
        (crl.OmittedVariable(), data, crl.DR(truncate=5.0), crl.ATE(), "truncate"),
        (crl.OmittedVariable(), cross_section(arms=3), AIPW, crl.ATE(), "code the treated as 1"),
        (crl.RosenbaumBounds([1]), data, crl.IPW(), crl.Contrast(crl.Always(1), crl.Always(0)), "ATT"),
    ]
    for model, study, estimator, goal, text in refused:
        with pytest.raises(EstimandError, match=text):
            analysed(model, study, estimator, goal)
    with pytest.raises(IntervalError, match="RefitBootstrap"):
        analysed(crl.EValue(), data, OLS)
    assert analysed(crl.EValue(method=crl.RefitBootstrap(20)), data, OLS).frame["e_value"][0] > 1
    with pytest.raises(SensitivityError, match=r"row 0 .* matched_pairs"):
        analysed(crl.RosenbaumBounds([1]), data, crl.IPW())
    with pytest.raises(SensitivityError, match="say nothing"):
        analysed(crl.RosenbaumBounds([1]), paired([1, 2, 3], [1, 2, 3]), crl.IPW())
    with pytest.raises(SensitivityError, match="have age, severity"):
        analysed(crl.OmittedVariable(benchmarks=["sex"]), data, OLS)
    collinear = crl.Trajectories.from_cross_section(np.ones((120, 1)), data.actions, data.rewards)
    with pytest.raises(SensitivityError, match="collinear"):
        analysed(crl.OmittedVariable(), collinear, OLS)
    single = crl.Trajectories.from_cross_section(data.observations[:, :1], data.actions, data.rewards)
    with pytest.raises(SensitivityError, match="only covariate"):
        analysed(crl.OmittedVariable(benchmarks=["x0"]), single)
    exact = crl.Trajectories.from_cross_section(data.observations, data.actions, data.actions + data.observations[:, 0])
    with pytest.raises(SensitivityError, match="exactly"):
        analysed(crl.OmittedVariable(), exact, OLS)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: crl.EValue(null="x"), "null"),
        (lambda: crl.EValue(method=0.95), "method"),
        (lambda: crl.RiskRatio(-1.0, 0.5, 2.0), "value"),
        (lambda: crl.RiskRatio(3.0, 0.5, 2.0), "outside its interval"),
        (lambda: crl.OmittedVariable(benchmarks="age"), r"such as \['age'\]"),
        (lambda: crl.OmittedVariable(times=[0]), "times"),
        (lambda: crl.OmittedVariable(strengths=[0.1]), "no pair"),
        (lambda: crl.OmittedVariable(strengths=[(1.0, 0.1)]), "strengths"),
        (lambda: crl.OmittedVariable(level=95), "level"),
        (lambda: crl.RosenbaumBounds([0.5]), "gammas"),
        (lambda: crl.RosenbaumBounds([1], "wilcoxon"), "SignedRank"),
        (lambda: crl.RosenbaumBounds([1], level=2), "level"),
        (lambda: crl.RegressionCoefficient(1.0, 0.0, 50), "stderr"),
        (lambda: crl.RegressionCoefficient(1.0, 0.1, 1), "df"),
    ],
)
def test_bad_parameters(make: Any, text: str) -> None:
    with pytest.raises((SensitivityError, IntervalError), match=text):
        make()


def test_crossings() -> None:
    gammas = np.array([1.5, 2.0, 3.0])
    assert first_crossing(gammas, np.array([1.0, 1.0, -1.0])) == 2.5
    assert first_crossing(gammas, np.array([1.0, -np.inf, -np.inf])) == 2
    assert first_crossing(gammas, np.array([np.inf, np.inf, -1.0])) == 3
    assert first_crossing(gammas, np.array([0.0, -1.0, -2.0])) == 1.5
    assert first_crossing(gammas, np.ones(3)) == np.inf
    with pytest.raises(SensitivityError, match="at 2 are not numbers"):
        first_crossing(gammas, np.array([1.0, np.nan, -1.0]))


@pytest.mark.parametrize(
    ("gammas", "low", "text"),
    [
        ([1.5, 2.0], [-0.1, -0.2], "at gamma = 1.5, the first asked, already: the tipping point is at most that"),
        ([1.0, 2.0], [-0.1, -0.2], "at gamma = 1: no unobserved confounding is needed"),
        ([1.0, 2.0], [0.1, -0.1], "holds a difference of 0 from gamma = 1.5 on"),
        ([1.0, 2.0], [0.2, 0.1], "excludes a difference of 0 at every gamma asked, up to 2"),
    ],
)
def test_what_is_said_of_no_difference(gammas: list[float], low: list[float], text: str) -> None:
    assert text in about_zero(np.array(gammas), np.array(low), np.ones(2))


def test_the_findings_name_the_weakest_that_could_and_the_strongest_that_could_not() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    arm = (x @ [0.35, 0.1, 0.6] + rng.normal(size=400) > 0).astype(int)
    outcome = 0.6 * arm + x @ [0.25, 0.1, 0.6] + rng.normal(size=400)
    data = crl.Trajectories.from_cross_section(x, arm, outcome, feature_names=["a", "b", "c"])
    times = (6, 1, 2, 3, 4, 5, 7)  # in any order
    analysis = analysed(crl.OmittedVariable(benchmarks=["a", "b", "c"], times=times), data, OLS)
    frame = analysis.frame.set_index("scenario")
    could = frame.index[frame["low"] <= 0]
    reached = frame.index[(frame["low"] > 0) & (frame["interval_low"] <= 0)]
    for name in "abc":
        rows = [f"{count}x {name}" for count in range(1, 8) if f"{count}x {name}" in frame.index]
        said = [text for text in analysis.findings if text.startswith("A confounder") and f"x {name}" in text]
        estimate, interval = ([row for row in rows if row in own] for own in (could, reached))
        neither = [row for row in rows if row not in could and row not in reached]
        expected = [*neither[-1:], *sorted({*interval[:1], *interval[-1:]}), *estimate[:1]]
        assert [text.split()[2] + " " + text.split()[3].strip(",") for text in said] == expected
    weakest = next(row for row in (f"{count}x c" for count in range(1, 8)) if row in could)
    assert any(
        text.startswith(f"A confounder {weakest}") and "could bring the estimate to 0" in text for text in analysis.findings
    )


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1])
@pytest.mark.parametrize("estimator", [AIPW, OLS, crl.PLR(LinearRegression(), crl.Logit())], ids=["AIPW", "OLS", "PLR"])
def test_a_constant_outcome_leaves_nothing_to_explain(estimator: Any, constant: float) -> None:
    data = cross_section()
    study = crl.Trajectories.from_cross_section(data.observations, data.actions, np.full(data.n, constant))
    with pytest.raises(SensitivityError, match="nothing is left unexplained"):
        analysed(crl.OmittedVariable(), study, estimator)


def test_a_benchmark_beyond_what_there_is() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    arm = (x[:, 0] + 0.3 * rng.normal(size=200) > 0).astype(int)
    data = crl.Trajectories.from_cross_section(x, arm, arm + x[:, 1] * 3 + rng.normal(size=200), feature_names=["a", "b"])
    analysis = analysed(crl.OmittedVariable(benchmarks=["a", "b"]), data, OLS)
    assert any("No confounder is 3 times as strong as a" in text for text in analysis.findings)
    assert any("set to" in text for text in analysis.findings)
    assert (analysis.frame["r2_outcome"] <= 1).all()
