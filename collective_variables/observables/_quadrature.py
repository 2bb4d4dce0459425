"""Bounds of the forms vᵀ f(K) v, with f(λ) = λ ln λ, by the Lanczos process started at vectors v.

The derivatives of f from the second on alternate in sign. Gauss's rule is therefore a lower bound
of each form, and Gauss-Radau's rule with a node at 0 an upper one (Golub, Meurant 1994).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import special

Product = Callable[[Float[Array, "n_points n_vectors"]], Float[Array, "n_points n_vectors"]]


class Forms(NamedTuple):
    """Results of the Lanczos process for each unit vector v, in units of a scale.

    Attributes:
        trace: vᵀKv.
        lower: Lower bound of vᵀf(K)v.
        upper: Upper bound of vᵀf(K)v.
        largest: The largest Ritz value.
        residual: Largest possible distance from it to the nearest eigenvalue.
    """

    trace: Float[np.ndarray, " n_vectors"]
    lower: Float[np.ndarray, " n_vectors"]
    upper: Float[np.ndarray, " n_vectors"]
    largest: Float[np.ndarray, " n_vectors"]
    residual: Float[np.ndarray, " n_vectors"]

    def times(self, n: int) -> "Forms":
        """Return n times the forms and the trace."""
        return self._replace(trace=n * self.trace, lower=n * self.lower, upper=n * self.upper)


def quadratic_forms(
    multiply: Product, vectors: Float[Array, "n_points n_vectors"], n_steps: int, scale: float
) -> Forms:
    """Bound the forms of unit vectors by `n_steps` of the Lanczos process.

    Args:
        multiply: Function that returns K v.
        vectors: Unit vectors (n_points, n_vectors).
        n_steps: Number of steps.
        scale: Scale of the eigenvalues of K, so that those of the process are about 1.

    Returns:
        The bounds.
    """
    diagonals, off_diagonals = _lanczos(multiply, vectors, n_steps, scale)
    inner = off_diagonals[:, :-1]
    values, eigenvectors = np.linalg.eigh(_tridiagonal(diagonals, inner))
    end = _radau_diagonal(diagonals, off_diagonals, float(jnp.finfo(vectors.dtype).eps))
    radau = np.linalg.eigh(_tridiagonal(np.column_stack([diagonals, end]), off_diagonals))
    return Forms(
        trace=diagonals[:, 0],
        lower=_rule(values, eigenvectors),
        upper=_rule(*radau),
        largest=values[:, -1],
        residual=off_diagonals[:, -1] * np.abs(eigenvectors[:, -1, -1]),
    )


def _lanczos(
    multiply: Product, vectors: Float[Array, "n_points n_vectors"], n_steps: int, scale: float
) -> tuple[Float[np.ndarray, "n_vectors n_steps"], Float[np.ndarray, "n_vectors n_steps"]]:
    """Return diagonals and off-diagonals of the Lanczos matrices in units of `scale`.

    The last off-diagonal lies outside these matrices: it leads to the next vector.
    """
    basis = jnp.zeros((n_steps, *vectors.shape), vectors.dtype).at[0].set(vectors)
    floor = jnp.asarray(10 * float(jnp.finfo(vectors.dtype).eps) * scale, vectors.dtype)
    steps = []
    for step in range(n_steps):
        basis, *entries = _lanczos_step(basis, multiply(basis[step]), jnp.asarray(step), floor)
        steps.append(np.asarray(entries, dtype=np.float64) / scale)
    diagonals, off_diagonals = np.moveaxis(np.array(steps), (0, 1, 2), (2, 0, 1))
    return diagonals, off_diagonals


@partial(jax.jit, donate_argnums=0)
def _lanczos_step(
    basis: Float[Array, "n_steps n_points n_vectors"],
    images: Float[Array, "n_points n_vectors"],
    step: Int[Array, ""],
    floor: Float[Array, ""],
) -> tuple[
    Float[Array, "n_steps n_points n_vectors"],
    Float[Array, " n_vectors"],
    Float[Array, " n_vectors"],
]:
    """Return the basis with the next vectors, the diagonal and the off-diagonal entries.

    `images` are those of basis[step], whose later rows are zero. A remainder below `floor` is
    round-off: the process has ended, and its further vectors are zero.
    """
    diagonal = jnp.sum(basis[step] * images, axis=0)
    # Once leaves a remainder of round-off along the basis; twice is enough (Kahan).
    for _ in range(2):
        inside = jnp.einsum("snv,nv->sv", basis, images, precision="highest")
        images = images - jnp.einsum("snv,sv->nv", basis, inside, precision="highest")
    norm = jnp.linalg.norm(images, axis=0)
    norm = jnp.where(norm > floor, norm, 0.0)
    following = jnp.where(norm[None] > 0, images / jnp.where(norm > 0, norm, 1.0)[None], 0.0)
    return basis.at[step + 1].set(following, mode="drop"), diagonal, norm


def _tridiagonal(
    diagonals: Float[np.ndarray, "n_vectors n"], off_diagonals: Float[np.ndarray, "n_vectors n-1"]
) -> Float[np.ndarray, "n_vectors n n"]:
    """Return the tridiagonal matrices."""
    n = diagonals.shape[1]
    matrices = np.zeros((len(diagonals), n, n))
    matrices[:, range(n), range(n)] = diagonals
    matrices[:, range(1, n), range(n - 1)] = matrices[:, range(n - 1), range(1, n)] = off_diagonals
    return matrices


def _radau_diagonal(
    diagonals: Float[np.ndarray, "n_vectors n_steps"],
    off_diagonals: Float[np.ndarray, "n_vectors n_steps"],
    eps: float,
) -> Float[np.ndarray, " n_vectors"]:
    """Return the diagonal entry that makes the Lanczos matrix singular.

    It is appended together with the last off-diagonal, and puts a node of the rule at 0.
    """
    pivots = np.full(len(diagonals), np.inf)
    previous = np.zeros(len(diagonals))
    for diagonal, off_diagonal in zip(diagonals.T, off_diagonals.T):
        # A pivot within round-off belongs to a matrix that has the node already.
        pivots = np.maximum(diagonal - previous**2 / pivots, eps)
        previous = off_diagonal
    return previous**2 / pivots


def _rule(
    nodes: Float[np.ndarray, "n_vectors n"], eigenvectors: Float[np.ndarray, "n_vectors n n"]
) -> Float[np.ndarray, " n_vectors"]:
    """Return Σ w f(node), with squared first components of the eigenvectors as weights w."""
    nodes = np.maximum(nodes, 0.0)
    return np.sum(eigenvectors[:, 0] ** 2 * special.xlogy(nodes, nodes), axis=1)
