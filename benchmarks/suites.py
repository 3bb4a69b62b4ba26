"""The problems of the main benchmark, as frozen records: simulators of known truth, and a study with published answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import causalrl as crl
from causalrl.inference.base import IntervalMethod
from simulators import ICUSepsis, SepsisSimulator, Simulator

HORIZON = 20
RECOMPUTED = "recomputed"
Columns = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Target:
    """A policy to be valued.

    Attributes:
        name: in tables and figures. text: what exactly the policy is.
    """

    name: str
    text: str
    policy: crl.Policy


@dataclass(frozen=True, eq=False)
class Problem:
    """A simulator, who generated the data, and whom to value.

    Attributes:
        name: in tables, figures and rows. text: what exactly the behaviour policy is.
        returns: the smallest and the largest possible return.
    """

    name: str
    text: str
    simulator: Simulator
    behavior: crl.Policy
    targets: tuple[Target, ...]
    returns: tuple[float, float]


@dataclass(frozen=True, eq=False)
class SimulatedSuite:
    """Estimators judged on problems of known truth, at discount 1.

    Attributes:
        estimators: by name. n: trajectories in a data set. replications: data sets of a problem.
    """

    problems: tuple[Problem, ...]
    estimators: Mapping[str, crl.Estimator]
    n: int = 1000
    horizon: int = HORIZON
    replications: int = 40


@dataclass(frozen=True)
class Published:
    """A number from the literature.

    Attributes:
        value, low, high: with its 95% interval, where one was printed (else NaN).
        source: chapter, or RECOMPUTED where the book's models were fitted independently, in statsmodels.
    """

    value: float
    source: str
    low: float = np.nan
    high: float = np.nan


@dataclass(frozen=True, eq=False)
class Method:
    """An estimator of an average treatment effect, and what it should give.

    Attributes:
        published: None where no value was printed for this method.
        interval: None is the estimator's default interval, where it has one.
    """

    name: str
    estimator: crl.Estimator
    published: Published | None = None
    interval: IntervalMethod | None = None


@dataclass(frozen=True, eq=False)
class StudySuite:
    """Estimators of one effect in one study.

    Attributes:
        load: gives the data. unit: of the outcome.
    """

    name: str
    load: Callable[[], crl.Trajectories]
    methods: tuple[Method, ...]
    unit: str


def estimators() -> dict[str, crl.Estimator]:
    """Every registered estimator with its default nuisances, and the doubly robust ones without cross-fitting."""
    registered = {kind.__name__: kind() for kind in crl.ALL}
    return {**registered, "DR, 1 fold": crl.DR(folds=1), "WDR, 1 fold": crl.WDR(folds=1)}


def simulated() -> SimulatedSuite:
    """Sepsis under a careful and a careless physician, and ICU-Sepsis."""
    return SimulatedSuite((sepsis(0.05), sepsis(0.3), icu_sepsis()), estimators())


def sepsis(epsilon: float) -> Problem:
    """The sepsis simulator v2, its data from the paper's physician at this epsilon."""
    simulator = SepsisSimulator("v2")
    behavior, text = simulator.physician(epsilon), f"physician(epsilon={epsilon})"
    targets = (
        Target("behaviour", text, behavior),
        Target("softened", "physician(epsilon=0.15)", simulator.physician(0.15)),
        _optimal(simulator),
        Target("never treat", "Always(0)", crl.Always(0)),
    )
    return Problem(f"Sepsis v2, epsilon {epsilon}", text, simulator, behavior, targets, returns=(-1.0, 1.0))


def icu_sepsis() -> Problem:
    """ICU-Sepsis, its data from the clinicians' estimated policy softened by 0.1."""
    simulator = ICUSepsis()
    behavior, text = crl.Softened(simulator.expert(), 0.1), "Softened(expert, 0.1)"
    optimal = _optimal(simulator)
    targets = (
        Target("behaviour", text, behavior),
        Target("softened", "0.75 behaviour + 0.25 optimal", crl.Mixture([behavior, optimal.policy], [0.75, 0.25])),
        optimal,
        Target("never treat", "Always(0)", crl.Always(0)),
    )
    return Problem("ICU-Sepsis", text, simulator, behavior, targets, returns=(0.0, 1.0))


