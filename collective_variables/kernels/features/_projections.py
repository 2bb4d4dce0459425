"""Random projections of the derivatives of one output, with independent signs for each parameter.

A derivative D of a parameter is projected on p vectors of random signs, D·R_j. The expected product
of two projections is the scalar product of the derivatives. Its variance is that of a product of
projections of two vectors, at most 2 |D|² |D'|² for each j.

For Σ_t a_t ⊗ g_t the signs are a product R^a ⊗ R^g, so that D·R_j = Σ_t (a_t·R^a_j)(g_t·R^g_j)
without D (Holzmüller et al. 2023, JMLR 24(164), "sketching"). The variance is then at most
9 |D|² |D'|². A small D is therefore formed and has a sign for every entry.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from collective_variables.kernels._derivatives import form
from collective_variables.kernels._derivatives.form import Derivative

SIGNS = 2**22  # most signs that are held at once
SMALL_JACOBIAN = 2**11  # entries of a point's Jacobian of all outputs that costs little
WORD = 32  # bits that are drawn together


def draw_signs(
    key: PRNGKeyArray, n_rows: int, n_features: int, dtype: jnp.dtype
) -> Float[Array, "n_rows n_features"]:
    """Return independent random signs; each random bit gives one."""
    n_words = -(-n_features // WORD)
    words = jax.random.bits(key, (n_rows, n_words), jnp.uint32)
    bits = (words[..., None] >> jnp.arange(WORD, dtype=jnp.uint32)[None, None]) & jnp.uint32(1)
    signs = 1 - 2 * bits.astype(jnp.int32)
    return signs.reshape(n_rows, n_words * WORD)[:, :n_features].astype(dtype)


def row_signs(
    rows: Int[Array, " t"], key: PRNGKeyArray, n_features: int, dtype: jnp.dtype
) -> Float[Array, "t n_features"]:
    """Return the signs of rows of a table, drawn from their numbers without the whole table."""
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows)
    return jax.vmap(lambda row_key: draw_signs(row_key, 1, n_features, dtype)[0])(keys)


def project(
    vectors: Float[Array, "n size"], key: PRNGKeyArray, n_features: int
) -> Float[Array, "n n_features"]:
    """Return the products of vectors with random signs, which are drawn in blocks of entries."""
    size, width = vectors.shape[1], max(1, SIGNS // n_features)
    n_whole = size // width

    def product(number: int | Int[Array, ""], columns: Float[Array, "n columns"]) -> Array:
        block_key = jax.random.fold_in(key, number)
        return columns @ draw_signs(block_key, columns.shape[1], n_features, columns.dtype)

    def add_block(number: Int[Array, ""], total: Array) -> Array:
        columns = jax.lax.dynamic_slice_in_dim(vectors, number * width, width, axis=1)
        return total + product(number, columns)

    rest = product(n_whole, vectors[:, n_whole * width :])
    return jax.lax.fori_loop(0, n_whole, add_block, rest) if n_whole else rest


def signs_every_entry(one: Derivative, n_outputs: int, n_features: int) -> bool:
    """Return whether every entry of a derivative has a sign, so that Σ_t a_t ⊗ g_t is formed.

    It is formed if it is small, or if that costs no more than two projections. For a last layer it
    would lower no variance, since the signal of each output is that of one unit. The form that
    `derivatives` chooses depends on the number of outputs at once; the signs must not.

    Args:
        one: Shapes of the derivative of one point and one output.
        n_outputs: Number of outputs of the network.
        n_features: Number of features.

    Returns:
        True for one sign per entry, False for products of signs.
    """
    if one.inputs is None:
        return True
    if one.inputs.ndim == 2:
        return False
    t, n_in, n_out = one.inputs.shape[1], one.inputs.shape[2], one.signals.shape[-1]
    if n_out > n_outputs and n_outputs * n_in * n_out <= SMALL_JACOBIAN:
        return True
    return n_in * n_out * (t + n_features) <= t * (n_in + n_out) * n_features


def project_output(
    derivative: Derivative, key: PRNGKeyArray, n_features: int, dtype: jnp.dtype, is_formed: bool
) -> Float[Array, "n n_features"]:
    """Return the projections of the derivatives of points.

    Args:
        derivative: The derivatives of one output, so c = 1.
        key: Key of the signs, one for every parameter and output.
        n_features: Number of projections.
        dtype: Their dtype.
        is_formed: The result of `signs_every_entry`.

    Returns:
        The projections, not divided by √n_features.
    """
    if is_formed and derivative.inputs is not None:
        derivative = Derivative(None, form.jacobians(derivative))
    inputs, signals = derivative.inputs, derivative.signals[:, 0].astype(dtype)
    if inputs is None:
        return project(signals, key, n_features)
    first, second = (jax.random.fold_in(key, number) for number in range(2))
    n, t, n_out = signals.shape
    right = project(signals.reshape(n * t, n_out), second, n_features)
    if inputs.ndim == 2:
        left = row_signs(inputs.reshape(-1), first, n_features, dtype)
    else:
        left = project(inputs.reshape(n * t, -1).astype(dtype), first, n_features)
    return (left * right).reshape(n, t, n_features).sum(axis=1)


def numbers_held(one: Derivative, n_features: int, is_formed: bool) -> int:
    """Return how many numbers `project_output` holds at once for a point, from its shapes."""
    n_out = one.signals.shape[-1]
    if one.inputs is None:
        return n_out + n_features
    if is_formed:
        return one.inputs.shape[2] * n_out + n_features
    # Both projections and their product.
    return one.inputs.shape[1] * (n_out + 3 * n_features)
