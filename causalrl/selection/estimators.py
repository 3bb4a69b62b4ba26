"""`select_estimator`: which of several estimators to believe on one data set.

No data show the error of an off-policy estimate, so that every rule needs something to hold on to: an order in which the
estimators are trusted (`Slope`), one that is trusted (`BootstrapMSE`), or a simulator (`SimulatorCheck`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from causalrl.data import Trajectories
from causalrl.errors import EstimandError
from causalrl.estimands import EstimandLike, as_estimand
from causalrl.estimate import Estimate, Summary
from causalrl.estimators.base import label
from causalrl.nuisances.crossfit import Nuisances
from causalrl.selection.candidates import Candidates, Trial, named_candidates

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Drawing: TypeAlias = "Callable[[Selection, Axes | None], Axes]"
Rows: TypeAlias = dict[str, dict[str, Any]]
"""What a rule finds of each candidate, by name; the columns are those of the rule."""


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """The estimator that a rule chose.

    Attributes:
        rule: as text. chosen: name of the candidate. estimate: what it says.
        frame: one row a candidate: estimator, value, the columns of the rule, chosen, and failure (why there is no estimate, or
            no figure to judge it by; else missing).
        findings: sentences to read first.
        drawing: what draws it.
    """

    rule: str
    chosen: str
    estimate: Estimate
    frame: pd.DataFrame
    findings: tuple[str, ...]
    drawing: Drawing

    def plot(self, ax: Axes | None = None) -> Axes:
        """The figure of the rule."""
        return self.drawing(self, ax)

    def summary(self) -> Summary:
        """The table and the findings as text."""
        table = self.frame.drop(columns="failure").to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4g}")
        failed = self.frame.dropna(subset="failure")
        notes = [f"  ! {row['estimator']}: {row['failure']}" for _, row in failed.iterrows()]
        return Summary("\n".join([f"{self.rule}: {self.chosen}", table, *(f"  {text}" for text in self.findings), *notes]))

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return str(self.frame.to_html(index=False, na_rep=""))


class SelectionRule(ABC):
    """How one of several estimators is chosen; a frozen record."""

    @abstractmethod
    def judge(self, trial: Trial) -> tuple[Rows, str, tuple[str, ...]]:
        """What it finds of each candidate with an estimate (`failure` where it cannot judge one), the choice, and sentences."""

    @property
    @abstractmethod
    def drawing(self) -> Drawing:
        """What draws it."""

    def __str__(self) -> str:
        return label(self)


def select_estimator(
    data: Trajectories, goal: EstimandLike, candidates: Candidates, rule: SelectionRule, *, seed: int = 0
) -> Selection:
    """Choose one of several estimators.

    The estimate of the chosen one is as any other: its interval does not know of the choice.

    Args:
        data: the trajectories.
        goal: one estimand with one value.
        candidates: two or more, by name or in a list, in the order in which they are trusted to be free of bias, most first;
            those that need right propensities alone come before those that need a right model.
        rule: `Slope()`, `BootstrapMSE()` or `SimulatorCheck(simulator, behavior)`.
        seed: of folds and learners, shared by all.

    Returns:
        The selection: `.chosen`, `.estimate`, `.frame`, `.plot()`, `.summary()`.

    Raises:
        EstimandError: for fewer than two candidates, a goal with many values, another rule, or where the rule can judge none.

    Example:
        >>> import causalrl as crl
        >>> from simulators import ModelFail
        >>> sim = ModelFail()
        >>> data = sim.sample(1000, sim.behavior(), seed=0)
        >>> goal = crl.PolicyValue(sim.target(), horizon=2)
        >>> candidates = {"WIS": crl.WIS(), "model": crl.FQE(crl.TabularQ())}
        >>> crl.select_estimator(data, goal, candidates, crl.Slope()).chosen
        'WIS'
    """
    if not isinstance(rule, SelectionRule):
        raise EstimandError(f"rule: {rule!r} is no rule; pass an object such as Slope().")
    trial = Trial.run(named_candidates(candidates), Nuisances(data, seed), as_estimand(goal))
    rows, chosen, findings = rule.judge(trial)
    return Selection(str(rule), chosen, trial.estimates[chosen], _frame(trial, rows, chosen), findings, rule.drawing)


def _frame(trial: Trial, rows: Rows, chosen: str) -> pd.DataFrame:
    import pandas as pd

    table = [
        {"estimator": name, "value": trial.estimates[name].value if name in trial.estimates else np.nan}
        | rows.get(name, {})
        | {"chosen": name == chosen, "failure": rows.get(name, {}).get("failure", trial.failures.get(name))}
        for name in trial.candidates
    ]
    frame = pd.DataFrame(table).astype({"failure": "string"})
    return frame[[*frame.columns.drop(["chosen", "failure"]), "chosen", "failure"]]
