"""What structural models of one decision share: the sample that they are fitted to, its resamples, and the estimate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Floats, Ints, check_finite, numeric
from causalrl.data import End, Trajectories
from causalrl.diagnostics.record import Note, diagnostics_record
from causalrl.errors import CausalRLError, DataError, EstimandError, EstimatedBehaviorWarning
from causalrl.estimate import Estimate
from causalrl.estimators.base import label
from causalrl.inference.base import Evidence, Linearised
from causalrl.inference.functionals import Sum
from causalrl.nuisances.crossfit import Nuisances, require_trajectories
from causalrl.nuisances.treatment_models import TreatmentFit, TreatmentModel, fit_treatment


@dataclass(frozen=True, eq=False)
class Sample:
    """Single decisions, what each counts, and how often a resample drew it.

    Attributes:
        rows: (n,) their place in the whole data. observation_weights, counts: (n,).
    """

    data: Trajectories
    rows: Ints
    observation_weights: Floats
    counts: Floats
    seed: int

    @classmethod
    def of(cls, data: Trajectories, observation_weights: ArrayLike | None, seed: int) -> Sample:
        require_trajectories(data)
        if (data.lengths > 1).any() or (data.end != End.TERMINATED).any():
            raise EstimandError("data: they are sequential, and structural models here are of one decision. Use IPW() or FQE().")
        ones = np.ones(data.n)
        weights = ones if observation_weights is None else checked_weights(observation_weights, data.n)
        return cls(data, np.arange(data.n), weights, ones, seed)

    @property
    def weights(self) -> Floats:
        """(n,) what each row counts, repetitions included."""
        return self.observation_weights * self.counts

    @cached_property
    def nuisances(self) -> Nuisances:
        return Nuisances(self.data, self.seed, self.weights)

    def drawn(self, counts: Floats) -> Sample:
        """The resample that draws row i counts[i] times."""
        kept = np.flatnonzero(counts)
        return Sample(self.data.take(kept), self.rows[kept], self.observation_weights[kept], counts[kept], self.seed)

    def treatment(self, model: TreatmentModel | None) -> TreatmentFit:
        """A model of the treatment, learned from the sample."""
        return fit_treatment(model, self.nuisances, self.observation_weights, float(self.counts.sum()))


def checked_weights(weights: ArrayLike, n: int) -> Floats:
    """(n,) observation weights; equal ones are 1."""
    given = numeric("observation_weights", weights)
    if given.shape != (n,):
        raise DataError(f"observation_weights: shape {given.shape}, expected ({n},), one a decision.")
    check_finite("observation_weights", given)
    if (given <= 0).any():
        row = int(np.flatnonzero(given <= 0)[0])
        raise DataError(f"observation_weights: row {row} is {given[row]}; they are positive. Leave out rows that do not count.")
    return np.ones(n) if (given == given[0]).all() else given


@dataclass(frozen=True, eq=False)
class SampleRefit:
    """Re-learns k values under resampling counts (b, G) of the clusters; NaN where a resample has none."""

    sample: Sample
    compute: Callable[[Sample], Floats]
    shape: tuple[int, ...]

    def __call__(self, counts: Floats) -> Floats:
        return np.stack([self._values(row[self.sample.data.clusters]) for row in counts])

    def _values(self, counts: Floats) -> Floats:
        try:
            return self.compute(self.sample.drawn(counts)).reshape(self.shape)
        except CausalRLError:
            return np.full(self.shape, np.nan)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A structural model's coefficients on a sample.

    Attributes:
        values: (k,). influence: (n, k). labels: k names. diagnostics, notes: as of a `Score`.
    """

    values: Floats
    influence: Floats
    labels: tuple[str, ...]
    diagnostics: dict[str, Any] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


class StructuralModel(ABC):
    """Base of the structural models of one decision: frozen records, as estimators are."""

    def estimate(self, data: Trajectories, *, observation_weights: ArrayLike | None = None, seed: int = 0) -> Estimate:
        """Estimate the coefficients.

        Args:
            data: one decision a trajectory; actions discrete, or (n, 1) and continuous.
            observation_weights: (n,) positive, what each decision counts everywhere, in the models of the treatment too: inverse
                probabilities of having been observed or sampled. Standard errors take them as known.
            seed: root of every random number (folds, learners).

        Raises:
            DataError: for sequential data's columns that a formula misses, collinear columns, or weights that are not positive.
        """
        sample = Sample.of(data, observation_weights, seed)
        fitted = self.fitted(sample)
        refit = SampleRefit(sample, self.solver(sample), fitted.values.shape if self.vector else ())
        diagnostics = diagnostics_record(fitted.notes, **fitted.diagnostics)
        if self.vector:
            linear = Linearised(np.eye(len(fitted.values)), fitted.influence)
            evidence = Evidence(fitted.values, data.clusters, refit=refit, linear=linear)
        else:
            moments = fitted.values[0] + fitted.influence - fitted.influence.mean()
            evidence = Evidence(float(fitted.values[0]), data.clusters, Sum(), moments, refit)
        labels = fitted.labels if self.vector else None
        return Estimate(evidence.value, str(self), self.asks, diagnostics, evidence, data.fingerprint, labels=labels)

    @property
    @abstractmethod
    def asks(self) -> str:
        """What is estimated, as text."""

    @property
    def vector(self) -> bool:
        """Whether several coefficients are estimated."""
        return True

    @abstractmethod
    def fitted(self, sample: Sample) -> Fitted:
        """The coefficients with their influence values."""

    @abstractmethod
    def solver(self, sample: Sample) -> Callable[[Sample], Floats]:
        """What gives the coefficients (k,) alone on a resample, with the formula's coding of the whole sample."""

    def __str__(self) -> str:
        return label(self)


def unstacked_note(fits: list[TreatmentFit], names: list[str]) -> list[Note]:
    """A warning that standard errors leave out how the models with these names were learned."""
    notes = [note for fit in fits for note in fit.notes]
    if not names:
        return notes
    text = f"the standard errors take the {' and the '.join(names)} as known. Use Logit(formula), or RefitBootstrap(200)."
    return [*notes, Note(EstimatedBehaviorWarning, text)]