def _optimal(simulator: Simulator) -> Target:
    policy = simulator.optimal_policy(discount=1.0, horizon=HORIZON)
    return Target("optimal", f"best for {HORIZON} steps, by time", policy)


NHEFS_FORMULA = (
    "sex + race + C(education) + C(exercise) + C(active) + age + I(age**2) + smokeintensity + I(smokeintensity**2)"
    " + smokeyrs + I(smokeyrs**2) + wt71 + I(wt71**2)"
)
"""The covariates of Hernan & Robins, chapters 12 to 15, as their propensity model has them."""


def book_columns(x: Columns) -> Columns:
    """(n, 18) the same terms for an outcome model, then (n, 1) the treatment where x (n, 9 or 10) has one."""
    sex, race, education, exercise, active, *continuous = x.T[:9]
    factors = [education == level for level in (2, 3, 4, 5)]
    factors += [code == level for code in (exercise, active) for level in (1, 2)]
    return np.column_stack([sex, race, *factors, *continuous, *(c**2 for c in continuous), x[:, 9:]])


def book_columns_with_product(x: Columns) -> Columns:
    """The same, and treatment times smokeintensity."""
    return np.column_stack([book_columns(x), x[:, 9] * x[:, 6]])


def nhefs() -> StudySuite:
    """Does quitting smoking change weight? Values printed in or recomputed from Hernan & Robins, *What If*."""
    propensity = crl.Logit(NHEFS_FORMULA)
    additive, product = crl.Pooled(_least_squares(book_columns)), crl.Pooled(_least_squares(book_columns_with_product))
    by_arm, refit = crl.PerAction(_least_squares(book_columns)), crl.RefitBootstrap(200)
    constant = crl.KnownPropensity(crl.Uniform(2))
    aipw = Published(3.4572843, RECOMPUTED)
    methods = (
        Method("unadjusted difference", crl.IPW(constant), Published(2.540581, "ch. 12.1", 1.656, 3.425)),
        Method("IPW (Hajek)", crl.IPW(propensity), Published(3.440535, "ch. 12.2", 2.4106, 4.4705)),
        Method("IPW (Horvitz-Thompson)", crl.IPW(propensity, normalized=False), Published(3.4240123, RECOMPUTED)),
        Method("g-formula, additive", crl.GFormula(additive), Published(3.4626218, "ch. 13.3", 2.551, 4.409), refit),
        Method("g-formula, qsmk x smokeintensity", crl.GFormula(product), Published(3.5173742, "ch. 13.3", 2.581, 4.489), refit),
        Method("T-learner, least squares", crl.GFormula(by_arm), None, refit),
        Method("LinearQ, the book's columns", crl.GFormula(crl.LinearQ(book_columns))),
        Method("S-learner, random forest", crl.SLearner(_forest())),
        Method("T-learner, random forest", crl.TLearner(_forest())),
        Method("AIPW, qsmk x smokeintensity", crl.AIPW(product, propensity), aipw),
        Method("AIPW, one regression an arm", crl.AIPW(crl.LinearQ(book_columns), propensity)),
        Method("WDR, qsmk x smokeintensity", crl.WDR(q=product, behavior=propensity)),
        Method("AIPW, random forest, 5 folds", crl.AIPW(crl.PerAction(_forest()), propensity)),
    )
    return StudySuite("NHEFS", crl.datasets.nhefs, methods, "kg")


def _least_squares(columns: Callable[[Columns], Columns]) -> Any:
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(FunctionTransformer(columns), LinearRegression())


def _forest() -> Any:
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(min_samples_leaf=10)
