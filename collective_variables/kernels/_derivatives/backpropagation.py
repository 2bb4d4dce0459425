"""Back-propagate from the outputs of a network to the derivatives by its parameters."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from collective_variables.kernels._derivatives import blocks, form
from collective_variables.kernels._derivatives.form import Derivative
from collective_variables.kernels._jaxpr import Program
from collective_variables.kernels._uses import Use
from collective_variables.networks import _arguments, variables


class Network(NamedTuple):
    """A network traced for one point, with the parameters whose derivatives have a known form.

    Attributes:
        program: The traced network.
        leaves: The parameters.
        uses: The uses of each parameter that is used only in products, by its place.
        biases: For each bias, by its place, the place of the matrix whose signals it shares.
    """

    program: Program
    leaves: list[Array]
    uses: dict[int, list[Use]]
    biases: dict[int, int]

    @classmethod
    def trace(
        cls,
        apply_fn: _arguments.ApplyFunction,
        params: PyTree[Array],
        x: PyTree[Array],
        *,
        structured: bool = True,
    ) -> "Network":
        """Trace a network.

        Args:
            apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
            params: The parameters.
            x: The points.
            structured: Whether to use inputs and signals where possible; otherwise all are
                Jacobians.

        Returns:
            The traced network.
        """
        program = _traced(apply_fn, params, x)
        uses = program.uses() if structured else {}
        return cls(program, variables.parameters(params), uses, program.biases(uses))

    def back_propagation(
        self, point: Sequence[Array]
    ) -> Callable[[Float[Array, "c n_outputs"]], dict[int, Derivative]]:
        """Run the network for one point, and return what takes cotangents back through it.

        Returns:
            A function that returns the derivatives of the combinations of outputs by all parameters
            but the biases, by place.
        """

        def run(
            taps: dict[int, list[Array]], free: dict[int, Array]
        ) -> tuple[Array, dict[int, list[Array]]]:
            leaves = [free.get(i, leaf) for i, leaf in enumerate(self.leaves)]
            return self.program.run(leaves, point, self.uses, taps)

        taps = {
            i: [jnp.zeros(use.step.result.shape, use.step.result.dtype) for use in uses]
            for i, uses in self.uses.items()
        }
        known = self.uses.keys() | self.biases.keys()
        free = {i: leaf for i, leaf in enumerate(self.leaves) if i not in known}
        _, back, inputs = jax.vjp(run, taps, free, has_aux=True)

        def pull_back(cotangents: Float[Array, "c n_outputs"]) -> dict[int, Derivative]:
            signals, jacobians = jax.vmap(back)(cotangents)
            # XLA would drop the rounding to 16 bits in the network if it joined the next step.
            jacobians = jax.lax.optimization_barrier(jacobians)
            by_uses = {i: _join_uses(uses, inputs[i], signals[i]) for i, uses in self.uses.items()}
            return by_uses | {i: form.flat(jacobian) for i, jacobian in jacobians.items()}

        return pull_back

    def with_biases(self, derivatives: dict[int, Derivative]) -> list[Derivative]:
        """Return the derivatives by all parameters in the order of their tree, biases included.

        A bias shares the signals of its matrix without a copy, so that XLA multiplies them once.
        """
        by_biases = {
            bias: Derivative(None, derivatives[matrix].signals[..., 0, :])
            for bias, matrix in self.biases.items()
        }
        every = derivatives | by_biases
        return [every[i] for i in range(len(self.leaves))]


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
    network = Network.trace(apply_fn, params, x, structured=structured)

    def point_derivatives(point: Sequence[Array]) -> dict[int, Derivative]:
        found = network.back_propagation(point)(cotangents)
        return {i: _smaller_form(derivative) for i, derivative in found.items()}

    size = blocks.n_in_cache(network.program.largest_signal(), len(cotangents))
    return network.with_biases(
        blocks.in_blocks(jax.vmap(point_derivatives), jax.tree.leaves(x), size)
    )


def largest_signal(
    apply_fn: _arguments.ApplyFunction, params: PyTree[Array], x: PyTree[Array]
) -> int:
    """Return the bytes of the largest array between the parameters and outputs of a point."""
    return _traced(apply_fn, params, x).largest_signal()


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


def _join_uses(uses: list[Use], inputs: list[Array], signals: list[Array]) -> Derivative:
    """Return one derivative with the positions of all uses."""
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
    return Derivative(a.astype(g.dtype), g)


def _smaller_form(derivative: Derivative) -> Derivative:
    """Return the derivative of a point, or its Jacobian if that is smaller."""
    a, g = derivative
    if a is None or a.ndim == 1:
        return derivative
    n_outputs, t, n_out = g.shape
    if t > 1 and n_outputs * a.shape[1] * n_out <= t * (a.shape[1] + n_outputs * n_out):
        return form.flat(form.point_jacobian(a, g))
    return derivative
