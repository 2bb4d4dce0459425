"""The trace that random probes estimate, against explicit Jacobians and the exact one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_networks import case, gradients

from collective_variables.kernels import empirical
from collective_variables.kernels.traces import probes

pytestmark = pytest.mark.usefixtures("quick_float64")


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
    expected = float(empirical.ntk_trace(function, params, x))
    found = [
        probes.estimate_trace(function, params, x, key=jax.random.key(number))
        for number in range(200)
    ]
    covered = [abs(each.trace - expected) < 1.96 * each.standard_error for each in found]
    assert np.mean(covered) >= 0.9
    errors = [each.trace - expected for each in found]
    assert np.std(errors) == pytest.approx(
        np.sqrt(np.mean([each.standard_error**2 for each in found])), rel=0.2
    )


def test_one_output_has_no_error():
    function, params, x = case("dense with one output")
    found = probes.estimate_trace(function, params, x, key=jax.random.key(0))
    assert found.standard_error == 0.0
    assert found.trace == pytest.approx(float(empirical.ntk_trace(function, params, x)), rel=1e-12)


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
