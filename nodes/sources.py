"""The project's own files that a stage runs, so that an edit of one of them makes the stage
stale.
"""

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Ten times as fast as Python's own parser, which every start of a stage would wait for. What looks
# like an import and is none, in a text, counts for nothing unless there is a file of that name.
IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|.*)|import[ \t]+(.*))", re.MULTILINE
)


def of(file: str, *others: str) -> tuple[str, ...]:
    """The file of a stage, all that it imports from this project, and `others`, as paths from the
    project's root.

    Imports are followed through the library. Of another module in nodes/ only its own file counts:
    it has the loader of that stage's results, and what it calls makes that stage stale, which this
    one follows if the results change.
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


def of_module(path: str) -> tuple[str, ...]:
    """The files of this project that the module at an import path, or that has what is at it, runs;
    none of another's.
    """
    parts = str(path).split(".")
    for end in (len(parts), len(parts) - 1):
        for file in ("/".join(parts[:end]) + ".py", "/".join([*parts[:end], "__init__.py"])):
            if end and (ROOT / file).is_file():
                return of(str(ROOT / file))
    return ()


def digest(paths: Iterable[str]) -> str:
    """A name for the content of files."""
    found = hashlib.sha256()
    for path in paths:
        found.update(Path(path).read_bytes())
    return found.hexdigest()[:16]


@cache
def _imports(file: str) -> frozenset[str]:
    """The files of this project that `file` imports itself."""
    modules = set()
    for module, names, alone in IMPORT.findall((ROOT / file).read_text()):
        modules |= set(re.findall(r"[\w.]+", alone))
        modules |= {module, *(f"{module}.{name}" for name in re.findall(r"\w+", names))}
    paths = {module.replace(".", "/") + ".py" for module in modules if module}
    return frozenset(path for path in paths if (ROOT / path).is_file())
