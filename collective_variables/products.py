"""Products of the neural tangent kernel with vectors, for numbers of points whose kernel fits no memory."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from collective_variables import checks, memory, structured
from collective_variables.structured import ApplyFunction, Derivative
from collective_variables.tiles import (
    Tiles,
    check_network,
    checked,
    compiled_derivatives,
    exact_products,
    hashable,
    n_bytes,
    n_points,
)

TILE = 1024  # points that are multiplied by all vectors at once


class KernelProduct(NamedTuple):
    """A kernel K by what it does: product(v) = K v for v of shape (n_points, n_vectors), and its diagonal."""

    product: Callable[[Float[Array, "n_points n_vectors"]], Float[Array, "n_points n_vectors"]]
    diagonal: Float[np.ndarray, " n_points"]


def kernel_product(
    apply_fn: ApplyFunction, params: PyTree[Array], x: PyTree[Array], *, outputs: str = "mean", block_size: int = TILE
) -> KernelProduct:
    """The kernel of `ntk.empirical_ntk` for outputs "mean" or "sum", by its products with vectors.

    Either K v = J (Jᵀ v): the vectors of all points are pulled back to the parameters, and from there pushed forward
    again; or the kernel of every pair of blocks is made, used and forgotten. What takes fewer operations is done: the
    second for many vectors and few points. The derivatives J, layer by layer as for the kernel, are kept if they fit half
    of the free memory, and computed again for every product otherwise; block_size points go through at once. The product
    is a loop over blocks, not for `jax.jit`.

    Raises ValueError for another kind of outputs, no points, values that are not finite, no parameters, or outputs of
    the network that are not (n_points, n_outputs).
    """
    checks.choice("outputs", outputs, ("mean", "sum"))
    checks.integer("block_size", block_size, minimum=1)
    x = checked("x", x)
    check_network(apply_fn, params, x)
    result = jax.eval_shape(apply_fn, params, x)
    n_outputs, compiled = result.shape[1], compiled_derivatives(hashable(apply_fn))

    def derivatives(x: PyTree[Array]) -> list[Derivative]:
        return compiled(params, x, jnp.eye(n_outputs, dtype=result.dtype))

    one = jax.eval_shape(derivatives, jax.tree.map(lambda leaf: leaf[:1], x))
    keep = n_points(x) * n_bytes(one) <= memory.available() // 2
    tiles = Tiles(derivatives, x, block_size, keep)
    places = range(len(tiles.starts))
    scale = 1.0 / n_outputs if outputs == "mean" else 1.0
    # The last tile repeats points of the one before it.
    repeated = len(places) * tiles.size - n_points(x)
    new = [slice(repeated if place == places[-1] else 0, None) for place in places]

    def product(vectors: Float[Array, "n_points n_vectors"]) -> Float[Array, "n_points n_vectors"]:
        vectors = jnp.asarray(vectors)
        of_tiles = [vectors[start : start + tiles.size] for start in tiles.starts]
        of_tiles[-1] = of_tiles[-1].at[:repeated].set(0.0)
        by_pairs = _pairs_are_cheaper(one, *vectors.shape)
        parts = _by_pairs(tiles, of_tiles) if by_pairs else _by_parameters(tiles, params, of_tiles)
        return scale * jnp.concatenate([part[rows] for part, rows in zip(parts, new)])

    diagonal = [np.asarray(_diagonal(tiles.of(place)))[new[place]] for place in places]
    return KernelProduct(product, scale * np.concatenate(diagonal))


@jax.jit
@exact_products
def _diagonal(derivatives: list[Derivative]) -> Float[Array, " n"]:
    def of_point(point: list[Derivative]) -> Array:
        single = jax.tree.map(lambda leaf: leaf[None], point)
        return sum(structured.contract(of, of, "sum") for of in single)[0, 0]

    return jax.lax.map(of_point, derivatives)


def _pairs_are_cheaper(one: list[Derivative], n_points: int, n_vectors: int) -> bool:
    """Whether the kernel of all pairs of points takes fewer operations than the way over the parameters."""
    pairs = parameters = 0
    for of in one:
        signals, n_in = of.signals.size, 1 if of.inputs is None or of.inputs.ndim == 2 else of.inputs.shape[-1]
        t = 1 if of.inputs is None else of.inputs.shape[1]
        pairs += n_points**2 * t * (signals + t * n_in)
        parameters += 4 * n_points * n_vectors * signals * n_in
    return pairs < parameters


def _by_pairs(tiles: Tiles, vectors: list[Float[Array, "n k"]]) -> list[Float[Array, "n k"]]:
    """K v from the tiles of the kernel on and above its diagonal, none of which is kept."""
    products = [jnp.zeros_like(of_tile) for of_tile in vectors]
    for i, of_row in enumerate(vectors):
        first = tiles.of(i)
        for j in range(i, len(vectors)):
            of_second, of_first = _pair(first, tiles.of(j), of_row, vectors[j])
            products[i] = products[i] + of_second
            if j > i:
                products[j] = products[j] + of_first
    return products


@jax.jit
@exact_products
def _pair(
    first: list[Derivative], second: list[Derivative], of_first: Float[Array, "n k"], of_second: Float[Array, "n k"]
) -> tuple[Float[Array, "n k"], Float[Array, "n k"]]:
    """K v of the second tile's vectors for the first one's points, and the other way round."""
    kernel = sum(structured.contract(a, b, "sum") for a, b in zip(first, second))
    return kernel @ of_second, kernel.T @ of_first


def _by_parameters(tiles: Tiles, params: PyTree[Array], vectors: list[Float[Array, "n k"]]) -> list[Float[Array, "n k"]]:
    """K v = J (Jᵀ v)."""
    pulled = None
    for place, of_tile in enumerate(vectors):
        pulled = _pull_back(tiles.of(place), params, of_tile, pulled)
    # Backwards, because the last tile is at hand if only one is kept.
    return [_push_forward(tiles.of(place), pulled) for place in reversed(range(len(vectors)))][::-1]


@jax.jit
@exact_products
def _pull_back(
    derivatives: list[Derivative], params: PyTree[Array], vectors: Float[Array, "n k"], before: list[Array] | None
) -> list[Array]:
    """Jᵀ v, for each parameter and every output, added to that of the tiles before."""
    pulled = [_pull_back_one(of, leaf.size, vectors) for of, leaf in zip(derivatives, jax.tree.leaves(params))]
    return pulled if before is None else jax.tree.map(jnp.add, before, pulled)


def _pull_back_one(of: Derivative, size: int, vectors: Float[Array, "n k"]) -> Float[Array, "n_in cmk"]:
    if of.inputs is None:
        return of.signals.reshape(len(vectors), -1).T @ vectors
    signals = jnp.moveaxis(of.signals, 1, 2)
    weighted = signals[..., None] * vectors[:, None, None, None]
    weighted = weighted.reshape(signals.shape[0] * signals.shape[1], -1)
    if of.inputs.ndim == 2:
        rows = jnp.zeros((size // signals.shape[-1], weighted.shape[1]), weighted.dtype)
        return rows.at[of.inputs.reshape(-1)].add(weighted)
    return of.inputs.reshape(len(weighted), -1).T @ weighted


@jax.jit
@exact_products
def _push_forward(derivatives: list[Derivative], pulled: list[Array]) -> Float[Array, "n k"]:
    """J w, summed over outputs, of what was pulled back."""
    return sum(_push_forward_one(of, one) for of, one in zip(derivatives, pulled))


def _push_forward_one(of: Derivative, pulled: Array) -> Float[Array, "n k"]:
    if of.inputs is None:
        return of.signals.reshape(len(of.signals), -1) @ pulled
    signals = jnp.moveaxis(of.signals, 1, 2)
    rows = of.inputs.reshape(signals.shape[0] * signals.shape[1], -1)
    images = pulled[rows[:, 0]] if of.inputs.ndim == 2 else rows @ pulled
    images = images.reshape(*signals.shape, -1) * signals[..., None]
    return images.reshape(len(signals), -1, images.shape[-1]).sum(axis=1)
