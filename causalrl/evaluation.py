"""`evaluate`: many estimators and policies on one data set."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from causalrl.data import Trajectories
from causalrl.errors import DataError, EstimandError, IntervalError, MismatchError
from causalrl.estimands import ATE, CATE, Estimand, EstimandLike, PolicyValue, as_estimand
from causalrl.estimate import Estimate
from causalrl.estimators.base import Estimator, FittedEstimator
from causalrl.nuisances.crossfit import Nuisances
from causalrl.policies import PolicyLike

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


Truth: TypeAlias = KnowsValues | Mapping[str, float]


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """A table of estimates.

    Attributes:
        frame: one row a pair, with columns `COLUMNS`, and `TRUTH_COLUMNS` where the truth is known. A failed pair has its
            error in `failure` (else missing) and missing numbers.
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

    goals = {name: as_estimand(goal, discount, horizon) for name, goal in named(policies, "policies").items()}
    recipes = named_estimators(estimators)
    truths = {name: true_value(truth, name, goal) for name, goal in goals.items()} if truth is not None else None
    nuisances = Nuisances(data, seed)
    rows, estimates = [], {}
    for policy, goal in goals.items():
        for name, estimator in recipes.items():
            row, estimate = _row(FittedEstimator(estimator, nuisances), goal)
            rows.append({"policy": policy, "estimator": name, **row})
            if estimate is not None:
                estimates[policy, name] = estimate
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"warnings": "string", "failure": "string"})
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
    if isinstance(goal, CATE):
        raise EstimandError("truth: a CATE has no single true value.")
    contrast = goal.contrast() if isinstance(goal, ATE) else goal
    return true_value(truth, name, contrast.policy) - true_value(truth, name, contrast.reference)
