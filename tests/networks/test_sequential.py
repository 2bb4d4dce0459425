"""Networks against Flax's layers, NumPy loops and hand-written compositions."""

import math
import re
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from helpers import assert_close

from collective_variables.networks import batched, parameters, sequential
from collective_variables.networks.sequential import Layer

pytestmark = pytest.mark.usefixtures("quick_compilation")

TABLE_2 = [
    "conv 32 2x2",
    "avgpool 4x4 stride 2",
    "conv 64 2x2",
    "avgpool 4x4 stride 2",
    "dense 128",
    "dense 10",
]
TABLE_3 = [
    "conv 32 3x3",
    "avgpool 2x2 stride 2",
    "conv 32 2x2",
    "avgpool 2x2 stride 2",
    "dense 128",
    "dense 10",
]

# Small programs spend most of their time in the compiler.
FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
initialise = jax.jit(parameters.initialise, static_argnums=0, compiler_options=FAST)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


def shapes(network, *point):
    """The shapes and dtypes of the parameters of `network` for points of the given shape."""
    return jax.eval_shape(
        network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *point), jnp.float32)
    )


def randomised(network, *point):
    """Parameters of `network` that are all random, the biases too, in float64."""
    generator = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: generator.normal(size=leaf.shape) / 2, shapes(network, *point))


def pooled(x, window, strides):
    """The mean of every window, by loops."""
    size = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:3], window, strides)]
    y = np.full((len(x), *size, x.shape[3]), np.nan)
    for i, j in np.ndindex(*size):
        y[:, i, j] = x[:, i * strides[0] :, j * strides[1] :][:, : window[0], : window[1]].mean(
            axis=(1, 2)
        )
    return y


