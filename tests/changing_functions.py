"""Functions whose outputs are multiplied by 3, and their kernel by 9, when `change` is called.

Each does so in one of the ways in which a program can, without touching the function. A case gives
the function and the change.
"""

import array
import contextvars
import dataclasses
import functools
import os
import pathlib
import sys
import tempfile
import types
import typing

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from collective_variables.networks import sequential

X = np.arange(6.0, dtype=np.float32).reshape(3, 2) + 1
W = np.ones((2, 2), np.float32)

scale = 1.0
scales = {"now": 1.0}
weights = np.ones(2, np.float32)
holder = types.SimpleNamespace(scale=1.0)
settings = types.ModuleType("settings_of_a_user")
settings.scale = 1.0
settings.deeper = types.ModuleType("settings_of_a_user.deeper")
settings.deeper.scale = 1.0
variable = contextvars.ContextVar("variable", default=1.0)


class Config:
    scale = 1.0


class Net:
    def __init__(self):
        self.gain = 1.0
        self.table = {"gains": [1.0]}

    def apply(self, w, x):
        return self.gain * (x @ w)

    def through_others(self, w, x):
        return self._times(x @ w)

    def _times(self, y):
        return self.factor * y

    @property
    def factor(self):
        return self.table["gains"][0]

    def by_name(self, w, x):
        return getattr(self, "gain") * (x @ w)  # noqa: B009 - as programs do with other names

    def in_nested(self, w, x):
        return jax.vmap(lambda y: self.gain * y)(x @ w)

    def __call__(self, w, x):
        return self.apply(w, x)


class Slotted:
    __slots__ = ("gain",)

    def __init__(self):
        self.gain = 1.0

    def apply(self, w, x):
        return self.gain * (x @ w)


class Inherited(Config):
    def apply(self, w, x):
        return self.scale * (x @ w)


class Super(Inherited):
    def apply(self, w, x):
        return super().apply(w, x)


@dataclasses.dataclass
class Data:
    gains: list[float]

    def apply(self, w, x):
        return sum(self.gains) * (x @ w)


class FlaxModule(nn.Module):
    factor = 1.0

    @nn.compact
    def __call__(self, x):
        return self.factor * scale * (x @ self.param("w", nn.initializers.ones, (2, 2)))


class Layers(nn.Module):
    """A module that is equal and has equal parts, without being one object."""

    width: int = 2
    parts: typing.Any = (1.0,)

    @nn.compact
    def __call__(self, x):
        return sum(self.parts) * nn.Dense(self.width)(x)


def set_global(name, value=3.0):
    return lambda: globals().__setitem__(name, value)


def helper(y):
    return scale * y


CASES = {}


def case(function):
    CASES[function.__name__.replace("_", " ")] = function
    return function


@case
def a_global():
    def f(w, x):
        return scale * (x @ w)

    return f, set_global("scale")


@case
def a_global_of_a_function_that_is_called():
    return lambda w, x: helper(x @ w), set_global("scale")


@case
def a_global_in_a_nested_function():
    return lambda w, x: jax.vmap(lambda y: scale * y)(x @ w), set_global("scale")


@case
def a_global_dictionary():
    return lambda w, x: scales["now"] * (x @ w), lambda: scales.update(now=3.0)


@case
def a_global_array_changed_in_place():
    return lambda w, x: weights[0] * (x @ w), lambda: weights.__setitem__(slice(None), 3.0)


@case
def a_large_array_of_an_enclosing_function():
    large = np.ones((3, 10_000), np.float32)

    def f(w, x):
        return jnp.mean(jnp.asarray(large)) * (x @ w)

    return f, lambda: large.__setitem__(slice(None), 3.0)


@case
def an_array_of_objects():
    gains = np.array([1.0, None], dtype=object)
    return lambda w, x: gains[0] * (x @ w), lambda: gains.__setitem__(0, 3.0)


@case
def a_variable_of_an_enclosing_function():
    gain = 1.0

    def change():
        nonlocal gain
        gain = 3.0

    return lambda w, x: gain * (x @ w), change


@case
def a_list_of_an_enclosing_function():
    gains = [1.0]
    return lambda w, x: gains[-1] * (x @ w), lambda: gains.append(3.0)


@case
def a_jax_array_of_an_enclosing_function():
    gains = {"now": jnp.ones(2)}
    return lambda w, x: gains["now"][0] * (x @ w), lambda: gains.update(now=3 * jnp.ones(2))


@case
def an_attribute_of_an_object():
    return lambda w, x: holder.scale * (x @ w), lambda: setattr(holder, "scale", 3.0)


@case
def an_attribute_of_a_module():
    return lambda w, x: settings.scale * (x @ w), lambda: setattr(settings, "scale", 3.0)


@case
def an_attribute_of_a_module_by_name():
    function = lambda w, x: getattr(settings, "scale") * (x @ w)  # noqa: B009
    return function, lambda: setattr(settings, "scale", 3.0)


