"""`SepsisSimulator`: the sepsis simulator of Oberst & Sontag (2019), exact on its full 1440 states.

Sources: Oberst & Sontag, Counterfactual off-policy evaluation with Gumbel-max structural causal models, ICML 2019, and
their repository clinicalml/gumbel-max-scm (branch `master` is version v1, frozen for the paper, `sim-v2` is v2);
Tang & Wiens, Model selection for offline reinforcement learning, MLHC 2021 (start and reward of their variant).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import MappingProxyType
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from causalrl.checks import Floats, number, one_of, whole_number
from causalrl.errors import EstimandError, PolicyError
from causalrl.policies import PolicyLike, TabularPolicy
from simulators.base import TabularSimulator
from simulators.checks import check_time
from simulators.mdp import planning
from simulators.sepsis import policies as sepsis_policies
from simulators.sepsis.process import RewardOn, Start, Version, sepsis_mdp
from simulators.sepsis.rules import N_ACTIONS, N_STATES
from simulators.tabular import TabularMDP
from simulators.views import View

HIDDEN = {"full": (), "observed": ("diabetes",), "projected": ("diabetes", "glucose")}
"""What each view hides."""


@dataclass(frozen=True)
class SepsisSimulator(TabularSimulator):
    """Treatment of sepsis: four vital signs, a hidden diabetes, three treatments that are on or off.

    1440 states: diabetes (constant), heart rate and systolic pressure (low, normal, high), oxygen saturation (low,
    normal), glucose (five levels, 2 is normal), and whether antibiotic, vasopressor and ventilation are on. 8 actions:
    4 antibiotic + 2 ventilation + vasopressor, a bit order that differs from that of the state.
    Reward -1 for death (at least three vital signs abnormal), +1 for discharge (none abnormal, nothing on).
    Views: "full"; "observed", 720 records without diabetes; "projected", 144 records without glucose either.

    Args:
        version: "v2", or "v1" to reproduce papers: there an upward glucose fluctuation of a non-diabetic ends at level
            1 at most (clinicalml/gumbel-max-scm#1). Values differ a lot.
        start: "admission", untreated patients whose episode is not over, 19.0% of them diabetic; or "uniform" over all
            states that are not over, 20% diabetic (Tang & Wiens).
        reward_on: "arrival" in an outcome state, which ends the process; or "leaving" it, one step later, for one of two
            sinks, 1440 (dead) and 1441 (discharged), which every view keeps apart (Tang & Wiens).

    Raises:
        DataError: for any other version, start or reward_on.

    Example:
        >>> simulator = SepsisSimulator("v1")
        >>> round(simulator.value(simulator.physician(0.05), horizon=20), 4)
        0.3118
        >>> simulator.sample(100, simulator.physician(0.05), horizon=20, record="projected", sees="full").n_states
        144
        >>> variant = SepsisSimulator("v2", start="uniform", reward_on="leaving")
        >>> round(variant.value(variant.optimal_policy(0.99), discount=0.99), 9)
        0.677541812
    """

    version: Version = "v2"
    start: Start = "admission"
    reward_on: RewardOn = "arrival"

    def __post_init__(self) -> None:
        one_of("version", self.version, get_args(Version))
        one_of("start", self.start, get_args(Start))
        one_of("reward_on", self.reward_on, get_args(RewardOn))

    @property
    def mdp(self) -> TabularMDP:
        """The process, with the eight factors as state features (before them the two outcomes for `reward_on="leaving"`)."""
        return sepsis_mdp(self.version, self.start, self.reward_on)

    @property
    def views(self) -> Mapping[str, View]:
        """The views by name; records are numbered as states are, by the digits that are left, and sinks come last."""
        return _views(self.version, self.start, self.reward_on)

    def physician(self, epsilon: float = 0.05, discount: float = 0.99) -> TabularPolicy:
        """The paper's clinician: 1 - epsilon on the best action, epsilon / 7 on each other one.

        Best is meant for the chain *without* an end, as in the authors' code: it differs from `optimal_policy` in some
        live states (9% of them in v1).

        Args:
            epsilon: in [0, 1].
            discount: of the planning, below 1.

        Raises:
            PolicyError: for epsilon outside [0, 1].
            EstimandError: for a discount outside [0, 1), at which the endless chain has no plan.

        Example:
            >>> SepsisSimulator("v1").physician(0.07).table[0]  # all vital signs low: ventilation and vasopressor
            array([0.01, 0.01, 0.01, 0.93, 0.01, 0.01, 0.01, 0.01])
        """
        epsilon = number("epsilon", epsilon, 0, 1, PolicyError)
        best = _continuing_optimum(self.version, check_time(None, discount))
        sinks = planning.one_hot(np.zeros(self.n_states - N_STATES, np.int64), N_ACTIONS)
        return TabularPolicy(np.where(np.concatenate([best, sinks]) > 0, 1 - epsilon, epsilon / (N_ACTIONS - 1)))

    def biased(self, bit: str, share: float, policy: PolicyLike | None = None) -> TabularPolicy:
        """A policy that gives one treatment more, or less, often; the other treatments are chosen as before.

        Moves a share of the probability of each action without the treatment to the same action with it; a negative
        share moves it the other way. 1 always gives the treatment, 0 is the policy itself, -1 always withholds it.

        Source: the confounded behaviour of Namkoong et al. (2020), section 5, has share 1 and -1 of the antibiotic.

        Args:
            bit: the treatment: "antibiotic", "ventilation" or "vasopressor".
            share: in [-1, 1].
            policy: a tabular policy of any view, or another stationary one of the states; `physician()` by default.

        Raises:
            EstimandError: for an unknown treatment.
            PolicyError: for a share out of range or a policy that does not fit.

        Example:
            >>> from causalrl.policies import Always
            >>> SepsisSimulator().biased("antibiotic", 0.25, Always(1)).table[0]
            array([0.  , 0.75, 0.  , 0.  , 0.  , 0.25, 0.  , 0.  ])
        """
        return TabularPolicy(sepsis_policies.biased(self._probabilities(policy), sepsis_policies.bit_of(bit), share))

    def flipped(self, bit: str, share: ArrayLike, policy: PolicyLike | None = None) -> TabularPolicy:
        """A policy that gets one treatment wrong: a share of the probability of each action moves to that with the bit flipped.

        Args:
            bit, policy: as `biased`.
            share: in [0, 1], one number, or one for each record of the policy.

        Raises:
            EstimandError, PolicyError: as `biased`.

        Example:
            >>> from causalrl.policies import Always
            >>> SepsisSimulator().flipped("vasopressor", 0.25, Always(1)).table[0]
            array([0.25, 0.75, 0.  , 0.  , 0.  , 0.  , 0.  , 0.  ])
        """
        return TabularPolicy(sepsis_policies.flipped(self._probabilities(policy), sepsis_policies.bit_of(bit), share))

    def tang_wiens_behavior(self) -> TabularPolicy:
        """The behaviour of Tang & Wiens (2023): optimal at discount .99, but the vasopressor is flipped w.p. 0.1."""
        return self.flipped("vasopressor", sepsis_policies.TANG_WIENS_FLIP, self._tang_wiens_best)

    def tang_wiens_target(self, k: int, seed: int = 0) -> TabularPolicy:
        """A target of Tang & Wiens (2023): optimal at discount .99, but the vasopressor is flipped in k of the 1440 states.

        `sepsis_policies.TANG_WIENS_TARGETS` lists the 26 pairs (k, seed) of the paper.

        Args:
            k: 0 to 1440.
            seed: of `numpy.random.default_rng`, which draws the states.

        Raises:
            DataError: for k or a seed out of range.

        Example:
            >>> simulator = SepsisSimulator("v2", start="uniform", reward_on="leaving")
            >>> policies = simulator.tang_wiens_behavior(), *(simulator.tang_wiens_target(k) for k in (0, 100, 400))
            >>> [round(simulator.value(policy, horizon=20, discount=0.99), 4) for policy in policies]
            [0.2504, 0.4088, 0.3665, 0.0091]
        """
        whole_number("k", k, 0, most=N_STATES)
        whole_number("seed", seed, 0)
        wrong = np.zeros(self.n_states)
        wrong[np.random.default_rng(seed).choice(range(N_STATES), k, replace=False)] = 1.0
        return self.flipped("vasopressor", wrong, self._tang_wiens_best)

    @cached_property
    def _tang_wiens_best(self) -> TabularPolicy:
        return self.optimal_policy(0.99)

    def treatment_effect(
        self, bit: str, time: int, policy: PolicyLike, horizon: int, discount: float = 1.0, *, sees: str | None = None
    ) -> dict[str, float]:
        """Exact effect on the value of forcing one treatment on rather than off at one time, with the policy before and after.

        E[Y(on at t) - Y(off at t)], Y = sum over t < horizon of discount^t r_t, over all patients who start: whoever is
        no longer under treatment at that time counts 0. The other two treatments are chosen by the policy, as `biased`
        with share 1 and -1.

        Args:
            bit: the treatment: "antibiotic", "ventilation" or "vasopressor".
            time: t, from 0 to horizon - 1.
            policy: on integer states (or the records of a view), or a function of them.
            horizon: number of steps.
            discount: in [0, 1].
            sees: view that the policy sees.

        Returns:
            the effect in "all" patients, and in those whose start is "nondiabetic" or "diabetic".

        Raises:
            EstimandError: for an unknown treatment, time, horizon or discount.
            PolicyError: for a policy that does not fit.

        Example:
            >>> simulator = SepsisSimulator()
            >>> effect = simulator.treatment_effect("vasopressor", 0, simulator.physician(0.3), horizon=20)
            >>> effect["diabetic"] < 0 < effect["nondiabetic"]
            True
        """
        mask = sepsis_policies.bit_of(bit)
        discount = check_time(horizon, discount, endless=False)
        tables, mdp = self.tables(policy, horizon, discount, sees), self.mdp
        whole_number("time", time, 0, EstimandError, most=horizon - 1)
        tables = np.broadcast_to(tables, (horizon, *tables.shape[1:]))
        *_, q = planning.backward_q(mdp.dynamics, mdp.terminal, tables[time:], horizon - time, discount)
        on, off = (sepsis_policies.biased(tables[time], mask, share) for share in (1.0, -1.0))
        effect = ((on - off) * q).sum(axis=1)
        for t in reversed(range(time)):
            effect = np.where(mdp.terminal, 0.0, discount * (planning.transition_matrix(mdp.dynamics, tables[t]) @ effect))
        return self._by_stratum(effect)

    def _by_stratum(self, values: Floats) -> dict[str, float]:
        """Means of values (S,) over the start, overall and given diabetes."""
        start, diabetic = self.mdp.initial, self.view("full").where("diabetes")
        strata = {"nondiabetic": start * (1 - diabetic), "diabetic": start * diabetic}
        return {"all": float(start @ values)} | {name: float(law @ values / law.sum()) for name, law in strata.items()}

    def _probabilities(self, policy: PolicyLike | None) -> Floats:
        records = {name: view.n_records for name, view in self.views.items()}
        return sepsis_policies.probabilities_of(self.physician() if policy is None else policy, self.n_states, records)


@cache
def _views(version: Version, start: Start, reward_on: RewardOn) -> Mapping[str, View]:
    full = sepsis_mdp(version, start, reward_on).full_view
    return MappingProxyType({name: full.hide(hidden) for name, hidden in HIDDEN.items()})


@cache
def _continuing_optimum(version: Version, discount: float) -> Floats:
    return sepsis_mdp(version, "admission", "arrival").continuing().optimal_policy(discount).table
