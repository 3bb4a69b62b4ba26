"""Balance of covariates between arms: standardised mean differences, before and after weighting."""

from __future__ import annotations

import numpy as np

from causalrl.checks import Bools, Floats


def standardized_differences(features: Floats, treated: Bools, control: Bools, weights: Floats | None = None) -> Floats:
    """(d,) mean among the treated less mean among the controls, over the pooled standard deviation (Austin 2009).

    The standard deviation, root of the mean of the arms' variances, is that before weighting, so that weights change only the
    difference. A column constant in both arms has difference 0, or infinity where the constants differ.

    Args:
        features: (n, d). treated, control: (n,) the arms. weights: (n,); None is one each.

    Example:
        >>> treated = np.array([True, True, False, False])
        >>> standardized_differences(np.array([[1.0], [3.0], [0.0], [2.0]]), treated, ~treated)
        array([0.70710678])
    """
    spread = np.sqrt((features[treated].var(axis=0, ddof=1) + features[control].var(axis=0, ddof=1)) / 2)
    means = [np.average(features[arm], axis=0, weights=None if weights is None else weights[arm]) for arm in (treated, control)]
    difference: Floats = means[0] - means[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = difference / spread
    return np.where(difference == 0, 0.0, scaled)
