"""Behaviour policies: logged, known, counted, or learned; each learner is an object passed as `behavior=`.

A fitted behaviour is itself a policy. Where it was learned by maximum likelihood it also gives its stacked correction:
the change of the estimate that each logged decision causes through the fit.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints
from causalrl.data import Steps, Trajectories
from causalrl.diagnostics.record import Note
from causalrl.errors import DataError, EstimandError
from causalrl.policies import Policy, PolicyLike, action_probabilities, as_policy


class BehaviorFit(Policy):
    """A behaviour policy after learning.

    Attributes:
        notes: warnings that the fit gave rise to.
        corrects: `correction` carries the uncertainty of the fit.
        exact: the whole policy is known, not learned.
    """

    notes: tuple[Note, ...] = ()
    corrects: bool = False
    exact: bool = False

    def __repr__(self) -> str:
        return "the behaviour policy"

    def logged(self, steps: Steps, rows: Bools) -> Floats:
        """Probability of each logged action at the chosen rows of M steps."""
        probabilities: Floats = self.at(steps, rows)
        values: Floats = probabilities[np.arange(len(probabilities)), steps.actions[rows]]
        return values

    def at(self, steps: Steps, rows: Bools) -> Floats:
        """(rows, n_actions) probabilities at logged steps."""
        return action_probabilities(self, steps.observations[rows], steps.time[rows], steps.data.n_actions)

    def correction(self, sensitivity: Floats, test: Bools, train: Floats) -> Floats:
        """(M,) influence of each training step on the estimate, through the fitted probabilities.

        Args:
            sensitivity: (M,) derivative of n times the estimate in each step's log importance ratio.
            test: (M,) steps that use this fit. train: (M,) weights with which it was learned.
        """
        raise NotImplementedError


class BehaviorModel(Protocol):
    """What `behavior=` takes."""

    @property
    def default_folds(self) -> int:
        """Cross-fitting folds when none are asked for."""
        ...

    @property
    def known(self) -> bool:
        """Nothing is learned from the data."""
        ...

    @abstractmethod
    def fit(self, steps: Steps, weights: Floats, seed: int) -> BehaviorFit:
        """Learn from the steps with these weights (M,)."""
        ...


PropensityRefit: TypeAlias = Callable[[Floats, Ints], Floats]
"""Maps trajectory weights and folds (b, n) to the probabilities (b, M) of the logged actions that are learned from the other
folds, under each row; 0 where a step was not drawn, or its action is impossible."""


@runtime_checkable
class CompiledPropensities(Protocol):
    """A behaviour model whose cross-fitted refits run in a kernel."""

    @property
    def compiled(self) -> bool:
        """Whether they do with these settings."""
        ...

    @abstractmethod
    def propensity_refit(self, steps: Steps) -> PropensityRefit:
        """The refit on these steps, its tables made once."""
        ...


BehaviorLike: TypeAlias = BehaviorModel | Any


def as_behavior(behavior: BehaviorLike | None, data: Trajectories) -> BehaviorModel:
    """The learner: by default the logged probabilities where the data have them, else Counts on states, Logit on vectors."""
    from causalrl.nuisances.counts import Counts
    from causalrl.nuisances.logit import Logit

    if data.n_actions == 0:
        raise DataError(
            "actions: they are continuous, and importance ratios need discrete actions; bin them into integers first."
        )
    if behavior is None:
        if data.behavior_probabilities is not None:
            return Logged()
        return Counts() if data.tabular else Logit()
    if isinstance(behavior, type):
        raise EstimandError(f"behavior: {behavior.__name__} is a class; pass an object, {behavior.__name__}(...).")
    if hasattr(behavior, "predict_proba"):
        return Classifier(behavior)
    if not hasattr(behavior, "known") or "steps" not in inspect.signature(behavior.fit).parameters:
        raise EstimandError(
            f"behavior: {behavior!r} is no behaviour model; pass Logged(), Counts(), Logit(), KnownPropensity(policy) or a "
            "classifier."
        )
    model: BehaviorModel = behavior
    return model


@dataclass(frozen=True)
class Logged:
    """The probabilities that the data carry.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0, 0], [0, 1, 1], [1.0, 3.0, 5.0], range(4), behavior_probabilities=[0.5] * 3)
        >>> crl.WIS(behavior=Logged()).estimate(data, crl.Always(1)).value
        4.0
    """

    default_folds: int = field(default=1, init=False, repr=False)
    known: bool = field(default=True, init=False, repr=False)

    def fit(self, steps: Steps, weights: Floats, seed: int) -> BehaviorFit:
        if steps.data.behavior_probabilities is None:
            raise DataError(
                "behavior_probabilities: the data carry none, so Logged() has nothing to use. Pass behavior=Counts(), Logit() or "
                "a classifier to estimate them, or KnownPropensity(policy)."
            )
        return LoggedFit(steps)


class LoggedFit(BehaviorFit):
    """Logged probabilities: known at the logged steps only, and there perhaps of the logged action only."""

    def __init__(self, steps: Steps) -> None:
        assert steps.data.behavior_probabilities is not None
        self._observations = steps.observations
        self._rows = steps.data.behavior_probabilities[steps.taken]
        self.exact = self._rows.ndim == 2

    def logged(self, steps: Steps, rows: Bools) -> Floats:
        if self._rows.ndim == 2:
            return super().logged(steps, rows)
        values: Floats = self._rows if rows.all() else self._rows[rows]
        return values

    def at(self, steps: Steps, rows: Bools) -> Floats:
        return self.probabilities(steps.observations, steps.time)[rows]

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        if observations is not self._observations or not self.exact:
            raise DataError(
                "behavior_probabilities: known for the logged decisions only"
                + ("" if self.exact else ", and there for the logged action only")
                + "; this policy needs the whole behaviour policy. Pass behavior=Counts(), Logit() or KnownPropensity(policy)."
            )
        values: Floats = self._rows
        return values


@dataclass(frozen=True, eq=False)
class KnownPropensity:
    """A behaviour policy known from the design of the study.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0, 0], [0, 1, 1], [1.0, 3.0, 5.0], range(4))
        >>> crl.WIS(behavior=KnownPropensity(crl.Uniform(2))).estimate(data, crl.Always(1)).value
        4.0
    """

    policy: Policy
    default_folds: int = field(default=1, init=False, repr=False)
    known: bool = field(default=True, init=False, repr=False)

    def __init__(self, policy: PolicyLike) -> None:
        object.__setattr__(self, "policy", as_policy(policy))
        object.__setattr__(self, "default_folds", 1)
        object.__setattr__(self, "known", True)

    def fit(self, steps: Steps, weights: Floats, seed: int) -> BehaviorFit:
        return KnownFit(self.policy.bind(steps.data.n_actions))


class KnownFit(BehaviorFit):
    """A given policy in the role of the behaviour."""

    exact = True

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.stationary = policy.stationary

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        return self._policy.probabilities(observations, time)


@dataclass(frozen=True)
class Classifier:
    """Any scikit-learn classifier; cross-fitted by default. Classes that it has not seen get probability 0."""

    model: Any
    default_folds: int = field(default=5, init=False, repr=False)
    known: bool = field(default=False, init=False, repr=False)

    def fit(self, steps: Steps, weights: Floats, seed: int) -> BehaviorFit:
        from causalrl.nuisances.regression import fit_noting, seeded_clone

        rows = np.repeat(np.arange(len(steps)), weights.astype(np.int64))
        features = steps.data.features(steps.observations)
        model, notes = fit_noting(seeded_clone(self.model, seed), features[rows], steps.actions[rows])
        return ClassifierFit(model, steps.data, notes)


class ClassifierFit(BehaviorFit):
    """Predicted class probabilities."""

    def __init__(self, model: Any, data: Trajectories, notes: tuple[Note, ...]) -> None:
        self._model, self._data, self.notes = model, data, notes

    @cached_property
    def _classes(self) -> Ints:
        return np.asarray(self._model.classes_).astype(np.int64)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        rows = np.zeros((len(observations), self._data.n_actions))
        with np.errstate(all="ignore"):
            rows[:, self._classes] = self._model.predict_proba(self._data.features(observations))
        return rows
