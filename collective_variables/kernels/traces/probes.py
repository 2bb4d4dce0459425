"""The trace of the kernel from random combinations of the outputs (Hutchinson 1989)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from collective_variables import _checks, _keys
from collective_variables.kernels import _calls
from collective_variables.kernels._derivatives import squares
from collective_variables.kernels._tiles import exact_products
from collective_variables.kernels._traced import SHARED, StandIn, StandIns
from collective_variables.networks._arguments import (
    ApplyFunction,
    check_network,
    checked_points,
    n_points,
)


class TraceEstimate(NamedTuple):
    """An estimate of the trace of a kernel.

    Attributes:
        trace: The estimate, without bias.
        standard_error: Its standard error, from the differences between the probes of each point.
    """

    trace: float
    standard_error: float


def estimate_trace(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    n_probes: int = 2,
    *,
    key: PRNGKeyArray,
    outputs: str = "mean",
) -> TraceEstimate:
    """Estimate the trace of the kernel of a network with many outputs.

    A probe gives every point random signs v_i for its outputs, and Σ_i ‖∇_θ (v_i · f(x_i))‖² is the
    trace of the sum over outputs on average (Hutchinson 1989). Every point has separate signs, so
    the error falls with the square root of the number of points too, and few probes suffice. The
    cost is that of `ntk_trace` for n_probes outputs. A network with one output has no error.

    Raises ValueError in the same cases as `empirical_ntk`, and ValueError or TypeError for fewer
    than two probes and for a key that is no JAX key.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
        params: The parameters, an array or a tree of arrays.
        x: The points, an array or a tree of arrays with points along their first axes.
        n_probes: Number of probes, two at least.
        key: A JAX key for the signs.
        outputs: "mean" or "sum", over the outputs of the network.

    Returns:
        The estimate and its standard error.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> def linear(w, x):
        ...     return x @ w
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
        >>> cv.estimate_trace(linear, jnp.array([[3.0, 1.0], [4.0, 1.0]]), x, key=jax.random.key(0))
        TraceEstimate(trace=7.0, standard_error=0.0)
    """
    return compute_estimate(SHARED, apply_fn, params, x, n_probes, key, outputs)


def compute_estimate(
    stand_ins: StandIns,
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    n_probes: int,
    key: PRNGKeyArray,
    outputs: str,
) -> TraceEstimate:
    """Return `estimate_trace`, computed with the programs of these stand-ins.

    Args:
        stand_ins: The stand-ins that hold the compiled programs.
        apply_fn: As in `estimate_trace`.
        params: As in `estimate_trace`.
        x: As in `estimate_trace`.
        n_probes: As in `estimate_trace`.
        key: As in `estimate_trace`.
        outputs: As in `estimate_trace`.

    Returns:
        The estimate.
    """
    _checks.choice("outputs", outputs, ("mean", "sum"))
    n_probes = _checks.integer("n_probes", n_probes, minimum=2)
    _keys.check_key(key)
    x = checked_points("x", x)
    with stand_ins.traceable(apply_fn, params, x) as function:
        params = function.checked(params, x)
        check_network(function, params, x)
        scale = _calls.output_scale(outputs, jax.eval_shape(function, params, x).shape[1])
        program = function.program(("probes", n_probes), lambda: _build(function, n_probes))
        by_probe = np.asarray(program(params, x, key), np.float64)
    variances = by_probe.var(axis=1, ddof=1) / n_probes
    return TraceEstimate(
        scale * float(by_probe.mean(axis=1).sum()), scale * float(np.sqrt(variances.sum()))
    )


def _build(apply_fn: StandIn, n_probes: int) -> Callable[..., Float[Array, "n_points n_probes"]]:
    """Return the compiled function of parameters, points and key that computes the norms."""
    return jax.jit(exact_products(partial(_squared_norms, apply_fn, n_probes)))


def _squared_norms(
    apply_fn: StandIn, n_probes: int, params: PyTree[Array], x: PyTree[Array], key: PRNGKeyArray
) -> Float[Array, "n_points n_probes"]:
    """Return ‖∇_θ (v_i · f(x_i))‖² of each point and probe."""
    result = jax.eval_shape(apply_fn, params, x)
    signs = jax.random.rademacher(key, (n_points(x), n_probes, result.shape[1]), result.dtype)
    rows = jnp.eye(n_probes, dtype=result.dtype)

    def combined(params: PyTree[Array], points: tuple[PyTree[Array], Array]) -> Array:
        return jnp.einsum("nvc,nc->nv", points[1], apply_fn(params, points[0]))

    return squares.squared_norms(combined, params, (x, signs), rows)
