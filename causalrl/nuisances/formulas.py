"""Formulas in patsy's language (Wilkinson & Rogers 1973), evaluated on the columns of logged decisions.

A formula is read once, on one table: levels of factors, knots and centres are those of that table wherever it is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, first_bad
from causalrl.data import Trajectories
from causalrl.errors import DataError, EstimandError

Columns = Mapping[str, NDArray[Any]]
"""Columns (M,) by name."""

_DEPENDENT = 1e-9
"""A column whose part outside the span of those before it is smaller than this share of it is a combination of them."""


class Formula:
    """The columns of a right-hand side, their coding fixed by one table.

    Attributes:
        names: of the columns, the intercept's is "Intercept".

    Raises:
        DataError: naming what cannot be read, and the columns that there are.
    """

    def __init__(self, text: str, columns: Columns) -> None:
        from pandas import DataFrame
        from patsy import EvalEnvironment, PatsyError, dmatrix

        if not isinstance(text, str):
            raise EstimandError(f"formula: {text!r} is no text; write the right-hand side, such as 'age + I(age**2) + C(sex)'.")
        self.text, self._columns = text, ", ".join(columns)
        environment = EvalEnvironment([{"np": np}])
        try:
            with np.errstate(all="ignore"):
                self._info = dmatrix(text, DataFrame(columns), NA_action=_keep_missing(), eval_env=environment).design_info
        except PatsyError as error:
            raise self._unreadable(error) from error
        self.names = tuple(map(str, self._info.column_names))

    def _unreadable(self, error: Exception) -> DataError:
        reason = str(error).splitlines()[0]
        return DataError(f"formula: {self.text!r} cannot be read ({reason}); the columns are {self._columns}.")

    def matrix(self, columns: Columns) -> Floats:
        """(M, d) at a table of the same columns, no row dropped."""
        from pandas import DataFrame
        from patsy import PatsyError, build_design_matrices

        frame = DataFrame(columns)
        try:
            with np.errstate(all="ignore"):
                built = build_design_matrices([self._info], frame, NA_action=_keep_missing())[0]
        except PatsyError as error:
            raise self._unreadable(error) from error
        values = np.asarray(built, dtype=np.float64)
        matrix = np.broadcast_to(values, (len(frame), values.shape[1]))
        bad = ~np.isfinite(matrix)
        if bad.any():
            row = first_bad(bad)
            column = self.names[int(np.flatnonzero(bad[row])[0])]
            raise DataError(
                f"formula: {column} is {matrix[row][bad[row]][0]} at decision {row}; use a transformation that is finite there."
            )
        return matrix


def covariate_columns(data: Trajectories, observations: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """The covariates by name; of tabular data, `state`."""
    if observations.ndim == 1:
        return {"state": observations}
    return dict(zip(data.feature_names, observations.T, strict=True))


def with_columns(covariates: Columns, **added: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Covariates and further columns, whose names no covariate may have."""
    taken = sorted(set(covariates) & set(added))
    if taken:
        raise DataError(
            f"feature_names: {taken[0]!r} names a covariate, and formulas call the decision so; rename the covariate."
        )
    return {**covariates, **added}


def covariate_design(formula: str | None, data: Trajectories, observations: NDArray[Any]) -> tuple[Floats, tuple[str, ...]]:
    """(M, d) columns of a formula in the covariates, with their names; None is an intercept and every feature."""
    if formula is not None:
        columns = covariate_columns(data, observations)
        read = Formula(formula, columns)
        return read.matrix(columns), read.names
    features = data.features(observations)
    return np.column_stack([np.ones(len(features)), features]), ("Intercept", *feature_labels(data))


def feature_labels(data: Trajectories) -> tuple[str, ...]:
    """Names of what a regressor sees of an observation."""
    if not data.tabular:
        return data.feature_names
    width = data.n_states if data.state_features is None else data.state_features.shape[1]
    return tuple(f"state feature {j}" for j in range(width))


def require_independent(design: Floats, weights: Floats, names: tuple[str, ...], where: str) -> None:
    """Refuse a design (M, d) one of whose columns is a linear combination of those before it, where weights are positive."""
    used = design[weights > 0]
    lengths = np.sqrt(np.sum(used**2, axis=0))
    enough = len(used) >= len(names) and (lengths > 0).all()
    pivots = np.abs(np.diagonal(np.linalg.qr(used / np.where(lengths > 0, lengths, 1.0), mode="r")))
    if enough and (pivots > _DEPENDENT).all():
        return
    dependent = np.flatnonzero(~(pivots > _DEPENDENT) | (lengths[: len(pivots)] == 0))
    column = names[int(dependent[0])] if len(dependent) else names[len(pivots)]
    raise DataError(
        f"{where}: {column} is a linear combination of the columns before it ({len(used)} decisions), so that its "
        "coefficient does not exist. Leave one of them out, or merge rare levels."
    )


def _keep_missing() -> Any:
    """A patsy rule that drops no row: what is not finite is reported, not left out."""
    from patsy import NAAction

    return NAAction(NA_types=[])
