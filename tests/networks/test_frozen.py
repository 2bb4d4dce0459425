"""Networks with fixed features against explicit derivatives, and the solution of their training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close

from collective_variables.kernels import empirical
from collective_variables.networks import frozen, parameters, sequential

NETWORK = sequential.build_network(["dense 5", "dense 4", "dense 2"], activation="tanh")
X = np.random.default_rng(0).normal(size=(6, 3))

pytestmark = pytest.mark.usefixtures("quick_float64")


def drawn(kind):
    network = frozen.Frozen(NETWORK, kind)
    variables = network.init(jax.random.key(0), jnp.asarray(X[:1]))
    variables = jax.tree.map(lambda leaf: leaf.astype(float), variables)
    moved = jax.tree.map(lambda leaf: 0.3 + jnp.cos(jnp.arange(leaf.size)), variables["params"])
    change = jax.tree.map(lambda leaf, like: leaf.reshape(like.shape), moved, variables["params"])
    return network, variables | {"params": change}


def test_a_linearised_network_is_the_first_two_terms_of_taylors_series():
    network, variables = drawn("linearised")
    initial = variables["constants"]
    jacobian = jax.jacrev(lambda params: NETWORK.apply(params, X))(initial)["params"]
    changes = [
        np.tensordot(slope, change, axes=change.ndim)
        for slope, change in zip(jax.tree.leaves(jacobian), jax.tree.leaves(variables["params"]))
    ]
    assert_close(network.apply(variables, X), NETWORK.apply(initial, X) + sum(changes))
    kernel = empirical.empirical_ntk(network.apply, variables, X)
    assert_close(kernel, empirical.empirical_ntk(NETWORK.apply, initial, X), operations=1e4)


def test_random_features_stay_and_their_kernel_is_that_of_the_last_layer():
    network, variables = drawn("last-layer")
    assert list(variables["params"]) == ["Dense_2"]
    initial = jax.tree.map(np.asarray, variables["constants"]["params"])
    first, second, last = (initial[f"Dense_{number}"] for number in range(3))
    features = np.tanh(X @ first["kernel"] + first["bias"])
    features = np.tanh(features @ second["kernel"] + second["bias"])
    change = jax.tree.map(np.asarray, variables["params"]["Dense_2"])
    expected = features @ (last["kernel"] + change["kernel"]) + last["bias"] + change["bias"]
    assert_close(network.apply(variables, X), expected)
    assert_close(empirical.empirical_ntk(network.apply, variables, X), features @ features.T + 1)


@pytest.mark.parametrize("kind", frozen.KINDS)
def test_initial_parameters_have_no_gradient_and_do_not_count(kind):
    network, variables = drawn(kind)
    slopes = jax.grad(lambda leaves: network.apply(leaves, X).sum())(variables)["constants"]
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(slopes))
    n_learned = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert parameters.n_parameters(network, X) == n_learned


def test_a_network_without_a_dense_layer_has_no_last_one():
    with pytest.raises(ValueError, match="last-layer needs a dense layer: received Conv_0"):
        frozen._last_layer({"Conv_0": {}})
    with pytest.raises(ValueError, match="kind must be one of"):
        frozen.Frozen(NETWORK, "none")
