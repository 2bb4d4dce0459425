"""Count the floating-point operations of networks, which decide how many epochs are timed."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

BACKWARD = 3  # a gradient takes about as long as three forward passes
AT_ONCE = 1.5e10  # operations of what is timed, some tenths of a second


def per_point(
    network: nn.Module, params: PyTree[Array], points: Float[Array, "n_points ..."], /
) -> float:
    """Return the operations of a network for one point, as XLA counts them."""
    point = jnp.asarray(points[:1])
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        analysis = jax.jit(network.apply).lower(params, point).cost_analysis() or {}
    return max(1.0, float(analysis.get("flops", 0.0)))


def epochs(per_epoch: float, most: int, /) -> int:
    """Return how many epochs to time, from the operations of one epoch."""
    return int(min(most, max(2, AT_ONCE // per_epoch), 64))
