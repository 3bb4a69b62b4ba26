"""Refuters: values against naive loops and dowhy, levels of the tests, and what each has to detect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest, ttest_1samp
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier

import causalrl as crl
from causalrl.kernels.rng import derive_seed
from causalrl.refutation.base import mean_p_value
from causalrl.refutation.common_cause import with_cause
from causalrl.refutation.placebo import Permutation
from causalrl.refutation.single_decision import SingleDecision
from tests.conftest import BEHAVIOR, TARGET, cross_section, output_whatever_runs_it, ragged_data

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")

AIPW = crl.AIPW(outcome=crl.LinearQ(), propensity=crl.Logit())
IPW = crl.IPW(propensity=crl.Logit())
GOAL = crl.PolicyValue(TARGET, discount=0.9, horizon=4)
FAST = (
    IPW,
    crl.IS(behavior=crl.Logit(), truncate=3.0),
    crl.PDIS(),
    crl.PDWIS(),
    AIPW,
    crl.WDR(q=crl.LinearQ(ridge=0.1)),
    crl.AIPW(crl.PerAction(LinearRegression())),
)
EFFECTS = (
    crl.TMLE(q=crl.LinearQ()),
    crl.IPW(weights=crl.EntropyBalancing()),
    crl.GFormula(crl.LinearQ()),
    crl.PLR(LinearRegression()),
    crl.AIPW(outcome=crl.LinearQ(), folds=2),
)


def logged(study: crl.Trajectories) -> crl.Trajectories:
    e = 1 / (1 + np.exp(-0.8 * study.observations[:, 0]))
    return replace(study, behavior_probabilities=np.column_stack([1 - e, e]))


def naive_placebos(estimator: crl.Estimator, study: crl.Trajectories, goal: Any, replicates: int) -> list[float]:
    """One data set after the other, with the permutations of `refute`."""
    permutation = Permutation(study, np.zeros(study.n, np.int64), study.behavior_probabilities is not None)
    seeds = [derive_seed(0, "placebo", r) for r in range(replicates)]
    return [float(estimator.estimate(permutation.draw(seed), goal).value) for seed in seeds]


# --- values


@pytest.mark.parametrize("with_logged", [False, True], ids=["learned", "logged"])
@pytest.mark.parametrize("estimator", FAST, ids=str)
def test_kernels_give_the_values_of_the_estimators(estimator: crl.Estimator, with_logged: bool, study: crl.Trajectories) -> None:
    data = logged(study) if with_logged else study
    for goal in (crl.ATE(), crl.Contrast(lambda x, t: np.column_stack([x[:, 0] > 0, x[:, 0] <= 0]), crl.Uniform(2))):
        assert SingleDecision.of(estimator, data, (goal,)) is not None
        found = crl.refute(estimator, data, goal, crl.PlaceboTreatment(3))
        np.testing.assert_allclose(found.values, naive_placebos(estimator, data, goal, 3), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("estimator", FAST[:5], ids=str)
def test_subsets_and_dummy_outcomes_of_kernels_are_those_of_the_estimators(
    estimator: crl.Estimator, study: crl.Trajectories
) -> None:
    fast = SingleDecision.of(estimator, study, (crl.ATE(),))
    assert fast is not None
    counts = np.random.default_rng(0).permuted(np.repeat([[0.0, 1.0]], 3, axis=0).repeat(60, axis=1), axis=1)
    subsets = [estimator.estimate(study.take(np.flatnonzero(row)), crl.ATE()).value for row in counts]
    np.testing.assert_allclose(fast.refitted(counts)[:, 0], subsets, rtol=1e-8)
    outcomes = [replace(study, rewards=np.random.default_rng(r).normal(size=study.n)) for r in range(3)]
    expected = [estimator.estimate(data, crl.ATE()).value for data in outcomes]
    np.testing.assert_allclose(fast.values(outcomes)[:, 0], expected, rtol=1e-8)


def test_the_p_values_are_those_of_their_definitions(study: crl.Trajectories) -> None:
    found = crl.refute(AIPW, study, crl.ATE(), crl.PlaceboTreatment(19))
    assert found.p_value == pytest.approx(ttest_1samp(found.values, 0).pvalue, rel=1e-10)
    assert found.permutation_p_value == (1 + np.sum(np.abs(found.values) >= abs(found.estimate.value))) / 20
    assert found.frame["difference"].tolist() == found.values.tolist()
    assert mean_p_value(np.zeros(5)) == 1
    assert mean_p_value(np.full(5, 2.0)) == 0


@pytest.mark.parametrize("by_time", [False, True])
def test_actions_move_within_states_only_and_carry_their_probabilities(by_time: bool, ragged: crl.Trajectories) -> None:
    time = np.arange(len(ragged.rewards)) - np.repeat(ragged.offsets[:-1], ragged.lengths)
    cell = ragged.observations * 100 + time * by_time
    codes = crl.PlaceboTreatment(2, by_time=by_time)._codes(ragged)
    placebo = Permutation(ragged, codes, True).draw(0)
    assert (placebo.actions != ragged.actions).any()
    assert placebo.behavior_probabilities is not None
    for own in map(int, np.unique(cell)):
        mine = cell == own
        assert sorted(placebo.actions[mine]) == sorted(ragged.actions[mine])
        shares = np.bincount(ragged.actions[mine], minlength=2) / mine.sum()
        np.testing.assert_allclose(placebo.behavior_probabilities[mine], np.tile(shares, (mine.sum(), 1)))


def test_permutations_are_uniform() -> None:
    """All 6 orders of three decisions, beside one that is alone in its stratum."""
    data = crl.Trajectories.from_arrays([0, 0, 1, 0], [0, 1, 1, 2], [0.0] * 4, range(5))
    permutation = Permutation(data, np.array([0, 0, 1, 0]), False)
    orders = [tuple(permutation.draw(seed).actions) for seed in range(3000)]
    assert {order[2] for order in orders} == {1}
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 6
    assert np.ptp(counts) < 6 * np.sqrt(500)
    assert permutation.fixed == 0.25


def test_a_placebo_gives_every_policy_the_value_of_the_behaviour(ragged: crl.Trajectories) -> None:
    """Of weighting with counts the reference is the mean return, to rounding."""
    goal = crl.PolicyValue(TARGET, discount=0.9)
    found = crl.refute(crl.WIS(behavior=crl.Counts()), ragged, goal, crl.PlaceboTreatment(5))
    np.testing.assert_allclose(found.references, crl.OnPolicyMean().estimate(ragged, goal).value, rtol=1e-12)


def test_known_propensities_give_way_to_those_of_the_permutation(ragged: crl.Trajectories) -> None:
    bare = replace(ragged, behavior_probabilities=None)
    known = crl.refute(crl.WIS(behavior=crl.KnownPropensity(BEHAVIOR)), bare, GOAL, crl.PlaceboTreatment(5))
    np.testing.assert_array_equal(known.values, crl.refute(crl.WIS(), ragged, GOAL, crl.PlaceboTreatment(5)).values)


# --- every estimator


REFUTERS = (crl.PlaceboTreatment(3), crl.DummyOutcome(3), crl.DataSubset(0.8, 3), crl.BootstrapData(3), crl.RandomCommonCause(2))


@pytest.mark.parametrize("refuter", REFUTERS, ids=str)
@pytest.mark.parametrize("kind", crl.ALL, ids=lambda kind: kind.__name__)
def test_every_registered_estimator(kind: type[crl.Estimator], refuter: crl.Refuter, ragged: crl.Trajectories) -> None:
    counted = replace(ragged, behavior_probabilities=None)
    if kind is crl.OnPolicyMean and isinstance(refuter, crl.RandomCommonCause):
        with pytest.raises(crl.errors.EstimandError, match="does not look at"):
            crl.refute(kind(), counted, GOAL, refuter)
        return
    found = crl.refute(kind(), counted, GOAL, refuter)
    assert np.isfinite(found.values).all()
    assert 0 <= found.p_value <= 1
    if kind is not crl.OnPolicyMean and kind is not crl.MAGIC:
        contrast = crl.Contrast(TARGET, BEHAVIOR, horizon=4)
        assert np.isfinite(crl.refute(kind(), counted, contrast, refuter).p_value)


@pytest.mark.parametrize("refuter", REFUTERS, ids=str)
@pytest.mark.parametrize("estimator", EFFECTS, ids=str)
def test_every_estimator_of_effects(estimator: crl.Estimator, refuter: crl.Refuter, study: crl.Trajectories) -> None:
    found = crl.refute(estimator, study, crl.ATE(), refuter)
    assert np.ptp(found.values) > 0
    assert found.expected == (0 if isinstance(refuter, crl.PlaceboTreatment | crl.DummyOutcome) else found.estimate.value)


@pytest.mark.parametrize(
    ("estimator", "goal"),
    [
        (AIPW, crl.ATT()),
        (AIPW, crl.ATO()),
        (crl.DRLearner(LinearRegression(), effect=LinearRegression()), crl.CATE([[0.0, 1.0]])),
    ],
    ids=str,
)
def test_other_effects(estimator: crl.Estimator, goal: Any, study: crl.Trajectories) -> None:
    for refuter in REFUTERS:
        found = crl.refute(estimator, study, goal, refuter)
        assert found.values.shape == (refuter.replicates,)  # type: ignore[attr-defined]
        assert np.ptp(found.values) > 0


# --- level and power


def p_values(estimator: crl.Estimator, refuter: crl.Refuter, data_sets: int) -> Any:
    found = [crl.refute(estimator, cross_section(200, seed=i), crl.ATE(), refuter, seed=i) for i in range(data_sets)]
    return np.array([item.p_value for item in found])


@pytest.mark.parametrize("estimator", [AIPW, IPW], ids=["aipw", "ipw"])
def test_a_placebo_rejects_at_its_level(estimator: crl.Estimator) -> None:
    """Confounded data with an effect: an estimator that is right passes; p-values are uniform (300 data sets: slow lane)."""
    found = p_values(estimator, crl.PlaceboTreatment(20), 60)
    assert abs(np.mean(found < 0.05) - 0.05) < 2.6 * np.sqrt(0.05 * 0.95 / 60)
    assert kstest(found, "uniform").pvalue > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("refuter", REFUTERS[:4], ids=str)
@pytest.mark.parametrize("estimator", [AIPW, IPW, crl.IPW(crl.Logit(), normalized=False)], ids=str)
def test_levels_over_many_data_sets(estimator: crl.Estimator, refuter: crl.Refuter) -> None:
    found = p_values(estimator, replace(refuter, replicates=20), 300)  # type: ignore[type-var]
    assert abs(np.mean(found < 0.05) - 0.05) < 2.6 * np.sqrt(0.05 * 0.95 / 300)
    assert kstest(found, "uniform").pvalue > 0.005


@pytest.mark.slow
@pytest.mark.parametrize("estimator", [crl.DR(q=crl.TabularQ()), crl.WIS(), crl.FQE()], ids=str)
def test_levels_of_sequential_estimators(estimator: crl.Estimator) -> None:
    def data(seed: int) -> crl.Trajectories:
        return replace(ragged_data(150, seed=seed, horizon=5), behavior_probabilities=None)

    goal = crl.PolicyValue(TARGET, horizon=5)
    found = np.array([crl.refute(estimator, data(i), goal, crl.PlaceboTreatment(20), seed=i).p_value for i in range(150)])
    assert abs(np.mean(found < 0.05) - 0.05) < 2.6 * np.sqrt(0.05 * 0.95 / 150)
    assert kstest(found, "uniform").pvalue > 0.005


def test_a_sequential_estimator_passes_on_average() -> None:
    goal = crl.PolicyValue(TARGET, horizon=5)
    runs = [
        crl.refute(crl.DR(q=crl.TabularQ()), ragged_data(150, seed=i, horizon=5), goal, crl.PlaceboTreatment(8), seed=i)
        for i in range(12)
    ]
    differences = np.concatenate([run.values - run.references for run in runs])
    assert ttest_1samp(differences, 0).pvalue > 0.01
    assert np.mean([run.p_value < 0.05 for run in runs]) <= 0.25


def leaking_q(study: crl.Trajectories) -> crl.KnownQ:
    """An outcome model that learned from the very outcomes and treatments, handed over as if known."""
    design = np.column_stack([np.ones(study.n), study.actions, study.observations])
    theta = np.linalg.lstsq(design, study.rewards, rcond=None)[0]

    def q(observations: Any, time: Any) -> Any:
        base = theta[0] + observations @ theta[2:]
        return np.column_stack([base, base + theta[1]])

    return crl.KnownQ(q)


def test_a_leak_of_the_outcome_is_detected(study: crl.Trajectories) -> None:
    """The leak gives an effect without any action; the doubly robust estimator survives it, as its propensities are right."""
    q = leaking_q(study)
    for refuter in (crl.PlaceboTreatment(20), crl.DummyOutcome(20)):
        found = crl.refute(crl.GFormula(q), study, crl.ATE(), refuter)
        assert found.p_value < 1e-6
        assert "failed" in found.findings[0]
        assert crl.refute(crl.AIPW(q, crl.Logit()), study, crl.ATE(), refuter).p_value > 0.01


def test_propensities_that_learned_their_own_actions_are_detected() -> None:
    """A full tree on its own training data gives every logged action probability 1, so that arms differ by their sizes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    data = crl.Trajectories.from_cross_section(x, (rng.random(300) < 0.3).astype(int), 2 + x[:, 0] + rng.normal(size=300))
    for normalized, low, high in ((False, 0.0, 1e-6), (True, 0.01, 1.0)):
        estimator = crl.IPW(DecisionTreeClassifier(random_state=0), normalized=normalized, folds=1)
        assert low <= crl.refute(estimator, data, crl.ATE(), crl.PlaceboTreatment(20)).p_value <= high


