"""Make clusters of atoms with the Lennard-Jones potential, and describe them by numbers.

Energies and temperatures are in units of the potential's depth ε, lengths in units of σ.
"""

import numpy as np
from jaxtyping import Float

N_STEPS = 300  # of a walk
STEP = 0.06  # standard deviation of a coordinate's step at temperature 1
TEMPERATURES = (0.1, 0.6)  # of the walks: the lowest and the highest
# Six atoms, each with four neighbours at the minimum of the potential.
OCTAHEDRON = np.concatenate([np.eye(3), -np.eye(3)]) * 2 ** (1 / 6) / np.sqrt(2)


def lennard_jones_energy(
    positions: Float[np.ndarray, "n atoms 3"],
) -> Float[np.ndarray, " n"]:
    """Return the energies of clusters, the sum of 4 (r⁻¹² − r⁻⁶) over all pairs of atoms.

    This is the potential of Lennard-Jones 1924 with the exponents 12 and 6.

    Args:
        positions: (n, n_atoms, 3), the positions of the atoms.

    Returns:
        (n,) float64.

    Example:
        >>> pair = np.array([[[0.0, 0.0, 0.0], [2 ** (1 / 6), 0.0, 0.0]]])
        >>> round(float(lennard_jones_energy(pair)[0]), 6)
        -1.0
    """
    squares = _squared_distances(positions)
    powers = 1.0 / (squares * squares * squares)
    return 4.0 * (powers * (powers - 1.0)).sum(axis=1)


def sorted_coulomb_matrix(
    positions: Float[np.ndarray, "n atoms 3"],
) -> Float[np.ndarray, "n pairs"]:
    """Return the upper triangle of 1 / r, with the atoms sorted by the norm of their row.

    This is the Coulomb matrix of Rupp et al. 2012 for equal atoms, without the diagonal. It does
    not depend on rotations, translations and the order of the atoms.

    Args:
        positions: (n, n_atoms, 3), the positions of the atoms.

    Returns:
        (n, n_atoms (n_atoms − 1) / 2) float64.

    Example:
        >>> chain = np.array([[[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]])
        >>> sorted_coulomb_matrix(chain).round(3).tolist()
        [[1.0, 0.5, 0.333]]
    """
    n_clusters, n_atoms, _ = positions.shape
    first, second = np.triu_indices(n_atoms, 1)
    matrices = np.zeros((n_clusters, n_atoms, n_atoms))
    matrices[:, first, second] = 1.0 / np.sqrt(_squared_distances(positions))
    matrices += matrices.swapaxes(1, 2)
    order = np.argsort(-np.linalg.norm(matrices, axis=2), axis=1, kind="stable")
    return matrices[np.arange(n_clusters)[:, None], order[:, first], order[:, second]]


def walk(n_clusters: int, *, seed: int) -> Float[np.ndarray, "n 6 3"]:
    """Return clusters of six atoms, each the end of a Metropolis walk from the octahedron.

    Each walk has its own temperature, uniform between those of `TEMPERATURES`.

    Args:
        n_clusters: Number of clusters, n.
        seed: Seed of the random numbers.

    Returns:
        (n, 6, 3) float64, the positions of the atoms.

    Example:
        >>> walk(2, seed=0).shape
        (2, 6, 3)
    """
    generator = np.random.default_rng(seed)
    temperatures = generator.uniform(*TEMPERATURES, n_clusters)
    steps = STEP * np.sqrt(temperatures)[:, None, None]
    positions = np.repeat(OCTAHEDRON[None], n_clusters, axis=0)
    energies = lennard_jones_energy(positions)
    for _ in range(N_STEPS):
        proposed = positions + steps * generator.standard_normal(positions.shape)
        new = lennard_jones_energy(proposed)
        # Metropolis: a rise is accepted with the probability exp(−rise / temperature).
        is_accepted = new - energies < temperatures * generator.standard_exponential(n_clusters)
        positions[is_accepted] = proposed[is_accepted]
        energies[is_accepted] = new[is_accepted]
    return positions


def _squared_distances(positions: np.ndarray) -> np.ndarray:
    """Return (n, n_pairs) for the pairs of atoms, in the order of an upper triangle."""
    first, second = np.triu_indices(positions.shape[1], 1)
    differences = positions[:, first] - positions[:, second]
    return np.einsum("npx,npx->np", differences, differences)
