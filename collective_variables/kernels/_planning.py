"""How a kernel is cut into tiles of points and groups of outputs, so that it fits the memory, and
what it takes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from collective_variables import _memory
from collective_variables.kernels import _derivatives
from collective_variables.kernels._derivatives import Derivative
from collective_variables.kernels._tiles import compiled_derivatives
from collective_variables.networks._arguments import ApplyFunction, n_bytes

TILE = 2048  # points on the side of a tile of the kernel; larger tiles are no faster


class Sizes(NamedTuple):
    """Bytes that one kind of kernel takes.

    inputs, signals: what is held of the derivatives of a point, whatever the number of its outputs
    and for each of them.
    jacobian: of a point and output, of the largest parameter whose Jacobian is made on the way.
    pair: of the kernel of
    two points. in_network: of the largest array on the way from a point to an output. n_outputs: of
    the network.
    is_separable: whether outputs may be taken a few at a time, and fewest_at_once: how many at
    least, because what they share would be computed too often.
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
        """How many outputs go through the network together, in equal groups: more take memory and
        save little time.
        """
        if not self.is_separable:
            return self.n_outputs
        most = 2**27 if jax.default_backend() == "cpu" else 2**31
        n_groups = -(
            -self.n_outputs // max(self.fewest_at_once, most // max(1, n_points * self.signals))
        )
        return -(-self.n_outputs // n_groups)

    def peak(self, n_points: tuple[int, int], tile: int, n_held: int, at_once: int) -> int:
        """Bytes at the peak if the derivatives of `n_held` points are held."""
        is_one = max(n_points) <= tile
        held = n_held * (self.inputs + at_once * self.signals)
        made = min(n_held, 2 * tile) * at_once * self.jacobian
        # A tile and its intermediate results; a kernel of several tiles is copied once at the end.
        of_tile = 3 * min(tile, n_points[0]) * min(tile, n_points[1]) * self.pair
        network = _derivatives.bytes_in_network(self.in_network, min(tile, n_held), at_once)
        return (
            held
            + max(made, network)
            + of_tile
            + (1 if is_one else 2) * n_points[0] * n_points[1] * self.pair
        )


def point_derivatives(
    apply_fn: ApplyFunction, params: PyTree[Array], x: PyTree[Array], *, is_structured: bool = True
) -> list[Derivative]:
    """Shapes of the derivatives of a point and one output."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype), x)
    result = jax.eval_shape(apply_fn, params, one)
    cotangents = jax.ShapeDtypeStruct(result.shape, result.dtype)
    return jax.eval_shape(compiled_derivatives(apply_fn, is_structured), params, one, cotangents)


def kernel_sizes(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    outputs: str,
    *,
    is_structured: bool = True,
) -> Sizes:
    """The sizes of a kernel, from the shapes of its arguments."""
    one, result = (
        point_derivatives(apply_fn, params, x, is_structured=is_structured),
        jax.eval_shape(apply_fn, params, x),
    )
    n_outputs, number = result.shape[1], result.dtype.itemsize
    return Sizes(
        inputs=n_bytes([of.inputs for of in one]),
        signals=n_bytes([of.signals for of in one]),
        jacobian=number * max(_derivatives.jacobian_size(of) for of in one),
        pair=number * {"per-output": n_outputs, "full": n_outputs**2}.get(outputs, 1),
        in_network=_derivatives.largest_signal(apply_fn, params, x),
        n_outputs=n_outputs,
        is_separable=outputs != "full",
        fewest_at_once=_derivatives.fewest_outputs(one),
    )


def output_groups(
    result: jax.ShapeDtypeStruct, at_once: int
) -> Float[Array, "n_groups at_once n_outputs"]:
    """Rows of the identity, the outputs of the network, in groups; the last is filled up with
    zeros, which add nothing.
    """
    n_groups = -(-result.shape[1] // at_once)
    return jnp.eye(n_groups * at_once, result.shape[1], dtype=result.dtype).reshape(
        n_groups, at_once, -1
    )


class Plan(NamedTuple):
    """Points on the side of a tile, outputs at once, and whether the derivatives of all points are
    kept.
    """

    tile: int
    outputs_at_once: int
    keep: bool
    peak_bytes: int


def plan(
    sizes: Sizes, n1: int, n2: int | None, block_size: int | None, *, may_keep: bool, must_fit: bool
) -> Plan:
    """Cut the kernel of n1 and n2 points, or of n1 points among themselves, so that it fits the
    free memory.

    may_keep: whether what is held of a point may be kept for all. Raises MemoryError if it must fit
    and can't.
    """
    n_points, n_all = (n1, n2 or n1), n1 + (n2 or 0)
    tile = min(TILE if block_size is None else block_size, max(n_points))

    def held(tile: int) -> int:
        return n_all if max(n_points) <= tile else 2 * tile

    def peak(tile: int, n_held: int) -> int:
        return sizes.peak(n_points, tile, n_held, sizes.outputs_at_once(tile))

    free = _memory.SMALL if peak(tile, n_all) <= _memory.SMALL // 2 else _memory.available()
    while block_size is None and tile > 1 and peak(tile, held(tile)) > free:
        tile = (tile + 1) // 2
    keep = may_keep and peak(tile, n_all) <= free // 2
    needed = peak(tile, n_all if keep else held(tile))
    if needed > free and must_fit:
        raise MemoryError(
            f"A kernel of {n1} x {n_points[1]} points needs {needed / _memory.GIB:.1f} GiB at least, and "
            f"{free / _memory.GIB:.1f} GiB are free."
        )
    return Plan(tile, sizes.outputs_at_once(tile), keep, needed)


PRODUCT_TILE = 1024  # points that are multiplied by all vectors at once, at most
VECTORS = 32  # that go over the parameters together, at most


class ProductPlan(NamedTuple):
    tile: int
    outputs_at_once: int
    vectors_at_once: int
    keep: bool


def plan_product(
    sizes: Sizes, one: list[Derivative], params: PyTree[Array], n: int, block_size: int | None
) -> ProductPlan:
    """Vectors over the parameters in a quarter of the free memory, then as many points at once as
    another quarter holds.
    """
    free, number = max(_memory.SMALL, _memory.available()), one[0].signals.dtype.itemsize
    tile = min(PRODUCT_TILE if block_size is None else block_size, n)
    at_once = sizes.outputs_at_once(tile)
    # What is pulled back, beside the sum that it is added to.
    of_vector = 2 * at_once * sum(leaf.size for leaf in jax.tree.leaves(params)) * number
    n_vectors = int(min(VECTORS, max(1, free // 4 // of_vector)))

    def needed(tile: int) -> int:
        made = (
            max(max(_derivatives.jacobian_size(of), _weighted_size(of) * n_vectors) for of in one)
            * number
        )
        network = _derivatives.bytes_in_network(sizes.in_network, tile, at_once)
        return tile * (sizes.inputs + at_once * (sizes.signals + made)) + network

    while block_size is None and tile > 1 and needed(tile) > free // 4:
        tile = (tile + 1) // 2
    if (total := of_vector * n_vectors + needed(tile)) > free:
        raise MemoryError(
            f"A product of the kernel needs {total / _memory.GIB:.1f} GiB at least, "
            f"and {free / _memory.GIB:.1f} GiB are free."
        )
    # Every group of outputs has inputs of its own.
    n_groups = -(-sizes.n_outputs // at_once)
    keep = total + n * n_groups * (sizes.inputs + at_once * sizes.signals) <= free // 2
    return ProductPlan(tile, at_once, n_vectors, keep)


def _weighted_size(of: Derivative) -> int:
    """Numbers that the signals of a point and output are for each vector, where there is no
    Jacobian.
    """
    return 0 if of.inputs is None or _derivatives.jacobian_size(of) else of.signals.size
