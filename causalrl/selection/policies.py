"""`rank_policies`: which of several policies is best, and how sure the data make that.

The values have simultaneous intervals; the ranks have simultaneous confidence sets, by inverting the intervals of all pairwise
differences (Mogstad, Romano, Shaikh & Wilhelm 2024, Inference for ranks with applications to mobility across neighbourhoods and
academic achievement across countries, Review of Economic Studies 91, single-step procedure).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from causalrl.checks import Floats, Ints
from causalrl.data import Trajectories
from causalrl.errors import CausalRLError, EstimandError
from causalrl.estimands import EstimandLike, PolicyValue, as_estimand
from causalrl.estimate import Estimate, Summary
from causalrl.estimators.base import Estimator, FittedEstimator, IgnoresPolicy
from causalrl.estimators.weighting import OnPolicyMean
from causalrl.inference.algebra import combine
from causalrl.inference.bands import Bands, JointMethod, simultaneous
from causalrl.inference.base import Evidence, check_level
from causalrl.inference.bootstrap import Refitting
from causalrl.inference.functionals import Sum
from causalrl.inference.operations import SUBTRACT
from causalrl.nuisances.crossfit import Nuisances
from causalrl.selection.candidates import quietly

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = ("policy", "value", "stderr", "low", "high", "rank", "rank_low", "rank_high", "beats_behavior")
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False, repr=False)
class Ranking:
    """Policies in the order of their estimated values.

    Attributes:
        frame: one row a policy, the best first, with the columns

            - policy, value, stderr; low, high: limits that hold for all policies at once;
            - rank: 1 is the best; equal values share the lowest rank of theirs;
            - rank_low, rank_high: a set that holds the true rank, for all policies at once;
            - beats_behavior: Phi((value - behaviour value) / stderr of the difference), the probability that the policy is better
              under a normal likelihood with a flat prior; one less the p-value of the one-sided Wald test that it is not;
            - verdict: of the estimate, where its diagnostics have one.
        estimates: by name.
        behavior: value of the policy that logged the data, the mean of its returns.
        bands: simultaneous intervals of the values.
    """

    frame: pd.DataFrame
    estimates: Mapping[str, Estimate]
    behavior: Estimate
    bands: Bands

    @property
    def best(self) -> str:
        """The policy with the highest estimate."""
        return str(self.frame["policy"].iloc[0])

    @property
    def possibly_best(self) -> list[str]:
        """The policies whose rank may be 1: a confidence set for the best one."""
        return [str(name) for name in self.frame.loc[self.frame["rank_low"] == 1, "policy"]]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Values with their simultaneous intervals, the sets of their ranks, and the behaviour policy as a line."""
        from causalrl.report.selection_plots import ranking_plot

        return ranking_plot(self, ax)

    def summary(self) -> Summary:
        """The table and what it says of the best policy."""
        sure = self.possibly_best
        level = f"{self.bands.level:.0%}"
        if len(sure) == 1:
            text = f"{sure[0]} is best (simultaneous ranks, {level})."
        else:
            text = f"The data do not tell which is best ({level}): {', '.join(sure)}."
        behavior = f"The behaviour policy is worth {self.behavior.value:.4g}."
        table = self.frame.to_string(index=False, float_format=lambda value: f"{value:.4g}")
        return Summary("\n".join([table, text, behavior]))

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return str(self.frame.to_html(index=False))


def rank_policies(
    data: Trajectories,
    policies: Mapping[str, EstimandLike] | Sequence[EstimandLike],
    estimator: Estimator,
    *,
    discount: float = 1.0,
    horizon: int | None = None,
    level: float = 0.95,
    method: JointMethod | None = None,
    seed: int = 0,
) -> Ranking:
    """Order policies by their estimated values, with what the data leave open about the order.

    Args:
        data: the trajectories.
        policies: two or more, by name or in a list; `PolicyValue`s with one discount and horizon, or policies.
        estimator: of their values, such as `DR(q=TabularQ())`; intervals and ranks do not know of a bias that it has.
        discount, horizon: of bare policies.
        level: probability that all intervals of the values hold, and that all sets of the ranks do.
        method: as in `simultaneous`; None is the multiplier bootstrap, or refits where the estimator has no influence values.
        seed: of folds and learners.

    Returns:
        The ranking: `.frame`, `.best`, `.possibly_best`, `.plot()`, `.summary()`.

    Raises:
        EstimandError: for fewer than two policies, values that do not compare, or an estimator that ignores the policy; and for a
            policy without an estimate, with the reason.
        IntervalError: where the joint spread is unknown; the text says which method to pass.

    Example:
        >>> import causalrl as crl
        >>> from simulators import SepsisSimulator
        >>> sim = SepsisSimulator()
        >>> data = sim.sample(500, sim.physician(epsilon=0.3), horizon=20, seed=0)
        >>> policies = {"physician": sim.physician(epsilon=0.1), "random": crl.Uniform(8)}
        >>> ranking = crl.rank_policies(data, policies, crl.DR(q=crl.TabularQ()), horizon=20)
        >>> ranking.best, ranking.frame["rank_high"].tolist()
        ('physician', [1, 2])
    """
    check_level(level)
    goals = _goals(policies, discount, horizon)
    if not isinstance(estimator, Estimator):
        raise EstimandError(f"estimator: {estimator!r} is no estimator; pass an object such as DR(q=TabularQ()).")
    if isinstance(estimator, IgnoresPolicy):
        raise EstimandError(f"estimator: {estimator} gives every policy the same value; use DR(q=TabularQ()) or PDWIS().")
    nuisances = Nuisances(data, seed)
    fitted = FittedEstimator(estimator, nuisances)
    estimates = {name: _estimated(fitted, name, goal) for name, goal in goals.items()}
    behavior = quietly(FittedEstimator(OnPolicyMean(), nuisances), next(iter(goals.values())))
    bands = simultaneous(estimates, level, method)
    return Ranking(_frame(estimates, behavior, bands), estimates, behavior, bands)


