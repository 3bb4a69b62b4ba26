"""The sepsis simulator of Oberst & Sontag (2019), and the confounded study that Namkoong et al. (2020) made of it."""

from simulators.sepsis.confounded import NamkoongSepsis
from simulators.sepsis.simulator import SepsisSimulator

__all__ = ["NamkoongSepsis", "SepsisSimulator"]
