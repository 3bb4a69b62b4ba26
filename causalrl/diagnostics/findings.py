"""From the figures of a checkup to advice: short sentences of what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from causalrl.checks import Floats
from causalrl.data import End
from causalrl.diagnostics.balance import Balance
from causalrl.diagnostics.calibration import CalibrationCurve
from causalrl.diagnostics.columns import Columns
from causalrl.diagnostics.logs import LogFacts
from causalrl.diagnostics.overlap import EXTREME, ArmOverlap
from causalrl.diagnostics.positivity import Region
from causalrl.diagnostics.record import share
from causalrl.diagnostics.weights import FEW, HEAVY_TAIL, LARGE_SHARE, NOTABLE_MASS

IMBALANCE = 0.1
"""A standardised mean difference beyond this is flagged (Austin 2009)."""
RARE = 0.05
"""A region is flagged where the mean propensity of its rarest arm is below this."""
_SMALL_SHARE = 0.1
_SLOPES = (0.8, 1.25)


class Severity(IntEnum):
    """How much a finding matters."""

    NOTE = 0
    """Good to know."""
    WARNING = 1
    """Some estimates will be poor."""
    STOP = 2
    """Most estimates will fail."""


@dataclass(frozen=True, repr=False)
class Finding:
    """One sentence of advice.

    Attributes:
        severity: how much it matters. where: the part of the data. text: what is the case, and what to do.
    """

    severity: Severity
    where: str
    text: str

    def __repr__(self) -> str:
        return f"{self.severity.name.lower()}: {self.where}: {self.text}"


def log_findings(log: LogFacts, all_end_together: bool) -> Iterator[Finding]:
    """On lengths, ends, rewards and actions."""
    if log.clusters < FEW:
        yield Finding(
            Severity.WARNING, "clusters", f"{log.clusters} independent units are few for a standard error; report StudentT()."
        )
    if log.rewards[0] == log.rewards[2]:
        yield Finding(Severity.WARNING, "rewards", f"all are {log.rewards[0]:g}; there is no effect to find. Check the column.")
    if all_end_together:
        yield Finding(
            Severity.WARNING,
            "end",
            f"all records are terminated and many stop at step {log.longest}; if only the record stops, mark them truncated.",
        )
    if log.ends[End.CENSORED]:
        text = f"{log.ends[End.CENSORED]} of {log.n} records are censored; set a horizon within follow-up."
        yield Finding(Severity.WARNING, "end", text)
    if log.ends[End.TRUNCATED] and not log.final_observations:
        text = (
            f"{log.ends[End.TRUNCATED]} of {log.n} records are truncated without final_observations; pass them, or a horizon "
            f"within the records (the shortest has {log.shortest} steps)."
        )
        yield Finding(Severity.WARNING, "end", text)
    yield from _action_findings(log)


def _action_findings(log: LogFacts) -> Iterator[Finding]:
    if log.n_actions == 0:
        text = "they are continuous; most estimators need discrete ones: bin them into integers."
        yield Finding(Severity.STOP, "actions", text)
        return
    if len(log.arms) < 2:
        yield Finding(Severity.STOP, "actions", f"every decision took arm {log.arms[0]}; nothing can be compared with it.")
    never = sorted(set(range(log.n_actions)) - set(log.arms.tolist()))
    if never and len(log.arms) > 1:
        yield Finding(Severity.WARNING, "actions", f"never taken: {_listed(never)}; recode the actions without that.")
    for arm, count in zip(log.arms, log.counts, strict=True):
        if len(log.arms) > 1 and count < FEW:
            text = f"only {count} of {log.decisions} decisions took it; pool it with another arm, or expect wide intervals."
            yield Finding(Severity.WARNING, f"arm {arm}", text)
    if log.states is not None and log.states.gaps:
        state, visits, missing = log.states.examples[0]
        text = (
            f"in {log.states.gaps} of {log.states.visited} visited states ({share(log.states.share)} of decisions) some action "
            f"was never taken (state {state}, {visits} visits: {_listed(missing)}); a target that takes it there has no support."
        )
        yield Finding(Severity.WARNING if log.one_decision else Severity.NOTE, "states", text)


def column_findings(columns: Columns) -> Iterator[Finding]:
    """On constants, linear dependence and codes of missing values."""
    if columns.constant:
        yield Finding(Severity.NOTE, "columns", f"without variation: {_listed(columns.constant)}; leave that out.")
    for name, others in columns.dependent:
        what = f"copies {others[0]} up to scale" if len(others) == 1 else f"is a linear combination of {_listed(others)}"
        yield Finding(Severity.NOTE, "columns", f"{name} {what}; drop it where coefficients are read or regressors unpenalised.")
    for name, value, rows in columns.codes:
        text = f"{name} is {value:g} in {rows} rows, far from all other values; if that codes missing values, impute them."
        yield Finding(Severity.WARNING, "columns", text)


def balance_findings(balance: Balance) -> Iterator[Finding]:
    """On standardised mean differences."""
    mend = "an unadjusted comparison is confounded by them"
    what = f"differ between the arms by more than {IMBALANCE} standard deviations before weighting"
    yield from _imbalance(balance.names, balance.before, Severity.NOTE, what, mend)
    if balance.after is not None:
        mend = "add squares or interactions to the propensity, or use AIPW(...) or EntropyBalancing()"
        what = f"still differ by more than {IMBALANCE} after weighting"
        yield from _imbalance(balance.names, balance.after, Severity.WARNING, what, mend)


def _imbalance(names: tuple[str, ...], differences: Floats, severity: Severity, what: str, mend: str) -> Iterator[Finding]:
    """A finding where a column of the differences (arms, columns) is too large."""
    largest = np.abs(differences).max(axis=0)
    off = int((largest > IMBALANCE).sum())
    if off:
        worst = int(largest.argmax())
        text = f"{off} of {len(largest)} columns {what}, {names[worst]} by {largest[worst]:.2f}; {mend}."
        yield Finding(severity, "balance", text)


def overlap_findings(arms: tuple[ArmOverlap, ...], decisions: int) -> Iterator[Finding]:
    """On the propensities of each arm, and its weights."""
    mirrored = len(arms) == 2 and np.isclose(arms[0].most + arms[1].least, 1)
    for arm in arms:
        yield from _propensity_findings(arm, decisions, report_range=not mirrored or arm is arms[1])


def _propensity_findings(arm: ArmOverlap, decisions: int, report_range: bool) -> Iterator[Finding]:
    where = f"overlap, arm {arm.arm}"
    if arm.outside and report_range:
        text = (
            f"{share(arm.outside)} of {decisions} decisions have a propensity outside [{EXTREME}, {1 - EXTREME}] (it runs from "
            f"{arm.least:.2g} to {arm.most:.2g}); ask for ATO(), or say for whom the answer is meant."
        )
        yield Finding(Severity.WARNING if arm.outside > NOTABLE_MASS else Severity.NOTE, where, text)
    if arm.ess is None or arm.ess_overlap is None or arm.largest_share is None:
        return
    if arm.ess < max(min(FEW, arm.n / 2), _SMALL_SHARE * arm.n):
        mend = (
            f"in the overlap population, ATO(), {arm.ess_overlap:.1f}" if arm.ess_overlap > arm.ess else "expect wide intervals"
        )
        text = f"its {arm.n} decisions are worth {arm.ess:.1f} after weighting; {mend}."
        yield Finding(Severity.WARNING, where, text)
    if arm.largest_share > max(LARGE_SHARE, 2 / arm.n):
        text = f"one decision carries {arm.largest_share:.0%} of its weight; look at that record, and see most_influential()."
        yield Finding(Severity.WARNING, where, text)
    if arm.tail_index is not None and arm.tail_index > HEAVY_TAIL:
        text = f"its weights have Pareto tail index {arm.tail_index:.2f} > {HEAVY_TAIL}: an interval may be far too short."
        yield Finding(Severity.WARNING, where, text)


def region_findings(regions: tuple[Region, ...]) -> Iterator[Finding]:
    """On regions where an arm is rare."""
    rare = [region for region in regions if region.mean < RARE]
    if rare:
        text = (
            f"some arm has a mean propensity below {RARE} in {len(rare)} of {len(regions)} regions, which hold "
            f"{sum(r.n for r in rare)} of {sum(r.n for r in regions)} decisions; the worst: {rare[0]!r}. "
            "Effects there rest on extrapolation: leave the regions out of the question, or ask for ATO()."
        )
        yield Finding(Severity.WARNING, "positivity", text)


def calibration_findings(curve: CalibrationCurve) -> Iterator[Finding]:
    """On the recalibration line."""
    where = f"calibration, arm {curve.arm}"
    if curve.certain:
        text = f"{curve.certain} predictions are exactly 0 or 1; use a smoother model, or Calibrated(model)."
        yield Finding(Severity.WARNING, where, text)
    if curve.slope is None or curve.slope_stderr is None or not curve.cross_fitted:
        return
    if not _SLOPES[0] <= curve.slope <= _SLOPES[1] and abs(curve.slope - 1) > 2 * curve.slope_stderr:
        what = "too extreme (overfitted)" if curve.slope < 1 else "too timid"
        text = (
            f"the slope is {curve.slope:.2f} (standard error {curve.slope_stderr:.2f}), not 1: the propensities are {what}; use "
            "Calibrated(model), or a model with fewer terms."
        )
        yield Finding(Severity.WARNING, where, text)


def _listed(items: tuple[object, ...] | list[int]) -> str:
    """Up to five of them as text."""
    shown = ", ".join(map(str, items[:5]))
    return shown if len(items) <= 5 else f"{shown} and {len(items) - 5} more"
