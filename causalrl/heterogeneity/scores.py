"""Doubly robust scores: one unbiased number a unit and action, from which effects, their summaries and policies are learned.

Source: Robins, Rotnitzky & Zhao (1994), J. American Statistical Association 89:846; cross-fitted as in Chernozhukov,
Chetverikov, Demirer, Duflo, Hansen, Newey & Robins (2018), Econometrics Journal 21:C1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Floats, array_of, whole_number
from causalrl.data import Trajectories
from causalrl.diagnostics.record import Diagnostics, Note, diagnostics_record
from causalrl.diagnostics.weights import effective_sample_size, largest_share, overlap_notes, tail_index
from causalrl.errors import DataError, EstimandError
from causalrl.estimate import Estimate
from causalrl.estimators.base import check_folds, in_sample, label, require_single_stage
from causalrl.inference.base import Evidence, Linearised
from causalrl.inference.functionals import Sum
from causalrl.nuisances.behavior import BehaviorLike
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.records import FittedBehavior
from causalrl.nuisances.value import Target, ValueModel
from causalrl.policies import Always, PolicyLike, action_probabilities, as_policy


@dataclass(frozen=True, eq=False, repr=False)
class DoublyRobustScores:
    """Scores Gamma_ia with E[Gamma_ia | X_i = x] = E[Y(a) | X = x]; make them with `doubly_robust_scores`.

    Attributes:
        gamma: (n, n_actions) scores.
        data: the single decisions that they belong to.
        recipe: what the nuisances were, as text.
        diagnostics: read-only mapping with the keys of `causalrl.diagnostics.record.KEYS`.
        fixed: no nuisance was learned from the data.
    """

    gamma: Floats
    data: Trajectories
    recipe: str
    diagnostics: Diagnostics
    fixed: bool

    def __post_init__(self) -> None:
        self.gamma.setflags(write=False)

    @property
    def n(self) -> int:
        """Number of units."""
        return len(self.gamma)

    @property
    def n_actions(self) -> int:
        """Number of actions."""
        return int(self.gamma.shape[1])

    @property
    def features(self) -> Floats:
        """(n, d) covariates; indicator columns of integer strata."""
        return self.data.features(self.data.observations)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """d names."""
        if not self.data.tabular:
            return self.data.feature_names
        kind = "state" if self.data.state_features is None else "feature"
        return tuple(f"{kind} {j}" for j in range(self.features.shape[1]))

    def effect(self, treated: int = 1, control: int = 0) -> Floats:
        """(n,) scores of the effect, Gamma_treated - Gamma_control.

        Raises:
            EstimandError: for an arm that is none, or one arm twice.
        """
        for arm in (treated, control):
            whole_number("arm", arm, 0, EstimandError, most=self.n_actions - 1)
        if treated == control:
            raise EstimandError(f"arm {treated}: is compared with itself; pass two arms.")
        difference: Floats = self.gamma[:, treated] - self.gamma[:, control]
        return difference

    def value(self, policy: PolicyLike) -> Estimate:
        """Value of a policy that was not learned from these data: the mean of sum_a pi(a | X_i) Gamma_ia.

        For a policy learned from them see `causalrl.learning.honest_value`.
        """
        target = as_policy(policy)
        if target.needs_behavior:
            raise EstimandError(f"policy {target}: is made of the behaviour policy; use AIPW(...).estimate(data, policy).")
        bound, data = target.bind(self.n_actions), self.data
        rows = action_probabilities(bound, data.observations, np.zeros(self.n, np.int64), self.n_actions)
        return self.mean(np.asarray((rows * self.gamma).sum(axis=1)), f"value of {bound}")

    def mean(self, values: Floats, estimand: str) -> Estimate:
        """The mean of n values made of the scores, as an estimate."""
        evidence = Evidence(float(values.mean()), self.data.clusters, Sum(), values[:, None])
        return self._estimate(evidence, estimand, None)

    def linearised(self, value: Floats, influence: Floats, estimand: str, labels: tuple[str, ...]) -> Estimate:
        """A vector (k,) with influence values (n, k) as an estimate."""
        evidence = Evidence(value, self.data.clusters, linear=Linearised(np.eye(len(value)), influence))
        return self._estimate(evidence, estimand, labels)

    def _estimate(self, evidence: Evidence, estimand: str, labels: tuple[str, ...] | None) -> Estimate:
        fingerprint = self.data.fingerprint
        return Estimate(evidence.value, self.recipe, estimand, self.diagnostics, evidence, fingerprint, self.fixed, labels)

    def take(self, units: ArrayLike) -> DoublyRobustScores:
        """The scores of the units with these indices, or where a mask is true; their nuisances stay as they are."""
        chosen = np.arange(self.n)[array_of("units", units)]
        return replace(self, gamma=self.gamma[chosen], data=self.data.take(chosen))

    def __repr__(self) -> str:
        means = ", ".join(f"{mean:.4g}" for mean in self.gamma.mean(axis=0))
        return f"{self.recipe}: n = {self.n}, mean of each action {means}"


def doubly_robust_scores(
    data: Trajectories, outcome: ValueModel, propensity: BehaviorLike | None = None, *, folds: int = 5, seed: int = 0
) -> DoublyRobustScores:
    """Cross-fitted scores Gamma_ia = mu_a(X_i) + 1(A_i = a) (Y_i - mu_a(X_i)) / P(A = a | X_i) of every unit and action.

    Nuisances of unit i are learned without its fold. Their error enters averages of the scores only as a product, that of
    mu times that of P, so that intervals made of them treat the nuisances as known.

    Args:
        data: single decisions.
        outcome: value model of mu, such as `PerAction(regressor)`.
        propensity: a behaviour model; None is the logged propensities where the data have them, else Counts() on states,
            Logit() on vectors.
        folds: cross-fitting folds by cluster of whatever is learned.
        seed: root of every random number.

    Raises:
        EstimandError: for sequential data or continuous actions. DataError: where an action never occurs. SupportError: where a
            logged action has probability 0.

    Example:
        >>> import causalrl as crl
        >>> from simulators import Point
        >>> from sklearn.linear_model import LinearRegression
        >>> study = Point().sample(2000, seed=0)
        >>> scores = doubly_robust_scores(study, crl.PerAction(LinearRegression()), crl.Logit())
        >>> round(float(scores.effect().mean()), 2), scores.gamma.shape
        (0.99, (2000, 2))
    """
    check_folds(folds)
    nuisances = Nuisances(data, seed)
    require_single_stage(data, "doubly_robust_scores")
    _require_all_arms(data)
    behavior = nuisances.behavior(propensity, folds, None)
    gamma, units, notes, fits = np.empty((data.n, data.n_actions)), np.arange(data.n), list[Note](), 1
    for arm in range(data.n_actions):
        target = nuisances.target(Always(arm), None, None, None)
        gamma[:, arm], notes, fits = _means(nuisances, outcome, target, folds)
    gamma[units, data.actions] += (data.rewards - gamma[units, data.actions]) / behavior.logged
    recipe = f"DoublyRobustScores(outcome={label(outcome)}, propensity={label(behavior.model)})"
    notes = notes + in_sample(outcome, fits, "corrects")
    return DoublyRobustScores(gamma, data, recipe, _diagnose(behavior, fits, notes), behavior.model.known and outcome.known)


def _means(nuisances: Nuisances, outcome: ValueModel, target: Target, folds: int) -> tuple[Floats, list[Note], int]:
    values = nuisances.values(outcome, target, 1.0, folds)
    if not np.isfinite(values.v).all():
        unit = int(np.flatnonzero(~np.isfinite(values.v))[0])
        raise DataError(f"outcome: {label(outcome)} predicts {values.v[unit]} for {target.policy} at unit {unit}.")
    return values.v, values.notes, values.folds


def _require_all_arms(data: Trajectories) -> None:
    counts = np.bincount(data.actions, minlength=data.n_actions)
    if (counts == 0).any():
        arm = int(np.flatnonzero(counts == 0)[0])
        raise DataError(f"actions: action {arm} of {data.n_actions} never occurs, so that it has no score; recode them from 0.")


def _diagnose(behavior: FittedBehavior, fits: int, notes: list[Note]) -> Diagnostics:
    """Overlap as the weights 1 / P(own action) show it, with every note."""
    weights = 1 / behavior.logged
    ess, largest = effective_sample_size(weights), largest_share(weights)
    notes = behavior.notes + notes + in_sample(behavior.model, len(behavior.folds), "gives propensities for")
    return diagnostics_record(
        notes + overlap_notes(len(weights), ess, largest, tail_index(weights)),
        ess=ess,
        max_weight=float(weights.max()),
        largest_share=largest,
        behavior=str(behavior.model),
        folds=(len(behavior.folds), fits),
    )
