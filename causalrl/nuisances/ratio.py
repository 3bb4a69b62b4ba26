"""Marginal importance weights: the problem that a density-ratio model is fitted to, and the protocol that it follows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

from causalrl.checks import Bools, Floats
from causalrl.data import Steps
from causalrl.diagnostics.record import Note
from causalrl.nuisances.value import Target


@dataclass(frozen=True, eq=False)
class RatioProblem:
    """What a density-ratio model is fitted to.

    Attributes:
        target: the target policy on the steps.
        log_ratios: (M,) log importance ratio of each logged action; None for a model that needs no behaviour policy.
        weights: (M,) of each step in the fit; 0 outside the training folds.
        discount, horizon: of the estimand. seed: for models that draw random numbers.
    """

    target: Target
    log_ratios: Floats | None
    weights: Floats
    discount: float
    horizon: int | None
    seed: int

    @property
    def steps(self) -> Steps:
        return self.target.steps


class DensityRatio(ABC):
    """Marginal importance weights m of the logged steps: the value is E[sum over a trajectory's steps of m r].

    With a finite horizon m_t(s, a) = discount^t d_t(s, a) / b_t(s, a), d_t and b_t the densities of (s, a) at time t under target
    and behaviour. Without one m(s, a) = sum_t discount^t d_t(s, a) / sum_t b_t(s, a), whatever t.

    Attributes:
        notes: warnings that the fit gave rise to.
        lost_mass: (T,) see `causalrl.diagnostics.record.KEYS`; None where it is not defined.
    """

    notes: tuple[Note, ...] = ()
    lost_mass: Floats | None = None

    @abstractmethod
    def at(self, rows: Bools) -> Floats:
        """(rows,) m at the chosen rows of the problem's M steps."""


class RatioModel(Protocol):
    """What `ratio=` takes."""

    @property
    def default_folds(self) -> int:
        """Cross-fitting folds when none are asked for."""
        ...

    @property
    def known(self) -> bool:
        """Nothing is learned from the data."""
        ...

    @property
    def needs_behavior(self) -> bool:
        """The problem must carry `log_ratios`."""
        ...

    @abstractmethod
    def fit(self, problem: RatioProblem) -> DensityRatio:
        """Learn the weights of the problem's target."""
        ...
