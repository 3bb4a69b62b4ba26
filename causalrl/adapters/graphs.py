"""Causal graphs as they arrive (a networkx graph, DOT text, pairs of names) to one acyclic networkx graph, and its open paths.

DOT is read with pydot; ports and drawing attributes are left out, and `observed="no"` on a node is kept, as in dowhy.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from io import StringIO
from itertools import pairwise
from typing import Any
from warnings import catch_warnings, simplefilter

from causalrl.errors import IdentificationError, missing_extra

_QUOTED = re.compile(r'"[^"]*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_DEFAULTS = ("node", "edge", "graph")


def read_graph(graph: Any) -> Any:
    """The graph as a new `networkx.DiGraph`.

    Args:
        graph: a directed networkx graph, DOT text (`digraph { a -> b }`), or pairs (cause, effect).

    Raises:
        IdentificationError: for an edge without direction or that is no pair, text that is no DOT, names that are no text, or
            a cycle, which it names.
    """
    import networkx as nx

    if isinstance(graph, str):
        result = _from_dot(graph)
    elif isinstance(graph, nx.Graph):
        if not graph.is_directed():
            raise IdentificationError(f"graph: {type(graph).__name__} has no directions; pass a networkx.DiGraph.")
        result = nx.DiGraph(graph)
    else:
        result = nx.DiGraph(_pairs(graph))
    for node in result:
        if not isinstance(node, str):
            raise IdentificationError(f"graph: node {node!r} is no text; name the nodes as the columns of your table.")
    if not nx.is_directed_acyclic_graph(result):
        cycle = [edge[0] for edge in nx.find_cycle(result)]
        raise IdentificationError(
            f"graph: {' → '.join([*cycle, cycle[0]])} is a cycle; nothing causes itself. Remove an edge, or give a variable that "
            "changes one node a time."
        )
    return result


def open_path(graph: Any, start: str, goal: str, given: frozenset[str]) -> list[str]:
    """A shortest path from start to goal that is open given `given`; the two are d-connected."""
    import networkx as nx

    opened = given.union(*(nx.ancestors(graph, name) for name in given))
    first = (start, False)  # a node, and whether the path came to it by an arrowhead
    came_from: dict[tuple[str, bool], tuple[str, bool] | None] = {first: None}
    waiting = deque([first])
    while waiting:
        state = node, by_head = waiting.popleft()
        if node == goal:
            break
        passes = node not in given
        steps = [(child, True) for child in sorted(graph.successors(node)) if passes]
        if (node in opened) if by_head else passes:
            steps += [(parent, False) for parent in sorted(graph.predecessors(node))]
        for step in steps:
            if step not in came_from:
                came_from[step] = state
                waiting.append(step)
    path = []
    back: tuple[str, bool] | None = state
    while back is not None:
        path.append(back[0])
        back = came_from[back]
    return path[::-1]


def drawn(graph: Any, path: list[str]) -> str:
    """treat ← u → y"""
    arrows = ["→" if graph.has_edge(one, other) else "←" for one, other in pairwise(path)]
    return path[0] + "".join(f" {arrow} {name}" for arrow, name in zip(arrows, path[1:], strict=True))


def _pairs(edges: Any) -> list[tuple[Any, Any]]:
    advice = "pass a networkx.DiGraph, DOT text, or a list of pairs (cause, effect)"
    if not isinstance(edges, Iterable) or isinstance(edges, Mapping):
        raise IdentificationError(f"graph: {type(edges).__name__} is no graph; {advice}.")
    pairs = list(edges)
    for row, edge in enumerate(pairs):
        if not isinstance(edge, tuple | list) or len(edge) != 2 or not all(isinstance(name, str) for name in edge):
            raise IdentificationError(f"graph: edge {row} is {edge!r}; write each edge as a pair of names, ('age', 'treatment').")
    return [(cause, effect) for cause, effect in pairs]


def _from_dot(text: str) -> Any:
    """The first and only graph of DOT text, with the edges of its subgraphs."""
    import networkx as nx

    try:
        import pydot
    except ModuleNotFoundError:
        missing_extra("pydot", "dowhy")
    complaint = StringIO()
    with redirect_stdout(complaint), catch_warnings():  # pydot prints where it stopped, and meets pyparsing's warnings
        simplefilter("ignore")
        graphs = pydot.graph_from_dot_data(text)
    if not graphs:
        where = (complaint.getvalue().strip().splitlines() or ["nothing to read"])[-1]
        raise IdentificationError(
            f"graph: the text is no DOT ({where}); write digraph {{ age -> treatment; ... }}, or pass pairs."
        )
    if len(graphs) > 1 or graphs[0].get_type() == "graph" or "--" in _QUOTED.sub("", text):
        raise IdentificationError("graph: pass one digraph, every edge written as cause -> effect.")
    result = nx.DiGraph()
    for part in _parts(graphs[0]):
        for node in part.get_nodes():
            if node.get_name() not in _DEFAULTS:
                observed = {name: _plain(str(value)) for name, value in node.get_attributes().items() if name == "observed"}
                result.add_node(_name(node.get_name()), **observed)
        arrows = [*part.get_edge_defaults(), *(edge.get_attributes() for edge in part.get_edges())]
        for attributes in arrows:
            if _plain(str(attributes.get("dir", "forward"))) != "forward":
                raise IdentificationError(
                    f"graph: dir={attributes['dir']} draws an edge against its arrow; write the edge as cause -> effect, and a "
                    "common cause that nobody measured as a node of its own, named in unobserved=."
                )
        for edge in part.get_edges():
            heads = _ends(edge.get_destination())
            result.add_edges_from((tail, head) for tail in _ends(edge.get_source()) for head in heads)
    return result


def _parts(graph: Any) -> Iterator[Any]:
    """The graph and the subgraphs in it."""
    yield graph
    for part in graph.get_subgraphs():
        yield from _parts(part)


def _ends(end: Any) -> list[str]:
    """Names at one end of a DOT edge: one, or those of a group {a b}."""
    if isinstance(end, str):
        return [_name(end)]
    if end["edges"] or end["subgraphs"]:
        raise IdentificationError("graph: a group of nodes at the end of an edge has edges of its own; write them apart.")
    return [_name(name) for name in end["nodes"]]


def _name(text: str) -> str:
    """The name of a DOT node without quotes and port."""
    return text[1 : text.index('"', 1)] if text.startswith('"') else text.partition(":")[0]


def _plain(value: str) -> str:
    return value.strip('"').lower()
