"""Converters: episodes, Gymnasium, Minari and d3rlpy to `Trajectories` and back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

import causalrl as crl
from causalrl.adapters.d3rlpy import from_d3rlpy, to_d3rlpy
from causalrl.adapters.gymnasium import collect
from causalrl.adapters.minari import from_minari
from causalrl.data import End, Trajectories
from causalrl.errors import DataError, PolicyError
from simulators.environments import TABULAR
from tests.conftest import ragged_data

VECTORS: list[dict[str, Any]] = [
    {"observations": [[0.0, 1.0], [2.0, 3.0]], "actions": [1, 0], "rewards": [0.5, 1.0], "terminated": True},
    {"observations": [[4.0, 5.0]], "actions": [1], "rewards": [2.0], "terminated": [False], "truncated": [True]},
]


def episodes_of(data: Trajectories) -> list[dict[str, Any]]:
    """Every field that an episode can have, final observations included."""
    assert data.final_observations is not None
    assert data.behavior_probabilities is not None
    return [
        {
            "observations": np.concatenate([data.observations[low:high], data.final_observations[[i]]]),
            "actions": data.actions[low:high],
            "rewards": data.rewards[low:high],
            "end": data.end[i],
            "behavior_probabilities": data.behavior_probabilities[low:high],
            "id": data.ids[i],
            "cluster": data.clusters[i],
        }
        for i, (low, high) in enumerate(zip(data.offsets[:-1], data.offsets[1:], strict=True))
    ]


@pytest.mark.parametrize("as_object", [False, True])
def test_episodes_rebuild_the_data_they_were_cut_from(as_object: bool) -> None:
    data = ragged_data(40, horizon=3)
    assert {*data.end} == {End.TERMINATED, End.TRUNCATED}
    parts: list[Any] = [SimpleNamespace(**part) for part in episodes_of(data)] if as_object else episodes_of(data)
    rebuilt = Trajectories.from_episodes(parts, n_actions=2, n_states=3)
    assert rebuilt.fingerprint == data.fingerprint


def test_flags_say_how_an_episode_ends() -> None:
    data = Trajectories.from_episodes(VECTORS, feature_names=["hr", "bp"])
    assert data.end.tolist() == [End.TERMINATED, End.TRUNCATED]
    assert data.offsets.tolist() == [0, 2, 3]
    assert data.final_observations is None
    first = VECTORS[0]
    both = Trajectories.from_episodes([{**first, "truncated": True}, {**first, "terminated": False}])
    assert both.end.tolist() == [End.TERMINATED, End.TRUNCATED]


def test_a_terminated_episode_needs_no_observation_after_it() -> None:
    longer = {**VECTORS[1], "observations": [[4.0, 5.0], [6.0, 7.0]]}
    data = Trajectories.from_episodes([VECTORS[0], longer])
    assert data.final_observations is not None
    assert data.final_observations.tolist() == [[0, 0], [6, 7]]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"rewards": [1.0, 2.0, 3.0]}, "rewards: episode 1 has shape"),
        ({"observations": [[1.0, 2.0]] * 3}, "observations: episode 1 has shape"),
        ({"observations": [[1.0]]}, r"observations: a row of episode 1 has shape \(1,\)"),
        ({"observations": [[1.0], [2.0, 3.0]]}, "observations: the rows of episode 1 differ"),
        ({"observations": {"hr": [1.0]}}, "observations: episode 1 holds dict"),
        ({"actions": []}, "actions: episode 1 has no steps"),
        ({"rewards": None}, "rewards: episode 1"),
        ({"reward": [1.0]}, "episode 1 has a field 'reward'; did you mean 'rewards'"),
        ({"mood": 1}, "episode 1 has a field 'mood'; known are"),
        ({"terminated": None, "truncated": None}, "terminated: episode 1 does not say how it ended"),
        ({"end": "truncated"}, "end: episode 1 has flags as well"),
        ({"terminated": [0.5]}, "terminated: episode 1"),
        ({"id": "b"}, "id: episode 0 has none"),
        ({"behavior_probabilities": [0.5, 0.5]}, "behavior_probabilities: episode 1 has 2 rows for 1 actions"),
    ],
)
def test_an_error_names_the_episode(change: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        Trajectories.from_episodes([VECTORS[0], {**VECTORS[1], **change}])


def test_a_flag_before_the_last_step_is_two_episodes() -> None:
    with pytest.raises(DataError, match="terminated: episode 0 says so at step 0 of 2; split it"):
        Trajectories.from_episodes([{**VECTORS[0], "terminated": [True, True]}])


def test_an_unknown_end_and_a_missing_final_observation() -> None:
    plain = {name: value for name, value in VECTORS[0].items() if name != "terminated"}
    with pytest.raises(DataError, match="end of episode 0: row 0 is 'gone'"):
        Trajectories.from_episodes([{**plain, "end": "gone"}])
    with pytest.raises(DataError, match="observations: episode 1 goes on"):
        Trajectories.from_episodes([{**VECTORS[0], "observations": [[0.0, 1.0]] * 3}, VECTORS[1]])


@pytest.mark.parametrize(("episodes", "text"), [([], "there are none"), (VECTORS[0], "a single mapping")])
def test_no_sequence_of_episodes(episodes: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        Trajectories.from_episodes(episodes)


@pytest.mark.parametrize("name", ["Sepsis", "Chain", "ModelFail", "ModelWin"])
def test_collected_returns_have_the_exact_mean(name: str) -> None:
    entry = TABULAR[name]
    simulator, horizon = entry.simulator(), entry.horizon
    policy = crl.Uniform(simulator.n_actions)
    env = gymnasium.make(f"causalrl/{name}-v0").unwrapped
    data = collect(env, policy, 300, seed=1)
    returns = np.add.reduceat(data.rewards, data.offsets[:-1])
    error = np.sqrt(simulator.variance(policy, horizon) / data.n) if horizon else returns.std() / np.sqrt(data.n)
    assert abs(returns.mean() - simulator.value(policy, horizon=horizon)) <= 4 * error
    assert (data.n_states, data.n_actions) == (env.observation_space.n, simulator.n_actions)  # type: ignore[attr-defined]
    assert (data.lengths[data.end == End.TRUNCATED] == horizon).all()
    assert np.allclose(data.behavior_probabilities, 1 / simulator.n_actions)


def lake_value(env: Any, horizon: int) -> float:
    """Value of the uniform policy from the published dynamics of FrozenLake, by backward recursion."""
    dynamics = env.unwrapped.P
    value = np.zeros(len(dynamics))
    for _ in range(horizon):
        following = np.zeros_like(value)
        for state, actions in dynamics.items():
            for outcomes in actions.values():
                following[state] += sum(p * (r + (0.0 if over else value[to])) for p, to, r, over in outcomes) / len(actions)
        value = following
    return float(value[0])


def test_frozen_lake() -> None:
    env = gymnasium.make("FrozenLake-v1", is_slippery=True)
    data = collect(env, crl.Uniform(4), 1_000, seed=0)
    truth = lake_value(env, 100)
    wins = np.add.reduceat(data.rewards, data.offsets[:-1])
    assert abs(wins.mean() - truth) < 4 * np.sqrt(truth * (1 - truth) / data.n)
    cut = collect(env, crl.Uniform(4), 1_000, seed=0, max_steps=5)
    assert (cut.end == np.where(data.lengths <= 5, End.TERMINATED, End.TRUNCATED)).all()
    assert cut.final_observations is not None
    goes_on = np.flatnonzero(data.lengths > 5)
    assert (cut.final_observations[goes_on] == data.observations[data.offsets[goes_on] + 5]).all()


def test_the_same_seed_gives_the_same_records_and_a_time_limit_truncates() -> None:
    env = gymnasium.make("CartPole-v1", max_episode_steps=15)
    policy = crl.Uniform(2)
    data = collect(env, policy, 30, seed=3)
    assert data.fingerprint == collect(env, policy, 30, seed=3).fingerprint != collect(env, policy, 30, seed=4).fingerprint
    assert data.take(np.arange(10)).rewards.tolist() == collect(env, policy, 10, seed=3).rewards.tolist()
    assert data.observations.shape[1] == 4
    assert (data.lengths[data.end == End.TRUNCATED] == 15).all()
    assert (data.lengths[data.end == End.TERMINATED] < 15).any()


class Odd(gymnasium.Env[Any, Any]):
    """Spaces that start elsewhere than at 0: states 5 and 6, actions 1 and 2; the action is what pays."""

    observation_space = Discrete(2, start=5)
    action_space = Discrete(2, start=1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return 5, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        assert action in (1, 2)
        return 6, float(action), bool(action == 2), False, {}


def test_spaces_are_recorded_from_zero_and_a_policy_may_depend_on_time() -> None:
    second = crl.TabularPolicy([[[1.0, 0.0]] * 2, [[0.0, 1.0]] * 2])
    data = collect(Odd(), second, 3)
    assert data.observations.tolist() == [0, 1] * 3
    assert data.actions.tolist() == [0, 1] * 3
    assert data.rewards.tolist() == [1.0, 2.0] * 3
    assert (data.end == End.TERMINATED).all()


def test_collect_refuses_what_it_cannot_record() -> None:
    env = Odd()
    for wrong in ({"episodes": 0}, {"episodes": 1, "max_steps": 0}, {"episodes": 1, "seed": -1}):
        with pytest.raises(DataError, match=list(wrong)[-1]):
            collect(env, crl.Uniform(2), **wrong)  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="defined through the behaviour policy"):
        collect(env, crl.NaturalCourse(), 1)
    with pytest.raises(PolicyError, match=r"expected \(1, 2\)"):
        collect(env, crl.Uniform(3), 1)
    for field, space in (
        ("action_space", MultiDiscrete([2, 2])),
        ("observation_space", Box(0, 1, (2, 2))),
        ("observation_space", Dict({"a": Discrete(2)})),
    ):
        wrapped = Odd()
        setattr(wrapped, field, space)
        with pytest.raises(DataError, match=field):
            collect(wrapped, crl.Uniform(2), 1)


@pytest.fixture
def minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return pytest.importorskip("minari")


@pytest.mark.parametrize(("name", "data_format"), [("CartPole-v1", "arrow"), ("FrozenLake-v1", "hdf5")])
def test_a_minari_data_set_is_what_was_stored_in_it(minari: Any, name: str, data_format: str) -> None:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    env = gymnasium.make(name, max_episode_steps=12)
    data = collect(env, crl.Uniform(2 if name == "CartPole-v1" else 4), 25, seed=0)
    buffers = [
        EpisodeBuffer(
            observations=part["observations"].astype(env.observation_space.dtype),
            actions=part["actions"],
            rewards=part["rewards"],
            terminations=np.arange(1, len(part["actions"]) + 1) == (0 if part["end"] else len(part["actions"])),
            truncations=np.arange(1, len(part["actions"]) + 1) == (len(part["actions"]) if part["end"] else 0),
        )
        for part in episodes_of(data)
    ]
    about = dict.fromkeys(("author", "author_email", "code_permalink", "algorithm_name", "description"), "x")
    stored = minari.create_dataset_from_buffers(
        "test/records-v0", buffers, env=env, eval_env=env, data_format=data_format, **about
    )
    read = from_minari(minari.load_dataset(stored.id))
    for field in ("observations", "actions", "rewards", "offsets", "end", "n_actions", "n_states", "final_observations"):
        assert np.array_equal(getattr(read, field), getattr(data, field)), field
    assert {*read.end} == {End.TERMINATED, End.TRUNCATED}
    assert read.ids.tolist() == list(range(25))
    assert read.behavior_probabilities is None


def stored(**change: Any) -> SimpleNamespace:
    """The attributes of a MinariDataset that are read."""
    episode = SimpleNamespace(
        id=7,
        observations=np.array([[0.0], [1.0], [2.0]]),
        actions=np.array([3, 4]),
        rewards=np.array([1.0, 2.0]),
        terminations=np.array([False, False]),
        truncations=np.array([False, True]),
        infos={},
    )
    known = {"observation_space": Box(-9, 9, (1,)), "action_space": Discrete(2, start=3), "iterate_episodes": lambda: [episode]}
    return SimpleNamespace(**{**known, **change})


def test_minari_spaces() -> None:
    data = from_minari(stored())
    assert (data.actions.tolist(), data.end.tolist(), data.ids.tolist()) == ([0, 1], [End.TRUNCATED], [7])
    assert data.final_observations is not None
    assert data.final_observations.tolist() == [[2.0]]
    with pytest.raises(DataError, match="observation_space"):
        from_minari(stored(observation_space=Dict({"a": Discrete(2)})))
    with pytest.raises(DataError, match="pass a MinariDataset"):
        from_minari([1, 2])


def vector_data(n: int = 30) -> Trajectories:
    data = ragged_data(n, horizon=3)
    kept = data.take((data.end == End.TERMINATED) | (data.lengths > 1))
    rows = np.column_stack([kept.observations, np.arange(len(kept.rewards))]) / 3
    return Trajectories.from_arrays(rows, kept.actions, kept.rewards, kept.offsets, end=kept.end, n_actions=3)


def test_d3rlpy_and_back() -> None:
    pytest.importorskip("d3rlpy")
    data = vector_data()
    assert {*data.end} == {End.TERMINATED, End.TRUNCATED}
    dataset = to_d3rlpy(data)
    assert dataset.dataset_info.action_size == 3
    assert dataset.transition_count == len(data.rewards) - (data.end == End.TRUNCATED).sum()
    assert from_d3rlpy(dataset).fingerprint == data.fingerprint


def test_d3rlpy_keeps_continuous_actions_and_shows_states_as_features() -> None:
    pytest.importorskip("d3rlpy")
    doses = Trajectories.from_arrays([[0.1], [0.2]], [[0.5], [0.7]], [1.0, 2.0], [0, 1, 2])
    assert from_d3rlpy(to_d3rlpy(doses)).fingerprint == doses.fingerprint
    tabular = ragged_data(10)
    shown = from_d3rlpy(to_d3rlpy(tabular))
    assert (shown.observations == tabular.features(tabular.observations)).all()


def test_d3rlpy_refuses_what_it_would_lose() -> None:
    pytest.importorskip("d3rlpy")
    for end, text in (("censored", "censored, which d3rlpy cannot say"), ("truncated", "truncated after one step")):
        data = Trajectories.from_arrays([[0.1]], [1], [1.0], [0, 1], end=[end])
        with pytest.raises(DataError, match=text):
            to_d3rlpy(data)
    with pytest.raises(DataError, match="no data set of d3rlpy"):
        from_d3rlpy([1, 2])
