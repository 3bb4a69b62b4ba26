"""Kang & Schafer (2007): the committed table of 5,000 samples, fresh samples, and the paper's claims."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.kang_schafer import COLUMNS, REPLICATIONS, RESULTS, SIZES, quiet, summary, table
from simulators import KangSchafer

Cell = tuple[str, str, str]
# Bias, RMSE, median |error| at n = 200, then at n = 1,000, of an independent run of 5,000 samples.
CENTRES: dict[Cell, tuple[float, float, float, float, float, float]] = {
    ("OLS", "", "right"): (0.09, 2.57, 1.73, 0.02, 1.17, 0.78),
    ("OLS", "", "wrong"): (-0.46, 3.40, 2.28, -0.78, 1.70, 1.21),
    ("IPW-POP", "right", ""): (-0.11, 3.90, 2.39, -0.04, 1.77, 1.13),
    ("IPW-POP", "wrong", ""): (1.59, 8.82, 3.23, 4.59, 11.07, 2.51),
    ("IPW-NR", "right", ""): (-0.15, 3.60, 2.28, -0.04, 1.66, 1.07),
    ("IPW-NR", "wrong", ""): (0.62, 6.13, 2.98, 2.97, 6.80, 2.13),
    ("HT", "right", ""): (-0.25, 12.65, 6.32, -0.10, 4.88, 3.01),
    ("HT", "wrong", ""): (18.1, 95.0, 9.27, 85.6, 3619.0, 13.67),
    ("AIPW", "right", "right"): (0.09, 2.57, 1.73, 0.02, 1.17, 0.78),
    ("AIPW", "right", "wrong"): (0.46, 3.63, 2.23, 0.11, 1.70, 1.05),
    ("AIPW", "wrong", "right"): (0.09, 2.60, 1.73, 0.04, 1.95, 0.80),
    ("AIPW", "wrong", "wrong"): (-5.37, 18.2, 3.58, -35.9, 1671.0, 5.07),
    ("WLS", "right", "right"): (0.09, 2.57, 1.73, 0.02, 1.17, 0.78),
    ("WLS", "right", "wrong"): (0.55, 3.09, 2.05, 0.20, 1.38, 0.92),
    ("WLS", "wrong", "right"): (0.09, 2.57, 1.73, 0.02, 1.17, 0.79),
    ("WLS", "wrong", "wrong"): (-2.15, 3.93, 2.75, -2.92, 3.27, 2.96),
}
BIAS = {200: 0.35, 1000: 0.15}
BIAS_HT = {200: 1.0, 1000: 0.4}


def heavy(cell: Cell) -> bool:
    """Means of these are driven by single samples."""
    name, pi, _ = cell
    return pi == "wrong" and name != "WLS"


def cells(rows: pd.DataFrame, n: int) -> dict[Cell, pd.Series]:
    own = rows[rows["n"] == n].fillna({"pi": "", "y": ""})
    return {(row["estimator"], row["pi"], row["y"]): row for _, row in own.iterrows()}


def check_bands(found: dict[Cell, pd.Series], n: int) -> None:
    """Within the stated bands, or 4 Monte-Carlo standard errors where these are wider."""
    assert set(found) == set(CENTRES)
    for cell, row in found.items():
        bias, rmse, mae = CENTRES[cell][:3] if n == 200 else CENTRES[cell][3:]
        if heavy(cell):
            assert abs(row["mae"] - mae) <= max(0.15 * mae, 4 * row["mae_mcse"]), cell
            continue
        band = (BIAS_HT if cell[0] == "HT" else BIAS)[n]
        assert abs(row["bias"] - bias) <= max(band, 4 * row["bias_mcse"]), cell
        assert abs(row["rmse"] - rmse) <= max(0.1 * rmse, 4 * row["rmse_mcse"]), cell


def check_claims(small: dict[Cell, pd.Series], large: dict[Cell, pd.Series]) -> None:
    """Two wrong models are not better than one; one right model is enough."""
    both = ("AIPW", "wrong", "wrong")
    for found in (small, large):
        order = [("OLS", "", "wrong"), ("WLS", "wrong", "wrong"), ("IPW-POP", "wrong", ""), both]
        assert np.all(np.diff([found[cell]["rmse"] for cell in order]) > 0)
    assert small[both]["rmse"] > 10
    assert large[both]["rmse"] > 25
    assert large[both]["mae"] > small[both]["mae"]
    for cell in (("AIPW", "right", "wrong"), ("AIPW", "wrong", "right"), ("AIPW", "right", "right")):
        assert abs(large[cell]["bias"]) < max(0.15, 4 * large[cell]["bias_mcse"])


def test_the_committed_table() -> None:
    rows = pd.read_csv(RESULTS)
    assert (rows["replications"] == REPLICATIONS).all()
    assert rows["commit"].str.fullmatch("[0-9a-f]{40}").all()
    for n in SIZES:
        check_bands(cells(rows, n), n)
    check_claims(cells(rows, 200), cells(rows, 1000))


@pytest.mark.slow
def test_fresh_samples_give_the_same_table() -> None:
    found = {n: cells(table(n, 400, seed=1), n) for n in SIZES}
    for n, own in found.items():
        check_bands(own, n)
    check_claims(found[200], found[1000])


def test_one_sample_by_hand() -> None:
    """The definitions of section 1 of the paper on the arrays of one sample, written in NumPy."""
    from causalrl.kernels.rng import derive_seed

    study = KangSchafer().sample(200, seed=derive_seed(7, 200, 3))
    r, y = study.actions, study.rewards
    designs = {"right": study.observations[:, :4], "wrong": study.observations[:, 4:]}
    designs = {name: np.column_stack([np.ones(200), (x - x.mean(0)) / x.std(0)]) for name, x in designs.items()}
    fitted = {name: logit_by_hand(x, r) for name, x in designs.items()}
    found = {cell: 210 + error for cell, error in quiet(200, 3, 7).items()}

    def regression(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        root = np.sqrt(weights[r == 1])
        return np.asarray(x @ np.linalg.lstsq(x[r == 1] * root[:, None], y[r == 1] * root, rcond=None)[0])

    for pi in COLUMNS:
        w, odds = r / fitted[pi], r * (1 - fitted[pi]) / fitted[pi]
        nonrespondents = r.mean() * y[r == 1].mean() + (1 - r.mean()) * (odds @ y) / odds.sum()
        expected = {"HT": np.mean(w * y), "IPW-POP": (w @ y) / w.sum(), "IPW-NR": nonrespondents}
        for name, value in expected.items():
            assert found[name, pi, ""] == pytest.approx(value, rel=1e-9)
        for outcome in COLUMNS:
            m = regression(designs[outcome], np.ones(200))
            assert found["OLS", "", outcome] == pytest.approx(m.mean(), rel=1e-9)
            assert found["AIPW", pi, outcome] == pytest.approx(m.mean() + np.mean(w * (y - m)), rel=1e-9)
            assert found["WLS", pi, outcome] == pytest.approx(regression(designs[outcome], w + (r == 0)).mean(), rel=1e-9)


def logit_by_hand(x: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Fitted probabilities by Newton's method."""
    b = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ b))
        b += np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]), x.T @ (r - p))
    return np.asarray(1 / (1 + np.exp(-x @ b)))


def test_a_cell_is_summed_up_by_bias_root_mean_square_and_median() -> None:
    cell = summary(np.array([-1.0, 1.0, 3.0, 1.0]))
    assert (cell["bias"], cell["rmse"], cell["mae"]) == pytest.approx((1.0, np.sqrt(3), 1.0))
    assert cell["bias_mcse"] == pytest.approx(np.std([-1, 1, 3, 1], ddof=1) / 2)
