"""Simulators with a computable truth: each samples trajectories and knows the exact value of every policy."""

from simulators.base import TabularSimulator
from simulators.classic import Chain, Cliff, Gridworld, Hybrid, ModelFail, ModelWin, SinglePath
from simulators.cobs import CobsGraph, CobsGridworld, ToyMountainCar
from simulators.designs import (
    IHDP,
    BinaryInstrument,
    Design,
    KangSchafer,
    Kennedy,
    Kunzel,
    NieWager,
    Point,
    PropensityDesign,
    WorstConfounder,
)
from simulators.environments import TabularEnv, TumourEnv
from simulators.figures import ICU_SEPSIS_LABELS, SEPSIS_LABELS, TUMOUR_LABELS, Labels, plot_trajectory
from simulators.icu_sepsis import ICUSepsis
from simulators.mdp.returns import ReturnDistribution
from simulators.protocol import Simulator
from simulators.scm import FactorWise, GumbelMax, StructuralModel
from simulators.sepsis import NamkoongSepsis, SepsisSimulator
from simulators.tabular import TabularMDP
from simulators.tumour import SimulatedValue, TumourSimulator
from simulators.wrappers import (
    MAR,
    MCAR,
    MNAR,
    Censored,
    Confounded,
    CovariateShift,
    HideVariables,
    Hospitals,
    MeasurementError,
    ThinnedVisits,
)

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
    WorstConfounder,
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
    "NamkoongSepsis",
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
    "WorstConfounder",
    "plot_trajectory",
]
