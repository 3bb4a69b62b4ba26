"""One quiet style, readable at column width, with the colours of Okabe & Ito (2008), which the colour-blind tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, RED, GREY = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442", "#D55E00", "#666666"),
)
COLUMN, PAGE = 3.4, 7.0
"""Inches."""
_RC = {
    **{
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.labelsize": 8,
        "legend.fontsize": 7,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
    },
    **{
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.2,
        "lines.markersize": 3.5,
    },
    **{"legend.frameon": False, "figure.constrained_layout.use": True, "axes.titlelocation": "left", "savefig.dpi": 200},
    **{"pdf.fonttype": 42, "axes.prop_cycle": f"cycler('color', {[BLUE, ORANGE, GREEN, PINK, SKY, RED, GREY]})"},
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style, without a screen."""
    import matplotlib as mpl

    mpl.use("Agg")
    with mpl.rc_context(_RC):
        yield


def save(figures: Mapping[str, Figure], name: str, folder: Path) -> list[Path]:
    """Each as PDF and PNG, the same bytes from the same numbers; returns the paths of the PNG files."""
    import matplotlib.pyplot as plt

    made = []
    for suffix, figure in figures.items():
        stem = f"{name}_{suffix}" if suffix else name
        figure.savefig(folder / f"{stem}.pdf", metadata={"CreationDate": None})
        figure.savefig(folder / f"{stem}.png")
        made.append(folder / f"{stem}.png")
        plt.close(figure)
    return made
