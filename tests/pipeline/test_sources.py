"""The code that a stage runs: every import is followed, and an edit reruns what runs the file."""

import re
import subprocess
import sys
import textwrap

import pytest
from project import ROOT

from collective_variables.data.problems import PROBLEMS
from nodes import _sources, load_dataset
from nodes._imports import SourceError, Tree

LAZY = {
    "lib/__init__.py": """
        _MODULES = {"inner.far": ("f", "g"), "near": ("h",)}
        __all__ = ["f", "g", "h"]

        def __getattr__(name):
            return name
    """,
    "lib/inner/__init__.py": "",
    "lib/inner/far.py": "from lib import _low\n",
    "lib/near.py": "",
    "lib/_low.py": "",
}
FAR = ["lib/__init__.py", "lib/inner/__init__.py", "lib/inner/far.py", "lib/_low.py"]
WHOLE = [
    *("lib/__init__.py", "lib/_low.py", "lib/inner/__init__.py", "lib/inner/far.py"),
    "lib/near.py",
]


def make_tree(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())
    return Tree(folder)


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        ("import a.b\n", {"a/__init__.py": "", "a/b.py": ""}, ["a/__init__.py", "a/b.py"]),
        ("import a.b as x, numpy as np\n", {"a/b.py": ""}, ["a/b.py"]),
        ("from a import b\n", {"a/b.py": "import c\n", "c.py": ""}, ["a/b.py", "c.py"]),
        ("from a import b\n", {"a/__init__.py": "b = 1\n"}, ["a/__init__.py"]),
        ("from a import (\n    b,\n    c as x,\n)\n", {"a/b.py": "", "a/c.py": ""}, ["a/b.py", "a/c.py"]),
        ("from a.b import f\n", {"a/__init__.py": "from a import c\n", "a/b.py": "", "a/c.py": ""},
         ["a/__init__.py", "a/c.py", "a/b.py"]),
        ("import p\n", {"p/__init__.py": "from .q import *\n", "p/q.py": "from . import r\n", "p/r.py": ""},
         ["p/__init__.py", "p/q.py", "p/r.py"]),
        ("import p.s.t\n", {"p/s/t.py": "from ..u import v\nfrom ...w import x\n", "p/u.py": ""}, None),
        ("import p.s.t\n", {"p/s/t.py": "from ..u import v\n", "p/u.py": ""}, ["p/s/t.py", "p/u.py"]),
        ("from p import *\n", {"p/__init__.py": "__all__ = ['q']\n", "p/q.py": ""},
         ["p/__init__.py", "p/q.py"]),
        ("def f():\n    try:\n        import a\n    finally:\n        pass\n", {"a.py": ""}, ["a.py"]),
        ("if True:\n    import a\n", {"a.py": "import main\n"}, ["a.py"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a\nelse:\n    import b\n",
         {"a.py": "", "b.py": ""}, ["b.py"]),
        ("import typing\nif typing.TYPE_CHECKING:\n    import a\n", {"a.py": ""}, []),
        ("'''\nimport a\n'''\n# import a\n", {"a.py": ""}, []),
        ("from lib import f\n", LAZY, FAR),
        ("from lib import f as k\n", LAZY, FAR),
        ("import lib as cv\ncv.h()\n", LAZY, ["lib/__init__.py", "lib/near.py"]),
        ("import lib\nprint(lib.f, lib.__version__)\n", LAZY, FAR),
        ("import lib\n", LAZY, ["lib/__init__.py"]),
        ("import lib\nf = getattr(lib, 'f')\n", LAZY, WHOLE),
        ("import lib as cv\ncv.other\n", LAZY, WHOLE),
        ("from lib import *\n", LAZY, WHOLE),
        ("import a\na.cv.f\nfrom a import cv\n", LAZY | {"a.py": "import lib as cv\n"}, ["a.py", *WHOLE]),
        ("from lib.inner import far\n", LAZY, FAR),
    ],
)  # fmt: skip
def test_the_files_that_run_are_followed_in_the_order_of_their_imports(
    text, files, expected, tmp_path
):
    tree = make_tree(tmp_path, {"main.py": text} | files)
    if expected is None:
        with pytest.raises(SourceError):
            tree.follow("main.py")
    else:
        followed = tree.follow("main.py")
        assert [file for file in followed if file != "main.py"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = 1\nimport lib.none\n", "main.py:2: no file of the project is the module lib.none."),
        ("from lib import none\n", "main.py:1: no file of the project is the module lib.none."),
        ("from pkg import none\n", "main.py:1: no file of the project is the module pkg.none."),
        ("from . import near\n", "main.py:1: no file of the project is the module .near."),
        ("import lib.near, (\n", "main.py:1: invalid syntax"),
        ("from bad import lazy\n", "bad/__init__.py:1: _MODULES must be written out."),
    ],
)
def test_an_import_that_no_file_belongs_to_is_one_error_with_its_line(text, expected, tmp_path):
    files = {"main.py": text, "pkg/a.py": "", "bad/__init__.py": "_MODULES = dict(a=1)\n"}
    with pytest.raises(SourceError, match=re.escape(expected)):
        make_tree(tmp_path, LAZY | files).follow("main.py")


@pytest.mark.parametrize(
    "handler", ["except ImportError", "except (KeyError, ModuleNotFoundError)", "except"]
)
def test_an_import_whose_error_is_caught_may_have_no_file(handler, tmp_path):
    text = f"try:\n    import lib.none\n{handler}:\n    import lib.near\n"
    assert "lib/near.py" in make_tree(tmp_path, LAZY | {"main.py": text}).follow("main.py")
    caught = "try:\n    import lib.none\nexcept KeyError:\n    import lib.near\n"
    with pytest.raises(SourceError):
        make_tree(tmp_path, LAZY | {"main.py": caught}).follow("main.py")


