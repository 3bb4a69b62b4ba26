"""Wrong answers that testers once got, each with the right one."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import causalrl as crl
from causalrl.data import End
from causalrl.errors import DataError, EstimandError, IntervalError, OverlapWarning, SupportWarning, TerminationWarning
from tests.conftest import cross_section


def hazard(n: int, horizon: int, *, marked: bool = True, seed: int = 0) -> crl.Trajectories:
    """One state, reward 1 a step, death with probability 0.1 after each, records cut at the horizon."""
    rng = np.random.default_rng(seed)
    lengths = np.minimum(rng.geometric(0.1, n), horizon + 1)
    end = np.where(lengths > horizon, End.TRUNCATED, End.TERMINATED)
    lengths = np.minimum(lengths, horizon)
    steps = int(lengths.sum())
    return crl.Trajectories.from_arrays(
        np.zeros(steps, int),
        rng.integers(0, 2, steps),
        np.ones(steps),
        np.append(0, np.cumsum(lengths)),
        end=end if marked else None,
        behavior_probabilities=np.full(steps, 0.5),
    )


@pytest.mark.parametrize(
    "q", [crl.TabularQ(), crl.LinearQ(), crl.PerAction(LinearRegression())], ids=["tabular", "linear", "arms"]
)
def test_a_cut_record_without_successor_does_not_select_the_dead(q: object) -> None:
    """Truth (1 - 0.9^10) / 0.1; keeping the deaths and dropping the survivors of the last step gave 6.35."""
    data = hazard(20_000, 10)
    estimate = crl.FQE(q).estimate(data, crl.PolicyValue(crl.Uniform(2), horizon=10))  # type: ignore[arg-type]
    baseline = crl.OnPolicyMean().estimate(data, crl.PolicyValue(crl.Uniform(2), horizon=10))
    assert abs(estimate.value - (1 - 0.9**10) / 0.1) < 4 * baseline.stderr


def test_a_time_limit_logged_as_death_is_said() -> None:
    data = hazard(500, 10, marked=False)
    with pytest.warns(TerminationWarning, match="stop at step 10.*end=TRUNCATED"):
        crl.FQE().estimate(data, crl.PolicyValue(crl.Uniform(2), horizon=10))
    with pytest.warns(TerminationWarning, match="stop at step 10"):
        crl.WIS().estimate(data, crl.PolicyValue(crl.Uniform(2), horizon=30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crl.WIS().estimate(data, crl.PolicyValue(crl.Uniform(2), horizon=10))
        crl.FQE().estimate(hazard(500, 10), crl.PolicyValue(crl.Uniform(2), horizon=10))


@pytest.mark.parametrize(
    ("kind", "learner"), [(crl.PerAction, LogisticRegression()), (crl.Pooled, RandomForestClassifier())], ids=["arms", "pooled"]
)
def test_a_classifier_is_no_outcome_model(kind: type[crl.PerAction] | type[crl.Pooled], learner: object) -> None:
    with pytest.raises(EstimandError, match=r"is a classifier.*Pass a regressor"):
        kind(learner)


@pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")
def test_a_target_made_of_a_classifier_uses_the_fold_of_the_ratio() -> None:
    """Softened a little, the natural course keeps its value; the in-sample forest in the numerator gave 1.7 times that."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1_500, 2))
    treatment = rng.binomial(1, 1 / (1 + np.exp(-x[:, 0])))
    study = crl.Trajectories.from_cross_section(x, treatment, 10 + treatment + rng.normal(size=1_500))
    estimate = crl.WIS(behavior=RandomForestClassifier(100, min_samples_leaf=20)).estimate(
        study, crl.Softened(crl.NaturalCourse(), 0.1)
    )
    assert estimate.value == pytest.approx(study.rewards.mean(), abs=0.1)


def test_text_times_are_refused() -> None:
    table = pd.DataFrame({"id": [1, 1], "t": ["2", "10"], "a": [0, 1], "r": [0.0, 1.0], "x": [0.1, 0.2]})
    with pytest.raises(DataError, match="t: text sorts as text"):
        crl.Trajectories.from_frame(table, "id", "t", "a", "r", ["x"])


