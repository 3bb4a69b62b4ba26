"""Summaries of a heterogeneous effect, each a mean or a least-squares fit of doubly robust scores with its joint sandwich.

None of them believes a model of the effect: subgroups, the best linear projection, sorted groups and the calibration
coefficients are defined for any effect, and a prediction of the effect (a `priority`) only orders the units. It must not have
been learned from the outcomes that it is judged on: learn it on other data, or cross-fit it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalrl.checks import Bools, Floats, array_of, check_size, first_bad, numeric, whole_number
from causalrl.errors import DataError
from causalrl.estimate import Estimate
from causalrl.heterogeneity.scores import DoublyRobustScores

COLLINEAR = 1e-10
"""A column that varies by less than this share of its size counts as constant; one whose part that others do not predict has a
squared norm below it, in standard units, as their linear function."""


def subgroup_effects(
    scores: DoublyRobustScores, groups: ArrayLike | Mapping[str, ArrayLike], *, treated: int = 1, control: int = 0
) -> Estimate:
    """Average effect in each group: the mean of the effect scores of its units.

    Args:
        scores: see `doubly_robust_scores`.
        groups: (n,) labels, or masks (n,) by name, which may overlap.
        treated, control: the two arms.

    Returns:
        A vector labelled by group, in the order of the sorted labels, or of the mapping. `estimate["a"] - estimate["b"]` and
        `simultaneous([estimate["a"], estimate["b"]])` know the joint spread.

    Raises:
        DataError: for groups of another length, a missing label, or a group of fewer than two clusters.

    Example:
        >>> import causalrl as crl
        >>> from simulators import Point
        >>> from sklearn.linear_model import LinearRegression
        >>> study = Point().sample(2000, seed=0)  # the effect is 1 + x2
        >>> scores = crl.doubly_robust_scores(study, crl.PerAction(LinearRegression()))
        >>> effects = subgroup_effects(scores, {"low": study.observations[:, 1] < 0, "high": study.observations[:, 1] >= 0})
        >>> (effects["high"] - effects["low"]).interval().low > 1
        True
    """
    masks = _masks(scores, groups)
    for name, mask in masks.items():
        if len(np.unique(scores.data.clusters[mask])) < 2:
            raise DataError(f"groups: {name!r} holds {int(mask.sum())} units of fewer than two clusters; merge it with another.")
    return _group_means(scores, scores.effect(treated, control), masks, f"effect of {treated} against {control} in groups")


def sorted_group_effects(
    scores: DoublyRobustScores, priority: ArrayLike, groups: int = 5, *, treated: int = 1, control: int = 0
) -> Estimate:
    """Sorted group average treatment effects (GATES): the average effect in quantile groups of a priority.

    Source: Chernozhukov, Demirer, Duflo & Fernandez-Val (2018), Generic machine learning inference on heterogeneous treatment
    effects, definition 2.4. The cut points are this sample's quantiles and count as fixed: the target is the average effect of
    those between them. Equal priorities stay in one group.

    Args:
        scores: see `doubly_robust_scores`.
        priority: (n,) predicted effects, or any other order, learned on other data or cross-fitted.
        groups: how many, at least 2.
        treated, control: the two arms.

    Returns:
        A vector labelled "group 1" (lowest priority) to "group k"; `estimate["group 5"] - estimate["group 1"]` is the spread.

    Raises:
        DataError: for a priority of another length, one that is not finite, or one with too few distinct values.

    Example:
        >>> import causalrl as crl
        >>> from simulators import Point
        >>> from sklearn.linear_model import LinearRegression
        >>> study = Point().sample(2000, seed=0)
        >>> scores = crl.doubly_robust_scores(study, crl.PerAction(LinearRegression()))
        >>> sorted_effects = sorted_group_effects(scores, priority=study.observations[:, 1], groups=3)
        >>> sorted_effects.labels, bool(np.all(np.diff(sorted_effects.value) > 0))
        (('group 1', 'group 2', 'group 3'), True)
    """
    effect, order, contrast = effect_and_order(scores, "priority", priority, treated, control)
    count = whole_number("groups", groups, 2)
    cuts = np.quantile(order, np.arange(1, count) / count)
    code = np.searchsorted(cuts, order, side="left")
    masks = {f"group {j + 1}": code == j for j in range(count)}
    empty = [name for name, mask in masks.items() if len(np.unique(scores.data.clusters[mask])) < 2]
    if empty:
        distinct = len(np.unique(order))
        raise DataError(f"priority: with {distinct} distinct values {empty[0]} of {count} is too small; ask for fewer groups.")
    return _group_means(scores, effect, masks, f"sorted effects of {contrast}")


def best_linear_projection(
    scores: DoublyRobustScores,
    covariates: Sequence[str] | ArrayLike | None = None,
    *,
    treated: int = 1,
    control: int = 0,
) -> Estimate:
    """Coefficients of the linear function of some covariates that is closest to the effect in mean square.

    beta = (Z'Z)^-1 Z' Gamma with Z = (1, covariates) and Gamma the effect scores; errors by the heteroskedasticity- and
    cluster-robust sandwich. Source: Semenova & Chernozhukov (2021), Debiased machine learning of conditional average treatment
    effects and other causal functions, Econometrics Journal 24:264, theorem 2.1 with a fixed basis.

    Args:
        scores: see `doubly_robust_scores`.
        covariates: names of columns of the data, or a matrix (n, k) or dataframe of others; None is every column.
        treated, control: the two arms.

    Returns:
        A vector labelled "intercept" and by covariate.

    Raises:
        DataError: for unknown names, another number of rows, entries that are not finite, or collinear columns.

    Example:
        >>> import causalrl as crl
        >>> from simulators import Point
        >>> from sklearn.linear_model import LinearRegression
        >>> study = Point().sample(2000, seed=0)  # the effect is 1 + x2
        >>> scores = crl.doubly_robust_scores(study, crl.PerAction(LinearRegression()))
        >>> projection = best_linear_projection(scores, ["x1", "x2"])
        >>> projection.labels, 1.0 in projection["x2"].interval()
        (('intercept', 'x1', 'x2'), True)
    """
    columns, names = _columns(scores, covariates)
    effect, centre, scale = scores.effect(treated, control), columns.mean(axis=0), columns.std(axis=0)
    _require_independent(columns, names)
    basis = np.column_stack([np.ones(scores.n), (columns - centre) / scale])
    bread = np.linalg.inv(basis.T @ basis / scores.n)
    coefficients = bread @ (basis.T @ effect) / scores.n
    influence = (basis * (effect - basis @ coefficients)[:, None]) @ bread
    back = np.diag(np.append(1.0, 1 / scale))
    back[0, 1:] = -centre / scale
    about = f"linear projection of the effect of {treated} against {control}"
    return scores.linearised(back @ coefficients, influence @ back.T, about, ("intercept", *names))


def effect_calibration(scores: DoublyRobustScores, prediction: ArrayLike, *, treated: int = 1, control: int = 0) -> Estimate:
    """How well predicted effects are calibrated: coefficients of the effect scores on the mean prediction and on deviations.

    Gamma_i = a m + b (tau_i - m) + error, with m the mean prediction: a = 1 where predictions are right on average, b = 1 where
    differences between them are, and b = 0 where they tell nothing (b is the slope of the best linear predictor). Source:
    Chernozhukov, Demirer, Duflo & Fernandez-Val (2018), theorem 2.1; Athey & Wager (2019), Observational Studies 5:37, section
    2.2. Errors are of the joint estimating equations, so that they carry the sampling of m.

    Args:
        scores: see `doubly_robust_scores`.
        prediction: (n,) predicted effects, learned on other data or cross-fitted.
        treated, control: the two arms.

    Returns:
        A vector labelled "mean" (a) and "differential" (b); `estimate["differential"].lower_bound()` above 0 is evidence of
        heterogeneity that the prediction found.

    Raises:
        DataError: for a prediction of another length, one that is not finite or constant, or of mean 0.

    Example:
        >>> import causalrl as crl
        >>> from simulators import Point
        >>> from sklearn.linear_model import LinearRegression
        >>> study = Point().sample(2000, seed=0)
        >>> scores = crl.doubly_robust_scores(study, crl.PerAction(LinearRegression()))
        >>> fit = effect_calibration(scores, Point().effect(study.observations))
        >>> 1.0 in fit["mean"].interval(), fit["differential"].lower_bound().low > 0
        (True, True)
    """
    effect, tau, contrast = effect_and_order(scores, "prediction", prediction, treated, control)
    level, spread = float(tau.mean()), tau - tau.mean()
    variance = float(np.mean(spread**2))
    if variance <= (COLLINEAR * np.abs(tau).max()) ** 2:
        raise DataError(f"prediction: is {tau[0]:.4g} for every unit, so that no differences can be judged.")
    if abs(level) <= COLLINEAR * np.abs(tau).max():
        raise DataError("prediction: its mean is 0, so that the mean coefficient does not exist; add the average effect.")
    overall, slope = float(effect.mean()) / level, float(np.mean(spread * effect)) / variance
    residual = effect - effect.mean() - slope * spread
    influence = np.column_stack([(effect - overall * tau) / level, spread * residual / variance])
    about = f"calibration of predicted effects of {contrast}"
    return scores.linearised(np.array([overall, slope]), influence, about, ("mean", "differential"))


def effect_and_order(
    scores: DoublyRobustScores, field: str, order: ArrayLike, treated: int, control: int
) -> tuple[Floats, Floats, str]:
    """Effect scores (n,), the numbers (n,) that order the units, finite and one each, and the contrast as text."""
    values = numeric(field, order)
    if values.shape != (scores.n,):
        raise DataError(f"{field}: shape {values.shape}, expected ({scores.n},), one number a unit.")
    check_size(field, values)
    return scores.effect(treated, control), values, f"{treated} against {control}"


def _group_means(scores: DoublyRobustScores, effect: Floats, masks: Mapping[str, Bools], about: str) -> Estimate:
    inside = np.column_stack(list(masks.values())).astype(np.float64)
    share = inside.mean(axis=0)
    means = (effect @ inside) / inside.sum(axis=0)
    return scores.linearised(means, inside * (effect[:, None] - means) / share, about, tuple(masks))


def _masks(scores: DoublyRobustScores, groups: ArrayLike | Mapping[str, ArrayLike]) -> dict[str, Bools]:
    if isinstance(groups, Mapping):
        if not groups:
            raise DataError("groups: there are none; pass at least one mask.")
        return {str(name): _mask(scores, name, mask) for name, mask in groups.items()}
    labels = _one_a_unit(scores, "groups", groups, "label")
    missing = np.array([item is None or item != item for item in labels.tolist()])
    if missing.any():
        raise DataError(f"groups: row {first_bad(missing)} has no label; give those rows a group of their own.")
    try:
        values, code = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise DataError(f"groups: the labels cannot be sorted ({error}); pass numbers, or text.") from error
    return {str(value): code == j for j, value in enumerate(values)}


def _mask(scores: DoublyRobustScores, name: str, mask: ArrayLike) -> Bools:
    inside = _one_a_unit(scores, f"groups[{name!r}]", mask, "True or False")
    if inside.dtype != np.bool_:
        raise DataError(f"groups[{name!r}]: is {inside.dtype}; pass a mask of True and False.")
    return inside.astype(np.bool_)


def _one_a_unit(scores: DoublyRobustScores, field: str, values: ArrayLike, what: str) -> NDArray[Any]:
    array = array_of(field, values)
    if array.shape != (scores.n,):
        raise DataError(f"{field}: shape {array.shape}, expected ({scores.n},), one {what} a unit.")
    return array


def _columns(scores: DoublyRobustScores, covariates: Sequence[str] | ArrayLike | None) -> tuple[Floats, tuple[str, ...]]:
    known = scores.feature_names
    if covariates is None:
        return scores.features, known
    if isinstance(covariates, list | tuple) and all(isinstance(name, str) for name in covariates) and covariates:
        unknown = [name for name in covariates if name not in known]
        if unknown:
            raise DataError(f"covariates: there is no {unknown[0]!r}; the data have {', '.join(known)}.")
        return scores.features[:, [known.index(str(name)) for name in covariates]], tuple(map(str, covariates))
    columns = numeric("covariates", covariates)
    if columns.ndim != 2 or len(columns) != scores.n or not columns.shape[1]:
        raise DataError(f"covariates: shape {columns.shape}, expected ({scores.n}, k), one row a unit; or pass names.")
    check_size("covariates", columns)
    names = map(str, covariates.columns) if hasattr(covariates, "columns") else (f"z{j}" for j in range(columns.shape[1]))
    return columns, tuple(names)


def _require_independent(columns: Floats, names: Sequence[str]) -> None:
    """Refuse a constant column, and one that others predict."""
    spread = columns - columns.mean(axis=0)
    scale = np.abs(spread).max(axis=0)
    for j, name in enumerate(names):
        if scale[j] <= COLLINEAR * np.abs(columns[:, j]).max():
            raise DataError(f"covariates: {name} is constant, like the intercept; leave it out.")
    scaled = spread / np.linalg.norm(spread, axis=0)
    for j, name in enumerate(names):
        rest = scaled[:, :j]
        if j and np.linalg.norm(scaled[:, j] - rest @ np.linalg.lstsq(rest, scaled[:, j])[0]) <= COLLINEAR**0.5:
            raise DataError(f"covariates: {name} is a linear function of {', '.join(names[:j])}; leave one out.")
