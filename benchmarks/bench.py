"""Time what the project promises, each in a fresh process and from an empty cache, beside its
limit.

    python benchmarks/bench.py [repro] [test]

repro: `dvc repro`, the whole graph of the first paper, in a fresh clone: 600 s, one run.
test: all tests in a fresh clone: 600 s, one run.

Beside each: how long a plain loop takes, before and after, for a shared machine is not always
equally fast; and for the graph what its stages need themselves, without starting a process for
each, and without DVC.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MIRROR = ROOT.parent / "shared" / "data" / "mirror"
COMMANDS = {"repro": ["dvc", "repro"], "test": [sys.executable, "-m", "pytest"]}
LIMITS = {"repro": 600.0, "test": 600.0}


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    data = os.environ.get("COLLECTIVE_VARIABLES_DATA") or (str(MIRROR) if MIRROR.is_dir() else "")
    return os.environ | {"PATH": path, "COLLECTIVE_VARIABLES_DATA": data}


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def in_fresh_clone(command: list[str]) -> tuple[float, float]:
    """The seconds that a command took there, and those of the stages that it ran."""
    with tempfile.TemporaryDirectory() as folder:
        run(["git", "clone", "--quiet", str(ROOT), "clone"], Path(folder))
        start = time.perf_counter()
        run(command, Path(folder) / "clone")
        took = time.perf_counter() - start
        metas = (Path(folder) / "clone" / "nodes").glob("*/*/node-meta.json")
        return took, sum(json.loads(path.read_text())["run_time"] for path in metas)


def plain_loop() -> float:
    """Seconds of ten million steps of Python."""
    start = time.perf_counter()
    for _ in range(10_000_000):
        pass
    return time.perf_counter() - start


def main() -> None:
    names = sys.argv[1:] or list(LIMITS)
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(f"{'what':8}{'seconds':>10}{'limit':>8}{'stages':>10}{'loop before':>13}{'after':>8}")
    for name in names:
        before = plain_loop()
        took, of_stages = in_fresh_clone(COMMANDS[name])
        stages = f"{of_stages:.1f}" if of_stages else ""
        print(
            f"{name:8}{took:10.1f}{LIMITS[name]:8.0f}{stages:>10}{before:13.2f}{plain_loop():8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
