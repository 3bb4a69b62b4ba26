"""Marginal structural models of one decision, by weighted regression (Robins, Hernan & Brumback 2000)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Floats, flag
from causalrl.data import Trajectories
from causalrl.diagnostics.record import Note
from causalrl.diagnostics.weights import effective_sample_size, largest_share, mean_note, overlap_notes, tail_index
from causalrl.errors import DataError, EstimandError, SeparationError, WeightOverflowError
from causalrl.estimators.base import label
from causalrl.estimators.structural import Fitted, Sample, StructuralModel, unstacked_note
from causalrl.kernels.logit import newton_logit
from causalrl.nuisances.formulas import Formula, covariate_columns, require_independent, with_columns
from causalrl.nuisances.treatment_models import TreatmentFit, TreatmentModel, treatment_values

_DIVERGED = 20.0
"""A linear predictor beyond this that still moves is on its way to infinity."""


class Link(Protocol):
    """How the mean outcome depends on the linear predictor, and the weighted regression that goes with it."""

    def coefficients(self, design: Floats, outcomes: Floats, weights: Floats) -> Floats:
        """(d,) solution of sum of w x (y - mean(x'b)) = 0; the design has full rank."""
        ...

    def mean(self, predictor: Floats) -> Floats: ...

    def slope(self, mean: Floats) -> Floats:
        """Derivative of the mean in the predictor."""
        ...


@dataclass(frozen=True)
class Identity:
    """A linear model of the mean: coefficients are differences.

    Example:
        >>> Identity().mean(np.array([2.0]))
        array([2.])
    """

    def coefficients(self, design: Floats, outcomes: Floats, weights: Floats) -> Floats:
        root = np.sqrt(weights)
        return np.asarray(np.linalg.lstsq(root[:, None] * design, root * outcomes, rcond=None)[0])

    def mean(self, predictor: Floats) -> Floats:
        return predictor

    def slope(self, mean: Floats) -> Floats:
        return np.ones_like(mean)


@dataclass(frozen=True)
class LogitLink:
    """A logistic model of the risk of a binary outcome: coefficients are log odds ratios.

    Example:
        >>> LogitLink().mean(np.array([0.0]))
        array([0.5])
    """

    def coefficients(self, design: Floats, outcomes: Floats, weights: Floats) -> Floats:
        if not np.isin(outcomes, (0.0, 1.0)).all():
            row = int(np.flatnonzero(~np.isin(outcomes, (0.0, 1.0)))[0])
            raise DataError(f"outcome: row {row} is {outcomes[row]}; LogitLink() models outcomes of 0 and 1. Use Identity().")
        found, change, _ = newton_logit(np.ascontiguousarray(design), outcomes.astype(np.int64), weights, 2, 100, 1e-10)
        if np.isinf(change) or (np.abs(design @ found[0]).max() > _DIVERGED and change > 1e-3):
            raise SeparationError(
                "outcome: the model predicts it perfectly in some group, so that its odds ratio does not exist. Use Identity(), "
                "or merge the groups."
            )
        return np.asarray(found[0])

    def mean(self, predictor: Floats) -> Floats:
        from scipy.special import expit

        values: Floats = expit(predictor)
        return values

    def slope(self, mean: Floats) -> Floats:
        return mean * (1 - mean)


@dataclass(frozen=True)
class MSM(StructuralModel):
    """Marginal structural model: E[Y(a) | V] = mean(x(a, V)'b) by regression with weights f(A | V) / f(A | L).

    The numerator changes the weights' spread, and not what they remove; it may depend on the modifiers V alone, which the
    formula then holds. Standard errors are of the stacked estimating equations of regression, denominator and numerator; of a
    robust ("GEE", HC0) regression that takes the weights as known they are `stacked=False`, times sqrt((n - 1) / n).

    Source: Robins, Hernan & Brumback, Epidemiology 11:550, 2000; Hernan & Robins, *What If*, chapter 12.

    Args:
        formula: right-hand side in `action` (a number; `C(action)` for several arms) and effect modifiers.
        denominator: model of the treatment given confounders: a behaviour model, or `NormalDensity` of a continuous treatment;
            None is the logged probabilities where the data have them, else Counts() on states, Logit() on vectors.
        numerator: model given modifiers alone, such as `Logit("1")`; None is 1, so that weights are 1 / f(A | L).
        link: `Identity()` or `LogitLink()`.
        stacked: standard errors know that denominator and numerator were learned.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(2000, 1))
        >>> arm = (rng.random(2000) < 1 / (1 + np.exp(-x[:, 0]))).astype(int)
        >>> study = crl.Trajectories.from_cross_section(x, arm, 2.0 * arm + x[:, 0], feature_names=["age"])
        >>> estimate = crl.MSM("action", crl.Logit("age"), numerator=crl.Logit("1")).estimate(study)
        >>> estimate.labels, 2.0 in estimate["action"].interval()
        (('Intercept', 'action'), True)
    """

    formula: str
    denominator: TreatmentModel | None = None
    numerator: TreatmentModel | None = field(default=None, kw_only=True)
    link: Link = field(default_factory=Identity, kw_only=True)
    stacked: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        flag("stacked", self.stacked, EstimandError)
        if isinstance(self.link, type) or not hasattr(self.link, "coefficients"):
            raise EstimandError(f"link: {self.link!r} is no link; pass Identity() or LogitLink().")

    @property
    def asks(self) -> str:
        return f"coefficients of {self.formula}"

    def weights(self, data: Trajectories, *, observation_weights: ArrayLike | None = None, seed: int = 0) -> Floats:
        """(n,) weights of the regression, observation weights included.

        Args:
            data, observation_weights, seed: see `estimate`.
        """
        sample = Sample.of(data, observation_weights, seed)
        return self._weights(sample, *self._models(sample))

    def _models(self, sample: Sample) -> tuple[TreatmentFit, TreatmentFit | None]:
        return sample.treatment(self.denominator), None if self.numerator is None else sample.treatment(self.numerator)

    def _weights(self, sample: Sample, denominator: TreatmentFit, numerator: TreatmentFit | None) -> Floats:
        logs = -denominator.log_density if numerator is None else numerator.log_density - denominator.log_density
        with np.errstate(over="ignore"):
            weights: Floats = sample.observation_weights * np.exp(logs)
        if not np.isfinite(weights).all():
            raise WeightOverflowError(
                f"weights: that of decision {int(np.argmax(logs))} is exp({logs.max():.0f}), beyond the largest float: the model "
                "of the treatment all but rules out what was taken. Mend denominator=."
            )
        return weights

    def _design(self, sample: Sample) -> tuple[Floats, tuple[str, ...]]:
        """(n, d) and the names of its columns."""
        data = sample.data
        action = treatment_values(data) if data.n_actions == 0 else data.actions
        columns = with_columns(covariate_columns(data, data.observations), action=action)
        formula = Formula(self.formula, columns)
        return formula.matrix(columns), formula.names

    def _solve(self, design: Floats, names: tuple[str, ...], sample: Sample, weights: Floats) -> Floats:
        require_independent(design, weights, names, "formula")
        size = np.sqrt(np.mean(design**2, axis=0))
        found: Floats = self.link.coefficients(design / size, sample.data.rewards, weights * sample.counts) / size
        return found

    def solver(self, sample: Sample) -> Callable[[Sample], Floats]:
        return partial(self._resolved, *self._design(sample))

    def _resolved(self, design: Floats, names: tuple[str, ...], sample: Sample) -> Floats:
        return self._solve(design[sample.rows], names, sample, self._weights(sample, *self._models(sample)))

    def fitted(self, sample: Sample) -> Fitted:
        design, names = self._design(sample)
        denominator, numerator = self._models(sample)
        weights = self._weights(sample, denominator, numerator)
        values = self._solve(design, names, sample, weights)
        mean = self.link.mean(design @ values)
        size = np.sqrt(np.mean(design**2, axis=0))
        scaled = design / size
        bread = scaled.T @ ((weights * self.link.slope(mean))[:, None] * scaled) / len(scaled)
        influence = (weights * (sample.data.rewards - mean))[:, None] * np.linalg.solve(bread, scaled.T).T / size
        fits = {"denominator": denominator} | ({} if numerator is None else {"numerator": numerator})
        unknown = []
        if self.stacked:
            parts = {
                name: fit.through_density(influence if name == "numerator" else -influence)
                for name, fit in fits.items()
                if not fit.known
            }
            unknown = [name for name, part in parts.items() if part is None]
            influence = influence + sum(part for part in parts.values() if part is not None)
        notes = unstacked_note(list(fits.values()), unknown)
        diagnostics, overlap = self._diagnostics(weights, denominator, sample)
        return Fitted(values, influence, names, diagnostics, notes + overlap)

    def _diagnostics(self, weights: Floats, fit: TreatmentFit, sample: Sample) -> tuple[dict[str, object], list[Note]]:
        ess, share, tail = effective_sample_size(weights), largest_share(weights), tail_index(weights)
        ratios = weights / sample.observation_weights
        notes = overlap_notes(len(weights), ess, share, tail)
        if self.numerator is not None:
            notes += mean_note(ratios, float(np.average(ratios, weights=sample.observation_weights)))
        values: dict[str, object] = {
            "ess": ess,
            "max_weight": float(ratios.max()),
            "mean_weight": float(ratios.mean()),
            "largest_share": share,
            "tail_index": tail,
            "behavior": "logged or default" if self.denominator is None else label(self.denominator),
            "folds": (fit.folds, None),
        }
        return values, notes
