"""Wrappers against a naive model of them, written from their docstrings: every path, enumerated one by one.

A record is a tuple of (variable, value); a law of records is a dict. Nothing is taken from `simulators` but the numbers checked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise, product
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy.stats import chi2

import causalrl as crl
from causalrl.data import End
from simulators import (
    MAR,
    MCAR,
    MNAR,
    Censored,
    Confounded,
    CovariateShift,
    HideVariables,
    Hospitals,
    MeasurementError,
    SepsisSimulator,
    TabularMDP,
    ThinnedVisits,
)
from simulators.views import View
from simulators.wrappers.confounding import MODELS, tilted
from simulators.wrappers.recorded import Recorded

H, A, DISCOUNT = 3, 3, 0.8
NAMES = ("x", "y")
CELLS = [(0.0, 1.0), (0.0, 3.0), (1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]
RNG = np.random.default_rng(8)
LAW: dict[tuple[int, int], dict[int, float]] = {}
for _s, _a in product(range(4), range(A)):
    _to = RNG.choice(4, 2, replace=False)
    LAW[_s, _a] = dict(zip(map(int, (*_to, 4)), RNG.dirichlet([3.0, 3.0, 1.0]), strict=True))
PAID = RNG.normal(size=(5, A, 5)).round(2)
START = np.array([0.4, 0.0, 0.35, 0.25, 0.0])


def cohort(cells: list[tuple[float, ...]] = CELLS, **labels: Any) -> TabularMDP:
    """Four live states and a sink; two successors a decision besides the sink, so that whole records can be enumerated."""
    dense = np.zeros((5, A, 5))
    for (s, a), row in LAW.items():
        dense[s, a, list(row)] = list(row.values())
    dense[4, :, 4] = 1.0
    return TabularMDP(dense, PAID, START, np.arange(5) == 4, state_features=cells, feature_names=NAMES, **labels)


# ---- the naive model -------------------------------------------------------------------------------------------------

Record = tuple[tuple[str, float], ...]
Emission = list[dict[Record, float]]


def alter(emission: Emission, change: Callable[[dict[str, float]], list[tuple[float, dict[str, float]]]]) -> Emission:
    """Each record becomes one of several, with probabilities."""
    after: Emission = []
    for law in emission:
        new: dict[Record, float] = defaultdict(float)
        for record, chance in law.items():
            for p, changed in change(dict(record)):
                if p > 0:
                    new[tuple(sorted(changed.items()))] += chance * p
        after.append(dict(new))
    return after


def levels(name: str) -> list[float]:
    return sorted({cell[NAMES.index(name)] for cell in CELLS})


def hide(emission: Emission, name: str) -> Emission:
    return alter(emission, lambda r: [(1.0, {k: v for k, v in r.items() if k != name})])


def lose(emission: Emission, names: tuple[str, ...], rate: Callable[[dict[str, float]], float]) -> Emission:
    gone = {name: levels(name)[0] - 1 for name in names}
    return alter(emission, lambda r: [(1 - rate(r), r), (rate(r), {**r, **gone})])


def high(name: str, rate: float) -> Callable[[dict[str, float]], float]:
    low, top = levels(name)[0], levels(name)[-1]
    return lambda r: rate * max(r[name] - low, 0.0) / (top - low)


def mistake(emission: Emission, name: str, rate: float) -> Emission:
    def change(r: dict[str, float]) -> list[tuple[float, dict[str, float]]]:
        others = [level for level in levels(name) if level != r[name]]
        if r[name] not in levels(name):
            return [(1.0, r)]
        return [(1 - rate, r), *((rate / len(others), {**r, name: level}) for level in others)]

    return alter(emission, change)


@dataclass(frozen=True)
class Naive:
    """What the wrappers of a stack do, said again."""

    emission: Emission
    gamma: float = 1.0
    model: str = "rosenbaum"
    steps: tuple[int, ...] | None = None
    hospitals: np.ndarray = field(default_factory=lambda: np.ones((1, A)))
    hazard: np.ndarray = field(default_factory=lambda: np.zeros((5, A)))

    def confounded(self, t: int) -> bool:
        return self.gamma > 1 and (self.steps is None or t in self.steps)

    def tilt(self, policy: np.ndarray, u: int) -> np.ndarray:
        """By bisection on the largest move of the share of the upper half of the actions (2 of 3 make the lower one)."""
        share = policy[2]
        if not 0 < share < 1:
            return policy

        def odds(p: float) -> float:
            return p / (1 - p) if p < 1 else np.inf

        low, top = 0.0, min(share, 1 - share)
        for _ in range(200):
            d = (low + top) / 2
            pairs = [(share + d, share - d)] if self.model == "rosenbaum" else [(share + d, share), (share, share - d)]
            small = all(odds(most) <= self.gamma * odds(least) for most, least in pairs if least > 0) and share > d
            low, top = (d, top) if small else (low, d)
        moved = share + (low if u else -low)
        return np.append(policy[:2] * (1 - moved) / (1 - share), moved)

    def successors(self, s: int, a: int, u: int | None) -> list[tuple[int, float]]:
        """All of a row, or the worse or better half of it."""
        if u is None:
            return list(LAW[s, a].items())
        ordered = sorted(LAW[s, a], key=lambda j: PAID[s, a, j] + 0.99 * RANDOM[j])
        out, below = [], 0.0
        for j in ordered:
            above = below + LAW[s, a][j]
            inside = min(above, (u + 1) / 2) - max(below, u / 2)
            below = above
            if inside > 1e-12:
                out.append((j, 2 * inside))
        return out


def value_of_chance() -> np.ndarray:
    v = np.zeros(5)
    for _ in range(4000):
        v = np.array(
            [sum(p * (PAID[s, a, j] + 0.99 * v[j]) for a in range(A) for j, p in LAW[s, a].items()) / A for s in range(4)] + [0]
        )
    return v


RANDOM = value_of_chance()


class Step(NamedTuple):
    record: Record
    action: int
    paid: float
    logged: float


class Path(NamedTuple):
    chance: float
    hospital: int
    steps: tuple[Step, ...]
    final: Record
    end: End


def paths(world: Naive, logger: Callable[[int, int, Record], np.ndarray], horizon: int = H) -> Iterator[Path]:
    """Every possible record with its probability, one for each way of coming about; logger(t, state, record)."""

    def walk(k: int, s: int, chance: float, steps: tuple[Step, ...], lost: bool) -> Iterator[Path]:
        t = len(steps)
        end = End.TERMINATED if s == 4 else End.TRUNCATED if t == horizon else End.CENSORED if lost else None
        for record, seen in world.emission[s].items():
            if end is not None:
                yield Path(chance * seen, k, steps, record, end)
                continue
            policy = logger(t, s, record) * world.hospitals[k]
            for u in (0, 1) if world.confounded(t) else (None,):
                tilted = policy / policy.sum() if u is None else world.tilt(policy / policy.sum(), u)
                for a in np.flatnonzero(tilted):
                    for j, p in world.successors(s, int(a), u):
                        here = chance * seen * (1.0 if u is None else 0.5) * tilted[a] * p
                        step = (*steps, Step(record, int(a), PAID[s, a, j], tilted[a]))
                        for gone, q in ((False, 1 - world.hazard[s, a]), (True, world.hazard[s, a])):
                            if q > 0 and not (gone and (j == 4 or t + 1 == horizon)):
                                yield from walk(k, j, here * (1.0 if j == 4 or t + 1 == horizon else q), step, gone)

    for k, s in product(range(len(world.hospitals)), np.flatnonzero(START)):
        yield from walk(k, int(s), START[s] / len(world.hospitals), (), False)


def exact_value(emission: Emission, start: np.ndarray, target: Callable[[int, Record], np.ndarray], horizon: int = H) -> float:
    """By forward enumeration of state, record, action and successor under the target."""

    def ahead(t: int, s: int) -> float:
        if t == horizon or s == 4:
            return 0.0
        return sum(
            seen * target(t, record)[a] * p * (DISCOUNT**t * PAID[s, a, j] + ahead(t + 1, j))
            for record, seen in emission[s].items()
            for a in range(A)
            for j, p in LAW[s, a].items()
        )

    return sum(share * ahead(0, s) for s, share in enumerate(start))


# ---- stacks and their naive counterparts -----------------------------------------------------------------------------

PLAIN: Emission = [{tuple(sorted(zip(NAMES, cell, strict=True))): 1.0} for cell in CELLS]
HABITS = Hospitals(2, 0.8, seed=1)
FACTORS = (cohort() | HABITS).hospitals
HAZARD = np.random.default_rng(3).uniform(0.0, 0.4, (5, A))


def nowhere(r: dict[str, float]) -> float:
    return 0.4 if r["x"] == 0 else 0.0


STACKS: dict[str, tuple[Any, Naive]] = {
    "hospitals, hidden, confounded twice": (
        lambda m: m | HABITS | HideVariables("x") | Confounded(3.0, steps=(0, 2)),
        Naive(hide(PLAIN, "x"), 3.0, steps=(0, 2), hospitals=FACTORS),
    ),
    "confounded, mcar, hidden": (
        lambda m: m | Confounded(2.0, model="marginal", steps=(1,)) | MCAR(0.3, ("y",)) | HideVariables("x"),
        Naive(hide(lose(PLAIN, ("y",), lambda r: 0.3), "x"), 2.0, "marginal", (1,)),
    ),
    "mnar, mismeasured": (
        lambda m: m | MNAR(0.5, ("y",)) | MeasurementError(0.2, ("x",)),
        Naive(mistake(lose(PLAIN, ("y",), high("y", 0.5)), "x", 0.2)),
    ),
    "mcar, mnar, mismeasured": (
        lambda m: m | MCAR(0.2, ("y",)) | MNAR(0.6, ("y",)) | MeasurementError(0.3, ("y",)) | HideVariables("x"),
        Naive(hide(mistake(lose(lose(PLAIN, ("y",), lambda r: 0.2), ("y",), high("y", 0.6)), "y", 0.3), "x")),
    ),
    "hidden, thinned": (
        lambda m: m | HideVariables("x") | ThinnedVisits(0.3, ("y",)),
        Naive(lose(hide(PLAIN, "x"), ("y",), lambda r: 0.3)),
    ),
    "thinned, both": (lambda m: m | ThinnedVisits(0.3, NAMES), Naive(lose(PLAIN, NAMES, lambda r: 0.3))),
    "mcar, mar, hospitals": (
        lambda m: m | MCAR(0.2, ("x",)) | MAR(0.4, ("y",), ("x",)) | HABITS,
        Naive(lose(lose(PLAIN, ("x",), lambda r: 0.2), ("y",), nowhere), hospitals=FACTORS),
    ),
    "confounded, huge gamma": (lambda m: m | Confounded(1e4), Naive(PLAIN, 1e4)),
    "censored, hidden, confounded": (
        lambda m: m | Censored(0.1) | HideVariables("x") | Censored(HAZARD) | Confounded(2.0, steps=(0,)) | HABITS,
        Naive(hide(PLAIN, "x"), 2.0, steps=(0,), hospitals=FACTORS, hazard=1 - 0.9 * (1 - HAZARD)),
    ),
}
names = pytest.mark.parametrize("name", STACKS)


class Case:
    """A stack, a logger that sees the state, a target that sees the record, and the naive model of them."""

    def __init__(self, name: str, **labels: Any) -> None:
        build, self.world = STACKS[name]
        self.process: Recorded = build(cohort(**labels))
        view = self.process.view()
        shown = [tuple(sorted(zip(view.feature_names, map(float, row), strict=True))) for row in view.features]
        self.code = {record: code for code, record in enumerate(shown)}
        rng = np.random.default_rng(5)
        self.logger = rng.dirichlet(np.full(A, 3.0), (H, 5))
        self.logger[0, 0], self.logger[1, 2] = [0.0, 0.0, 1.0], [0.6, 0.4, 0.0]
        self.target = rng.dirichlet(np.full(A, 2.0), (H, view.n_records))
        self.by_record = rng.dirichlet(np.full(A, 3.0), (H, view.n_records))

    def weighted(self, every: list[Path], logged: Callable[[int, Step], float]) -> float:
        """Limit of importance sampling with these probabilities of the logged actions."""

        def ratio(t: int, step: Step) -> float:
            return float(self.target[t, self.code[step.record], step.action]) / logged(t, step)

        def paid(path: Path) -> float:
            return sum(DISCOUNT**t * step.paid for t, step in enumerate(path.steps))

        return sum(path.chance * paid(path) * prod(ratio(t, s) for t, s in enumerate(path.steps)) for path in every)


@names
def test_the_law_of_a_record_is_that_of_the_docstring(name: str) -> None:
    case = Case(name)
    channel = np.zeros((5, len(case.code)))
    for s, law in enumerate(case.world.emission):
        for record, chance in law.items():
            channel[s, case.code[record]] = chance
    np.testing.assert_allclose(case.process.shown.channel.toarray(), channel, atol=1e-14)
    assert (channel.sum(axis=0) > 0).all()


@names
def test_values_and_naive_analyses_are_those_of_every_path(name: str) -> None:
    case = Case(name)
    horizon = H if case.world.gamma > 1 else 2
    logger, target = crl.TabularPolicy(case.logger), crl.TabularPolicy(case.target)
    every = list(paths(case.world, lambda t, s, record: case.logger[t, s], horizon))
    assert sum(path.chance for path in every) == pytest.approx(1.0, abs=1e-12)
    taken = np.zeros((horizon, len(case.code), A))
    for path in every:
        for t, step in enumerate(path.steps):
            taken[t, case.code[step.record], step.action] += path.chance
    total = taken.sum(axis=2, keepdims=True)
    marginal = np.divide(taken, total, out=np.full(taken.shape, 1 / A), where=total > 0)
    np.testing.assert_allclose(case.process.marginal_policy(logger, horizon).table, marginal, atol=1e-12)
    truth = exact_value(case.world.emission, START, lambda t, record: case.target[t, case.code[record]], horizon)
    assert case.process.value(target, horizon, DISCOUNT) == pytest.approx(truth, abs=1e-12)
    if not case.world.hazard.any():
        apparent = case.weighted(every, lambda t, step: float(marginal[t, case.code[step.record], step.action]))
        assert case.process.apparent_value(target, logger, horizon, DISCOUNT) == pytest.approx(apparent, abs=1e-12)


def whole(path: Path, code: dict[Record, int]) -> tuple[Any, ...]:
    """A record and what comes with it, U and the state apart, as a key."""
    steps = tuple((code[s.record], s.action, s.paid, round(s.logged, 9)) for s in path.steps)
    return (path.hospital, int(path.end), code[path.final], steps)


def sampled(data: crl.Trajectories, clustered: bool) -> list[tuple[Any, ...]]:
    columns = (data.observations, data.actions, data.rewards.round(9), data.behavior_probabilities.round(9))
    steps = list(zip(*(column.tolist() for column in columns), strict=True))
    hospitals = data.clusters if clustered else np.zeros(data.n, int)
    ends = zip(hospitals.tolist(), map(int, data.end), data.final_observations.tolist(), pairwise(data.offsets), strict=True)
    return [(k, end, last, tuple(steps[first:after])) for k, end, last, (first, after) in ends]


def assert_law(observed: list[tuple[Any, ...]], law: dict[tuple[Any, ...], float]) -> None:
    """Chi-square of whole records; the rare ones make one cell."""
    counts: dict[Any, int] = defaultdict(int)
    expected: dict[Any, float] = defaultdict(float)
    rare = {key for key, chance in law.items() if chance * len(observed) < 8}
    for key in observed:
        assert key in law
        counts["rare" if key in rare else key] += 1
    for key, chance in law.items():
        expected["rare" if key in rare else key] += chance * len(observed)
    distance = sum((counts[key] - mean) ** 2 / mean for key, mean in expected.items() if mean > 0)
    assert chi2.sf(distance, len(expected) - 1) > 1e-4, (distance, len(expected))


@pytest.mark.parametrize("sees", ["full", "record"])
@names
def test_whole_records_have_the_law_of_the_paths(name: str, sees: str) -> None:
    case = Case(name)
    table = case.logger if sees == "full" else case.by_record
    every = paths(case.world, lambda t, s, record: table[t, s if sees == "full" else case.code[record]], 2)
    law: dict[Any, float] = defaultdict(float)
    for path in every:
        law[whole(path, case.code)] += path.chance
    data = case.process.sample(60_000, crl.TabularPolicy(table), 2, seed=4, sees=sees, propensities="oracle")
    assert_law(sampled(data, len(case.world.hospitals) > 1), law)


@pytest.mark.parametrize("sees", ["full", "record"])
@pytest.mark.parametrize("name", ["hospitals, hidden, confounded twice", "confounded, huge gamma", "mcar, mar, hospitals"])
def test_importance_sampling_with_all_that_the_logger_saw_is_exactly_unbiased(name: str, sees: str) -> None:
    """In expectation over every path, not in a sample; the law of the logged probabilities is tested above."""
    case = Case(name)
    soft = 0.9 * case.logger + 0.1 / A
    every = paths(case.world, lambda t, s, record: soft[t, s] if sees == "full" else case.by_record[t, case.code[record]])
    expected = case.weighted(list(every), lambda t, step: step.logged)
    assert case.process.value(crl.TabularPolicy(case.target), H, DISCOUNT) == pytest.approx(expected, abs=1e-12)


def test_a_logger_that_sees_less_than_the_state_has_the_probabilities_of_its_view() -> None:
    simulator = SepsisSimulator()
    table = np.random.default_rng(0).dirichlet(np.full(8, 2.0), (4, 144))
    for stack in (simulator | HideVariables("oxygen") | MCAR(0.2), simulator | Hospitals(2, 0.5) | HideVariables("glucose")):
        options = {"seed": 2, "sees": "projected", "propensities": "oracle"}
        data = stack.sample(2_000, crl.TabularPolicy(table), 4, **options)
        truth = stack.sample(2_000, crl.TabularPolicy(table), 4, record="full", **options)
        np.testing.assert_array_equal(data.actions, truth.actions)
        time = np.arange(len(data.actions)) - np.repeat(data.offsets[:-1], data.lengths)
        logged = table[time, simulator.views["projected"].codes[truth.observations]]
        if stack.hospitals is not None:
            logged = logged * stack.hospitals[np.repeat(data.clusters, data.lengths)]
        logged /= logged.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(data.behavior_probabilities, logged[np.arange(len(time)), data.actions], rtol=1e-12)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("n_actions", [1, 2, 3, 4, 7])
def test_no_odds_ratio_exceeds_gamma(model: str, n_actions: int) -> None:
    """All pairs of actions, and each action against all others; rows with zeros, and with all mass in one half, too."""
    rng = np.random.default_rng(n_actions)
    rows = rng.dirichlet(np.full(n_actions, 0.5), 200)
    rows[100:] *= rng.random((100, n_actions)) < 0.5
    rows = np.vstack([rows[rows.sum(axis=1) > 0], np.eye(n_actions)])
    rows /= rows.sum(axis=1, keepdims=True)
    for gamma in (1.2, 3.0, 1e5):
        low, high = tilted(rows, MODELS[model], gamma)
        np.testing.assert_array_equal((low > 0) & (high > 0), rows > 0)
        np.testing.assert_allclose((low + high) / 2, rows, atol=1e-15)
        for one, other in ((high, low),) if model == "rosenbaum" else ((high, rows), (rows, low)):
            ratio = np.divide(one, other, out=np.ones_like(rows), where=rows > 0)
            assert (ratio.max(axis=1) / ratio.min(axis=1)).max() <= gamma * (1 + 1e-8)
            rest = [np.stack([np.delete(p, a, axis=1).sum(axis=1) for a in range(n_actions)], axis=1) for p in (one, other)]
            single = np.divide(rest[1], rest[0], out=np.ones_like(rows), where=rest[0] > 1e-12) * ratio
            assert single.max() <= gamma * (1 + 1e-8)


def ignorable(view: View, truth: np.ndarray) -> bool:
    """Rubin's missing at random: a record is as likely from every state that agrees with what it shows."""
    channel, shown = view.channel.toarray(), view.features
    codes = truth.min(axis=0) - 1
    for record, row in enumerate(shown):
        seen = row != codes
        agree = (truth[:, seen] == row[seen]).all(axis=1)
        if np.ptp(channel[agree, record]) > 1e-12:
            return False
    return True


