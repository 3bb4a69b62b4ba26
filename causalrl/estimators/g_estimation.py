"""G-estimation of structural nested mean models of one decision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from causalrl.checks import Floats
from causalrl.errors import DataError
from causalrl.estimators.base import label
from causalrl.estimators.structural import Fitted, Sample, StructuralModel, unstacked_note
from causalrl.nuisances.formulas import covariate_design
from causalrl.nuisances.treatment_models import TreatmentModel, treatment_values


@dataclass(frozen=True)
class GEstimation(StructuralModel):
    """Structural nested mean model E[Y(a) - Y(0) | A = a, L] = a v'psi by g-estimation.

    psi solves sum of w (A - E[A | L]) (Y - A v'psi) v = 0, in closed form; with the effect the same for all, v = 1,
    psi = sum w Y (A - p) / sum w A (A - p). Right where the model of the treatment is; nothing is said about how the outcome
    depends on L but for the effect. Standard errors stack this equation and the treatment model's.

    Source: Robins, Communications in Statistics 23:2379, 1994; Hernan & Robins, *What If*, chapter 14.

    Args:
        propensity: model of the treatment: a behaviour model of two arms, or `NormalDensity`, of which the linear mean is used,
            whatever the treatment's law; None is the logged probabilities where the data have them, else Counts() on states,
            Logit() on vectors.
        modifiers: formula of v in the covariates' names, its intercept included; None is v = 1 and gives a scalar.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(2000, 1))
        >>> arm = (rng.random(2000) < 1 / (1 + np.exp(-x[:, 0]))).astype(int)
        >>> outcome = 2.0 * arm + x[:, 0] ** 3 + rng.normal(size=2000)
        >>> study = crl.Trajectories.from_cross_section(x, arm, outcome, feature_names=["age"])
        >>> 2.0 in crl.GEstimation(crl.Logit("age")).estimate(study).interval()
        True
        >>> crl.GEstimation(crl.Logit("age"), modifiers="age").estimate(study).labels
        ('action', 'action:age')
    """

    propensity: TreatmentModel | None = None
    modifiers: str | None = None

    @property
    def asks(self) -> str:
        return "effect of the treatment" if self.modifiers is None else f"effect of the treatment by {self.modifiers}"

    @property
    def vector(self) -> bool:
        return self.modifiers is not None

    def _modifiers(self, sample: Sample) -> tuple[Floats, tuple[str, ...]]:
        """(n, k) modifiers v, and the names of the coefficients."""
        if self.modifiers is None:
            return np.ones((sample.data.n, 1)), ("action",)
        design, names = covariate_design(self.modifiers, sample.data, sample.data.observations)
        return design, tuple("action" if name == "Intercept" else f"action:{name}" for name in names)

    def solver(self, sample: Sample) -> Callable[[Sample], Floats]:
        return partial(self._resolved, *self._modifiers(sample))

    def _resolved(self, modifiers: Floats, names: tuple[str, ...], sample: Sample) -> Floats:
        residual = treatment_values(sample.data) - sample.treatment(self.propensity).mean
        return _solve(modifiers[sample.rows], names, sample, residual)[0]

    def fitted(self, sample: Sample) -> Fitted:
        modifiers, names = self._modifiers(sample)
        fit = sample.treatment(self.propensity)
        treatment = treatment_values(sample.data)
        values, inverse = _solve(modifiers, names, sample, treatment - fit.mean)
        unexposed = sample.data.rewards - treatment * (modifiers @ values)
        slopes = -(sample.weights * unexposed)[:, None] * (modifiers @ inverse.T)
        influence = -(treatment - fit.mean)[:, None] * slopes
        part = np.zeros_like(slopes) if fit.known else fit.through_mean(slopes)
        unknown = ["propensity"] if part is None else []
        diagnostics = {
            "behavior": "logged or default" if self.propensity is None else label(self.propensity),
            "folds": (fit.folds, None),
        }
        return Fitted(values, influence if part is None else influence + part, names, diagnostics, unstacked_note([fit], unknown))


def _solve(modifiers: Floats, names: tuple[str, ...], sample: Sample, residual: Floats) -> tuple[Floats, Floats]:
    """(k,) psi, and the inverse (k, k) of the mean of w A (A - p) v v'."""
    size = np.sqrt(np.mean(modifiers**2, axis=0))
    if (size == 0).any():
        raise DataError(f"modifiers: {names[int(np.argmin(size))]} is 0 in every decision; leave the column out.")
    scaled = modifiers / size
    weighted = (sample.weights * residual)[:, None] * scaled
    gram = weighted.T @ (treatment_values(sample.data)[:, None] * scaled) / len(scaled)
    if np.linalg.cond(gram) > 1e12:
        raise DataError(
            f"modifiers: the coefficients {', '.join(names)} cannot be told apart: the treatment does not vary given the "
            "covariates, or a column is a combination of others. Shorten the formula."
        )
    inverse: Floats = np.linalg.inv(gram) / size[:, None] / size
    return inverse @ (modifiers.T @ (sample.weights * residual * sample.data.rewards)) / len(scaled), inverse
