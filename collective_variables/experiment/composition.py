"""Run an experiment: select subsets, measure their kernels, train on them, and join the results."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import flax.linen as nn
import numpy as np
import pandas as pd
from jaxtyping import Int

from collective_variables import _checks
from collective_variables.data import problems
from collective_variables.ensembles import subset_sizes
from collective_variables.experiment.join import join_runs, label_tables
from collective_variables.experiment.measure import measure_subsets
from collective_variables.experiment.select import Watch, select_subsets
from collective_variables.experiment.train import losses_tables, train_subsets
from collective_variables.observables import measurement
from collective_variables.training import schedules

Method = tuple[str, Mapping[str, Any]]
Indices = Int[np.ndarray, "n_members n_selected"]
Sizes = Sequence[int] | dict[str, int | str] | Int[np.ndarray, "n_members n_sizes"]


def run_experiment(
    dataset: problems.Dataset,
    network: nn.Module,
    methods: Sequence[str] | Mapping[str, Method | Indices],
    n_points: Sizes,
    /,
    *,
    members: int | None = None,
    seed: int = 0,
    schedule: schedules.Schedule,
    measure: bool = True,
    settings: measurement.Settings = measurement.Settings(),
    name: str | None = None,
    progress: str = "",
    watch: Watch = nullcontext,
) -> pd.DataFrame:
    """Train networks on the subsets of several methods, and measure the kernels of the subsets.

    This is the experiment of Tovey et al. 2023: an ensemble of networks for each method and size.
    Members differ in their network and their random numbers. A member starts from the same network
    for all methods and sizes, so that methods can be compared in pairs.

    Args:
        dataset: Pool and test points, as `load_problem` returns them.
        network: The network to be trained, as `build_network` makes it.
        methods: Names of `SELECTION_METHODS`; or, by the name in the table, a method and its
            options, or rows of the pool (members, n_selected) that were selected before.
        n_points: Subset sizes of all members; or a range {"low", "high", "distribution"} to draw
            one size for each member from; or the sizes (members, n_sizes) themselves, ascending
            along rows. The smaller subsets are the first points of the largest.
        members: Number of networks for each method and size. Not needed if rows or sizes have it.
        seed: Seed of all random numbers.
        schedule: Loss, optimiser, epochs and batch size.
        measure: Whether to measure the kernels before training.
        settings: How kernels are measured (`measurement.Settings`).
        name: Content of the column `group`; the name of the dataset by default.
        progress: Text in front of the progress bars; "" shows none.
        watch: watch(part) is a context entered around each part, to time it: "selection, NAME",
            "training" and "kernels".

    Returns:
        One row per trained network: group, parametrisation, method, member, n_points, the
        collective variables before training (entropy in nats, trace and others), and
        min_test_loss, final_test_loss, min_train_loss, final_train_loss, max_test_accuracy,
        final_test_accuracy and diverged.

    Raises TypeError if an argument has the wrong type, and ValueError if one is out of range, or
    subsets, sizes and members do not fit.

    Example:
        >>> import collective_variables as cv
        >>> data = cv.load_problem("fuel")
        >>> network = cv.build_network(["dense 16", "dense 1"], parametrisation="ntk")
        >>> runs = cv.run_experiment(
        ...     data, network, ["random", "k-center"], [20], members=3,
        ...     schedule=cv.Schedule(n_epochs=50, evaluate_every=5),
        ... )
        >>> entropies = runs.groupby("method")["entropy"].mean()
        >>> {method: f"{value:.2f}" for method, value in entropies.items()}
        {'k-center': '2.12', 'random': '1.96'}
    """
    methods = _named(methods)
    members = _members(members, methods, n_points)
    sizes = _sizes(n_points, members, seed)
    # The largest size of a range is selected even if no member draws it.
    largest = subset_sizes.largest(n_points) if isinstance(n_points, dict) else int(sizes.max())
    selected = select_subsets(
        dataset,
        network,
        {label: choice for label, choice in methods.items() if isinstance(choice, tuple)},
        largest,
        members,
        seed=seed,
        progress=progress,
        watch=watch,
    )
    subsets = {label: selected.get(label, choice) for label, choice in methods.items()}
    networks = {network.parametrisation: network}
    with watch("training"):
        trained = train_subsets(
            dataset, networks, subsets, sizes, seed=seed, schedule=schedule, progress=progress
        )
    losses = label_tables(losses_tables(trained, sizes, dataset.task))
    variables = None
    if measure:
        with watch("kernels"):
            measured = measure_subsets(
                dataset, networks, subsets, sizes, seed=seed, settings=settings, progress=progress
            )
        variables = label_tables(
            {
                label: measurement.tables["collective_variables"]
                for label, measurement in measured.items()
            }
        )
    return join_runs(variables, losses, group=dataset.name if name is None else name)


def _named(
    methods: Sequence[str] | Mapping[str, Method | Indices],
) -> dict[str, Method | Indices]:
    """Return methods and rows by name."""
    if isinstance(methods, Mapping):
        choices = dict(methods)
    else:
        choices = {name: (name, {}) for name in _checks.unique("methods", methods)}
    if not choices:
        raise ValueError("methods must name at least one method: received none.")
    for name, choice in choices.items():
        if not isinstance(choice, tuple | np.ndarray):
            raise TypeError(
                f"methods must have a method with its options, or an array of rows, for {name}: "
                f"received {choice!r}."
            )
    return choices


def _members(members: int | None, choices: Mapping[str, Method | Indices], n_points: Sizes) -> int:
    """Return the number of members, on which all arrays must agree."""
    counts = {name: len(rows) for name, rows in choices.items() if isinstance(rows, np.ndarray)}
    if isinstance(n_points, np.ndarray) and n_points.ndim == 2:
        counts["n_points"] = len(n_points)
    if members is None and not counts:
        raise TypeError("members must be given, or rows or sizes of each member: received None.")
    members = next(iter(counts.values())) if members is None else members
    _checks.integer("members", members, minimum=1)
    for name, count in counts.items():
        if count != members:
            raise ValueError(f"{name} must have a row for each of {members} members: {count} rows.")
    return members


def _sizes(n_points: Sizes, members: int, seed: int) -> Int[np.ndarray, "n_members n_sizes"]:
    if isinstance(n_points, np.ndarray) and n_points.ndim == 2:
        return n_points
    sizes = n_points if isinstance(n_points, dict) else list(n_points)
    return subset_sizes.draw(sizes, n_members=members, seed=seed)
