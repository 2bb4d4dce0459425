"""The form of the derivative of outputs by a parameter: inputs and signals, or a Jacobian."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Derivative(NamedTuple):
    """Derivatives of the outputs c of points by one parameter, with points along the first axis.

    There are two forms. In the first, the derivative is Σ_t a_t ⊗ g_ct. In the second, `inputs` is
    None and `signals` holds the derivative.

    Attributes:
        inputs: a, shape (t, n_in) per point. For a lookup: the row numbers (t,), which stand for
            one-hot vectors.
        signals: g, shape (c, t, n_out) per point; or the derivative, shape (c, size).
    """

    inputs: Float[Array, "*n t n_in"] | Int[Array, "*n t"] | None
    signals: Float[Array, "*n c t n_out"] | Float[Array, "*n c size"]


def flat(jacobian: Float[Array, "c ..."]) -> Derivative:
    """Return a derivative that holds a Jacobian, with its parameter axes flattened."""
    return Derivative(None, jacobian.reshape(len(jacobian), -1))


def point_jacobian(
    a: Float[Array, "t n_in"], g: Float[Array, "c t n_out"]
) -> Float[Array, "c n_in n_out"]:
    """Return Σ_t a_t ⊗ g_ct as a batch of products.

    XLA would copy the transpose of g for one product over all outputs.
    """
    return jnp.einsum("ctk,ctm->ckm", jnp.broadcast_to(a, (len(g), *a.shape)), g)


def jacobians(derivative: Derivative) -> Float[Array, "n c size"]:
    """Return the Jacobians of points, from inputs and signals at several positions."""
    result = jax.vmap(point_jacobian)(derivative.inputs, derivative.signals)
    return result.reshape(*result.shape[:2], -1)


def jacobian_size(derivative: Derivative) -> int:
    """Return the entries in the Jacobian of a point and output that `jacobians` forms, or 0."""
    inputs = derivative.inputs
    if inputs is None or inputs.ndim == 2 or inputs.shape[1] == 1:
        return 0
    return inputs.shape[-1] * derivative.signals.shape[-1]


def gram(first: Array, second: Array, dtype: jnp.dtype) -> Array:
    """Return the products of rows of inputs; row numbers of a lookup stand for one-hot vectors."""
    if first.ndim == 1:
        return (first[:, None] == second[None, :]).astype(dtype)
    return first @ second.T
