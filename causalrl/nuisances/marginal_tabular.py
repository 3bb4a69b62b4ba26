"""Tabular marginal importance weights: where the target goes, by frequencies of logged transitions.

Xie, Ma & Wang (2019), "Towards Optimal Off-Policy Evaluation for Reinforcement Learning with Marginalized Importance Sampling",
eq. 3.3; without a horizon, the linear system of Liu, Li, Tang & Zhou (2018) for a table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.errors import DataError, EstimandError
from causalrl.kernels.occupancy import chain_ratios, refit_marginal_values, stationary_ratios
from causalrl.nuisances.behavior import BehaviorFit
from causalrl.nuisances.ratio import DensityRatio, MarginalRefit, RatioProblem, RowRatio, lost_by_time

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
            in the same way, and neither transitions nor behaviour policy may depend on time.

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

    def fit(self, problem: RatioProblem) -> DensityRatio:
        chain = _Chain(problem, self.by_time)
        numerators, weights = chain.numerators(problem), problem.weights[chain.order]
        propensities = problem.known_propensities[chain.order]
        lost = 0.0
        if chain.stationary:
            sorted_ratios, lost, change = stationary_ratios(
                *chain.rows,
                *chain.edges,
                chain.slices[0][1],
                chain.slices[1][-1],
                numerators[0] / propensities,
                weights,
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
            sorted_ratios = chain_ratios(*chain.rows, *chain.edges, *chain.slices, numerators, propensities, weights)
        state = np.empty(len(weights))
        state[chain.order] = sorted_ratios
        known = state >= 0
        own = problem.ratios * (1.0 if chain.stationary else problem.discount**problem.steps.time)
        return RowRatio(np.where(known, state, 0.0) * own, lost_by_time(problem, state, own, chain.stationary) + lost)

    def value_refit(self, problem: RatioProblem) -> MarginalRefit:
        return _Refit(problem, _Chain(problem, self.by_time))


@dataclass(frozen=True, eq=False)
class _Refit:
    problem: RatioProblem
    chain: _Chain

    @cached_property
    def _kernel(self) -> MarginalRefit:
        chain, steps, discount = self.chain, self.problem.steps, self.problem.discount
        rewards = steps.rewards * (1.0 if chain.stationary else discount**steps.time)
        return partial(
            refit_marginal_values,
            *chain.rows,
            *chain.edges,
            *chain.slices,
            chain.numerators(self.problem),
            self.problem.numerators[chain.order],
            rewards[chain.order],
            steps.trajectory[chain.order],
            chain.stationary,
            discount,
            _TOLERANCE,
            _MAX_ITERATIONS,
        )

    def __call__(self, weights: Floats, propensities: Floats) -> Floats:
        return self._kernel(weights, np.ascontiguousarray(propensities[:, self.chain.order]))


class _Chain:
    """The logged transitions as cells and distinct edges, sorted by time.

    Attributes:
        order: (M,) permutation of the steps. rows: cells, edges, stays, used (M,), see `transition_shares`.
        edges: from, to (E,). slices: boundaries of rows, cells and edges by time.
        stationary: one ratio for all times.
    """

    def __init__(self, problem: RatioProblem, by_time: bool) -> None:
        steps = problem.steps
        if not steps.data.tabular:
            raise DataError("ratio: TabularRatio() needs integer states, and the observations are vectors; use LinearRatio().")
        self.stationary = problem.horizon is None and not by_time
        self._pooled = not by_time
        if self.stationary:
            problem.target.times(None)
        states, there = steps.data.n_states, problem.target.there
        self.order = np.argsort(steps.time, kind="stable")
        time, length = steps.time[self.order], int(steps.time.max()) + 1
        here = steps.observations[self.order] + (0 if self._pooled else time * states)
        then = np.where(there, steps.next_observations, 0)[self.order] + (0 if self._pooled else (time + 1) * states)
        codes, cells = np.unique(here, return_inverse=True)
        place = np.minimum(np.searchsorted(codes, then), len(codes) - 1)
        met: Bools = there[self.order] & (codes[place] == then)
        if self._pooled and (there[self.order] & ~met).any():  # states met only where a record was cut
            codes = np.union1d(codes, then[there[self.order]])
            cells, place = np.searchsorted(codes, here), np.minimum(np.searchsorted(codes, then), len(codes) - 1)
            met = there[self.order]
        self.edges, edge_of_row = _distinct_edges(cells, place, met)
        stays = np.ones(len(steps), np.bool_)
        stays[steps.last[steps.cut_early]] = False
        self.rows: tuple[Ints, Ints, Bools, Bools] = (cells, edge_of_row, stays[self.order], steps.known[self.order])
        of_cells: Ints = np.array([0, len(codes)])
        if by_time:
            of_cells = np.searchsorted(codes, np.arange(length + 1) * states)
        self.slices: tuple[Ints, Ints, Ints] = (
            np.searchsorted(time, np.arange(length + 1)),
            of_cells,
            np.searchsorted(self.edges[0], of_cells),
        )

    def numerators(self, problem: RatioProblem) -> Floats:
        """(1, M) target probabilities of the logged actions, or (T, M) of a target that changes in time while cells do not."""
        target = problem.target
        if not self._pooled or isinstance(target.policy, BehaviorFit) or target.times(problem.horizon) == 1:
            return problem.numerators[self.order][None]
        steps, length = problem.steps, len(self.slices[0]) - 1
        table = target.table(problem.horizon)[:length]
        return np.ascontiguousarray(table[:, steps.observations[self.order], steps.actions[self.order]])


def _distinct_edges(cells: Ints, place: Ints, met: Bools) -> tuple[tuple[Ints, Ints], Ints]:
    """From and to of the distinct edges (E,), sorted, and the edge of each row, -1 where nothing follows."""
    size = int(max(cells.max(), place.max())) + 1
    distinct, index = np.unique(cells[met] * size + place[met], return_inverse=True)
    of_row = np.full(len(cells), -1, np.int64)
    of_row[met] = index
    return (distinct // size, distinct % size), of_row
