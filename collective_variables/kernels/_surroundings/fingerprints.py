"""The walk over everything that a function can see, which becomes a flat list of tokens."""

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
# Modules, and parts of them, that give something else each time or hold what is looked up there.
CHANGING = frozenset({"random", "secrets", "time"})
CHANGING_PARTS = {"numpy": "random", "sys": "modules"}
LARGEST = 20_000  # tokens; to look at more takes longer than to trace the function anew


def fingerprint(function: Callable[..., Any], *, is_lenient: bool = False) -> tuple:
    """Return a hashable value that changes when anything that `function` can see changes.

    Containers, NumPy arrays and objects of classes written in Python are compared by their
    contents; JAX arrays, which are immutable, by identity. Objects are held weakly where that is
    possible.

    is_lenient: whether objects that cannot be looked into, such as those of extensions, count as
    unchanged while they are the same objects, and code that may read anything as reading nothing.

    Raises UnknownSurroundings for values of a JAX transformation in progress, and unless
    `is_lenient` for such objects, such code, and too many objects.
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
    """A function can see more than can be compared in the time that it takes to trace it."""


class Walk:
    """One walk: its tokens, what it has visited, and what is still to be looked at."""

    def __init__(self, is_lenient: bool):
        self.tokens: list[Any] = []
        self.is_lenient = is_lenient
        self.numbers: dict[object, int] = {}  # of the visits, by identity
        self.alive: list[object] = []  # what was visited, so that no identity is used twice
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
        """Whether there was a visit with this key, which is then a token; it is noted if not."""
        number = self.numbers.setdefault(key, len(self.alive))
        if number < len(self.alive):
            self.tokens += ("again", number)
            return True
        self.alive.append(value)
        if len(self.tokens) > LARGEST:
            raise TooManyObjects("it can see too many objects")
        return False

    def visit_all(self, values: Iterable[Any]) -> None:
        values = list(values)
        self.tokens.append(len(values))
        for value in values:
            self.visit(value)

    def visit_named(self, items: Iterable[tuple[str, Any]]) -> None:
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
        """Visit a value of which only these attributes are read, or which is used as a whole."""
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
        self.visit_named((name, namespace[name]) for name in wanted if name in namespace)

    def visit_attributes(self, value: Any, wanted: frozenset[str]) -> None:
        """Visit these attributes of an object of a plain class, and what its methods use of it."""
        self.tokens += (Identity(type(value)), len(wanted))
        for name in sorted(wanted):
            self.tokens.append(name)
            if not self.is_visited((id(value), name), value):
                self._visit_attribute(value, name)

    def _visit_attribute(self, value: Any, name: str) -> None:
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
            # What a descriptor reads cannot be told.
            self.visit(value)
        else:
            self.visit(entry)

    def visit_bound(self, function: Any, owner: Any) -> None:
        """Visit a function and what it uses of its first argument."""
        self.visit(function)
        first = names(function.__code__).first if type(function) is types.FunctionType else None
        self.visit_used(owner, first)

    def visit_code(
        self, code: types.CodeType, cells: tuple[types.CellType, ...], namespace: dict[str, Any]
    ) -> None:
        """Visit the variables and globals that a code reads, and the modules that it imports."""
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
        try:
            value = cell.cell_contents
        except ValueError:  # not yet assigned
            self.tokens.append("empty")
        else:
            self.visit_used(value, attributes)

    def visit_module_attributes(self) -> None:
        """Visit the attributes of whole modules that any of the code names, until none is new."""
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
        """Take an object that cannot be looked into as unchanged while it is the same one."""
        if not self.is_lenient:
            kind = type(value)
            raise UnknownSurroundings(
                f"it can see a {kind.__module__}.{kind.__qualname__}, whose contents are unknown"
            )
        self.same(value)

    def same(self, value: object) -> None:
        try:
            self.tokens.append(Identity(value))
        except TypeError:
            self.tokens.append(StrongIdentity(value))


def _import_paths(name: str, package: str) -> list[str]:
    """What an import of `name` in a module of `package` may mean, relative ones included."""
    parts = name.split(".") if name else []
    absolute = [".".join(parts[: i + 1]) for i in range(len(parts))]
    parents = package.split(".") if package else []
    prefixes = [".".join(parents[: i + 1]) for i in range(len(parents))]
    return absolute + [f"{prefix}.{name}".rstrip(".") for prefix in prefixes]
