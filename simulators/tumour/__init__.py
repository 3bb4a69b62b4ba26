"""Tumour growth under chemo- and radiotherapy (Geng et al. 2017)."""

from simulators.tumour.simulator import SimulatedValue, TumourSimulator

__all__ = ["SimulatedValue", "TumourSimulator"]
