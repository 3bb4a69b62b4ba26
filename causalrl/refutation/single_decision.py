"""Weighted and augmented values of one decision in many changed data sets at once, in kernels: the values of the estimators."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats
from causalrl.data import End, Trajectories
from causalrl.estimands import ATE, Contrast, Estimand, PolicyValue
from causalrl.estimators.base import Estimator
from causalrl.estimators.doubly_robust import DR, WDR
from causalrl.estimators.weighting import IS, PDIS, PDWIS, WIS, ImportanceEstimator
from causalrl.kernels.placebo import decision_values, logit_of_actions
from causalrl.nuisances.behavior import Logged, as_behavior
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.features import Standardized
from causalrl.nuisances.linear import LinearQ
from causalrl.nuisances.logit import DIVERGED, MAX_ITERATIONS, TOLERANCE, Design, Logit
from causalrl.nuisances.regression import PerAction

_ENTRIES = 4_000_000
"""Replicates are computed in blocks of about this many decisions."""


@dataclass(frozen=True, eq=False)
class SingleDecision:
    """Weighting or a linear AIPW of one decision, with logged propensities or a logit.

    Attributes:
        data: as they are. design, ridge: of the outcome's regressions, (n, 1 + d); `augmented` says whether there are any.
        logit: (n, r) basis of the logit, None for logged propensities.
        targets: (J, n, A) probabilities of the policies. combine: (K, J) the answers as differences of values.
        normalized, bound: of the weights.
    """

    data: Trajectories
    design: Floats
    ridge: float
    augmented: bool
    logit: Floats | None
    targets: Floats
    combine: Floats
    normalized: bool
    bound: float

    @classmethod
    def of(cls, estimator: Estimator, data: Trajectories, goals: tuple[Estimand, ...]) -> SingleDecision | None:
        """None where the estimator or a goal is another, and each data set has to be estimated on its own."""
        signed = [_signed(goal) for goal in goals]
        if type(estimator) not in (IS, WIS, PDIS, PDWIS, DR, WDR) or not _one_decision(data) or not all(signed):
            return None
        assert isinstance(estimator, ImportanceEstimator)
        behavior, q = as_behavior(estimator.behavior, data), _linear(estimator)
        logit = isinstance(behavior, Logit) and behavior.compiled
        if not (logit or isinstance(behavior, Logged)) or q is None or estimator.folds not in (None, 1):
            return None
        nuisances = Nuisances(data)
        steps, augmented = nuisances.steps(None), isinstance(estimator, DR | WDR)
        terms = [(k, sign, value) for k, parts in enumerate(signed) for sign, value in parts]
        combine = np.zeros((len(goals), len(terms)))
        for j, (k, sign, _) in enumerate(terms):
            combine[k, j] = sign
        return cls(
            data,
            Standardized(q.features, steps).with_intercept(steps.observations) if augmented else np.ones((data.n, 1)),
            float(q.ridge),
            augmented,
            np.ascontiguousarray(Design(None, steps).basis(steps.observations)) if logit else None,
            np.stack([nuisances.target(value.policy, None, None, value.horizon).at_steps for _, _, value in terms]),
            combine,
            isinstance(estimator, WIS | PDWIS | WDR),
            np.inf if estimator.truncate is None else float(estimator.truncate),
        )

    def values(self, changed: Iterable[Trajectories]) -> Floats:
        """(R, K) answers on data sets that differ in actions, logged propensities and outcomes; NaN where one has none."""
        size, rest, ones = max(2, _ENTRIES // self.data.n), iter(changed), np.ones((1, self.data.n))
        blocks = iter(lambda: list(islice(rest, size)), [])
        return np.concatenate([self._block(block, ones) for block in blocks])

    def refitted(self, weights: Floats) -> Floats:
        """(R, K) answers under whole-number weights (R, n) of the trajectories; NaN where there is none."""
        return self._block([self.data], weights)

    def _block(self, block: list[Trajectories], weights: Floats) -> Floats:
        actions, rewards = _rows([data.actions for data in block]), _rows([data.rewards for data in block])
        if self.logit is None:
            propensities = np.stack([_logged(data) for data in block])
        else:
            propensities = logit_of_actions(
                self.logit, actions, weights, self.data.n_actions, MAX_ITERATIONS, TOLERANCE, DIVERGED
            )
        columns = actions, rewards, weights, propensities
        values = decision_values(self.design, self.ridge, self.augmented, *columns, self.targets, self.normalized, self.bound)
        return np.asarray(np.sum(values[:, None] * self.combine, axis=2))


def _rows(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    """(R, n), or (1, n) where all are the same array."""
    return np.stack(arrays[:1] if all(array is arrays[0] for array in arrays) else arrays)


def _one_decision(data: Trajectories) -> bool:
    return bool((data.lengths == 1).all() and (data.end == End.TERMINATED).all()) and data.n_actions > 0


def _signed(goal: Estimand) -> list[tuple[float, PolicyValue]]:
    """The goal as a sum of values with signs; empty where it is none."""
    if isinstance(goal, ATE):
        goal = goal.contrast()
    if isinstance(goal, Contrast):
        terms = [(1.0, goal.policy), (-1.0, goal.reference)]
    else:
        terms = [(1.0, goal)] if isinstance(goal, PolicyValue) else []
    return [] if any(value.policy.needs_behavior for _, value in terms) else terms


def _linear(estimator: ImportanceEstimator) -> LinearQ | None:
    """The outcome's regressions as a `LinearQ`; None where they are others, or the estimator repeats its folds."""
    if not isinstance(estimator, DR | WDR):
        return LinearQ()
    q = estimator.q
    if estimator.repeats > 1:
        return None
    if isinstance(q, PerAction):
        from sklearn.linear_model import LinearRegression

        plain = type(q.regressor) is LinearRegression and q.regressor.get_params() == LinearRegression().get_params()
        return LinearQ() if plain else None
    return q if isinstance(q, LinearQ) else None


def _logged(data: Trajectories) -> Floats:
    """(n,) logged probability of each action."""
    logged = data.behavior_probabilities
    assert logged is not None
    return logged if logged.ndim == 1 else np.asarray(logged[np.arange(data.n), data.actions])
