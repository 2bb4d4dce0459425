"""Compare the empirical NTK with the methods of neural-tangents: time, memory and error.

    python -m benchmarks.bench_kernel [case ...]

Each case and method runs in a separate process. The networks are written with Flax's layers. The
columns are milliseconds (median and range of the calls after the first, which compiles), the ratio
to ours, peak memory and error. The memory is that of a call above that of the process before it.
The error is the largest one of a kernel of the first points, relative to its largest entry, in a
comparison with explicit Jacobians in float64.

Every call is one of a function under `jax.jit`, and of `jax.vmap` for several members. Outside
them, our method also checks its arguments and plans its tiles. Only our method runs the large
cases: all eigenvalues of 10000 images, and entropy and trace of 60000 without their kernel.
"""

import argparse
import ctypes
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from collective_variables.data import problems
from collective_variables.kernels import empirical, products, reference
from collective_variables.observables import lanczos, spectrum

ROOT = Path(__file__).resolve().parents[1]

GIB = 2**30
OURS, UNCOMPILED = "ours", "ours, outside jit"
METHODS = (OURS, UNCOMPILED, "jacobian contraction", "ntk-vector products")
N_COMPARED = 20
CALLED_SECONDS = 5.0  # a method is called again until it has taken this long, three times at least


class Dense(nn.Module):
    """Dense layers of the given widths, ReLU between them, on flattened points."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the outputs of the points."""
        x = x.reshape(len(x), -1)
        for width in self.widths[:-1]:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.widths[-1])(x)


class Convolutional(nn.Module):
    """Two convolutions, each with ReLU and average pooling, then two dense layers."""

    widths: tuple[int, int]
    windows: tuple[int, int]
    pooling: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the outputs of the points."""
        for width, window in zip(self.widths, self.windows):
            x = nn.relu(nn.Conv(width, (window, window))(x))
            x = nn.avg_pool(x, (self.pooling, self.pooling), (2, 2))
        return Dense((128, 10))(x)


class Transformer(nn.Module):
    """Two blocks of attention and a dense layer, each after layer normalisation, on tokens."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the outputs of the points."""
        x = nn.Embed(64, 64)(x) + self.param("position", nn.initializers.normal(), (1, 32, 64))
        for _ in range(2):
            y = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(num_heads=4)(y, y)
            x = x + nn.Dense(64)(nn.gelu(nn.Dense(256)(nn.LayerNorm()(x))))
        return nn.Dense(10)(nn.LayerNorm()(x).mean(axis=1))


class Case(NamedTuple):
    """A network with its points, and the number of members of one call."""

    module: nn.Module
    points: jax.Array
    n_members: int = 1


