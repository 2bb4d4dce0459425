"""Time the networks of Experiment 1 at the paper's numbers of runs, with kernels and spectra.

    python -m benchmarks.bench_training [fuel] [mnist] [conv] [plain] [--scale 1.0]

fuel: dense network of Table 2, 7075 runs of 5 to 256 points, 200 full-batch epochs.
mnist: dense network of Table 2, 5480 runs of 10 to 500 points, 100 full-batch epochs.
conv: convolutional network of Table 2, 60 of its 3082 runs, 10 to 200 points, 50 full-batch epochs.
plain: 40 of the runs of fuel, trained by a plain loop whose steps are compiled for every size.
scale: a fraction of the runs of each case; the seconds are those of the fraction.

All cases have the standard initialisation of Flax ("lecun"), log-uniform sizes, and losses
evaluated every second epoch. Each case runs in a fresh process, compilation included. The rate
counts the operations of matrix products without padding: three forward passes for a point and epoch
of training, and one for each further evaluation of a point. The next column is the fraction of the
rate of a product of two 2048 x 2048 matrices on all cores.
"""

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from collective_variables.data import problems
from collective_variables.ensembles import seeding, subset_sizes
from collective_variables.experiment import measure, train
from collective_variables.networks import parameters, sequential
from collective_variables.selection import base
from collective_variables.training import schedules

ROOT = Path(__file__).resolve().parents[1]
SEED = 0


class Case(NamedTuple):
    """Runs of one network, and a limit in seconds."""

    problem: str
    layers: list[str]
    n_runs: int
    low: int
    high: int
    schedule: schedules.Schedule
    limit: float | None = None


DENSE = ["dense 128", "dense 128"]
CONV = [
    "conv 32 2x2",
    "avgpool 4x4 stride 2",
    "conv 64 2x2",
    "avgpool 4x4 stride 2",
    "dense 128",
    "dense 10",
]
CASES = {
    "fuel": Case(
        "fuel",
        [*DENSE, "dense 1"],
        7075,
        5,
        256,
        schedules.Schedule(n_epochs=200, evaluate_every=2),
        240.0,
    ),
    "mnist": Case(
        "mnist",
        [*DENSE, "dense 10"],
        5480,
        10,
        500,
        schedules.Schedule(learning_rate=0.001, n_epochs=100, evaluate_every=2),
        2700.0,
    ),
    "conv": Case("mnist", CONV, 60, 10, 200, schedules.Schedule(n_epochs=50, evaluate_every=2)),
}


