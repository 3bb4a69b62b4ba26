"""causalrl: causal inference and off-policy evaluation of treatment policies on one interface."""

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "data": ["End", "Trajectories"],
    "derived_policies": ["Mixture", "NaturalCourse", "Softened", "TiltedPropensity"],
    "policies": ["Always", "ClassifierPolicy", "Policy", "TabularPolicy", "Uniform"],
    "estimands": ["ATC", "ATE", "ATM", "ATO", "ATT", "CATE", "Contrast", "PolicyValue"],
    "estimate": ["Estimate"],
    "inference.base": ["Interval"],
    "inference.wald": ["RefitWald", "Wald"],
    "inference.bootstrap": [
        "BCaBootstrap",
        "BayesianBootstrap",
        "PercentileBootstrap",
        "PoissonBootstrap",
        "RefitBootstrap",
        "StudentizedBootstrap",
    ],
    "inference.multiplier": ["MultiplierBootstrap"],
    "inference.concentration": ["EmpiricalBernstein", "Hoeffding", "StudentT"],
    "inference.bands": ["Bands", "simultaneous"],
    "nuisances.balance": ["CBPS", "EntropyBalancing"],
    "nuisances.behavior": ["KnownPropensity", "Logged"],
    "nuisances.calibrated": ["Calibrated"],
    "nuisances.counts": ["Counts"],
    "nuisances.logit": ["Logit"],
    "nuisances.value": ["KnownQ"],
    "nuisances.ratio": ["CumulativeWeights", "KnownRatio"],
    "nuisances.marginal_linear": ["LinearRatio"],
    "nuisances.marginal_tabular": ["TabularRatio"],
    "nuisances.tabular": ["ConstantValue", "StateMean", "TabularQ"],
    "nuisances.formula_q": ["FormulaQ"],
    "nuisances.linear": ["LinearQ"],
    "nuisances.function_classes": ["LinearClass"],
    "nuisances.kernel_class": ["KernelClass"],
    "nuisances.minimax": ["MinimaxQ"],
    "nuisances.minimax_ratio": ["MinimaxRatio"],
    "nuisances.model": ["Absorb"],
    "nuisances.model_based": ["ModelBased"],
    "nuisances.neural": ["NeuralQ"],
    "nuisances.regression": ["PerAction", "Pooled"],
    "nuisances.treatment_models": ["NormalDensity"],
    "estimators": ["ALL"],
    "estimators.base": ["Estimator"],
    "estimators.balancing": ["BalancedMean"],
    "estimators.weighting": ["IS", "PDIS", "PDWIS", "WIS", "OnPolicyMean"],
    "estimators.direct": ["DirectMethod"],
    "estimators.doubly_robust": ["DR", "WDR"],
    "estimators.heterogeneous": ["DRLearner", "RLearner", "XLearner"],
    "estimators.magic": ["MAGIC"],
    "estimators.marginal": ["DRL", "MIS"],
    "estimators.g_estimation": ["GEstimation"],
    "estimators.marginal_structural": ["MSM", "Identity", "LogitLink"],
    "estimators.names": ["AIPW", "FQE", "GFormula", "IPW", "MQL", "MWL", "RIS", "SLearner", "TLearner"],
    "estimators.partially_linear": ["PLR"],
    "estimators.targeted": ["TMLE"],
    "estimators.two_stage": ["TwoStage"],
    "heterogeneity.scores": ["DoublyRobustScores", "doubly_robust_scores"],
    "heterogeneity.summaries": ["best_linear_projection", "effect_calibration", "sorted_group_effects", "subgroup_effects"],
    "heterogeneity.targeting": ["TargetingCurve", "targeting_curve"],
    "checkup": ["Checkup", "check"],
    "diagnostics.influence": ["Influential", "most_influential"],
    "identification": ["AdjustmentSet", "Instruments", "adjustment_set", "instruments"],
    "refutation.base": ["Refutation", "Refuter", "refute"],
    "refutation.common_cause": ["RandomCommonCause"],
    "refutation.outcomes": ["DummyOutcome", "NegativeControlOutcome"],
    "refutation.placebo": ["PlaceboTreatment"],
    "refutation.resamples": ["BootstrapData", "DataSubset"],
    "sensitivity.base": ["SensitivityAnalysis", "SensitivityModel", "design_sensitivity", "sensitivity_analysis"],
    "sensitivity.bias_bounds": ["RegressionCoefficient"],
    "sensitivity.e_value": ["EValue", "RiskRatio"],
    "sensitivity.marginal": ["MarginalModel"],
    "sensitivity.omitted_variable": ["OmittedVariable"],
    "sensitivity.pairs": ["matched_pairs"],
    "sensitivity.rosenbaum": ["RosenbaumBounds", "SignTest", "SignedRank"],
    "sensitivity.policies": ["NaiveModel", "NamkoongModel"],
    "selection.estimators": ["Selection", "SelectionRule", "select_estimator"],
    "selection.metrics": ["best_at_k", "rank_correlation", "regret_at_k", "sharpe_ratio_at_k", "worst_at_k"],
    "selection.policies": ["Ranking", "rank_policies"],
    "selection.rules": ["BootstrapMSE", "SimulatorCheck", "Slope"],
    "evaluation": ["Evaluation", "evaluate"],
    "replication": ["Replication", "replicate"],
    "report.diagnostic_plots": ["calibration_plot", "influence_plot", "love_plot", "overlap_plot", "weight_plot"],
    "adapters.d3rlpy": ["D3RLPolicy", "from_d3rlpy", "to_d3rlpy"],
    "adapters.econml": ["FromEconML"],
    "adapters.gymnasium": ["collect"],
    "adapters.minari": ["from_minari"],
}
_MODULES = ("datasets", "errors", "learning")
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = [*_HOME, *_MODULES]

