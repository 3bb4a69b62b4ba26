"""Verdicts over a grid of overlaps: the committed rows, and fresh data sets."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.trust import BAD, CELLS, FEW, GOOD, MANY, PAGE, POINT, STEEP, Cell, committed, measure
from benchmarks.trust_page import overall, page
from causalrl.diagnostics.record import VERDICTS

RELIABLE, CAUTION, STOP = VERDICTS
BIASED = {"IS, counted", "WIS, counted", "PDIS, counted", "PDWIS, counted", "MIS, counted", "FQE"}
"""Weights from counted propensities alone, or a model alone: what nobody logged biases them even where the data overlap."""


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return committed()


def cell(rows: pd.DataFrame, key: tuple[str, str, str]) -> pd.DataFrame:
    problem, behavior, target = key
    chosen = (rows["problem"] == problem) & (rows["behavior"] == behavior) & (rows["target"] == target)
    return rows[chosen].set_index("estimator")


def test_the_rows_are_complete(rows: pd.DataFrame) -> None:
    for own in CELLS:
        part = cell(rows, own.key)
        assert tuple(part.index) == tuple(own.recipes)
        assert (part["replications"] == own.replications).all()
        assert part[list(VERDICTS)].sum(axis=1).between(0.999, 1.001).all()
    assert (MANY, FEW) == (200, 60)
    assert rows["commit"].str.fullmatch("[0-9a-f]{40}").all()


def test_bad_overlap_is_not_to_be_used(rows: pd.DataFrame) -> None:
    """At least 90% of the intervals that miss; and nothing is called reliable."""
    part = cell(rows, BAD)
    assert (part["missed"] > 30).all()
    assert (part["stopped_of_missed"] >= 0.9).all()
    assert (part[RELIABLE] == 0).all()
    steep = cell(rows, STEEP)
    assert steep.loc["IPW", "missed"] > 30
    assert steep.loc["IPW", "stopped_of_missed"] >= 0.9
    assert (steep[RELIABLE] <= 0.05).all()
    assert (steep.drop(index="IPW")["coverage"] >= 0.9).all()  # an outcome model makes up for it, and they stay `caution`


def test_good_overlap_is_reliable(rows: pd.DataFrame) -> None:
    """At least 90% of the data sets, for every estimator whose interval covers there; `caution` for those whose does not."""
    part = cell(rows, GOOD)
    sound = part.drop(index=list(BIASED))
    assert (sound[RELIABLE] >= 0.9).all()
    assert (sound["coverage"] >= 0.88).all()
    assert (part.loc[list(BIASED), CAUTION] >= 0.9).all()
    assert (part.loc[["WIS, counted", "PDWIS, counted", "MIS, counted", "FQE"], "coverage"] < 0.85).all()
    assert (cell(rows, POINT)[RELIABLE] >= 0.9).all()


def test_reliable_intervals_cover(rows: pd.DataFrame) -> None:
    """Over the whole grid: of the intervals called reliable far more cover than of those called not to be used."""
    trusted, stopped = overall(rows[rows["problem"] == "sepsis"])
    assert trusted >= 0.92
    assert stopped < 0.4


def test_the_page_shows_the_rows(rows: pd.DataFrame) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(rows)


@pytest.mark.slow
@pytest.mark.parametrize("key", [BAD, GOOD, POINT, STEEP], ids=str)
def test_fresh_data_sets(key: tuple[str, str, str]) -> None:
    """20 data sets of another seed."""
    part = measure(Cell(*key), 20, seed=2).set_index("estimator")
    if key in (BAD, STEEP):
        own = part.loc[["IPW"]] if key == STEEP else part
        missed = own[own["missed"] > 0]
        assert (missed["stopped_of_missed"] * missed["missed"]).sum() / missed["missed"].sum() >= 0.9
    else:
        sound = part.drop(index=[name for name in BIASED if name in part.index])
        assert sound[RELIABLE].mean() >= 0.9
