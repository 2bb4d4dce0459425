"""neural-tangents against explicit Jacobians, and its infinite width against recursions in NumPy
and wide networks.
"""

import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import UNFIT_POINTS, assert_close

from collective_variables.kernels import empirical
from collective_variables.kernels.infinite_width import ANALYTIC_ACTIVATIONS, infinite_width_ntk
from collective_variables.kernels.reference import METHODS, reference_ntk
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
    j1, j2 = np.split(gradients(function, params, x), [N1])

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
    j = gradients(function, params, x)
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


# infinite width: closed forms


def arc_cosine(covariance):
    """E[φ(u) φ(v)] and E[φ'(u) φ'(v)] of the ReLU φ for normal u, v (Cho & Saul 2009, degrees 1 and
    0, halved).
    """
    scale = np.sqrt(np.diag(covariance))
    norms = np.outer(scale, scale)
    angle = np.arccos(np.clip(covariance / norms, -1, 1))
    return norms * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi), (
        np.pi - angle
    ) / (2 * np.pi)


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


def infinite_width(layers, x, b_std=0.0, padding="SAME"):
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
            sigma, derivative = arc_cosine(sigma)
            theta = theta * derivative
    return theta


def assert_analytic(actual, expected):
    """Agreement to half of the digits of float64: the arc cosine of nearly parallel points loses
    the others.
    """
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("b_std", [None, 0.0, 0.7])
@pytest.mark.parametrize("shape", [(4,), (2, 3, 1)])
def test_linear_network_has_the_gram_matrix_of_its_inputs(shape, b_std, float64):
    x = normal(N1, *shape)
    rows = x.reshape(N1, -1)
    expected = rows @ rows.T / rows.shape[1] + (b_std or 0) ** 2
    assert_close(infinite_width_ntk(["dense 3"], x, b_std=b_std), expected)
    assert_close(infinite_width_ntk(["dense 3"], x[:2], x[2:], b_std=b_std), expected[:2, 2:])


@pytest.mark.parametrize("b_std", [None, 0.7])
def test_one_hidden_layer_has_the_kernel_of_jacot_et_al(b_std, float64):
    x, bias = normal(N1, 4), (b_std or 0) ** 2
    first = x @ x.T / 4 + bias
    values, derivatives = arc_cosine(first)
    expected = values + bias + first * derivatives
    assert_analytic(infinite_width_ntk(["dense 3", "dense 1"], x, b_std=b_std), expected)
    assert_analytic(
        infinite_width_ntk(["dense 3", "dense 1"], x[:2], x[2:], b_std=b_std), expected[:2, 2:]
    )


POOLED = [
    "conv 2 2x2",
    "avgpool 3x2 stride 2",
    "conv 3 2x1",
    "avgpool 2x2 stride 1",
    "dense 4",
    "dense 2",
]


@pytest.mark.parametrize(
    "layers, shape, padding",
    [
        (["dense 2", "dense 3", "dense 4", "dense 5"], (3,), "SAME"),
        (["dense 2", "dense 3"], (2, 3, 2), "SAME"),
        (["conv 2 2x3 stride 2", "conv 3 2x2", "dense 4", "dense 2"], (7, 6, 2), "SAME"),
        (["conv 2 2x3 stride 2", "conv 3 2x2", "dense 2"], (7, 6, 2), "VALID"),
        (POOLED, (6, 5, 1), "SAME"),
        (POOLED, (8, 7, 1), "VALID"),
        (["avgpool 2x2 stride 1", "conv 3 2x2 stride 3", "dense 2"], (5, 7, 2), "SAME"),
        (["avgpool 2x3", "dense 3", "dense 2"], (4, 6, 2), "SAME"),
    ],
)
def test_deeper_networks_follow_the_recursion_over_layers_and_pixels(
    layers, shape, padding, float64
):
    x = normal(3, *shape)

    def kernels(x):
        options = {"b_std": 0.3, "padding": padding}
        return infinite_width_ntk(layers, x, **options), infinite_width_ntk(
            layers, x[:2], x[2:], **options
        )

    square, rectangle = jax.jit(kernels, compiler_options=FAST)(x)
    expected = infinite_width(layers, x, 0.3, padding)
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


def test_float32_keeps_half_of_its_digits_and_integers_become_floats():
    layers, x = (
        ["dense 3", "dense 3", "dense 1"],
        np.random.default_rng(0).integers(0, 9, size=(N1, 50)),
    )
    kernel = infinite_width_ntk(layers, x)
    assert kernel.dtype == jnp.float32
    expected = infinite_width(layers, x.astype(float))
    np.testing.assert_allclose(kernel, expected, rtol=0, atol=5e-4 * expected.max())


