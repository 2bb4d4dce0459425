"""The kernel against explicit float64 Jacobians, for every way in which a network can use a
parameter.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import UNFIT_POINTS, assert_close
from kernel_networks import (
    FUNCTIONS,
    MODULES,
    N1,
    PROMOTING,
    TwoInputs,
    case,
    cast,
    compiled_kernel,
    contracted,
    full,
    gradients,
    random,
)

from collective_variables.kernels import _calls
from collective_variables.kernels._jaxpr import Program
from collective_variables.kernels.empirical import OUTPUTS, empirical_ntk
from collective_variables.networks import parameters, sequential


@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_kernel_of_two_sets_of_points_is_the_product_of_their_explicit_jacobians(
    name, float64, quickly_compiled
):
    function, params, x = case(name)
    with (
        jax.numpy_dtype_promotion("standard" if name in PROMOTING else "strict"),
        jax.numpy_rank_promotion("allow" if name in PROMOTING else "raise"),
    ):
        j1, j2 = np.split(gradients(function, params, x), [N1])
        kernel = compiled_kernel(function, params, x[:N1], x[N1:], outputs="full")
    assert_close(kernel, full(j1, j2), operations=1000)


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("name", ["dense", "at each position", "embedding"])
def test_outputs_contract_the_jacobians(name, outputs, float64):
    function, params, x = case(name)
    j1, j2 = np.split(gradients(function, params, x), [N1])
    square = compiled_kernel(function, params, x[:N1], outputs=outputs)
    rectangle = compiled_kernel(function, params, x[:N1], x[N1:], outputs=outputs)
    assert_close(square, contracted(j1, j1, outputs), operations=1000)
    assert_close(rectangle, contracted(j1, j2, outputs), operations=1000)


def test_mean_is_the_default_and_the_trace_of_the_blocks_of_full_over_the_outputs(float64):
    function, params, x = case("dense")
    blocks = np.asarray(compiled_kernel(function, params, x, outputs="full")).reshape(
        len(x), 3, len(x), 3
    )
    assert_close(compiled_kernel(function, params, x), np.einsum("icjc->ij", blocks) / 3)


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_kernel_is_exactly_symmetric_and_has_no_negative_eigenvalue(outputs):
    arguments = random(*MODULES["dense"], n_points=37)
    kernel = np.asarray(empirical_ntk(*arguments, outputs=outputs))
    assert np.array_equal(kernel, np.swapaxes(kernel, -1, -2))
    assert_close(compiled_kernel(*arguments, outputs=outputs), kernel)
    values = np.linalg.eigvalsh(kernel.astype(float))
    assert values.min() > -1e-6 * values.max()


def test_points_in_another_order_give_the_kernel_in_that_order(float64):
    function, params, x = case("dense")
    order = np.random.default_rng(0).permutation(len(x))
    kernel = np.asarray(compiled_kernel(function, params, x))
    assert_close(compiled_kernel(function, params, x[order]), kernel[np.ix_(order, order)])


def test_kernels_of_groups_of_parameters_add_up(float64):
    function, params, x = case("dense")
    layers = params["params"]
    parts = [
        compiled_kernel(lambda p, x, k=k: function({"params": layers | {k: p}}, x), layers[k], x)
        for k in layers
    ]
    assert_close(compiled_kernel(function, params, x), np.sum(parts, axis=0))


@pytest.mark.parametrize(
    "options, scale, bias",
    [
        ({}, 1.0, 1.0),
        ({"parametrisation": "ntk"}, 1 / 4, 0.0),
        ({"parametrisation": "ntk", "b_std": 0.3}, 1 / 4, 0.09),
    ],
)
@pytest.mark.parametrize("width", [1, 3])
def test_linear_layer_has_the_gram_matrix_of_its_inputs(width, options, scale, bias, float64):
    function, params, x = random(sequential.build_network([f"dense {width}"], **options), (4,))
    expected = x @ x.T * scale + bias
    assert_close(compiled_kernel(function, params, x), expected)
    assert_close(
        compiled_kernel(function, params, x, outputs="full"), np.kron(expected, np.eye(width))
    )


def test_call_outside_jit_or_for_several_members_gives_the_same(float64):
    function, params, x = random(sequential.build_network(["dense 3", "dense 2"]), (4,))
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    kernels = [compiled_kernel(function, member, x) for member in (params, doubled)]
    assert_close(empirical_ntk(function, params, x), kernels[0])
    members = jax.tree.map(lambda *leaves: np.stack(leaves), params, doubled)
    assert_close(
        jax.jit(jax.vmap(lambda member: empirical_ntk(function, member, x)))(members),
        np.stack(kernels),
    )


@pytest.mark.parametrize(
    "dtype, tolerance", [("float32", 1e-5), ("float16", 1e-2), ("bfloat16", 1e-1)]
)
@pytest.mark.parametrize("name", ["dense", "conv"])
def test_kernel_has_the_precision_of_its_network_and_is_never_rounded_to_16_bits(
    name, dtype, tolerance
):
    function, params, x = case(name)
    params, x = cast((params, x), jnp.dtype(dtype))
    kernel = compiled_kernel(function, params, x)
    with jax.enable_x64(True):
        j = gradients(function, *cast((params, x), float))
    expected = contracted(j, j, "mean")
    assert kernel.dtype == "float32"
    assert np.linalg.eigvalsh(np.asarray(kernel, float)).min() > -1e-6 * expected.max()
    assert np.abs(np.asarray(kernel).astype(float) - expected).max() < tolerance * expected.max()


def test_integer_points_are_taken(float64):
    table, x = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 3, 3, 1])
    expected = np.kron(np.equal.outer(x, x).astype(float), np.eye(3))
    assert_close(compiled_kernel(lambda table, x: table[x], table, x, outputs="full"), expected)


def test_relu_at_zero_has_the_derivative_zero_of_jax(float64, monkeypatch):
    x = np.array([[1.0, -1.0], [1.0, 1.0]])
    params = {
        "params": {"Dense_0": {"kernel": np.ones((2, 1))}, "Dense_1": {"kernel": np.ones((1, 1))}}
    }

    def kernel():
        return compiled_kernel(
            sequential.build_network(["dense 1", "dense 1"], parametrisation="ntk").apply, params, x
        )

    assert_close(kernel(), np.array([[0.0, 0.0], [0.0, 3.0]]))
    # The first point's pre-activation is 1 − 1 = 0: of another convention, such as that of maximum,
    # more remains.
    monkeypatch.setitem(sequential.ACTIVATIONS, "relu", lambda x: jnp.maximum(x, 0.0))
    assert_close(kernel(), np.array([[0.25, 0.0], [0.0, 3.0]]))


def test_blank_image_without_biases_has_no_kernel():
    network = sequential.build_network(
        ["conv 2 2x2", "avgpool 2x2", "dense 2"], parametrisation="ntk"
    )
    function, params, x = random(network, (4, 4, 1), n_points=3)
    x[1:] = 0
    kernel = np.asarray(compiled_kernel(function, params, x))
    assert kernel[0, 0] > 0
    assert not kernel[1:].any()


def largest_array(jaxpr):
    """Number of entries of the largest array that any step of a program makes."""
    sizes = [variable.aval.size for step in jaxpr.eqns for variable in step.outvars]
    nested = [part for step in jaxpr.eqns for part in step.params.values()]
    inner = [getattr(part, "jaxpr", part) for part in nested]
    return max([0, *sizes, *(largest_array(part) for part in inner if hasattr(part, "eqns"))])


def test_dense_layers_form_no_jacobian():
    network = sequential.build_network(
        ["dense 60", "dense 50", "dense 3"], parametrisation="ntk", b_std=0.1
    )
    apply, params, x = random(network, (40,), n_points=N1)

    def largest(function, *more):
        return largest_array(
            jax.make_jaxpr(lambda p, *x: empirical_ntk(function, p, *x))(params, x, *more).jaxpr
        )

    def squared(params, x):
        layers = [layer["kernel"] ** 2 for layer in params["params"].values()]
        return jnp.tanh(jnp.tanh(x @ layers[0]) @ layers[1]) @ layers[2]

    assert max(largest(apply), largest(apply, x)) <= 60 * 50
    assert largest(squared) >= N1 * 3 * 60 * 50


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"outputs": "trace"}, ValueError, "outputs must be one of full, mean, per-output, sum"),
        ({"outputs": None}, TypeError, "outputs must be one of"),
        *UNFIT_POINTS,
        ({"apply_fn": lambda p, x: x @ p[:, 0]}, ValueError, r"received the shape \(5,\)"),
        ({"apply_fn": lambda p, x: (x @ p)[None]}, ValueError, r"received the shape \(1, 5, 3\)"),
        (
            {"apply_fn": lambda p, x: (x @ p).T},
            ValueError,
            r"\(n_points, n_outputs\) = \(5, …\): .* \(3, 5\)",
        ),
        ({"apply_fn": lambda p, x: (x @ p).sum()}, ValueError, r"received the shape \(\)"),
    ],
)
def test_unfit_arguments_are_refused(change, error, message):
    arguments = {
        "apply_fn": lambda p, x: x @ p,
        "x1": jnp.ones((5, 4)),
        "x2": None,
        "outputs": "mean",
    } | change
    function, x1, x2 = (arguments.pop(name) for name in ("apply_fn", "x1", "x2"))
    with pytest.raises(error, match=message):
        empirical_ntk(function, jnp.ones((4, 3)), x1, x2, **arguments)


@pytest.mark.parametrize("outputs", OUTPUTS)
@pytest.mark.parametrize("implementation", ["structured", "jacobian", "neural-tangents"])
@pytest.mark.parametrize("block_size", [1, 3, 4, N1, 10**7])
def test_tiles_make_the_kernel_of_one_block(
    implementation, outputs, block_size, float64, quickly_compiled
):
    function, params, x = case("dense")
    options = {"outputs": outputs, "implementation": implementation, "block_size": block_size}
    j1, j2 = np.split(gradients(function, params, x), [N1])
    square, rectangle = (
        empirical_ntk(function, params, x[:N1], more, **options) for more in (None, x[N1:])
    )
    assert_close(square, contracted(j1, j1, outputs), operations=1000)
    assert_close(rectangle, contracted(j1, j2, outputs), operations=1000)
    assert np.array_equal(square, np.swapaxes(square, -1, -2))


@pytest.mark.parametrize("outputs", OUTPUTS)
def test_square_blocks_of_many_points_are_made_of_halves(outputs, float64):
    n = 257
    assert n >= _calls.HALVED
    function, params, x = random(
        sequential.build_network(["dense 6", "dense 3"], activation="tanh"), (4,), n_points=n
    )
    j = gradients(function, params, x)
    kernel = np.asarray(compiled_kernel(function, params, x, outputs=outputs))
    exact = j.reshape(3 * n, -1) @ j.reshape(3 * n, -1).T
    if outputs != "full":
        blocks = np.einsum("icjc->cij", exact.reshape(n, 3, n, 3))
        exact = {"per-output": blocks, "sum": blocks.sum(0), "mean": blocks.mean(0)}[outputs]
    assert_close(kernel, exact, operations=1000)
    assert np.array_equal(kernel, np.swapaxes(kernel, -1, -2))


def test_points_may_be_trees_of_arrays(float64):
    module, generator = TwoInputs(), np.random.default_rng(0)
    x = {"table": generator.normal(size=(5, 4)), "image": generator.normal(size=(5, 2, 3, 1))}
    shapes = jax.eval_shape(
        module.init, jax.random.key(0), jax.tree.map(lambda leaf: leaf.astype("float32"), x)
    )
    params = jax.tree.map(lambda leaf: generator.normal(size=leaf.shape), shapes)
    j = gradients(module.apply, params, x)
    for block_size in (None, 2):
        assert_close(
            empirical_ntk(module.apply, params, x, outputs="full", block_size=block_size),
            full(j, j),
            operations=1000,
        )
    x["table"][3, 1] = np.inf
    with pytest.raises(ValueError, match=r"x1 must be finite: 1 of 20 .* \(3, 1\)"):
        empirical_ntk(module.apply, params, x)
    x["table"] = x["table"][:3]
    with pytest.raises(ValueError, match="x1 must hold at least one point: received the shape"):
        empirical_ntk(module.apply, params, x)


def test_modules_of_nnx_are_taken_by_their_state(float64):
    with jax.numpy_dtype_promotion("standard"):
        model = nnx.Sequential(
            nnx.Linear(4, 3, rngs=nnx.Rngs(0)), jnp.tanh, nnx.Linear(3, 2, rngs=nnx.Rngs(1))
        )
        graph, state = nnx.split(model)
        x = np.random.default_rng(0).normal(size=(5, 4))
        state = jax.tree.map(lambda leaf: leaf.astype(float), state)

        def function(state, x):
            return nnx.merge(graph, state)(x)

        j = gradients(function, state, x)
        assert_close(empirical_ntk(function, state, x, outputs="full"), full(j, j), operations=1000)


# Which parameters of a case need no Jacobian of their own: kernels of layers, embeddings,
# attention.
STRUCTURED = {
    "dense": 3,
    "conv": 3,
    "conv of Flax": 2,
    "shared dense": 2,
    "attention": 5,
    "tokens": 6,
    "tokens with a tied last layer": 4,
    "convolutions": 3,
    "transposed": 2,
    "embedding": 2,
    "two products": 1,
    "times itself": 0,
    "scan": 1,
}


@pytest.mark.parametrize("name", STRUCTURED)
def test_parameters_in_products_alone_are_recognised(name):
    function, params, x = case(name)
    leaves, tree = jax.tree.flatten(params)

    def single(leaves, point):
        return function(jax.tree.unflatten(tree, leaves), point[0][None])

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        uses = Program.trace(single, leaves, [x[0]]).uses()
    assert len(uses) == STRUCTURED[name]


def test_a_bias_takes_no_product_of_its_own():
    """Of pairs of points; the floating-point operations of the compiled kernel with biases and
    without them.
    """

    def operations(network):
        params = parameters.initialise(network, jax.random.key(0), x)
        compiled = (
            jax.jit(lambda params: empirical_ntk(network.apply, params, x)).lower(params).compile()
        )
        return compiled.cost_analysis()["flops"]

    x = jnp.ones((60, 20))
    layers = ["dense 30", "dense 40", "dense 2"]
    with_biases = operations(sequential.build_network(layers))
    without = operations(sequential.build_network(layers, parametrisation="ntk"))
    with_flax = operations(
        nn.Sequential([nn.Dense(30), nn.relu, nn.Dense(40), nn.relu, nn.Dense(2)])
    )
    a_product = 2 * 60 * 60 * 2 * 40
    assert with_biases - without < a_product / 2 and with_flax - without < a_product / 2
