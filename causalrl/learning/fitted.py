"""Fitted Q-iteration: the optimal Q by repeated regression."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints, number, seed_number, whole_number
from causalrl.data import Steps, Trajectories
from causalrl.errors import ConvergenceWarning, DataError, EstimandError, PolicyError
from causalrl.kernels.planning import lowest_best
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.regression import Layer, RegressionQ
from causalrl.policies import Policy


@dataclass(frozen=True)
class FittedQIteration:
    """Regress r + discount max over a of Q(s', a) on (s, a), backwards over a horizon, or until the targets settle.

    The maximum is over the actions that the data show at least once; where a logged action was never tried Q extrapolates as
    the regressor does, and the maximum seeks the largest such error.

    Source: Ernst, Geurts & Wehenkel (2005), Tree-based batch mode reinforcement learning, JMLR 6, figure 1.

    Args:
        q: `PerAction(regressor)` or `Pooled(regressor)`, any scikit-learn regressor.
        discount: in [0, 1], below 1 without a horizon.
        horizon: number of steps, of which the policy then depends on the time; later steps of the data are ignored.
        iterations: at most this many regressions without a horizon.
        tolerance: the targets have settled when they are about this share of the largest from their fixed point; a regressor
            that draws random numbers does so in the same way in every iteration.

    Raises:
        EstimandError: for a field out of range, or a q that is no regression.

    Example:
        >>> import causalrl as crl
        >>> from sklearn.tree import DecisionTreeRegressor
        >>> data = crl.Trajectories.from_arrays([0, 1, 0, 0], [0, 1, 1, 0], [0.0, 3.0, 2.0, 0.0], [0, 2, 3, 4])
        >>> fitted = FittedQIteration(crl.PerAction(DecisionTreeRegressor()), discount=0.9).fit(data)
        >>> fitted.policy().probabilities(data.observations[:2], data.actions[:2])
        array([[0., 1.],
               [0., 1.]])
    """

    q: RegressionQ
    discount: float = 0.99
    horizon: int | None = None
    iterations: int = 200
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if not isinstance(self.q, RegressionQ):
            raise EstimandError(f"q: {self.q!r}; wrap a regressor as PerAction(regressor) or Pooled(regressor).")
        number("discount", self.discount, 0, 1, EstimandError)
        if self.horizon is not None:
            whole_number("horizon", self.horizon, 1, EstimandError)
        elif self.discount == 1:
            raise EstimandError("discount: 1 without a horizon may have no fixed point; pass horizon=H, or a discount below 1.")
        whole_number("iterations", self.iterations, 1, EstimandError)
        number("tolerance", self.tolerance, 0, 1, EstimandError)

    def fit(self, data: Trajectories, seed: int = 0) -> FittedQ:
        """Learn from all steps whose successor is known; the last step of a horizon learns from all.

        Raises:
            DataError: for continuous actions.
            TruncationError, CensoringError: for records cut before the horizon without a final observation, or censored.
        """
        if not isinstance(data, Trajectories):
            raise DataError(f"data: {type(data).__name__} is no Trajectories; build one with from_frame or from_arrays.")
        if data.n_actions == 0:
            raise DataError("actions: they are continuous, and Q-iteration needs discrete ones; bin them into integers first.")
        steps, seed = data.steps(self.horizon), seed_number(seed)
        steps.require_successors(type(self).__name__)
        logged = np.bincount(steps.actions, minlength=data.n_actions) > 0
        regress = partial(_regress, self.q, steps, seed)
        if self.horizon is None:
            layers, trace = self._to_the_fixed_point(steps, logged, regress)
        else:
            layers, trace = self._backwards(steps, logged, regress, self.horizon), ()
        return FittedQ(self, data, tuple(layers), logged, trace)

    def _backwards(self, steps: Steps, logged: Bools, regress: Regress, horizon: int) -> list[Layer]:
        layers = [regress(np.ones(len(steps), np.bool_), steps.rewards, 0)]
        for stage in range(1, horizon):
            targets = self._targets(steps, layers[0], logged)
            layers.insert(0, regress(steps.known, targets, stage))
        return layers

    def _to_the_fixed_point(self, steps: Steps, logged: Bools, regress: Regress) -> tuple[list[Layer], tuple[float, ...]]:
        targets, trace = steps.rewards, list[float]()
        layer = regress(steps.known, targets, 0)
        while len(trace) < self.iterations - 1:
            previous, targets = targets, self._targets(steps, layer, logged)
            used = targets[steps.known]
            trace.append(float(np.abs(used - previous[steps.known]).max() / (np.abs(used).max() or 1.0)))
            if trace[-1] <= self.tolerance * (1 - self.discount):
                return [layer], tuple(trace)
            layer = regress(steps.known, targets, 0)
        moving = f"with targets still moving by {trace[-1]:.1e} of the largest" if trace else "before any backup"
        warnings.warn(f"FittedQIteration stopped after {self.iterations} regressions {moving}.", ConvergenceWarning, stacklevel=3)
        return [layer], tuple(trace)

    def _targets(self, steps: Steps, following: Layer, logged: Bools) -> Floats:
        """(M,) r + discount max Q(s', a); the reward alone where the process ended."""
        there = steps.continues & steps.known
        targets = steps.rewards.copy()
        if there.any():
            targets[there] += self.discount * np.fmax.reduce(following(steps.next_observations[there])[:, logged], axis=1)
        return targets


Regress = Callable[[Bools, Floats, int], Layer]
"""Rows, targets (M,) and the number of the stage, which keys random numbers, to a fitted regression."""


def _regress(q: RegressionQ, steps: Steps, seed: int, rows: Bools, targets: Floats, stage: int) -> Layer:
    layer = q._fit_once(steps.data, steps.observations[rows], steps.actions[rows], targets[rows], derive_seed(seed, stage))
    for note in layer.notes:
        warnings.warn(note.message, note.category, stacklevel=4)
    return layer


@dataclass(frozen=True, eq=False)
class FittedQ:
    """The result of fitted Q-iteration.

    Attributes:
        learner: what it was fitted by. data: what it learned from.
        layers: one regression, or one for each time of a horizon.
        logged: (A,) actions that the data show.
        trace: largest change of the targets, as a share of the largest, between regressions; empty for a horizon.
    """

    learner: FittedQIteration
    data: Trajectories
    layers: tuple[Layer, ...]
    logged: Bools
    trace: tuple[float, ...]

    def __repr__(self) -> str:
        return f"FittedQ({len(self.layers)} layers, of {self.learner})"

    def q(self, observations: NDArray[Any], time: Ints) -> Floats:
        """(K, A) Q at observations (K, ...) and times (K,), NaN for an action that the data never show.

        Raises:
            PolicyError: for observations of another kind than the data's, or a time beyond the horizon.
        """
        self._check(observations, time)
        out = np.full((len(observations), self.data.n_actions), np.nan)
        layer_of = time if self.learner.horizon is not None else np.zeros(len(observations), np.int64)
        for t in np.unique(layer_of):
            rows = np.flatnonzero(layer_of == t)
            out[np.ix_(rows, self.logged)] = self.layers[t](observations[rows])[:, self.logged]
        return out

    def _check(self, observations: NDArray[Any], time: Ints) -> None:
        like = self.data.observations
        if observations.ndim != like.ndim or observations.shape[1:] != like.shape[1:]:
            raise PolicyError(f"observations: shape {observations.shape}; the policy learned from shape {like.shape}.")
        if self.data.tabular and len(observations) and not 0 <= observations.min() <= observations.max() < self.data.n_states:
            raise PolicyError(f"observations: states outside [0, {self.data.n_states}), which the policy learned from.")
        if self.learner.horizon is not None and len(time) and time.max() >= self.learner.horizon:
            raise PolicyError(f"time: {time.max()} is beyond the horizon {self.learner.horizon} of the policy; plan for longer.")

    def policy(self) -> GreedyPolicy:
        """The greedy policy, stationary without a horizon; of tied actions the lowest."""
        return GreedyPolicy(self)


@dataclass(frozen=True, eq=False)
class GreedyPolicy(Policy):
    """The best logged action of a fitted Q, at any observation.

    Example:
        >>> import causalrl as crl
        >>> from sklearn.linear_model import LinearRegression
        >>> study = crl.Trajectories.from_cross_section([[0.0], [1.0], [0.0], [1.0]], [0, 0, 1, 1], [0.0, 1.0, 1.0, 0.0])
        >>> best = crl.learning.FittedQIteration(crl.PerAction(LinearRegression()), horizon=1).fit(study).policy()
        >>> best.probabilities(study.observations[:2], study.actions[:2])
        array([[0., 1.],
               [1., 0.]])
    """

    fitted: FittedQ

    def __post_init__(self) -> None:
        object.__setattr__(self, "stationary", self.fitted.learner.horizon is None)
        object.__setattr__(self, "n_states", self.fitted.data.n_states or None)

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        q = self.fitted.q(observations, time)
        return np.eye(q.shape[1])[lowest_best(q, ~np.isnan(q))]

    def __str__(self) -> str:
        return f"GreedyPolicy({type(self.fitted.learner.q).__name__})"
