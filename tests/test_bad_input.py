"""Bad input: the type of every error, and that its text names the field, the first offending row and the mend."""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

import causalrl as crl
from causalrl.errors import (
    CausalRLError,
    CausalRLWarning,
    CensoringError,
    ConvergenceWarning,
    DataError,
    EstimandError,
    EstimatedBehaviorWarning,
    IntervalError,
    MismatchError,
    MissingExtraError,
    OverlapWarning,
    PolicyError,
    SeparationError,
    SeparationWarning,
    SupportError,
    SupportWarning,
    TruncationError,
    WeightOverflowError,
)
from simulators import ICUSepsis, TabularMDP
from tests.conftest import BEHAVIOR, TARGET, cross_section, ragged_data

NAN = float("nan")
WEIGHTING = (crl.IS, crl.WIS, crl.PDIS, crl.PDWIS)
WEIGHTED = (*WEIGHTING, crl.DR, crl.WDR)
PER_DECISION = (crl.PDIS, crl.PDWIS, crl.DR, crl.WDR)


@contextmanager
def refuses(error: type[Exception], *words: str) -> Iterator[None]:
    """Exactly this error, whose text holds every word."""
    caught: Exception | None = None
    try:
        yield
    except Exception as raised:
        caught = raised
    assert caught is not None, f"raises no {error.__name__}"
    assert type(caught) is error, repr(caught)
    missing = [word for word in words if word not in str(caught)]
    assert not missing, f"{missing} not in: {caught}"


def vectors(**changed: Any) -> crl.Trajectories:
    """Two trajectories, of two steps and of one."""
    given = {"observations": [[0.0], [1.0], [2.0]], "actions": [0, 1, 0], "rewards": [1, 2, 3], "offsets": [0, 2, 3]}
    return crl.Trajectories.from_arrays(**{**given, **changed})


def states(**changed: Any) -> crl.Trajectories:
    return vectors(**{"observations": [0, 1, 2], **changed})


ARRAYS: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[str, ...]]] = {
    # non-finite values
    "nan observation": (vectors, {"observations": [[0], [NAN], [2]]}, ("observations: row 1", "nan", "Impute or drop")),
    "infinite reward": (vectors, {"rewards": [1, 2, np.inf]}, ("rewards: row 2", "inf", "Impute or drop")),
    "missing reward": (vectors, {"rewards": [1, None, 3]}, ("rewards: row 1", "nan", "Impute or drop")),
    "nan action": (vectors, {"actions": [0, NAN, 1]}, ("actions: row 1", "nan")),
    "nan propensity": (vectors, {"behavior_probabilities": [0.5, NAN, 1]}, ("behavior_probabilities: row 1", "nan")),
    "nan after truncation": (vectors, {"final_observations": [[0], [NAN]], "end": [0, 1]}, ("final_observations: row 1", "nan")),
    "nan feature of a state": (states, {"state_features": [[0], [NAN], [1]]}, ("state_features: row 1", "nan", "Impute or drop")),
    # no numbers at all
    "text observations": (vectors, {"observations": [["a"], ["b"], ["c"]]}, ("observations", "not numeric", "encode")),
    "text actions": (vectors, {"actions": ["a", "b", "c"]}, ("actions", "not numeric", "encode")),
    # probabilities outside [0, 1], or rows that do not sum to 1
    "probability above 1": (
        vectors,
        {"behavior_probabilities": [0.5, 1.5, 0.5]},
        ("behavior_probabilities: row 1 is 1.5", "[0, 1]", "not logits"),
    ),
    "probability below 0": (vectors, {"behavior_probabilities": [0.5, 0.5, -0.5]}, ("behavior_probabilities: row 2 is -0.5",)),
    "row below 1": (
        vectors,
        {"behavior_probabilities": [[0.5, 0.5], [0.5, 0.4], [0.5, 0.4]]},
        ("behavior_probabilities: row 1 sums to 0.9", "Divide"),
    ),
    # a logged action with behaviour probability 0
    "impossible action": (
        vectors,
        {"behavior_probabilities": [0.5, 0.0, 0.5]},
        ("behavior_probabilities: row 1", "logged action 1", "probability 0", "Correct", "Counts()"),
    ),
    "impossible action in a row": (
        vectors,
        {"behavior_probabilities": [[1, 0], [1, 0], [1, 0]]},
        ("behavior_probabilities: row 1", "logged action 1", "probability 0"),
    ),
    # actions and states out of range
    "action too large": (vectors, {"actions": [0, 1, 3], "n_actions": 2}, ("actions: row 2 is 3", "[0, 2)", "Recode")),
    "negative action": (vectors, {"actions": [0, -1, 1]}, ("actions: row 1 is -1", "[0, 2)", "Recode")),
    "fractional action": (vectors, {"actions": [0, 0.5, 1]}, ("actions: row 1 is 0.5", "integers", "second dimension")),
    "state too large": (states, {"n_states": 2}, ("observations: row 2 is 2", "[0, 2)")),
    "negative state": (states, {"observations": [0, -1, 2]}, ("observations: row 1 is -1",)),
    "final state too large": (
        states,
        {"final_observations": [0, 7], "n_states": 3},
        ("final_observations: row 1 is 7", "[0, 3)"),
    ),
    "unknown end": (vectors, {"end": [0, 7]}, ("end: row 1 is 7", "terminated, truncated, censored")),
    "float states": (vectors, {"observations": [0.0, 1.0, 2.0]}, ("observations", "integer states", "(N, 1)")),
    # empty data, an empty trajectory
    "no trajectory": (vectors, {"offsets": [0]}, ("offsets", "empty")),
    "no offsets": (vectors, {"offsets": []}, ("offsets", "empty")),
    "empty trajectory": (vectors, {"offsets": [0, 2, 2, 3]}, ("offsets", "trajectory 1 has 0 steps", "drop empty")),
    "decreasing offsets": (vectors, {"offsets": [0, 3, 2]}, ("offsets", "trajectory 1 has -1 steps")),
    "offsets from 1": (vectors, {"offsets": [1, 2, 3]}, ("offsets", "starting at 0")),
    # lengths that disagree
    "short observations": (vectors, {"observations": [[0.0], [1.0]]}, ("observations", "(2, 1)", "offsets end at 3")),
    "short actions": (vectors, {"actions": [0, 1]}, ("actions: 2 rows", "offsets end at 3", "one action a step")),
    "short rewards": (vectors, {"rewards": [0, 1]}, ("rewards", "(2,)", "offsets end at 3", "one reward a step")),
    "long offsets": (vectors, {"offsets": [0, 2, 5]}, ("observations", "offsets end at 5")),
    "short propensities": (vectors, {"behavior_probabilities": [0.5]}, ("behavior_probabilities", "(1,)", "(3,) or (3, 2)")),
    "short end": (vectors, {"end": [0]}, ("end", "(1,)", "(2,)")),
    "short ids": (vectors, {"ids": [0]}, ("ids", "(1,)", "(2,)", "one label a trajectory")),
    "short clusters": (vectors, {"clusters": [0]}, ("clusters", "(1,)", "(2,)", "one label a trajectory")),
    "two names for one column": (vectors, {"feature_names": ["a", "b"]}, ("feature_names: 2 names", "1 observation column")),
    "short final vectors": (vectors, {"final_observations": [[0.0]]}, ("final_observations", "(1, 1)", "(2, 1)")),
    "short final states": (states, {"final_observations": [0]}, ("final_observations", "(1,)", "(2,)")),
    "state features of too few": (states, {"n_states": 4, "state_features": [[0], [1], [2]]}, ("state_features: 3 rows for 4",)),
    "ragged observations": (vectors, {"observations": [[1, 2], [3], [4, 5]]}, ("observations",)),
    "scalar observations": (vectors, {"observations": 5}, ("observations",)),
    "scalar actions": (vectors, {"actions": 1}, ("actions",)),
    "missing cluster": (vectors, {"clusters": [1.0, NAN]}, ("clusters: row 1 has no label",)),
}


