"""Draw and check the figures: `python -m paper_figures [NAME ...] [--fast] [--list]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from paper_figures.checks import failures, write
from paper_figures.page import write_page
from paper_figures.paper import load, names
from paper_figures.runner import make

OUT = Path("results") / "figures"


def main(
    papers: Annotated[list[str] | None, typer.Argument(help="Which; all by default.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Fewer replications, tolerances widened by their error.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List the papers.")] = False,
    tier: Annotated[int | None, typer.Option(help="Only this tier.")] = None,
    jobs: Annotated[int, typer.Option(help="Processes.")] = 2,
    out: Annotated[Path, typer.Option(help="Where figures, checks and cached replications go.")] = OUT,
    docs: Annotated[Path | None, typer.Option(help="Also write a page of all figures and tables into this folder.")] = None,
) -> None:
    """Draw the figures of papers and check them against what is published; exit 1 where a check fails."""
    known = names()
    if show:
        for name in known:
            print(f"{name:32} {load(name).title}")
        return
    strange = sorted(set(papers or ()) - set(known))
    if strange:
        raise typer.BadParameter(f"{strange[0]!r} is no paper; there are {', '.join(known)}.")
    chosen = [name for name in papers or known if tier is None or load(name).tier == tier]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    checks = []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        for name in chosen:
            checks += make(name, out, fast=fast, n_jobs=jobs, progress=progress)
    write(checks, out)
    if docs is not None:
        write_page(checks, out, docs)
    failed = failures(checks)
    passed = sum(check.verdict == "pass" for check in checks)
    print(f"{passed} checks passed, {len(failed)} failed, {sum(check.verdict == 'shown' for check in checks)} shown; see {out}")
    for text in failed:
        print(f"FAILED {text}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    typer.run(main)
