"""The fixed keys of `estimate.diagnostics`, and the notes that become typed warnings."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from causalrl.errors import CausalRLWarning

_PACKAGE = str(Path(__file__).parents[1])

KEYS = (
    "ess",
    "ess_by_time",
    "max_weight",
    "mean_weight",
    "largest_share",
    "tail_index",
    "unsupported_mass",
    "lost_mass",
    "truncated",
    "bellman_residual",
    "convergence",
    "blend",
    "smd_before",
    "smd_after",
    "agreement",
    "calibration",
    "largest_influence",
    "behavior",
    "folds",
    "verdict",
    "reasons",
    "warnings",
)
"""ess: Kish effective sample size of the weights used (the smallest over t for per-decision estimators). ess_by_time: (T,) of
them. max_weight: the largest importance weight. mean_weight: of the final weights, 1 in expectation; of an estimate made of two,
that of the one whose weights are worth less. largest_share: the
largest one's share of the total. tail_index: Pareto k of the final weights. unsupported_mass: share of target probability on
actions that the behaviour never takes. lost_mass: (T,) share of the target's probability at each t in states where a marginal
density ratio is unknown and counts as 0. truncated: the bound that was asked for, the share of weights above it, and the
share of the total weight that it removed. bellman_residual: root mean square temporal difference of Q at the logged steps,
the noise of rewards and transitions included. convergence: tuple of the largest change of Q, or of the loss, in each
iteration of its fit. blend: (T + 1,) weights of MAGIC on the model and on each j-step return. smd_before,
smd_after: (d,) standardised mean differences of the covariates between the two arms of an effect, before and after weighting;
see `causalrl.diagnostics.balance`. agreement: (T,) share of the trajectories under way at each step all of whose decisions so
far the target could have taken. calibration: slope of the recalibration of cross-fitted propensities, 1 where calibrated.
largest_influence: largest share of one trajectory in the sum of squared influence values. behavior: what gave the propensities.
folds: cross-fitting folds (behaviour, value). verdict: one of `VERDICTS`. reasons: tuple of sentences, empty where it is
reliable; see `causalrl.diagnostics.verdict`. warnings: tuple of texts. None where undefined."""

RELIABLE = "reliable"
VERDICTS = (RELIABLE, "caution", "do not use")
"""From good to bad."""


def worse_verdict(*verdicts: str | None) -> str | None:
    """The worst of them; None where there are none.

    >>> worse_verdict("caution", None, "reliable")
    'caution'
    """
    known = [verdict for verdict in verdicts if verdict is not None]
    return max(known, key=VERDICTS.index) if known else None


class Note(NamedTuple):
    """A warning to be raised and recorded."""

    category: type[CausalRLWarning]
    message: str

    def __str__(self) -> str:
        return f"{self.category.__name__}: {self.message}"


class Diagnostics(Mapping[str, Any]):
    """A read-only mapping with exactly `KEYS`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        if key not in self._values:
            raise KeyError(f"{key!r}; the diagnostics are {', '.join(KEYS)}")
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def updated(self, **values: Any) -> Diagnostics:
        """The same with other values for some of the keys."""
        return Diagnostics({**self._values, **values})

    def __repr__(self) -> str:
        return f"Diagnostics({self._values})"


def share(part: float) -> str:
    """A share as text that never reads 0."""
    return f"{part:.2%}" if part >= 1e-4 else "less than 0.01%"


def diagnostics_record(notes: Iterable[Note] = (), **values: Any) -> Diagnostics:
    """A read-only mapping with exactly `KEYS`; every note is emitted as a warning and recorded."""
    unknown = set(values) - set(KEYS)
    if unknown:
        raise TypeError(f"unknown diagnostics {sorted(unknown)}; the keys are {KEYS}")
    noted = tuple(dict.fromkeys(notes))
    for note in noted:
        warnings.warn(note.message, note.category, stacklevel=_level_of_caller())
    return Diagnostics({**dict.fromkeys(KEYS), **values, "warnings": tuple(map(str, noted))})