@pytest.mark.parametrize("name", list(ARRAYS))
def test_arrays(name: str) -> None:
    make, changed, words = ARRAYS[name]
    with refuses(DataError, *words):
        make(**changed)


def test_the_baseline_of_the_bad_arrays_is_good() -> None:
    assert vectors().n == states().n == 2
    nan_where_terminated = vectors(final_observations=[[NAN], [0.5]], end=[0, 1])
    assert nan_where_terminated.steps().known.all()


def unit(**changed: Any) -> crl.Trajectories:
    given = {"X": [[0.0], [1.0], [2.0]], "treatment": [1, 0, 1], "outcome": [1.0, 2.0, 3.0]}
    return crl.Trajectories.from_cross_section(**{**given, **changed})


CROSS_SECTIONS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "one arm only": ({"treatment": [1, 1, 1]}, ("treatment", "every unit has arm 1", "at least two arms")),
    "empty": ({"X": np.zeros((0, 1)), "treatment": [], "outcome": []}, ("empty",)),
    "propensity above 1": ({"propensity": [0.5, 1.2, 0.5]}, ("propensity: row 1", "1.2", "[0, 1]")),
    "nan propensity": ({"propensity": [0.5, NAN, 0.5]}, ("propensity: row 1", "nan")),
    "rows of propensities": ({"propensity": [[0.5, 0.5], [0.5, 0.4], [0.5, 0.5]]}, ("row 1 sums to 0.9", "Divide")),
    "impossible arm": ({"propensity": [0.5, 1.0, 0.5]}, ("row 1", "logged action 0", "probability 0")),
    "nan covariate": ({"X": [[0.0], [NAN], [2.0]]}, ("column 0: missing", "row 1", "Impute or drop")),
    "nan outcome": ({"outcome": [1.0, NAN, 3.0]}, ("row 1", "nan", "Impute or drop")),
    "missing and text": (
        {"X": pd.DataFrame({"age": [1.0, NAN, 2.0], "sex": ["m", "f", "f"], "bmi": [1.0, 2.0, NAN]})},
        ("age, bmi: missing", "2 rows", "row 1", "Impute"),
    ),
    "text covariate": ({"X": pd.DataFrame({"age": [1.0, 2.0, 2.0], "sex": ["m", "f", "f"]})}, ("sex: text", "C(column)")),
    "arms from 1": ({"treatment": [1, 2, 1]}, ("treatment: codes 1 to 2", "nobody has arm 0", "treatment - 1")),
    "text arms": ({"treatment": ["a", "b", "a"]}, ("not numeric", "encode")),
    "short outcome": ({"outcome": [1.0, 2.0]}, ("outcome: 2 rows", "treatment has 3")),
    "short treatment": ({"treatment": [1, 0]}, ("treatment",)),
    "short propensity": ({"propensity": [0.5, 0.5]}, ("propensity: 2 rows", "treatment has 3")),
    "scalar treatment": ({"treatment": 1}, ("treatment",)),
}


@pytest.mark.parametrize("name", list(CROSS_SECTIONS))
def test_cross_sections(name: str) -> None:
    changed, words = CROSS_SECTIONS[name]
    with refuses(DataError, *words):
        unit(**changed)


TABLE = pd.DataFrame(
    {
        "stay": [1, 0, 0],
        "hour": [0, 1, 0],
        "given": [1, 1, 0],
        "gain": [1.0, 2.0, 3.0],
        "lactate": [0.1, 0.2, 0.3],
        "p": [0.5, 0.5, 0.5],
        "patient": [5, 6, 6],
        "why": ["died", "terminated", "truncated"],
    }
)


def frame(table: Any = TABLE, **changed: Any) -> crl.Trajectories:
    given = {"id": "stay", "time": "hour", "action": "given", "reward": "gain", "observations": ["lactate"]}
    return crl.Trajectories.from_frame(table, **{**given, **changed})


