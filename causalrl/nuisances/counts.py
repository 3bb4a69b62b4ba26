"""Propensities by counting: the maximum likelihood of a saturated model, Markov or with a memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Bools, Floats, Ints, first_bad, flag, whole_number
from causalrl.data import Steps
from causalrl.errors import DataError, EstimandError, SupportError
from causalrl.kernels.refit_propensities import refit_counts
from causalrl.kernels.tabular import weighted_counts
from causalrl.nuisances.behavior import BehaviorFit, PropensityRefit


@dataclass(frozen=True)
class Counts:
    """Empirical frequencies of the actions in each context (maximum likelihood of the saturated model), without smoothing.

    The context is the state and the memory - 1 pairs (state, action) before it; a step with fewer predecessors has a context
    of its own. Learned from the data that it weights this is regression importance sampling, RIS(memory - 1) in the numbering
    of Hanna, Niekum & Stone (2019), who show that it beats the true propensities; more memory needs more data.

    Args:
        by_time: count each time on its own; otherwise all times are pooled.
        memory: how many states, the current one included, the context holds; 1 is Markov.

    Raises:
        EstimandError: for a memory that is no whole number of at least 1.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 0, 0], [0, 1, 1], [1.0, 3.0, 5.0], range(4))
        >>> crl.WIS(behavior=Counts()).estimate(data, crl.Always(1)).value
        4.0
    """

    by_time: bool = False
    memory: int = 1
    default_folds: int = field(default=1, init=False, repr=False)
    known: bool = field(default=False, init=False, repr=False)
    compiled: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        flag("by_time", self.by_time, EstimandError)
        whole_number("memory", self.memory, 1, EstimandError)

    def fit(self, steps: Steps, weights: Floats, seed: int) -> BehaviorFit:
        contexts = Contexts(steps, self.by_time, self.memory)
        cells = contexts.codes * steps.data.n_actions + steps.actions
        counts = weighted_counts(cells, weights, contexts.count * steps.data.n_actions)
        return CountsFit(counts.reshape(contexts.count, steps.data.n_actions), contexts)

    def propensity_refit(self, steps: Steps) -> PropensityRefit:
        """Refits of the logged actions' frequencies, in a kernel."""
        contexts = Contexts(steps, self.by_time, self.memory)
        sizes = contexts.count, steps.data.n_actions
        return partial(refit_counts, contexts.codes, steps.actions.copy(), *sizes, steps.offsets)


class Contexts:
    """What the actions are counted in, coded.

    Attributes:
        codes: (M,) context of each step. count: how many codes there are.
    """

    def __init__(self, steps: Steps, by_time: bool, memory: int) -> None:
        if not steps.data.tabular:
            raise DataError(
                "behavior: Counts() needs integer states, and the observations are vectors; use Logit() or a classifier."
            )
        self.steps, self.memory = steps, memory
        self.times = int(steps.time.max()) + 1 if by_time else 1
        if memory == 1:
            self.codes: Ints = self._layer(steps.time) * steps.data.n_states + steps.observations
            self.count = self.times * steps.data.n_states
        else:
            histories, count = _histories(steps, memory)
            used, self.codes = np.unique(self._layer(steps.time) * count + histories, return_inverse=True)
            self.count = len(used)

    def _layer(self, time: Ints) -> Ints:
        return np.minimum(time, self.times - 1)

    def of(self, observations: NDArray[np.int64], time: Ints) -> Ints:
        """Codes at any states, where these alone tell the context."""
        if observations is self.steps.observations:
            return self.codes
        if self.memory > 1:
            raise EstimandError(
                f"behavior: Counts(memory={self.memory}) is known at the logged steps only, where it can see the steps before; "
                "this target or value model asks for it elsewhere. Use Counts(), or a target that is not made of the behaviour."
            )
        return self._layer(time) * self.steps.data.n_states + observations


def _histories(steps: Steps, memory: int) -> tuple[Ints, int]:
    """(M,) codes of the state and up to memory - 1 pairs before it, and their number; each round looks one step further back."""
    states, actions = steps.data.n_states, steps.data.n_actions
    previous, initial = np.arange(len(steps)) - 1, steps.time == 0
    codes, count = steps.observations.astype(np.int64), states
    for _ in range(min(memory, int(steps.time.max()) + 1) - 1):
        before = np.where(initial, 0, 1 + codes[previous] * actions + steps.actions[previous])
        used, codes = np.unique(before * states + steps.observations, return_inverse=True)
        count = len(used)
    return codes, count


class CountsFit(BehaviorFit):
    """Frequencies from counts (contexts, A)."""

    corrects = True

    def __init__(self, counts: Floats, contexts: Contexts) -> None:
        self.counts, self._contexts = counts, contexts
        self.stationary = contexts.times == 1

    def probabilities(self, observations: NDArray[np.int64], time: Ints) -> Floats:
        return self._frequencies(self._contexts.of(observations, time), observations)

    def at(self, steps: Steps, rows: Bools) -> Floats:
        return self._frequencies(self._contexts.codes[rows], steps.observations[rows])

    def _frequencies(self, codes: Ints, states: NDArray[np.int64]) -> Floats:
        counts = self.counts[codes]
        total = counts.sum(axis=1, keepdims=True)
        if (total == 0).any():
            row = first_bad(total == 0)
            raise SupportError(
                f"behavior: Counts() never saw state {states[row]} among the trajectories it learned from, and has no "
                "propensity there. Use folds=1, coarser states, or Logit() on state features."
            )
        values: Floats = counts / total
        return values

    def logged(self, steps: Steps, rows: Bools) -> Floats:
        counts = self.counts[self._contexts.codes[rows]]
        total = counts.sum(axis=1)
        values: Floats = np.divide(
            counts[np.arange(len(counts)), steps.actions[rows]], total, out=np.zeros(len(counts)), where=total > 0
        )
        return values

    def correction(self, sensitivity: Floats, test: Bools, train: Floats) -> Floats:
        cells = self._contexts.codes * self.counts.shape[1] + self._contexts.steps.actions
        sums = weighted_counts(cells[test], sensitivity[test], self.counts.size).reshape(self.counts.shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            of_action = sums / self.counts
            of_context = sums.sum(axis=1, keepdims=True) / self.counts.sum(axis=1, keepdims=True)
        return np.where(train > 0, -(of_action - of_context).ravel()[cells], 0.0)
