"""Derive a random key for every member of an ensemble and every purpose."""

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from collective_variables import _checks

MAX_SEED = 2**32 - 1  # larger ones would repeat the keys of smaller ones
PURPOSES = ("initialisation", "subsets", "rnd", "batches", "probes", "samples", "selection")


def key(seed: int, purpose: str) -> PRNGKeyArray:
    """Return the key of one purpose, so that no two uses of a seed share random numbers."""
    if _checks.integer("seed", seed, minimum=0) > MAX_SEED:
        raise ValueError(f"seed must not exceed {MAX_SEED}: received {seed}.")
    return jax.random.fold_in(jax.random.key(seed), PURPOSES.index(purpose))


def member_keys(key: PRNGKeyArray, n_members: int) -> PRNGKeyArray:
    """Return (n_members,) keys; member m has the same key in an ensemble of any size."""
    return _fold_in(key, np.arange(n_members))


# Compiled once for all ensembles, because the key is an argument.
_fold_in = jax.jit(jax.vmap(jax.random.fold_in, in_axes=(None, 0)))
