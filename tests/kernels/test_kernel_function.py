"""What the kernel of one network keeps, what is freed, and the warning about repeated traces."""

import gc
import threading
import warnings
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_close
from kernel_networks import N1, case

from collective_variables.kernels import _traced
from collective_variables.kernels._traced import RetracingWarning, StandIns
from collective_variables.kernels.empirical import empirical_ntk
from collective_variables.kernels.kernel_function import ntk_fn
from collective_variables.kernels.products import kernel_product
from collective_variables.kernels.traces.exact import ntk_trace
from collective_variables.kernels.traces.probes import estimate_trace
from collective_variables.networks import sequential

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = jnp.ones((3, 2))
W = jnp.ones((2, 2))


@pytest.fixture
def traces(monkeypatch):
    """A list that grows with every state of a function that is traced; none is known at first."""
    names, original = [], _traced.StandIns._count
    monkeypatch.setattr(_traced.SHARED, "_stand_ins", type(_traced.SHARED._stand_ins)())
    monkeypatch.setattr(_traced.SHARED, "_traces", type(_traced.SHARED._traces)())

    def count(self, function, arguments, reason):
        names.append(_traced._name(function))
        original(self, function, arguments, reason)

    monkeypatch.setattr(_traced.StandIns, "_count", count)
    return names


def test_the_object_gives_what_the_functions_give(float64):
    apply, params, x = case("dense")
    kernel, (x1, x2) = ntk_fn(apply), np.split(x, [N1])
    for outputs in ("mean", "sum", "per-output", "full"):
        for more in (None, x2):
            expected = empirical_ntk(apply, params, x1, more, outputs=outputs)
            assert np.array_equal(kernel(params, x1, more, outputs=outputs), expected)
    assert_close(kernel.trace(params, x), ntk_trace(apply, params, x))
    estimate = estimate_trace(apply, params, x, 3, key=jax.random.key(0), outputs="sum")
    found = kernel.estimate_trace(params, x, 3, key=jax.random.key(0), outputs="sum")
    assert_close(found.trace, estimate.trace)
    assert_close(found.standard_error, estimate.standard_error, operations=1000)
    vectors = np.ones((len(x), 2))
    product, expected = kernel.product(params, x), kernel_product(apply, params, x)
    assert_close(product.product(vectors), expected.product(vectors))
    assert_close(product.diagonal, expected.diagonal)
    with pytest.raises(ValueError, match="outputs must be one of"):
        kernel(params, x1, outputs="trace")
    with pytest.raises(TypeError, match="apply_fn must be a function"):
        ntk_fn(params)


def test_new_functions_that_are_equal_are_traced_once(traces):
    network = sequential.build_network(["dense 3", "dense 2"])
    params = network.init(jax.random.key(0), X)
    for _ in range(10):
        empirical_ntk(lambda p, x: network.apply(p, 2 * x), params, X)
    assert len(traces) == 1
    for _ in range(10):
        empirical_ntk(sequential.build_network(["dense 3", "dense 2"]).apply, params, X)
    assert len(traces) == 2


def test_the_function_of_the_call_is_traced_and_not_an_equal_one_of_before(traces):
    """New shapes are traced by the function that is there now, after the first one has changed."""

    def build(gains):
        return lambda w, x: gains[0] * (x @ w)

    first, second = [1.0], [1.0]
    before = empirical_ntk(build(first), W, X)
    first[0] = 3.0
    more = jnp.ones((4, 2))
    assert_close(empirical_ntk(build(second), W, X), before)
    assert_close(empirical_ntk(build(second), W, more)[:3, :3], before)
    assert len(traces) == 1
    assert_close(empirical_ntk(build(first), W, X), 9 * before)


def test_a_state_that_comes_back_is_not_traced_again(traces):
    gains = [1.0]
    kernel = ntk_fn(lambda w, x: gains[0] * (x @ w))
    for _ in range(4):
        for gains[0] in (1.0, 3.0):
            assert_close(kernel(W, X), gains[0] ** 2 * jnp.full((3, 3), 2.0))
    assert len(traces) == 2


def draw(generator):
    return lambda w, x: generator.normal() * (x @ w)


