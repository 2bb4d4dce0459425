"""neural-tangents against explicit Jacobians, and its convolutional limits against recursions in
NumPy and wide networks.
"""

import functools
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import UNFIT_POINTS, assert_close

from collective_variables.kernels import empirical
from collective_variables.kernels.infinite_width import infinite_width_ntk
from collective_variables.kernels.reference import METHODS, reference_limit, reference_ntk
from collective_variables.networks import parameters, sequential

pytestmark = pytest.mark.usefixtures("quick_compilation")

N1, N2 = 7, 5
# Layers and the shape of a point.
NETWORKS = {
    "dense": (["dense 6", "dense 5", "dense 3"], (4,)),
    "dense with one output": (["dense 6", "dense 1"], (4,)),
    "conv": (["conv 3 3x2 stride 2", "avgpool 2x2 stride 1", "conv 2 2x2", "dense 3"], (6, 7, 2)),
}
# Small programs spend most of their time in the compiler.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


def network_case(name):
    """A network's function, random parameters and N1 + N2 points, in float64."""
    layers, shape = NETWORKS[name]
    network = sequential.build_network(layers, activation="tanh", parametrisation="ntk", b_std=0.5)
    x = jnp.asarray(normal(N1 + N2, *shape))
    return network.apply, parameters.initialise(network, jax.random.key(1), x), x


