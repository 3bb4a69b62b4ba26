"""Omitted-variable bias: of a regression coefficient (Cinelli & Hazlett 2020, JRSS B 82:39) and of effects with machine-learned
nuisances (Chernozhukov, Cinelli, Newey, Sharma & Syrgkanis 2022, "Long story short")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from causalrl.checks import number, whole_number
from causalrl.errors import SensitivityError
from causalrl.estimands import Estimand
from causalrl.estimators.base import Estimator, FittedEstimator
from causalrl.inference.base import check_level
from causalrl.nuisances.crossfit import Nuisances
from causalrl.sensitivity.base import SensitivityAnalysis, SensitivityModel
from causalrl.sensitivity.bias_bounds import BiasBounds, Movement, Strength
from causalrl.sensitivity.bias_routes import Route, route_of
from causalrl.sensitivity.effects import compared_arms

_ROUNDING = 1e-9
_COLUMNS = ("scenario", "r2_treatment", "r2_outcome", "low", "high", "interval_low", "interval_high")


@dataclass(frozen=True)
class Scenario:
    """A confounder of stated strength and what it leaves of the estimate.

    Attributes:
        name: of the row. strength: of the confounder. left: bounds and interval. remark: on how its strength came about.
    """

    name: str
    strength: Strength
    left: Movement
    remark: str = ""


@dataclass(frozen=True)
class OmittedVariable(SensitivityModel):
    """What an unrecorded confounder leaves of an effect, by its partial R2 with the treatment and with the outcome.

    The estimators that it takes: `SLearner(LinearRegression())`, which is ordinary least squares, with the exact bias
    stderr sqrt(df R2_outcome R2_treatment / (1 - R2_treatment)) and adjusted t intervals of Cinelli & Hazlett (2020);
    and `PLR(...)` and `AIPW(...)` with any learners, with the bounds of Chernozhukov et al. (2022), their
    debiased standard errors and the worst correlation. For AIPW the treatment's share is that of the variance of the weights
    1 / P(own arm | X), 1 - E alpha_recorded^2 / E alpha^2.

    The frame has one row a scenario. The robustness value is the R2, the same with treatment and outcome, that brings the
    estimate (or its interval) to `null`: RV_q with q = |estimate - null| / |estimate|. The extreme confounder explains all
    of the rest of the outcome. A benchmark is a confounder that is so many times as strong as a recorded covariate, given the
    other covariates: Cinelli & Hazlett (2020, section 4.4) for least squares; else the learners are fitted again without it, and
    its gains are multiplied.

    Args:
        benchmarks: names of columns of the covariates.
        times: how many times as strong as these, whole numbers from 1.
        strengths: pairs (R2 with the treatment, R2 with the outcome), each in [0, 1), of further scenarios.
        null: the value that would change the conclusion.
        level: of the intervals, two-sided.

    Raises:
        SensitivityError: for strengths outside [0, 1), and from the analysis for a benchmark that is no covariate.
        EstimandError: from the analysis, for other estimators and effects.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> from sklearn.linear_model import LinearRegression
        >>> x, noise = np.repeat([[0.0], [1.0], [2.0], [3.0]], 10, axis=0), np.tile([-0.5, 0.5, 0.0, 1.0, -1.0], 8)
        >>> arm = np.tile([0, 0, 1, 1, 0, 0, 1, 0, 1, 0], 4) ^ (x[:, 0] > 2)
        >>> study = crl.Trajectories.from_cross_section(x, arm, arm + 0.3 * x[:, 0] + noise, feature_names=["age"])
        >>> model = OmittedVariable(benchmarks=["age"], times=[1])
        >>> analysis = crl.sensitivity_analysis(crl.SLearner(LinearRegression()), study, crl.ATE(), model)
        >>> analysis.frame.iloc[:, :3].round(2)
                                scenario  r2_treatment  r2_outcome
        0                            none          0.00        0.00
        1                robustness value          0.66        0.66
        2  robustness value, 95% interval          0.54        0.54
        3              extreme confounder          0.56        1.00
        4                          1x age          0.02        0.21
    """

    benchmarks: Sequence[str] = ()
    times: Sequence[int] = (1, 2, 3)
    strengths: Sequence[tuple[float, float]] = ()
    null: float = 0.0
    level: float = 0.95

    def __post_init__(self) -> None:
        for name in ("benchmarks", "times", "strengths"):
            value = getattr(self, name)
            if isinstance(value, str) or not np.iterable(value):
                raise SensitivityError(f"{name}: {value!r} is no list; pass one, such as [{value!r}].")
            object.__setattr__(self, name, tuple(value))
        for count in self.times:
            whole_number("times", count, 1, SensitivityError)
        object.__setattr__(self, "strengths", tuple(map(_pair, self.strengths)))
        number("null", self.null, error=SensitivityError)
        check_level(self.level)

    def analyse(self, estimator: Estimator, nuisances: Nuisances, goal: Estimand) -> SensitivityAnalysis:
        import pandas as pd

        from causalrl.report.sensitivity_plots import contour_plot

        arms = compared_arms(self, nuisances, goal)
        route = route_of(self, estimator, nuisances, goal, arms)
        estimate = FittedEstimator(estimator, nuisances).estimate(goal)
        bounds = route.bounds()
        general, remarks = self._general(bounds), list(route.remarks)
        compared = [self._benchmark(name, bounds, route, remarks) for name in self.benchmarks]
        compared += [[self._scenario(f"({x:g}, {y:g})", bounds, Strength(x, y))] for x, y in self.strengths]
        rows = [*general, *chain.from_iterable(compared)]
        values = [(row.name, *astuple(row.strength), *astuple(row.left)) for row in rows]
        frame = pd.DataFrame(values, columns=list(_COLUMNS))
        read = chain.from_iterable(map(self._read, compared))
        findings = (*self._findings(route.share, bounds, general), *read, *remarks)
        drawing = partial(contour_plot, bounds=bounds, null=self.null, level=self.level)
        return SensitivityAnalysis(str(self), estimate, frame, findings, drawing)

    def _scenario(self, name: str, bounds: BiasBounds, strength: Strength, remark: str = "") -> Scenario:
        """Limits that reach the null do so exactly, whatever the last bits of the strength."""
        limits = astuple(bounds.moved(strength, self.level))
        left = Movement(*(self.null if abs(value - self.null) < _ROUNDING * bounds.scale else value for value in limits))
        return Scenario(name, strength, left, remark)

    def _general(self, bounds: BiasBounds) -> list[Scenario]:
        value = bounds.robustness_value(self.null)
        named = {
            "none": Strength(0.0, 0.0),
            "robustness value": Strength(value, value),
            f"robustness value, {self.level:.0%} interval": bounds.interval_strength(self.null, self.level),
            "extreme confounder": bounds.extreme_strength(self.null),
        }
        return [self._scenario(name, bounds, strength) for name, strength in named.items()]

    def _benchmark(self, name: str, bounds: BiasBounds, route: Route, remarks: list[str]) -> list[Scenario]:
        """The scenarios of a covariate; those that no confounder can reach go into the remarks."""
        names, scenarios = route.nuisances.data.feature_names, []
        if name not in names:
            known = ", ".join(names) or "unnamed states; pass covariates as columns"
            raise SensitivityError(f"benchmarks: {name!r} is no covariate of these data, which have {known}.")
        gain = route.gain(names.index(name))
        for count in self.times:
            shares = gain.times(count)
            if shares[0] >= 1:
                remarks.append(f"No confounder is {count} times as strong as {name}: it would explain more than all there is.")
                continue
            x, y = (float(np.clip(value, 0.0, 1.0)) for value in shares)
            remark = "" if (x, y) == shares else f" (R2 {shares[0]:.3g} and {shares[1]:.3g}, set to {x:.3g} and {y:.3g})"
            scenarios.append(self._scenario(f"{count}x {name}", bounds, Strength(x, y), remark))
        return scenarios

    def _findings(self, share: str, bounds: BiasBounds, general: list[Scenario]) -> list[str]:
        _, robust, robust_interval, extreme = general
        first = (
            f"An unrecorded confounder that explains {robust.strength.r2_treatment:.1%} {share}, given the recorded covariates, "
            f"and as much of the outcome's, would bring the estimate to {self.null:g}; one that explains less of both could not."
        )
        needed = robust_interval.strength
        if needed.r2_treatment == 0:
            second = f"The {self.level:.0%} interval holds {self.null:g} as it is."
        else:
            second = f"{needed.r2_treatment:.1%} would bring the {self.level:.0%} interval to {self.null:g}."
        third = f"One that explains all of the outcome's would need {extreme.strength.r2_treatment:.1%} {share}."
        return [first, second, third]

    def _read(self, scenarios: list[Scenario]) -> list[str]:
        """Sentences about one benchmark: the strongest confounder that could not, and the weakest that could."""
        ordered = sorted(scenarios, key=lambda scenario: scenario.strength.size)
        reach = [self._reach(scenario.left) for scenario in ordered]
        neither, interval, estimate = ([own for own, has in zip(ordered, reach, strict=True) if has == k] for k in range(3))
        told = [*neither[-1:], *interval[:1], *interval[1:][-1:], *estimate[:1]]
        return [self._sentence(scenario) for scenario in told]

    def _reach(self, left: Movement) -> int:
        """2 where the estimate can reach the null, 1 where its interval alone can, 0 where neither can."""
        if left.low <= self.null <= left.high:
            return 2
        return int(left.interval_low <= self.null <= left.interval_high)

    def _sentence(self, scenario: Scenario) -> str:
        left, reach = scenario.left, self._reach(scenario.left)
        could = ("neither the estimate nor the interval", "the interval, but not the estimate,", "the estimate")[reach]
        rest = f": at least {left.low:.4g} is left" if left.low > self.null else f": at most {left.high:.4g} is left"
        confounder = f"A confounder {scenario.name}{scenario.remark}"
        return f"{confounder} could bring {could} to {self.null:g}{'' if reach == 2 else rest}."


def _pair(value: Any) -> tuple[float, float]:
    most = float(np.nextafter(1, 0))
    try:
        treatment, outcome = value
    except (TypeError, ValueError):
        raise SensitivityError(
            f"strengths: {value!r} is no pair; pass [(R2 with the treatment, R2 with the outcome)], such as [(0.03, 0.04)]."
        ) from None
    return number("strengths", treatment, 0, most, SensitivityError), number("strengths", outcome, 0, 1, SensitivityError)
