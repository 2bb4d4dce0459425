import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from jax.flatten_util import ravel_pytree
from scipy import stats

from collective_variables import networks, selection

KEY = jax.random.key(3)
DENSE = networks.build(["dense 6", "dense 3"])
CONV = networks.build(["conv 2 2x2", "avgpool 2x2", "dense 3"], activation="tanh")
POOL = np.random.default_rng(0).normal(size=(20, 4))
IMAGES = np.random.default_rng(1).normal(size=(70, 4, 4, 1))  # more than the 64 that are scored in one block
TRAINING = dict(n_epochs=10, learning_rate=0.02)
# Round-off grows over some hundred steps of Adam; a wrong step changes distances by more than 1e-3.
ADAM = dict(operations=1_000_000)


pytestmark = pytest.mark.usefixtures("quick_float64")


def algorithm_1(pool, network, key, n_selected, n_members, n_epochs, learning_rate):
    """Algorithm 1 of P1 with growing lists and Adam (Kingma, Ba 2015) written out."""
    _, unravel = ravel_pytree(network.init(key, pool[:1]))
    apply = jax.jit(lambda flat: network.apply(unravel(flat), pool))
    # The loss of a subset is the mean of those of its points, so that the gradients of all points serve every subset.
    gradients = jax.jit(jax.jacobian(lambda flat, truth: jnp.mean((apply(flat) - truth) ** 2, axis=1)))
    members = []
    for m in range(n_members):
        target, predictor = (network.init(k, pool[:1]) for k in jax.random.split(jax.random.fold_in(key, m)))
        truth, flat = np.asarray(network.apply(target, pool)), np.asarray(ravel_pytree(predictor)[0])
        chosen, distances, first, second, t = [], [], 0.0, 0.0, 0
        while len(chosen) < n_selected:
            guess = np.asarray(apply(flat))
            errors = {i: np.mean((truth[i] - guess[i]) ** 2) for i in range(len(pool)) if i not in chosen}
            chosen.append(max(errors, key=errors.get))
            distances.append(errors[chosen[-1]])
            for _ in range(n_epochs):
                g, t = np.asarray(gradients(flat, truth))[chosen].mean(axis=0), t + 1
                first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
                step = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
                flat = flat - learning_rate * step
        members.append((chosen, distances))
    return [np.array(values) for values in zip(*members)]


@functools.cache
def whole_pool():
    """Seven members, more than one chunk, that choose every point of the pool."""
    return selection.rnd(POOL, DENSE, n_selected=20, key=KEY, n_members=7, **TRAINING)


@functools.cache
def seven_points():
    return selection.rnd(POOL, DENSE, n_selected=7, key=KEY, n_members=2, **TRAINING)


# random network distillation


def test_rnd_of_a_dense_network_is_algorithm_1_to_the_last_point_of_the_pool_for_every_member():
    indices, distances = algorithm_1(POOL, DENSE, KEY, 20, 7, **TRAINING)
    np.testing.assert_array_equal(whole_pool().indices, indices)
    assert_close(whole_pool().distances, distances, **ADAM)


def test_rnd_of_a_convolutional_network_is_algorithm_1_also_for_a_pool_of_several_blocks():
    indices, distances = algorithm_1(IMAGES, CONV, KEY, 6, 1, **TRAINING)
    result = selection.rnd(IMAGES, CONV, n_selected=6, key=KEY, **TRAINING)
    np.testing.assert_array_equal(result.indices, indices)
    assert_close(result.distances, distances, **ADAM)


def test_without_epochs_the_points_are_in_the_order_of_the_untrained_distances():
    result = selection.rnd(POOL, DENSE, n_selected=5, key=KEY, n_epochs=0)
    target, predictor = (DENSE.init(key, POOL[:1]) for key in jax.random.split(jax.random.fold_in(KEY, 0)))
    distances = np.mean((DENSE.apply(target, POOL) - DENSE.apply(predictor, POOL)) ** 2, axis=1)
    np.testing.assert_array_equal(result.indices[0], np.argsort(-distances)[:5])
    assert_close(result.distances[0], np.sort(distances)[:-6:-1])
    assert result.indices[0, 0] == whole_pool().indices[0, 0]  # the first point is that of untrained networks
    assert result.indices[0].tolist() != whole_pool().indices[0, :5].tolist()  # and training changes the others


def test_a_shorter_run_of_fewer_members_is_the_start_of_a_longer_one_of_more():
    np.testing.assert_array_equal(seven_points().indices, whole_pool().indices[:2, :7])
    assert_close(seven_points().distances, whole_pool().distances[:2, :7], **ADAM)


@pytest.mark.parametrize("key, same", [(KEY, True), (jax.random.key(4), False)], ids=["same key", "other key"])
def test_the_key_alone_decides_the_result(key, same):
    result = selection.rnd(POOL, DENSE, n_selected=7, key=key, n_members=2, **TRAINING)
    assert np.array_equal(result.indices, seven_points().indices) is same
    assert np.array_equal(result.distances, seven_points().distances) is same