if TYPE_CHECKING:
    from causalrl import datasets as datasets
    from causalrl import errors as errors
    from causalrl import learning as learning
    from causalrl.adapters.d3rlpy import D3RLPolicy as D3RLPolicy
    from causalrl.adapters.d3rlpy import from_d3rlpy as from_d3rlpy
    from causalrl.adapters.d3rlpy import to_d3rlpy as to_d3rlpy
    from causalrl.adapters.econml import FromEconML as FromEconML
    from causalrl.adapters.gymnasium import collect as collect
    from causalrl.adapters.minari import from_minari as from_minari
    from causalrl.checkup import Checkup as Checkup
    from causalrl.checkup import check as check
    from causalrl.data import End as End
    from causalrl.data import Trajectories as Trajectories
    from causalrl.derived_policies import Mixture as Mixture
    from causalrl.derived_policies import NaturalCourse as NaturalCourse
    from causalrl.derived_policies import Softened as Softened
    from causalrl.derived_policies import TiltedPropensity as TiltedPropensity
    from causalrl.diagnostics.influence import Influential as Influential
    from causalrl.diagnostics.influence import most_influential as most_influential
    from causalrl.estimands import ATC as ATC
    from causalrl.estimands import ATE as ATE
    from causalrl.estimands import ATM as ATM
    from causalrl.estimands import ATO as ATO
    from causalrl.estimands import ATT as ATT
    from causalrl.estimands import CATE as CATE
    from causalrl.estimands import Contrast as Contrast
    from causalrl.estimands import PolicyValue as PolicyValue
    from causalrl.estimate import Estimate as Estimate
    from causalrl.estimators import ALL as ALL
    from causalrl.estimators.balancing import BalancedMean as BalancedMean
    from causalrl.estimators.base import Estimator as Estimator
    from causalrl.estimators.direct import DirectMethod as DirectMethod
    from causalrl.estimators.doubly_robust import DR as DR
    from causalrl.estimators.doubly_robust import WDR as WDR
    from causalrl.estimators.g_estimation import GEstimation as GEstimation
    from causalrl.estimators.heterogeneous import DRLearner as DRLearner
    from causalrl.estimators.heterogeneous import RLearner as RLearner
    from causalrl.estimators.heterogeneous import XLearner as XLearner
    from causalrl.estimators.magic import MAGIC as MAGIC
    from causalrl.estimators.marginal import DRL as DRL
    from causalrl.estimators.marginal import MIS as MIS
    from causalrl.estimators.marginal_structural import MSM as MSM
    from causalrl.estimators.marginal_structural import Identity as Identity
    from causalrl.estimators.marginal_structural import LogitLink as LogitLink
    from causalrl.estimators.names import AIPW as AIPW
    from causalrl.estimators.names import FQE as FQE
    from causalrl.estimators.names import IPW as IPW
    from causalrl.estimators.names import MQL as MQL
    from causalrl.estimators.names import MWL as MWL
    from causalrl.estimators.names import RIS as RIS
    from causalrl.estimators.names import GFormula as GFormula
    from causalrl.estimators.names import SLearner as SLearner
    from causalrl.estimators.names import TLearner as TLearner
    from causalrl.estimators.partially_linear import PLR as PLR
    from causalrl.estimators.targeted import TMLE as TMLE
    from causalrl.estimators.two_stage import TwoStage as TwoStage
    from causalrl.estimators.weighting import IS as IS
    from causalrl.estimators.weighting import PDIS as PDIS
    from causalrl.estimators.weighting import PDWIS as PDWIS
    from causalrl.estimators.weighting import WIS as WIS
    from causalrl.estimators.weighting import OnPolicyMean as OnPolicyMean
    from causalrl.evaluation import Evaluation as Evaluation
    from causalrl.evaluation import evaluate as evaluate
    from causalrl.heterogeneity.scores import DoublyRobustScores as DoublyRobustScores
    from causalrl.heterogeneity.scores import doubly_robust_scores as doubly_robust_scores
    from causalrl.heterogeneity.summaries import best_linear_projection as best_linear_projection
    from causalrl.heterogeneity.summaries import effect_calibration as effect_calibration
    from causalrl.heterogeneity.summaries import sorted_group_effects as sorted_group_effects
    from causalrl.heterogeneity.summaries import subgroup_effects as subgroup_effects
    from causalrl.heterogeneity.targeting import TargetingCurve as TargetingCurve
    from causalrl.heterogeneity.targeting import targeting_curve as targeting_curve
    from causalrl.identification import AdjustmentSet as AdjustmentSet
    from causalrl.identification import Instruments as Instruments
    from causalrl.identification import adjustment_set as adjustment_set
    from causalrl.identification import instruments as instruments
    from causalrl.inference.bands import Bands as Bands
    from causalrl.inference.bands import simultaneous as simultaneous
    from causalrl.inference.base import Interval as Interval
    from causalrl.inference.bootstrap import BayesianBootstrap as BayesianBootstrap
    from causalrl.inference.bootstrap import BCaBootstrap as BCaBootstrap
    from causalrl.inference.bootstrap import PercentileBootstrap as PercentileBootstrap
    from causalrl.inference.bootstrap import PoissonBootstrap as PoissonBootstrap
    from causalrl.inference.bootstrap import RefitBootstrap as RefitBootstrap
    from causalrl.inference.bootstrap import StudentizedBootstrap as StudentizedBootstrap
    from causalrl.inference.concentration import EmpiricalBernstein as EmpiricalBernstein
    from causalrl.inference.concentration import Hoeffding as Hoeffding
    from causalrl.inference.concentration import StudentT as StudentT
    from causalrl.inference.multiplier import MultiplierBootstrap as MultiplierBootstrap
    from causalrl.inference.wald import RefitWald as RefitWald
    from causalrl.inference.wald import Wald as Wald
    from causalrl.nuisances.balance import CBPS as CBPS
    from causalrl.nuisances.balance import EntropyBalancing as EntropyBalancing
    from causalrl.nuisances.behavior import KnownPropensity as KnownPropensity
    from causalrl.nuisances.behavior import Logged as Logged
    from causalrl.nuisances.calibrated import Calibrated as Calibrated
    from causalrl.nuisances.counts import Counts as Counts
    from causalrl.nuisances.formula_q import FormulaQ as FormulaQ
    from causalrl.nuisances.function_classes import LinearClass as LinearClass
    from causalrl.nuisances.kernel_class import KernelClass as KernelClass
    from causalrl.nuisances.linear import LinearQ as LinearQ
    from causalrl.nuisances.logit import Logit as Logit
    from causalrl.nuisances.marginal_linear import LinearRatio as LinearRatio
    from causalrl.nuisances.marginal_tabular import TabularRatio as TabularRatio
    from causalrl.nuisances.minimax import MinimaxQ as MinimaxQ
    from causalrl.nuisances.minimax_ratio import MinimaxRatio as MinimaxRatio
    from causalrl.nuisances.model import Absorb as Absorb
    from causalrl.nuisances.model_based import ModelBased as ModelBased
    from causalrl.nuisances.neural import NeuralQ as NeuralQ
    from causalrl.nuisances.ratio import CumulativeWeights as CumulativeWeights
    from causalrl.nuisances.ratio import KnownRatio as KnownRatio
    from causalrl.nuisances.regression import PerAction as PerAction
    from causalrl.nuisances.regression import Pooled as Pooled
    from causalrl.nuisances.tabular import ConstantValue as ConstantValue
    from causalrl.nuisances.tabular import StateMean as StateMean
    from causalrl.nuisances.tabular import TabularQ as TabularQ
    from causalrl.nuisances.treatment_models import NormalDensity as NormalDensity
    from causalrl.nuisances.value import KnownQ as KnownQ
    from causalrl.policies import Always as Always
    from causalrl.policies import ClassifierPolicy as ClassifierPolicy
    from causalrl.policies import Policy as Policy
    from causalrl.policies import TabularPolicy as TabularPolicy
    from causalrl.policies import Uniform as Uniform
    from causalrl.refutation.base import Refutation as Refutation
    from causalrl.refutation.base import Refuter as Refuter
    from causalrl.refutation.base import refute as refute
    from causalrl.refutation.common_cause import RandomCommonCause as RandomCommonCause
    from causalrl.refutation.outcomes import DummyOutcome as DummyOutcome
    from causalrl.refutation.outcomes import NegativeControlOutcome as NegativeControlOutcome
    from causalrl.refutation.placebo import PlaceboTreatment as PlaceboTreatment
    from causalrl.refutation.resamples import BootstrapData as BootstrapData
    from causalrl.refutation.resamples import DataSubset as DataSubset
    from causalrl.replication import Replication as Replication
    from causalrl.replication import replicate as replicate
    from causalrl.report.diagnostic_plots import calibration_plot as calibration_plot
    from causalrl.report.diagnostic_plots import influence_plot as influence_plot
    from causalrl.report.diagnostic_plots import love_plot as love_plot
    from causalrl.report.diagnostic_plots import overlap_plot as overlap_plot
    from causalrl.report.diagnostic_plots import weight_plot as weight_plot
    from causalrl.selection.estimators import Selection as Selection
    from causalrl.selection.estimators import SelectionRule as SelectionRule
    from causalrl.selection.estimators import select_estimator as select_estimator
    from causalrl.selection.metrics import best_at_k as best_at_k
    from causalrl.selection.metrics import rank_correlation as rank_correlation
    from causalrl.selection.metrics import regret_at_k as regret_at_k
    from causalrl.selection.metrics import sharpe_ratio_at_k as sharpe_ratio_at_k
    from causalrl.selection.metrics import worst_at_k as worst_at_k
    from causalrl.selection.policies import Ranking as Ranking
    from causalrl.selection.policies import rank_policies as rank_policies
    from causalrl.selection.rules import BootstrapMSE as BootstrapMSE
    from causalrl.selection.rules import SimulatorCheck as SimulatorCheck
    from causalrl.selection.rules import Slope as Slope
    from causalrl.sensitivity.base import SensitivityAnalysis as SensitivityAnalysis
    from causalrl.sensitivity.base import SensitivityModel as SensitivityModel
    from causalrl.sensitivity.base import design_sensitivity as design_sensitivity
    from causalrl.sensitivity.base import sensitivity_analysis as sensitivity_analysis
    from causalrl.sensitivity.bias_bounds import RegressionCoefficient as RegressionCoefficient
    from causalrl.sensitivity.e_value import EValue as EValue
    from causalrl.sensitivity.e_value import RiskRatio as RiskRatio
    from causalrl.sensitivity.marginal import MarginalModel as MarginalModel
    from causalrl.sensitivity.omitted_variable import OmittedVariable as OmittedVariable
    from causalrl.sensitivity.pairs import matched_pairs as matched_pairs
    from causalrl.sensitivity.policies import NaiveModel as NaiveModel
    from causalrl.sensitivity.policies import NamkoongModel as NamkoongModel
    from causalrl.sensitivity.rosenbaum import RosenbaumBounds as RosenbaumBounds
    from causalrl.sensitivity.rosenbaum import SignedRank as SignedRank
    from causalrl.sensitivity.rosenbaum import SignTest as SignTest


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"causalrl.{name}")
    if name not in _HOME:
        close = get_close_matches(name, __all__, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it offers {', '.join(sorted(__all__))}"
        raise AttributeError(f"causalrl has no {name!r}; {hint}")
    value = getattr(import_module(f"causalrl.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
