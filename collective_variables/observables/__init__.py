"""Compute the collective variables of kernels: entropy, trace, alignment and their estimates."""
