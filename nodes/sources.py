"""The project's own files that a stage runs, so that an edit of one of them makes the stage stale."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def of(file: str, *others: str) -> tuple[str, ...]:
    """The file of a stage, all that it imports from this project, and `others`, as paths from the project's root.

    Imports are followed through the library. Of another module in nodes/ only its own file counts: it has the loader of
    that stage's results, and what it calls makes that stage stale, which this one follows if the results change.
    """
    own = str(Path(file).resolve().relative_to(ROOT))
    found, waiting = {own}, [own]
    while waiting:
        current = waiting.pop()
        if current == own or not current.startswith("nodes/"):
            new = _imports(current) - found
            found |= new
            waiting += new
    return (*sorted(found), *others)


@cache
def _imports(file: str) -> frozenset[str]:
    """The files of this project that `file` imports itself."""
    modules = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    paths = {module.replace(".", "/") + ".py" for module in modules if module}
    return frozenset(path for path in paths if (ROOT / path).is_file())
