"""Kernels on plain arrays: sorted samples, normal scores, solvers, random numbers, runs."""
