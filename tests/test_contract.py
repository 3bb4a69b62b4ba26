"""One contract over every registered estimator, and over `evaluate` and `replicate` as a whole."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.tree import DecisionTreeRegressor

import causalrl as crl
from causalrl.diagnostics.record import KEYS
from causalrl.evaluation import COLUMNS, TRUTH_COLUMNS
from simulators import SepsisSimulator, TabularMDP
from tests.conftest import BEHAVIOR, TARGET, cross_section, tiny_process

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")

every = pytest.mark.parametrize("kind", crl.ALL, ids=lambda kind: kind.__name__)
GOAL = crl.PolicyValue(TARGET, discount=0.9, horizon=5)
TREE = DecisionTreeRegressor(splitter="random", max_features=1, max_depth=1)
RANDOM = (  # draw folds, trees, or the order of rows in a solver
    crl.WIS(behavior=LogisticRegression(solver="saga", max_iter=2000)),
    crl.DR(q=crl.PerAction(TREE), behavior=crl.Logit(), folds=3),
    crl.WDR(q=crl.Pooled(TREE)),
    crl.PDWIS(behavior=crl.Counts(), folds=2),
    crl.DirectMethod(crl.Pooled(TREE)),
)


def on_vectors(kind: type[crl.Estimator]) -> crl.Estimator:
    """With a value model for covariates, where the estimator has one."""
    has_q = any(item.name == "q" for item in dataclasses.fields(kind))  # type: ignore[arg-type]
    return kind(q=crl.LinearQ()) if has_q else kind()


def interval_of(estimate: crl.Estimate, level: float = 0.95, replicates: int = 20) -> crl.Interval:
    """The default interval, or, of an estimator that has none, that of a few refits."""
    try:
        return estimate.interval(level)
    except crl.errors.IntervalError:
        return estimate.interval(level, method=crl.RefitBootstrap(replicates))


def bits(estimate: crl.Estimate) -> tuple[Any, ...]:
    """Everything numerical in an estimate."""
    return estimate.value, *interval_of(estimate, replicates=3), repr({**estimate.diagnostics, "ess_by_time": None})


@pytest.fixture(scope="module")
def sepsis() -> crl.Trajectories:
    simulator = SepsisSimulator()
    return simulator.sample(300, simulator.physician(epsilon=0.3), horizon=8, seed=0)


@every
def test_an_estimator_is_a_frozen_record(kind: type[crl.Estimator], ragged: crl.Trajectories) -> None:
    estimator, untouched = kind(), kind()
    assert dataclasses.is_dataclass(estimator)
    assert estimator == untouched
    assert hash(estimator) == hash(untouched)
    before = pickle.dumps(estimator)
    fitted = estimator.fit(ragged, seed=1)
    fitted.estimate(GOAL)
    assert estimator == untouched
    assert pickle.dumps(estimator) == before
    assert fitted.estimator is estimator
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimator.anything = 1  # type: ignore[attr-defined]
    for item in dataclasses.fields(estimator):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(estimator, item.name, None)


@every
def test_the_data_are_not_touched(kind: type[crl.Estimator], ragged: crl.Trajectories) -> None:
    arrays = {item.name: np.copy(getattr(ragged, item.name)) for item in dataclasses.fields(ragged)}
    interval_of(kind().estimate(ragged, GOAL))
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(ragged, name), array, err_msg=name)


@every
def test_an_estimator_survives_pickling(kind: type[crl.Estimator], ragged: crl.Trajectories) -> None:
    again = pickle.loads(pickle.dumps(kind()))
    assert again == kind()
    assert again.estimate(ragged, GOAL).value == kind().estimate(ragged, GOAL).value


@every
def test_an_estimate_survives_pickling(kind: type[crl.Estimator], ragged: crl.Trajectories) -> None:
    estimate = kind().estimate(ragged, GOAL)
    again = pickle.loads(pickle.dumps(estimate))
    assert bits(again) == bits(estimate)
    assert (again - estimate).value == 0


@every
def test_an_estimate_is_immutable_and_complete(kind: type[crl.Estimator], ragged: crl.Trajectories) -> None:
    estimate = kind().estimate(ragged, GOAL)
    assert tuple(estimate.diagnostics) == KEYS
    assert isinstance(estimate.diagnostics["warnings"], tuple)
    assert estimate.n == ragged.n
    assert estimate.estimator == str(kind())
    assert estimate.fingerprint == ragged.fingerprint
    assert np.isfinite(estimate.value)
    low, high = interval_of(estimate, 0.9)
    assert low < estimate.value < high
    with pytest.raises(dataclasses.FrozenInstanceError):
        estimate.value = 0.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        estimate.diagnostics["ess"] = 1.0  # type: ignore[index]


@every
def test_an_estimate_with_moments_has_their_influence(kind: type[crl.Estimator], ragged: crl.Trajectories) -> None:
    estimate = kind().estimate(ragged, GOAL)
    if estimate.evidence.functional is None:
        with pytest.raises(crl.errors.IntervalError, match="RefitBootstrap"):
            _ = estimate.influence
        return
    assert estimate.influence.shape == (ragged.n,)
    assert len(estimate.moments) == ragged.n
    np.testing.assert_allclose(estimate.influence.sum(), 0, atol=1e-10)
    for method in (crl.Wald(), crl.PercentileBootstrap(50), crl.StudentizedBootstrap(50), crl.RefitBootstrap(5)):
        interval = estimate.interval(0.8, method)
        assert interval.low < interval.high
        assert interval.method is method
        assert interval.level == 0.8
        assert estimate.value in crl.Interval(interval.low - 1, interval.high + 1, 0.8, method)


@every
@pytest.mark.usefixtures("headless")
def test_an_estimate_shows_itself(kind: type[crl.Estimator], ragged: crl.Trajectories) -> None:
    estimate = kind().estimate(ragged, GOAL)
    for text in (estimate.summary(), repr(estimate), str(estimate)):
        assert f"{estimate.value:.4f}" in text
        assert kind.__name__ in text
    assert repr(estimate.summary()) == estimate.summary()
    assert "<table" in estimate._repr_html_()
    frame = estimate.to_frame()
    assert list(frame.columns) == ["estimator", "estimand", "value", "stderr", "low", "high", "n"]
    assert len(frame) == 1
    finite = np.isfinite(frame[["value", "stderr", "low", "high"]].to_numpy()[0]).tolist()
    assert finite == [True, *[kind is not crl.MAGIC] * 3]
    assert estimate.plot().get_xlabel()


@pytest.fixture
def headless() -> Any:
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    yield
    plt.close("all")


@pytest.mark.parametrize("estimator", [*(kind() for kind in crl.ALL), *RANDOM], ids=str)
def test_the_seed_decides_every_bit_and_no_global_state_is_touched(estimator: crl.Estimator, ragged: crl.Trajectories) -> None:
    np.random.seed(123)  # noqa: NPY002
    state = pickle.dumps(np.random.get_state())  # noqa: NPY002
    first = bits(estimator.estimate(ragged, GOAL, seed=7))
    assert pickle.dumps(np.random.get_state()) == state, "the global generator was used"  # noqa: NPY002
    np.random.seed(321)  # noqa: NPY002
    assert bits(estimator.estimate(ragged, GOAL, seed=7)) == first
    fitted = estimator.fit(ragged, seed=7)
    fitted.estimate(crl.Uniform(2)) if not isinstance(estimator, crl.DirectMethod) else None
    assert bits(fitted.estimate(GOAL)) == first, "depends on what was asked before"


@pytest.mark.parametrize("estimator", RANDOM[1:], ids=str)
def test_another_seed_gives_other_folds_and_learners(estimator: crl.Estimator, ragged: crl.Trajectories) -> None:
    assert estimator.estimate(ragged, GOAL, seed=1).value != estimator.estimate(ragged, GOAL, seed=2).value


@every
def test_no_estimator_is_told_the_truth(kind: type[crl.Estimator]) -> None:
    for call in (kind, kind.fit, kind.estimate, kind.policy_value, kind.point, crl.Estimate.interval):
        names = set(inspect.signature(call).parameters)
        assert not {name for name in names if any(word in name for word in ("truth", "true", "simulator", "env", "oracle"))}


@every
def test_finite_on_the_sepsis_simulator(kind: type[crl.Estimator], sepsis: crl.Trajectories) -> None:
    target = SepsisSimulator().physician(epsilon=0.2)
    for goal in (crl.PolicyValue(target, horizon=8), crl.Contrast(target, crl.NaturalCourse(), horizon=8)):
        if any(item.name == "q" for item in dataclasses.fields(kind)) and isinstance(goal, crl.Contrast):  # type: ignore[arg-type]
            continue  # their V needs the whole behaviour policy, and the record holds the logged action's probability
        if kind is crl.OnPolicyMean and isinstance(goal, crl.Contrast):
            with pytest.raises(crl.errors.EstimandError, match="contrasts are 0"):
                kind().estimate(sepsis, goal)
            continue
        estimate = kind().estimate(sepsis, goal)
        assert np.isfinite(estimate.value)
        assert np.isfinite([*interval_of(estimate, replicates=2)]).all()


@every
@pytest.mark.parametrize("arms", [2, 3])
def test_finite_on_a_cross_section(kind: type[crl.Estimator], arms: int) -> None:
    study = cross_section(arms=arms)
    goal = crl.Always(1) if kind is crl.OnPolicyMean else crl.ATE(arms - 1, 0)
    effect = on_vectors(kind).estimate(study, goal)
    assert np.isfinite(effect.value)
    low, high = interval_of(effect)
    assert low < high


@every
def test_strata_are_a_cross_section_too(kind: type[crl.Estimator]) -> None:
    study = cross_section()
    strata = crl.Trajectories.from_cross_section((study.observations[:, 0] > 0).astype(int), study.actions, study.rewards)
    assert np.isfinite(kind().estimate(strata, crl.Always(1)).value)


def without(frame: pd.DataFrame, *columns: str) -> pd.DataFrame:
    return frame.drop(columns=[*columns, "seconds"], errors="ignore").reset_index(drop=True)


def test_evaluate_has_the_documented_columns(ragged: crl.Trajectories, process: TabularMDP) -> None:
    estimators, policies = [kind() for kind in crl.ALL], {"target": TARGET, "uniform": crl.Uniform(2)}
    plain = crl.evaluate(ragged, policies, estimators, horizon=5)
    assert tuple(plain.frame.columns) == COLUMNS
    assert plain.frame["policy"].tolist() == ["target"] * len(crl.ALL) + ["uniform"] * len(crl.ALL)
    assert plain.frame["failure"].isna().all()
    assert (plain.frame["seconds"] > 0).all()
    known = crl.evaluate(ragged, policies, estimators, horizon=5, truth=process)
    assert tuple(known.frame.columns) == COLUMNS + TRUTH_COLUMNS
    pd.testing.assert_frame_equal(without(known.frame, *TRUTH_COLUMNS), without(plain.frame))
    assert known.frame["truth"].iloc[0] == process.value(TARGET, horizon=5)
    inside = (known.frame["low"] <= known.frame["truth"]) & (known.frame["truth"] <= known.frame["high"])
    assert (known.frame["covered"] == inside).all()
    np.testing.assert_array_equal(known.frame["error"], known.frame["value"] - known.frame["truth"])
    given = crl.evaluate(ragged, policies, estimators, horizon=5, truth={"target": 1.0, "uniform": 2.0})
    assert given.frame["truth"].unique().tolist() == [1.0, 2.0]


def test_a_row_of_evaluate_is_the_estimate_itself(ragged: crl.Trajectories) -> None:
    goals = {"target": GOAL, "contrast": crl.Contrast(TARGET, crl.Uniform(2), horizon=5)}
    table = crl.evaluate(ragged, goals, {kind.__name__: kind() for kind in crl.ALL}, seed=3)
    for (policy, name), estimate in table.estimates.items():
        row = table.frame.set_index(["policy", "estimator"]).loc[(policy, name)]
        alone = getattr(crl, name)().estimate(ragged, goals[policy], seed=3)
        assert alone.value == estimate.value == row["value"]
        if name == "MAGIC":
            assert np.isnan(row["stderr"])
            assert "RefitBootstrap(200)" in row["warnings"]
            continue
        assert [*alone.interval()] == [row["low"], row["high"]]
        assert alone.stderr == row["stderr"]


@pytest.fixture(scope="module")
def with_all(ragged: crl.Trajectories) -> pd.DataFrame:
    recipes = {str(i): estimator for i, estimator in enumerate(RANDOM)}
    return crl.evaluate(ragged, {"target": TARGET, "uniform": crl.Uniform(2)}, recipes, horizon=5, seed=2).frame


@pytest.mark.parametrize("left_out", range(len(RANDOM)))
def test_adding_an_estimator_leaves_the_other_rows_alone(left_out: int, ragged: crl.Trajectories, with_all: pd.DataFrame) -> None:
    recipes = {str(i): estimator for i, estimator in enumerate(RANDOM) if i != left_out}
    part = crl.evaluate(ragged, {"target": TARGET}, recipes, horizon=5, seed=2).frame
    kept = with_all[(with_all["policy"] == "target") & (with_all["estimator"] != str(left_out))]
    pd.testing.assert_frame_equal(without(part), without(kept), check_exact=True)


@pytest.mark.usefixtures("headless")
def test_an_evaluation_shows_itself(ragged: crl.Trajectories, process: TabularMDP, tmp_path: Path) -> None:
    recipes = [crl.WIS(), crl.DR(), crl.DirectMethod(crl.Pooled(Ridge()))]  # the last one without an interval
    table = crl.evaluate(ragged, {"a <b>": TARGET}, recipes, horizon=5, truth=process)
    page = table.to_html(tmp_path / "deep" / "page.html")
    assert page == tmp_path / "deep" / "page.html"
    text = page.read_text(encoding="utf-8")
    assert "WIS" in text
    assert "a &lt;b&gt;" in text
    assert "http" not in text
    axes = table.plot()
    assert [label.get_text() for label in axes.get_yticklabels()] == [str(recipe) for recipe in recipes]
    assert table.plot(ax=axes) is axes
    assert "WIS" in repr(table)
    assert "<table" in table._repr_html_()


def replicated(**changed: Any) -> crl.Replication:
    arguments = {
        "simulator": tiny_process(),
        "behavior": BEHAVIOR,
        "n": 40,
        "policies": {"target": TARGET, "natural": crl.NaturalCourse()},
        "estimators": {"WIS": crl.WIS(), "DR": crl.DR(folds=2, behavior=crl.Counts()), "FQE": crl.FQE()},
        "replications": 4,
        "horizon": 5,
        "seed": 5,
    }
    return crl.replicate(**{**arguments, **changed})


@pytest.mark.slow
def test_replicate_gives_the_same_numbers_in_any_number_of_processes(tmp_path: Path) -> None:
    one, two = replicated(), replicated(n_jobs=2)
    pd.testing.assert_frame_equal(without(one.rows), without(two.rows), check_exact=True)
    pd.testing.assert_frame_equal(without(one.frame), without(two.frame), check_exact=True)


def test_replications_depend_on_seed_and_number_alone() -> None:
    many, few = replicated(), replicated(replications=2)
    pd.testing.assert_frame_equal(without(many.rows[many.rows["replication"] < 2]), without(few.rows), check_exact=True)
    other = replicated(seed=6)
    assert not set(other.rows["value"]) & set(many.rows["value"])


def test_the_scores_of_replicate_are_those_of_its_rows() -> None:
    result = replicated()
    rows = result.rows[(result.rows["policy"] == "target") & (result.rows["estimator"] == "WIS")]
    score = result.frame.set_index(["policy", "estimator"]).loc[("target", "WIS")]
    error = (rows["value"] - tiny_process().value(TARGET, horizon=5)).to_numpy()
    np.testing.assert_allclose(score["bias"], error.mean(), rtol=1e-12)
    np.testing.assert_allclose(score["bias_mcse"], error.std(ddof=1) / 2, rtol=1e-12)
    np.testing.assert_allclose(score["rmse"], np.sqrt(np.mean(error**2)), rtol=1e-12)
    np.testing.assert_allclose(score["coverage"], rows["covered"].mean(), rtol=1e-12)
    np.testing.assert_allclose(score["width"], (rows["high"] - rows["low"]).mean(), rtol=1e-12)
    assert (score["replications"], score["failures"], score["intervals"]) == (4, 0, 4)
    natural = result.frame.set_index(["policy", "estimator"]).loc[("natural", "WIS")]
    np.testing.assert_allclose(natural["truth"], tiny_process().value(BEHAVIOR, horizon=5), rtol=1e-12)


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_replicate_writes_its_rows(name: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / name
    result = replicated(replications=2, path=path)
    written = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    assert list(written.columns) == list(result.rows.columns)
    np.testing.assert_array_equal(written["value"], result.rows["value"])
    assert written["estimator"].tolist() == result.rows["estimator"].tolist()
