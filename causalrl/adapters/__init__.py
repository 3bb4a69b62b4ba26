"""Converters between `Trajectories` and other containers."""
