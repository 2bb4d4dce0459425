"""Visitors for values of each kind.

A visitor adds the tokens of a value to a walk (see `fingerprints.Walk`), and passes on everything
that can be reached from the value.
"""

import decimal
import enum
import functools
import hashlib
import itertools
import logging
import marshal
import operator
import pathlib
import threading
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax.core import FrozenDict

from collective_variables.kernels._surroundings.classes import (
    Identity,
    for_each_class,
    is_library,
    slots,
)

Visitor = Callable[[Any, Any], None]

PLAIN = frozenset({int, float, complex, bool, str, bytes, type(None)})
MANY = 256  # entries of a container from which a digest is faster
SMALL = 64  # bytes up to which a JAX array is compared by value, and not by identity


class UnknownSurroundings(Exception):
    """A function sees something that cannot be compared with its state at another time."""


# Values


def _repr(walk: Any, value: object) -> None:
    # Compare numbers by their digits: 0.0 == -0.0, and NaN is not equal to itself.
    walk.tokens += (type(value), repr(value))


def _constant(walk: Any, value: Any) -> None:
    walk.tokens += (type(value), value)


def _kind(walk: Any, value: object) -> None:
    """Add only the type of a value, such as a lock or the descriptor of a slot."""
    walk.tokens.append(type(value))


def _values(walk: Any, value: Iterable[Any]) -> None:
    walk.tokens.append(type(value))
    _visit_entries(walk, list(value))


def _mapping(walk: Any, value: Any) -> None:
    walk.tokens.append(type(value))
    _visit_entries(walk, list(itertools.chain.from_iterable(list(value.items()))))


def _visit_entries(walk: Any, values: list[Any]) -> None:
    """Visit the entries of a container, or take a digest of many plain ones."""
    if len(values) > MANY and PLAIN.issuperset(map(type, values)):
        # Format 2 depends on the values only, not on their identities.
        walk.tokens += (len(values), hashlib.sha256(marshal.dumps(values, 2)).digest())
    else:
        walk.visit_all(values)


def _reduced(walk: Any, value: object) -> None:
    walk.tokens.append(type(value))
    walk.visit(value.__reduce__()[1])


def _attributes(walk: Any, value: object) -> None:
    walk.tokens.append(type(value))
    walk.visit_named(vars(value).items())


def _reference(walk: Any, value: weakref.ref) -> None:
    walk.tokens.append(weakref.ref)
    walk.visit(value())


# Arrays


def _dtype(walk: Any, value: np.dtype) -> None:
    walk.tokens += (value.str, str(value))  # with the order of the bytes, and the name


def _scalar(walk: Any, value: np.generic) -> None:
    _dtype(walk, value.dtype)
    walk.tokens.append(value.tobytes())


def _array(walk: Any, value: np.ndarray) -> None:
    _dtype(walk, value.dtype)
    walk.tokens.append(value.shape)
    if value.dtype.hasobject:
        walk.visit_all(value.flat)
    else:
        walk.tokens.append(_digest(value))


def _digest(value: np.ndarray) -> bytes:
    data = np.ascontiguousarray(value).reshape(-1).view(np.uint8) if value.nbytes else b""
    return bytes(data) if len(data) <= SMALL else hashlib.sha256(data).digest()


def _jax_array(walk: Any, value: jax.Array) -> None:
    if isinstance(value, jax.core.Tracer):
        raise UnknownSurroundings("it closes over a value of a JAX transformation in progress")
    is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended)
    if value.nbytes <= SMALL and not is_key and value.is_fully_addressable:
        walk.tokens += (jax.typeof(value), _digest(np.asarray(value)))
    else:
        walk.same(value)


# What is called


def _function(walk: Any, value: types.FunctionType) -> None:
    walk.tokens += ("function", value.__code__)
    cells = value.__closure__ or ()
    if is_library(value.__globals__.get("__name__")):
        for cell in cells:
            walk.visit_cell(cell, None)
        return
    walk.visit(value.__defaults__)
    walk.visit(value.__kwdefaults__)
    walk.visit_named(value.__dict__.items())
    walk.visit_code(value.__code__, cells, value.__globals__)


def _method(walk: Any, value: types.MethodType) -> None:
    walk.tokens.append("method")
    walk.visit_bound(value.__func__, value.__self__)


def _builtin(walk: Any, value: Any) -> None:
    owner = value.__self__
    walk.tokens += ("builtin", value.__name__)
    if owner is None or isinstance(owner, types.ModuleType):
        walk.tokens.append(getattr(owner, "__name__", None))
    else:
        walk.visit(owner)  # the dictionary of `table.get`, say


def _partial(walk: Any, value: functools.partial) -> None:
    walk.tokens.append(type(value))
    walk.visit_called(value.func)
    walk.visit_all(value.args)
    walk.visit_named(value.keywords.items())


def _wrapped(walk: Any, value: Any) -> None:
    walk.tokens.append(type(value))
    walk.visit(value.__wrapped__)


def _custom_derivative(walk: Any, value: Any) -> None:
    walk.tokens.append(type(value))
    walk.visit_all(getattr(value, name, None) for name in ("fun", "jvp", "fwd", "bwd"))


def _property(walk: Any, value: property) -> None:
    walk.tokens.append(property)
    walk.visit(value.fget)


def _extension(walk: Any, value: Any) -> None:
    """Visit an object of JAX's extension: a compiled function by the function it wraps."""
    if hasattr(value, "__wrapped__"):
        _wrapped(walk, value)
    else:
        walk.same(value)


# Modules, classes and objects


