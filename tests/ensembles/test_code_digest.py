"""The digest of the library's code, by which workers with other code are refused."""

import shutil

import pytest

from collective_variables.ensembles import dask_cluster


@pytest.fixture
def checkout(tmp_path):
    """A copy of the library at another path."""
    ignored = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(dask_cluster.PACKAGE, tmp_path / "elsewhere" / "copy", ignore=ignored)


def test_the_digest_of_the_code_does_not_depend_on_the_path_of_the_checkout(checkout):
    here = dask_cluster.code_digest(dask_cluster.PACKAGE)
    assert dask_cluster.code_digest(checkout) == here
    (checkout / "notes.txt").write_text("no code")
    assert dask_cluster.code_digest(checkout) == here


def test_an_edit_in_any_sub_package_changes_the_digest_of_the_code(checkout):
    before = dask_cluster.code_digest(checkout)
    packages = [path.parent for path in checkout.rglob("__init__.py")]
    assert {"ensembles", "kernels", "observables"} < {package.name for package in packages}
    for package in packages:
        module = max(package.glob("*.py"))
        text = module.read_text()
        module.write_text(text + "\n")
        assert dask_cluster.code_digest(checkout) != before, package.name
        module.write_text(text)
    assert dask_cluster.code_digest(checkout) == before


def test_text_that_moves_between_files_and_a_new_name_change_the_digest(tmp_path):
    digests = set()
    for name, first, second in (
        ("b", "x = 1\n", "y = 2\n"),
        ("b", "x = 1\ny = 2\n", ""),
        ("c", "x = 1\n", "y = 2\n"),
    ):
        folder = tmp_path / str(len(digests))
        folder.mkdir()
        (folder / "a.py").write_text(first)
        (folder / f"{name}.py").write_text(second)
        digests.add(dask_cluster.code_digest(folder))
    assert len(digests) == 3
