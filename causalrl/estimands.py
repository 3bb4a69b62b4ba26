"""Estimands: the questions. Discount and horizon belong here, never to an estimator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from causalrl.checks import Floats, check_finite
from causalrl.errors import EstimandError
from causalrl.policies import Always, Policy, PolicyLike, as_policy


@dataclass(frozen=True, eq=False)
class PolicyValue:
    """E[sum over t < horizon of discount^t r_t] when decisions follow the policy; unnormalised, first reward undiscounted.

    Args:
        policy: a policy, or a function `f(observations, time)`.
        discount: in [0, 1].
        horizon: number of steps, or None for the whole process.

    Raises:
        EstimandError: for a discount outside [0, 1] or a horizon below 1.

    Example:
        >>> PolicyValue(Always(1), horizon=20)
        PolicyValue(policy=Always(1), discount=1.0, horizon=20)
    """

    policy: Policy
    discount: float
    horizon: int | None

    def __init__(self, policy: PolicyLike, discount: float = 1.0, horizon: int | None = None) -> None:
        _check_time(discount, horizon)
        object.__setattr__(self, "policy", as_policy(policy))
        object.__setattr__(self, "discount", float(discount))
        object.__setattr__(self, "horizon", None if horizon is None else int(horizon))

    def __repr__(self) -> str:
        return f"PolicyValue(policy={self.policy!s}, discount={self.discount}, horizon={self.horizon})"


@dataclass(frozen=True, eq=False)
class Contrast:
    """Value of a policy less the value of a reference policy, on the same data.

    Example:
        >>> Contrast(Always(1), Always(0)).policy.policy
        Always(action=1, n_actions=None)
    """

    policy: PolicyValue
    reference: PolicyValue

    def __init__(
        self,
        policy: PolicyLike | PolicyValue,
        reference: PolicyLike | PolicyValue,
        discount: float = 1.0,
        horizon: int | None = None,
    ) -> None:
        object.__setattr__(self, "policy", _as_value(policy, discount, horizon))
        object.__setattr__(self, "reference", _as_value(reference, discount, horizon))


@dataclass(frozen=True)
class ATE:
    """Average treatment effect: value of always `treated` less value of always `control`.

    Example:
        >>> ATE().contrast().reference
        PolicyValue(policy=Always(0), discount=1.0, horizon=None)
    """

    treated: int = 1
    control: int = 0
    discount: float = 1.0
    horizon: int | None = None

    def contrast(self) -> Contrast:
        """The same question as a contrast of two arms."""
        return Contrast(Always(self.treated), Always(self.control), self.discount, self.horizon)


@dataclass(frozen=True)
class PopulationEffect(ABC):
    """Base of the effects of one decision in a tilted population: E[h(e) tau(X)] / E[h(e)] with e = P(treated | X).

    With more than two actions it is asked of those who took `treated` or `control`, and e is the probability among these two
    (Li, Morgan & Zaslavsky 2018, "Balancing covariates via propensity score weighting", eq. 2).

    Attributes:
        treated, control: the two arms.
    """

    treated: int = 1
    control: int = 0

    @abstractmethod
    def tilt(self, e: Floats) -> Floats:
        """h(e)."""

    @abstractmethod
    def slope(self, e: Floats) -> Floats:
        """h'(e)."""


@dataclass(frozen=True)
class ATT(PopulationEffect):
    """Average effect of the treatment on the treated: h(e) = e.

    Example:
        >>> ATT().tilt(np.array([0.2]))
        array([0.2])
    """

    def tilt(self, e: Floats) -> Floats:
        return e

    def slope(self, e: Floats) -> Floats:
        return np.ones_like(e)


@dataclass(frozen=True)
class ATC(PopulationEffect):
    """Average effect of the treatment on the controls: h(e) = 1 - e.

    Example:
        >>> ATC().tilt(np.array([0.2]))
        array([0.8])
    """

    def tilt(self, e: Floats) -> Floats:
        return 1 - e

    def slope(self, e: Floats) -> Floats:
        return -np.ones_like(e)


@dataclass(frozen=True)
class ATO(PopulationEffect):
    """Average effect in the overlap population, h(e) = e (1 - e): those whom clinicians treat now one way, now the other.

    Its weights, 1 - e for the treated and e for the controls, are bounded and balance every covariate of a logit exactly.

    Example:
        >>> ATO().tilt(np.array([0.5]))
        array([0.25])
    """

    def tilt(self, e: Floats) -> Floats:
        return e * (1 - e)

    def slope(self, e: Floats) -> Floats:
        return 1 - 2 * e


@dataclass(frozen=True)
class ATM(PopulationEffect):
    """Average effect in the population that one-to-one matching leaves, h(e) = min(e, 1 - e) (Li & Greene 2013).

    Example:
        >>> ATM().tilt(np.array([0.25, 0.75]))
        array([0.25, 0.25])
    """

    def tilt(self, e: Floats) -> Floats:
        return np.minimum(e, 1 - e)

    def slope(self, e: Floats) -> Floats:
        return np.sign(0.5 - e)


@dataclass(frozen=True, eq=False)
class CATE:
    """Conditional average treatment effect at the points `at` (k, d), or (k,) states.

    Raises:
        EstimandError: for points that are neither.

    Example:
        >>> CATE(at=[[0.0, 1.0], [2.0, 3.0]])
        CATE(at=2 points, treated=1, control=0)
    """

    at: NDArray[Any]
    treated: int = 1
    control: int = 0
    names: tuple[str, ...] | None = None

    def __init__(self, at: ArrayLike, treated: int = 1, control: int = 0) -> None:
        names = tuple(map(str, at.columns)) if hasattr(at, "columns") else None
        points = np.asarray(at)
        if points.ndim not in (1, 2) or (points.ndim == 1 and points.dtype.kind not in "iu"):
            raise EstimandError(f"CATE: at has shape {points.shape}; pass covariates (k, d), or integer states (k,).")
        check_finite("CATE at", points, EstimandError)
        object.__setattr__(self, "at", points)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "treated", treated)
        object.__setattr__(self, "control", control)

    def __repr__(self) -> str:
        return f"CATE(at={len(self.at)} points, treated={self.treated}, control={self.control})"


Estimand: TypeAlias = PolicyValue | Contrast | ATE | PopulationEffect | CATE
EstimandLike: TypeAlias = Estimand | PolicyLike


def as_estimand(goal: EstimandLike, discount: float = 1.0, horizon: int | None = None) -> Estimand:
    """The estimand; a bare policy means its value."""
    return goal if isinstance(goal, Estimand) else PolicyValue(goal, discount, horizon)


def _as_value(policy: PolicyLike | PolicyValue, discount: float, horizon: int | None) -> PolicyValue:
    return policy if isinstance(policy, PolicyValue) else PolicyValue(policy, discount, horizon)


def _check_time(discount: float, horizon: int | None) -> None:
    if not isinstance(discount, Real) or not 0 <= discount <= 1:
        raise EstimandError(f"discount: {discount!r} is no number in [0, 1].")
    whole = horizon is None or (isinstance(horizon, Real) and np.isfinite(horizon) and horizon == int(horizon) and horizon >= 1)
    if not whole:
        raise EstimandError(f"horizon: {horizon!r}; a horizon is a whole number of steps, at least 1, or None.")
