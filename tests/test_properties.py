"""Invariances, for every estimator to which they apply, on small random data.

The tolerance is 1e-9 of the scale of the numbers throughout, except where a docstring says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

import causalrl as crl
from causalrl.data import End
from causalrl.diagnostics.record import KEYS

pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")

WEIGHTING = (crl.IS, crl.WIS, crl.PDIS, crl.PDWIS)
LEARNED_Q = (crl.TabularQ(), crl.LinearQ(), crl.PerAction(LinearRegression()), crl.Pooled(LinearRegression()))
EVERY = (
    *(kind() for kind in crl.ALL),
    *(kind(behavior=crl.Counts()) for kind in (*WEIGHTING, crl.WDR)),
    *(crl.DirectMethod(q) for q in LEARNED_Q[1:]),
    crl.DR(q=crl.LinearQ()),
    crl.WDR(q=crl.Pooled(LinearRegression()), behavior=crl.Logit()),
    crl.PDWIS(behavior=crl.Logit()),
)


@dataclass(frozen=True)
class Problem:
    """Ragged tabular records, their behaviour policy (in the data) and a target.

    Attributes:
        data: all terminated. target: (S, A) table. discount: of the estimand.
    """

    data: crl.Trajectories
    target: np.ndarray
    discount: float

    def goal(self, horizon: int | None = None, target: Any = None) -> crl.PolicyValue:
        return crl.PolicyValue(crl.TabularPolicy(self.target) if target is None else target, self.discount, horizon)


def simplex(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Probabilities in (0.05, 1), so that no weight explodes and no arm is missing."""
    return 0.8 * rng.dirichlet(np.ones(shape[-1]), shape[:-1]) + 0.2 / shape[-1]


def log_of(rng: np.random.Generator, lengths: np.ndarray, n_states: int, n_actions: int, end: End) -> crl.Trajectories:
    """Random states and actions; every action occurs in every state, so that the maximum-likelihood logit exists."""
    total, cells = int(lengths.sum()), n_states * n_actions
    behavior = simplex(rng, n_states, n_actions)
    states = rng.integers(0, n_states, total)
    actions = (rng.random((total, 1)) > behavior[states].cumsum(axis=1)[:, :-1]).sum(axis=1)
    last = np.isin(np.arange(total), np.cumsum(lengths) - 1)
    everywhere = np.argsort(last + rng.random(total))[:cells]  # before the last steps, where there is room
    states[everywhere], actions[everywhere] = np.divmod(np.arange(cells), n_actions)
    return crl.Trajectories.from_arrays(
        states,
        actions,
        rng.normal(size=total),
        np.concatenate([[0], np.cumsum(lengths)]),
        end=np.full(len(lengths), end),
        behavior_probabilities=behavior[states],
        n_actions=n_actions,
        n_states=n_states,
    )


