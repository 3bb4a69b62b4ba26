"""Tasks of `benchmarks.speed` about trust: the curve of bounds of a policy value under unobserved confounding,
placebo treatments, and what verdicts cost."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import causalrl as crl
from benchmarks.timing import Task, agree, at_least, within
from causalrl.kernels.resampling import count_block
from causalrl.kernels.rng import derive_seed
from causalrl.refutation.placebo import Permutation
from simulators import NamkoongSepsis, Point, SepsisSimulator

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PLACEBOS = 100
N, HORIZON, DISCOUNT, GAMMAS, B = 10_000, 5, 0.99, tuple(np.linspace(1.0, 6.5, 12)), 50


class NumPyBounds:
    """The bounds of Namkoong et al. on padded arrays (n, H), propensities by counts at each time; one resample at a time."""

    def __init__(self, data: crl.Trajectories, target: crl.TabularPolicy) -> None:
        steps, self.n_actions = data.steps(HORIZON), data.n_actions
        self.row, self.time = steps.trajectory, steps.time
        self.context = steps.time * data.n_states + steps.observations
        self.cell = self.context * self.n_actions + steps.actions
        self.taken = target.table[steps.time, steps.observations, steps.actions]
        self.returns = np.bincount(self.row, DISCOUNT**steps.time * steps.rewards)
        self.first = steps.first

    def curve(self, counts: Floats) -> Floats:
        """(2, K) bounds under trajectory counts (n,)."""
        drawn = counts[self.row]
        actions, contexts = np.bincount(self.cell, drawn), np.bincount(self.context, drawn)
        with np.errstate(invalid="ignore", divide="ignore"):
            b = np.where(drawn > 0, actions[self.cell] / contexts[self.context], 1.0)
        ratios = np.ones((len(counts), HORIZON))
        ratios[self.row, self.time] = self.taken / b
        y, b0, e0 = ratios[:, 1:].prod(axis=1) * self.returns, b[self.first], self.taken[self.first]
        _, group = np.unique(self.cell[self.first], return_inverse=True)
        weight, sure = counts * e0 * (1 - b0) / b0, counts @ (e0 * y)
        bounds = [[sure + moved(y, weight, group, ratio) for ratio in (gamma, 1 / gamma)] for gamma in GAMMAS]
        return np.array(bounds).T / counts.sum()


def moved(y: Floats, weight: Floats, group: Ints, ratio: float) -> float:
    """Sum over groups of the weight times the expectile, by the reweighted mean as a fixed point."""
    mass = np.bincount(group, weight)
    live = mass > 0
    value = np.divide(np.bincount(group, weight * y), mass, out=np.zeros(len(mass)), where=live)
    for _ in range(100):
        own = weight * np.where(y < value[group], ratio, 1.0)
        total = np.bincount(group, own)
        after = np.divide(np.bincount(group, own * y), total, out=np.zeros(len(mass)), where=live)
        if np.abs(after - value).max() < 1e-12:
            break
        value = after
    return float(mass @ value)


def namkoong_task() -> Task:
    """12 gammas with 50 bootstraps of 10,000 sepsis patients; the authors' code took 95 minutes."""
    study = NamkoongSepsis.as_published()
    data, target = study.sample(N, seed=0), study.with_antibiotics
    goal, model = crl.PolicyValue(target, DISCOUNT, HORIZON), crl.NamkoongModel(GAMMAS, replicates=B)
    recipe, bounds = crl.IS(behavior=crl.Counts(by_time=True)), NumPyBounds(data, target)

    def package() -> crl.SensitivityAnalysis:
        return crl.sensitivity_analysis(recipe, data, goal, model)

    def reference() -> Floats:
        return np.array([bounds.curve(counts) for counts in count_block(N, 0, 0, B)])

    agree(package().frame[["low", "high"]].to_numpy().T, bounds.curve(np.ones(N)), 1e-9)
    return Task(f"Namkoong bounds, {B} bootstraps", package, reference, float(B), "curves", within(10), quiet=4)


def verdict_task() -> Task:
    """`evaluate` with its verdicts, of eight estimators and ten policies, beside the same without; asked: less than 20% more."""
    simulator = SepsisSimulator()
    data = simulator.sample(N, simulator.physician(0.3), horizon=20, seed=0)
    goals = {f"{epsilon:.2f}": simulator.physician(epsilon) for epsilon in np.linspace(0.05, 0.5, 10)}
    recipes = [*(kind() for kind in (crl.OnPolicyMean, crl.IS, crl.WIS, crl.PDIS, crl.PDWIS, crl.DR, crl.WDR, crl.DRL))]

    def package() -> crl.Evaluation:
        return crl.evaluate(data, goals, recipes, horizon=20)

    def unjudged() -> crl.Evaluation:
        with (
            patch("causalrl.estimators.base.judged_value", lambda estimate, *_: estimate),
            patch("causalrl.estimate.judged_alone", lambda diagnostics, _: diagnostics),
        ):
            return package()

    agree(package().frame["value"].to_numpy(), unjudged().frame["value"].to_numpy(), 0.0)
    return Task("evaluate with verdicts, without", package, unjudged, 80.0, "estimates", at_least(1 / 1.2), quiet=4)


def refutation_task() -> Task:
    """100 placebo treatments of 10,000 units: AIPW whose logit and regressions are learned anew in each, beside a loop."""
    study, goal = Point(5).sample(N, seed=0), crl.ATE()
    recipe, refuter = crl.AIPW(crl.LinearQ(), crl.Logit()), crl.PlaceboTreatment(PLACEBOS)
    design = np.column_stack([np.ones(N), study.observations])
    permutation = Permutation(study, np.zeros(N, np.int64), logged=False)

    def package() -> crl.Refutation:
        return crl.refute(recipe, study, goal, refuter)

    def loop(replicates: int = PLACEBOS) -> Floats:
        arms = (permutation.draw(derive_seed(0, "placebo", r)).actions for r in range(replicates))
        return np.array([linear_aipw(design, arm, study.rewards) for arm in arms])

    agree(package().values[:3], loop(3), 1e-6)
    name = f"{PLACEBOS} placebos of AIPW, scikit-learn"
    return Task(name, package, loop, float(PLACEBOS), "placebos", within(1), quiet=4)


def linear_aipw(design: Floats, arm: Ints, y: Floats) -> float:
    """AIPW with scikit-learn's logistic regression and least squares in each arm."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(design[:, 1:], arm)
    e, means = fitted.predict_proba(design[:, 1:])[:, 1], []
    for a, own in ((1, e), (0, 1 - e)):
        model = design @ np.linalg.lstsq(design[arm == a], y[arm == a], rcond=None)[0]
        means.append(np.mean(model + (arm == a) / own * (y - model)))
    return float(means[0] - means[1])