def convolved(x, kernel):
    """Convolution with padding SAME and stride 1, by loops; a window of even size has more padding
    behind.
    """
    pads = [((k - 1) // 2, k // 2) for k in kernel.shape[:2]]
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    size = [n - k + 1 for n, k in zip(x.shape[1:3], kernel.shape)]
    y = np.full((len(x), *size, kernel.shape[3]), np.nan)
    for i, j in np.ndindex(*size):
        y[:, i, j] = np.tensordot(x[:, i : i + kernel.shape[0], j : j + kernel.shape[1]], kernel, 3)
    return y


# layers from text


@pytest.mark.parametrize(
    "text, layer",
    [
        ("dense 32", Layer("dense", 32, (1, 1), (1, 1))),
        ("conv 32 3x2", Layer("conv", 32, (3, 2), (1, 1))),
        ("conv 8 10x20 stride 10", Layer("conv", 8, (10, 20), (10, 10))),
        ("avgpool 2x3", Layer("avgpool", 0, (2, 3), (2, 3))),
        ("avgpool 4x4 stride 2", Layer("avgpool", 0, (4, 4), (2, 2))),
        ("  Dense   101 ", Layer("dense", 101, (1, 1), (1, 1))),
    ],
)
def test_layer_is_read(text, layer):
    assert sequential.parse(text) == layer


MALFORMED = """
dense|dense 0|dense 00|dense -3|dense 1 2|dense 1.5|dense 1e3|dense ten|dense1|dense 3 stride 2
dens 3|32|relu|conv 8|conv 3x3|conv 8 3|conv 8 3x|conv 8 3x3x3|conv 0 3x3|conv 8 3x0|conv 8 0x3
conv 8 3x3 stride 0|conv 8 3x3 stride|conv 8 3x3 stride 2x2|conv 8 3x3 2|avgpool|avgpool 2
avgpool 0x2|avgpool 2x0|avgpool 2x2 stride 0|avgpool 8 2x2|avgpool 2x2 stride -1|pool 2x2
dense 3, dense 4|conv 8 3 x 3|dense 99999999999999999999|conv 8 3x10000001
""".replace("\n", "|").split("|")


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_layer_is_refused_and_quoted(text):
    with pytest.raises(ValueError, match=re.escape(f"received {text!r}.")):
        sequential.build_network([text, "dense 1"])


@pytest.mark.parametrize("layer", [3, None, ["dense 3"], 3.0, b"dense 3"])
def test_layer_that_is_no_text_is_refused(layer):
    with pytest.raises(TypeError, match=re.escape(f"received {layer!r}.")):
        sequential.build_network([layer, "dense 1"])


@pytest.mark.parametrize("layers", [[], (), "dense 1", None, 3, {"dense 1"}])
def test_layers_that_are_no_list_are_refused(layers):
    with pytest.raises(TypeError, match="layers must be a list"):
        sequential.build_network(layers)


@pytest.mark.parametrize("last", ["conv 8 3x3", "avgpool 2x2"])
def test_last_layer_must_be_dense(last):
    with pytest.raises(ValueError, match=f"The last layer must be dense: received '{last}'"):
        sequential.build_network(["dense 3", last])


@pytest.mark.parametrize(
    "option, error",
    [
        ({"activation": "swish"}, ValueError),
        ({"activation": None}, TypeError),
        ({"parametrisation": "NTK"}, ValueError),
        ({"parametrisation": "standard"}, ValueError),
        ({"padding": "same"}, ValueError),
        ({"padding": 1}, TypeError),
        ({"b_std": -0.1}, ValueError),
        ({"b_std": math.nan}, ValueError),
        ({"b_std": "0.1"}, TypeError),
        ({"b_std": True}, TypeError),
    ],
)
def test_unknown_option_is_refused_by_name(option, error):
    ((name, value),) = option.items()
    with pytest.raises(error, match=f"{name} must be .*{value}"):
        sequential.build_network(["dense 1"], **option)


# layers


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    "image, window, stride",
    [
        ((5, 6), (3, 3), 1),
        ((6, 5), (2, 2), 1),
        ((7, 8), (2, 3), 2),
        ((8, 7), (4, 3), 3),
        ((6, 6), (1, 1), 2),
        ((4, 5), (4, 5), 1),
        ((7, 7), (2, 2), 4),
    ],
)
def test_convolution_equals_that_of_flax(image, window, stride, padding, float64):
    ours = sequential.Conv(4, window, (stride, stride), padding, "lecun", None)
    flaxs = nn.Conv(4, window, stride, padding, param_dtype=float)
    params = {"params": {"kernel": normal(*window, 3, 4), "bias": normal(4)}}
    both = jax.jit(lambda p, x: (ours.apply(p, x), flaxs.apply(p, x)), compiler_options=FAST)
    assert_close(*both(params, normal(2, *image, 3)))


@pytest.mark.parametrize(
    "text", ["avgpool 2x2", "avgpool 4x4 stride 2", "avgpool 3x2 stride 1", "avgpool 7x6"]
)
def test_pooling_is_the_mean_of_every_whole_window(text, float64):
    layer, x = sequential.parse(text), normal(2, 7, 6, 3)
    network = sequential.Network((layer,), "relu", "lecun", "SAME", None)
    assert_close(network.apply({}, x), pooled(x, layer.window, layer.strides))


ACTIVATIONS = {
    "relu": lambda x: np.where(x > 0, x, 0),
    "tanh": np.tanh,
    "sigmoid": scipy.special.expit,
    "gelu": lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
    "silu": lambda x: x * scipy.special.expit(x),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "softplus": lambda x: np.log(1 + np.exp(x)),
    "erf": scipy.special.erf,
    "linear": lambda x: x,
}


@pytest.mark.parametrize("activation", sequential.ACTIVATIONS)
def test_activation_follows_every_layer_but_the_last(activation, float64):
    network = sequential.build_network(["dense 5", "dense 4", "dense 3"], activation=activation)
    params, x = randomised(network, 6), normal(8, 6)
    first, second, third = (params["params"][f"Dense_{i}"] for i in range(3))
    phi = ACTIVATIONS[activation]
    hidden = phi(phi(x @ first["kernel"] + first["bias"]) @ second["kernel"] + second["bias"])
    expected = hidden @ third["kernel"] + third["bias"]
    # The same activation after the last layer too would show.
    assert activation == "linear" or np.abs(phi(expected) - expected).max() > 0.05
    assert_close(network.apply(params, x), expected)


@pytest.mark.parametrize("parametrisation, b_std", [("lecun", None), ("ntk", 0.3), ("ntk", None)])
def test_table_3_network_is_its_hand_written_composition(parametrisation, b_std, float64):
    network = sequential.build_network(TABLE_3, parametrisation=parametrisation, b_std=b_std)
    params, x = randomised(network, 28, 28, 1), normal(2, 28, 28, 1)

    def affine(name, product, y):
        kernel, bias = params["params"][name]["kernel"], params["params"][name].get("bias", 0.0)
        scale, bias_scale = (
            (1 / np.sqrt(kernel[..., 0].size), b_std or 0)
            if parametrisation == "ntk"
            else (1.0, 1.0)
        )
        return product(y, kernel) * scale + bias * bias_scale

    y = pooled(np.maximum(affine("Conv_0", convolved, x), 0), (2, 2), (2, 2))
    y = pooled(np.maximum(affine("Conv_1", convolved, y), 0), (2, 2), (2, 2))
    y = np.maximum(affine("Dense_0", np.matmul, y.reshape(2, 7 * 7 * 32)), 0)
    y = affine("Dense_1", np.matmul, y)
    assert_close(jax.jit(network.apply, compiler_options=FAST)(params, x), y, operations=1000)


@pytest.mark.parametrize("padding, n_features", [("SAME", 1600), ("VALID", 1024)])
def test_table_2_network_has_the_stated_features_before_its_dense_layers(padding, n_features):
    layers = shapes(sequential.build_network(TABLE_2, padding=padding), 28, 28, 1)["params"]
    assert layers["Conv_1"]["kernel"].shape == (2, 2, 32, 64)
    assert layers["Dense_0"]["kernel"].shape == (n_features, 128)


# initialisation


class FlaxNetwork(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (3, 2))(x)
        x = nn.Dense(5)(x.reshape(len(x), -1))
        return nn.Dense(2)(x)


def test_lecun_parameters_are_those_that_flax_draws():
    network = sequential.build_network(["conv 6 3x2", "dense 5", "dense 2"])
    x = jnp.zeros((3, 4, 5, 2))
    actual = initialise(network, jax.random.key(3), x)
    expected = jax.jit(FlaxNetwork().init, compiler_options=FAST)(jax.random.key(3), x)
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert all(map(np.array_equal, jax.tree.leaves(actual), jax.tree.leaves(expected)))


@pytest.mark.parametrize(
    "layer, point, fan_in", [("dense 400", (100,), 100), ("conv 400 3x2", (3, 2, 20), 120)]
)
def test_kernel_has_the_variance_of_its_parametrisation(layer, point, fan_in):
    def first(**options):
        network = sequential.build_network([layer, "dense 1"], **options)
        params = initialise(network, jax.random.key(0), jnp.zeros((1, *point)))["params"]
        return params[layer.split()[0].title() + "_0"]

    lecun, ntk = first(), first(parametrisation="ntk", b_std=0.1)
    # 40 000 draws give the variance to 1 %, and the mean to 0.5 % of the standard deviation.
    assert abs(np.var(lecun["kernel"]) * fan_in - 1) < 0.03
    assert abs(np.mean(lecun["kernel"])) * math.sqrt(fan_in) < 0.02
    assert not np.any(lecun["bias"])
    assert scipy.stats.kstest(np.ravel(ntk["kernel"]), "norm").pvalue > 0.001
    assert scipy.stats.kstest(np.ravel(lecun["kernel"]) * math.sqrt(fan_in), "norm").pvalue < 0.001
    assert scipy.stats.kstest(ntk["bias"], "norm").pvalue > 0.001


@pytest.mark.parametrize("b_std, factor", [(0.0, 0.0), (0.5, 0.5), (None, 0.0)])
def test_bias_enters_with_b_std_and_is_absent_without(b_std, factor, float64):
    network = sequential.build_network(["dense 3"], parametrisation="ntk", b_std=b_std)
    params, x = randomised(network, 4), normal(2, 4)
    leaves = params["params"]["Dense_0"]
    assert ("bias" in leaves) == (b_std is not None)
    assert_close(
        network.apply(params, x),
        x @ leaves["kernel"] / 2 + factor * leaves.get("bias", np.zeros(3)),
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_network_has_the_dtype_of_its_inputs(dtype, float64):
    network = sequential.build_network(
        ["conv 2 2x2", "avgpool 2x2", "dense 1"], parametrisation="ntk", b_std=0.1
    )
    x = jax.ShapeDtypeStruct((2, 4, 4, 1), dtype)
    params = jax.eval_shape(lambda x: parameters.initialise(network, jax.random.key(0), x), x)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    assert jax.eval_shape(network.apply, params, x).dtype == dtype


def test_initialisation_depends_on_the_key_alone():
    network, x = sequential.build_network(["dense 3"]), jnp.ones((5, 4))
    first, same, other = (
        initialise(network, jax.random.key(seed), inputs)["params"]["Dense_0"]["kernel"]
        for seed, inputs in ((0, x), (0, jnp.zeros((2, 4))), (1, x))
    )
    assert np.array_equal(first, same)
    assert not np.any(first == other)


@pytest.mark.parametrize(
    "parametrisation, b_std, expected",
    [
        ("lecun", None, 320 + 4128 + 200832 + 1290),
        ("ntk", 0.0, 206570),
        ("ntk", None, 206570 - 202),
    ],
)
def test_number_of_parameters_is_counted(parametrisation, b_std, expected):
    network = sequential.build_network(TABLE_3, parametrisation=parametrisation, b_std=b_std)
    assert parameters.n_parameters(network, np.zeros((7, 28, 28, 1), np.float32)) == expected
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes(network, 28, 28, 1))) == expected


