"""What goes wrong in a hospital record, to be put around a simulator."""

from simulators.wrappers.cohorts import Censored, CovariateShift
from simulators.wrappers.loggers import Confounded, Hospitals
from simulators.wrappers.records import MAR, MCAR, MNAR, HideVariables, MeasurementError, ThinnedVisits

__all__ = [
    "MAR",
    "MCAR",
    "MNAR",
    "Censored",
    "Confounded",
    "CovariateShift",
    "HideVariables",
    "Hospitals",
    "MeasurementError",
    "ThinnedVisits",
]
