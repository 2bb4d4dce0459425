"""Products with the kernel against the kernel itself."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from kernel_networks import FUNCTIONS, MODULES, N1, N2, PROMOTING, case

from collective_variables import _memory
from collective_variables.kernels import _planning, products
from collective_variables.kernels._derivatives.form import Derivative
from collective_variables.kernels._tiles import Tiles
from collective_variables.kernels._traced import SHARED
from collective_variables.kernels.empirical import empirical_ntk
from collective_variables.kernels.products import kernel_product
from collective_variables.networks import sequential

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("by_pairs", [False, True])
@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_product_and_diagonal_are_those_of_the_kernel(name, by_pairs, float64, monkeypatch):
    monkeypatch.setattr(products, "_pairs_are_cheaper", lambda *_: by_pairs)
    function, params, x = case(name)
    vectors = np.random.default_rng(1).normal(size=(N1 + N2, 3))
    with (
        jax.numpy_dtype_promotion("standard" if name in PROMOTING else "strict"),
        jax.numpy_rank_promotion("allow"),
    ):
        kernel = np.asarray(empirical_ntk(function, params, x))
        product = kernel_product(function, params, x, block_size=5)
        assert_close(product.product(vectors), kernel @ vectors, operations=1000)
    assert_close(product.diagonal, np.diag(kernel), operations=1000)


@pytest.mark.parametrize("by_pairs", [False, True])
@pytest.mark.parametrize(
    "plan", [{"keep": True}, {"keep": False}, {"outputs_at_once": 2, "vectors_at_once": 2}]
)
@pytest.mark.parametrize("block_size", [1, 5, 6, 12, 40])
def test_blocks_and_what_is_kept_and_the_way_change_nothing(
    block_size, plan, by_pairs, float64, monkeypatch
):
    original = _planning.plan_product
    monkeypatch.setattr(_planning, "plan_product", lambda *a: original(*a)._replace(**plan))
    monkeypatch.setattr(products, "_pairs_are_cheaper", lambda *_: by_pairs)
    function, params, x = case("dense")
    vectors = np.random.default_rng(1).normal(size=(N1 + N2, 3))
    product = kernel_product(function, params, x, outputs="sum", block_size=block_size)
    kernel = np.asarray(empirical_ntk(function, params, x, outputs="sum"))
    assert_close(product.product(vectors), kernel @ vectors, operations=1000)
    assert_close(product.diagonal, np.diag(kernel), operations=1000)


def plan(layers, shape, n_points, block_size=None):
    network = sequential.build_network(layers, parametrisation="ntk")
    x = jax.ShapeDtypeStruct((n_points, *shape), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), x)
    with SHARED.traceable(network.apply) as function:
        sizes = _planning.kernel_sizes(function, params, x, "mean")
        derivatives = _planning.point_derivatives(function, params, x)
    return _planning.plan_product(sizes, derivatives, params, n_points, block_size)


def test_points_and_vectors_at_once_follow_the_free_memory(monkeypatch):
    def with_free(free, *arguments):
        monkeypatch.setattr(_memory, "available", lambda: free)
        return plan(*arguments)

    dense, cnn = (
        ["dense 128", "dense 128", "dense 10"],
        ["conv 32 3x3", "avgpool 2x2", "conv 32 2x2", "dense 10"],
    )
    ample, short = with_free(2**34, dense, (784,), 60_000), with_free(2**27, dense, (784,), 60_000)
    assert (ample.tile, ample.outputs_at_once, ample.vectors_at_once, ample.keep) == (
        1024,
        10,
        32,
        True,
    )
    # 118016 parameters and 10 outputs, twice 4 bytes: 9 MB for each vector that is pulled back, in
    # 32 MiB.
    assert (short.vectors_at_once, short.keep) == (3, False) and 256 <= short.tile < 1024
    images = with_free(2**28, cnn, (28, 28, 1), 60_000)
    assert images.outputs_at_once < 10 and 64 < images.tile < 1024 and not images.keep
    assert with_free(2**28, cnn, (28, 28, 1), 60_000, 8).tile == 8
    with pytest.raises(
        MemoryError,
        match=r"A product of the kernel needs \d+\.\d GiB at least, and 0\.1 GiB are free",
    ):
        with_free(0, ["dense 9000", "dense 9000", "dense 1"], (784,), 10)


def test_the_cheaper_way_is_over_pairs_for_few_points_and_many_vectors():
    network = sequential.build_network(
        ["dense 128", "dense 128", "dense 10"], parametrisation="ntk"
    )
    params, x = network.init(jax.random.key(0), jnp.ones((1, 784))), jnp.ones((1, 784))
    with SHARED.traceable(network.apply) as function:
        one = _planning.point_derivatives(function, params, x)
    # Σ (n_in + C n_out) n² against 4 k n C Σ n_in n_out: 1040 + 2660 and 10 · 118016 operations,
    # equal at n = 1276 k.
    assert products._pairs_are_cheaper(one, 10, 60_000, 64, 1024)
    assert not products._pairs_are_cheaper(one, 10, 60_000, 4, 1024)
    assert not products._pairs_are_cheaper(one, 10, 1_000_000, 64, 1024)


def test_a_sum_over_positions_counts_as_a_jacobian_made_twice():
    one = [
        Derivative(
            jax.ShapeDtypeStruct((1, 4, 360), jnp.float32),
            jax.ShapeDtypeStruct((1, 1, 4, 40), jnp.float32),
        )
    ]
    # By pairs 4² (360 + 40) n², over the parameters 4 n · 360 · 40 (4 + k): equal at n = 9 (4 + k).
    assert products._pairs_are_cheaper(one, 1, 85, 6, 1024)
    assert not products._pairs_are_cheaper(one, 1, 95, 6, 1024)


def test_of_derivatives_that_are_not_kept_only_one_tile_is_held(monkeypatch):
    original, references = _planning.plan_product, []
    monkeypatch.setattr(
        _planning, "plan_product", lambda *a: original(*a)._replace(keep=False, outputs_at_once=1)
    )
    monkeypatch.setattr(
        products, "Tiles", lambda *a: references.append(weakref.ref(tiles := Tiles(*a))) or tiles
    )
    function, params, x = case("dense")
    product = kernel_product(function, params, x, block_size=5)
    product.product(np.ones((len(x), 2), np.float32))
    gc.collect()
    assert len(references) > 3 and not any(reference() for reference in references)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"outputs": "full"}, ValueError, "outputs must be one of mean, sum"),
        ({"block_size": 0}, ValueError, "block_size must be at least 1: received 0"),
        ({"x": jnp.full((5, 4), jnp.nan)}, ValueError, "x must be finite: 20 of 20"),
    ],
)
def test_unfit_arguments_are_refused(change, error, message):
    arguments = {"x": jnp.ones((5, 4))} | change
    with pytest.raises(error, match=message):
        kernel_product(lambda p, x: x @ p, jnp.ones((4, 3)), arguments.pop("x"), **arguments)
