"""Train an ensemble as `ensemble_training` does, and record its networks at chosen epochs."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks
from collective_variables.ensembles import _types, batching, checkpoints, execution
from collective_variables.networks import parameters, sequential
from collective_variables.training import (
    _quantities,
    ensemble_training,
    loop,
    recording,
    schedules,
)

Task = TypeVar("Task")
Tables = dict[str, pd.DataFrame]
Stops = Int[np.ndarray, " n_recorded"]
TABLES = ("recording", *_quantities.TABLES)

# Folded into the keys of a run for its samples and its noise; batches fold in their epoch.
SAMPLES = 2**32 - 1
NOISE = 2**32 - 2


class Changes(NamedTuple):
    """Set changes that make a training fail (Tovey et al. 2024 show no failure).

    Args:
        weight_scale: Factor of all initial parameters.
        label_noise: Fraction of a run's train points that exchange their targets. The train loss is
            then that of the exchanged targets.
        noise_from: Epoch of the exchange; must be an epoch at which losses are evaluated.
    """

    weight_scale: float = 1.0
    label_noise: float = 0.0
    noise_from: int = 0


class Recorded(NamedTuple):
    """Hold curves and tables of recorded runs.

    Attributes:
        curves: Those of `ensemble_training.train_ensemble` here.
        tables: All of `TABLES`, with the number of the run; without rows if nothing was recorded.
            "recording" also has loss and accuracy (of test points; NaN elsewhere) at its epochs.
    """

    curves: NamedTuple
    tables: Tables


def train_ensemble(
    network: sequential.Network,
    pool: loop.Points,
    test: loop.Points,
    ensembles_of_runs: Sequence[ensemble_training.Runs],
    /,
    *,
    schedule: schedules.Schedule,
    settings: recording.Settings | None,
    changes: Changes = Changes(),
    between: bool = True,
    progress: str = "",
    store: checkpoints.Store | None = None,
) -> list[Recorded]:
    """Train all runs and record each on its train points and on the test points.

    Raises the errors of `ensemble_training.check` and `check_changes`.

    Args:
        network: The network.
        pool: Inputs and targets of which the subsets are rows.
        test: Inputs and targets to test on.
        ensembles_of_runs: Runs to train, as `ensemble_training.runs` makes them.
        schedule: Loss, optimiser, epochs and batch size.
        settings: What to record, and when. None records nothing, makes no changes, and leaves the
            tables empty.
        changes: Changes that make the training fail.
        between: Whether to evaluate losses between the recorded epochs; otherwise they are NaN
            there.
        progress: Text in front of the progress bar; "" shows none.
        store: Keeps finished runs, as in `ensemble_training.train_ensemble`.

    Returns:
        One `Recorded` for each of `ensembles_of_runs`.
    """
    if settings is None:
        options = {"schedule": schedule, "progress": progress, "store": store}
        curves = ensemble_training.train_ensemble(network, pool, test, ensembles_of_runs, **options)
        return [Recorded(ensemble, _with_empty({})) for ensemble in curves]
    ensemble_training.check(network, pool, test, ensembles_of_runs, schedule)
    check_changes(changes, schedule)
    epochs = _stops(settings, changes, schedule)
    pool_and_test = jax.tree.map(jnp.asarray, (pool, test))
    runner = _Runner(network, schedule, settings, changes, *pool_and_test, epochs, between)
    places = [
        (number, run)
        for number, runs in enumerate(ensembles_of_runs)
        for run in range(len(runs.n_points))
    ]

    def run_at(place: tuple[int, int]) -> ensemble_training.Runs:
        return jax.tree.map(lambda leaf: leaf[place[1]], ensembles_of_runs[place[0]])

    def record(place: tuple[int, int], advance: _types.Advance) -> Recorded:
        return runner.record(run_at(place), advance)

    decisive = (network, schedule, settings, changes, between, *pool, *test)
    fingerprint = "" if store is None else checkpoints.fingerprint(*decisive)
    checkpoint = load_results(
        store,
        places,
        name=lambda place: f"{fingerprint}-{checkpoints.fingerprint(*run_at(place))}",
        curves=loop.Curves,
    )
    with execution.Progress(progress, len(places) * len(epochs), "epochs recorded") as bar:
        bar.advance(len(checkpoint.known) * len(epochs))
        results = execution.run(record, places, bar, checkpoint=checkpoint)
    return [
        join_tables([result for place, result in zip(places, results) if place[0] == number])
        for number in range(len(ensembles_of_runs))
    ]


def check_changes(changes: Changes, schedule: schedules.Schedule, /) -> None:
    """Raise ValueError unless the labels become noisy at an evaluation of the training."""
    # A training stops only at its evaluations, so labels cannot change between two of them.
    if not changes.label_noise:
        return
    epoch = _checks.integer("noise_from", changes.noise_from, minimum=0)
    if epoch > schedule.n_epochs:
        raise ValueError(f"noise_from must not exceed n_epochs: {epoch} > {schedule.n_epochs}.")
    if epoch % schedule.evaluate_every:
        raise ValueError(
            "noise_from must be a multiple of evaluate_every: "
            f"received {epoch} and {schedule.evaluate_every}."
        )


def _stops(settings: recording.Settings, changes: Changes, schedule: schedules.Schedule) -> Stops:
    """Return the epochs at which a training stops, to be recorded or because its labels change."""
    rules = [settings.epochs, *([[changes.noise_from]] if changes.label_noise else [])]
    epochs = [
        recording.recorded_epochs(rule, schedule.n_epochs, evaluate_every=schedule.evaluate_every)
        for rule in rules
    ]
    return np.unique(np.concatenate(epochs))


def load_results(
    store: checkpoints.Store | None,
    tasks: Sequence[Task],
    /,
    *,
    name: Callable[[Task], str],
    curves: type[NamedTuple],
) -> checkpoints.Results[Task, Recorded]:
    """Return the recorded runs that `store` has for `tasks`, with curves of this type."""
    return checkpoints.Results(
        store, tasks, name=name, pack=_pack, unpack=partial(_unpack, curves=curves)
    )


def by_member(
    table: pd.DataFrame, n_points: Int[np.ndarray, "n_members n_sizes"], task: str, /
) -> pd.DataFrame:
    """Return a table of `Recorded` with member and subset size instead of the number of the run.

    The accuracy of a regression is NaN.
    """
    runs = table["run"].to_numpy()
    labels = pd.DataFrame({"member": runs // n_points.shape[1], "n_points": n_points.ravel()[runs]})
    result = pd.concat([labels, table.drop(columns="run")], axis=1)
    if "accuracy" in result and task != "classification":
        return result.assign(accuracy=np.nan)
    return result


def _with_empty(tables: Tables) -> Tables:
    """Return all of `TABLES`; those that are missing have no rows."""
    return {
        name: tables.get(name, pd.DataFrame({"run": np.array([], dtype=int)})) for name in TABLES
    }


class _Runner:
    """Hold what all runs of an ensemble share: points, and functions compiled once per size."""

    def __init__(
        self,
        network: sequential.Network,
        schedule: schedules.Schedule,
        settings: recording.Settings,
        changes: Changes,
        pool: loop.Points,
        test: loop.Points,
        epochs: Stops,
        between: bool,
    ):
        self._pool, self._test, self._epochs = pool, test, epochs
        self._schedule, self._settings, self._changes = schedule, settings, changes
        self._recorder = recording.Recorder(network.apply, settings, loss=schedule.loss)
        # Separate from the training, which is compiled for every padded size, because random
        # numbers compile slowly.
        self._start = batching.over_members(
            partial(_start, network, schedule, changes.weight_scale)
        )
        self._advance = batching.over_members(partial(_advance, network, schedule, between))

    def record(self, run: ensemble_training.Runs, advance: _types.Advance) -> Recorded:
        """Train and record one run."""
        n, n_selected = int(run.n_points), len(run.indices)
        record = self._start_recording(run)
        targets = noisy_targets(self._pool.targets, run, self._changes.label_noise)
        noisy_pool = self._pool._replace(targets=targets)
        run = run._replace(indices=run.indices[: batching.bucket(n, n_selected)])
        progress = self._start(self._pool.inputs, run.initialisation_keys[None])
        member = jax.tree.map(lambda leaf: leaf[None], run)
        stops = self._epochs // self._schedule.evaluate_every
        record.record(0, _params(progress))
        noise_from = self._changes.noise_from // self._schedule.evaluate_every
        for first, last in itertools.pairwise(stops):
            pool = noisy_pool if first >= noise_from else self._pool
            progress = self._advance((pool, self._test, first, last), *progress, member)
            record.record(last * self._schedule.evaluate_every, _params(progress))
            advance(1)
        advance(1)
        curves = jax.tree.map(lambda curve: np.asarray(curve)[0], progress[1])
        tables = record.tables
        return Recorded(
            curves, tables | {"recording": self._with_losses(tables["recording"], curves)}
        )

    def _start_recording(self, run: ensemble_training.Runs) -> recording.Recording:
        n, n_selected = int(run.n_points), len(run.indices)
        train = run.indices[: min(n, self._settings.n_train or n)]
        points = {
            "train": jax.tree.map(lambda leaf: leaf[train], self._pool),
            "test": jax.tree.map(lambda leaf: leaf[: self._settings.n_test], self._test),
        }
        key = jax.random.fold_in(run.batch_keys, SAMPLES)
        widths = {"train": batching.bucket(len(train), n_selected)}
        return self._recorder.recording(points, key=key, widths=widths)

    def _with_losses(self, table: pd.DataFrame, curves: loop.Curves) -> pd.DataFrame:
        place = len(recording.LABELS)
        number = table["epoch"].to_numpy() // self._schedule.evaluate_every
        is_test = table["points"].to_numpy() == "test"
        loss = np.where(is_test, curves.test_loss[number], curves.train_loss[number])
        table.insert(place, "loss", loss)
        accuracy = np.where(is_test, curves.test_accuracy[number], np.nan)
        table.insert(place + 1, "accuracy", accuracy)
        return table


def noisy_targets(
    targets: Float[Array, "n_pool n_outputs"], run: ensemble_training.Runs, fraction: float, /
) -> Float[Array, "n_pool n_outputs"]:
    """Return the targets after a fraction of a run's points, at least two, exchange theirs."""
    if not fraction:
        return targets
    n = int(run.n_points)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(run.batch_keys, NOISE), n))
    rows = run.indices[order[: max(2, round(fraction * n))]]
    # Each point gets the target of the next one, so none keeps its target.
    return targets.at[rows].set(targets[np.roll(rows, 1)])


