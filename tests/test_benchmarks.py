"""The main benchmark: what its rows hold, what it writes, and that a seed fixes it. Clock times are never asserted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import causalrl as crl
from benchmarks import suites
from benchmarks.run import Results, ranks, run
from benchmarks.speed import numpy_fqe
from benchmarks.tables import problem_tables, study_table
from causalrl.evaluation import COLUMNS, TRUTH_COLUMNS
from simulators import SepsisSimulator

SEED, REPLICATIONS, N = 3, 2, 40
FILES = {"rows.csv", "rows.parquet", "summary.csv", "summary.parquet", "study.csv", "study.parquet", "problems.png", "study.png"}
MEASURES = {"bias", "rmse", "coverage", "width"}


def tiny() -> tuple[suites.SimulatedSuite, suites.StudySuite]:
    """Both sepsis problems and ICU-Sepsis at 40 patients, and the study without its Python refits."""
    simulated = replace(suites.simulated(), n=N, replications=REPLICATIONS)
    study = suites.nhefs()
    return simulated, replace(study, methods=tuple(method for method in study.methods if method.interval is None))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    return run(*tiny(), out, seed=SEED, n_jobs=1)


def test_every_estimator_target_and_problem_is_there_once_a_replication(results: Results) -> None:
    simulated, _ = tiny()
    cells = sum(len(problem.targets) for problem in simulated.problems) * len(simulated.estimators)
    assert len(results.rows) == cells * REPLICATIONS
    assert len(results.summary) == cells
    assert not results.rows.duplicated(["problem", "replication", "policy", "estimator"]).any()
    assert {kind.__name__ for kind in crl.ALL} <= set(results.rows["estimator"])


def test_rows_have_the_columns_of_evaluate(results: Results) -> None:
    assert list(results.rows) == ["problem", "replication", *COLUMNS, *TRUTH_COLUMNS, "seed"]
    numbers = results.rows[["value", "truth", "error", "seconds"]]
    assert all(pd.api.types.is_float_dtype(kind) for kind in numbers.dtypes)


def test_every_measure_has_its_monte_carlo_error(results: Results) -> None:
    assert {f"{measure}_mcse" for measure in MEASURES} | MEASURES <= set(results.summary)
    assert {"replications", "failures", "intervals", "ess", "rank", "seconds"} <= set(results.summary)


def test_a_failure_is_a_row_and_is_counted(results: Results) -> None:
    failed = results.rows[results.rows["failure"].notna()]
    assert len(failed) > 0
    assert (failed["policy"] == "never treat").any()
    assert failed["failure"].str.startswith("SupportError").all()
    assert failed["value"].isna().all()
    assert results.summary["failures"].sum() == len(failed)


def test_targets_have_the_exact_truth(results: Results) -> None:
    behavior = SepsisSimulator("v2").physician(0.3)
    rows = results.summary[(results.summary["problem"] == "Sepsis v2, epsilon 0.3") & (results.summary["policy"] == "behaviour")]
    np.testing.assert_allclose(rows["truth"], SepsisSimulator("v2").value(behavior, horizon=20), rtol=1e-12)


def test_rank_is_by_rmse_with_the_failed_after_the_rest() -> None:
    part = pd.DataFrame({"rmse": [0.3, 0.1, 0.2, 0.2, np.nan], "failures": [0, 4, 0, 0, 9]})
    assert ranks(part).tolist() == [3, 4, 1, 1, 5]


def test_the_study_gives_the_published_values(results: Results) -> None:
    known = results.study.dropna(subset=["published"])
    assert len(known) >= 4
    assert (known["difference"].abs() < 1e-5).all()
    assert results.study["failure"].isna().all()


def test_a_method_without_interval_says_so(results: Results) -> None:
    forest = results.study[results.study["method"] == "S-learner, random forest"].iloc[0]
    assert np.isfinite(forest["value"])
    assert np.isnan(forest["low"])


def test_files_carry_the_same_tables_and_their_origin(results: Results, out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {*FILES, "run.json"}
    for name in ("rows", "summary", "study"):
        held, read, written = getattr(results, name), pd.read_parquet(out / f"{name}.parquet"), pd.read_csv(out / f"{name}.csv")
        assert list(held) == list(read) == list(written)
        pd.testing.assert_frame_equal(read.select_dtypes("number"), held.select_dtypes("number"))
        estimate = "mean" if name == "summary" else "value"
        np.testing.assert_allclose(written[estimate], held[estimate], rtol=1e-12)
        assert (written["seed"] == SEED).all()
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["seed"] == SEED
    assert record["n"] == N
    assert record["versions"]["numpy"] == np.__version__
    assert len(record["problems"]) == 3


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers(results: Results, tmp_path: Path) -> None:
    simulated, study = tiny()
    once = replace(simulated, problems=simulated.problems[1:2])
    forests = replace(study, methods=tuple(method for method in study.methods if "forest" in method.name))
    again = run(once, forests, tmp_path, seed=SEED, n_jobs=2)
    first = results.rows[results.rows["problem"] == once.problems[0].name].reset_index(drop=True)
    pd.testing.assert_frame_equal(again.rows.drop(columns="seconds"), first.drop(columns="seconds"), check_exact=True)
    names = [method.name for method in forests.methods]
    held = results.study.set_index("method").loc[names, ["value", "low", "high"]]
    pd.testing.assert_frame_equal(again.study.set_index("method")[["value", "low", "high"]], held, check_exact=True)


def test_tables_have_a_line_an_estimator(results: Results) -> None:
    simulated, study = tiny()
    tables = list(problem_tables(results.summary, simulated))
    assert len(tables) == sum(len(problem.targets) for problem in simulated.problems)
    assert all(table.row_count == len(simulated.estimators) for table in tables)
    assert study_table(results.study, study).row_count == len(study.methods)


@pytest.mark.filterwarnings("ignore::causalrl.errors.SupportWarning")
def test_the_numpy_reference_of_fqe_gives_the_same_value() -> None:
    simulator = SepsisSimulator("v2")
    data = simulator.sample(300, simulator.physician(0.3), horizon=20, seed=0)
    target = simulator.physician(0.15)
    value = crl.FQE().estimate(data, crl.PolicyValue(target, horizon=20)).value
    np.testing.assert_allclose(numpy_fqe(data, target.table, 20), value, rtol=1e-12)
