"""Features of every kernel by name against the kernel itself in float64."""

import doctest
import re
from functools import cache

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from collective_variables.kernels import infinite_width
from collective_variables.networks import sequential
from collective_variables.selection.batches import features as pivoted
from collective_variables.selection.batches import kernels

pytestmark = pytest.mark.usefixtures("quick_float64")

GENERATOR = np.random.default_rng(0)
POOL = GENERATOR.normal(size=(14, 3))
IMAGES = GENERATOR.normal(size=(6, 4, 4, 2))
NETWORK = sequential.build_network(["dense 5", "dense 2"], parametrisation="ntk", b_std=0.3)
PARAMS = jax.tree.map(
    lambda leaf: np.asarray(leaf, np.float64), NETWORK.init(jax.random.key(1), jnp.ones((1, 3)))
)
# Without biases, parameters of zeros have derivatives of zeros.
PLAIN = sequential.build_network(["dense 5", "dense 2"], parametrisation="ntk", b_std=0.0)
ZEROS = jax.tree.map(np.zeros_like, PLAIN.init(jax.random.key(1), jnp.ones((1, 3))))
KEY = jax.random.key(2)
ROOT = GENERATOR.normal(size=(14, 14))
MATRIX = ROOT @ ROOT.T


def rbf(x1, x2):
    return np.exp(-((x1[:, None] - x2) ** 2).sum(axis=2))


def kernel_matrix(features):
    return features @ features.T


@cache
def empirical():
    """Σ over parameters of products of gradients, as a mean over outputs, one by one."""
    gradient = jax.jit(jax.jacobian(lambda params, point: NETWORK.apply(params, point[None])[0]))
    jacobians = [
        np.concatenate(
            [np.asarray(leaf).reshape(2, -1) for leaf in jax.tree.leaves(gradient(PARAMS, point))],
            axis=1,
        )
        for point in POOL
    ]
    return np.array([[(a * b).sum() / 2 for b in jacobians] for a in jacobians])


def limit(points, layers=("dense 1", "dense 1"), **options):
    return infinite_width.infinite_width_ntk(layers, points, **options)


def test_linear_features_are_the_points():
    expected = IMAGES.reshape(6, 32)
    for pool in (IMAGES, jnp.asarray(IMAGES), IMAGES.tolist()):
        features = kernels.features(pool, "linear")
        assert features.dtype == np.float64
        np.testing.assert_array_equal(features, expected)
    assert kernels.features(np.arange(6).reshape(3, 2), "linear").dtype == np.float64


@pytest.mark.parametrize(
    "kernel, expected",
    [
        ("ntk", empirical),
        ("infinite-width", lambda: limit(POOL, b_std=0.3)),
        (MATRIX, lambda: MATRIX),
        (rbf, lambda: rbf(POOL, POOL)),
    ],
    ids=["ntk", "infinite-width", "matrix", "function"],
)
@pytest.mark.parametrize("exact_up_to", [4096, 0])
def test_products_of_exact_features_are_the_kernel(kernel, expected, exact_up_to, monkeypatch):
    """Without a matrix of all points, blocks of the kernel are computed in float32."""
    monkeypatch.setattr(kernels, "EXACT_UP_TO", exact_up_to)
    params = PARAMS if isinstance(kernel, str) and kernel == "ntk" else None
    features = kernels.features(POOL, kernel, network=NETWORK, params=params)
    is_single = exact_up_to == 0 and isinstance(kernel, str) and kernel == "infinite-width"
    tolerance = 1e-3 if is_single else 1e-9
    assert features.dtype == np.float64
    np.testing.assert_allclose(kernel_matrix(features), expected(), rtol=0, atol=tolerance)


def test_a_function_sees_blocks_of_few_shapes_and_must_return_their_kernel():
    shapes = set()

    def kernel(x1, x2):
        shapes.add((len(x1), len(x2)))
        return rbf(x1, x2)

    pool = GENERATOR.normal(size=(300, 3))
    features = kernels.features(pool, kernel, n_features=40)
    exact = kernels.features(pool, rbf(pool, pool), n_features=40)
    np.testing.assert_allclose(kernel_matrix(features), kernel_matrix(exact), rtol=0, atol=1e-9)
    assert {n for pair in shapes for n in pair} <= {64, 128, 256, 512, len(pool)}
    message = "kernel must return the shape (64, 64) for 64 and 64 points: received (64,)."
    with pytest.raises(ValueError, match=re.escape(message)):
        kernels.features(POOL, lambda x1, x2: x1 @ x2[0])


def test_convolutions_and_other_forms_of_layers_have_their_limit():
    layers = ["conv 3 3x3 stride 2", "avgpool 2x1", "avgpool 1x2 stride 1", "dense 2"]
    for parametrisation in ("ntk", "lecun"):
        network = sequential.build_network(layers, parametrisation=parametrisation)
        features = kernels.features(IMAGES, "infinite-width", network=network)
        expected = infinite_width.infinite_width_ntk(layers, IMAGES)
        np.testing.assert_allclose(kernel_matrix(features), expected, rtol=0, atol=1e-9)


def test_fewer_features_are_those_of_the_pivoted_factor():
    expected = pivoted.from_kernel(MATRIX, 14, 4).features
    np.testing.assert_array_equal(kernels.features(POOL, MATRIX, n_features=4), expected)
    few = kernels.features(POOL, "ntk", network=NETWORK, params=PARAMS, n_features=3)
    assert few.shape == (14, 3)


