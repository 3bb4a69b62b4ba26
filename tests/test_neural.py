"""`NeuralQ`: fitted Q-evaluation with networks, against counts, closed forms and the tabular model."""

from __future__ import annotations

import random
import sys
import warnings

import numpy as np
import pytest

import causalrl as crl
from causalrl.data import Steps
from causalrl.nuisances.neural import NeuralQ
from causalrl.nuisances.value import Target, ValueProblem
from simulators import Chain, SepsisSimulator
from tests.conftest import TARGET, ragged_data

pytestmark = pytest.mark.slow  # PyTorch takes seconds to import

torch = pytest.importorskip("torch")
pytest.importorskip("d3rlpy")

QUICK = NeuralQ(steps=5)
"""Enough where two or three states leave the output layer nothing to miss."""


def problem(data: crl.Trajectories, policy: crl.Policy, horizon: int | None, discount: float = 1.0) -> ValueProblem:
    steps = data.steps(horizon)
    return ValueProblem(Target(policy, steps), np.ones(len(steps)), discount, horizon, seed=3)


def q_of_counts(steps: Steps, table: np.ndarray, to_go: int, discount: float = 1.0) -> np.ndarray:
    """(S, A) fitted Q of the saturated regression: cell means of the Bellman targets."""
    data = steps.data
    q = np.zeros((data.n_states, data.n_actions))
    for _ in range(to_go):
        value = (table * q).sum(axis=1)
        totals, counts = np.zeros_like(q), np.zeros_like(q)
        for s, a, r, goes_on, after in zip(
            steps.observations, steps.actions, steps.rewards, steps.continues, steps.next_observations, strict=True
        ):
            totals[s, a] += r + discount * (value[after] if goes_on else 0.0)
            counts[s, a] += 1
        q = np.divide(totals, counts, out=np.zeros_like(q), where=counts > 0)
    return q


def test_a_saturated_network_is_the_table_of_cell_means() -> None:
    data = ragged_data(300)
    fitted = QUICK.fit(problem(data, TARGET, 4))
    live = np.array([0, 1])
    for t in range(4):
        assert fitted.q(live, np.full(2, t)) == pytest.approx(q_of_counts(data.steps(4), TARGET.table, 4 - t)[:2], abs=2e-3)
    assert len(fitted.trace) == 4


def test_the_stationary_fit_reaches_the_fixed_point_of_the_cell_means() -> None:
    data = ragged_data(300)
    oracle = q_of_counts(data.steps(None), TARGET.table, 300, 0.9)[:2]
    fitted = QUICK.fit(problem(data, TARGET, None, 0.9))
    assert fitted.q(np.array([0, 1]), np.zeros(2, int)) == pytest.approx(oracle, abs=1e-3)
    assert not fitted.notes
    assert fitted.trace[-1] < 2e-5 < fitted.trace[0]


def test_truncated_records_go_on_and_terminated_ones_do_not() -> None:
    cut = ragged_data(300, horizon=2)
    assert {*cut.end} == {crl.End.TERMINATED, crl.End.TRUNCATED}
    goal = crl.PolicyValue(TARGET, discount=0.9)
    neural, tabular = (crl.FQE(q).estimate(cut, goal).value for q in (QUICK, crl.TabularQ()))
    assert neural == pytest.approx(tabular, abs=1e-3)


@pytest.mark.parametrize(("p_target", "truth"), [(0.3, 3.239), (0.2, 4.463)])
def test_a_stochastic_target_is_not_evaluated_at_its_mode(p_target: float, truth: float) -> None:
    """Trap B6: the greedy action of both targets is to go on, whose value is 10, what d3rlpy's FQE would give."""
    chain = Chain(p_target=p_target)
    data = chain.sample(500, chain.behavior(), horizon=10, seed=0)
    assert crl.FQE(QUICK).estimate(data, crl.PolicyValue(chain.target(), horizon=10)).value == pytest.approx(truth, abs=2e-3)
    assert crl.FQE(QUICK).estimate(data, crl.PolicyValue(crl.Always(1), horizon=10)).value == pytest.approx(10, abs=5e-3)


def curved(n: int = 400) -> crl.Trajectories:
    rng = np.random.default_rng(0)
    x, a = rng.uniform(-2, 2, size=(n, 1)), rng.integers(0, 2, n)
    return crl.Trajectories.from_cross_section(x, a, np.abs(x[:, 0]) * a + rng.normal(0, 0.1, n), propensity=np.full(n, 0.5))


def test_a_network_fits_what_no_line_does() -> None:
    study = curved()
    fitted = NeuralQ(steps=50).fit(problem(study, crl.Uniform(2), None))
    grid = np.linspace(-1.8, 1.8, 9)[:, None]
    truth = np.column_stack([np.zeros(9), np.abs(grid[:, 0])])
    assert np.abs(fitted.q(grid, np.zeros(9, int)) - truth).max() < 0.15


def test_units_do_not_matter() -> None:
    study = curved()
    other = crl.Trajectories.from_cross_section(1e6 + 1e4 * study.observations, study.actions, 1e5 * study.rewards)
    here, there = (crl.FQE(QUICK).estimate(data, crl.Uniform(2)).value for data in (study, other))
    assert there == pytest.approx(1e5 * here, rel=1e-3)


