"""Features whose products estimate the empirical neural tangent kernel, in tiles of points."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks, _keys, _memory
from collective_variables.kernels import _calls, _planning
from collective_variables.kernels._derivatives import backpropagation, blocks
from collective_variables.kernels._derivatives.form import Derivative
from collective_variables.kernels._tiles import Tiles, exact_products
from collective_variables.kernels._traced import SHARED, StandIn, StandIns
from collective_variables.kernels.features import _projections
from collective_variables.networks._arguments import (
    ApplyFunction,
    check_network,
    checked_points,
    n_points,
)

TILE = 2048  # most points at once; the signs of a tile of this size take little of its time
TILE_BYTES = 2**28  # memory of a tile that is planned


class Sizes(NamedTuple):
    """The outputs of the network, and the memory that their features take.

    Attributes:
        kernel: Sizes of the derivatives.
        projections: Bytes per point of the largest projection and of the features.
        result: Shape and dtype of the outputs.
    """

    kernel: _planning.Sizes
    projections: int
    result: jax.ShapeDtypeStruct


class Plan(NamedTuple):
    """How points and outputs are divided.

    Attributes:
        tile: Number of points at once.
        outputs_at_once: Number of outputs that go through the network together.
    """

    tile: int
    outputs_at_once: int


def ntk_features(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    n_features: int = 512,
    *,
    key: PRNGKeyArray,
    outputs: str = "mean",
    block_size: int | None = None,
) -> Float[np.ndarray, "n_points n_features"]:
    """Return random features whose products estimate the kernel of `empirical_ntk`.

    Row i is the gradient of point i, projected on random vectors with entries ±1/√n_features. The
    product of rows i and j is K_ij on average over keys. Its standard deviation is at most
    3 √(K_ii K_jj / n_features), and usually less than half of that. For a large layer the signs are
    products of signs of its inputs and outputs, so that no gradient is formed (Holzmüller et al.
    2023, JMLR 24(164), "sketching", there with normal numbers). Every output has separate signs.

    The signs depend on the key, on `n_features` and on the shapes of the network only. So features
    of several calls with the same key can be multiplied, and the rows do not depend on the blocks,
    up to round-off. The memory is that of the features and of one block of points. Programs are
    kept as by `empirical_ntk`.

    Raises ValueError in the same cases as `empirical_ntk`, and ValueError or TypeError for a number
    that is no positive integer and a key that is no JAX key. Raises MemoryError if the features or
    the derivatives of one point do not fit the free memory.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
        params: The parameters, an array or a tree of arrays.
        x: The points, an array or a tree of arrays with points along their first axes.
        n_features: Number of features. The error falls as 1/√n_features.
        key: A JAX key, from which all signs follow.
        outputs: "mean" or "sum", over the outputs of the network.
        block_size: Number of points processed at once. None plans it from the free memory.

    Returns:
        The features (n_points, n_features), in the dtype of the kernel. The function is a loop over
        blocks, not for `jax.jit`.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> def linear(w, x):
        ...     return x @ w
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
        >>> features = cv.ntk_features(
        ...     linear, jnp.array([[3.0], [4.0]]), x, 4096, key=jax.random.key(0)
        ... )
        >>> print((features @ features.T).round(1))
        [[1. 0. 1.]
         [0. 4. 2.]
         [1. 2. 2.]]
    """
    return compute_features(SHARED, apply_fn, params, x, n_features, key, outputs, block_size)


def compute_features(
    stand_ins: StandIns,
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    n_features: int,
    key: PRNGKeyArray,
    outputs: str,
    block_size: int | None,
) -> Float[np.ndarray, "n_points n_features"]:
    """Return `ntk_features`, computed with the programs of these stand-ins.

    Args:
        stand_ins: The stand-ins that hold the compiled programs.
        apply_fn: As in `ntk_features`.
        params: As in `ntk_features`.
        x: As in `ntk_features`.
        n_features: As in `ntk_features`.
        key: As in `ntk_features`.
        outputs: As in `ntk_features`.
        block_size: As in `ntk_features`.

    Returns:
        The features.
    """
    _checks.choice("outputs", outputs, ("mean", "sum"))
    n_features = _checks.integer("n_features", n_features, minimum=1)
    _keys.check_key(key)
    if block_size is not None:
        _checks.integer("block_size", block_size, minimum=1)
    x = checked_points("x", x)
    with stand_ins.traceable(apply_fn, params, x) as function:
        params = function.checked(params, x)
        leaves, tree = jax.tree.flatten((params, x))
        sizes = function.program(
            ("sizes of features", n_features, tree, tuple(map(jax.typeof, leaves))),
            lambda: _sizes(function, params, x, n_features),
        )
        shape, dtype = (n_points(x), n_features), sizes.result.dtype
        _memory.check("The features", shape[0] * n_features * dtype.itemsize)
        plan = _plan(sizes, shape[0], block_size)
        program = function.program(
            ("features", n_features, outputs), lambda: _build(function, n_features, outputs)
        )
        features = np.empty(shape, dtype)
        groups = _planning.output_groups(sizes.result, plan.outputs_at_once)
        _fill(features, partial(program, params), groups, x, plan, _threefry(key))
    return features


def _threefry(key: PRNGKeyArray) -> PRNGKeyArray:
    """Return a key of JAX's default kind, whose numbers are the same inside `jax.vmap`."""
    return jax.random.wrap_key_data(jax.random.bits(key, (2,), jnp.uint32), impl="threefry2x32")