def test_what_is_missing_at_random() -> None:
    simulator = SepsisSimulator()
    process, truth, vitals = cohort(), np.array(CELLS), ("y",)
    for wrapped in (process | MCAR(0.3, NAMES), process | MAR(0.3, vitals, ("x",)), process | ThinnedVisits(0.3, NAMES)):
        assert ignorable(wrapped.view(), truth)
    assert ignorable((process | MCAR(0.3, ("x",)) | MAR(0.3, vitals, ("x",))).view(), truth)
    assert not ignorable((process | MAR(0.3, vitals, ("x",)) | MCAR(0.3, ("x",))).view(), truth)
    assert not ignorable((process | MNAR(0.3, vitals)).view(), truth)
    for wrapper, holds in ((MAR(0.3, ("glucose", "oxygen")), True), (MNAR(0.3, ("glucose",)), False)):
        assert ignorable((simulator | wrapper).view(), simulator.mdp.state_features) is holds


@names
def test_a_shorter_window_shows_the_beginning_of_a_longer_one(name: str) -> None:
    """The last record is drawn once: that of a window is the one that a longer window has at that step."""
    build, _ = STACKS[name]
    process = build(cohort(reward_noise=0.5))
    policy = crl.TabularPolicy(np.random.default_rng(0).dirichlet(np.full(A, 3.0), 5))
    whole, short = process.sample(400, policy, None, seed=3), process.sample(400, policy, 2, seed=3)
    np.testing.assert_array_equal(short.lengths, np.minimum(whole.lengths, 2))
    kept = np.arange(len(whole.rewards)) - np.repeat(whole.offsets[:-1], whole.lengths) < 2
    for field_ in ("observations", "actions", "rewards"):
        np.testing.assert_array_equal(getattr(short, field_), getattr(whole, field_)[kept])
    longer = whole.lengths > 2
    np.testing.assert_array_equal(short.final_observations[longer], whole.observations[whole.offsets[:-1][longer] + 2])
    np.testing.assert_array_equal(short.final_observations[~longer], whole.final_observations[~longer])
    np.testing.assert_array_equal(short.end[~longer & (whole.lengths < 2)], whole.end[~longer & (whole.lengths < 2)])
    assert (short.end[short.lengths == 2] != End.CENSORED).all()


