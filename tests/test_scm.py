"""Structural models against naive rejection sampling, closed forms and the process itself."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import chi2

import causalrl as crl
from causalrl.data import End, Trajectories
from causalrl.errors import DataError, EstimandError, PolicyError
from causalrl.policies import Always, TabularPolicy, Uniform
from simulators import SepsisSimulator, TabularMDP
from simulators.scm.model import FactorWise, GumbelMax, Noise, StructuralModel
from tests.conftest import output_whatever_runs_it

LEVELS = (2, 3, 3, 2, 5, 2, 2, 2)
NOISES = pytest.mark.parametrize("noise", [GumbelMax(), FactorWise()], ids=repr)
# Probabilities of four next states: as logged, and under the other action.
ROWS = [
    ([0.5, 0.3, 0.2, 0.0], [0.1, 0.2, 0.3, 0.4]),
    ([0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25]),
    ([0.2, 0.2, 0.3, 0.3], [0.6, 0.0, 0.1, 0.3]),
]


def one_step(rows: np.ndarray) -> TabularMDP:
    """State 0 decides among `rows` (A, S); every other state, numbered from 1, is an end; the reward is the end's number."""
    n_actions, n_ends = rows.shape
    transitions = np.zeros((n_ends + 1, n_actions, n_ends + 1))
    transitions[0, :, 1:] = rows
    transitions[np.arange(1, n_ends + 1), :, np.arange(1, n_ends + 1)] = 1
    return TabularMDP(transitions, np.arange(n_ends + 1.0), np.eye(n_ends + 1)[0], np.arange(n_ends + 1) > 0)


def observed(process: TabularMDP, state: int, action: int, successors: np.ndarray) -> Trajectories:
    """Records of one step."""
    n = len(successors)
    return Trajectories.from_arrays(
        np.full(n, state),
        np.full(n, action),
        np.zeros(n),
        np.arange(n + 1),
        end=np.where(process.terminal[successors], End.TERMINATED, End.TRUNCATED),
        final_observations=successors,
        n_actions=process.n_actions,
        n_states=process.n_states,
    )


