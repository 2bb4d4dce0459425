"""The wheel of what git tracks, and commands that meet nothing of this folder."""

import email
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
TAG = sys.implementation.cache_tag
VERSION = "import sysconfig; print(sysconfig.get_python_version())"
SITE = "import sysconfig; print(sysconfig.get_path('purelib'))"
# Modules are compiled once, which in some environments they are not; programs of JAX as quickly
# as in the other tests, but without flags that the newest may not know.
LEFT_OUT = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "XLA_FLAGS")
QUICKLY = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def run(*command, folder):
    """What a command prints on standard output; its errors are shown if it fails."""
    # A library in the working directory or on the path would hide what is missing from the wheel.
    environment = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    process = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment | QUICKLY,
        capture_output=True,
        text=True,
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
def environment(python, wheel, extra="", options=()) -> Iterator[Path]:
    """The programs of a new environment with a wheel, which is removed at once. options: of pip.

    What the wheel requires and is installed here is linked, so that pip need not unpack a gigabyte.
    Whether that is all, and new enough, pip finds out itself.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = folder / "bin"
        if run(python, "-c", VERSION, folder=folder).split() == [sysconfig.get_python_version()]:
            run(python, "-m", "venv", "--without-pip", folder, folder=folder)
            site = run(programs / "python", "-c", SITE, folder=folder)
            link_required(wheel, extra, Path(site.strip()))
            pip = (sys.executable, "-m", "pip", "--python", programs / "python")
        else:
            run(python, "-m", "venv", folder, folder=folder)
            pip = (programs / "python", "-m", "pip")
        always = ("--quiet", "--disable-pip-version-check", "--no-compile")
        required = f"{wheel}[{extra}]" if extra else wheel
        run(*pip, "install", *always, *options, required, folder=folder)
        yield programs


def link_required(wheel, extra, site):
    """Link all packages of this environment that a wheel with an extra requires, and no others."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    waiting, seen = [(metadata.get_all("Requires-Dist"), extra)], set()
    while waiting:
        requirements, extra = waiting.pop()
        for required in map(Requirement, requirements or ()):
            if required.marker and not required.marker.evaluate({"extra": extra}):
                continue
            package = importlib.metadata.distribution(required.name)
            wanted = {(package.name, part) for part in ("", *required.extras)} - seen
            if (package.name, "") in wanted:
                link_package(package, site)
            waiting += [(package.requires, part) for _, part in wanted]
            seen |= wanted


def link_package(package, site):
    """Link the modules and data of a package, but no program, and what Python compiled of them."""
    here, folders = str(package.locate_file("")), {}
    for file in map(str, package.files):
        folder, _, name = file.rpartition("/")
        if not file.startswith("..") and not folder.endswith("__pycache__"):
            folders.setdefault(folder, []).append(name)
    for folder, names in folders.items():
        compiled = f"{here}/{folder}/__pycache__"
        pairs = [(f"{here}/{folder}/{name}", f"{site}/{folder}/{name}") for name in names]
        os.makedirs(f"{site}/{folder}/__pycache__", exist_ok=True)
        if os.path.isdir(compiled):
            stems = {name.removesuffix(".py") for name in names}
            pairs += [
                (f"{compiled}/{name}", f"{site}/{folder}/__pycache__/{name}")
                for name in os.listdir(compiled)
                if name.endswith(f".{TAG}.pyc") and name.split(".")[0] in stems
            ]
        for origin, place in pairs:
            try:
                os.link(origin, place)
            except OSError:  # on another disk
                shutil.copy2(origin, place)
