"""The protocol of Oberst & Sontag (2019): a policy learned from the records of 1,000 sepsis patients, and what is said of it.

The learner counts transitions of what it sees, with a pseudo-count from every recorded outcome to its end under each action;
decisions never logged lead to death. Its policy is optimal in that model without a horizon; every value is of 20 steps without
discount. The pseudo-counts also enter the propensities of weighted importance sampling, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

import causalrl as crl
from causalrl.checks import Floats, Ints
from causalrl.data import End
from causalrl.errors import SupportError
from causalrl.kernels.rng import derive_seed
from causalrl.learning import EmpiricalMDP, PlannedMDP, TerminalPseudoCounts
from simulators import GumbelMax, SepsisSimulator, TabularMDP

PATIENTS, HORIZON, DISCOUNT, EPSILON, DEATH = 1000, 20, 0.99, 0.05, -1.0
SIMULATOR = SepsisSimulator("v1")


@dataclass(frozen=True)
class SepsisStudy:
    """What is seen of a patient.

    Attributes:
        record: view in which the records are kept; it has to tell death from discharge.
        seen: view that the learner and its policy have.
    """

    record: str
    seen: str

    @cached_property
    def projection(self) -> Ints:
        """(records,) what the learner sees of each record."""
        record, seen = (SIMULATOR.view(name).codes for name in (self.record, self.seen))
        assert record is not None
        assert seen is not None
        codes = np.zeros(record.max() + 1, np.int64)
        codes[record] = seen
        return codes

    def sample(self, seed: int) -> crl.Trajectories:
        """Records of patients treated by the physician, who sees everything."""
        return SIMULATOR.sample(PATIENTS, SIMULATOR.physician(EPSILON), HORIZON, seed, record=self.record, sees="full")

    def learn(self, data: crl.Trajectories) -> PlannedMDP:
        """The count model of the records and the best policy in it."""
        counts = TerminalPseudoCounts(self.projection)
        return EmpiricalMDP(DISCOUNT, unseen=crl.Absorb(DEATH), min_count=0, pseudo_counts=counts).fit(data)

    def seen_by_learner(self, data: crl.Trajectories) -> crl.Trajectories:
        """The records as the learner sees them, each action with its frequency in its state, pseudo-counts included."""
        states, final = self.projection[data.observations], data.final_observations
        assert final is not None
        counted, _ = TerminalPseudoCounts(self.projection).decisions(data.steps())
        n_states = int(self.projection.max()) + 1
        counts = np.bincount(counted.cells, counted.weights, n_states * data.n_actions).reshape(n_states, data.n_actions)
        return replace(
            data,
            observations=states,
            final_observations=self.projection[final],
            n_states=n_states,
            state_features=SIMULATOR.view(self.seen).features,
            behavior_probabilities=counts[states, data.actions] / counts[states].sum(axis=1),
        )

    def goal(self, policy: crl.TabularPolicy) -> crl.PolicyValue:
        """The value that is reported of a policy."""
        return crl.PolicyValue(policy, horizon=HORIZON)

    def replication(self, seed: int) -> Mapping[str, float]:
        """What is said of the policy of one set of records; truth and model by dynamic programming."""
        data, fresh = (self.sample(derive_seed(seed, "patients", part)) for part in range(2))
        planned = self.learn(data)
        policy = planned.policy()
        return {
            "Observed": float(data.rewards.sum() / data.n),
            "True RL": SIMULATOR.value(policy, HORIZON, sees=self.seen),
            "WIS train": self.weighted(data, policy),
            "WIS held-out": self.weighted(fresh, policy),
            "MB": planned.value(self.goal(policy)),
        }

    def weighted(self, data: crl.Trajectories, policy: crl.TabularPolicy) -> float:
        """Weighted importance sampling; NaN where not one patient was treated as the policy would."""
        try:
            return float(crl.WIS().estimate(self.seen_by_learner(data), self.goal(policy)).value)
        except SupportError:
            return float("nan")


@dataclass(frozen=True)
class ImaginedPatients:
    """What the model learned from records says: of new patients, and of the same ones under its own policy.

    Attributes:
        study, data: what is seen, and the records. again: how often each patient is imagined. seed: of all roll-outs.
    """

    study: SepsisStudy
    data: crl.Trajectories
    again: int
    seed: int

    @cached_property
    def planned(self) -> PlannedMDP:
        """The model and its best policy."""
        return self.study.learn(self.data)

    @cached_property
    def goal(self) -> crl.PolicyValue:
        """The value of that policy."""
        return self.study.goal(self.planned.policy())

    @cached_property
    def process(self) -> TabularMDP:
        """The model as a simulator, its ends (death, discharge) after the states that the learner sees."""
        return TabularMDP.from_sparse(**self.planned.arrays())

    @cached_property
    def records(self) -> crl.Trajectories:
        """The records in the states of the model, in which nobody has come to an end yet."""
        seen = self.study.seen_by_learner(self.data)
        open_end = np.full(seen.n, End.TRUNCATED)
        return replace(seen, n_states=self.process.n_states, state_features=None, end=open_end)

    @cached_property
    def true(self) -> crl.Trajectories:
        """New patients of the simulator."""
        policy, seen = self.planned.policy(), self.study.seen
        return SIMULATOR.sample(PATIENTS, policy, HORIZON, self.seed, record=self.study.record, sees=seen)

    @cached_property
    def new(self) -> crl.Trajectories:
        """New patients of the model."""
        return self.process.sample(PATIENTS, self.planned.on_model(self.planned.policy()), HORIZON, self.seed)

    @cached_property
    def same(self) -> crl.Trajectories:
        """The same patients in the model, with noise of the Gumbel-max model given what happened to them."""
        policy = self.planned.on_model(self.planned.policy())
        return self.process.scm(GumbelMax()).counterfactual(self.records, policy, self.again, self.seed, HORIZON)

    def estimates(self) -> Mapping[str, crl.Estimate]:
        """Of the value of the policy, and the mean return of the records; all roll-outs of a patient are one unit."""
        rollouts = {"Observed": self.data, "True RL": self.true, "MB": self.new, "CF": self.same}
        own = crl.PolicyValue(crl.NaturalCourse(), horizon=HORIZON)
        means = {name: crl.OnPolicyMean().estimate(data, own) for name, data in rollouts.items()}
        return means | {"WIS": crl.WIS().estimate(self.study.seen_by_learner(self.data), self.goal)}

    def fates(self) -> tuple[Ints, Ints]:
        """(n,) outcomes of the records, and most frequent ones of the same patients in the model; of tied ones the worst."""
        imagined = outcomes(self.same).reshape(-1, self.again)
        often = np.stack([(imagined == end).sum(axis=1) for end in range(3)]).argmax(axis=0)
        return outcomes(self.data), often

    def example(self) -> int:
        """Of the patients who died and are discharged in every roll-out, one whose soonest discharge takes longest."""
        lengths, ends = (x.reshape(-1, self.again).min(axis=1) for x in (self.same.lengths, outcomes(self.same)))
        return int(np.where((outcomes(self.data) == 0) & (ends == 2), lengths, 0).argmax())

    def paths(self, patient: int) -> Iterator[tuple[str, Mapping[str, Floats], int]]:
        """Name, variables until the outcome, and outcome: the record, then the model's; its ends have no variables."""
        start = SIMULATOR.view(self.study.record), self.data, patient
        again = range(patient * self.again, (patient + 1) * self.again)
        followed = [start, *((SIMULATOR.view(self.study.seen), self.same, number) for number in again)]
        for place, (view, data, number) in enumerate(followed):
            final = data.final_observations
            assert final is not None
            assert view.features is not None
            states = np.append(data.observations[data.offsets[number] : data.offsets[number + 1]], final[number])
            shown = view.features[states[states < view.n_records]]
            yield str(place), dict(zip(view.feature_names, shown.T, strict=True)), int(outcomes(data)[number])


def outcomes(data: crl.Trajectories) -> Ints:
    """(n,) 0 died, 1 neither within the horizon, 2 discharged."""
    return np.bincount(data.steps().trajectory, data.rewards, data.n).astype(np.int64) + 1
