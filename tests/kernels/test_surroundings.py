"""A kernel is that of its function as it is now, whatever the function reads besides arguments."""

import array
import functools
import itertools
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from changing_functions import CASES, Layers, Net, W, X, restored

from collective_variables.kernels._surroundings import UnknownSurroundings, fingerprint
from collective_variables.kernels.empirical import empirical_ntk, estimate_cost
from collective_variables.kernels.kernel_function import ntk_fn
from collective_variables.kernels.products import kernel_product
from collective_variables.kernels.traces.exact import ntk_trace
from collective_variables.networks import sequential

pytestmark = pytest.mark.usefixtures("quick_compilation", "standard_promotion")


@pytest.fixture
def surroundings(monkeypatch):
    yield from restored(monkeypatch)


def parameters(function):
    """Those of a case: a matrix, or what its module draws."""
    module = getattr(function, "__self__", None)
    if isinstance(module, nn.Module):
        return module.init(jax.random.key(0), X)
    return W


@pytest.mark.filterwarnings("ignore::collective_variables.kernels._traced.RetracingWarning")
@pytest.mark.parametrize("name", CASES)
def test_a_change_of_what_a_function_reads_is_a_change_of_its_kernel(name, surroundings):
    function, change = CASES[name]()
    params = parameters(function)
    first = empirical_ntk(function, params, X)
    assert np.array_equal(empirical_ntk(function, params, X), first)
    before = np.asarray(function(params, X))
    change()
    if name == "a method of a class":
        function = function.__self__.apply
    after = np.asarray(function(params, X))
    # The case itself: the function is another one now.
    assert name == "a global of a custom derivative" or not np.allclose(after, before)
    second = empirical_ntk(function, params, X)
    jacobian = jax.tree.leaves(jax.jacobian(lambda p: function(p, X))(params))
    rows = np.concatenate([np.reshape(leaf, (6, -1)) for leaf in jacobian], axis=1)
    blocks = (rows @ rows.T).reshape(3, 2, 3, 2)
    np.testing.assert_allclose(second, np.einsum("icjc->ij", blocks) / 2, rtol=1e-5)
    assert not np.allclose(second, first)


@pytest.mark.parametrize("name", ["a global", "an attribute of a bound method"])
def test_trace_products_and_the_function_object_see_the_change_too(name, surroundings):
    function, change = CASES[name]()
    kernel = ntk_fn(function)
    computed = {
        "trace": lambda: ntk_trace(function, W, X),
        "product": lambda: kernel_product(function, W, X).product(np.ones((3, 1), np.float32)),
        "diagonal": lambda: kernel_product(function, W, X).diagonal,
        "jacobian": lambda: empirical_ntk(function, W, X, implementation="jacobian"),
        "neural-tangents": lambda: empirical_ntk(function, W, X, implementation="neural-tangents"),
        "kernel": lambda: kernel(W, X),
        "trace of the object": lambda: kernel.trace(W, X),
        "estimate of the object": lambda: kernel.estimate_trace(W, X, key=jax.random.key(0)).trace,
        "product of the object": lambda: kernel.product(W, X).diagonal,
    }
    before = {key: np.asarray(compute()) for key, compute in computed.items()}
    change()
    for key, compute in computed.items():
        np.testing.assert_allclose(compute(), 9 * before[key], rtol=1e-5, err_msg=key)


width = 2  # read by a function below


def test_the_estimate_is_that_of_the_function_as_it_is(monkeypatch):
    def f(w, x):
        return jnp.tile(x @ w, width)

    before = estimate_cost(f, W, X)["jacobian"].flops
    monkeypatch.setitem(globals(), "width", 8)
    assert estimate_cost(f, W, X)["jacobian"].flops > 2 * before
    assert empirical_ntk(f, W, X, outputs="per-output").shape == (16, 3, 3)


# What must not be traced anew


def net():
    return sequential.build_network(["dense 3", "dense 2"])


