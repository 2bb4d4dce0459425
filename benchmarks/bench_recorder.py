"""Time what a recorder adds to a training.

    python -m benchmarks.bench_recorder

The network of MNIST in Table 2 of Tovey et al. 2023 (dense, 128 and 128) is trained for 2000 steps
of Adam on random batches of 128 images, in a loop as people write it. Trainings with and without
`cv.Recorder` at its defaults alternate. The first line includes compilation; the others are repeats
in the same process.
"""

import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from collective_variables.data import problems
from collective_variables.networks import sequential
from collective_variables.training.any_loop import recorder as recorders

N_STEPS, BATCH_SIZE, N_REPEATS = 2000, 128, 7
BAR = 0.05
LAYERS = ("dense 128", "dense 128", "dense 10")


Train = Callable[[recorders.Recorder | None], None]


def make_training() -> tuple[Train, Callable[[], recorders.Recorder]]:
    """Return a training, which compiles anew, and a function that makes recorders for it."""
    data = problems.load_problem("mnist")
    network = sequential.build_network(LAYERS)
    start = network.init(jax.random.key(0), data.inputs[:1])
    optimiser = optax.adam(1e-3)

    def loss(params: PyTree[Array], inputs: Array, targets: Array) -> Array:
        return jnp.mean(optax.softmax_cross_entropy(network.apply(params, inputs), targets))

    @jax.jit
    def update(params: PyTree[Array], state: PyTree[Array], inputs: Array, targets: Array) -> tuple:
        updates, state = optimiser.update(jax.grad(loss)(params, inputs, targets), state)
        return optax.apply_updates(params, updates), state

    def train(recorder: recorders.Recorder | None) -> None:
        params, state = start, optimiser.init(start)
        generator = np.random.default_rng(0)
        for step in range(N_STEPS):
            if recorder is not None:
                recorder(step, params)
            rows = generator.integers(len(data.inputs), size=BATCH_SIZE)
            params, state = update(params, state, data.inputs[rows], data.targets[rows])
        jax.block_until_ready(params)

    def make() -> recorders.Recorder:
        return recorders.Recorder(network.apply, data.inputs, data.targets, loss="cross-entropy")

    return train, make


def seconds(train: Train, recorder: recorders.Recorder | None) -> float:
    """Return the seconds of a training."""
    start = time.perf_counter()
    train(recorder)
    return time.perf_counter() - start


def main() -> None:
    """Print the seconds of all trainings, and the ratio of the repeats."""
    print("training       alone, s  recorded, s  ratio")
    ratios = []
    train, make_recorder = make_training()
    for number in range(1 + N_REPEATS):
        recorder = make_recorder()
        alone, recorded = seconds(train, None), seconds(train, recorder)
        name = "first" if number == 0 else f"repeat {number}"
        print(f"{name:13s} {alone:9.2f} {recorded:12.2f} {recorded / alone:6.3f}", flush=True)
        ratios.append(recorded / alone)
    added = float(np.median(ratios[1:])) - 1.0
    verdict = "PASS" if added <= BAR else "FAIL"
    print(
        f"{verdict}: {len(recorder.table())} records add {100 * added:.1f} % to {N_STEPS} steps "
        f"once compiled; at most {100 * BAR:g} % are wanted."
    )


if __name__ == "__main__":
    main()
