"""Policy values when the logger knew more than the record at one step: `NamkoongModel`, and the cruder `NaiveModel`.

Source: Namkoong, Keramati, Yadlowsky & Brunskill, Off-policy policy evaluation for sequential decisions under unobserved
confounding, NeurIPS 2020 (arXiv 2003.05623).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from causalrl.checks import Floats, whole_number
from causalrl.errors import EstimandError, SensitivityError
from causalrl.estimands import ATE, Contrast, Estimand, PolicyValue
from causalrl.estimators.base import Estimator, FittedEstimator, Refitted, label
from causalrl.estimators.weighting import IS
from causalrl.inference.base import Evidence, check_level
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from causalrl.sensitivity.base import BOUND_COLUMNS, SensitivityAnalysis, SensitivityModel, about_zero, checked_gammas
from causalrl.sensitivity.decisions import Decision, expectile_bounds, naive_bounds

FEW = 10
"""Effective trajectories from which the tails of a group's outcomes are hardly seen."""


@dataclass(frozen=True)
class OneStepModel(SensitivityModel):
    """Base of the models in which the logger may have known more at one step, and nowhere else.

    Args:
        gammas: increasing strengths from 1 on.
        step: the step, from 0.
        replicates: bootstrap resamples of the clusters, behaviour policy learned anew in each.
        level: of the interval.
    """

    gammas: Sequence[float]
    step: int = 0
    replicates: int = 200
    level: float = 0.95

    def __post_init__(self) -> None:
        object.__setattr__(self, "gammas", checked_gammas(self.gammas))
        whole_number("step", self.step, 0, SensitivityError)
        whole_number("replicates", self.replicates, 2, SensitivityError)
        check_level(self.level)

    @abstractmethod
    def curves(self, decision: Decision, propensities: Floats, gammas: Floats, drawn: Floats) -> Floats:
        """(B, 2, K) bounds under trajectory weights (B, n); see `decisions.Curves`."""

    @abstractmethod
    def effect(self, gamma: float) -> str:
        """What an unobserved confounder does."""

    def remarks(self, found: Sequence[Decision]) -> list[str]:
        """What to say of the data."""
        mass = max(own.ratios.unsupported_mass or 0.0 for own in found)
        if not mass:
            return []
        return [f"{mass:.1%} of the target's probability lies on actions that were never taken, and no bound holds for these."]

    def analyse(self, estimator: Estimator, nuisances: Nuisances, goal: Estimand) -> SensitivityAnalysis:
        """The curve of bounds of a policy value, a contrast of two, or the effect of one of two arms.

        Raises:
            EstimandError: for another estimator than `IS` without truncation, or another estimand.
            SensitivityError: for continuous actions, or a step that no record reaches.
        """
        import pandas as pd

        from causalrl.report.sensitivity_plots import bounds_plot

        _check_estimator(self, estimator, nuisances)
        recipe, values = cast(IS, estimator), policy_values(self, goal)
        found = [Decision.of(recipe, nuisances, value, self.step) for value in values]
        estimate = FittedEstimator(estimator, nuisances).estimate(goal)
        low, high = self._point(recipe, values, nuisances)
        _check_bounds(low, high)
        spread = np.std(self._resampled(recipe, values, nuisances, found), axis=0, ddof=1)
        half = _normal_quantile(self.level) * spread
        columns = (np.asarray(self.gammas), low, high, low - half[0], high + half[1])
        frame = pd.DataFrame(dict(zip(BOUND_COLUMNS, columns, strict=True)))
        notes = [*self._reading(goal, columns[3], columns[4]), *self.remarks(found)]
        return SensitivityAnalysis(str(self), estimate, frame, tuple(notes), bounds_plot)

    def _point(self, estimator: IS, values: Sequence[PolicyValue], nuisances: Nuisances) -> Floats:
        """(2, K) bounds under the weights of the nuisances."""
        drawn = np.ones(nuisances.data.n) if nuisances.weights is None else nuisances.weights
        found = [Decision.of(estimator, nuisances, value, self.step) for value in values]
        gammas = np.asarray(self.gammas)
        bounds: Floats = difference([self.curves(own, own.logged, gammas, drawn[None]) for own in found])[0]
        return bounds

    def _resampled(self, estimator: IS, values: Sequence[PolicyValue], nuisances: Nuisances, found: Sequence[Decision]) -> Floats:
        """(B, 2, K) bounds on resampled clusters, in a kernel where every behaviour policy has one."""
        gammas, clusters = np.asarray(self.gammas), nuisances.data.clusters

        def compiled(counts: Floats) -> Floats:
            drawn = np.ascontiguousarray(counts[:, clusters])
            return difference([own.refitted(self.curves, gammas, drawn) for own in found])

        slow = Refitted(nuisances, lambda own: self._point(estimator, values, own), (2, len(gammas)))
        refit: Callable[[Floats], Floats] = compiled if all(own.compiled for own in found) else slow
        evidence = Evidence(0.0, clusters, refit=refit)
        return evidence.refitted(self.replicates, derive_seed(nuisances.seed, "sensitivity"))

    def _reading(self, goal: Estimand, low: Floats, high: Floats) -> list[str]:
        """What the curve says."""
        last, what = self.gammas[-1], "value" if isinstance(goal, PolicyValue) else "difference"
        reach = f"the {what} lies in [{low[-1]:.4g}, {high[-1]:.4g}] ({self.level:.0%} interval)"
        found = [f"If at step {self.step} an unobserved confounder {self.effect(last)}, {reach}."]
        if not isinstance(goal, PolicyValue):
            found.append(about_zero(np.asarray(self.gammas), low, high))
        return found


