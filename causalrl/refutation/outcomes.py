"""Refuters that replace the outcome by one that no action changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalrl.checks import Floats, check_size, numeric
from causalrl.data import Trajectories
from causalrl.errors import DataError
from causalrl.estimands import PolicyValue
from causalrl.estimate import Estimate
from causalrl.estimators.weighting import OnPolicyMean
from causalrl.kernels.rng import derive_seed
from causalrl.refutation.base import (
    Question,
    Refutation,
    Refuter,
    as_number,
    check_replicates,
    first_finding,
    mean_p_value,
    standard_error,
    with_changed_columns,
    without_rounding,
)


@dataclass(frozen=True)
class DummyOutcome(Refuter):
    """The rewards, less their mean, permuted among all decisions: noise, of which every policy gathers 0 on average.

    The right answer is 0 for an effect and for the value of any policy, whatever the confounding: exactly so, given the data,
    where the estimate is linear in the rewards. `p_value` is of E[T_r | data] = 0 by Student's t. It tests the estimator; a
    nuisance that knows the outcome beforehand (a `KnownQ` learned from it) fails.

    Args:
        replicates: number of permutations, at least 2.

    Raises:
        DataError: for fewer than 2 replicates.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_cross_section([0] * 60, [0, 1] * 30, [1.0, 2.0, 3.0] * 20)
        >>> crl.refute(crl.IPW(), data, crl.ATE(), crl.DummyOutcome(10)).expected
        0.0
    """

    replicates: int = 100

    def __post_init__(self) -> None:
        check_replicates(self.replicates)

    def examine(self, question: Question) -> Refutation:
        data = question.data
        noise = data.rewards - data.rewards.mean()

        def draw(r: int) -> Trajectories:
            rng = np.random.default_rng(derive_seed(question.seed, "dummy", r))
            return replace(data, rewards=noise[rng.permutation(len(noise))])

        values = with_changed_columns(question, (question.goal,), draw, self.replicates)[:, 0]
        p_value, error = mean_p_value(values), float(values.std(ddof=1)) / np.sqrt(len(values))
        size = f"the mean is {values.mean():.3g} (Monte-Carlo error {error:.2g})."
        first = first_finding(
            p_value,
            f"of an outcome that is noise the estimator finds nothing; {size}",
            f"the estimator finds something in noise; {size}",
        )
        return Refutation(str(self), question.estimate, values, np.zeros(len(values)), p_value, (first,))


@dataclass(frozen=True, eq=False)
class NegativeControlOutcome(Refuter):
    """Another outcome, which the actions cannot have changed but which shares the confounders, such as one measured before.

    The right answer is no effect; for the value of a policy, the mean that was observed. What the estimator finds is
    confounding that it does not remove (Lipsitch, Tchetgen Tchetgen & Cohen, Epidemiology 21:383, 2010). `p_value` is that of
    Wald's test with the estimate's standard error, 200 refits where it has none by default.

    Args:
        outcome: (N,) one a decision, or (n,) one a trajectory, which is put at its last decision.

    Raises:
        DataError: for an outcome that is not finite; from `refute`, for one of another length.

    Example:
        >>> import causalrl as crl
        >>> data = crl.Trajectories.from_cross_section([0] * 60, [0, 1] * 30, [1.0, 2.0, 3.0] * 20)
        >>> found = crl.refute(crl.IPW(), data, crl.ATE(), crl.NegativeControlOutcome([0.0, 0.0, 1.0] * 20))
        >>> found.control.value, found.p_value
        (0.0, 1.0)
    """

    outcome: NDArray[Any]

    def __init__(self, outcome: ArrayLike) -> None:
        values = numeric("outcome", outcome)
        check_size("outcome", values)
        object.__setattr__(self, "outcome", values)

    def examine(self, question: Question) -> Refutation:
        data = replace(question.data, rewards=self._rewards(question.data))
        control = question.estimator.estimate(data, question.goal, question.seed)
        difference, expected = control, 0.0
        if isinstance(question.goal, PolicyValue):
            observed = OnPolicyMean().estimate(data, question.goal, question.seed)
            difference, expected = control - observed, as_number(observed)
        found = without_rounding(np.array([as_number(control)]), np.array([expected]))
        p_value = _wald(float(found[0]), difference)
        size = f"it finds {as_number(control):.3g} where {expected:.3g} is right (p = {p_value:.2g})."
        first = first_finding(
            p_value, f"no confounding of the control outcome is seen; {size}", f"the control outcome is confounded; {size}"
        )
        values, references = np.array([as_number(control)]), np.array([expected])
        return Refutation(str(self), question.estimate, values, references, p_value, (first,), control=control)

    def _rewards(self, data: Trajectories) -> Floats:
        if self.outcome.shape == data.rewards.shape:
            return self.outcome
        if self.outcome.shape != (data.n,):
            raise DataError(
                f"outcome: shape {self.outcome.shape}; pass ({len(data.rewards)},), one a decision, or ({data.n},), "
                "one a trajectory."
            )
        rewards = np.zeros(len(data.rewards))
        rewards[data.offsets[1:] - 1] = self.outcome
        return rewards


def _wald(difference: float, estimate: Estimate) -> float:
    """Two-sided p-value of the hypothesis that the estimand is 0; 1 for an estimate of exactly 0."""
    from scipy.special import ndtr

    if difference == 0:
        return 1.0
    error = standard_error(estimate)
    return float(2 * ndtr(-abs(difference) / error)) if error > 0 else 0.0
