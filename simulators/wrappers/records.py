"""Records that lack variables or measurements, or have wrong ones; each is a wrapper (see `simulators.wrappers.base`).

Behind one of these a record is its variables: states that agree in all of them are one record.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from causalrl.checks import Floats, number
from causalrl.errors import DataError
from simulators.checks import check_names
from simulators.views import View
from simulators.wrappers.base import Wrapper
from simulators.wrappers.recorded import Recorded

VITALS = ("heart_rate", "systolic_pressure", "oxygen", "glucose")


@dataclass(frozen=True, init=False, repr=False)
class HideVariables(Wrapper):
    """Variables that the logger saw and the record does not have.

    Args:
        names: of the state's features.

    Raises:
        DataError: for what is no name or occurs twice; for an unknown variable once it is put around a simulator.

    Example:
        >>> from causalrl.policies import Uniform
        >>> from simulators import SepsisSimulator
        >>> record = SepsisSimulator() | HideVariables("diabetes")
        >>> record.view().n_records, record.sample(10, Uniform(8), horizon=20).behavior_probabilities
        (720, None)
    """

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", check_names("variables", names))

    def __repr__(self) -> str:
        return f"HideVariables({', '.join(map(repr, self.names))})"

    @property
    def neutral(self) -> bool:
        """No name."""
        return not self.names

    def alter(self, process: Recorded) -> Recorded:
        """Records that agree in all other variables become one."""
        return replace(process, shown=process.shown.hide(self.names))


class Corruption(Wrapper):
    """A wrapper with a rate in [0, 1] that acts on some variables of the record."""

    rate: float
    variables: tuple[str, ...] | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", number("rate", self.rate, 0, 1))
        if self.variables is not None:
            object.__setattr__(self, "variables", check_names("variables", self.variables))
            if not self.variables:
                raise DataError("variables: no name; pass one at least, or None for the vital signs of the sepsis simulator.")

    @property
    def neutral(self) -> bool:
        """A rate of 0."""
        return self.rate == 0

    def alter(self, process: Recorded) -> Recorded:
        """The record becomes random given the state."""
        return replace(process, shown=self.corrupt(process.shown, process.base.mdp.full_view))

    def chosen(self, view: View) -> tuple[str, ...]:
        """The variables, by default the vital signs of the sepsis simulator that the record has.

        Raises:
            DataError: where the record has none of those.
        """
        if self.variables is not None:
            return self.variables
        vitals = tuple(name for name in VITALS if name in view.feature_names)
        if not vitals:
            there = ", ".join(view.feature_names) or "no named variables"
            raise DataError(f"variables: the record has no vital signs by name but {there}; pass variables=.")
        return vitals

    @abstractmethod
    def corrupt(self, view: View, truth: View) -> View:
        """The changed record; `truth` has the levels that a variable can really have."""


class Missing(Corruption):
    """Each of the variables is missing with a probability of its own; it then has the value one below its lowest."""

    @abstractmethod
    def probability(self, view: View, name: str, levels: Floats) -> Floats:
        """(R,) that a variable with these levels is missing, given the record before."""

    def corrupt(self, view: View, truth: View) -> View:
        """One variable after the other, each on its own."""
        for name in self.chosen(view):
            view = masked(view, truth, self.probability(view, name, np.unique(truth.where(name))), [name])
        return view


@dataclass(frozen=True)
class MCAR(Missing):
    """Measurements are missing completely at random: each with the same probability.

    Source: Rubin, Inference and missing data, Biometrika 63:581, 1976, of this and of `MAR` and `MNAR`.

    Args:
        rate: probability that a variable is missing.
        variables: names; by default the vital signs of the sepsis simulator that the record has.

    Raises:
        DataError: for a rate outside [0, 1] or what is no name; for an unknown variable once it is put around a simulator.

    Example:
        >>> from simulators import SepsisSimulator
        >>> view = (SepsisSimulator() | MCAR(0.3)).view()
        >>> missing = view.where("glucose") == -1
        >>> np.unique((view.channel @ missing).round(3))  # probability of it in each state
        array([0.3])
    """

    rate: float
    variables: tuple[str, ...] | None = None

    def probability(self, view: View, name: str, levels: Floats) -> Floats:
        """The rate."""
        return np.full(view.n_records, self.rate)


@dataclass(frozen=True)
class MAR(Missing):
    """Measurements are missing at random: where nothing is on, patients are watched less.

    At random, that is, as long as no later wrapper takes `given` from the record.

    Source: Rubin (1976), see `MCAR`.

    Args:
        rate: probability that a variable is missing while all of `given` are 0; it is not missing otherwise.
        variables: names; by default the vital signs of the sepsis simulator that the record has.
        given: names of other recorded variables, its treatments by default.

    Raises:
        DataError: for a rate outside [0, 1], what is no name, or a variable that is itself among `given`; for an unknown
            variable once it is put around a simulator.

    Example:
        >>> from simulators import SepsisSimulator
        >>> view = (SepsisSimulator() | MAR(0.3)).view()
        >>> missing = view.where("glucose") == -1
        >>> np.unique((view.channel @ missing).round(3))  # probability of it in each state: treated, untreated
        array([0. , 0.3])
    """

    rate: float
    variables: tuple[str, ...] | None = None
    given: tuple[str, ...] = ("antibiotic", "vasopressor", "ventilation")

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "given", check_names("given", self.given))

    def probability(self, view: View, name: str, levels: Floats) -> Floats:
        """The rate where all of `given` are 0; `DataError` for a variable among them, or where there is none."""
        if not self.given or name in self.given:
            raise DataError(f"given: {self.given} for {name!r}; pass other variables, which the record always has.")
        untreated = np.all([view.where(other) == 0 for other in self.given], axis=0)
        return np.where(untreated, self.rate, 0.0)


@dataclass(frozen=True)
class MNAR(Missing):
    """Measurements are missing not at random: the higher the value, the likelier.

    Source: Rubin (1976), see `MCAR`.

    Args:
        rate: probability that a variable is missing where the record has its highest level, of all states; it falls linearly
            to 0 at the lowest.
        variables: names; by default the vital signs of the sepsis simulator that the record has.

    Raises:
        DataError: as `MCAR`.

    Example:
        >>> from simulators import SepsisSimulator
        >>> view = (SepsisSimulator() | MNAR(0.3)).view()
        >>> missing = view.where("glucose") == -1
        >>> np.unique((view.channel @ missing).round(3))  # probability of it in each state: levels 0 to 4
        array([0.   , 0.075, 0.15 , 0.225, 0.3  ])
    """

    rate: float
    variables: tuple[str, ...] | None = None

    def probability(self, view: View, name: str, levels: Floats) -> Floats:
        """Proportional to the height of the value."""
        height = view.where(name) - levels[0]
        return np.asarray(self.rate * np.maximum(height, 0.0) / max(levels[-1] - levels[0], np.finfo(float).tiny))


@dataclass(frozen=True)
class ThinnedVisits(Corruption):
    """At some steps nobody measures: all of the variables are missing together. Actions and rewards are recorded all the same.

    Source: visits completely at random in Pullenayegum & Lim, Longitudinal data subject to irregular observation,
    Statistical Methods in Medical Research 25:2992, 2016.

    Args:
        rate: probability that nobody measures at a step.
        variables: names; by default the vital signs of the sepsis simulator that the record has.

    Raises:
        DataError: as `MCAR`.

    Example:
        >>> from simulators import SepsisSimulator
        >>> view = (SepsisSimulator() | ThinnedVisits(0.3)).view()
        >>> missing = np.stack([view.where(name) == -1 for name in VITALS])
        >>> [np.unique((view.channel @ some).round(3)) for some in (missing.any(axis=0), missing.all(axis=0))]
        [array([0.3]), array([0.3])]
    """

    rate: float
    variables: tuple[str, ...] | None = None

    def corrupt(self, view: View, truth: View) -> View:
        """All or nothing."""
        return masked(view, truth, np.full(view.n_records, self.rate), self.chosen(view))


@dataclass(frozen=True)
class MeasurementError(Corruption):
    """Variables are mismeasured, each on its own: the record has one of the other levels that states have, each as likely.

    Source: the misclassification of Carroll, Ruppert, Stefanski & Crainiceanu, Measurement error in nonlinear models, 2006.

    Args:
        rate: probability of a wrong value.
        variables: names; by default the vital signs of the sepsis simulator that the record has.

    Raises:
        DataError: as `MCAR`.

    Example:
        >>> from simulators import SepsisSimulator
        >>> view = (SepsisSimulator() | MeasurementError(0.1, ("diabetes",))).view()
        >>> np.unique((view.channel @ view.where("diabetes")).round(3))  # recorded as diabetic: the others, and the diabetics
        array([0.1, 0.9])
    """

    rate: float
    variables: tuple[str, ...] | None = None

    def corrupt(self, view: View, truth: View) -> View:
        """One variable after the other, where it is measured at all."""
        for name in self.chosen(view):
            shown, levels = view.where(name), np.unique(truth.where(name))
            wrong = np.where(np.isin(shown, levels), self.rate / max(len(levels) - 1, 1), 0.0)
            errors = [(np.where(shown == level, 0.0, wrong), view.replaced([name], [level])) for level in levels]
            right = 1.0 - np.sum([probability for probability, _ in errors], axis=0)
            view = view.altered([(right, view.replaced([], [])), *errors])
        return view


def masked(view: View, truth: View, probability: Floats, names: Sequence[str]) -> View:
    """The record without some variables, with a probability (R,): each gets the value one below its lowest level."""
    missing = [truth.where(name).min() - 1 for name in names]
    return view.altered([(1 - probability, view.replaced([], [])), (probability, view.replaced(names, missing))])
