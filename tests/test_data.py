"""`Trajectories`: constructors, row order, subsets, steps and features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import causalrl as crl
from causalrl.data import End
from tests.conftest import BEHAVIOR, ragged_data

FIELDS = ("observations", "actions", "rewards", "offsets", "end", "behavior_probabilities", "ids", "clusters")
LIBRARIES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "pandas": lambda frame: frame,
    "polars": pl.from_pandas,
    "pyarrow": pa.Table.from_pandas,
}


def same(a: crl.Trajectories, b: crl.Trajectories) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    assert a.fingerprint == b.fingerprint


def three_records(**extra: Any) -> crl.Trajectories:
    """Steps of trajectories 0: s = 0, 1; 1: s = 2; 2: s = 1, 0, 2."""
    return crl.Trajectories.from_arrays(
        [0, 1, 2, 1, 0, 2], [1, 0, 1, 0, 1, 1], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0, 2, 3, 6], **extra
    )


def test_from_arrays_keeps_what_it_is_given_and_fills_in_the_rest() -> None:
    data = three_records(end=[1, 0, 2], ids=["b", "a", "c"], clusters=[9, 4, 9])
    assert (data.n, data.n_states, data.n_actions, data.tabular) == (3, 3, 2, True)
    np.testing.assert_array_equal(data.lengths, [2, 1, 3])
    np.testing.assert_array_equal(data.end, [End.TRUNCATED, End.TERMINATED, End.CENSORED])
    np.testing.assert_array_equal(data.clusters, [1, 0, 1])
    assert list(data.ids) == ["b", "a", "c"]
    bare = three_records()
    np.testing.assert_array_equal(bare.end, [End.TERMINATED] * 3)
    np.testing.assert_array_equal(bare.ids, range(3))
    np.testing.assert_array_equal(bare.clusters, range(3))
    assert bare.behavior_probabilities is None
    assert bare.final_observations is None
    assert repr(bare) == "Trajectories(n=3, steps=6, n_states=3, n_actions=2, length 1 to 3)"


def test_vector_observations_and_continuous_actions() -> None:
    data = crl.Trajectories.from_arrays(np.eye(3), [[0.5], [1.5], [2.5]], [0, 1, 2], [0, 3], feature_names=["a", "b", "c"])
    assert (data.tabular, data.n_actions, data.n_states) == (False, 0, 0)
    assert data.feature_names == ("a", "b", "c")
    assert data.rewards.dtype == np.float64
    assert "action_dim=1" in repr(data)


def test_counts_of_states_and_actions_can_exceed_what_was_logged() -> None:
    data = three_records(n_states=7, n_actions=5)
    assert (data.n_states, data.n_actions) == (7, 5)
    assert three_records(state_features=np.zeros((4, 2))).n_states == 4


def test_the_data_do_not_change_with_the_arrays_they_were_built_from() -> None:
    rewards, states, names = np.array([1.0, 2.0]), np.array([0, 1]), np.array([5, 6])
    data = crl.Trajectories.from_arrays(states, [0, 1], rewards, [0, 1, 2], ids=names)
    rewards[0], states[0], names[0] = 99.0, 1, 99
    assert (data.rewards[0], data.observations[0], data.ids[0]) == (1.0, 0, 5)


def test_fingerprint_is_of_the_content() -> None:
    assert three_records().fingerprint == three_records().fingerprint
    assert three_records().fingerprint != three_records(end=[1, 0, 0]).fingerprint
    assert three_records().fingerprint != three_records(clusters=[0, 0, 1]).fingerprint


def test_cross_section_from_a_dataframe_keeps_its_column_names() -> None:
    frame = pd.DataFrame({"age": [50, 60, 70], "weight": [80.5, 70.0, 65.0]})
    data = crl.Trajectories.from_cross_section(frame, pd.Series([1, 0, 1]), pd.Series([1.0, 2.0, 3.0]))
    assert data.feature_names == ("age", "weight")
    np.testing.assert_array_equal(data.observations, frame.to_numpy(float))
    np.testing.assert_array_equal(data.lengths, [1, 1, 1])
    renamed = crl.Trajectories.from_cross_section(frame, [1, 0, 1], [1, 2, 3], feature_names=["a", "w"])
    assert renamed.feature_names == ("a", "w")
    polars = crl.Trajectories.from_cross_section(pl.from_pandas(frame), [1, 0, 1], [1.0, 2.0, 3.0])
    assert polars.fingerprint == data.fingerprint


def test_a_propensity_of_one_dimension_is_that_of_arm_one() -> None:
    data = crl.Trajectories.from_cross_section([[0.0], [1.0], [2.0]], [1, 0, 1], [1.0, 2.0, 3.0], propensity=[0.2, 0.3, 0.9])
    np.testing.assert_allclose(data.behavior_probabilities, [[0.8, 0.2], [0.7, 0.3], [0.1, 0.9]], rtol=1e-15)
    rows = [[0.8, 0.2], [0.7, 0.3], [0.1, 0.9]]
    both = crl.Trajectories.from_cross_section([[0.0], [1.0], [2.0]], [1, 0, 1], [1.0, 2.0, 3.0], propensity=rows)
    np.testing.assert_array_equal(both.behavior_probabilities, rows)


def test_a_cross_section_of_strata_is_tabular() -> None:
    data = crl.Trajectories.from_cross_section([0, 2, 1], np.array([True, False, True]), [1.0, 2.0, 3.0])
    assert (data.tabular, data.n_states, data.n_actions) == (True, 3, 2)


def long_table(labels: bool) -> pd.DataFrame:
    """Fifty ragged stays in shuffled row order; the time stamps have gaps, the last row says why a stay ended."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(1, 6, 50)
    stay = np.repeat(rng.permutation(1000)[:50], lengths)
    hour = np.concatenate([np.sort(rng.permutation(40)[:k]) for k in lengths])
    total = len(stay)
    first = rng.uniform(0.1, 0.9, total)
    table = pd.DataFrame(
        {
            "stay": [f"stay {s:03d}" for s in stay] if labels else stay,
            "hour": hour,
            "given": rng.integers(0, 2, total),
            "reward": rng.normal(size=total),
            "pressure": rng.normal(size=total),
            "lactate": rng.normal(size=total),
            "state": rng.integers(0, 5, total),
            "why": np.array(["terminated", "truncated"])[np.arange(total) % 2],
            "p0": first,
            "p1": 1 - first,
            "patient": stay // 2,
        }
    )
    return table.iloc[rng.permutation(total)].reset_index(drop=True)


