"""Use the trace of the kernel in training, as optax transformations.

A step of gradient descent moves the outputs along an eigenmode of the kernel by the learning rate
times its eigenvalue (Tovey et al. 2023, eq. 6). Summed over all eigenmodes that is the learning
rate times the trace. Dividing by the trace keeps the sum constant as the kernel grows.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from collective_variables import _checks

TraceFunction = Callable[[PyTree[Array]], Float[Array, ""]]


class TraceState(NamedTuple):
    """Hold the number of steps so far, the constant of the factor, and the present factor.

    The constant is the trace at which the factor is 1; it is 0 until the first step sets it.
    """

    count: Int[Array, ""]
    constant: Float[Array, ""]
    factor: Float[Array, ""]


def scale_by_trace(
    trace_fn: TraceFunction, *, every: int = 1, constant: float | None = None, epsilon: float = 1e-8
) -> optax.GradientTransformation:
    """Scale updates by constant/(Tr + epsilon), where Tr is the trace of the kernel.

    Tovey et al. 2023, eq. 6, implies that the trace acts as a learning rate; this factor cancels
    it. Chain it behind an optimiser, whose state, momentum included, does not change when the
    trace is computed again.

    Args:
        trace_fn: trace_fn(params) -> Tr, for instance `ntk_trace` on some points.
        every: Steps after which the trace is computed again.
        constant: Trace at which the factor is 1. None takes the trace at the first update, so the
            learning rate of the optimiser is the one at the start.
        epsilon: Added to the trace, against a division by 0.

    Returns:
        An optax transformation. Its `update` needs `params`; `init` does not call `trace_fn`.

    Raises TypeError if an option has the wrong type, and ValueError if `every` is below 1, or
    `constant` or `epsilon` is not positive.

    Example:
        >>> import jax.numpy as jnp
        >>> import optax
        >>> import collective_variables as cv
        >>> trace = lambda params: jnp.sum(params**2)
        >>> optimiser = optax.chain(optax.sgd(0.1), cv.scale_by_trace(trace, constant=1.0))
        >>> params = jnp.array([1.0, 2.0])
        >>> updates, _ = optimiser.update(jnp.ones(2), optimiser.init(params), params)
        >>> [f"{update:.3f}" for update in updates]
        ['-0.020', '-0.020']
    """
    _checks.integer("every", every, minimum=1)
    _checks.number("epsilon", epsilon, above=0.0)
    if constant is not None:
        _checks.number("constant", constant, above=0.0)

    def init(params: PyTree[Array]) -> TraceState:
        dtype = jnp.result_type(*jax.tree.leaves(params))
        initial = jnp.asarray(constant or 0.0, dtype)
        return TraceState(jnp.zeros((), jnp.int32), initial, jnp.ones((), dtype))

    def update(
        updates: PyTree[Array], state: TraceState, params: PyTree[Array] | None = None
    ) -> tuple[PyTree[Array], TraceState]:
        _check_params(params)

        def renewed() -> tuple[Array, Array]:
            trace = trace_fn(params).astype(state.factor.dtype)
            numerator = state.constant
            if constant is None:
                numerator = jnp.where(state.count == 0, trace, state.constant)
            return numerator, numerator / (trace + epsilon)

        numerator, factor = jax.lax.cond(
            state.count % every == 0, renewed, lambda: (state.constant, state.factor)
        )
        scaled = jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), updates)
        return scaled, TraceState(state.count + 1, numerator, factor)

    return optax.GradientTransformation(init, update)


def add_trace_gradient(trace_fn: TraceFunction, strength: float, /) -> optax.GradientTransformation:
    """Add strength · ∂Tr/∂params to gradients, as for the loss + strength · Tr.

    Chain it before an optimiser.

    Args:
        trace_fn: trace_fn(params) -> Tr, as in `scale_by_trace`.
        strength: Weight of the trace. A positive one keeps the trace small, a negative one makes it
            grow.

    Returns:
        An optax transformation. Its `update` needs `params`.

    Raises TypeError or ValueError for a strength that is not a finite number.
    """
    _checks.number("strength", strength)

    def update(
        updates: PyTree[Array], state: optax.EmptyState, params: PyTree[Array] | None = None
    ) -> tuple[PyTree[Array], optax.EmptyState]:
        _check_params(params)
        gradient = jax.grad(trace_fn)(params)
        return jax.tree.map(lambda leaf, slope: leaf + strength * slope, updates, gradient), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def _check_params(params: PyTree[Array] | None) -> None:
    if params is None:
        raise ValueError("params must be given, to compute the trace: received None.")