FRAMES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a repeated decision": ({"table": TABLE.assign(hour=[0, 4, 4])}, ("stay, hour", "rows 1 and 2", "(0, 4)", "drop the repeat")),
    "a misspelt column": ({"reward": "gian"}, ("no column 'gian'", "did you mean 'gain'")),
    "an unknown column": ({"observations": ["lactate", "zzz"]}, ("no column 'zzz'", "stay, hour, given")),
    "a missing number": ({"table": TABLE.assign(lactate=[0.1, NAN, 0.3])}, ("lactate: row 1 of the table is missing", "impute")),
    "a missing label": ({"table": TABLE.assign(stay=["a", None, "b"])}, ("stay: row 1 of the table is missing", "drop")),
    "no row": ({"table": TABLE.iloc[:0]}, ("empty",)),
    "an unknown end": ({"end": "why"}, ("why", "'died'", "terminated, truncated, censored")),
    "a cluster that changes": ({"cluster": "given"}, ("given", "trajectory 0", "whole trajectories")),
    "no observations": ({"observations": []}, ("observations", "column")),
    "an infinite number": ({"table": TABLE.assign(lactate=[np.inf, 0.2, 0.3])}, ("lactate: row 0", "inf")),
    "an infinite reward": ({"table": TABLE.assign(gain=[np.inf, 0.2, 0.3])}, ("gain: row 0", "inf")),
    "a large probability": ({"table": TABLE.assign(p=[1.5, 0.5, 0.5]), "propensities": "p"}, ("p: row 0", "1.5")),
    "a fractional action": ({"table": TABLE.assign(given=[0.5, 1.0, 0.0])}, ("given: row 0", "0.5")),
}


@pytest.mark.parametrize("name", list(FRAMES))
def test_frames(name: str) -> None:
    changed, words = FRAMES[name]
    with refuses(DataError, *words):
        frame(**changed)


def test_subsets_and_steps() -> None:
    with refuses(DataError, "empty"):
        vectors().take([])
    with refuses(DataError, "horizon: 0", "at least 1"):
        vectors().steps(0)


def test_take_does_not_read_a_mask_as_indices() -> None:
    try:
        part = vectors().take(np.array([False, True]))
    except CausalRLError:
        return
    np.testing.assert_array_equal(part.rewards, [3.0])


STEPS = len(ragged_data().rewards)


def constant(*row: float) -> Callable[..., Any]:
    def policy(observations: Any, time: Any) -> Any:
        return np.tile(row, (len(observations), 1))

    return policy


POLICIES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "too many columns": (constant(0.2, 0.3, 0.5), ("policy", f"({STEPS}, 3)", f"({STEPS}, 2)", "one column an action")),
    "no matrix": (lambda observations, time: np.ones(len(observations)), (f"({STEPS},)", f"({STEPS}, 2)")),
    "nothing": (lambda observations, time: None, ("shape ()", f"({STEPS}, 2)")),
    "rows not summing to 1": (constant(0.4, 0.4), ("row 0 sums to 0.8", "Divide")),
    "negative probabilities": (constant(1.5, -0.5), ("row 0", "-0.5", "[0, 1]")),
    "nan": (constant(NAN, 0.5), ("row 0", "nan", "finite")),
    "no policy": (5, ("5 is no policy", "function (observations, time)")),
    "a name": ("optimal", ("'optimal' is no policy",)),
    "an arm that is not there": (crl.Always(5), ("Always(5)", "actions 0 to 1")),
    "uniform over too many": (crl.Uniform(3), (f"({STEPS}, 3)", f"({STEPS}, 2)")),
    "a table of too few states": (crl.TabularPolicy([[0.5, 0.5]]), ("state 1 (row ", "which has 1")),
    "a table of too few times": (crl.TabularPolicy(np.full((1, 3, 2), 0.5)), ("time 1", "which has 1")),
    "a table of too many actions": (crl.TabularPolicy(np.full((3, 3), 1 / 3)), (f"({STEPS}, 3)", f"({STEPS}, 2)")),
    "a classifier on states": (crl.ClassifierPolicy(LogisticRegression()), ("integer states", "features=")),
    "a mixture of shapes": (crl.Mixture([crl.Uniform(2), crl.Uniform(3)], [0.5, 0.5]), ("Mixture", "[2, 3] actions")),
    "text": (lambda observations, time: ["a"] * len(observations), ("policy", "numeric")),
}


@pytest.mark.parametrize("estimator", [crl.WIS(), crl.DirectMethod()], ids=str)
@pytest.mark.parametrize("name", list(POLICIES))
def test_policies_that_do_not_fit(name: str, estimator: crl.Estimator, ragged: crl.Trajectories) -> None:
    policy, words = POLICIES[name]
    with refuses(PolicyError, *(words if isinstance(estimator, crl.WIS) else ())):
        estimator.estimate(ragged, policy if name == "no policy" else crl.PolicyValue(policy, horizon=20))


def test_policies_that_cannot_be_built(study: crl.Trajectories, ragged: crl.Trajectories) -> None:
    with refuses(PolicyError, "row 0 sums to 0.9", "Divide"):
        crl.TabularPolicy([[0.5, 0.4]])
    with refuses(PolicyError, "shape (2,)", "(S, A) or (H, S, A)"):
        crl.TabularPolicy([0.5, 0.5])
    with refuses(PolicyError, "epsilon is 2", "[0, 1]"):
        crl.Softened(crl.Always(0), 2)
    with refuses(PolicyError, "2 policies and 1 weights", "one weight a policy"):
        crl.Mixture([crl.Always(0), crl.Always(1)], [1.0])
    with refuses(PolicyError, "sums to 1.1"):
        crl.Mixture([crl.Always(0), crl.Always(1)], [0.5, 0.6])
    with refuses(PolicyError, "delta is 0", "above 0"):
        crl.TiltedPropensity(0.0)
    with refuses(PolicyError, "two actions", "have 3"):
        crl.WIS().estimate(cross_section(arms=3), crl.TiltedPropensity(2.0))
    with refuses(PolicyError, "integer states", "(120, 2)"):
        crl.WIS().estimate(study, crl.TabularPolicy([[0.5, 0.5]]))
    with refuses(PolicyError, "NaturalCourse", "bind"):
        crl.NaturalCourse().probabilities(ragged.observations, np.zeros(3))


