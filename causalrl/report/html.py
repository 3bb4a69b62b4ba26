"""Results as HTML."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from causalrl.checkup import Checkup
    from causalrl.estimate import Estimate
    from causalrl.sensitivity.base import SensitivityAnalysis

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
div { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap }
"""


def estimate_html(estimate: Estimate) -> str:
    """A small table for notebooks."""
    table = estimate.to_frame().to_html(index=False, float_format=lambda x: f"{x:.4f}")
    notes = "".join(f"<li>{escape(text)}</li>" for text in estimate.diagnostics["warnings"])
    return f"{table}<ul>{notes}</ul>" if notes else str(table)


def checkup_html(checkup: Checkup) -> str:
    """Findings and tables for notebooks."""
    from causalrl.report.checkup_report import checkup_tables

    notes = "".join(
        f"<li><b>{finding.severity.name.lower()}</b> {escape(finding.where)}: {escape(finding.text)}</li>"
        for finding in checkup.findings
    )
    parts = [
        f"<p><b>{escape(title)}</b></p>{table.to_html(index=False, na_rep='', float_format=lambda x: f'{x:.4g}')}"
        for title, table in checkup_tables(checkup)
    ]
    return f"<ul>{notes}</ul>{''.join(parts)}" if notes else "".join(parts)


def sensitivity_html(analysis: SensitivityAnalysis) -> str:
    """The figures and findings for notebooks."""
    notes = "".join(f"<li>{escape(text)}</li>" for text in analysis.findings)
    table = analysis.frame.to_html(index=False, na_rep="", float_format=lambda x: f"{x:.4g}")
    return f"<p><b>{escape(analysis.model)}</b></p>{table}<ul>{notes}</ul>"


def text_html(text: str) -> str:
    """Text as it is, for notebooks."""
    return f"<pre>{escape(text)}</pre>"


def write_table(frame: pd.DataFrame, path: Path, title: str) -> Path:
    """Write a self-contained page with one table."""
    table = frame.to_html(index=False, na_rep="", float_format=lambda x: f"{x:.4f}", border=0)
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1><div>{table}</div></html>"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    return path
