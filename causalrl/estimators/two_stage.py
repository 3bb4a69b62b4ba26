"""Instrumental variables: Wald's ratio and two-stage least squares, as a quotient of two estimates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import numpy as np

from causalrl.checks import Floats
from causalrl.data import Trajectories
from causalrl.diagnostics.record import Note, diagnostics_record
from causalrl.errors import DataError, EstimandError, WeakInstrumentWarning
from causalrl.estimate import Estimate
from causalrl.estimators.base import Refitted, label
from causalrl.estimators.structural import Sample
from causalrl.inference.base import Evidence
from causalrl.inference.functionals import Sum
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.formulas import covariate_design
from causalrl.nuisances.least_squares import LeastSquares
from causalrl.nuisances.treatment_models import treatment_values

_WEAK = 10.0
"""Below this first-stage F the estimate is biased towards the confounded one, and its interval is too short (Staiger & Stock)."""


@dataclass(frozen=True)
class TwoStage:
    """Effect of a treatment by one instrument Z: sum of z~ Y / sum of z~ A, z~ what the covariates do not explain of Z.

    Two-stage least squares; with a binary instrument and no covariates Wald's ratio of two differences of means. It is the
    quotient of `reduced_form` and `first_stage`, and its standard error that of 2SLS with HC0 errors times sqrt(n / (n - 1)).
    With a binary treatment that the instrument moves one way only it estimates the effect on the compliers.

    Source: Imbens & Angrist, Econometrica 62:467, 1994; Staiger & Stock, Econometrica 65:557, 1997 (weak instruments).

    Args:
        instrument: the instrument as a formula of one column in the observation columns' names, such as "assigned" or
            "I(price >= 1.5)".
        covariates: formula of what is held fixed, linearly; None is nothing.

    Example:
        >>> from simulators import BinaryInstrument
        >>> study = BinaryInstrument().sample(20_000)
        >>> estimate = TwoStage("instrument", covariates="x1").estimate(study)
        >>> BinaryInstrument().late in estimate.interval()
        True
    """

    instrument: str
    covariates: str | None = None

    def estimate(self, data: Trajectories, seed: int = 0) -> Estimate:
        """Estimate the effect.

        Args:
            data: one decision a trajectory, with the instrument among the observation columns; the treatment enters as a number.
            seed: of the refits.

        Raises:
            DataError: for a formula that cannot be read, or an instrument that the covariates determine. EstimandError: for
                sequential data.

        Warns:
            WeakInstrumentWarning: where the first-stage F is below 10.
        """
        first, reduced = self.first_stage(data, seed), self.reduced_form(data, seed)
        strength = float((first.value / first.stderr) ** 2)
        notes = []
        if not strength >= _WEAK:
            text = (
                f"the first-stage F of {self.instrument} is {strength:.2f}, below {_WEAK:.0f}: the instrument hardly moves the "
                "treatment, and the interval cannot be trusted. Report reduced_form(data), or find a stronger instrument."
            )
            notes.append(Note(WeakInstrumentWarning, text))
        asked = f"effect of the treatment by {self.instrument}"
        return replace(reduced / first, estimator=str(self), estimand=asked, diagnostics=diagnostics_record(notes))

    def first_stage(self, data: Trajectories, seed: int = 0) -> Estimate:
        """Effect of a unit of the instrument on the treatment; its robust F is (value / stderr)^2."""
        Sample.of(data, None, seed)
        return self._slope(data, seed, "treatment", treatment_values)

    def reduced_form(self, data: Trajectories, seed: int = 0) -> Estimate:
        """Effect of a unit of the instrument on the outcome."""
        Sample.of(data, None, seed)
        return self._slope(data, seed, "outcome", _outcomes)

    def _slope(self, data: Trajectories, seed: int, name: str, response: Response) -> Estimate:
        nuisances = Nuisances(data, seed)
        own, covariates, weights = self._instrument(nuisances)
        value = self._point(nuisances, response)
        rest = response(data) - value * own
        remainder = rest - covariates @ (covariates.T @ (weights * rest)) / len(own)
        influence = own * remainder / np.mean(own**2)
        refit = Refitted(nuisances, partial(self._point, response=response))
        evidence = Evidence(value, data.clusters, Sum(), (value + influence)[:, None], refit)
        asked = f"effect of {self.instrument} on the {name}"
        return Estimate(value, str(self), asked, diagnostics_record(), evidence, data.fingerprint)

    def _point(self, nuisances: Nuisances, response: Response) -> float:
        own, _, weights = self._instrument(nuisances)
        return float(np.sum(weights * own * response(nuisances.data)) / np.sum(weights * own**2))

    def _instrument(self, nuisances: Nuisances) -> tuple[Floats, Floats, Floats]:
        """(n,) what the covariates do not explain of the instrument, (n, r) orthonormal covariates, and weights (n,)."""
        data = nuisances.data
        design, names = covariate_design(self.instrument, data, data.observations)
        columns = design[:, [name != "Intercept" for name in names]]
        if columns.shape[1] != 1:
            raise EstimandError(f"instrument: {self.instrument!r} has {columns.shape[1]} columns; TwoStage takes one instrument.")
        covariates = covariate_design("1" if self.covariates is None else self.covariates, data, data.observations)[0]
        weights = np.ones(data.n) if nuisances.weights is None else nuisances.weights
        line = LeastSquares(covariates, columns[:, 0], weights)
        basis = line.basis(covariates)
        own: Floats = columns[:, 0] - basis @ line.coefficients
        if not weights @ own**2 > 1e-12 * (weights @ columns[:, 0] ** 2):
            raise DataError(f"instrument: the covariates determine {self.instrument}; leave it out of covariates=.")
        return own, basis, weights

    def __str__(self) -> str:
        return label(self)


Response: TypeAlias = Callable[[Trajectories], Floats]
"""(n,) what the instrument acts on."""


def _outcomes(data: Trajectories) -> Floats:
    return data.rewards
