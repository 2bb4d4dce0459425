"""Train the networks of a scaling study and record entropy, trace and loss through training."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Int

from collective_variables import _checks
from collective_variables.ensembles import checkpoints
from collective_variables.networks import architectures, frozen, parameters, sequential
from collective_variables.training import (
    ensemble_training,
    loop,
    recorded_training,
    recording,
    schedules,
    study_cases,
)

LECUN = "lecun"
N_POOLINGS = 2  # poolings of a convolutional network, each of which halves the image


class Trained(NamedTuple):
    """Hold the recordings of a study, and the number of runs that diverged.

    The tables are those of `recorded_training.TABLES`, with the columns of `AXES` and member in
    front.
    """

    tables: dict[str, pd.DataFrame]
    n_diverged: int


def _dense_layers(case: study_cases.Case) -> list[str]:
    return [f"dense {case.width}"] * case.depth


def _conv_layers(case: study_cases.Case) -> list[str]:
    convolution = f"conv {case.width} 3x3"
    n_poolings = min(case.depth, N_POOLINGS)
    pooled = [convolution, "avgpool 2x2"] * n_poolings
    return [*pooled, *[convolution] * (case.depth - n_poolings)]


# The hidden layers of networks that are lists of layers.
LAYERS = {"dense": _dense_layers, "conv": _conv_layers}
KINDS = (*LAYERS, *architectures.ARCHITECTURES)


class _Training(NamedTuple):
    """Hold a case with everything that its training takes."""

    case: study_cases.Case
    network: nn.Module | frozen.Frozen
    runs: ensemble_training.Runs
    schedule: schedules.Schedule
    changes: recorded_training.Changes


def check_kind(kind: str, parametrisation: str, /) -> None:
    """Raise ValueError if there is no such kind of network, or not in this parametrisation."""
    _checks.choice("kind", kind, KINDS)
    _checks.choice("parametrisation", parametrisation, sequential.PARAMETRISATIONS)
    if kind not in LAYERS and parametrisation != LECUN:
        raise ValueError(
            f"parametrisation must be {LECUN!r} for the kind {kind!r}; only {' and '.join(LAYERS)} "
            f"have another: received {parametrisation!r}."
        )


def build_case(
    case: study_cases.Case,
    kind: str,
    pool: loop.Points,
    test: loop.Points,
    /,
    *,
    parametrisation: str = LECUN,
) -> nn.Module | frozen.Frozen:
    """Return the network of a case for points of this shape.

    Args:
        case: Activation, width, depth, and whether features are learned.
        kind: "dense"; "conv", 3x3 windows with a 2x2 pooling behind each of the first two layers;
            or one of `architectures.ARCHITECTURES`.
        pool: Inputs and targets.
        test: Inputs and targets to test on.
        parametrisation: As in `sequential.build_network`; the architectures have LeCun's only.

    Raises the errors of `check_kind`.
    """
    check_kind(kind, parametrisation)
    if kind in LAYERS:
        layers = [*LAYERS[kind](case), f"dense {pool.targets.shape[1]}"]
        network = sequential.build_network(
            layers, activation=case.activation, parametrisation=parametrisation
        )
    else:
        network = _build_architecture(case, kind, pool, test)
    return (
        network if case.features == study_cases.LEARNED else frozen.Frozen(network, case.features)
    )


def _build_architecture(
    case: study_cases.Case, kind: str, pool: loop.Points, test: loop.Points
) -> nn.Module:
    n_tokens = int(max(pool.inputs.max(), test.inputs.max()))
    depths = {
        "transformer": {"n_tokens": n_tokens, "n_layers": case.depth},
        "graph-network": {"n_steps": case.depth},
    }
    return architectures.build_architecture(
        kind,
        n_outputs=pool.targets.shape[1],
        width=case.width,
        activation=case.activation,
        **depths.get(kind, {"n_blocks": case.depth}),
    )


def train_cases(
    cases: Sequence[study_cases.Case],
    kind: str,
    pool: loop.Points,
    test: loop.Points,
    indices: Int[np.ndarray, "n_members n_points"],
    /,
    *,
    schedule: schedules.Schedule,
    settings: recording.Settings,
    seed: int,
    task: str,
    parametrisation: str = LECUN,
    noise_from: int = 0,
    progress: str = "",
    store: checkpoints.Store | None = None,
) -> Trained:
    """Train each case once for every member and record it.

    A case that belongs to several studies is needed only once. All cases are built and checked
    before the first is trained. Also raises ValueError for features that are not learned, if the
    optimiser changes parameters without a gradient.

    Args:
        cases: The cases.
        kind: The kind of network, as in `build_case`.
        pool: Inputs and targets of which the subsets are rows.
        test: Inputs and targets to test on.
        indices: (n_members, n_points) rows of the pool.
        schedule: The training; each case replaces the batch size.
        settings: What to record, and when.
        seed: Seed of all random numbers.
        task: Accuracies are NaN unless it is "classification".
        parametrisation: As in `build_case`.
        noise_from: Epoch from which labels are exchanged, for cases with label noise.
        progress: Text in front of the progress bars; "" shows none.
        store: Keeps finished runs, as in `ensemble_training.train_ensemble`.

    Returns:
        The recordings of all cases, with the number of learned parameters as last column.
    """
    trainings = [
        _Training(
            case,
            build_case(case, kind, pool, test, parametrisation=parametrisation),
            _runs(case, indices, seed),
            _schedule(case, schedule),
            recorded_training.Changes(case.weight_scale, case.label_noise, noise_from),
        )
        for case in cases
    ]
    for training in trainings:
        runs = [training.runs]
        ensemble_training.check(training.network, pool, test, runs, training.schedule)
        recorded_training.check_changes(training.changes, training.schedule)
        if isinstance(training.network, frozen.Frozen):
            _check_keeps(training.schedule)
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in recorded_training.TABLES}
    n_diverged = 0
    for number, training in enumerate(trainings, start=1):
        (recorded,) = recorded_training.train_ensemble(
            training.network,
            pool,
            test,
            [training.runs],
            schedule=training.schedule,
            settings=settings,
            changes=training.changes,
            between=False,
            progress=progress
            and f"{progress}: {_describe(training.case)} ({number} of {len(cases)})",
            store=store,
        )
        recording_table = recorded.tables["recording"]
        recording_table["n_parameters"] = parameters.n_parameters(training.network, pool.inputs)
        n_diverged += _count_diverged(recording_table)
        for name, table in recorded.tables.items():
            parts[name].append(_label(table, training.case))
    tables = {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}
    if task != "classification":
        tables["recording"]["accuracy"] = np.nan
    return Trained(tables, n_diverged)


def _runs(
    case: study_cases.Case, indices: Int[np.ndarray, "n_members n_points"], seed: int
) -> ensemble_training.Runs:
    sizes = np.full((len(indices), 1), case.n_points)
    return ensemble_training.runs(indices[:, : case.n_points], sizes, seed=seed)


def _schedule(case: study_cases.Case, schedule: schedules.Schedule) -> schedules.Schedule:
    is_full_batch = case.batch_size == case.n_points
    return replace(schedule, batch_size=None if is_full_batch else case.batch_size)


def _check_keeps(schedule: schedules.Schedule) -> None:
    """Raise ValueError if the optimiser changes parameters without a gradient, as by decay."""
    optimiser, params = replace(schedule, trace_every=None).transformation(), jnp.ones(1)
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes integers and floats
        updates, _ = optimiser.update(jnp.zeros(1), optimiser.init(params), params)
    if updates.any():
        raise ValueError(
            "optimiser must leave parameters without a gradient as they are, for features that are "
            f"not learned: received {schedule.optimiser!r}. adam and sgd do."
        )


def _describe(case: study_cases.Case) -> str:
    features = "" if case.features == study_cases.LEARNED else f", {case.features}"
    return f"{case.activation}, {case.depth} deep, {case.width} wide{features}"


def _count_diverged(recording_table: pd.DataFrame) -> int:
    losses = recording_table.pivot(index="run", columns=["points", "epoch"], values="loss")
    return int((~np.isfinite(losses).all(axis=1)).sum())


def _label(table: pd.DataFrame, case: study_cases.Case) -> pd.DataFrame:
    """Return a table with the axes of a case in front."""
    labels = {axis: [value] * len(table) for axis, value in asdict(case).items()}
    return pd.concat([pd.DataFrame(labels), table.rename(columns={"run": "member"})], axis=1)
