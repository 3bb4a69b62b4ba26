"""`IHDP`: simulated outcomes on the real units of the Infant Health and Development Program.

Source: Hill, Bayesian nonparametric modeling for causal inference, J. Computational and Graphical Statistics 20:217, 2011.
The covariates ship with the package `econml`, whose code is never imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from causalrl.checks import Floats, Ints, one_of, whole_number
from causalrl.data import Trajectories
from causalrl.errors import DataError
from causalrl.kernels.rng import derive_seed
from simulators.assets import package_folder
from simulators.designs.base import Design

MEASURED = ("bw", "b.head", "preterm", "birth.o", "nnhealth", "momage")
"""The covariates that are standardised."""
COVARIATES = (
    *MEASURED,
    *("sex", "twin", "b.marr", "mom.lths", "mom.hs", "mom.scoll", "cig", "first", "booze", "drugs", "work.dur", "prenatal"),
    *(f"site{j}" for j in range(1, 8)),
)
N_UNITS = 747


@dataclass(frozen=True)
class IHDP(Design):
    """747 infants, 139 of them treated, with 25 covariates; the outcomes are simulated.

    Units and treatments are fixed: treated children of non-white mothers were removed from a trial, so nobody knows
    the propensities, and the record keeps none. A seed redraws the noise alone. Averages are over the 747 units.
    With x the covariates after a constant 1, and noise N(0, 1):

    - A: mu0 = x'b, mu1 = x'b + 4; b is 0, 1, 2, 3, 4 with probability 0.5, 0.2, 0.15, 0.1, 0.05.
    - B: mu0 = exp((x + w)'b) with w = 1/2 but for the constant, mu1 = x'b - omega, where omega makes the average effect
      on the treated 4; b is 0, 0.1, 0.2, 0.3, 0.4 with probability 0.6 and four times 0.1.

    The six measurements are standardised and `first` is 1 or 2. Under B the scale of a draw of b varies a lot: compare
    methods on medians over draws.

    Args:
        surface: "A" or "B", as the paper names its response surfaces.
        draw: seed of the coefficients b.

    Raises:
        DataError: for another surface, a negative draw.
        MissingExtraError: where the package econml is not installed.

    Example:
        >>> design = IHDP("B", draw=3)
        >>> round(design.att, 10)
        4.0
        >>> study = design.sample(seed=1)
        >>> study.n, int(study.actions.sum())
        (747, 139)
    """

    surface: str = "A"
    draw: int = 0

    def __post_init__(self) -> None:
        one_of("surface", self.surface, _LEVELS)
        whole_number("draw", self.draw, 0)
        units_path()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The 25 names of the source; in a formula, write Q("b.head")."""
        return COVARIATES

    @property
    def units(self) -> Floats:
        """(747, 25) covariates, read-only."""
        return _units(units_path())[0]

    @property
    def treatment(self) -> Ints:
        """(747,) treatment, read-only."""
        return _units(units_path())[1]

    @cached_property
    def coefficients(self) -> Floats:
        """(26,) b, that of the constant first; read-only."""
        levels, probabilities = _LEVELS[self.surface]
        rng = np.random.default_rng(derive_seed(self.draw, "ihdp", self.surface))
        drawn = rng.choice(levels, size=1 + len(COVARIATES), p=probabilities)
        drawn.flags.writeable = False
        return drawn

    @property
    def arm_means(self) -> Floats:
        """(2,) average of mu_a over the 747 units."""
        return np.asarray(self._means(self.units).mean(axis=0))

    @property
    def att(self) -> float:
        """Average effect on the 139 treated units: 4."""
        return float(self.effect(self.units)[self.treatment == 1].mean())

    def sample(self, n: int = N_UNITS, seed: int = 0) -> Trajectories:
        """The 747 units with fresh noise in their outcomes.

        Raises:
            DataError: for another n: the units are fixed.
        """
        if n != N_UNITS:
            raise DataError(
                f"n: {n}; the design has {N_UNITS} fixed units. Leave n out, and choose units by `take` of the sample."
            )
        noise = np.random.default_rng(whole_number("seed", seed, 0)).normal(size=N_UNITS)
        outcome = self._means(self.units)[np.arange(N_UNITS), self.treatment] + noise
        return Trajectories.from_cross_section(self.units, self.treatment, outcome, feature_names=COVARIATES)

    def _means(self, X: Floats) -> Floats:
        linear = self._linear(X)
        if self.surface == "A":
            return np.column_stack([linear, linear + 4])
        return np.column_stack([self._exponential(X), linear - self._omega])

    @cached_property
    def _omega(self) -> float:
        treated = self.units[self.treatment == 1]
        return float(np.mean(self._linear(treated) - self._exponential(treated))) - 4

    def _linear(self, X: Floats) -> Floats:
        return np.asarray(self.coefficients[0] + X @ self.coefficients[1:])

    def _exponential(self, X: Floats) -> Floats:
        return np.exp(self._linear(X + 0.5))


_LEVELS = {
    "A": ([0.0, 1.0, 2.0, 3.0, 4.0], [0.5, 0.2, 0.15, 0.1, 0.05]),
    "B": ([0.0, 0.1, 0.2, 0.3, 0.4], [0.6, 0.1, 0.1, 0.1, 0.1]),
}


def units_path() -> Path:
    """Where the installed package keeps the table of the units.

    Raises:
        MissingExtraError: where it is not installed.
    """
    return package_folder("econml", "econml") / "data" / "ihdp" / "sim.csv"


@cache
def _units(path: Path) -> tuple[Floats, Ints]:
    """Covariates and treatment, without the treated children of non-white mothers."""
    with path.open(encoding="utf-8") as file:
        header = file.readline().strip().split(",")
        table = dict(zip(header, np.loadtxt(file, delimiter=",").T, strict=True))
    kept = (table["treat"] == 0) | (table["momwhite"] == 1)
    columns = np.column_stack([table[name][kept] for name in COVARIATES])
    measured = columns[:, : len(MEASURED)]
    columns[:, : len(MEASURED)] = (measured - measured.mean(axis=0)) / measured.std(axis=0)
    columns[:, COVARIATES.index("first")] += 1
    treatment = table["treat"][kept].astype(np.int64)
    columns.flags.writeable = treatment.flags.writeable = False
    return columns, treatment
