"""`StructuralModel`: a tabular simulator with its exogenous noise, and counterfactual trajectories under another policy.

A structural causal model writes the next state as a function of state, action and noise, s' = f(s, a, u). A record
tells something of the noise that a patient met; the counterfactual trajectory keeps that noise and changes the actions.

**Counterfactuals depend on the structural model, not on the transition probabilities alone.** `GumbelMax` and
`FactorWise` agree on P(s' | s, a), hence on the law of the data and on the value of every policy, and still answer
"what would have happened to this patient?" differently. No data can tell them apart: the mechanism is an assumption.

Source: Oberst & Sontag, Counterfactual off-policy evaluation with Gumbel-max structural causal models, ICML 2019.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from causalrl.checks import Floats, Ints, whole_number
from causalrl.data import End, Trajectories
from causalrl.errors import EstimandError
from causalrl.kernels.rng import derive_seed
from causalrl.policies import PolicyLike
from simulators.base import TabularSimulator
from simulators.checks import MOST_TRAJECTORIES, check_sample, check_time, frozen
from simulators.mdp.sampling import cumulative_rows
from simulators.scm.kernels import Law, follow
from simulators.scm.laws import factor_law, gumbel_law, logged_entries

if TYPE_CHECKING:
    from simulators.tabular import TabularMDP


class Noise(ABC):
    """How the exogenous noise of one step picks the next state."""

    @abstractmethod
    def law(self, process: TabularMDP) -> Law:
        """The process as this noise moves it.

        Raises:
            DataError: for a process that it cannot move.
        """


@dataclass(frozen=True)
class GumbelMax(Noise):
    """One Gumbel number a state: s' = argmax over j of log P(j | s, a) + g_j.

    Counterfactually stable (Oberst & Sontag 2019): where i was observed, another outcome j can take its place only if
    its odds rose, P~(j) / P(j) > P~(i) / P(i). The numbers are drawn from their posterior given the observed
    transition. The authors average 1000 such draws into a probability vector and draw the next state from that; one
    draw and its argmax has exactly the same law.

    Example:
        >>> from causalrl.policies import Always
        >>> from simulators.tabular import TabularMDP
        >>> law = [[[0.6, 0.3, 0.1], [0.1, 0.5, 0.4]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2]
        >>> dose = TabularMDP(law, [0, 1, 2], [1, 0, 0], terminal=[False, True, True])
        >>> data = dose.sample(1000, Always(0), horizon=1, seed=0)
        >>> dosed = dose.scm(GumbelMax()).counterfactual(data, Always(1))
        >>> bool((dosed.rewards >= data.rewards).all())  # the likelihood ratio grows with the outcome
        True
    """

    def law(self, process: TabularMDP) -> Law:
        """See `Noise.law`; the process of any rows that store each successor once."""
        return gumbel_law(process)


@dataclass(frozen=True)
class FactorWise(Noise):
    """One uniform number a factor of the state: its next level is the lowest one with F(level | s, a) > u.

    The state must be a tuple of factors that move independently given state and action: the columns of
    `state_features` form a complete grid, and every row of the transition matrix is the product of its marginals, as in
    the sepsis simulator. The observed level says that u lay between F(level - 1) and F(level), and nothing about the
    other factors. The next level increases with u, so the answer depends on the order of the levels.

    Example:
        >>> from causalrl.policies import Always
        >>> from simulators.tabular import TabularMDP
        >>> law = [[[0.5, 0.5, 0], [0.25, 0.25, 0.5]], [[0, 1, 0]] * 2, [[0, 0, 1]] * 2]
        >>> dose = TabularMDP(law, [0, 1, 2], [1, 0, 0], [False, True, True], state_features=[[0], [1], [2]])
        >>> data = dose.sample(1000, Always(0), horizon=1, seed=0)
        >>> for noise in (FactorWise(), GumbelMax()):  # the patients with outcome 1 under action 0, had they had action 1
        ...     dosed = dose.scm(noise).counterfactual(data, Always(1), samples=10).rewards[data.rewards.repeat(10) == 1]
        ...     print(noise, round(float(dosed.mean()), 1))
        FactorWise() 2.0
        GumbelMax() 1.5
    """

    def law(self, process: TabularMDP) -> Law:
        """See `Noise.law`; the process of any states that are a complete grid and rows that are products of marginals."""
        return factor_law(process)


@dataclass(frozen=True, eq=False)
class StructuralModel:
    """A simulator whose transitions are driven by a noise mechanism: an assumption that no data can test (see the module).

    Args:
        simulator: the process, with its views.
        noise: `GumbelMax()` or `FactorWise()`.

    Raises:
        DataError: for a process that the noise cannot drive, naming the first state and action at fault.
        EstimandError: for what is no simulator or no noise mechanism.

    Example:
        >>> from causalrl.policies import Always
        >>> from simulators.tabular import TabularMDP
        >>> cure = TabularMDP([[[0.5, 0.5], [0.2, 0.8]], [[0, 1], [0, 1]]], [0.0, 1.0], [1, 0], terminal=[False, True])
        >>> model = StructuralModel(cure, GumbelMax())
        >>> model
        StructuralModel(simulator=TabularMDP(n_states=2, n_actions=2, 1 terminal, 6 transitions), noise=GumbelMax())
        >>> data = cure.sample(1000, Always(0), horizon=1, seed=0)
        >>> treated = model.counterfactual(data, Always(1), samples=5)
        >>> (treated.n, bool(treated.rewards[data.rewards.repeat(5) == 1].all()))  # whoever was cured stays so
        (5000, True)
    """

    simulator: TabularSimulator
    noise: Noise
    _law: Law = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.simulator, TabularSimulator):
            raise EstimandError(
                f"simulator: {self.simulator!r} has no transition matrix; pass a TabularMDP or a tabular simulator."
            )
        if not isinstance(self.noise, Noise):
            raise EstimandError(f"noise: {self.noise!r} is no noise mechanism; pass GumbelMax() or FactorWise().")
        object.__setattr__(self, "_law", self.noise.law(self.simulator.mdp))

    def counterfactual(
        self,
        data: Trajectories,
        policy: PolicyLike,
        samples: int = 1,
        seed: int = 0,
        horizon: int | None = None,
        *,
        sees: str | None = None,
    ) -> Trajectories:
        """What would have happened to the same patients under another policy.

        From the observed start, each step draws an action from the policy and moves by noise drawn from its posterior
        given the observed transition of that step; the observed action in the observed state thus has the observed
        outcome. After the end of a record the noise is unconstrained. Over records of the process under any behaviour
        that does not see the noise (`Confounded` does), the trajectories have the law of the policy, and their mean
        return estimates its value. For one seed, a sample meets the same noise under every policy.

        Args:
            data: records of the full state, with final_observations (those of terminated records too); their rewards
                are not used.
            policy: the counterfactual one; its actions are drawn afresh, since they are no part of the noise.
            samples: trajectories for each record, each with noise of its own.
            seed: any non-negative integer.
            horizon: number of steps, or None for the length of the longest record.
            sees: view that the policy sees.

        Returns:
            n * samples trajectories, those of record 0 first, with the ids and clusters of their records (so that the
            samples of a patient count as one independent unit), the rewards of the process without reward noise, the
            policy's probability of each action as behavior_probabilities, and `end` TERMINATED or TRUNCATED (at the
            horizon).

        Raises:
            DataError: for records without final_observations, on other states than the process's, or with a transition
                of probability 0 (the row is named); for samples below 1 or a negative seed.
            EstimandError: for a horizon below 1 or an unknown view.
            PolicyError: for a policy that does not fit.
        """
        logged = logged_entries(data, self.simulator.mdp, self._law)
        whole_number("samples", samples, 1, most=MOST_TRAJECTORIES // data.n)
        whole_number("seed", seed, 0)
        steps = int(data.lengths.max()) if horizon is None else horizon
        tables = self.simulator.tables(policy, steps, sees=sees)
        key = np.uint64(derive_seed(seed, "counterfactual"))
        starts = data.observations[data.offsets[:-1]]
        taken, offsets = self._follow(key, int(samples), starts, steps, tables, logged, data.offsets)
        ids, clusters = np.repeat(data.ids, samples), np.repeat(data.clusters, samples)
        return self._trajectories(taken, offsets, tables, ids, clusters)

    def sample(self, n: int, policy: PolicyLike, horizon: int, seed: int = 0, *, sees: str | None = None) -> Trajectories:
        """n trajectories of the process, through the structural noise.

        Their law is that of `TabularSimulator.sample`. For one seed, patient i has the same start and meets the same
        noise under every policy: the trajectories of two policies are each other's counterfactuals.

        Args:
            n: at least 1.
            policy: the policy that acts.
            horizon: number of steps.
            seed: any non-negative integer.
            sees: view that the policy sees.

        Returns:
            records of the full state, as `counterfactual` returns them.

        Raises:
            DataError: for n below 1 or a negative seed.
            EstimandError: for a horizon below 1 or an unknown view.
            PolicyError: for a policy that does not fit.

        Example:
            >>> from causalrl.policies import Always
            >>> from simulators.tabular import TabularMDP
            >>> cure = TabularMDP([[[0.5, 0.5], [0.2, 0.8]], [[0, 1], [0, 1]]], [0.0, 1.0], [1, 0], terminal=[False, True])
            >>> model = StructuralModel(cure, GumbelMax())
            >>> untreated, treated = (model.sample(1000, Always(arm), horizon=1).rewards for arm in (0, 1))
            >>> bool((treated >= untreated).all())  # nobody is harmed, in this structural model
            True
        """
        check_sample(n, seed)
        check_time(horizon, 1.0, endless=False)
        tables = self.simulator.tables(policy, horizon, sees=sees)
        uniforms = np.random.default_rng(derive_seed(seed, "start")).random(n)
        starts = np.searchsorted(cumulative_rows(self.simulator.mdp.initial), uniforms, side="right")
        key = np.uint64(derive_seed(seed, "structural"))
        no_record = np.empty(0, np.int64), frozen(np.zeros(n + 1, np.int64))
        taken, offsets = self._follow(key, 1, starts, horizon, tables, *no_record)
        return self._trajectories(taken, offsets, tables, np.arange(n), np.arange(n))

    def _follow(
        self, key: np.uint64, samples: int, starts: Ints, horizon: int, tables: Floats, logged: Ints, logged_offsets: Ints
    ) -> tuple[Ints, Ints]:
        """Entries taken by all trajectories, and their offsets: one pass counts the steps and a second one writes them."""
        n, law = len(starts) * samples, self._law
        for array in law:
            frozen(array)
        walks = (cumulative_rows(tables), logged, logged_offsets)
        nothing = np.zeros(n + 1, np.int64), np.empty(0, np.int64)
        lengths = follow(key, samples, starts, np.full(n, horizon), *walks, *nothing, law)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        taken = np.empty(offsets[-1], np.int64)
        follow(key, samples, starts, lengths, *walks, offsets, taken, law)
        return taken, offsets

    def _trajectories(self, taken: Ints, offsets: Ints, tables: Floats, ids: Ints, clusters: Ints) -> Trajectories:
        law, mdp = self._law, self.simulator.mdp
        states, actions = np.divmod(law.row[taken], mdp.n_actions)
        time = np.arange(len(taken)) - np.repeat(offsets[:-1], np.diff(offsets))
        final = law.successors[taken[offsets[1:] - 1]]
        return Trajectories.from_arrays(
            states,
            actions,
            law.rewards[taken],
            offsets,
            end=np.where(mdp.terminal[final], End.TERMINATED, End.TRUNCATED),
            behavior_probabilities=tables[time if len(tables) > 1 else 0, states, actions],
            final_observations=final,
            n_actions=mdp.n_actions,
            n_states=mdp.n_states,
            state_features=mdp.state_features,
            ids=ids,
            clusters=clusters,
        )
