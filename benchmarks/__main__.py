"""`python -m benchmarks`: the main job, under three minutes on two cores."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import suites
from benchmarks.run import run
from benchmarks.tables import problem_tables, study_table

WIDTH = 120
NOTES = """Ranked by RMSE; an estimator that failed on some data sets comes after those that never did, and is scored on the rest.
± is one Monte-Carlo standard error. ESS: median effective sample size, for per-decision weights that of the worst step.
seconds: mean time of an estimate with its interval, one thread."""


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results"),
    seed: Annotated[int, typer.Option(help="Root of every random number.")] = 0,
    replications: Annotated[int, typer.Option(help="Data sets a problem.")] = suites.SimulatedSuite.replications,
) -> None:
    """Every estimator against known truth, and the NHEFS study beside its published values."""
    console = Console()
    console = console if console.width >= WIDTH else Console(width=WIDTH)
    simulated, study = replace(suites.simulated(), replications=replications), suites.nhefs()
    results = run(simulated, study, out, seed)
    for table in problem_tables(results.summary, simulated):
        console.print(table)
    console.print(NOTES)
    console.print(study_table(results.study, study))
    console.print(f"Written to {out}/: {', '.join(sorted(path.name for path in out.iterdir()))}")


app()