def test_strata_that_the_estimator_does_not_adjust_for_are_found() -> None:
    rng = np.random.default_rng(0)
    hidden = rng.integers(0, 2, 600)
    action = (rng.random(600) < 0.2 + 0.6 * hidden).astype(int)
    data = crl.Trajectories.from_cross_section(rng.normal(size=(600, 1)), action, hidden + rng.normal(size=600))
    assert crl.refute(AIPW, data, crl.ATE(), crl.PlaceboTreatment(20, strata=hidden)).p_value < 1e-6
    adjusted = replace(data, observations=np.column_stack([data.observations, hidden]), feature_names=("x", "hidden"))
    assert crl.refute(AIPW, adjusted, crl.ATE(), crl.PlaceboTreatment(20, strata=hidden)).p_value > 0.01


def test_the_permutation_test_of_the_effect(ragged: crl.Trajectories) -> None:
    """In one stratum of 8, against all 70 assignments."""
    from itertools import combinations

    y = np.array([0.1, 0.5, 0.2, 1.9, 1.1, 2.2, 0.8, 1.7])
    data = crl.Trajectories.from_cross_section([[0.0]] * 8, [0, 0, 0, 1, 0, 1, 1, 1], y, propensity=[0.5] * 8)

    def effect(treated: Any) -> float:
        return float(y[list(treated)].mean() - np.delete(y, list(treated)).mean())

    observed = abs(effect((3, 5, 6, 7)))
    exact = np.mean([abs(effect(treated)) >= observed - 1e-12 for treated in combinations(range(8), 4)])
    found = crl.refute(crl.IPW(), data, crl.ATE(), crl.PlaceboTreatment(999)).permutation_p_value
    assert found == pytest.approx(exact, abs=3 * np.sqrt(exact * (1 - exact) / 999))


