"""Exact variance and distribution of the return, sum over t < H of discount^t r_t: pure functions of `Dynamics` and arrays.

`terminal` (S,) flags states that earn nothing and go nowhere; a policy is a table (1, S, A) or (H, S, A).
Sources: Sobel (1982), The variance of discounted Markov decision processes, Journal of Applied Probability 19, 794-802;
Rockafellar & Uryasev (2002), Conditional value-at-risk for general loss distributions, Journal of Banking & Finance 26.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array, csr_array

from causalrl.checks import Bools, Floats, Ints, check_probability_rows, number, numeric
from causalrl.errors import DataError, EstimandError
from simulators.checks import ReadOnly, check_time
from simulators.mdp.dynamics import Dynamics
from simulators.mdp.planning import at_time, forward_visits, q_values

SAME = 1e-12
"""Returns are one atom where they differ by less, relative to the larger of |return| and the largest |reward|."""

MOST_ATOMS = 200_000
"""Largest number of pairs (state, return so far) that are followed."""


@dataclass(frozen=True, eq=False)
class ReturnDistribution(ReadOnly):
    """The exact discrete distribution of a return.

    Attributes:
        values: (K,) possible returns, increasing, in units of reward.
        probabilities: (K,) positive, sum 1.

    Raises:
        DataError: for values that do not increase, or probabilities that are no distribution.

    Example:
        >>> import numpy as np
        >>> outcome = ReturnDistribution(np.array([-1.0, 0.0, 1.0]), np.array([0.1, 0.5, 0.4]))
        >>> round(outcome.mean, 12), round(outcome.variance, 12)
        (0.3, 0.41)
        >>> outcome.quantile(0.6), outcome.cvar(0.2)
        (0.0, -0.5)
    """

    values: Floats
    probabilities: Floats

    def __post_init__(self) -> None:
        values, probabilities = numeric("values", self.values), numeric("probabilities", self.probabilities)
        if values.ndim != 1 or not (np.isfinite(values).all() and (np.diff(values) > 0).all()):
            raise DataError("values: pass finite, different returns in increasing order, (K,).")
        if probabilities.shape != values.shape:
            raise DataError(f"probabilities: shape {probabilities.shape} for {len(values)} values; pass one each.")
        check_probability_rows("probabilities", probabilities[None])
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "probabilities", probabilities)
        self._freeze()

    @property
    def mean(self) -> float:
        """Expected return."""
        return float(self.values @ self.probabilities)

    @property
    def variance(self) -> float:
        """Variance of the return, in squared units of reward."""
        return float((self.values - self.mean) ** 2 @ self.probabilities)

    def quantile(self, p: ArrayLike) -> float | Floats:
        """Lowest return x with P(return <= x) >= p; the lowest return of all at p = 0.

        Above the median this is read from the upper tail, P(return > x) <= 1 - p. Either tail may miss its level by one
        part in 10^12, so that the rounding of a sum does not move the answer by an atom.

        Args:
            p: one probability or an array of them.

        Returns:
            a float, or an array of the shape of p.

        Raises:
            DataError: for p outside [0, 1].
        """
        levels = np.asarray(numeric("p", [p])[0])
        if not ((levels >= 0) & (levels <= 1)).all():
            raise DataError(f"p: {p!r} is not in [0, 1]; pass probabilities, such as 0.05 for the fifth percentile.")
        upto = np.cumsum(self.probabilities)
        beyond = np.append(0.0, np.cumsum(self.probabilities[:0:-1]))  # P(return > x), from the highest x down
        from_below = np.searchsorted(upto, levels * (1 - SAME))
        from_above = len(beyond) - np.searchsorted(beyond, (1 - levels) * (1 + SAME), side="right")
        found: Floats = self.values[np.where(levels <= 0.5, from_below, from_above)]
        return found if levels.ndim else float(found)

    def cvar(self, alpha: float) -> float:
        """Conditional value at risk: mean return of the worst share alpha; the atom at the quantile is split.

        Args:
            alpha: share in (0, 1]; 1 gives the mean.

        Raises:
            DataError: for alpha outside (0, 1].
        """
        if number("alpha", alpha, 0, 1) == 0:
            raise DataError(f"alpha: {alpha!r}; pass the share of worst returns to average, such as 0.05.")
        below = np.append(0.0, np.cumsum(self.probabilities[:-1]))
        share = np.clip(alpha - below, 0.0, self.probabilities)
        return float(self.values @ share / share.sum())


def return_variance(
    dynamics: Dynamics,
    terminal: Bools,
    initial: Floats,
    tables: Floats,
    horizon: int,
    discount: float,
    reward_variance: float = 0.0,
) -> float:
    """Exact variance of the return, by the law of total variance over decisions and transitions.

    Var(V_0(s_0)) + sum_t discount^2t E[(Q_t(s_t, a_t) - V_t(s_t))^2 + Var(r_t + discount V_{t+1}(s_{t+1}) | s_t, a_t)] over
    live states: the recursion of Sobel (1982, theorem 1), unrolled. No difference of large moments is taken.

    Args:
        dynamics: of S states and A actions.
        terminal: (S,) flags.
        initial: (S,) start distribution, 0 at terminal states.
        tables: (1, S, A) or (H, S, A) policy.
        horizon: H, at least 1.
        discount: in [0, 1].
        reward_variance: of independent noise added to every reward, in squared units of reward.

    Raises:
        EstimandError: for a horizon or discount out of range.
        DataError: for a negative reward variance.

    Example:
        >>> import numpy as np
        >>> coin = Dynamics.from_dense([[[0.5, 0.5]], [[0.5, 0.5]]], [0.0, 1.0])
        >>> return_variance(coin, np.zeros(2, bool), np.array([1.0, 0.0]), np.ones((1, 2, 1)), horizon=8, discount=1.0)
        2.0
    """
    discount = check_process(horizon, discount, reward_variance)
    q = q_values(dynamics, terminal, tables, horizon, discount)
    values = _averaged(q, tables)
    variances = residual_variances(dynamics, terminal, values, discount, reward_variance)
    visits = forward_visits(dynamics, terminal, initial, tables, horizon, discount**2)
    return start_variance(initial, values[0]) + float((visits * (variances + (q - values[:-1, :, None]) ** 2)).sum())


def check_process(horizon: int, discount: float, reward_variance: float = 0.0) -> float:
    """The discount, in [0, 1], as a float; the horizon is finite, and the variance of the reward noise is one."""
    number("reward_variance", reward_variance, 0)
    return check_time(horizon, discount, endless=False)


def state_values(dynamics: Dynamics, terminal: Bools, tables: Floats, horizon: int, discount: float) -> Floats:
    """(H + 1, S) V_t, the value from time t on; V_H = 0."""
    return _averaged(q_values(dynamics, terminal, tables, horizon, discount), tables)


def _averaged(q: Floats, tables: Floats) -> Floats:
    """(H + 1, S) V_t from Q_t (H, S, A)."""
    return np.append((tables * q).sum(axis=2), np.zeros((1, q.shape[1])), axis=0)


def start_variance(initial: Floats, values: Floats) -> float:
    """Var(V_0(s_0)); both arrays (S,)."""
    return float(initial @ (values - initial @ values) ** 2)


def residual_variances(
    dynamics: Dynamics, terminal: Bools, values: Floats, discount: float, reward_variance: float = 0.0
) -> Floats:
    """(H, S, A) Var(r + discount V_{t+1}(s') | s, a) + reward_variance, 0 in terminal states; values (H + 1, S)."""
    variances = np.stack(
        [transition_variance(dynamics, dynamics.rewards + discount * after[dynamics.successors]) for after in values[1:]]
    )
    variances += reward_variance
    variances[:, terminal] = 0.0
    return variances


def transition_variance(dynamics: Dynamics, outcomes: Floats) -> Floats:
    """(S, A) variance given (s, a) of a quantity whose value at each stored transition is `outcomes` (nnz,)."""
    first = dynamics.indptr[:-1]
    mean = np.add.reduceat(dynamics.probabilities * outcomes, first)
    deviation = outcomes - np.repeat(mean, np.diff(dynamics.indptr))
    variance: Floats = np.add.reduceat(dynamics.probabilities * deviation**2, first)
    return variance.reshape(dynamics.n_states, dynamics.n_actions)


def return_distribution(
    dynamics: Dynamics, terminal: Bools, initial: Floats, tables: Floats, horizon: int, discount: float
) -> ReturnDistribution:
    """Exact distribution of the return, by following every pair (live state, return so far) forwards.

    Pairs whose returns agree up to rounding are merged; what has ended is followed no further. The number of pairs stays
    small where rewards come at the end or take few values at discount 1, and grows geometrically where they do not.

    Args:
        dynamics: of S states and A actions.
        terminal: (S,) flags.
        initial: (S,) start distribution, 0 at terminal states.
        tables: (1, S, A) or (H, S, A) policy.
        horizon: H, at least 1.
        discount: in [0, 1].

    Raises:
        EstimandError: for a horizon or discount out of range, or for more than 200,000 pairs.

    Example:
        >>> import numpy as np
        >>> coin = Dynamics.from_dense([[[0.5, 0.5]], [[0.5, 0.5]]], [0.0, 1.0])
        >>> heads = return_distribution(coin, np.zeros(2, bool), np.array([1.0, 0.0]), np.ones((1, 2, 1)), 2, 1.0)
        >>> heads.values, heads.probabilities
        (array([0., 1., 2.]), array([0.25, 0.5 , 0.25]))
    """
    discount = check_process(horizon, discount)
    scale = float(np.abs(dynamics.rewards).max())
    arrivals = _Arrivals.of(dynamics)
    atoms = _Atoms(np.zeros(1), csr_array(np.where(terminal, 0.0, initial)[None]))
    over: list[tuple[Floats, Floats]] = []
    for t in range(horizon):
        returns, states, mass = arrivals.after(atoms, at_time(tables, t), discount**t)
        ends = terminal[states]
        over.append((returns[ends], mass[ends]))
        atoms = _Atoms.merging(returns[~ends], states[~ends], mass[~ends], dynamics.n_states, scale)
        _check_number(atoms.mass.nnz, t + 1)
    returns, mass = map(np.concatenate, zip(*over, (atoms.values, atoms.mass.sum(axis=1)), strict=True))
    values, index = _distinct(returns, scale)
    probabilities: Floats = np.bincount(index, weights=mass).astype(np.float64)
    return ReturnDistribution(values, probabilities)


@dataclass(frozen=True, eq=False)
class _Atoms:
    """Returns so far (K,), and the probability (K, S), sparse, of each together with a live state."""

    values: Floats
    mass: Any

    @classmethod
    def merging(cls, returns: Floats, states: Ints, mass: Floats, n_states: int, scale: float) -> _Atoms:
        values, index = _distinct(returns, scale)
        return cls(values, coo_array((mass, (index, states)), shape=(len(values), n_states)).tocsr())


@dataclass(frozen=True, eq=False)
class _Arrivals:
    """The distinct pairs (reward, successor), and which of them each stored transition leads to.

    Attributes:
        rewards, states: (P,) of each pair.
        pair: (nnz,) pair of each transition.
    """

    dynamics: Dynamics
    rewards: Floats
    states: Ints
    pair: Ints

    @classmethod
    def of(cls, dynamics: Dynamics) -> _Arrivals:
        rewards, code = np.unique(dynamics.rewards, return_inverse=True)
        keys, pair = np.unique(code * dynamics.n_states + dynamics.successors, return_inverse=True)
        return cls(dynamics, rewards[keys // dynamics.n_states], keys % dynamics.n_states, pair)

    def after(self, atoms: _Atoms, table: Floats, weight: float) -> tuple[Floats, Ints, Floats]:
        """Returns, states and probabilities after one step, not merged; a reward counts `weight`."""
        d = self.dynamics
        chances = np.repeat(table.reshape(-1), np.diff(d.indptr)) * d.probabilities
        step = csr_array((chances, self.pair, d.indptr[:: d.n_actions]), shape=(d.n_states, len(self.states)))
        moved = (atoms.mass @ step).tocoo()
        possible = moved.data > 0
        row, pair = moved.row[possible], moved.col[possible]
        return atoms.values[row] + weight * self.rewards[pair], self.states[pair], moved.data[possible]


def _distinct(returns: Floats, scale: float) -> tuple[Floats, Ints]:
    """Returns that differ beyond rounding, increasing, and the index of each given one among them."""
    order = np.argsort(returns)
    ordered = returns[order]
    new = np.diff(ordered, prepend=-np.inf) > SAME * np.maximum(np.abs(ordered), scale)
    index = np.empty(len(returns), np.int64)
    index[order] = np.cumsum(new) - 1
    return ordered[new], index


def _check_number(atoms: int, steps: int) -> None:
    if atoms > MOST_ATOMS:
        raise EstimandError(
            f"return_distribution: {atoms} pairs of a state and a return so far after {steps} steps, more than {MOST_ATOMS}. "
            "Shorten the horizon, round the rewards to few values, or take discount=1; return_variance has no such limit."
        )
