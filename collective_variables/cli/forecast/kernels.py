"""Forecast kernels of networks and the results computed from them."""

from contextlib import AbstractContextManager
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree
from threadpoolctl import ThreadpoolController

from collective_variables import _machine
from collective_variables.cli.forecast import timing
from collective_variables.ensembles import batching
from collective_variables.kernels import empirical, products
from collective_variables.networks import parameters
from collective_variables.observables import collective, spectrum

FEW = 512  # points of the kernels that are timed
FEW_NUMBERS = 2**20  # in the points of the kernels that are timed
DERIVATIVES = 2**25  # numbers that dense layers hold at most, because they share factors
DOUBLE = 8  # bytes


class Kernel(NamedTuple):
    """Seconds that a first kernel takes once, seconds of each kernel, and bytes at the peak."""

    once: float
    each: float
    n_bytes: int

    def seconds(self, n_members: int) -> timing.Seconds:
        """Return the seconds of the kernels of all members."""
        return timing.exactly(self.once + n_members * self.each)


def one_thread() -> AbstractContextManager:
    """Return a context in which one thread solves an eigenproblem, as in an ensemble."""
    return ThreadpoolController().limit(limits=1, user_api="blas")


def made_parameters(network: nn.Module, points: Float[Array, "n_points ..."]) -> PyTree[Array]:
    """Return random parameters of the right shapes, drawn without compilation."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.asarray(points[:1]))
    generator = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        scale = 1 / np.sqrt(max(1, np.prod(leaf.shape[:-1])))
        return (scale * generator.standard_normal(leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(draw, shapes)


def forecast_kernel(
    network: nn.Module, points: Float[Array, "n_points ..."], /, *, is_diagonal: bool = False
) -> Kernel:
    """Return time and memory of `empirical.empirical_ntk` of all points.

    A kernel of fewer points is timed. The rest follows from the operations of both.

    Args:
        network: The network.
        points: All points.
        is_diagonal: Whether only the diagonal is computed.

    Returns:
        Seconds and bytes.
    """
    params = made_parameters(network, points)
    n_few = max(8, min(len(points), FEW, FEW_NUMBERS // max(1, points[0].size)))
    few = points[:n_few]
    if is_diagonal:
        timed = timing.time_call(
            lambda: products.kernel_product(network.apply, params, few).diagonal
        )
        return Kernel(timed.once, timed.again * len(points) / len(few), 8 * points.nbytes)
    timed = timing.time_call(lambda: empirical.empirical_ntk(network.apply, params, few))
    entries = points.dtype.itemsize * len(points) ** 2
    if n_few == len(points):
        # All derivatives are held, and the estimate of the operations would take half a second.
        n_numbers = len(points) * parameters.n_parameters(network, points)
        return Kernel(timed.once, timed.again, 2 * entries + 4 * min(n_numbers, DERIVATIVES))
    costs = [cost(network, params, shape) for shape in (few, points)]
    each = timed.again * costs[1].flops / costs[0].flops
    return Kernel(timed.once, each, costs[1].peak_bytes + entries)


def cost(
    network: nn.Module, params: PyTree[Array], points: Float[Array, "n_points ..."]
) -> empirical.Cost:
    """Return operations and bytes of the kernel of the points."""
    (name,) = [empirical.resolve_implementation("auto")]
    return empirical.estimate_cost(network.apply, params, points, implementations=(name,))[name]


class Ensemble(NamedTuple):
    """Seconds and bytes of `measurement.measure_ensemble`."""

    seconds: timing.Seconds
    n_bytes: int


def forecast_ensemble(
    network: nn.Module,
    points: Float[np.ndarray, "n_points ..."],
    n_outputs: int,
    sizes: list[int],
    n_members: int,
    drawing: float | None = None,
) -> Ensemble:
    """Return time and memory of an ensemble: random networks, kernels and their eigenvalues.

    Args:
        network: The network.
        points: At least as many points as the largest size.
        n_outputs: Number of outputs.
        sizes: Sizes of the subsets.
        n_members: Number of members.
        drawing: Seconds to compile the program that draws networks, if they are known.

    Returns:
        Seconds and bytes.
    """
    largest = max(sizes)
    width = batching.bucket(largest, len(points))
    kernel = forecast_kernel(network, points[:width])
    draw = timing.Timing(drawing or 0.0, 0.0)
    if drawing is None:
        draw = timing.time_call(_draw_call(network, points))
    n_cores = min(n_members, _machine.n_cores())
    is_together = width <= 2048
    each = kernel.each + sum(_decomposition(n, n_outputs, is_together) for n in sizes)
    n_rounds = -(-n_members // n_cores) * _crowding(n_cores) if is_together else n_members
    seconds = kernel.once + draw.once + n_rounds * (each + draw.again)
    at_once = n_cores if is_together else 1
    return Ensemble(timing.exactly(seconds), at_once * (kernel.n_bytes + 3 * DOUBLE * largest**2))


def _crowding(n_cores: int) -> float:
    """Return the factor by which a call slows down when all cores are busy."""
    # Half of the work of a call uses several cores if they are free.
    return 1.0 if n_cores == 1 else 1.25


def _draw_call(network: nn.Module, points: np.ndarray):
    draw = batching.over_members(partial(_draw, network))
    point = jnp.asarray(points[:1], jnp.float32)
    return lambda: draw(point, jax.random.split(jax.random.key(0), 1))


def _draw(network: nn.Module, inputs: Array, key: Array) -> PyTree[Array]:
    return parameters.initialise(network, key, inputs)


def _decomposition(n: int, n_outputs: int, is_together: bool) -> float:
    """Return the seconds of spectrum and collective variables of a kernel of n points."""
    few = min(n, FEW)
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((few, few))
    kernel = (rows @ rows.T / few).astype(np.float32)
    targets = generator.standard_normal((few, n_outputs)).astype(np.float32)

    def decompose() -> object:
        values = spectrum.decompose(kernel)
        return collective.kernel_variables(kernel, targets, eigenvalues=values.eigenvalues)

    decompose()
    if is_together:
        with one_thread():
            return timing.repeat(decompose) * (n / few) ** 3
    return timing.repeat(decompose) * (n / few) ** 3
