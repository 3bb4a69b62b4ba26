"""Wald intervals from influence values."""

from __future__ import annotations

from dataclasses import dataclass

from causalrl.checks import Floats
from causalrl.inference.base import Evidence
from causalrl.inference.bootstrap import Refitting


@dataclass(frozen=True)
class Wald:
    """value -/+ t quantile (G - 1 degrees of freedom) times the cluster-robust standard error; G clusters.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0, 0], [0, 1, 0], [1.0, 3.0, 5.0], range(4))
        >>> print(crl.OnPolicyMean().estimate(data, crl.Uniform(2)).interval(0.95, method=Wald()))
        [-1.9683, 7.9683] (95%, Wald())
    """

    def stderr(self, evidence: Evidence) -> float | Floats:
        return evidence.stderr if evidence.linear is None else evidence.linear.stderr(evidence.clusters)

    def half_width(self, evidence: Evidence, level: float) -> float | Floats:
        """t quantile times standard error."""
        from scipy.special import stdtrit

        return float(stdtrit(evidence.n_clusters - 1, 0.5 + level / 2)) * self.stderr(evidence)

    def limits(self, evidence: Evidence, level: float) -> tuple[float | Floats, float | Floats]:
        half = self.half_width(evidence, level)
        return evidence.value - half, evidence.value + half


@dataclass(frozen=True)
class RefitWald(Refitting):
    """value -/+ normal quantile times the standard deviation of the estimate over refits on resampled clusters.

    Args:
        replicates, seed: see `Resampling`.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0] * 50, [0, 1] * 25, np.arange(50.0), range(51))
        >>> estimate = crl.OnPolicyMean().estimate(data, crl.Uniform(2))
        >>> 24.5 in estimate.interval(0.95, method=RefitWald(50))
        True
    """

    def limits(self, evidence: Evidence, level: float) -> tuple[float | Floats, float | Floats]:
        from scipy.special import ndtri

        half = float(ndtri(0.5 + level / 2)) * self.stderr(evidence)
        return evidence.value - half, evidence.value + half
