"""docs/trust.md from the rows of `benchmarks.trust`."""

from __future__ import annotations

import pandas as pd

from causalrl.diagnostics.record import VERDICTS

HEAD = """# Can I believe it

Every estimate carries a verdict and its reasons:

```python
import causalrl as crl
from simulators import SepsisSimulator

simulator = SepsisSimulator()
data = simulator.sample(2000, simulator.physician(epsilon=0.3), horizon=20, seed=0)
goal = crl.PolicyValue(simulator.physician(epsilon=0.15), horizon=20)
e = crl.WIS().estimate(data, goal)
e.diagnostics["verdict"]  # "reliable"; the others are "caution" and "do not use"
e.diagnostics["reasons"]  # a tuple of sentences, empty where it is reliable
```

`evaluate` has a column of verdicts, `e.summary()` shows verdict and reasons, and `evaluation.verdict_plot()` draws them. A
difference of two estimates has the worse of their verdicts and all of their reasons.

A verdict says whether the data can tell what is asked. It does not see unobserved confounding, for which there is
`sensitivity_analysis`, and it does not see a wrong model where the data overlap.

## The reasons

Each rule compares a figure with one bound for `caution` and one for `do not use` (`causalrl.diagnostics.verdict.RULES`).

- `ess`, below 60 and below 10: the weights are worth so few trajectories that a normal interval does not hold. The bounds are the
  same whatever the number of trajectories, so that more data never make a verdict worse; a small trial is `caution`.
- `agreement`, below 60 for `caution`: so few trajectories still do what the target does, at a step that 30 or more and a tenth of
  all reach, and an estimator without weights extrapolates from there on. On states this does not count: estimators that assume
  a Markov process need pairs of state and action and no whole trajectories, and are judged by decisions never logged.
- `largest_share`, 20% and 50%: one trajectory carries this share of the weight.
- `largest_influence`, 50%: one trajectory makes up this share of the estimate's variance, so that the estimate without it is
  0.7 standard errors away (Gottesman et al. 2020).
- `tail_index`, 1: the Pareto index of the weights is so large that they have no mean.
- `mean_weight`, 4 and 8 standard errors from 1: right propensities give a mean of 1. They are wrong, or the data do not show part
  of what the target does.
- `unsupported_mass`, risk 4 and 20: decisions that nobody logged. The risk is their expected number along a trajectory of the
  target, times the root of the effective sample size, times 2 for weights or a model alone, 1 for both, 1/2 for marginal weights
  and a model: a bias grows with the first, and the standard error shrinks with the second.
- unlogged decisions, 0.25 a trajectory for `do not use`: the same number whatever the sample size.
- a fixed end, always `do not use`: all trajectories end at one step as terminated, in states met earlier too, and a model that
  pools the times (`FQE(TabularQ())` with a horizon) takes that end for chance. Records that merely stop are `End.TRUNCATED`.
- `lost_mass`, 4% and 30%: the target is in states whose marginal ratio the data do not tell.
- `smd_after`, 0.1 and 0.2 beyond chance: covariates still differ between the arms after weighting (Austin 2009; Stuart 2010).
  Chance is the difference that all covariates together stay below in 95 of 100 balanced studies, by their standard errors and
  Bonferroni's bound. An estimator with an outcome model is at most `caution` by it.
- `smd_before`, 0.25 beyond chance: they differ, and only a regression makes up for it (Imbens & Rubin 2015).
- `calibration`, slope beyond 1.5 or below 1/1.5: cross-fitted propensities are too timid or too extreme.
- baseline, always `caution`: `OnPolicyMean` does not look at the target.
- no width, always `caution`: all returns that count are the same, although others vary, so that the standard error is 0.
- units, below 30 and below 5: too few independent units for a normal interval.

Merged shards are judged anew, by the weights of all of them together; the balance of covariates in the whole is not known from
shards and is not judged.

The Bellman residual is shown and not judged: it contains the noise of rewards and transitions, so that no value of it is bad.

## Is a verdict right?

Sepsis simulator, n = 2,000, horizon 20: the optimal physician softened by the behaviour's epsilon acts, and the same physician
softened otherwise, or "never treat", is valued. Point and steep are single decisions, n = 2,000, effect 1: on Point the arms
overlap, on steep the propensities are expit(4 x1) with x1 standard normal, and the regressions are wrong. Written by
`python -m benchmarks.trust` (seed {seed}; the thresholds were chosen on samples of seed 7). Intervals are 95%, default ones, but
with 50 refits for `MIS` and 100 for `FQE`. "Missed" counts intervals that miss the exact value, "stopped" the share of these
whose verdict is `do not use`; "none" counts data sets without an estimate or interval.

How to read it:

- In the first table no estimator can know the answer, and the verdict says so. In the second the data overlap.
- There, weights from counted propensities alone, and `FQE`, are `caution` and not `reliable`, and rightly: 1.4% of the target's
  probability at each step lies on decisions never logged, one in seven of its trajectories meets such a decision, and the
  intervals of `WIS`, `PDWIS` and `MIS` by `Counts()`, and of `FQE`, hold the truth far less often than 95%. Those of `IS` and
  `PDIS` do, by luck: they count what was never logged as a return of 0, which is near the truth here. With the logged
  propensities, or with `DR`, `WDR` or `DRL` beside the counts, intervals hold it about as often as they should.
- With steep propensities `IPW` misses half of the time, and its weights leave the arms different, which stops it. `AIPW` and
  `TMLE` have weights as bad and an outcome model that makes up for them: they cover, and are `caution`, never `reliable`.
- Propensities that miss the mean weight stop an estimator even where its interval is not yet wrong: with behaviour 0.20 and
  target 0.15 the counted `IS`, `DR` and `WDR` are mostly `do not use` and cover far more often than the counted `WIS`.
- "coverage if reliable" is the figure that a user of the verdict meets. Over all sepsis data sets and estimators below it is
  {trusted:.0%}; where more than nine in ten verdicts are `do not use`, {stopped:.0%} of the intervals cover.
"""
COLUMNS = ("estimator", *VERDICTS, "coverage", "coverage if reliable", "missed", "stopped", "RMSE", "data sets", "none")


