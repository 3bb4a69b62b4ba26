"""Simulators with a computable truth: each samples trajectories and knows the exact value of every policy."""

from simulators.base import Simulator
from simulators.icu_sepsis import ICUSepsis
from simulators.sepsis import SepsisSimulator
from simulators.tabular import TabularMDP

__all__ = ["ICUSepsis", "SepsisSimulator", "Simulator", "TabularMDP"]
