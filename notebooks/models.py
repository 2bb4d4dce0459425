"""Show custom networks, as the notebook and a group of params.yaml use them.

A section `NAME_Network: {model: notebooks.models.Residual, options: {n_outputs: 1, width: 64}}`
replaces one with layers.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Parameters = dict[str, Float[Array, "..."]]


class Residual(nn.Module):
    """A Flax module of dense layers, each added to its input."""

    n_outputs: int
    width: int = 64
    depth: int = 3

    @nn.compact
    def __call__(self, x: Float[Array, "n_points n_inputs"]) -> Float[Array, "n_points n_outputs"]:
        x = nn.Dense(self.width)(x.reshape(len(x), -1))
        for _ in range(self.depth):
            x = x + nn.Dense(self.width)(nn.gelu(nn.LayerNorm()(x)))
        return nn.Dense(self.n_outputs)(x)


def fourier(n_outputs: int, n_frequencies: int = 32) -> tuple[Callable, Callable]:
    """Return a linear model of learned cosines as functions init(key, x) and apply(params, x)."""

    def init(key: PRNGKeyArray, x: Float[Array, "n_points n_inputs"]) -> Parameters:
        frequencies, phases, weights = jax.random.split(key, 3)
        return {
            "frequencies": jax.random.normal(frequencies, (x.shape[1], n_frequencies)),
            "phases": jax.random.uniform(phases, (1, n_frequencies), maxval=2 * jnp.pi),
            "weights": jax.random.normal(weights, (n_frequencies, n_outputs))
            / jnp.sqrt(n_frequencies),
        }

    def apply(
        params: Parameters, x: Float[Array, "n_points n_inputs"]
    ) -> Float[Array, "n_points n_outputs"]:
        return jnp.cos(x @ params["frequencies"] + params["phases"]) @ params["weights"]

    return init, apply
