"""`NamkoongSepsis`: sepsis patients whose first doctor knows their luck, with exact values.

Source: Namkoong, Keramati, Yadlowsky & Brunskill, Off-policy policy evaluation for sequential decisions under unobserved
confounding, NeurIPS 2020 (arXiv 2003.05623), section 5 and appendix B, and their repository StanfordAI4HI/off_policy_confounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from causalrl.checks import Floats, flag, number
from causalrl.data import End, Trajectories
from causalrl.errors import DataError
from causalrl.policies import PolicyLike, TabularPolicy
from simulators.checks import check_sample
from simulators.mdp import planning
from simulators.mdp.dynamics import Dynamics
from simulators.sepsis import policies as moves
from simulators.sepsis.rules import BITS, N_ACTIONS, N_STATES
from simulators.sepsis.simulator import SepsisSimulator
from simulators.sepsis.walks import Doctor, Luck, mean_values, walk
from simulators.tabular import TabularMDP

HORIZON, DISCOUNT = 5, 0.99
SOFTNESS, WRONG_VASOPRESSOR = 0.05, 0.15
CUT = 0.5 + 0.75 / np.sqrt(HORIZON)
"""Patients with more luck U than this are given antibiotics more often: sqrt(5) (U - 1/2) > .75 in the paper's code."""
MOST_GAMMA = 1e6


