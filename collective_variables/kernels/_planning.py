"""Plan how kernels and products are divided to fit the memory.

Memory is counted from the shapes of derivatives, in `plan_kernel` for a kernel and in
`plan_product` for products with vectors. Nothing is computed.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from collective_variables import _memory
from collective_variables.kernels._derivatives import backpropagation, blocks, contraction, form
from collective_variables.kernels._derivatives.form import Derivative
from collective_variables.kernels._tiles import compiled_derivatives
from collective_variables.kernels._traced import StandIn
from collective_variables.networks import variables
from collective_variables.networks._arguments import n_bytes

TILE = 2048  # points on the side of a tile of the kernel; larger tiles are no faster
PRODUCT_TILE = 1024  # most points that are multiplied by all vectors at once
VECTORS = 32  # most vectors that go over the parameters together


class Plan(NamedTuple):
    """How points, outputs and vectors are divided.

    Attributes:
        tile: Number of points on the side of a tile.
        outputs_at_once: Number of outputs that go through the network together.
        keep: Whether the derivatives of all points are kept for all tiles or products.
        peak_bytes: Memory at the peak.
        vectors_at_once: Number of vectors of a product that are multiplied together.
    """

    tile: int
    outputs_at_once: int
    keep: bool
    peak_bytes: int
    vectors_at_once: int | None = None


class Sizes(NamedTuple):
    """The memory of one kind of kernel, in bytes.

    Attributes:
        inputs: Inputs of the derivatives of a point, shared by its outputs.
        signals: Signals of the derivatives of a point and output.
        jacobian: The largest Jacobian formed meanwhile, per point and output.
        pair: The kernel entries of two points.
        in_network: The largest array on the way from a point to an output.
        n_outputs: Number of outputs of the network.
        is_separable: Whether outputs can be processed a few at a time.
        fewest_at_once: The smallest group of outputs; smaller ones would repeat too much shared
            work.
    """

    inputs: int
    signals: int
    jacobian: int
    pair: int
    in_network: int
    n_outputs: int
    is_separable: bool
    fewest_at_once: int

    def outputs_at_once(self, n_points: int) -> int:
        """Return how many outputs go through the network together, in groups of equal size.

        Larger groups would need more memory and save little time.
        """
        if not self.is_separable:
            return self.n_outputs
        most = 2**27 if jax.default_backend() == "cpu" else 2**31
        n_groups = -(
            -self.n_outputs // max(self.fewest_at_once, most // max(1, n_points * self.signals))
        )
        return -(-self.n_outputs // n_groups)

    def held(self, at_once: int) -> int:
        """Return the bytes of the derivatives of a point."""
        return self.inputs + at_once * self.signals

    def peak(self, n_points: tuple[int, int], tile: int, n_held: int, at_once: int) -> int:
        """Return the bytes at the peak of a kernel, with the derivatives of `n_held` points."""
        n_copies = 1 if max(n_points) <= tile else 2  # one of several tiles is copied at the end
        jacobians = min(n_held, 2 * tile) * at_once * self.jacobian
        network = blocks.bytes_in_network(self.in_network, min(tile, n_held), at_once)
        # A tile and its intermediate results.
        one_tile = 3 * min(tile, n_points[0]) * min(tile, n_points[1]) * self.pair
        return (
            n_held * self.held(at_once)
            + max(jacobians, network)
            + one_tile
            + n_copies * n_points[0] * n_points[1] * self.pair
        )


def point_derivatives(
    apply_fn: StandIn, params: PyTree[Array], x: PyTree[Array], *, is_structured: bool = True
) -> list[Derivative]:
    """Return the shapes of the derivatives of one point and one output."""
    point = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype), x)
    result = jax.eval_shape(apply_fn, params, point)
    cotangents = jax.ShapeDtypeStruct(result.shape, result.dtype)
    return jax.eval_shape(compiled_derivatives(apply_fn, is_structured), params, point, cotangents)


def kernel_sizes(
    apply_fn: StandIn,
    params: PyTree[Array],
    x: PyTree[Array],
    outputs: str,
    *,
    is_structured: bool = True,
) -> Sizes:
    """Return the sizes of a kernel, from the shapes of its arguments."""
    derivatives = point_derivatives(apply_fn, params, x, is_structured=is_structured)
    result = jax.eval_shape(apply_fn, params, x)
    n_outputs, number = result.shape[1], result.dtype.itemsize
    return Sizes(
        inputs=n_bytes([derivative.inputs for derivative in derivatives]),
        signals=n_bytes([derivative.signals for derivative in derivatives]),
        jacobian=number * max(map(form.jacobian_size, derivatives)),
        pair=number * {"per-output": n_outputs, "full": n_outputs**2}.get(outputs, 1),
        in_network=backpropagation.largest_signal(apply_fn, params, x),
        n_outputs=n_outputs,
        is_separable=outputs != "full",
        fewest_at_once=contraction.fewest_outputs(derivatives),
    )


def output_groups(
    result: jax.ShapeDtypeStruct, at_once: int
) -> Float[Array, "n_groups at_once n_outputs"]:
    """Return rows of the identity, one for each output of the network, in groups.

    The last group is padded with zeros, which contribute nothing.
    """
    n_groups = -(-result.shape[1] // at_once)
    return jnp.eye(n_groups * at_once, result.shape[1], dtype=result.dtype).reshape(
        n_groups, at_once, -1
    )


def plan_kernel(
    sizes: Sizes, n1: int, n2: int | None, block_size: int | None, *, may_keep: bool, must_fit: bool
) -> Plan:
    """Plan a kernel of n1 times n2 points, or of n1 points with themselves.

    Also raises the MemoryError of `_check_fit` if `must_fit`.

    Args:
        sizes: Memory of this kind of kernel.
        n1: Number of points of the rows.
        n2: Number of points of the columns; None for those of the rows.
        block_size: Number of points on the side of a tile; None plans it.
        may_keep: Whether the derivatives of all points may be kept.
        must_fit: Whether the kernel must fit the free memory.

    Returns:
        The plan.
    """
    n_points, n_all = (n1, n2 or n1), n1 + (n2 or 0)
    tile = min(TILE if block_size is None else block_size, max(n_points))

    def held(tile: int) -> int:
        return n_all if max(n_points) <= tile else 2 * tile

    def peak(tile: int, n_held: int) -> int:
        return sizes.peak(n_points, tile, n_held, sizes.outputs_at_once(tile))

    free = _memory.SMALL if peak(tile, n_all) <= _memory.SMALL // 2 else _memory.available()
    if block_size is None:
        tile = _largest_tile(tile, lambda tile: peak(tile, held(tile)), free)
    keep = may_keep and peak(tile, n_all) <= free // 2
    needed = peak(tile, n_all if keep else held(tile))
    if must_fit:
        _check_fit(f"A kernel of {n1} x {n_points[1]} points", needed, free)
    return Plan(tile, sizes.outputs_at_once(tile), keep, needed)


def plan_product(
    sizes: Sizes,
    derivatives: list[Derivative],
    params: PyTree[Array],
    n: int,
    block_size: int | None,
) -> Plan:
    """Plan products of the kernel of n points with vectors.

    A quarter of the free memory determines how many vectors go over the parameters together, and
    another quarter how many points. Also raises the MemoryError of `_check_fit`.

    Args:
        sizes: Memory of the kernel.
        derivatives: Shapes for one point and one output.
        params: The parameters.
        n: Number of points.
        block_size: Number of points at once; None plans it.

    Returns:
        The plan.
    """
    free = max(_memory.SMALL, _memory.available())
    number = derivatives[0].signals.dtype.itemsize
    tile = min(PRODUCT_TILE if block_size is None else block_size, n)
    at_once = sizes.outputs_at_once(tile)
    # The pulled-back vector, and the sum to which it is added.
    one_vector = 2 * at_once * sum(leaf.size for leaf in variables.parameters(params)) * number
    n_vectors = int(min(VECTORS, max(1, free // 4 // one_vector)))
    largest = number * max(
        max(form.jacobian_size(derivative), _weighted_size(derivative) * n_vectors)
        for derivative in derivatives
    )

    def needed(tile: int) -> int:
        network = blocks.bytes_in_network(sizes.in_network, tile, at_once)
        return tile * (sizes.held(at_once) + at_once * largest) + network

    if block_size is None:
        tile = _largest_tile(tile, needed, free // 4)
    total = one_vector * n_vectors + needed(tile)
    _check_fit("A product of the kernel", total, free)
    # Every group of outputs has separate inputs.
    kept = n * -(-sizes.n_outputs // at_once) * sizes.held(at_once)
    keep = total + kept <= free // 2
    return Plan(tile, at_once, keep, total + kept if keep else total, n_vectors)


def _largest_tile(tile: int, needed: Callable[[int], int], free: int) -> int:
    """Halve a tile until it fits the free memory or is a single point, and return it."""
    while tile > 1 and needed(tile) > free:
        tile = (tile + 1) // 2
    return tile


def _check_fit(what: str, needed: int, free: int) -> None:
    """Raise MemoryError if `what` needs more bytes than are free."""
    if needed > free:
        raise MemoryError(
            f"{what} needs {needed / _memory.GIB:.1f} GiB at least, "
            f"and {free / _memory.GIB:.1f} GiB are free."
        )


def _weighted_size(derivative: Derivative) -> int:
    """Return the size of the signals per point, output and vector, or 0 if a Jacobian is used."""
    if derivative.inputs is None or form.jacobian_size(derivative):
        return 0
    return derivative.signals.size
