"""Time random network distillation, each case in a fresh process, compilation included, beside its
limit.

    python benchmarks/bench_selection.py [fuel] [loop] [mnist] [1000-of-10000] [10000-of-60000]

fuel: Algorithm 1 of the paper, 100 points, 100 epochs a re-training, 20 members, Table 3's network.
loop: the same for one member by a plain Python loop, whose jitted step meets a new shape with every
point.
mnist: Algorithm 1, 60 of 10000 images, 100 epochs, Table 3's CNN, one member.
1000-of-10000, 10000-of-60000: the linearised predictor, on the embedded images of MNIST and on all
(data/README.md).
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

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from collective_variables.data import problems
from collective_variables.networks import sequential
from collective_variables.selection import rnd, rnd_linearised

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
    """All images of a problem, those set aside for tests included."""
    dataset = problems.load_problem(problem)
    return np.concatenate([dataset.inputs, dataset.test_inputs])


def fuel() -> list[int]:
    pool = problems.load_problem("fuel").inputs
    network = sequential.build_network(FUEL, parametrisation="ntk")
    return (
        rnd.select(pool, network, n_selected=100, n_members=20, key=jax.random.key(0))
        .indices[0]
        .tolist()
    )


def loop() -> list[int]:
    """Algorithm 1 as one would write it first; the member 0 of `fuel`."""
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
    network = sequential.build_network(CNN, parametrisation="ntk")
    return (
        rnd.select(images("mnist"), network, n_selected=60, key=jax.random.key(0))
        .indices[0]
        .tolist()
    )


def scaled(n_selected: int, problem: str) -> list[int]:
    return (
        rnd_linearised.select(images(problem), n_selected=n_selected, key=jax.random.key(0))
        .indices[0]
        .tolist()
    )


CASES = {
    "fuel": fuel,
    "loop": loop,
    "mnist": mnist,
    "1000-of-10000": lambda: scaled(1000, "mnist"),
    "10000-of-60000": lambda: scaled(10_000, "mnist-60000"),
}


def worker(name: str) -> dict:
    start = time.perf_counter()
    indices = CASES[name]()
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "indices": indices,
    }


def in_own_process(name: str) -> dict:
    command = [sys.executable, __file__, "--worker", name]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    if "--worker" in sys.argv:
        print(json.dumps(worker(sys.argv[-1])))
        return
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, JAX {jax.__version__} on {jax.devices()[0].device_kind}"
    )
    seconds = f"{'fastest':>10}{'median':>10}{'slowest':>10}{'limit':>8}   seconds"
    print(f"{'case':16}{'runs':>5}{seconds}{'GiB':>8}{'limit':>8}   same points")
    medians, first = {}, {}
    for name in sys.argv[1:] or CASES:
        found = [in_own_process(name) for _ in range(RUNS[name])]
        seconds, gib = [one["seconds"] for one in found], max(one["gib"] for one in found)
        medians[name], first[name] = statistics.median(seconds), found[0]["indices"]
        limits = ["–" if limit is None else f"{limit:.0f}" for limit in LIMITS[name]]
        times = "".join(f"{value:10.1f}" for value in (min(seconds), medians[name], max(seconds)))
        same = "yes" if all(one["indices"] == first[name] for one in found) else "no"
        row = f"{name:16}{len(found):5}{times}{limits[0]:>8}          {gib:8.2f}{limits[1]:>8}"
        print(f"{row}   {same if len(found) > 1 else ''}", flush=True)
    if {"fuel", "loop"} <= set(medians):
        ratio = medians["loop"] / (medians["fuel"] / 20)
        agree = next(
            (i for i, (a, b) in enumerate(zip(first["fuel"], first["loop"])) if a != b), 100
        )
        print(f"a member of fuel is {ratio:.0f} times as fast as the loop (at least {SPEED_UP})")
        print(f"their first {agree} points are the same")


if __name__ == "__main__":
    main()
