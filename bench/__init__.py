"""Benchmarks: each one measures the product beside its floor, the least that the work can take."""
