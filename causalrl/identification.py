"""Identification of an effect from a causal graph: what to adjust for (backdoor criterion), and which variables are instruments.

The surgery on the graph and the tests of d-separation are dowhy's; the minimal separator is networkx's. Sources: Pearl,
Causality, 2nd ed., 2009, sections 3.3.1 (backdoor) and 7.4.5 (instruments); van der Zander & Liskiewicz, UAI 2020 (minimal
separators in linear time); Smucler, Sapienza & Rotnitzky, Biometrika 109:49, 2022 (the minimal set of least variance).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Self

import narwhals as nw
import numpy as np

from causalrl.data import Trajectories
from causalrl.errors import DataError, IdentificationError, missing_extra


@dataclass(frozen=True, eq=False)
class _Identified(Collection[str]):
    """Names of columns that identify an effect, sorted: reads as their tuple, and equals a tuple, list or set of the same names.

    Attributes:
        names: the columns. treatment, outcome: the effect that they identify.
    """

    names: tuple[str, ...]
    treatment: str
    outcome: str

    def study(self, frame: Any) -> Trajectories:
        """One decision a row of a table: `treatment` is the action, `outcome` the reward, `names` the observation.

        Without names the observation is a single state. A treatment of whole numbers has arms 0, 1, ...; one with fractions is
        continuous.

        Args:
            frame: pandas, polars or pyarrow table with these columns, one row a unit.

        Raises:
            DataError: for a column that is not there, and as `Trajectories.from_cross_section`.
        """
        try:
            table = nw.from_native(frame, eager_only=True).select([*self.names, self.treatment, self.outcome])
        except (TypeError, nw.exceptions.ColumnNotFoundError) as error:
            needed = ", ".join([*self.names, self.treatment, self.outcome])
            reason = " ".join(str(error).split())
            raise DataError(f"frame: {reason} Pass a pandas, polars or pyarrow table with the columns {needed}.") from error
        action = table[self.treatment].to_numpy()
        if action.dtype.kind == "f" and (action != np.round(action)).any():
            action = action[:, None]
        columns = table.select(self.names).to_numpy() if self.names else np.zeros(len(table), np.int64)
        names = self.names or None
        return Trajectories.from_cross_section(columns, action, table[self.outcome].to_numpy(), feature_names=names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __getitem__(self, index: int) -> str:
        return self.names[index]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Collection) or isinstance(other, str):
            return NotImplemented
        return len(other) == len(self) and all(name in other for name in self)


class AdjustmentSet(_Identified):
    """Columns that block every backdoor path from the treatment to the outcome; see `adjustment_set`."""

    def __str__(self) -> str:
        return f"adjust for {_listed(self.names)}" if self.names else "adjust for nothing: no backdoor path is open"


class Instruments(_Identified):
    """Columns each of which is an instrument for the effect; see `instruments`."""

    def __str__(self) -> str:
        return f"use {_listed(self.names, 'or')} as the instrument for {self.treatment}"


def adjustment_set(graph: Any, treatment: str, outcome: str, *, unobserved: Iterable[str] = ()) -> AdjustmentSet:
    """What to adjust for: the minimal set of observed variables that meets the backdoor criterion and is nearest to the outcome.

    The set holds no descendant of the treatment and blocks every path that enters it; no part of it does. Among all such sets
    estimators that adjust for this one have the least asymptotic variance. It is found wherever one exists.

    Args:
        graph: a directed networkx graph, DOT text, or pairs (cause, effect). A node with the attribute `observed="no"` is
            unobserved.
        treatment, outcome: names of nodes.
        unobserved: names of nodes that cannot be adjusted for.

    Returns:
        The names, sorted; `.study(frame)` makes the data of an estimator.

    Raises:
        IdentificationError: for a graph with a cycle or none at all, a name that is no node, a treatment that does not cause the
            outcome, or where no observed variables block every backdoor path: the text names one that stays open.
            MissingExtraError: without dowhy (extra `dowhy`).

    Example:
        >>> import causalrl as crl
        >>> found = crl.adjustment_set([("age", "treat"), ("age", "y"), ("treat", "y")], "treat", "y")
        >>> print(found)
        adjust for age
        >>> import pandas as pd
        >>> table = pd.DataFrame({"age": [0.3, 0.5, 0.4], "treat": [0, 1, 1], "y": [1.0, 2.0, 4.0]})
        >>> found.study(table)
        Trajectories(n=3, steps=3, features=1, n_actions=2, length 1 to 1)
    """
    effect = _Effect.of(graph, treatment, outcome, unobserved)
    names = effect.separator()
    if names is None:
        raise IdentificationError(_no_adjustment(effect))
    return AdjustmentSet(names, treatment, outcome)


def instruments(graph: Any, treatment: str, outcome: str, *, unobserved: Iterable[str] = ()) -> Instruments:
    """Observed variables that move the treatment and reach the outcome by the treatment alone, with nothing held fixed.

    z is one if it is no descendant of the treatment and, in the graph without the edges out of the treatment, d-connected to
    the treatment and d-separated from the outcome. Variables that are instruments only given covariates are not looked for.

    Args:
        graph, treatment, outcome, unobserved: as in `adjustment_set`.

    Returns:
        The names, sorted; each does alone: `TwoStage(found[0]).estimate(found.study(frame))`.

    Raises:
        IdentificationError: as `adjustment_set`, and where there is none: the text says what spoils the nearest candidate.
            MissingExtraError: without dowhy (extra `dowhy`).

    Example:
        >>> import causalrl as crl
        >>> trial = "digraph { assigned -> treat -> y; u -> treat; u -> y }"
        >>> print(crl.instruments(trial, "treat", "y", unobserved=("u",)))
        use assigned as the instrument for treat
    """
    effect = _Effect.of(graph, treatment, outcome, unobserved)
    names = effect.instruments()
    if not names:
        raise IdentificationError(_no_instrument(effect))
    return Instruments(names, treatment, outcome)


@dataclass(frozen=True)
class _Effect:
    """The effect asked for, in a checked graph.

    Attributes:
        graph: the causal graph. cut: the same without the edges out of the treatment.
        eligible: observed nodes that the treatment does not cause, apart from the two.
    """

    graph: Any
    cut: Any
    treatment: str
    outcome: str
    eligible: frozenset[str]
    unobserved: frozenset[str]

    @classmethod
    def of(cls, given: Any, treatment: str, outcome: str, unobserved: Iterable[str]) -> Self:
        dowhy = _dowhy()
        from causalrl.adapters.graphs import read_graph

        graph = read_graph(given)
        if isinstance(unobserved, str) or not isinstance(unobserved, Iterable):
            raise IdentificationError(f"unobserved: {unobserved!r}; pass a tuple of names, such as unobserved=('severity',).")
        hidden = frozenset(unobserved)
        for field, names in (("treatment", [treatment]), ("outcome", [outcome]), ("unobserved", sorted(hidden, key=repr))):
            for name in names:
                _require_node(field, name, graph)
        hidden |= {name for name, value in graph.nodes(data="observed") if str(value).lower() == "no"}
        _require_effect(graph, treatment, outcome, hidden)
        caused = dowhy.get_descendants(graph, [treatment])
        eligible = frozenset(graph) - hidden - caused - {treatment}
        cut = dowhy.do_surgery(graph, [treatment], remove_outgoing_edges=True)
        return cls(graph, cut, treatment, outcome, eligible, hidden)

    def separator(self) -> tuple[str, ...] | None:
        """The minimal adjustment set nearest to the outcome, sorted; None where there is none."""
        import networkx as nx

        found = nx.find_minimal_d_separator(self.cut, {self.outcome}, {self.treatment}, restricted=set(self.eligible))
        return None if found is None else tuple(sorted(found))

    def instruments(self) -> tuple[str, ...]:
        return tuple(name for name in self.movers() if self.apart(name, self.outcome))

    def movers(self) -> list[str]:
        """The eligible nodes that are associated with the treatment, sorted."""
        return [name for name in sorted(self.eligible) if not self.apart(name, self.treatment)]

    def apart(self, one: str, other: str) -> bool:
        separated: bool = _dowhy().check_dseparation(self.cut, [one], [other], [])
        return separated


def _dowhy() -> Any:
    try:
        import dowhy.graph
    except ModuleNotFoundError:
        missing_extra("dowhy", "dowhy")
    return dowhy.graph


def _require_node(field: str, name: Any, graph: Any) -> None:
    if not isinstance(name, str) or name not in graph:
        close = get_close_matches(str(name), list(graph), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(sorted(graph)) or 'no edges'}."
        raise IdentificationError(f"{field}: the graph has no node {name!r}; {hint}")


def _require_effect(graph: Any, treatment: str, outcome: str, hidden: frozenset[str]) -> None:
    """Two different observed nodes, the first a cause of the second."""
    if treatment == outcome:
        raise IdentificationError(f"treatment, outcome: both are {treatment!r}; name two nodes.")
    for field, name in (("treatment", treatment), ("outcome", outcome)):
        if name in hidden:
            raise IdentificationError(f"{field}: {name!r} is unobserved; an effect needs both columns.")
    if not _dowhy().has_directed_path(graph, [treatment], [outcome]):
        mend = f"{outcome} causes {treatment}: swap the two" if _dowhy().has_directed_path(graph, [outcome], [treatment]) else ""
        raise IdentificationError(
            f"outcome: no directed path leads from {treatment} to {outcome}, so that the graph itself says the effect is zero; "
            f"{mend or 'add the edges that are missing'}."
        )


def _no_adjustment(effect: _Effect) -> str:
    """Why nothing observed blocks every backdoor path, and what else there is."""
    import networkx as nx

    from causalrl.adapters.graphs import drawn, open_path

    ends = {effect.treatment, effect.outcome}
    given = effect.eligible & set().union(*(nx.ancestors(effect.cut, end) for end in ends))
    path = open_path(effect.cut, effect.treatment, effect.outcome, given)
    missing = _listed([name for name in path if name in effect.unobserved], "or")
    found = effect.instruments()
    other = f", or use instruments(...), which finds {_listed(found)}." if found else "; the graph has no instrument either."
    return (
        f"no observed variables block every backdoor path from {effect.treatment} to {effect.outcome}: adjusted for "
        f"{_listed(sorted(given)) or 'nothing'}, {drawn(effect.cut, path)} stays open. Measure {missing}{other}"
    )


def _no_instrument(effect: _Effect) -> str:
    """What spoils the nearest candidate, and what to adjust for instead."""
    from causalrl.adapters.graphs import drawn, open_path

    asked = f"no observed variable is an instrument for the effect of {effect.treatment} on {effect.outcome}"
    paths = [open_path(effect.cut, name, effect.outcome, frozenset()) for name in effect.movers()]
    nearest = max(paths, key=len, default=None)
    if nearest is None:
        why = f"none moves {effect.treatment}"
    else:
        why = f"{nearest[0]} reaches {effect.outcome} past {effect.treatment} by {drawn(effect.cut, nearest)}"
    names = effect.separator()
    if names is None:
        return f"{asked}: {why}. Nothing observed blocks every backdoor path either; measure a common cause."
    return f"{asked}: {why}. Use adjustment_set(...): {AdjustmentSet(names, effect.treatment, effect.outcome)}."


def _listed(names: Collection[str], word: str = "and") -> str:
    *most, last = names or [""]
    return f"{', '.join(most)} {word} {last}" if most else last
