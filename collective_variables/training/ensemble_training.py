"""Training of an ensemble: every network on its own subset of a pool."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks
from collective_variables.ensembles import _types, batching, checkpoints, execution, seeding
from collective_variables.networks import parameters, sequential
from collective_variables.training import loop, schedules

FINE_FROM = 1000  # runs, whose padding costs more than the compilation of as many sizes again
MOST_IN_TURN = 8  # runs of a call; from here on its own cost is small beside theirs
CALLS_PER_WIDTH = 16  # at least, so that the cores end at about the same time


class Runs(NamedTuple):
    """Which subsets to train on; a run is one network trained on the first n_points of its row of
    indices.
    """

    initialisation_keys: PRNGKeyArray
    batch_keys: PRNGKeyArray
    indices: Int[np.ndarray, "n_runs n_selected"]
    n_points: Int[np.ndarray, " n_runs"]


def runs(
    indices: Int[np.ndarray, "n_members n_selected"],
    n_points: Int[np.ndarray, "n_members n_sizes"],
    /,
    *,
    seed: int,
) -> Runs:
    """One run for every member and each of its subset sizes, sizes running fastest.

    A member starts from the same network at every size and with every selection method.
    """
    n_members, n_sizes = n_points.shape
    if n_points.max() > indices.shape[1]:
        raise ValueError(
            f"n_points must not exceed the points selected: {n_points.max()} > {indices.shape[1]}."
        )
    members = np.repeat(np.arange(n_members), n_sizes)
    keys = [
        seeding.member_keys(seeding.key(seed, use), n_members)[members]
        for use in ("initialisation", "batches")
    ]
    return Runs(*keys, indices[members], n_points.ravel())


def train_ensemble(
    network: sequential.Network,
    pool: loop.Points,
    test: loop.Points,
    ensembles_of_runs: Sequence[Runs],
    /,
    *,
    schedule: schedules.Schedule,
    progress: str = "",
    store: checkpoints.Store | None = None,
) -> list[loop.Curves]:
    """Train one network per run; for each of `ensembles_of_runs` the curves as (n_runs,
    n_evaluations) arrays.

    Every run starts from `parameters.initialise` with its own key. Runs of like size share a
    compilation, whichever ensemble they belong to. A run whose loss diverges ends with NaN or
    infinity in its curves and stops no other run.

    store: keeps the curves of each chunk of runs as it is done, so that the same call with the same
        store goes on where one was interrupted, and ends with the same numbers. Remove what it
        holds when the call is done.
    """
    check(network, pool, test, ensembles_of_runs, schedule)
    pool, test = jax.tree.map(jnp.asarray, (pool, test))
    keys = [jnp.concatenate(of) for of in zip(*(of[:2] for of in ensembles_of_runs))]
    runs = Runs(*keys, *(np.concatenate(of) for of in zip(*(of[2:] for of in ensembles_of_runs))))
    # Apart from the training, which is compiled for every padded size: random numbers compile
    # slowly.
    initialise = batching.over_members(partial(_initialise_runs, network))
    function = batching.over_members(partial(_train_runs, network, schedule))
    fingerprint = (
        "" if store is None else checkpoints.fingerprint(network, schedule, *pool, *test, *runs)
    )
    tasks = _tasks(
        runs.n_points, runs.indices.shape[1], parameters.n_parameters(network, pool.inputs)
    )
    kept = checkpoints.Results(
        store,
        tasks,
        name=lambda task: f"{fingerprint}-{task.width}-{task.rows.flat[0]}-{task.rows.size}",
        pack=loop.Curves._asdict,
        unpack=lambda arrays: loop.Curves(**arrays),
    )

    def train_chunk(task: _Task, advance: _types.Advance) -> loop.Curves:
        chosen = jax.tree.map(lambda leaf: leaf[task.rows], runs)
        params = initialise(pool.inputs, chosen.initialisation_keys)
        curves = function(
            (pool, test), params, chosen._replace(indices=chosen.indices[..., : task.width])
        )
        curves = jax.tree.map(lambda of: np.asarray(of).reshape(-1, of.shape[-1]), curves)
        advance(task.n_runs)
        return curves

    with execution.Progress(progress, len(runs.n_points), "networks") as bar:
        bar.advance(sum(tasks[place].n_runs for place in kept.known))
        curves = _gather(tasks, execution.run(train_chunk, tasks, bar, kept=kept))
    ends = np.cumsum([len(of.n_points) for of in ensembles_of_runs])[:-1]
    return [loop.Curves(*parts) for parts in zip(*(np.split(curve, ends) for curve in curves))]


def check(
    network: sequential.Network,
    pool: loop.Points,
    test: loop.Points,
    ensembles_of_runs: Sequence[Runs],
    schedule: schedules.Schedule,
) -> None:
    """Raise ValueError unless the runs of an ensemble can be trained."""
    for name, points in (("the pool", pool), ("the test points", test)):
        parameters.check_fit(network, points.inputs, points.targets)
        _checks.finite(f"inputs of {name}", np.asarray(points.inputs))
        _checks.finite(f"targets of {name}", np.asarray(points.targets))
    if schedule.loss == "cross-entropy":
        for targets in (pool.targets, test.targets):
            _check_classes(np.asarray(targets))
    widths = sorted({of.indices.shape[1] for of in ensembles_of_runs})
    if len(widths) != 1:
        raise ValueError(
            f"Ensembles trained together must select equally many points: received {widths}."
        )
    for of in ensembles_of_runs:
        _checks.rows("indices", of.indices, len(pool.inputs))


def _check_classes(targets: Float[np.ndarray, "n_points n_outputs"]) -> None:
    """Raise ValueError unless each row is a distribution over at least two classes, which a
    regression's are not.
    """
    if (
        targets.shape[1] < 2
        or targets.min() < 0
        or not np.allclose(targets.sum(axis=1), 1.0, atol=1e-5)
    ):
        raise ValueError(
            "loss 'cross-entropy' needs targets that are one-hot over at least 2 classes: received "
            f"{targets.shape[1]} columns with values from {targets.min():.3g} to {targets.max():.3g}."
        )


class _Task(NamedTuple):
    """Runs that one compiled call trains: `rows` (n_together, n_in_turn), each padded to `width`
    points.
    """

    width: int
    rows: Int[np.ndarray, "n_together n_in_turn"]

    @property
    def n_runs(self) -> int:
        """How many runs these are: one that fills up a call counts once."""
        return len(np.unique(self.rows))


def _initialise_runs(
    network: sequential.Network, inputs: Array, keys: PRNGKeyArray
) -> PyTree[Array]:
    return jax.lax.map(lambda key: parameters.initialise(network, key, inputs), keys)


def _train_runs(
    network: nn.Module,
    schedule: schedules.Schedule,
    shared: tuple[loop.Points, loop.Points],
    params: PyTree[Array],
    runs: Runs,
) -> loop.Curves:
    """Train one network after the other; a call for each would cost as much as a short training
    itself.
    """
    pool, test = shared

    def train_one(of: tuple[PyTree[Array], Runs]) -> loop.Curves:
        params, run = of
        subset = loop.Points(pool.inputs[run.indices], pool.targets[run.indices])
        return loop.train(
            network,
            params,
            subset,
            test,
            schedule=schedule,
            key=run.batch_keys,
            n_points=run.n_points,
        )

    return jax.lax.map(train_one, (params, runs))


def _tasks(n_points: Int[np.ndarray, " n_runs"], largest: int, n_parameters: int) -> list[_Task]:
    """All runs, the largest first, so that no thread ends with a long call; the last of a width is
    filled up with its last.
    """
    fine = len(n_points) >= FINE_FROM
    widths = np.array([batching.bucket(int(n), largest, fine=fine) for n in n_points])
    tasks = []
    for width in sorted(set(widths.tolist()), reverse=True):
        members = np.flatnonzero(widths == width)
        together = batching.chunk_size(n_parameters, len(members))
        in_turn = int(np.clip(len(members) // (together * CALLS_PER_WIDTH), 1, MOST_IN_TURN))
        for chunk in batching.chunks(len(members), together * in_turn):
            tasks.append(_Task(width, members[chunk].reshape(together, in_turn)))
    return tasks


def _gather(tasks: list[_Task], results: list[loop.Curves]) -> loop.Curves:
    """Put the rows of all tasks back into the order of the runs."""
    members = np.concatenate([task.rows.ravel() for task in tasks])
    stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), *results)
    _, first = np.unique(members, return_index=True)
    return jax.tree.map(lambda leaf: leaf[first], stacked)


def losses_table(
    curves: loop.Curves, n_points: Int[np.ndarray, "n_members n_sizes"], task: str, /
) -> pd.DataFrame:
    """One row per run: member, n_points, smallest and last losses, largest and last test accuracy,
    diverged.

    The minima run over all evaluations, before training included: the minimum of the *test* loss is
    early stopping on the test points (as in Tovey et al. 2023), so it is optimistic. Accuracies are
    NaN for a regression. A run has diverged when any of its losses is not finite; its minima are
    those of its finite losses.
    """
    losses = np.stack([curves.train_loss, curves.test_loss])
    train_loss, test_loss = np.where(np.isfinite(losses), losses, np.inf)
    accuracy = np.asarray(curves.test_accuracy) * (1.0 if task == "classification" else np.nan)
    n_members, n_sizes = n_points.shape
    columns = {
        "member": np.repeat(np.arange(n_members), n_sizes),
        "n_points": n_points.ravel(),
        "min_test_loss": test_loss.min(axis=-1),
        "final_test_loss": test_loss[:, -1],
        "min_train_loss": train_loss.min(axis=-1),
        "final_train_loss": train_loss[:, -1],
        "max_test_accuracy": accuracy.max(axis=-1),
        "final_test_accuracy": accuracy[:, -1],
        "diverged": ~np.isfinite(losses).all(axis=(0, 2)),
    }
    return pd.DataFrame(columns)