def from_long(table: Any, observations: str | list[str]) -> crl.Trajectories:
    return crl.Trajectories.from_frame(
        table, "stay", "hour", "given", "reward", observations, end="why", propensities=["p0", "p1"], cluster="patient"
    )


@pytest.mark.parametrize("observations", ["state", ["pressure", "lactate"]])
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("library", list(LIBRARIES))
def test_every_library_and_row_order_gives_the_same_data(library: str, labels: bool, observations: str | list[str]) -> None:
    table = long_table(labels)
    ordered = table.sort_values(["stay", "hour"]).reset_index(drop=True)
    data = from_long(LIBRARIES[library](table), observations)
    same(data, from_long(ordered, observations))
    stays = ordered.groupby("stay", sort=True)
    np.testing.assert_array_equal(data.lengths, stays.size())
    np.testing.assert_array_equal(data.ids, list(stays.groups))
    np.testing.assert_array_equal(data.rewards, ordered["reward"])
    np.testing.assert_array_equal(data.observations, ordered[observations])
    np.testing.assert_array_equal(data.behavior_probabilities, ordered[["p0", "p1"]])
    np.testing.assert_array_equal(data.end == End.TRUNCATED, stays["why"].last() == "truncated")
    np.testing.assert_array_equal(data.clusters, pd.factorize(stays["patient"].first(), sort=True)[0])
    assert data.feature_names == (() if observations == "state" else tuple(observations))


@pytest.mark.parametrize("library", list(LIBRARIES))
def test_every_library_gives_the_same_estimate_to_the_last_bit(library: str) -> None:
    table, goal = long_table(labels=False), crl.PolicyValue(crl.Uniform(2), horizon=1)
    ordered = from_long(table.sort_values(["stay", "hour"]), ["pressure", "lactate"])
    data = from_long(LIBRARIES[library](table), ["pressure", "lactate"])
    for estimator in (crl.WIS(behavior=crl.Logit()), crl.DR(q=crl.LinearQ())):
        assert estimator.estimate(data, goal).value == estimator.estimate(ordered, goal).value


def test_from_frame_takes_end_codes_and_one_logged_probability() -> None:
    table = pd.DataFrame({"i": [1, 0, 0], "t": [0, 1, 0], "a": [1, 0, 1], "r": [1.0, 2.0, 3.0], "s": [0, 1, 1], "e": [2, 1, 0]})
    data = crl.Trajectories.from_frame(table.assign(b=[0.5, 0.25, 1.0]), "i", "t", "a", "r", "s", end="e", propensities="b")
    np.testing.assert_array_equal(data.end, [End.TRUNCATED, End.CENSORED])
    np.testing.assert_array_equal(data.behavior_probabilities, [1.0, 0.25, 0.5])


