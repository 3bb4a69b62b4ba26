"""Diagnostics: pure functions of arrays."""
