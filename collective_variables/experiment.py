"""Subsets put to the test: the collective variables of untrained networks on them, and the losses
of trained ones.
"""

import numpy as np
import pandas as pd
from jaxtyping import Int

from collective_variables.data import problems
from collective_variables.networks import sequential
from collective_variables.observables import measurement
from collective_variables.training import ensemble_training, loop, schedules


def run_experiment(
    dataset: problems.Dataset,
    network: sequential.Network,
    subsets: dict[str, Int[np.ndarray, "n_members n_selected"]],
    n_points: Int[np.ndarray, "n_members n_sizes"],
    /,
    *,
    seed: int,
    schedule: schedules.Schedule,
    name: str,
    kernels: bool = True,
    progress: str | None = None,
) -> pd.DataFrame:
    """One row for each method of `subsets`, member and size: losses on the test points, entropy and
    trace if `kernels`.

    A member starts from the same network whatever the method, so that methods are paired. name: of
    the group in the table.
    progress: what is shown in front of its bars, the name if not given; "" shows none.
    """
    progress = name if progress is None else progress
    pool = loop.Points(dataset.inputs, dataset.targets)
    curves = ensemble_training.train_ensemble(
        network,
        pool,
        loop.Points(dataset.test_inputs, dataset.test_targets),
        [ensemble_training.runs(indices, n_points, seed=seed) for indices in subsets.values()],
        schedule=schedule,
        progress=progress and f"{progress}: networks",
    )
    tables = [
        ensemble_training.losses_table(of_method, n_points, dataset.task) for of_method in curves
    ]
    if kernels:
        arrays = list(subsets.values())
        measured = measurement.measure_ensemble(
            network,
            measurement.Pool(*pool),
            arrays,
            n_points,
            seed=seed,
            progress=progress and f"{progress}: kernels",
        )
        variables = (of.tables["collective_variables"] for of in measured)
        tables = [
            of.merge(losses, on=["member", "n_points"], validate="one_to_one")
            for of, losses in zip(variables, tables)
        ]
    about = {"group": name, "parametrisation": network.parametrisation}
    return pd.concat(
        [of.assign(method=method, **about) for method, of in zip(subsets, tables)],
        ignore_index=True,
    )
