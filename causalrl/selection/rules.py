"""Rules for choosing an estimator: Lepski's, a bootstrap of the mean squared error, and a check on a simulator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from causalrl.checks import Floats, seed_number, whole_number
from causalrl.errors import EstimandError, IntervalError
from causalrl.estimands import PolicyValue
from causalrl.estimators.base import Estimator
from causalrl.inference.base import check_level
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from causalrl.policies import PolicyLike, as_policy
from causalrl.selection.candidates import Trial
from causalrl.selection.estimators import Drawing, Rows, SelectionRule

if TYPE_CHECKING:
    from causalrl.replication import Samples


@dataclass(frozen=True)
class RefitRule(SelectionRule):
    """Base of the rules that refit every candidate on the same resamples of clusters, behaviour policy and value model included.

    Args:
        replicates: number of resamples, at least 20.
        seed: of the resamples.
        level: of what a rule says of all candidates at once, in (0, 1).
    """

    replicates: int = 200
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        whole_number("replicates", self.replicates, 20, IntervalError)
        seed_number(self.seed, IntervalError)
        check_level(self.level)

    def refits(self, trial: Trial) -> tuple[dict[str, Floats], Rows]:
        """(B,) values of each candidate over the resamples; a row with the failure of one that cannot be refitted."""
        found: dict[str, Floats] = {}
        failed: Rows = {}
        for name, estimate in trial.estimates.items():
            try:
                found[name] = estimate.evidence.refitted(self.replicates, self.seed)
            except IntervalError as error:
                failed[name] = {"failure": f"{type(error).__name__}: {error}"}
        return found, failed

    def quantile(self, count: int) -> float:
        """Normal quantile of a two-sided statement on `count` candidates at once, by Bonferroni."""
        from scipy.special import ndtri

        return float(ndtri(1 - (1 - self.level) / (2 * count)))


@dataclass(frozen=True)
class Slope(RefitRule):
    """Lepski's rule, SLOPE: go through the candidates, the most trusted first, as long as their intervals have a point in common.

    The interval of candidate i is value -/+ 2 z stderr_i, with stderr_i the standard deviation over refits and z the two-sided
    normal quantile at 1 - (1 - level) / K for K candidates. Of those before the first that misses the common part of its
    predecessors, the narrowest is chosen. Where the widths fall along the order this is the last of them, SLOPE of Su, Srinath &
    Krishnamurthy (2020), Adaptive estimator selection for off-policy evaluation, ICML: its error is then at most a constant times
    that of the best candidate.

    The order must be that of the bias. Su et al. sort by width, which is right for one family (importance sampling truncated
    ever harder, say). In a mixed list a biased model may well have the wider interval, and what comes after it is then never
    reached. Widths come from refits since the standard error of a self-normalised estimate (`WIS`) vanishes where one trajectory
    has nearly all the weight, and with it the doubt.

    Args:
        replicates, seed: of the resamples.
        level: probability that the intervals of all candidates would hold undoubled, if none had a bias.

    Raises:
        IntervalError: for fewer than 20 replicates, a seed or a level out of range.

    Example:
        >>> import causalrl as crl
        >>> from simulators import ModelWin
        >>> sim = ModelWin()
        >>> data = sim.sample(1000, sim.behavior(), horizon=4, seed=0)
        >>> goal = crl.PolicyValue(sim.target(), horizon=4)
        >>> candidates = {f"truncated at {c}": crl.PDIS(truncate=c) for c in (10, 3, 1)}
        >>> crl.select_estimator(data, goal, {"PDIS": crl.PDIS(), **candidates}, Slope(50)).frame["kept"].tolist()
        [True, True, True, True]
    """

    def judge(self, trial: Trial) -> tuple[Rows, str, tuple[str, ...]]:
        refits, rows = self.refits(trial)
        z = self.quantile(len(trial.candidates))
        low, high, kept, stopped = -np.inf, np.inf, list[str](), ""
        for name, drawn in refits.items():
            value, stderr = float(trial.estimates[name].value), float(drawn.std(ddof=1))
            own = value - 2 * z * stderr, value + 2 * z * stderr
            if not stopped and max(low, own[0]) <= min(high, own[1]):
                low, high = max(low, own[0]), min(high, own[1])
                kept.append(name)
            else:
                stopped = stopped or name
            rows[name] = {"stderr": stderr, "low": own[0], "high": own[1], "kept": name in kept}
        chosen = _least(rows, "stderr", kept)
        if not stopped:
            return rows, chosen, ("All intervals have a point in common: the narrowest is chosen.",)
        return rows, chosen, (f"{stopped} contradicts {', '.join(kept)}: it and what comes after it are left out.",)

    @property
    def drawing(self) -> Drawing:
        from causalrl.report.selection_plots import slope_plot

        return slope_plot


@dataclass(frozen=True)
class BootstrapMSE(RefitRule):
    """The candidate with the least mean squared error, by refits on resampled clusters, with the first candidate as reference.

    rmse^2 = stderr^2 + bias^2. stderr is the standard deviation over refits. bias is the least one that the data insist on: the
    distance of 0 from the interval d -/+ z sd(d) of the difference d to the reference, z being the two-sided normal quantile at
    1 - (1 - level) / (K - 1) for K candidates and sd(d) the standard deviation of the difference over the same resamples.

    The reference must be consistent and should vary as little as such an estimator can, as `WDR` with logged propensities does.
    d^2 - sd(d)^2, which has mean bias^2 under an unbiased reference, is not used: beside a noisy reference it makes the rule
    choose that, or its likes, in a third of all data sets, however good another candidate is. The price is that a bias below
    z sd(d) goes unseen.

    Args:
        replicates, seed: of the resamples.
        level: probability that no candidate without a bias is charged one.

    Raises:
        IntervalError: for fewer than 20 replicates, a seed or a level out of range.

    Example:
        >>> import causalrl as crl
        >>> from simulators import ModelFail
        >>> sim = ModelFail()
        >>> data = sim.sample(1000, sim.behavior(), seed=0)
        >>> goal = crl.PolicyValue(sim.target(), horizon=2)
        >>> candidates = {"WIS": crl.WIS(), "IS": crl.IS(), "model": crl.FQE(crl.TabularQ())}
        >>> crl.select_estimator(data, goal, candidates, BootstrapMSE(50)).chosen
        'WIS'
    """

    def judge(self, trial: Trial) -> tuple[Rows, str, tuple[str, ...]]:
        refits, rows = self.refits(trial)
        reference = next(iter(trial.candidates))
        if reference not in refits:
            why = trial.failures.get(reference) or rows[reference]["failure"]
            raise EstimandError(f"candidates: {reference!r}, the first, is the reference and cannot be used. {why}")
        z = self.quantile(len(trial.candidates) - 1)
        charged = []
        for name, drawn in refits.items():
            gap = abs(float(trial.estimates[name].value) - float(trial.estimates[reference].value))
            stderr, bias = float(drawn.std(ddof=1)), max(0.0, gap - z * float((drawn - refits[reference]).std(ddof=1)))
            rows[name] = {"stderr": stderr, "bias": bias, "rmse": float(np.hypot(stderr, bias))}
            charged += [name] if bias > 0 else []
        text = f"{', '.join(charged)}: further from {reference} than chance explains." if charged else "No bias shows."
        return rows, _least(rows, "rmse", refits), (text,)

    @property
    def drawing(self) -> Drawing:
        from causalrl.report.selection_plots import error_plot

        return error_plot


@dataclass(frozen=True)
class SimulatorCheck(SelectionRule):
    """The candidate that would have been right in a simulator: the least root mean squared error against the exact value.

    Only as good as the simulator. One fitted to the same data shares the errors of its model with the estimators that use that
    model, and says little of them; a named one of the same kind of problem says how each copes with such horizons and weights.

    Args:
        simulator: knows exact values and samples trajectories, such as `SepsisSimulator()`, or a `simulators.TabularMDP` from the
            counts of `learning.EmpiricalMDP(...).fit(data)`.
        behavior: the policy that logs the data there.
        target: the policy that is valued there; None is that of the goal.
        n: trajectories in a sample; None is as many as the data have.
        replicates, seed: of the samples.

    Raises:
        EstimandError: for what is no simulator, and from `select_estimator` for a goal that is no value of one policy.
        DataError: for n or replicates out of range.

    Example:
        >>> import causalrl as crl
        >>> from simulators import ModelWin, TabularMDP
        >>> sim = ModelWin()
        >>> data = sim.sample(500, sim.behavior(), horizon=4, seed=0)
        >>> planned = crl.learning.EmpiricalMDP(horizon=4).fit(data)
        >>> fitted = TabularMDP.from_sparse(**planned.arrays())
        >>> logged = crl.TabularPolicy(planned.counts / planned.counts.sum(axis=1, keepdims=True))
        >>> rule = SimulatorCheck(fitted, planned.on_model(logged), planned.on_model(sim.target()), replicates=5)
        >>> goal = crl.PolicyValue(sim.target(), horizon=4)
        >>> crl.select_estimator(data, goal, {"IS": crl.IS(), "PDWIS": crl.PDWIS()}, rule).chosen
        'PDWIS'
    """

    simulator: Samples
    behavior: PolicyLike
    target: PolicyLike | None = None
    n: int | None = None
    replicates: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if not (hasattr(self.simulator, "sample") and hasattr(self.simulator, "value")):
            raise EstimandError(f"simulator: {self.simulator!r} has no sample and value; pass one such as SepsisSimulator().")
        if self.n is not None:
            whole_number("n", self.n, 2)
        whole_number("replicates", self.replicates, 2)
        seed_number(self.seed)

    def judge(self, trial: Trial) -> tuple[Rows, str, tuple[str, ...]]:
        if not isinstance(trial.goal, PolicyValue):
            raise EstimandError(
                f"goal: {trial.goal} is no value of one policy, which is what a simulator checks. Ask a PolicyValue."
            )
        n, target = self.n or trial.nuisances.data.n, trial.goal.policy if self.target is None else self.target
        goal = PolicyValue(target, trial.goal.discount, trial.goal.horizon)
        behavior = as_policy(self.behavior).bind(self.simulator.n_actions)
        bound = goal.policy.bind(self.simulator.n_actions, behavior)
        truth = self.simulator.value(bound, horizon=goal.horizon, discount=goal.discount)
        values = self._values({name: trial.candidates[name] for name in trial.estimates}, goal, n)
        rows = {name: self._errors(drawn - truth) for name, drawn in values.items()}
        judged = [name for name, row in rows.items() if "rmse" in row]
        return rows, _least(rows, "rmse", judged), (f"{self.replicates} samples of {n} trajectories, exact value {truth:.4g}.",)

    def _values(self, candidates: Mapping[str, Estimator], goal: PolicyValue, n: int) -> dict[str, Floats]:
        """(replicates,) values of each candidate in samples of the simulator; NaN where there is none."""
        values = {name: np.full(self.replicates, np.nan) for name in candidates}
        for r in range(self.replicates):
            data = self.simulator.sample(n, self.behavior, horizon=goal.horizon, seed=derive_seed(self.seed, "data", r))
            nuisances = Nuisances(data, derive_seed(self.seed, "estimate", r))
            for name, estimate in Trial.run(candidates, nuisances, goal).estimates.items():
                values[name][r] = estimate.value
        return values

    def _errors(self, errors: Floats) -> dict[str, Any]:
        missing = int(np.isnan(errors).sum())
        if missing:
            return {"failure": f"has no estimate in {missing} of {self.replicates} samples of the simulator"}
        rmse = float(np.sqrt(np.mean(errors**2)))
        spread = float((errors**2).std(ddof=1)) / np.sqrt(self.replicates)
        return {"bias": float(errors.mean()), "rmse": rmse, "rmse_mcse": spread / (2 * rmse) if rmse > 0 else 0.0}

    @property
    def drawing(self) -> Drawing:
        from causalrl.report.selection_plots import error_plot

        return error_plot


def _least(rows: Rows, column: str, names: Iterable[str]) -> str:
    """Of some candidates the one with the least figure; of equal ones the most trusted."""
    eligible = list(names)
    if not eligible:
        name, row = next(iter(rows.items()))
        raise EstimandError(f"candidates: none can be judged. {name!r}: {row['failure']}")
    return min(eligible, key=lambda name: float(rows[name][column]))
