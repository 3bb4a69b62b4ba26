"""Benchmarks: every estimator against known truth, and against the clock."""
