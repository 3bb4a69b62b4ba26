"""Random common cause: a covariate that is noise is added to what the estimator adjusts for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints
from causalrl.data import Trajectories
from causalrl.derived_policies import Mixture
from causalrl.errors import EstimandError
from causalrl.estimands import CATE, Contrast, Estimand, PolicyValue
from causalrl.estimators.base import Estimator
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.behavior import KnownPropensity
from causalrl.nuisances.value import KnownQ
from causalrl.policies import Policy, PolicyFunction
from causalrl.refutation.base import (
    Question,
    Refutation,
    Refuter,
    as_number,
    check_replicates,
    first_finding,
    replicated,
    standard_error,
)

Without: TypeAlias = "Callable[[NDArray[Any]], NDArray[Any]]"


@dataclass(frozen=True)
class RandomCommonCause(Refuter):
    """A covariate that is pure noise, drawn anew for every decision, which the estimator adjusts for like the others.

    Covariates get a standard normal column; integer states are crossed with a random bit (state s becomes 2 s or 2 s + 1), so
    that saturated nuisances learn from half the data each. The estimand is the same, and the policies do not see the noise. An
    estimator may move by terms of order 1 / n; `p_value` = 2 Phi(-|m| / sqrt(s^2 + v / R)) says whether the mean movement m is
    large beside the standard error s of the estimate (v the variance of the movements). It is not uniform where nothing is
    wrong, but close to 1.

    Args:
        replicates: number of draws, at least 2.

    Raises:
        DataError: for fewer than 2 replicates. EstimandError: from `refute`, where the estimator does not look at the new
            covariate, so that nothing would be tested (logged propensities, formulas that name their covariates).

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_cross_section([[0.0], [1.0], [0.5]] * 40, [0, 1] * 60, [1.0, 2.0, 3.0, 4.0] * 30)
        >>> crl.refute(crl.IPW(), data, crl.ATE(), crl.RandomCommonCause(10)).p_value > 0.5
        True
    """

    replicates: int = 100

    def __post_init__(self) -> None:
        check_replicates(self.replicates)

    def examine(self, question: Question) -> Refutation:
        data, without = question.data, _of_states if question.data.tabular else _of_columns
        asked = replace(question, estimator=_blind_nuisances(question.estimator, without))

        def draw(r: int) -> Trajectories:
            return with_cause(data, np.random.default_rng(derive_seed(question.seed, "cause", r)))

        values = replicated(asked, (_blind_goal(question.goal, without),), draw, self.replicates)[:, 0]
        value = as_number(question.estimate)
        if (data.rewards == data.rewards[0]).all():
            raise EstimandError(
                f"rewards: all are {data.rewards[0]:g}, so that no covariate can move the estimate. Check the column."
            )
        if (values == value).all():
            raise EstimandError(
                f"estimator: {question.estimator} does not look at the new covariate (its propensities are logged, or its "
                "formulas name their covariates), so that a random common cause tests nothing. Use PlaceboTreatment(100)."
            )
        return _moved(self, question, values)


def _moved(refuter: Refuter, question: Question, values: Floats) -> Refutation:
    """Whether the estimate moves beyond its standard error."""
    from scipy.special import ndtr

    references = np.full(len(values), as_number(question.estimate))
    move, error = float((values - references).mean()), standard_error(question.estimate)
    noise = float(np.sqrt(error**2 + values.var(ddof=1) / len(values)))
    p_value = float(2 * ndtr(-abs(move) / noise)) if noise > 0 else float(move == 0)
    size = f"by {move:.3g} on average, {abs(move) / error:.2g} standard errors." if error > 0 else f"by {move:.3g} on average."
    first = first_finding(
        p_value, f"a random covariate moves the estimate {size}", f"a random covariate moves the estimate {size}"
    )
    spread = f"it moves it from draw to draw with standard deviation {values.std(ddof=1):.3g}."
    return Refutation(str(refuter), question.estimate, values, references, p_value, (first, spread))


def with_cause(data: Trajectories, rng: np.random.Generator) -> Trajectories:
    """The data with a random covariate: a last column, or a bit that the states are crossed with."""
    final = data.final_observations
    if not data.tabular:
        name = next(f"noise{j or ''}" for j in range(len(data.feature_names) + 1) if f"noise{j or ''}" not in data.feature_names)
        observations = np.column_stack([data.observations, rng.standard_normal(len(data.rewards))])
        final = None if final is None else np.column_stack([final, rng.standard_normal(data.n)])
        return replace(data, observations=observations, final_observations=final, feature_names=(*data.feature_names, name))
    features = data.state_features
    if features is not None:
        features = np.column_stack([np.repeat(features, 2, axis=0), np.tile([0.0, 1.0], data.n_states)])
    return replace(
        data,
        observations=2 * data.observations + rng.integers(0, 2, len(data.rewards)),
        final_observations=None if final is None else 2 * final + rng.integers(0, 2, data.n),
        n_states=2 * data.n_states,
        state_features=features,
    )


def _of_states(observations: NDArray[Any]) -> NDArray[Any]:
    return observations // 2


def _of_columns(observations: NDArray[Any]) -> NDArray[Any]:
    return observations[:, :-1]


@dataclass(frozen=True, eq=False)
class BlindPolicy(Policy):
    """A policy that does not see the random covariate."""

    policy: Policy
    without: Without

    def __post_init__(self) -> None:
        object.__setattr__(self, "stationary", self.policy.stationary)

    def bind(self, n_actions: int, behavior: Policy | None = None) -> Policy:
        return BlindPolicy(self.policy.bind(n_actions, behavior), self.without)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        return self.policy.probabilities(self.without(observations), time)

    def __str__(self) -> str:
        return str(self.policy)


def _blind(policy: Policy, without: Without) -> Policy:
    """What is made of the behaviour policy sees the covariate, as that does."""
    if isinstance(policy, Mixture):
        return Mixture([_blind(part, without) for part in policy.policies], policy.weights)
    return policy if policy.needs_behavior else BlindPolicy(policy, without)


def _blind_goal(goal: Estimand, without: Without) -> Estimand:
    if isinstance(goal, PolicyValue):
        return PolicyValue(_blind(goal.policy, without), goal.discount, goal.horizon)
    if isinstance(goal, Contrast):
        values = (_blind_goal(value, without) for value in (goal.policy, goal.reference))
        return Contrast(*values)  # type: ignore[arg-type]
    if isinstance(goal, CATE):
        at = 2 * goal.at if goal.at.ndim == 1 else np.column_stack([goal.at, np.zeros(len(goal.at))])
        return CATE(at, goal.treated, goal.control)
    return goal


def _blind_nuisances(estimator: Estimator, without: Without) -> Estimator:
    """What is known beforehand is known of the covariates as they were."""
    changed: dict[str, Any] = {}
    for item in fields(estimator):  # type: ignore[arg-type]
        known = getattr(estimator, item.name)
        if isinstance(known, KnownPropensity):
            changed[item.name] = KnownPropensity(_blind(known.policy, without))
        if isinstance(known, KnownQ):
            changed[item.name] = KnownQ(_blind_source(known.source, without))
    return replace(estimator, **changed) if changed else estimator  # type: ignore[type-var]


def _blind_source(source: Floats | PolicyFunction, without: Without) -> PolicyFunction:
    def q(observations: NDArray[Any], time: Ints) -> Floats:
        seen = without(observations)
        if callable(source):
            return source(seen, time)
        return np.asarray(source[seen] if source.ndim == 2 else source[time, seen])

    return q
