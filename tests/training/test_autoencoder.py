"""Losses, kernels and recordings of autoencoders, compared with plain loops."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from helpers import assert_close

from collective_variables.ensembles import execution, seeding
from collective_variables.kernels import empirical
from collective_variables.observables import spectrum
from collective_variables.training import autoencoder, recorded_training, recording
from collective_variables.training.autoencoder import Schedule
from collective_variables.training.autoencoders.model import Autoencoder, build_autoencoder
from collective_variables.training.recording import Settings

GENERATOR = np.random.default_rng(0)
IMAGES, TEST_IMAGES = GENERATOR.uniform(size=(10, 2, 3, 1)), GENERATOR.uniform(size=(4, 2, 3, 1))
INDICES = np.stack([np.random.default_rng(seed).permutation(10)[:6] for seed in range(2)])
SEED = 3
# Six images in batches of four: the last is smaller.
COMMON = {"n_latents": 2, "width": 5, "n_epochs": 6}
BATCHES = Schedule(learning_rate=0.01, batch_size=4, **COMMON)
WHOLE = Schedule(
    beta=0.5, optimiser="sgd", learning_rate=0.05, batch_size=None, evaluate_every=3, **COMMON
)
EPOCHS = [0, 3, 6]
SETTINGS = Settings(epochs=[3], n_train=5, n_test=3, observables=["drift", "position"])
# An epoch at which the second does not stop is rounded.
SAMPLES = Settings(epochs=[2], subsample={"n_samples": 2, "sample_size": 3}, observables=[])
# Round-off grows over the steps of Adam; a wrong step changes losses by more than 1e-3.
STEPS = dict(operations=100_000)

pytestmark = pytest.mark.usefixtures("quick_float64")


def trained(
    schedule=BATCHES,
    settings=SETTINGS,
    *,
    images=IMAGES,
    test_images=TEST_IMAGES,
    indices=INDICES,
    **options,
):
    options = {"seed": SEED} | options
    tables = autoencoder.train_ensemble(
        images, test_images, indices, schedule=schedule, settings=settings, **options
    )
    return tables["recording"]


@functools.cache
def kept(schedule):
    """The table of a training with mini-batches, or of one with samples, and the store that it
    leaves.
    """
    store = {}
    return trained(schedule, SETTINGS if schedule == BATCHES else SAMPLES, store=store), store


def rows_of(table, run, points):
    """The rows of one run and kind of points, in the order of the epochs."""
    rows = table[(table["run"] == run) & (table["points"] == points)].reset_index(drop=True)
    assert rows["epoch"].tolist() == EPOCHS
    return rows


def flat(images):
    return jnp.asarray(images.reshape(len(images), -1))


def keys_of(member):
    return [
        seeding.member_keys(seeding.key(SEED, purpose), 2)[member]
        for purpose in ("initialisation", "batches")
    ]


def initial(schedule=BATCHES):
    """The autoencoder of member 1 and its first parameters."""
    model = build_autoencoder(6, schedule.n_latents, schedule.width)
    return model, jax.jit(model.initialise)(keys_of(1)[0], flat(IMAGES))


def perturbed():
    """The autoencoder, and parameters of which no bias is 0."""
    model, params = initial()
    return model, jax.tree.map(
        lambda leaf: leaf + 0.3 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params
    )


def two_layers(params, x):
    first, second = params["params"]["Dense_0"], params["params"]["Dense_1"]
    return (
        jnp.maximum(x @ first["kernel"] + first["bias"][None], 0) @ second["kernel"]
        + second["bias"][None]
    )


def mean_of(params, images):
    return two_layers(params, images)[:, :2]


@jax.jit
def losses_of(params, images, noise):
    """(n_images, 2) reconstruction and divergence, by probabilities and variances."""
    mean, variance = (
        mean_of(params.encoder, images),
        jnp.exp(two_layers(params.encoder, images)[:, 2:]),
    )
    p = 1 / (1 + jnp.exp(-two_layers(params.decoder, mean + jnp.sqrt(variance) * noise)))
    likelihood = images * jnp.log(p) + (1 - images) * jnp.log(1 - p)
    return jnp.stack(
        [-likelihood.sum(axis=1), (mean**2 + variance - 1 - jnp.log(variance)).sum(axis=1) / 2],
        axis=1,
    )


def noise_keys():
    """Of member 1: for its training, for the losses of its images, and for those of the test
    images.
    """
    return jax.random.split(jax.random.fold_in(keys_of(1)[1], autoencoder.NOISE), 3)


@functools.cache
def plain_loop(schedule):
    """Parameters of member 1 at the recorded epochs."""
    (_, params), batch_key, images = initial(schedule), keys_of(1)[1], flat(IMAGES[INDICES[1]])
    optimiser, size = (
        getattr(optax, schedule.optimiser)(schedule.learning_rate),
        schedule.batch_size or 6,
    )
    gradient = jax.grad(
        lambda *arguments: jnp.mean(losses_of(*arguments) @ jnp.array([1.0, schedule.beta]))
    )

    @jax.jit
    def step(params, state, images, noise):
        updates, state = optimiser.update(gradient(params, images, noise), state, params)
        return optax.apply_updates(params, updates), state

    state, every = jax.jit(optimiser.init)(params), [params]
    for epoch in range(6):
        order = jax.random.permutation(jax.random.fold_in(batch_key, epoch), 6)
        noise = jax.random.normal(jax.random.fold_in(noise_keys()[0], epoch), (6, 2))
        for batch in (order[start : start + size] for start in range(0, 6, size)):
            params, state = step(params, state, images[batch], noise[batch])
        every.append(params)
    return [every[epoch] for epoch in EPOCHS]


def test_the_kernel_of_the_mean_is_that_of_an_explicit_jacobian_by_all_parameters():
    (model, params), images = perturbed(), flat(IMAGES)
    assert_close(model.mean(params.encoder, IMAGES), mean_of(params.encoder, images))
    leaves = jax.tree.leaves(
        jax.jit(jax.jacrev(lambda every: mean_of(every.encoder, images)))(params)
    )
    assert len(leaves) == 8
    jacobian = np.concatenate([np.asarray(leaf).reshape(10, 2, -1) for leaf in leaves], axis=-1)
    expected = np.einsum("icp,jcp->ij", jacobian, jacobian) / 2
    assert_close(
        empirical.empirical_ntk(model.mean, params.encoder, IMAGES), expected, operations=1e4
    )


def test_the_loss_is_that_of_a_loop_over_pixels_and_latents():
    (model, params), noise = perturbed(), GENERATOR.normal(size=(4, 2))
    losses = jax.jit(model.losses)(params, flat(TEST_IMAGES), noise)
    latents = np.asarray(two_layers(params.encoder, flat(TEST_IMAGES)))
    for i, image in enumerate(TEST_IMAGES):
        z = [latents[i, j] + math.exp(0.5 * latents[i, 2 + j]) * noise[i, j] for j in range(2)]
        logits = np.asarray(two_layers(params.decoder, jnp.array([z])))[0]
        chances = [1 / (1 + math.exp(-logit)) for logit in logits]
        reconstruction = -sum(
            x * math.log(p) + (1 - x) * math.log(1 - p) for x, p in zip(image.ravel(), chances)
        )
        divergence = sum(
            (m * m + math.exp(v) - 1 - v) / 2 for m, v in zip(latents[i, :2], latents[i, 2:])
        )
        assert_close(losses.reconstruction[i], reconstruction)
        assert_close(losses.divergence[i], divergence)


def test_the_divergence_is_an_integral():
    """∫ q ln(q/p) over a grid on which the trapezoidal rule for a smooth function that vanishes at
    its ends is exact.
    """
    (model, params), z = perturbed(), np.linspace(-40.0, 40.0, 20_001)
    latents = np.asarray(two_layers(params.encoder, flat(TEST_IMAGES)))
    divergences = jax.jit(model.losses)(params, flat(TEST_IMAGES), np.zeros((4, 2))).divergence
    for row, divergence in zip(latents, divergences):
        integral = 0.0
        for mean, log_variance in zip(row[:2], row[2:]):
            log_q = -0.5 * (
                (z - mean) ** 2 / np.exp(log_variance) + log_variance + math.log(2 * math.pi)
            )
            log_p = -0.5 * (z**2 + math.log(2 * math.pi))
            integral += np.sum(np.exp(log_q) * (log_q - log_p)) * (z[1] - z[0])
        assert float(divergence) == pytest.approx(integral, rel=1e-9)


def test_pixels_that_are_certain_have_a_finite_loss():
    """Where probabilities are rounded to 0 or 1 their logarithms aren't finite, and those of the
    logits are.
    """
    model, params = initial()
    params = params._replace(decoder=jax.tree.map(lambda leaf: leaf + 1e3, params.decoder))
    ones = jax.jit(model.losses)(params, jnp.ones((1, 6)), jnp.ones((1, 2))).reconstruction
    assert float(ones[0]) == 0.0
    zeros = jax.jit(model.losses)(params, jnp.zeros((1, 6)), jnp.ones((1, 2))).reconstruction
    assert 1e3 < float(zeros[0]) < math.inf


def test_encoder_and_decoder_have_different_random_numbers():
    model = build_autoencoder(6, 6, 5)
    params = jax.jit(model.initialise)(jax.random.key(0), jnp.zeros((1, 6), jnp.float32))
    first, second = (network["params"]["Dense_0"]["kernel"] for network in params)
    assert first.shape == second.shape and (first != second).all()
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}


@pytest.mark.parametrize("schedule", [BATCHES, WHOLE], ids=["mini-batches", "full batches"])
def test_losses_are_those_of_a_plain_loop(schedule):
    """Means over all images of a member, and over all test images, though fewer are recorded."""
    table, _ = kept(schedule)
    _, *keys = noise_keys()
    for points, images, key in zip(
        ("train", "test"), (flat(IMAGES[INDICES[1]]), flat(TEST_IMAGES)), keys
    ):
        noise = jax.random.normal(key, (len(images), 2))
        expected = np.array(
            [losses_of(params, images, noise).mean(axis=0) for params in plain_loop(schedule)]
        )
        rows = rows_of(table, 1, points)
        assert_close(rows[["reconstruction", "divergence"]].to_numpy(), expected, **STEPS)
        assert_close(rows["loss"].to_numpy(), expected @ np.array([1.0, schedule.beta]), **STEPS)


def test_kernels_are_those_of_a_plain_loop():
    """Of the first five images of a member, and of the first three test images."""
    table, _ = kept(BATCHES)
    for points, images in {
        "train": flat(IMAGES[INDICES[1, :5]]),
        "test": flat(TEST_IMAGES[:3]),
    }.items():
        kernels = [
            empirical.empirical_ntk(mean_of, params.encoder, images)
            for params in plain_loop(BATCHES)
        ]
        drifts = [
            np.linalg.norm(kernel - kernels[0]) / np.linalg.norm(kernels[0]) for kernel in kernels
        ]
        entropies = [spectrum.entropy(spectrum.eigenvalues(kernel)) for kernel in kernels]
        expected = np.array([entropies, [np.trace(kernel) for kernel in kernels], drifts]).T
        assert_close(
            rows_of(table, 1, points)[["entropy", "trace", "drift"]].to_numpy(), expected, **STEPS
        )


def test_positions_are_those_of_the_loss_at_the_means_by_explicit_jacobians():
    table, _ = kept(BATCHES)
    images = flat(IMAGES[INDICES[1, :5]])
    jacobian_of = jax.jit(jax.jacrev(mean_of))

    def loss(means, params):
        variance = jnp.exp(two_layers(params.encoder, images)[:, 2:])
        p = 1 / (1 + jnp.exp(-two_layers(params.decoder, means)))
        likelihood = images * jnp.log(p) + (1 - images) * jnp.log(1 - p)
        divergence = (means**2 + variance - 1 - jnp.log(variance)).sum() / 2
        return (divergence - likelihood.sum()) / len(images)

    signals_of, expected = jax.jit(jax.grad(loss)), []
    for params in plain_loop(BATCHES):
        signals = signals_of(mean_of(params.encoder, images), params)
        jacobians = jax.tree.leaves(jacobian_of(params.encoder, images))
        slopes = [jnp.einsum("nc,nc...->...", signals, jacobian) for jacobian in jacobians]
        chi_loss, chi_net, delta_loss = (
            sum(float(jnp.sum(leaf**2)) for leaf in part) for part in ([signals], jacobians, slopes)
        )
        expected.append([chi_loss, chi_net, delta_loss / (chi_loss * chi_net), delta_loss])
    names = ["chi_loss", "chi_net", "chi_pos", "delta_loss"]
    assert_close(rows_of(table, 1, "train")[names].to_numpy(), np.array(expected), **STEPS)


def test_samples_are_those_of_a_run():
    table, _ = kept(WHOLE)
    points = {
        "train": recording.Points(flat(IMAGES[INDICES[1]])),
        "test": recording.Points(flat(TEST_IMAGES)),
    }
    key = jax.random.fold_in(keys_of(1)[1], recorded_training.SAMPLES)
    record = recording.Recorder(mean_of, SAMPLES).recording(points, key=key)
    for epoch, params in zip(EPOCHS, plain_loop(WHOLE)):
        record.record(epoch, params.encoder)
    expected = record.tables["recording"]
    rows = table[table["run"] == 1].reset_index(drop=True)
    assert [*rows.columns.drop(["run", "loss", "reconstruction", "divergence"])] == [
        *expected.columns
    ]
    for name in ("entropy", "trace", "trace_standard_deviation"):
        assert_close(rows[name].to_numpy(), expected[name].to_numpy(), **STEPS)


def test_a_member_is_the_same_alone_and_with_other_test_images():
    """Nor does it see images of the pool that are not its own."""
    (table, _), images = kept(BATCHES), IMAGES.copy()
    images[np.setdiff1d(np.arange(10), INDICES[0])] = 0.5
    alone = trained(images=images, test_images=1 - TEST_IMAGES, indices=INDICES[:1])
    pd.testing.assert_frame_equal(rows_of(alone, 0, "train"), rows_of(table, 0, "train"))
    first, second = (
        rows_of(rows, 0, "test")[["loss", "trace"]].to_numpy() for rows in (alone, table)
    )
    assert (first != second).all()


def test_an_interrupted_training_resumes_and_ends_with_the_same_numbers(monkeypatch):
    table, store = kept(BATCHES)
    assert len(store) == 2 and all(
        column.dtype.kind in "ifU" for arrays in store.values() for column in arrays.values()
    )
    store, calls, original = dict(sorted(store.items())[1:]), [], recording.Recording.record
    monkeypatch.setattr(
        recording.Recording,
        "record",
        lambda *arguments: (calls.append(arguments[1]), original(*arguments)),
    )
    pd.testing.assert_frame_equal(trained(store=store), table)
    assert calls == EPOCHS and len(store) == 2


@pytest.mark.parametrize(
    "changed",
    [
        {"schedule": dataclasses.replace(BATCHES, beta=2.0)},
        {"settings": SAMPLES},
        {"images": 1 - IMAGES},
        {"test_images": 1 - TEST_IMAGES},
        {"indices": INDICES[:, ::-1]},
        {"seed": SEED + 1},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_store_has_nothing_for_another_training(changed, monkeypatch):
    monkeypatch.setattr(autoencoder._Runner, "record", lambda *_: pd.DataFrame({"epoch": [0]}))
    store = {}
    trained(store=store)
    trained(store=store)
    assert len(store) == 2
    trained(**changed, store=store)
    assert len(store) == 4


def test_a_run_that_diverges_stops_no_other(monkeypatch):
    """Variances of member 0 begin so large that its loss is infinite."""
    table, _ = kept(BATCHES)
    first, original = jax.random.key_data(keys_of(0)[0]), Autoencoder.initialise

    def far_out(model, key, images):
        factor = jnp.where((jax.random.key_data(key) == first).all(), 1e4, 1.0)
        return jax.tree.map(lambda leaf: leaf * factor, original(model, key, images))

    monkeypatch.setattr(Autoencoder, "initialise", far_out)
    result = trained()
    pd.testing.assert_frame_equal(result[result["run"] == 1], table[table["run"] == 1])
    for points in ("train", "test"):
        rows = rows_of(result, 0, points)
        assert not np.isfinite(rows["loss"]).any()
        assert (
            rows["entropy"].notna().tolist()
            == rows["trace"].notna().tolist()
            == [True, False, False]
        )


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (
            {"images": IMAGES * 255},
            ValueError,
            "images of the pool must have pixels in 0 to 1: 59 are outside, the first",
        ),
        (
            {"test_images": TEST_IMAGES - 1},
            ValueError,
            "test images must have pixels in 0 to 1: 24 are outside, the first",
        ),
        (
            {"images": np.where(np.arange(10)[:, None, None, None] == 3, np.nan, IMAGES)},
            ValueError,
            r"images of the pool must be finite: 6 of 60 values .* at \(3, 0, 0, 0\)",
        ),
        (
            {"test_images": TEST_IMAGES[:, :1]},
            ValueError,
            r"test images must be shaped like the pool's, \(2, 3, 1\): received \(1, 3, 1\)",
        ),
        (
            {"indices": INDICES + 4},
            ValueError,
            "indices must be rows of the pool, 0 to 9: received 1",
        ),
        ({"settings": Settings()}, ValueError, "The observables alignment need targets"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_work(changed, error, message, monkeypatch):
    monkeypatch.setattr(execution, "run", None)
    with pytest.raises(error, match=message):
        trained(**changed)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"n_latents": 0}, ValueError, "n_latents must be at least 1: received 0"),
        ({"width": 2.5}, TypeError, "width must be an integer: received 2.5"),
        ({"beta": -1.0}, ValueError, "beta must be at least 0.0: received -1.0"),
        ({"optimiser": "none"}, ValueError, "optimiser must be one of optax's"),
        (
            {"learning_rate": 0.0},
            ValueError,
            "learning_rate must be greater than 0.0: received 0.0",
        ),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1: received 0"),
        (
            {"n_epochs": 5, "evaluate_every": 2},
            ValueError,
            "evaluate_every must divide n_epochs: received 2 and 5",
        ),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(changed, error, message):
    with pytest.raises(error, match=message):
        Schedule(**changed)
