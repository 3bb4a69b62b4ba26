"""`Recorded`: a process as a record shows it, with the exact value of every policy and of what a naive analysis finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from causalrl.checks import Bools, Floats, one_of
from causalrl.data import End, Trajectories
from causalrl.errors import EstimandError
from causalrl.policies import PolicyLike, TabularPolicy
from simulators.base import TabularSimulator
from simulators.checks import Propensities, ReadOnly, check_sample, checked_tables, frozen, keeps_propensities
from simulators.mdp import planning
from simulators.mdp.dynamics import Dynamics
from simulators.mdp.noise import add_noise
from simulators.mdp.returns import check_process
from simulators.views import View
from simulators.wrappers.confounding import MODELS, half, ranked, tilted
from simulators.wrappers.recording import sample_records

if TYPE_CHECKING:
    from simulators.scm.model import Noise, StructuralModel
    from simulators.tabular import TabularMDP
    from simulators.wrappers.loggers import Confounded


@dataclass(frozen=True, eq=False, repr=False)
class Recorded(ReadOnly, TabularSimulator):
    """A simulator behind wrappers; write `simulator | wrapper` to get one.

    What the wrappers do happens to the logger or to the record, never to the process. A target policy sees the view
    "record" unless told otherwise, the logger what it saw in the simulator. States keep the numbers of the simulator.

    Attributes:
        base: the simulator.
        wrappers: what was put around it, in order.
        shown: the record of a state.
        confounding: the confounder of the logger, or None.
        hospitals: (K, A) how many times likelier hospital k takes an action, relative to the policy; None for one hospital.
        hazard: (S, A) probability of a loss to follow-up after a step, or None.
        population: (S,) start distribution of the target population, or None for that of the cohort.

    Example:
        >>> from causalrl.policies import Always
        >>> from simulators import CobsGridworld, HideVariables
        >>> grid = CobsGridworld()
        >>> record, right, logger = grid | HideVariables("row"), Always(1), grid.behavior()
        >>> record.marginal_policy(logger, 25).table[0, 0]  # of the logger, at the start, in the first column
        array([0.15, 0.45, 0.2 , 0.2 ])
        >>> round(record.value(right, 25), 4), round(record.apparent_value(right, logger, 25), 4)
        (-0.6338, -0.428)
    """

    base: TabularSimulator
    wrappers: tuple[object, ...]
    shown: View
    confounding: Confounded | None = None
    hospitals: Floats | None = None
    hazard: Floats | None = None
    population: Floats | None = None

    default_view: ClassVar[str] = "record"

    def __post_init__(self) -> None:
        self._freeze()

    @cached_property
    def mdp(self) -> TabularMDP:
        """The process, from the start of the target population."""
        mdp = self.base.mdp
        return mdp if self.population is None else mdp.starting(self.population)

    @property
    def views(self) -> Mapping[str, View]:
        """Those of the simulator, and "record"."""
        return MappingProxyType({**self.base.views, "record": self.shown})

    def __repr__(self) -> str:
        return " | ".join(map(repr, (self.base, *self.wrappers)))

    def sample(
        self,
        n: int,
        policy: PolicyLike,
        horizon: int | None = None,
        seed: int = 0,
        *,
        record: str | None = None,
        sees: str | None = None,
        propensities: Propensities | None = None,
    ) -> Trajectories:
        """n trajectories of the cohort, as recorded.

        Args:
            n, horizon, seed: as of any simulator.
            policy: of the logger.
            record: view that the data show, "record" by default.
            sees: view that the logger sees; by default what it saw in the simulator. With "record" the logger has nothing
                but the record itself.
            propensities: a record that hides what the logger saw (variables or a confounder) keeps no probabilities unless
                they are asked for: "oracle" keeps those given all that the logger saw.

        Returns:
            as of any simulator; `clusters` are the hospitals, `end` is CENSORED where the patient was lost.

        Raises:
            DataError, EstimandError, PolicyError: as of any simulator.
        """
        check_sample(n, seed)
        shown, name = self.view(record, "record"), self.base.default_view if sees is None else sees
        seen, mdp = self.view(name, "sees"), self.base.mdp
        by_record = seen is shown and shown.codes is None
        kept = keeps_propensities(propensities, self.confounding is None and (by_record or shown.determines(seen)))
        lifted = self.tables(policy, horizon, 1.0, name)
        if horizon is None:
            planning.require_short(mdp.dynamics, mdp.terminal, mdp.initial, lifted[0], policy)
        tables = checked_tables(policy, shown.n_records, self.n_actions, horizon) if by_record else lifted
        hazard = frozen(np.zeros((self.n_states, self.n_actions))) if self.hazard is None else self.hazard
        loggers = np.stack([np.stack(self._variants(logger)) for logger in self._loggers(tables)])
        law, flags = self._ranked if self.confounding else mdp.dynamics, self._confounded_steps
        walks = sample_records(
            law, mdp.terminal, mdp.initial, shown, loggers, by_record, flags, hazard, int(n), horizon, int(seed)
        )
        return Trajectories.from_arrays(
            walks.seen,
            walks.actions,
            add_noise(walks.rewards, walks.offsets, mdp.reward_noise, int(seed)),
            walks.offsets,
            end=np.array([End.TERMINATED, End.TRUNCATED, End.CENSORED])[walks.ends],
            behavior_probabilities=walks.probabilities if kept else None,
            final_observations=walks.final_seen,
            n_actions=self.n_actions,
            n_states=shown.n_records,
            state_features=shown.features,
            clusters=None if self.hospitals is None else walks.hospitals,
        )

    def efficiency_bound(
        self, target: PolicyLike, behavior: PolicyLike, horizon: int, discount: float = 1.0, model: str = "history"
    ) -> float:
        """Refused: the bound of complete records is that of the simulator.

        Raises:
            EstimandError: always.
        """
        raise EstimandError(f"efficiency_bound: that of complete records is no bound for {self}; ask the simulator itself.")

    def scm(self, noise: Noise) -> StructuralModel:
        """That of the simulator, for data that show its states.

        Raises:
            EstimandError: behind `Confounded`, whose logger knows some of the noise that counterfactuals infer.
            DataError: for a process that the noise cannot drive.
        """
        if self.confounding is not None:
            raise EstimandError(f"scm: the logger of {self} knows some of the noise, so its posterior is another one.")
        return super().scm(noise)

    def marginal_policy(self, behavior: PolicyLike, horizon: int, *, sees: str | None = None) -> TabularPolicy:
        """What a perfect model of the logger given the record would learn: P(a_t = a | record at t = r), exact.

        It is that of the cohort's patients who are still under observation, whatever their hospital.

        Args:
            behavior: the logger's policy. sees: a view of the simulator, as in `sample`.

        Returns:
            a table (H, R, A) on the records; uniform where a record never occurs at t.

        Raises:
            EstimandError, PolicyError: as `value`.
        """
        check_process(horizon, 1.0)
        return TabularPolicy(self._marginal(self._logged(behavior, horizon, sees), horizon))

    def apparent_value(
        self, target: PolicyLike, behavior: PolicyLike, horizon: int, discount: float = 1.0, *, sees: str | None = None
    ) -> float:
        """Exact limit of importance sampling with `marginal_policy` for the cohort: what an analyst of the record would find.

        Its difference to the value of the target in the cohort is the bias that hidden variables and confounding cause.

        Args:
            target: a policy that sees the record. behavior: the logger's. sees: view that the logger sees.

        Raises:
            EstimandError: as `value`, and for censored records, which importance sampling refuses.
            PolicyError: for a policy that does not fit.
        """
        discount = check_process(horizon, discount)
        if self.hazard is not None:
            raise EstimandError("apparent_value: the record is censored, and importance sampling refuses it; drop Censored.")
        loggers = [*self._logged(behavior, horizon, sees)]
        marginal = self._marginal(loggers, horizon)
        tables = checked_tables(target, self.shown.n_records, self.n_actions, horizon)
        ratios = np.divide(tables, marginal, out=np.zeros(np.broadcast_shapes(tables.shape, marginal.shape)), where=marginal > 0)
        return float(np.mean([self._weighted_return(tables, ratios, discount) for tables in loggers]))

    def _marginal(self, loggers: Iterable[Floats], horizon: int) -> Floats:
        """(H, R, A) share of each action among what the loggers do behind a record at time t."""
        taken = np.zeros((horizon, self.shown.n_records, self.n_actions))
        for tables in loggers:
            law = self.base.mdp.initial
            for t in range(horizon):
                taken[t] += self.shown.channel.T @ (law[:, None] * planning.at_time(tables, t))
                law = self._next_law(law, tables, t)
        total = taken.sum(axis=2, keepdims=True)
        return np.asarray(np.divide(taken, total, out=np.full(taken.shape, 1 / self.n_actions), where=total > 0))

    def _weighted_return(self, logger: Floats, ratios: Floats, discount: float) -> float:
        """E[product of ratios times the return] under one logger, ratios (H, R, A)."""
        mdp = self.base.mdp
        weight, weighted = np.ones(self.n_states), np.zeros(self.n_states)
        for t in reversed(range(len(ratios))):
            ratio, before = self.shown.channel @ ratios[t], (weight, weighted)
            weight, weighted = mdp.terminal.astype(float), np.zeros(self.n_states)
            for share, table, law in self._branches(logger, t):
                chance = np.where(mdp.terminal[:, None], 0.0, share * ratio * table)
                paid = law.reward_matrix @ before[0] + discount * (law.matrix @ before[1])
                weight += (chance * (law.matrix @ before[0]).reshape(chance.shape)).sum(axis=1)
                weighted += (chance * paid.reshape(chance.shape)).sum(axis=1)
        return float(mdp.initial @ weighted)

    def _next_law(self, law: Floats, logger: Floats, t: int) -> Floats:
        """(S,) law of the live states at t + 1 that are still followed, from that at t."""
        stays = 1.0 if self.hazard is None else 1.0 - self.hazard
        after = sum(
            share * (dynamics.matrix.T @ (law[:, None] * table * stays).reshape(-1))
            for share, table, dynamics in self._branches(logger, t)
        )
        return np.where(self.base.mdp.terminal, 0.0, after)

    def _logged(self, behavior: PolicyLike, horizon: int, sees: str | None) -> Iterator[Floats]:
        name = one_of("sees", self.base.default_view if sees is None else sees, self.base.views, EstimandError)
        yield from self._loggers(self.tables(behavior, horizon, 1.0, name))

    def _loggers(self, tables: Floats) -> Iterator[Floats]:
        """The policy of each hospital."""
        if self.hospitals is None:
            yield tables
            return
        for factors in self.hospitals:
            weights = tables * factors
            yield weights / weights.sum(axis=-1, keepdims=True)

    def _variants(self, logger: Floats) -> tuple[Floats, ...]:
        """The policy, and those at U = 0 and U = 1 where there is a confounder."""
        if self.confounding is None:
            return (logger,)
        return (logger, *tilted(logger, MODELS[self.confounding.model], self.confounding.gamma))

    def _branches(self, logger: Floats, t: int) -> list[tuple[float, Floats, Dynamics]]:
        """Share, policy (S, A) and transition law of each value of the confounder at step t."""
        table, flags = planning.at_time(logger, t), self._confounded_steps
        if not flags[min(t, len(flags) - 1)]:
            return [(1.0, table, self.base.mdp.dynamics)]
        _, low, high = self._variants(table)
        return [(0.5, low, self._halves[0]), (0.5, high, self._halves[1])]

    @cached_property
    def _ranked(self) -> Dynamics:
        return ranked(self.base.mdp)

    @cached_property
    def _halves(self) -> tuple[Dynamics, Dynamics]:
        return half(self._ranked, 0), half(self._ranked, 1)

    @cached_property
    def _confounded_steps(self) -> Bools:
        """(L,) whether step min(t, L - 1) is confounded."""
        if self.confounding is None:
            return frozen(np.zeros(1, bool))
        steps = self.confounding.steps
        return frozen(np.ones(1, bool) if steps is None else np.isin(np.arange(max(steps) + 2), steps))
