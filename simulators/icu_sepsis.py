"""`ICUSepsis`: the ICU-Sepsis benchmark of Choudhary et al. (2024), with exact values.

Source: Choudhary, Gupta & Thomas, ICU-Sepsis: a benchmark MDP built from real medical data, RLC 2024 (arXiv
2406.05646). The numbers ship with the package `icu-sepsis`, whose code is never imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from causalrl.checks import Bools, Floats, one_of
from causalrl.policies import TabularPolicy
from simulators.assets import package_folder
from simulators.base import TabularSimulator
from simulators.checks import frozen
from simulators.tabular import TabularMDP

Inadmissible = Literal["mean", "terminate", "raise_exception"]

N_STATES, N_ACTIONS = 716, 25
DEATH, SURVIVAL, SINK = 713, 714, 715
TERMINAL = [DEATH, SURVIVAL, SINK]


@dataclass(frozen=True)
class ICUSepsis(TabularSimulator):
    """A model of 713 patient states and 25 treatments (5 fluid level + vasopressor level), estimated from MIMIC-III.

    States 713 (death), 714 (survival) and 715 (sink) are terminal. Reward on arrival: +1 on entering 714. The authors
    use discount 1, and stop after 500 steps.

    Args:
        inadmissible: what an action does in a state where the record has too few of it. The mode changes the value of a
            policy, so it is part of the question asked: compare no values across modes.
            "mean": as the average of the state's admissible actions.
            "terminate": the patient dies.
            "raise_exception": a policy that could take one is refused; `optimal_policy` takes admissible actions only, and
            `q` of the others is 0, that of death.

    Raises:
        DataError: for another mode.
        MissingExtraError: where the package icu-sepsis is not installed.

    Example:
        >>> simulator = ICUSepsis()
        >>> {name: round(simulator.value(policy), 4) for name, policy in simulator.baselines().items()}
        {'uniform': 0.7801, 'expert': 0.7818, 'optimal': 0.8751}
        >>> from causalrl.policies import Uniform
        >>> round(ICUSepsis("terminate").value(Uniform(25)), 4)
        0.0084
    """

    inadmissible: Inadmissible = "mean"

    def __post_init__(self) -> None:
        one_of("inadmissible", self.inadmissible, get_args(Inadmissible))
        assets_path()

    @property
    def mdp(self) -> TabularMDP:
        """The process, with the 47 coordinates of the cluster centres as state features."""
        return _process(assets_path(), self.inadmissible)

    @property
    def admissible(self) -> Bools:
        """(S, A) whether the record has enough of an action in a state; all actions are in the terminal states."""
        return _admissible(assets_path())

    def expert(self) -> TabularPolicy:
        """The clinicians' estimated policy; uniform in the terminal states, where nothing is decided.

        It puts mass on inadmissible actions in every live state, contrary to its documentation.

        Example:
            >>> simulator = ICUSepsis()
            >>> inadmissible = np.where(simulator.admissible, 0.0, simulator.expert().table).sum(axis=1)
            >>> bool((inadmissible[:713] > 0).all())
            True
        """
        return TabularPolicy(_expert(assets_path()))

    def baselines(self) -> dict[str, TabularPolicy]:
        """The policies whose returns the authors publish, for the mode "mean": "uniform", "expert" and "optimal"."""
        uniform = TabularPolicy(np.full((N_STATES, N_ACTIONS), 1 / N_ACTIONS))
        return {"uniform": uniform, "expert": self.expert(), "optimal": self.optimal_policy(1.0)}


def assets_path() -> Path:
    """Folder with the data of the installed package.

    Raises:
        MissingExtraError: where it is not installed.
    """
    return package_folder("icu_sepsis", "data") / "envs" / "assets"


@cache
def _process(assets: Path, inadmissible: Inadmissible) -> TabularMDP:
    with np.load(assets / "dynamics.npz", allow_pickle=False) as shipped:
        transitions, initial, centres = shipped["tx_mat"], shipped["d_0"], shipped["state_cluster_centers"]
    states = np.arange(N_STATES)
    forbidden = ~_admissible(assets)
    if inadmissible != "mean":
        transitions[forbidden] = states == DEATH
    rewards = (states == SURVIVAL).astype(float)
    refused = forbidden if inadmissible == "raise_exception" else None
    return TabularMDP(transitions, rewards, initial, np.isin(states, TERMINAL), state_features=centres, forbidden=refused)


@cache
def _admissible(assets: Path) -> Bools:
    """The file has one line with the number of admissible actions of each state, then one line a state that lists them."""
    lines = (assets / "admissible_actions.txt").read_text(encoding="ascii").splitlines()
    admissible = np.zeros((N_STATES, N_ACTIONS), bool)
    for state, line in enumerate(lines[1:]):
        admissible[state, [int(action) for action in line.split()]] = True
    return frozen(admissible)


@cache
def _expert(assets: Path) -> Floats:
    with np.load(assets / "dynamics.npz", allow_pickle=False) as shipped:
        table = np.array(shipped["expert_policy"])
    table[TERMINAL] = 1.0 / N_ACTIONS
    return table
