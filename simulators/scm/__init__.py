"""Structural causal models of tabular simulators, and counterfactual trajectories."""

from simulators.scm.model import FactorWise, GumbelMax, StructuralModel

__all__ = ["FactorWise", "GumbelMax", "StructuralModel"]
