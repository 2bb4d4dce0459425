"""Variational autoencoders (Kingma, Welling 2014), trained as an ensemble with a record of their
encoders' kernels.
"""

import itertools
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from collective_variables import _checks
from collective_variables.ensembles import _types, batching, checkpoints, execution
from collective_variables.networks import parameters, sequential
from collective_variables.training import (
    ensemble_training,
    loop,
    recorded_training,
    recording,
    schedules,
)

NOISE = (
    recorded_training.SAMPLES - 1
)  # folded into a run's key for its noise; batches and samples have other numbers there


@dataclass(frozen=True)
class Schedule:
    """An autoencoder and how it is trained; the defaults of the first two are those of Tovey et al.
    2024, the rest is ours.

    n_latents: latents of an image. width: of the hidden layer of the encoder, and of that of the
    decoder.
    beta: weight of the divergence in the loss; 1 is the negative evidence lower bound.
    optimiser, learning_rate, n_epochs, batch_size: as in `schedules.Schedule`.
    evaluate_every: epochs between two at which the training can be looked at; must divide n_epochs.
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
        """What it has in common with the training of other networks; raises its errors."""
        names = ("optimiser", "learning_rate", "n_epochs", "batch_size", "evaluate_every")
        return schedules.Schedule(**{name: getattr(self, name) for name in names})


class Params(NamedTuple):
    """Parameters of an autoencoder."""

    encoder: PyTree[Array]
    decoder: PyTree[Array]


class Losses(NamedTuple):
    """The two parts of the negative evidence lower bound of each image, in nats."""

    reconstruction: Float[Array, " n_points"]
    divergence: Float[Array, " n_points"]


@dataclass(frozen=True)
class Autoencoder:
    """Encoder to the latents' means, and behind them the logarithms of their variances; decoder to
    the logits of pixels.
    """

    encoder: sequential.Network
    decoder: sequential.Network

    @property
    def n_latents(self) -> int:
        """Latents of an image."""
        return self.encoder.layers[-1].width // 2

    def initialise(self, key: PRNGKeyArray, images: Float[Array, "n_points n_pixels"]) -> Params:
        """Random parameters, in the dtype of `images`."""
        keys, latents = jax.random.split(key), jnp.zeros((1, self.n_latents), images.dtype)
        networks_of = ((self.encoder, keys[0], images), (self.decoder, keys[1], latents))
        return Params(*(parameters.initialise(*of) for of in networks_of))

    def mean(
        self, params: PyTree[Array], images: Float[Array, "n_points ..."]
    ) -> Float[Array, "n_points n_latents"]:
        """Means of the latents, each image by itself, by the parameters of the encoder: the
        function of the recorded kernel.

        Those of the logarithms of the variances are among them, and count for nothing: their
        derivatives are 0.
        """
        return self.encoder.apply(params, images)[:, : self.n_latents]

    def losses(
        self,
        params: Params,
        images: Float[Array, "n_points n_pixels"],
        noise: Float[Array, "n_points n_latents"],
    ) -> Losses:
        """Both parts of the loss of images with pixels in 0 … 1, with latents mean + noise ·
        standard deviation.

        reconstruction: binary cross-entropy between pixels and logits, summed over pixels.
        divergence: Kullback-Leibler divergence of the normal distribution of the latents from N(0,
        1), summed over latents.
        """
        mean, log_variance = jnp.split(self.encoder.apply(params.encoder, images), 2, axis=1)
        logits = self.decoder.apply(params.decoder, mean + jnp.exp(log_variance / 2) * noise)
        reconstruction = jnp.sum(optax.sigmoid_binary_cross_entropy(logits, images), axis=1)
        return Losses(
            reconstruction, jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance, axis=1) / 2
        )


def build_autoencoder(schedule: Schedule, n_pixels: int, /) -> Autoencoder:
    """The autoencoder of `schedule` for images of `n_pixels`, with one hidden layer of rectifiers
    on either side.
    """
    outputs = (2 * schedule.n_latents, n_pixels)
    return Autoencoder(
        *(sequential.build_network([f"dense {schedule.width}", f"dense {n}"]) for n in outputs)
    )


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
    """Train an autoencoder per member on its rows of `images`, and record its mean's kernel on
    these and on the test images.

    "recording" has a row per run (that is, member), epoch and kind of points: run, points, epoch,
    loss = reconstruction + beta · divergence, both of these, and the columns of
    `recording.Recorder`; there are no targets. Losses are means in nats over all images of the
    member and over all test images. Their noise is drawn once for a member and is the same at all
    epochs; that of the training is new for every image and epoch. An epoch is a random order of the
    images, cut into batches as in `loop.train`.

    A run whose loss diverges ends with NaN or infinity and stops no other. store: keeps each run as
    it is done, so that the same call with the same store goes on where one was interrupted, and
    ends with the same numbers.

    Raises ValueError for pixels that are not finite or outside 0 … 1, images of different shapes or
    rows that the pool has not, before anything is trained.
    """
    _check_pixels("images of the pool", images)
    _check_pixels("test images", test_images)
    shape, other = images.shape[1:], test_images.shape[1:]
    if shape != other:
        raise ValueError(f"test images must be shaped like the pool's, {shape}: received {other}.")
    _checks.rows("indices", indices, len(images))
    one = _Runner(
        schedule, settings, *(jnp.asarray(of.reshape(len(of), -1)) for of in (images, test_images))
    )
    runs = ensemble_training.runs(indices, np.full((len(indices), 1), indices.shape[1]), seed=seed)
    fingerprint = (
        "" if store is None else checkpoints.fingerprint(schedule, settings, images, test_images)
    )

    def of_member(member: int) -> ensemble_training.Runs:
        return jax.tree.map(lambda leaf: leaf[member], runs)

    def record(member: int, advance: _types.Advance) -> pd.DataFrame:
        return one.recorded(of_member(member), advance)

    kept = checkpoints.Results(
        store,
        range(len(indices)),
        name=lambda member: f"{fingerprint}-{checkpoints.fingerprint(*of_member(member))}",
        pack=lambda table: {
            column: np.array(values) for column, values in table.to_dict("list").items()
        },
        unpack=pd.DataFrame,
    )
    with execution.Progress(progress, len(indices) * len(one.epochs), "epochs recorded") as bar:
        bar.advance(len(kept.known) * len(one.epochs))
        tables = execution.run(record, range(len(indices)), bar, kept=kept)
    joined = pd.concat(dict(enumerate(tables)), names=["run"])
    return {"recording": joined.reset_index("run").reset_index(drop=True)}


def _check_pixels(name: str, images: Float[np.ndarray, "n_points ..."]) -> None:
    _checks.finite(name, images)
    outside = images[(images < 0) | (images > 1)]
    if outside.size:
        raise ValueError(
            f"{name} must have pixels in 0 to 1: {outside.size} are outside, the first is {outside[0]}."
        )


class _Runner:
    """What all runs of an ensemble share: images, and functions that are compiled once."""

    def __init__(
        self,
        schedule: Schedule,
        settings: recording.Settings,
        images: Float[Array, "n_pool n_pixels"],
        test_images: Float[Array, "n_test n_pixels"],
    ):
        model = build_autoencoder(schedule, images.shape[1])
        self.epochs = recording.recorded_epochs(
            settings.epochs, schedule.n_epochs, evaluate_every=schedule.evaluate_every
        )
        self._images, self._test_images, self._schedule, self._settings = (
            images,
            test_images,
            schedule,
            settings,
        )
        self._recorder = recording.Recorder(model.mean, settings)
        self._start = batching.over_members(partial(_start, model, schedule))
        self._advance = batching.over_members(partial(_advance, model, schedule))

    def recorded(self, run: ensemble_training.Runs, advance: _types.Advance) -> pd.DataFrame:
        """Train and record one run."""
        points = {
            "train": recording.Points(self._images[run.indices[: self._settings.n_train]]),
            "test": recording.Points(self._test_images[: self._settings.n_test]),
        }
        key = jax.random.fold_in(run.batch_keys, recorded_training.SAMPLES)
        recording_of_run = self._recorder.recording(points, key=key)
        run = jax.tree.map(lambda leaf: leaf[None], run)
        state, losses = self._start(self._images, run.initialisation_keys), []
        for first, last in itertools.pairwise(np.append(0, self.epochs)):
            state, found = self._advance((self._images, self._test_images, first, last), state, run)
            recording_of_run.record(last, jax.tree.map(lambda leaf: leaf[0], state.params.encoder))
            losses.append(np.asarray(found)[0])
            advance(1)
        table = recording_of_run.tables["recording"]
        reconstruction, divergence = np.concatenate(losses).T
        columns = {"loss": reconstruction + self._schedule.beta * divergence}
        columns |= {"reconstruction": reconstruction, "divergence": divergence}
        for place, (name, values) in enumerate(columns.items(), start=len(recording.LABELS)):
            table.insert(place, name, values)
        return table


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
    """Train from the epoch `first` to `last`, and the mean losses there: rows train and test,
    columns as in `Losses`.
    """
    pool, test_images, first, last = shared
    images, optimiser = pool[run.indices], schedule.steps().transformation()
    noise_keys = jax.random.split(jax.random.fold_in(run.batch_keys, NOISE), 3)
    n, batch_size = len(images), min(schedule.batch_size or len(images), len(images))
    places = np.arange(-(-n // batch_size) * batch_size).reshape(-1, batch_size)
    # The last batch may be filled up, with images that have no weight.
    weights = (places < n) / (places < n).sum(axis=1, keepdims=True)

    def draw(key: PRNGKeyArray, n_points: int) -> Float[Array, "n_points n_latents"]:
        return jax.random.normal(key, (n_points, model.n_latents), images.dtype)

    def epoch(number: Int[Array, ""], state: loop.State) -> loop.State:
        order = jnp.resize(
            jax.random.permutation(jax.random.fold_in(run.batch_keys, number), n), places.shape
        )
        noise = draw(jax.random.fold_in(noise_keys[0], number), n)

        def step(state: loop.State, batch: tuple[Array, Array]) -> tuple[loop.State, None]:
            rows, weights = batch

            def mean_loss(params: Params) -> Float[Array, ""]:
                losses = model.losses(params, images[rows], noise[rows])
                return jnp.sum(
                    weights * (losses.reconstruction + schedule.beta * losses.divergence)
                )

            updates, kept = optimiser.update(
                jax.grad(mean_loss)(state.params), state.optimiser_state, state.params
            )
            return loop.State(optax.apply_updates(state.params, updates), kept), None

        return jax.lax.scan(step, state, (order, jnp.asarray(weights, images.dtype)))[0]

    state = jax.lax.fori_loop(first, last, epoch, state)
    of_points = [
        model.losses(state.params, of, draw(key, len(of)))
        for of, key in zip((images, test_images), noise_keys[1:])
    ]
    return state, jnp.array([[jnp.mean(of) for of in losses] for losses in of_points])
