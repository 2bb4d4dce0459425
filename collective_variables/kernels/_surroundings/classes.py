"""Facts about classes: which belong to libraries, and what their objects consist of."""

import abc
import sys
import types
import typing
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

# Packages whose globals and classes do not change while a program runs. They hold user code, as in
# `jax.vmap(f)`, only in the variables that they close over.
LIBRARIES = frozenset({
    *sys.stdlib_module_names,
    *("jax", "jaxlib", "flax", "numpy", "scipy", "optax", "ml_dtypes", "opt_einsum", "jaxtyping"),
    *("chex", "equinox", "haiku", "jraph", "neural_tangents", "collective_variables"),
})  # fmt: skip
# Modules with these names are inspected nevertheless: a program may change them.
OPEN = ("__main__", "collective_variables.networks")

_HEAP_TYPE = 1 << 9  # CPython's flag of classes that a `class` statement makes
_HARMLESS_BASES = (object, abc.ABC, typing.Generic, typing.Protocol)

Result = TypeVar("Result")


class Identity:
    """Compares equal only while both refer to one living object, which is held weakly."""

    __slots__ = ("number", "reference")

    def __init__(self, value: object):
        self.number = id(value)
        self.reference = weakref.ref(value)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Identity):
            return NotImplemented
        value = self.reference()
        return value is not None and value is other.reference()


class StrongIdentity:
    """As `Identity`, for an object without weak references, which is kept alive."""

    __slots__ = ("value",)

    def __init__(self, value: object):
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StrongIdentity) and self.value is other.value


def for_each_class(function: Callable[[type], Result]) -> Callable[[type], Result]:
    """Return a function of a class that keeps its results for the lifetime of each class."""
    results: weakref.WeakKeyDictionary[type, Result] = weakref.WeakKeyDictionary()

    def kept(kind: type) -> Result:
        try:
            return results[kind]
        except KeyError:
            results[kind] = function(kind)
            return results[kind]

    return kept


def is_library(module_name: object) -> bool:
    """Return whether a module belongs to one of `LIBRARIES`."""
    if not isinstance(module_name, str) or module_name.startswith(OPEN):
        return False
    return module_name.partition(".")[0] in LIBRARIES


@for_each_class
def slots(kind: type) -> tuple[Any, ...] | None:
    """Return the descriptors of a class's slots, or None if its objects hold anything else."""
    descriptors = tuple(
        entry
        for base in kind.__mro__
        for entry in vars(base).values()
        if isinstance(entry, types.MemberDescriptorType)
    )
    # As CPython decides which objects it can copy: dictionary and slots must explain their size.
    known = object.__basicsize__ + 8 * len(descriptors)
    known += 8 * (kind.__dictoffset__ > 0) + 8 * (kind.__weakrefoffset__ > 0)
    is_python = all(base is object or base.__flags__ & _HEAP_TYPE for base in kind.__mro__)
    is_known = is_python and kind.__itemsize__ == 0 and kind.__basicsize__ <= known
    return descriptors if is_known else None


@for_each_class
def is_plain(kind: type) -> bool:
    """Return whether methods of a class read only the attributes of an object that they name.

    This is true for user classes without a base from a library, whose methods could read anything,
    and without computed attributes.
    """
    bases = [base for base in kind.__mro__ if base not in _HARMLESS_BASES]
    return (
        bool(bases)
        and not issubclass(kind, type)
        and slots(kind) is not None
        and not any(is_library(base.__module__) for base in bases)
        and not any({"__getattr__", "__getattribute__"} & vars(base).keys() for base in bases)
    )
