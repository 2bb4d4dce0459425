"""Squared norms of derivatives, whose sums are the diagonal and the trace of the kernel."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from collective_variables.kernels._derivatives import backpropagation, blocks, form
from collective_variables.kernels._derivatives.form import Derivative
from collective_variables.networks import _arguments


def squared_norms(
    apply_fn: _arguments.ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    cotangents: Float[Array, "c n_outputs"],
) -> Float[Array, "n c"]:
    """Return the squared norm of the gradient of each combination of outputs, for each point.

    Derivatives become norms in the block of points where they arise, so that they are never held
    for all points. A few outputs at a time go through the network if one point needs too much
    memory.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
        params: The parameters.
        x: The points.
        cotangents: Rows that combine the outputs, (c, n_outputs); rows of the identity give the
            outputs.

    Returns:
        The squared norms, summed over parameters.
    """
    network = backpropagation.Network.trace(apply_fn, params, x)
    points = jax.tree.leaves(x)
    shared, each = _bytes_held(network, points, cotangents)
    at_once = min(len(cotangents), blocks.n_fitting(each))

    def norms(point: Sequence[Array]) -> Float[Array, " c"]:
        pull_back = network.back_propagation(point)
        return blocks.in_blocks(
            lambda group: _norms(network.with_biases(pull_back(group))), cotangents, at_once
        )

    return blocks.in_blocks(jax.vmap(norms), points, blocks.n_fitting(shared + at_once * each))


def diagonal(derivatives: list[Derivative]) -> Float[Array, " n"]:
    """Return K_ii of points, summed over outputs, from the derivatives by all parameters."""
    signals = derivatives[0].signals
    n_points, n_outputs = signals.shape[:2]
    jacobian = n_outputs * max(map(form.jacobian_size, derivatives)) * signals.dtype.itemsize
    size = blocks.n_fitting(_arguments.n_bytes(derivatives) // n_points + jacobian)
    return jnp.sum(blocks.in_blocks(jax.vmap(_norms), derivatives, size), axis=1)


def _bytes_held(
    network: backpropagation.Network,
    points: Sequence[Array],
    cotangents: Float[Array, "c n_outputs"],
) -> tuple[int, int]:
    """Return the bytes of a point that its outputs share, and those of each output."""
    derivatives = jax.eval_shape(
        jax.vmap(lambda point: list(network.back_propagation(point)(cotangents[:1]).values())),
        [jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype) for leaf in points],
    )
    signals = [derivative.signals for derivative in derivatives]
    jacobian = max(map(form.jacobian_size, derivatives)) * signals[0].dtype.itemsize
    return (
        _arguments.n_bytes([derivative.inputs for derivative in derivatives]),
        4 * network.program.largest_signal() + _arguments.n_bytes(signals) + jacobian,
    )


def _norms(derivatives: list[Derivative]) -> Float[Array, " c"]:
    """Return the squared norms of the derivatives of a point, summed over parameters."""
    return sum(map(_norms_by_parameter, derivatives))


def _norms_by_parameter(derivative: Derivative) -> Float[Array, " c"]:
    """Return the squared norms of the derivatives of a point by one parameter.

    ‖Σ_t a_t ⊗ g_t‖² is Σ_ts (a_t · a_s)(g_t · g_s) if that is cheaper than the Jacobian. For a
    lookup, a_t · a_s compares row numbers.
    """
    a, g = derivative
    if a is None:
        return jnp.sum(g * g, axis=1)
    n_outputs, t, n_out = g.shape
    if t == 1:
        signals = jnp.sum(g * g, axis=(1, 2))
        return signals if a.ndim == 1 else signals * jnp.sum(a * a)
    if a.ndim == 1 or t * (a.shape[1] + n_outputs * n_out) < n_outputs * a.shape[1] * n_out:
        return jnp.sum(g * (form.gram(a, a, g.dtype) @ g), axis=(1, 2))
    # One product over all outputs is faster than a batch, although XLA transposes g for it.
    jacobian = jnp.einsum("tk,ctm->kcm", a, g)
    return jnp.sum(jacobian * jacobian, axis=(0, 2))
