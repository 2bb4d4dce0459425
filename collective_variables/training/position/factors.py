"""The factors of the rate at which a loss falls, inside a compiled program."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from collective_variables.kernels.traces import exact
from collective_variables.networks import variables
from collective_variables.networks._arguments import ApplyFunction


class Slopes(NamedTuple):
    """The squared derivatives of a loss.

    Attributes:
        chi_loss: χ_loss = ‖g‖², by the outputs.
        delta_loss: δL = ‖∇_θ L‖², by the parameters.
    """

    chi_loss: Float[Array, ""]
    delta_loss: Float[Array, ""]


class Factors(NamedTuple):
    """The rate δL = χ_loss χ_net χ_pos at which a loss falls, and its factors (see `decompose`)."""

    chi_loss: float | Float[Array, ""]
    chi_net: float | Float[Array, ""]
    chi_pos: float | Float[Array, ""]
    delta_loss: float | Float[Array, ""]


def from_slopes(chi_loss: float, chi_net: float, delta_loss: float) -> Factors:
    """Return the factors with χ_pos = δL/(χ_loss χ_net), NaN where χ_loss or χ_net is 0."""
    scale = chi_loss * chi_net
    return Factors(chi_loss, chi_net, delta_loss / scale if scale != 0 else math.nan, delta_loss)


def compute_slopes(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    loss: Callable[[Float[Array, "n_points n_outputs"]], Float[Array, ""]],
) -> Slopes:
    """Return the squared derivatives of loss(outputs); a function that JAX can trace.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
        params: Its parameters.
        x: The points.
        loss: The loss of all points as a function of their outputs.
    """
    function, leaves = variables.differentiable(apply_fn, params)
    outputs, back = jax.vjp(lambda leaves: function(leaves, x), leaves)
    signals = jax.grad(loss)(outputs)
    (by_parameters,) = back(signals)
    squares = [jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(by_parameters)]
    return Slopes(jnp.vdot(signals, signals), jnp.asarray(sum(squares)))


def compute_factors(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    loss: Callable[[Float[Array, "n_points n_outputs"]], Float[Array, ""]],
) -> Factors:
    """Return the decomposition of the rate at which loss(outputs) falls, without a kernel.

    The arguments are those of `compute_slopes`.
    """
    slopes = compute_slopes(apply_fn, params, x, loss)
    chi_net = exact.ntk_trace(apply_fn, params, x, outputs="sum")
    return Factors(
        slopes.chi_loss,
        chi_net,
        slopes.delta_loss / (slopes.chi_loss * chi_net),  # 0/0 is NaN: nothing falls
        slopes.delta_loss,
    )
