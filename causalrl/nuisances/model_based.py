"""Model-based evaluation: dynamic programming in the count model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from causalrl.errors import EstimandError
from causalrl.nuisances.model import Absorb, CountModel, Decisions, UnseenRule, require_countable
from causalrl.nuisances.tabular import ConstantValue, StateMean, TabularQ, TabularQFunction
from causalrl.nuisances.value import DifferencesRefit, QFunction, StartRefit, ValueProblem


@dataclass(frozen=True)
class ModelBased:
    """Q in the maximum-likelihood Markov decision process of the logged transitions, pooled over time.

    For a finite horizon the backward induction of `TabularQ` under the same rule (certainty equivalence), else one linear system,
    exact where `TabularQ` iterates.

    Args:
        unseen: what follows a decision that was never logged, `Absorb(value)` or `StateMean()`.

    Raises:
        EstimandError: for another rule.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 1, 0], [0, 1, 1], [1.0, 3.0, 2.0], [0, 2, 3])
        >>> crl.FQE(crl.ModelBased(unseen=crl.Absorb(0.0))).estimate(data, crl.PolicyValue(crl.Uniform(2), horizon=2)).value
        2.25
    """

    unseen: UnseenRule
    default_folds: int = field(default=5, init=False, repr=False)
    known: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        check_rule(self.unseen)

    def fit(self, problem: ValueProblem) -> QFunction:
        require_countable(problem.steps.data)
        if problem.horizon is not None or not problem.sequential:
            return self._counted.fit(problem)
        steps = problem.steps
        decisions = Decisions.logged(steps, problem.weights)
        states, actions = steps.data.n_states, steps.data.n_actions
        starts = np.bincount(steps.observations[steps.first], problem.weights[steps.first], states)
        model = CountModel.of(decisions, starts / (starts.sum() or 1.0), actions, np.array([np.nan]))
        return TabularQFunction(model.complete(self.unseen).q(problem.target.table(None), None, problem.discount))

    def start_refit(self, problem: ValueProblem) -> StartRefit:
        """That of `TabularQ` under the same rule: the same equations, solved in a kernel."""
        return self._counted.start_refit(problem)

    def differences_refit(self, problem: ValueProblem) -> DifferencesRefit:
        """That of `TabularQ` under the same rule."""
        return self._counted.differences_refit(problem)

    @property
    def _counted(self) -> TabularQ:
        return TabularQ(unseen=ConstantValue(self.unseen.value) if isinstance(self.unseen, Absorb) else self.unseen)


def check_rule(unseen: object) -> None:
    """Raises EstimandError for what is no rule for decisions never seen."""
    if not isinstance(unseen, Absorb | StateMean):
        raise EstimandError(f"unseen: {unseen!r}; pass Absorb(value), or StateMean().")