table = {"a": [1, 2.5, "x", None], "b": (np.ones(3), jnp.ones(2))}
KEY = jax.random.key(0)
FROZEN = jnp.arange(1000.0)
MODULE = Layers()
EQUAL = {
    "bound methods of one module": lambda: MODULE.apply,
    "bound methods of equal modules": lambda: net().apply,
    "lambdas": lambda: lambda w, x: x @ w,
    "lambdas that call a module": lambda: lambda p, x: MODULE.apply(p, 2 * x),
    "lambdas that call equal modules": lambda: (lambda module: lambda p, x: module.apply(p, 2 * x))(
        net()
    ),
    "functions with equal containers": lambda: (
        lambda copy: lambda w, x: copy["a"][1] * copy["b"][0][0] * (x @ w)
    )({"a": [1, 2.5, "x", None], "b": (np.ones(3), jnp.ones(2))}),
    "functions with one large array": lambda: lambda w, x: FROZEN[0] * (x @ w),
    "functions with a random key": lambda: lambda w, x: jax.random.normal(KEY, (2,)) * (x @ w),
    "partials": lambda: functools.partial(lambda gain, w, x: gain * (x @ w), 2.0),
    "vmapped functions": lambda: jax.vmap(lambda w, x: x @ w, (None, 0)),
    "jitted functions": lambda: jax.jit(lambda w, x: jnp.tanh(x @ w)),
    "methods of equal objects": lambda: Net().apply,
    "equal callable objects": Net,
    "functions that use the libraries": lambda: (
        lambda w, x: jax.nn.gelu(jnp.einsum("ij,jk->ik", x, w))
    ),
}


@pytest.mark.parametrize("name", EQUAL)
def test_new_functions_that_are_equal_have_one_fingerprint(name):
    first, second = fingerprint(EQUAL[name]()), fingerprint(EQUAL[name]())
    assert first == second and hash(first) == hash(second)


class Trainer:
    """Has much that changes while `apply` stays as it is."""

    def __init__(self):
        self.params = W
        self.history = []
        self.generator = np.random.default_rng(0)

    def apply(self, w, x):
        return self.activation(x @ w)

    def activation(self, y):
        return jnp.tanh(y)

    def step(self):
        self.params = self.params + 1
        self.history.append(self.generator.normal())


def test_what_a_method_does_not_read_may_change():
    trainer = Trainer()
    function = lambda p, x: trainer.apply(p, 2 * x)
    before = fingerprint(trainer.apply), fingerprint(function)
    trainer.step()
    assert (fingerprint(trainer.apply), fingerprint(function)) == before


@pytest.mark.parametrize(
    "first, second",
    [(0.0, -0.0), (1, True), (1, 1.0), ("1", b"1"), ([1], (1,)), ({1: 2}, {2: 1}), ([], [[]])],
)
def test_values_that_compare_equal_but_are_not_have_two_fingerprints(first, second):
    functions = [lambda w, x, value=value: value for value in (first, second)]
    assert fingerprint(functions[0]) != fingerprint(functions[1])


def test_where_an_entry_belongs_is_part_of_the_fingerprint():
    def build(inner, outer):
        part = types.SimpleNamespace(**inner)
        whole = types.SimpleNamespace(part=part, **outer)
        return lambda w, x: (whole, x)

    one = fingerprint(build({"a": 1}, {"b": 2}))
    assert one != fingerprint(build({"a": 1, "b": 2}, {}))
    assert one == fingerprint(build({"a": 1}, {"b": 2}))


def test_a_container_that_contains_itself_has_a_fingerprint():
    def build():
        values = [1.0]
        values.append(values)
        return lambda w, x: values[0] * (x @ w)

    assert fingerprint(build()) == fingerprint(build())


@pytest.mark.parametrize(
    "value",
    [np.random.default_rng(0), itertools.count(), (i for i in range(3)), array.array("d", [1.0])],
)
def test_what_cannot_be_looked_into_is_unknown_or_one_object(value):
    function = lambda w, x: value
    with pytest.raises(UnknownSurroundings, match="whose contents are unknown"):
        fingerprint(function)
    assert fingerprint(function, is_lenient=True) == fingerprint(function, is_lenient=True)


def test_large_containers_are_compared_by_their_contents_or_unknown():
    def build(values):
        return lambda w, x: values[0] * (x @ w)

    numbers = [float(i) for i in range(100_000)]
    before = fingerprint(build(numbers))
    assert len(before) < 20 and before == fingerprint(build([*numbers]))
    numbers[-1] = 0.5
    assert fingerprint(build(numbers)) != before
    nested = build([[value] for value in numbers])
    with pytest.raises(UnknownSurroundings, match="too many objects"):
        fingerprint(nested)
    assert fingerprint(nested, is_lenient=True) == fingerprint(nested, is_lenient=True)


def test_a_value_of_a_transformation_in_progress_is_never_kept():
    def kernel(gain):
        return empirical_ntk(lambda w, x: gain * (x @ w), W, X)

    np.testing.assert_allclose(jax.jit(kernel)(3.0), 9 * kernel(1.0), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(kernel)(2.0), 4 * kernel(1.0), rtol=1e-6)
    derivative = jax.jacfwd(kernel)(3.0)
    np.testing.assert_allclose(derivative, 6 * kernel(1.0), rtol=1e-6)