# --- the other refuters


def test_a_random_cause_reaches_the_estimator(study: crl.Trajectories, ragged: crl.Trajectories) -> None:
    for estimator, data, goal in ((IPW, study, crl.ATE()), (crl.DR(behavior=crl.Counts()), ragged, GOAL)):
        found = crl.refute(estimator, data, goal, crl.RandomCommonCause(4))
        assert len(np.unique(found.values)) == 4
        assert found.p_value > 0.2
    with pytest.raises(crl.errors.EstimandError, match="does not look at the new covariate"):
        crl.refute(crl.WIS(), ragged, GOAL, crl.RandomCommonCause(2))
    with pytest.raises(crl.errors.EstimandError, match="formulas"):
        crl.refute(crl.IPW(crl.Logit("age + severity")), study, crl.ATE(), crl.RandomCommonCause(2))


def test_a_random_cause_changes_neither_policies_nor_what_is_known(ragged: crl.Trajectories) -> None:
    """With known Q and propensities nothing moves, so that policies and tables were read at the old states."""
    known = crl.DR(q=crl.KnownQ(np.arange(6.0).reshape(3, 2)), behavior=crl.KnownPropensity(BEHAVIOR))
    with pytest.raises(crl.errors.EstimandError, match="does not look at"):
        crl.refute(known, ragged, GOAL, crl.RandomCommonCause(2))
    crossed = with_cause(ragged, np.random.default_rng(0))
    np.testing.assert_array_equal(crossed.observations // 2, ragged.observations)
    assert 0.3 < np.mean(crossed.observations % 2) < 0.7
    assert crossed.n_states == 6


def test_a_column_of_noise_spoils_a_learner_that_overfits() -> None:
    """A nearest neighbour adjusts for noise as much as for the confounder, whose confounding comes back."""
    from sklearn.neighbors import KNeighborsRegressor

    rng = np.random.default_rng(0)
    x = rng.normal(size=(1500, 1))
    action = (rng.random(1500) < 1 / (1 + np.exp(-2 * x[:, 0]))).astype(int)
    data = crl.Trajectories.from_cross_section(x, action, 10 * x[:, 0] + rng.normal(size=1500))
    noisy, moves = with_cause(data, rng), []
    for regressor in (KNeighborsRegressor(100), LinearRegression()):
        estimator = crl.GFormula(crl.PerAction(regressor))
        moves.append(abs(estimator.estimate(noisy, crl.ATE()).value - estimator.estimate(data, crl.ATE()).value))
    assert moves[0] > 50 * moves[1]


def test_subsets_and_resamples_vary_as_the_standard_error_says() -> None:
    data = cross_section(2000, seed=1)
    error = float(AIPW.estimate(data, crl.ATE()).stderr)
    for refuter, factor in ((crl.DataSubset(0.75, 200), np.sqrt(1 / 3)), (crl.BootstrapData(200), 1.0)):
        found = crl.refute(AIPW, data, crl.ATE(), refuter)
        assert found.values.std(ddof=1) == pytest.approx(factor * error, rel=0.15)
        assert found.p_value > 0.01
        assert "times as much as the standard error" in found.findings[1]


def test_subsets_are_those_of_clusters() -> None:
    """Both members of a pair are drawn or neither: here each pair has both arms with equal outcomes, and nothing moves."""
    pairs = np.repeat(np.arange(40), 2)
    data = crl.Trajectories.from_cross_section([0] * 80, [0, 1] * 40, np.repeat(np.arange(40.0), 2), clusters=pairs)
    found = crl.refute(crl.IPW(), data, crl.ATE(), crl.DataSubset(0.5, 20))
    np.testing.assert_allclose(found.values, 0, atol=1e-12)
    assert found.p_value == 1


def test_an_estimator_whose_bias_depends_on_n_moves() -> None:
    """Counted propensities of many states: fewer data leave more cells without an arm."""
    rng = np.random.default_rng(0)
    state = rng.integers(0, 100, 400)
    action = (rng.random(400) < 0.3).astype(int)
    data = crl.Trajectories.from_cross_section(state, action, 5 + rng.normal(size=400))
    horvitz = crl.IPW(crl.Counts(), normalized=False)
    assert crl.refute(horvitz, data, crl.ATE(), crl.DataSubset(0.5, 50)).p_value < 1e-3


def test_a_negative_control_outcome_shows_what_is_not_adjusted_for() -> None:
    rng = np.random.default_rng(0)
    confounder = rng.normal(size=(1000, 1))
    action = (rng.random(1000) < 1 / (1 + np.exp(-confounder[:, 0]))).astype(int)
    before = confounder[:, 0] + rng.normal(size=1000)
    seen = crl.Trajectories.from_cross_section(confounder, action, action + confounder[:, 0] + rng.normal(size=1000))
    unseen = replace(seen, observations=rng.normal(size=(1000, 1)))
    control = crl.NegativeControlOutcome(before)
    for goal in (crl.ATE(), crl.Always(1)):
        assert crl.refute(AIPW, seen, goal, control).p_value > 0.05
        assert crl.refute(AIPW, unseen, goal, control).p_value < 1e-6
    found = crl.refute(AIPW, seen, crl.ATE(), control)
    direct = AIPW.estimate(replace(seen, rewards=before), crl.ATE())
    assert found.control is not None
    assert found.values.tolist() == [direct.value]
    assert found.control.interval().low == direct.interval().low
    assert found.p_value == pytest.approx(2 * (1 - _phi(abs(direct.value / direct.stderr))), rel=1e-9)


def _phi(z: float) -> float:
    from scipy.stats import norm

    return float(norm.cdf(z))


def test_one_negative_control_a_trajectory_is_that_of_its_last_decision(ragged: crl.Trajectories) -> None:
    outcome = np.arange(float(ragged.n))
    by_step = np.zeros(len(ragged.rewards))
    by_step[ragged.offsets[1:] - 1] = outcome
    goal = crl.PolicyValue(TARGET)
    a, b = (crl.refute(crl.WIS(), ragged, goal, crl.NegativeControlOutcome(values)) for values in (outcome, by_step))
    assert a.values == b.values
    assert a.expected == pytest.approx(outcome.mean())
    assert 0 <= crl.refute(crl.FQE(), ragged, goal, crl.NegativeControlOutcome(outcome)).p_value <= 1


# --- dowhy


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("method", "estimator"),
    [("linear_regression", crl.GFormula(crl.Pooled(LinearRegression()))), ("propensity_score_weighting", IPW)],
    ids=["regression", "weighting"],
)
def test_dowhys_refuters_make_the_same_estimates(method: str, estimator: crl.Estimator) -> None:
    """The same permutation and the same subset have the same estimate; its p-value asks something else (see `mean_p_value`).

    dowhy's weighting writes the propensities into its data frame, and its refuters then reuse those of the treatment that was
    given; without that column it learns them anew.
    """
    dowhy, pd = pytest.importorskip("dowhy"), pytest.importorskip("pandas")
    from dowhy.causal_refuters.data_subset_refuter import refute_data_subset
    from dowhy.causal_refuters.placebo_treatment_refuter import PlaceboType, refute_placebo_treatment
    from sklearn.linear_model import LogisticRegression

    study = cross_section(300, seed=4)
    names = list(study.feature_names)
    frame = pd.DataFrame(study.observations, columns=names).assign(t=study.actions.astype(bool), y=study.rewards)
    model = dowhy.CausalModel(frame, "t", "y", common_causes=names)
    estimand = model.identify_effect(proceed_when_unidentifiable=True)
    logit = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12)
    settings = {"propensity_score_model": logit, "min_ps_score": 1e-9, "max_ps_score": 1 - 1e-9}
    parameters = {} if method == "linear_regression" else settings
    theirs = model.estimate_effect(estimand, method_name=f"backdoor.{method}", method_params=parameters)
    assert estimator.estimate(study, crl.ATE()).value == pytest.approx(theirs.value, abs=1e-8)

    clean, options = frame[[*names, "t", "y"]], {"num_simulations": 3, "placebo_type": PlaceboType.PERMUTE}
    options["random_state"] = np.random.RandomState(0)
    placebo = refute_placebo_treatment(clean, estimand, theirs, ["t"], **options)
    state, permutation = np.random.RandomState(0), Permutation(study, np.zeros(300, np.int64), False)
    orders = [state.choice(300, size=300, replace=False) for _ in range(3)]
    ours = [estimator.estimate(permutation.reordered(order), crl.ATE()).value for order in orders]
    assert np.mean(ours) == pytest.approx(placebo.new_effect, abs=1e-8)
    subset = refute_data_subset(clean, estimand, theirs, 0.8, 3, random_state=np.random.RandomState(0))
    state = np.random.RandomState(0)
    drawn = [clean.sample(frac=0.8, random_state=state).index for _ in range(3)]
    ours = [estimator.estimate(study.take(rows), crl.ATE()).value for rows in drawn]
    assert np.mean(ours) == pytest.approx(subset.new_effect, abs=1e-8)


