"""List the files of a project that run when one of them is imported, from their syntax trees.

Nothing is imported. All import statements are followed, wherever they stand in a file: absolute and
relative ones, those of a star, and the `__init__.py` of every package on the way. Code under `if
TYPE_CHECKING:` never runs. Calls of importlib are not followed.

A package is lazy if its `__init__.py` has a table `_MODULES = {"module": ("name", …), …}` of the
names that it loads from its modules on demand (PEP 562). Importing a name from it runs the module
that has the name. Importing the package runs the modules of the names that the importer uses, or
all modules of the package if the importer does more than take its attributes.
"""

import ast
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

LAZY, FOLLOWED = "_MODULES", "FOLLOWED_FILES"
# Tables of a lazy package's names. Using a name runs the module that has it, so entries for other
# names change nothing.
TABLES = (LAZY, "__all__", "__version__")
# Nodes of a syntax tree that have statements below them; expressions have none.
WITH_STATEMENTS = (ast.mod, ast.stmt, ast.excepthandler, ast.match_case)
IMPORT_ERRORS = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
Parts = tuple[str, ...]


class SourceError(Exception):
    """Report a file that cannot be followed; the message names the file and the line."""


class Import(NamedTuple):
    """Hold one name of an import statement, and whether an ImportError is caught."""

    statement: ast.Import | ast.ImportFrom
    alias: ast.alias
    may_fail: bool

    @property
    def bound(self) -> str:
        """Name that the statement gives to what it imports."""
        whole = isinstance(self.statement, ast.ImportFrom)
        return self.alias.asname or (self.alias.name if whole else self.alias.name.split(".")[0])


class Tree:
    """Follow the Python files below a folder; each is read once, so later edits are not seen."""

    def __init__(self, root: Path):
        self.root = root
        self.parse, self.imports = cache(self.parse), cache(self.imports)
        self.imported, self.file = cache(self.imported), cache(self.file)

    def follow(self, *files: str, ends: Callable[[str], bool] = lambda file: False) -> list[str]:
        """Return these files and all that they run, in the order of their imports.

        Args:
            *files: Paths of the files, relative to the folder.
            ends: Whether a file, unless it is one of `files`, is not followed any further.
        """
        followed: dict[str, None] = {}
        waiting = list(reversed(files))
        while waiting:
            if (current := waiting.pop()) in followed:
                continue
            followed[current] = None
            if current in files or not ends(current):
                waiting += reversed(self.imported(current))
        return list(followed)

    def follow_path(self, path: str) -> list[str]:
        """Return the files that an import path runs, for a module or a name in one.

        There are none if the module is not part of the project.
        """
        parts = tuple(str(path).split("."))
        for module in (parts, parts[:-1]):
            if module and (self.file(module)):
                return self.follow(*self._module(module))
        return []

    def parse(self, file: str) -> ast.Module:
        """Return the syntax tree of a file."""
        try:
            return ast.parse((self.root / file).read_bytes())
        except (SyntaxError, ValueError) as error:
            raise SourceError(f"{file}:{getattr(error, 'lineno', 1)}: {error}") from None

    def literal(self, file: str, name: str) -> object:
        """Return the literal value that a file gives to a name; None without one."""
        for node in self.parse(file).body:
            if _assigned(node) == name:
                try:
                    return ast.literal_eval(node.value)  # pyrefly: ignore[missing-attribute]
                except ValueError:
                    raise SourceError(
                        f"{file}:{node.lineno}: {name} must be written out."
                    ) from None
        return None

    def content(self, file: str) -> bytes:
        """Return the bytes of a file that change what runs.

        A file's list of followed files is left out, since these count themselves. A lazy package's
        docstring and tables of names are left out too.
        """
        content = (self.root / file).read_bytes()
        if not file.endswith(".py"):
            return content
        is_lazy = bool(self._lazy_names(file))
        nodes = [node for node in self.parse(file).body if _is_left_out(node, is_lazy)]
        if not nodes:
            return content
        lines = content.splitlines(keepends=True)
        for node in nodes:
            end = node.end_lineno or node.lineno
            lines[node.lineno - 1 : end] = [b""] * (end - node.lineno + 1)
        return b"".join(line for line in lines if line.strip())

    def file(self, module: Parts) -> str | None:
        """Return the file of a module or package; None if it does not have one."""
        path = "/".join(module)
        files = (f"{path}/__init__.py", f"{path}.py")
        return next((file for file in files if (self.root / file).is_file()), None)

    def imports(self, file: str) -> list[Import]:
        """Return the import statements of a file that can run, one name at a time."""
        return list(_imports([self.parse(file)]))

    def imported(self, file: str) -> list[str]:
        """Return the files that the import statements of a file run directly."""
        return [other for one in self.imports(file) for other in self.imported_by(file, one)]

    def imported_by(self, file: str, item: Import) -> list[str]:
        """Return the files that one import statement of a file runs."""
        try:
            if isinstance(item.statement, ast.Import):
                return self._import(file, item)
            return self._import_from(file, item.statement, item.alias.name)
        except ModuleNotFoundError as error:
            if item.may_fail:
                return []
            line = item.statement.lineno
            raise SourceError(
                f"{file}:{line}: no file of the project is the module {error}."
            ) from None

    def _import(self, file: str, item: Import) -> list[str]:
        parts = tuple(item.alias.name.split("."))
        if not self._is_here(parts):
            return []
        package = parts if item.alias.asname else parts[:1]
        return self._module(parts) + self._used(file, item.bound, package)

    def _import_from(self, file: str, statement: ast.ImportFrom, name: str) -> list[str]:
        module = tuple((statement.module or "").split(".")) if statement.module else ()
        if statement.level:
            package = Path(file).parts[:-1]
            if statement.level > len(package):
                raise ModuleNotFoundError("." * statement.level + (statement.module or name))
            module = package[: len(package) - statement.level + 1] + module
        elif not self._is_here(module):
            return []
        files = self._module(module)
        if name == "*":
            return files + self._starred(module)
        return files + self._attribute(module, name)

    def _attribute(self, module: Parts, name: str) -> list[str]:
        """Return the files that the import of a name runs in addition to its module."""
        file, inner = self.file(module), (*module, name)
        names = self._lazy_names(file or "")
        if name in names:
            return self._module((*module, *names[name].split(".")))
        if self.file(inner) or self._is_folder(inner):
            return self._module(inner)
        if file is None or (names and name not in _defined(self.parse(file))):
            raise ModuleNotFoundError(".".join(inner))
        for item in self.imports(file):
            if item.bound == name and isinstance(item.statement, ast.Import):
                lazy = tuple(item.alias.name.split("."))
                return self._all(lazy) if self._is_lazy(lazy) else []
        return []

    def _starred(self, module: Parts) -> list[str]:
        file = self.file(module)
        if file is None or not file.endswith("/__init__.py"):
            return []
        if self._lazy_names(file):
            return self._all(module)
        names = self.literal(file, "__all__") or ()
        return [
            other
            for name in names  # pyrefly: ignore[not-iterable]
            if self.file((*module, name))
            for other in self._module((*module, name))
        ]

    def _used(self, file: str, name: str, package: Parts) -> list[str]:
        """Return the files that run for the attributes of a lazy package that a file uses."""
        if not self._is_lazy(package):
            return []
        names, nodes = self._lazy_names(self.file(package) or ""), list(ast.walk(self.parse(file)))
        attributes = {
            id(node.value): node.attr for node in nodes if isinstance(node, ast.Attribute)
        }
        uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == name]
        files = []
        for attribute in dict.fromkeys(attributes.get(id(node), "") for node in uses):
            if attribute in names:
                files += self._module((*package, *names[attribute].split(".")))
            elif not (attribute.startswith("__") and attribute.endswith("__")):
                return self._all(package)
        return files

    def _module(self, module: Parts) -> list[str]:
        """Return the files that the import of a module runs, with those of its packages."""
        files = []
        for end in range(1, len(module) + 1):
            if file := self.file(module[:end]):
                files.append(file)
            elif not self._is_folder(module[:end]):
                raise ModuleNotFoundError(".".join(module))
        return files

    def _all(self, package: Parts) -> list[str]:
        paths = sorted(self.root.joinpath(*package).rglob("*.py"))
        return [path.relative_to(self.root).as_posix() for path in paths]

    def _is_folder(self, module: Parts) -> bool:
        return self.root.joinpath(*module).is_dir()

    def _is_here(self, module: Parts) -> bool:
        """Return whether an import belongs to this project: a module, or a folder with modules."""
        return self.file(module[:1]) is not None or any((self.root / module[0]).rglob("*.py"))

    def _is_lazy(self, module: Parts) -> bool:
        return bool(self._lazy_names(self.file(module) or ""))

    def _lazy_names(self, file: str) -> dict[str, str]:
        """Return the module of every name of a lazy package; for another file, nothing."""
        table = self.literal(file, LAZY) if file.endswith("/__init__.py") else None
        # pyrefly: ignore[missing-attribute]
        return {name: module for module, names in (table or {}).items() for name in names}


