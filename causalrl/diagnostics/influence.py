"""Which records carry an estimate: the infinitesimal jackknife of leaving each out (Jaeckel 1972; Efron 1982)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints, whole_number
from causalrl.errors import EstimandError, MismatchError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from causalrl.data import Trajectories
    from causalrl.estimate import Estimate


@dataclass(frozen=True, eq=False)
class Influential:
    """The trajectories that move an estimate most, the largest change first.

    Attributes:
        estimator, estimand, value: the estimate. n: its trajectories.
        ids, rows: (k,) labels of the trajectories and their places in the data.
        influence: (k,) influence values. share: (k,) of the sum of squared influence values.
        change: (k,) of the estimate when that trajectory alone is left out, to first order.
    """

    estimator: str
    estimand: str
    value: float
    n: int
    ids: NDArray[Any]
    rows: Ints
    influence: Floats
    share: Floats
    change: Floats

    @property
    def without(self) -> Floats:
        """(k,) the estimate without each."""
        return self.value + self.change

    def to_frame(self) -> pd.DataFrame:
        """One row a trajectory: id, row, influence, share, change, without."""
        import pandas as pd

        columns = ("rows", "influence", "share", "change", "without")
        return pd.DataFrame({"id": self.ids, **{name: getattr(self, name) for name in columns}}).rename(columns={"rows": "row"})

    def plot(self, ax: Axes | None = None) -> Axes:
        """The changes as bars, with ids."""
        from causalrl.report.diagnostic_plots import influence_plot

        return influence_plot(self, ax)

    def __repr__(self) -> str:
        head = f"{self.estimator}: {self.estimand} = {self.value:.4g}, n = {self.n}; without"
        rows = [
            f"  {label}: {without:.4g} ({change:+.3g})"
            for label, without, change in zip(self.ids, self.without, self.change, strict=True)
        ]
        return "\n".join([head, *rows])


def leave_one_out_changes(influence: Floats) -> Floats:
    """(n,) change of an estimate when each unit is left out, -influence / (n - 1); exact for a mean.

    >>> leave_one_out_changes(np.array([-1.0, 0.0, 1.0]))
    array([ 0.5, -0. , -0.5])
    """
    if len(influence) < 2:
        raise EstimandError("estimate: it comes from one trajectory, without which there is none.")
    return np.asarray(-influence / (len(influence) - 1))


def most_influential(estimate: Estimate, data: Trajectories, k: int = 10) -> Influential:
    """The k trajectories whose absence would change an estimate most, by its influence values.

    Args:
        estimate: of a single number. data: what it came from, for the ids. k: how many; all where there are fewer.

    Raises:
        MismatchError: for other data.
        EstimandError: for a vector; take one of its values.
        IntervalError: for an estimate without influence values.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_arrays([0] * 4, [0, 1, 0, 1], [1.0, 2.0, 3.0, 10.0], range(5), ids=list("abcd"))
        >>> most_influential(crl.OnPolicyMean().estimate(data, crl.Uniform(2)), data, k=2)
        OnPolicyMean: value of Uniform(n_actions=2) = 4, n = 4; without
          d: 2 (-2)
          a: 5 (+1)
    """
    if estimate.fingerprint != data.fingerprint:
        raise MismatchError("data: the estimate comes from other data; pass the Trajectories that it was made from.")
    if np.ndim(estimate.value):
        raise EstimandError(f"estimate: {estimate.estimand} is a vector; take one of its values, estimate[0].")
    count = min(whole_number("k", k, 1, EstimandError), data.n)
    influence = estimate.influence
    change = leave_one_out_changes(influence)
    rows = np.argsort(-np.abs(change), kind="stable")[:count]
    total = float(np.sum(influence**2))
    share = influence[rows] ** 2 / total if total > 0 else np.zeros(count)
    value = float(estimate.value)
    return Influential(
        estimate.estimator, estimate.estimand, value, data.n, data.ids[rows], rows, influence[rows], share, change[rows]
    )
