"""Compile every kernel into numba's cache, in one process: `python -m tests.warm`.

Test workers that start together then load what is here instead of each compiling it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator

import causalrl as crl
from causalrl.errors import CausalRLWarning
from simulators import MCAR, CobsGraph, GumbelMax, ModelWin, NamkoongSepsis, SepsisSimulator, TumourSimulator
from tests.conftest import TARGET, cross_section, ragged_data

BOOTSTRAPS = (crl.StudentizedBootstrap(4), crl.BayesianBootstrap(4), crl.PoissonBootstrap(20), crl.MultiplierBootstrap(4))
REFIT = crl.RefitBootstrap(4)


def recipes() -> Iterator[crl.Estimator]:
    """Every registered estimator, with every learner that has a kernel."""
    for estimator in crl.ALL:
        yield estimator()
    for q in (crl.TabularQ(by_time=True), crl.LinearQ(), crl.KnownQ(lambda observations, time: TARGET.table[observations])):
        yield crl.DirectMethod(q)
        yield crl.WDR(q=q, folds=2)
    for behavior in (crl.Counts(), crl.Logit()):
        yield crl.PDWIS(behavior=behavior)
        yield crl.DR(behavior=behavior)
    yield crl.MIS(behavior=crl.Counts())
    yield crl.MIS(ratio=crl.TabularRatio())


def tabular() -> None:
    """Ragged records, cut at a horizon and whole."""
    for horizon in (3, None):
        data = ragged_data(horizon=3)
        goal = crl.PolicyValue(TARGET, discount=0.9, horizon=horizon)
        able = recipes() if horizon else (crl.DR(), crl.DR(q=crl.LinearQ()), crl.DirectMethod(), crl.DirectMethod(crl.LinearQ()))
        for estimator in able:
            estimate = estimator.estimate(data, goal)
            smooth = estimate.evidence.functional is not None
            for method in (crl.Wald(), *BOOTSTRAPS, REFIT) if smooth else (REFIT,):
                estimate.interval(method=method)
    crl.MIS(ratio=crl.TabularRatio()).estimate(ragged_data(), crl.PolicyValue(TARGET, discount=0.9)).interval()


def point_treatment() -> None:
    """A binary and a multinomial logit."""
    for arms in (2, 3):
        study = cross_section(arms=arms)
        for estimator in (crl.IPW(), crl.IPW(normalized=False), crl.AIPW(crl.LinearQ()), crl.GFormula(crl.LinearQ())):
            estimate = estimator.estimate(study, crl.ATE())
            estimate.interval()
            estimate.interval(method=crl.RefitBootstrap(4))


def simulated() -> None:
    """Samplers of states, of records and of counterfactuals."""
    simulator, policy = SepsisSimulator(), crl.Uniform(8)
    data = simulator.sample(1, policy, 2)
    (simulator | MCAR(0.1)).sample(1, policy, 2)
    simulator.scm(GumbelMax()).counterfactual(data, policy)
    ModelWin().sample(1, crl.Uniform(2), 2)
    CobsGraph(reward_noise=1.0).sample(1, crl.Uniform(2), 2)
    TumourSimulator().sample(1, horizon=1)


def doubts() -> None:
    """Bounds, placebos and the sepsis study whose confounder they are about."""
    data, study = ragged_data(horizon=3), cross_section(arms=2)
    goal = crl.PolicyValue(TARGET, horizon=3)
    for model in (crl.NamkoongModel([1.0, 2.0], replicates=4), crl.NaiveModel([1.0, 2.0], replicates=4)):
        crl.sensitivity_analysis(crl.IS(crl.Counts()), data, goal, model)
    crl.sensitivity_analysis(crl.IS(crl.Logit()), study, crl.Always(1), crl.NamkoongModel([1.0, 2.0], replicates=4))
    aipw = crl.AIPW(crl.LinearQ(), crl.Logit())
    crl.sensitivity_analysis(aipw, study, crl.ATE(), crl.MarginalModel([1.0, 2.0]))
    for estimator in (aipw, crl.IPW(crl.Logit())):
        crl.refute(estimator, study, crl.ATE(), crl.PlaceboTreatment(2))
    hidden = NamkoongSepsis.as_published()
    hidden.sample(1)
    hidden.value(hidden.soft_optimal)


def main() -> None:
    """Run everything that compiles."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CausalRLWarning)
        tabular()
        point_treatment()
        simulated()
        doubts()
    print(f"kernels compiled or loaded in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
