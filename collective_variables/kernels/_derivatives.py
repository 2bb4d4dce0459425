"""Derivatives of a network layer by layer, and their contraction into the neural tangent kernel.

A parameter W that enters y = Σ_t a_t W has the derivative Σ_t a_t ⊗ g_t, where back-propagation
brings the signal g to y. Examples are a dense layer, a convolution written as patches times a
matrix, attention and an embedding.

The contribution of W to the kernel follows from a and g, without the Jacobian of all parameters
(Novak et al. 2022, "structured derivatives"). Every other parameter uses its Jacobian; that of the
bias of a dense layer is g.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from collective_variables.kernels._jaxpr import Program
from collective_variables.kernels._uses import Use
from collective_variables.networks import _arguments, variables

OUTPUTS = ("mean", "sum", "full", "per-output")


class Derivative(NamedTuple):
    """Derivatives of the outputs c of points by one parameter, with points along the first axis.

    There are two forms. In the first, the derivative is Σ_t a_t ⊗ g_ct. In the second, `inputs` is
    None and `signals` holds the derivative.

    Attributes:
        inputs: a, shape (t, n_in) per point. For a lookup: the row numbers (t,), which stand for
            one-hot vectors.
        signals: g, shape (c, t, n_out) per point; or the derivative, shape (c, size).
    """

    inputs: Float[Array, "*n t n_in"] | Int[Array, "*n t"] | None
    signals: Float[Array, "*n c t n_out"] | Float[Array, "*n c size"]


def derivatives(
    apply_fn: _arguments.ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    cotangents: Float[Array, "c n_outputs"],
    *,
    structured: bool = True,
) -> list[Derivative]:
    """Return one `Derivative` for every parameter in `params`, in the order of its tree.

    Points are processed in blocks, so that their signals fit the cache.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
        params: The parameters.
        x: The points.
        cotangents: Rows that combine the outputs, (c, n_outputs); rows of the identity give the
            outputs.
        structured: Whether to use inputs and signals where possible; otherwise all are Jacobians.

    Returns:
        The derivatives of the c combinations of outputs.
    """
    leaves = variables.parameters(params)
    program = _traced(apply_fn, params, x)
    uses = program.uses() if structured else {}
    biases = program.biases(uses)

    def point_derivatives(point: Sequence[Array]) -> dict[int, Derivative]:
        def run(
            taps: dict[int, list[Array]], free: dict[int, Array]
        ) -> tuple[Array, dict[int, list[Array]]]:
            return program.run(
                [free.get(i, leaf) for i, leaf in enumerate(leaves)], point, uses, taps
            )

        taps = {
            i: [jnp.zeros(use.step.result.shape, use.step.result.dtype) for use in leaf_uses]
            for i, leaf_uses in uses.items()
        }
        free = {i: leaf for i, leaf in enumerate(leaves) if i not in uses and i not in biases}
        _, back, inputs = jax.vjp(run, taps, free, has_aux=True)
        signals, jacobians = jax.vmap(back)(cotangents)
        by_uses = {i: _join_uses(uses[i], inputs[i], signals[i]) for i in uses}
        return by_uses | {i: _flat(jacobian) for i, jacobian in jacobians.items()}

    block = _block_size(program.largest_signal(), len(cotangents))
    result = in_blocks(jax.vmap(point_derivatives), jax.tree.leaves(x), block)
    # Share the signals without a copy, so that XLA multiplies them once for a layer and its bias.
    result |= {
        bias: Derivative(None, result[leaf].signals[:, :, 0]) for bias, leaf in biases.items()
    }
    return [result[i] for i in range(len(leaves))]


def _traced(apply_fn: _arguments.ApplyFunction, params: PyTree[Array], x: PyTree[Array]) -> Program:
    """Trace the network as a function of its parameters and one point, from the shapes of both."""
    leaves, tree = jax.tree.flatten(params)
    points, points_tree = jax.tree.flatten(x)

    def single(leaves: Sequence[Array], point: Sequence[Array]) -> Array:
        point = jax.tree.unflatten(points_tree, [leaf[None] for leaf in point])
        return apply_fn(jax.tree.unflatten(tree, leaves), point)[0]

    n_parameters = len(variables.parameters(params))
    return Program.trace(
        single,
        leaves[:n_parameters],
        [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in points],
        leaves[n_parameters:],
    )


def _block_size(largest_signal: int, n_cotangents: int) -> int:
    """Return how many points are processed at once.

    The signals of a layer fit the cache of a core, or the memory of an accelerator.
    """
    memory = 2**22 if jax.default_backend() == "cpu" else 2**30
    return max(1, memory // (4 * n_cotangents * largest_signal))


def bytes_in_network(largest_signal: int, n_points: int, n_cotangents: int) -> int:
    """Return the bytes that `derivatives` needs while a block passes through the network.

    It holds a few arrays of the size of the largest signal.
    """
    block = min(n_points, _block_size(largest_signal, n_cotangents))
    return 4 * block * n_cotangents * largest_signal


def largest_signal(
    apply_fn: _arguments.ApplyFunction, params: PyTree[Array], x: PyTree[Array]
) -> int:
    """Return the bytes of the largest array between the parameters and outputs of a point."""
    return _traced(apply_fn, params, x).largest_signal()


def in_blocks(
    function: Callable[[PyTree[Array]], PyTree[Array]], points: PyTree[Array], block: int
) -> PyTree[Array]:
    """Return function(points), computed for `block` points at a time.

    The result for each point must depend on that point only.
    """
    n_points = len(jax.tree.leaves(points)[0])
    if n_points <= block:
        return function(points)
    n_blocks = -(-n_points // block)
    # The last block is padded with the last point.
    rows = jnp.minimum(jnp.arange(n_blocks * block), n_points - 1).reshape(n_blocks, block)
    results = jax.lax.map(
        lambda block_rows: function(jax.tree.map(lambda leaf: leaf[block_rows], points)), rows
    )
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n_points], results)


def _flat(jacobian: Float[Array, "c ..."]) -> Derivative:
    """Return a derivative that holds a Jacobian, with its parameter axes flattened."""
    return Derivative(None, jacobian.reshape(len(jacobian), -1))


def _join_uses(uses: list[Use], inputs: list[Array], signals: list[Array]) -> Derivative:
    """Return one derivative with the positions of all uses, or a Jacobian if that is smaller."""
    a = jnp.concatenate(inputs)
    g = jnp.concatenate(
        [jax.vmap(use.signals)(signal) for use, signal in zip(uses, signals)], axis=1
    )
    if a.ndim == 1:
        n_rows = uses[0].step.equation.invars[0].aval.shape[0]
        # A row outside the table was filled in, and depends on no parameter.
        g = jnp.where(((a >= 0) & (a < n_rows))[None, :, None], g, jnp.zeros((), g.dtype))
        if n_rows > max(g.shape[1:]):
            return Derivative(a, g)
        # A small table is multiplied by one-hot vectors: the product may have a small Jacobian.
        a = jax.nn.one_hot(a, n_rows)
    a = a.astype(g.dtype)
    n_outputs, t, n_out = g.shape
    if t > 1 and n_outputs * a.shape[1] * n_out <= t * (a.shape[1] + n_outputs * n_out):
        return _flat(_jacobian(a, g))
    return Derivative(a, g)


def _jacobian(
    a: Float[Array, "t n_in"], g: Float[Array, "c t n_out"]
) -> Float[Array, "c n_in n_out"]:
    """Return Σ_t a_t ⊗ g_ct as a batch of products.

    XLA would copy the transpose of g for one product over all outputs.
    """
    return jnp.einsum("ctk,ctm->ckm", jnp.broadcast_to(a, (len(g), *a.shape)), g)


def contract(first: Derivative, second: Derivative, outputs: str) -> Array:
    """Return the contribution of one parameter to the kernel.

    Args:
        first: Derivatives of n1 points.
        second: Derivatives of n2 points.
        outputs: One of `OUTPUTS`; "mean" gives the sum over outputs.

    Returns:
        The contribution, shaped as in `_signals`.
    """
    if first.inputs is None:
        return _signals(first.signals, second.signals, outputs)
    if first.inputs.shape[1] == 1:
        gram = _gram(first.inputs[:, 0], second.inputs[:, 0], first.signals.dtype)
        return _signals(first.signals, second.signals, outputs) * jnp.expand_dims(
            gram, _MISSING.get(outputs, ())
        )
    by_positions, by_jacobian = _multiplications(
        first, len(first.inputs), len(second.inputs), first.signals.shape[1], outputs
    )
    if first.inputs.ndim == 2 or by_positions < by_jacobian:
        return _by_positions(first, second, outputs)
    return _signals(jacobians(first), jacobians(second), outputs)


def jacobians(derivative: Derivative) -> Float[Array, "n c size"]:
    """Return the Jacobians of points, from inputs and signals at several positions."""
    result = jax.vmap(_jacobian)(derivative.inputs, derivative.signals)
    return result.reshape(*result.shape[:2], -1)


# Axes of the signals' products that the Gram matrix of the points lacks.
_MISSING = {"per-output": (0,), "full": (1, 3)}


def _signals(
    first: Float[Array, "n1 c ..."], second: Float[Array, "n2 c ..."], outputs: str
) -> Array:
    """Return the products of all signals.

    The shape is (n1, n2), summed over outputs; (c, n1, n2) for "per-output"; (n1, c, n2, c) for
    "full". The products run over two axes wherever possible: for a sum over more axes, XLA copies a
    transpose.
    """
    n1, n2, n_outputs = len(first), len(second), first.shape[1]
    if outputs == "per-output":
        first, second = (
            jnp.swapaxes(signals.reshape(*signals.shape[:2], -1), 0, 1)
            for signals in (first, second)
        )
        return jnp.einsum("cip,cjp->cij", first, second)
    if outputs == "full":
        rows = first.reshape(n1 * n_outputs, -1) @ second.reshape(n2 * n_outputs, -1).T
        return rows.reshape(n1, n_outputs, n2, n_outputs)
    return first.reshape(n1, -1) @ second.reshape(n2, -1).T


def _gram(first: Array, second: Array, dtype: jnp.dtype) -> Array:
    """Return the products of rows of inputs; row numbers of a lookup stand for one-hot vectors."""
    if first.ndim == 1:
        return (first[:, None] == second[None, :]).astype(dtype)
    return first @ second.T


def diagonal(derivatives: list[Derivative]) -> Float[Array, " n"]:
    """Return K_ii, summed over parameters and outputs.

    It is computed point by point, without pairs of points.
    """

    def entry(point: list[Derivative]) -> Array:
        single = jax.tree.map(lambda leaf: leaf[None], point)
        return sum(contract(derivative, derivative, "sum") for derivative in single)[0, 0]

    return jax.lax.map(entry, derivatives)


def flops(derivative: Derivative, n1: int, n2: int, n_outputs: int, outputs: str) -> float:
    """Return the floating-point operations of `contract`.

    Args:
        derivative: Shapes of the derivative of one point and one output.
        n1: Number of points in the first set.
        n2: Number of points in the second set.
        n_outputs: Number of outputs.
        outputs: One of `OUTPUTS`.

    Returns:
        The number of operations.
    """
    pairs = n_outputs**2 if outputs == "full" else n_outputs
    if derivative.inputs is None:
        return 2.0 * n1 * n2 * pairs * derivative.signals.shape[-1]
    by_positions, by_jacobian = _multiplications(derivative, n1, n2, n_outputs, outputs)
    is_lookup = derivative.inputs.ndim == 2
    return 2.0 * (by_positions if is_lookup else min(by_positions, by_jacobian))


def fewest_outputs(derivatives: list[Derivative]) -> int:
    """Return the smallest number of outputs to contract at once.

    With that many, the work that does not depend on the outputs costs at most a quarter.
    `derivatives` holds the shapes for one point and one output.
    """
    shared = each = 0
    for derivative in derivatives:
        inputs = derivative.inputs
        if inputs is not None and inputs.shape[1] == 1:
            shared += 1 if inputs.ndim == 2 else inputs.shape[2]
        each += derivative.signals.shape[-1]
    return max(1, -(-4 * shared // each))


def jacobian_size(derivative: Derivative) -> int:
    """Return the entries in the Jacobian of a point and output that `jacobians` forms, or 0."""
    inputs = derivative.inputs
    if inputs is None or inputs.ndim == 2 or inputs.shape[1] == 1:
        return 0
    return inputs.shape[-1] * derivative.signals.shape[-1]


def _multiplications(
    derivative: Derivative, n1: int, n2: int, n_outputs: int, outputs: str
) -> tuple[int, int]:
    """Return the number of multiplications by pairs of positions, and by Jacobians."""
    t, n_out = derivative.inputs.shape[1], derivative.signals.shape[-1]
    # Rows of a lookup are only compared.
    n_in = 1 if derivative.inputs.ndim == 2 else derivative.inputs.shape[2]
    pairs = n_outputs**2 if outputs == "full" else n_outputs
    by_positions = n1 * n2 * t**2 * (n_in + pairs * n_out)
    by_jacobian = (n1 + n2) * n_outputs * t * n_in * n_out + n1 * n2 * pairs * n_in * n_out
    return by_positions, by_jacobian


def _by_positions(first: Derivative, second: Derivative, outputs: str) -> Array:
    """Return Σ_ts (a_it · a_js)(g_ict · g_jds), for one point i at a time to limit the memory."""
    formula = {"per-output": "ctp,jcsp,tjs->cj", "full": "ctp,jdsp,tjs->cjd"}.get(
        outputs, "ctp,jcsp,tjs->j"
    )
    flat = second.inputs.reshape(-1, *second.inputs.shape[2:])

    def row(point: tuple[Array, Array]) -> Array:
        a, g = point
        gram = _gram(a, flat, g.dtype).reshape(len(a), *second.inputs.shape[:2])
        return jnp.einsum(formula, g, second.signals, gram)

    kernel = jax.lax.map(row, (first.inputs, first.signals))
    return jnp.moveaxis(kernel, 1, 0) if outputs == "per-output" else kernel
