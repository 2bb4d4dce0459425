"""Subsets put to the test: the collective variables of untrained networks on them, and the losses of trained ones."""

import numpy as np
import pandas as pd
from jaxtyping import Int

from collective_variables import datasets, measuring, networks, training


def trial(
    dataset: datasets.Dataset,
    network: networks.Network,
    subsets: dict[str, Int[np.ndarray, "n_members n_selected"]],
    n_points: Int[np.ndarray, "n_members n_sizes"],
    /,
    *,
    seed: int,
    schedule: training.Schedule,
    name: str,
    kernels: bool = True,
    progress: str | None = None,
) -> pd.DataFrame:
    """One row for each method of `subsets`, member and size: losses on the test points, entropy and trace if `kernels`.

    A member starts from the same network whatever the method, so that methods are paired. name: of the group in the table.
    progress: what is shown in front of its bars, the name if not given; "" shows none.
    """
    progress = name if progress is None else progress
    pool = training.Points(dataset.inputs, dataset.targets)
    curves = training.train_ensemble(
        network,
        pool,
        training.Points(dataset.test_inputs, dataset.test_targets),
        [training.runs(indices, n_points, seed=seed) for indices in subsets.values()],
        schedule=schedule,
        progress=progress and f"{progress}: networks",
    )
    tables = [training.table(of_method, n_points, dataset.task) for of_method in curves]
    if kernels:
        arrays = list(subsets.values())
        measured = measuring.measure(
            network, measuring.Pool(*pool), arrays, n_points, seed=seed, progress=progress and f"{progress}: kernels"
        )
        variables = (of.tables["collective_variables"] for of in measured)
        tables = [of.merge(losses, on=["member", "n_points"], validate="one_to_one") for of, losses in zip(variables, tables)]
    about = {"group": name, "parametrisation": network.parametrisation}
    return pd.concat([of.assign(method=method, **about) for method, of in zip(subsets, tables)], ignore_index=True)
