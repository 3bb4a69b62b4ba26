"""Refutation: what an estimator makes of data in which the answer is known."""
