"""The trace of the kernel in training, as optax transformations: the step size divided by it, or a
penalty on it.

A step of gradient descent moves the outputs along an eigenmode of the kernel by the learning rate
times its eigenvalue (Tovey et al. 2023, eq. 6), so all of them together by the learning rate times
the trace. Dividing by the trace keeps that sum as the kernel grows.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from collective_variables import _checks

TraceOf = Callable[[PyTree[Array]], Float[Array, ""]]


class TraceState(NamedTuple):
    """Steps done, the trace at which the factor is 1 (0 until it is taken from the first step), and
    the factor in force.
    """

    count: Int[Array, ""]
    constant: Float[Array, ""]
    factor: Float[Array, ""]


def scale_by_trace(
    trace_of: TraceOf, *, every: int = 1, constant: float | None = None, epsilon: float = 1e-8
) -> optax.GradientTransformation:
    """Scale updates by constant/(Tr + epsilon), with the trace anew every `every` steps; chain it
    behind an optimiser.

    trace_of(params) -> Tr, for instance `empirical.ntk_trace` on some points; `init` does not call
    it. constant: None takes the trace at the first update, so that the optimiser's own learning
    rate is the one at the start. The optimiser's state, momentum included, goes on as it is when
    the trace is renewed. `update` needs params.

    Raises TypeError or ValueError for a constant or epsilon that is not positive, or `every` below
    1.
    """
    _checks.integer("every", every, minimum=1)
    _checks.number("epsilon", epsilon, above=0.0)
    if constant is not None:
        _checks.number("constant", constant, above=0.0)

    def init(params: PyTree[Array]) -> TraceState:
        dtype = jnp.result_type(*jax.tree.leaves(params))
        return TraceState(
            jnp.zeros((), jnp.int32), jnp.asarray(constant or 0.0, dtype), jnp.ones((), dtype)
        )

    def update(
        updates: PyTree[Array], state: TraceState, params: PyTree[Array] | None = None
    ) -> tuple:
        _check_given(params)

        def renewed() -> tuple[Array, Array]:
            trace = trace_of(params).astype(state.factor.dtype)
            of_first = (
                jnp.where(state.count == 0, trace, state.constant)
                if constant is None
                else state.constant
            )
            return of_first, of_first / (trace + epsilon)

        of_first, factor = jax.lax.cond(
            state.count % every == 0, renewed, lambda: (state.constant, state.factor)
        )
        scaled = jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), updates)
        return scaled, TraceState(state.count + 1, of_first, factor)

    return optax.GradientTransformation(init, update)


def add_trace_gradient(trace_of: TraceOf, strength: float, /) -> optax.GradientTransformation:
    """Add strength · ∂Tr/∂params to gradients, as those of the loss + strength · Tr; chain it
    before an optimiser.

    trace_of(params) -> Tr as in `scale_by_trace`. strength: positive to keep the trace small,
    negative to make it grow. `update` needs params. Raises TypeError or ValueError for a strength
    that is no finite number.
    """
    _checks.number("strength", strength)

    def update(
        updates: PyTree[Array], state: optax.EmptyState, params: PyTree[Array] | None = None
    ) -> tuple:
        _check_given(params)
        return jax.tree.map(
            lambda leaf, of: leaf + strength * of, updates, jax.grad(trace_of)(params)
        ), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)


def _check_given(params: PyTree[Array] | None) -> None:
    if params is None:
        raise ValueError("params must be given, of which the trace is: received None.")
