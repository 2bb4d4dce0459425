"""What the command line does with data of one's own: choose rows, compare methods of choice,
measure a network.
"""

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from collective_variables.analysis import statistics
from collective_variables.data import encoding, problems
from collective_variables.data._errors import DataError
from collective_variables.ensembles import seeding, subset_sizes
from collective_variables.experiment import run_experiment
from collective_variables.networks import imported, parameters, sequential
from collective_variables.observables import measurement
from collective_variables.selection import base, registry
from collective_variables.training import schedules

NEED_TARGETS = ("stratified",)  # methods that look at all targets
DENSE = ("dense 128", "dense 128")
CONVOLUTIONAL = ("conv 32 3x3", "avgpool 2x2", "conv 32 3x3", "avgpool 2x2", "dense 128")
REFERENCE = "random"
CHOSEN = ("order", "row", "distance")
# Hidden layers, or a network of one's own; None for what `build` has by itself.
Architecture = Sequence[str] | imported.Model | None


class Comparison(NamedTuple):
    """A row for each trained network, means for each method and size, and paired differences from
    random choice.
    """

    runs: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame


class Measurement(NamedTuple):
    """Collective variables of each untrained network and size, and the eigenvalues of their
    kernels.
    """

    variables: pd.DataFrame
    spectra: pd.DataFrame


def build_default(
    inputs: np.ndarray, n_outputs: int, network: Architecture, /
) -> sequential.Network | imported.Model:
    """A network of hidden layers, by default two dense ones of 128, of images two convolutional and
    one dense, and the outputs.

    One of one's own is as it is.
    """
    if isinstance(network, imported.Model):
        return network
    if network is None:
        network = CONVOLUTIONAL if inputs.ndim == 4 else DENSE
    return sequential.build_network([*network, f"dense {n_outputs}"])


def select(
    table: encoding.Table,
    /,
    *,
    n_points: int,
    method: str = "rnd",
    options: Mapping[str, Any] = {},
    labelled: Sequence[int] = (),
    network: Architecture = None,
    seed: int = 0,
    progress: str = "",
) -> pd.DataFrame:
    """Choose `n_points` rows beyond those already `labelled`, by one of `registry.METHODS` with its
    options.

    A row for each: `order`, 1 for the first; `row` of the file, from 0; `distance` from what was
    chosen before, NaN where the method has none. Raises the errors of the method, and DataError for
    one that needs targets which are missing.
    """
    inputs = encoding.scale_inputs(table.inputs, np.arange(len(table.inputs))).astype(np.float32)
    options = dict(options)
    if len(labelled):
        if "labelled" not in registry.OPTIONS.get(method, ["labelled"]):
            able = ", ".join(name for name, of in registry.OPTIONS.items() if "labelled" in of)
            raise DataError(
                f"Rows that are labelled already are taken into account by {able}: received the method {method}."
            )
        options["labelled"] = list(labelled)
    if (method in NEED_TARGETS or options.get("per_class")) and (
        table.targets is None or not table.is_labelled.all()
    ):
        raise DataError(f"The method {method} needs the target of every row, or another choice.")
    # Others look at no target.
    targets = np.zeros((len(inputs), 1)) if table.targets is None else np.nan_to_num(table.targets)
    problem = registry.Problem(
        inputs,
        targets.astype(np.float32),
        table.task,
        build_default(inputs, targets.shape[1], network),
        seed,
    )
    budget = registry.Budget(len(labelled) + n_points, 1, progress)
    chosen = registry.select_by(method, problem, budget, options)
    rows, distances = chosen.indices[0, len(labelled) :], chosen.distances[0, len(labelled) :]
    found = rows >= 0  # a threshold may stop before
    return pd.DataFrame(
        dict(zip(CHOSEN, (np.arange(1, found.sum() + 1), rows[found], distances[found])))
    )


