"""Outputs and gradients of a network in blocks of points that fit the caches."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from collective_variables.networks import sequential

# Number of images that go through a network at once on a CPU, forward and with the gradient. Their
# activations fit its caches, which makes a convolution several times faster. An accelerator has
# memory for more.
IMAGES = 16
IMAGES_WITH_GRADIENT = 8
ON_ACCELERATOR = 4096


def forward(
    network: nn.Module,
    params: PyTree[Array],
    inputs: Float[Array, "n_points ..."],
    *,
    at_once: int = 1,
) -> Float[Array, "n_points n_outputs"]:
    """Return network.apply(params, inputs), for images in blocks.

    Tables, and images that dense layers flatten, are processed as a whole.

    Args:
        network: The network.
        params: Its parameters.
        inputs: Points (n_points, ...).
        at_once: Number of independent blocks in one step of the loop. Two use the cores better than
            one if no other thread is running; the outputs are the same.

    Returns:
        The outputs (n_points, n_outputs).
    """
    block = block_size(network, inputs, IMAGES)
    if len(inputs) <= block:
        return network.apply(params, inputs)
    shape = jax.eval_shape(network.apply, params, inputs)

    def add_blocks(number: Array, outputs: Array) -> Array:
        for i in range(at_once):
            # The last block ends with the last point, and may repeat outputs of the one before.
            start = jnp.minimum((at_once * number + i) * block, len(inputs) - block)
            points = jax.lax.dynamic_slice_in_dim(inputs, start, block)
            outputs = jax.lax.dynamic_update_slice_in_dim(
                outputs, network.apply(params, points), start, axis=0
            )
        return outputs

    n_steps = -(-len(inputs) // (at_once * block))
    return jax.lax.fori_loop(0, n_steps, add_blocks, jnp.zeros(shape.shape, shape.dtype))


def mean_loss_and_gradient(
    network: nn.Module,
    loss: Callable[[Array, Array], Array],
    params: PyTree[Array],
    inputs: Float[Array, "size ..."],
    targets: Float[Array, "size n_outputs"],
    n_points: Int[Array, ""] | int,
    *,
    at_once: int = 1,
) -> tuple[Float[Array, ""], PyTree[Array]]:
    """Return the mean loss of the first `n_points` points, and its gradient by `params`.

    Points are processed as a whole or in blocks, as in `forward`; steps with only padding are
    skipped.

    Args:
        network: The network.
        loss: Function loss(outputs, targets) that returns a loss for each point.
        params: The parameters.
        inputs: Points; those after the first `n_points` are padding, any finite points.
        targets: Targets (size, n_outputs).
        n_points: Number of points, at least 1.
        at_once: As in `forward`.

    Returns:
        The mean loss and a tree of gradients.
    """
    size = len(inputs)
    block = min(block_size(network, inputs, IMAGES_WITH_GRADIENT), size)

    def block_loss(
        places: Int[Array, " block"], inputs: Array, targets: Array
    ) -> tuple[Array, PyTree[Array]]:
        weights = jnp.where(places < n_points, 1.0 / jnp.asarray(n_points, inputs.dtype), 0.0)
        return jax.value_and_grad(
            lambda params: jnp.sum(weights * loss(network.apply(params, inputs), targets))
        )(params)

    def add_blocks(
        number: Array, total: tuple[Array, PyTree[Array]]
    ) -> tuple[Array, PyTree[Array]]:
        for i in range(at_once):
            places = (at_once * number + i) * block + jnp.arange(block)
            rows = jnp.minimum(places, size - 1)
            total = jax.tree.map(jnp.add, total, block_loss(places, inputs[rows], targets[rows]))
        return total

    if block == size:
        return block_loss(jnp.arange(size), inputs, targets)
    zero = jnp.zeros((), inputs.dtype), jax.tree.map(jnp.zeros_like, params)
    return jax.lax.fori_loop(0, -(-n_points // (at_once * block)), add_blocks, zero)


def block_size(network: nn.Module, inputs: Float[Array, "n_points ..."], images: int) -> int:
    """Return how many points go through a network at once: all, or `images` images on a CPU."""
    is_dense = isinstance(network, sequential.Network) and all(
        layer.kind == "dense" for layer in network.layers
    )
    if inputs.ndim == 2 or is_dense:
        return len(inputs)
    return images if jax.default_backend() == "cpu" else ON_ACCELERATOR
