"""Train variational autoencoders (Kingma, Welling 2014) and record their encoders' kernels."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jaxtyping import Array, Float, Int, PRNGKeyArray

from collective_variables import _checks
from collective_variables.ensembles import _types, batching, checkpoints, execution
from collective_variables.training import (
    ensemble_training,
    loop,
    recorded_training,
    recording,
    schedules,
)
from collective_variables.training.autoencoders.model import (
    Autoencoder,
    Params,
    build_autoencoder,
)

# Folded into the key of a run for its noise; batches and samples have other numbers there.
NOISE = recorded_training.SAMPLES - 1


@dataclass(frozen=True)
class Schedule:
    """Describe an autoencoder and its training.

    The defaults of n_latents and width are those of Tovey et al. 2024, the others are ours.

    Args:
        n_latents: Number of latents of an image.
        width: Width of the hidden layers of the encoder and the decoder.
        beta: Weight of the divergence in the loss; 1 is the negative evidence lower bound.
        optimiser: Name of an optimiser, as in `schedules.Schedule`.
        learning_rate: Learning rate of the optimiser.
        n_epochs: Passes over the images.
        batch_size: Images per step; None takes all of them.
        evaluate_every: Epochs between two stops of the training; must divide n_epochs.
    """

    n_latents: int = 20
    width: int = 500
    beta: float = 1.0
    optimiser: str = "adam"
    learning_rate: float = 0.001
    n_epochs: int = 100
    batch_size: int | None = 128
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        _checks.integer("n_latents", self.n_latents, minimum=1)
        _checks.integer("width", self.width, minimum=1)
        _checks.number("beta", self.beta, minimum=0.0)
        self.steps()

    def steps(self) -> schedules.Schedule:
        """Return the settings that the training of all networks shares, or raise their errors."""
        names = ("optimiser", "learning_rate", "n_epochs", "batch_size", "evaluate_every")
        return schedules.Schedule(**{name: getattr(self, name) for name in names})


def train_ensemble(
    images: Float[np.ndarray, "n_pool ..."],
    test_images: Float[np.ndarray, "n_test ..."],
    indices: Int[np.ndarray, "n_members n_points"],
    /,
    *,
    schedule: Schedule,
    settings: recording.Settings,
    seed: int,
    progress: str = "",
    store: checkpoints.Store | None = None,
) -> recorded_training.Tables:
    """Train an autoencoder for each member on its rows of `images`, and record its kernels.

    The kernels are those of `Autoencoder.mean`, on the images of the member and on the test images.
    "position" is that of the loss as a function of the means (`Autoencoder.losses_at`).
    Losses are means in nats over all images of the member and over all test images. Their noise is
    drawn once for a member and is the same at all epochs; the training draws new noise for every
    image and epoch. An epoch is a random order of the images, cut into batches as in `loop.train`.
    A run whose loss diverges ends with NaN or infinity and stops no other.

    Args:
        images: (n_pool, ...) images, with pixels in 0 … 1.
        test_images: (n_test, ...) images of the same shape.
        indices: (n_members, n_points) rows of `images`.
        schedule: The autoencoder and its training.
        settings: What to record, and when.
        seed: Seed of all random numbers.
        progress: Text in front of the progress bar; "" shows none.
        store: Keeps finished runs, as in `ensemble_training.train_ensemble`.

    Returns:
        The table "recording" with a row per run (that is, member), epoch and kind of points: run,
        points, epoch, loss = reconstruction + beta · divergence, both of these, and the columns of
        `recording.Recorder`.

    Raises:
        ValueError: Before any training, if pixels are not finite or outside 0 … 1, images have
            different shapes, or rows are outside the pool.
    """
    _check_pixels("images of the pool", images)
    _check_pixels("test images", test_images)
    shape, test_shape = images.shape[1:], test_images.shape[1:]
    if shape != test_shape:
        raise ValueError(
            f"test images must be shaped like the pool's, {shape}: received {test_shape}."
        )
    _checks.rows("indices", indices, len(images))
    runner = _Runner(schedule, settings, *map(_flatten, (images, test_images)))
    runs = ensemble_training.runs(indices, np.full((len(indices), 1), indices.shape[1]), seed=seed)
    decisive = (schedule, settings, images, test_images)
    fingerprint = "" if store is None else checkpoints.fingerprint(*decisive)

    def run_of(member: int) -> ensemble_training.Runs:
        return jax.tree.map(lambda leaf: leaf[member], runs)

    def record(member: int, advance: _types.Advance) -> pd.DataFrame:
        return runner.record(run_of(member), advance)

    checkpoint = checkpoints.Results(
        store,
        range(len(indices)),
        name=lambda member: f"{fingerprint}-{checkpoints.fingerprint(*run_of(member))}",
        pack=_pack,
        unpack=pd.DataFrame,
    )
    with execution.Progress(progress, len(indices) * len(runner.epochs), "epochs recorded") as bar:
        bar.advance(len(checkpoint.known) * len(runner.epochs))
        tables = execution.run(record, range(len(indices)), bar, checkpoint=checkpoint)
    table = pd.concat(dict(enumerate(tables)), names=["run"])
    return {"recording": table.reset_index("run").reset_index(drop=True)}


def _pack(table: pd.DataFrame) -> dict[str, np.ndarray]:
    return {column: np.array(values) for column, values in table.to_dict("list").items()}


def _flatten(images: Float[np.ndarray, "n_points ..."]) -> Float[Array, "n_points n_pixels"]:
    return jnp.asarray(images.reshape(len(images), -1))


def _check_pixels(name: str, images: Float[np.ndarray, "n_points ..."]) -> None:
    _checks.finite(name, images)
    outside = images[(images < 0) | (images > 1)]
    if outside.size:
        raise ValueError(
            f"{name} must have pixels in 0 to 1: {outside.size} are outside, "
            f"the first is {outside[0]}."
        )


class _Runner:
    """Hold what all runs of an ensemble share: images, and functions that are compiled once."""

    def __init__(
        self,
        schedule: Schedule,
        settings: recording.Settings,
        images: Float[Array, "n_pool n_pixels"],
        test_images: Float[Array, "n_test n_pixels"],
    ):
        model = build_autoencoder(images.shape[1], schedule.n_latents, schedule.width)
        self.epochs = recording.recorded_epochs(
            settings.epochs, schedule.n_epochs, evaluate_every=schedule.evaluate_every
        )
        self._images, self._test_images = images, test_images
        self._schedule, self._settings = schedule, settings
        self._recorder = recording.Recorder(
            model.mean, settings, loss=partial(_losses_at, model, schedule.beta)
        )
        self._start = batching.over_members(partial(_start, model, schedule))
        self._advance = batching.over_members(partial(_advance, model, schedule))

    def record(self, run: ensemble_training.Runs, advance: _types.Advance) -> pd.DataFrame:
        """Train and record one run."""
        points = {
            "train": recording.Points(self._images[run.indices[: self._settings.n_train]]),
            "test": recording.Points(self._test_images[: self._settings.n_test]),
        }
        key = jax.random.fold_in(run.batch_keys, recorded_training.SAMPLES)
        record = self._recorder.recording(points, key=key)
        member = jax.tree.map(lambda leaf: leaf[None], run)
        state, losses = self._start(self._images, member.initialisation_keys), []
        for first, last in itertools.pairwise(np.append(0, self.epochs)):
            shared = (self._images, self._test_images, first, last)
            state, means = self._advance(shared, state, member)
            params = jax.tree.map(lambda leaf: leaf[0], state.params)
            record.record(last, params.encoder, params)
            losses.append(np.asarray(means)[0])
            advance(1)
        return self._with_losses(record.tables["recording"], np.concatenate(losses))

    def _with_losses(
        self, table: pd.DataFrame, losses: Float[np.ndarray, "n_rows 2"]
    ) -> pd.DataFrame:
        reconstruction, divergence = losses.T
        columns = {
            "loss": reconstruction + self._schedule.beta * divergence,
            "reconstruction": reconstruction,
            "divergence": divergence,
        }
        for place, (name, values) in enumerate(columns.items(), start=len(recording.LABELS)):
            table.insert(place, name, values)
        return table


def _losses_at(
    model: Autoencoder,
    beta: float,
    means: Float[Array, "n_points n_latents"],
    images: Float[Array, "n_points n_pixels"],
    params: Params,
) -> Float[Array, " n_points"]:
    losses = model.losses_at(means, images, params)
    return losses.reconstruction + beta * losses.divergence


def _start(
    model: Autoencoder,
    schedule: Schedule,
    images: Float[Array, "n_pool n_pixels"],
    key: PRNGKeyArray,
) -> loop.State:
    return loop.start(schedule.steps(), model.initialise(key, images))


def _advance(
    model: Autoencoder,
    schedule: Schedule,
    shared: tuple[Array, Array, Array, Array],
    state: loop.State,
    run: ensemble_training.Runs,
) -> tuple[loop.State, Float[Array, "2 2"]]:
    """Return the state at the epoch `last` and the mean losses there [train and test, `Losses`]."""
    pool, test_images, first, last = shared
    images = pool[run.indices]
    noise_keys = jax.random.split(jax.random.fold_in(run.batch_keys, NOISE), 3)
    epoch = _epoch(model, schedule, images, run.batch_keys, noise_keys[0])
    state = jax.lax.fori_loop(first, last, epoch, state)
    parts = [
        model.losses(state.params, points, _noise(model, key, points))
        for points, key in zip((images, test_images), noise_keys[1:])
    ]
    return state, jnp.array([[jnp.mean(part) for part in losses] for losses in parts])


def _epoch(
    model: Autoencoder,
    schedule: Schedule,
    images: Float[Array, "n_points n_pixels"],
    batch_key: PRNGKeyArray,
    noise_key: PRNGKeyArray,
) -> Callable[[Int[Array, ""], loop.State], loop.State]:
    """Return the function (number, state) -> state of one epoch."""
    n = len(images)
    batch_size = min(schedule.batch_size or n, n)
    optimiser = schedule.steps().transformation()
    places = np.arange(-(-n // batch_size) * batch_size).reshape(-1, batch_size)
    # The last batch may be filled up with images, whose weight is 0.
    weights = (places < n) / (places < n).sum(axis=1, keepdims=True)

    def epoch(number: Int[Array, ""], state: loop.State) -> loop.State:
        order = jax.random.permutation(jax.random.fold_in(batch_key, number), n)
        batches = jnp.resize(order, places.shape)
        noise = _noise(model, jax.random.fold_in(noise_key, number), images)

        def step(state: loop.State, batch: tuple[Array, Array]) -> tuple[loop.State, None]:
            rows, weights = batch

            def mean_loss(params: Params) -> Float[Array, ""]:
                losses = model.losses(params, images[rows], noise[rows])
                return jnp.sum(
                    weights * (losses.reconstruction + schedule.beta * losses.divergence)
                )

            gradient = jax.grad(mean_loss)(state.params)
            updates, memory = optimiser.update(gradient, state.optimiser_state, state.params)
            return loop.State(optax.apply_updates(state.params, updates), memory), None

        return jax.lax.scan(step, state, (batches, jnp.asarray(weights, images.dtype)))[0]

    return epoch


def _noise(
    model: Autoencoder, key: PRNGKeyArray, images: Float[Array, "n_points n_pixels"]
) -> Float[Array, "n_points n_latents"]:
    return jax.random.normal(key, (len(images), model.n_latents), images.dtype)
