"""Walk over everything that a function can see, and turn it into a flat list of tokens."""

import itertools
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from collective_variables.kernels._surroundings.classes import (
    Identity,
    StrongIdentity,
    is_library,
    is_plain,
)
from collective_variables.kernels._surroundings.names import names
from collective_variables.kernels._surroundings.visitors import (
    ATOMS,
    UnknownSurroundings,
    visit,
)

# Code that calls one of these may read anything.
DYNAMIC = frozenset({"globals", "locals", "vars", "eval", "exec", "open", "input", "__import__"})
ENVIRONMENT = frozenset({"environ", "getenv", "environb", "getenvb"})
FILES = frozenset({"fromfile", "genfromtxt", "loadtxt", "read_bytes", "read_text"})
# Modules, and parts of them, whose results or contents differ from call to call.
CHANGING = frozenset({"random", "secrets", "time"})
CHANGING_PARTS = {"numpy": "random", "sys": "modules"}
LARGEST = 20_000  # tokens; more take longer than a new trace of the function


def fingerprint(function: Callable[..., Any], *, is_lenient: bool = False) -> tuple:
    """Return a hashable value that changes when anything that `function` can see changes.

    Containers, NumPy arrays and objects of Python classes are compared by their contents; JAX
    arrays are immutable and compared by identity. Objects are held weakly if possible.

    Args:
        function: The function.
        is_lenient: Whether opaque objects, such as those of extensions, count as unchanged while
            they are the same objects. Code that may read anything then counts as reading nothing.

    Returns:
        A tuple of tokens.

    Raises:
        UnknownSurroundings: The function sees a value of a JAX transformation in progress. Unless
            `is_lenient`, also for opaque objects and for code that may read anything.
        TooManyObjects: The function sees too many objects, and `is_lenient` is False.
    """
    walk = Walk(is_lenient)
    try:
        walk.visit_called(function)
        walk.visit_module_attributes()
    except TooManyObjects:
        if not is_lenient:
            raise
        walk.tokens = []
        walk.same(function)
    except RuntimeError as error:  # nested too deeply, or changed by another thread meanwhile
        raise UnknownSurroundings(f"it could not be read: {error}") from None
    return tuple(walk.tokens)


class TooManyObjects(UnknownSurroundings):
    """A function sees more than can be compared in the time of a trace."""


