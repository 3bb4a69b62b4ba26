"""The page of all figures: each picture with what was published, what we find, and whether it agrees."""

from __future__ import annotations

import shutil
from pathlib import Path

from paper_figures.checks import PUBLISHED, Check, markdown
from paper_figures.paper import load

HEAD = """# Paper figures

Drawn and checked by `make figures` (`python -m paper_figures --docs docs`). Tags: P, published; R, an independent re-run of the
paper's recipe; M, another source, shown and never asserted; E, exact from a table on the page. A number passes where it lies
within its tolerance; the tolerances are those of the re-run's protocol, decided before ours was made. A claim passes where its
margin is positive.
"""


def write_page(checks: list[Check], figures: Path, docs: Path) -> Path:
    """figures.md and the pictures below `docs`, of the papers that were checked; returns the page's path."""
    pictures = docs / "figures"
    pictures.mkdir(parents=True, exist_ok=True)
    parts = [HEAD]
    for name in dict.fromkeys(check.paper for check in checks):
        own = [check for check in checks if check.paper == name]
        parts += [_section(name, own, sorted(figures.glob(f"{name}*.png")), pictures)]
    page = docs / "figures.md"
    page.write_text("\n".join(parts), encoding="utf-8")
    return page


def _section(name: str, checks: list[Check], made: list[Path], pictures: Path) -> str:
    paper = load(name)
    for path in made:
        shutil.copyfile(path, pictures / path.name)
    images = "\n".join(f"![{paper.title}](figures/{path.name})" for path in made)
    passed, asserted = (sum(check.verdict in kinds for check in checks) for kinds in (("pass",), ("pass", "fail")))
    head = f"## {paper.title}\n\n{paper.source}. Numbers: {PUBLISHED[name]['source']}. `paper_figures/{name}.py`."
    table = f"<details><summary>{passed} of {asserted} checks pass</summary>\n\n{markdown(checks)}\n</details>\n"
    return f"{head}\n\n{images}\n\n{table}"