def _module(walk: Any, value: types.ModuleType) -> None:
    walk.tokens.append(Identity(value))
    if not is_library(value.__name__):
        walk.modules.append(value)


def _class(walk: Any, value: type) -> None:
    walk.tokens.append(Identity(value))
    if issubclass(value, enum.Enum):
        return
    for base in (*value.__mro__, *type(value).__mro__):
        if not is_library(base.__module__):
            entries = vars(base).items()
            walk.visit_named(item for item in entries if _is_visible(*item, value))


# Entries of a class that methods do not read: caches, and annotations as Python 3.14 has them.
_UNSEEN = frozenset({"_abc_impl", "__annotate__", "__annotate_func__"})
# Attributes of Flax's modules that say where a module is while it is traced.
_FLAX_STATE = frozenset({"_state", "_id", "_parent_ref", "parent", "scope"})


def _is_visible(name: str, entry: Any, owner: type) -> bool:
    """Return whether an entry of a class can change what its methods compute."""
    if name in _UNSEEN or (name in _FLAX_STATE and issubclass(owner, nn.Module)):
        return False
    is_special = name.startswith("__") and name.endswith("__")
    return not is_special or isinstance(entry, types.FunctionType | classmethod | staticmethod)


def _flax_module(walk: Any, value: nn.Module) -> None:
    if value.scope is not None:  # bound to variables
        walk.unknown(value)
        return
    walk.visit(type(value))
    walk.visit_named(item for item in vars(value).items() if item[0] not in _FLAX_STATE)


def _member(walk: Any, value: enum.Enum) -> None:
    walk.tokens += (Identity(type(value)), value.name)


def _object(walk: Any, value: Any) -> None:
    """Visit an object of a Python class: its class and all its attributes."""
    kind = type(value)
    walk.visit(kind)
    walk.visit_named(getattr(value, "__dict__", {}).items())
    for slot in slots(kind) or ():
        walk.tokens.append(slot.__name__)
        try:
            content = slot.__get__(value, kind)
        except AttributeError:
            walk.tokens.append("not assigned")
        else:
            walk.visit(content)


def _with_attributes(visit_contents: Visitor) -> Visitor:
    """Return a visitor for subclasses of a container: its contents, class and attributes."""

    def visit(walk: Any, value: Any) -> None:
        visit_contents(walk, value)
        walk.visit(type(value))
        walk.visit_named(getattr(value, "__dict__", {}).items())

    return visit


def _unknown(walk: Any, value: object) -> None:
    walk.unknown(value)


def _same(walk: Any, value: object) -> None:
    walk.same(value)


class _Pair(NamedTuple):
    field: None


ATOMS = frozenset({int, bool, str, bytes, type(None), type(...), type(NotImplemented)})
_BY_KIND: dict[type, Visitor] = {
    kind: visit
    for kinds, visit in (
        ((float, complex, decimal.Decimal), _repr),
        ((range,), _constant),
        ((list, tuple, set, frozenset, deque), _values),
        ((dict, OrderedDict, types.MappingProxyType, FrozenDict), _mapping),
        ((slice, operator.itemgetter, operator.attrgetter, operator.methodcaller), _reduced),
        ((types.SimpleNamespace,), _attributes),
        ((weakref.ref,), _reference),
        ((np.ndarray,), _array),
        ((types.FunctionType,), _function),
        ((types.MethodType,), _method),
        ((types.BuiltinFunctionType, types.MethodWrapperType), _builtin),
        ((functools.partial,), _partial),
        ((staticmethod, classmethod, type(functools.cache(len))), _wrapped),
        ((jax.custom_jvp, jax.custom_vjp), _custom_derivative),
        ((property,), _property),
        ((types.ModuleType,), _module),
        ((type(threading.Lock()), type(threading.RLock()), type(_Pair.field)), _kind),
        ((types.MethodDescriptorType, types.WrapperDescriptorType), _kind),
        ((types.GetSetDescriptorType, types.MemberDescriptorType), _kind),
        ((types.ClassMethodDescriptorType,), _kind),
    )
    for kind in kinds
}
_BY_BASE: tuple[tuple[Any, Visitor], ...] = (
    (jax.Array, _jax_array),
    (type, _class),
    (nn.Module, _flax_module),
    (enum.Enum, _member),
    (np.generic, _scalar),
    (np.dtype, _dtype),
    (np.ndarray, _with_attributes(_array)),
    (functools.partial, _with_attributes(_partial)),
    (types.ModuleType, _module),
    (pathlib.PurePath, _repr),
    (logging.Logger, _same),
    ((list, tuple, set, frozenset, deque), _with_attributes(_values)),
    (defaultdict, _unknown),
    (dict, _with_attributes(_mapping)),
)


def visit(walk: Any, value: Any) -> None:
    """Add the tokens of a value whose type is not in `ATOMS` to a walk."""
    kind = type(value)
    visitor = _BY_KIND.get(kind)
    if visitor is None:
        # The class of a tracer does not say that it is a JAX array.
        visitor = _jax_array if isinstance(value, jax.Array) else _visitor(kind)
    visitor(walk, value)


@for_each_class
def _visitor(kind: type) -> Visitor:
    for base, visitor in _BY_BASE:
        if issubclass(kind, base):
            return visitor
    is_reference = kind.__name__ == "Ref" and kind.__module__.startswith("jax.")  # can be written
    if slots(kind) is not None and not is_reference:
        return _object
    package = kind.__module__.partition(".")[0]
    return _extension if kind is np.ufunc or package in ("jaxlib", "jax", "typing") else _unknown
