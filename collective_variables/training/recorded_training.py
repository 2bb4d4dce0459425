"""Training of an ensemble as in `training`, with a record of its networks at chosen epochs."""

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

from collective_variables.ensembles import _types, batching, checkpoints, execution
from collective_variables.networks import parameters, sequential
from collective_variables.training import ensemble_training, loop, recording, schedules

Task = TypeVar("Task")
Tables = dict[str, pd.DataFrame]
TABLES = ("recording", *recording.TABLES)

SAMPLES, NOISE = (
    2**32 - 1,
    2**32 - 2,
)  # folded into a run's key for these; the batches of epoch e have e there


class Changes(NamedTuple):
    """What is done to a training to see it fail (Tovey et al. 2024 show no failure).

    weight_scale: all initial parameters times this. label_noise: from the epoch `noise_from` on,
    the targets of this fraction of a run's train points are exchanged among these points; its train
    loss is that of the targets in force.
    """

    weight_scale: float = 1.0
    label_noise: float = 0.0
    noise_from: int = 0


class Recorded(NamedTuple):
    """Curves, those of `ensemble_training.train_ensemble` here, and the tables of
    `recording.Recording` with the number of the run.

    tables: all of `TABLES`, without rows where nothing was asked for; "recording" has loss and
    accuracy (of test points; NaN elsewhere) at its epochs, too.
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
    """Train as `ensemble_training.train_ensemble` does, and record every run on its own train
    points and on the test points.

    settings: None records nothing, makes no changes, and the tables are empty. between: whether the
    curves are wanted between the recorded epochs, where they are NaN otherwise. store: as there.
    """
    if settings is None:
        options = {"schedule": schedule, "progress": progress, "store": store}
        curves = ensemble_training.train_ensemble(network, pool, test, ensembles_of_runs, **options)
        return [Recorded(of, _with_empty({})) for of in curves]
    ensemble_training.check(network, pool, test, ensembles_of_runs, schedule)
    rules = [settings.epochs, *([[changes.noise_from]] if changes.label_noise else [])]
    recorded = [
        recording.recorded_epochs(rule, schedule.n_epochs, evaluate_every=schedule.evaluate_every)
        for rule in rules
    ]
    epochs = np.unique(np.concatenate(recorded))
    one = _Runner(
        network,
        schedule,
        settings,
        changes,
        *jax.tree.map(jnp.asarray, (pool, test)),
        epochs,
        between,
    )
    fingerprint = (
        ""
        if store is None
        else checkpoints.fingerprint(network, schedule, settings, changes, between, *pool, *test)
    )
    places = [
        (number, run)
        for number, of in enumerate(ensembles_of_runs)
        for run in range(len(of.n_points))
    ]

    def of_place(place: tuple[int, int]) -> ensemble_training.Runs:
        return jax.tree.map(lambda leaf: leaf[place[1]], ensembles_of_runs[place[0]])

    def record(place: tuple[int, int], advance: _types.Advance) -> Recorded:
        return one.recorded(of_place(place), advance)

    kept = load_results(
        store,
        places,
        name=lambda place: f"{fingerprint}-{checkpoints.fingerprint(*of_place(place))}",
        curves=loop.Curves,
    )
    with execution.Progress(progress, len(places) * len(epochs), "epochs recorded") as bar:
        bar.advance(len(kept.known) * len(epochs))
        done = execution.run(record, places, bar, kept=kept)
    return [
        join_tables([found for place, found in zip(places, done) if place[0] == number])
        for number in range(len(ensembles_of_runs))
    ]


def load_results(
    store: checkpoints.Store | None,
    tasks: Sequence[Task],
    /,
    *,
    name: Callable[[Task], str],
    curves: type[NamedTuple],
) -> checkpoints.Results[Task, Recorded]:
    """What `store` keeps of recorded runs with curves of this kind, one for each of `tasks`."""
    return checkpoints.Results(
        store, tasks, name=name, pack=_packed, unpack=partial(_unpacked, curves=curves)
    )


def by_member(
    table: pd.DataFrame, n_points: Int[np.ndarray, "n_members n_sizes"], task: str, /
) -> pd.DataFrame:
    """A table of `Recorded` with member and subset size in the place of the number of the run; no
    accuracy of a regression.
    """
    runs = table["run"].to_numpy()
    labels = pd.DataFrame({"member": runs // n_points.shape[1], "n_points": n_points.ravel()[runs]})
    found = pd.concat([labels, table.drop(columns="run")], axis=1)
    return (
        found.assign(accuracy=np.nan) if "accuracy" in found and task != "classification" else found
    )


def _with_empty(tables: Tables) -> Tables:
    """All of `TABLES`, without rows where there is none."""
    return {
        name: tables.get(name, pd.DataFrame({"run": np.array([], dtype=int)})) for name in TABLES
    }


class _Runner:
    """What all runs of an ensemble share: points, and functions that are compiled once for each
    size.
    """

    def __init__(
        self,
        network: sequential.Network,
        schedule: schedules.Schedule,
        settings: recording.Settings,
        changes: Changes,
        pool: loop.Points,
        test: loop.Points,
        epochs: Int[np.ndarray, " n_recorded"],
        between: bool,
    ):
        self._pool, self._test, self._epochs = pool, test, epochs
        self._schedule, self._settings, self._changes = schedule, settings, changes
        self._recorder = recording.Recorder(network.apply, settings, loss=schedule.loss)
        # Apart from the training, which is compiled for every padded size: random numbers compile
        # slowly.
        self._start = batching.over_members(
            partial(_start, network, schedule, changes.weight_scale)
        )
        self._advance = batching.over_members(partial(_advance, network, schedule, between))

    def recorded(self, run: ensemble_training.Runs, advance: _types.Advance) -> Recorded:
        """Train and record one run."""
        n, n_selected = int(run.n_points), len(run.indices)
        recorded = run.indices[: min(n, self._settings.n_train or n)]
        points = {
            "train": jax.tree.map(lambda leaf: leaf[recorded], self._pool),
            "test": jax.tree.map(lambda leaf: leaf[: self._settings.n_test], self._test),
        }
        widths = {"train": batching.bucket(len(recorded), n_selected)}
        key = jax.random.fold_in(run.batch_keys, SAMPLES)
        noisy = noisy_targets(self._pool.targets, run, self._changes.label_noise)
        recording_of_run = self._recorder.recording(points, key=key, widths=widths)
        run = run._replace(indices=run.indices[: batching.bucket(n, n_selected)])
        at = self._start(self._pool.inputs, run.initialisation_keys[None])
        run = jax.tree.map(lambda leaf: leaf[None], run)
        stops = self._epochs // self._schedule.evaluate_every
        recording_of_run.record(0, _params(at))
        noisy = self._pool._replace(targets=noisy)
        noise_from = self._changes.noise_from // self._schedule.evaluate_every
        for first, last in itertools.pairwise(stops):
            pool = noisy if first >= noise_from else self._pool
            at = self._advance((pool, self._test, first, last), *at, run)
            recording_of_run.record(last * self._schedule.evaluate_every, _params(at))
            advance(1)
        advance(1)
        curves = jax.tree.map(lambda curve: np.asarray(curve)[0], at[1])
        return Recorded(
            curves,
            recording_of_run.tables
            | {"recording": self._with_losses(recording_of_run.tables, curves)},
        )

    def _with_losses(self, tables: Tables, curves: loop.Curves) -> pd.DataFrame:
        table = tables["recording"]
        at, is_test = (
            table["epoch"].to_numpy() // self._schedule.evaluate_every,
            table["points"].to_numpy() == "test",
        )
        table.insert(
            len(recording.LABELS),
            "loss",
            np.where(is_test, curves.test_loss[at], curves.train_loss[at]),
        )
        table.insert(
            len(recording.LABELS) + 1,
            "accuracy",
            np.where(is_test, curves.test_accuracy[at], np.nan),
        )
        return table


def noisy_targets(
    targets: Float[Array, "n_pool n_outputs"], run: ensemble_training.Runs, fraction: float, /
) -> Float[Array, "n_pool n_outputs"]:
    """The targets of the pool, those of a fraction of a run's own points exchanged; of at least
    two, unless it is 0.
    """
    if not fraction:
        return targets
    n = int(run.n_points)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(run.batch_keys, NOISE), n))
    chosen = run.indices[order[: max(2, round(fraction * n))]]
    # Each gets the next one's, so that no point keeps its own.
    return targets.at[chosen].set(targets[np.roll(chosen, 1)])


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


def _params(at: tuple[loop.State, loop.Curves]) -> PyTree[Array]:
    """The parameters of the only network of a call."""
    return jax.tree.map(lambda leaf: leaf[0], at[0].params)


def _packed(recorded: Recorded) -> dict[str, np.ndarray]:
    """A recorded run as named arrays."""
    columns = {
        f"{name}/{column}": np.asarray(
            values, dtype=None if pd.api.types.is_numeric_dtype(values) else str
        )
        for name, table in recorded.tables.items()
        for column, values in table.items()
    }
    return recorded.curves._asdict() | columns


def _unpacked(arrays: dict[str, np.ndarray], curves: type[NamedTuple]) -> Recorded:
    tables: dict[str, dict[str, np.ndarray]] = {}
    for name, values in arrays.items():
        if "/" in name:
            table, column = name.split("/")
            tables.setdefault(table, {})[column] = values
    of_run = curves(*(arrays[name] for name in curves._fields))
    return Recorded(of_run, {name: pd.DataFrame(columns) for name, columns in tables.items()})


def join_tables(runs: list[Recorded]) -> Recorded:
    """The recorded runs of one ensemble, numbered."""
    curves = jax.tree.map(lambda *of: np.stack(of), *(run.curves for run in runs))
    tables = {}
    for name in runs[0].tables:
        parts = [run.tables[name].assign(run=number) for number, run in enumerate(runs)]
        joined = pd.concat(parts, ignore_index=True)
        tables[name] = joined[["run", *joined.columns.drop("run")]]
    return Recorded(curves, _with_empty(tables))