def gradients(function, params, x):
    """J[i, c, k]: the derivative of output c of point i with respect to parameter k."""
    leaves = jax.tree.leaves(jax.jit(jax.jacobian(function), compiler_options=FAST)(params, x))
    return np.concatenate(
        [np.asarray(leaf).reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=-1
    )


@functools.cache
def network_gradients(name):
    """Of a case, in float64."""
    return gradients(*network_case(name))


def contracted(j1, j2, outputs):
    each = np.stack([j1[:, c] @ j2[:, c].T for c in range(j1.shape[1])])
    rows = (
        [gradient for point in j1 for gradient in point],
        [gradient for point in j2 for gradient in point],
    )
    full = np.array([[a @ b for b in rows[1]] for a in rows[0]])
    return {"mean": each.mean(0), "sum": each.sum(0), "per-output": each, "full": full}[outputs]


# empirical kernels


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_empirical_kernels_are_products_of_explicit_jacobians(name, method, float64):
    function, params, x = network_case(name)
    j1, j2 = np.split(network_gradients(name), [N1])

    def kernels(params, x1, x2):
        return [
            reference_ntk(function, params, x1, x2, outputs=outputs, method=method)
            for outputs in empirical.OUTPUTS
        ]

    for outputs, kernel in zip(
        empirical.OUTPUTS, jax.jit(kernels, compiler_options=FAST)(params, x[:N1], x[N1:])
    ):
        assert_close(kernel, contracted(j1, j2, outputs), operations=1000)


@pytest.mark.parametrize("outputs", empirical.OUTPUTS)
@pytest.mark.parametrize("method", METHODS)
def test_kernel_of_one_set_of_points_is_that_with_itself_and_exactly_symmetric(
    method, outputs, float64
):
    function, params, x = network_case("dense")
    j = network_gradients("dense")
    kernel = np.asarray(reference_ntk(function, params, x, outputs=outputs, method=method))
    assert_close(kernel, contracted(j, j, outputs), operations=1000)
    assert np.array_equal(kernel, np.swapaxes(kernel, -1, -2))


def test_mean_of_jacobian_contraction_is_the_default(float64):
    function, params, x = network_case("dense")
    expected = reference_ntk(function, params, x, outputs="mean", method="jacobian contraction")
    assert np.array_equal(reference_ntk(function, params, x), expected)
    assert_close(expected, empirical.empirical_ntk(function, params, x), operations=1000)


@pytest.mark.parametrize("method", METHODS)
def test_kernel_has_the_dtype_of_its_network(method):
    network, x = (
        sequential.build_network(["dense 6", "dense 3"]),
        jnp.asarray(normal(N1, 4), jnp.float32),
    )
    params = parameters.initialise(network, jax.random.key(0), x)
    kernel = jax.jit(
        lambda x: reference_ntk(network.apply, params, x, method=method), compiler_options=FAST
    )(x)
    assert kernel.dtype == jnp.float32
    assert_close(kernel, empirical.empirical_ntk(network.apply, params, x))


class Unhashable:
    __hash__ = None

    def __call__(self, params, x):
        return jnp.tanh(x @ params)


def test_function_without_a_hash_and_integer_points_are_taken(float64):
    x, params = jnp.asarray(normal(N1, 4)), jnp.asarray(normal(4, 3))
    j = gradients(Unhashable(), params, x)
    assert_close(reference_ntk(Unhashable(), params, x), contracted(j, j, "mean"), operations=1000)
    places = jnp.array([0, 3, 3])
    expected = np.kron(np.equal.outer(places, places).astype(float), np.eye(3))
    assert_close(reference_ntk(lambda table, x: table[x], params, places, outputs="full"), expected)


def test_second_call_of_the_same_function_traces_it_no_more(float64):
    traces = []

    def function(params, x):
        traces.append(x)
        return x @ params

    def n_traces():
        traces.clear()
        reference_ntk(function, jnp.asarray(normal(4, 3)), jnp.asarray(normal(N1, 4)))
        return len(traces)

    # The one left is that of the check of the shape, and JAX may keep that one too.
    assert n_traces() > 1
    assert n_traces() <= 1


# limits of convolutional networks: closed forms


def expectations(activation, covariance):
    """E[φ(u) φ(v)] and E[φ'(u) φ'(v)] for normal u, v: of the ReLU by Cho & Saul 2009 (degrees 1
    and 0, halved), of the error function by Williams 1996.
    """
    variances = np.diag(covariance)
    if activation == "linear":
        return covariance, np.ones_like(covariance)
    if activation == "erf":
        norms = np.sqrt(np.outer(1 + 2 * variances, 1 + 2 * variances))
        cosine = 2 * covariance / norms
        slope = 4 / np.pi / (norms * np.sqrt(1 - cosine**2))
        return 2 / np.pi * np.arcsin(cosine), slope
    norms = np.sqrt(np.outer(variances, variances))
    angle = np.arccos(np.clip(covariance / norms, -1, 1))
    value = norms * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    return value, (np.pi - angle) / (2 * np.pi)


def shifts(n, size, stride, padding):
    """For each entry of a window along one axis, the matrix that picks it for all places of the
    window.
    """
    n_out = -(-n // stride) if padding == "SAME" else (n - size) // stride + 1
    before = max((n_out - 1) * stride + size - n, 0) // 2 if padding == "SAME" else 0
    places = np.arange(n_out)[:, None] * stride - before
    return [(places + k == np.arange(n)).astype(float) for k in range(size)]


def windows(shape, layer, padding):
    """For each entry of a two-dimensional window, the matrix from the pixels of an image to those
    of the next.
    """
    rows, columns = (shifts(*axis, padding) for axis in zip(shape, layer.window, layer.strides))
    return [np.kron(row, column) for row in rows for column in columns], (
        len(rows[0]),
        len(columns[0]),
    )


def slow_limit(layers, x, b_std, padding, activation):
    """The recursion of Jacot et al. 2018 (and Arora et al. 2019 for images) over all pixels of all
    points.

    sigma is the covariance of a layer's values, theta the kernel, both (points · pixels) squared.
    """
    layers, n = [sequential.parse(layer) for layer in layers], len(x)
    shape = x.shape[1:3] if layers[0].kind != "dense" else (1, 1)
    x = x.reshape(n * shape[0] * shape[1], -1)
    sigma, theta = x @ x.T / x.shape[1], np.zeros((len(x), len(x)))

    def through(matrices, covariance):
        """The sum over `matrices` of A C Aᵀ, for the covariance C of each pair of points."""
        all_points = [np.kron(np.eye(n), matrix) for matrix in matrices]
        return sum(matrix @ covariance @ matrix.T for matrix in all_points)

    for number, layer in enumerate(layers):
        if layer.kind == "dense":
            matrices, shape = [row[None] for row in np.eye(shape[0] * shape[1])], (1, 1)
        else:
            matrices, shape = windows(shape, layer, "VALID" if layer.kind == "avgpool" else padding)
        if layer.kind == "avgpool":
            mean = [sum(matrices) / len(matrices)]
            sigma, theta = through(mean, sigma), through(mean, theta)
            continue
        sigma = through(matrices, sigma) / len(matrices) + b_std**2
        theta = through(matrices, theta) / len(matrices) + sigma
        if number < len(layers) - 1:
            sigma, derivative = expectations(activation, sigma)
            theta = theta * derivative
    return theta


def assert_analytic(actual, expected):
    """Agreement to half of the digits of float64: the arc cosine of nearly parallel points loses
    the others.
    """
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


POOLED = [
    "conv 2 2x2",
    "avgpool 3x2 stride 2",
    "conv 3 2x1",
    "avgpool 2x2 stride 1",
    "dense 4",
    "dense 2",
]


@pytest.mark.parametrize(
    "layers, shape, padding, activation",
    [
        (["conv 2 2x3 stride 2", "conv 3 2x2", "dense 4", "dense 2"], (7, 6, 2), "SAME", "relu"),
        (["conv 2 2x3 stride 2", "conv 3 2x2", "dense 4", "dense 2"], (7, 6, 2), "SAME", "erf"),
        (["conv 2 2x3 stride 2", "conv 3 2x2", "dense 2"], (7, 6, 2), "VALID", "relu"),
        (POOLED, (6, 5, 1), "SAME", "relu"),
        (POOLED, (6, 5, 1), "SAME", "linear"),
        (POOLED, (8, 7, 1), "VALID", "erf"),
        (["avgpool 2x2 stride 1", "conv 3 2x2 stride 3", "dense 2"], (5, 7, 2), "SAME", "relu"),
        (["avgpool 2x3", "dense 3", "dense 2"], (4, 6, 2), "SAME", "relu"),
    ],
)
def test_convolutional_limits_follow_the_recursion_over_layers_and_pixels(
    layers, shape, padding, activation, float64
):
    x = normal(3, *shape)
    options = {"b_std": 0.3, "padding": padding, "activation": activation}

    def kernels(x):
        square = infinite_width_ntk(layers, x, **options)
        return square, infinite_width_ntk(layers, x[:2], x[2:], **options)

    square, rectangle = jax.jit(kernels, compiler_options=FAST)(x)
    expected = slow_limit(layers, x, **options)
    assert_analytic(square, expected)
    assert_analytic(rectangle, expected[:2, 2:])


def test_kernel_of_infinite_width_is_exactly_symmetric():
    kernel = np.asarray(
        infinite_width_ntk(["conv 1 2x2", "avgpool 2x2", "dense 1"], normal(11, 4, 4, 1))
    )
    assert np.array_equal(kernel, kernel.T)


def test_widths_do_not_matter_and_padding_does(float64):
    x = normal(3, 4, 4, 1)
    kernel = infinite_width_ntk(["conv 1 3x3", "dense 1"], x)
    assert np.array_equal(kernel, infinite_width_ntk(["conv 64 3x3", "dense 10"], x))
    assert (
        np.abs(kernel - infinite_width_ntk(["conv 1 3x3", "dense 1"], x, padding="VALID")).max()
        > 0.1
    )


def test_blank_image_without_biases_has_no_kernel():
    x = np.concatenate([normal(1, 4, 4, 1), np.zeros((1, 4, 4, 1))])
    kernel = np.asarray(infinite_width_ntk(["conv 2 2x2", "avgpool 2x2", "dense 3", "dense 2"], x))
    assert kernel[0, 0] > 0
    assert not kernel[1:].any()


# limits of convolutional networks: wide networks


def standard_errors(members, kernel):
    """By how many standard errors the mean over the members is off `kernel`, at its worst entry."""
    error = members.std(axis=0, ddof=1) / np.sqrt(len(members))
    return np.abs((members.mean(axis=0) - kernel) / error).max()


def random_kernels(layers, x, **options):
    """Empirical kernels (8, n_points, n_points) of independent networks."""
    network = sequential.build_network(layers, parametrisation="ntk", **options)

    @jax.jit
    def kernel(key):
        params = parameters.initialise(network, key, x)
        return empirical.empirical_ntk(network.apply, params, x)

    return np.stack([np.asarray(kernel(jax.random.key(seed)), float) for seed in range(8)])


# With 7 degrees of freedom an entry is off by 7 standard errors once in 5000 draws.
LIMIT = 7


def test_wide_convolutional_networks_have_it_and_those_of_another_bias_do_not():
    layers = ["conv 256 3x2", "avgpool 2x2 stride 1", "conv 256 2x2 stride 2", "dense 4"]
    x = jnp.asarray(normal(3, 5, 4, 2), jnp.float32)
    members = random_kernels(layers, x, b_std=0.5)
    assert standard_errors(members, infinite_width_ntk(layers, x, b_std=0.5)) < LIMIT
    assert members.std(axis=0).max() < 0.1 * members.max()
    assert standard_errors(members, infinite_width_ntk(layers, x, b_std=0.8)) > 2 * LIMIT


# loading


def in_a_new_process(script):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "error", "-c", "import sys, jax.interpreters.ad\n" + script]
    return subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=True
    ).stdout.split("\n")[:-1]


