"""Simulators with a computable truth: each samples trajectories and knows the exact value of every policy."""

from simulators.corruptions import MAR, MCAR, MNAR, MeasurementError, ThinnedVisits
from simulators.icu_sepsis import ICUSepsis
from simulators.protocol import Simulator
from simulators.returns import ReturnDistribution
from simulators.scm import FactorWise, GumbelMax, StructuralModel
from simulators.sepsis import SepsisSimulator
from simulators.tabular import TabularMDP
from simulators.wrappers import Censored, Confounded, CovariateShift, HideVariables, Hospitals

__all__ = [
    "MAR",
    "MCAR",
    "MNAR",
    "Censored",
    "Confounded",
    "CovariateShift",
    "FactorWise",
    "GumbelMax",
    "HideVariables",
    "Hospitals",
    "ICUSepsis",
    "MeasurementError",
    "ReturnDistribution",
    "SepsisSimulator",
    "Simulator",
    "StructuralModel",
    "TabularMDP",
    "ThinnedVisits",
]
