"""Any conditional-effect estimator of econml on the package's interface, with its own inference."""

from __future__ import annotations

import inspect
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats
from causalrl.diagnostics.record import diagnostics_record
from causalrl.errors import EstimandError, IntervalError, missing_extra
from causalrl.estimands import CATE
from causalrl.estimate import Estimate
from causalrl.estimators.base import EffectEstimator, Refitted, goal_label
from causalrl.estimators.second_stage import OnRequest
from causalrl.estimators.two_arms import pair_of
from causalrl.inference.base import Evidence
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.regression import seeded_clone


@dataclass(frozen=True)
class FromEconML(EffectEstimator):
    """A conditional-effect estimator of econml (forests, double machine learning, metalearners, doubly robust learners).

    It is copied, seeded, and fitted to the units of the two arms: Y the outcome, T the arm coded 1 and 0, X the covariates, no
    W. Give it `discrete_treatment=True` where it has that option: without it the probability of treatment is a plain regression.
    The interval is econml's own (`effect_inference`) at any level; it takes the units as independent.

    Args:
        estimator: an unfitted econml estimator.

    Raises:
        EstimandError: for what is no such estimator, or data that it cannot be fitted to. MissingExtraError: without econml
            (extra `econml`).

    Example:
        >>> import causalrl as crl
        >>> from econml.metalearners import TLearner
        >>> from sklearn.linear_model import LinearRegression
        >>> from simulators import Point
        >>> learner = crl.FromEconML(TLearner(models=LinearRegression()))
        >>> learner.estimate(Point(p=2).sample(2000), crl.CATE(at=[[0.0, 0.0], [0.0, 1.0]])).value.round(1).tolist()  # truly 1, 2
        [1.0, 2.0]
    """

    estimator: Any

    def __post_init__(self) -> None:
        base = _base_class()
        given = self.estimator
        if isinstance(given, type):
            raise EstimandError(f"estimator: {given.__name__} is a class; pass an object, {given.__name__}(...).")
        if not isinstance(given, base):
            raise EstimandError(
                f"estimator: {given!r} is no conditional-effect estimator of econml; pass one, such as "
                "CausalForestDML(discrete_treatment=True), or use TLearner(regressor) for a regressor."
            )

    def __str__(self) -> str:
        return f"FromEconML({type(self.estimator).__name__})"

    def conditional_effect(self, nuisances: Nuisances, goal: CATE) -> Estimate:
        own, at = pair_of(nuisances, goal)
        fitted, points = self._fit(own), own.data.features(at)
        value = _effect(fitted, points)
        refit = Refitted(own, partial(self._effect_at, at=at), value.shape)
        default = self._inference(fitted, points, value)
        evidence = Evidence(value, own.data.clusters, refit=refit, default=default)
        return Estimate(value, str(self), goal_label(goal), diagnostics_record(), evidence, own.data.fingerprint)

    def _effect_at(self, nuisances: Nuisances, at: NDArray[Any]) -> Floats:
        return _effect(self._fit(nuisances), nuisances.data.features(at))

    def _fit(self, nuisances: Nuisances) -> Any:
        data, copy = nuisances.data, _seeded(self.estimator, nuisances.seed)
        copies = np.ones(data.n) if nuisances.weights is None else nuisances.weights
        rows = np.repeat(np.arange(data.n), copies.astype(np.int64))
        grouped = "groups" in inspect.signature(copy.fit).parameters and (len(rows) > data.n or _clustered(data.clusters))
        groups = {"groups": data.clusters[rows]} if grouped else {}
        features = data.features(data.observations)
        try:
            copy.fit(data.rewards[rows], data.actions[rows], X=features[rows], **groups)
        except (ValueError, AttributeError, TypeError, np.linalg.LinAlgError) as error:
            raise EstimandError(f"{type(copy).__name__}: cannot be fitted to these data: {error}") from error
        return copy

    def _inference(self, fitted: Any, points: Floats, value: Floats) -> EconMLInference | OnRequest:
        name = type(self.estimator).__name__
        try:
            return EconMLInference(name, fitted.effect_inference(points, T0=0, T1=1), value)
        except (AttributeError, NotImplementedError):
            return OnRequest(
                f"interval: {name} has no inference of its own. Pass method=RefitBootstrap(200), which fits it 200 times, or an "
                "estimator with one (LinearDML, LinearDRLearner, CausalForestDML)."
            )


@dataclass(frozen=True, eq=False)
class EconMLInference:
    """The interval that an econml estimator gives for its own effects.

    Attributes:
        name: class of the estimator. result: what its `effect_inference` returned. value: (k,) the effects.
    """

    name: str
    result: Any
    value: Floats

    def __str__(self) -> str:
        return f"inference of {self.name}"

    def stderr(self, evidence: Evidence) -> Floats:
        self._require_own(evidence)
        return np.asarray(self.result.stderr, np.float64).reshape(-1)

    def limits(self, evidence: Evidence, level: float) -> tuple[Floats, Floats]:
        self._require_own(evidence)
        low, high = (np.asarray(limit, np.float64).reshape(-1) for limit in self.result.conf_int(alpha=1 - level))
        return low, high

    def _require_own(self, evidence: Evidence) -> None:
        if _clustered(evidence.clusters):
            raise IntervalError(
                f"method: {self.name} takes the units as independent, and these data have clusters. Use RefitBootstrap(200)."
            )
        if not np.array_equal(np.asarray(evidence.value), self.value):
            raise IntervalError(
                f"method: {self.name} gives intervals for its own vector of effects alone, not for a part or a function of it. "
                "Take interval() of the vector, or use RefitBootstrap(200)."
            )


def _base_class() -> type:
    try:
        from econml._cate_estimator import BaseCateEstimator
    except ModuleNotFoundError:
        missing_extra("econml", "econml")
    base: type = BaseCateEstimator
    return base


def _clustered(clusters: NDArray[Any]) -> bool:
    return int(clusters.max()) + 1 < len(clusters)


def _seeded(estimator: Any, seed: int) -> Any:
    """A copy, its own random_state and those of its learners set from the seed where they are open."""
    copy = deepcopy(estimator)
    for name, value in vars(estimator).items():
        if name == "random_state" and value is None:
            setattr(copy, name, derive_seed(seed, name) % 2**32)
        elif isinstance(value, list | tuple):
            learners = [_seeded_learner(item, derive_seed(seed, name, j)) for j, item in enumerate(value)]
            setattr(copy, name, type(value)(learners))
        else:
            setattr(copy, name, _seeded_learner(value, derive_seed(seed, name)))
    return copy


def _seeded_learner(learner: Any, seed: int) -> Any:
    return seeded_clone(learner, seed) if hasattr(learner, "get_params") and not isinstance(learner, type) else deepcopy(learner)


def _effect(fitted: Any, points: Floats) -> Floats:
    return np.asarray(fitted.effect(points, T0=0, T1=1), np.float64).reshape(-1)