def test_estimands(study: crl.Trajectories, ragged: crl.Trajectories) -> None:
    with refuses(EstimandError, "discount: 2", "[0, 1]"):
        crl.PolicyValue(crl.Always(0), discount=2)
    with refuses(EstimandError, "horizon: 0", "at least 1"):
        crl.PolicyValue(crl.Always(0), horizon=0)
    with refuses(EstimandError, "horizon: 1.5", "whole number"):
        crl.PolicyValue(crl.Always(0), horizon=1.5)
    with refuses(PolicyError, "Always(3)", "actions 0 to 1"):
        crl.IPW().estimate(study, crl.Always(3))
    with refuses(EstimandError, "arm 3 never occurs", "[0, 1]"):
        crl.IPW().estimate(study, crl.ATE(3, 0))
    with refuses(EstimandError, "no CATE", "TLearner"):
        crl.IPW().estimate(study, crl.CATE(at=study.observations[:2]))
    with refuses(EstimandError, "CATE", "(1, 1)", "(120, 2)"):
        crl.TLearner(LinearRegression()).estimate(study, crl.CATE(at=[[1.0]]))
    with refuses(EstimandError, "arm 4 never occurs", "[0, 1]"):
        crl.TLearner(LinearRegression()).estimate(study, crl.CATE(at=study.observations[:2], treated=4))
    with refuses(EstimandError, "CATE", "sequential", "Contrast"):
        crl.DirectMethod().estimate(ragged, crl.CATE(at=[0]))
    with refuses(EstimandError, "CATE", "(k, d)"):
        crl.CATE(at=[0.5])


def test_a_horizon_of_two_as_a_float_is_two_or_refused(ragged: crl.Trajectories) -> None:
    try:
        value = crl.WIS().estimate(ragged, crl.PolicyValue(TARGET, horizon=2.0)).value  # type: ignore[arg-type]
    except (EstimandError, DataError):
        return
    assert value == crl.WIS().estimate(ragged, crl.PolicyValue(TARGET, horizon=2)).value


@pytest.mark.parametrize(
    ("points", "strata"),
    [
        pytest.param([[NAN, 1.0]], False, id="nan"),
        pytest.param([7], True, id="unknown state"),
        pytest.param([-1], True, id="negative state"),
    ],
)
def test_points_of_a_cate(points: Any, strata: bool, study: crl.Trajectories) -> None:
    data = crl.Trajectories.from_cross_section([0, 1, 0, 1], [0, 1, 1, 0], [1.0, 2.0, 3.0, 4.0]) if strata else study
    with refuses(EstimandError, "CATE", "row 0"):
        crl.DirectMethod(crl.TabularQ() if strata else crl.LinearQ()).estimate(data, crl.CATE(at=points))


def test_learners_that_do_not_fit(study: crl.Trajectories, ragged: crl.Trajectories) -> None:
    with refuses(EstimandError, "behavior", "no behaviour model", "KnownPropensity(policy)"):
        crl.WIS(behavior=TARGET).estimate(ragged, TARGET)
    with refuses(EstimandError, "behavior", "'logit'", "Logit()"):
        crl.WIS(behavior="logit").estimate(ragged, TARGET)
    with refuses(EstimandError, "q: LinearRegression()", "PerAction(regressor)"):
        crl.DR(q=LinearRegression()).estimate(study, crl.ATE())
    with refuses(DataError, "TabularQ()", "vectors", "LinearQ"):
        crl.DR().estimate(study, crl.ATE())
    with refuses(EstimandError, "TabularQ(by_time=True)", "horizon"):
        crl.DirectMethod(crl.TabularQ(by_time=True)).estimate(ragged, TARGET)
    with refuses(DataError, "Counts()", "vectors", "Logit()"):
        crl.WIS(behavior=crl.Counts()).estimate(study, crl.ATE())
    with refuses(DataError, "behavior_probabilities", "Logged()", "behavior=Counts()"):
        crl.WIS(behavior=crl.Logged()).estimate(study, crl.ATE())
    with refuses(DataError, "formula", "'agee'", "age, severity"):
        crl.WIS(behavior=crl.Logit("agee")).estimate(study, crl.ATE())
    with refuses(DataError, "folds", "1000 folds of 60 clusters", "1 to 60"):
        crl.WIS(behavior=crl.Counts(), folds=1000).estimate(ragged, TARGET)
    with refuses(DataError, "KnownQ", "row 0", "nan"):
        crl.KnownQ([[NAN, 1.0]])
    with refuses(DataError, "KnownQ", "vectors", "function"):
        crl.DR(q=crl.KnownQ([[1.0, 1.0]])).estimate(study, crl.ATE())
    with refuses(DataError, "KnownQ", ", 3), expected", ", 2)"):
        crl.DR(q=crl.KnownQ(np.zeros((3, 3)))).estimate(ragged, TARGET)
    with refuses(DataError, "actions", "continuous", "bin"):
        crl.WIS().estimate(vectors(actions=[[0.1], [0.2], [0.3]]), crl.Always(0))


LEARNERS: dict[str, tuple[type[CausalRLError], tuple[str, ...], Callable[[], Any]]] = {
    "folds=0": (
        DataError,
        ("folds: 0", "1 to"),
        lambda: crl.WIS(behavior=crl.Counts(), folds=0).estimate(ragged_data(), TARGET),
    ),
    "a class for a behaviour": (
        EstimandError,
        ("behavior",),
        lambda: crl.WIS(behavior=crl.Logit).estimate(ragged_data(), TARGET),
    ),
    "a regressor for a behaviour": (
        EstimandError,
        ("behavior", "classifier"),
        lambda: crl.WIS(behavior=LinearRegression()).estimate(ragged_data(), TARGET),
    ),
    "a class for a value model": (
        EstimandError,
        ("q:",),
        lambda: crl.DR(q=crl.TabularQ).estimate(ragged_data(), TARGET),
    ),
    "a behaviour for a value model": (
        EstimandError,
        ("q:",),
        lambda: crl.DR(q=crl.Counts()).estimate(ragged_data(), TARGET),
    ),
    "a known Q of too few states": (
        DataError,
        ("KnownQ", "state 1"),
        lambda: crl.DR(q=crl.KnownQ([[1.0, 1.0]])).estimate(ragged_data(), TARGET),
    ),
    "a known Q of too few times": (
        DataError,
        ("KnownQ", "time"),
        lambda: crl.DR(q=crl.KnownQ(np.zeros((1, 3, 2)))).estimate(ragged_data(), TARGET),
    ),
    "continuous actions and a regression": (
        DataError,
        ("actions", "continuous"),
        lambda: crl.DirectMethod(crl.LinearQ()).estimate(vectors(actions=[[0.1], [0.2], [0.3]]), crl.Always(0)),
    ),
    "a natural course of which one probability is logged": (
        DataError,
        ("behavior_probabilities", "logged action only"),
        lambda: crl.DR().estimate(logged_only(ragged_data()), crl.NaturalCourse()),
    ),
}


