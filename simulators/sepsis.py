"""`SepsisSimulator`: the sepsis simulator of Oberst & Sontag (2019), exact on its full 1440 states.

Source: Oberst & Sontag, Counterfactual off-policy evaluation with Gumbel-max structural causal models, ICML 2019, and
their repository clinicalml/gumbel-max-scm (branch `master` is version v1, frozen for the paper, `sim-v2` is v2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from causalrl.checks import Bools, Floats, Ints
from causalrl.errors import DataError, PolicyError
from causalrl.policies import TabularPolicy
from simulators.base import TabularSimulator
from simulators.tabular import TabularMDP

LEVELS = {
    "diabetes": 2,
    "heart_rate": 3,
    "systolic_pressure": 3,
    "oxygen": 2,
    "glucose": 5,
    "antibiotic": 2,
    "vasopressor": 2,
    "ventilation": 2,
}
"""Number of levels of each factor of a state, most significant digit of the state index first."""

VERSIONS = ("v1", "v2")
N_ACTIONS = 8
DIABETES_PREVALENCE = 0.2
_LOW, _NORMAL, _HIGH = 0, 1, 2
_GLUCOSE_NORMAL = 2


@dataclass(frozen=True)
class SepsisSimulator(TabularSimulator):
    """Treatment of sepsis: four vital signs, a hidden diabetes, three treatments that are on or off.

    1440 states: diabetes (constant), heart rate and systolic pressure (low, normal, high), oxygen saturation (low,
    normal), glucose (five levels, 2 is normal), and whether antibiotic, vasopressor and ventilation are on. 8 actions:
    4 antibiotic + 2 ventilation + vasopressor, a bit order that differs from that of the state.
    Reward on arrival: -1 for death (at least three vital signs abnormal), +1 for discharge (none abnormal, nothing on);
    both end the process. Patients start untreated, in a state that is neither; 19.0% of them are diabetic.

    Args:
        version: "v2", or "v1" to reproduce papers: there an upward glucose fluctuation of a non-diabetic ends at level
            1 at most (clinicalml/gumbel-max-scm#1). Values differ a lot.

    Raises:
        DataError: for another version.

    Example:
        >>> simulator = SepsisSimulator("v1")
        >>> round(simulator.value(simulator.physician(0.05), horizon=20), 4)
        0.3118
        >>> simulator.sample(100, simulator.physician(0.05), horizon=20, seed=0).n_states
        1440
    """

    version: str = "v2"

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise DataError(f"version: {self.version!r}; pass 'v2', or 'v1' to reproduce papers.")

    @property
    def mdp(self) -> TabularMDP:
        """The process, with the eight factors as state features."""
        return _process(self.version)

    def physician(self, epsilon: float = 0.05, discount: float = 0.99) -> TabularPolicy:
        """The paper's clinician: 1 - epsilon on the best action, epsilon / 7 on each other one.

        Best is meant for the chain *without* an end, as in the authors' code: it differs from `optimal_policy` in some
        live states (9% of them in v1).

        Args:
            epsilon: in [0, 1].
            discount: of the planning, below 1.

        Raises:
            PolicyError: for epsilon outside [0, 1].
            EstimandError: for a discount outside [0, 1), at which the endless chain has no plan.
        """
        if not 0 <= epsilon <= 1:
            raise PolicyError(f"epsilon: {epsilon} is outside [0, 1]; it is the probability of all but the best action.")
        best = _continuing_optimum(self.version, discount)
        return TabularPolicy(np.where(best > 0, 1 - epsilon, epsilon / (N_ACTIONS - 1)))


@cache
def _continuing_optimum(version: str, discount: float) -> Floats:
    return _process(version).continuing().optimal_policy(discount).table


@cache
def _process(version: str) -> TabularMDP:
    factors = np.stack(np.unravel_index(np.arange(np.prod([*LEVELS.values()])), tuple(LEVELS.values())), axis=1)
    reward = arrival_reward(factors)
    indptr, successors, probabilities = transition_rows(factors, version)
    return TabularMDP.from_sparse(
        indptr,
        successors,
        probabilities,
        reward[successors],
        start_distribution(factors, reward == 0),
        reward != 0,
        state_features=factors,
        feature_names=tuple(LEVELS),
    )


def arrival_reward(factors: Ints) -> Floats:
    """(S,) -1 for death, +1 for discharge, 0 for a patient under treatment; factors (S, 8)."""
    abnormal = (factors[:, 1:5] != [_NORMAL, _NORMAL, _NORMAL, _GLUCOSE_NORMAL]).sum(axis=1)
    discharged = (abnormal == 0) & (factors[:, 5:] == 0).all(axis=1)
    return np.where(abnormal >= 3, -1.0, discharged)


def start_distribution(factors: Ints, live: Bools) -> Floats:
    """(S,) untreated patients; a draw that is already over is redrawn, diabetes included."""
    diabetes, heart_rate, pressure, oxygen, glucose = factors[:, :5].T
    drawn: Floats = (
        np.array([1 - DIABETES_PREVALENCE, DIABETES_PREVALENCE])[diabetes]
        * np.array([0.25, 0.5, 0.25])[heart_rate]
        * np.array([0.25, 0.5, 0.25])[pressure]
        * np.array([0.2, 0.8])[oxygen]
        * np.array([[0.05, 0.15, 0.6, 0.15, 0.05], [0.01, 0.05, 0.15, 0.6, 0.19]])[diabetes, glucose]
    )
    drawn[(factors[:, 5:] > 0).any(axis=1) | ~live] = 0.0
    drawn /= drawn.sum()
    return drawn


def transition_rows(factors: Ints, version: str) -> tuple[Ints, Ints, Floats]:
    """Compressed rows (indptr, successors, probabilities) of the rules, which never absorb.

    Given state and action the four vital signs move independently: a row is a product of four small distributions.
    """
    diabetes, heart_rate, pressure, oxygen, glucose = factors.T[:5, :, None]
    had_antibiotic, had_vasopressor, had_ventilation = factors.T[5:, :, None]
    antibiotic, ventilation, vasopressor = (np.arange(N_ACTIONS) >> np.array([[2], [1], [0]])) & 1
    joint = np.einsum(
        "sai,saj,sak,sal->saijkl",
        _by_context(_heart_rate_step, 2)[antibiotic, had_antibiotic, heart_rate],
        _by_context(_pressure_step, 5)[antibiotic, had_antibiotic, vasopressor, had_vasopressor, diabetes, pressure],
        _by_context(_oxygen_step, 2)[ventilation, had_ventilation, oxygen],
        _by_context(lambda given, diabetic: _glucose_step(given, diabetic, version), 2)[vasopressor, diabetes, glucose],
    ).reshape(len(factors) * N_ACTIONS, -1)
    rows, vitals = np.nonzero(joint)
    treatments = 4 * antibiotic + 2 * vasopressor + ventilation
    successors = 720 * factors[rows // N_ACTIONS, 0] + 8 * vitals + treatments[rows % N_ACTIONS]
    indptr = np.searchsorted(rows, np.arange(len(joint) + 1))
    return indptr, successors, joint[rows, vitals]


def _by_context(step: Callable[..., Floats], switches: int) -> Floats:
    """(2, ..., 2, levels, levels) matrices of a vital sign, one for each setting of its switches."""
    matrices = np.stack([step(*context) for context in product((0, 1), repeat=switches)])
    return matrices.reshape(*(2,) * switches, *matrices.shape[1:])


def _heart_rate_step(given: int, had: int) -> Floats:
    return _antibiotic_effect(given, had) if given or had else _fluctuation(3, 0.1, cap=_HIGH)


def _pressure_step(antibiotic: int, had_antibiotic: int, vasopressor: int, had_vasopressor: int, diabetic: int) -> Floats:
    if not (antibiotic or had_antibiotic or vasopressor or had_vasopressor):
        return _fluctuation(3, 0.1, cap=_HIGH)
    after_antibiotic = _antibiotic_effect(antibiotic, had_antibiotic)
    return np.asarray(after_antibiotic @ _vasopressor_effect(vasopressor, had_vasopressor, diabetic))


def _oxygen_step(given: int, had: int) -> Floats:
    if given:
        return _moves(2, {(_LOW, _NORMAL): 0.7})
    return _moves(2, {(_NORMAL, _LOW): 0.1}) if had else _fluctuation(2, 0.1, cap=_NORMAL)


def _glucose_step(vasopressor: int, diabetic: int, version: str) -> Floats:
    if vasopressor:
        return _moves(5, {(level, level + 1): 0.5 * diabetic for level in range(4)})
    return _fluctuation(5, 0.3 if diabetic else 0.1, cap=1 if version == "v1" and not diabetic else 4)


def _antibiotic_effect(given: int, had: int) -> Floats:
    if given:
        return _moves(3, {(_HIGH, _NORMAL): 0.5})
    return _moves(3, {(_NORMAL, _HIGH): 0.1}) if had else np.eye(3)


def _vasopressor_effect(given: int, had: int, diabetic: int) -> Floats:
    if given and diabetic:
        return _moves(3, {(_NORMAL, _HIGH): 0.9, (_LOW, _NORMAL): 0.5, (_LOW, _HIGH): 0.4})
    if given:
        return _moves(3, {(_LOW, _NORMAL): 0.7, (_NORMAL, _HIGH): 0.7})
    fall = 0.05 if diabetic else 0.1
    return _moves(3, {(_NORMAL, _LOW): fall, (_HIGH, _NORMAL): fall}) if had else np.eye(3)


def _moves(levels: int, moves: dict[tuple[int, int], float]) -> Floats:
    """(levels, levels) matrix that moves with the given probabilities and stays otherwise."""
    matrix = np.zeros((levels, levels))
    for pair, probability in moves.items():
        matrix[pair] = probability
    return matrix + np.diag(1 - matrix.sum(axis=1))


def _fluctuation(levels: int, probability: float, cap: int) -> Floats:
    """One level up (to `cap` at most) or down (to 0 at least), each with a probability."""
    matrix = (1 - 2 * probability) * np.eye(levels)
    for level in range(levels):
        matrix[level, max(level - 1, 0)] += probability
        matrix[level, min(level + 1, cap)] += probability
    return matrix
