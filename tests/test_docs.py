"""Documentation that runs: every doctest of the package and the simulators, every Python block of the README."""

from __future__ import annotations

import doctest
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import causalrl
import simulators

# Examples are so small that a single trajectory carries much of the weight; third-party warnings stay errors.
pytestmark = pytest.mark.filterwarnings("ignore::causalrl.errors.CausalRLWarning")

README = Path(__file__).resolve().parents[1] / "README.md"
MODULES = [
    package.__name__ + tail
    for package in (causalrl, simulators)
    for tail in (
        "",
        *(f".{found.name.partition('.')[2]}" for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")),
    )
]
WITH_EXAMPLE = (  # what a reader meets first shows how it is called
    *("Trajectories", "PolicyValue", "Contrast", "Estimate", "evaluate", "Always", "TabularPolicy"),
    *("IS", "DirectMethod", "DR", "TabularQ", "LinearQ", "KnownQ", "Logit"),
)


@pytest.mark.parametrize("name", MODULES)
def test_doctests(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    result = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_what_a_reader_meets_first_has_an_example(name: str) -> None:
    assert ">>>" in getattr(causalrl, name).__doc__


def readme_blocks() -> list[tuple[int, str]]:
    """Line number and code of every ```python block."""
    text = README.read_text(encoding="utf-8")
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text[: match.start(1)].count("\n") + 1, match[1]) for match in found]


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks run in order and share their names, as a reader would paste them."""
    if not README.exists():
        pytest.skip("there is no README yet")
    blocks = readme_blocks()
    assert blocks, "the README has no ```python block"
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__readme__"}
    for line, code in blocks:
        exec(compile("\n" * (line - 1) + code, str(README), "exec"), names)
