"""Time what the project promises, each in a fresh process and from an empty cache, beside its limit.

    python benchmarks/bench.py [repro] [test]

repro: `dvc repro`, the whole graph of the first paper, in a fresh clone: 600 s, one run.
test: all tests in a fresh clone: 600 s, one run.
"""

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


def in_fresh_clone(command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        run(["git", "clone", "--quiet", str(ROOT), "clone"], Path(folder))
        start = time.perf_counter()
        run(command, Path(folder) / "clone")
        return time.perf_counter() - start


def main() -> None:
    names = sys.argv[1:] or list(LIMITS)
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(f"{'what':8}{'seconds':>10}{'limit':>8}")
    for name in names:
        print(f"{name:8}{in_fresh_clone(COMMANDS[name]):10.1f}{LIMITS[name]:8.0f}", flush=True)


if __name__ == "__main__":
    main()
