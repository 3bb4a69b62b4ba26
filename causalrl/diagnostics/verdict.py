"""From the diagnostics of an estimate to a plain verdict with its reasons: one table of rules.

Each threshold has a published source or comes from the experiment of docs/trust.md: the sepsis simulator, behaviours and targets
from far to near. The coverages beside the constants are those of the samples on which they were chosen (seed 7); those on fresh
samples are in docs/trust.md (`benchmarks/trust.py`). A verdict is about what the data can tell. It sees no unobserved
confounding, nor a wrong model of the outcome where the data overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from causalrl.diagnostics.figures import (
    Figures,
    imbalance_before,
    imbalance_corrected,
    imbalance_left,
    largest,
    miscalibration,
    missed_mean,
    thin_agreement,
    thinness,
    unlogged_risk,
)
from causalrl.diagnostics.record import RELIABLE, VERDICTS, Diagnostics, worse_verdict
from causalrl.diagnostics.weights import FEW, LARGE_SHARE

if TYPE_CHECKING:
    from causalrl.inference.base import Evidence

CAUTION, STOP = VERDICTS[1:]
THIN = (0.5, 3.0)
"""Bounds of 30 over an effective sample size: below 60 and below 10, whatever the number of trajectories, so that more data never
make it worse. Intervals covered 98% above 60, 89% from 30 to 60, 80% from 10 and 30% below."""
AGREEMENT = 0.5
"""Bound of 30 over the trajectories that agree: below 60 an estimator without weights extrapolates."""
SHARES = (LARGE_SHARE, 0.5)
"""Bounds of the share of one trajectory in the weight: that of the warning, and more than all others together."""
INFINITE_MEAN = 1.0
"""A Pareto index above which the weights have no mean (Vehtari et al. 2024). Between 0.7, where a warning is given, and 1 the
intervals covered 94% of the truths, so that it is no reason for a verdict."""
LARGE_INFLUENCE = 0.5
"""Share of one trajectory in the sum of squared influence values: without it the estimate moves by the root of that, in standard
errors (Gottesman et al. 2020 look at the same change). It tells how fragile an estimate is, not whether its interval covers."""
MISSED_MEAN = (4.0, 8.0)
"""Standard errors of the mean weight from 1. `WIS` with counted propensities covered 79% below 4, 71% to 8 and 21% above; right
propensities went beyond 4 in 6% of the data sets, since weights are skewed."""
UNLOGGED_RISK = (4.0, 20.0)
"""Bounds of `unlogged_risk`. Intervals covered 89% below 4, 62% between 4 and 20, and 4% above."""
UNLOGGED_DECISIONS = 0.25
"""Expected decisions never logged along a trajectory of the target. Above it 25% of the intervals covered."""
LOST = (0.04, 0.3)
"""Share of the target's probability in states of unknown ratio. `DRL` covered 91% below 0.04, 87% to 0.1, and 41% above 0.3."""
IMBALANCE_LEFT = (0.1, 0.2)
"""Standardised mean difference left after weighting, beyond chance: 0.1 by Austin (2009) and Stuart (2010, section 4.1). With
expit(4 x1) as propensity, intervals of `IPW` missed half of the time, and 0.2 stops 94% of these, Stuart's 0.25 85%."""
IMBALANCE_BEFORE = 0.25
"""The same without weights, above which an outcome regression alone depends on its form (Imbens & Rubin 2015, sec. 14.2)."""
VERY_FEW = 5
"""Independent units below which a normal 95% interval covers less than 86% even of a normal mean."""
MISCALIBRATION = 1.5
"""A slope of recalibration beyond this, or its inverse: predictions far too extreme or too timid."""


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


RULES = (
    Rule(
        "ess",
        thinness,
        *THIN,
        "the weights are worth {f.ess:.1f} of {f.n} trajectories: {f.more_data}.",
    ),
    Rule(
        "agreement",
        thin_agreement,
        AGREEMENT,
        None,
        "at some step {f.agreeing} of {f.n} trajectories still do what the target does, and the model extrapolates: soften the "
        "target, or shorten the horizon.",
    ),
    Rule(
        "largest_share",
        lambda f: f["largest_share"],
        *SHARES,
        "one trajectory carries {value:.0%} of the weight: see how the estimate changes without it, or truncate= the weights.",
    ),
    Rule(
        "largest_influence",
        lambda f: f["largest_influence"],
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
        *MISSED_MEAN,
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
        "fixed_end",
        lambda f: f.fixed_end,
        None,
        0.0,
        "every trajectory ends at step {value} as terminated, in states met earlier too, so that a model that pools the times "
        "takes the end for chance: pass end=End.TRUNCATED with final_observations, or use TabularQ(by_time=True).",
    ),
    Rule(
        "lost_mass",
        largest("lost_mass"),
        *LOST,
        "up to {value:.1%} of the target's probability at a time lies in states of unknown ratio: use coarser states, fewer "
        "folds, or DR.",
    ),
    Rule(
        "smd_after",
        imbalance_left,
        *IMBALANCE_LEFT,
        "after weighting a covariate still differs by {value:.2f} standard deviations beyond chance between the arms: "
        "{f.rebalance}.",
    ),
    Rule(
        "smd_corrected",
        imbalance_corrected,
        IMBALANCE_LEFT[0],
        None,
        "after weighting a covariate still differs by {value:.2f} standard deviations beyond chance between the arms, "
        "and the outcome model alone makes up for it: compare with another outcome model.",
    ),
    Rule(
        "smd_before",
        imbalance_before,
        IMBALANCE_BEFORE,
        None,
        "a covariate differs by {value:.2f} standard deviations beyond chance between the arms, and only a regression "
        "makes up for it: compare with AIPW, which also weights.",
    ),
    Rule(
        "calibration",
        miscalibration,
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
        "flat",
        lambda f: float(f.flat),
        0.5,
        None,
        "every return that counts is the same, although others vary, so that the interval has no width: one of probability "
        "up to 3 / {f.ess:.0f} would not have been seen (rule of three); collect more data.",
    ),
    Rule(
        "clusters",
        lambda f: 1 / f.clusters,
        1 / FEW,
        1 / VERY_FEW,
        "there are {f.clusters} independent units, few for a normal interval: use StudentT(), or collect more.",
    ),
)
"""Every rule; an estimate is judged by those whose figure it has."""


def judged(figures: Figures, rules: Iterable[Rule] = RULES) -> Diagnostics:
    """The diagnostics with `verdict` and `reasons`, those they already have included; the gravest reasons come first.

    Example:
        >>> from causalrl.diagnostics.record import diagnostics_record
        >>> found = judged(Figures(diagnostics_record(ess=8.0), n=2000, clusters=2000))
        >>> found["verdict"], len(found["reasons"])
        ('do not use', 1)
    """
    known = figures.diagnostics
    found = [reason for rule in rules if (reason := rule.judge(figures)) is not None]
    found.sort(key=lambda reason: -VERDICTS.index(reason[0]))
    verdict = worse_verdict(known["verdict"], *(verdict for verdict, _ in found)) or RELIABLE
    reasons = tuple(dict.fromkeys([*(text for _, text in found), *(known["reasons"] or ())]))
    return Diagnostics({**known, "verdict": verdict, "reasons": reasons})


def judged_alone(diagnostics: Diagnostics, evidence: Evidence) -> Diagnostics:
    """The same from an estimate's own figures."""
    return judged(Figures.of(diagnostics, evidence))


EFFECT_RULES = tuple(rule for rule in RULES if rule.name in ("smd_after", "smd_corrected", "smd_before", "flat"))
"""Those of figures that an effect has beside the figures of the values it is made of."""
