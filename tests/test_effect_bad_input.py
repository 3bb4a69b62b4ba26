"""Bad input through every public effect call: a typed error that says what to mend, or a finite result; nothing in between."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

import causalrl as crl
from causalrl.errors import CausalRLError, CausalRLWarning, DataError, EstimandError, SeparationError, SupportError

matplotlib.use("Agg")
pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")

NUISANCES: dict[str, Any] = {"outcome": crl.PerAction(LinearRegression()), "propensity": crl.Logit()}


def made(name: str, *arguments: str, **given: Any) -> Callable[[], Any] | None:
    """A recipe of a public class, where causalrl has it, with those of the nuisances that are named."""
    if not hasattr(crl, name):
        return None
    chosen = {keyword: NUISANCES[nuisance] for keyword, nuisance in (pair.split("=") for pair in arguments)}
    return lambda: getattr(crl, name)(**chosen, **given)


def weighted_by(name: str) -> Callable[[], Any] | None:
    """IPW with weights of a public class."""
    if not hasattr(crl, name) or "weights" not in inspect.signature(crl.IPW).parameters:
        return None
    return lambda: crl.IPW(weights=getattr(crl, name)())


RECIPES = {
    "IPW": made("IPW"),
    "Horvitz-Thompson": made("IPW", normalized=False),
    "IPW, folds": made("IPW", folds=3),
    "AIPW": made("AIPW", "outcome=outcome", "propensity=propensity"),
    "AIPW, folds": made("AIPW", "outcome=outcome", "propensity=propensity", folds=3),
    "GFormula": made("GFormula", "outcome=outcome"),
    "SLearner": made("SLearner", regressor=LinearRegression()),
    "TLearner": made("TLearner", regressor=LinearRegression()),
    "TMLE": made("TMLE", "q=outcome", "behavior=propensity"),
    "PLR": made("PLR", "propensity=propensity", outcome=LinearRegression()),
    "DRLearner": made("DRLearner", "outcome=outcome", "propensity=propensity", effect=LinearRegression()),
    "RLearner": made("RLearner", "propensity=propensity", outcome=LinearRegression(), effect=LinearRegression()),
    "XLearner": made("XLearner", "outcome=outcome", "propensity=propensity", effect=LinearRegression()),
    "EntropyBalancing": weighted_by("EntropyBalancing"),
    "CBPS": weighted_by("CBPS"),
}
CALLS = {name: recipe for name, recipe in RECIPES.items() if recipe is not None}
CATE_ONLY = ("DRLearner", "RLearner", "XLearner")
GOALS = {"ATE": crl.ATE(), "ATT": crl.ATT(), "ATC": crl.ATC(), "ATO": crl.ATO()}


def goals(name: str, data: crl.Trajectories) -> list[Any]:
    if name in CATE_ONLY:
        return [crl.CATE(at=data.observations[:3])]
    return list(GOALS.values())


def covariates(n: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 2))


def study(x: np.ndarray | None = None, treatment: Any = None, outcome: np.ndarray | None = None) -> crl.Trajectories:
    rng = np.random.default_rng(1)
    x = covariates() if x is None else x
    taken = (rng.random(len(x)) < 0.5).astype(int) if treatment is None else np.asarray(treatment)
    y = x[:, 0] + taken + rng.normal(size=len(x)) if outcome is None else outcome
    return crl.Trajectories.from_cross_section(x, taken, y, feature_names=[f"age{j}" for j in range(x.shape[1])])


def without_arm_0() -> crl.Trajectories:
    """Arms 1 and 2 through the general constructor; that of cross-sections refuses them."""
    return crl.Trajectories.from_arrays(X, 1 + np.arange(60) % 2, X[:, 0], np.arange(61))


def one_treated(n: int = 60) -> crl.Trajectories:
    return study(covariates(n), np.arange(n) == n // 2)


X = covariates()
HARD = {
    "an arm of one unit, empty in the other folds": one_treated,
    "perfect separation": lambda: study(X, (X[:, 0] > 0).astype(int)),
    "separation on a binary column": lambda: study(np.column_stack([X[:, 0], np.arange(60) % 2]), np.arange(60) % 2),
    "constant outcome": lambda: study(outcome=np.full(60, 3.0)),
    "constant outcome 0": lambda: study(outcome=np.zeros(60)),
    "collinear covariates": lambda: study(np.column_stack([X, X @ [1.0, 2.0]])),
    "duplicated columns": lambda: study(np.column_stack([X, X])),
    "a constant column": lambda: study(np.column_stack([X, np.ones(60)])),
    "only a constant column": lambda: study(np.ones((60, 1))),
    "more columns than rows": lambda: study(np.random.default_rng(3).normal(size=(60, 80))),
    "arms 1 and 2 of three": lambda: without_arm_0(),
    "two rows": lambda: study(X[:2], [0, 1]),
    "three rows": lambda: study(X[:3], [0, 1, 1]),
    "covariates of 1e12": lambda: study(X * 1e12, outcome=X[:, 1]),
    "covariates of 1e-12": lambda: study(X * 1e-12, outcome=X[:, 1]),
    "covariates of very different scales": lambda: study(X * np.array([1e12, 1e-12]), outcome=X[:, 1]),
    "a covariate far from 0": lambda: study(X + np.array([1e9, 0.0]), outcome=X[:, 1]),
    "outcomes of 1e12": lambda: study(outcome=X[:, 0] * 1e12),
    "outcomes of 1e-12": lambda: study(outcome=X[:, 0] * 1e-12),
    "outcomes of 1e100": lambda: study(outcome=X[:, 0] * 1e100),
}


def told(error: CausalRLError) -> None:
    """The text names a field or an arm, and is long enough for a mend."""
    assert ": " in str(error) or str(error).startswith("arm ")
    assert len(str(error)) > 40


def finite(estimate: crl.Estimate) -> None:
    """Value, and where there is an interval by default its limits, are numbers."""
    assert np.isfinite(estimate.value).all()
    try:
        low, high = estimate.interval()
    except crl.errors.IntervalError as error:
        told(error)
        return
    assert np.isfinite(low).all()
    assert np.isfinite(high).all()
    assert np.isfinite(estimate.stderr).all()
    estimate.to_frame()
    estimate.summary()


@pytest.mark.parametrize("case", HARD)
@pytest.mark.parametrize("name", CALLS)
def test_a_hard_study_gives_a_finite_effect_or_advice(name: str, case: str) -> None:
    data = HARD[case]()
    fitted = CALLS[name]().fit(data)
    for goal in goals(name, data):
        try:
            estimate = fitted.estimate(goal)
        except CausalRLError as error:
            told(error)
            continue
        finite(estimate)


@pytest.mark.parametrize("name", CALLS)
def test_columns_that_add_nothing_change_nothing(name: str) -> None:
    """A copy of a column, a constant or a sum spans no more than the columns do."""
    data = study()
    wide = study(np.column_stack([X, X[:, 0], np.ones(60), X @ [1.0, -1.0]]))
    recipe = CALLS[name]()
    if name in CATE_ONLY:
        pair = [recipe.estimate(one, crl.CATE(at=one.observations[:3])).value for one in (data, wide)]
    else:
        pair = [recipe.estimate(one, crl.ATE()).value for one in (data, wide)]
    np.testing.assert_allclose(*pair, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in CATE_ONLY])
@pytest.mark.parametrize("scale", [1e12, 1e-12])
def test_the_units_of_measurement_do_not_matter(name: str, scale: float) -> None:
    recipe = CALLS[name]()
    plain = study(outcome=X[:, 1] + np.arange(60) % 3)
    expected = recipe.estimate(plain, crl.ATE()).value
    covariates_scaled = study(X * scale, outcome=X[:, 1] + np.arange(60) % 3)
    np.testing.assert_allclose(recipe.estimate(covariates_scaled, crl.ATE()).value, expected, rtol=1e-6)
    outcomes_scaled = study(outcome=(X[:, 1] + np.arange(60) % 3) * scale)
    np.testing.assert_allclose(recipe.estimate(outcomes_scaled, crl.ATE()).value, expected * scale, rtol=1e-6)


def test_perfect_separation_names_the_column() -> None:
    data = study(X, (X[:, 1] > 0).astype(int))
    for name in ("IPW", "Horvitz-Thompson", "AIPW"):
        with pytest.raises(SeparationError, match="age1 separates the actions perfectly"):
            CALLS[name]().estimate(data, crl.ATE())


@pytest.mark.parametrize("name", [name for name in CALLS if name not in (*CATE_ONLY, "PLR")])  # PLR refuses three actions
def test_an_arm_that_nobody_took_is_named_and_the_others_compare(name: str) -> None:
    data = without_arm_0()
    with pytest.raises(EstimandError, match=r"arm 0 never occurs.*\[1, 2\]"):
        CALLS[name]().estimate(data, crl.ATE())
    finite(CALLS[name]().estimate(data, crl.ATE(treated=2, control=1)))


def test_an_arm_that_a_fold_lacks_is_told() -> None:
    """One treated unit: the folds that do not hold it out learn, its own cannot."""
    for name in ("IPW, folds", "AIPW, folds"):
        with pytest.raises((DataError, SupportError), match=r"folds|two|probability 0"):
            CALLS[name]().estimate(one_treated(), crl.ATE())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"treatment": ["quit", "smoked"] * 30}, ("treatment", "'quit'", "encode")),
        ({"treatment": 1 + np.arange(60) % 2}, ("treatment", "1 to 2", "treatment - 1")),
        ({"treatment": np.zeros(60, int)}, ("treatment", "at least two arms")),
        ({"treatment": np.arange(60) % 2 + 0.5}, ("actions", "expected integers")),
        ({"treatment": np.where(np.arange(60) % 2 == 0, -1, 1)}, ("actions", "outside")),
        (
            {"treatment": np.arange(60) % 2 == 1, "outcome": np.where(np.arange(60) == 7, np.nan, 1.0)},
            ("rewards", "row 7", "mpute"),
        ),
        ({"outcome": ["1"] * 60}, ("rewards", "not numeric")),
        ({"outcome": np.ones(59)}, ("outcome", "59 rows")),
        ({"X": np.where(np.arange(120).reshape(60, 2) == 31, np.nan, 1.0)}, ("row 15", "mpute")),
        ({"X": np.full((60, 2), np.inf)}, ("row 0", "mpute")),
        ({"X": [["a", "b"]] * 60}, ("X", "text", "ncode")),
        ({"X": np.full((60, 2), 1e150)}, ("observations", "unit")),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else None,
)
def test_what_is_no_study_is_refused_at_the_door(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    given: dict[str, Any] = {"X": X, "treatment": np.arange(60) % 2, "outcome": X[:, 0]} | changes
    with pytest.raises(DataError) as caught:
        crl.Trajectories.from_cross_section(**given)
    assert not [word for word in words if word not in str(caught.value)], str(caught.value)


def test_missing_covariates_are_named() -> None:
    table = pd.DataFrame({"age": X[:, 0], "weight": np.where(np.arange(60) == 4, np.nan, X[:, 1])})
    with pytest.raises(DataError, match="weight") as caught:
        crl.Trajectories.from_cross_section(table, np.arange(60) % 2, X[:, 0])
    assert "mpute" in str(caught.value)


@pytest.mark.parametrize("case", HARD)
def test_a_checkup_never_fails_and_has_no_missing_figure(case: str) -> None:
    data = HARD[case]()
    with warnings.catch_warnings():
        warnings.simplefilter("error", CausalRLWarning)  # a checkup reports; it does not warn as well
        checkup = crl.check(data)
    frame = checkup.to_frame()
    assert not frame["value"].isna().any(), frame[frame["value"].isna()]
    assert str(checkup)
    assert checkup._repr_html_()