# The modules of JAX that neural-tangents imports names from that are there no more, and their
# contents.
MODULES = """
from collective_variables.kernels import infinite_width
def modules():
    public = ["jax.core", "jax.util", "jax.interpreters.ad"]
    names = public + [name.replace("jax.", "jax._src.") for name in public]
    attributes = jax.core, getattr(jax, "util", None), jax.interpreters.ad
    loaded = [sys.modules.get(name) for name in names]
    return attributes, [module and (module, dict(vars(module))) for module in loaded]
before = modules()
"""


def test_neural_tangents_is_imported_by_the_first_call_and_leaves_jax_as_it_was():
    script = """
print("neural_tangents" in sys.modules)
infinite_width.infinite_width_ntk(["conv 1 2x2", "avgpool 2x2", "dense 1"], [[[[1.0]] * 3] * 3])
print("neural_tangents" in sys.modules, "tensorflow" in sys.modules, modules() == before)
"""
    assert in_a_new_process(MODULES + script) == ["False", "True False True"]


def test_neural_tangents_that_does_not_load_is_one_error_and_leaves_jax_as_it_was():
    script = """
sys.modules["neural_tangents.predict"] = None
try:
    infinite_width.infinite_width_ntk(["conv 1 1x1", "dense 1"], [[[[1.0]]]])
except ImportError as error:
    print(error)
print(modules() == before, any(name.startswith("neural_tangents") for name in sys.modules))
print(infinite_width.infinite_width_ntk(["conv 1 1x1", "dense 1"], [[[[2.0]]]]))
"""
    error, *rest = in_a_new_process(MODULES + script)
    assert error.startswith(f"neural-tangents does not load on JAX {jax.__version__}: ")
    assert rest == ["True False", "[[4.]]"]