# use


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize(
    "layers, n_points, point",
    [
        (["conv 2 2x2", "dense 2"], 130, (5, 4, 1)),
        (["conv 2 2x2", "dense 2"], 64, (5, 4, 1)),
        (["dense 2"], 70, (5,)),
    ],
)
def test_forward_in_blocks_equals_the_network_applied_to_all_points(
    layers, n_points, point, at_once, float64
):
    network = sequential.build_network(layers)
    params, x = randomised(network, *point), normal(n_points, *point)
    forward = partial(batched.forward, network, at_once=at_once)
    both = jax.jit(lambda p, x: (forward(p, x), network.apply(p, x)), compiler_options=FAST)
    assert_close(*both(params, x))


@pytest.mark.parametrize("point", [(5,), (4, 4, 1)])
@pytest.mark.parametrize(
    "n_points, at_once", [(1, 1), (8, 1), (9, 1), (1, 2), (16, 2), (17, 2), (40, 1), (40, 3)]
)
def test_mean_loss_and_its_gradient_are_those_of_the_first_points_whatever_the_padding(
    point, n_points, at_once, float64
):
    network = sequential.build_network(
        ["dense 3", "dense 2"] if len(point) == 1 else ["conv 2 2x2", "dense 2"], activation="tanh"
    )
    params, x, y = randomised(network, *point), normal(40, *point), jnp.asarray(normal(40, 2) + 1)

    def loss(outputs, targets):
        return jnp.sum(jnp.abs(outputs - targets) ** 3, axis=-1)

    def mean(params):
        return jnp.mean(loss(network.apply(params, x[:n_points]), y[:n_points]))

    mean_loss = partial(batched.mean_loss_and_gradient, network, loss, params, at_once=at_once)
    function = jax.jit(lambda x, n: mean_loss(x, y, n), compiler_options=FAST)
    x_other = np.where(np.arange(40).reshape(-1, *(1,) * len(point)) < n_points, x, 1e3)
    expected = jax.tree.leaves(jax.value_and_grad(mean)(params))
    for actual in (function(x, n_points), function(x_other, n_points)):
        for leaf, right in zip(jax.tree.leaves(actual), expected):
            assert_close(leaf, right)


