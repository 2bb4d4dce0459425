"""The empirical neural tangent kernel of any function of parameters and points."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from collective_variables.kernels import _calls, _planning
from collective_variables.kernels._calls import IMPLEMENTATIONS as IMPLEMENTATIONS
from collective_variables.kernels._calls import resolve_implementation as resolve_implementation
from collective_variables.kernels._derivatives import contraction
from collective_variables.kernels._derivatives.contraction import OUTPUTS as OUTPUTS
from collective_variables.kernels._traced import SHARED, StandIns
from collective_variables.networks._arguments import ApplyFunction


class Cost(NamedTuple):
    """The cost of a kernel.

    Attributes:
        flops: Number of floating-point operations.
        peak_bytes: Memory at the peak.
    """

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

    Compiled programs are kept for later calls, for the last 64 functions. A function counts as the
    same if it sees the same things besides its arguments. These are its code, the variables it
    closes over, its default arguments, the globals that its code reads, and the attributes of
    objects among them. A new but equal function (a `lambda` in a loop) therefore reuses the
    programs, and a change in any of these causes a new trace. A function that sees something
    opaque, such as a generator of random numbers, is traced in every call. `ntk_fn` makes an object
    with separate programs.

    Raises ValueError if an option is unknown, if there are no points or no parameters, or if a
    parameter is complex. Points that are not finite or differ in shape are also a ValueError. So
    are outputs that are not real numbers (n_points, n_outputs), or that depend on other points.
    Raises MemoryError if the kernel cannot fit the free memory.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs). It must treat every
            point separately: for example, it must not normalise over points. This is checked once.
        params: The parameters, an array or a tree of arrays. Integers, Booleans and random keys in
            it do not contribute to the kernel. Neither do the collections of a Flax module other
            than "params", nor the state of an NNX module that is not a `Param`.
        x1: The points, an array or a tree of arrays with points along their first axes.
        x2: Other points. None stands for x1. The kernel is then computed once and is exactly
            symmetric; inside the caller's `jax.jit` it is symmetric up to round-off.
        outputs: How the C outputs are combined. "mean": their mean, shape (n1, n2), the kernel of
            the paper. "sum": their sum. "per-output": a kernel for each, (C, n1, n2). "full":
            (n1·C, n2·C), with row i·C + c for output c of point i.
        implementation: "structured" contracts derivatives layer by layer (Novak et al. 2022),
            "jacobian" forms the Jacobian of every parameter, and "neural-tangents" uses the
            Jacobian contraction of that package. "auto" is "structured".
        block_size: Number of points on a side of the tiles that are computed in turn. None plans it
            from the free memory. A call inside `jax.jit` or `jax.vmap` is one tile.

    Returns:
        The kernel, in the dtype of the network's outputs but at least float32. For a network in 16
        bits it is the kernel of the Jacobian with its rounded entries.

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
    products of derivatives. The memory holds the kernel, the derivatives and intermediate results.
    Raises ValueError in the same cases as `empirical_ntk`.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
        params: The parameters, an array or a tree of arrays.
        x1: The points, an array or a tree of arrays with points along their first axes. A
            `jax.ShapeDtypeStruct` stands for an array of its shape.
        x2: Other points; None stands for x1.
        outputs: As in `empirical_ntk`.
        block_size: As in `empirical_ntk`.
        implementations: The implementations to estimate.

    Returns:
        The `flops` and `peak_bytes` of each implementation. For one that cannot fit the free
        memory, `peak_bytes` is the least that it would need.

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
    """Return `empirical_ntk`, computed with the programs of these stand-ins.

    Args:
        stand_ins: The stand-ins that hold the compiled programs.
        apply_fn: As in `empirical_ntk`.
        params: As in `empirical_ntk`.
        x1: As in `empirical_ntk`.
        x2: As in `empirical_ntk`.
        outputs: As in `empirical_ntk`.
        implementation: As in `empirical_ntk`.
        block_size: As in `empirical_ntk`.

    Returns:
        The kernel.
    """
    with stand_ins.traceable(apply_fn, params, x1, x2) as function:
        call = _calls.check_call(function, params, x1, x2, outputs, implementation, block_size)
        params = call.params
        leaves = jax.tree.leaves((params, call.x1, call.x2))
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return call.whole(call.sizes.outputs_at_once(max(call.n_points)))
        return call.compute(block_size)


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
    """Return the cost of one implementation."""
    x1, x2 = jax.tree.map(_as_array, (x1, x2))
    with stand_ins.traceable(apply_fn, params, x1, x2) as function:
        call = _calls.check_call(function, params, x1, x2, outputs, implementation, block_size)
        return _cost(call, call.plan(block_size, must_fit=False))


def _as_array(leaf: Array | jax.ShapeDtypeStruct) -> Array:
    """Return an array, of zeros for a shape."""
    is_shape = isinstance(leaf, jax.ShapeDtypeStruct)
    return jnp.zeros(leaf.shape, leaf.dtype) if is_shape else leaf


def _cost(call: _calls.Call, plan: _planning.Plan) -> Cost:
    """Return the cost of a call that runs by this plan."""
    programs, at_once = call.programs, plan.outputs_at_once
    point = jax.tree.map(lambda leaf: leaf[:1], call.x1)
    result = jax.eval_shape(programs.apply_fn, call.params, point)
    groups = _planning.output_groups(result, at_once)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (call.params, point, groups[0])
    )
    # XLA counts operations on a CPU only.
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        analysis = programs.derivatives.lower(*shapes).cost_analysis() or {}
    flops = analysis.get("flops", 0.0)  # there is no entry if a network only moves numbers
    derivatives = _planning.point_derivatives(
        programs.apply_fn, call.params, point, is_structured=programs.is_structured
    )
    rows = min(plan.tile, call.n_points[0]), min(plan.tile, call.n_points[1])
    pairs = sum(
        contraction.flops(derivative, *rows, at_once, programs.outputs)
        for derivative in derivatives
    )
    n_derived, n_tiles = _work(call, plan, rows[0])
    return Cost(len(groups) * (n_derived * flops + n_tiles * pairs), plan.peak_bytes)


def _work(call: _calls.Call, plan: _planning.Plan, n_rows: int) -> tuple[int, float]:
    """Return the numbers of points derived and of tiles contracted, for one group of outputs."""
    tiles = [-(-n // plan.tile) for n in call.n_points]
    is_square = call.x2 is None
    n_pairs = tiles[0] * (tiles[0] - 1) // 2 if is_square else tiles[0] * tiles[1]
    # In a symmetric kernel, tiles above the diagonal count fully, and those on it in part.
    is_halved = n_rows >= _calls.HALVED and call.implementation != "neural-tangents"
    n_tiles = n_pairs + (tiles[0] * (0.75 if is_halved else 1.0) if is_square else 0.0)
    n_derived = call.n_points[0] if is_square else sum(call.n_points)
    if not plan.keep and max(tiles) > 1:
        n_derived = (tiles[0] + n_pairs) * plan.tile
    return n_derived, n_tiles