def logged_only(data: crl.Trajectories) -> crl.Trajectories:
    """The same records with the probability of the logged action alone."""
    assert data.behavior_probabilities is not None
    logged = data.behavior_probabilities[np.arange(len(data.actions)), data.actions]
    return crl.Trajectories.from_arrays(
        data.observations, data.actions, data.rewards, data.offsets, behavior_probabilities=logged
    )


@pytest.mark.parametrize("name", list(LEARNERS))
def test_arguments_that_do_not_fit(name: str) -> None:
    error, words, act = LEARNERS[name]
    with refuses(error, *words):
        act()


def test_texts_hold_no_address_in_memory(study: crl.Trajectories) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CausalRLWarning)
        table = crl.evaluate(study, [constant(0.5, 0.5), crl.TiltedPropensity(2.0)], [crl.WIS()]).frame
    assert not re.search(" at 0x", table.to_string())


def test_one_arm_only_is_found_where_a_propensity_is_learned() -> None:
    data = vectors(actions=[1, 1, 1], n_actions=2)
    with refuses(DataError, "actions", "action 1", "needs two"):
        crl.WIS(behavior=crl.Logit()).estimate(data, crl.Always(1))


@pytest.mark.parametrize("arms", [2, 3])
def test_perfect_separation(arms: int) -> None:
    x = np.column_stack([np.linspace(0, 1, 60), np.random.default_rng(0).normal(size=60)])
    treatment = (x[:, 0] * arms).astype(int).clip(0, arms - 1)
    data = crl.Trajectories.from_cross_section(x, treatment, x[:, 1], feature_names=["creatinine", "age"])
    with refuses(SeparationError, "creatinine", "separates", "Drop or coarsen", "penalised"):
        crl.IPW(crl.Logit()).estimate(data, crl.ATE())


def cut(end: int, **more: Any) -> crl.Trajectories:
    """Trajectory 0 ("early") stops after one of its two steps; trajectory 1 is whole."""
    return states(offsets=[0, 1, 3], end=[end, 0], ids=["early", "whole"], behavior_probabilities=[0.5] * 3, n_actions=2, **more)


@pytest.mark.parametrize("estimator", [*(kind() for kind in WEIGHTING), crl.OnPolicyMean()], ids=str)
@pytest.mark.parametrize("horizon", [None, 2])
def test_importance_sampling_refuses_records_cut_early(estimator: crl.Estimator, horizon: int | None) -> None:
    data = cut(1, final_observations=[2, 0])
    within = "before the horizon 2" if horizon else "before its process ends"
    with refuses(TruncationError, "trajectory early (row 0)", "after 1 steps", within, "FQE or DR with final_observations"):
        estimator.estimate(data, crl.PolicyValue(crl.Uniform(2), horizon=horizon))


@pytest.mark.parametrize("estimator", [crl.DR(), crl.WDR(), crl.DirectMethod()], ids=str)
def test_bootstrapping_needs_the_observation_after_the_cut(estimator: crl.Estimator) -> None:
    for horizon in (None, 2):
        with refuses(
            TruncationError, "final_observations", "trajectory early (row 0)", "after 1 steps", "Pass final_observations"
        ):
            estimator.estimate(cut(1), crl.PolicyValue(crl.Uniform(2), horizon=horizon))


@pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning", "ignore::causalrl.errors.SupportWarning")
def test_records_cut_early_are_continued_by_the_value_after_the_cut() -> None:
    # Reward 1 in state 0, then state 2, from where a known Q of 10 goes on; the other record earns 2 + 3 in states 1, 2.
    data, q = cut(1, final_observations=[2, 0]), crl.KnownQ([[0.0, 0.0], [0.0, 0.0], [10.0, 10.0]])
    for horizon in (None, 2):
        goal = crl.PolicyValue(crl.Uniform(2), discount=0.5, horizon=horizon)
        expected = ((1 + 0.5 * 10) + (2 + 0.5 * 3)) / 2
        assert crl.DR(q=q).estimate(data, goal).value == pytest.approx(expected, abs=1e-12)
        assert crl.WDR(q=q).estimate(data, goal).value == pytest.approx(expected, abs=1e-12)
        for learned in (crl.DirectMethod(), crl.DR()):
            assert np.isfinite(learned.estimate(data, goal).value)
    for kind in WEIGHTING:  # within the horizon the record is whole
        assert np.isfinite(kind().estimate(data, crl.PolicyValue(crl.Uniform(2), horizon=1)).value)


@pytest.mark.parametrize("kind", crl.ALL, ids=lambda kind: kind.__name__)
def test_censored_records_are_refused(kind: type[crl.Estimator]) -> None:
    with refuses(CensoringError, "trajectory early (row 0)", "censored after 1 steps", "horizon within follow-up"):
        kind().estimate(cut(2, final_observations=[2, 0]), crl.PolicyValue(crl.Uniform(2), horizon=2))


def weighted(weights: Any, average: float = 1.0) -> tuple[crl.Trajectories, Any]:
    """Single decisions whose importance ratios are the weights, and the target that gives them."""
    scaled = average * np.asarray(weights, float) / np.mean(weights)
    largest, n = 2 * np.max(scaled), len(weights)
    share = scaled / largest
    data = crl.Trajectories.from_arrays(
        share[:, None],
        np.zeros(n, int),
        np.linspace(0, 1, n),
        np.arange(n + 1),
        behavior_probabilities=np.full(n, 1 / largest),
        n_actions=2,
    )
    return data, lambda x, time: np.column_stack([x[:, 0], 1 - x[:, 0]])


HEAVY = (1 - (np.arange(2000) + 0.5) / 2000) ** (-1 / 1.2)
OVERLAP: dict[str, tuple[Any, str]] = {
    "effective sample size": ([1.0] * 20 + [0.0] * 80, r"worth 20\.0 of 100 trajectories"),
    "share of the largest weight": ([2.0] + [6 / 7] * 7, r"one trajectory carries 25% of the weight"),
    "tail index": (HEAVY, r"Pareto tail index 0\.\d\d > 0\.7"),
    "mean weight": ([0.4, 0.5, 0.6] * 20, r"the weights average 0\.50, not 1 \(standard error 0\.01\)"),
}


