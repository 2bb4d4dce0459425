"""Forecast random network distillation, which re-trains a predictor after every choice."""

from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from collective_variables import _machine
from collective_variables.cli.forecast import kernels, operations, timing
from collective_variables.ensembles import batching, seeding
from collective_variables.networks import batched, parameters
from collective_variables.selection import _rnd_training, base, rnd

CONVOLUTIONS = 3 * 2**26  # bytes of their programs and activations


def forecast(
    pool: Float[np.ndarray, "n_pool ..."],
    network: nn.Module,
    settings: rnd.RNDSettings,
    /,
    *,
    n_selected: int,
    n_labelled: int,
    n_members: int,
    classes: Int[np.ndarray, " n_pool"] | None,
) -> timing.Seconds:
    """Return the seconds of `rnd.select`.

    A choice passes the pool through the network once, and trains on the points chosen before it.
    Both are timed in the program that the selection compiles, with fewer epochs.

    Args:
        pool: The points.
        network: The network of target and predictor.
        settings: Settings of the selection.
        n_selected: Number of points of each member; it counts labelled points.
        n_labelled: Number of labelled points.
        n_members: Number of members.
        classes: The class of each point; None without classes.

    Returns:
        The range of seconds.
    """
    points = jnp.asarray(base.normalise(pool, settings.normalisation))
    membership = None if classes is None else jnp.asarray(base.membership(classes, len(pool)))
    shared = _rnd_training.Shared(points, membership)
    size = parameters.n_parameters(network, points)
    together = batching.chunk_size(size, n_members)
    n_chunks = -(-n_members // together)
    n_cores = min(n_chunks, _machine.n_cores())
    segments = rnd.plan_segments(n_labelled, n_selected)
    widths = sorted({width for _, _, width in segments})
    few = _few_epochs(network, points, settings, widths[0])
    trainer = _rnd_training.Trainer(network, few, at_once=2 if n_members == 1 else 1)

    start = batching.over_members(
        partial(_rnd_training.start, trainer, n_selected, tuple(range(n_labelled))), runs_once=True
    )
    keys = seeding.member_keys(jax.random.key(0), together)
    started = timing.seconds_of(lambda: start(shared, keys))
    state = start(shared, keys)
    narrow = _Steps(trainer, shared, state, widths[0], n_cores)
    wide = narrow if len(widths) == 1 else _Steps(trainer, shared, state, widths[-1], n_cores)

    compiled = started + narrow.compile + wide.compile * (len(widths) - 1)
    choices = 0.0
    epochs = 0.0
    for begin, end, width in segments:
        share = (width - widths[0]) / max(1, widths[-1] - widths[0])
        epoch = narrow.epoch + share * (wide.epoch - narrow.epoch)
        counts = np.arange(max(begin, 1), end)
        block = block_size(network, points, trainer.at_once)
        blocks = np.ceil(counts / block) / np.ceil(width / block) if block else np.ones(len(counts))
        choices += (end - begin) * wide.choice
        epochs += epoch * float(blocks.sum()) * settings.n_epochs
    rounds = -(-n_chunks // n_cores)
    low, high = _attempts(settings)
    return timing.Seconds(
        compiled + rounds * (choices + low * epochs), compiled + rounds * (choices + high * epochs)
    )


def n_bytes(pool: Float[np.ndarray, "n_pool ..."], network: nn.Module) -> int:
    """Return the bytes of the normalised pool, and of its representations on every core."""
    shape = jax.eval_shape(
        network.apply, kernels.made_parameters(network, pool), jnp.asarray(pool[:1])
    )
    outputs = len(pool) * shape.shape[1] * pool.dtype.itemsize
    size = parameters.n_parameters(network, pool) * pool.dtype.itemsize
    programs = CONVOLUTIONS if pool.ndim > 2 else 0
    return int(3 * pool.nbytes + _machine.n_cores() * (4 * outputs + 8 * size)) + programs


def block_size(network: nn.Module, points: Array, at_once: int) -> int:
    """Return the number of images of a training step, or 0 if it takes all points at once."""
    size = batched.block_size(network, points, batched.IMAGES_WITH_GRADIENT)
    return 0 if size >= len(points) else size * at_once


def _attempts(settings: rnd.RNDSettings) -> tuple[float, float]:
    """Return the fewest and the most trainings after a choice, in units of all epochs."""
    most = 1.0 + settings.n_restarts
    if settings.threshold is not None:
        return 0.0, most
    if settings.tolerance is None:
        return 1.0, most
    return min(1.0, 1 / max(1, settings.n_epochs)), most


def _few_epochs(
    network: nn.Module, points: Array, settings: rnd.RNDSettings, width: int
) -> rnd.RNDSettings:
    params = kernels.made_parameters(network, points)
    work = operations.per_point(network, params, points) * operations.BACKWARD * width
    n_epochs = operations.epochs(work, settings.n_epochs) if settings.n_epochs else 0
    return replace(settings, n_epochs=n_epochs, tolerance=None, n_restarts=0)


class _Steps:
    """Measured seconds of the program for one width.

    Attributes:
        compile: Compilation of the program.
        choice: A choice from the pool, without training.
        epoch: An epoch of training on as many points as the width.
    """

    def __init__(
        self,
        trainer: _rnd_training.Trainer,
        shared: _rnd_training.Shared,
        state: PyTree[Array],
        width: int,
        n_cores: int,
    ):
        advance = batching.over_members(partial(rnd.advance, trainer, width))

        def steps(begin: int, end: int) -> float:
            return timing.time_together(
                lambda: advance((shared, begin, end), state).distances, n_cores
            )

        self.compile = timing.seconds_of(lambda: advance((shared, 0, 0), state).distances)
        self.choice = steps(0, 1)
        n_epochs = max(1, trainer.settings.n_epochs)
        self.epoch = max(0.0, steps(width - 1, width) - self.choice) / n_epochs
