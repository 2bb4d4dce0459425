"""Features of the kernel against random projections of explicit Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from jax.extend.core import jaxprs_in_params
from kernel_networks import N1, PROMOTING, TwoInputs, case, gradients

from collective_variables import _memory
from collective_variables.kernels import _planning
from collective_variables.kernels._traced import SHARED
from collective_variables.kernels.empirical import empirical_ntk
from collective_variables.kernels.features import _projections, sketches
from collective_variables.kernels.features.sketches import ntk_features
from collective_variables.kernels.kernel_function import ntk_fn
from collective_variables.networks import sequential

pytestmark = pytest.mark.usefixtures("quick_compilation")

P = 40
KEY = jax.random.key(3)


@pytest.fixture
def never_formed(monkeypatch):
    """Derivatives of layers are formed where this costs less, and not because they are small."""
    monkeypatch.setattr(_projections, "SMALL_JACOBIAN", 0)


def block_signs(key, size):
    """The signs of all entries of a vector, in blocks of at most `SIGNS`."""
    width = _projections.SIGNS // P
    starts = range(0, size, width)
    blocks = [
        _projections.draw_signs(
            jax.random.fold_in(key, number), min(width, size - start), P, jnp.float32
        )
        for number, start in enumerate(starts)
    ]
    return np.concatenate(blocks).astype(float)


def leaf_signs(one, size, n_outputs, key):
    """The signs (size, P) of every entry of one parameter, for one output."""
    n_out = one.signals.shape[-1]
    if _projections.signs_every_entry(one, n_outputs, P):
        return block_signs(key, size)
    first, second = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
    if one.inputs.ndim == 2:
        rows = jnp.arange(size // n_out)
        left = np.asarray(_projections.row_signs(rows, first, P, jnp.float32), float)
    else:
        left = block_signs(first, one.inputs.shape[-1])
    return np.stack([np.kron(a, g) for a, g in zip(left.T, block_signs(second, n_out).T)], axis=1)


def reference(function, params, x, outputs):
    """Features from the Jacobian of all parameters and the signs of its entries."""
    with SHARED.traceable(function, params, x) as stand_in:
        ones = _planning.point_derivatives(stand_in, params, x)
    jacobian, features = gradients(function, params, x), 0.0
    n_outputs = jacobian.shape[1]
    stop = 0
    for place, (one, leaf) in enumerate(zip(ones, jax.tree.leaves(params), strict=True)):
        start, stop = stop, stop + leaf.size
        for output in range(n_outputs):
            key = jax.random.fold_in(sketches._threefry(KEY), place)
            signs = leaf_signs(one, leaf.size, n_outputs, jax.random.fold_in(key, output))
            features = features + jacobian[:, output, start:stop] @ signs
    return features / np.sqrt(P * (n_outputs if outputs == "mean" else 1))


def compare(name, outputs="mean"):
    """Compare features of a case with the reference."""
    function, params, x = case(name)
    with (
        jax.numpy_dtype_promotion("standard" if name in PROMOTING else "strict"),
        jax.numpy_rank_promotion("allow"),
    ):
        # An object of this test, so that no earlier program is used.
        features = ntk_fn(function).features(params, x, P, key=KEY, outputs=outputs)
        expected = reference(function, params, x, outputs)
    assert features.dtype == np.float64
    assert_close(features, expected, operations=1000)


@pytest.mark.parametrize(
    "name", ["tokens", "shared dense", "two products", "embedding", "rows filled in", "scan"]
)
def test_features_are_projections_of_the_jacobian(name, never_formed, float64):
    compare(name)


def test_small_derivatives_have_a_sign_for_every_entry(float64):
    compare("dense", "sum")


@pytest.mark.parametrize("name", ["dense", "conv"])
def test_signs_are_drawn_in_blocks(name, never_formed, float64, monkeypatch):
    monkeypatch.setattr(_projections, "SIGNS", 3 * P)
    compare(name)


DENSE, LOOKUP = "dense", "embedding"


def single(name):
    """A case in float32."""
    function, params, x = case(name)
    return function, jax.tree.map(jnp.float32, params), jnp.float32(x)


@pytest.mark.parametrize("name", [DENSE, LOOKUP])
def test_the_mean_product_over_keys_is_the_kernel(name, never_formed):
    function, params, x = single(name)
    kernel, n_keys = ntk_fn(function), 200
    exact = np.asarray(kernel(params, x), float)
    products = np.empty((n_keys, *exact.shape))
    for number in range(n_keys):
        features = kernel.features(params, x, 32, key=jax.random.key(number))
        products[number] = features.astype(float) @ features.T
    upper = np.triu_indices(len(exact))
    standard_error = products.std(axis=0, ddof=1)[upper] / np.sqrt(n_keys)
    deviation = (products.mean(axis=0) - exact)[upper] / np.maximum(standard_error, 1e-6)
    # 78 entries of the kernel, in standard errors.
    assert np.abs(deviation).max() < 4
    assert np.sqrt(np.mean(deviation**2)) < 1.5


def test_the_error_falls_with_the_root_of_the_number_of_features(never_formed):
    function, params, x = single(DENSE)
    kernel = ntk_fn(function)
    exact = np.asarray(kernel(params, x), float)
    size = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    variances = []
    for n_features in (32, 2048):
        errors = []
        for number in range(8):
            features = kernel.features(params, x, n_features, key=jax.random.key(number))
            errors.append((features.astype(float) @ features.T - exact) / size)
        variances.append(n_features * np.mean(np.square(errors)))
    assert max(variances) < 9
    # Times the number of features, the mean square of 8 · 78 dependent errors stays the same.
    assert 0.5 < variances[0] / variances[1] < 2


def test_blocks_of_points_and_groups_of_outputs_change_nothing(never_formed, float64, monkeypatch):
    function, params, x = case("shared dense")
    expected = ntk_features(function, params, x, P, key=KEY)
    assert_close(ntk_features(function, params, x, P, key=KEY, block_size=1), expected)
    # Three outputs in groups of two: the last group is padded.
    monkeypatch.setattr(sketches, "_plan", lambda *_: sketches.Plan(tile=5, outputs_at_once=2))
    assert_close(ntk_features(function, params, x, P, key=KEY), expected)


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_features_of_calls_with_the_same_key_belong_together(kind):
    """Keys of every kind, also those whose numbers `jax.vmap` changes."""
    function, params, x = single(DENSE)
    key, other_key = (jax.random.key(seed, impl=kind) for seed in range(2))
    features = ntk_features(function, params, x, P, key=key)
    assert_close(ntk_features(function, params, x[:N1], P, key=key), features[:N1])
    other = ntk_features(function, params, x, P, key=other_key)
    assert np.abs(other - features).max() > 0.1 * np.abs(features).max()


def test_points_can_be_a_tree_and_the_dtype_is_that_of_the_network():
    generator = np.random.default_rng(0)
    x = {"table": generator.normal(size=(6, 3)), "image": generator.normal(size=(6, 2, 2))}
    x = jax.tree.map(np.float32, x)
    params = TwoInputs().init(jax.random.key(0), x)
    features = ntk_features(TwoInputs().apply, params, x, 4096, key=KEY)
    exact = empirical_ntk(TwoInputs().apply, params, x)
    assert features.shape == (6, 4096) and features.dtype == np.float32
    assert np.abs(features @ features.T - exact).max() < 0.1 * exact.max()


def sizes_inside(jaxpr):
    """The number of entries of every array of a program."""
    for equation in jaxpr.eqns:
        yield from (variable.aval.size for variable in equation.outvars)
        for inner in jaxprs_in_params(equation.params):
            yield from sizes_inside(inner)


def test_no_array_has_a_sign_for_every_parameter():
    layers, p, n = ["dense 400", "dense 300", "dense 2"], 512, 4
    network = sequential.build_network(layers, parametrisation="ntk")
    x = jax.ShapeDtypeStruct((n, 2000), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), x)
    n_parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    with SHARED.traceable(network.apply) as function:
        program = jax.make_jaxpr(lambda *a: sketches._group_features(function, p, "mean", *a))(
            params, x, jax.ShapeDtypeStruct((2, 2), jnp.float32), 0, jax.random.key(0)
        )
        plan = sketches._plan(sketches._sizes(function, params, x, p), n, None)
    largest = max(sizes_inside(program.jaxpr))
    assert largest <= _projections.SIGNS < n_parameters * p / 50
    assert plan == (n, 2)


def test_tiles_follow_the_memory(monkeypatch):
    network = sequential.build_network(["dense 128", "dense 128", "dense 10"])
    x = jax.ShapeDtypeStruct((100_000, 784), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), x)
    with SHARED.traceable(network.apply) as function:
        sizes = sketches._sizes(function, params, x, 512)
    assert sketches._plan(sizes, 100_000, None) == (2048, 10)
    assert sketches._plan(sizes, 100_000, 7) == (7, 10)
    monkeypatch.setattr(sketches, "TILE_BYTES", 2**23)
    assert sketches._plan(sizes, 100_000, None).tile < 512
    monkeypatch.setattr(_memory, "available", lambda: 0)
    with pytest.raises(MemoryError, match="The features of 90000 points need .* GiB at once"):
        sketches._plan(sizes, 100_000, 90_000)


def test_the_object_gives_what_the_function_gives_and_the_sum_is_larger_than_the_mean():
    function, params, x = single(DENSE)
    features = ntk_features(function, params, x, P, key=KEY)
    summed = ntk_fn(function).features(params, x, P, key=KEY, outputs="sum")
    assert_close(summed, np.sqrt(3) * features)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"outputs": "full"}, ValueError, "outputs must be one of mean, sum"),
        ({"block_size": 0}, ValueError, "block_size must be at least 1: received 0"),
        ({"n_features": 0}, ValueError, "n_features must be at least 1: received 0"),
        ({"n_features": 8.0}, TypeError, "n_features must be an integer: received 8.0"),
        ({"key": 3}, TypeError, "key must be a JAX key, such as jax.random.key.0.: received 3"),
        ({"key": jax.random.split(KEY)}, TypeError, "key must be a JAX key"),
        ({"x": jnp.full((5, 4), jnp.nan)}, ValueError, "x must be finite: 20 of 20"),
        ({"x": jnp.ones((0, 4))}, ValueError, "x must hold at least one point"),
        ({"apply_fn": lambda p, x: (x @ p)[:, 0]}, ValueError, "apply_fn must return"),
    ],
)
def test_unfit_arguments_are_refused(change, error, message):
    arguments = {
        "apply_fn": lambda p, x: x @ p,
        "params": jnp.ones((4, 3)),
        "x": jnp.ones((5, 4)),
        "key": KEY,
    }
    with pytest.raises(error, match=message):
        ntk_features(**arguments | change)
