"""What the structural model is checked against: the process as its noise moves it, and the record as its transitions."""

from __future__ import annotations

import numpy as np

from causalrl.checks import PROBABILITY_TOLERANCE, Bools, Floats, Ints, first_bad
from causalrl.data import End, Trajectories
from causalrl.errors import DataError
from simulators.mdp.factors import grid_levels
from simulators.mdp.sampling import cumulative_rows
from simulators.scm.kernels import Law
from simulators.tabular import TabularMDP

_INSTEAD = "or use GumbelMax(), which needs no factors"


def gumbel_law(process: TabularMDP) -> Law:
    """The process with successors in increasing order, and no factors.

    Raises:
        DataError: for a row that stores a successor twice.
    """
    dynamics = process.dynamics
    row = dynamics.rows
    order = np.argsort(row * process.n_states + dynamics.successors, kind="stable")
    successors = dynamics.successors[order]
    twice = np.append(False, (np.diff(row) == 0) & (np.diff(successors) == 0))
    if twice.any():
        entry = first_bad(twice)
        raise DataError(
            f"successors: {_place(process, row[entry])} stores state {successors[entry]} twice; add the two "
            "probabilities up, since the noise picks a next state."
        )
    return Law(
        dynamics.indptr,
        row,
        successors,
        dynamics.probabilities[order],
        dynamics.rewards[order],
        process.terminal,
        levels=np.empty((process.n_states, 0), np.int64),
        place=np.empty(0, np.int64),
        states=np.empty(0, np.int64),
        cumulative=np.empty((0, 0, 0)),
    )


def factor_law(process: TabularMDP) -> Law:
    """The process with its factors, the columns of `state_features`.

    Raises:
        DataError: for states that are no complete grid, or a row that is no product of its marginals.
    """
    law = gumbel_law(process)
    levels, shape = _grid(process)
    marginals = np.zeros((len(law.indptr) - 1, len(shape), max(shape)))
    for f, n_levels in enumerate(shape):
        counted = np.bincount(law.row * n_levels + levels[law.successors, f], law.probabilities, len(marginals) * n_levels)
        marginals[:, f, :n_levels] = counted.reshape(-1, n_levels)
    _check_products(process, law, marginals, levels)
    return law._replace(
        levels=levels,
        place=np.append(np.cumprod(shape[:0:-1])[::-1], 1).astype(np.int64),
        states=np.argsort(np.ravel_multi_index(tuple(levels.T), shape)),
        cumulative=cumulative_rows(marginals),
    )


def _grid(process: TabularMDP) -> tuple[Ints, tuple[int, ...]]:
    """(S, F) level of each factor of a state, and the number of levels of each factor."""
    features = process.state_features
    if features is None or not features.shape[1]:
        raise DataError(
            "state_features: the process has none, and FactorWise() needs the factors of a state; pass "
            f"state_features=(S, F) with one column a factor, {_INSTEAD}."
        )
    grid = grid_levels(features)
    if grid is None:
        different = len(np.unique(features, axis=0))
        combinations = np.prod([float(len(np.unique(column))) for column in features.T])
        raise DataError(
            f"state_features: {process.n_states} states, {different} of them different, of {combinations:.0f} combinations "
            f"of levels; FactorWise() needs every combination exactly once. Pass columns that do, {_INSTEAD}."
        )
    return grid


def _check_products(process: TabularMDP, law: Law, marginals: Floats, levels: Ints) -> None:
    """Every live row has the product of its marginals, on the same support."""
    factors = np.arange(levels.shape[1])
    product = marginals[law.row[:, None], factors, levels[law.successors]].prod(axis=1)
    off = np.bincount(law.row, np.abs(product - law.probabilities) > PROBABILITY_TOLERANCE, len(marginals)) > 0
    off |= (marginals > 0).sum(axis=2).astype(float).prod(axis=1) != np.diff(law.indptr)
    off &= ~np.repeat(process.terminal, process.n_actions)
    if off.any():
        raise DataError(
            f"transitions: the row of {_place(process, first_bad(off))} is not the product of its factors' "
            f"marginal distributions, as FactorWise() needs; pass factors that move independently, {_INSTEAD}."
        )


def logged_entries(data: Trajectories, process: TabularMDP, law: Law) -> Ints:
    """(N,) entry of `law` that each logged step took.

    Raises:
        DataError: for records that are not on the states of the process, whose last successor is unknown, or with a
            transition of probability 0; the row is named.
    """
    _check_record(data, process)
    steps = data.steps()
    _check_ends(data, process, steps.next_observations[steps.last])
    row = data.observations * process.n_actions + data.actions
    stored = law.row * process.n_states + law.successors
    wanted = row * process.n_states + steps.next_observations
    entries: Ints = np.minimum(np.searchsorted(stored, wanted), len(stored) - 1)
    impossible = stored[entries] != wanted
    if impossible.any():
        step = first_bad(impossible)
        raise DataError(
            f"observations: row {step} ({_whose(data, steps.trajectory[step], steps.time[step])}) goes from "
            f"{_place(process, row[step])} to state {steps.next_observations[step]}, which has probability 0 in the "
            "process; pass records of this very process, in its numbering of states and actions."
        )
    return entries


def _check_record(data: Trajectories, process: TabularMDP) -> None:
    if not isinstance(data, Trajectories):
        raise DataError(f"data: {data!r}; pass Trajectories of the process, as sample returns them.")
    if not data.tabular or data.n_states != process.n_states:
        seen = f"{data.n_states} states" if data.tabular else f"vectors of {data.observations.shape[1]} columns"
        raise DataError(
            f"observations: the record has {seen}, the process {process.n_states} states; a counterfactual needs the whole "
            "state. Pass records on the states of the process, with n_states."
        )
    if not 1 <= data.n_actions <= process.n_actions:
        raise DataError(
            f"actions: the record has {data.n_actions or 'continuous'} actions, the process {process.n_actions}; pass "
            "records of this very process."
        )
    if data.final_observations is None:
        raise DataError(
            "final_observations: none, so that the last transition of each record is unknown; pass the state after the "
            "last step of each trajectory."
        )
    over: Bools = process.terminal[data.observations]
    if over.any():
        step = first_bad(over)
        i = int(np.searchsorted(data.offsets, step, side="right")) - 1
        raise DataError(
            f"observations: row {step} ({_whose(data, i, step - data.offsets[i])}) decides in the terminal state "
            f"{data.observations[step]}; let the record end where the process does."
        )


def _check_ends(data: Trajectories, process: TabularMDP, final: Ints) -> None:
    live = (data.end == End.TERMINATED) & ~process.terminal[final]
    if live.any():
        i = first_bad(live)
        raise DataError(
            f"final_observations: trajectory {data.ids[i]} (row {i}) is marked terminated, but {final[i]} is no terminal "
            "state of the process; give the terminal state that it reached, or mark the record as truncated."
        )


def _place(process: TabularMDP, row: int) -> str:
    return f"state {row // process.n_actions}, action {row % process.n_actions}"


def _whose(data: Trajectories, trajectory: int, time: int) -> str:
    return f"trajectory {data.ids[trajectory]}, step {time}"
