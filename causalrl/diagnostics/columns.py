"""What is odd about covariate columns: constants, linear dependence, and numbers that look like codes of missing values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalrl.checks import Bools, Floats

_DEPENDENT = 1e-10
"""A column with a smaller share of its variance left, given the columns before it, is a linear combination of them."""
_USED = 1e-5
_CODES = (-9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0, 99999.0)
_MOST_COLUMNS = 500


@dataclass(frozen=True, eq=False)
class Columns:
    """The covariates of the decisions.

    Attributes:
        names: d columns. low, high, mean, sd: (d,) of each.
        constant: columns with one value.
        dependent: (column, columns before it of which it is a linear combination).
        codes: (column, value, rows) where a usual code of missing values, such as -999, stands apart from all other values.
    """

    names: tuple[str, ...]
    low: Floats
    high: Floats
    mean: Floats
    sd: Floats
    constant: tuple[str, ...]
    dependent: tuple[tuple[str, tuple[str, ...]], ...]
    codes: tuple[tuple[str, float, int], ...]


def describe_columns(features: Floats, names: tuple[str, ...]) -> Columns:
    """Describe the columns; linear dependence is looked for among at most 500 of them.

    Args:
        features: (n, d). names: d.

    Example:
        >>> x = np.array([[1.0, 2.0, 5.0], [2.0, 4.0, 5.0], [3.0, 6.0, 5.0]])
        >>> describe_columns(x, ("a", "b", "c")).dependent
        (('b', ('a',)),)
    """
    low, high = features.min(axis=0), features.max(axis=0)
    size = np.maximum(np.abs(low), np.abs(high))
    scaled = features / np.where(size > 0, size, 1.0)
    mean, sd = scaled.mean(axis=0), scaled.std(axis=0)
    constant = low == high
    varying = np.flatnonzero(~constant & (sd > 0))[:_MOST_COLUMNS]
    standard = (scaled[:, varying] - mean[varying]) / sd[varying]
    dependent = _dependence(standard.T @ standard / len(features), tuple(names[j] for j in varying))
    codes = [(names[j], *found) for j in varying if (found := _missing_code(features[:, j], low[j], high[j])) is not None]
    constants = tuple(name for name, one in zip(names, constant, strict=True) if one)
    return Columns(names, low, high, mean * size, np.where(constant, 0.0, sd * size), constants, dependent, tuple(codes))


def _dependence(correlation: Floats, names: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Column by column, by the variance that those kept before it leave."""
    kept, found = list[int](), []
    for j, name in enumerate(names):
        coefficients = np.linalg.solve(correlation[np.ix_(kept, kept)], correlation[kept, j])
        if correlation[j, j] - coefficients @ correlation[kept, j] > _DEPENDENT:
            kept.append(j)
        else:
            found.append((name, tuple(names[i] for i, c in zip(kept, coefficients, strict=True) if abs(c) > _USED)))
    return tuple(found)


def _missing_code(column: Floats, low: float, high: float) -> tuple[float, int] | None:
    """A usual code at an end of the column, at least twice, and farther from the rest than the rest is wide."""
    for code in _CODES:
        if code not in (low, high):
            continue
        coded: Bools = column == code
        rest = column[~coded]
        width = float(rest.max() - rest.min())
        if coded.sum() >= 2 and np.abs(rest - code).min() > max(width, 1.0):
            return code, int(coded.sum())
    return None