# --- the record, seeds, bad input


@pytest.mark.parametrize("refuter", [*REFUTERS, crl.NegativeControlOutcome(np.arange(120.0))], ids=str)
def test_a_refutation_tells_itself(refuter: crl.Refuter, study: crl.Trajectories) -> None:
    matplotlib, plt = pytest.importorskip("matplotlib"), pytest.importorskip("matplotlib.pyplot")
    matplotlib.use("Agg")
    found = crl.refute(AIPW, study, crl.ATE(), refuter)
    assert found.findings[0].startswith(("passed at 5%", "failed at 5%"))
    assert str(found) == str(found.summary())
    assert "p-value" in found.summary()
    assert len(found.frame) == len(found.values)
    assert found.plot().get_title(loc="left").startswith(type(refuter).__name__)
    plt.close("all")


def test_seeds_and_threads(study: crl.Trajectories) -> None:
    a, b, c = (crl.refute(AIPW, study, crl.ATE(), crl.PlaceboTreatment(3), seed=seed) for seed in (1, 1, 2))
    assert a.values.tolist() == b.values.tolist()
    assert a.values.tolist() != c.values.tolist()
    more = crl.refute(AIPW, study, crl.ATE(), crl.PlaceboTreatment(5), seed=1)
    assert more.values[:3].tolist() == a.values.tolist()
    assert output_whatever_runs_it(
        "import causalrl as crl; from tests.conftest import cross_section\n"
        "found = crl.refute(crl.AIPW(crl.LinearQ(), crl.Logit()), cross_section(40), crl.ATE(), crl.PlaceboTreatment(3))\n"
        "print([f'{value:.10f}' for value in found.values])"
    )


