"""Process points in blocks whose arrays fit the cache of a core."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree


def in_blocks(
    function: Callable[[PyTree[Array]], PyTree[Array]], points: PyTree[Array], block: int
) -> PyTree[Array]:
    """Return function(points), computed for `block` points at a time.

    The result for each point must depend on that point only.
    """
    n_points = len(jax.tree.leaves(points)[0])
    if n_points <= block:
        return function(points)
    n_blocks = -(-n_points // block)
    block = -(-n_points // n_blocks)  # blocks of equal size have the least padding
    # The last block is padded with the last point.
    rows = jnp.minimum(jnp.arange(n_blocks * block), n_points - 1).reshape(n_blocks, block)
    results = jax.lax.map(
        lambda block_rows: function(jax.tree.map(lambda leaf: leaf[block_rows], points)), rows
    )
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n_points], results)


def n_in_cache(largest_signal: int, n_cotangents: int) -> int:
    """Return how many points are processed at once.

    The signals of a layer fit the cache of a core, or the memory of an accelerator.
    """
    memory = 2**22 if jax.default_backend() == "cpu" else 2**30
    return max(1, memory // (4 * n_cotangents * largest_signal))


def n_fitting(n_bytes: int) -> int:
    """Return how many items of `n_bytes` are processed at once, one at least.

    A few times the cache of a core is fastest on a CPU, since larger products use all cores.
    """
    memory = 2**25 if jax.default_backend() == "cpu" else 2**30
    return max(1, memory // n_bytes)


def bytes_in_network(largest_signal: int, n_points: int, n_cotangents: int) -> int:
    """Return the bytes that `derivatives` needs while a block passes through the network.

    It holds a few arrays of the size of the largest signal.
    """
    block = min(n_points, n_in_cache(largest_signal, n_cotangents))
    return 4 * block * n_cotangents * largest_signal
