"""Gymnasium environments of the simulators against the checker and the exact values; the figure of a patient."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env

import causalrl as crl
from causalrl.errors import DataError, EstimandError
from simulators import HideVariables, ICUSepsis, MeasurementError, SepsisSimulator, TabularMDP
from simulators.environments import ENVIRONMENTS, PatientEnv, TabularEnv, TumourEnv
from simulators.figures import SEPSIS_LABELS, TUMOUR_LABELS, Labels, plot_trajectory
from simulators.tumour.simulator import TumourSimulator
from tests.conftest import ragged_data, tiny_process

ROOT = Path(__file__).resolve().parents[1]
IDS = [name for name in ENVIRONMENTS if "ICU" not in name or find_spec("icu_sepsis")]
every_id = pytest.mark.parametrize("name", IDS)
one_of_a_kind = pytest.mark.parametrize("name", [name for name in IDS if re.search("Sepsis|Tumour|Chain", name)])


def play(env: PatientEnv, episodes: int, seed: int = 0) -> np.ndarray:
    """(episodes,) sums of rewards under uniform actions."""
    rng = np.random.default_rng(seed + 1)
    totals = np.zeros(episodes)
    for episode in range(episodes):
        env.reset(seed=seed if episode == 0 else None)
        over = False
        while not over:
            _, reward, terminated, truncated, _ = env.step(rng.integers(env.action_space.n))  # type: ignore[attr-defined]
            totals[episode] += reward
            over = terminated or truncated
    return totals


@every_id
def test_the_checker_has_nothing_to_say(name: str) -> None:
    check_env(gymnasium.make(name).unwrapped)


@every_id
def test_vector_environments(name: str) -> None:
    vector: Any = gymnasium.make_vec(name, num_envs=3)
    first, _ = vector.reset(seed=[1, 2, 1])
    assert len(first) == 3
    np.testing.assert_array_equal(first[0], first[2])
    for _ in range(5):
        seen, rewards, terminated, truncated, _ = vector.step(np.zeros(3, np.int64))
        assert rewards.shape == terminated.shape == truncated.shape == (3,)
        np.testing.assert_array_equal(seen[0], seen[2])
    vector.close()


@every_id
def test_a_specification_survives_json(name: str) -> None:
    spec = gymnasium.spec(name)
    again = gymnasium.envs.registration.EnvSpec.from_json(spec.to_json())
    assert gymnasium.make(again).unwrapped.observation_space == gymnasium.make(name).unwrapped.observation_space


@pytest.mark.parametrize(
    "code",
    [
        "import simulators.environments, gymnasium; gymnasium.make('causalrl/Sepsis-v0')",
        "import gymnasium, simulators.environments; gymnasium.make('causalrl/Sepsis-v0')",
        "import gymnasium; gymnasium.make('simulators.environments:causalrl/Sepsis-v0')",
    ],
)
def test_either_order_of_imports_registers(code: str) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize("view", ["full", "observed", "projected"])
def test_mean_return_of_sepsis_is_the_exact_value(view: str) -> None:
    simulator = SepsisSimulator()
    returns = play(TabularEnv(simulator, horizon=20, view=view), 700)
    assert abs(returns.mean() - simulator.value(crl.Uniform(8), 20)) < 4 * returns.std() / np.sqrt(700)


def test_mean_return_and_steps_of_a_tiny_process() -> None:
    process = tiny_process()
    returns = play(TabularEnv(process, horizon=4), 3000)
    assert abs(returns.mean() - process.value(crl.Uniform(2), 4)) < 4 * returns.std() / np.sqrt(3000)
    endless = play(TabularEnv(process), 2000)
    assert abs(endless.mean() - process.value(crl.Uniform(2))) < 4 * endless.std() / np.sqrt(2000)


def test_one_step_has_the_law_of_the_process() -> None:
    process, env, n = tiny_process(), TabularEnv(tiny_process(), horizon=3), 4000
    law = np.zeros((2, 2, 3))
    env.reset(seed=0)
    for i in range(n):
        state, _ = env.reset()
        after, reward, *_ = env.step(i % 2)
        law[state, i % 2, after] += 1
        assert reward == [1.0, -1.0, 2.0][after]
    counts = law.sum(axis=2, keepdims=True)
    exact = process.dynamics.matrix.toarray().reshape(3, 2, 3)[:2]
    assert (np.abs(law / counts - exact) < 4 * np.sqrt(exact * (1 - exact) / counts)).all()
    assert abs(law[0].sum() / n - 0.6) < 4 * np.sqrt(0.24 / n)


def test_a_noisy_record_is_seen_with_its_noise() -> None:
    record = SepsisSimulator() | MeasurementError(0.4, ("heart_rate",))
    env, truth = TabularEnv(record, horizon=20), TabularEnv(record, horizon=20, view="full")
    assert env.observation_space.n == record.view().n_records  # type: ignore[attr-defined]
    column = record.view().column("heart_rate")
    seen = np.array([env.reset(seed=seed)[0] for seed in range(800)])
    states = np.array([truth.reset(seed=seed)[0] for seed in range(800)])
    features, before = record.view().features, record.view("full").features
    assert features is not None
    assert before is not None
    wrong = features[seen, column] != before[states, record.view("full").column("heart_rate")]
    assert abs(wrong.mean() - 0.4) < 4 * np.sqrt(0.24 / 800)
    hidden = TabularEnv(SepsisSimulator() | HideVariables("diabetes", "glucose"), horizon=20)
    assert hidden.observation_space.n == 144  # type: ignore[attr-defined]


def test_noise_of_the_rewards() -> None:
    noisy = TabularMDP([[[1.0]]], [0.5], [1.0], reward_noise=2.0)
    returns = play(TabularEnv(noisy, horizon=2), 1000) / 2
    assert abs(returns.mean() - 0.5) < 4 * np.sqrt(2 / 1000)
    assert 1.2 < returns.std() < 1.65


def test_mean_return_of_the_tumour_is_the_simulated_value() -> None:
    simulator = TumourSimulator()
    returns = play(TumourEnv(simulator, horizon=3), 1500)
    truth = simulator.value(crl.Uniform(4), horizon=3, n=40_000)
    assert abs(returns.mean() - truth.value) < 4 * np.hypot(returns.std() / np.sqrt(1500), truth.stderr)


@one_of_a_kind
def test_seeds_reproduce_and_differ(name: str) -> None:
    def course(seed: int) -> list[Any]:
        env = gymnasium.make(name)
        out = [env.reset(seed=seed)[0]]
        over, rng = False, np.random.default_rng(0)
        while not over and len(out) < 30:
            seen, reward, terminated, truncated, _ = env.step(rng.integers(env.action_space.n))  # type: ignore[attr-defined]
            out += [seen, reward]
            over = terminated or truncated
        return out

    def same(one: list[Any], other: list[Any]) -> bool:
        return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))

    first = course(3)
    assert same(first, course(3))
    if name != "causalrl/Chain-v0":  # which leaves nothing but the actions to chance
        assert not same(first, course(4))


def test_episodes_end_where_the_process_does_or_at_the_horizon() -> None:
    process = tiny_process()
    env = TabularEnv(process, horizon=5)
    kinds = set()
    for seed in range(60):
        env.reset(seed=seed)
        for t in range(1, 6):
            state, _, terminated, truncated, info = env.step(0)
            assert info == {}
            assert terminated == bool(process.terminal[state])
            assert truncated == (t == 5 and not terminated)
            if terminated or truncated:
                kinds.add((terminated, truncated))
                with pytest.raises(ResetNeeded, match=r"episode has t\w+; call reset\(\) before step"):
                    env.step(0)
                break
    assert kinds == {(True, False), (False, True)}


def test_a_tumour_ends_in_death_or_recovery() -> None:
    env, ends = TumourSimulator().env(), set()
    for seed in range(60):
        env.reset(seed=seed)
        terminated = truncated = False
        while not (terminated or truncated):
            seen, _, terminated, truncated, _ = env.step(0)
            assert env.observation_space.contains(seen)
        ends.add((terminated, truncated))
        assert terminated == (seen[0] in (0.0, 13.0))
        assert truncated == (seen[3] == 60 and not terminated)
    assert ends == {(True, False), (False, True)}


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda env: env.step(2), InvalidAction, "action: 2 is not in Discrete(2)"),
        (lambda env: env.step(0.5), InvalidAction, "action: 0.5"),
        (lambda env: TabularEnv(tiny_process()).step(0), ResetNeeded, "not started; call reset()"),
        (lambda env: TabularEnv(tiny_process(), render_mode="rgb_array").render(), ResetNeeded, "call reset()"),
        (lambda env: env.render(), DataError, "render_mode='rgb_array'"),
        (lambda env: env.reset(options={"state": 3}), DataError, "options: state"),
        (lambda env: TabularEnv(tiny_process(), render_mode="human"), DataError, "render_mode: 'human'; pass 'rgb_array'"),
        (lambda env: TabularEnv(tiny_process(), horizon=0), EstimandError, "horizon: 0"),
        (lambda env: TabularEnv(tiny_process(), view="hidden"), EstimandError, "view: 'hidden'; pass 'full'"),
        (lambda env: TumourEnv(horizon=61), EstimandError, "60 at most"),
        (lambda env: gymnasium.make("causalrl/Sepsis-v0", horizons=3), TypeError, "unexpected keyword argument 'horizons'"),
    ],
)
def test_bad_input_names_the_mend(call: Any, error: type[Exception], text: str) -> None:
    env = TabularEnv(tiny_process(), horizon=4)
    env.reset(seed=0)
    with pytest.raises(error) as raised:
        call(env)
    assert text in str(raised.value)


@one_of_a_kind
def test_rendered_frames_have_one_size(name: str) -> None:
    pytest.importorskip("matplotlib")
    env = gymnasium.make(name, render_mode="rgb_array")
    env.reset(seed=2)
    frames = [env.render()]
    env.step(env.action_space.sample())
    frames.append(env.render())
    assert frames[0].shape == frames[1].shape == (*frames[0].shape[:2], 3)  # type: ignore[union-attr]
    assert frames[0].dtype == frames[1].dtype == np.uint8  # type: ignore[union-attr]
    assert not np.array_equal(frames[0], frames[1])


def test_the_figure_of_a_patient() -> None:
    pytest.importorskip("matplotlib")
    simulator = SepsisSimulator()
    data = simulator.sample(30, simulator.physician(0.3), horizon=20, seed=0)
    i = int(np.flatnonzero((data.lengths > 3) & (data.end == crl.End.TERMINATED))[0])
    rows = slice(data.offsets[i], data.offsets[i + 1])
    figure = plot_trajectory(data, i, simulator.view().feature_names, SEPSIS_LABELS)
    axes, steps = figure.axes, data.lengths[i]
    titles = [ax.get_ylabel() for ax in axes]
    assert titles == ["diabetes", "heart rate", "systolic pressure", "oxygen saturation", "glucose", "", "reward"]
    assert data.state_features is not None
    assert data.final_observations is not None
    course = data.state_features[np.append(data.observations[rows], data.final_observations[i])]
    (stairs,) = axes[2].patches
    np.testing.assert_array_equal(stairs.get_data().values, course[:, 2])
    assert [text.get_text() for text in axes[2].get_yticklabels()] == ["low", "normal", "high"]
    bars = np.array([bar.get_height() > 0 for bar in axes[5].patches]).reshape(3, steps)
    codes = data.actions[rows]
    np.testing.assert_array_equal(bars, [codes // 4, codes // 2 % 2, codes % 2])
    assert f"terminated at t = {steps}" in axes[-1].texts[0].get_text()
    assert f"sum of rewards {data.rewards[rows].sum():.3g}" in axes[-1].texts[0].get_text()


def test_figures_of_vectors_bare_states_and_many_variables() -> None:
    pytest.importorskip("matplotlib")
    tumours = TumourSimulator().sample(2, horizon=9, seed=1)
    assert len(plot_trajectory(tumours, 1, labels=TUMOUR_LABELS).axes) == 5
    assert len(plot_trajectory(tumours, 1).axes) == 8
    bare = plot_trajectory(ragged_data(), 2)
    assert [ax.get_ylabel() for ax in bare.axes] == ["state", "", "reward"]
    wide = crl.Trajectories.from_arrays(np.random.default_rng(0).normal(size=(5, 20)), [0, 1, 0, 1, 2], np.ones(5), [0, 2, 5])
    figure = plot_trajectory(wide, 1)
    assert len(figure.axes) == 4  # map, its colours, treatments, rewards
    assert [text.get_text() for text in figure.axes[1].texts] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"trajectory": 60}, "trajectory: 60, but the data have trajectories 0 to 59"),
        ({"trajectory": -1}, "trajectory: -1"),
        ({"labels": Labels(treatments={"drug": (1.0,)})}, "treatments: 'drug' has 1 amounts, but action 1 occurs"),
    ],
)
def test_a_figure_of_what_is_not_there(arguments: dict[str, Any], text: str) -> None:
    pytest.importorskip("matplotlib")
    data = ragged_data()
    treated = data.steps().trajectory[data.actions == 1][0]
    with pytest.raises(DataError) as raised:
        plot_trajectory(data, **{"trajectory": int(treated), **arguments})
    assert text in str(raised.value)
    simulator = SepsisSimulator()
    record = simulator.sample(2, crl.Uniform(8), horizon=2)
    with pytest.raises(DataError, match="names: 2 for 8 variables"):
        plot_trajectory(record, 0, ("a", "b"))


def test_a_forbidden_action_is_refused() -> None:
    simulator = ICUSepsis("raise_exception")
    env = TabularEnv(simulator, 5)
    state, _ = env.reset(seed=0)
    forbidden, allowed = np.flatnonzero(~simulator.admissible[state]), np.flatnonzero(simulator.admissible[state])
    with pytest.raises(InvalidAction, match=rf"action: {forbidden[0]} is forbidden in state {state}; only \[{allowed[0]}"):
        env.step(forbidden[0])
    env.step(allowed[0])
