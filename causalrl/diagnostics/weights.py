"""How much the importance weights can be trusted."""

from __future__ import annotations

import numpy as np

from causalrl.checks import Floats
from causalrl.diagnostics.record import Note
from causalrl.errors import OverlapWarning

FEW = 30
"""Below this effective sample size an estimate is flagged, where the data hold at least twice as many trajectories."""
LARGE_SHARE = 0.2
"""Above this share of the total weight in one trajectory (and above two of n), an estimate is flagged."""
NOTABLE_MASS = 0.01
"""Above this share of the target's probability on decisions, or in states, that were never logged, an estimate is flagged."""
HEAVY_TAIL = 0.7
"""Above this Pareto index the weighted mean converges too slowly to be trusted (Vehtari et al. 2024)."""


def effective_sample_size(weights: Floats) -> float:
    """Kish: (sum w)^2 / sum w^2.

    >>> effective_sample_size(np.array([2.0, 2.0, 2.0]))
    3.0
    """
    scaled = weights / weights.max()
    return float(scaled.sum() ** 2 / np.sum(scaled**2))


def largest_share(weights: Floats) -> float:
    """Share of the total weight in the largest one."""
    return float(weights.max() / weights.sum())


def tail_index(weights: Floats) -> float | None:
    """Pareto index k of the largest weights, as in Pareto-smoothed importance sampling.

    The generalised Pareto fit of Zhang & Stephens (2009) to the min(n / 5, 3 sqrt(n)) largest weights, shrunk to 0.5 with the
    weight of ten observations (Vehtari et al. 2024). None where fewer than 5 weights exceed the cut-off.
    """
    ordered = np.sort(weights / weights.max())
    size = int(np.ceil(min(len(ordered) / 5, 3 * np.sqrt(len(ordered)))))
    if size >= len(ordered):
        return None
    cut = ordered[-size - 1]
    excess = ordered[-size:] - cut
    excess = excess[excess > 1e-12]  # of weights scaled to 1: less is rounding
    if len(excess) < 5:
        return None
    m = len(excess)
    quartile = excess[int(m / 4 + 0.5) - 1]
    grid = 30 + int(np.sqrt(m))
    theta = 1 / excess[-1] + (1 - np.sqrt(grid / (np.arange(grid) + 0.5))) / (3 * quartile)
    shape = np.log1p(-theta[:, None] * excess).mean(axis=1)
    rate = np.divide(-theta, shape, out=np.full_like(theta, 1 / excess.mean()), where=shape != 0)  # its limit at 0
    profile = m * (np.log(rate) - shape - 1)
    posterior = np.exp(profile - profile.max())
    best = float(np.sum(theta * posterior) / posterior.sum())
    k = float(np.log1p(-best * excess).mean())
    return (m * k + 10 * 0.5) / (m + 10)


def mean_note(weights: Floats, mean: float) -> list[Note]:
    """A warning where the mean weight, 1 in expectation, is not 1 within four of its own standard errors."""
    if len(weights) < FEW or not np.isfinite(mean):
        return []
    error = float(weights.std(ddof=1) / np.sqrt(len(weights)) * mean / weights.mean())
    if abs(mean - 1) <= 4 * error + 1e-9:
        return []
    cause = (
        "the data hardly show what the target does, or the propensities are too large"
        if mean < 1
        else "propensities are too small"
    )
    return [Note(OverlapWarning, f"the weights average {mean:.2f}, not 1 (standard error {error:.2f}): {cause}.")]


def overlap_notes(n: int, ess: float, share: float, tail: float | None) -> list[Note]:
    """Why the weights should not be trusted, if they should not."""
    notes = []
    if ess < FEW and ess < n / 2:
        notes.append(
            Note(OverlapWarning, f"the weights are worth {ess:.1f} of {n} trajectories; target and behaviour hardly overlap.")
        )
    if share > max(LARGE_SHARE, 2 / n):
        notes.append(Note(OverlapWarning, f"one trajectory carries {share:.0%} of the weight."))
    if tail is not None and tail > HEAVY_TAIL:
        notes.append(
            Note(
                OverlapWarning,
                f"the weights have Pareto tail index {tail:.2f} > {HEAVY_TAIL}: the interval may be far too short.",
            )
        )
    return notes
