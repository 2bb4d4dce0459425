"""The empirical neural tangent kernel of any function of parameters and points, in tiles that fit the memory."""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from collective_variables import checks, memory, neural_tangents, structured
from collective_variables.structured import OUTPUTS, ApplyFunction, Derivative
from collective_variables.tiles import (
    Tiles,
    check_network,
    check_shapes,
    checked,
    compiled_derivatives,
    exact_products,
    hashable,
    n_bytes,
    n_points,
)

IMPLEMENTATIONS = ("auto", "structured", "jacobian", "neural-tangents")
TILE = 2048  # points on the side of a tile of the kernel; larger tiles are no faster


def empirical_ntk(
    apply_fn: ApplyFunction,
    params: PyTree[Float[Array, "..."]],
    x1: PyTree[Array],
    x2: PyTree[Array] | None = None,
    *,
    outputs: str = "mean",
    implementation: str = "auto",
    block_size: int | None = None,
) -> Float[Array, "..."]:
    """K(x1, x2) of apply_fn(params, x) -> (n_points, n_outputs), which treats every point by itself.

    With J_c the gradient of output c with respect to all parameters (Tovey et al. 2023, eq. 1) and C outputs:
    "mean": (1/C) Σ_c ⟨J_c(x_i), J_c(x_j)⟩, shape (n1, n2), the kernel of that paper; "sum": Σ_c in its place;
    "per-output": (C, n1, n2), a kernel for each output; "full": (n1·C, n2·C), row i·C + c for output c of point i.

    x1 and x2 are arrays, or trees of arrays, with points along their first axes; x2 defaults to x1, and the kernel is
    then computed once and exactly symmetric. Computed in the dtype of params and points.

    implementation: "structured" contracts layer by layer (see `structured`), "jacobian" forms the Jacobian of every
    parameter, "neural-tangents" is the Jacobian contraction of that package, all in one block; "auto" is "structured".
    block_size: points whose derivatives are held at a time; None plans it from the free memory. A call inside `jax.jit`
    or `jax.vmap` is one block.

    Raises ValueError for an unknown option, no points, values that are not finite, points of different shapes, no
    parameters, or outputs that are not (n_points, n_outputs), and MemoryError for a kernel that can't fit.
    """
    checks.choice("outputs", outputs, OUTPUTS)
    checks.choice("implementation", implementation, IMPLEMENTATIONS)
    if block_size is not None:
        checks.integer("block_size", block_size, minimum=1)
    if implementation == "neural-tangents":
        return neural_tangents.empirical(apply_fn, params, x1, x2, outputs=outputs)
    x1 = checked("x1", x1)
    x2 = None if x2 is None else checked("x2", x2)
    check_shapes(x1, x2)
    functions = _functions(hashable(apply_fn), outputs, implementation != "jacobian")
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, x1, x2))):
        check_network(apply_fn, params, x1)
        return functions.kernel(params, x1, x2)
    sizes = n_points(x1), n_points(x1 if x2 is None else x2)
    plan = _plan(functions, params, x1, sizes, block_size)
    if max(sizes) <= plan.tile:
        return functions.kernel(params, x1, x2)
    return _tiled(functions, params, x1, x2, plan)


class _Functions(NamedTuple):
    """The compiled parts of one kind of kernel, each of which keeps what it compiled for the next call of like shapes.

    kernel(params, x1, x2) is the whole, derivatives(params, x) and contract(first, second) its halves. Without x2 or
    `second` a kernel is square and made symmetric.
    """

    apply_fn: ApplyFunction
    kernel: Callable[..., Array]
    derivatives: Callable[[PyTree[Array], PyTree[Array]], list[Derivative]]
    contract: Callable[[list[Derivative], list[Derivative] | None], Array]


@lru_cache(maxsize=64)
def _functions(apply_fn: ApplyFunction, outputs: str, is_structured: bool) -> _Functions:
    derivatives = compiled_derivatives(apply_fn, is_structured)

    @exact_products
    def contract(first: list[Derivative], second: list[Derivative] | None) -> Array:
        kernel = sum(structured.contract(a, b, outputs) for a, b in zip(first, second or first))
        if outputs == "mean":
            kernel = kernel * (1.0 / first[0].signals.shape[1])
        if outputs == "full":
            kernel = kernel.reshape(kernel.shape[0] * kernel.shape[1], -1)
        if second is None:
            # A product of a matrix with its own transpose may be rounded differently on the two sides of the diagonal.
            kernel = (kernel + jnp.swapaxes(kernel, -1, -2)) / 2
        return kernel.astype(first[0].signals.dtype)

    def kernel(params: PyTree[Array], x1: PyTree[Array], x2: PyTree[Array] | None) -> Array:
        return contract(derivatives(params, x1), None if x2 is None else derivatives(params, x2))

    return _Functions(apply_fn, jax.jit(kernel), derivatives, jax.jit(contract))


class Estimate(NamedTuple):
    """What a kernel takes before it is computed: floating-point operations, and bytes at the peak."""

    flops: float
    peak_bytes: int


