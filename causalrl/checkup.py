"""`check(data)`: what can be known about a study before any estimate, as a record that prints, tabulates and plots itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.data import End, Trajectories
from causalrl.diagnostics.balance import Balance, balance_of
from causalrl.diagnostics.calibration import CalibrationCurve, calibration_curve
from causalrl.diagnostics.columns import Columns, describe_columns
from causalrl.diagnostics.findings import (
    Finding,
    Severity,
    balance_findings,
    calibration_findings,
    column_findings,
    log_findings,
    overlap_findings,
    region_findings,
)
from causalrl.diagnostics.logs import LogFacts, log_facts
from causalrl.diagnostics.overlap import ArmOverlap, overlap_by_arm
from causalrl.diagnostics.positivity import Region, positivity_regions
from causalrl.errors import DataError, SeparationError, SupportError
from causalrl.estimate import Summary
from causalrl.estimators.base import check_folds, label
from causalrl.nuisances.behavior import BehaviorLike, as_behavior
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.records import FittedBehavior

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_FOLDS = 5


@dataclass(frozen=True, eq=False, repr=False)
class Checkup:
    """The state of a study before any estimate; `check` makes it.

    Attributes:
        log: trajectories, decisions, ends, rewards, arms.
        columns: the covariates; None for integer states.
        behavior: the model of the propensities; None where there is none.
        actions: (N,) arms of the decisions. propensities: (N, n_actions) P(arm | X), or None where they are not known.
        overlap: one record an arm; empty without propensities.
        balance: standardised mean differences; None for integer states and longer records.
        calibration: one record an arm, of the second arm alone where there are two; of predictions for decisions that the fit
            has not seen. Empty without propensities.
        regions: leaves of the positivity tree, the rarest arm first; empty for integer states.
        findings: what to know, what to do; what matters most first.
    """

    log: LogFacts
    columns: Columns | None
    behavior: str | None
    actions: Ints
    propensities: Floats | None
    overlap: tuple[ArmOverlap, ...]
    balance: Balance | None
    calibration: tuple[CalibrationCurve, ...]
    regions: tuple[Region, ...]
    findings: tuple[Finding, ...]

    @property
    def weights(self) -> Floats | None:
        """(n,) 1 / P(own arm | X) of single decisions; None for longer records and without propensities."""
        if self.propensities is None or not self.log.one_decision:
            return None
        values: Floats = 1 / self.propensities[np.arange(len(self.actions)), self.actions]
        return values

    def to_frame(self) -> pd.DataFrame:
        """All figures, one a row: part, item (an arm, a column, a region), figure, value."""
        import pandas as pd

        return pd.DataFrame(list(_rows(self)), columns=["part", "item", "figure", "value"])

    def summary(self) -> Summary:
        """The main figures and all findings as text."""
        from causalrl.report.checkup_report import checkup_text

        return Summary(checkup_text(self))

    def plot(self) -> Figure:
        """One figure: love plot, propensity overlap, weights, calibration, as far as there are any."""
        from causalrl.report.diagnostic_plots import checkup_figure

        return checkup_figure(self)

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        from causalrl.report.html import checkup_html

        return checkup_html(self)


def check(data: Trajectories, *, behavior: BehaviorLike | None = None, folds: int | None = None, seed: int = 0) -> Checkup:
    """Look at a study before any estimate: arms, columns, balance, overlap, weights, calibration, positivity, rewards.

    What would stop an estimator (perfect separation, an arm that a fold lacks) is reported as a finding, not raised.

    Args:
        data: single decisions or longer records; of longer ones, what does not depend on a target policy.
        behavior: model of the propensities, as in an estimator; by default those of the data, else `Counts()` or `Logit()`.
        folds: of the propensities, as in an estimator; None is the model's default. Calibration is that of five folds where
            a learned model would otherwise be judged on what it has seen.
        seed: of folds and learners.

    Returns:
        A `Checkup`, which prints, tabulates (`to_frame()`) and plots itself.

    Raises:
        DataError: for other data, or folds that there are not.

    Example:
        >>> import causalrl as crl
        >>> checkup = crl.check(crl.datasets.nhefs())
        >>> checkup.overlap[1].n, round(checkup.overlap[1].least, 3)
        (403, 0.043)
    """
    check_folds(folds)
    nuisances, log = Nuisances(data, seed), log_facts(data)
    columns = None if data.tabular else describe_columns(data.observations, data.feature_names)
    parts = _Parts(list(log_findings(log, nuisances.steps(None).end_together)))
    if columns is not None:
        parts.findings += column_findings(columns)
    if len(log.arms) > 1:
        _propensity_parts(parts, nuisances, log, columns, behavior, folds)
    if parts.balance is None and columns is not None and log.one_decision and log.n_actions:
        parts.balance = balance_of(data.observations, data.feature_names, data.actions, None)
    parts.findings += [] if parts.balance is None else balance_findings(parts.balance)
    findings = tuple(sorted(parts.findings, key=lambda finding: -finding.severity))
    own = (parts.overlap, parts.balance, parts.calibration, parts.regions, findings)
    return Checkup(log, columns, parts.behavior, data.actions, parts.propensities, *own)


@dataclass(eq=False)
class _Parts:
    """What `check` gathers on its way."""

    findings: list[Finding]
    behavior: str | None = None
    propensities: Floats | None = None
    overlap: tuple[ArmOverlap, ...] = ()
    balance: Balance | None = None
    calibration: tuple[CalibrationCurve, ...] = ()
    regions: tuple[Region, ...] = ()


def _propensity_parts(
    parts: _Parts,
    nuisances: Nuisances,
    log: LogFacts,
    columns: Columns | None,
    behavior: BehaviorLike | None,
    folds: int | None,
) -> None:
    data = nuisances.data
    model = as_behavior(behavior, data)
    parts.behavior = label(model)
    if folds is not None and not model.known:
        nuisances.folds(folds, None)
    try:
        fitted = nuisances.behavior(behavior, folds, None)
    except (SeparationError, SupportError) as error:
        parts.findings.append(Finding(Severity.STOP, "propensities", str(error)))
        return
    parts.findings += [Finding(Severity.WARNING, "propensities", note.message) for note in dict.fromkeys(fitted.notes)]
    parts.propensities = _all_arms(fitted)
    if parts.propensities is None:
        text = "the log has the probability of the chosen arm alone; pass all arms' for overlap and calibration."
        parts.findings.append(Finding(Severity.NOTE, "propensities", text))
        return
    parts.overlap = overlap_by_arm(parts.propensities, data.actions, weighted=log.one_decision)
    parts.findings += overlap_findings(parts.overlap, log.decisions)
    if columns is not None:
        if log.one_decision:
            parts.balance = balance_of(data.observations, data.feature_names, data.actions, 1 / fitted.logged)
        parts.regions = _regions(data, columns, parts.propensities, nuisances.seed)
        parts.findings += region_findings(parts.regions)
    parts.calibration = _calibration(parts, nuisances, log, behavior, fitted)
    for curve in parts.calibration:
        parts.findings += calibration_findings(curve)


def _regions(data: Trajectories, columns: Columns, propensities: Floats, seed: int) -> tuple[Region, ...]:
    """Of the columns that are neither constant nor made of others."""
    left_out = {*columns.constant, *(name for name, _ in columns.dependent)}
    kept = [j for j, name in enumerate(columns.names) if name not in left_out]
    if not kept:
        return ()
    names = tuple(columns.names[j] for j in kept)
    return positivity_regions(data.observations[:, kept], names, propensities, data.actions, seed)


def _all_arms(fitted: FittedBehavior) -> Floats | None:
    """(N, n_actions) propensities; of a log of the chosen arm's alone where there are two arms."""
    if fitted.complete:
        return fitted.probabilities
    if fitted.steps.data.n_actions != 2:
        return None
    treated = np.where(fitted.steps.actions == 1, fitted.logged, 1 - fitted.logged)
    return np.column_stack([1 - treated, treated])