def _level_of_caller() -> int:
    """Stack level, seen from `diagnostics_record`, of the first frame outside the package: the line that the user wrote."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level


_WORSE: dict[str, Callable[..., float]] = {
    "ess": min,
    "max_weight": max,
    "largest_share": max,
    "tail_index": max,
    "unsupported_mass": max,
    "bellman_residual": max,
    "largest_influence": max,
}


def joint_diagnostics(a: Mapping[str, Any], b: Mapping[str, Any]) -> Diagnostics:
    """Of an estimate made of two: the worse of each figure and verdict, and the reasons and warnings of both."""
    joint = {key: rule(known) for key, rule in _WORSE.items() if (known := [d[key] for d in (a, b) if d[key] is not None])}
    weighted = [d for d in (a, b) if d["ess"] is not None]
    mean = min(weighted, key=lambda d: d["ess"])["mean_weight"] if weighted else None
    texts = {key: _both(a[key], b[key]) for key in ("reasons", "warnings")}
    verdict = worse_verdict(a["verdict"], b["verdict"])
    return Diagnostics({**dict.fromkeys(KEYS), **_common(a, b), **joint, **texts, "mean_weight": mean, "verdict": verdict})


def merged_diagnostics(a: Mapping[str, Any], b: Mapping[str, Any], n_a: int, n_b: int) -> Diagnostics:
    """Of two shards of n_a and n_b trajectories: the figures of their weights together, to be judged anew.

    With m the mean weight, a shard has sum n m and sum of squares (n m)^2 / ess, so that both add up; m is 1 where it was not
    recorded, its expectation. Warnings of weights concern a shard and not the whole. What the behaviour never does no shard can
    make up for, so that it keeps the worse verdict.
    """
    out: dict[str, Any] = {**dict.fromkeys(KEYS), **_common(a, b)}
    texts = [text for text in _both(a["warnings"], b["warnings"]) if not text.startswith("OverlapWarning")]
    out["warnings"] = tuple(texts)
    if a["ess"] is not None and b["ess"] is not None:
        out |= _pooled_weights(a, b, n_a, n_b)
    if a["unsupported_mass"] or b["unsupported_mass"]:
        out["verdict"], out["reasons"] = worse_verdict(a["verdict"], b["verdict"]), _both(a["reasons"], b["reasons"])
        out["unsupported_mass"] = max(a["unsupported_mass"] or 0.0, b["unsupported_mass"] or 0.0)
    return Diagnostics(out)


def _pooled_weights(a: Mapping[str, Any], b: Mapping[str, Any], n_a: int, n_b: int) -> dict[str, Any]:
    """Kish's size, mean, largest weight and its share, of the weights of two shards."""
    totals = [n * (1.0 if d["mean_weight"] is None else d["mean_weight"]) for d, n in ((a, n_a), (b, n_b))]
    total = sum(totals)
    out: dict[str, Any] = {"ess": total**2 / sum(own**2 / d["ess"] for own, d in zip(totals, (a, b), strict=True))}
    for key in ("mean_weight", "max_weight", "largest_share", "truncated"):
        if a[key] is None or b[key] is None:
            continue
        if key == "mean_weight":
            out[key] = total / (n_a + n_b)
        elif key == "max_weight":
            out[key] = max(a[key], b[key])
        elif key == "largest_share":
            out[key] = max(own * d[key] / total for own, d in zip(totals, (a, b), strict=True))
        else:
            out[key] = (a[key][0], *((n_a * x + n_b * y) / (n_a + n_b) for x, y in zip(a[key][1:], b[key][1:], strict=True)))
    return out


def _common(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    return {key: a[key] for key in ("behavior", "folds") if a[key] == b[key]}


def _both(a: Iterable[str] | None, b: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*(a or ()), *(b or ())]))
