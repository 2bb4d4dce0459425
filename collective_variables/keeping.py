"""What a long computation keeps as it goes on, under a name that belongs to its own arguments alone."""

import hashlib
from collections.abc import MutableMapping
from typing import Any

import jax
import numpy as np

Store = MutableMapping[str, dict[str, np.ndarray]]


def fingerprint(*decisive: Any) -> str:
    """A name for all that decides a result, so that a store never goes on with what belongs to another call.

    Arrays count by shape, dtype and values, random keys by their data, anything else by its `repr`.
    """
    digest = hashlib.sha256()
    for part in decisive:
        if isinstance(part, jax.Array) and jax.dtypes.issubdtype(part.dtype, jax.dtypes.prng_key):
            part = jax.random.key_data(part)
        if isinstance(part, np.ndarray | jax.Array):
            array = np.asarray(part)
            digest.update(f"array {array.shape} {array.dtype}".encode() + array.tobytes())
        else:
            digest.update(f"value {part!r}".encode())
    return digest.hexdigest()[:16]
