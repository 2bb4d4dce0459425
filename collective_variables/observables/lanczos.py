"""Entropy, trace and largest eigenvalue of a kernel that is known only by its products with
vectors, with error bars.

Stochastic Lanczos quadrature (Ubaru, Chen, Saad 2017) after the leading directions are taken out
(as in Hutch++, Meyer et al. 2021). With orthonormal columns Q, P = 1 − QQᵀ, d = n_points −
n_leading, f(λ) = λ ln λ and z a random unit vector in the range of P, tr f(K) = Σ_i q_iᵀ f(K) q_i +
d E[zᵀ f(K) z] holds for every Q: leading directions that are no eigenvectors yet cost variance and
make no bias. Lanczos' process from each q_i and z gives the quadratic forms. As the derivatives of
f from the second on alternate in sign, Gauss's rule is a lower bound of each form and Gauss-Radau's
rule with a node at 0 an upper one (Golub, Meurant 1994).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray
from scipy import special

from collective_variables import _checks
from collective_variables.observables import spectrum

Product = Callable[[Float[Array, "n_points n_vectors"]], Float[Array, "n_points n_vectors"]]
N_ITERATIONS = 2  # of the subspace iteration that finds the leading directions
N_LEADING_STEPS = 4  # of Lanczos' process from each of them, which are nearly eigenvectors
MIN_PROBES = 3  # a line through the probes leaves n_probes - 2 degrees of freedom


@dataclass(frozen=True)
class Estimate:
    """Collective variables of a kernel and their errors; entropies in nats, the rest in the unit of
    the kernel.

    entropy_standard_error, trace_standard_error: from the spread over probes, one standard
    deviation of the estimate; few probes want Student's t with `degrees_of_freedom` (see
    `interval`). The trace has none if the diagonal is known.
    entropy_quadrature_error: bound of what the finite number of Lanczos steps moves the entropy
    either way, which the
    standard error leaves out. largest_eigenvalue: a lower bound; an eigenvalue, though not surely
    the largest, lies within largest_eigenvalue_residual of it. None of them covers the round-off of
    `product`.
    n_leading, n_probes, n_steps: those of the estimate; n_points, 0, 0 and no errors if the kernel
    was formed.
    n_products: how many vectors were multiplied by the kernel.
    """

    entropy: float
    entropy_standard_error: float
    entropy_quadrature_error: float
    trace: float
    trace_standard_error: float
    largest_eigenvalue: float
    largest_eigenvalue_residual: float
    degrees_of_freedom: int
    n_leading: int
    n_probes: int
    n_steps: int
    n_products: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Interval of the entropy: t times the standard error, plus the bound of the quadrature's
        error.
        """
        confidence = _checks.number("confidence", confidence, above=0.0)
        if confidence >= 1:
            raise ValueError(f"confidence must be less than 1: received {confidence}.")
        quantile = (
            special.stdtrit(self.degrees_of_freedom, (1 + confidence) / 2)
            if self.degrees_of_freedom
            else 0.0
        )
        margin = float(quantile * self.entropy_standard_error + self.entropy_quadrature_error)
        return self.entropy - margin, self.entropy + margin


def estimate_entropy(
    product: Product,
    n_points: int,
    *,
    key: PRNGKeyArray,
    diagonal: Float[Array, " n_points"] | None = None,
    n_leading: int = 32,
    n_probes: int = 32,
    n_steps: int = 24,
) -> Estimate:
    """Entropy, trace and largest eigenvalue of the kernel K with product(v) = K v, which is not
    formed.

    product: takes and gives (n_points, n_vectors), at most max(n_leading, n_probes) vectors at
    once, and is called as it is (`products.kernel_product` has one; compile another with
    `jax.jit`); K is symmetric and positive semi-definite. Arrays are float32, or float64 in JAX's
    64-bit mode; `product` should be as accurate (on an accelerator: precision="highest"). diagonal:
    of K; the trace is then exact, and the probes' own traces, whose mean it tells, take
    part of the scatter out of the entropy. key: the same key gives the same estimate.

    Memory: n_points (n_steps n_probes or 4 n_leading, whichever is larger) numbers. A kernel of no
    more points than the products it would take is formed and decomposed instead. The entropy of a
    kernel that is zero is NaN.

    Raises TypeError or ValueError for a wrong argument, and for products of another shape, not
    finite, or not those of a symmetric positive semi-definite kernel as far as the leading
    directions show.
    """
    n_points = _checks.integer("n_points", n_points, minimum=1)
    n_leading = _checks.integer("n_leading", n_leading, minimum=1)
    n_probes = _checks.integer("n_probes", n_probes, minimum=MIN_PROBES)
    n_steps = _checks.integer("n_steps", n_steps, minimum=1)
    trace = None if diagonal is None else _trace(diagonal, n_points)
    multiply = partial(_multiply, product)
    n_products = n_leading * (N_ITERATIONS + 1 + N_LEADING_STEPS) + n_probes * n_steps
    if n_points <= n_products:
        return _formed(multiply, n_points, max(n_leading, n_probes))
    leading_key, probe_key = jax.random.split(key)
    leading, scale = _leading(multiply, jax.random.normal(leading_key, (n_points, n_leading)))
    if scale == 0.0:
        return Estimate(
            np.nan,
            np.nan,
            0.0,
            0.0,
            0.0,
            0.0,
            0.0,
            n_probes - 1,
            n_leading,
            n_probes,
            n_steps,
            n_products,
        )
    exact = _forms(multiply, leading, N_LEADING_STEPS, scale)
    probes = _unit_complement(leading, jax.random.normal(probe_key, (n_points, n_probes)))
    sampled = _forms(multiply, probes, n_steps, scale).times(n_points - n_leading)
    entropy, error, total, trace_error = _combine(
        exact, sampled, None if trace is None else trace / scale
    )
    width = np.sum(exact.upper - exact.lower) + np.mean(sampled.upper - sampled.lower)
    best = np.argmax(exact.largest)
    return Estimate(
        entropy=float(np.clip(entropy, 0.0, np.log(n_points))),
        entropy_standard_error=error,
        entropy_quadrature_error=float(width / 2 / total),
        trace=total * scale if trace is None else trace,
        trace_standard_error=trace_error * scale,
        largest_eigenvalue=float(exact.largest[best] * scale),
        largest_eigenvalue_residual=float(exact.residual[best] * scale),
        degrees_of_freedom=n_probes - (1 if trace is None else 2),
        n_leading=n_leading,
        n_probes=n_probes,
        n_steps=n_steps,
        n_products=n_products,
    )