@pytest.mark.parametrize("name", list(OVERLAP))
@pytest.mark.parametrize("kind", WEIGHTING, ids=lambda kind: kind.__name__)
def test_each_sign_of_poor_overlap_is_a_warning_of_its_own(kind: type[crl.Estimator], name: str) -> None:
    weights, text = OVERLAP[name]
    data, target = weighted(weights) if name != "mean weight" else weighted(weights, average=0.5)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimate = kind().estimate(data, target)
    assert [warning.category for warning in caught] == [OverlapWarning]
    assert re.search(text, str(caught[0].message))
    assert [re.search(text, note) is not None for note in estimate.diagnostics["warnings"]] == [True]
    assert estimate.diagnostics["warnings"][0].startswith("OverlapWarning: ")
    row = evaluated_row(data, target, kind())
    assert re.search(text, row["warnings"])


def evaluated_row(data: crl.Trajectories, target: Any, estimator: crl.Estimator) -> pd.Series[Any]:
    return crl.evaluate(data, {"target": target}, {"estimator": estimator}).frame.iloc[0]


def test_good_overlap_is_silent(ragged: crl.Trajectories) -> None:
    for kind in WEIGHTED:
        assert kind().estimate(ragged, crl.PolicyValue(TARGET, horizon=4)).diagnostics["warnings"] == ()


def half_supported() -> crl.Trajectories:
    """Ten states where both arms are given, ten where only arm 0 ever is."""
    probabilities = np.array([[0.5, 0.5]] * 10 + [[1.0, 0.0]] * 10)
    treatment = np.array([0, 1] * 5 + [0] * 10)
    return crl.Trajectories.from_cross_section(np.zeros((20, 1)), treatment, np.arange(20.0), propensity=probabilities)


@pytest.mark.parametrize("kind", WEIGHTING, ids=lambda kind: kind.__name__)
def test_actions_without_support_are_a_warning_with_their_share_of_the_target(kind: type[crl.Estimator]) -> None:
    # The target gives arm 1 with probability 0.4; in half of the states the behaviour never does: 20% of its mass.
    target = constant(0.6, 0.4)
    with pytest.warns(SupportWarning, match=r"20\.00% of the probability of policy"):
        estimate = kind().estimate(half_supported(), target)
    assert estimate.diagnostics["unsupported_mass"] == pytest.approx(0.2, abs=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SupportWarning)
        with pytest.raises(SupportWarning, match="20"):
            kind().estimate(half_supported(), target)
        assert kind().estimate(half_supported(), constant(1.0, 0.0)).diagnostics["unsupported_mass"] == 0


def test_support_is_unknown_where_only_the_logged_action_has_a_probability(ragged: crl.Trajectories) -> None:
    assert crl.PDIS().estimate(ragged, TARGET).diagnostics["unsupported_mass"] == 0
    assert crl.PDIS().estimate(logged_only(ragged), TARGET).diagnostics["unsupported_mass"] is None


def test_near_separation() -> None:
    rng = np.random.default_rng(1)
    x = np.append(rng.normal(size=300), 40.0)
    treatment = np.append(rng.random(300) < 1 / (1 + np.exp(-x[:-1])), True)
    data = crl.Trajectories.from_cross_section(x[:, None], treatment, x, feature_names=["dose"])
    with pytest.warns(SeparationWarning, match="1 decisions have a fitted propensity below 1e-08: near-separation by dose"):
        estimate = crl.IPW(crl.Logit()).estimate(data, crl.Always(1))
    assert any(note.startswith("SeparationWarning") for note in estimate.diagnostics["warnings"])


@pytest.mark.filterwarnings("ignore::causalrl.errors.SupportWarning")
def test_iterations_that_do_not_converge() -> None:
    endless = crl.Trajectories.from_arrays(
        [0, 0, 1, 0], [0, 1, 0, 1], [1.0, 2.0, 0.0, 1.0], [0, 2, 4], end=[1, 1], final_observations=[1, 1], n_actions=2
    )
    with pytest.warns(ConvergenceWarning, match="stopped after 3 regressions"):
        crl.DirectMethod(crl.PerAction(LinearRegression(), max_iterations=3)).estimate(endless, crl.Uniform(2))
    with pytest.warns(ConvergenceWarning, match="value iteration of TabularQ stopped"):
        estimate = crl.DirectMethod(crl.TabularQ()).estimate(endless, crl.Uniform(2))
    assert any(note.startswith("ConvergenceWarning") for note in estimate.diagnostics["warnings"])


@pytest.mark.parametrize("kind", WEIGHTING, ids=lambda kind: kind.__name__)
def test_an_estimated_behaviour_without_correction_is_said(kind: type[crl.Estimator], study: crl.Trajectories) -> None:
    with pytest.warns(EstimatedBehaviorWarning, match="LogisticRegression.*as known. Use DR, Counts"):
        estimate = kind(behavior=LogisticRegression()).estimate(study, crl.Always(1))
    assert any(note.startswith("EstimatedBehaviorWarning") for note in estimate.diagnostics["warnings"])
    assert kind(behavior=crl.Logit()).estimate(study, crl.Always(1)).diagnostics["warnings"] == ()


def never_taken() -> crl.Trajectories:
    """Two steps each; the target of the next tests takes action 1 at t = 1, which nobody did."""
    return crl.Trajectories.from_arrays(
        [0, 1] * 8, [0, 0, 1, 0] * 4, np.ones(16), range(0, 17, 2), behavior_probabilities=[0.5] * 16
    )


@pytest.mark.parametrize("kind", WEIGHTED, ids=lambda kind: kind.__name__)
def test_weights_that_are_all_zero(kind: type[crl.Estimator]) -> None:
    goal = crl.PolicyValue(crl.TabularPolicy([[0.0, 1.0], [0.0, 1.0]]), horizon=2)
    nobody = never_taken().take([0, 2])
    with refuses(SupportError, "all weights are zero", "Shorten", "soften", "FQE"):
        kind().estimate(
            crl.Trajectories.from_arrays([0] * 4, [0] * 4, np.ones(4), [0, 2, 4], behavior_probabilities=[0.5] * 4, n_actions=2),
            goal,
        )
    with refuses(SupportError, "all weights are zero"):
        kind().estimate(nobody, goal)