@st.composite
def problems(draw: st.DrawFn, fixed_length: int | None = None, end: End = End.TERMINATED) -> Problem:
    n = draw(st.integers(9, 14))
    lengths = [fixed_length] * n if fixed_length else draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    n_states, n_actions = draw(st.integers(1, 3)), draw(st.integers(2, 3))
    discount = draw(st.sampled_from([0.0, 0.7, 1.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    data = log_of(rng, np.array(lengths), n_states, n_actions, end)
    return Problem(data, simplex(rng, n_states, n_actions), discount)


def changed(data: crl.Trajectories, **new: Any) -> crl.Trajectories:
    """The same records with some fields replaced."""
    names = ("observations", "actions", "rewards", "offsets")
    keywords = ("end", "behavior_probabilities", "n_actions", "n_states", "ids", "clusters")
    arguments = {name: getattr(data, name) for name in (*names, *keywords)}
    return crl.Trajectories.from_arrays(**{**arguments, **new})


def close(actual: Any, expected: Any, scale: float = 1.0) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9 * max(1.0, scale))


def spread(estimate: crl.Estimate) -> Any:
    """The standard error where it is cheap (moments); the refits of the direct method have tests of their own."""
    return estimate.stderr if estimate.evidence.functional is not None else np.nan


def every(estimators: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("estimator", estimators, ids=str)


def geometric(discount: float, length: int) -> float:
    return float(np.sum(discount ** np.arange(length)))


# On records of one length, cut and not ended, every step has its successor or lies at the horizon, so that a learned Q shifts
# by the same constant in every state.
SHIFTED = (
    crl.OnPolicyMean(),
    crl.WIS(),
    crl.PDWIS(),
    crl.WIS(behavior=crl.Counts()),
    crl.DirectMethod(),
    crl.DirectMethod(crl.TabularQ(by_time=True)),
    crl.DR(),
    crl.WDR(),
    crl.DR(q=crl.TabularQ(by_time=True)),
    crl.WDR(q=crl.LinearQ()),
)


@every(SHIFTED)
@given(problem=problems(fixed_length=3, end=End.TRUNCATED), shift=st.floats(-50, 50))
def test_a_reward_shift_moves_the_value_by_its_discounted_sum(estimator: crl.Estimator, problem: Problem, shift: float) -> None:
    goal = problem.goal(horizon=3)
    before = estimator.estimate(problem.data, goal)
    after = estimator.estimate(changed(problem.data, rewards=problem.data.rewards + shift), goal)
    close(after.value - before.value, shift * geometric(problem.discount, 3), scale=abs(shift))
    close(spread(after), spread(before), scale=abs(shift))


@pytest.mark.parametrize(
    "q",
    [
        crl.TabularQ(),
        crl.LinearQ(),
    ],
    ids=str,
)
def test_a_reward_shift_moves_what_was_never_seen_too(q: Any) -> None:
    study = crl.Trajectories.from_cross_section([0, 0, 1], [0, 1, 0], [1.0, 2.0, 3.0])
    values = [crl.GFormula(q).estimate(changed(study, rewards=study.rewards + c), crl.Always(1)).value for c in (0.0, 10.0)]
    close(values[1] - values[0], 10.0)


@every([crl.IS(), crl.PDIS()])
@given(problem=problems(fixed_length=3), shift=st.floats(-50, 50))
def test_a_reward_shift_moves_the_unnormalised_value_by_the_weights_too(
    estimator: crl.Estimator, problem: Problem, shift: float
) -> None:
    goal, data = problem.goal(horizon=3), problem.data
    rows = np.arange(len(data.actions))
    assert data.behavior_probabilities is not None
    ratios = problem.target[data.observations, data.actions] / data.behavior_probabilities[rows, data.actions]
    weights = np.cumprod(ratios.reshape(-1, 3), axis=1)
    if isinstance(estimator, crl.IS):
        weights = np.repeat(weights[:, -1:], 3, axis=1)
    move = shift * float(np.sum(problem.discount ** np.arange(3) * weights.mean(axis=0)))
    after = estimator.estimate(changed(data, rewards=data.rewards + shift), goal)
    close(after.value - estimator.estimate(data, goal).value, move, scale=abs(shift) * weights.max())


@every(EVERY)
@given(problem=problems(), scale=st.sampled_from([-3.0, 0.0, 1e-6, 2.5, 1e6]))
def test_a_reward_scale_scales_value_and_standard_error(estimator: crl.Estimator, problem: Problem, scale: float) -> None:
    goal = problem.goal(horizon=4)
    before = estimator.estimate(problem.data, goal)
    after = estimator.estimate(changed(problem.data, rewards=scale * problem.data.rewards), goal)
    np.testing.assert_allclose(after.value, scale * before.value, rtol=1e-9, atol=1e-9 * abs(scale))
    np.testing.assert_allclose(spread(after), abs(scale) * spread(before), rtol=1e-7, atol=1e-9 * abs(scale))


@every(EVERY)
@given(problem=problems(), seed=st.integers(0, 99))
def test_the_order_of_trajectories_does_not_matter(estimator: crl.Estimator, problem: Problem, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(problem.data.n)
    before, after = (estimator.estimate(data, problem.goal(4)) for data in (problem.data, problem.data.take(order)))
    close(after.value, before.value)
    close(spread(after), spread(before))
    for key in ("ess", "max_weight", "largest_share"):
        if before.diagnostics[key] is not None:
            close(after.diagnostics[key], before.diagnostics[key])


@every(EVERY)
@given(problem=problems(), seed=st.integers(0, 99))
def test_names_of_actions_and_states_do_not_matter(estimator: crl.Estimator, problem: Problem, seed: int) -> None:
    rng, data = np.random.default_rng(seed), problem.data
    actions, states = rng.permutation(data.n_actions), rng.permutation(data.n_states)
    assert data.behavior_probabilities is not None
    renamed = changed(
        data,
        observations=states[data.observations],
        actions=actions[data.actions],
        behavior_probabilities=data.behavior_probabilities[:, np.argsort(actions)],
    )
    target = crl.TabularPolicy(problem.target[np.argsort(states)][:, np.argsort(actions)])
    before, after = estimator.estimate(data, problem.goal(4)), estimator.estimate(renamed, problem.goal(4, target))
    close(after.value, before.value, scale=10)
    close(spread(after), spread(before), scale=10)


@every(EVERY)
@given(problem=problems())
def test_duplicated_data_under_the_same_clusters(estimator: crl.Estimator, problem: Problem) -> None:
    n = problem.data.n
    twice = problem.data.take(np.tile(np.arange(n), 2))
    before, after = estimator.estimate(problem.data, problem.goal(4)), estimator.estimate(twice, problem.goal(4))
    close(after.value, before.value)
    close(spread(after), spread(before))
    if before.diagnostics["ess"] is not None:
        close(after.diagnostics["ess"], 2 * before.diagnostics["ess"])
    folds = before.diagnostics["folds"] or ()
    if before.evidence.functional is not None and set(folds) <= {None, 1}:  # else the copies may fall into other folds
        unaware = estimator.estimate(changed(twice, clusters=np.arange(2 * n)), problem.goal(4))
        close(unaware.stderr * np.sqrt((2 * n - 1) / (n - 1)), before.stderr)


@given(problem=problems())
def test_duplicated_data_leave_the_refit_bootstrap_alone(problem: Problem) -> None:
    twice = problem.data.take(np.tile(np.arange(problem.data.n), 2))
    before, after = (crl.DirectMethod().estimate(data, problem.goal(4)) for data in (problem.data, twice))
    method = crl.RefitBootstrap(20, seed=1)
    close([*after.interval(method=method)], [*before.interval(method=method)])


@every([kind() for kind in WEIGHTING])
@given(problem=problems(), natural=st.booleans())
def test_the_behaviour_as_target_has_all_ratios_one(estimator: crl.Estimator, problem: Problem, natural: bool) -> None:
    data = problem.data
    target: Any = crl.NaturalCourse() if natural else crl.TabularPolicy(_behavior_table(data))
    returns = np.add.reduceat(problem.discount ** data.steps().time * data.rewards, data.offsets[:-1])
    estimate = estimator.estimate(data, problem.goal(target=target))
    close(estimate.value, returns.mean())
    close(estimate.stderr, returns.std(ddof=1) / np.sqrt(data.n))
    close(estimate.diagnostics["ess"], data.n)
    close(estimate.diagnostics["ess_by_time"], np.full(len(estimate.diagnostics["ess_by_time"]), data.n))
    close(estimate.diagnostics["max_weight"], 1)
    close(estimate.diagnostics["largest_share"], 1 / data.n)
    assert estimate.diagnostics["unsupported_mass"] == 0


def _behavior_table(data: crl.Trajectories) -> np.ndarray:
    assert data.behavior_probabilities is not None
    table = np.full((data.n_states, data.n_actions), 1 / data.n_actions)
    table[data.observations] = data.behavior_probabilities
    return table


@given(problem=problems(), seed=st.integers(0, 99))
def test_on_policy_weighted_and_plain_double_robustness_agree_for_any_q(problem: Problem, seed: int) -> None:
    data = problem.data
    q = crl.KnownQ(np.random.default_rng(seed).normal(size=(data.n_states, data.n_actions)))
    goal = problem.goal(target=crl.TabularPolicy(_behavior_table(data)))
    plain, weighted = crl.DR(q=q).estimate(data, goal), crl.WDR(q=q).estimate(data, goal)
    close(weighted.value, plain.value)


def appended(problem: Problem, extra: np.ndarray) -> tuple[Problem, Problem]:
    """The problem with one more state in its tables, and with extra[i] steps in that state after trajectory i ended.

    There the reward is 0 and behaviour and target agree, so that the ratio is 1.
    """
    data = problem.data
    assert data.behavior_probabilities is not None
    uniform = np.full((1, data.n_actions), 1 / data.n_actions)
    target = np.vstack([problem.target, uniform])
    wide = changed(data, n_states=data.n_states + 1)
    stay = np.repeat(data.offsets[1:], extra)
    longer = changed(
        data,
        observations=np.insert(data.observations, stay, data.n_states),
        actions=np.insert(data.actions, stay, 0),
        rewards=np.insert(data.rewards, stay, 0.0),
        behavior_probabilities=np.insert(data.behavior_probabilities, stay, uniform[0], axis=0),
        offsets=data.offsets + np.concatenate([[0], np.cumsum(extra)]),
        n_states=data.n_states + 1,
    )
    return Problem(wide, target, problem.discount), Problem(longer, target, problem.discount)


def known_q(problem: Problem, seed: int) -> crl.KnownQ:
    """Any Q that is 0 in the last, absorbing state."""
    table = np.random.default_rng(seed).normal(size=problem.target.shape)
    table[-1] = 0.0
    return crl.KnownQ(table)


ABSORBED: dict[str, Callable[[crl.KnownQ], crl.Estimator]] = {
    **{kind.__name__: (lambda q, kind=kind: kind()) for kind in (*WEIGHTING, crl.OnPolicyMean)},
    "DR": lambda q: crl.DR(q=q),
    "WDR": lambda q: crl.WDR(q=q),
    "DirectMethod of a known Q": lambda q: crl.DirectMethod(q),
    "DirectMethod of a learned Q": lambda q: crl.DirectMethod(),
    "WDR of a learned Q": lambda q: crl.WDR(),
}


@pytest.mark.parametrize("name", list(ABSORBED))
@given(problem=problems(), extra=st.lists(st.integers(0, 3), min_size=14, max_size=14), seed=st.integers(0, 99))
def test_steps_appended_after_the_end_change_nothing(name: str, problem: Problem, extra: list[int], seed: int) -> None:
    if name.endswith("learned Q") and problem.discount == 1:
        problem = Problem(problem.data, problem.target, 0.7)  # else the fixed point may not exist
    before, after = appended(problem, np.array(extra[: problem.data.n]))
    estimator = ABSORBED[name](known_q(before, seed))
    short, long = (estimator.estimate(each.data, each.goal()) for each in (before, after))
    close(long.value, short.value, scale=10)
    close(spread(long), spread(short), scale=10)
    for key in ("ess", "max_weight", "largest_share"):
        if short.diagnostics[key] is not None:
            close(long.diagnostics[key], short.diagnostics[key])


MERGED: dict[str, Callable[[crl.KnownQ], crl.Estimator]] = {
    **{kind.__name__: (lambda q, kind=kind: kind()) for kind in (crl.OnPolicyMean, *WEIGHTING)},
    "DR": lambda q: crl.DR(q=q),
    "WDR": lambda q: crl.WDR(q=q),
    "DirectMethod": lambda q: crl.DirectMethod(q),
}


def whole_and_merged(name: str, problem: Problem, cuts: int) -> tuple[crl.Estimate, crl.Estimate]:
    estimator = MERGED[name](known_q(problem, 0))
    shards = np.array_split(np.arange(problem.data.n), cuts)
    first, *rest = (estimator.estimate(problem.data.take(shard), problem.goal()) for shard in shards)
    return estimator.estimate(problem.data, problem.goal()), first.merge(*rest)


def same_evidence(whole: crl.Estimate, merged: crl.Estimate) -> None:
    close(merged.value, whole.value)
    close(merged.stderr, whole.stderr)
    assert merged.n == whole.n
    assert set(merged.diagnostics) == set(KEYS)
    for method in (crl.Wald(), crl.PercentileBootstrap(20, seed=3)):
        close([*merged.interval(method=method)], [*whole.interval(method=method)])


@pytest.mark.parametrize("name", list(MERGED))
@given(problem=problems(fixed_length=3), cuts=st.integers(1, 4))
def test_shards_merge_to_the_whole(name: str, problem: Problem, cuts: int) -> None:
    same_evidence(*whole_and_merged(name, problem, cuts))


@pytest.mark.parametrize("name", list(MERGED))
@given(problem=problems(), cuts=st.integers(1, 4))
def test_ragged_shards_merge_to_the_whole(name: str, problem: Problem, cuts: int) -> None:
    same_evidence(*whole_and_merged(name, problem, cuts))


@given(problem=problems(fixed_length=2), seed=st.integers(0, 99))
def test_the_difference_of_estimates_is_paired(problem: Problem, seed: int) -> None:
    """The spread of a - b is that of the paired influence values, and a - a has none."""
    a = crl.WIS().estimate(problem.data, problem.goal())
    b = crl.DR(q=known_q(problem, seed)).estimate(problem.data, problem.goal())
    paired = a.influence - b.influence
    close((a - b).stderr, paired.std(ddof=1) / np.sqrt(problem.data.n))
    close((a - a).stderr, 0)
