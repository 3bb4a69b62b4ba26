"""Identification from graphs: against enumeration over subsets and an independent d-separation, and the errors as advice."""

from __future__ import annotations

import time
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

import causalrl as crl
from causalrl.errors import DataError, IdentificationError, MissingExtraError

nx = pytest.importorskip("networkx")
dowhy_graph = pytest.importorskip("dowhy.graph")

TRIAL = [("z", "t"), ("u", "t"), ("u", "y"), ("t", "y")]
CONFOUNDED = [("age", "treat"), ("age", "y"), ("treat", "y")]


# --- graphs at random -------------------------------------------------------------------------------------------------------


@st.composite
def questions(draw: st.DrawFn, most: int = 7) -> tuple[Any, frozenset[str]]:
    """A DAG in which t causes y, its node names in a random causal order, and the unobserved ones."""
    count = draw(st.integers(3, most))
    names = draw(st.permutations(["t", "y", *"abcdefgh"[: count - 2]]))
    pairs = [(names[i], names[j]) for i in range(count) for j in range(i + 1, count)]
    kept = draw(st.lists(st.booleans(), min_size=len(pairs), max_size=len(pairs)))
    graph = nx.DiGraph([pair for pair, keep in zip(pairs, kept, strict=True) if keep])
    graph.add_nodes_from(names)
    if not nx.has_path(graph, "t", "y"):
        graph.add_edge(*sorted(["t", "y"], key=names.index))
    if not nx.has_path(graph, "t", "y"):
        graph = nx.reverse(graph)
    hidden = draw(st.sets(st.sampled_from(sorted(set(names) - {"t", "y"}))))
    return graph, frozenset(hidden)


def without_edges_out_of_t(graph: Any) -> Any:
    cut = nx.create_empty_copy(graph)
    cut.add_edges_from((cause, effect) for cause, effect in graph.edges if cause != "t")
    return cut


def valid_sets(graph: Any, hidden: frozenset[str]) -> list[frozenset[str]]:
    """Every backdoor set, by its definition on paths: no descendant of t, and every path into t is blocked."""
    free = sorted(set(graph) - hidden - nx.descendants(graph, "t") - {"t", "y"})
    skeleton = graph.to_undirected()
    backdoor = [path for path in nx.all_simple_paths(skeleton, "t", "y") if graph.has_edge(path[1], path[0])]
    subsets = [frozenset(chosen) for size in range(len(free) + 1) for chosen in combinations(free, size)]
    return [chosen for chosen in subsets if all(blocked(graph, path, chosen) for path in backdoor)]


def blocked(graph: Any, path: list[str], chosen: frozenset[str]) -> bool:
    for before, node, after in zip(path, path[1:], path[2:], strict=False):
        collider = graph.has_edge(before, node) and graph.has_edge(after, node)
        if collider and not (nx.descendants(graph, node) | {node}) & chosen:
            return True
        if not collider and node in chosen:
            return True
    return False


def found_or_none(graph: Any, hidden: frozenset[str]) -> frozenset[str] | None:
    try:
        return frozenset(crl.adjustment_set(graph, "t", "y", unobserved=sorted(hidden)))
    except IdentificationError:
        return None


@settings(max_examples=250, deadline=None)
@given(questions())
def test_the_set_is_valid_and_minimal_and_found_wherever_enumeration_finds_one(question: tuple[Any, frozenset[str]]) -> None:
    graph, hidden = question
    valid = valid_sets(graph, hidden)
    found = found_or_none(graph, hidden)
    if found is None:
        assert not valid
    else:
        assert found in valid
        assert not [smaller for smaller in valid if smaller < found]
        assert nx.is_d_separator(without_edges_out_of_t(graph), {"t"}, {"y"}, set(found))


@settings(max_examples=100, deadline=None)
@given(questions(), st.integers(0, 2**32))
def test_no_other_minimal_set_has_less_variance(question: tuple[Any, frozenset[str]], seed: int) -> None:
    """In a linear Gaussian model, of the ordinary least squares estimate: Var(y | t, Z) / Var(t | Z)."""
    graph, hidden = question
    found = found_or_none(graph, hidden)
    if found is None:
        return
    valid = valid_sets(graph, hidden)
    minimal = [chosen for chosen in valid if not any(smaller < chosen for smaller in valid)]
    nodes = list(nx.topological_sort(graph))
    covariance = linear_model(graph, nodes, seed)
    variances = {chosen: variance(covariance, nodes, sorted(chosen)) for chosen in minimal}
    assert variances[found] <= min(variances.values()) * (1 + 1e-8)


