"""Compute a function of pairs of points in tiles that fit the free memory."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from collective_variables import _memory
from collective_variables.kernels._tiles import Tiles
from collective_variables.networks.sequential import Network

N_ARRAYS = 5  # as large as the covariances of a layer, held at the peak

Kernel = Callable[[Float[Array, "n1 ..."], Float[Array, "n2 ..."] | None], Float[Array, "n1 n2"]]


def pair_bytes(network: Network, x: Float[Array, "n ..."]) -> int:
    """Return the bytes that the limit kernel of two points needs at the peak.

    A dense network has one covariance. Other networks have one for each pixel, or for each pair of
    pixels if pixels are averaged.
    """
    kinds = {layer.kind for layer in network.layers}
    n_pixels = 1 if kinds == {"dense"} else math.prod(x.shape[1:3])
    return N_ARRAYS * x.dtype.itemsize * n_pixels ** (2 if "avgpool" in kinds else 1)


def in_tiles(
    kernel: Kernel, x1: Float[Array, "n1 ..."], x2: Float[Array, "n2 ..."] | None, n_bytes: int
) -> Float[Array, "n1 n2"]:
    """Return kernel(x1, x2), tile by tile if it does not fit the free memory at once.

    Args:
        kernel: Function that returns the kernel of two sets of points.
        x1: n1 points.
        x2: n2 points; None for x1. Only tiles on and above the diagonal are then computed.
        n_bytes: Memory for one pair of points.

    Returns:
        The kernel (n1, n2).

    Raises:
        MemoryError: The kernel, or even one pair of points, does not fit.
    """
    if any(isinstance(x, jax.core.Tracer) for x in (x1, x2)):
        return kernel(x1, x2)
    n1, n2 = len(x1), len(x1 if x2 is None else x2)
    if n_bytes * n1 * n2 <= _memory.SMALL:
        return kernel(x1, x2)
    free = _memory.available()
    # The tiles and the whole, which is copied to the device at the end.
    results = 2 * n1 * n2 * x1.dtype.itemsize
    tile = math.isqrt(max(0, (free - results) // (2 * n_bytes)))
    if n1 * n2 <= tile**2:
        return kernel(x1, x2)
    if tile == 0:
        raise MemoryError(
            f"The kernel of {n1} x {n2} points needs {(results + 2 * n_bytes) / _memory.GIB:.1f} "
            f"GiB at least, and {free / _memory.GIB:.1f} GiB are free."
        )
    return jnp.asarray(_computed(kernel, x1, x2, tile))


def _computed(
    kernel: Kernel, x1: Float[Array, "n1 ..."], x2: Float[Array, "n2 ..."] | None, tile: int
) -> Float[np.ndarray, "n1 n2"]:
    """Return the kernel, filled tile by tile."""
    rows = Tiles(lambda points: points, x1, tile, keep=False)
    columns = rows if x2 is None else Tiles(lambda points: points, x2, tile, keep=False)
    result = np.empty((len(x1), len(x1 if x2 is None else x2)), x1.dtype)
    for i, row in enumerate(rows.starts):
        first = rows.tile(i)
        for j in range(i if x2 is None else 0, len(columns.starts)):
            column = columns.starts[j]
            part = np.asarray(kernel(first, columns.tile(j)))
            places = slice(row, row + rows.size), slice(column, column + columns.size)
            result[places] = part
            if x2 is None:
                result[places[::-1]] = part.T
    return result