def mnist(n_points: int) -> jax.Array:
    """Return images of the pool; beyond its 9500 they repeat, moved by a pixel or two."""
    images = problems.load_problem("mnist").inputs
    moves = [(0, 0), (0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (-1, -1)]
    return jnp.asarray(
        np.concatenate([np.roll(images, move, axis=(1, 2)) for move in moves])[:n_points]
    )


DENSE = Dense((128, 128, 10))
FUEL = Dense((32, 32, 32, 1))
CASES: dict[str, Callable[[], Case]] = {
    "MNIST dense, 200": lambda: Case(DENSE, mnist(200)),
    "MNIST conv (Table 2), 100": lambda: Case(Convolutional((32, 64), (2, 2), 4), mnist(100)),
    "MNIST CNN (Table 3), 100": lambda: Case(Convolutional((32, 32), (3, 2), 2), mnist(100)),
    "Fuel (Table 3), 272": lambda: Case(FUEL, jnp.asarray(problems.load_problem("fuel").inputs)),
    "Fuel, 20 members": lambda: Case(FUEL, jnp.asarray(problems.load_problem("fuel").inputs), 20),
    "transformer, 64 of 32 tokens": lambda: Case(
        Transformer(), jax.random.randint(jax.random.key(1), (64, 32), 0, 64)
    ),
}


def parameters(case: Case) -> Any:
    """Draw the parameters of all members."""

    def initialise(key: jax.Array) -> Any:
        return case.module.init(key, case.points[:1])

    keys = jax.random.split(jax.random.key(0), case.n_members)
    return (
        jax.jit(initialise)(keys[0]) if case.n_members == 1 else jax.jit(jax.vmap(initialise))(keys)
    )


def kernel_function(case: Case, method: str) -> Callable[[Any, jax.Array], jax.Array]:
    """Return the function of a method that is timed."""
    one = partial(empirical.empirical_ntk, case.module.apply)
    if method not in (OURS, UNCOMPILED):
        one = partial(reference.reference_ntk, case.module.apply, method=method)
    if case.n_members > 1:
        one = jax.vmap(one, in_axes=(0, None))
    return one if method == UNCOMPILED else jax.jit(one)


def peak_of_call(function: Callable[[], object]) -> float:
    """Return the peak memory of a call in GiB, above that of the process before it."""
    ctypes.CDLL(None).malloc_trim(0)  # returns what earlier calls have freed
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = memory("VmRSS")
    function()
    return memory("VmHWM") - before


def memory(kind: str = "VmHWM") -> float:
    """Return the memory of this process in GiB, now (VmRSS) or at its peak (VmHWM)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[kind].split()[0]) * 1024 / GIB


def error(case: Case, method: str, params: Any) -> float:
    """Return the largest error of the kernel of the first points, relative to its largest entry."""
    first = jax.tree.map(lambda leaf: leaf[0], params) if case.n_members > 1 else params
    alone = case._replace(points=case.points[:N_COMPARED], n_members=1)
    kernel = np.asarray(kernel_function(alone, method)(first, alone.points), float)
    exact = exact_kernel(case.module, first, np.asarray(alone.points))
    return float(np.abs(kernel - exact).max() / exact.max())


def exact_kernel(module: nn.Module, params: Any, points: np.ndarray) -> np.ndarray:
    """Return the kernel of explicit Jacobians in float64."""
    with jax.enable_x64(True):
        wide = points if np.issubdtype(points.dtype, np.integer) else points.astype(float)
        params = jax.tree.map(lambda leaf: np.asarray(leaf, float), params)
        jacobian = jax.jacobian(module.apply)(params, wide)
        leaves = [
            np.asarray(leaf).reshape(N_COMPARED, -1, leaf[0, 0].size)
            for leaf in jax.tree.leaves(jacobian)
        ]
    products = (np.einsum("ick,jck->ij", leaf, leaf, optimize=True) for leaf in leaves)
    return sum(products) / leaves[0].shape[1]


def compare(name: str, method: str) -> dict:
    """Return seconds, memory and error of a method."""
    case = CASES[name]()
    params = jax.block_until_ready(parameters(case))
    function = kernel_function(case, method)

    def call() -> None:
        jax.block_until_ready(function(params, case.points))

    call()
    seconds, end = [], time.perf_counter() + CALLED_SECONDS
    while len(seconds) < 3 or (time.perf_counter() < end and len(seconds) < 200):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "peak": peak_of_call(call), "error": error(case, method, params)}


def within_memory(name: str, method: str) -> dict | None:
    """Return the result of `compare`, or None if the machine has too little memory for it."""
    try:
        return compare(name, method)
    except jax.errors.JaxRuntimeError as error:
        if "Out of memory" not in str(error):
            raise
        return None


def measure_10000() -> str:
    """Describe all eigenvalues of 10000 images."""
    x = mnist(10000)
    start = time.perf_counter()
    params = DENSE.init(jax.random.key(0), x[:1])
    kernel = jax.block_until_ready(empirical.empirical_ntk(DENSE.apply, params, x))
    middle = time.perf_counter()
    values = spectrum.eigenvalues(kernel)
    seconds = time.perf_counter() - start
    return (
        f"{seconds:.0f} s (kernel {middle - start:.0f} s), process at most {memory():.2f} GiB, "
        f"S = {spectrum.entropy(values):.4f}, Tr = {spectrum.trace(values):.4g}"
    )


def measure_60000() -> str:
    """Describe entropy and trace of 60000 images, without their kernel."""
    x = mnist(60000)
    start = time.perf_counter()
    kernel = products.kernel_product(DENSE.apply, DENSE.init(jax.random.key(0), x[:1]), x)
    estimate = lanczos.estimate_entropy(
        kernel.product,
        len(x),
        key=jax.random.key(1),
        diagonal=kernel.diagonal,
        n_leading=8,
        n_probes=6,
        n_steps=26,
    )
    relative = 100 * estimate.entropy_standard_error / estimate.entropy
    return (
        f"{time.perf_counter() - start:.0f} s, process at most {memory():.2f} GiB, "
        f"S = {estimate.entropy:.4f} ± {estimate.entropy_standard_error:.4f} ({relative:.2f} %, "
        f"quadrature at most {estimate.entropy_quadrature_error:.4f}), Tr = {estimate.trace:.4g}, "
        f"{estimate.n_products} products"
    )


LARGE = {
    "MNIST dense, 10000: all eigenvalues": measure_10000,
    "MNIST dense, 60000: no kernel": measure_60000,
}


def in_separate_process(name: str, method: str) -> Any:
    """Return the result of `compare` or of a large case; None if it took too much memory."""
    # The system may kill a process that takes too much memory.
    command = [sys.executable, "-m", "benchmarks.bench_kernel", name, "--worker", method]
    process = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    if process.returncode == -signal.SIGKILL:
        return None
    if process.returncode:
        raise SystemExit(f"{name} by {method} ended with {process.returncode}.")
    return json.loads(process.stdout.splitlines()[-1])


def print_case(name: str) -> None:
    """Print a line for each method."""
    ours = None
    for method in METHODS:
        result = in_separate_process(name, method)
        if result is None:
            print(f"{name:30}{method:22}takes more memory than there is", flush=True)
            continue
        times = [1000 * seconds for seconds in result["seconds"]]
        median = statistics.median(times)
        ours = ours or median
        spread = f"{min(times):.4g} to {max(times):.4g}"
        row = f"{name:30}{method:22}{median:10.4g}{spread:>24}{median / ours:8.1f}"
        print(f"{row}{result['peak']:10.2f}{result['error']:10.1e}", flush=True)


def main() -> None:
    """Compare the named cases, or all, and print a table for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="case")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        (name,) = arguments.cases
        print(json.dumps(LARGE[name]() if name in LARGE else within_memory(name, arguments.worker)))
        return
    device = jax.devices()[0].device_kind
    print(f"{os.cpu_count()} cores, {platform.machine()}, JAX {jax.__version__} on {device}")
    columns = f"{'ms':>10}{'range':>24}{'x ours':>8}{'peak GiB':>10}{'error':>10}"
    print(f"{'case':30}{'method':22}{columns}")
    for name in arguments.cases or [*CASES, *LARGE]:
        if name in LARGE:
            print(f"{name}: {in_separate_process(name, OURS)}", flush=True)
        else:
            print_case(name)


if __name__ == "__main__":
    main()
