"""The law of tumour growth under treatment: who the patients are, and what a day does to them.

Source: Geng, Paganetti & Grassberger, Prediction of treatment response for combined chemo- and radiation therapy for
non-small cell lung cancer patients using a bio-mathematical model, Scientific Reports 7:13542 (2017); the distributions of
stages and start diameters, the patient types and the 15-day assignment are those of Lim, Alaa & van der Schaar (2018) and of
Melnychuk, Frauen & Feuerriegel (2022, code Valentyn1997/CausalTransformer).

Every random number is keyed by (seed, patient, day), so that a patient keeps the noise whatever is done and to whomever else.
Normal numbers are quantiles of uniform ones.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import ndtr, ndtri

from causalrl.checks import Bools, Floats, Ints, first_bad, integers, numeric
from causalrl.errors import DataError
from causalrl.kernels.jit import compiled
from causalrl.kernels.rng import derive_seed, stream_key, uniform

LONGEST = 60
"""Days that a patient is followed at most."""
DEATH_DIAMETER, CAPACITY_DIAMETER = 13.0, 30.0
"""Diameter of a fatal tumour, and the largest that could grow, in cm."""
DEATH_VOLUME, CAPACITY = (np.pi / 6 * diameter**3 for diameter in (DEATH_DIAMETER, CAPACITY_DIAMETER))
CELL_DENSITY = 5.8e8
"""Tumour cells in a cm3; a tumour of volume V vanishes in a day with probability exp(-CELL_DENSITY V)."""
CHEMO_DOSE, RADIO_DOSE = 5.0, 2.0
"""What a day of chemotherapy adds to the drug concentration (mg/m3), and the dose of a radiotherapy (Gy)."""
NOISE = 0.01
WINDOW = 15

STAGES = {
    "I": (1432, 1.72, 4.70, 0.3, 5.0),
    "II": (128, 1.96, 1.63, 0.3, 13.0),
    "IIIA": (1306, 1.91, 9.40, 0.3, 13.0),
    "IIIB": (7248, 2.76, 6.87, 0.3, 13.0),
    "IV": (12840, 3.86, 8.82, 0.3, 13.0),
}
"""Count, and the normal law (mean, sd, truncated to the log of low and high) of the log start diameter, of each stage."""
ALPHA, RHO, BETA_C = (0.0398, 0.168), (7e-5, 7.23e-3), (0.028, 0.0007)
"""Mean and standard deviation, before truncation to positive values."""
CORRELATION = 0.87
"""Of alpha and rho, before truncation."""
TYPE_BONUS = 0.1
"""Share of the mean that type 1 (radiosensitive) has more of alpha, and type 3 (chemosensitive) of beta_c."""
_SMALLEST = 2.0**-54
_LIMITS = {
    "ids": (0, 2**62),
    "stage": (0, len(STAGES) - 1),
    "kind": (1, 3),
    "volume": (1e-12, DEATH_VOLUME),
    **dict.fromkeys(("alpha", "beta", "beta_c", "rho"), (0, 1e3)),
}
"""Of the fields of `Patients`; a tumour below 1e-12 cm3 holds no cell."""


@dataclass(frozen=True, eq=False)
class Patients:
    """n patients on day 0; all arrays are (n,).

    Attributes:
        ids: numbers that key their noise.
        stage: position in `STAGES`.
        kind: patient type: 1 radiosensitive, 2 neither, 3 chemosensitive.
        volume: of the tumour, cm3.
        alpha: linear radiation effect, 1/Gy.
        beta: quadratic radiation effect, 1/Gy2.
        beta_c: effect of the drug concentration, m3/mg.
        rho: growth rate.

    Raises:
        DataError: for arrays that differ in length or hold what is no number, stage, type, effect or volume.
    """

    ids: Ints
    stage: Ints
    kind: Ints
    volume: Floats
    alpha: Floats
    beta: Floats
    beta_c: Floats
    rho: Floats

    def __post_init__(self) -> None:
        shape = integers("ids", self.ids).shape[:1]
        for field in fields(self):
            given, (least, most) = getattr(self, field.name), _LIMITS[field.name]
            values = numeric(field.name, given) if field.type == "Floats" else np.array(integers(field.name, given))
            if values.shape != shape:
                raise DataError(f"{field.name}: shape {values.shape}, expected {shape}, one entry a patient.")
            usable = (values >= least) & (values <= most)
            if not usable.all():
                row = first_bad(~usable)
                raise DataError(f"{field.name}: patient {row} has {values[row]}; pass numbers from {least:g} to {most:.6g}.")
            values.setflags(write=False)
            object.__setattr__(self, field.name, values)

    def __len__(self) -> int:
        return len(self.ids)


def draw_patients(ids: Ints, seed: int) -> Patients:
    """The patients with these numbers; truncated normal laws by their inverse distribution function.

    (alpha, rho) are drawn as pairs until both are positive, as in the source; pair k is number k of the patient's stream.
    The bonus of a type is added afterwards, and beta = alpha / 10.
    """
    u_stage, u_diameter, u_kind, u_beta_c = uniforms(_key(seed, "patient"), ids, 0, 4)
    counts, means, deviations, lows, highs = np.array([*STAGES.values()]).T
    stage = np.searchsorted(np.cumsum(counts) / counts.sum(), u_stage, side="right")
    diameter = np.exp(truncated_normal(u_diameter, means[stage], deviations[stage], np.log(lows[stage]), np.log(highs[stage])))
    kind = 1 + np.floor(3 * u_kind).astype(np.int64)
    alpha, rho = _effects(_key(seed, "effects"), ids)
    alpha = alpha + TYPE_BONUS * ALPHA[0] * (kind == 1)
    beta_c = truncated_normal(u_beta_c, *BETA_C, 0.0, np.inf) + TYPE_BONUS * BETA_C[0] * (kind == 3)
    return Patients(ids, stage, kind, np.pi / 6 * diameter**3, alpha, alpha / 10, beta_c, rho)


def _effects(key: np.uint64, ids: Ints) -> tuple[Floats, Floats]:
    alpha, rho = np.full(len(ids), -1.0), np.full(len(ids), -1.0)
    attempt, left = 0, np.arange(len(ids))
    while len(left):
        first, second = ndtri(uniforms(key, ids[left], 2 * attempt, 2))
        alpha[left] = ALPHA[0] + ALPHA[1] * first
        rho[left] = RHO[0] + RHO[1] * (CORRELATION * first + np.sqrt(1 - CORRELATION**2) * second)
        left, attempt = left[(alpha[left] <= 0) | (rho[left] <= 0)], attempt + 1
    return alpha, rho


def truncated_normal(u: Floats, mean: Floats | float, deviation: Floats | float, low: Floats | float, high: float) -> Floats:
    """Quantiles u in (0, 1) of a normal law within [low, high]."""
    below, above = ndtr((low - mean) / deviation), ndtr((high - mean) / deviation)
    quantiles: Floats = mean + deviation * ndtri(below + u * (above - below))
    return quantiles


def next_volume(
    volume: Floats, chemo: Floats, radio: Floats, noise: Floats, alpha: Floats, beta: Floats, beta_c: Floats, rho: Floats
) -> Floats:
    """V (1 + rho log(K / V) - beta_c C - (alpha d + beta d^2) + e): the volume of the next day, before events.

    Args:
        volume: V in cm3, positive.
        chemo: C, the drug concentration. radio: d, the dose. noise: e.
        alpha, beta, beta_c, rho: as in `Patients`.

    Returns:
        volumes; a strong radiation effect (alpha d + beta d^2 > 1) gives a negative one, which is a recovery.
    """
    return volume * (1 + rho * np.log(CAPACITY / volume) - beta_c * chemo - (alpha * radio + beta * radio**2) + noise)


class Course:
    """Patients under treatment, day after day; a patient who dies (V = DEATH_VOLUME) or recovers (V = 0) stays there.

    Attributes:
        patients: the n patients.
        day: number of days treated.
        active: (m,) rows of those still under treatment.
        volume: (n,) of the tumours now, cm3.
        concentration: (n,) of the drug, before the dose of this day: half of what it was after that of the day before.
        diameters: (n, LONGEST + 1) of the days up to this one, cm.
    """

    def __init__(self, patients: Patients, seed: int) -> None:
        self.patients, self.day = patients, 0
        self.active = np.arange(len(patients))
        self.volume, self.concentration = patients.volume.copy(), np.zeros(len(patients))
        self.diameters = np.zeros((len(patients), LONGEST + 1))
        self.diameters[:, 0] = diameter_of(self.volume)
        self._noise, self._luck = _key(seed, "growth"), _key(seed, "recovery")

    def advance(self, actions: Ints) -> Floats:
        """Treat the active patients (m,) for a day.

        Returns:
            (m,) fall of the volume, as a share of the fatal one.
        """
        rows, who = self.active, self.patients
        before, ids = self.volume[rows], who.ids[rows]
        chemo = self.concentration[rows] + CHEMO_DOSE * (actions // 2)
        radio = np.asarray(RADIO_DOSE * (actions % 2), np.float64)
        noise = NOISE * ndtri(uniforms(self._noise, ids, self.day, 1)[0])
        grown = next_volume(before, chemo, radio, noise, who.alpha[rows], who.beta[rows], who.beta_c[rows], who.rho[rows])
        died = grown > DEATH_VOLUME
        recovered = uniforms(self._luck, ids, self.day, 1)[0] < np.exp(np.minimum(-CELL_DENSITY * grown, 0.0))
        after = np.where(died, DEATH_VOLUME, np.where(recovered, 0.0, grown))
        self.day += 1
        self.volume[rows], self.concentration[rows] = after, chemo / 2
        self.diameters[rows, self.day] = diameter_of(after)
        self.active = rows[~(died | recovered)]
        fall: Floats = (before - after) / DEATH_VOLUME
        return fall

    def over(self, rows: Ints) -> Bools:
        """Whether these patients have died or recovered."""
        ended: Bools = (self.volume[rows] >= DEATH_VOLUME) | (self.volume[rows] <= 0)
        return ended

    def mean_diameter(self, rows: Ints) -> Floats:
        """Mean over the 15 days before this one, as many as there are; the diameter itself on day 0."""
        means: Floats = self.diameters[rows, max(self.day - WINDOW, 0) : max(self.day, 1)].mean(axis=1)
        return means


def diameter_of(volume: Floats) -> Floats:
    """Of a sphere, cm; exactly DEATH_DIAMETER at DEATH_VOLUME."""
    return np.asarray(DEATH_DIAMETER * np.cbrt(volume / DEATH_VOLUME))


def _key(seed: int, role: str) -> np.uint64:
    return np.uint64(derive_seed(seed, "tumour", role))


@compiled
def uniforms(seed: np.uint64, streams: Ints, first: int, count: int) -> Floats:
    """(count, m) numbers in (0, 1): first, first + 1, ... of each stream."""
    out = np.empty((count, len(streams)))
    for i in range(len(streams)):
        key = stream_key(seed, np.uint64(streams[i]))
        for j in range(count):
            out[j, i] = max(uniform(key, np.uint64(first + j)), _SMALLEST)
    return out
