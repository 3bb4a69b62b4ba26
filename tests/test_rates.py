"""Root-n rates, efficiency and coverage: the committed rows hold, and a smaller run of the same code agrees with them.

`python -m benchmarks.rates` and `python -m benchmarks.coverage` make the rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import causalrl as crl
from benchmarks import coverage, rates
from benchmarks.problems import Problem, icu_sepsis, model_fail, model_win, sepsis

RATES = pd.read_csv(coverage.RESULTS.with_name("rates.csv"))
EFFICIENCY = pd.read_csv(coverage.RESULTS.with_name("efficiency.csv"))
COVERAGE = pd.read_csv(coverage.RESULTS)
SLOPES = rates.slopes(RATES).set_index(["problem", "estimator"])
ROOT_N = [key for key in SLOPES.index if not (key[0] == "ModelFail" and key[1] in rates.MARKOV)]
MOST = {("DRL", 5_000): 1.15, ("FQE", 5_000): 1.30, ("FQE", 20_000): 1.15}
ASSERTED = [
    *((problem, name) for problem in ("sepsis", "ICU-Sepsis", "ModelWin") for name in ("WIS", "PDWIS", "DR", "WDR")),
    *((problem, name) for problem in ("sepsis", "ModelWin") for name in ("MIS", "DRL")),
]

# ------------------------------------------------------------------------------------------------- the committed rows


@pytest.mark.parametrize("table", [RATES, EFFICIENCY, COVERAGE], ids=["rates", "efficiency", "coverage"])
def test_the_rows_say_what_made_them(table: pd.DataFrame) -> None:
    assert table["commit"].str.fullmatch("[0-9a-f]{40}").all()
    assert (table["seed"] == 0).all()


@pytest.mark.parametrize("key", ROOT_N, ids=" ".join)
def test_rmse_falls_like_the_root_of_n(key: tuple[str, str]) -> None:
    assert SLOPES.loc[key, "slope"] == pytest.approx(-0.5, abs=0.1)
    assert (RATES.set_index(["problem", "estimator"]).loc[[key], "replications"] == rates.REPLICATIONS).all()


@pytest.mark.parametrize("name", rates.MARKOV)
def test_markov_methods_do_not_converge_where_states_are_aliased(name: str) -> None:
    """ModelFail shows one observation for three states; FQE's limit is +.57, the truth -.76."""
    assert SLOPES.loc[("ModelFail", name), "slope"] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize(("name", "n"), MOST)
def test_efficiency(name: str, n: int) -> None:
    row = EFFICIENCY.set_index(["estimator", "n"]).loc[(name, n)]
    assert row["ratio"] <= MOST[name, n]
    assert row["replications"] == 500
    assert row["failures"] == 0


@pytest.mark.parametrize(("problem", "name"), ASSERTED)
def test_the_default_interval_covers(problem: str, name: str) -> None:
    method = "RefitWald" if name == "MIS" else "Wald"
    row = COVERAGE.set_index(["problem", "estimator", "interval"]).loc[(problem, name, method)]
    assert (row["n"], row["replications"], row["missing"]) == (2000, 2000, 0)
    assert 0.925 <= row["coverage"] <= 0.975


def test_every_problem_has_every_pair() -> None:
    for make, n in coverage.PROBLEMS:
        problem = make()
        rows = COVERAGE[COVERAGE["problem"] == problem.name]
        assert (rows["n"] == n).all()
        expected = {(pair.name, pair.label, pair.replications) for pair in coverage.pairs(problem)}
        assert set(rows[["estimator", "interval", "replications"]].itertuples(index=False, name=None)) == expected


def test_the_page_is_that_of_the_rows() -> None:
    assert coverage.PAGE.read_text(encoding="utf-8") == coverage.page(COVERAGE)


# ------------------------------------------------------------------------------------------------------ the same, again


def again(problem: Problem, sizes: list[int], names: list[str], replications: int) -> pd.DataFrame:
    known = {**rates.IMPORTANCE, "WDR": crl.WDR(q=crl.TabularQ()), **rates.MARKOV}
    return rates.curve(problem, sizes, {name: known[name] for name in names}, replications, n_jobs=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "sizes", "replications"),
    [(model_win(), [256, 1024], 100), (sepsis(), [1000, 4000], 50), (model_fail(), [256, 1024], 100)],
    ids=["ModelWin", "sepsis", "ModelFail"],
)
def test_rmse_is_that_of_the_rows(problem: Problem, sizes: list[int], replications: int) -> None:
    committed = RATES[RATES["problem"] == problem.name].set_index(["estimator", "n"])
    names = list(dict.fromkeys(committed.index.get_level_values(0)))
    for row in again(problem, sizes, names, replications).itertuples():
        before = committed.loc[(row.estimator, row.n)]
        assert abs(row.rmse - before["rmse"]) < 4 * np.hypot(row.rmse_mcse, before["rmse_mcse"]) + 0.1 * before["rmse"]


@pytest.mark.slow
def test_efficiency_again() -> None:
    for row in rates.efficiency(40, n_jobs=1).itertuples():
        assert row.ratio <= MOST[row.estimator, row.n] + 4 * row.ratio_mcse


@pytest.mark.slow
@pytest.mark.parametrize(("make", "replications"), [(sepsis, 150), (icu_sepsis, 150), (model_win, 300)])
def test_the_default_interval_covers_again(make: type[Problem], replications: int) -> None:
    problem = make()
    names = [name for where, name in ASSERTED if where == problem.name]
    chosen = [
        replace(p, replications=replications)
        for p in coverage.pairs(problem)
        if p.name in names and p.label in ("Wald", "RefitWald")
    ]
    table = coverage.measure(problem, 2000, [p for p in chosen if p.label == "Wald" or p.name == "MIS"], n_jobs=1)
    assert len(table) == len(names)
    noise = 4 * np.sqrt(0.95 * 0.05 / replications)
    for row in table.itertuples():
        assert row.missing == 0
        assert 0.925 - noise < row.coverage <= min(1.0, 0.975 + noise)
