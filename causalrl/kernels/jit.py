"""The compilers of the package: serial, parallel, contracted and reduction, all cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a serial kernel (`NUMBA_DISABLE_JIT=1` leaves it pure Python)."""
    if numba.config.DISABLE_JIT:
        return _interpreted(function)
    kernel: Function = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return kernel


def parallel(function: Function) -> Function:
    """Compile a kernel whose `prange` iterations each write to a slot of their own, so that threads change nothing."""
    if numba.config.DISABLE_JIT:
        return _interpreted(function)
    kernel: Function = numba.njit(cache=True, nogil=True, parallel=True, error_model="numpy")(function)
    return kernel


def reduction(function: Function) -> Function:
    """Compile a sum whose terms may be reordered for vector instructions: the same bits on every run of one machine."""
    if numba.config.DISABLE_JIT:
        return _interpreted(function)
    kernel: Function = numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})(function)
    return kernel


def contracted(function: Function) -> Function:
    """Compile with fused multiply-adds and every sum in the order in which it is written."""
    if numba.config.DISABLE_JIT:
        return _interpreted(function)
    kernel: Function = numba.njit(cache=True, nogil=True, fastmath={"contract"})(function)
    return kernel


def _interpreted(function: Function) -> Function:
    """Pure Python, with compiled arithmetic: integer hashes wrap around and divisions by zero give inf, silently."""
    return np.errstate(all="ignore")(function)
