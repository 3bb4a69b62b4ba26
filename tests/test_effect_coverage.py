"""Coverage of average effects on `Point`: the committed rows of 2,000 samples, and fresh samples."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, norm
from sklearn.linear_model import LinearRegression

import causalrl as crl
from benchmarks.effect_coverage import BAND, NAMES, REPLICATIONS, RESULTS, RISK_RATIO, coverage
from simulators import Point

FRESH = 200


def test_the_committed_rows() -> None:
    rows = pd.read_csv(RESULTS)
    assert tuple(rows["estimate"]) == NAMES
    assert (rows["replications"] == REPLICATIONS).all()
    assert rows["commit"].str.fullmatch("[0-9a-f]{40}").all()
    assert rows["coverage"].between(*BAND).all()
    assert (rows["bias"].abs() < 0.2 * rows["rmse"]).all()


@pytest.mark.slow
def test_fresh_samples_are_covered() -> None:
    """Within the two-sided .0005 limits of 200 binomial draws."""
    found = coverage(FRESH, seed=1).set_index("estimate")["coverage"] * FRESH
    low, high = binom.ppf([0.0005, 0.9995], FRESH, 0.95)
    assert found.between(low, high).all(), found


def test_the_truths() -> None:
    """Effect 1 in every population; the risk ratio of Y > 0 by its normal laws, and by simulation of both outcomes."""
    rng = np.random.default_rng(0)
    x1, x2, noise = rng.normal(size=(3, 400_000))
    means = Point().outcome_means(np.column_stack([x1, x2, *np.zeros((8, len(x1)))]))
    e = 1 / (1 + np.exp(-x1))
    for weights in (np.ones_like(e), e, e * (1 - e)):
        assert np.average(means[:, 1] - means[:, 0], weights=weights) == pytest.approx(1.0, abs=0.02)
    risks = np.mean(means + noise[:, None] > 0, axis=0)
    assert risks[1] / risks[0] == pytest.approx(RISK_RATIO, abs=0.01)
    assert pytest.approx(2 * norm.cdf(1 / np.sqrt(3))) == RISK_RATIO


def test_the_t_learner_is_least_squares_refits_and_all() -> None:
    study = Point().sample(300, seed=2)
    compiled, plain = crl.GFormula(crl.LinearQ()), crl.TLearner(LinearRegression())
    method = crl.RefitBootstrap(20)
    ours, theirs = (recipe.estimate(study, crl.ATE()) for recipe in (compiled, plain))
    assert ours.value == pytest.approx(theirs.value, abs=1e-10)
    assert tuple(ours.interval(method=method)) == pytest.approx(tuple(theirs.interval(method=method)), abs=1e-10)