class Walk:
    """One walk: its tokens, the values it has visited, and the modules still to be visited."""

    def __init__(self, is_lenient: bool):
        self.tokens: list[Any] = []
        self.is_lenient = is_lenient
        self.numbers: dict[object, int] = {}  # of the visits, by identity
        self.alive: list[object] = []  # visited values, kept so that no identity is reused
        self.attributes: set[str] = set()
        self.modules: list[types.ModuleType] = []

    def visit(self, value: Any) -> None:
        """Add the tokens of a value and of everything that can be reached from it."""
        kind = type(value)
        if kind in ATOMS:
            self.tokens += (kind, value)
        elif not self.is_visited(id(value), value):
            visit(self, value)

    def is_visited(self, key: object, value: object) -> bool:
        """Return whether this key was visited before; note the visit and add a token if so."""
        number = self.numbers.setdefault(key, len(self.alive))
        if number < len(self.alive):
            self.tokens += ("again", number)
            return True
        self.alive.append(value)
        if len(self.tokens) > LARGEST:
            raise TooManyObjects("it can see too many objects")
        return False

    def visit_all(self, values: Iterable[Any]) -> None:
        """Visit values in order."""
        values = list(values)
        self.tokens.append(len(values))
        for value in values:
            self.visit(value)

    def visit_named(self, items: Iterable[tuple[str, Any]]) -> None:
        """Visit values with their names."""
        items = list(items)
        self.tokens.append(len(items))
        for name, value in items:
            self.tokens.append(name)
            self.visit(value)

    def visit_called(self, function: Any) -> None:
        """Visit a value that is only called."""
        if is_plain(type(function)):
            self.visit_attributes(function, frozenset({"__call__"}))
        else:
            self.visit(function)

    def visit_used(self, value: Any, attributes: frozenset[str] | None) -> None:
        """Visit only these attributes of a value, or the whole value if `attributes` is None."""
        if attributes is not None and isinstance(value, types.ModuleType):
            self.tokens.append(Identity(value))
            name = value.__name__
            if name in CHANGING or CHANGING_PARTS.get(name) in attributes:
                self.unknown(value)
            if not is_library(value.__name__):
                self.visit_present(vars(value), sorted(attributes))
        elif attributes is not None and is_plain(type(value)):
            self.visit_attributes(value, attributes)
        else:
            self.visit(value)

    def visit_present(self, namespace: Mapping[str, Any], wanted: Iterable[str]) -> None:
        """Visit the wanted names that a namespace has."""
        self.visit_named((name, namespace[name]) for name in wanted if name in namespace)

    def visit_attributes(self, value: Any, wanted: frozenset[str]) -> None:
        """Visit attributes of an object of a plain class, and what its methods use of it."""
        self.tokens += (Identity(type(value)), len(wanted))
        for name in sorted(wanted):
            self.tokens.append(name)
            if not self.is_visited((id(value), name), value):
                self._visit_attribute(value, name)

    def _visit_attribute(self, value: Any, name: str) -> None:
        """Visit one attribute of an object, in the order in which Python looks it up."""
        contents = getattr(value, "__dict__", {})
        entry = next((vars(base)[name] for base in type(value).__mro__ if name in vars(base)), None)
        if isinstance(entry, property):
            self.visit_bound(entry.fget, value)
        elif name in contents:
            self.visit(contents[name])
        elif isinstance(entry, types.FunctionType):
            self.visit_bound(entry, value)
        elif isinstance(entry, types.MemberDescriptorType):  # of a slot
            self.visit(getattr(value, name, None))
        elif hasattr(type(entry), "__get__"):
            # A descriptor may read anything.
            self.visit(value)
        else:
            self.visit(entry)

    def visit_bound(self, function: Any, owner: Any) -> None:
        """Visit a function, and what it uses of its first argument."""
        self.visit(function)
        first = names(function.__code__).first if type(function) is types.FunctionType else None
        self.visit_used(owner, first)

    def visit_code(
        self, code: types.CodeType, cells: tuple[types.CellType, ...], namespace: dict[str, Any]
    ) -> None:
        """Visit the variables and globals that code reads, and the modules that it imports."""
        read = names(code)
        called = DYNAMIC & read.read.keys() | (ENVIRONMENT | FILES) & read.attributes
        if called and not self.is_lenient:
            raise UnknownSurroundings(f"its code uses {', '.join(sorted(called))}")
        self.attributes |= read.attributes
        for name, cell in zip(code.co_freevars, cells):
            self.visit_cell(cell, read.free.get(name, frozenset()))
        for name, attributes in read.read.items():
            if name in namespace:
                self.tokens.append(name)
                self.visit_used(namespace[name], attributes)
        for name in read.imported:
            for path in _import_paths(name, namespace.get("__package__") or ""):
                if module := sys.modules.get(path):
                    self.tokens.append(path)
                    self.visit(module)
        self.tokens.append("end")

    def visit_cell(self, cell: types.CellType, attributes: frozenset[str] | None) -> None:
        """Visit the value of a variable of an enclosing function."""
        try:
            value = cell.cell_contents
        except ValueError:  # not yet assigned
            self.tokens.append("empty")
        else:
            self.visit_used(value, attributes)

    def visit_module_attributes(self) -> None:
        """Visit attributes of whole modules that any of the code names, until there are no more."""
        visited = set()
        for _ in itertools.count():
            new = {
                (module, name)
                for module in self.modules
                for name in self.attributes & vars(module).keys()
            } - visited
            if not new:
                return
            for module, name in sorted(new, key=lambda pair: (self.numbers[id(pair[0])], pair[1])):
                self.tokens += (self.numbers[id(module)], name)
                self.visit(vars(module)[name])
            visited |= new

    def unknown(self, value: object) -> None:
        """Treat an opaque object as unchanged while it is the same one; raise unless lenient."""
        if not self.is_lenient:
            kind = type(value)
            raise UnknownSurroundings(
                f"it can see a {kind.__module__}.{kind.__qualname__}, whose contents are unknown"
            )
        self.same(value)

    def same(self, value: object) -> None:
        """Add the identity of a value."""
        try:
            self.tokens.append(Identity(value))
        except TypeError:
            self.tokens.append(StrongIdentity(value))


def _import_paths(name: str, package: str) -> list[str]:
    """Return what an import of `name` in a module of `package` may mean, relative ones included."""
    parts = name.split(".") if name else []
    absolute = [".".join(parts[: i + 1]) for i in range(len(parts))]
    parents = package.split(".") if package else []
    prefixes = [".".join(parents[: i + 1]) for i in range(len(parents))]
    return absolute + [f"{prefix}.{name}".rstrip(".") for prefix in prefixes]
