"""Minimax weight learning (MWL) in closed form: marginal density ratios without the behaviour policy.

Uehara, Huang & Jiang (2020), "Minimax Weight and Q-Function Learning for Off-Policy Evaluation", Section 4; for processes that
end and discount 1, Li, Li & Wu (2023), "Minimax Weight Learning for Absorbing MDPs". The linear algebra is that of `minimax`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints
from causalrl.diagnostics.record import Note, share
from causalrl.diagnostics.weights import NOTABLE_MASS
from causalrl.errors import SupportError, SupportWarning
from causalrl.nuisances.features import blocks
from causalrl.nuisances.function_classes import ROWS_A_BLOCK, Basis, Support
from causalrl.nuisances.minimax import AtRows, Minimax, cross_moment, least_violation
from causalrl.nuisances.ratio import DensityRatio, RatioProblem


@dataclass(frozen=True)
class MinimaxRatio(Minimax):
    """MWL: the weights that balance every f of the discriminator's unit ball (Uehara et al. 2020, Section 4).

    Without a horizon the m(s, a) of the class that minimises the largest square over |f| <= 1 of

        E[sum_j m(s_j, a_j) (f(s_j, a_j) - discount V_f(s'_j))] - E[V_f(s_0)],  V_f(s) = sum_a pi(a|s) f(s, a),

    sums over a trajectory's steps with a known successor (m is 0 at the others), plus ridge |w|^2. With a horizon m_0 balances
    V_f(s_0), and m_{t+1} balances discount m_t V_f(s_{t+1}), at the steps of each time on their own.

    It needs no behaviour policy. On one-hot states equal linear classes give the occupancy of the empirical process over the
    logged frequencies; for equal classes the value without a horizon is that of `MinimaxQ`. Weights of other classes can be
    negative. Constants have no norm, so that the target's probability of each action is matched exactly. A target decision off
    the span of the logged ones (for a kernel: an action never logged) is lost: f is 0 there. The ridge has the scale described
    in `MinimaxQ`, w being m times the steps that a trajectory has on average (with a horizon: at that time).

    Args:
        functions: class of w, `LinearClass` or `KernelClass`.
        discriminator: class of f; None is that of w.
        ridge: penalty; None is 0 for a linear class and 0.01 / steps for a kernel.

    Raises:
        EstimandError: from `fit`, where the equations do not identify w. SupportError: where no first decision of the target is
            supported. TruncationError: with a horizon, where a record stops before it without a final observation.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0, 0, 0], [0, 1, 1, 0], [1.0, 2.0, 4.0, 5.0], range(5))
        >>> nuisances = crl.nuisances.crossfit.Nuisances(data)
        >>> target = nuisances.target(crl.Always(1), None, None, None)
        >>> problem = RatioProblem(target, None, np.ones(4), 1.0, None, 0)
        >>> MinimaxRatio().fit(problem).at(np.ones(4, bool)).round(6) + 0.0
        array([0., 2., 2., 0.])
    """

    needs_behavior: bool = field(default=False, init=False, repr=False)

    def fit(self, problem: RatioProblem) -> DensityRatio:
        if problem.horizon is None:
            problem.target.times(None)
            return _stationary(self, problem)
        problem.steps.require_successors(str(self))
        return _by_time(self, problem)


@dataclass(frozen=True, eq=False)
class _Weights:
    """m at the steps of one fit."""

    basis: Basis
    coefficients: Floats
    support: Support

    def at(self, observations: NDArray[Any], actions: Ints) -> Floats:
        """(K,) m, 0 off the support."""
        supported = self.support.at(observations)[np.arange(len(actions)), actions]
        return np.asarray(np.where(supported, self.basis.logged(observations, actions) @ self.coefficients, 0.0))


class _Fit:
    """One set of rows, from which weights are learned.

    Attributes:
        basis, critic: of w and of the discriminator. support: where the discriminators are not 0.
        phi, psi: the bases at logged steps.
    """

    def __init__(self, model: MinimaxRatio, bases: tuple[Basis, Basis], problem: RatioProblem, used: Bools) -> None:
        self._model, self._problem, self._used = model, problem, used
        self.basis, self.critic = bases
        steps = problem.steps
        self.phi: AtRows = lambda rows: self.basis.logged(steps.observations[rows], steps.actions[rows])
        self.psi: AtRows = lambda rows: self.critic.logged(steps.observations[rows], steps.actions[rows])
        self._gram = cross_moment(self.phi, self.phi, used, problem.weights)
        same = self.critic is self.basis
        gram = self._gram if same else cross_moment(self.psi, self.psi, used, problem.weights)
        self._own_support = self.basis.support(self._gram)
        self.support = self._own_support if same else self.critic.support(gram)

    def solve(self, system: Floats, moments: Floats) -> tuple[_Weights, tuple[Note, ...]]:
        """The weights m with E over the rows of [system] = moments."""
        rows = float(np.sum(self._problem.weights * self._used))
        penalty = self._model.penalty(rows)
        beta, notes = least_violation(self.basis, self.critic, system, moments, self._gram, penalty, "ratio")
        trajectories = float(self._problem.weights[self._problem.steps.first].sum())
        return _Weights(self.basis, beta * trajectories / rows, self._own_support), notes


@dataclass(frozen=True, eq=False)
class _Mass:
    """Where the target's probability is: `amounts` (K,), a mean over trajectories, at `observations`."""

    observations: NDArray[Any]
    amounts: Floats

    @classmethod
    def start(cls, problem: RatioProblem) -> _Mass:
        first = problem.steps.first
        weights = problem.weights[first]
        drawn = weights > 0
        return cls(problem.steps.observations[first][drawn], weights[drawn] / weights.sum())

    @classmethod
    def after(cls, problem: RatioProblem, used: Bools, ratio: _Ratio) -> _Mass:
        """What the weighted steps in use pass on to their successors, discounted."""
        rows = np.flatnonzero(used & problem.target.there & (problem.weights > 0))
        amounts = problem.discount * problem.weights[rows] * ratio.of(rows) / problem.weights[problem.steps.first].sum()
        return cls(problem.steps.next_observations[rows], amounts)

    def arrive(self, fit: _Fit, problem: RatioProblem, t: int) -> _Arrival:
        """The sum of V_psi under this probability when it is met at time t, and how much of it is lost."""
        moments, lost = np.zeros(fit.critic.size), 0.0
        for piece in blocks(np.arange(len(self.amounts)), ROWS_A_BLOCK):
            policy = problem.target.at(self.observations[piece], np.full(len(piece), t))
            supported = fit.support.at(self.observations[piece])
            moments += self.amounts[piece] @ fit.critic.mean(self.observations[piece], policy * supported)
            lost += float(np.maximum(self.amounts[piece], 0.0) @ np.sum(policy * ~supported, axis=1))
        return _Arrival(moments, lost, float(np.maximum(self.amounts, 0.0).sum()))


class _Arrival(NamedTuple):
    moments: Floats
    lost: float
    total: float


class _Ratio(DensityRatio, ABC):
    def __init__(self, problem: RatioProblem) -> None:
        self._problem = problem

    def at(self, rows: Bools) -> Floats:
        return self.of(np.flatnonzero(rows))

    @abstractmethod
    def of(self, rows: Ints) -> Floats:
        """(K,) m at these steps."""


class _StationaryRatio(_Ratio):
    def __init__(self, problem: RatioProblem, weights: _Weights) -> None:
        super().__init__(problem)
        self._weights = weights

    def of(self, rows: Ints) -> Floats:
        steps = self._problem.steps
        return np.where(steps.known[rows], self._weights.at(steps.observations[rows], steps.actions[rows]), 0.0)


class _RatioByTime(_Ratio):
    """One set of weights for each time that the training rows reach; 0 after it."""

    def __init__(self, problem: RatioProblem) -> None:
        super().__init__(problem)
        self.weights: list[_Weights] = []

    def of(self, rows: Ints) -> Floats:
        steps, out = self._problem.steps, np.zeros(len(rows))
        times = steps.time[rows]
        for t in np.unique(times[times < len(self.weights)]):
            mine = np.flatnonzero(times == t)
            out[mine] = self.weights[t].at(steps.observations[rows[mine]], steps.actions[rows[mine]])
        return out


def _stationary(model: MinimaxRatio, problem: RatioProblem) -> DensityRatio:
    steps, target = problem.steps, problem.target
    fit = _Fit(model, model.bases(problem), problem, steps.known)

    def difference(rows: Ints) -> Floats:
        out = fit.psi(rows)
        going = np.flatnonzero(target.there[rows])
        if len(going):
            following = steps.next_observations[rows[going]]
            policy = target.at(following, steps.time[rows[going]] + 1) * fit.support.at(following)
            out[going] -= problem.discount * fit.critic.mean(following, policy)
        return out

    system = cross_moment(difference, fit.phi, steps.known, problem.weights)
    start = _Mass.start(problem).arrive(fit, problem, 0)
    _require_support(start)
    weights, notes = fit.solve(system, start.moments)
    ratio = _StationaryRatio(problem, weights)
    later = _Mass.after(problem, steps.known, ratio).arrive(fit, problem, 0)
    lost = (start.lost + later.lost) / (start.total + later.total)
    ratio.lost_mass, ratio.notes = np.array([lost]), notes + _lost_note(lost)
    return ratio


def _by_time(model: MinimaxRatio, problem: RatioProblem) -> DensityRatio:
    assert problem.horizon is not None
    steps, bases = problem.steps, model.bases(problem)
    ratio, mass = _RatioByTime(problem), _Mass.start(problem)
    there, lost_mass = 1.0, np.zeros(problem.horizon)
    for t in range(problem.horizon):
        used = steps.time == t
        if not (used & (problem.weights > 0)).any():
            lost_mass[t:] = 1 - there * (mass.amounts <= 0).all()
            break
        fit = _Fit(model, bases, problem, used)
        arrival = mass.arrive(fit, problem, t)
        if t == 0:
            _require_support(arrival)
        if arrival.total > 0:
            there *= 1 - arrival.lost / arrival.total
        lost_mass[t] = 1 - there
        weights, notes = fit.solve(cross_moment(fit.psi, fit.phi, used, problem.weights), arrival.moments)
        ratio.weights.append(weights)
        ratio.notes += notes
        mass = _Mass.after(problem, used, ratio)
    ratio.lost_mass = lost_mass
    ratio.notes += _lost_note(float(lost_mass.max()))
    return ratio


def _require_support(start: _Arrival) -> None:
    if start.lost > (1 - 1e-9) * start.total:
        raise SupportError(
            "ratio: no first decision of the target is near one that was logged, so that every weight would be 0. Use a target "
            "within the logged actions, or a class that pools states (state_features, features=)."
        )


def _lost_note(lost: float) -> tuple[Note, ...]:
    if lost <= NOTABLE_MASS:
        return ()
    text = f"{share(lost)} of the target's probability lies on decisions off the logged ones, whose weight counts as 0."
    return (Note(SupportWarning, text),)
