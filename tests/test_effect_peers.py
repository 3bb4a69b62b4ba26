"""Average effects beside statsmodels and dowhy on the same nuisances.

AIPW of statsmodels and econml is in test_doubly_robust_effects.py, learners of econml in test_heterogeneous.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import causalrl as crl
from simulators import Point

LOGIT, LINEAR = crl.Logit(), crl.LinearQ()
WLS = crl.GFormula(crl.FormulaQ(propensity=LOGIT, weighted=True))


@pytest.fixture(scope="module")
def study() -> crl.Trajectories:
    return Point().sample(2000, seed=0)


@pytest.fixture(scope="module")
def statsmodels_effect(study: crl.Trajectories) -> Any:
    sm = pytest.importorskip("statsmodels.api")
    treatment = pytest.importorskip("statsmodels.treatment.treatment_effects")
    x = sm.add_constant(study.observations)
    fitted = sm.Logit(study.actions, x).fit(disp=0, tol=1e-12)
    return treatment.TreatmentEffect(sm.OLS(study.rewards, x), study.actions, results_select=fitted)


@pytest.mark.parametrize(
    ("name", "recipe"), [("ra", crl.GFormula(LINEAR)), ("ipw", crl.IPW(LOGIT)), ("ipw_ra", WLS)], ids=["ra", "ipw", "ipw_ra"]
)
def test_statsmodels_effects_and_means(
    name: str, recipe: crl.Estimator, statsmodels_effect: Any, study: crl.Trajectories
) -> None:
    """ATE, mean under control, mean under treatment."""
    fitted = recipe.fit(study)
    ours = [fitted.estimate(goal).value for goal in (crl.ATE(), crl.Always(0), crl.Always(1))]
    theirs = getattr(statsmodels_effect, name)(return_results=False)
    assert ours == pytest.approx([float(value) for value in theirs], abs=1e-6)


@pytest.mark.parametrize(("group", "goal"), [(1, crl.ATT()), (0, crl.ATC())], ids=["treated", "controls"])
def test_statsmodels_weighting_on_the_treated_and_on_the_controls(
    group: int, goal: crl.ATT | crl.ATC, statsmodels_effect: Any, study: crl.Trajectories
) -> None:
    theirs = statsmodels_effect.ipw(return_results=False, effect_group=group)[0]
    assert crl.IPW(LOGIT).estimate(study, goal).value == pytest.approx(float(theirs), abs=1e-6)


def test_statsmodels_errors_of_weighting(statsmodels_effect: Any, study: crl.Trajectories) -> None:
    """Both stack the likelihood equations of the logit; theirs sums squares over n where ours is n / (n - 1) times that."""
    theirs = statsmodels_effect.ipw().results_gmm.bse[0]
    ours = crl.IPW(LOGIT).estimate(study, crl.ATE()).stderr
    assert ours == pytest.approx(float(theirs) * np.sqrt(2000 / 1999), rel=1e-4)


class DoWhy:
    """dowhy's estimates on the study."""

    def __init__(self, study: crl.Trajectories) -> None:
        dowhy = pytest.importorskip("dowhy")
        names = list(study.feature_names)
        frame = pd.DataFrame(study.observations, columns=names).assign(t=study.actions.astype(bool), y=study.rewards)
        self.model = dowhy.CausalModel(frame, "t", "y", common_causes=names)
        self.estimand = self.model.identify_effect(proceed_when_unidentifiable=True)

    def weighting(self, units: str = "ate", scheme: str = "ips_weight") -> float:
        """Without the default clipping and penalty."""
        model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=5000)
        settings = {"min_ps_score": 1e-9, "max_ps_score": 1 - 1e-9, "propensity_score_model": model, "weighting_scheme": scheme}
        method = "backdoor.propensity_score_weighting"
        found = self.model.estimate_effect(self.estimand, method_name=method, target_units=units, method_params=settings)
        return float(found.value)


@pytest.fixture(scope="module")
def dowhy(study: crl.Trajectories) -> DoWhy:
    return DoWhy(study)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("goal", [crl.ATE(), crl.ATT(), crl.ATC()], ids=["ate", "att", "atc"])
def test_dowhy_is_hajek(goal: Any, dowhy: DoWhy, study: crl.Trajectories) -> None:
    theirs = dowhy.weighting(type(goal).__name__.lower())
    assert crl.IPW(LOGIT).estimate(study, goal).value == pytest.approx(theirs, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_two_estimators_where_dowhy_has_one(dowhy: DoWhy, study: crl.Trajectories) -> None:
    """Trap F1: dowhy's three schemes are one, and none is Horvitz-Thompson."""
    schemes = [dowhy.weighting(scheme=f"ips_{name}weight") for name in ("", "stabilized_", "normalized_")]
    assert np.ptp(schemes) < 1e-12
    hajek, plain = (crl.IPW(LOGIT, normalized=flag).estimate(study, crl.ATE()).value for flag in (True, False))
    assert (hajek, plain) == pytest.approx((0.942071, 0.958788), abs=1e-6)
    assert schemes[0] == pytest.approx(hajek, abs=1e-6)
