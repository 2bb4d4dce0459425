"""Kernels of infinite width against Gaussian expectations, wide networks and neural-tangents."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import UNFIT_POINTS, assert_close
from scipy import special

from collective_variables.kernels import empirical, infinite_width, reference
from collective_variables.kernels.infinite_width import (
    ANALYTIC_ACTIVATIONS,
    infinite_width_kernel,
    infinite_width_ntk,
)
from collective_variables.networks import parameters, sequential
from collective_variables.selection import rnd_linearised

pytestmark = pytest.mark.usefixtures("quick_compilation")

each_activation = pytest.mark.parametrize("activation", ANALYTIC_ACTIVATIONS)
each_bias = pytest.mark.parametrize("b_std", [None, 0.0, 0.7])
N1 = 7  # points of x1, where there are two sets
RELU_DIAGONAL = 1e-7  # the angle between parallel points keeps half of the digits of float64


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


def dense(n_hidden):
    return ["dense 3"] * (n_hidden + 1)


def is_diagonal(kernel):
    return np.eye(*kernel.shape, dtype=bool)


# the definition, by quadrature


FUNCTIONS = {
    "relu": (lambda u: np.maximum(u, 0), lambda u: (u > 0).astype(float)),
    "erf": (special.erf, lambda u: 2 / np.sqrt(np.pi) * np.exp(-(u**2))),
    "linear": (lambda u: u, np.ones_like),
}


@cache
def legendre(n):
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return (nodes + 1) / 2, weights / 2


def expectation(function, k11, k22, k12):
    """E[f(u) f(v)] for Gaussian (u, v), in polar coordinates of two independent normal numbers.

    u = √k11 ρ cos t and v = √k22 ρ cos(t − angle) change their signs at four angles t, between
    which f is smooth; the density of ρ is ρ exp(−ρ²/2), and below 1e-31 beyond 12.
    """
    angle = np.arccos(np.clip(k12 / np.sqrt(k11 * k22), -1, 1))
    signs = np.array([np.pi / 2, 3 * np.pi / 2, angle + np.pi / 2, angle + 3 * np.pi / 2])
    ends = np.sort(signs % (2 * np.pi))
    nodes, weights = legendre(40)
    radius, radial_weights = 12 * legendre(120)[0], 12 * legendre(120)[1]
    density = radial_weights * radius * np.exp(-(radius**2) / 2)
    total = 0.0
    for start, end in zip(ends, [*ends[1:], ends[0] + 2 * np.pi]):
        t = start + (end - start) * nodes
        u = np.sqrt(k11) * np.outer(np.cos(t), radius)
        v = np.sqrt(k22) * np.outer(np.cos(t - angle), radius)
        total += (end - start) * weights @ (function(u) * function(v)) @ density
    return total / (2 * np.pi)


def pair_ntk(x, y, n_hidden, activation, bias):
    """The NTK of one pair of points, layer by layer."""
    function, derivative = FUNCTIONS[activation]
    k11, k22, k12 = (a @ b / len(x) + bias for a, b in ((x, x), (y, y), (x, y)))
    ntk = k12
    for _ in range(n_hidden):
        slope = expectation(derivative, k11, k22, k12)
        k12 = expectation(function, k11, k22, k12) + bias
        k11, k22 = (expectation(function, k, k, k) + bias for k in (k11, k22))
        ntk = k12 + ntk * slope
    return ntk


def slow_ntk(x1, x2, n_hidden, activation, b_std):
    bias = (b_std or 0.0) ** 2
    return np.array([[pair_ntk(x, y, n_hidden, activation, bias) for y in x2] for x in x1])


def test_the_quadrature_has_known_expectations():
    k11, k22, k12 = 0.7, 1.9, -0.4
    assert_close(expectation(lambda u: u, k11, k22, k12), k12)
    assert_close(expectation(lambda u: u**2, k11, k22, k12), k11 * k22 + 2 * k12**2)
    quadrant = 0.25 + np.arcsin(k12 / np.sqrt(k11 * k22)) / (2 * np.pi)
    assert_close(expectation(lambda u: (u > 0).astype(float), k11, k22, k12), quadrant)


@each_activation
@pytest.mark.parametrize("n_hidden, b_std", [(1, None), (2, 0.7), (3, None), (4, 0.3)])
def test_kernels_are_gaussian_expectations_layer_by_layer(n_hidden, b_std, activation, float64):
    x1, x2 = normal(3, 3), np.concatenate([normal(6, 3)[4:], normal(3, 3)[2:]])
    options = {"activation": activation, "b_std": b_std}
    kernel = np.asarray(infinite_width_ntk(dense(n_hidden), x1, x2, **options))
    expected = slow_ntk(x1, x2, n_hidden, activation, b_std)
    same = (x1[:, None] == x2[None]).all(axis=2)
    tolerance = RELU_DIAGONAL if activation == "relu" else 1e-12
    assert same.sum() == 1
    np.testing.assert_allclose(kernel[~same], expected[~same], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(kernel[same], expected[same], rtol=tolerance)


@each_activation
@pytest.mark.parametrize("scale", [1e-4, 5.0])
def test_small_and_large_points_have_the_expectations_too(scale, activation, float64):
    """An error function of variance 1e-8 is linear, and of 25 nearly a sign."""
    x1, x2 = scale * normal(2, 3), scale * normal(5, 3)[2:]
    kernel = infinite_width_ntk(dense(1), x1, x2, activation=activation)
    expected = slow_ntk(x1, x2, 1, activation, None)
    np.testing.assert_allclose(kernel, expected, rtol=1e-10)


@each_activation
@each_bias
@pytest.mark.parametrize("shape", [(4,), (2, 3, 1)])
def test_a_network_without_hidden_layers_has_the_gram_matrix(shape, b_std, activation, float64):
    x = normal(12, *shape)
    rows = x.reshape(12, -1)
    expected = rows @ rows.T / rows.shape[1] + (b_std or 0) ** 2
    options = {"activation": activation, "b_std": b_std}
    assert_close(infinite_width_ntk(dense(0), x, **options), expected)
    assert_close(infinite_width_ntk(dense(0), x[:2], x[2:], **options), expected[:2, 2:])


def test_a_deep_linear_network_has_a_multiple_of_the_gram_matrix(float64):
    x = normal(6, 4)
    kernel = infinite_width_ntk(dense(3), x, activation="linear")
    assert_close(kernel, 4 * x @ x.T / 4)


def test_images_are_flattened_by_a_dense_network():
    images = normal(4, 2, 3, 2).astype(np.float32)
    kernel = infinite_width_ntk(dense(2), images)
    assert np.array_equal(kernel, infinite_width_ntk(dense(2), images.reshape(4, 12)))


def test_the_widths_do_not_matter_and_the_number_of_layers_does():
    x = normal(4, 3).astype(np.float32)
    kernel = infinite_width_ntk(["dense 1", "dense 1"], x)
    assert np.array_equal(kernel, infinite_width_ntk(["dense 64", "dense 10"], x))
    assert np.abs(kernel - infinite_width_ntk(dense(2), x)).max() > 0.1


# neural-tangents


def stax_ntk(layers, x1, x2, *, activation, b_std):
    network = sequential.build_network(
        layers, activation=activation, parametrisation="ntk", b_std=b_std
    )
    return np.asarray(reference.reference_limit(network, jnp.asarray(x1), jnp.asarray(x2)))


@each_activation
@pytest.mark.parametrize("n_hidden, b_std", [(1, None), (2, 0.0), (3, 0.7), (4, None)])
def test_neural_tangents_agrees_in_float64(n_hidden, b_std, activation, float64):
    x1, x2 = normal(N1 + 5, 3)[:N1], normal(N1 + 5, 3)
    options = {"activation": activation, "b_std": b_std}
    kernel = np.asarray(infinite_width_ntk(dense(n_hidden), x1, x2, **options))
    expected = stax_ntk(dense(n_hidden), x1, x2, **options)
    same = is_diagonal(kernel)
    np.testing.assert_allclose(kernel[~same], expected[~same], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(kernel[same], expected[same], rtol=RELU_DIAGONAL)


@each_activation
def test_neural_tangents_agrees_in_float32(activation):
    x1, x2 = (normal(N1 + 5, 3).astype(np.float32)[rows] for rows in (slice(N1), slice(None)))
    options = {"activation": activation, "b_std": 0.3}
    kernel = np.asarray(infinite_width_ntk(dense(3), x1, x2, **options))
    expected = stax_ntk(dense(3), x1, x2, **options)
    same, largest = is_diagonal(kernel), np.abs(expected).max()
    assert kernel.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(kernel[~same], expected[~same], rtol=0, atol=5e-6 * largest)
    np.testing.assert_allclose(kernel[same], expected[same], rtol=0, atol=5e-4 * largest)


# wide networks


LAYERS = ["dense 1024", "dense 1024", "dense 4"]
# With 7 degrees of freedom an entry is off by 7 standard errors once in 5000 draws.
LIMIT = 7


def standard_errors(members, kernel):
    """By how many standard errors the mean over the members is off `kernel`, at its worst entry."""
    error = members.std(axis=0, ddof=1) / np.sqrt(len(members))
    return np.abs((members.mean(axis=0) - kernel) / error).max()


@cache
def random_kernels(activation):
    """Points, and empirical kernels (8, n_points, n_points) of independent wide networks."""
    network = sequential.build_network(
        LAYERS, activation=activation, parametrisation="ntk", b_std=0.5
    )
    x = jnp.asarray(normal(5, 3), jnp.float32)

    @jax.jit
    def kernel(key):
        params = parameters.initialise(network, key, x)
        return empirical.empirical_ntk(network.apply, params, x)

    members = [np.asarray(kernel(jax.random.key(seed)), float) for seed in range(8)]
    return x, np.stack(members)


@each_activation
def test_wide_random_networks_have_it_and_those_of_another_bias_do_not(activation):
    x, members = random_kernels(activation)
    kernel, other = (
        infinite_width_ntk(LAYERS, x, activation=activation, b_std=b_std) for b_std in (0.5, 0.7)
    )
    assert standard_errors(members, kernel) < LIMIT
    assert members.std(axis=0).max() < 0.1 * members.max()
    assert standard_errors(members, other) > 2 * LIMIT


def test_wide_networks_of_another_depth_or_activation_do_not_have_it():
    x, members = random_kernels("relu")
    assert standard_errors(members, infinite_width_ntk(dense(3), x, b_std=0.5)) > 2 * LIMIT
    for activation in ("erf", "linear"):
        kernel = infinite_width_ntk(LAYERS, x, b_std=0.5, activation=activation)
        assert standard_errors(members, kernel) > 2 * LIMIT
    _, others = random_kernels("gelu")
    assert standard_errors(others, infinite_width_ntk(LAYERS, x, b_std=0.5)) > 2 * LIMIT


# special points


@each_activation
@each_bias
@pytest.mark.parametrize("shape", [(61, 5), (5, 5)])
def test_the_kernel_of_one_set_of_points_is_exactly_symmetric(shape, b_std, activation):
    """The product of 5 points of 5 features with themselves is not, in float64 on some machines."""
    options = {"activation": activation, "b_std": b_std}
    for wide in (False, True):
        with jax.enable_x64(wide):
            kernel = np.asarray(infinite_width_ntk(dense(2), normal(*shape), **options))
            pair = infinite_width_ntk(dense(2), normal(*shape), normal(*shape), **options)
        assert np.array_equal(kernel, kernel.T)
        np.testing.assert_allclose(kernel, pair, rtol=0, atol=1e-3 * kernel.max())


@each_activation
def test_points_of_zeros_have_no_kernel_without_biases_and_that_of_the_biases_with(
    activation, float64
):
    x = np.concatenate([normal(3, 4), np.zeros((2, 4))])
    kernel = np.asarray(infinite_width_ntk(dense(2), x, activation=activation))
    assert kernel[0, 0] > 0 and not kernel[3:].any()
    biased = np.asarray(infinite_width_ntk(dense(2), x, activation=activation, b_std=0.7))
    expected = slow_ntk(x[3:4], x[:1], 2, activation, 0.7)
    np.testing.assert_allclose(biased[3:, 0], np.repeat(expected, 2), rtol=1e-12)
    own = slow_ntk(x[3:4], x[3:4], 2, activation, 0.7)
    np.testing.assert_allclose(biased[3:, 3:], np.full((2, 2), own), rtol=RELU_DIAGONAL)


@each_activation
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_copies_of_a_point_have_its_row(dtype, activation):
    with jax.enable_x64(dtype == np.float64):
        x = normal(6, 4).astype(dtype)
        x[4:] = x[:2]
        kernel = np.asarray(infinite_width_ntk(dense(3), x, activation=activation, b_std=0.1))
    allowed = 20 * np.sqrt(np.finfo(dtype).eps) * kernel.max()
    assert np.isfinite(kernel).all()
    np.testing.assert_allclose(kernel[4:], kernel[:2], rtol=0, atol=allowed)


def test_opposite_points_have_the_angle_pi(float64):
    """Of these a ReLU shares nothing: E[φ(u) φ(−u)] = E[φ′(u) φ′(−u)] = 0."""
    x = normal(1, 4)
    assert np.abs(infinite_width_ntk(dense(1), x, -x)).max() < RELU_DIAGONAL


# dtypes and ranges


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32, np.uint8])
@pytest.mark.parametrize("wide", [False, True], ids=["32 bits", "64 bits"])
def test_the_kernel_is_as_precise_as_jax_is_set_to_be(wide, dtype):
    with jax.enable_x64(wide):
        x = np.random.default_rng(0).integers(0, 9, size=(5, 50))
        kernel = infinite_width_ntk(dense(2), x.astype(dtype))
        assert kernel.dtype == (np.float64 if wide else np.float32)
    expected = slow_ntk(x[:2].astype(float), x[2:].astype(float), 2, "relu", None)
    np.testing.assert_allclose(kernel[:2, 2:], expected, rtol=1e-12 if wide else 1e-5)


@pytest.mark.parametrize("exponent", [-26, -10, 10, 26])
def test_a_relu_without_biases_is_homogeneous_over_the_whole_range(exponent):
    x = normal(9, 4).astype(np.float32)
    kernel = np.asarray(infinite_width_ntk(dense(3), x))
    scaled = np.asarray(infinite_width_ntk(dense(3), x * np.float32(2.0**exponent)))
    np.testing.assert_allclose(scaled * 2.0 ** (-2 * exponent), kernel, rtol=1e-5, atol=1e-3)


@each_activation
@pytest.mark.parametrize(
    "value, b_std", [(1e10, None), (1e25, 0.1), (1e-10, None), (1e-30, 0.0), (1.0, 1e10)]
)
def test_a_kernel_out_of_range_is_one_error_and_never_nan(value, b_std, activation):
    x = np.full((3, 2), value, np.float32)
    with pytest.raises(ValueError) as caught:
        infinite_width_ntk(dense(2), x, activation=activation, b_std=b_std)
    assert str(caught.value) == (
        f"x1 must have a kernel within the range of float32: received values up to {value:.3g} "
        f"with b_std {b_std}, whose products are not. Scale the points."
    )


def test_both_sets_of_points_and_the_pool_of_rnd_are_held_to_the_range():
    x = np.ones((5, 2), np.float32)
    with pytest.raises(ValueError, match="x2 must have a kernel within the range of float32"):
        infinite_width_ntk(dense(1), x, np.float32(1e12) * x)
    with pytest.raises(ValueError, match="pool must have a kernel within the range of float64"):
        rnd_linearised.select(1e100 * x.astype(float), n_selected=2, key=jax.random.key(0))


@each_activation
@pytest.mark.parametrize("value", [1e-9, 1e9])
def test_a_kernel_just_within_range_is_finite(value, activation):
    x = (value * np.random.default_rng(0).uniform(0.5, 1, size=(9, 3))).astype(np.float32)
    for b_std in (None, 0.1):
        kernel = np.asarray(infinite_width_ntk(dense(2), x, activation=activation, b_std=b_std))
        assert np.isfinite(kernel).all() and (np.diag(kernel) > 0).all()


def test_pixels_of_images_are_held_to_the_range_too():
    images = np.ones((2, 4, 4, 1), np.float32)
    images[1, 2, 2] = 3e9  # on average over the image it would be small enough
    with pytest.raises(ValueError, match="x1 must have a kernel within the range"):
        infinite_width_ntk(["conv 1 2x2", "dense 1"], images)


# transformations


@pytest.mark.parametrize("mode", [jax.jacrev, jax.jacfwd])
def test_the_derivative_is_that_of_finite_differences_and_finite_everywhere(mode, float64):
    x, y = normal(2, 3), np.concatenate([normal(5, 3)[3:], normal(1, 3), np.zeros((1, 3))])
    kernel = infinite_width_kernel(dense(2))
    derivative = np.asarray(mode(lambda x: kernel(x, jnp.asarray(y)))(jnp.asarray(x)))
    assert np.isfinite(derivative).all()
    step = 1e-5
    for place in np.ndindex(x.shape):
        shift = np.zeros_like(x)
        shift[place] = step
        slope = (kernel(x + shift, y) - kernel(x - shift, y)) / (2 * step)
        np.testing.assert_allclose(derivative[:, :2, *place], slope[:, :2], atol=1e-6)


def test_the_kernel_inside_a_jit_is_that_outside():
    x = normal(N1, 3).astype(np.float32)
    inside = jax.jit(lambda x: infinite_width_ntk(dense(2), x, activation="erf"))(x)
    assert_close(inside, infinite_width_ntk(dense(2), x, activation="erf"))


def test_calls_with_as_many_layers_and_points_are_compiled_once(monkeypatch):
    traces, covariances = [], infinite_width._input_covariances

    def traced(x1, x2):
        traces.append(x1.shape)
        return covariances(x1, x2)

    monkeypatch.setattr(infinite_width, "_input_covariances", traced)
    x = normal(13, 11).astype(np.float32)
    for layers in (["dense 5", "dense 1"], ["dense 5", "dense 1"], ["dense 64", "dense 10"]):
        infinite_width_ntk(layers, x, b_std=0.123)
        infinite_width_kernel(layers, b_std=0.123)(x[:5], x)
    assert traces == [(13, 11), (5, 11)]


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_the_kernel_for_many_calls_is_that_of_one(dtype):
    x1, x2 = np.split(np.random.default_rng(0).integers(0, 200, size=(10, 3)).astype(dtype), [4])
    for activation in ANALYTIC_ACTIVATIONS:
        options = {"activation": activation, "b_std": 0.2}
        kernel = infinite_width_kernel(dense(2), **options)(x1, x2)
        assert np.array_equal(kernel, infinite_width_ntk(dense(2), x1, x2, **options))


# neural-tangents is not needed


def output_of(script):
    command = [sys.executable, "-W", "error", "-c", "import sys\n" + script]
    root = Path(__file__).parents[2]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return process.stdout.splitlines()


WITHOUT = """
sys.modules["neural_tangents"] = None  # as where it is not installed
import jax, numpy as np
from collective_variables.kernels import infinite_width
from collective_variables.selection import rnd_linearised
x = np.random.default_rng(0).normal(size=(9, 3))
for activation in infinite_width.ANALYTIC_ACTIVATIONS:
    infinite_width.infinite_width_ntk(["dense 1", "dense 1"], x, activation=activation)
