"""From the diagnostics of an estimate to a plain verdict with its reasons: one table of rules.

Each threshold has a published source or comes from the experiment of docs/trust.md: the sepsis simulator, behaviours and targets
from far to near. The coverages beside the constants are those of the samples on which they were chosen (seed 7); those on fresh
samples are in docs/trust.md (`benchmarks/trust.py`). A verdict is about what the data can tell. It sees no unobserved
confounding, nor a wrong model of the outcome where the data overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalrl.checks import Floats
from causalrl.diagnostics.record import RELIABLE, VERDICTS, Diagnostics, worse_verdict
from causalrl.diagnostics.weights import FEW, LARGE_SHARE

if TYPE_CHECKING:
    from causalrl.inference.base import Evidence

CAUTION, STOP = VERDICTS[1:]
THIN = (0.5, 1.0)
"""Bounds of 30 over an effective sample size. Intervals covered 93% above 60, 86% from 30 to 60, 77% from 10 and 37% below."""
SHARES = (LARGE_SHARE, 0.5)
"""Bounds of the share of one trajectory in the weight: that of the warning, and more than all others together."""
INFINITE_MEAN = 1.0
"""A Pareto index above which the weights have no mean (Vehtari et al. 2024). Between 0.7, where a warning is given, and 1 the
intervals covered 94% of the truths, so that it is no reason for a verdict."""
LARGE_INFLUENCE = 0.5
"""Share of one trajectory in the sum of squared influence values: without it the estimate moves by the root of that, in standard
errors (Gottesman et al. 2020 look at the same change). It tells how fragile an estimate is, not whether its interval covers."""
MISSED_MEAN = 4.0
"""Standard errors of the mean weight from 1. `WIS` with counted propensities covered 79% below 4, 71% to 8 and 21% above; right
propensities went beyond 4 in 6% of the data sets, since weights are skewed."""
UNLOGGED_RISK = (4.0, 20.0)
"""Bounds of `unlogged_risk`. Intervals covered 89% below 4, 62% between 4 and 20, and 4% above."""
UNLOGGED_DECISIONS = 0.25
"""Expected decisions never logged along a trajectory of the target. Above it 25% of the intervals covered."""
LOST = (0.04, 0.3)
"""Share of the target's probability in states of unknown ratio. `DRL` covered 91% below 0.04, 87% to 0.1, and 41% above 0.3."""
IMBALANCE_LEFT = (0.1, 0.25)
"""Standardised mean difference left after weighting (Austin 2009; Stuart 2010, section 4.1)."""
IMBALANCE_BEFORE = 0.25
"""Standardised mean difference above which an outcome regression alone depends on its form (Imbens & Rubin 2015, sec. 14.2)."""
MISCALIBRATION = 1.5
"""A slope of recalibration beyond this, or its inverse: predictions far too extreme or too timid."""
_MODEL_ALONE, _BOTH, _MARGINAL_AND_MODEL = 2.0, 1.0, 0.5
"""How much of the risk of unlogged decisions an estimator bears that has weights or a model alone, both, or a model and marginal
weights; these factors make the coverage of all estimators fall at the same bounds `UNLOGGED_RISK`."""


@dataclass(frozen=True, eq=False)
class Figures:
    """What the rules look at.

    Attributes:
        diagnostics: of the estimate. n: its trajectories. clusters: independent ones.
        steps: mean number of decisions of a trajectory.
        agreeing: fewest trajectories that agree with the target at a step at which 30 or more are under way, or None.
        baseline: the estimate does not depend on the target.
    """

    diagnostics: Mapping[str, Any]
    n: int
    clusters: int
    steps: float = 1.0
    agreeing: int | None = None
    baseline: bool = False

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


