"""The trace of the kernel as a step size: an optax transformation that scales updates by the inverse of the trace.

A step of gradient descent moves the outputs along an eigenmode of the kernel by the learning rate times its eigenvalue
(Tovey et al. 2023, eq. 6), so all of them together by the learning rate times the trace. Dividing by the trace keeps
that sum as the kernel grows.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from collective_variables import checks

TraceOf = Callable[[PyTree[Array]], Float[Array, ""]]


class TraceState(NamedTuple):
    """Steps done, the trace that `constant` stands for, and the factor in force."""

    count: Int[Array, ""]
    constant: Float[Array, ""]
    factor: Float[Array, ""]


def scale_by_trace(
    trace_of: TraceOf, *, every: int = 1, constant: float | None = None, epsilon: float = 1e-8
) -> optax.GradientTransformation:
    """Scale updates by constant/(Tr + epsilon), with the trace anew every `every` steps; chain it behind an optimiser.

    trace_of(params) -> Tr, for instance `ntk.trace` on some points. constant: None takes the trace of the initial
    parameters, so that the optimiser's own learning rate is the one at the start. The optimiser's state, momentum
    included, goes on as it is when the trace is renewed. `update` needs params.

    Raises TypeError or ValueError for a constant or epsilon that is not positive, or `every` below 1.
    """
    checks.integer("every", every, minimum=1)
    checks.number("epsilon", epsilon, above=0.0)
    if constant is not None:
        checks.number("constant", constant, above=0.0)

    def init(params: PyTree[Array]) -> TraceState:
        trace = jnp.asarray(trace_of(params))
        target = trace if constant is None else jnp.full_like(trace, constant)
        return TraceState(jnp.zeros((), jnp.int32), target, target / (trace + epsilon))

    def update(updates: PyTree[Array], state: TraceState, params: PyTree[Array] | None = None) -> tuple:
        if params is None:
            raise ValueError("params must be given to scale by their trace: received None.")
        factor = jax.lax.cond(
            state.count % every == 0, lambda: state.constant / (trace_of(params) + epsilon), lambda: state.factor
        )
        scaled = jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), updates)
        return scaled, TraceState(state.count + 1, state.constant, factor)

    return optax.GradientTransformation(init, update)
