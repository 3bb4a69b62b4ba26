"""What choosing needs of estimators: their estimates, without the warnings, and the reasons where there are none."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from causalrl.errors import CausalRLError, EstimandError
from causalrl.estimands import Estimand
from causalrl.estimate import Estimate
from causalrl.estimators.base import Estimator, FittedEstimator
from causalrl.nuisances.crossfit import Nuisances

Candidates: TypeAlias = Mapping[str, Estimator] | Sequence[Estimator]


def quietly(fitted: FittedEstimator, goal: Estimand) -> Estimate:
    """An estimate whose warnings are in its diagnostics alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fitted.estimate(goal)


def named_candidates(candidates: Candidates) -> dict[str, Estimator]:
    """Two or more estimators by name."""
    from causalrl.evaluation import named_estimators

    named = named_estimators(candidates)
    if len(named) < 2:
        raise EstimandError(f"candidates: only {next(iter(named))!r}; there is a choice between two or more.")
    return named


@dataclass(frozen=True, eq=False)
class Trial:
    """The candidates on the data.

    Attributes:
        candidates: by name, the most trusted first. nuisances, goal: what they share.
        estimates: of those that have one. failures: why the others have none.
    """

    candidates: Mapping[str, Estimator]
    nuisances: Nuisances
    goal: Estimand
    estimates: Mapping[str, Estimate]
    failures: Mapping[str, str]

    @classmethod
    def run(cls, candidates: Mapping[str, Estimator], nuisances: Nuisances, goal: Estimand) -> Trial:
        """Estimate with each.

        Raises:
            EstimandError: where none has an estimate, or one has many values.
        """
        estimates: dict[str, Estimate] = {}
        failures: dict[str, str] = {}
        for name, estimator in candidates.items():
            try:
                estimates[name] = quietly(FittedEstimator(estimator, nuisances), goal)
            except CausalRLError as error:
                failures[name] = f"{type(error).__name__}: {error}"
                continue
            if np.ndim(estimates[name].value):
                raise EstimandError(f"goal: {goal} has many values; choose an estimator of one value.")
        if not estimates:
            name, text = next(iter(failures.items()))
            raise EstimandError(f"candidates: none has an estimate. {name!r}: {text}")
        return cls(candidates, nuisances, goal, estimates, failures)
