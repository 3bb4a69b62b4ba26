"""Two-stage least squares: against statsmodels and by hand, its coverage, and weak instruments."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.sandbox.regression.gmm import IV2SLS

import causalrl as crl
from causalrl.errors import DataError, EstimandError, WeakInstrumentWarning
from simulators import BinaryInstrument

N = 600


@pytest.fixture(scope="module")
def study() -> crl.Trajectories:
    return BinaryInstrument().sample(N, seed=3)


def by_hand(data: crl.Trajectories, covariates: np.ndarray) -> tuple[float, float]:
    """2SLS coefficient of the treatment and its HC0 error, from projections."""
    outside = np.column_stack([np.ones(data.n), covariates])
    instruments = np.column_stack([outside, data.observations[:, 1]])
    regressors = np.column_stack([outside, data.actions])
    projected = instruments @ np.linalg.lstsq(instruments, regressors, rcond=None)[0]
    coefficients = np.linalg.solve(projected.T @ regressors, projected.T @ data.rewards)
    residual = data.rewards - regressors @ coefficients
    bread = np.linalg.inv(projected.T @ projected)
    covariance = bread @ (projected.T * residual**2) @ projected @ bread
    return float(coefficients[-1]), float(np.sqrt(covariance[-1, -1]))


@pytest.mark.parametrize("covariates", [None, "x1 + I(x1**2)"])
def test_two_stage_least_squares(covariates: str | None, study: crl.Trajectories) -> None:
    x = study.observations[:, 0]
    columns = np.empty((N, 0)) if covariates is None else np.column_stack([x, x**2])
    value, error = by_hand(study, columns)
    estimate = crl.TwoStage("instrument", covariates).estimate(study)
    assert estimate.value == pytest.approx(value, rel=1e-10)
    assert estimate.stderr * np.sqrt((N - 1) / N) == pytest.approx(error, rel=1e-10)
    outside = np.column_stack([np.ones(N), columns])
    theirs = IV2SLS(
        study.rewards, np.column_stack([outside, study.actions]), np.column_stack([outside, study.observations[:, 1]])
    ).fit()
    assert estimate.value == pytest.approx(theirs.params[-1], rel=1e-8)


def test_without_covariates_it_is_the_ratio_of_two_differences(study: crl.Trajectories) -> None:
    assigned = study.observations[:, 1] == 1
    gains = [v[assigned].mean() - v[~assigned].mean() for v in (study.rewards, study.actions)]
    model = crl.TwoStage("instrument")
    assert model.reduced_form(study).value == pytest.approx(gains[0], rel=1e-12)
    assert model.first_stage(study).value == pytest.approx(gains[1], rel=1e-12)
    assert model.estimate(study).value == pytest.approx(gains[0] / gains[1], rel=1e-12)


def test_refits_agree_with_the_sandwich(study: crl.Trajectories) -> None:
    estimate = crl.TwoStage("instrument", covariates="x1").estimate(study)
    refitted = estimate.evidence.refit_stderr(200, 1)
    assert refitted == pytest.approx(estimate.stderr, rel=0.2)


def test_a_continuous_treatment() -> None:
    rng = np.random.default_rng(0)
    z, hidden = rng.normal(size=(2, 5000))
    dose = z + hidden + rng.normal(size=5000)
    data = crl.Trajectories.from_cross_section(z[:, None], dose[:, None], 2 * dose + hidden, feature_names=["z"])
    assert 2.0 in crl.TwoStage("z").estimate(data).interval(0.999)


@pytest.mark.slow
def test_coverage() -> None:
    """400 replications; binomial tolerance of 4 standard errors about .95."""
    design = BinaryInstrument()
    model = crl.TwoStage("instrument", covariates="x1")
    hits = [design.late in model.estimate(design.sample(1000, seed)).interval() for seed in range(400)]
    assert abs(np.mean(hits) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 400)


def test_a_weak_instrument_is_said() -> None:
    data = BinaryInstrument(always_takers=0.49, never_takers=0.49).sample(200, seed=0)
    with pytest.warns(WeakInstrumentWarning, match="first-stage F"):
        estimate = crl.TwoStage("instrument").estimate(data)
    assert "WeakInstrumentWarning" in estimate.diagnostics["warnings"][0]


def test_bad_input(study: crl.Trajectories) -> None:
    with pytest.raises(EstimandError, match="2 columns"):
        crl.TwoStage("instrument + x1").estimate(study)
    with pytest.raises(DataError, match=r"cannot be read.*x1, instrument"):
        crl.TwoStage("assigned").estimate(study)
    with pytest.raises(DataError, match="covariates determine"):
        crl.TwoStage("instrument", covariates="x1 + instrument").estimate(study)
    sequence = crl.Trajectories.from_arrays([[0.0], [1.0]], [0, 1], [0.0, 1.0], [0, 2])
    with pytest.raises(EstimandError, match="sequential"):
        crl.TwoStage("x0").estimate(sequence)
