"""The sepsis simulator of Oberst & Sontag (2019)."""

from simulators.sepsis.simulator import SepsisSimulator

__all__ = ["SepsisSimulator"]
