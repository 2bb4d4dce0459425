"""One checked call of the kernel: its compiled programs, and its computation in tiles."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from collective_variables import _checks
from collective_variables.kernels import _planning
from collective_variables.kernels._derivatives import contraction
from collective_variables.kernels._derivatives.contraction import OUTPUTS
from collective_variables.kernels._derivatives.form import Derivative
from collective_variables.kernels._tiles import Tiles, compiled_derivatives, exact_products
from collective_variables.kernels._traced import StandIn
from collective_variables.networks._arguments import (
    check_network,
    check_shapes,
    checked_points,
    n_points,
)

IMPLEMENTATIONS = ("auto", "structured", "jacobian", "neural-tangents")
HALVED = 256  # points from which a square block is computed in an upper and a lower half


def resolve_implementation(name: str) -> str:
    """Return the name of a concrete implementation: "auto" becomes "structured"."""
    return "structured" if name == "auto" else name


def output_scale(outputs: str, n_outputs: int) -> float:
    """Return the factor for a sum over outputs: 1/n_outputs for "mean", otherwise 1."""
    return 1.0 / n_outputs if outputs == "mean" else 1.0


class Programs(NamedTuple):
    """The compiled parts of one kind of kernel, compiled once per set of shapes.

    Without x2 or `second` a kernel is square and made symmetric.

    Attributes:
        apply_fn: The network.
        outputs: One of `OUTPUTS`.
        is_structured: Whether derivatives are taken layer by layer.
        kernel: kernel(at_once, params, x1, x2) computes the whole kernel, with `at_once` outputs at
            a time.
        derivatives: derivatives(params, x, cotangents) is the first half of `kernel`.
        contract: contract(scale, first, second) is the second half.
    """

    apply_fn: StandIn
    outputs: str
    is_structured: bool
    kernel: Callable[..., Array]
    derivatives: Callable[[PyTree[Array], PyTree[Array], Array], list[Derivative]]
    contract: Callable[[float, list[Derivative], list[Derivative] | None], Array]


def _build_programs(apply_fn: StandIn, outputs: str, is_structured: bool) -> Programs:
    """Return the programs for one kind of kernel."""
    derivatives = compiled_derivatives(apply_fn, is_structured)
    contract = exact_products(partial(_contract, outputs))

    def kernel(
        at_once: int, params: PyTree[Array], x1: PyTree[Array], x2: PyTree[Array] | None
    ) -> Array:
        result = jax.eval_shape(apply_fn, params, x1)

        def contract_group(cotangents: Array) -> Array:
            first = derivatives(params, x1, cotangents)
            second = None if x2 is None else derivatives(params, x2, cotangents)
            return contract(output_scale(outputs, result.shape[1]), first, second)

        groups = _planning.output_groups(result, at_once)
        if len(groups) == 1:
            return contract_group(groups[0])
        if outputs == "per-output":
            parts = jax.lax.map(contract_group, groups)
            return parts.reshape(-1, *parts.shape[2:])[: result.shape[1]]
        start = jnp.zeros((n_points(x1), n_points(x1 if x2 is None else x2)), result.dtype)
        return jax.lax.scan(
            lambda total, group: (total + contract_group(group), None), start, groups
        )[0]

    return Programs(
        apply_fn,
        outputs,
        is_structured,
        _symmetric_if_square(jax.jit(kernel, static_argnums=0)),
        derivatives,
        _symmetric_if_square(jax.jit(contract)),
    )


def _contract(
    outputs: str, scale: float, first: list[Derivative], second: list[Derivative] | None
) -> Array:
    """Return the kernel from derivatives; for a large square one only its upper half."""
    if second is not None:
        return _rectangle(outputs, first, second, scale)
    n = len(first[0].signals)
    if n < HALVED:
        return _rectangle(outputs, first, first, scale)
    upper = jax.tree.map(partial(_rows, slice(n // 2)), first)
    lower = jax.tree.map(partial(_rows, slice(n // 2, None)), first)
    above = _rectangle(outputs, upper, first, scale)
    corner = _rectangle(outputs, lower, lower, scale)
    left = above.shape[-1] - corner.shape[-1]
    corner = jnp.pad(corner, [*[(0, 0)] * (corner.ndim - 1), (left, 0)])
    return jnp.concatenate([above, corner], axis=-2)


def _rectangle(
    outputs: str, first: list[Derivative], second: list[Derivative], scale: float
) -> Array:
    """Return the kernel of two sets of points as a matrix, or as one matrix per output."""
    kernel = sum(contraction.contract(a, b, outputs) for a, b in zip(first, second)) * scale
    if outputs == "full":
        kernel = kernel.reshape(kernel.shape[0] * kernel.shape[1], -1)
    return kernel.astype(first[0].signals.dtype)


def _rows(part: slice, leaf: Array) -> Array:
    """Return leaf[part], sliced from the flat array.

    XLA can then see that the signals of a layer's bias are those of its matrix.
    """
    return leaf.reshape(len(leaf), -1)[part].reshape(-1, *leaf.shape[1:])


def _symmetric_if_square(compute: Callable[..., Array]) -> Callable[..., Array]:
    """Return compute(…, first, second), whose result is made symmetric if `second` is None."""

    def kernel(*arguments: object) -> Array:
        result = compute(*arguments)
        return _mirrored(result) if arguments[-1] is None else result

    return kernel


@jax.jit
def _mirrored(kernel: Array) -> Array:
    """Return the kernel with its upper triangle copied below the diagonal.

    This is a separate program. Compiled together with the kernel, each triangle would be computed,
    and could be rounded differently.
    """
    return jnp.triu(kernel) + jnp.swapaxes(jnp.triu(kernel, 1), -1, -2)


class Call(NamedTuple):
    """The arguments of one kernel computation, checked, with its programs and sizes."""

    programs: Programs
    sizes: _planning.Sizes
    params: PyTree[Array]
    x1: PyTree[Array]
    x2: PyTree[Array] | None
    implementation: str

    @property
    def n_points(self) -> tuple[int, int]:
        """The number of rows and columns of points."""
        return n_points(self.x1), n_points(self.x1 if self.x2 is None else self.x2)

    def on_device(self, device: jax.Device) -> "Call":
        """Return the same call with its arrays on a device."""
        return self._replace(
            **{name: jax.device_put(getattr(self, name), device) for name in ("params", "x1", "x2")}
        )

    def plan(self, block_size: int | None, *, must_fit: bool = True) -> _planning.Plan:
        """Plan the tiles of the kernel."""
        n2 = None if self.x2 is None else n_points(self.x2)
        may_keep = self.implementation != "neural-tangents"
        return _planning.plan_kernel(
            self.sizes, n_points(self.x1), n2, block_size, may_keep=may_keep, must_fit=must_fit
        )

    def compute(self, block_size: int | None = None) -> Array:
        """Return the kernel, in tiles where it does not fit the memory at once."""
        plan = self.plan(block_size)
        if max(self.n_points) <= plan.tile:
            return self.whole(plan.outputs_at_once)
        return _tiled(self, plan)

    def whole(self, at_once: int) -> Array:
        """Return the kernel as one tile, with `at_once` outputs at a time."""
        if self.implementation == "neural-tangents":
            return self.by_neural_tangents(self.x1, self.x2)
        return self.programs.kernel(at_once, self.params, self.x1, self.x2)

    def by_neural_tangents(self, x1: PyTree[Array], x2: PyTree[Array] | None) -> Array:
        """Return the kernel computed by the package neural-tangents."""
        from collective_variables.kernels import reference  # needs that package

        return reference.reference_ntk(
            self.programs.apply_fn, self.params, x1, x2, outputs=self.programs.outputs
        )

    def tiles(
        self, cotangents: Array, plan: _planning.Plan
    ) -> tuple[Callable[..., Array], Tiles, Tiles]:
        """Return the function that computes a tile of the kernel, and the tiles of x1 and x2."""
        if self.implementation == "neural-tangents":
            contract, prepare = self.by_neural_tangents, lambda x: x
        else:
            scale = output_scale(self.programs.outputs, self.sizes.n_outputs)
            contract = partial(self.programs.contract, scale)
            prepare = lambda x: self.programs.derivatives(self.params, x, cotangents)
        first = Tiles(prepare, self.x1, plan.tile, plan.keep)
        if self.x2 is None and plan.keep:
            return contract, first, first
        x2 = self.x1 if self.x2 is None else self.x2
        return contract, first, Tiles(prepare, x2, plan.tile, plan.keep)


def check_call(
    apply_fn: StandIn,
    params: PyTree[Array],
    x1: PyTree[Array],
    x2: PyTree[Array] | None,
    outputs: str,
    implementation: str,
    block_size: int | None,
) -> Call:
    """Return the call with these arguments, or raise the errors of `empirical.empirical_ntk`."""
    _checks.choice("outputs", outputs, OUTPUTS)
    _checks.choice("implementation", implementation, IMPLEMENTATIONS)
    if block_size is not None:
        _checks.integer("block_size", block_size, minimum=1)
    x1 = checked_points("x1", x1)
    x2 = None if x2 is None else checked_points("x2", x2)
    check_shapes(x1, x2)
    params = apply_fn.checked(params, x1, x2)
    implementation = resolve_implementation(implementation)
    kind = outputs, implementation == "structured"
    programs = apply_fn.program(("kernel", kind), lambda: _build_programs(apply_fn, *kind))
    leaves, tree = jax.tree.flatten((params, x1))
    shapes = tuple(map(jax.typeof, leaves))
    sizes = apply_fn.program(
        ("sizes", kind, tree, shapes), lambda: _sizes(programs, jax.tree.unflatten(tree, shapes))
    )
    if implementation == "neural-tangents":
        sizes = sizes._replace(is_separable=False)
    return Call(programs, sizes, params, x1, x2, implementation)


def _sizes(programs: Programs, shapes: tuple[PyTree, PyTree]) -> _planning.Sizes:
    """Return the memory sizes of a kernel, from the shapes of its parameters and points."""
    params, x = shapes
    check_network(programs.apply_fn, params, x)
    return _planning.kernel_sizes(
        programs.apply_fn, params, x, programs.outputs, is_structured=programs.is_structured
    )


def _tiled(call: Call, plan: _planning.Plan) -> Array:
    """Return the kernel computed tile by tile, on all devices in turn.

    The tiles below the diagonal of a square kernel are copied from those above it.
    """
    outputs, n_outputs = call.programs.outputs, call.sizes.n_outputs
    result = jax.eval_shape(call.programs.apply_fn, call.params, call.x1)
    # The kernel of all outputs has a row for each output of a point.
    height = n_outputs if outputs == "full" else 1
    shape = (n_outputs if outputs == "per-output" else 1, *(n * height for n in call.n_points))
    kernel = np.zeros(shape, result.dtype)
    spans = [_spans(n, plan.tile, height) for n in call.n_points]
    is_one_device = jax.local_device_count() == 1
    calls = [call] if is_one_device else [call.on_device(device) for device in jax.local_devices()]
    for number, cotangents in enumerate(_planning.output_groups(result, plan.outputs_at_once)):
        start = number * plan.outputs_at_once if outputs == "per-output" else 0
        for i, j, part in _parts(calls, cotangents, plan, *map(len, spans)):
            _add_part(kernel[start:], part, spans[0][i], spans[1][j])
            if call.x2 is None and j > i:
                _add_part(kernel[start:], np.swapaxes(part, -1, -2), spans[1][j], spans[0][i])
    return jnp.asarray(kernel if outputs == "per-output" else kernel[0])


def _spans(n: int, tile: int, height: int) -> list[slice]:
    """Return the rows of the kernel that each tile of n points fills."""
    return [slice(start * height, min(start + tile, n) * height) for start in range(0, n, tile)]


def _parts(
    calls: list[Call], cotangents: Array, plan: _planning.Plan, n_rows: int, n_columns: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield the place and values of each tile of the kernel, for one group of outputs."""
    is_square = calls[0].x2 is None
    tiles = [call.tiles(cotangents, plan) for call in calls]
    places = [(i, j) for i in range(n_rows) for j in range(n_columns) if not (is_square and j < i)]
    for at in range(0, len(places), len(calls)):
        # Start all devices before waiting for the first.
        parts = [
            (i, j, contract(first.tile(i), None if is_square and i == j else second.tile(j)))
            for (i, j), (contract, first, second) in zip(places[at : at + len(calls)], tiles)
        ]
        for i, j, part in parts:
            yield i, j, np.asarray(part).reshape(-1, *part.shape[-2:])


def _add_part(kernel: np.ndarray, part: np.ndarray, rows: slice, columns: slice) -> None:
    """Add a tile to the rows and columns that it fills, for each of its outputs."""
    part = part[: len(kernel)]  # the last group of outputs is padded with zeros
    # The last tile has the size of the others, so it repeats points of the one before.
    part = part[:, rows.start - rows.stop :, columns.start - columns.stop :]
    kernel[: len(part), rows, columns] += part