@dataclass(frozen=True)
class Rule:
    """A figure, where it asks for caution and where it forbids use, and what to say.

    Attributes:
        name: of the figure. figure: its value, or None where the estimate has none; large is bad.
        caution, stop: above these; None is never.
        sentence: the reason and what to do, a template of the figures f and of the value.
    """

    name: str
    figure: Callable[[Figures], float | None]
    caution: float | None
    stop: float | None
    sentence: str

    def judge(self, figures: Figures) -> tuple[str, str] | None:
        """The verdict with its reason, where it is not `reliable`."""
        value = self.figure(figures)
        if value is None:
            return None
        for verdict, bound in ((STOP, self.stop), (CAUTION, self.caution)):
            if bound is not None and value > bound:
                return verdict, self.sentence.format(f=figures, value=value)
        return None


def unlogged_risk(figures: Figures) -> float | None:
    """How far decisions never logged can move an estimate, against its sampling error.

    The expected number of them along a trajectory of the target times the root of the effective sample size: the bias is that
    number times a difference of returns, and the standard error is their spread over this root. An estimator that can make up for
    them by a model beside its weights bears less of it.
    """
    if figures["unsupported_mass"] is None:
        return None
    factor = _MODEL_ALONE
    if figures["ess"] is not None and figures["bellman_residual"] is not None:
        factor = _BOTH if figures["lost_mass"] is None else _MARGINAL_AND_MODEL
    return float(factor * figures.unlogged * np.sqrt(figures.ess))


def missed_mean(figures: Figures) -> float | None:
    """Distance of the mean weight from 1 in standard errors, which Kish's figure gives: m sqrt(1 / ess - 1 / n)."""
    mean, n = figures["mean_weight"], figures.n
    if mean is None or figures["truncated"] is not None or not np.isfinite(mean) or n < FEW or not 1 <= figures.ess < n:
        return None
    return float(abs(mean - 1) / (mean * np.sqrt(1 / figures.ess - 1 / n) + 1e-9))


def _thinness(figures: Figures) -> float | None:
    """30 over the effective sample size; below 120 trajectories, a quarter of them over it."""
    return None if figures["ess"] is None else min(FEW, figures.n / 4) / max(figures.ess, 1e-9)


def _thin_agreement(figures: Figures) -> float | None:
    return None if figures.agreeing is None else min(FEW, figures.n / 4) / max(figures.agreeing, 1e-9)


def _beyond_chance(key: str) -> Callable[[Figures], float | None]:
    """A largest share, where it is more than four of n trajectories can have by chance."""
    return lambda figures: None if figures[key] is None or figures[key] <= 4 / figures.n else float(figures[key])


def _largest(key: str) -> Callable[[Figures], float | None]:
    def figure(figures: Figures) -> float | None:
        values = figures[key]
        return None if values is None else float(np.max(np.abs(values), initial=0.0))

    return figure


def _imbalance_before(figures: Figures) -> float | None:
    return None if figures["ess"] is not None or figures["smd_after"] is not None else _largest("smd_before")(figures)


def _miscalibration(figures: Figures) -> float | None:
    slope = figures["calibration"]
    if slope is None:
        return None
    return float(np.inf if slope <= 0 else max(slope, 1 / slope))


