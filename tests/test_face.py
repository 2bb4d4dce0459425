"""The public face: its names, when they load, and that examples print what they say."""

import ast
import doctest
import inspect
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import collective_variables as cv

ROOT = Path(__file__).resolve().parents[1]


def is_documented(value):
    """Whether a public value is a function or class that people call."""
    return callable(value) and not (inspect.isclass(value) and issubclass(value, Warning))


DOCUMENTED = [name for name in cv.__all__ if is_documented(getattr(cv, name))]


def test_every_public_name_is_there_and_listed():
    assert sorted(cv.__all__) == sorted(cv._HOMES)
    assert {"__version__", *cv.__all__} == set(dir(cv))
    for name in cv.__all__:
        assert getattr(cv, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'entropie'"):
        cv.entropie  # noqa: B018


def test_the_stub_for_type_checkers_has_the_same_names():
    stub = ast.parse((ROOT / "collective_variables" / "__init__.pyi").read_text())
    homes = {
        alias.asname: node.module.removeprefix("collective_variables.")
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes == cv._HOMES


def test_the_import_loads_no_jax_and_no_room():
    program = """
import sys
import collective_variables
heavy = {"jax", "numpy", "pandas", "flax", "scipy"} & set(sys.modules)
rooms = [name for name in sys.modules if name.startswith("collective_variables.")]
print(sorted(heavy), rooms)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_docstring_says_what_goes_in_and_out_and_shows_an_example(name):
    value = getattr(cv, name)
    words = inspect.getdoc(value) or ""
    assert len(words.splitlines()[0]) <= 100
    assert ">>> " in words, f"{name} has no example"
    if not inspect.isclass(value):
        for part in ("Args:", "Returns:"):
            assert part in words, f"{name} has no {part}"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_example_prints_what_it_says(name, capsys):
    value = getattr(cv, name)
    test = doctest.DocTestFinder(recurse=False).find(value, name, globs={})[0]
    assert test.examples
    promotion = jax.config.jax_numpy_dtype_promotion
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    jax.config.update("jax_numpy_rank_promotion", "allow")
    try:
        results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test)
    finally:
        jax.config.update("jax_numpy_dtype_promotion", promotion)
        jax.config.update("jax_numpy_rank_promotion", "raise")
    assert results.failed == 0, capsys.readouterr().out
