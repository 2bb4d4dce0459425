"""The layout of the library: arrows run one way, rooms are small, names are words of the field."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "collective_variables"
# From the ground up. A package imports itself and lower floors, and no other on its own floor.
FLOORS = [
    {"ensembles", "networks", "data"},
    {"kernels"},
    {"observables", "selection"},
    {"training"},
    {"experiment"},
    {"analysis"},
    {"papers", "active_learning"},
    {"cli"},
]
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}
MOST_LINES, MOST_MODULES = 350, 12
MODULES = sorted(LIBRARY.rglob("*.py"))
CODE = [*MODULES, *sorted((ROOT / "nodes").glob("*.py")), ROOT / "main.py"]


def name(path):
    return str(path.relative_to(ROOT))


def imported(path):
    """The modules of the library that a file imports, as dotted paths below the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(LIBRARY.name):
            parent = node.module.removeprefix(LIBRARY.name).removeprefix(".")
            for alias in node.names:
                yield f"{parent}.{alias.name}".strip(".") if parent.count(".") == 0 else parent
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith(f"{LIBRARY.name}."):
                    yield alias.name.removeprefix(f"{LIBRARY.name}.")


def room(module):
    return module.partition(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_arrows_run_one_way(path):
    own = path.relative_to(LIBRARY).with_suffix("").parts[0]
    for module in imported(path):
        target = room(module)
        if target.startswith("_") or own == "__main__":
            continue
        assert own in FLOOR, f"{own} is on no floor and must not import {module}"
        assert target == own or FLOOR[target] < FLOOR[own], f"{own} imports {module}"


def test_the_face_imports_nothing_of_the_library():
    assert list(imported(LIBRARY / "__init__.py")) == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_of_the_ground_floor_imports_no_room(path):
    if path.parent == LIBRARY and path.stem.startswith("_") and not path.stem.startswith("__"):
        assert all(room(module).startswith("_") for module in imported(path))


@pytest.mark.parametrize("path", CODE, ids=name)
def test_modules_are_short(path):
    n_lines = len(path.read_text().splitlines())
    assert n_lines <= MOST_LINES, f"{name(path)} has {n_lines} lines: move a subject of it out"


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=name)
def test_folders_are_small(folder):
    modules = [path for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__")]
    assert len(modules) <= MOST_MODULES, f"{name(folder)}: put what belongs together in a folder"


@pytest.mark.parametrize("path", CODE, ids=name)
def test_the_library_is_imported_by_module_and_not_by_its_face(path):
    """The face would make every stage depend on all of the library."""
    for module in imported(path):
        assert module, f"{name(path)} imports the face"
        target = LIBRARY / module.replace(".", "/")
        parent = target.parent
        assert any(
            place.with_suffix(".py").is_file() or place.is_dir() for place in (target, parent)
        ), module


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_says_in_a_sentence_what_it_is(path):
    words = ast.get_docstring(ast.parse(path.read_text()))
    assert words, name(path)


@pytest.mark.parametrize("path", [*CODE, *sorted((ROOT / "tests").rglob("*.py"))], ids=name)
def test_nothing_is_called_of(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
    assert not [
        name for name in names if name.strip("_") == "of" or name.lstrip("_").startswith("of_")
    ]
