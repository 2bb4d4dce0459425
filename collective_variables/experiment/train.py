"""Train networks on the subsets of an experiment."""

from collections.abc import Mapping

import flax.linen as nn
import numpy as np
import pandas as pd
from jaxtyping import Int

from collective_variables.ensembles import checkpoints
from collective_variables.experiment._dataset import Dataset
from collective_variables.training import (
    ensemble_training,
    loop,
    recorded_training,
    recording,
    schedules,
)


def train_subsets(
    dataset: Dataset,
    networks: Mapping[str, nn.Module],
    subsets: Mapping[str, Int[np.ndarray, "n_members n_selected"]],
    n_points: Int[np.ndarray, "n_members n_sizes"],
    /,
    *,
    seed: int,
    schedule: schedules.Schedule,
    record: recording.Settings | None = None,
    progress: str = "",
    store: checkpoints.Store | None = None,
) -> dict[str, recorded_training.Recorded]:
    """Return curves and recordings of each network and method, by "parametrisation/method".

    A member starts from the same network whatever the method, so that methods are paired. Also
    raises the errors of `recorded_training.train_ensemble`.

    Args:
        dataset: Pool and test points.
        networks: The networks, by their parametrisation.
        subsets: (n_members, n_selected) rows of the pool, by the name of their method.
        n_points: (n_members, n_sizes) subset sizes.
        seed: Seed of all random numbers.
        schedule: Loss, optimiser, epochs and batch size.
        record: What to record of the kernels during the training; None records nothing.
        progress: Text in front of the progress bars; "" shows none.
        store: Keeps finished runs, as in `ensemble_training.train_ensemble`.
    """
    pool = loop.Points(dataset.inputs, dataset.targets)
    test = loop.Points(dataset.test_inputs, dataset.test_targets)
    runs = [ensemble_training.runs(indices, n_points, seed=seed) for indices in subsets.values()]
    results = {}
    for parametrisation, network in networks.items():
        recorded = recorded_training.train_ensemble(
            network,
            pool,
            test,
            runs,
            schedule=schedule,
            settings=record,
            progress=progress and f"{progress}: {parametrisation} networks",
            store=store,
        )
        results |= {
            f"{parametrisation}/{name}": recording for name, recording in zip(subsets, recorded)
        }
    return results


def losses_tables(
    trained: Mapping[str, recorded_training.Recorded],
    n_points: Int[np.ndarray, "n_members n_sizes"],
    task: str,
    /,
) -> dict[str, pd.DataFrame]:
    """Return the table of losses of each network and method, with a row per member and size."""
    return {
        label: ensemble_training.losses_table(recorded.curves, n_points, task)
        for label, recorded in trained.items()
    }
