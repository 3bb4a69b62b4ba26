"""Bounds of policy values under one confounded step, against enumeration, closed forms, naive loops and published figures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom

import causalrl as crl
from benchmarks.sensitivity_policies import (
    CHOICE,
    CURED,
    DECISION,
    PUBLISHED,
    PUBLISHED_DESIGN,
    RESULTS,
    SEPSIS_SETS,
    SHARP_GAMMAS,
    SHARP_SETS,
    TARGETS,
    WARD_GAMMAS,
    WARD_HORIZON,
    WARD_LOGGER,
    WARD_REPLICATIONS,
    WARD_TARGET,
    confounded_ward,
    design_replication,
    population_bounds,
    sepsis_replication,
    sharp_bounds,
    sharp_replication,
    study,
    ward,
    ward_replication,
)
from causalrl.errors import CausalRLError, EstimandError, IntervalError, SensitivityError
from causalrl.nuisances.crossfit import Nuisances
from causalrl.sensitivity.decisions import Decision
from simulators import Confounded, NamkoongSepsis
from tests.conftest import TARGET, cross_section, output_whatever_runs_it, ragged_data

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")

BY_TIME = crl.Counts(by_time=True)
GAMMAS = (1.0, 1.3, 2.0, 5.0)
GOAL = crl.PolicyValue(TARGET, discount=0.9, horizon=4)
MODELS = (crl.NamkoongModel, crl.NaiveModel)


def curve(data: crl.Trajectories, goal: object, model: crl.SensitivityModel, behavior: object = BY_TIME) -> pd.DataFrame:
    return crl.sensitivity_analysis(crl.IS(behavior=behavior), data, goal, model).frame


# the bounds against a loop


def looped(data: crl.Trajectories, goal: crl.PolicyValue, gamma: float, step: int, naive: bool = False) -> float:
    """The lower bound by definition: dictionaries, and kappa as a numerical minimiser of the loss."""
    counts: dict[tuple[int, int], np.ndarray] = {}
    records = []
    for first, last in zip(data.offsets[:-1], np.minimum(data.offsets[1:], data.offsets[:-1] + goal.horizon), strict=True):
        records.append([(int(data.observations[j]), int(data.actions[j]), float(data.rewards[j])) for j in range(first, last)])
        for t, (s, a, _) in enumerate(records[-1]):
            counts.setdefault((t, s), np.zeros(2))[a] += 1
    sure, parts = 0.0, dict[tuple[int, int], list[tuple[float, float]]]()
    for record in records:
        b = [counts[t, s][a] / counts[t, s].sum() for t, (s, a, _) in enumerate(record)]
        rho = [goal.policy.table[s, a] / b[t] for t, (s, a, _) in enumerate(record)]
        paid = [goal.discount**t * r for t, (_, _, r) in enumerate(record)]
        sure += np.prod(rho) * sum(paid[:step])
        if len(record) <= step:
            continue
        s, a, _ = record[step]
        y, before = np.prod(rho[step + 1 :]) * sum(paid[step:]), np.prod(rho[:step])
        if naive:
            sure += before * rho[step] * y * (1 / gamma if y >= 0 else gamma)
            continue
        sure += before * goal.policy.table[s, a] * y
        parts.setdefault((s, a), []).append((before * rho[step] * (1 - b[step]), y))
    for members in parts.values():
        v, y = np.array(members).T

        def loss(k: float, v: np.ndarray = v, y: np.ndarray = y) -> float:
            return float(v @ (gamma * np.minimum(y - k, 0) ** 2 + np.maximum(y - k, 0) ** 2))

        found = minimize_scalar(loss, bounds=(y.min() - 1e-9, y.max() + 1e-9), method="bounded", options={"xatol": 1e-10})
        kappa = found.x
        sure += v.sum() * kappa
    return sure / len(records)


@pytest.mark.parametrize("naive", [False, True])
@pytest.mark.parametrize("step", [0, 1, 3])
def test_the_bounds_are_those_of_the_definition(step: int, naive: bool) -> None:
    data = ragged_data(80, horizon=4)
    negated = crl.Trajectories.from_arrays(
        data.observations, data.actions, -data.rewards, data.offsets, end=data.end, final_observations=data.final_observations,
        n_actions=2, n_states=3,
    )  # fmt: skip
    frame = curve(data, GOAL, MODELS[naive](GAMMAS, step=step, replicates=2))
    low = [looped(data, GOAL, gamma, step, naive) for gamma in GAMMAS]
    high = [-looped(negated, GOAL, gamma, step, naive) for gamma in GAMMAS]
    assert frame["low"].to_numpy() == pytest.approx(low, abs=1e-7)
    assert frame["high"].to_numpy() == pytest.approx(high, abs=1e-7)


def test_linear_expectiles_minimise_their_loss() -> None:
    """An intercept and two features an arm, against scipy's minimum of the asymmetric squares."""
    from scipy.optimize import minimize

    data, gamma, e = cross_section(150), 3.0, crl.Logit()
    frame = curve(data, crl.Always(1), crl.NamkoongModel([gamma], replicates=2), e)
    b = crl.nuisances.crossfit.Nuisances(data).behavior(e, None, None).logged
    arm, y, weight = data.actions == 1, data.rewards, (1 - b) / b
    x = np.column_stack([np.ones(data.n), data.observations])[arm]
    for name, (below, above) in {"low": (gamma, 1.0), "high": (1.0, gamma)}.items():

        def loss(beta: np.ndarray, below: float = below, above: float = above) -> float:
            left = y[arm] - x @ beta
            return float(weight[arm] @ (below * np.minimum(left, 0) ** 2 + above * np.maximum(left, 0) ** 2))

        beta = minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
        expected = (y[arm].sum() + weight[arm] @ (x @ beta)) / data.n
        assert frame[name][0] == pytest.approx(expected, abs=1e-6)


