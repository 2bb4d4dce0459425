"""The trace, exact and estimated by random probes, against explicit Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from kernel_networks import FUNCTIONS, MODULES, PROMOTING, case, gradients, random

from collective_variables.kernels._derivatives import blocks, squares
from collective_variables.kernels._derivatives.form import Derivative
from collective_variables.kernels.traces import exact, probes
from collective_variables.networks import sequential

pytestmark = pytest.mark.usefixtures("quick_float64")


@pytest.mark.parametrize("at_once", [None, 2])
@pytest.mark.parametrize("name", [*MODULES, *FUNCTIONS])
def test_squared_norms_are_those_of_explicit_jacobians(name, at_once, monkeypatch):
    if at_once is not None:
        monkeypatch.setattr(blocks, "n_fitting", lambda _: at_once)
    function, params, x = case(name)
    with (
        jax.numpy_dtype_promotion("standard" if name in PROMOTING else "strict"),
        jax.numpy_rank_promotion("allow"),
    ):
        expected = np.sum(gradients(function, params, x) ** 2, axis=2)
        found = jax.jit(squares.squared_norms, static_argnums=0)(
            function, params, jnp.asarray(x), jnp.eye(expected.shape[1])
        )
    assert_close(found, expected, operations=1000)


@pytest.mark.parametrize("t, n_in, n_out", [(1, 3, 4), (2, 9, 8), (9, 2, 3)])
@pytest.mark.parametrize("is_lookup", [False, True])
def test_every_form_of_a_derivative_has_the_norms_of_its_jacobian(t, n_in, n_out, is_lookup):
    generator = np.random.default_rng(0)
    rows = generator.integers(n_in, size=(5, t))
    vectors = np.eye(n_in)[rows] if is_lookup else generator.normal(size=(5, t, n_in))
    signals = generator.normal(size=(5, 2, t, n_out))
    jacobians = np.einsum("nti,ncto->ncio", vectors, signals)
    derivative = Derivative(jnp.asarray(rows if is_lookup else vectors), jnp.asarray(signals))
    assert_close(squares.diagonal([derivative]), np.sum(jacobians**2, axis=(1, 2, 3)))


@pytest.mark.parametrize("outputs", ["mean", "sum"])
def test_the_trace_may_be_part_of_a_program_for_several_networks(outputs):
    function, params, x = case("conv")
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), params)
    trace = lambda params: exact.ntk_trace(function, params, x, outputs=outputs)
    expected = [trace(jax.tree.map(lambda leaf, i=i: leaf[i], several)) for i in range(2)]
    assert_close(jax.jit(jax.vmap(trace))(several), np.array(expected))
    norms = np.sum(gradients(function, params, x) ** 2)
    assert_close(expected[0], norms / (3 if outputs == "mean" else 1), operations=1000)


def test_the_memory_of_the_trace_does_not_grow_with_the_points():
    network = sequential.build_network(["conv 32 3x3", "conv 32 3x3", "dense 10"])
    memory = []
    for n_points in (100, 300):
        apply, params, x = random(network, (28, 28, 1), n_points=n_points)
        program = jax.jit(lambda params, x, f=apply: exact.ntk_trace(f, params, x))
        memory.append(program.lower(params, x).compile().memory_analysis().temp_size_in_bytes)
    # Only the points are held twice, as a copy for the loop.
    assert memory[1] - memory[0] <= 2 * 200 * x[0].nbytes


@pytest.mark.parametrize("name", ["dense", "conv", "embedding", "bias at each position"])
def test_probes_are_the_trace_on_average(name):
    function, params, x = case(name)
    expected = np.sum(gradients(function, params, x) ** 2)
    found = probes.estimate_trace(function, params, x, 4000, key=jax.random.key(1), outputs="sum")
    assert abs(found.trace - expected) < 4 * found.standard_error
    assert found.standard_error < 0.03 * expected


def test_every_point_has_separate_signs():
    w, x = jnp.array([[1.0, 2.0]]), jnp.ones((64, 1))
    function = lambda params, x: x * jnp.sum(params) * jnp.array([[1.0, 1.0]])
    found = probes.estimate_trace(function, w, x, key=jax.random.key(0), outputs="sum")
    # A point has 0 or 8 at equal chances, with variance 16.
    assert found.standard_error == pytest.approx(np.sqrt(64 * 16 / 2), rel=0.3)
    assert abs(found.trace - 256) < 4 * found.standard_error


def test_the_interval_covers_the_trace():
    function, params, x = case("dense")
    expected = float(exact.ntk_trace(function, params, x))
    found = [
        probes.estimate_trace(function, params, x, key=jax.random.key(number))
        for number in range(200)
    ]
    covered = [
        abs(estimate.trace - expected) < 1.96 * estimate.standard_error for estimate in found
    ]
    assert np.mean(covered) >= 0.9
    errors = [estimate.trace - expected for estimate in found]
    assert np.std(errors) == pytest.approx(
        np.sqrt(np.mean([estimate.standard_error**2 for estimate in found])), rel=0.2
    )


def test_one_output_has_no_error():
    function, params, x = case("dense with one output")
    found = probes.estimate_trace(function, params, x, key=jax.random.key(0))
    assert found.standard_error == 0.0
    assert found.trace == pytest.approx(float(exact.ntk_trace(function, params, x)), rel=1e-12)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_probes": 1}, "n_probes must be at least 2: received 1"),
        ({"key": 0}, "key must be a JAX key"),
        ({"outputs": "full"}, "outputs must be one of mean, sum"),
    ],
)
def test_wrong_options_are_refused(options, message):
    function, params, x = case("dense")
    with pytest.raises((ValueError, TypeError), match=message):
        probes.estimate_trace(function, params, x, **{"key": jax.random.key(0)} | options)
