"""Measure the kernels of untrained networks on the subsets of an experiment."""

from collections.abc import Mapping

import flax.linen as nn
import numpy as np
from jaxtyping import Int

from collective_variables.experiment import positions
from collective_variables.experiment._dataset import Dataset
from collective_variables.networks import parameters
from collective_variables.observables import measurement


def measure_subsets(
    dataset: Dataset,
    networks: Mapping[str, nn.Module],
    subsets: Mapping[str, Int[np.ndarray, "n_members n_selected"]],
    n_points: Int[np.ndarray, "n_members n_sizes"],
    /,
    *,
    seed: int,
    settings: measurement.Settings = measurement.Settings(),
    limit: measurement.Limit | None = None,
    per_class: bool = False,
    loss: str | None = None,
    progress: str = "",
) -> dict[str, measurement.Measurement]:
    """Return the measurement of each network and method, by "parametrisation/method".

    Raises ValueError for a network that does not fit the dataset, and the errors of
    `measurement.measure_ensemble`.

    Args:
        dataset: Pool and test points.
        networks: The networks, by their parametrisation.
        subsets: (n_members, n_selected) rows of the pool, by the name of their method.
        n_points: (n_members, n_sizes) subset sizes.
        seed: Seed of all random numbers.
        settings: How kernels are measured, as in `measurement.measure_ensemble`.
        limit: As in `measurement.measure_ensemble`.
        per_class: Whether to measure the points of each class separately, too.
        loss: One of `schedules.LOSSES`, whose spectral position is added to the variables; or None.
        progress: Text in front of the progress bars; "" shows none.
    """
    classes = measurement.classes_of(dataset.targets, dataset.task) if per_class else None
    pool = measurement.Pool(dataset.inputs, dataset.targets, classes)
    results = {}
    for parametrisation, network in networks.items():
        parameters.check_fit(network, dataset.inputs, dataset.targets)
        measured = measurement.measure_ensemble(
            network,
            pool,
            list(subsets.values()),
            n_points,
            seed=seed,
            settings=settings,
            limit=limit,
            progress=progress and f"{progress}: kernels of {parametrisation} networks",
        )
        if loss is not None:
            measured = [
                positions.add_positions(
                    measurement, dataset, network, rows, loss=loss, seed=seed, settings=settings
                )
                for measurement, rows in zip(measured, subsets.values())
            ]
        results |= {
            f"{parametrisation}/{name}": measurement for name, measurement in zip(subsets, measured)
        }
    return results
