"""Linear quantile regression by the primal-dual interior point method of Portnoy & Koenker (1997, Statistical Science 12:279).

The regression at level t minimises sum_i w_i rho_t(y_i - x_i'b), rho_t(r) = r (t - 1(r < 0)). Its dual is the linear programme
max y'a subject to X'a = (1 - t) X'1, 0 <= a <= 1 (Koenker 2005, Quantile Regression, section 6.2), with the weights multiplied
into the rows of X and y. Predictor-corrector steps as in Mehrotra (1992).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from causalrl.checks import Floats

_MAX_ITERATIONS = 100
_GAP = 1e-11
"""Relative duality gap at which the coefficients are taken."""
_STALLED = 1e-8
"""From this gap on, an iteration that does not narrow it is the last."""
_MARGIN = 0.1
"""How far inside its bounds the dual starts, in mean absolute residuals."""
_STAY = 0.99995
"""Share of the way to the boundary that a step may go."""


def quantile_regression(design: Floats, outcomes: Floats, weights: Floats, level: float) -> tuple[Floats, float]:
    """Coefficients (d,) of the weighted quantile regression, and the relative duality gap at which they were taken.

    Args:
        design: (m, d) of full column rank. outcomes: (m,). weights: (m,) positive. level: of the quantile, in (0, 1).

    Example:
        >>> import numpy as np
        >>> coefficients, gap = quantile_regression(np.ones((5, 1)), np.array([5.0, 1.0, 2.0, 8.0, 4.0]), np.ones(5), 0.5)
        >>> round(float(coefficients[0]), 6), gap < 1e-9
        (4.0, True)
    """
    shares = weights / weights.mean()
    scale = float(np.abs(outcomes).mean()) or 1.0
    rows, costs = design * shares[:, None], -outcomes * shares / scale
    point = _start(rows, costs, level)
    for _ in range(_MAX_ITERATIONS):
        if point.gap <= _GAP:
            break
        following = point.step()
        if not np.isfinite(following.gap) or (point.gap <= following.gap and point.gap < _STALLED):
            break
        point = following
    return -scale * point.multipliers, point.gap


def _start(rows: Floats, costs: Floats, level: float) -> _Point:
    """The middle of the box, and least squares."""
    inside = np.full(len(costs), 1 - level)
    multipliers = np.asarray(np.linalg.lstsq(rows, costs, rcond=None)[0], np.float64)
    residual = costs - rows @ multipliers
    below = np.maximum(residual, 0.0) + _MARGIN * np.abs(residual).mean()
    return _Point(rows, costs, (1 - level) * rows.sum(axis=0), inside, 1 - inside, multipliers, below, below - residual)


@dataclass(frozen=True, eq=False)
class _Point:
    """An interior point of the programme and of its dual.

    Attributes:
        rows, costs, totals: (m, d), (m,), (d,) of min costs'a subject to rows'a = totals.
        inside, room: (m,) a and 1 - a. multipliers: (d,) of the equations. below, above: (m,) of the bounds 0 and 1.
    """

    rows: Floats
    costs: Floats
    totals: Floats
    inside: Floats
    room: Floats
    multipliers: Floats
    below: Floats
    above: Floats

    @property
    def gap(self) -> float:
        """Relative difference of the two values, by complementary slackness, which loses no digits."""
        between = float(self.below @ self.inside + self.above @ self.room)
        return between / (1 + abs(float(self.costs @ self.inside)))

    def step(self) -> _Point:
        """A Newton step towards the solution, corrected for its curvature and centred."""
        x, s, z, w = self.inside, self.room, self.below, self.above
        metric = 1 / (z / x + w / s)
        system = (self.rows * metric[:, None]).T @ self.rows
        residual = z - w
        dy = _solve(system, self.rows.T @ (metric * residual))
        dx = metric * (self.rows @ dy - residual)
        dz, dw = -z * (1 + dx / x), -w * (1 - dx / s)
        along, dual = _length((x, dx), (s, -dx)), _length((z, dz), (w, dw))
        if min(along, dual) < 1:
            now = z @ x + w @ s
            then = (z + dual * dz) @ (x + along * dx) + (w + dual * dw) @ (s - along * dx)
            centre = now * (then / now) ** 3 / (2 * len(x))
            lower, upper = (centre - dx * dz) / x, (centre + dx * dw) / s
            target = residual - (lower - upper)
            dy = _solve(system, self.rows.T @ (metric * target))
            dx = metric * (self.rows @ dy - target)
            dz, dw = lower - z - z * dx / x, upper - w + w * dx / s
            along, dual = _length((x, dx), (s, -dx)), _length((z, dz), (w, dw))
        return _Point(
            self.rows,
            self.costs,
            self.totals,
            x + along * dx,
            s - along * dx,
            self.multipliers + dual * dy,
            z + dual * dz,
            w + dual * dw,
        )


def _solve(system: Floats, right: Floats) -> Floats:
    """Near the solution the system may be singular to rounding; then the shortest solution."""
    try:
        return np.asarray(np.linalg.solve(system, right))
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(system, right, rcond=None)[0])


def _length(*moves: tuple[Floats, Floats]) -> float:
    """The longest step, at most 1, that keeps all positive numbers so."""
    fastest = max(float(np.max(-move / at)) for at, move in moves)
    return 1.0 if fastest <= _STAY else _STAY / fastest
