"""The figure of one patient: observed variables over time, treatments as bars below, rewards and the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from causalrl.checks import Floats, Ints, whole_number
from causalrl.data import End, Trajectories
from causalrl.errors import DataError, missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY, PALE = "#0072B2", "#D55E00", "#666666", "#dddddd"
MOST_PANELS = 12
"""With more variables than these, one map of all of them replaces the panels."""
MOST_LEVELS = 7


@dataclass(frozen=True)
class Labels:
    """How a simulator's numbers are to be read.

    Attributes:
        titles: the variables to draw, in order, each with a title that names its unit; those not in the record are left
            out. Empty: all of them, under their names.
        levels: names of the levels 0, 1, ... of a variable.
        treatments: the amount of each treatment under each action, (A,). Empty: the action codes.

    Example:
        >>> from simulators import CobsGridworld
        >>> grid = CobsGridworld()
        >>> data = grid.sample(1, grid.behavior(), grid.horizon, seed=0)
        >>> labels = Labels(titles={"row": "row, from the top"}, treatments={"left": (1, 0, 0, 0), "right": (0, 1, 0, 0)})
        >>> figure = plot_trajectory(data, 0, grid.view().feature_names, labels)
        >>> [ax.get_ylabel() for ax in figure.axes], [tick.get_text() for tick in figure.axes[1].get_yticklabels()]
        (['row, from the top', '', 'reward'], ['left', 'right'])
    """

    titles: Mapping[str, str] = field(default_factory=dict)
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    treatments: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Episode:
    """One trajectory of T steps.

    Attributes:
        variables: (T + 1, d) observed before each step and after the last one, or (T, d) where that is unknown.
        names: d names.
        actions: (T,) codes.
        rewards: (T,).
        end: how it ended, or "" while it goes on.
        span: number of steps that the time axis shows.
    """

    variables: Floats
    names: tuple[str, ...]
    actions: Ints
    rewards: Floats
    end: str
    span: int


def plot_trajectory(data: Trajectories, trajectory: int = 0, names: Sequence[str] = (), labels: Labels | None = None) -> Figure:
    """Draw one patient: a step panel a variable, bars of the treatments, rewards where they are paid, and the end.

    The observation at t is drawn from t to t + 1, the reward of step t at t + 1. The state in which a simulated
    process terminated is drawn too.

    Args:
        data: sampled by a simulator.
        trajectory: its number in the data.
        names: of the variables of integer states, `simulator.view().feature_names`; vectors bring their own.
        labels: titles, levels and treatments, such as `SEPSIS_LABELS`.

    Returns:
        a matplotlib figure.

    Raises:
        DataError: for a trajectory that is not there, continuous actions, or names that do not fit.
        MissingExtraError: where matplotlib is not installed.

    Example:
        >>> from simulators import SepsisSimulator
        >>> simulator = SepsisSimulator()
        >>> data = simulator.sample(3, simulator.physician(0.3), horizon=20, seed=0)
        >>> len(plot_trajectory(data, 1, simulator.view().feature_names, SEPSIS_LABELS).axes)
        7
    """
    if whole_number("trajectory", trajectory, 0) >= data.n:
        raise DataError(f"trajectory: {trajectory}, but the data have trajectories 0 to {data.n - 1}.")
    if not data.n_actions:
        raise DataError("actions: they are continuous; the figure has bars for action codes only.")
    rows = slice(data.offsets[trajectory], data.offsets[trajectory + 1])
    observed = data.observations[rows]
    if data.final_observations is not None:
        observed = np.concatenate([observed, data.final_observations[trajectory : trajectory + 1]])
    shown, columns = variables_of(observed, data.state_features, data.feature_names or tuple(names))
    actions, end = data.actions[rows], End(data.end[trajectory]).name.lower()
    return draw(Episode(shown, columns, actions, data.rewards[rows], end, len(actions)), labels or Labels())


def variables_of(observed: NDArray[Any], state_features: Floats | None, names: tuple[str, ...]) -> tuple[Floats, tuple[str, ...]]:
    """(M, d) variables of vectors (M, d), or of states (M,) with features or without, and their d names.

    Raises:
        DataError: where the names do not fit.
    """
    if observed.ndim == 2:
        shown = observed
    elif state_features is not None:
        shown = state_features[observed]
    else:
        return observed[:, None].astype(np.float64), ("state",)
    columns = names or tuple(f"x{j}" for j in range(shown.shape[1]))
    if len(columns) != shown.shape[1]:
        raise DataError(f"names: {len(columns)} for {shown.shape[1]} variables; pass one each, or none.")
    return shown, columns


def draw(episode: Episode, labels: Labels) -> Figure:
    """The figure of an episode; its size depends on names and labels only, so the frames of a film agree.

    Raises:
        DataError: for treatments that leave an action out.
        MissingExtraError: where matplotlib is not installed.

    Example:
        >>> stages, paid = np.array([[2.0], [1.0], [0.0]]), np.array([0.0, 1.0])
        >>> two_steps = Episode(stages, ("stage",), np.array([1, 0]), paid, "terminated", span=5)
        >>> len(draw(two_steps, Labels()).axes)  # the variable, the actions, the rewards
        3
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator
    except ModuleNotFoundError:
        missing_extra("matplotlib", "plot")
    chosen = [name for name in labels.titles if name in episode.names] or list(episode.names)
    treatments = labels.treatments or {"action": ()}
    as_map = len(chosen) > MOST_PANELS
    heights = [0.1 * len(chosen)] if as_map else [max(0.6, 0.15 * len(labels.levels.get(name, ()))) for name in chosen]
    heights += [0.24 * len(treatments) + 0.12, 0.5]
    figure = Figure(figsize=(6.5, sum(heights) + 0.6), layout="constrained")
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    if as_map:
        _map_of_all(axes[0], episode, chosen, labels)
    else:
        for ax, name in zip(axes, chosen, strict=False):
            _variable(ax, episode.variables[:, episode.names.index(name)], labels.titles.get(name, name), labels.levels.get(name))
    _treatments(axes[-2], episode.actions, treatments)
    _rewards(axes[-1], episode)
    for ax in axes:
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
        if episode.end:
            ax.axvline(len(episode.actions), color=ORANGE, linewidth=1.0, linestyle="--")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels(axes)
    return figure


