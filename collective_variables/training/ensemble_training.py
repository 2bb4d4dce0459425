"""Train an ensemble of networks, each on a separate subset of a pool."""

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

# With at least this number of runs, padding costs more than compiling twice as many sizes.
FINE_FROM = 1000
# Largest number of runs that one call trains in turn. With it the cost of a call is small already.
MOST_IN_TURN = 8
# At least this number of calls per width, so that the cores finish at about the same time.
CALLS_PER_WIDTH = 16


class Runs(NamedTuple):
    """Hold what to train: each run is a network, trained on the first n_points of its indices."""

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
    """Return one run for every member and each of its subset sizes, sizes varying fastest.

    A member starts from the same network at every size and with every selection method.

    Args:
        indices: (n_members, n_selected) rows of the pool.
        n_points: (n_members, n_sizes) subset sizes.
        seed: Seed of all random numbers.

    Raises:
        ValueError: A size exceeds the number of selected points.
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
    """Train one network per run and return the loss curves of all runs.

    Every run starts from a random network of a separate key. Runs of similar size share a
    compilation, whichever ensemble they belong to. A run whose loss diverges ends with NaN or
    infinity in its curves and stops no other run.

    Args:
        network: A network, as `build_network` makes it.
        pool: Inputs (n_pool, ...) and targets (n_pool, n_outputs); subsets are rows of it.
        test: Inputs and targets to test on.
        ensembles_of_runs: Runs to train, as `collective_variables.training.ensemble_training.runs`
            makes them from subsets and sizes. All of them must select equally many points.
        schedule: Loss, optimiser, epochs and batch size.
        progress: Text in front of the progress bar; "" shows none.
        store: Keeps the curves of each chunk of runs as soon as they are known. The same call with
            the same store resumes an interrupted one and gives the same numbers. Delete its content
            when the call is done.

    Returns:
        For each of `ensembles_of_runs` its curves, arrays (n_runs, n_evaluations).

    Raises ValueError if values are not finite, the network does not fit the points, an index is
    outside the pool, or cross-entropy has targets that are not classes.

    Example:
        >>> import numpy as np
        >>> import collective_variables as cv
        >>> from collective_variables.training.ensemble_training import runs
        >>> data = cv.load_problem("fuel")
        >>> network = cv.build_network(["dense 16", "dense 1"])
        >>> subsets = np.array([np.arange(20), np.arange(20, 40)])  # of two members
        >>> sizes = np.array([[10, 20], [10, 20]])
        >>> pool = data.inputs, data.targets
        >>> test = data.test_inputs, data.test_targets
        >>> schedule = cv.Schedule(n_epochs=50, evaluate_every=50)
        >>> (curves,) = cv.train_ensemble(
        ...     network, pool, test, [runs(subsets, sizes, seed=0)], schedule=schedule
        ... )
        >>> [f"{loss:.2f}" for loss in curves.test_loss[:, -1]]
        ['0.27', '0.29', '0.40', '0.34']
    """
    pool, test = loop.Points(*pool), loop.Points(*test)
    check(network, pool, test, ensembles_of_runs, schedule)
    pool, test = jax.tree.map(jnp.asarray, (pool, test))
    runs = _concatenate(ensembles_of_runs)
    tasks = plan_tasks(
        runs.n_points, runs.indices.shape[1], parameters.n_parameters(network, pool.inputs)
    )
    # Separate from the training, which is compiled for every padded size, because random numbers
    # compile slowly.
    initialise = batching.over_members(partial(_initialise_runs, network))
    function = batching.over_members(partial(train_runs, network, schedule))

    def train_chunk(task: _Task, advance: _types.Advance) -> loop.Curves:
        chunk = jax.tree.map(lambda leaf: leaf[task.rows], runs)
        params = initialise(pool.inputs, chunk.initialisation_keys)
        padded = chunk._replace(indices=chunk.indices[..., : task.width])
        curves = function((pool, test), params, padded)
        curves = jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, leaf.shape[-1]), curves)
        advance(task.n_runs)
        return curves

    decisive = (network, schedule, *pool, *test, *runs)
    checkpoint = _load_results(store, tasks, decisive)
    with execution.Progress(progress, len(runs.n_points), "networks") as bar:
        bar.advance(sum(tasks[place].n_runs for place in checkpoint.known))
        curves = _gather(tasks, execution.run(train_chunk, tasks, bar, checkpoint=checkpoint))
    ends = np.cumsum([len(runs.n_points) for runs in ensembles_of_runs])[:-1]
    return [loop.Curves(*parts) for parts in zip(*(np.split(curve, ends) for curve in curves))]


def _concatenate(ensembles_of_runs: Sequence[Runs]) -> Runs:
    keys = [jnp.concatenate(parts) for parts in zip(*(runs[:2] for runs in ensembles_of_runs))]
    arrays = [np.concatenate(parts) for parts in zip(*(runs[2:] for runs in ensembles_of_runs))]
    return Runs(*keys, *arrays)


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
    widths = sorted({runs.indices.shape[1] for runs in ensembles_of_runs})
    if len(widths) != 1:
        raise ValueError(
            f"Ensembles trained together must select equally many points: received {widths}."
        )
    for runs in ensembles_of_runs:
        _checks.rows("indices", runs.indices, len(pool.inputs))


def _check_classes(targets: Float[np.ndarray, "n_points n_outputs"]) -> None:
    """Raise ValueError unless each row is a distribution over at least two classes."""
    if (
        targets.shape[1] < 2
        or targets.min() < 0
        or not np.allclose(targets.sum(axis=1), 1.0, atol=1e-5)
    ):
        raise ValueError(
            "loss 'cross-entropy' needs targets that are one-hot over at least 2 classes: received "
            f"{targets.shape[1]} columns with values from {targets.min():.3g} to "
            f"{targets.max():.3g}."
        )


class _Task(NamedTuple):
    """Hold the runs that one compiled call trains; each subset is padded to `width` points."""

    width: int
    rows: Int[np.ndarray, "n_together n_in_turn"]

    @property
    def n_runs(self) -> int:
        """Number of runs; one that is repeated to fill a call counts once."""
        return len(np.unique(self.rows))


def _initialise_runs(
    network: sequential.Network, inputs: Array, keys: PRNGKeyArray
) -> PyTree[Array]:
    return jax.lax.map(lambda key: parameters.initialise(network, key, inputs), keys)


def train_runs(
    network: nn.Module,
    schedule: schedules.Schedule,
    shared: tuple[loop.Points, loop.Points],
    params: PyTree[Array],
    runs: Runs,
) -> loop.Curves:
    """Return the curves of networks that are trained in turn."""
    pool, test = shared

    def train_one(start: tuple[PyTree[Array], Runs]) -> loop.Curves:
        params, run = start
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

    # A call for each network would cost as much as a short training.
    return jax.lax.map(train_one, (params, runs))


def plan_tasks(
    n_points: Int[np.ndarray, " n_runs"], largest: int, n_parameters: int
) -> list[_Task]:
    """Return all runs split into calls, the largest first, so that no thread ends with a long call.

    The last call of a width is filled up with its last run.
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