@case
def an_attribute_of_a_module_in_a_module():
    deeper = settings.deeper
    return lambda w, x: settings.deeper.scale * (x @ w), lambda: setattr(deeper, "scale", 3.0)


@case
def an_attribute_of_a_module_imported_inside():
    def f(w, x):
        import settings_of_a_user

        return settings_of_a_user.scale * (x @ w)

    return f, lambda: setattr(settings, "scale", 3.0)


@case
def a_name_imported_inside():
    def f(w, x):
        from settings_of_a_user import scale as gain

        return gain * (x @ w)

    return f, lambda: setattr(settings, "scale", 3.0)


@case
def a_class_attribute():
    return lambda w, x: Config.scale * (x @ w), lambda: setattr(Config, "scale", 3.0)


@case
def a_class_attribute_that_is_inherited():
    return Inherited().apply, lambda: setattr(Config, "scale", 3.0)


@case
def a_class_attribute_through_super():
    return Super().apply, lambda: setattr(Config, "scale", 3.0)


@case
def a_default_argument():
    def f(w, x, gain=1.0):
        return gain * (x @ w)

    return f, lambda: setattr(f, "__defaults__", (3.0,))


@case
def a_default_argument_changed_in_place():
    gains = [1.0]

    def f(w, x, *, gains=gains):
        return gains[0] * (x @ w)

    return f, lambda: gains.__setitem__(0, 3.0)


@case
def an_attribute_of_the_function():
    def f(w, x):
        return f.gain * (x @ w)

    f.gain = 1.0
    return f, lambda: setattr(f, "gain", 3.0)


@case
def an_argument_of_a_partial():
    function = functools.partial(lambda gain, w, x: gain["now"] * (x @ w), table := {"now": 1.0})
    return function, lambda: table.update(now=3.0)


@case
def a_keyword_of_a_partial():
    function = functools.partial(lambda w, x, gain: gain[0] * (x @ w), gain=(gains := [1.0]))
    return function, lambda: gains.__setitem__(0, 3.0)


@case
def a_global_under_a_decorator():
    def decorate(function):
        @functools.wraps(function)
        def wrapped(*arguments, **options):
            return function(*arguments, **options)

        return wrapped

    return decorate(lambda w, x: scale * (x @ w)), set_global("scale")


@case
def a_global_under_vmap():
    return jax.vmap(lambda w, x: scale * (x @ w), (None, 0)), set_global("scale")


@case
def a_global_of_a_custom_derivative():
    @jax.custom_jvp
    def gain(y):
        return y

    gain.defjvp(lambda primals, tangents: (scale * primals[0], scale * tangents[0]))
    return lambda w, x: gain(x @ w), set_global("scale")


@case
def an_attribute_of_a_bound_method():
    net = Net()
    return net.apply, lambda: setattr(net, "gain", 3.0)


@case
def an_attribute_that_a_method_of_a_method_reads():
    net = Net()
    return net.through_others, lambda: net.table.update(gains=[3.0])


@case
def an_attribute_deep_in_an_object():
    net = Net()
    return net.through_others, lambda: net.table["gains"].__setitem__(0, 3.0)


@case
def an_attribute_by_its_name():
    net = Net()
    return net.by_name, lambda: setattr(net, "gain", 3.0)


@case
def an_attribute_read_in_a_nested_function():
    net = Net()
    return net.in_nested, lambda: setattr(net, "gain", 3.0)


@case
def an_attribute_of_a_callable_object():
    net = Net()
    return net, lambda: setattr(net, "gain", 3.0)


@case
def an_attribute_of_an_object_that_is_called():
    net = Net()
    return lambda w, x: net(w, 2 * x), lambda: setattr(net, "gain", 3.0)


@case
def an_attribute_of_an_object_whose_method_is_called():
    net = Net()
    return lambda w, x: net.apply(w, 2 * x), lambda: setattr(net, "gain", 3.0)


@case
def an_attribute_in_a_slot():
    net = Slotted()
    return net.apply, lambda: setattr(net, "gain", 3.0)


@case
def a_field_of_a_dataclass():
    data = Data([1.0])
    return data.apply, lambda: data.gains.append(2.0)


@case
def a_method_of_a_class():
    net = Net()
    return (
        net.apply,
        lambda: (
            setattr(Net, "apply", lambda self, w, x: 3 * (x @ w))
            or (setattr(net, "apply", Net.apply.__get__(net)))
        ),
    )


@case
def a_helper_of_a_class():
    return Net().through_others, lambda: setattr(Net, "_times", lambda self, y: 3 * y)


@case
def a_global_that_a_flax_module_reads():
    return FlaxModule().apply, set_global("scale")


@case
def a_class_attribute_of_a_flax_module():
    return FlaxModule().apply, lambda: setattr(FlaxModule, "factor", 3.0)


@case
def the_contents_of_a_field_of_a_flax_module():
    parts = np.ones(1, np.float32)
    return Layers(parts=parts).apply, lambda: parts.__setitem__(0, 3.0)


