"""Operations on values, with their derivatives for the delta method."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from causalrl.checks import Floats


@dataclass(frozen=True)
class Operation:
    """A binary operation with its partial derivatives."""

    symbol: str
    apply: Callable[[Floats, Floats], Floats]
    partials: Callable[[Floats, Floats], tuple[Floats, Floats]]


def _add_partials(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    return np.ones_like(x), np.ones_like(y)


def _subtract_partials(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    return np.ones_like(x), -np.ones_like(y)


def _multiply_partials(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    return y, x


def _divide_partials(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    return 1 / y, -x / y**2


ADD = Operation("+", operator.add, _add_partials)
SUBTRACT = Operation("-", operator.sub, _subtract_partials)
MULTIPLY = Operation("*", operator.mul, _multiply_partials)
DIVIDE = Operation("/", operator.truediv, _divide_partials)


class Transformation(Protocol):
    """A function of one value with its derivative."""

    def apply(self, x: Floats) -> Floats: ...

    def derivative(self, x: Floats) -> Floats: ...


@dataclass(frozen=True)
class Log:
    """The natural logarithm."""

    def apply(self, x: Floats) -> Floats:
        return np.log(x)

    def derivative(self, x: Floats) -> Floats:
        return 1 / x


@dataclass(frozen=True)
class Exp:
    """The exponential."""

    def apply(self, x: Floats) -> Floats:
        return np.exp(x)

    def derivative(self, x: Floats) -> Floats:
        return np.exp(x)


@dataclass(frozen=True)
class Reciprocal:
    """scale / x."""

    scale: float

    def apply(self, x: Floats) -> Floats:
        return self.scale / x

    def derivative(self, x: Floats) -> Floats:
        return -self.scale / x**2


@dataclass(frozen=True)
class Affine:
    """scale x + shift."""

    scale: float
    shift: float

    def apply(self, x: Floats) -> Floats:
        return self.scale * x + self.shift

    def derivative(self, x: Floats) -> Floats:
        return np.full_like(x, self.scale)
