"""Draw and count the parameters of a network, and check that the network fits the data."""

import math

import flax.linen as nn
import jax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from collective_variables.networks import checking, frozen, imported, sequential


def initialise(
    network: nn.Module, key: PRNGKeyArray, inputs: Float[Array, "n_points ..."]
) -> PyTree[Array]:
    """Draw parameters of `network`.

    Args:
        network: The network.
        key: Random key.
        inputs: Points, whose shape and dtype determine those of the parameters.

    Returns:
        The parameters, in the dtype of `inputs`.
    """
    params = network.init(key, inputs[:1])
    return jax.tree.map(lambda leaf: leaf.astype(inputs.dtype), params)


def n_parameters(network: nn.Module, inputs: Float[Array, "n_points ..."]) -> int:
    """Count the learned parameters of `network` for points like `inputs`; nothing is computed."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), inputs[:1])
    if isinstance(network, frozen.Frozen):
        shapes = shapes["params"]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def n_outputs(network: nn.Module, inputs: Float[Array, "n_points ..."]) -> int:
    """Count the outputs of `network` for points like `inputs`; nothing is computed."""
    point = jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)
    params = jax.eval_shape(network.init, jax.random.key(0), point)
    return jax.eval_shape(network.apply, params, point).shape[-1]


def check_points(
    network: nn.Module | imported.Model, inputs: Float[Array, "n_points ..."], /
) -> None:
    """Check that `network` has no variables but parameters, and treats every point separately.

    Also raises the errors of `imported.check_model` or `checking.check_variables`. Networks of
    layers pass without a check.

    Args:
        network: The network.
        inputs: Points (n_points, ...).

    Raises:
        ValueError: The network has other variables, or is not a network.
    """
    if isinstance(network, imported.Model):
        imported.check_model(network, inputs)
        return
    if isinstance(network, frozen.Frozen):
        check_points(network.network, inputs)
        return
    if isinstance(network, sequential.Network):
        return
    name = type(network).__name__
    if not isinstance(network, nn.Module):
        raise ValueError(
            f"network must be a Flax module, or what load_model returns: received {name}. "
            "load_model takes NNX classes and pairs of functions by their import path."
        )
    points = inputs[:2]
    variables = jax.eval_shape(network.init, jax.random.key(0), points[:1])
    if others := sorted(set(variables) - {"params"}):
        raise ValueError(
            f"The network {name} must have no variables but parameters: received "
            f"{', '.join(others)}. Load it by its import path (load_model), which keeps them fixed."
        )
    checking.check_variables(
        network.apply, network.apply, variables, points, name=f"The network {name}"
    )


def check_fit(
    network: nn.Module | imported.Model, inputs: Array, targets: Float[Array, "n_points n_outputs"]
) -> None:
    """Check that `network` accepts `inputs` and has an output for each target column.

    Also raises the errors of `check_points`.

    Args:
        network: The network.
        inputs: Points (n_points, ...).
        targets: Targets (n_points, n_outputs).

    Raises:
        ValueError: The targets are not a matrix, or the numbers of outputs differ.
    """
    check_points(network, inputs)
    width = n_outputs(network, inputs)
    if targets.ndim != 2:
        raise ValueError(
            f"targets must be (n_points, n_outputs): received the shape {targets.shape}."
        )
    if width != targets.shape[1]:
        raise ValueError(
            "The last layer must have as many outputs as the targets: "
            f"{width} != {targets.shape[1]}."
        )
