"""`Estimate`: an immutable number with its uncertainty, which prints itself and composes with others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from causalrl.checks import Floats
from causalrl.diagnostics.record import Diagnostics, joint_diagnostics, merged_diagnostics
from causalrl.diagnostics.verdict import judged_alone
from causalrl.errors import EstimandError, IntervalError, MismatchError
from causalrl.inference.algebra import combine, merge, transform
from causalrl.inference.base import Evidence, Interval, IntervalMethod, make_interval, make_stderr, show_number
from causalrl.inference.operations import (
    ADD,
    DIVIDE,
    MULTIPLY,
    SUBTRACT,
    Affine,
    Exp,
    Log,
    Operation,
    Reciprocal,
    Transformation,
)
from causalrl.inference.wald import Wald

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


class Summary(str):
    """Text that a notebook or a prompt shows as it is."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """An estimate of one estimand from one data set.

    Attributes:
        value: float, or (k,) for a CATE at k points, subgroups, or coefficients; `estimate[j]` is one of them.
        estimator, estimand: what was used and asked, as text.
        diagnostics: read-only mapping with the keys of `causalrl.diagnostics.record.KEYS`.
        evidence: moments, influence values and refits: what intervals are computed from.
        fingerprint: hash of the data; arithmetic refuses operands from different data.
        fixed_nuisances: no nuisance was learned from the data, so that shards can be merged.
        labels: names of the k values of a vector, where they have some; `estimate[name]` is one of them.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_cross_section([[0.0]] * 4, [0, 1, 0, 1], [1.0, 2.0, 3.0, 6.0], propensity=[0.5] * 4)
        >>> effect = crl.IPW().estimate(data, crl.ATE())
        >>> effect.value
        2.0
        >>> ratio = crl.IPW().estimate(data, crl.Always(1)) / crl.IPW().estimate(data, crl.Always(0))
        >>> ratio.value
        2.0
    """

    value: float | Floats
    estimator: str
    estimand: str
    diagnostics: Diagnostics
    evidence: Evidence
    fingerprint: str
    fixed_nuisances: bool = False
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.diagnostics["verdict"] is None:
            object.__setattr__(self, "diagnostics", judged_alone(self.diagnostics, self.evidence))

    @property
    def n(self) -> int:
        """Number of trajectories."""
        return len(self.evidence.clusters)

    @property
    def moments(self) -> Floats:
        """(n, p) per-trajectory moments; raises `IntervalError` where the estimate is no smooth function of means."""
        return self.evidence.smooth()[1]

    @property
    def influence(self) -> Floats:
        """(n,) influence values; raises `IntervalError` where the estimate is no smooth function of means."""
        return self.evidence.influence

    @property
    def default_method(self) -> IntervalMethod:
        """That of the estimator: Wald for moments, a refit bootstrap where the refit is compiled.

        Raises:
            IntervalError: elsewhere, naming what to pass.
        """
        smooth = self.evidence.functional is not None or self.evidence.linear is not None
        if smooth and self.evidence.default is None:
            return Wald()
        if self.evidence.default is not None:
            return self.evidence.default
        raise IntervalError(
            f"interval: {self.estimator} has no default interval, since its refit is not compiled. Pass "
            "method=RefitBootstrap(200), which fits its learners 200 times, or use DR (AIPW), whose interval is Wald's."
        )

    @cached_property
    def stderr(self) -> float | Floats:
        """Standard error by the default method; raises `IntervalError` where there is none."""
        return make_stderr(self.evidence, self.default_method)

    def interval(self, level: float = 0.95, method: IntervalMethod | None = None) -> Interval:
        """Confidence interval.

        Args:
            level: nominal coverage in (0, 1).
            method: for example `Wald()`, `PercentileBootstrap(1000)`, `RefitBootstrap(200)`; None is `default_method`.

        Raises:
            IntervalError: where the method does not apply; the text names one that does.
        """
        chosen = self.default_method if method is None else method
        if getattr(chosen, "needs_fixed_nuisances", False) and not self.fixed_nuisances:
            raise IntervalError(
                f"method: {self.estimator} learned a nuisance from these data, so that its moments are not independent and "
                f"{chosen} does not hold. Use logged or known propensities, or Wald()."
            )
        return make_interval(self.evidence, level, chosen)

    def lower_bound(self, level: float = 0.95, method: IntervalMethod | None = None) -> Interval:
        """One-sided confidence bound: the value is at least `low`, with `high` = inf.

        It is the lower limit of the two-sided interval at 2 level - 1.

        Args:
            level: nominal coverage in (0.5, 1).
            method: as for `interval`.

        Raises:
            IntervalError: for a level of at most 0.5, and where the method does not apply.

        Example:
            >>> import causalrl as crl
            >>> data = crl.Trajectories.from_arrays([0] * 3, [0, 1, 0], [1.0, 3.0, 5.0], range(4))
            >>> crl.OnPolicyMean().estimate(data, crl.Uniform(2)).lower_bound(0.95)
            [-0.3717, inf] (95%, Wald())
        """
        two_sided = self.interval(_two_sided_level(level), method)
        return replace(two_sided, high=np.full_like(two_sided.high, np.inf)[()], level=level)

    def upper_bound(self, level: float = 0.95, method: IntervalMethod | None = None) -> Interval:
        """One-sided confidence bound: the value is at most `high`, with `low` = -inf. See `lower_bound`."""
        two_sided = self.interval(_two_sided_level(level), method)
        return replace(two_sided, low=np.full_like(two_sided.low, -np.inf)[()], level=level)

    def __getitem__(self, key: int | str) -> Estimate:
        """One value of a vector, by place or label.

        Raises:
            EstimandError: for a scalar, or a key that is not there.
        """
        if np.ndim(self.value) == 0:
            raise EstimandError(f"estimate[{key!r}]: the value is a single number.")
        names, k = self.labels or (), len(np.asarray(self.value))
        if key not in (names if isinstance(key, str) else range(-k, k)):
            raise EstimandError(
                f"estimate[{key!r}]: pass a place below {k}" + (f", or one of {', '.join(names)}." if names else ".")
            )
        j = names.index(key) if isinstance(key, str) else int(key) % k
        label = f"{names[j]} of {self.estimand}" if names else f"{self.estimand}, value {j}"
        evidence = self.evidence.item(j)
        return replace(self, value=evidence.value, estimand=label, evidence=evidence, labels=None)

    def __add__(self, other: Estimate | float) -> Estimate:
        if isinstance(other, Estimate):
            return self._combine(ADD, other)
        return self._transform(Affine(1.0, _number(other)), f"{self.estimand} + {other}")

    def __sub__(self, other: Estimate | float) -> Estimate:
        if isinstance(other, Estimate):
            return self._combine(SUBTRACT, other)
        return self._transform(Affine(1.0, -_number(other)), f"{self.estimand} - {other}")

    def __mul__(self, other: Estimate | float) -> Estimate:
        if isinstance(other, Estimate):
            return self._combine(MULTIPLY, other)
        return self._transform(Affine(_number(other), 0.0), f"{other} {self.estimand}")

    def __truediv__(self, other: Estimate | float) -> Estimate:
        if isinstance(other, Estimate):
            _refuse_zero(other.value)
            return self._combine(DIVIDE, other)
        _refuse_zero(_number(other))
        return self._transform(Affine(1 / other, 0.0), f"{self.estimand} / {other}")

    def __rtruediv__(self, other: float) -> Estimate:
        _refuse_zero(self.value)
        return self._transform(Reciprocal(_number(other)), f"{other} / {self.estimand}")

    def __neg__(self) -> Estimate:
        return self._transform(Affine(-1.0, 0.0), f"-{self.estimand}")

    def __radd__(self, other: float) -> Estimate:
        return self + other

    def __rsub__(self, other: float) -> Estimate:
        return -self + other

    def __rmul__(self, other: float) -> Estimate:
        return self * other

    def log(self) -> Estimate:
        """Natural logarithm, by the delta method."""
        if np.any(np.asarray(self.value) <= 0):
            raise EstimandError(f"log: the value is {self.value}; only a positive value has a logarithm.")
        return self._transform(Log(), f"log({self.estimand})")

    def exp(self) -> Estimate:
        """Exponential, by the delta method."""
        return self._transform(Exp(), f"exp({self.estimand})")

    def _transform(self, transformation: Transformation, label: str) -> Estimate:
        evidence = transform(self.evidence, transformation)
        return replace(self, value=evidence.value, estimand=label, evidence=evidence)

    def _combine(self, operation: Operation, other: Estimate) -> Estimate:
        if self.fingerprint != other.fingerprint:
            raise MismatchError(
                f"{operation.symbol}: the operands come from different data, so that their joint spread is unknown. "
                "Estimate both from the same Trajectories."
            )
        evidence = combine(operation, self.evidence, other.evidence)
        same = self.estimator == other.estimator
        return Estimate(
            evidence.value,
            self.estimator if same else f"{self.estimator} {operation.symbol} {other.estimator}",
            f"{self.estimand} {operation.symbol} {other.estimand}",
            joint_diagnostics(self.diagnostics, other.diagnostics),
            evidence,
            self.fingerprint,
            self.fixed_nuisances and other.fixed_nuisances,
            self.labels,
        )

    def merge(self, *shards: Estimate) -> Estimate:
        """The estimate from all shards of data too large for one machine, exactly as from the whole.

        Every shard must use nuisances fixed beforehand. No trajectory may be in two shards and no cluster spread over them: that
        cannot be seen from the shards and would make the interval too short.

        Raises:
            MismatchError: where nuisances were learned, or the shards are of different estimators.
        """
        merged = self
        for shard in shards:
            merged = _merge_two(merged, shard)
        return merged

    def summary(self) -> Summary:
        """A short text: value, standard error, interval, effective sample size, verdict with its reasons, warnings."""
        lines = [f"{self.estimator}: {self.estimand}", f"  n = {self.n} ({self.evidence.n_clusters} clusters)"]
        try:
            interval = str(self.interval())
            lines += [f"  value    {_show(self.value)}", f"  stderr   {_show(self.stderr)}", f"  interval {interval}"]
        except IntervalError as error:
            lines += [f"  value    {_show(self.value)}", f"  {error}"]
        if self.diagnostics["ess"] is not None:
            lines.append(f"  ess      {self.diagnostics['ess']:.1f}")
        lines += [f"  verdict  {self.diagnostics['verdict']}", *(f"    - {text}" for text in self.diagnostics["reasons"])]
        return Summary("\n".join([*lines, *(f"  ! {text}" for text in self.diagnostics["warnings"])]))

    def to_frame(self) -> pd.DataFrame:
        """One row a value: estimator, estimand, value, stderr, low, high (missing where there is no default interval), n."""
        import pandas as pd

        values = np.atleast_1d(np.asarray(self.value))
        columns: dict[str, Any] = {"estimator": self.estimator, "estimand": self.estimand, "value": values}
        try:
            interval = self.interval()
            columns |= {"stderr": self.stderr, "low": interval.low, "high": interval.high}
        except IntervalError:
            columns |= {"stderr": np.nan, "low": np.nan, "high": np.nan}
        if self.labels is not None:
            columns["estimand"] = self.labels
        return pd.DataFrame({**columns, "n": self.n})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Value with its default interval."""
        from causalrl.report.plots import plot_intervals

        return plot_intervals(self.to_frame(), ax=ax)

    def __repr__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        from causalrl.report.html import estimate_html

        return estimate_html(self)


