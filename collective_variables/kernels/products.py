"""Products of the kernel with vectors, for kernels that are too large for the memory."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from collective_variables import _checks
from collective_variables.kernels import _calls, _planning
from collective_variables.kernels._derivatives import contraction, form, squares
from collective_variables.kernels._derivatives.form import Derivative
from collective_variables.kernels._tiles import Tiles, compiled_derivatives, exact_products
from collective_variables.kernels._traced import SHARED, StandIn, StandIns
from collective_variables.networks import variables
from collective_variables.networks._arguments import (
    ApplyFunction,
    check_network,
    checked_points,
    n_points,
)

_diagonal = jax.jit(exact_products(squares.diagonal))


class KernelProduct(NamedTuple):
    """A kernel K, given by its products with vectors.

    Attributes:
        product: The function v -> K v of vectors (n_points, n_vectors).
        diagonal: The diagonal of K, (n_points,).
    """

    product: Callable[[Float[Array, "n_points n_vectors"]], Float[Array, "n_points n_vectors"]]
    diagonal: Float[np.ndarray, " n_points"]


def kernel_product(
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    *,
    outputs: str = "mean",
    block_size: int | None = None,
) -> KernelProduct:
    """Return products of the kernel of `empirical_ntk` with vectors, without the kernel.

    Each product takes the cheaper of two ways. K v = J (Jᵀ v) pulls the vectors of all points back
    to the parameters and pushes them forward again. For many vectors and few points, the kernel of
    every pair of blocks of points is computed, used and dropped.

    The derivatives J are kept layer by layer if they fit half of the free memory; otherwise every
    product computes them again. Programs are kept as by `empirical_ntk`.

    Raises ValueError in the same cases as `empirical_ntk`. Raises MemoryError if not even one point
    at a time fits.

    Args:
        apply_fn: The network, apply_fn(params, x) -> (n_points, n_outputs).
        params: The parameters, an array or a tree of arrays.
        x: The points, an array or a tree of arrays with points along their first axes.
        outputs: "mean" or "sum", over the outputs of the network.
        block_size: Number of points processed at once. None plans it from the free memory.

    Returns:
        The function `product`, which maps vectors (n_points, n_vectors) to K v of the same shape,
        and the `diagonal` (n_points,) of K. The product is a loop over blocks, not for `jax.jit`.

    Example:
        >>> import jax.numpy as jnp
        >>> import collective_variables as cv
        >>> def linear(w, x):
        ...     return x @ w
        >>> x = jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
        >>> kernel = cv.kernel_product(linear, jnp.array([[3.0], [4.0]]), x)
        >>> print(kernel.product(jnp.ones((3, 1)))[:, 0], kernel.diagonal)
        [2. 6. 5.] [1. 4. 2.]
    """
    return compute_product(SHARED, apply_fn, params, x, outputs, block_size)


def compute_product(
    stand_ins: StandIns,
    apply_fn: ApplyFunction,
    params: PyTree[Array],
    x: PyTree[Array],
    outputs: str,
    block_size: int | None,
) -> KernelProduct:
    """Return `kernel_product`, computed with the programs of these stand-ins.

    Args:
        stand_ins: The stand-ins that hold the compiled programs.
        apply_fn: As in `kernel_product`.
        params: As in `kernel_product`.
        x: As in `kernel_product`.
        outputs: As in `kernel_product`.
        block_size: As in `kernel_product`.

    Returns:
        The products and the diagonal.
    """
    _checks.choice("outputs", outputs, ("mean", "sum"))
    if block_size is not None:
        _checks.integer("block_size", block_size, minimum=1)
    x = checked_points("x", x)
    with stand_ins.traceable(apply_fn, params, x) as function:
        products = _Products(function, params, x, outputs, block_size)
        diagonal = products.diagonal()

    def product(vectors: Float[Array, "n_points n_vectors"]) -> Float[Array, "n_points n_vectors"]:
        with function.stands_for(apply_fn):
            return products.multiply(jnp.asarray(vectors))

    return KernelProduct(product, diagonal)


class _Products:
    """The tiles of the points of one kernel, and the products computed from their derivatives."""

    def __init__(
        self,
        apply_fn: StandIn,
        params: PyTree[Array],
        x: PyTree[Array],
        outputs: str,
        block_size: int | None,
    ):
        params = apply_fn.checked(params, x)
        check_network(apply_fn, params, x)
        result = jax.eval_shape(apply_fn, params, x)
        self.apply_fn, self.params, self.x = apply_fn, params, x
        self.n_outputs = result.shape[1]
        self.scale = _calls.output_scale(outputs, self.n_outputs)
        self.one = _planning.point_derivatives(apply_fn, params, x)
        sizes = _planning.kernel_sizes(apply_fn, params, x, outputs)
        self.plan = _planning.plan_product(sizes, self.one, params, n_points(x), block_size)
        self.groups = _planning.output_groups(result, self.plan.outputs_at_once)
        self.kept = list(map(self._tiles, self.groups)) if self.plan.keep else None
        tiles = self._tiles(self.groups[0])
        self.starts = tiles.starts
        self.size = tiles.size
        # The last tile repeats points of the one before it.
        self.n_repeated = len(self.starts) * self.size - n_points(x)

    def _tiles(self, group: Array) -> Tiles:
        """Return the tiles of points with their derivatives for one group of outputs."""
        derivatives = compiled_derivatives(self.apply_fn)
        return Tiles(
            lambda x: derivatives(self.params, x, group), self.x, self.plan.tile, self.plan.keep
        )

    def _groups(self) -> Iterable[Tiles]:
        """Return the tiles of each group of outputs; their kernels add up.

        One group is held at a time, unless all are kept.
        """
        return self.kept or map(self._tiles, self.groups)

    def _joined(self, parts: list[Array]) -> list[Array]:
        """Return the parts of the tiles without the points that the last one repeats."""
        return [*parts[:-1], parts[-1][self.n_repeated :]]

    def diagonal(self) -> Float[np.ndarray, " n_points"]:
        """Return the diagonal of the kernel."""
        diagonal = [0.0] * len(self.starts)
        for tiles in self._groups():
            diagonal = [
                total + np.asarray(_diagonal(tiles.tile(place)))
                for place, total in enumerate(diagonal)
            ]
        return self.scale * np.concatenate(self._joined(diagonal))

    def multiply(
        self, vectors: Float[Array, "n_points n_vectors"]
    ) -> Float[Array, "n_points n_vectors"]:
        """Return K v for vectors v."""
        parts = [vectors[start : start + self.size] for start in self.starts]
        parts[-1] = parts[-1].at[: self.n_repeated].set(0.0)
        by_pairs = _pairs_are_cheaper(self.one, self.n_outputs, *vectors.shape, self.size)
        sums = [0.0] * len(self.starts)
        for tiles in self._groups():
            if by_pairs:
                products = _by_pairs(tiles, parts)
            else:
                products = _by_parameters(tiles, parts, self.params, self.plan.vectors_at_once)
            sums = [total + product for total, product in zip(sums, products)]
        return self.scale * jnp.concatenate(self._joined(sums))


def _pairs_are_cheaper(
    one: list[Derivative], n_outputs: int, n_points: int, n_vectors: int, tile: int
) -> bool:
    """Return whether the kernel of all pairs takes fewer operations than J (Jᵀ v)."""
    pairs = parameters = 0.0
    n_signals = n_points * n_outputs
    for leaf in one:
        pairs += (n_points / tile) ** 2 / 2 * contraction.flops(leaf, tile, tile, n_outputs, "sum")
        if size := form.jacobian_size(leaf):
            # The Jacobian is formed on the way to the parameters and again on the way back.
            parameters += 4 * n_signals * size * (leaf.inputs.shape[1] + n_vectors)
        else:
            is_matrix = leaf.inputs is not None and leaf.inputs.ndim == 3
            n_in = leaf.inputs.shape[2] if is_matrix else 1
            parameters += 4 * n_signals * leaf.signals.size * n_in * n_vectors
    return pairs < parameters


def _by_pairs(tiles: Tiles, vectors: list[Float[Array, "n k"]]) -> list[Float[Array, "n k"]]:
    """Return K v from the tiles of the kernel on and above its diagonal, without keeping them."""
    products = [jnp.zeros_like(part) for part in vectors]
    for i, row_vectors in enumerate(vectors):
        first = tiles.tile(i)
        for j in range(i, len(vectors)):
            above, below = _pair(first, tiles.tile(j), row_vectors, vectors[j])
            products[i] = products[i] + above
            if j > i:
                products[j] = products[j] + below
    return products


@jax.jit
@exact_products
def _pair(
    first: list[Derivative],
    second: list[Derivative],
    first_vectors: Float[Array, "n k"],
    second_vectors: Float[Array, "n k"],
) -> tuple[Float[Array, "n k"], Float[Array, "n k"]]:
    """Return the products of one tile with the vectors of its columns, and of its rows."""
    kernel = sum(contraction.contract(a, b, "sum") for a, b in zip(first, second))
    return kernel @ second_vectors, kernel.T @ first_vectors


def _by_parameters(
    tiles: Tiles, vectors: list[Float[Array, "n k"]], params: PyTree[Array], at_once: int
) -> list[Float[Array, "n k"]]:
    """Return K v = J (Jᵀ v), for `at_once` vectors at a time."""
    columns = []
    for start in range(0, vectors[0].shape[1], at_once):
        pulled = None
        for place, part in enumerate(vectors):
            pulled = _pull_back(tiles.tile(place), params, part[:, start : start + at_once], pulled)
        # Backwards, because the last tile is at hand if only one is kept.
        places = reversed(range(len(vectors)))
        columns.append([_push_forward(tiles.tile(place), pulled) for place in places][::-1])
    return [jnp.concatenate(parts, axis=1) for parts in zip(*columns)]


@jax.jit
@exact_products
def _pull_back(
    derivatives: list[Derivative],
    params: PyTree[Array],
    vectors: Float[Array, "n k"],
    before: list[Array] | None,
) -> list[Array]:
    """Return Jᵀ v for each parameter and output, added to that of the tiles before."""
    pulled = [
        _pull_back_one(_with_jacobian(derivative), leaf.size, vectors)
        for derivative, leaf in zip(derivatives, variables.parameters(params), strict=True)
    ]
    return pulled if before is None else jax.tree.map(jnp.add, before, pulled)


def _with_jacobian(derivative: Derivative) -> Derivative:
    """Return a derivative whose sum over positions is computed once instead of per vector."""
    if form.jacobian_size(derivative) == 0:
        return derivative
    return Derivative(None, form.jacobians(derivative))


def _pull_back_one(derivative: Derivative, size: int, vectors: Float[Array, "n k"]) -> Array:
    """Return Jᵀ v of one parameter, in the axes of the fastest product.

    These are (c·size, k); for a table (n_rows, c·n_out·k); otherwise (c·n_out·k, n_in).
    """
    inputs = derivative.inputs
    if inputs is None:
        return derivative.signals.reshape(len(vectors), -1).T @ vectors
    signals = jnp.moveaxis(derivative.signals, 1, 2)
    weighted = signals[..., None] * vectors[:, None, None, None]
    weighted = weighted.reshape(signals.shape[0] * signals.shape[1], -1)
    if inputs.ndim == 2:
        rows = jnp.zeros((size // signals.shape[-1], weighted.shape[1]), weighted.dtype)
        return rows.at[inputs.reshape(-1)].add(weighted)
    return weighted.T @ inputs.reshape(len(weighted), -1)


@jax.jit
@exact_products
def _push_forward(derivatives: list[Derivative], pulled: list[Array]) -> Float[Array, "n k"]:
    """Return J w, summed over outputs, for the pulled-back w."""
    return sum(
        _push_forward_one(_with_jacobian(derivative), part)
        for derivative, part in zip(derivatives, pulled)
    )


def _push_forward_one(derivative: Derivative, pulled: Array) -> Float[Array, "n k"]:
    """Return J w for one parameter."""
    inputs = derivative.inputs
    if inputs is None:
        return derivative.signals.reshape(len(derivative.signals), -1) @ pulled
    signals = jnp.moveaxis(derivative.signals, 1, 2)
    rows = inputs.reshape(signals.shape[0] * signals.shape[1], -1)
    images = pulled[rows[:, 0]] if inputs.ndim == 2 else rows @ pulled.T
    images = images.reshape(*signals.shape, -1) * signals[..., None]
    return images.reshape(len(signals), -1, images.shape[-1]).sum(axis=1)
