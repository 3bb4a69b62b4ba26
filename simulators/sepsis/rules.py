"""The rules of the sepsis simulator: factors of a state, bits of an action, start, transition, reward.

Source: Oberst & Sontag (2019) and their repository clinicalml/gumbel-max-scm, classes `State` and `MDP`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from causalrl.checks import Bools, Floats, Ints

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

BITS = {"antibiotic": 4, "ventilation": 2, "vasopressor": 1}
"""What each treatment adds to the number of an action."""

N_STATES = 1440
N_ACTIONS = 8
PREVALENCE = (0.8, 0.2)
"""Share of non-diabetic and diabetic patients before any draw is rejected."""

_LOW, _NORMAL, _HIGH = 0, 1, 2
_GLUCOSE_NORMAL = 2


def state_factors() -> Ints:
    """(1440, 8) levels of the factors of each state."""
    return np.stack(np.unravel_index(np.arange(N_STATES), tuple(LEVELS.values())), axis=1)


def arrival_reward(factors: Ints) -> Floats:
    """(S,) -1 for death, +1 for discharge, 0 for a patient under treatment; factors (S, 8)."""
    abnormal = (factors[:, 1:5] != [_NORMAL, _NORMAL, _NORMAL, _GLUCOSE_NORMAL]).sum(axis=1)
    discharged = (abnormal == 0) & (factors[:, 5:] == 0).all(axis=1)
    return np.where(abnormal >= 3, -1.0, discharged)


def drawn_patients(factors: Ints) -> Floats:
    """(S,) distribution of an arriving patient, untreated, before those are rejected whose episode is already over."""
    diabetes, heart_rate, pressure, oxygen, glucose = factors[:, :5].T
    drawn = (
        np.array(PREVALENCE)[diabetes]
        * np.array([0.25, 0.5, 0.25])[heart_rate]
        * np.array([0.25, 0.5, 0.25])[pressure]
        * np.array([0.2, 0.8])[oxygen]
        * np.array([[0.05, 0.15, 0.6, 0.15, 0.05], [0.01, 0.05, 0.15, 0.6, 0.19]])[diabetes, glucose]
    )
    return np.where((factors[:, 5:] > 0).any(axis=1), 0.0, drawn)


def admission_start(factors: Ints, live: Bools) -> Floats:
    """(S,) start of Oberst & Sontag: a draw that is already over is redrawn, diabetes included."""
    drawn = np.where(live, drawn_patients(factors), 0.0)
    return np.asarray(drawn / drawn.sum())


def uniform_start(factors: Ints, live: Bools) -> Floats:
    """(S,) start of Tang & Wiens: any live state, treated ones included, with the same probability within a stratum."""
    stratum = factors[:, 0]
    counts = np.bincount(stratum[live], minlength=2)
    return np.where(live, (np.array(PREVALENCE) / counts)[stratum], 0.0)


def transition_rows(factors: Ints, version: str) -> tuple[Ints, Ints, Floats]:
    """Compressed rows (indptr, successors, probabilities) of the rules, which never absorb.

    Given state and action the four vital signs move independently: a row is a product of four small distributions.
    """
    diabetes, heart_rate, pressure, oxygen, glucose = factors.T[:5, :, None]
    had_antibiotic, had_vasopressor, had_ventilation = factors.T[5:, :, None]
    antibiotic, ventilation, vasopressor = ((np.arange(N_ACTIONS) & bit) // bit for bit in BITS.values())
    joint = np.einsum(
        "sai,saj,sak,sal->saijkl",
        _by_context(_heart_rate_step, 2)[antibiotic, had_antibiotic, heart_rate],
        _by_context(_pressure_step, 5)[antibiotic, had_antibiotic, vasopressor, had_vasopressor, diabetes, pressure],
        _by_context(_oxygen_step, 2)[ventilation, had_ventilation, oxygen],
        _by_context(lambda given, diabetic: _glucose_step(given, diabetic, version), 2)[vasopressor, diabetes, glucose],
    ).reshape(len(factors) * N_ACTIONS, -1)
    rows, vitals = np.nonzero(joint)
    treatments = 4 * antibiotic + 2 * vasopressor + ventilation
    successors = N_STATES // 2 * factors[rows // N_ACTIONS, 0] + 8 * vitals + treatments[rows % N_ACTIONS]
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