@pytest.mark.parametrize(
    "layers, point, n_targets, message",
    [
        (["dense 2"], (4,), 3, "as many outputs as the targets: 2 != 3"),
        (["conv 2 3x3", "dense 2"], (4,), 2, "conv layer needs images"),
        (["avgpool 2x2", "dense 2"], (4, 4), 2, "avgpool layer needs images"),
        (["dense 3", "avgpool 2x2", "dense 2"], (4, 4, 1), 2, "avgpool layer needs images"),
        (
            ["avgpool 2x5", "dense 2"],
            (4, 4, 1),
            2,
            r"avgpool must not exceed its image: \(2, 5\) > \(4, 4\)",
        ),
        (
            ["avgpool 2x2", "avgpool 3x2", "dense 2"],
            (4, 4, 1),
            2,
            r"exceed its image: \(3, 2\) > \(2, 2\)",
        ),
    ],
)
def test_network_that_does_not_fit_is_refused(layers, point, n_targets, message):
    network = sequential.build_network(layers)
    with pytest.raises(ValueError, match=message):
        parameters.check_fit(
            network, np.zeros((5, *point), np.float32), np.zeros((5, n_targets), np.float32)
        )


def test_network_that_fits_is_accepted_whatever_the_number_of_points():
    assert (
        parameters.check_fit(
            sequential.build_network(TABLE_2),
            np.zeros((0, 28, 28, 1), np.float32),
            np.zeros((0, 10)),
        )
        is None
    )
