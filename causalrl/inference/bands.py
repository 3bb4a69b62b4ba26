"""Simultaneous bands: intervals of many estimates that hold all at once with the stated probability."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from causalrl.checks import Floats
from causalrl.errors import IntervalError, MismatchError
from causalrl.inference.base import Evidence, IntervalMethod, make_interval, require_finite, show_number
from causalrl.inference.functionals import require_clusters
from causalrl.inference.multiplier import MultiplierBootstrap

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


class Estimated(Protocol):
    """What a band needs of an estimate."""

    @property
    def evidence(self) -> Evidence: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def estimator(self) -> str: ...

    @property
    def estimand(self) -> str: ...


Estimates: TypeAlias = Mapping[str, Estimated] | Sequence[Estimated]


class JointMethod(IntervalMethod, Protocol):
    """An interval method that knows the joint spread of estimates from the same data."""

    def critical(self, evidences: Sequence[Evidence], level: float) -> float:
        """Quantile of the largest |deviation| / standard error."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Bands:
    """Simultaneous intervals, value -/+ critical stderr.

    Attributes:
        labels: name of each estimate. value, stderr, low, high: (k,).
        level: probability that all k intervals hold at once.
        critical: how many standard errors wide each is to either side.
        method: what made them.
    """

    labels: tuple[str, ...]
    value: Floats
    stderr: Floats
    low: Floats
    high: Floats
    level: float
    critical: float
    method: JointMethod

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row an estimate: label, value, stderr, low, high."""
        import pandas as pd

        columns = {name: getattr(self, name) for name in ("value", "stderr", "low", "high")}
        return pd.DataFrame({"label": list(self.labels), **columns})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Values with their band."""
        from causalrl.report.plots import plot_intervals

        rows = self.frame.rename(columns={"label": "estimator"}).assign(estimand=f"critical value {self.critical:.2f}")
        return plot_intervals(rows, ax=ax, interval=f"simultaneous {self.level:.0%} band")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        width = max(map(len, self.labels))
        numbers = np.column_stack([self.value, self.low, self.high])
        rows = [
            f"  {label:<{width}}  {show_number(value)}  [{show_number(low)}, {show_number(high)}]"
            for label, (value, low, high) in zip(self.labels, numbers.tolist(), strict=True)
        ]
        return "\n".join([f"simultaneous {self.level:.0%}: -/+ {self.critical:.4f} standard errors ({self.method})", *rows])

    def _repr_html_(self) -> str:
        return str(self.frame.to_html(index=False))


def simultaneous(estimates: Estimates, level: float = 0.95, method: JointMethod | None = None) -> Bands:
    """Intervals value -/+ c stderr that cover all values at once, with c the quantile of the largest studentised deviation.

    The joint spread comes from the influence values of the same clusters (Chernozhukov, Chetverikov & Kato 2013), so that close
    policies cost little. Where an estimate has none (FQE, MIS), all are refitted on the same resamples.

    Args:
        estimates: by name or in a list, from the same data.
        level: probability that all intervals hold, in (0, 1).
        method: `MultiplierBootstrap`, `RefitBootstrap` or `RefitWald`; None is `MultiplierBootstrap()` where every estimate has
            influence values, else the default refit of the first that has none.

    Raises:
        MismatchError: for estimates from different data.
        IntervalError: where some estimate has neither influence values nor a refit; the text says what to do.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> rewards = np.arange(60.0) % 7
        >>> data = crl.Trajectories.from_arrays([0] * 60, [0, 1] * 30, rewards, range(61), behavior_probabilities=[0.5] * 60)
        >>> goals = {"left": crl.Always(0), "right": crl.Always(1)}
        >>> bands = simultaneous({name: crl.WIS().estimate(data, goal) for name, goal in goals.items()})
        >>> bool(np.all((bands.low < 3.0) & (3.0 < bands.high)))
        True
    """
    named = _named(estimates)
    evidences = [estimate.evidence for estimate in named.values()]
    if len({estimate.fingerprint for estimate in named.values()}) > 1:
        raise MismatchError("simultaneous: the estimates come from different data, so that their joint spread is unknown.")
    for label, evidence in zip(named, evidences, strict=True):
        if np.ndim(evidence.value):
            raise IntervalError(
                f"simultaneous: {label!r} has {np.size(evidence.value)} values; pass estimates of one value each."
            )
    require_clusters(evidences[0].n_clusters)
    chosen = _default_method(named) if method is None else method
    if isinstance(chosen, type) or not hasattr(chosen, "critical"):
        raise IntervalError(
            f"method: {chosen!r} knows no joint spread; pass MultiplierBootstrap(1000), or RefitBootstrap(200) for fitted values."
        )
    make_interval(evidences[0], level, chosen)
    value = np.array([evidence.value for evidence in evidences], dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        critical = chosen.critical(evidences, level)
        stderr = np.array([chosen.stderr(evidence) for evidence in evidences], dtype=np.float64)
    require_finite("the band", critical, stderr)
    half = critical * stderr
    return Bands(tuple(named), value, stderr, value - half, value + half, level, critical, chosen)


def _default_method(named: Mapping[str, Estimated]) -> JointMethod:
    for label, estimate in named.items():
        evidence = estimate.evidence
        if evidence.functional is None:
            if not hasattr(evidence.default, "critical"):
                raise IntervalError(
                    f"simultaneous: {label!r} ({estimate.estimator}) has no influence values and no compiled refit. Pass "
                    "method=RefitBootstrap(200), which fits the learners of all estimates 200 times, or use DR (AIPW)."
                )
            default: JointMethod = evidence.default  # type: ignore[assignment]
            return default
    return MultiplierBootstrap()


def _named(estimates: Estimates) -> dict[str, Estimated]:
    if isinstance(estimates, Mapping):
        _require_estimates(estimates.values())
        named = dict(estimates)
    elif isinstance(estimates, list | tuple):
        _require_estimates(estimates)
        full = len({item.estimator for item in estimates}) > 1
        labels = [f"{item.estimator}: {item.estimand}" if full else item.estimand for item in estimates]
        twice = sorted({text for text in labels if labels.count(text) > 1})
        if twice:
            raise IntervalError(f"estimates: {twice[0]!r} occurs twice; pass a mapping with a name for each.")
        named = dict(zip(labels, estimates, strict=True))
    else:
        raise IntervalError(f"estimates: {type(estimates).__name__} is a single one; pass a mapping with names, or a list.")
    if not named:
        raise IntervalError("estimates: there are none; pass at least one.")
    return named


def _require_estimates(items: Iterable[object]) -> None:
    for item in items:
        if not hasattr(item, "evidence"):
            raise IntervalError(f"estimates: {item!r} is no estimate; pass what estimator.estimate(data, goal) returns.")
