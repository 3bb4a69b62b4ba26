"""Minimax Q-function learning (MQL) in closed form, and the linear algebra that it shares with minimax weight learning.

Uehara, Huang & Jiang (2020), "Minimax Weight and Q-Function Learning for Off-Policy Evaluation", Section 5. In bases phi of the
class and psi of the discriminator's, the largest violation over the unit ball of the discriminator is the length of a vector of
moments that is linear in the coefficients, so that the inner maximum is explicit and the outer minimum is least squares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints, number
from causalrl.diagnostics.record import Note
from causalrl.errors import ConvergenceWarning, DataError, EstimandError
from causalrl.nuisances.features import blocks
from causalrl.nuisances.function_classes import ROWS_A_BLOCK, Basis, FunctionClass, LinearClass
from causalrl.nuisances.linear import effective_horizon, require_logged
from causalrl.nuisances.ratio import RatioProblem
from causalrl.nuisances.value import QFunction, ValueProblem

_RANK = 1e-11
_MISSED = 1e-7
_NEARLY_SINGULAR = 1e8

AtRows = Callable[[Ints], Floats]


def cross_moment(left: AtRows, right: AtRows, used: Bools, weights: Floats) -> Floats:
    """Weighted mean of left_j right_j' over the rows in use, in pieces."""
    rows = np.flatnonzero(used & (weights > 0))
    total: Floats | None = None
    for piece in blocks(rows, ROWS_A_BLOCK):
        product = np.asarray((left(piece) * weights[piece, None]).T @ right(piece))
        total = product if total is None else total + product
    if total is None:
        raise EstimandError("minimax learning: no step to learn from has a known successor. Pass final_observations.")
    return np.asarray(total / weights[rows].sum())


def least_violation(
    basis: Basis, critic: Basis, system: Floats, moments: Floats, gram: Floats, ridge: float, field: str
) -> tuple[Floats, tuple[Note, ...]]:
    """The beta that minimises |moments - system beta|^2 + ridge |beta|^2, the shortest where several do.

    Constants have no norm: those of the discriminator (`critic`) make equations that hold exactly, those of the class are not
    penalised. Exact equations are solved first, and the rest by least squares on what they leave free.

    Args:
        system: (E, D), moments: (E,), of the E discriminators and D functions.
        gram: (D, D) mean of phi phi', whose span the moments must identify.

    Raises:
        EstimandError: where functions that differ at the logged steps have the same moments, or no function has them.
    """
    exact = ~critic.normed
    penalty = np.sqrt(ridge) * np.eye(len(gram))[basis.normed]
    scale = float(np.linalg.norm(system, 2))
    first, _, free, least = _shortest(system[exact], moments[exact], scale)
    stacked = np.vstack([system[~exact], penalty])
    rest = np.concatenate([moments[~exact], np.zeros(len(penalty))])
    second, rank, _, smallest = _shortest(stacked @ free, rest - stacked @ first, scale)
    found = len(gram) - free.shape[1] + rank
    needed = np.linalg.matrix_rank(np.vstack([gram, penalty]), tol=_RANK * np.linalg.norm(gram, 2))
    missed = np.abs(system[exact] @ first - moments[exact]).max() > _MISSED * np.abs(moments).max()
    if found < needed or missed:
        raise EstimandError(
            f"{field}: the moments identify {found} of {needed} directions of the class. At discount 1 the process must "
            "end; else pass a richer discriminator, a ridge above 0, or fewer features."
        )
    condition = scale / min(least, smallest)
    if condition < _NEARLY_SINGULAR:
        return first + free @ second, ()
    text = f"the equations of {field} are nearly singular (condition number {condition:.0e}); pass a ridge above 0."
    return first + free @ second, (Note(ConvergenceWarning, text),)


def _shortest(system: Floats, moments: Floats, scale: float) -> tuple[Floats, int, Floats, float]:
    """Least squares: the shortest solution, the rank, a basis of what is left free, and the smallest singular value in use."""
    u, singular, vt = np.linalg.svd(system, full_matrices=system.shape[0] < system.shape[1])
    rank = int(np.sum(singular > _RANK * scale))
    solution = vt[:rank].T @ ((u[:, :rank].T @ moments) / singular[:rank])
    return solution, rank, vt[rank:].T, float(singular[:rank].min(initial=np.inf))


@dataclass(frozen=True)
class Minimax:
    """What minimax learners of w and of Q have in common.

    Args:
        functions: class of what is learned.
        discriminator: class whose unit ball judges it; None is the same class.
        ridge: penalty of the squared norm; None is the default of the class.

    Raises:
        DataError: for a negative ridge.
    """

    functions: FunctionClass = field(default_factory=LinearClass)
    discriminator: FunctionClass | None = None
    ridge: float | None = None
    known: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, given in (("functions", self.functions), ("discriminator", self.discriminator)):
            left_out = given is None and name == "discriminator"
            if not left_out and (isinstance(given, type) or not hasattr(given, "basis")):
                raise DataError(f"{name}: {given!r} is no class of functions; pass LinearClass(), or KernelClass().")
        if self.ridge is not None:
            number("ridge", self.ridge, 0.0)

    @property
    def default_folds(self) -> int:
        return self.functions.default_folds

    def bases(self, problem: RatioProblem | ValueProblem) -> tuple[Basis, Basis]:
        """Of the class and of the discriminator."""
        made = self.functions.basis(problem.steps, problem.weights, problem.seed)
        if self.discriminator is None or self.discriminator == self.functions:
            return made, made
        return made, self.discriminator.basis(problem.steps, problem.weights, problem.seed)

    def penalty(self, rows: float) -> float:
        """The ridge of a fit on so many rows."""
        return self.functions.default_ridge(rows) if self.ridge is None else self.ridge