def _start(
    network: nn.Module,
    schedule: schedules.Schedule,
    weight_scale: float,
    inputs: Array,
    key: PRNGKeyArray,
) -> tuple[loop.State, loop.Curves]:
    params = jax.tree.map(
        lambda leaf: leaf * weight_scale, parameters.initialise(network, key, inputs)
    )
    state = loop.start(schedule, params)
    return state, loop.Curves(*jnp.full((3, len(schedule.epochs)), jnp.nan, inputs.dtype))


def _advance(
    network: nn.Module,
    schedule: schedules.Schedule,
    between: bool,
    shared: tuple[loop.Points, loop.Points, Array, Array],
    state: loop.State,
    curves: loop.Curves,
    run: ensemble_training.Runs,
) -> tuple[loop.State, loop.Curves]:
    pool, test, first, last = shared
    subset = jax.tree.map(lambda leaf: leaf[run.indices], pool)
    options = {
        "schedule": schedule,
        "key": run.batch_keys,
        "n_points": run.n_points,
        "between": between,
    }
    return loop.advance(network, state, curves, subset, test, first=first, last=last, **options)


def _params(progress: tuple[loop.State, loop.Curves]) -> PyTree[Array]:
    """Return the parameters of the only network of a call."""
    return jax.tree.map(lambda leaf: leaf[0], progress[0].params)


