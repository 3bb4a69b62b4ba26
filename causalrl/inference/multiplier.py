"""The multiplier bootstrap of influence values, for one estimate or the largest deviation among many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalrl.checks import Floats
from causalrl.errors import IntervalError
from causalrl.inference.base import Evidence
from causalrl.inference.bootstrap import Resampling
from causalrl.kernels.cluster_weights import Weights
from causalrl.kernels.resampling import weighted_sums


@dataclass(frozen=True)
class MultiplierBootstrap(Resampling):
    """value -/+ c stderr, with c the quantile of |t| over random signs xi_g of the clusters' influence totals psi_g.

    t = sum_g xi_g psi_g / sqrt(G / (G - 1) (sum_g psi_g^2 - (sum_g xi_g psi_g)^2 / G)). Signs (Liu 1988; Davidson & Flachaire
    2008) rather than normal multipliers, for which c would be the normal quantile whatever the data: signs keep every
    psi_g^2, so that t has the tails of a studentised sum of these very influence values, and for symmetric ones the test that
    it inverts is exact. Random signs make the law of t symmetric whatever the data: a one-sided limit, that of the two-sided
    interval at 2 level - 1, does not see that influence values are skewed. For one-sided limits of those prefer `BCaBootstrap` or
    `StudentizedBootstrap`. For several estimates c is that of the largest |t| (Chernozhukov, Chetverikov & Kato 2013).

    Args:
        replicates, seed: see `Resampling`.

    Raises:
        IntervalError: from `interval`, with so few clusters that equal signs are too likely.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0] * 50, [0, 1] * 25, np.arange(50.0), range(51))
        >>> estimate = crl.OnPolicyMean().estimate(data, crl.Uniform(2))
        >>> 24.5 in estimate.interval(0.95, method=MultiplierBootstrap(500))
        True
    """

    def stderr(self, evidence: Evidence) -> float:
        return evidence.stderr

    def limits(self, evidence: Evidence, level: float) -> tuple[float | Floats, float | Floats]:
        half = self.critical([evidence], level) * evidence.stderr
        return evidence.value - half, evidence.value + half

    def critical(self, evidences: Sequence[Evidence], level: float) -> float:
        """Quantile of the largest |t| over estimates from the same clusters."""
        influence = np.column_stack([evidence.influence_totals for evidence in evidences])
        sums, _ = weighted_sums(int(Weights.SIGN), [influence], self.replicates, self.seed)
        count = len(influence)
        squares = np.sum(influence**2, axis=0)
        inside = squares - sums**2 / count
        inside[inside <= 1e-12 * squares] = 0.0
        scale = np.sqrt(count / (count - 1) * inside)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where(squares > 0, np.abs(sums) / scale, 0.0)
        quantile = float(np.quantile(t.max(axis=1), level, method="higher"))
        if not np.isfinite(quantile):
            raise IntervalError(
                f"method: the {count} clusters are too few: their influence values have equal signs in more than {1 - level:.2%} "
                "of the replicates. Use Wald(), or a lower level."
            )
        return quantile
