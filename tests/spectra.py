"""Kernels of a known spectrum, and their entropy by a sum term by term."""

import math

import numpy as np


def rotated(eigenvalues, seed=0):
    """Return a kernel with these eigenvalues in a random orthogonal basis."""
    n_points = len(eigenvalues)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(n_points, n_points)))[0]
    return basis @ np.diag(eigenvalues) @ basis.T


def naive_entropy(eigenvalues):
    """Compute −Σ p ln p by a loop over the eigenvalues."""
    total, entropy = math.fsum(eigenvalues), 0.0
    for value in eigenvalues:
        if value > 0:
            entropy -= value / total * math.log(value / total)
    return entropy
