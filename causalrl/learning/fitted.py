"""Fitted Q-iteration: the optimal Q by repeated regression."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints, number, seed_number, whole_number
from causalrl.data import Steps, Trajectories
from causalrl.errors import ConvergenceWarning, DataError, EstimandError, PolicyError
from causalrl.kernels.planning import lowest_best
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import require_trajectories
from causalrl.nuisances.iteration import DIVERGED, Layer
from causalrl.nuisances.regression import RegressionQ
from causalrl.nuisances.value import distinct
from causalrl.policies import Policy


@dataclass(frozen=True)
class FittedQIteration:
    """Regress r + discount max over a of Q(s', a) on (s, a), backwards over a horizon, or until the targets settle.

    The maximum is over the actions that the data show at least once, anywhere. At a point where an action was never tried Q
    extrapolates as the regressor does, and the maximum seeks out the largest such error.

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
        require_trajectories(data)
        if data.n_actions == 0:
            raise DataError("actions: they are continuous, and Q-iteration needs discrete ones; bin them into integers first.")
        steps, seed = data.steps(self.horizon), seed_number(seed)
        steps.require_successors(type(self).__name__)
        if self.horizon is None:
            layers, trace = self._to_fixed_point(steps, seed)
        else:
            layers, trace = self._backwards(steps, seed, self.horizon), ()
        return FittedQ(self, data, tuple(layers), trace)

    def _backwards(self, steps: Steps, seed: int, horizon: int) -> list[Layer]:
        everything, sample = np.ones(len(steps), np.bool_), _Sample(self, steps, steps.known)
        layers = [_Sample(self, steps, everything).regress(steps.rewards, derive_seed(seed, 0))]
        for stage in range(1, horizon):
            layers.insert(0, sample.regress(sample.targets(layers[0]), derive_seed(seed, stage)))
        return layers

    def _to_fixed_point(self, steps: Steps, seed: int) -> tuple[list[Layer], tuple[float, ...]]:
        sample, changes, why = _Sample(self, steps, steps.known), list[float](), ""
        targets, limit = sample.rewards, DIVERGED * float(np.abs(sample.rewards).max())
        layer = sample.regress(targets, derive_seed(seed, 0))
        for _ in range(self.iterations - 1):
            previous, targets = targets, sample.targets(layer)
            largest = float(np.abs(targets).max())
            if not largest <= limit:
                why = f"diverges: the targets are {largest:.0e}. Use a horizon, or a learner that averages outcomes (a forest)"
                break
            changes.append(float(np.abs(targets - previous).max()))
            if changes[-1] <= self.tolerance * (1 - self.discount) * largest:
                return [layer], tuple(changes)
            layer = sample.regress(targets, derive_seed(seed, 0))
        why = why or f"stopped after {self.iterations} regressions with the targets still moving"
        warnings.warn(f"FittedQIteration {why}.", ConvergenceWarning, stacklevel=3)
        return [layer], tuple(changes)


class _Sample:
    """The logged decisions on some rows, and the points that follow them, laid out once."""

    def __init__(self, learner: FittedQIteration, steps: Steps, rows: Bools) -> None:
        data, actions = steps.data, steps.actions[rows]
        self.rewards, self._discount = steps.rewards[rows], learner.discount
        self._regression = learner.q._regression(data.features(steps.observations[rows]), actions, data.n_actions)
        self._logged = np.bincount(actions, minlength=data.n_actions) > 0
        self._there = (steps.continues & steps.known)[rows]
        self._points, self._place = distinct(steps.next_observations[rows][self._there])
        self._features = data.features(self._points)

    def regress(self, targets: Floats, seed: int) -> Layer:
        """Q(s, a) that fits the targets (K,)."""
        layer = self._regression(targets, seed)
        for note in layer.notes:
            warnings.warn(note.message, note.category, stacklevel=4)
        return layer

    def targets(self, following: Layer) -> Floats:
        """(K,) r + discount max over the logged actions of Q(s', a); the reward alone where the process ended."""
        targets = self.rewards.copy()
        if len(self._points):
            q = following(self._features, np.tile(self._logged, (len(self._points), 1)))
            targets[self._there] += self._discount * np.fmax.reduce(q, axis=1)[self._place]
        return targets


@dataclass(frozen=True, eq=False)
class FittedQ:
    """The result of fitted Q-iteration.

    Attributes:
        learner: what it was fitted by. data: what it learned from.
        layers: one regression, or one for each time of a horizon.
        trace: largest change of the targets between regressions; empty for a horizon.
    """

    learner: FittedQIteration
    data: Trajectories
    layers: tuple[Layer, ...]
    trace: tuple[float, ...]

    def __repr__(self) -> str:
        return f"FittedQ({len(self.layers)} layers, of {self.learner})"

    def q(self, observations: NDArray[Any], time: Ints) -> Floats:
        """(K, A) Q at observations (K, ...) and times (K,), NaN for an action that the data never show.

        Raises:
            PolicyError: for observations of another kind than the data's, or a time beyond the horizon.
        """
        self._check(observations, time)
        out = np.empty((len(observations), self.data.n_actions))
        layer_of = time if self.learner.horizon is not None else np.zeros(len(observations), np.int64)
        for t in np.unique(layer_of):
            rows = layer_of == t
            points, place = distinct(observations[rows])
            out[rows] = self.layers[t](self.data.features(points), np.tile(self._logged, (len(points), 1)))[place]
        return out

    @cached_property
    def _logged(self) -> Bools:
        actions = self.data.steps(self.learner.horizon).actions
        return np.bincount(actions, minlength=self.data.n_actions) > 0

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
