"""Long tables (pandas, polars, pyarrow) to the arrays of `Trajectories`, through narwhals."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import narwhals as nw
import numpy as np
from numpy.typing import NDArray

from causalrl.checks import check_probabilities, check_probability_rows, integers
from causalrl.data import End
from causalrl.errors import DataError

_ROW = "__row__"


def read_frame(
    frame: Any,
    id: str,
    time: str,
    action: str,
    reward: str,
    observations: str | Sequence[str],
    end: str | None,
    propensities: str | Sequence[str] | None,
    cluster: str | None,
) -> dict[str, Any]:
    """Arguments of `Trajectories.from_arrays` read from a table with one row a decision."""
    try:
        table = nw.from_native(frame, eager_only=True)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"frame: {type(frame).__name__} is no usable table ({error}); pass a pandas, polars or pyarrow one."
        ) from error
    covariates = [observations] if isinstance(observations, str) else list(observations)
    logged = [] if propensities is None else [propensities] if isinstance(propensities, str) else list(propensities)
    needed = [id, time, action, reward, *covariates, *logged, *(name for name in (end, cluster) if name is not None)]
    if not covariates:
        raise DataError("observations: no column is named; pass the covariates, or one column of integer states.")
    _check_columns(table, needed, end)
    if table[time].dtype == nw.String:
        raise DataError(f"{time}: text sorts as text ('10' before '2'); convert it to numbers or datetimes.")
    integers(action, table[action].to_numpy())
    if isinstance(propensities, str):
        check_probabilities(propensities, table[propensities].to_numpy())
    elif logged:
        check_probability_rows(", ".join(logged), table.select(logged).to_numpy())
    table = table.with_row_index(_ROW).sort(id, time)
    _check_unique(table, id, time)

    labels = table[id].to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], labels[1:] != labels[:-1]]))
    offsets = np.append(starts, len(labels))
    vectors = not isinstance(observations, str)
    return {
        "observations": table.select(covariates).to_numpy() if vectors else table[covariates[0]].to_numpy(),
        "actions": table[action].to_numpy(),
        "rewards": table[reward].to_numpy(),
        "offsets": offsets,
        "end": None if end is None else End.codes(end, table[end].to_numpy()[offsets[1:] - 1]),
        "behavior_probabilities": _probabilities(table, logged, propensities),
        "ids": labels[starts],
        "clusters": None if cluster is None else _constant(table, cluster, offsets, labels),
        "feature_names": covariates if vectors else None,
    }


def _check_columns(table: nw.DataFrame[Any], needed: list[str], end: str | None) -> None:
    if len(table) == 0:
        raise DataError("frame: the table is empty.")
    for name in needed:
        if name not in table.columns:
            close = difflib.get_close_matches(name, table.columns, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(table.columns)}."
            raise DataError(f"frame: no column {name!r}{hint}")
        column = table[name]
        if name == end:
            continue
        missing = column.is_null().to_numpy()
        if column.dtype.is_float():
            missing = missing | ~column.is_finite().fill_null(False).to_numpy()
        if missing.any():
            row = int(np.flatnonzero(missing)[0])
            value = column.to_list()[row]
            raise DataError(
                f"{name}: row {row} of the table is missing or not finite ({value}); impute it or drop the trajectory."
            )


def _check_unique(table: nw.DataFrame[Any], id: str, time: str) -> None:
    ids, times, rows = table[id].to_numpy(), table[time].to_numpy(), table[_ROW].to_numpy()
    twice = np.flatnonzero((ids[1:] == ids[:-1]) & (times[1:] == times[:-1]))
    if len(twice):
        j = int(twice[0])
        raise DataError(
            f"{id}, {time}: rows {rows[j]} and {rows[j + 1]} of the table are both ({ids[j]}, {times[j]}); "
            "merge or drop the repeat, since its order would decide the answer."
        )


def _probabilities(table: nw.DataFrame[Any], logged: list[str], given: str | Sequence[str] | None) -> NDArray[Any] | None:
    if given is None:
        return None
    return table[logged[0]].to_numpy() if isinstance(given, str) else table.select(logged).to_numpy()


def _constant(table: nw.DataFrame[Any], column: str, offsets: NDArray[Any], ids: NDArray[Any]) -> NDArray[Any]:
    values = table[column].to_numpy()
    first = np.repeat(values[offsets[:-1]], np.diff(offsets))
    differs = np.flatnonzero(values != first)
    if len(differs):
        raise DataError(f"{column}: changes within trajectory {ids[differs[0]]}; a cluster holds whole trajectories.")
    labels: NDArray[Any] = values[offsets[:-1]]
    return labels
