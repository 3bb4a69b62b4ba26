"""How good a ranking of policies is, once their true values are known.

Sources: rank correlation and regret@k as in Fu et al. (2021), Benchmarks for deep off-policy evaluation; SharpeRatio@k: Kiyohara,
Kishimoto, Kawakami, Kobayashi, Nakata & Saito (2024), Towards assessing and benchmarking risk-return tradeoff of off-policy
evaluation. Of equal estimates the one that comes first counts as the better.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Floats, check_finite, number, numeric, whole_number
from causalrl.errors import DataError, MismatchError

Values: TypeAlias = "Mapping[str, float] | ArrayLike"
"""The value of each policy: by name, or in a list."""


def rank_correlation(estimated: Values, truth: Values) -> float:
    """Spearman's correlation of estimated and true values: Pearson's of their ranks, ties sharing the mean rank.

    Args:
        estimated, truth: values of the same policies, both by name or both in a list.

    Raises:
        DataError: for fewer than two policies, numbers that are not finite, lengths that disagree, or values that are all equal.
        MismatchError: for names that disagree.

    Example:
        >>> rank_correlation([0.1, 0.9, 0.5], [1.0, 3.0, 2.0])
        1.0
        >>> rank_correlation({"a": 1.0, "b": 2.0, "c": 3.0}, {"b": 1.0, "a": 2.0, "c": 3.0})
        0.5
    """
    from scipy.stats import rankdata

    pair = _paired(estimated, truth, 2)
    for name, values in zip(("estimated", "truth"), pair, strict=True):
        if (values == values[0]).all():
            raise DataError(f"{name}: all {len(values)} values are {values[0]:g}, so that they have no order to compare.")
    first, second = (rankdata(values) - (len(values) + 1) / 2 for values in pair)
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def regret_at_k(estimated: Values, truth: Values, k: int = 1) -> float:
    """True value of the best policy of all, less that of the best of the k with the highest estimates; never below 0.

    Args:
        estimated, truth: values of the same policies, both by name or both in a list.
        k: how many are tried, from 1 to the number of policies.

    Raises:
        DataError: for a k out of range, numbers that are not finite, or lengths that disagree.
        MismatchError: for names that disagree.

    Example:
        >>> [regret_at_k([0.1, 0.9, 0.5], [3.0, 1.0, 2.5], k) for k in (1, 2, 3)]
        [2.0, 0.5, 0.0]
    """
    top, true = _top(estimated, truth, k, 1)
    return float(true.max() - top.max())


def best_at_k(estimated: Values, truth: Values, k: int = 1) -> float:
    """True value of the best of the k policies with the highest estimates.

    Args:
        estimated, truth, k: as in `regret_at_k`.

    Raises:
        DataError, MismatchError: as `regret_at_k`.

    Example:
        >>> best_at_k([0.1, 0.9, 0.5], [3.0, 1.0, 2.5], k=2)
        2.5
    """
    return float(_top(estimated, truth, k, 1)[0].max())


def worst_at_k(estimated: Values, truth: Values, k: int = 1) -> float:
    """True value of the worst of the k policies with the highest estimates: what trying them may cost.

    Args:
        estimated, truth, k: as in `regret_at_k`.

    Raises:
        DataError, MismatchError: as `regret_at_k`.

    Example:
        >>> worst_at_k([0.1, 0.9, 0.5], [3.0, 1.0, 2.5], k=2)
        1.0
    """
    return float(_top(estimated, truth, k, 1)[0].min())


def sharpe_ratio_at_k(estimated: Values, truth: Values, baseline: float, k: int) -> float:
    """SharpeRatio@k = (best@k - baseline) / std@k of trying the k policies with the highest estimates (Kiyohara et al. 2024).

    std@k is the standard deviation of their true values, with the divisor k: the risk of trying bad policies on the way.

    Args:
        estimated, truth: values of the same policies, both by name or both in a list.
        baseline: true value of the behaviour policy.
        k: how many are tried, from 2 to the number of policies.

    Raises:
        DataError: for a k out of range, a baseline or values that are not finite, lengths that disagree, or k policies of the
            same true value, of which the ratio does not exist.
        MismatchError: for names that disagree.

    Example:
        >>> sharpe_ratio_at_k([0.9, 0.5, 0.1], [3.0, 1.0, 7.0], baseline=2.0, k=2)
        1.0
    """
    baseline = number("baseline", baseline)
    top, _ = _top(estimated, truth, k, 2)
    spread = float(top.std())
    if spread <= 1e-12 * np.abs(top).max():
        raise DataError(
            f"truth: the {k} policies with the highest estimates are all worth {top[0]:g}, so that there is no risk to divide "
            "by. Use best_at_k or regret_at_k, or another k."
        )
    return float((top.max() - baseline) / spread)


def _top(estimated: Values, truth: Values, k: int, least: int) -> tuple[Floats, Floats]:
    """True values of the k policies with the highest estimates, and of all."""
    estimates, true = _paired(estimated, truth, least)
    k = whole_number("k", k, least, most=len(true))
    return true[np.argsort(-estimates, kind="stable")[:k]], true


def _paired(estimated: Values, truth: Values, least: int) -> tuple[Floats, Floats]:
    """Both as arrays over the same policies."""
    if isinstance(estimated, Mapping) != isinstance(truth, Mapping):
        raise MismatchError("estimated, truth: one has names and the other has none; pass two mappings, or two lists.")
    if isinstance(estimated, Mapping) and isinstance(truth, Mapping):
        for field, have, want in (("truth", truth, estimated), ("estimated", estimated, truth)):
            for name in want:
                if name not in have:
                    raise MismatchError(f"{field}: no value for {name!r}; it has {', '.join(map(str, have))}.")
        truth = [truth[name] for name in estimated]
        estimated = list(estimated.values())
    pair = _array("estimated", estimated), _array("truth", truth)
    if len(pair[0]) != len(pair[1]):
        raise DataError(f"estimated, truth: {len(pair[0])} and {len(pair[1])} values; pass one of each for every policy.")
    if len(pair[0]) < least:
        raise DataError(f"estimated: {len(pair[0])} policies; pass at least {least}.")
    return pair


def _array(field: str, values: Any) -> Floats:
    array = numeric(field, values)
    if array.ndim != 1:
        raise DataError(f"{field}: shape {array.shape}; pass one value for every policy.")
    check_finite(field, array)
    return array
