"""Compare sketched features with the exact kernel: error, time and memory.

    python -m benchmarks.bench_features

The errors are those of 200 points of the paper's networks, for several keys. That of an entry is
the root mean square over pairs of points, each divided by the geometric mean of the two diagonal
entries. Those of entropy and trace are relative, and signed: a mean away from 0 is a bias. The
spread is the standard deviation between keys.

Then the features of 100,000 images are computed in a separate process. They pass if the call,
compilation included, takes at most 60 seconds, and the process at most 2 GiB at its peak. Other
work on the machine changes the seconds: use an idle machine.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from collective_variables import _memory
from collective_variables.data import problems
from collective_variables.kernels import empirical
from collective_variables.kernels.features import sketches
from collective_variables.networks import sequential
from collective_variables.observables import spectrum

ROOT = Path(__file__).resolve().parents[1]
N_POINTS, N_KEYS = 200, 10
N_FEATURES = (64, 128, 256, 512, 1024, 2048)
# The case of time and memory, and its limits.
N_LARGE, N_LARGE_FEATURES = 100_000, 512
MOST_SECONDS, MOST_BYTES = 60.0, 2 * _memory.GIB
DENSE = ["dense 128", "dense 128", "dense 10"]


class Case(NamedTuple):
    """A network of Tovey et al. 2023, Table 2, and the points of its problem."""

    problem: str
    layers: list[str]


CASES = {
    "Fuel dense": Case("fuel", ["dense 128", "dense 128", "dense 1"]),
    "MNIST dense": Case("mnist", DENSE),
    "MNIST conv": Case(
        "mnist",
        [
            "conv 32 2x2",
            "avgpool 4x4 stride 2",
            "conv 64 2x2",
            "avgpool 4x4 stride 2",
            "dense 128",
            "dense 10",
        ],
    ),
}


def observables(kernel: np.ndarray) -> tuple[float, float]:
    """Return entropy and trace of a kernel."""
    values = spectrum.eigenvalues(jnp.asarray(kernel))
    return float(spectrum.entropy(values)), float(spectrum.trace(values))


def errors(
    compute: Callable[[int, jax.Array], np.ndarray], exact: np.ndarray, n_features: int
) -> np.ndarray:
    """Return the errors of an entry, of entropy and of trace (N_KEYS, 3), relative to the exact."""
    size = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    pairs = np.triu_indices(len(exact), 1)
    expected = np.array(observables(exact))
    rows = []
    for number in range(N_KEYS):
        features = compute(n_features, jax.random.key(number))
        kernel = features @ features.T
        deviation = ((kernel - exact) / size)[pairs]
        relative = np.array(observables(kernel)) / expected - 1
        rows.append([np.sqrt(np.mean(deviation**2)), *relative])
    return np.array(rows)


def print_errors(name: str, case: Case) -> None:
    """Print the errors of a case, a line for each number of features."""
    x = problems.load_problem(case.problem).inputs[:N_POINTS]
    network: nn.Module = sequential.build_network(case.layers)
    params = network.init(jax.random.key(0), x[:1])
    exact = np.asarray(empirical.empirical_ntk(network.apply, params, x))

    def compute(n_features: int, key: jax.Array) -> np.ndarray:
        return sketches.ntk_features(network.apply, params, x, n_features, key=key)

    for n_features in N_FEATURES:
        found = 100 * errors(compute, exact, n_features)
        columns = "".join(
            f"{mean:>+11.2f} ± {spread:5.2f}"
            for mean, spread in zip(found.mean(axis=0), found.std(axis=0, ddof=1))
        )
        print(f"{name:12}{n_features:>6}{columns}", flush=True)


def images(n_points: int) -> np.ndarray:
    """Return images of the pool, repeated with noise in their grey values."""
    pool = problems.load_problem("mnist").inputs
    generator = np.random.default_rng(0)
    points = np.empty((n_points, *pool.shape[1:]), np.float32)
    for start in range(0, n_points, len(pool)):
        part = points[start : start + len(pool)]
        noise = generator.normal(size=part.shape).astype(np.float32)
        part[...] = pool[: len(part)] + np.float32(0.05) * noise
    return points


def measure() -> dict[str, float]:
    """Return seconds, those of all cores, and peak memory of the features of 100,000 images."""
    network, x = sequential.build_network(DENSE), images(N_LARGE)
    params = network.init(jax.random.key(0), x[:1])
    before = _memory.resident()
    start, start_cpu = time.perf_counter(), time.process_time()
    sketches.ntk_features(network.apply, params, x, N_LARGE_FEATURES, key=jax.random.key(1))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "before": before,
        "peak": _memory.peak(),
    }


def print_large() -> bool:
    """Print time and memory of 100,000 images; return whether both are within their limits."""
    command = [sys.executable, "-m", "benchmarks.bench_features", "--worker"]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    passes = result["seconds"] <= MOST_SECONDS and result["peak"] <= MOST_BYTES
    gib = {name: result[name] / _memory.GIB for name in ("peak", "before")}
    print(
        f"MNIST dense, {N_LARGE} points, {N_LARGE_FEATURES} features: {result['seconds']:.1f} s "
        f"(limit {MOST_SECONDS:.0f}) and {result['cpu_seconds']:.1f} s of cores, "
        f"process at most {gib['peak']:.2f} GiB (limit {MOST_BYTES / _memory.GIB:.0f}), "
        f"{gib['before']:.2f} GiB before the call: "
        f"{'PASS' if passes else 'FAIL'}"
    )
    return passes


def main() -> None:
    """Print the tables of errors, then time and memory with their verdict."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().worker:
        print(json.dumps(measure()))
        return
    device = jax.devices()[0].device_kind
    print(f"{os.cpu_count()} cores, {platform.machine()}, JAX {jax.__version__} on {device}")
    print(f"errors in percent of the exact kernel, {N_POINTS} points, {N_KEYS} keys: mean ± spread")
    print(f"{'network':12}{'p':>6}{'entry':>19}{'entropy':>19}{'trace':>19}", flush=True)
    for name, case in CASES.items():
        print_errors(name, case)
    sys.exit(not print_large())


if __name__ == "__main__":
    main()
