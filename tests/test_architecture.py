"""The shape of the code: who imports whom, one list of public names, short files, a light import."""

from __future__ import annotations

import ast
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import causalrl

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("causalrl", "simulators")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Left to right; a module imports at module level only what stands in a group to the left of its own, or in its own folder.
ORDER = (
    ("errors",),
    ("checks",),
    ("kernels",),
    ("steps",),
    ("fields",),
    ("data",),
    ("policies",),
    ("derived_policies",),
    ("estimands",),
    ("inference", "diagnostics"),
    ("estimate",),
    ("nuisances",),
    ("estimators",),
    ("heterogeneity",),
    ("sensitivity", "selection", "refutation", "learning", "checkup", "identification"),
    ("evaluation",),
    ("replication",),
    ("report",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
FREE = ("adapters", "datasets")  # anywhere right of data; nothing imports them at module level
SIMULATORS_MAY_IMPORT = {"errors", "checks", "kernels", "data", "steps", "policies"}
LAZY = {  # imported where they are used
    *("sklearn", "statsmodels", "patsy", "pandas", "polars", "pyarrow", "typer", "rich", "gymnasium", "matplotlib"),
    *("econml", "dowhy", "networkx", "pydot", "d3rlpy", "torch", "causaldata", "icu_sepsis", "joblib", "minari", "structlog"),
}
ENVIRONMENTS = ROOT / "simulators" / "environments.py"
HEAVY = ("torch", "econml", "dowhy", "matplotlib", "statsmodels", "sklearn", "pandas")
MOST_LINES = 350


def ident(path: Path) -> str:
    return str(path.relative_to(ROOT))


files = pytest.mark.parametrize("path", FILES, ids=ident)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def module_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run on import: not those of functions, nor those under TYPE_CHECKING."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if is_type_checking(node):
            yield from module_level(node.orelse)  # type: ignore[attr-defined]
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from module_level(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from module_level(handler.body)


def imports(path: Path) -> Iterator[str]:
    """Dotted names that a file imports at module level; `from a import b` gives both a and a.b."""
    for node in module_level(parsed(path).body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{ident(path)}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_of_causalrl(path: Path) -> set[str]:
    """First parts below `causalrl` of what a file imports, as far as they are modules."""
    seconds = {name.split(".")[1] for name in imports(path) if name.startswith("causalrl.")}
    return {part for part in seconds if (ROOT / "causalrl" / part).is_dir() or (ROOT / "causalrl" / f"{part}.py").exists()}


def own_part(path: Path) -> str:
    return path.relative_to(ROOT / "causalrl").parts[0].removesuffix(".py")


CAUSALRL = [path for path in FILES if path.is_relative_to(ROOT / "causalrl") and path != ROOT / "causalrl" / "__init__.py"]


@pytest.mark.parametrize("path", CAUSALRL, ids=ident)
def test_module_level_imports_go_left(path: Path) -> None:
    own = own_part(path)
    assert own in RANK or own in FREE, f"{own} has no place in the order"
    for part in parts_of_causalrl(path) - {own}:
        assert part not in FREE, f"imports {part}, which is imported where it is used"
        assert own in FREE or RANK[part] < RANK[own], f"{own} imports {part}, which does not stand to its left"


@pytest.mark.parametrize("path", CAUSALRL, ids=ident)
def test_an_import_of_the_package_itself_names_its_modules(path: Path) -> None:
    lazy = {name for name in imports(path) if name.startswith("causalrl.") and name.split(".")[1] in causalrl._HOME}
    public = {name for name in lazy if name.split(".")[1] not in {own_part(other) for other in CAUSALRL}}
    assert not public, f"{public}: import from the module that defines it, not through the lazy package"


@files
def test_what_is_heavy_or_optional_is_imported_where_it_is_used(path: Path) -> None:
    base = {"gymnasium"} if path == ENVIRONMENTS else set()  # an environment is a subclass, and registers its id on import
    assert not ({name.split(".")[0] for name in imports(path)} & LAZY) - base


@files
def test_simulators_stay_outside(path: Path) -> None:
    if path.is_relative_to(ROOT / "simulators"):
        assert parts_of_causalrl(path) <= SIMULATORS_MAY_IMPORT
        assert "causalrl" not in set(imports(path))
    else:
        assert not [
            name for name in imports(path) if name.split(".")[0] in ("simulators", "benchmarks", "paper_figures", "tests")
        ]


def test_the_list_of_public_names_is_one() -> None:
    tree = parsed(ROOT / "causalrl" / "__init__.py")
    (block,) = (node for node in tree.body if is_type_checking(node))
    declared = {}
    for node in block.body:  # type: ignore[attr-defined]
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name, "re-exports are written `name as name`"
            declared[alias.name] = str(node.module)
    home = {name: f"causalrl.{module}" for name, module in causalrl._HOME.items()}
    assert declared == {**home, **dict.fromkeys(causalrl._MODULES, "causalrl")}
    assert sorted(causalrl.__all__) == sorted(declared)
    assert len(set(causalrl.__all__)) == len(causalrl.__all__)
    assert dir(causalrl) == sorted(causalrl.__all__)


@pytest.mark.parametrize("name", causalrl.__all__)
def test_every_public_name_is_there_documented_and_defined_where_it_is_listed(name: str) -> None:
    item = getattr(causalrl, name)
    if name in causalrl._MODULES:
        assert item.__name__ == f"causalrl.{name}"
        return
    module = f"causalrl.{causalrl._HOME[name]}"
    assert getattr(sys.modules[module], name) is item
    if callable(item):
        assert item.__doc__
        assert not item.__doc__.startswith(f"{name}("), "a docstring made by dataclass"


def test_no_public_function_has_the_name_of_a_module_or_folder() -> None:
    modules = {part.removesuffix(".py") for path in FILES for part in path.relative_to(ROOT).parts}
    functions = {
        node.name: ident(path)
        for path in FILES
        for node in parsed(path).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    assert not {name: where for name, where in functions.items() if name in modules}


@files
def test_nothing_is_unpickled(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [str(getattr(node, "module", ""))]
            assert not [
                name for name in names if name.split(".")[0] in ("pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve")
            ]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("joblib.load", "torch.load", "pd.read_pickle", "pandas.read_pickle")
            allowed = [word for word in node.keywords if word.arg == "allow_pickle"]
            assert all(isinstance(word.value, ast.Constant) and word.value.value is False for word in allowed)


@files
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines < MOST_LINES
    assert ast.get_docstring(parsed(path))


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def loaded_by(code: str) -> set[str]:
    return set(json.loads(in_a_fresh_process(f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))")))


def test_import_loads_nothing_heavy() -> None:
    assert not loaded_by("import causalrl") & set(HEAVY)


def test_even_all_public_names_load_nothing_heavy() -> None:
    loaded = loaded_by("import causalrl\nfor name in causalrl.__all__: getattr(causalrl, name)")
    assert "causalrl.evaluation" in loaded
    assert not loaded & (set(HEAVY) | LAZY)


def test_simulators_load_nothing_heavy() -> None:
    assert not loaded_by("import simulators") & set(HEAVY)


def test_import_costs_less_than_half_a_second_more_than_numpy() -> None:
    timed = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
    pairs = [[float(in_a_fresh_process(timed.format(name))) for name in ("numpy", "causalrl")] for _ in range(5)]
    assert statistics.median(mine - numpys for numpys, mine in pairs) < 0.5
