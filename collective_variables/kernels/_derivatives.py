"""Derivatives of a network layer by layer, and their contraction into the neural tangent kernel.

A parameter W that enters y = Σ_t a_t W (a dense layer, a convolution written as patches times a
matrix, attention, an embedding) has the derivative Σ_t a_t ⊗ g_t, where g is the signal that
back-propagation brings to y. Its share of the kernel follows from a and g, and the Jacobian of all
parameters is never formed (Novak et al. 2022, "structured derivatives"). Every other parameter goes
through its own Jacobian; that of the bias of a dense layer is g.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from collective_variables.kernels._jaxpr import Program, Use
from collective_variables.networks import _arguments

OUTPUTS = ("mean", "sum", "full", "per-output")


class Derivative(NamedTuple):
    """The derivatives of a point's outputs c by one parameter (leading axis: points), in one of
    three forms.

    inputs a: (t, n_in), or for a lookup the rows (t,) that stand for one-hot vectors, with signals
    g: (c, t, n_out); the derivative is Σ_t a_t ⊗ g_ct. Or inputs None, with the derivative itself
    as signals: (c, size).
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
    """One `Derivative` for every leaf of `params`, so many points at a time that their signals fit
    the cache.

    Its c are the combinations of outputs in the rows of `cotangents`: the outputs themselves for
    rows of the identity. All of them are Jacobians if not `structured`.
    """
    leaves, points, program = (
        jax.tree.leaves(params),
        jax.tree.leaves(x),
        _traced(apply_fn, params, x),
    )
    uses = program.uses() if structured else {}
    biases = program.biases(uses)

    def of_point(point: Sequence[Array]) -> dict[int, Derivative]:
        def run(
            taps: dict[int, list[Array]], free: dict[int, Array]
        ) -> tuple[Array, dict[int, list[Array]]]:
            return program.run(
                [free.get(i, leaf) for i, leaf in enumerate(leaves)], point, uses, taps
            )

        taps = {
            i: [jnp.zeros(use.step.result.shape, use.step.result.dtype) for use in of]
            for i, of in uses.items()
        }
        free = {i: leaf for i, leaf in enumerate(leaves) if i not in uses and i not in biases}
        _, back, inputs = jax.vjp(run, taps, free, has_aux=True)
        signals, jacobians = jax.vmap(back)(cotangents)
        of_uses = {i: _of_uses(of, inputs[i], signals[i]) for i, of in uses.items()}
        return of_uses | {i: _of_jacobian(jacobian) for i, jacobian in jacobians.items()}

    found = in_blocks(
        jax.vmap(of_point), points, _block_size(program.largest_signal(), len(cotangents))
    )
    # Not a copy of the signals, so that XLA multiplies them once for a layer and its bias.
    found |= {bias: Derivative(None, found[leaf].signals[:, :, 0]) for bias, leaf in biases.items()}
    return [found[i] for i in range(len(leaves))]


def _traced(apply_fn: _arguments.ApplyFunction, params: PyTree[Array], x: PyTree[Array]) -> Program:
    """The network as a function of its parameters and one point, from the shapes of both."""
    leaves, tree = jax.tree.flatten(params)
    points, points_tree = jax.tree.flatten(x)

    def single(leaves: Sequence[Array], point: Sequence[Array]) -> Array:
        point = jax.tree.unflatten(points_tree, [leaf[None] for leaf in point])
        return apply_fn(jax.tree.unflatten(tree, leaves), point)[0]

    return Program.trace(
        single, leaves, [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in points]
    )


