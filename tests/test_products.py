"""Products with the kernel against the kernel itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from test_ntk import FUNCTIONS, MODULES, N1, N2, PROMOTING, case

from collective_variables import memory, networks, products
from collective_variables.ntk import empirical_ntk
from collective_variables.products import kernel_product
from collective_variables.tiles import compiled_derivatives


@pytest.mark.parametrize("by_pairs", [False, True])
@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_product_and_diagonal_are_those_of_the_kernel(name, by_pairs, float64, monkeypatch):
    monkeypatch.setattr(products, "_pairs_are_cheaper", lambda *_: by_pairs)
    function, params, x = case(name)
    vectors = np.random.default_rng(1).normal(size=(N1 + N2, 3))
    with jax.numpy_dtype_promotion("standard" if name in PROMOTING else "strict"), jax.numpy_rank_promotion("allow"):
        kernel = np.asarray(empirical_ntk(function, params, x))
        found = kernel_product(function, params, x, block_size=5)
        assert_close(found.product(vectors), kernel @ vectors, operations=1000)
    assert_close(found.diagonal, np.diag(kernel), operations=1000)


@pytest.mark.parametrize("by_pairs", [False, True])
@pytest.mark.parametrize("free", [2**40, 0])
@pytest.mark.parametrize("block_size", [1, 5, 6, 12, 40])
def test_blocks_and_what_is_kept_and_the_way_change_nothing(block_size, free, by_pairs, float64, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: free)
    monkeypatch.setattr(products, "_pairs_are_cheaper", lambda *_: by_pairs)
    function, params, x = case("dense")
    vectors = np.random.default_rng(1).normal(size=(N1 + N2, 2))
    found = kernel_product(function, params, x, outputs="sum", block_size=block_size)
    product = found.product(vectors)
    monkeypatch.undo()
    kernel = np.asarray(empirical_ntk(function, params, x, outputs="sum"))
    assert_close(product, kernel @ vectors, operations=1000)
    assert_close(found.diagonal, np.diag(kernel), operations=1000)


def test_the_cheaper_way_is_over_pairs_for_few_points_and_many_vectors():
    network = networks.build(["dense 128", "dense 128", "dense 10"], parametrisation="ntk")
    params, x = network.init(jax.random.key(0), jnp.ones((1, 784))), jnp.ones((1, 784))
    one = jax.eval_shape(compiled_derivatives(network.apply), params, x, jnp.eye(10))
    # Σ (n_in + C n_out) n² against 4 k n C Σ n_in n_out: 1040 + 2660 and 10 · 118016 operations, equal at n = 1276 k.
    assert products._pairs_are_cheaper(one, 60_000, 64)
    assert not products._pairs_are_cheaper(one, 60_000, 4)
    assert not products._pairs_are_cheaper(one, 1_000_000, 64)


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"outputs": "full"}, ValueError, "outputs must be one of mean, sum"),
        ({"block_size": 0}, ValueError, "block_size must be at least 1: received 0"),
        ({"x": jnp.full((5, 4), jnp.nan)}, ValueError, "x must be finite: 20 of 20"),
    ],
)
def test_unfit_arguments_are_refused(change, error, message):
    given = {"x": jnp.ones((5, 4))} | change
    with pytest.raises(error, match=message):
        kernel_product(lambda p, x: x @ p, jnp.ones((4, 3)), given.pop("x"), **given)
