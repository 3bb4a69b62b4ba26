"""The tumour simulator: its law against naive rules and integrated moments, counterfactuals, simulated values, confounding."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import kstest, norm, truncnorm

import causalrl as crl
from causalrl.errors import DataError, EstimandError, PolicyError
from causalrl.kernels.rng import derive_seed, stream_key, uniform
from simulators.tumour import growth as tumour_growth
from simulators.tumour.growth import Patients
from simulators.tumour.simulator import TumourSimulator

V_MAX = 4 / 3 * math.pi * 6.5**3
K = 4 / 3 * math.pi * 15.0**3
STAGES = {  # count, mu, sigma, low, high
    0: (1432, 1.72, 4.70, 0.3, 5),
    1: (128, 1.96, 1.63, 0.3, 13),
    2: (1306, 1.91, 9.40, 0.3, 13),
    3: (7248, 2.76, 6.87, 0.3, 13),
    4: (12840, 3.86, 8.82, 0.3, 13),
}
N = 60_000


@pytest.fixture(scope="module")
def cohort() -> Patients:
    return TumourSimulator().patients(N, seed=3)


def one_patient(alpha: float = 0.05, **changed: Any) -> Patients:
    usual = {"ids": 0, "stage": 0, "kind": 2, "volume": 300.0, "beta": alpha / 10, "beta_c": 0.03, "rho": 0.004}
    return Patients(alpha=np.array([alpha]), **{name: np.atleast_1d(x) for name, x in {**usual, **changed}.items()})


def naive_volumes(patients: Patients, i: int, actions: list[int], noise: list[float]) -> list[float]:
    """Day by day, with the rules of the paper; nobody here is near recovery."""
    volumes, chemo = [float(patients.volume[i])], 0.0
    for action, e in zip(actions, noise, strict=True):
        chemo = 0.5 * chemo + 5.0 * (action in (2, 3))
        radio = 2.0 * (action in (1, 3))
        v = volumes[-1]
        if v in (0.0, V_MAX):
            volumes.append(v)
            continue
        growth = patients.rho[i] * math.log(K / v)
        kill = patients.beta_c[i] * chemo + patients.alpha[i] * radio + patients.beta[i] * radio**2
        v = v * (1 + growth - kill + e)
        volumes.append(V_MAX if v > V_MAX else max(v, 0.0))
    return volumes


def replayed_noise(seed: int, i: int, days: int) -> list[float]:
    key = np.uint64(stream_key(np.uint64(derive_seed(seed, "tumour", "growth")), np.uint64(i)))
    return [0.01 * float(norm.ppf(uniform(key, np.uint64(t)))) for t in range(days)]


def within_four_errors(draws: np.ndarray, exact: float) -> bool:
    return bool(abs(draws.mean() - exact) < 4 * draws.std() / math.sqrt(len(draws)))


def test_stages_and_start_diameters(cohort: Patients) -> None:
    diameters = 2 * np.cbrt(3 * cohort.volume / (4 * math.pi))
    total = sum(count for count, *_ in STAGES.values())
    for stage, (count, mu, sigma, low, high) in STAGES.items():
        member = cohort.stage == stage
        assert within_four_errors(member.astype(float), count / total)
        assert ((diameters[member] >= low) & (diameters[member] <= high)).all()
        law = truncnorm((math.log(low) - mu) / sigma, (math.log(high) - mu) / sigma, mu, sigma)
        assert kstest(np.log(diameters[member]), law.cdf).pvalue > 1e-4


def test_effects_have_the_moments_of_the_truncated_normal_pair(cohort: Patients) -> None:
    (mean_a, sd_a), (mean_r, sd_r), corr = (0.0398, 0.168), (7e-5, 7.23e-3), 0.87
    spread = sd_r * math.sqrt(1 - corr**2)

    def moment(power_a: int, power_r: int) -> float:
        """Integral over alpha of alpha^p times the partial moment of rho given alpha over rho > 0."""

        def integrand(z: float) -> float:
            centre = mean_r + corr * sd_r * z
            positive, density = norm.cdf(centre / spread), norm.pdf(centre / spread)
            partial = (
                positive,
                centre * positive + spread * density,
                (centre**2 + spread**2) * positive + centre * spread * density,
            )[power_r]
            return float((mean_a + sd_a * z) ** power_a * partial * norm.pdf(z))

        return float(quad(integrand, -mean_a / sd_a, 9, epsabs=1e-14)[0])

    bonus = 0.1 * mean_a * (cohort.kind == 1)
    alpha, mass = cohort.alpha - bonus, moment(0, 0)
    assert (alpha > 0).all()
    assert (cohort.rho > 0).all()
    for p, r in ((1, 0), (0, 1), (2, 0), (0, 2), (1, 1)):
        assert within_four_errors(alpha**p * cohort.rho**r, moment(p, r) / mass), (p, r)
    np.testing.assert_array_equal(cohort.beta, cohort.alpha / 10)


def test_chemo_effect_and_types(cohort: Patients) -> None:
    base = cohort.beta_c - 0.1 * 0.028 * (cohort.kind == 3)
    assert kstest(base, norm(0.028, 0.0007).cdf).pvalue > 1e-4
    for kind in (1, 2, 3):
        assert within_four_errors((cohort.kind == kind).astype(float), 1 / 3)
    assert abs(np.corrcoef(cohort.kind, cohort.volume)[0, 1]) < 4 / math.sqrt(N)
    assert abs(np.corrcoef(base, cohort.alpha)[0, 1]) < 4 / math.sqrt(N)


def test_a_deterministic_course_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tumour_growth, "NOISE", 0.0)
    actions = [0, 1, 2, 3, 3, 0, 2, 1, 0, 0]
    volumes = TumourSimulator().volumes(one_patient(), actions)
    np.testing.assert_allclose(volumes[0], naive_volumes(one_patient(), 0, actions, [0.0] * 10), rtol=1e-13)
    first_chemo_day = 300.0 * (1 + 0.004 * math.log(K / 300) - 0.03 * 5)
    assert TumourSimulator().volumes(one_patient(), [2])[0, 1] == pytest.approx(first_chemo_day, rel=1e-14)
    first_radio_day = 300.0 * (1 + 0.004 * math.log(K / 300) - 0.05 * 2 - 0.005 * 4)
    assert TumourSimulator().volumes(one_patient(), [1])[0, 1] == pytest.approx(first_radio_day, rel=1e-14)


def test_volumes_against_naive_steps_with_the_noise_replayed() -> None:
    simulator, seed = TumourSimulator(), 5
    patients, days = simulator.patients(200, seed), 40
    plan = np.random.default_rng(0).integers(0, 2, (200, days))
    volumes = simulator.volumes(patients, plan, seed)
    large = [i for i in range(200) if volumes[i, -1] > 1e-3 or (volumes[i] == V_MAX).any()]
    assert len(large) > 100
    for i in large:
        expected = naive_volumes(patients, i, list(plan[i]), replayed_noise(seed, i, days))
        np.testing.assert_allclose(volumes[i], expected, rtol=1e-10)


def test_death_and_recovery_are_final() -> None:
    simulator = TumourSimulator()
    data = simulator.sample(2000, crl.Always(0), seed=2)
    died = (data.final_observations[:, 0] == 13.0) & (data.end == crl.End.TERMINATED)  # type: ignore[index]
    assert died.sum() > 100
    assert (data.lengths[data.end == crl.End.TRUNCATED] == 60).all()
    patients = simulator.patients(2000, seed=2)
    volumes = simulator.volumes(patients, np.zeros(60, int), seed=2)
    for i in np.flatnonzero(died)[:20]:
        assert (volumes[i, data.lengths[i] :] == tumour_growth.DEATH_VOLUME).all()
        assert (volumes[i, : data.lengths[i]] < tumour_growth.DEATH_VOLUME).all()
    assert abs(tumour_growth.DEATH_VOLUME - 1150.35) < 5e-3
    killed = simulator.volumes(one_patient(alpha=0.5), [1, 0, 3])  # alpha d + beta d^2 = 1.2 leaves less than nothing
    np.testing.assert_array_equal(killed, [[300.0, 0.0, 0.0, 0.0]])


def test_recovery_has_the_stated_probability() -> None:
    volume, n = 1.2e-9, 20_000
    base = one_patient(volume=volume, alpha=0.0, rho=0.0, beta_c=0.0)
    many = Patients(np.arange(n), *(np.repeat(getattr(base, name), n) for name in list(vars(base))[1:]))
    recovered = TumourSimulator().volumes(many, [0], seed=1)[:, 1] == 0
    assert within_four_errors(recovered.astype(float), math.exp(-5.8e8 * volume))  # the noise of 1% moves it by 3e-5


def test_assignment_is_the_logistic_of_the_mean_diameter() -> None:
    simulator = TumourSimulator(gamma=3.0)
    data = simulator.sample(300, horizon=30, seed=4)
    steps = data.steps()
    diameters = np.full((300, 31), np.nan)
    diameters[steps.trajectory, steps.time] = data.observations[:, 0]
    for row in range(0, len(steps), 37):
        i, t = steps.trajectory[row], steps.time[row]
        window = diameters[i, max(t - 15, 0) : t] if t else diameters[i, :1]
        p = 1 / (1 + math.exp(-3.0 / 13 * (window.mean() - 6.5)))
        chemo, radio = divmod(int(data.actions[row]), 2)
        assert data.behavior_probabilities is not None
        expected = (p if chemo else 1 - p) * (p if radio else 1 - p)
        assert data.behavior_probabilities[row] == pytest.approx(expected, rel=1e-12)
        assert data.observations[row, 1] == pytest.approx(window.mean(), rel=1e-14)
        assert data.observations[row, 3] == t
    rows = simulator.assignment().probabilities(data.observations, steps.time)
    np.testing.assert_array_equal(rows[np.arange(len(steps)), data.actions], data.behavior_probabilities)
    np.testing.assert_array_equal(TumourSimulator(0).assignment().probabilities(data.observations, steps.time), 0.25)


def test_actions_follow_their_probabilities() -> None:
    data = TumourSimulator(gamma=5.0).sample(20_000, horizon=2, seed=9)
    rows = TumourSimulator(gamma=5.0).assignment().probabilities(data.observations, data.steps().time)
    for action in range(4):
        assert within_four_errors((data.actions == action) - rows[:, action], 0.0)


def test_concentration_halves_daily() -> None:
    data = TumourSimulator().sample(200, crl.Always(2), horizon=5, seed=0)
    steps = data.steps()
    expected = np.array([0, 2.5, 3.75, 4.375, 4.6875])
    np.testing.assert_array_equal(data.observations[:, 2], expected[steps.time])


def test_rewards_telescope_to_the_fall_of_the_volume() -> None:
    data = TumourSimulator(gamma=4.0).sample(500, seed=6)
    returns = np.add.reduceat(data.rewards, data.offsets[:-1])
    start, end = data.observations[data.offsets[:-1], 0], data.final_observations[:, 0]  # type: ignore[index]
    np.testing.assert_allclose(returns, (start / 13) ** 3 - (end / 13) ** 3, atol=1e-13)


def test_logged_treatments_give_the_logged_volumes() -> None:
    simulator, n, seed = TumourSimulator(gamma=4.0), 300, 8
    data = simulator.sample(n, horizon=25, seed=seed)
    steps = data.steps()
    plan, diameters = np.zeros((n, 25), int), np.full((n, 26), np.nan)
    plan[steps.trajectory, steps.time] = data.actions
    diameters[steps.trajectory, steps.time] = data.observations[:, 0]
    diameters[np.arange(n), data.lengths] = data.final_observations[:, 0]  # type: ignore[index]
    volumes = simulator.volumes(simulator.patients(n, seed), plan, seed)
    seen = ~np.isnan(diameters)
    np.testing.assert_allclose(13 * np.cbrt(volumes[seen] / V_MAX), diameters[seen], rtol=1e-12)


def test_common_random_numbers() -> None:
    simulator = TumourSimulator()
    patients = simulator.patients(500, seed=1)
    never, always = simulator.volumes(patients, [0] * 8, seed=1), simulator.volumes(patients, [3] * 8, seed=1)
    late = simulator.volumes(patients, [0] * 5 + [3] * 3, seed=1)
    np.testing.assert_array_equal(late[:, :6], never[:, :6])
    eventless = (always > 0).all(axis=1) & (never < V_MAX).all(axis=1)
    assert eventless.sum() > 300
    for first, second in ((always, never), (late[:, 5:], never[:, 5:])):
        assert (first[eventless, 1:] < second[eventless, 1:]).all()
    for single in (1, 2):
        middle = simulator.volumes(patients, [single] * 8, seed=1)
        assert ((always < middle) & (middle < never))[eventless, 1:].all()
    np.testing.assert_array_equal(simulator.volumes(patients, np.full((500, 8), 3), seed=1), always)
    assert (simulator.volumes(patients, [0], seed=2)[eventless, 1] != never[eventless, 1]).all()


def test_policies_meet_the_same_patients() -> None:
    simulator = TumourSimulator(gamma=2.0)
    own, natural = simulator.sample(50, seed=3), simulator.sample(50, crl.NaturalCourse(), seed=3)
    assert own.fingerprint == natural.fingerprint
    other = simulator.sample(50, crl.Uniform(4), seed=3)
    starts = [data.observations[data.offsets[:-1]] for data in (own, other)]
    np.testing.assert_array_equal(*starts)


def test_the_type_is_hidden_and_nothing_else_changes() -> None:
    seen, hidden = (TumourSimulator(3.0, type_observed=flag).sample(80, seed=1) for flag in (True, False))
    np.testing.assert_array_equal(seen.observations[:, :4], hidden.observations)
    np.testing.assert_array_equal(seen.rewards, hidden.rewards)
    assert hidden.feature_names == ("diameter", "mean_diameter", "chemo_concentration", "day")
    kinds = TumourSimulator().patients(80, seed=1).kind
    flags = seen.observations[seen.offsets[:-1], 4:]
    np.testing.assert_array_equal(flags, np.stack([kinds == 1, kinds == 3], axis=1))


def test_a_patient_does_not_depend_on_the_others() -> None:
    simulator = TumourSimulator()
    few, many = simulator.sample(7, horizon=30, seed=5), simulator.sample(2000, horizon=30, seed=5)
    first = many.take(np.arange(7))
    np.testing.assert_array_equal(few.observations, first.observations)
    np.testing.assert_array_equal(few.actions, first.actions)
    assert simulator.sample(7, horizon=30, seed=5).fingerprint == few.fingerprint
    assert simulator.sample(7, horizon=30, seed=6).fingerprint != few.fingerprint


@pytest.mark.parametrize("setting", [{"NUMBA_NUM_THREADS": "2"}, {"NUMBA_DISABLE_JIT": "1"}], ids=["threads", "interpreted"])
def test_same_record_whatever_runs_it(setting: dict[str, str]) -> None:
    code = (
        "from simulators.tumour.simulator import TumourSimulator; data = TumourSimulator(4.0).sample(60, horizon=10, seed=1);"
        "print(data.fingerprint, data.actions.sum(), repr(data.rewards.sum().item()))"
    )
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), **setting}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    fingerprint, actions, total = done.stdout.split()
    data = TumourSimulator(4.0).sample(60, horizon=10, seed=1)
    assert int(actions) == data.actions.sum()
    assert float(total) == pytest.approx(data.rewards.sum(), rel=1e-12)
    if "NUMBA_NUM_THREADS" in setting:
        assert fingerprint == data.fingerprint


def test_the_mean_return_is_the_value_and_importance_sampling_finds_another_policys() -> None:
    simulator, horizon = TumourSimulator(gamma=2.0), 3
    data = simulator.sample(20_000, horizon=horizon, seed=0)
    for policy, estimator in (
        (simulator.assignment(), crl.OnPolicyMean()),
        (crl.Uniform(4), crl.IS()),
        (crl.Uniform(4), crl.PDIS()),
        (crl.Softened(crl.Always(3), 0.3), crl.IS()),
    ):
        truth = simulator.value(policy, horizon, discount=0.9, n=40_000)
        estimate = estimator.estimate(data, crl.PolicyValue(policy, discount=0.9, horizon=horizon))
        assert abs(estimate.value - truth.value) < 4 * math.hypot(float(estimate.stderr), truth.stderr), policy


def test_value_is_the_mean_over_its_own_patients() -> None:
    simulator = TumourSimulator()
    value = simulator.value(crl.Always(1), horizon=5, n=30_000, seed=2)
    assert (value.n, float(value)) == (30_000, value.value)
    again = simulator.value(crl.Always(1), horizon=5, n=30_000, seed=3)
    assert abs(value.value - again.value) < 4 * math.hypot(value.stderr, again.stderr)
    assert 0.5 < value.stderr / again.stderr < 2
    data = simulator.sample(30_000, crl.Always(1), horizon=5, seed=2)
    assert data.rewards.sum() / data.n != value.value


def test_a_policy_cannot_write_into_the_record() -> None:
    def wreck(observations: np.ndarray, time: np.ndarray) -> np.ndarray:
        observations[:] = -1.0
        return np.full((len(observations), 4), 0.25)

    for call in (TumourSimulator().sample, lambda n, policy, horizon: TumourSimulator().value(policy, horizon, n=n)):
        with pytest.raises(ValueError, match="read-only"):
            call(2, wreck, 1)


def test_any_seed() -> None:
    prints = [TumourSimulator().sample(20, horizon=2, seed=seed).fingerprint for seed in (0, 2**63, 2**90, np.int64(0))]
    assert len(set(prints)) == 3
    assert prints[0] == prints[3]


def test_it_is_a_truth_for_evaluate() -> None:
    simulator = TumourSimulator(gamma=1.0)
    data = simulator.sample(400, horizon=2, seed=1)
    table = crl.evaluate(data, {"uniform": crl.Uniform(4)}, [crl.IS()], horizon=2, truth=simulator)
    assert table.frame["truth"][0] == simulator.value(crl.Uniform(4), horizon=2).value


def test_confounding_grows_with_gamma() -> None:
    """Treated tumours are larger: the naive difference of next-day volumes turns from the effect to the opposite sign."""
    differences = []
    for gamma in (0.0, 2.0, 5.0, 10.0):
        data = TumourSimulator(gamma).sample(20_000, horizon=1, seed=1)
        after = data.final_observations[:, 0] ** 3  # type: ignore[index]
        differences.append(after[data.actions == 3].mean() - after[data.actions == 0].mean())
    assert differences[0] < 0 < differences[1]
    assert differences == sorted(differences)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda s: TumourSimulator(gamma=-1), DataError, "gamma: -1"),
        (lambda s: TumourSimulator(gamma=math.nan), DataError, "gamma: nan"),
        (lambda s: TumourSimulator(gamma="2"), DataError, "gamma: '2'"),
        (lambda s: TumourSimulator(gamma=10**30), DataError, "pass a number from 0 to 1e+06"),
        (lambda s: TumourSimulator(type_observed=1), DataError, "type_observed: 1; pass True or False"),
        (lambda s: s.sample(0), DataError, "n: 0; pass a whole number"),
        (lambda s: s.sample(5, seed=-1), DataError, "seed: -1"),
        (lambda s: s.sample(5, horizon=61), EstimandError, "horizon: 61 days; patients are followed for 60"),
        (lambda s: s.sample(5, horizon=0), EstimandError, "horizon: 0"),
        (lambda s: s.sample(5, crl.Always(4)), PolicyError, "actions 0 to 3"),
        (lambda s: s.sample(5, crl.Uniform(3)), PolicyError, "shape"),
        (lambda s: s.sample(5, 3), PolicyError, "is no policy"),
        (lambda s: s.value(crl.Always(0), discount=1.1), EstimandError, "discount: 1.1"),
        (lambda s: s.value(crl.Always(0), n=1), DataError, "n: 1"),
        (lambda s: s.volumes(s.patients(2), [4]), DataError, "actions: row 0 is 4"),
        (lambda s: s.volumes(s.patients(2), [[0, 1]]), DataError, "actions: shape (1, 2); pass (H,), or (2, H)"),
        (lambda s: s.volumes(s.patients(2), [0] * 61), DataError, "H from 1 to 60"),
        (lambda s: s.volumes([1], [0]), DataError, "patients: [1]; pass those of `patients(n, seed)`"),
        (lambda s: one_patient(volume=1200.0), DataError, "volume: patient 0 has 1200.0; pass numbers from 1e-12 to 1150.35"),
        (lambda s: one_patient(volume=0.0), DataError, "volume: patient 0 has 0.0"),
        (lambda s: one_patient(alpha=-0.1), DataError, "alpha: patient 0 has -0.1"),
        (lambda s: one_patient(rho=math.inf), DataError, "rho: patient 0 has inf; pass numbers from 0 to 1000"),
        (lambda s: one_patient(stage=9), DataError, "stage: patient 0 has 9; pass numbers from 0 to 4"),
        (lambda s: one_patient(kind=7), DataError, "kind: patient 0 has 7; pass numbers from 1 to 3"),
        (lambda s: one_patient(ids=0.5), DataError, "ids: row 0 is 0.5"),
        (lambda s: one_patient(ids=[0, 1]), DataError, "stage: shape (1,), expected (2,)"),
        (lambda s: s.sample(True), DataError, "n: True"),
        (lambda s: s.sample(2**40), DataError, "n: 1099511627776"),
        (lambda s: s.assignment().probabilities(np.zeros(3, int), np.zeros(3, int)), PolicyError, "TumourSimulator"),
    ],
)
def test_bad_input_names_the_mend(call, error, text) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error) as raised:
        call(TumourSimulator())
    assert text in str(raised.value)
