"""Compare the forecast of `--dry-run` with the time and memory of the same command.

    python -m benchmarks.bench_forecast [case ...]

Each command runs twice on synthetic files, each time in a separate process: first with --dry-run,
then without it. A forecast passes if the seconds lie within its range, the middle of the range is
within a factor of 2 of them, and its bytes are within a factor of 1.5. It must take at most 5
seconds or a tenth of the run. The seconds of both include the start of Python and
the reading of the file; the time of the forecast does not.

Other work on the machine changes the seconds between the two runs: use an idle machine.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
FACTOR = 2.0  # of seconds
MEMORY_FACTOR = 1.5
MOST_SECONDS, SHARE = 5.0, 0.1  # that a forecast may take
GIB = 2**30


def write_table(path: Path, n_rows: int) -> None:
    """Write a table of eight numbers, a category and a target that depends on three numbers."""
    generator = np.random.default_rng(0)
    numbers = generator.normal(size=(n_rows, 8)).round(5)
    table = pd.DataFrame(numbers, columns=[f"x{i}" for i in range(8)])
    table["kind"] = generator.choice(list("abcd"), n_rows)
    noise = 0.1 * generator.normal(size=n_rows)
    table["y"] = 2 * np.sin(numbers[:, 0]) + numbers[:, 1] * numbers[:, 2] + noise
    table.to_csv(path, index=False)


def write_labels(path: Path, n_rows: int, n_labelled: int) -> None:
    """Write such a table in which only the first rows have a target."""
    write_table(path, n_rows)
    table = pd.read_csv(path)
    table.assign(y=table["y"].where(table.index < n_labelled)).to_csv(path, index=False)


def write_embeddings(path: Path, n_rows: int, n_features: int) -> None:
    """Write embeddings near a subspace of 32 dimensions."""
    generator = np.random.default_rng(0)
    points = generator.normal(size=(n_rows, 32)) @ generator.normal(size=(32, n_features))
    noise = 0.3 * generator.normal(size=points.shape)
    np.save(path, (points + noise).astype(np.float32))


def write_images(path: Path, n_images: int, size: int) -> None:
    """Write coloured images with some structure, in folders of three classes."""
    generator = np.random.default_rng(0)
    for number in range(n_images):
        folder = path / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        tiles = generator.normal(size=(4, 4, 3)).repeat(size // 4, 0).repeat(size // 4, 1)
        noise = 20 * generator.normal(size=(size, size, 3))
        pixels = 128 + 60 * tiles + noise + 20 * (number % 3)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")


FILES: dict[str, Callable[[Path], None]] = {
    "houses.csv": lambda path: write_table(path, 1000),
    "middle.csv": lambda path: write_table(path, 5000),
    "large.csv": lambda path: write_table(path, 50_000),
    "labels.csv": lambda path: write_labels(path, 20_000, 200),
    "embeddings.npy": lambda path: write_embeddings(path, 20_000, 512),
    "photos": lambda path: write_images(path, 60, 224),
    "images": lambda path: write_images(path, 300, 32),
    "small-images": lambda path: write_images(path, 400, 16),
}
COMMANDS = {
    "table": "select large.csv --target y --n-points 1000",
    "embeddings": "select embeddings.npy --n-points 1000",
    "photos": "select photos --ignore class --n-points 3",
    "labels": "select labels.csv --target y --n-points 32",
    "small-table": "select houses.csv --target y --n-points 100",
    "rnd": "select small-images --target class --method rnd --n-points 10",
    "k-center": "select embeddings.npy --method k-center --n-points 300",
    "facility-location": "select middle.csv --target y --method facility-location --n-points 300",
    "greedy": "select middle.csv --target y --method greedy --n-points 100",
    "log-determinant": "select middle.csv --target y --method log-determinant --n-points 300",
    "compare-table": "compare houses.csv --target y --n-points 20 50 100",
    "compare-rounds": "compare houses.csv --target y --rounds 5 --n-points 20 --methods lcmd bait",
    "compare-images": "compare images --target class --n-points 50 100 --members 3 --epochs 150",
    "measure": "measure middle.csv --target y --n-points 100 1000 --members 10",
}


class Case(NamedTuple):
    """Forecast and measured seconds and bytes, and the seconds of the forecast."""

    low: float
    high: float
    seconds: float
    forecast_bytes: int
    n_bytes: int
    took: float

    @property
    def ratio(self) -> float:
        """The middle of the range divided by the seconds of the run."""
        return math.sqrt(self.low * self.high) / self.seconds

    def failures(self) -> list[str]:
        """Return the conditions that the forecast missed."""
        within = self.low <= self.seconds <= self.high
        memory = self.forecast_bytes / self.n_bytes
        checks = {
            "range": within,
            "seconds": 1 / FACTOR <= self.ratio <= FACTOR,
            "memory": 1 / MEMORY_FACTOR <= memory <= MEMORY_FACTOR,
            "slow": self.took <= max(MOST_SECONDS, SHARE * self.seconds),
        }
        return [name for name, holds in checks.items() if not holds]

    def line(self, name: str) -> str:
        """Return the case as a line of the table."""
        verdict = ", ".join(self.failures()) or "pass"
        memory = f"{self.forecast_bytes / GIB:>9.2f}{self.n_bytes / GIB:>6.2f}"
        seconds = f"{self.low:>7.1f} to {self.high:>6.1f}{self.seconds:>8.1f}{self.ratio:>7.2f}"
        return f"{name:18}{seconds}{memory}{self.took:>10.1f}   {verdict}"


def run(arguments: list[str], folder: Path) -> tuple[str, float, int]:
    """Return the output of a command, its seconds, and its bytes at the peak."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "collective_variables", *arguments, "--quiet", "--json"]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE)
    printed = process.stdout.read().decode() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}.")
    return printed, seconds, 1024 * usage.ru_maxrss


def compare(command: str, folder: Path) -> Case:
    """Forecast a command, run it, and return both."""
    arguments = command.split()
    forecast = json.loads(run([*arguments, "--dry-run"], folder)[0])
    _, seconds, n_bytes = run(arguments, folder)
    return Case(*forecast["seconds"], seconds, forecast["bytes"], n_bytes, forecast["took"])


def main() -> None:
    """Run the cases that are named, or all, and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="case", choices=[*COMMANDS, []])
    names = parser.parse_args().names or list(COMMANDS)
    print(f"{os.cpu_count()} cores, {platform.machine()}", flush=True)
    print(
        f"{'case':18}{'forecast, s':>17}{'run, s':>8}{'ratio':>7}{'GiB, fc':>9}{'run':>6}"
        f"{'fc took':>10}   failed",
        flush=True,
    )
    failed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in names:
            path = folder / COMMANDS[case].split()[1]
            if not path.exists():
                FILES[path.name](path)
            result = compare(COMMANDS[case], folder)
            print(result.line(case), flush=True)
            failed += [case] * bool(result.failures())
    print(f"{len(names) - len(failed)} of {len(names)} forecasts pass")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