def test_bad_input(study: crl.Trajectories, ragged: crl.Trajectories) -> None:
    errors = crl.errors
    for kind in (crl.PlaceboTreatment, crl.DummyOutcome, crl.BootstrapData, crl.RandomCommonCause):
        for replicates in (0, 1, 2.5):
            with pytest.raises(errors.DataError, match="replicates"):
                kind(replicates)
    for share in (0, 1, -0.5, 1.5, np.nan):
        with pytest.raises(errors.DataError, match="share"):
            crl.DataSubset(share)
    cases: list[tuple[str, crl.Refuter]] = [
        ("strata: shape", crl.PlaceboTreatment(2, strata=[0, 1])),
        ("no action can|none can be permuted", crl.PlaceboTreatment(2, strata=np.arange(study.n))),
        ("outcome: shape", crl.NegativeControlOutcome([0.0, 1.0])),
        ("share: 0.001 of 120 clusters", crl.DataSubset(0.001)),
    ]
    for text, refuter in cases:
        with pytest.raises(errors.DataError, match=text):
            crl.refute(AIPW, study, crl.ATE(), refuter)
    with pytest.raises(errors.DataError, match="outcome"):
        crl.NegativeControlOutcome([0.0, np.nan])
    with pytest.raises(errors.DataError, match="is no refuter"):
        crl.refute(AIPW, study, crl.ATE(), crl.PlaceboTreatment)  # type: ignore[arg-type]
    with pytest.raises(errors.EstimandError, match="is no estimator"):
        crl.refute(crl.TwoStage("age"), study, crl.ATE(), crl.PlaceboTreatment(2))  # type: ignore[arg-type]
    with pytest.raises(errors.EstimandError, match="2 numbers"):
        crl.refute(crl.TLearner(LinearRegression()), study, crl.CATE([[0.0, 1.0], [1.0, 1.0]]), crl.DummyOutcome(2))
    with pytest.raises(errors.EstimandError, match="same value"):
        crl.refute(crl.OnPolicyMean(), ragged, crl.Contrast(TARGET, BEHAVIOR), crl.PlaceboTreatment(2))


