"""Which kernels of an ensemble fit the free memory to be decomposed, and whether one on each core
at once.
"""

import os
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from collective_variables import _memory
from collective_variables.kernels import _planning, empirical
from collective_variables.networks import parameters, sequential
from collective_variables.observables._member import Settings
from collective_variables.observables.spectrum import ONE_KERNEL

LARGE = 2048  # rows of a kernel from which on its decomposition keeps all cores busy by itself
DOUBLE = 8  # bytes of a number in float64
N_ARRAYS = 3  # in float64, of the kernel's size, that decomposition and alignment hold beside it
N_LIMIT_ARRAYS = 5  # the same, while the analytic kernel of infinite width is computed


class Plan(NamedTuple):
    """How an ensemble is measured.

    n_exact: the largest size whose kernel is decomposed; those of larger ones are estimated from
    products.
    together: members on all cores at once and each kernel in one block, or one member after
    another.
    """

    n_exact: int
    together: bool


def plan_ensemble(
    network: sequential.Network,
    points: Float[np.ndarray, "width ..."],
    n_points: Int[np.ndarray, "n_members n_sizes"],
    settings: Settings,
    *,
    has_limit: bool,
) -> Plan:
    """The course for subsets of `n_points`, the largest of which is padded to the number of
    `points`.

    has_limit: whether kernels are compared with that of infinite width. Raises MemoryError if a
    kernel that can't be estimated does not fit.
    """
    free, largest = _memory.available(), int(n_points.max())
    needed = {
        int(n): n_bytes(network, points, int(n), settings, has_limit=has_limit)
        for n in np.unique(n_points)
    }
    is_formed = settings.spectrum == "exact" or has_limit or settings.outputs not in ONE_KERNEL
    if is_formed and needed[largest] > free:
        raise MemoryError(
            f"A kernel of {largest} points and what is computed from it need {needed[largest] / _memory.GIB:.1f} GiB, "
            f"and {free / _memory.GIB:.1f} GiB are free."
        )
    fitting = [
        n for n, size in needed.items() if size <= free and settings.spectrum != "stochastic"
    ]
    n_exact = max(fitting, default=0)
    if n_exact < largest or len(points) * rows_per_point(network, points, settings) > LARGE:
        return Plan(n_exact, False)
    of_one = n_bytes(network, points, len(points), settings, has_limit=has_limit)
    return Plan(
        n_exact, _is_one_block(network, points, settings, free // (2 * os.cpu_count()) - of_one)
    )


def rows_per_point(
    network: sequential.Network, points: Float[np.ndarray, "width ..."], settings: Settings
) -> int:
    """Rows of a kernel for each point."""
    return parameters.n_outputs(network, points) if settings.outputs == "full" else 1


def n_bytes(
    network: sequential.Network,
    points: Float[np.ndarray, "width ..."],
    n: int,
    settings: Settings,
    *,
    has_limit: bool,
) -> int:
    """Bytes at the peak of a kernel of n points like `points`, its decomposition, and its limit of
    infinite width.
    """
    n_kernels = parameters.n_outputs(network, points) if settings.outputs == "per-output" else 1
    # The kernel is copied once when it is complete.
    per_entry = 2 * n_kernels * np.dtype(settings.dtype).itemsize + N_ARRAYS * DOUBLE
    of_kernel = (n * rows_per_point(network, points, settings)) ** 2 * per_entry
    if not has_limit:
        return of_kernel
    # The limit comes first, and then lies beside the kernel.
    return max(
        N_LIMIT_ARRAYS * DOUBLE * n**2 * _n_covariances(network, points), of_kernel + DOUBLE * n**2
    )


def _n_covariances(network: sequential.Network, points: Float[np.ndarray, "width ..."]) -> int:
    """Entries of an analytic kernel for each pair of points: of pixels, and of pairs of them where
    they are averaged.
    """
    if network.layers[0].kind == "dense":
        return 1
    n_pixels = points.shape[1] * points.shape[2]
    return n_pixels**2 if any(layer.kind == "avgpool" for layer in network.layers) else n_pixels


def _is_one_block(
    network: sequential.Network,
    points: Float[np.ndarray, "width ..."],
    settings: Settings,
    free: int,
) -> bool:
    """Whether a kernel of `points` may be made in one block of at most `free` bytes."""
    width, points = len(points), points.astype(settings.dtype)
    if settings.block_size is not None and settings.block_size < width:
        return False
    # What a kernel takes is found out, in half a second, only where the memory is short of the
    # whole Jacobian.
    if (
        width
        * parameters.n_outputs(network, points)
        * parameters.n_parameters(network, points)
        * points.dtype.itemsize
        <= free
    ):
        return True
    shapes = jax.eval_shape(network.init, jax.random.key(0), points[:1])
    params = jax.tree.map(lambda of: np.zeros(of.shape, of.dtype), shapes)
    name = empirical.resolve_implementation(settings.implementation)
    options = {"outputs": settings.outputs, "block_size": width, "implementations": (name,)}
    return (
        empirical.estimate_cost(network.apply, params, points, **options)[name].peak_bytes <= free
    )


def describe(course: Plan, largest: int, settings: Settings) -> dict[str, str]:
    """How an ensemble whose largest subset has `largest` points is measured."""

    def joined(of_exact: str, of_estimated: str) -> str:
        if course.n_exact == largest:
            return of_exact
        return (
            f"{of_exact} up to {course.n_exact} points, {of_estimated} beyond"
            if course.n_exact
            else of_estimated
        )

    blocks = (
        "one block"
        if course.together
        else f"tiles of at most {settings.block_size or _planning.TILE} points"
    )
    of_products = f"tiles of at most {settings.block_size or _planning.PRODUCT_TILE} points"
    of_exact = "float64, negative ones from round-off set to 0"
    numbers = f"{settings.n_leading} leading vectors, {settings.n_probes} probes, {settings.n_steps} steps"
    return {
        "implementation": joined(
            empirical.resolve_implementation(settings.implementation), "products"
        ),
        "blocks": joined(blocks, of_products),
        "dtype": settings.dtype,
        "matmul_precision": "highest",
        "eigenvalues": joined(of_exact, f"stochastic Lanczos quadrature, {numbers}"),
    }
