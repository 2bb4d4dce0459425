"""Eigenvalues, entropy and trace of a kernel (Tovey et al. 2023, eqs 5 and 7), in float64."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from collective_variables import _checks, _memory

ONE_KERNEL = ("mean", "sum")  # the kinds of outputs that give one kernel with a row per point
SPECTRAL = (
    "entropy",
    "trace",
    "largest_eigenvalue",
    "effective_entropy",
    "effective_rank",
    "trace_per_point",
    "largest_eigenvalue_fraction",
)

Kernel = Float[Array, "n_points n_points"]
Eigenvalues = Float[Array, " n_points"]


class Spectrum(NamedTuple):
    """Eigenvalues of a kernel, and the effect of round-off on the smallest ones.

    Attributes:
        eigenvalues: (n_points,), ascending, none negative.
        n_negative: Number of eigenvalues that were negative and set to 0.
        most_negative: The lowest eigenvalue before that; 0.0 if none was negative.
    """

    eigenvalues: Float[np.ndarray, " n_points"]
    n_negative: int
    most_negative: float


def eigenvalues(kernel: Kernel) -> Float[np.ndarray, " n_points"]:
    """Compute the eigenvalues of a kernel.

    The decomposition runs in NumPy and in float64, so this function does not work inside `jax.jit`.

    Raises ValueError if the kernel is empty, not square, not finite, not symmetric or not positive
    semi-definite, or if it is a stack of kernels. Raises MemoryError if the copy of the kernel in
    float64 does not fit in the free memory (`estimate_entropy` needs no kernel).

    Args:
        kernel: (n_points, n_points), symmetric and positive semi-definite up to the round-off of
            its dtype.

    Returns:
        (n_points,) eigenvalues in float64, ascending, in the unit of the kernel. Eigenvalues that
        round-off made negative are set to 0 (`decompose` also counts them).

    Example:
        >>> import collective_variables as cv
        >>> [round(float(value), 3) for value in cv.eigenvalues([[2.0, 1.0], [1.0, 2.0]])]
        [1.0, 3.0]
    """
    return decompose(kernel).eigenvalues


def entropy(x: Kernel | Eigenvalues) -> float:
    """Compute the von Neumann entropy of a kernel.

    S = −Σ p_i ln p_i with the shares p_i = λ_i/Σλ and 0 ln 0 = 0 (Tovey et al. 2023, eq. 5), so
    that 0 ≤ S ≤ ln n_points. Raises the errors of `eigenvalues` for a kernel. Raises ValueError for
    eigenvalues that are not finite or, beyond round-off, negative.

    Args:
        x: A kernel (n_points, n_points), or its eigenvalues (n_points,) in any order.

    Returns:
        The entropy in nats; NaN for a kernel that is zero, which has no shares.

    Example:
        >>> import collective_variables as cv
        >>> round(cv.entropy([[2.0, 1.0], [1.0, 2.0]]), 3)
        0.562
        >>> round(cv.entropy([1.0, 3.0]), 3)
        0.562
    """
    values = _spectrum(x)
    total = values.sum()
    if total == 0.0:
        return float("nan")
    p = values[values > 0] / total
    # A share below the smallest float underflows to 0, whose logarithm would be infinite.
    p = p[p > 0]
    # Round-off must not take the entropy out of its range.
    return float(np.clip(-np.sum(p * np.log(p)), 0.0, np.log(len(p))))


def trace(x: Kernel | Eigenvalues) -> float:
    """Compute the trace of a kernel.

    Tr = Σ λ_i, not divided by the number of points (Tovey et al. 2023, eq. 7). The trace of a
    kernel is the sum of its diagonal: nothing is decomposed.

    Raises ValueError if the kernel is empty, not square, not finite, not symmetric, or a stack of
    kernels. A negative entry on its diagonal is also a ValueError. So are eigenvalues that are not
    finite or, beyond round-off, negative.

    Args:
        x: A kernel (n_points, n_points), or its eigenvalues (n_points,) in any order.

    Returns:
        The trace, in the unit of the kernel.

    Example:
        >>> import collective_variables as cv
        >>> cv.trace([[2.0, 1.0], [1.0, 2.0]])
        4.0
        >>> cv.trace([1.0, 3.0])
        4.0
    """
    array = np.asarray(x)
    if array.ndim == 1:
        return float(np.sum(_nonnegative("eigenvalues", array)))
    kernel, _ = _symmetric(array)
    return float(np.sum(_nonnegative("diagonal of the kernel", np.diag(kernel))))


def collective_variables(x: Kernel | Eigenvalues) -> dict[str, float]:
    """Compute entropy, trace and largest eigenvalue of a kernel, and forms free of its size.

    Entropy S and trace Tr are those of Tovey et al. 2023, eqs 5 and 7. The other forms do not grow
    merely with the number of points N: S/ln N, exp S, Tr/N and λ_max/Tr, which eq. 7 takes to be
    about 1. Raises the errors of `entropy`.

    Args:
        x: A kernel (n_points, n_points), or its eigenvalues (n_points,) in any order.

    Returns:
        A dictionary of floats: "entropy" (nats), "trace" and "largest_eigenvalue" (in the unit of
        the kernel), "effective_entropy" (S/ln N; NaN for one point), "effective_rank" (exp S),
        "trace_per_point" (Tr/N) and "largest_eigenvalue_fraction" (λ_max/Tr).

    Example:
        >>> import collective_variables as cv
        >>> variables = cv.collective_variables([[2.0, 1.0], [1.0, 2.0]])
        >>> for name, value in variables.items():
        ...     print(f"{name}: {value:.3f}")
        entropy: 0.562
        trace: 4.000
        largest_eigenvalue: 3.000
        effective_entropy: 0.811
        effective_rank: 1.755
        trace_per_point: 2.000
        largest_eigenvalue_fraction: 0.750
    """
    values = _spectrum(x)
    return with_size_free_forms(entropy(values), trace(values), float(values.max()), len(values))


def with_size_free_forms(
    entropy: float, trace: float, largest_eigenvalue: float, n_points: int
) -> dict[str, float]:
    """Add the forms of `collective_variables` to the three variables of a kernel of `n_points`."""
    return {
        "entropy": entropy,
        "trace": trace,
        "largest_eigenvalue": largest_eigenvalue,
        "effective_entropy": float(entropy / np.log(n_points)) if n_points > 1 else float("nan"),
        "effective_rank": float(np.exp(entropy)),
        "trace_per_point": trace / n_points,
        "largest_eigenvalue_fraction": largest_eigenvalue / trace if trace > 0 else float("nan"),
    }


def decompose(kernel: Kernel) -> Spectrum:
    """Compute the eigenvalues of a kernel in float64, and count the negative ones.

    Also raises ValueError unless the kernel is one finite, symmetric square matrix, and MemoryError
    if its copy in float64 does not fit in the free memory.

    Args:
        kernel: (n_points, n_points).

    Returns:
        The eigenvalues.

    Raises:
        ValueError: A negative eigenvalue is larger than the round-off of the dtype allows (10
            n_points machine epsilons of the largest eigenvalue).
    """
    kernel, asymmetry = _symmetric(np.asarray(kernel))
    # The decomposition overwrites its copy of the kernel; making it symmetric takes a second copy
    # for a moment.
    _memory.check(
        f"The eigenvalues of {len(kernel)} points", 8 * kernel.size * (2 if asymmetry else 1)
    )
    matrix = kernel.astype(np.float64)
    if asymmetry:
        matrix = (matrix + matrix.T) / 2
    # In place, in the order of LAPACK: the eigenvalues of 10000 points take one array of 0.8 GB.
    values = scipy.linalg.eigh(
        matrix.T, eigvals_only=True, overwrite_a=True, check_finite=False, driver="evd"
    )
    lowest = min(float(values[0]), 0.0)
    if -lowest > _tolerance(len(kernel), _precision(kernel)) * max(float(values[-1]), 0.0):
        raise ValueError(
            f"kernel must be positive semi-definite: received the eigenvalue {lowest:.3g}."
        )
    return Spectrum(np.maximum(values, 0.0), int((values < 0).sum()), lowest)


def leading(kernel: Kernel, n_points: Sequence[int]) -> list[Spectrum]:
    """Decompose the leading blocks of `kernel`, which belong to nested subsets of the given sizes.

    Also raises the errors of `decompose`.

    Args:
        kernel: (n_points, n_points).
        n_points: Sizes of the blocks.

    Returns:
        The spectrum of each block.

    Raises:
        ValueError: A size exceeds that of the kernel.
    """
    if max(n_points) > len(kernel):
        raise ValueError(f"n_points must not exceed the kernel: {max(n_points)} > {len(kernel)}.")
    return [decompose(np.asarray(kernel)[:n, :n]) for n in n_points]


def square(kernel: Kernel) -> Float[np.ndarray, "n_points n_points"]:
    """Return the kernel as a NumPy array in its dtype, checked to be one finite square matrix.

    Args:
        kernel: (n_points, n_points).

    Returns:
        The kernel.

    Raises:
        ValueError: The kernel is not one square matrix of at least one point, or not finite.
    """
    kernel = np.asarray(kernel)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or kernel.size == 0:
        is_stack = kernel.ndim == 3 and kernel.shape[1] == kernel.shape[2]
        advice = " Pass the kernels of a stack one at a time." if is_stack else ""
        raise ValueError(
            "kernel must be a square matrix of at least one point: "
            f"received the shape {kernel.shape}.{advice}"
        )
    _checks.finite("kernel", kernel)
    return kernel


def _symmetric(kernel: np.ndarray) -> tuple[Float[np.ndarray, "n_points n_points"], float]:
    """Return a symmetric kernel and its largest asymmetry; raise ValueError beyond round-off."""
    kernel = square(kernel)
    asymmetry = _asymmetry(kernel)
    tolerance = _tolerance(len(kernel), _precision(kernel))
    if asymmetry > tolerance * float(max(kernel.max(), -kernel.min())):
        raise ValueError(
            "kernel must be symmetric: "
            f"received entries that differ by {asymmetry:.3g} from their mirrors."
        )
    return kernel, asymmetry


def _asymmetry(kernel: Float[np.ndarray, "n_points n_points"], block: int = 512) -> float:
    """Return the largest difference between an entry and its mirror entry, by blocks of rows."""
    starts = range(0, len(kernel), block)
    pairs = ((kernel[i : i + block], kernel[:, i : i + block].T) for i in starts)
    # Most kernels are symmetric to the last digit; checking this takes a tenth of the time.
    unequal = (pair for pair in pairs if not np.array_equal(*pair))
    differences = (
        np.abs(one.astype(np.float64) - other.astype(np.float64)).max() for one, other in unequal
    )
    return max(map(float, differences), default=0.0)


def _spectrum(x: Kernel | Eigenvalues) -> Float[np.ndarray, " n_points"]:
    """Return checked eigenvalues, or those of a kernel."""
    array = np.asarray(x)
    return _nonnegative("eigenvalues", array) if array.ndim == 1 else eigenvalues(array)


def _nonnegative(name: str, values: np.ndarray) -> Float[np.ndarray, " n_points"]:
    """Return finite values in float64, none negative; raise ValueError beyond round-off."""
    values = values.astype(np.float64)
    if values.size == 0:
        raise ValueError(f"{name} must hold at least one value: received the shape {values.shape}.")
    _checks.finite(name, values)
    if -values.min() > _tolerance(len(values), np.dtype(np.float32)) * max(values.max(), 0.0):
        raise ValueError(f"{name} must not be negative: received {values.min():.3g}.")
    return np.maximum(values, 0.0)


def _precision(kernel: np.ndarray) -> np.dtype:
    """Return the dtype whose round-off the kernel has; integers are exact."""
    return kernel.dtype if jnp.issubdtype(kernel.dtype, jnp.floating) else np.dtype(np.float64)


def _tolerance(n_points: int, dtype: np.dtype) -> float:
    """Return a bound of the round-off of an eigenvalue, relative to the largest one."""
    return 10 * n_points * float(jnp.finfo(dtype).eps)
