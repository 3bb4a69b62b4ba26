"""`ICUSepsis`: the ICU-Sepsis benchmark of Choudhary et al. (2024), with exact values.

Source: Choudhary, Gupta & Thomas, ICU-Sepsis: a benchmark MDP built from real medical data, RLC 2024 (arXiv
2406.05646). The numbers ship with the package `icu-sepsis`, whose code is never imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from causalrl.checks import Floats
from causalrl.errors import DataError, missing_extra
from causalrl.policies import TabularPolicy
from simulators.base import TabularSimulator
from simulators.tabular import TabularMDP

DEATH, SURVIVAL, SINK = 713, 714, 715


@dataclass(frozen=True)
class ICUSepsis(TabularSimulator):
    """A model of 713 patient states and 25 treatments (5 fluid level + vasopressor level), estimated from MIMIC-III.

    States 713 (death), 714 (survival) and 715 (sink) are terminal. Reward on arrival: +1 on entering 714. The authors
    use discount 1, and stop after 500 steps.

    Args:
        inadmissible: what an action does in a state where the record has too few of it; the mode changes the value of a
            policy, so it is part of the estimand. "mean": as the average of the state's admissible actions.

    Raises:
        DataError: for another mode.
        MissingExtraError: where the package icu-sepsis is not installed.

    Example:
        >>> from causalrl.policies import Uniform
        >>> round(ICUSepsis().value(Uniform(25)), 4)
        0.7801
    """

    inadmissible: str = "mean"

    def __post_init__(self) -> None:
        if self.inadmissible != "mean":
            raise DataError(f"inadmissible: {self.inadmissible!r}; only 'mean' is implemented.")
        assets_path()

    @property
    def mdp(self) -> TabularMDP:
        """The process, with the 47 coordinates of the cluster centres as state features."""
        return _process(assets_path())

    def expert(self) -> TabularPolicy:
        """The clinicians' estimated policy; uniform in the terminal states, where nothing is decided.

        It puts mass on inadmissible actions in every live state, contrary to its documentation.
        """
        return TabularPolicy(_expert(assets_path()))


def assets_path() -> Path:
    """Where `dynamics.npz` of the installed package lies.

    Raises:
        MissingExtraError: where it is not installed.
    """
    found = find_spec("icu_sepsis")
    if found is None or not found.submodule_search_locations:
        missing_extra("icu-sepsis", "data")
    return Path(found.submodule_search_locations[0]) / "envs" / "assets" / "dynamics.npz"


@cache
def _process(path: Path) -> TabularMDP:
    with np.load(path, allow_pickle=False) as shipped:
        transitions, initial, centres = shipped["tx_mat"], shipped["d_0"], shipped["state_cluster_centers"]
    states = np.arange(len(initial))
    reward = (states == SURVIVAL).astype(float)
    return TabularMDP(transitions, reward, initial, np.isin(states, [DEATH, SURVIVAL, SINK]), state_features=centres)


@cache
def _expert(path: Path) -> Floats:
    with np.load(path, allow_pickle=False) as shipped:
        table = np.array(shipped["expert_policy"])
    table[[DEATH, SURVIVAL, SINK]] = 1.0 / table.shape[1]
    return table