def test_points_of_a_cate_follow_their_names() -> None:
    study = cross_section()
    points = pd.DataFrame({"severity": [0.0, 1.0], "age": [2.0, -1.0]})
    learner = crl.TLearner(LinearRegression())
    named = learner.estimate(study, crl.CATE(at=points)).value
    np.testing.assert_array_equal(named, learner.estimate(study, crl.CATE(at=points[["age", "severity"]].to_numpy())).value)
    with pytest.raises(EstimandError, match="has columns"):
        learner.estimate(study, crl.CATE(at=points.rename(columns={"age": "years"})))


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6])
@pytest.mark.parametrize("q", [crl.TabularQ(), crl.PerAction(LinearRegression(), max_iterations=2_000)], ids=["tabular", "arms"])
def test_convergence_does_not_depend_on_the_unit_of_reward(q: object, scale: float) -> None:
    data = crl.Trajectories.from_arrays(
        [0, 0, 0, 0], [0, 1, 0, 1], [scale] * 4, [0, 2, 4], end=[1, 1], final_observations=[0, 0], n_actions=2
    )
    estimate = crl.FQE(q).estimate(data, crl.PolicyValue(crl.Uniform(2), discount=0.9))  # type: ignore[arg-type]
    assert estimate.value / scale == pytest.approx(10, rel=1e-3)


def test_arms_and_actions_that_nobody_took() -> None:
    study = crl.Trajectories.from_arrays(np.arange(40.0)[:, None], [1, 2] * 20, np.arange(40.0), range(41))
    for estimator in (crl.SLearner(LinearRegression()), crl.IPW(), crl.GFormula(crl.LinearQ())):
        with pytest.raises(EstimandError, match=r"arm 0 never occurs.*arms \[1, 2\]"):
            estimator.estimate(study, crl.ATE())
    with pytest.warns(SupportWarning, match=r"100\.00% .* never logged"):
        estimate = crl.SLearner(LinearRegression()).estimate(study, crl.Always(0))
    assert estimate.diagnostics["unsupported_mass"] == 1.0


def test_one_cluster_has_no_interval_of_any_kind() -> None:
    data = crl.Trajectories.from_arrays(
        [0, 0], [0, 1], [1.0, 2.0], [0, 1, 2], clusters=["a", "a"], behavior_probabilities=[0.5] * 2
    )
    for estimator in (crl.FQE(), crl.WIS()):
        estimate = estimator.estimate(data, crl.Uniform(2))
        for ask in (lambda e: e.interval(), lambda e: e.stderr, lambda e: e.interval(method=crl.RefitBootstrap(5))):
            with pytest.raises(IntervalError, match="single cluster"):
                ask(estimate)


def test_masks_and_times_are_no_numbers() -> None:
    masked = np.ma.masked_greater([1.0, 999.0], 900)
    cases = (
        ("rewards", masked),
        ("rewards", np.array([1, 2], "timedelta64[h]")),
        ("behavior_probabilities", np.ma.masked_less([0.5, 0.1], 0.2)),
        ("final_observations", np.ma.masked_equal([3], 3)),
    )
    for field, values in cases:
        given = {"observations": [0, 1], "actions": [0, 1], "rewards": [1.0, 2.0], "offsets": [0, 2], field: values}
        with pytest.raises(DataError, match=field):
            crl.Trajectories.from_arrays(**given)


def test_a_pipeline_is_linear_only_behind_plain_preprocessing() -> None:
    assert crl.PerAction(make_pipeline(StandardScaler(), Ridge())).default_folds == 1
    assert crl.PerAction(make_pipeline(RBFSampler(), Ridge())).default_folds == 5


def test_weights_that_do_not_average_one_are_said() -> None:
    from simulators import SepsisSimulator

    simulator = SepsisSimulator()
    data, target = simulator.sample(1_000, simulator.physician(0.05), horizon=20, seed=1), simulator.optimal_policy(0.99, 20)
    time = np.arange(len(data.rewards)) - np.repeat(data.offsets[:-1], data.lengths)
    ratios = target.table[time, data.observations, data.actions] / data.behavior_probabilities
    mean = np.multiply.reduceat(ratios, data.offsets[:-1]).mean()
    with pytest.warns(OverlapWarning, match=f"the weights average {mean:.2f}, not 1"):
        estimate = crl.WIS().estimate(data, crl.PolicyValue(target, horizon=20))
    assert estimate.diagnostics["mean_weight"] == pytest.approx(mean, rel=1e-12)
