"""Figure of the verdicts of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causalrl.diagnostics.record import VERDICTS
from causalrl.errors import missing_extra
from causalrl.report.plots import BLUE, GREY, ORANGE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NOTHING = "no estimate"
_COLORS = dict(zip(VERDICTS, (BLUE, "#F0E442", ORANGE), strict=True))


def plot_verdicts(frame: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """A cell for each policy and estimator, coloured by its verdict and with its value in it.

    Args:
        frame: columns policy, estimator, value, verdict, a row a pair. ax: where to draw; a new figure by default.
    """
    try:
        import matplotlib.pyplot as plt
        from matplotlib.patches import Patch, Rectangle
    except ModuleNotFoundError:
        missing_extra("matplotlib", "plot")
    policies, estimators = (list(dict.fromkeys(frame[name])) for name in ("policy", "estimator"))
    if ax is None:
        size = 2.2 + 0.9 * len(estimators), 1.4 + 0.35 * len(policies)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    for policy, estimator, value, verdict in frame[["policy", "estimator", "value", "verdict"]].itertuples(
        index=False, name=None
    ):
        x, y = estimators.index(estimator), policies.index(policy)
        known = isinstance(verdict, str)
        color = _COLORS[verdict] if known else "white"
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=color, alpha=0.6, edgecolor="white"))
        ax.text(x, y, f"{value:.3g}" if known else _NOTHING, ha="center", va="center", fontsize=7, color="black")
    ax.set_xticks(range(len(estimators)), list(map(str, estimators)), rotation=30, ha="right", fontsize=8)
    ax.set_yticks(range(len(policies)), list(map(str, policies)), fontsize=8)
    ax.set_xlim(-0.5, len(estimators) - 0.5)
    ax.set_ylim(len(policies) - 0.5, -0.5)
    handles = [Patch(facecolor=color, alpha=0.6, label=verdict) for verdict, color in _COLORS.items()]
    ax.legend(handles=handles, fontsize=7, ncols=3, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), labelcolor=GREY)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return ax
