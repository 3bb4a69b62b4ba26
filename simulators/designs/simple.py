"""Single-stage designs with known truth: `Point`, `KangSchafer`, `Kennedy` and `BinaryInstrument`.

`nie_wager.py`, `kunzel.py` and `ihdp.py` hold the families; `base.py` says what all of them share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from causalrl.checks import Floats, number, whole_number
from causalrl.data import Trajectories
from causalrl.errors import DataError
from simulators.checks import LARGEST_REWARD, MOST_TRAJECTORIES
from simulators.designs.base import MOST_COVARIATES, Design, PropensityDesign, numbered
from simulators.designs.quadrature import normal_nodes

_INTERCEPT = 210.0
_SLOPES = np.array([27.4, 13.7, 13.7, 13.7])
_LOGIT = np.array([-1.0, 0.5, -0.25, -0.1])


@dataclass(frozen=True)
class Point(PropensityDesign):
    """The package's standard point-treatment problem: ATE 1, effects from 1 + x2, confounding through x1.

    X ~ N(0, I_p), e(x) = expit(x1), Y = T (1 + x2) + x1 + N(0, 1).

    Args:
        p: number of covariates, at least 2.

    Raises:
        DataError: for p below 2.

    Example:
        >>> import causalrl as crl
        >>> study = Point().sample(2000, seed=0)
        >>> estimate = crl.IPW(crl.Logit(), normalized=False).estimate(study, crl.ATE())
        >>> round(estimate.value, 4), Point().ate
        (0.9588, 1.0)
    """

    p: int = 10

    def __post_init__(self) -> None:
        whole_number("p", self.p, 2, most=MOST_COVARIATES)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """x1 to xp."""
        return numbered("x", self.p)

    @property
    def arm_means(self) -> Floats:
        """(0, 1)."""
        return np.array([0.0, 1.0])

    def _covariates(self, n: int, rng: np.random.Generator) -> Floats:
        return rng.normal(size=(n, self.p))

    def _propensity(self, X: Floats) -> Floats:
        return np.asarray(expit(X[:, 0]))

    def _means(self, X: Floats) -> Floats:
        return np.column_stack([X[:, 0], X[:, 0] + (1 + X[:, 1])])


@dataclass(frozen=True)
class KangSchafer(PropensityDesign):
    """A mean of outcomes missing at random: PolicyValue(Always(1)) = 210, where the observed mean is 200.

    Z ~ N(0, I_4), Y = 210 + 27.4 z1 + 13.7 (z2 + z3 + z4) + N(0, 1), observed (R = 1) with probability
    expit(-z1 + z2/2 - z3/4 - z4/10). Treatment is R; the outcome of arm 0, where Y is missing, is 0: the target is the
    value of `Always(1)`, and `ate` and `effect` have no other meaning.

    The record holds both sets of covariates of the paper, of which a model takes its own: the right ones, z1 to z4, and
    those that the analyst sees, x1 = exp(z1/2), x2 = z2 / (1 + exp(z1)) + 10, x3 = (z1 z3 / 25 + 0.6)^3,
    x4 = (z2 + z4 + 20)^2, in which a linear model is wrong.

    Source: Kang & Schafer, Demystifying double robustness, Statistical Science 22:523, 2007.

    Example:
        >>> import causalrl as crl
        >>> design = KangSchafer()
        >>> study = design.sample(1000, seed=1)
        >>> right = crl.IPW(crl.Logit("z1 + z2 + z3 + z4")).estimate(study, crl.Always(1))
        >>> abs(right.value - design.value(crl.Always(1))) < 4 * right.stderr
        True
    """

    @property
    def feature_names(self) -> tuple[str, ...]:
        """z1 to z4, x1 to x4."""
        return numbered("z", 4) + numbered("x", 4)

    @property
    def arm_means(self) -> Floats:
        """(0, 210)."""
        return np.array([0.0, _INTERCEPT])

    @property
    def observed_mean(self) -> float:
        """E[Y | R = 1] = 199.9979, the 200 of the paper."""
        return _INTERCEPT + _selection()

    @property
    def missing_mean(self) -> float:
        """E[Y | R = 0] = 220.0021, the 220 of the paper."""
        return _INTERCEPT - _selection()

    def _covariates(self, n: int, rng: np.random.Generator) -> Floats:
        Z = rng.normal(size=(n, 4))
        z1, z2, z3, z4 = Z.T
        seen = [np.exp(z1 / 2), z2 / (1 + np.exp(z1)) + 10, (z1 * z3 / 25 + 0.6) ** 3, (z2 + z4 + 20) ** 2]
        return np.column_stack([Z, *seen])

    def _propensity(self, X: Floats) -> Floats:
        return np.asarray(expit(X[:, :4] @ _LOGIT))

    def _means(self, X: Floats) -> Floats:
        return np.column_stack([np.zeros(len(X)), _INTERCEPT + X[:, :4] @ _SLOPES])

    def _sd(self, X: Floats) -> Floats:
        return np.tile([0.0, 1.0], (len(X), 1))


def _selection() -> float:
    """E[Y | R = 1] - E[Y] = slopes'logit E[expit'(logit'Z)] / P(R = 1) by Stein's lemma, and P(R = 1) = 1/2."""
    nodes, weights = normal_nodes()
    response = expit(np.linalg.norm(_LOGIT) * nodes)
    return float(2 * (_SLOPES @ _LOGIT) * (weights @ (response * (1 - response))))


@dataclass(frozen=True)
class Kennedy(PropensityDesign):
    """One covariate, no effect, a rough outcome and a propensity that jumps: where the errors of a T-learner do not cancel.

    X ~ U[-1, 1], e(x) = 0.1 + 0.8 (x > 0), mu0 = mu1 = (x + 2)^2/2 up to -1/2, then x/2 + 7/8 up to 0, then
    1.075 - 5 (x - 1/5)^2 up to 1/2, then x + 1/8; noise N(0, s(x)^2) with s(x) = 0.2 - 0.1 cos(2 pi x).

    Source: Kennedy, Towards optimal doubly robust estimation of heterogeneous causal effects, EJS 17:3008, 2023.

    Example:
        >>> Kennedy().arm_means
        array([0.84375, 0.84375])
        >>> Kennedy().propensity([[-0.5], [0.5]])
        array([0.1, 0.9])
    """

    @property
    def feature_names(self) -> tuple[str, ...]:
        """x1."""
        return ("x1",)

    @property
    def arm_means(self) -> Floats:
        """(27/32, 27/32): the integrals of the four pieces are 19/48, 3/8, 23/48 and 7/16, and the density is 1/2."""
        return np.full(2, 27 / 32)

    def _covariates(self, n: int, rng: np.random.Generator) -> Floats:
        return rng.uniform(-1, 1, (n, 1))

    def _propensity(self, X: Floats) -> Floats:
        return np.where(X[:, 0] > 0, 0.9, 0.1)

    def _means(self, X: Floats) -> Floats:
        x = X[:, 0]
        pieces = [(x + 2) ** 2 / 2, x / 2 + 0.875, 1.075 - 5 * (x - 0.2) ** 2]
        mean = np.select([x <= -0.5, x <= 0, x <= 0.5], pieces, x + 0.125)
        return np.column_stack([mean, mean])

    def _sd(self, X: Floats) -> Floats:
        sd = 0.2 - 0.1 * np.cos(2 * np.pi * X[:, 0])
        return np.column_stack([sd, sd])


@dataclass(frozen=True)
class BinaryInstrument(Design):
    """A confounded treatment with a randomised binary instrument: imperfect compliance with an assigned treatment.

    X ~ N(0, 1), instrument Z ~ Bernoulli(1/2), hidden U ~ Uniform(0, 1). The unit takes the treatment if U is below a
    threshold that Z raises from `always_takers` to 1 - `never_takers`, so nobody defies. With the hidden inclination
    V = 1 - 2 U and D the treatment taken,

        Y = x + confounding V + D (1 + x/2 + V) + N(0, 1).

    Z enters Y through D alone. The instrument is the second observation column. The record keeps no propensity: given X
    the treatment is confounded by V (even at confounding 0, where the effect still varies with V).

    Source: Imbens & Angrist, Econometrica 62:467, 1994; Vytlacil, Econometrica 70:331, 2002 (the threshold form).

    Args:
        always_takers, never_takers: shares that do not comply; they leave some compliers.
        confounding: slope of both potential outcomes in V.

    Raises:
        DataError: for a negative share, shares that leave no complier, a confounding that is no number.

    Example:
        >>> design = BinaryInstrument()
        >>> round(design.late, 12), design.ate
        (1.3, 1.0)
        >>> study = design.sample(40_000)
        >>> assigned = study.observations[:, 1] == 1
        >>> gains = [values[assigned].mean() - values[~assigned].mean() for values in (study.rewards, study.actions)]
        >>> bool(abs(gains[0] / gains[1] - design.late) < 0.2)
        True
    """

    always_takers: float = 0.1
    never_takers: float = 0.4
    confounding: float = 1.0

    def __post_init__(self) -> None:
        compliers = 1.0
        for name in ("always_takers", "never_takers"):
            share = number(name, getattr(self, name), 0, 1)
            compliers -= share
            if compliers <= 0:
                raise DataError(f"{name}: {share} leaves no complier; keep always_takers + never_takers below 1.")
        number("confounding", self.confounding, -LARGEST_REWARD, LARGEST_REWARD)

    @property
    def compliers(self) -> float:
        """Share of units that take the treatment exactly if Z = 1, the effect of Z on the treatment."""
        return 1 - self.always_takers - self.never_takers

    @property
    def feature_names(self) -> tuple[str, ...]:
        """x1 and the instrument."""
        return ("x1", "instrument")

    @property
    def arm_means(self) -> Floats:
        """(0, 1)."""
        return np.array([0.0, 1.0])

    @property
    def late(self) -> float:
        """Local average treatment effect E[Y(1) - Y(0) | complier] = 1 + never_takers - always_takers.

        It is the Wald estimand (E[Y|Z=1] - E[Y|Z=0]) / (E[D|Z=1] - E[D|Z=0]); 2 U of a complier averages
        always_takers + 1 - never_takers.
        """
        return 1 + self.never_takers - self.always_takers

    def sample(self, n: int, seed: int = 0) -> Trajectories:
        """See `Design.sample`."""
        rng = np.random.default_rng(whole_number("seed", seed, 0))
        x, hidden = rng.normal(size=whole_number("n", n, 2, most=MOST_TRAJECTORIES)), rng.random(n)
        instrument = rng.binomial(1, 0.5, n)
        X = np.column_stack([x, instrument])
        taken = (hidden < np.where(instrument == 1, 1 - self.never_takers, self.always_takers)).astype(np.int64)
        inclination = 1 - 2 * hidden
        mean = self._means(X)[np.arange(n), taken] + (self.confounding + taken) * inclination
        return Trajectories.from_cross_section(X, taken, mean + rng.normal(size=n), feature_names=self.feature_names)

    def _means(self, X: Floats) -> Floats:
        return np.column_stack([X[:, 0], 1 + 1.5 * X[:, 0]])