LOADED = """
import importlib, sys
importlib.import_module(sys.argv[1])
print(*(getattr(module, "__file__", None) for module in list(sys.modules.values())), sep="\\n")
"""


@pytest.mark.parametrize("module", ["compute_ntk", "findings", "load_file"])
def test_the_files_that_are_followed_are_those_that_python_loads(module):
    tree, file = Tree(ROOT), f"nodes/{module}.py"
    command = [sys.executable, "-c", LOADED, f"nodes.{module}"]
    output = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=True).stdout
    paths = [line.removeprefix(f"{ROOT}/") for line in output.splitlines()]
    loaded = {path for path in paths if re.match(r"(collective_variables|nodes)/", path)}
    followed = set(tree.follow(file))
    assert loaded <= followed
    # An import inside a function is followed and not loaded.
    assert followed - loaded <= inside_functions(tree, followed)


def inside_functions(tree, files):
    """The files that imports inside functions run."""
    inside = set()
    for file in files:
        top = {id(statement) for statement in tree.parse(file).body}
        items = [item for item in tree.imports(file) if id(item.statement) not in top]
        for item in items:
            inside |= set(tree.follow(*tree.imported_by(file, item)))
    return inside


STAGE = "import zntrack\nfrom nodes import _files\n\nclass First(zntrack.Node):\n    pass\n"
STAGES = LAZY | {
    "nodes/_files.py": "from lib import f\n",
    "nodes/first.py": STAGE + "\nfrom lib import h\nFOLLOWED_FILES = ('table.csv',)\n",
    "nodes/second_one.py": "from nodes import first\n\nclass SecondONE(first.First):\n    pass\n",
    "nodes/third.py": "from nodes.first import First\n\nclass Third:\n    first: First\n",
    "table.csv": "1\n",
}


def test_a_stage_runs_its_module_and_those_of_its_bases_and_no_other_stages(tmp_path):
    kinds = _sources.kinds(make_tree(tmp_path, STAGES))
    own = ["nodes/first.py", "nodes/_files.py", "lib/__init__.py", "lib/near.py", "table.csv"]
    assert kinds["First"] == own
    assert set(kinds["SecondONE"]) == {"nodes/second_one.py", *own}
    assert kinds["Third"] == ["nodes/third.py", "nodes/first.py"]


def digests(folder):
    """The digest of each kind of stage."""
    contents = _sources.contents(Tree(folder))
    return {
        path.split("/")[-1][:-4]: text for path, text in contents.items() if path.endswith(".txt")
    }


def test_a_module_that_is_renamed_alone_reruns_nothing(tmp_path):
    make_tree(tmp_path, STAGES)
    before = digests(tmp_path)
    assert len(set(before.values())) == 3
    face = tmp_path / "lib" / "__init__.py"
    face.write_text(face.read_text().replace('"near"', '"close"'))
    (tmp_path / "lib" / "near.py").rename(tmp_path / "lib" / "close.py")
    assert digests(tmp_path) == before
    assert "lib/close.py" in _sources.kinds(Tree(tmp_path))["First"]


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("lib/near.py", {"First", "SecondONE"}),
        ("lib/inner/far.py", set()),
        ("lib/__init__.py", {"First", "SecondONE"}),
        ("nodes/first.py", {"First", "SecondONE", "Third"}),
        ("nodes/second_one.py", {"SecondONE"}),
        ("nodes/_files.py", {"First", "SecondONE"}),
        ("table.csv", {"First", "SecondONE"}),
    ],
)
def test_an_edited_file_changes_the_digest_of_what_runs_it(file, changed, tmp_path):
    make_tree(tmp_path, STAGES)
    before = digests(tmp_path)
    with (tmp_path / file).open("a") as text:
        text.write("import os\n")
    after = digests(tmp_path)
    assert {kind for kind in before if after[kind] != before[kind]} == changed


def test_one_more_followed_file_reruns_what_reads_it_and_no_more(tmp_path):
    make_tree(tmp_path, STAGES | {"other.csv": "2\n"})
    before, module = digests(tmp_path), tmp_path / "nodes" / "first.py"
    module.write_text(
        module.read_text().replace("'table.csv',", "\n    'table.csv',\n    'other.csv',")
    )
    assert "other.csv" in _sources.kinds(Tree(tmp_path))["First"]
    after = digests(tmp_path)
    assert {kind for kind in before if after[kind] != before[kind]} == {"First", "SecondONE"}


def test_two_files_that_change_places_are_other_code(tmp_path):
    make_tree(
        tmp_path,
        STAGES | {"lib/near.py": "from lib import a, b\n", "lib/a.py": "1", "lib/b.py": "2"},
    )
    before = digests(tmp_path)
    make_tree(tmp_path, {"lib/a.py": "2", "lib/b.py": "1"})
    assert digests(tmp_path)["First"] != before["First"]


def test_a_new_public_name_of_a_lazy_package_changes_the_code_of_no_stage(tmp_path):
    make_tree(tmp_path, STAGES)
    before, face = digests(tmp_path), tmp_path / "lib" / "__init__.py"
    text = (
        face.read_text()
        .replace('"near": ("h",)', '"near": ("h", "k")')
        .replace('"h"]', '"h", "k"]')
    )
    face.write_text(f'"""Words."""\n\n__version__ = "2"\n{text}')
    assert digests(tmp_path) == before


def test_the_data_that_a_stage_follows_is_that_of_the_problems():
    embedded = {
        f"data/{file.name}"
        for problem in PROBLEMS.values()
        for file in problem.files
        if not file.urls
    }
    assert set(load_dataset.FOLLOWED_FILES) == embedded