def _imports(nodes: Iterable[ast.AST], may_fail: bool = False) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (Import(node, alias, may_fail) for alias in node.names)
        elif isinstance(node, ast.If) and _is_type_checking(node):
            yield from _imports(node.orelse, may_fail)
        elif isinstance(node, ast.Try | ast.TryStar):
            yield from _imports(node.body, may_fail or any(map(_catches, node.handlers)))
            yield from _imports([*node.handlers, *node.orelse, *node.finalbody], may_fail)
        elif isinstance(node, WITH_STATEMENTS):
            yield from _imports(ast.iter_child_nodes(node), may_fail)


def _catches(handler: ast.ExceptHandler) -> bool:
    """Return whether this handler catches an ImportError."""
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(node, ast.Name) and node.id in IMPORT_ERRORS for node in types)


def _is_type_checking(node: ast.AST) -> bool:
    test = getattr(node, "test", None)
    names = getattr(test, "id", None), getattr(test, "attr", None)
    return isinstance(node, ast.If) and "TYPE_CHECKING" in names


def _is_left_out(node: ast.AST, is_lazy: bool) -> bool:
    name = _assigned(node)
    if not is_lazy:
        return name == FOLLOWED
    return _is_docstring(node) or _is_type_checking(node) or name in (FOLLOWED, *TABLES)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _assigned(node: ast.AST) -> str | None:
    """Return the name that a statement assigns a value to."""
    target = None
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        target = node.target
    return target.id if isinstance(target, ast.Name) else None


def _defined(tree: ast.Module) -> set[str]:
    """Return the names that a module defines, outside functions and classes."""
    nodes = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    bound = {item.bound for item in _imports([tree])}
    return bound | {node.name for node in nodes} | {_assigned(node) or "" for node in tree.body}
