"""Forecast the training of an ensemble: calls of a few widths, on all cores."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from collective_variables import _machine
from collective_variables.cli.forecast import kernels, operations, timing
from collective_variables.data import problems
from collective_variables.ensembles import batching, seeding
from collective_variables.networks import parameters
from collective_variables.training import ensemble_training, loop, schedules

FIXED = 0.35  # smallest time of a width, as a share of the time of the largest, for tables
DRAWING = 0.6  # compilation of random parameters, as a share of that of a training


class Training(NamedTuple):
    """Seconds of all trainings, and seconds to compile the drawing of random parameters."""

    seconds: timing.Seconds
    drawing: float


class Calls(NamedTuple):
    """The compiled calls of a training: their number by width, and the runs of each call."""

    by_width: dict[int, int]
    together: int
    in_turn: dict[int, int]


def plan(n_points: Sequence[int], n_runs_each: int, n_parameters: int) -> Calls:
    """Return the calls of `ensemble_training.train_ensemble` for these runs of each size."""
    counts = np.repeat(np.asarray(n_points, int), n_runs_each)
    tasks = ensemble_training.plan_tasks(counts, int(counts.max()), n_parameters)
    by_width = Counter(task.width for task in tasks)
    in_turn = {task.width: task.rows.shape[1] for task in tasks}
    return Calls(dict(by_width), tasks[0].rows.shape[0], in_turn)


def forecast(
    dataset: problems.Dataset,
    network: nn.Module,
    schedule: schedules.Schedule,
    n_points: Sequence[int],
    n_runs_each: int,
) -> Training:
    """Return the forecast of the trainings of networks on several numbers of points.

    One width is compiled and timed, with a part of the epochs, on all cores at once. The time of a
    training grows with its points and test points.

    Args:
        dataset: Pool and test points.
        network: The network.
        schedule: Schedule of the training.
        n_points: Numbers of points.
        n_runs_each: Number of networks for each number of points.

    Returns:
        The seconds.
    """
    pool = loop.Points(jnp.asarray(dataset.inputs), jnp.asarray(dataset.targets))
    test = loop.Points(jnp.asarray(dataset.test_inputs), jnp.asarray(dataset.test_targets))
    calls = plan(n_points, n_runs_each, parameters.n_parameters(network, pool.inputs))
    widest = max(calls.by_width)
    params = kernels.made_parameters(network, dataset.inputs)
    per_point = operations.per_point(network, params, pool.inputs)
    per_epoch = work(widest, len(test.inputs), schedule) * per_point * calls.together
    few = _few_epochs(schedule, per_epoch)
    call = _call(network, few, (pool, test), params, widest, calls.together)
    first = timing.seconds_of(call)
    n_calls = sum(calls.by_width.values())
    n_cores = min(n_calls, _machine.n_cores())
    again = timing.time_together(call, n_cores)
    compiled = max(0.0, first - again)
    epoch = again / few.n_epochs * schedule.n_epochs
    total = sum(
        count * calls.in_turn[width] * epoch * _share(width, widest, len(test.inputs), schedule)
        for width, count in calls.by_width.items()
    )
    n_compilations = -(-len(calls.by_width) // n_cores) + DRAWING
    # The calls of the last round leave cores idle.
    idle = 0.5 * epoch * (n_cores - 1) / n_cores
    seconds = n_compilations * compiled + total / n_cores + idle
    return Training(timing.exactly(seconds), DRAWING * compiled)


def work(width: int, n_test: int, schedule: schedules.Schedule) -> float:
    """Return the passes of points through the network in an epoch, for training and tests."""
    return operations.BACKWARD * width + n_test / schedule.evaluate_every


def _share(width: int, widest: int, n_test: int, schedule: schedules.Schedule) -> float:
    """Return the time of a width as a share of the time of the widest."""
    ratio = work(width, n_test, schedule) / work(widest, n_test, schedule)
    return FIXED + (1 - FIXED) * ratio


def _few_epochs(schedule: schedules.Schedule, per_epoch: float) -> schedules.Schedule:
    step = schedule.evaluate_every
    n_epochs = operations.epochs(per_epoch, schedule.n_epochs)
    return replace(schedule, n_epochs=max(step, n_epochs // step * step))


def _call(
    network: nn.Module,
    schedule: schedules.Schedule,
    shared: tuple[loop.Points, loop.Points],
    params: PyTree[Float[np.ndarray, "..."]],
    width: int,
    together: int,
):
    """Return a call that trains one chunk of networks with the program of the ensemble."""
    function = batching.over_members(partial(ensemble_training.train_runs, network, schedule))
    shape = together, 1
    stacked = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (*shape, *leaf.shape)), params)
    keys = seeding.member_keys(jax.random.key(0), together)[:, None]
    rows = np.broadcast_to(np.arange(width) % len(shared[0].inputs), (*shape, width))
    runs = ensemble_training.Runs(keys, keys, rows, np.full(shape, width))

    def train() -> Array:
        return function(shared, stacked, runs).test_loss

    return train
