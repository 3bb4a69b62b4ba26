"""Estimates that are vectors: standard errors, arithmetic, and one value taken out."""

from __future__ import annotations

import numpy as np
import pytest

import causalrl as crl
from causalrl.diagnostics.balance import standardized_differences
from causalrl.diagnostics.record import diagnostics_record
from causalrl.errors import EstimandError, IntervalError
from causalrl.inference.base import Evidence, Linearised


def vector(n: int = 400, seed: int = 0, clusters: int | None = None) -> tuple[crl.Estimate, np.ndarray, np.ndarray]:
    """Coefficients of a least-squares line at three points, its design and its coefficients' influence values."""
    rng = np.random.default_rng(seed)
    basis = np.column_stack([np.ones(n), rng.normal(size=n)])
    y = basis @ [1.0, 2.0] + rng.normal(size=n) * (1 + basis[:, 1] ** 2)
    coefficients = np.linalg.lstsq(basis, y, rcond=None)[0]
    influence = basis * (y - basis @ coefficients)[:, None] @ np.linalg.inv(basis.T @ basis / n)
    design = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 3.0]])
    codes = np.arange(n) if clusters is None else np.arange(n) % clusters
    evidence = Evidence(design @ coefficients, codes, linear=Linearised(design, influence))
    estimate = crl.Estimate(evidence.value, "line", "points", diagnostics_record(), evidence, "data", labels=("a", "b", "c"))
    return estimate, design, influence


@pytest.mark.parametrize("clusters", [None, 40])
def test_standard_errors_are_the_sandwich(clusters: int | None) -> None:
    estimate, design, influence = vector(clusters=clusters)
    totals = influence if clusters is None else influence.reshape(-1, clusters, 2).sum(axis=0)
    centred, count = totals - totals.mean(axis=0) * (clusters is None), len(totals)
    covariance = centred.T @ centred * count / (count - 1) / len(influence) ** 2
    expected = np.sqrt(np.diag(design @ covariance @ design.T))
    np.testing.assert_allclose(estimate.stderr, expected, rtol=1e-9)
    low, high = estimate.interval()
    np.testing.assert_allclose((high + low) / 2, estimate.value)
    assert list(estimate.to_frame()["estimand"]) == ["a", "b", "c"]


def test_a_value_taken_out_is_an_estimate() -> None:
    estimate, _, _ = vector()
    one = estimate["c"]
    assert one.value == estimate[2].value == estimate[-1].value == estimate.value[2]
    assert one.stderr == pytest.approx(estimate.stderr[2], rel=1e-9)
    assert one.interval(method=crl.PercentileBootstrap(500)).low < one.value
    assert (estimate["a"] + 3 * estimate["b"]).stderr == pytest.approx(one.stderr, rel=1e-9)
    for key in ("d", 3, -4):
        with pytest.raises(EstimandError, match="a place below 3"):
            estimate[key]
    with pytest.raises(EstimandError, match="single number"):
        one[0]
    with pytest.raises(IntervalError, match=r"estimate\[0\]"):
        estimate.interval(method=crl.PercentileBootstrap(100))


def test_arithmetic_keeps_the_joint_spread() -> None:
    estimate, _, _ = vector()
    np.testing.assert_allclose((estimate - estimate).stderr, 0, atol=1e-12)
    np.testing.assert_allclose((estimate + estimate).stderr, 2 * np.asarray(estimate.stderr))
    np.testing.assert_allclose((2 * estimate).exp().stderr, 2 * np.exp(2 * estimate.value) * estimate.stderr)
    np.testing.assert_allclose((estimate * estimate).stderr, 2 * np.abs(estimate.value) * estimate.stderr)


def test_standardized_differences_by_hand() -> None:
    treated = np.array([1, 1, 1, 0, 0], bool)
    x = np.array([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0], [0.0, 5.0], [4.0, 5.0]])
    spread = np.sqrt((np.var([1, 2, 6], ddof=1) + np.var([0, 4], ddof=1)) / 2)
    np.testing.assert_allclose(standardized_differences(x, treated, ~treated), [1 / spread, 0])
    weights = np.array([1, 1, 2, 3, 1.0])
    np.testing.assert_allclose(standardized_differences(x, treated, ~treated, weights), [(15 / 4 - 1) / spread, 0])