@dataclass(frozen=True)
class MinimaxQ(Minimax):
    """MQL: the Q whose Bellman residuals no f of the discriminator's unit ball correlates with (Uehara et al. 2020, Section 5).

    min over Q of max over |f| <= 1 of E[f(s, a) (r + discount V(s') - Q(s, a))]^2 + ridge |Q|^2, E the mean over the logged steps
    with a known successor and V(s') = sum_a pi(a|s') Q(s', a). Equal linear classes without ridge are LSTD-Q, `LinearQ`. For a
    finite horizon the same problem is solved backwards, once for each number of steps to go, with V of the step after.

    Constants, one an action, have no norm in either class: residuals have mean 0 at each action, and levels are not shrunk. The
    ridge has the scale of squared moments: directions whose mean square is below its root are shrunk. Its default is 0 for a
    linear class and 0.01 / steps for a kernel. With the same classes and ridge, MWL gives the same value (duality).

    Args:
        functions: class of Q, `LinearClass` or `KernelClass`.
        discriminator: class of f; None is that of Q.
        ridge: penalty; None is the default.

    Raises:
        EstimandError: from `fit`, where the equations do not identify Q, or the target's next actions include one never logged.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0, 0], [0, 1, 1], [1.0, 2.0, 4.0], range(4))
        >>> round(crl.DirectMethod(crl.MinimaxQ()).estimate(data, crl.Always(1)).value, 6)
        3.0
    """

    def fit(self, problem: ValueProblem) -> QFunction:
        horizon = effective_horizon(problem)
        policy = problem.target.all_next(horizon)
        require_logged(problem, policy)
        equations = _Bellman(self, problem)
        everything = np.ones(len(problem.steps), np.bool_)
        if horizon is None:
            theta, notes = equations.solve(problem.steps.known, equations.next_moment(policy[0]), None)
            return _MinimaxQFunction(equations.basis, theta[None], equations.logged(problem.steps.known)[None], notes)
        theta, notes = equations.solve(everything, None, None)
        layers, logged = [theta], [equations.logged(everything)]
        following: Floats | None = None
        for t in range(horizon - 2, -1, -1):
            if following is None or len(policy) > 1:
                following = equations.next_moment(policy[min(t, len(policy) - 1)])
            theta, found = equations.solve(problem.steps.known, None, following @ layers[0])
            layers.insert(0, theta)
            logged.insert(0, equations.logged(problem.steps.known))
            notes += found
        return _MinimaxQFunction(equations.basis, np.stack(layers), np.stack(logged), notes)


class _Bellman:
    """The moments of a value problem in two bases."""

    def __init__(self, model: MinimaxQ, problem: ValueProblem) -> None:
        self._model, self._problem, steps = model, problem, problem.steps
        self.basis, self._critic = model.bases(problem)
        self._phi: AtRows = lambda rows: self.basis.logged(steps.observations[rows], steps.actions[rows])
        self._psi: AtRows = lambda rows: self._critic.logged(steps.observations[rows], steps.actions[rows])
        self._made: dict[bool, tuple[Floats, Floats, Floats, float]] = {}

    def logged(self, used: Bools) -> Bools:
        """(A,) actions that some row in use has."""
        steps = self._problem.steps
        return np.asarray(np.bincount(steps.actions, self._problem.weights * used, steps.data.n_actions) > 0)

    def next_moment(self, policy: Floats) -> Floats:
        """(E, D) discount times the mean of psi(s, a) sum_a' pi(a'|s') phi(s', a')', over the steps whose successor is known."""
        steps, problem = self._problem.steps, self._problem

        def following(rows: Ints) -> Floats:
            out = np.zeros((len(rows), self.basis.size))
            there = problem.target.there[rows]
            out[there] = self.basis.mean(steps.next_observations[rows[there]], policy[rows[there]])
            return out

        return problem.discount * cross_moment(self._psi, following, steps.known, problem.weights)

    def solve(self, used: Bools, own_next: Floats | None, given_next: Floats | None) -> tuple[Floats, tuple[Note, ...]]:
        """Coefficients of Q whose V of the next step is Q's own, through the moment `own_next`, or adds `given_next` (E,)."""
        system, rewards, gram, rows = self._moments(used)
        if own_next is not None:
            system = system - own_next
        if given_next is not None:
            rewards = rewards + given_next
        return least_violation(self.basis, self._critic, system, rewards, gram, self._model.penalty(rows), "q")

    def _moments(self, used: Bools) -> tuple[Floats, Floats, Floats, float]:
        """Means of psi phi', psi r and phi phi' over the rows in use, and how many these are."""
        whole = bool(used.all())
        if whole not in self._made:
            steps, weights = self._problem.steps, self._problem.weights
            system = cross_moment(self._psi, self._phi, used, weights)
            rewards = cross_moment(self._psi, lambda rows: steps.rewards[rows, None], used, weights)[:, 0]
            same = self._critic is self.basis
            gram = system if same else cross_moment(self._phi, self._phi, used, weights)
            self._made[whole] = system, rewards, gram, float(np.sum(weights * used))
        return self._made[whole]


@dataclass(frozen=True, eq=False)
class _MinimaxQFunction(QFunction):
    basis: Basis
    coefficients: Floats
    logged: Bools
    notes: tuple[Note, ...] = ()

    def q(self, observations: NDArray[Any], time: Ints) -> Floats:
        index = np.minimum(time, len(self.coefficients) - 1)
        out = np.empty((len(observations), len(self.basis.columns)))
        for t in np.unique(index):
            for rows in blocks(np.flatnonzero(index == t), ROWS_A_BLOCK):
                out[rows] = np.where(self.logged[t], self.basis.values(observations[rows], self.coefficients[t]), np.nan)
        return out
