"""`BalancedMean`: means of arms under weights that balance covariates by construction."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from causalrl.checks import Bools, Floats
from causalrl.data import End
from causalrl.errors import EstimandError
from causalrl.estimands import ATC, ATE, ATT, PolicyValue, PopulationEffect
from causalrl.estimate import Estimate
from causalrl.estimators.base import Estimator, Score, estimate_from_score, label, require_arms, weighted_point
from causalrl.estimators.populations import Comparison, effect_from_score
from causalrl.inference.functionals import Combined, Sum
from causalrl.inference.operations import ADD
from causalrl.nuisances.balance import BalancingWeights, EntropyBalancing, FittedBalance
from causalrl.nuisances.crossfit import Nuisances
from causalrl.policies import Always


@dataclass(frozen=True)
class BalancedMean(Estimator):
    """Mean outcome of an arm under balancing weights, sum w Y / sum w; effects are differences of two.

    It answers `Always(a)`, `ATE()`, `ATT()` and `ATC()` of single decisions. The standard error stacks the estimating equations
    of the weights under those of the means (M-estimation; Stefanski & Boos 2002, American Statistician 56:29).

    Args:
        weights: `EntropyBalancing()` or `CBPS()`.

    Raises:
        EstimandError: from `estimate`, for another question, or sequential data.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> x = np.array([[0.0], [1.0], [2.0], [0.0], [1.0], [3.0]])
        >>> study = crl.Trajectories.from_cross_section(x, [1, 1, 1, 0, 0, 0], [1.0, 2.0, 3.0, 0.0, 1.0, 3.0])
        >>> crl.IPW(weights=crl.EntropyBalancing()) == BalancedMean(crl.EntropyBalancing())
        True
        >>> round(BalancedMean().estimate(study, crl.ATE()).value, 9)
        1.0
    """

    weights: BalancingWeights = field(default_factory=EntropyBalancing)

    def __post_init__(self) -> None:
        if not isinstance(self.weights, BalancingWeights):
            raise EstimandError(f"weights: {self.weights!r} are no balancing weights; pass EntropyBalancing() or CBPS().")

    def policy_value(self, nuisances: Nuisances, goal: PolicyValue) -> Estimate:
        return estimate_from_score(self, nuisances, goal, self._arm_score(nuisances, goal))

    def point(self, nuisances: Nuisances, goal: PolicyValue) -> float:
        return weighted_point(self._arm_score(nuisances, goal), nuisances.weights)

    def average_effect(self, nuisances: Nuisances, goal: PopulationEffect | ATE) -> Estimate:
        return effect_from_score(self, nuisances, goal, lambda own: self._score(own, (1, 0), self._population(own, goal)))

    def balancing_weights(self, nuisances: Nuisances, goal: PopulationEffect | ATE) -> Floats | None:
        arms = (goal.treated, goal.control) if isinstance(goal, ATE) else (1, 0)
        fits = self._fits(nuisances, arms, self._population(nuisances, goal))
        weights: Floats = np.sum([fit.weights for fit in fits], axis=0)
        return weights

    def _arm_score(self, nuisances: Nuisances, goal: PolicyValue) -> Score:
        data, policy = nuisances.data, goal.policy
        if (data.lengths > 1).any() or (data.end != End.TERMINATED).any():
            raise EstimandError(f"{self}: balances the arms of one decision, and the data are sequential. Use WIS() or DR(...).")
        if not isinstance(policy, Always):
            raise EstimandError(f"{self}: gives the values of arms, Always(a), and not that of {policy}. Use WIS() or DR(...).")
        if data.n_actions == 0:
            raise EstimandError(f"{self}: the actions are continuous, and it compares arms; bin them into integers first.")
        policy.bind(data.n_actions)
        return self._score(nuisances, (policy.action,), np.ones(data.n, np.bool_))

    def _population(self, nuisances: Nuisances, goal: PopulationEffect | ATE) -> Bools:
        """(n,) whose covariate means the arms are brought to."""
        actions = nuisances.data.actions
        if isinstance(goal, ATE):
            return np.ones(len(actions), np.bool_)
        if not isinstance(goal, ATT | ATC):
            raise EstimandError(
                f"{self}: gives no {goal}: nobody in the data makes up that population by himself. Use IPW(), whose weights are "
                "h(e) / P(own arm)."
            )
        population: Bools = actions == (1 if isinstance(goal, ATT) else 0)
        return population

    def _fits(self, nuisances: Nuisances, arms: tuple[int, ...], population: Bools) -> list[FittedBalance]:
        require_arms(nuisances.data, *arms)
        multiplicity = np.ones(nuisances.data.n) if nuisances.weights is None else nuisances.weights
        return [self.weights.fit(nuisances.steps(None), multiplicity, arm, population) for arm in arms]

    def _score(self, nuisances: Nuisances, arms: tuple[int, ...], population: Bools) -> Score:
        """The score of one arm's mean, or of the difference of two, in a population."""
        data, fits = nuisances.data, self._fits(nuisances, arms, population)
        weights = np.sum([fit.weights for fit in fits], axis=0)
        comparison = Comparison(data.rewards, weights, tuple(data.actions == arm for arm in arms))
        slopes = comparison.slopes
        correction = np.sum([fit.correction(slopes) for fit in fits], axis=0)
        figures, notes = comparison.figures()
        figures |= {"behavior": label(self.weights), "folds": (1, None)}
        functional = Combined(ADD, comparison.functional, Sum())
        return Score(functional, np.column_stack([comparison.moments, correction]), figures, notes, fixed=False)