# identities


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("behavior", [BY_TIME, crl.Counts(), None, crl.Logit()], ids=str)
def test_gamma_one_is_the_estimate(model: type[crl.NamkoongModel], step: int, behavior: object) -> None:
    data, recipe = ragged_data(horizon=4), crl.IS(behavior=behavior)
    found = crl.sensitivity_analysis(recipe, data, GOAL, model([1.0, 2.0], step=step, replicates=2))
    expected = recipe.estimate(data, GOAL).value
    assert found.frame["low"][0] == pytest.approx(expected, abs=1e-12)
    assert found.frame["high"][0] == pytest.approx(expected, abs=1e-12)
    assert found.estimate.value == expected


@pytest.mark.parametrize("folds", [None, 3])
def test_gamma_one_is_the_estimate_for_vectors(folds: int | None) -> None:
    data, recipe = cross_section(), crl.IS(behavior=crl.Logit(), folds=folds)
    frame = crl.sensitivity_analysis(recipe, data, crl.ATE(), crl.NamkoongModel([1.0], replicates=2)).frame
    assert frame["low"][0] == pytest.approx(recipe.estimate(data, crl.ATE()).value, abs=1e-10)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_order_and_monotony(step: int) -> None:
    data, gammas = ragged_data(200, horizon=4), np.linspace(1, 6, 21)
    sharp, naive = (curve(data, GOAL, model(gammas, step=step, replicates=2)) for model in MODELS)
    assert (naive["low"] <= sharp["low"] + 1e-12).all()
    assert (sharp["high"] <= naive["high"] + 1e-12).all()
    for frame in (sharp, naive):
        assert (np.diff(frame["low"]) <= 1e-12).all()
        assert (np.diff(frame["high"]) >= -1e-12).all()


@pytest.mark.parametrize("model", MODELS)
def test_a_contrast_is_the_difference_of_opposite_ends(model: type[crl.NamkoongModel]) -> None:
    data, other = ragged_data(horizon=4), crl.PolicyValue(crl.Uniform(2), 0.9, 4)
    own = model(GAMMAS, replicates=2)
    both, first, second = (curve(data, goal, own) for goal in (crl.Contrast(GOAL, other), GOAL, other))
    assert both["low"].to_numpy() == pytest.approx(first["low"] - second["high"], abs=1e-12)
    assert both["high"].to_numpy() == pytest.approx(first["high"] - second["low"], abs=1e-12)