def _fill(
    features: Float[np.ndarray, "n_points n_features"],
    program: Callable[..., Array],
    groups: Float[Array, "n_groups at_once n_outputs"],
    x: PyTree[Array],
    plan: Plan,
    key: PRNGKeyArray,
) -> None:
    """Compute the features for one tile of points and one group of outputs at a time."""
    tiles = Tiles(lambda points: points, x, plan.tile, keep=False)
    for place, start in enumerate(tiles.starts):
        points = tiles.tile(place)
        rows = features[start : start + tiles.size]
        for number, cotangents in enumerate(groups):
            part = np.asarray(program(points, cotangents, number * plan.outputs_at_once, key))
            # The last tile repeats points of the one before it, whose features are the same.
            rows[...] = part if number == 0 else rows + part


def _build(apply_fn: StandIn, n_features: int, outputs: str) -> Callable[..., Array]:
    """Return the compiled function of a tile that computes features of a group of outputs."""
    return jax.jit(exact_products(partial(_group_features, apply_fn, n_features, outputs)))


def _group_features(
    apply_fn: StandIn,
    n_features: int,
    outputs: str,
    params: PyTree[Array],
    x: PyTree[Array],
    cotangents: Float[Array, "c n_outputs"],
    start: Int[Array, ""],
    key: PRNGKeyArray,
) -> Float[Array, "n n_features"]:
    """Return the features of points, summed over the outputs `start`, `start` + 1, … of a group.

    Every parameter and output has independent signs, so that products of different ones are 0 on
    average.
    """
    derivatives = backpropagation.derivatives(apply_fn, params, x, cotangents)
    n_outputs, dtype = cotangents.shape[1], cotangents.dtype
    formed = [
        _projections.signs_every_entry(one, n_outputs, n_features)
        for one in _planning.point_derivatives(apply_fn, params, x)
    ]
    keys = [jax.random.fold_in(key, place) for place in range(len(derivatives))]

    def add_output(number: Int[Array, ""], total: Array) -> Array:
        for derivative, leaf_key, is_formed in zip(derivatives, keys, formed):
            signals = jax.lax.dynamic_slice_in_dim(derivative.signals, number, 1, axis=1)
            total += _projections.project_output(
                Derivative(derivative.inputs, signals),
                jax.random.fold_in(leaf_key, start + number),
                n_features,
                dtype,
                is_formed,
            )
        return total

    total = jnp.zeros((n_points(x), n_features), dtype)
    total = jax.lax.fori_loop(0, len(cotangents), add_output, total)
    return total * (_calls.output_scale(outputs, n_outputs) / n_features) ** 0.5


def _sizes(apply_fn: StandIn, params: PyTree[Array], x: PyTree[Array], n_features: int) -> Sizes:
    """Return the sizes of the features, from the shapes of the arguments; check the network."""
    check_network(apply_fn, params, x)
    kernel = _planning.kernel_sizes(apply_fn, params, x, "sum")
    largest = max(
        _projections.numbers_held(
            one, n_features, _projections.signs_every_entry(one, kernel.n_outputs, n_features)
        )
        for one in _planning.point_derivatives(apply_fn, params, x)
    )
    result = jax.eval_shape(apply_fn, params, x)
    # The sum over outputs is held twice.
    return Sizes(kernel, result.dtype.itemsize * (largest + 2 * n_features), result)


def _plan(sizes: Sizes, n: int, block_size: int | None) -> Plan:
    """Plan tiles of points whose derivatives and projections fit `TILE_BYTES` or the free memory.

    Args:
        sizes: Sizes of the features.
        n: Number of points.
        block_size: Number of points at once; None plans it.

    Returns:
        The plan.

    Raises:
        MemoryError: The points of a tile do not fit, even if there is only one.
    """

    def needed(tile: int) -> int:
        at_once = sizes.kernel.outputs_at_once(tile)
        network = blocks.bytes_in_network(sizes.kernel.in_network, tile, at_once)
        return tile * (sizes.kernel.held(at_once) + sizes.projections) + network

    free = max(_memory.SMALL, _memory.available())
    tile = min(TILE if block_size is None else block_size, n)
    while block_size is None and tile > 1 and needed(tile) > min(TILE_BYTES, free // 2):
        tile = (tile + 1) // 2
    if needed(tile) > free:
        raise MemoryError(
            f"The features of {tile} points need {needed(tile) / _memory.GIB:.1f} GiB at once, "
            f"and {free / _memory.GIB:.1f} GiB are free."
        )
    return Plan(tile, sizes.kernel.outputs_at_once(tile))
