"""Learning policies from logged data: planning in the count model, and fitted Q-iteration."""

from causalrl.learning.empirical import EmpiricalMDP, PlannedMDP
from causalrl.learning.fitted import FittedQ, FittedQIteration, GreedyPolicy
from causalrl.learning.pseudo_counts import TerminalPseudoCounts

__all__ = ["EmpiricalMDP", "FittedQ", "FittedQIteration", "GreedyPolicy", "PlannedMDP", "TerminalPseudoCounts"]
