"""Figure of a refutation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from causalrl.errors import missing_extra
from causalrl.report.plots import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalrl.refutation.base import Refutation


def refutation_plot(refutation: Refutation, ax: Axes | None = None) -> Axes:
    """The values on the changed data as a histogram, the right answer as a line, and the estimate on the data as they are.

    Args:
        refutation: of any refuter. ax: where to draw; a new figure by default.
    """
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError:
        missing_extra("matplotlib", "plot")
    if ax is None:
        _, ax = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
    values = refutation.values
    if len(values) > 1 and np.ptp(values) > 0:
        ax.hist(values, bins="auto", color=BLUE, alpha=0.5)
    else:
        ax.axvline(float(values[0]), color=BLUE, linewidth=3, alpha=0.5)
    ax.axvline(refutation.expected, color=GREY, linewidth=1.4, linestyle="--", label="right answer")
    ax.axvline(float(np.reshape(refutation.estimate.value, -1)[0]), color=ORANGE, linewidth=1.4, label="estimate on the data")
    ax.set_xlabel(refutation.estimate.estimand)
    ax.set_ylabel("replicates")
    ax.set_title(f"{refutation.refuter}\n{refutation.estimate.estimator}, p = {refutation.p_value:.2g}", fontsize=9, loc="left")
    ax.legend(frameon=False, fontsize=8)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