RULES = (
    Rule(
        "ess",
        _thinness,
        *THIN,
        "the weights are worth {f.ess:.1f} of {f.n} trajectories: soften the target, shorten the horizon, or collect more data.",
    ),
    Rule(
        "agreement",
        _thin_agreement,
        *THIN,
        "at some step {f.agreeing} of {f.n} trajectories still do what the target does: soften it, or shorten the horizon.",
    ),
    Rule(
        "largest_share",
        _beyond_chance("largest_share"),
        *SHARES,
        "one trajectory carries {value:.0%} of the weight: see how the estimate changes without it, or truncate= the weights.",
    ),
    Rule(
        "largest_influence",
        _beyond_chance("largest_influence"),
        LARGE_INFLUENCE,
        None,
        "one trajectory makes up {value:.0%} of the estimate's variance: look at it with crl.most_influential.",
    ),
    Rule(
        "tail_index",
        lambda f: f["tail_index"],
        INFINITE_MEAN,
        None,
        "the weights have Pareto tail index {value:.2f}; above 1 they have no mean: truncate= them, or soften the target.",
    ),
    Rule(
        "mean_weight",
        missed_mean,
        MISSED_MEAN,
        None,
        "the weights average {f[mean_weight]:.2f}, {value:.1f} standard errors from 1: the propensities are wrong, or what the "
        "target does was partly never logged; try another behaviour model.",
    ),
    Rule(
        "unsupported_mass",
        unlogged_risk,
        *UNLOGGED_RISK,
        "{f[unsupported_mass]:.2%} of the target's probability lies on decisions never logged, {f.unlogged:.2g} a trajectory: "
        "too many for an interval from {f.n} trajectories; use coarser states, or DR or DRL, which have weights and a model.",
    ),
    Rule(
        "unlogged_decisions",
        lambda f: f.unlogged,
        None,
        UNLOGGED_DECISIONS,
        "a trajectory of the target meets {value:.2g} decisions that were never logged, and the value rests on what is assumed "
        "there: choose a target nearer to the data, or coarser states.",
    ),
    Rule(
        "lost_mass",
        _largest("lost_mass"),
        *LOST,
        "up to {value:.1%} of the target's probability at a time lies in states of unknown ratio: use coarser states, fewer "
        "folds, or DR.",
    ),
    Rule(
        "smd_after",
        _largest("smd_after"),
        *IMBALANCE_LEFT,
        "after weighting a covariate still differs by {value:.2f} standard deviations between the arms: use a richer propensity "
        "model, or EntropyBalancing().",
    ),
    Rule(
        "smd_before",
        _imbalance_before,
        IMBALANCE_BEFORE,
        None,
        "a covariate differs by {value:.2f} standard deviations between the arms, and only a regression makes up for it: compare "
        "with AIPW, which also weights.",
    ),
    Rule(
        "calibration",
        _miscalibration,
        MISCALIBRATION,
        None,
        "the learned propensities have recalibration slope {f[calibration]:.2f}, not 1: use Calibrated(model), or another model.",
    ),
    Rule(
        "baseline",
        lambda f: float(f.baseline),
        0.5,
        None,
        "it is the mean return of those who acted, whatever the target: read it as a baseline alone.",
    ),
    Rule(
        "clusters",
        lambda f: 1 / f.clusters,
        1 / FEW,
        None,
        "there are {f.clusters} independent units, few for a normal interval: use StudentT(), or collect more.",
    ),
)
"""Every rule; an estimate is judged by those whose figure it has."""


def judged(figures: Figures, rules: Iterable[Rule] = RULES) -> Diagnostics:
    """The diagnostics with `verdict` and `reasons`, those they already have included; the gravest reasons come first.

    Example:
        >>> from causalrl.diagnostics.record import diagnostics_record
        >>> found = judged(Figures(diagnostics_record(ess=12.0), n=2000, clusters=2000))
        >>> found["verdict"], len(found["reasons"])
        ('do not use', 1)
    """
    known = figures.diagnostics
    found = [reason for rule in rules if (reason := rule.judge(figures)) is not None]
    found.sort(key=lambda reason: -VERDICTS.index(reason[0]))
    verdict = worse_verdict(known["verdict"], *(verdict for verdict, _ in found)) or RELIABLE
    reasons = tuple(dict.fromkeys([*(text for _, text in found), *(known["reasons"] or ())]))
    return Diagnostics({**known, "verdict": verdict, "reasons": reasons})


BALANCE_RULES = tuple(rule for rule in RULES if rule.name in ("smd_after", "smd_before"))
"""Those of figures that an effect has beside the figures of the values it is made of."""


def largest_influence(influence: Floats) -> float | None:
    """The largest share of one trajectory in the sum of squared influence values; None where all are 0, or one is no number.

    >>> largest_influence(np.array([-1.0, 0.0, 1.0]))
    0.5
    """
    size = float(np.abs(influence).max())
    if not 0 < size < np.inf:
        return None
    return 1.0 / float(np.sum(np.square(influence / size)))