# infinite width: wide networks


def standard_errors(members, kernel):
    """By how many standard errors the mean over the members is off `kernel`, at its worst entry."""
    error = members.std(axis=0, ddof=1) / np.sqrt(len(members))
    return np.abs((members.mean(axis=0) - kernel) / error).max()


def members_of(layers, x, n_members=8, **options):
    """Empirical kernels (n_members, n_points, n_points) of independent networks."""
    network = sequential.build_network(layers, parametrisation="ntk", **options)
    kernel = jax.jit(
        lambda key: empirical.empirical_ntk(
            network.apply, parameters.initialise(network, key, x), x
        )
    )
    return np.stack([np.asarray(kernel(jax.random.key(seed)), float) for seed in range(n_members)])


# With 7 degrees of freedom an entry is off by 7 standard errors once in 5000 draws.
LIMIT = 7


def test_wide_dense_networks_have_it_and_those_of_another_bias_or_activation_do_not():
    layers, x = ["dense 2048", "dense 2048", "dense 4"], jnp.asarray(normal(5, 3), jnp.float32)
    kernel = infinite_width_ntk(layers, x, b_std=0.5)
    members = members_of(layers, x, b_std=0.5)
    assert standard_errors(members, kernel) < LIMIT
    assert members.std(axis=0).max() < 0.1 * members.max()
    assert standard_errors(members, infinite_width_ntk(layers, x, b_std=0.6)) > 2 * LIMIT
    assert (
        standard_errors(members, infinite_width_ntk(["dense 1", *layers], x, b_std=0.5)) > 2 * LIMIT
    )
    assert standard_errors(members_of(layers, x, b_std=0.5, activation="gelu"), kernel) > 2 * LIMIT


def test_wide_convolutional_networks_have_it_and_those_of_another_bias_do_not():
    layers = ["conv 256 3x2", "avgpool 2x2 stride 1", "conv 256 2x2 stride 2", "dense 4"]
    x = jnp.asarray(normal(3, 5, 4, 2), jnp.float32)
    members = members_of(layers, x, b_std=0.5)
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
from collective_variables import neural_tangents
def modules():
    public = ["jax.core", "jax.util", "jax.interpreters.ad"]
    names = public + [name.replace("jax.", "jax._src.") for name in public]
    attributes = jax.core, getattr(jax, "util", None), jax.interpreters.ad
    return attributes, [sys.modules.get(name) and (sys.modules[name], dict(vars(sys.modules[name]))) for name in names]
before = modules()
"""


def test_neural_tangents_is_imported_by_the_first_call_and_leaves_jax_as_it_was():
    script = """
print("neural_tangents" in sys.modules)
neural_tangents.infinite_width_ntk(["conv 1 2x2", "avgpool 2x2", "dense 1"], [[[[1.0]] * 3] * 3])
print("neural_tangents" in sys.modules, "tensorflow" in sys.modules, modules() == before)
"""
    assert in_a_new_process(MODULES + script) == ["False", "True False True"]


def test_neural_tangents_that_does_not_load_is_one_error_and_leaves_jax_as_it_was():
    script = """
sys.modules["neural_tangents"] = None
try:
    neural_tangents.infinite_width_ntk(["dense 1"], [[1.0]])
except ImportError as error:
    print(error)
print(modules() == before, any(name.startswith("neural_tangents") for name in sys.modules))
print(neural_tangents.infinite_width_ntk(["dense 1"], [[2.0]]))
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
        (
            {"layers": ["avgpool 2x5", "dense 1"], "x1": jnp.ones((2, 4, 4, 1))},
            ValueError,
            "avgpool must not exceed",
        ),
        ({"activation": "step"}, ValueError, "activation must be one of elu, gelu"),
        ({"padding": "FULL"}, ValueError, "padding must be one of SAME, VALID"),
        ({"b_std": -1.0}, ValueError, "b_std must be at least 0.0"),
    ],
)
def test_unfit_arguments_of_infinite_width_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        infinite_width_ntk(**{"layers": ["dense 3", "dense 1"], "x1": jnp.ones((5, 4))} | change)


@pytest.mark.parametrize("activation", sorted(sequential.ACTIVATIONS.keys() - ANALYTIC_ACTIVATIONS))
def test_activation_without_an_analytic_kernel_is_refused(activation):
    with pytest.raises(
        ValueError, match=f"must have an analytic kernel, as relu has: received '{activation}'"
    ):
        infinite_width_ntk(["dense 3", "dense 1"], jnp.ones((5, 4)), activation=activation)
