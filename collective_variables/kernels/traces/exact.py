"""The trace of the kernel from the squared norms of all derivatives."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from collective_variables import _checks
from collective_variables.kernels import _calls
from collective_variables.kernels._derivatives import squares
from collective_variables.kernels._tiles import exact_products
from collective_variables.kernels._traced import SHARED, StandIn, StandIns
from collective_variables.networks._arguments import ApplyFunction, check_network, checked_points


def ntk_trace(
    apply_fn: ApplyFunction, params: PyTree[Array], x: PyTree[Array], *, outputs: str = "mean"
) -> Float[Array, ""]:
    """Return the trace Tr K = Σ_i K_ii of `empirical_ntk` without computing the kernel.

    K_ii is a sum of squared norms of derivatives, Σ_c ‖J_c(x_i)‖². They are computed in blocks of
    points and outputs, so that the memory does not grow with the number of points.

    Programs are kept as by `empirical_ntk`. Raises ValueError in the same cases as `empirical_ntk`.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
        params: The parameters, an array or a tree of arrays.
        x: The points, an array or a tree of arrays with points along their first axes.
        outputs: "mean" or "sum", over the outputs of the network.

    Returns:
        The trace, a scalar in the dtype of the kernel.

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


def compute_trace(
    stand_ins: StandIns,
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    outputs: str,
) -> Float[Array, ""]:
    """Return `ntk_trace`, computed with the programs of these stand-ins.

    Args:
        stand_ins: The stand-ins that hold the compiled programs.
        apply_fn: As in `ntk_trace`.
        params: As in `ntk_trace`.
        x: As in `ntk_trace`.
        outputs: As in `ntk_trace`.

    Returns:
        The trace.
    """
    _checks.choice("outputs", outputs, ("mean", "sum"))
    x = checked_points("x", x)
    with stand_ins.traceable(apply_fn, params, x) as function:
        params = function.checked(params, x)
        check_network(function, params, x)
        scale = _calls.output_scale(outputs, jax.eval_shape(function, params, x).shape[1])
        trace = function.program(("trace", scale), lambda: _build(function, scale))
        return trace(params, x)


def _build(apply_fn: StandIn, scale: float) -> Callable[..., Float[Array, ""]]:
    """Return the compiled function of parameters and points that computes the trace."""
    return jax.jit(exact_products(partial(_trace, apply_fn, scale)))


def _trace(
    apply_fn: StandIn, scale: float, params: PyTree[Array], x: PyTree[Array]
) -> Float[Array, ""]:
    """Return the trace from the squared norms of the derivatives of each point and output."""
    result = jax.eval_shape(apply_fn, params, x)
    rows = jnp.eye(result.shape[1], dtype=result.dtype)
    return scale * jnp.sum(squares.squared_norms(apply_fn, params, x, rows))
