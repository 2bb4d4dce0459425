"""The spectrum of a kernel and its collective variables (Tovey et al. 2023, eqs 5 and 7), in
float64.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from collective_variables import _checks, _memory


class Spectrum(NamedTuple):
    """Eigenvalues of a kernel, and what round-off had made of the smallest ones.

    eigenvalues: (n_points,) ascending, none negative. n_negative: how many came out negative and
    were set to 0.
    most_negative: the lowest of them before that, 0.0 if there was none.
    """

    eigenvalues: Float[np.ndarray, " n_points"]
    n_negative: int
    most_negative: float


def decompose(kernel: Float[Array, "n_points n_points"]) -> Spectrum:
    """Eigenvalues of a symmetric positive semi-definite `kernel` in float64, with a count of the
    negative ones.

    Raises ValueError for a kernel that is empty, not square, not finite, not symmetric, or has a
    negative eigenvalue larger than the round-off of its own dtype allows (10 n_points machine
    epsilons of the largest eigenvalue), and MemoryError for one whose copy in float64 does not fit
    the free memory (`lanczos.estimate_entropy` needs no kernel).
    """
    kernel = np.asarray(kernel)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or kernel.size == 0:
        raise ValueError(
            f"kernel must be a square matrix of at least one point: received the shape {kernel.shape}."
        )
    _checks.finite("kernel", kernel)
    precision = kernel.dtype if jnp.issubdtype(kernel.dtype, jnp.floating) else np.dtype(np.float64)
    tolerance = _tolerance(len(kernel), precision)
    asymmetry = _asymmetry(kernel)
    if asymmetry > tolerance * float(max(kernel.max(), -kernel.min())):
        raise ValueError(
            f"kernel must be symmetric: received entries that differ by {asymmetry:.3g} from their mirrors."
        )
    # The decomposition overwrites its copy of the kernel; making it symmetric takes another for a
    # moment.
    _memory.check(
        f"The eigenvalues of {len(kernel)} points", 8 * kernel.size * (2 if asymmetry else 1)
    )
    matrix = kernel.astype(np.float64)
    if asymmetry:
        matrix = (matrix + matrix.T) / 2
    # In place, in LAPACK's own order: the eigenvalues of 10000 points take one array of 0.8 GB.
    values = scipy.linalg.eigh(
        matrix.T, eigvals_only=True, overwrite_a=True, check_finite=False, driver="evd"
    )
    lowest = min(float(values[0]), 0.0)
    if -lowest > tolerance * max(float(values[-1]), 0.0):
        raise ValueError(
            f"kernel must be positive semi-definite: received the eigenvalue {lowest:.3g}."
        )
    return Spectrum(np.maximum(values, 0.0), int((values < 0).sum()), lowest)


def _asymmetry(kernel: Float[np.ndarray, "n_points n_points"], block: int = 512) -> float:
    """The largest difference of an entry from its mirror, in double precision and in blocks of
    rows.
    """
    starts = range(0, len(kernel), block)
    pairs = ((kernel[i : i + block], kernel[:, i : i + block].T) for i in starts)
    # Most kernels are symmetric to the last digit, which takes a tenth of the time to see.
    unequal = (pair for pair in pairs if not np.array_equal(*pair))
    differences = (
        np.abs(one.astype(np.float64) - other.astype(np.float64)).max() for one, other in unequal
    )
    return max(map(float, differences), default=0.0)


def eigenvalues(kernel: Float[Array, "n_points n_points"]) -> Float[np.ndarray, " n_points"]:
    """Eigenvalues in float64, ascending; those that round-off made negative are 0 (`decompose` also
    counts them).
    """
    return decompose(kernel).eigenvalues


def trace(eigenvalues: Float[Array, " n_points"]) -> float:
    """Tr = Σ λ_i, not divided by the number of points (Tovey et al. 2023, eq. 7)."""
    return float(np.sum(_checked(eigenvalues)))


def entropy(eigenvalues: Float[Array, " n_points"]) -> float:
    """S = −Σ p_i ln p_i with p_i = λ_i/Σλ, in nats, 0 ln 0 = 0 (Tovey et al. 2023, eq. 5); 0 ≤ S ≤
    ln n_points.

    NaN for a kernel that is zero, which has no p_i.
    """
    values = _checked(eigenvalues)
    total = values.sum()
    if total == 0.0:
        return float("nan")
    p = values[values > 0] / total
    # A share below the smallest float is 0, and its logarithm is not wanted.
    p = p[p > 0]
    # Round-off must not take it out of its range.
    return float(np.clip(-np.sum(p * np.log(p)), 0.0, np.log(len(p))))


def collective_variables(eigenvalues: Float[Array, " n_points"]) -> dict[str, float]:
    """Entropy S, trace Tr, largest eigenvalue, and forms that do not grow with the number of points
    N by themselves.

    effective_entropy = S/ln N (NaN for one point), effective_rank = exp S, trace_per_point = Tr/N,
    largest_eigenvalue_fraction = λ_max/Tr, which eq. 7 of Tovey et al. 2023 takes to be about 1.
    """
    values = _checked(eigenvalues)
    return with_size_free_forms(entropy(values), trace(values), float(values.max()), len(values))


def with_size_free_forms(
    entropy: float, trace: float, largest_eigenvalue: float, n_points: int
) -> dict[str, float]:
    """The three of a kernel of `n_points`, however they were found, and the forms of
    `collective_variables`.
    """
    return {
        "entropy": entropy,
        "trace": trace,
        "largest_eigenvalue": largest_eigenvalue,
        "effective_entropy": entropy / np.log(n_points) if n_points > 1 else float("nan"),
        "effective_rank": float(np.exp(entropy)),
        "trace_per_point": trace / n_points,
        "largest_eigenvalue_fraction": largest_eigenvalue / trace if trace > 0 else float("nan"),
    }


def leading(kernel: Float[Array, "n_points n_points"], n_points: Sequence[int]) -> list[Spectrum]:
    """Spectra of the leading blocks of `kernel`: those of nested subsets of the given sizes.

    Raises ValueError for a size beyond that of the kernel.
    """
    if max(n_points) > len(kernel):
        raise ValueError(f"n_points must not exceed the kernel: {max(n_points)} > {len(kernel)}.")
    return [decompose(np.asarray(kernel)[:n, :n]) for n in n_points]


def _checked(eigenvalues: Float[Array, " n_points"]) -> Float[np.ndarray, " n_points"]:
    values = np.asarray(eigenvalues, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(
            f"eigenvalues must be a list of at least one: received the shape {values.shape}."
        )
    _checks.finite("eigenvalues", values)
    if -values.min() > _tolerance(len(values), np.dtype(np.float32)) * max(values.max(), 0.0):
        raise ValueError(f"eigenvalues must not be negative: received {values.min():.3g}.")
    return np.maximum(values, 0.0)


def _tolerance(n_points: int, dtype: np.dtype) -> float:
    """Round-off of an eigenvalue relative to the largest one."""
    return 10 * n_points * float(jnp.finfo(dtype).eps)


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
