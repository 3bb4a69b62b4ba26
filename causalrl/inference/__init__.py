"""Inference: smooth functions of means, and the intervals that follow from them."""
