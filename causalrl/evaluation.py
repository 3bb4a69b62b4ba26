"""`evaluate`: many estimators and policies on one data set."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from causalrl.data import Trajectories
from causalrl.errors import CausalRLError, DataError, EstimandError, IntervalError, MismatchError
from causalrl.estimands import ATE, CATE, Contrast, Estimand, EstimandLike, PolicyValue, PopulationEffect, as_estimand
from causalrl.estimate import Estimate
from causalrl.estimators.base import Estimator, FittedEstimator
from causalrl.inference.base import IntervalMethod, check_level, check_method, make_stderr
from causalrl.inference.bootstrap import prepare
from causalrl.nuisances.crossfit import Nuisances
from causalrl.policies import Policy, PolicyLike
from causalrl.selection.candidates import quietly

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Goals: TypeAlias = Mapping[str, EstimandLike] | Sequence[EstimandLike]
Recipes: TypeAlias = Mapping[str, Estimator] | Sequence[Estimator]

_NUMBERS = ("value", "stderr", "low", "high", "ess", "max_weight")
COLUMNS = ("policy", "estimator", *_NUMBERS, "verdict", "warnings", "failure", "seconds")
TRUTH_COLUMNS = ("truth", "error", "covered")


class KnowsValues(Protocol):
    """A simulator, as far as scoring needs one."""

    def value(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0) -> float:
        """Exact value of a policy."""
        ...


Truth: TypeAlias = KnowsValues | Mapping[str, float]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """A table of estimates.

    Attributes:
        frame: one row a pair, with columns `COLUMNS`, and `TRUTH_COLUMNS` where the truth is known. A failed pair has its
            error in `failure` (else missing), and its numbers and its verdict are missing.
        estimates: the estimates by (policy, estimator), without the failed pairs; each is made anew, to the last bit, where it is
            asked for, so that a table of many policies does not hold the moments of all.
        level: of the intervals.
    """

    frame: pd.DataFrame
    estimates: Mapping[tuple[str, str], Estimate]
    level: float = 0.95

    def plot(self, ax: Axes | None = None) -> Axes:
        """Estimates with their intervals, against the truth where it is known."""
        from causalrl.report.plots import plot_intervals

        return plot_intervals(self.frame, ax=ax, interval=f"{self.level:.0%} interval")

    def verdict_plot(self, ax: Axes | None = None) -> Axes:
        """A cell for each policy and estimator, coloured by its verdict."""
        from causalrl.report.verdict_plot import plot_verdicts

        return plot_verdicts(self.frame, ax)

    def to_html(self, path: str | Path) -> Path:
        """Write a self-contained page with the table; returns its path."""
        from causalrl.report.html import write_table

        return write_table(self.frame, Path(path), "Evaluation")

    def __repr__(self) -> str:
        table = str(self.frame.drop(columns=["warnings", "failure"]).to_string(index=False, na_rep=""))
        texts = self.frame["failure"].fillna(self.frame["warnings"])
        rows = zip(self.frame["policy"], self.frame["estimator"], texts, strict=True)
        notes = [f"! {policy!s}, {estimator!s}: {text!s}" for policy, estimator, text in rows if text]
        return "\n".join([table, *notes])

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
    level: float = 0.95,
    method: IntervalMethod | None = None,
    seed: int = 0,
) -> Evaluation:
    """Estimate every policy with every estimator; nuisances, weights and resampling draws are shared.

    Args:
        data: the trajectories.
        policies: policies or estimands, by name or in a list; discount and horizon apply to bare policies.
        estimators: by name or in a list.
        truth: a simulator, or the true value by policy name.
        level, method: of the intervals; None is each estimator's default method.
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

    check_level(level)
    if method is not None:
        check_method(method)
    goals = {name: as_estimand(goal, discount, horizon) for name, goal in named(policies, "policies").items()}
    recipes = named_estimators(estimators)
    truths = {name: true_value(truth, name, goal) for name, goal in goals.items()} if truth is not None else None
    nuisances = Nuisances(data, seed)
    compared = {name: _policies(goal) for name, goal in goals.items()}
    last_use = {id(policy): name for name, parts in compared.items() for policy in parts}
    rows = []
    for name, goal in goals.items():
        rows += [{"policy": name, **row} for row in _rows(nuisances, goal, recipes, level, method)]
        for policy in compared[name]:
            if last_use[id(policy)] == name:
                nuisances.forget(policy)
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(("verdict", "warnings", "failure"), "string"))
    found = frame.loc[frame["failure"].isna(), ["policy", "estimator"]].itertuples(index=False, name=None)
    estimates = _Estimates(nuisances, goals, recipes, tuple(found))
    if truths is not None:
        frame["truth"] = frame["policy"].map(truths)
        frame["error"] = frame["value"] - frame["truth"]
        covered = (frame["low"] <= frame["truth"]) & (frame["truth"] <= frame["high"])
        frame["covered"] = covered.astype("boolean").mask(frame["low"].isna())
    return Evaluation(frame, estimates, level)


