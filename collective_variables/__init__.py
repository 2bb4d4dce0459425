"""Collective variables of neural networks: pure JAX functions, arrays in, arrays out."""
