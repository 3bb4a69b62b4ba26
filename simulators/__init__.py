"""Simulators with a computable truth: each samples trajectories and knows the exact value of every policy."""

from simulators.base import TabularSimulator
from simulators.classic import Chain, Cliff, Gridworld, Hybrid, ModelFail, ModelWin, SinglePath
from simulators.cobs import CobsGraph, CobsGridworld, ToyMountainCar
from simulators.corruptions import MAR, MCAR, MNAR, MeasurementError, ThinnedVisits
from simulators.design_base import Design, PropensityDesign
from simulators.designs import BinaryInstrument, KangSchafer, Kennedy, Point
from simulators.environments import TabularEnv, TumourEnv
from simulators.figures import ICU_SEPSIS_LABELS, SEPSIS_LABELS, TUMOUR_LABELS, Labels, plot_trajectory
from simulators.icu_sepsis import ICUSepsis
from simulators.ihdp import IHDP
from simulators.kunzel import Kunzel
from simulators.nie_wager import NieWager
from simulators.protocol import Simulator
from simulators.returns import ReturnDistribution
from simulators.scm import FactorWise, GumbelMax, StructuralModel
from simulators.sepsis import SepsisSimulator
from simulators.tabular import TabularMDP
from simulators.tumour import SimulatedValue, TumourSimulator
from simulators.wrappers import Censored, Confounded, CovariateShift, HideVariables, Hospitals

ALL = (
    SepsisSimulator,
    ICUSepsis,
    ModelFail,
    ModelWin,
    Hybrid,
    Gridworld,
    SinglePath,
    Cliff,
    Chain,
    CobsGraph,
    CobsGridworld,
    ToyMountainCar,
    TumourSimulator,
    Point,
    KangSchafer,
    NieWager,
    Kunzel,
    Kennedy,
    IHDP,
    BinaryInstrument,
)
"""Every simulator, each with the settings of its paper; tests and documents run over it."""

__all__ = [
    "ALL",
    "ICU_SEPSIS_LABELS",
    "IHDP",
    "MAR",
    "MCAR",
    "MNAR",
    "SEPSIS_LABELS",
    "TUMOUR_LABELS",
    "BinaryInstrument",
    "Censored",
    "Chain",
    "Cliff",
    "CobsGraph",
    "CobsGridworld",
    "Confounded",
    "CovariateShift",
    "Design",
    "FactorWise",
    "Gridworld",
    "GumbelMax",
    "HideVariables",
    "Hospitals",
    "Hybrid",
    "ICUSepsis",
    "KangSchafer",
    "Kennedy",
    "Kunzel",
    "Labels",
    "MeasurementError",
    "ModelFail",
    "ModelWin",
    "NieWager",
    "Point",
    "PropensityDesign",
    "ReturnDistribution",
    "SepsisSimulator",
    "SimulatedValue",
    "Simulator",
    "SinglePath",
    "StructuralModel",
    "TabularEnv",
    "TabularMDP",
    "TabularSimulator",
    "ThinnedVisits",
    "ToyMountainCar",
    "TumourEnv",
    "TumourSimulator",
    "plot_trajectory",
]
