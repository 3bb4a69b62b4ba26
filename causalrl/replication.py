"""`replicate`: estimators judged over many samples of a simulator whose truth is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from causalrl.data import Trajectories
from causalrl.errors import DataError
from causalrl.estimands import as_estimand
from causalrl.evaluation import Goals, KnowsValues, Recipes, evaluate, named, named_estimators, true_value
from causalrl.kernels.rng import derive_seed
from causalrl.policies import Policy, PolicyLike, as_policy

if TYPE_CHECKING:
    import pandas as pd


class Samples(KnowsValues, Protocol):
    """A simulator, as far as replication needs one."""

    @property
    def n_actions(self) -> int:
        """Number of actions."""
        ...

    def sample(self, n: int, policy: PolicyLike, horizon: int | None = None, seed: int = 0) -> Trajectories:
        """n trajectories under a policy."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Replication:
    """Estimators judged over many samples of known truth.

    Attributes:
        rows: one row a (replication, policy, estimator), as in `Evaluation.frame`.
        frame: one row a (policy, estimator): truth, mean, bias, rmse, coverage, width, each of the last four with its
            Monte-Carlo standard error `*_mcse`; replications, failures, intervals (how many replications gave one), seconds.
    """

    rows: pd.DataFrame
    frame: pd.DataFrame

    def __repr__(self) -> str:
        return str(self.frame.to_string(index=False))


def replicate(
    simulator: Samples,
    behavior: PolicyLike,
    n: int,
    policies: Goals,
    estimators: Recipes,
    *,
    replications: int,
    discount: float = 1.0,
    horizon: int | None = None,
    seed: int = 0,
    n_jobs: int = 1,
    path: str | Path | None = None,
) -> Replication:
    """Sample, evaluate and score, many times.

    Args:
        simulator: knows exact values and samples trajectories.
        behavior: the policy that generates the data; also what `NaturalCourse()` means in the truth.
        n: trajectories in a sample.
        policies, estimators, discount, horizon: as in `evaluate`.
        replications: number of samples.
        seed: root; replication r depends on (seed, r) alone, whatever n_jobs.
        n_jobs: worker processes, each with one thread.
        path: where to write `rows` (.csv or .parquet).

    Returns:
        Bias, RMSE, coverage and width with Monte-Carlo errors, failures counted, seconds.

    Example:
        >>> import causalrl as crl
        >>> from simulators import SepsisSimulator
        >>> sim = SepsisSimulator()
        >>> clinician = sim.physician(epsilon=0.3)
        >>> table = crl.replicate(sim, clinician, 200, {"random": crl.Uniform(8)}, [crl.PDWIS()], replications=3, horizon=3)
        >>> table.frame["failures"].tolist()
        [0]
    """
    import pandas as pd

    if replications < 1:
        raise DataError(f"replications: {replications}; at least 1.")
    target_path = _check_path(path)
    goals = {name: as_estimand(goal, discount, horizon) for name, goal in named(policies, "policies").items()}
    recipes = named_estimators(estimators)
    world = _World(simulator, as_policy(behavior).bind(simulator.n_actions))
    truths = {name: true_value(world, name, goal) for name, goal in goals.items()}

    def one(r: int) -> pd.DataFrame:
        data = simulator.sample(n, behavior, horizon=horizon, seed=derive_seed(seed, "data", r))
        table = evaluate(data, goals, recipes, truth=truths, seed=derive_seed(seed, "estimate", r)).frame
        table.insert(0, "replication", r)
        return table

    tables = list(_progress(_run(one, replications, n_jobs), replications))
    rows = pd.concat(tables, ignore_index=True)
    if target_path is not None:
        target_path.parent.mkdir(parents=True, exist_ok=True)
        rows.to_csv(target_path, index=False) if target_path.suffix == ".csv" else rows.to_parquet(target_path)
    return Replication(rows, summarize(rows))


@dataclass(frozen=True, eq=False)
class _World:
    """A simulator in which policies defined by the behaviour policy have a value."""

    simulator: Samples
    behavior: Policy

    def value(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> float:
        bound = as_policy(policy).bind(self.simulator.n_actions, self.behavior)
        return self.simulator.value(bound, horizon=horizon, discount=discount)


def _run(one: Any, replications: int, n_jobs: int) -> Iterator[Any]:
    """Replication 0 here, where it compiles the kernels; the rest in workers with one thread each."""
    yield one(0)
    if n_jobs == 1:
        yield from map(one, range(1, replications))
        return
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1):
        yield from Parallel(return_as="generator")(delayed(one)(r) for r in range(1, replications))


def _progress(items: Iterable[Any], total: int) -> Iterator[Any]:
    from rich.console import Console
    from rich.progress import track

    yield from track(items, total=total, description="replications", transient=True, console=Console(stderr=True))


def _check_path(path: str | Path | None) -> Path | None:
    if path is None:
        return None
    if Path(path).suffix not in (".csv", ".parquet"):
        raise DataError(f"path: {path} ends in neither .csv nor .parquet.")
    return Path(path)


def summarize(rows: pd.DataFrame) -> pd.DataFrame:
    """Score replicated rows: the frame of `Replication`."""
    import pandas as pd

    scored = [
        {"policy": policy, "estimator": estimator, **_scores(part)}
        for (policy, estimator), part in rows.groupby(["policy", "estimator"], sort=False)
    ]
    return pd.DataFrame(scored)


def _scores(part: pd.DataFrame) -> dict[str, Any]:
    done = part[part["value"].notna()]
    error = done["error"].to_numpy(float)
    covered = done["covered"].dropna().to_numpy(float)
    width = (done["high"] - done["low"]).dropna().to_numpy(float)
    rmse = float(np.sqrt(np.mean(error**2))) if len(error) else np.nan
    spread = _mcse(error**2)
    return {
        "truth": float(part["truth"].iloc[0]),
        "mean": _mean(done["value"].to_numpy(float)),
        "bias": _mean(error),
        "bias_mcse": _mcse(error),
        "rmse": rmse,
        "rmse_mcse": spread / (2 * rmse) if rmse > 0 else spread,
        "coverage": _mean(covered),
        "coverage_mcse": _share_mcse(covered),
        "width": _mean(width),
        "width_mcse": _mcse(width),
        "replications": len(part),
        "failures": len(part) - len(done),
        "intervals": len(width),
        "seconds": float(part["seconds"].mean()),
    }


def _mean(values: np.ndarray[Any, Any]) -> float:
    return float(values.mean()) if len(values) else np.nan


def _mcse(values: np.ndarray[Any, Any]) -> float:
    """Standard error of a mean over replications."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.nan


def _share_mcse(hits: np.ndarray[Any, Any]) -> float:
    """Standard error of a share, from (hits + 1/2) / (count + 1) so that it is not 0 at a share of 0 or 1."""
    if not len(hits):
        return np.nan
    share = (hits.sum() + 0.5) / (len(hits) + 1)
    return float(np.sqrt(share * (1 - share) / len(hits)))
