"""Scaling by the trace, compared with a plain loop; the state of the optimiser does not change."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import assert_close

from collective_variables.kernels import empirical
from collective_variables.kernels.traces import exact
from collective_variables.networks import sequential
from collective_variables.training.trace_scaling import add_trace_gradient, scale_by_trace

NETWORK = sequential.build_network(["dense 5", "dense 2"], activation="tanh")
INPUTS = np.random.default_rng(0).normal(size=(6, 3))
TARGETS = np.random.default_rng(1).normal(size=(6, 2))

pytestmark = pytest.mark.usefixtures("quick_float64")


def initial():
    return jax.tree.map(
        lambda leaf: leaf.astype(float), NETWORK.init(jax.random.key(0), jnp.ones((1, 3)))
    )


@jax.jit
def gradient(params):
    return jax.grad(lambda p: jnp.mean((NETWORK.apply(p, INPUTS) - TARGETS) ** 2))(params)


def trace_fn(params):
    return exact.ntk_trace(NETWORK.apply, params, INPUTS)


@jax.jit
def jacobian(params):
    return jax.jacrev(lambda p: NETWORK.apply(p, INPUTS))(params)


def plain_trace(params):
    leaves = jax.tree.leaves(jacobian(params))
    return sum(float((np.asarray(leaf) ** 2).sum()) for leaf in leaves) / 2


def test_the_trace_is_that_of_the_kernel_for_every_kind_of_outputs():
    params = initial()
    assert_close(np.asarray(trace_fn(params)), np.array(plain_trace(params)), operations=1000)
    for outputs in ("mean", "sum"):
        kernel = empirical.empirical_ntk(NETWORK.apply, params, INPUTS, outputs=outputs)
        assert_close(
            np.asarray(exact.ntk_trace(NETWORK.apply, params, INPUTS, outputs=outputs)),
            np.trace(kernel),
            operations=1000,
        )


@pytest.mark.parametrize("constant", [None, 3.0])
@pytest.mark.parametrize("every", [1, 3])
def test_every_step_is_that_of_a_plain_loop(every, constant):
    params, plain = initial(), initial()
    optimiser = optax.chain(
        optax.sgd(0.01), scale_by_trace(trace_fn, every=every, constant=constant)
    )
    state, c = optimiser.init(params), constant or plain_trace(plain)
    for step in range(7):
        updates, state = optimiser.update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
        if step % every == 0:
            rate = 0.01 * c / (plain_trace(plain) + 1e-8)
        plain = jax.tree.map(lambda leaf, slope: leaf - rate * slope, plain, gradient(plain))
    for leaf, expected in zip(jax.tree.leaves(params), jax.tree.leaves(plain)):
        assert_close(leaf, expected, operations=1e5)


def test_the_state_of_the_optimiser_does_not_change():
    """Adam's moments are those of Adam on the same gradients, whatever the trace does behind it."""
    params, adam = initial(), optax.adam(0.01)
    chained = optax.chain(adam, scale_by_trace(trace_fn, every=2))
    state, alone = chained.init(params), adam.init(params)
    for _ in range(5):
        slope = gradient(params)
        updates, state = chained.update(slope, state, params)
        _, alone = adam.update(slope, alone, params)
        params = optax.apply_updates(params, updates)
    for leaf, expected in zip(jax.tree.leaves(state[0]), jax.tree.leaves(alone)):
        assert_close(np.asarray(leaf, float), np.asarray(expected, float))


@pytest.mark.parametrize("strength", [0.1, -0.05])
def test_the_gradient_is_that_of_the_loss_with_a_penalty_on_the_trace(strength):
    params = initial()
    optimiser = optax.chain(add_trace_gradient(trace_fn, strength), optax.sgd(0.01))
    updates, _ = optimiser.update(gradient(params), optimiser.init(params), params)

    def penalty(params):
        leaves = jax.tree.leaves(jax.jacrev(lambda p: NETWORK.apply(p, INPUTS))(params))
        return strength * sum((leaf**2).sum() for leaf in leaves) / 2

    expected = jax.tree.map(
        lambda one, other: -0.01 * (one + other),
        gradient(params),
        jax.jit(jax.grad(penalty))(params),
    )
    for leaf, value in zip(jax.tree.leaves(updates), jax.tree.leaves(expected)):
        assert_close(leaf, value, operations=1000)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "every must be at least 1"),
        ({"constant": 0.0}, ValueError, "constant must be"),
        ({"epsilon": -1.0}, ValueError, "epsilon must be"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        scale_by_trace(trace_fn, **options)


def test_a_penalty_without_a_strength_is_refused():
    with pytest.raises(ValueError, match="strength must be finite: received nan"):
        add_trace_gradient(trace_fn, float("nan"))


@pytest.mark.parametrize(
    "transformation", [scale_by_trace(trace_fn), add_trace_gradient(trace_fn, 1.0)]
)
def test_parameters_are_needed(transformation):
    with pytest.raises(ValueError, match="params must be given"):
        transformation.update(initial(), transformation.init(initial()))
