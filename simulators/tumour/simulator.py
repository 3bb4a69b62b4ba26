"""`TumourSimulator`: lung tumours under chemo- and radiotherapy, with time-varying confounding.

Sources: Geng et al. (2017) for the growth (see `simulators.tumour.growth`); Lim et al. (2018), Bica et al. (2020) and
Melnychuk et al. (2022) for the assignment of treatments by the diameters of the past days, with strength gamma.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from causalrl.checks import Floats, Ints, codes_below, integers, number, whole_number
from causalrl.data import End, Trajectories
from causalrl.errors import DataError, EstimandError, PolicyError
from causalrl.kernels.rng import derive_seed
from causalrl.policies import Policy, PolicyLike, action_probabilities, as_policy
from simulators.checks import check_sample, check_time
from simulators.mdp.sampling import cumulative_rows
from simulators.tumour.growth import DEATH_DIAMETER, LONGEST, Course, Patients, draw_patients, uniforms

if TYPE_CHECKING:
    from gymnasium import Env

FEATURES = ("diameter", "mean_diameter", "chemo_concentration", "day")
TYPE_FEATURES = ("radiosensitive", "chemosensitive")
N_ACTIONS = 4
LARGEST_GAMMA = 1e6
"""Here the treatment is all but a function of the mean diameter."""
_BLOCK = 20_000


@dataclass(frozen=True)
class SimulatedValue:
    """A mean over simulated patients, with its standard error; `float(...)` gives the mean.

    Attributes:
        value, stderr, n: the mean return, its standard error, and the number of patients.

    Example:
        >>> from causalrl.policies import Always
        >>> untreated = TumourSimulator().value(Always(0), horizon=20, n=1_000)
        >>> round(float(untreated), 3), round(untreated.stderr, 3)
        (-0.043, 0.003)
    """

    value: float
    stderr: float
    n: int

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True)
class TumourAssignment(Policy):
    """The clinicians: P(chemotherapy) = P(radiotherapy) = expit(gamma / 13 (mean diameter - 13 / 2)), drawn independently."""

    gamma: float

    def probabilities(self, observations: NDArray[Any], time: Ints) -> Floats:
        """(m, 4) at observations (m, d) of a `TumourSimulator`; `PolicyError` for any others."""
        if observations.ndim != 2 or observations.shape[1] < len(FEATURES):
            raise PolicyError(f"{self}: takes observations of a TumourSimulator, got shape {observations.shape}.")
        mean_diameter = observations[:, FEATURES.index("mean_diameter")]
        treated = expit(self.gamma / DEATH_DIAMETER * (mean_diameter - DEATH_DIAMETER / 2))
        return np.stack([(1 - treated) ** 2, (1 - treated) * treated, treated * (1 - treated), treated**2], axis=1)


@dataclass(frozen=True, eq=False)
class _Day:
    """What was decided on a day for the m patients under treatment: rows, and their steps."""

    rows: Ints
    observations: Floats
    actions: Ints
    probabilities: Floats
    rewards: Floats


@dataclass(frozen=True)
class TumourSimulator:
    """Daily treatment of a tumour for at most 60 days; larger tumours are treated more, which confounds.

    4 actions: 2 chemotherapy + radiotherapy (0 none, 1 radiotherapy, 2 chemotherapy, 3 both). Observation, a vector:
    `diameter` (cm), `mean_diameter` (cm, over the 15 days before this one, as many as there are; on day 0 the diameter itself),
    `chemo_concentration` (mg/m3, before this day's dose), `day`, and, where the type is observed, the flags
    `radiosensitive` (type 1) and `chemosensitive` (type 3). The clinicians look at the mean diameter alone, so they are
    themselves a policy of the observation. The effects of a patient (alpha, beta_c, rho) are hidden, so the
    observation is not a Markov state.

    Reward of day t = (V_t - V_{t+1}) / V_max, so that the undiscounted return is the whole fall of the volume as a share of
    the fatal one. Death (V > V_max = 1150.35 cm3, that of a diameter of 13 cm; counted as V_max) and recovery (V = 0) end
    the process. A value is a simulation with a standard error: the state is continuous, no dynamic programme is exact.

    The window is that of the factual series in the code of Melnychuk et al. (their counterfactual series include the
    current day); unlike theirs, the treatment starts on day 0. Their comment speaks of 5% noise, their code uses 1%; so
    does this one.

    Args:
        gamma: strength of the confounding, 0 to 1e6 (papers use 0 to 10); at 0 every treatment has probability 1/2.
        type_observed: whether the observation tells the patient type (1, 2 or 3, a third of the patients each).

    Raises:
        DataError: for gamma out of range.

    Example:
        >>> from causalrl.policies import Always
        >>> simulator = TumourSimulator(gamma=4.0)
        >>> simulator.sample(100, horizon=20, seed=0).feature_names
        ('diameter', 'mean_diameter', 'chemo_concentration', 'day', 'radiosensitive', 'chemosensitive')
        >>> none, both = (simulator.value(Always(arm), horizon=20, n=2_000) for arm in (0, 3))
        >>> none.value < 0 < both.value - 10 * both.stderr
        True
        >>> patients = simulator.patients(3, seed=1)
        >>> untreated, treated = (simulator.volumes(patients, [arm], seed=1)[:, 1] for arm in (0, 3))
        >>> bool((treated < untreated).all())
        True
    """

    gamma: float = 2.0
    type_observed: bool = True

    def __post_init__(self) -> None:
        number("gamma", self.gamma, 0, LARGEST_GAMMA)
        if not isinstance(self.type_observed, bool | np.bool_):
            raise DataError(f"type_observed: {self.type_observed!r}; pass True or False.")

    @property
    def n_actions(self) -> int:
        """4."""
        return N_ACTIONS

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of an observation."""
        return FEATURES + TYPE_FEATURES if self.type_observed else FEATURES

    def assignment(self) -> TumourAssignment:
        """The clinicians' policy."""
        return TumourAssignment(float(self.gamma))

    def patients(self, n: int, seed: int = 0) -> Patients:
        """The n patients whom `sample` with this seed treats; patient i does not depend on n, and n is at least 1."""
        check_sample(n, seed)
        return draw_patients(np.arange(n), seed)

    def sample(self, n: int, policy: PolicyLike | None = None, horizon: int | None = None, seed: int = 0) -> Trajectories:
        """n patients, until death, recovery or the horizon.

        With the same seed another policy meets the same patients with the same noise: a counterfactual.

        Args:
            n: at least 1.
            policy: of the observations; the clinicians' by default.
            horizon: days, 1 to 60; 60 by default.
            seed: any non-negative integer.

        Returns:
            vector observations, the probability of each logged action, `end` TERMINATED (death, recovery) or TRUNCATED.

        Raises:
            DataError, EstimandError, PolicyError: for n, horizon or policy out of range.
        """
        course = Course(self.patients(n, seed), seed)
        final = np.empty((n, len(self.feature_names)))
        days = []
        for day in self._days(course, policy, horizon, seed):
            days.append(day)
            final[day.rows] = self.observations(course, day.rows)
        rows = np.concatenate([day.rows for day in days])
        order = np.argsort(rows, kind="stable")

        def flat(field: str) -> NDArray[Any]:
            return np.asarray(np.concatenate([getattr(day, field) for day in days])[order])

        return Trajectories.from_arrays(
            flat("observations"),
            flat("actions"),
            flat("rewards"),
            np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]),
            end=np.where(course.over(np.arange(n)), End.TERMINATED, End.TRUNCATED),
            behavior_probabilities=flat("probabilities"),
            final_observations=final,
            n_actions=N_ACTIONS,
            feature_names=self.feature_names,
        )

    def value(
        self, policy: PolicyLike, horizon: int | None = None, discount: float = 1.0, n: int = 100_000, seed: int = 0
    ) -> SimulatedValue:
        """E[sum over t < horizon of discount^t r_t] under the policy, by simulation: its standard error says how exactly.

        Policies valued with the same seed meet the same patients with the same noise, which `sample` never meets.

        Args:
            policy: of the observations.
            horizon: days, 1 to 60; 60 by default.
            discount: in [0, 1].
            n: patients to simulate, at least 2.
            seed: any non-negative integer.

        Raises:
            DataError, EstimandError, PolicyError: for an argument out of range.
        """
        discount = check_time(horizon, discount)
        check_sample(n, seed)
        own = derive_seed(seed, "tumour", "value")
        returns = np.zeros(whole_number("n", n, 2))
        for start in range(0, n, _BLOCK):
            ids = np.arange(start, min(start + _BLOCK, n))
            course = Course(draw_patients(ids, own), own)
            for t, day in enumerate(self._days(course, policy, horizon, own)):
                returns[ids[day.rows]] += discount**t * day.rewards
        return SimulatedValue(float(returns.mean()), float(returns.std(ddof=1) / np.sqrt(n)), n)

    def volumes(self, patients: Patients, actions: ArrayLike, seed: int = 0) -> Floats:
        """Tumour volumes under given treatments: any counterfactual, with common random numbers.

        The same patients with the same seed meet the same noise whatever is done. With `patients(n, seed)` and the logged
        actions of `sample(n, ..., seed=seed)` these are the logged volumes.

        Args:
            patients: n patients.
            actions: (H,) the same for all, or (n, H); codes 0 to 3, H from 1 to 60. Those after the end are ignored.
            seed: of the noise.

        Returns:
            (n, H + 1) volumes in cm3 on days 0 to H; DEATH_VOLUME from death on, 0 from recovery on.

        Raises:
            DataError: for patients that are none, and actions of another shape, or that are no codes.
        """
        if not isinstance(patients, Patients):
            raise DataError(f"patients: {patients!r}; pass those of `patients(n, seed)`.")
        plan = _treatment_plan(actions, len(patients))
        course = Course(patients, whole_number("seed", seed, 0))
        volumes = np.empty((len(patients), plan.shape[1] + 1))
        volumes[:, 0] = course.volume
        for t in range(plan.shape[1]):
            course.advance(plan[course.active, t])
            volumes[:, t + 1] = course.volume
        return volumes

    def env(self, horizon: int | None = None, render_mode: str | None = None) -> Env[Any, Any]:
        """A gymnasium environment, `causalrl/Tumour-v0`: the treatments are the agent's.

        Raises:
            DataError, EstimandError: for a horizon or render mode that does not exist.
        """
        from simulators.environments import TumourEnv

        return TumourEnv(self, horizon, render_mode)

    def observations(self, course: Course, rows: Ints) -> Floats:
        """(m, d) what is seen of these patients on the present day."""
        day = np.full(len(rows), float(course.day))
        columns = [course.diameters[rows, course.day], course.mean_diameter(rows), course.concentration[rows], day]
        if self.type_observed:
            columns += [(course.patients.kind[rows] == kind).astype(float) for kind in (1, 3)]
        return np.stack(columns, axis=1)

    def _days(self, course: Course, policy: PolicyLike | None, horizon: int | None, seed: int) -> Iterator[_Day]:
        """Treat by a policy until everybody's process or the horizon ends; yields after each day."""
        days = check_days(horizon)
        clinicians = self.assignment()
        bound = (clinicians if policy is None else as_policy(policy)).bind(N_ACTIONS, clinicians)
        key = np.uint64(derive_seed(seed, "tumour", "treatment"))
        while course.day < days and len(course.active):
            rows, observed = course.active, self.observations(course, course.active)
            observed.setflags(write=False)
            chances = action_probabilities(bound, observed, np.full(len(rows), course.day), N_ACTIONS)
            u = uniforms(key, course.patients.ids[rows], course.day, 1)[0]
            actions = (u[:, None] >= cumulative_rows(chances)).sum(axis=1)
            rewards = course.advance(actions)
            yield _Day(rows, observed, actions, chances[np.arange(len(rows)), actions], rewards)


def check_days(horizon: int | None) -> int:
    """A horizon of 1 to 60 days, 60 for None; `EstimandError` for any other."""
    if horizon is None:
        return LONGEST
    if whole_number("horizon", horizon, 1, EstimandError) > LONGEST:
        raise EstimandError(f"horizon: {horizon} days; patients are followed for {LONGEST} at most.")
    return int(horizon)


def _treatment_plan(actions: ArrayLike, n: int) -> Ints:
    """(n, H) checked action codes from (H,) or (n, H)."""
    given = integers("actions", actions)
    if given.shape[:-1] not in ((), (n,)) or not 1 <= given.shape[-1] <= LONGEST:
        expected = f"(H,), or ({n}, H) with one row a patient, and H from 1 to {LONGEST}"
        raise DataError(f"actions: shape {given.shape}; pass {expected}.")
    codes_below("actions", given.reshape(-1), given.size, N_ACTIONS)
    return np.broadcast_to(given, (n, given.shape[-1]))