def test_another_population_has_the_start_that_it_says_and_the_same_data() -> None:
    process, target = cohort(), np.random.default_rng(1).dirichlet(np.ones(A), (H, 3))
    shifted = process | CovariateShift(0.7, "x") | HideVariables("x") | CovariateShift(-0.2, "y")
    tilt = START * np.exp([0.7 * x - 0.2 * y for x, y in CELLS])
    where = {1.0: 0, 2.0: 1, 3.0: 2}
    truth = exact_value(PLAIN, tilt / tilt.sum(), lambda t, record: target[t, where[dict(record)["y"]]])
    assert shifted.value(crl.TabularPolicy(target), H, DISCOUNT) == pytest.approx(truth, abs=1e-12)
    logger = crl.TabularPolicy(np.random.default_rng(2).dirichlet(np.ones(A), 5))
    data = [one.sample(200, logger, H, seed=1) for one in (shifted, process | HideVariables("x"))]
    assert data[0].fingerprint == data[1].fingerprint


@pytest.mark.parametrize("horizon", [H, None])
def test_a_value_moves_only_where_the_target_sees_or_treats_another(horizon: int | None) -> None:
    process, by_x = cohort(), np.random.default_rng(3).dirichlet(np.ones(A), 2)
    value = process.value(crl.TabularPolicy(by_x[[0, 0, 1, 1, 1]]), horizon, DISCOUNT)
    for wrapper in (Confounded(3.0), Hospitals(3, 1.0), Censored(0.3)):
        assert (process | wrapper).value(crl.TabularPolicy(by_x[[0, 0, 1, 1, 1]]), horizon, DISCOUNT) == value
    y = ("y",)
    for wrapper in (
        HideVariables("y"),
        MCAR(0.3, y),
        MAR(0.4, y, ("x",)),
        MNAR(0.5, y),
        MeasurementError(0.2, y),
        ThinnedVisits(0.3, y),
    ):
        wrapped = process | wrapper
        blind = crl.TabularPolicy(by_x[wrapped.view().where("x").astype(int)])
        assert wrapped.value(blind, horizon, DISCOUNT) == pytest.approx(value, abs=1e-13)
