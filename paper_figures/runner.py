"""Replicate, draw, check: one paper after the other."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed, parallel_config
from rich.progress import Progress

from causalrl.errors import CausalRLWarning
from paper_figures.cache import store, stored
from paper_figures.checks import Check, check_paper
from paper_figures.paper import Job, Results, Row, load
from paper_figures.style import save, style

_CHUNKS = 40
"""Parts in which the missing replications of a job are run, at most."""


def make(name: str, folder: Path, *, fast: bool, n_jobs: int, progress: Progress | None = None) -> list[Check]:
    """Run, draw and check a paper; figures and cache go below `folder`."""
    paper = load(name)
    jobs = paper.jobs(fast)
    results = replicate_jobs(name, jobs, folder / "cache", n_jobs, progress)
    folder.mkdir(parents=True, exist_ok=True)
    with style():
        save(paper.draw(results), name, folder)
    return check_paper(name, paper.cells(results), paper.claims(results), fast)


def replicate_jobs(name: str, jobs: Mapping[str, Job], cache: Path, n_jobs: int, progress: Progress | None = None) -> Results:
    """The rows of every job, from the cache as far as they are there."""
    task = None if progress is None else progress.add_task(name, total=sum(job.replications for job in jobs.values()))
    results = {}
    for label, job in jobs.items():
        path, known = stored(cache / name, label, job)
        have = 0 if known is None else len(known)
        parts = [] if known is None else [known]
        if progress is not None and task is not None:
            progress.advance(task, min(have, job.replications))
        size = (
            max(1, -(-(job.replications - have) // _CHUNKS))
            if n_jobs == 1
            else max(n_jobs, -(-(job.replications - have) // _CHUNKS))
        )
        for start in range(have, job.replications, size):
            chosen = range(start, min(start + size, job.replications))
            parts.append(pd.DataFrame(_run(job, chosen, n_jobs), index=list(chosen)))
            store(path, pd.concat(parts))
            if progress is not None and task is not None:
                progress.advance(task, len(chosen))
        results[label] = pd.concat(parts).iloc[: job.replications]
    return results


def _run(job: Job, replications: range, n_jobs: int) -> list[Row]:
    if n_jobs == 1:
        return [quiet(job, r) for r in replications]
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        return list(Parallel(batch_size=max(1, len(replications) // (4 * n_jobs)))(delayed(quiet)(job, r) for r in replications))


def quiet(job: Job, replication: int) -> Row:
    """One row, without the warnings about data that are made to be poor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CausalRLWarning)
        return job.run(replication, **job.settings)
