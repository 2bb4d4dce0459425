"""The empirical neural tangent kernel of any function of parameters and points, and its trace."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from collective_variables import _checks
from collective_variables.kernels import _calls, _derivatives, _planning
from collective_variables.kernels._calls import IMPLEMENTATIONS as IMPLEMENTATIONS
from collective_variables.kernels._calls import resolve_implementation as resolve_implementation
from collective_variables.kernels._derivatives import OUTPUTS as OUTPUTS
from collective_variables.kernels._tiles import exact_products
from collective_variables.kernels._traced import SHARED, StandIn, StandIns
from collective_variables.networks._arguments import (
    ApplyFunction,
    check_network,
    checked_points,
    n_points,
)


class Cost(NamedTuple):
    """What a kernel will take: floating-point operations, and bytes at the peak."""

    flops: float
    peak_bytes: int


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
    """Return the neural tangent kernel K(x1, x2) of a network.

    With J_c the gradient of output c with respect to all parameters (Tovey et al. 2023, eq. 1) and
    C outputs, the mean over outputs is K_ij = (1/C) Σ_c ⟨J_c(x_i), J_c(x_j)⟩.

    Compiled programs are kept for the next call, together with what `apply_fn` can see besides its
    arguments: its code, the variables it closes over, its default arguments, the globals that its
    code reads, and the attributes of the objects among these. A function that is equal in all of
    this uses the programs again, also if it is a new one (a `lambda` in a loop); after a change in
    any of it the function is traced anew. A function that can see something which cannot be looked
    into, such as a generator of random numbers, is traced in every call. Programs of the last 64
    functions are kept. `ntk_fn` makes an object that has its own programs.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs). It must treat every
            point separately: nothing is normalised over points, say. This is checked once.
        params: The parameters, an array or a tree of arrays. Whole numbers, truth values and random
            keys among them have no share in the kernel. Nor have the collections of a Flax module
            other than "params", and the state of an NNX module that is no `Param`.
        x1: The points, an array or a tree of arrays with points along their first axes.
        x2: Other points. None stands for x1; the kernel is then computed once and is exactly
            symmetric, except inside a `jax.jit` of the caller's, where it is so up to round-off.
        outputs: What becomes of the C outputs. "mean": their mean, shape (n1, n2), the kernel of
            the paper. "sum": their sum. "per-output": a kernel for each, (C, n1, n2). "full":
            (n1·C, n2·C), with row i·C + c for output c of point i.
        implementation: "structured" contracts derivatives layer by layer (Novak et al. 2022),
            "jacobian" forms the Jacobian of every parameter, and "neural-tangents" uses the
            Jacobian contraction of that package. "auto" is "structured".
        block_size: Points on a side of the tiles that are computed one after another. None plans it
            from the free memory. A call inside `jax.jit` or `jax.vmap` is one tile.

    Returns:
        The kernel, in the dtype of the network's outputs and at least in float32. Of a network that
        computes in 16 bits it is the kernel of the Jacobian with its rounded entries.

    Raises:
        ValueError: An option is unknown, there are no points or no parameters, values are not
            finite, points have different shapes, outputs are not real numbers (n_points,
            n_outputs), those of a point depend on other points, or a parameter is complex.
        MemoryError: The kernel cannot fit the free memory.

    Example:
        The kernel of a linear function is the Gram matrix of its inputs.

        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> def linear(w, x):
        ...     return x @ w
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
        >>> print(cv.empirical_ntk(linear, jnp.array([[3.0], [4.0]]), x))
        [[1. 0. 1.]
         [0. 4. 2.]
         [1. 2. 2.]]
    """
    return compute_kernel(SHARED, apply_fn, params, x1, x2, outputs, implementation, block_size)


def ntk_trace(
    apply_fn: ApplyFunction, params: PyTree[Array], x: PyTree[Array], *, outputs: str = "mean"
) -> Float[Array, ""]:
    """Return the trace Tr K = Σ_i K_ii of `empirical_ntk` without computing the kernel.

    The derivatives of all points are held at once. Programs are kept as those of `empirical_ntk`.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
        params: The parameters, an array or a tree of arrays.
        x: The points, an array or a tree of arrays with points along their first axes.
        outputs: "mean" or "sum", over the outputs of the network.

    Returns:
        The trace, a scalar in the dtype of the kernel.

    Raises:
        ValueError: As `empirical_ntk`.

    Example:
        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> def linear(w, x):
        ...     return x @ w
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
        >>> print(cv.ntk_trace(linear, jnp.array([[3.0], [4.0]]), x))
        7.0
    """
    return compute_trace(SHARED, apply_fn, params, x, outputs)


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
    """Estimate operations and memory of `empirical_ntk`; nothing is computed.

    The operations are those of the network, as XLA counts them for one point, and those of the
    products of derivatives. The memory is that of the kernel, of the derivatives that are held, and
    of intermediate results.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
        params: The parameters, an array or a tree of arrays.
        x1: The points, an array or a tree of arrays with points along their first axes.
        x2: Other points; None stands for x1.
        outputs: As for `empirical_ntk`.
        block_size: As for `empirical_ntk`.
        implementations: Those to estimate.

    Returns:
        For each implementation its `flops` and its `peak_bytes`. One that cannot fit the free
        memory is listed with the least that it would take.

    Raises:
        ValueError: As `empirical_ntk`.

    Example:
        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> def linear(w, x):
        ...     return x @ w
        >>> cost = cv.estimate_cost(linear, jnp.ones((20, 1)), jnp.ones((100, 20)))
        >>> sorted(cost)
        ['jacobian', 'neural-tangents', 'structured']
        >>> cost["structured"].peak_bytes
        170000
    """
    return {
        name: _estimate(SHARED, apply_fn, params, x1, x2, outputs, name, block_size)
        for name in implementations
    }


def compute_kernel(
    stand_ins: StandIns,
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x1: PyTree[Array],
    x2: PyTree[Array] | None,
    outputs: str,
    implementation: str,
    block_size: int | None,
) -> Float[Array, "..."]:
    """Return `empirical_ntk` by the programs that belong to these stand-ins."""
    with stand_ins.traceable(apply_fn, params, x1, x2) as function:
        call = _calls.check_call(function, params, x1, x2, outputs, implementation, block_size)
        params = call.params
        leaves = jax.tree.leaves((params, call.x1, call.x2))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return call.whole(call.sizes.outputs_at_once(max(call.n_points)))
        plan = call.plan(block_size)
        if max(call.n_points) <= plan.tile:
            return call.whole(plan.outputs_at_once)
        return _calls.tiled(call, plan)


def compute_trace(
    stand_ins: StandIns,
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    outputs: str,
) -> Float[Array, ""]:
    """Return `ntk_trace` by the programs that belong to these stand-ins."""
    _checks.choice("outputs", outputs, ("mean", "sum"))
    x = checked_points("x", x)
    with stand_ins.traceable(apply_fn, params, x) as function:
        params = function.checked(params, x)
        check_network(function, params, x)
        scale = _calls.output_scale(outputs, jax.eval_shape(function, params, x).shape[1])
        trace = function.program(("trace", scale), lambda: _build_trace(function, scale))
        return trace(params, x)


def _build_trace(apply_fn: StandIn, scale: float) -> Callable[..., Float[Array, ""]]:
    return jax.jit(exact_products(partial(_trace, apply_fn, scale)))


def _trace(
    apply_fn: StandIn, scale: float, params: PyTree[Array], x: PyTree[Array]
) -> Float[Array, ""]:
    result = jax.eval_shape(apply_fn, params, x)
    at_once = _planning.kernel_sizes(apply_fn, params, x, "sum").outputs_at_once(n_points(x))

    def trace_group(cotangents: Array) -> Float[Array, ""]:
        derivatives = _derivatives.derivatives(apply_fn, params, x, cotangents)
        return jnp.sum(_derivatives.diagonal(derivatives))

    return scale * jnp.sum(jax.lax.map(trace_group, _planning.output_groups(result, at_once)))


def _estimate(
    stand_ins: StandIns,
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x1: PyTree[Array],
    x2: PyTree[Array] | None,
    outputs: str,
    implementation: str,
    block_size: int | None,
) -> Cost:
    with stand_ins.traceable(apply_fn, params, x1, x2) as function:
        call = _calls.check_call(function, params, x1, x2, outputs, implementation, block_size)
        return _cost(call, call.plan(block_size, must_fit=False))


def _cost(call: _calls.Call, plan: _planning.Plan) -> Cost:
    programs, at_once = call.programs, plan.outputs_at_once
    point = jax.tree.map(lambda leaf: leaf[:1], call.x1)
    result = jax.eval_shape(programs.apply_fn, call.params, point)
    groups = _planning.output_groups(result, at_once)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (call.params, point, groups[0])
    )
    # XLA counts for a CPU only.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        analysis = programs.derivatives.lower(*shapes).cost_analysis() or {}
    flops = analysis.get("flops", 0.0)  # there is no entry if a network only moves numbers
    derivatives = _planning.point_derivatives(
        programs.apply_fn, call.params, point, is_structured=programs.is_structured
    )
    rows = min(plan.tile, call.n_points[0]), min(plan.tile, call.n_points[1])
    pairs = sum(
        _derivatives.flops(derivative, *rows, at_once, programs.outputs)
        for derivative in derivatives
    )
    n_derived, n_tiles = _work(call, plan, rows[0])
    return Cost(len(groups) * (n_derived * flops + n_tiles * pairs), plan.peak_bytes)


def _work(call: _calls.Call, plan: _planning.Plan, n_rows: int) -> tuple[int, float]:
    """How many points are derived, and how many tiles contracted, for a group of outputs."""
    tiles = [-(-n // plan.tile) for n in call.n_points]
    is_square = call.x2 is None
    n_pairs = tiles[0] * (tiles[0] - 1) // 2 if is_square else tiles[0] * tiles[1]
    # Of a symmetric kernel: the tiles above the diagonal, and what is computed of those on it.
    is_halved = n_rows >= _calls.HALVED and call.implementation != "neural-tangents"
    n_tiles = n_pairs + (tiles[0] * (0.75 if is_halved else 1.0) if is_square else 0.0)
    n_derived = call.n_points[0] if is_square else sum(call.n_points)
    if not plan.keep and max(tiles) > 1:
        n_derived = (tiles[0] + n_pairs) * plan.tile
    return n_derived, n_tiles
