"""The empirical neural tangent kernel of any function of parameters and points, in tiles that fit
the memory.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from collective_variables import _checks
from collective_variables.kernels import _derivatives, _planning, reference
from collective_variables.kernels._derivatives import OUTPUTS, Derivative
from collective_variables.kernels._tiles import Tiles, compiled_derivatives, exact_products
from collective_variables.networks._arguments import (
    ApplyFunction,
    check_network,
    check_shapes,
    checked_points,
    hashable,
    n_points,
)

IMPLEMENTATIONS = ("auto", "structured", "jacobian", "neural-tangents")
HALVED = 256  # points from which the lower half of a square block is computed from its diagonal on


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
    """K(x1, x2) of apply_fn(params, x) -> (n_points, n_outputs), which treats every point by
    itself.

    With J_c the gradient of output c with respect to all parameters (Tovey et al. 2023, eq. 1) and
    C outputs:
    "mean": (1/C) Σ_c ⟨J_c(x_i), J_c(x_j)⟩, shape (n1, n2), the kernel of that paper; "sum": Σ_c in
    its place;
    "per-output": (C, n1, n2), a kernel for each output; "full": (n1·C, n2·C), row i·C + c for
    output c of point i.

    x1 and x2 are arrays, or trees of arrays, with points along their first axes; x2 defaults to x1,
    and the kernel is then computed once and exactly symmetric, except inside a jit of the caller's,
    where it is so up to round-off. Computed in the dtype of params and points.

    implementation: "structured" contracts layer by layer (see `structured`), "jacobian" forms the
    Jacobian of every parameter, "neural-tangents" is the Jacobian contraction of that package;
    "auto" is "structured".
    block_size: points on a side of the tiles that are computed one after another; None plans it
    from the free memory. A call inside `jax.jit` or `jax.vmap` is one tile.

    Raises ValueError for an unknown option, no points, values that are not finite, points of
    different shapes, no parameters, or outputs that are not (n_points, n_outputs), and MemoryError
    for a kernel that can't fit.
    """
    job = _job(apply_fn, params, x1, x2, outputs, implementation, block_size)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((params, job.x1, job.x2))):
        return job.whole(job.sizes.outputs_at_once(max(job.n_points)))
    plan = job.plan(block_size)
    return job.whole(plan.outputs_at_once) if max(job.n_points) <= plan.tile else _tiled(job, plan)


def ntk_trace(
    apply_fn: ApplyFunction, params: PyTree[Array], x: PyTree[Array], *, outputs: str = "mean"
) -> Float[Array, ""]:
    """Tr K of `empirical_ntk` for outputs "mean" or "sum", without the kernel; in the dtype of
    params and points.

    The derivatives of all points are held at once. Raises ValueError as `empirical_ntk` does.
    """
    _checks.choice("outputs", outputs, ("mean", "sum"))
    x, apply_fn = checked_points("x", x), hashable(apply_fn)
    check_network(apply_fn, params, x)
    return _trace(
        apply_fn, _scale(outputs, jax.eval_shape(apply_fn, params, x).shape[1]), params, x
    )


@partial(jax.jit, static_argnums=(0, 1))
@exact_products
def _trace(
    apply_fn: ApplyFunction, scale: float, params: PyTree[Array], x: PyTree[Array]
) -> Float[Array, ""]:
    result = jax.eval_shape(apply_fn, params, x)
    at_once = _planning.kernel_sizes(apply_fn, params, x, "sum").outputs_at_once(n_points(x))

    def of_outputs(cotangents: Array) -> Float[Array, ""]:
        return jnp.sum(
            _derivatives.diagonal(_derivatives.derivatives(apply_fn, params, x, cotangents))
        )

    return scale * jnp.sum(jax.lax.map(of_outputs, _planning.output_groups(result, at_once)))


def resolve_implementation(name: str) -> str:
    """The implementation that runs where `name` is asked for: "auto" chooses."""
    return "structured" if name == "auto" else name


class Cost(NamedTuple):
    """What a kernel takes before it is computed: floating-point operations, and bytes at the
    peak.
    """

    flops: float
    peak_bytes: int


def estimate_cost(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x1: PyTree[Array],
    x2: PyTree[Array] | None = None,
    *,
    outputs: str = "mean",
    block_size: int | None = None,
    implementations: Sequence[str] = IMPLEMENTATIONS[1:],
) -> dict[str, Cost]:
    """Operations and memory of `empirical_ntk` with each of `implementations`; nothing is computed.

    Operations: those of the network as XLA counts them for one point, and those of the products of
    derivatives. Memory: of the kernel, of the derivatives that are held, and of what is made of
    them on the way. An implementation that can't fit the free memory is given with what it would
    take at least. Raises ValueError as `empirical_ntk` does.
    """
    jobs = {
        name: _job(apply_fn, params, x1, x2, outputs, name, block_size) for name in implementations
    }
    return {
        name: _estimate(job, job.plan(block_size, must_fit=False)) for name, job in jobs.items()
    }


class _Functions(NamedTuple):
    """The compiled parts of one kind of kernel, each of which keeps what it compiled for the next
    call of like shapes.

    kernel(at_once, params, x1, x2) is the whole, with so many outputs at once; derivatives(params,
    x, cotangents) and contract(scale, first, second) are its halves. Without x2 or `second` a
    kernel is square and made symmetric.
    """

    apply_fn: ApplyFunction
    outputs: str
    is_structured: bool
    kernel: Callable[..., Array]
    derivatives: Callable[[PyTree[Array], PyTree[Array], Array], list[Derivative]]
    contract: Callable[[float, list[Derivative], list[Derivative] | None], Array]


@lru_cache(maxsize=64)
def _functions(apply_fn: ApplyFunction, outputs: str, is_structured: bool) -> _Functions:
    derivatives = compiled_derivatives(apply_fn, is_structured)

    def rectangle(first: list[Derivative], second: list[Derivative], scale: float) -> Array:
        kernel = sum(_derivatives.contract(a, b, outputs) for a, b in zip(first, second)) * scale
        if outputs == "full":
            kernel = kernel.reshape(kernel.shape[0] * kernel.shape[1], -1)
        return kernel.astype(first[0].signals.dtype)

    @exact_products
    def contract(scale: float, first: list[Derivative], second: list[Derivative] | None) -> Array:
        if second is not None:
            return rectangle(first, second, scale)
        n = len(first[0].signals)
        if n < HALVED:
            return rectangle(first, first, scale)
        upper, lower = (
            jax.tree.map(partial(_rows, part), first)
            for part in (slice(n // 2), slice(n // 2, None))
        )
        above, corner = rectangle(upper, first, scale), rectangle(lower, lower, scale)
        left = above.shape[-1] - corner.shape[-1]
        corner = jnp.pad(corner, [*[(0, 0)] * (corner.ndim - 1), (left, 0)])
        return jnp.concatenate([above, corner], axis=-2)

    def kernel(
        at_once: int, params: PyTree[Array], x1: PyTree[Array], x2: PyTree[Array] | None
    ) -> Array:
        result = jax.eval_shape(apply_fn, params, x1)

        def of_outputs(cotangents: Array) -> Array:
            of_first = derivatives(params, x1, cotangents)
            of_second = None if x2 is None else derivatives(params, x2, cotangents)
            return contract(_scale(outputs, result.shape[1]), of_first, of_second)

        groups = _planning.output_groups(result, at_once)
        if len(groups) == 1:
            return of_outputs(groups[0])
        if outputs == "per-output":
            parts = jax.lax.map(of_outputs, groups)
            return parts.reshape(-1, *parts.shape[2:])[: result.shape[1]]
        start = jnp.zeros((n_points(x1), n_points(x1 if x2 is None else x2)), result.dtype)
        return jax.lax.scan(
            lambda before, group: (before + of_outputs(group), None), start, groups
        )[0]

    compiled = jax.jit(kernel, static_argnums=0), jax.jit(contract)
    whole, tile = map(_mirrored_if_square, compiled)
    return _Functions(apply_fn, outputs, is_structured, whole, derivatives, tile)


def _mirrored_if_square(of_points: Callable[..., Array]) -> Callable[..., Array]:
    """of_points(…, first, second), of which a kernel of the first points alone is made
    symmetric.
    """

    def kernel(*arguments: object) -> Array:
        found = of_points(*arguments)
        return _mirrored(found) if arguments[-1] is None else found

    return kernel


@jax.jit
def _mirrored(kernel: Array) -> Array:
    """The kernel with what is above its diagonal also below, where it was not computed or is
    rounded differently.

    A program of its own: compiled together with the kernel, each side is computed, and may be
    rounded in its own way.
    """
    return jnp.triu(kernel) + jnp.swapaxes(jnp.triu(kernel, 1), -1, -2)


def _rows(part: slice, leaf: Array) -> Array:
    """leaf[part], sliced flat: XLA then sees that the signals of a layer's bias are those of its
    matrix.
    """
    return leaf.reshape(len(leaf), -1)[part].reshape(-1, *leaf.shape[1:])


def _scale(outputs: str, n_outputs: int) -> float:
    return 1.0 / n_outputs if outputs == "mean" else 1.0


class _Job(NamedTuple):
    """One checked call: what to compute, of which points, and how."""

    functions: _Functions
    sizes: _planning.Sizes
    params: PyTree[Array]
    x1: PyTree[Array]
    x2: PyTree[Array] | None
    implementation: str

    @property
    def n_points(self) -> tuple[int, int]:
        return n_points(self.x1), n_points(self.x1 if self.x2 is None else self.x2)

    def on(self, device: jax.Device) -> "_Job":
        """The same call with its arrays on a device."""
        return self._replace(
            **{name: jax.device_put(getattr(self, name), device) for name in ("params", "x1", "x2")}
        )

    def plan(self, block_size: int | None, *, must_fit: bool = True) -> _planning.Plan:
        n2 = None if self.x2 is None else n_points(self.x2)
        may_keep = self.implementation != "neural-tangents"
        return _planning.plan(
            self.sizes, n_points(self.x1), n2, block_size, may_keep=may_keep, must_fit=must_fit
        )

    def whole(self, at_once: int) -> Array:
        """The kernel as one tile."""
        if self.implementation == "neural-tangents":
            return self.by_neural_tangents(self.x1, self.x2)
        return self.functions.kernel(at_once, self.params, self.x1, self.x2)

    def by_neural_tangents(self, x1: PyTree[Array], x2: PyTree[Array] | None) -> Array:
        return reference.reference_ntk(
            self.functions.apply_fn, self.params, x1, x2, outputs=self.functions.outputs
        )

    def tiles(
        self, cotangents: Array, plan: _planning.Plan
    ) -> tuple[Callable[..., Array], Tiles, Tiles]:
        """What makes a tile of the kernel out of two tiles of points, and the tiles of x1 and of
        x2.
        """
        if self.implementation == "neural-tangents":
            contract, of_tile = self.by_neural_tangents, lambda x: x
        else:
            scale = _scale(self.functions.outputs, self.sizes.n_outputs)
            contract = partial(self.functions.contract, scale)
            of_tile = lambda x: self.functions.derivatives(self.params, x, cotangents)
        first = Tiles(of_tile, self.x1, plan.tile, plan.keep)
        if self.x2 is None and plan.keep:
            return contract, first, first
        return (
            contract,
            first,
            Tiles(of_tile, self.x1 if self.x2 is None else self.x2, plan.tile, plan.keep),
        )


def _job(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x1: PyTree[Array],
    x2: PyTree[Array] | None,
    outputs: str,
    implementation: str,
    block_size: int | None,
) -> _Job:
    _checks.choice("outputs", outputs, OUTPUTS)
    _checks.choice("implementation", implementation, IMPLEMENTATIONS)
    if block_size is not None:
        _checks.integer("block_size", block_size, minimum=1)
    x1 = checked_points("x1", x1)
    x2 = None if x2 is None else checked_points("x2", x2)
    check_shapes(x1, x2)
    implementation = resolve_implementation(implementation)
    functions = _functions(hashable(apply_fn), outputs, implementation == "structured")
    leaves, tree = jax.tree.flatten((params, x1))
    sizes = _sizes(functions, tree, tuple(map(jax.typeof, leaves)))
    if implementation == "neural-tangents":
        sizes = sizes._replace(is_separable=False)
    return _Job(functions, sizes, params, x1, x2, implementation)


@lru_cache(maxsize=256)
def _sizes(
    functions: _Functions, tree: PyTree, shapes: tuple[jax.core.ShapedArray]
) -> _planning.Sizes:
    params, x = jax.tree.unflatten(tree, shapes)
    check_network(functions.apply_fn, params, x)
    return _planning.kernel_sizes(
        functions.apply_fn, params, x, functions.outputs, is_structured=functions.is_structured
    )


def _estimate(job: _Job, plan: _planning.Plan) -> Cost:
    functions, x = job.functions, jax.tree.map(lambda leaf: leaf[:1], job.x1)
    at_once = plan.outputs_at_once
    groups = _planning.output_groups(jax.eval_shape(functions.apply_fn, job.params, x), at_once)
    # XLA counts for a CPU only.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        shapes = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (job.params, x, groups[0])
        )
        of_point = functions.derivatives.lower(*shapes).cost_analysis()["flops"] * len(groups)
    tiles = [-(-n // plan.tile) for n in job.n_points]
    is_square = job.x2 is None
    n_pairs = tiles[0] * (tiles[0] - 1) // 2 if is_square else tiles[0] * tiles[1]
    # Of a symmetric kernel: the tiles above the diagonal, and what `contract` computes of those on
    # it.
    rows = min(plan.tile, job.n_points[0]), min(plan.tile, job.n_points[1])
    is_halved = rows[0] >= HALVED and job.implementation != "neural-tangents"
    n_whole = n_pairs + (tiles[0] * (0.75 if is_halved else 1.0) if is_square else 0.0)
    n_derived = job.n_points[0] if is_square else sum(job.n_points)
    if not plan.keep and max(tiles) > 1:
        n_derived = (tiles[0] + n_pairs) * plan.tile
    one = _planning.point_derivatives(
        functions.apply_fn, job.params, x, is_structured=functions.is_structured
    )
    pairs = sum(_derivatives.flops(of, *rows, at_once, functions.outputs) for of in one)
    return Cost(n_derived * of_point + n_whole * pairs * len(groups), plan.peak_bytes)


def _tiled(job: _Job, plan: _planning.Plan) -> Array:
    """The kernel tile by tile, on all devices in turn; of a symmetric one the tiles on and above
    the diagonal.
    """
    outputs, n_outputs, is_square = job.functions.outputs, job.sizes.n_outputs, job.x2 is None
    # More than one row for each point where the kernel is over all outputs.
    height = n_outputs if outputs == "full" else 1
    spans = [
        [
            slice(start * height, min(start + plan.tile, n) * height)
            for start in range(0, n, plan.tile)
        ]
        for n in job.n_points
    ]
    result = jax.eval_shape(job.functions.apply_fn, job.params, job.x1)
    shape = (n_outputs if outputs == "per-output" else 1, *(n * height for n in job.n_points))
    kernel = np.zeros(shape, result.dtype)
    places = [
        (i, j)
        for i in range(len(spans[0]))
        for j in range(len(spans[1]))
        if not (is_square and j < i)
    ]
    jobs = (
        [job]
        if jax.local_device_count() == 1
        else [job.on(device) for device in jax.local_devices()]
    )
    for number, cotangents in enumerate(_planning.output_groups(result, plan.outputs_at_once)):
        tiles = [of_device.tiles(cotangents, plan) for of_device in jobs]
        start = number * plan.outputs_at_once if outputs == "per-output" else 0
        for at_once in (places[at : at + len(jobs)] for at in range(0, len(places), len(jobs))):
            # All devices are at work before the first is waited for.
            parts = [
                contract(first.of(i), None if is_square and i == j else second.of(j))
                for (i, j), (contract, first, second) in zip(at_once, tiles)
            ]
            for (i, j), part in zip(at_once, parts):
                rows, columns = spans[0][i], spans[1][j]
                part = np.asarray(part).reshape(-1, *part.shape[-2:])
                layers = slice(start, min(start + len(part), len(kernel)))
                # The last tile is as large as the others and begins with points of the one before
                # it.
                part = part[
                    : layers.stop - start, rows.start - rows.stop :, columns.start - columns.stop :
                ]
                kernel[layers, rows, columns] += part
                if is_square and j > i:
                    kernel[layers, columns, rows] += np.swapaxes(part, -1, -2)
    return jnp.asarray(kernel if outputs == "per-output" else kernel[0])
