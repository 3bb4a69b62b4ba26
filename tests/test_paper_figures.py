"""Every paper's figures are drawn and checked with few replications; the frame does what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from paper_figures import cache
from paper_figures.checks import PUBLISHED, Check, check_paper, failures, markdown, write
from paper_figures.paper import FOLDER, Cell, Claim, Job, load, mean_cell, median_cell, names, ordered, rmse_cell
from paper_figures.runner import make, replicate_jobs

LONGEST = 200


def row(replication: int, scale: float) -> dict[str, float]:
    return {"x": scale * replication}


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_the_checks_hold_with_few_replications(name: str, tmp_path: Path) -> None:
    checks = make(name, tmp_path, fast=True, n_jobs=1)
    assert not failures(checks)
    assert any(check.verdict == "pass" for check in checks)
    assert list(tmp_path.glob(f"{name}*.png"))
    assert list(tmp_path.glob(f"{name}*.pdf"))


@pytest.mark.parametrize("name", names())
def test_a_module_is_short_and_says_what_is_published(name: str) -> None:
    assert len((FOLDER / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= LONGEST
    assert PUBLISHED[name]["source"]
    for key, entry in PUBLISHED[name]["cells"].items():
        assert entry["tag"] in {"P", "R", "M", "E"}, key
        assert entry["tag"] != "M" or entry["tolerance"] is None, key


def test_published_numbers_belong_to_papers() -> None:
    assert set(PUBLISHED) == set(names())


def test_replications_are_kept_and_extended(tmp_path: Path) -> None:
    few = replicate_jobs("toy", {"a": Job(row, 3, {"scale": 2.0})}, tmp_path, n_jobs=1)["a"]
    (path,) = (tmp_path / "toy").iterdir()
    marked = pd.read_parquet(path).assign(x=lambda rows: rows["x"] + 100)
    marked.to_parquet(path)
    more = replicate_jobs("toy", {"a": Job(row, 5, {"scale": 2.0})}, tmp_path, n_jobs=1)["a"]
    assert few["x"].tolist() == [0, 2, 4]
    assert more["x"].tolist() == [100, 102, 104, 6, 8]
    other = replicate_jobs("toy", {"a": Job(row, 1, {"scale": 3.0})}, tmp_path, n_jobs=1)["a"]
    assert other["x"].tolist() == [0]


def test_the_key_follows_code_and_settings_but_not_the_number_of_replications() -> None:
    job = load("kang_schafer_2007").jobs(True)["n200"]
    reached = "".join(cache.sources(job.run))
    assert "def errors(" in reached
    assert "def of_nonrespondents(" in reached
    assert "def draw(" not in reached
    assert cache.job_key(job) == cache.job_key(Job(job.run, 7, job.settings))
    assert cache.job_key(job) != cache.job_key(Job(job.run, 7, {"n": 201}))


def test_a_number_outside_its_tolerance_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"value": 1.0, "tag": "P", "tolerance": 0.1}
    cells = {"a": entry, "b": {**entry, "tag": "M"}, "c": {**entry, "tolerance": None, "why": "no seed"}}
    monkeypatch.setitem(PUBLISHED, "toy", {"source": "x", "cells": cells})  # type: ignore[arg-type]
    ours = [Cell("a", 1.2, 0.05), Cell("b", 9.0), Cell("c", 9.0)]
    full, fast = (check_paper("toy", ours, [Claim("up", -0.1, 0.1)], fast) for fast in (False, True))
    assert [check.verdict for check in full] == ["fail", "shown", "shown", "fail"]
    assert [check.verdict for check in fast] == ["pass", "shown", "shown", "pass"]
    assert failures(full) == ["toy, a: 1.2 (0.05), published 1, tolerance 0.1", "toy, up: -0.1 (0.1)"]
    with pytest.raises(KeyError, match="not computed"):
        check_paper("toy", ours[:2], [], fast=False)


def test_a_number_that_is_none_fails() -> None:
    assert failures([Check("toy", "a", float("nan"), 0.0, 1.0, 0.1, "P", "shown")])


def test_the_table_and_the_record(tmp_path: Path) -> None:
    checks = [Check("toy", "a", 1.25, 0.05, 1.0, 0.1, "P", "pass"), Check("toy", "up", 0.5, 0.0, None, None, "claim", "pass")]
    write(checks, tmp_path)
    assert json.loads((tmp_path / "checks.json").read_text())[0]["ours"] == 1.25
    assert "| a | 1 | P | 1.25 (0.05) | 0.1 | pass |" in markdown(checks)
    assert "- up: pass" in (tmp_path / "toy.md").read_text()


def test_summaries_of_replications() -> None:
    draws = pd.Series([1.0, -1.0, 3.0, -3.0])
    assert mean_cell("m", draws).value == 0.0
    assert rmse_cell("r", draws).value == pytest.approx(5**0.5)
    assert median_cell("d", draws.abs()).value == 2.0
    assert [claim.margin for claim in ordered([Cell("a", 1.0), Cell("b", 3.0), Cell("c", 2.0)])] == [2.0, -1.0]