# unfit arguments


@pytest.mark.parametrize(
    "change, error, message",
    [
        *UNFIT_POINTS,
        ({"outputs": "trace"}, ValueError, "outputs must be one of full, mean, per-output, sum"),
        ({"outputs": None}, TypeError, "outputs must be one of"),
        (
            {"method": "structured derivatives"},
            ValueError,
            "method must be one of jacobian contraction, ntk-vector pr",
        ),
        ({"method": 1}, TypeError, "method must be one of"),
        ({"params": {}}, ValueError, "params must hold at least one array"),
        ({"apply_fn": lambda p, x: x @ p[:, 0]}, ValueError, r"received the shape \(5,\)"),
        (
            {"apply_fn": lambda p, x: (x @ p).T},
            ValueError,
            r"\(n_points, n_outputs\) = \(5, …\): .* \(3, 5\)",
        ),
        ({"apply_fn": lambda p, x: [x @ p]}, ValueError, "received the shape of no array"),
    ],
)
def test_unfit_arguments_of_empirical_kernels_are_refused(change, error, message):
    given = {
        "apply_fn": lambda p, x: x @ p,
        "params": jnp.ones((4, 3)),
        "x1": jnp.ones((5, 4)),
    } | change
    with pytest.raises(error, match=message):
        reference_ntk(**given)


def test_a_layer_of_a_kind_that_stax_does_not_have_is_not_taken_for_another():
    network = sequential.build_network(["avgpool 2x2", "dense 1"], parametrisation="ntk")
    kind = sequential.Layer("maxpool", window=(2, 2), strides=(2, 2))
    network = network.clone(layers=(kind, *network.layers[1:]))
    with pytest.raises(ValueError, match="layers must be known to stax: received 'maxpool'"):
        reference_limit(network, jnp.ones((2, 4, 4, 1)), None)
