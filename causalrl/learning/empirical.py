"""Planning in the count model of logged transitions (certainty equivalence)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from causalrl.checks import Bools, Floats, Ints, first_bad, number, whole_number
from causalrl.data import End, Steps, Trajectories
from causalrl.errors import CensoringError, EstimandError
from causalrl.estimands import PolicyValue
from causalrl.kernels.planning import lowest_best, policy_iteration
from causalrl.learning.pseudo_counts import TerminalPseudoCounts
from causalrl.nuisances.crossfit import require_trajectories
from causalrl.nuisances.model import CountModel, Decisions, ModelMDP, UnseenRule
from causalrl.nuisances.model_based import check_rule
from causalrl.nuisances.tabular import StateMean
from causalrl.policies import PolicyLike, TabularPolicy, policy_table


@dataclass(frozen=True)
class EmpiricalMDP:
    """The best policy of the maximum-likelihood Markov decision process of the logged transitions, pooled over time.

    Policy iteration without a horizon, backward induction with one. By default only logged actions are chosen, so that what
    is said about the others never makes one attractive. A few lucky counts still do: with 5,000 records of the sepsis simulator
    (v2, physician at epsilon 0.3, discount 0.99) the plan is worth .09 at `min_count=1` and .68 at 20, while the model says
    .87 and .75.

    Sources: Puterman (1994), Markov Decision Processes, chapters 4 and 6; the least count of an action: Komorowski et al.
    (2018), The Artificial Intelligence Clinician; the rule for decisions never seen and pseudo-counts: Oberst & Sontag (2019).

    Args:
        discount: of the planning, in [0, 1], below 1 without a horizon.
        horizon: number of steps, of which the policy then depends on the time; later steps of the data are ignored.
        unseen: what the model says of a (state, action) that was never logged: `StateMean()`, or `Absorb(value)`.
        min_count: how often an action must have been logged in a state to be chosen there; in a state where none was, the ones
            logged most often may be, and in a state that was never seen any. 0 allows every action everywhere.
        pseudo_counts: added to the model only, see `TerminalPseudoCounts`; or None.

    Raises:
        DataError: for a min_count that is no whole number from 0.
        EstimandError: for a discount or a horizon out of range, or another rule.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0, 1, 0, 0], [0, 1, 1, 0], [0.0, 3.0, 2.0, 0.0], [0, 2, 3, 4])
        >>> planned = EmpiricalMDP(discount=0.9).fit(data)
        >>> planned.policy().table
        array([[0., 1.],
               [0., 1.]])
        >>> planned.value(crl.Always(0)), planned.value(planned.policy())
        (1.35, 2.0)
    """

    discount: float = 0.99
    horizon: int | None = None
    unseen: UnseenRule = field(default_factory=StateMean)
    min_count: int = 1
    pseudo_counts: TerminalPseudoCounts | None = None

    def __post_init__(self) -> None:
        number("discount", self.discount, 0, 1, EstimandError)
        if self.horizon is not None:
            whole_number("horizon", self.horizon, 1, EstimandError)
        elif self.discount == 1:
            raise EstimandError("discount: 1 without a horizon leaves a plan undefined; pass horizon=H, or a discount below 1.")
        check_rule(self.unseen)
        whole_number("min_count", self.min_count, 0)
        if not isinstance(self.pseudo_counts, TerminalPseudoCounts | None):
            raise EstimandError(f"pseudo_counts: {self.pseudo_counts!r}; pass TerminalPseudoCounts(...) or None.")

    def fit(self, data: Trajectories) -> PlannedMDP:
        """Count the transitions and plan.

        A step whose successor is not known (a truncated record without a final observation) tells of its reward as a last
        step only, as in `TabularQ`.

        Raises:
            DataError: for vector observations, continuous actions, or no known successor.
            CensoringError: for censored records.
        """
        require_trajectories(data)
        steps = data.steps(self.horizon)
        _refuse_censored(steps)
        if self.pseudo_counts is None:
            codes = np.arange(data.n_states)
            decisions, outcomes = Decisions.logged(steps, np.ones(len(steps))), np.array([np.nan])
        else:
            codes = self.pseudo_counts.codes(data.n_states)
            decisions, outcomes = self.pseudo_counts.decisions(steps)
        states, actions = int(codes.max()) + 1, data.n_actions
        initial = np.bincount(codes[steps.observations[steps.first]], minlength=states) / data.n
        counts = np.bincount(decisions.cells[: len(steps)], minlength=states * actions).reshape(states, actions)
        return self._plan(CountModel.of(decisions, initial, actions, outcomes).complete(self.unseen), counts)

    def _plan(self, mdp: ModelMDP, counts: Ints) -> PlannedMDP:
        allowed = np.ones(mdp.mean_rewards.shape, np.bool_)
        allowed[: mdp.n_states] = counts >= np.minimum(self.min_count, counts.max(axis=1, keepdims=True))
        if self.horizon is not None:
            choice = allowed[: mdp.n_states]
            q = mdp.counted.backward_q(
                self.unseen, self.horizon, self.discount, lambda _, q: np.where(choice, q, -np.inf).max(axis=1)
            )
            return PlannedMDP(self, mdp, counts, allowed, q, ())
        path = list(policy_iteration(mdp.matrix, mdp.mean_rewards, mdp.terminal, allowed, self.discount))
        return PlannedMDP(self, mdp, counts, allowed, mdp.of_data(path[-1][0][None]), tuple(changed for _, changed in path))


@dataclass(frozen=True, eq=False)
class PlannedMDP:
    """A count model and the best policy in it.

    Attributes:
        learner: what it was fitted by.
        model: the learned process, with the ends, and under `StateMean` the stand-in for never-seen states, after the data's.
        counts: (S, A) how often each decision was logged.
        allowed: (N, A) actions that the plan may take in each state of the model.
        all_q: (1 or H, S, A) Q of the best policy at the states of the data.
        trace: number of states in which each sweep of policy iteration changed the action; empty for a horizon.
    """

    learner: EmpiricalMDP
    model: ModelMDP
    counts: Ints
    allowed: Bools
    all_q: Floats
    trace: tuple[int, ...]

    def __repr__(self) -> str:
        return f"PlannedMDP({self.model.n_states} states, {self.unseen_states.sum()} of them never seen, of {self.learner})"

    @property
    def unseen_states(self) -> Bools:
        """(S,) states in which no decision was logged; the policy there is arbitrary where the rule makes all actions equal."""
        return np.asarray(self.counts.sum(axis=1) == 0)

    @property
    def q(self) -> Floats:
        """(S, A), or (H, S, A) for a horizon: value in the model of an action, followed by the best policy."""
        return self.all_q[0] if self.learner.horizon is None else self.all_q

    def policy(self) -> TabularPolicy:
        """The best policy: deterministic, (S, A), or (H, S, A) for a horizon; of tied actions the lowest."""
        states, actions = self.model.n_states, self.model.n_actions
        tables = np.eye(actions)[np.stack([lowest_best(layer, self.allowed[:states]) for layer in self.all_q])]
        return TabularPolicy(tables[0] if self.learner.horizon is None else tables)

    def value(self, goal: PolicyLike | PolicyValue) -> float:
        """Value of a policy in the model, from the empirical start distribution.

        Args:
            goal: a policy, valued with the discount and horizon of the planning; or a `PolicyValue` with its own.

        Raises:
            PolicyError: for a policy that does not fit the states and actions of the model.
            EstimandError: for an undiscounted value that does not exist.
        """
        if not isinstance(goal, PolicyValue):
            goal = PolicyValue(goal, self.learner.discount, self.learner.horizon)
        mdp = self.model
        tables = policy_table(goal.policy, mdp.n_states, mdp.n_actions, goal.horizon)
        q = mdp.q(tables, goal.horizon, goal.discount)
        return float(mdp.counted.initial @ (tables[0] * q[0]).sum(axis=1))

    def arrays(self) -> dict[str, Any]:
        """The model as compressed rows: `simulators.TabularMDP.from_sparse(**arrays())` is a simulator of it.

        Example:
            >>> import causalrl as crl
            >>> from simulators import TabularMDP
            >>> data = crl.Trajectories.from_arrays([0, 1, 0], [0, 1, 1], [0.0, 3.0, 2.0], [0, 2, 3])
            >>> planned = crl.learning.EmpiricalMDP(discount=0.9).fit(data)
            >>> TabularMDP.from_sparse(**planned.arrays()).value(planned.on_model(planned.policy()), discount=0.9)
            2.7
        """
        names = ("indptr", "successors", "probabilities", "rewards", "initial", "terminal")
        return {name: getattr(self.model, name).copy() for name in names}

    def on_model(self, policy: PolicyLike) -> TabularPolicy:
        """A stationary policy of the S states as one of the N states of `arrays`; in the added states no action matters.

        Raises:
            PolicyError: for a policy that does not fit, or depends on time.
        """
        tables = policy_table(policy, self.model.n_states, self.model.n_actions, None)
        return TabularPolicy(self.model.extend(tables)[0])


def _refuse_censored(steps: Steps) -> None:
    censored = steps.cut_early & (steps.data.end == End.CENSORED)
    if censored.any():
        raise CensoringError(
            f"end: trajectory {steps.data.ids[first_bad(censored)]} is censored, and no censoring model exists yet. Leave it "
            "out, or set a horizon within follow-up."
        )