def _trace(diagonal: Float[Array, " n_points"], n_points: int) -> float:
    values = np.asarray(diagonal, dtype=np.float64)
    if values.shape != (n_points,):
        raise ValueError(f"diagonal must be ({n_points},): received the shape {values.shape}.")
    _checks.finite("diagonal", values)
    if values.min() < 0:
        raise ValueError(f"diagonal must not be negative: received {values.min():.3g}.")
    return float(values.sum())


def _multiply(
    product: Product, vectors: Float[Array, "n_points n_vectors"]
) -> Float[Array, "n_points n_vectors"]:
    images = product(vectors)
    if images.shape != vectors.shape:
        raise ValueError(
            f"product must give the shape {vectors.shape} of its vectors: received {images.shape}."
        )
    if not jnp.isfinite(images).all():
        _checks.finite("product", np.asarray(images))
    return images.astype(vectors.dtype)


def _formed(multiply: Product, n_points: int, width: int) -> Estimate:
    """The kernel column by column, and its eigenvalues."""
    starts = range(0, n_points, width)
    columns = [
        multiply(jax.nn.one_hot(start + jnp.arange(width), n_points, axis=0)) for start in starts
    ]
    kernel = np.concatenate(columns, axis=1)[:, :n_points]
    _check_symmetric(kernel)
    values = spectrum.eigenvalues((kernel + kernel.T) / 2)
    entropy, total, largest = spectrum.entropy(values), spectrum.trace(values), float(values.max())
    return Estimate(
        entropy, 0.0, 0.0, total, 0.0, largest, 0.0, 0, n_points, 0, 0, len(starts) * width
    )


def _check_symmetric(matrix: Float[np.ndarray, "n n"]) -> None:
    asymmetry, size = np.abs(matrix - matrix.T).max(), np.abs(matrix).max()
    if asymmetry > _round_off(matrix.dtype) * size:
        raise ValueError(
            f"product must be that of a symmetric kernel: received entries {asymmetry:.3g} apart."
        )


def _round_off(dtype: np.dtype) -> float:
    """What products that differ in the order of their sums may differ by, relative to the largest
    eigenvalue.
    """
    return 10 * float(np.sqrt(jnp.finfo(dtype).eps))


def _leading(
    multiply: Product, vectors: Float[Array, "n_points n_leading"]
) -> tuple[Float[Array, "n_points n_leading"], float]:
    """Approximate leading eigenvectors by subspace iteration (Halko, Martinsson, Tropp 2011), and
    the largest value.
    """
    for _ in range(N_ITERATIONS):
        vectors = jnp.linalg.qr(multiply(vectors))[0]
    matrix = np.asarray(jnp.matmul(vectors.T, multiply(vectors), precision="highest"))
    _check_symmetric(matrix)
    values, rotation = np.linalg.eigh((matrix + matrix.T) / 2)
    if -values[0] > _round_off(matrix.dtype) * max(values[-1], 0.0):
        raise ValueError(
            f"product must be that of a positive semi-definite kernel: received {values[0]:.3g}."
        )
    return jnp.matmul(vectors, rotation, precision="highest"), float(values[-1])


