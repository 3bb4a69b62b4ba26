"""Bad input of simulators is refused by an error that names the field; what they return and take is nobody else's memory."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from fractions import Fraction
from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

import causalrl as crl
import simulators
from causalrl.errors import CausalRLError, DataError, EstimandError, PolicyError
from simulators import (
    ALL,
    IHDP,
    MAR,
    MCAR,
    MNAR,
    BinaryInstrument,
    Censored,
    Chain,
    Cliff,
    CobsGraph,
    CobsGridworld,
    Confounded,
    CovariateShift,
    FactorWise,
    Gridworld,
    GumbelMax,
    HideVariables,
    Hospitals,
    Hybrid,
    ICUSepsis,
    KangSchafer,
    Kennedy,
    Kunzel,
    MeasurementError,
    ModelFail,
    ModelWin,
    NieWager,
    Point,
    ReturnDistribution,
    SepsisSimulator,
    StructuralModel,
    TabularMDP,
    ThinnedVisits,
    ToyMountainCar,
    TumourSimulator,
    WorstConfounder,
)

Call = Callable[[Any], Any]

NAN, INF = float("nan"), float("inf")
BELOW = [[0.3, 0.3, 0.2, 0.2], [0.1, 0.5, 0.2, 0.2]]
TRANSITIONS = np.array([BELOW, BELOW[::-1], [[0.2, 0.2, 0.2, 0.4]] * 2, [[0.0, 0.0, 0.0, 1.0]] * 2])
FEATURES = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [2.0, 1.0]])
OVER = np.arange(4) == 3


def clinic(**labels: Any) -> TabularMDP:
    """Three live states and an end, two actions, two named features."""
    start = [0.5, 0.3, 0.2, 0.0]
    return TabularMDP(
        TRANSITIONS, [0.0, -1.0, 0.5, 1.0], start, OVER, state_features=FEATURES, feature_names=["x", "y"], **labels
    )


CLINIC, EVEN, LONGER = clinic(), crl.Uniform(2), 4
MODEL, DATA = CLINIC.scm(GumbelMax()), CLINIC.sample(6, EVEN, LONGER)
HIDDEN = CLINIC | HideVariables("y") | Confounded(2.0)
SEPSIS, ICU, TUMOUR = SepsisSimulator(), ICUSepsis(), TumourSimulator()
PHYSICIAN = SEPSIS.physician(0.3)
DESIGNS = (Point(), KangSchafer(), NieWager(), Kunzel(), Kennedy(), BinaryInstrument(), IHDP(), WorstConfounder(2.0))

# ------------------------------------------------------------------------------------------------- numbers and names out of range

NOT_WHOLE = (1.0, 2.5, np.float64(3), "3", NAN, INF, [3], np.array(3), 1j, True)
NO_COUNT, NO_STEPS = (0, -1, None, 2**40, 10**30, *NOT_WHOLE), (0, -1, 10**7, 10**30, *NOT_WHOLE)
NO_SEED = (-1, None, np.random.default_rng(0), *NOT_WHOLE)
OUTSIDE = (-0.1, 1.0 + 1e-12, 2, NAN, INF, -INF)
NO_NUMBER = (*OUTSIDE, "a", "0.5", None, [0.5], (0.5,), np.array([0.5]), np.array([0.1, 0.2]), 1j, {})
NO_KNOB = (*NO_NUMBER, True)
NO_NAME = ("nothing", "Full", "", 3, True, b"full", ("full",), ["full"], np.array(["full", "x"]))

BY_HORIZON: dict[str, Call] = {
    "value": lambda h: CLINIC.value(EVEN, h),
    "q": lambda h: CLINIC.q(EVEN, h),
    "occupancy": lambda h: CLINIC.occupancy(EVEN, h),
    "sample": lambda h: CLINIC.sample(3, EVEN, h),
    "optimal_policy": lambda h: CLINIC.optimal_policy(0.9, h),
    "record": lambda h: HIDDEN.sample(3, EVEN, h),
    "counterfactual": lambda h: MODEL.counterfactual(DATA, EVEN, horizon=h),
    "tumour": lambda h: TUMOUR.sample(3, None, h),
    "tumour value": lambda h: TUMOUR.value(crl.Always(0), h, n=2),
}
FINITE_ONLY: dict[str, Call] = {
    "variance": lambda h: CLINIC.variance(EVEN, h),
    "return_distribution": lambda h: CLINIC.return_distribution(EVEN, h),
    "efficiency_bound": lambda h: CLINIC.efficiency_bound(EVEN, EVEN, h),
    "marginal_policy": lambda h: HIDDEN.marginal_policy(EVEN, h),  # type: ignore[attr-defined]
    "apparent_value": lambda h: HIDDEN.apparent_value(EVEN, EVEN, h),  # type: ignore[attr-defined]
    "treatment_effect": lambda h: SEPSIS.treatment_effect("antibiotic", 0, PHYSICIAN, h),
    "structural sample": lambda h: MODEL.sample(3, EVEN, h),
}
BY_DISCOUNT: dict[str, Call] = {
    "value": lambda g: CLINIC.value(EVEN, 3, g),
    "endless value": lambda g: CLINIC.value(EVEN, None, g),
    "q": lambda g: CLINIC.q(EVEN, 3, g),
    "occupancy": lambda g: CLINIC.occupancy(EVEN, 3, g),
    "variance": lambda g: CLINIC.variance(EVEN, 3, g),
    "return_distribution": lambda g: CLINIC.return_distribution(EVEN, 3, g),
    "efficiency_bound": lambda g: CLINIC.efficiency_bound(EVEN, EVEN, 3, g),
    "optimal_policy": lambda g: CLINIC.optimal_policy(g),
    "apparent_value": lambda g: HIDDEN.apparent_value(EVEN, EVEN, 3, g),  # type: ignore[attr-defined]
    "treatment_effect": lambda g: SEPSIS.treatment_effect("antibiotic", 0, PHYSICIAN, 3, g),
    "physician": lambda g: SEPSIS.physician(0.3, g),
    "CobsGridworld": lambda g: CobsGridworld(discount=g),
    "tumour": lambda g: TUMOUR.value(crl.Always(0), 3, g, n=2),
}
BY_COUNT: dict[str, Call] = {
    "n": lambda n: CLINIC.sample(n, EVEN, 3),
    "n of a record": lambda n: HIDDEN.sample(n, EVEN, 3),
    "n of a model": lambda n: MODEL.sample(n, EVEN, 3),
    "n of a tumour": lambda n: TUMOUR.sample(n, None, 2),
    "n of patients": lambda n: TUMOUR.patients(n),
    "n of a value": lambda n: TUMOUR.value(crl.Always(0), 2, n=n),
    **{f"n of {type(design).__name__}": design.sample for design in DESIGNS},
    "samples": lambda n: MODEL.counterfactual(DATA, EVEN, samples=n),
    "count": lambda n: Hospitals(n, 1.0),
    "p": Point,
    "d": lambda d: NieWager("A", d),
}
BY_SEED: dict[str, Call] = {
    "seed": lambda s: CLINIC.sample(3, EVEN, 3, s),
    "seed of a record": lambda s: HIDDEN.sample(3, EVEN, 3, s),
    "seed of a model": lambda s: MODEL.sample(3, EVEN, 3, s),
    "seed of a counterfactual": lambda s: MODEL.counterfactual(DATA, EVEN, seed=s),
    "seed of hospitals": lambda s: Hospitals(3, 1.0, s),
    "seed of a target": lambda s: SEPSIS.tang_wiens_target(3, s),
    "seed of a tumour": lambda s: TUMOUR.sample(3, None, 2, s),
    "seed of patients": lambda s: TUMOUR.patients(3, s),
    "seed of a value": lambda s: TUMOUR.value(crl.Always(0), 2, n=2, seed=s),
    "seed of volumes": lambda s: TUMOUR.volumes(TUMOUR.patients(3), [0], s),
    **{f"seed of {type(design).__name__}": lambda s, design=design: design.sample(747, s) for design in DESIGNS},
    "draw": lambda s: Kunzel(1, s),
    "draw of IHDP": lambda s: IHDP("A", s),
    "k": SEPSIS.tang_wiens_target,
}
BY_VIEW: dict[str, Call] = {
    "value": lambda v: CLINIC.value(EVEN, 3, sees=v),
    "q": lambda v: CLINIC.q(EVEN, 3, sees=v),
    "occupancy": lambda v: CLINIC.occupancy(EVEN, 3, sees=v),
    "variance": lambda v: CLINIC.variance(EVEN, 3, sees=v),
    "return_distribution": lambda v: CLINIC.return_distribution(EVEN, 3, sees=v),
    "sees": lambda v: CLINIC.sample(3, EVEN, 3, sees=v),
    "record": lambda v: CLINIC.sample(3, EVEN, 3, record=v),
    "sees, behind a wrapper": lambda v: HIDDEN.sample(3, EVEN, 3, sees=v),
    "record, behind a wrapper": lambda v: HIDDEN.sample(3, EVEN, 3, record=v),
    "treatment_effect": lambda v: SEPSIS.treatment_effect("antibiotic", 0, PHYSICIAN, 3, sees=v),
    "counterfactual": lambda v: MODEL.counterfactual(DATA, EVEN, sees=v),
    "structural sample": lambda v: MODEL.sample(3, EVEN, 3, sees=v),
}
NAMES = ("ab", ("a", "a"), ("a",), ("a", 0), 3, None)
CORRUPTIONS = (MCAR, MAR, MNAR, MeasurementError, ThinnedVisits)
COINS = (ModelFail, ModelWin, Cliff, Chain, CobsGraph, CobsGridworld, ToyMountainCar)
KNOBS: list[tuple[type[CausalRLError], str, Call, tuple[Any, ...]]] = [
    *((DataError, "rate", kind, NO_KNOB) for kind in CORRUPTIONS),
    (DataError, "gamma", Confounded, (0.9, 1e7, 10**400, NAN, INF, "2", None, [2.0], (2.0,), np.array([2.0]), 1j, True)),
    (DataError, "spread", lambda x: Hospitals(3, x), (11, -0.1, NAN, INF, "a", None, [1.0], 1j, True)),
    (DataError, "strength", lambda x: CovariateShift(x, "x"), (1e7, 1e308, NAN, INF, -INF, "a", None, [1.0], 1j, True)),
    (DataError, "hazard", Censored, (*OUTSIDE, 1, "a", None, True, ["a"], [], [0.1, 0.2], [[0.1], [0.1, 0.2]])),
    (DataError, "hazard", lambda x: CLINIC | Censored(x), (np.full((3, 3), 0.1), np.full((4, 1), 0.1))),
    (DataError, "model", lambda x: Confounded(2.0, x), ("tan", None, 3, True, "", ["rosenbaum"])),
    (
        DataError,
        "steps",
        lambda x: Confounded(2.0, steps=x),
        (0, 2.0, np.int64(0), (-1,), (1.5,), (10**10,), "1", (None,), (True,), ((1,),)),
    ),
    (DataError, "variables", lambda x: CLINIC | MCAR(0.1, x), ("x", 0, (), ("age",), (0,), (None,), ("x", "age"), ("x", "x"))),
    (DataError, "given", lambda x: MAR(0.1, ("x",), x), ("y", 0, None, (0,), ("y", "y"))),
    (DataError, "variables", lambda x: CLINIC | CovariateShift(1.0, x), ("age", None, 0, ("x",), ["x"])),
    (DataError, "variables", lambda x: CLINIC | HideVariables(x), ("age", "X", None, 0, ("x", "y"), b"x", ["x"])),
    (DataError, "version", SepsisSimulator, (2, "V2", None, ["v2"], True, np.array(["v2", "x"]))),
    (DataError, "start", lambda x: SepsisSimulator(start=x), ("icu", None, ["uniform"])),
    (DataError, "reward_on", lambda x: SepsisSimulator(reward_on=x), ("death", None, 1)),
    (DataError, "inadmissible", ICUSepsis, ("raise", None, ["mean"], True, np.array(["mean", "x"]))),
    (PolicyError, "epsilon", SEPSIS.physician, NO_KNOB),
    (PolicyError, "share", lambda x: SEPSIS.biased("antibiotic", x), (-1.1, 1.1, NAN, INF, "0.5", None, [0.5], True)),
    (
        PolicyError,
        "share",
        lambda x: SEPSIS.flipped("antibiotic", x),
        (*OUTSIDE, [], np.full(3, 0.1), np.full((1440, 1), 0.1)),
    ),
    (EstimandError, "bit", lambda x: SEPSIS.biased(x, 0.5), ("diabetes", "Antibiotic", None, 1, ["antibiotic"])),
    (EstimandError, "bit", lambda x: SEPSIS.flipped(x, 0.5), ("diabetes", None, 4)),
    (EstimandError, "bit", lambda x: SEPSIS.treatment_effect(x, 0, PHYSICIAN, 3), ("glucose", None, 2)),
    (EstimandError, "time", lambda x: SEPSIS.treatment_effect("antibiotic", x, PHYSICIAN, 3), (-1, 3, None, *NOT_WHOLE)),
    *((PolicyError, "p_target", lambda x, kind=kind: kind(p_target=x), NO_NUMBER) for kind in COINS),
    *((PolicyError, "p", kind().policy, NO_NUMBER) for kind in COINS),
    (PolicyError, "p_behavior", lambda x: Gridworld(p_behavior=x), (-1, NAN, INF, "a", None, [1.0])),
    (DataError, "goal_reward", lambda x: Gridworld(goal_reward=x), (NAN, INF, -INF, "1", None, [1.0])),
    *((DataError, "slip", lambda x, kind=kind: kind(slip=x), NO_NUMBER) for kind in (Cliff, CobsGraph, CobsGridworld)),
    (DataError, "reward_noise", lambda x: CobsGraph(reward_noise=x), (-1, NAN, INF, "a", None, [1.0])),
    (DataError, "reward_noise", lambda x: clinic(reward_noise=x), (-1, 1e300, NAN, INF, "1", None, [1.0], True)),
    (DataError, "rewards", lambda x: TabularMDP([[[1.0]]], [x], [1.0]), (1e101, -1e308, NAN, INF)),
    (DataError, "feature_names", lambda x: TabularMDP([[[1.0]]], [0.0], [1.0], state_features=[[0, 1]], feature_names=x), NAMES),
    (DataError, "state_names", lambda x: TabularMDP([[[1.0]]], [0.0], [1.0], state_names=x), ("a", 3, None, (0,))),
    (DataError, "groups", lambda x: CobsGraph(groups=x), (1, 8, 2.0, "2", [2], NAN)),
    (DataError, "simulation", Kunzel, (4, "1", None, [1], True)),
    (DataError, "setup", NieWager, ("a", "E", 0, None, ["A"])),
    (DataError, "surface", IHDP, ("a", "C", 0, None, ["A"])),
    (DataError, "sigma", lambda x: NieWager("A", 6, x), (-1, NAN, INF, "1", None, [1.0])),
    (DataError, "always_takers", BinaryInstrument, (-0.1, 1.1, NAN, INF, "a", None)),
    (DataError, "never_takers", lambda x: BinaryInstrument(0.1, x), (-0.1, 0.9, 1, NAN, "a", None)),
    (DataError, "confounding", lambda x: BinaryInstrument(confounding=x), (NAN, INF, -INF, "a", None)),
    (DataError, "gamma", TumourSimulator, (-1, 10**400, NAN, INF, "2", None, [2.0], np.array([2.0]), 1j)),
    (DataError, "type_observed", lambda x: TumourSimulator(1.0, x), (1, 0, "yes", None, [True])),
    (
        DataError,
        "propensities",
        lambda x: CLINIC.sample(3, EVEN, 3, propensities=x),
        ("all", True, ["oracle"], np.array(["oracle", "x"])),
    ),
    (EstimandError, "model", lambda x: CLINIC.efficiency_bound(EVEN, EVEN, 3, model=x), ("dm", None, 3, "Markov", ["markov"])),
    (DataError, "p", CLINIC.return_distribution(EVEN, 2).quantile, (*OUTSIDE, None, "a", [0.5, 2.0], [[0.1], [0.1, 0.2]])),
    (DataError, "alpha", CLINIC.return_distribution(EVEN, 2).cvar, (0.0, *NO_KNOB)),
    (DataError, "values", lambda x: ReturnDistribution(x, [0.5, 0.5]), ([1.0, 1.0], [2.0, 1.0], [[1.0, 2.0]], [0.0, NAN], None)),
    (DataError, "probabilities", lambda x: ReturnDistribution([1.0, 2.0], x), ([0.5, 0.9], [-0.5, 1.5], [1.0], [NAN, 1.0], None)),
]

DOORS: list[tuple[type[CausalRLError], str, Call, tuple[Any, ...]]] = [
    *((EstimandError, "horizon", call, NO_STEPS) for call in BY_HORIZON.values()),
    *((EstimandError, "horizon", call, (None, *NO_STEPS)) for call in FINITE_ONLY.values()),
    *((EstimandError, "discount", call, NO_KNOB) for call in BY_DISCOUNT.values()),
    *((DataError, name.split()[0], call, NO_COUNT) for name, call in BY_COUNT.items()),
    *((DataError, name.split()[0], call, NO_SEED) for name, call in BY_SEED.items()),
    *((EstimandError, "record" if name.startswith("record") else "sees", call, NO_NAME) for name, call in BY_VIEW.items()),
    *KNOBS,
]


@pytest.mark.parametrize(("error", "field", "call", "values"), DOORS, ids=[f"{i}-{door[1]}" for i, door in enumerate(DOORS)])
def test_a_bad_value_is_refused_by_name(error: type[CausalRLError], field: str, call: Call, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(CausalRLError) as caught:
            call(value)
        text = str(caught.value)
        assert caught.type in (error, DataError), value  # what is no array of numbers at all is a DataError everywhere
        assert text.startswith(f"{field}: "), (value, text)
        if isinstance(value, str | int | float | None) and not isinstance(value, bool) and "not numeric" not in text:
            assert repr(value) in text or str(value) in text or str(float(value)) in text


@pytest.mark.parametrize("simulator", [CLINIC, Point(), KangSchafer(), TUMOUR], ids=lambda s: type(s).__name__)
def test_a_giant_seed_is_as_good_as_any(simulator: Any) -> None:
    """Seeds are hashed: no two of these agree."""
    given = {"policy": EVEN, "horizon": 5} if simulator is CLINIC else {}
    seeds = (0, 1, 2**63 - 1, 2**63, 2**64, 2**64 + 1, 10**40)
    prints = [simulator.sample(50, seed=seed, **given).fingerprint for seed in seeds]
    assert len(set(prints)) == len(prints)


# ------------------------------------------------------------------------------------------ policies that are none, or do not fit


def flat(rows: int, columns: int) -> np.ndarray:
    return np.full((rows, columns), 1 / columns)


def returning(make: Callable[[int], Any]) -> crl.policies.PolicyFunction:
    """A policy function that returns make(M) for M observations."""
    return lambda observations, time: make(len(observations))


BAD_POLICIES: dict[str, tuple[Any, str]] = {
    "nothing": (None, "None is no policy"),
    "a number": (3, "3 is no policy"),
    "text": ("uniform", "'uniform' is no policy"),
    "rows": ([[0.5, 0.5]] * 4, "is no policy"),
    "an array": (flat(4, 2), "is no policy; pass one of causalrl's, or a function"),
    "a mapping": ({0: 1}, "is no policy"),
    "a simulator": (CLINIC, "is no policy"),
    "another action": (crl.Always(2), "actions 0 to 1"),
    "more actions": (crl.Uniform(3), "expected"),
    "fewer actions": (crl.Uniform(1), "expected"),
    "a table of more actions": (crl.TabularPolicy(flat(4, 3)), "3 actions"),
    "a table of more states": (crl.TabularPolicy(flat(9, 2)), "its table has 9 states"),
    "a mixture of such": (crl.Mixture([crl.TabularPolicy(flat(9, 2)), EVEN], [0.5, 0.5]), "its table has 9 states"),
    "the behaviour": (crl.NaturalCourse(), "behaviour policy"),
    "a tilt of the behaviour": (crl.TiltedPropensity(2.0), "behaviour policy"),
    "softened behaviour": (crl.Softened(crl.NaturalCourse(), 0.1), "behaviour policy"),
    "returns nothing": (returning(lambda m: None), "shape ()"),
    "returns text": (returning(lambda m: "ab"), "is not numeric"),
    "returns ragged rows": (returning(lambda m: [[1.0], [0.5, 0.5]]), "is not numeric"),
    "returns one row": (returning(lambda m: [0.5, 0.5]), "one row an observation"),
    "returns more actions": (returning(lambda m: flat(m, 3)), "one column an action"),
    "returns nan": (returning(lambda m: flat(m, 2) * NAN), "row 0 is [nan nan]; every entry must be finite"),
    "returns logits": (returning(lambda m: np.tile([-1.0, 2.0], (m, 1))), "Pass probabilities, not logits"),
    "returns more than one": (returning(lambda m: flat(m, 2) * 1.2), "row 0 sums to 1.2, not 1"),
}
BY_POLICY: dict[str, Call] = {
    "value": lambda p: CLINIC.value(p, LONGER),
    "q": lambda p: CLINIC.q(p, LONGER),
    "occupancy": lambda p: CLINIC.occupancy(p, LONGER),
    "variance": lambda p: CLINIC.variance(p, LONGER),
    "return_distribution": lambda p: CLINIC.return_distribution(p, LONGER),
    "sample": lambda p: CLINIC.sample(3, p, LONGER),
    "bound, target": lambda p: CLINIC.efficiency_bound(p, EVEN, LONGER),
    "bound, behaviour": lambda p: CLINIC.efficiency_bound(EVEN, p, LONGER),
    "structural sample": lambda p: MODEL.sample(3, p, LONGER),
    "counterfactual": lambda p: MODEL.counterfactual(DATA, p, horizon=LONGER),
    "value of the record": lambda p: HIDDEN.value(p, LONGER),
    "sample of the record": lambda p: HIDDEN.sample(3, p, LONGER),
    "by the record": lambda p: (CLINIC | MCAR(0.2, ("y",))).sample(3, p, LONGER, sees="record"),
    "marginal_policy": lambda p: HIDDEN.marginal_policy(p, LONGER),  # type: ignore[attr-defined]
    "apparent_value, target": lambda p: HIDDEN.apparent_value(p, EVEN, LONGER),  # type: ignore[attr-defined]
    "apparent_value, behaviour": lambda p: HIDDEN.apparent_value(EVEN, p, LONGER),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("name", BAD_POLICIES)
def test_a_bad_policy_is_refused_everywhere(name: str) -> None:
    policy, text = BAD_POLICIES[name]
    for call in BY_POLICY.values():
        with pytest.raises(PolicyError) as caught:
            call(policy)
        assert text in str(caught.value)


@pytest.mark.parametrize("name", BY_POLICY)
def test_a_table_too_short_for_the_horizon_is_refused(name: str) -> None:
    short = crl.TabularPolicy(np.full((LONGER - 1, HIDDEN.view().n_records if "record" in name else 4, 2), 0.5))
    with pytest.raises(PolicyError):
        BY_POLICY[name](short)


@pytest.mark.parametrize(
    "name", [name for name, (policy, _) in BAD_POLICIES.items() if "table" not in name and "mixture" not in name]
)
def test_a_bad_policy_of_tumours_and_designs_is_refused(name: str) -> None:
    policy, _ = BAD_POLICIES[name]
    for design in DESIGNS:
        with pytest.raises((PolicyError, EstimandError)):
            design.value(policy)
    if policy is not None and "behaviour" not in name and name != "another action":  # the clinicians are one of its policies
        for call in (lambda p: TUMOUR.sample(3, p, 2), lambda p: TUMOUR.value(p, 2, n=2)):
            with pytest.raises(PolicyError):
                call(policy)


def test_a_policy_of_another_simulator_is_refused() -> None:
    leaving = SepsisSimulator(reward_on="leaving")
    for simulator, policy in (
        (SEPSIS, leaving.physician()),
        (leaving, PHYSICIAN),
        (ICU, PHYSICIAN),
        (SEPSIS, ICU.expert()),
        (SEPSIS, TUMOUR.assignment()),
        (ModelFail(), ModelWin().target()),
        (CobsGraph(groups=3), CobsGraph().target()),
    ):
        with pytest.raises(PolicyError, match=r"states|TumourSimulator"):
            simulator.value(policy, 3)
    with pytest.raises(PolicyError, match="takes integer states"):
        TUMOUR.value(PHYSICIAN, 3, n=2)


# ----------------------------------------------------------------------------------------------------------- arrays that are none


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"transitions": None}, "transitions: None"),
        ({"transitions": [["a", "b"]]}, "transitions: not numeric"),
        ({"transitions": [[[1.0], [0.5, 0.5]]]}, "transitions: its rows differ in length"),
        ({"transitions": TRANSITIONS.astype("M8[s]")}, "transitions: holds times"),
        ({"transitions": np.ma.masked_less(TRANSITIONS, 0.15)}, "transitions: some entries are masked"),
        ({"transitions": (row for row in TRANSITIONS)}, "transitions: "),
        ({"transitions": TRANSITIONS[:, :0]}, "transitions: shape (4, 0, 4), expected (S, A, S)"),
        ({"transitions": TRANSITIONS.swapaxes(1, 2)}, "transitions: shape (4, 4, 2), expected (S, A, S)"),
        (
            {"transitions": TRANSITIONS * [[[1 + 2e-6]], [[1.0]], [[1.0]], [[1.0]]]},
            "transitions: the row of state 0, action 0 sums to 1.000002, not 1",
        ),
        ({"rewards": 1.0}, "rewards: 1.0 is a single value"),
        ({"rewards": [0.0, NAN, 0.0, 0.0]}, "rewards: row 1 is nan"),
        ({"rewards": np.zeros((4, 3))}, "rewards: shape (4, 3); pass (4,) on arrival, (4, 2) of a decision or (4, 2, 4)"),
        ({"initial": None}, "initial: None"),
        ({"initial": [[1.0, 0.0, 0.0, 0.0]]}, "initial: shape (1, 4), expected (4,)"),
        ({"initial": [2.0, -1.0, 0.0, 0.0]}, "initial: row 0"),
        ({"initial": [NAN, 1.0, 0.0, 0.0]}, "initial: row 0"),
        ({"terminal": [3]}, "terminal: int64 of shape (1,); pass flags"),
        ({"terminal": "last"}, "terminal: 'last' is a single value"),
        ({"terminal": [[True], [True, False]]}, "terminal: its rows differ in length"),
        ({"transitions": TRANSITIONS + 5j}, "transitions: complex numbers"),
        ({"forbidden": np.arange(8).reshape(4, 2) >= 6}, "forbidden: state 3 has no action left"),
        ({"terminal": np.ones(4, bool)}, "initial: terminal state 0 has probability 0.5"),
        ({"state_features": [1.0, 2.0]}, "state_features: shape (2,)"),
        ({"state_features": [["a"]] * 4}, "state_features: not numeric"),
        ({"state_features": FEATURES * NAN}, "state_features: row 0"),
        ({"feature_names": ["x"], "state_features": FEATURES}, "feature_names: 1 names for 2"),
        ({"feature_names": ["x"]}, "feature_names: 1 names for 0"),
        ({"forbidden": [1, 0]}, "forbidden: int64 of shape (2,); pass flags, True or False, of shape (4, 2)"),
    ],
)
def test_arrays_of_a_process_that_do_not_fit(changed: dict[str, Any], text: str) -> None:
    arrays = {"transitions": TRANSITIONS, "rewards": np.zeros(4), "initial": [0.5, 0.3, 0.2, 0.0], "terminal": OVER}
    with pytest.raises(DataError) as caught:
        TabularMDP(**{**arrays, **changed})
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"indptr": []}, "indptr: 0 entries for 2 states"),
        ({"indptr": [0, 2]}, "indptr: 2 entries for 2 states; pass S * A + 1"),
        ({"indptr": [1, 1, 2]}, "indptr: 3 entries"),
        ({"indptr": [0, 3, 2]}, "indptr: 3 entries"),
        ({"indptr": [0, 1.5, 2]}, "indptr: row 1 is 1.5"),
        ({"indptr": [0, NAN, 2]}, "indptr: row 1 is nan"),
        ({"indptr": [0, 1, 2**62]}, "successors: shape (2,), but indptr ends at"),
        ({"successors": [1.5, 1]}, "successors: row 0 is 1.5"),
        ({"successors": [-1, 1]}, "successors: state 0, action 0 leads to -1"),
        ({"successors": ["a", "b"]}, "successors: not numeric"),
        ({"probabilities": [NAN, 1.0]}, "transitions: state 0, action 0 has probability nan"),
        ({"probabilities": [0.0, 1.0]}, "transitions: the row of state 0, action 0 sums to 0"),
        ({"rewards": [1.0]}, "rewards: shape (1,), but indptr ends at 2"),
    ],
)
def test_sparse_arrays_that_do_not_fit(changed: dict[str, Any], text: str) -> None:
    arrays = {"indptr": [0, 1, 2], "successors": [1, 1], "probabilities": [1.0, 1.0], "rewards": [3.0, 0.0]}
    with pytest.raises(DataError) as caught:
        TabularMDP.from_sparse(**{**arrays, **changed}, initial=[1, 0], terminal=[False, True])
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("design", DESIGNS, ids=repr)
def test_rows_that_a_design_does_not_record(design: simulators.Design) -> None:
    width = len(design.feature_names)
    answers = [getattr(design, name) for name in ("outcome_means", "effect", "propensity", "outcome_sd") if hasattr(design, name)]
    for X, text in (
        (None, "X: None is a single value"),
        ("a", "X: 'a' is a single value"),
        (np.zeros(width), f"X: shape ({width},), expected two dimensions"),
        (np.zeros((1, 3, width)), "X: shape"),
        (np.zeros((3, width + 1)), f"X: {width + 1} columns, the record has {width}; pass {design.feature_names[0]}"),
        ([["a"] * width], "X: not numeric"),
        (np.full((2, width), None), "X: row 0"),
        (np.where(np.arange(3) == 2, NAN, 0.0)[:, None] * np.ones(width), "X: row 2"),
        (np.full((2, width), INF), "X: row 0"),
    ):
        for answer in answers:
            with pytest.raises(DataError) as caught:
                answer(X)
            assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    "actions",
    [
        None,
        1,
        [],
        np.zeros((5, 0)),
        np.zeros((4, 2)),
        np.zeros((1, 5, 2)),
        [[0], [0, 1]],
        [-1],
        [4],
        [1.5],
        [NAN],
        ["a"],
        [None, 1],
    ],
)
def test_actions_that_are_no_treatment_plan(actions: Any) -> None:
    with pytest.raises(DataError, match=r"^actions: "):
        TUMOUR.volumes(TUMOUR.patients(5), actions)


OTHERS: dict[str, tuple[Callable[[], crl.Trajectories], str]] = {
    "fewer variables": (lambda: SEPSIS.sample(5, PHYSICIAN, 3, record="projected", sees="full"), "has 144 states"),
    "hidden variables": (lambda: (SEPSIS | HideVariables("diabetes")).sample(5, PHYSICIAN, 3), "has 720 states"),
    "missing values": (lambda: (SEPSIS | MCAR(0.2)).sample(5, PHYSICIAN, 3), "the process 1440 states"),
    "sinks": (lambda: SepsisSimulator(reward_on="leaving").sample(5, crl.Uniform(8), 3), "has 1442 states"),
    "the other version": (lambda: SepsisSimulator("v1").sample(300, crl.Uniform(8), 5), "which has probability 0 in the process"),
    "another hospital": (lambda: ICU.sample(5, crl.Uniform(25), 3), "has 716 states"),
    "a study": (lambda: Point().sample(20), "vectors of 10 columns"),
    "tumours": (lambda: TUMOUR.sample(5, None, 2), "vectors of 6 columns"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_counterfactuals_of_records_of_another_process_are_refused(name: str) -> None:
    records, text = OTHERS[name]
    with pytest.raises(DataError) as caught:
        SEPSIS.scm(GumbelMax()).counterfactual(records(), crl.Uniform(8))
    assert str(caught.value).startswith("observations: ")
    assert text in str(caught.value)


# ------------------------------------------------------------------------------------ objects of another kind, misspelt arguments


@pytest.mark.parametrize(
    "thing",
    [None, Point(), TUMOUR, MODEL, DATA, SepsisSimulator, Censored(0.1), EVEN, TRANSITIONS],
    ids=lambda thing: type(thing).__name__,
)
def test_only_tabular_simulators_are_wrapped(thing: Any) -> None:
    for wrapper in (Censored(0.1), Censored(0.0), HideVariables(), Confounded(2.0)):
        with pytest.raises(TypeError, match="unsupported operand"):
            thing | wrapper


def test_only_wrappers_are_put_around_simulators() -> None:
    for thing in (None, "Censored", Censored, CLINIC, EVEN, GumbelMax(), (Censored(0.1),)):
        with pytest.raises(TypeError, match="unsupported operand"):
            CLINIC | thing


@pytest.mark.parametrize("noise", [None, "gumbel", GumbelMax, FactorWise, 3, Censored(0.1)])
def test_only_noise_drives_a_structural_model(noise: Any) -> None:
    with pytest.raises(EstimandError, match=r"^noise: .* pass GumbelMax\(\) or FactorWise\(\)"):
        CLINIC.scm(noise)


@pytest.mark.parametrize("simulator", [None, SepsisSimulator, TUMOUR, Point(), TRANSITIONS], ids=lambda s: type(s).__name__)
def test_only_tabular_simulators_have_structural_models(simulator: Any) -> None:
    with pytest.raises(EstimandError, match=r"^simulator: "):
        StructuralModel(simulator, GumbelMax())


WRAPPERS = (HideVariables, Confounded, Censored, Hospitals, CovariateShift, *CORRUPTIONS)
MISSPELT: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    *((kind, ()) for kind in (*ALL, *WRAPPERS, GumbelMax, FactorWise)),
    (clinic, ()),
    *((getattr(CLINIC, name), (EVEN, 3)) for name in ("value", "q", "occupancy", "variance", "return_distribution")),
    *((getattr(simulator, "sample"), (3, EVEN, 3)) for simulator in (CLINIC, HIDDEN, MODEL)),  # noqa: B009
    (CLINIC.efficiency_bound, (EVEN, EVEN, 3)),
    (CLINIC.optimal_policy, (0.9,)),
    (CLINIC.scm, (GumbelMax(),)),
    (MODEL.counterfactual, (DATA, EVEN)),
    (SEPSIS.physician, ()),
    (SEPSIS.treatment_effect, ("antibiotic", 0, EVEN, 3)),
    (TUMOUR.sample, (3,)),
    (TUMOUR.value, (EVEN,)),
    *((design.sample, (747,)) for design in DESIGNS),
    *((design.value, (EVEN,)) for design in DESIGNS),
]


@pytest.mark.parametrize(
    ("call", "arguments"), MISSPELT, ids=[f"{i}-{call.__qualname__}" for i, (call, _) in enumerate(MISSPELT)]
)
def test_a_misspelt_argument_is_refused(call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError, match="'discuont'"):
        call(*arguments, discuont=0.9)


@pytest.mark.parametrize("policy", [crl.Uniform, crl.TabularPolicy, object])
def test_a_class_is_no_policy(policy: Any) -> None:
    for call in BY_POLICY.values():
        with pytest.raises(PolicyError, match=r"^policy: <class .* is no policy"):
            call(policy)


@pytest.mark.parametrize("data", [None, EVEN, CLINIC, TRANSITIONS], ids=lambda data: type(data).__name__)
def test_only_records_have_counterfactuals(data: Any) -> None:
    with pytest.raises(DataError, match=r"^data: "):
        MODEL.counterfactual(data, EVEN)


@pytest.mark.parametrize("shape", [(2, 0), (0, 2), (0, 2, 2), (2,), (1, 2, 2, 2)])
def test_a_table_of_nothing_is_no_policy(shape: tuple[int, ...]) -> None:
    with pytest.raises(PolicyError, match=r"TabularPolicy: table has shape \("):
        crl.TabularPolicy(np.full(shape, 0.5))


def test_a_table_that_is_too_short_names_the_horizon() -> None:
    with pytest.raises(PolicyError, match=r"time 2 .* which has 2; pass probabilities for every time, or a shorter horizon"):
        CLINIC.value(crl.TabularPolicy(np.full((2, 4, 2), 0.5)), 3)


# ------------------------------------------------------------------------------------------------------ numbers at the very edge


def leak(chance: float) -> TabularMDP:
    """A live state that pays 1 and ends with a chance."""
    return TabularMDP([[[1 - chance, chance]], [[0.0, 1.0]]], [1.0, 0.0], [1, 0], [False, True])


@pytest.mark.parametrize("most", [0, 4000], ids=["sparse", "dense"])
def test_a_process_that_practically_never_ends_has_no_total(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.mdp.planning.DENSE_STATES", most)
    alone = crl.Always(0)
    for chance in (1e-17, 1e-11):  # 1 - 1e-17 is 1: the equations are singular
        for call in (leak(chance).value, leak(chance).q, leak(chance).occupancy, lambda p, c=chance: leak(c).sample(1, p)):
            with pytest.raises(EstimandError, match=r"^horizon: the process practically never ends; pass horizon=H"):
                call(alone)
        assert leak(chance).value(alone, 3) == pytest.approx(3)


def test_a_trajectory_that_takes_too_long_is_refused_before_it_starts() -> None:
    alone = crl.Always(0)
    for process in (leak(1e-8), leak(1e-8) | Censored(0.5)):
        with pytest.raises(EstimandError, match=r"has 1e\+08 steps on average, more than 10000000; pass horizon=H"):
            process.sample(1, alone)
        assert process.sample(1, alone, 3).n == 1
    assert leak(1e-8).value(alone) == pytest.approx(1e8, rel=1e-7)
    assert leak(1e-3).sample(100, alone).lengths.mean() == pytest.approx(1000, rel=0.4)  # 4 standard deviations


def test_rows_within_the_tolerance_are_divided_by_their_sum() -> None:
    """Else the chance to go on would be above 1, and every sum over time infinite or negative."""
    off = TabularMDP([[[1 + 5e-7, 1e-7]], [[0, 1]]], [1.0, 0], [1 + 5e-7, 0], [False, True])
    assert off.mdp.initial.sum() == 1
    assert off.value(crl.Always(0)) == pytest.approx((1 + 6e-7) / 1e-7 - 1, rel=1e-6)
    loop = TabularMDP([[[1, 0], [0, 1]], [[0, 1], [0, 1]]], [1.0, 0], [1, 0], [False, True])
    assert loop.value(crl.TabularPolicy([[1 + 5e-7, 1e-7], [1, 0]])) == pytest.approx((1 + 5e-7) / 1e-7, rel=1e-6)
    exact = np.array([[[0.1, 0.2, 0.7]], [[1 / 3, 1 / 3, 1 / 3]], [[0.0, 0.0, 1.0]]])
    np.testing.assert_array_equal(TabularMDP(exact, np.zeros(3), [0.7, 0.3, 0]).dynamics.matrix.toarray(), exact[:, 0])


def test_the_largest_rewards_are_finite_everywhere() -> None:
    rich = TabularMDP([[[0.5, 0.5]], [[0.5, 0.5]]], [1e100, -1e100], [1, 0], reward_noise=1e100)
    alone = crl.Always(0)
    answers = [
        rich.value(alone, 1000),
        rich.variance(alone, 1000),
        rich.efficiency_bound(alone, alone, 1000),
        *rich.q(alone, 9).flat,
    ]
    assert np.isfinite([*answers, *rich.sample(5, alone, 50).rewards]).all()


def test_too_many_records_are_refused_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.views.MOST_RECORDS", 1000)
    names = [f"v{i}" for i in range(24)]
    process = TabularMDP(
        [[[0.5, 0.5]], [[0.0, 1.0]]], [0.0, 1.0], [1, 0], OVER[2:], state_features=np.eye(2)[:, [0] * 24], feature_names=names
    )
    for kind in (MCAR, MeasurementError):
        with pytest.raises(DataError, match=r"variables: \d{4} records that differ in v0, .*, v23, more than 1000"):
            process | kind(0.1, tuple(names))
    assert (process | ThinnedVisits(0.1, tuple(names))).view().n_records == 3


@pytest.mark.parametrize(("discount", "horizon"), [(1.0, None), (0.9, None), (0.0, None), (1.0, 1), (0.9, 4)])
def test_no_plan_takes_a_forbidden_action(discount: float, horizon: int | None) -> None:
    """The best allowed policy, found among all deterministic ones."""
    rng = np.random.default_rng(3)
    for _ in range(5):
        forbidden = np.where(rng.random((4, 1)) < 0.5, rng.permuted([[True, False]] * 4, axis=1), False)
        process = clinic(forbidden=forbidden)
        best = process.optimal_policy(discount, horizon)
        assert not (best.table * forbidden).any()
        if horizon is None:
            tables = (np.eye(2)[list(actions)] for actions in product((0, 1), repeat=4))
            values = [CLINIC.value(crl.TabularPolicy(t), None, discount) for t in tables if not (t * forbidden).any()]
            assert process.value(best, None, discount) == pytest.approx(max(values), abs=1e-12)
        else:
            assert process.value(best, horizon, discount) == pytest.approx(naive_best(forbidden, horizon, discount), abs=1e-12)


def naive_best(forbidden: np.ndarray, horizon: int, discount: float) -> float:
    """Backward induction over the allowed actions, state by state."""
    rewards, values = np.array([0.0, -1.0, 0.5, 1.0]), np.zeros(4)
    for _ in range(horizon):
        values = np.array(
            [
                max(TRANSITIONS[s, a] @ (rewards + discount * values) for a in (0, 1) if not forbidden[s, a]) if s < 3 else 0.0
                for s in range(4)
            ]
        )
    return float(np.array([0.5, 0.3, 0.2, 0.0]) @ values)


def test_a_never_ending_process_needs_a_horizon_everywhere() -> None:
    endless = TabularMDP(TRANSITIONS[:3, :, :3] / TRANSITIONS[:3, :, :3].sum(axis=2, keepdims=True), np.zeros(3), [1, 0, 0])
    wrapped, loop = endless | Censored(0.1), crl.Always(7)
    for call in (endless.value, endless.q, endless.occupancy, wrapped.value, lambda p: wrapped.sample(2, p)):
        with pytest.raises(EstimandError, match=r"^horizon: from state 0 the process never ends .* pass horizon=H"):
            call(EVEN)
    for ask in (SEPSIS.value, lambda p: SEPSIS.sample(2, p), lambda p: (SEPSIS | MCAR(0.1)).sample(2, p)):
        with pytest.raises(EstimandError, match=r"^horizon: from state \d+ the process never ends"):
            ask(loop)


# ---------------------------------------------------------------------------------------------------------- what is taken as well


def test_numpy_scalars_and_lists_are_as_good_as_numbers_and_tuples() -> None:
    exact = CLINIC.value(EVEN, 3, 0.5)
    for horizon in (np.int8(3), np.int64(3), np.uint16(3)):
        assert CLINIC.value(EVEN, horizon, np.float32(0.5)) == CLINIC.value(EVEN, horizon, Fraction(1, 2)) == exact
    assert CLINIC.variance(EVEN, 3, np.float32(0.9)) == CLINIC.variance(EVEN, 3, float(np.float32(0.9)))
    for rate in (np.float32(0.25), Fraction(1, 4), np.float64(0.25)):
        assert (MCAR(rate), Censored(rate), clinic(reward_noise=rate).reward_noise) == (MCAR(0.25), Censored(0.25), 0.25)
    twice = MCAR(0.2, (name for name in "y"))  # type: ignore[arg-type]
    assert (CLINIC | twice).view().n_records == (CLINIC | twice).view().n_records == (CLINIC | MCAR(0.2, ("y",))).view().n_records
    assert Censored(np.full((4, 2), 0.1)) == Censored([[0.1, 0.1]] * 4) != Censored(np.full((4, 2), 0.2))
    assert len({Censored(np.full((4, 2), 0.1)), Censored([[0.1, 0.1]] * 4), MCAR(0.1, ["y"]), MCAR(0.1, ("y",))}) == 2  # type: ignore[arg-type]
    same = CLINIC.sample(np.int8(5), EVEN, np.int32(3), np.uint64(9))
    assert same.fingerprint == CLINIC.sample(5, EVEN, 3, 9).fingerprint
    many = HIDDEN.sample(np.int8(5), EVEN, np.int32(3), np.uint64(9))
    assert many.fingerprint == HIDDEN.sample(5, EVEN, 3, 9).fingerprint
    for steps in ([0, 2], np.array([0, 2]), range(0, 3, 2), (step for step in (0, 2))):
        assert Confounded(2.0, steps=steps) == Confounded(2, steps=(0, 2))  # type: ignore[arg-type]
    for names in (["y"], np.array(["y"])):
        listed = (CLINIC | MCAR(0.2, names)).view()  # type: ignore[arg-type]
        np.testing.assert_array_equal(listed.channel.toarray(), (CLINIC | MCAR(0.2, ("y",))).view().channel.toarray())
    assert TUMOUR.sample(np.int16(3), None, np.int8(2), np.int64(4)).fingerprint == TUMOUR.sample(3, None, 2, 4).fingerprint
    assert Point(np.int8(3)).sample(np.int16(60), np.uint8(1)).fingerprint == Point(3).sample(60, 1).fingerprint  # type: ignore[arg-type]


@pytest.mark.parametrize("process", [CLINIC, HIDDEN, MODEL], ids=lambda p: type(p).__name__)
def test_the_smallest_and_the_largest(process: Any) -> None:
    one = process.sample(1, EVEN, 1, 2**63 - 1)
    assert (one.n, len(one.rewards)) == (1, 1)
    assert np.isfinite(one.rewards).all()


def test_a_process_of_one_state_and_one_action() -> None:
    alone, stay = TabularMDP([[[1.0]]], [2.0], [1.0]), crl.Always(0)
    assert alone.value(stay, 3) == 6.0
    assert alone.value(stay, None, 0.5) == 4.0
    assert alone.variance(stay, 3) == alone.efficiency_bound(stay, stay, 3) == 0.0
    assert alone.return_distribution(stay, 3).values.tolist() == [6.0]
    for process in (alone, alone | Confounded(3.0), alone | Hospitals(2, 1.0), alone.scm(GumbelMax())):
        assert process.sample(2, stay, 3).rewards.tolist() == [2.0] * 6  # type: ignore[attr-defined]


def test_wrappers_commute() -> None:
    """The logger, the loss to follow-up and the record are changed by different wrappers: their order does not matter."""
    around = (Confounded(2.0), Censored(0.2), Hospitals(3, 0.5), HideVariables("y"))
    prints, tables = set(), set()
    for order in permutations(around):
        process = CLINIC
        for wrapper in order:
            process = process | wrapper  # type: ignore[assignment]
        prints.add(process.sample(30, EVEN, LONGER, seed=5).fingerprint)
        tables.add(process.marginal_policy(EVEN, LONGER).table.round(12).tobytes())  # type: ignore[attr-defined]
    assert len(prints) == len(tables) == 1


# ------------------------------------------------------------------------------------------ no memory is shared, no order matters

CLIFF, GRAPH, HYBRID, KUNZEL, FEW = Cliff(), CobsGraph(groups=3), Hybrid(), Kunzel(), TUMOUR.patients(4)
SEEN = CLINIC | HideVariables("y") | Hospitals(2, 0.5)
RETURNED: dict[str, Callable[[], Any]] = {
    "q": lambda: CLINIC.q(EVEN, 3),
    "endless q": lambda: CLINIC.q(EVEN, None, 0.9),
    "occupancy": lambda: CLINIC.occupancy(EVEN, 3),
    "endless occupancy": lambda: CLINIC.occupancy(EVEN),
    "tables": lambda: SEPSIS.tables(PHYSICIAN, 3),
    "optimal_policy": lambda: CLINIC.optimal_policy(0.9).table,
    "physician": lambda: SepsisSimulator().physician(0.05).table,
    "biased by nothing": lambda: SEPSIS.biased("antibiotic", 0.0, PHYSICIAN).table,
    "flipped": lambda: SEPSIS.flipped("antibiotic", 0.1, PHYSICIAN).table,
    "tang_wiens_behavior": lambda: SEPSIS.tang_wiens_behavior().table,
    "tang_wiens_target": lambda: SEPSIS.tang_wiens_target(0).table,
    "distribution": lambda: CLINIC.return_distribution(EVEN, 3).probabilities,
    "marginal_policy": lambda: SEEN.marginal_policy(EVEN, 3).table,  # type: ignore[attr-defined]
    "expert": lambda: ICUSepsis().expert().table,
    "baselines": lambda: ICUSepsis().baselines()["expert"].table,
    "behavior": lambda: CLIFF.behavior().table,
    "target": lambda: GRAPH.target().table,
    "hybrid": lambda: HYBRID.target().table,
    "rewards": lambda: CLINIC.sample(20, EVEN, 3).rewards,
    "features of a record": lambda: SepsisSimulator().sample(2, PHYSICIAN, 2).state_features,
    "counterfactual": lambda: MODEL.counterfactual(DATA, EVEN).rewards,
    "volumes": lambda: TUMOUR.volumes(TUMOUR.patients(4), [0, 1, 3]),
    "patients": lambda: FEW.volume,
    "units": lambda: IHDP().units,
    "treatment": lambda: IHDP().treatment,
    "coefficients": lambda: KUNZEL.coefficients,
    "correlation": lambda: KUNZEL.correlation,
    **{f"arm means of {type(design).__name__}": lambda design=design: design.arm_means for design in DESIGNS},
}


@pytest.mark.parametrize("name", RETURNED)
def test_what_is_returned_can_be_overwritten(name: str) -> None:
    """Whoever writes into a returned array writes into that array alone, or is refused."""
    first = RETURNED[name]()
    kept = first.copy()
    if first.flags.writeable:
        first[...] = 7
    np.testing.assert_array_equal(RETURNED[name](), kept)


CACHED: dict[str, Callable[[], Any]] = {
    **{name: lambda name=name: getattr(SepsisSimulator().mdp, name) for name in ("initial", "terminal", "state_features")},
    **{
        name: lambda name=name: getattr(SepsisSimulator().mdp.dynamics, name)
        for name in ("indptr", "successors", "probabilities", "rewards", "mean_rewards", "cumulative")
    },
    **{f"matrix {name}": lambda name=name: getattr(CLINIC.dynamics.matrix, name) for name in ("data", "indices", "indptr")},
    "reward matrix": lambda: CLINIC.dynamics.reward_matrix.data,
    "forbidden": lambda: ICUSepsis("raise_exception").mdp.forbidden,
    "admissible": lambda: ICUSepsis().admissible,
    "features of a view": lambda: SepsisSimulator().view("observed").features,
    "codes of a view": lambda: SepsisSimulator().view("observed").codes,
    "channel of a view": lambda: SepsisSimulator().view("observed").channel.data,
    "table": lambda: PHYSICIAN.table,
    "hazard": lambda: (CLINIC | Censored(0.1)).hazard,  # type: ignore[attr-defined]
    "hazard of a wrapper": lambda: Censored(np.full((4, 2), 0.1)).hazard,
    "hospitals": lambda: (CLINIC | Hospitals(2, 1.0)).hospitals,  # type: ignore[attr-defined]
    "population": lambda: (CLINIC | CovariateShift(1.0, "x")).population,  # type: ignore[attr-defined]
    "start of a population": lambda: CLINIC.starting([1.0, 0.0, 0.0, 0.0]).initial,
    "copy": lambda: copy.deepcopy(CLINIC).dynamics.probabilities,
    "unpickled": lambda: pickle.loads(pickle.dumps(CLINIC)).terminal,
    "distribution": lambda: CLINIC.return_distribution(EVEN, 2).values,
    "continuing": lambda: CLINIC.continuing().terminal,
}


@pytest.mark.parametrize("name", CACHED)
def test_what_a_process_shares_is_read_only(name: str) -> None:
    with pytest.raises(ValueError, match="read-only"):
        CACHED[name]()[...] = 0


@pytest.mark.parametrize("process", [CLINIC, HIDDEN, SEPSIS, ICU, Cliff()], ids=lambda p: type(p).__name__)
def test_views_cannot_be_changed(process: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        process.views["another"] = process.view("full")
    with pytest.raises((TypeError, AttributeError)):
        process.views.pop("full")


@pytest.mark.parametrize("name", [name for name in BY_POLICY if "record" not in name])
def test_a_policy_cannot_write_into_what_it_sees(name: str) -> None:
    def wreck(observations: Any, time: Any) -> Any:
        observations[:] = 0
        return flat(len(observations), 2)

    with pytest.raises(ValueError, match="read-only"):
        BY_POLICY[name](wreck)


def test_a_treatment_effect_belongs_to_the_caller() -> None:
    kept = SEPSIS.treatment_effect("antibiotic", 0, PHYSICIAN, 2)
    SEPSIS.treatment_effect("antibiotic", 0, PHYSICIAN, 2).clear()
    assert SEPSIS.treatment_effect("antibiotic", 0, PHYSICIAN, 2) == kept


def test_what_is_given_can_be_overwritten() -> None:
    given = {"transitions": TRANSITIONS.copy(), "rewards": np.arange(4.0), "initial": np.array([0.5, 0.3, 0.2, 0.0])}
    labels = {"terminal": OVER.copy(), "state_features": FEATURES.copy(), "forbidden": np.zeros((4, 2), bool)}
    names, table, hazard = ["x", "y"], flat(4, 2), np.full((4, 2), 0.1)
    process, policy = TabularMDP(**given, **labels, feature_names=names), crl.TabularPolicy(table)  # type: ignore[arg-type]
    lossy = process | Censored(hazard)

    def answers() -> tuple[Any, ...]:
        data = lossy.sample(20, policy, LONGER)
        return process.value(policy, LONGER), process.view().feature_names, data.fingerprint, data.state_features.tolist()

    before = answers()
    for array in (*given.values(), *labels.values(), table, hazard):
        array[...] = array[::-1].copy()
        array[...] = 0
    names[0] = "z"
    assert answers() == before


def test_read_only_arrays_are_taken() -> None:
    """Nothing is computed in place in what the caller passes."""
    X = Point().sample(60).observations
    plan, start, table = np.array([0, 1, 3]), np.array([0.0, 0.5, 0.5, 0.0]), flat(4, 2)
    for array in (plan, start, table, X):
        array.flags.writeable = False
    assert TUMOUR.volumes(TUMOUR.patients(3), plan).shape == (3, 4)
    assert CLINIC.starting(start).value(crl.TabularPolicy(table), 2) == CLINIC.starting(start).value(EVEN, 2)
    assert CLINIC.sample(3, lambda observations, time: table[observations], 3).n == 3
    assert Point().effect(X).shape == (60,)


def questions(process: Any) -> dict[str, Callable[[], Any]]:
    """What can be asked of a simulator, each answer as an array."""
    if isinstance(process, simulators.Design):
        return {name: lambda name=name: getattr(process, name) for name in ("arm_means", "ate")} | {
            "sample": lambda: process.sample(747, 3).rewards,
            "value": lambda: process.value(crl.Always(1)),
        }
    if isinstance(process, TumourSimulator):
        return {
            "value": lambda: process.value(crl.Always(1), 3, n=20).value,
            "sample": lambda: process.sample(5, None, 3).rewards,
            "patients": lambda: process.patients(3).volume,
        }
    policy = crl.Uniform(process.n_actions)
    return {
        "value": lambda: process.value(policy, 3),
        "sample": lambda: process.sample(20, policy, 3).rewards,
        "full sample": lambda: process.sample(20, policy, 3, record="full", sees="full").observations,
        "q": lambda: process.q(policy, 3),
        "occupancy": lambda: process.occupancy(policy, 3),
        "optimal": lambda: process.optimal_policy(0.9, 3).table,
        "variance": lambda: process.variance(policy, 3),
    }


@pytest.mark.parametrize(
    "build",
    [
        clinic,
        lambda: (
            clinic() | HideVariables("x") | MNAR(0.3, ("y",)) | Confounded(2.0) | Hospitals(2, 1.0) | CovariateShift(1.0, "x")
        ),
        SepsisSimulator,
        lambda: CobsGraph(groups=3, reward_noise=1.0),
        CobsGridworld,
        lambda: Kunzel(3),
        lambda: IHDP("B"),
        TumourSimulator,
    ],
)
def test_answers_do_not_depend_on_the_order_of_the_questions(build: Callable[[], Any]) -> None:
    forwards = {name: ask() for name, ask in questions(build()).items()}
    backwards = {name: ask() for name, ask in reversed(questions(build()).items())}
    for name, answer in forwards.items():
        np.testing.assert_array_equal(answer, backwards[name], err_msg=name)


# ----------------------------------------------------------------------------------------------------------------- frozen objects

FROZEN = [
    *(kind() for kind in ALL),
    SepsisSimulator("v1", "uniform", "leaving"),
    ICUSepsis("terminate"),
    CobsGraph(groups=3),
    Kunzel(6, 2),
    IHDP("B", 3),
    Confounded(2.0, "marginal", (0, 3)),
    Hospitals(3, 0.5, 7),
    HideVariables("glucose", "oxygen"),
    Censored(0.1),
    MCAR(0.1, ["oxygen"]),  # type: ignore[arg-type]
    CovariateShift(-1.0, "glucose"),
    MAR(0.1, ("oxygen",)),
    GumbelMax(),
    FactorWise(),
    TUMOUR.assignment(),
    TUMOUR.value(crl.Always(0), 2, n=3),
]


@pytest.mark.parametrize("thing", FROZEN, ids=repr)
def test_settings_are_values(thing: Any) -> None:
    """Equal if their settings are; the text is what builds them, the copies are equal, and nothing can be set."""
    for twin in (copy.copy(thing), copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))):
        assert twin == thing
        assert (hash(twin), repr(twin)) == (hash(thing), repr(thing))
    if hasattr(simulators, type(thing).__name__):
        assert eval(repr(thing), vars(simulators)) == thing
    assert [other for other in FROZEN if other == thing] == [thing]
    assert "\n" not in repr(thing)
    for name in (*vars(thing), "discuont"):
        with pytest.raises(AttributeError):
            setattr(thing, name, 3)


@pytest.mark.parametrize(
    "process", [CLINIC, HIDDEN, SEPSIS | MCAR(0.1) | Censored(0.1), Cliff(), CobsGraph(groups=3)], ids=lambda p: type(p).__name__
)
def test_copies_of_processes_answer_alike(process: Any) -> None:
    policy = crl.Uniform(process.n_actions)
    answer = process.value(policy, 3), process.sample(10, policy, 3).fingerprint
    for twin in (copy.copy(process), copy.deepcopy(process), pickle.loads(pickle.dumps(process))):
        assert (twin.value(policy, 3), twin.sample(10, policy, 3).fingerprint) == answer
        assert repr(twin) == repr(process)


def test_the_text_of_a_wrapped_simulator_names_what_is_around_it() -> None:
    assert repr(SEPSIS | HideVariables("glucose") | Censored(0.1)) == (
        f"{SEPSIS!r} | HideVariables('glucose') | Censored(hazard=0.1)"
    )
    assert repr(SEPSIS | Censored(np.full((1440, 8), 0.1))) == f"{SEPSIS!r} | Censored(hazard=<1440 x 8 probabilities>)"
    assert repr(MODEL) == f"StructuralModel(simulator={CLINIC!r}, noise=GumbelMax())"


def test_a_distribution_of_returns_reads_its_levels_as_numbers_or_arrays() -> None:
    outcome = ReturnDistribution(np.array([-1.0, 2.0]), np.array([0.25, 0.75]))
    assert outcome.quantile([0.25, np.float32(0.5)]).tolist() == [-1.0, 2.0]  # type: ignore[union-attr]
    assert outcome.quantile(np.zeros((0, 2))).shape == (0, 2)  # type: ignore[union-attr]
    assert outcome.cvar(1) == outcome.mean