def _load_results(
    store: checkpoints.Store | None, tasks: Sequence[_Task], decisive: Sequence[object]
) -> checkpoints.Results[_Task, loop.Curves]:
    """Return the results of the tasks that a store has; they depend on all that is `decisive`."""
    fingerprint = "" if store is None else checkpoints.fingerprint(*decisive)
    return checkpoints.Results(
        store,
        tasks,
        name=lambda task: f"{fingerprint}-{task.width}-{task.rows.flat[0]}-{task.rows.size}",
        pack=loop.Curves._asdict,
        unpack=lambda arrays: loop.Curves(**arrays),
    )


def _gather(tasks: list[_Task], results: list[loop.Curves]) -> loop.Curves:
    """Return the rows of all tasks in the order of the runs."""
    members = np.concatenate([task.rows.ravel() for task in tasks])
    stacked = jax.tree.map(lambda *leaves: np.concatenate(leaves), *results)
    _, first = np.unique(members, return_index=True)
    return jax.tree.map(lambda leaf: leaf[first], stacked)


def losses_table(
    curves: loop.Curves, n_points: Int[np.ndarray, "n_members n_sizes"], task: str, /
) -> pd.DataFrame:
    """Return one row per run with its smallest and last losses and largest and last accuracy.

    The columns are member, n_points, min_test_loss, final_test_loss, min_train_loss,
    final_train_loss, max_test_accuracy, final_test_accuracy and diverged.

    Minima include the evaluation before training. The minimum of the *test* loss is early stopping
    on the test points (as in Tovey et al. 2023), so it is optimistic. Accuracies are NaN for a
    regression. A run has diverged if any of its losses is not finite; its minima are those of its
    finite losses.
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