def gumbel_closed_form(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(S, S) exact law of the counterfactual outcome k under q given the outcome o under p, for Gumbel-max noise.

    With exponential clocks (T for o, e_j for the others) outcome j arrives at (p_j T + e_j) / q_j, that is T times y_j:
    P(k | o) = integral from p_k / q_k to p_o / q_o of q_k / (1 + sum over j != o of (q_j y - p_j)^+)^2 dy, in pieces
    between the ratios p_j / q_j; o stays with probability 1 / (1 + sum of (q_j p_o / q_o - p_j)^+).
    """
    law = np.full((len(p), len(p)), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(q > 0, p / q, np.inf)
    for o in np.flatnonzero(p > 0):
        others = (np.arange(len(p)) != o) & (q > 0)
        cuts = np.unique(np.append(np.minimum(ratio[others], ratio[o]), ratio[o]))
        law[o] = 0.0
        for low, high in pairwise(cuts):
            ahead = others & (ratio <= low)
            a, b = q[ahead].sum(), p[ahead].sum()
            law[o, ahead] += q[ahead] / a * (1 / (1 + a * low - b) - (1 / (1 + a * high - b) if high < np.inf else 0))
        if q[o] > 0:
            law[o, o] = 1 / (1 + np.maximum(q[others] * ratio[o] - p[others], 0).sum())
    return law


def factor_closed_form(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """(L, L) exact law of one factor's counterfactual level given its level: the overlap of their intervals."""
    below_p, below_q = np.cumsum(p) - p, np.cumsum(q) - q
    overlap = np.minimum(below_p[:, None] + p[:, None], below_q + q) - np.maximum(below_p[:, None], below_q)
    with np.errstate(invalid="ignore"):
        return np.maximum(overlap, 0) / p[:, None]


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> tuple[float, int]:
    """Statistic and degrees of freedom; cells expecting fewer than 5 are pooled."""
    assert not counts[probabilities < 1e-12].any()
    expected = counts.sum() * probabilities
    rare = expected < 5
    seen = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    used = expected > 0
    return float(((seen[used] - expected[used]) ** 2 / expected[used]).sum()), int(used.sum()) - 1


def same_law(first: np.ndarray, second: np.ndarray) -> float:
    """p-value of two counts of the same cells having one law."""
    pooled = first + second
    used = pooled >= 10
    rows = np.stack([np.append(c[used], c[~used].sum()) for c in (first, second)])
    rows = rows[:, rows.sum(axis=0) > 0]
    expected = rows.sum(axis=1, keepdims=True) * rows.sum(axis=0) / rows.sum()
    freedom = rows.shape[1] - 1
    return float(chi2.sf(((rows - expected) ** 2 / expected).sum(), freedom)) if freedom else 1.0


def row_of(simulator: SepsisSimulator, state: int, action: int) -> np.ndarray:
    return np.asarray(simulator.mdp.dynamics.matrix[[8 * state + action]].toarray()[0])


def returns(data: Trajectories) -> np.ndarray:
    return np.add.reduceat(data.rewards, data.offsets[:-1])


# --- one step ---


@pytest.mark.parametrize("rows", ROWS)
def test_gumbel_posterior_is_that_of_naive_rejection(rows: tuple[list[float], list[float]]) -> None:
    p, q = np.array(rows)
    process, rng = one_step(np.stack([p, q])), np.random.default_rng(1)
    model = StructuralModel(process, GumbelMax())
    with np.errstate(divide="ignore"):
        noise = rng.gumbel(size=(200_000, 4))
        factual, other = (np.log(p) + noise).argmax(axis=1), (np.log(q) + noise).argmax(axis=1)
    exact = gumbel_closed_form(p, q)
    for outcome in np.flatnonzero(p > 0):
        naive = np.bincount(other[factual == outcome], minlength=4)
        data = observed(process, 0, 0, np.array([outcome + 1]))
        ours = np.bincount(model.counterfactual(data, Always(1), samples=60_000).final_observations - 1, minlength=4)
        assert same_law(naive, ours) > 1e-3
        for counts in (naive, ours):
            statistic, freedom = chi_square(counts, exact[outcome])
            assert statistic == 0 or chi2.sf(statistic, freedom) > 1e-3


@pytest.mark.parametrize("rows", ROWS)
def test_closed_forms_are_couplings(rows: tuple[list[float], list[float]]) -> None:
    """The oracles themselves: laws, whose mean over the observed outcome is the interventional law."""
    p, q = np.array(rows)
    for exact in (gumbel_closed_form(p, q), factor_closed_form(p, q)):
        np.testing.assert_allclose(exact[p > 0].sum(axis=1), 1, atol=1e-12)
        np.testing.assert_allclose(p[p > 0] @ exact[p > 0], q, atol=1e-12)


def test_gumbel_is_counterfactually_stable() -> None:
    """An unobserved outcome replaces the observed one only if its odds rose (Oberst & Sontag 2019)."""
    rng = np.random.default_rng(3)
    rows = rng.dirichlet(np.full(5, 0.7), size=30) * (rng.random((30, 5)) < 0.8)
    rows = rows[rows.sum(axis=1) > 0] / rows.sum(axis=1, keepdims=True)[rows.sum(axis=1) > 0]
    process = one_step(rows)
    data = process.sample(20_000, Uniform(len(rows)), 1, seed=0)
    cf = StructuralModel(process, GumbelMax()).counterfactual(data, Uniform(len(rows)), samples=5)
    before, after = rows[data.actions].repeat(5, axis=0), rows[cf.actions]
    o, k, each = data.final_observations.repeat(5) - 1, cf.final_observations - 1, np.arange(cf.n)
    with np.errstate(divide="ignore"):
        rise_of_new, rise_of_old = after[each, k] / before[each, k], after[each, o] / before[each, o]
    changed = k != o
    assert changed.sum() > 20_000
    assert (rise_of_new > rise_of_old)[changed].all()


def factor_row(simulator: SepsisSimulator, state: int, action: int) -> list[np.ndarray]:
    row = row_of(simulator, state, action).reshape(LEVELS)
    return [row.sum(axis=tuple(axis for axis in range(8) if axis != f)) for f in range(8)]


# Diabetic, normal heart rate, low pressure and oxygen, normal glucose: logged without treatment, then all three.
STATE, LOGGED, OTHER = np.ravel_multi_index((1, 1, 0, 0, 2, 0, 0, 0), LEVELS), 0, 7


def exact_step(noise: Noise, simulator: SepsisSimulator, successor: int) -> np.ndarray:
    """(S,) exact law of the counterfactual successor of (STATE, LOGGED) -> successor under OTHER."""
    if isinstance(noise, GumbelMax):
        return gumbel_closed_form(row_of(simulator, STATE, LOGGED), row_of(simulator, STATE, OTHER))[successor]
    law = np.ones(1)
    levels = np.unravel_index(successor, LEVELS)
    pairs = zip(factor_row(simulator, STATE, LOGGED), factor_row(simulator, STATE, OTHER), levels, strict=True)
    for p, q, level in pairs:
        law = np.multiply.outer(law, factor_closed_form(p, q)[level])
    return law.reshape(-1)


@NOISES
def test_a_step_of_sepsis_is_exact(noise: Noise) -> None:
    simulator = SepsisSimulator()
    model, statistic, freedom = StructuralModel(simulator, noise), 0.0, 0
    for successor in np.flatnonzero(row_of(simulator, STATE, LOGGED))[::3]:
        data = observed(simulator.mdp, STATE, LOGGED, np.array([successor]))
        cf = model.counterfactual(data, Always(OTHER), samples=20_000, seed=int(successor))
        counts = np.bincount(cf.final_observations, minlength=1440)
        one, df = chi_square(counts, exact_step(noise, simulator, successor))
        statistic, freedom = statistic + one, freedom + df
    assert 1e-4 < chi2.sf(statistic, freedom) < 1 - 1e-4


def test_mechanisms_of_one_process_differ_and_agree_on_the_intervention() -> None:
    """Counterfactuals depend on the structural model: the same P, and another answer to the same question."""
    simulator = SepsisSimulator()
    p, q = row_of(simulator, STATE, LOGGED), row_of(simulator, STATE, OTHER)
    laws = [
        np.stack([exact_step(noise, simulator, successor) for successor in np.flatnonzero(p)])
        for noise in (GumbelMax(), FactorWise())
    ]
    distance = np.abs(laws[0] - laws[1]).sum(axis=1) / 2
    assert distance.max() > 0.5
    for law in laws:
        np.testing.assert_allclose(p[p > 0] @ law, q, atol=1e-12)


@pytest.mark.slow
@NOISES
def test_mean_over_observed_outcomes_is_the_interventional_law(noise: Noise) -> None:
    simulator, rng = SepsisSimulator(), np.random.default_rng(4)
    model, statistic, freedom = StructuralModel(simulator, noise), 0.0, 0
    for state in rng.choice(np.flatnonzero(~simulator.mdp.terminal), 25, replace=False):
        logged, other = rng.choice(8, 2, replace=False)
        data = simulator.mdp.starting(np.eye(1440)[state]).sample(4000, Always(logged), 1, seed=int(state))
        cf = model.counterfactual(data, Always(other), seed=int(state))
        counts = np.bincount(cf.final_observations, minlength=1440)
        one, df = chi_square(counts, row_of(simulator, state, other))
        statistic, freedom = statistic + one, freedom + df
    assert freedom > 100
    assert 1e-4 < chi2.sf(statistic, freedom) < 1 - 1e-4


# --- trajectories ---


@NOISES
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_logged_actions_reproduce_the_record(noise: Noise, version: str) -> None:
    simulator = SepsisSimulator(version)
    policy = simulator.optimal_policy(0.99)
    data = simulator.sample(2000, policy, 20, seed=5)
    model = StructuralModel(simulator, noise)
    cf = model.counterfactual(data, policy, seed=1)
    for name in ("observations", "actions", "rewards", "offsets", "end", "final_observations", "behavior_probabilities"):
        np.testing.assert_array_equal(getattr(cf, name), getattr(data, name))
    longer, cut = model.counterfactual(data, policy, horizon=30), model.counterfactual(data, policy, horizon=6)
    np.testing.assert_array_equal(longer.lengths[data.end == End.TERMINATED], data.lengths[data.end == End.TERMINATED])
    assert (longer.lengths[data.end == End.TRUNCATED] > 20).any()
    np.testing.assert_array_equal(longer.steps(20).observations, data.observations)
    np.testing.assert_array_equal(cut.observations, data.steps(6).observations)


@NOISES
def test_a_trajectory_follows_the_record_until_the_first_other_action(noise: Noise) -> None:
    simulator = SepsisSimulator()
    data = simulator.sample(500, simulator.physician(0.3), 20, seed=6)
    cf = StructuralModel(simulator, noise).counterfactual(data, simulator.physician(0.2), samples=3)
    apart = 0
    for lane in range(cf.n):
        record, other = (slice(*source.offsets[[i, i + 1]]) for source, i in ((data, lane // 3), (cf, lane)))
        length = min(data.lengths[lane // 3], cf.lengths[lane])
        same = data.actions[record][:length] == cf.actions[other][:length]
        until = length if same.all() else int(np.argmin(same)) + 1
        np.testing.assert_array_equal(data.observations[record][:until], cf.observations[other][:until])
        apart += until < length
    assert apart > 500


@NOISES
@pytest.mark.parametrize("logged_horizon", [20, 6])
def test_mean_counterfactual_return_is_the_exact_value(noise: Noise, logged_horizon: int) -> None:
    """Also where the records stop before the horizon: the noise after them is that of the process."""
    simulator = SepsisSimulator("v2")
    behavior, target = simulator.physician(0.3), simulator.physician(0.15)
    data = simulator.sample(20_000, behavior, logged_horizon, seed=7)
    cf = StructuralModel(simulator, noise).counterfactual(data, target, samples=2, horizon=20)
    patient = np.bincount(cf.clusters, returns(cf)) / 2
    exact = simulator.value(target, 20)
    assert abs(patient.mean() - exact) < 4 * patient.std() / np.sqrt(data.n)
    assert abs(exact - simulator.value(behavior, 20)) > 8 * patient.std() / np.sqrt(data.n)
    estimate = crl.OnPolicyMean().estimate(cf, crl.PolicyValue(target, horizon=20))
    assert estimate.stderr == pytest.approx(patient.std(ddof=1) / np.sqrt(data.n), rel=1e-3)


@NOISES
def test_interventional_samples_have_the_law_of_the_process(noise: Noise) -> None:
    simulator = SepsisSimulator("v1")
    policy = simulator.physician(0.3)
    data = StructuralModel(simulator, noise).sample(40_000, policy, 20, seed=8)
    exact = simulator.occupancy(policy, 20)
    steps = data.steps()
    for t in (0, 1, 7, 19):
        now = steps.time == t
        counts = np.bincount(8 * data.observations[now] + data.actions[now], minlength=11_520)
        cells = np.append(exact[t].ravel(), max(1 - exact[t].sum(), 0))
        statistic, freedom = chi_square(np.append(counts, data.n - counts.sum()), cells)
        assert 1e-4 < chi2.sf(statistic, freedom) < 1 - 1e-4


def outcomes(data: Trajectories, other: Trajectories) -> np.ndarray:
    """(9,) counts of died, neither, discharged in two sets of the same patients."""
    return np.bincount((3 * (returns(data) + 1) + returns(other) + 1).astype(int), minlength=9)


@NOISES
def test_counterfactuals_have_the_joint_law_of_the_patients_own_other_trajectory(noise: Noise) -> None:
    """`sample` knows the noise of every patient, `counterfactual` sees the record only: same joint law with the record."""
    simulator = SepsisSimulator()
    model, target = StructuralModel(simulator, noise), simulator.optimal_policy(0.99)
    data = model.sample(30_000, simulator.physician(0.4), 12, seed=9)
    truth = model.sample(30_000, target, 12, seed=9)
    assert same_law(outcomes(data, truth), outcomes(data, model.counterfactual(data, target, seed=2))) > 1e-3
    wrong = StructuralModel(simulator, FactorWise() if isinstance(noise, GumbelMax) else GumbelMax())
    assert same_law(outcomes(data, truth), outcomes(data, wrong.counterfactual(data, target, seed=2))) < 1e-6


# --- what is returned ---


@NOISES
def test_result_is_a_data_set_of_the_same_patients(noise: Noise) -> None:
    simulator = SepsisSimulator()
    data = simulator.sample(40, Uniform(8), 10, seed=10)
    labelled = Trajectories.from_arrays(
        data.observations,
        data.actions,
        np.zeros(len(data.rewards)),  # not used
        data.offsets,
        end=np.where(data.end == End.TRUNCATED, End.CENSORED, End.TERMINATED),
        final_observations=data.final_observations,
        n_states=1440,
        ids=[f"patient {i}" for i in range(40)],
        clusters=np.arange(40) // 2,
    )
    policy = simulator.physician(0.3)
    cf = StructuralModel(simulator, noise).counterfactual(labelled, policy, samples=3, horizon=15)
    assert cf.n == 120
    assert cf.ids.tolist() == [f"patient {i}" for i in range(40) for _ in range(3)]
    np.testing.assert_array_equal(cf.clusters, np.arange(120) // 6)
    np.testing.assert_array_equal(cf.observations[cf.offsets[:-1]], data.observations[data.offsets[:-1]].repeat(3))
    np.testing.assert_array_equal(cf.behavior_probabilities, policy.table[cf.observations, cf.actions])
    np.testing.assert_array_equal(cf.end == End.TERMINATED, simulator.mdp.terminal[cf.final_observations])
    np.testing.assert_array_equal(cf.lengths[cf.end == End.TRUNCATED], 15)
    np.testing.assert_array_equal(cf.state_features, simulator.mdp.state_features)
    rewards = simulator.mdp.dynamics.reward_matrix
    states = 8 * cf.observations + cf.actions
    expected = rewards[states, cf.steps().next_observations] / simulator.mdp.dynamics.matrix[states, cf.steps().next_observations]
    np.testing.assert_allclose(cf.rewards, np.asarray(expected).reshape(-1), atol=1e-12)


def test_time_dependent_policies_and_views() -> None:
    simulator = SepsisSimulator()
    data = simulator.sample(200, Uniform(8), 10, seed=11)
    model = StructuralModel(simulator, GumbelMax())
    arms = np.eye(8)[np.arange(10) % 8][:, None].repeat(1440, axis=1)
    cf = model.counterfactual(data, TabularPolicy(arms))
    np.testing.assert_array_equal(cf.actions, cf.steps().time % 8)
    table = np.random.default_rng(0).dirichlet(np.ones(8), size=144)
    blind = model.counterfactual(data, TabularPolicy(table), sees="projected")
    lifted = model.counterfactual(data, TabularPolicy(simulator.tables(TabularPolicy(table), 10, sees="projected")[0]))
    assert blind.fingerprint == lifted.fingerprint


@NOISES
def test_noise_of_a_sample_is_the_same_under_every_policy_and_number_of_samples(noise: Noise) -> None:
    simulator = SepsisSimulator()
    data = simulator.sample(300, Uniform(8), 10, seed=12)
    model = StructuralModel(simulator, noise)
    one, three = (model.counterfactual(data, Always(4), samples, seed=3) for samples in (1, 3))
    assert three.take(np.arange(0, 900, 3)).fingerprint == one.fingerprint
    assert (three.lengths.reshape(-1, 3) != three.lengths[::3, None]).any()
    early = np.eye(8)[np.where(np.arange(10) < 3, 4, 0)][:, None].repeat(1440, axis=1)
    other = model.counterfactual(data, TabularPolicy(early), seed=3)
    np.testing.assert_array_equal(other.steps(4).observations, one.steps(4).observations)
    assert len(other.rewards) != len(one.rewards)
    assert model.counterfactual(data, Always(4), seed=4).fingerprint != one.fingerprint
    first, second = (model.sample(300, Always(arm), 3, seed=5) for arm in (0, 4))
    np.testing.assert_array_equal(first.observations[first.offsets[:-1]], second.observations[second.offsets[:-1]])


def test_the_order_of_stored_successors_does_not_matter() -> None:
    sorted_rows, mixed = (
        TabularMDP.from_sparse([0, 2, 4, 5, 6, 7, 8], successors, probabilities, rewards, [1, 0, 0], [False, True, True])
        for successors, probabilities, rewards in (
            ([1, 2, 1, 2, 1, 1, 2, 2], [0.3, 0.7, 0.6, 0.4, 1, 1, 1, 1], [5.0, 7, 5, 7, 0, 0, 0, 0]),
            ([2, 1, 1, 2, 1, 1, 2, 2], [0.7, 0.3, 0.6, 0.4, 1, 1, 1, 1], [7.0, 5, 5, 7, 0, 0, 0, 0]),
        )
    )
    data = sorted_rows.sample(500, Always(0), 1, seed=0)
    prints = {StructuralModel(m, GumbelMax()).counterfactual(data, Always(1)).fingerprint for m in (sorted_rows, mixed)}
    assert len(prints) == 1


def test_models_read_well() -> None:
    text = repr(StructuralModel(one_step(np.array([[0.5, 0.5]])), GumbelMax()))
    assert text == "StructuralModel(simulator=TabularMDP(n_states=3, n_actions=1, 2 terminal, 4 transitions), noise=GumbelMax())"


PROGRAM = """
from causalrl.policies import Uniform
from simulators import SepsisSimulator
from simulators.scm.model import FactorWise, GumbelMax, StructuralModel
simulator = SepsisSimulator()
data = simulator.sample(25, Uniform(8), 20, seed=9)
for noise in (GumbelMax(), FactorWise()):
    model = StructuralModel(simulator, noise)
    print(model.counterfactual(data, simulator.physician(0.2), samples=3, seed=2**70).fingerprint)
    print(model.sample(25, Uniform(8), 5).fingerprint)
"""


@pytest.mark.slow
def test_same_bits_for_any_thread_count_and_without_the_compiler() -> None:
    assert len(set(output_whatever_runs_it(PROGRAM).split())) == 4


# --- bad input ---


def records(**changed: object) -> Trajectories:
    """Two records of `one_step` with three ends, the first of them terminated."""
    arrays = {"observations": [0, 0], "actions": [0, 1], "rewards": [0.0, 0.0], "offsets": [0, 1, 2]}
    labels = {"end": [0, 0], "final_observations": [1, 3], "n_states": 4, "n_actions": 2, "ids": ["ann", "bob"]}
    return Trajectories.from_arrays(**{**arrays, **labels, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_states": 5}, "observations: the record has 5 states, the process 4 states; a counterfactual needs the whole state"),
        ({"observations": [[0.0], [0.0]], "final_observations": None, "n_states": None}, "the record has vectors of 1 columns"),
        ({"n_actions": 3}, "actions: the record has 3 actions, the process 2"),
        ({"actions": [[0.0], [1.0]], "n_actions": None}, "actions: the record has continuous actions"),
        ({"final_observations": None}, "final_observations: none"),
        ({"end": [0, 1], "final_observations": [1, 2]}, "row 1 .trajectory bob, step 0. goes from state 0, action 1 to state 2"),
        ({"final_observations": [1, 0]}, "final_observations: trajectory bob .row 1. is marked terminated, but 0 is no terminal"),
        ({"observations": [0, 2]}, "observations: row 1 .trajectory bob, step 0. decides in the terminal state 2"),
    ],
)
def test_records_that_do_not_fit(changed: dict[str, object], message: str) -> None:
    model = StructuralModel(one_step(np.array([[0.5, 0.3, 0.2], [0.5, 0.0, 0.5]])), GumbelMax())
    assert model.counterfactual(records(), Always(0)).n == 2
    with pytest.raises(DataError, match=message):
        model.counterfactual(records(**changed), Always(0))


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (DataError, {"samples": 0}, "samples: 0; pass a whole number, at least 1"),
        (DataError, {"samples": 1.5}, "samples: 1.5"),
        (DataError, {"seed": -1}, "seed: -1"),
        (EstimandError, {"horizon": 0}, "horizon: 0"),
        (EstimandError, {"sees": "half"}, "sees: 'half'; pass 'full'"),
        (PolicyError, {"policy": Uniform(3)}, "shape"),
        (PolicyError, {"policy": TabularPolicy(np.full((5, 2), 0.5))}, "its table has 5 states"),
    ],
)
def test_arguments_that_do_not_fit(error: type[Exception], arguments: dict[str, object], message: str) -> None:
    model = StructuralModel(one_step(np.array([[0.5, 0.3, 0.2], [0.5, 0.0, 0.5]])), GumbelMax())
    with pytest.raises(error, match=message):
        model.counterfactual(records(), **{"policy": Always(0), **arguments})  # type: ignore[arg-type]
    if "samples" not in arguments:
        with pytest.raises(error, match=message):
            model.sample(3, **{"policy": Always(0), "horizon": 2, **arguments})  # type: ignore[arg-type]


def test_an_interventional_sample_needs_a_size_and_a_horizon() -> None:
    model = StructuralModel(one_step(np.array([[0.5, 0.5]])), GumbelMax())
    with pytest.raises(DataError, match="n: 0"):
        model.sample(0, Always(0), 2)
    with pytest.raises(EstimandError, match="horizon: None; pass a whole number, at least 1"):
        model.sample(2, Always(0), None)  # type: ignore[arg-type]


def grid(features: object, stay: float = 0.25) -> TabularMDP:
    """Four live states with one action; from state 2 the first factor tells of the second, unless stay is 1/4."""
    transitions = np.full((4, 1, 4), 0.25)
    transitions[2, 0] = [stay, 0.5 - stay, 0.5 - stay, stay]
    return TabularMDP(transitions, np.zeros(4), np.full(4, 0.25), state_features=features)


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (grid(None), "state_features: the process has none, and FactorWise() needs the factors"),
        (grid([[0], [1], [2], [2]]), "state_features: 4 states, 3 of them different, of 3 combinations"),
        (grid([[0, 0], [0, 1], [1, 0], [2, 1]]), "state_features: 4 states, 4 of them different, of 6 combinations"),
        (grid([[0, 0], [0, 1], [1, 0], [1, 1]], 0.4), "transitions: the row of state 2, action 0 is not the product"),
        (grid([[0, 0], [0, 1], [1, 0], [1, 1]], 0.5), "transitions: the row of state 2, action 0 is not the product"),
    ],
)
def test_processes_without_factors(process: TabularMDP, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        StructuralModel(process, FactorWise())
    assert "or use GumbelMax()" in str(caught.value)
    assert StructuralModel(process, GumbelMax()).sample(5, Always(0), 3).n == 5


def test_factors_in_any_order_of_states() -> None:
    """The grid may number its states in any order, and levels may be any numbers."""
    process = grid([[7.5, -1], [2.0, 3], [7.5, 3], [2.0, -1]])
    data = process.sample(50, Always(0), 4, seed=0)
    assert StructuralModel(process, FactorWise()).counterfactual(data, Always(0), samples=2).n == 100


def test_things_that_are_no_model() -> None:
    process = one_step(np.array([[0.5, 0.5]]))
    with pytest.raises(EstimandError, match="is no noise mechanism; pass GumbelMax"):
        StructuralModel(process, GumbelMax)  # type: ignore[arg-type]
    with pytest.raises(EstimandError, match="has no transition matrix"):
        StructuralModel("sepsis", GumbelMax())  # type: ignore[arg-type]
    twice = TabularMDP.from_sparse([0, 2, 3], [1, 1, 1], [0.4, 0.6, 1.0], [0.0, 1.0, 0.0], [1, 0], [False, True])
    with pytest.raises(DataError, match="state 0, action 0 stores state 1 twice"):
        StructuralModel(twice, GumbelMax())
