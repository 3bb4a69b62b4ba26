"""Learners of heterogeneous effects: X (Kunzel et al. 2019), R (Nie & Wager 2021) and DR (Kennedy 2023).

Each turns an outcome model, a propensity and a regressor of the effect into tau(x) = E[Y(treated) - Y(control) | X = x]. With
more than two arms they learn from the units of these two, and e(x) is the probability of `treated` among these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats
from causalrl.errors import EstimandError, SupportError
from causalrl.estimators.base import in_sample
from causalrl.estimators.meta_learners import Learned, MetaLearner, OrthogonalLearner, Scores
from causalrl.estimators.second_stage import check_regressor, regress, weights_parameter
from causalrl.estimators.two_arms import (
    arm_means,
    as_outcome_model,
    is_treatment_regression,
    regression_note,
    treatment_mean,
    treatment_mean_at,
)
from causalrl.kernels.rng import derive_seed
from causalrl.nuisances.crossfit import Nuisances
from causalrl.nuisances.records import FittedBehavior


@dataclass(frozen=True)
class DRLearner(OrthogonalLearner):
    """Doubly robust learner: a regression of the AIPW score on the covariates (Kennedy 2023, algorithm 1).

    The score is mu_1(x) - mu_0(x) + (A - e(x)) / (e(x) (1 - e(x))) (Y - mu_A(x)), outcome and propensity cross-fitted. Its error
    from the nuisances is the product of theirs. With `effect=LinearRegression()`, alone or behind preprocessing of covariates,
    the interval is Wald's from the cluster-robust sandwich of that regression (for the best linear approximation of the effect);
    like that of `AIPW` it needs right propensities. Other regressors have one on request, `RefitBootstrap(200)`.

    Args:
        outcome: value model, for example `PerAction(LinearRegression())`; a regressor means one an arm.
        propensity: behaviour model; None is the logged propensities where the data have them, else Counts() on states, Logit() on
            vectors.
        effect: an unfitted regressor of the score.
        folds: cross-fitting folds by cluster; None is each learner's default, 1 for parametric ones, else 5.

    Raises:
        EstimandError: for what is no such object; from `estimate`, for sequences, or points with other columns.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> from sklearn.linear_model import LinearRegression
        >>> from simulators import Point
        >>> learner = crl.DRLearner(crl.PerAction(LinearRegression()), crl.Logit(), effect=LinearRegression())
        >>> effect = learner.estimate(Point(p=2).sample(2000), crl.CATE(at=[[0.0, 0.0], [0.0, 1.0]]))  # truly 1 and 2
        >>> effect.value.round(1), effect.stderr.round(1)
        (array([1., 2.]), array([0.1, 0.1]))
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "outcome", as_outcome_model(self.outcome))
        if is_treatment_regression(self.propensity):
            raise EstimandError(
                f"propensity: {self.propensity} gives no probabilities, by which DRLearner divides; pass Logit() or a classifier."
            )

    def scores(self, nuisances: Nuisances) -> Scores:
        data, behavior = nuisances.data, nuisances.behavior(self.propensity, self.folds, None)
        control, treated, notes, folds = arm_means(nuisances, self.outcome, self.folds)
        arm = data.actions == 1
        residual = (data.rewards - np.where(arm, treated, control)) / behavior.logged
        slope = np.where(arm, residual, -residual)
        notes = [*behavior.notes, *notes, *in_sample(self.outcome, folds, "corrects")]
        notes += in_sample(behavior.model, len(behavior.folds), "gives propensities for")
        return Scores(treated - control + slope, None, behavior, slope, notes, (len(behavior.folds), folds))


