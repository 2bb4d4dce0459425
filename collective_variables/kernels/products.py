"""Products of the neural tangent kernel with vectors, for numbers of points whose kernel fits no
memory.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from collective_variables import _checks
from collective_variables.kernels import _derivatives, _planning
from collective_variables.kernels._derivatives import Derivative
from collective_variables.kernels._tiles import Tiles, compiled_derivatives, exact_products
from collective_variables.networks._arguments import (
    ApplyFunction,
    check_network,
    checked_points,
    hashable,
    n_points,
)

_diagonal = jax.jit(exact_products(_derivatives.diagonal))


class KernelProduct(NamedTuple):
    """A kernel K by what it does: product(v) = K v for v of shape (n_points, n_vectors), and its
    diagonal.
    """

    product: Callable[[Float[Array, "n_points n_vectors"]], Float[Array, "n_points n_vectors"]]
    diagonal: Float[np.ndarray, " n_points"]


def kernel_product(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    *,
    outputs: str = "mean",
    block_size: int | None = None,
) -> KernelProduct:
    """The kernel of `empirical.empirical_ntk` for outputs "mean" or "sum", by its products with
    vectors.

    Either K v = J (Jᵀ v): the vectors of all points are pulled back to the parameters, and from
    there pushed forward again; or the kernel of every pair of blocks is made, used and forgotten.
    What takes fewer operations is done: the second for many vectors and few points. The derivatives
    J, layer by layer as for the kernel, are kept if all fits half of the free memory, and computed
    again for every product otherwise. block_size points go through at once; None plans it from the
    free memory, and a few outputs at a time are taken as for the kernel. The product is a loop over
    blocks, not for `jax.jit`.

    Raises ValueError for another kind of outputs, no points, values that are not finite, no
    parameters, or outputs of the network that are not (n_points, n_outputs), and MemoryError if
    even one point at a time does not fit.
    """
    _checks.choice("outputs", outputs, ("mean", "sum"))
    if block_size is not None:
        _checks.integer("block_size", block_size, minimum=1)
    x, apply_fn = checked_points("x", x), hashable(apply_fn)
    check_network(apply_fn, params, x)
    result = jax.eval_shape(apply_fn, params, x)
    one = _planning.point_derivatives(apply_fn, params, x)
    plan = _planning.plan_product(
        _planning.kernel_sizes(apply_fn, params, x, outputs), one, params, n_points(x), block_size
    )
    derivatives = compiled_derivatives(apply_fn)
    groups = _planning.output_groups(result, plan.outputs_at_once)

    def tiles_of(group: Array) -> Tiles:
        return Tiles(lambda x: derivatives(params, x, group), x, plan.tile, plan.keep)

    kept = [tiles_of(group) for group in groups] if plan.keep else None

    def of_groups() -> Iterable[Tiles]:
        """Tiles for each group of outputs, whose kernels add up; of one group at a time where they
        are not kept.
        """
        return kept or map(tiles_of, groups)

    first = tiles_of(groups[0])
    starts, size = first.starts, first.size
    scale = 1.0 / result.shape[1] if outputs == "mean" else 1.0
    # The last tile repeats points of the one before it.
    repeated = len(starts) * size - n_points(x)
    new = [slice(repeated if start == starts[-1] else 0, None) for start in starts]

    def product(vectors: Float[Array, "n_points n_vectors"]) -> Float[Array, "n_points n_vectors"]:
        vectors = jnp.asarray(vectors)
        of_tiles = [vectors[start : start + size] for start in starts]
        of_tiles[-1] = of_tiles[-1].at[:repeated].set(0.0)
        by_pairs = _pairs_are_cheaper(one, result.shape[1], *vectors.shape, size)
        sums = [0.0] * len(starts)
        for tiles in of_groups():
            parts = (
                _by_pairs(tiles, of_tiles)
                if by_pairs
                else _by_parameters(tiles, of_tiles, params, plan.vectors_at_once)
            )
            sums = [before + part for before, part in zip(sums, parts)]
        return scale * jnp.concatenate([part[rows] for part, rows in zip(sums, new)])

    diagonal = [0.0] * len(starts)
    for tiles in of_groups():
        diagonal = [
            before + np.asarray(_diagonal(tiles.of(place))) for place, before in enumerate(diagonal)
        ]
    return KernelProduct(
        product, scale * np.concatenate([part[rows] for part, rows in zip(diagonal, new)])
    )


def _pairs_are_cheaper(
    one: list[Derivative], n_outputs: int, n_points: int, n_vectors: int, tile: int
) -> bool:
    """Whether the kernel of all pairs of points takes fewer operations than the way over the
    parameters.
    """
    pairs = parameters = 0.0
    for of in one:
        pairs += (n_points / tile) ** 2 / 2 * _derivatives.flops(of, tile, tile, n_outputs, "sum")
        if size := _derivatives.jacobian_size(of):
            # Made on the way to the parameters and again on the way back.
            parameters += 4 * n_points * n_outputs * size * (of.inputs.shape[1] + n_vectors)
        else:
            n_in = of.inputs.shape[2] if of.inputs is not None and of.inputs.ndim == 3 else 1
            parameters += 4 * n_points * n_outputs * of.signals.size * n_in * n_vectors
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
    first: list[Derivative],
    second: list[Derivative],
    of_first: Float[Array, "n k"],
    of_second: Float[Array, "n k"],
) -> tuple[Float[Array, "n k"], Float[Array, "n k"]]:
    """K v of the second tile's vectors for the first one's points, and the other way round."""
    kernel = sum(_derivatives.contract(a, b, "sum") for a, b in zip(first, second))
    return kernel @ of_second, kernel.T @ of_first


def _by_parameters(
    tiles: Tiles, vectors: list[Float[Array, "n k"]], params: PyTree[Array], at_once: int
) -> list[Float[Array, "n k"]]:
    """K v = J (Jᵀ v), `at_once` vectors at a time."""
    parts = []
    for start in range(0, vectors[0].shape[1], at_once):
        pulled = None
        for place, of_tile in enumerate(vectors):
            pulled = _pull_back(
                tiles.of(place), params, of_tile[:, start : start + at_once], pulled
            )
        # Backwards, because the last tile is at hand if only one is kept.
        parts.append(
            [_push_forward(tiles.of(place), pulled) for place in reversed(range(len(vectors)))][
                ::-1
            ]
        )
    return [jnp.concatenate(of_tile, axis=1) for of_tile in zip(*parts)]


@jax.jit
@exact_products
def _pull_back(
    derivatives: list[Derivative],
    params: PyTree[Array],
    vectors: Float[Array, "n k"],
    before: list[Array] | None,
) -> list[Array]:
    """Jᵀ v, for each parameter and every output, added to that of the tiles before."""
    pulled = [
        _pull_back_one(_with_jacobian(of), leaf.size, vectors)
        for of, leaf in zip(derivatives, jax.tree.leaves(params))
    ]
    return pulled if before is None else jax.tree.map(jnp.add, before, pulled)


def _with_jacobian(of: Derivative) -> Derivative:
    """A sum over positions is done once, rather than for each vector."""
    return (
        of if _derivatives.jacobian_size(of) == 0 else Derivative(None, _derivatives.jacobians(of))
    )


def _pull_back_one(of: Derivative, size: int, vectors: Float[Array, "n k"]) -> Array:
    """(c·size, k), (n_rows, c·n_out·k) of a table, or (c·n_out·k, n_in), which is the quickest
    product.
    """
    if of.inputs is None:
        return of.signals.reshape(len(vectors), -1).T @ vectors
    signals = jnp.moveaxis(of.signals, 1, 2)
    weighted = signals[..., None] * vectors[:, None, None, None]
    weighted = weighted.reshape(signals.shape[0] * signals.shape[1], -1)
    if of.inputs.ndim == 2:
        rows = jnp.zeros((size // signals.shape[-1], weighted.shape[1]), weighted.dtype)
        return rows.at[of.inputs.reshape(-1)].add(weighted)
    return weighted.T @ of.inputs.reshape(len(weighted), -1)


@jax.jit
@exact_products
def _push_forward(derivatives: list[Derivative], pulled: list[Array]) -> Float[Array, "n k"]:
    """J w, summed over outputs, of what was pulled back."""
    return sum(_push_forward_one(_with_jacobian(of), one) for of, one in zip(derivatives, pulled))


def _push_forward_one(of: Derivative, pulled: Array) -> Float[Array, "n k"]:
    if of.inputs is None:
        return of.signals.reshape(len(of.signals), -1) @ pulled
    signals = jnp.moveaxis(of.signals, 1, 2)
    rows = of.inputs.reshape(signals.shape[0] * signals.shape[1], -1)
    images = pulled[rows[:, 0]] if of.inputs.ndim == 2 else rows @ pulled.T
    images = images.reshape(*signals.shape, -1) * signals[..., None]
    return images.reshape(len(signals), -1, images.shape[-1]).sum(axis=1)
