"""Ours beside the published: `published.json` holds what each paper says, with its tolerance and where it comes from.

Tags: P, published (by the authors, or in a book); R, an independent re-run of the recipe; M, another source, shown but never
asserted; E, exact, from a table in the module itself. A cell without a tolerance is shown; its `why` says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paper_figures.paper import Cell, Claim

PUBLISHED: Mapping[str, Any] = json.loads((Path(__file__).parent / "published.json").read_text(encoding="utf-8"))
FEW_ERRORS = 4.0
"""With fewer replications than the paper's, a tolerance is widened by so many Monte-Carlo standard errors of ours."""


@dataclass(frozen=True)
class Check:
    """One line of the table: a number, or a claim (without a published number)."""

    paper: str
    what: str
    ours: float
    mcse: float
    published: float | None
    tolerance: float | None
    tag: str
    verdict: str
    why: str = ""


def check_paper(name: str, cells: Iterable[Cell], claims: Iterable[Claim], fast: bool) -> list[Check]:
    """All checks of a paper; every published cell has to be among ours.

    Raises:
        KeyError: for a cell that published.json does not have, or that is missing from ours.
    """
    published = PUBLISHED[name]["cells"]
    ours = {cell.key: cell for cell in cells}
    missing, unknown = sorted(set(published) - set(ours)), sorted(set(ours) - set(published))
    if missing or unknown:
        raise KeyError(f"{name}: not computed: {missing}; not in published.json: {unknown}")
    slack = FEW_ERRORS if fast else 0.0
    found = [_check_cell(name, ours[key], entry, slack) for key, entry in published.items()]
    return found + [_check_claim(name, claim, slack) for claim in claims]


def _check_cell(name: str, cell: Cell, entry: Mapping[str, Any], slack: float) -> Check:
    tolerance = entry.get("tolerance")
    asserted = tolerance is not None and entry["tag"] != "M"
    verdict = "shown"
    if asserted:
        close = abs(cell.value - entry["value"]) <= tolerance + slack * cell.mcse
        verdict = "pass" if close else "fail"
    return Check(name, cell.key, cell.value, cell.mcse, entry["value"], tolerance, entry["tag"], verdict, entry.get("why", ""))


def _check_claim(name: str, claim: Claim, slack: float) -> Check:
    holds = claim.margin > -slack * claim.mcse if slack else claim.margin > 0
    return Check(name, claim.text, claim.margin, claim.mcse, None, None, "claim", "pass" if holds else "fail")


def write(checks: list[Check], folder: Path) -> None:
    """checks.json, and a Markdown table of each paper."""
    text = json.dumps([asdict(check) for check in checks], indent=1, default=float)
    (folder / "checks.json").write_text(text + "\n", encoding="utf-8")
    for name in dict.fromkeys(check.paper for check in checks):
        (folder / f"{name}.md").write_text(markdown([check for check in checks if check.paper == name]), encoding="utf-8")


def markdown(checks: list[Check]) -> str:
    """A table of numbers and a list of claims."""
    numbers = [check for check in checks if check.published is not None]
    lines = ["| cell | published | tag | ours (Monte-Carlo error) | tolerance | |", "|---|--:|---|--:|--:|---|"]
    for check in numbers:
        error = f" ({check.mcse:.2g})" if check.mcse else ""
        room = "" if check.tolerance is None else f"{check.tolerance:.3g}"
        note = f"{check.verdict}: {check.why}" if check.why else check.verdict
        lines.append(f"| {check.what} | {check.published:.5g} | {check.tag} | {check.ours:.5g}{error} | {room} | {note} |")
    claims = [f"- {check.what}: {check.verdict} (margin {check.ours:.3g})" for check in checks if check.published is None]
    return "\n".join([*(lines if numbers else []), "", *claims]) + "\n"


def failures(checks: Iterable[Check]) -> list[str]:
    """The failed ones as text."""
    return [
        f"{c.paper}, {c.what}: {c.ours:.5g} ({c.mcse:.2g})"
        + ("" if c.published is None else f", published {c.published:.5g}, tolerance {c.tolerance:.3g}")
        for c in checks
        if c.verdict == "fail" or not np.isfinite(c.ours)
    ]
