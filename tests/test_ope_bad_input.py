"""Bad input and missing pieces of off-policy evaluation: a clear error or a typed warning each, and never NaN."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.tree import DecisionTreeRegressor

import causalrl as crl
from causalrl.errors import (
    CausalRLError,
    CausalRLWarning,
    CensoringError,
    DataError,
    EstimandError,
    IntervalError,
    MismatchError,
    PolicyError,
    SupportError,
    TruncationError,
    WeightOverflowError,
)
from causalrl.inference.base import make_stderr
from causalrl.learning import EmpiricalMDP, FittedQIteration, TerminalPseudoCounts
from tests.conftest import TARGET, cross_section, ragged_data
from tests.test_bad_input import refuses

NAN, INF = float("nan"), float("inf")
HALF = crl.Uniform(2)


def ones(observations: NDArray[Any], actions: NDArray[Any], time: NDArray[Any]) -> NDArray[Any]:
    return np.ones(len(actions))


def zeros(observations: NDArray[Any], time: NDArray[Any]) -> NDArray[Any]:
    return np.zeros((len(observations), 2))


KNOWN = crl.KnownRatio(ones)


def estimators(q: Any) -> list[crl.Estimator]:
    """Every estimator, behaviour, value model and model of the weights; the value model where it does not matter is q."""
    kernel = crl.KernelClass(landmarks=8)
    ratios: list[Any] = [
        crl.TabularRatio(),
        crl.TabularRatio(by_time=True),
        crl.LinearRatio(),
        crl.LinearRatio(ridge=0.1),
        crl.CumulativeWeights(),
        KNOWN,
        crl.MinimaxRatio(),
    ]
    values: list[Any] = [
        crl.TabularQ(),
        crl.TabularQ(by_time=True),
        crl.LinearQ(),
        crl.LinearQ(ridge=0.1),
        crl.PerAction(LinearRegression(), max_iterations=4),
        crl.Pooled(DecisionTreeRegressor(max_depth=2), max_iterations=4),
        crl.ModelBased(unseen=crl.Absorb(0.0)),
        crl.ModelBased(unseen=crl.StateMean()),
        crl.MinimaxQ(ridge=0.1),
        crl.MinimaxQ(kernel),
        crl.KnownQ(zeros),
    ]
    behaviors: list[Any] = [crl.Counts(), crl.Counts(memory=3), crl.Logit(), crl.Calibrated(GaussianNB())]
    return [
        *(kind(q=q) if hasattr(kind(), "q") else kind() for kind in crl.ALL),
        *(crl.WIS(behavior=behavior) for behavior in behaviors),
        crl.IS(truncate=2.0),
        crl.PDWIS(truncate=2.0),
        crl.WDR(truncate=2.0, q=q),
        crl.RIS(2),
        crl.DR(q=q, repeats=3),
        crl.WDR(q=q, repeats=3),
        *(crl.FQE(value) for value in values),
        *(crl.MIS(ratio=ratio) for ratio in ratios),
        crl.MIS(folds=2),
        *(crl.DRL(q=q, ratio=ratio) for ratio in ratios),
    ]


def changed(data: crl.Trajectories, **fields: Any) -> crl.Trajectories:
    """The same records with other fields."""
    kept = {
        name: getattr(data, name)
        for name in ("observations", "actions", "rewards", "offsets", "end", "behavior_probabilities", "final_observations")
    }
    counts = {"n_actions": data.n_actions or None, "n_states": data.n_states or None}
    return crl.Trajectories.from_arrays(**{**kept, **counts, **fields})


def vectors(data: crl.Trajectories) -> crl.Trajectories:
    """The same records with two columns in place of states."""

    def columns(states: NDArray[Any]) -> NDArray[Any]:
        return np.column_stack([states, states**2 + np.arange(len(states)) % 3]).astype(float)

    final = None if data.final_observations is None else columns(data.final_observations)
    return changed(data, observations=columns(data.observations), final_observations=final, n_states=None)


def few(*propensities: float) -> crl.Trajectories:
    """Four trajectories, six steps; the first propensities as given, the others one half."""
    given = np.full(6, 0.5)
    given[: len(propensities)] = propensities
    actions, rewards = [0, 1, 1, 0, 0, 1], [1.0, 2.0, 0.0, 1.0, 3.0, 1.0]
    return crl.Trajectories.from_arrays(
        [0, 1, 0, 1, 1, 0], actions, rewards, [0, 2, 4, 5, 6], behavior_probabilities=given, n_actions=2
    )


def timed(observations: NDArray[Any], time: NDArray[Any]) -> NDArray[Any]:
    first = np.where(np.asarray(time) % 2 == 0, 0.3, 0.7)
    return np.column_stack([first, 1 - first])


@cache
def situations() -> dict[str, tuple[crl.Trajectories, crl.PolicyValue, type[CausalRLError] | None]]:
    """Data, a goal, and the error that every estimator raises, or None where some answer."""
    whole, cut = ragged_data(16), ragged_data(16, horizon=3)
    only_0 = changed(whole, actions=0 * whole.actions, behavior_probabilities=np.tile([1.0, 0.0], (len(whole.actions), 1)))
    goal, forever = crl.PolicyValue(TARGET, 0.9, 4), crl.PolicyValue(TARGET, 0.9)
    half, six = crl.PolicyValue(HALF, 0.9, 4), crl.PolicyValue(TARGET, 0.9, 6)
    unlogged = changed(whole, behavior_probabilities=None)
    unfinished = changed(cut, final_observations=None)
    lost = changed(cut, end=2 * cut.end)
    continuous = crl.Trajectories.from_arrays(whole.observations, 0.5 + 0 * whole.rewards[:, None], whole.rewards, whole.offsets)
    wide = changed(vectors(whole), observations=vectors(whole).observations * 1e95, final_observations=None)
    return {
        "no logged probabilities": (unlogged, goal, None),
        "no logged probabilities, no horizon": (unlogged, forever, None),
        "truncated before the horizon": (cut, six, None),
        "truncated without a final observation": (unfinished, six, TruncationError),
        "truncated, no horizon": (cut, forever, None),
        "truncated, no horizon, no final observation": (unfinished, forever, TruncationError),
        "no final observation, at the horizon": (unfinished, crl.PolicyValue(TARGET, 0.9, 3), None),
        "censored": (lost, six, CensoringError),
        "off support": (only_0, crl.PolicyValue(crl.Always(1), 0.9, 4), None),
        "half off support": (only_0, half, None),
        "a constant action": (changed(only_0, behavior_probabilities=None), half, None),
        "one trajectory": (whole.take([1]), goal, None),
        "two trajectories": (whole.take([0, 1]), goal, None),
        "one cluster": (changed(whole, clusters=np.zeros(16, int)), goal, None),
        "two clusters": (changed(whole, clusters=np.arange(16) % 2), goal, None),
        "all rewards zero": (changed(whole, rewards=0 * whole.rewards), goal, None),
        "all rewards zero, no horizon": (changed(whole, rewards=0 * whole.rewards), forever, None),
        "rewards of 1e99": (changed(whole, rewards=1e99 * whole.rewards), goal, None),
        "rewards of 1e-300": (changed(whole, rewards=1e-300 * whole.rewards), goal, None),
        "a ratio of 1e300": (few(1e-300), crl.PolicyValue(HALF, 1.0, 2), None),
        "a product of ratios of 1e600": (few(1e-300, 1e-300), crl.PolicyValue(HALF, 1.0, 2), None),
        "a ratio beyond the largest float": (few(5e-324), crl.PolicyValue(HALF, 1.0, 2), None),
        "a product of 1e600, no horizon": (few(1e-300, 1e-300), crl.PolicyValue(HALF, 0.9), None),
        "one state": (changed(whole, observations=0 * whole.actions, n_states=1, final_observations=None), half, None),
        "two states": (few(), crl.PolicyValue(HALF, 1.0, 2), None),
        "states never visited": (changed(whole, n_states=20), half, None),
        "a horizon beyond every record": (whole, crl.PolicyValue(TARGET, 1.0, 15), None),
        "a target that depends on time": (whole, crl.PolicyValue(timed, 0.9, 5), None),
        "a target that depends on time, no horizon": (whole, crl.PolicyValue(timed, 0.9), None),
        "a table of too few times": (whole, crl.PolicyValue(crl.TabularPolicy(np.full((2, 3, 2), 0.5)), 0.9, 5), None),
        "a policy of three actions": (whole, crl.PolicyValue(crl.Uniform(3), 0.9, 4), PolicyError),
        "continuous actions": (continuous, half, DataError),
        "discount 0": (whole, crl.PolicyValue(TARGET, 0.0), None),
        "vectors": (vectors(whole), half, None),
        "vectors, no horizon": (vectors(whole), crl.PolicyValue(HALF, 0.9), None),
        "vectors, truncated": (vectors(cut), crl.PolicyValue(HALF, 0.9, 6), None),
        "vectors, one trajectory": (vectors(whole).take([1]), half, None),
        "vectors, a product of 1e600": (vectors(few(1e-300, 1e-300)), crl.PolicyValue(HALF, 0.9, 2), None),
        "vectors of 1e95": (wide, half, None),
        "no column": (changed(wide, observations=np.ones((len(wide.actions), 0))), half, None),
    }


INTERVALS: tuple[Any, ...] = (
    crl.Wald(),
    crl.BCaBootstrap(20),
    crl.BayesianBootstrap(20),
    crl.PoissonBootstrap(20),
    crl.MultiplierBootstrap(20),
    crl.StudentizedBootstrap(20),
)


def check_text(refusal: CausalRLError, error: type[CausalRLError] | None) -> None:
    assert len(str(refusal)) > 40, refusal
    assert isinstance(refusal, error or CausalRLError), repr(refusal)


def finite_or_refused(estimator: crl.Estimator, data: crl.Trajectories, goal: Any, error: type[CausalRLError] | None) -> None:
    """A finite value with finite limits, or a refusal; pytest makes errors of all but typed warnings."""
    try:
        estimate = estimator.estimate(data, goal)
    except CausalRLError as refusal:
        check_text(refusal, error)
        return
    asks_no_policy = isinstance(estimator, crl.OnPolicyMean) or estimator == crl.MIS(ratio=KNOWN)
    assert error is None or asks_no_policy, f"{estimator} answers"
    for method in INTERVALS if estimate.evidence.functional is not None else (crl.RefitBootstrap(2), crl.RefitWald(2)):
        try:
            limits = [
                *estimate.interval(0.9, method),
                estimate.lower_bound(0.9, method).low,
                make_stderr(estimate.evidence, method),
            ]
        except (IntervalError, SupportError) as refusal:
            check_text(refusal, None)
        else:
            assert np.isfinite(limits).all(), method
    assert np.isfinite(estimate.value)


@pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")
@pytest.mark.parametrize("name", list(situations()))
def test_a_finite_value_or_a_clear_error(name: str) -> None:
    data, goal, error = situations()[name]
    for estimator in estimators(crl.TabularQ() if data.tabular else crl.LinearQ()):
        finite_or_refused(estimator, data, goal, error)


@pytest.mark.parametrize("name", ["a ratio of 1e300", "a product of ratios of 1e600", "one trajectory"])
@pytest.mark.parametrize("estimator", [crl.WIS(), crl.PDWIS(), crl.WDR()], ids=str)
def test_what_overlap_cannot_carry_is_a_typed_warning(name: str, estimator: crl.Estimator) -> None:
    data, goal, _ = situations()[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        estimate = estimator.estimate(data, goal)
    assert all(issubclass(warning.category, CausalRLWarning) for warning in caught)
    assert np.isfinite(estimate.value)
    assert name == "one trajectory" or caught


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")
def test_intervals_beyond_the_largest_float() -> None:
    estimate = crl.IS().estimate(few(1e-300), crl.PolicyValue(HALF, 1.0, 2))
    assert np.isfinite(estimate.value)
    words = "weights", "beyond the largest float", "WIS", "truncate="
    for ask in (estimate.interval, lambda: estimate.stderr, lambda: crl.simultaneous([estimate], method=crl.RefitWald(5))):
        with refuses(IntervalError, *words):
            ask()
    with refuses(WeightOverflowError, "spread of the splits", "WDR"):
        crl.DR(repeats=3).estimate(few(1e-300), crl.PolicyValue(HALF, 1.0, 2))
    with refuses(WeightOverflowError, "exp(744)", "self-normalised"):
        crl.MIS(ratio=crl.LinearRatio()).estimate(few(5e-324), crl.PolicyValue(HALF, 1.0, 2))


def test_an_interval_that_does_not_exist_leaves_the_rest_of_a_table() -> None:
    data, goal = few(1e-300, 1e-300), crl.PolicyValue(HALF, 1.0, 2)
    for method in (crl.PercentileBootstrap(50), crl.PoissonBootstrap(500)):
        frame = crl.evaluate(data, {"half": goal}, [crl.WIS(), crl.OnPolicyMean(), crl.FQE()], method=method).frame
        assert np.isfinite(frame["value"]).all()
        assert frame["failure"].isna().all()
        assert frame["warnings"].str.contains("Error: ").iloc[[0, 2]].all()
        assert not np.isinf(frame[["stderr", "low", "high"]].to_numpy(float)).any()


@pytest.mark.parametrize("field", ["rewards", "observations", "final_observations"])
def test_entries_whose_squares_overflow_are_refused_at_the_door(field: str) -> None:
    data = vectors(ragged_data(10, horizon=3))
    values = np.array(getattr(data, field))
    row = int(np.flatnonzero(data.end == 1)[0]) if field == "final_observations" else 3
    values[row] = 1e121
    with refuses(DataError, f"{field}: row {row} is", "e+121", "beyond 1e+120", "Change the unit"):
        changed(data, **{field: values})


def test_what_stands_after_a_terminated_record_is_ignored() -> None:
    data = vectors(ragged_data(10))
    assert data.final_observations is not None
    assert np.isfinite(changed(data, final_observations=data.final_observations + 1e200).final_observations).all()


def test_magic_of_two_trajectories_blends_without_error() -> None:
    data, goal, _ = situations()["two trajectories"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CausalRLWarning)
        estimate = crl.MAGIC().estimate(data, goal)
    assert estimate.diagnostics["blend"].sum() == pytest.approx(1.0)


BAD: dict[str, Any] = {
    "text": "x",
    "nan": NAN,
    "inf": INF,
    "negative": -1,
    "bool": True,
    "class": int,
    "list": [1],
    "fraction": 1.5,
    "array": np.zeros(2),
    "complex": 1j,
}
OPTIONS: dict[str, tuple[Callable[..., Any], dict[str, Any], tuple[str, ...]]] = {
    "truncate": (crl.IS, {}, ("fraction",)),
    "folds": (crl.DR, {}, ()),
    "repeats": (crl.WDR, {}, ()),
    "MIS folds": (crl.MIS, {}, ()),
    "DRL folds": (crl.DRL, {}, ()),
    "level": (crl.MAGIC, {}, ()),
    "replicates": (crl.MAGIC, {}, ()),
    "memory": (crl.Counts, {}, ()),
    "by_time": (crl.Counts, {}, ("bool",)),
    "RIS memory": (crl.RIS, {}, ()),
    "normalized": (crl.RIS, {}, ("bool",)),
    "calibrator": (crl.Calibrated, {"model": crl.Counts()}, ()),
    "Calibrated folds": (crl.Calibrated, {"model": crl.Counts()}, ()),
    "TabularQ by_time": (crl.TabularQ, {}, ("bool",)),
    "unseen": (crl.TabularQ, {}, ()),
    "constant": (crl.ConstantValue, {}, ("negative", "fraction")),
    "LinearQ ridge": (crl.LinearQ, {}, ("fraction",)),
    "LinearQ features": (crl.LinearQ, {}, ()),
    "regressor": (crl.PerAction, {}, ()),
    "Pooled regressor": (crl.Pooled, {}, ()),
    "max_iterations": (crl.Pooled, {"regressor": Ridge()}, ()),
    "ModelBased unseen": (crl.ModelBased, {}, ()),
    "value": (crl.Absorb, {}, ("negative", "fraction")),
    "steps": (crl.NeuralQ, {}, ()),
    "learning_rate": (crl.NeuralQ, {}, ("fraction",)),
    "batch_size": (crl.NeuralQ, {}, ()),
    "source": (crl.KnownQ, {}, ()),
    "KnownRatio source": (crl.KnownRatio, {}, ()),
    "TabularRatio by_time": (crl.TabularRatio, {}, ("bool",)),
    "LinearRatio ridge": (crl.LinearRatio, {}, ("fraction",)),
    "LinearRatio features": (crl.LinearRatio, {}, ()),
    "functions": (crl.MWL, {}, ()),
    "discriminator": (crl.MQL, {}, ()),
    "ridge": (crl.MQL, {}, ("fraction",)),
    "bandwidth": (crl.KernelClass, {}, ("fraction",)),
    "landmarks": (crl.KernelClass, {}, ()),
    "features": (crl.LinearClass, {}, ()),
    **{f"{kind.__name__} replicates": (kind, {}, ()) for kind in (crl.BCaBootstrap, crl.BayesianBootstrap, crl.RefitBootstrap)},
    **{f"{kind.__name__} seed": (kind, {}, ()) for kind in (crl.PoissonBootstrap, crl.MultiplierBootstrap, crl.RefitWald)},
    "low": (crl.Hoeffding, {"high": 1.0}, ("negative",)),
    "high": (crl.EmpiricalBernstein, {"low": 0.0}, ("fraction",)),
    "max_weight": (crl.Hoeffding, {"low": 0.0, "high": 1.0}, ("fraction",)),
    "discount": (EmpiricalMDP, {}, ()),
    "horizon": (EmpiricalMDP, {}, ()),
    "min_count": (EmpiricalMDP, {}, ()),
    "pseudo_counts": (EmpiricalMDP, {}, ()),
    "count": (TerminalPseudoCounts, {}, ("fraction",)),
    "q": (FittedQIteration, {}, ()),
    "iterations": (FittedQIteration, {"q": crl.Pooled(Ridge())}, ()),
    "tolerance": (FittedQIteration, {"q": crl.Pooled(Ridge())}, ()),
}


@pytest.mark.parametrize("option", list(OPTIONS))
def test_options_of_the_wrong_kind(option: str) -> None:
    kind, rest, good = OPTIONS[option]
    name = option.split()[-1]
    for what, value in BAD.items():
        if what in good:
            kind(**{**rest, name: value})
            continue
        with pytest.raises(CausalRLError) as caught:
            kind(**{**rest, name: value})
        assert any(word in str(caught.value) for word in (name, kind.__name__, "q:")), (what, caught.value)
    with pytest.raises(TypeError):
        kind(**{**rest, f"{name}s_": 1})


WRONG: dict[str, Any] = {
    "text": "x",
    "nan": NAN,
    "class": crl.WIS,
    "number": 5,
    "list": [1],
    "object": object(),
    "estimator": crl.WIS(),
}


def arguments(value: Any) -> dict[str, Callable[[], Any]]:
    """Calls with the value in the place of an object."""
    data, study = ragged_data(20), cross_section(30)
    goal, at = crl.PolicyValue(TARGET, 0.9, 3), crl.CATE(at=cross_section(30).observations[:2])
    estimate = crl.IS().estimate(data, goal)
    episode = {"observations": [[0.0], [1.0], [2.0]], "actions": [0, 1], "rewards": [0.0, 1.0]}

    def returned(*given: Any) -> Any:
        return value

    return {
        "behavior": lambda: crl.DRL(behavior=value).estimate(data, goal),
        "q of DR": lambda: crl.DR(q=value).estimate(data, goal),
        "q of a CATE": lambda: crl.FQE(value).estimate(study, at),
        "q of MAGIC": lambda: crl.MAGIC(q=value).estimate(data, goal),
        "ratio of MIS": lambda: crl.MIS(ratio=value).estimate(data, goal),
        "ratio of DRL": lambda: crl.DRL(ratio=value).estimate(data, goal),
        "model": lambda: crl.WIS(behavior=crl.Calibrated(value)).estimate(data, goal),
        "a known propensity": lambda: crl.WIS(behavior=crl.KnownPropensity(value)).estimate(data, goal),
        "method": lambda: estimate.interval(0.9, value),
        "method of a bound": lambda: estimate.upper_bound(0.9, value),
        "level": lambda: estimate.interval(value),
        "level of a bound": lambda: estimate.lower_bound(value),
        "simultaneous": lambda: crl.simultaneous(value),
        "simultaneous in a list": lambda: crl.simultaneous([value]),
        "simultaneous by name": lambda: crl.simultaneous({"a": value}),
        "level of a band": lambda: crl.simultaneous([estimate], level=value),
        "method of a band": lambda: crl.simultaneous([estimate], method=value),
        "merge": lambda: estimate.merge(value),
        "level of evaluate": lambda: crl.evaluate(data, {"a": goal}, [crl.WIS()], level=value),
        "method of evaluate": lambda: crl.evaluate(data, {"a": goal}, [crl.WIS()], method=value),
        "data": lambda: crl.evaluate(value, {"a": goal}, [crl.WIS()]),
        "data of a plan": lambda: EmpiricalMDP().fit(value),
        "data of Q-iteration": lambda: FittedQIteration(crl.Pooled(Ridge())).fit(value),
        "data for d3rlpy": lambda: crl.to_d3rlpy(value),
        "a data set of d3rlpy": lambda: crl.from_d3rlpy(value),
        "a data set of Minari": lambda: crl.from_minari(value),
        "env": lambda: crl.collect(value, HALF, 3),
        "episodes": lambda: crl.Trajectories.from_episodes(value),
        "episode": lambda: crl.Trajectories.from_episodes([value]),
        "end": lambda: crl.Trajectories.from_episodes([{**episode, "end": value}]),
        "features of LinearQ": lambda: crl.FQE(crl.LinearQ(features=returned)).estimate(data, goal),
        "features of LinearRatio": lambda: crl.MIS(ratio=crl.LinearRatio(features=returned)).estimate(data, goal),
        "features of LinearClass": lambda: crl.MQL(crl.LinearClass(features=returned)).estimate(data, goal),
        "returned by KnownRatio": lambda: crl.MIS(ratio=crl.KnownRatio(returned)).estimate(data, goal),
        "returned by KnownQ": lambda: crl.FQE(crl.KnownQ(returned)).estimate(data, goal),
    }


@pytest.mark.parametrize("what", list(WRONG))
def test_arguments_that_are_no_such_object(what: str) -> None:
    for name, act in arguments(WRONG[what]).items():
        with pytest.raises(CausalRLError) as caught:
            act()
        assert len(str(caught.value)) > 30, (name, caught.value)


@pytest.mark.parametrize(
    "model",
    [crl.TabularRatio(), crl.MinimaxRatio(), crl.KnownRatio(ones), crl.KernelClass()],
    ids=lambda model: type(model).__name__,
)
def test_models_of_another_kind_are_no_value_models(model: Any) -> None:
    with refuses(EstimandError, "q: ", "no value model", "PerAction(regressor)"):
        crl.DR(q=model).estimate(ragged_data(20), crl.PolicyValue(TARGET, 0.9, 3))


@pytest.mark.parametrize(
    "model", [crl.TabularQ(), crl.MinimaxQ(), crl.Counts(), crl.KernelClass()], ids=lambda model: type(model).__name__
)
def test_models_of_another_kind_are_no_ratio_models(model: Any) -> None:
    with refuses(EstimandError, "ratio: ", "no ratio model", "TabularRatio()"):
        crl.DRL(ratio=model).estimate(ragged_data(20), crl.PolicyValue(TARGET, 0.9, 3))


SPACES: dict[str, tuple[Callable[[crl.Trajectories], Any], type[CausalRLError], tuple[str, ...]]] = {
    "Counts": (lambda data: crl.RIS(2).estimate(data, HALF), DataError, ("Counts()", "vectors", "Logit()")),
    "TabularRatio": (
        lambda data: crl.DRL(q=crl.LinearQ(), ratio=crl.TabularRatio()).estimate(data, crl.PolicyValue(HALF, 0.9, 3)),
        DataError,
        ("TabularRatio()", "vectors", "LinearRatio()"),
    ),
    "KnownRatio": (
        lambda data: crl.MIS(ratio=crl.KnownRatio([[1.0, 1.0]])).estimate(data, HALF),
        DataError,
        ("vectors", "function"),
    ),
    "ModelBased": (
        lambda data: crl.FQE(crl.ModelBased(crl.Absorb(0.0))).estimate(data, HALF),
        DataError,
        ("observations", "vectors", "cluster"),
    ),
    "EmpiricalMDP": (EmpiricalMDP().fit, DataError, ("observations", "vectors", "cluster")),
}


@pytest.mark.parametrize("name", list(SPACES))
def test_vectors_where_states_are_needed(name: str) -> None:
    act, error, words = SPACES[name]
    with refuses(error, *words):
        act(vectors(ragged_data(20)))


def test_states_where_vectors_are_needed() -> None:
    fitted = FittedQIteration(crl.Pooled(Ridge())).fit(vectors(ragged_data(20)))
    with refuses(PolicyError, "observations: shape (2,)", ", 2)"):
        fitted.policy().probabilities(np.array([0, 1]), np.zeros(2, int))


TABLES: dict[str, tuple[Any, type[CausalRLError], tuple[str, ...]]] = {
    "too few states": ([[1.0, 1.0]], DataError, ("KnownRatio", "(1, 2)", "reach")),
    "too few times": (np.ones((1, 3, 2)), DataError, ("KnownRatio", "(1, 3, 2)", "reach")),
    "empty": (np.zeros((0, 0)), DataError, ("KnownRatio", "(0, 0)")),
    "all zero": (np.zeros((3, 2)), SupportError, ("all weights are zero", "t = 0")),
    "beyond floats": (np.full((3, 2), 1e200), DataError, ("KnownRatio: row 0", "overflow")),
}


@pytest.mark.parametrize("name", list(TABLES))
def test_tables_of_known_ratios(name: str) -> None:
    table, error, words = TABLES[name]
    with refuses(error, *words):
        crl.MIS(ratio=crl.KnownRatio(table)).estimate(ragged_data(30), crl.PolicyValue(TARGET, 0.9, 4))


def test_bounds_that_do_not_apply() -> None:
    data, goal = ragged_data(30), crl.PolicyValue(TARGET, 0.9, 4)
    plain = crl.OnPolicyMean().estimate(data, goal)
    for method in (crl.Hoeffding(-1e308, 1e308), crl.EmpiricalBernstein(-1e200, 1e200, max_weight=1e200)):
        with refuses(IntervalError, "beyond the largest float"):
            plain.interval(0.9, method)
    with refuses(IntervalError, "plain mean", "Wald()"):
        crl.WIS().estimate(data, goal).interval(0.9, crl.Hoeffding(0, 1))
    with refuses(IntervalError, "learned a nuisance", "Wald()"):
        crl.RIS().estimate(data, goal).interval(0.9, crl.StudentT())
    with refuses(IntervalError, "row ", "high = ", "State the range"):
        plain.interval(0.9, crl.Hoeffding(-100, 1e-9))
    for level in (0.5, 1.0, NAN, "0.9"):
        with refuses(IntervalError, f"level: {level!r}", "(0.5, 1)"):
            plain.lower_bound(level)  # type: ignore[arg-type]


def test_bands_of_estimates_that_do_not_go_together() -> None:
    goal = crl.PolicyValue(TARGET, 0.9, 4)
    here, there = crl.WIS().estimate(ragged_data(30), goal), crl.IS().estimate(ragged_data(30, seed=1), goal)
    with refuses(MismatchError, "different data"):
        crl.simultaneous([here, there])
    with refuses(IntervalError, "occurs twice", "mapping"):
        crl.simultaneous([here, here])
    with refuses(IntervalError, "none", "at least one"):
        crl.simultaneous([])


ENDS: dict[str, tuple[list[int], type[CausalRLError], tuple[str, ...]]] = {
    "truncated": ([1, 1], TruncationError, ("final_observations", "row 0", "Pass")),
    "censored": ([2, 0], CensoringError, ("end: trajectory 0", "censored")),
}


@pytest.mark.parametrize("name", list(ENDS))
def test_learning_from_records_that_stop_early(name: str) -> None:
    end, error, words = ENDS[name]
    data = crl.Trajectories.from_arrays([0, 1], [0, 1], [0.0, 1.0], [0, 1, 2], end=end)
    with refuses(error, *words):
        FittedQIteration(crl.Pooled(Ridge())).fit(data)
    with refuses(DataError if name == "truncated" else error, "final_observations" if name == "truncated" else "censored"):
        EmpiricalMDP().fit(data)


def test_learners_that_scikit_learn_refuses() -> None:
    data, goal = ragged_data(20), crl.PolicyValue(HALF, 0.9, 3)
    constant = changed(data, actions=0 * data.actions, behavior_probabilities=None)
    with refuses(EstimandError, "LogisticRegression: cannot be fitted to these data", "2 classes"):
        crl.WIS(behavior=LogisticRegression(), folds=1).estimate(constant, goal)
    bare = changed(vectors(data), observations=np.ones((len(data.actions), 0)), final_observations=None)
    with refuses(DataError, "observations", "no columns", "constant"):
        crl.FQE(crl.PerAction(LinearRegression())).estimate(bare, goal)