def test_what_cannot_be_looked_into_is_traced_in_every_call_but_not_by_the_object(traces):
    function = draw(np.random.default_rng(0))
    first, second = empirical_ntk(function, W, X), empirical_ntk(function, W, X)
    assert not np.allclose(first, second) and len(traces) == 2
    kernel = ntk_fn(function)
    assert_close(kernel(W, X), kernel(W, X))
    estimates = [kernel.estimate_trace(W, X, key=jax.random.key(0)) for _ in range(2)]
    assert estimates[0] == estimates[1]
    assert len(traces) == 3


def test_repeated_traces_of_the_same_code_are_warned_of_once(traces):
    with pytest.warns(RetracingWarning) as caught:
        for scale in range(1, 20):
            empirical_ntk(lambda w, x, scale=float(scale): scale * (x @ w), W, X)
    (warning,) = caught
    assert warning.filename == __file__
    message = str(warning.message)
    assert "test_repeated_traces_of_the_same_code_are_warned_of_once.<locals>.<lambda>" in message
    assert "6 times" in message and "ntk_fn" in message


def test_the_warning_says_what_could_not_be_looked_into(traces):
    generator = np.random.default_rng(0)
    with pytest.warns(RetracingWarning, match=r"can see a numpy.random._generator.Generator"):
        for _ in range(8):
            ntk_trace(draw(generator), W, X)


def test_other_functions_shapes_and_calls_inside_jit_are_not_warned_of(traces):
    generator = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(1, 10):
            empirical_ntk(lambda w, x: generator.normal() * (x @ w), W, jnp.ones((n, 2)))
        for activation in sequential.ACTIVATIONS:
            network = sequential.build_network(["dense 3", "dense 2"], activation=activation)
            empirical_ntk(network.apply, network.init(jax.random.key(0), X), X)
        for _ in range(10):
            jax.jit(lambda w: empirical_ntk(draw(generator), w, X))(W)
    assert len(traces) > 20


class Large:
    """Something large that a function closes over."""

    def __init__(self):
        self.gain = 1.0


def test_nothing_that_a_function_closes_over_is_kept_alive():
    def compute():
        large = Large()
        function = lambda w, x: large.gain * (x @ w)
        empirical_ntk(function, W, X)
        ntk_trace(function, W, X)
        ntk_fn(function)(W, X)
        kernel_product(function, W, X).product(np.ones((3, 1), np.float32))
        return weakref.ref(large), weakref.ref(function)

    references = compute()
    gc.collect()
    assert not any(reference() for reference in references)


def test_programs_are_freed_with_their_object_and_those_of_unknown_functions_at_once(monkeypatch):
    references, original = [], _traced.StandIn.__init__

    def remember(self, name):
        references.append(weakref.ref(self))
        original(self, name)

    monkeypatch.setattr(_traced.StandIn, "__init__", remember)
    kernel = ntk_fn(lambda w, x: 5 * (x @ w))
    kernel(W, X)
    gc.collect()
    assert references[0]() is not None
    del kernel
    generator = np.random.default_rng(0)
    empirical_ntk(draw(generator), W, X)
    gc.collect()
    assert len(references) == 2 and not any(reference() for reference in references)


def test_the_number_of_states_that_are_kept_has_a_bound():
    stand_ins = StandIns(4, is_lenient=False, advice="")

    def find(gain):
        with stand_ins.traceable(lambda w, x: gain * (x @ w), W, jnp.ones((gain, 2))) as stand_in:
            return stand_in

    first, second = find(1), find(2)
    find(3), find(4)
    assert find(1) is first
    find(5)
    newest = find(6)
    # The two that were asked for longest ago are gone.
    assert len(stand_ins._stand_ins) == 4
    assert find(1) is first and find(6) is newest and find(2) is not second


def test_threads_get_the_kernel_of_their_own_function():
    results, barrier = {}, threading.Barrier(4)

    def compute(number):
        gains = [float(number)]
        barrier.wait()
        for n in (3, 4, 5):
            results[number, n] = empirical_ntk(lambda w, x: gains[0] * (x @ w), W, jnp.ones((n, 2)))

    threads = [threading.Thread(target=compute, args=(number,)) for number in (1, 2, 3, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (number, n), kernel in results.items():
        assert_close(kernel, number**2 * jnp.full((n, n), 2.0))
