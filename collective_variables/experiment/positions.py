"""Decompose the losses of untrained networks on the subsets of an experiment."""

from collections.abc import Iterator
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables.ensembles import batching, seeding
from collective_variables.experiment._dataset import Dataset
from collective_variables.networks import parameters
from collective_variables.observables import measurement
from collective_variables.training import schedules
from collective_variables.training.position import factors


def add_positions(
    measured: measurement.Measurement,
    dataset: Dataset,
    network: nn.Module,
    subsets: Int[np.ndarray, "n_members n_selected"],
    /,
    *,
    loss: str,
    seed: int,
    settings: measurement.Settings,
) -> measurement.Measurement:
    """Return a measurement whose variables include the spectral position of a loss.

    Args:
        measured: A measurement of kernels.
        dataset: Pool and test points.
        network: The network of the kernels.
        subsets: Its rows of the pool.
        loss: One of `schedules.LOSSES`.
        seed: Seed of the measurement.
        settings: Settings of the measurement.

    Returns:
        The measurement; its table "collective_variables" has `factors.Factors` as last columns.
    """
    table = measured.tables["collective_variables"]
    n_averaged = dataset.targets.shape[1] if settings.outputs in ("mean", "per-output") else 1
    with jax.enable_x64(settings.dtype == "float64"):
        slopes = _Slopes(dataset, network, loss, seed, len(subsets), settings.dtype)
        rows: list[factors.Factors] = []
        for number, part in table.groupby("member", sort=False):
            sizes = part["n_points"].to_numpy()
            found = slopes.yield_member(number, subsets[number], sizes)
            rows += [
                factors.from_slopes(chi_loss, n_averaged * trace, delta_loss)
                for trace, (chi_loss, delta_loss) in zip(part["trace"], found)
            ]
    positions = pd.DataFrame(rows, columns=factors.Factors._fields)
    tables = measured.tables | {"collective_variables": pd.concat([table, positions], axis=1)}
    return measured._replace(tables=tables)


class _Slopes:
    """Hold what all members share: points, and functions that are compiled once."""

    def __init__(
        self,
        dataset: Dataset,
        network: nn.Module,
        loss: str,
        seed: int,
        n_members: int,
        dtype: str,
    ):
        self._points = tuple(jnp.asarray(leaf, dtype) for leaf in (dataset.inputs, dataset.targets))
        self._keys = seeding.member_keys(seeding.key(seed, "initialisation"), n_members)
        # Drawn in float32, as for the kernels and the training.
        self._point = jnp.asarray(dataset.inputs[:1], jnp.float32)
        self._draw = batching.over_members(partial(_draw, network, dtype))
        self._compute = batching.over_members(partial(_slopes, network, loss))

    def yield_member(
        self,
        number: int,
        rows: Int[np.ndarray, " n_selected"],
        sizes: Int[np.ndarray, " n_sizes"],
    ) -> Iterator[tuple[float, float]]:
        """Yield χ_loss and δL of a member's first n rows, for each size n."""
        params = self._draw(self._point, self._keys[number : number + 1])
        width = batching.bucket(int(sizes.max()), len(rows))  # so that few sizes are compiled
        rows = rows[:width]
        for n in sizes:
            weights = np.where(np.arange(len(rows)) < n, 1 / n, 0.0).astype(self._points[0].dtype)
            slopes = self._compute(self._points, params, rows[None], weights[None])
            yield float(slopes.chi_loss[0]), float(slopes.delta_loss[0])


def _draw(network: nn.Module, dtype: str, point: Array, key: PRNGKeyArray) -> PyTree[Array]:
    params = parameters.initialise(network, key, point)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def _slopes(
    network: nn.Module,
    loss: str,
    points: tuple[Array, Array],
    params: PyTree[Array],
    rows: Int[Array, " k"],
    weights: Float[Array, " k"],
) -> factors.Slopes:
    """Return the squared derivatives of the weighted loss of some rows."""
    inputs, targets = (leaf[rows] for leaf in points)
    return factors.compute_slopes(
        network.apply,
        params,
        inputs,
        lambda outputs: jnp.vdot(weights, schedules.LOSSES[loss](outputs, targets)),
    )