def test_take_gives_shards_permutations_and_resamples() -> None:
    data = three_records(
        end=[1, 0, 2], ids=["b", "a", "c"], clusters=[9, 4, 9], behavior_probabilities=[0.1] * 6, final_observations=[2, 0, 1]
    )
    part = data.take([2, 0])
    np.testing.assert_array_equal(part.observations, [1, 0, 2, 0, 1])
    np.testing.assert_array_equal(part.rewards, [4, 5, 6, 1, 2])
    np.testing.assert_array_equal(part.offsets, [0, 3, 5])
    np.testing.assert_array_equal(part.end, [End.CENSORED, End.TRUNCATED])
    np.testing.assert_array_equal(part.final_observations, [1, 2])
    assert list(part.ids) == ["c", "b"]
    assert part.clusters[0] == part.clusters[1]
    assert (part.n_states, part.n_actions) == (3, 2)
    resample = data.take([1, 1, 0])
    np.testing.assert_array_equal(resample.rewards, [3, 3, 1, 2])
    assert resample.clusters[0] == resample.clusters[1] != resample.clusters[2]
    same(data.take(np.arange(3)), data)


def test_steps_of_the_whole_record() -> None:
    steps = three_records(end=[1, 0, 0], final_observations=[2, 0, 0]).steps()
    np.testing.assert_array_equal(steps.time, [0, 1, 0, 0, 1, 2])
    np.testing.assert_array_equal(steps.trajectory, [0, 0, 1, 2, 2, 2])
    np.testing.assert_array_equal(steps.continues, [True, True, False, True, True, False])
    assert steps.known.all()
    goes_on = steps.continues & steps.known
    np.testing.assert_array_equal(steps.next_observations[goes_on], [1, 2, 0, 2])
    np.testing.assert_array_equal(steps.first, [0, 2, 3])
    np.testing.assert_array_equal(steps.last, [1, 2, 5])


def test_steps_cut_at_a_horizon_still_know_their_successor() -> None:
    steps = three_records(end=[1, 0, 0]).steps(2)
    np.testing.assert_array_equal(steps.rewards, [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(steps.offsets, [0, 2, 3, 5])
    np.testing.assert_array_equal(steps.rows, [0, 1, 2, 3, 4])
    # Trajectory 0 ends unknown at its step 1. Trajectory 2 goes on past the horizon, so that its successor is in the data, but
    # no step at t = 1 is used, or the terminated would be kept and the survivors dropped.
    np.testing.assert_array_equal(steps.continues, [True, True, False, True, True])
    np.testing.assert_array_equal(steps.known, [True, False, True, True, False])
    assert steps.next_observations[4] == 2
    np.testing.assert_array_equal(steps.cut_early, [False, False, False])
    assert len(steps) == 5


def test_records_cut_early_are_those_that_stop_before_the_horizon_and_did_not_terminate() -> None:
    data = three_records(end=[1, 0, 1])
    np.testing.assert_array_equal(data.steps(2).cut_early, [False, False, False])
    np.testing.assert_array_equal(data.steps(3).cut_early, [True, False, False])
    np.testing.assert_array_equal(data.steps().cut_early, [True, False, True])


def test_steps_beyond_the_horizon_are_ignored() -> None:
    data, cut = ragged_data(horizon=6), ragged_data(horizon=3)
    for estimator in (crl.IS(), crl.WIS(), crl.PDIS(), crl.PDWIS(), crl.OnPolicyMean()):
        goal = crl.PolicyValue(BEHAVIOR, horizon=3)
        assert estimator.estimate(data, goal).value == pytest.approx(estimator.estimate(cut, goal).value, rel=1e-13)


def test_features_are_vectors_state_features_or_one_hot() -> None:
    table = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    states = np.array([2, 0])
    np.testing.assert_array_equal(three_records(state_features=table).features(states), [[4, 5], [0, 1]])
    np.testing.assert_array_equal(three_records().features(states), [[0, 0, 1], [1, 0, 0]])
    vectors = crl.Trajectories.from_cross_section(table, [0, 1, 0], [0.0, 0.0, 0.0])
    np.testing.assert_array_equal(vectors.features(table[:1]), table[:1])
