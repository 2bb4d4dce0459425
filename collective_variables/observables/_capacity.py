"""Plan the measurement of an ensemble: which kernels fit in memory, and if members run at once."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from collective_variables import _machine, _memory
from collective_variables.kernels import _planning, empirical
from collective_variables.networks import parameters, sequential
from collective_variables.observables._settings import Settings
from collective_variables.observables.spectrum import ONE_KERNEL

LARGE = 2048  # rows of a kernel from which its decomposition keeps all cores busy
DOUBLE = 8  # bytes of a number in float64
# Numbers of float64 arrays of the kernel's size: those that decomposition and alignment hold next
# to it, and those held while the analytic kernel of infinite width is computed.
N_ARRAYS = 3
N_LIMIT_ARRAYS = 5


class Plan(NamedTuple):
    """How an ensemble is measured.

    Attributes:
        n_exact: The largest size whose kernel is decomposed; larger ones are estimated from
            products.
        together: Whether members run on all cores at once, each with its kernel in one block, or
            one member after another.
    """

    n_exact: int
    together: bool


@dataclass(frozen=True, eq=False)
class Requirements:
    """The memory that the kernels of a network need.

    Attributes:
        network: The network.
        points: Points (width, ...) like those of the kernels, as many as the padded largest kernel
            has.
        settings: How the kernels are computed.
        has_limit: Whether kernels are compared with that of infinite width.
    """

    network: sequential.Network
    points: Float[np.ndarray, "width ..."]
    settings: Settings
    has_limit: bool

    def n_rows(self, n: int) -> int:
        """Return the number of rows of a kernel of n points."""
        is_full = self.settings.outputs == "full"
        return n * (parameters.n_outputs(self.network, self.points) if is_full else 1)

    def n_bytes(self, n: int) -> int:
        """Return the bytes at the peak: a kernel of n points, its decomposition, and its limit."""
        is_per_output = self.settings.outputs == "per-output"
        n_kernels = parameters.n_outputs(self.network, self.points) if is_per_output else 1
        # The kernel is copied once when it is complete.
        per_entry = 2 * n_kernels * np.dtype(self.settings.dtype).itemsize + N_ARRAYS * DOUBLE
        kernel = self.n_rows(n) ** 2 * per_entry
        if not self.has_limit:
            return kernel
        # The limit is computed first, and is then held next to the kernel.
        return max(N_LIMIT_ARRAYS * DOUBLE * n**2 * self._n_covariances(), kernel + DOUBLE * n**2)

    def _n_covariances(self) -> int:
        """Return the number of entries of an analytic kernel for each pair of points.

        There is one for each pixel, or for each pair of pixels if pixels are averaged.
        """
        if self.network.layers[0].kind == "dense":
            return 1
        n_pixels = self.points.shape[1] * self.points.shape[2]
        is_averaged = any(layer.kind == "avgpool" for layer in self.network.layers)
        return n_pixels**2 if is_averaged else n_pixels

    def is_one_block(self, free: int) -> bool:
        """Return whether the derivatives of all points fit in `free` bytes, in one block."""
        width = len(self.points)
        points = self.points.astype(self.settings.dtype)
        if self.settings.block_size is not None and self.settings.block_size < width:
            return False
        n_outputs = parameters.n_outputs(self.network, points)
        n_parameters = parameters.n_parameters(self.network, points)
        # Estimate the cost, which takes half a second, only if the whole Jacobian does not fit.
        if width * n_outputs * n_parameters * points.dtype.itemsize <= free:
            return True
        shapes = jax.eval_shape(self.network.init, jax.random.key(0), points[:1])
        params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
        name = empirical.resolve_implementation(self.settings.implementation)
        costs = empirical.estimate_cost(
            self.network.apply,
            params,
            points,
            outputs=self.settings.outputs,
            block_size=width,
            implementations=(name,),
        )
        return costs[name].peak_bytes <= free


def plan_ensemble(
    requirements: Requirements, n_points: Int[np.ndarray, "n_members n_sizes"]
) -> Plan:
    """Plan the measurement of subsets of the sizes `n_points`.

    Args:
        requirements: The memory that kernels need.
        n_points: Sizes (n_members, n_sizes).

    Returns:
        The plan.

    Raises:
        MemoryError: A kernel that cannot be estimated does not fit in the free memory.
    """
    settings = requirements.settings
    free = _memory.available()
    largest = int(n_points.max())
    needed = {int(n): requirements.n_bytes(int(n)) for n in np.unique(n_points)}
    must_be_formed = (
        settings.spectrum == "exact" or requirements.has_limit or settings.outputs not in ONE_KERNEL
    )
    if must_be_formed and needed[largest] > free:
        raise MemoryError(
            f"A kernel of {largest} points and what is computed from it need "
            f"{needed[largest] / _memory.GIB:.1f} GiB, and {free / _memory.GIB:.1f} GiB are free."
        )
    may_be_exact = settings.spectrum != "stochastic"
    sizes_that_fit = [n for n, size in needed.items() if size <= free and may_be_exact]
    n_exact = max(sizes_that_fit, default=0)
    width = len(requirements.points)
    if n_exact < largest or requirements.n_rows(width) > LARGE:
        return Plan(n_exact, together=False)
    # Half of the free memory, because every core holds a kernel and its derivatives at once.
    per_core = free // (2 * _machine.n_cores()) - requirements.n_bytes(width)
    return Plan(n_exact, together=requirements.is_one_block(per_core))


def describe_plan(plan: Plan, largest: int, settings: Settings) -> dict[str, str]:
    """Describe how an ensemble whose largest subset has `largest` points is measured."""
    implementation = empirical.resolve_implementation(settings.implementation)
    tile = settings.block_size or _planning.TILE
    blocks = "one block" if plan.together else f"tiles of at most {tile} points"
    product_tile = settings.block_size or _planning.PRODUCT_TILE
    quadrature = (
        f"stochastic Lanczos quadrature, {settings.n_leading} leading vectors, "
        f"{settings.n_probes} probes, {settings.n_steps} steps"
    )
    # Descriptions for decomposed and for estimated kernels.
    pairs = {
        "implementation": (implementation, "products"),
        "blocks": (blocks, f"tiles of at most {product_tile} points"),
        "eigenvalues": ("float64, negative ones from round-off set to 0", quadrature),
    }
    varying = {name: _by_size(plan.n_exact, largest, *pair) for name, pair in pairs.items()}
    return {
        "implementation": varying["implementation"],
        "blocks": varying["blocks"],
        "dtype": settings.dtype,
        "matmul_precision": "highest",
        "eigenvalues": varying["eigenvalues"],
    }


def _by_size(n_exact: int, largest: int, exact: str, estimated: str) -> str:
    """Return a description: `exact` up to a size, and `estimated` beyond."""
    if n_exact == largest:
        return exact
    return f"{exact} up to {n_exact} points, {estimated} beyond" if n_exact else estimated