@dataclass(frozen=True)
class NamkoongModel(OneStepModel):
    """Bounds of a policy value when, at one step, the odds of any two actions change by at most gamma with what was not recorded.

    The model: given the observation S_t at step t alone, the odds of two actions under any two values of (U, H) differ by a
    factor of gamma at most, where U was not recorded and H is the record before t; averaged over U they depend on S_t alone, and
    at all other steps the record tells all that the logger went by. At step 0 there is no H. At a later step a limit between two
    values of U given (S_t, H) is the same, if the law of the return given S_t and A_t does not depend on H; if it does, the true
    value can lie outside the bounds for that gamma, and what tells of the return has to be put into the observation at t.

    Where the logger acts like the target its outcomes are seen; elsewhere they are bounded. With pi the target, b the behaviour
    policy given S_t, rho the ratios pi / b, P the rewards before t, y the return from t on times the ratios after t, and
    kappa(s, a) the expectile of y,

        lower bound = mean of rho P + rho_(<t) pi(A | S) [y + (1 - b(A | S)) / b(A | S) kappa(S, A)],

    kappa(s, a) = argmin_k sum over those with (S, A) = (s, a) of gamma min(y - k, 0)^2 + max(y - k, 0)^2, weighted with
    rho_(<t). At gamma = 1 it is the estimate; the upper bound is that of the negative return, negated. For integer states kappa
    is exact; for vectors it is linear in the features, one an action, and the bounds are those of the model as far as it is.

    A bound is for records with several trajectories of positive weight in each state and action: from one alone it sees no
    spread, and a finding says where their effective number is below 10. The interval adds and subtracts a normal quantile of the
    bootstrap's standard deviation, and holds both bounds at the level.

    Source: Namkoong et al. (2020), section 4, where the step is the first, or kappa depends on all of the record up to it.

    Args:
        gammas: increasing odds ratios from 1 on.
        step: the step, from 0. Records that end before it count as they are.
        replicates: bootstrap resamples of the clusters, behaviour policy learned anew in each.
        level: of the interval.

    Raises:
        SensitivityError: for no increasing gammas from 1 on, no such step, or fewer than 2 replicates.
        IntervalError: for a level outside (0, 1).

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0] * 8, [0, 1] * 4, [1, 1, 1, 0, 1, 1, 0, 0], range(9))
        >>> model = NamkoongModel(gammas=[1, 2], step=0, replicates=20)
        >>> found = crl.sensitivity_analysis(crl.IS(), data, crl.Always(1), model)
        >>> found.frame[["gamma", "low", "high"]].round(4).to_numpy().tolist()
        [[1.0, 0.5, 0.5], [2.0, 0.4167, 0.5833]]
    """

    def curves(self, decision: Decision, propensities: Floats, gammas: Floats, drawn: Floats) -> Floats:
        return expectile_bounds(decision, propensities, gammas, drawn)

    def effect(self, gamma: float) -> str:
        return f"changes the odds of any two actions by a factor of {gamma:g} at most"

    def remarks(self, found: Sequence[Decision]) -> list[str]:
        return [*self._about_history(), *_sparse(found), *super().remarks(found)]

    def _about_history(self) -> list[str]:
        if self.step == 0:
            return []
        return [
            f"gamma counts what was recorded before step {self.step} together with the unobserved: the odds differ by gamma at "
            f"most between any two values of both, given the observation at step {self.step}. Where the return depends on the "
            "earlier record, beyond that observation and the action, add what it depends on to the observation."
        ]


