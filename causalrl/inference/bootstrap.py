"""Bootstrap intervals: on moments (nuisances as they are), or by refitting everything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalrl.checks import Floats, seed_number, whole_number
from causalrl.errors import IntervalError
from causalrl.inference.base import Evidence
from causalrl.inference.functionals import Functional
from causalrl.kernels.resampling import bootstrap_means, bootstrap_variances


@dataclass(frozen=True)
class Resampling:
    """Base of the bootstraps.

    Args:
        replicates: number of resamples B.
        seed: estimates with the same seed see the same resamples.
    """

    replicates: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        whole_number("replicates", self.replicates, 2, IntervalError)
        seed_number(self.seed, IntervalError)


@dataclass(frozen=True)
class PercentileBootstrap(Resampling):
    """Percentiles of the estimate over resampled clusters; ratios are recomputed in every replicate.

    Args:
        replicates, seed: see `Resampling`.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0] * 50, [0, 1] * 25, np.arange(50.0), range(51))
        >>> estimate = crl.OnPolicyMean().estimate(data, crl.Uniform(2))
        >>> 24.5 in estimate.interval(0.95, method=PercentileBootstrap(500))
        True
    """

    def values(self, evidence: Evidence) -> Floats:
        """(B,) replicate values."""
        functional, _ = evidence.smooth()
        return _finite_values(functional, bootstrap_means(evidence.totals, evidence.sizes, self.replicates, self.seed))

    def stderr(self, evidence: Evidence) -> float:
        return float(self.values(evidence).std(ddof=1))

    def limits(self, evidence: Evidence, level: float) -> tuple[float, float]:
        low, high = np.quantile(self.values(evidence), _tails(level))
        return float(low), float(high)


@dataclass(frozen=True)
class StudentizedBootstrap(Resampling):
    """Bootstrap-t: quantiles of (replicate - estimate) / its own standard error (Efron & Tibshirani 1993, ch. 12.5).

    Args:
        replicates, seed: see `Resampling`.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0] * 50, [0, 1] * 25, np.arange(50.0), range(51))
        >>> estimate = crl.OnPolicyMean().estimate(data, crl.Uniform(2))
        >>> 24.5 in estimate.interval(0.95, method=StudentizedBootstrap(500))
        True
    """

    def stderr(self, evidence: Evidence) -> float:
        return evidence.stderr

    def limits(self, evidence: Evidence, level: float) -> tuple[float, float]:
        functional, _ = evidence.smooth()
        means = bootstrap_means(evidence.totals, evidence.sizes, self.replicates, self.seed)
        values = _finite_values(functional, means)
        variances = bootstrap_variances(evidence.totals, evidence.sizes, means, functional.gradient(means), self.seed)
        if not (variances > 0).all():
            raise IntervalError(
                f"method: {int((variances <= 0).sum())} of {self.replicates} resamples have no spread, so that the t statistic "
                "does not exist: too few distinct trajectories carry weight. Use PercentileBootstrap or Wald."
            )
        t = (values - evidence.value) / np.sqrt(variances)
        upper, lower = np.quantile(t, _tails(level))
        return float(evidence.value - lower * evidence.stderr), float(evidence.value - upper * evidence.stderr)


@dataclass(frozen=True)
class RefitBootstrap(Resampling):
    """Percentiles of the estimate when behaviour policy and value model are learned anew on every resample of clusters.

    Compiled for tabular and linear value models; elsewhere each replicate fits the learners once more.

    Args:
        replicates, seed: see `Resampling`.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0] * 50, [0, 1] * 25, np.arange(50.0), range(51))
        >>> estimate = crl.OnPolicyMean().estimate(data, crl.Uniform(2))
        >>> 24.5 in estimate.interval(0.95, method=RefitBootstrap(50))
        True
    """

    replicates: int = 200

    def stderr(self, evidence: Evidence) -> float | Floats:
        return evidence.refit_stderr(self.replicates, self.seed)

    def limits(self, evidence: Evidence, level: float) -> tuple[float | Floats, float | Floats]:
        low, high = np.quantile(evidence.refitted(self.replicates, self.seed), _tails(level), axis=0)
        return (low, high) if np.ndim(low) else (float(low), float(high))


def _tails(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2


def _finite_values(functional: Functional, means: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        values = functional.value(means)
    bad = ~np.isfinite(values)
    if bad.any():
        raise IntervalError(
            f"method: {int(bad.sum())} of {len(values)} resamples have no value (a logarithm of a negative number, for example). "
            "Use Wald()."
        )
    return values
