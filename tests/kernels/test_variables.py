"""What is no parameter has no share in a kernel; what has no kernel is refused by every entry."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import own_model
import pytest
from flax import nnx
from flax.core import freeze
from point_functions import MIXING, W

from collective_variables.kernels import empirical, kernel_function, products
from collective_variables.kernels.traces import exact
from collective_variables.observables import measurement

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion", "any_rank")

X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
ONES = np.ones((5, 1), np.float32)


@pytest.fixture
def any_rank():
    with jax.numpy_rank_promotion("allow"):
        yield


def kernel_by_jacobian(function, params, x=X):
    """The mean over outputs of the products of explicit derivatives, in float64."""
    leaves = jax.tree.leaves(jax.jit(jax.jacobian(function))(params, x))
    rows = np.concatenate(
        [np.asarray(leaf, float).reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=-1
    )
    return np.einsum("icp,jcp->ij", rows, rows) / rows.shape[1]


def random_values(tree):
    """Positive floating-point numbers, so that running variances are none that are 0."""
    generator = np.random.default_rng(1)

    def values(leaf):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.asarray(generator.random(leaf.shape) + 0.1, leaf.dtype)

    return jax.tree.map(values, tree)


# What each entry gives of a function, parameters and points, as a function of the kernel.
ENTRIES = {
    "kernel": (empirical.empirical_ntk, lambda k: k),
    "other points": (lambda f, p, x: empirical.empirical_ntk(f, p, x, x[:2]), lambda k: k[:, :2]),
    "tiles": (lambda f, p, x: empirical.empirical_ntk(f, p, x, block_size=2), lambda k: k),
    "jacobian": (
        lambda f, p, x: empirical.empirical_ntk(f, p, x, implementation="jacobian"),
        lambda k: k,
    ),
    "neural-tangents": (
        lambda f, p, x: empirical.empirical_ntk(f, p, x, implementation="neural-tangents"),
        lambda k: k,
    ),
    "trace": (exact.ntk_trace, np.trace),
    "product": (lambda f, p, x: products.kernel_product(f, p, x).product(ONES), lambda k: k @ ONES),
    "diagonal": (lambda f, p, x: products.kernel_product(f, p, x).diagonal, np.diag),
    "object": (lambda f, p, x: kernel_function.ntk_fn(f)(p, x), lambda k: k),
    "trace of the object": (lambda f, p, x: kernel_function.ntk_fn(f).trace(p, x), np.trace),
    "in a jit": (
        lambda f, p, x: jax.jit(lambda p, x: empirical.empirical_ntk(f, p, x))(p, x),
        lambda k: k,
    ),
}


def whole_and_parts():
    """For each way to hand variables over: function, variables, and the same by parameters."""
    module = own_model.Normalised()
    variables = random_values(module.init(jax.random.key(0), X, train=False))
    call = lambda variables, x: module.apply(variables, x, train=False)
    alone = lambda params, x: call(variables | {"params": params}, x), variables["params"]
    fixed = nn.Sequential([nn.Dense(4), nn.BatchNorm(use_running_average=True), nn.Dense(2)])
    whole_fixed = random_values(fixed.init(jax.random.key(0), X))
    alone_fixed = (
        lambda params, x: fixed.apply(whole_fixed | {"params": params}, x),
        whole_fixed["params"],
    )
    fourier = own_model.Fourier()
    frequencies = fourier.init(jax.random.key(0), X)
    alone_fourier = (
        lambda params, x: fourier.apply(frequencies | {"params": params}, x),
        frequencies["params"],
    )
    model = own_model.OfNNX(rngs=nnx.Rngs(0))
    model.eval()
    graph, state = nnx.split(model)
    graph, params, others = nnx.split(model, nnx.Param, ...)
    by_params = lambda params, x: nnx.merge(graph, params, others)(x)
    init, masked = own_model.masked()
    leaves = init(jax.random.key(0), X)
    by_mask = lambda w, x: masked(leaves | {"w": w}, x)
    old_key = leaves | {"key": jax.random.PRNGKey(0), "depth": 2}
    nested = {"one": variables, "two": jnp.ones((3, 2))}
    return {
        "apply of Flax": (fixed.apply, whole_fixed, *alone_fixed),
        "apply of Flax, frozen": (fixed.apply, freeze(whole_fixed), *alone_fixed),
        "apply of Flax, compiled": (jax.jit(fixed.apply), whole_fixed, *alone_fixed),
        "a function that calls Flax": (call, variables, *alone),
        "another collection": (lambda v, x: 1.0 * fourier.apply(v, x), frequencies, *alone_fourier),
        "nested": (
            lambda v, x: call(v["one"], x) + x @ v["two"],
            nested,
            lambda p, x: call(variables | {"params": p[0]}, x) + x @ p[1],
            (variables["params"], nested["two"]),
        ),
        "state of NNX": (lambda s, x: nnx.merge(graph, *s)(x), (params, others), by_params, params),
        "whole state of NNX": (
            lambda s, x: nnx.merge(nnx.graphdef(model), s)(x),
            state,
            by_params,
            params,
        ),
        "mask, counter and key": (masked, leaves, by_mask, leaves["w"]),
        "old key and a number": (masked, old_key, by_mask, leaves["w"]),
    }


@pytest.fixture(scope="module")
def cases():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return whole_and_parts()


NAMES = (
    "apply of Flax",
    "apply of Flax, frozen",
    "apply of Flax, compiled",
    "a function that calls Flax",
    "another collection",
    "nested",
    "state of NNX",
    "whole state of NNX",
    "mask, counter and key",
    "old key and a number",
)


@pytest.mark.parametrize("name", NAMES)
def test_only_parameters_have_a_share_in_the_kernel(name, cases):
    function, variables, alone, params = cases[name]
    np.testing.assert_allclose(function(variables, X), alone(params, X), rtol=1e-5, atol=1e-5)
    expected = kernel_by_jacobian(alone, params)
    kernel = empirical.empirical_ntk(function, variables, X)
    np.testing.assert_allclose(kernel, expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", ["mask, counter and key"])
def test_so_it_is_for_every_entry(name, entry, cases):
    function, variables, alone, params = cases[name]
    compute, expect = ENTRIES[entry]
    expected = expect(kernel_by_jacobian(alone, params))
    np.testing.assert_allclose(
        compute(function, variables, X), expected, atol=1e-5 * np.abs(expected).max()
    )


def test_constants_are_those_of_each_call(cases):
    function, variables, _, _ = cases["mask, counter and key"]
    other = variables | {"mask": ~variables["mask"]}
    for values in (variables, other):
        by_w = lambda w, x, values=values: function(values | {"w": w}, x)
        expected = kernel_by_jacobian(by_w, values["w"])
        np.testing.assert_allclose(
            empirical.empirical_ntk(function, values, X), expected, atol=1e-5 * expected.max()
        )


def test_trees_of_users_with_a_branch_params_are_parameters_as_a_whole():
    """Only what a Flax module is called with is a collection."""
    module = nn.Dense(4)
    tree = {"params": module.init(jax.random.key(0), X)["params"], "head": jnp.ones((4, 2))}
    function = lambda tree, x: module.apply({"params": tree["params"]}, x) @ tree["head"]
    expected = kernel_by_jacobian(function, tree)
    np.testing.assert_allclose(
        empirical.empirical_ntk(function, tree, X), expected, atol=1e-5 * expected.max()
    )


def test_costs_count_parameters_alone(cases):
    function, variables, alone, params = cases["apply of Flax"]
    costs = [
        empirical.estimate_cost(*arguments, X, implementations=["jacobian"])["jacobian"]
        for arguments in ((function, variables), (alone, params))
    ]
    assert costs[0].peak_bytes == costs[1].peak_bytes


@pytest.mark.parametrize("entry", [*ENTRIES, "cost"])
@pytest.mark.parametrize("name", ["batch normalisation", "softmax over points"])
def test_every_entry_refuses_outputs_that_depend_on_other_points(name, entry):
    compute = empirical.estimate_cost if entry == "cost" else ENTRIES[entry][0]
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    with pytest.raises(ValueError, match="apply_fn must treat every point separately"):
        compute(MIXING[name], W, x)


@pytest.mark.parametrize(
    "module, advice",
    [
        (own_model.NormalisedOverPoints(), "a batch normalisation needs use_running_average=True"),
        (own_model.AlwaysDropped(), "give its __call__ an argument deterministic or train"),
    ],
)
def test_modules_that_are_not_in_evaluation_are_refused_with_what_to_do(module, advice):
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    variables = module.init(keys, X)
    with pytest.raises(ValueError, match=rf"apply_fn must be in evaluation mode \({advice}"):
        empirical.empirical_ntk(module.apply, variables, X)


def test_measurements_refuse_them_too():
    sizes = np.array([[2, 4]])
    pool = measurement.Pool(X, np.zeros((5, 1), np.float32))
    with pytest.raises(ValueError, match="must treat every point separately"):
        measurement.measure_ensemble(
            own_model.Centred(), pool, [np.array([[0, 1, 2, 3]])], sizes, seed=0
        )


def test_one_point_depends_on_no_other():
    x = np.ones((1, 4), np.float32)
    expected = kernel_by_jacobian(MIXING["softmax over points"], W, x)
    np.testing.assert_allclose(
        empirical.empirical_ntk(MIXING["softmax over points"], W, x), expected
    )


@pytest.mark.parametrize(
    "function, params, message",
    [
        (lambda w, x: jnp.round(x @ w).astype(int), 0.0, "numbers, .*: received int32"),
        (lambda w, x: jnp.argmax(x @ w, axis=1)[:, None], 0.0, "numbers, .*: received int32"),
        (lambda w, x: x @ w > 0, 0.0, "numbers, which have a derivative: received bool"),
        (lambda w, x: (x @ w > 0).astype(float), 0.0, "only through integers and Booleans"),
        (lambda w, x: jnp.argmax(x @ w, 1)[:, None] * 1.0, 0.0, "through integers and Booleans"),
        (lambda w, x: jax.lax.stop_gradient(x @ w), 0.0, "must have a derivative by a parameter"),
        (lambda w, x: x, 0.0, "received outputs that depend on none"),
        (lambda w, x: (x @ w).astype(complex), 0.0, "numbers, .*: received complex64"),
        (lambda w, x: jnp.abs(x @ w), 0j, "params must be of real numbers: received complex64"),
        (
            lambda w, x: jnp.abs(x @ w["w"]),
            {"w": 0j},
            r"params\['w'\] must be of real .* complex64",
        ),
        (lambda w, x: x @ w.astype(float), 0, "one floating-point array: received int32"),
        (lambda w, x: x @ w.astype(float), False, "one floating-point array: received bool"),
    ],
)
@pytest.mark.parametrize("entry", ["kernel", "trace", "product"])
def test_every_entry_refuses_what_has_no_derivative_by_its_dtype(function, params, message, entry):
    params = jax.tree.map(lambda value: jnp.full((3, 2), value), params)
    with pytest.raises(ValueError, match=message):
        ENTRIES[entry][0](function, params, X)


@pytest.mark.parametrize("entry", ["kernel", "trace", "product", "object"])
def test_a_module_in_the_place_of_a_function_is_refused_with_what_to_give(entry):
    linen, model = nn.Dense(1), own_model.OfNNX(rngs=nnx.Rngs(0))
    for module, advice in ((linen, "Dense. Give its method apply"), (model, "OfNNX. Split it")):
        with pytest.raises(ValueError, match=f"received the (Flax|NNX) module {advice}"):
            ENTRIES[entry][0](module, {"w": ONES}, X)


def test_an_nnx_module_that_is_changed_inside_the_function_is_refused_with_what_to_do():
    model = own_model.OfNNX(rngs=nnx.Rngs(0))
    params = nnx.state(model, nnx.Param)
    with pytest.raises(ValueError, match=r"call eval\(\) of an NNX module, split it, and merge it"):
        empirical.empirical_ntk(lambda p, x: (nnx.update(model, p), model(x))[1], params, X)


def test_outputs_without_an_axis_of_outputs_are_refused_with_the_shape_to_return():
    with pytest.raises(ValueError, match=r"received the shape .*\. Return \(n_points, 1\) for one"):
        empirical.empirical_ntk(lambda w, x: x @ w, jnp.ones(X.shape[1]), X)


def test_the_cost_of_a_shape_is_that_of_an_array_of_it():
    shape = jax.ShapeDtypeStruct(X.shape, X.dtype)
    arguments = lambda w, x: x @ w, jnp.ones((X.shape[1], 2))
    assert empirical.estimate_cost(*arguments, shape) == empirical.estimate_cost(*arguments, X)