def _block_size(largest_signal: int, n_cotangents: int) -> int:
    """How many points are derived at once: as many as the signals of a layer fit a core's cache, or
    an accelerator.
    """
    memory = 2**22 if jax.default_backend() == "cpu" else 2**30
    return max(1, memory // (4 * n_cotangents * largest_signal))


def bytes_in_network(largest_signal: int, n_points: int, n_cotangents: int) -> int:
    """What `derivatives` takes while a block is in the network: a few arrays as large as the
    largest signal.
    """
    return (
        4 * min(n_points, _block_size(largest_signal, n_cotangents)) * n_cotangents * largest_signal
    )


def largest_signal(
    apply_fn: _arguments.ApplyFunction, params: PyTree[Array], x: PyTree[Array]
) -> int:
    """Bytes of the largest array through which an output of a point depends on the parameters."""
    return _traced(apply_fn, params, x).largest_signal()


def in_blocks(
    function: Callable[[PyTree[Array]], PyTree[Array]], points: PyTree[Array], block: int
) -> PyTree[Array]:
    """function(points), of which each point's result depends on that point alone, `block` points at
    a time.
    """
    n_points = len(jax.tree.leaves(points)[0])
    if n_points <= block:
        return function(points)
    n_blocks = -(-n_points // block)
    # The last block is filled up with the last point.
    rows = jnp.minimum(jnp.arange(n_blocks * block), n_points - 1).reshape(n_blocks, block)
    results = jax.lax.map(
        lambda of_block: function(jax.tree.map(lambda leaf: leaf[of_block], points)), rows
    )
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n_points], results)


def _of_jacobian(jacobian: Float[Array, "c ..."]) -> Derivative:
    return Derivative(None, jacobian.reshape(len(jacobian), -1))


def _of_uses(uses: list[Use], inputs: list[Array], signals: list[Array]) -> Derivative:
    """The positions of all uses joined; a Jacobian where that is smaller."""
    a = jnp.concatenate(inputs)
    g = jnp.concatenate(
        [jax.vmap(use.signals)(signal) for use, signal in zip(uses, signals)], axis=1
    )
    if a.ndim == 1:
        n_rows = uses[0].step.equation.invars[0].aval.shape[0]
        # A row that the table does not have was filled in, and depends on no parameter.
        g = jnp.where(((a >= 0) & (a < n_rows))[None, :, None], g, jnp.zeros((), g.dtype))
        if n_rows > max(g.shape[1:]):
            return Derivative(a, g)
        # Of a small table: as a product with one-hot vectors, which may have a small Jacobian.
        a = jax.nn.one_hot(a, n_rows)
    a = a.astype(g.dtype)
    n_outputs, t, n_out = g.shape
    if t > 1 and n_outputs * a.shape[1] * n_out <= t * (a.shape[1] + n_outputs * n_out):
        return _of_jacobian(_jacobian(a, g))
    return Derivative(a, g)


def _jacobian(
    a: Float[Array, "t n_in"], g: Float[Array, "c t n_out"]
) -> Float[Array, "c n_in n_out"]:
    """Σ_t a_t ⊗ g_ct as a batch of products, because XLA copies g transposed for one product over
    all outputs.
    """
    return jnp.einsum("ctk,ctm->ckm", jnp.broadcast_to(a, (len(g), *a.shape)), g)


