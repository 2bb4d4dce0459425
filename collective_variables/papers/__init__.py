"""Compute the papers' claims, figures and tables from tables of runs, without JAX."""
