"""Residual network, transformer and graph network as Flax modules.

They take points first and treat each separately. None normalises over a batch, because a kernel
needs a function of single points.
"""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from collective_variables import _checks
from collective_variables.networks import sequential


class ResNet(nn.Module):
    """Residual network on images, normalised by groups.

    After He et al. (2016), "Identity mappings", with activations before convolutions. The first
    layer is a 3x3 convolution of `width` channels. Then follow `n_stages` stages of `n_blocks`
    residual blocks, each with two 3x3 convolutions. Each stage but the first halves the image and
    doubles the channels. A dense layer maps the means over the image to the outputs.

    Attributes:
        n_outputs: Number of outputs.
        width: Number of channels in the first stage.
        n_stages: Number of stages.
        n_blocks: Number of blocks per stage.
        activation: A name in `sequential.ACTIVATIONS`.
    """

    n_outputs: int
    width: int = 16
    n_stages: int = 2
    n_blocks: int = 1
    activation: str = "relu"

    @nn.compact
    def __call__(self, x: Float[Array, "n_points h w c"]) -> Float[Array, "n_points n_outputs"]:
        """Return the outputs of images."""
        activation = sequential.ACTIVATIONS[self.activation]
        x = _conv(self.width)(x)
        for stage in range(self.n_stages):
            for block in range(self.n_blocks):
                channels = self.width * 2**stage
                stride = 2 if stage > 0 and block == 0 else 1
                y = activation(_group_norm(x)(x))
                if y.shape[-1] != channels or stride != 1:
                    x = _conv(channels, stride, window=1)(y)
                y = _conv(channels, stride)(y)
                x = x + _conv(channels)(activation(_group_norm(y)(y)))
        x = activation(_group_norm(x)(x)).mean(axis=(1, 2))
        return nn.Dense(self.n_outputs)(x)


def _conv(channels: int, stride: int = 1, window: int = 3) -> sequential.Conv:
    """Return a convolution with Flax's initialisation that is fast on a CPU inside a loop."""
    return sequential.Conv(channels, (window, window), (stride, stride), "SAME", "lecun", None)


def _group_norm(x: Array) -> nn.GroupNorm:
    """Return a normalisation in groups of eight channels, or in one group of all."""
    return nn.GroupNorm(num_groups=x.shape[-1] // 8 if x.shape[-1] % 8 == 0 else 1)


class Transformer(nn.Module):
    """Transformer encoder on sequences, whose mean over tokens leads to the outputs.

    After Vaswani et al. (2017), normalised before each part. x holds tokens 1 … n_tokens, and 0
    after the end of a sequence; no token attends to those zeros.

    Attributes:
        n_outputs: Number of outputs.
        n_tokens: Number of different tokens.
        width: Number of features of a token.
        n_layers: Number of layers.
        n_heads: Number of attention heads.
        activation: A name in `sequential.ACTIVATIONS`.
    """

    n_outputs: int
    n_tokens: int
    width: int = 32
    n_layers: int = 2
    n_heads: int = 4
    activation: str = "gelu"

    @nn.compact
    def __call__(self, x: Float[Array, "n_points length"]) -> Float[Array, "n_points n_outputs"]:
        """Return the outputs of sequences."""
        tokens = x.astype(jnp.int32)
        is_token = tokens > 0
        y = nn.Embed(self.n_tokens + 1, self.width)(tokens)
        y = y + self.param(
            "positions", nn.initializers.normal(0.02), (1, x.shape[1], self.width)
        ).astype(y.dtype)
        mask = is_token[:, None, None, :]
        for _ in range(self.n_layers):
            normalised = nn.LayerNorm()(y)
            y = y + nn.MultiHeadDotProductAttention(self.n_heads)(normalised, mask=mask)
            hidden = sequential.ACTIVATIONS[self.activation](
                nn.Dense(4 * self.width)(nn.LayerNorm()(y))
            )
            y = y + nn.Dense(self.width)(hidden)
        return nn.Dense(self.n_outputs)(_mean_over(nn.LayerNorm()(y), is_token))


class GraphNetwork(nn.Module):
    """Message passing on graphs, whose sum over nodes leads to the outputs.

    After Gilmer et al. (2017). x holds a row for each node: its features, then its row of the
    adjacency matrix. Rows without features are padding. In every step a node adds a function of two
    things to its state: the state, and the sum of its neighbours' states, weighted by the adjacency
    matrix.

    Attributes:
        n_outputs: Number of outputs.
        width: Number of features of a state.
        n_steps: Number of steps.
        activation: A name in `sequential.ACTIVATIONS`.
    """

    n_outputs: int
    width: int = 32
    n_steps: int = 5
    activation: str = "relu"

    @nn.compact
    def __call__(
        self, x: Float[Array, "n_points n_nodes n_columns"]
    ) -> Float[Array, "n_points n_outputs"]:
        """Return the outputs of graphs."""
        n_nodes = x.shape[1]
        features, adjacency = x[..., :-n_nodes], x[..., -n_nodes:]
        is_node = (features != 0).any(axis=-1)
        activation = sequential.ACTIVATIONS[self.activation]
        state = nn.Dense(self.width)(features)
        for _ in range(self.n_steps):
            messages = jnp.einsum("pij,pjk->pik", adjacency, state)
            y = activation(nn.Dense(self.width)(jnp.concatenate([state, messages], axis=-1)))
            state = state + nn.Dense(self.width)(y)
        y = activation(nn.Dense(self.width)(nn.LayerNorm()(state)))
        return nn.Dense(self.n_outputs)(jnp.sum(y * is_node[..., None], axis=1))


def _mean_over(
    x: Float[Array, "n_points n k"], chosen: Bool[Array, "n_points n"]
) -> Float[Array, "n_points k"]:
    """Return the mean of x over the chosen rows."""
    weights = chosen.astype(x.dtype)
    return jnp.einsum("pn,pnk->pk", weights, x) / jnp.maximum(weights.sum(axis=1), 1.0)[:, None]


ARCHITECTURES = {"resnet": ResNet, "transformer": Transformer, "graph-network": GraphNetwork}


def build_architecture(name: str, **options: int | str) -> nn.Module:
    """Return a module of `ARCHITECTURES` with the given options.

    Also raises TypeError or ValueError for an unknown name or option, and for a value of an option
    that is no activation or positive integer.

    Args:
        name: Name of the architecture.
        **options: An activation and positive integers, by the names of the module's fields.

    Returns:
        The Flax module.

    Raises:
        ValueError: A required option is missing, or `width` is not a multiple of `n_heads`.
    """
    module = ARCHITECTURES[_checks.choice("architecture", name, ARCHITECTURES)]
    known = {
        field.name: field.default
        for field in dataclasses.fields(module)
        if field.name not in ("parent", "name")
    }
    for option, value in options.items():
        _checks.choice(f"options of {name}", option, known)
        if option == "activation":
            _checks.choice(option, value, sequential.ACTIVATIONS)
        else:
            _checks.integer(option, value, minimum=1)
    if missing := [
        option
        for option, default in known.items()
        if default is dataclasses.MISSING and option not in options
    ]:
        raise ValueError(
            f"{name} needs {', '.join(missing)}: received {', '.join(options) or 'no option'}."
        )
    network = module(**options)
    if isinstance(network, Transformer) and network.width % network.n_heads:
        raise ValueError(
            f"width must be a multiple of n_heads: received {network.width} and {network.n_heads}."
        )
    return network
