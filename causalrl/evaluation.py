"""`evaluate`: many estimators and policies on one data set. `replicate`: the same over many samples of a simulator."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from causalrl.data import Trajectories
from causalrl.errors import DataError, EstimandError, IntervalError, MismatchError
from causalrl.estimands import ATE, CATE, Estimand, EstimandLike, PolicyValue, as_estimand
from causalrl.estimate import Estimate
from causalrl.estimators.base import Estimator, FittedEstimator
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from causalrl.policies import Policy, PolicyLike, as_policy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Goals: TypeAlias = Mapping[str, EstimandLike] | Sequence[EstimandLike]
Recipes: TypeAlias = Mapping[str, Estimator] | Sequence[Estimator]

COLUMNS = ("policy", "estimator", "value", "stderr", "low", "high", "ess", "max_weight", "warnings", "failure", "seconds")
TRUTH_COLUMNS = ("truth", "error", "covered")


class KnowsValues(Protocol):
    """A simulator, as far as scoring needs one."""

    def value(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> float:
        """Exact value of a policy."""
        ...


class Samples(KnowsValues, Protocol):
    """A simulator, as far as replication needs one."""

    @property
    def n_actions(self) -> int:
        """Number of actions."""
        ...

    def sample(self, n: int, policy: PolicyLike, horizon: int | None = None, seed: int = 0) -> Trajectories:
        """n trajectories under a policy."""
        ...


Truth: TypeAlias = KnowsValues | Mapping[str, float]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """A table of estimates.

    Attributes:
        frame: one row a pair, with columns `COLUMNS`, and `TRUTH_COLUMNS` where the truth is known. A failed pair has its
            error in `failure` and missing numbers.
        estimates: the estimates by (policy, estimator), without the failed pairs.
    """

    frame: pd.DataFrame
    estimates: Mapping[tuple[str, str], Estimate]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Estimates with their intervals, against the truth where it is known."""
        from causalrl.report.plots import plot_intervals

        return plot_intervals(self.frame, ax=ax)

    def to_html(self, path: str | Path) -> Path:
        """Write a self-contained page with the table; returns its path."""
        from causalrl.report.html import write_table

        return write_table(self.frame, Path(path), "Evaluation")

    def __repr__(self) -> str:
        return str(self.frame.drop(columns=["warnings", "failure"]).to_string(index=False))

    def _repr_html_(self) -> str:
        return str(self.frame.to_html(index=False))


def evaluate(
    data: Trajectories,
    policies: Goals,
    estimators: Recipes,
    *,
    discount: float = 1.0,
    horizon: int | None = None,
    truth: Truth | None = None,
    seed: int = 0,
) -> Evaluation:
    """Estimate every policy with every estimator; nuisances, weights and resampling draws are shared.

    Args:
        data: the trajectories.
        policies: policies or estimands, by name or in a list; discount and horizon apply to bare policies.
        estimators: by name or in a list.
        truth: a simulator, or the true value by policy name.
        seed: root of every random number.

    Returns:
        The table; a pair that fails is a row with its error, and the rest goes on.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_cross_section([0] * 4, [0, 1, 0, 1], [1.0, 3.0, 2.0, 5.0], propensity=[0.5] * 4)
        >>> crl.evaluate(data, {"treat": crl.Always(1)}, [crl.IS(), crl.WIS()]).frame["value"].tolist()
        [4.0, 4.0]
    """
    import pandas as pd

    goals = {name: as_estimand(goal, discount, horizon) for name, goal in _named(policies, "policies").items()}
    recipes = _named(estimators, "estimators")
    truths = {name: _true_value(truth, name, goal) for name, goal in goals.items()} if truth is not None else None
    nuisances = Nuisances(data, seed)
    rows, estimates = [], {}
    for policy, goal in goals.items():
        for name, estimator in recipes.items():
            row, estimate = _row(FittedEstimator(estimator, nuisances), goal)
            rows.append({"policy": policy, "estimator": name, **row})
            if estimate is not None:
                estimates[policy, name] = estimate
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    if truths is not None:
        frame["truth"] = frame["policy"].map(truths)
        frame["error"] = frame["value"] - frame["truth"]
        covered = (frame["low"] <= frame["truth"]) & (frame["truth"] <= frame["high"])
        frame["covered"] = covered.astype("boolean").mask(frame["low"].isna())
    return Evaluation(frame, estimates)


def _row(fitted: FittedEstimator, goal: Estimand) -> tuple[dict[str, Any], Estimate | None]:
    """One row of numbers; an error becomes the row's `failure`, a missing interval one of its warnings."""
    row: dict[str, Any] = dict.fromkeys(("value", "stderr", "low", "high", "ess", "max_weight"), np.nan)
    row |= {"warnings": "", "failure": None}
    start = time.perf_counter()
    estimate = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimate = fitted.estimate(goal)
        texts = list(estimate.diagnostics["warnings"])
        row |= {key: _number(estimate.diagnostics[key]) for key in ("ess", "max_weight")}
        row["value"] = estimate.value
        try:
            interval = estimate.interval()
            row |= {"stderr": estimate.stderr, "low": interval.low, "high": interval.high}
        except IntervalError as error:
            texts.append(f"IntervalError: {error}")
        row["warnings"] = "; ".join(texts)
    except ValueError as error:
        row["failure"] = f"{type(error).__name__}: {error}"
    return row | {"seconds": time.perf_counter() - start}, estimate


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _named(items: Mapping[str, Any] | Sequence[Any], field: str) -> dict[str, Any]:
    if isinstance(items, Mapping):
        named = dict(items)
    else:
        labels = [str(item) for item in items]
        twice = sorted({text for text in labels if labels.count(text) > 1})
        if twice:
            raise DataError(f"{field}: {twice[0]!r} occurs twice; pass a mapping with a name for each.")
        named = dict(zip(labels, items, strict=True))
    if not named:
        raise DataError(f"{field}: there are none; pass at least one.")
    for name, item in named.items():
        if isinstance(item, CATE):
            raise EstimandError(f"{field}: {name!r} is a CATE, which has many values; ask the estimator for it directly.")
    return named


def _true_value(truth: Truth, name: str, goal: Estimand) -> float:
    if isinstance(truth, Mapping):
        if name not in truth:
            raise MismatchError(f"truth: no value for {name!r}; it has {', '.join(truth)}.")
        return float(truth[name])
    if isinstance(goal, PolicyValue):
        return float(truth.value(goal.policy, horizon=goal.horizon, discount=goal.discount))
    if isinstance(goal, CATE):
        raise EstimandError("truth: a CATE has no single true value.")
    contrast = goal.contrast() if isinstance(goal, ATE) else goal
    return _true_value(truth, name, contrast.policy) - _true_value(truth, name, contrast.reference)


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
    goals = {name: as_estimand(goal, discount, horizon) for name, goal in _named(policies, "policies").items()}
    recipes = _named(estimators, "estimators")
    world = _World(simulator, as_policy(behavior).bind(simulator.n_actions))
    truths = {name: _true_value(world, name, goal) for name, goal in goals.items()}

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
        "coverage_mcse": float(np.sqrt(_mean(covered) * (1 - _mean(covered)) / len(covered))) if len(covered) else np.nan,
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
