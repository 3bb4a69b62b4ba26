"""Wrappers: what a record hides changes no value, and what it does to a naive analysis is known exactly."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import causalrl as crl
from causalrl.data import End
from causalrl.errors import CensoringError, DataError, EstimandError, PolicyError
from simulators import (
    MAR,
    MCAR,
    MNAR,
    Censored,
    Confounded,
    CovariateShift,
    GumbelMax,
    HideVariables,
    Hospitals,
    ICUSepsis,
    MeasurementError,
    SepsisSimulator,
    TabularMDP,
    ThinnedVisits,
)
from simulators.base import TabularSimulator
from simulators.wrappers.confounding import MODELS, half, ranked, tilted
from simulators.wrappers.recorded import Recorded

H, DISCOUNT = 3, 0.9
TREAT, SEVERITY = ("on",), ("frailty", "severity")


def ward() -> TabularMDP:
    """Frailty (2, constant) x severity (3) x treatment on (2), and a sink; three actions, of which 1 and 2 treat."""
    rng = np.random.default_rng(4)
    states = np.array([*product((0, 1), (0, 1, 2), (0, 1))], float)
    transitions = np.zeros((13, 3, 13))
    for s, a in product(range(12), range(3)):
        same = (states[:, 0] == states[s, 0]) & (states[:, 2] == min(a, 1))
        transitions[s, a, :12][same] = rng.dirichlet(np.ones(3)) * 0.8
        transitions[s, a, 12] = 0.2
    transitions[12, :, 12] = 1.0
    features = np.vstack([states, [2.0, 3.0, 2.0]])
    start = np.append(np.where(states[:, 2] == 0, 1 + states[:, 1] + 3 * states[:, 0], 0.0), 0.0)
    return TabularMDP(
        transitions,
        rng.normal(size=(13, 3, 13)),
        start / start.sum(),
        np.arange(13) == 12,
        state_features=features,
        feature_names=["frailty", "severity", "on"],
    )


WARD = ward()
BEHAVIOR = crl.TabularPolicy(np.random.default_rng(1).dirichlet(np.full(3, 3.0), (H, 13)))


def on_record(process: TabularSimulator, seed: int = 2) -> crl.TabularPolicy:
    """Some time-dependent policy that sees the record."""
    return crl.TabularPolicy(np.random.default_rng(seed).dirichlet(np.full(3, 2.0), (H, process.view().n_records)))


WRAPPERS = {
    "hidden": HideVariables("frailty"),
    "hidden two": HideVariables("frailty", "severity"),
    "confounded": Confounded(2.0),
    "confounded, marginal, first step": Confounded(3.0, model="marginal", steps=(0,)),
    "mcar": MCAR(0.3, variables=SEVERITY),
    "mar": MAR(0.5, variables=SEVERITY, given=TREAT),
    "mnar": MNAR(0.6, variables=SEVERITY),
    "measurement error": MeasurementError(0.2, variables=SEVERITY),
    "thinned visits": ThinnedVisits(0.4, variables=SEVERITY),
    "hospitals": Hospitals(3, spread=0.5),
}
STACKS = {
    **{name: WARD | wrapper for name, wrapper in WRAPPERS.items()},
    "many": WARD
    | Hospitals(2, 0.4)
    | HideVariables("frailty")
    | Confounded(2.5)
    | MNAR(0.4, variables=("severity",))
    | MeasurementError(0.1, variables=("severity",)),
}
stacks = pytest.mark.parametrize("process", STACKS.values(), ids=STACKS.keys())


def returns(data: crl.Trajectories) -> np.ndarray:
    time = np.arange(len(data.rewards)) - np.repeat(data.offsets[:-1], data.lengths)
    return np.add.reduceat(DISCOUNT**time * data.rewards, data.offsets[:-1])


def weights(data: crl.Trajectories, target: crl.TabularPolicy, logged: np.ndarray) -> np.ndarray:
    """Trajectory weights (n,) of a target that sees the record, with these probabilities of the logged actions."""
    time = np.arange(len(data.rewards)) - np.repeat(data.offsets[:-1], data.lengths)
    ratio = target.table[time, data.observations, data.actions] / logged
    return np.multiply.reduceat(ratio, data.offsets[:-1])


def near(values: np.ndarray, exact: float) -> bool:
    return bool(abs(values.mean() - exact) < 4 * values.std() / np.sqrt(len(values)))


@stacks
def test_oracle_propensities_are_unbiased_for_a_target_that_sees_the_record(process: Recorded) -> None:
    target = on_record(process)
    data = process.sample(200_000, BEHAVIOR, H, seed=5, propensities="oracle")
    assert near(weights(data, target, data.behavior_probabilities) * returns(data), process.value(target, H, DISCOUNT))


@stacks
def test_marginal_propensities_are_biased_by_the_computed_amount(process: Recorded) -> None:
    target, marginal = on_record(process), process.marginal_policy(BEHAVIOR, H)
    data = process.sample(200_000, BEHAVIOR, H, seed=6)
    time = np.arange(len(data.rewards)) - np.repeat(data.offsets[:-1], data.lengths)
    logged = marginal.table[time, data.observations, data.actions]
    weighted = weights(data, target, logged) * returns(data)
    apparent = process.apparent_value(target, BEHAVIOR, H, DISCOUNT)
    assert near(weighted, apparent)
    estimate = crl.IS(behavior=crl.KnownPropensity(marginal)).estimate(data, crl.PolicyValue(target, DISCOUNT, H))
    assert estimate.value == pytest.approx(weighted.mean(), abs=1e-12)


def test_hidden_variables_and_confounding_bias_the_naive_analysis() -> None:
    for name in ("hidden", "confounded", "confounded, marginal, first step", "mnar", "measurement error", "many"):
        process, target = STACKS[name], on_record(STACKS[name])
        assert abs(process.apparent_value(target, BEHAVIOR, H, DISCOUNT) - process.value(target, H, DISCOUNT)) > 1e-3, name


@stacks
def test_on_policy_means(process: Recorded) -> None:
    """A logger that has only the record, without a confounder and in one hospital, is the target itself."""
    plain = Recorded(WARD, (), process.shown)
    target = on_record(process)
    data = plain.sample(100_000, target, H, seed=7, sees="record")
    assert data.behavior_probabilities is not None
    assert near(returns(data), process.value(target, H, DISCOUNT))


def test_marginal_policy_is_the_logged_share() -> None:
    process = STACKS["many"]
    marginal = process.marginal_policy(BEHAVIOR, H).table
    np.testing.assert_allclose(marginal.sum(axis=2), 1.0, atol=1e-12)
    data = process.sample(300_000, BEHAVIOR, H, seed=8)
    time = np.arange(len(data.rewards)) - np.repeat(data.offsets[:-1], data.lengths)
    for t, record in product(range(H), range(process.view().n_records)):
        here = (time == t) & (data.observations == record)
        if here.sum() > 2000:
            share = np.bincount(data.actions[here], minlength=3) / here.sum()
            sd = np.sqrt(marginal[t, record] * (1 - marginal[t, record]) / here.sum())
            assert (np.abs(share - marginal[t, record]) < 4.5 * sd).all()


def enumerated(process: Recorded, target: np.ndarray, behavior: np.ndarray, marginal: np.ndarray) -> tuple[float, float]:
    """Value and apparent value by enumeration of every path of state, record, U, action and successor; one hospital."""
    law, gamma = ranked(WARD), process.confounding.gamma if process.confounding else 1.0
    shift = MODELS[process.confounding.model if process.confounding else "rosenbaum"]
    steps = process.confounding.steps if process.confounding else ()
    channel = process.shown.channel.toarray()
    totals = np.zeros(2)

    def walk(state: int, t: int, chance: np.ndarray, weight: np.ndarray, paid: float) -> None:
        if t == H or WARD.terminal[state]:
            totals[:] += chance * weight * paid
            return
        confounded = steps is None or t in steps
        policies = tilted(behavior[t, state], shift, gamma) if confounded else (behavior[t, state],) * 2
        for record in np.flatnonzero(channel[state]):
            for u, a in product((0, 1), range(3)):
                rows = slice(law.indptr[3 * state + a], law.indptr[3 * state + a + 1])
                above = np.cumsum(law.probabilities[rows])
                below = above - law.probabilities[rows]
                inside = np.clip(above, u / 2, (u + 1) / 2) - np.clip(below, u / 2, (u + 1) / 2)
                probabilities = 2 * inside if confounded else law.probabilities[rows]
                for successor, p, r in zip(law.successors[rows], probabilities, law.rewards[rows], strict=True):
                    if p > 1e-15:
                        ratio = target[t, record, a] / np.array([policies[u][a], marginal[t, record, a]])
                        step = channel[state, record] * 0.5 * policies[u][a] * p
                        walk(successor, t + 1, chance * step, weight * ratio, paid + DISCOUNT**t * r)

    for state in np.flatnonzero(WARD.initial):
        walk(state, 0, np.full(2, WARD.initial[state]), np.ones(2), 0.0)
    return totals[0], totals[1]


@pytest.mark.parametrize("name", ["hidden two", "confounded, marginal, first step"])
def test_exact_numbers_agree_with_enumeration(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_wrappers.H", 2)
    process, target, behavior = STACKS[name], on_record(STACKS[name]).table[:2], BEHAVIOR.table[:2]
    policy, logger = crl.TabularPolicy(target), crl.TabularPolicy(behavior)
    marginal = process.marginal_policy(logger, 2).table
    value, apparent = enumerated(process, target, behavior, marginal)
    assert process.value(policy, 2, DISCOUNT) == pytest.approx(value, abs=1e-12)
    assert process.apparent_value(policy, logger, 2, DISCOUNT) == pytest.approx(apparent, abs=1e-12)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("gamma", [1.0, 1.5, 4.0, 1e6])
def test_the_tilt_attains_gamma_and_keeps_the_policy(model: str, gamma: float) -> None:
    tables = np.vstack([np.random.default_rng(0).dirichlet(np.ones(5), 20), np.eye(5), [[0.5, 0.5, 0, 0, 0]]])
    low, high = tilted(tables, MODELS[model], gamma)
    np.testing.assert_allclose((low + high) / 2, tables, atol=1e-15)
    assert (low >= -1e-15).all()
    assert (high <= 1 + 1e-15).all()
    np.testing.assert_allclose(low.sum(axis=1), 1.0, atol=1e-12)
    odds = [(p[:20, 3:].sum(axis=1) / p[:20, :3].sum(axis=1)) for p in (low, tables, high)]
    if model == "rosenbaum":
        np.testing.assert_allclose(odds[2] / odds[0], gamma, rtol=1e-8)
    else:
        extreme = np.maximum(odds[2] / odds[1], odds[1] / odds[0])
        np.testing.assert_allclose(extreme, gamma, rtol=1e-8)
    between = (high[:20, :, None] / high[:20, None]) / (low[:20, :, None] / low[:20, None])
    assert between.max() <= gamma * (1 + 1e-8) if model == "rosenbaum" else gamma**2 * (1 + 1e-8)


def test_the_halves_of_a_row_are_its_law_and_the_upper_one_is_better() -> None:
    simulator = SepsisSimulator()
    law = ranked(simulator.mdp)
    low, high = half(law, 0), half(law, 1)
    np.testing.assert_allclose(((low.matrix + high.matrix) / 2 - simulator.mdp.dynamics.matrix).data, 0.0, atol=1e-15)
    live = ~simulator.mdp.terminal
    after = simulator.q(crl.Uniform(8), None, 0.99).mean(axis=1)
    worse, better = (law.mean_rewards + 0.99 * (law.matrix @ after).reshape(-1, 8) for law in (low, high))
    assert (better - worse)[live].min() > -1e-8
    assert (better - worse)[live].mean() > 0.05


NEUTRAL = [
    HideVariables(),
    Confounded(1.0),
    Confounded(2.0, steps=()),
    Censored(0.0),
    Hospitals(5, 0.0),
    CovariateShift(0.0, "diabetes"),
    *(wrapper(0.0) for wrapper in (MCAR, MAR, MNAR, MeasurementError, ThinnedVisits)),
]


@pytest.mark.parametrize("wrapper", NEUTRAL, ids=repr)
def test_the_neutral_value_is_the_identity(wrapper: object) -> None:
    simulator = SepsisSimulator()
    assert simulator | wrapper is simulator


def test_the_first_lines_of_a_user() -> None:
    sim = SepsisSimulator()
    behavior, target = sim.physician(epsilon=0.3, discount=0.99), sim.physician(epsilon=0.15, discount=0.99)
    data = sim.sample(200, behavior, horizon=20, seed=0)
    bound = sim.efficiency_bound(target, behavior, horizon=20, discount=1.0, model="markov")
    assert bound == pytest.approx(0.64508, abs=5.01e-6)
    effect = sim.treatment_effect("vasopressor", time=0, policy=behavior, horizon=20)
    assert effect["diabetic"] == pytest.approx(-0.153758, abs=5.01e-7)
    cf = sim.scm(GumbelMax()).counterfactual(data, policy=target, samples=5, seed=0)
    assert (type(cf), cf.n) == (crl.Trajectories, 1000)
    noisy = sim | Confounded(gamma=2.0) | Censored(hazard=0.02)
    assert noisy.value(target, horizon=20, discount=1.0) == sim.value(target, horizon=20, discount=1.0)
    assert repr(noisy).startswith("SepsisSimulator(version='v2'")
    assert "Confounded(gamma=2.0, model='rosenbaum', steps=None) | Censored(hazard=0.02)" in repr(noisy)
    mdp = TabularMDP(np.full((2, 1, 2), 0.5), [[1.0], [0.0]], [1.0, 0.0])
    assert mdp.value(crl.Always(0), horizon=2) == 1.5
    assert sim.env(horizon=20).reset(seed=0)[0] in range(1440)


def test_the_record_keeps_only_what_it_shows() -> None:
    simulator, logger = SepsisSimulator(), SepsisSimulator().physician(0.3)
    hides = (HideVariables("glucose"), Confounded(1.5), MCAR(0.1), MeasurementError(0.1), ThinnedVisits(0.2))
    for wrapper in hides:
        assert (simulator | wrapper).sample(20, logger, 5).behavior_probabilities is None
        assert (simulator | wrapper).sample(20, logger, 5, propensities="oracle").behavior_probabilities is not None
    for wrapper in (Censored(0.1), Hospitals(3, 0.5), CovariateShift(1.0, "diabetes")):
        assert (simulator | wrapper).sample(20, logger, 5).behavior_probabilities is not None


def test_records_of_the_sepsis_simulator() -> None:
    simulator, logger = SepsisSimulator(), SepsisSimulator().physician(0.3)
    hidden = (simulator | HideVariables("diabetes", "glucose")).sample(500, logger, 20, seed=3)
    assert hidden.n_states == 144
    full = Recorded(simulator, (), simulator.view()).sample(500, logger, 20, seed=3)
    codes = simulator.views["projected"].codes
    np.testing.assert_array_equal(hidden.observations, codes[full.observations])
    np.testing.assert_array_equal(hidden.rewards, full.rewards)
    masked = simulator | MCAR(0.25)
    assert masked.view().n_records == 4608
    seen = masked.view().features[masked.sample(4000, logger, 20, seed=3).observations]
    share = (seen[:, 1:5] == -1).mean(axis=0)
    np.testing.assert_allclose(share, 0.25, atol=4 * np.sqrt(0.25 * 0.75 / len(seen)))


def test_shares_of_missing_and_wrong_values() -> None:
    def shown(wrapper: object) -> tuple[np.ndarray, np.ndarray]:
        process = WARD | wrapper
        data = process.sample(60_000, BEHAVIOR, 1, seed=1)
        truth = Recorded(WARD, (), WARD.view()).sample(60_000, BEHAVIOR, 1, seed=1)
        return WARD.state_features[truth.observations], process.view().features[data.observations]

    def share(flags: np.ndarray, expected: float) -> None:
        assert abs(flags.mean() - expected) < 4.5 * np.sqrt(max(expected * (1 - expected), 1e-9) / len(flags))

    truth, seen = shown(MNAR(0.6, variables=("severity",)))
    assert ((seen[:, 1] == truth[:, 1]) | (seen[:, 1] == -1)).all()
    for level in range(3):
        share(seen[truth[:, 1] == level, 1] == -1, 0.6 * level / 3)  # the sink has severity 3
    truth, seen = shown(MAR(0.5, variables=("severity",), given=TREAT))
    share(seen[:, 1] == -1, 0.5)
    truth, seen = shown(ThinnedVisits(0.4, variables=SEVERITY))
    share((seen[:, :2] == -1).all(axis=1), 0.4)
    assert ((seen[:, 0] == -1) == (seen[:, 1] == -1)).all()
    truth, seen = shown(MeasurementError(0.3, variables=("severity",)))
    share(seen[:, 1] != truth[:, 1], 0.3)
    for level in (0, 1, 3):
        share(seen[truth[:, 1] == 2, 1] == level, 0.1)
    twice = WARD | MCAR(0.3, variables=("severity",)) | ThinnedVisits(0.5, variables=("severity",))
    assert (twice.view().features[:, 1].min(), twice.view().n_records) == (-1, 13 + 5)


def test_censoring_has_its_hazard() -> None:
    process, lasting = WARD | Censored(0.1) | Censored(0.2), 1 - 0.9 * 0.8
    data = process.sample(100_000, BEHAVIOR, H, seed=2)
    ends = data.end
    alive = (data.lengths > 1) | ((data.lengths == 1) & (ends == End.CENSORED))
    assert abs((ends[alive & (data.lengths == 1)] == End.CENSORED).sum() / alive.sum() - lasting) < 0.006
    assert (data.lengths[ends == End.TRUNCATED] == H).all()
    assert (data.lengths[ends == End.CENSORED] < H).all()
    plain = Recorded(WARD, (), WARD.view()).sample(100_000, BEHAVIOR, H, seed=2)
    first = data.offsets[:-1]
    np.testing.assert_array_equal(data.observations[first], plain.observations[plain.offsets[:-1]])
    with pytest.raises(CensoringError):
        crl.IS().estimate(data, crl.PolicyValue(BEHAVIOR, horizon=H))
    by_state = WARD | Censored(np.where(WARD.state_features[:, :1] == 1, 0.5, 0.0) * np.ones(3))
    lost = by_state.sample(2000, BEHAVIOR, H)
    assert (WARD.state_features[lost.observations[lost.offsets[1:] - 1]][lost.end == End.CENSORED, 0] == 1).all()


def test_hospitals_are_clusters_with_habits_of_their_own() -> None:
    process = WARD | Hospitals(4, spread=1.0, seed=3)
    data = process.sample(40_000, BEHAVIOR, H, seed=2)
    assert len(np.unique(data.clusters)) == 4
    step = np.repeat(data.clusters, data.lengths)
    shares = np.array([np.bincount(data.actions[step == k], minlength=3) / (step == k).sum() for k in range(4)])
    assert np.ptp(shares, axis=0).max() > 0.2
    assert process.value(BEHAVIOR, H) == WARD.value(BEHAVIOR, H)


def test_covariate_shift_changes_whom_the_policy_treats() -> None:
    simulator, policy = SepsisSimulator(), SepsisSimulator().physician(0.25)
    shifted = simulator | CovariateShift(np.log(30.0), "diabetes")
    diabetic = simulator.mdp.state_features[:, 0] == 1
    share = simulator.mdp.initial[diabetic].sum()
    odds = shifted.mdp.initial[diabetic].sum() / shifted.mdp.initial[~diabetic].sum()
    assert odds == pytest.approx(30 * share / (1 - share), rel=1e-12)
    strata = [
        simulator.mdp.starting(np.where(d, simulator.mdp.initial, 0) / simulator.mdp.initial[d].sum())
        for d in (diabetic, ~diabetic)
    ]
    mixed = odds / (1 + odds) * strata[0].value(policy, 20) + strata[1].value(policy, 20) / (1 + odds)
    assert shifted.value(policy, 20) == pytest.approx(mixed, abs=1e-12)
    data = shifted.sample(100_000, simulator.physician(0.3), 20, seed=9)
    estimate = crl.WIS().estimate(data, crl.PolicyValue(policy, horizon=20))
    assert abs(estimate.value - simulator.value(policy, 20)) < 4 * estimate.stderr
    assert abs(estimate.value - shifted.value(policy, 20)) > 4 * estimate.stderr


def test_oracle_propensities_are_unbiased_for_the_cohort_under_covariate_shift() -> None:
    cohort, shifted = (
        WARD | w | HideVariables("frailty") for w in (CovariateShift(0.0, "frailty"), CovariateShift(2.0, "frailty"))
    )
    target = on_record(cohort)
    data = shifted.sample(200_000, BEHAVIOR, H, seed=5, propensities="oracle")
    weighted = weights(data, target, data.behavior_probabilities) * returns(data)
    assert near(weighted, cohort.value(target, H, DISCOUNT))
    assert not near(weighted, shifted.value(target, H, DISCOUNT))


def test_a_huge_shift_is_a_population_of_one_kind() -> None:
    frail = (WARD | CovariateShift(1e4, "frailty")).mdp.initial
    assert WARD.state_features[frail > 0, 0].min() == 1.0
    assert frail.sum() == pytest.approx(1.0)


def test_a_target_that_sees_less_is_another_policy() -> None:
    simulator = SepsisSimulator()
    blind = simulator | HideVariables("diabetes", "glucose")
    table = np.random.default_rng(0).dirichlet(np.ones(8), 144)
    assert blind.value(crl.TabularPolicy(table), 20) == simulator.value(crl.TabularPolicy(table), 20, sees="projected")
    codes = simulator.views["projected"].codes
    assert blind.value(crl.TabularPolicy(table), 20) == simulator.value(crl.TabularPolicy(table[codes]), 20)


def test_a_simulator_s_own_refusals_stand_behind_a_wrapper() -> None:
    strict = ICUSepsis("raise_exception") | Censored(0.1)
    for call in (strict.value, strict.occupancy, lambda policy, horizon: strict.sample(3, policy, horizon)):
        with pytest.raises(PolicyError, match="takes action"):
            call(crl.Uniform(25), 5)


def test_a_policy_made_of_a_table_of_another_view_is_refused() -> None:
    simulator = SepsisSimulator()
    softened = crl.Softened(simulator.physician(0.0), 0.1)
    for policy in (softened, crl.Mixture([softened, crl.Uniform(8)], [0.5, 0.5])):
        with pytest.raises(PolicyError, match=r"1440 states and 8 actions, the process has 144 and 8; pass sees='full'"):
            simulator.value(policy, 20, sees="projected")
    with pytest.raises(PolicyError, match=r"tables of \[2, 3\] states"):
        crl.Mixture([crl.TabularPolicy(np.full((rows, 2), 0.5)) for rows in (2, 3)], [0.5, 0.5])


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: Confounded(0.5), DataError, r"gamma: 0.5; pass a number from 1 to 1e\+06"),
        (lambda: Confounded(np.nan), DataError, "gamma: nan"),
        (lambda: Confounded(2.0, model="tan"), DataError, "'rosenbaum' or 'marginal'"),
        (lambda: Confounded(2.0, steps=(-1,)), DataError, "steps: -1"),
        (lambda: Censored(1.0), DataError, r"hazard: 1.0; pass a probability in \[0, 1\)"),
        (lambda: WARD | Censored(np.full((2, 2), 0.1)), DataError, r"pass one number, or \(13, 3\)"),
        (lambda: Hospitals(0, 0.1), DataError, "count: 0"),
        (lambda: Hospitals(2, -0.1), DataError, "spread: -0.1"),
        (lambda: MCAR(1.5), DataError, "rate: 1.5; pass a number from 0 to 1"),
        (lambda: MeasurementError(np.nan), DataError, "rate: nan"),
        (lambda: CovariateShift(np.inf, "diabetes"), DataError, "strength: inf"),
        (lambda: WARD | HideVariables("diabetes"), DataError, "'diabetes' is not in the record; it has frailty, severity, on"),
        (lambda: WARD | MCAR(0.1), DataError, "no vital signs by name but frailty, severity, on; pass variables="),
        (lambda: MCAR(0.1, "on"), DataError, "variables: 'on'; pass a tuple of names"),
        (lambda: Confounded(1e7), DataError, "gamma: 10000000.0"),
        (lambda: Confounded("2"), DataError, "gamma: '2'"),  # type: ignore[arg-type]
        (lambda: Confounded(2.0, steps=np.int64(0)), DataError, "steps: .*0.*; pass the times"),  # type: ignore[arg-type]
        (lambda: MCAR("a"), DataError, "rate: 'a'"),  # type: ignore[arg-type]
        (lambda: Hospitals(2, None), DataError, "spread: None"),  # type: ignore[arg-type]
        (lambda: Hospitals(2, 300.0), DataError, "spread: 300.0; pass a number from 0 to 10"),
        (lambda: WARD | MAR(0.5, ("severity", "on"), TREAT), DataError, "pass other variables"),
        (lambda: WARD | MAR(0.5, ("severity",), ()), DataError, "pass other variables"),
        (lambda: (WARD | Confounded(2.0)).marginal_policy(BEHAVIOR, None), EstimandError, "horizon: None"),  # type: ignore[arg-type]
        (lambda: (WARD | Confounded(2.0)).scm(GumbelMax()), EstimandError, "knows some of the noise"),
        (lambda: Confounded(2.0, steps=0), DataError, "steps: 0; pass the times of all confounded steps"),
        (lambda: WARD | CovariateShift(1.0, "age"), DataError, "'age' is not in the record"),
        (lambda: WARD | HideVariables("on") | MAR(0.1, SEVERITY, TREAT), DataError, "'on' is not in the record"),
        (lambda: WARD | Confounded(2.0) | Confounded(3.0), DataError, "confounded already"),
        (lambda: WARD | Hospitals(2, 0.1) | Hospitals(3, 0.1), DataError, "in hospitals already"),
        (lambda: (WARD | MCAR(0.1, SEVERITY)).sample(3, BEHAVIOR, -1), EstimandError, "horizon: -1"),
        (lambda: (WARD | MCAR(0.1, SEVERITY)).sample(0, BEHAVIOR, 2), DataError, "n: 0"),
        (lambda: (WARD | MCAR(0.1, SEVERITY)).sample(3, BEHAVIOR, 2, propensities="all"), DataError, "pass 'oracle'"),
        (lambda: (WARD | MCAR(0.1, SEVERITY)).sample(3, BEHAVIOR, 2, sees="nothing"), EstimandError, "sees: 'nothing'; pass"),
        (lambda: (WARD | HideVariables("on")).value(BEHAVIOR, H), PolicyError, "pass sees='full'"),
        (lambda: (WARD | Confounded(2.0)).marginal_policy(BEHAVIOR, H, sees="record"), EstimandError, "sees: 'record'; pass"),
        (lambda: (WARD | Censored(0.1)).apparent_value(BEHAVIOR, BEHAVIOR, H), EstimandError, "drop Censored"),
        (lambda: WARD | 3, TypeError, "unsupported operand"),
        (lambda: 3 | MCAR(0.1), TypeError, "unsupported operand"),
    ],
)
def test_bad_input_names_the_mend(build: object, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        build()  # type: ignore[operator]


def test_the_same_seed_gives_the_same_record_whatever_comes_after_it() -> None:
    process = STACKS["many"]
    few, many = process.sample(10, BEHAVIOR, H, seed=3), process.sample(200, BEHAVIOR, H, seed=3)
    head = many.take(np.arange(10))
    for field in ("observations", "actions", "rewards", "end", "final_observations"):
        np.testing.assert_array_equal(getattr(few, field), getattr(head, field))
    assert many.fingerprint != process.sample(200, BEHAVIOR, H, seed=4).fingerprint