def linear_model(graph: Any, nodes: list[str], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = np.zeros((len(nodes), len(nodes)))
    for cause, effect in graph.edges:
        weights[nodes.index(effect), nodes.index(cause)] = rng.normal()
    total = np.linalg.inv(np.eye(len(nodes)) - weights)
    return total @ np.diag(rng.uniform(0.5, 2, len(nodes))) @ total.T


def variance(covariance: np.ndarray, nodes: list[str], chosen: list[str]) -> float:
    def left(name: str, held: list[str]) -> float:
        i, z = nodes.index(name), [nodes.index(other) for other in held]
        return float(covariance[i, i] - covariance[i, z] @ np.linalg.solve(covariance[np.ix_(z, z)], covariance[z, i]))

    return left("y", ["t", *chosen]) / left("t", chosen)


@settings(max_examples=250, deadline=None)
@given(questions())
def test_instruments_are_those_of_the_graphical_criterion(question: tuple[Any, frozenset[str]]) -> None:
    graph, hidden = question
    free = sorted(set(graph) - hidden - nx.descendants(graph, "t") - {"t", "y"})
    cut = without_edges_out_of_t(graph)
    expected = [z for z in free if nx.is_d_separator(cut, {z}, {"y"}, set()) and not nx.is_d_separator(cut, {z}, {"t"}, set())]
    direct = set(dowhy_graph.get_instruments(graph, ["t"], ["y"])) - hidden
    assert direct == set(expected) & set(graph.predecessors("t"))
    if expected:
        assert crl.instruments(graph, "t", "y", unobserved=hidden) == tuple(expected)
    else:
        with pytest.raises(IdentificationError, match="no observed variable is an instrument"):
            crl.instruments(graph, "t", "y", unobserved=hidden)


@settings(max_examples=250, deadline=None)
@given(questions())
@example((nx.DiGraph([("t", "y"), ("u", "t"), ("u", "y")]), frozenset("u")))
def test_the_path_that_an_error_names_is_open(question: tuple[Any, frozenset[str]]) -> None:
    graph, hidden = question
    try:
        crl.adjustment_set(graph, "t", "y", unobserved=hidden)
    except IdentificationError as error:
        adjusted, drawn = str(error).split("adjusted for ")[1].split(" stays open")[0].rsplit(", ", 1)
        path = drawn.replace("←", "→").split(" → ")
        chosen = frozenset(adjusted.replace(" and ", ", ").split(", ")) - {"nothing"}
        assert (path[0], path[-1]) == ("t", "y")
        assert graph.has_edge(path[1], "t")
        assert len(set(path)) == len(path)
        assert not dowhy_graph.is_blocked(graph, path, chosen)
        assert not blocked(graph, path, chosen)
        assert set(path) & hidden


# --- graphs from the books --------------------------------------------------------------------------------------------------


def test_m_bias_needs_no_adjustment() -> None:
    """Pearl 2009, figure 3.4 without the arrows out of the collider: adjusting for it would open a path."""
    graph = [("a", "t"), ("a", "m"), ("b", "m"), ("b", "y"), ("t", "y")]
    assert crl.adjustment_set(graph, "t", "y") == ()
    assert crl.adjustment_set([*graph, ("m", "t")], "t", "y", unobserved=("a",)) == ("b",)


def test_pearls_figure_3_4() -> None:
    """Pearl, Causality, figure 3.4: {X3, X4} and {X4, X5} are admissible, {X4} alone and {X6} are not."""
    graph = "digraph { x1 -> x3 -> xi; x1 -> x4; x2 -> x4 -> xi; x2 -> x5 -> xj; x4 -> xj; xi -> x6 -> xj }"
    assert crl.adjustment_set(graph, "xi", "xj") == {"x4", "x5"}
    assert crl.adjustment_set(graph, "xi", "xj", unobserved=["x5", "x2"]) in ({"x3", "x4"}, {"x1", "x4"})


def test_a_cause_of_the_confounder_is_left_alone() -> None:
    assert crl.adjustment_set([("a", "t"), ("a", "b"), ("b", "y"), ("t", "y")], "t", "y") == ["b"]


def test_an_instrument_behind_an_unmeasured_step_counts() -> None:
    graph = [("z", "w"), ("w", "t"), *TRIAL[1:]]
    assert crl.instruments(graph, "t", "y", unobserved=("u", "w")) == ("z",)
    assert crl.instruments(graph, "t", "y", unobserved=("u",)) == ("w", "z")


# --- what comes back --------------------------------------------------------------------------------------------------------


def test_it_reads_as_a_tuple_and_equals_a_set() -> None:
    graph = [*CONFOUNDED, ("sex", "treat"), ("sex", "y")]
    found = crl.adjustment_set(graph, "treat", "y")
    assert found == ("age", "sex") == tuple(found)
    assert found == {"sex", "age"}
    assert found == ["sex", "age"]
    assert found != ("age",)
    assert found != "age"
    assert (found[0], len(found), "sex" in found) == ("age", 2, True)
    assert str(found) == "adjust for age and sex"
    assert str(crl.adjustment_set([("t", "y")], "t", "y")) == "adjust for nothing: no backdoor path is open"


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_the_effect_goes_to_an_estimator(make: Any) -> None:
    rng = np.random.default_rng(1)
    age = rng.normal(size=2_000)
    treat = (rng.random(2_000) < 1 / (1 + np.exp(-age))).astype(int)
    table = make({"y": treat + 2 * age + rng.normal(size=2_000), "noise": age, "treat": treat, "age": age})
    study = crl.adjustment_set(CONFOUNDED, "treat", "y").study(table)
    assert study.feature_names == ("age",)
    estimate = crl.AIPW(outcome=crl.PerAction(LinearRegression()), propensity=crl.Logit()).estimate(study, crl.ATE())
    same = crl.Trajectories.from_cross_section(age[:, None], treat, table["y"].to_numpy(), feature_names=["age"])
    assert study.fingerprint == same.fingerprint
    assert 1.0 in estimate.interval()


def test_nothing_to_adjust_for_gives_the_difference_of_means() -> None:
    table = pd.DataFrame({"t": [0, 1] * 50, "y": np.random.default_rng(0).normal(size=100)})
    study = crl.adjustment_set([("t", "y")], "t", "y").study(table)
    estimate = crl.AIPW(outcome=crl.PerAction(LinearRegression()), propensity=crl.Logit()).estimate(study, crl.ATE())
    assert estimate.value == pytest.approx(table.y[table.t == 1].mean() - table.y[table.t == 0].mean(), abs=1e-12)


@pytest.mark.parametrize("continuous", [False, True])
def test_the_effect_goes_to_two_stage_least_squares(continuous: bool) -> None:
    rng = np.random.default_rng(2)
    z, u = rng.integers(0, 2, 500), rng.normal(size=500)
    dose = z + u + rng.normal(size=500)
    t = dose if continuous else (dose > 0.5).astype(int)
    table = pd.DataFrame({"z": z, "t": t, "y": t + u})
    found = crl.instruments(TRIAL, "t", "y", unobserved=("u",))
    wald = np.cov(z, table.y)[0, 1] / np.cov(z, t)[0, 1]
    assert crl.TwoStage(found[0]).estimate(found.study(table)).value == pytest.approx(wald, rel=1e-10)


def test_columns_that_are_not_there_are_named() -> None:
    found = crl.adjustment_set(CONFOUNDED, "treat", "y")
    with pytest.raises(DataError, match=r"frame: .*'age'.*columns age, treat, y"):
        found.study(pd.DataFrame({"ages": [1.0], "treat": [0], "y": [1.0]}))
    with pytest.raises(DataError, match=r"frame: .* Pass a pandas"):
        found.study([[1, 2, 3]])
    with pytest.raises(DataError, match="row 1"):
        found.study(pd.DataFrame({"age": [1.0, np.nan], "treat": [0, 1], "y": [1.0, 2.0]}))
    with pytest.raises(DataError, match=r"row 1 is .*nan"):
        found.study(pd.DataFrame({"age": [1.0, 2.0], "treat": [0, np.nan], "y": [1.0, 2.0]}))


# --- graphs as they come ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "graph",
    [
        iter(CONFOUNDED),
        [list(edge) for edge in CONFOUNDED],
        nx.DiGraph(CONFOUNDED),
        nx.MultiDiGraph([*CONFOUNDED, *CONFOUNDED]),
        'digraph "my graph" {\n  age -> {treat y};  // a group\n  "treat" -> y:s [label="effect"]\n}',
        "strict digraph G { node [shape=box]; subgraph cluster_0 { age -> treat -> y } age -> y }",
    ],
    ids=["iterator", "lists", "networkx", "multigraph", "dot", "subgraph"],
)
def test_every_way_to_write_a_graph(graph: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert crl.adjustment_set(graph, "treat", "y") == ("age",)
    assert capsys.readouterr() == ("", "")


def test_a_node_marked_unobserved_is_not_adjusted_for() -> None:
    dot = 'digraph { u [label="severity", observed="no"]; u -> t; u -> w -> y; t -> y }'
    assert crl.adjustment_set(dot, "t", "y") == ("w",)
    graph = nx.DiGraph([("u", "t"), ("u", "y"), ("t", "y")])
    graph.add_node("u", observed="no")
    with pytest.raises(IdentificationError, match="t ← u → y stays open"):
        crl.adjustment_set(graph, "t", "y")


def test_the_graph_given_is_left_as_it_is() -> None:
    graph = nx.DiGraph(CONFOUNDED)
    crl.adjustment_set(graph, "treat", "y")
    assert (list(graph.edges), dict(graph.nodes(data=True))) == (list(nx.DiGraph(CONFOUNDED).edges), {n: {} for n in graph})


@pytest.mark.parametrize(
    ("graph", "text"),
    [
        ([*CONFOUNDED, ("y", "age")], r"(age → y → age|y → age → y|age → treat → y → age).* is a cycle"),
        ([("y", "y"), ("treat", "y")], "y → y is a cycle"),
        ([("age", "treat"), ("age",)], r"edge 1 is \('age',\)"),
        ([("age", "treat"), "ty"], "edge 1 is 'ty'"),
        ([("age", 3)], r"edge 0 is \('age', 3\)"),
        (nx.DiGraph([(1, 2)]), "node 1 is no text"),
        (nx.Graph(CONFOUNDED), "no directions"),
        (7, "int is no graph"),
        ({"age": ["treat"]}, "dict is no graph"),
        ([], "no edges"),
        ("digraph { age -> treat", "the text is no DOT .*rbrace"),
        ("graph.dot", "the text is no DOT"),
        ("", "the text is no DOT"),
        ("dag { age -> treat }", "the text is no DOT"),
        ("graph { age -- treat }", "every edge written as cause -> effect"),
        ("digraph { age -- treat }", "every edge written as cause -> effect"),
        ("digraph { a -> b } digraph { c -> d }", "pass one digraph"),
        ("digraph { age -> y [dir=both] }", "common cause that nobody measured"),
        ("digraph { edge [dir=back]; age -> y }", "dir=back"),
        ("digraph { {a -> b} -> y }", "write them apart"),
    ],
)
def test_what_is_no_graph(graph: Any, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for ask in (crl.adjustment_set, crl.instruments):
        with pytest.raises(IdentificationError, match=text):
            ask(graph, "treat", "y")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("treatment", "outcome", "unobserved", "text"),
    [
        ("treated", "y", (), "treatment: the graph has no node 'treated'; did you mean 'treat'"),
        ("treat", "bmi", (), "outcome: the graph has no node 'bmi'; it has age, treat, y"),
        ("treat", "y", ("agee",), "unobserved: .* did you mean 'age'"),
        ("treat", "y", None, "unobserved: None; pass a tuple"),
        ("treat", "y", "age", r"unobserved: 'age'; pass a tuple of names"),
        ("treat", ["y"], (), "outcome: the graph has no node"),
        ("treat", "treat", (), "both are 'treat'"),
        ("treat", "y", ("y",), "outcome: 'y' is unobserved"),
        ("y", "treat", (), "no directed path leads from y to treat.*swap"),
        ("treat", "age", (), "no directed path leads from treat to age.*swap"),
    ],
)
def test_questions_that_the_graph_cannot_take(treatment: Any, outcome: Any, unobserved: Any, text: str) -> None:
    for ask in (crl.adjustment_set, crl.instruments):
        with pytest.raises(IdentificationError, match=text):
            ask(CONFOUNDED, treatment, outcome, unobserved=unobserved)


def test_no_adjustment_set_names_the_path_and_the_instruments() -> None:
    with pytest.raises(IdentificationError, match=r"t ← u → y stays open. Measure u, or use instruments\(...\), which finds z\."):
        crl.adjustment_set(TRIAL, "t", "y", unobserved=("u",))
    with pytest.raises(IdentificationError, match="Measure age; the graph has no instrument either"):
        crl.adjustment_set(CONFOUNDED, "treat", "y", unobserved=("age",))


def test_no_instrument_names_what_spoils_it_and_the_adjustment_set() -> None:
    with pytest.raises(
        IdentificationError, match=r"age reaches y past treat by age → y. Use adjustment_set\(...\): adjust for age"
    ):
        crl.instruments(CONFOUNDED, "treat", "y")
    with pytest.raises(IdentificationError, match=r"none moves t. Use adjustment_set\(...\): adjust for nothing"):
        crl.instruments([("t", "y")], "t", "y")
    with pytest.raises(IdentificationError, match="Nothing observed blocks every backdoor path either"):
        crl.instruments(CONFOUNDED, "treat", "y", unobserved=("age",))


def test_a_graph_of_a_hundred_nodes_takes_no_time() -> None:
    rng = np.random.default_rng(0)
    names = [f"x{j:03d}" for j in range(98)]
    edges = [(a, b) for a, b in combinations([*names, "t", "y"], 2) if rng.random() < 0.2 or (a, b) == ("t", "y")]
    start = time.perf_counter()
    found = crl.adjustment_set(edges, "t", "y")
    assert time.perf_counter() - start < 1
    assert found
    assert nx.is_d_separator(without_edges_out_of_t(nx.DiGraph(edges)), {"t"}, {"y"}, set(found))


def test_without_dowhy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "dowhy.graph", None)
    with pytest.raises(MissingExtraError, match=r"causalrl-ope\[dowhy\]"):
        crl.adjustment_set(CONFOUNDED, "treat", "y")