def test_one_arm_in_a_subset_is_said() -> None:
    data = crl.Trajectories.from_cross_section([[0.0], [1.0], [0.5], [0.2], [0.8]], [0, 0, 1, 0, 0], [1.0, 2.0, 3.0, 4.0, 5.0])
    with pytest.raises(crl.errors.DataError, match=r"changed data sets give .* no value.*larger share"):
        crl.refute(crl.IPW(crl.Logit()), data, crl.ATE(), crl.DataSubset(0.6, 20))


def test_decisions_of_a_cluster_are_not_exchangeable_with_others() -> None:
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.arange(40), 10)
    arms, noise = rng.integers(0, 2, 40)[clusters], rng.normal(size=40)[clusters] + rng.normal(size=400)
    data = crl.Trajectories.from_cross_section(np.zeros((400, 1)), arms, noise, propensity=np.full(400, 0.5), clusters=clusters)
    found = crl.refute(crl.WIS(), data, crl.ATE(), crl.PlaceboTreatment(20))
    assert found.permutation_p_value is None
    assert "exchangeable" in found.findings[1]


def test_known_propensities_of_a_partially_linear_model_are_those_of_the_permutation() -> None:
    data = cross_section()
    known = crl.KnownPropensity(lambda x, t: np.full((len(x), 2), 0.5))
    found = crl.refute(crl.PLR(LinearRegression(), propensity=known), data, crl.ATE(), crl.PlaceboTreatment(10))
    assert np.isfinite(found.p_value)


def test_constant_outcomes_show_nothing_of_a_common_cause() -> None:
    data = cross_section()
    flat = replace(data, rewards=np.ones(data.n))
    with pytest.raises(crl.errors.EstimandError, match="rewards: all are 1"):
        crl.refute(IPW, flat, crl.ATE(), crl.RandomCommonCause(5))