def _calibration(
    parts: _Parts, nuisances: Nuisances, log: LogFacts, behavior: BehaviorLike | None, fitted: FittedBehavior
) -> tuple[CalibrationCurve, ...]:
    """Of predictions for decisions that the fit has not seen."""
    propensities, seen = parts.propensities, not fitted.model.known and len(fitted.folds) == 1
    if seen and log.clusters > 1:
        try:
            propensities, seen = nuisances.behavior(behavior, min(_FOLDS, log.clusters), None).probabilities, False
        except (DataError, SeparationError, SupportError) as error:
            text = f"on {_FOLDS} folds the propensities cannot be learned, so that they are judged in the sample: {error}"
            parts.findings.append(Finding(Severity.WARNING, "calibration", text))
    assert propensities is not None
    arms = log.arms[1:] if len(log.arms) == 2 else log.arms
    taken = nuisances.data.actions
    return tuple(calibration_curve(propensities[:, arm], taken == arm, int(arm), cross_fitted=not seen) for arm in arms)


_Row = tuple[str, str, str, float]


def _rows(checkup: Checkup) -> Iterator[_Row]:
    """Every figure as (part, item, figure, value); what is not defined is left out."""
    log = checkup.log
    for name in ("n", "decisions", "clusters", "shortest", "median", "longest"):
        yield "log", "all", name, float(getattr(log, name))
    for kind in End:
        yield "log", "end", kind.name.lower(), float(log.ends[kind])
    for item, triple in (("rewards", log.rewards), ("returns", log.returns)):
        yield from (("log", item, name, value) for name, value in zip(("least", "mean", "largest"), triple, strict=True))
    for arm, count, mean, sd in zip(log.arms, log.counts, log.mean_reward, log.sd_reward, strict=True):
        named = (("count", float(count)), ("mean_reward", float(mean)), ("sd_reward", float(sd)))
        yield from (("arm", str(arm), name, value) for name, value in named)
    if log.states is not None:
        yield from (
            ("states", "all", name, float(getattr(log.states, name))) for name in ("visited", "n_states", "gaps", "share")
        )
    yield from _column_rows(checkup.columns, checkup.balance)
    for part, records, key in (("overlap", checkup.overlap, "arm"), ("calibration", checkup.calibration, "arm")):
        for record in records:
            yield from _record_rows(part, str(getattr(record, key)), record, skip=(key, "cross_fitted"))
    for region in checkup.regions:
        yield from _record_rows("positivity", region.rule, region, skip=())


def _column_rows(columns: Columns | None, balance: Balance | None) -> Iterator[_Row]:
    if columns is not None:
        for j, name in enumerate(columns.names):
            yield from (("column", name, figure, float(getattr(columns, figure)[j])) for figure in ("low", "high", "mean", "sd"))
    for figure in ("before", "after", "ratio_before", "ratio_after"):
        values = None if balance is None else getattr(balance, figure)
        if balance is None or values is None:
            continue
        for arm, row in zip(balance.arms, values, strict=True):
            of = f"{figure}: {arm} against {balance.reference}"
            yield from (("balance", name, of, float(value)) for name, value in zip(balance.names, row, strict=True))


def _record_rows(part: str, item: str, record: ArmOverlap | CalibrationCurve | Region, skip: tuple[str, ...]) -> Iterator[_Row]:
    """The numbers of a record."""
    for entry in fields(record):
        value = getattr(record, entry.name)
        if entry.name not in skip and isinstance(value, int | float):
            yield part, item, entry.name, float(value)