def test_the_same_seed_gives_the_same_bits_whatever_the_threads_and_nothing_global_moves() -> None:
    data, goal = ragged_data(80), crl.PolicyValue(TARGET, horizon=2)
    before = torch.get_rng_state(), np.random.get_state()[1], random.getstate(), torch.get_num_threads()  # noqa: NPY002
    first = crl.FQE(QUICK).estimate(data, goal, seed=1).value
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert (random.getstate(), torch.get_num_threads()) == before[2:]
    torch.set_num_threads(2)
    try:
        assert crl.FQE(QUICK).estimate(data, goal, seed=1).value == first
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before[3])
    assert crl.FQE(QUICK).estimate(data, goal, seed=2).value != first


def test_weights_are_multiplicities_and_rows_of_weight_zero_take_no_part() -> None:
    data = ragged_data(200)
    weights = np.where(data.steps(3).trajectory < 100, 2.0, 0.0)
    whole = problem(data, TARGET, 3)
    at = np.array([0, 1]), np.zeros(2, int)
    half = QUICK.fit(ValueProblem(whole.target, weights, 1.0, 3, 3)).q(*at)
    assert half == pytest.approx(QUICK.fit(problem(data.take(np.arange(100)), TARGET, 3)).q(*at), abs=2e-3)


def test_doubly_robust_cross_fits_it() -> None:
    data = ragged_data(300)
    estimate = crl.DR(q=QUICK).estimate(data, crl.PolicyValue(TARGET, horizon=2))
    assert estimate.diagnostics["folds"] == (1, 5)
    tabular = crl.DR(q=crl.TabularQ(), folds=5).estimate(data, crl.PolicyValue(TARGET, horizon=2))
    assert estimate.value == pytest.approx(tabular.value, abs=2e-3)
    assert estimate.stderr == pytest.approx(tabular.stderr, rel=2e-2)


def test_a_fit_that_still_moves_says_so() -> None:
    with pytest.warns(crl.errors.ConvergenceWarning, match="still moving"):
        crl.FQE(NeuralQ(steps=5, max_iterations=3)).estimate(ragged_data(80), crl.PolicyValue(TARGET, discount=0.9))


def test_another_encoder() -> None:
    from d3rlpy.models import VectorEncoderFactory

    data, goal = ragged_data(300), crl.PolicyValue(TARGET, horizon=2)
    model = NeuralQ(VectorEncoderFactory([16], activation="tanh", use_layer_norm=True), steps=5)
    assert crl.FQE(model).estimate(data, goal).value == pytest.approx(
        crl.FQE(crl.TabularQ()).estimate(data, goal).value, abs=5e-3
    )


def test_an_action_never_logged_has_no_value() -> None:
    data = crl.Trajectories.from_arrays([0, 0, 0], [0, 0, 1], [1.0, 1.0, 2.0], [0, 1, 2, 3], n_actions=3)
    assert np.isnan(QUICK.fit(problem(data, crl.Uniform(3), None)).q(np.array([0]), np.array([0]))[0, 2])
    with pytest.raises(crl.errors.EstimandError, match="no Q for action 2"):
        crl.FQE(QUICK).estimate(data, crl.Uniform(3))


def test_a_divergent_iteration_says_so() -> None:
    """As in Tsitsiklis & Van Roy (1997): feature 1 is followed by 2, and 2 by 4, so that a linear Q doubles in every backup."""
    from d3rlpy.models import VectorEncoderFactory

    data = crl.Trajectories.from_arrays(
        [[1.0], [2.0]], [0, 0], [1.0, 1.5], [0, 1, 2], end=["truncated"] * 2, final_observations=[[2.0], [4.0]]
    )
    model = NeuralQ(VectorEncoderFactory([4], exclude_last_activation=True), steps=5)
    with pytest.warns(crl.errors.ConvergenceWarning):
        crl.FQE(model).estimate(data, crl.PolicyValue(crl.Always(0), discount=0.99))


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch_size": 1.5}, {"max_iterations": 0}, {"learning_rate": 0.0}, {"learning_rate": np.nan}]
)
def test_numbers_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(crl.errors.DataError, match=next(iter(wrong))):
        NeuralQ(**wrong)  # type: ignore[arg-type]


def test_an_encoder_is_a_factory() -> None:
    with pytest.raises(crl.errors.EstimandError, match="no d3rlpy encoder factory"):
        crl.FQE(NeuralQ([64, 64])).estimate(ragged_data(20), crl.PolicyValue(TARGET, horizon=1))


def test_without_d3rlpy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "d3rlpy", None)
    with pytest.raises(crl.errors.MissingExtraError, match=r"causalrl-ope\[d3rlpy\]"):
        QUICK.fit(problem(ragged_data(20), TARGET, 1))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_it_agrees_with_the_tabular_model_on_sepsis(seed: int) -> None:
    sim = SepsisSimulator()
    data = sim.sample(1_000, sim.physician(0.3), horizon=20, seed=seed)
    goal = crl.PolicyValue(sim.physician(0.15), horizon=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", crl.errors.SupportWarning)
        table, network = (crl.FQE(q).estimate(data, goal) for q in (crl.TabularQ(), NeuralQ()))
    assert abs(network.value - table.value) < 2 * table.stderr
    assert abs(network.value - sim.value(goal.policy, horizon=20)) < 3 * table.stderr
    table, network = (crl.DR(q=q).estimate(data, goal) for q in (crl.TabularQ(), NeuralQ()))
    assert abs(network.value - table.value) < 2 * table.stderr
    assert network.stderr < 1.1 * table.stderr