def _goals(policies: Any, discount: float, horizon: int | None) -> dict[str, PolicyValue]:
    from causalrl.evaluation import named

    goals = {name: as_estimand(goal, discount, horizon) for name, goal in named(policies, "policies").items()}
    if len(goals) < 2:
        raise EstimandError(f"policies: only {next(iter(goals))!r}; a ranking needs two or more.")
    first: PolicyValue | None = None
    for name, goal in goals.items():
        if not isinstance(goal, PolicyValue):
            raise EstimandError(f"policies: {name!r} is {goal}, no value of a policy; pass policies or PolicyValues.")
        first = first or goal
        if (goal.discount, goal.horizon) != (first.discount, first.horizon):
            raise EstimandError(
                f"policies: {name!r} has discount {goal.discount} and horizon {goal.horizon}, the first one {first.discount} and "
                f"{first.horizon}; only values of the same return have an order."
            )
    return goals  # type: ignore[return-value]


def _estimated(fitted: FittedEstimator, name: str, goal: PolicyValue) -> Estimate:
    try:
        return quietly(fitted, goal)
    except CausalRLError as error:
        raise EstimandError(
            f"policies: {name!r} has no estimate, so that it cannot be ranked. {error} Or leave it out."
        ) from error


def _frame(estimates: Mapping[str, Estimate], behavior: Estimate, bands: Bands) -> pd.DataFrame:
    import pandas as pd

    evidences = [estimate.evidence for estimate in estimates.values()]
    lowest, highest = rank_sets(evidences, bands.level, bands.method)
    columns: dict[str, Any] = {
        "policy": list(estimates),
        "value": bands.value,
        "stderr": bands.stderr,
        "low": bands.low,
        "high": bands.high,
        "rank": 1 + (bands.value[None, :] > bands.value[:, None]).sum(axis=1),
        "rank_low": lowest,
        "rank_high": highest,
        "beats_behavior": [_probability_above(own, behavior.evidence, bands.method) for own in evidences],
    }
    verdicts = [estimate.diagnostics.get("verdict") for estimate in estimates.values()]
    if any(verdict is not None for verdict in verdicts):
        columns["verdict"] = verdicts
    return pd.DataFrame(columns).sort_values("value", ascending=False, kind="stable", ignore_index=True)


def rank_sets(evidences: Sequence[Evidence], level: float, method: JointMethod) -> tuple[Ints, Ints]:
    """Lowest and highest rank (k,) of each value that the data allow, for all values at once.

    With simultaneous intervals of the differences of all pairs, the lowest rank of j is one more than the number of values that
    are certainly larger, and the highest is k less the number of those that are certainly smaller.

    Example:
        >>> import numpy as np
        >>> from causalrl.inference.multiplier import MultiplierBootstrap
        >>> noise = np.random.default_rng(0).normal(size=(3, 200))
        >>> means = [Evidence(m.mean(), np.arange(200), Sum(), m[:, None]) for m in noise + [[0.0], [0.05], [2.0]]]
        >>> [ranks.tolist() for ranks in rank_sets(means, 0.95, MultiplierBootstrap())]
        [[2, 2, 1], [3, 3, 1]]
    """
    pairs = list(combinations(range(len(evidences)), 2))
    differences = [difference(evidences[i], evidences[j], method) for i, j in pairs]
    critical = method.critical(differences, level)
    above = np.zeros((len(evidences), len(evidences)), dtype=np.int64)  # [i, j]: i is certainly larger than j
    for (i, j), own in zip(pairs, differences, strict=True):
        margin = critical * float(method.stderr(own))
        above[i, j], above[j, i] = own.value > margin, -float(own.value) > margin
    return 1 + above.sum(axis=0), len(evidences) - above.sum(axis=1)


def difference(a: Evidence, b: Evidence, method: JointMethod) -> Evidence:
    """Evidence on a - b: by influence values, or by the refits of both on the same resamples; exactly 0 for equal ones."""
    value = float(a.value) - float(b.value)
    if isinstance(method, Refitting):
        draw = method.replicates, method.seed
        refits = _rounded(a.refitted(*draw), b.refitted(*draw))
        if not refits.any():
            value = 0.0
        return replace(combine(SUBTRACT, a, b), value=value, _refits={draw: refits})
    influence = _rounded(a.influence, b.influence)
    if not influence.any() and abs(value) <= _ROUNDING * max(abs(float(a.value)), abs(float(b.value))):
        value = 0.0
    return Evidence(value, a.clusters, Sum(), (value + influence - influence.mean())[:, None])


def _rounded(x: Floats, y: Floats) -> Floats:
    """x - y, and 0 throughout where they differ by rounding alone."""
    gap = x - y
    if np.abs(gap).max() <= _ROUNDING * max(np.abs(x).max(), np.abs(y).max()):
        return np.zeros_like(gap)
    return gap


def _probability_above(a: Evidence, b: Evidence, method: JointMethod) -> float:
    from scipy.special import ndtr

    own = difference(a, b, method)
    error = float(method.stderr(own))
    if error == 0:
        return 0.5 + 0.5 * float(np.sign(own.value))
    return float(ndtr(own.value / error))