def _pack(recorded: Recorded) -> dict[str, np.ndarray]:
    """Return a recorded run as named arrays."""
    columns = {
        f"{name}/{column}": np.asarray(
            values, dtype=None if pd.api.types.is_numeric_dtype(values) else str
        )
        for name, table in recorded.tables.items()
        for column, values in table.items()
    }
    return recorded.curves._asdict() | columns


def _unpack(arrays: dict[str, np.ndarray], curves: type[NamedTuple]) -> Recorded:
    tables: dict[str, dict[str, np.ndarray]] = {}
    for name, values in arrays.items():
        if "/" in name:
            table, column = name.split("/")
            tables.setdefault(table, {})[column] = values
    values = curves(*(arrays[name] for name in curves._fields))
    return Recorded(values, {name: pd.DataFrame(columns) for name, columns in tables.items()})


def join_tables(runs: list[Recorded]) -> Recorded:
    """Return the recorded runs of one ensemble together, numbered in the column `run`."""
    curves = jax.tree.map(lambda *leaves: np.stack(leaves), *(run.curves for run in runs))
    tables = {}
    for name in runs[0].tables:
        parts = [run.tables[name].assign(run=number) for number, run in enumerate(runs)]
        table = pd.concat(parts, ignore_index=True)
        tables[name] = table[["run", *table.columns.drop("run")]]
    return Recorded(curves, _with_empty(tables))
