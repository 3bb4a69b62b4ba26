"""Expectations over standard normal variables by deterministic quadrature."""

from __future__ import annotations

from functools import cache

import numpy as np

from causalrl.checks import Floats

_LIMIT, _STEP = 10.0, 1 / 32


@cache
def normal_nodes() -> tuple[Floats, Floats]:
    """Nodes and weights (641,) with E[f(Z)] = weights @ f(nodes), Z ~ N(0, 1), for f analytic near the real line.

    The trapezoidal rule: its error falls as exp(-2 pi w / step) for f analytic within w of the real line (Trefethen &
    Weideman, The exponentially convergent trapezoidal rule, SIAM Review 2014). It is below 1e-15 for w >= 0.2 and f of
    moderate growth; P(|Z| > 10) = 2e-23.

    Example:
        >>> nodes, weights = normal_nodes()
        >>> round(float(weights @ np.exp(nodes)), 12) == round(float(np.exp(0.5)), 12)
        True
    """
    nodes = np.arange(-_LIMIT, _LIMIT + _STEP / 2, _STEP)
    weights = np.exp(-(nodes**2) / 2) * _STEP / np.sqrt(2 * np.pi)
    nodes.flags.writeable = weights.flags.writeable = False
    return nodes, weights
