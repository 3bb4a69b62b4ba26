"""What a verdict looks at: the diagnostics of an estimate beside its sizes, and figures computed from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalrl.checks import Floats
from causalrl.diagnostics.record import Diagnostics
from causalrl.diagnostics.weights import FEW

if TYPE_CHECKING:
    from causalrl.inference.base import Evidence

_MODEL_ALONE, _BOTH, _MARGINAL_AND_MODEL = 2.0, 1.0, 0.5
"""How much of the risk of unlogged decisions an estimator bears that has weights or a model alone, both, or a model and marginal
weights; these factors make the coverage of all estimators fall at the same risk."""


@dataclass(frozen=True, eq=False)
class Figures:
    """What the rules look at.

    Attributes:
        diagnostics: of the estimate. n: its trajectories. clusters: independent ones.
        steps: mean number of decisions of a trajectory.
        agreeing: fewest trajectories that agree with the target at a step that many reach, for an estimator that extrapolates
            beyond them, or None.
        baseline: the estimate does not depend on the target.
        flat: every influence value is 0, although the rewards vary.
        fixed_end: the step at which every trajectory ends for good, in states met earlier too, for a model alone that pools the
            times, or None.
        known: no nuisance was learned from the data.
        chance_before, chance_after: (d,) standardised mean differences that chance alone may leave.
    """

    diagnostics: Mapping[str, Any]
    n: int
    clusters: int
    steps: float = 1.0
    agreeing: int | None = None
    baseline: bool = False
    flat: bool = False
    fixed_end: int | None = None
    known: bool = False
    chance_before: float | Floats = 0.0
    chance_after: float | Floats = 0.0

    @classmethod
    def of(cls, diagnostics: Diagnostics, evidence: Evidence) -> Figures:
        """Those of an estimate alone, with the largest influence where it has influence values."""
        smooth = evidence.functional is not None and evidence.linear is None
        share = largest_influence(evidence.influence) if smooth else None
        return cls(diagnostics.updated(largest_influence=share), len(evidence.clusters), evidence.n_clusters)

    def __getitem__(self, key: str) -> Any:
        return self.diagnostics[key]

    @property
    def ess(self) -> float:
        """Effective sample size, that of the data for an estimator without weights."""
        return self.n if self["ess"] is None else float(self["ess"])

    @property
    def unlogged(self) -> float:
        """Expected number of decisions of a target's trajectory that the behaviour never takes, or that were never logged."""
        return self.steps * (self["unsupported_mass"] or 0.0)

    @property
    def corrected(self) -> bool:
        """Whether an outcome model makes up for what the weights leave."""
        return self["bellman_residual"] is not None

    @property
    def more_data(self) -> str:
        """What to do about weights that are worth too few trajectories."""
        if self.ess >= self.n / 2:
            return "collect more data"
        if self.steps <= 1:
            return "collect more data, or ask where the data overlap: crl.ATO() of two arms, a softer target"
        return "soften the target, shorten the horizon, or collect more data"

    @property
    def rebalance(self) -> str:
        """What to do about weights that leave the arms different."""
        if self.known:
            return "known propensities would leave less: check that they are those that assigned the arms, or use AIPW"
        return "use a richer propensity model, or EntropyBalancing()"


def unlogged_risk(figures: Figures) -> float | None:
    """How far decisions never logged can move an estimate, against its sampling error.

    The expected number of them along a trajectory of the target times the root of the effective sample size: the bias is that
    number times a difference of returns, and the standard error is their spread over this root. An estimator that can make up for
    them by a model beside its weights bears less of it.
    """
    if figures["unsupported_mass"] is None:
        return None
    factor = _MODEL_ALONE
    if figures["ess"] is not None and figures.corrected:
        factor = _BOTH if figures["lost_mass"] is None else _MARGINAL_AND_MODEL
    return float(factor * figures.unlogged * np.sqrt(figures.ess))


def missed_mean(figures: Figures) -> float | None:
    """Distance of the mean weight from 1 in standard errors, which Kish's figure gives: m sqrt(1 / ess - 1 / n)."""
    mean, n = figures["mean_weight"], figures.n
    if mean is None or figures["truncated"] is not None or not np.isfinite(mean) or n < FEW or not 1 <= figures.ess < n:
        return None
    return float(abs(mean - 1) / (mean * np.sqrt(1 / figures.ess - 1 / n) + 1e-9))


def thinness(figures: Figures) -> float | None:
    """30 over the effective sample size."""
    return None if figures["ess"] is None else FEW / max(figures.ess, 1e-9)


def thin_agreement(figures: Figures) -> float | None:
    """30 over the trajectories that agree with the target."""
    return None if figures.agreeing is None else FEW / max(figures.agreeing, 1e-9)


def largest(key: str) -> Callable[[Figures], float | None]:
    """The largest absolute value of a vector."""

    def figure(figures: Figures) -> float | None:
        values = figures[key]
        return None if values is None else float(np.max(np.abs(values), initial=0.0))

    return figure


def _excess(differences: Floats | None, chance: float | Floats) -> float | None:
    """The largest difference beyond chance."""
    return None if differences is None else float(np.max(np.abs(differences) - chance, initial=0.0))


def imbalance_left(figures: Figures) -> float | None:
    """Of the weighted arms, beyond chance, where nothing else makes up for it."""
    return None if figures.corrected else _excess(figures["smd_after"], figures.chance_after)


def imbalance_corrected(figures: Figures) -> float | None:
    """Of the weighted arms, beyond chance, where an outcome model makes up for it."""
    return _excess(figures["smd_after"], figures.chance_after) if figures.corrected else None


def imbalance_before(figures: Figures) -> float | None:
    """Of the arms, beyond chance, where nothing is weighted."""
    weighted = figures["ess"] is not None or figures["smd_after"] is not None
    return None if weighted else _excess(figures["smd_before"], figures.chance_before)


def miscalibration(figures: Figures) -> float | None:
    """The slope of recalibration, or its inverse where that is larger."""
    slope = figures["calibration"]
    if slope is None:
        return None
    return float(np.inf if slope <= 0 else max(slope, 1 / slope))


def largest_influence(influence: Floats) -> float | None:
    """The largest share of one trajectory in the sum of squared influence values; None where all are 0, or one is no number.

    >>> largest_influence(np.array([-1.0, 0.0, 1.0]))
    0.5
    """
    size = float(np.abs(influence).max())
    if not 0 < size < np.inf:
        return None
    return 1.0 / float(np.sum(np.square(influence / size)))
