"""Build the network of the loop for the points and labels that it meets."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from collective_variables.active_learning.labels import Labels
from collective_variables.networks import parameters, sequential

DENSE = ("dense 128", "dense 128")
CONVOLUTIONAL = ("conv 32 3x3", "avgpool 2x2", "conv 32 3x3", "avgpool 2x2", "dense 128")
ACTIVATION = "silu"


def default_layers(points: Float[np.ndarray, "n_points ..."], /) -> tuple[str, ...]:
    """Return the hidden layers of the default network: with convolutions for images."""
    return CONVOLUTIONAL if points.ndim == 4 else DENSE


def build_network(
    network: nn.Module | Sequence[str] | None,
    points: Float[np.ndarray, "n_points ..."],
    n_outputs: int,
    /,
    *,
    activation: str = ACTIVATION,
) -> nn.Module:
    """Return a network with these hidden layers, or the default ones, and `n_outputs` outputs.

    A Flax network is returned as it is.
    """
    if network is None:
        network = default_layers(points)
    if isinstance(network, Sequence):
        hidden = [*network, f"dense {n_outputs}"]
        return sequential.build_network(hidden, activation=activation)
    return network


def build_for_labels(
    network: nn.Module | Sequence[str] | None,
    points: Float[np.ndarray, "n_points ..."],
    labels: Labels | None,
    /,
    *,
    activation: str = ACTIVATION,
) -> tuple[nn.Module, Labels | None]:
    """Return a network with an output for each target, and the targets for its outputs."""
    n_outputs = 1 if labels is None else labels.targets.shape[1]
    if network is None or isinstance(network, Sequence):
        return build_network(network, points, n_outputs, activation=activation), labels
    parameters.check_points(network, jnp.asarray(points[:2]))
    if labels is None or labels.task == "regression":
        return network, labels
    # Classes that no label has yet have an output, too.
    missing = parameters.n_outputs(network, jnp.asarray(points[:1])) - n_outputs
    if missing > 0:
        labels = labels._replace(targets=np.pad(labels.targets, ((0, 0), (0, missing))))
    return network, labels
