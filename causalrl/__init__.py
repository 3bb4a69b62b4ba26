"""causalrl: causal inference and off-policy evaluation of treatment policies on one interface."""
