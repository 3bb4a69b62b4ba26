"""Documentation that runs: every doctest of the package and the simulators, every Python block of the README and the guides."""

from __future__ import annotations

import doctest
import pkgutil
import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import causalrl
import simulators

# Examples are so small that a single trajectory carries much of the weight; third-party warnings stay errors.
pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = [
    package.__name__ + tail
    for package in (causalrl, simulators)
    for tail in (
        "",
        *(f".{found.name.partition('.')[2]}" for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")),
    )
]
FIRST_MET = (
    *("Trajectories", "PolicyValue", "Contrast", "Estimate", "evaluate", "Always", "TabularPolicy"),
    *("IS", "DirectMethod", "DR", "TabularQ", "LinearQ", "KnownQ", "Logit"),
    *("MAGIC", "MIS", "DRL", "RIS", "MWL", "MQL", "Counts", "Calibrated", "ModelBased", "NeuralQ", "simultaneous", "collect"),
    *("BCaBootstrap", "MultiplierBootstrap", "RefitBootstrap", "RefitWald", "Hoeffding", "EmpiricalBernstein", "StudentT"),
)
WITH_EXAMPLE = [  # what a reader meets shows how it is called
    *(getattr(causalrl, name) for name in FIRST_MET),
    *(public for public in map(simulators.__dict__.get, simulators.__all__) if callable(public)),
]


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("public", WITH_EXAMPLE, ids=lambda public: public.__name__)
def test_what_a_reader_meets_first_has_an_example(public: Callable[..., Any]) -> None:
    assert ">>>" in (public.__doc__ or "")


def blocks(page: Path) -> list[tuple[int, str]]:
    """Line number and code of every ```python block."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n") + 1, match[1]) for match in found]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks run in order and share their names, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__page__"}
    for line, code in blocks(page):
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)


def test_the_readme_and_the_guides_have_blocks() -> None:
    assert {"README.md", "estimators.md", "simulators.md"} <= {page.name for page in PAGES if blocks(page)}