@dataclass(frozen=True)
class NamkoongSepsis:
    """The confounded sepsis study of Namkoong et al. (2020): version v1, 5 steps, discount .99.

    Each patient has a luck U, uniform on (0, 1), which the record does not have. At t = 0 the doctor either gives antibiotics
    or withholds them, and otherwise follows a softened optimal policy; of these two, the first is taken with probability
    sqrt(gamma) / (1 + sqrt(gamma)) where U > .835, the second with that probability elsewhere. So the odds of two actions
    differ by a factor of gamma at most between values of U. U is also the uniform number by which the next state is drawn
    among the possible ones from bad to good, in the order of reward + optimal value. From t = 1 on the doctor follows the
    softened optimal policy, and with probability .15 the same with the vasopressor turned round; luck plays no part.

    The published figures come from code with quirks, which the fields restore (`as_published`). Another quirk is one of the
    analysis: what is called weighted importance sampling there is not self-normalised, `IS()` and not `WIS()`.

    Args:
        gamma: odds ratio, from 1 to 10^6.
        own_dynamics: diabetics react as diabetics; False: everybody reacts as a non-diabetic, as in the code, which looks up the
            state without diabetes. The vital signs at the start are those of all patients either way.
        lasting_luck: U draws the next state at every step and not at t = 0 alone, as in the code.
        pooled_counts: `counted` learns the first doctor's policy from the steps 0 and 1, as in the code, and not from step 0.

    Raises:
        DataError: for a gamma out of range, or what is no flag.

    Example:
        >>> study = NamkoongSepsis.as_published()
        >>> [round(study.value(policy), 4) for policy in (study.with_antibiotics, study.without_antibiotics)]
        [0.1232, 0.0535]
        >>> int(study.sample(1000, seed=0).lengths.max())
        5
    """

    gamma: float = 2.0
    own_dynamics: bool = True
    lasting_luck: bool = False
    pooled_counts: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", number("gamma", self.gamma, 1, MOST_GAMMA))
        for name in ("own_dynamics", "lasting_luck", "pooled_counts"):
            flag(name, getattr(self, name), DataError)

    @classmethod
    def as_published(cls, gamma: float = 2.0) -> NamkoongSepsis:
        """With the quirks of the authors' code."""
        return cls(gamma, own_dynamics=False, lasting_luck=True, pooled_counts=True)

    @cached_property
    def mdp(self) -> TabularMDP:
        """The process, which the first doctor sees through."""
        mdp = SepsisSimulator("v1").mdp
        if self.own_dynamics:
            return mdp
        half = N_STATES // 2
        return mdp.starting(np.append(mdp.initial[:half] + mdp.initial[half:], np.zeros(half)))

    @cached_property
    def _best(self) -> TabularPolicy:
        return self.mdp.optimal_policy(DISCOUNT)

    @cached_property
    def soft_optimal(self) -> TabularPolicy:
        """.95 on the best action, .05 / 7 on each other one."""
        return TabularPolicy(softened(self._best.table))

    @cached_property
    def with_antibiotics(self) -> TabularPolicy:
        """Soft-optimal, but always with antibiotics at t = 0; (5, S, A)."""
        return self._starting_with(1.0)

    @cached_property
    def without_antibiotics(self) -> TabularPolicy:
        """Soft-optimal, but never with antibiotics at t = 0; (5, S, A)."""
        return self._starting_with(-1.0)

    def _starting_with(self, share: float) -> TabularPolicy:
        soft = self.soft_optimal.table
        return TabularPolicy(np.stack([moves.biased(soft, BITS["antibiotic"], share), *(soft,) * (HORIZON - 1)]))

    @cached_property
    def _later(self) -> Floats:
        """(S, A) doctor from t = 1 on."""
        turned = softened(moves.flipped(self._best.table, BITS["vasopressor"], 1.0))
        return np.asarray((1 - WRONG_VASOPRESSOR) * self.soft_optimal.table + WRONG_VASOPRESSOR * turned)

    @property
    def _believed(self) -> float:
        """Probability with which the first doctor does what luck suggests."""
        return float(np.sqrt(self.gamma) / (1 + np.sqrt(self.gamma)))

    @cached_property
    def marginal_policy(self) -> TabularPolicy:
        """(5, S, A) what a perfect model of the doctors given the record would learn."""
        share = (1 - CUT) * self._believed + CUT * (1 - self._believed)
        given, withheld = self.with_antibiotics.table[0], self.without_antibiotics.table[0]
        return TabularPolicy(np.stack([share * given + (1 - share) * withheld, *(self._later,) * (HORIZON - 1)]))

    @cached_property
    def _ranked(self) -> Dynamics:
        """The law with the successors of every row from bad to good."""
        mdp = self.mdp
        law, live = mdp.dynamics, ~mdp.terminal
        values = planning.stationary_values(law, self._best.table, live, DISCOUNT)
        prospects = np.round(law.rewards + values[law.successors], 9)
        return law.reordered(np.lexsort((law.successors, prospects, law.rows)))

    @cached_property
    def _luck(self) -> Luck:
        law = self._ranked
        return Luck(law.indptr, law.successors, law.cumulative, law.rewards, self.mdp.terminal)

    def sample(self, n: int, seed: int = 0) -> Trajectories:
        """n patients, states 0 to 1439 with their diabetes, without propensities.

        Raises:
            DataError: for n or a seed out of range.
        """
        check_sample(n, seed)
        first = np.stack([self.with_antibiotics.table[0], self.without_antibiotics.table[0]])
        doctor = Doctor.of(first, self._later, float(CUT), self._believed, self.lasting_luck)
        states, actions, rewards, lengths = walk(n, seed, HORIZON, self.mdp.initial, doctor, self._luck)
        done = np.arange(HORIZON) < lengths[:, None]
        finals = states[np.arange(n), lengths]
        return Trajectories.from_arrays(
            states[:, :HORIZON][done],
            actions[done],
            rewards[done],
            np.concatenate([[0], np.cumsum(lengths)]),
            end=np.where(self.mdp.terminal[finals], End.TERMINATED, End.TRUNCATED),
            final_observations=finals,
            n_actions=N_ACTIONS,
            n_states=N_STATES,
            state_features=self.mdp.state_features,
        )

    def counted(self, data: Trajectories) -> Trajectories:
        """The data with propensities as the paper counts them: one policy for t = 0, and one for all later steps.

        Args:
            data: from `sample`.
        """
        steps = data.steps(None)
        contexts = steps.observations * N_ACTIONS + steps.actions
        probabilities = np.empty(len(steps))
        learned_from = (steps.time <= (1 if self.pooled_counts else 0), steps.time >= 1)
        for used, known in zip((steps.time == 0, steps.time >= 1), learned_from, strict=True):
            counts = np.bincount(contexts[known], minlength=N_STATES * N_ACTIONS).reshape(N_STATES, N_ACTIONS)
            taken, seen = counts.reshape(-1)[contexts[used]], counts.sum(axis=1)[steps.observations[used]]
            probabilities[used] = taken / seen
        return replace(data, behavior_probabilities=probabilities)

    def value(self, policy: PolicyLike) -> float:
        """Exact expected discounted reward of 5 steps under a policy that does not know the luck.

        Where luck lasts, every next state is a step function of U: the value is that of deterministic processes, averaged over
        the intervals of U between all steps.

        Raises:
            PolicyError: for a policy that does not fit.
        """
        mdp = self.mdp
        if not self.lasting_luck:
            return mdp.value(policy, HORIZON, DISCOUNT)
        tables = np.ascontiguousarray(np.broadcast_to(mdp.tables(policy, HORIZON), (HORIZON, N_STATES, N_ACTIONS)))
        edges = np.unique(np.append(np.round(self._luck.cumulative, 12), 0.0))
        return float(np.diff(edges) @ mean_values((edges[1:] + edges[:-1]) / 2, tables, DISCOUNT, mdp.initial, self._luck))


def softened(table: Floats) -> Floats:
    """A deterministic policy (S, A) that takes each other action with probability .05 / 7."""
    return np.where(table > 0, 1 - SOFTNESS, SOFTNESS / (N_ACTIONS - 1))
