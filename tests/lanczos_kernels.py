"""Kernels whose eigenvalues are known, their products, and estimates with few probes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from spectra import rotated

from collective_variables.observables import lanczos

INDEX = np.arange(1.0, 301.0)
SPECTRA = {
    "power law": INDEX**-1.3,
    "exponential": np.exp(-INDEX / 20),
    "few dominant": np.r_[50.0, 20.0, 10.0, np.full(297, 0.1)],
    "flat": np.linspace(0.5, 1.5, 300),
    "rank 40": np.r_[np.linspace(1, 2, 40), np.zeros(260)],
}
SMALL = {"n_leading": 8, "n_probes": 8, "n_steps": 20}


def dense_product(kernel):
    kernel = jnp.asarray(kernel, jnp.zeros(0).dtype)
    return jax.jit(lambda vectors: jnp.matmul(kernel, vectors, precision="highest"))


def diagonal_product(values):
    """Products with a diagonal matrix: its eigenvalues are its entries."""
    values = jnp.asarray(values, jnp.zeros(0).dtype)
    return jax.jit(lambda vectors: values[:, None] * vectors)


@functools.cache
def kernel_and_product(name):
    """Return one of SPECTRA as a kernel, and its product, which is compiled once."""
    kernel = rotated(SPECTRA[name])
    return kernel, dense_product(kernel)


def with_few_probes(kernel, seed=0, **options):
    kernel, product = (
        kernel_and_product(kernel) if isinstance(kernel, str) else (kernel, dense_product(kernel))
    )
    if options.get("diagonal") is True:
        options["diagonal"] = np.diag(kernel)
    return lanczos.estimate_entropy(
        product, len(kernel), key=jax.random.key(seed), **{**SMALL, **options}
    )