print(rnd_linearised.select(x, n_selected=3, key=jax.random.key(0)).indices.shape)
print([name for name in sys.modules if "neural_tangents." in name or name.endswith("reference")])
try:
    infinite_width.infinite_width_ntk(["conv 1 2x2", "dense 1"], [[[[1.0]] * 3] * 3])
except ImportError as error:
    print(error)
"""


def test_dense_limits_and_rnd_do_without_neural_tangents_and_images_say_what_to_install():
    shape, modules, error = output_of(WITHOUT)
    assert (shape, modules) == ("(1, 3)", "[]")
    assert error == (
        "This requires neural-tangents, which is not installed: "
        'pip install "collective-variables[reference]"'
    )


# unfit arguments


@pytest.mark.parametrize(
    "change, error, message",
    [
        *UNFIT_POINTS,
        ({"layers": "dense 3"}, TypeError, "layers must be a list"),
        ({"layers": ["dense 3", "lstm 2"]}, ValueError, "received 'lstm 2'"),
        (
            {"layers": ["conv 3 2x2", "dense 1"]},
            ValueError,
            r"conv layer needs images .* received points \(4,\)",
        ),
        ({"layers": ["dense 3", "conv 3 2x2", "dense 1"]}, ValueError, "conv layer needs images"),
        (
            {"layers": ["avgpool 2x5", "dense 1"], "x1": jnp.ones((2, 4, 4, 1))},
            ValueError,
            "avgpool must not exceed",
        ),
        ({"activation": "step"}, ValueError, "activation must be one of elu, erf, gelu, linear"),
        ({"padding": "FULL"}, ValueError, "padding must be one of SAME, VALID"),
        ({"b_std": -1.0}, ValueError, "b_std must be at least 0.0"),
    ],
)
def test_unfit_arguments_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        infinite_width_ntk(**{"layers": ["dense 3", "dense 1"], "x1": jnp.ones((5, 4))} | change)


@pytest.mark.parametrize("activation", sorted(sequential.ACTIVATIONS.keys() - ANALYTIC_ACTIVATIONS))
def test_an_activation_without_an_analytic_kernel_is_refused(activation):
    message = rf"must have an analytic kernel \(relu, erf, linear\): received '{activation}'"
    with pytest.raises(ValueError, match=message):
        infinite_width_ntk(dense(1), jnp.ones((5, 4)), activation=activation)
    with pytest.raises(ValueError, match=message):
        infinite_width_kernel(dense(1), activation=activation)


def test_a_layer_without_an_analytic_kernel_is_refused(monkeypatch):
    layers = ["conv 2 3x3", "dense 1"]
    monkeypatch.setattr(infinite_width, "ANALYTIC_LAYERS", ("dense",))
    for function in (
        lambda: infinite_width_ntk(layers, jnp.ones((5, 4, 4, 1))),
        lambda: infinite_width_kernel(layers),
    ):
        with pytest.raises(ValueError, match=r"layers must have an analytic kernel \(dense\)"):
            function()
