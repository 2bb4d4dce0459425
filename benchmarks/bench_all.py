"""Time what the project promises, each in a fresh clone, and compare it with its limit.

    python -m benchmarks.bench_all [repro] [clone] [test]

repro: a forced `dvc repro`, the whole graph of the first paper. "outside the stages" are the
    seconds outside the `run` of any stage: DVC, and the start of a process for each stage.
clone: git clone, `make setup`, `make repro`, and a second `make repro` with nothing to do.
test: all tests.

Next to each measurement are the seconds of a plain loop before and after it, because the speed of a
shared machine varies.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
# Seconds.
LIMITS = {
    "dvc repro": 600.0,
    "outside the stages": 100.0,
    "clone, setup and repro": 420.0,
    "second repro": 5.0,
    "tests": 600.0,
}


class Timing(NamedTuple):
    """Seconds of one measurement; `LIMITS` has a limit for some of the names."""

    name: str
    seconds: float


def environment() -> dict[str, str]:
    """Return this process's environment, with the programs of its Python first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"}


def run(command: list[str], folder: Path) -> float:
    """Run a command in a folder and return its seconds; exit if the command fails."""
    start = time.perf_counter()
    process = subprocess.run(
        command, cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE
    )
    seconds = time.perf_counter() - start
    if process.returncode:
        name = " ".join(command)
        raise SystemExit(f"{name} ended with {process.returncode}:\n{process.stdout}")
    return seconds


def clone_into(folder: Path) -> Path:
    """Clone the last commit of this project into a folder."""
    run(["git", "clone", "--quiet", str(ROOT), "clone"], folder)
    return folder / "clone"


def seconds_in_stages(project: Path) -> float:
    """Return the sum of the `run` seconds that ZnTrack writes for each stage."""
    paths = (project / "nodes").glob("*/*/node-meta.json")
    return sum(json.loads(path.read_text())["run_time"] for path in paths)


def time_repro(folder: Path) -> Iterator[Timing]:
    """Time the whole graph, and its seconds outside the stages."""
    project = clone_into(folder)
    seconds = run(["dvc", "repro", "--force"], project)
    yield Timing("dvc repro", seconds)
    yield Timing("outside the stages", seconds - seconds_in_stages(project))


def time_clone(folder: Path) -> Iterator[Timing]:
    """Time the first steps of a new user, and a second run."""
    start = time.perf_counter()
    project = clone_into(folder)
    parts = [Timing("  git clone", time.perf_counter() - start)]
    parts += [Timing(f"  make {goal}", run(["make", goal], project)) for goal in ("setup", "repro")]
    yield from parts
    yield Timing("clone, setup and repro", sum(part.seconds for part in parts))
    yield Timing("second repro", run(["make", "repro"], project))


def time_test(folder: Path) -> Iterator[Timing]:
    """Time all tests."""
    yield Timing("tests", run([sys.executable, "-m", "pytest"], clone_into(folder)))


PARTS: dict[str, Callable[[Path], Iterator[Timing]]] = {
    "repro": time_repro,
    "clone": time_clone,
    "test": time_test,
}


def time_plain_loop() -> float:
    """Return the seconds of ten million steps of Python."""
    start = time.perf_counter()
    for _ in range(10_000_000):
        pass
    return time.perf_counter() - start


def line(timing: Timing, before: float, after: float) -> str:
    """Return a line of the table."""
    limit = f"{LIMITS[timing.name]:.0f}" if timing.name in LIMITS else ""
    return f"{timing.name:24}{timing.seconds:10.1f}{limit:>8}{before:13.2f}{after:8.2f}"


def main() -> None:
    """Time the named parts, or all, and print a line for each measurement."""
    names = sys.argv[1:] or list(PARTS)
    if unknown := set(names) - set(PARTS):
        raise SystemExit(
            f"Parts must be among {', '.join(PARTS)}: received {', '.join(sorted(unknown))}."
        )
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(f"{'what':24}{'seconds':>10}{'limit':>8}{'loop before':>13}{'after':>8}")
    for name in names:
        before = time_plain_loop()
        with tempfile.TemporaryDirectory() as folder:
            for timing in PARTS[name](Path(folder)):
                print(line(timing, before, time_plain_loop()), flush=True)


if __name__ == "__main__":
    main()