@dataclass(frozen=True, eq=False)
class _Estimates(Mapping[tuple[str, str], Estimate]):
    """Estimates by (policy, estimator), made where they are asked for."""

    nuisances: Nuisances
    goals: Mapping[str, Estimand]
    recipes: Mapping[str, Estimator]
    pairs: tuple[tuple[str, str], ...]

    def __getitem__(self, pair: tuple[str, str]) -> Estimate:
        if pair not in self.pairs:
            raise KeyError(f"{pair!r}; there are {', '.join(map(str, self.pairs))}")
        return quietly(FittedEstimator(self.recipes[pair[1]], self.nuisances), self.goals[pair[0]])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)


def _policies(goal: Estimand) -> list[Policy]:
    """Those that an estimand compares."""
    if isinstance(goal, PolicyValue):
        return [goal.policy]
    contrast = goal.contrast() if isinstance(goal, ATE) else goal
    return [contrast.policy.policy, contrast.reference.policy] if isinstance(contrast, Contrast) else []


def _rows(
    nuisances: Nuisances, goal: Estimand, recipes: Mapping[str, Estimator], level: float, method: IntervalMethod | None
) -> list[dict[str, Any]]:
    """One row an estimator; all intervals of one bootstrap come from one draw.

    Estimators with a value model go first: what they need for a moment is large, while little is held yet.
    """
    found: dict[str, dict[str, Any]] = {}
    estimates: dict[str, Estimate] = {}
    for name, estimator in sorted(recipes.items(), key=lambda item: not hasattr(item[1], "q")):
        row: dict[str, Any] = dict.fromkeys(_NUMBERS, np.nan)
        row |= {"estimator": name, "verdict": None, "warnings": "", "failure": None}
        start = time.perf_counter()
        try:
            estimates[name] = estimate = quietly(FittedEstimator(estimator, nuisances), goal)
            row |= {key: _number(estimate.diagnostics[key]) for key in ("ess", "max_weight")}
            row |= {"value": estimate.value, "verdict": estimate.diagnostics["verdict"]}
        except ValueError as error:
            row["failure"] = f"{type(error).__name__}: {error}"
        found[name] = row | {"seconds": time.perf_counter() - start}
    rows = [found[name] for name in recipes]
    start = time.perf_counter()
    if method is not None:
        with suppress(IntervalError):  # raised again for each row that it concerns
            prepare([estimate.evidence for estimate in estimates.values()], method)
    shared = (time.perf_counter() - start) / max(len(estimates), 1)
    for row in rows:
        if row["estimator"] in estimates:
            start = time.perf_counter()
            row |= _interval(estimates[row["estimator"]], level, method)
            row["seconds"] += shared + time.perf_counter() - start
    return rows


def _interval(estimate: Estimate, level: float, method: IntervalMethod | None) -> dict[str, Any]:
    """Standard error and limits; an interval that does not exist is one of the warnings."""
    texts = list(estimate.diagnostics["warnings"])
    limits: dict[str, Any] = {}
    try:
        chosen = estimate.default_method if method is None else method
        interval = estimate.interval(level, method=chosen)
        limits = {"low": interval.low, "high": interval.high}
        limits["stderr"] = make_stderr(estimate.evidence, chosen)
    except CausalRLError as error:
        texts.append(f"{type(error).__name__}: {error}")
    return limits | {"warnings": "; ".join(texts)}


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def named(items: Mapping[str, Any] | Sequence[Any], field: str) -> dict[str, Any]:
    if isinstance(items, Mapping):
        named = dict(items)
    elif isinstance(items, list | tuple):
        labels = [getattr(item, "__name__", None) or str(item) for item in items]
        twice = sorted({text for text in labels if labels.count(text) > 1})
        if twice:
            raise DataError(f"{field}: {twice[0]!r} occurs twice; pass a mapping with a name for each.")
        named = dict(zip(labels, items, strict=True))
    else:
        raise DataError(f"{field}: {items!r} is a single one; pass a mapping with names, or a list.")
    if not named:
        raise DataError(f"{field}: there are none; pass at least one.")
    for name, item in named.items():
        if isinstance(item, CATE):
            raise EstimandError(f"{field}: {name!r} is a CATE, which has many values; ask the estimator for it directly.")
    return named


def named_estimators(estimators: Recipes) -> dict[str, Estimator]:
    """Estimators by name."""
    recipes = named(estimators, "estimators")
    for name, item in recipes.items():
        if not isinstance(item, Estimator):
            raise EstimandError(f"estimators: {name!r} is {item!r}, no estimator; pass an object such as WIS().")
    return recipes


def true_value(truth: Truth, name: str, goal: Estimand) -> float:
    if isinstance(truth, Mapping):
        if name not in truth:
            raise MismatchError(f"truth: no value for {name!r}; it has {', '.join(truth)}.")
        return float(truth[name])
    if not hasattr(truth, "value"):
        raise DataError(f"truth: {truth!r} knows no values; pass a simulator, or a mapping from policy names to values.")
    if isinstance(goal, PolicyValue):
        return float(truth.value(goal.policy, horizon=goal.horizon, discount=goal.discount))
    if isinstance(goal, CATE | PopulationEffect):
        raise EstimandError(f"truth: {goal} is no difference of policy values; pass a mapping from names to true values.")
    contrast = goal.contrast() if isinstance(goal, ATE) else goal
    return true_value(truth, name, contrast.policy) - true_value(truth, name, contrast.reference)
