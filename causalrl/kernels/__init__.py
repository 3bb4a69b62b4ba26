"""Numba kernels: pure functions of arrays, compiled once and cached; they trust what `data` has validated."""
