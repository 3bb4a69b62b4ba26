"""Finite Markov decision processes: the sparse law, dynamic programming, bounds, and compiled sampling. Pure functions."""
