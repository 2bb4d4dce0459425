"""Time what the project promises, each in a fresh process and from an empty cache, beside its limit.

    python benchmarks/bench.py [rnd] [repro] [test]

rnd: RND on Fuel, 100 points, 100 epochs a re-training, 20 members, compilation included: 8 s, three runs.
repro: `dvc repro` of the whole graph in a fresh clone: 600 s, one run.
test: all tests in a fresh clone: 600 s, one run.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIRROR = ROOT.parent / "shared" / "data" / "mirror"
RND = """
import time, jax
from collective_variables import datasets, networks, rnd
pool = datasets.load("fuel").inputs
network = networks.build(["dense 32", "dense 32", "dense 32", "dense 1"], parametrisation="ntk")
start = time.perf_counter()
rnd.select(pool, network, n_selected=100, n_members=20, key=jax.random.key(0))
print(time.perf_counter() - start)
"""
LIMITS = {"rnd": 8.0, "repro": 600.0, "test": 600.0}


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    data = os.environ.get("COLLECTIVE_VARIABLES_DATA") or (str(MIRROR) if MIRROR.is_dir() else "")
    return os.environ | {"PATH": path, "COLLECTIVE_VARIABLES_DATA": data}


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def in_fresh_clone(command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        run(["git", "clone", "--quiet", str(ROOT), "clone"], Path(folder))
        start = time.perf_counter()
        run(command, Path(folder) / "clone")
        return time.perf_counter() - start


def measure(name: str) -> list[float]:
    if name == "rnd":
        return [float(run([sys.executable, "-c", RND], ROOT)) for _ in range(3)]
    command = {"repro": ["dvc", "repro"], "test": [sys.executable, "-m", "pytest"]}[name]
    return [in_fresh_clone(command)]


def main() -> None:
    names = sys.argv[1:] or list(LIMITS)
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(f"{'what':8}{'runs':>6}{'fastest':>10}{'median':>10}{'slowest':>10}{'limit':>8}   seconds")
    for name in names:
        seconds = measure(name)
        row = (min(seconds), statistics.median(seconds), max(seconds))
        print(f"{name:8}{len(seconds):6}" + "".join(f"{value:10.1f}" for value in row) + f"{LIMITS[name]:8.0f}")


if __name__ == "__main__":
    main()