def page(rows: pd.DataFrame) -> str:
    """The rows as Markdown, one table a cell."""
    trusted, stopped = overall(rows[rows["problem"] == "sepsis"])
    parts = [HEAD.format(seed=rows["seed"].iloc[0], trusted=trusted, stopped=stopped)]
    for names, part in rows.groupby(["problem", "behavior", "target"], sort=False, dropna=False):
        parts.append(f"\n### {title(*map(str, names))}\n")
        parts.append(f"| {' | '.join(COLUMNS)} |\n|---|{'--:|' * (len(COLUMNS) - 1)}")
        parts += [f"| {' | '.join(cells(row))} |" for _, row in part.iterrows()]
    return "\n".join(parts) + "\n"


def overall(rows: pd.DataFrame) -> tuple[float, float]:
    """Coverage of the intervals called reliable, and of those in rows whose estimates are stopped more than nine times in ten."""
    reliable = rows[VERDICTS[0]] * rows["replications"]
    stopped = rows[rows[VERDICTS[2]] > 0.9]
    limited = stopped["replications"] - stopped["no_estimate"] - stopped["no_interval"]
    trusted = (rows["coverage_if_reliable"].fillna(0.0) * reliable).sum() / reliable.sum()
    return float(trusted), float((stopped["coverage"] * limited).sum() / limited.sum())


def title(problem: str, behavior: str, target: str) -> str:
    """A cell in words."""
    if problem != "sepsis":
        return {"point": "Point", "steep": "Steep propensities"}[problem]
    return f"Sepsis, behaviour {behavior}, target {'never treat' if target == 'never' else target}"


def cells(row: pd.Series) -> list[str]:
    """One row of the page."""
    shares = [percent(row[name]) for name in (*VERDICTS, "coverage", "coverage_if_reliable")]
    numbers = [str(row["missed"]), percent(row["stopped_of_missed"]), f"{row['rmse']:.3g}", str(row["replications"])]
    return [row["estimator"], *shares, *numbers, str(row["no_estimate"] + row["no_interval"])]


def percent(share: float) -> str:
    """A share as text, empty where there is none."""
    return "" if pd.isna(share) else f"{share:.0%}"
