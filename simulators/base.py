"""`TabularSimulator`: a process with finitely many states that samples trajectories and knows the exact value of every policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from causalrl.checks import Floats, one_of
from causalrl.data import End, Trajectories
from causalrl.errors import EstimandError
from causalrl.policies import PolicyLike, TabularPolicy
from simulators.checks import Propensities, check_allowed, check_sample, check_time, checked_tables, keeps_propensities
from simulators.mdp import planning
from simulators.mdp.efficiency import efficiency_bound
from simulators.mdp.noise import add_noise
from simulators.mdp.returns import ReturnDistribution, return_distribution, return_variance
from simulators.mdp.sampling import sample_walks
from simulators.views import View

if TYPE_CHECKING:
    from gymnasium import Env

    from simulators.scm.model import Noise, StructuralModel
    from simulators.tabular import TabularMDP


class TabularSimulator(ABC):
    """What a simulator with finitely many states can do; a subclass says what its process is, and adds the policies of its field.

    A *view* is what somebody sees of the state. `record` is the view that the sampled data show, `sees` that of the policy.

    Attributes:
        default_view: name of the view of data and policies where none is named.

    Example:
        >>> from causalrl.policies import Always, Uniform
        >>> from simulators import GumbelMax, TabularMDP
        >>> cure = TabularMDP([[[0.5, 0.5], [0.2, 0.8]], [[0, 1], [0, 1]]], [0.0, 1.0], [1, 0], terminal=[False, True])
        >>> treat, coin, data = Always(1), Uniform(2), cure.sample(1000, Uniform(2), horizon=2, seed=0)
        >>> round(cure.value(treat, 2), 4), round(cure.variance(treat, 2), 4), round(cure.efficiency_bound(treat, coin, 2), 4)
        (0.96, 0.0384, 0.1408)
        >>> cure.q(treat, 2)[0, 0], cure.occupancy(treat, 2)[:, 0, 1], cure.optimal_policy(0.9).table[0], cure.env().action_space
        (array([0.9 , 0.96]), array([1. , 0.2]), array([0., 1.]), Discrete(2))
        >>> cure.return_distribution(treat, 2).probabilities, cure.scm(GumbelMax()).counterfactual(data, treat)
        (array([0.04, 0.96]), Trajectories(n=1000, steps=1220, n_states=2, n_actions=2, length 1 to 2))
    """

    default_view: ClassVar[str] = "full"

    @property
    @abstractmethod
    def mdp(self) -> TabularMDP:
        """The process itself."""

    @property
    def views(self) -> Mapping[str, View]:
        """The views by name; "full" is the state."""
        return MappingProxyType({"full": self.mdp.full_view})

    @property
    def n_states(self) -> int:
        """S."""
        return self.mdp.dynamics.n_states

    @property
    def n_actions(self) -> int:
        """A."""
        return self.mdp.dynamics.n_actions

    def view(self, name: str | None = None, field: str = "view") -> View:
        """A view by name, the default one for None; `field` is what an error calls the name.

        Raises:
            EstimandError: naming the views that there are.
        """
        views = self.views
        return views[one_of(field, self.default_view if name is None else name, views, EstimandError)]

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
        """n trajectories, until a terminal state or the horizon.

        The result is a function of the seed alone, whatever the number of threads; trajectory i does not depend on n.

        Args:
            n: at least 1.
            policy: the behaviour policy.
            horizon: number of steps, or None for the whole process, which must end, after 10^7 steps on average at most.
            seed: any non-negative integer.
            record: view that the data show.
            sees: view that the policy sees.
            propensities: a record that hides what the policy saw keeps no probabilities of the logged actions, since an
                estimator that has them needs no adjustment; "oracle" keeps them.

        Returns:
            integer records, the probability of each logged action, `end` TERMINATED or TRUNCATED (at the horizon), and
            final records.

        Raises:
            DataError: for n or a seed out of range.
            EstimandError, PolicyError: as `value`.
        """
        check_sample(n, seed)
        shown, seen, mdp = self.view(record, "record"), self.view(sees, "sees"), self.mdp
        kept = keeps_propensities(propensities, shown.determines(seen))
        tables = self.tables(policy, horizon, 1.0, sees)
        if horizon is None:
            planning.require_short(mdp.dynamics, mdp.terminal, mdp.initial, tables[0], policy)
        walks = sample_walks(mdp.draws, mdp.terminal, mdp.initial, tables, int(n), horizon, int(seed))
        codes = shown.codes
        assert codes is not None, "a simulator's own views have one record a state"
        return Trajectories.from_arrays(
            walks.states if shown.is_full else codes[walks.states],
            walks.actions,
            add_noise(walks.rewards, walks.offsets, mdp.reward_noise, int(seed)),
            walks.offsets,
            end=np.where(mdp.terminal[walks.final_states], End.TERMINATED, End.TRUNCATED),
            behavior_probabilities=walks.probabilities if kept else None,
            final_observations=codes[walks.final_states],
            n_actions=self.n_actions,
            n_states=shown.n_records,
            state_features=shown.features,
        )

    def value(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0, *, sees: str | None = None) -> float:
        """Exact E[sum over t < horizon of discount^t r_t] under the policy.

        Args:
            policy: on integer states (or the records of a view), or a function of them.
            horizon: number of steps, or None for the whole process (a linear solve).
            discount: in [0, 1].
            sees: view that the policy sees.

        Raises:
            EstimandError: for a horizon or discount out of range, an unknown view, or at discount 1 without a horizon for
                a policy that never ends.
            PolicyError: for a policy that does not fit.
        """
        mdp, tables, discount = self._asked(policy, horizon, discount, sees)
        if horizon is not None:
            *_, q = planning.backward_q(mdp.dynamics, mdp.terminal, tables, horizon, discount)
            return float(mdp.initial @ (tables[0] * q).sum(axis=1))
        states = planning.visited(mdp.dynamics, mdp.terminal, mdp.initial, tables[0], discount, policy)
        return float(mdp.initial @ planning.stationary_values(mdp.dynamics, tables[0], states, discount))

    def q(self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0, *, sees: str | None = None) -> Floats:
        """Exact value of taking action a in state s at time t and following the policy after it; 0 in terminal states.

        Returns:
            (H, S, A), first axis the time t (H - t steps to go), or (S, A) without a horizon; always of the states.

        Raises:
            EstimandError, PolicyError: as `value`.
        """
        mdp, tables, discount = self._asked(policy, horizon, discount, sees)
        if horizon is not None:
            return planning.q_values(mdp.dynamics, mdp.terminal, tables, horizon, discount)
        if discount == 1:
            planning.require_end(mdp.dynamics, mdp.terminal, tables[0], policy)
        values = planning.stationary_values(mdp.dynamics, tables[0], ~mdp.terminal, discount)
        return planning.backup(mdp.dynamics, mdp.terminal, values, discount)

    def occupancy(
        self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0, *, sees: str | None = None
    ) -> Floats:
        """Exact state-action occupancy, so that value = sum of occupancy times mean reward; 0 in terminal states.

        Returns:
            (H, S, A) discount^t P(s_t = s, a_t = a, not ended), or its sum over all t, (S, A), without a horizon.

        Raises:
            EstimandError, PolicyError: as `value`.
        """
        mdp, tables, discount = self._asked(policy, horizon, discount, sees)
        if horizon is not None:
            return planning.forward_visits(mdp.dynamics, mdp.terminal, mdp.initial, tables, horizon, discount)
        states = planning.visited(mdp.dynamics, mdp.terminal, mdp.initial, tables[0], discount, policy)
        visits = planning.stationary_visits(mdp.dynamics, tables[0], mdp.initial, states, discount)
        return np.asarray(visits[:, None] * tables[0])

    def optimal_policy(self, discount: float, horizon: int | None = None) -> TabularPolicy:
        """A deterministic best policy of those that see the state and take no forbidden action; ties go to the lowest action.

        At discount 1 without a horizon, where the lowest of the tied actions would never end, the lowest one that
        brings the end nearer is taken.

        Returns:
            a table (S, A), or (H, S, A) for a horizon.

        Raises:
            EstimandError: as `value`, or at discount 1 for a state that cannot end, or a value without bound.
        """
        mdp, discount = self.mdp, check_time(horizon, discount)
        if horizon is not None:
            return TabularPolicy(planning.optimal_tables(mdp.dynamics, mdp.terminal, horizon, discount, mdp.forbidden))
        return TabularPolicy(planning.optimal_table(mdp.dynamics, mdp.terminal, discount, mdp.forbidden))

    def variance(self, policy: PolicyLike, horizon: int, discount: float = 1.0, *, sees: str | None = None) -> float:
        """Exact variance of the return over a finite horizon, reward noise included; see `returns.return_variance`.

        Raises:
            EstimandError, PolicyError: as `value`.
        """
        mdp, tables, discount = self._asked(policy, horizon, discount, sees, endless=False)
        return return_variance(mdp.dynamics, mdp.terminal, mdp.initial, tables, horizon, discount, mdp.reward_noise**2)

    def return_distribution(
        self, policy: PolicyLike, horizon: int, discount: float = 1.0, *, sees: str | None = None
    ) -> ReturnDistribution:
        """Exact distribution of the return over a finite horizon, with its quantiles and CVaR.

        Raises:
            EstimandError: as `value`, for a process with reward noise, and where too many returns are possible.
            PolicyError: as `value`.
        """
        mdp, tables, discount = self._asked(policy, horizon, discount, sees, endless=False)
        if mdp.reward_noise:
            raise EstimandError("return_distribution: with reward noise the return is no discrete one; use value and variance.")
        return return_distribution(mdp.dynamics, mdp.terminal, mdp.initial, tables, horizon, discount)

    def efficiency_bound(
        self, target: PolicyLike, behavior: PolicyLike, horizon: int, discount: float = 1.0, model: str = "history"
    ) -> float:
        """Smallest asymptotic variance per trajectory of any regular estimator of the target's value from complete records.

        The square root of it over n is the reference line for the error of an estimator from n trajectories.

        Args:
            target, behavior: policies that see the default view.
            horizon, discount: of the value.
            model: "history" (transitions may depend on the past; attained by `DR`), "markov" (on the state and time) or
                "homogeneous" (on the state), see `efficiency.efficiency_bound`.

        Returns:
            the variance, `inf` where the target does what the behaviour never does.

        Raises:
            EstimandError: for another model, or as `value`.
            PolicyError: as `value`.
        """
        mdp, discount = self.mdp, check_time(horizon, discount, endless=False)
        to, by = self.tables(target, horizon, discount), self.tables(behavior, horizon, discount)
        return efficiency_bound(mdp.dynamics, mdp.terminal, mdp.initial, to, by, horizon, discount, model, mdp.reward_noise**2)

    def scm(self, noise: Noise) -> StructuralModel:
        """The process with its exogenous noise, for counterfactuals: `GumbelMax()` or `FactorWise()`.

        Raises:
            DataError: for a process that the noise cannot drive.
        """
        from simulators.scm.model import StructuralModel

        return StructuralModel(self, noise)

    def env(self, horizon: int | None = None, render_mode: str | None = None) -> Env[Any, Any]:
        """A gymnasium environment whose observation is the default view; errors as those of `TabularEnv`.

        Args:
            horizon: number of steps after which an episode is truncated, or None.
            render_mode: "rgb_array" to render the trajectory so far as a picture, or None.
        """
        from simulators.environments import TabularEnv

        return TabularEnv(self, horizon, render_mode)

    def tables(self, policy: PolicyLike, horizon: int | None, discount: float = 1.0, sees: str | None = None) -> Floats:
        """(1, S, A) or (horizon, S, A) probabilities of a policy, as one of the states, whatever view it sees.

        Raises:
            EstimandError, PolicyError: as `value`.
        """
        check_time(horizon, discount)
        view = self.view(sees, "sees")
        others = {name: other.n_records for name, other in self.views.items() if other is not view}
        tables = view.lift(checked_tables(policy, view.n_records, self.n_actions, horizon, others))
        if self.mdp.forbidden is not None:
            check_allowed(policy, tables, self.mdp.forbidden)
        return tables

    def _asked(
        self, policy: PolicyLike, horizon: int | None, discount: float, sees: str | None, endless: bool = True
    ) -> tuple[TabularMDP, Floats, float]:
        """What an exact answer needs: the process, the policy as tables and the discount as a float."""
        discount = check_time(horizon, discount, endless)
        return self.mdp, self.tables(policy, horizon, discount, sees), discount
