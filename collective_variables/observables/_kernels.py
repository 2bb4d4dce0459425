"""Kernels of an ensemble's networks before training, and their limit of infinite width."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables.ensembles import batching, seeding
from collective_variables.kernels import empirical, products
from collective_variables.networks import parameters, sequential
from collective_variables.observables._settings import Settings

Limit = Callable[[Float[Array, "n_points ..."]], Float[Array, "n_points n_points"]]


def padded_rows(rows: Int[np.ndarray, " n_selected"], n_points: int) -> Int[np.ndarray, " width"]:
    """Return the first `n_points` rows and some after them, so that few sizes are compiled."""
    return rows[: batching.bucket(n_points, len(rows))]


class EnsembleKernels:
    """The networks of an ensemble and their kernels on points of `inputs`.

    Each compiled function is stored, so all members share one compilation.
    """

    def __init__(
        self,
        network: sequential.Network,
        inputs: Float[np.ndarray, "n_pool ..."],
        seed: int,
        n_members: int,
        settings: Settings,
    ):
        self._apply = network.apply
        self._settings = settings
        self._inputs = jnp.asarray(inputs, settings.dtype)
        self._keys = seeding.member_keys(seeding.key(seed, "initialisation"), n_members)
        # Draw in float32, as for training, so that the networks are the same in float64.
        self._point = jnp.asarray(inputs[:1], jnp.float32)
        # Random numbers compile slowly, so draw them outside the kernel, which is compiled for
        # every padded size.
        self._draw = batching.over_members(partial(_draw, network, settings.dtype))
        self._in_one_block = batching.over_members(
            lambda inputs, params, rows: self._kernel(params, inputs[rows])
        )

    def one_block(self, number: int, rows: Int[np.ndarray, " width"]) -> Float[np.ndarray, "..."]:
        """Compute a member's kernel on `rows` in one block, in a compiled call."""
        return np.asarray(
            self._in_one_block(self._inputs, self._member_params(number), rows[None])
        )[0]

    def in_tiles(self, number: int, rows: Int[np.ndarray, " k"]) -> Float[np.ndarray, "..."]:
        """Compute a member's kernel on `rows` tile by tile."""
        points = self._inputs[rows]
        return np.asarray(self._kernel(self._params(number), points, self._settings.block_size))

    def product(self, number: int, rows: Int[np.ndarray, " k"]) -> products.KernelProduct:
        """Return the products of a member's kernel on `rows`, which is not formed."""
        return products.kernel_product(
            self._apply,
            self._params(number),
            self._inputs[rows],
            outputs=self._settings.outputs,
            block_size=self._settings.block_size,
        )

    def _params(self, number: int) -> PyTree[Array]:
        """Return the parameters of a member's network."""
        return jax.tree.map(lambda leaf: leaf[0], self._member_params(number))

    def _member_params(self, number: int) -> PyTree[Array]:
        """Return these parameters with a leading axis of one member, as compiled functions take."""
        return self._draw(self._point, self._keys[number : number + 1])

    def _kernel(self, params: PyTree[Array], points: Array, block_size: int | None = None) -> Array:
        """Return the kernel of these points."""
        return empirical.empirical_ntk(
            self._apply,
            params,
            points,
            outputs=self._settings.outputs,
            implementation=self._settings.implementation,
            block_size=block_size,
        )


def _draw(
    network: sequential.Network, dtype: str, inputs: Array, key: PRNGKeyArray
) -> PyTree[Array]:
    """Return the parameters of a network in this dtype."""
    params = parameters.initialise(network, key, inputs)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


class MemberKernel:
    """The kernel of one member's network on the points of its largest subset.

    Attributes:
        block: The kernel of the points that are decomposed, the first ones; None without any.
    """

    def __init__(
        self,
        kernels: EnsembleKernels,
        number: int,
        rows: Int[np.ndarray, " n_selected"],
        n_exact: int,
        *,
        in_one_block: bool,
    ):
        self._kernels = kernels
        self._number = number
        self._rows = rows
        self._n_exact = n_exact
        self.block: np.ndarray | None = None
        if in_one_block:
            self.block = kernels.one_block(number, padded_rows(rows, n_exact))
        elif n_exact:
            self.block = kernels.in_tiles(number, rows[:n_exact])

    def among(self, points: Int[np.ndarray, " k"]) -> Float[np.ndarray, "k k"]:
        """Return the kernel of some points, from the block if it contains them all."""
        if points.max() < self._n_exact:
            return self.block[np.ix_(points, points)]
        return self._kernels.in_tiles(self._number, self._rows[points])

    def product(self, n: int) -> products.KernelProduct:
        """Return the products of the kernel of the first n points."""
        return self._kernels.product(self._number, self._rows[:n])


class LimitKernel:
    """The analytic kernel of infinite width on points of `inputs`, times `scale`."""

    def __init__(self, limit: Limit, inputs: Float[np.ndarray, "n_pool ..."], scale: int):
        self._inputs = inputs
        self._scale = scale
        self._compiled = batching.over_members(lambda _, points: limit(points))

    def among(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n n"]:
        """Compute the kernel of the points `rows`, in float64."""
        # In float32 the angle between nearly parallel points keeps half of the digits.
        with jax.enable_x64(True):
            points = self._inputs[None, rows].astype(np.float64)
            return np.asarray(self._compiled((), points))[0] * self._scale
