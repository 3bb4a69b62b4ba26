"""Cross-sectional tables to the arrays of `Trajectories`, with checks of a person's own coding of arms and covariates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalrl.checks import array_of, check_probabilities, first_bad
from causalrl.errors import DataError


def read_cross_section(
    X: ArrayLike,
    treatment: ArrayLike,
    outcome: ArrayLike,
    propensity: ArrayLike | None,
    clusters: ArrayLike | None,
    feature_names: Sequence[str] | None,
) -> dict[str, Any]:
    """Arguments of `Trajectories.from_arrays` from a table with one row a unit."""
    if feature_names is None and hasattr(X, "columns"):
        feature_names = [str(name) for name in X.columns]
    arms, columns = array_of("treatment", treatment), array_of("X", X)
    n = len(arms)
    for field, given in (("X", columns), ("outcome", outcome), ("propensity", propensity)):
        if given is not None and len(array_of(field, given)) != n:
            raise DataError(f"{field}: {len(given)} rows, but treatment has {n}; pass one row a unit.")  # type: ignore[arg-type]
    check_arms(arms)
    check_covariates(columns, feature_names)
    probabilities = None if propensity is None else np.asarray(propensity, float)
    if probabilities is not None and probabilities.ndim == 1:
        check_probabilities("propensity", probabilities)
        probabilities = np.column_stack([1 - probabilities, probabilities])
    return {
        "observations": columns,
        "actions": arms,
        "rewards": outcome,
        "offsets": np.arange(n + 1),
        "behavior_probabilities": probabilities,
        "clusters": clusters,
        "feature_names": feature_names,
    }


def check_covariates(array: NDArray[Any], names: Sequence[str] | None) -> None:
    """Refuse missing values and text among the covariates (n, d), naming the columns."""
    if array.ndim != 2 or (array.dtype.kind in "biuf" and np.isfinite(array).all()):
        return
    columns = array.shape[1]
    labels = [f"column {j}" for j in range(columns)] if names is None or len(names) != columns else list(names)
    text = np.array([[_is_text(value) for value in row] for row in array.tolist()], np.bool_)
    missing = ~text & ~np.isfinite([[_as_float(value) for value in row] for row in array.tolist()])
    for mask, what, mend in (
        (missing, "missing or infinite", "Impute or drop them before building the data."),
        (text, "text, not numeric,", "Encode categories as numbers; formulas take them as C(column)."),
    ):
        if mask.any():
            where = ", ".join(labels[j] for j in np.flatnonzero(mask.any(axis=0)).tolist())
            raise DataError(
                f"X: {where}: {what} in {int(mask.any(axis=1).sum())} rows, the first is row {first_bad(mask)}. {mend}"
            )


def _as_float(value: Any) -> float:
    """The value as a float; nan for what is none, as pandas' missing value."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def _is_text(value: Any) -> bool:
    """Whether it is text that spells no number."""
    return isinstance(value, str) and value.strip().lower() not in ("nan", "") and np.isnan(_as_float(value))


def check_arms(arms: NDArray[Any]) -> None:
    """Refuse arms that are text, all the same, or not counted from 0."""
    if not len(arms):
        return
    if isinstance(arms.flat[0], str):
        raise DataError(f"treatment: {str(arms.flat[0])!r} is not numeric; encode the arms: (treatment == 'drug').astype(int).")
    if (arms == arms.flat[0]).all():
        raise DataError(f"treatment: every unit has arm {arms.flat[0]}; an effect needs at least two arms in the data.")
    if arms.ndim == 1 and arms.dtype.kind in "iuf" and arms.min() >= 1:
        raise DataError(
            f"treatment: codes {arms.min():g} to {arms.max():g}, and nobody has arm 0; count arms from 0: treatment - 1."
        )