@case
def a_table_of_the_library():
    # Activations are not linear here, so they are changed to be.
    sequential.ACTIVATIONS["times"] = lambda y: 1.0 * y
    network = sequential.Network(
        tuple(map(sequential.parse, ("dense 2", "dense 2"))), "times", "lecun", "SAME", None
    )
    return network.apply, lambda: sequential.ACTIVATIONS.update(times=lambda y: 3.0 * y)


@case
def what_code_finds_by_itself():
    return lambda w, x: globals()["scale"] * (x @ w), set_global("scale")


@case
def the_environment():
    os.environ["SCALE_OF_A_TEST"] = "1"
    function = lambda w, x: float(os.environ["SCALE_OF_A_TEST"]) * (x @ w)
    return function, lambda: os.environ.update(SCALE_OF_A_TEST="3")


@case
def an_object_of_an_extension():
    gains = array.array("d", [1.0])
    return lambda w, x: gains[0] * (x @ w), lambda: gains.__setitem__(0, 3.0)


@case
def a_context_variable():
    return lambda w, x: variable.get() * (x @ w), lambda: variable.set(3.0)


@case
def a_table_that_a_bound_builtin_reads():
    table = {"now": 1.0}
    get = table.get
    return lambda w, x: get("now") * (x @ w), lambda: table.update(now=3.0)


class Scaled(type):
    gain = 1.0


class OfScaled(metaclass=Scaled):
    pass


@case
def an_attribute_of_a_metaclass():
    return lambda w, x: OfScaled.gain * (x @ w), lambda: setattr(Scaled, "gain", 3.0)


@case
def a_class_method():
    class Own(Config):
        gain = 1.0

        @classmethod
        def apply(cls, w, x):
            return cls.gain * (x @ w)

    return Own.apply, lambda: setattr(Own, "gain", 3.0)


@case
def a_static_method_that_is_called():
    class Own:
        @staticmethod
        def times(y):
            return y

        def apply(self, w, x):
            return self.times(x @ w)

    return Own().apply, lambda: setattr(Own, "times", staticmethod(lambda y: 3 * y))


@case
def an_argument_of_a_partial_method():
    gains = [1.0]

    class Own:
        def times(self, gains, w, x):
            return gains[0] * (x @ w)

        apply = functools.partialmethod(times, gains)

    return Own().apply, lambda: gains.__setitem__(0, 3.0)


@case
def what_an_object_finds_for_a_missing_attribute():
    class Own:
        def __init__(self):
            self.table = {"gain": 1.0}

        def __getattr__(self, name):
            return self.table[name]

    own = Own()
    return lambda w, x: own.gain * (x @ w), lambda: own.table.update(gain=3.0)


@case
def a_function_in_a_table():
    table = {"times": lambda y: y}
    return lambda w, x: table["times"](x @ w), lambda: table.update(times=lambda y: 3 * y)


@case
def a_module_that_is_loaded_again():
    module = types.ModuleType("loaded_again")
    load = lambda gain: exec(f"gain = {gain}\ndef times(y): return gain * y", vars(module))
    load(1.0)
    return lambda w, x: module.times(x @ w), lambda: load(3.0)


@case
def a_module_in_the_table_of_modules():
    function = lambda w, x: sys.modules["settings_of_a_user"].scale * (x @ w)
    return function, lambda: setattr(settings, "scale", 3.0)


@case
def the_code_of_a_function():
    def f(w, x):
        return x @ w

    def g(w, x):
        return 3 * (x @ w)

    return f, lambda: setattr(f, "__code__", g.__code__)


@case
def a_file():
    path = pathlib.Path(tempfile.mkdtemp()) / "scale.txt"
    path.write_text("1")
    return lambda w, x: float(path.read_text()) * (x @ w), lambda: path.write_text("3")


@case
def a_variable_of_nnx():
    gain = nnx.Variable(jnp.ones(()))
    function = lambda w, x: gain.get_value() * (x @ w)
    return function, lambda: gain.set_value(3 * jnp.ones(()))


def restored(monkeypatch):
    """Everything that a case changes is as it was at first, now and afterwards."""
    monkeypatch.setitem(sys.modules, "settings_of_a_user", settings)
    monkeypatch.setitem(globals(), "scale", 1.0)
    monkeypatch.setitem(scales, "now", 1.0)
    monkeypatch.setitem(sequential.ACTIVATIONS, "times", None)
    monkeypatch.setenv("SCALE_OF_A_TEST", "1")
    weights[:] = 1.0
    for owner in (holder, settings, settings.deeper, Config):
        monkeypatch.setattr(owner, "scale", 1.0)
    monkeypatch.setattr(FlaxModule, "factor", 1.0)
    monkeypatch.setattr(Scaled, "gain", 1.0)
    for name in ("apply", "_times"):
        monkeypatch.setattr(Net, name, vars(Net)[name])
    token = variable.set(1.0)
    yield
    variable.reset(token)
