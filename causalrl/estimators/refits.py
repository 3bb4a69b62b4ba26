"""Refits of weighting and doubly robust estimates in kernels: the values of `Refitted`, hundreds of times faster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.estimators.importance import Records
from causalrl.inference.base import Refit
from causalrl.kernels.refit import refit_scores
from causalrl.nuisances.behavior import CompiledPropensities
from causalrl.nuisances.crossfit import Nuisances, cluster_folds
from causalrl.nuisances.records import Ratios
from causalrl.nuisances.value import CompiledDifferences, DifferencesRefit, ValueModel, ValueProblem

_ENTRIES = 4_000_000
"""Replicates are refitted in blocks of about this many steps."""


def in_blocks(refit: Refit, counts: Floats, n_steps: int) -> Floats:
    """(b,) refits of resampling counts (b, G), a few replicates at a time: what each needs of every step is held for a block."""
    size = max(4, _ENTRIES // n_steps)
    return np.concatenate([refit(counts[first : first + size]) for first in range(0, len(counts), size)])


def compiled_refit(
    nuisances: Nuisances,
    ratios: Ratios,
    records: Records,
    normalized: bool,
    folds: int | None,
    start: Floats | None = None,
    q: ValueModel | None = None,
    discount: float = 1.0,
) -> Refit | None:
    """The refit of an importance score where every nuisance that is learned has a kernel, else None.

    Args:
        folds: what was asked for; None is each learner's default.
        start, q, discount: start values, value model and discount of a doubly robust score.
    """
    behavior = ratios.behavior.model
    compiled = behavior.known or (isinstance(behavior, CompiledPropensities) and behavior.compiled)
    learned = None if q is None or q.known else q
    if ratios.made_of_behavior or not compiled or not (learned is None or isinstance(learned, CompiledDifferences)):
        return None
    steps = ratios.behavior.steps
    problem = ValueProblem(ratios.target, np.empty(0), discount, steps.horizon, nuisances.seed)
    fixed = np.zeros(steps.data.n) if start is None else start
    if learned is not None:
        records = replace(records, terms=np.empty(0))
    return CompiledScore(ratios, records, normalized, folds, fixed, learned, problem)


@dataclass(frozen=True, eq=False)
class CompiledScore:
    """Re-learns counted propensities, a tabular Q and the score under resampling counts (b, G) of the clusters.

    Folds are split among the drawn clusters, as `Nuisances.resampled` does. Whether the successor of a step is known is judged
    on the whole data.

    Attributes:
        start: (n,) start values. model: what learns them and the terms of the records anew; None keeps them.
    """

    ratios: Ratios
    records: Records
    normalized: bool
    folds: int | None
    start: Floats
    model: CompiledDifferences | None
    problem: ValueProblem

    @cached_property
    def _differences(self) -> DifferencesRefit | None:
        return None if self.model is None else self.model.differences_refit(self.problem)

    @cached_property
    def _log_target(self) -> Floats:
        with np.errstate(divide="ignore"):
            logs: Floats = np.log(self.ratios.target.taken)
        return logs

    @cached_property
    def _alone(self) -> bool:
        """Every trajectory is a cluster of its own, in their order."""
        clusters = self.problem.steps.data.clusters
        return np.array_equal(clusters, np.arange(len(clusters)))

    def __call__(self, counts: Floats) -> Floats:
        return in_blocks(self._block, counts, len(self.problem.steps))

    def _block(self, counts: Floats) -> Floats:
        steps = self.problem.steps
        weights = counts if self._alone else np.ascontiguousarray(counts[:, steps.data.clusters])
        propensities, terms, starts = self.ratios.behavior.logged[None], self.records.terms[None], self.start[None]
        exists = np.ones(len(counts), np.bool_)
        if self.ratios.behavior.refit is not None:
            folds, exists = self._split(counts, self.ratios.behavior.model.default_folds)
            propensities = self.ratios.behavior.refit(weights, folds)
        if self.model is not None and self._differences is not None:
            folds, enough = self._split(counts, self.model.default_folds)
            terms, starts = self._differences(weights, folds)
            exists = exists & enough
        values = refit_scores(
            self._log_target,
            propensities,
            steps.offsets,
            np.arange(len(steps))[self.records.carried],
            self.records.offsets,
            self.records.log_bound,
            terms,
            starts,
            self.normalized,
            weights,
        )
        return np.where(exists, values, np.nan)

    def _split(self, counts: Floats, default: int) -> tuple[Ints, Bools]:
        """(b, n) fold of every trajectory, and (b,) whether there are as many clusters as folds."""
        of_cluster, enough = np.zeros(counts.shape, np.int64), np.ones(len(counts), np.bool_)
        if (default if self.folds is None else self.folds) == 1:
            return np.zeros((len(counts), self.problem.steps.data.n), np.int64), enough
        for b, drawn in enumerate(map(np.flatnonzero, counts)):
            count = min(default, len(drawn)) if self.folds is None else self.folds
            enough[b] = count <= len(drawn)
            if count > 1 and enough[b]:
                of_cluster[b, drawn] = cluster_folds(self.problem.seed, len(drawn), count)
        return np.ascontiguousarray(of_cluster[:, self.problem.steps.data.clusters]), enough