def _number(value: float) -> float:
    if not isinstance(value, Real):
        raise TypeError(f"an estimate combines with estimates and numbers, not with {type(value).__name__}")
    return float(value)


def _two_sided_level(level: float) -> float:
    if not isinstance(level, Real) or not 0.5 < level < 1:
        raise IntervalError(f"level: {level!r} is outside (0.5, 1), in which one-sided bounds are; write 0.95 for 95%.")
    return 2 * level - 1


def _refuse_zero(divisor: float | Floats) -> None:
    if np.any(np.asarray(divisor) == 0):
        raise EstimandError("division: the denominator is 0, so that the ratio does not exist; report the difference.")


def _merge_two(a: Estimate, b: Estimate) -> Estimate:
    for part in (a, b):
        if not isinstance(part, Estimate):
            raise MismatchError(f"merge: {part!r} is no estimate; pass the estimates of the other shards.")
        if not part.fixed_nuisances:
            raise MismatchError(
                f"merge: {part.estimator} learned a nuisance from its shard. Fix them beforehand: behavior=Logged() or "
                "KnownPropensity(policy), q=KnownQ(...)."
            )
    if set(a.fingerprint.split("+")) & set(b.fingerprint.split("+")):
        raise MismatchError("merge: two shards hold the same data; pass each shard once.")
    if (a.estimator, a.estimand) != (b.estimator, b.estimand):
        raise MismatchError(f"merge: {a.estimator} of {a.estimand} and {b.estimator} of {b.estimand} are different questions.")
    if "<lambda>" in a.estimator + a.estimand:
        raise MismatchError("merge: a lambda has no name by which shards could be compared; define the function with a name.")
    evidence = merge(a.evidence, b.evidence)
    diagnostics = merged_diagnostics(a.diagnostics, b.diagnostics, a.n, b.n)
    return replace(
        a, value=evidence.value, diagnostics=diagnostics, evidence=evidence, fingerprint=f"{a.fingerprint}+{b.fingerprint}"
    )


def _show(value: float | Floats) -> str:
    with np.printoptions(precision=4, suppress=True):
        return show_number(float(value)) if np.ndim(value) == 0 else str(value)
