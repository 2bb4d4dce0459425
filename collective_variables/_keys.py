"""Check the keys from which random numbers follow."""

import jax

from collective_variables import _errors


def check_key(key: object) -> None:
    """Raise InvalidTypeError unless this is a single JAX key."""
    if not (
        isinstance(key, jax.Array)
        and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)
        and key.ndim == 0
    ):
        raise _errors.InvalidTypeError(
            f"key must be a JAX key, such as jax.random.key(0): received {key!r}."
        )
