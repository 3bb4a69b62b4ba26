"""PyTorch and d3rlpy as causalrl runs them: on one thread, with random numbers of their own, and without a word."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any

import numpy as np

from causalrl.errors import missing_extra


def load_d3rlpy() -> Any:
    """The package d3rlpy; the notice that its dependency gym prints on import is swallowed.

    Raises:
        MissingExtraError: without the extra `d3rlpy`.
    """
    try:
        with redirect_stderr(StringIO()):
            import d3rlpy
    except ModuleNotFoundError:
        missing_extra("d3rlpy", "d3rlpy")
    return d3rlpy


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on one thread, so that sums are rounded alike whatever the machine; the setting is restored."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """One thread, and the global generators of PyTorch, NumPy and Python set from a seed, all restored afterwards.

    d3rlpy draws its minibatches from NumPy's global generator and PyTorch its initial weights from its own.
    """
    import torch

    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def quiet() -> Iterator[None]:
    """d3rlpy's log from warnings upwards only; the configuration of structlog is restored."""
    import structlog

    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    try:
        yield
    finally:
        structlog.configure(**before)
