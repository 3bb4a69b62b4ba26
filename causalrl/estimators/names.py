"""The names of causal inference, as thin constructors of the same objects."""

from __future__ import annotations

from typing import Any

from causalrl.checks import flag
from causalrl.errors import EstimandError
from causalrl.estimators.balancing import BalancedMean
from causalrl.estimators.base import label
from causalrl.estimators.direct import DirectMethod
from causalrl.estimators.doubly_robust import DR
from causalrl.estimators.marginal import MIS
from causalrl.estimators.weighting import IS, WIS
from causalrl.nuisances.balance import BalancingWeights
from causalrl.nuisances.behavior import BehaviorLike
from causalrl.nuisances.counts import Counts
from causalrl.nuisances.function_classes import FunctionClass, LinearClass
from causalrl.nuisances.minimax import MinimaxQ
from causalrl.nuisances.minimax_ratio import MinimaxRatio
from causalrl.nuisances.regression import PerAction, Pooled
from causalrl.nuisances.tabular import TabularQ
from causalrl.nuisances.value import ValueModel


def IPW(
    propensity: BehaviorLike | None = None,
    *,
    normalized: bool = True,
    folds: int | None = None,
    weights: BalancingWeights | None = None,
) -> WIS | IS | BalancedMean:
    """Inverse probability weighting: Hajek (`WIS`), or Horvitz-Thompson (`IS`) where `normalized` is False.

    Args:
        propensity: see `WIS`'s behavior. normalized: divide by the sum of the weights. folds: see `WIS`.
        weights: `EntropyBalancing()` or `CBPS()`, which balance the covariates themselves (`BalancedMean`); they take the place
            of propensities.

    Raises:
        EstimandError: for weights together with propensities, folds, or normalized=False.

    Example:
        >>> IPW() == WIS(), IPW(normalized=False) == IS()
        (True, True)
    """
    normalize = flag("normalized", normalized, EstimandError)
    if weights is None:
        return (WIS if normalize else IS)(behavior=propensity, folds=folds)
    given = {"propensity": propensity is not None, "folds": folds is not None, "normalized=False": not normalize}
    for name in (name for name, present in given.items() if present):
        raise EstimandError(f"IPW: weights={label(weights)} balance the covariates in place of propensities; leave out {name}.")
    return BalancedMean(weights)


def RIS(memory: int = 1, *, normalized: bool = False) -> WIS | IS:
    """Regression importance sampling (Hanna, Niekum & Stone 2019): `IS`, or `WIS`, with the behaviour policy counted in the
    same data given the state and the memory - 1 pairs (state, action) before it.

    Args:
        memory: see `Counts`; 1 is Markov, which the paper numbers 0.
        normalized: divide by the sum of the weights.

    Example:
        >>> RIS(3) == IS(behavior=Counts(memory=3)), RIS(normalized=True) == WIS(behavior=Counts())
        (True, True)
    """
    return (WIS if flag("normalized", normalized, EstimandError) else IS)(behavior=Counts(memory=memory))


def AIPW(outcome: ValueModel, propensity: BehaviorLike | None = None, *, folds: int | None = None, repeats: int = 1) -> DR:
    """Augmented inverse probability weighting (Robins, Rotnitzky & Zhao 1994): `DR`.

    Args:
        outcome: value model. propensity: see `DR`'s behavior. folds, repeats: see `DR`.

    Example:
        >>> AIPW(outcome=TabularQ(), folds=2, repeats=3) == DR(q=TabularQ(), folds=2, repeats=3)
        True
    """
    return DR(q=outcome, behavior=propensity, folds=folds, repeats=repeats)


def GFormula(outcome: ValueModel) -> DirectMethod:
    """Standardisation of an outcome model over the covariates (Robins 1986): `DirectMethod`.

    Example:
        >>> GFormula(TabularQ()) == DirectMethod(TabularQ())
        True
    """
    return DirectMethod(outcome)


def SLearner(regressor: Any) -> DirectMethod:
    """One regression with the treatment as a covariate (Kunzel et al. 2019): `DirectMethod(Pooled(regressor))`.

    Example:
        >>> from sklearn.linear_model import LinearRegression
        >>> print(SLearner(LinearRegression()))
        DirectMethod(q=Pooled(regressor=LinearRegression()))
    """
    return DirectMethod(Pooled(regressor))


def TLearner(regressor: Any) -> DirectMethod:
    """One regression an arm (Kunzel et al. 2019): `DirectMethod(PerAction(regressor))`.

    Example:
        >>> from sklearn.linear_model import LinearRegression
        >>> print(TLearner(LinearRegression()))
        DirectMethod(q=PerAction(regressor=LinearRegression()))
    """
    return DirectMethod(PerAction(regressor))


def FQE(q: ValueModel | None = None) -> DirectMethod:
    """Fitted Q-evaluation (Le, Voloshin & Yue 2019): `DirectMethod`.

    Example:
        >>> FQE() == DirectMethod(TabularQ())
        True
    """
    return DirectMethod(TabularQ() if q is None else q)


def MWL(functions: FunctionClass | None = None, discriminator: FunctionClass | None = None, *, ridge: float | None = None) -> MIS:
    """Minimax weight learning (Uehara, Huang & Jiang 2020): `MIS(ratio=MinimaxRatio(...))`, which needs no propensities.

    Args:
        functions, discriminator, ridge: see `MinimaxRatio`; the class is linear by default.

    Example:
        >>> MWL() == MIS(ratio=MinimaxRatio())
        True
    """
    return MIS(ratio=MinimaxRatio(LinearClass() if functions is None else functions, discriminator, ridge))


def MQL(
    functions: FunctionClass | None = None, discriminator: FunctionClass | None = None, *, ridge: float | None = None
) -> DirectMethod:
    """Minimax Q-function learning (Uehara, Huang & Jiang 2020): `DirectMethod(MinimaxQ(...))`.

    Args:
        functions, discriminator, ridge: see `MinimaxQ`; the class is linear by default.

    Example:
        >>> MQL() == DirectMethod(MinimaxQ())
        True
    """
    return DirectMethod(MinimaxQ(LinearClass() if functions is None else functions, discriminator, ridge))