def test_what_was_done_is_known_whatever_the_logger_knew() -> None:
    data = ragged_data(horizon=4)
    frame = curve(data, crl.PolicyValue(crl.NaturalCourse(), 0.9, 4), crl.NamkoongModel(GAMMAS, replicates=5))
    expected = crl.OnPolicyMean().estimate(data, crl.PolicyValue(crl.NaturalCourse(), 0.9, 4)).value
    assert frame[["low", "high"]].to_numpy() == pytest.approx(expected, abs=1e-12)


def test_records_that_end_before_the_step_count_as_they_are() -> None:
    """Two records of one step, and two that go on by the same action; the first step has propensities 3/4 and 1/4."""
    data = crl.Trajectories.from_arrays([0] * 6, [0, 1, 0, 1, 0, 1], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0, 1, 2, 4, 6])
    frame = curve(data, crl.Uniform(2), crl.NaiveModel([1.0, 2.0], step=1, replicates=2))
    estimate = crl.IS(behavior=BY_TIME).estimate(data, crl.Uniform(2)).value
    late = (0.5 / 0.75) * (0.5 / 1.0) * (4.0 + 6.0) / 4
    assert frame["low"].tolist() == pytest.approx([estimate, estimate - late / 2])


# the bootstrap


def test_the_compiled_bootstrap_is_the_refit_of_every_resample() -> None:
    """Clusters of different sizes, a contrast: the interval from whole analyses of the resampled data."""
    from causalrl.kernels.resampling import count_block
    from causalrl.kernels.rng import derive_seed

    data = ragged_data(60, horizon=4)
    rows = {name: getattr(data, name) for name in ("observations", "actions", "rewards", "offsets", "end", "final_observations")}
    data = crl.Trajectories.from_arrays(**rows, n_actions=2, n_states=3, clusters=np.arange(60) // 2 % 25)
    model, recipe = crl.NamkoongModel(GAMMAS, step=1, replicates=10), crl.IS(behavior=BY_TIME)
    goal = crl.Contrast(GOAL, crl.PolicyValue(crl.Uniform(2), 0.9, 4))
    found = crl.sensitivity_analysis(recipe, data, goal, model, seed=3).frame
    values = []
    for counts in count_block(25, derive_seed(3, "sensitivity"), 0, 10):
        drawn = np.repeat(np.arange(60), counts[data.clusters].astype(int))
        sample = data.take(drawn)
        values.append(crl.sensitivity_analysis(recipe, sample, goal, crl.NamkoongModel(GAMMAS, step=1, replicates=2)).frame)
    spread = {name: np.std([own[name] for own in values], axis=0, ddof=1) for name in ("low", "high")}
    low, high = (abs(found[f"interval_{name}"] - found[name]).to_numpy() for name in spread)
    assert low == pytest.approx(1.959964 * spread["low"], rel=1e-6)
    assert high == pytest.approx(1.959964 * spread["high"], rel=1e-6)


def test_a_bootstrap_without_a_kernel_is_close_to_one_with() -> None:
    """Folds are split anew in every resample, so that only the spread is alike."""
    data = ragged_data(1000, horizon=4)
    one = curve(data, GOAL, crl.NamkoongModel([1.0, 2.0], replicates=60))
    folded = crl.IS(behavior=BY_TIME, folds=2)
    two = crl.sensitivity_analysis(folded, data, GOAL, crl.NamkoongModel([1.0, 2.0], replicates=60)).frame
    widths = [frame["interval_high"] - frame["interval_low"] for frame in (one, two)]
    assert widths[0].to_numpy() == pytest.approx(widths[1].to_numpy(), rel=0.25)


def test_the_same_bits_whatever_runs_it() -> None:
    output_whatever_runs_it(
        "import warnings; warnings.simplefilter('ignore')\n"
        "import causalrl as crl\n"
        "from tests.conftest import TARGET, cross_section, ragged_data\n"
        "recipe, goal = crl.IS(behavior=crl.Counts()), crl.PolicyValue(TARGET, horizon=3)\n"
        "for model in (crl.NamkoongModel([1, 2], step=1, replicates=5), crl.NaiveModel([1, 2], replicates=5)):\n"
        "    frame = crl.sensitivity_analysis(recipe, ragged_data(30, horizon=3), goal, model).frame\n"
        "    print(frame.round(12).to_numpy().tolist())\n"
        "model = crl.NamkoongModel([1, 2], replicates=3)\n"
        "frame = crl.sensitivity_analysis(crl.IS(behavior=crl.Logit()), cross_section(40), crl.ATE(), model).frame\n"
        "print(frame.round(8).to_numpy().tolist())\n"
    )


# population bounds and sharpness


def test_the_exact_bounds_are_the_limit_of_the_sample_ones() -> None:
    """n = 200,000, within four standard errors."""
    exact = population_bounds(ward(), WARD_LOGGER.table, WARD_TARGET.table, WARD_HORIZON, 3.0, WARD_GAMMAS)
    data = confounded_ward(3.0).sample(200_000, WARD_LOGGER, WARD_HORIZON, seed=0)
    frame = curve(data, crl.PolicyValue(WARD_TARGET, horizon=WARD_HORIZON), crl.NamkoongModel(WARD_GAMMAS, replicates=10))
    error = 4 * (frame["interval_high"] - frame["high"]).max() / 1.96
    assert np.abs(frame[["low", "high"]].to_numpy().T - exact).max() < error


@pytest.mark.parametrize("gamma", [1.5, 3.0, 10.0, 100.0])
def test_the_exact_bounds_contain_the_truth(gamma: float) -> None:
    """Whenever Gamma >= gamma, for several targets; and at gamma = 1 they are what importance sampling tends to."""
    record, gammas = confounded_ward(gamma), (1.0, gamma, 2 * gamma)
    for share in (0.0, 0.3, 0.8, 1.0):
        target = np.tile([1 - share, share], (4, 1))
        low, high = population_bounds(ward(), WARD_LOGGER.table, target, WARD_HORIZON, gamma, gammas)
        truth = record.value(crl.TabularPolicy(target), WARD_HORIZON)
        assert low[0] == pytest.approx(record.apparent_value(crl.TabularPolicy(target), WARD_LOGGER, WARD_HORIZON), abs=1e-12)
        assert (low[1:] <= truth).all()
        assert (truth <= high[1:]).all()


def test_bounds_at_a_later_step_contain_the_truth() -> None:
    """A logger confounded at step 1, n = 100,000: inside the bounds of that step, if not of importance sampling."""
    record = ward() | Confounded(50.0, steps=(1,))
    data = record.sample(100_000, WARD_LOGGER, WARD_HORIZON, seed=0)
    goal = crl.PolicyValue(crl.Always(1), horizon=WARD_HORIZON)
    frame = curve(data, goal, crl.NamkoongModel([1.0, 50.0], step=1, replicates=10))
    truth, apparent = record.value(crl.Always(1), WARD_HORIZON), record.apparent_value(crl.Always(1), WARD_LOGGER, WARD_HORIZON)
    error = 4 * (frame["interval_high"] - frame["high"])[0] / 1.96
    assert frame["low"][0] == pytest.approx(apparent, abs=error)
    assert abs(truth - apparent) > error
    assert frame["low"][1] - error < truth < frame["high"][1] + error


@pytest.mark.parametrize("policy", [crl.TiltedPropensity(2.0), crl.Softened(crl.Always(1), 0.3)], ids=str)
def test_targets_made_of_the_behavior_are_refitted_as_a_whole(policy: crl.Policy) -> None:
    data, goal = ragged_data(400, horizon=3), crl.PolicyValue(policy, horizon=3)
    frame = curve(data, goal, crl.NamkoongModel([1.0, 2.0], replicates=5))
    assert frame["low"][0] == pytest.approx(crl.IS(behavior=BY_TIME).estimate(data, goal).value, abs=1e-12)
    assert frame["interval_low"][1] < frame["low"][1] < frame["low"][0] < frame["high"][1] < frame["interval_high"][1]


@pytest.mark.parametrize("gamma", SHARP_GAMMAS)
def test_the_sharp_bound_is_attained(gamma: float) -> None:
    """A logger whose odds are gamma times larger or smaller, by what the outcome would be, leaves the same record and attains it.

    Of action a in state s: P(Y(a) = 1) = m makes P(a | Y(a) = y) = P(a) P(Y = y | a) / P(Y(a) = y).
    """
    for s, a in np.ndindex(2, 2):
        b, p = CHOICE[s, a], CURED[s, a]
        for factor in (1 / gamma, gamma):
            odds = factor * p / (1 - p)
            m = b * p + (1 - b) * odds / (1 + odds)
            cured, not_cured = b * p / m, b * (1 - p) / (1 - m)
            assert cured / (1 - cured) / (not_cured / (1 - not_cured)) == pytest.approx(1 / factor)
    low, high = sharp_bounds(gamma)
    exact = []
    for ratio in (gamma, 1 / gamma):  # the expectile of a coin with chance p solves ratio (1 - p) k = p (1 - k)
        kappa = CURED / (ratio * (1 - CURED) + CURED)
        exact.append((DECISION.table * (CHOICE * CURED + (1 - CHOICE) * kappa)).sum(axis=1).mean())
    assert (low, high) == pytest.approx(tuple(exact))


def test_the_distance_to_the_bound_is_the_sharp_one() -> None:
    """Within 5%: twenty fresh data sets here, 200 in the committed rows."""
    found = study(sharp_replication, 20, seed=1)
    assert found["value"].between(0.95, 1.05).all()
    rows = committed().query("figure.str.startswith('distance')")
    assert (rows["replications"] == SHARP_SETS).all()
    assert rows["value"].between(0.95, 1.05).all()
    assert len(rows) == 2 * len(SHARP_GAMMAS)


def test_intervals_cover_the_exact_bounds() -> None:
    rows = committed().query("figure.str.startswith('coverage')")
    assert (rows["replications"] == WARD_REPLICATIONS).all()
    assert (rows["value"] >= 0.93).all()
    assert len(rows) == len(WARD_GAMMAS)


@pytest.mark.slow
def test_fresh_intervals_cover_the_exact_bounds() -> None:
    """Not below the .0005 limit of 300 draws of .95."""
    found = study(ward_replication, 300, seed=1)
    assert (found["value"] * 300 >= binom.ppf(0.0005, 300, 0.95)).all()


# the published study


def committed() -> pd.DataFrame:
    rows = pd.read_csv(RESULTS)
    assert rows["commit"].str.fullmatch("[0-9a-f]{40}").all()
    return rows


def check_table(found: pd.Series) -> None:
    """Within .012 of the published table, in the published order."""
    for row, values in PUBLISHED.items():
        for target, value in zip(TARGETS, values, strict=True):
            assert found[f"{row}, {target}"] == pytest.approx(value, abs=0.012), (row, target)
    for target in TARGETS:
        assert found[f"naive, {target}"] < found[f"Namkoong, {target}"] < found[f"IS, {target}"]


def test_the_committed_rows_meet_the_published_study() -> None:
    rows = committed().set_index("figure")
    check_table(rows["value"])
    assert (rows.loc[[f"IS, {target}" for target in TARGETS], "replications"] == SEPSIS_SETS).all()
    assert rows.loc["design sensitivity, naive", "value"] == pytest.approx(PUBLISHED_DESIGN["naive"], abs=0.05)
    assert rows.loc["design sensitivity, Namkoong", "value"] == pytest.approx(PUBLISHED_DESIGN["Namkoong"], abs=0.15)


@pytest.mark.slow
def test_fresh_data_meet_the_published_study() -> None:
    check_table(study(sepsis_replication, 6, seed=1).set_index("figure")["value"])
    design = study(design_replication, 8, seed=1).set_index("figure")["value"]
    assert design["design sensitivity, naive"] == pytest.approx(1.21, abs=0.05)
    assert design["design sensitivity, Namkoong"] == pytest.approx(1.71, abs=0.15)


def test_the_truths_of_the_published_study() -> None:
    """The reference's grid over U and its exact values with fresh noise at every step, to .001; bounds lie below the truth."""
    published, fresh = NamkoongSepsis.as_published(), NamkoongSepsis(own_dynamics=False)
    truths = dict(zip(TARGETS, (0.1231, 0.0535, 0.1218), strict=True))
    for (target, name), ordinary in zip(TARGETS.items(), (0.1262, 0.0320, 0.1301), strict=True):
        truth = published.value(getattr(published, name))
        assert truth == pytest.approx(truths[target], abs=0.001)
        assert fresh.value(getattr(fresh, name)) == pytest.approx(ordinary, abs=0.001)
        assert committed().set_index("figure")["value"][f"Namkoong, {target}"] < truth


def test_the_generator_samples_what_it_says() -> None:
    """Unweighted returns under the marginal policies, and first actions, within four standard errors."""
    study_ = NamkoongSepsis(gamma=100.0)
    data = study_.sample(40_000, seed=1)
    first = data.offsets[:-1]
    b = study_.marginal_policy.table[0, data.observations[first]]
    treated = (data.actions[first] >= 4).mean()
    assert treated == pytest.approx(b[:, 4:].sum(axis=1).mean(), abs=4 * 0.5 / 200)
    goal, known = crl.PolicyValue(study_.marginal_policy, 0.99, 5), crl.KnownPropensity(study_.marginal_policy)
    estimate = crl.IS(behavior=known).estimate(data, goal)
    assert estimate.value == pytest.approx(
        np.mean([0.99**t * r for t, r in zip(data.steps(None).time, data.rewards, strict=True)]) * len(data.rewards) / data.n
    )
    with_ = crl.IS(behavior=known).estimate(data, crl.PolicyValue(study_.with_antibiotics, 0.99, 5))
    assert with_.value > study_.value(study_.with_antibiotics) + 4 * with_.stderr
    unconfounded = NamkoongSepsis(gamma=1.0)
    fair = crl.IS(behavior=crl.KnownPropensity(unconfounded.marginal_policy)).estimate(
        unconfounded.sample(40_000, seed=2), crl.PolicyValue(unconfounded.with_antibiotics, 0.99, 5)
    )
    assert fair.value == pytest.approx(unconfounded.value(unconfounded.with_antibiotics), abs=4 * fair.stderr)


@pytest.mark.parametrize("pooled", [False, True])
def test_counted_propensities(pooled: bool) -> None:
    data = NamkoongSepsis(pooled_counts=pooled).sample(300, seed=0)
    counted = NamkoongSepsis(pooled_counts=pooled).counted(data)
    steps = data.steps(None)
    for j in range(0, len(steps), 37):
        same = steps.observations == steps.observations[j]
        known = same & ((steps.time <= (1 if pooled else 0)) if steps.time[j] == 0 else steps.time >= 1)
        expected = (steps.actions[known] == steps.actions[j]).mean()
        assert counted.behavior_probabilities[j] == pytest.approx(expected)


# reading and refusing


def test_findings_and_the_figure() -> None:
    pytest.importorskip("matplotlib").use("Agg")
    found = crl.sensitivity_analysis(crl.IS(), cross_section(400), crl.ATE(), crl.NamkoongModel([1, 2, 20], replicates=20))
    assert "If at step 0 an unobserved confounder changes the odds of any two actions by a factor of 20" in found.findings[0]
    assert "holds a difference of 0 from gamma" in found.findings[1]
    assert 2 < found.tipping_point() < 20
    assert found.plot().get_ylabel()
    assert "gamma" in str(found.summary())


def late_data(per_cell: int) -> crl.Trajectories:
    """Four first actions equally often, then one of two states and of four actions; known chances of 1 / 4."""
    first, state, action = (part.ravel() for part in np.meshgrid(range(4), range(2), range(4 * per_cell), indexing="ij"))
    n, y = len(first), np.random.default_rng(0).normal(size=len(first))
    observations, actions, rewards = (
        np.column_stack(pair).ravel() for pair in ((0 * state, state), (first, action % 4), (0 * y, y))
    )
    return crl.Trajectories.from_arrays(
        observations, actions, rewards, 2 * np.arange(n + 1), n_states=2, n_actions=4, behavior_probabilities=np.full(2 * n, 0.25)
    )


@pytest.mark.parametrize("step", [0, 1])
def test_only_trajectories_of_positive_weight_count(step: int) -> None:
    """At step 1 a quarter of each state and action came there as the target would, and carry the weight; at step 0 all do."""
    goal = crl.PolicyValue(crl.Always(1), horizon=2)
    for per_cell, thin in ((8, step == 1), (12, False)):
        data = late_data(per_cell)
        decision = Decision.of(crl.IS(), Nuisances(data), goal, step)
        mass, sizes = decision.effective_sizes()
        assert np.diff(decision.groups.starts).min() >= 4 * per_cell
        assert sizes[mass > 0] == pytest.approx(8 * per_cell if step == 0 else per_cell)
        found = crl.sensitivity_analysis(crl.IS(), data, goal, crl.NamkoongModel([1, 2], step=step, replicates=2))
        assert any("with fewer than 10 effective trajectories" in text for text in found.findings) is thin
    naive = crl.sensitivity_analysis(crl.IS(), late_data(8), goal, crl.NaiveModel([1, 2], step=1, replicates=2))
    assert not any("effective trajectories" in text for text in naive.findings)


# what gamma limits at a later step

HISTORIES = ((-1.0, 9.0), (1.0, -9.0))
"""Returns with chances 9 / 10 and 1 / 10, by what was recorded at step 0."""


def history_population(depends: bool) -> tuple[np.ndarray, ...]:
    """What was recorded at step 0, the action at step 1 (chance 1 / 2) and the return that action 1 would have, by exact counts:
    given the record, one below its expectile at gamma = 2 is twice as likely, to a factor, where action 0 was taken."""
    rows = []
    for h, (often, rare) in enumerate(HISTORIES if depends else HISTORIES[:1] * 2):
        tilted = 18 / 19 if often < rare else 9 / 11
        for action, chance in ((1, 0.9), (0, tilted)):
            common = round(2090 * chance)
            rows += [(h, action, often)] * common + [(h, action, rare)] * (2090 - common)
    return tuple(np.array(rows).T)


@pytest.mark.parametrize("depends", [True, False])
def test_gamma_counts_the_earlier_record_with_the_unobserved(depends: bool) -> None:
    """A logger that goes by the record and by what the return would be, with odds that differ by 2 between any two returns.

    If the law of the return depends on that record, the true value is outside the bounds for 2, and inside those for the largest
    ratio of the odds over both; if it does not, the value is the bound for 2 itself.
    """
    h, action, y = history_population(depends)
    taken = [[action[(h == k) & (y == value)].mean() for value in np.unique(y[h == k])] for k in (0, 1)]
    odds = np.divide(taken, np.subtract(1, taken))
    assert odds.max(axis=1) / odds.min(axis=1) == pytest.approx(2)
    assert odds.max() / odds.min() == pytest.approx(3.8 / 1.1 if depends else 2)
    pairs = ((h, np.full(len(h), 2)), (0 * h, action), (0 * h, action * y))
    observations, actions, rewards = (np.column_stack(pair).ravel() for pair in pairs)
    data = crl.Trajectories.from_arrays(observations.astype(int), actions.astype(int), rewards, 2 * np.arange(len(h) + 1))
    policy = crl.TabularPolicy(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    model = crl.NamkoongModel([2.0, 3.8 / 1.1], step=1, replicates=2)
    found = crl.sensitivity_analysis(crl.IS(behavior=BY_TIME), data, crl.PolicyValue(policy, horizon=2), model)
    low, truth = found.frame["low"], y.mean()
    assert any("what was recorded before step 1 together with the unobserved" in text for text in found.findings)
    if depends:
        assert low[0] - truth > 0.02
        assert low[1] < truth
    else:
        assert low[0] == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize("outcome", [1.0, 0.1, -7e5])
def test_a_constant_outcome_has_one_bound(outcome: float) -> None:
    data = cross_section()
    study = crl.Trajectories.from_cross_section(data.observations, data.actions, np.full(data.n, outcome))
    recipe = crl.IS(behavior=crl.Logit())
    for goal in (crl.ATE(), crl.Always(1)):
        found = crl.sensitivity_analysis(recipe, study, goal, crl.NamkoongModel([1, 2, 9], replicates=5))
        assert found.frame[["low", "high"]].to_numpy() == pytest.approx(found.estimate.value, abs=1e-9 * abs(outcome))


def test_design_sensitivity_compares_like_with_like() -> None:
    data, model = ragged_data(horizon=3), crl.NamkoongModel([1, 2], replicates=2)

    def run(data: crl.Trajectories, model: crl.SensitivityModel) -> crl.SensitivityAnalysis:
        return crl.sensitivity_analysis(crl.IS(), data, crl.PolicyValue(TARGET, horizon=3), model)

    own = run(data, model)
    assert crl.design_sensitivity(own, own) == 1
    refused = [
        (run(data, crl.NaiveModel([1, 2], replicates=2)), "model: NaiveModel"),
        (run(data, crl.NamkoongModel([1, 3], replicates=2)), "gammas: the analyses have other ones"),
        (run(ragged_data(40, horizon=3), model), "data: the analyses are of different data"),
    ]
    for other, text in refused:
        with pytest.raises(SensitivityError, match=text):
            crl.design_sensitivity(other, own)


def analysed(estimator: crl.Estimator, goal: object = TARGET, **settings: object) -> Callable[[], object]:
    model = {"gammas": [1, 2], "replicates": 2} | settings
    return lambda: crl.sensitivity_analysis(estimator, ragged_data(horizon=3), goal, crl.NamkoongModel(**model))


@pytest.mark.parametrize(
    ("run", "error", "text"),
    [
        (lambda: crl.NamkoongModel([0.5, 1]), SensitivityError, "gammas: 0.5"),
        (lambda: crl.NaiveModel([2, 1]), SensitivityError, "comes after"),
        (lambda: crl.NaiveModel("12"), SensitivityError, "no list"),
        (lambda: crl.NamkoongModel([1, 2], step=-1), SensitivityError, "step: -1"),
        (lambda: crl.NamkoongModel([1, 2], replicates=1), SensitivityError, "replicates: 1"),
        (lambda: crl.NamkoongModel([1, 2], level=95), IntervalError, "level: 95"),
        (analysed(crl.WIS()), EstimandError, r"use IS\(\)"),
        (analysed(crl.DR()), EstimandError, r"use IS\(\)"),
        (analysed(crl.IS(truncate=10.0)), EstimandError, "truncate: 10"),
        (analysed(crl.IS(), crl.ATT()), EstimandError, "contrasts of two"),
        (analysed(crl.IS(), crl.PolicyValue(TARGET, horizon=2), step=2), SensitivityError, "the horizon is 2"),
        (analysed(crl.IS(), crl.PolicyValue(TARGET, horizon=3), step=7), SensitivityError, "pass a step from 0 to 2"),
        (analysed(crl.IS(), crl.CATE([0])), EstimandError, "contrasts of two"),
        (lambda: NamkoongSepsis(gamma=0.5), CausalRLError, "gamma"),
        (lambda: NamkoongSepsis(lasting_luck="no"), CausalRLError, "lasting_luck"),
    ],
)
def test_refusals(run: Callable[[], object], error: type[CausalRLError], text: str) -> None:
    with pytest.raises(error, match=text):
        run()


def test_continuous_actions_have_no_odds() -> None:
    doses = crl.Trajectories.from_arrays([[0.0]] * 4, [[0.1], [0.2], [0.3], [0.4]], np.ones(4), range(5))
    with pytest.raises(SensitivityError, match="bin them into integers"):
        crl.sensitivity_analysis(crl.IS(), doses, TARGET, crl.NamkoongModel([1, 2]))