def compare(
    dataset: problems.Dataset,
    /,
    *,
    n_points: Sequence[int],
    chosen_by: Mapping[str, tuple[str, Mapping[str, Any]]],
    n_members: int = 5,
    schedule: schedules.Schedule,
    network: Architecture = None,
    seed: int = 0,
    progress: str = "",
) -> Comparison:
    """Train networks on what each method chooses, random choice among them, and compare their
    losses on the test points.

    chosen_by: by the name that it has in the tables a method and its options. Members differ in
    their network, their random numbers and, with random choice, their points; a member starts from
    one network whatever the method.
    """
    sizes = subset_sizes.draw(list(n_points), n_members=n_members, seed=seed)
    of = build_default(dataset.inputs, dataset.targets.shape[1], network)
    problem = registry.Problem(dataset.inputs, dataset.targets, dataset.task, of, seed)
    budget = registry.Budget(int(sizes.max()), n_members)
    chosen = {}
    for name, (method, options) in ({REFERENCE: (REFERENCE, {})} | dict(chosen_by)).items():
        budget = budget._replace(progress=progress and f"{progress}: {name}")
        chosen[name] = registry.select_by(method, problem, budget, dict(options))
        base.check_whole(chosen[name])
    subsets = {name: of_method.indices for name, of_method in chosen.items()}
    runs = run_experiment(
        dataset,
        of,
        subsets,
        sizes,
        seed=seed,
        schedule=schedule,
        name=dataset.name,
        progress=progress,
    )
    return Comparison(runs, statistics.summary(runs), statistics.paired_differences(runs))


def page(compared: Comparison, title: str, /) -> str:
    """Learning curves of a comparison, and what the subsets' kernels are like, as a page of HTML
    that needs no other file.
    """
    from plotly import io

    from collective_variables.papers import figures_2023

    drawn = [
        figures_2023.comparison(compared.summary, variable)
        for variable in ("min_test_loss", "entropy", "trace")
    ]
    # The first brings the library that draws all of them.
    how = {"full_html": False, "config": {"displayModeBar": False}}  # which would cover the legend
    parts = [
        io.to_html(figure, include_plotlyjs=number == 0, **how)
        for number, figure in enumerate(drawn)
    ]
    name = html.escape(title)
    return f'<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>{name}</title><h1>{name}</h1>{"".join(parts)}</html>'


def measure(
    table: encoding.Table,
    /,
    *,
    n_points: Sequence[int],
    n_members: int = 5,
    settings: measurement.Settings = measurement.Settings(),
    network: Architecture = None,
    seed: int = 0,
    progress: str = "",
) -> Measurement:
    """Entropy, trace and spectrum of the kernels of untrained networks on random rows, nested from
    size to size.

    Without targets the network has one output, and alignments with the targets are NaN. Raises
    DataError where fewer than two rows have a target, ValueError for a network that does not fit
    (`parameters.check_fit`), and the errors of `measurement.measure_ensemble`.
    """
    rows = np.flatnonzero(table.is_labelled)
    if len(rows) < 2:
        raise DataError(
            f"A kernel needs two rows with a target at least: {len(rows)} of {len(table.inputs)} have one."
        )
    inputs = encoding.scale_inputs(table.inputs, np.arange(len(table.inputs))).astype(np.float32)[
        rows
    ]
    targets = np.zeros((len(rows), 1), np.float32)
    if table.targets is not None:
        targets = table.targets[rows]
        targets = (
            problems.z_score(targets, np.arange(len(rows)))
            if table.task == "regression"
            else targets
        ).astype(np.float32)
    sizes = subset_sizes.draw(list(n_points), n_members=n_members, seed=seed)
    chosen = base.random(
        len(rows),
        n_selected=int(sizes.max()),
        n_members=n_members,
        key=seeding.key(seed, "subsets"),
    )
    of = build_default(inputs, targets.shape[1], network)
    parameters.check_fit(of, inputs, targets)
    options = {"seed": seed, "settings": settings, "progress": progress}
    (measured,) = measurement.measure_ensemble(
        of, measurement.Pool(inputs, targets), [chosen.indices], sizes, **options
    )
    variables = measured.tables["collective_variables"]
    if table.targets is None:
        variables = variables.assign(
            **dict.fromkeys(("target_alignment", "centred_target_alignment"), np.nan)
        )
    return Measurement(variables, _spectra(measured.eigenvalues, sizes))


def _spectra(eigenvalues: np.ndarray, sizes: np.ndarray) -> pd.DataFrame:
    """A row for each eigenvalue, the largest first; none where they were estimated."""
    parts = []
    for member, number in np.ndindex(sizes.shape):
        values = np.sort(eigenvalues[member, number][: sizes[member, number]])[::-1]
        values = values[np.isfinite(values)]
        about = {
            "member": member,
            "n_points": sizes[member, number],
            "number": np.arange(1, len(values) + 1),
        }
        parts.append(pd.DataFrame(about | {"eigenvalue": values}))
    return pd.concat(parts, ignore_index=True)
