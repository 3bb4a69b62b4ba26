"""Refits in kernels against re-fitting in Python, replicate by replicate, and against naive loops."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

import numpy as np
import pytest

import causalrl as crl
from causalrl.estimators.base import Refitted
from causalrl.estimators.refits import CompiledScore
from causalrl.nuisances.crossfit import Nuisances
from simulators import SepsisSimulator
from tests.conftest import output_whatever_runs_it

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")

S, A, H = 4, 3, 5
RNG = np.random.default_rng(1)
TARGET = RNG.dirichlet(np.ones(A), (H, S))
TARGET[1, 2] = [0.0, 0.4, 0.6]
STATIONARY = RNG.dirichlet(np.ones(A), S)
Q = RNG.normal(size=(H + 1, S, A))
GOAL = crl.PolicyValue(crl.TabularPolicy(TARGET), discount=0.9, horizon=H)
FOREVER = crl.PolicyValue(crl.TabularPolicy(STATIONARY), discount=0.9)


def ragged(n: int = 60, seed: int = 0, *, early: bool = False) -> crl.Trajectories:
    """Records of one to six steps, two trajectories a cluster and some of them alone; `early` cuts a third of the short ones."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, H + 2, n)
    steps = int(lengths.sum())
    states = rng.integers(0, S, steps)
    p = rng.dirichlet(np.full(A, 5.0), S)
    actions = (rng.random((steps, 1)) > np.cumsum(p[states], axis=1)[:, :-1]).sum(axis=1)
    cut = (lengths > H) | ((rng.random(n) < 0.3) if early else np.zeros(n, bool))
    return crl.Trajectories.from_arrays(
        states,
        actions,
        rng.normal(size=steps) + states,
        np.append(0, np.cumsum(lengths)),
        end=cut.astype(int),
        behavior_probabilities=p[states],
        final_observations=rng.integers(0, S, n),
        n_states=S,
        n_actions=A,
        state_features=rng.normal(size=(S, 2)),
        clusters=np.minimum(np.arange(n) // 2, n // 2 - 5) + np.maximum(np.arange(n) - (n - 10), 0),
    )


def counts_of(data: crl.Trajectories, replicates: int, seed: int = 0) -> np.ndarray:
    clusters = int(data.clusters.max()) + 1
    draws = np.random.default_rng(seed).integers(0, clusters, (replicates, clusters))
    return np.stack([np.bincount(row, minlength=clusters) for row in draws]).astype(float)


def in_python(estimator: crl.Estimator, data: crl.Trajectories, goal: crl.PolicyValue, seed: int = 0) -> Refitted:
    return Refitted(Nuisances(data, seed), partial(estimator.point, goal=goal))


BEHAVIORS: dict[str, Any] = {
    "logged": None,
    "counts": crl.Counts(),
    "by time": crl.Counts(by_time=True),
    "memory": crl.Counts(memory=2),
    "logit": crl.Logit(),
}
MODELS: dict[str, Any] = {
    "known": crl.KnownQ(Q),
    "tabular": crl.TabularQ(),
    "by time": crl.TabularQ(by_time=True),
    "constant": crl.TabularQ(unseen=crl.ConstantValue(1.0)),
}


def same(
    estimator: crl.Estimator, data: crl.Trajectories, goal: crl.PolicyValue, counts: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Both paths, replicate by replicate, the missing values included."""
    refit = estimator.estimate(data, goal, seed=seed).evidence.refit
    assert isinstance(refit, CompiledScore)
    values = refit(counts)
    np.testing.assert_allclose(values, in_python(estimator, data, goal, seed)(counts), rtol=1e-10, atol=1e-10)
    return values


@pytest.mark.parametrize("behavior", BEHAVIORS)
@pytest.mark.parametrize("kind", ["IS", "WIS", "PDIS", "PDWIS"])
@pytest.mark.parametrize("truncate", [None, 1.5])
def test_weighting(kind: str, behavior: str, truncate: float | None) -> None:
    data = ragged()
    estimator = getattr(crl, kind)(behavior=BEHAVIORS[behavior], truncate=truncate)
    values = same(estimator, data, GOAL, counts_of(data, 12))
    assert np.isfinite(values).all()
    assert np.ptp(values) > 1e-3


@pytest.mark.parametrize("q", MODELS)
@pytest.mark.parametrize("kind", ["DR", "WDR"])
@pytest.mark.parametrize("folds", [None, 1, 3])
def test_doubly_robust(kind: str, q: str, folds: int | None) -> None:
    """Folds split the drawn clusters; records cut early are continued; a seed moves the folds and the values with them."""
    data = ragged(early=True)
    for behavior in ("logged", "counts"):
        estimator = getattr(crl, kind)(behavior=BEHAVIORS[behavior], q=MODELS[q], folds=folds)
        values = same(estimator, data, GOAL, counts_of(data, 8), seed=4)
        assert np.isfinite(values).any()


@pytest.mark.parametrize("kind", ["DR", "WDR"])
def test_a_stationary_problem(kind: str) -> None:
    data = ragged(150).take(np.flatnonzero(ragged(150).end == 0))
    for folds in (None, 2):
        estimator = getattr(crl, kind)(behavior=crl.Counts(), q=crl.TabularQ(), folds=folds)
        refit = estimator.estimate(data, FOREVER).evidence.refit
        counts = counts_of(data, 6)
        expected = in_python(estimator, data, FOREVER)(counts)
        np.testing.assert_allclose(refit(counts), expected, rtol=1e-8)  # a fixed point, converged to 1e-10


def test_a_resample_without_a_value_is_nan() -> None:
    """No weight left, an action that other folds never saw, fewer clusters than folds: NaN, and no interval."""
    data = ragged(150)
    counts = np.zeros((4, int(data.clusters.max()) + 1))
    for row, drawn in enumerate((1, 2, 4, 5)):  # five clusters make five folds of one, none of which saw all of the others
        counts[row, :drawn] = 1
    for estimator in (crl.PDWIS(behavior=crl.Counts(), folds=5), crl.DR(behavior=crl.Counts(), folds=5)):
        assert np.isnan(same(estimator, data, GOAL, counts)).all()
    agreeing = crl.Trajectories.from_arrays([0] * 6, [0, 0, 0, 0, 0, 1], np.arange(6.0), range(7))
    only_one = crl.PolicyValue(crl.Always(1), horizon=1)
    values = same(crl.WIS(behavior=crl.Counts()), agreeing, only_one, np.array([[1.0, 1, 1, 1, 1, 1], [2, 2, 1, 1, 0, 0]]))
    assert values[0] == 5.0
    assert np.isnan(values[1])
    with pytest.raises(crl.errors.IntervalError, match="refits have no value"):
        crl.WIS(behavior=crl.Counts()).estimate(agreeing, only_one).interval(method=crl.RefitBootstrap(100))


def test_a_logit_that_a_resample_separates_is_nan() -> None:
    x = np.array([-2.0, -1.0, 1.0, 2.0, -0.5, 0.5])[:, None]
    study = crl.Trajectories.from_cross_section(x, [0, 0, 1, 1, 1, 0], np.arange(6.0))
    counts = np.array([[1.0] * 6, [1, 1, 2, 2, 0, 0], [3, 3, 0, 0, 0, 0]])
    values = same(crl.IS(behavior=crl.Logit()), study, crl.PolicyValue(crl.Always(1)), counts)
    assert np.isnan(values).tolist() == [False, True, True]


@pytest.mark.parametrize("arms", [2, 3])
def test_vectors(arms: int) -> None:
    from tests.conftest import cross_section

    study = cross_section(arms=arms)
    for estimator in (crl.WIS(behavior=crl.Logit()), crl.WIS(behavior=crl.Logit(), folds=4), crl.PDIS()):
        same(estimator, study, crl.PolicyValue(crl.Uniform(arms)), counts_of(study, 6))


def test_where_no_kernel_serves_python_does() -> None:
    """A regression, a formula, a target made of the behaviour, a median over splits."""
    data = ragged()
    cases = [
        (crl.DR(q=crl.LinearQ(), behavior=crl.Counts()), GOAL),
        (crl.WIS(behavior=crl.Logit("C(state)")), GOAL),
        (crl.WIS(behavior=crl.Counts()), crl.PolicyValue(crl.NaturalCourse(), horizon=H)),
        (crl.DR(behavior=crl.Counts(), repeats=3), GOAL),
    ]
    for estimator, goal in cases:
        assert isinstance(estimator.estimate(data, goal).evidence.refit, Refitted)


def test_a_contrast_refits_pairwise_in_both_terms() -> None:
    data = ragged()
    a, b = (
        crl.WIS(behavior=crl.Counts()).estimate(data, goal)
        for goal in (GOAL, crl.PolicyValue(crl.Uniform(A), discount=0.9, horizon=H))
    )
    counts = counts_of(data, 5)
    np.testing.assert_allclose((a - b).evidence.refit(counts), a.evidence.refit(counts) - b.evidence.refit(counts), rtol=1e-12)


PROGRAM = """
import numpy as np, causalrl as crl, warnings
warnings.simplefilter("ignore")
from tests.test_refits import ragged, counts_of, GOAL
data = ragged(30)
for estimator in (crl.IS(behavior=crl.Counts()), crl.WDR(behavior=crl.Counts(memory=2)), crl.PDWIS(behavior=crl.Logit())):
    print([f"{v:.11g}" for v in estimator.estimate(data, GOAL).evidence.refit(counts_of(data, 5))])
"""


@pytest.mark.slow
def test_the_same_numbers_whatever_runs_them() -> None:
    output_whatever_runs_it(PROGRAM)


@pytest.mark.slow
def test_the_refit_bootstrap_of_b5_covers() -> None:
    """Trap B5: n = 500, T ~ Bern(expit x), y = 2x + T + noise, Hajek ATE, 400 repetitions, B = 200: true sd .1475; bootstrap
    error .2675 with the propensities fixed (coverage .995), .1448 with the propensities refitted (coverage .925)."""
    rng = np.random.default_rng(0)
    values, fixed, refitted, covered, covered_fixed = [], [], [], 0, 0
    for _ in range(400):
        x = rng.normal(size=500)
        e = 1 / (1 + np.exp(-x))
        t = (rng.random(500) < e).astype(int)
        study = crl.Trajectories.from_cross_section(x[:, None], t, 2 * x + t + rng.normal(size=500))
        estimate = crl.IPW(propensity=crl.Logit()).estimate(study, crl.ATE())
        values.append(estimate.value)
        method = crl.RefitBootstrap(200)
        refitted.append(method.stderr(estimate.evidence))
        covered += abs(estimate.value - 1) <= 1.96 * refitted[-1]
        p = Nuisances(study).behavior(crl.Logit(), None, None).fits[0].probabilities(study.observations, np.zeros(500, int))
        frozen = crl.IPW().estimate(crl.Trajectories.from_cross_section(x[:, None], t, study.rewards, propensity=p), crl.ATE())
        fixed.append(method.stderr(frozen.evidence))
        covered_fixed += abs(frozen.value - 1) <= 1.96 * fixed[-1]
    assert np.std(values, ddof=1) == pytest.approx(0.1475, rel=0.14)  # four Monte-Carlo errors of a standard deviation
    assert np.mean(fixed) == pytest.approx(0.2675, rel=0.05)
    assert np.mean(refitted) == pytest.approx(0.1448, rel=0.05)
    assert covered / 400 == pytest.approx(0.925, abs=0.045)
    assert covered_fixed / 400 == pytest.approx(0.995, abs=0.015)


@pytest.mark.slow
def test_five_hundred_refits_of_sepsis_take_seconds() -> None:
    """1440 states, 5,000 trajectories, H = 20, B = 500: under 5 s on two quiet cores; a busy machine gets more."""
    simulator = SepsisSimulator()
    data = simulator.sample(5_000, simulator.physician(epsilon=0.3), horizon=20, seed=1)
    estimate = crl.DR(behavior=crl.Counts()).estimate(data, crl.PolicyValue(simulator.physician(epsilon=0.15), horizon=20))
    estimate.interval(method=crl.RefitBootstrap(4))
    start = time.process_time()
    estimate.interval(method=crl.RefitBootstrap(500))
    assert time.process_time() - start < 10, os.getloadavg()