@jax.jit
def _unit_complement(
    leading: Float[Array, "n_points n_leading"], vectors: Float[Array, "n_points n_probes"]
) -> Float[Array, "n_points n_probes"]:
    """Gaussian vectors made orthogonal to `leading`, each of length one: uniform on the sphere of
    the complement.
    """
    for _ in range(2):
        inside = jnp.matmul(leading.T, vectors, precision="highest")
        vectors = vectors - jnp.matmul(leading, inside, precision="highest")
    return vectors / jnp.linalg.norm(vectors, axis=0, keepdims=True)


class _Forms(NamedTuple):
    """For each unit vector v: vᵀKv, bounds of vᵀf(K)v, the largest Ritz value and its residual,
    scale as the unit.
    """

    trace: Float[np.ndarray, " n_vectors"]
    lower: Float[np.ndarray, " n_vectors"]
    upper: Float[np.ndarray, " n_vectors"]
    largest: Float[np.ndarray, " n_vectors"]
    residual: Float[np.ndarray, " n_vectors"]

    def times(self, n: int) -> "_Forms":
        return self._replace(trace=n * self.trace, lower=n * self.lower, upper=n * self.upper)


def _forms(
    multiply: Product, vectors: Float[Array, "n_points n_vectors"], n_steps: int, scale: float
) -> _Forms:
    diagonals, off_diagonals = _lanczos(multiply, vectors, n_steps, scale)
    inner, last = off_diagonals[:, :-1], off_diagonals[:, -1]
    values, eigenvectors = np.linalg.eigh(_tridiagonal(diagonals, inner))
    end = _radau_diagonal(diagonals, off_diagonals, float(jnp.finfo(vectors.dtype).eps))
    radau = np.linalg.eigh(_tridiagonal(np.column_stack([diagonals, end]), off_diagonals))
    return _Forms(
        trace=diagonals[:, 0],
        lower=_rule(values, eigenvectors),
        upper=_rule(*radau),
        largest=values[:, -1],
        residual=last * np.abs(eigenvectors[:, -1, -1]),
    )


def _lanczos(
    multiply: Product, vectors: Float[Array, "n_points n_vectors"], n_steps: int, scale: float
) -> tuple[Float[np.ndarray, "n_vectors n_steps"], Float[np.ndarray, "n_vectors n_steps"]]:
    """Diagonals and off-diagonals of Lanczos' matrices in units of `scale`; the last off-diagonal
    leads out of them.
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
    """One step from `images` of basis[step], orthogonal to all vectors before it; rows after it are
    still zero.

    A remainder below `floor` is round-off: the process has ended, and its further vectors are zero.
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
    """The diagonal entry that, appended with the last off-diagonal, makes Lanczos' matrix
    singular.
    """
    pivots = np.full(len(diagonals), np.inf)
    previous = np.zeros(len(diagonals))
    for diagonal, off_diagonal in zip(diagonals.T, off_diagonals.T):
        # A pivot of round-off belongs to a matrix that has the node already.
        pivots = np.maximum(diagonal - previous**2 / pivots, eps)
        previous = off_diagonal
    return previous**2 / pivots


def _rule(
    nodes: Float[np.ndarray, "n_vectors n"], eigenvectors: Float[np.ndarray, "n_vectors n n"]
) -> Float[np.ndarray, " n_vectors"]:
    """Σ w f(node) with the squared first components of the eigenvectors as weights w."""
    nodes = np.maximum(nodes, 0.0)
    return np.sum(eigenvectors[:, 0] ** 2 * special.xlogy(nodes, nodes), axis=1)


def _combine(
    exact: _Forms, sampled: _Forms, trace: float | None
) -> tuple[float, float, float, float]:
    """Entropy S = ln Tr − tr f(K)/Tr and its standard error, trace and its standard error."""
    n_probes = len(sampled.trace)
    forms, shares = (sampled.lower + sampled.upper) / 2, sampled.trace
    form = np.sum(exact.lower + exact.upper) / 2 + forms.mean()
    if trace is None:
        total = float(exact.trace.sum() + shares.mean())
        # First order of S in the mean of (share, form), which come from the same probes.
        changes = ((1 + form / total) * shares - forms) / total
        error, trace_error = (
            float(values.std(ddof=1) / np.sqrt(n_probes)) for values in (changes, shares)
        )
        return float(np.log(total) - form / total), error, total, trace_error
    line = _line_at(shares, forms, trace - exact.trace.sum())
    form += line[0] - forms.mean()
    return float(np.log(trace) - form / trace), line[1] / trace, trace, 0.0


def _line_at(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], at: float
) -> tuple[float, float]:
    """The least-squares line of y in x, evaluated at the known mean of x, and its standard
    error.
    """
    deviation = x - x.mean()
    spread = float(deviation @ deviation)
    slope = float(deviation @ y) / spread if spread > 0 else 0.0
    rest = y - y.mean() - slope * deviation
    distance = (at - x.mean()) ** 2 / spread if spread > 0 else 0.0
    variance = float(rest @ rest) / (len(x) - 2) * (1 / len(x) + distance)
    return float(y.mean() + slope * (at - x.mean())), float(np.sqrt(variance))
