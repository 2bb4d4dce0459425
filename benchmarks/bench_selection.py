"""Time random network distillation (RND) and compare it with its limits.

    python -m benchmarks.bench_selection [fuel] [loop] [mnist] [1000-of-10000] [10000-of-60000]

Each case runs in a fresh process, compilation included.

fuel: Algorithm 1, 100 points, 100 epochs for each re-training, 20 members, network of Table 3.
loop: the same for one member by a plain Python loop, whose compiled step has a new shape for every
    point.
mnist: Algorithm 1, 60 of 10000 images, 100 epochs, CNN of Table 3, one member.
1000-of-10000, 10000-of-60000: the linearised predictor on the embedded images of MNIST, and on all
    60000 (data/README.md).
"""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from collective_variables.data import problems
from collective_variables.networks import sequential
from collective_variables.selection import rnd, rnd_linearised

ROOT = Path(__file__).resolve().parents[1]
FUEL = ["dense 32", "dense 32", "dense 32", "dense 1"]
CNN = ["conv 32 3x3", "avgpool 2x2", "conv 32 2x2", "avgpool 2x2", "dense 128", "dense 10"]
RUNS = {"fuel": 3, "loop": 1, "mnist": 3, "1000-of-10000": 1, "10000-of-60000": 1}
# Seconds, and GiB of the process.
LIMITS = {
    "fuel": (8.0, None),
    "loop": (None, None),
    "mnist": (60.0, None),
    "1000-of-10000": (120.0, None),
    "10000-of-60000": (900.0, 4.0),
}
SPEED_UP = 100  # of a member of `fuel` over `loop`


def images(problem: str) -> np.ndarray:
    """Return all images of a problem, including the test points."""
    dataset = problems.load_problem(problem)
    return np.concatenate([dataset.inputs, dataset.test_inputs])


def fuel() -> list[int]:
    """Select points of Fuel by Algorithm 1; return those of the first member."""
    pool = problems.load_problem("fuel").inputs
    network = sequential.build_network(FUEL, parametrisation="ntk")
    return (
        rnd.select(pool, network, n_selected=100, n_members=20, key=jax.random.key(0))
        .indices[0]
        .tolist()
    )


def loop() -> list[int]:
    """Select the points of the first member of `fuel` by a first version of Algorithm 1."""
    pool = jnp.asarray(problems.load_problem("fuel").inputs)
    network = sequential.build_network(FUEL, parametrisation="ntk")
    target, predictor = (
        network.init(key, pool[:1])
        for key in jax.random.split(jax.random.fold_in(jax.random.key(0), 0))
    )
    optimiser = optax.adam(0.01)
    state = optimiser.init(predictor)

    @jax.jit
    def distances(predictor: nn.FrozenDict) -> jax.Array:
        return jnp.mean((network.apply(predictor, pool) - network.apply(target, pool)) ** 2, axis=1)

    @jax.jit
    def step(predictor: nn.FrozenDict, state: optax.OptState, points: jax.Array) -> tuple:
        def loss(predictor: nn.FrozenDict) -> jax.Array:
            return jnp.mean((network.apply(predictor, points) - network.apply(target, points)) ** 2)

        updates, state = optimiser.update(jax.grad(loss)(predictor), state)
        return optax.apply_updates(predictor, updates), state

    chosen: list[int] = []
    while len(chosen) < 100:
        for _ in range(100 if chosen else 0):
            predictor, state = step(predictor, state, pool[np.array(chosen)])
        chosen.append(int(jnp.argmax(distances(predictor).at[np.array(chosen, int)].set(-jnp.inf))))
    return chosen


def mnist() -> list[int]:
    """Select images by Algorithm 1."""
    network = sequential.build_network(CNN, parametrisation="ntk")
    return (
        rnd.select(images("mnist"), network, n_selected=60, key=jax.random.key(0))
        .indices[0]
        .tolist()
    )


def linearised(n_selected: int, problem: str) -> list[int]:
    """Select images with the linearised predictor."""
    return (
        rnd_linearised.select(images(problem), n_selected=n_selected, key=jax.random.key(0))
        .indices[0]
        .tolist()
    )


CASES = {
    "fuel": fuel,
    "loop": loop,
    "mnist": mnist,
    "1000-of-10000": lambda: linearised(1000, "mnist"),
    "10000-of-60000": lambda: linearised(10_000, "mnist-60000"),
}


def worker(name: str) -> dict:
    """Return seconds, GiB and points of a case."""
    start = time.perf_counter()
    indices = CASES[name]()
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "indices": indices,
    }


def in_separate_process(name: str) -> dict:
    """Return the result of `worker` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.bench_selection", "--worker", name]
    process = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(process.stdout.splitlines()[-1])


def line(name: str, results: list[dict]) -> str:
    """Return a line of the table."""
    seconds = [result["seconds"] for result in results]
    times = (min(seconds), statistics.median(seconds), max(seconds))
    limits = ["–" if limit is None else f"{limit:.0f}" for limit in LIMITS[name]]
    gib = max(result["gib"] for result in results)
    same = all(result["indices"] == results[0]["indices"] for result in results)
    row = f"{name:16}{len(results):5}{''.join(f'{value:10.1f}' for value in times)}"
    row += f"{limits[0]:>8}          {gib:8.2f}{limits[1]:>8}"
    return f"{row}   {('yes' if same else 'no') if len(results) > 1 else ''}"


def main() -> None:
    """Time the named cases, or all, and print a line for each."""
    if "--worker" in sys.argv:
        print(json.dumps(worker(sys.argv[-1])))
        return
    device = jax.devices()[0].device_kind
    print(f"{os.cpu_count()} cores, {platform.machine()}, JAX {jax.__version__} on {device}")
    seconds = f"{'fastest':>10}{'median':>10}{'slowest':>10}{'limit':>8} seconds  "
    print(f"{'case':16}{'runs':>5}{seconds}{'GiB':>8}{'limit':>8}   same points")
    results = {}
    for name in sys.argv[1:] or CASES:
        results[name] = [in_separate_process(name) for _ in range(RUNS[name])]
        print(line(name, results[name]), flush=True)
    if {"fuel", "loop"} <= set(results):
        print(compare_with_loop(results["fuel"], results["loop"]))


def compare_with_loop(fuel: list[dict], loop: list[dict]) -> str:
    """Return the speed-up of a member of `fuel` over the loop, and where their points differ."""
    medians = [
        statistics.median(result["seconds"] for result in results) for results in (fuel, loop)
    ]
    ratio = medians[1] / (medians[0] / 20)
    pairs = zip(fuel[0]["indices"], loop[0]["indices"])
    agree = next((place for place, (a, b) in enumerate(pairs) if a != b), 100)
    return (
        f"a member of fuel is {ratio:.0f} times as fast as the loop (at least {SPEED_UP})\n"
        f"their first {agree} points are the same"
    )


if __name__ == "__main__":
    main()