def test_many_points_have_1024_features_of_an_exact_kernel(monkeypatch):
    monkeypatch.setattr(kernels, "EXACT_UP_TO", 5)
    monkeypatch.setattr(kernels, "N_FEATURES", 4)
    assert kernels.features(POOL, MATRIX).shape == (14, 4)
    assert kernels.features(POOL[:5], MATRIX[:5, :5]).shape == (5, 5)


def test_a_sketch_estimates_the_kernel_of_the_network():
    """The standard deviation of an entry is at most 3 √(K_ii K_jj / n_features)."""
    network = {"network": NETWORK, "params": PARAMS}
    expected = empirical()
    scales = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    sketched = kernels.features(POOL, "sketch", **network, key=KEY)
    assert sketched.shape == (14, 512) and sketched.dtype == np.float64
    assert (np.abs(kernel_matrix(sketched) - expected) < 4 * 3 * scales / np.sqrt(512)).all()
    again, other = (
        kernels.features(POOL, "sketch", **network, key=key) for key in (KEY, jax.random.key(3))
    )
    np.testing.assert_array_equal(again, sketched)
    assert not np.array_equal(other, sketched)


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x)


OTHER = sequential.build_network(["dense 6", "dense 2"], parametrisation="ntk", b_std=0.3)
UNEVEN = NETWORK.clone(
    layers=(sequential.Layer("conv", 2, (2, 2), (2, 1)), sequential.Layer("dense", 1))
)


@pytest.mark.parametrize(
    "kernel, options, message",
    [
        ("rbf", {}, "kernel must be one of infinite-width, linear, ntk, sketch: received 'rbf'."),
        ("ntk", {}, "network must be given for the kernel ntk: received None."),
        ("sketch", {"params": PARAMS}, "network must be given for the kernel sketch"),
        ("infinite-width", {}, "network must be given for the kernel infinite-width"),
        ("infinite-width", {"network": Plain()}, "network must be built from layers for the"),
        ("infinite-width", {"network": UNEVEN}, "the same stride along height and width for the"),
        ("ntk", {"network": NETWORK}, "params must be given for the kernel ntk: received None."),
        (
            "ntk",
            {"network": OTHER, "params": PARAMS},
            "params must have the arrays of the network's parameters, (6,) for "
            "['params']['Dense_0']['bias']: received (5,).",
        ),
        (
            "sketch",
            {"network": NETWORK, "params": {"params": {}}, "key": KEY},
            "(5,) for ['params']['Dense_0']['bias']: received no array.",
        ),
        ("sketch", {"network": NETWORK, "params": PARAMS}, "key must be a JAX key"),
        ("linear", {"params": PARAMS}, "params must be None for the kernel linear; the kernels"),
        (MATRIX, {"params": PARAMS}, "params must be None for a matrix or a function; the"),
        ("linear", {"n_features": 3}, "n_features must be None for the kernel linear, whose"),
        (MATRIX, {"n_features": 0}, "n_features must be at least 1: received 0."),
        (MATRIX[:13], {}, "a matrix of the shape (14, 14): received the shape (13, 14)."),
        (None, {}, "a matrix of the shape (14, 14): received the shape ()."),
        (-MATRIX, {}, "kernel must be positive semi-definite"),
    ],
)
def test_what_has_no_kernel_is_one_sentence(kernel, options, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)) as caught:
        kernels.features(POOL, kernel, **options)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "kernel, options, received",
    [
        (np.zeros((14, 14)), {}, "a matrix"),
        (lambda x1, x2: 0 * rbf(x1, x2), {}, "a function"),
        ("ntk", {"network": PLAIN, "params": ZEROS}, "the kernel ntk"),
        ("sketch", {"network": PLAIN, "params": ZEROS, "key": KEY}, "the kernel sketch"),
        ("infinite-width", {"network": PLAIN}, "the kernel infinite-width"),
    ],
)
def test_a_kernel_of_zeros_is_an_error_that_names_it(kernel, options, received):
    pool = 0 * POOL if isinstance(kernel, str) and kernel == "infinite-width" else POOL
    with pytest.raises(ValueError) as caught:
        kernels.features(pool, kernel, **options)
    assert str(caught.value) == (
        f"kernel must have K(x, x) > 0 for some point: received {received} with K(x, x) = 0 for "
        "all 14 points. Check how it was computed, or choose the kernel linear."
    )
    assert not kernels.features(pool, kernel, **options, may_be_zero=True).any()


@pytest.mark.parametrize("kernel", ["linear", MATRIX], ids=["linear", "matrix"])
def test_points_must_be_finite(kernel):
    with pytest.raises(ValueError, match="pool must be finite: 1 of 42 values"):
        kernels.features(np.where(np.arange(42).reshape(14, 3) == 7, np.nan, POOL), kernel)


def test_points_too_large_for_the_limit_are_an_error_that_names_the_pool():
    with pytest.raises(ValueError, match="pool must have a kernel within the range of float64"):
        kernels.features(1e200 * POOL, "infinite-width", network=NETWORK)


def test_the_examples_print_what_they_say():
    results = doctest.testmod(kernels)
    assert results.attempted == 2 and results.failed == 0
