"""Comparing two arms in a tilted population: the weights h(e) / P(own arm) (Li, Morgan & Zaslavsky 2018)."""

from __future__ import annotations

from causalrl.checks import Floats
from causalrl.estimands import ATE, PopulationEffect
from causalrl.nuisances.behavior import BehaviorLike
from causalrl.nuisances.crossfit import Nuisances


def comparison_weights(
    nuisances: Nuisances, goal: PopulationEffect | ATE, behavior: BehaviorLike | None, folds: int | None
) -> Floats:
    """(n,) 1 / P(own arm | X) for an ATE, times h(e) in a tilted population."""
    fitted = nuisances.behavior(behavior, folds, None)
    weights: Floats = 1 / fitted.logged
    return weights if isinstance(goal, ATE) else weights * goal.tilt(fitted.probabilities[:, 1])