def estimate(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x1: PyTree[Array],
    x2: PyTree[Array] | None = None,
    *,
    outputs: str = "mean",
    block_size: int | None = None,
) -> dict[str, Estimate]:
    """Operations and memory of `empirical_ntk` with each implementation; nothing is computed but their programs.

    Counted by XLA for one point and one pair of tiles and multiplied; the memory is that of the kernel, of the
    derivatives held, and of one tile's intermediate arrays. Raises as `empirical_ntk` does.
    """
    checks.choice("outputs", outputs, OUTPUTS)
    x1 = checked("x1", x1)
    x2 = None if x2 is None else checked("x2", x2)
    check_shapes(x1, x2)
    sizes = n_points(x1), n_points(x1 if x2 is None else x2)
    found = {}
    for name in ("structured", "jacobian"):
        functions = _functions(hashable(apply_fn), outputs, name == "structured")
        plan = _plan(functions, params, x1, sizes, block_size)
        found[name] = _estimate(functions, params, x1, x2 is None, sizes, plan)
    return found


class _Plan(NamedTuple):
    """How a kernel is cut: points on the side of a tile, and whether the derivatives of all points are kept."""

    tile: int
    keep: bool
    peak_bytes: int


@lru_cache(maxsize=256)
def _sizes(functions: _Functions, tree: PyTree, shapes: tuple[jax.ShapeDtypeStruct]) -> tuple[int, int]:
    """Bytes of the derivatives of a point and of the kernel of two."""
    params, x = jax.tree.unflatten(tree, shapes)
    check_network(functions.apply_fn, params, x)
    one = jax.eval_shape(functions.derivatives, params, jax.tree.map(lambda leaf: leaf.update(shape=(1, *leaf.shape[1:])), x))
    return n_bytes(one), n_bytes(jax.eval_shape(functions.contract, one, one))


def _plan(
    functions: _Functions, params: PyTree[Array], x: PyTree[Array], sizes: tuple[int, int], block_size: int | None
) -> _Plan:
    """Cut the kernel of `sizes` points so that it fits the free memory; raises MemoryError if none does."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (params, x))
    leaves, tree = jax.tree.flatten(shapes)
    per_point, per_pair = _sizes(functions, tree, tuple(leaves))
    free, kernel_bytes = memory.available(), sizes[0] * sizes[1] * per_pair
    tile = min(TILE if block_size is None else block_size, max(sizes))

    def peak(tile: int, n_held: int) -> int:
        # A tile of the kernel and its intermediate results; the kernel is copied once at the end.
        return kernel_bytes * (1 if max(sizes) <= tile else 2) + n_held * per_point + 4 * tile**2 * per_pair

    while block_size is None and tile > 1 and peak(tile, 2 * tile) > free:
        tile = (tile + 1) // 2
    keep = peak(tile, sum(sizes)) <= free // 2
    needed = peak(tile, sum(sizes) if keep else 2 * tile)
    if needed > free:
        raise MemoryError(
            f"A kernel of {sizes[0]} x {sizes[1]} points needs {needed / memory.GIB:.1f} GiB at least, and "
            f"{free / memory.GIB:.1f} GiB are free."
        )
    return _Plan(tile, keep, needed)


def _estimate(
    functions: _Functions, params: PyTree[Array], x: PyTree[Array], is_square: bool, sizes: tuple[int, int], plan: _Plan
) -> Estimate:
    def flops(function: Callable[..., object], *arguments: object) -> float:
        return function.lower(*arguments).cost_analysis()["flops"]

    some = jax.tree.map(lambda leaf: leaf[:1], x)
    one = jax.eval_shape(functions.derivatives, params, some)
    n_tiles = [-(-size // plan.tile) for size in sizes]
    n_pairs = n_tiles[0] * (n_tiles[0] + 1) // 2 if is_square else n_tiles[0] * n_tiles[1]
    n_derivatives = sizes[0] if is_square else sum(sizes)
    if not plan.keep:
        n_derivatives = (n_tiles[0] + n_pairs) * plan.tile
    per_pair = flops(functions.contract, one, one)
    total = n_derivatives * flops(functions.derivatives, params, some) + n_pairs * plan.tile**2 * per_pair
    return Estimate(total, plan.peak_bytes)


def _tiled(
    functions: _Functions, params: PyTree[Array], x1: PyTree[Array], x2: PyTree[Array] | None, plan: _Plan
) -> Array:
    """The kernel tile by tile; of a symmetric one the tiles on and above the diagonal, in this order."""
    first = Tiles(functions.derivatives, params, x1, plan.tile, plan.keep)
    second = first if x2 is None else Tiles(functions.derivatives, params, x2, plan.tile, plan.keep)
    kernel = None
    for i, row in enumerate(first.starts):
        of_row = first.derivatives(i)
        for j, column in enumerate(second.starts):
            if x2 is None and j < i:
                continue
            part = np.asarray(functions.contract(of_row, None if x2 is None and i == j else second.derivatives(j)))
            # More than one for each point where the kernel is over all outputs.
            height, width = part.shape[-2] // first.size, part.shape[-1] // second.size
            if kernel is None:
                sizes = n_points(x1) * height, n_points(x1 if x2 is None else x2) * width
                kernel = np.empty((*part.shape[:-2], *sizes), part.dtype)
            rows = slice(row * height, row * height + part.shape[-2])
            columns = slice(column * width, column * width + part.shape[-1])
            kernel[..., rows, columns] = part
            if x2 is None:
                kernel[..., columns, rows] = np.swapaxes(part, -1, -2)
    return jnp.asarray(kernel)
