"""Results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from rich.table import Table

from benchmarks.suites import SimulatedSuite, StudySuite

MEASURES = {"rmse": "RMSE", "bias": "bias", "coverage": "coverage", "width": "width"}


def problem_tables(summary: pd.DataFrame, suite: SimulatedSuite) -> Iterator[Table]:
    """One ranked table a problem and target; every measure with its Monte-Carlo standard error."""
    for problem in suite.problems:
        for target in problem.targets:
            part = summary[(summary["problem"] == problem.name) & (summary["policy"] == target.name)]
            question = f"Data from {problem.text}. {_capital(target.name)}: {target.text}"
            yield _ranked(part.sort_values("rank"), f"{problem.name}. {question}, truth {part['truth'].iloc[0]:.4f}")


def _ranked(part: pd.DataFrame, title: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("", justify="right")
    table.add_column("estimator", no_wrap=True)
    for name in (*MEASURES.values(), "ESS", "failed", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in part.to_dict("records"):
        measured = [_with_error(row[key], row[f"{key}_mcse"]) for key in MEASURES]
        failed = f"{row['failures']}/{row['replications']}" if row["failures"] else ""
        ess = _number(row["ess"], 1)
        table.add_row(str(row["rank"]), row["estimator"], *measured, ess, failed, f"{row['seconds']:.3f}")
    return table


def study_table(study: pd.DataFrame, suite: StudySuite) -> Table:
    """Every method beside its published value."""
    table = Table(title=f"{suite.name}: average treatment effect, {suite.unit}", title_justify="left", header_style="bold")
    table.add_column("method", no_wrap=True)
    for name in ("value", "published", "difference", "source", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in study.to_dict("records"):
        value = _with_interval(row["value"], row["low"], row["high"])
        published = _with_interval(row["published"], row["published_low"], row["published_high"])
        difference = "" if pd.isna(row["difference"]) else f"{row['difference']:.0e}"
        table.add_row(row["method"], value, published, difference, row["source"], f"{row['seconds']:.2f}")
    return table


def _with_error(value: float, error: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3f} ± {error:.3f}"


def _number(value: float, digits: int) -> str:
    return "–" if pd.isna(value) else f"{value:.{digits}f}"


def _with_interval(value: float, low: float, high: float) -> str:
    return _number(value, 4) + ("" if pd.isna(low) else f" [{low:.2f}, {high:.2f}]")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
