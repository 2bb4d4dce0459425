"""Turn a kernel that is a matrix or a function into features: pivoted Cholesky.

K ≈ Φ Φᵀ with Φ = K(·, T) R⁻¹, R being the Cholesky factor of K(T, T), RᵀR = K(T, T). The next point
of T has the largest residual K(x, x) − |φ(x)|² (Fine, Scheinberg 2001; Harbrecht, Peters, Schneider
2012). The residual matrix is positive semi-definite, so that its largest diagonal entry bounds the
error of all its entries.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from collective_variables import _checks, _errors
from collective_variables.selection import _cholesky
from collective_variables.selection.batches import _pool

DIAGONAL = 64  # rows of a block of the kernel that is computed for its diagonal alone
ASYMMETRY = 1e-4  # of the largest entry, that of kernels in float32


class KernelFeatures(NamedTuple):
    """Hold features of a kernel and a bound of their error.

    features: (n_points, n_features) features Φ; n_features is that of the request or less.
    error: bound of |K(x, y) − φ(x)·φ(y)| for all x and y, the largest K(x, x) − |φ(x)|². Round-off
        of the kernel counts as 0 in float64.
    """

    features: Float[np.ndarray, "n_points n_features"]
    error: float


def from_kernel(
    kernel: ArrayLike | _cholesky.Kernel,
    n_points: int,
    n_features: int,
    /,
    *,
    noise: float = 0.0,
) -> KernelFeatures:
    """Return features whose products are the kernel, in float64.

    They are exact up to round-off if the rank of the kernel is at most `n_features`. Memory is
    O(n_points · n_features), in addition to that of a matrix.

    Args:
        kernel: (n_points, n_points) symmetric, positive semi-definite matrix, or a function
            kernel(rows, columns) that returns K between rows of the pool; the columns None stand
            for all.
        n_points: number of points of the pool.
        n_features: largest number of features.
        noise: end once no residual K(x, x) − |φ(x)|² is above noise², where labels with this noise
            could not tell points from their features.

    Raises:
        InvalidValueError: The kernel is not finite, not symmetric or has K(x, x) < 0.

    Also raises TypeError or ValueError if numbers are not positive integers, the noise is below 0,
    or the matrix has another shape.

    Example:
        >>> result = from_kernel([[4.0, 2.0], [2.0, 1.0]], 2, 2)
        >>> print(result.features.tolist(), result.error)
        [[2.0], [1.0]] 0.0
    """
    n_points = _checks.integer("n_points", n_points, minimum=1)
    n_features = min(_checks.integer("n_features", n_features, minimum=1), n_points)
    noise = _checks.number("noise", noise, minimum=0.0)
    function = _checked(kernel if callable(kernel) else _matrix(kernel, n_points), n_points)
    diagonal, round_off = _diagonal(function, n_points)
    residual = _cholesky.Residual(_in_float64(function), diagonal, n_features)
    threshold = max(noise**2, round_off)
    rule = _cholesky.Rule("largest")
    unused = np.ones(n_points, bool)
    is_stopped = False
    while residual.n_known < n_features and not is_stopped:
        limit = min(rule.block_size, n_features - residual.n_known)
        rows, _, is_stopped = _cholesky.choose_block(
            residual, rule, unused, lambda left: left, limit, threshold
        )
        if rows:
            residual.learn(np.array(rows))
    features = np.ascontiguousarray(residual.factor[: residual.n_known].T)
    left = diagonal - np.vecdot(features, features)
    if left.min() < -round_off:
        raise _errors.InvalidValueError(
            f"kernel must be positive semi-definite: K(x, x) less the squares of features is "
            f"{left.min()} for the point {left.argmin()}."
        )
    return KernelFeatures(features, float(residual.variances.max()))


def _matrix(kernel: ArrayLike, n_points: int) -> _cholesky.Kernel:
    """Return a function that takes blocks from a matrix, or raise."""
    matrix = np.asarray(kernel)
    if matrix.shape != (n_points, n_points):
        raise _errors.InvalidValueError(
            f"kernel must have the shape {(n_points, n_points)}: received {matrix.shape}."
        )
    _checks.finite("kernel", matrix)
    difference = np.abs(matrix - matrix.T).max()
    if difference > ASYMMETRY * np.abs(matrix).max():
        raise _errors.InvalidValueError(
            f"kernel must be symmetric: entries differ from their mirror by up to {difference}."
        )
    return lambda rows, columns: matrix[rows] if columns is None else matrix[np.ix_(rows, columns)]


def _checked(kernel: _cholesky.Kernel, n_points: int) -> _cholesky.Kernel:
    """Return the function with checks of what it returns."""

    def block(rows: _pool.Rows, columns: _pool.Rows | None) -> Float[np.ndarray, "n1 n2"]:
        values = np.asarray(kernel(rows, columns))
        expected = (len(rows), n_points if columns is None else len(columns))
        if values.shape != expected:
            raise _errors.InvalidValueError(
                f"kernel must return the shape {expected} for {expected[0]} rows and "
                f"{expected[1]} columns: received {values.shape}."
            )
        _checks.finite("kernel", values)
        return values

    return block


def _in_float64(kernel: _cholesky.Kernel) -> _cholesky.Kernel:
    # New arrays, because the factorisation writes into them.
    return lambda rows, columns: np.array(kernel(rows, columns), np.float64)


def _diagonal(
    kernel: _cholesky.Kernel, n_points: int
) -> tuple[Float[np.ndarray, " n_points"], float]:
    """Return K(x, x) of all points and its round-off in the kernel's dtype.

    Raises:
        InvalidValueError: One is negative.
    """
    rows = np.arange(n_points)
    parts = [rows[start : start + DIAGONAL] for start in range(0, n_points, DIAGONAL)]
    diagonal = np.concatenate([np.diag(kernel(part, part)) for part in parts])
    is_single = diagonal.dtype.kind not in "biu" and diagonal.dtype != np.float64
    epsilon = np.finfo(np.float32 if is_single else np.float64).eps
    diagonal = diagonal.astype(np.float64)
    if diagonal.min() < 0:
        raise _errors.InvalidValueError(
            f"kernel must be positive semi-definite: K(x, x) is {diagonal.min()} for the point "
            f"{diagonal.argmin()}."
        )
    return diagonal, float(_cholesky.ROUND_OFF * epsilon * diagonal.max())
