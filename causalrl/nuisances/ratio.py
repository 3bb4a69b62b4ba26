"""Marginal importance weights: the problem that a density-ratio model is fitted to, its protocol, and ratios known beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalrl.checks import Bools, Floats, Ints, check_size, numeric
from causalrl.data import Steps
from causalrl.diagnostics.record import Note
from causalrl.errors import DataError, WeightOverflowError
from causalrl.kernels.ragged import cumulative_log_weights
from causalrl.nuisances.behavior import BehaviorFit
from causalrl.nuisances.value import Target

_LARGEST_LOG = float(np.log(np.finfo(np.float64).max))


@dataclass(frozen=True, eq=False)
class RatioProblem:
    """What a density-ratio model is fitted to.

    Attributes:
        target: the target policy on the steps.
        log_ratios: (M,) log importance ratio of each logged action; None for a model that needs no behaviour policy.
        weights: (M,) of each step in the fit; 0 outside the training folds.
        discount, horizon: of the estimand. seed: for models that draw random numbers.
        propensities: (M,) behaviour probability of each logged action, where there are log ratios.
    """

    target: Target
    log_ratios: Floats | None
    weights: Floats
    discount: float
    horizon: int | None
    seed: int
    propensities: Floats | None = None

    @property
    def steps(self) -> Steps:
        return self.target.steps

    @cached_property
    def ratios(self) -> Floats:
        """(M,) importance ratios."""
        assert self.log_ratios is not None
        largest = float(self.log_ratios.max())
        if largest > _LARGEST_LOG:
            raise WeightOverflowError(
                f"weights: an importance ratio is exp({largest:.0f}), beyond the largest float. Use a self-normalised estimator "
                "(WIS, PDWIS, WDR)."
            )
        return np.asarray(np.exp(self.log_ratios))

    @property
    def known_propensities(self) -> Floats:
        """(M,) the propensities, of a model that needs them."""
        assert self.propensities is not None
        return self.propensities

    @property
    def numerators(self) -> Floats:
        """(M,) target probability of each logged action; where the target is the behaviour policy, that of the latter."""
        return self.known_propensities if isinstance(self.target.policy, BehaviorFit) else self.target.taken


class DensityRatio(ABC):
    """Marginal importance weights m of the logged steps: the value is E[sum over a trajectory's steps of m r].

    With a finite horizon m_t(s, a) = discount^t d_t(s, a) / b_t(s, a), d_t and b_t the densities of (s, a) at time t under target
    and behaviour. Without one m(s, a) = sum_t discount^t d_t(s, a) / sum_t b_t(s, a), whatever t.

    Attributes:
        notes: warnings that the fit gave rise to.
        lost_mass: (T,) see `causalrl.diagnostics.record.KEYS`; (1,) where m is the same at all times, None where not defined.
    """

    notes: tuple[Note, ...] = ()
    lost_mass: Floats | None = None

    @abstractmethod
    def at(self, rows: Bools) -> Floats:
        """(rows,) m at the chosen rows of the problem's M steps."""


class RatioModel(Protocol):
    """What `ratio=` takes.

    One that can treat each time on its own also says `by_time`: whether it does so where there is no horizon too, so that a
    record which stops early is lost to it.
    """

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


MarginalRefit: TypeAlias = Callable[[Floats, Floats], Floats]
"""Maps trajectory weights (b, n) and propensities (b, M), or (1, M) where these are known, to the mean (b,) of sum m r, the
weights m refitted under each row."""


@runtime_checkable
class RefitsValue(Protocol):
    """A ratio model whose refits under resampling weights share what does not depend on them."""

    @abstractmethod
    def value_refit(self, problem: RatioProblem) -> MarginalRefit:
        """The refit of this problem."""
        ...


@dataclass(frozen=True, eq=False)
class RowRatio(DensityRatio):
    """Weights (M,) of the steps themselves."""

    weights: Floats
    lost_mass: Floats | None = None
    notes: tuple[Note, ...] = ()

    def at(self, rows: Bools) -> Floats:
        return self.weights[rows]


@dataclass(frozen=True)
class CumulativeWeights:
    """m_t = discount^t rho_0 ... rho_t, the weights where the whole past matters: MIS is then PDIS, and DRL is DR.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, 3.0], [0, 1, 2], behavior_probabilities=[0.5, 0.5])
        >>> crl.MIS(ratio=CumulativeWeights()).estimate(data, crl.Always(1)).value
        3.0
    """

    default_folds: int = field(default=1, init=False, repr=False)
    known: bool = field(default=True, init=False, repr=False)
    needs_behavior: bool = field(default=True, init=False, repr=False)
    by_time: bool = field(default=True, init=False, repr=False)

    def fit(self, problem: RatioProblem) -> DensityRatio:
        assert problem.log_ratios is not None
        steps = problem.steps
        with np.errstate(over="ignore"):
            weights = np.exp(cumulative_log_weights(problem.log_ratios, steps.offsets))
        return RowRatio(np.asarray(problem.discount**steps.time * weights))


RatioFunction: TypeAlias = Callable[[NDArray[Any], Ints, Ints], Floats]


@dataclass(frozen=True, eq=False)
class KnownRatio:
    """Marginal weights known beforehand, discount included.

    Args:
        source: table (S, A) or (H, S, A) of m, or a function (observations, actions, time) -> (K,).

    Raises:
        DataError: for a table of another shape, or with entries that are not finite.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0], [0, 1], [1.0, 3.0], [0, 1, 2])
        >>> crl.MIS(ratio=KnownRatio([[0.0, 2.0]])).estimate(data, crl.Always(1)).value
        3.0
    """

    source: Floats | RatioFunction
    default_folds: int = field(default=1, init=False, repr=False)
    known: bool = field(default=True, init=False, repr=False)
    needs_behavior: bool = field(default=False, init=False, repr=False)

    def __init__(self, source: ArrayLike | RatioFunction) -> None:
        if isinstance(source, type):
            raise DataError(f"KnownRatio: {source.__name__} is a class; pass a table, or a function.")
        if not callable(source):
            table = numeric("KnownRatio", source)
            if table.ndim not in (2, 3):
                raise DataError(f"KnownRatio: table has shape {table.shape}, expected (S, A) or (H, S, A).")
            check_size("KnownRatio", table)
            source = table
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "default_folds", 1)
        object.__setattr__(self, "known", True)
        object.__setattr__(self, "needs_behavior", False)

    def fit(self, problem: RatioProblem) -> DensityRatio:
        steps = problem.steps
        if callable(self.source):
            weights = numeric("KnownRatio", self.source(steps.observations, steps.actions, steps.time))
            if weights.shape != (len(steps),):
                raise DataError(f"KnownRatio: gives shape {weights.shape}, expected ({len(steps)},).")
            check_size("KnownRatio", weights)
            return RowRatio(weights)
        self._check_covers(steps)
        index = (steps.observations, steps.actions)
        return RowRatio(self.source[index] if self.source.ndim == 2 else self.source[(steps.time, *index)])

    def _check_covers(self, steps: Steps) -> None:
        assert not callable(self.source)
        if not steps.data.tabular:
            raise DataError("KnownRatio: a table needs integer states, and the observations are vectors; pass a function.")
        shape = self.source.shape
        largest = (int(steps.time.max()), int(steps.observations.max()), int(steps.actions.max()))[-len(shape) :]
        if any(place >= size for place, size in zip(largest, shape, strict=True)):
            raise DataError(f"KnownRatio: the table has shape {shape}, and the data reach {largest}.")
