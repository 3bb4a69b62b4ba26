"""Learning policies from logged data: planning in the count model, fitted Q-iteration, policy trees, and d3rlpy's algorithms."""

from causalrl.learning.deep import DeepLearner, TrainedNetwork
from causalrl.learning.empirical import EmpiricalMDP, PlannedMDP
from causalrl.learning.fitted import FittedQ, FittedQIteration, GreedyPolicy
from causalrl.learning.policy_tree import Leaf, PolicyTree, Split, TreePolicy, honest_value
from causalrl.learning.pseudo_counts import TerminalPseudoCounts

__all__ = [
    "DeepLearner",
    "EmpiricalMDP",
    "FittedQ",
    "FittedQIteration",
    "GreedyPolicy",
    "Leaf",
    "PlannedMDP",
    "PolicyTree",
    "Split",
    "TerminalPseudoCounts",
    "TrainedNetwork",
    "TreePolicy",
    "honest_value",
]
