"""Points in tiles with the results computed from them, and the compiled derivatives of points."""

from collections.abc import Callable
from functools import lru_cache, partial, wraps
from typing import TypeVar

import jax
from jaxtyping import Array, PyTree

from collective_variables.kernels._derivatives import backpropagation
from collective_variables.kernels._derivatives.form import Derivative
from collective_variables.kernels._traced import StandIn
from collective_variables.networks import _arguments

Result = TypeVar("Result")


class Tiles:
    """The points `x` in tiles of at most `size` points, and the results of `function` for them.

    All tiles have the same size: the last overlaps the one before. tile(place) returns
    function(tile). The results of all tiles are kept if `keep`, otherwise only the latest.
    """

    def __init__(
        self, function: Callable[[PyTree[Array]], Result], x: PyTree[Array], size: int, keep: bool
    ):
        n = _arguments.n_points(x)
        self.size = min(size, n)
        self.starts = [min(start, n - self.size) for start in range(0, n, self.size)]

        def tile(place: int) -> Result:
            rows = slice(self.starts[place], self.starts[place] + self.size)
            return function(jax.tree.map(lambda leaf: leaf[rows], x))

        self.tile = lru_cache(maxsize=len(self.starts) if keep else 1)(tile)


def exact_products(function: Callable[..., object]) -> Callable[..., object]:
    """Return `function` traced with matrix products in the full precision of their dtype.

    Accelerators use less precision by default.
    """

    @wraps(function)
    def traced(*arguments: object) -> object:
        with jax.default_matmul_precision("highest"):
            return function(*arguments)

    return traced


def compiled_derivatives(
    apply_fn: StandIn, is_structured: bool = True
) -> Callable[[PyTree[Array], PyTree[Array], Array], list[Derivative]]:
    """Return derivatives(params, x, cotangents), compiled once per set of shapes."""

    def build() -> Callable[..., list[Derivative]]:
        function = partial(backpropagation.derivatives, apply_fn, structured=is_structured)
        return jax.jit(exact_products(function))

    return apply_fn.program(("derivatives", is_structured), build)
