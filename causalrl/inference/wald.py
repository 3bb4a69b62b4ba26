"""Wald intervals from influence values."""

from __future__ import annotations

from dataclasses import dataclass

from causalrl.checks import Floats
from causalrl.inference.base import Evidence


@dataclass(frozen=True)
class Wald:
    """value -/+ t quantile (G - 1 degrees of freedom) times the cluster-robust standard error; G clusters.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0, 0], [0, 1, 0], [1.0, 3.0, 5.0], range(4))
        >>> print(crl.OnPolicyMean().estimate(data, crl.Uniform(2)).interval(0.95, method=Wald()))
        [-1.9683, 7.9683] (95%, Wald())
    """

    def limits(self, evidence: Evidence, level: float) -> tuple[float | Floats, float | Floats]:
        from scipy.special import stdtrit

        half = float(stdtrit(evidence.n_clusters - 1, 0.5 + level / 2)) * evidence.stderr
        return evidence.value - half, evidence.value + half
