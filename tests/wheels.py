"""The wheel of what git tracks, and commands that meet nothing of this folder."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*command, folder):
    """What a command prints on standard output; its errors are shown if it fails."""
    # A library in the working directory or on the path would hide what is missing from the wheel.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def build_wheel(folders):
    """Build the wheel from a clone. folders: pytest's `tmp_path_factory`."""
    source, folder = folders.mktemp("source"), folders.mktemp("wheel")
    run("git", "clone", "--quiet", ROOT, source / "clone", folder=source)
    options = ("--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "wheel", *options, "-w", folder, ".", folder=source / "clone")
    return next(folder.glob("*.whl"))


@contextmanager
def environment(python, *requirements) -> Iterator[Path]:
    """The programs of a new environment, which is a gigabyte and so is removed at once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(python, "-m", "venv", folder, folder=folder)
        options = ("--quiet", "--disable-pip-version-check")
        run(folder / "bin" / "pip", "install", *options, *requirements, folder=folder)
        yield folder / "bin"
