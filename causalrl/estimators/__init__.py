"""Estimators; `ALL` is the one registry that contract tests, benchmarks and docs run over."""

from causalrl.estimators.base import Estimator
from causalrl.estimators.direct import DirectMethod
from causalrl.estimators.doubly_robust import DR, WDR
from causalrl.estimators.magic import MAGIC
from causalrl.estimators.marginal import DRL, MIS
from causalrl.estimators.weighting import IS, PDIS, PDWIS, WIS, OnPolicyMean

ALL: tuple[type[Estimator], ...] = (
    OnPolicyMean,
    IS,
    WIS,
    PDIS,
    PDWIS,
    DirectMethod,
    DR,
    WDR,
    MAGIC,
    MIS,
    DRL,
)
