"""NHEFS: the numbers of Hernan & Robins (2020), *Causal Inference: What If*, chapters 12 to 16, from public calls.

Keys are the section and the quantity: "12.2 difference", its "stderr", "low" and "high".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy.stats import norm

import causalrl as crl
from causalrl.datasets import NHEFS_COVARIATES, nhefs_table
from causalrl.kernels.rng import derive_seed

Row: TypeAlias = Mapping[str, float]

DRAWS = 5
"""Bootstrap refits of one replication."""
FACTORS, AMOUNTS = "sex race education exercise active", "age smokeintensity smokeyrs wt71"
FORMULA = " + ".join([f"C({x})" for x in FACTORS.split()] + [f"{x} + I({x}**2)" for x in AMOUNTS.split()])
BOOTSTRAPPED = {
    "13.3 standardisation": f"action * smokeintensity + {FORMULA}",
    "13.3 standardisation, additive": f"action + {FORMULA}",
    "15.4 standardisation on the score": "action * propensity",
}


def chapters(replication: int) -> Row:
    """Every deterministic number, and "... low", "... high" of the intervals that the figure shows."""
    table = nhefs_table()
    table = table[table["wt82_71"].notna()].reset_index(drop=True)
    study, propensity = crl.datasets.nhefs(), crl.Logit(FORMULA)
    everyone = crl.KnownPropensity(crl.Uniform(2))
    weights = crl.MSM("action", propensity).weights(study)
    score = np.where(study.actions == 1, 1 / weights, 1 - 1 / weights)
    parts = (
        weighting(study, table, propensity, everyone),
        modelling(study, propensity, everyone),
        augmented(study, propensity, score),
        scores(study, score, everyone),
    )
    return {key: value for part in (*parts, instrument(table)) for key, value in part.items()}


def numbers(key: str, estimate: crl.Estimate) -> Row:
    """Value, standard error and interval."""
    low, high = estimate.interval()
    return {
        key: float(estimate.value),
        f"{key} stderr": float(estimate.stderr),
        f"{key} low": float(low),
        f"{key} high": float(high),
    }


def as_published(key: str, estimate: crl.Estimate, left: int) -> Row:
    """The same where the variance divides by n - left (ours by n - 1) and the limits are normal (ours Student's)."""
    n = crl.datasets.nhefs().n
    value, error = float(estimate.value), float(estimate.stderr) * np.sqrt((n - 1) / (n - left))
    reach = norm.ppf(0.975) * error
    return {key: value, f"{key} stderr": error, f"{key} low": value - reach, f"{key} high": value + reach}


def named(prefix: str, names: str, values: Any) -> Row:
    """Values under "prefix name"."""
    return {f"{prefix} {name}": float(value) for name, value in zip(names.split(), values, strict=True)}


def with_outcome(table: pd.DataFrame, outcome: str, action: Any = None) -> crl.Trajectories:
    """The nine confounders, quitting or another treatment, and an outcome."""
    treatment = table["qsmk"].astype(int) if action is None else action
    return crl.Trajectories.from_cross_section(table[list(NHEFS_COVARIATES)], treatment, table[outcome])


def weighting(study: crl.Trajectories, table: pd.DataFrame, propensity: Any, everyone: Any) -> Row:
    """Chapter 12."""
    crude = crl.IPW(everyone)
    row = numbers("12.1 difference", crude.estimate(study, crl.ATE()))
    row |= {f"12.1 mean {arm}": crude.estimate(study, crl.Always(a)).value for arm, a in (("quitters", 1), ("others", 0))}
    weights = crl.MSM("action", propensity).weights(study)
    row |= named("12.2 weights", "min max mean sd", (weights.min(), weights.max(), weights.mean(), weights.std(ddof=1)))
    hajek = crl.IPW(propensity=propensity)
    row |= numbers("12.2 difference", hajek.estimate(study, crl.ATE()))
    row["12.2 intercept"] = hajek.estimate(study, crl.Always(0)).value
    row["12.2 Horvitz-Thompson"] = crl.IPW(propensity=propensity, normalized=False).estimate(study, crl.ATE()).value
    stable = {"numerator": crl.Logit("1"), "stacked": False}
    known = crl.MSM("action", propensity, **stable)
    fitted, weights = known.estimate(study), known.weights(study)
    row |= as_published("12.2 GEE", fitted["action"], 0) | as_published("12.2 small sample", fitted["action"], 2)
    row |= named("12.3 weights", "min max mean ESS", (weights.min(), weights.max(), weights.mean(), fitted.diagnostics["ess"]))
    row |= dose(table)
    died = crl.MSM("action", propensity, link=crl.LogitLink(), **stable).estimate(with_outcome(table, "death"))["action"]
    log_odds = as_published("12.5 log odds ratio", died, 0)
    odds = {key.replace("log ", ""): float(np.exp(value)) for key, value in log_odds.items() if "stderr" not in key}
    row |= log_odds | odds
    by_sex = crl.MSM("action * sex", propensity, numerator=crl.Logit("sex"))
    weights, effect = by_sex.weights(study), by_sex.estimate(study)
    row |= named("12.6 weights", "min max", (weights.min(), weights.max()))
    return row | named("12.6", "action sex action:sex", (effect[name].value for name in ("action", "sex", "action:sex")))


def dose(table: pd.DataFrame) -> Row:
    """Section 12.4: change of smoking intensity."""
    light = table[table["smokeintensity"] <= 25]
    study = with_outcome(light, "wt82_71", light[["smkintensity82_71"]].to_numpy(float))
    density, numerator = crl.NormalDensity(FORMULA), crl.NormalDensity("1")
    model = crl.MSM("action + I(action**2)", density, numerator=numerator, stacked=False)
    weights, fitted = model.weights(study), model.estimate(study)
    errors = np.asarray(fitted.stderr) * np.sqrt((study.n - 1) / study.n)
    row = named("12.4 weights", "min max mean", (weights.min(), weights.max(), weights.mean()))
    return row | named("12.4", "b0 b1 b2", np.asarray(fitted.value)) | named("12.4 stderr", "b0 b1 b2", errors)


def modelling(study: crl.Trajectories, propensity: Any, everyone: Any) -> Row:
    """Chapters 13 and 14, section 15.1, and the doubly robust estimate."""
    outcome = crl.FormulaQ(BOOTSTRAPPED["13.3 standardisation"])
    standard = crl.GFormula(outcome)
    arms = [standard.estimate(study, crl.Always(a)) for a in (1, 0)]
    row = named("13.3 mean", "quitters others", (arm.value for arm in arms))
    row["13.3 residual variance"] = arms[0].diagnostics["bellman_residual"] ** 2 * study.n / (study.n - 21)
    for name, formula in BOOTSTRAPPED.items():
        model = crl.FormulaQ(formula, propensity=propensity if "propensity" in formula else None)
        row[name] = crl.GFormula(model).estimate(study, crl.ATE()).value
    full = nhefs_table()
    seen = full["wt82_71"].notna().to_numpy()
    observed = crl.Trajectories.from_cross_section(full[[*NHEFS_COVARIATES, "qsmk"]], seen.astype(int), np.zeros(len(seen)))
    kept = crl.MSM("action", crl.Logit(f"qsmk + {FORMULA}")).weights(observed)[seen]
    row |= numbers("14.5 psi", crl.GEstimation(propensity).estimate(study, observation_weights=kept))
    row["14.5 psi, unweighted"] = crl.GEstimation(propensity).estimate(study).value
    row["14.5 psi, linear score"] = crl.GEstimation(crl.NormalDensity(FORMULA)).estimate(study).value
    fitted = crl.MSM(BOOTSTRAPPED["13.3 standardisation"], everyone).estimate(study)
    main, product = fitted["action"], fitted["action:smokeintensity"]
    effects = {"action": main, "product": product, "at 5": main + 5 * product, "at 40": main + 40 * product}
    for name, effect in effects.items():
        row |= numbers(f"15.1 {name}", effect)
    row |= numbers("15.1 additive", crl.MSM(BOOTSTRAPPED["13.3 standardisation, additive"], everyone).estimate(study)["action"])
    return row


def augmented(study: crl.Trajectories, propensity: Any, score: np.ndarray) -> Row:
    """The doubly robust estimate with the models of 12.2 and 13.3; its error also with the propensities taken as known."""
    outcome = crl.FormulaQ(BOOTSTRAPPED["13.3 standardisation"])
    known = crl.Trajectories.from_cross_section(
        study.observations, study.actions, study.rewards, propensity=score, feature_names=study.feature_names
    )
    row = numbers("AIPW difference", crl.AIPW(outcome, propensity=propensity).estimate(study, crl.ATE()))
    return row | {"AIPW stderr, known scores": float(crl.AIPW(outcome).estimate(known, crl.ATE()).stderr)}


def scores(study: crl.Trajectories, score: np.ndarray, everyone: Any) -> Row:
    """Sections 15.2 and 15.3, the propensity score as one covariate."""
    quitters = study.actions == 1
    means = (score.min(), score.max(), score.mean(), score[~quitters].mean(), score[quitters].mean())
    row = named("15.2 score", "min max mean others quitters", means)
    quitting = crl.Trajectories.from_cross_section(
        study.observations, study.actions, study.actions.astype(float), feature_names=study.feature_names
    )
    logistic = crl.MSM(FORMULA, everyone, link=crl.LogitLink()).estimate(quitting)
    row |= {f"15.2 {name}": float(value) for name, value in zip(logistic.labels, logistic.value, strict=True)}
    row["15.2 deviance"] = -2 * float(np.log(np.where(quitters, score, 1 - score)).sum())
    tenths = pd.qcut(score, 10, labels=False)
    for name, column in (("score", score), ("C(decile)", tenths)):
        own = pd.DataFrame({"score": column, "decile": column})
        reduced = crl.Trajectories.from_cross_section(own, study.actions, study.rewards)
        key = "15.3 score" if name == "score" else "15.3 deciles"
        row |= numbers(key, crl.MSM(f"action + {name}", everyone).estimate(reduced)["action"])
    return row | {"15.3 deciles, Stata": row["15.3 deciles"]}


def instrument(table: pd.DataFrame) -> Row:
    """Chapter 16: a price of 1.50 dollars and more."""
    priced = table[table["price82"].notna()]
    study = crl.Trajectories.from_cross_section(priced[["price82"]], priced["qsmk"].astype(int), priced["wt82_71"])
    return numbers("16 instrument", crl.TwoStage("I(price82 >= 1.5)").estimate(study))


def refits(replication: int, name: str) -> Row:
    """Bootstrap draws of an estimate without a standard error of its own."""
    formula = BOOTSTRAPPED[name]
    model = crl.FormulaQ(formula, propensity=crl.Logit(FORMULA) if "propensity" in formula else None)
    estimate = crl.GFormula(model).estimate(crl.datasets.nhefs(), crl.ATE())
    values = estimate.evidence.refitted(DRAWS, derive_seed(0, f"bootstrap {name}", replication))
    return {f"draw {i}": float(value) for i, value in enumerate(values)}
