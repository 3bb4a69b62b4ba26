"""Which estimator, and which policy, to choose."""
