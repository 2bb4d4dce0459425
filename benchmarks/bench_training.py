"""Time the networks of Experiment 1 at the paper's numbers of runs, kernels and spectra included,
compilation included.

    python benchmarks/bench_training.py [fuel] [mnist] [conv] [plain] [--scale 1.0]

fuel: Table 2's dense network, 7075 runs of 5 to 256 points, 200 full-batch epochs.
mnist: Table 2's dense network, 5480 runs of 10 to 500 points, 100 full-batch epochs.
conv: Table 2's convolutional network, 60 of its 3082 runs, 10 to 200 points, 50 full-batch epochs.
plain: 40 of the runs of fuel, trained by a plain loop whose jitted steps of Flax and optax meet
every size anew.
scale: a fraction of the runs of each; the seconds printed are those of the runs that were made.

All in the standard initialisation of Flax ("lecun"), sizes log-uniform, losses evaluated every
second epoch. Each case runs in a fresh process. The rate is that of the operations of the products
alone, three forward passes for a point and epoch of training, one for a point that is evaluated
besides, padding not counted; beside it the fraction of the rate of a product of two 2048 x 2048
matrices on all cores.
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import jax
import jax.numpy as jnp
import numpy as np
import optax

from collective_variables.data import problems
from collective_variables.ensembles import seeding, subset_sizes
from collective_variables.networks import parameters, sequential
from collective_variables.observables import measurement
from collective_variables.selection import base
from collective_variables.training import ensemble_training, loop, schedules

SEED = 0


class Case(NamedTuple):
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


def runs_of(case: Case, n_pool: int, n_runs: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (n_runs, high) and sizes (n_runs, 1)."""
    sizes = {"low": case.low, "high": case.high, "distribution": "log-uniform"}
    n_points = subset_sizes.draw(sizes, n_members=n_runs, seed=SEED)
    key = seeding.key(SEED, "subsets")
    return base.random(n_pool, n_selected=case.high, key=key, n_members=n_runs).indices, n_points


def forward_operations(network: sequential.Network, params: dict, inputs: np.ndarray) -> float:
    """Additions and multiplications of the products of one forward pass of one point."""
    jaxpr = jax.make_jaxpr(network.apply)(params, inputs[:1])
    total = 0.0
    for equation in jax.tree.leaves(jaxpr.eqns, is_leaf=lambda of: hasattr(of, "primitive")):
        if equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
            total += 2.0 * math.prod(out) * math.prod(left[axis] for axis in contracted)
    return total


def ensemble(name: str, scale: float) -> dict:
    case = CASES[name]
    dataset, n_runs = problems.load_problem(case.problem), max(1, round(scale * case.n_runs))
    network = sequential.build_network(case.layers)
    indices, n_points = runs_of(case, len(dataset.inputs), n_runs)
    pool = loop.Points(dataset.inputs, dataset.targets)
    test = loop.Points(dataset.test_inputs, dataset.test_targets)
    start = time.perf_counter()
    ensembles_of_runs = [ensemble_training.runs(indices, n_points, seed=SEED)]
    (curves,) = ensemble_training.train_ensemble(
        network, pool, test, ensembles_of_runs, schedule=case.schedule, progress=name
    )
    trained = time.perf_counter()
    measurement.measure_ensemble(
        network,
        measurement.Pool(*pool),
        [indices],
        n_points,
        seed=SEED,
        progress=f"{name}: kernels",
    )
    end = time.perf_counter()
    forward = forward_operations(
        network, parameters.initialise(network, jax.random.key(0), dataset.inputs), dataset.inputs
    )
    # The loss of the subset comes with its gradient, but for the last one.
    n_evaluated = len(case.schedule.epochs) * n_runs * len(test.inputs) + n_points.sum()
    operations = forward * (3 * case.schedule.n_epochs * n_points.sum() + n_evaluated)
    return {
        "runs": n_runs,
        "train": trained - start,
        "kernels": end - trained,
        "rate": operations / (trained - start) / 1e9,
        "limit": case.limit if scale == 1.0 else None,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "loss": float(np.min(curves.test_loss)),
    }


def plain(_: str, scale: float) -> dict:
    """What one would write first: for each run a loop over epochs with jitted functions of exactly
    its points.
    """
    case, n_runs = CASES["fuel"], max(1, round(40 * scale))
    dataset, network = problems.load_problem(case.problem), sequential.build_network(case.layers)
    indices, n_points = runs_of(case, len(dataset.inputs), n_runs)
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
    """GFLOP/s of a large product in float32 on all cores, the best of some."""
    n = 2048
    a = jnp.asarray(np.random.default_rng(0).normal(size=(n, n)).astype(np.float32))
    product, seconds = jax.jit(jnp.matmul), []
    for _ in range(6):
        start = time.perf_counter()
        product(a, a).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds) / 1e9


def in_own_process(name: str, scale: float) -> dict:
    command = [sys.executable, __file__, "--worker", name, "--scale", str(scale)]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="case")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--worker", action="store_true")
    given = parser.parse_args()
    if given.worker:
        (name,) = given.names
        print(json.dumps((plain if name == "plain" else ensemble)(name, given.scale)))
        return
    peak, found = rate_of_products(), {}
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, JAX {jax.__version__} on {jax.devices()[0].device_kind}"
    )
    print(f"a product of 2048 x 2048 matrices: {peak:.0f} GFLOP/s")
    print(
        f"{'case':8}{'runs':>6}{'train, s':>10}{'kernels, s':>12}{'together':>10}{'limit':>7}{'GFLOP/s':>9}{'of it':>7}{'GiB':>6}"
    )
    for name in given.names or [*CASES, "plain"]:
        of = found[name] = in_own_process(name, given.scale)
        row = f"{name:8}{of['runs']:6}{of['train']:10.1f}"
        if name != "plain":
            limit = "–" if of["limit"] is None else f"{of['limit']:.0f}"
            together = of["train"] + of["kernels"]
            row += f"{of['kernels']:12.1f}{together:10.1f}{limit:>7}{of['rate']:9.0f}{of['rate'] / peak:7.0%}{of['gib']:6.1f}"
        print(row, flush=True)
    if {"fuel", "plain"} <= set(found):
        each = [found[name]["train"] / found[name]["runs"] for name in ("plain", "fuel")]
        print(
            f"a run of fuel: {each[0]:.2f} s by the plain loop, {each[1]:.4f} s here, a ratio of {each[0] / each[1]:.0f}"
        )


if __name__ == "__main__":
    main()
