"""What tests of the graph share."""

import shutil

import pytest
from project import Project


@pytest.fixture
def copy(project, tmp_path):
    """A copy of a test file's reproduced project, outputs and cache included, for tests that change
    it.
    """
    shutil.copytree(project.folder, tmp_path / "copy", symlinks=True)
    return Project(tmp_path / "copy")
