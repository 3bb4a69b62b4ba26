"""Nuisances: behaviour policies and value models, learned once and shared."""
