"""Points in tiles, each with what follows from it, and the checks of points and networks."""

from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import TypeVar

import jax
from jaxtyping import Array, PyTree

from collective_variables.kernels import _derivatives
from collective_variables.kernels._derivatives import Derivative
from collective_variables.networks import _arguments
from collective_variables.networks._arguments import ApplyFunction

Held = TypeVar("Held")


class Tiles:
    """function of the points `x` in tiles of at most `size` points, all of one size: the last
    overlaps the one before.

    keep: whether the results of all tiles are kept, or of the last one alone.
    """

    def __init__(
        self, function: Callable[[PyTree[Array]], Held], x: PyTree[Array], size: int, keep: bool
    ):
        n = _arguments.n_points(x)
        self.size = min(size, n)
        self.starts = [min(start, n - self.size) for start in range(0, n, self.size)]

        def of(place: int) -> Held:
            rows = slice(self.starts[place], self.starts[place] + self.size)
            return function(jax.tree.map(lambda leaf: leaf[rows], x))

        self.of = lru_cache(maxsize=len(self.starts) if keep else 1)(of)


def exact_products(function: Callable[..., object]) -> Callable[..., object]:
    """Trace `function` with products in the full precision of their dtype, which is not an
    accelerator's default.
    """

    @wraps(function)
    def traced(*arguments: object) -> object:
        with jax.default_matmul_precision("highest"):
            return function(*arguments)

    return traced


@lru_cache(maxsize=64)
def compiled_derivatives(
    apply_fn: ApplyFunction, is_structured: bool = True
) -> Callable[[PyTree[Array], PyTree[Array], Array], list[Derivative]]:
    """derivatives(params, x, cotangents) of `structured`, which keeps what it compiled for the next
    call of like shapes.
    """
    function = partial(_derivatives.derivatives, apply_fn, structured=is_structured)
    return jax.jit(exact_products(function))
