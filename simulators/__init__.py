"""Simulators with a computable truth: each samples trajectories and knows the exact value of every policy."""

from simulators.corruptions import MAR, MCAR, MNAR, MeasurementError, ThinnedVisits
from simulators.icu_sepsis import ICUSepsis
from simulators.protocol import Simulator
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
    "HideVariables",
    "Hospitals",
    "ICUSepsis",
    "MeasurementError",
    "SepsisSimulator",
    "Simulator",
    "TabularMDP",
    "ThinnedVisits",
]
