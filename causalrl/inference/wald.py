"""Wald intervals from influence values."""

from __future__ import annotations

from dataclasses import dataclass

from causalrl.checks import Floats
from causalrl.inference.base import Evidence


@dataclass(frozen=True)
class Wald:
    """value -/+ t quantile (G - 1 degrees of freedom) times the cluster-robust standard error; G clusters."""

    def limits(self, evidence: Evidence, level: float) -> tuple[float | Floats, float | Floats]:
        from scipy.special import stdtrit

        half = float(stdtrit(evidence.n_clusters - 1, 0.5 + level / 2)) * evidence.stderr
        return evidence.value - half, evidence.value + half
