"""Select rows of a table, compare selection methods, and measure a network on the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from collective_variables.active_learning import architecture
from collective_variables.analysis import statistics
from collective_variables.data import encoding, problems
from collective_variables.data import scaling as scalings
from collective_variables.data._errors import DataError
from collective_variables.ensembles import seeding, subset_sizes
from collective_variables.experiment.composition import run_experiment
from collective_variables.networks import imported, parameters, sequential
from collective_variables.observables import measurement
from collective_variables.selection import base, registry, rnd_linearised
from collective_variables.selection.batches import kernels
from collective_variables.training import schedules

TARGET_METHODS = ("stratified",)  # they need all targets
NETWORK_METHODS = registry.methods_that_need("network")
PREDICTION_METHODS = registry.methods_that_need("predictions")
# Options that are arrays or have an argument for them.
NOT_TYPED = ("labelled", "params", "predictions")
# Methods whose only random number is the first point, unless rows are labelled.
FIRST_POINT_METHODS = ("k-center", "kernel-herding", "facility-location")
# Rules for batches that draw no random numbers, but for the network of their kernel.
BATCH_METHODS = ("max-diag", "max-det", "max-dist", "bait", "frank-wolfe", "lcmd", "max-herding")
REFERENCE = "random"
SELECTED = ("order", "row", "distance")
# Hidden layers, or a user's network; None for the default of `build_default`.
Architecture = Sequence[str] | imported.Model | None


class Comparison(NamedTuple):
    """Losses of networks trained on the rows that methods select.

    Attributes:
        runs: A row for each network.
        summary: Means for each method and size.
        differences: Paired differences from random selection.
    """

    runs: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame


class Measurement(NamedTuple):
    """Collective variables of each untrained network and size, and eigenvalues of the kernels."""

    variables: pd.DataFrame
    spectra: pd.DataFrame


def build_default(
    inputs: np.ndarray, n_outputs: int, network: Architecture, /
) -> sequential.Network | imported.Model:
    """Return a network with the given hidden layers and `n_outputs` outputs.

    By default it has two dense layers of 128; for images, two convolutional layers and a dense one.
    A user's network is returned as it is.
    """
    if isinstance(network, imported.Model):
        return network
    if network is None:
        network = architecture.default_layers(inputs)
    return sequential.build_network([*network, f"dense {n_outputs}"])


def select(
    table: encoding.Table,
    /,
    *,
    n_points: int,
    method: str = "rnd-linearised",
    options: Mapping[str, Any] = {},
    labelled: Sequence[int] = (),
    network: Architecture = None,
    seed: int = 0,
    scaling: str = scalings.DEFAULT,
    progress: str = "",
) -> pd.DataFrame:
    """Select `n_points` rows in addition to those already labelled.

    Raises DataError if the method needs targets that are missing, and the errors of the method.

    Args:
        table: The rows.
        n_points: Number of rows to select.
        method: One of `registry.SELECTION_METHODS`.
        options: Options of the method.
        labelled: Rows that count as selected already.
        network: The network, for methods that use one.
        seed: Random seed.
        scaling: Scaling of the inputs, one of `scaling.SCALINGS`.
        progress: Text in front of the progress bar; "" shows none.

    Returns:
        A line for each selected row. `order` is 1 for the first, and `row` counts the rows of the
        file from 0. `distance` is that from the rows selected before; NaN if the method has none.
    """
    problem, options = selection_problem(
        table,
        method=method,
        options=options,
        labelled=labelled,
        network=network,
        seed=seed,
        scaling=scaling,
    )
    budget = registry.Budget(len(labelled) + n_points, 1, progress)
    selection = registry.select_by(method, problem, budget, options)
    rows = selection.indices[0, len(labelled) :]
    distances = selection.distances[0, len(labelled) :]
    is_row = rows >= 0  # a threshold may stop the selection early
    columns = (np.arange(1, is_row.sum() + 1), rows[is_row], distances[is_row])
    return pd.DataFrame(dict(zip(SELECTED, columns)))


def selection_problem(
    table: encoding.Table,
    /,
    *,
    method: str,
    options: Mapping[str, Any] = {},
    labelled: Sequence[int] = (),
    network: Architecture = None,
    seed: int = 0,
    scaling: str = scalings.DEFAULT,
) -> tuple[registry.Problem, dict[str, Any]]:
    """Return the problem of `select`, and the options of the method with the labelled rows."""
    inputs = scalings.scale_table(table, np.arange(len(table.inputs)), scaling=scaling)
    inputs = inputs.astype(np.float32)
    options = dict(options)
    if len(labelled):
        options["labelled"] = list(labelled)
    needs_targets = method in TARGET_METHODS or options.get("per_class")
    if needs_targets and (table.targets is None or not table.is_labelled.all()):
        raise DataError(_without_targets(method, table))
    # Other methods ignore targets.
    if table.targets is None:
        targets = _no_targets(inputs, network)
    else:
        targets = np.nan_to_num(table.targets)
    problem = registry.Problem(
        inputs,
        targets.astype(np.float32),
        table.task or "regression",
        build_default(inputs, targets.shape[1], network),
        seed,
    )
    return problem, options


def _without_targets(method: str, table: encoding.Table) -> str:
    name = method if method in TARGET_METHODS else "per_class"
    n_rows = len(table.inputs)
    n_missing = n_rows if table.targets is None else int((~table.is_labelled).sum())
    return (
        f"{name} needs the target of every row, which {n_missing} of {n_rows} do not have: "
        f"{'choose another method' if name == method else 'leave per_class out'}."
    )


def uses_network(method: str, options: Mapping[str, Any], /) -> bool:
    """Return whether the rows that a method selects depend on the network."""
    return method in NETWORK_METHODS or options.get("kernel") not in (None, "linear")


def uses_seed(
    method: str, options: Mapping[str, Any], n_rows: int, /, *, labelled: Sequence[int] = ()
) -> bool:
    """Return whether the rows that a method selects depend on the seed."""
    if method in FIRST_POINT_METHODS:
        return options.get("first") != "best" and not labelled
    is_covered = method == "prob-cover" and options.get("radius") is not None
    if method in BATCH_METHODS or is_covered:
        return options.get("kernel") in kernels.NETWORK_KERNELS
    if method in PREDICTION_METHODS:
        return False
    if method != "rnd-linearised":
        return True
    # Wrong options are left to the selection, which raises the error.
    names = {field.name for field in fields(rnd_linearised.LinearisedRNDSettings)}
    settings = rnd_linearised.LinearisedRNDSettings(
        **{name: options[name] for name in names & set(options)}
    )
    starts_at_random = settings.first == "random" and not labelled
    return starts_at_random or not settings.is_exact(n_rows)


def compare(
    dataset: problems.Dataset,
    /,
    *,
    n_points: Sequence[int],
    methods: Mapping[str, tuple[str, Mapping[str, Any]]],
    n_members: int = 5,
    schedule: schedules.Schedule,
    network: Architecture = None,
    seed: int = 0,
    progress: str = "",
) -> Comparison:
    """Train networks on the rows that each method selects, and compare their test losses.

    Random selection is one of the methods. Members differ in their network, their random numbers
    and, for random methods, their points. A member starts from the same network for all methods.

    Args:
        dataset: Pool and test points.
        n_points: Sizes of the subsets.
        methods: A method and its options, by their name in the tables.
        n_members: Number of networks for each method and size.
        schedule: Schedule of the training.
        network: As in `build_default`.
        seed: Random seed.
        progress: Text in front of the progress bars; "" shows none.

    Returns:
        Losses, their means, and paired differences from random selection.
    """
    runs = run_experiment(
        dataset,
        build_default(dataset.inputs, dataset.targets.shape[1], network),
        {REFERENCE: (REFERENCE, {})} | dict(methods),
        list(n_points),
        members=n_members,
        seed=seed,
        schedule=schedule,
        progress=progress,
    )
    return Comparison(runs, statistics.summary(runs), statistics.paired_differences(runs))


def measure(
    table: encoding.Table,
    /,
    *,
    n_points: Sequence[int],
    n_members: int = 5,
    settings: measurement.Settings = measurement.Settings(),
    network: Architecture = None,
    seed: int = 0,
    scaling: str = scalings.DEFAULT,
    progress: str = "",
) -> Measurement:
    """Measure entropy, trace and spectrum of the kernels of untrained networks on random rows.

    Each subset contains the smaller ones. Without targets, the default network has one output, a
    user's network any number, and alignments with the targets are NaN. Raises DataError if fewer
    than two rows have a target, and the errors of `parameters.check_fit` and
    `measurement.measure_ensemble`.

    Args:
        table: The rows.
        n_points: Sizes of the subsets.
        n_members: Number of networks.
        settings: What is measured, and how.
        network: As in `build_default`.
        seed: Random seed.
        scaling: Scaling of the inputs, one of `scaling.SCALINGS`.
        progress: Text in front of the progress bar; "" shows none.

    Returns:
        Collective variables and eigenvalues of each network and size.
    """
    network, pool = measured_pool(table, network=network, scaling=scaling)
    sizes = subset_sizes.draw(list(n_points), n_members=n_members, seed=seed)
    selection = base.random(
        len(pool.inputs),
        n_selected=int(sizes.max()),
        n_members=n_members,
        key=seeding.key(seed, "subsets"),
    )
    options = {"seed": seed, "settings": settings, "progress": progress}
    (result,) = measurement.measure_ensemble(network, pool, [selection.indices], sizes, **options)
    variables = result.tables["collective_variables"]
    if table.targets is None:
        alignments = ("target_alignment", "centred_target_alignment")
        variables = variables.assign(**dict.fromkeys(alignments, np.nan))
    return Measurement(variables, _spectra(result.eigenvalues, sizes))


def measured_pool(
    table: encoding.Table,
    /,
    *,
    network: Architecture = None,
    scaling: str = scalings.DEFAULT,
) -> tuple[sequential.Network | imported.Model, measurement.Pool]:
    """Return the network and the pool of `measure`: the rows that have a target."""
    rows = np.flatnonzero(table.is_labelled)
    if len(rows) < 2:
        raise DataError(
            "A kernel needs at least two rows with a target: "
            f"{len(rows)} of {len(table.inputs)} have one."
        )
    inputs = scalings.scale_table(table, np.arange(len(table.inputs)), scaling=scaling)
    inputs = inputs[rows].astype(np.float32)
    if table.targets is None:
        targets = _no_targets(inputs, network)
    else:
        targets = _scaled_targets(table, rows)
    network = build_default(inputs, targets.shape[1], network)
    parameters.check_fit(network, inputs, targets)
    return network, measurement.Pool(inputs, targets)


def _no_targets(inputs: np.ndarray, network: Architecture) -> np.ndarray:
    """Return zeros for each output of a user's network, or for the one output of the default."""
    n_outputs = 1
    if isinstance(network, imported.Model):
        parameters.check_points(network, inputs)
        n_outputs = parameters.n_outputs(network, inputs)
    return np.zeros((len(inputs), n_outputs), np.float32)


def _scaled_targets(table: encoding.Table, rows: np.ndarray) -> np.ndarray:
    """Return the targets of the rows, as z-scores in a regression."""
    targets = table.targets[rows]
    if table.task == "regression":
        targets = problems.z_score(targets, np.arange(len(rows)))
    return targets.astype(np.float32)


def _spectra(eigenvalues: np.ndarray, sizes: np.ndarray) -> pd.DataFrame:
    """Return a row for each eigenvalue, largest first; sizes with estimates have none."""
    parts = []
    for member, number in np.ndindex(sizes.shape):
        values = np.sort(eigenvalues[member, number][: sizes[member, number]])[::-1]
        values = values[np.isfinite(values)]
        columns = {
            "member": member,
            "n_points": sizes[member, number],
            "number": np.arange(1, len(values) + 1),
            "eigenvalue": values,
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)