def draw_subsets(case: Case, n_pool: int, n_runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices (n_runs, high) and sizes (n_runs, 1)."""
    sizes = {"low": case.low, "high": case.high, "distribution": "log-uniform"}
    n_points = subset_sizes.draw(sizes, n_members=n_runs, seed=SEED)
    key = seeding.key(SEED, "subsets")
    return base.random(n_pool, n_selected=case.high, key=key, n_members=n_runs).indices, n_points


def forward_operations(network: sequential.Network, params: dict, inputs: np.ndarray) -> float:
    """Return the additions and multiplications of products in one point's forward pass."""
    jaxpr = jax.make_jaxpr(network.apply)(params, inputs[:1])
    total = 0.0
    for equation in jax.tree.leaves(jaxpr.eqns, is_leaf=lambda node: hasattr(node, "primitive")):
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2.0 * math.prod(out) * math.prod(left[axis] for axis in contracted)
    return total


def ensemble(name: str, scale: float) -> dict:
    """Train the runs of a case and measure their kernels; return seconds and rates."""
    case = CASES[name]
    dataset = problems.load_problem(case.problem)
    n_runs = max(1, round(scale * case.n_runs))
    network = sequential.build_network(case.layers)
    indices, n_points = draw_subsets(case, len(dataset.inputs), n_runs)
    networks, subsets = {"lecun": network}, {"random": indices}
    options = {"seed": SEED, "progress": name}
    start = time.perf_counter()
    trained = train.train_subsets(
        dataset, networks, subsets, n_points, schedule=case.schedule, **options
    )
    middle = time.perf_counter()
    measure.measure_subsets(dataset, networks, subsets, n_points, **options)
    end = time.perf_counter()
    return {
        "runs": n_runs,
        "train": middle - start,
        "kernels": end - middle,
        "rate": operations(case, dataset, network, n_points) / (middle - start) / 1e9,
        "limit": case.limit if scale == 1.0 else None,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "loss": float(np.min(trained["lecun/random"].curves.test_loss)),
    }


def operations(
    case: Case, dataset: problems.Dataset, network: sequential.Network, n_points: np.ndarray
) -> float:
    """Return the number of operations in the training of a case."""
    params = parameters.initialise(network, jax.random.key(0), dataset.inputs)
    forward = forward_operations(network, params, dataset.inputs)
    # The loss of the subset comes with its gradient, except for the last loss.
    n_tests = len(case.schedule.epochs) * len(n_points) * len(dataset.test_inputs)
    n_evaluated = n_tests + n_points.sum()
    return forward * (3 * case.schedule.n_epochs * n_points.sum() + n_evaluated)


def plain(_: str, scale: float) -> dict:
    """Train some runs by a first version: a loop over epochs, compiled for each size."""
    case = CASES["fuel"]
    n_runs = max(1, round(40 * scale))
    dataset = problems.load_problem(case.problem)
    network = sequential.build_network(case.layers)
    indices, n_points = draw_subsets(case, len(dataset.inputs), n_runs)
    optimiser = optax.adam(case.schedule.learning_rate)

    def loss(params: dict, inputs: jax.Array, targets: jax.Array) -> jax.Array:
        return jnp.mean((network.apply(params, inputs) - targets) ** 2)

    @jax.jit
    def step(params: dict, state: optax.OptState, inputs: jax.Array, targets: jax.Array) -> tuple:
        updates, state = optimiser.update(jax.grad(loss)(params, inputs, targets), state)
        return optax.apply_updates(params, updates), state

    evaluate, smallest, start = jax.jit(loss), np.inf, time.perf_counter()
    for run in range(n_runs):
        rows = indices[run, : n_points[run, 0]]
        inputs, targets = jnp.asarray(dataset.inputs[rows]), jnp.asarray(dataset.targets[rows])
        params = network.init(
            jax.random.fold_in(seeding.key(SEED, "initialisation"), run), inputs[:1]
        )
        state = optimiser.init(params)
        for epoch in range(case.schedule.n_epochs + 1):
            if epoch % case.schedule.evaluate_every == 0:
                evaluate(params, inputs, targets)
                smallest = min(
                    smallest, float(evaluate(params, dataset.test_inputs, dataset.test_targets))
                )
            params, state = step(params, state, inputs, targets)
    return {"runs": n_runs, "train": time.perf_counter() - start, "loss": smallest}


def rate_of_products() -> float:
    """Return the GFLOP/s of a large product in float32 on all cores, the best of six."""
    n = 2048
    a = jnp.asarray(np.random.default_rng(0).normal(size=(n, n)).astype(np.float32))
    product, seconds = jax.jit(jnp.matmul), []
    for _ in range(6):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds) / 1e9


def in_separate_process(name: str, scale: float) -> dict:
    """Return the result of a case in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.bench_training"]
    command += ["--worker", name, "--scale", str(scale)]
    process = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def line(name: str, result: dict, peak: float) -> str:
    """Return a line of the table."""
    row = f"{name:8}{result['runs']:6}{result['train']:10.1f}"
    if name == "plain":
        return row
    limit = "–" if result["limit"] is None else f"{result['limit']:.0f}"
    together = result["train"] + result["kernels"]
    rate = f"{result['rate']:9.0f}{result['rate'] / peak:7.0%}"
    return f"{row}{result['kernels']:12.1f}{together:10.1f}{limit:>7}{rate}{result['gib']:6.1f}"


def main() -> None:
    """Time the named cases, or all, and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="case")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        (name,) = arguments.names
        print(json.dumps((plain if name == "plain" else ensemble)(name, arguments.scale)))
        return
    peak, results = rate_of_products(), {}
    device = jax.devices()[0].device_kind
    print(f"{os.cpu_count()} cores, {platform.machine()}, JAX {jax.__version__} on {device}")
    print(f"a product of 2048 x 2048 matrices: {peak:.0f} GFLOP/s")
    columns = f"{'kernels, s':>12}{'together':>10}{'limit':>7}{'GFLOP/s':>9}{'of it':>7}{'GiB':>6}"
    print(f"{'case':8}{'runs':>6}{'train, s':>10}{columns}")
    for name in arguments.names or [*CASES, "plain"]:
        results[name] = in_separate_process(name, arguments.scale)
        print(line(name, results[name], peak), flush=True)
    if {"fuel", "plain"} <= set(results):
        loop, ours = (results[name]["train"] / results[name]["runs"] for name in ("plain", "fuel"))
        print(
            f"a run of fuel: {loop:.2f} s by the plain loop, {ours:.4f} s here, "
            f"a ratio of {loop / ours:.0f}"
        )


if __name__ == "__main__":
    main()