def test_members_differ_choose_no_point_twice_and_have_positive_distances():
    assert len({tuple(row) for row in whole_pool().indices}) == 7
    assert all(sorted(row) == list(range(20)) for row in whole_pool().indices.tolist())
    assert (whole_pool().distances > 0).all()


def test_copies_of_a_point_are_chosen_once_each_and_the_dtype_is_that_of_the_pool():
    pool = np.repeat(POOL[:2], 4, axis=0).astype(np.float32)
    result = selection.rnd(pool, DENSE, n_selected=8, key=KEY, **TRAINING)
    assert sorted(result.indices[0].tolist()) == list(range(8))
    assert result.distances.dtype == np.float32 and np.isfinite(result.distances).all()


def test_a_predictor_that_diverges_is_an_error_that_names_its_member():
    pool, network = np.abs(POOL[:, :1]), networks.build(["dense 1", "dense 1"])
    changed = dict(n_epochs=1, learning_rate=1e200)
    with np.errstate(all="ignore"):
        _, distances = algorithm_1(pool, network, KEY, 2, 4, **changed)
    diverged = np.flatnonzero(~np.isfinite(distances[:, 1]))
    assert diverged.tolist() == [1, 2, 3]  # the ReLU of member 0 is 0 on the whole pool and leaves no gradient
    message = rf"distance of member {diverged[0]}, point 1 is (inf|nan); .* Lower learning_rate \(now 1e\+200\)"
    with pytest.raises(FloatingPointError, match=message):
        selection.rnd(pool, network, n_selected=2, key=KEY, n_members=4, **changed)


NAN = np.where(np.arange(20)[:, None] == 5, np.nan, POOL)


@pytest.mark.parametrize(
    "pool, changed, error, message",
    [
        (np.zeros((272, 4)), {"n_selected": 500}, ValueError, "n_selected must not exceed the pool: 500 > 272."),
        (POOL, {"n_selected": 0}, ValueError, "n_selected must be at least 1: received 0."),
        (POOL, {"n_selected": 5.0}, TypeError, "n_selected must be an integer: received 5.0."),
        (POOL, {"n_members": 0}, ValueError, "n_members must be at least 1: received 0."),
        (POOL, {"n_epochs": -1}, ValueError, "n_epochs must be at least 0: received -1."),
        (POOL, {"learning_rate": 0.0}, ValueError, "learning_rate must be greater than 0.0: received 0.0."),
        (
            POOL,
            {"learning_rate": "1e-3"},
            TypeError,
            "learning_rate must be a number: received '1e-3'. YAML reads 1e-3 as text: write 0.001.",
        ),
        (NAN, {}, ValueError, "pool must be finite: 4 of 80 values are NaN or infinite, the first at (5, 0)."),
    ],
)
def test_wrong_arguments_of_rnd_are_one_error_that_names_them(pool, changed, error, message):
    with pytest.raises(error) as caught:
        selection.rnd(pool, DENSE, **{"n_selected": 5, "key": KEY} | changed)
    assert str(caught.value) == message


# random subsets


def test_random_subsets_repeat_no_point_and_are_nested_and_the_same_for_any_number_of_members():
    long = selection.random(12, n_selected=12, key=KEY, n_members=6)
    assert all(sorted(row) == list(range(12)) for row in long.indices.tolist())
    short = selection.random(12, n_selected=4, key=KEY, n_members=2)
    np.testing.assert_array_equal(short.indices, long.indices[:2, :4])
    assert np.isnan(long.distances).all() and long.distances.shape == (6, 12)
    other = selection.random(12, n_selected=12, key=jax.random.key(4), n_members=6)
    assert not np.array_equal(other.indices, long.indices)


def test_random_subsets_draw_every_point_equally_often_at_every_place():
    """Chi-square at 3 places and of the pairs: a right generator fails for 4 keys in 10^6."""
    indices = selection.random(6, n_selected=3, key=KEY, n_members=3000).indices
    for place in range(3):
        assert stats.chisquare(np.bincount(indices[:, place], minlength=6)).pvalue > 1e-6
    _, pairs = np.unique(np.sort(indices[:, :2], axis=1), axis=0, return_counts=True)
    assert len(pairs) == 15 and stats.chisquare(pairs).pvalue > 1e-6


@pytest.mark.parametrize(
    "changed, error, message",
    [
        ({"n_selected": 500}, ValueError, "n_selected must not exceed the pool: 500 > 272."),
        ({"n_selected": True}, TypeError, "n_selected must be an integer: received True."),
        ({"n_members": 2.0}, TypeError, "n_members must be an integer: received 2.0."),
    ],
)
def test_wrong_arguments_of_random_are_one_error_that_names_them(changed, error, message):
    with pytest.raises(error) as caught:
        selection.random(272, **{"n_selected": 5, "key": KEY} | changed)
    assert str(caught.value) == message
