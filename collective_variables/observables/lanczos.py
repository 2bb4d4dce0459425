"""Estimate entropy, trace and largest eigenvalue of a kernel from its products with vectors.

The method is stochastic Lanczos quadrature (Ubaru, Chen, Saad 2017) after the leading directions
are taken out (as in Hutch++, Meyer et al. 2021). Let Q have orthonormal columns, P = 1 − QQᵀ, d =
n_points − n_leading, f(λ) = λ ln λ, and z be a random unit vector in the range of P. Then

    tr f(K) = Σ_i q_iᵀ f(K) q_i + d E[zᵀ f(K) z]

for every Q. Leading directions that have not converged to eigenvectors raise the variance and cause
no bias. `_quadrature` bounds the forms of each q_i and z.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy import special

from collective_variables import _checks
from collective_variables.observables import spectrum
from collective_variables.observables._quadrature import Forms, Product, quadratic_forms

N_ITERATIONS = 2  # iterations of the subspace iteration that finds the leading directions
N_LEADING_STEPS = 4  # Lanczos steps from the leading directions, which are nearly eigenvectors
MIN_PROBES = 3  # a line through the probes leaves n_probes - 2 degrees of freedom


@dataclass(frozen=True)
class Estimate:
    """Collective variables of a kernel and their errors.

    Entropies are in nats, the other variables in the unit of the kernel. No error includes the
    round-off of `product`.

    Attributes:
        entropy: The entropy.
        entropy_standard_error: One standard deviation of the estimate, from the spread over probes.
            For few probes use Student's t with `degrees_of_freedom` (see `interval`).
        entropy_quadrature_error: Bound of the change of the entropy, up or down, by the finite
            number of Lanczos steps; the standard error does not include it.
        trace: The trace.
        trace_standard_error: As for the entropy; 0 if the diagonal is known.
        largest_eigenvalue: A lower bound of the largest eigenvalue.
        largest_eigenvalue_residual: Distance from it within which there is an eigenvalue, though
            not surely the largest.
        degrees_of_freedom: Degrees of freedom of the standard error.
        n_leading: Number of leading directions; n_points if the kernel was formed.
        n_probes: Number of probes; 0 if the kernel was formed.
        n_steps: Number of steps; 0 if the kernel was formed.
        n_products: Number of vectors that were multiplied by the kernel.
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
        """Return an interval of the entropy.

        Its half-width is Student's t times the standard error, plus the bound of the quadrature
        error.

        Args:
            confidence: Probability, between 0 and 1.

        Returns:
            The lower and the upper end, in nats.

        Raises:
            ValueError: The confidence is out of its range.
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
    """Estimate the entropy, trace and largest eigenvalue of a kernel that is not formed.

    Stochastic Lanczos quadrature with the leading directions taken out (Ubaru, Chen, Saad 2017;
    Meyer et al. 2021; the formula is in the docstring of this module). It needs memory for n_points
    · max(n_steps n_probes, 4 n_leading) numbers. A kernel with no more points than the estimate
    would take products is formed and decomposed instead.

    Raises TypeError if a number is not an integer. Raises ValueError if an argument is out of its
    range, or if products have another shape or are not finite. Leading directions that show an
    asymmetric or indefinite kernel are also a ValueError.

    Args:
        product: product(v) = K v for v of shape (n_points, n_vectors), at most max(n_leading,
            n_probes) vectors at once; K is symmetric and positive semi-definite. `kernel_product`
            returns one. A JAX function is faster if compiled with `jax.jit`. Arrays are float32, or
            float64 in JAX's 64-bit mode. On an accelerator, compute the products with
            precision="highest".
        n_points: Number of points, the rows of K.
        key: Random key; the same key gives the same estimate.
        diagonal: (n_points,) diagonal of K. The trace is then exact, and the known mean of the
            probes' traces reduces the scatter of the entropy.
        n_leading: Number of leading directions.
        n_probes: Number of random probes, at least 3.
        n_steps: Number of Lanczos steps from each probe.

    Returns:
        The variables with their errors; the entropy (nats) of a kernel that is zero is NaN.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> eigenvalues = jnp.arange(1, 5001) ** -1.5
        >>> product = jax.jit(lambda v: eigenvalues[:, None] * v)  # of a diagonal kernel
        >>> estimate = cv.estimate_entropy(
        ...     product, 5000, key=jax.random.key(0), diagonal=eigenvalues
        ... )
        >>> low, high = estimate.interval()
        >>> print(f"{low:.2f} to {high:.2f} from {estimate.n_products} products")
        3.04 to 3.07 from 992 products
        >>> print(f"exact: {cv.entropy(eigenvalues):.2f}")
        exact: 3.06
    """
    n_points = _checks.integer("n_points", n_points, minimum=1)
    n_leading = _checks.integer("n_leading", n_leading, minimum=1)
    n_probes = _checks.integer("n_probes", n_probes, minimum=MIN_PROBES)
    n_steps = _checks.integer("n_steps", n_steps, minimum=1)
    trace = None if diagonal is None else _trace(diagonal, n_points)
    multiply = partial(_multiply, product)
    n_products = n_leading * (N_ITERATIONS + 1 + N_LEADING_STEPS) + n_probes * n_steps
    if n_points <= n_products:
        return _decomposed(multiply, n_points, max(n_leading, n_probes))
    leading_key, probe_key = jax.random.split(key)
    leading, scale = _leading(multiply, jax.random.normal(leading_key, (n_points, n_leading)))
    if scale == 0.0:
        return _zero_kernel(n_leading, n_probes, n_steps, n_products)
    exact = quadratic_forms(multiply, leading, N_LEADING_STEPS, scale)
    probes = _unit_complement(leading, jax.random.normal(probe_key, (n_points, n_probes)))
    sampled = quadratic_forms(multiply, probes, n_steps, scale).times(n_points - n_leading)
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


def _zero_kernel(n_leading: int, n_probes: int, n_steps: int, n_products: int) -> Estimate:
    """Return the estimate for a kernel that is zero."""
    return Estimate(
        entropy=np.nan,
        entropy_standard_error=np.nan,
        entropy_quadrature_error=0.0,
        trace=0.0,
        trace_standard_error=0.0,
        largest_eigenvalue=0.0,
        largest_eigenvalue_residual=0.0,
        degrees_of_freedom=n_probes - 1,
        n_leading=n_leading,
        n_probes=n_probes,
        n_steps=n_steps,
        n_products=n_products,
    )


def _trace(diagonal: Float[Array, " n_points"], n_points: int) -> float:
    """Return the sum of a checked diagonal."""
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
    """Return checked products with vectors."""
    images = product(vectors)
    if images.shape != vectors.shape:
        raise ValueError(
            f"product must give the shape {vectors.shape} of its vectors: received {images.shape}."
        )
    if not jnp.isfinite(images).all():
        _checks.finite("product", np.asarray(images))
    return images.astype(vectors.dtype)


def _decomposed(multiply: Product, n_points: int, width: int) -> Estimate:
    """Return the variables of a kernel, formed `width` columns at a time and decomposed."""
    starts = range(0, n_points, width)
    columns = [
        multiply(jax.nn.one_hot(start + jnp.arange(width), n_points, axis=0)) for start in starts
    ]
    kernel = np.concatenate(columns, axis=1)[:, :n_points]
    _check_symmetric(kernel)
    values = spectrum.eigenvalues((kernel + kernel.T) / 2)
    return Estimate(
        entropy=spectrum.entropy(values),
        entropy_standard_error=0.0,
        entropy_quadrature_error=0.0,
        trace=spectrum.trace(values),
        trace_standard_error=0.0,
        largest_eigenvalue=float(values.max()),
        largest_eigenvalue_residual=0.0,
        degrees_of_freedom=0,
        n_leading=n_points,
        n_probes=0,
        n_steps=0,
        n_products=len(starts) * width,
    )


def _check_symmetric(matrix: Float[np.ndarray, "n n"]) -> None:
    """Raise ValueError if a matrix is not symmetric."""
    asymmetry = np.abs(matrix - matrix.T).max()
    if asymmetry > _round_off(matrix.dtype) * np.abs(matrix).max():
        raise ValueError(
            "product must be that of a symmetric kernel: received entries that differ by "
            f"{asymmetry:.3g} from their mirrors."
        )


def _round_off(dtype: np.dtype) -> float:
    """Return a bound of differences by the order of sums, relative to the largest eigenvalue."""
    return 10 * float(np.sqrt(jnp.finfo(dtype).eps))


def _leading(
    multiply: Product, vectors: Float[Array, "n_points n_leading"]
) -> tuple[Float[Array, "n_points n_leading"], float]:
    """Return leading eigenvectors and the largest eigenvalue (Halko, Martinsson, Tropp 2011)."""
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
    """Return Gaussian vectors made orthogonal to `leading` and of length one.

    They are then uniform on the unit sphere of the complement.
    """
    for _ in range(2):
        inside = jnp.matmul(leading.T, vectors, precision="highest")
        vectors = vectors - jnp.matmul(leading, inside, precision="highest")
    return vectors / jnp.linalg.norm(vectors, axis=0, keepdims=True)


def _combine(
    exact: Forms, sampled: Forms, trace: float | None
) -> tuple[float, float, float, float]:
    """Return the entropy S = ln Tr − tr f(K)/Tr and the trace, each with its standard error.

    `exact` holds the forms of the leading directions; `sampled` those of the probes, which stand
    for the rest.
    """
    n_probes = len(sampled.trace)
    forms = (sampled.lower + sampled.upper) / 2
    shares = sampled.trace
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
    """Return the least-squares line of y in x at the known mean of x, and its standard error."""
    deviation = x - x.mean()
    spread = float(deviation @ deviation)
    slope = float(deviation @ y) / spread if spread > 0 else 0.0
    rest = y - y.mean() - slope * deviation
    distance = (at - x.mean()) ** 2 / spread if spread > 0 else 0.0
    variance = float(rest @ rest) / (len(x) - 2) * (1 / len(x) + distance)
    return float(y.mean() + slope * (at - x.mean())), float(np.sqrt(variance))