@dataclass(frozen=True)
class RLearner(OrthogonalLearner):
    """Residual learner (Nie & Wager 2021, eq. 4): minimises sum of (A - e)^2 [(Y - m) / (A - e) - tau(x)]^2.

    m(x) = E[Y | X = x] and e(x) are cross-fitted; the squares (A - e)^2 are the `sample_weight` of the effect's regression, and
    a unit with e = A exactly takes no part. With `effect=LinearRegression()`, alone or behind preprocessing of the covariates,
    the interval is Wald's, as for `DRLearner`, with the fit of the propensities stacked in where they have a correction; m is
    taken as given, which costs nothing to first order where the propensities are right. Other regressors have an interval on
    request, `RefitBootstrap(200)`.

    Args:
        outcome: a regressor of the outcome on the covariates, whatever the arm.
        propensity: behaviour model, as in `DRLearner`; or a regressor of the treatment, whose predictions are used as they are,
            outside [0, 1] too.
        effect: an unfitted regressor that takes sample_weight.
        folds: cross-fitting folds by cluster; None is each learner's default, 1 for linear ones, else 5.

    Raises:
        EstimandError: for what is no such object; from `estimate`, for sequences, or points with other columns.
        SupportError: from `estimate`, where e = A for all units.

    Example:
        >>> import numpy as np, causalrl as crl
        >>> from sklearn.linear_model import LinearRegression
        >>> from simulators import NieWager
        >>> learner = crl.RLearner(LinearRegression(), effect=LinearRegression())
        >>> effect = learner.estimate(NieWager("C").sample(2000), crl.CATE(at=np.zeros((1, 6))))  # truly 1 everywhere
        >>> 1.0 in effect.interval(0.99)
        True
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_regressor("outcome", self.outcome)
        weights_parameter(self.effect)

    def scores(self, nuisances: Nuisances) -> Scores:
        data = nuisances.data
        mean = nuisances.outcome_mean(self.outcome, self.folds)
        e, notes, count = treatment_mean(nuisances, self.propensity, self.folds)
        left = data.actions - e
        if not (left != 0).any():
            raise SupportError("propensity: it equals the treatment of every unit, so that no unit shows an effect.")
        targets = np.divide(data.rewards - mean.values, left, out=np.zeros(data.n), where=left != 0)
        notes = [*notes, *mean.notes, *regression_note(self.outcome, mean.folds)]
        behavior, slope, effect_slope = self._propensity_slopes(nuisances, data.rewards - mean.values, left)
        return Scores(targets, left**2, behavior, slope, notes, (count, mean.folds), effect_slope)

    def _propensity_slopes(
        self, nuisances: Nuisances, residual: Floats, left: Floats
    ) -> tuple[FittedBehavior | None, Floats | None, Floats | float]:
        """Those of `Scores`: the derivative of (A - e)(Y - m) - (A - e)^2 tau in e is 2 (A - e) tau - (Y - m)."""
        if is_treatment_regression(self.propensity):
            return None, None, 0.0
        behavior = nuisances.behavior(self.propensity, self.folds, None)
        safe = np.where(left != 0, left, np.inf)
        return behavior, -residual * behavior.treated_slope / safe**2, 2 * behavior.treated_slope / safe


@dataclass(frozen=True)
class XLearner(MetaLearner):
    """X-learner (Kunzel et al. 2019): tau(x) = e(x) tau_0(x) + (1 - e(x)) tau_1(x).

    tau_1 is a regression of Y - mu_0(x) on the treated, tau_0 one of mu_1(x) - Y on the controls: each arm's outcome model
    imputes what the units of the other arm would have had. It has an interval on request, `RefitBootstrap(200)`.

    Args:
        outcome: a regressor, fitted to each arm, or a value model.
        propensity: behaviour model that is known at any covariates, such as Logit(); or a regressor of the treatment, whose
            predictions are used as they are, outside [0, 1] too. None is the logged propensities, which are known at the logged
            units alone, where the data have them.
        effect: an unfitted regressor, fitted to each arm.

    Raises:
        EstimandError: for what is no such object; from `estimate`, for sequences, or points with other columns.

    Example:
        >>> import causalrl as crl
        >>> from sklearn.linear_model import LinearRegression
        >>> from simulators import Point
        >>> learner = crl.XLearner(LinearRegression(), crl.Logit(), effect=LinearRegression())
        >>> learner.estimate(Point(p=2).sample(2000), crl.CATE(at=[[0.0, 0.0], [0.0, 1.0]])).value.round(1)  # truly 1 and 2
        array([1., 2.])
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "outcome", as_outcome_model(self.outcome))

    def _learn(self, nuisances: Nuisances, at: NDArray[Any]) -> Learned:
        data = nuisances.data
        control, treated, notes, folds = arm_means(nuisances, self.outcome, 1)
        features, points, arm = data.features(data.observations), data.features(at), data.actions == 1
        e, noted, count = treatment_mean_at(nuisances, self.propensity, at)
        imputed = {1: (arm, data.rewards - control), 0: (~arm, treated - data.rewards)}
        value, notes = np.zeros(len(points)), [*noted, *notes]
        for a, (mine, effects) in imputed.items():
            copies = None if nuisances.weights is None else nuisances.weights[mine]
            seed = derive_seed(nuisances.seed, "effect", a)
            fit, own = regress(self.effect, features[mine], effects[mine], seed, copies)
            value += (1 - e if a else e) * np.asarray(fit.predict(points), np.float64).reshape(-1)
            notes += own
        return Learned(value, notes, (count, folds))
