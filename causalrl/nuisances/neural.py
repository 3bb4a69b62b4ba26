"""Fitted Q-evaluation with d3rlpy's networks, and the exact expectation over a stochastic target.

d3rlpy's own `FQE` takes the greedy action of the policy in the next state, so that it evaluates a stochastic policy at its mode.
Here the Bellman target is r + discount sum_a pi(a|s') Q(s', a). The loss is the squared error (d3rlpy's Huber loss has its
minimum at no mean), and after each regression the output layer is solved by least squares, drawn towards the trained weights
(Levine et al. 2017, *Shallow Updates for Deep Reinforcement Learning*): errors of stochastic gradients, which a backup carries
from one step to the next, then cancel within each action.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints, number, whole_number
from causalrl.diagnostics.record import Note
from causalrl.errors import EstimandError
from causalrl.nuisances.iteration import Iteration, Regression
from causalrl.nuisances.networks import load_d3rlpy, one_thread, seeded
from causalrl.nuisances.value import QFunction, ValueProblem

_FIRST = 10
"""The first regression starts from random weights, and takes this many times the gradient steps of the others."""
_RIDGE = 1.0
"""Weight of the trained output layer in its least squares, in observations."""
_DECAY, _FROZEN = 0.9, 0.01
"""Step size of a stationary fit: its factor from one iteration to the next, and the share below which the encoder stays."""


@dataclass(frozen=True)
class NeuralQ:
    """Fitted Q-evaluation with a network of d3rlpy: an encoder of the observation, and one output for each action.

    Q_h(s, a) = E[r + discount sum_b pi(b|s') Q_{h-1}(s', b) | s, a], one network for each number h of steps to go, which starts
    from the one before; without a horizon the same regression is repeated until the targets settle, while the step size falls
    until only the output layer moves. Vectors and state features are standardised; states without features are indicators.
    `QFunction.trace` has the mean squared residual of each regression, or without a horizon the largest change of a target in
    each iteration. The answer does not depend on the number of threads, and no global random state changes.

    Args:
        encoder: a d3rlpy encoder factory; None is `VectorEncoderFactory([64, 64])`.
        steps: gradient steps of Adam in each regression (ten times as many in the first).
        learning_rate: step size, falling linearly to 0 within each regression.
        batch_size: decisions in one gradient step.
        max_iterations: of the fixed-point iteration when the horizon is None.

    Raises:
        DataError: for a number out of range.
        MissingExtraError: on fitting, without the extra `d3rlpy`.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0, 0, 0], [0, 1, 0, 1], [1.0, 3.0, 1.0, 3.0], [0, 1, 2, 3, 4])
        >>> round(crl.FQE(NeuralQ()).estimate(data, crl.Uniform(2)).value, 2)
        2.0
    """

    encoder: Any = None
    steps: int = 30
    learning_rate: float = 2e-3
    batch_size: int = 512
    max_iterations: int = 500
    default_folds: int = field(default=5, init=False, repr=False)
    known: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "max_iterations"):
            whole_number(f"NeuralQ: {name}", getattr(self, name), 1)
        number("NeuralQ: learning_rate", self.learning_rate, 1e-12)

    def fit(self, problem: ValueProblem) -> QFunction:
        load_d3rlpy()
        with seeded(problem.seed):
            learner = _Learner(self, problem)
            fitted = Iteration(problem, learner.regression).fit(self.max_iterations)
        return _NeuralQFunction(fitted, fitted.trace or tuple(learner.losses))


@dataclass(frozen=True, eq=False)
class _NeuralQFunction(QFunction):
    fitted: QFunction
    trace: tuple[float, ...] = ()

    @property
    def notes(self) -> tuple[Note, ...]:  # type: ignore[override]
        return self.fitted.notes

    def q(self, observations: NDArray[Any], time: Ints) -> Floats:
        return self.fitted.q(observations, time)


@dataclass(frozen=True, eq=False)
class _Scale:
    """What the network sees of features, and the origin and unit of its Q."""

    center: Floats
    spread: Floats
    origin: float
    unit: float

    @classmethod
    def of(cls, features: Floats, rewards: Floats, indicators: bool) -> _Scale:
        """Of the data; indicators of states stay as they are."""
        center, spread = np.zeros(features.shape[1]), np.ones(features.shape[1])
        if not indicators:
            center, spread = features.mean(axis=0), features.std(axis=0)
            spread = np.where(spread > 1e-9 * np.abs(center), spread, 1.0)
        return cls(center, spread, float(rewards.mean()), float(rewards.std()) or 1.0)

    def inputs(self, features: Floats) -> Any:
        """(K, d) float32."""
        import torch

        return torch.as_tensor((features - self.center) / self.spread, dtype=torch.float32)


@dataclass(frozen=True, eq=False)
class _NeuralLayer:
    """A fitted network: its encoder, and (k + 1, A) weights of the output layer."""

    scale: _Scale
    encoder: Any
    head: Any
    seen: Bools
    notes: tuple[Note, ...] = ()

    def __call__(self, features: Floats, wanted: Bools) -> Floats:
        import torch

        with one_thread(), torch.no_grad():
            values = (_with_one(self.encoder(self.scale.inputs(features)).double()) @ self.head).numpy()
        out: Floats = np.where(wanted & self.seen, values * self.scale.unit + self.scale.origin, np.nan)
        return out


@dataclass(frozen=True, eq=False)
class _Decisions:
    """What a regression is made on: inputs (K, d), actions (K,), and the actions that occur (A,)."""

    inputs: Any
    actions: Any
    seen: Bools


class _Learner:
    """One network, which every regression takes up where the last one left it."""

    def __init__(self, model: NeuralQ, problem: ValueProblem) -> None:
        data = problem.steps.data
        self.model, self.stationary, self.losses = model, problem.horizon is None, list[float]()
        used = problem.weights > 0
        features = data.features(problem.steps.observations[used])
        indicators = data.tabular and data.state_features is None
        self.scale = _Scale.of(features, problem.steps.rewards[used], indicators)
        self.network = _network(model.encoder, features.shape[1], data.n_actions)
        weight, bias = list(self.network.parameters())[-2:]
        self.weight, self.bias = weight, bias
        self.head = self._trained_head()

    def regression(self, features: Floats, actions: Ints, n_actions: int) -> Regression:
        """Regress targets on these decisions."""
        import torch

        seen = np.bincount(actions, minlength=n_actions) > 0
        decisions = _Decisions(self.scale.inputs(features), torch.as_tensor(actions), seen)
        return partial(self._regress, decisions)

    def _regress(self, on: _Decisions, targets: Floats, seed: int) -> _NeuralLayer:
        import torch

        torch.default_generator.manual_seed(seed)
        goals = torch.as_tensor((targets - self.scale.origin) / self.scale.unit)
        done = len(self.losses)
        share = _DECAY ** max(0, done - 1) if self.stationary else 1.0
        if share >= _FROZEN:
            self._train(on, goals.float(), self.model.steps * (1 if done else _FIRST), self.model.learning_rate * share)
            self.head = self._trained_head()
        self._solve(on, goals)
        return _NeuralLayer(self.scale, deepcopy(self.network.encoder), self.head.clone(), on.seen)

    def _trained_head(self) -> Any:
        import torch

        return torch.cat([self.weight, self.bias[:, None]], dim=1).detach().double().T.contiguous()

    def _train(self, on: _Decisions, goals: Any, steps: int, rate: float) -> None:
        import torch

        self.network.train()
        optimiser = torch.optim.Adam(self.network.parameters(), lr=rate)
        for done, batch in enumerate(_batches(len(goals), self.model.batch_size, steps)):
            optimiser.param_groups[0]["lr"] = rate * (1 - done / steps)
            q = self.network(on.inputs[batch]).q_value
            loss = (q.gather(1, on.actions[batch, None])[:, 0] - goals[batch]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        self.network.eval()

    def _solve(self, on: _Decisions, goals: Any) -> None:
        """Least squares of the output layer, which the network takes over; the mean squared residual is recorded."""
        import torch

        total = 0.0
        with torch.no_grad():
            basis = _with_one(self.network.encoder(on.inputs).double())
            pull = _RIDGE * torch.eye(basis.shape[1], dtype=torch.float64)
            for action in map(int, np.flatnonzero(on.seen)):
                rows = on.actions == action
                own, goal, head = basis[rows], goals[rows], self.head[:, action]
                head += torch.linalg.solve(own.T @ own + pull, own.T @ (goal - own @ head))
                total += float((goal - own @ head).square().sum())
            if not torch.isfinite(self.head).all():
                raise EstimandError("q: NeuralQ diverges. Use a finite horizon, a smaller learning_rate, or TabularQ.")
            self.weight.copy_(self.head[:-1].T)
            self.bias.copy_(self.head[-1])
        self.losses.append(total / len(goals) * self.scale.unit**2)


def _network(encoder: Any, width: int, n_actions: int) -> Any:
    """The Q-function module of d3rlpy: an encoder of `width` features, and a linear output for each action."""
    d3rlpy = load_d3rlpy()
    factory = d3rlpy.models.VectorEncoderFactory([64, 64]) if encoder is None else encoder
    if not isinstance(factory, d3rlpy.models.EncoderFactory):
        raise EstimandError(f"NeuralQ: encoder {factory!r} is no d3rlpy encoder factory; pass VectorEncoderFactory([64, 64]).")
    module = factory.create([width])
    size = d3rlpy.models.torch.compute_output_size([[width]], module)
    return d3rlpy.models.MeanQFunctionFactory().create_discrete(module, size, n_actions)[0]


def _batches(count: int, size: int, steps: int) -> Iterator[Any]:
    """Row numbers of each minibatch: one random order of the rows after the other, cut into pieces."""
    import torch

    pieces: list[Any] = []
    for _ in range(steps):
        pieces = pieces or list(torch.randperm(count).split(size))
        yield pieces.pop(0)


def _with_one(features: Any) -> Any:
    """(K, k + 1) a column of ones behind the features."""
    import torch

    return torch.cat([features, torch.ones(len(features), 1, dtype=features.dtype)], dim=1)