@pytest.mark.filterwarnings("ignore::causalrl.errors.TerminationWarning")
@pytest.mark.parametrize("kind", WEIGHTED, ids=lambda kind: kind.__name__)
def test_weights_that_are_all_zero_from_some_time_on(kind: type[crl.Estimator]) -> None:
    goal = crl.PolicyValue(crl.TabularPolicy([[0.5, 0.5], [0.0, 1.0]]), horizon=2)
    with refuses(SupportError, "all weights are zero", *(["at t = 1"] if kind in PER_DECISION else [])):
        kind().estimate(never_taken(), goal)
    first = crl.PolicyValue(crl.TabularPolicy([[0.5, 0.5], [0.0, 1.0]]), horizon=1)
    assert kind().estimate(never_taken(), first).value == pytest.approx(1.0, abs=1e-12)


def test_weights_beyond_the_largest_float() -> None:
    data = crl.Trajectories.from_arrays(
        np.zeros(400, int), np.zeros(400, int), np.ones(400), [0, 200, 400], behavior_probabilities=[1e-3] * 400, n_actions=2
    )
    goal = crl.PolicyValue(crl.Always(0), horizon=200)
    for kind in (crl.IS, crl.PDIS, crl.DR):
        with refuses(WeightOverflowError, "exp(1382)", "self-normalised"):
            kind().estimate(data, goal)
    for kind in (crl.WIS, crl.PDWIS):
        assert kind().estimate(data, goal).value == pytest.approx(200.0, rel=1e-12)


def never_and_always() -> TabularMDP:
    """One state; the behaviour below always takes action 0, so that nothing speaks about action 1."""
    return TabularMDP([[[0.5, 0.5]] * 2, [[0.0, 1.0]] * 2], [0.0, 1.0], [1.0, 0.0], [False, True])


GOALS = {"other": crl.Always(1), "same": crl.Always(0)}
RECIPES = {"WIS": crl.WIS(), "FQE": crl.FQE(), "baseline": crl.OnPolicyMean()}


def test_evaluate_records_a_failed_row_and_goes_on() -> None:
    process = never_and_always()
    data = process.sample(50, crl.Always(0), horizon=5)
    table = crl.evaluate(data, GOALS, RECIPES, horizon=5, truth=process)
    rows = table.frame.set_index(["policy", "estimator"])
    assert rows.index.tolist() == [(goal, recipe) for goal in GOALS for recipe in RECIPES]
    failed = rows.loc["other", "WIS"]
    assert failed["failure"].startswith("SupportError: weights: all weights are zero")
    assert np.isnan([failed[name] for name in ("value", "stderr", "low", "high", "error")]).all()
    assert np.isfinite(failed["truth"])
    assert pd.isna(failed["covered"])
    rest = rows.drop(("other", "WIS"))
    assert rest["failure"].isna().all()
    assert np.isfinite(rest["value"].to_numpy()).all()
    assert ("other", "WIS") not in table.estimates
    assert len(table.estimates) == len(rest)


def test_evaluate_keeps_a_value_without_an_interval(study: crl.Trajectories) -> None:
    row = evaluated_row(study, crl.ATE(), crl.TLearner(RandomForestRegressor(5, random_state=0)))
    assert row["failure"] is pd.NA
    assert np.isfinite(row["value"])
    assert np.isnan(row["low"])
    assert "RefitBootstrap" in row["warnings"]


def test_replicate_counts_failures_and_goes_on() -> None:
    result = crl.replicate(never_and_always(), crl.Always(0), 20, GOALS, RECIPES, replications=3, horizon=5)
    frame = result.frame.set_index(["policy", "estimator"])
    assert (frame["replications"] == 3).all()
    assert frame.loc[("other", "WIS"), "failures"] == 3
    assert np.isnan(frame.loc[("other", "WIS"), "bias"])
    assert (frame["failures"].drop(("other", "WIS")) == 0).all()
    assert result.rows["failure"].str.startswith("SupportError").sum() == 3


def test_arguments_of_evaluate_and_replicate(ragged: crl.Trajectories, process: TabularMDP) -> None:
    with refuses(DataError, "policies", "none", "at least one"):
        crl.evaluate(ragged, [], [crl.WIS()])
    with refuses(DataError, "estimators", "none"):
        crl.evaluate(ragged, [TARGET], {})
    with refuses(DataError, "policies", "occurs twice", "mapping"):
        crl.evaluate(ragged, [crl.Uniform(2), crl.Uniform(2)], [crl.WIS()])
    with refuses(EstimandError, "'effect' is a CATE"):
        crl.evaluate(ragged, {"effect": crl.CATE(at=[0])}, [crl.WIS()])
    with refuses(MismatchError, "truth", "'a'", "it has b"):
        crl.evaluate(ragged, {"a": TARGET}, [crl.WIS()], truth={"b": 1.0})
    with refuses(EstimandError, "discount: 2"):
        crl.evaluate(ragged, [TARGET], [crl.WIS()], discount=2)
    with refuses(DataError, "replications: 0", "at least 1"):
        crl.replicate(process, BEHAVIOR, 10, [TARGET], [crl.WIS()], replications=0)
    with refuses(DataError, "path: rows.txt", ".parquet"):
        crl.replicate(process, BEHAVIOR, 10, [TARGET], [crl.WIS()], replications=1, path="rows.txt")


@pytest.mark.parametrize("what", ["a policy", "an estimator", "a class", "a number for the truth"])
def test_evaluate_says_what_its_arguments_should_be(what: str, ragged: crl.Trajectories) -> None:
    policies: Any = TARGET if what == "a policy" else {"target": TARGET}
    estimators: Any = crl.WIS() if what == "an estimator" else [crl.WIS if what == "a class" else crl.WIS()]
    with pytest.raises(CausalRLError):
        crl.evaluate(ragged, policies, estimators, truth=3.0 if what == "a number for the truth" else None)


def public_callables() -> Iterator[Any]:
    """Every class and function that the package offers, and their public methods with named arguments."""
    for name in crl.__all__:
        item = getattr(crl, name)
        if callable(item):
            yield pytest.param(item, id=name)
    for owner, method in (
        (crl.Trajectories, "from_arrays"),
        (crl.Trajectories, "from_cross_section"),
        (crl.Trajectories, "from_frame"),
        (crl.Estimate, "interval"),
        (crl.Estimator, "fit"),
        (crl.Estimator, "estimate"),
    ):
        yield pytest.param(getattr(owner, method), id=f"{owner.__name__}.{method}")


