"""A variational autoencoder and the two parts of its loss (Kingma, Welling 2014)."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from collective_variables.networks import parameters, sequential


class Params(NamedTuple):
    """Hold the parameters of an autoencoder."""

    encoder: PyTree[Array]
    decoder: PyTree[Array]


class Losses(NamedTuple):
    """Hold the two parts of the negative evidence lower bound of each image, in nats."""

    reconstruction: Float[Array, " n_points"]
    divergence: Float[Array, " n_points"]


@dataclass(frozen=True)
class Autoencoder:
    """Combine an encoder (means and log variances of the latents) and a decoder (pixel logits)."""

    encoder: sequential.Network
    decoder: sequential.Network

    @property
    def n_latents(self) -> int:
        """Number of latents of an image."""
        return self.encoder.layers[-1].width // 2

    def initialise(self, key: PRNGKeyArray, images: Float[Array, "n_points n_pixels"]) -> Params:
        """Return random parameters, in the dtype of `images`."""
        keys = jax.random.split(key)
        latents = jnp.zeros((1, self.n_latents), images.dtype)
        encoder = parameters.initialise(self.encoder, keys[0], images)
        return Params(encoder, parameters.initialise(self.decoder, keys[1], latents))

    def mean(
        self, params: PyTree[Array], images: Float[Array, "n_points ..."]
    ) -> Float[Array, "n_points n_latents"]:
        """Return the means of the latents, whose kernel is recorded; `params` are the encoder's."""
        # The parameters of the log variances are among them; their derivatives are 0.
        return self.encoder.apply(params, images)[:, : self.n_latents]

    def losses(
        self,
        params: Params,
        images: Float[Array, "n_points n_pixels"],
        noise: Float[Array, "n_points n_latents"],
    ) -> Losses:
        """Return both parts of the loss for latents mean + noise · standard deviation.

        The reconstruction is the binary cross-entropy between pixels in 0 … 1 and logits, summed
        over pixels. The divergence is the Kullback-Leibler divergence of the normal distribution of
        the latents from N(0, 1), summed over latents.
        """
        mean, log_variance = jnp.split(self.encoder.apply(params.encoder, images), 2, axis=1)
        latents = mean + jnp.exp(log_variance / 2) * noise
        return self._losses(params, images, latents, mean, log_variance)

    def losses_at(
        self,
        means: Float[Array, "n_points n_latents"],
        images: Float[Array, "n_points n_pixels"],
        params: Params,
    ) -> Losses:
        """Return both parts of the loss as a function of the means, at which images are decoded.

        The variances are those of the encoder.
        """
        log_variance = self.encoder.apply(params.encoder, images)[:, self.n_latents :]
        return self._losses(params, images, means, means, log_variance)

    def _losses(
        self,
        params: Params,
        images: Float[Array, "n_points n_pixels"],
        latents: Float[Array, "n_points n_latents"],
        mean: Float[Array, "n_points n_latents"],
        log_variance: Float[Array, "n_points n_latents"],
    ) -> Losses:
        logits = self.decoder.apply(params.decoder, latents)
        reconstruction = jnp.sum(optax.sigmoid_binary_cross_entropy(logits, images), axis=1)
        divergence = jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance, axis=1) / 2
        return Losses(reconstruction, divergence)


def build_autoencoder(n_pixels: int, n_latents: int, width: int, /) -> Autoencoder:
    """Return an autoencoder with one hidden ReLU layer of this width in encoder and decoder."""
    return Autoencoder(
        *(
            sequential.build_network([f"dense {width}", f"dense {n}"])
            for n in (2 * n_latents, n_pixels)
        )
    )
