"""What the models of a single treatment effect require of the question: one decision, two arms."""

from __future__ import annotations

from causalrl.data import End
from causalrl.errors import EstimandError
from causalrl.estimands import ATE, Contrast, Estimand, PopulationEffect
from causalrl.estimators.base import require_arms
from causalrl.nuisances.crossfit import Nuisances
from causalrl.policies import Always
from causalrl.sensitivity.base import SensitivityModel


def compared_arms(model: SensitivityModel, nuisances: Nuisances, goal: Estimand) -> tuple[int, int]:
    """The treated and the control arm of an effect of one decision.

    Raises:
        EstimandError: for sequential data, a question that compares no two arms, and an arm that nobody took.
    """
    data = nuisances.data
    if (data.lengths > 1).any() or (data.end != End.TERMINATED).any():
        raise EstimandError(f"{model}: is for one decision, and the data are sequential. Use NamkoongModel(...).")
    if data.n_actions == 0:
        raise EstimandError(f"{model}: compares two arms, and the actions are continuous; bin them into integers first.")
    treated, control = _arms(model, goal)
    if treated == control:
        raise EstimandError(f"{goal}: treated and control are the same arm; name two.")
    require_arms(data, treated, control)
    return treated, control


def _arms(model: SensitivityModel, goal: Estimand) -> tuple[int, int]:
    if isinstance(goal, ATE | PopulationEffect):
        return goal.treated, goal.control
    if isinstance(goal, Contrast):
        own, other = goal.policy.policy, goal.reference.policy
        if isinstance(own, Always) and isinstance(other, Always):
            return own.action, other.action
    raise EstimandError(f"{model}: is about the effect of one arm against another, and {goal!r} is none. Ask ATE().")
