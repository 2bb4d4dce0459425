"""Contract derivatives of two sets of points into the contributions of parameters to the kernel."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from collective_variables.kernels._derivatives import form
from collective_variables.kernels._derivatives.form import Derivative

OUTPUTS = ("mean", "sum", "full", "per-output")


def contract(first: Derivative, second: Derivative, outputs: str) -> Array:
    """Return the contribution of one parameter to the kernel.

    Args:
        first: Derivatives of n1 points.
        second: Derivatives of n2 points.
        outputs: One of `OUTPUTS`; "mean" gives the sum over outputs.

    Returns:
        The contribution, shaped as in `_signals`.
    """
    if first.inputs is None:
        return _signals(first.signals, second.signals, outputs)
    if first.inputs.shape[1] == 1:
        gram = form.gram(first.inputs[:, 0], second.inputs[:, 0], first.signals.dtype)
        return _signals(first.signals, second.signals, outputs) * jnp.expand_dims(
            gram, _MISSING.get(outputs, ())
        )
    by_positions, by_jacobian = _multiplications(
        first, len(first.inputs), len(second.inputs), first.signals.shape[1], outputs
    )
    if first.inputs.ndim == 2 or by_positions < by_jacobian:
        return _by_positions(first, second, outputs)
    return _signals(form.jacobians(first), form.jacobians(second), outputs)


# Axes of the signals' products that the Gram matrix of the points lacks.
_MISSING = {"per-output": (0,), "full": (1, 3)}


def _signals(
    first: Float[Array, "n1 c ..."], second: Float[Array, "n2 c ..."], outputs: str
) -> Array:
    """Return the products of all signals.

    The shape is (n1, n2), summed over outputs; (c, n1, n2) for "per-output"; (n1, c, n2, c) for
    "full". The products run over two axes wherever possible: for a sum over more axes, XLA copies a
    transpose.
    """
    n1, n2, n_outputs = len(first), len(second), first.shape[1]
    if outputs == "per-output":
        first, second = (
            jnp.swapaxes(signals.reshape(*signals.shape[:2], -1), 0, 1)
            for signals in (first, second)
        )
        return jnp.einsum("cip,cjp->cij", first, second)
    if outputs == "full":
        rows = first.reshape(n1 * n_outputs, -1) @ second.reshape(n2 * n_outputs, -1).T
        return rows.reshape(n1, n_outputs, n2, n_outputs)
    return first.reshape(n1, -1) @ second.reshape(n2, -1).T


def flops(derivative: Derivative, n1: int, n2: int, n_outputs: int, outputs: str) -> float:
    """Return the floating-point operations of `contract`.

    Args:
        derivative: Shapes of the derivative of one point and one output.
        n1: Number of points in the first set.
        n2: Number of points in the second set.
        n_outputs: Number of outputs.
        outputs: One of `OUTPUTS`.

    Returns:
        The number of operations.
    """
    pairs = n_outputs**2 if outputs == "full" else n_outputs
    if derivative.inputs is None:
        return 2.0 * n1 * n2 * pairs * derivative.signals.shape[-1]
    by_positions, by_jacobian = _multiplications(derivative, n1, n2, n_outputs, outputs)
    is_lookup = derivative.inputs.ndim == 2
    return 2.0 * (by_positions if is_lookup else min(by_positions, by_jacobian))


def fewest_outputs(derivatives: list[Derivative]) -> int:
    """Return the smallest number of outputs to contract at once.

    With that many, the work that does not depend on the outputs costs at most a quarter.
    `derivatives` holds the shapes for one point and one output.
    """
    shared = each = 0
    for derivative in derivatives:
        inputs = derivative.inputs
        if inputs is not None and inputs.shape[1] == 1:
            shared += 1 if inputs.ndim == 2 else inputs.shape[2]
        each += derivative.signals.shape[-1]
    return max(1, -(-4 * shared // each))


def _multiplications(
    derivative: Derivative, n1: int, n2: int, n_outputs: int, outputs: str
) -> tuple[int, int]:
    """Return the number of multiplications by pairs of positions, and by Jacobians."""
    t, n_out = derivative.inputs.shape[1], derivative.signals.shape[-1]
    # Rows of a lookup are only compared.
    n_in = 1 if derivative.inputs.ndim == 2 else derivative.inputs.shape[2]
    pairs = n_outputs**2 if outputs == "full" else n_outputs
    by_positions = n1 * n2 * t**2 * (n_in + pairs * n_out)
    by_jacobian = (n1 + n2) * n_outputs * t * n_in * n_out + n1 * n2 * pairs * n_in * n_out
    return by_positions, by_jacobian


def _by_positions(first: Derivative, second: Derivative, outputs: str) -> Array:
    """Return Σ_ts (a_it · a_js)(g_ict · g_jds), for one point i at a time to limit the memory."""
    formula = {"per-output": "ctp,jcsp,tjs->cj", "full": "ctp,jdsp,tjs->cjd"}.get(
        outputs, "ctp,jcsp,tjs->j"
    )
    flat = second.inputs.reshape(-1, *second.inputs.shape[2:])

    def row(point: tuple[Array, Array]) -> Array:
        a, g = point
        gram = form.gram(a, flat, g.dtype).reshape(len(a), *second.inputs.shape[:2])
        return jnp.einsum(formula, g, second.signals, gram)

    kernel = jax.lax.map(row, (first.inputs, first.signals))
    return jnp.moveaxis(kernel, 1, 0) if outputs == "per-output" else kernel