@dataclass(frozen=True)
class NaiveModel(OneStepModel):
    """Bounds of a policy value when every weight may be gamma times too large or too small at one step: valid, but wide.

    The lower bound is the mean of rho times (past rewards + y / gamma where y >= 0, gamma y elsewhere), with rho the product of
    all ratios and y the return from the step on; the upper one is the other way round. It never lies inside the bounds of
    `NamkoongModel`, which also knows that weights average 1, and that those who act like the target are observed.

    Source: Namkoong et al. (2020), the naive bound of their experiments.

    Args:
        gammas, step, replicates, level: as of `NamkoongModel`.

    Raises:
        SensitivityError, IntervalError: as `NamkoongModel`.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0] * 8, [0, 1] * 4, [1, 1, 1, 0, 1, 1, 0, 0], range(9))
        >>> found = crl.sensitivity_analysis(crl.IS(), data, crl.Always(1), NaiveModel(gammas=[1, 2], replicates=20))
        >>> found.frame[["gamma", "low", "high"]].to_numpy().tolist()
        [[1.0, 0.5, 0.5], [2.0, 0.25, 1.0]]
    """

    def curves(self, decision: Decision, propensities: Floats, gammas: Floats, drawn: Floats) -> Floats:
        return naive_bounds(decision, propensities, gammas, drawn)

    def effect(self, gamma: float) -> str:
        return f"changes the weights by a factor of {gamma:g} at most"


def policy_values(model: SensitivityModel, goal: Estimand) -> tuple[PolicyValue, ...]:
    """The value that is asked for, or the two whose difference is."""
    if isinstance(goal, ATE):
        goal = goal.contrast()
    if isinstance(goal, Contrast):
        return goal.policy, goal.reference
    if isinstance(goal, PolicyValue):
        return (goal,)
    raise EstimandError(f"{goal}: {label(model)} bounds policy values, contrasts of two and ATE(). Use one of these.")


def difference(bounds: Sequence[Floats]) -> Floats:
    """Bounds (B, 2, K) of one value, or of the first less the second."""
    if len(bounds) == 1:
        return bounds[0]
    first, second = bounds
    return first - second[:, ::-1]


def _check_estimator(model: SensitivityModel, estimator: Estimator, nuisances: Nuisances) -> None:
    if not isinstance(estimator, IS):
        raise EstimandError(f"estimator: {estimator}, but {label(model)} bounds importance sampling; use IS().")
    if estimator.truncate is not None:
        raise EstimandError(f"truncate: {estimator.truncate:g} changes the value that is estimated, and has no bounds; use IS().")
    if nuisances.data.n_actions == 0:
        raise SensitivityError("actions: they are continuous, and have no odds ratio; bin them into integers first.")


def _check_bounds(low: Floats, high: Floats) -> None:
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise SensitivityError(
            "gammas: a linear expectile did not settle, or a bound is beyond the largest float. Use integer states, fewer "
            "features, or a smaller gamma."
        )


def _normal_quantile(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))


def _sparse(found: Sequence[Decision]) -> list[str]:
    """A warning about groups in which the tails of the outcomes are hardly seen."""
    if not found[0].ratios.target.steps.data.tabular:
        return []
    share = max(_thin_share(*own.effective_sizes()) for own in found)
    if share < 0.05:
        return []
    return [
        f"{share:.0%} of the weight that a confounder can move lies on states and actions at the step with fewer than {FEW} "
        "effective trajectories, which show too little of the spread of outcomes: the bounds may be too narrow. Use coarser "
        "states."
    ]


def _thin_share(mass: Floats, sizes: Floats) -> float:
    """Of the weight, that in groups below `FEW`."""
    return float(mass[sizes < FEW].sum() / mass.sum()) if mass.any() else 0.0