@pytest.mark.parametrize("item", list(public_callables()))
def test_a_misspelt_keyword_is_a_type_error(item: Any) -> None:
    with pytest.raises(TypeError):
        item(misspelt_keyword=1)
    try:
        parameters = inspect.signature(item).parameters.values()
    except ValueError:
        return
    assert not [p for p in parameters if p.kind is p.VAR_KEYWORD], "swallows misspelt keywords"


def test_an_unknown_name_of_the_package() -> None:
    with refuses(AttributeError, "'Foo'", "WIS", "Trajectories", "evaluate"):
        _ = crl.Foo


def test_arithmetic_across_data_sets(ragged: crl.Trajectories) -> None:
    here = crl.WIS().estimate(ragged, TARGET)
    there = crl.WIS().estimate(ragged_data(seed=1), TARGET)
    for combine in (lambda: here + there, lambda: here - there, lambda: here * there, lambda: here / there):
        with refuses(MismatchError, "different data", "same Trajectories"):
            combine()
    assert (here - crl.WIS().estimate(ragged_data(), TARGET)).value == 0


def test_values_without_a_ratio_or_a_logarithm(ragged: crl.Trajectories) -> None:
    estimate = crl.WIS().estimate(ragged, TARGET)
    with refuses(EstimandError, "denominator is 0", "difference"):
        estimate / (estimate - estimate)
    with refuses(EstimandError, "denominator is 0"):
        estimate / 0
    with refuses(EstimandError, "log", "positive"):
        (estimate - 100).log()


def test_shards_that_cannot_be_merged(ragged: crl.Trajectories) -> None:
    half, other = ragged.take(np.arange(30)), ragged.take(np.arange(30, 60))
    with refuses(MismatchError, "merge", "learned a nuisance", "KnownQ"):
        crl.DR().estimate(half, TARGET).merge(crl.DR().estimate(other, TARGET))
    with refuses(MismatchError, "merge", "same data"):
        crl.WIS().estimate(half, TARGET).merge(crl.WIS().estimate(half, TARGET))
    with refuses(MismatchError, "merge", "WIS", "IS", "different questions"):
        crl.WIS().estimate(half, TARGET).merge(crl.IS().estimate(other, TARGET))


@pytest.mark.parametrize("what", ["estimators", "targets", "horizons", "tables"])
def test_merge_refuses_shards_of_another_question(what: str, ragged: crl.Trajectories) -> None:
    goals = {
        "targets": [crl.Softened(crl.Always(0), 0.8), crl.Softened(crl.Always(1), 0.8)],
        "horizons": [crl.PolicyValue(TARGET, horizon=2), crl.PolicyValue(TARGET, horizon=3)],
        "tables": [TARGET, BEHAVIOR],
    }
    first, second = goals.get(what, [TARGET, TARGET])
    other: crl.Estimator = crl.OnPolicyMean() if what == "estimators" else crl.IS()
    left = crl.IS().estimate(ragged.take(np.arange(30)), first)
    right = other.estimate(ragged.take(np.arange(30, 60)), second)
    with refuses(MismatchError, "merge", "different"):
        left.merge(right)


def test_no_default_interval(study: crl.Trajectories) -> None:
    estimate = crl.TLearner(RandomForestRegressor(5, random_state=0)).estimate(study, crl.ATE())
    for ask in (estimate.interval, lambda: estimate.stderr):
        with refuses(IntervalError, "no default interval", "RefitBootstrap(200)", "DR (AIPW)"):
            ask()
    for ask in (lambda: estimate.interval(method=crl.Wald()), lambda: estimate.influence, lambda: estimate.moments):
        with refuses(IntervalError, "no smooth function of means", "RefitBootstrap(200)", "DR, AIPW"):
            ask()
    assert "RefitBootstrap" in estimate.summary()
    interval = estimate.interval(method=crl.RefitBootstrap(4))
    assert interval.low < interval.high


def test_levels_and_replicates(ragged: crl.Trajectories) -> None:
    estimate = crl.WIS().estimate(ragged, TARGET)
    for level in (0.0, 1.0, 95, -0.5, NAN):
        with refuses(IntervalError, f"level: {level}", "(0, 1)", "0.95"):
            estimate.interval(level)
    for method in (crl.PercentileBootstrap, crl.StudentizedBootstrap, crl.RefitBootstrap):
        with refuses(IntervalError, "replicates: 1", "at least 2"):
            method(1)


@pytest.mark.filterwarnings("ignore::causalrl.errors.OverlapWarning")
def test_one_cluster_shows_no_spread(ragged: crl.Trajectories) -> None:
    estimate = crl.WIS().estimate(ragged.take([0]), TARGET)
    for ask in (estimate.interval, lambda: estimate.stderr):
        with refuses(IntervalError, "single cluster", "add clusters"):
            ask()
    assert np.isfinite(estimate.value)
    assert "single cluster" in estimate.summary()


@pytest.mark.parametrize("method", ["wald", crl.Wald], ids=["text", "class"])
def test_methods_that_are_none(method: Any, ragged: crl.Trajectories) -> None:
    with refuses(IntervalError, "method"):
        crl.WIS().estimate(ragged, TARGET).interval(0.95, method)


def test_half_a_replicate() -> None:
    with refuses(IntervalError, "replicates", "10.5", "whole number"):
        crl.PercentileBootstrap(10.5)


@pytest.mark.parametrize(
    ("module", "extra", "act"),
    [
        ("matplotlib.pyplot", "plot", lambda: crl.WIS().estimate(ragged_data(), TARGET).plot()),
        ("causaldata", "data", crl.datasets.nhefs),
        ("icu_sepsis", "data", ICUSepsis),
    ],
    ids=["matplotlib", "causaldata", "icu_sepsis"],
)
def test_a_missing_extra_is_named(module: str, extra: str, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    package = module.split(".")[0].replace("_", "-")
    with refuses(MissingExtraError, package, f"pip install 'causalrl-ope[{extra}]'"):
        act()


def test_every_error_is_a_value_error_and_every_warning_typed() -> None:
    for kind in vars(crl.errors).values():
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert issubclass(kind, ValueError if kind.__name__.endswith("Error") else CausalRLWarning)
            assert kind.__doc__