def contract(first: Derivative, second: Derivative, outputs: str) -> Array:
    """The share of one parameter in the kernel: (n1, n2), summed over outputs also for "mean", or
    see `_signals`.
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


def jacobians(of: Derivative) -> Float[Array, "n c size"]:
    """The derivatives themselves, of what is given by inputs and signals at several positions."""
    made = jax.vmap(_jacobian)(of.inputs, of.signals)
    return made.reshape(*made.shape[:2], -1)


# The axes that a kernel of outputs has more than the Gram matrix of the points.
_MISSING = {"per-output": (0,), "full": (1, 3)}


def _signals(
    first: Float[Array, "n1 c ..."], second: Float[Array, "n2 c ..."], outputs: str
) -> Array:
    """Products of all signals, (n1, n2) summed over outputs, "per-output" (c, n1, n2), "full" (n1,
    c, n2, c).

    Of two axes wherever that is possible: XLA transposes a copy for a product that sums over more.
    """
    n1, n2, n_outputs = len(first), len(second), first.shape[1]
    if outputs == "per-output":
        first, second = (
            jnp.swapaxes(of.reshape(*of.shape[:2], -1), 0, 1) for of in (first, second)
        )
        return jnp.einsum("cip,cjp->cij", first, second)
    if outputs == "full":
        rows = first.reshape(n1 * n_outputs, -1) @ second.reshape(n2 * n_outputs, -1).T
        return rows.reshape(n1, n_outputs, n2, n_outputs)
    return first.reshape(n1, -1) @ second.reshape(n2, -1).T


def _gram(first: Array, second: Array, dtype: jnp.dtype) -> Array:
    """Products of the rows of two arrays of inputs; numbers of rows that were looked up stand for
    one-hot vectors.
    """
    if first.ndim == 1:
        return (first[:, None] == second[None, :]).astype(dtype)
    return first @ second.T


def diagonal(derivatives: list[Derivative]) -> Float[Array, " n"]:
    """K_ii of all parameters together, summed over outputs; point by point, so that no pair of
    points is computed.
    """

    def of_point(point: list[Derivative]) -> Array:
        single = jax.tree.map(lambda leaf: leaf[None], point)
        return sum(contract(of, of, "sum") for of in single)[0, 0]

    return jax.lax.map(of_point, derivatives)


def flops(of: Derivative, n1: int, n2: int, n_outputs: int, outputs: str) -> float:
    """Floating-point operations of `contract` for so many points and outputs, from the shapes of
    one of each.
    """
    pairs = n_outputs**2 if outputs == "full" else n_outputs
    if of.inputs is None:
        return 2.0 * n1 * n2 * pairs * of.signals.shape[-1]
    by_positions, by_jacobian = _multiplications(of, n1, n2, n_outputs, outputs)
    return 2.0 * (by_positions if of.inputs.ndim == 2 else min(by_positions, by_jacobian))


def fewest_outputs(derivatives: list[Derivative]) -> int:
    """How many outputs to contract at once at least, so that what does not depend on them costs a
    quarter at most.

    From the shapes of the derivatives of a point and one output.
    """
    shared = each = 0
    for of in derivatives:
        if of.inputs is not None and of.inputs.shape[1] == 1:
            shared += 1 if of.inputs.ndim == 2 else of.inputs.shape[2]
        each += of.signals.shape[-1]
    return max(1, -(-4 * shared // each))


def jacobian_size(of: Derivative) -> int:
    """Numbers in the Jacobian, of a point and output, that `jacobians` makes of this derivative; 0
    if there is none.
    """
    if of.inputs is None or of.inputs.ndim == 2 or of.inputs.shape[1] == 1:
        return 0
    return of.inputs.shape[-1] * of.signals.shape[-1]


def _multiplications(
    of: Derivative, n1: int, n2: int, n_outputs: int, outputs: str
) -> tuple[int, int]:
    """How many it takes by all pairs of positions, and by the Jacobians of this parameter."""
    t, n_out = of.inputs.shape[1], of.signals.shape[-1]
    # Looked up rows are compared.
    n_in = 1 if of.inputs.ndim == 2 else of.inputs.shape[2]
    pairs = n_outputs**2 if outputs == "full" else n_outputs
    by_positions = n1 * n2 * t**2 * (n_in + pairs * n_out)
    by_jacobian = (n1 + n2) * n_outputs * t * n_in * n_out + n1 * n2 * pairs * n_in * n_out
    return by_positions, by_jacobian


def _by_positions(first: Derivative, second: Derivative, outputs: str) -> Array:
    """Σ_ts (a_it · a_js)(g_ict · g_jds), one point i at a time to bound the memory."""
    formula = {"per-output": "ctp,jcsp,tjs->cj", "full": "ctp,jdsp,tjs->cjd"}.get(
        outputs, "ctp,jcsp,tjs->j"
    )
    flat = second.inputs.reshape(-1, *second.inputs.shape[2:])

    def row(of_point: tuple[Array, Array]) -> Array:
        a, g = of_point
        gram = _gram(a, flat, g.dtype).reshape(len(a), *second.inputs.shape[:2])
        return jnp.einsum(formula, g, second.signals, gram)

    kernel = jax.lax.map(row, (first.inputs, first.signals))
    return jnp.moveaxis(kernel, 1, 0) if outputs == "per-output" else kernel
