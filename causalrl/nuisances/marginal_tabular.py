"""Tabular marginal importance weights: where the target goes, by frequencies of logged transitions.

Xie, Ma & Wang (2019), "Towards Optimal Off-Policy Evaluation for Reinforcement Learning with Marginalized Importance Sampling",
eq. 3.3; without a horizon, the linear system of Liu, Li, Tang & Zhou (2018) for a table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np

from causalrl.checks import Bools, Floats, Ints, flag
from causalrl.data import Steps
from causalrl.errors import DataError, EstimandError
from causalrl.kernels.occupancy import Cells, chain_ratios, row_weights, stationary_ratios
from causalrl.kernels.refit_marginal import refit_marginal_values
from causalrl.nuisances.behavior import BehaviorFit
from causalrl.nuisances.ratio import DensityRatio, MarginalRefit, RatioProblem, RowRatio

_TOLERANCE = 1e-12
"""A stationary occupancy has converged when no state moves by more than this share of the total."""
_MAX_ITERATIONS = 20_000


@dataclass(frozen=True)
class TabularRatio:
    """m_t(s, a) = discount^t d_t(s) / b_t(s) pi(a|s) / b(a|s), the state probabilities by counting.

    d_0 = b_0, and d_{t+1}(s') = sum_s d_t(s) P(s'|s) where P(s'|s) is the mean of ratio times 1(s') over the logged decisions in
    s (Xie, Ma & Wang 2019). Each step's flow is scaled so that the target's total probability is kept: its mean importance ratio
    is 1 in expectation, and its error would otherwise multiply over the horizon. Without a horizon, and with pooled times,
    m(s, a) is the ratio of sum_t discount^t d_t to sum_t b_t, the solution of a linear system.

    Args:
        by_time: P and b_t from the frequencies at each t. Otherwise transitions of all times are pooled, b_t follows from them
            in the same way, and neither transitions nor behaviour policy may depend on time; that a record is cut before the
            horizon may depend on time only, not on the state. Where that chain expects fewer than 0.1 of the trajectories, the
            ratio counts as unknown: 0, and in `diagnostics["lost_mass"]`.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays(
        ...     [0, 1, 0, 2], [1, 0, 0, 0], [0.0, 6.0, 0.0, 2.0], [0, 2, 4], behavior_probabilities=[0.5, 1.0, 0.5, 1.0]
        ... )
        >>> chosen = crl.TabularPolicy([[0.25, 0.75], [1.0, 0.0], [1.0, 0.0]])
        >>> crl.MIS(ratio=TabularRatio(by_time=True)).estimate(data, crl.PolicyValue(chosen, horizon=2)).value
        5.0
    """

    by_time: bool = False
    default_folds: int = field(default=5, init=False, repr=False)
    known: bool = field(default=False, init=False, repr=False)
    needs_behavior: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        flag("by_time", self.by_time, EstimandError)

    def fit(self, problem: RatioProblem) -> DensityRatio:
        chain = _Chain.of(problem, self.by_time)
        propensities = problem.known_propensities
        lost: float | Floats
        if chain.stationary:
            state, lost, change = stationary_ratios(
                *chain.rows,
                *chain.edges,
                problem.steps.first,
                chain.slices[0][-1],
                problem.numerators,
                propensities,
                problem.weights,
                problem.discount,
                _TOLERANCE,
                _MAX_ITERATIONS,
            )
            if not change <= _TOLERANCE:
                raise EstimandError(
                    f"ratio: the occupancy of {problem.target.policy} still moves after {_MAX_ITERATIONS} steps: at discount "
                    f"{problem.discount} its process does not end in the data. Pass a horizon, or a smaller discount."
                )
        else:
            state, lost = chain_ratios(
                *chain.rows,
                *chain.edges,
                problem.steps.first,
                problem.steps.last,
                chain.cut,
                problem.steps.time,
                chain.n_times,
                *chain.slices,
                *chain.numerators(problem),
                propensities,
                problem.weights,
            )
        powers: Floats = np.power(problem.discount, np.arange(1 if chain.stationary else chain.n_times))
        own = problem.numerators, propensities, problem.weights
        weights, held_out = row_weights(state, powers, chain.rows[0], problem.steps.time, *own)
        return RowRatio(weights, held_out + lost)

    def value_refit(self, problem: RatioProblem) -> MarginalRefit:
        """Refits of the mean of sum m r, in a kernel."""
        chain, steps, discount = _Chain.of(problem, self.by_time), problem.steps, problem.discount
        return partial(
            refit_marginal_values,
            *chain.rows,
            *chain.edges,
            steps.first,
            steps.last,
            chain.cut,
            steps.time,
            chain.n_times,
            *chain.slices,
            *chain.numerators(problem),
            problem.numerators,
            steps.rewards * (1.0 if chain.stationary else discount**steps.time),
            steps.trajectory,
            chain.stationary,
            discount,
            _TOLERANCE,
            _MAX_ITERATIONS,
        )


class _Chain:
    """The logged transitions as cells and distinct edges; the same for all targets and folds.

    Attributes:
        rows: cells, edges, stays, used (M,), see `transition_shares`. edges: from, to (E,), sorted. n_times: T.
        cut: (n,) see `chain_ratios`.
        slices: boundaries of cells and edges by time. stationary: one ratio for all times.
    """

    @classmethod
    def of(cls, problem: RatioProblem, by_time: bool) -> _Chain:
        """The chain of the problem's steps, made once."""
        if not problem.steps.data.tabular:
            raise DataError("ratio: TabularRatio() needs integer states, and the observations are vectors; use LinearRatio().")
        if problem.horizon is None and not by_time:
            problem.target.times(None)
        return problem.steps.once((_Chain, by_time), lambda: cls(problem.steps, by_time))

    def __init__(self, steps: Steps, by_time: bool) -> None:
        self.stationary, self._pooled = steps.horizon is None and not by_time, not by_time
        self.n_times, states = int(steps.time.max()) + 1, steps.data.n_states
        there = steps.continues & steps.known
        here = steps.observations if self._pooled else steps.observations + steps.time * states
        then = np.where(there, steps.next_observations, 0) + (0 if self._pooled else (steps.time + 1) * states)
        codes = np.unique(here)
        place = np.minimum(np.searchsorted(codes, then), len(codes) - 1)
        met: Bools = there & (codes[place] == then)
        if self._pooled and (there & ~met).any():  # states met only where a record was cut
            codes, met = np.union1d(codes, then[there]), there
            place = np.minimum(np.searchsorted(codes, then), len(codes) - 1)
        cells = np.searchsorted(codes, here)
        self.edges, edge_of_row = _distinct_edges(cells, place, met)
        stays, self.cut = np.ones(len(steps), np.bool_), steps.cut_early & self._pooled
        stays[steps.last[steps.cut_early & ~self.cut]] = False
        self.rows: tuple[Cells, Cells, Bools, Bools] = (cells.astype(np.int32), edge_of_row, stays, steps.known)
        of_cells: Ints = np.array([0, len(codes)])
        if by_time:
            of_cells = np.searchsorted(codes, np.arange(self.n_times + 1) * states)
        self.slices: tuple[Ints, Ints] = (of_cells, np.searchsorted(self.edges[0], of_cells))

    def numerators(self, problem: RatioProblem) -> tuple[Floats, Ints]:
        """(1, M) target probabilities of the logged actions; of a target that changes in time while cells do not the table
        (T, S A), and the column (M,) of each row."""
        target = problem.target
        if not self._pooled or isinstance(target.policy, BehaviorFit) or target.times(problem.horizon) == 1:
            return problem.numerators[None], np.empty(0, np.int64)
        steps, table = problem.steps, target.table(problem.horizon)[: self.n_times]
        return table.reshape(len(table), -1), steps.observations.astype(np.int64) * table.shape[2] + steps.actions


def _distinct_edges(cells: Ints, place: Ints, met: Bools) -> tuple[tuple[Ints, Ints], Cells]:
    """From and to of the distinct edges (E,), sorted, and the edge of each row, -1 where nothing follows."""
    size = int(max(cells.max(), place.max())) + 1
    code = cells[met] * size + place[met]
    distinct = np.unique(code)
    of_row = np.full(len(cells), -1, np.int32)
    of_row[met] = np.searchsorted(distinct, code)
    return (distinct // size, distinct % size), of_row