def image_of(figure: Figure) -> NDArray[np.uint8]:
    """(height, width, 3) pixels of a figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _variable(ax: Axes, values: Floats, title: str, levels: tuple[str, ...] | None) -> None:
    """One variable as a step line; a tick at each level of an integer variable that has few."""
    ax.stairs(values, np.arange(len(values) + 1), baseline=None, color=BLUE, linewidth=1.6)
    low, high = (0, len(levels) - 1) if levels else (int(values.min()), int(values.max()))
    if high - low < MOST_LEVELS and (values == np.round(values)).all():
        ax.set_yticks(range(low, high + 1), levels)
        ax.set_ylim(low - 0.4, high + 0.4)
        ax.grid(axis="y", color=PALE, linewidth=0.6)
    else:
        ax.margins(y=0.15)
        ax.locator_params(axis="y", nbins=3)
    _title(ax, title)


def _title(ax: Axes, title: str) -> None:
    ax.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=8)


def _map_of_all(ax: Axes, episode: Episode, chosen: Sequence[str], labels: Labels) -> None:
    """All variables as the rows of one map, on one scale: it is meant for standardised variables."""
    shown = episode.variables[:, [episode.names.index(name) for name in chosen]].T
    most = max(float(np.abs(shown).max()), 1e-9)
    image = ax.pcolormesh(
        np.arange(shown.shape[1] + 1), np.arange(len(chosen) + 1), shown, cmap="PuOr_r", vmin=-most, vmax=most, rasterized=True
    )
    ax.set_yticks(np.arange(len(chosen)) + 0.5, [labels.titles.get(name, name) for name in chosen])
    ax.invert_yaxis()
    ax.figure.colorbar(image, ax=ax, pad=0.01, aspect=40).ax.tick_params(labelsize=7)


def _treatments(ax: Axes, actions: Ints, treatments: Mapping[str, tuple[float, ...]]) -> None:
    """A row of bars for each treatment, as high as the amount given; without names, the codes of the actions."""
    for row, (name, amounts) in enumerate(treatments.items()):
        if amounts:
            if len(actions) and actions.max() >= len(amounts):
                raise DataError(
                    f"treatments: {name!r} has {len(amounts)} amounts, but action {actions.max()} occurs; give one each."
                )
            given = np.asarray(amounts, np.float64)[actions] / max(amounts)
            ax.bar(np.arange(len(actions)) + 0.5, 0.8 * given, width=1.0, bottom=-row - 0.4, color=GREY, edgecolor="white")
        else:
            for t, action in enumerate(actions):
                ax.text(t + 0.5, -row, str(action), ha="center", va="center", fontsize=6)
        ax.axhline(-row - 0.4, color=PALE, linewidth=0.6, zorder=0)
    ax.set_yticks(-np.arange(len(treatments)), list(treatments))
    ax.set_ylim(0.6 - len(treatments) - 0.1, 0.5)
    ax.tick_params(axis="y", length=0)


def _rewards(ax: Axes, episode: Episode) -> None:
    """Bars where rewards are paid, with their sum and the end in words."""
    steps, paid = len(episode.actions), episode.rewards
    ax.vlines(np.arange(1, steps + 1)[paid != 0], 0, paid[paid != 0], color=ORANGE, linewidth=3.0)
    ax.axhline(0, color=PALE, linewidth=0.6)
    if not paid.any():
        ax.set_ylim(-1, 1)
    ax.locator_params(axis="y", nbins=3)
    ax.set_xlim(0, max(episode.span, 1) + 1)
    ax.set_xlabel("time", fontsize=8)
    said = f"sum of rewards {paid.sum():.3g}, {episode.end or 'under way'} at t = {steps}"
    ax.annotate(said, (1.0, 1.02), xycoords="axes fraction", ha="right", va="bottom", fontsize=7, color=GREY)
    _title(ax, "reward")


SEPSIS_LABELS = Labels(
    titles={
        "diabetes": "diabetes",
        "heart_rate": "heart rate",
        "systolic_pressure": "systolic pressure",
        "oxygen": "oxygen saturation",
        "glucose": "glucose",
    },
    levels={
        "diabetes": ("no", "yes"),
        "heart_rate": ("low", "normal", "high"),
        "systolic_pressure": ("low", "normal", "high"),
        "oxygen": ("low", "normal"),
        "glucose": ("very low", "low", "normal", "high", "very high"),
    },
    treatments={
        "antibiotic": (0, 0, 0, 0, 1, 1, 1, 1),
        "ventilation": (0, 0, 1, 1, 0, 0, 1, 1),
        "vasopressor": (0, 1, 0, 1, 0, 1, 0, 1),
    },
)
"""Of `SepsisSimulator`; the flags of the state that repeat the treatment before are left out."""

TUMOUR_LABELS = Labels(
    titles={
        "diameter": "diameter (cm)",
        "mean_diameter": "15-day mean (cm)",
        "chemo_concentration": "drug (mg/m³)",
    },
    treatments={"chemotherapy": (0, 0, 1, 1), "radiotherapy": (0, 1, 0, 1)},
)
"""Of `TumourSimulator`."""

ICU_SEPSIS_LABELS = Labels(
    treatments={
        "fluids": tuple(float(action // 5) for action in range(25)),
        "vasopressor": tuple(float(action % 5) for action in range(25)),
    }
)
"""Of `ICUSepsis`: five levels of each treatment; the 47 variables have no names and are in standard deviations."""
